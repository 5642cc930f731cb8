"""Where the facts that the tables were made from lie, on a machine that has them."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest


def shared_dir() -> Path:
    """The directory beside the repository that holds facts and conformance pairs; AUDITO_SHARED overrides."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    return Path(os.environ.get("AUDITO_SHARED", beside))


def facts_csv(name: str) -> list[dict[str, str]]:
    """The rows of one CSV of facts; skips the test, visibly, where there is none."""
    path = shared_dir() / "facts" / name
    if not path.is_file():
        pytest.skip(f"no {path}: the table is tested by itself only")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
