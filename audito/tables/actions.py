"""The vocabulary of actions: which record type or syscall means which action, on what kind of object.

The words are those of elastic's go-libaudit 2.3.3, which readers of the Go daemon's events know; they were
obtained by feeding it one synthetic event each. Fields are named as the records name them, in order of
preference: the first that the event has is taken.

Where ``how`` names no field it is the default: exe, else comm; and comm where exe is an interpreter
(INTERPRETER_PREFIXES). Named fields come first and are taken as they are; the default follows them.
"""

from __future__ import annotations

from typing import NamedTuple

INTERPRETER_PREFIXES = ("/usr/bin/python", "/usr/bin/sh", "/usr/bin/bash", "/usr/bin/perl")
"""Where exe begins so, what ran is better told by comm. Prefixes, not names: /usr/bin/shutdown counts too."""


class RecordAction(NamedTuple):
    """What a record type means. ``when_field``: the row holds only where the event has this field, "" always."""

    record_type: str
    when_field: str
    action: str
    object_type: str
    primary: tuple[str, ...]
    secondary: tuple[str, ...]
    how: tuple[str, ...]


class SyscallAction(NamedTuple):
    """What a syscall means.

    ``path_index``: the PATH record to begin at for the object's name, -1 where it has none. ``socket``: the
    object is the address of the SOCKADDR record, secondary its port. ``primary``: fields that name the
    object better than the PATH does. ``how``: ("syscall",) where the syscall's own name is the how.
    """

    syscall: str
    action: str
    object_kind: str
    path_index: int
    socket: bool
    primary: tuple[str, ...] = ()
    how: tuple[str, ...] = ()


def _record(
    record_type: str, action: str, when: str = "", kind: str = "", primary: str = "", secondary: str = "", how: str = ""
) -> RecordAction:
    return RecordAction(
        record_type, when, action, kind, tuple(primary.split()), tuple(secondary.split()), tuple(how.split())
    )


def _session(record_type: str, action: str, primary: str = "terminal") -> RecordAction:
    """A row of a program's message about a user's session: PAM, login programs."""
    return _record(record_type, action, "", "user-session", primary, "addr hostname", "exe terminal")


def _syscall(syscall: str, action: str, kind: str, path: int = 0, primary: str = "", how: str = "") -> SyscallAction:
    path_index = path if kind in ("file", "filesystem") else -1
    return SyscallAction(
        syscall, action, kind, path_index, kind == "socket", tuple(primary.split()), tuple(how.split())
    )


