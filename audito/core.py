"""The core without I/O: bytes in, event lines out. Replays, tests, benches and the daemon all drive this.

Time enters as an argument, so that the same input gives the same bytes every time. How a login line finds
its audit session (design, section 4): both carry the pid of sshd's monitor process. Either may come first;
the first binding wins. The compiled half holds a session's events until it is told who the session is.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta, Raw, Struct

from audito import events
from audito._fastparse import AuditStream
from audito._logins import event_id
from audito._sessions import IDENTITY_TEXT_MAX, STATE_BOUND, STATE_KERNEL, SessionInfo, Sessions
from audito.ends import Ended, Ends, EndsState, Reason, Unopened
from audito.errors import StateError
from audito.filters import Filter, Filters
from audito.gaps import Gaps
from audito.logins import Buffer, LoginRecord, Logins, LoginsState, time_zone
from audito.normalise import ActionBuilder, EventDecoder, record_fields, record_types, rules
from audito.redact import Redaction, Redactor
from audito.tables.programs import TAGS
from audito.tables.record_types import RECORD_TYPES
from audito.vendor import Told, Vendor

LOGINS_PENDING_MAX = 65_536
"""Login lines that wait for their session; past that the oldest is given up (and counted)."""

JOIN_SLACK_MS = 2_000
"""How much earlier than its login line a LOGIN record may be stamped: two clocks read on one host, one by a logger."""

UNTIMED_WINDOW_MS = 600_000
"""How long after its session a line without a time may come, by the wall clock: a pipe is slow, a pid used again."""

SETTLE_MS = 2_000
"""How much audit time has to pass after a LOGIN before its session is given up: what tells its account comes then."""

LINE_JUMP_MS = 60_000
"""A line further ahead than this moves the clock of the sshd side only when a second one agrees."""

CONFLICT_DELAY_MS = 2_000
"""How long a second claim on a bound session may turn out to be a new session's, whose LOGIN is still to come."""

USER_START = RECORD_TYPES["USER_START"]

LINE_BYTES_MAX = 64 << 10
"""What is longer is no record: where the boot is looked for, it is fed as it is."""

_STAMP = re.compile(
    rb"type=(?:(?P<start>DAEMON_START)|[A-Z0-9_\[\]]{1,40}) "
    rb"(?:msg=)?audit\((?P<s>[0-9]{1,12})\.(?P<ms>[0-9]{1,3}):"
)
"""Of a record, wherever it stands in its line: behind the start of another one where the log was cut. No text that a
user chose looks like one: what has a blank in it is written in hex, by the kernel and by sshd and sudo."""

Reject = Callable[[bytes, str], None]
Written: TypeAlias = events.UserLogin | events.UserLogout | events.IdentityConflict | events.AuditGap
_encoder = msgspec.json.Encoder()
_source_decoder = msgspec.json.Decoder(events.Source)
_subjects_decoder = msgspec.json.Decoder(events.Subjects)


class CoreSettings(Struct, frozen=True, kw_only=True):
    """What the core has to know of its host. ``join_window_ms``: how long a session waits for its login line.

    ``syslog_time_zone``: IANA name of the zone of times that say none (RFC 3164); "" is the host's own.
    ``redaction``: what is hidden in the texts of actions; ``filters``: which actions are written.
    """

    host: str
    machine_id: str
    boot_id: str
    event_types: tuple[str, ...] = events.EVENT_TYPES
    context: tuple[str, ...] = events.CONTEXT
    join_window_ms: int = 120_000
    session_count_max: int = 131_072
    syslog_time_zone: str = ""
    redaction: Redaction = Redaction()
    filters: tuple[Filter, ...] = ()


LIVE_SETTINGS = ("event_types", "context", "join_window_ms", "redaction", "filters")
"""Those that can change while the core runs."""

U32 = Annotated[int, Meta(ge=0, lt=2**32)]
TimeMs = Annotated[int, Meta(ge=0, le=2**62)]
LineMs = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Count = Annotated[int, Meta(ge=0, lt=2**62)]
Pid = Annotated[int, Meta(ge=0, lt=2**31)]
Flag = Annotated[int, Meta(ge=0, le=1)]


class PendingLogin(Struct, eq=False):
    """A login line that has no session yet, or that claims one that is bound.

    ``time_ms``: of the line; ``timed``: the line itself says it, zone and all. ``seen_ms``: of tick() when it
    came, 0 in a replay. ``login_id``: auditId of its UserLogin. ``source``, ``subjects``: as JSON, encoded once.
    """

    pid: Pid
    time_ms: LineMs
    timed: bool
    seen_ms: TimeMs
    login_id: str
    source: Raw
    subjects: Raw
    contested: bool = False
    settled: bool = False

    def is_alike(self, other: PendingLogin) -> bool:
        """Whether both say the same of who and from where."""
        return bytes(self.source) == bytes(other.source) and bytes(self.subjects) == bytes(other.subjects)

    def is_same(self, other: PendingLogin) -> bool:
        """Whether both are one line, read twice; after a reboot it has another auditId."""
        return self.timed and other.timed and self.time_ms == other.time_ms and self.is_alike(other)


class SessionRow(Struct, array_like=True, forbid_unknown_fields=True):
    """One session as ``Sessions.dump`` writes it."""

    slot: U32
    node: U32
    ses: U32
    pid: Pid
    open_ms: TimeMs
    seen_ms: TimeMs
    state: Annotated[int, Meta(ge=1, le=STATE_KERNEL)]
    proven: Flag
    ended: Flag
    actions: U32
    failures: U32
    commands: U32
    end_ms: TimeMs
    end_seq: U32
    correlation: Annotated[int, Meta(ge=0, lt=len(events.CORRELATIONS))]


