"""The daemon as a process: real pipes, files, signals and sockets, from its command line to its output."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from audito import checkpoint, daemon, http, watch
from tests.forks import Forked, shared

ROOT = Path(__file__).parent.parent
WAIT_S = float(os.environ.get("TEST_WAIT_S", "15"))
CHUNK_BYTES = 1 << 20
QUIET_S = 0.4
T0 = int(time.time())

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# -- what goes in


def login_line(pid: int, user: str = "alice") -> str:
    """A line of sshd as it comes through a pipe."""
    return (
        f"{pid} Accepted publickey for core from 6.6.6.2 port 59145 ssh2: ECDSA-CERT SHA256:k{pid} "
        f"ID {user}@foo.com (serial 350) CA ED25519 SHA256:ca\n"
    )


def opened(ses: int, pid: int, seq: int, t: int = T0) -> str:
    """The record with which the kernel opens an audit session."""
    return (
        f"type=LOGIN msg=audit({t}.001:{seq}): pid={pid} uid=0 old-auid=4294967295 auid=1000 tty=(none) "
        f"old-ses=4294967295 ses={ses} res=1\n"
        f"type=SYSCALL msg=audit({t}.001:{seq}): arch=c000003e syscall=1 success=yes exit=4 a0=3 a1=7 a2=4 a3=3e8 "
        f"items=0 ppid=1 pid={pid} auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) "
        f'ses={ses} comm="sshd" exe="/usr/sbin/sshd" key=(null)\n'
        f"type=PROCTITLE msg=audit({t}.001:{seq}): proctitle=737368643A\n"
    )


def command(ses: int, seq: int, t: int = T0 + 1) -> str:
    """A command of that session; its only argument is its sequence."""
    return (
        f"type=SYSCALL msg=audit({t}.002:{seq}): arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 "
        f"a3=4 items=0 ppid=1 pid=2 auid=1000 uid=1000 gid=1000 euid=1000 suid=1000 fsuid=1000 egid=1000 sgid=1000 "
        f'fsgid=1000 tty=pts0 ses={ses} comm="echo" exe="/usr/bin/echo" key="user-commands"\n'
        f'type=EXECVE msg=audit({t}.002:{seq}): argc=2 a0="echo" a1="{seq}"\n'
        f"type=PROCTITLE msg=audit({t}.002:{seq}): proctitle=6563686F\n"
    )


def commands(ses: int, first: int, count: int) -> str:
    return "".join(command(ses, seq) for seq in range(first, first + count))


# -- what comes out


def events_of(data: bytes) -> list[dict[str, Any]]:
    """Every line, which must be whole and a JSON object."""
    assert not data or data.endswith(b"\n"), f"a torn last line: {data[-100:]!r}"
    return [json.loads(line) for line in data.splitlines() if line]


def sequences(events: list[dict[str, Any]]) -> list[int]:
    """Of the commands among the events, in the order of the output."""
    return [
        event["metadata"]["extra"]["sequence"]
        for event in events
        if event["type"] == "UserAction" and event["metadata"]["extra"]["action"] == "executed"
    ]


def identities(events: list[dict[str, Any]]) -> set[str]:
    return {event["subjects"]["userID"] for event in events if event["type"] == "UserAction"}


def gaps(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is said of each AuditGap among the events."""
    return [event["metadata"]["extra"] for event in events if event["type"] == "AuditGap"]


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """The first true value of ``condition``; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {what}")
        time.sleep(0.02)


HTTP_FLAGS = ("-healthz", "-metrics", "--http-address", "127.0.0.1:0")


class Running:
    """A daemon and the directory that it lives in: pipes ``sshd`` and ``audit``, output ``out``, state ``state``."""

    def __init__(
        self,
        home: Path,
        flags: list[str],
        environ: dict[str, str] | None = None,
        http_flags: Sequence[str] = HTTP_FLAGS,
        **popen: Any,
    ) -> None:
        self.home = home
        self.log = home / "log"
        self.out = home / "out"
        env = {"PATH": os.environ["PATH"], "NODE_NAME": "blam", "AUDITO_STATE_DIR": str(home / "state")}
        env |= environ or {}
        words = [*http_flags, *flags]
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.process: subprocess.Popen[bytes] | Forked
        if popen or "PYTHONPATH" in env:
            with self.log.open("ab") as stderr:
                argv = [sys.executable, "-m", "audito", *words]
                popen = {"stdin": subprocess.DEVNULL, **popen}
                self.process = subprocess.Popen(argv, cwd=ROOT, env=env, stderr=stderr, **popen)
        else:
            self.process = shared().start(words, env, self.log)

    def log_text(self) -> str:
        """What this run has logged."""
        return self.log.read_bytes()[self._log_start :].decode()

    def said(self, text: str) -> bool:
        return text in self.log_text()

    def port(self) -> int:
        """The port that it serves HTTP on."""
        match = wait_for(lambda: re.search(r" on 127\.0\.0\.1 port (\d+)", self.log_text()), f"HTTP: {self.log_text()}")
        return int(match[1])

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        with socket.create_connection(("127.0.0.1", self.port()), WAIT_S) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: sock.recv(65536), b"")).partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def states(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/readyz")[1]))

    def metric(self, name: str) -> float:
        """The value of one series."""
        text = self.get("/metrics")[1]
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))

    def wait_ready(self) -> None:
        wait_for(lambda: self.get("/readyz")[0] == 200, "ready")

    def write(self, name: str, text: str) -> None:
        """Write to one of the pipes as rsyslog or auditd's plug-in would."""
        with (self.home / name).open("wb") as pipe:
            pipe.write(text.encode())

    def events(self) -> list[dict[str, Any]]:
        """What is in the output file; while it is being written to, whole lines only."""
        data = self.out.read_bytes() if self.out.exists() else b""
        return events_of(data[: data.rfind(b"\n") + 1])

    def wait_sequences(self, expected: list[int]) -> list[dict[str, Any]]:
        """Wait until the commands of the output are exactly these, in order."""
        wait_for(lambda: len(sequences(self.events())) >= len(expected), f"{len(expected)} commands: {self.log_text()}")
        assert sequences(self.events()) == expected
        return self.events()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 5.0) -> int:
        """End it with a signal; returns the exit code. It has 5 s, always."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[..., Running]


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Path:
    for name in ("sshd", "audit"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "log.d").mkdir()
    return tmp_path


@pytest.fixture(name="start")
def _start(home: Path) -> Iterator[Start]:
    running: list[Running] = []

    def start(*flags: str, ready: bool = True, **popen: Any) -> Running:
        run = Running(home, list(flags), **popen)
        running.append(run)
        if ready:
            run.wait_ready()
        return run

    yield start
    for run in running:
        if run.process.poll() is None:
            run.kill()
        assert "internal error" not in run.log_text()
        assert "Traceback" not in run.log_text()


@pytest.fixture(name="pipes")
def _pipes(home: Path) -> list[str]:
    """Flags: both inputs are pipes, the output is a file."""
    flags = ["-sshd-pipe-path", f"{home}/sshd", "-auditd-pipe-path", f"{home}/audit"]
    return [*flags, "--output", f"{home}/out"]


@pytest.fixture(name="files")
def _files(home: Path) -> list[str]:
    """Flags: the audit log is a directory, sshd's lines come through a pipe, the output is a file."""
    return ["-sshd-pipe-path", f"{home}/sshd", "-audit-dir-path", f"{home}/log.d", "--output", f"{home}/out"]


