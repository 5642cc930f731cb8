"""tables/sshd.py: every row by its examples, by lines made from it, and the checks that rows must pass."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings

from audito import _sshd
from audito.tables import sshd_grammar
from audito.tables.sshd import GRAMMAR, ROWS
from audito.tables.sshd_grammar import FREE_KINDS, KINDS, Example, Row, compile_rows
from audito.text import original
from tests.sshd_lines import scanner
from tests.sshd_made import Made, made
from tests.tables.facts import shared_dir

READER = scanner()
EXAMPLES = [pytest.param(row, example, id=f"{row.name}-{n}") for row in ROWS for n, example in enumerate(row.examples)]


@pytest.mark.parametrize(("row", "example"), EXAMPLES)
def test_each_example(row: Row, example: Example) -> None:
    found = READER.read(example.line.encode())
    assert found is not None
    number, fields, flags = found
    assert (ROWS[number].name, fields) == (row.name, example.fields)
    cut = row.cut in ("only", "open") or (row.cut == "tail" and len(example.line) == sshd_grammar.MESSAGE_BYTES)
    assert flags == (_sshd.CUT if cut else 0)


def test_every_field_is_shown_by_an_example() -> None:
    for row, names in zip(ROWS, GRAMMAR.fields, strict=True):
        assert set(names) == {name for example in row.examples for name in example.fields}, row.name


def test_scanner_and_table_agree() -> None:
    assert set(_sshd.KINDS) - {""} == set(KINDS) - set(FREE_KINDS)
    assert max(map(len, GRAMMAR.fields)) <= sshd_grammar.FIELDS_MAX
    assert [row.name for row in ROWS if row.yields == "failure" and not row.error] == []


# ---------------------------------------------------------------------------------- what a row may not be


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("Hello {nobody}", "unknown field 'nobody'"),
        ("Hello {user:animal}", "has no kind 'animal'"),
        ("Hello {verb}", "has no kind of its own"),
        ("Hello {user}{path}", "no text of sshd's between"),
        ("Hello {port}{user}", "no text of sshd's between"),
        ("Hello {user} {user}", "the same field twice"),
        ("Hello {user}abc{path}", "has to begin with a byte that no word has"),
        ("Hello <world", "a group is not closed"),
        ("Hello world>", "outside of a group"),
        ("Hello {world", "stray"),
        ("Hello {user}" + " {path}" * 9, "the same field twice"),
        ("Hello {user} a {path} a {text} a {reason} a {info}", "more than 4 free fields"),
        ("Hello " + "<a|b>" * 7, "more than"),
    ],
)
def test_rows_that_cannot_be_read_are_refused(template: str, why: str) -> None:
    row = Row("odd", template, "6.6-", "note", (Example("Hello", {}),))
    with pytest.raises(ValueError, match=re.escape(why)):
        compile_rows((row,))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"yields": "money"}, "cannot yield"),
        ({"cut": "hair"}, "no such cut"),
        ({"versions": "soon"}, "versions are"),
        ({"examples": ()}, "no example"),
    ],
)
def test_rows_that_say_nonsense_are_refused(changes: dict[str, object], why: str) -> None:
    row = Row("odd", "Hello {user}", "6.6-", "note", (Example("Hello x", {}),))._replace(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=why):
        compile_rows((row,))


def test_rows_given_twice_are_refused() -> None:
    row = Row("odd", "Hello {user}", "6.6-", "note", (Example("Hello x", {}),))
    with pytest.raises(ValueError, match="given twice"):
        compile_rows((row, row))
    with pytest.raises(ValueError, match="reads the same lines as 'odd'"):
        compile_rows((row, row._replace(name="even")))


# ---------------------------------------------------------------------------------- the facts

ENVELOPE = re.compile(
    r"^(?:sshd(?:-session|-auth)?\[9\]: )?(?:error: |fatal: )?(?P<message>.*?)(?: \[preauth\])?"
    r"(?: {2,}(?:\(|<-).*)?$"
)


def fact_lines() -> list[str]:
    """The example lines of the facts: what stands in its code blocks."""
    path = shared_dir() / "facts" / "sshd_lines.md"
    if not path.is_file():
        pytest.skip(f"no {path}: the table is tested by itself only")
    blocks = path.read_text().split("```")[1::2]
    return [line for block in blocks for line in block.strip().splitlines()]


def test_every_example_of_the_facts_is_read() -> None:
    lines = fact_lines()
    assert len(lines) >= 12
    for line in lines:
        found = ENVELOPE.match(line)
        assert found is not None
        message = found["message"]
        assert READER.read(message.encode()) is not None, message


# ---------------------------------------------------------------------------------- lines made from rows

NOTES = [
    pytest.param(number, id=f"{ROWS[variant.row].name}-{number}")
    for number, variant in enumerate(GRAMMAR.variants)
    if ROWS[variant.row].yields == "note" and variant.cut not in ("only", "open")
]
"""Readings that make no events; tests/test_sshd_hostile.py has the others, as events tell them."""


@pytest.mark.parametrize("number", NOTES)
def test_what_was_put_in_comes_back(number: int) -> None:
    """A line made from a row reads as that row said, or what is in doubt is left out: never anything else."""

    @settings(max_examples=20, deadline=None)
    @given(made(GRAMMAR.variants[number], marks=False))
    def check(made_line: Made) -> None:
        line, row, said, cut = made_line
        assume(not cut)
        found = READER.read(line)
        assert found is not None, line
        read, texts, flags = found
        fields = {name: original(text) for name, text in texts.items()}
        assert ROWS[read].yields == "note", (line, ROWS[read].name)
        if flags & _sshd.AMBIGUOUS:
            assert fields.items() <= said.items(), (line, fields, said)
        elif ROWS[read] == row:  # else another row says the same, in its own words
            assert fields == said, line

    check()
