"""Writes the figures of a run into docs/performance.md, between its two marks.

python -m benchmarks.report [FILE]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, median

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns but the first are aligned to the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def targets(said: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """What was aimed at, what came of it, and whether that will do."""
    host, tracked, scanned = (said["whole"][name] for name in ("container host", "tracked only", "scanned host"))
    yield "container host, wall time to `cat \\| wc -c`", "≤ 2", f"{host['wall_ratio']:.2f}", host["wall_ratio"] <= 2
    for role, name, times in (
        ("container host", "laurel", 40), ("container host", "ausearch", 20), ("tracked only", "laurel", 20)
    ):  # fmt: skip
        if name in said["compare"][role]["programs"]:
            ratio = said["compare"][role]["programs"][name]["of_audito"]
            yield f"{role}, times as fast as {name}", f"≥ {times}", f"{ratio:.1f}", ratio >= times
    rate = tracked["written_per_s"]
    yield "tracked only, events a second as JSON", "≥ 400,000", f"{rate:,.0f}", rate >= 400_000
    rate = said["stages"]["sshd"]["items_per_s"]
    yield "scanned host, sshd lines a second in the core", "≥ 1,000,000", f"{rate:,.0f}", rate >= 1_000_000
    rate = scanned["written_per_s"]
    yield "scanned host, events a second as JSON", "≥ 300,000", f"{rate:,.0f}", rate >= 300_000
    growth, size = said["sessions"]["growth"]["100000"], said["sessions"]["table_bytes_a_session"]
    yield "cost of an event, 10 → 100,000 live sessions", "≤ 1.3 times", f"{growth:.2f}", growth <= 1.3
    yield "tables, bytes a live session of 100,000", "≤ 256", f"{size:.0f}", size <= 256
    for way in ("pipes", "directory"):
        for name, limit in (("p50_ms", 1), ("p99_ms", 5)):
            value = said["latency"][way][name]
            yield f"latency at 10,000 events/s, {way}, {name[:3]}", f"≤ {limit} ms", f"{value:.2f} ms", value <= limit
    for count, limit in (("0", 40), ("10000", 64), ("100000", 160)):
        if count in said["idle"]["sessions"]:
            one = said["idle"]["sessions"][count]
            fine = one["rss_mib"] <= limit
            yield f"RSS with {int(count):,} live sessions", f"≤ {limit} MiB", f"{one['rss_mib']:.1f} MiB", fine
    one = said["idle"]["sessions"]["0"]
    woken = f"{one['wakeups_per_s']:.2f} ({one['cpu_ms_per_s']:.2f} ms CPU)"
    yield "idle, wake-ups a second", "≤ 1", woken, one["wakeups_per_s"] < 1.05
    took = median(said["start"]["ready_ms"])
    yield "start to ready, warm disk", "≤ 300 ms", f"{took:.0f} ms", took <= 300
    rate = said["start"]["mb_per_s"]
    size = said["start"]["saved_bytes"] / 1e9
    yield f"catching up {size:.2f} GB of saved audit.log", "≥ 1,000 MB/s", f"{rate:,.0f} MB/s", rate >= 1000
    grown = said["soak"]["grown_mib"]
    yield f"RSS grown over {said['soak']['events']:,} events", "≤ 1 MiB", f"{grown:.1f} MiB", grown <= 1


def sections(said: dict[str, Any]) -> Iterator[str]:
    """The page's parts that hold figures."""
    machine, tools = said["machine"], said["toolchain"]
    yield (
        f"Measured by `{said['command']}` on {machine['cpu']}, {machine['system']}, kernel {machine['kernel']}, "
        f"{tools['python']}, {tools['libc']}.\n"
    )
    rows = [[name, aim, value, "yes" if fine else "**no**"] for name, aim, value, fine in targets(said)]
    yield "### Targets\n\n" + markdown(["what", "target", "measured", "reached"], rows)
    rows = [
        [name, f"{one['items']:,} {one['unit']}", f"{1e9 / one['items_per_s']:,.0f}", f"{one['items_per_s']:,.0f}"]
        for name, one in said["stages"].items()
    ]
    yield "### Stages\n\n`python -m benchmarks.stages`\n\n" + markdown(
        ["stage", "input", "ns an item", "items/s"], rows
    )
    yield "### Other programs\n\n`python -m benchmarks.compare`, ENRICHED records; medians.\n"
    for role, compared in said["compare"].items():
        yield other_programs(role, compared)


def other_programs(role: str, compared: dict[str, Any]) -> str:
    """The table of one comparison."""
    rows = [
        [
            name.replace("|", "\\|"),
            f"{one['wall_s']:.3f}",
            f"{one['cpu_s']:.3f}",
            f"{one['rss_mib']:.0f}",
            f"{one['of_audito']:.1f}",
        ]
        for name, one in compared["programs"].items()
    ]
    head = [role, "wall s", "CPU s", "peak RSS MiB", "wall time to audito's"]
    counts = f"{compared['events']:,} events, {compared['records']:,} records, {compared['audit_bytes'] / 1e6:.0f} MB:"
    return f"{counts}\n\n{markdown(head, rows)}"


def write(said: dict[str, Any]) -> None:
    """Put the figures into the page. Errors: ValueError for a page without the marks."""
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no place for figures")
    PAGE.write_text(before + begin + "\n" + "\n".join(sections(said)) + "\n" + end + after)
    print(f"written: {PAGE.relative_to(ROOT)}")


def main(arguments: list[str]) -> None:
    """Write from a file."""
    path = Path(arguments[0]) if arguments else Path(__file__).with_name("results") / "latest.json"
    write(json.loads(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
