"""The fuzzer's corpus, replayed on the modules as they are built: what it found once stays mended."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from audito import checkpoint
from audito.core import CoreState
from tests.fuzz import mutate
from tests.fuzz.targets import TARGETS
from tests.fuzz.words import WORD_BYTES_MAX, WORDS, dictionary

CORPUS = Path(__file__).parent / "corpus" / "fuzz"
FILES_MAX = 300
BYTES_MAX = 500 << 10
"""Of one target."""


@pytest.mark.parametrize("name", TARGETS)
def test_f16_the_corpus_holds(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for file in files:
        data = file.read_bytes()
        TARGETS[name](data)
        TARGETS[name](data[: len(data) // 2])


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_small(name: str) -> None:
    files = list((CORPUS / name).iterdir())
    assert len(files) <= FILES_MAX
    assert sum(file.stat().st_size for file in files) <= BYTES_MAX
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_words_of_the_tables(name: str) -> None:
    """A dictionary is one word a line, quoted, with \\xNN for its bytes: else libFuzzer refuses all of it."""
    lines = dictionary(name).splitlines()
    assert len(lines) >= 50 and WORDS.keys() == TARGETS.keys()
    for line in lines:
        assert line[0] == line[-1] == '"'
        assert 0 < len(bytes.fromhex(line[1:-1].replace("\\x", ""))) <= WORD_BYTES_MAX


@pytest.mark.parametrize(("name", "decoder"), [
    ("sessions", msgspec.json.Decoder(CoreState)), ("state", msgspec.msgpack.Decoder(checkpoint.State)),
])  # fmt: skip
def test_what_is_changed_in_a_saved_state_leaves_it_one_often_enough(name: str, decoder: msgspec.json.Decoder) -> None:
    seeds = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
    good = [data for data in seeds if _is_read(decoder, data)]
    assert good
    changed = [mutate.MUTATORS[name](good[n % len(good)], 8192, n, lambda data, size_max: data) for n in range(200)]
    assert len(set(changed)) > 100
    assert sum(_is_read(decoder, data) for data in changed) > 50


def _is_read(decoder: msgspec.json.Decoder, data: bytes) -> bool:
    try:
        decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True
