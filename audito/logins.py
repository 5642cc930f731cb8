"""What sshd's lines mean: a login, a failure, or a note. The only place that knows, with its compiled half _logins.

The scanner (_sshd) tells the messages of tables/sshd.py apart; the builder (_logins) makes a LoginRecord of a message
and, where it tells of an attempt to log in, a UserLogin event. Here stands what is rare, or needs memory of more than
a line. No clock is read: the time of lines that carry none is an argument.
"""

from __future__ import annotations

import re
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import UNSET

from audito import _sshd
from audito._logins import LoginBuilder, Meanings, event_id
from audito.events import UNKNOWN, LoginExtra, LoginMetadata, Target, UserLogin
from audito.tables import sshd
from audito.tables.programs import EXECUTABLES, NO_AUDIT_SESSION, TAGS

Buffer: TypeAlias = bytes | bytearray | memoryview
Reject = Callable[[bytes, str], None]
Peer: TypeAlias = tuple[str | None, str | None, str | None]
Identity: TypeAlias = tuple[str, dict[str, str]]

SHAPES_MAX = 256
"""Shapes of lines that no row knows which are told apart; what is past that counts as one more."""
SHAPE_BYTES = 160
SAMPLES_A_MINUTE = 10
"""Of all shapes together, in the log; of one shape it is one."""
MINUTE_MS = 60_000
PARTIALS_MAX = 4096
"""Logins of several factors that are under way; past that the oldest loses the identity of its first factor."""

TIME_US_MAX = 253_000_000_000_000_000
"""A time in the year 9987: none that is later can be meant, or written."""

METHODS = ("password", "publickey", "keyboard-interactive", "hostbased", "gssapi-with-mic", "gssapi-keyex", "none")
"""Methods that are counted by name, beside "certificate", which is a publickey; all others count as unknown."""

_UNPRINTABLE = re.compile("[^ -~]")
_VARIABLE = re.compile(rb'"[^"]*"|\'[^\']*\'|[0-9a-fA-F]*[:.][0-9a-fA-F:.]*[0-9a-fA-F]|\d+')


class LoginEnd(msgspec.Struct, gc=False):
    """What a line says of an end: whose, by account, address and port, and why; None for what it does not say.

    A line without ``reason`` says only that it is over; of several lines the first that has one says most.
    ``session``: the audit session in which it was written, where no more than that is certain of it; 0: elsewhere.
    """

    user: str | None
    addr: str | None
    port: str | None
    reason: str | None
    session: int = 0


class LoginRecord(msgspec.Struct, gc=False):
    """One line of sshd.

    ``kind``: "login" (binds by pid), "failure", "child" (process ``pid`` gave the user to process ``child_pid``), "end"
    (of a login or its connection: ``end`` says whose), or "note" (known, and none of these). Only the first two have an
    event. ``pid``: of the process that wrote it, or, where the listener tells of another's end, of that; 0 when there
    is none or it is no number. ``time_us``: of the line, or now where it carries none (``timed`` False). ``trusted``:
    the transport vouches for its origin.
    """

    kind: str
    pid: int
    time_us: int
    timed: bool
    trusted: bool
    event: UserLogin | None
    child_pid: int = 0
    end: LoginEnd | None = None


class Factor(msgspec.Struct, gc=False):
    """What was accepted so far of a login of several factors: of whose login, and what it says of who that is.

    ``pid``: sshd's. ``peer``: user, address and port. ``key``: Alg and so on, as ``data`` has them.
    """

    pid: int
    peer: Peer
    methods: str
    user_id: str
    key: dict[str, str]


