"""What the daemon says of itself: counters for /metrics, readiness by component, a heartbeat.

State, its text forms, and the bytes of an HTTP answer; sockets and time are the daemon's business.
prometheus-client is imported at the first exposition: it costs 93 ms and memory that a daemon without
``-metrics`` need not have.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

READY = "ok"
NOT_READY = "not-ready"
OVERALL = "overall"
"""The words of the Go daemon's /readyz."""

ERROR_TYPES = ("source", "output", "state", "reject_log", "http", "config", "internal")
"""Every value of ``type`` in errors_total, exported from the start: a rate needs the zero before the one."""

HEARTBEAT_MS_MAX = 10_000
"""The loop beats once a second; without a beat for this long it is stuck and /livez fails."""

LOGIN_METHODS = {"certificate": "ssh-cert", "publickey": "ssh-key", "password": "password", "unknown": "unknown"}
LOGIN_OUTCOMES = {"succeeded": "success", "failed": "failure"}
"""Our words → the labels that the Go daemon's dashboards know. Labels come from here and never from input."""

LOGIN_PREFIX = "sshd_logins_"
"""A counter ``sshd_logins_<method>_<outcome>`` is a cell of remote_logins_total; another method counts as unknown."""

GAPS_HELP = "What is known to be missing, and changes of auditing itself: one for each AuditGap event, written or not."

LABELLED = {
    "gaps_": ("gaps", "reason", GAPS_HELP),
    "filter_hits_": ("filter_hits", "filter", "Actions that the filter of this name decided."),
    "redacted_": ("redacted", "pattern", "Secrets that were hidden, by what found them."),
}
"""A counter ``<prefix><label>`` is a cell of ``audito_<name>_total{<key>="<label>"}``. The labels are names of the
configuration and of our tables, never of input."""

SOURCES = ("audit", "sshd")
"""Every value of ``source``: the two inputs."""

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""auditd's write and our read take a few ms; past 2.5 s we were behind, or a record waited for its event's others."""

LATENCY_HELP = (
    "Seconds from the newest record's own time (the arrival, of lines without one) to the moment at which the output "
    "had taken the events that were made of one read. One observation for each read that made events: those of an "
    "old log count with its age, and an event that was held for its login line with the record that released it."
)
LAG_HELP = (
    "Seconds that the newest record read lies behind the clock; 0 when the source was read to its end. Of lines "
    "without a time: seconds since that was so. Not there while the source is not open."
)
WAITING_HELP = "Bytes that lie unread in the source. Not there while it is not open, nor for the journal."

HTTP_HEAD_BYTES_MAX = 4096
"""Request line and headers together."""

CONTENT_TEXT = "text/plain; charset=utf-8"
CONTENT_JSON = "application/json"
CONTENT_METRICS = "text/plain; version=0.0.4; charset=utf-8"

Page = Callable[[], tuple[int, str, bytes]]
"""Gives status, content type and body."""

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]\r?\n")

HELP = {
    "audit_read_bytes": "Bytes read from the audit source.",
    "sshd_read_bytes": "Bytes read from the sshd source.",
    "output_bytes": "Bytes that the output took.",
    "output_repeated": "Events that came again after a kill and were in the output already.",
    "output_pending_bytes_now": "Bytes that the output does not take; the sources are paused meanwhile.",
    "output_blocked_ms": "Milliseconds in which the output did not take what was offered.",
    "checkpoints": "Checkpoints written.",
    "checkpoint_age_ms_now": (
        "Milliseconds since the saved state last said all that there was to say; 0 without a state directory."
    ),
    "config_reloads": "Times that SIGHUP had a configuration read again, and it was taken up.",
    "audit_paused_now": "1 while the audit source waits because too much is held for login lines.",
    "rejected_lines_dropped": "Rejected lines that --reject-log did not get: over its rate, or it failed.",
    "http_requests": "Requests answered, of any status.",
    "http_refused": "Connections refused or cut: too many, too slow, or too large a request.",
}
"""Rows: a counter's name → its help. A counter without a row is exported too, under its name as help."""

