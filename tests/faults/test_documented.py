"""docs/faults.md names a test for each fault, by its number, and all the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FAULTS = 33
"""F34 is days."""


def test_each_fault_has_tests_that_are_there() -> None:
    rows = re.findall(r"^\| F(\d+) \|.*\| (.*) \|$", (ROOT / "docs/faults.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, FAULTS + 1))
    functions = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    for number, cell in rows:
        named = re.findall(r"`(test_\w+)`", cell)
        assert any(f"_f{int(number):02}_" in name for name in named), f"F{number} has no test of its number"
        assert set(named) <= functions, f"F{number}: {set(named) - functions}"
