"""Draws the plots of docs/performance.md from the JSON that ``python -m benchmarks`` wrote.

python -m benchmarks.plots [FILE]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.measure import ROOT

mpl.use("Agg")
mpl.rcParams.update({"svg.hashsalt": "audito", "svg.fonttype": "none", "font.size": 9, "figure.figsize": (6, 3.2)})

from matplotlib import pyplot as plt  # noqa: E402  # after the choice of Agg

IMAGES = ROOT / "docs" / "img"


def save(images: Path, name: str, title: str, x: str, y: str) -> Path:
    """Write the figure in hand; the same figures give the same bytes."""
    plt.title(title)
    plt.xlabel(x)
    plt.ylabel(y)
    plt.grid(visible=True, alpha=0.3)
    plt.tight_layout()
    images.mkdir(parents=True, exist_ok=True)
    path = images / f"{name}.svg"
    plt.savefig(path, metadata={"Date": None})
    plt.close()
    return path


def draw_sessions(said: dict[str, Any], images: Path) -> Path:
    """Throughput of the core against live sessions."""
    costs = {int(count): cost for count, cost in said["ns_an_event"].items()}
    plt.semilogx(list(costs), [1e3 / cost for cost in costs.values()], marker="o")
    plt.ylim(bottom=0)
    return save(images, "sessions", "One core, every event written", "live sessions", "million events a second")


def draw_backgrounds(said: dict[str, Any], images: Path) -> Path:
    """Throughput of the whole daemon against the background ratio."""
    ratios = [float(ratio) for ratio in said]
    plt.plot(ratios, [one["events_per_s"] / 1e6 for one in said.values()], marker="o", label="all events")
    plt.plot(ratios, [one["written_per_s"] / 1e6 for one in said.values()], marker="o", label="events written")
    plt.ylim(bottom=0)
    plt.legend()
    return save(
        images, "background", "The daemon through its pipes", "events of no session for each of one", "million a second"
    )


def draw_latency(said: dict[str, Any], images: Path) -> Path:
    """How many events take at least so long."""
    for way in ("pipes", "directory"):
        one = said[way]
        edges, left = [], []
        above = one["events"]
        for edge, count in one["histogram"]:
            above -= count
            edges.append(edge)
            left.append(max(above / one["events"], 1e-6))
        plt.loglog(edges, left, label=way)
    plt.axhline(0.5, color="grey", lw=0.5)
    plt.axhline(0.01, color="grey", lw=0.5)
    plt.legend()
    return save(
        images,
        "latency",
        "Last record written to event written, 10,000 events a second",
        "ms",
        "share that takes longer",
    )


def draw(said: dict[str, Any], images: Path) -> None:
    """All plots."""
    for path in (
        draw_sessions(said["sessions"], images),
        draw_backgrounds(said["backgrounds"], images),
        draw_latency(said["latency"], images),
    ):
        print(f"drawn: {path.relative_to(ROOT)}")


def main(arguments: list[str]) -> None:
    """Draw from a file."""
    path = Path(arguments[0]) if arguments else Path(__file__).with_name("results") / "latest.json"
    draw(json.loads(path.read_text()), IMAGES)


if __name__ == "__main__":
    main(sys.argv[1:])
