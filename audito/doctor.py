"""``audito doctor``: looks at a host, says what is missing for audito's work, and names the commands that mend it.

A check is a small function of :data:`CHECKS` that yields findings. It sees the host through :class:`Host` (files
below a root, commands) and never changes it; what it names as a mend has been tried, in tests/e2e/test_doctor.py.
rich is imported here and nowhere else, and only for a terminal.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec
from msgspec import Struct

from audito import __version__, auditctl, privileges
from audito.config import JOURNAL_PATTERNS, STANDARD_STREAM, DoctorConfig, audit_source, read_id, sshd_source
from audito.errors import AuditoError, SinkError, SourceError
from audito.sinks.file import MODE as OUTPUT_MODE
from audito.sinks.paths import check_parents, kind_of, trusted_uids
from audito.sources.directory import log_files
from audito.sources.journal import JournalSource
from audito.tables import audit_rules
from audito.tables import host as facts
from audito.tables.programs import TAGS
from audito.text import printable

COMMAND_S_MAX = 20.0
"""A program that says nothing for this long is not waited for."""

TAIL_BYTES = 1 << 20
"""Of a syslog file: where sshd's lines are looked for."""

PAM_DEPTH_MAX = 16
"""As libpam: files that include each other."""

STA_UNSYNC = 0x0040
"""The kernel's own word that nobody keeps its clock. Source: adjtimex(2)."""

State = Literal["ok", "warning", "missing"]
STATES: tuple[State, ...] = ("ok", "warning", "missing")


class Finding(Struct, frozen=True):
    """One line of the report. ``mend``: commands for a root shell, in their order; they belong together."""

    check: str
    state: State
    text: str
    mend: tuple[str, ...] = ()


class Report(Struct, frozen=True):
    """All findings. ``ok``: nothing is missing."""

    ok: bool
    version: str
    findings: tuple[Finding, ...]


Findings = Iterator[Finding]


# -- the host


class Ran(Struct, frozen=True):
    """What a command printed. ``code`` 127: there is no such program; 124: it did not end in time."""

    code: int
    out: str
    err: str


def run_command(command: tuple[str, ...]) -> Ran:
    """Run a program of the system to its end, without input. Errors: none, they are in the code."""
    environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=COMMAND_S_MAX,
            env=environ,
        )
    except subprocess.TimeoutExpired:
        return Ran(124, "", f"{command[0]} did not end within {COMMAND_S_MAX:.0f} s")
    except OSError as exc:
        return Ran(127, "", f"{command[0]}: {exc.strerror}")
    return Ran(done.returncode, done.stdout, done.stderr)


def clock_is_kept() -> bool:
    """Whether somebody keeps the kernel's clock right. Source: adjtimex(2); timedatectl asks the same."""
    timex = ctypes.create_string_buffer(512)  # struct timex is 208 bytes; all zeros is a question
    ctypes.CDLL(None).adjtimex(timex)
    status_at = 5 * ctypes.sizeof(ctypes.c_long)  # behind modes, offset, freq, maxerror, esterror
    return not int.from_bytes(timex.raw[status_at : status_at + 4], sys.byteorder) & STA_UNSYNC


class Host:
    """A host to look at: files below ``root``, and commands. A command is run once, however often it is asked for.

    ``is_root``: whether what cannot be read or asked is so for want of privilege; ``program``: how a root shell
    starts this program.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        run: Callable[[tuple[str, ...]], Ran] = run_command,
        clock: Callable[[], bool] = clock_is_kept,
        *,
        is_root: bool | None = None,
        program: str = "audito",
    ) -> None:
        self.root = root
        self.program = program
        self.clock = clock
        self.is_root = os.geteuid() == 0 if is_root is None else is_root
        self._run = run
        self._ran: dict[tuple[str, ...], Ran] = {}

    def path(self, name: str) -> Path:
        """Where a file of the host is."""
        return self.root / name.lstrip("/")

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    def text(self, name: str) -> str | None:
        """A file's text, None where it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def number(self, name: str) -> int | None:
        """The number that a file of /proc holds."""
        text = (self.text(name) or "").strip()
        return int(text) if text.isdecimal() else None

    def names(self, pattern: str) -> list[str]:
        """The host's paths that match, in order."""
        found = (path.relative_to(self.root) for path in self.root.glob(pattern.lstrip("/")))
        return sorted(f"/{path}" for path in found)

    def real(self, name: str) -> str:
        """The host's path without links in it."""
        below = os.path.relpath(os.path.realpath(self.path(name)), os.path.realpath(self.root))
        return "/" if below == "." else f"/{below}"

    def ran(self, *command: str) -> Ran:
        if command not in self._ran:
            self._ran[command] = self._run(command)
        return self._ran[command]

    def ours(self, *words: str) -> str:
        """A command line of this program."""
        return f"{self.program} {shlex.join(words)}"

    @property
    def has_systemd(self) -> bool:
        """Source: sd_booted(3)."""
        return self.path("/run/systemd/system").is_dir()

    def unit(self, *names: str) -> str:
        """The first of these services that there is a unit of, "" for none."""
        for name in names:
            if any(self.has(f"{directory}/{name}.service") for directory in facts.UNIT_DIRECTORIES):
                return name
        return ""

    def install(self, package: str) -> tuple[str, ...]:
        """The command that installs what we call ``package``."""
        manager = next((row for row in facts.MANAGERS if self.has(row.program)), None)
        return (f"{manager.install} {manager.packages.get(package, package)}",) if manager else ()

    def start(self, service: str, program: str) -> str:
        """The command that starts a daemon, for good where systemd runs."""
        if self.has_systemd:
            return f"systemctl enable --now {service}"
        return f"service {service} start" if self.has(f"/etc/init.d/{service}") else program