class Factors:
    """Logins of several factors that are under way, by pid. Who that is, the certificate says, else the key."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, Factor] = OrderedDict()
        self.count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, pid: int, peer: Peer, method: str, user_id: str, key: dict[str, str]) -> None:
        """A factor was accepted, and is not the last: remember what it says, for the line that ends the login."""
        factor = Factor(pid, peer, method, user_id, key)
        before = self._take(pid, peer)
        if before is not None:
            factor.methods = f"{before.methods},{method}"
            if user_id == UNKNOWN and (before.user_id != UNKNOWN or not key):
                factor.user_id, factor.key = before.user_id, before.key
        self.count += 1
        self._wait(factor)

    def join(self, pid: int, peer: Peer, method: str, user_id: str, key: dict[str, str]) -> Identity | None:
        """The last factor was accepted: identity and data of the login, None when there was no other."""
        first = self._take(pid, peer)
        if first is None:
            return None
        if (user_id == UNKNOWN and first.user_id != UNKNOWN) or not key:
            user_id, key = first.user_id, first.key
        return user_id, {**key, "factors": f"{first.methods},{method}"}

    def dump(self) -> list[Factor]:
        """All that wait, the oldest first."""
        return list(self._waiting.values())

    def load(self, factors: list[Factor]) -> None:
        """Take in what dump() gave."""
        for factor in factors:
            self._wait(factor)

    def _wait(self, factor: Factor) -> None:
        self._waiting[factor.pid] = factor
        if len(self._waiting) > PARTIALS_MAX:
            self._waiting.popitem(last=False)

    def _take(self, pid: int, peer: Peer) -> Factor | None:
        factor = self._waiting.pop(pid, None)
        return factor if factor is not None and factor.peer == peer else None


class LoginsState(msgspec.Struct):
    """What has to survive a restart. ``told``: connections of which a failure was told and whose end has not come."""

    factors: list[Factor] = []
    told: list[Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]] = []


def repetitions(record: LoginRecord, count: int) -> list[LoginRecord]:
    """What rsyslog's "message repeated N times" stands for: N events in all, each marked, each with its own id.

    The first is ``record``'s, the others are returned.
    """
    first = record.event
    assert first is not None
    marked = LoginExtra() if first.metadata.extra is UNSET else first.metadata.extra
    first.metadata.extra = msgspec.structs.replace(marked, repeated=count)
    first_id = first.metadata.auditId
    records = []
    for number in range(2, count + 1):
        metadata = LoginMetadata(event_id(f"{first_id} {number}".encode()), first.metadata.extra)
        records.append(msgspec.structs.replace(record, event=msgspec.structs.replace(first, metadata=metadata)))
    return records


def shape_of(message: bytes) -> str:
    """A message with its variable parts taken out, to count unknown ones by. Printable: what is not, is \\xNN."""
    words = _VARIABLE.sub(b"*", message[:SHAPE_BYTES]).split()
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", b" ".join(words[:8]).decode("latin-1"))


class Shape(msgspec.Struct, gc=False):
    """Lines of one shape: how many, how many there must be to tell of it again, and when it was told last."""

    count: int = 0
    due: int = 1
    told_ms: int | None = None


class Shapes:
    """sshd's lines that no row knows, by shape; past SHAPES_MAX shapes as "other".

    A shape is told when it is new, and again when ten times as many have come, but at most SAMPLES_A_MINUTE a minute.
    """

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}
        self._waiting: dict[str, Shape] = {}
        self._told_ms: deque[int] = deque(maxlen=SAMPLES_A_MINUTE)

    def add(self, message: bytes) -> None:
        text = shape_of(message)
        if text not in self._shapes and len(self._shapes) >= SHAPES_MAX:
            text = "other"
        shape = self._shapes.setdefault(text, Shape())
        shape.count += 1
        if shape.count >= shape.due:
            self._waiting[text] = shape

    def counts(self) -> dict[str, int]:
        return {text: shape.count for text, shape in self._shapes.items()}

    def samples(self, now_ms: int) -> list[str]:
        """What is to be told now; the rest waits. ``now_ms``: any clock that does not go back."""
        told = []
        for text, shape in list(self._waiting.items()):
            if len(self._told_ms) == SAMPLES_A_MINUTE and now_ms - self._told_ms[0] < MINUTE_MS:
                break
            if shape.told_ms is None or now_ms - shape.told_ms >= MINUTE_MS:
                del self._waiting[text]
                self._told_ms.append(now_ms)
                shape.told_ms = now_ms
                shape.due = shape.count * 10
                told.append(f"{text} ({shape.count} seen)")
        return told


def time_zone(name: str) -> tzinfo | None:
    """The zone of an IANA name; None, the host's own, for "". Errors: ValueError where there is none of that name."""
    if not name:
        return None
    if name == "UTC":
        return UTC  # known also where there is no tzdata
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise ValueError(f'"{name}" is no time zone of this host') from error


