"""The systemd journal: sshd's entries, each as one line ``REALTIME_USEC PID TRUST MESSAGE``.

Which program wrote an entry is known by what journald itself adds (fields that begin with ``_``): any
user can send an entry that calls itself sshd, so only root's processes of sshd's own programs get TRUST 1.
What they write to standard error (``sshd -e``) gets 2: sshd leaves line ends in it, and each line is an entry.
The process of sshd's that serves a user runs as that user, and says why the login ends just before it is gone: often
journald finds no ``_EXE`` of it any more. Any program of that session could have said it, but no other's: TRUST 3, with
the audit session in PID's place.
"""

from __future__ import annotations

import importlib
import logging
import os
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from audito.errors import SourceError
from audito.sources import READ_BYTES_MAX, Format, GapReason, Stream
from audito.tables.programs import EXECUTABLES, NO_AUDIT_SESSION, TAGS

log = logging.getLogger(__name__)

JOURNAL_ROOTS = (Path("/var/log/journal"), Path("/run/log/journal"))
MACHINE_ID = Path("/etc/machine-id")

MESSAGE_BYTES_MAX = 16 << 10
"""Twice what an sshd line may have: what is longer is dropped and counted as too long by its reader."""

LINE_BYTES_MAX = 4 * MESSAGE_BYTES_MAX + 64
"""A message of nothing but line ends, each escaped to four bytes, and the three numbers before it."""

READ_ENTRIES_MAX = 2048
"""One read() takes some 20 ms at most."""

MARK_ENTRIES_MAX = 256
MARKS_MAX = 256
"""Entries whose place is remembered: 65,536, one cursor for 256 of them."""