OTHER_HELP = {
    "lines": "Lines of the audit source.",
    "blank_lines": "Blank lines among them.",
    "records": "Audit records read.",
    "skipped": "Records passed over on sight: of an event that is of no login's session.",
    "types_unknown": "Records of a type that audito's table does not know; they are taken with what they have.",
    "events_taken": "Audit events of logins' sessions, written or left out by --event-types and --filter.",
    "events_ignored": "Audit events of no login's session: services, containers, cron.",
    "events_refused": "Audit events of sessions that turned out to be cron's, a console's or another program's.",
    "events_held": "Audit events that had to wait for their session's login line.",
    "events_timed_out": "Audit events that were complete only because 2 s had passed: their last record has not come.",
    "events_forced": "Audit events completed early because too many were under way; later records of them are lost.",
    "events_truncated": "Audit events of more records than are kept; args_incomplete says so where it is argv.",
    "events_late": "Records that came after their event was written.",
    "reject_not_a_record": "Lines of the audit source that are no record.",
    "reject_bad_stamp": "Lines of the audit source whose time and serial cannot be read.",
    "reject_too_long": "Lines of the audit source of more than 64 KiB; each is an AuditGap, too.",
    "rejects_failed": "Rejected lines that the reject log's code failed on: a fault of audito.",
    "joins_pid": "Sessions whose identity is from sshd's login line, by its pid: the usual way.",
    "joins_inherited": "Sessions opened inside another one, whose identity they have.",
    "joins_kernel": "Sessions without a login line, written with account and address as the kernel has them.",
    "joins_vendor": "The same with the key that a patched sshd (RHEL, SUSE) tells the kernel.",
    "joins_late": "Sessions whose login line came when they had been given up.",
    "conflicts": "Second claims on a bound session: IdentityConflict events, written or not.",
    "logins_repeated": "Login lines that were read twice.",
    "logins_without_session": "Logins that no audit session came for.",
    "serials_again": "Audit events read twice, or later than a hole in the serials is waited for.",
    "serials_doubted": "Serials too far off to be believed alone: torn lines.",
    "nodes_evicted": "Nodes forgotten because records of more than 64 came.",
    "sessions_evicted": "Sessions forgotten because the table was full, ended ones first; a live one is an AuditGap.",
    "sessions_refused": "Sessions that another program than sshd opened.",
    "sessions_now": "Sessions in the table, live and ended.",
    "args_incomplete": "Executed commands whose argv did not come whole.",
    "actions_dropped": "Actions that --filter left out.",
    "held_events_now": "Audit events that wait for their session's login line.",
    "held_bytes_now": "Bytes of them.",
    "inflight_now": "Audit events of which more records are expected.",
    "logins_waiting_now": "Login lines that wait for their audit session.",
    "sshd_lines": "Lines of the sshd source.",
    "sshd_blank": "Blank ones among them.",
    "sshd_other_program": "Lines of other programs in the same file.",
    "sshd_no_envelope": "Lines without the head that their format wants.",
    "sshd_too_long": "Lines of more than 8 KiB.",
    "sshd_unmatched_lines": "Lines of sshd that no row of audito's table knows; the log shows samples.",
    "sshd_debug": "sshd's own debugging.",
    "sshd_untrusted": "Lines that call themselves sshd's and were written by another program.",
    "sshd_ambiguous": "Lines that read in two ways; what was in doubt is left out of the event.",
    "sshd_cut": "Lines that sshd cut short: the event says truncated.",
    "sshd_repeated": "Lines that syslog told of as repeated; each is an event.",
    "sshd_logins": "Logins that succeeded.",
    "sshd_failures": "Login attempts that failed.",
    "sshd_notes": "Lines of sshd that are no event: known, and of no login's fate.",
    "sshd_ends": "Lines of sshd that end a login or a connection.",
    "sshd_children": "Lines of sshd that name its child for the session.",
    "sshd_partials": "Factors accepted of logins that need several.",
    "kernel_lost": "Audit records that the kernel dropped since boot, or since auditctl --reset-lost. Root only.",
    "kernel_backlog_now": "Audit records that wait in the kernel for auditd. Root only.",
    "kernel_backlog_limit_now": "How many may wait there; the kernel loses what comes beyond. Root only.",
    "audit_source_rotations": "Changes to a newer audit log.",
    "audit_source_truncations": "Audit logs cut in place.",
    "audit_source_gaps": "Times that audit input was gone before it was read.",
    "sshd_source_rotations": "Changes to a newer syslog file.",
    "sshd_source_truncations": "Syslog files cut in place.",
    "sshd_source_gaps": "Times that sshd input was gone before it was read.",
    "sshd_source_entries": "Entries of the journal.",
    "sshd_source_untrusted": "Entries that are neither of root's sshd nor of the process that serves a login.",
    "sshd_source_damaged": "Entries without a message that can be read.",
    "audit_source_spool_bytes_now": "Bytes of the audit pipe that wait in the spool.",
    "audit_source_spool_dropped_lines": "Lines of the audit pipe for which the spool had no room.",
    "sshd_source_spool_bytes_now": "Bytes of sshd's pipe that wait in the spool.",
    "sshd_source_spool_dropped_lines": "Lines of sshd's pipe for which the spool had no room.",
}
"""The same for figures that others have: the core, the sources, the kernel where it answers us."""


