"""The same rows read with Python's ``re``: what the compiled scanner is measured against, and has to agree with.

    python -m benchmarks.sshd_reference

Checks that both read the lines of a scanned host alike, then prints what a line costs either. The reference is as one
would write it: an expression for each reading of a row, tried where a message begins with the text that it begins
with. It gives the text of all fields, but no time, id or event; the scanner alone gives where fields stand.
"""

from __future__ import annotations

import argparse
import gc
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Iterator

from audito import _sshd
from audito.logins import Logins
from audito.tables.sshd import GRAMMAR, ROWS
from audito.tables.sshd_grammar import Grammar, Step, Variant
from audito.text import lossless
from benchmarks import measure, stages

RUNS = 5
PREFIX_BYTES = 4
"""Of a message, by which the expressions are found that may read it."""

_IPV4 = r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_ADDRESS = rf"(?:{_IPV4}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:%[\w.-]+)?|UNKNOWN)"
KINDS = {
    "addr": _ADDRESS, "host": rf"(?:{_ADDRESS}|[\w.:%@-]+)", "port": r"[1-9]\d{0,4}", "int": r"\d{1,20}",
    "decimal": r"[\d.]+", "word": r"[^\s\x7f]+", "name": r"[\w.:-]+", "type": r"[A-Z0-9-]+",
    "fp": r"(?:\(null\)|[A-Z0-9-]{3,}:[\w+/=:-]+|[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2})+)", "method": r"[a-z0-9/_-]+",
    "gssapi": r"gssapi-[a-z0-9/_-]+", "proto": "ssh[12]", "text": ".*", "known": ".*?",
}  # fmt: skip
"""An expression for each kind of field. Free text is bound from the right, ``known`` text ends where it can."""

_ENVELOPE = re.compile(rb"(\d+) +(?:error: |fatal: )?(.*?)(?: \[(?:preauth|postauth)\])?\r?", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)
_LETTERS = dict(zip(b"ntrbavfs0\\", b"\n\t\r\b\a\v\f \0\\", strict=True))

Read = tuple[str, dict[str, str]]


def _unvis(match: re.Match[bytes]) -> bytes:
    octal, letter = match.groups()
    if octal:
        return bytes([int(octal, 8)])
    return bytes([_LETTERS[letter[0]]]) if letter[0] in _LETTERS else match[0]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text == "UNKNOWN"
    return True


class Reading:
    """One reading of a row as an expression."""

    def __init__(self, grammar: Grammar, variant: Variant) -> None:
        self.row = grammar.rows[variant.row]
        self.names = names = grammar.fields[variant.row]
        self.words = {name: word for name, word in zip(names, variant.words, strict=True) if word is not None}
        self.first_free = names[variant.free[0]] if variant.free else ""
        self.not_marked = bool(variant.known & 1)
        parts = []
        for number, segment in enumerate(variant.segments):
            parts += [self._step(step) for step in segment]
            if number < len(variant.free):
                kind = KINDS["known" if variant.known >> number & 1 else "text"]
                parts.append(f"(?P<{names[variant.free[number]]}>{kind})")
        self.match = re.compile("".join(parts).encode(), re.DOTALL).fullmatch

    def _step(self, step: Step) -> str:
        return f"(?P<{self.names[step.field]}>{KINDS[step.kind]})" if step.kind else re.escape(step.literal.decode())

    def read(self, message: bytes) -> tuple[int, dict[str, str]] | None:
        """Where the first free field ends, and what all fields say; None where it does not read so."""
        match = self.match(message)
        if match is None:
            return None
        fields = self.words.copy()
        for name, value in match.groupdict().items():
            if b"\\" in value and self.row.versions != "pam":
                value = _ESCAPE.sub(_unvis, value)
            fields[name] = lossless(value)
        if not _is_address(fields.get("addr", "UNKNOWN")) or not _is_address(fields.get("laddr", "UNKNOWN")):
            return None
        if not self.first_free:
            return 0, fields
        if self.not_marked and fields[self.first_free].startswith(("invalid user ", "illegal user ")):
            return None
        return match.end(self.first_free), fields


class Reference:
    """All rows; messages that sshd has cut are not read."""

    def __init__(self) -> None:
        self._turns: list[dict[bytes, list[Reading]]] = [{}, {}, {}, {}]
        for variant in GRAMMAR.variants:
            if variant.cut == "only":
                continue
            first = variant.segments[0][0] if variant.segments[0] else None
            literal = first.literal[:PREFIX_BYTES] if first else b""
            turn = variant.last + 2 * (not literal)
            self._turns[turn].setdefault(literal, []).append(Reading(GRAMMAR, variant))

    def read(self, message: bytes) -> Read | None:
        """The row, and what each of its fields says; None when no row knows it."""
        for turn in self._turns:
            best: tuple[int, dict[str, str]] | None = None
            row = ""
            for reading in turn.get(message[:PREFIX_BYTES], turn.get(b"", ())):
                found = reading.read(message)
                if found is not None and (best is None or found[0] < best[0]):
                    best, row = found, reading.row.name
            if best is not None:
                return row, best[1]
        return None

    def lines(self, data: bytes) -> Iterator[tuple[int, Read | None]]:
        """Of each line ``PID MESSAGE`` the pid, and how it reads."""
        for line in data.split(b"\n"):
            envelope = _ENVELOPE.fullmatch(line)
            if envelope is not None:
                yield int(envelope[1]), self.read(envelope[2])


def new_scanner() -> _sshd.Scanner:
    """One that tells lines apart and makes nothing of them."""
    return _sshd.Scanner(_sshd.Variants(GRAMMAR), _sshd.LineSink(), minute=lambda *_: -1, entry=lambda _: None)


def check(reference: Reference, messages: Iterable[bytes]) -> None:
    """That both read these messages alike. Errors: WrongOutputError."""
    scanner = new_scanner()
    for message in messages:
        found = scanner.read(message)
        read = reference.read(message)
        alike = found is not None and read == (ROWS[found[0]].name, found[1])
        measure.require(alike, f"read otherwise: {message!r}: {found} and {read}")


def seconds_for(work: Callable[[], object]) -> float:
    """CPU time of this thread, the least of some runs."""
    times = []
    for _ in range(RUNS):
        gc.collect()
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def compare(attempts: int) -> Iterator[tuple[str, float]]:
    """Nanoseconds a line: of the reference, of the scanner, and until events are made. Errors: WrongOutputError."""
    data, logins, failures = stages.scanned(attempts)
    reference = Reference()
    envelopes = [envelope for envelope in map(_ENVELOPE.fullmatch, data.split(b"\n")) if envelope is not None]
    check(reference, (envelope[2] for envelope in envelopes))
    lines = len(envelopes)
    yield "reference", seconds_for(lambda: list(reference.lines(data))) / lines * 1e9

    def to_events() -> None:
        reader = Logins(host="", machine_id="", boot_id="")
        records = reader.feed(data, "pipe", 0)
        measure.require(sum(record.event is not None for record in records) == logins + failures, "events are missing")

    scanner = new_scanner()
    yield "scanner", seconds_for(lambda: scanner.scan(data, 0, 0)) / lines * 1e9
    yield "events", seconds_for(to_events) / lines * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=20_000, help="attempts to log in, each of two or three lines")
    costs = dict(compare(parser.parse_args().attempts))
    for name, cost in costs.items():
        print(f"{name:10} {cost:8,.0f} ns a line {costs['reference'] / cost:8.1f} times")


if __name__ == "__main__":
    main()
