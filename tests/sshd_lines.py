"""Lines of sshd, built as sshd builds them: shared by the tests of the table, of the scanner and of logins.py."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from audito import _sshd
from audito.events import UNKNOWN, UserLogin
from audito.logins import LoginRecord, Logins
from audito.tables.sshd import GRAMMAR, ROWS
from audito.tables.sshd_grammar import Example, Row

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

SAMPLES = {
    "addr": b"6.6.6.6", "host": b"6.6.6.6", "port": b"22", "int": b"7", "decimal": b"7", "word": b"w", "name": b"n",
    "type": b"RSA", "fp": b"SHA256:x", "method": b"password", "gssapi": b"gssapi-keyex", "proto": b"ssh2",
}  # fmt: skip
"""Of each strict kind one that somebody could put into a name."""


def scanner(**more: Any) -> _sshd.Scanner:
    """A scanner of the whole grammar, for read()."""
    settings: dict[str, Any] = {"minute": lambda *_: -1, "entry": lambda _: None}
    return _sshd.Scanner(_sshd.Variants(GRAMMAR), _sshd.LineSink(), **(settings | more))


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


# What a line means, said once more and in other words than logins.py does.

KINDS = {"Accepted": "login", "Failed": "failure", "Partial": "note", "Postponed": "note"}
ENDS = {"authenticating user": "failure", "invalid user": "note"}
"""What it means that the connection of somebody ended who had not been let in; of others it is the end of a session."""


def every_example() -> list[tuple[Row, Example]]:
    """Those that mean the same whatever came before; what an end means depends on its connection (test_logins)."""
    return [(row, example) for row in ROWS if row.yields not in ("end", "child") for example in row.examples]


def told(event: UserLogin | dict[str, Any]) -> dict[str, Any]:
    """What an event says of who, from where and how, as its readers see it."""
    seen = event if isinstance(event, dict) else json.loads(msgspec.json.encode(event))
    source = seen["source"]
    return {
        "outcome": seen["outcome"],
        "user": seen["subjects"]["loggedAs"],
        "identity": seen["subjects"]["userID"],
        "source": (source["type"], source["value"], source["extra"]["port"]),
        "data": seen["data"],
        "extra": seen["metadata"].get("extra", {}),
    }


def meaning_of(records: list[LoginRecord]) -> list[tuple[str, dict[str, Any] | None]]:
    return [(record.kind, record.event and told(record.event)) for record in records]


def _source(fields: dict[str, str]) -> tuple[str, str, str]:
    known = [fields[name] for name in ("addr", "host") if fields.get(name, "UNKNOWN") != "UNKNOWN"]
    if not known:
        return "IP", UNKNOWN, UNKNOWN
    numeric = ":" in known[0] or known[0].rpartition(".")[2].isdigit()
    return "IP" if numeric else "DNS", known[0], fields.get("port", UNKNOWN)


def _key(fields: dict[str, str]) -> dict[str, str]:
    data = {}
    if "key_type" in fields:
        kind, fp = fields["key_type"], fields.get("fp", "(null)")
        if fp != "(null)":
            hashed, digest = ("MD5", fp) if fp[2] == ":" else fp.split(":", 1)
            data = {"Alg": f"{kind} {hashed}", "SSHKeySum": digest}
        else:
            data = {"Alg": kind}
    if "ca_type" in fields:
        data |= {"CA": f"CA {fields['ca_type']} {fields['ca_fp']}", "Serial": fields["serial"]}
    return data


def meaning(row: Row, fields: dict[str, str], *, truncated: bool = False) -> tuple[str, dict[str, Any] | None]:
    """The kind of record, and what its event has to say, of a line that a row reads so."""
    kind = row.yields
    if kind == "attempt":
        kind = KINDS[fields["verb"]]
    elif kind == "end":
        kind = ENDS.get(fields.get("state", ""), "end")
    if kind not in ("login", "failure"):
        return kind, None
    data = {} if kind == "failure" and not fields.keys() & {"key_type", "key_id"} else _key(fields)
    data["method"] = fields.get("method") or row.method or UNKNOWN
    for field, name in (("client_user", "clientUser"), ("client_host", "clientHost")):
        if field in fields:
            data[name] = fields[field]
    if kind == "failure":
        data["error"] = "invalid user" if "invalid" in fields else row.error
        why = fields.get("text") if row.yields == "end" else None  # the end of a connection says why in its own words
        if reason := fields.get("reason") or row.reason or why:
            data["reason"] = reason
        if "key_id" in fields:
            data["KeyID"] = fields["key_id"]
    return kind, {
        "outcome": "succeeded" if kind == "login" else "failed",
        "user": fields.get("user", row.user or UNKNOWN),
        "identity": (fields.get("key_id") if kind == "login" else None) or UNKNOWN,
        "source": _source(fields),
        "data": data,
        "extra": {"truncated": True} if truncated else {},
    }
