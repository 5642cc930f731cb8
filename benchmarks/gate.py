"""Fails on a regression: what ``make bench-gate`` runs.

    python -m benchmarks.gate [--update | --prove]

Two things are compared with ``benchmarks/baseline.json``, and each may be at most LIMIT times what it was there:
the instructions that each stage takes under callgrind, which are the same from run to run; and the ratio of the whole
daemon to ``cat | wc -c`` on the same bytes, wall and CPU time, in pairs that run right after each other (the copy on
one CPU: else the scheduler decides whether it takes half as long).

Instructions hold for one compiler, Python and C library, and ratios for one CPU: the baseline says which. On others
nothing is scaled. There the commit that wrote the baseline is checked out to a temporary folder, built, and measured
in the same way, in turns with this tree; where there is no such commit (a shallow clone) that part is skipped, and
says so. Ratios depend on what else the machine does, too: one that is too high is measured again like this before it
counts.

``--update`` writes the baseline: commit it together with the code that it was measured on. ``--prove`` builds a slowed
copy of the tree, in which each line is scanned twice, and fails unless the gate fails on it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure, pipes, stages, workload
from benchmarks.measure import ROOT, WrongOutputError, quantile, require, table

BASELINE_PATH = Path(__file__).with_name("baseline.json")
LIMIT = 1.10

PAIRS = 9
WHOLE = workload.Settings(sessions=300, commands=50, background=3.0)
"""77 MB: long enough that starting cat is no part of it, short enough for nine pairs."""

Ratios = Mapping[str, Sequence[float]]
"""Of the daemon's wall and cpu time to the copy's, one each pair."""

CALLGRIND_LIMIT_S = 150
BUILD_FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
TWICE = """

cdef void *memchr_twice(const void *p, int c, size_t n) noexcept nogil:
    cdef const uint8_t *found = <const uint8_t *>memchr(p, c, n)
    if found is NULL:
        return NULL
    return memchr(p, c, <size_t>(found - <const uint8_t *>p) + 1)
"""
SLOWED = (
    ("audito/_fastparse.pyx", r"\bmemchr\((?=[^\n]*c'\\n')", "memchr_twice(", TWICE),
    (
        "audito/core.py",
        r"^(    def feed_audit\(self, data: Buffer\) -> None:\n        \"\"\"[^\n]*\n)",
        r'\1        bytes(data).split(b"\\n")' + "\n",
        "",
    ),
)
"""The slowed build: file, what is replaced, by what, and what is added after the last cimport."""


@dataclass(frozen=True)
class Verdict:
    """One thing compared. ``ratio``: now to then; ``low``: what it is at least, which is what decides."""

    name: str
    then: float
    now: float
    low: float

    @property
    def ratio(self) -> float:
        return self.now / self.then

    @property
    def ok(self) -> bool:
        """A regression is one beyond doubt: also the lower quartile of what varies has to pass the limit."""
        return self.low <= self.then * LIMIT

    def row(self) -> list[str]:
        shape = "{:,.0f}" if self.then >= 1000 else "{:.2f}"
        said = "ok" if self.ok else f"FAILED: more than {LIMIT - 1:.0%} over the baseline"
        return [self.name, shape.format(self.then), shape.format(self.now), f"{self.ratio - 1:+.1%}", said]


# ------------------------------------------------------------------------------------------ measuring


def count_instructions(tree: Path, *, any_digest: bool = False) -> dict[str, int]:
    """Instructions of each stage with the package of this tree. Errors: WrongOutputError.

    The environment is empty but for what fixes the hashes and the C library's choice of memchr: it must not be the
    CPU that decides which of them is counted.
    """
    names = [stage.name for stage in stages.STAGES]
    tunables = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX512VL,-AVX512BW,-ERMS,-FSRM"
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
        "GLIBC_TUNABLES": tunables, "PYTHONPATH": f"{tree}:{ROOT}", "BENCH_ANY_DIGEST": str(int(any_digest)),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="audito-gate-") as scratch:
        output = Path(scratch, "counts")
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}",
             "--zero-before=getpgrp", "--dump-before=getppid",
             sys.executable, "-P", "-m", "benchmarks.gate_worker", str(tree), *names],
            env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=CALLGRIND_LIMIT_S,
        )  # fmt: skip
        require(done.returncode == 0, f"stages of {tree}: {done.stderr[-3000:]}")
        require(done.stdout.split() == names, f"stages of {tree}: {done.stdout!r}")
        return {name: summary_of(Path(f"{output}.{i}").read_text()) for i, name in enumerate(names, 1)}


def summary_of(dump: str) -> int:
    """The instructions between the marks, of one dump of callgrind. Errors: WrongOutputError."""
    match = re.search(r"^summary: (\d+)$", dump, re.MULTILINE)
    require(match is not None and "Trigger: --dump-before=getppid" in dump, "callgrind's dump is not of a stage")
    assert match is not None
    return int(match[1])


def measure_whole(directory: Path, truth: workload.Truth, *trees: Path) -> list[Ratios]:
    """The ratios of each pair, for each tree; the trees take turns. Errors: WrongOutputError, also for wrong events."""
    pairs: list[list[pipes.Pair]] = [[] for _ in trees]
    for _ in range(PAIRS):
        for tree, done in zip(trees, pairs, strict=True):
            done += pipes.measure(truth, directory, 1, tree=tree, pinned=True).pairs
    return [
        {"wall": sorted(pair.wall_ratio for pair in done), "cpu": sorted(pair.cpu_ratio for pair in done)}
        for done in pairs
    ]


# ------------------------------------------------------------------------------------------ trees


def build(tree: Path) -> Path:
    """Compile the modules of a tree in place; returns it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDITO_")}
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "-j", "2"],
        cwd=tree, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    require(done.returncode == 0, f"{tree} does not build: {done.stderr[-3000:]}")
    return tree