EMPTY = memoryview(b"")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A byte of the stream, as the checkpoint keeps it: the start of the entry ``skip`` entries after ``cursor``.

    ``since_us``: where to start when the cursor is gone, or was never there: the time that journald received the
    entry, microseconds since the epoch; -1 for no place at all. ``boot_id``: the only boot that was read, if one.
    """

    stream: int
    cursor: str = ""
    skip: int = 0
    since_us: int = -1
    boot_id: str = ""


@dataclass(slots=True)
class _Mark:
    """Consecutive entries: stream offset and cursor of the first; where each ended and when it was received."""

    stream: int
    cursor: str
    ends: array[int] = field(default_factory=lambda: array("Q"))
    times_us: array[int] = field(default_factory=lambda: array("Q"))


class Entries:
    """The calls that we make on systemd.journal.Reader.

    ``next``, ``get`` and the like are its private methods: the public get_next() converts every field of the
    entry and costs six times as much. Nothing else in audito touches them.
    """

    def __init__(self, directory: Path | None) -> None:
        reader = _import_reader()
        self._reader: Any = reader(path=str(directory)) if directory is not None else reader()
        self._reader.data_threshold = MESSAGE_BYTES_MAX
        self.next = self._reader._next
        self.realtime_us = self._reader._get_realtime
        self.cursor = self._reader._get_cursor
        self._get = self._reader._get

    def match(self, field: str, values: Iterable[str]) -> None:
        """Only entries with one of these values; matches of several fields must all hold."""
        for value in values:
            self._reader.add_match(f"{field}={value}")

    def get(self, name: str) -> bytes | None:
        """The first value of a field of the entry at hand, None without one. Errors: OSError for a damaged entry."""
        try:
            value: bytes = self._get(name)
        except KeyError:
            return None
        return value

    def seek_time(self, since_us: int) -> None:
        """The next entry is the first that was received at that time or later."""
        self._reader.seek_realtime(since_us)

    def seek_cursor(self, cursor: str) -> bool:
        """Go to the entry of this cursor: it is the one at hand. Returns whether it is still there."""
        try:
            self._reader.seek_cursor(cursor)
            return bool(self.next() and self._reader.test_cursor(cursor))
        except ValueError:
            return False

    def seek_before_cursor(self, cursor: str) -> None:
        """The next entry is the one of this cursor."""
        self._reader.seek_cursor(cursor)

    def seek_start(self) -> None:
        """The next entry is the first of all."""
        self._reader.seek_head()

    def seek_end(self) -> bool:
        """The next entry is the first that is yet to come; returns whether there is one at hand, the last."""
        self._reader.seek_tail()
        if self._reader._previous():
            return True
        # Without this, the read after the first matching entry jumps to the newest one.
        self._reader.seek_head()
        return False

    def process(self) -> None:
        """Take note of what changed: new entries, new files, files taken away."""
        self._reader.process()

    def fileno(self) -> int:
        return int(self._reader.fileno())

    def close(self) -> None:
        self._reader.close()


def journal_available(directory: Path | None = None) -> bool:
    """Whether there is a journal that we may read, in this directory or, without one, on this host."""
    return any(_is_readable(file) for file in _journal_files(directory))


class JournalSource:
    """sshd's entries of a journal. Without a place or ``since_us``, it begins with what is yet to come.

    ``directory``: of journal files, None for this host's; ``boot_id``: only entries of that boot;
    ``since_us``: of a first start, microseconds since the epoch; ``executables``: programs whose root processes
    are sshd. Time of a line: when the sender's datagram arrived, else when journald handled it.
    """

    stream: Stream = "sshd"
    format: Format = "journal"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        boot_id: str = "",
        since_us: int | None = None,
        executables: Iterable[str] = EXECUTABLES,
    ) -> None:
        self.name = "sshd-journal"
        self.ended = False
        self.opened = False
        self.since_us = since_us
        self._directory = directory
        self._boot_id = boot_id.replace("-", "")
        self._executables = frozenset(os.fsencode(path) for path in executables)
        self._entries: Entries | None = None
        self._buffer = bytearray(READ_BYTES_MAX)
        self._view = memoryview(self._buffer)
        self._marks: deque[_Mark] = deque(maxlen=MARKS_MAX)
        # A mark may only go on with the entries of one unbroken reading.
        self._mark_goes_on = False
        self._place = Place(stream=0)
        self._given = 0
        self._last = ""  # cursor of the last entry that was read
        self._counts = {"entries": 0, "untrusted": 0, "damaged": 0, "gaps": 0}
        self._gaps: list[GapReason] = []

    @property
    def gap(self) -> bool:
        """Whether entries may have gone unread: the journal was vacuumed past the place that we had."""
        return self._counts["gaps"] > 0

    def counters(self) -> dict[str, int]:
        """``untrusted``: given with TRUST 0; ``damaged``: entries without a readable message, passed over."""
        return dict(self._counts)

    def open(self) -> None:
        if self.opened:
            return
        where = self._directory or "this host's journal"
        if not journal_available(self._directory):
            there = any(_journal_files(self._directory))
            raise SourceError(f"{where}: {'permission denied' if there else 'there are no journal files'}")
        try:
            entries = Entries(self._directory)
        except ImportError as exc:
            raise SourceError(f"{where}: the Python package systemd-python is missing: {exc}") from exc
        except OSError as exc:
            raise SourceError(f"{where}: {exc.strerror or exc}") from exc
        entries.match("SYSLOG_IDENTIFIER", TAGS)
        if self._boot_id:
            entries.match("_BOOT_ID", [self._boot_id])
        try:
            self._seek(entries)
            entries.fileno()
        except OSError as exc:
            entries.close()
            raise SourceError(f"{where}: {exc.strerror or exc}") from exc
        self._entries = entries
        self.opened = True

    def fileno(self) -> int:
        return self._entries.fileno() if self._entries is not None else -1

    def wake(self) -> None:
        if self._entries is not None:
            self._entries.process()

    def poll(self) -> None:
        """As the protocol has it: on some file systems, changes wake nobody."""
        self.wake()

    def read(self) -> memoryview:
        """As the protocol has it: whole lines. Errors: SourceError when the journal cannot be read on."""
        if self._entries is None:
            return EMPTY
        size = 0
        before = self._counts["entries"]
        try:
            for line in self._lines(self._entries):
                self._buffer[size : size + len(line)] = line
                size += len(line)
                if size > READ_BYTES_MAX - LINE_BYTES_MAX:
                    break
        except OSError as exc:
            if not size:
                raise SourceError(f"{self._directory or 'journal'}: {exc.strerror or exc}") from exc
            # What was read is given; the next read meets the error again.
        if self._counts["entries"] > before:
            self._last = self._cursor(self._entries)
        return self._view[:size]

    def _cursor(self, entries: Entries) -> str:
        """Of the entry at hand, also after the last one; "" where it was thrown away just now."""
        try:
            cursor: str = entries.cursor()
        except OSError:
            return ""
        return cursor

    def take_gaps(self) -> list[GapReason]:
        gaps, self._gaps = self._gaps, []
        return gaps

    def waiting_bytes(self) -> int:
        """As the protocol has it: a journal does not tell without being read."""
        return -1

    def _note_gap(self, reason: GapReason) -> None:
        self._counts["gaps"] += 1
        self._gaps.append(reason)

    def position(self, offset: int) -> dict[str, Any]:
        return msgspec.to_builtins(self._place_of(offset))  # type: ignore[no-any-return]

    def restore(self, state: dict[str, Any]) -> int:
        """As the protocol has it; a place that cannot be read is none, and a gap."""
        try:
            self._place = msgspec.convert(state, Place)
        except msgspec.ValidationError as exc:
            log.warning("%s: the place in the state cannot be read, starting anew: %s", self.name, exc)
            self._note_gap("place_lost")
            self._place = Place(stream=0)
        self._marks.clear()
        self._last = ""
        self._given = self._place.stream
        return self._given

    def close(self) -> None:
        """As the protocol has it; open() goes on where reading stopped."""
        if self._entries is not None:
            self._place = self._place_of(self._given)
            self._entries.close()
            self._entries = None
        self.opened = False

    # -- entries

    def _lines(self, entries: Entries) -> Iterator[bytes]:
        """The next entries as lines; keeps account of each before it is given. Errors: OSError."""
        for _ in range(READ_ENTRIES_MAX):
            if not entries.next():
                return
            self._counts["entries"] += 1
            mark = self._marks[-1] if self._mark_goes_on else None
            try:
                time_us = entries.realtime_us()
                if mark is None or len(mark.ends) >= MARK_ENTRIES_MAX:
                    mark = _Mark(self._given, entries.cursor())
            except OSError:
                # Thrown away while it was read: it has no place, so what follows cannot be counted on from before it.
                self._counts["damaged"] += 1
                self._mark_goes_on = False
                continue
            try:
                line = self._line(entries)
            except OSError:
                line = b""
            self._counts["damaged"] += not line
            self._given += len(line)
            if not self._mark_goes_on or mark is not self._marks[-1]:
                self._marks.append(mark)
                self._mark_goes_on = True
            mark.ends.append(self._given)
            mark.times_us.append(time_us)
            if line:
                yield line

    def _line(self, entries: Entries) -> bytes:
        """The entry at hand; b"" when it has no message. Errors: OSError for a damaged one."""
        message = entries.get("MESSAGE")
        if message is None:
            return b""
        if len(message) > MESSAGE_BYTES_MAX:
            message = message[:MESSAGE_BYTES_MAX]
        if b"\n" in message or b"\r" in message:
            message = message.replace(b"\n", b"#012").replace(b"\r", b"#015")
        # SYSLOG_PID is the sender's own word: only where the kernel did not tell journald who it was.
        pid = _number(entries.get("_PID") or entries.get("SYSLOG_PID") or b"", 10)
        trust = 0
        executable = entries.get("_EXE")
        if entries.get("_UID") == b"0" and executable in self._executables:
            trust = 2 if entries.get("_TRANSPORT") == b"stdout" else 1
        elif not executable or executable in self._executables:
            session = _number(entries.get("_AUDIT_SESSION") or b"", 10)
            if 0 < session < NO_AUDIT_SESSION:
                trust, pid = 3, session
        self._counts["untrusted"] += not trust
        time_us = entries.get("_SOURCE_REALTIME_TIMESTAMP") or b""
        return b"%d %d %d %s\n" % (_number(time_us, 17) or entries.realtime_us(), pid, trust, message)

    # -- places

    def _seek(self, entries: Entries) -> None:
        """Go where reading starts. Errors: OSError."""
        self._mark_goes_on = False
        place = self._place
        if place.boot_id != self._boot_id and place.boot_id and self._boot_id:
            # Rebooted: nothing of this boot was read, and its clock may have begun before the last one's end.
            entries.seek_start()
        elif place.cursor:
            if not self._go_on_after(entries, place):
                self._note_gap("journal_vacuumed")
                log.warning("%s: the entry that was read last is gone, going on by time", self.name)
                entries.seek_time(max(place.since_us, 0))
        elif place.since_us >= 0:
            entries.seek_time(place.since_us)
        elif self.since_us is not None:
            entries.seek_time(self.since_us)
            self._place = self._new_place(since_us=self.since_us)
        elif entries.seek_end():
            last = entries.cursor()
            self._place = self._new_place(cursor=last, skip=1, since_us=entries.realtime_us())
        else:
            self._place = self._new_place(since_us=0)

    def _new_place(self, *, cursor: str = "", skip: int = 0, since_us: int) -> Place:
        return Place(stream=self._given, cursor=cursor, skip=skip, since_us=since_us, boot_id=self._boot_id)

    def _go_on_after(self, entries: Entries, place: Place) -> bool:
        """Pass over the entries that were read; returns false when they are not there any more."""
        if not entries.seek_cursor(place.cursor):
            return False
        if place.skip == 0:
            entries.seek_before_cursor(place.cursor)
        return all(entries.next() for _ in range(place.skip - 1))

    def _place_of(self, stream: int) -> Place:
        """The place of a stream offset; one older than all that is remembered becomes the oldest remembered."""
        if not self._marks:
            return msgspec.structs.replace(self._place, stream=stream)
        at = bisect_right(self._marks, stream, key=lambda mark: mark.stream) - 1
        mark = self._marks[max(at, 0)]
        read = bisect_right(mark.ends, stream)
        if self._last and stream >= self._given and self._mark_goes_on:
            # All of it: the mark's first entry may be long gone, with nothing lost.
            return Place(
                stream=self._given, cursor=self._last, skip=1, since_us=mark.times_us[-1] + 1, boot_id=self._boot_id
            )
        return Place(
            stream=mark.ends[read - 1] if read else mark.stream,
            cursor=mark.cursor,
            skip=read,
            # Behind what was read: by its time alone the last entry would be read again, a login would claim twice.
            since_us=mark.times_us[read] if read < len(mark.times_us) else mark.times_us[-1] + 1,
            boot_id=self._boot_id,
        )


def _number(digits: bytes, digits_max: int) -> int:
    """A decimal number, 0 for anything else."""
    return int(digits) if digits.isdigit() and len(digits) <= digits_max else 0


def _journal_files(directory: Path | None) -> Iterator[Path]:
    """Journal files, of this host without a directory: of its machine id, as libsystemd looks for them."""
    if directory is not None:
        yield from directory.glob("*.journal")
        yield from directory.glob("*/*.journal")
        return
    try:
        machine_id = MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return
    for root in JOURNAL_ROOTS:
        yield from root.glob("*.journal")
        if machine_id:
            yield from (root / machine_id).glob("*.journal")


def _is_readable(file: Path) -> bool:
    """Whether we can open it. access(2) would not count CAP_DAC_READ_SEARCH, which --user and the unit keep."""
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _import_reader() -> Any:
    """systemd.journal.Reader, imported where a journal is read and nowhere else: it needs libsystemd."""
    return importlib.import_module("systemd.journal").Reader