def append(path: Path, text: str) -> None:
    with path.open("ab") as file:
        file.write(text.encode())


# -- the main job


def test_a_login_and_its_commands(start: Start, pipes: list[str]) -> None:
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 3))
    events = run.wait_sequences([2, 3, 4])
    assert events[0]["type"] == "UserLogin"
    assert identities(events) == {"alice@foo.com"}
    assert run.stop() == 0


def test_an_event_is_written_at_once(start: Start, pipes: list[str]) -> None:
    """From the write to the pipe to the read of the file: the half of a hundred takes under 5 ms, with polling here."""
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    waits_ms = []
    with run.out.open("rb") as out, (run.home / "audit").open("wb", buffering=0) as pipe:
        out.seek(0, os.SEEK_END)
        for seq in range(3, 103):
            began = time.monotonic()
            pipe.write(command(7, seq).encode())
            while not out.read():
                assert time.monotonic() < began + WAIT_S
            waits_ms.append(1000 * (time.monotonic() - began))
            time.sleep(0.005)
    assert sorted(waits_ms)[50] < 5


# -- inputs


def test_u04_a_writer_that_closes_the_pipe_does_not_end_it(start: Start, pipes: list[str]) -> None:
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1))
    for seq in range(2, 52):
        run.write("audit", command(7, seq))
    run.wait_sequences(list(range(2, 52)))
    run.write("sshd", login_line(101, "bob"))
    run.write("audit", opened(8, 101, 60) + command(8, 61))
    wait_for(lambda: "bob@foo.com" in identities(run.events()), "the next writer's lines")
    assert run.stop() == 0


def test_u01_a_garbage_line_is_passed_and_copied_to_the_reject_log(start: Start, pipes: list[str], home: Path) -> None:
    run = start(*pipes, "--reject-log", f"{home}/rejected")
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + "no record at all\n\n\x00\xff\n" + command(7, 2))
    run.wait_sequences([2])
    wait_for((home / "rejected").exists, "the reject log")
    wait_for(lambda: (home / "rejected").read_bytes().count(b"\n") == 2, "both lines")
    assert (home / "rejected").read_bytes().startswith(b"no record at all\n")
    assert stat.S_IMODE((home / "rejected").stat().st_mode) == 0o640
    assert run.metric("audito_reject_not_a_record_total") == 2
    (home / "rejected").rename(home / "rejected.old")
    run.process.send_signal(signal.SIGHUP)
    wait_for(lambda: run.said("reopening"), "SIGHUP")
    run.write("audit", "more garbage\n")
    wait_for((home / "rejected").exists, "a new reject log")
    assert run.stop() == 0
    assert (home / "rejected").read_bytes() == b"more garbage\n"


def test_a_reject_log_that_is_a_link_is_not_followed(start: Start, pipes: list[str], home: Path) -> None:
    (home / "victim").write_text("precious\n")
    (home / "rejected").symlink_to(home / "victim")
    run = start(*pipes, "--reject-log", f"{home}/rejected")
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + "garbage\n" + command(7, 2))
    run.wait_sequences([2])
    wait_for(lambda: run.metric("audito_rejected_lines_dropped_total") == 1, "the drop is counted")
    assert run.metric('audito_maldito_errors_total{type="reject_log"}') == 1
    assert (home / "victim").read_text() == "precious\n"
    assert run.stop() == 0


