"""What the raw logs themselves say, read without audito: was the scenario really recorded?

A test that fails should tell at once whether the host did not record something or audito did not
report it. Plain and slow on purpose; it knows only the few records that it asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .scenario import Command, Login, Truth

RECORD = re.compile(r"type=(\S+) msg=audit\((\d+\.\d+):(\d+)\): ?(.*)")
FIELD = re.compile(r"""([a-z0-9_-]+)=("[^"]*"|'[^']*'|\S*)""")
SYSCALL_EXECVE = "59"


@dataclass
class Execve:
    """One execve that the kernel recorded; `exe` is what was executed, or was to be."""

    session: str
    serial: int
    succeeded: bool
    exe: str
    argv: tuple[str, ...]


@dataclass
class Evidence:
    """What was executed; which process opened each session; the sessions of each login's source port."""

    executions: list[Execve] = field(default_factory=list)
    login_pid: dict[str, str] = field(default_factory=dict)
    sessions: dict[int, set[str]] = field(default_factory=dict)


def unquote(value: str) -> str:
    """Return the text of a field that the kernel quoted, or wrote in hex because it could not."""
    if value.startswith('"'):
        return value[1:-1]
    try:
        return bytes.fromhex(value).decode(errors="backslashreplace")
    except ValueError:
        return value


def read_audit(lines: Iterable[str]) -> Evidence:
    """Read the execve events and session openings out of auditd's lines."""
    events: dict[tuple[str, str], dict[str, list[dict[str, str]]]] = {}
    for line in lines:
        # After the 0x1D auditd repeats numbers as names, for readers of the ENRICHED format.
        found = RECORD.match(line.partition("\x1d")[0])
        if found:
            records = events.setdefault((found[2], found[3]), {})
            records.setdefault(found[1], []).append(dict(FIELD.findall(found[4])))
    evidence = Evidence()
    for (_, serial), records in events.items():
        for login in records.get("LOGIN", ()):
            evidence.login_pid[login["ses"]] = login["pid"]
        for syscall in records.get("SYSCALL", ()):
            if syscall["syscall"] == SYSCALL_EXECVE:
                evidence.executions.append(execve(int(serial), syscall, records))
    return evidence


def execve(serial: int, syscall: dict[str, str], records: dict[str, list[dict[str, str]]]) -> Execve:
    """Put one execve together from the records of its event."""
    succeeded = syscall["success"] == "yes"
    arguments = {k: v for r in records.get("EXECVE", ()) for k, v in r.items() if k != "argc"}
    argv = tuple(unquote(arguments[f"a{i}"]) for i in range(len(arguments)))
    # The SYSCALL of an execve that failed names the program that tried, not the one it wanted.
    exe = syscall["exe"] if succeeded else records["PATH"][0]["name"]
    return Execve(syscall["ses"], serial, succeeded, unquote(exe), argv)


def read(audit_logs: Iterable[Path], sshd_log: Path) -> Evidence:
    """Read all evidence there is; `sshd_log` is in rsyslog's form."""
    lines = [line for log in audit_logs for line in log.read_text(errors="replace").splitlines()]
    evidence = read_audit(lines)
    accepted = re.compile(r"sshd(?:-session)?\[(\d+)\]: Accepted .* port (\d+) ssh2")
    pids = {int(m[2]): m[1] for line in sshd_log.read_text().splitlines() if (m := accepted.search(line))}
    for port, pid in pids.items():
        evidence.sessions[port] = {ses for ses, opener in evidence.login_pid.items() if opener == pid}
    return evidence


def serials(evidence: Evidence, login: Login, command: Command) -> set[int]:
    """Return the kernel's serials of the events in which that login's session executed the command."""
    sessions = evidence.sessions.get(login.source_port, set())
    return {e.serial for e in evidence.executions if e.session in sessions and is_it(e, command)}


def missing(truth: Truth, evidence: Evidence) -> list[str]:
    """Return in words what of the truth the logs do not show exactly once; empty when all is well."""
    complaints = []
    for login in truth.logins:
        sessions = evidence.sessions.get(login.source_port, set())
        if len(sessions) != int(login.succeeded):
            complaints.append(f"{login.how} login of {login.account}: sessions {sessions or 'none'}")
        for command in login.commands:
            count = len(serials(evidence, login, command))
            if count != 1:
                complaints.append(f"{login.user_id} {command}: recorded {count} times")
    return complaints + [
        f"outside of sessions {command}: not recorded"
        for command in truth.elsewhere
        if not any(is_it(e, command) for e in evidence.executions)
    ]


def is_it(execution: Execve, command: Command) -> bool:
    """Tell whether a recorded execve is this command."""
    return (execution.succeeded, execution.exe, execution.argv) == (
        command.succeeded,
        command.exe,
        command.argv,
    )
