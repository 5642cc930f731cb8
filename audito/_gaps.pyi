"""Which serials of the kernel came, and which are missing. Structs, limits and rules stand in ``_gaps.pxd``."""

from collections.abc import Iterable
from typing import Any, Protocol, final

class Watcher(Protocol):
    """Whom AuditStream tells what is missing. ``node``: as it stands in the line, b"" without one; times ms."""

    def hole(self, node: bytes, first: int, last: int, count: int, time_ms: int) -> None:
        """No record of these serials came. ``time_ms``: record time when that was first seen."""
    def silent(self, node: bytes, last: int, time_ms: int) -> None:
        """No serial came since a kill, behind the ``last`` that was saved. ``time_ms``: of the start after it."""
    def auditing_on(self, node: bytes, sequence: int, time_ms: int) -> None:
        """A record shows that auditing, which was switched off, is on."""
    def state_record(self, line: bytes, node: bytes, sequence: int, time_ms: int) -> bool | None:
        """A record about auditing itself, from ``type=`` on. Returns whether auditing is off now, None: it says not."""
    def too_long(self, node: bytes, sequence: int | None, time_ms: int) -> None:
        """A record was not read, for its line is too long."""
    def other_line(self, line: bytes, time_ms: int) -> None:
        """A line that is no record and has ``audit: `` in it."""

@final
class Serials:
    """The serials that came, by node."""

    again: int
    """Records of serials that were decided on before: read again, or later than a hole is waited for."""
    doubted: int
    """Serials that were too far off to be believed alone."""
    nodes_evicted: int
    """Nodes that were given up for new ones; a hole across that is not seen."""
    def __init__(self, watcher: Watcher | None = None) -> None: ...
    def dump(self, clocks: dict[int, int]) -> list[tuple[Any, ...]]:
        """A row a node, for the checkpoint; core.SerialRow names the columns. ``clocks``: record time, by node."""
    def load(self, rows: Iterable[Any], *, boot_ms: int = 0, killed_ms: int = 0) -> None:
        """Take up rows of dump(), before any input. ``boot_ms``: this host booted since, before that wall clock.

        ``killed_ms``: time of the loss, where a killed process had read more than was saved, and that does not come
        again; with ``boot_ms`` what is missing is told at once.

        Errors: ValueError.
        """
    def expect(self, open_events: Iterable[tuple[int, int, int]]) -> None:
        """Behind load(): these (node, time in ms, serial) come again, or are missing; as far as the window holds."""
