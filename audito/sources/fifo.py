"""A named pipe that syslogd or an audit plug-in writes to.

Held open for writing, too, so that the end of the last writer is no end of file: rsyslog may restart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
from pathlib import Path
from typing import Any

from audito.errors import SourceError
from audito.sources import READ_BYTES_MAX, Format, GapReason, Stream
from audito.sources.unread import unread_bytes

EMPTY = memoryview(b"")
LF = 10

_KINDS = (
    (stat.S_ISREG, "a regular file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class FifoSource:
    """A named pipe. What is in it when nobody has it open is lost by the kernel: there is no place to go back to.

    ``line_format``: as the stream has it in a pipe, unless told otherwise.
    """

    def __init__(self, path: Path, stream: Stream, line_format: Format | None = None) -> None:
        self.name = f"{stream}-pipe"
        self.stream: Stream = stream
        self.format: Format = line_format or ("audit" if stream == "audit" else "pipe")
        self.ended = False
        self.opened = False
        self._gaps: list[GapReason] = []
        self._path = path
        self._fd = -1
        self._id = (0, 0)
        self._replaced = False
        self._line_open = False
        self._in_line = False  # what comes next is the rest of a line that a process before this one began
        self._buffer = bytearray(READ_BYTES_MAX)
        self._view = memoryview(self._buffer)
        # The loop watches this one, so that its descriptor stays the same when the pipe is replaced.
        self._epoll: select.epoll | None = None

    def open(self) -> None:
        if self.opened:
            return
        fd = self._open_pipe()
        self._epoll = select.epoll()
        self._use(fd)
        self.opened = True

    def fileno(self) -> int:
        return self._epoll.fileno() if self._epoll is not None else -1

    def wake(self) -> None:
        """Nothing to take: the descriptor follows the pipe's own."""

    def poll(self) -> None:
        """As the protocol has it: another pipe of this name is read once the old one is empty."""
        if not self.opened:
            return
        try:
            status = os.lstat(self._path)
        except OSError:
            return  # Taken away, and nobody can write to the name: whoever has the old pipe open still can.
        self._replaced = (status.st_dev, status.st_ino) != self._id

    def read(self) -> memoryview:
        """As the protocol has it. Errors: SourceError when what replaced the pipe cannot be used."""
        if not self.opened:
            return EMPTY
        count = self._take()
        if count == 0 and self._replaced:
            if self._change():
                return self._view[:1]
            count = self._take()
        start = 0
        if count:
            self._line_open = self._buffer[count - 1] != LF
            if self._in_line:
                start = self._buffer.find(LF, 0, count) + 1 or count
                self._in_line = start == count and self._line_open
        return self._view[start:count]

    def take_gaps(self) -> list[GapReason]:
        """As the protocol has it: a pipe does not say what was lost while nobody had it open."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def waiting_bytes(self) -> int:
        return unread_bytes(self._fd) if self.opened else -1

    def position(self, offset: int) -> dict[str, Any]:
        told = self._in_line and not self._gaps
        return {"stream": offset, "in_line": self._line_open or self._in_line, "told": told}

    def restore(self, state: dict[str, Any]) -> int:
        """As the protocol has it: what was read is gone, counting goes on; so is what a spool had that is off now.

        So is the line of which a part was read: the rest of it would be another one. That is a gap once, however
        often audito is stopped before the rest comes.
        """
        self._in_line = bool(state.get("in_line"))
        if (self._in_line and not state.get("told")) or int(state.get("end", 0)) > int(state["stream"]):
            self._gaps.append("place_lost")
        return int(state["stream"])

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.opened = self._replaced = False

    def _take(self) -> int:
        """All that is in the pipe: a busy writer refills it meanwhile, and larger chunks cost less a byte."""
        count = 0
        try:
            while count < READ_BYTES_MAX:
                got = os.readv(self._fd, [self._view[count:]])
                if not got:
                    break
                count += got
        except BlockingIOError:
            pass
        except OSError as exc:
            if not count:
                raise SourceError(f"{self._path}: {exc.strerror or exc}") from exc
        return count

    def _change(self) -> bool:
        """Go over to the pipe that has the name now; returns whether an open line was ended in the buffer."""
        fd = self._open_pipe()
        os.close(self._fd)
        self._use(fd)
        cut, self._line_open = self._line_open, False
        self._in_line = False
        if cut:
            self._buffer[0] = LF
        return cut

    def _use(self, fd: int) -> None:
        assert self._epoll is not None
        status = os.fstat(fd)
        self._fd = fd
        self._id = (status.st_dev, status.st_ino)
        self._replaced = False
        self._epoll.register(fd, select.EPOLLIN)

    def _open_pipe(self) -> int:
        """Errors: SourceError, which says what is there instead of a pipe."""
        try:
            # Looked at first: opening a device can do things.
            _require_fifo(self._path, os.lstat(self._path).st_mode)
            flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
            fd = os.open(self._path, flags)
        except PermissionError as exc:
            raise SourceError(f"{self._path}: {exc.strerror} (read and write is needed, to outlive a writer)") from exc
        except OSError as exc:
            raise SourceError(f"{self._path}: {exc.strerror or exc}") from exc
        try:
            _require_fifo(self._path, os.fstat(fd).st_mode)
        except (OSError, SourceError):
            os.close(fd)
            raise
        # Refused above the user's limit; a smaller pipe only means more wake-ups.
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, READ_BYTES_MAX)
        return fd


def _require_fifo(path: Path, mode: int) -> None:
    if not stat.S_ISFIFO(mode):
        kind = next((words for test, words in _KINDS if test(mode)), "something else")
        raise SourceError(f"{path}: is {kind}, not a named pipe")
