"""What a service manager hears: a real datagram socket as NOTIFY_SOCKET, and the daemon as a process."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from audito import service
from audito.config import load

from .test_daemon import (  # noqa: F401  # the fixtures
    ROOT,
    Running,
    Start,
    _files,
    _home,
    _pipes,
    _start,
    command,
    login_line,
    opened,
    wait_for,
)


class Manager:
    """A socket that hears what systemd would hear; each message comes with the monotonic time of its arrival."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[tuple[float, dict[str, str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def messages(self) -> list[dict[str, str]]:
        """All that was heard so far, in order."""
        while True:
            try:
                text = self._socket.recv(8192).decode()
            except BlockingIOError:
                return [message for _, message in self.heard]
            self.heard.append((time.monotonic(), dict(line.split("=", 1) for line in text.splitlines())))

    def with_field(self, name: str) -> list[dict[str, str]]:
        """The messages that carry a field."""
        return [message for message in self.messages() if name in message]

    def listen_for(self, seconds: float) -> None:
        """Take the messages as they come, so that their times are right."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.messages()
            time.sleep(0.005)

    def wait(self, name: str, count: int = 1) -> dict[str, str]:
        """The ``count``-th message that carries the field."""
        wait_for(lambda: len(self.with_field(name)) >= count, f"{name} for the {count}. time: {self.messages()}")
        return self.with_field(name)[count - 1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(name="manager")
def _manager(home: Path) -> Iterator[Manager]:
    manager = Manager(home / "notify")
    yield manager
    manager.close()


def under(manager: Manager, **more: str) -> dict[str, str]:
    """The environment of a process that this manager starts."""
    return {"NOTIFY_SOCKET": str(manager.path), **more}


def test_ready_when_every_source_is_open_and_not_before(
    start: Start, files: list[str], home: Path, manager: Manager
) -> None:
    (home / "log.d").rmdir()
    run = start(*files, ready=False, environ=under(manager))
    status = manager.wait("STATUS")["STATUS"]
    assert f"audit: {home}/log.d" in status
    assert "READY" not in str(manager.messages())
    (home / "log.d").mkdir()
    (home / "log.d/audit.log").touch()
    ready = manager.wait("READY")
    assert ready["READY"] == "1"
    assert re.search(r"^0 sessions; 0 records, 0 events; 0 bytes written; \d+ errors$", ready["STATUS"])
    assert run.states()["overall"] == "ok"
    assert run.stop() == 0


def test_not_ready_without_a_reader_of_the_output(start: Start, pipes: list[str], home: Path, manager: Manager) -> None:
    os.mkfifo(home / "out")
    run = start(*pipes, ready=False, environ=under(manager))
    assert "output: " in manager.wait("STATUS")["STATUS"]
    time.sleep(1.5)
    assert not manager.with_field("READY")
    reader = os.open(home / "out", os.O_RDONLY | os.O_NONBLOCK)
    manager.wait("READY")
    os.close(reader)
    assert run.stop() == 0


def check_beats(manager: Manager, watchdog_s: int) -> None:
    """Each at half of the time after which the manager would take the process for dead."""
    beats = [at for at, message in manager.heard if message.get("WATCHDOG") == "1"]
    gaps = [later - earlier for earlier, later in pairwise(beats)]
    assert len(gaps) >= 4
    assert max(gaps) < 0.75 * watchdog_s
    assert sorted(gaps)[len(gaps) // 2] > 0.4 * watchdog_s


def test_status_says_live_figures_about_every_ten_seconds(start: Start, pipes: list[str], manager: Manager) -> None:
    """And a watchdog of a time that is longer than ours between two looks is fed meanwhile."""
    run = start(*pipes, environ=under(manager, WATCHDOG_USEC="4000000"))
    manager.wait("READY")
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    manager.listen_for(service.STATUS_MS / 1000 + 3)
    told = [(at, message["STATUS"]) for at, message in manager.heard if "STATUS" in message]
    assert len(told) == 2, "what has not changed is not said again"
    assert re.match(r"1 sessions; 6 records, 2 events; \d{3,} bytes written; 0 errors$", told[1][1])
    assert 9.5 < told[1][0] - told[0][0] < 11.5
    check_beats(manager, 4)
    assert run.stop() == 0


def test_the_watchdog_is_fed_at_half_of_its_time(start: Start, pipes: list[str], manager: Manager) -> None:
    run = start(*pipes, environ=under(manager, WATCHDOG_USEC="1000000"))
    manager.listen_for(3)
    check_beats(manager, 1)
    assert run.stop() == 0


def wakes(run: Running) -> int:
    """How often a process had slept."""
    text = Path(f"/proc/{run.process.pid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.MULTILINE)[0])


def test_an_idle_daemon_wakes_once_a_second(start: Start, pipes: list[str], home: Path, manager: Manager) -> None:
    """And who is watched over no more often."""
    runs = [
        start(*pipes),
        start(*pipes, "--state-dir", f"{home}/other", environ=under(manager, WATCHDOG_USEC="30000000")),
    ]
    manager.wait("READY")
    time.sleep(2.5)  # what the start left to do
    before = [wakes(run) for run in runs]
    time.sleep(4)
    for run, count in zip(runs, before, strict=True):
        assert wakes(run) - count <= 6
        assert run.stop() == 0


def test_a_stopped_process_feeds_no_watchdog(start: Start, pipes: list[str], manager: Manager) -> None:
    run = start(*pipes, environ=under(manager, WATCHDOG_USEC="1000000"))
    manager.wait("WATCHDOG", 2)
    run.process.send_signal(signal.SIGSTOP)
    manager.listen_for(0.2)
    count = len(manager.with_field("WATCHDOG"))
    manager.listen_for(1.5)
    assert len(manager.with_field("WATCHDOG")) == count
    run.process.send_signal(signal.SIGCONT)
    assert run.stop() == 0


def test_another_process_s_watchdog_is_not_fed(start: Start, pipes: list[str], manager: Manager) -> None:
    run = start(*pipes, environ=under(manager, WATCHDOG_USEC="200000", WATCHDOG_PID="1"))
    manager.wait("READY")
    manager.listen_for(1)
    assert not manager.with_field("WATCHDOG")
    assert run.stop() == 0


def test_a_reload_is_told_from_its_start_to_its_end(start: Start, pipes: list[str], manager: Manager) -> None:
    run = start(*pipes, environ=under(manager))
    manager.wait("READY")
    before_us = time.monotonic_ns() // 1000
    run.process.send_signal(signal.SIGHUP)
    reloading = manager.wait("RELOADING")
    assert reloading["RELOADING"] == "1"
    assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    manager.wait("READY", 2)
    order = [name for message in manager.messages() for name in ("READY", "RELOADING") if name in message]
    assert order == ["READY", "RELOADING", "READY"]
    assert run.stop() == 0


def test_a_refused_configuration_is_in_the_status(start: Start, pipes: list[str], home: Path, manager: Manager) -> None:
    (home / "audito.toml").write_text("")
    run = start(*pipes, "--config", f"{home}/audito.toml", environ=under(manager))
    manager.wait("READY")
    (home / "audito.toml").write_text("join-window = 'for ever'\n")
    run.process.send_signal(signal.SIGHUP)
    manager.wait("READY", 2)
    wait_for(lambda: "configuration refused: " in str(manager.messages()[-1].get("STATUS")), "the status")
    assert run.stop() == 0


def test_stopping_is_told_first(start: Start, pipes: list[str], manager: Manager) -> None:
    run = start(*pipes, environ=under(manager))
    manager.wait("READY")
    assert run.stop() == 0
    assert manager.messages()[-1] == {"STOPPING": "1", "STATUS": "stopping: SIGTERM"}


def test_a_manager_that_went_away_stops_nothing(start: Start, pipes: list[str], manager: Manager) -> None:
    run = start(*pipes, environ=under(manager, WATCHDOG_USEC="500000"))
    manager.wait("READY")
    manager.close()
    manager.path.unlink()
    wait_for(lambda: run.said("the service manager cannot be told any more"), "the complaint")
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    assert run.stop() == 0


def test_without_systemd_python_it_is_told_and_runs(
    start: Start, pipes: list[str], home: Path, manager: Manager
) -> None:
    (home / "shadow/systemd").mkdir(parents=True)
    (home / "shadow/systemd/__init__.py").write_text("raise ImportError('no such package')\n")
    run = start(*pipes, environ=under(manager, PYTHONPATH=str(home / "shadow")))
    assert run.said("there is no systemd-python to send them")
    assert run.stop() == 0
    assert not manager.messages()


def test_a_status_is_one_line_of_bounded_length() -> None:
    sent: list[str] = []
    service.Service(sent.append).tell(0, True, lambda: "a\nREADY=0\n" + "x" * 9000)
    assert sent == [f"READY=1\nSTATUS={('a READY=0 ' + 'x' * 9000)[: service.STATUS_CHARS_MAX]}"]


# -- the unit; tests/e2e/test_service.py starts it under a real systemd

UNIT = ROOT / "deploy/systemd"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_unit_is_hardened() -> None:
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT / "audito.service"))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    exposure = re.search(r"Overall exposure level for audito.service: ([0-9.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) < 2.0


def test_the_unit_s_settings_are_settings_and_its_directories_are_named_in_them() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser documents it
    unit.read(UNIT / "audito.service")
    service = unit["Service"]
    config = load(["--config", str(UNIT / "audito.toml")], {}, hostname="blam")
    assert config.state.directory == f"/var/lib/{service['StateDirectory']}"
    assert Path(config.output.path).parent == Path("/var/log", service["LogsDirectory"])
    assert service["ExecStart"].split()[1:] == ["run", "--config", "/etc/audito/audito.toml"]
    assert f"u     {service['User']} " in (UNIT / "audito.sysusers").read_text()
