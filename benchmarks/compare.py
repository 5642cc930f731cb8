"""audito beside other programs that read the same audit log: each in its own process, all in one run.

    python -m benchmarks.compare [--sessions 912] [--background 3] [--runs 5]

``cat | wc -c`` is the floor; laurel and ausearch are those of the distribution (laurel is installed when this is root).
They do other work than audito: they write every event, audito those of ssh sessions, joined with their logins. Every
output is checked before a figure is printed: audito's event by event, the others' by their number of events.

Record time goes at 1,000 events a second here, and not at 10,000 as elsewhere: ausearch keeps the events that have no
end for two seconds of it in a list, and would be slower by an order of magnitude.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import measure, pipes, workload
from benchmarks.measure import Usage, WrongOutputError, median, require, table

LAUREL_CONFIG = Path("/etc/laurel/config.toml")
LIMIT_S = 300.0


def settings(like: workload.Settings) -> workload.Settings:
    """The same work at ausearch's pace."""
    return replace(like, events_per_second=1000)


def run(command: list[str], stdin: Path, stdout: Path) -> Usage:
    """Run a program on a file. Errors: WrongOutputError when it fails."""
    measure.warm_memory()
    with stdin.open("rb") as given, stdout.open("wb") as taken:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=given, stdout=taken, stderr=subprocess.DEVNULL)
        return measure.wait_usage(process, began, LIMIT_S)


def laurel_config(directory: Path) -> Path:
    """The distribution's settings, with the log in this directory, in one file."""
    text = LAUREL_CONFIG.read_text()
    for name, value in (("directory", json.dumps(str(directory))), ("size", "100000000000")):
        text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text, count=1)
        require(count == 1, f"{LAUREL_CONFIG} has no {name}")
    text = re.sub(r"(?m)^user = .*$", "", text)
    path = directory / "config.toml"
    path.write_text(text)
    return path


def run_laurel(directory: Path, truth: workload.Truth) -> Usage:
    """laurel from standard input to its file; one line an event."""
    room = directory / "laurel"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    config = laurel_config(room)
    used = run(["laurel", "--config", str(config)], directory / "audit.log", room / "stdout")
    events = (room / "audit.log").read_bytes().count(b"\n")
    require(events == truth.events, f"laurel wrote {events} events of {truth.events}")
    return used


def run_ausearch(directory: Path, truth: workload.Truth) -> Usage:
    """ausearch from the file to text; one sentence an event, and now and then two."""
    output = directory / "ausearch.txt"
    command = ["ausearch", "--format", "text", "-if", str(directory / "audit.log")]
    used = run(command, Path("/dev/null"), output)
    lines = output.read_bytes().count(b"\n")
    require(truth.events <= lines <= 1.02 * truth.events, f"ausearch wrote {lines} sentences of {truth.events} events")
    return used


def run_audito(directory: Path, truth: workload.Truth) -> Usage:
    """The whole daemon through its pipes."""
    used = pipes.run_daemon(directory, truth, LIMIT_S)
    pipes.check(directory / "events.jsonl", truth)
    return used


def run_copy(directory: Path, truth: workload.Truth) -> Usage:
    """The pipe."""
    del truth
    return measure.pipe_copy(directory / "audit.log")


PROGRAMS = {"cat | wc -c": run_copy, "audito": run_audito, "laurel": run_laurel, "ausearch": run_ausearch}


def missing() -> dict[str, str]:
    """Programs that cannot be had, and why."""
    wanted = (("laurel", "laurel"), ("ausearch", "auditd" if shutil.which("apt-get") else "audit"))
    return {program: why for program, package in wanted if (why := measure.install(program, package))}


def compare(like: workload.Settings, runs: int, directory: Path) -> dict[str, Any]:
    """Run all in turns; usages, medians and ratios. Errors: WrongOutputError."""
    truth = workload.write(settings(like), directory)
    absent = missing()
    programs = {name: call for name, call in PROGRAMS.items() if name not in absent}
    usages: dict[str, list[Usage]] = {name: [] for name in programs}
    for _ in range(runs):
        for name, call in programs.items():
            usages[name].append(call(directory, truth))
    return {
        "events": truth.events,
        "records": truth.records,
        "audit_bytes": truth.audit_bytes,
        "absent": absent,
        "versions": {"laurel": measure.program_version("laurel", "--version"),
                     "ausearch": measure.program_version("ausearch", "--version")},
        "programs": {name: summary(used, usages) for name, used in usages.items()},
    }  # fmt: skip


def summary(used: list[Usage], usages: dict[str, list[Usage]]) -> dict[str, Any]:
    """Medians of a program, and how many times as long it takes as audito and as the copy; pair by pair."""
    walls = [usage.wall_s for usage in used]

    def times(other: str) -> float:
        return median([mine / theirs.wall_s for mine, theirs in zip(walls, usages[other], strict=True)])

    return {
        "wall_s": median(walls),
        "cpu_s": median([usage.cpu_s for usage in used]),
        "rss_mib": max(usage.rss_mib for usage in used),
        "of_audito": times("audito"),
        "of_copy": times("cat | wc -c"),
        "runs": [asdict(usage) for usage in used],
    }


def lines(said: dict[str, Any]) -> list[str]:
    """The figures for a reader."""
    rows = [["program", "wall s", "CPU s", "RSS MiB", "wall / audito", "wall / copy"]]
    for name, one in said["programs"].items():
        rows.append([name, f"{one['wall_s']:.3f}", f"{one['cpu_s']:.3f}", f"{one['rss_mib']:.0f}",
                     f"{one['of_audito']:.1f}", f"{one['of_copy']:.1f}"])  # fmt: skip
    counts = f"{said['events']:,} events, {said['records']:,} records, {said['audit_bytes'] / 1e6:.0f} MB, ENRICHED"
    skipped = [f"SKIPPED: {why}" for why in said["absent"].values()]
    return [counts, *skipped, table(rows)]


def main() -> int:
    """Compare and print; 1 when an output was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=200, help="912 make 208,000 events, 236 MB")
    parser.add_argument("--background", type=float, default=3.0, help="events of no session for each of one")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    like = replace(pipes.CONTAINER_HOST, sessions=args.sessions, background=args.background)
    with tempfile.TemporaryDirectory(prefix="audito-compare-") as scratch:
        try:
            said = compare(like, args.runs, Path(scratch))
        except WrongOutputError as error:
            print(f"WRONG: {error}", file=sys.stderr)
            return 1
    print("\n".join(lines(said)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