_RECORD_ROWS = (
    _record("ACCT_LOCK", "locked-account"),
    _record("ACCT_UNLOCK", "unlocked-account"),
    _record("ADD_GROUP", "added-group-account-to", kind="account", primary="id acct"),
    _record("ADD_USER", "added-user-account", kind="account", primary="id acct"),
    _record("ANOM_ABEND", "crashed-program", kind="process", primary="comm exe", secondary="pid", how="sig"),
    _record("ANOM_ACCESS_FS", "accessed-watched-file-or-directory"),
    _record("ANOM_ADD_ACCT", "added-user-account"),
    _record("ANOM_AMTU_FAIL", "abstract-machine-test-utility-failure"),
    _record("ANOM_CRYPTO_FAIL", "crypto-system-test-failure"),
    _record("ANOM_DEL_ACCT", "deleted-user-account"),
    _record("ANOM_EXEC", "attempted-execution-of-forbidden-program", kind="process", primary="cmd", how="terminal"),
    _record("ANOM_LINK", "used-suspicious-link"),
    _session("ANOM_LOGIN_FAILURES", "failed-log-in-too-many-times-to"),
    _session("ANOM_LOGIN_LOCATION", "attempted-log-in-from-unusual-place-to"),
    _record("ANOM_LOGIN_SERVICE", "service-account-attempted-login"),
    _session("ANOM_LOGIN_SESSIONS", "opened-too-many-sessions-to"),
    _session("ANOM_LOGIN_TIME", "attempted-log-in-during-unusual-hour-to"),
    _record("ANOM_MAX_DAC", "max-discretionary-access-control-failures-reached"),
    _record("ANOM_MAX_MAC", "max-mandatory-access-control-failures-reached"),
    _record("ANOM_MOD_ACCT", "modified-user-account"),
    _record("ANOM_PROMISCUOUS", "changed-promiscuous-mode-on-device", kind="network-device", primary="dev"),
    _record("ANOM_RBAC_FAIL", "rbac-self-test-failure"),
    _record("ANOM_RBAC_INTEGRITY_FAIL", "tested-file-system-integrity-of", kind="filesystem", primary="hostname"),
    _record("ANOM_ROOT_TRANS", "user-became-root"),
    _record(
        "AVC",
        "violated-apparmor-policy",
        when="apparmor",
        kind="policy",
        primary="operation",
        secondary="requested_mask denied_mask capname",
    ),
    _record("AVC", "violated-selinux-policy", when="seresult", primary="tcontext", secondary="tclass"),
    _record("CHGRP_ID", "changed-group"),
    _record("CHUSER_ID", "changed-user-id"),
    _record(
        "CONFIG_CHANGE",
        "changed-audit-configuration",
        kind="audit-config",
        primary="op audit_enabled audit_pid audit_backlog_limit audit_failure",
    ),
    _session("CRED_ACQ", "acquired-credentials"),
    _session("CRED_DISP", "disposed-credentials"),
    _session("CRED_REFR", "refreshed-credentials"),
    _session("CRYPTO_KEY_USER", "negotiated-crypto-key", "fp"),
    _record("CRYPTO_LOGIN", "crypto-officer-logged-in"),
    _record("CRYPTO_LOGOUT", "crypto-officer-logged-out"),
    _record(
        "CRYPTO_SESSION",
        "started-crypto-session",
        kind="user-session",
        primary="addr",
        secondary="rport",
        how="exe terminal",
    ),
    _record("DAC_CHECK", "access-result"),
    _record("DAEMON_ABORT", "aborted-auditd-startup", kind="service"),
    _record("DAEMON_ACCEPT", "remote-audit-connected", kind="service"),
    _record("DAEMON_CLOSE", "remote-audit-disconnected", kind="service"),
    _record("DAEMON_CONFIG", "changed-auditd-configuration", kind="service"),
    _record("DAEMON_END", "shutdown-audit", kind="service"),
    _record("DAEMON_ERR", "audit-error", kind="service"),
    _record("DAEMON_RECONFIG", "reconfigured-auditd", kind="service"),
    _record("DAEMON_RESUME", "resumed-audit-logging", kind="service"),
    _record("DAEMON_ROTATE", "rotated-audit-logs", kind="service"),
    _record("DAEMON_START", "started-audit", kind="service"),
    _record("DEL_GROUP", "deleted-group-account-from", kind="account", primary="id acct"),
    _record("DEL_USER", "deleted-user-account", kind="account", primary="id acct"),
    _record("FEATURE_CHANGE", "changed-audit-feature", kind="system", primary="feature"),
    _record("FS_RELABEL", "relabeled-filesystem", kind="mac-config"),
    _record("GRP_AUTH", "authenticated-to-group"),
    _session("GRP_CHAUTHTOK", "changed-group-password", "acct"),
    _record("GRP_MGMT", "modified-group-account", kind="account", primary="id acct"),
    _record("KERNEL", "initialized-audit-subsystem"),
    _record("KERN_MODULE", "loaded-kernel-module", kind="file", primary="name"),
    _record("LABEL_LEVEL_CHANGE", "modified-level-of", kind="printer", primary="printer"),
    _record("LABEL_OVERRIDE", "overrode-label-of", kind="mac-config"),
    _record("LOGIN", "changed-login-id-to", kind="user-session", primary="new-auid new_auid auid"),
    _record("MAC_CHECK", "mac-permission"),
    _record("MAC_CONFIG_CHANGE", "changed-selinux-boolean", kind="mac-config", primary="bool"),
    _record("MAC_POLICY_LOAD", "loaded-selinux-policy", kind="mac-config"),
    _record("MAC_STATUS", "changed-selinux-enforcement", kind="mac-config", primary="enforcing"),
    _record("NETFILTER_CFG", "loaded-firewall-rule-to", kind="firewall", primary="table"),
    _record("ROLE_ASSIGN", "assigned-user-role-to", kind="account", primary="id acct"),
    _record("ROLE_MODIFY", "modified-role"),
    _record("ROLE_REMOVE", "removed-user-role-from", kind="account", primary="id acct"),
    _record("SECCOMP", "violated-seccomp-policy", kind="process", primary="syscall"),
    _record("SELINUX_ERR", "caused-mac-policy-error", kind="system"),
    _record("SERVICE_START", "started-service", kind="service", primary="unit"),
    _record("SERVICE_STOP", "stopped-service", kind="service", primary="unit"),
    _record("SOFTWARE_UPDATE", "package-updated"),
    _record("SYSTEM_BOOT", "booted-system", kind="system"),
    _record("SYSTEM_RUNLEVEL", "changed-to-runlevel", kind="system", primary="new-level"),
    _record("SYSTEM_SHUTDOWN", "shutdown-system", kind="system"),
    _record("TEST", "sent-test"),
    _record("TIME_ADJNTPVAL", "changed-system-time", kind="system"),
    _record("TIME_INJOFFSET", "changed-system-time", kind="system"),
    _record("TRUSTED_APP", "unknown"),
    _record("TTY", "typed", kind="keystrokes", primary="data", how="comm exe"),
    _record("USER", "sent-message", primary="addr"),
    _session("USER_ACCT", "was-authorized"),
    _session("USER_AUTH", "authenticated"),
    _record("USER_AVC", "access-permission"),
    _record("USER_AVC", "access-permission", when="apparmor"),
    _record("USER_AVC", "access-permission", when="seresult"),
    _session("USER_CHAUTHTOK", "changed-password"),
    _record("USER_CMD", "ran-command", kind="process", primary="cmd"),
    _session("USER_END", "ended-session"),
    _session("USER_ERR", "error"),
    _session("USER_LOGIN", "logged-in"),
    _session("USER_LOGOUT", "logged-out"),
    _record("USER_MAC_CONFIG_CHANGE", "changed-mac-configuration", kind="mac-config"),
    _record("USER_MAC_POLICY_LOAD", "loaded-mac-policy", kind="mac-config"),
    _session("USER_MGMT", "modified-user-account"),
    _session("USER_ROLE_CHANGE", "changed-role-to", "selected-context"),
    _record("USER_SELINUX_ERR", "access-error"),
    _record("USER_SELINUX_ERR", "access-error", when="apparmor"),
    _record("USER_SELINUX_ERR", "access-error", when="seresult"),
    _session("USER_START", "started-session"),
    _record("USER_TTY", "typed", kind="keystrokes", primary="data", how="comm exe"),
    _record("USYS_CONFIG", "changed-configuration", kind="system", primary="op"),
    _record("VIRT_CONTROL", "issued-vm-control", kind="virtual-machine", primary="op", secondary="vm"),
    _record("VIRT_CREATE", "created-vm-image"),
    _record("VIRT_DESTROY", "deleted-vm-image"),
    _record("VIRT_INTEGRITY_CHECK", "checked-integrity-of"),
    _record("VIRT_MACHINE_ID", "assigned-vm-id", kind="virtual-machine", primary="vm"),
    _record("VIRT_MIGRATE_IN", "migrated-vm-from"),
    _record("VIRT_MIGRATE_OUT", "migrated-vm-to"),
    _record("VIRT_RESOURCE", "assigned-vm-resource", kind="virtual-machine", primary="resrc", secondary="vm"),
)