class ProcessRow(Struct, array_like=True, forbid_unknown_fields=True):
    """One process of a session as ``ActionBuilder.dump_processes`` gives it, less the slot's generation."""

    slot: U32
    pid: Pid
    ppid: Pid
    exe: str
    parent: Pid
    ancestors: tuple[str, ...]


class Again(Struct):
    """Of the audit input that is read again after a restart, what was open.

    ``bytes``: how much of it there is; ``clock_ms``: record time at its end; ``open``: (node, time in ms, serial) of
    the events in it that were not whole or not decided. All others in it are over.
    """

    bytes: Annotated[int, Meta(ge=0, le=2**62)] = 0
    clock_ms: TimeMs = 0
    open: list[tuple[U32, TimeMs, U32]] = []


class SerialRow(Struct, array_like=True, forbid_unknown_fields=True):
    """Which serials of one node came, as ``Serials.dump`` gives it; ``_gaps.pxd`` tells what each means."""

    name: bytes
    node: U32
    base: U32
    end: U32
    run: U32
    clock_ms: TimeMs
    off_ms: TimeMs
    since_ms: TimeMs
    far: U32 | None
    far_end: U32
    far_ms: TimeMs
    bits: bytes
    restarted: Flag = 0


class CoreState(Struct):
    """What the core remembers across a restart. ``identities``: slot to source and subjects, as JSON.

    ``unresolved_bytes``: audit input that was read and comes again where it can be read again; ``unwritten``: events
    that were in it or held; ``kernel_lost``: as Gaps has it. ``boot_ms``: the wall clock at the boot, where the state
    was taken over it; ``before_boot``: the audit input has not come so far yet, and the sessions are of before.
    """

    sessions: list[SessionRow]
    identities: dict[int, tuple[Raw, Raw]]
    pending: list[PendingLogin]
    sshd_clock_ms: TimeMs
    ends: EndsState = msgspec.field(default_factory=EndsState)
    again: Again = msgspec.field(default_factory=Again)
    logins: LoginsState = msgspec.field(default_factory=LoginsState)
    serials: list[SerialRow] = []
    unresolved_bytes: Count = 0
    unwritten: U32 = 0
    kernel_lost: Count = 0
    processes: list[ProcessRow] = []
    boot_ms: TimeMs = 0
    before_boot: bool = False
    told: dict[int, Told] = {}


