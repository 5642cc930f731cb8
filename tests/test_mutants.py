"""The rows of tests/mutants still fit the tree, and tools/mutants.py tells a test that notices from one that does not."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.mutants import Mutant, load, named
from tools import mutants

ROOT = Path(__file__).parent.parent
ROWS = load()

FAULTS = {f"U{number}" for number in range(1, 33)} - {"U16", "U26"}
"""The numbers of the known faults; two were never given."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_can_be_put_in(row: Mutant) -> None:
    assert row.problem(ROOT) == ""
    for edit in row.edits:
        if edit.file.endswith(".py"):
            ast.parse((ROOT / edit.file).read_text(encoding="utf-8").replace(edit.old, edit.new))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_names_tests_of_its_number(row: Mutant) -> None:
    assert row.tests
    for test in row.tests:
        assert re.search(rf"_u0?{row.fault[1:]}(_|$)", test), f"{test} does not say {row.fault}"


def test_every_fault_has_rows() -> None:
    assert {row.fault for row in ROWS} == FAULTS


def test_no_row_stands_twice() -> None:
    counted = Counter((row.fault, row.edits) for row in ROWS)
    assert [key for key, count in counted.items() if count > 1] == []


def test_rows_are_named_by_number_and_letter() -> None:
    rows = [Mutant(fault, "", "f", "a", "b", ()) for fault in ("U10", "U2", "U10")]
    assert [row.name for row in named(rows)] == ["U2a", "U10a", "U10b"]


# ------------------------------------------------------------------------------------------- verdicts

TREE = {
    "pyproject.toml": '[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib"]\npythonpath = ["."]\n',
    "audito/__init__.py": "",
    "audito/sums.py": "import os\n\n\ndef add(a: int, b: int) -> int:\n    return a + b\n",
    "tests/__init__.py": "",
    "tests/test_sums.py": """
        import pytest
        from audito.sums import add

        @pytest.mark.parametrize("b", [2, 3])
        def test_u01_sum(b):
            assert add(1, b) == 1 + b

        def test_u01_fails_anyway():
            assert add(1, 1) == 3

        @pytest.mark.skip(reason="not here")
        def test_u01_skipped():
            assert add(1, 1) == 3

        @pytest.fixture
        def clean():
            yield
            assert add(1, 1) == 2

        def test_u01_around(clean):
            assert add(1, 1) == 2
    """,
}

CASES = (
    # What takes the place of `a + b`, the test of the row; verdict, words of its reason.
    ("a - b", "sum", "killed", "assert"),
    ("b + a", "sum", "SURVIVED", "test_u01_sum passes"),
    ("a + c", "sum", "BROKEN", "is no Python"),
    ("a +", "sum", "BROKEN", "is no Python"),
    ("os.abort()", "sum", "BROKEN", "pytest ended with -6"),
    ("a + b\nraise ImportError", "sum", "BROKEN", "ImportError"),
    ("a - b", "around", "BROKEN", "teardown"),
    ("a - b", "fails_anyway", "BROKEN", "fails without it"),
    ("a - b", "skipped", "not run", "is skipped here"),
    ("a - b", "nowhere", "STALE", "there is no tests/test_sums.py::test_u01_nowhere"),
)


@pytest.fixture(scope="module", name="verdicts")
def _verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[mutants.Result]:
    """Of the cases, and of two rows that are stale, all tried in a small tree."""
    tree = tmp_path_factory.mktemp("mutants") / "tree"
    for name, text in TREE.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"^ {8}", "", text, flags=re.MULTILINE), encoding="utf-8")
    row = Mutant("U1", "", "audito/sums.py", "a + b", "", ())
    rows = [replace(row, new=new, tests=(f"tests/test_sums.py::test_u01_{test}",)) for new, test, _, _ in CASES]
    rows += [replace(rows[0], old=old) for old in ("a * b", "a")]
    results = list(mutants.run_rows(tree, named(rows)))
    assert sorted(path.name for path in tree.iterdir()) == ["audito", "pyproject.toml", "tests"], (
        "the tree is as it was"
    )
    assert (tree / "audito/sums.py").read_text(encoding="utf-8") == TREE["audito/sums.py"]
    return results


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: f"{CASES[case][0]!r}-{CASES[case][1]}")
def test_a_verdict(verdicts: list[mutants.Result], case: int) -> None:
    *_, verdict, words = CASES[case]
    assert verdicts[case].verdict == verdict, verdicts[case].why
    assert words in verdicts[case].why
    assert verdicts[case].good == (verdict in ("killed", "not run"))


def test_a_row_that_does_not_fit_any_more_is_stale(verdicts: list[mutants.Result]) -> None:
    none, twice = verdicts[len(CASES) :]
    assert (none.verdict, twice.verdict) == ("STALE", "STALE")
    assert "audito/sums.py has the old text 0 times, not once: 'a * b'" in none.why
    assert re.search(r"has the old text \d+ times, not once", twice.why)


@pytest.mark.parametrize(
    ("raises", "failed", "trouble", "verdict"),
    [
        ("", {"a": "assert 1 == 2", "b": "Failed: not within 6.0 s: ready"}, "", "killed"),
        ("", {"a": "AssertionError: no", "b": "ValueError: too many values to unpack (expected 1)"}, "", "killed"),
        ("", {"a": "subprocess.TimeoutExpired: …", "b": "ConnectionRefusedError: …"}, "", "killed"),
        ("", {"a": "assert 1 == 2"}, "", "SURVIVED"),
        ("", {}, "", "SURVIVED"),
        ("", {"a": "assert 1 == 2", "b": "ValueError: cannot parse"}, "", "BROKEN"),
        ("ValueError", {"a": "assert 1 == 2", "b": "ValueError: cannot parse"}, "", "killed"),
        ("SinkError", {"a": "audito.errors.SinkError: …", "b": "assert False"}, "", "killed"),
        ("Error", {"a": "ValueError: cannot parse", "b": "assert False"}, "", "BROKEN"),
        ("", {"a": "assert 1 == 2", "b": "assert 1 == 2"}, "a: failed on teardown", "BROKEN"),
        ("", {}, "pytest ended with 4", "BROKEN"),
    ],
)  # fmt: skip
def test_what_failing_tests_tell(raises: str, failed: dict[str, str], trouble: str, verdict: str) -> None:
    row = Mutant("U1", "", "f", "x", "y", ("a", "b"), raises=raises)
    assert mutants.judge(row, mutants.Outcome(failed=tuple(failed.items()), trouble=trouble))[0] == verdict


def test_numbers_pick_rows() -> None:
    names = [row.name for row in mutants.chosen(ROWS, ["U10", "U2a"])]
    assert names[0] == "U2a"
    assert set(names[1:]) == {row.name for row in ROWS if row.fault == "U10"}
    assert mutants.chosen(ROWS, []) == ROWS
    with pytest.raises(SystemExit, match="called U1a1 or U99"):
        mutants.chosen(ROWS, ["U10", "U1a1", "U99"])
