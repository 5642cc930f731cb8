"""Audit sessions: a flat table with its indexes, lists and the events that wait.

Structs, limits and invariants stand in ``_sessions.pxd``; times are ms since the epoch.
"""

from collections.abc import Iterable
from typing import Any, final

from msgspec import Raw

STATE_BOUND: int
"""A session's state from which on it has an identity: a login line's."""
STATE_KERNEL: int
"""No login line came; the session is written with what the kernel knows."""
IDENTITY_TEXT_MAX: int
"""Bytes of a source, or of subjects, that identify() takes."""

@final
class SessionInfo:
    """What was known of a session when it was asked for.

    ``state``: STATE_…; ``born_ms``: by the wall clock, 0 in a replay; ``correlation``: an index of
    events.CORRELATIONS; ``announced``: opened() was called for it.
    """

    node: int
    ses: int
    pid: int
    open_ms: int
    seen_ms: int
    born_ms: int
    state: int
    ended: bool
    announced: bool
    actions: int
    failures: int
    commands: int
    correlation: int

@final
class Sessions:
    """Flat table of audit sessions, indexed by (node, session number) and by pid; allocated at start.

    Python knows a session by its slot. Errors: IndexError for a slot without a session; ValueError for a
    capacity outside 2 to 2**24.
    """

    evicted: int
    evicted_live: int
    """Sessions pushed out because the table was full: first those that ended, oldest first."""
    refused: int
    """Sessions that another program than sshd opened."""
    held: tuple[int, int]
    """Events that wait for a login line: how many, and how many bytes."""
    held_full: bool
    """HELD_EVENTS_MAX or HELD_BYTES_MAX is reached: no more audit input should come."""
    overheld: bool
    """It came all the same: sessions have to be given up."""
    def __init__(self, capacity: int = 131072) -> None: ...
    def __len__(self) -> int: ...
    def clear(self) -> None:
        """Forget all sessions and what they hold: the host booted. No event is in flight."""
    oldest_waiting: int | None
    """Slot of the session that waits the longest."""
    def waiting(self, opened_before_ms: int = ...) -> list[int]:
        """Slots of the sessions without an identity that were opened before, in the order of opening."""
    def waiting_since(self, born_before_ms: int, now_ms: int) -> list[int]:
        """As waiting(), by the wall clock at their opening; one that has none yet counts from ``now_ms`` on."""
    def of_pid(self, pid: int) -> list[int]:
        """Slots of the sessions that this process opened, in the order of opening."""
    def info(self, slot: int) -> SessionInfo: ...
    def held_stamps(self) -> list[tuple[int, int, int]]:
        """(node, record time in ms, serial) of the events that wait for a login line."""
    def held_lines(self, slot: int, record_type: int) -> list[bytes]:
        """Lines of this record type among the events that the session holds."""
    def dump(self) -> tuple[bytes, bytes]:
        """JSON of all sessions, oldest first: the list of their ``core.SessionRow``, and slot to identity()."""
    def load(self, rows: Iterable[Any]) -> dict[int, int]:
        """Take in dump()'s rows, as objects with these fields, in their order; old slot to new of those that stay."""
    def generation(self, slot: int) -> int:
        """Which of the sessions that had this slot has it now; 0 where none has."""
    def identify(self, slot: int, source: bytes | Raw, subjects: bytes | Raw) -> None:
        """Say who a session is, as JSON: what its events are written with from now on.

        Errors: ValueError for a text that is empty, or longer than any line of sshd can make it.
        """
    def identity(self, slot: int) -> tuple[bytes, bytes] | None:
        """Source and subjects as JSON, None before identify()."""