_SYSCALL_ROWS = (
    _syscall("read", "read-file", "file"),
    _syscall("write", "wrote-to-file", "file"),
    _syscall("open", "opened-file", "file"),
    _syscall("stat", "checked-metadata-of", "file"),
    _syscall("fstat", "checked-metadata-of", "file"),
    _syscall("lstat", "checked-metadata-of", "file"),
    _syscall("mmap", "allocated-memory", "memory"),
    _syscall("brk", "allocated-memory", "memory"),
    _syscall("access", "checked-metadata-of", "file"),
    _syscall("connect", "connected-to", "socket"),
    _syscall("accept", "accepted-connection-from", "socket"),
    _syscall("sendto", "sent-to", "socket"),
    _syscall("recvfrom", "received-from", "socket"),
    _syscall("sendmsg", "sent-to", "socket"),
    _syscall("recvmsg", "received-from", "socket"),
    _syscall("bind", "bound-socket", "socket"),
    _syscall("listen", "listen-for-connections", "socket"),
    _syscall("execve", "executed", "file"),
    _syscall("kill", "killed-pid", "process"),
    _syscall("truncate", "opened-file", "file"),
    _syscall("ftruncate", "opened-file", "file"),
    _syscall("rename", "renamed", "file", path=2),
    _syscall("mkdir", "created-directory", "file", path=1),
    _syscall("rmdir", "deleted", "file"),
    _syscall("creat", "opened-file", "file"),
    _syscall("unlink", "deleted", "file"),
    _syscall("symlink", "symlinked", "file"),
    _syscall("readlink", "opened-file", "file"),
    _syscall("chmod", "changed-file-permissions-of", "file"),
    _syscall("fchmod", "changed-file-permissions-of", "file"),
    _syscall("chown", "changed-file-ownership-of", "file"),
    _syscall("fchown", "changed-file-ownership-of", "file"),
    _syscall("lchown", "changed-file-ownership-of", "file"),
    _syscall("setuid", "changed-identity-of", "process", how="syscall"),
    _syscall("setgid", "changed-identity-of", "process", how="syscall"),
    _syscall("setreuid", "changed-identity-of", "process", how="syscall"),
    _syscall("setregid", "changed-identity-of", "process", how="syscall"),
    _syscall("setresuid", "changed-identity-of", "process", how="syscall"),
    _syscall("setresgid", "changed-identity-of", "process", how="syscall"),
    _syscall("setfsuid", "changed-identity-of", "process", how="syscall"),
    _syscall("setfsgid", "changed-identity-of", "process", how="syscall"),
    _syscall("utime", "changed-timestamp-of", "file"),
    _syscall("mknod", "make-device", "file"),
    _syscall("statfs", "checked-filesystem-metadata-of", "filesystem"),
    _syscall("fstatfs", "checked-filesystem-metadata-of", "filesystem"),
    _syscall("sched_setparam", "adjusted-scheduling-policy-of", "process", how="syscall"),
    _syscall("sched_setscheduler", "adjusted-scheduling-policy-of", "process", how="syscall"),
    _syscall("adjtimex", "changed-system-time", "system"),
    _syscall("settimeofday", "changed-system-time", "system"),
    _syscall("mount", "mounted", "filesystem", path=1),
    _syscall("umount2", "unmounted", "filesystem"),
    _syscall("sethostname", "changed-system-name", "system"),
    _syscall("setdomainname", "changed-system-name", "system"),
    _syscall("init_module", "loaded-kernel-module", "file", primary="name"),
    _syscall("delete_module", "unloaded-kernel-module", "file"),
    _syscall("setxattr", "changed-file-attributes-of", "file"),
    _syscall("lsetxattr", "changed-file-attributes-of", "file"),
    _syscall("fsetxattr", "changed-file-attributes-of", "file"),
    _syscall("getxattr", "checked-metadata-of", "file"),
    _syscall("lgetxattr", "checked-metadata-of", "file"),
    _syscall("fgetxattr", "checked-metadata-of", "file"),
    _syscall("removexattr", "changed-file-attributes-of", "file"),
    _syscall("lremovexattr", "changed-file-attributes-of", "file"),
    _syscall("fremovexattr", "changed-file-attributes-of", "file"),
    _syscall("tkill", "killed-pid", "process"),
    _syscall("clock_settime", "changed-system-time", "system"),
    _syscall("tgkill", "killed-pid", "process"),
    _syscall("utimes", "changed-timestamp-of", "file"),
    _syscall("openat", "opened-file", "file"),
    _syscall("mkdirat", "created-directory", "file", path=1),
    _syscall("mknodat", "make-device", "file"),
    _syscall("fchownat", "changed-file-ownership-of", "file"),
    _syscall("futimesat", "changed-timestamp-of", "file"),
    _syscall("newfstatat", "checked-metadata-of", "file"),
    _syscall("unlinkat", "deleted", "file"),
    _syscall("renameat", "renamed", "file", path=2),
    _syscall("symlinkat", "symlinked", "file"),
    _syscall("readlinkat", "opened-file", "file"),
    _syscall("fchmodat", "changed-file-permissions-of", "file"),
    _syscall("faccessat", "checked-metadata-of", "file"),
    _syscall("utimensat", "changed-timestamp-of", "file"),
    _syscall("fallocate", "opened-file", "file"),
    _syscall("accept4", "accepted-connection-from", "socket"),
    _syscall("recvmmsg", "received-from", "socket"),
    _syscall("clock_adjtime", "changed-system-time", "system"),
    _syscall("sendmmsg", "sent-to", "socket"),
    _syscall("finit_module", "loaded-kernel-module", "file", primary="name"),
    _syscall("sched_setattr", "adjusted-scheduling-policy-of", "process", how="syscall"),
    _syscall("renameat2", "renamed", "file", path=2),
    _syscall("execveat", "executed", "file"),
    # Only on 32-bit and older arches.
    _syscall("mmap2", "allocated-memory", "memory"),
    _syscall("stat64", "checked-metadata-of", "file"),
    _syscall("stime", "changed-system-time", "system"),
    _syscall("umount", "unmounted", "filesystem"),
    _syscall("recv", "received-from", "socket"),
    _syscall("send", "sent-to", "socket"),
)


