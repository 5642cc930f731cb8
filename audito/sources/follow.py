"""A log and its rotated files, read as one stream of bytes: oldest file first, then the live one as it grows.

A file is known by device, inode and *head* (its first line, at most HEAD_BYTES_MAX): names move in a
rotation, inodes are used again, and a file can be emptied in place. Each read() that finds nothing
looks at the names again, so neither a wake-up nor a poll is needed for the bytes to be right.

What one writer does, and what it means here:
  renamed away      the old file is read to its end, then all newer ones in order, then the live one
  copied, then cut  what was not read yet is in the copy; after it the live file is read from its start
  removed           the open descriptor still has it; after it come the files that were not read yet
"""

from __future__ import annotations

import logging
import os
import re
import stat
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from audito.errors import SourceError
from audito.sources import READ_BYTES_MAX, Format, GapReason, Stream
from audito.sources.inotify import Watcher

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 512
"""A node name of 255 bytes, then type and time: the serial number of the first record is always in it."""

SPANS_MAX = 1024
"""Files whose place in the stream is remembered: auditd keeps at most 999 rotated ones."""

RUNS_MAX = 64
"""Files behind a place that the checkpoint names: the newest, for it is the oldest that a rotation deletes."""

DONE_MAX = 4
"""Files read to their end that the checkpoint names, so that none is read twice when its successor is gone."""

SNAPSHOT_TRIES_MAX = 4
"""Two listings that agree were not taken in the middle of a rotation."""

STEPS_MAX = 2 * SPANS_MAX
"""Files that one read() passes over: more than a directory has, and never for ever."""

LF = 10
EMPTY = memoryview(b"")

_ROTATED = re.compile(r"\.(?P<number>[0-9]+)|-(?P<date>[0-9]{8}(?:-?[0-9]+)?)", re.ASCII)


class Identity(msgspec.Struct, frozen=True):
    """Which file. ``head_bytes``: how much of its start ``head_hash`` covers, 0 for a file that was empty.

    ``whole``: the head is a complete line or HEAD_BYTES_MAX, which no other file starts with.
    """

    dev: int
    inode: int
    head_bytes: int
    head_hash: str
    whole: bool


