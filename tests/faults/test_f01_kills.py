"""F1: the daemon is killed at random instants while its inputs grow; nothing is lost, doubled or given to another."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks import pipes, workload
from tests.test_daemon import wait_for

KILLS = int(os.environ.get("AUDITO_KILLS", "25"))
SEED = int(os.environ.get("AUDITO_SEED", "1"))
ROOT = Path(__file__).parent.parent.parent
DELAY_S = (0.5, 2.0)
"""From the start of a process to its end, in units of what the first took to open its output: before and after that."""


class Inputs(threading.Thread):
    """Lets the audit log and sshd's grow, as sshd and auditd would, until all of the workload is there."""

    def __init__(self, directory: Path, truth: workload.Truth, seconds: float) -> None:
        super().__init__(daemon=True)
        self.log, self.auth = directory / "log" / "audit.log", directory / "auth.log"
        self._audit = (directory / "audit.log").read_bytes()
        self._lines = (directory / "sshd.log").read_bytes().splitlines(keepends=True)
        self._offsets = truth.sshd_offsets
        self._pause_s = seconds / max(len(self._offsets), 1)
        self.stop = threading.Event()

    def run(self) -> None:
        at = 0
        with self.log.open("ab", 0) as audit, self.auth.open("ab", 0) as auth:
            for offset, line in zip(self._offsets, self._lines, strict=True):
                audit.write(self._audit[at:offset])
                auth.write(line)
                at = offset
                self.stop.wait(self._pause_s)
            audit.write(self._audit[at:])


def start(directory: Path) -> subprocess.Popen[bytes]:
    """The daemon on these inputs; its log is kept for who looks into a failure."""
    flags = {
        "-app-events-output": "events.jsonl", "--audit-dir-path": "log", "--sshd-log-path": "auth.log",
        "--state-dir": "state",
    }  # fmt: skip
    command = [sys.executable, "-m", "audito"]
    command += [word for flag, name in flags.items() for word in (flag, str(directory / name))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDITO_")}
    with (directory / "daemon.log").open("ab") as said:
        return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, env=environment)


def opening_s(directory: Path) -> float:
    """How long a process takes on this host, as busy as it is, until it has its output; that one is killed."""
    began = time.monotonic()
    process = start(directory)
    while not (directory / "events.jsonl").exists():
        assert process.poll() is None, (directory / "daemon.log").read_text()[-2000:]
        time.sleep(0.005)
    ready_s = time.monotonic() - began
    process.kill()
    process.wait()
    return ready_s


@pytest.mark.timeout(600)
@pytest.mark.parametrize("order", workload.ORDERS)
def test_f01_kills_at_random_instants_lose_and_double_nothing(tmp_path: Path, order: str) -> None:
    rng = random.Random(SEED)
    settings = workload.Settings(
        sessions=60, commands=40, background=1.0, concurrent=20, order=order, seed=SEED, events_per_second=400,
        start_ms=int(time.time() * 1000) - 60_000,
    )  # fmt: skip
    truth = workload.write(settings, tmp_path)
    (tmp_path / "log").mkdir()
    kills = KILLS // len(workload.ORDERS)
    (tmp_path / "log" / "audit.log").touch()
    (tmp_path / "auth.log").touch()
    ready_s = opening_s(tmp_path)
    inputs = Inputs(tmp_path, truth, kills * ready_s * sum(DELAY_S) / 2)
    inputs.start()
    for _ in range(kills):
        process = start(tmp_path)
        time.sleep(ready_s * rng.uniform(*DELAY_S))
        assert process.poll() is None, (tmp_path / "daemon.log").read_text()[-2000:]
        process.kill()
        process.wait()
    inputs.stop.set()  # the rest at once
    inputs.join()
    said = (tmp_path / "daemon.log").stat().st_size
    process = start(tmp_path)
    try:
        # Before that a signal is Python's to handle, and all may be written already.
        wait_for(lambda: b"reading audit" in (tmp_path / "daemon.log").read_bytes()[said:], "the start")
        pipes.wait_for(tmp_path / "events.jsonl", pipes.expected_lines(truth), process, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    pipes.check(tmp_path / "events.jsonl", truth)