def _read_state(state: bytes) -> CoreState:
    """What dump() gave. Errors: StateError."""
    try:
        saved = msgspec.json.decode(state, type=CoreState)
        state.decode()  # a Raw is written out as it is
        logins: list[PendingLogin | Ended | Unopened] = [
            *saved.pending,
            *saved.ends.ended,
            *saved.ends.unopened.values(),
        ]
        for source, subjects in (*saved.identities.values(), *((login.source, login.subjects) for login in logins)):
            if max(len(source), len(subjects)) > IDENTITY_TEXT_MAX:
                raise StateError(f"the saved sessions cannot be read: an identity of over {IDENTITY_TEXT_MAX} bytes")
            _source_decoder.decode(source)
            _subjects_decoder.decode(subjects)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StateError(f"the saved sessions cannot be read: {error}") from error
    if b"\n" in state or b"\r" in state:
        raise StateError("the saved sessions cannot be read: they have an end of a line in them")
    return saved


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address; None for what is none."""
    try:
        return ip_address(text)
    except ValueError:
        return None


class Core:
    """Joins one host's sshd lines and audit records. Not thread safe.

    Offsets are bytes fed since the stream's base. ``container_of``: looks a process up, live only. Errors: none for any
    input; ``load`` raises StateError, making one ValueError for a time zone that there is not.
    """

    def __init__(
        self,
        settings: CoreSettings,
        reject: Reject | None = None,
        container_of: events.ContainerOf | None = None,
    ) -> None:
        self.settings = settings
        self._target = Raw(_encoder.encode(events.Target(settings.host, settings.machine_id)))
        self._types = frozenset(settings.event_types)
        self._redactor = Redactor(settings.redaction)
        self._filters = Filters(settings.filters)
        self._builder = ActionBuilder(rules(), self._target, container_of=container_of, **self._wanted())
        self._gaps = Gaps(self._write, self._target)
        self._sessions = Sessions(settings.session_count_max)
        self._evicted = 0
        self._vendor = Vendor()
        self._ends = Ends(settings.session_count_max)
        self._audit = AuditStream(
            self._sessions,
            self._builder,
            record_types(),
            reject=reject,
            opened=self._session_opened,
            inherited=self._session_inherited,
            ended=self._session_ended,
            told=self._vendor.tell,
            crowded=self._give_up,
            gaps=self._gaps,
        )
        self._logins = Logins(
            host=settings.host,
            machine_id=settings.machine_id,
            boot_id=settings.boot_id,
            reject=reject,
            zone=time_zone(settings.syslog_time_zone),
        )
        self._pending: dict[int, list[PendingLogin]] = {}
        self._pending_order: deque[PendingLogin] = deque()
        self._contested: deque[PendingLogin] = deque()
        self._early: dict[int, int] = {}  # slot to generation: sessions to which several logins fit
        self._sshd_base = self._sshd_fed = 0
        self._sshd_clock_ms = self._sshd_jump_ms = 0
        self._now_ms = self._audit_now_ms = self._sshd_now_ms = 0
        self._counts = dict.fromkeys(JOIN_COUNTERS, 0)
        self._boot_ms = 0
        self._lost_ms = 0  # wall clock of a start before which audit input was read and lost, 0: none was
        self._before_boot = False
        self._line_before_boot = b""  # the start of a line, whose stamp has to be read before it is fed

    # -------------------------------------------------------------------------------- input

    def feed_audit(self, data: Buffer) -> None:
        """Take audit records as they were read; a line may be split anywhere."""
        self._audit.feed(self._split_at_boot(data) if self._before_boot else data)
        if self._sessions.evicted_live != self._evicted:
            self._gaps.sessions_evicted(self._sessions.evicted_live - self._evicted, self._audit.clock_ms)
            self._evicted = self._sessions.evicted_live
        self._expire()

    def feed_sshd(self, data: Buffer, format: str, now_us: int) -> None:
        """Take sshd lines. ``now_us``: the time of lines that carry none."""
        self._sshd_fed += memoryview(data).nbytes
        self._take_logins(self._logins.feed(data, format, now_us))

    def input_gap(
        self,
        stream: Literal["audit", "sshd"],
        source: str,
        reason: str,
        now_ms: int,
        line_count: int | None = None,
    ) -> None:
        """A source could not read all there was; called before what it read after that is fed."""
        self._gaps.input_gap(stream, source, reason, now_ms, line_count)

    def cut_line(self, stream: Literal["audit", "sshd"]) -> None:
        """The line that is not whole lost its rest: half a name is another one's. Called before its end is fed."""
        if stream == "audit":
            self._audit.cut_line()
        else:
            self._logins.cut_line()

    def skip(self, stream: Literal["audit", "sshd"], byte_count: int | None) -> None:
        """Of what comes again after a restart so much is gone, and it goes on behind that.

        ``byte_count``: None where that is not known; then nothing tells any more what of the rest came before.
        """
        if stream == "sshd":
            self._sshd_fed += byte_count or 0
        elif byte_count is None:
            self._audit.forget_known()
        else:
            self._audit.skip(byte_count)

    def tick(self, now_ms: int, *, audit_idle: bool = True, sshd_idle: bool = True) -> None:
        """Let time pass, live only; about once a second.

        ``now_ms``: milliseconds since 1970 by a clock that nobody sets, the same one over restarts of one boot.
        ``audit_idle``, ``sshd_idle``: that source was just read to its end, so nothing older than ``now_ms`` is
        still to come from it. Only then does the wall clock count for what waits for that side.
        """
        if not self._now_ms:  # what was read before waits from now on, whatever the wall clock said of it
            for login in self._pending_order:
                login.seen_ms = login.seen_ms or now_ms
        self._now_ms = now_ms
        self._audit.tick(now_ms, audit_idle)
        if audit_idle:
            self._audit_now_ms = now_ms
        if sshd_idle:
            self._sshd_now_ms = now_ms
        self._expire()

    def flush(self, *, audit_ended: bool = True, sshd_ended: bool = True) -> None:
        """Nothing more comes: complete, decide and write everything that is held.

        A last line without a line end is one where its input ended. Else it is the start of one: ``ses=4`` of
        ``ses=4294967295`` would be somebody's session, and half an address somebody else's.
        """
        self._take_logins(self._logins.flush(self._now_ms * 1000, sshd_ended))
        self._audit.flush(audit_ended)
        for slot in self._sessions.waiting():
            self._give_up(slot)
        while self._pending_order:
            self._drop_pending(self._pending_order[0])
        self._ends.flush()
        self._write_logouts()

    @property
    def before_boot(self) -> bool:
        """The audit input has not come to this boot yet."""
        return self._before_boot

    def audit_caught_up(self) -> None:
        """All that was there is read: what comes is of this boot."""
        if self._before_boot:
            self._booted()

    def _split_at_boot(self, data: Buffer) -> bytes:
        """Feed what is of before the boot; returns what is not, b"" as long as there is none."""
        lines = self._line_before_boot + bytes(data)
        end = lines.rfind(b"\n") + 1
        if len(lines) - end > LINE_BYTES_MAX:
            end = len(lines)
        for match in _STAMP.finditer(lines, 0, end):
            if match["start"] or int(match["s"]) * 1000 + int(match["ms"]) >= self._boot_ms:
                self._audit.feed(lines[: match.start()])  # the half of a line in front of it is nobody's
                self._line_before_boot = b""
                self._booted()
                return lines[match.start() :]
        self._line_before_boot = lines[end:]
        return lines[:end]

    def _booted(self) -> None:
        """From here on records are of this boot: its sessions have the same numbers, and nobody of before."""
        self._before_boot = False
        self._audit.flush(False)
        for slot in self._sessions.waiting():
            self._give_up(slot)
        for login in [login for login in self._pending_order if not login.settled and login.time_ms < self._boot_ms]:
            # The power failed before a session of its own could come, or the end of the one that has its pid.
            login.contested = login.contested and self._is_passed(login)
            self._drop_pending(login)
        self._ends.booted(self._boot_ms)
        self._write_logouts()
        self._sessions.clear()
        self._vendor.load({})
        line, self._line_before_boot = self._line_before_boot, b""
        self._audit.feed(line)

    def adjust(self, settings: CoreSettings) -> None:
        """Change what is written and how long logins wait, between two feeds. What is held stays held.

        Of the settings those that say what host this is, and how much is kept, stay as they were.
        """
        self.settings = msgspec.structs.replace(
            self.settings, **{name: getattr(settings, name) for name in LIVE_SETTINGS}
        )
        self._types = frozenset(self.settings.event_types)
        self._redactor = Redactor(self.settings.redaction, self._redactor)
        self._filters = Filters(self.settings.filters, self._filters)
        self._builder.want(**self._wanted())

    def _wanted(self) -> dict[str, Any]:
        """What the builder is told of the settings."""
        return {
            "actions": "UserAction" in self._types,
            "context": self.settings.context,
            "redactor": self._redactor if self._redactor.counts else None,
            "filters": self._filters if self.settings.filters else None,
        }

    # -------------------------------------------------------------------------------- output

    def take(self) -> bytes:
        """The JSON lines made since the last take."""
        return self._builder.take()

    def _write(self, event: Written) -> None:
        if event.type in self._types:
            self._builder.write(event)

    # -------------------------------------------------------------------------------- joining

    def _take_logins(self, records: Iterable[LoginRecord]) -> None:
        for record in records:
            if record.timed:
                self._move_sshd_clock(record.time_us // 1000)
            if record.event is not None:
                self._write(record.event)
                if record.kind == "login" and record.pid:
                    self._claim(record)
            elif record.kind == "end":
                self._login_ended(record)
            elif record.kind == "child":
                self._ends.child(record.pid, record.child_pid)
        self._write_logouts()

    def _move_sshd_clock(self, time_ms: int) -> None:
        """One line that is far ahead, of a clock that was wrong for a moment, must not expire all that waits."""
        if time_ms <= self._sshd_clock_ms + LINE_JUMP_MS:
            self._sshd_clock_ms = max(self._sshd_clock_ms, time_ms)
            self._sshd_jump_ms = 0
            return
        if self._sshd_jump_ms:
            self._sshd_clock_ms = max(self._sshd_clock_ms, min(self._sshd_jump_ms, time_ms))
        self._sshd_jump_ms = time_ms

    def _claim(self, record: LoginRecord) -> None:
        """A login line says who pid P is: bind the session of P that fits, else wait for one."""
        event = record.event
        assert event is not None
        login = PendingLogin(
            record.pid,
            record.time_us // 1000,
            record.timed,
            self._now_ms,
            event.metadata.auditId,
            Raw(_encoder.encode(event.source)),
            Raw(_encoder.encode(event.subjects)),
        )
        self._ends.login(record.pid, login.source)
        best: tuple[int, int] | None = None
        slots = self._sessions.of_pid(record.pid)
        for slot in slots:
            session = self._sessions.info(slot)
            if not self._of_one_boot(login, session):
                continue
            if session.state == STATE_BOUND:
                if self._repeats(slot, session, login):
                    self._counts["logins_repeated"] += 1
                    return
                login.contested = login.contested or not session.ended
            elif session.announced and self._fits(login, session):
                if len(slots) > 1 and not self._is_of_its_peer(slot, session, login):
                    continue  # of one alone _choose() asks that
                distance = abs(login.time_ms - session.open_ms) if login.timed else 0
                if best is None or distance < best[0]:
                    best = (distance, slot)
        self._wait(login)
        if best is not None:
            self._choose(best[1])

    def _choose(self, slot: int) -> None:
        """Bind a session to the first that came of the logins that wait and fit, if enough is known for that."""
        session = self._sessions.info(slot)
        fitting = self._fitting(session)
        of_peer = [login for login in fitting if self._is_of_its_peer(slot, session, login)]
        if fitting and not self._must_wait(slot, session, fitting, of_peer) and of_peer:
            self._bind_first(slot, of_peer)

    def _fitting(self, session: SessionInfo) -> list[PendingLogin]:
        """The logins that wait and can be the session's.

        One that was there when an earlier session with its pid was opened is rather that one's: sshd logs, then opens.
        """
        fitting = [login for login in self._pending.get(session.pid, ()) if self._fits(login, session)]
        before_ms = self._opened_before(session)
        return [login for login in fitting if not login.timed or login.time_ms > before_ms] or fitting

    def _must_wait(
        self, slot: int, session: SessionInfo, fitting: list[PendingLogin], of_peer: list[PendingLogin]
    ) -> bool:
        """Whether more has to be known of a session to which lines of several logins fit, or one that is later.

        The session of one was lost, and its pid is used again; or one is forged. sshd logs, then opens the session: a
        line stamped later is mostly the next login's with this pid, and the session of one from before a kill may have
        been in what went with it. USER_START says from where the session comes; where there is none, its time passes.
        """
        if of_peer and all(map(of_peer[0].is_alike, of_peer[1:])):
            first = of_peer[0]
            in_doubt = first.time_ms < self._lost_ms or (first.timed and first.time_ms > session.open_ms)
            if not in_doubt or len(of_peer) < len(fitting) or self._told_peer(session):
                return False
        if session.state == STATE_KERNEL or self._is_settled(slot) or self._session_start(slot, session.pid):
            return False
        self._early[slot] = self._sessions.generation(slot)
        return True

    def _bind_waiting(self, slot: int) -> bool:
        """Bind a session to the first line that fits, with what is known by now; returns whether there was one."""
        self._early.pop(slot, None)
        session = self._sessions.info(slot)
        fitting = [login for login in self._fitting(session) if self._is_of_its_peer(slot, session, login)]
        if fitting:
            self._bind_first(slot, fitting)
        return bool(fitting)

    def _repeats(self, slot: int, session: SessionInfo, login: PendingLogin) -> bool:
        """Whether the login is the one that the session is bound to: a line that was read twice.

        The same peer and identity may come again with the same pid, later: then the times do not fit, or, where
        the lines have none, the first session is over.
        """
        if not (self._fits(login, session) if login.timed else not session.ended):
            return False
        return self._sessions.identity(slot) == (bytes(login.source), bytes(login.subjects))

    def _fits(self, login: PendingLogin, session: SessionInfo) -> bool:
        """Whether line and session can be of one login.

        sshd logs the line, then opens the session: the LOGIN record is a little later, not earlier. A line without
        a sure time fits by its pid, as long as that pid can still be the same process.
        """
        if not self._of_one_boot(login, session):
            return False
        if not login.timed:
            both_live = login.seen_ms and session.born_ms
            return not both_live or login.seen_ms - session.born_ms <= UNTIMED_WINDOW_MS
        if session.ended and session.seen_ms + JOIN_SLACK_MS < login.time_ms:
            return False
        later_ms = session.open_ms - login.time_ms
        return -JOIN_SLACK_MS <= later_ms <= self.settings.join_window_ms

    def _is_of_its_peer(self, slot: int, session: SessionInfo, login: PendingLogin) -> bool:
        """Whether the kernel does not say that the session came from elsewhere: then the pid was used again."""
        said = _source_decoder.decode(login.source).value
        lines = self._sessions.held_lines(slot, USER_START)
        if session.state == STATE_KERNEL and (known := self._sessions.identity(slot)):
            peer = _source_decoder.decode(known[0]).value
        elif not lines:
            peer = self._told_peer(session)
        elif b" hostname=%s addr=%s " % (said.encode(), said.encode()) in lines[0]:
            return True  # mostly so, and a twentieth of what reading all of it costs
        else:
            # What sshd told PAM; where that is a name (UseDNS), `addr` is only one of the addresses that it may have.
            peer = self._session_start(slot, session.pid).get("hostname", "")
        if peer in ("", said):
            return True
        address = _address(peer)
        return address is None or _address(said) in (address, None)

    def _told_peer(self, session: SessionInfo) -> str:
        """What sshd told of the session before it was opened; not what it told of one before, with the same pid."""
        return self._vendor.peer(session.pid, self._opened_before(session), session.open_ms)

    def _opened_before(self, session: SessionInfo) -> int:
        """When the session before with this pid was opened, 0 where none is known."""
        slots = self._sessions.of_pid(session.pid)
        if len(slots) < 2:
            return 0
        others = [other for other in map(self._sessions.info, slots) if other.node == session.node]
        return max((other.open_ms for other in others if other.open_ms < session.open_ms), default=0)

    def _session_start(self, slot: int, pid: int) -> dict[str, str]:
        """The fields of sshd's USER_START of a session that waits, {} where it did not come."""
        for line in self._sessions.held_lines(slot, USER_START):
            fields = record_fields(line)
            if fields.get("pid") == str(pid) and fields.get("exe", "").rpartition("/")[2] in TAGS:
                return fields
        return {}

    def _of_one_boot(self, login: PendingLogin, session: SessionInfo) -> bool:
        return not self._boot_ms or (login.time_ms < self._boot_ms) == (session.open_ms < self._boot_ms)

    def _session_opened(self, slot: int) -> None:
        """The kernel opened a session: bind it if a login line with its pid waits."""
        if self._sessions.info(slot).state != STATE_BOUND:
            self._choose(slot)

    def _bind_first(self, slot: int, fitting: list[PendingLogin]) -> None:
        """Bind a session to the first that came of the logins that wait and fit.

        What else fits either has a session of its own coming, or is a claim on this one.
        """
        first = fitting[0]
        self._settle(first)
        self._bind(slot, first)
        for login in fitting:
            if login is first:
                continue
            if login.is_same(first):
                self._counts["logins_repeated"] += 1
                self._settle(login)
            elif not login.contested:
                login.contested = True
                self._contested.append(login)

    def _session_inherited(self, slot: int, parent: int) -> None:
        """A session that somebody opened from inside another is of the same login."""
        identity = self._sessions.identity(parent)
        if identity is None or self._sessions.info(parent).state < STATE_BOUND:
            return  # the other has no identity yet either: this one waits for a login line of its own
        self._sessions.identify(slot, *identity)
        self._counts["joins_inherited"] += 1
        self._audit.bind(slot, self._sessions.info(parent).correlation)

    def _bind(self, slot: int, login: PendingLogin) -> None:
        session = self._sessions.info(slot)
        correlation = "late" if session.state == STATE_KERNEL else "pid"
        self._counts[f"joins_{correlation}"] += 1
        self._sessions.identify(slot, login.source, login.subjects)
        self._vendor.forget(login.pid, session.open_ms)
        self._audit.bind(slot, events.CORRELATIONS.index(correlation))

    def _wait(self, login: PendingLogin) -> None:
        self._pending.setdefault(login.pid, []).append(login)
        self._pending_order.append(login)
        if login.contested:
            self._contested.append(login)
        if len(self._pending_order) > LOGINS_PENDING_MAX:
            self._drop_pending(self._pending_order[0])

    def _settle(self, login: PendingLogin) -> None:
        """Take a login off the waiting ones; the queues forget it when it comes to their front."""
        login.settled = True
        queue = self._pending[login.pid]
        queue.remove(login)
        if not queue:
            del self._pending[login.pid]
        for order in (self._pending_order, self._contested):
            while order and order[-1].settled:
                order.pop()
            while order and order[0].settled:
                order.popleft()

    def _drop_pending(self, login: PendingLogin) -> None:
        """Give up a login line that no session came for; one that claimed a bound session is a conflict."""
        self._settle(login)
        slot = self._claimed(login) if login.contested else None
        if slot is not None:
            self._conflict(login, slot, str(self._sessions.info(slot).ses))
            return
        self._counts["logins_without_session"] += 1
        if self._audit.lines:  # else nobody reads audit records here, and no login can have a session
            self._gaps.login_without_session(login.login_id, login.time_ms)
        if login.time_ms < self._boot_ms:
            return  # the boot ended it, and lines with this pid are of another one
        self._ends.unopened(login.pid, Unopened(login.login_id, login.time_ms, login.source, login.subjects))

    def _claimed(self, login: PendingLogin) -> int | None:
        """The bound session that a login claims: of its pid, and not over by then, which may be known only by now."""
        for slot in reversed(self._sessions.of_pid(login.pid)):
            session = self._sessions.info(slot)
            if session.state == STATE_BOUND and not (
                session.ended and login.timed and session.seen_ms <= login.time_ms
            ):
                return slot
        return None

    def _conflict(self, login: PendingLogin, slot: int, audit_id: str) -> None:
        self._counts["conflicts"] += 1
        identity = self._sessions.identity(slot)
        assert identity is not None, "a bound session has one"
        claim = events.ConflictExtra(audit_id, login.source, login.subjects)
        self._write(
            events.IdentityConflict(
                events.ConflictMetadata(audit_id, claim),
                "IdentityConflict",
                events.time_text(login.time_ms),
                Raw(identity[0]),
                "failed",
                Raw(identity[1]),
                "sshd",
                self._target,
            )
        )

    # -------------------------------------------------------------------------------- windows

    def _expire(self) -> None:
        """Decide what waited past its window, by the clock of the side that it waits for.

        That clock is the time of the side's lines, by which a stream that is merely behind expires nothing. Where
        there are none, or none that carry a time, it is the wall time that passed since the session came, once that
        side was read to its end. Record time and wall time are never compared: what is read may be of last year.
        """
        window_ms = self.settings.join_window_ms
        self._ends.expire(self._sshd_clock_ms, self._sshd_now_ms)
        for slot, generation in list(self._early.items()) if self._early else ():
            if self._sessions.generation(slot) != generation or self._sessions.info(slot).state >= STATE_BOUND:
                del self._early[slot]
            elif self._is_settled(slot) or self._session_start(slot, self._sessions.info(slot).pid):
                self._bind_waiting(slot)
        if self._sshd_clock_ms > window_ms:
            for slot in self._sessions.waiting(self._sshd_clock_ms - window_ms):
                if self._is_settled(slot):
                    self._give_up(slot)
        if self._sshd_now_ms:
            for slot in self._sessions.waiting_since(self._sshd_now_ms - window_ms, self._sshd_now_ms):
                self._give_up(slot)
        while self._sessions.overheld and (oldest := self._sessions.oldest_waiting) is not None:
            self._give_up(oldest)
        while self._contested and self._is_passed(self._contested[0]):
            if self._claimed(self._contested[0]) is not None:
                self._drop_pending(self._contested[0])
            else:
                self._contested.popleft().contested = False
        while self._pending_order and self._is_over(self._pending_order[0], window_ms):
            self._drop_pending(self._pending_order[0])
        self._write_logouts()

    def _is_settled(self, slot: int) -> bool:
        """Whether the audit side is so far past the session's LOGIN that what tells its account has come."""
        session = self._sessions.info(slot)
        return bool(
            self._audit.clock_ms - session.open_ms > SETTLE_MS
            or (session.born_ms and self._audit_now_ms - session.born_ms > SETTLE_MS)
        )

    def _is_over(self, login: PendingLogin, limit_ms: int) -> bool:
        """Whether the LOGIN record of this login would have come by now."""
        if self._audit_now_ms and self._audit_now_ms - (login.seen_ms or login.time_ms) > limit_ms:
            return True
        return login.timed and self._audit.clock_ms - login.time_ms > limit_ms

    def _is_passed(self, login: PendingLogin) -> bool:
        """Whether the audit side is so far past a second claim that a session of its own would have come.

        Wall time says nothing here: auditd may be seconds behind sshd, and an end that is not read yet makes a session
        whose pid is used again look like one that is claimed twice. A line that says no time has only that.
        """
        if not login.timed:
            return self._is_over(login, CONFLICT_DELAY_MS)
        return self._audit.clock_ms - login.time_ms > CONFLICT_DELAY_MS

    def _give_up(self, slot: int) -> None:
        """No login line came for this session: it is written with what the kernel knows, never silent."""
        if self._bind_waiting(slot):
            return  # several fitted, or its LOGIN is only half read
        session = self._sessions.info(slot)
        pid = session.pid
        told = self._vendor.take(pid, session.open_ms) or Told(0)
        account, address = told.account or events.UNKNOWN, told.address or events.UNKNOWN
        start = self._session_start(slot, pid)
        account, address = start.get("acct", account), start.get("addr", address)
        correlation = "vendor" if told.key_id or told.fingerprint else "kernel"
        source = events.Source("IP", address, events.SourceExtra(told.port or events.UNKNOWN))
        subjects = events.Subjects(loggedAs=account, pid=str(pid), userID=told.key_id or events.UNKNOWN)
        self._counts[f"joins_{correlation}"] += 1
        self._sessions.identify(slot, _encoder.encode(source), _encoder.encode(subjects))
        # The time is a part of it: a session of the boot before may have had the same number, and the same pid.
        named = f"{self.settings.boot_id} {session.node} {session.ses} {pid} {session.open_ms}"
        self._write(
            events.UserLogin(
                events.LoginMetadata(
                    event_id(named.encode()),
                    events.LoginExtra(correlation=correlation),
                ),
                "UserLogin",
                events.time_text(session.open_ms),
                source,
                "succeeded",
                subjects,
                "auditd",
                self._target,
                {**told.data(), "session": str(session.ses)},
            )
        )
        self._audit.bind(slot, events.CORRELATIONS.index(correlation))

    # -------------------------------------------------------------------------------- ends

    def _session_ended(self, slot: int, end_ms: int) -> None:
        """The kernel says that sshd ended this session; its last event is out."""
        session = self._sessions.info(slot)
        identity = self._sessions.identity(slot)
        assert identity is not None, "what is not bound holds its end"
        extra = events.LogoutExtra(
            max(end_ms - session.open_ms, 0),
            session.actions,
            session.commands,
            session.failures,
            correlation=events.CORRELATIONS[session.correlation],
        )
        source, subjects = map(Raw, identity)
        self._ends.session(
            Ended(session.pid, end_ms, self._now_ms, str(session.ses), "auditd", extra, source, subjects)
        )

    def _login_ended(self, record: LoginRecord) -> None:
        """A line of sshd says that a login is over."""
        end = record.end
        assert end is not None, "a record of this kind has it"
        connection = f"{end.addr} {end.port}" if end.addr and end.port else ""
        reason = Reason(end.reason or "", record.time_us // 1000, record.timed)
        if end.session:
            self._ends.line_of_session(str(end.session), connection, reason)
        else:
            self._ends.line(record.pid, connection, reason)

    def _write_logouts(self) -> None:
        for ended in self._ends.take():
            self._write(
                events.UserLogout(
                    events.LogoutMetadata(ended.audit_id, ended.extra),
                    "UserLogout",
                    events.time_text(ended.end_ms),
                    ended.source,
                    "succeeded",
                    ended.subjects,
                    ended.component,
                    self._target,
                )
            )

    # -------------------------------------------------------------------------------- for the daemon

    @property
    def audit_resolved(self) -> int:
        """Offset of the oldest audit input that is not yet an event taken: reading on from there loses nothing."""
        return self._audit.resolved

    @property
    def sshd_resolved(self) -> int:
        """As audit_resolved, of the sshd stream; login lines that wait for a session are in dump()."""
        return self._sshd_base + self._sshd_fed - self._logins.pending_bytes

    @property
    def audit_clock_ms(self) -> int:
        """Record time of the last audit record, ms; 0 before the first."""
        return self._audit.clock_ms

    @property
    def sshd_clock_ms(self) -> int:
        """Time of the latest sshd line that carried one, ms; 0 before the first."""
        return self._sshd_clock_ms

    @property
    def audit_paused(self) -> bool:
        """So much waits for login lines that no more audit input should come now."""
        return self._sessions.held_full

    def dump(self) -> bytes:
        """Sessions and waiting logins, for the checkpoint; take() first.

        What is in flight or held is read again from the input, and told apart from what was over by its stamp.
        """
        rows, identities = map(Raw, self._sessions.dump())
        pending = [login for login in self._pending_order if not login.settled]
        audit = self._audit
        again = Again(audit.taken - audit.resolved, audit.top_ms, sorted(audit.open_events()))
        processes = [
            ProcessRow(row[0], *row[2:])
            for row in self._builder.dump_processes()
            if self._sessions.generation(row[0]) == row[1]
        ]
        return _encoder.encode(
            CoreState(
                cast(Any, rows),
                cast(Any, identities),
                pending,
                self._sshd_clock_ms,
                self._ends.dump(),
                again,
                self._logins.dump(),
                [SerialRow(*row) for row in audit.dump_serials()],
                audit.unresolved_bytes,
                self._sessions.held[0] + audit.inflight,
                self._gaps.kernel_lost,
                processes,
                self._boot_ms,
                self._before_boot,
                self._vendor.dump(audit.clock_ms),
            )
        )

    def load(
        self,
        state: bytes,
        audit_base: int,
        sshd_base: int,
        *,
        now_ms: int = 0,
        rebooted: bool = False,
        again: bool = True,
        killed: bool = False,
        boot_ms: int = 0,
    ) -> None:
        """Go on from a dump(), before any input; the bases are the offsets that the streams go on from.

        ``state`` b"" starts anew at these offsets. ``rebooted``: it is of another boot, and this one began at
        ``boot_ms``: what it knows of sessions holds for audit input of before, where that comes again, and for nothing
        else; serials start again somewhere. ``again``: audit input that was not resolved comes again; else what was
        read of it is told as missing. ``killed``: more may have been read after the dump. ``now_ms``: the wall clock.
        Errors: StateError for a state that cannot be read.
        """
        self._sshd_base = sshd_base
        if not state:
            self._audit.rebase(audit_base)
            return
        saved = _read_state(state)
        # A loss of the boot before has no time of this one.
        lost_ms = max((row.clock_ms for row in saved.serials), default=now_ms) if rebooted else now_ms
        self._load_serials(saved, audit_base, now_ms, rebooted, again, lost_ms if killed and not again else 0)
        # What came after the dump was no more told than what it held. Serials tell of it, where some are known.
        if not again and (saved.unwritten or (killed and not saved.serials)):
            self._gaps.killed(saved.unwritten, lost_ms)
        self._boot_ms = boot_ms if rebooted else saved.boot_ms
        if rebooted and not again:
            return
        self._before_boot = rebooted or saved.before_boot
        nobodys = [row.ses for row in saved.sessions if row.state >= STATE_BOUND and row.slot not in saved.identities]
        if nobodys:
            raise StateError(f"the saved sessions cannot be read: {len(nobodys)} have no identity, {nobodys[0]} is one")
        if len({row.slot for row in saved.sessions}) < len(saved.sessions):
            raise StateError("the saved sessions cannot be read: two have one slot")
        slots = self._sessions.load(saved.sessions)
        for slot, identity in saved.identities.items():
            if slot in slots:
                self._sessions.identify(slots[slot], *identity)
        self._builder.load_processes(
            (slots[p.slot], self._sessions.generation(slots[p.slot]), p.pid, p.ppid, p.exe, p.parent, p.ancestors)
            for p in saved.processes
            if p.slot in slots
        )
        for row in saved.sessions:
            if not row.ended and row.slot in saved.identities:
                self._ends.login(row.pid, saved.identities[row.slot][0])
        self._ends.load(saved.ends)
        self._lost_ms = now_ms if killed and not again else 0
        if again:
            self._audit.read_again(saved.again.open, audit_base + saved.again.bytes, saved.again.clock_ms)
        self._sshd_clock_ms = saved.sshd_clock_ms
        self._logins.load(saved.logins)
        if not self._lost_ms:
            self._vendor.load(saved.told)  # else the session of which sshd told may have been in what was lost
        for login in saved.pending:
            self._ends.login(login.pid, login.source)
            self._wait(login)

    def sshd_samples(self, now_ms: int) -> list[str]:
        """What sshd wrote that no row knows, for the log, at a limited rate. ``now_ms``: any monotonic clock."""
        return self._logins.samples(now_ms)

    def _load_serials(
        self, saved: CoreState, audit_base: int, now_ms: int, rebooted: bool, again: bool, killed_ms: int
    ) -> None:
        """Which serials came, and what is not told twice. ``killed_ms``: as Serials has it. Errors: StateError."""
        self._audit.rebase(audit_base, saved.unresolved_bytes if again else 0)
        try:
            self._audit.serials.load(saved.serials, boot_ms=now_ms if rebooted else 0, killed_ms=killed_ms)
        except ValueError as error:
            raise StateError(f"the saved serials cannot be used: {error}") from error
        self._gaps.kernel_lost = 0 if rebooted else saved.kernel_lost

    def counters(self) -> dict[str, int]:
        """Flat counts since the start; names that end in _now are gauges."""
        held_events, held_bytes = self._sessions.held
        return (
            {name: getattr(self._audit, name) for name in AUDIT_COUNTERS}
            | {f"sshd_{name}": count for name, count in self._logins.counters().items()}
            | {f"filter_hits_{name}": count for name, count in self._filters.hits.items()}
            | {f"redacted_{name}": count for name, count in self._redactor.counts.items()}
            | self._counts
            | self._gaps.counters()
            | {
                "serials_again": self._audit.serials.again,
                "serials_doubted": self._audit.serials.doubted,
                "nodes_evicted": self._audit.serials.nodes_evicted,
                "sessions_evicted": self._sessions.evicted,
                "sessions_refused": self._sessions.refused,
                "args_incomplete": self._builder.args_incomplete,
                "actions_dropped": self._filters.dropped,
                "sessions_now": len(self._sessions),
                "held_events_now": held_events,
                "held_bytes_now": held_bytes,
                "inflight_now": self._audit.inflight,
                "logins_waiting_now": len(self._pending_order),
            }
        )


JOIN_COUNTERS = (
    "joins_pid",
    "joins_inherited",
    "joins_kernel",
    "joins_vendor",
    "joins_late",
    "conflicts",
    "logins_repeated",
    "logins_without_session",
)
"""How sessions got their identity, and what became of login lines that gave none."""

AUDIT_COUNTERS = (
    "lines",
    "blank_lines",
    "records",
    "skipped",
    "types_unknown",
    "events_taken",
    "events_ignored",
    "events_refused",
    "events_held",
    "events_timed_out",
    "events_forced",
    "events_truncated",
    "events_late",
    "reject_not_a_record",
    "reject_bad_stamp",
    "reject_too_long",
    "rejects_failed",
)
"""Counters of the audit stream, as AuditStream has them."""


def decode(chunks: Iterable[Any]) -> Iterator[bytes]:
    """One JSON line an audit event, without joining, in the order of their first records. Source: any bytes."""
    decoder = EventDecoder(rules())
    stream = AuditStream(Sessions(2), decoder, record_types(), keep_all=True)
    waiting: list[tuple[int, int, events.DecodedEvent]] = []
    for chunk in chunks:
        stream.feed(chunk)
        lines = _decoded(decoder, waiting, stream.oldest_inflight)
        if lines:
            yield lines
    stream.flush()
    lines = _decoded(decoder, waiting, None)
    if lines:
        yield lines


def _decoded(decoder: EventDecoder, waiting: list[tuple[int, int, events.DecodedEvent]], before: int | None) -> bytes:
    """Lines of the events that began before offset ``before``: nothing that begins earlier can still come."""
    for offset, event in decoder.take():
        heapq.heappush(waiting, (offset, event.seq, event))
    ready = []
    while waiting and (before is None or waiting[0][0] < before):
        ready.append(heapq.heappop(waiting)[2])
    return _encoder.encode_lines(ready)
