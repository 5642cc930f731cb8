"""The spool behind a named pipe: nothing is lost in it, nothing comes twice, and what it has no room for is counted."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from audito.errors import SourceError
from audito.sources.fifo import FifoSource
from audito.sources.spool import HEADER, SpooledSource
from audito.values import parse_spool_bytes

BYTES_MAX = 4096
"""Of the spool here: chunks of some hundred bytes are to it what those of a pipe are to a real one."""

SEEDS = 30 * (1 + int(os.environ.get("AUDITO_TORTURE", "0")))


@pytest.fixture(name="pipe")
def _pipe(tmp_path: Path) -> Path:
    path = tmp_path / "audit"
    os.mkfifo(path)
    (tmp_path / "state").mkdir()
    return path


class Host:
    """A pipe that somebody writes numbered lines to, a spool, and what it gave: as a daemon that is killed would see it."""

    def __init__(self, pipe: Path, bytes_max: int = BYTES_MAX) -> None:
        self.pipe, self.bytes_max = pipe, bytes_max
        self.state = pipe.parent / "state"
        self.writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self.written = 0
        self.given = b""
        self.missing: list[tuple[int, int]] = []  # (given bytes, lines that are missing there)
        self.gaps: list[str] = []
        self.saved: dict[str, Any] | None = None
        self.saved_figures = (0, 0)
        self.source = self.start()

    def start(self) -> SpooledSource:
        source = SpooledSource(FifoSource(self.pipe, "audit"), str(self.state), self.bytes_max)
        if self.saved is not None:
            source.restore(self.saved)
        source.open()
        return source

    def write(self, count: int = 1, size: int = 40) -> None:
        for _ in range(count):
            os.write(self.writer, b"%0*d\n" % (size, self.written))
            self.written += 1

    def read(self) -> int:
        data = bytes(self.source.read())
        if lines := self.source.take_dropped():
            self.missing.append((len(self.given), lines))
        self.gaps += self.source.take_gaps()
        self.given += data
        return len(data)

    def save(self) -> None:
        self.saved = self.source.position(len(self.given))
        self.source.release()
        self.saved_figures = (len(self.given), len(self.missing))

    def kill(self) -> None:
        """All that was given since the checkpoint is forgotten; what is in the pipe is there for the next."""
        self.source.close()
        size, missing = self.saved_figures
        self.given, self.missing = self.given[:size], self.missing[:missing]
        self.source = self.start()

    def numbers(self) -> list[int]:
        return [int(line) for line in self.given.splitlines()]

    def check(self) -> None:
        """Every line was given once and in order, or is one of those that were said to be missing there."""
        while self.read():
            pass
        told = dict[int, int]()
        for at, lines in self.missing:
            told[at] = told.get(at, 0) + lines
        expected = at = 0
        for line in self.given.splitlines(keepends=True):
            expected += told.pop(at, 0)
            assert int(line) == expected, f"at byte {at}"
            expected += 1
            at += len(line)
        assert expected + told.pop(at, 0) == self.written
        assert not told
        assert "place_lost" not in self.gaps
        assert sum(path.stat().st_size for path in self.state.iterdir()) <= self.bytes_max + 100


def test_what_nobody_wants_yet_is_kept_and_given_in_order(pipe: Path) -> None:
    host = Host(pipe)
    host.write()
    host.read()
    for _ in range(10):
        host.write(3)
        assert host.source.absorb()
    assert not host.source.absorb(), "there is nothing more"
    assert host.source.counters()["spool_bytes_now"] == 30 * 41
    host.write()
    host.check()
    host.save()
    assert list(host.state.iterdir()) == [], "what is out is not kept"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_any_order_of_writes_reads_checkpoints_and_kills(pipe: Path, seed: int) -> None:
    rng = random.Random(seed)
    host = Host(pipe)
    host.save()
    for _ in range(rng.randrange(20, 300)):
        match rng.choices(("write", "read", "absorb", "save", "kill"), (8, rng.choice((1, 8)), 6, 3, 1))[0]:
            case "write":
                host.write(rng.randrange(1, 12), rng.randrange(7, 60))
            case "read":
                host.read()
            case "absorb":
                host.source.absorb()
            case "save":
                host.save()
            case "kill":
                host.save()  # what was taken in directly, and is not saved, is in the spool unless there was no room
                host.kill()
    host.check()


@pytest.mark.parametrize("seed", range(SEEDS // 2))
def test_a_kill_at_any_time_loses_nothing_that_there_was_room_for(pipe: Path, seed: int) -> None:
    rng = random.Random(seed)
    host = Host(pipe, 1 << 20)
    for _ in range(rng.randrange(20, 200)):
        match rng.choices(("write", "read", "absorb", "save", "kill"), (8, 6, 3, 2, 1))[0]:
            case "write":
                host.write(rng.randrange(1, 12), rng.randrange(7, 60))
            case "read":
                host.read()
            case "absorb":
                host.source.absorb()
            case "save":
                host.save()
            case "kill":
                host.kill()
    host.check()
    assert host.missing == []


def test_lines_are_dropped_whole_and_counted_over_a_kill(pipe: Path) -> None:
    host = Host(pipe)
    host.write()
    host.read()
    host.save()
    while not host.source.problem:
        host.write(5)
        host.source.absorb()
    os.write(host.writer, b"half of ")
    host.source.absorb()
    host.kill()
    assert host.source.counters()["spool_bytes_now"] > BYTES_MAX // 2
    os.write(host.writer, b"a line\n")
    host.source.absorb()
    kept = host.written - sum(lines for _, lines in host.missing)
    while host.read():
        pass
    numbers = [int(line) for line in host.given.splitlines() if line.isdigit()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < kept
    lines = sum(lines for _, lines in host.missing)
    assert lines in (host.written + 1 - len(numbers), host.written + 2 - len(numbers)), "the torn one may count twice"


def test_when_there_is_no_room_and_no_backlog_all_goes_straight_out(pipe: Path) -> None:
    """A session that waits for its login keeps all behind it unresolved: that may cost a replay, never an event now."""
    host = Host(pipe)
    host.save()
    for _ in range(50):
        host.write(10)
        host.read()
    assert host.numbers() == list(range(500))
    assert host.missing == []
    saved = host.given
    host.kill()
    host.read()
    assert host.gaps == ["place_lost"], "and after a kill it is said that something is missing"
    assert len(host.given) < len(saved)


def test_a_chunk_that_a_kill_cut_is_cut_off(pipe: Path) -> None:
    host = Host(pipe)
    host.save()
    host.write(2)
    host.source.absorb()
    (segment,) = host.state.iterdir()
    with segment.open("ab") as file:
        file.write(HEADER.pack(1, 100) + b"torn")
    host.kill()
    host.write(2)
    host.check()


def test_what_a_power_cut_took_out_of_the_middle_is_told(pipe: Path) -> None:
    host = Host(pipe)
    host.save()
    for _ in range(4):
        host.write(10)
        host.source.absorb()
    segments = sorted(host.state.iterdir())
    assert len(segments) == 4
    with segments[1].open("r+b") as file:
        file.truncate(HEADER.size + 100)
    host.kill()
    while host.read():
        pass
    assert host.numbers() == list(range(20, 40))
    assert host.gaps == ["place_lost"]


def test_a_line_left_open_by_a_kill_gets_no_other_lines_end(pipe: Path) -> None:
    host = Host(pipe)
    host.save()
    os.write(host.writer, b"type=EXECVE a0=")
    host.source.absorb()
    host.kill()
    os.write(host.writer, b"type=PATH\n")
    while host.read():
        pass
    assert host.given == b"type=EXECVE a0=\ntype=PATH\n"


def test_the_time_is_that_of_the_arrival(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(pipe)
    host.save()
    for second in (1, 2):
        monkeypatch.setattr("time.time_ns", lambda second=second: second * 10**9)
        host.write()
        host.source.absorb()
    host.kill()
    monkeypatch.setattr("time.time_ns", lambda: 3 * 10**9)
    times = []
    while host.read():
        times.append(host.source.arrival_us)
    assert times == [1_000_000, 2_000_000]


@pytest.mark.parametrize("kind", ["link", "names"])
def test_f30_what_is_no_file_of_ours_is_not_read(pipe: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_bytes(HEADER.pack(1, 6) + b"forged")
    name = tmp_path / "state" / f"spool-audit-{0:016x}-0"
    if kind == "link":
        name.symlink_to(tmp_path / "victim")
    else:
        name.hardlink_to(tmp_path / "victim")
    source = SpooledSource(FifoSource(pipe, "audit"), str(tmp_path / "state"), BYTES_MAX)
    with pytest.raises(SourceError):
        source.open()


def test_f09_a_disk_that_takes_nothing_keeps_no_line_from_the_output(
    pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(pipe)
    pwrite = os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    host.write(3)
    monkeypatch.setattr(os, "pwrite", full)
    host.read()
    assert host.numbers() == [0, 1, 2]
    host.write(2)
    host.source.absorb()
    assert "No space left" in host.source.problem
    monkeypatch.setattr(os, "pwrite", pwrite)
    host.write(2)
    host.check()
    assert sum(lines for _, lines in host.missing) == 2
    assert not host.source.problem


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("64MiB", 64 << 20), ("16777216", 16 << 20), ("1GiB", 1 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert parse_spool_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1", "15MiB", "-1", "64 MiB", "64MB", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size|at least"):
        parse_spool_bytes(text)
