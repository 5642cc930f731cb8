"""What every test may lean on. Markers and warnings stand in pyproject.toml."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """With sanitized modules, programs that tests start get the sanitizers' runtime too, whatever their environment."""
    if os.environ.get("AUDITO_SANITIZE") == "1":
        sys.executable = str(ROOT / "tools" / "python-sanitized")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked e2e, visibly, unless AUDITO_E2E=1: it changes the machine."""
    if os.environ.get("AUDITO_E2E") == "1":
        return
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.skip(reason="changes the machine: set AUDITO_E2E=1 (make integration-test)"))
