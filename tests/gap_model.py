"""The slow, obvious model of what is missing in a node's serials: sets and lists, where audito._gaps has bits.

It tells a hole as (first, last, count, time). The rules are those of ``audito/_gaps.pxd``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.reference import Clock

WRAP = 1 << 32
WINDOW = 16_384
FAR = 1_024
WRAP_MAX = 1 << 24
MARK_MS = 1_000
SETTLE_MS = 5_000
RATE_MAX = 1_000
RATE_SLACK_MS = 1_000

Hole = tuple[int, int, int, int]


def runs(missing: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of numbers that follow each other."""
    found: list[tuple[int, int]] = []
    for number in sorted(missing):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


@dataclass
class Model:
    """One node. Positions are serials that go on counting where the kernel's wrap."""

    clock: Clock = field(default_factory=Clock)
    base: int = -1
    end: int = -1
    seen: set[int] = field(default_factory=set)
    untold: tuple[int, int] | None = None
    marks: list[tuple[int, int]] = field(default_factory=list)
    far: tuple[int, int, int] | None = None
    restarted: bool = False
    clock_ms: int = 0
    top_ms: int = 0
    told: list[Hole] = field(default_factory=list)

    def note(self, seq: int, ts_ms: int) -> None:
        """A record of the kernel."""
        before_ms = self.top_ms = max(self.top_ms, self.clock.ms)
        self.clock.move(ts_ms)
        if self.end < 0:
            self.begin(seq)
            return
        ahead = (seq - self.end) % WRAP
        inside = self.base + (seq - self.base) % WRAP
        if ahead <= FAR:
            self.forward(self.end + ahead)
        elif inside < self.end and not (self.restarted and inside in self.seen):
            self.seen.add(inside)
            self.settle(self.base)
        else:
            self.stray(seq, ts_ms, before_ms)

    def daemon_start(self, ts_ms: int) -> None:
        """auditd says that it started; its serial is no matter."""
        self.clock.move(ts_ms)
        self.restarted = True

    def flush(self) -> None:
        """The end of the input."""
        if self.end >= 0:
            self.settle(self.end)

    def begin(self, seq: int) -> None:
        # A fresh count starts far above 0, so that what is behind it has a place, too.
        self.base = self.end = (1 << 40) + seq + 1
        self.clock_ms = self.top_ms = self.clock.ms
        self.seen, self.untold, self.marks, self.far, self.restarted = set(), None, [], None, False

    def forward(self, position: int) -> None:
        self.clock_ms = self.clock.ms
        self.restarted = False
        if position - self.base >= WINDOW:
            self.settle(position - WINDOW + 1)
        self.seen.add(position)
        self.end = position + 1
        self.settle(self.base)
        self.pass_time()

    def stray(self, seq: int, ts_ms: int, before_ms: int) -> None:
        end = self.end % WRAP
        behind = (end - seq) % WRAP <= WRAP_MAX if seq >= end else (self.restarted or (seq - end) % WRAP > WRAP_MAX)
        agrees = (
            self.far is not None
            and self.end - self.far[1] <= FAR
            and ((seq - self.far[0]) % WRAP <= FAR or (self.far[0] - seq) % WRAP <= FAR)
        )
        known_ms = self.far[2] if self.far is not None and agrees else before_ms
        if behind and not self.restarted and ((end - seq) % WRAP <= FAR or ts_ms <= known_ms):
            return
        if self.far is None or not agrees:
            self.far = (seq, self.end, known_ms)
        elif seq != self.far[0]:
            pair = (self.far[0], seq) if (seq - self.far[0]) % WRAP <= FAR else (seq, self.far[0])
            possible = (max(ts_ms - known_ms, 0) + RATE_SLACK_MS) * RATE_MAX
            self.believe(*pair, behind or (pair[0] - end) % WRAP > possible)

    def believe(self, low: int, high: int, anew: bool) -> None:
        if anew:
            self.settle(self.end)
            self.begin(low)
        else:
            position = self.end + (low - self.end) % WRAP
            if position + (high - low) % WRAP - self.base >= WINDOW:
                self.settle(position - WINDOW // 2)
            self.seen.add(position)
            self.end = position + 1
        self.far = None
        self.forward(self.end + (high - self.end) % WRAP)

    def pass_time(self) -> None:
        if self.base == self.end:
            self.marks = []
            return
        if self.marks and self.clock_ms + MARK_MS < self.marks[-1][0]:
            self.marks = [(self.clock_ms, self.marks[-1][1])]
        if not self.marks or self.clock_ms >= self.marks[-1][0] + MARK_MS:
            self.marks = self.marks[:7] + [(self.clock_ms, self.end)]
        while self.marks and self.marks[0][0] + SETTLE_MS < self.clock_ms:
            self.settle(max(self.marks[0][1], self.base))
            del self.marks[:1]

    def settle(self, upto: int) -> None:
        """Decide all before this position, it was seen or it is missing; and what was seen right behind that."""
        while max(upto, self.base) in self.seen:
            upto = max(upto, self.base) + 1
        for position in [p for p in sorted(self.seen) if p < upto]:
            self.miss(self.base, position)
            self.tell()
            self.seen.discard(position)
            self.base = position + 1
        self.miss(self.base, upto)
        self.base = max(self.base, upto)
        self.end = max(self.end, self.base)
        if self.base == self.end:
            self.marks = []

    def miss(self, first: int, behind: int) -> None:
        if first < behind:
            self.untold = (first if self.untold is None else self.untold[0], behind - 1)

    def tell(self) -> None:
        if self.untold is not None:
            first, last = self.untold
            ms = next((ms for ms, end in self.marks if end > first), self.clock_ms)
            self.told.append((first % WRAP, last % WRAP, last - first + 1, ms))
            self.untold = None
