"""All benches: what ``make bench`` runs.

    python -m benchmarks [--full] [--no-plots]

Prints the tables, writes ``benchmarks/results/latest.json``, and draws the plots beside it. ``--full`` takes the sizes
of the project's targets and more runs, which needs about a quarter of an hour and 5 GB on the disk of the temporary
directory; only then figures and plots go to docs/. Exits 1 when any output was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import compare, live, measure, pipes, report, stages, workload
from benchmarks.measure import WrongOutputError, table

RESULTS_PATH = Path(__file__).with_name("results") / "latest.json"
BACKGROUNDS = (0.0, 1.0, 3.0, 10.0, 30.0)


def section(title: str) -> None:
    """Say what comes."""
    print(f"\n== {title}", flush=True)


def all_stages(runs: int) -> dict[str, Any]:
    """Every stage by the clock."""
    digests = stages.known_digests()
    timings = [stages.time_stage(stage, "bench", runs, digests) for stage in stages.STAGES]
    print(table([stages.HEAD, *(timing.row() for timing in timings)]))
    return {timing.stage: {**asdict(timing), "items_per_s": timing.rate} for timing in timings}


def roles(full: bool) -> dict[str, workload.Settings]:
    """What the daemon is measured at."""
    if full:
        sizes = (pipes.CONTAINER_HOST, pipes.TRACKED_ONLY, pipes.SCANNED_HOST)
    else:
        sizes = (replace(pipes.CONTAINER_HOST, sessions=300), replace(pipes.TRACKED_ONLY, sessions=300),
                 replace(pipes.SCANNED_HOST, failures=60_000))  # fmt: skip
    return dict(zip(("container host", "tracked only", "scanned host"), sizes, strict=True))


def whole(full: bool, runs: int) -> dict[str, Any]:
    """The daemon through its pipes, in each of its roles."""
    said = {}
    for name, settings in roles(full).items():
        figures = in_scratch(lambda at, settings=settings: pipes.bench(settings, at, runs))  # type: ignore[misc]
        print(f"{name}:", *figures.lines(), sep="\n  ", flush=True)
        said[name] = figures.as_dict()
    return said


def backgrounds(full: bool) -> dict[str, Any]:
    """The daemon at so many events of no session for each of one; the log is about as long each time."""
    said = {}
    rows = [["background", "events/s", "MB/s", "wall / copy", "CPU / copy"]]
    for ratio in BACKGROUNDS:
        settings = workload.Settings(
            sessions=max(int((900 if full else 300) * 4 / (1 + ratio) / 3), 5), background=ratio
        )
        figures = in_scratch(lambda at, settings=settings: pipes.bench(settings, at, 3))  # type: ignore[misc]
        one = figures.as_dict()
        one.pop("pairs")
        one["events_per_s"] = figures.events / figures.wall_s
        said[str(ratio)] = one
        rows.append([f"{ratio:g}", f"{one['events_per_s']:,.0f}", f"{figures.audit_bytes / figures.wall_s / 1e6:,.0f}",
                     f"{one['wall_ratio']:.2f}", f"{one['cpu_ratio']:.2f}"])  # fmt: skip
    print(table(rows))
    return said


def others(full: bool) -> dict[str, Any]:
    """The daemon beside other programs that read audit records."""
    said = {}
    for name, settings in roles(full).items():
        if settings.sessions:
            said[name] = in_scratch(lambda at, like=settings: compare.compare(like, 5 if full else 3, at))  # type: ignore[misc]
            print(f"{name}:", *compare.lines(said[name]), sep="\n", flush=True)
    return said


def in_scratch(call: Callable[[Path], Any]) -> Any:
    """Call with a directory that goes away."""
    with tempfile.TemporaryDirectory(prefix="audito-bench-") as scratch:
        return call(Path(scratch))


def run(full: bool) -> dict[str, Any]:
    """All of it, in order. Errors: WrongOutputError."""
    said: dict[str, Any] = {
        "command": "python -m benchmarks" + (" --full" if full else ""),
        "toolchain": measure.toolchain(),
        "machine": measure.machine(),
    }
    print("\n".join(f"{name}: {value}" for part in ("machine", "toolchain") for name, value in said[part].items()))
    section("stages (python -m benchmarks.stages)")
    said["stages"] = all_stages(9 if full else 5)
    section("the whole daemon through its pipes (python -m benchmarks.pipes)")
    said["whole"] = whole(full, 9 if full else 5)
    section("events of no session for each of one")
    said["backgrounds"] = backgrounds(full)
    section("other programs (python -m benchmarks.compare)")
    said["compare"] = others(full)
    for name in live.PARTS:
        section(f"{name} (python -m benchmarks.live {name}{' --full' if full else ''})")
        said[name] = live.run(name, full)
        print("\n".join(live.lines(name, said[name])), flush=True)
    return said


def main() -> int:
    """Run, write, draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--full", action="store_true", help="the sizes of the project's targets")
    parser.add_argument("--no-plots", action="store_true", help="draw nothing: matplotlib is not needed")
    args = parser.parse_args()
    began = time.monotonic()
    try:
        said = run(args.full)
    except WrongOutputError as error:
        print(f"WRONG: {error}", file=sys.stderr)
        return 1
    RESULTS_PATH.parent.mkdir(exist_ok=True)
    RESULTS_PATH.write_text(json.dumps(said, indent=1) + "\n")
    print(f"\n{time.monotonic() - began:.0f} s; written to {RESULTS_PATH}")
    if not args.no_plots:
        from benchmarks import plots  # needs matplotlib

        plots.draw(said, plots.IMAGES if args.full else RESULTS_PATH.parent)
    if args.full:
        report.write(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
