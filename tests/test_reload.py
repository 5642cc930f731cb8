"""SIGHUP: the configuration is read again by a running daemon, and what it says is done, refused, or put off."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from audito.config import Config, rows

from .test_daemon import (  # noqa: F401  # the fixtures
    ROOT,
    Running,
    Start,
    _files,
    _home,
    _pipes,
    _start,
    append,
    command,
    commands,
    identities,
    login_line,
    opened,
    sequences,
    wait_for,
)

CONFIG_ERRORS = 'audito_maldito_errors_total{type="config"}'


class Host:
    """A daemon with a file of settings, which it is told to read again."""

    def __init__(self, start: Start, home: Path, flags: list[str], settings: str = "", **more: str) -> None:
        self.file = home / "audito.toml"
        self.file.write_text(settings)
        self.run: Running = start(*flags, "--config", str(self.file), environ=more)
        self._reloads = 0

    def reload(self, settings: str | None = None) -> str:
        """Send SIGHUP with these settings in the file; returns what was logged about it."""
        if settings is not None:
            self.file.write_text(settings)
        self._reloads += 1
        before = len(self.run.log_text())
        self.run.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.count() == self._reloads, f"reload {self._reloads}: {self.run.log_text()}")
        return self.run.log_text()[before:]

    def count(self) -> float:
        """The reloads that it took up and those that it refused."""
        return self.run.metric("audito_config_reloads_total") + self.run.metric(CONFIG_ERRORS)


@pytest.fixture(name="host")
def _host(start: Start, home: Path, pipes: list[str]) -> Host:
    return Host(start, home, pipes)


def test_context_changes(host: Host) -> None:
    run = host.run
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    host.reload("context = 'none'\n")
    run.write("audit", command(7, 3))
    run.wait_sequences([2, 3])
    host.reload("context = ['tty']\n")
    run.write("audit", command(7, 4))
    events = [event for event in run.wait_sequences([2, 3, 4]) if event["type"] == "UserAction"]
    told = [event["metadata"]["extra"].get("tty") for event in events]
    assert told[-3:] == ["pts0", None, "pts0"]
    assert run.stop() == 0


def test_filters_and_redaction_change_and_their_counts_go_on(host: Host) -> None:
    def secret(seq: int) -> str:
        return (
            command(7, seq)
            .replace('argc=2 a0="echo" ', 'argc=3 a0="echo" a1="--password=hunter2" ')
            .replace(f'a1="{seq}"', f'a2="{seq}"')
        )

    run = host.run
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + secret(2))
    run.wait_sequences([2])
    host.reload(
        "redact-off = ['all']\nfilter = ['drop some action=executed object=*/nothing', 'drop all action=executed']\n"
    )
    run.write("audit", secret(3))
    wait_for(lambda: run.metric('audito_filter_hits_total{filter="all"}') == 1, "the filter drops")
    host.reload("redact-off = ['all']\n")
    run.write("audit", secret(4))
    run.wait_sequences([2, 4])
    host.reload("filter = ['keep all action=executed']\n")
    run.write("audit", secret(5))
    events = [event["metadata"]["extra"] for event in run.wait_sequences([2, 4, 5]) if event["type"] == "UserAction"]
    secrets = ["hunter2" in str(extra["process_args"]) for extra in events if extra["action"] == "executed"]
    assert secrets == [False, True, False]
    assert run.metric("audito_actions_dropped_total") == 1
    assert run.stop() == 0


def test_event_types_change_and_no_session_is_forgotten(host: Host) -> None:
    run = host.run
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    host.reload("event-types = ['UserLogin']\n")
    run.write("audit", command(7, 3))
    run.write("sshd", login_line(101, "bob"))
    wait_for(lambda: len([e for e in run.events() if e["type"] == "UserLogin"]) == 2, "logins go on")
    assert sequences(run.events()) == [2]
    host.reload("event-types = ['UserAction']\n")
    run.write("sshd", login_line(102, "carol"))
    run.write("audit", command(7, 4))
    events = run.wait_sequences([2, 4])
    assert identities(events) == {"alice@foo.com"}
    assert "carol" not in str(events)
    assert run.stop() == 0


def test_what_is_held_at_the_reload_is_written(host: Host) -> None:
    run = host.run
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 50) + command(7, 52)[:80])
    wait_for(lambda: run.metric("audito_held_events") >= 50, "it waits for its login line")
    host.reload("join-window = '5m'\n")
    run.write("audit", command(7, 52)[80:])
    run.write("sshd", login_line(100))
    assert identities(run.wait_sequences(list(range(2, 53)))) == {"alice@foo.com"}
    assert run.stop() == 0


def test_reloads_in_the_midst_of_events_lose_none(host: Host) -> None:
    """All that can change changes, some twenty times, while 20,000 commands come."""
    run = host.run
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1))
    writer = threading.Thread(
        target=lambda: [run.write("audit", commands(7, first, 100)) for first in range(2, 20002, 100)]
    )
    writer.start()
    for number in range(20):
        host.reload(
            f"join-window = '{number + 1}m'\nlog-level = '{'info' if number % 2 else 'debug'}'\naudit-metrics = true\n"
            f"event-types = 'UserAction, {'UserLogin' if number % 2 else 'UserLogout'}'\n"
        )
    writer.join()
    assert identities(run.wait_sequences(list(range(2, 20002)))) == {"alice@foo.com"}
    assert run.stop() == 0


def test_the_join_window_changes_for_what_waits_already(start: Start, home: Path, pipes: list[str]) -> None:
    host = Host(start, home, pipes, "join-window = '1h'\n")
    host.run.write("audit", opened(7, 100, 1) + command(7, 2))
    wait_for(lambda: host.run.metric("audito_held_events") > 0, "it waits")
    time.sleep(3)
    assert not host.run.events()
    host.reload("join-window = '1s'\n")
    assert identities(host.run.wait_sequences([2])) == {"unknown"}
    assert host.run.stop() == 0


def test_the_log_level_changes(host: Host) -> None:
    assert "reopening output" in host.reload()
    assert "reopening output" not in host.reload("log-level = 'error'\n")
    assert "reopening output" in host.reload("log-level = 'info'\n")
    assert host.run.stop() == 0


def test_rejected_lines_go_to_another_file_and_to_none(start: Start, home: Path, pipes: list[str]) -> None:
    host = Host(start, home, pipes, f"reject-log = '{home}/first'\n")
    host.run.write("audit", "garbage one\n")
    wait_for(lambda: (home / "first").exists(), "the first reject log")
    host.reload(f"reject-log = '{home}/second'\n")
    host.run.write("audit", "garbage two\n")
    host.run.write("sshd", "garbage three\n")
    wait_for(lambda: (home / "second").exists() and (home / "second").read_text().count("\n") == 2, "the second")
    assert stat.S_IMODE((home / "second").stat().st_mode) == 0o640
    host.reload("")
    host.run.write("audit", "garbage four\n")
    wait_for(lambda: host.run.metric("audito_reject_not_a_record_total") == 3, "it is counted")
    assert host.run.stop() == 0
    assert (home / "first").read_text() == "garbage one\n"
    assert sorted((home / "second").read_text().splitlines()) == ["garbage three", "garbage two"]


def test_a_reject_log_where_there_was_none_needs_a_restart(host: Host, home: Path) -> None:
    assert "needs a restart, and stays as it is until then: reject-log\n" in host.reload(f"reject-log = '{home}/r'\n")
    host.run.write("audit", "garbage\n")
    wait_for(lambda: host.run.metric("audito_reject_not_a_record_total") == 1, "it is counted")
    assert host.run.stop() == 0
    assert not (home / "r").exists()


def get(port: int, path: str) -> int | None:
    """The status of a GET, None where nobody listens, or no more."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            return int(sock.recv(4096).split()[1])
    except (ConnectionRefusedError, ConnectionResetError):
        return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_http_comes_moves_and_goes(start: Start, home: Path, pipes: list[str]) -> None:
    first, second = free_port(), free_port()
    file = home / "audito.toml"
    file.write_text("")
    run = start(*pipes, "--config", str(file), http_flags=(), ready=False)
    wait_for(lambda: run.said("reading audit"), "the start")

    def reload(settings: str) -> None:
        file.write_text(settings)
        run.process.send_signal(signal.SIGHUP)

    reload(f"healthz = true\nhttp-address = '127.0.0.1:{first}'\n")
    wait_for(lambda: get(first, "/readyz") == 200, "it serves")
    assert get(first, "/metrics") == 404
    reload(f"healthz = true\nmetrics = true\nhttp-address = '127.0.0.1:{first}'\n")
    wait_for(lambda: get(first, "/metrics") == 200, "another page at the same address")
    reload(f"metrics = true\nhttp-address = '127.0.0.1:{second}'\n")
    wait_for(lambda: get(second, "/metrics") == 200, "another address")
    assert get(first, "/readyz") is None
    assert get(second, "/readyz") == 404
    reload("")
    wait_for(lambda: get(second, "/metrics") is None, "no server")
    reload(f"metrics = true\nhttp-address = '127.0.0.1:{first}'\n")
    reload(f"metrics = true\nhttp-address = '127.0.0.1:{second}'\n")
    wait_for(lambda: get(second, "/metrics") == 200, "again")
    assert get(first, "/metrics") is None
    assert run.stop() == 0


