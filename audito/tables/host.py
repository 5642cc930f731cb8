"""What a host is expected to have, and how distributions call it: for ``audito doctor``."""

from __future__ import annotations

from typing import NamedTuple

OPENSSH_OLDEST = (6, 6)
OPENSSH_NEWEST = (10, 5)
"""The releases whose messages stand in tables/sshd.py."""

SSHD_CONFIG = "/etc/ssh/sshd_config"
PAM_DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d")
"""In the order in which libpam looks."""

UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
SSHD_UNITS = ("ssh", "sshd")
"""Debian's name, everybody else's."""

QUIET_LOG_LEVELS = ("QUIET", "SILENT", "FATAL", "ERROR")
"""Of sshd: below INFO, on which it says who logged in. ``sshd -T`` calls the first by the second's name."""

FULL_LOG_LEVELS = ("VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3")
"""Of sshd: all factors of a login and every failure are logged. At INFO only the last factor is."""

JOURNALD_DIRECTORIES = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd")
"""Of ``journald.conf`` and ``journald.conf.d``; the first that has a name is the one that counts."""

JOURNALD_INTERVAL_S = 30.0
JOURNALD_BURST_LINES = 10_000
"""journald's own defaults: lines that one service may log in one interval; more are dropped."""

IMJOURNAL_INTERVAL_S = 600.0
IMJOURNAL_BURST_LINES = 20_000
"""rsyslog's defaults where it reads the journal; it has no limit where it listens itself."""

LOG_LINES_PER_S_MIN = 300
"""journald's default is a little more. A peer that fails to log in makes sshd write five lines."""

INOTIFY_INSTANCES_FREE_MIN = 4
INOTIFY_WATCHES_FREE_MIN = 64
"""audito takes two instances and a handful of watches; without them it looks once a second."""

INOTIFY_LIMITS = {"max_user_instances": 1024, "max_user_watches": 524_288}
"""What to raise the limits to: what Kubernetes distributions set."""

FILESYSTEMS_IN_MEMORY = ("tmpfs", "ramfs")


class Manager(NamedTuple):
    """A package manager: its program, how it installs, and its names of what we need."""

    program: str
    install: str
    packages: dict[str, str]


MANAGERS = (
    Manager("/usr/bin/apt-get", "apt-get update && apt-get install -y", {"auditd": "auditd", "sshd": "openssh-server"}),
    Manager("/usr/bin/dnf", "dnf install -y", {"auditd": "audit", "sshd": "openssh-server"}),
    Manager("/usr/bin/yum", "yum install -y", {"auditd": "audit", "sshd": "openssh-server"}),
    Manager("/usr/bin/zypper", "zypper --non-interactive install", {"auditd": "audit", "sshd": "openssh"}),
    Manager("/usr/bin/pacman", "pacman -S --noconfirm", {"auditd": "audit", "sshd": "openssh"}),
)
"""A package without a row has the same name everywhere (chrony, rsyslog)."""

TIME_UNITS_S = {
    **dict.fromkeys(("us", "usec", "µs"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
}
"""Units of systemd's time spans. Source: systemd.time(7)."""