def journal_entry(line: bytes) -> tuple[int, int, int, bytes] | str | None:
    """A line of ``journalctl -o json`` as (time in µs, pid, trust, message); "" for another program's entry.

    Trust and pid are those of the lines that sources/journal.py makes.
    """
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
    executable = fields.get("_EXE") or None
    session = _number(fields.get("_AUDIT_SESSION"))
    if fields.get("_UID") == "0" and executable in EXECUTABLES:
        trust = 2 if fields.get("_TRANSPORT") == "stdout" else 1
    elif 0 < session < NO_AUDIT_SESSION and (executable is None or executable in EXECUTABLES):
        trust, pid = 3, session
    return time_us, pid, trust, text.rstrip(b"\r\n\0")


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 18 else 0


@cache
def _grammar() -> tuple[_sshd.Variants, Meanings]:
    """The messages of tables/sshd.py, compiled once a process."""
    return _sshd.Variants(sshd.GRAMMAR), Meanings(sshd.GRAMMAR)


class Logins:
    """sshd's lines of one host, in any of the formats. Not thread safe; no input raises.

    ``zone``: of times without one (RFC 3164); None is the host's own. ``reject``: called with each line that
    could not be read, and why.
    """

    def __init__(
        self, *, host: str, machine_id: str, boot_id: str, reject: Reject | None = None, zone: tzinfo | None = None
    ) -> None:
        self._reject = reject
        self._zone = zone
        self._format = _sshd.FORMATS.index("auto")
        self._now_us = 0
        self._factors = Factors()
        variants, meanings = _grammar()
        self._builder = LoginBuilder(
            meanings,
            record=LoginRecord,
            end=LoginEnd,
            factors=self._factors,
            repeat=repetitions,
            methods=(*METHODS, "certificate", UNKNOWN),
            target=msgspec.Raw(msgspec.json.encode(Target(host, machine_id))),
            namespace=uuid.UUID(event_id(boot_id.encode())).bytes,
        )
        self._scanner = _sshd.Scanner(
            variants, self._builder, minute=self._minute, entry=journal_entry, keep_all=reject is not None
        )
        self._shapes = Shapes()

    # ------------------------------------------------------------------------------ input

    def feed(self, data: Buffer, format: str, now_us: int) -> list[LoginRecord]:
        """Records of the lines that ``data`` completes. ``now_us``: the time of lines that carry none."""
        self._format = _sshd.FORMATS.index(format)
        self._now_us = max(self._now_us, now_us)
        self._scanner.scan(data, self._format, now_us)
        return self._take()

    def flush(self, now_us: int, ended: bool = True) -> list[LoginRecord]:
        """Nothing more comes. ``ended``: the input is, and a last line without a line end counts as one."""
        self._now_us = max(self._now_us, now_us)
        if ended:
            self._scanner.finish(self._format, now_us)
        return self._take()

    def cut_line(self) -> None:
        """The line not ended yet lost its rest: it is none."""
        self._scanner.cut_line()

    @property
    def pending_bytes(self) -> int:
        """Bytes fed that belong to a line not ended yet."""
        return self._scanner.pending_bytes

    def counters(self) -> dict[str, int]:
        """Lines, records by kind, and lines not read by reason; monotonic."""
        builder = self._builder
        kinds = {
            "logins": builder.logins,
            "failures": builder.failures,
            "notes": builder.notes,
            "ends": builder.ends,
            "children": builder.children,
            "partials": self._factors.count,
        }
        cells = {f"logins_{method}_{outcome}": count for (method, outcome), count in builder.cells().items()}
        return {**self._scanner.counters(), **kinds, **cells}

    def shapes(self) -> dict[str, int]:
        """Sampled lines of sshd that no row knows, by shape."""
        return self._shapes.counts()

    def samples(self, now_ms: int) -> list[str]:
        """Shapes that the log is to be told of now, printable. ``now_ms``: any clock that does not go back."""
        return self._shapes.samples(now_ms)

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

    def dump(self) -> LoginsState:
        """What later lines are read by, for the checkpoint. An unfinished line is read again from the input."""
        return LoginsState(self._factors.dump(), self._builder.told())

    def load(self, state: LoginsState) -> None:
        """Go on from a dump(), before any input."""
        self._factors.load(state.factors)
        self._builder.load_told(state.told)

    # ------------------------------------------------------------------------------ output

    def _take(self) -> list[LoginRecord]:
        self._take_rejected()
        return self._builder.take()

    def _take_rejected(self) -> None:
        """Count what no row knows by its shape, and hand over what was not read."""
        for line, reason, message in self._scanner.take_rejected():
            if reason == "unmatched":
                self._shapes.add(message)
            if self._reject is not None:
                self._reject(line, reason)