def test_http_timeouts_change(host: Host) -> None:
    host.reload("http-server-read-timeout = '200ms'\nhttp-server-read-header-timeout = '0'\n")
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", host.run.port()), 5) as sock:
        sock.sendall(b"GET /re")
        assert sock.recv(10) == b""
    assert 0.1 < time.monotonic() - began < 0.9
    assert host.run.stop() == 0


def test_flags_stay_and_variables_stay(start: Start, home: Path, pipes: list[str]) -> None:
    host = Host(start, home, [*pipes, "--log-level", "info"], AUDITO_JOIN_WINDOW="1h")
    assert "reopening" in host.reload("log-level = 'error'\njoin-window = '1s'\n")
    host.run.write("audit", opened(7, 100, 1) + command(7, 2))
    time.sleep(4)
    assert "reopening" in host.reload()
    assert not host.run.events()
    assert host.run.stop() == 0


def test_what_cannot_change_is_named_and_stays(host: Host) -> None:
    said = host.reload(f"user = 'nobody'\nmachine-id = 'other'\nboot-id = '{'0' * 32}'\nlog-level = 'debug'\n")
    assert "warn needs a restart, and stays as it is until then: machine-id, boot-id, user\n" in said
    host.run.write("sshd", login_line(100))
    wait_for(lambda: host.run.events(), "a login")
    assert host.run.events()[0]["target"]["machine-id"] != "other"
    assert "Uid:\t0" in Path(f"/proc/{host.run.process.pid}/status").read_text() or os.geteuid() != 0
    # It is said each time, until it is mended or the daemon was restarted.
    assert "needs a restart" in host.reload()
    assert "needs a restart" not in host.reload("")
    assert host.run.stop() == 0


