"""The structs of everything that audito writes, one JSON object a line.

Key order is field order. Readers of the Go daemon's events read these unchanged; what is ours is
inside ``metadata.extra`` or is a ``type`` of its own. ``gc=False``: none of these can be part of a
reference cycle, and building them costs half as much (480 against 880 ns an event).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

UNKNOWN = "unknown"
"""What stands for an identity, a name or an address that nothing told us; readers know the word."""

Outcome = Literal["succeeded", "failed"]


class SourceExtra(Struct, gc=False, omit_defaults=True):
    """Where the connection came from, beside its address. ``port``: decimal, or "unknown"."""

    port: str | UnsetType = UNSET


class Source(Struct, gc=False, omit_defaults=True):
    """The peer of the connection. ``value``: an IP address as sshd wrote it, or "unknown"."""

    type: str
    value: str
    extra: SourceExtra | UnsetType = UNSET


class Subjects(Struct, gc=False, omit_defaults=True, kw_only=True):
    """Who acted. ``loggedAs``: the account; ``pid``: sshd's, decimal; ``userID``: certificate key ID.

    In the Go daemon's order, which sorts them.
    """

    loggedAs: str
    pid: str | UnsetType = UNSET
    userID: str


class Target(Struct, gc=False):
    """The host that the event happened on."""

    host: str
    machine_id: str = field(name="machine-id")


class LoginExtra(Struct, gc=False, omit_defaults=True):
    """``metadata.extra`` of a login: notes on how far the line can be trusted.

    ``correlation``: there is no line of sshd for it, and this is where its identity is from (component auditd).
    ``unescaped``: it went to sshd's standard error (``-E``, ``-e``), where sshd leaves line ends as they are: whoever
    can connect can have written it.
    ``trust``: "low" where nothing vouches for it that sshd wrote the line, as in a pipe or a syslog file.
    """

    truncated: bool | UnsetType = UNSET
    repeated: int | UnsetType = UNSET
    correlation: str | UnsetType = UNSET
    unescaped: bool | UnsetType = UNSET
    trust: str | UnsetType = UNSET


class LoginMetadata(Struct, gc=False, omit_defaults=True):
    """``auditId`` of a login is a UUID made from boot id, pid, time and line: a replay makes the same."""

    auditId: str
    extra: LoginExtra | UnsetType = UNSET


class UserLogin(Struct, gc=False, omit_defaults=True):
    """One login attempt, from sshd's own line. ``data`` holds strings only (Alg, SSHKeySum, Serial, CA, error, …)."""

    metadata: LoginMetadata
    type: str
    loggedAt: str
    source: Source | Raw
    outcome: str
    subjects: Subjects | Raw
    component: str
    target: Target | Raw
    data: dict[str, str] | UnsetType = UNSET


class Object(Struct, gc=False, omit_defaults=True):
    """What was acted on, in go-libaudit's words: type (file, socket, …), primary and secondary name."""

    type: str | UnsetType = UNSET
    primary: str | UnsetType = UNSET
    secondary: str | UnsetType = UNSET


class EffectiveUser(Struct, gc=False, omit_defaults=True):
    """The user that acted where it is not the login's own: names where the record has them, else numbers."""

    uid: str | UnsetType = UNSET
    euid: str | UnsetType = UNSET


class Privilege(Struct, gc=False, omit_defaults=True):
    """Somebody became another user. ``by``: sudo, su, …; ``command``: as sudo said it; else process_args has it."""

    by: str
    command: str | UnsetType = UNSET
    user: str | UnsetType = UNSET


