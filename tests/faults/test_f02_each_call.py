"""F2: the daemon is killed at each of its calls that change a file, or open one; nothing is lost, nothing comes twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.faults.world import World, compile_shim
from tests.sources.journals import REMOTE

TORTURE = int(os.environ.get("AUDITO_TORTURE", "0"))
"""Above 0, as ``make torture`` sets it: each call also from an empty directory, and from one restart."""

CALLS_MIN = 25
"""A run that makes fewer has not done what it should: opened all, written, and made two checkpoints."""


@pytest.fixture(name="shim", scope="module")
def _shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize(("sshd", "torn"), [("journal", 0), ("syslog", 1)], ids=["journal-before", "syslog-torn"])
@pytest.mark.timeout(600)
def test_f02_killed_at_each_call_in_turn(tmp_path: Path, shim: Path, sshd: str, torn: int) -> None:
    """Each run meets a new session, goes on from where the one before was killed, and is killed one call later."""
    if sshd == "journal" and REMOTE is None:
        pytest.skip("no systemd-journal-remote")
    world = World(tmp_path, sshd, shim)
    for call in range(1, 1000, 3 if torn and not TORTURE else 1):
        world.log_in()
        code = world.run_until_written(world.start(kill_at=call, torn=torn))
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert call > CALLS_MIN, f"no run made more than {call} calls"
    world.log_in()
    assert world.run_until_written(world.start()) == 0
    world.check()


@pytest.mark.skipif(not TORTURE, reason="minutes: make torture")
@pytest.mark.parametrize("sshd", ["journal", "syslog"])
@pytest.mark.parametrize("torn", [0, 1], ids=["before", "torn"])
@pytest.mark.timeout(3600)
def test_f02_killed_at_each_call_from_the_first_start_and_from_a_restart(
    tmp_path: Path, shim: Path, sshd: str, torn: int
) -> None:
    """Each call of a first start, and of a start that finds a state: a world of its own for each."""
    for state in (False, True):
        for call in range(1, 1000):
            home = tmp_path / f"{state}-{call}"
            home.mkdir()
            world = World(home, sshd, shim)
            if state:
                world.log_in()
                assert world.run_until_written(world.start()) == 0
            world.log_in()
            code = world.run_until_written(world.start(kill_at=call, torn=torn))
            world.log_in()
            assert world.run_until_written(world.start()) == 0
            world.check()
            if code == 0:
                break
            assert code == -signal.SIGKILL
        assert call > CALLS_MIN
