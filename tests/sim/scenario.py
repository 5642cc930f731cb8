"""What a seed means: inputs and output, how much is done, and which faults strike when."""

from __future__ import annotations

import errno
import random
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

MORE_FROM = 30_000
"""The first seed with the faults of _more()."""

AUDIT_DIR, SSHD_DIR, OUT_DIR, STATE_DIR = "/var/log/audit", "/var/log/sshd", "/var/log/out", "/var/lib/audito"

Value = int | str | float


@dataclass(frozen=True)
class Step:
    """Something that happens: ``calls`` system calls of the daemon after ``at_ms``, or soon after where it idles."""

    at_ms: int
    calls: int
    kind: str
    args: tuple[Value, ...] = ()

    def __str__(self) -> str:
        return f"{self.at_ms:6} ms +{self.calls:<3} {self.kind} {' '.join(map(str, self.args))}"


@dataclass(frozen=True)
class Scenario:
    """All that a run depends on; times are ms from its start.

    ``sessions`` to ``delay_ms``: of the workload. ``torn``: share of the writes that come in two parts. ``naps``: the
    daemon is late for its timers where it has nothing to do. ``kernel_lost``: share of what sessions do. ``pids``: of the
    host, 0 for more than are used.
    """

    seed: int
    audit: Literal["directory", "pipe"]
    sshd: Literal["syslog", "pipe", "journal"]
    output: Literal["file", "pipe"]
    sessions: int
    commands: int
    concurrent: int
    background: float
    window: int
    unclaimed: float
    delay_ms: int
    lasts_ms: int
    join_window_ms: int
    logs_kept: int
    torn: float
    naps: bool
    kernel_lost: float
    pids: int
    steps: tuple[Step, ...] = field(default=())

    def without(self, steps: set[int]) -> Scenario:
        """With fewer steps, named by their index."""
        return replace(self, steps=tuple(step for i, step in enumerate(self.steps) if i not in steps))

    def __str__(self) -> str:
        about = " ".join(f"{name}={value}" for name, value in asdict(self).items() if name != "steps")
        return "\n".join([about, *(f"  {step}" for step in self.steps)])


