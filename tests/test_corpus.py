"""Every shape of record that the parser must survive: ``corpus/NAME.log`` means what ``corpus/NAME.json`` says.

1 to 30 are what kernels, auditd and syslog daemons write; 31 and 32 lines that are no records, and records that say
nothing; 33 what Linux 6.18 wrote about names that are relative. A shape is read whole, cut in two at every byte, and byte
by byte, by the compiled core; and by the reference. ``AUDITO_GOLDEN_WRITE=1`` writes what the reference says: read the
difference before you commit it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from audito import core
from tests import reference
from tests.tables.facts import shared_dir

CORPUS = Path(__file__).parent / "corpus"
SHAPES = sorted(CORPUS.glob("*.log"))
FIELDS = ("seq", "ts", "type", "ses", "result", "action", "how", "object", "process", "records")


def decoded(chunks: Iterable[bytes]) -> list[dict[str, Any]]:
    """What the compiled core makes of these bytes."""
    return [json.loads(line) for lines in core.decode(chunks) for line in lines.splitlines()]


def golden(log: Path) -> list[dict[str, Any]]:
    """What the file beside the log says that it means."""
    path = log.with_suffix(".json")
    if os.environ.get("AUDITO_GOLDEN_WRITE") == "1":
        events = reference.decode(log.read_bytes())
        lines = ",\n".join(json.dumps(event, ensure_ascii=False) for event in events)
        path.write_text(f"[\n{lines}\n]\n")
    meaning: list[dict[str, Any]] = json.loads(path.read_text())
    return meaning


def test_every_shape_has_a_number_and_a_meaning() -> None:
    assert [int(path.name[:2]) for path in SHAPES] == list(range(1, len(SHAPES) + 1))
    assert len(SHAPES) >= 30
    assert {path.stem for path in CORPUS.glob("*.json")} == {path.stem for path in SHAPES}


@pytest.mark.parametrize("log", SHAPES, ids=lambda log: log.stem)
def test_the_core_reads_the_shape(log: Path) -> None:
    assert decoded([log.read_bytes()]) == golden(log)


@pytest.mark.parametrize("log", SHAPES, ids=lambda log: log.stem)
def test_the_reference_reads_the_shape(log: Path) -> None:
    assert reference.decode(log.read_bytes()) == golden(log)


@pytest.mark.parametrize("log", SHAPES, ids=lambda log: log.stem)
def test_it_does_not_matter_where_reads_end(log: Path) -> None:
    data = log.read_bytes()
    whole = b"".join(core.decode([data]))
    assert b"".join(core.decode(data[i : i + 1] for i in range(len(data)))) == whole
    for cut in range(1, len(data)):
        assert b"".join(core.decode([data[:cut], data[cut:]])) == whole, cut


@pytest.mark.parametrize("log", SHAPES, ids=lambda log: log.stem)
def test_a_missing_newline_at_the_end_does_not_matter(log: Path) -> None:
    data = log.read_bytes()
    assert data.endswith(b"\n")
    assert b"".join(core.decode([data[:-1]])) == b"".join(core.decode([data]))


@pytest.mark.parametrize("log", SHAPES, ids=lambda log: log.stem)
def test_what_is_printed_is_json_with_the_fields_of_conformance(log: Path) -> None:
    for event in decoded([log.read_bytes()]):
        assert tuple(event) == FIELDS


def test_garbage_is_told_line_by_line() -> None:
    data = (CORPUS / "31_garbage_lines.log").read_bytes()
    settings = core.CoreSettings(host="h", machine_id="m", boot_id="b")
    told: list[bytes] = []
    audit = core.Core(settings, reject=lambda line, reason: told.append(line))
    audit.feed_audit(data)
    audit.flush()
    lines = [reference.trimmed(line) for line in data.split(b"\n")]
    assert told == [line for line in lines if line and reference.parse_header(line) is None]
    assert len(told) > 30


def conformance() -> list[Path]:
    """The logs that lie beside the repository with what go-libaudit says of them."""
    return sorted((shared_dir() / "conformance").glob("*.log"))


@pytest.mark.parametrize("log", conformance() or [None], ids=lambda log: log.stem if log else "absent")
def test_conformance_with_go_libaudit(log: Path | None) -> None:
    if log is None:
        pytest.skip(f"no {shared_dir() / 'conformance'}")
    expected = [json.loads(line) for line in log.with_suffix(".jsonl").read_text().splitlines()]
    assert sorted(decoded([log.read_bytes()]), key=lambda event: event["seq"]) == expected
    assert sorted(reference.decode(log.read_bytes()), key=lambda event: event["seq"]) == expected
