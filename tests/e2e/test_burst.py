"""Bursts on a real kernel, and an output that takes nothing while rsyslogd and auditd go on.

First a session runs programs as fast as it can: with the backlog that the README asks for the kernel loses nothing, and
with one of 64 records and an auditd that stands still it does, which is told with its count. Then everything comes
through named pipes with ``--spool``, the output has no reader, and audito is killed: what happened meanwhile is all there
when somebody reads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import daemon
from .host import CERTIFICATES, CHANGES, Host, audit_status, why_not
from .scenario import Login, Person, Truth
from .undo import run, wait_until

Event = dict[str, Any]

REASON = (
    "changes this machine (accounts, audit rules, daemons): set AUDITO_E2E=1 to allow it"
    if os.environ.get("AUDITO_E2E") != "1"
    else why_not()
)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(240),
]

PROGRAMS = 3000
"""Of the burst: some 12,000 records in the time that four shells take to run them."""

SMALL_BACKLOG = 64
LOGINS = 8
PIPE_BYTES = 4096
PERSON = "alice@example.com"


@pytest.fixture(scope="module", name="host")
def _host(request: pytest.FixtureRequest) -> Iterator[Host]:
    terminal = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with terminal.global_and_fixture_disabled():
            print(text)

    say(
        f"\n{CHANGES}  also          a backlog of {SMALL_BACKLOG} records, and an auditd that stands still, for seconds\n"
    )
    with Host(say=say) as host:
        yield host


def log_in(host: Host, script: str) -> Login:
    return Person(host, Truth(), "127.0.0.21").log_in(
        "certificate", "core", PERSON, script, serial=CERTIFICATES[PERSON], timeout_s=120
    )


def burst(name: str, count: int) -> str:
    """A script that runs that many programs from four shells at once, each with a number of its own."""
    loop = "for n in $(seq $1 4 $2); do /bin/echo $3 $n; done >/dev/null"
    shells = " ".join(f"sh -c '{loop}' sh {first} {count} {name} &" for first in range(1, 5))
    return f"{shells} wait"


def numbers_of(events: list[Event], name: str) -> Counter[int]:
    """Of the programs of one burst that were told."""
    found = [event["metadata"]["extra"].get("process_args", []) for event in events if event["type"] == "UserAction"]
    return Counter(int(args[2]) for args in found if args[:2] == ["/bin/echo", name])


def gaps_of(events: list[Event], reason: str) -> list[int]:
    """The counts of the gaps of one reason."""
    gaps = [event["metadata"]["extra"] for event in events if event["type"] == "AuditGap"]
    return [gap["count"] for gap in gaps if gap["reason"] == reason]


def test_f29_a_burst_within_the_backlog_is_all_there(host: Host, tmp_path: Path) -> None:
    run("auditctl", "-b", "8192")  # the run puts back what it was
    run("auditctl", "--reset-lost")
    with daemon.on_directory_and_journal(host, tmp_path) as running:
        log_in(host, burst("within", PROGRAMS))
        running.wait_for(lambda events: len(numbers_of(events, "within")) == PROGRAMS)
        lost = audit_status()["lost"]
        assert running.stop() == 0
    events = running.events()
    assert lost == 0
    assert numbers_of(events, "within") == Counter(range(1, PROGRAMS + 1))
    assert gaps_of(events, "sequence") == []


@contextlib.contextmanager
def small_backlog() -> Iterator[None]:
    """The kernel drops what does not fit into a small backlog, and auditd stands still."""
    before = audit_status()
    pid = before["pid"]
    run("auditctl", "-b", str(SMALL_BACKLOG))
    run("auditctl", "--backlog_wait_time", "0")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        time.sleep(1)
        run("auditctl", "--backlog_wait_time", str(before["backlog_wait_time"]))
        run("auditctl", "-b", str(before["backlog_limit"]))


def test_f29_what_the_kernel_lost_of_a_burst_is_told_with_its_count(host: Host, tmp_path: Path) -> None:
    run("auditctl", "--reset-lost")
    with daemon.on_directory_and_journal(host, tmp_path) as running:
        with small_backlog():
            log_in(host, burst("beyond", PROGRAMS // 10))
        lost = audit_status()["lost"]
        run("auditctl", "--reset-lost")
        subprocess.run(["/usr/bin/uptime"], check=True, stdout=subprocess.DEVNULL)
        running.wait_for(lambda events: lost in gaps_of(events, "kernel_lost"))
        assert running.stop() == 0
    events = running.events()
    assert lost > 0
    assert lost in gaps_of(events, "kernel_lost")
    assert sum(numbers_of(events, "beyond").values()) < PROGRAMS // 10


# -- the spool


@dataclass
class Piped:
    """audito behind two small pipes, whose output nobody reads; ``relay``: of auditd's log, as tail does it."""

    directory: Path
    flags: tuple[str, ...]
    relay: subprocess.Popen[bytes]
    running: daemon.Daemon

    def restart(self) -> None:
        """Kill it, and start it anew."""
        self.running.kill()
        self.running = daemon.start(self.directory, *self.flags)

    def spooled(self) -> int:
        """Bytes in the spool's files."""
        return sum(path.stat().st_size for path in (self.directory / "state").glob("spool-*"))