class Health:
    """The figures and states of one daemon. Not thread safe; all of it lives in the loop's thread.

    ``counters``: our own, flat, monotonic unless named ``*_now``. ``read_core``: gives the core's, in the same form.
    ``lag_ms``, ``waiting_bytes``: by source, of those of which it is known.
    """

    def __init__(self, read_core: Callable[[], Mapping[str, int]]) -> None:
        self.counters: dict[str, int] = dict.fromkeys(HELP, 0)
        self.errors: dict[str, int] = dict.fromkeys(ERROR_TYPES, 0)
        self.audit_log: AuditLogAge | None = None
        self.lag_ms: dict[str, int] = {}
        self.waiting_bytes: dict[str, int] = {}
        self.latency = {source: Latency() for source in SOURCES}
        self._read_core = read_core
        self._problems: dict[str, str] = {}
        self._beat_ms = 0
        self._registry: CollectorRegistry | None = None

    def set_state(self, component: str, problem: str) -> None:
        """``problem``: why the component is not ready, or "" when it is."""
        self._problems[component] = problem

    def problems(self) -> dict[str, str]:
        """Component → why it is not ready, "" when it is; in order of name."""
        return dict(sorted(self._problems.items()))

    @property
    def ready(self) -> bool:
        """Every component is ready, and there is one."""
        return bool(self._problems) and not any(self._problems.values())

    def readyz(self) -> tuple[int, bytes]:
        """HTTP status and JSON: component → "ok" or "not-ready", "overall", and "reasons" where there are any."""
        body: dict[str, Any] = {name: NOT_READY if why else READY for name, why in self.problems().items()}
        body[OVERALL] = READY if self.ready else NOT_READY
        reasons = {name: why for name, why in self.problems().items() if why}
        if reasons:
            body["reasons"] = reasons
        return 200 if self.ready else 503, msgspec.json.encode(body) + b"\n"

    def beat(self, now_ms: int) -> None:
        """The loop is alive at ``now_ms``, a monotonic clock."""
        self._beat_ms = now_ms

    def livez(self, now_ms: int) -> tuple[int, bytes]:
        """HTTP status and text: 200 while the loop beats."""
        silent_ms = now_ms - self._beat_ms
        if silent_ms <= HEARTBEAT_MS_MAX:
            return 200, b"ok\n"
        return 503, f"no heartbeat for {silent_ms} ms\n".encode()

    def metrics(self) -> bytes:
        """The Prometheus text exposition of all series, read now."""
        from prometheus_client import generate_latest  # see the module's head

        if self._registry is None:
            self._registry = _make_registry(self)
        return generate_latest(self._registry)

    def read(self) -> dict[str, int]:
        """All figures, the core's and ours."""
        return {**self._read_core(), **self.counters}


class AuditLogAge(msgspec.Struct):
    """What ``-audit-metrics`` watches: when audit.log was last written. Times in seconds, 0 before the first look."""

    threshold_s: int
    modified_s: float = 0.0
    fresh: bool = False

    def look(self, modified_s: float, now_s: float) -> None:
        """The file's modification time, seen at ``now_s``."""
        self.modified_s = modified_s
        self.fresh = now_s - modified_s <= self.threshold_s


class Latency:
    """A histogram over LATENCY_BUCKETS_S: how many observations fell into each, the last one without an end."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum_ms = 0

    def observe(self, took_ms: int) -> None:
        """One observation; two clocks, or one that was set, can make it less than nothing, and that is 0."""
        took_ms = max(took_ms, 0)
        self.counts[bisect_left(LATENCY_BUCKETS_S, took_ms / 1000)] += 1
        self.sum_ms += took_ms

    def cumulative(self) -> list[tuple[str, float]]:
        """As Prometheus has them: each upper bound, and how many were not above it."""
        bounds = [*map(str, LATENCY_BUCKETS_S), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class _Collector:
    """Makes metric families from a Health at each scrape, so that nothing is counted twice or goes stale."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        figures = self._health.read()
        yield from _go_series(self._health, figures)
        yield from _our_series(figures)
        yield from _source_series(self._health)
        yield _readiness(self._health)


def _make_registry(health: Health) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry, ProcessCollector

    # Auto-describe would run a collection at registration.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(health))
    ProcessCollector(registry=registry)
    return registry


