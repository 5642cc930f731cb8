"""What every source promises, run on every member of ALL."""

from __future__ import annotations

import ast
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import audito.sources
from audito.errors import SourceError
from audito.sources import READ_BYTES_MAX, Source
from audito.sources.all import ALL
from audito.sources.directory import DirectorySource
from audito.sources.fifo import FifoSource
from audito.sources.journal import JournalSource
from audito.sources.spool import SpooledSource
from audito.sources.stdin import StdinSource
from audito.sources.syslog import SyslogSource
from tests.sources.journals import REMOTE, Journal
from tests.sources.logs import read_all


class Rig:
    """An input of one kind, and how its writer fills it. ``resumable``: what was read can be read again."""

    resumable = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the input, empty."""

    def write(self, lines: list[bytes]) -> bytes:
        """Have the writer write lines; returns what a reader must get for them."""
        raise NotImplementedError

    def source(self) -> Source:
        raise NotImplementedError

    def close(self) -> None:
        """End the writer."""


class LogRig(Rig):
    def create(self) -> None:
        self.path.mkdir()
        self.log.touch()

    @property
    def log(self) -> Path:
        return self.path / "audit.log"

    def write(self, lines: list[bytes]) -> bytes:
        with self.log.open("ab") as file:
            file.write(b"".join(lines))
        return b"".join(lines)


class DirectoryRig(LogRig):
    def source(self) -> Source:
        return DirectorySource(self.path)


class SyslogRig(LogRig):
    def source(self) -> Source:
        return SyslogSource(self.log)


class FifoRig(Rig):
    resumable = False

    def create(self) -> None:
        os.mkfifo(self.path)

    def write(self, lines: list[bytes]) -> bytes:
        fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        assert os.write(fd, b"".join(lines)) == len(b"".join(lines))
        os.close(fd)
        return b"".join(lines)

    def source(self) -> Source:
        return FifoSource(self.path, "sshd")


class SpooledRig(FifoRig):
    """A pipe that its writer has open all the time."""

    resumable = True

    def create(self) -> None:
        super().create()
        self.writer = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def close(self) -> None:
        os.close(self.writer)

    def source(self) -> Source:
        directory = self.path.with_name("state")
        directory.mkdir(exist_ok=True)
        return SpooledSource(super().source(), str(directory), 16 << 20)


class StdinRig(Rig):
    resumable = False

    def create(self) -> None:
        self.reader, self.writer = os.pipe()

    def write(self, lines: list[bytes]) -> bytes:
        assert os.write(self.writer, b"".join(lines)) == len(b"".join(lines))
        return b"".join(lines)

    def source(self) -> Source:
        return StdinSource("audit", "audit", fd=self.reader)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class JournalRig(Rig):
    def create(self) -> None:
        if REMOTE is None:
            pytest.skip("no systemd-journal-remote (package of the same name)")
        self.journal = Journal(self.path)
        # The file has to be there, and what is in it before the start is not the source's.
        self.journal.append(b"before")

    def write(self, lines: list[bytes]) -> bytes:
        start_us = self.journal.next_us
        self.journal.append(*(line.rstrip(b"\n") for line in lines))
        return b"".join(b"%d 42 1 %s" % (start_us + i, line) for i, line in enumerate(lines))

    def source(self) -> Source:
        return JournalSource(self.path)


RIGS: dict[type[Any], type[Rig]] = {
    DirectorySource: DirectoryRig,
    FifoSource: FifoRig,
    JournalSource: JournalRig,
    SpooledSource: SpooledRig,
    StdinSource: StdinRig,
    SyslogSource: SyslogRig,
}

LINES = [b"first\n", b"second line\n", b"\xff\xfe not text\n", b"x" * 3000 + b"\n", b"last\n"]


@pytest.fixture(params=ALL, ids=lambda member: member.__name__)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    rig = RIGS[request.param](tmp_path / "input")
    rig.create()
    yield rig
    rig.close()


@pytest.fixture
def source(rig: Rig) -> Iterator[Source]:
    source = rig.source()
    source.open()
    yield source
    source.close()


def open_descriptors() -> set[str]:
    return {f"{fd}:{os.readlink(f'/proc/self/fd/{fd}')}" for fd in os.listdir("/proc/self/fd") if _is_open(fd)}


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def read_until(source: Source, length: int, *, timeout_s: float = 10.0) -> bytes:
    """Poll and read until that many bytes came: a journal is slow to tell of new entries."""
    deadline = time.monotonic() + timeout_s
    got = b""
    while len(got) < length and time.monotonic() < deadline:
        source.poll()
        got += read_all(source)
    return got


def test_every_source_is_named_in_all() -> None:
    found = set()
    for path in Path(audito.sources.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Source") and node.name != "Source":
                found.add(node.name)
    assert found == {member.__name__ for member in ALL} == {member.__name__ for member in RIGS}


def test_says_what_it_is(rig: Rig) -> None:
    source = rig.source()
    assert source.name
    assert source.stream in ("audit", "sshd")
    assert source.format in ("audit", "pipe", "syslog", "journal", "journal-json", "auto")
    assert (source.opened, source.ended) == (False, False)


def test_before_open_there_is_nothing_and_nothing_breaks(rig: Rig) -> None:
    source = rig.source()
    source.wake()
    source.poll()
    assert bytes(source.read()) == b""
    assert source.fileno() == -1
    source.close()


def test_opens_and_closes_any_number_of_times(rig: Rig) -> None:
    before = open_descriptors()
    source = rig.source()
    for _ in range(3):
        source.open()
        source.open()
        assert source.opened
        source.close()
        source.close()
        assert not source.opened
    assert open_descriptors() == before


def test_gives_all_bytes_once_and_in_order(rig: Rig, source: Source) -> None:
    assert bytes(source.read()) == b""
    expected = rig.write(LINES)
    assert read_until(source, len(expected)) == expected
    assert bytes(source.read()) == b""
    more = rig.write([b"and more\n"])
    assert read_until(source, len(more)) == more
    assert not source.ended
    assert source.take_gaps() == []


def test_gives_a_memoryview_within_the_limit(rig: Rig, source: Source) -> None:
    expected = rig.write([b"y" * 5000 + b"\n"] * 12)
    deadline = time.monotonic() + 10
    while not (data := source.read()) and time.monotonic() < deadline:
        source.poll()
    assert isinstance(data, memoryview)
    assert data.contiguous and data.format == "B"
    assert 0 < len(data) <= READ_BYTES_MAX
    assert expected.startswith(bytes(data))


def test_a_descriptor_wakes_up_and_is_quiet_again(rig: Rig, source: Source) -> None:
    if source.fileno() < 0:
        pytest.skip("only polled")
    poll = select.poll()
    poll.register(source.fileno(), select.POLLIN)
    source.wake()
    assert not poll.poll(0), "nothing was written yet"
    expected = rig.write(LINES)
    assert poll.poll(5000), "written, and nobody was told"
    got = b""
    deadline = time.monotonic() + 10
    while len(got) < len(expected) and time.monotonic() < deadline:
        source.wake()
        got += read_all(source)
    assert got == expected
    source.wake()
    assert not poll.poll(0), "all was taken, and it is still readable"
    assert os.get_inheritable(source.fileno()) is False or source.fileno() == getattr(rig, "reader", None)


def test_a_position_is_plain_data_that_leads_back(rig: Rig, source: Source) -> None:
    expected = rig.write(LINES)
    assert read_until(source, len(expected)) == expected
    ends = [0] + [i + 1 for i, byte in enumerate(expected) if byte == 10]
    for end in ends:
        state = msgspec.json.decode(msgspec.json.encode(source.position(end)))
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(state)) == state
        other = rig.source()
        assert other.restore(state) == end
        if rig.resumable:
            other.open()
            rest = read_until(other, len(expected) - end)
            assert rest == expected[end:]
            assert other.position(len(expected))["stream"] == len(expected)
            other.close()


def test_a_place_is_kept_over_a_restart_and_new_bytes(rig: Rig, source: Source) -> None:
    expected = rig.write(LINES)
    got = read_until(source, len(expected))
    state = source.position(len(got))
    source.close()
    if not rig.resumable:
        assert rig.source().restore(state) == len(got)
        return
    expected += rig.write([b"while nobody looked\n"])
    for round_ in range(3):
        other = rig.source()
        assert other.restore(state) == len(got)
        other.open()
        expected += rig.write([b"round %d\n" % round_])
        got += read_until(other, len(expected) - len(got))
        assert got == expected
        state = other.position(len(got))
        other.close()


def test_close_and_open_go_on_where_reading_stopped(rig: Rig, source: Source) -> None:
    expected = rig.write(LINES)
    got = read_until(source, len(expected))
    source.close()
    if not rig.resumable:
        source.open()
        assert source.opened
        return
    expected += rig.write([b"while it was closed\n"])
    source.open()
    got += read_until(source, len(expected) - len(got))
    assert got == expected


@pytest.mark.parametrize(
    "rig", [member for member in ALL if member is not StdinSource], ids=lambda member: member.__name__, indirect=True
)
def test_a_missing_input_is_named_and_opens_once_it_is_there(rig: Rig, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    rig.path.rename(aside)
    source = rig.source()
    with pytest.raises(SourceError, match=f"{rig.path}.*: .*(No such file|no journal)"):
        source.open()
    assert not source.opened
    aside.rename(rig.path)
    source.open()
    expected = rig.write(LINES)
    assert read_until(source, len(expected)) == expected
    source.close()


def test_what_waits_is_told_or_known_not_to_be(rig: Rig, source: Source) -> None:
    assert source.waiting_bytes() in (0, -1)
    text = rig.write(LINES)
    if source.waiting_bytes() >= 0:
        assert source.waiting_bytes() == len(text)
    else:
        assert isinstance(source, JournalSource), "all others can tell"
    read_all(source)
    assert source.waiting_bytes() in (0, -1)