def test_a_flood_of_garbage_does_not_fill_the_disk(start: Start, pipes: list[str], home: Path) -> None:
    run = start(*pipes, "--reject-log", f"{home}/rejected")
    for _ in range(8):
        run.write("audit", ("x" * 1000 + "\n") * 1000)
    wait_for(lambda: run.metric("audito_reject_not_a_record_total") == 8000, "all of it read")
    kept = (home / "rejected").stat().st_size // 1001
    assert kept + run.metric("audito_rejected_lines_dropped_total") == 8000
    assert kept < 4000
    assert run.stop() == 0


def test_u29_ready_when_the_inputs_are_open(start: Start, pipes: list[str], home: Path) -> None:
    (home / "audit").unlink()
    (home / "sshd").unlink()
    (home / "sshd").write_text("no pipe")
    run = start(*pipes, ready=False)
    wait_for(lambda: run.get("/readyz")[0] == 503, "an answer")
    states = run.states()
    assert (states["audit"], states["sshd"], states["output"], states["overall"]) == (
        "not-ready", "not-ready", "ok", "not-ready",
    )  # fmt: skip
    assert f"{home}/audit" in states["reasons"]["audit"]
    assert "regular file" in states["reasons"]["sshd"]
    assert run.get("/livez") == (200, "ok\n")
    assert run.said(f"{home}/audit")
    os.mkfifo(home / "audit")
    wait_for(lambda: run.states()["audit"] == "ok", "the pipe that appeared")
    assert run.get("/readyz")[0] == 503
    (home / "sshd").unlink()
    os.mkfifo(home / "sshd")
    run.wait_ready()
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    assert run.metric('audito_maldito_errors_total{type="source"}') >= 2
    assert run.stop() == 0


def test_a_directory_that_is_not_there_yet(start: Start, files: list[str], home: Path) -> None:
    (home / "log.d").rmdir()
    run = start(*files, ready=False)
    wait_for(lambda: run.said("log.d: No such file"), "the complaint")
    (home / "log.d").mkdir()
    append(home / "log.d/audit.log", opened(7, 100, 1) + command(7, 2))
    run.wait_ready()
    run.write("sshd", login_line(100))
    assert identities(run.wait_sequences([2])) == {"alice@foo.com"}
    assert run.stop() == 0


def test_a_first_start_reads_the_rotated_files_too(start: Start, home: Path) -> None:
    """And sshd's log from as far back: the sessions of the saved records find their logins."""
    logs = home / "log.d"
    append(logs / "audit.log.2", opened(7, 100, 1) + command(7, 2))
    append(logs / "audit.log.1", commands(7, 3, 2))
    append(logs / "audit.log", command(7, 5))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(T0))
    append(home / "secure", f"{stamp} blam sshd[100]: {login_line(100).partition(' ')[2]}")
    run = start("-audit-dir-path", str(logs), "--sshd-log-path", f"{home}/secure", "--output", f"{home}/out")
    assert identities(run.wait_sequences([2, 3, 4, 5])) == {"alice@foo.com"}
    append(logs / "audit.log", command(7, 6))
    run.wait_sequences([2, 3, 4, 5, 6])
    assert run.stop() == 0


def test_standard_input_is_read_to_its_end(start: Start, home: Path) -> None:
    append(home / "records", opened(7, 100, 1) + commands(7, 2, 20_000) + "type=USER_END msg=audit(17")
    append(home / "secure", "")
    flags = ["-auditd-pipe-path", "-", "--sshd-log-path", f"{home}/secure", "--output", f"{home}/out"]
    for stdin in (subprocess.PIPE, (home / "records").open("rb")):
        run = start(*flags, ready=False, stdin=stdin)
        if run.process.stdin is not None:
            run.process.stdin.write((home / "records").read_bytes())
            run.process.stdin.close()
        assert run.process.wait(WAIT_S) == 0
        assert run.said("stopping: end of input")
        assert sequences(run.events()) == list(range(2, 20_002))
        assert identities(run.events()) == {"unknown"}
        run.out.unlink()
        if not isinstance(stdin, int):
            stdin.close()


def test_the_end_of_the_input_waits_for_a_slow_output(start: Start, home: Path) -> None:
    """Only a signal has to be obeyed in time."""
    append(home / "records", opened(7, 100, 1) + commands(7, 2, 500))
    append(home / "secure", "")
    fd = stalled_reader(home)
    flags = ["-auditd-pipe-path", "-", "--sshd-log-path", f"{home}/secure", "--output", f"{home}/out"]
    with (home / "records").open("rb") as stdin:
        run = start(*flags, ready=False, stdin=stdin)
        wait_for(lambda: run.said("stopping: end of input"), "the end of the input")
        time.sleep(daemon.EXIT_MS_MAX / 1000 + 0.5)
        assert run.process.poll() is None
        assert sequences(events_of(read_all(fd, until=501))) == list(range(2, 502))
        assert run.process.wait(WAIT_S) == 0
    os.close(fd)


# -- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_u07_a_signal_ends_it_with_zero(start: Start, pipes: list[str], number: signal.Signals) -> None:
    run = start(*pipes)
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    began = time.monotonic()
    assert run.stop(number) == 0
    assert time.monotonic() - began < 1.5
    # What a pipe gave cannot be read again: what was held for a login line is written.
    assert sequences(run.events()) == [2]
    assert identities(run.events()) == {"unknown"}
    assert run.said(f"stopping: {number.name}")


def test_a_storm_of_signals_is_one(start: Start, pipes: list[str]) -> None:
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 100))
    for _ in range(100):
        run.process.send_signal(signal.SIGHUP)
    run.wait_sequences(list(range(2, 102)))
    with contextlib.suppress(ProcessLookupError):
        for _ in range(100):
            run.process.send_signal(signal.SIGTERM)
            run.process.send_signal(signal.SIGHUP)
    assert run.process.wait(5) == 0
    assert sequences(run.events()) == list(range(2, 102))


