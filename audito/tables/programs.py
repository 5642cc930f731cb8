"""sshd's programs: the names that they log under, and where distributions put them."""

from __future__ import annotations

TAGS = ("sshd", "sshd-session", "sshd-auth")
"""The names sshd's processes log under: the second since 9.8, the third since 10.0."""

_DIRECTORIES = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec/ssh", "/usr/libexec")

NO_AUDIT_SESSION = 2**32 - 1
"""The kernel's number for what no login started."""

EXECUTABLES = frozenset(
    ("/usr/sbin/sshd", "/usr/bin/sshd")  # the second where sbin is a link to bin
    + tuple(f"{directory}/{program}" for directory in _DIRECTORIES for program in TAGS[1:])
)
"""A journal entry is sshd's own if its ``_EXE`` is one of these (and ``_UID`` is 0)."""

PRIVILEGE_PROGRAMS = ("sudo", "su", "doas", "pkexec", "runuser")
"""Programs by which one user acts as another, by the last part of their path."""
