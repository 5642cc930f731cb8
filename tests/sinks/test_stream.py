"""A named pipe and standard output: readers that are slow, away, gone, and back."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audito.errors import SinkError
from audito.sinks.stream import Sent, StdoutSink, StreamSink
from tests.sinks.events import event, events

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def sink(path: Path) -> Iterator[StreamSink]:
    sink = StreamSink(path)
    sink.open()
    yield sink
    sink.close()


class Reader:
    """Somebody who reads a pipe."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.got = b""

    def read(self, count: int = 1 << 20) -> bytes:
        try:
            data = os.read(self.fd, count)
        except BlockingIOError:
            data = b""
        self.got += data
        return data

    def leave(self) -> bytes:
        os.close(self.fd)
        return self.got


def write(sink: StreamSink | StdoutSink, data: bytes) -> int:
    return sink.write(memoryview(data))


# -- a named pipe


def test_f13_without_a_reader_nothing_is_taken_and_nothing_waits(path: Path, sink: StreamSink) -> None:
    start = time.monotonic()
    assert not sink.ready
    assert sink.fileno() == -1
    for _ in range(1000):
        assert write(sink, event(1)) == 0
        sink.poll()
    assert time.monotonic() - start < 2
    reader = Reader(path)
    assert write(sink, event(1)) == len(event(1))
    assert sink.ready
    assert sink.fileno() >= 0
    reader.read()
    assert reader.leave() == event(1)


def test_f12_a_reader_that_stands_still_stops_the_sink_and_not_the_loop(path: Path, sink: StreamSink) -> None:
    reader = Reader(path)
    data = events(0, 20_000, 20)
    start = time.monotonic()
    taken = write(sink, data)
    assert 0 < taken < len(data)
    assert not sink.ready
    for _ in range(100):
        assert write(sink, data[taken:]) == 0
    assert time.monotonic() - start < 1
    poll = select.poll()
    poll.register(sink.fileno(), select.POLLOUT)
    assert not poll.poll(0)
    reader.read()
    assert poll.poll(1000), "the descriptor says when there is room"
    while taken < len(data):
        taken += write(sink, data[taken:])
        reader.read()
    assert reader.leave() == data


def test_u5_a_reader_that_goes_away_is_a_state(path: Path, sink: StreamSink) -> None:
    reader = Reader(path)
    write(sink, event(1))
    reader.read()
    reader.leave()
    assert write(sink, event(2)) == 0
    assert not sink.ready
    assert sink.counters() == {"readers_lost": 1}
    second = Reader(path)
    assert write(sink, event(2)) == len(event(2))
    second.read()
    assert second.leave() == event(2)


def test_the_next_reader_gets_the_torn_line_whole(path: Path, sink: StreamSink) -> None:
    reader = Reader(path)
    write(sink, event(1) + event(2) + event(3))
    reader.read(len(event(1)) + 3)
    reader.leave()
    assert write(sink, event(4)) == 0
    assert sink.owed == event(2) + event(3)
    second = Reader(path)
    assert write(sink, event(4)) == len(event(4))
    second.read()
    assert second.leave() == event(2) + event(3) + event(4)


def test_a_line_of_which_only_the_start_fitted_goes_whole_to_the_next_reader(path: Path, sink: StreamSink) -> None:
    reader = Reader(path)
    data = events(0, 10, 20_000)
    taken = write(sink, data)
    assert data[taken - 1] != 10
    while reader.read():
        pass
    reader.leave()
    assert write(sink, data[taken:]) == 0
    second = Reader(path)
    while taken < len(data):
        taken += write(sink, data[taken:])
        second.read()
    while second.read():
        pass
    whole = data[data.rfind(b"\n", 0, len(reader.got)) + 1 :]
    assert second.leave() == whole


