"""A regular file that events are appended to: it holds whole lines, whatever the disk does."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audito.errors import SinkError
from audito.sinks.paths import check_parents, kind_of, trusted_uids

log = logging.getLogger(__name__)

MODE = 0o640
CREATE_TRIES_MAX = 8
"""A file that is there, gone, and there again is being rotated; more often than this, somebody plays with us."""

LOOKS_MAX = 4
"""Two listings that agree were not taken in the middle of a rotation."""

TAIL_BLOCK_BYTES = 64 << 10
READ_BYTES = 1 << 20

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EAGAIN})
"""The disk takes nothing now and may later: a state. EFBIG: the limit on file sizes, until the file is rotated."""


SAMPLE_BYTES = 512
"""One byte of so many is looked at to know what was written again: of a sector, than which no disk loses less. A sum of
all bytes was 3 % of what an event costs."""


def _number(path: Path) -> int:
    """N of ``name.N``, the newest of which is 1, whatever the clock said when it was written; 0 for another name."""
    suffix = path.suffix[1:]
    return int(suffix) if suffix.isascii() and suffix.isdigit() and len(suffix) < 10 else 0


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _sampled(data: memoryview, at: int) -> bytes:
    """The bytes of these that count, where the first of them is this far behind where counting began."""
    return data[-at % SAMPLE_BYTES :: SAMPLE_BYTES].tobytes()


def truncate_torn_line(fd: int) -> int:
    """Take away a last line without an end, which a crash left; returns how many bytes went.

    Only what begins as our lines do is cut, or the zeros that a power cut can leave; a tail that somebody else
    wrote is ended by a newline instead. ``fd`` is open for reading and appending. Errors: OSError.
    """
    size = os.fstat(fd).st_size
    if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
        return 0
    start = _last_line_start(fd, size)
    if os.pread(fd, 1, start) not in (b"{", b"\0"):
        os.write(fd, b"\n")
        return 0
    os.ftruncate(fd, start)
    return size - start


def _last_line_start(fd: int, size: int) -> int:
    """The offset after the last newline, found block by block from the end."""
    end = size
    while end > 0:
        begin = max(0, end - TAIL_BLOCK_BYTES)
        at = os.pread(fd, end - begin, begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0


class FileSink:
    """A regular file, created 0640, opened without following a link, opened anew when it was rotated away.

    ``uid``, ``gid``: the user that we are to become, who must still be able to open the file then.
    """

    def __init__(self, path: Path, *, uid: int = -1, gid: int = -1) -> None:
        self.name = str(path)
        self.ready = False
        self._path = Path(os.path.abspath(path))
        self._uid, self._gid = uid, gid
        self._fd = -1
        self._id = (0, 0)
        self._durable = 0
        # Of what was taken since then, and the sum of a sample: by it the file's end is known to be ours, and whole.
        self._taken = 0
        self._taken_crc = 0
        # Bytes of a line that did not fit, still at the end of the file because cutting them failed, too.
        self._torn = 0
        self._new_name = False
        self._doubted = False  # a process before this one wrote what is not known to be durable
        self._sync_failed = ""
        self._warned: set[str] = set()

    @property
    def owed(self) -> bytes:
        """Nothing: what was taken is in the file."""
        return b""

    def open(self) -> None:
        if self._fd >= 0:
            return
        try:
            for warning in check_parents(self._path, trusted_uids(self._uid)):
                self._warn(warning)
            fd = self._open_file()
            try:
                cut = truncate_torn_line(fd)
                status = os.fstat(fd)
            except OSError:
                os.close(fd)
                raise
        except OSError as exc:
            raise self._error(exc) from exc
        if cut:
            log.warning("%s: cut a torn last line of %d bytes", self._path, cut)
        self._fd = fd
        self._id = (status.st_dev, status.st_ino)
        self._new_name = True  # also where it was there: whoever made it may have been killed before that was durable
        self._torn = 0
        if not self._sync_failed:
            self._durable = status.st_size
            self._taken = self._taken_crc = 0
        self.ready = True

    def fileno(self) -> int:
        """-1: a disk that has room again wakes nobody."""
        return -1

    def write(self, data: memoryview) -> int:
        """As the protocol has it; what is taken is whole lines, a line that does not fit leaves nothing behind."""
        if self._fd < 0:
            raise SinkError(f"{self._path}: is not open")
        if self._rotated_away():
            self.reopen()
        if not self._cut_torn():
            self.ready = False
            return 0
        taken = self._put(data)
        self.ready = taken == len(data)
        whole = taken if self.ready else bytes(data[:taken]).rfind(b"\n") + 1
        self._taken_crc = zlib.crc32(_sampled(data[:whole], self._taken), self._taken_crc)
        self._taken += whole
        if not self.ready:
            self._torn = taken - whole
            self._cut_torn()
        return whole

    def position(self) -> dict[str, Any]:
        """As the protocol has it: ``length`` is what the last sync() covered."""
        dev, inode = self._id
        return {"path": str(self._path), "dev": dev, "inode": inode, "length": self._durable}

    def since(self, position: dict[str, Any]) -> Iterator[bytes]:
        """As the protocol has it. A file that was rotated away meanwhile is looked for beside the new one."""
        if self._fd < 0 or not position:
            return
        old = (position.get("dev"), position.get("inode"))
        length = position.get("length", 0)
        try:
            if old == self._id:
                self._doubt(length)
                yield from _lines_of(self._fd, length)
                return
            for path, identity, start in self._rotated(old, length):
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    if _identity(os.fstat(fd)) != identity:
                        raise self._moving()
                    yield from _lines_of(fd, start)
                finally:
                    os.close(fd)
            yield from _lines_of(self._fd, 0)
        except OSError as exc:
            raise self._error(exc) from exc

    def _doubt(self, length: int) -> None:
        """What a killed process wrote behind ``length`` is in doubt: a sync of it may have failed. Errors: OSError."""
        size = os.fstat(self._fd).st_size
        if size > length and not self._sync_failed:
            self._durable, self._taken, self._doubted = length, size - length, True
            self._taken_crc = self._crc(length, size)

    def _rotated(self, old: tuple[Any, Any], length: int) -> Iterator[tuple[Path, tuple[int, int], int]]:
        """The file that was ours, from ``length`` on, and those that were rotated away after it. Errors: OSError."""
        files = self._files()
        for ours, _, written_ns in [file for file in files if file[1] == old]:
            for path, identity, changed_ns in files:
                if identity == old:
                    yield path, identity, length
                elif identity != self._id and (changed_ns >= written_ns or 0 < _number(path) < _number(ours)):
                    yield path, identity, 0

    def _files(self) -> list[tuple[Path, tuple[int, int], int]]:
        """What has our name, or begins with it, which file it is, and when it was changed. Errors: OSError.

        One look can miss a file: a rotation gives it another name between the listing and the look at its old one.
        """
        before: list[tuple[Path, tuple[int, int]]] | None = None
        for _ in range(LOOKS_MAX):
            files = []
            for name in sorted(os.listdir(self._path.parent)):
                if name.startswith(self._path.name):
                    status = os.lstat(self._path.parent / name)
                    if stat.S_ISREG(status.st_mode):
                        files.append((self._path.parent / name, _identity(status), status.st_mtime_ns))
            now = [(path, identity) for path, identity, _ in files]
            if now == before:
                return files
            before = now
        raise self._moving()

    def _moving(self) -> OSError:
        return OSError(errno.EAGAIN, "is being rotated while it is looked for", str(self._path))

    def sync(self) -> None:
        """Make what was taken durable. Errors: SinkError, until what one failure put in doubt was written anew.

        After a failed sync the kernel may have thrown the data away and report success the next time: only what an
        earlier one covered is known to be there, and a restart goes on from that.
        """
        if self._fd < 0:
            raise SinkError(self._sync_failed or f"{self._path}: is not open")
        try:
            size = os.fstat(self._fd).st_size - self._torn
            if self._sync_failed:
                self._require_taken(size)
            if self._sync_failed or self._doubted:
                self._write_again(size)
            os.fdatasync(self._fd)
            if self._new_name:
                self._sync_directory()
        except OSError as exc:
            self.ready = False
            self._sync_failed = f"{self._path}: what was written may not be on the disk: {exc.strerror or exc}"
            raise SinkError(self._sync_failed) from exc
        self._durable = size
        self._taken = self._taken_crc = 0
        self._sync_failed = ""
        self._doubted = False

    def _require_taken(self, size: int) -> None:
        """Errors: OSError; SinkError when the file no longer ends with what was taken: nobody but the input has it."""
        if size - self._durable != self._taken or self._crc(self._durable, size) != self._taken_crc:
            raise SinkError(self._sync_failed)

    def _crc(self, start: int, end: int) -> int:
        """Of what is there, as write() sums it up. Errors: OSError."""
        crc, at = 0, start
        while at < end:
            data = os.pread(self._fd, min(READ_BYTES, end - at), at)
            if not data:
                return -1
            crc = zlib.crc32(_sampled(memoryview(data), at - start), crc)
            at += len(data)
        return crc

    def _write_again(self, size: int) -> None:
        """Make the pages that a failed sync left clean dirty again: the next one has to write them. Errors: OSError."""
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        # Linux appends with pwrite too, while the file is open for that.
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_APPEND)
        try:
            at = self._durable
            while at < size:
                at += os.pwrite(self._fd, os.pread(self._fd, min(READ_BYTES, size - at), at), at)
        finally:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags)

    def reopen(self) -> None:
        if self._fd >= 0:
            self._cut_torn()
            try:
                self.sync()
            finally:
                self.close()
        self.open()

    def poll(self) -> None:
        """As the protocol has it. Errors: SinkError when what has the name now cannot be used."""
        if self._fd >= 0 and self._rotated_away():
            self.reopen()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.ready = False

    # -- opening

    def _open_file(self) -> int:
        """Open the file, made first where it is not there. Errors: OSError, SinkError."""
        # The directory is held, so that all that follows means the same one.
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for _ in range(CREATE_TRIES_MAX):
                fd = self._open_existing(directory)
                if fd < 0:
                    fd = self._create(directory)
                if fd >= 0:
                    return fd
        finally:
            os.close(directory)
        raise SinkError(f"{self._path}: is taken away again and again while it is opened")

    def _open_existing(self, directory: int) -> int:
        """Returns -1 when there is none. Errors: OSError; SinkError for a file that is not safe to append to."""
        name = self._path.name
        try:
            # Looked at before it is opened: a reader that waits on a named pipe would see us come and go.
            self._require_ours(os.stat(name, dir_fd=directory, follow_symlinks=False))
            fd = os.open(name, _FLAGS, dir_fd=directory)
        except FileNotFoundError:
            return -1
        try:
            status = os.fstat(fd)
            if status.st_nlink == 0:
                os.close(fd)
                return -1
            self._require_ours(status)
        except (OSError, SinkError):
            os.close(fd)
            raise
        return fd

    def _create(self, directory: int) -> int:
        """Returns -1 when somebody else was faster. Errors: OSError."""
        try:
            fd = os.open(self._path.name, _FLAGS | os.O_CREAT | os.O_EXCL, MODE, dir_fd=directory)
        except FileExistsError:
            return -1
        # Whatever the umask took away; and for whom we make it.
        os.fchmod(fd, MODE)
        if self._uid >= 0 and os.geteuid() == 0:
            os.fchown(fd, self._uid, self._gid)
        return fd

    def _require_ours(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise SinkError(f"{self._path}: is {kind_of(status.st_mode)}, not a regular file")
        if status.st_nlink > 1:
            raise SinkError(
                f"{self._path}: has {status.st_nlink} names (hard links), one of which may be somebody else's"
            )
        if status.st_uid not in trusted_uids(self._uid):
            raise SinkError(f"{self._path}: belongs to uid {status.st_uid}, neither to root nor to us")

    # -- writing

    def _put(self, data: memoryview) -> int:
        """Append until all is written or the disk is full; returns how much it was. Errors: SinkError."""
        taken = 0
        while taken < len(data):
            try:
                count = os.write(self._fd, data[taken:])
            except OSError as exc:
                # What went before the error is there: the next call meets it again.
                if exc.errno in FULL or taken:
                    break
                self.close()
                raise self._error(exc) from exc
            if count == 0:
                break
            taken += count
        return taken

    def _cut_torn(self) -> bool:
        """Take the rest of a line that did not fit off the end again; returns false when that failed."""
        if self._torn:
            try:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - self._torn)
            except OSError:
                return False
            self._torn = 0
        return True

    def _rotated_away(self) -> bool:
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return (status.st_dev, status.st_ino) != self._id

    def _sync_directory(self) -> None:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._new_name = False

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s: %s", self._path, text)

    def _error(self, exc: OSError) -> SinkError:
        return SinkError(f"{self._path}: {exc.strerror or exc}")


_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def _lines_of(fd: int, start: int) -> Iterator[bytes]:
    """The whole lines of a file from an offset on. Errors: OSError."""
    rest = b""
    while chunk := os.pread(fd, READ_BYTES, start):
        start += len(chunk)
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        yield whole + newline
