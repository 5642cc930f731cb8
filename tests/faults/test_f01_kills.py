"""F1: the daemon is killed at random instants while its inputs grow; nothing is lost, doubled or given to another.

Most of the lives begin as a fork (tests/forks.py) and have a checkpoint every 20 ms, so that a life of some 50 ms has all that
one of hours has: a start from a state, reads, writes, checkpoints, a stop. A tenth is started as users start it.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from pathlib import Path

import pyinotify
import pytest

from audito.checkpoint import NAME, TEMPORARY
from benchmarks import pipes, workload
from tests.forks import Forked, Forkserver
from tests.test_daemon import wait_for

KILLS = int(os.environ.get("AUDITO_KILLS", "300"))
SEED = int(os.environ.get("AUDITO_SEED", "1"))
ROOT = Path(__file__).parent.parent.parent

EXECUTED = 0.1
"""Of the lives: with the interpreter's start and the imports, a third of a second in which a kill finds nothing open."""

PHASES = ("starting", "reading", "checkpointing", "stopping")
TICK_MS = 20
READ_S = 0.05
"""The longest life between the first checkpoint and its end."""

PIECES = 8
"""Into which the input of one life is cut, anywhere."""

KILLS_IN_A_ROW = 20
"""Then one life ends in order: on a slow host the others may be too short to get further than the one before."""

SESSIONS_MIN = 60
RECORD = re.compile(rb"[^\n]* msg=audit\([0-9.]+:([0-9]+)\)[^\n]*\n")


def quiet_places(audit: bytes) -> list[int]:
    """Offsets at which no audit event is under way, and the end."""
    places: list[int] = []
    ends = {record[1]: record.end() for record in RECORD.finditer(audit)}
    until = 0
    for record in RECORD.finditer(audit):
        if record.start() >= until:
            places.append(record.start())
        until = max(until, ends[record[1]])
    return [*places, len(audit)]


class Inputs(threading.Thread):
    """Lets the audit log and sshd's grow, as sshd and auditd would, each life by its share.

    A share ends between two events: on a slow host a life may take more than the two seconds after which an event is
    written without the records that have not come.
    """

    def __init__(self, directory: Path, truth: workload.Truth, lives: int) -> None:
        super().__init__(daemon=True)
        self.log, self.auth = directory / "log" / "audit.log", directory / "auth.log"
        self._audit = (directory / "audit.log").read_bytes()
        self._lines = (directory / "sshd.log").read_bytes().splitlines(keepends=True)
        self._offsets = truth.sshd_offsets
        self._share = len(self._audit) // lives + 1
        self._places = quiet_places(self._audit)
        self._wanted = self._allowed = 0
        self._more = threading.Condition()

    def go_on(self, share: float = 1) -> None:
        """So many lives' share more."""
        with self._more:
            self._wanted = min(self._wanted + int(self._share * share), len(self._audit))
            self._allowed = self._places[bisect_left(self._places, self._wanted)]
            self._more.notify()

    def run(self) -> None:
        size = self._share // PIECES + 1
        at = line = 0
        with self.log.open("ab", 0) as audit, self.auth.open("ab", 0) as auth:
            while at < len(self._audit) or line < len(self._lines):
                with self._more:
                    self._more.wait_for(lambda at=at: at < self._allowed or at == len(self._audit))
                while line < len(self._lines) and self._offsets[line] <= at:
                    auth.write(self._lines[line])
                    line += 1
                end = min([at + size, self._allowed, *self._offsets[line : line + 1]])
                audit.write(self._audit[at:end])
                at = end
                if self._allowed < len(self._audit):
                    time.sleep(READ_S / PIECES)


class State:
    """What happens in the state directory. ``begun``, ``done``: checkpoints of the life that is on."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(0o700)
        self._watches = pyinotify.WatchManager()
        self._watches.add_watch(str(directory), pyinotify.IN_CREATE | pyinotify.IN_MOVED_TO)
        self._fd: int = self._watches.get_fd()
        self.begun = self.done = 0

    def begin(self) -> None:
        """A new life."""
        self.look()
        self.begun = self.done = 0

    def look(self, timeout_s: float = 0.0) -> bool:
        """Take what has happened; False when nothing did."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return False
        data = os.read(self._fd, 1 << 16)
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            name = os.fsdecode(data[16 : 16 + length].rstrip(b"\0"))
            self.begun += mask == pyinotify.IN_CREATE and name == TEMPORARY
            self.done += mask == pyinotify.IN_MOVED_TO and name == NAME
            data = data[16 + length :]
        return True

    def wait(self, process: Process, *, begun: int = 0, done: int = 0) -> float:
        """Until there were so many; returns when. More than one comes only while the inputs grow."""
        while self.begun < begun or self.done < done:
            if not self.look(10 if self.done == 0 else 0.1):
                assert self.done, f"no checkpoint, exit code {process.poll()}"
                break
        return time.monotonic()

    def close(self) -> None:
        self._watches.close()


Process = subprocess.Popen[bytes] | Forked