def stalled_reader(home: Path) -> int:
    """Makes the output a small pipe and opens it for reading; returns the descriptor, which nobody reads."""
    os.mkfifo(home / "out")
    fd = os.open(home / "out", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)
    return fd


def read_all(fd: int, quiet_s: float = QUIET_S, *, until: int | None = None) -> bytes:
    """What comes until nothing has come for a while. A pipe without a writer reads as ended, and need not be.

    ``until``: it is waited for this command, however long that takes, and for little after it.
    """
    data = b""
    last = b"" if until is None else b'["echo","%d"]' % until
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < (quiet_s if last in data[-CHUNK_BYTES:] else WAIT_S):
        if select.select([fd], [], [], 0.05)[0] and (part := os.read(fd, CHUNK_BYTES // 2)):
            data += part
            quiet_since = time.monotonic()
        else:
            time.sleep(0.01)
    return data


def test_u06_sigterm_with_a_stalled_reader_exits_in_time(start: Start, pipes: list[str], home: Path) -> None:
    """And what it did not take is there after a restart, nothing lost, from the start of a line."""
    fd = stalled_reader(home)
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 200))
    wait_for(lambda: run.states()["output"] == "not-ready", "back-pressure is said")
    began = time.monotonic()
    assert run.stop() == 0
    assert time.monotonic() - began < 5
    assert re.search(r"the output did not take \d+ bytes of events: kept in the state", run.log_text())
    first = read_all(fd)
    run = start(*pipes, ready=False)
    wait_for(lambda: run.said("reading audit"), "the start")
    second = read_all(fd, until=201)
    assert run.stop() == 0
    torn = first[first.rfind(b"\n") + 1 :]
    assert second.startswith(b"\n") == bool(torn), "a line that was cut is ended, and comes again"
    events = events_of(first[: len(first) - len(torn)]) + events_of(second)
    assert sequences(events) == list(range(2, 202))
    os.close(fd)


@contextlib.contextmanager
def flooded(pipe: Path) -> Iterator[None]:
    """Somebody who writes records as fast as they are read."""
    over = threading.Event()
    text = commands(8, 2, 100).encode()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb", 0) as file:
            while not over.is_set():
                file.write(text)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # whoever waits for a reader goes on
        writer.join()


@needs_root
def test_u06_every_state_ends_in_time(home: Path, disk: Path) -> None:
    """All that can keep a daemon from its end, at once: a stop has 5 s and gives 0."""
    os.mkfifo(home / "nobody")
    append(home / "log.d/audit.log", opened(7, 100, 1) + commands(7, 2, 5000))
    append(home / "secure", "")
    log = ["--sshd-log-path", f"{home}/secure", "-audit-dir-path", f"{home}/log.d"]
    states = {
        "a pipe without a reader": [*log, "--output", f"{home}/nobody", "--join-window", "1s"],
        "a full disk": [*log, "--output", f"{disk}/out", "--join-window", "1s"],
        "no input": ["-audit-dir-path", f"{home}/nowhere", "--output", f"{home}/out-2"],
        "waiting for a login line": [*log, "--output", f"{home}/out-3", "--join-window", "1h"],
        "a flood": [*log[:2], "-auditd-pipe-path", f"{home}/audit", "--output", f"{home}/out-4"],
    }
    runs: list[Running] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(flooded(home / "audit"))
        for number, flags in enumerate(states.values()):
            (home / str(number)).mkdir()
            runs.append(Running(home / str(number), flags))
            stack.callback(runs[-1].kill)
        wait_for(lambda: [run.states()["output"] for run in runs[:2]] == ["not-ready"] * 2, "back-pressure")
        wait_for(lambda: runs[3].metric("audito_held_events") > 0, "what waits")
        wait_for(lambda: runs[4].metric("audito_audit_read_bytes_total") > 1 << 20, "the flood")
        for run in runs:
            run.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        for state, run in zip(states, runs, strict=True):
            assert run.process.wait(max(deadline - time.monotonic(), 0)) == 0, state


def test_u06_without_a_state_it_exits_in_time_too(start: Start, pipes: list[str], home: Path) -> None:
    fd = stalled_reader(home)
    run = start(*pipes, "--state-dir", "/proc/nowhere")
    assert run.said("running without a state directory")
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 200))
    wait_for(lambda: run.states()["output"] == "not-ready", "back-pressure is said")
    assert run.stop() == 0
    assert re.search(r"the output did not take \d+ bytes of events: they are lost", run.log_text())
    os.close(fd)


def test_u06_a_stopped_process_that_reads_stdout(start: Start, pipes: list[str]) -> None:
    """F12: a reader that was sent SIGSTOP; standard output is a pipe that others could have, too."""
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        run = start(*pipes, "--output", "-", ready=False, stdout=reader.stdin)
        wait_for(lambda: run.said("reading audit"), "the start")
        run.write("sshd", login_line(100))
        writer = threading.Thread(target=run.write, args=("audit", opened(7, 100, 1) + commands(7, 2, 2000)))
        writer.start()
        wait_for(lambda: run.states()["output"] == "not-ready", "back-pressure is said")
        assert run.stop() == 0
        writer.join()
        reader.kill()


