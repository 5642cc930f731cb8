"""What is written: the events, through a sink that may take its time, and the lines that were no records."""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import Callable
from typing import Any

from audito.errors import SinkError
from audito.health import Health
from audito.sinks import Sink
from audito.watch import Complaints, Watch, monotonic_ms, wall_ms
from audito.written import Written

TAKES_NOTHING = "takes no events now: full, or nobody reads it"

OUTPUT_RETRY_MS = (100, 2_000)
"""First and longest wait before a failed output is tried again; it doubles between."""

LOG_MODE = 0o640
"""Of what we write, for the group that reads logs."""

REJECT_BYTES_PER_TICK_MAX = 1 << 20
REJECT_FILE_BYTES_MAX = 64 << 20
"""Of --reject-log: junk may not fill the disk or keep it busy. A full file becomes FILE.1, which is replaced."""


class Output:
    """The sink, and the bytes of the last offer that it has not taken yet.

    ``find`` says which sink the output is, as far as it can be looked at. ``blocked``: there are such bytes, and
    nothing more must be read. ``on_free`` is called when they are gone. Errors: those of ``find``.
    """

    def __init__(
        self, find: Callable[[], Sink], health: Health, complaints: Complaints, on_free: Callable[[], None]
    ) -> None:
        self.sink = find()
        self.opened = False
        self._find = find
        self._tried = self._found = False  # to be opened; it was open: it is what it was taken for
        self._torn = False  # the process before this one was killed, and its last line may have no end
        self._health = health
        self._complaints = complaints
        self._on_free = on_free
        self._data = b""
        self._done = 0  # of _data, taken by the sink
        self._stamp = "", 0  # which source the oldest of _data came from, and the time of its newest record
        self._watch = Watch(select.EPOLLOUT, self._push)
        self._timer: asyncio.TimerHandle | None = None
        self._retry_ms = OUTPUT_RETRY_MS[0]
        self._blocked_ms = 0  # since when, 0: it is not
        self._written = Written()
        self._before: dict[str, Any] = {}
        self._unread = False  # what was written behind that: nothing is written before it was read back
        health.set_state("output", "not open yet")

    @property
    def blocked(self) -> bool:
        return bool(self._data)

    @property
    def ended(self) -> bool:
        """Standard output, whose reader went away: there can be no other one."""
        return bool(getattr(self.sink, "ended", False))

    @property
    def pending_bytes(self) -> int:
        """What was offered and is in no output."""
        return len(self.sink.owed) + len(self._data) - self._done

    def pending(self) -> bytes:
        """What a restart has to write first: whole lines.

        Where a pipe has taken a part of the first one, its reader may be another one by then: an empty line ends
        the part, and the line comes again from its start. What a reader that went away had not read comes first.
        """
        if owed := self.sink.owed:
            return owed + self._data[self._done :]
        start = self._data.rfind(b"\n", 0, self._done) + 1
        return b"\n" * (start < self._done) + self._data[start:]

    def go_on(self, position: dict[str, Any], pending: bytes, *, clean: bool) -> None:
        """Go on from a checkpoint: what a process before this one wrote after it is not written again.

        ``position``: what position() gave, {} where that is not known: a process before this one may have had no room
        for its state. ``pending``: what it could not write; start() offers it first. Where the
        output cannot be read back now, that is tried again before the first byte is written. ``clean``: it was not
        killed; else its last line may have no end, in an output that cannot be read back, and gets one.
        """
        self._before = position
        self._unread = True
        self._data = pending
        self._torn = not clean
        if self.opened:
            self._end_line()
            try:
                self._read_back()
            except (SinkError, OSError) as exc:
                self._failed(exc)

    def _open(self) -> None:
        """Open the sink. Errors: SinkError, OSError."""
        if self._tried and not self._found:
            # A path that could not be looked at was taken for a file's, and may be a pipe.
            sink = self._find()
            if type(sink) is not type(self.sink):
                self.sink = sink
        self._tried = True
        self.sink.open()
        self.opened = self._found = True
        self._end_line()

    def _end_line(self) -> None:
        """Where a torn line cannot be cut off, it gets an end before all else."""
        if self._torn and "length" not in self.sink.position() and not self._data.startswith(b"\n"):
            self._data = b"\n" + self._data
        self._torn = False

    def _read_back(self) -> None:
        """Look what is written already, and take it off what waits. Errors: SinkError, OSError."""
        if not self._unread:
            return
        self._written.add(self.sink.since(self._before))
        self._unread = False
        self._data = self._take_off(self._data)

    def _take_off(self, data: bytes) -> bytes:
        """Without the events that are written already."""
        new = self._written.new(data)
        self._health.counters["output_repeated"] += data.count(b"\n") - new.count(b"\n")
        return new

    def settle(self) -> bool:
        """What a process before this one wrote has come again by now, if it ever does; false: that is not known yet."""
        if not self._unread:
            self._written.forget()
        return not self._unread

    def start(self) -> None:
        """The loop runs: write what was kept."""
        if self._data:
            self._push()

    def position(self) -> dict[str, Any]:
        """For the checkpoint: what of the output is durable, up to where it is the work of its input.

        While events may come again that the process before this one wrote, that is where it had been: a kill now
        means that they come again after the next start.
        """
        if self._written or self._unread:
            return self._before
        return self.sink.position() if self.opened else {}

    def open(self) -> None:
        """The first opening, before the loop runs. Errors: none, it is tried again."""
        self._guarded(self._open)

    def offer(self, data: bytes, source: str = "", stamp_ms: int = 0) -> None:
        """Write, now or later. ``source``, ``stamp_ms``: of its newest record, for the latency; 0 is for none."""
        if self._written:
            data = self._take_off(data)
        if not data:
            return
        if self._data:
            self._data += data
        else:
            self._data = data
            self._stamp = source, stamp_ms
            self._push()

    def poll(self) -> None:
        """The once-a-second look: the file may have been rotated away, the one that failed may be back."""
        is_waiting = self._watch.started or self._timer is not None
        if self._data and not is_waiting:  # an error that nobody foresaw (no memory) ended the last try
            self._blocked_ms = self._blocked_ms or monotonic_ms()
            self._push()
        if self._blocked_ms:
            self._health.counters["output_blocked_ms"] += monotonic_ms() - self._blocked_ms
            self._blocked_ms = monotonic_ms()
            return
        if not self.opened or not self.sink.ready:
            self._guarded(self._open)  # of a pipe: is there a reader now?
        if self.opened:
            self._guarded(self.sink.poll)

    def reopen(self) -> None:
        """Open the path again, for whoever rotated it."""
        self._unwait()
        self._guarded(self.sink.reopen if self._found else self._open)
        if self._data:
            self._push()

    def sync(self) -> None:
        """Make durable what was taken; it has to be open. Errors: SinkError, and it may take more all the same."""
        self.sink.sync()

    def close(self) -> None:
        self._watch.close()
        self.sink.close()
        self.opened = False

    def _push(self) -> None:
        """Give the sink all it takes. Called with pending bytes; ends with none, or with something to wait for."""
        self._unwait()
        before = self._done
        if self._write():
            self._data = b""
            self._done = 0
            self._retry_ms = OUTPUT_RETRY_MS[0]
            source, stamp_ms = self._stamp
            if stamp_ms:
                self._health.latency[source].observe(wall_ms() - stamp_ms)
                self._stamp = "", 0
            if self._blocked_ms:
                self._health.counters["output_blocked_ms"] += monotonic_ms() - self._blocked_ms
                self._blocked_ms = 0
                self._on_free()
            return
        self._blocked_ms = self._blocked_ms or monotonic_ms()
        self._wait(moved=self._done > before)

    def _write(self) -> bool:
        """Open where need be, then write until all is taken (true) or the sink takes no more (false)."""
        try:
            if not self.opened:
                self._open()
            self._read_back()
            view = memoryview(self._data)
            while self._done < len(view):
                count = self.sink.write(view[self._done :])
                if count == 0:
                    self._stalled(TAKES_NOTHING)
                    return False
                self._done += count
                self._health.counters["output_bytes"] += count
        except (SinkError, OSError) as exc:
            self._failed(exc)
            return False
        self._works()
        return True

    def _wait(self, *, moved: bool) -> None:
        """Be called when the sink may take more.

        A descriptor is trusted only while it keeps its word: a pipe whose reader left polls as writable for ever.
        """
        if moved:
            self._retry_ms = OUTPUT_RETRY_MS[0]
        is_trusted = self.opened and self._retry_ms == OUTPUT_RETRY_MS[0]
        if is_trusted and self._watch.aim(self.sink.fileno()):
            self._watch.start()
        else:
            self._timer = asyncio.get_running_loop().call_later(self._retry_ms / 1000, self._push)
        self._retry_ms = min(2 * self._retry_ms, OUTPUT_RETRY_MS[1])

    def _unwait(self) -> None:
        self._watch.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (SinkError, OSError) as exc:
            self._failed(exc)
        else:
            self.opened = True
            if not self.sink.ready:
                self._stalled(TAKES_NOTHING)
            elif not self._data:
                self._works()

    def _failed(self, exc: Exception) -> None:
        self.opened = False
        self._health.errors["output"] += 1
        self._stalled(str(exc))

    def _stalled(self, problem: str) -> None:
        self._health.set_state("output", problem)
        self._complaints.trouble(self.sink.name, problem)

    def _works(self) -> None:
        self._health.set_state("output", "")
        self._complaints.over(self.sink.name)


