"""The daemon on the simulated kernel: some seeds, each the same at every run, and one that is made small."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest

from audito.sinks.file import FileSink
from audito.written import Written
from tests.sim.run import Result, prepare, run_seed, shrink, try_out
from tests.sim.scenario import SSHD_DIR, Step, make

SEEDS = int(os.environ.get("SIMULATOR_SEEDS", "300"))
"""``make simulate`` runs more of them."""

FOUND = {
    10: "a kill in the middle of closing", 118: "the output cannot be read back at the start", 144: "no fault at all",
    146: "half a line of sshd at SIGTERM", 279: "a disk that hangs", 298: "two kills, and a session that waits",
    21204: "a login read again after a vacuum", 325: "calls that fail while a directory is opened", 535: "the output rotated twice before a kill",
    1722: "a journal vacuumed while it is read", 1758: "half a record at SIGTERM",
    20018: "half a line before a whole one", 20498: "a line broken off in a pipe by a kill",
    2108: "a log cut in the middle of a record", 52209: "an event half read when a disk that hung goes on", 50892: "a restart between auditd's start after a boot and the first serial",
    100006: "the end of the log of the boot before", 100190: "a login line of the boot before, and a pid of this one",
    4972: "a session waits, and the log that had its records is emptied before a restart", 51910: "the same, and a power cut",
    7973: "the same, and a kill", 8742: "the same, with lines from a pipe", 52678: "two sources that lose their places at once",
    3064: "a reader leaves, and what it had not read is saved late", 7684: "a reader leaves, and a kill before that is known",
    4889: "sshd's log is emptied in the middle of a name", 52261: "the same, of a certificate", 50156: "the same, once more",
    9295: "an output that cannot be looked at, and is a pipe", 50863: "a clock set back, and a journal vacuumed",
    30148: "a LOGIN lost with a kill, and its pid used again",
    33709: "a boot between a line and its session, of a pid that another had", 34176: "a login read again after a boot",
    40017: "a daemon that is late, and pids that come again", 38420: "an audit log that cannot be read for 20 s",
    43065: "a log of two names", 47969: "the output rotated, with a clock set back, before a kill",
    33708: "a LOGIN that goes on as another record", 15634: "half a pid in a pipe at SIGTERM",
    24357: "a reader leaves with what another process wrote", 17913: "a log emptied before the first checkpoint, and a kill",
    22044: "half an event in an output that is rotated after a kill",
    58145: "a log rotated while its place is looked for", 36121: "a line without its head", 18852: "torn writes that are later than the join window",
    52985: "a line that is lost, and the next one of its pid", 47222: "the same, once more",
    35067: "an audit log seconds behind, and pids that come again", 46296: "the same, and half a LOGIN",
    54107: "a name that was never synced, and a power cut", 84066: "a LOGIN that is lost, and what was told before another",
    63759: "a line whose session a power cut prevented", 61544: "half a record of the boot before in front of a new one",
    61693: "a clock set forward before a start", 65801: "a log emptied while the boot before is read",
    67876: "a log cut behind the place", 90851: "a file that is deleted while it is read again",
    85486: "a state that goes bad twice", 78574: "a directory that cannot be listed", 81652: "the same, at the first start",
    48011: "two lines of one pid, and half a LOGIN before a boot",
    148274: "a pipe that is silent after a kill", 135680: "a log cut between its opening and the first read",
    21319: "a pipe, and a kill before a serial was saved", 21469: "a log cut twice in one millisecond",
    342350: "what was written before a kill, the output rotated, and a power cut", 197215: "the same, and rotated before the kill",
    278851: "the output rotated while it is read back", 402489: "a state that could never be saved",
    237354: "a write to a pipe that fails in the middle of a line", 230472: "SIGTERM in the first millisecond after a boot",
    172192: "the output rotated while it is looked for after a kill", 158370: "a syslog file that cannot be read for 20 s",
    152646: "a power cut while a disk hangs",
    244664: "a pipe, and a power cut before a hole was told", 391440: "a pipe, and a power cut with events that are held",
    378214: "a power cut between two records of an event",
    288124: "a cut log that is read again, and half a line before a LOGIN",
    224374: "a kill on a pipe that had a session, whose pid comes again",
    284398: "a log cut while audito was stopped, that grew past what waits for its line",
    306320: "a reader of the output that the next one follows before it is missed",
    334673: "half a record at SIGTERM, and at the next one still", 416644: "the same, after a state that hangs",
    334764: "a log emptied twice, the first time undone by a power cut",
}  # fmt: skip
"""Seeds that broke something once."""


def told(results: list[Result]) -> str:
    return "\n".join(f"python -m tests.sim --seed {one.seed} --shrink: {one.text}" for one in results if one.rule)


def test_f33_every_seed_keeps_the_contract() -> None:
    with ProcessPoolExecutor(os.cpu_count(), initializer=prepare) as pool:
        results = list(pool.map(run_seed, [*FOUND, *range(10_000, 10_000 + SEEDS)], chunksize=10))
    assert not told(results)
    assert sum(one.lives for one in results) > len(results)  # some were killed


def test_f33_a_log_that_cannot_be_read_for_minutes_after_a_kill() -> None:
    """What was written before the kill comes again only then, and is known; what waits for a line gets its identity."""
    steps = (
        Step(1_616, 107, "error", ("stat", SSHD_DIR, errno.EIO, 95)),
        Step(2_030, 30, "kill", (0,)),
        Step(100_000, 0, "hangup", (0,)),  # until here it may fail
    )
    scenario = replace(
        make(158370), sessions=2, commands=1, concurrent=1, background=0.0, lasts_ms=2_000, join_window_ms=20_000,
        torn=0.0, naps=False, steps=steps,
    )  # fmt: skip
    assert try_out(scenario).rule == ""


@pytest.mark.parametrize("seed", [3, 298, 1758])
def test_f33_a_seed_is_the_same_run_bit_for_bit(seed: int) -> None:
    first, second = [], []
    assert try_out(make(seed), first) == try_out(make(seed), second)
    assert first == second
    assert len(first) > 100
    assert try_out(make(seed)).digest != try_out(make(seed + 1)).digest


def test_f33_a_fault_of_ours_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Written, "new", lambda self, lines: lines)  # what is there already is written again
    scenario = make(535)
    assert try_out(scenario).rule == "once"
    small = shrink(scenario, "once")
    assert try_out(small).rule == "once"
    assert [step.kind for step in small.steps] == ["kill"]
    assert small.sessions <= scenario.sessions


def test_f33_a_lost_event_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    write = FileSink.write

    def forget(self: FileSink, data: memoryview) -> int:
        first = bytes(data).find(b"\n") + 1
        return write(self, data[first:]) + first if b'"UserAction"' in bytes(data[:first]) else write(self, data)

    monkeypatch.setattr(FileSink, "write", forget)
    scenario = replace(make(10), steps=())
    assert try_out(scenario).rule == "lost"