def write_file(path: str, *lines: str) -> str:
    """The command that makes a file of these lines, and its directory."""
    words = " ".join(shlex.quote(line) for line in lines)
    return f"mkdir -p {shlex.quote(os.path.dirname(path))} && printf '%s\\n' {words} > {shlex.quote(path)}"


# -- the kernel and auditd


def audit_status(host: Host) -> dict[str, int]:
    """What ``auditctl -s`` says, {} where it says nothing."""
    ran = host.ran("auditctl", "-s")
    return auditctl.parse_status(ran.out) if ran.code == 0 else {}


def audit_rules_of(host: Host) -> list[auditctl.Rule]:
    return auditctl.parse_rules(host.ran("auditctl", "-l").out)


def load_rules(host: Host) -> str:
    """The command that loads what is in the rules directory."""
    load = "augenrules --load" if host.has("/usr/sbin/augenrules") or host.has("/sbin/augenrules") else ""
    if audit_status(host).get("enabled") == 2:
        return "reboot"  # locked: augenrules runs when auditd starts
    return load or f"auditctl -R {audit_rules.RULES_FILE}"


def check_auditing(host: Host, config: DoctorConfig) -> Findings:
    """Whether the kernel writes records at all."""
    del config
    name = "auditing"
    ran = host.ran("auditctl", "-s")
    if ran.code == 127:
        yield Finding(name, "missing", "auditctl is not installed", host.install("auditd"))
    elif not audit_status(host):
        told = (ran.err or ran.out).strip().splitlines()
        yield _unanswered(host, name, told[-1] if told else f"auditctl -s: exit code {ran.code}")
    elif audit_status(host).get("enabled") == 0:
        mend = ("auditctl -e 1",) if audit_status(host).get("pid") else (host.start("auditd", "auditd"),)
        yield Finding(name, "missing", "the kernel writes no audit records (enabled 0)", mend)
    else:
        is_locked = audit_status(host).get("enabled") == 2
        text = "the kernel writes audit records"
        yield Finding(name, "ok", text + (", its rules are locked until the next boot" if is_locked else ""))


def _unanswered(host: Host, name: str, told: str) -> Finding:
    """The kernel does not answer auditctl: why."""
    if not host.is_root:
        return Finding(name, "warning", f"only root can ask: {told}", (f"sudo {host.ours('doctor')}",))
    if not host.has("/proc/self/loginuid"):
        return Finding(name, "missing", "this kernel knows no auditing (CONFIG_AUDIT)")
    if re.search(r"\baudit=(0|off)\b", host.text("/proc/cmdline") or ""):
        grub = r"sed -i -E 's/\baudit=(0|off)\b/audit=1/' /etc/default/grub"
        update = "update-grub" if host.has("/usr/sbin/update-grub") else "grub2-mkconfig -o /boot/grub2/grub.cfg"
        return Finding(name, "missing", "auditing is off from boot on (audit=0)", (f"{grub} && {update}", "reboot"))
    return Finding(name, "missing", f"the kernel does not answer auditctl: {told}")


def check_auditd(host: Host, config: DoctorConfig) -> Findings:
    """Whether somebody takes the records, and writes them where we read."""
    name = "auditd"
    status = audit_status(host)
    if not status:
        return
    pid = status.get("pid", 0)
    program = (host.text(f"/proc/{pid}/comm") or "").strip()
    if not pid:
        has_auditd = host.has("/usr/sbin/auditd") or host.has("/sbin/auditd")
        mend = (*(() if has_auditd else host.install("auditd")), host.start("auditd", "auditd"))
        yield Finding(name, "missing", "nobody takes the kernel's records", mend)
    elif program not in ("", "auditd"):
        text = f"{program} (pid {pid}) takes the records, not auditd: does it write a log as auditd's?"
        yield Finding(name, "warning", text)
    else:
        yield Finding(name, "ok", f"runs (pid {pid})")
    conf_path, conf = _auditd_conf(host, pid)
    if conf.get("write_logs", "yes") == "no":
        edit = f"sed -i -E 's/^ *write_logs *=.*/write_logs = yes/' {shlex.quote(conf_path)}"
        yield Finding(name, "missing", "it writes no log (write_logs = no)", (edit, "pkill -HUP -x auditd"))
    log = conf.get("log_file", "")
    source = audit_source(config.inputs)
    if log and source.kind == "directory" and host.real(os.path.dirname(log)) != host.real(source.path):
        flag = host.ours("run", "--audit-dir-path", os.path.dirname(log))
        yield Finding(name, "warning", f"it writes {log}, and audito is to read {source.path}", (flag,))


def _auditd_conf(host: Host, pid: int) -> tuple[str, dict[str, str]]:
    """The file of auditd's settings, and what stands in it; a running one may have been given another directory."""
    words = (host.text(f"/proc/{pid}/cmdline") or "").split("\0")
    directory = next((value for flag, value in pairwise(words) if flag == "-c"), "/etc/audit")
    path = f"{directory}/auditd.conf"
    lines = [line for line in (host.text(path) or "").splitlines() if not line.lstrip().startswith("#")]
    pairs = (line.partition("=") for line in lines if "=" in line)
    return path, {name.strip().lower(): value.strip() for name, _, value in pairs}


