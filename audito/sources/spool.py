"""A bounded spool on disk behind a source that cannot wait, and that gives nothing twice: a named pipe.

All that comes through it is appended to the newest of a few files ("segments"), and a segment is deleted when a saved
checkpoint says that its events are out. So what the output does not take waits here and not in the writer, and after
a kill it is read again. A segment's name says at which byte of the stream it starts and how many lines were dropped
before that, for lack of room; each chunk in it has a header with its time and its length.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import time
from itertools import pairwise
from typing import Any

from audito.checkpoint import SPOOL_PREFIX
from audito.errors import SourceError
from audito.sources import READ_BYTES_MAX, GapReason, Source, Stream

SEGMENT_COUNT = 8
"""Into so many parts the spool's bytes are divided: room comes back a segment at a time."""

HEADER = struct.Struct("<QI")
"""Of a chunk: microseconds since 1970, bytes."""

EMPTY = memoryview(b"")
LF = 10
_NAME = re.compile(SPOOL_PREFIX + r"(audit|sshd)-([0-9a-f]{16})-([0-9]{1,12})")


class Segment:
    """One file. ``start``: the stream's byte that it begins with; ``stored``: how many it has; ``size``: of the file.

    ``dropped``: lines that stood before its first byte and are nowhere; ``told``: that was said.
    """

    def __init__(self, stream: Stream, start: int, dropped: int, fd: int) -> None:
        self.stream, self.start, self.dropped, self.fd = stream, start, dropped, fd
        self.told = not dropped
        self.stored = self.size = 0

    @property
    def name(self) -> str:
        return f"{SPOOL_PREFIX}{self.stream}-{self.start:016x}-{self.dropped}"

    @property
    def end(self) -> int:
        return self.start + self.stored

    def scan(self) -> None:
        """Find the end of the last whole chunk, and cut what a kill left behind it. Errors: OSError."""
        size = os.fstat(self.fd).st_size
        while self.size + HEADER.size <= size:
            length = HEADER.unpack(os.pread(self.fd, HEADER.size, self.size))[1]
            if self.size + HEADER.size + length > size:
                break
            self.size += HEADER.size + length
            self.stored += length
        if self.size < size:
            os.ftruncate(self.fd, self.size)


