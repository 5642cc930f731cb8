"""What sshd's lines mean: a login, a failure, or a note. The only place that knows.

The scanner (_sshd) tells the messages of tables/sshd.py apart; here a message becomes a LoginRecord and, where it
tells of an attempt to log in, a UserLogin event. No clock is read: the time of lines that carry none is an argument.
"""

from __future__ import annotations

import re
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET

from audito import _sshd
from audito.events import UNKNOWN, LoginExtra, LoginMetadata, Outcome, Source, SourceExtra, Subjects, Target, UserLogin
from audito.tables import sshd
from audito.tables.programs import EXECUTABLES, TAGS

Buffer: TypeAlias = bytes | bytearray | memoryview
Reject = Callable[[bytes, str], None]

SHAPES_MAX = 256
"""Shapes of lines that no row knows which are told apart; what is past that counts as one more."""
SHAPE_BYTES = 160
PARTIALS_MAX = 4096
"""Logins of several factors that are under way; past that the oldest loses the identity of its first factor."""

TIME_US_MAX = 253_000_000_000_000_000
"""A time in the year 9987: none that is later can be meant, or written."""

METHODS = ("password", "publickey", "keyboard-interactive", "hostbased", "gssapi-with-mic", "gssapi-keyex", "none")
"""Methods that are counted by name, beside "certificate", which is a publickey; all others count as unknown."""

_VARIABLE = re.compile(rb'"[^"]*"|\'[^\']*\'|[0-9a-fA-F]*[:.][0-9a-fA-F:.]*[0-9a-fA-F]|\d+')


class LoginRecord(msgspec.Struct, gc=False):
    """One line of sshd.

    ``kind``: "login" (binds by pid), "failure", or "note" (known, yields no event of its own). ``pid``: of the
    process that wrote it, 0 when there is none or it is no number. ``time_us``: of the line, or now where it carries
    none (``timed`` False). ``trusted``: the transport vouches for its origin.
    """

    kind: str
    pid: int
    time_us: int
    timed: bool
    trusted: bool
    event: UserLogin | None


class Line(msgspec.Struct, gc=False):
    """What the scanner read from a line that tells of an attempt: its head, then MEANING, None for what it lacks."""

    row: int
    pid: int
    time_us: int
    flags: int
    logged_at: str
    audit_id: str
    repeat: int
    verb: str | None
    method: str | None
    invalid: str | None
    user: str | None
    addr: str | None
    host: str | None
    port: str | None
    key_type: str | None
    fp: str | None
    key_id: str | None
    serial: str | None
    ca_type: str | None
    ca_fp: str | None
    reason: str | None
    client_user: str | None
    client_host: str | None

    def record(self, kind: str, event: UserLogin | None) -> LoginRecord:
        flags = self.flags
        return LoginRecord(kind, self.pid, self.time_us, flags & _sshd.TIMED != 0, flags & _sshd.TRUSTED != 0, event)

    def source(self) -> Source:
        """Where the attempt came from. sshd writes UNKNOWN for a connection that is no socket of a known family."""
        addr = self.addr
        if addr is not None and addr != "UNKNOWN":
            return Source("IP", addr, SourceExtra(self.port or UNKNOWN))
        host = self.host
        if host is not None and host != "UNKNOWN":
            return Source("IP" if _is_address(host) else "DNS", host, SourceExtra(self.port or UNKNOWN))
        return Source("IP", UNKNOWN, SourceExtra(UNKNOWN))

    def key_data(self) -> dict[str, str]:
        """The key or certificate, in the Go daemon's form: Alg is type and hash, SSHKeySum the digest without it."""
        data: dict[str, str] = {}
        hash_name, colon, digest = (self.fp or "").partition(":")
        if len(hash_name) == 2:  # up to 6.7 MD5 has no name: aa:bb:…
            hash_name, digest = "MD5", self.fp or ""
        if self.key_type is not None:
            data["Alg"] = f"{self.key_type} {hash_name}" if colon else self.key_type  # "(null)" is no fingerprint
        if self.ca_type is not None:
            data["CA"] = f"CA {self.ca_type} {self.ca_fp}"
        if colon:
            data["SSHKeySum"] = digest
        if self.serial is not None:
            data["Serial"] = self.serial
        return data

    def tell(self, data: dict[str, str], method: str) -> None:
        """Add what every attempt's ``data`` has, and what few have."""
        data["method"] = method
        if self.flags & _sshd.AMBIGUOUS:
            data["ambiguous"] = "true"  # reads in two ways: what stood in doubt is left out
        if self.client_user is not None:
            data["clientUser"] = self.client_user
        if self.client_host is not None:
            data["clientHost"] = self.client_host


