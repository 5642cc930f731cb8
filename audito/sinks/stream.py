"""Outputs that somebody reads while we write: a named pipe, standard output.

A reader that is slow, away or gone is a state. None of these ever makes the loop wait.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import select
import socket
import stat
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audito.errors import SinkError
from audito.sinks.paths import check_parents, kind_of, trusted_uids

log = logging.getLogger(__name__)

LATER = frozenset({errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EIO})
"""The reader closed a pipe, a socket, a terminal."""

STDOUT_PATHS = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
"""What means a descriptor that we were started with, and no file to open."""


class Sent:
    """The end of what was written to a pipe: all that may still be in it, from the start of a line on.

    A pipe of which the last descriptor is closed forgets what nobody read; this is what it forgot.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: memoryview, pipe_bytes: int) -> None:
        """Note what was written to a pipe that holds ``pipe_bytes`` at most."""
        self._bytes += data
        # Only now and then, since each time moves what is left.
        if len(self._bytes) > 2 * pipe_bytes + len(data):
            del self._bytes[: self._line_start(len(self._bytes) - pipe_bytes)]

    def unread(self, count: int) -> bytes:
        """The last ``count`` bytes, and before them the start of the line that they begin in. Forgets all."""
        again = bytes(self._bytes[self._line_start(max(0, len(self._bytes) - count)) :])
        self._bytes.clear()
        return again

    def open_line(self) -> bytes:
        """The part of the last line that is there, where its end is not."""
        return bytes(self._bytes[self._line_start(len(self._bytes)) :])

    def _line_start(self, at: int) -> int:
        return self._bytes.rfind(b"\n", 0, at) + 1


