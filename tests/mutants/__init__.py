"""The known faults as mutants: rows of ``*.toml``, each of which puts one fault back into the source.

A row has these fields::

    [[mutant]]
    fault = "U10"                 the number of the fault
    puts_back = "…"               what goes wrong then, in words
    file = "audito/…"             of the tree
    old = '''…'''                 what stands in it, exactly once: a short line that will stay
    new = '''…'''                 what takes its place
    tests = ["tests/….py::test_u10_…"]   each has to fail; the number is in its name

and, where they are wanted::

    also = [{ file = "…", old = "…", new = "…" }]   more edits, for a fault that two places keep out
    raises = "ValueError"         the exception that the fault itself ends a test with; else only a failed assertion counts
"""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import msgspec

HERE = Path(__file__).parent


@cache
def functions(path: Path) -> frozenset[str]:
    """The functions of a file of tests; none where there is no such file."""
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``old``, which stands in ``file`` exactly once, becomes ``new``."""

    file: str
    old: str
    new: str

    def problem(self, root: Path) -> str:
        """Why the edit cannot be made in this tree, "" where it can."""
        path = root / self.file
        if not path.is_file():
            return f"there is no {self.file}"
        count = path.read_text(encoding="utf-8").count(self.old)
        if count != 1:
            return f"{self.file} has the old text {count} times, not once: {self.old.strip()!r}"
        return "" if self.old != self.new else f"old and new text are the same: {self.old.strip()!r}"

    def apply(self, root: Path) -> None:
        path = root / self.file
        path.write_text(path.read_text(encoding="utf-8").replace(self.old, self.new), encoding="utf-8")


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row; ``name`` is the number with a letter, in the order of the rows: U10a, U10b."""

    fault: str
    puts_back: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    also: tuple[Edit, ...] = ()
    raises: str = ""
    name: str = ""

    @property
    def edits(self) -> tuple[Edit, ...]:
        return (Edit(self.file, self.old, self.new), *self.also)

    @property
    def compiled(self) -> bool:
        """Whether a compiled module changes."""
        return any(edit.file.endswith((".pyx", ".pxd")) for edit in self.edits)

    def problem(self, root: Path) -> str:
        """Why the row is stale: it names text or a test that is not there any more; "" where it is not."""
        for test in self.tests:
            file, _, name = test.partition("::")
            if name not in functions(root / file):
                return f"there is no {test}"
        return next((why for edit in self.edits if (why := edit.problem(root))), "")


def named(rows: list[Mutant]) -> list[Mutant]:
    """The rows in order of number, each with its name."""
    seen: Counter[str] = Counter()
    found = []
    for row in sorted(rows, key=lambda row: int(row.fault[1:])):
        letters = "abcdefghijklmnopqrstuvwxyz"
        found.append(msgspec.structs.replace(row, name=row.fault + letters[seen[row.fault]]))
        seen[row.fault] += 1
    return found


def load() -> list[Mutant]:
    """All rows. Errors: msgspec.ValidationError, tomllib.TOMLDecodeError, with the file's name as a note."""
    rows: list[Mutant] = []
    for path in sorted(HERE.glob("*.toml")):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            rows += msgspec.convert(table["mutant"], list[Mutant])
        except (msgspec.ValidationError, tomllib.TOMLDecodeError, KeyError) as exc:
            exc.add_note(f"in {path}")
            raise
    return named(rows)
