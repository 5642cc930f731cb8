"""`audito decode` against what go-libaudit 2.3.3 makes of the audit logs of several distributions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from audito.core import decode

SHARED = Path(os.environ.get("AUDITO_SHARED", Path(__file__).resolve().parents[2] / "shared"))
LOGS = sorted((SHARED / "conformance").glob("*.log"))


@pytest.mark.skipif(
    not LOGS, reason=f"no conformance pairs in {SHARED / 'conformance'}; AUDITO_SHARED names another place"
)
@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("split", [1 << 20, 61, 1])
def test_decode_agrees(log: Path, split: int) -> None:
    data = log.read_bytes()
    chunks = (data[at : at + split] for at in range(0, len(data), split))
    found = [json.loads(line) for line in b"".join(decode(chunks)).splitlines()]
    expected = [json.loads(line) for line in log.with_suffix(".jsonl").read_text().splitlines()]
    assert found == expected
    assert list(found[0]) == ["seq", "ts", "type", "ses", "result", "action", "how", "object", "process", "records"]