def _go_series(health: Health, figures: Mapping[str, int]) -> Iterator[Metric]:
    """The Go daemon's series, under its names and with its labels."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    logins = CounterMetricFamily(
        "audito_maldito_remote_logins", "The total number of remote logins.", labels=["method", "outcome"]
    )
    for (method, outcome), count in _login_cells(figures).items():
        logins.add_metric([method, outcome], count)
    yield logins
    errors = CounterMetricFamily("audito_maldito_errors", "The total number of errors.", labels=["type"])
    for kind, count in health.errors.items():
        errors.add_metric([kind], count)
    yield errors
    age = health.audit_log
    if age is not None and age.modified_s:
        check = GaugeMetricFamily(
            "audito_maldito_audit_log_check",
            "Checks audit.log is being written to. 0 for negative, 1 for positive",
            labels=["threshold_time_in_seconds"],
        )
        check.add_metric([str(age.threshold_s)], float(age.fresh))
        yield check
        yield GaugeMetricFamily(
            "audito_maldito_audit_log_modify_time", "Sets audit.log last modify time", value=age.modified_s
        )


def _login_cells(figures: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Every (method, outcome) of the Go daemon, with the core's counts added up in them."""
    cells = {(method, outcome): 0 for method in LOGIN_METHODS.values() for outcome in LOGIN_OUTCOMES.values()}
    for name, count in figures.items():
        if _is_login_cell(name):
            method, _, outcome = name.removeprefix(LOGIN_PREFIX).rpartition("_")
            cells[LOGIN_METHODS.get(method, "unknown"), LOGIN_OUTCOMES[outcome]] += count
    return cells


def _is_login_cell(name: str) -> bool:
    return name.startswith(LOGIN_PREFIX) and name.rpartition("_")[2] in LOGIN_OUTCOMES


def _our_series(figures: Mapping[str, int]) -> Iterator[Metric]:
    """``audito_<name>_total`` for a counter, ``audito_<name>`` for what ends in ``_now``."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families = {
        prefix: CounterMetricFamily(f"audito_{name}", text, labels=[key])
        for prefix, (name, key, text) in LABELLED.items()
    }
    for name, value in sorted(figures.items()):
        if _is_login_cell(name):
            continue
        if prefix := next((prefix for prefix in LABELLED if name.startswith(prefix)), None):
            families[prefix].add_metric([name.removeprefix(prefix)], value)
            continue
        text = HELP.get(name) or OTHER_HELP.get(name) or name.replace("_", " ").capitalize() + "."
        if name.endswith("_now"):
            yield GaugeMetricFamily(f"audito_{name.removesuffix('_now')}", text, value=value)
        else:
            yield CounterMetricFamily(f"audito_{name}", text, value=value)
    yield from families.values()


def _source_series(health: Health) -> Iterator[Metric]:
    """How far behind each input is, and how long its records take through us."""
    from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

    lag = GaugeMetricFamily("audito_source_lag_seconds", LAG_HELP, labels=["source"])
    for source, lag_ms in health.lag_ms.items():
        lag.add_metric([source], lag_ms / 1000)
    waiting = GaugeMetricFamily("audito_source_waiting_bytes", WAITING_HELP, labels=["source"])
    for source, count in health.waiting_bytes.items():
        waiting.add_metric([source], count)
    latency = HistogramMetricFamily("audito_latency_seconds", LATENCY_HELP, labels=["source"])
    for source, seen in health.latency.items():
        latency.add_metric([source], seen.cumulative(), seen.sum_ms / 1000)
    yield from (lag, waiting, latency)


def _readiness(health: Health) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily("audito_ready", "1 when the component is ready.", labels=["component"])
    for name, problem in health.problems().items():
        family.add_metric([name], float(not problem))
    return family


def respond(head: bytes | bytearray, pages: Mapping[str, Page]) -> bytes | None:
    """The whole HTTP answer to what was received so far, or None while the request's head is not complete.

    GET only, no keep-alive: a probe needs no more, and what is never kept alive cannot be kept open.
    """
    end = min((at for at in (head.find(b"\r\n\r\n"), head.find(b"\n\n")) if at >= 0), default=-1)
    if not 0 <= end < HTTP_HEAD_BYTES_MAX:
        return None if len(head) <= HTTP_HEAD_BYTES_MAX else _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    request = _REQUEST_LINE.match(head)
    if request is None:
        return _refusal(HTTPStatus.BAD_REQUEST)
    if request[1] != b"GET":
        return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET\r\n")
    page = pages.get(request[2].partition(b"?")[0].decode("ascii"))
    return _refusal(HTTPStatus.NOT_FOUND) if page is None else _answer(*page())


def _refusal(status: HTTPStatus, header: str = "") -> bytes:
    return _answer(status, CONTENT_TEXT, status.phrase.encode() + b"\n", header)


def _answer(status: int, content_type: str, body: bytes, header: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{header}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
