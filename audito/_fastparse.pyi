"""The compiled core: bytes in, whole audit events of ssh sessions out.

Structs, limits and invariants stand in ``_fastparse.pxd``; offsets are bytes of the stream, times ms since the epoch.
"""

from collections.abc import Callable, Iterable
from typing import Any, final

from audito._gaps import Serials, Watcher
from audito._sessions import Sessions

FLAG_SESSION: int
"""Record type: its own text says whose session it is."""
FLAG_SINGLE: int
"""Record type: alone it is a whole event."""
FLAG_ENDS: int
"""Record type: the last of an event of several."""
FLAG_STATE: int
"""Record type: it tells of auditing itself."""

class EventSink:
    """What whole events are given to; compiled subclasses only (``_normalise``)."""

@final
class Types:
    """The record types; streams share it. ``rows``: (name, number, TypeFlag bits)."""

    def __init__(self, rows: Iterable[tuple[str, int, int]]) -> None: ...

@final
class AuditStream:
    """Framer, header reader and reassembly of one audit stream; decides in C whether an event is ours.

    ``keep_all``: every event goes to the sink, no session needed. The others
    are called with a session's slot, times are record times in ms:

    - ``reject(line, reason)``: a line is no record.
    - ``opened(slot)``: a session's first event is whole, and not yet delivered or held.
    - ``inherited(slot, parent)``: a session was opened inside another one.
    - ``ended(slot, time)``: sshd ended the session, and the event that says so is delivered.
    - ``told(pid, time, line)``: sshd tells the kernel who it lets in (USER_AUTH, CRYPTO_KEY_USER), before any session.
    - ``gaps``: told of all that is missing, in the place of the stream where that shows.
    - ``crowded(slot)``: this waiting session has to be given up, for the table is full.

    No input raises; what ``reject`` raises is counted, what the others or the sink raise comes through, and the rest of
    that chunk is not taken.
    """

    sessions: Sessions
    serials: Serials
    offset: int
    """Stream offset of the next byte."""
    clock_ms: int
    """Record time of the last record, 0 before the first."""
    top_ms: int
    """The greatest record time of all, believable or not."""
    lines: int
    blank_lines: int
    records: int
    skipped: int
    """Lines that were passed over by their stamp: records of an event that was just ignored."""
    types_unknown: int
    events_taken: int
    events_ignored: int
    events_refused: int
    events_held: int
    events_timed_out: int
    """Events completed by EVENT_TIMEOUT_MS instead of by their last record."""
    events_forced: int
    """Events completed early because INFLIGHT_EVENTS_MAX were in flight."""
    events_truncated: int
    """Events that passed EVENT_BYTES_MAX: their further records are missing."""
    events_late: int
    """Records that came after their event was complete."""
    reject_not_a_record: int
    reject_bad_stamp: int
    reject_too_long: int
    rejects_failed: int
    """Lines that ``reject`` raised for."""
    resolved: int
    """Offset of the oldest input that is not settled: in a partial line, in flight or held."""
    unresolved_bytes: int
    """Bytes behind that offset that were taken: whole lines, all told once where they come again."""
    oldest_inflight: int | None
    inflight: int
    def __init__(
        self,
        sessions: Sessions,
        sink: EventSink,
        types: Types,
        *,
        keep_all: bool = False,
        reject: Callable[[bytes, str], None] | None = None,
        opened: Callable[[int], None] | None = None,
        inherited: Callable[[int, int], None] | None = None,
        ended: Callable[[int, int], None] | None = None,
        told: Callable[[int, int, bytes], None] | None = None,
        crowded: Callable[[int], None] | None = None,
        gaps: Watcher | None = None,
    ) -> None: ...
    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they were read; lines may be split anywhere. Nothing of data is kept by reference."""
    def tick(self, now_ms: int, idle: bool = True) -> None:
        """The wall clock. Where all input was read, complete what is in flight for longer than EVENT_TIMEOUT_MS."""
    def flush(self, ended: bool = True) -> None:
        """Nothing more comes: what is in flight is complete. ``ended``: the last line needs no newline."""
    def bind(self, slot: int, correlation: int = 0) -> None:
        """The session is known now: its held events go to the sink. ``correlation``: index of events.CORRELATIONS."""
    taken: int
    """Offset behind the last whole line."""
    def open_events(self) -> list[tuple[int, int, int]]:
        """(node, record time in ms, serial) of the events that are in flight or held."""
    def read_again(self, open_events: Iterable[tuple[int, int, int]], until: int, clock_ms: int) -> None:
        """Go on for a stream that came to the offset ``until`` and left these open: all others before it are over.

        ``clock_ms``: its greatest record time; a later event is new.
        """
    def rebase(self, offset: int, known_bytes: int = 0) -> None:
        """Count offsets from here on; before the first byte only. Errors: ValueError.

        ``known_bytes``: so many come again that were read before a restart; what was told of them is not told again.
        """
    def cut_line(self) -> None:
        """Of the line whose start was fed no more comes than its end: it is no record, and may be the start of any."""

    def skip(self, count: int) -> None:
        """So many bytes are gone: what comes next has its offset behind them."""

    def forget_known(self) -> None:
        """What comes now was not read before after all: the place of the input was not found again."""
    def dump_serials(self) -> list[tuple[Any, ...]]:
        """Serials.dump(), with the clocks of now."""
