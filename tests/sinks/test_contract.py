"""What every sink promises, run on every member of ALL."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import audito.sinks
from audito.errors import SinkError
from audito.sinks import Sink
from audito.sinks.all import ALL, open_sink
from audito.sinks.file import FileSink
from audito.sinks.stream import StdoutSink, StreamSink
from tests.sinks.events import event, events


class Rig:
    """An output of one kind, and who reads it. ``bytes_max``: what it takes while nobody reads, about."""

    bytes_max = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.got = b""

    def create(self) -> None:
        """Make what has to be there."""

    def sink(self) -> Sink:
        raise NotImplementedError

    def output(self) -> bytes:
        """All that came out until now."""
        raise NotImplementedError

    def close(self) -> None:
        """End the reader."""


class FileRig(Rig):
    def sink(self) -> Sink:
        return FileSink(self.path)

    def output(self) -> bytes:
        return self.path.read_bytes()


class PipeRig(Rig):
    bytes_max = 65536
    reader = -1

    def output(self) -> bytes:
        while True:
            try:
                data = os.read(self.reader, 1 << 20)
            except BlockingIOError:
                return self.got
            if not data:
                return self.got
            self.got += data

    def close(self) -> None:
        os.close(self.reader)


class StreamRig(PipeRig):
    def create(self) -> None:
        os.mkfifo(self.path)
        self.reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def sink(self) -> Sink:
        return StreamSink(self.path)


class StdoutRig(PipeRig):
    def create(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def sink(self) -> Sink:
        return StdoutSink(self.writer)

    def close(self) -> None:
        super().close()
        os.close(self.writer)


RIGS: dict[type[Any], type[Rig]] = {FileSink: FileRig, StdoutSink: StdoutRig, StreamSink: StreamRig}


@pytest.fixture(params=ALL, ids=lambda member: member.__name__)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    rig = RIGS[request.param](tmp_path / "output")
    rig.create()
    yield rig
    rig.close()


@pytest.fixture
def sink(rig: Rig) -> Iterator[Sink]:
    sink = rig.sink()
    sink.open()
    yield sink
    sink.close()


def open_descriptors() -> set[str]:
    paths = ((fd, f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
    return {f"{fd}:{os.readlink(path)}" for fd, path in paths if os.path.lexists(path)}


def test_every_sink_is_named_in_all() -> None:
    found = set()
    for path in Path(audito.sinks.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Sink") and node.name != "Sink":
                found.add(node.name)
    assert found == {member.__name__ for member in ALL} == {member.__name__ for member in RIGS}


def test_before_open_nothing_is_taken_and_nothing_breaks(rig: Rig) -> None:
    sink = rig.sink()
    assert sink.name
    assert not sink.ready
    assert sink.fileno() == -1
    sink.poll()
    sink.close()
    with pytest.raises(SinkError, match="is not open"):
        sink.write(memoryview(event(1)))


def test_opens_and_closes_any_number_of_times(rig: Rig) -> None:
    before = open_descriptors()
    sink = rig.sink()
    for _ in range(3):
        sink.open()
        sink.open()
        assert sink.ready
        sink.close()
        sink.close()
        assert not sink.ready
    assert open_descriptors() == before


def test_all_is_written_once_and_in_order(rig: Rig, sink: Sink) -> None:
    expected = b""
    for number in range(100):
        data = events(number * 5, number * 5 + 5)
        assert sink.write(memoryview(data)) == len(data)
        assert sink.ready
        expected += data
        if number % 10 == 0:
            sink.sync()
            sink.poll()
            assert rig.output() == expected
    assert rig.output() == expected


def test_a_part_of_a_larger_buffer_is_taken(rig: Rig, sink: Sink) -> None:
    buffer = bytearray(b"before" + event(1) + b"after")
    view = memoryview(buffer)[6:-5]
    assert sink.write(view) == len(view)
    buffer[:] = bytes(len(buffer))  # it was copied, or is with the kernel
    assert rig.output() == event(1)


def test_nothing_is_written_of_nothing(rig: Rig, sink: Sink) -> None:
    assert sink.write(memoryview(b"")) == 0
    assert sink.ready
    assert rig.output() == b""


def test_reopen_loses_nothing(rig: Rig, sink: Sink) -> None:
    expected = b""
    for number in range(5):
        assert sink.write(memoryview(event(number))) == len(event(number))
        expected += event(number)
        sink.reopen()
        assert sink.ready
    assert rig.output() == expected


def test_close_and_open_go_on(rig: Rig, sink: Sink) -> None:
    sink.write(memoryview(event(1)))
    sink.close()
    sink.open()
    sink.write(memoryview(event(2)))
    assert rig.output() == event(1) + event(2)


def test_a_position_is_plain_data(rig: Rig, sink: Sink) -> None:
    sink.write(memoryview(event(1)))
    sink.sync()
    position = sink.position()
    assert msgspec.json.decode(msgspec.json.encode(position)) == position
    assert position["path"] in ("-", str(rig.path))


def test_descriptors_are_not_inherited(rig: Rig, sink: Sink) -> None:
    known = {0, 1, 2, getattr(rig, "reader", -1), getattr(rig, "writer", -1)}
    for fd in map(int, os.listdir("/proc/self/fd")):
        if (
            fd not in known
            and os.path.lexists(f"/proc/self/fd/{fd}")
            and "output" in os.readlink(f"/proc/self/fd/{fd}")
        ):
            assert not os.get_inheritable(fd)


@pytest.mark.parametrize("rig", [StdoutSink, StreamSink], ids=lambda member: member.__name__, indirect=True)
def test_full_is_a_state_and_what_is_offered_again_fits_on(rig: Rig, sink: Sink) -> None:
    data = events(0, 5000, 100)
    view = memoryview(data)
    taken = sink.write(view)
    assert 0 < taken < len(data)
    assert taken <= rig.bytes_max
    assert not sink.ready
    assert sink.write(view[taken:]) == 0
    while taken < len(data):
        rig.output()
        count = sink.write(view[taken:])
        assert count > 0
        taken += count
    assert sink.ready
    assert rig.output() == data


# -- which sink a path means


def test_a_path_says_which_sink(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    kinds = {"-": StdoutSink, "/dev/stdout": StdoutSink, "/dev/stderr": StdoutSink, "/dev/null": StreamSink,
             str(tmp_path / "pipe"): StreamSink, str(tmp_path / "file"): FileSink,
             str(tmp_path / "not there"): FileSink, str(tmp_path): FileSink}  # fmt: skip
    for path, kind in kinds.items():
        assert type(open_sink(path)) is kind, path


def test_a_device_takes_everything(tmp_path: Path) -> None:
    sink = open_sink("/dev/null")
    sink.open()
    for _ in range(10):
        assert sink.write(memoryview(events(0, 1000))) == len(events(0, 1000))
    sink.close()


def test_a_full_device_takes_nothing_and_stops_nobody() -> None:
    sink = open_sink("/dev/full")
    sink.open()
    for _ in range(3):
        assert sink.write(memoryview(event(1))) == 0
        assert not sink.ready
        sink.poll()
    sink.close()
