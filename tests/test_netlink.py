"""The kernel's own figures, from the kernel that runs here, and from a socket that plays it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audito import auditctl, netlink
from audito.netlink import AuditSocket, AuditStatus

ROOT = Path(__file__).parent.parent
ASK_TWICE = (
    "import os, time; from audito.netlink import AuditSocket; kernel = AuditSocket();"
    "{lose}; kernel.ask(); time.sleep(0.2); kernel.ask(); print(kernel.status)"
)


def answer_of_the_kernel() -> AuditStatus | None:
    """What AUDIT_GET gives here, after as long as the kernel's thread may take."""
    kernel = AuditSocket()
    try:
        deadline = time.monotonic() + 2
        while kernel.status is None and time.monotonic() < deadline:
            kernel.ask()
            time.sleep(0.02)
        return kernel.status
    finally:
        kernel.close()


def test_it_says_what_auditctl_says() -> None:
    if shutil.which("auditctl") is None:
        pytest.skip("no auditctl (package auditd)")
    asked = subprocess.run(["auditctl", "-s"], capture_output=True, text=True, check=False)
    told = auditctl.parse_status(asked.stdout)
    if asked.returncode or "backlog_limit" not in told:
        pytest.skip(f"the kernel does not answer here: {asked.stderr.strip() or asked.stdout.strip()}")
    status = answer_of_the_kernel()
    assert status is not None
    assert status.backlog_limit == told["backlog_limit"]
    assert status.lost >= told["lost"]


def test_without_the_privilege_there_is_no_figure_and_no_error() -> None:
    if os.geteuid() != 0:
        pytest.skip("is not root, and has nothing to give up")
    code = ASK_TWICE.format(lose="os.setgid(65534); os.setuid(65534)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None\n"


class Kernel:
    """A socket pair in place of netlink's: what a kernel may say that this one does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)

        class Ours:
            def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
                return ours.recv(size), (0, 0)

            def sendto(self, data: bytes, address: tuple[int, int]) -> int:
                assert address == (0, 0)
                return ours.send(data)

            def fileno(self) -> int:
                return ours.fileno()

            def close(self) -> None:
                ours.close()

        monkeypatch.setattr(netlink.socket, "socket", lambda *_: Ours())
        self.asker = AuditSocket()

    def answers(self, kind: int, body: bytes) -> None:
        self.theirs.send(netlink.HEADER.pack(netlink.HEADER.size + len(body), kind, 0, 0, 0) + body)


@pytest.fixture(name="kernel")
def _kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel(monkeypatch)
    yield kernel
    kernel.asker.close()
    kernel.theirs.close()


def test_an_answer_of_any_length_is_read(kernel: Kernel) -> None:
    body = netlink.STATUS.pack(0x7F, 1, 1, 77, 0, 8192, 12, 3)
    for more in (b"", b"\0" * 4, b"\xff" * 64):
        kernel.answers(netlink.AUDIT_GET, body + more)
        kernel.asker.ask()
        assert kernel.asker.status == AuditStatus(lost=12, backlog=3, backlog_limit=8192)


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 15, b"\xff" * 16, b"\xff" * 4096])
def test_what_is_no_answer_is_passed(kernel: Kernel, data: bytes) -> None:
    kernel.theirs.send(data)
    kernel.answers(netlink.AUDIT_GET, b"short")
    kernel.asker.ask()
    assert kernel.asker.status is None
    kernel.answers(netlink.AUDIT_GET, netlink.STATUS.pack(*range(8)))
    kernel.asker.ask()
    assert kernel.asker.status == AuditStatus(lost=6, backlog=7, backlog_limit=5)


def test_a_refusal_ends_it_and_an_old_figure_goes_too(kernel: Kernel) -> None:
    kernel.answers(netlink.AUDIT_GET, netlink.STATUS.pack(*range(8)))
    kernel.asker.ask()
    kernel.answers(netlink.NLMSG_ERROR, b"\xff\xff\xff\xff")
    for _ in range(3):
        kernel.asker.ask()
        assert kernel.asker.status is None