class StreamSink:
    """A named pipe, or a device. Each reader gets whole lines, from the start of one.

    What a reader that went away had not read is written again for the next one, with the line that it broke off
    in: at least once, as far as this process lives.
    """

    def __init__(self, path: Path, *, uid: int = -1) -> None:
        self.name = str(path)
        self.ready = False
        self._path = Path(os.path.abspath(path))
        self._uid = uid
        self._opened = False
        self._fd = -1
        self._id = (0, 0)
        self._sent = Sent()
        self._owed = b""
        self._readers_lost = 0
        self._warned: set[str] = set()

    @property
    def owed(self) -> bytes:
        """What was taken and goes to the next reader first, from the start of a line; its last may not be all there.

        A reader that has a part of the first line already is told so by an empty one, should another process go on.
        """
        part = self._sent.open_line() if self._owed else b""
        return b"\n" * bool(part) + part + self._owed

    def counters(self) -> dict[str, int]:
        """``readers_lost``: how often the reader went away."""
        return {"readers_lost": self._readers_lost}

    def open(self) -> None:
        """As the protocol has it; a pipe that nobody reads is no error."""
        if self._opened:
            return
        try:
            for warning in check_parents(self._path, trusted_uids(self._uid)):
                self._warn(warning)
            self._connect()
        except OSError as exc:
            raise self._error(exc) from exc
        self._opened = True
        self.ready = self._fd >= 0

    def fileno(self) -> int:
        return self._fd

    def write(self, data: memoryview) -> int:
        """As the protocol has it; connects when there is a reader again."""
        if not self._opened:
            raise SinkError(f"{self._path}: is not open")
        taken = self._put(data) if self._catch_up() else 0
        self.ready = taken == len(data)
        return taken

    def position(self) -> dict[str, Any]:
        return {"path": str(self._path)}

    def since(self, position: dict[str, Any]) -> Iterator[bytes]:
        """A pipe keeps nothing."""
        del position
        return iter(())

    def sync(self) -> None:
        """Nothing to do: a pipe keeps nothing."""

    def reopen(self) -> None:
        self.open()
        self.poll()

    def poll(self) -> None:
        """As the protocol has it: a reader that left, another pipe of this name, what is owed to the next reader."""
        if not self._opened:
            return
        if self._fd >= 0:
            gone = self._reader_is_gone()
            self._readers_lost += gone
            if gone or self._is_replaced():
                # Whoever still reads an old pipe can empty it; only a line that it has not all of goes again.
                self._disconnect(self._unread_bytes() if gone else 0)
        self.ready = self._catch_up()

    def close(self) -> None:
        self._hang_up()
        self._opened = self.ready = False

    def _catch_up(self) -> bool:
        """Connect where need be and write what is owed; returns whether new bytes may follow. Errors: SinkError."""
        try:
            if self._fd < 0 and not self._connect():
                return False
        except OSError as exc:
            raise self._error(exc) from exc
        # A reader that leaves meanwhile puts what it did not read before what is left.
        owed, self._owed = self._owed, b""
        sent = 0
        try:
            sent = self._put(memoryview(owed))
        finally:
            self._owed += owed[sent:]
        return not self._owed and self._fd >= 0

    def _connect(self) -> bool:
        """Open the pipe; returns false when nobody reads it. Errors: OSError, SinkError."""
        # Looked at before it is opened: opening a device can do things.
        self._require_stream(os.lstat(self._path).st_mode)
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return False
            raise
        try:
            status = os.fstat(fd)
            self._require_stream(status.st_mode)
        except (OSError, SinkError):
            os.close(fd)
            raise
        if status.st_uid not in trusted_uids(self._uid):
            self._warn(f"belongs to uid {status.st_uid}, who can read what is written to it")
        self._fd = fd
        self._id = (status.st_dev, status.st_ino)
        return True

    def _put(self, data: memoryview) -> int:
        """Write until all is taken or the pipe is full or nobody reads it. Errors: SinkError."""
        taken = 0
        while taken < len(data):
            try:
                count = os.write(self._fd, data[taken:])
            except OSError as exc:
                is_pipe = self._pipe_bytes() > 0
                if exc.errno in GONE and not (is_pipe and exc.errno == errno.EIO):  # that is of a terminal
                    self._readers_lost += 1
                    self._disconnect(self._unread_bytes())
                elif exc.errno not in LATER and not taken:
                    if not is_pipe:  # else its reader is there, in the middle of a line, and gets the rest of it
                        self._hang_up()
                    raise self._error(exc) from exc
                break
            self._sent.add(data[taken : taken + count], self._pipe_bytes())
            taken += count
        return taken

    def _disconnect(self, unread: int) -> None:
        """Close the pipe; what was not read, and a line that is not all there, goes again to the next reader."""
        self._owed = self._sent.unread(unread) + self._owed
        self._hang_up()

    def _hang_up(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_replaced(self) -> bool:
        try:
            status = os.lstat(self._path)
        except OSError:
            return False  # Taken away: whoever reads the old one still can.
        return (status.st_dev, status.st_ino) != self._id

    def _pipe_bytes(self) -> int:
        """What the pipe holds at most, which its reader may change at any time; nothing for a device."""
        try:
            return fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        except OSError:
            return 0

    def _unread_bytes(self) -> int:
        count = array.array("i", [0])
        try:
            fcntl.ioctl(self._fd, termios.FIONREAD, count)
        except OSError:
            return 0
        return count[0]

    def _reader_is_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return any(events & select.POLLERR for _, events in poll.poll(0))

    def _require_stream(self, mode: int) -> None:
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            raise SinkError(f"{self._path}: is {kind_of(mode)}, not a named pipe")

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s: %s", self._path, text)

    def _error(self, exc: OSError) -> SinkError:
        return SinkError(f"{self._path}: {exc.strerror or exc}")


class StdoutSink:
    """Standard output, whatever it is. ``ended``: its reader went away for good, nothing can be written any more.

    A named pipe may get another reader, who then reads on where the one before him stopped.

    Its own flags are left alone: whoever else has the same open file (a shell, its terminal) would feel them.
    """

    def __init__(self, fd: int = 1) -> None:
        self.name = "-"
        self.ready = False
        self.ended = False
        self._stdout = fd
        self._link = f"/proc/self/fd/{fd}"
        self._fd = -1
        self._socket: socket.socket | None = None
        # Bytes that one write may have: all where it cannot wait, else what a pipe that polls as writable takes.
        self._write_bytes_max = 0
        self._regular = False
        self._named_pipe = False
        self._writable = select.poll()

    @property
    def owed(self) -> bytes:
        """Nothing: what was taken is in the pipe, which is not ours to empty."""
        return b""

    def open(self) -> None:
        if self._fd >= 0:
            return
        try:
            mode = os.fstat(self._stdout).st_mode
            self._regular = stat.S_ISREG(mode)
            self._named_pipe = stat.S_ISFIFO(mode) and not os.readlink(self._link).startswith("pipe:")
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(self._stdout))
                self._fd = self._socket.fileno()
            elif self._regular:
                self._fd = os.dup(self._stdout)
            else:
                self._fd = self._open_again()
        except OSError as exc:
            raise self._error(exc) from exc
        self.ready = not self.ended

    def fileno(self) -> int:
        return -1 if self._regular else self._fd

    def write(self, data: memoryview) -> int:
        """As the protocol has it. Errors: SinkError, also once the reader is gone: there can be no other one."""
        if self._fd < 0 or self.ended:
            raise SinkError("standard output: its reader went away" if self.ended else "standard output: is not open")
        taken = 0
        self.ready = False
        while taken < len(data):
            try:
                count = self._put(data[taken:])
            except OSError as exc:
                # What went before the error is written: the next call meets it again.
                if taken or exc.errno in LATER or (exc.errno in GONE and (self._regular or self._named_pipe)):
                    return taken
                self.ended = exc.errno in GONE
                raise self._error(exc) from exc
            if count == 0:
                return taken
            taken += count
        self.ready = True
        return taken

    def position(self) -> dict[str, Any]:
        return {"path": "-"}

    def since(self, position: dict[str, Any]) -> Iterator[bytes]:
        """Standard output is somebody else's: it is not read."""
        del position
        return iter(())

    def sync(self) -> None:
        if self._regular and self._fd >= 0:
            try:
                os.fdatasync(self._fd)
            except OSError as exc:
                raise self._error(exc) from exc

    def reopen(self) -> None:
        """Nothing to do: there is no path to open again."""

    def poll(self) -> None:
        """Nothing to look at: the descriptor does not change."""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self.ready = False

    def _open_again(self) -> int:
        """A descriptor of the same pipe or terminal that never waits, where the kernel lets us open one."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(self._link, flags)
        except OSError:
            # Somebody else's pipe (we changed user), or nobody reads it yet: use it as it is, with care.
            fd = os.dup(self._stdout)
            self._write_bytes_max = select.PIPE_BUF
            self._writable.register(fd, select.POLLOUT)
        return fd

    def _put(self, data: memoryview) -> int:
        """One write that does not wait; returns 0 when nothing can be taken. Errors: OSError."""
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._write_bytes_max:
            if not self._writable.poll(0):
                return 0
            data = data[: self._write_bytes_max]
        return os.write(self._fd, data)

    def _error(self, exc: OSError) -> SinkError:
        return SinkError(f"standard output: {exc.strerror or exc}")
