"""Lines made from the rows of tables/sshd.py as sshd makes them, with free text that wants to fool its reader."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from audito.tables.sshd import GRAMMAR, ROWS
from audito.tables.sshd_grammar import MESSAGE_BYTES, Row, Variant
from tests.sshd_lines import PHRASES, SAMPLES, vis

HEX = st.text("0123456789abcdef", min_size=2, max_size=2)
WORD = st.text("abcdefghijkABCXYZ0123456789_-", min_size=1, max_size=12)
DIGEST = st.text("abcdefABCXYZ0123456789+/", min_size=1, max_size=43)
ADDRESS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.just("fe80::1%eth0"),
    st.just("UNKNOWN"),
)
STRATEGIES = {
    "addr": ADDRESS,
    "host": st.one_of(ADDRESS, st.just("h-1.example.com")),
    "port": st.integers(1, 65535).map(str),
    "int": st.integers(0, 2**64 - 1).map(str),
    "decimal": st.just("1.500"),
    "word": WORD,
    "name": WORD,
    "type": st.sampled_from(["RSA", "ED25519-CERT", "ECDSA-SK", "MLDSA44-ED25519-CERT"]),
    "fp": st.one_of(DIGEST.map("SHA256:{}".format), st.lists(HEX, min_size=2).map(":".join), st.just("(null)")),
    "method": st.sampled_from(["password", "publickey", "keyboard-interactive/pam", "none"]),
    "gssapi": st.sampled_from(["gssapi-with-mic", "gssapi-keyex"]),
    "proto": st.sampled_from(["ssh2", "ssh1"]),
}

KNOWN = st.text("abcdefghijklmnop0123456789._-/", min_size=1, max_size=16).map(str.encode)
"""Text of kind ``known``: what exists on the host, or what sshd says of itself."""


def fragments() -> list[bytes]:
    """Every text between fields that any row has, whole and in pieces: what a line is told by."""
    found = {phrase.encode() for phrase in PHRASES}
    for variant in GRAMMAR.variants:
        for segment in variant.segments:
            pieces = [step.literal or SAMPLES[step.kind] for step in segment]
            found |= {b"".join(pieces), b"".join(pieces[:-1]), *pieces}
    return sorted(found)


FRAGMENTS = fragments()

HOSTILE = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.sampled_from(FRAGMENTS), st.binary(max_size=6)), max_size=7
).map(lambda parts: b"".join(parts).replace(b"\0", b""))
"""Text that a peer or the owner of a key has chosen. A zero byte ends a string of C."""


class Made(NamedTuple):
    """A line as it leaves sshd, without its envelope; its row; and what went into its fields, as bytes."""

    line: bytes
    row: Row
    fields: dict[str, bytes]
    cut: bool


@st.composite
def made(draw: st.DrawFn, variant: Variant, *, marks: bool = True, limit: int = MESSAGE_BYTES) -> Made:
    """A line of this reading of a row, escaped and cut as log.c does.

    ``marks``: perhaps written by the unprivileged child, which puts a mark around it and escapes once more.
    """
    row = ROWS[variant.row]
    names = GRAMMAR.fields[variant.row]
    fields = {name: word.encode() for name, word in zip(names, variant.words, strict=True) if word is not None}
    pieces: list[bytes] = []
    for number, segment in enumerate(variant.segments):
        for step in segment:
            value = step.literal
            if step.kind:
                value = draw(STRATEGIES[step.kind]).encode()
                fields[names[step.field]] = value
            pieces.append(value)
        if number < len(variant.free):
            value = draw(KNOWN if variant.known >> number & 1 else HOSTILE)
            fields[names[variant.free[number]]] = value
            pieces.append(value)
    message = b"".join(pieces)
    if row.versions == "pam":
        return Made(message.replace(b"\n", b" "), row, {n: v.replace(b"\n", b" ") for n, v in fields.items()}, False)
    line = vis(message)
    if marks:
        line = draw(st.sampled_from([b"", b"error: ", b"fatal: "])) + line
        if draw(st.booleans()):
            line = vis(line) + b" [preauth]"
    return Made(line[:limit], row, fields, len(line) >= limit)
