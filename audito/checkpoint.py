"""Positions and sessions on disk: what a restart needs to go on where this process stopped.

A state file is a fixed header (magic, version, length, checksum) and one msgpack object. Saving is
temporary file → fsync → rename → fsync of the directory, and the file that was there stays as the
older generation. After a failed fsync nothing is retried, since the kernel may have thrown the dirty
page away and would report success: the next save writes a whole new file. A bad file is reported and
the older one tried; no state file can keep the daemon from starting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from audito.errors import StateError

VERSION = 1
"""Of the payload; a file of another version is not read (its positions would be guesses)."""

STATE_BYTES_MAX = 256 << 20
"""More than 131,072 sessions take; a larger file is not ours and is not read into memory."""

NAME = "state"
OLDER = "state.1"
TEMPORARY = "state.tmp"
DAMAGED = "state.bad"
"""One that cannot be used, put aside: as the current one it would take the place of the older one, which can."""

LOCK = "lock"
SPOOL_PREFIX = "spool-"
"""Of the files that sources keep beside the state."""

_MAGIC = b"AUDITOST"
_HEADER = struct.Struct("<8sIQ32s")


class State(msgspec.Struct, kw_only=True):
    """All that a restart needs, taken at one instant between two feeds of the core.

    ``sources``: a source's name → its position() at the oldest input not yet resolved into ``output`` or
    ``pending``. ``core``: Core.dump(). ``output``: Sink.position(). ``pending``: events that were taken from the core
    and that the sink has not taken. ``saved_at_ms``: wall clock, for people only. ``booted_ms``: of the core's clock.
    ``clean``: the process ended after it, of its own accord.
    """

    boot_id: str
    saved_at_ms: int
    booted_ms: int = 0
    sources: dict[str, dict[str, Any]]
    core: bytes
    output: dict[str, Any] = {}
    pending: bytes = b""
    clean: bool = False


def save(directory: str, state: State) -> int:
    """Make ``state`` the current generation and the one before the older; returns the bytes written.

    Errors: StateError; the generations on disk are then as they were, or the older one alone.
    """
    payload = msgspec.msgpack.encode(state)
    header = _HEADER.pack(_MAGIC, VERSION, len(payload), _checksum(payload))
    try:
        dir_fd = open_directory(directory)
        try:
            _write_temporary(dir_fd, header, payload)
            _promote(dir_fd)
        finally:
            os.close(dir_fd)
    except OSError as exc:
        raise StateError(f"cannot write state in {directory}: {exc.strerror or exc}") from exc
    return len(header) + len(payload)


def load(directory: str, report: Callable[[StateError], None] | None = None, uid: int = -1) -> State | None:
    """The newest readable generation, or None where there is none.

    ``report`` is told of each file that is there and cannot be used; ``uid``: whose files are trusted beside
    root's and our own. A file that cannot be used is put aside where the older one can. Errors: none.
    """
    try:
        dir_fd = open_directory(directory, uid)
    except FileNotFoundError:
        return None
    except (OSError, StateError) as exc:
        _tell(report, f"cannot read state in {directory}: {exc}", exc)
        return None
    try:
        for name in (NAME, OLDER):
            try:
                state = _read(dir_fd, name, uid)
                if name == OLDER:
                    with contextlib.suppress(OSError):  # there is none, or a disk that takes nothing
                        os.rename(NAME, DAMAGED, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
                return state
            except FileNotFoundError:
                continue
            except (OSError, StateError) as exc:
                _tell(report, f"state file {os.path.join(directory, name)} is not usable: {exc}", exc)
        return None
    finally:
        os.close(dir_fd)


def prepare(directory: str, uid: int = -1, gid: int = -1) -> int:
    """Make the directory where it is missing (0700) and lock it; returns the lock's descriptor.

    The descriptor is the caller's: closing it, or dying, gives the directory to the next process. With ``uid``,
    the user that will write here, the directory is given to it, but only one that holds nothing except our files.
    Errors: StateError when it cannot be used: not ours, writable by others, or held by another audito.
    """
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        dir_fd = open_directory(directory, uid)
        try:
            if uid >= 0 and all(_is_ours(name) for name in os.listdir(dir_fd)):
                os.fchown(dir_fd, uid, gid)
            return _lock(dir_fd, directory, uid, gid)
        finally:
            os.close(dir_fd)
    except OSError as exc:
        raise StateError(f"cannot use state directory {directory}: {exc.strerror or exc}") from exc


def open_directory(directory: str, uid: int = -1) -> int:
    """A descriptor of a directory that only root, we, or ``uid`` can rename things in.

    Errors: OSError; StateError where somebody else could put his files in the place of ours.
    """
    dir_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        info = os.fstat(dir_fd)
    except OSError:
        os.close(dir_fd)
        raise
    problem = ""
    if info.st_uid not in (0, os.geteuid(), uid):
        problem = f"it belongs to uid {info.st_uid}"
    elif info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"others may write to it (mode {stat.S_IMODE(info.st_mode):04o})"
    if problem:
        os.close(dir_fd)
        raise StateError(f"state directory {directory} is not safe: {problem}")
    return dir_fd


def _is_ours(name: str) -> bool:
    return name in (NAME, OLDER, TEMPORARY, DAMAGED, LOCK) or name.startswith(SPOOL_PREFIX)


def _checksum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=32, person=b"audito state").digest()


def _tell(report: Callable[[StateError], None] | None, message: str, cause: Exception) -> None:
    if report is not None:
        error = StateError(message)
        error.__cause__ = cause
        report(error)


def _read(dir_fd: int, name: str, uid: int) -> State:
    """One generation. Errors: OSError, StateError; whatever the bytes are, nothing else."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_uid not in (0, os.geteuid(), uid):
            raise StateError("not a regular file of ours")
        if info.st_size > STATE_BYTES_MAX:
            raise StateError(f"{info.st_size} bytes are more than any state has")
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            raise StateError(f"cut short after {len(head)} bytes")
        magic, version, length, checksum = _HEADER.unpack(head)
        if magic != _MAGIC:
            raise StateError("not a state file")
        if version != VERSION:
            raise StateError(f"version {version}, this is version {VERSION}")
        payload = file.read(info.st_size)
    if len(payload) != length:
        raise StateError(f"{len(payload)} bytes where the header says {length}")
    if _checksum(payload) != checksum:
        raise StateError("the checksum does not match")
    try:
        return msgspec.msgpack.decode(payload, type=State)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise StateError(f"cannot be decoded: {exc}") from exc


