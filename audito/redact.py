"""Redaction: what of an event's texts is a secret, by the rows of :mod:`audito.tables.secrets` and the administrator's.

It works on the bytes that were typed, before they become text. The core comes here only with events in which the
compiled half (:mod:`audito._redact`) has found something: the ordinary event costs no call. Everything is linear in
what it looks at; patterns of the configuration run on RE2, which is linear by construction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol

from msgspec import Struct

from audito._needles import Needles
from audito._redact import Finder
from audito.tables.secrets import (
    HEADER_ROW,
    NO_SECRETS,
    ROW_NAMES,
    ROWS,
    SCHEMES,
    SWITCH_PROGRAMS,
    SWITCH_WORDS,
    URL_ROW,
    Shape,
)
from audito.text import lossless, original

MASK = "[redacted]"
"""What a secret becomes, whatever its length."""

TYPED_MASK = "\\x5bredacted]"
"""What becomes of a mask that was really typed: by the rules of audito.text it reads back as typed."""

_MASK = MASK.encode()

ALL = "all"
"""In place of the rows' names: every one."""

OWN_NAMES_ROW = "own-names"
"""The row of the names in the configuration."""

OWN_PATTERNS_MAX = 64
OWN_NAMES_MAX = 64
OWN_PATTERN_BYTES_MAX = 1024
OWN_PROGRAM_MAX = 500
OWN_PROGRAMS_MAX = 2_000
"""Steps of a pattern's program, and of all: where no automaton can be made a byte costs some 5 ns a step."""

OWN_PATTERNS_BYTES_MAX = 32 << 20
"""Of memory for one pattern's automaton, or for that of all together; past it RE2 is slower, and still right."""

LOOKS_MAX = 1_000
"""Places of one event at which a pattern is tried. From the next one on the text is hidden: it is made to cost time."""

RULES_KEPT = 4
"""Redactions whose compiled form is kept: there is one, and another one after the configuration was read again."""

NAME_FORM = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""The name of an own pattern or of a filter: it becomes a label of /metrics."""

OWN_NAME_FORM = re.compile(r"[a-z][a-z0-9_.-]{2,62}")

Span = tuple[int, int, int]
"""Start and end of a secret in a text, and the number of the row that found it."""


class OwnPattern(Struct, frozen=True):
    """A pattern of the configuration. ``pattern``: in RE2's syntax, of bytes."""

    name: str
    pattern: str


class Redaction(Struct, frozen=True, kw_only=True):
    """What is redacted. ``off``: rows that are switched off, or "all"; ``names``: more names with a secret value."""

    off: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    patterns: tuple[OwnPattern, ...] = ()


class _Compiled(Protocol):
    """A pattern of RE2."""

    groupindex: dict[bytes, int]
    programsize: int

    def finditer(self, text: bytes) -> Iterator[Any]: ...

    def search(self, text: bytes) -> Any: ...


def parse_own_pattern(text: str) -> OwnPattern:
    """``NAME=REGEX``; what the group ``secret`` matches is hidden, without such a group all of the match.

    Errors: ValueError for a name of another form, and for what RE2 does not take: its syntax has neither references
    back nor looks around.
    """
    name, equals, pattern = text.partition("=")
    if not equals or not NAME_FORM.fullmatch(name):
        raise ValueError(f'"{text}" is no pattern; write it as NAME=REGEX, the name of a-z, 0-9, - and _')
    if name in ROW_NAMES or name in (ALL, OWN_NAMES_ROW):
        raise ValueError(f'a pattern of audito has the name "{name}"; take another')
    own = OwnPattern(name, pattern)
    if not pattern.isascii() or len(pattern) > OWN_PATTERN_BYTES_MAX:
        raise ValueError(f"pattern {name}: it has to be ASCII (other bytes as \\xNN), up to {OWN_PATTERN_BYTES_MAX}")
    size = _compile(own).programsize
    if size > OWN_PROGRAM_MAX:
        raise ValueError(f"pattern {name}: its program has {size} steps, more than {OWN_PROGRAM_MAX}; repeat less")
    return own


def check_own_patterns(patterns: Sequence[OwnPattern]) -> None:
    """Whether they can be used together. Errors: ValueError."""
    if len(patterns) > OWN_PATTERNS_MAX:
        raise ValueError(f"{len(patterns)} are more than {OWN_PATTERNS_MAX}")
    steps = sum(_compile(own).programsize for own in patterns)
    if steps > OWN_PROGRAMS_MAX:
        raise ValueError(f"the programs of all have {steps} steps, more than {OWN_PROGRAMS_MAX}")


