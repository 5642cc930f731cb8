"""Puts the known faults back, one at a time, each into a copy of the tree, and expects its test to fail.

    python -m tools.mutants [--jobs N] [NUMBER ...]

What ``make mutants`` runs. The rows stand in ``tests/mutants``; NUMBER is one of them (U10b) or all of a fault (U10).
First the tests that the rows name have to pass on the tree as it is. Then each row is put in and its tests are run:

    killed      each of them failed, on an assertion (or on the exception that the row says the fault raises)
    SURVIVED    one of them passed: the fault could come back unnoticed
    STALE       the text that the row replaces, or a test of it, is not there, or not once: the row has to be mended
    BROKEN      what failed tells nothing: no build, no import, a crash, another exception, a test that fails anyway
    not run     a test of the row was skipped here: not root, no systemd-journal-remote

Exits 1 when one SURVIVED, is STALE or is BROKEN. Where a row changes a compiled module, all are built once with
``AUDITO_DEBUG=1`` and that module anew for each row; else the modules of the tree are used.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import Mutant, load

ROOT = Path(__file__).parent.parent

JOBS = 2
TESTS_S_MAX = 150
TEST_S_MAX = 40
WAIT_S = 6
"""For the tests of one row, for one test, and for what a test waits for: a fault may well be that nothing comes."""

MEMORY_KIB_MAX = 4 << 20
"""For one process: a fault may well be that something grows."""

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "results", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis",
    "*.egg-info",
)  # fmt: skip

ASSERTED = re.compile(
    r"assert |AssertionError|Failed: "
    r"|ValueError: (not enough|too many) values to unpack"  # (event,) = …: a test says how many there are
    r"|subprocess\.TimeoutExpired"  # a process of ours did not end in time
    r"|Connection(Refused|Reset)Error"  # … or ended before its time
)
"""How pytest begins what it says of a test that came to another result than it should."""


@dataclass(frozen=True)
class Outcome:
    """What pytest told of one run, by test without its parameters. ``trouble``: why that tells nothing."""

    passed: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    failed: tuple[tuple[str, str], ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Result:
    """A row's verdict, with why, and how long it took."""

    mutant: Mutant
    verdict: str
    why: str = ""
    took_s: float = 0.0

    @property
    def good(self) -> bool:
        return self.verdict in ("killed", "not run")


# -- a copy of the tree, and processes in it


def environ(tree: Path, **more: str) -> dict[str, str]:
    """For a process in the copy: its modules come before all others, and no setting of ours reaches it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDITO_")}
    return {**inherited, "PYTHONPATH": str(tree), **more}


def run(tree: Path, words: Sequence[str], limit_s: float, **more: str) -> tuple[int, str]:
    """Exit code and output of a program in the copy, which ends with all that it started; -1 when it took too long."""
    limited = ["sh", "-c", f'ulimit -v {MEMORY_KIB_MAX}; exec "$@"', "sh", *words]
    process = subprocess.Popen(
        limited, cwd=tree, env=environ(tree, **more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=limit_s)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        end_group(process)
        return -1, process.communicate()[0]
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[str]) -> None:
    """End a process that was started in a session of its own, and what it left behind: a daemon that hangs."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing is left


def build(tree: Path, jobs: int) -> str:
    """Build what is not built, in place; returns why that failed, or ""."""
    words = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "-j", str(jobs)]
    code, output = run(tree, words, 600, AUDITO_DEBUG="1")
    return "" if code == 0 else f"does not build:\n{tail(output)}"


def make_base(root: Path, tree: Path, *, compiled: bool, jobs: int) -> None:
    """A copy of the tree, built for tests. Errors: SystemExit."""
    shutil.copytree(root, tree, ignore=NOT_COPIED, symlinks=True)
    if compiled:
        for path in [*tree.glob("audito/*.so"), *tree.glob("audito/*.c")]:
            path.unlink()
        if why := build(tree, jobs):
            raise SystemExit(f"the tree as it is {why}")
    _, output = run(tree, [sys.executable, "-c", "import audito; print(audito.__file__)"], 60)
    if not output.startswith(f"{tree}/"):
        raise SystemExit(f"tests of the copy would not use its modules but {output}")


def tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:])


# -- tests


def run_tests(tree: Path, tests: Iterable[str], *more: str) -> Outcome:
    """Run tests in a copy. Errors: none, what goes wrong is told as trouble."""
    report = tree / "report.xml"
    words = [
        sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-o", "junit_family=xunit1",
        f"--junitxml={report}", f"--basetemp={tree / 'tmp'}", f"--timeout={TEST_S_MAX}", "--hypothesis-seed=0",
        *more, *tests,
    ]  # fmt: skip
    code, output = run(tree, words, TESTS_S_MAX * (1 if more else 4), TEST_WAIT_S=str(WAIT_S))
    if code not in (0, 1) or not report.exists():
        how = "did not end" if code == -1 else f"pytest ended with {code}"
        return Outcome(trouble=f"{how}:\n{tail(output)}")
    return read_report(report)


def read_report(report: Path) -> Outcome:
    """What a JUnit report of pytest says."""
    passed, skipped = set(), set()
    failed, errors = [], []
    for case in ET.parse(report).iter("testcase"):
        name = case.get("name", "").partition("[")[0]
        test = f"{case.get('file')}::{name}"
        for kind, found in (("failure", failed), ("error", errors)):
            found += [(test, element.get("message", "")) for element in case.iter(kind)]
        if case.find("skipped") is not None:
            skipped.add(test)
        elif case.find("failure") is None and case.find("error") is None:
            passed.add(test)
    # Not of a test itself, but of what is around it: an import, a fixture, the log of a daemon that has to be clean.
    trouble = "; ".join(f"{test}: {message}" for test, message in errors)
    return Outcome(frozenset(passed), frozenset(skipped), tuple(failed), trouble)


def judge(mutant: Mutant, outcome: Outcome) -> tuple[str, str]:
    """Verdict, and why, of a row by how its tests ended."""
    if outcome.trouble:
        return "BROKEN", outcome.trouble
    failed = dict(outcome.failed)
    for test in mutant.tests:
        if test not in failed:
            return "SURVIVED", f"{test} passes"
        raised = bool(mutant.raises) and re.match(rf"(\w+\.)*{mutant.raises}\b", failed[test]) is not None
        if not raised and not ASSERTED.match(failed[test]):
            return "BROKEN", f"{test} fails with what is no assertion: {failed[test]}"
    return "killed", failed[mutant.tests[0]]


# -- rows


def syntax_problem(tree: Path, mutant: Mutant) -> str:
    """What would fail in a process that a test starts, where it is not seen: no Python, or a name that is not there."""
    paths = [edit.file for edit in mutant.edits if edit.file.endswith(".py")]
    if not paths:
        return ""
    words = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--quiet", "--select", "F821", *paths]
    code, output = run(tree, words, 60)
    return "" if code == 0 else f"is no Python:\n{tail(output)}"


def try_mutant(base: Path, scratch: Path, mutant: Mutant) -> Result:
    """Put one row into a copy of its own and run its tests."""
    began_s = time.monotonic()
    tree = scratch / mutant.name
    ignored = () if mutant.compiled else ("build",)
    shutil.copytree(base, tree, ignore=shutil.ignore_patterns("tmp", *ignored), symlinks=True)
    try:
        for edit in mutant.edits:
            edit.apply(tree)
        why = syntax_problem(tree, mutant) or (build(tree, 1) if mutant.compiled else "")
        if why:
            verdict = "BROKEN"
        else:
            # The first case that fails is enough, where there is one test.
            verdict, why = judge(mutant, run_tests(tree, mutant.tests, f"--maxfail={len(mutant.tests) == 1:d}"))
    finally:
        shutil.rmtree(tree)
    return Result(mutant, verdict, why, time.monotonic() - began_s)


