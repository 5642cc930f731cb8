"""One input on its way into the core: found, opened, listened to, and tried again while it cannot be had."""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from typing import Any

from audito.errors import SourceError
from audito.health import Health
from audito.sources import GapReason, Source, Stream
from audito.sources.follow import Follower
from audito.sources.spool import SpooledSource
from audito.watch import Complaints, Watch, log, monotonic_ms

EMPTY_WAKES_MAX = 100
"""Wake-ups without data between two ticks; then a descriptor that cries wolf is left to the ticks."""


class Feed:
    """One input on its way into the core.

    ``find`` makes the source, or raises SourceError where there is none yet. ``saved``: source name → position, of
    the checkpoint. ``ready``: there may be something to read; ``drained_ms``: monotonic, when there last was no more;
    as long as ``has_drained`` is false, when this feed was made. ``broken``: the last read failed.
    ``base``: the stream offset that its first byte had.
    """

    def __init__(
        self,
        stream: Stream,
        find: Callable[[], Source],
        on_readable: Callable[[Feed], None],
        health: Health,
        complaints: Complaints,
        saved: Mapping[str, dict[str, Any]],
    ) -> None:
        self.stream = stream
        self.source: Source | None = None
        self.ready = False
        self.drained_ms = monotonic_ms()
        self.has_drained = False
        self._broken_ms = 0  # since when, 0: it is not
        self.base = 0
        self.restored = False
        self._find = find
        self._health = health
        self._complaints = complaints
        self._saved = saved
        self._watch = Watch(select.EPOLLIN, lambda: on_readable(self))
        self._empty_wakes = 0
        health.set_state(stream, "not open yet")

    @property
    def name(self) -> str:
        return self.source.name if self.source is not None else self.stream

    @property
    def opened(self) -> bool:
        return self.source is not None and self.source.opened

    @property
    def ended(self) -> bool:
        return self.source is not None and self.source.ended

    @property
    def broken(self) -> bool:
        return self._broken_ms > 0

    @property
    def broken_for_ms(self) -> int:
        return monotonic_ms() - self._broken_ms if self.broken else 0

    @property
    def idle(self) -> bool:
        """It was read to its end: what is still to come is new. What cannot be read may be old."""
        return not self.ready and not self.broken

    def look(self) -> None:
        """Find the source if need be, and take its position from the checkpoint. Errors: none."""
        if self.source is not None:
            return
        try:
            self.source = self._find()
        except (SourceError, OSError) as exc:
            self._failed(exc)
            return
        saved = self._saved.get(self.source.name)
        if saved is not None:
            self.base = self.source.restore(saved)
            self.restored = True

    def open(self) -> None:
        """Open the source where it is not open; when that fails it is said, and tried again at the next tick."""
        self.look()
        if self.source is None or self.source.opened:
            return
        try:
            self.source.open()
        except (SourceError, OSError) as exc:
            self._failed(exc)
            if self.restored or self.has_drained:  # else nothing was ever read here, and nobody waits for it
                self._broken_ms = self._broken_ms or monotonic_ms()
            return
        self._broken_ms = 0
        self._works()
        log.info("reading %s from %s", self.stream, self.name)
        self.ready = True

    def poll(self) -> None:
        """The once-a-second look; it may also exchange the descriptor."""
        self._empty_wakes = 0
        if not self.opened:
            self.open()
            return
        assert self.source is not None
        try:
            self.source.poll()
        except (SourceError, OSError) as exc:
            self._failed(exc)
            return
        self._works()
        self.ready = True
        if self._watch.started:
            self._watch.aim(self.source.fileno())

    def read(self) -> memoryview:
        """The next bytes; when there are none, ``ready`` turns false."""
        assert self.source is not None
        try:
            data = self.source.read()
            self._broken_ms = 0
        except (SourceError, OSError) as exc:
            self._failed(exc)
            self._broken_ms = self._broken_ms or monotonic_ms()
            data = memoryview(b"")
        if data:
            self._empty_wakes = 0
            self._health.counters[f"{self.stream}_read_bytes"] += len(data)
        else:
            self.ready = False
            self.drained_ms = monotonic_ms()
            self.has_drained = True
        return data

    def waiting_bytes(self) -> int:
        """What lies unread in the source; -1 where that is not known."""
        return self.source.waiting_bytes() if self.source is not None and self.opened else -1

    def lag_ms(self, newest_ms: int, now_ms: int) -> int:
        """How far behind ``now_ms``, the wall clock, we are. ``newest_ms``: time of the newest record read, or 0."""
        waiting = self.waiting_bytes()
        if not self.ready or waiting == 0:
            return 0
        since_ms = monotonic_ms() - self.drained_ms
        lag_ms = max(now_ms - newest_ms, 0) if newest_ms else since_ms
        # Where it is not known whether anything waits at all, it came after there was no more.
        return min(lag_ms, since_ms) if waiting < 0 and self.has_drained else lag_ms

    @property
    def spool(self) -> SpooledSource | None:
        """What takes in more than can be used now, where there is such."""
        return self.source if isinstance(self.source, SpooledSource) else None

    def absorb(self) -> None:
        """Take what there is off a source that cannot wait, while nothing of it can be used."""
        if self.spool is None or not self.opened:
            return
        try:
            if self.spool.absorb():
                self._empty_wakes = 0
        except (SourceError, OSError) as exc:
            self._failed(exc)

    def take_gaps(self) -> list[GapReason]:
        """What went unread since the last call, a reason each."""
        return self.source.take_gaps() if self.source is not None else []

    def take_skipped(self) -> int | None:
        """How many bytes that came before a restart are gone, and lie before what comes next; None: not known."""
        return self.source.take_skipped() if isinstance(self.source, Follower) else None

    def take_cut(self) -> bool:
        """Whether what was read last is only the end of a line, whose rest is lost."""
        return self.source.take_cut() if isinstance(self.source, Follower) else False

    def wake(self) -> None:
        """The descriptor turned readable."""
        assert self.source is not None
        self._empty_wakes += 1
        if self._empty_wakes > EMPTY_WAKES_MAX:
            self.unlisten()
            return
        try:
            self.source.wake()
        except (SourceError, OSError) as exc:
            self._failed(exc)
        self.ready = True

    def listen(self) -> None:
        """Be called when there may be something new. What came while nobody listened is looked for at once."""
        assert self.source is not None
        if self._watch.started or self._empty_wakes > EMPTY_WAKES_MAX:
            return
        self._watch.aim(self.source.fileno())
        self._watch.start()
        self.ready = True

    def unlisten(self) -> None:
        self._watch.stop()

    def position(self, resolved: int) -> dict[str, Any]:
        """For the checkpoint: where the core's offset ``resolved`` lies in the source."""
        assert self.source is not None
        return self.source.position(self.base + resolved)

    def close(self) -> None:
        self._watch.close()
        if self.source is not None:
            self.source.close()

    def _failed(self, exc: Exception) -> None:
        self.ready = False
        self._health.errors["source"] += 1
        self._health.set_state(self.stream, str(exc))
        self._complaints.trouble(self.name, str(exc))

    def _works(self) -> None:
        problem = self.spool.problem if self.spool is not None else ""
        self._health.set_state(self.stream, problem)
        if problem:
            self._complaints.trouble(self.name, problem)
        else:
            self._complaints.over(self.name)