def check_audit_log(host: Host, config: DoctorConfig) -> Findings:
    """Whether the audit records can be read."""
    name = "audit records"
    source = audit_source(config.inputs)
    if source.kind != "directory":
        yield _pipe(host, name, source.path)
        return
    paths: list[Path] = []
    try:
        paths = log_files(host.path(source.path))
        for path in paths:
            path.open("rb").close()
    except (OSError, SourceError) as exc:
        if isinstance(exc.__cause__ or exc, PermissionError):
            yield _not_ours(host, name, str(exc))
            return
    if not paths:
        mend = (host.start("auditd", "auditd"),) if audit_status(host).get("pid") == 0 else ()
        yield Finding(name, "missing", f"there is no audit.log in {source.path}", mend)
        return
    newest = max(path.stat().st_mtime for path in paths)
    when = datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    yield Finding(name, "ok", f"{len(paths)} files in {source.path}, the last record came at {when}")


def _not_ours(host: Host, name: str, text: str) -> Finding:
    """What cannot be read for want of privilege, unless we are root."""
    if host.is_root:
        return Finding(name, "missing", text)
    return Finding(name, "warning", f"only root can read it: {text}", (f"sudo {host.ours('doctor')}",))


def _pipe(host: Host, name: str, path: str) -> Finding:
    """A named pipe as input."""
    if path == STANDARD_STREAM:
        return Finding(name, "ok", "come through standard input")
    try:
        mode = host.path(path).stat().st_mode
    except OSError:
        make = f"mkdir -p {shlex.quote(os.path.dirname(path))} && mkfifo -m 0600 {shlex.quote(path)}"
        return Finding(name, "missing", f"there is no pipe {path}", (make,))
    if stat.S_ISFIFO(mode):
        return Finding(name, "ok", f"come through the pipe {path}")
    return Finding(name, "missing", f"{path} is {kind_of(mode)}, not a named pipe")


# -- rules


def check_execve(host: Host, config: DoctorConfig) -> Findings:
    """Whether what a session executes is recorded, whichever way it calls the kernel, and root's sessions too."""
    name = "execve rules"
    if not audit_status(host) or host.ran("auditctl", "-l").code != 0:
        return
    rules = audit_rules_of(host)
    wanted = [(abi, call, auid) for abi in abis(host) for call in audit_rules.EXECVE_SYSCALLS for auid in (1000, 0)]
    covers = {key: auditctl.syscall_coverage(rules, abi=key[0], syscall=key[1], auid=key[2]) for key in wanted}
    blame = tuple(dict.fromkeys(rule for cover in covers.values() for rule in cover.blame))
    for rule in blame:
        is_all = any(
            cover.part == "none" and rule in cover.blame and call == "execve" and auid
            for (_, call, auid), cover in covers.items()
        )
        text = f"a rule hides commands: {rule.text}"
        yield Finding(name, "missing" if is_all else "warning", text, _take_away(host, rule))
    write = host.ours("doctor", "--write-rules", audit_rules.RULES_FILE)
    mend = (f"{write} && {load_rules(host)}",)
    gaps = {key: cover for key, cover in covers.items() if cover.part != "all" and not cover.blame}
    none = sorted(
        {abi for (abi, call, auid), cover in gaps.items() if call == "execve" and auid and cover.part == "none"}
    )
    if none:
        yield Finding(name, "missing", f"no rule records execve of sessions ({', '.join(none)})", mend)
        return
    if any(call == "execve" and auid for _, call, auid in gaps):
        yield Finding(name, "warning", "rules record only some commands of sessions: of some users or files", mend)
    elif any(call == "execveat" and auid for _, call, auid in gaps):
        yield Finding(name, "warning", "no rule records all execveat of sessions: it executes as well", mend)
    elif any(not auid for _, _, auid in gaps) and _sshd_settings(host, config).get("permitrootlogin", "yes") != "no":
        yield Finding(name, "warning", "root may log in, and no rule records what root's sessions execute", mend)
    elif not blame:
        yield Finding(name, "ok", f"execve and execveat of all sessions are recorded ({', '.join(abis(host))})")


def abis(host: Host) -> tuple[str, ...]:
    return auditctl.abis_of(host.ran("uname", "-m").out.strip())


def _take_away(host: Host, rule: auditctl.Rule) -> tuple[str, ...]:
    """The commands that take a rule out of its file, or out of the kernel where it is in none."""
    for path in host.names(f"{audit_rules.RULES_DIRECTORY}/*.rules"):
        for number, line in enumerate((host.text(path) or "").splitlines(), 1):
            if any(auditctl.same_rule(rule, other) for other in auditctl.parse_rules(line)):
                return (f"sed -i '{number}s/^/# /' {shlex.quote(path)} && {load_rules(host)}",)
    return ("reboot",) if audit_status(host).get("enabled") == 2 else (rule.removal,)


def check_login_records(host: Host, config: DoctorConfig) -> Findings:
    """Whether the records of logins, which need no rule, are hidden by one."""
    del config
    name = "login records"
    if not audit_status(host) or host.ran("auditctl", "-l").code != 0:
        return
    rules = audit_rules_of(host)
    hidden: dict[auditctl.Rule, list[tuple[audit_rules.Needed, auditctl.Part]]] = {}
    for row in audit_rules.NEEDED_RECORDS:
        cover = auditctl.hidden_by(rules, row.name)
        for rule in cover.blame:
            hidden.setdefault(rule, []).append((row, cover.part))
    for rule, rows in hidden.items():
        is_missing = any(row.state == "missing" and part == "all" for row, part in rows)
        text = f"{rule.text} hides " + ", ".join(f"{row.name} ({row.why})" for row, _ in rows)
        yield Finding(name, "missing" if is_missing else "warning", text, _take_away(host, rule))
    if not hidden:
        yield Finding(name, "ok", "no rule hides them; kernel and PAM write them by themselves")


