"""A small world for the daemon under test: inputs that grow, what has to come out, and faults between it and libc."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sources.journals import Journal
from tests.test_daemon import T0, command, events_of, login_line, opened

ROOT = Path(__file__).parent.parent.parent
BOOT = "01234567-89ab-cdef-0123-456789abcdef"
COMMANDS = 3
"""Of a session, beside the record that opens it: the kernel's serials go on without a hole."""

WAIT_S = float(os.environ.get("TEST_WAIT_S", "15"))


def compile_shim(directory: Path) -> Path:
    """The library of shim.c, for LD_PRELOAD; skips the test where nothing compiles."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = directory / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def control_group(*files: str) -> Iterator[Path]:
    """A control group of our own, removed afterwards; gives the first of these files that there is in it.

    ``files``: of version 2, and with its controller of version 1. Skips the test where neither can be had.
    """
    for file in files:
        controller, _, name = file.rpartition("/")
        path = Path("/sys/fs/cgroup", controller, f"audito-test-{os.getpid()}")
        with contextlib.suppress(OSError):
            path.mkdir()
            if (path / name).exists():
                yield path / name
                path.rmdir()
                return
            path.rmdir()
    pytest.skip(f"no control group with {' or '.join(files)} can be made here")


class World:
    """An audit log, sshd's lines in the journal or in a syslog file, an output, and daemons one after the other.

    ``sshd``: "journal" or "syslog". ``sessions``: how many were begun.
    """

    def __init__(self, home: Path, sshd: str = "syslog", shim: Path | None = None) -> None:
        self.home, self.shim = home, shim
        self.out, self.log, self.audit = home / "out", home / "log", home / "log.d/audit.log"
        self.sessions = 0
        (home / "log.d").mkdir()
        self.audit.touch()
        self._journal = Journal(home / "journal", start_us=T0 * 1_000_000) if sshd == "journal" else None
        self.flags = ["-audit-dir-path", f"{home}/log.d", "--output", f"{home}/out", "--state-dir", f"{home}/state"]
        if self._journal:
            self.flags += ["--journal-dir", f"{home}/journal"]
            self._journal.append(b"Server listening on 0.0.0.0 port 22.")
        else:
            self.flags += ["--sshd-log-path", f"{home}/auth.log"]
            (home / "auth.log").touch()

    def tell(self, number: int) -> None:
        """sshd's line of a session."""
        pid = 1000 + number
        message = login_line(pid, f"user{number}").partition(" ")[2].rstrip("\n")
        if self._journal:
            self._journal.append(message.encode(), _PID=str(pid))
        else:
            when = time.strftime("%Y-%m-%dT%H:%M:%S.000100+00:00", time.gmtime(T0 + number))
            with (self.home / "auth.log").open("a") as file:
                file.write(f"{when} blam sshd[{pid}]: {message}\n")

    def log_in(self, *, told: bool = True) -> None:
        """One more session: sshd's line, unless tell() is called later, the record that opens it, and its commands."""
        number = self.sessions
        self.sessions += 1
        if told:
            self.tell(number)
        first = first_serial(number)
        text = opened(number + 1, 1000 + number, first, T0 + number)
        text += "".join(command(number + 1, first + 1 + n, T0 + number) for n in range(COMMANDS))
        with self.audit.open("a") as file:
            file.write(text)

    @property
    def expected(self) -> Counter[tuple[str, int, str]]:
        """Type, sequence (-1 of a login) and who, of every event."""
        who = [f"user{number}@foo.com" for number in range(self.sessions)]
        logins = [("UserLogin", -1, name) for name in who]
        acts = [("UserAction", first_serial(n) + s, name) for n, name in enumerate(who) for s in range(COMMANDS + 1)]
        return Counter(logins + acts)

    def start(self, *flags: str, **faults: object) -> subprocess.Popen[bytes]:
        """``python -m audito`` on this world; faults as shim.c knows them, in lower case and without FAULT_."""
        environment = {"PATH": os.environ["PATH"], "NODE_NAME": "blam"}
        if faults:
            assert self.shim is not None
            environment |= {"LD_PRELOAD": str(self.shim), "FAULT_UNDER": str(self.home)}
            environment |= {f"FAULT_{name.upper()}": str(value) for name, value in faults.items()}
        argv = [sys.executable, "-m", "audito", "--boot-id", BOOT, *self.flags, *flags]
        with self.log.open("ab") as said:
            return subprocess.Popen(argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def data(self) -> bytes:
        return self.out.read_bytes() if self.out.exists() else b""

    def run_until_written(self, process: subprocess.Popen[bytes], *, limit_s: float = WAIT_S) -> int:
        """Let it write all that there is, then stop it; returns its exit code, -SIGKILL where a fault killed it."""
        deadline = time.monotonic() + limit_s
        while process.poll() is None and self.data().count(b"\n") < self.expected.total():
            assert time.monotonic() < deadline, f"{len(self.data())} bytes: {self.log.read_text()[-2000:]}"
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        return process.wait(5)

    def check(self, events: Iterable[dict[str, Any]] | None = None) -> None:
        """Nothing lost, nothing twice, nothing given to another."""
        got = Counter(map(name_of, events_of(self.data()) if events is None else events))
        lost, more = self.expected - got, got - self.expected
        assert not lost, f"lost: {sorted(lost.items())[:5]}; {self.log.read_text()[-2000:]}"
        assert not more, f"doubled or wrong: {sorted(more.items())[:5]}; {self.log.read_text()[-2000:]}"
        said = self.log.read_text()
        assert "Traceback" not in said
        assert "internal error" not in said


def first_serial(number: int) -> int:
    """Of a session's records."""
    return 1 + (COMMANDS + 1) * number


def name_of(event: dict[str, Any]) -> tuple[str, int, str]:
    """As World.expected has it."""
    extra = event["metadata"].get("extra", {})
    return event["type"], extra.get("sequence", -1), event.get("subjects", {}).get("userID", "")