def test_a_reader_that_leaves_while_it_gets_what_is_owed(path: Path, sink: StreamSink) -> None:
    data = events(0, 10, 20_000)
    reader = Reader(path)
    taken = write(sink, data)
    assert taken > 60_000
    reader.read(19_000)  # room for less than one line of the rest
    taken += write(sink, data[taken:])
    reader.leave()
    assert write(sink, data[taken:]) == 0
    assert len(sink.owed) == taken > 1 << 16, "more than a pipe takes"
    second = Reader(path)
    assert write(sink, data[taken:]) == 0
    assert 0 < len(sink.owed) < taken
    second.leave()
    assert write(sink, data[taken:]) == 0
    assert sink.owed == data[:taken]


def test_an_idle_sink_notices_by_itself_that_a_reader_came(path: Path, sink: StreamSink) -> None:
    assert not sink.ready
    reader = Reader(path)
    sink.poll()
    assert sink.ready
    reader.leave()
    sink.poll()
    assert not sink.ready


def test_an_idle_sink_notices_by_itself_that_the_reader_left(path: Path, sink: StreamSink) -> None:
    reader = Reader(path)
    write(sink, event(1) + event(2))
    reader.read(5)
    reader.leave()
    sink.poll()
    second = Reader(path)
    sink.poll()
    second.read()
    assert second.leave() == event(1) + event(2)


def test_f13_readers_come_and_go_a_thousand_times(path: Path, sink: StreamSink) -> None:
    seen: list[int] = []
    for number in range(1000):
        reader = Reader(path)
        write(sink, event(number))
        reader.read(3 if number % 3 == 0 else 1 << 16)
        seen += whole_numbers(reader.leave())
        sink.poll()
    reader = Reader(path)
    sink.poll()
    reader.read()
    seen += whole_numbers(reader.leave())
    assert seen == list(range(1000))


def whole_numbers(data: bytes) -> list[int]:
    """The numbers of the events that are all there."""
    return [json.loads(line)["n"] for line in data[: data.rfind(b"\n") + 1].splitlines()]


def test_another_pipe_of_the_same_name(path: Path, sink: StreamSink) -> None:
    old = Reader(path)
    write(sink, event(1))
    path.rename(f"{path}.old")
    os.mkfifo(path)
    new = Reader(path)
    sink.poll()
    write(sink, event(2))
    old.read()
    new.read()
    assert old.leave() == event(1), "what is in the old pipe is its reader's"
    assert new.leave() == event(2)


def test_a_pipe_taken_away_and_made_again(path: Path, sink: StreamSink) -> None:
    reader = Reader(path)
    write(sink, event(1))
    path.unlink()
    sink.poll()
    assert write(sink, event(2)) == len(event(2)), "its reader is still there"
    reader.read()
    reader.leave()
    assert write(sink, event(3)) == 0
    with pytest.raises(SinkError, match="pipe: No such file or directory"):
        write(sink, event(3))
    with pytest.raises(SinkError, match="pipe: No such file or directory"):
        sink.poll()
    os.mkfifo(path)
    assert write(sink, event(3)) == 0
    second = Reader(path)
    assert write(sink, event(3)) == len(event(3))
    second.read()
    assert second.leave() == event(3)


def test_f30_what_takes_the_name_must_be_a_pipe(path: Path, sink: StreamSink) -> None:
    path.rename(f"{path}.real")
    path.symlink_to(f"{path}.real")
    with pytest.raises(SinkError, match="is a symbolic link, not a named pipe"):
        write(sink, event(1))
    path.unlink()
    path.touch()
    with pytest.raises(SinkError, match="is a regular file, not a named pipe"):
        sink.poll()
    assert path.read_bytes() == b""


def test_a_larger_pipe_is_remembered_whole(path: Path, sink: StreamSink) -> None:
    reader = Reader(path)
    fcntl.fcntl(reader.fd, fcntl.F_SETPIPE_SZ, 1 << 19)
    data = b"".join(events(first, first + 100, 60) for first in range(0, 10_000, 100))
    taken = 0
    while count := write(sink, data[taken : taken + 4096]):
        taken += count
    assert taken > 300_000
    reader.read(10)
    reader.leave()
    assert write(sink, data[taken:]) == 0
    assert sink.owed == data[:taken]