def check_losses(host: Host, config: DoctorConfig) -> Findings:
    """Whether the kernel had to drop records, or soon will."""
    del config
    name = "lost records"
    status = audit_status(host)
    if not status:
        return
    lost, limit, backlog = (status.get(key, 0) for key in ("lost", "backlog_limit", "backlog"))
    enough = max(audit_rules.BACKLOG_RECORDS, 2 * limit if lost or 4 * backlog > 3 * limit else limit)
    raise_it = f"{write_file(audit_rules.BACKLOG_FILE, f'-b {enough}')} && {load_rules(host)}"
    if lost:
        text = f"the kernel has lost {lost} records since boot, or since the count was reset; {limit} may wait"
        yield Finding(name, "warning", text, (raise_it, "auditctl --reset-lost"))
    elif limit < audit_rules.BACKLOG_RECORDS:
        yield Finding(
            name, "warning", f"only {limit} records may wait for auditd: a busy moment loses some", (raise_it,)
        )
    elif 4 * backlog > 3 * limit:
        yield Finding(name, "warning", f"{backlog} records wait for auditd, of {limit} that may", (raise_it,))
    else:
        yield Finding(name, "ok", f"none lost; {backlog} of at most {limit} wait")
    if status.get("rate_limit"):
        text = f"the kernel drops what is more than {status['rate_limit']} records a second"
        yield Finding(name, "warning", text, ("auditctl -r 0",))


# -- sshd


def _sshd_ran(host: Host, config: DoctorConfig) -> Ran:
    """What ``sshd -T`` says: the settings that hold outside of Match blocks."""
    command = ["sshd", "-T", *(("-f", config.doctor.sshd_config) if config.doctor.sshd_config else ())]
    ran = host.ran(*command)
    if ran.code != 0 and "connection test specification" in ran.err:
        # Older releases refuse Match blocks without knowing whom they are to match.
        ran = host.ran(*command, "-C", "user=root,host=localhost,addr=127.0.0.1")
    return ran


def _sshd_settings(host: Host, config: DoctorConfig) -> dict[str, str]:
    """sshd's settings by their name in lower case, {} where it does not say them."""
    ran = _sshd_ran(host, config)
    return dict(line.split(" ", 1) for line in ran.out.splitlines() if " " in line) if ran.code == 0 else {}


def check_sshd(host: Host, config: DoctorConfig) -> Findings:
    """Whether there is an sshd whose settings can be known."""
    name = "sshd"
    ran = _sshd_ran(host, config)
    if ran.code == 0:
        return
    if ran.code == 127:
        yield Finding(name, "missing", "sshd is not installed", host.install("sshd"))
        return
    told = (ran.err or ran.out).strip().splitlines()
    text = f"sshd -T: {told[-1] if told else f'exit code {ran.code}'}"
    directory = re.search(r"Missing privilege separation directory: (\S+)", text)
    if directory:
        yield Finding(name, "missing", text, (f"install -d -m 0755 {shlex.quote(directory[1])}",))
    elif not host.is_root:
        yield Finding(name, "warning", f"only root can ask: {text}", (f"sudo {host.ours('doctor')}",))
    else:
        yield Finding(name, "missing", text, ("ssh-keygen -A",) if "no hostkeys" in text else ())


def check_pam_loginuid(host: Host, config: DoctorConfig) -> Findings:
    """Whether PAM tells the kernel who logs in: without it no session has a number."""
    name = "pam_loginuid"
    settings = _sshd_settings(host, config)
    if not settings:
        return
    service = settings.get("pamservicename", "sshd")
    if any("pam_loginuid.so" in line for line in _session_modules(host, service, PAM_DEPTH_MAX)):
        yield Finding(name, "ok", f"is in the session stack of {service}")
        return
    found = next((f"{path}/{service}" for path in facts.PAM_DIRECTORIES if host.has(f"{path}/{service}")), "")
    own = f"/etc/pam.d/{service}"
    copy = f"cp {shlex.quote(found)} {shlex.quote(own)} && " if found and found != own else ""
    mend = (
        (f"{copy}sed -i '1i session required pam_loginuid.so' {shlex.quote(own)}",) if found else host.install("sshd")
    )
    where = f"is not in the session stack of {service}" if found else f"there is no PAM stack of {service}"
    yield Finding(name, "missing", f"{where}: the kernel opens no audit session for a login", mend)


def _session_modules(host: Host, service: str, depth: int) -> Iterator[str]:
    """The lines of the session stack of a PAM service, with what it includes. Source: pam.conf(5)."""
    directories = ("",) if service.startswith("/") else facts.PAM_DIRECTORIES
    text = next((text for path in directories if (text := host.text(f"{path}/{service}")) is not None), "")
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].split()
        included = ""
        if words[:1] == ["@include"] and len(words) > 1:
            included = words[1]
        elif len(words) > 2 and words[0].removeprefix("-") == "session":
            included = words[2] if words[1] in ("include", "substack") else ""
            if not included:
                yield " ".join(words)
        if included and depth:
            yield from _session_modules(host, included, depth - 1)


def check_use_pam(host: Host, config: DoctorConfig) -> Findings:
    """Whether sshd uses PAM at all; OpenSSH's own default is that it does not."""
    settings = _sshd_settings(host, config)
    if not settings:
        return
    value = settings.get("usepam")
    if value == "yes":
        yield Finding("UsePAM", "ok", "sshd opens sessions through PAM")
    elif value is None:
        yield Finding("UsePAM", "missing", "this sshd is built without PAM: no login becomes an audit session")
    else:
        text = "sshd does not use PAM: no login becomes an audit session"
        yield Finding("UsePAM", "missing", text, _set_sshd(host, config, "UsePAM", "yes"))


