"""The faults at full size, round after round with a new seed, until the time is over: ``make torture TORTURE=seconds``.

Each round runs every test of ``tests/faults`` and those of spool, sinks and a real sshd, with AUDITO_TORTURE (larger
tests), AUDITO_KILLS (of F1) and AUDITO_SEED set. The report says what was run; it exits 1 when anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.measure import machine

ROOT = Path(__file__).parent.parent
TESTS = (
    "tests/faults", "tests/sources/test_spool.py", "tests/sinks/test_faults.py", "tests/sinks/test_file.py",
    "tests/test_sshd_live.py",
)  # fmt: skip
KILLS = 1000
"""Of F1 in one round, some five minutes."""

TEST_S_MAX = 1800


def run_round(seed: int, kills: int, directory: Path) -> dict[str, Any]:
    """One run of all the tests: how many there were, how many were skipped, and what failed."""
    results = directory / "results.xml"
    environment = os.environ | {"AUDITO_TORTURE": "1", "AUDITO_KILLS": str(kills), "AUDITO_SEED": str(seed)}
    command = [sys.executable, "-m", "pytest", "-q", f"--timeout={TEST_S_MAX}", f"--junitxml={results}"]
    command += [f"--basetemp={directory / 'tests'}", *TESTS]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    cases = list(ElementTree.parse(results).iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    if done.returncode and not failed:
        failed = [f"pytest exited {done.returncode}"]
    skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
    return {"seed": seed, "f1_kills": kills // 3 * 3, "tests": len(cases), "skipped": skipped, "failed": failed}


def main() -> int:
    """Rounds until the time is over; at least one."""
    parser = argparse.ArgumentParser(prog="python -m tools.torture", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3600, help="begin no round after this long")
    parser.add_argument("--kills", type=int, default=KILLS, help="of F1, in a round")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each next has one more")
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "torture.json")
    args = parser.parse_args()
    began = time.monotonic()
    rounds: list[dict[str, Any]] = []
    while not rounds or time.monotonic() - began < args.seconds:
        with tempfile.TemporaryDirectory(prefix="audito-torture-") as directory:
            rounds.append(run_round(args.seed + len(rounds), args.kills, Path(directory)))
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        report = {
            "commit": commit.stdout.strip(),
            "machine": machine(),
            "seconds": round(time.monotonic() - began),
            "f1_kills": sum(each["f1_kills"] for each in rounds),
            "tests": sum(each["tests"] for each in rounds),
            "failed": sum(len(each["failed"]) for each in rounds),
            "rounds": rounds,
        }
        args.report.parent.mkdir(exist_ok=True)
        args.report.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{len(rounds)} rounds, {report['f1_kills']} kills, {report['tests']} tests, {report['failed']} failed: "
          f"{args.report}")  # fmt: skip
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
