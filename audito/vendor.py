"""What a patched sshd (RHEL, Fedora, SUSE) tells the kernel of a login: the key or certificate that it let in.

Its USER_AUTH and CRYPTO_KEY_USER records come before the session is opened, from the pid that opens it. So a login has
an identity where no line of sshd says it.
"""

from __future__ import annotations

import base64
import binascii

from msgspec import Struct

from audito.events import UNKNOWN
from audito.normalise import record_fields
from audito.text import lossless

LOGINS_MAX = 4_096
"""Logins that are told of and have no session yet; past that the oldest goes."""

KEY_AGE_MS = 600_000
"""How long before its session's LOGIN a login is told of at most: LoginGraceTime is two minutes."""


class Told(Struct, gc=False):
    """What was told of the login that a pid serves. ``fingerprint``: without the hash's name, as sshd prints it."""

    time_ms: int
    account: str = ""
    address: str = ""
    port: str = ""
    method: str = ""
    fingerprint: str = ""
    key_id: str = ""
    serial: str = ""
    ca: str = ""

    def data(self) -> dict[str, str]:
        """As a UserLogin of sshd's own line has it."""
        said = {"CA": self.ca, "SSHKeySum": self.fingerprint, "Serial": self.serial}
        return {name: text for name, text in said.items() if text} | {"method": self.method or UNKNOWN}


class Vendor:
    """The logins that were told of, by pid."""

    def __init__(self) -> None:
        self._told: dict[int, Told] = {}

    def tell(self, pid: int, time_ms: int, line: bytes) -> None:
        """Take a USER_AUTH or CRYPTO_KEY_USER record of sshd. What failed, or is of no key, says nothing."""
        fields = record_fields(line)
        if fields.get("res") not in ("success", "1", "yes"):
            return
        operation = fields.get("op", "")
        told = self._told.pop(pid, None)
        if told is None or time_ms - told.time_ms > KEY_AGE_MS:
            told = Told(time_ms)
        told.time_ms = time_ms
        told.account = fields.get("acct", told.account)
        told.address = fields.get("addr", told.address)
        told.port = fields.get("rport", told.port)
        if operation == "negotiate" and fields.get("kind") == "auth-key":
            told.fingerprint = _fingerprint(fields.get("fp", ""))
        elif operation == "pubkey_auth":
            told.method = "publickey"
        elif operation == "cert":
            told.method = "publickey"
            told.key_id = _key_id(line, fields.get("key_id", ""))
            told.serial = fields.get("cert_serial", "")
            told.ca = _authority(fields)
        self._told[pid] = told
        if len(self._told) > LOGINS_MAX:
            del self._told[next(iter(self._told))]

    def take(self, pid: int, opened_ms: int) -> Told | None:
        """What was told of the login whose session this pid opened then."""
        told = self._told.pop(pid, None)
        return told if told is not None and 0 <= opened_ms - told.time_ms + 1_000 <= KEY_AGE_MS else None


def _fingerprint(text: str) -> str:
    """`SHA256:71:b3:…`, in hex as the vendors' patch writes it, as sshd's lines have it: base64 without `=`."""
    name, _, digest = text.partition(":")
    if name == "MD5":
        return digest
    try:
        return base64.b64encode(binascii.unhexlify(digest.replace(":", ""))).decode().rstrip("=")
    except (binascii.Error, ValueError):
        return digest


def _key_id(line: bytes, value: str) -> str:
    """The key ID: in quotes as it is, else in hex, as libaudit writes what holds a blank or a quote."""
    if b' key_id="' in line:
        return value
    try:
        return lossless(binascii.unhexlify(value))
    except (binascii.Error, ValueError):
        return value


def _authority(fields: dict[str, str]) -> str:
    """The CA as sshd's line names it."""
    issuer = fields.get("cert_issuer_fp", "")
    return f"CA {fields.get('cert_issuer_alg', '')} {issuer}" if issuer else ""