class SpooledSource:
    """``inner`` through a spool of at most ``bytes_max`` in ``directory``, which is ours alone.

    ``arrival_us``: when what read() gave last came. ``problem``: why it cannot do what it is there for, or "".
    ``uid``, ``gid``: the user that we are to become.
    """

    def __init__(self, inner: Source, directory: str, bytes_max: int, uid: int = -1, gid: int = -1) -> None:
        self.name, self.stream, self.format = inner.name, inner.stream, inner.format
        self.ended = self.opened = False
        self.arrival_us = 0
        self.problem = ""
        self._inner = inner
        self._directory = directory
        self._bytes_max = bytes_max
        self._uid, self._gid = uid, gid
        self._dir_fd = -1
        self._segments: list[Segment] = []
        self._place: dict[str, Any] | None = None  # that restore() was given
        self._given = self._end = 0  # stream offsets, after the last byte given and taken in
        self._shift = 0  # of the offsets that position() is asked for, where nothing was restored
        self._saved = -1  # what position() said last
        # Where the next byte is read back from, and how much of its chunk is left.
        self._reading: Segment | None = None
        self._file_at = self._chunk_left = 0
        self._buffer = bytearray()
        self._gaps: list[GapReason] = []
        self._dropped_due = 0
        self._dropped_lines = 0
        self._line_open = False  # the last byte taken in ends no line
        self._dropping = False
        self._skip_line = False  # the last byte dropped ended no line: the rest of it goes, too

    # -- as the protocol has it

    def open(self) -> None:
        if self.opened:
            return
        self._look()
        self._inner.open()
        self.opened = True

    def fileno(self) -> int:
        return self._inner.fileno()

    def wake(self) -> None:
        self._inner.wake()

    def poll(self) -> None:
        self._inner.poll()

    def read(self) -> memoryview:
        """As the protocol has it: what waits in the spool, then what the source has now, which is spooled as well."""
        self._note_dropped()
        if self._given < self._end:
            return self._read_back()
        data = self._take()
        if not data:
            return EMPTY
        self.arrival_us = time.time_ns() // 1000
        if self._store(data, self.arrival_us):
            self._reading, self._file_at, self._chunk_left = self._segments[-1], self._segments[-1].size, 0
        else:
            self._bypass(data)
        self._given = self._end
        return data

    def take_gaps(self) -> list[GapReason]:
        gaps, self._gaps = self._gaps + self._inner.take_gaps(), []
        return gaps

    def waiting_bytes(self) -> int:
        inner = self._inner.waiting_bytes()
        return self._end - self._given + max(inner, 0) if inner >= 0 or self._end > self._given else inner

    def position(self, offset: int) -> dict[str, Any]:
        self._saved = offset + self._shift
        return {"stream": self._saved, "end": self._end}

    def restore(self, state: dict[str, Any]) -> int:
        """As the protocol has it. What no segment has any more is a gap: it was given and not yet resolved."""
        self._place = state
        self._given = self._end = int(state["stream"])
        try:
            self._look()
        except SourceError:
            pass  # open() will say it
        return self._given

    def close(self) -> None:
        self._inner.close()
        if self.opened:
            self._place = {"stream": self._given, "end": self._end}
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
        self._reading = None
        if self._dir_fd >= 0:
            os.close(self._dir_fd)
            self._dir_fd = -1
        self.opened = False

    def counters(self) -> dict[str, int]:
        """``spool_bytes_now``: taken in and not given yet; ``spool_dropped_lines``: for which there was no room."""
        return {"spool_bytes_now": self._end - self._given, "spool_dropped_lines": self._dropped_lines}

    # -- beyond it

    def absorb(self) -> bool:
        """Take in what the source has now, though nobody wants it yet; returns whether there was anything."""
        data = self._take()
        if not data:
            return False
        if not (self._has_room_again() and self._store(data, time.time_ns() // 1000)):
            self._drop(data)
        return True

    def take_dropped(self) -> int:
        """How many lines are missing before what read() gave last, told once."""
        count, self._dropped_due = self._dropped_due, 0
        return count

    def release(self) -> None:
        """The last position() is on disk: what lies before it is not needed any more. Errors: none."""
        while self._segments and self._segments[0].end <= self._saved and self._segments[0].told:
            self._delete(self._segments.pop(0))
        for segment in self._segments:
            if segment.told and segment.dropped:
                self._rename(segment, 0)

    # -- segments

    def _look(self) -> None:
        """Find the segments of a process before this one. Errors: SourceError."""
        if self._dir_fd >= 0:
            return
        try:
            self._dir_fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for name in sorted(os.listdir(self._dir_fd)):
                match = _NAME.fullmatch(name)
                if match is not None and match[1] == self.stream:
                    self._segments.append(self._open_segment(int(match[2], 16), int(match[3]), os.O_RDWR))
                    self._segments[-1].scan()
            self._settle()
        except (OSError, SourceError) as exc:
            self.close()
            raise SourceError(f"spool in {self._directory}: {exc}") from exc

    def _give_up_before_holes(self) -> None:
        """A power cut can take the end of a segment: only what is behind the last hole has a place."""
        holes = [n for n, (older, newer) in enumerate(pairwise(self._segments), 1) if older.end != newer.start]
        if holes:
            for segment in self._segments[: holes[-1]]:
                self._delete(segment)
            del self._segments[: holes[-1]]
            self._gaps.append("place_lost")

    def _settle(self) -> None:
        """Begin where the saved place is, or with all that there is. Errors: OSError."""
        self._give_up_before_holes()
        starts = [segment.start for segment in self._segments]
        ends = [segment.end for segment in self._segments]
        if self._place is None:
            self._given = self._shift = min(starts, default=0)
            self._end = max(ends, default=0)
        else:
            place, end = self._given, int(self._place.get("end", self._given))
            while self._segments and self._segments[0].end <= place and self._segments[0].told:
                self._delete(self._segments.pop(0))
            first = self._segments[0].start if self._segments else end
            self._given = max(place, first)
            self._end = max([self._given, *ends])
            if (first > place or self._end < end) and not self._gaps:
                self._gaps.append("place_lost")
        self._find_place()
        if self._segments and (last := self._segments[-1]).size and os.pread(last.fd, 1, last.size - 1) != b"\n":
            # The rest of the line may have been read and not stored any more: nothing may look like its end.
            self._store(memoryview(b"\n"), time.time_ns() // 1000)

    def _open_segment(self, start: int, dropped: int, flags: int) -> Segment:
        """Errors: OSError; SourceError for what is no file of ours."""
        segment = Segment(self.stream, start, dropped, -1)
        segment.fd = os.open(
            segment.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=self._dir_fd
        )
        info = os.fstat(segment.fd)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1 or info.st_uid not in (0, os.geteuid(), self._uid):
            os.close(segment.fd)
            raise SourceError(f"{os.path.join(self._directory, segment.name)}: is no file of ours")
        if self._uid >= 0 and os.geteuid() == 0:
            os.fchown(segment.fd, self._uid, self._gid)
        return segment

    def _newest(self, length: int) -> Segment:
        """The segment that a chunk goes to. Errors: OSError, SourceError."""
        if self._segments:
            last = self._segments[-1]
            if (last.end == self._end and last.size + length <= self._bytes_max // SEGMENT_COUNT) or not last.stored:
                return last
        self._segments.append(self._open_segment(self._end, 0, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        return self._segments[-1]

    def _delete(self, segment: Segment) -> None:
        if self._reading is segment:
            self._reading = None
        os.close(segment.fd)
        try:
            os.unlink(segment.name, dir_fd=self._dir_fd)
        except OSError:
            pass  # it is found at the next start, and deleted then

    def _rename(self, segment: Segment, dropped: int) -> None:
        before = segment.name
        segment.dropped = dropped
        try:
            os.rename(before, segment.name, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        except OSError:
            pass  # only a kill would need it

    # -- in

    def _take(self) -> memoryview:
        """What the source has now, without the rest of a line of which the start was dropped. Errors: SourceError."""
        data = self._inner.read()
        if not data or not self._skip_line:
            return data
        cut = bytes(data).find(b"\n") + 1
        self._skip_line = not cut
        return data[cut:] if cut else EMPTY

    def _free(self) -> int:
        return self._bytes_max - sum(segment.size for segment in self._segments)

    def _has_room_again(self) -> bool:
        """Once lines were dropped, there has to be room for a segment: else there would be a gap every few lines."""
        self._dropping = self._dropping and self._free() < self._bytes_max // SEGMENT_COUNT
        return not self._dropping

    def _store(self, data: memoryview, now_us: int) -> bool:
        """Append a chunk; false where it has no room, or the disk takes nothing. Then nothing of it is there."""
        if HEADER.size + len(data) > self._free():
            self.problem = f"the spool of {self._bytes_max} bytes is full"
            return False
        try:
            self._append(data, now_us)
        except (OSError, SourceError) as exc:
            self.problem = f"the spool takes nothing: {exc}"
            return False
        self.problem = ""
        return True

    def _append(self, data: memoryview, now_us: int) -> None:
        """Errors: OSError, SourceError; nothing of the chunk counts then."""
        segment = self._newest(HEADER.size + len(data))
        at = segment.size
        try:
            for part in (memoryview(HEADER.pack(now_us, len(data))), data):
                while part:
                    count = os.pwrite(segment.fd, part, at)
                    part, at = part[count:], at + count
        except OSError:
            os.ftruncate(segment.fd, segment.size)
            raise
        segment.size = at
        segment.stored += len(data)
        self._end += len(data)
        self._line_open = data[-1] != LF

    def _drop(self, data: memoryview) -> None:
        """There is no room for these lines, and their writer does not wait: they are counted, on disk as well."""
        text = bytes(data)
        self._skip_line = not text.endswith(b"\n")
        lines = text.count(b"\n") + self._skip_line
        self._dropped_lines += lines
        self._dropping = True
        try:
            if self._line_open:  # the line of which the end is dropped; beyond the limit, by one
                self._append(memoryview(b"\n"), time.time_ns() // 1000)
            last = self._segments[-1] if self._segments else None
            if last is None or last.stored or last.told:
                self._segments.append(self._open_segment(self._end, lines, os.O_RDWR | os.O_CREAT | os.O_EXCL))
            else:
                self._rename(last, last.dropped + lines)
        except (OSError, SourceError):
            self._dropped_due += lines  # told a little early, but told

    def _bypass(self, data: memoryview) -> None:
        """The spool cannot take what can go out at once: it goes out, and after a kill it will be missing."""
        for segment in self._segments:
            self._delete(segment)
        self._segments.clear()
        self._end += len(data)
        self._line_open = data[-1] != LF
        self._dropping = False
        try:
            # An empty one says after a kill that the stream had come so far.
            self._segments.append(self._open_segment(self._end, 0, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        except (OSError, SourceError):
            pass

    # -- out

    def _note_dropped(self) -> None:
        """Lines are missing before the next byte that is given."""
        for segment in self._segments:
            if not segment.told and segment.start <= self._given:
                segment.told = True
                self._dropped_due += segment.dropped

    def _find_place(self) -> None:
        """Go to the byte that is given next. Errors: OSError."""
        self._reading, self._file_at, self._chunk_left = None, 0, 0
        for segment in self._segments:
            if segment.start <= self._given < segment.end:
                self._reading = segment
                left = self._given - segment.start
                while True:
                    self.arrival_us, length = HEADER.unpack(os.pread(segment.fd, HEADER.size, self._file_at))
                    if left < length:
                        self._file_at += HEADER.size + left
                        self._chunk_left = length - left
                        return
                    left -= length
                    self._file_at += HEADER.size + length

    def _read_back(self) -> memoryview:
        """The next bytes of one chunk in the spool. Errors: SourceError."""
        try:
            if self._reading is None or self._file_at >= self._reading.size:
                self._find_place()
            segment = self._reading
            assert segment is not None, "what was taken in and not given is in a segment"
            if not self._chunk_left:
                header = os.pread(segment.fd, HEADER.size, self._file_at)
                self.arrival_us, self._chunk_left = HEADER.unpack(header)
                self._file_at += HEADER.size
            if not self._buffer:
                self._buffer = bytearray(READ_BYTES_MAX)
            view = memoryview(self._buffer)[: self._chunk_left]
            count = os.preadv(segment.fd, [view], self._file_at)
        except (OSError, struct.error) as exc:
            raise SourceError(f"spool in {self._directory}: {exc}") from exc
        if count == 0:
            raise SourceError(f"spool in {self._directory}: {segment.name} was cut")
        self._file_at += count
        self._chunk_left -= count
        self._given += count
        return view[:count]
