"""argv through the core: what the kernel writes of it comes back byte by byte, or the event says that it does not.

``AUDITO_FUZZ=N`` runs N examples a test, new ones each time; otherwise a few, always the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audito.core import Core, CoreSettings
from audito.text import lossless, original
from tests.kernel import RECORD_BYTES, execve_texts
from tests.records import Log, accepted
from tests.test_differential import TRAPS, examples

# Lengths at which the kernel splits, begins a record, or encodes whatever the bytes are.
EDGES = (
    0,
    1,
    3698,
    3702,
    3748,
    3752,
    7380,
    7404,
    7498,
    7499,
    7500,
    7501,
    11_250,
    14_999,
    15_000,
    15_001,
    22_500,
    30_000,
)


def made(size: int, kind: int, seed: int) -> bytes:
    """An argument of so many bytes 1 to 255: any, letters, or letters with one byte that has to be encoded."""
    rng = random.Random(seed)
    if kind == 0:
        return bytes(rng.choices(range(1, 256), k=size))
    text = bytearray(rng.choices(b"abcXYZ019-_./=\\'#", k=size))
    if kind == 2 and size:
        text[rng.randrange(size)] = rng.choice(b' "\n\xff')
    return bytes(text)


SIZES = st.one_of(st.integers(0, 40), st.sampled_from(EDGES), st.integers(0, 9000))
ARGUMENTS = st.one_of(
    st.sampled_from([trap for trap in TRAPS if b"\0" not in trap]),
    st.builds(made, SIZES, st.integers(0, 2), st.integers(0, 2**32)),
)


def executed(texts: Iterable[bytes]) -> dict[str, Any]:
    """metadata.extra of the action whose EXECVE records have these texts."""
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    event = log.event(
        log.syscall(59, ses=7, pid=5000, comm="prog", exe="/usr/bin/prog"),
        *(("EXECVE", text) for text in texts),
        ("CWD", b'cwd="/home/bob"'),
        ("PROCTITLE", b'proctitle="prog"'),
    )
    core.feed_audit(log.login(ses=7, pid=4000) + event)
    core.flush()
    extra: dict[str, Any] = json.loads(core.take().splitlines()[-1])["metadata"]["extra"]
    assert extra["action"] == "executed"
    return extra


@examples(150)
@given(st.lists(ARGUMENTS, min_size=1, max_size=12))
def test_u23_what_the_kernel_writes_comes_back_byte_by_byte(args: list[bytes]) -> None:
    extra = executed(execve_texts(args))
    assert [original(arg) for arg in extra["process_args"]] == args
    assert "args_incomplete" not in extra


@examples(60)
@given(st.lists(ARGUMENTS, min_size=1, max_size=8), st.integers(0, 10_000), st.integers(0, 10_000))
def test_u23_argv_without_one_of_its_records_says_so(args: list[bytes], seed: int, choice: int) -> None:
    args = [*args, made(3 * RECORD_BYTES, seed % 3, seed)]
    texts = execve_texts(args)
    lost = choice % len(texts)
    extra = executed(texts[:lost] + texts[lost + 1 :])
    assert extra["args_incomplete"] == (len(args) if lost else -1)
    whole = set(args)
    # All that was found stands there; only of the arguments in the lost record something may be missing.
    assert sum(original(arg) in whole for arg in extra["process_args"]) >= len(extra["process_args"]) - 2


@examples(100)
@given(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode), st.sampled_from(TRAPS)))
def test_u31_a_text_turns_back_into_its_bytes(raw: bytes) -> None:
    assert original(lossless(raw)) == raw
    assert json.loads(json.dumps(lossless(raw))) == lossless(raw)


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("before", [0, 50, 7300, 7480])
def test_lengths_at_which_the_kernel_changes_its_ways(size: int, kind: int, before: int) -> None:
    args = [b"x" * before, made(size, kind, size), b"", b"z"]
    extra = executed(execve_texts(args))
    assert [original(arg) for arg in extra["process_args"]] == args
    assert "args_incomplete" not in extra


@pytest.mark.parametrize("kind", [0, 1])
def test_100_000_arguments_and_1_mib_are_exact(kind: int) -> None:
    args = [made(10, kind, number) for number in range(100_000)]
    args.append(made((1 << 20) - 10 * len(args), kind, 7))
    extra = executed(execve_texts(args))
    assert [original(arg) for arg in extra["process_args"]] == args
    assert "args_incomplete" not in extra


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(("count", "size"), [(20, 131_000), (10_000, 200)])
def test_more_than_1_mib_is_cut_and_says_so(kind: int, count: int, size: int) -> None:
    args = [made(size, kind, number) for number in range(count)]
    extra = executed(execve_texts(args))
    listed = [original(arg) for arg in extra["process_args"]]
    assert (1 << 20) <= sum(map(len, listed)) <= (1 << 20) + size
    assert listed == args[: len(listed)]
    assert extra["args_incomplete"] == count
