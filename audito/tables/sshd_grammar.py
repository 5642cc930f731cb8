"""How a row of tables/sshd.py is written, and the check and expansion of all rows when they are imported.

A template is the message as sshd's source has it, without the envelope (time, tag, ``error: ``, `` [preauth]``):

* ``{name}`` or ``{name:kind}``: a field, of its usual kind (FIELDS) or of the kind named.
* ``{name=one|other}``: a field that sshd itself chooses out of these words.
* ``<this|that>``: either of these; ``<this>`` may be missing. Where both read a line, the first is right.

Fields are strict or free. A strict one (address, port, number, word, …) is checked byte by byte; free text is
what remains between texts that sshd itself writes, bound from the right. So two free fields need a strict text
between them, and where that text occurs twice, the line reads in two ways and what stands beside it is not taken.
One free kind is told apart: ``known`` text is not the peer's to choose (a name that sshd had looked up before it
wrote the line, a message of its own), so it holds none of sshd's phrases and ends at the first place where it can. A
line's first such text does not begin with the marker (``invalid user ``) that sshd puts before a name that is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

FREE_KINDS = ("text", "known")
KINDS = (
    *FREE_KINDS,
    "addr",  # IPv4, IPv6 with or without %scope, or UNKNOWN: what getnameinfo(NI_NUMERICHOST) or sshd writes
    "host",  # an address, or a host name where UseDNS lets sshd write one
    "port",  # 1 to 65535
    "int",  # up to 20 digits
    "decimal",  # digits with or without a fraction: %.3f
    "word",  # no blank in it
    "name",  # of a program's own part: letters, digits, _ . : -
    "type",  # sshkey_type(): ED25519, RSA-CERT, ECDSA-SK, MLDSA44-ED25519-CERT
    "fp",  # sshkey_fingerprint(): SHA256:…, MD5:aa:bb, aa:bb (up to 6.7), (null)
    "method",  # the name of an authentication method, with its submethod: keyboard-interactive/pam
    "gssapi",  # gssapi-with-mic, gssapi-keyex
    "proto",  # ssh2, or ssh1 up to 7.3
)

FIELDS = {
    "method": "method", "user": "text", "by": "text", "addr": "addr", "host": "host", "port": "port", "proto": "proto",
    "laddr": "addr", "lport": "port", "key_type": "type", "fp": "fp", "key_id": "text", "serial": "int",
    "ca_type": "type", "ca_fp": "fp", "client_user": "text", "client_host": "text", "info": "text", "reason": "text",
    "path": "text", "pid": "int", "uid": "int", "by_uid": "int", "text": "text", "count": "int", "code": "int",
    "name": "word", "alg": "word", "seconds": "decimal", "id": "int", "tty": "word", "line": "int", "module": "name",
    "service": "name", "family": "word", "signal": "int", "file": "text", "source": "text",
    # Always one of sshd's own words, so never without its words in a template:
    "verb": "", "invalid": "", "state": "", "what": "",
}  # fmt: skip
"""Every field there is, and its usual kind. One name means one thing, in whichever row it stands."""

YIELDS = ("attempt", "failure", "end", "child", "note")
"""``attempt``: the verb says which (Accepted, Failed, Postponed, Partial); ``failure``: a failed login; ``end``: of a
connection, or, where its ``state`` is "authenticating user", of an attempt to log in; ``child``: which process serves
the user from now on; ``note``: known, counted, and no event of its own."""

CUTS = ("", "tail", "only", "open")
"""Of a line that is as long as sshd lets one be, the end may be missing: then it is marked, a strict field at its end is
left out, and what would stand right of somebody else's text is not looked for. ``tail``: the last free field takes all
that is there; ``only``: the row is for such lines and no others. ``open``: the row is the beginning of
another, for lines that something on the way has cut: what it reads is marked."""

MESSAGE_BYTES = 500
"""sshd's syslog() format is "%.500s": a message of this length may have been longer."""
STDERR_BYTES_MIN = 1000
"""``sshd -E`` cuts at its buffer of 1,024 bytes instead."""
VARIANTS_MAX = 64
"""The most readings that one row's choices may multiply to."""
FIELDS_MAX = 16
FREE_MAX = 4


