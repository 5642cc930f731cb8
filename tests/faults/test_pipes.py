"""Faults by number of named pipes, of readers that stand still, of HTTP, and of memory: the daemon as it is run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import memory_mib
from tests.faults.world import control_group
from tests.test_daemon import (  # noqa: F401  # the fixtures
    Start,
    _files,
    _home,
    _pipes,
    _start,
    append,
    command,
    commands,
    events_of,
    gaps,
    identities,
    login_line,
    needs_root,
    opened,
    sequences,
    wait_for,
)

TORTURE = int(os.environ.get("AUDITO_TORTURE", "0"))
"""Above 0, as ``make torture`` sets it: so many times as much of each."""


def test_f12_a_reader_that_is_stopped_and_goes_on(start: Start, files: list[str], home: Path) -> None:
    """cat is sent SIGSTOP while 6 MB of events come, then SIGCONT: all is there, once, and memory stayed flat."""
    os.mkfifo(home / "out")
    with (home / "read").open("wb") as copy, subprocess.Popen(["cat", home / "out"], stdout=copy) as cat:
        run = start(*files)
        run.write("sshd", login_line(100))
        append(home / "log.d/audit.log", opened(7, 100, 1) + command(7, 2))
        wait_for(lambda: (home / "read").read_bytes().count(b"\n") == 3, "cat has the first")
        cat.send_signal(signal.SIGSTOP)
        append(home / "log.d/audit.log", commands(7, 3, 15_000))
        wait_for(lambda: run.states()["output"] == "not-ready", "back-pressure is said")
        time.sleep(1 + 60 * bool(TORTURE))
        assert memory_mib(run.process.pid) < 64
        cat.send_signal(signal.SIGCONT)
        wait_for(lambda: (home / "read").read_bytes().count(b"\n") == 15_003, "all", 20)
        run.wait_ready()
        cat.send_signal(signal.SIGSTOP)
        assert run.stop() == 0
        cat.send_signal(signal.SIGCONT)
        assert cat.wait(5) == 0
    assert sequences(events_of((home / "read").read_bytes())) == list(range(2, 15_003))


def whole_events(data: bytes) -> list[dict[str, Any]]:
    """Of what one reader got: without its last line, where that is torn, and its first, where somebody else has its start.

    One that opened the pipe just when audito saw the one before it go finds the start of the line at which that was, and
    behind it whole ones again. Nothing else may be broken.
    """
    start = 0 if data.startswith((b"{", b"\n")) else data.find(b"\n") + 1
    lines = data[start : data.rfind(b"\n") + 1]
    again = [match.start() for match in re.finditer(rb'(?<=[^\n]){"metadata":', lines)]
    assert len(again) <= 1
    for at in again:
        begin = lines.rfind(b"\n", 0, at) + 1
        assert lines.startswith(b'{"metadata":', begin)
        lines = lines[:begin] + lines[at:]
    return events_of(lines)


def test_f13_readers_come_and_go(start: Start, files: list[str], home: Path) -> None:
    """Each reads a little and leaves; the last one stays.

    The kernel tells a writer that the reader left only as long as there is no other one: the line that two of them share
    is what can be lost, one at each change.
    """
    os.mkfifo(home / "out")
    run = start(*files, ready=False)
    run.write("sshd", login_line(100))
    append(home / "log.d/audit.log", opened(7, 100, 1) + commands(7, 2, 3000))
    got: set[int] = set()
    changes = 25 * (1 + TORTURE)
    for number in range(changes):
        fd = os.open(home / "out", os.O_RDONLY | os.O_NONBLOCK)
        time.sleep(0.05)
        with contextlib.suppress(BlockingIOError):
            data = os.read(fd, 1 + 977 * number)
            got.update(sequences(whole_events(data)))
        os.close(fd)
    with (home / "read").open("wb") as copy, subprocess.Popen(["cat", home / "out"], stdout=copy) as cat:
        wait_for(lambda: run.metric("audito_output_pending_bytes") == 0, "all is out", 30)
        wait_for(lambda: b'"3001"' in (home / "read").read_bytes(), "and read")
        assert run.stop() == 0
        assert cat.wait(5) == 0
    got.update(sequences(whole_events((home / "read").read_bytes())))
    assert got <= set(range(2, 3002))
    assert len(got) >= 3000 - changes


def test_f14_writers_that_come_and_go_and_glue_their_records(start: Start, pipes: list[str], home: Path) -> None:
    """A writer that dies in the middle of a record: that one is counted or incomplete, the next lines are whole."""
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1))
    rounds = 30 * (1 + TORTURE)
    for number in range(rounds):
        run.write("audit", "type=PATH msg=audit(1700000000.001:99")
        run.write("audit", "\n" + command(7, 2 + number))
    run.write("audit", 'type=EXECVE msg=audit(1700000000.001:99): argc=1 a0="ro')
    run.write("audit", command(7, 2 + rounds) + command(7, 3 + rounds))
    wait_for(lambda: 3 + rounds in sequences(run.events()), "the last command")
    found = sequences(run.events())
    assert found[:rounds] == list(range(2, 2 + rounds))
    assert run.metric("audito_reject_bad_stamp_total") >= rounds
    assert identities(run.events()) == {"alice@foo.com"}
    assert run.stop() == 0


def test_f29_a_burst_is_read_through(start: Start, files: list[str], home: Path) -> None:
    """What the kernel and auditd write in a second on a busy host, at once: 10,000 events (100,000 at full size)."""
    run = start(*files)
    count = 100_000 if TORTURE else 10_000
    run.write("sshd", login_line(100))
    append(home / "log.d/audit.log", opened(7, 100, 1) + commands(7, 2, count))
    wait_for(lambda: run.out.read_bytes().count(b"\n") >= count + 2, "all of it", 60)
    assert sequences(run.events()) == list(range(2, count + 2))
    assert gaps(run.events()) == []
    assert memory_mib(run.process.pid, "VmHWM") < 64
    assert run.stop() == 0


def test_f31_http_that_is_abused_delays_no_event(start: Start, pipes: list[str], home: Path) -> None:
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1))
    wait_for(lambda: run.out.read_bytes().count(b"\n") == 2, "the session")
    address = ("127.0.0.1", run.port())
    stop = threading.Event()

    def abuse() -> None:
        while not stop.wait(0.002):
            with contextlib.suppress(OSError), socket.create_connection(address, 1) as sock:
                sock.sendall(b"GET /metrics HTTP/1.0\r\n" + b"A" * 3000)

    abusers = [threading.Thread(target=abuse) for _ in range(4)]
    for thread in abusers:
        thread.start()
    try:
        waits_s = []
        for seq in range(2, 42):
            before = run.out.stat().st_size
            began = time.monotonic()
            run.write("audit", command(7, seq))
            wait_for(lambda before=before: run.out.stat().st_size > before, "the event", 5)
            waits_s.append(time.monotonic() - began)
    finally:
        stop.set()
        for thread in abusers:
            thread.join()
    assert sorted(waits_s)[20] < 0.1, "wait_for looks every 20 ms"
    assert memory_mib(run.process.pid) < 64
    assert run.stop() == 0


@pytest.fixture(name="group")
def _group() -> Iterator[Path]:
    yield from control_group("memory.max", "memory/memory.limit_in_bytes")


@needs_root
def test_f32_the_oom_killer_is_a_kill_like_any_other(start: Start, files: list[str], home: Path, group: Path) -> None:
    run = start(*files, "--spool", "16MiB")  # of the login line, which came through a pipe
    run.write("sshd", login_line(100))
    append(home / "log.d/audit.log", opened(7, 100, 1) + commands(7, 2, 500))
    run.wait_sequences(list(range(2, 502)))
    (group.parent / "cgroup.procs").write_text(str(run.process.pid))
    group.write_text(str(1 << 20))
    append(home / "log.d/audit.log", commands(7, 502, 20_000))
    if run.process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(5)
    run.kill()
    run = start(*files, "--spool", "16MiB")  # of the login line, which came through a pipe
    assert identities(run.wait_sequences(list(range(2, 20_502)))) == {"alice@foo.com"}
    assert run.stop() == 0
