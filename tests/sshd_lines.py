"""Lines of sshd, built as sshd builds them: shared by the tests of the table, of the scanner and of logins.py."""

from __future__ import annotations

from typing import Any

from audito import _sshd
from audito.logins import Logins
from audito.tables.sshd import GRAMMAR

NOW_US = 1_679_060_221_952_459
"""2023-03-17T13:37:01.952459Z, for lines that carry no time."""

STRIPPED = b"\r\n\0"

PHRASES = (
    " from ", " for ", " port ", " ssh2", " ssh2: ", "invalid user ", " ID ", " (serial 7) CA ", "RSA SHA256:abc",
    "6.6.6.6", "22", '"', ", client host ", " via ", ": ", " not allowed because ", "\\", "\n", "é", "#011", "\xff",
    " from 6.6.6.6 port 22 ssh2: x", " from 6.6.6.6 port 22 ssh2: RSA SHA256:x", " from 6.6.6.6 port 22",
    " from 6.6.6.6 port 22 ssh2: RSA-CERT SHA256:x ID alice (serial 7) CA RSA SHA256:x", " (serial 7) CA RSA SHA256:x",
    " [preauth]", " ", "message repeated 2 times: [", "]", "illegal user ", "root", "x", '" serial=7 signed by RSA CA SHA256:x',
    "error: ", ' (serial 7) signed by RSA CA SHA256:x via /x', '", client host "', "Accepted password for ", "\t", "\x01",
)  # fmt: skip
"""What sshd itself writes around names and key IDs: what somebody who wants to fool its readers would put in."""


def scanner(**more: Any) -> _sshd.Scanner:
    """A scanner of the whole grammar that hands over nothing but row and place."""
    settings: dict[str, Any] = {
        "meaning": (),
        "namespace": bytes(16),
        "minute": lambda *_: -1,
        "entry": lambda _: None,
    }
    return _sshd.Scanner(GRAMMAR, **(settings | more))


def logins(**more: Any) -> Logins:
    settings: dict[str, Any] = {"host": "blam", "machine_id": "deadbeef", "boot_id": "b001"}
    return Logins(**(settings | more))


def vis(data: bytes) -> bytes:
    """What sshd's log.c makes of a message: strnvis(VIS_CSTYLE|VIS_NL|VIS_TAB|VIS_OCTAL)."""
    named = {0x0A: b"\\n", 0x0D: b"\\r", 0x08: b"\\b", 0x07: b"\\a", 0x0B: b"\\v", 0x09: b"\\t", 0x0C: b"\\f"}
    out = bytearray()
    for place, byte in enumerate(data):
        if byte == 0x5C:
            out += b"\\\\"
        elif byte == 0:
            following = data[place + 1 : place + 2]
            out += b"\\000" if following and following in b"01234567" else b"\\0"
        elif byte in named:
            out += named[byte]
        elif 0x20 <= byte < 0x7F:
            out.append(byte)
        else:
            out += b"\\%03o" % byte
    return bytes(out)
