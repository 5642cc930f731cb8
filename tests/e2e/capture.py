"""Run the scenario for real and write what auditd, sshd and the journal wrote.

As root: `python -m tests.e2e.capture examples`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from . import evidence
from .host import Host
from .scenario import Truth, play
from .undo import HostError, run

HOST_NAME = "bastion"
MACHINE_ID = "deadbeefdeadbeefdeadbeefdeadbeef"
CLONE_NEWUTS = 0x04000000
CAPTURE_BYTES_MAX = 300_000


def take_neutral_host_name() -> None:
    """Give this process and all that it starts a host name of their own (a UTS namespace)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUTS) != 0:
        raise HostError(f"unshare: {os.strerror(ctypes.get_errno())}")
    socket.sethostname(HOST_NAME)


def neutral(text: str) -> str:
    """Take out what tells of the machine: its machine id and its kernel's local version."""
    machine_id = Path("/etc/machine-id").read_text().strip()
    return text.replace(machine_id, MACHINE_ID).replace(os.uname().release, kernel_version())


def kernel_version() -> str:
    """Return the kernel's version without the name of whoever built it."""
    found = re.match(r"[0-9.]+", os.uname().release)
    return found[0] if found else "unknown"


def read_host(host: Host) -> dict[str, str]:
    """Return the files of the capture, by name."""
    identifiers = ("-t", "sshd", "-t", "sshd-session", "-t", "sshd-auth")
    journal = ("journalctl", "--directory", str(host.journal_directory), "-q", "-o", "json")
    return {
        "audit.log": (host.audit_directory / "audit.log").read_text(),
        "sshd.log": host.syslog_path.read_text(),
        "sshd.pipe": host.pipe_copy_path.read_text(),
        "sshd.journal.json": run(*journal, *identifiers),
    }


def write(directory: Path, host: Host, truth: Truth) -> None:
    """Write the capture; HostError when it does not hold the truth, or is too large to keep."""
    complaints = evidence.missing(truth, evidence.read([host.audit_directory / "audit.log"], host.syslog_path))
    if complaints:
        raise HostError("the logs do not show what happened:\n  " + "\n  ".join(complaints))
    files = {name: neutral(text) for name, text in read_host(host).items()}
    files["truth.json"] = truth.to_json()
    files["README.md"] = readme(files)
    if sum(map(len, files.values())) > CAPTURE_BYTES_MAX:
        raise HostError(f"the capture is larger than {CAPTURE_BYTES_MAX} bytes")
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def readme(files: dict[str, str]) -> str:
    """Return the words that go with the capture."""
    versions = run("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "auditd", "openssh-server")
    return README.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        kernel=kernel_version(),
        versions=", ".join(versions.splitlines()),
        audit_lines=files["audit.log"].count("\n"),
        sshd_lines=files["sshd.log"].count("\n"),
        host_name=HOST_NAME,
        machine_id=MACHINE_ID,
    )


README = """\
# A captured session

Real output of real daemons, recorded on {date} as root on Debian 12 by

    python -m tests.e2e.capture examples

That starts auditd, journald, rsyslogd, cron and an sshd with a user CA, plays
`tests/e2e/scenario.py`, and takes all of it away again. Linux {kernel}, {versions}.

- `audit.log`: {audit_lines} lines as auditd wrote them (`log_format = ENRICHED`), from its start to
  the end of the run.
- `sshd.log`: {sshd_lines} lines of sshd in syslog form with ISO time. rsyslogd wrote them, and got
  them from journald (`ForwardToSyslog`).
- `sshd.pipe`: the same lines as `PID MESSAGE`, written by the same rsyslogd with the template that
  feeds audito's named pipe.
- `sshd.journal.json`: the same lines out of the journal, by
  `journalctl -o json -t sshd -t sshd-session -t sshd-auth`.
- `truth.json`: what was done, as the scenario noted it: each login with its source port, each
  command with its arguments.

Three things were altered. The daemons ran under the host name `{host_name}`; the machine id was
replaced by `{machine_id}`; the kernel's local version suffix was cut off.
The keys were made for the run and are gone.

## What happened
1. **alice@example.com** (certificate, serial 350) and **dave@example.com** (certificate, serial
   351) log in to the *same* account `core` at the same time, from 127.0.0.10 and 127.0.0.11. Only
   the certificate tells them apart.
   - alice runs a pipeline (`cat | grep | wc`), then `/usr/local/bin/rizin`, which has no execute
     bit (the execve fails, EACCES), then `sudo head` of a file that only root may read, then
     `stat`.
   - dave runs `printenv`, leaves a job behind (`nohup setsid sh -c 'sleep 2; sort …'`) and logs
     out. The job executes `sort` when his login is over.
2. Somebody at 127.0.0.66 tries the account `mallory`, which does not exist, and then `carol` with
   a wrong password.
3. **bob** logs in with a plain key, gets a terminal, and types a command with awkward arguments
   (an empty one, spaces, quotes, a tab, not ASCII), `tty`, and a `stat` that ends with exit code
   1: its execve succeeded.
4. **carol** logs in with a password, over IPv6, and runs `uname`, a program that does not exist
   (the execve fails, ENOENT), and `id`.
5. None of these belong to a login, and none may be reported as one: **cron** opens a session of
   its own as bob (a LOGIN record, like sshd's) and executes `nproc`; a background service executes
   `uptime` without a session; auditctl sets the rules.

Each ssh login also shows what Debian's `pam_motd` executes inside the new session before the
user's shell: `sh`, `env`, `run-parts`, and with them the failed execves of a search along PATH.
"""


def main() -> int:
    """Capture into the directory named on the command line; 1 when that went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.capture", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the capture goes")
    directory = parser.parse_args().directory.resolve()
    try:
        take_neutral_host_name()
        with Host() as host:
            write(directory, host, play(host))
    except HostError as error:
        print(f"capture: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