@pytest.fixture(name="piped")
def _piped(host: Host, tmp_path: Path) -> Iterator[Piped]:
    audit_pipe = tmp_path / "audit.fifo"
    os.mkfifo(audit_pipe, 0o600)
    os.mkfifo(tmp_path / "events.jsonl", 0o600)
    daemon.drain(host.sshd_pipe_path)
    flags = ("-sshd-pipe-path", str(host.sshd_pipe_path), "-auditd-pipe-path", str(audit_pipe), "--spool", "64MiB")
    held = [os.open(path, os.O_RDWR) for path in (host.sshd_pipe_path, audit_pipe)]
    for pipe in held:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    log = str(host.audit_directory / "audit.log")
    relay = subprocess.Popen(["tail", "--lines=0", "-F", log], stdout=held[1], stderr=subprocess.DEVNULL)
    piped = Piped(tmp_path, flags, relay, daemon.start(tmp_path, *flags))
    try:
        daemon.wait_for_inputs(piped.running, host.sshd_pipe_path, audit_pipe)
        yield piped
    finally:
        relay.kill()
        relay.wait()
        piped.running.kill()
        for pipe in held:
            os.close(pipe)


def settled(piped: Piped) -> int:
    """Wait until nothing more comes into the spool; its bytes."""
    size = -1
    while size != piped.spooled():
        size = piped.spooled()
        time.sleep(1.5)
    return size


def read_all(path: Path, last: bytes) -> bytes:
    """What a reader gets who comes now and stays until this text has come and nothing follows it."""
    data = b""
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    deadline = time.monotonic() + 60
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and (last not in data or time.monotonic() - quiet_since < 3):
        if select.select([pipe], [], [], 0.1)[0] and (part := os.read(pipe, 1 << 20)):
            data += part
            quiet_since = time.monotonic()
    os.close(pipe)
    return data


def test_a_blocked_output_costs_rsyslog_and_auditd_nothing_with_a_spool(host: Host, piped: Piped) -> None:
    """More than the pipes hold comes through both, before a kill and after it; it is all there, and whose it was."""
    for number in range(LOGINS // 2):
        log_in(host, f"/bin/echo login {number}")
    log_in(host, burst("first", PROGRAMS // 4))
    assert settled(piped) > 64 * PIPE_BYTES, "the pipes alone would not have held it"
    piped.restart()
    wait_until("audito reads again", lambda: "reading audit" in piped.running.log.read_text())
    for number in range(LOGINS // 2, LOGINS):
        log_in(host, f"/bin/echo login {number}")
    log_in(host, burst("second", PROGRAMS // 4))
    settled(piped)
    data = read_all(piped.directory / "events.jsonl", b'"second","%d"' % (PROGRAMS // 4))
    events = daemon.lines_of(data)
    for name in ("first", "second"):
        assert set(numbers_of(events, name)) == set(range(1, PROGRAMS // 4 + 1)), name
    assert set(numbers_of(events, "login")) == set(range(LOGINS))
    whose = {event["subjects"]["userID"] for event in events if event["type"] == "UserAction"}
    assert whose == {PERSON}
    logins = {event["metadata"]["auditId"] for event in events if event["type"] == "UserLogin"}
    assert len(logins) == LOGINS + 2
    assert [event for event in events if event["type"] == "AuditGap"] == []
    assert piped.running.stop() == 0