def check_log_level(host: Host, config: DoctorConfig) -> Findings:
    """Whether sshd says who logged in, with every factor."""
    name = "LogLevel"
    settings = _sshd_settings(host, config)
    level = settings.get("loglevel", "").upper()
    if not level:
        return
    mend = _set_sshd(host, config, "LogLevel", "VERBOSE")
    if level in facts.FULL_LOG_LEVELS:
        yield Finding(name, "ok", f"{level}: every factor and every failure is logged")
    elif level in facts.QUIET_LOG_LEVELS:
        yield Finding(name, "missing", f"at {level} sshd does not say who logged in", mend)
    elif "," in settings.get("authenticationmethods", ""):
        text = f"at {level} only the last factor is logged, and AuthenticationMethods wants several: keys go unseen"
        yield Finding(name, "missing", text, mend)
    else:
        text = f"at {level} sshd does not log early failures, nor the key of a login with several factors"
        yield Finding(name, "warning", text, mend)


def _set_sshd(host: Host, config: DoctorConfig, option: str, value: str) -> tuple[str, ...]:
    """The command that gives sshd a setting. The first value that sshd reads is the one that counts."""
    main = config.doctor.sshd_config or facts.SSHD_CONFIG
    path = _drop_in(host, main, option)
    line = f"{option} {value}"
    if not path and not (host.text(main) or "").strip():
        path = main  # sed has no first line to write before
    change = write_file(path, line) if path else f"sed -i {shlex.quote(f'1i {line}')} {shlex.quote(main)}"
    test = f"sshd -t -f {shlex.quote(main)}"
    return (" && ".join((change, test, *_reload_sshd(host, config))),)


def _drop_in(host: Host, main: str, option: str) -> str:
    """A file that the configuration reads before all else; "" where there is no such place."""
    lines = [line.split() for line in (host.text(main) or "").splitlines()]
    words = next((words for words in lines if words and not words[0].startswith("#")), [])
    if len(words) != 2 or words[0].lower() != "include" or not words[1].endswith("/*.conf"):
        return ""
    directory = os.path.join(os.path.dirname(facts.SSHD_CONFIG), os.path.dirname(words[1]))
    path = f"{directory}/00-audito-{option.lower()}.conf"
    setting = re.compile(rf"^\s*{option}[\s=]", re.IGNORECASE | re.MULTILINE)
    is_late = any(name <= path and setting.search(host.text(name) or "") for name in host.names(f"{directory}/*.conf"))
    return "" if is_late else path


def _reload_sshd(host: Host, config: DoctorConfig) -> tuple[str, ...]:
    """What makes a running sshd read its configuration again; nothing where none runs."""
    pid_path = _sshd_settings(host, config).get("pidfile", "none")
    if host.has_systemd and not config.doctor.sshd_config:
        unit = host.unit(*facts.SSHD_UNITS)
        return (f"systemctl try-reload-or-restart {unit}",) if unit else ()
    if pid_path != "none" and host.has(pid_path):
        return (f"kill -HUP $(cat {shlex.quote(pid_path)})",)
    return ()


# -- where sshd's lines are


def check_sshd_lines(host: Host, config: DoctorConfig) -> Findings:
    """Whether sshd's lines can be read, and there are some."""
    name = "sshd lines"
    source = sshd_source(config.inputs, lambda pattern: bool(host.names(pattern)))
    if source is None:
        mend = (*host.install("rsyslog"), host.start("rsyslog", "rsyslogd"))
        yield Finding(name, "missing", "there is no journal and no syslog file for them", mend)
    elif source.kind in ("pipe", "stdin"):
        yield _pipe(host, name, source.path)
    elif source.kind == "file":
        yield _syslog_lines(host, config, source.path)
    else:
        yield _journal_lines(host, config, source.path)


def _no_lines(host: Host, config: DoctorConfig, where: str) -> Finding:
    """Nobody has logged in yet, or the lines go elsewhere: a connection, which sshd logs, tells which."""
    port = _sshd_settings(host, config).get("port", "22")
    text = f"{where} has no line of sshd yet: connect once, and if there is still none, they go elsewhere"
    return Finding("sshd lines", "warning", text, (f"ssh-keyscan -p {shlex.quote(port)} 127.0.0.1",))


def _syslog_lines(host: Host, config: DoctorConfig, path: str) -> Finding:
    try:
        with host.path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = file.read(TAIL_BYTES)
    except OSError as exc:
        return _not_ours(host, "sshd lines", f"{path}: {exc.strerror}")
    count = len(re.findall(rb"[ >](?:%s)(?:\[\d+\]:| \d+ )" % b"|".join(tag.encode() for tag in reversed(TAGS)), tail))
    return Finding("sshd lines", "ok", f"are in {path}") if count else _no_lines(host, config, path)


def _journal_lines(host: Host, config: DoctorConfig, path: str) -> Finding:
    """Read the journal as the daemon does."""
    name = "sshd lines"
    problem, forged = "there are no journal files", 0
    for directory in [path] if path else _journal_directories(host):
        source = JournalSource(host.path(directory), since_us=0)
        try:
            source.open()
            lines = bytes(source.read()).splitlines()
        except SourceError as exc:
            problem = str(exc)
            continue
        finally:
            source.close()
        problem = ""
        if any(line.split(b" ", 3)[2] == b"1" for line in lines):
            return Finding(name, "ok", f"are in the journal, {directory}")
        forged += len(lines)
    if problem:
        return _not_ours(host, name, problem)
    if forged:
        text = f"{forged} lines in the journal call themselves sshd's, and none is of an sshd that we know, run by root"
        return Finding(name, "warning", text)
    return _no_lines(host, config, "the journal")


