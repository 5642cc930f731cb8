"""The daemon over restarts, kills and boots: what it goes on with, what it tells as missing, what its state is worth."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from audito import daemon
from tests.test_daemon import (  # noqa: F401  # the fixtures
    T0,
    Start,
    _files,
    _home,
    _pipes,
    _start,
    append,
    command,
    commands,
    gaps,
    identities,
    login_line,
    opened,
    sequences,
    wait_for,
)

# -- what it goes on with


def test_u12_sessions_survive_a_restart(start: Start, files: list[str], home: Path) -> None:
    log = home / "log.d/audit.log"
    run = start(*files)
    run.write("sshd", login_line(100))
    append(log, opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    assert run.stop() == 0
    append(log, command(7, 3))
    run = start(*files)
    run.wait_sequences([2, 3])
    assert identities(run.events()) == {"alice@foo.com"}
    append(log, command(7, 4))
    run.wait_sequences([2, 3, 4])
    assert run.stop() == 0


def test_u12_sessions_survive_kill_nine(start: Start, files: list[str], home: Path) -> None:
    log = home / "log.d/audit.log"
    run = start(*files)
    run.write("sshd", login_line(100))
    append(log, opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    time.sleep(daemon.CHECKPOINT_MS / 1000 + 1)
    run.kill()
    append(log, command(7, 3))
    run = start(*files)
    assert identities(run.wait_sequences([2, 3])) == {"alice@foo.com"}
    assert run.stop() == 0


def test_what_was_held_is_read_again(start: Start, files: list[str], home: Path) -> None:
    """A session without its login line at SIGTERM: with a log to read again, nothing is decided yet."""
    append(home / "log.d/audit.log", opened(7, 100, 1) + commands(7, 2, 5))
    run = start(*files)
    wait_for(lambda: run.metric("audito_held_events") >= 5, "events are held")
    assert run.stop() == 0
    assert run.events() == []
    run = start(*files)
    run.write("sshd", login_line(100))
    assert identities(run.wait_sequences([2, 3, 4, 5, 6])) == {"alice@foo.com"}
    assert run.stop() == 0


def without_sshds_log(start: Start, home: Path, window_s: int) -> list[str]:
    """The flags of a daemon that has read both logs and was stopped; then sshd's went away, as a mount that is late."""
    flags = ["-audit-dir-path", f"{home}/log.d", "--sshd-log-path", f"{home}/sshd.d/secure", "--output", f"{home}/out"]
    flags += ["--join-window", f"{window_s}s"]
    (home / "sshd.d").mkdir()
    append(home / "sshd.d/secure", "")
    append(home / "log.d/audit.log", "")
    assert start(*flags).stop() == 0
    (home / "sshd.d").rename(home / "away")
    return flags


def test_lines_that_cannot_be_read_are_waited_for(start: Start, home: Path) -> None:
    """A session whose line may be there is not given up by the clock, as long as what keeps us from it may pass."""
    flags = without_sshds_log(start, home, window_s=1)
    append(home / "log.d/audit.log", opened(7, 100, 1) + command(7, 2))
    append(home / "away/secure", as_syslog(100))
    run = start(*flags, ready=False)
    time.sleep(3.5)
    assert run.events() == []
    (home / "away").rename(home / "sshd.d")
    assert identities(run.wait_sequences([2])) == {"alice@foo.com"}
    assert run.stop() == 0


def test_lines_that_cannot_be_read_are_not_waited_for_for_ever(start: Start, home: Path) -> None:
    flags = without_sshds_log(start, home, window_s=1)
    append(home / "log.d/audit.log", opened(7, 100, 1) + command(7, 2))
    began = time.monotonic()
    run = start(*flags, ready=False)
    assert identities(run.wait_sequences([2])) == {"unknown"}
    assert time.monotonic() - began > daemon.UNREADABLE_WINDOWS_MAX
    assert run.stop() == 0