def parse_own_names(text: str) -> tuple[str, ...]:
    """Names with commas between them. Errors: ValueError."""
    names = tuple(name.strip().lower() for name in text.split(","))
    for name in names:
        if not OWN_NAME_FORM.fullmatch(name):
            raise ValueError(f'"{name}" is no name; it has three characters or more, of a-z, 0-9, "-", "_" and "."')
    if len(names) > OWN_NAMES_MAX:
        raise ValueError(f"{len(names)} names are more than {OWN_NAMES_MAX}")
    return names


def _compile(own: OwnPattern) -> _Compiled:
    """The pattern, ready for bytes. Errors: ValueError."""
    import re2  # type: ignore[import-untyped]  # 5 ms, for those who have patterns of their own

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # a byte is a character, whatever it is
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = OWN_PATTERNS_BYTES_MAX
    try:
        compiled: _Compiled = re2.compile(own.pattern.encode(), options)
    except re2.error as error:
        why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"pattern {own.name}: {why}") from error
    if compiled.search(b"") is not None:
        raise ValueError(f"pattern {own.name}: it matches an empty text, and so everywhere")
    return compiled


def _search_for(patterns: Sequence[OwnPattern]) -> Callable[[bytes], bool] | None:
    """Whether one of the patterns matches a text: one search, however many there are. None where there is none."""
    if not patterns:
        return None
    # Not re2.Set: where its automaton does not fit in memory it says that nothing matches.
    unnamed = [re.sub(r"\(\?P<\w+>", "(?:", own.pattern) for own in patterns]
    together = _compile(OwnPattern("all", "|".join(f"(?:{pattern})" for pattern in unnamed)))
    return lambda text: together.search(text) is not None


class _Rules(Struct, frozen=True, gc=False):
    """A Redaction, compiled. ``on``: the names of its rows of audito.tables.secrets.

    ``shapes``: by needle; ``own``: of the configuration; both with the number of the row.
    """

    on: frozenset[str]
    shapes: dict[str, tuple[int, re.Pattern[bytes]]]
    shape_needles: Needles
    own: list[tuple[int, _Compiled]]
    finder: Finder


@lru_cache(RULES_KEPT)
def _rules(redaction: Redaction) -> _Rules:
    """The rows and patterns that are on; what was compiled lately is shared."""
    off = ROW_NAMES if ALL in redaction.off else redaction.off
    rows = [(number, row) for number, row in enumerate(ROWS) if row.name not in off]
    on = frozenset(row.name for _, row in rows)
    shapes = {
        needle.lower(): (number, re.compile(row.pattern.encode(), re.DOTALL))
        for number, row in rows
        if isinstance(row, Shape)
        for needle in row.needles
    }
    shape_needles = Needles([*shapes, MASK])
    needles = [needle for _, row in rows for needle in row.needles]
    finder = Finder(
        [(number, row) for number, row in rows if not isinstance(row, Shape)],
        redaction.names,
        len(ROW_NAMES),
        NO_SECRETS,
        SWITCH_WORDS,
        SWITCH_PROGRAMS,
        SCHEMES,
        ROW_NAMES.index(URL_ROW) if URL_ROW in on else -1,
        ROW_NAMES.index(HEADER_ROW) if HEADER_ROW in on else -1,
        Needles([*needles, *_needles_of(redaction.names), MASK], URL_ROW in on),
        shape_needles,
        _search_for(redaction.patterns),
    )
    own = [(number, _compile(own)) for number, own in enumerate(redaction.patterns, len(ROW_NAMES) + 1)]
    return _Rules(on, shapes, shape_needles, own, finder)


