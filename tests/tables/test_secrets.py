"""tables/secrets.py: every row by its examples, as an argv and as text, and the checks that rows must pass."""

from __future__ import annotations

import re
import shlex

import pytest

from audito._needles import Needles
from audito.redact import MASK, Redaction, Redactor
from audito.tables.secrets import (
    HEADER_ROW,
    NAMES,
    NEEDLE_BYTES_MIN,
    PROGRAMS,
    ROW_NAMES,
    ROWS,
    URL_ROW,
    Names,
    Program,
    Shape,
)

MARKED = re.compile("«(.*?)»", re.DOTALL)
TOLD = [pytest.param(row, example, id=f"{row.name}-{n}") for row in ROWS for n, example in enumerate(row.told)]
KEPT = [pytest.param(example, id=f"{row.name}-{n}") for row in ROWS for n, example in enumerate(row.kept)]
ALL_ON = Redactor(Redaction())


def typed(example: str) -> str:
    return MARKED.sub(r"\1", example)


def hidden(example: str) -> str:
    return MARKED.sub(MASK, example)


def rows_of(found: set[int]) -> set[str]:
    return {ROW_NAMES[number] for number in found}


@pytest.mark.parametrize(("row", "example"), TOLD)
def test_a_secret_in_an_argv(row: Names | Program | Shape, example: str) -> None:
    args = shlex.split(typed(example))
    found: set[int] = set()
    assert ALL_ON.args(args, found) == shlex.split(hidden(example))
    assert row.name in rows_of(found)
    assert any(ALL_ON.finder.needles.found(arg.encode()) for arg in args)


@pytest.mark.parametrize(("row", "example"), TOLD)
def test_a_secret_in_a_text(row: Names | Program | Shape, example: str) -> None:
    found: set[int] = set()
    assert ALL_ON.text(typed(example), found) == hidden(example)
    assert row.name in rows_of(found)


@pytest.mark.parametrize(("row", "example"), TOLD)
def test_a_row_finds_its_secrets_alone(row: Names | Program | Shape, example: str) -> None:
    """No row leans on another: with all the others off it hides the same, or the part that is its own."""
    alone = Redactor(Redaction(off=tuple(name for name in ROW_NAMES if name != row.name)))
    args = shlex.split(typed(example))
    found: set[int] = set()
    assert alone.args(args, found) != args
    assert rows_of(found) == {row.name}
    assert any(alone.finder.needles.found(arg.encode()) for arg in args)
    assert alone.text(typed(example), found) != typed(example)


@pytest.mark.parametrize("example", KEPT)
def test_what_is_no_secret(example: str) -> None:
    args = shlex.split(example)
    assert ALL_ON.args(args, set()) == args
    assert ALL_ON.text(example, set()) == example


def test_every_row_shows_what_it_hides_and_what_not() -> None:
    assert all(row.told and row.kept for row in ROWS)
    assert not [example for row in ROWS for example in row.kept if MARKED.search(example)]
    assert not [example for row in ROWS for example in row.told if not MARKED.search(example)]


def test_names_of_rows_are_told_apart() -> None:
    assert len(set(ROW_NAMES)) == len(ROW_NAMES)
    assert all(re.fullmatch("[a-z][a-z0-9-]*", name) for name in ROW_NAMES)
    assert {URL_ROW, HEADER_ROW} <= set(ROW_NAMES)


def test_a_program_is_in_one_row() -> None:
    programs = [program for row in PROGRAMS for program in row.programs]
    assert len(set(programs)) == len(programs)


def test_every_name_and_program_has_a_needle() -> None:
    for row in NAMES:
        needles = Needles(row.needles)
        for ending in row.endings:
            assert needles.found(f"x{ending}=".encode()), ending
        for word in (*row.words, *row.later):
            assert needles.found(f"x_{word}=".encode()), word
    for program in PROGRAMS:
        needles = Needles(program.needles)
        for name in program.programs:
            for flag in program.flags:
                words = (name, f"/usr/bin/{name}", flag.sub, f"{flag.word}=x")
                assert any(needles.found(word.encode()) for word in words), (name, flag)
                assert any(needles.found(f"{words[place]} {flag.sub} {flag.word}=x".encode()) for place in (0, 1)), name


@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(row, Shape)], ids=lambda row: row.name)
def test_a_shape_begins_at_its_needle(row: Shape) -> None:
    assert all(len(needle) >= NEEDLE_BYTES_MIN for needle in row.needles)
    if not row.pattern:
        return
    pattern = re.compile(row.pattern.encode(), re.DOTALL)
    assert pattern.groups <= 1
    needles = Needles(row.needles)
    for example in row.told:
        text = typed(example).encode()
        for match in pattern.finditer(text):
            place = needles.find(text, match.start())
            assert place is not None and place[0] == match.start()
