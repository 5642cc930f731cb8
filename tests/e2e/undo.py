"""A journal of what a run changed on the machine, so that it is put back even after `kill -9`.

Each step is written down before the change is made (a process: as soon as it runs), and taken back
in reverse order when the run ends. A journal that is still there at the next start belongs to a run
that was killed: its steps are taken back first.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0


class HostError(RuntimeError):
    """The machine cannot carry the run; the message says what to do about it."""


def run(*command: str, stdin: str = "", environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; HostError tells what it said."""
    # Not in our working directory: auditctl's own records carry it, and captures are published.
    done = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env=environment,
    )
    if done.returncode != 0:
        raise HostError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def wait_until(what: str, ready: Callable[[], object], timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until READY() is true; HostError after TIMEOUT_S seconds."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise HostError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.05)


def started_at(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; None where it is gone or a zombie.

    Source: fields 3 and 22 of /proc/PID/stat. Pid and start together name a process for good.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def stop_process(pid: int, start: str) -> None:
    """End the process that had this pid and start, with SIGKILL when it does not listen."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if started_at(pid) != start:
            break
        os.kill(pid, sign)
        with contextlib.suppress(HostError):
            wait_until(f"process {pid} ends", lambda: started_at(pid) != start, STOP_TIMEOUT_S)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def processes_of(uid: int) -> Iterator[int]:
    """Yield the processes that run as UID."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                yield int(entry.name)


def remove_account(account: str) -> None:
    """Remove an account of the run, its home, and what still runs as it."""
    try:
        uid = pwd.getpwnam(account).pw_uid
    except KeyError:
        return
    for pid in processes_of(uid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(f"the processes of {account} end", lambda: not list(processes_of(uid)))
    run("userdel", "--remove", account)


def remove(path: str) -> None:
    """Remove a file, a link, or a directory with all that is in it; nothing where it is gone."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def put_back(copy: str, path: str) -> None:
    """Make PATH what it was when COPY was made of it: a file, a directory with all that is in it, or nothing."""
    remove(path)
    if os.path.exists(copy):
        run("cp", "--archive", copy, path)


STEPS: dict[str, Callable[..., object]] = {
    "auditctl": lambda *arguments: run("auditctl", *arguments),
    "put back": put_back,
    "remove": remove,
    "remove account": remove_account,
    "stop process": stop_process,
    "sysctl": lambda name, value: run("sysctl", "-q", "-w", f"{name}={value}"),
}


class Undo:
    """The journal; a step is a name in STEPS and its arguments, which JSON can carry."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, step: str, *arguments: str | int) -> None:
        """Write one step down, before the change that it takes back."""
        assert step in STEPS
        with self._path.open("a") as journal:
            journal.write(json.dumps([step, *arguments]) + "\n")

    def take_back(self) -> list[str]:
        """Take all steps back, last one first, and forget them; returns what could not be done."""
        complaints: list[str] = []
        if not self._path.exists():
            return complaints
        for line in reversed(self._path.read_text().splitlines()):
            step, *arguments = json.loads(line)
            try:
                STEPS[step](*arguments)
            except (HostError, OSError) as error:
                complaints.append(f"{step} {arguments}: {error}")
        self._path.unlink(missing_ok=True)
        return complaints