def test_sources_and_state_need_a_restart(start: Start, home: Path) -> None:
    settings = f"sshd-pipe-path = '{home}/sshd'\nauditd-pipe-path = '{home}/audit'\noutput = '{home}/out'\n"
    host = Host(start, home, [], settings)
    said = host.reload(f"sshd-log-path = '{home}/log'\noutput = '{home}/elsewhere'\naudit-dir-path = '/elsewhere'\n")
    names = "audit-dir-path, auditd-pipe-path, sshd-pipe-path, sshd-log-path, output"
    assert f"needs a restart, and stays as it is until then: {names}\n" in said
    host.run.write("sshd", login_line(100))
    wait_for(lambda: host.run.events(), "the pipe is still read, and the output still written")
    assert host.run.stop() == 0
    assert not (home / "elsewhere").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("join-window = 'for ever'\n", "key join-window"),
        ("event-types = ['UserLogin']\nnonsense = 1\n", "unknown key nonsense"),
        ("x = " + "[" * 100_000, "audito.toml: "),
        ("\x00\x1b[2J", "audito.toml: "),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_configuration_is_refused_and_the_old_one_stays(host: Host, settings: str | None, told: str) -> None:
    run = host.run
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1))
    host.reload("event-types = ['UserAction']\n")
    run.out.rename(run.out.with_suffix(".1"))
    if settings is None:
        host.file.unlink()
    said = host.reload(settings)
    assert re.search(rf" error the configuration is refused, the old one stays: .*{told}", said)
    assert "\x1b" not in said
    assert run.metric(CONFIG_ERRORS) == 1
    assert run.metric("audito_config_reloads_total") == 1
    assert run.get("/readyz")[0] == 200, "the old one is as good as before"
    assert run.out.exists(), "a rotation is heeded all the same"
    run.write("audit", command(7, 2))
    run.write("sshd", login_line(101))
    assert [event["type"] for event in run.wait_sequences([2])] == ["UserAction"]
    assert "refused" not in host.reload("event-types = ['UserLogin']\n")
    assert run.stop() == 0


def test_a_storm_of_reloads(host: Host) -> None:
    run = host.run
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1))
    for number in range(300):
        host.file.write_text("nonsense\n" if number % 3 == 0 else "join-window = '1m'\n")
        run.process.send_signal(signal.SIGHUP)
    run.write("audit", command(7, 2))
    run.wait_sequences([2])
    assert run.stop() == 0


def test_the_age_of_the_audit_log_is_looked_at_from_the_reload_on(start: Start, home: Path, files: list[str]) -> None:
    host = Host(start, home, files)
    append(home / "log.d/audit.log", "x")
    assert "audito_maldito_audit_log_check" not in host.run.get("/metrics")[1]
    host.reload("audit-metrics = true\naudit-log-last-modify-seconds-threshold = 77\n")
    name = 'audito_maldito_audit_log_check{threshold_time_in_seconds="77"}'
    wait_for(lambda: name in host.run.get("/metrics")[1], "its age")
    host.reload("")
    assert "audito_maldito_audit_log_check" not in host.run.get("/metrics")[1]
    assert host.run.stop() == 0


def test_what_can_change_is_documented() -> None:
    section = (ROOT / "docs/operation.md").read_text().partition("## SIGHUP")[2]
    listed = section.partition("between two reads of the input:")[2].partition("Flags stay")[0]
    documented = re.findall(r"`([a-z-]+)`", listed)
    assert documented == [row.setting.name for row in rows(Config) if row.setting.live]
