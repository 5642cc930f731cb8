"""How logins end: the kernel's record of a session's end, and the line in which sshd says why.

Mostly sshd's user child writes that line, whose pid is another than the login's: it is found by the address and port of
the connection, or by the line that told the child's pid. Either may come first. No clock is read; times are ms since
the epoch.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from audito import events

REASON_DELAY_MS = 2_000
"""How long the end of a session waits for the line that says why."""

REASON_SLACK_MS = 10_000
"""Between the end of a session and the line that says why, by their own times: a backlog has many logins of one pid."""

REASONS_OF_PID_MAX = 8

ENDED_MAX = 4_096
"""Sessions that wait for it, and reasons that wait for their session; past that the oldest wait no longer."""


class Ended(Struct, gc=False):
    """A login that is over. ``noted_ms``: wall clock when that was told, 0 where there was none yet."""

    pid: int
    end_ms: int
    noted_ms: int
    audit_id: str
    component: str
    extra: events.LogoutExtra
    source: Raw
    subjects: Raw


class Reason(Struct, gc=False):
    """What sshd said of the end of a login, and when. ``text``: why, "" for a line that says only that it is over.

    ``timed``: the line has a time of its own; else it is as of when it was read.
    """

    text: str
    time_ms: int
    timed: bool = False

    def is_near(self, time_ms: int) -> bool:
        """Whether it can be of an end at this time."""
        return not self.timed or abs(self.time_ms - time_ms) <= REASON_SLACK_MS


class Own(Struct, gc=False):
    """What was said in a login's own audit session, of the login with this connection."""

    connection: str
    reason: Reason


class Unopened(Struct, gc=False):
    """A login that no audit session came for: only sshd's lines tell of its end."""

    audit_id: str
    time_ms: int
    source: Raw
    subjects: Raw


class EndsState(Struct):
    """What survives a restart; connections come back with the sessions."""

    ended: list[Ended] = []
    unopened: dict[int, Unopened] = {}


