"""Faults by number against the daemon as it is run: its files are rotated, cut and full, its calls fail, its clock jumps."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.measure import memory_mib
from tests.faults.world import World, compile_shim, control_group
from tests.test_daemon import commands, events_of, opened, small_disk, wait_for

TORTURE = int(os.environ.get("AUDITO_TORTURE", "0"))
"""Above 0, as ``make torture`` sets it: so many times as much of each."""

ROUNDS = 12 * (1 + TORTURE)
RSS_MIB_MAX = 64


@pytest.fixture(name="shim", scope="module")
def _shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(name="world")
def _world(tmp_path: Path, shim: Path) -> World:
    return World(tmp_path, shim=shim)


@pytest.fixture(name="begin")
def _begin(world: World) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a daemon that reads already; whatever becomes of the test, it ends."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(*flags: str, **faults: object) -> subprocess.Popen[bytes]:
        processes.append(world.start(*flags, **faults))
        world.log_in()
        wait_for(lambda: world.data().count(b"\n") >= world.expected.total(), world.log.read_text)
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def finish(world: World, process: subprocess.Popen[bytes]) -> None:
    """All is written, once, and a signal ends it."""
    assert world.run_until_written(process) == 0
    world.check()


# -- inputs


def shift(world: World, keep: int) -> None:
    """As auditd does it: audit.log.1 is the newest, what is past the limit goes."""
    for number in range(keep - 1, 0, -1):
        older = world.audit.with_name(f"audit.log.{number}")
        if older.exists():
            older.rename(world.audit.with_name(f"audit.log.{number + 1}"))


def rotate(world: World, keep: int) -> None:
    shift(world, keep)
    world.audit.rename(world.audit.with_name("audit.log.1"))
    world.audit.touch()


@pytest.mark.parametrize("keep", [2, 12])
def test_f04_rotation_while_reading(world: World, begin: Callable[..., subprocess.Popen[bytes]], keep: int) -> None:
    process = begin()
    for _ in range(ROUNDS):
        world.log_in()
        rotate(world, keep)
        time.sleep(0.01)
        if keep == 2:
            wait_for(lambda: world.data().count(b"\n") >= world.expected.total() - 20, "it keeps up")
    finish(world, process)


def test_f05_copied_and_emptied(world: World, begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    """What the copy caught comes once; nothing else is made of the bytes that moved."""
    process = begin()
    for _ in range(3):
        world.log_in()
        wait_for(lambda: world.data().count(b"\n") >= world.expected.total(), "what came before the copy")
        shift(world, 12)
        shutil.copy(world.audit, world.audit.with_name("audit.log.1"))
        os.truncate(world.audit, 0)
    finish(world, process)


def test_f05_emptied_while_a_session_waits_for_its_line_and_killed(
    world: World, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """The oldest unresolved record is gone; what was read behind it and is still there is not written again."""
    process = begin()
    with world.audit.open("a") as file:
        file.write(opened(9_000, 9_000, 900_000) + commands(9_000, 900_001, 3))  # nobody claims it
    world.log_in()
    wait_for(lambda: world.data().count(b"\n") >= world.expected.total(), world.log.read_text)
    os.truncate(world.audit, 0)
    world.log_in()
    wait_for(lambda: world.data().count(b"\n") > world.expected.total(), world.log.read_text)  # and the gap
    wait_for(lambda: world.home.joinpath("state/state").stat().st_mtime > world.out.stat().st_mtime, "a checkpoint")
    world.log_in()
    wait_for(lambda: world.data().count(b"\n") > world.expected.total(), world.log.read_text)
    process.kill()
    process.wait()
    world.log_in()
    process = world.start()
    wait_for(lambda: world.data().count(b"\n") > world.expected.total() + 1, world.log.read_text)  # and another
    assert world.run_until_written(process) == 0
    found = events_of(world.data())
    world.check(event for event in found if event["type"] != "AuditGap")
    reasons = [event["metadata"]["extra"]["reason"] for event in found if event["type"] == "AuditGap"]
    assert [reason for reason in reasons if reason != "sequence"] == ["file_truncated", "file_gone"]


@pytest.mark.parametrize("rotations", [1, 3])
def test_f06_rotated_while_stopped(world: World, begin: Callable[..., subprocess.Popen[bytes]], rotations: int) -> None:
    begin().kill()
    for _ in range(rotations):
        world.log_in()
        rotate(world, 12)
        world.log_in()
    finish(world, world.start())


def test_f08_a_torn_line_is_one_event_once_it_is_whole(
    world: World, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = begin()
    size = world.audit.stat().st_size
    world.log_in()
    text = world.audit.read_bytes()[size:]
    os.truncate(world.audit, size)
    with world.audit.open("ab", 0) as file:
        for at in range(200):
            file.write(text[at : at + 1])
        time.sleep(0.3)
        process.kill()
        process.wait()
        process = world.start()
        time.sleep(0.5)
        file.write(text[200:])
    finish(world, process)


def hostile(rng: random.Random, size: int) -> bytes:
    """Every byte value; no newline for long; half records; UTF-16; what separates things in records."""
    parts: list[bytes] = []
    while sum(map(len, parts)) < size:
        kind = rng.randrange(6)
        length = rng.randrange(1, 200_000 if kind == 1 else 4000)
        parts.append(
            (
                rng.randbytes(length),
                b"A" * length,
                b"\0\r\x1d\n" * (length // 4),
                "type=LOGIN msg=audit(1.1:1): ses=7".encode("utf-16") * (length // 80),
                b"type=SYSCALL msg=audit(%d.%03d:%d): " % tuple(rng.randrange(1 << 40) for _ in range(3)),
                b"type=EXECVE msg=audit(1.001:1): argc=4294967295 a0=" + b"Z" * length + b"\n",
            )[kind]
        )
    return b"".join(parts)


def test_f15_hostile_bytes_stop_nothing_and_take_no_memory(
    world: World, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = begin()
    junk = hostile(random.Random(1), (4 << 20) * (1 + TORTURE))
    for path in (world.audit, world.home / "auth.log"):
        with path.open("ab") as file:
            file.write(junk + b"\n")
    world.log_in()
    last = f"user{world.sessions - 1}@foo.com".encode()
    wait_for(lambda: world.data().count(last) >= 5, "the next session", 30)
    assert memory_mib(process.pid, "VmHWM") < RSS_MIB_MAX
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert "Traceback" not in world.log.read_text()


# -- calls that fail


FAILING = [("fsync", errno.EIO), ("open write fsync rename", errno.EIO)]
FAILING_TOO = [
    ("write", errno.ENOSPC), ("write", errno.EIO), ("write", errno.EINTR), ("fsync", errno.EDQUOT),
    ("open", errno.EMFILE), ("rename", errno.EROFS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error"),
    FAILING + (FAILING_TOO if TORTURE else []),
    ids=lambda value: errno.errorcode.get(value, value) if isinstance(value, int) else value.replace(" ", "+"),
)
def test_f09_f10_calls_that_fail_and_work_again(
    world: World, begin: Callable[..., subprocess.Popen[bytes]], call: str, error: int
) -> None:
    """Output and state fail, are back, and fail again; then the process is killed, and a new one goes on."""
    switch = world.home / "fails"
    process = begin(call=call, errno=error, **{"while": switch})
    switch.touch()
    world.log_in()
    time.sleep(1.2 if call != "fsync" else 2.5)
    switch.unlink()
    world.log_in()
    wait_for(lambda: world.data().count(b"\n") >= world.expected.total(), world.log.read_text)
    if "fsync" in call:
        before = (world.home / "state/state").stat().st_mtime_ns
        world.log_in()
        wait_for(lambda: (world.home / "state/state").stat().st_mtime_ns > before, "checkpoints go on", 8)
    switch.touch()
    world.log_in()
    time.sleep(0.3)
    process.kill()
    process.wait()
    world.log_in()
    finish(world, world.start())


def test_f11_short_writes_of_output_and_state(world: World, begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = begin(short=1)
    for _ in range(ROUNDS):
        world.log_in()
    wait_for(lambda: world.data().count(b"\n") >= world.expected.total(), "all")
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    world.log_in()
    finish(world, world.start(short=1))


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield from small_disk(tmp_path / "disk")


def test_f09_one_full_disk_for_output_and_state(world: World, disk: Path) -> None:
    """128 KiB for both; what is rotated away makes room."""
    flags = ["--output", f"{disk}/out", "--state-dir", f"{disk}/state"]
    world.out = disk / "out"
    process = world.start(*flags)
    try:
        for _ in range(150):
            world.log_in()
        kept = b""
        deadline = time.monotonic() + 30
        while (kept + world.data()).count(b"\n") < world.expected.total():
            assert time.monotonic() < deadline, world.log.read_text()[-2000:]
            if (disk / "out").exists() and os.statvfs(disk).f_bavail < 4:
                size = (disk / "out").stat().st_size
                kept += world.data()
                assert kept.endswith(b"\n"), "no half line is left"
                assert size == (disk / "out").stat().st_size
                (disk / "out").unlink()
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        world.check(events_of(kept + world.data()))
    finally:
        process.kill()
        process.wait()


# -- time and signals


@pytest.mark.parametrize("jump_s", [3600, -3600] if TORTURE else [3600])
def test_f26_the_wall_clock_jumps_while_a_session_waits_for_its_login_line(
    world: World, begin: Callable[..., subprocess.Popen[bytes]], jump_s: int
) -> None:
    clock = world.home / "clock"
    clock.write_text("0")
    process = begin(clock=clock)
    late = world.sessions
    world.log_in(told=False)
    time.sleep(1.2)
    clock.write_text(str(jump_s))
    time.sleep(2.2)
    world.tell(late)
    world.log_in()
    finish(world, process)


def test_f32_a_process_that_is_frozen_goes_on(world: World, begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = begin()
    process.send_signal(signal.SIGSTOP)
    for _ in range(3):
        world.log_in()
        rotate(world, 12)
    time.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    finish(world, process)


def test_f32_a_storm_of_signals(world: World, begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = begin()
    for number in range(300 * (1 + TORTURE)):
        process.send_signal(signal.SIGHUP)
        if number % 50 == 0:
            world.log_in()
    wait_for(lambda: world.data().count(b"\n") >= world.expected.total(), "all")
    for _ in range(100):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    world.check()


@pytest.fixture(name="one_percent")
def _one_percent() -> Iterator[Path]:
    """A control group whose processes have a hundredth of a CPU: 1 ms, then 99 ms of waiting."""
    for limit in control_group("cpu.max", "cpu/cpu.cfs_quota_us"):
        if limit.name == "cpu.max":
            limit.write_text("1000 100000")
        else:
            limit.with_name("cpu.cfs_period_us").write_text("100000")
            limit.write_text("1000")
        processes = limit.with_name("cgroup.procs")
        yield processes
        for pid in processes.read_text().split():
            (limit.parent.parent / "cgroup.procs").write_text(pid)


def test_f32_one_percent_of_a_cpu(
    world: World, begin: Callable[..., subprocess.Popen[bytes]], one_percent: Path
) -> None:
    """It falls behind, and loses nothing: neither while it reads, nor by a kill, nor by a stop.

    A stop is in time. In a backlog it is noticed after the chunk at hand, and 10 ms of work are a second here.
    """
    process = begin()
    one_percent.write_text(str(process.pid))
    for _ in range(3):
        world.log_in()
        time.sleep(0.2)
    wait_for(lambda: world.data().count(b"\n") >= world.expected.total(), "it comes to an end", 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    process = begin()
    one_percent.write_text(str(process.pid))
    world.log_in()
    time.sleep(0.3)
    process.kill()
    process.wait()
    process = begin()
    one_percent.write_text(str(process.pid))
    for _ in range(200 * ROUNDS):
        world.log_in()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5 + 3) == 0
    assert world.data().count(b"\n") < world.expected.total(), "it had more to do than it could"
    waited = re.search(r"^nr_throttled (\d+)", one_percent.with_name("cpu.stat").read_text(), re.MULTILINE)
    assert waited is not None
    assert int(waited[1]) > 20
    finish(world, world.start())


def test_a_restart_has_its_first_event_within_a_second(
    world: World, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """The best of three, on a host that does other things, too."""
    begin().kill()
    taken_s = []
    for _ in range(3):
        world.log_in()
        before = len(world.data())
        began = time.monotonic()
        process = world.start()
        while len(world.data()) == before:
            assert time.monotonic() - began < 10
            time.sleep(0.002)
        taken_s.append(time.monotonic() - began)
        world.run_until_written(process)
    assert min(taken_s) < 1
    world.check()