def test_u06_u07_a_stalled_disk_does_not_keep_it_alive(start: Start, pipes: list[str], home: Path) -> None:
    """A system call that never returns: the guard ends the process, whatever the loop is stuck in."""
    (home / "hang.py").write_text(
        "import os, sys, time\n"
        "from audito import checkpoint, cli\n"
        "checkpoint.save = lambda *args: time.sleep(3600)\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    environ = {**os.environ, "AUDITO_STATE_DIR": f"{home}/state", "PYTHONPATH": str(ROOT)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, str(home / "hang.py"), *pipes], env=environ, stderr=log, cwd=home)
    wait_for(lambda: b"reading audit" in (home / "log").read_bytes(), "the start")
    with (home / "audit").open("wb") as pipe:
        pipe.write(command(7, 1).encode())
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


# -- outputs


def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    path.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, b"size=128k,mode=700") != 0:
        pytest.skip(f"cannot mount a tmpfs here: {os.strerror(ctypes.get_errno())}")
    try:
        yield path
    finally:
        assert libc.umount2(str(path).encode(), 2) == 0


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    yield from small_disk(tmp_path / "disk")


@needs_root
def test_u05_a_full_disk_is_waited_for(start: Start, pipes: list[str], disk: Path) -> None:
    run = start(*pipes, "--output", f"{disk}/out")
    (disk / "ballast").write_bytes(bytes(100 << 10))
    run.out = disk / "out"
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 200))
    wait_for(lambda: run.states()["output"] == "not-ready", "back-pressure is said")
    assert run.get("/readyz")[0] == 503
    assert run.get("/livez")[0] == 200
    whole = run.out.read_bytes()
    assert sequences(events_of(whole)) == list(range(2, 2 + len(sequences(events_of(whole))))), "no half line is left"
    assert len(events_of(whole)) < 200
    (disk / "ballast").unlink()
    run.wait_sequences(list(range(2, 2 + len(sequences(run.events())))))
    wait_for(lambda: len(run.events()) > len(events_of(whole)), "it goes on", 5)
    # The disk is full again; what is rotated away makes room, and what was not written comes with the new file.
    kept = b""
    while len(sequences(events_of(kept) + run.events())) < 200:
        kept += run.out.read_bytes()
        run.out.unlink()
        wait_for(lambda: run.out.exists() and run.out.stat().st_size, "a new file")
        time.sleep(2.5)
    assert sequences(events_of(kept) + run.events()) == list(range(2, 202))
    run.wait_ready()
    assert run.stop() == 0


@needs_root
def test_u05_a_full_state_directory_stops_nothing(start: Start, pipes: list[str], disk: Path) -> None:
    (disk / "ballast").write_bytes(bytes(120 << 10))
    run = start(*pipes, "--state-dir", f"{disk}/state")
    with contextlib.suppress(OSError):
        (disk / "more").write_bytes(bytes(20 << 10))
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 100))
    run.wait_sequences(list(range(2, 102)))
    wait_for(lambda: run.metric('audito_maldito_errors_total{type="state"}') > 0, "the error is counted", 8)
    assert run.said("No space left on device")
    (disk / "ballast").unlink()
    (disk / "more").unlink()
    wait_for(lambda: run.metric("audito_checkpoints_total") > 0, "checkpoints again", 8)
    assert run.stop() == 0
    assert checkpoint.load(f"{disk}/state") is not None


def test_u05_a_reader_that_goes_away(start: Start, pipes: list[str], home: Path) -> None:
    """Every reader gets whole lines; what no reader took is kept for the next."""
    os.mkfifo(home / "out")
    run = start(*pipes, ready=False)
    wait_for(lambda: run.states()["output"] == "not-ready", "no reader is said")
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1))
    events: list[dict[str, Any]] = []
    for batch in range(2):
        run.write("audit", commands(7, 2 + 50 * batch, 50))
        wait_for(lambda: run.metric("audito_output_pending_bytes") > 0, "events that wait for a reader")
        fd = os.open(home / "out", os.O_RDONLY | os.O_NONBLOCK)
        events += events_of(read_all(fd, until=51 + 50 * batch))
        os.close(fd)
    # One that takes a part of what is there, and leaves: the next gets the rest from the start of a line.
    fd = os.open(home / "out", os.O_RDONLY | os.O_NONBLOCK)
    run.write("audit", commands(7, 102, 50))
    wait_for(lambda: select.select([fd], [], [], 0)[0], "something to read")
    wait_for(lambda: run.metric("audito_output_pending_bytes") == 0, "all of it in the pipe")
    part = os.read(fd, 1000)
    os.close(fd)
    events += events_of(part[: part.rfind(b"\n") + 1])
    wait_for(lambda: run.metric("audito_output_pending_bytes") > 0, "it is noticed, at one of the looks once a second")
    fd = os.open(home / "out", os.O_RDONLY | os.O_NONBLOCK)
    events += events_of(read_all(fd, until=151))
    os.close(fd)
    assert sorted(set(sequences(events))) == list(range(2, 152))
    assert events[0]["type"] == "UserLogin"
    assert run.stop() == 0


def test_f13_what_a_reader_that_left_had_not_read_survives_a_restart(
    start: Start, pipes: list[str], home: Path
) -> None:
    os.mkfifo(home / "out")
    fd = os.open(home / "out", os.O_RDONLY | os.O_NONBLOCK)
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 50))
    wait_for(lambda: run.metric("audito_sessions") == 1, "the session")
    time.sleep(0.2)
    part = os.read(fd, 1000)
    os.close(fd)
    assert run.stop() == 0
    assert run.said("kept in the state")
    run = start(*pipes, ready=False)
    fd = os.open(home / "out", os.O_RDONLY | os.O_NONBLOCK)
    events = events_of(part[: part.rfind(b"\n") + 1]) + events_of(read_all(fd, until=51))
    os.close(fd)
    assert sequences(events) == list(range(2, 52))
    assert run.stop() == 0


