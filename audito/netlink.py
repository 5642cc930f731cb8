"""Asks the kernel's audit system how it is: records lost since boot, records that wait for auditd.

It answers a process with CAP_AUDIT_CONTROL in the first pid and user namespaces, and no other; a daemon without that
is told nothing, which is no error. The kernel starts a thread for each answer, which takes some 100 us: a question is
asked for a scrape and not by the second. Source: audit_receive_msg() in the kernel's kernel/audit.c.
"""

from __future__ import annotations

import select
import socket
import struct

from msgspec import Struct

NETLINK_AUDIT = 9
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
AUDIT_GET = 1000
"""Source: linux/netlink.h, linux/audit.h."""

HEADER = struct.Struct("=IHHII")
"""Length with this header, type, flags, sequence, port."""

STATUS = struct.Struct("=8I")
"""mask, enabled, failure, pid, rate_limit, backlog_limit, lost, backlog; newer kernels have more behind these."""

ANSWER_BYTES_MAX = 4096
ANSWERS_MAX = 16
"""Taken at one look; there is one for each question."""

ANSWER_MS_MAX = 5
"""How long the loop may wait; an answer that takes longer is fetched the next time."""


class AuditStatus(Struct, frozen=True):
    """``lost``: records that the kernel dropped since boot, or since somebody set it back; ``backlog``: that wait."""

    lost: int
    backlog: int
    backlog_limit: int


class AuditSocket:
    """A question to the kernel, asked again and again. Errors: none, ``status`` is None where there is no answer."""

    def __init__(self) -> None:
        self.status: AuditStatus | None = None
        self._socket: socket.socket | None = None
        try:
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_AUDIT)
        except OSError:
            pass  # no such family for us (systemd's RestrictAddressFamilies=), or no auditing in this kernel

    def ask(self) -> None:
        """Ask, and take what has been answered. A refusal is the last word."""
        if self._socket is None:
            return
        try:
            message = HEADER.pack(HEADER.size, AUDIT_GET, NLM_F_REQUEST, 0, 0)
            self._socket.sendto(message, (0, 0))
            _wait(self._socket)
            self._take(self._socket)
        except OSError:
            self.close()

    def _take(self, sock: socket.socket) -> None:
        """Errors: OSError for a refusal."""
        for _ in range(ANSWERS_MAX):
            try:
                data, sender = sock.recvfrom(ANSWER_BYTES_MAX)
            except OSError:
                return  # nothing yet, or more came than the socket holds: the next look will tell
            # Port 0 is the kernel; any process of root's may send to us, too.
            if len(data) < HEADER.size or sender[0] != 0:
                continue
            _, kind, *_ = HEADER.unpack_from(data)
            body = data[HEADER.size :]
            if kind == NLMSG_ERROR:
                raise OSError("the kernel answers others only")
            if kind == AUDIT_GET and len(body) >= STATUS.size:
                _, _, _, _, _, limit, lost, backlog = STATUS.unpack_from(body)
                self.status = AuditStatus(lost, backlog, limit)

    def close(self) -> None:
        """No more questions; what was told last is no longer true."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.status = None


def _wait(sock: socket.socket) -> None:
    """Until there is an answer. Not by select(2), which knows no descriptor above 1023."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    poller.poll(ANSWER_MS_MAX)