def _journal_directories(host: Host) -> list[str]:
    """Directories with journal files of this host, as libsystemd looks for them: by the machine id."""
    machine_id = read_id(str(host.path("/etc/machine-id")))
    files = [file for pattern in JOURNAL_PATTERNS for file in host.names(pattern)]
    return list(dict.fromkeys(os.path.dirname(file) for file in files if f"/{machine_id}/" in file))


def check_rate_limit(host: Host, config: DoctorConfig) -> Findings:
    """Whether a flood of lines would hide a login."""
    source = sshd_source(config.inputs, lambda pattern: bool(host.names(pattern)))
    if source is None or source.kind in ("pipe", "stdin"):
        return
    if source.kind == "file":
        yield from _rsyslog_limit(host)
        return
    journal = _journald_settings(host)
    interval_s = span_s(journal.get("ratelimitintervalsec", journal.get("ratelimitinterval", "")))
    interval_s = facts.JOURNALD_INTERVAL_S if interval_s is None else interval_s
    burst_text = journal.get("ratelimitburst", "")
    burst = int(burst_text) if burst_text.isdecimal() else facts.JOURNALD_BURST_LINES
    path = "/etc/systemd/journald.conf.d/90-audito.conf"
    mend = write_file(path, "[Journal]", "RateLimitIntervalSec=30s", "RateLimitBurst=100000")
    restart = "systemctl restart systemd-journald" if host.has_systemd else ""
    yield _limit("journald", interval_s, burst, " && ".join(filter(None, (mend, restart))))


def _limit(who: str, interval_s: float, burst: int, mend: str) -> Finding:
    if not interval_s or not burst:
        return Finding("rate limit", "ok", f"{who} drops no lines")
    text = f"{who} takes {burst} lines of one service in {interval_s:g} s and drops the others"
    if burst / interval_s >= facts.LOG_LINES_PER_S_MIN:
        return Finding("rate limit", "ok", text)
    return Finding("rate limit", "warning", f"{text}: a flood can hide a login", (mend,))


def span_s(text: str) -> float | None:
    """A time span as systemd writes it (``1min 30s``, ``5``), None for what is none. Source: systemd.time(7)."""
    parts = re.findall(r"([0-9.]+)\s*([a-zµ]*)", text)
    if not parts or re.sub(r"([0-9.]+)\s*([a-zµ]*)|\s", "", text):
        return None
    try:
        return sum(float(number) * facts.TIME_UNITS_S[unit] for number, unit in parts)
    except (KeyError, ValueError):
        return None


def _journald_settings(host: Host) -> dict[str, str]:
    """journald's own settings from its file and drop-ins, names in lower case. Source: journald.conf(5)."""
    main = next(
        (f"{path}/journald.conf" for path in facts.JOURNALD_DIRECTORIES if host.has(f"{path}/journald.conf")), ""
    )
    drop_ins: dict[str, str] = {}
    for directory in facts.JOURNALD_DIRECTORIES:
        for path in host.names(f"{directory}/journald.conf.d/*.conf"):
            drop_ins.setdefault(os.path.basename(path), path)
    found: dict[str, str] = {}
    for path in [main, *(path for _, path in sorted(drop_ins.items()))]:
        parser = ConfigParser(strict=False, interpolation=None, allow_no_value=True)
        try:
            parser.read_string(host.text(path) or "" if path else "")
        except ConfigParserError:
            continue
        if parser.has_section("Journal"):
            found.update({name: value or "" for name, value in parser["Journal"].items()})
    return found


def _rsyslog_limit(host: Host) -> Findings:
    """rsyslog limits what it takes from the journal, and not what it takes from sshd itself."""
    for path in ["/etc/rsyslog.conf", *host.names("/etc/rsyslog.d/*.conf")]:
        lines = re.sub(r"(?m)^\s*#.*$", "", host.text(path) or "")
        module = re.search(r"module\(\s*load=\"imjournal\"([^)]*)\)", lines, re.IGNORECASE)
        if module is None:
            continue
        pairs = re.findall(r"ratelimit\.(\w+)=\"(\d+)\"", module[1], re.IGNORECASE)
        values = {name.lower(): value for name, value in pairs}
        interval_s = float(values.get("interval", facts.IMJOURNAL_INTERVAL_S))
        change = 's/load="imjournal"/& Ratelimit.Interval="0"/I'
        if "interval" in values:
            change = r's/(ratelimit\.interval=")[0-9]+/\10/I'
        edit = f"sed -i -E {shlex.quote(change)}"
        restart = "systemctl restart rsyslog" if host.has_systemd else "service rsyslog restart"
        mend = f"{edit} {shlex.quote(path)} && {restart}"
        yield _limit("rsyslog", interval_s, int(values.get("burst", facts.IMJOURNAL_BURST_LINES)), mend)
        return
    yield Finding("rate limit", "ok", "rsyslog drops no lines that sshd sends it")


# -- what the daemon needs for itself


def check_inotify(host: Host, config: DoctorConfig) -> Findings:
    """Whether audito can be woken when a log grows; else it looks once a second."""
    del config
    used = dict(zip(facts.INOTIFY_LIMITS, _inotify_used(host), strict=True))
    free_min = dict(
        zip(facts.INOTIFY_LIMITS, (facts.INOTIFY_INSTANCES_FREE_MIN, facts.INOTIFY_WATCHES_FREE_MIN), strict=True)
    )
    for limit_name, wanted in facts.INOTIFY_LIMITS.items():
        limit = host.number(f"/proc/sys/fs/inotify/{limit_name}")
        if limit is None:
            continue
        text = f"fs.inotify.{limit_name}: root has {used[limit_name]} of {limit}"
        if limit - used[limit_name] >= free_min[limit_name]:
            yield Finding("inotify", "ok", text)
            continue
        path = f"/etc/sysctl.d/90-audito-{limit_name.replace('_', '-')}.conf"
        mend = f"{write_file(path, f'fs.inotify.{limit_name} = {max(wanted, 2 * limit)}')} && sysctl -p {path}"
        yield Finding("inotify", "warning", f"{text}: events come up to a second late", (mend,))


