"""deploy/rsyslog with a real rsyslogd: sshd's lines and auditd's log through both pipes into the real daemon."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.programs import DEPLOY, find, output_of
from tests.deploy.running import EXAMPLES, Started, expected_users, started, until, users_of

RSYSLOG = DEPLOY / "rsyslog"
FILES = ("60-audito-sshd.conf", "61-audito-audit.conf")
SYSLOG_LINES_MAX = 100

# As Debian's rsyslog.conf: the inputs are loaded before the files of /etc/rsyslog.d are read.
HEAD = """\
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" socket="DIRECTORY/log" useSpecialParser="on")
global(workDirectory="DIRECTORY/spool")
"""


def configuration(directory: Path) -> Path:
    """Our files as they stand, with the directories of this test in the place of the host's."""
    text = HEAD.replace("DIRECTORY", str(directory))
    for name in FILES:
        text += (RSYSLOG / name).read_text(encoding="utf-8")
    text = text.replace("/run/audito/", f"{directory}/run/").replace("/var/log/audit/", f"{directory}/audit/")
    path = directory / "rsyslog.conf"
    path.write_text(text)
    return path


@contextlib.contextmanager
def rsyslogd(directory: Path) -> Iterator[None]:
    """A private rsyslogd with our files."""
    pid_path = directory / "rsyslogd.pid"
    command = [find("rsyslogd"), "-n", "-f", str(configuration(directory)), "-i", str(pid_path)]
    with (directory / "rsyslogd.out").open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until("rsyslogd", lambda: (directory / "log").exists() and pid_path.exists())
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory that stands for a host: pipes, an audit log that is still empty, a place for queues."""
    find("rsyslogd")
    for name in ("run", "audit", "spool"):
        (tmp_path / name).mkdir()
    for name in ("sshd-pipe", "audit-pipe"):
        os.mkfifo(tmp_path / "run" / name, 0o600)
    (tmp_path / "audit" / "audit.log").touch()
    return tmp_path


@contextlib.contextmanager
def audito(host: Path) -> Iterator[Started]:
    """The daemon on both pipes."""
    args = [
        *("--healthz", "--output", "-", "--state-dir", str(host / "state")),
        *("--sshd-pipe-path", f"{host}/run/sshd-pipe", "--auditd-pipe-path", f"{host}/run/audit-pipe"),
    ]
    with started(host, args, {"NODE_NAME": "bastion"}) as daemon:
        daemon.wait_ready()
        yield daemon


def log_sshd(host: Path, *messages: str, tag: str = "sshd") -> None:
    """Log as sshd does with syslog(3); each message is "PID MESSAGE"."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.connect(str(host / "log"))
        for message in messages:
            pid, _, text = message.partition(" ")
            log.send(f"<86>Nov 23 04:48:27 {tag}[{pid}]: {text}".encode())


def captured_sshd_lines() -> list[str]:
    lines = (EXAMPLES / "sshd.pipe").read_text(encoding="utf-8").splitlines()
    assert 0 < len(lines) < SYSLOG_LINES_MAX
    return lines


def test_rsyslogd_takes_the_files(host: Path) -> None:
    output_of(find("rsyslogd"), "-N1", "-f", configuration(host))


def test_a_session_through_both_pipes(host: Path) -> None:
    with rsyslogd(host), audito(host) as daemon:
        log_sshd(host, *captured_sshd_lines())
        with (host / "audit" / "audit.log").open("ab") as log:
            log.write((EXAMPLES / "audit.log").read_bytes())
        until("events of all logins", lambda: expected_users() <= users_of(daemon.events(), "UserLogout"))
        assert daemon.stop() == 0
        events = daemon.events()
    expected = output_of(
        *(sys.executable, "-m", "audito", "replay", "--audit", EXAMPLES / "audit.log", "--sshd", EXAMPLES / "sshd.log"),
        *("--event-types", "UserAction"),
    )
    sequences = sorted(re.findall(r'"sequence":(\d+)', expected))
    actions = [event for event in events if event["type"] == "UserAction"]
    assert sorted(str(action["metadata"]["extra"]["sequence"]) for action in actions) == sequences
    assert users_of(actions, "UserAction") == expected_users()


def test_lines_that_come_while_audito_is_away_are_kept(host: Path) -> None:
    with rsyslogd(host):
        log_sshd(host, *captured_sshd_lines())
        with audito(host) as daemon:
            until("logins", lambda: expected_users() <= users_of(daemon.events(), "UserLogin"))


def test_the_programs_of_newer_sshd_and_nobody_elses(host: Path) -> None:
    accepted = "Accepted password for {} from 192.0.2.1 port 22 ssh2"
    with rsyslogd(host), audito(host) as daemon:
        log_sshd(host, f"301 {accepted.format('forged')}", tag="sshd-agent")
        log_sshd(host, f"302 {accepted.format('forged')}", tag="login")
        for number, tag in enumerate(("sshd", "sshd-session", "sshd-auth")):
            log_sshd(host, f"40{number} {accepted.format(tag)}", tag=tag)
        log_sshd(host, f"500 {accepted.format('last')}")
        until("the last", lambda: any(e["subjects"]["loggedAs"] == "last" for e in daemon.events()))
        users = [(e["subjects"]["loggedAs"], e["subjects"]["pid"]) for e in daemon.events() if e["type"] == "UserLogin"]
    assert users == [("sshd", "400"), ("sshd-session", "401"), ("sshd-auth", "402"), ("last", "500")]


def test_a_long_record_is_not_cut(host: Path) -> None:
    long = "".join(f" a{n}={'41' * 1000}" for n in range(8))
    record = f"type=EXECVE msg=audit(1795409307.813:77): argc=8{long}\n"
    out = host / "run" / "audit-pipe"
    reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with rsyslogd(host):
            (host / "audit" / "audit.log").write_text(record)
            got = b""

            def read() -> bool:
                nonlocal got
                with contextlib.suppress(BlockingIOError):
                    got += os.read(reader, 1 << 20)
                return got.endswith(b"\n")

            until("the record", read)
    finally:
        os.close(reader)
    assert got.decode() == record


def test_the_pipes_are_made_for_root_alone(tmp_path: Path) -> None:
    conf = tmp_path / "audito.conf"
    shutil.copy(RSYSLOG / "audito.tmpfiles.conf", conf)
    if os.geteuid() != 0:
        pytest.skip("only root can make what belongs to root")
    output_of(find("systemd-tmpfiles"), f"--root={tmp_path}", "--create", conf)
    for name in ("sshd-pipe", "audit-pipe"):
        path = tmp_path / "run" / "audito" / name
        assert path.is_fifo()
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, 0)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for name in FILES:
        assert set(re.findall(r"/run/audito/\S+?(?=\")", (RSYSLOG / name).read_text())) <= {
            f"/run/audito/{pipe}" for pipe in ("sshd-pipe", "audit-pipe")
        }