def test_lines_that_cannot_be_read_do_not_stop_the_audit_log(start: Start, home: Path) -> None:
    """So much waits for them that no more is read: auditd would delete what is not."""
    window_s, count = 3, 70_000
    flags = without_sshds_log(start, home, window_s)
    append(home / "log.d/audit.log", opened(7, 100, 1) + commands(7, 2, count))
    began = time.monotonic()
    run = start(*flags, ready=False)
    wait_for(lambda: run.out.stat().st_size, "what was held")
    assert time.monotonic() - began < window_s * daemon.UNREADABLE_WINDOWS_MAX
    wait_for(lambda: len(run.events()) >= count + 2, "the rest of it")
    assert run.stop() == 0


def as_syslog(pid: int) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(T0))
    return f"{stamp} blam sshd[{pid}]: {login_line(pid).partition(' ')[2]}"


def test_rotation_while_it_was_down(start: Start, files: list[str], home: Path) -> None:
    log = home / "log.d/audit.log"
    run = start(*files)
    run.write("sshd", login_line(100))
    append(log, opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    assert run.stop() == 0
    append(log, command(7, 3))
    log.rename(home / "log.d/audit.log.1")
    append(log, command(7, 4))
    run = start(*files)
    run.wait_sequences([2, 3, 4])
    assert run.stop() == 0


def test_f09_without_a_state_nothing_is_written_twice(start: Start, files: list[str], home: Path) -> None:
    """It could not be saved, or somebody took it away: all of the log is read again."""
    log = home / "log.d/audit.log"
    run = start(*files)
    run.write("sshd", login_line(100))
    append(log, opened(7, 100, 1) + command(7, 2))
    before = [event for event in run.wait_sequences([2]) if event["type"] == "UserAction"]
    assert run.stop() == 0
    shutil.rmtree(home / "state")
    run = start(*files)
    run.write("sshd", login_line(100))  # of now: another login
    append(log, command(7, 3))
    after = [event for event in run.wait_sequences([2, 3]) if event["type"] == "UserAction"]
    assert after[:-1] == before
    assert run.stop() == 0


def test_u12_f25_a_state_of_another_boot_keeps_positions_and_forgets_sessions(
    start: Start, files: list[str], home: Path
) -> None:
    log = home / "log.d/audit.log"
    run = start(*files)
    run.write("sshd", login_line(100))
    append(log, opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    assert run.stop() == 0
    append(log, opened(7, 100, 1, T0 + 100) + command(7, 3, T0 + 101))
    run = start(*files, "--boot-id", "00000000-0000-0000-0000-000000000001")
    assert run.said("the state is of another boot")
    run.write("sshd", login_line(100, "bob"))
    events = run.wait_sequences([2, 3])
    assert [event["subjects"]["userID"] for event in events if sequences([event])] == ["alice@foo.com", "bob@foo.com"]
    assert run.stop() == 0


# -- what is missing


def test_a_hole_is_told_live_and_not_again_after_a_restart(start: Start, files: list[str], home: Path) -> None:
    log = home / "log.d/audit.log"
    run = start(*files)
    run.write("sshd", login_line(100))
    append(log, opened(7, 100, 1) + command(7, 2) + command(7, 5))
    run.wait_sequences([2, 5])
    assert run.stop() == 0
    append(log, command(7, 6) + command(7, 9))
    run = start(*files)
    wait_for(lambda: gaps(run.events()), "the holes")
    assert run.metric('audito_gaps_total{reason="sequence"}') == 2
    assert run.metric('audito_gaps_total{reason="kernel_lost"}') == 0
    assert run.stop() == 0
    run = start(*files)
    append(log, command(7, 10))
    run.wait_sequences([2, 5, 6, 9, 10])
    assert run.stop() == 0
    assert gaps(run.events()) == [
        {"from": 3, "to": 4, "count": 2, "reason": "sequence"},
        {"from": 7, "to": 8, "count": 2, "reason": "sequence"},
    ]


def test_a_log_that_is_gone_is_a_gap(start: Start, files: list[str], home: Path) -> None:
    log = home / "log.d/audit.log"
    append(log, opened(7, 100, 1) + command(7, 2))
    run = start(*files)
    wait_for(lambda: run.metric("audito_audit_read_bytes_total") > 0, "it is read")
    assert run.stop() == 0
    log.unlink()
    append(log, command(7, 3, T0 + 60))
    run = start(*files)
    wait_for(lambda: gaps(run.events()), "the gap")
    assert gaps(run.events()) == [{"reason": "file_gone", "detail": "audit-directory"}]
    assert run.metric('audito_gaps_total{reason="file_gone"}') == 1
    assert run.stop() == 0


def test_what_a_pipe_gave_to_one_that_was_killed_is_a_gap(start: Start, pipes: list[str], home: Path) -> None:
    """A session that waits for its login line; a pipe gives nothing twice."""
    run = start(*pipes)
    run.write("audit", opened(7, 100, 1) + commands(7, 2, 3))
    wait_for(lambda: run.metric("audito_held_events") == 4, "events are held")
    time.sleep(daemon.CHECKPOINT_MS / 1000 + 1)
    run.kill()
    run = start(*pipes)
    wait_for(lambda: gaps(run.events()), "the gap")
    assert gaps(run.events()) == [{"count": 4, "reason": "killed"}]
    assert run.stop() == 0
    run = start(*pipes)
    assert run.stop() == 0
    # Whether there was more behind the last one it does not know, as nothing came that would show it.
    assert gaps(run.events())[1:] == [{"reason": "killed", "sequence": 4}]


def test_a_pipe_that_is_silent_after_a_kill_is_a_gap_and_one_that_is_not_has_its_hole(
    start: Start, pipes: list[str], home: Path
) -> None:
    """What was read behind the last checkpoint is lost: a serial that comes later shows it, and else nothing does."""
    run = start(*pipes)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    time.sleep(daemon.CHECKPOINT_MS / 1000 + 1)
    run.write("audit", command(7, 3))
    run.wait_sequences([2, 3])
    run.kill()
    run = start(*pipes)
    wait_for(lambda: gaps(run.events()), "the gap")
    assert gaps(run.events()) == [{"reason": "killed", "sequence": 2}]
    run.kill()
    run = start(*pipes)
    run.write("audit", command(7, 4))
    wait_for(lambda: len(gaps(run.events())) > 1, "the hole")
    assert gaps(run.events())[1:] == [{"from": 3, "to": 3, "count": 1, "reason": "sequence"}]
    assert run.stop() == 0
    assert len(gaps(run.events())) == 2


# -- its state


@pytest.mark.parametrize("both", [False, True])
def test_a_bad_state_file_is_told_and_the_older_one_used(
    start: Start, files: list[str], home: Path, both: bool
) -> None:
    log = home / "log.d/audit.log"
    run = start(*files)
    run.write("sshd", login_line(100))
    append(log, opened(7, 100, 1) + command(7, 2))
    run.wait_sequences([2])
    assert run.stop() == 0
    append(log, command(7, 3))
    assert start(*files).stop() == 0
    for name in ("state", "state.1")[: 1 + both]:
        (home / "state" / name).write_bytes(b"\0" * 100)
    run = start(*files)
    assert run.said(f"state file {home}/state/state is not usable: not a state file")
    assert run.metric('audito_maldito_errors_total{type="state"}') == 1 + both
    append(log, command(7, 4))
    if both:
        # Everything is read from the start, and no login line comes again.
        wait_for(lambda: run.metric("audito_held_events") >= 3, "a new start")
    else:
        wait_for(lambda: 4 in sequences(run.events()), "going on")
        assert identities(run.events()) == {"alice@foo.com"}
    assert run.stop() == 0


def test_a_second_daemon_leaves_the_state_alone(start: Start, pipes: list[str], home: Path) -> None:
    first = start(*pipes)
    for name in ("sshd2", "audit2"):
        os.mkfifo(home / name)
    flags = ["-sshd-pipe-path", f"{home}/sshd2", "-auditd-pipe-path", f"{home}/audit2", "--output", f"{home}/out2"]
    second = start(*flags)
    assert second.said("is in use by another audito")
    assert second.stop() == 0
    assert first.stop() == 0