class Example(NamedTuple):
    """A line, bare, and every field that must be read from it."""

    line: str
    fields: dict[str, str]


def example(line: str, /, **fields: str) -> Example:
    return Example(line, fields)


class Row(NamedTuple):
    """One message. ``versions``: the first of sshd and the last that write it, or who else does.

    A failure's ``error`` and ``reason`` go into ``data``, as does a ``method`` that the message does not name; an end's
    ``reason``, without which its ``text`` is taken, into the LoginEnd. ``user`` is the account where the message can
    mean only one. ``last``: a row in general terms, which reads only
    what no other row does.
    """

    name: str
    template: str
    versions: str
    yields: str
    examples: tuple[Example, ...]
    error: str = ""
    reason: str = ""
    method: str = ""
    user: str = ""
    cut: str = ""
    last: bool = False


class Step(NamedTuple):
    """A literal (``kind`` "", its bytes) or a strict field (its kind and index in the row)."""

    kind: str
    field: int
    literal: bytes


class Variant(NamedTuple):
    """One reading of a row: ``segments`` of strict steps around ``free`` fields, one more than there are of those.

    ``known``: a bit for each of the free fields that is; the first one's is 1. ``whole``: not for lines that sshd may
    have cut: text of somebody else's could end there, and its owner say what stands right of it. ``words``: what each field of the row
    is where this reading alone says it, None for the others.
    """

    row: int
    known: int
    cut: str
    last: bool
    whole: bool
    segments: tuple[tuple[Step, ...], ...]
    free: tuple[int, ...]
    words: tuple[str | None, ...]


class Grammar(NamedTuple):
    """All rows, each one's field names in order, and their readings in the order of the rows."""

    rows: tuple[Row, ...]
    fields: tuple[tuple[str, ...], ...]
    variants: tuple[Variant, ...]


_TOKEN = re.compile(r"\{(\w+)(?::(\w+)|=([^{}<>]+))?\}|([<>|{}])|([^<>|{}]+)")


class _Field(NamedTuple):
    name: str
    kind: str


class _Word(NamedTuple):
    name: str
    word: str


_Part = str | _Field | _Word


def _fail(name: str, why: str) -> ValueError:
    return ValueError(f"sshd row {name!r}: {why}")


_Tokens = Iterator[tuple[str, tuple[_Part, ...]]]


def _tokens(name: str, template: str) -> _Tokens:
    """The tokens of a template: a mark of a group, or "" and the parts to choose from."""
    end = 0
    for token in _TOKEN.finditer(template):
        if token.start() != end:
            break
        end = token.end()
        field, kind, words, mark, literal = token.groups()
        if mark in ("{", "}"):
            raise _fail(name, f"stray {mark!r} in the template")
        if mark:
            yield mark, ()
        elif literal:
            yield "", (literal,)
        elif field not in FIELDS:
            raise _fail(name, f"unknown field {field!r}")
        elif words:
            yield "", tuple(_Word(field, word) for word in words.split("|"))
        elif (kind or FIELDS[field]) not in KINDS:
            raise _fail(name, f"field {field!r} has no kind " + (repr(kind) if kind else "of its own"))
        else:
            yield "", (_Field(field, kind or FIELDS[field]),)
    if end != len(template):
        raise _fail(name, f"cannot read the template at {template[end:]!r}")


def _readings(name: str, tokens: _Tokens, depth: int = 0) -> list[list[_Part]]:
    """Every way to read a template, or a group of it up to its ``>``; the first alternative first."""
    options: list[list[_Part]] = []
    readings: list[list[_Part]] = [[]]
    either = False
    for mark, value in tokens:
        if mark == "<":
            group = _readings(name, tokens, depth + 1)
            readings = [[*left, *right] for left in readings for right in group]
        elif mark in ("|", ">"):
            if depth == 0:
                raise _fail(name, f"{mark!r} outside of a group")
            options += readings
            if mark == ">":
                return options if either else [*options, []]
            either = True
            readings = [[]]
        else:
            readings = [[*reading, part] for reading in readings for part in value]
    if depth:
        raise _fail(name, "a group is not closed")
    return readings