def test_what_was_sent_is_remembered_from_a_line_start_and_no_longer_than_needed() -> None:
    sent = Sent()
    for number in range(10_000):
        sent.add(memoryview(event(number, 50)), 4096)
    assert len(sent._bytes) <= 3 * 4096
    assert sent._bytes.startswith(b'{"n":')
    whole = bytes(sent._bytes)
    assert sent.unread(4096) == whole[whole.rfind(b"\n", 0, len(whole) - 4096) + 1 :]
    assert sent.unread(4096) == b""


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 400)),
        st.tuples(st.just("read"), st.integers(1, 200_000)),
        st.tuples(st.just("leave"), st.just(0)),
        st.tuples(st.just("join"), st.just(0)),
        st.tuples(st.just("poll"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_readers_together_get_everything(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Each reader goes on where the one before him stopped, at the start of the line that he broke off in.

    Only a reader who comes before we noticed that the last one left finds the rest of that line first.
    """
    path = tmp_path_factory.mktemp("pipe") / "pipe"
    os.mkfifo(path)
    sink = StreamSink(path)
    sink.open()
    data = b""  # all that was offered
    taken = 0
    number = 0
    at = 0  # where in data the reader is
    reader: Reader | None = None
    noticed = True
    try:
        for what, argument in [*steps, ("leave", 0), ("poll", 0), ("join", 0), ("finish", 0)]:
            if what in ("write", "poll", "finish"):
                noticed = noticed or reader is None
            if what == "write":
                data += events(number, number + argument, argument)
                number += argument
                taken += write(sink, data[taken:])
            elif what == "poll":
                sink.poll()
            elif what == "read" and reader is not None:
                at = check(data, at, reader.read(argument))
            elif what == "leave" and reader is not None:
                reader.leave()
                reader, noticed = None, False
            elif what == "join" and reader is None:
                reader = Reader(path)
                if noticed:
                    at = data.rfind(b"\n", 0, at) + 1
            elif what == "finish":
                assert reader is not None
                while at < len(data):
                    sink.poll()
                    taken += write(sink, data[taken:])
                    at = check(data, at, reader.read())
        assert taken == len(data)
    finally:
        sink.close()
        if reader is not None:
            reader.leave()


def check(data: bytes, at: int, got: bytes) -> int:
    assert data[at : at + len(got)] == got
    return at + len(got)


# -- standard output


def test_a_pipe_with_a_slow_reader_does_not_wait() -> None:
    reader, writer = os.pipe()
    sink = StdoutSink(writer)
    sink.open()
    assert os.get_blocking(writer), "who else has it is not disturbed"
    start = time.monotonic()
    data = events(0, 10_000, 20)
    taken = write(sink, data)
    assert 0 < taken < len(data)
    assert write(sink, data[taken:]) == 0
    assert time.monotonic() - start < 1
    got = b""
    while taken < len(data):
        got += os.read(reader, 1 << 16)
        taken += write(sink, data[taken:])
    sink.close()
    os.close(writer)
    while part := os.read(reader, 1 << 16):
        got += part
    os.close(reader)
    assert got == data


def test_a_reader_that_is_gone_for_good_is_said_so() -> None:
    reader, writer = os.pipe()
    sink = StdoutSink(writer)
    sink.open()
    os.close(reader)
    for _ in range(2):
        with pytest.raises(SinkError, match="standard output: (Broken pipe|its reader went away)"):
            write(sink, event(1))
        assert sink.ended
        assert not sink.ready
    sink.close()
    os.close(writer)


def test_a_named_pipe_as_standard_output_waits_for_the_next_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = Reader(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)
    sink = StdoutSink(writer)
    sink.open()
    write(sink, event(1))
    reader.read()
    reader.leave()
    assert write(sink, event(2)) == 0
    assert not sink.ended
    second = Reader(tmp_path / "pipe")
    assert write(sink, event(2)) == len(event(2))
    second.read()
    assert second.leave() == event(2)
    sink.close()
    os.close(writer)


def test_a_regular_file_is_written_where_the_descriptor_stands(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as file:
        file.write(b"header\n")
        sink = StdoutSink(file.fileno())
        sink.open()
        assert sink.fileno() == -1
        write(sink, event(1))
        sink.sync()
        sink.close()
        file.write(b"footer\n")
    assert (tmp_path / "out").read_bytes() == b"header\n" + event(1) + b"footer\n"


def test_a_full_device_behind_standard_output_is_a_state() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    sink = StdoutSink(fd)
    sink.open()
    assert write(sink, event(1)) == 0
    assert not sink.ready
    sink.close()
    os.close(fd)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket_does_not_wait(kind: socket.SocketKind) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    sink = StdoutSink(ours.fileno())
    sink.open()
    data = events(0, 40_000, 20)
    taken = 0
    while (count := write(sink, data[taken : taken + 4000])) > 0:
        taken += count
        assert taken < len(data)
    assert ours.getblocking(), "who else has it is not disturbed"
    got = b""
    while len(got) < len(data):
        got += theirs.recv(1 << 16)
        taken += write(sink, data[taken : taken + 4000]) if taken < len(data) else 0
    assert got == data
    theirs.close()
    with pytest.raises(SinkError):
        write(sink, event(1))
    assert sink.ended
    sink.close()
    ours.close()


def test_a_terminal_that_is_stopped_does_not_wait() -> None:
    controller, terminal = pty.openpty()
    sink = StdoutSink(terminal)
    sink.open()
    assert os.get_blocking(terminal)
    start = time.monotonic()
    data = events(0, 5000, 20)
    taken = write(sink, data)
    assert taken < len(data)
    assert time.monotonic() - start < 1
    assert b'{"n":0,' in os.read(controller, 4096)
    sink.close()
    os.close(terminal)
    os.close(controller)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_pipe_that_cannot_be_opened_again_does_not_wait_either() -> None:
    """Root's pipe, and we are somebody else by now: /proc/self/fd/N refuses."""
    code = """
        import os, sys, time
        from audito.sinks.stream import StdoutSink
        from tests.sinks.events import events
        os.setuid(65534)
        sink = StdoutSink()
        sink.open()
        data = memoryview(events(0, 5000, 20))
        taken = sink.write(data)
        assert 0 < taken < len(data), taken
        start = time.monotonic()
        while taken < len(data):
            count = sink.write(data[taken:])
            taken += count
            if not count:
                time.sleep(0.001)
        print(round(time.monotonic() - start, 1), sink._write_bytes_max, file=sys.stderr)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stderr is not None
    time.sleep(0.5)
    got = process.stdout.read()
    errors = process.stderr.read().decode()
    process.wait(timeout=20)
    process.stdout.close()
    process.stderr.close()
    assert process.returncode == 0, errors
    assert got == events(0, 5000, 20)
    assert errors.split()[1] == str(select.PIPE_BUF)


def test_u6_a_stalled_reader_does_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = Reader(tmp_path / "pipe")
    code = """
        import sys
        from pathlib import Path
        from audito.sinks.stream import StreamSink
        from tests.sinks.events import events
        sink = StreamSink(Path(sys.argv[1]))
        sink.open()
        print("full", sink.write(memoryview(events(0, 9000, 20))), flush=True)
        while True:
            sink.write(memoryview(b"{}\\n"))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path / "pipe"], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"full")
        process.send_signal(signal.SIGINT)
        process.wait(timeout=5)
    reader.leave()
