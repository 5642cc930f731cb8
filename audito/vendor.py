"""What sshd tells the kernel of a login before its session is opened, from the pid that opens it.

A patched one (RHEL, Fedora, SUSE) tells the key or certificate that it let in, by USER_AUTH and CRYPTO_KEY_USER: so a
login has an identity where no line of sshd says it. Each one with PAM tells from where it comes, by USER_ACCT and
CRED_ACQ: so a line of another login that had the pid is known for what it is before the first event is written.
"""

from __future__ import annotations

import base64
import binascii
import re

from msgspec import Struct

from audito.events import UNKNOWN
from audito.normalise import record_fields
from audito.text import lossless

LOGINS_MAX = 4_096
"""Logins that are told of and have no session yet; past that the oldest goes."""

KEY_AGE_MS = 600_000
"""How long before its session's LOGIN a login is told of at most: LoginGraceTime is two minutes."""

PEER_AGE_MS = 10_000
"""How long before its session's LOGIN the peer is told of at most: setcred is next to it, and pids come again."""

_PAM = re.compile(rb"[ ']op=PAM:(?:accounting|setcred) ")
_PEER = re.compile(rb" hostname=([^ ]+) addr=[^ ]+ terminal=[^ ]+ res=(success)?")
"""libaudit's words at the end of the record; what stands before them may be text of who logs in."""


class Told(Struct, gc=False):
    """What was told of the login that a pid serves. ``fingerprint``: without the hash's name, as sshd prints it.

    ``peer``: what sshd told PAM of where it comes from, an address or a name; ``peer_ms``: when it did.
    """

    time_ms: int
    account: str = ""
    address: str = ""
    port: str = ""
    method: str = ""
    fingerprint: str = ""
    key_id: str = ""
    serial: str = ""
    ca: str = ""
    peer: str = ""
    peer_ms: int = 0

    def data(self) -> dict[str, str]:
        """As a UserLogin of sshd's own line has it."""
        said = {"CA": self.ca, "SSHKeySum": self.fingerprint, "Serial": self.serial}
        return {name: text for name, text in said.items() if text} | {"method": self.method or UNKNOWN}


class Vendor:
    """The logins that were told of, by pid."""

    def __init__(self) -> None:
        self._told: dict[int, Told] = {}

    def tell(self, pid: int, time_ms: int, line: bytes) -> None:
        """Take a record of sshd that is of no session. What failed, or is of no key and no peer, says nothing."""
        if (pam := _PAM.search(line)) and (peer := _PEER.match(line, max(line.rfind(b" hostname="), pam.end() - 1))):
            if peer[2]:
                self._tell_peer(pid, time_ms, peer[1].decode(errors="replace"))
            return
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
        self._keep(pid, told)

    def _tell_peer(self, pid: int, time_ms: int, peer: str) -> None:
        """The last thing that is told before LOGIN. From elsewhere it is of another login: what was told is not its."""
        told = self._told.get(pid)
        if told is None or time_ms - told.time_ms > KEY_AGE_MS or (told.peer and told.peer != peer):
            self._told.pop(pid, None)
            self._keep(pid, Told(time_ms, peer=peer, peer_ms=time_ms))
        else:
            told.peer, told.peer_ms = peer, time_ms

    def _keep(self, pid: int, told: Told) -> None:
        self._told[pid] = told
        if len(self._told) > LOGINS_MAX:
            del self._told[next(iter(self._told))]

    def peer(self, pid: int, before_ms: int, opened_ms: int) -> str:
        """From where the login comes whose session this pid opened then, "" where that was not told.

        ``before_ms``: when it opened the one before. What was told until then is of that one.
        """
        told = self._told.get(pid)
        if told is None or told.peer_ms <= before_ms:
            return ""
        return told.peer if 0 <= opened_ms - told.peer_ms <= PEER_AGE_MS else ""

    def forget(self, pid: int, opened_ms: int) -> None:
        """A session is bound: what was told of its login is not of the next one with this pid."""
        told = self._told.get(pid)
        if told is not None and max(told.time_ms, told.peer_ms) <= opened_ms:
            del self._told[pid]

    def dump(self, clock_ms: int) -> dict[int, Told]:
        """For the checkpoint: what no session came for yet."""
        return {pid: told for pid, told in self._told.items() if clock_ms - told.time_ms <= PEER_AGE_MS}

    def load(self, told: dict[int, Told]) -> None:
        """Go on from a dump()."""
        self._told = told

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