def _inotify_used(host: Host) -> tuple[int, int]:
    """Instances and watches of root's processes; the limits count by user. Source: proc(5), fdinfo."""
    instances = watches = 0
    for process in host.path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid != 0:
                continue
            fds = [fd for fd in (process / "fd").iterdir() if os.readlink(fd) == "anon_inode:inotify"]
            for fd in fds:
                watches += (process / "fdinfo" / fd.name).read_text().count("inotify wd:")
        except OSError:
            continue  # it has ended, or is not ours to look at
        instances += len(fds)
    return instances, watches


def check_output(host: Host, config: DoctorConfig) -> Findings:
    """Whether events can be written where they are to go."""
    name, path = "output", config.output.path
    if path == STANDARD_STREAM:
        yield Finding(name, "ok", "events go to standard output")
        return
    yield _user(config) or _output(host, config, path)


def _user(config: DoctorConfig) -> Finding | None:
    """Whether ``--user`` can be had; None where it can."""
    user = config.daemon.user
    try:
        if user:
            privileges.find_user(user)
    except AuditoError as exc:
        make = f"useradd --system --no-create-home --shell /usr/sbin/nologin {shlex.quote(user)}"
        return Finding("output", "missing", str(exc), (make,) if user != "root" else ())
    return None


def _output(host: Host, config: DoctorConfig, path: str) -> Finding:
    name, real = "output", host.path(path)
    try:
        trusted = trusted_uids(privileges.find_user(config.daemon.user).uid if config.daemon.user else -1)
        warnings = check_parents(real, trusted)
        status = real.lstat()
    except SinkError as exc:
        return Finding(name, "missing", f"{exc}; name another place with --output")
    except FileNotFoundError:
        if real.parent.is_dir():
            return _writable(host, name, real.parent, f"{path} will be made")
        owner = f" -o {shlex.quote(config.daemon.user)}" if config.daemon.user else ""
        directory = shlex.quote(os.path.dirname(path))
        return Finding(
            name, "missing", f"there is no directory for {path}", (f"install -d -m 0750{owner} {directory}",)
        )
    except OSError as exc:
        return _not_ours(host, name, f"{path}: {exc.strerror}")
    kind = kind_of(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        inside = host.ours("run", "--output", f"{path}/audit.log")
        return Finding(name, "missing", f"{path} is a directory", (inside,))
    if stat.S_ISLNK(status.st_mode):
        target = host.ours("run", "--output", host.real(path))
        return Finding(name, "missing", f"{path} is a symbolic link, which audito does not follow", (target,))
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        return Finding(name, "missing", f"{path} has {status.st_nlink} names: somebody else may be reading it")
    if warnings:
        return Finding(name, "warning", "; ".join(warnings))
    return _writable(host, name, real, f"{path}, {kind}")


def _writable(host: Host, name: str, real: Path, text: str) -> Finding:
    if os.access(real, os.W_OK):
        return Finding(name, "ok", text)
    if not host.is_root:
        return Finding(name, "warning", f"{text}: only root can tell", (f"sudo {host.ours('doctor')}",))
    return Finding(name, "missing", f"{text}, and cannot be written", (f"mount -o remount,rw {_mount_point(real)}",))


def _mount_point(path: Path) -> str:
    return shlex.quote(str(next(parent for parent in (path, *path.parents) if parent.is_mount())))


def check_state(host: Host, config: DoctorConfig) -> Findings:
    """Whether audito can remember where it was, and after a reboot too."""
    name, directory = "state", config.state.directory
    path = host.path(directory)
    if path.exists() and not path.is_dir():
        yield Finding(name, "missing", f"{directory} is {kind_of(path.stat().st_mode)}, not a directory")
        return
    if path.is_dir():
        status = path.stat()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            fix = f"chmod go-w {shlex.quote(directory)}"
            yield Finding(name, "missing", f"others may write to {directory}: it is not used", (fix,))
            return
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    finding = _writable(host, name, existing, f"{directory}{'' if path.is_dir() else ' will be made'}")
    is_file = config.output.path != STANDARD_STREAM and not host.path(config.output.path).is_fifo()
    if finding.state == "ok" and is_file and _file_system(host, directory) in facts.FILESYSTEMS_IN_MEMORY:
        text = (
            f"{directory} is in memory: after a reboot all saved audit logs are read, and their events written, again"
        )
        finding = Finding(name, "warning", text, (host.ours("run", "--state-dir", "/var/lib/audito"),))
    yield finding


def _file_system(host: Host, name: str) -> str:
    """The type of the file system that holds a path, by the kernel's list of mounts."""
    real = host.real(name)
    best, kind = "", ""
    for line in (host.text("/proc/self/mounts") or "").splitlines():
        fields = line.split(" ")
        if len(fields) > 2 and len(fields[1]) >= len(best) and f"{real}/".startswith(f"{fields[1].rstrip('/')}/"):
            best, kind = fields[1], fields[2]
    return kind


def check_clock(host: Host, config: DoctorConfig) -> Findings:
    """Whether the times of events mean something elsewhere."""
    del config
    if host.clock():
        yield Finding("clock", "ok", "is kept right")
        return
    if host.has_systemd and host.unit("systemd-timesyncd"):
        mend: tuple[str, ...] = ("timedatectl set-ntp true",)
    else:
        unit = host.unit("chronyd", "chrony")
        mend = (*(() if unit else host.install("chrony")), host.start(unit or "chrony", "chronyd"))
    yield Finding("clock", "warning", "nobody keeps it right: the kernel says it is not synchronised", mend)


def check_versions(host: Host, config: DoctorConfig) -> Findings:
    """What this is, and whether we know that sshd's messages."""
    del config
    ran = host.ran("sshd", "-V")  # older ones know no -V, and say their version in the complaint
    openssh = re.search(r"OpenSSH_(\d+)\.(\d+)", ran.err + ran.out)
    audit = re.search(r"version (\S+)", host.ran("auditctl", "-v").out)
    systemd = re.search(r"systemd (\d+)", host.ran("systemctl", "--version").out)
    known = (
        ("OpenSSH", f"{openssh[1]}.{openssh[2]}" if openssh else ""),
        ("audit", audit[1] if audit else ""),
        ("systemd", systemd[1] if systemd else ""),
        ("Linux", host.ran("uname", "-r").out.strip()),
    )
    python = ".".join(str(part) for part in sys.version_info[:3])
    text = ", ".join(
        (f"audito {__version__}", f"Python {python}", *(f"{what} {which}" for what, which in known if which))
    )
    release = (int(openssh[1]), int(openssh[2])) if openssh else facts.OPENSSH_NEWEST
    if facts.OPENSSH_OLDEST <= release <= facts.OPENSSH_NEWEST:
        yield Finding("versions", "ok", text)
        return
    span = f"{_dotted(facts.OPENSSH_OLDEST)} to {_dotted(facts.OPENSSH_NEWEST)}"
    yield Finding("versions", "warning", f"{text}: the messages of OpenSSH {span} are known")


def _dotted(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"


Check = Callable[[Host, DoctorConfig], Findings]

CHECKS: tuple[Check, ...] = (
    check_auditing,
    check_auditd,
    check_audit_log,
    check_execve,
    check_login_records,
    check_losses,
    check_sshd,
    check_use_pam,
    check_pam_loginuid,
    check_log_level,
    check_sshd_lines,
    check_rate_limit,
    check_inotify,
    check_output,
    check_state,
    check_clock,
    check_versions,
)
"""In the order of the report: what stands first may be why a later one fails."""


def examine(host: Host, config: DoctorConfig, checks: Iterable[Check] = CHECKS) -> Report:
    """Look at the host. What a check cannot find out is a finding too. Errors: none."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check(host, config))
        except (OSError, ValueError, LookupError, AuditoError) as exc:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            findings.append(Finding(name, "warning", f"cannot be told: {exc}"))
    return Report(all(finding.state != "missing" for finding in findings), __version__, tuple(findings))


# -- the report


def as_json(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def summary(report: Report) -> str:
    """How many there are of each state, the worst first."""
    counts = [(state, sum(finding.state == state for finding in report.findings)) for state in reversed(STATES)]
    return ", ".join(f"{count} {state}" for state, count in counts if count)


def as_text(report: Report) -> str:
    """One line a finding, and one a command that mends it; no byte of the host's files reaches a terminal as it is."""
    width = max((len(finding.check) for finding in report.findings), default=0)
    lines = []
    for finding in report.findings:
        lines.append(f"{finding.state:<7}  {finding.check:<{width}}  {printable(finding.text)}")
        lines += [f"{'':<7}  {'':<{width}}  mend: {printable(command)}" for command in finding.mend]
    return "\n".join([*lines, summary(report), ""])


STYLES = {"ok": "green", "warning": "yellow", "missing": "bold red"}


def show(report: Report, stream: TextIO) -> None:
    """Print the report: with colours and wrapped words on a terminal where rich is installed, else plain."""
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            _show_rich(report, Console(file=stream, highlight=False), Text)
            return
    stream.write(as_text(report))


def _show_rich(report: Report, console: Any, text: Any) -> None:
    """A command is one line however long it is: it is there to be copied."""
    width = max((len(finding.check) for finding in report.findings), default=0)
    indent = 9 + width + 2
    for finding in report.findings:
        head = text.assemble(
            (f"{finding.state:<7}", STYLES[finding.state]), "  ", (f"{finding.check:<{width}}", "bold"), "  "
        )
        words = textwrap.wrap(printable(finding.text), max(console.width - indent, 20), break_on_hyphens=False)
        console.print(text.assemble(head, ("\n" + " " * indent).join(words)), soft_wrap=True)
        for command in finding.mend:
            console.print(text.assemble(" " * indent, (printable(command), "cyan")), soft_wrap=True)
    worst = next((state for state in reversed(STATES) if any(f.state == state for f in report.findings)), "ok")
    console.print(text(summary(report), style=STYLES[worst]))


def write_rules(path: str, text: str) -> None:
    """Write audit rules to a file, made 0640; one that is not ours is left alone. Errors: SinkError."""
    if os.path.isdir(path):
        path = os.path.join(path, os.path.basename(audit_rules.RULES_FILE))
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, OUTPUT_MODE)
        with open(fd, "r+", encoding="utf-8", errors="replace") as file:
            there = file.read(len(audit_rules.RULES_MARK))
            if there and there != audit_rules.RULES_MARK:
                raise SinkError(f"{path} holds rules of somebody else; name another file")
            file.seek(0)
            file.truncate()
            file.write(text)
    except OSError as exc:
        raise SinkError(f"{path}: {exc.strerror}") from exc