def test_f01_a_line_that_a_kill_broke_off_in_a_pipe_is_ended_by_the_next_process(
    start: Start, files: list[str], home: Path
) -> None:
    """The reader stays: it has the start of a line, and would have the next event behind it."""
    fd = stalled_reader(home)
    run = start(*files)
    run.write("sshd", login_line(100))
    append(home / "log.d/audit.log", opened(7, 100, 1) + commands(7, 2, 1000))
    wait_for(lambda: run.states()["output"] == "not-ready", "the pipe is full")
    run.kill()
    start_of_it = read_all(fd)
    assert not start_of_it.endswith(b"\n")
    run = start(*files, ready=False)
    run.write("sshd", login_line(100))  # a pipe gives nothing twice
    data = start_of_it + read_all(fd, 1.5)
    os.close(fd)
    torn = [line for line in data.splitlines() if line and not line.endswith(b"}")]
    assert torn == start_of_it.splitlines()[-1:]
    whole = [line for line in data.splitlines(keepends=True) if line.strip() and line.rstrip() not in torn]
    assert any(line.startswith(torn[0]) for line in whole)
    assert sorted(set(sequences(events_of(b"".join(whole))))) == list(range(2, 1002))
    assert run.stop() == 0


def test_back_pressure_keeps_memory_flat_and_loses_nothing(start: Start, files: list[str], home: Path) -> None:
    """10 MB of events for a reader that does not read yet: the log directory is the buffer."""
    fd = stalled_reader(home)
    run = start(*files)
    run.write("sshd", login_line(100))
    append(home / "log.d/audit.log", opened(7, 100, 1))
    for first in range(2, 20_002, 1000):
        append(home / "log.d/audit.log", commands(7, first, 1000))
    wait_for(lambda: run.states()["output"] == "not-ready", "back-pressure is said")
    time.sleep(1.5)
    assert run.metric("audito_audit_read_bytes_total") < 5 << 20
    assert run.metric("process_resident_memory_bytes") < 64 << 20
    assert sequences(events_of(read_all(fd, until=20_001))) == list(range(2, 20_002))
    os.close(fd)
    assert run.stop() == 0


def test_sshd_is_read_while_audit_waits_for_logins(start: Start, files: list[str], home: Path) -> None:
    """More is held for a login line than may be held: the audit source pauses, the line comes, all is written."""
    run = start(*files, "--join-window", "1h")  # T0 is that of the first test: minutes ago in a whole run
    count = 70_000
    append(home / "log.d/audit.log", opened(7, 100, 1) + commands(7, 2, count))
    wait_for(lambda: run.metric("audito_audit_paused") == 1, "the pause", 40)
    read = run.metric("audito_audit_read_bytes_total")
    assert read < (home / "log.d/audit.log").stat().st_size
    time.sleep(1.2)
    assert run.metric("audito_audit_read_bytes_total") == read
    run.write("sshd", login_line(100))
    wait_for(lambda: run.metric("audito_audit_read_bytes_total") > read, "reading on")
    events = run.wait_sequences(list(range(2, count + 2)))
    assert identities(events) == {"alice@foo.com"}
    assert run.stop() == 0


def test_u28_output_is_made_0640_and_opened_again(start: Start, pipes: list[str], home: Path) -> None:
    run = start(*pipes)
    assert stat.S_IMODE((home / "out").stat().st_mode) == 0o640
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    (home / "out").rename(home / "out.1")
    wait_for((home / "out").exists, "a new file after the rotation")
    run.write("audit", command(7, 3))
    run.wait_sequences([3])
    (home / "out").rename(home / "out.2")
    run.process.send_signal(signal.SIGHUP)
    wait_for((home / "out").exists, "a new file after SIGHUP")
    run.write("audit", command(7, 4))
    run.wait_sequences([4])
    assert stat.S_IMODE((home / "out").stat().st_mode) == 0o640
    assert run.stop() == 0
    assert sequences(events_of((home / "out.1").read_bytes())) == [2]


def test_u28_output_does_not_follow_a_link(start: Start, pipes: list[str], home: Path) -> None:
    (home / "victim").write_text("precious\n")
    (home / "out").symlink_to(home / "victim")
    run = start(*pipes, ready=False)
    wait_for(lambda: run.states()["output"] == "not-ready", "the refusal")
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    time.sleep(0.5)
    assert (home / "victim").read_text() == "precious\n"
    (home / "out").unlink()
    run.wait_sequences([2])
    run.wait_ready()
    assert (home / "victim").read_text() == "precious\n"
    assert run.stop() == 0


def test_an_output_that_is_a_directory_ends_it(start: Start, pipes: list[str], home: Path) -> None:
    (home / "out").mkdir()
    run = start(*pipes, ready=False)
    assert run.process.wait(WAIT_S) == 1
    assert run.said(f"audito: output {home}/out: is a directory")


def test_without_a_reader_of_stdout_there_is_nothing_to_wait_for(start: Start, pipes: list[str]) -> None:
    read_fd, write_fd = os.pipe()
    run = start(*pipes, "--output", "-", ready=False, stdout=write_fd)
    os.close(write_fd)
    wait_for(lambda: run.said("reading audit"), "the start")
    os.close(read_fd)
    run.write("sshd", login_line(100))
    assert run.process.wait(WAIT_S) == 1
    assert run.said("the reader of standard output went away")