def on_the_tree(base: Path, rows: Sequence[Mutant], scratch: Path, jobs: int) -> Outcome:
    """How the tests that the rows name end without any row, in as many parts as there are jobs."""
    tests = sorted({test for row in rows for test in row.tests})
    parts = [part for n in range(jobs) if (part := tests[n::jobs])]

    def run_part(number: int) -> Outcome:
        tree = scratch / f"base{number}"
        shutil.copytree(base, tree, ignore=shutil.ignore_patterns("build"), symlinks=True)
        try:
            return run_tests(tree, parts[number])
        finally:
            shutil.rmtree(tree)

    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(run_part, range(len(parts))))
    return Outcome(
        frozenset().union(*(outcome.passed for outcome in outcomes)),
        frozenset().union(*(outcome.skipped for outcome in outcomes)),
        tuple(failure for outcome in outcomes for failure in outcome.failed),
        "; ".join(outcome.trouble for outcome in outcomes if outcome.trouble),
    )


def without_trying(root: Path, row: Mutant, before: Outcome) -> Result | None:
    """The verdict of a row that need not be put in: it cannot be, or its tests tell nothing here."""
    if why := row.problem(root):
        return Result(row, "STALE", why)
    failed = dict(before.failed)
    for test in row.tests:
        if test in failed:
            return Result(row, "BROKEN", f"{test} fails without it: {failed[test]}")
        if test in before.skipped:
            return Result(row, "not run", f"{test} is skipped here")
        if test not in before.passed:
            return Result(row, "BROKEN", before.trouble or f"{test} did not run")
    return None


def run_rows(root: Path, rows: Sequence[Mutant], jobs: int = JOBS) -> Iterable[Result]:
    """The verdict of each row, in their order. Errors: SystemExit when the tree cannot be built."""
    fresh = [row for row in rows if not row.problem(root)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as name, ThreadPoolExecutor(jobs) as pool:
        scratch = Path(name)
        base = scratch / "base"
        before = Outcome()
        if fresh:
            make_base(root, base, compiled=any(row.compiled for row in fresh), jobs=jobs)
            before = on_the_tree(base, fresh, scratch, jobs)
        try:
            yield from pool.map(lambda row: without_trying(root, row, before) or try_mutant(base, scratch, row), rows)
        finally:
            pool.shutdown(cancel_futures=True)


# -- the command


def chosen(rows: Sequence[Mutant], names: Sequence[str]) -> list[Mutant]:
    """The rows of these numbers, all without any. Errors: SystemExit for a number that no row has."""
    unknown = [name for name in names if not any(name in (row.fault, row.name) for row in rows)]
    if unknown:
        raise SystemExit(f"no row of tests/mutants is called {' or '.join(unknown)}")
    return [row for row in rows if not names or row.fault in names or row.name in names]


def describe(result: Result) -> str:
    """A line of the table, and why where that is wanted."""
    row = result.mutant
    names = ", ".join(test.partition("::")[2] for test in row.tests)
    line = f"{row.name:6}{result.verdict:9}{result.took_s:6.1f} s  {row.puts_back}  [{names}]"
    why = "" if result.verdict == "killed" else result.why
    return "\n".join([line, *(f"        {part}" for part in why.splitlines())])


def main() -> int:
    parser = argparse.ArgumentParser(description="Puts the known faults back and expects the tests to notice.")
    parser.add_argument("names", nargs="*", metavar="NUMBER", help="U10, U10b; all without any")
    parser.add_argument("--jobs", type=int, default=JOBS, help="rows at a time (default %(default)s)")
    parser.add_argument("--why", action="store_true", help="of those killed too, what the test said")
    options = parser.parse_args()
    rows = chosen(load(), options.names)
    began_s = time.monotonic()
    results = []
    for result in run_rows(ROOT, rows, options.jobs):
        results.append(result)
        print(describe(result), flush=True)
        if options.why and result.verdict == "killed":
            print("\n".join(f"        {part}" for part in result.why.splitlines()[:3]), flush=True)
    counts = {verdict: sum(r.verdict == verdict for r in results) for verdict in sorted({r.verdict for r in results})}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print(f"{len(results)} mutants in {time.monotonic() - began_s:.0f} s: {told}")
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
