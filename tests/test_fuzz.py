"""The fuzzer's corpus, replayed on the modules as they are built: what it found once stays mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus" / "fuzz"
CORPUS_BYTES_MAX = 300 << 10


@pytest.mark.parametrize("name", TARGETS)
def test_f16_the_corpus_holds(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for file in files:
        data = file.read_bytes()
        TARGETS[name](data)
        for cut in range(1, len(data), max(len(data) // 3, 1)):
            TARGETS[name](data[:cut])


def test_the_corpus_is_small() -> None:
    assert sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file()) <= CORPUS_BYTES_MAX
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