def _write_temporary(dir_fd: int, header: bytes, payload: bytes) -> None:
    """The temporary file, durable. A stale one of a killed process is removed first: O_EXCL follows nobody's link."""
    try:
        os.unlink(TEMPORARY, dir_fd=dir_fd)
    except FileNotFoundError:
        pass
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(TEMPORARY, flags, 0o600, dir_fd=dir_fd)
    try:
        for part in (header, payload):
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError:
        os.unlink(TEMPORARY, dir_fd=dir_fd)
        raise
    finally:
        os.close(fd)


def _promote(dir_fd: int) -> None:
    """Current → older, temporary → current. A crash between the two leaves the older generation, which is whole."""
    try:
        os.rename(NAME, OLDER, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except FileNotFoundError:
        pass
    os.rename(TEMPORARY, NAME, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    os.fsync(dir_fd)


def _lock(dir_fd: int, directory: str, uid: int, gid: int) -> int:
    """The directory's lock, held as long as the descriptor is open. Errors: StateError when another has it."""
    fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if uid >= 0:
            os.fchown(fd, uid, gid)
    except BlockingIOError as exc:
        os.close(fd)
        raise StateError(f"state directory {directory} is in use by another audito") from exc
    except OSError:
        os.close(fd)
        raise
    return fd