class ActionExtra(Struct, gc=False, omit_defaults=True):
    """``metadata.extra`` of an action. ``sequence``: the kernel's serial; ``exit``: the syscall's return value.

    ``args_incomplete``: process_args is not all of argv; the kernel's argc, or -1 where it did not come.
    ``correlation``: one of CORRELATIONS. ``afterLogout``: sshd had ended the session; it was left running.
    ``redacted``: what found a secret in one of these texts; each stands as ``[redacted]`` there. Behind these stand the
    fields of :class:`Context`, as far as they are known.
    """

    action: str
    how: str
    object: Object
    process_args: list[str] | UnsetType = UNSET
    args_incomplete: int | UnsetType = UNSET
    sequence: int | UnsetType = UNSET
    pid: int | UnsetType = UNSET
    ppid: int | UnsetType = UNSET
    cwd: str | UnsetType = UNSET
    exe: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    exit: int | UnsetType = UNSET
    user: EffectiveUser | UnsetType = UNSET
    privilege: Privilege | UnsetType = UNSET
    correlation: str | UnsetType = UNSET
    afterLogout: bool | UnsetType = UNSET
    redacted: list[str] | UnsetType = UNSET


class Parent(Struct, gc=False):
    """The process that started the one that acted. Another one may have taken it over since: ``ppid`` tells that."""

    pid: int
    exe: str


class Container(Struct, gc=False, omit_defaults=True):
    """The container that a process is in, by its cgroup's name. ``id``: 64 hex digits; ``pod``: Kubernetes' uid."""

    id: str | UnsetType = UNSET
    pod: str | UnsetType = UNSET


ContainerOf: TypeAlias = Callable[[int, int], Container | None]
"""From a pid and the time of a record of that process, in ms: its container. Live only, and the daemon's business."""


class Context(Struct, gc=False, omit_defaults=True, kw_only=True):
    """What ``metadata.extra`` of an action says of its process beside the record's own fields.

    ``tty``: the terminal. ``ancestors``: the programs above the process when it was first met, from its parent up to
    sshd, or to where no event told of the next.
    """

    tty: str | UnsetType = UNSET
    parent: Parent | UnsetType = UNSET
    ancestors: tuple[str, ...] | UnsetType = UNSET
    container: Container | UnsetType = UNSET


CONTEXT = Context.__struct_fields__
"""What can be switched off by name, in the order of the output; ``--context`` takes these."""


_context_encoder = msgspec.json.Encoder()


def context_part(context: Context) -> bytes:
    """The fields of one that has some, as they stand behind others in an object: ``,"tty":"pts0"``."""
    return b"," + _context_encoder.encode(context)[1:-1]


class ActionMetadata(Struct, gc=False):
    """``auditId`` of an action is the audit session's number, as text."""

    auditId: str
    extra: ActionExtra | Raw


class UserAction(Struct, gc=False):
    """One audit event of a login's session. source, subjects and target are those of the login, encoded once."""

    metadata: ActionMetadata
    type: str
    loggedAt: str
    source: Raw
    outcome: str
    subjects: Raw
    component: str
    target: Raw


def action_frame(target: Raw) -> tuple[bytes, ...]:
    """The constant parts of a UserAction's line, in order.

    Between them stand auditId, extra, loggedAt, source, outcome and subjects; texts without their quotes. ``target``:
    as JSON.
    """
    mark = "@"
    raw = Raw(mark.encode())
    action = UserAction(ActionMetadata(mark, raw), "UserAction", mark, raw, mark, raw, "auditd", raw)
    *parts, before, after = (msgspec.json.encode(action) + b"\n").split(raw)
    return (*parts, before + bytes(target) + after)


class LogoutExtra(Struct, gc=False, omit_defaults=True):
    """``metadata.extra`` of a logout; counts are those of its session so far.

    ``duration_ms`` runs from the login to its end, ``commands`` are the actions that executed a program, ``reason`` is
    why it ended, where sshd said that.
    """

    duration_ms: int
    actions: int | UnsetType = UNSET
    commands: int | UnsetType = UNSET
    failures: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    correlation: str | UnsetType = UNSET


class LogoutMetadata(Struct, gc=False):
    """``auditId`` of a logout is the audit session's number, or the login's own id where there is no session."""

    auditId: str
    extra: LogoutExtra


class UserLogout(Struct, gc=False):
    """The end of a login: sshd's own USER_END or CRED_DISP (component auditd), or its lines alone (sshd)."""

    metadata: LogoutMetadata
    type: str
    loggedAt: str
    source: Raw
    outcome: str
    subjects: Raw
    component: str
    target: Raw


