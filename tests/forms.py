"""One audit log in the forms in which it reaches us: RAW, ENRICHED, and ENRICHED as loggers spoil it.

With ``log_format = ENRICHED`` auditd puts 0x1D behind a record and after it the names of the record's numbers, in
the order of their fields. rsyslog writes 0x1D as ``#035``; a logger that strips control bytes leaves nothing there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping

from audito.tables.syscalls import ARCHES, syscall_name

USERS = {"0": "root", "1000": "alice", "4294967295": "unset"}
"""The accounts of the host that enriches, by number; auditd calls any other ``unknown(N)``."""

RECORD = re.compile(rb"(?:node=\S+ )?type=(\S+) (?:msg=)?audit\([0-9]+\.[0-9]+:[0-9]+\): ?(.*)", re.DOTALL)
FIELD = re.compile(rb"""(?<![^ '])((?:[a-z]+-)?[a-z]+)=("[^"]*"|[^ "']*)""")
IDS = re.compile(r"(?:old-)?(?:o|[aefs]|fs)?uid|(?:o|[efs]|fs)?gid|id")


def raw(log: bytes) -> bytes:
    """The log as ``log_format = RAW`` has it."""
    return re.sub(rb"\x1d[^\n]*", b"", log)


def enriched(log: bytes, users: Mapping[str, str] = USERS) -> bytes:
    """The log as ``log_format = ENRICHED`` has it, on a host with these accounts."""
    return b"\n".join(enriched_line(line, users) for line in raw(log).split(b"\n"))


def enriched_line(line: bytes, users: Mapping[str, str]) -> bytes:
    """One RAW line and the names of what its fields number; the line itself where auditd has none to add."""
    record = RECORD.fullmatch(line)
    if record is None:
        return line
    fields = [(key.decode(), value.decode("latin-1")) for key, value in FIELD.findall(record[2])]
    known = dict(fields)
    added = [f"{key.upper()}={text}" for key, value in fields if (text := name_of(key, value, known, users))]
    return line + b"\x1d" + " ".join(added).encode() if added else line


def name_of(key: str, value: str, fields: Mapping[str, str], users: Mapping[str, str]) -> str:
    """What auditd adds about one field, "" where it adds nothing."""
    if key == "arch" and re.fullmatch(r"[0-9a-f]{8}", value):
        return ARCHES.get(int(value, 16), f"unknown-elf-type({value})")
    if key == "syscall" and value.isdecimal():
        arch = fields.get("arch", "")
        name = syscall_name(int(arch, 16), int(value)) if re.fullmatch(r"[0-9a-f]{8}", arch) else None
        return name or f"unknown-syscall({value})"
    if key == "saddr" and re.fullmatch(r"(?:[0-9A-F]{2}){2,}", value):
        return f"{{ {peer(bytes.fromhex(value))} }}"
    if IDS.fullmatch(key) and value.isdecimal():
        return f'"{users.get(value, f"unknown({value})")}"'
    return ""


def peer(saddr: bytes) -> str:
    """A socket address in auditd's words."""
    family = int.from_bytes(saddr[:2], "little")
    port = int.from_bytes(saddr[2:4], "big")
    if family == 1:
        return f"saddr_fam=local path={saddr[2:].split(bytes(1))[0].decode('latin-1')}"
    if family == 2 and len(saddr) >= 8:
        return f"saddr_fam=inet laddr={ipaddress.IPv4Address(saddr[4:8])} lport={port}"
    if family == 10 and len(saddr) >= 24:
        return f"saddr_fam=inet6 laddr={ipaddress.IPv6Address(saddr[8:24])} lport={port}"
    if family == 16 and len(saddr) >= 8:
        return f"saddr_fam=netlink nlnk-fam=16 nlnk-pid={int.from_bytes(saddr[4:8], 'little')}"
    return f"unknown-family({family})"


def by_rsyslog(log: bytes) -> bytes:
    """ENRICHED, as rsyslog writes what it receives."""
    return enriched(log).replace(b"\x1d", b"#035")


def without_control_bytes(log: bytes) -> bytes:
    """ENRICHED, through a logger that leaves control bytes out."""
    return enriched(log).replace(b"\x1d", b"")


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "raw": raw,
    "enriched": enriched,
    "rsyslog": by_rsyslog,
    "stripped": without_control_bytes,
}