MEANING = Line.__struct_fields__[_sshd.HEAD :]
"""The fields of tables/sshd.py that an event is made from, in the order in which the scanner hands them over."""


class Partial(msgspec.Struct, gc=False):
    """A factor that was accepted, of several: whose it was, and what it says of who that is."""

    user: str | None
    addr: str | None
    port: str | None
    methods: str
    user_id: str
    data: dict[str, str]


def shape_of(message: bytes) -> str:
    """A message with its variable parts taken out, to count unknown ones by."""
    words = _VARIABLE.sub(b"*", message[:SHAPE_BYTES]).split()
    return b" ".join(words[:8]).decode("ascii", "replace")


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit()


def journal_entry(line: bytes) -> tuple[int, int, int, bytes] | str | None:
    """A line of ``journalctl -o json`` as (time in µs, pid, trust, message); "" for another program's entry."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    identifier = fields.get("SYSLOG_IDENTIFIER")
    if not isinstance(identifier, str) or identifier.partition("(")[0] not in TAGS:
        return ""
    message = fields.get("MESSAGE")
    if isinstance(message, str):
        text = message.encode()
    elif isinstance(message, list) and all(isinstance(c, int) and 0 <= c < 256 for c in message):
        text = bytes(message)  # journald's form of what is no UTF-8, or has control bytes in it
    else:
        return None
    time_us = _number(fields.get("_SOURCE_REALTIME_TIMESTAMP")) or _number(fields.get("__REALTIME_TIMESTAMP"))
    # SYSLOG_PID is the sender's own word: only where the kernel did not tell journald who it was.
    pid = _number(fields.get("_PID")) or _number(fields.get("SYSLOG_PID"))
    trust = 0
    if fields.get("_UID") == "0" and fields.get("_EXE") in EXECUTABLES:
        trust = 2 if fields.get("_TRANSPORT") == "stdout" else 1
    return time_us, pid, trust, text.rstrip(b"\r\n\0")


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 18 else 0


class Logins:
    """sshd's lines of one host, in any of the formats. Not thread safe; no input raises.

    ``zone``: of times without one (RFC 3164); None is the host's own. ``reject``: called with each line that
    could not be read, and why.
    """

    def __init__(
        self, *, host: str, machine_id: str, boot_id: str, reject: Reject | None = None, zone: tzinfo | None = None
    ) -> None:
        self._target = msgspec.Raw(msgspec.json.encode(Target(host, machine_id)))
        self._reject = reject
        self._zone = zone
        self._format = _sshd.FORMATS.index("auto")
        self._now_us = 0
        self._scanner = _sshd.Scanner(
            sshd.GRAMMAR,
            meaning=MEANING,
            namespace=uuid.UUID(_sshd.event_id(boot_id.encode())).bytes,
            minute=self._minute,
            entry=journal_entry,
            keep_all=reject is not None,
        )
        self._partials: OrderedDict[int, Partial] = OrderedDict()
        self._shapes: dict[str, int] = {}
        self._kinds = {"logins": 0, "failures": 0, "notes": 0, "partials": 0}
        self._cells = {
            (method, outcome): 0 for method in (*METHODS, "certificate", UNKNOWN) for outcome in ("succeeded", "failed")
        }

    # ------------------------------------------------------------------------------ input

    def feed(self, data: Buffer, format: str, now_us: int) -> list[LoginRecord]:
        """Records of the lines that ``data`` completes. ``now_us``: the time of lines that carry none."""
        self._format = _sshd.FORMATS.index(format)
        self._now_us = max(self._now_us, now_us)
        return self._records(self._scanner.scan(data, self._format, now_us))

    def flush(self, now_us: int) -> list[LoginRecord]:
        """The end of the input: a last line without a line end counts as one."""
        self._now_us = max(self._now_us, now_us)
        return self._records(self._scanner.finish(self._format, now_us))

    @property
    def pending_bytes(self) -> int:
        """Bytes fed that belong to a line not ended yet."""
        return self._scanner.pending_bytes

    def counters(self) -> dict[str, int]:
        """Lines, records by kind, and lines not read by reason; monotonic."""
        cells = {f"logins_{method}_{outcome}": count for (method, outcome), count in self._cells.items()}
        return {**self._scanner.counters(), **self._kinds, **cells}

    def shapes(self) -> dict[str, int]:
        """Sampled lines of sshd that no row knows, by shape."""
        return dict(self._shapes)

    def row_counts(self) -> dict[str, int]:
        """How many lines each row of tables/sshd.py has read."""
        return {row.name: count for row, count in zip(sshd.ROWS, self._scanner.row_hits(), strict=True)}

    def _minute(self, month: int, day: int, hour: int, minute: int, now_us: int) -> int:
        """The minute that a time without a year means, in µs since the epoch, -1 for a date that there is not.

        It is the latest such minute that is not more than a day ahead of now: a December read in January is last
        year's, and a clock that is a little ahead stays in this one.
        """
        now_us = min(max(now_us, self._now_us, 0), TIME_US_MAX)
        year_now = datetime.fromtimestamp(now_us / 1e6, UTC).year
        for year in range(year_now + 1, max(year_now - 9, 1969), -1):
            try:
                time_s = int(datetime(year, month, day, hour, minute, tzinfo=self._zone).timestamp())
            except (ValueError, OverflowError):
                continue  # February 29, or the 31st of a month that has 30
            if time_s * 1_000_000 <= now_us + 86_400_000_000 or year == 1970:
                return time_s * 1_000_000
        return -1

    # ------------------------------------------------------------------------------ meaning

    def _records(self, results: list[tuple[Any, ...]]) -> list[LoginRecord]:
        records: list[LoginRecord] = []
        for result in results:
            if len(result) == 4:
                _, pid, time_us, flags = result
                self._kinds["notes"] += 1
                records.append(
                    LoginRecord("note", pid, time_us, flags & _sshd.TIMED != 0, flags & _sshd.TRUSTED != 0, None)
                )
            else:
                self._attempt(Line(*result), records)
        self._take_rejected()
        return records

    def _take_rejected(self) -> None:
        """Count what no row knows by its shape, and hand over what was not read."""
        for line, reason, message in self._scanner.take_rejected():
            if reason == "unmatched":
                shape = shape_of(message)
                if shape not in self._shapes and len(self._shapes) >= SHAPES_MAX:
                    shape = "other"
                self._shapes[shape] = self._shapes.get(shape, 0) + 1
            if self._reject is not None:
                self._reject(line, reason)

    def _attempt(self, line: Line, records: list[LoginRecord]) -> None:
        """A line that tells of an attempt to log in: its record, or records where it was repeated."""
        if line.verb == "Accepted":
            records.append(self._login(line))
        elif line.verb is None or line.verb == "Failed":
            records.append(self._failure(line))
            if line.repeat:
                records += self._repetitions(records[-1], line.repeat)
        else:
            self._kinds["notes"] += 1
            records.append(line.record("note", None))
            if line.verb == "Partial" and line.pid:
                self._first_factor(line)

    def _login(self, line: Line) -> LoginRecord:
        self._kinds["logins"] += 1
        data = line.key_data()
        user_id = line.key_id or UNKNOWN
        method = line.method or UNKNOWN
        first = self._partials.pop(line.pid, None) if self._partials else None
        if first is not None and (first.user, first.addr, first.port) == (line.user, line.addr, line.port):
            # One login of several factors: who that is, the certificate says, else the key, whichever came when.
            if (user_id == UNKNOWN and first.user_id != UNKNOWN) or not data:
                user_id, data = first.user_id, dict(first.data)
            data["factors"] = f"{first.methods},{method}"
        line.tell(data, method)
        return line.record("login", self._event(line, "succeeded", user_id, data))

    def _failure(self, line: Line) -> LoginRecord:
        self._kinds["failures"] += 1
        data = {}
        if line.key_type is not None or line.key_id is not None:
            data = line.key_data()
        if line.key_id is not None:
            data["KeyID"] = line.key_id  # not userID: nobody has proved to be that
        row = sshd.ROWS[line.row]
        data["error"] = "invalid user" if line.invalid is not None else row.error
        reason = line.reason or row.reason
        if reason:
            data["reason"] = reason
        if line.user is None and row.user:
            line.user = row.user
        line.tell(data, line.method or row.method or UNKNOWN)
        return line.record("failure", self._event(line, "failed", UNKNOWN, data))

    def _event(self, line: Line, outcome: Outcome, user_id: str, data: dict[str, str]) -> UserLogin:
        method = "certificate" if "CA" in data else data["method"].partition("/")[0]
        cell = (method, outcome)
        self._cells[cell if cell in self._cells else (UNKNOWN, outcome)] += 1
        metadata = LoginMetadata(line.audit_id)
        if line.flags & (_sshd.CUT | _sshd.UNESCAPED):
            metadata.extra = LoginExtra(
                truncated=bool(line.flags & _sshd.CUT) or UNSET,
                unescaped=bool(line.flags & _sshd.UNESCAPED) or UNSET,
            )
        user = UNKNOWN if line.user is None else line.user
        subjects = Subjects(loggedAs=user, pid=str(line.pid) if line.pid else UNSET, userID=user_id)
        return UserLogin(
            metadata, "UserLogin", line.logged_at, line.source(), outcome, subjects, "sshd", self._target, data
        )

    def _repetitions(self, record: LoginRecord, count: int) -> list[LoginRecord]:
        """What rsyslog's "message repeated N times" stands for: N events in all, each marked, each with its own id."""
        first = record.event
        assert first is not None
        marked = first.metadata.extra
        first.metadata.extra = msgspec.structs.replace(LoginExtra() if marked is UNSET else marked, repeated=count)
        first_id = first.metadata.auditId
        records = []
        for number in range(2, count + 1):
            metadata = LoginMetadata(_sshd.event_id(f"{first_id} {number}".encode()), first.metadata.extra)
            records.append(msgspec.structs.replace(record, event=msgspec.structs.replace(first, metadata=metadata)))
        self._kinds["failures"] += count - 1
        return records

    def _first_factor(self, line: Line) -> None:
        """Remember what a first factor says of who that is, for the line that ends the login."""
        before = self._partials.pop(line.pid, None)
        partial = Partial(
            line.user, line.addr, line.port, line.method or UNKNOWN, line.key_id or UNKNOWN, line.key_data()
        )
        if before is not None and (before.user, before.addr, before.port) == (line.user, line.addr, line.port):
            partial.methods = f"{before.methods},{partial.methods}"
            if partial.user_id == UNKNOWN and (before.user_id != UNKNOWN or not partial.data):
                partial.user_id, partial.data = before.user_id, before.data
        self._partials[line.pid] = partial
        self._kinds["partials"] += 1
        if len(self._partials) > PARTIALS_MAX:
            self._partials.popitem(last=False)
