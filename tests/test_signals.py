"""Signals while a process starts and ends: from the first line of ours on, none kills it and none is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_daemon import ROOT, WAIT_S, wait_for

INSTANTS = 400 if int(os.environ.get("AUDITO_TORTURE", "0")) else 16
OURS = re.compile(r"audito\.(?!signals)\w+$", re.MULTILINE)
"""In what ``-X importtime`` says: modules that are imported once signals are held."""


class Start:
    """A process that has just been started, and tells what it imports."""

    def __init__(self, home: Path) -> None:
        self.log = home / "log"
        self.log.unlink(missing_ok=True)
        (home / "log.d").mkdir(exist_ok=True)
        (home / "auth.log").touch()
        flags = {"audit-dir-path": "log.d", "sshd-log-path": "auth.log", "output": "out", "state-dir": "state"}
        words = [word for flag, name in flags.items() for word in (f"--{flag}", f"{home}/{name}")]
        environ = {"PATH": os.environ["PATH"]}
        with self.log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "importtime", "-m", "audito", *words], cwd=ROOT, env=environ, stderr=said
            )

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    @property
    def has_begun(self) -> bool:
        """Whether it ran lines of ours."""
        return OURS.search(self.log.read_text()) is not None

    def end(self) -> int:
        """SIGTERM, which has 5 s."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(5)
        finally:
            self.process.kill()


@pytest.fixture(name="ready_s", scope="module")
def _ready_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a start takes here."""
    began = time.monotonic()
    start = Start(tmp_path_factory.mktemp("start"))
    wait_for(lambda: start.said("reading audit"), "the start")
    took_s = time.monotonic() - began
    assert start.end() == 0
    return took_s


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_u07_a_signal_during_the_start_ends_it_with_zero(
    tmp_path: Path, ready_s: float, number: signal.Signals
) -> None:
    """Only before Python has come to our first line does it what it does to every program."""
    codes = []
    for instant in range(INSTANTS // 2):
        start = Start(tmp_path)
        time.sleep(1.2 * ready_s * instant / (INSTANTS // 2))
        start.process.send_signal(number)
        code = start.process.wait(5)
        assert code == 0 or not start.has_begun, f"{code}: {start.log.read_text()[-1000:]}"
        codes.append(code)
    assert 0 in codes


def test_a_hangup_during_the_start_is_obeyed_after_it(tmp_path: Path, ready_s: float) -> None:
    obeyed = 0
    for instant in range(INSTANTS // 2):
        start = Start(tmp_path)
        time.sleep(1.2 * ready_s * instant / (INSTANTS // 2))
        has_begun = start.has_begun
        start.process.send_signal(signal.SIGHUP)
        if has_begun:
            wait_for(lambda start=start: start.said("reopening output and logs"), "it is obeyed", WAIT_S / 3)
            assert start.end() == 0
            obeyed += 1
        else:
            start.process.kill()
            start.process.wait()
    assert obeyed


def test_f32_signals_until_the_process_is_gone(tmp_path: Path) -> None:
    """Also those that come while the interpreter ends: it gives its own handlers up before that."""
    for _ in range(INSTANTS // 8):
        start = Start(tmp_path)
        wait_for(lambda start=start: start.said("reading audit"), "the start")
        deadline = time.monotonic() + 5
        while start.process.poll() is None:
            assert time.monotonic() < deadline
            start.process.send_signal(signal.SIGTERM)
            start.process.send_signal(signal.SIGHUP)
            time.sleep(0.0005)
        assert start.process.returncode == 0


@pytest.mark.parametrize("words", [["decode", "-"], ["replay", "--audit", "-"]])
def test_other_commands_end_by_the_signal(words: list[str]) -> None:
    """What is not finished must not look as if it were."""
    with subprocess.Popen(
        [sys.executable, "-m", "audito", *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        time.sleep(0.3)
        process.terminate()
        assert process.wait(5) == -signal.SIGTERM
