"""No line costs more than its length is worth: twice as long a line takes at most twice as long to read.

Measured through the public path: instructions of the worst line of each row, where valgrind is there to count them;
and CPU time of many more lines, the least of several runs, so that other work on the machine does not count.
What is quadratic takes four times as long for twice the length.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from audito.tables.sshd import GRAMMAR, ROWS
from audito.tables.sshd_grammar import Step, Variant
from tests.sshd_lines import SAMPLES, logins

SIZES = (4000, 8000)
"""Bytes of a message; the longest line that is read has 8 KiB with its envelope."""
TIME_GROWTH_MAX = 2.3**2
"""In CPU time, for four times the length: where in the cache a line comes to lie can cost as much as reading it."""
ROUNDS = 200
PAUSE_S = 0.02
"""Between two rounds: what a neighbour does to the caches lasts for longer than a round."""
RUNS_OF_A_ROUND = 5
"""A line that seems to cost too much is measured again: the least of many runs is what it costs."""

RUNS = [b"x", b" ", b"1.", b"::", b"a:", b"0", b"-", b'"', b"\\", b"\\303", b"#011", b"%", b"[", b"]", b"("]
"""Bytes that fill a field of one kind or another, or stand for others."""

READER = logins(reject=lambda *_: None)  # every line that is not read costs the same, not only those sampled
PID_MAX = 2**22
ROOT = Path(__file__).parent.parent


def text_of(segment: tuple[Step, ...]) -> bytes:
    return b"".join(SAMPLES[step.kind] if step.kind else step.literal for step in segment)


def beginnings(segment: tuple[Step, ...]) -> Iterator[bytes]:
    """A segment as it stands in a line, and each of its beginnings: they make a search go on from there."""
    for end in range(1, len(segment) + 1):
        yield text_of(segment[:end])


def filled(head: bytes, between: bytes, tail: bytes, size: int) -> bytes:
    """A line of about this size: the repetitions are whole, so that lines of all sizes end alike."""
    return head + between * ((size - len(head) - len(tail)) // len(between)) + tail


def hostile(variant: Variant) -> set[tuple[bytes, bytes, bytes]]:
    """Beginning, what is repeated, and end of the lines that could make the most work for a reading."""
    head, *middle = variant.segments
    anchors = {text for segment in middle for text in beginnings(segment)} or {b" x"}
    anchors |= {b"".join(text_of(segment) for segment in middle) or b" x"}
    tails = {b"", text_of(middle[-1]) if middle else b""}
    return {(text_of(head), between, tail) for between in anchors for tail in tails}


def cost_of(read: Callable[[bytes], object], line: bytes) -> int:
    """Nanoseconds of CPU for one read, the least of some."""
    costs = []
    for _ in range(RUNS_OF_A_ROUND):
        start = time.thread_time_ns()
        read(line)
        costs.append(time.thread_time_ns() - start)
    return min(costs)


def growth(read: Callable[[bytes], object], make: Callable[[int], bytes], size: int = 2000) -> str:
    """Nothing where four times the length cost little more than four times as much, else what they cost."""
    lines = [make(size), make(4 * size)]
    costs = [cost_of(read, line) for line in lines]
    for _ in range(ROUNDS):
        if costs[1] <= TIME_GROWTH_MAX * costs[0]:
            return ""
        time.sleep(PAUSE_S)
        costs = [min(cost, cost_of(read, line)) for cost, line in zip(costs, lines, strict=True)]
    return " → ".join(f"{cost:,} ns" for cost in costs)


MOMENTS = count(1)


def read(message: bytes) -> None:
    """As the journal has it, each time of another moment and process: none is a repetition."""
    moment = next(MOMENTS)
    READER.feed(b"%d %d 1 %s\n" % (moment, moment % PID_MAX + 1, message), "journal", 0)


def longest(line: tuple[bytes, bytes, bytes]) -> int:
    """What the longest line of these parts costs."""
    return cost_of(read, filled(*line, SIZES[-1]))


def hostile_lines() -> list[tuple[str, tuple[bytes, bytes, bytes]]]:
    """The row, and the parts of a line, of all hostile lines."""
    lines = {(ROWS[variant.row].name, line) for variant in GRAMMAR.variants for line in hostile(variant)}
    return sorted(lines)


LINES = hostile_lines()


@pytest.mark.parametrize("row", [row.name for row in ROWS])
def test_f18_a_hostile_line_takes_time_as_it_has_bytes(row: str) -> None:
    for line in (line for name, line in LINES if name == row):
        costs = growth(read, lambda size, line=line: filled(*line, size))  # type: ignore[misc]
        assert not costs, (line, costs)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind to count instructions")
def test_doubling_the_worst_line_of_each_row_doubles_its_instructions(tmp_path: Path) -> None:
    worst = [max((line for name, line in LINES if name == row.name), key=longest) for row in ROWS]
    lines = [filled(*line, size) for line in worst for size in SIZES]
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={tmp_path}/count", "--zero-before=getpgrp",
               "--dump-before=getppid", sys.executable, "-m", "tests.count_sshd_lines"]  # fmt: skip
    subprocess.run(
        command,
        input="".join(f"{line.hex()}\n" for line in lines).encode(),
        cwd=ROOT,
        # Not all of the environment: it must not decide how the C library copies, nor how sets are hashed.
        env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0"},
        check=True,
        capture_output=True,
    )
    counts = []
    for number, line in enumerate(lines, 1):
        summary = re.search(r"^summary: (\d+)$", (tmp_path / f"count.{number}").read_text(), re.MULTILINE)
        assert summary is not None
        counts.append((int(summary[1]), line))
    for (before, shorter), (after, longer) in zip(counts[::2], counts[1::2], strict=True):
        assert after <= before * len(longer) / len(shorter), (shorter[:100], before, after)


@pytest.mark.parametrize("run", RUNS, ids=repr)
def test_doubling_a_long_field_at_most_doubles_its_cost(run: bytes) -> None:
    """What one step reads on and on: after every text that a field can follow."""
    heads = {
        text_of(segment[:place])
        for variant in GRAMMAR.variants
        for segment in variant.segments
        for place in range(1, len(segment) + 1)
        if place == len(segment) or segment[place].kind
    }
    for head in sorted(heads):
        costs = growth(read, lambda size, head=head: filled(head, run, b"", size))  # type: ignore[misc]
        assert not costs, (head, costs)


ENVELOPES = {
    "structured data": (b"<86>1 2024-07-09T15:00:29Z h sshd 9 - ", b'[a b="\\]"]', b" x"),
    "open structured data": (b'<86>1 2024-07-09T15:00:29Z h sshd 9 - [a b="', b"\\\\", b""),
    "fields of RFC 5424": (b"<86>1 - ", b"x ", b""),
    "a tag": (b"Jul  9 15:00:29 h ", b"sshd[", b"]: x"),
    "a host": (b"Jul  9 15:00:29 ", b"::", b" sshd[9]: x"),
    "hosts": (b"Jul  9 15:00:29 ", b"h: ", b""),
    "a fraction": (b"2024-07-09T15:00:29.", b"1", b"Z h sshd[9]: x"),
    "repeated": (b"", b"message repeated 2 times: [ ", b"]"),
    "LogVerbose": (b"", b"a.c:b():1 (pid=9): ", b"x"),
    "levels": (b"", b"error: fatal: debug1: ", b"x"),
    "marks": (b"x", b" [preauth] [postauth]", b""),
}


@pytest.mark.parametrize("name", ENVELOPES)
@pytest.mark.parametrize("form", ["syslog", "pipe", "journal", "journal-json", "auto"])
def test_doubling_an_envelope_at_most_doubles_its_cost(name: str, form: str) -> None:
    def read_envelope(line: bytes) -> None:
        logins_of[0].feed(line + b"\n", form, 0)

    logins_of = [logins(reject=lambda *_: None)]
    costs = growth(read_envelope, lambda size: filled(*ENVELOPES[name], size))
    assert not costs, costs


def test_what_is_quadratic_is_seen() -> None:
    slow = re.compile(rb"x*x*y")
    assert growth(slow.match, lambda size: b"x" * size, 250)
