"""The daemon with a spool: what comes through its pipes while the output takes nothing is there afterwards."""

from __future__ import annotations

import os
import random
import shutil
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from tests.test_daemon import (  # noqa: F401  # the fixtures
    Start,
    _home,
    _pipes,
    _start,
    commands,
    events_of,
    gaps,
    identities,
    login_line,
    needs_root,
    opened,
    read_all,
    sequences,
    wait_for,
)

TORTURE = int(os.environ.get("AUDITO_TORTURE", "0"))
"""Above 0, as ``make torture`` sets it: so many times as much of each."""

SPOOL_MIB = 16
COUNT = 12_000
"""Commands of 0.7 KB each: eight times what the pipe and the daemon hold without a spool."""


@pytest.fixture(name="blocked")
def _blocked(home: Path) -> Path:
    """An output that nobody reads."""
    os.mkfifo(home / "out")
    return home / "out"


def read_output(path: Path, until: int | None = None) -> list[dict[str, Any]]:
    """The output looks for a reader once a second."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return events_of(read_all(fd, 1.5, until=until))
    finally:
        os.close(fd)


def test_writers_do_not_wait_and_nothing_is_lost_over_kills(start: Start, pipes: list[str], blocked: Path) -> None:
    """Two processes end with all of it blocked; the third writes what they took in."""
    flags = [*pipes, "--spool", f"{SPOOL_MIB}MiB"]
    run = start(*flags, ready=False)
    run.write("sshd", login_line(100))
    began = time.monotonic()
    run.write("audit", opened(7, 100, 1) + commands(7, 2, COUNT // 2))
    assert time.monotonic() - began < 5
    wait_for(lambda: run.metric("audito_audit_source_spool_bytes") > 2 << 20, "the spool has it")
    assert run.states()["output"] == "not-ready"
    assert run.states()["audit"] == "ok"
    run.kill()
    run = start(*flags, ready=False)
    wait_for(lambda: run.said("reading audit"), "the start")
    run.write("audit", commands(7, 2 + COUNT // 2, COUNT // 2))
    wait_for(lambda: run.metric("audito_audit_source_spool_bytes") > 4 << 20, "the spool has the rest")
    assert run.metric("process_resident_memory_bytes") < 64 << 20
    if TORTURE:
        assert run.stop() == 0  # which takes the 4 s that an output has
    run.kill()
    run = start(*flags, ready=False)
    events = read_output(blocked)
    assert sequences(events) == list(range(2, COUNT + 2)), "nothing was flushed before its time"
    assert identities(events) == {"alice@foo.com"}
    assert gaps(events) == []
    wait_for(lambda: not list((run.home / "state").glob("spool-*")), "what is out is not kept")
    assert run.stop() == 0


def test_a_spool_that_is_switched_off_while_something_waits_in_it_is_a_gap(
    start: Start, pipes: list[str], blocked: Path
) -> None:
    run = start(*pipes, "--spool", f"{SPOOL_MIB}MiB", ready=False)
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + commands(7, 2, COUNT // 2))
    wait_for(lambda: run.metric("audito_audit_source_spool_bytes") > 1 << 20, "the spool has it")
    saves = run.metric("audito_checkpoints_total")
    wait_for(lambda: run.metric("audito_checkpoints_total") > saves, "a checkpoint that knows of it")
    run.kill()
    run = start(*pipes, ready=False)
    told = [(gap["reason"], gap.get("detail")) for gap in gaps(read_output(blocked))]
    assert ("place_lost", "audit-pipe") in told
    run.wait_ready()
    assert run.stop() == 0


def test_what_had_to_be_dropped_is_told_with_its_count(start: Start, pipes: list[str], blocked: Path) -> None:
    """As root: by another user, who makes the spool after root was given up; the next process begins as root again."""
    flags = [*pipes, "--spool", f"{SPOOL_MIB}MiB"]
    if os.geteuid() == 0:
        flags += ["--user", "nobody"]
        shutil.chown(blocked, "nobody")
        for path in (blocked.parent, *blocked.parents):
            if path == Path("/tmp"):  # where pytest puts its own
                break
            path.chmod(0o755)
    run = start(*flags, ready=False)
    run.write("sshd", login_line(100))
    text = opened(7, 100, 1) + commands(7, 2, 60_000)
    run.write("audit", text)
    wait_for(lambda: run.states()["audit"] == "not-ready", "it says so")
    assert "the spool of 16777216 bytes is full" in run.get("/readyz")[1]
    dropped = run.metric("audito_audit_source_spool_dropped_lines_total")
    run.kill()
    spooled = list((run.home / "state").glob("spool-*"))
    assert {path.stat().st_uid for path in spooled} == {blocked.stat().st_uid}
    assert {stat.S_IMODE(path.stat().st_mode) for path in spooled} == {0o600}
    run = start(*flags, ready=False)
    events = read_output(blocked)
    run.wait_ready()
    assert run.stop() == 0
    (gap,) = [gap for gap in gaps(events) if gap["reason"] == "spool_full"]
    assert gap == {"count": dropped, "reason": "spool_full", "detail": "audit-pipe"}
    kept = sequences(events)
    assert kept == list(range(2, 2 + len(kept)))
    assert 25_000 < len(kept) < 60_000
    assert abs(3 * (60_000 - len(kept)) - dropped) < 6, "three lines a command"


def test_f01_pipes_with_a_spool_and_kills_double_nothing(start: Start, pipes: list[str], home: Path) -> None:
    """Both inputs are pipes that their writers keep open, the output a file; logins keep the time at which they came.

    What a kill can still take is a chunk between its read and its write, some microseconds: of these hardly one.
    """
    rng = random.Random(1)
    writers = {name: os.open(home / name, os.O_RDWR) for name in ("sshd", "audit")}
    kills = 4 * (1 + 9 * TORTURE)
    flags = [*pipes, "--spool", f"{SPOOL_MIB}MiB"]
    run = start(*flags)
    serial = 1
    for number in range(kills):
        for _ in range(3):
            ses = serial
            os.write(writers["sshd"], login_line(1000 + ses, f"user{ses}").encode())
            os.write(writers["audit"], (opened(ses, 1000 + ses, serial) + commands(ses, serial + 1, 4)).encode())
            serial += 5
            time.sleep(rng.uniform(0, 0.05))
        time.sleep(2.2 if number == 2 else rng.uniform(0.05, 0.6))
        run.kill()
        run = start(*flags, ready=False)
    wait_for(lambda: serial - 1 in sequences(run.events()), f"the last command: {run.log_text()}")
    run.wait_ready()
    assert run.stop() == 0
    events = run.events()
    logins = [event["subjects"]["userID"] for event in events if event["type"] == "UserLogin"]
    assert len(logins) == len(set(logins))
    found = sequences(events)
    assert len(found) == len(set(found))
    for event in events:
        if event["type"] == "UserAction":
            assert event["subjects"]["userID"] == f"user{event['metadata']['auditId']}@foo.com"
    assert len(found) >= 12 * kills - 12
    for writer in writers.values():
        os.close(writer)