class Run(msgspec.Struct, frozen=True, array_like=True):
    """A part of the stream that came from one file; ``stream`` and ``offset`` name its first byte."""

    stream: int
    offset: int
    file: Identity


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A byte of the stream, as the checkpoint keeps it.

    ``stream``: its offset in the stream; ``offset``: in ``file``; ``file`` is None before there was one.
    ``done``: the last files that had been read to their end, oldest first. ``later``: the runs that were read behind
    this byte, oldest first, and ``end`` where the last one ended, -1 in a state that does not say: where the file is
    gone, they tell what of the others was read.
    """

    path: str
    stream: int
    offset: int = 0
    file: Identity | None = None
    done: tuple[Identity, ...] = ()
    later: tuple[Run, ...] = ()
    end: int = -1


@dataclass(slots=True)
class Seen:
    """A file as a listing showed it."""

    path: Path
    dev: int
    inode: int
    size: int
    changed_us: int


@dataclass(slots=True)
class _File:
    """The file being read. ``offset``: of the next byte to read; ``head``: what of its first line was there.

    ``seam``: where a process before this one went on after the file was shortened: a line that is open there has lost
    its rest, and what stands behind it is another one.
    """

    path: Path
    fd: int
    dev: int
    inode: int
    offset: int
    head: bytes
    seam: Run | None = None

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def intact(self) -> bool:
        """Whether the file still begins as it did: false after it was emptied and written anew."""
        return os.pread(self.fd, len(self.head), 0) == self.head


@dataclass(slots=True)
class _Span:
    """A run of the stream that came from one file; ``stream`` and ``offset`` name its first byte.

    A line end that we put between two files is in neither: the newer one's run begins after it.
    """

    stream: int
    offset: int
    file: _File


def rotated_files(live: Path) -> list[Path]:
    """The rotated files of a log, oldest first: NAME-DATE in order of date, then NAME.N from the highest N.

    Regular files only; compressed ones are passed over. Errors: OSError when the directory cannot be read.
    """
    dated: list[tuple[str, Path]] = []
    numbered: list[tuple[int, Path]] = []
    with os.scandir(live.parent) as entries:
        for entry in entries:
            if not entry.name.startswith(live.name):
                continue
            match = _ROTATED.fullmatch(entry.name, len(live.name))
            if match is None or not _is_regular(entry):
                continue
            path = live.parent / entry.name
            if match["number"] is not None:
                numbered.append((int(match["number"]), path))
            else:
                dated.append((match["date"], path))
    return [path for _, path in sorted(dated)] + [path for _, path in sorted(numbered, reverse=True)]


def all_files(live: Path) -> list[Path]:
    """The rotated files of a log, oldest first, then the live one where it is there."""
    files = rotated_files(live)
    try:
        if stat.S_ISREG(os.lstat(live).st_mode):
            files.append(live)
    except FileNotFoundError:
        pass
    return files


def open_regular(path: Path) -> int:
    """A descriptor of a regular file that is no symbolic link. Errors: OSError; SourceError for another kind."""
    # O_NONBLOCK: a named pipe put in its place would block the open until somebody writes.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        os.close(fd)
        raise
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise SourceError(f"{path}: not a regular file")
    return fd


class Follower:
    """A source that follows one log; see the module. Subclasses say which files a first start begins with."""

    def __init__(self, live: Path, *, name: str, stream: Stream, line_format: Format, follow: bool = True) -> None:
        self.name = name
        self.stream: Stream = stream
        self.format: Format = line_format
        self.ended = False
        self.opened = False
        self._live = live
        self._follow = follow
        self._buffer = bytearray(READ_BYTES_MAX)
        self._view = memoryview(self._buffer)
        self._watcher = Watcher(live.parent)
        self._file: _File | None = None
        self._spans: deque[_Span] = deque(maxlen=SPANS_MAX)
        self._done: deque[tuple[int, Identity]] = deque(maxlen=DONE_MAX)
        self._place = Place(path=str(live), stream=0, end=0)
        self._given = 0
        self._skipped: int | None = 0
        # The last byte given was not a line end; a line end is owed before another file's first byte.
        self._line_open = False
        self._owes_line_end = False
        self._cut_line = False  # it was given just now
        self._counts = {"rotations": 0, "truncations": 0, "gaps": 0}
        self._gaps: list[GapReason] = []

    @property
    def gap(self) -> bool:
        """Whether bytes may have gone unread: a place that was not found again, a file cut before its end was read."""
        return self._counts["gaps"] > 0

    def counters(self) -> dict[str, int]:
        """``rotations``: changes to a newer file; ``truncations``: files cut in place; ``gaps``: see ``gap``."""
        return dict(self._counts)

    # -- what a subclass decides

    def _first(self, files: list[Seen]) -> int:
        """The index of the file that a start without a place begins with; ``files`` is not empty."""
        return 0

    def _check(self) -> None:
        """Say what is wrong with the input as a whole. Errors: SourceError, OSError."""
        if not stat.S_ISDIR(os.stat(self._live.parent).st_mode):
            raise SourceError(f"{self._live.parent}: not a directory")
        try:
            mode = os.lstat(self._live).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
            raise SourceError(f"{self._live}: {kind}")

    # -- the Source protocol

    def open(self) -> None:
        if self.opened:
            return
        try:
            self._check()
            if self._file is None:
                self._begin()
        except OSError as exc:
            raise self._error(exc) from exc
        if self._follow:
            self._watcher.open()
            if self._file is not None:
                self._watcher.watch(self._file.fd)
        self.opened = True

    def fileno(self) -> int:
        return self._watcher.fileno()

    def wake(self) -> None:
        self._watcher.drain()

    def poll(self) -> None:
        """As the protocol has it; the names are looked at by the read() that follows. Errors: SourceError."""
        if not self.opened:
            return
        try:
            self._check()
        except OSError as exc:
            raise self._error(exc) from exc
        self._watcher.poll()

    def read(self) -> memoryview:
        """As the protocol has it. Errors: SourceError when a file cannot be read; the place is kept."""
        if not self.opened:
            return EMPTY
        try:
            for _ in range(STEPS_MAX):
                count = self._take()
                if count:
                    self._given += count
                    return self._view[:count]
                if not self._advance():
                    break
        except OSError as exc:
            raise self._error(exc) from exc
        return EMPTY

    def take_gaps(self) -> list[GapReason]:
        gaps, self._gaps = self._gaps, []
        return gaps

    def take_skipped(self) -> int | None:
        """How many bytes that a process before this one was given do not come again, and lie before what comes next.

        Told once; asked before what was read is used. None: that is not known.
        """
        skipped, self._skipped = self._skipped, 0
        return skipped

    def take_cut(self) -> bool:
        """Whether what read() gave last is a line end of ours, of a line that its file lost the rest of; told once."""
        cut, self._cut_line = self._cut_line, False
        return cut

    def waiting_bytes(self) -> int:
        """As the protocol has it: the rest of the file at hand, and all newer ones."""
        file = self._file
        try:
            if file is None:
                files = self._snapshot() or []
                return sum(seen.size for seen in files[self._after_done(files) :])
            newer, _ = self._newer(file)
            size = file.size()
            if size < file.offset or not file.intact():
                return -1  # it was cut in place, and a copy may have what we did not read
            return size - file.offset + sum(seen.size for seen in newer)
        except OSError:
            return -1

    def _note_gap(self, reason: GapReason) -> None:
        self._counts["gaps"] += 1
        self._gaps.append(reason)

    def position(self, offset: int) -> dict[str, Any]:
        return msgspec.to_builtins(self._place_of(offset))  # type: ignore[no-any-return]

    def restore(self, state: dict[str, Any]) -> int:
        """As the protocol has it; the place in another log, or none at all, starts anew and is a gap."""
        try:
            place = msgspec.convert(state, Place)
        except msgspec.ValidationError as exc:
            log.warning("%s: the place in the state cannot be read, starting anew: %s", self.name, exc)
            self._note_gap("place_lost")
            self._skipped = None
            place = Place(path=str(self._live), stream=0, end=0)
        if place.path != str(self._live):
            log.warning("%s: the state is about %s, starting anew", self.name, place.path)
            self._note_gap("place_lost")
            self._skipped = None
            place = Place(path=str(self._live), stream=place.stream, end=place.stream)
        self._spans.clear()
        self._adopt(place)
        self._line_open = False
        return place.stream

    def close(self) -> None:
        """As the protocol has it; open() goes on where reading stopped."""
        if self._file is not None:
            self._adopt(self._place_of(self._given))
        self._watcher.close()
        self.opened = False

    # -- bytes

    def _take(self) -> int:
        """Read on in the file at hand into the buffer; returns how many bytes, 0 when there are none."""
        if self._owes_line_end:
            self._owes_line_end = False
            self._cut_line = True
            self._buffer[0] = LF
            return 1
        file = self._file
        if file is None:
            return 0
        view = self._view if file.seam is None else self._view[: file.seam.offset - file.offset]
        count = os.preadv(file.fd, [view], file.offset)
        # Looked at after reading: a file emptied and grown past our offset would give the middle of something else.
        if count == 0 or not file.intact():
            return 0
        known = len(file.head) - file.offset
        if 0 <= known < count and not _is_whole(file.head):
            file.head = _head_of(file.head + bytes(self._view[known : min(count, known + HEAD_BYTES_MAX)]))
        file.offset += count
        self._line_open = self._buffer[count - 1] != LF
        return count

    def _advance(self) -> bool:
        """Nothing more where we are: find out why. Returns whether reading on may give something."""
        file = self._file
        if file is None:
            return self._begin()
        size = file.size()
        if size < file.offset or not file.intact() or self._lost_end(file, size):
            return self._cut(file, size)
        if file.seam is not None and file.offset == file.seam.offset:
            # As the process before this one did, which told of what is missing: the same bytes at the same offsets.
            self._pass_over(msgspec.structs.replace(file.seam, stream=file.seam.stream - self._line_open))
            self._go_on(file, file.offset, told=True)
            return True
        if size > file.offset:
            return True
        newer, adjoins = self._newer(file)
        if not newer:
            self.ended = not self._follow
            return False
        # The writer changed to a newer file before this look at the size, so the old one is at its end now.
        if file.size() > file.offset:
            return True
        if not adjoins and not self._followed(newer[0]):
            self._note_gap("file_gone")
            self._pass_over(self._run_in(newer[:1]))
        return self._enter(newer[0], 0)

    def _lost_end(self, file: _File, size: int) -> bool:
        """Whether a file ends before what a process before this one was given of it: it was cut since it was opened."""
        place = self._place
        if self._given >= place.end or size != file.offset or not file.head:
            return False
        return all(run.stream < self._given for run in place.later)  # else what was given behind it is another file's

    def _cut(self, file: _File, size: int) -> bool:
        """The file at hand was shortened or emptied in place; returns whether reading on may give something."""
        if file.head and size >= len(file.head) and file.intact():
            # Shortened: what a power cut took from its end. What comes next is appended here.
            self._counts["truncations"] += 1
            self._note_gap("file_truncated")
            self._pass_over(self._next_run)
            self._go_on(file, size)
            return True
        files = self._snapshot()
        if files is None:
            return False
        copy = self._find([seen for seen in files if seen.inode != file.inode], _identity(file))
        if copy is not None:
            # Where all of the copy was read already, there may still be others between it and the live file.
            entered = self._enter(copy, min(file.offset, copy.size), same_text=True)
            self._counts["truncations"] += entered
            return entered
        if self._has_moved(files):
            return False
        self._counts["truncations"] += 1
        self._note_gap("file_truncated")
        log.warning("%s: %s was emptied, and what was not read of it yet is in no other file", self.name, file.path)
        self._leave(file)
        self._pass_over(self._next_run)
        self._go_on(_File(file.path, file.fd, file.dev, file.inode, 0, b""), 0)
        return True

    # -- files

    def _begin(self) -> bool:
        """Open the file that the place names, or the first one; returns false when there is none yet."""
        files = self._snapshot()
        if not files:
            self.ended = not self._follow and files is not None
            return False
        place = self._place
        if place.file is not None:
            found = self._find(files, place.file)
            if found is not None:
                return self._begin_in(found, place)
            if self._has_moved(files):
                return False
            self._note_gap("file_gone")
            log.warning("%s: the file that was read last is gone, going on with the oldest unread one", self.name)
            run = self._run_in(files)
            self._pass_over(run)
            if run is not None:
                return self._begin()
            self._place = msgspec.structs.replace(self._place, file=None, offset=0)
        rest = files[self._after_done(files) :]
        if not rest:
            self.ended = not self._follow
            return False
        return self._enter(rest[0 if self._done else self._first(rest)], 0)

    def _begin_in(self, found: Seen, place: Place) -> bool:
        """Open the file that the place names; returns false when it is gone."""
        run = self._next_run
        if run is not None and run.file == place.file and run.offset <= place.offset:
            # It was shortened while it was read, and read on from there.
            self._pass_over(run)
            return self._begin()
        if found.size < place.offset:
            self._note_gap("file_truncated")
            self._pass_over(run)
        elif run is None and place.file and (lost := place.offset + place.end - place.stream - found.size) > 0:
            # It was shortened behind the place: of what was given, only the start comes again.
            self._note_gap("file_truncated")
            self._pass_over(Run(place.stream + lost, place.offset, place.file))
        return self._enter(found, min(place.offset, found.size), same_text=True)

    def _newer(self, file: _File) -> tuple[list[Seen], bool]:
        """The files to read after this one, oldest first; none as long as nobody wrote to any of them.

        And whether the first of them surely follows this one.
        """
        try:
            status = os.lstat(self._live)
            if (status.st_dev, status.st_ino) == (file.dev, file.inode):
                return [], True
        except FileNotFoundError:
            pass
        files = self._snapshot()
        if files is None:
            return [], True
        # The newest of its names: behind an older one of two it would come round again, for ever.
        at = max((i for i, seen in enumerate(files) if (seen.dev, seen.inode) == (file.dev, file.inode)), default=-1)
        newer = files[at + 1 :] if at >= 0 else files[self._after_done(files) :]
        # A writer that was told late of the rotation still writes to the old file: it ends with the first
        # byte of a newer one.
        if not any(seen.size for seen in newer):
            return [], True
        # Rotated out of the directory, this one leaves open whether others came and went between two looks.
        return newer, at >= 0 or len(newer) == 1

    def _enter(self, seen: Seen, offset: int, *, same_text: bool = False) -> bool:
        """Change to another file; returns false when it is not there any more. Errors: OSError, SourceError.

        ``same_text``: its bytes from ``offset`` on follow the last byte given without a line end between.
        """
        try:
            fd = open_regular(seen.path)
        except FileNotFoundError:
            return False
        try:
            status = os.fstat(fd)
            head = _head_of(os.pread(fd, HEAD_BYTES_MAX, 0))
            before = os.pread(fd, 1, offset - 1) if offset else b"\n"
        except OSError:
            os.close(fd)
            raise
        if (status.st_dev, status.st_ino) != (seen.dev, seen.inode):
            os.close(fd)
            return False
        file = _File(seen.path, fd, seen.dev, seen.inode, offset, head)
        if self._file is not None:
            self._counts["rotations"] += 1
            if not same_text:
                self._leave(self._file)
        elif offset > 0:
            self._line_open = before != b"\n"
        old = self._file
        self._go_on(file, offset, line_goes_on=same_text)
        if file.seam is not None and file.seam.offset > status.st_size:
            file.seam = None  # it was shortened once more
        if self._follow and self._watcher.fileno() >= 0:
            self._watcher.watch(fd)
        if old is not None:
            os.close(old.fd)
        return True

    def _go_on(self, file: _File, offset: int, *, line_goes_on: bool = False, told: bool = False) -> None:
        """Read ``file`` from ``offset`` next; a line that was left open gets its end, and is a gap unless told."""
        self._owes_line_end = self._line_open and not line_goes_on
        if self._owes_line_end:
            self._line_open = False
            if not told and "file_truncated" not in self._gaps:
                self._note_gap("file_truncated")
        file.offset = offset
        self._file = file
        start = self._given + self._owes_line_end
        self._spans.append(_Span(start, offset, file))
        file.seam = self._seam(file, start)

    def _seam(self, file: _File, start: int) -> Run | None:
        """Of a file that is read from ``start`` of the stream on, the next one; one that was opened anew has none."""
        identity = _identity(file)
        for run in self._place.later:
            if run.stream <= start:
                continue
            if run.file != identity or run.offset <= file.offset:
                return None
            if run.stream - start > run.offset - file.offset:
                return run
        return None

    @property
    def _next_run(self) -> Run | None:
        """Of what a process before this one was given, and this one not yet, the oldest run that begins there."""
        return next((run for run in self._place.later if run.stream > self._given), None)

    def _followed(self, seen: Seen) -> bool:
        """Whether a process before this one was given this file's start right behind what this one was given now."""
        starts = range(self._given, self._given + 1 + self._line_open)  # it may have put a line end between
        runs = [run for run in self._place.later if run.stream in starts and run.offset == 0]
        return any(self._find([seen], run.file) for run in runs)

    def _run_in(self, files: list[Seen]) -> Run | None:
        """Of these runs the oldest whose file is there."""
        later = self._place.later
        return next((run for run in later if run.stream > self._given and self._find(files, run.file)), None)

    def _pass_over(self, run: Run | None) -> None:
        """What was given before is gone up to ``run``, None: all of it is. What comes next keeps its stream offset."""
        place = self._place
        if place.end < 0:
            self._skipped = None
            return
        stream = max(place.end if run is None else run.stream, self._given)
        if self._skipped is not None:
            self._skipped += stream - self._given
        self._given = stream
        if run is not None:
            place = msgspec.structs.replace(place, file=run.file, offset=run.offset)
        self._place = msgspec.structs.replace(place, stream=stream)

    def _leave(self, file: _File) -> None:
        """Note that a file was read to its end."""
        self._done.append((self._given, _identity(file)))

    def _snapshot(self) -> list[Seen] | None:
        """All files, oldest first, or None while a rotation is moving them. Errors: OSError."""
        before: list[Seen] | None = None
        for _ in range(SNAPSHOT_TRIES_MAX):
            now: list[Seen] = []
            try:
                for path in all_files(self._live):
                    status = os.lstat(path)
                    now.append(Seen(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns // 1000))
            except FileNotFoundError:
                before = None
                continue
            if before is not None and [(s.path, s.inode) for s in before] == [(s.path, s.inode) for s in now]:
                return now
            before = now
        return None

    def _has_moved(self, files: list[Seen]) -> bool:
        """Whether the names changed since that listing: what was not found in it may be under another one."""
        now = self._snapshot()
        return now is None or [(s.path, s.inode) for s in files] != [(s.path, s.inode) for s in now]

    def _find(self, files: list[Seen], file: Identity) -> Seen | None:
        """The file of this identity under whatever name; its newest copy where it has none.

        A head that is not whole could be any file's: then the inode must be the same, too.
        """
        newest_first = reversed(files)
        for seen in sorted(newest_first, key=lambda seen: (seen.inode, seen.dev) != (file.inode, file.dev)):
            if (seen.inode == file.inode or file.whole) and _is(seen, file):
                return seen
        return None

    def _after_done(self, files: list[Seen]) -> int:
        """The index after the newest file that was read to its end; 0 when none is known."""
        done = [identity for _, identity in self._done]
        for index in range(len(files) - 1, -1, -1):
            seen = files[index]
            for identity in done:
                # Without a whole line, only the size tells it from another file that got its inode later.
                sure = identity.whole or seen.size == identity.head_bytes
                if sure and seen.inode == identity.inode and _is(seen, identity):
                    return index + 1
        return 0

    # -- places

    def _place_of(self, stream: int) -> Place:
        """The place of a stream offset; one older than all that is remembered becomes the oldest remembered."""
        if not self._spans:
            return msgspec.structs.replace(self._place, stream=stream)
        at = bisect_right(self._spans, stream, key=lambda span: span.stream) - 1
        span = self._spans[max(at, 0)]
        stream = min(max(stream, span.stream), self._given)
        done = tuple(identity for end, identity in self._done if end <= stream)
        # Nothing read of it: a file is better named by those before it than by an inode that may be used again.
        file = None if done and not span.file.head else _identity(span.file)
        offset = span.offset + stream - span.stream
        # One that begins behind a line end that is owed is none yet.
        later = [
            Run(span.stream, span.offset, _identity(span.file))
            for span in islice(self._spans, max(at, 0) + 1, None)
            if span.stream <= self._given
        ]
        # One that begins just here is to come, too, unless it is the file at hand.
        after = self._given - (self._spans[-1].stream < self._given)
        later += [run for run in self._place.later if run.stream > after]
        here = [run for run in later if run.stream == stream]
        if here:
            done = (*done, _identity(span.file))[-DONE_MAX:] if here[-1].file != file else done
            file, offset = here[-1].file, here[-1].offset
            del later[: len(here)]
        return Place(
            path=str(self._live),
            stream=stream,
            offset=offset,
            file=file,
            done=done,
            later=tuple(later[-RUNS_MAX:]),
            end=max(self._given, self._place.end),
        )

    def _adopt(self, place: Place) -> None:
        """Forget the file at hand; the next open() starts at ``place``."""
        if self._file is not None:
            os.close(self._file.fd)
        self._file = None
        self._place = place
        self._given = place.stream
        # A line end that was owed is owed again: the place is the end of the file before it.
        self._line_open |= self._owes_line_end
        self._owes_line_end = False
        self._done = deque(((place.stream, identity) for identity in place.done), DONE_MAX)

    def _error(self, exc: OSError) -> SourceError:
        return SourceError(f"{exc.filename or self._live}: {exc.strerror or exc}")


def _is_regular(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def _head_of(start: bytes) -> bytes:
    """The first line with its end, or as much of it as is there and counts."""
    end = start.find(b"\n", 0, HEAD_BYTES_MAX)
    return start[: end + 1] if end >= 0 else start[:HEAD_BYTES_MAX]


def _identity(file: _File) -> Identity:
    return Identity(file.dev, file.inode, len(file.head), _hash(file.head), _is_whole(file.head))


def _is_whole(head: bytes) -> bool:
    return len(head) == HEAD_BYTES_MAX or head.endswith(b"\n")


def _hash(head: bytes) -> str:
    return blake2b(head, digest_size=16).hexdigest()


def _is(seen: Seen, file: Identity) -> bool:
    """Whether the file at this path begins as the other one did."""
    if seen.size < file.head_bytes:
        return False
    try:
        fd = open_regular(seen.path)
    except FileNotFoundError:
        return False
    try:
        status = os.fstat(fd)
        same = (status.st_dev, status.st_ino) == (seen.dev, seen.inode)
        return same and _hash(os.pread(fd, file.head_bytes, 0)) == file.head_hash
    finally:
        os.close(fd)
