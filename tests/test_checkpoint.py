"""State files: what is saved comes back, and nothing that can be on a disk keeps the daemon from starting."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audito import checkpoint
from audito.checkpoint import State
from audito.errors import StateError

EVENT = b'{"metadata":{"auditId":"1"},"type":"UserLogin"}\n'


def make_state(number: int = 1) -> State:
    return State(
        boot_id="b0",
        saved_at_ms=number,
        sources={"audit-directory": {"path": "/var/log/audit/audit.log", "stream": 2**40, "offset": number}},
        core=bytes(range(256)),
        output={"path": "/out", "inode": 7, "length": 99},
        pending=EVENT,
    )


@pytest.fixture(name="directory")
def _directory(tmp_path: Path) -> str:
    path = tmp_path / "state"
    os.close(checkpoint.prepare(str(path)))
    return str(path)


class Reports(list[str]):
    """The messages that load() reports."""

    def __call__(self, error: StateError) -> None:
        self.append(str(error))


def test_what_is_saved_comes_back(directory: str) -> None:
    checkpoint.save(directory, make_state())
    reports = Reports()
    assert checkpoint.load(directory, reports) == make_state()
    assert not reports


def test_nothing_saved_is_no_state_and_no_complaint(tmp_path: Path, directory: str) -> None:
    reports = Reports()
    assert checkpoint.load(directory, reports) is None
    assert checkpoint.load(str(tmp_path / "absent"), reports) is None
    assert not reports


def test_files_are_for_nobody_else(directory: str) -> None:
    checkpoint.save(directory, make_state(1))
    checkpoint.save(directory, make_state(2))
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    names = sorted(os.listdir(directory))
    assert names == ["lock", "state", "state.1"]
    assert {stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) for name in names} == {0o600}


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "cut in the header", data[:20]
    yield "cut in the payload", data[:-1]
    yield "longer", data + b"\0"
    yield "another file", b"#!/bin/sh\n" * 20
    yield "version of the future", data[:8] + struct.pack("<I", 99) + data[12:]
    for at in (0, 8, 12, 20, 51, 52, -1):
        flipped = bytearray(data)
        flipped[at] ^= 1
        yield f"bit flipped in byte {at}", bytes(flipped)


CASES = [what for what, _ in damaged(bytes(100))]


@pytest.mark.parametrize("what", CASES)
def test_a_damaged_file_is_reported_and_the_older_one_taken(directory: str, what: str) -> None:
    checkpoint.save(directory, make_state(1))
    checkpoint.save(directory, make_state(2))
    current = Path(directory, checkpoint.NAME)
    current.write_bytes(dict(damaged(current.read_bytes()))[what])
    reports = Reports()
    assert checkpoint.load(directory, reports) == make_state(1)
    assert len(reports) == 1
    assert str(current) in reports[0]


def test_a_damaged_file_does_not_take_the_place_of_the_older_one(directory: str) -> None:
    """It was the current one when the next was saved; that one goes bad, too."""
    for number in (1, 2):
        checkpoint.save(directory, make_state(number))
    current = Path(directory, checkpoint.NAME)
    current.write_bytes(b"junk")
    assert checkpoint.load(directory) == make_state(1)
    assert Path(directory, checkpoint.DAMAGED).read_bytes() == b"junk"
    checkpoint.save(directory, make_state(3))
    current.write_bytes(b"junk")
    assert checkpoint.load(directory) == make_state(1)


def test_both_damaged_is_no_state_and_two_complaints(directory: str) -> None:
    for number in (1, 2):
        checkpoint.save(directory, make_state(number))
    for name in (checkpoint.NAME, checkpoint.OLDER):
        Path(directory, name).write_bytes(b"junk")
    reports = Reports()
    assert checkpoint.load(directory, reports) is None
    assert len(reports) == 2


def test_a_payload_of_another_shape_is_reported(directory: str) -> None:
    """The checksum is right, the content is not: a file of a program that calls itself version 1, too."""
    payload = b"\x81\xa7boot_id\xc0"
    header = checkpoint._HEADER.pack(checkpoint._MAGIC, checkpoint.VERSION, len(payload), checkpoint._checksum(payload))
    Path(directory, checkpoint.NAME).write_bytes(header + payload)
    reports = Reports()
    assert checkpoint.load(directory, reports) is None
    assert "cannot be decoded" in reports[0]


@given(st.binary(max_size=300))
def test_f16_any_payload_under_a_right_checksum_is_a_state_or_a_report(payload: bytes) -> None:
    directory = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp", f"audito-test-{os.getpid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        header = checkpoint._HEADER.pack(
            checkpoint._MAGIC, checkpoint.VERSION, len(payload), checkpoint._checksum(payload)
        )
        (directory / checkpoint.NAME).write_bytes(header + payload)
        reports = Reports()
        state = checkpoint.load(str(directory), reports)
        assert (state is None) == bool(reports)
    finally:
        (directory / checkpoint.NAME).unlink()
        directory.rmdir()


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_what_is_no_file_is_reported_and_never_followed(directory: str, tmp_path: Path, kind: str) -> None:
    checkpoint.save(directory, make_state(1))
    checkpoint.save(directory, make_state(2))
    current = Path(directory, checkpoint.NAME)
    current.rename(tmp_path / "elsewhere")
    if kind == "symlink":
        current.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(current)
    else:
        current.mkdir()
    reports = Reports()
    assert checkpoint.load(directory, reports) == make_state(1)
    assert len(reports) == 1


def test_a_link_in_the_place_of_the_temporary_file_is_not_written_through(directory: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    Path(directory, checkpoint.TEMPORARY).symlink_to(victim)
    checkpoint.save(directory, make_state())
    assert victim.read_bytes() == b"precious"
    assert checkpoint.load(directory) == make_state()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(directory: str, mode: int) -> None:
    checkpoint.save(directory, make_state())
    os.chmod(directory, mode)
    reports = Reports()
    with pytest.raises(StateError, match="not safe"):
        checkpoint.save(directory, make_state())
    with pytest.raises(StateError, match="not safe"):
        checkpoint.prepare(directory)
    assert checkpoint.load(directory, reports) is None
    assert "not safe" in reports[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_directory_of_somebody_else_is_refused_unless_it_is_our_users(directory: str) -> None:
    checkpoint.save(directory, make_state())
    os.chown(directory, 12345, 12345)
    with pytest.raises(StateError, match="belongs to uid 12345"):
        checkpoint.prepare(directory)
    os.close(checkpoint.prepare(directory, 12345, 12345))
    assert checkpoint.load(directory) is None
    assert checkpoint.load(directory, uid=12345) == make_state()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_only_a_directory_of_our_own_is_given_to_the_user(tmp_path: Path, directory: str) -> None:
    os.close(checkpoint.prepare(directory, 12345, 12345))
    assert os.stat(directory).st_uid == 12345
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    (shared / "of-somebody").touch()
    os.close(checkpoint.prepare(str(shared), 12345, 12345))
    assert os.stat(shared).st_uid == 0


def test_a_directory_has_one_audito(directory: str) -> None:
    held = checkpoint.prepare(directory)
    with pytest.raises(StateError, match="in use by another audito"):
        checkpoint.prepare(directory)
    assert fcntl.fcntl(held, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(held)
    os.close(checkpoint.prepare(directory))


@pytest.mark.parametrize("path", ["/proc/audito", "/dev/null/state", "/dev/null"])
def test_a_directory_that_cannot_be_is_a_state_error(path: str) -> None:
    with pytest.raises(StateError, match=path):
        checkpoint.prepare(path)
    with pytest.raises(StateError, match=path):
        checkpoint.save(path, make_state())
    checkpoint.load(path, Reports())


def test_a_full_disk_leaves_the_generations_as_they_were(directory: str) -> None:
    """RLIMIT_FSIZE stands for the full disk: the write of the temporary file fails half way."""
    checkpoint.save(directory, make_state(1))
    checkpoint.save(directory, make_state(2))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StateError, match="File too large"):
            checkpoint.save(directory, make_state(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(os.listdir(directory)) == ["lock", "state", "state.1"]
    assert checkpoint.load(directory) == make_state(2)
    checkpoint.save(directory, make_state(4))
    assert checkpoint.load(directory) == make_state(4)


KILLED_AT = textwrap.dedent("""
    import os, signal, sys
    from audito import checkpoint
    from tests.test_checkpoint import make_state
    call, nth = sys.argv[2], int(sys.argv[3])
    real, seen = getattr(os, call), 0
    def killed(*args, **kwargs):
        global seen
        seen += 1
        if seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(os, call, killed)
    checkpoint.save(sys.argv[1], make_state(3))
""")


@pytest.mark.parametrize(
    ("call", "nth", "expected"),
    [
        ("open", 1, 2),
        ("open", 2, 2),
        ("write", 1, 2),
        ("write", 2, 2),
        ("fsync", 1, 2),
        ("rename", 1, 2),
        ("rename", 2, 2),  # only the older generation is there, under the older name
        ("fsync", 2, 3),
    ],
)
def test_killed_at_any_step_a_whole_generation_is_there(directory: str, call: str, nth: int, expected: int) -> None:
    checkpoint.save(directory, make_state(1))
    checkpoint.save(directory, make_state(2))
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", KILLED_AT, directory, call, str(nth)]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    reports = Reports()
    assert checkpoint.load(directory, reports) == make_state(expected)
    assert not reports
    checkpoint.save(directory, make_state(4))
    assert checkpoint.load(directory) == make_state(4)
