"""Audit record types: name, number, and whether the record says whose session it belongs to.

Names are those that auditd prints after ``type=``; a type that its build does not know it prints as
``UNKNOWN[number]``. Numbers: linux/audit.h and libaudit.h, and linux/audit.h of 6.17 for 1420 to 1426
(Ubuntu's kernels have subj_apparmor= and the like in 1420, which auditd prints as UNKNOWN[1420]).
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One record type.

    ``session``: the record's own text has ``ses=`` of the session that acts, written by the kernel (or by
    auditd about its caller) before any text that a user chose. Strings in kernel records hold no space
    (what has one is written in hex), so nothing in them can look like a field.
    """

    name: str
    number: int
    session: bool


_ROWS = (
    # Netlink requests: on the wire only, never in a log (auditd has no text name for them).
    Row("GET", 1000, False),
    Row("SET", 1001, False),
    Row("LIST", 1002, False),
    Row("ADD", 1003, False),
    Row("DEL", 1004, False),
    # Messages of programs, oldest form, and the start of an audit session.
    Row("USER", 1005, True),
    Row("LOGIN", 1006, True),
    # More netlink requests.
    Row("WATCH_INS", 1007, False),
    Row("WATCH_REM", 1008, False),
    Row("WATCH_LIST", 1009, False),
    Row("SIGNAL_INFO", 1010, False),
    Row("ADD_RULE", 1011, False),
    Row("DEL_RULE", 1012, False),
    Row("LIST_RULES", 1013, False),
    Row("TRIM", 1014, False),
    Row("MAKE_EQUIV", 1015, False),
    Row("TTY_GET", 1016, False),
    Row("TTY_SET", 1017, False),
    Row("SET_FEATURE", 1018, False),
    Row("GET_FEATURE", 1019, False),
    # Messages of trusted programs: the kernel writes pid, uid, auid, ses, subj before their text (kernel/audit.c).
    Row("USER_AUTH", 1100, True),
    Row("USER_ACCT", 1101, True),
    Row("USER_MGMT", 1102, True),
    Row("CRED_ACQ", 1103, True),
    Row("CRED_DISP", 1104, True),
    Row("USER_START", 1105, True),
    Row("USER_END", 1106, True),
    Row("USER_AVC", 1107, True),
    Row("USER_CHAUTHTOK", 1108, True),
    Row("USER_ERR", 1109, True),
    Row("CRED_REFR", 1110, True),
    Row("USYS_CONFIG", 1111, True),
    Row("USER_LOGIN", 1112, True),
    Row("USER_LOGOUT", 1113, True),
    Row("ADD_USER", 1114, True),
    Row("DEL_USER", 1115, True),
    Row("ADD_GROUP", 1116, True),
    Row("DEL_GROUP", 1117, True),
    Row("DAC_CHECK", 1118, True),
    Row("CHGRP_ID", 1119, True),
    Row("TEST", 1120, True),
    Row("TRUSTED_APP", 1121, True),
    Row("USER_SELINUX_ERR", 1122, True),
    Row("USER_CMD", 1123, True),
    Row("USER_TTY", 1124, True),
    Row("CHUSER_ID", 1125, True),
    Row("GRP_AUTH", 1126, True),
    Row("SYSTEM_BOOT", 1127, True),
    Row("SYSTEM_SHUTDOWN", 1128, True),
    Row("SYSTEM_RUNLEVEL", 1129, True),
    Row("SERVICE_START", 1130, True),
    Row("SERVICE_STOP", 1131, True),
    Row("GRP_MGMT", 1132, True),
    Row("GRP_CHAUTHTOK", 1133, True),
    Row("MAC_CHECK", 1134, True),
    Row("ACCT_LOCK", 1135, True),
    Row("ACCT_UNLOCK", 1136, True),
    Row("USER_DEVICE", 1137, True),
    Row("SOFTWARE_UPDATE", 1138, True),
    # auditd about itself, with serials of its own.
    Row("DAEMON_START", 1200, True),
    Row("DAEMON_END", 1201, True),
    Row("DAEMON_ABORT", 1202, True),
    Row("DAEMON_CONFIG", 1203, True),
    Row("DAEMON_RECONFIG", 1204, True),
    Row("DAEMON_ROTATE", 1205, True),
    Row("DAEMON_RESUME", 1206, True),
    Row("DAEMON_ACCEPT", 1207, False),
    Row("DAEMON_CLOSE", 1208, False),
    Row("DAEMON_ERR", 1209, False),
    # The parts of kernel events.
    Row("SYSCALL", 1300, True),
    Row("PATH", 1302, False),
    Row("IPC", 1303, False),
    Row("SOCKETCALL", 1304, False),
    Row("CONFIG_CHANGE", 1305, True),
    Row("SOCKADDR", 1306, False),
    Row("CWD", 1307, False),
    Row("EXECVE", 1309, False),
    Row("IPC_SET_PERM", 1311, False),
    Row("MQ_OPEN", 1312, False),
    Row("MQ_SENDRECV", 1313, False),
    Row("MQ_NOTIFY", 1314, False),
    Row("MQ_GETSETATTR", 1315, False),
    Row("KERNEL_OTHER", 1316, False),
    Row("FD_PAIR", 1317, False),
    Row("OBJ_PID", 1318, False),
    Row("TTY", 1319, True),
    Row("EOE", 1320, False),
    Row("BPRM_FCAPS", 1321, False),
    Row("CAPSET", 1322, False),
    Row("MMAP", 1323, False),
    Row("NETFILTER_PKT", 1324, False),
    Row("NETFILTER_CFG", 1325, False),
    Row("SECCOMP", 1326, True),
    Row("PROCTITLE", 1327, False),
    Row("FEATURE_CHANGE", 1328, True),
    Row("REPLACE", 1329, False),
    Row("KERN_MODULE", 1330, False),
    Row("FANOTIFY", 1331, False),
    Row("TIME_INJOFFSET", 1332, False),
    Row("TIME_ADJNTPVAL", 1333, False),
    Row("BPF", 1334, False),
    Row("EVENT_LISTENER", 1335, True),
    Row("URINGOP", 1336, False),
    Row("OPENAT2", 1337, False),
    Row("DM_CTRL", 1338, True),
    Row("DM_EVENT", 1339, False),
    # SELinux, NetLabel, IPE, Landlock.
    Row("AVC", 1400, False),
    Row("SELINUX_ERR", 1401, False),
    Row("AVC_PATH", 1402, False),
    Row("MAC_POLICY_LOAD", 1403, True),
    Row("MAC_STATUS", 1404, True),
    Row("MAC_CONFIG_CHANGE", 1405, True),
    Row("MAC_UNLBL_ALLOW", 1406, True),
    Row("MAC_CIPSOV4_ADD", 1407, True),
    Row("MAC_CIPSOV4_DEL", 1408, True),
    Row("MAC_MAP_ADD", 1409, True),
    Row("MAC_MAP_DEL", 1410, True),
    Row("MAC_IPSEC_ADDSA", 1411, True),
    Row("MAC_IPSEC_DELSA", 1412, True),
    Row("MAC_IPSEC_ADDSPD", 1413, True),
    Row("MAC_IPSEC_DELSPD", 1414, True),
    Row("MAC_IPSEC_EVENT", 1415, True),
    Row("MAC_UNLBL_STCADD", 1416, True),
    Row("MAC_UNLBL_STCDEL", 1417, True),
    Row("MAC_CALIPSO_ADD", 1418, True),
    Row("MAC_CALIPSO_DEL", 1419, True),
    Row("IPE_ACCESS", 1420, False),
    Row("IPE_CONFIG_CHANGE", 1421, True),
    Row("IPE_POLICY_LOAD", 1422, True),
    Row("LANDLOCK_ACCESS", 1423, False),
    Row("LANDLOCK_DOMAIN", 1424, False),
    Row("MAC_TASK_CONTEXTS", 1425, False),
    Row("MAC_OBJ_CONTEXTS", 1426, False),
    # AppArmor, out-of-tree forms.
    Row("APPARMOR", 1500, False),
    Row("APPARMOR_AUDIT", 1501, False),
    Row("APPARMOR_ALLOWED", 1502, False),
    Row("APPARMOR_DENIED", 1503, False),
    Row("APPARMOR_HINT", 1504, False),
    Row("APPARMOR_STATUS", 1505, False),
    Row("APPARMOR_ERROR", 1506, False),
    Row("APPARMOR_KILL", 1507, False),
    # Kernel anomalies.
    Row("ANOM_PROMISCUOUS", 1700, True),
    Row("ANOM_ABEND", 1701, True),
    Row("ANOM_LINK", 1702, True),
    Row("ANOM_CREAT", 1703, True),
    # Kernel integrity (IMA, EVM).
    Row("INTEGRITY_DATA", 1800, True),
    Row("INTEGRITY_METADATA", 1801, True),
    Row("INTEGRITY_STATUS", 1802, True),
    Row("INTEGRITY_HASH", 1803, True),
    Row("INTEGRITY_PCR", 1804, True),
    Row("INTEGRITY_RULE", 1805, True),
    Row("INTEGRITY_EVM_XATTR", 1806, False),
    Row("INTEGRITY_POLICY_RULE", 1807, False),
    # Anything else of the kernel.
    Row("KERNEL", 2000, False),
    # Anomalies that programs saw.
    Row("ANOM_LOGIN_FAILURES", 2100, True),
    Row("ANOM_LOGIN_TIME", 2101, True),
    Row("ANOM_LOGIN_SESSIONS", 2102, True),
    Row("ANOM_LOGIN_ACCT", 2103, True),
    Row("ANOM_LOGIN_LOCATION", 2104, True),
    Row("ANOM_MAX_DAC", 2105, True),
    Row("ANOM_MAX_MAC", 2106, True),
    Row("ANOM_AMTU_FAIL", 2107, True),
    Row("ANOM_RBAC_FAIL", 2108, True),
    Row("ANOM_RBAC_INTEGRITY_FAIL", 2109, True),
    Row("ANOM_CRYPTO_FAIL", 2110, True),
    Row("ANOM_ACCESS_FS", 2111, True),
    Row("ANOM_EXEC", 2112, True),
    Row("ANOM_MK_EXEC", 2113, True),
    Row("ANOM_ADD_ACCT", 2114, True),
    Row("ANOM_DEL_ACCT", 2115, True),
    Row("ANOM_MOD_ACCT", 2116, True),
    Row("ANOM_ROOT_TRANS", 2117, True),
    Row("ANOM_LOGIN_SERVICE", 2118, True),
    Row("ANOM_LOGIN_ROOT", 2119, True),
    Row("ANOM_ORIGIN_FAILURES", 2120, True),
    Row("ANOM_SESSION", 2121, True),
    # What programs did about anomalies.
    Row("RESP_ANOMALY", 2200, True),
    Row("RESP_ALERT", 2201, True),
    Row("RESP_KILL_PROC", 2202, True),
    Row("RESP_TERM_ACCESS", 2203, True),
    Row("RESP_ACCT_REMOTE", 2204, True),
    Row("RESP_ACCT_LOCK_TIMED", 2205, True),
    Row("RESP_ACCT_UNLOCK_TIMED", 2206, True),
    Row("RESP_ACCT_LOCK", 2207, True),
    Row("RESP_TERM_LOCK", 2208, True),
    Row("RESP_SEBOOL", 2209, True),
    Row("RESP_EXEC", 2210, True),
    Row("RESP_SINGLE", 2211, True),
    Row("RESP_HALT", 2212, True),
    Row("RESP_ORIGIN_BLOCK", 2213, True),
    Row("RESP_ORIGIN_BLOCK_TIMED", 2214, True),
    Row("RESP_ORIGIN_UNBLOCK_TIMED", 2215, True),
    # Roles and labels.
    Row("USER_ROLE_CHANGE", 2300, True),
    Row("ROLE_ASSIGN", 2301, True),
    Row("ROLE_REMOVE", 2302, True),
    Row("LABEL_OVERRIDE", 2303, True),
    Row("LABEL_LEVEL_CHANGE", 2304, True),
    Row("USER_LABELED_EXPORT", 2305, True),
    Row("USER_UNLABELED_EXPORT", 2306, True),
    Row("DEV_ALLOC", 2307, True),
    Row("DEV_DEALLOC", 2308, True),
    Row("FS_RELABEL", 2309, True),
    Row("USER_MAC_POLICY_LOAD", 2310, True),
    Row("ROLE_MODIFY", 2311, True),
    Row("USER_MAC_CONFIG_CHANGE", 2312, True),
    Row("USER_MAC_STATUS", 2313, True),
    # Cryptography.
    Row("CRYPTO_TEST_USER", 2400, True),
    Row("CRYPTO_PARAM_CHANGE_USER", 2401, True),
    Row("CRYPTO_LOGIN", 2402, True),
    Row("CRYPTO_LOGOUT", 2403, True),
    Row("CRYPTO_KEY_USER", 2404, True),
    Row("CRYPTO_FAILURE_USER", 2405, True),
    Row("CRYPTO_REPLAY_USER", 2406, True),
    Row("CRYPTO_SESSION", 2407, True),
    Row("CRYPTO_IKE_SA", 2408, True),
    Row("CRYPTO_IPSEC_SA", 2409, True),
    # Virtual machines.
    Row("VIRT_CONTROL", 2500, True),
    Row("VIRT_RESOURCE", 2501, True),
    Row("VIRT_MACHINE_ID", 2502, True),
    Row("VIRT_INTEGRITY_CHECK", 2503, True),
    Row("VIRT_CREATE", 2504, True),
    Row("VIRT_DESTROY", 2505, True),
    Row("VIRT_MIGRATE_IN", 2506, True),
    Row("VIRT_MIGRATE_OUT", 2507, True),
)


