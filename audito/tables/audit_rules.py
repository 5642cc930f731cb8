"""Audit rules that audito needs, and the records that no rule may hide."""

from __future__ import annotations

from typing import Literal, NamedTuple

RULES_DIRECTORY = "/etc/audit/rules.d"
RULES_FILE = f"{RULES_DIRECTORY}/audito.rules"
BACKLOG_FILE = f"{RULES_DIRECTORY}/audito-backlog.rules"
"""The second sorts behind Debian's and Fedora's ``audit.rules``: of several ``-b`` augenrules takes the last."""

RULES_MARK = "# Audit rules of audito"
"""A file of rules that begins otherwise is somebody else's, and is not written over."""

EXECVE_SYSCALLS = ("execve", "execveat")

RULES_HEAD = f"""\
{RULES_MARK}: what everybody who logged in executes. Made by "audito doctor --write-rules".
# To be installed as {RULES_FILE} and loaded by "augenrules --load".
#
# auid is who logged in; -1 is nobody: the programs of a container, of a service. Root's own logins count too. Each way
# of calling the kernel needs a rule of its own, or a 32-bit program is not seen on a 64-bit kernel.
#
# The logins themselves, sudo, su and the ends of sessions come from PAM and the kernel, and take no rule. The rules of all
# files are one list, and of each event's rules the first counts: a file that leaves something out ("never") belongs before
# this one.
"""
RULE = f"-a always,exit -F arch={{abi}} -S {','.join(EXECVE_SYSCALLS)} -F auid!=-1 -F key=audito-exec\n"

BACKLOG_RECORDS = 8192
"""The kernel begins with 64, which one busy moment fills; 8192 are some 10 MB at most, and what distributions set."""

ABIS: dict[str, tuple[str, ...]] = {
    "x86_64": ("b64", "b32"),
    "aarch64": ("b64", "b32"),
    "ppc64": ("b64", "b32"),
    "s390x": ("b64", "b32"),
}
"""The ways into the kernel of a machine that has several; the others have one, b64."""

ARCH_ABIS = {
    **dict.fromkeys(("b64", "x86_64", "aarch64", "ppc64", "ppc64le", "s390x", "riscv64", "ia64", "alpha"), "b64"),
    **dict.fromkeys(("b32", "i386", "i486", "i586", "i686", "arm", "armv6l", "armv7l", "ppc", "s390"), "b32"),
}
"""How ``auditctl -l`` may name an architecture → which of the two it is."""


class Needed(NamedTuple):
    """A record type that a rule on the exclude list could hide. ``state``: how bad that is."""

    name: str
    why: str
    state: Literal["warning", "missing"]


NEEDED_RECORDS = (
    Needed("LOGIN", "opens each session", "missing"),
    Needed("SYSCALL", "says who did it, and in which session", "missing"),
    Needed("EXECVE", "carries the arguments of a command", "missing"),
    Needed("USER_START", "tells account and address of a session whose login line is missing", "warning"),
    Needed("USER_END", "ends a session", "warning"),
    Needed("CRED_DISP", "ends a session whose USER_END is missing", "warning"),
    Needed("CWD", "tells where a command ran", "warning"),
    Needed("PATH", "tells which file it was", "warning"),
    Needed("PROCTITLE", "ends an event at once; without it each waits two seconds", "warning"),
)
"""The kernel and PAM write those of logins without a rule, where auditing is on."""