def copy_tree(target: Path) -> Path:
    """What is needed to build, as it is in the working tree now."""
    target.mkdir()
    ignored = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    shutil.copytree(ROOT / "audito", target / "audito", ignore=ignored)
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, target)
    return target


def slow_down(tree: Path) -> None:
    """Have each line scanned twice. Errors: WrongOutputError where the source is not what SLOWED knows."""
    for name, pattern, replacement, added in SLOWED:
        path = tree / name
        text = path.read_text()
        changed, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        require(count > 0, f"{name} has nothing that matches {pattern}: bring gate.SLOWED up to date")
        if added:
            at = list(
                re.finditer(
                    r"^cdef extern .*:\n(?:    .*\n)+|^(?:from|cimport) .*cimport [^(\n]*\n", changed, re.MULTILINE
                )
            )
            require(bool(at), f"{name} has no cimport: bring gate.SLOWED up to date")
            changed = changed[: at[-1].end()] + added + changed[at[-1].end() :]
        path.write_text(changed)


def baseline_commit() -> str:
    """The commit that wrote the baseline, "" where git does not know it or the baseline was changed since."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    name = str(BASELINE_PATH.relative_to(ROOT))
    if git("status", "--porcelain", "--", name) or git("rev-parse", "--is-shallow-repository") != "false":
        return ""
    return git("log", "-1", "--format=%H", "--", name)


@contextmanager
def baseline_tree(commit: str) -> Iterator[Path]:
    """That commit, built in a temporary folder. Errors: WrongOutputError."""
    with tempfile.TemporaryDirectory(prefix="audito-base-") as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        archive = subprocess.run(  # without its benches: it is measured with those of now
            ["git", "-C", str(ROOT), "archive", commit, "audito", *BUILD_FILES], capture_output=True, check=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
        yield build(tree)


# ------------------------------------------------------------------------------------------ judging


def judge_instructions(then: dict[str, int], now: dict[str, int]) -> list[Verdict]:
    """One verdict a stage; a stage that the baseline lacks is new and has none."""
    return [Verdict(name, then[name], count, count) for name, count in now.items() if name in then]


def judge_whole(then: Ratios, now: Ratios) -> list[Verdict]:
    """Medians, and the lower quartile of now, for the daemon as a whole."""
    return [
        Verdict(f"whole, {name} ratio", quantile(then[name], 0.5), quantile(now[name], 0.5), quantile(now[name], 0.25))
        for name in now
    ]


def differing(then: dict[str, str], now: dict[str, str]) -> str:
    """What is not the same, for a reader; "" when all is."""
    names = [name for name in now if then.get(name) != now[name]]
    return "; ".join(f"{name}: {then.get(name, '')!r} there, {now[name]!r} here" for name in names)


def report(verdicts: list[Verdict], skipped: list[str]) -> int:
    """Print all; the exit code."""
    if verdicts:
        print(table([["", "baseline", "now", "change", ""], *(verdict.row() for verdict in verdicts)]))
    for reason in skipped:
        print(f"SKIPPED: {reason}")
    failed = [verdict.name for verdict in verdicts if not verdict.ok]
    print(f"bench-gate: {'FAILED: ' + ', '.join(failed) if failed else 'ok' if verdicts else 'nothing was compared'}")
    return 1 if failed else 0


# ------------------------------------------------------------------------------------------ the gate


def valgrind_missing() -> str:
    """Why instructions cannot be counted, "" when they can; installs valgrind as root."""
    return measure.install("valgrind", "valgrind")


def whole_workload(directory: Path) -> workload.Truth:
    """Make the workload of the whole."""
    return workload.write(WHOLE, directory)


def gate(*, with_whole: bool = True) -> int:
    """Measure this tree and compare; the exit code. ``with_whole``: also the ratio to the pipe copy."""
    baseline: dict[str, Any] = json.loads(BASELINE_PATH.read_text())
    missing = valgrind_missing()
    skipped = [f"instructions: {missing}"] if missing else []
    if not with_whole:
        skipped.append("whole: --stages")
    tools = differing(baseline["toolchain"], measure.toolchain())
    other = tools or differing({"cpu": baseline["machine"]["cpu"]}, {"cpu": measure.cpu_model()})
    if other:
        print(f"not what the baseline was measured on: {other}")
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="audito-gate-") as scratch:
        directory = Path(scratch)
        truth = whole_workload(directory)
        instructions = {} if missing else count_instructions(ROOT)
        whole: list[Verdict] = []
        if not other and with_whole:
            whole = judge_whole(baseline["whole"], measure_whole(directory, truth, ROOT)[0])
        if all(verdict.ok for verdict in whole) and not other:
            verdicts = judge_instructions(baseline["instructions"], instructions) + whole
        elif commit := baseline_commit():
            print(f"measuring {commit[:12]}, which wrote the baseline, in turns with this tree")
            with baseline_tree(commit) as tree:
                if instructions and tools:
                    baseline["instructions"] = count_instructions(tree, any_digest=True)
                if with_whole:
                    whole = judge_whole(*measure_whole(directory, truth, tree, ROOT))
            verdicts = judge_instructions(baseline["instructions"], instructions) + whole
        else:
            unseen = "no commit in reach wrote the baseline, none can be measured here"
            if other:
                skipped.append(f"whole: {unseen}")
            if tools:
                skipped.append(f"instructions: {unseen}")
            else:
                verdicts = judge_instructions(baseline["instructions"], instructions)
            verdicts += whole
    return report(verdicts, skipped)


def measured() -> dict[str, Any]:
    """This tree, as a baseline. Errors: WrongOutputError, also without valgrind."""
    missing = valgrind_missing()
    require(not missing, missing)
    with tempfile.TemporaryDirectory(prefix="audito-gate-") as scratch:
        directory = Path(scratch)
        return {
            "toolchain": measure.toolchain(),
            "machine": measure.machine(),
            "instructions": count_instructions(ROOT),
            "whole": measure_whole(directory, whole_workload(directory), ROOT)[0],
        }


def prove() -> int:
    """Gate a slowed copy of this tree against this tree: 0 when the gate fails on it in both parts."""
    missing = valgrind_missing()
    require(not missing, missing)
    with tempfile.TemporaryDirectory(prefix="audito-slowed-") as scratch:
        directory = Path(scratch)
        plain, slowed = (copy_tree(directory / name) for name in ("plain", "slowed"))
        slow_down(slowed)
        counts = [count_instructions(build(tree)) for tree in (plain, slowed, plain)]
        instructions = judge_instructions(counts[0], counts[1])
        whole = judge_whole(*measure_whole(directory, whole_workload(directory), plain, slowed))
    print("a build in which each line is scanned twice:")
    report([*instructions, *whole], [])
    proved = all(any(not verdict.ok for verdict in part) for part in (instructions, whole))
    drift = max(abs(verdict.ratio - 1) for verdict in judge_instructions(counts[0], counts[2]))
    print(f"the gate {'fails on it, as it must' if proved else 'DOES NOT FAIL on it'}")
    print(f"the tree as it is, built and counted again: at most {drift:.3%} other than before")
    return 0 if proved and drift < (LIMIT - 1) / 10 else 1


def main() -> int:
    """Gate, update or prove."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--update", action="store_true", help="write the baseline anew")
    chosen.add_argument("--stages", action="store_true", help="instruction counts only: for a busy machine")
    chosen.add_argument("--prove", action="store_true", help="show that a slowed build makes the gate fail")
    args = parser.parse_args()
    began = time.monotonic()
    try:
        if args.update:
            BASELINE_PATH.write_text(json.dumps(measured(), indent=1) + "\n")
            print(f"written to {BASELINE_PATH}")
            code = 0
        else:
            code = prove() if args.prove else gate(with_whole=not args.stages)
    except WrongOutputError as error:
        print(f"bench-gate: WRONG: {error}", file=sys.stderr)
        code = 1
    print(f"{time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
