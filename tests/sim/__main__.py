"""Run seeds, replay one, make a failing one small.

python -m tests.sim --seeds 10000          # 0 … 9999, on all CPUs; from 30000 on with more faults
python -m tests.sim --seed 4711 --trace    # one, with all that happened
python -m tests.sim --seed 4711 --shrink   # the fewest faults that still break the same rule
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.sim.run import Result, prepare, run_seed, shrink, try_out
from tests.sim.scenario import make

ROOT = Path(__file__).parent.parent.parent
BATCH = 10_000
REPORT_S = 10


def main() -> int:
    """As the flags say; 1 when an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--shrink", action="store_true", help="print the smallest scenario that fails in the same way")
    parser.add_argument("--report", type=Path, help="write what came of it to this file, as JSON, every 10 s")
    args = parser.parse_args()
    if args.seed is not None:
        return one(args.seed, trace=args.trace, small=args.shrink)
    return many(range(args.first, args.first + args.seeds), args.jobs, args.report)


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


@dataclass
class Total:
    """What came of the seeds so far. ``seconds``: of wall time."""

    commit: str
    machine: str
    first: int
    seeds: int = 0
    lives: int = 0
    calls: int = 0
    events: int = 0
    seconds: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.lives += result.lives
        self.calls += result.calls
        self.events += result.events
        if result.rule:
            self.failures.append({"seed": result.seed, "rule": result.rule, "text": result.text[:300]})


def many(seeds: range, jobs: int, report: Path | None) -> int:
    """Run them all; each failure is told as it comes."""
    began = told = time.monotonic()
    total = Total(
        commit(), f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}", seeds.start
    )
    with ProcessPoolExecutor(jobs, initializer=prepare) as pool:
        for start in range(seeds.start, seeds.stop, BATCH):  # not all at once: the pool makes a list of what it maps
            for result in pool.map(run_seed, range(start, min(start + BATCH, seeds.stop)), chunksize=20):
                total.add(result)
                total.seconds = round(time.monotonic() - began, 1)
                if result.rule:
                    print(f"seed {result.seed}: {result.rule}: {result.text[:300]}", flush=True)
                if report is not None and time.monotonic() - told > REPORT_S:
                    told = time.monotonic()
                    write(report, total)
    if report is not None:
        write(report, total)
    print(
        f"{total.seeds:,} seeds, {total.lives:,} lives, {total.calls:,} system calls, {total.events:,} events "
        f"in {total.seconds:.0f} s: {len(total.failures)} failed"
    )
    return bool(total.failures)


def write(report: Path, total: Total) -> None:
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(asdict(total), indent=1) + "\n")


def commit() -> str:
    """Of the tree; with "+" where it was changed since."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode
    return head.strip() + "+" * bool(changed)


if __name__ == "__main__":
    sys.exit(main())