class Redactor:
    """Hides secrets in the texts of events. Not thread safe, nor are two of one Redaction.

    ``finder``: the compiled half, which says of each text whether it has to come here. ``counts``: secrets hidden, by
    row. ``before``: the one that was in use until now, whose counts go on.
    """

    def __init__(self, redaction: Redaction, before: Redactor | None = None) -> None:
        rules = _rules(redaction)
        self.finder = rules.finder
        self._shapes, self._shape_needles, self._own = rules.shapes, rules.shape_needles, rules.own
        self._rows = [*ROW_NAMES, OWN_NAMES_ROW, *(own.name for own in redaction.patterns)]
        counted = {} if before is None else before.counts
        self._count = [counted.get(name, 0) for name in self._rows]
        self._on = {*rules.on, *self._rows[len(ROW_NAMES) + (not redaction.names) :]}
        self._looks = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many secrets each row that is on has hidden."""
        return {name: count for name, count in zip(self._rows, self._count, strict=True) if name in self._on}

    # -------------------------------------------------------------------------------- events

    def redact(self, struct: Struct) -> None:
        """Hide the secrets in all texts of a struct and of those in it; a list of texts is a command's arguments.

        A struct with a field ``redacted`` gets the names of the rows that hid something in it.
        """
        self._looks = 0
        self._redact(struct, set())

    def _redact(self, struct: Struct, outer: set[int]) -> None:
        found: set[int] = set()
        for name in struct.__struct_fields__:
            value = getattr(struct, name)
            if type(value) is str:
                setattr(struct, name, self.text(value, found))
            elif type(value) is list and value and type(value[0]) is str:
                setattr(struct, name, self.args(value, found))
            else:
                for inner in value if type(value) is list else (value,):
                    if isinstance(inner, Struct):
                        self._redact(inner, found)
        if found and hasattr(struct, "redacted"):
            struct.redacted = [self._rows[row] for row in sorted(found)]
        else:
            outer |= found

    def text(self, text: str, found: set[int]) -> str:
        """A text as it is to be written; ``found`` gets the rows that hid something."""
        raw = _raw(text)
        if not self._own and not self.finder.needles.found(raw):
            return text
        spans = [span[1:] for span in self.finder.in_text(raw)]
        self._find_shapes(raw, spans)
        return self._written(raw, spans, found) if spans or _MASK in raw else text

    def args(self, args: Sequence[str], found: set[int]) -> list[str]:
        """The arguments of a command as they are to be written."""
        raws = [_raw(arg) for arg in args]
        spans: dict[int, list[Span]] = {}
        for number, *span in self.finder.in_args(raws):
            spans.setdefault(number, []).append((span[0], span[1], span[2]))
        result = []
        for number, (arg, raw) in enumerate(zip(args, raws, strict=True)):
            of_one = spans.get(number, [])
            self._find_shapes(raw, of_one)
            result.append(self._written(raw, of_one, found) if of_one or _MASK in raw else arg)
        return result

    def _written(self, raw: bytes, spans: list[Span], found: set[int]) -> str:
        for _, _, row in spans:
            self._count[row] += 1
            found.add(row)
        return written(raw, spans)

    def _find_shapes(self, raw: bytes, spans: list[Span]) -> None:
        """What is known by its form alone, and the patterns of the configuration."""
        at = 0
        while (needle := self._shape_needles.find(raw, at)) is not None:
            if needle[1] == MASK:
                at = needle[0] + 1
                continue
            row, pattern = self._shapes[needle[1]]
            match = pattern.match(raw, needle[0])
            at = self._note(raw, needle[0], match, match.lastindex or 0 if match else 0, row, spans)
        for row, own in self._own:
            group = own.groupindex.get(b"secret", 0)
            for match in own.finditer(raw):
                if self._note(raw, match.start(), match, group, row, spans) == len(raw):
                    break

    def _note(self, raw: bytes, at: int, match: Any, group: int, row: int, spans: list[Span]) -> int:
        """Note what a pattern matched at a place, if it did; gives where to go on."""
        self._looks += 1
        if self._looks > LOOKS_MAX:
            spans.append((at, len(raw), row))
            return len(raw)
        if match is None:
            return at + 1
        start, end = match.span(group)
        if start < end:
            spans.append((start, end, row))
        return max(int(match.end()), at + 1)


def _raw(text: str) -> bytes:
    """The bytes that were typed."""
    return original(text) if "\\" in text else text.encode()


def written(raw: bytes, spans: Iterable[Span]) -> str:
    """The bytes as text with a mask for each span; spans that touch or overlap are one."""
    pieces: list[bytes] = []
    at, last = 0, -1
    for start, end, _ in sorted(spans):
        if start > last:
            pieces.append(raw[at:start])
        at = last = max(end, last)
    pieces.append(raw[at:])
    rest = b"".join(pieces)
    if rest.isascii() and b"\\" not in rest and _MASK not in rest:
        return MASK.join([piece.decode() for piece in pieces])
    # One text has one way of writing: backslashes are doubled in all of it or nowhere.
    if any(_MASK in piece or lossless(piece).encode() != piece for piece in pieces):
        doubled = (piece.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace") for piece in pieces)
        return MASK.join(piece.replace(MASK, TYPED_MASK) for piece in doubled)
    return MASK.join(piece.decode() for piece in pieces)


def _needles_of(names: Sequence[str]) -> Iterator[str]:
    """What any text with one of these names as a flag, key or variable has in it."""
    for name in names:
        for word in {re.sub("[_.-]", mark, name) for mark in "_-."}:
            yield word
            if len(word) < 4:
                yield from (mark + word for mark in "-_. \t\n;,&?{[(\"'`:=/|<>")
                yield from (word + mark for mark in "=: \"']\\")
