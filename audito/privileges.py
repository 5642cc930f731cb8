"""Giving up root once all is open: another user, and of root's powers only the one to read files.

``CAP_DAC_READ_SEARCH`` stays, because auditd makes each new ``audit.log`` 0600 for root, and journald its
files 0640: without it the first rotation would end the reading. It does not allow writing anything.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pwd
from dataclasses import dataclass

from audito.errors import AuditoError

logger = logging.getLogger(__name__)

CAP_DAC_READ_SEARCH = 2
_CAP_SETPCAP = 8
_CAP_COUNT_MAX = 64
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4


class PrivilegeError(AuditoError):
    """The process cannot become what ``--user`` asks for; it must not go on as what it is."""


@dataclass(frozen=True)
class User:
    """Whom to become. ``groups``: primary and supplementary, as a login of that user would have."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def find_user(name: str) -> User:
    """The account ``name``: a name, or a number, which in a container need not have an entry.

    Errors: PrivilegeError for a name that nobody has, and for root.
    """
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        user = User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))
    except (KeyError, OverflowError):
        if not name.isdecimal() or not 0 < int(name) < 0xFFFFFFFF:
            raise PrivilegeError(f"--user {name}: there is no such user") from None
        user = User(name, int(name), int(name), (int(name),))
    if user.uid == 0:
        raise PrivilegeError(f"--user {name}: that is root; leave --user out to stay root")
    return user


def drop(user: User) -> None:
    """Become ``user`` for good, keeping CAP_DAC_READ_SEARCH where we have it, and never gain anything again.

    Must run before the process has a second thread: the kernel keeps capabilities by thread.
    Errors: PrivilegeError; the process may then be half way and has to end.
    """
    if os.geteuid() != 0:
        if os.geteuid() != user.uid:
            raise PrivilegeError(f"--user {user.name}: only root can become another user, this is uid {os.geteuid()}")
        _no_new_privileges()
        return
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise PrivilegeError(f"--user {user.name}: {threads} threads run already, they would stay root")
    libc = _libc()
    keep = _permitted(libc) & (1 << CAP_DAC_READ_SEARCH)
    try:
        _drop_bounding_set(libc, keep)
        _prctl(libc, _PR_SET_KEEPCAPS, 1)
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        _set_capabilities(libc, keep)
        _prctl(libc, _PR_SET_KEEPCAPS, 0)
        _no_new_privileges()
    except OSError as exc:
        raise PrivilegeError(f"--user {user.name}: cannot give up root: {exc.strerror}") from exc
    _check_gone(user)
    if not keep:
        logger.warning(
            "no CAP_DAC_READ_SEARCH to keep: what %s may not read is out of reach after a rotation", user.name
        )
    logger.info("now running as %s (uid %d, gid %d)", user.name, user.uid, user.gid)


def _check_gone(user: User) -> None:
    """What the kernel says after the change, because a change that did not happen must not pass for one."""
    try:
        os.setresuid(-1, 0, -1)
    except PermissionError:
        if (os.getresuid(), os.getresgid()) == ((user.uid,) * 3, (user.gid,) * 3):
            return
    raise PrivilegeError(f"--user {user.name}: root was not given up")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> int:
    """prctl(2) with one argument. Errors: OSError."""
    args = [ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)]
    result: int = libc.prctl(ctypes.c_int(option), *args)
    if result < 0:
        raise _last_error()
    return result


def _no_new_privileges() -> None:
    _prctl(_libc(), _PR_SET_NO_NEW_PRIVS, 1)


def _drop_bounding_set(libc: ctypes.CDLL, keep: int) -> None:
    """Take from the bounding set what is not kept, so that no program started later can have it."""
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if not _permitted(libc) & (1 << _CAP_SETPCAP):
        return
    for cap in range(_CAP_COUNT_MAX):
        try:
            held = _prctl(libc, _PR_CAPBSET_READ, cap)
        except OSError:
            return  # past the last capability that this kernel knows
        if held and not keep & (1 << cap):
            _prctl(libc, _PR_CAPBSET_DROP, cap)


def _permitted(libc: ctypes.CDLL) -> int:
    """The permitted set of this thread, as bits."""
    data = (_CapData * 2)()
    if libc.capget(ctypes.byref(_CapHeader(_CAPABILITY_VERSION_3, 0)), data) != 0:
        raise _last_error()
    return int(data[0].permitted) | int(data[1].permitted) << 32


def _set_capabilities(libc: ctypes.CDLL, keep: int) -> None:
    """Effective and permitted become ``keep``; nothing is inheritable."""
    low, high = keep & 0xFFFFFFFF, keep >> 32
    data = (_CapData * 2)(_CapData(low, low, 0), _CapData(high, high, 0))
    if libc.capset(ctypes.byref(_CapHeader(_CAPABILITY_VERSION_3, 0)), data) != 0:
        raise _last_error()


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