def _steps(name: str, parts: list[_Part], fields: tuple[str, ...]) -> Iterator[Step]:
    """The steps of one reading: neighbouring texts are one literal, a free field is a step like any other."""
    literal = b""
    before = ""
    for part in parts:
        if isinstance(part, _Field):
            if literal:
                yield Step("", -1, literal)
            elif before:
                raise _fail(name, f"no text of sshd's between {before!r} and {part.name!r}")
            yield Step(part.kind, fields.index(part.name), b"")
            literal, before = b"", part.name
        else:
            literal += (part.word if isinstance(part, _Word) else part).encode()
    if literal:
        yield Step("", -1, literal)


def _variant(row: Row, number: int, parts: list[_Part], fields: tuple[str, ...]) -> Variant:
    """One reading of row ``number``, split at its free fields. Errors: ValueError, naming row and reason."""
    named = [part.name for part in parts if not isinstance(part, str)]
    if len(named) != len(set(named)):
        raise _fail(row.name, "the same field twice in one reading")
    segments: list[list[Step]] = [[]]
    free: list[int] = []
    known = 0
    for step in _steps(row.name, parts, fields):
        if step.kind in FREE_KINDS:
            known |= (step.kind == "known") << len(free)
            free.append(step.field)
            segments.append([])
        else:
            segments[-1].append(step)
    if len(free) > FREE_MAX:
        raise _fail(row.name, f"more than {FREE_MAX} free fields")
    if any(not re.search(rb"[^A-Za-z0-9_.:%/-]", segment[0].literal) for segment in segments[1:-1]):
        raise _fail(row.name, "a text between two free fields has to begin with a byte that no word has")
    words: list[str | None] = [None] * len(fields)
    for part in parts:
        if isinstance(part, _Word):
            words[fields.index(part.name)] = part.word
    foreign = [place for place in range(len(free)) if not known >> place & 1]
    right_of = foreign[0] + 1 if foreign else len(segments)
    whole = len(free) > right_of or any(step.field >= 0 for segment in segments[right_of:] for step in segment)
    if row.cut == "tail":  # its last segment is not looked for in such a line
        whole = bool(foreign) and foreign[0] < len(free) - 1
    return Variant(number, known, row.cut, row.last, whole, tuple(map(tuple, segments)), tuple(free), tuple(words))


def _check(row: Row) -> None:
    """What a row may say. Errors: ValueError, naming row and reason."""
    if row.yields not in YIELDS:
        raise _fail(row.name, f"cannot yield {row.yields!r}")
    if row.cut not in CUTS:
        raise _fail(row.name, f"no such cut: {row.cut!r}")
    if not row.examples:
        raise _fail(row.name, "no example line")
    if not re.fullmatch(r"\d+\.\d+-(\d+\.\d+)?|pam|distro|rsyslog", row.versions):
        raise _fail(row.name, f"versions are FIRST-LAST or FIRST-, not {row.versions!r}")


def compile_rows(rows: tuple[Row, ...]) -> Grammar:
    """Check the rows and expand their choices. Errors: ValueError, naming row and reason."""
    fields_of: list[tuple[str, ...]] = []
    variants: list[Variant] = []
    names: set[str] = set()
    seen: dict[tuple[str, tuple[tuple[Step, ...], ...]], str] = {}
    for number, row in enumerate(rows):
        if row.name in names:
            raise _fail(row.name, "given twice")
        names.add(row.name)
        _check(row)
        readings = _readings(row.name, _tokens(row.name, row.template))
        named = dict.fromkeys(part.name for parts in readings for part in parts if not isinstance(part, str))
        fields = tuple(named)
        if len(fields) > FIELDS_MAX or len(readings) > VARIANTS_MAX:
            raise _fail(row.name, f"more than {FIELDS_MAX} fields or {VARIANTS_MAX} readings")
        fields_of.append(fields)
        for parts in readings:
            variant = _variant(row, number, parts, fields)
            same = seen.setdefault((row.cut, variant.segments), row.name)
            if same != row.name:
                raise _fail(row.name, f"reads the same lines as {same!r}")
            variants.append(variant)
    return Grammar(rows, tuple(fields_of), tuple(variants))
