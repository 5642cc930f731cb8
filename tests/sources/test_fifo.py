"""A named pipe that outlives its writers, their broken lines, and its own replacement."""

from __future__ import annotations

import fcntl
import os
import random
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audito.errors import SourceError
from audito.sources import READ_BYTES_MAX
from audito.sources.fifo import FifoSource
from tests.sources.logs import read_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def source(path: Path) -> Iterator[FifoSource]:
    source = FifoSource(path, "sshd")
    source.open()
    yield source
    source.close()


def write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    assert os.write(fd, data) == len(data)
    os.close(fd)


def is_readable(fd: int, timeout_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def replace(path: Path) -> None:
    path.rename(f"{path}.old")
    os.mkfifo(path)


def test_formats_of_the_two_streams(path: Path) -> None:
    assert (FifoSource(path, "audit").format, FifoSource(path, "audit").name) == ("audit", "audit-pipe")
    assert (FifoSource(path, "sshd").format, FifoSource(path, "sshd").name) == ("pipe", "sshd-pipe")
    assert FifoSource(path, "sshd", "auto").format == "auto"


def test_u4_f14_the_end_of_a_writer_is_no_end(path: Path, source: FifoSource) -> None:
    for number in range(1000):
        write(path, b"%d line\n" % number)
        assert read_all(source) == b"%d line\n" % number
        assert not source.ended
        assert not is_readable(source.fileno())


def test_what_a_writer_left_half_done_is_given_as_it_is(path: Path, source: FifoSource) -> None:
    write(path, b"1 half a li")
    write(path, b"2 whole\n")
    assert read_all(source) == b"1 half a li2 whole\n"


def test_the_rest_of_a_line_that_a_process_before_this_one_began_is_not_a_line(path: Path, source: FifoSource) -> None:
    """20 and 01: half a pid is another one."""
    write(path, b"1999 Connection closed\n20")
    assert bytes(source.read()) == b"1999 Connection closed\n20"
    state = source.position(25)
    source.close()
    other = FifoSource(path, "sshd")
    assert other.restore(state) == 25
    assert other.position(25) == state
    other.open()
    write(path, b"01 Accepted password")
    assert bytes(other.read()) == b""
    write(path, b" for bob\n2002 Conn")
    assert bytes(other.read()) == b"2002 Conn"
    write(path, b"ection closed\n")
    assert bytes(other.read()) == b"ection closed\n"
    assert other.take_gaps() == ["place_lost"]
    assert not other.position(25)["in_line"]
    other.close()


def test_f14_a_line_that_lost_its_start_is_told_by_the_first_process_after_that_only(
    path: Path, source: FifoSource
) -> None:
    """The next one may be there within the same millisecond, and would tell the same event again."""
    write(path, b"half a li")
    assert bytes(source.read()) == b"half a li"
    second = FifoSource(path, "audit")
    second.restore(source.position(9))
    untold = second.position(9)
    assert second.take_gaps() == ["place_lost"]
    third = FifoSource(path, "audit")
    third.restore(second.position(9))
    assert third.take_gaps() == []
    third.open()
    write(path, b"ne\nwhole\n")
    assert bytes(third.read()) == b"whole\n", "and what comes is its rest all the same"
    third.close()
    again = FifoSource(path, "audit")
    again.restore(untold)
    assert again.take_gaps() == ["place_lost"], "a state of before it was told says so"


def test_a_full_megabyte_in_one_read(path: Path, source: FifoSource) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    if int(Path("/proc/sys/fs/pipe-max-size").read_text()) < READ_BYTES_MAX:
        pytest.skip("fs.pipe-max-size is lower here")
    assert fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == READ_BYTES_MAX
    data = random.Random(1).randbytes(READ_BYTES_MAX)
    assert os.write(fd, data) == len(data)
    os.close(fd)
    first = bytes(source.read())
    assert first == data
    assert bytes(source.read()) == b""


def test_u8_f15_a_stream_without_an_end_of_line_stays_in_its_buffer(path: Path, source: FifoSource) -> None:
    total = 64 << 20
    pid = os.fork()
    if pid == 0:
        with path.open("wb", buffering=0) as writer:
            block = bytes(range(256)).replace(b"\n", b"") * 1000
            left = total
            while left:
                left -= writer.write(block[:left])
        os._exit(0)
    got = 0
    while got < total:
        assert is_readable(source.fileno(), 10_000)
        data = source.read()
        assert len(data) <= READ_BYTES_MAX
        got += len(data)
    assert os.waitpid(pid, 0)[1] == 0
    assert got == total


def test_f14_many_writers_at_once_lose_nothing(path: Path, source: FifoSource) -> None:
    children = []
    for child in range(8):
        pid = os.fork()
        if pid == 0:
            randomness = random.Random(child)
            for number in range(50):
                with path.open("wb", buffering=0) as writer:
                    writer.write(b"%d %d %s\n" % (child, number, b"x" * randomness.randint(0, 3000)))
            os._exit(0)
        children.append(pid)
    got = b""
    while children:
        is_readable(source.fileno(), 20)
        got += read_all(source)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            assert status == 0
            children.remove(pid)
    got += read_all(source)
    seen = {tuple(map(int, line.split()[:2])) for line in got.splitlines()}
    assert seen == {(child, number) for child in range(8) for number in range(50)}


def test_a_replaced_pipe_is_read_after_the_old_one(path: Path, source: FifoSource) -> None:
    fd = source.fileno()
    write(path, b"1 old\n")
    replace(path)
    source.poll()
    assert read_all(source) == b"1 old\n"
    write(path, b"2 new\n")
    assert read_all(source) == b"2 new\n"
    assert source.fileno() == fd, "the loop watches the same descriptor"
    write(path, b"3 new\n")
    assert is_readable(fd, 1000)
    assert read_all(source) == b"3 new\n"


def test_a_line_left_open_in_the_old_pipe_is_ended(path: Path, source: FifoSource) -> None:
    write(path, b"1 old and torn")
    replace(path)
    source.poll()
    got = read_all(source)
    write(path, b"2 new\n")
    got += read_all(source)
    assert got == b"1 old and torn\n2 new\n"


def test_a_pipe_that_was_taken_away_is_still_read(path: Path, source: FifoSource) -> None:
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    path.unlink()
    source.poll()
    os.write(writer, b"1 still here\n")
    assert read_all(source) == b"1 still here\n"
    os.close(writer)
    os.mkfifo(path)
    source.poll()
    assert read_all(source) == b""
    write(path, b"2 back\n")
    assert read_all(source) == b"2 back\n"


def test_f30_what_replaces_a_pipe_must_be_one(path: Path, source: FifoSource, tmp_path: Path) -> None:
    path.unlink()
    path.write_bytes(b"not a pipe\n")
    source.poll()
    with pytest.raises(SourceError, match=r"pipe: is a regular file, not a named pipe"):
        source.read()
    path.unlink()
    os.mkfifo(path)
    source.poll()
    assert read_all(source) == b""
    write(path, b"1 a pipe\n")
    assert read_all(source) == b"1 a pipe\n"


def make_file(path: Path) -> None:
    path.write_bytes(b"")


def make_link(path: Path) -> None:
    os.mkfifo(f"{path}.real")
    path.symlink_to(f"{path}.real")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_file, "is a regular file, not a named pipe"),
        (Path.mkdir, "is a directory, not a named pipe"),
        (make_link, "is a symbolic link, not a named pipe"),
        (make_socket, "is a socket, not a named pipe"),
        (lambda path: None, "No such file or directory"),
    ],
)
def test_what_is_no_pipe_is_named(tmp_path: Path, make: object, words: str) -> None:
    make(tmp_path / "input")  # type: ignore[operator]
    source = FifoSource(tmp_path / "input", "audit")
    with pytest.raises(SourceError, match=f"{tmp_path}/input: {words}"):
        source.open()
    assert source.fileno() == -1


def test_opening_waits_for_no_writer(path: Path) -> None:
    source = FifoSource(path, "audit")
    start = time.monotonic()
    source.open()
    assert bytes(source.read()) == b""
    assert time.monotonic() - start < 1
    source.close()
