"""One scenario from beginning to end, and the smallest one that fails in the same way."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace

from tests.sim.oracle import check
from tests.sim.scenario import Scenario, make
from tests.sim.world import BrokenError, World


@dataclass(frozen=True)
class Result:
    """What came of a seed. ``rule``: the invariant that was broken, "" for none; ``digest``: of all that happened."""

    seed: int
    rule: str
    text: str
    digest: int
    calls: int
    lives: int
    events: int


def try_out(scenario: Scenario, trace: list[str] | None = None) -> Result:
    """Run a scenario and check what came of it. ``trace``: takes a line for each thing that happened."""
    world = World(scenario, trace)
    rule = text = ""
    events = 0
    try:
        outcome = world.run()
        events = check(outcome)
    except BrokenError as exc:
        rule, text = exc.rule, str(exc)
    kernel = world.kernel
    return Result(scenario.seed, rule, text, kernel.digest, kernel.calls, world.outcome.lives, events)


def run_seed(seed: int) -> Result:
    return try_out(make(seed))


def prepare() -> None:
    """For a process that runs many seeds: the collector looks at none of what is there now, and only when told to."""
    gc.collect()
    gc.freeze()
    gc.disable()


def shrink(scenario: Scenario, rule: str) -> Scenario:
    """Fewer faults, less work, that break the same rule: as long as leaving something out still does."""

    def fails(smaller: Scenario) -> bool:
        return try_out(smaller).rule == rule

    going = True
    while going:
        going = False
        size = max(len(scenario.steps) // 2, 1)
        while size and scenario.steps:
            for start in range(0, len(scenario.steps), size):
                smaller = scenario.without(set(range(start, start + size)))
                if fails(smaller):
                    scenario, going = smaller, True
                    break
            else:
                size //= 2
        for change in SMALLER:
            smaller = replace(scenario, **{name: min(value, getattr(scenario, name)) for name, value in change.items()})
            if smaller != scenario and fails(smaller):
                scenario, going = smaller, True
    return scenario


SMALLER: tuple[dict[str, float], ...] = (
    {"sessions": 1, "commands": 1}, {"sessions": 1}, {"sessions": 2}, {"commands": 1}, {"commands": 2},
    {"background": 0.0}, {"window": 1}, {"unclaimed": 0.0}, {"delay_ms": 0}, {"torn": 0.0}, {"concurrent": 1},
)  # fmt: skip
