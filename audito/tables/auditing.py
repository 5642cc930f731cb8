"""What records say about auditing itself: which of them is an ``AuditGap``, and for which reason.

A CONFIG_CHANGE says ``NAME=NEW old=OLD … res=1`` (kernel/audit.c, audit_log_config_change) or ``op=remove_rule … res=1``
(kernel/auditfilter.c, audit_tree.c, audit_watch.c); kernels before 4.19 write ``op="remove rule"``, some without the
quotes. Records of auditd (src/auditd.c, send_audit_event) have serials of a count of its own, which starts at random.
"""

from __future__ import annotations

DAEMONS: dict[str, str] = {
    "DAEMON_START": "auditd_started",
    "DAEMON_END": "auditd_stopped",
    "DAEMON_ABORT": "auditd_stopped",
    # Logging was suspended, for the disk was full, or somebody sent SIGUSR2 to be sure.
    "DAEMON_RESUME": "auditd_resumed",
}
"""Record type of auditd to reason."""

LIMITS: dict[str, str] = {
    "audit_backlog_limit": "backlog_changed",
    "audit_backlog_wait_time": "backlog_changed",
    "audit_rate_limit": "rate_limit_changed",
}
"""Setting of the kernel that decides what is lost → reason."""

ENABLED = "audit_enabled"
"""0: off, 1: on, 2: on until the next boot. That it is switched on is not logged: it is not on yet."""

LOST = "lost"
"""What the kernel counts as lost; ``auditctl --reset-lost`` logs it."""

RULE_REMOVED = frozenset({"remove_rule", "remove rule", "remove"})
"""Values of ``op``; the last is what is left of an unquoted ``remove rule``."""

CONFIG_CHANGE = 1305
DAEMON_TYPES = range(1200, 1300)
"""Numbers of the record types, AUDIT_FIRST_DAEMON to AUDIT_LAST_DAEMON in linux/audit.h."""


def tells_of_auditing(number: int) -> bool:
    """Whether a record of this type is about auditing itself: CONFIG_CHANGE, and all that auditd says."""
    return number == CONFIG_CHANGE or number in DAEMON_TYPES
