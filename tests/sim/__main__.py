"""Run seeds, replay one, make a failing one small.

python -m tests.sim --seeds 10000          # 100000 … 109999, on all CPUs
python -m tests.sim --seed 4711 --trace    # one, with all that happened
python -m tests.sim --seed 4711 --shrink   # the fewest faults that still break the same rule
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.sim.run import Result, prepare, run_seed, shrink, try_out
from tests.sim.scenario import make


def main() -> int:
    """As the flags say; 1 when an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=100_000, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--shrink", action="store_true", help="print the smallest scenario that fails in the same way")
    args = parser.parse_args()
    if args.seed is not None:
        return one(args.seed, trace=args.trace, small=args.shrink)
    return many(range(args.first, args.first + args.seeds), args.jobs)


def one(seed: int, *, trace: bool, small: bool) -> int:
    """Replay a seed."""
    scenario = make(seed)
    result = try_out(scenario)
    if small and result.rule:
        scenario = shrink(scenario, result.rule)
    lines: list[str] | None = [] if trace else None
    result = try_out(scenario, lines)
    print(*(lines or ()), sep="\n")
    print(scenario)
    print(f"digest {result.digest:08x}, {result.calls} calls, {result.lives} lives, {result.events} events")
    print(f"{result.rule}: {result.text}" if result.rule else "holds")
    return bool(result.rule)


def many(seeds: range, jobs: int) -> int:
    """Run them all; each failure is told as it comes."""
    began = time.monotonic()
    failed: list[Result] = []
    lives = calls = events = 0
    with ProcessPoolExecutor(jobs, initializer=prepare) as pool:
        for result in pool.map(run_seed, seeds, chunksize=20):
            lives, calls, events = lives + result.lives, calls + result.calls, events + result.events
            if result.rule:
                failed.append(result)
                print(f"seed {result.seed}: {result.rule}: {result.text[:300]}", flush=True)
    took = time.monotonic() - began
    print(
        f"{len(seeds):,} seeds, {lives:,} lives, {calls:,} system calls, {events:,} events in {took:.0f} s: "
        f"{len(failed)} failed"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