class Ends:
    """The live logins by their connection, and those that end. ``limit``: of live ones; past that the oldest go."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pids: dict[str, int] = {}
        self._children: dict[int, int] = {}
        self._reasons: dict[int, list[Reason]] = {}  # by the login's pid, the latest last
        self._own: dict[str, Own] = {}
        self._waiting: dict[int, Ended] = {}  # the first that ended first
        self._unnoted = False  # whether one of these came before there was a wall clock
        self._unopened: dict[int, Unopened] = {}
        self._ready: list[Ended] = []

    def take(self) -> list[Ended]:
        """Logins that are over and have their reason, or need not wait for it any longer; in order."""
        ready, self._ready = self._ready, []
        return ready

    def login(self, pid: int, source: Raw) -> None:
        """A login was accepted: from now on its pid means this one, but in a backlog, where times tell them apart."""
        if kept := [reason for reason in self._reasons.pop(pid, ()) if reason.timed]:
            self._reasons[pid] = kept
        self._unopened.pop(pid, None)
        if connection := _connection(source):
            _keep(self._pids, connection, pid, self._limit)

    def child(self, pid: int, child_pid: int) -> None:
        """sshd said which process of its own serves the login (LogLevel VERBOSE)."""
        _keep(self._children, child_pid, pid, self._limit)

    def unopened(self, pid: int, login: Unopened) -> None:
        """No audit session came for a login. It may be over already."""
        _keep(self._unopened, pid, login, self._limit)
        reasons = self._reasons.pop(pid, ())
        if reason := next((one for one in reasons if not one.timed or one.time_ms >= login.time_ms), None):
            self._end_unopened(pid, reason)

    def line(self, pid: int, connection: str, reason: Reason) -> None:
        """A line told that a login is over. ``pid``: of whoever wrote it; ``connection``: "ADDRESS PORT", or ""."""
        login_pid = self._children.get(pid) or self._pids.get(connection) or pid
        if login_pid in self._unopened:
            self._end_unopened(login_pid, reason)
        elif (ended := self._waiting.get(login_pid)) and reason.is_near(ended.end_ms):
            if reason.text:
                self._finish(ended, reason)
        else:
            self._keep_reason(login_pid, reason)

    def line_of_session(self, audit_id: str, connection: str, reason: Reason) -> None:
        """As line(), said in an audit session: it counts for a login of that session and no other's."""
        ended = self._waiting.get(self._pids.get(connection, 0))
        if not reason.text:
            return
        if ended and ended.audit_id == audit_id:
            self._finish(ended, reason)
        elif audit_id not in self._own:
            _keep(self._own, audit_id, Own(connection, reason), ENDED_MAX)

    def session(self, ended: Ended) -> None:
        """The kernel ended a session."""
        if before := self._waiting.get(ended.pid):
            self._finish(before, None)  # its pid was used again
        reason = self._take_reason(ended.pid, ended.end_ms)
        own = self._own.pop(ended.audit_id, None)
        if own and not (reason and reason.text) and own.connection == _connection(ended.source):
            reason = own.reason
        self._waiting[ended.pid] = ended
        self._unnoted = self._unnoted or not ended.noted_ms
        if reason and reason.text:
            self._finish(ended, reason)
        elif len(self._waiting) > ENDED_MAX:
            self._finish(next(iter(self._waiting.values())), None)

    def expire(self, clock_ms: int, now_ms: int) -> None:
        """Let go what waited long enough: by the clock of sshd's lines, or by wall time (0: those lines lag behind).

        The first that ended goes first, so a look costs nothing however many wait. One that the kernel stamped later
        than what ended after it holds that up, but not past the wall time.
        """
        if now_ms and self._unnoted:
            for ended in self._waiting.values():
                ended.noted_ms = ended.noted_ms or now_ms
            self._unnoted = False
        while self._waiting:
            first = next(iter(self._waiting.values()))
            waited_ms = now_ms - first.noted_ms if now_ms else 0
            if clock_ms - first.end_ms <= REASON_DELAY_MS and waited_ms <= REASON_DELAY_MS:
                return
            self._finish(first, None)

    def flush(self) -> None:
        """No line comes any more."""
        for ended in list(self._waiting.values()):
            self._finish(ended, None)

    def booted(self, boot_ms: int) -> None:
        """What ended before is over; a line of now ends no login of before."""
        self.flush()
        self._unopened = {pid: login for pid, login in self._unopened.items() if login.time_ms >= boot_ms}

    def dump(self) -> EndsState:
        """For the checkpoint; take() first."""
        return EndsState(list(self._waiting.values()), self._unopened)

    def load(self, state: EndsState) -> None:
        """Go on from a dump(); login() the live ones first."""
        for ended in state.ended:
            self.login(ended.pid, ended.source)
            ended.noted_ms = 0
            self._waiting[ended.pid] = ended
            self._unnoted = True
        for pid, login in state.unopened.items():
            self.login(pid, login.source)
            self._unopened[pid] = login

    def _keep_reason(self, pid: int, reason: Reason) -> None:
        """Of several lines on one end the first with a text says most."""
        reasons = self._reasons.pop(pid, [])
        if reasons and reasons[-1].is_near(reason.time_ms):
            if not reasons[-1].text:
                reasons[-1] = reason
        else:
            reasons.append(reason)
        _keep(self._reasons, pid, reasons[-REASONS_OF_PID_MAX:], ENDED_MAX)

    def _take_reason(self, pid: int, end_ms: int) -> Reason | None:
        """The one for a session that ended then; earlier ones are of sessions that never came."""
        reasons = self._reasons.pop(pid, [])
        for i, reason in enumerate(reasons):
            if reason.is_near(end_ms):
                if later := reasons[i + 1 :]:
                    self._reasons[pid] = later
                return reason
        if later := [reason for reason in reasons if reason.time_ms > end_ms]:
            self._reasons[pid] = later
        return None

    def _finish(self, ended: Ended, reason: Reason | None) -> None:
        del self._waiting[ended.pid]
        self._forget(ended.pid, ended.source)
        if reason:
            ended.extra.reason = reason.text
        self._ready.append(ended)

    def _end_unopened(self, pid: int, reason: Reason) -> None:
        login = self._unopened.pop(pid)
        self._forget(pid, login.source)
        extra = events.LogoutExtra(max(reason.time_ms - login.time_ms, 0), reason=reason.text or msgspec.UNSET)
        self._ready.append(Ended(pid, reason.time_ms, 0, login.audit_id, "sshd", extra, login.source, login.subjects))

    def _forget(self, pid: int, source: Raw) -> None:
        connection = _connection(source)
        if self._pids.get(connection) == pid:  # else it is another login's by now
            del self._pids[connection]


def _connection(source: Raw) -> str:
    """ "ADDRESS PORT" of a source that has both, else ""."""
    decoded = msgspec.json.decode(source, type=events.Source)
    port = decoded.extra.port if decoded.extra else events.UNKNOWN
    return "" if events.UNKNOWN in (decoded.value, port) else f"{decoded.value} {port}"


def _keep(table: dict[Any, Any], key: Any, value: Any, limit: int) -> None:
    """Put in as the newest; past the limit the oldest goes."""
    table.pop(key, None)
    table[key] = value
    if len(table) > limit:
        del table[next(iter(table))]