class ConflictExtra(Struct, gc=False):
    """``session``: the audit session that was claimed twice; the others are those of the claim that lost."""

    session: str
    claimedSource: Source | Raw
    claimedSubjects: Subjects | Raw


class ConflictMetadata(Struct, gc=False):
    """``auditId`` of a conflict is the session's number, as text."""

    auditId: str
    extra: ConflictExtra


class IdentityConflict(Struct, gc=False):
    """A second login line claimed a bound session: the first binding stands, the claim is told here."""

    metadata: ConflictMetadata
    type: str
    loggedAt: str
    source: Source | Raw
    outcome: str
    subjects: Subjects | Raw
    component: str
    target: Target | Raw


class GapExtra(Struct, gc=False, omit_defaults=True, kw_only=True, rename={"from_": "from"}):
    """What is missing, and how that is known.

    ``from_``, ``to``: first and last missing serial of the kernel, where there are such; ``count``: how many events,
    where that is known (``kernel_lost``: records); ``reason``: one of GAP_REASONS; ``node``: as the record names its
    host; ``sequence``, ``session``: of the record that says so (``killed``: of the last that is known); ``detail``:
    what it says, or which input it was.
    """

    from_: int | UnsetType = UNSET
    to: int | UnsetType = UNSET
    count: int | UnsetType = UNSET
    reason: str
    node: str | UnsetType = UNSET
    sequence: int | UnsetType = UNSET
    session: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class GapMetadata(Struct, gc=False):
    """``auditId`` of a gap is "from-to", or that of the UserLogin; without these the reason, with the sequence, the
    time in ms, or both behind it."""

    auditId: str
    extra: GapExtra


class AuditGap(Struct, gc=False):
    """Audit events are known to be missing, or auditing itself changed so that some may be.

    ``loggedAt``: when a hole was first seen, or when that change was made. ``component``: "auditd", or "sshd" where
    it is login lines that were not read.
    """

    metadata: GapMetadata
    type: str
    loggedAt: str
    component: str
    target: Target | Raw


class DecodedEvent(Struct, gc=False):
    """One audit event as ``audito decode`` prints it, in go-libaudit's words. ``ts``: ms since the epoch."""

    seq: int
    ts: int
    type: str
    ses: str
    result: str
    action: str
    how: str
    object: dict[str, str]
    process: dict[str, str | list[str]]
    records: int


TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def time_text(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, which is what the kernel stamps. ``time_ms``: since the epoch.

    What lies outside the years 1970 to 9999 is their first or last millisecond: times come from lines, too.
    """
    second, ms = divmod(min(max(time_ms, 0), TIME_MS_MAX), 1000)
    return f"{_second_text(second)}.{ms:03}Z"


@lru_cache(maxsize=8)
def _second_text(second: int) -> str:
    """On a busy host the same second comes again and again (2 of 3 us)."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


CORRELATIONS = ("pid", "kernel", "vendor", "late")
"""How a session got its identity.

By sshd's login line, whose pid opened the session; without one, by what the kernel's records say of account and
address; the same with the key that a patched sshd (RHEL, SUSE) tells the kernel; or by a line that came when the
session had been given up.
"""

EVENT_TYPES = ("UserLogin", "UserAction", "UserLogout", "IdentityConflict", "AuditGap")
"""Every value of ``type``, in the order of the documentation; ``--event-types`` takes these."""

GAP_REASONS = (
    "sequence",
    "kernel_lost",
    "auditing_disabled",
    "auditing_enabled",
    "rules_deleted",
    "backlog_changed",
    "rate_limit_changed",
    "auditd_started",
    "auditd_stopped",
    "auditd_resumed",
    "record_too_long",
    "session_evicted",
    "login_without_session",
    "killed",
    "file_gone",
    "file_truncated",
    "place_lost",
    "journal_vacuumed",
    "spool_full",
)
"""Every ``reason`` of an AuditGap: the kernel's and auditd's, then our own drops, then those of the sources."""
