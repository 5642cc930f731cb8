"""What is missing, and the state of auditing, as ``AuditGap`` events: each is written once and counted by its reason.

The compiled half (:mod:`audito._gaps`) finds the holes in the kernel's serials; sources say which bytes they could not
read; here stands what the records about auditing itself mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from msgspec import UNSET, Raw, UnsetType

from audito import events
from audito._normalise import record_fields
from audito.tables.auditing import DAEMONS, ENABLED, LIMITS, LOST, RULE_REMOVED
from audito.text import lossless

DETAIL_BYTES_MAX = 512
"""Of what a record says: a rule's key has up to 255 bytes, a path more."""

UNSET_SESSIONS = ("4294967295", "-1", "unset")
REFUSED = ("0", "no", "failed")
OFF = "0"

_COUNT = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_KERNEL_LOST = re.compile(rb"audit: audit_lost=([0-9]{1,10})\b")
_KERNEL_COMPLAINT = re.compile(rb"audit: (?:backlog limit|rate limit|printk limit|kauditd hold queue)[a-z ]*")


class Gaps:
    """Makes AuditGap events of what the stream, the sources and the sessions tell; the Watcher of ``_gaps``.

    ``write``: takes each event, in the order in which it was found. ``kernel_lost``: what the kernel said last that it
    lost. Errors: none.
    """

    def __init__(self, write: Callable[[events.AuditGap], None], target: Raw) -> None:
        self._write = write
        self._target = target
        self._counts = dict.fromkeys(events.GAP_REASONS, 0)
        self.kernel_lost = 0
        self._input_gaps: tuple[int, set[tuple[str, str, str]]] = (0, set())  # those of the last millisecond
        self._complaint_due = False  # the kernel says why it lost something on the line after the count

    def counters(self) -> dict[str, int]:
        """``gaps_<reason>`` for every reason."""
        return {f"gaps_{reason}": count for reason, count in self._counts.items()}

    # -- the kernel's serials

    def hole(self, node: bytes, first: int, last: int, count: int, time_ms: int) -> None:
        """No record of these serials came."""
        extra = events.GapExtra(from_=first, to=last, count=count, reason="sequence", node=_name(node))
        self._tell(extra, time_ms, audit_id=f"{first}-{last}")

    def silent(self, node: bytes, last: int, time_ms: int) -> None:
        """What was read from a pipe behind this serial before a kill is not known, and none came that would show it."""
        extra = events.GapExtra(reason="killed", node=_name(node), sequence=last)
        self._tell(extra, time_ms, audit_id=f"killed:{last}:{time_ms}")

    # -- records about auditing itself

    def auditing_on(self, node: bytes, sequence: int, time_ms: int) -> None:
        """A record shows that auditing, which was switched off, is on."""
        self._tell(events.GapExtra(reason="auditing_enabled", node=_name(node), sequence=sequence), time_ms)

    def state_record(self, line: bytes, node: bytes, sequence: int, time_ms: int) -> bool | None:
        """A record about auditing itself, from ``type=`` on. Returns whether auditing is off now, None: it says not."""
        fields = record_fields(line)
        if fields.get("res", "1") in REFUSED and fields.get("type") != "DAEMON_ABORT":
            return None
        reason, count = _meaning(fields)
        if reason is None:
            return None
        session = fields.get("ses", UNSET_SESSIONS[0])
        extra = events.GapExtra(
            reason=reason,
            count=count if count is not None else UNSET,
            node=_name(node),
            sequence=sequence,
            session=UNSET if session in UNSET_SESSIONS else session,
            detail=lossless(line.partition(b"): ")[2].partition(b"\x1d")[0][:DETAIL_BYTES_MAX]),
        )
        self._tell(extra, time_ms)
        return {"auditing_disabled": True, "auditing_enabled": False}.get(reason)

    def other_line(self, line: bytes, time_ms: int) -> None:
        """A line that is no record, and may be the kernel's own log: ``audit: audit_lost=44 …``."""
        counted = _KERNEL_LOST.search(line)
        complaint = _KERNEL_COMPLAINT.search(line)
        if counted is not None:
            # The count goes up until it is set back, or the kernel boots.
            lost, before = int(counted[1]), self.kernel_lost
            self.kernel_lost = lost
            self._complaint_due = True
            if lost != before:
                self._kernel_said(lost - before if lost > before else lost, line[counted.start() :], time_ms)
        elif complaint is not None:
            if not self._complaint_due:
                self._kernel_said(None, complaint[0], time_ms)
            self._complaint_due = False

    def _kernel_said(self, count: int | None, text: bytes, time_ms: int) -> None:
        detail = lossless(text[:DETAIL_BYTES_MAX])
        self._tell(
            events.GapExtra(reason="kernel_lost", count=UNSET if count is None else count, detail=detail), time_ms
        )

    # -- our own drops

    def too_long(self, node: bytes, sequence: int | None, time_ms: int) -> None:
        """A record was not read, for its line is too long."""
        serial = UNSET if sequence is None else sequence
        self._tell(events.GapExtra(reason="record_too_long", count=1, node=_name(node), sequence=serial), time_ms)

    def sessions_evicted(self, count: int, time_ms: int) -> None:
        """Sessions that had not ended were pushed out by new ones: what they do from now on is nobody's."""
        self._tell(events.GapExtra(reason="session_evicted", detail=f"sessions: {count}"), time_ms)

    def login_without_session(self, login_id: str, time_ms: int) -> None:
        """No audit session was opened for a login: what was done in it is not known."""
        extra = events.GapExtra(reason="login_without_session", count=1)
        self._tell(extra, time_ms, audit_id=login_id, component="sshd")

    def killed(self, count: int, time_ms: int) -> None:
        """Events that were read from a pipe and not written yet when the process before this one was killed.

        ``count``: 0 for what nobody counted, and of which no serial tells.
        """
        self._tell(events.GapExtra(reason="killed", count=count or UNSET), time_ms)

    # -- the sources

    def input_gap(
        self, stream: Literal["audit", "sshd"], name: str, reason: str, time_ms: int, line_count: int | None = None
    ) -> None:
        """Input went unread. ``reason``: the source's word for it; ``line_count``: how much, where that is known.

        What would be the same event to the letter is told once: a log that is cut twice between two looks.
        """
        if line_count is None:
            if self._input_gaps[0] != time_ms:
                self._input_gaps = time_ms, set()
            told = self._input_gaps[1]
            if (stream, name, reason) in told:
                return
            told.add((stream, name, reason))
        count = UNSET if line_count is None else line_count
        component = "auditd" if stream == "audit" else stream
        # Two sources may lose their place in one millisecond.
        extra = events.GapExtra(reason=reason, count=count, detail=name)
        self._tell(extra, time_ms, audit_id=f"{reason}:{name}:{time_ms}", component=component)

    def _tell(self, extra: events.GapExtra, time_ms: int, *, audit_id: str = "", component: str = "auditd") -> None:
        self._counts[extra.reason] += 1
        behind = extra.sequence if extra.sequence is not UNSET else time_ms
        metadata = events.GapMetadata(audit_id or f"{extra.reason}:{behind}", extra)
        self._write(events.AuditGap(metadata, "AuditGap", events.time_text(time_ms), component, self._target))


def _meaning(fields: dict[str, str]) -> tuple[str | None, int | None]:
    """The reason, None where the record is no news, and how much is missing, None where it does not say."""
    if fields.get("type") in DAEMONS:
        return DAEMONS[fields["type"]], None
    if fields.get("op") in RULE_REMOVED:
        return "rules_deleted", None
    old = fields.get("old", "")
    if ENABLED in fields:
        if (fields[ENABLED] == OFF) == (old == OFF):
            return None, None
        return "auditing_disabled" if fields[ENABLED] == OFF else "auditing_enabled", None
    if LOST in fields:
        return ("kernel_lost", int(old)) if _COUNT.fullmatch(old) else (None, None)
    for name, reason in LIMITS.items():
        if name in fields:
            return (None if fields[name] == old else reason), None
    return None, None


def _name(node: bytes) -> str | UnsetType:
    return lossless(node) if node else UNSET
