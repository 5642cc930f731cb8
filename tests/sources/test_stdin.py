"""Standard input: a pipe, a file, a terminal; to its end and no further."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audito.errors import SourceError
from audito.sources.stdin import StdinSource
from tests.sources.logs import read_all

ROOT = Path(__file__).parents[2]


def test_a_pipe_ends_with_its_last_writer() -> None:
    reader, writer = os.pipe()
    source = StdinSource("audit", "audit", fd=reader)
    source.open()
    assert source.fileno() == reader
    assert bytes(source.read()) == b""
    assert not source.ended
    os.write(writer, b"one\n")
    assert read_all(source) == b"one\n"
    assert not source.ended
    os.write(writer, b"no end")
    os.close(writer)
    assert read_all(source) == b"no end"
    assert source.ended
    assert source.fileno() == -1
    assert bytes(source.read()) == b""
    source.close()
    os.close(reader)


def test_a_regular_file_is_only_polled(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    with (tmp_path / "file").open("rb") as file:
        source = StdinSource("audit", "audit", fd=file.fileno())
        source.open()
        assert source.fileno() == -1
        assert len(read_all(source)) == 3_000_000
        assert source.ended
        source.close()
        os.fstat(file.fileno())  # still open: it is not ours


def test_a_file_is_read_from_where_the_descriptor_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"header\nrecord\n")
    with (tmp_path / "file").open("rb", buffering=0) as file:
        file.read(7)
        source = StdinSource("audit", "audit", fd=file.fileno())
        source.open()
        assert read_all(source) == b"record\n"
        source.close()


def test_a_terminal_ends_with_control_d() -> None:
    controller, terminal = pty.openpty()
    source = StdinSource("sshd", "pipe", fd=terminal)
    source.open()
    assert bytes(source.read()) == b""
    os.write(controller, b"42 typed\n")
    deadline = time.monotonic() + 5
    while not (got := read_all(source)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert got == b"42 typed\n"
    os.write(controller, b"\x04")
    while not source.ended and time.monotonic() < deadline:
        assert bytes(source.read()) == b""
    assert source.ended
    assert os.get_blocking(terminal), "the shell has the same open file"
    source.close()
    os.close(controller)
    os.close(terminal)


def test_blocking_waits_for_bytes() -> None:
    code = (
        "from audito.sources.stdin import StdinSource; import sys\n"
        "source = StdinSource('audit', 'audit', blocking=True); source.open()\n"
        "reads = 0\n"
        "while not source.ended:\n"
        "    reads += 1; sys.stdout.buffer.write(bytes(source.read()))\n"
        "sys.stdout.write(f'{reads} reads')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        time.sleep(0.3)
        process.stdin.write(b"late\n")
        process.stdin.flush()
        out, _ = process.communicate(timeout=20)
    assert out == b"late\n2 reads"


def test_a_closed_or_senseless_descriptor_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="standard input: Bad file descriptor"):
        StdinSource("audit", "audit", fd=1 << 20).open()
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(SourceError, match="standard input: is a directory"):
        StdinSource("audit", "audit", fd=directory).open()
    os.close(directory)