def _check(rows: tuple[Row, ...]) -> None:
    """ValueError for a row that is malformed or whose name or number another row has."""
    names: set[str] = set()
    numbers: set[int] = set()
    for row in rows:
        if not row.name.replace("_", "").isalnum() or row.name != row.name.upper() or not 1000 <= row.number <= 2999:
            raise ValueError(f"malformed record type: {row}")
        if row.name in names or row.number in numbers:
            raise ValueError(f"record type given twice: {row}")
        names.add(row.name)
        numbers.add(row.number)


_check(_ROWS)

RECORD_TYPES: dict[str, int] = {row.name: row.number for row in _ROWS}
"""Name to number."""

_REUSED = range(1420, 1427)
"""Numbers that patched kernels gave to other records before mainline gave them to those of the table."""

NAMES: dict[int, str] = {row.number: row.name for row in _ROWS if row.number not in _REUSED}
"""Number to name, for records that auditd printed as UNKNOWN[number]. Numbers that do not say which are not here."""

CARRIES_SESSION: frozenset[str] = frozenset(row.name for row in _ROWS if row.session)
"""The names of the types whose records say whose session it is."""

ENDS_EVENT: frozenset[int] = frozenset({RECORD_TYPES["EOE"], RECORD_TYPES["PROCTITLE"]})
"""Numbers of the types that are the last record of an event of several."""


def is_single_record(number: int) -> bool:
    """Whether a record of this type is an event by itself (as auparse decides it, audit_is_last_record)."""
    return (
        number == RECORD_TYPES["USER"]
        or RECORD_TYPES["LOGIN"] < number < RECORD_TYPES["SYSCALL"]
        or number == RECORD_TYPES["KERNEL"]
        or number >= RECORD_TYPES["ANOM_LOGIN_FAILURES"]
        or RECORD_TYPES["MAC_UNLBL_ALLOW"] <= number <= RECORD_TYPES["MAC_CALIPSO_DEL"]
    )


def carries_session(number: int) -> bool:
    """As CARRIES_SESSION, by number: types that are not in the table count by the block that they are in."""
    name = NAMES.get(number)
    if name is not None:
        return name in CARRIES_SESSION
    return 1100 <= number <= 1199 or 2100 <= number <= 2999