def _records(rows: tuple[RecordAction, ...]) -> dict[str, tuple[RecordAction, ...]]:
    """Record type to its rows, the one without a condition last; ValueError for a malformed or repeated row."""
    seen: set[tuple[str, str]] = set()
    table: dict[str, tuple[RecordAction, ...]] = {}
    for row in rows:
        if not row.record_type or not row.action or row.record_type != row.record_type.upper():
            raise ValueError(f"malformed record action: {row}")
        if (row.record_type, row.when_field) in seen:
            raise ValueError(f"record action given twice: {row}")
        seen.add((row.record_type, row.when_field))
        others = table.get(row.record_type, ())
        conditional = tuple(other for other in others if other.when_field)
        table[row.record_type] = (*conditional, row, *others[len(conditional) :]) if row.when_field else (*others, row)
    return table


def _syscalls(rows: tuple[SyscallAction, ...]) -> dict[str, SyscallAction]:
    """Syscall name to its row; ValueError for a malformed or repeated row."""
    table: dict[str, SyscallAction] = {}
    for row in rows:
        if not row.syscall or not row.action or not row.object_kind or row.path_index not in (-1, 0, 1, 2):
            raise ValueError(f"malformed syscall action: {row}")
        if row.syscall in table:
            raise ValueError(f"syscall action given twice: {row}")
        table[row.syscall] = row
    return table