def test_u05_a_torn_last_line_is_cut_at_the_start(start: Start, pipes: list[str], home: Path) -> None:
    whole = b'{"metadata":{"auditId":"1"},"type":"UserLogin"}\n'
    (home / "out").write_bytes(whole + whole[:20])
    run = start(*pipes)
    assert (home / "out").read_bytes() == whole
    assert run.stop() == 0


# -- HTTP


def test_u30_http_is_for_this_host_alone(start: Start, pipes: list[str]) -> None:
    """Without an address it listens on 127.0.0.1; with one, there."""
    run = start(*pipes)
    inodes = {os.readlink(path) for path in Path(f"/proc/{run.process.pid}/fd").iterdir()}
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.append(fields[1])
    assert listening == [f"0100007F:{run.port():04X}"]


def test_u30_logins_and_errors_are_counted(start: Start, pipes: list[str], home: Path) -> None:
    run = start(*pipes, "-audit-metrics", "-audit-dir-path", f"{home}/log.d", "-audit-seconds-interval", "100ms")
    wait_for(lambda: run.metric('audito_maldito_errors_total{type="source"}') > 0, "no audit.log is an error")
    append(home / "log.d/audit.log", "x")
    wait_for(lambda: "audito_maldito_audit_log_modify_time 1." in run.get("/metrics")[1], "its time")
    assert run.metric('audito_maldito_audit_log_check{threshold_time_in_seconds="86400"}') == 1
    run.write("sshd", login_line(100))
    wait_for(lambda: run.metric("audito_sshd_lines_total") == 1, "the line is counted")
    assert run.metric('audito_maldito_remote_logins_total{method="ssh-cert",outcome="success"}') == 1
    assert run.metric('audito_maldito_remote_logins_total{method="ssh-key",outcome="success"}') == 0
    assert run.stop() == 0


def test_how_far_behind_it_is(start: Start, files: list[str], home: Path) -> None:
    """An output that takes nothing, with records in the log that are two hours old: then both are caught up with."""
    os.mkfifo(home / "slow")
    reader = os.open(home / "slow", os.O_RDONLY | os.O_NONBLOCK)
    flags = [*files[:-1], f"{home}/slow"]
    hours_ago = int(time.time()) - 7200
    run = start(*flags)
    lag, waiting = 'audito_source_lag_seconds{source="audit"}', 'audito_source_waiting_bytes{source="audit"}'
    assert run.metric(lag) == run.metric(waiting) == 0
    assert run.metric('audito_latency_seconds_count{source="audit"}') == 0
    run.write("sshd", login_line(100))
    log = home / "log.d" / "audit.log"
    append(log, opened(7, 100, 1, hours_ago) + "".join(command(7, seq, hours_ago) for seq in range(10, 4010)))
    wait_for(lambda: run.metric("audito_output_pending_bytes") > 0, "a full pipe")
    append(log, "".join(command(7, seq, hours_ago) for seq in range(5000, 5100)))
    assert run.metric(waiting) > 10_000
    assert 7190 < run.metric(lag) < 7300
    os.set_blocking(reader, True)
    os.read(reader, 1)
    drain = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reader, 65536), b"")], daemon=True)
    drain.start()
    wait_for(lambda: run.metric(waiting) == 0 and run.metric("audito_output_pending_bytes") == 0, "all is read")
    assert run.metric(lag) == 0
    assert run.metric('audito_latency_seconds_sum{source="audit"}') > 7000
    wait_for(lambda: run.metric("audito_checkpoint_age_ms") < 5000, "a young checkpoint")
    assert run.stop() == 0
    os.close(reader)


@needs_root
def test_the_kernels_own_figures_are_told(start: Start, pipes: list[str]) -> None:
    status = subprocess.run(["auditctl", "-s"], capture_output=True, text=True, check=False).stdout
    limit = re.search(r"^backlog_limit (\d+)$", status, re.MULTILINE)
    if limit is None:
        pytest.skip(f"the kernel does not answer here: {status}")
    run = start(*pipes)
    wait_for(lambda: "\naudito_kernel_backlog_limit " in run.get("/metrics")[1], "the kernel's answer")
    assert run.metric("audito_kernel_backlog_limit") == int(limit[1])
    assert run.metric("audito_kernel_lost_total") >= 0
    user = start(*pipes[:-1], f"{run.home}/out2", "--user", "nobody", "--state-dir", f"{run.home}/state2")
    assert [user.get("/metrics")[1].count("audito_kernel_") for _ in range(2)] == [0, 0], "with the privilege given up"