class Lives:
    """Daemons on these inputs, one after the other; their log is kept for who looks into a failure."""

    def __init__(self, directory: Path, server: Forkserver) -> None:
        self.directory, self._server = directory, server
        self.log = directory / "daemon.log"
        self.state = State(directory / "state")
        self.killed: Counter[str] = Counter()
        flags = {
            "-app-events-output": "events.jsonl", "--audit-dir-path": "log", "--sshd-log-path": "auth.log",
            "--state-dir": "state",
        }  # fmt: skip
        self._words = [word for flag, name in flags.items() for word in (flag, str(directory / name))]
        self._words += ["--join-window", "2h"]  # the inputs may take longer than the times in them say
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("AUDITO_")}

    def execute(self) -> subprocess.Popen[bytes]:
        """A life as users start it."""
        self.state.begin()
        with self.log.open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "audito", *self._words], cwd=ROOT, stdout=said, stderr=said, env=self._environ
            )

    def fork(self) -> Forked:
        self.state.begin()
        return self._server.start(self._words, self._environ, self.log)

    def measure(self) -> None:
        """How long things take on this host, as busy as it is: from that the instants of the kills are chosen."""
        began = time.monotonic()
        process: Process = self.execute()
        self.execute_s = self.state.wait(process, done=1) - began
        process.kill()
        process.wait()
        began = time.monotonic()
        process = self.fork()
        begun = self.state.wait(process, begun=1)
        self.fork_s = self.state.wait(process, done=1) - began
        self.save_s = began + self.fork_s - begun
        process.kill()
        process.wait()
        self.stop()

    def stop(self) -> None:
        """A life that ends as it should, and how long its end takes."""
        process = self.fork()
        began = self.state.wait(process, done=1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0, self.said()
        self.stop_s = time.monotonic() - began

    def kill(self, process: Process, phase: str) -> None:
        """End a life, and count in which phase it was."""
        self.state.look()
        assert process.poll() is None or phase == "stopping", self.said()
        process.kill()
        code = process.wait()
        while self.state.look():
            pass
        assert code == -signal.SIGKILL or (phase, code) == ("stopping", 0), self.said()
        if code == 0:
            phase = "ended"
        elif self.state.begun > self.state.done:
            phase = "checkpointing"
        elif phase != "stopping":
            phase = "reading" if self.state.done else "starting"
        self.killed[phase] += 1

    def said(self) -> str:
        return self.log.read_text()[-2000:]


def end_a_life(lives: Lives, process: Process, phase: str, rng: random.Random) -> None:
    """At a random instant of this phase."""
    state = lives.state
    if phase == "starting":
        start_s = lives.fork_s if isinstance(process, Forked) else 1.3 * lives.execute_s
        time.sleep(rng.uniform(0, start_s))
    elif phase == "reading":
        state.wait(process, done=1)
        time.sleep(rng.uniform(0, READ_S))
    elif phase == "checkpointing":
        state.wait(process, begun=rng.randrange(1, 4))
        time.sleep(max(rng.uniform(-lives.save_s, lives.save_s) / 2, 0))  # half of them at once
    else:
        state.wait(process, done=1)
        time.sleep(rng.uniform(0, READ_S / 2))
        process.send_signal(signal.SIGTERM)
        time.sleep(rng.uniform(0, lives.stop_s / 2))
    lives.kill(process, phase)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("order", workload.ORDERS)
def test_f01_kills_at_random_instants_lose_and_double_nothing(tmp_path: Path, order: str) -> None:
    rng = random.Random(SEED)
    kills = KILLS // len(workload.ORDERS)
    settings = workload.Settings(
        sessions=max(SESSIONS_MIN, kills // 2), commands=40, background=1.0, concurrent=20, order=order, seed=SEED,
        events_per_second=400, start_ms=int(time.time() * 1000) - 60_000,
    )  # fmt: skip
    truth = workload.write(settings, tmp_path)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "audit.log").touch()
    (tmp_path / "auth.log").touch()
    inputs = Inputs(tmp_path, truth, kills + 2)
    with contextlib.closing(Forkserver(TICK_MS)) as server:
        lives = Lives(tmp_path, server)
        inputs.start()
        inputs.go_on()
        lives.measure()
        for number in range(kills):
            inputs.go_on()
            if rng.random() < EXECUTED:
                end_a_life(lives, lives.execute(), "starting", rng)
            else:
                end_a_life(lives, lives.fork(), PHASES[number % len(PHASES)], rng)
            if number % KILLS_IN_A_ROW == 0:
                lives.stop()
        inputs.go_on(kills)  # the rest at once
        inputs.join()
        finish(lives, truth)
        lives.state.close()
    print(f"killed: {dict(lives.killed)}")
    if kills >= 100:
        for phase in PHASES:
            assert lives.killed[phase], lives.killed


def finish(lives: Lives, truth: workload.Truth) -> None:
    """A last life writes what is left, and all is there."""
    said = lives.log.stat().st_size
    process = lives.execute()
    try:
        # Before that it has no handler of signals, and all may be written already.
        wait_for(lambda: b"reading audit" in lives.log.read_bytes()[said:], "the start")
        pipes.wait_for(lives.directory / "events.jsonl", pipes.expected_lines(truth), process, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    pipes.check(lives.directory / "events.jsonl", truth)