SOCKETCALLS: dict[int, str] = dict(
    enumerate(
        "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown "
        "setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg".split(),
        start=1,
    )
)
"""First argument of socketcall to the syscall that is meant: one number for all of them on 32-bit x86, s390, ppc.

Source: linux/net.h.
"""

DIRECTORY_FDS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        "openat openat2 mkdirat mknodat fchownat futimesat newfstatat fstatat64 unlinkat readlinkat fchmodat fchmodat2 "
        "faccessat faccessat2 utimensat utimensat_time64 execveat name_to_handle_at statx mount_setattr open_tree "
        "open_tree_attr setxattrat getxattrat listxattrat removexattrat file_getattr file_setattr fspick".split(),
        (0,),
    ),
    **dict.fromkeys("renameat renameat2 linkat move_mount".split(), (0, 2)),
    "symlinkat": (1,),
    "fanotify_mark": (3,),
    **dict.fromkeys("mq_open mq_unlink fsconfig io_uring_enter".split(), ()),
}
"""Syscall to its arguments that are the directories of its names: of the one that is there, and of a new one.

AT_FDCWD stands for the working directory. What directory any other descriptor is, no record says (the name of the
PARENT record is that of the working directory all the same). Those without an argument have names that are not relative
to the working directory; those that are not here have such as are.
"""

SECOND_NAMES: dict[str, str] = {
    **dict.fromkeys("rename renameat renameat2 link linkat".split(), "CREATE"),
    **dict.fromkeys("symlink symlinkat".split(), "UNKNOWN"),
}
"""Syscall of two names to the nametype of the PATH record with the second: the new name, or what a symlink says."""

RECORD_ACTIONS: dict[str, tuple[RecordAction, ...]] = _records(_RECORD_ROWS)
"""Record type to its rows. The first whose when_field the event has, or that has none, is meant."""

SYSCALL_ACTIONS: dict[str, SyscallAction] = _syscalls(_SYSCALL_ROWS)
"""Syscall name to its row."""