def test_f31_http_that_is_abused_locks_out_nobody(start: Start, pipes: list[str]) -> None:
    run = start(*pipes)
    address = ("127.0.0.1", run.port())
    fds = Path(f"/proc/{run.process.pid}/fd")
    fds_before = len(list(fds.iterdir()))
    idle = [socket.create_connection(address, WAIT_S) for _ in range(60)]
    for sock in idle:
        with contextlib.suppress(OSError):
            sock.sendall(b"GET /re")
    assert run.get("/readyz")[0] == 200
    assert len(list(fds.iterdir())) <= fds_before + http.HTTP_CONNECTION_COUNT_MAX
    flood = socket.create_connection(address, WAIT_S)
    with contextlib.suppress(OSError):
        for _ in range(1000):
            flood.sendall(b"x" * 65536)
    flood.close()
    for junk in (b"\x16\x03\x01\x02\x00", b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", bytes(range(256)) * 16):
        with socket.create_connection(address, WAIT_S) as sock, contextlib.suppress(OSError):
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(100)
    began = time.monotonic()
    assert run.get("/livez") == (200, "ok\n")
    assert time.monotonic() - began < 1
    # Those that say nothing are dropped after -http-server-read-timeout, 1 s.
    time.sleep(1.5)
    for sock in idle:
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
        sock.close()
    assert run.metric("audito_http_refused_total") >= 60
    assert len(list(fds.iterdir())) <= fds_before + 1
    assert run.stop() == 0


def test_a_port_in_use_is_told_and_stops_nothing(start: Start, pipes: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        run = start(*pipes, "--http-address", f"127.0.0.1:{sock.getsockname()[1]}", ready=False)
        wait_for(lambda: run.said("cannot listen on 127.0.0.1"), "the complaint")
        wait_for(lambda: run.said("reading audit"), "the start")
        run.write("sshd", login_line(100))
        wait_for(lambda: len(run.events()) == 1, "the login")
    wait_for(lambda: run.said("serving"), "the port is free again")
    assert run.get("/readyz")[0] == 200
    assert run.stop() == 0


# -- privileges


@needs_root
def test_it_goes_on_as_another_user(start: Start, files: list[str], home: Path) -> None:
    """After a rotation, a new log of root's alone is read, and state and output are written, without root."""
    for path in (home, *home.parents):
        if path == Path("/tmp"):
            break
        path.chmod(0o755)
    logs = home / "log.d"
    logs.chmod(0o700)
    append(logs / "audit.log", "")
    (logs / "audit.log").chmod(0o600)
    run = start(*files, "--user", "nobody", "--reject-log", f"{home}/rejected")
    status = Path(f"/proc/{run.process.pid}/status").read_text()
    assert re.search(r"^CapEff:\t0000000000000004$", status, re.MULTILINE)
    assert not re.search(r"^Uid:.*\b0\b", status, re.MULTILINE)
    assert re.search(r"^Umask:\t0077$", status, re.MULTILINE)
    run.write("sshd", login_line(100))
    append(logs / "audit.log", opened(7, 100, 1) + command(7, 2) + "garbage\n")
    run.wait_sequences([2])
    (logs / "audit.log").rename(logs / "audit.log.1")
    append(logs / "audit.log", command(7, 3))
    (logs / "audit.log").chmod(0o600)
    run.wait_sequences([2, 3])
    wait_for(lambda: (home / "rejected").stat().st_size, "the reject log")
    assert run.stop() == 0
    owners = {path.name: path.owner() for path in [home / "out", home / "rejected", *(home / "state").iterdir()]}
    assert owners == dict.fromkeys(("out", "rejected", "state", "state.1", "lock"), "nobody")
    append(logs / "audit.log", command(7, 4))
    run = start(*files, "--user", "nobody")
    assert identities(run.wait_sequences([2, 3, 4])) == {"alice@foo.com"}
    assert run.stop() == 0


def test_a_user_that_there_is_not_ends_it(start: Start, pipes: list[str]) -> None:
    run = start(*pipes, "--user", "no-such-user", ready=False)
    assert run.process.wait(WAIT_S) == 1
    assert run.said("audito: --user no-such-user: there is no such user")


# -- parts


def test_what_sshd_wrote_and_nobody_knows_is_counted_and_told(home: Path, start: Start, pipes: list[str]) -> None:
    run = start(*pipes)
    run.write("sshd", "".join(f"{pid} an odd \x1b[31mthing of {pid} words\n" for pid in range(1, 41)))
    run.write("sshd", "".join(f"7 unheard {chr(97 + number)}\n" for number in range(20)))
    wait_for(lambda: run.metric("audito_sshd_unmatched_lines_total") == 60, "60 lines counted")
    wait_for(lambda: run.log_text().count("does not know") == 10, f"ten samples: {run.log_text()}")
    time.sleep(1.2)  # a tick
    assert run.log_text().count("does not know") == 10
    assert run.log_text().count("an odd") == 1
    assert r"sshd wrote what audito does not know: an odd \x1b[*mthing of * words (" in run.log_text()
    assert "\x1b" not in run.log_text()
    assert run.stop() == 0


def test_the_same_trouble_is_told_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = 0
    monkeypatch.setattr(watch, "monotonic_ms", lambda: now_ms)
    caplog.set_level("INFO")
    complaints = watch.Complaints()
    for now_ms in range(0, 60_000, 1000):  # noqa: B007  # it is the clock
        complaints.trouble("audit-pipe", "gone")
    assert caplog.messages == ["audit-pipe: gone"]
    now_ms = 60_000
    complaints.trouble("audit-pipe", "gone")
    complaints.trouble("audit-pipe", "no permission")
    complaints.over("audit-pipe")
    complaints.over("audit-pipe")
    complaints.trouble("audit-pipe", "gone")
    assert caplog.messages[1:] == [
        "audit-pipe: gone",
        "audit-pipe: no permission",
        "audit-pipe: works again",
        "audit-pipe: gone",
    ]


def test_listening_on_all_addresses() -> None:
    with http.listen("", 0) as sock:
        port = sock.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            try:
                socket.create_connection((host, port), 5).close()
            except OSError as exc:
                assert (host, exc.errno) in (("::1", errno.EADDRNOTAVAIL), ("::1", errno.EAFNOSUPPORT))
    with http.listen("::1", 0) if socket.has_dualstack_ipv6() else http.listen("127.0.0.1", 0) as sock:
        socket.create_connection(sock.getsockname()[:2], 5).close()