class RejectLog:
    """``--reject-log``: lines that are no records, as they came, for whoever wants to see what it is that is rejected.

    A convenience, never a duty: what is over its rate or cannot be written is counted and forgotten.
    """

    def __init__(self, path: str, health: Health, complaints: Complaints) -> None:
        self._path = path
        self._health = health
        self._complaints = complaints
        self._fd = -1
        self._lines: list[bytes] = []
        self._room = REJECT_BYTES_PER_TICK_MAX

    def add(self, line: bytes, reason: str) -> None:
        """The core's callback: keep a copy until the end of the turn. The reason is counted by the core."""
        del reason
        self._room -= len(line) + 1
        if self._room < 0:
            self._health.counters["rejected_lines_dropped"] += 1
        else:
            self._lines.append(line)

    def flush(self, *, tick: bool = False) -> None:
        """Write what was kept; a tick brings new room."""
        if tick:
            self._room = REJECT_BYTES_PER_TICK_MAX
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        data = b"".join(line.rstrip(b"\n") + b"\n" for line in lines)
        try:
            self._write(data)
        except OSError as exc:
            self._health.errors["reject_log"] += 1
            self._health.counters["rejected_lines_dropped"] += len(lines)
            self._complaints.trouble(self._path, exc.strerror or str(exc))
            self.close()
        else:
            self._complaints.over(self._path)

    def _write(self, data: bytes) -> None:
        """Append, all or nothing. Errors: OSError."""
        if self._fd < 0:
            self._fd = _open_append(self._path)
        size = os.fstat(self._fd).st_size
        if size and size + len(data) > REJECT_FILE_BYTES_MAX:
            os.rename(self._path, f"{self._path}.1")
            self.close()
            self._fd = _open_append(self._path)
            size = 0
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    def close(self) -> None:
        """Give up the descriptor; the next write opens the path again, which is what a rotation asks for."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open_append(path: str) -> int:
    """A regular file of which there is one name, made 0640 where it is missing. Errors: OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, LOG_MODE)
        os.fchmod(fd, LOG_MODE)  # whatever the umask took away
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        os.close(fd)
        raise OSError(None, "not a regular file with one name", path)
    return fd