def make(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(seed)
    made = Scenario(
        seed=seed,
        audit="pipe" if rng.random() < 0.2 else "directory",
        sshd=rng.choice(("syslog", "syslog", "pipe", "journal")),
        output="pipe" if rng.random() < 0.25 else "file",
        sessions=rng.randrange(1, 6),
        commands=rng.randrange(1, 8),
        concurrent=rng.randrange(1, 5),
        background=rng.choice((0.0, 0.3, 1.0)),
        window=rng.choice((1, 1, 4)),
        unclaimed=rng.choice((0.0, 0.0, 0.3)),
        delay_ms=rng.choice((0, 300, 2_500)),
        lasts_ms=rng.choice((2_000, 6_000, 15_000)),
        join_window_ms=rng.choice((8_000, 15_000)),
        logs_kept=rng.choice((2, 5, 12)),
        torn=rng.choice((0.0, 0.3)),
        naps=seed % 4 != 0,
        kernel_lost=0.0,
        pids=0,
    )
    # sshd's line and its session may be as far from each other as all is long.
    made = replace(made, join_window_ms=max(made.join_window_ms, made.lasts_ms))
    kinds = KINDS if rng.random() > 0.1 else {}
    possible = [kind for kind, needs in kinds.items() if needs(made)]
    # A few kinds at a time, so that one does not always hide another.
    chosen = rng.sample(possible, min(len(possible), rng.randrange(1, 6)))
    steps = [_step(rng, made, rng.choice(chosen)) for _ in range(rng.randrange(1, 10))] if chosen else []
    faults = [one for group in steps for one in group]
    if seed >= MORE_FROM:
        made, more = _more(random.Random(f"more of {seed}"), made)
        faults += more
    return replace(made, steps=tuple(sorted(faults, key=lambda step: step.at_ms)))


def _more(rng: random.Random, made: Scenario) -> tuple[Scenario, list[Step]]:
    """Faults that came later: seeds that stand in tests and docs mean what they meant."""
    steps = []
    # A line that is read before its time, which is what delay_ms makes, would be of the next boot.
    if made.output == "file" and made.delay_ms < 1_000 and rng.random() < 0.25:
        steps += _step(rng, made, "power")
    if rng.random() < 0.2:
        made = replace(made, kernel_lost=rng.choice((0.1, 0.5)))
    # Who had a pid is told by the time alone, which lines of a pipe do not have; one that nobody claims takes any.
    # And a line that is 2 s before its session is a conflict, where the pid is another session's.
    if made.sshd != "pipe" and not made.unclaimed and made.delay_ms < 1_000 and rng.random() < 0.3:
        made = replace(made, pids=2 * made.concurrent + rng.choice((2, 10)))
    return made, steps


def _always(made: Scenario) -> bool:
    del made
    return True


KINDS: dict[str, Any] = {
    "kill": _always,
    "term": _always,
    "hangup": _always,
    "full": _always,
    "error": _always,
    "slow": _always,
    "short": _always,
    "deaf": lambda made: made.audit == "directory" or made.sshd == "syslog",
    "clock": _always,
    "rotate": lambda made: made.audit == "directory",
    "copytruncate": lambda made: made.audit == "directory",
    "truncate": lambda made: made.audit == "directory",
    "rotate_sshd": lambda made: made.sshd == "syslog",
    "copytruncate_sshd": lambda made: made.sshd == "syslog",
    "vacuum": lambda made: made.sshd == "journal",
    "rotate_output": lambda made: made.output == "file",
    "corrupt_state": _always,
    "reader": lambda made: made.output == "pipe",
}
"""Every kind of fault, and whether it means something in a scenario."""


def _step(rng: random.Random, made: Scenario, kind: str) -> list[Step]:
    """One fault, with what ends it where it has an end."""
    at_ms, calls = rng.randrange(made.lasts_ms + 1_000), rng.randrange(rng.choice((1, 40, 400)))
    until_ms = at_ms + rng.choice((50, 1_500, 8_000))
    where = rng.choice((OUT_DIR, STATE_DIR))
    if kind in ("kill", "term", "power"):
        return [Step(at_ms, calls, kind, (rng.choice((0, 100, 4_000)),))]
    if kind == "full":
        return [Step(at_ms, calls, kind, (where, rng.randrange(3_000))), Step(until_ms, 0, "free", (where,))]
    if kind == "error":
        where = rng.choice((OUT_DIR, STATE_DIR, AUDIT_DIR, SSHD_DIR))
        # A state that cannot be read means to start anew, and then there is no promise left to check.
        call, number = rng.choice([error for error in ERRORS if where != STATE_DIR or error[0] in CHANGES])
        return [Step(at_ms, calls, kind, (call, where, number, rng.choice((1, 1, 3, 20))))]
    if kind == "slow":
        return [Step(at_ms, calls, kind, (rng.choice(("write", "fsync", "open", "rename")), where, 1, 3_000_000))]
    if kind == "short":
        return [Step(at_ms, calls, kind, (1,)), Step(until_ms, 0, kind, (0,))]
    if kind == "clock":
        return [Step(at_ms, calls, kind, (rng.choice((-3_600_000, -1, 3_600_000, -1_500, 40_000)),))]
    if kind == "reader":
        return [Step(at_ms, calls, kind, (rng.choice(("stall", "leave")),)), Step(until_ms, 0, kind, ("go",))]
    return [Step(at_ms, calls, kind, (rng.choice((0.5, 1.0)),))]


CHANGES = ("write", "fsync", "rename", "unlink")
ERRORS = (
    ("write", errno.EIO), ("write", errno.ENOSPC), ("write", errno.EDQUOT), ("write", errno.EROFS),
    ("open", errno.EMFILE), ("open", errno.EACCES), ("open", errno.EIO), ("fsync", errno.EIO), ("fsync", errno.ENOSPC),
    ("rename", errno.EIO), ("rename", errno.EROFS), ("unlink", errno.EROFS), ("read", errno.EIO), ("stat", errno.EIO),
    ("getdents", errno.EIO), ("ftruncate", errno.EIO), ("fstat", errno.EIO),
)  # fmt: skip
