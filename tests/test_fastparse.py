"""The compiled core's session table and reassembly, under numbers that its indexes have to grow or shift for."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from typing import Any

import pytest

from audito._sessions import Sessions
from audito.core import Core, CoreSettings, decode
from tests.records import Log, accepted


def new_core(session_count_max: int = 131_072) -> Core:
    return Core(CoreSettings(host="h", machine_id="m", boot_id="b", session_count_max=session_count_max))


def told(core: Core) -> list[tuple[str, str, list[str]]]:
    """(session, userID, arguments) of each execve written since the last take."""
    found = []
    for line in core.take().splitlines():
        event: dict[str, Any] = json.loads(line)
        extra = event["metadata"].get("extra", {})
        if extra.get("action") == "executed":
            found.append((event["metadata"]["auditId"], event["subjects"]["userID"], extra.get("process_args", [])))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_sessions_come_and_go_and_each_keeps_its_own_events(seed: int) -> None:
    """20,000 sessions over few pids and few numbers: what the table says is what a dict says."""
    choose = random.Random(seed)
    core, log = new_core(), Log()
    owner: dict[int, str] = {}
    for turn in range(20_000 if seed == 0 else 3_000):
        ses, pid = choose.randrange(1, 30_000 if seed == 0 else 700), 10_000 + turn
        core.feed_sshd(accepted(pid, f"user{turn}"), "pipe", 0)
        core.feed_audit(log.login(ses=ses, pid=pid))
        owner[ses] = f"user{turn}"
        if turn % 7 == 0:
            core.take()
            some = choose.choice(list(owner))
            core.feed_audit(log.execve(b"x", ses=some))
            assert told(core) == [(str(some), owner[some], ["x"])]
    assert core.counters()["sessions_now"] == len(owner)


def test_a_full_table_lets_the_ended_sessions_go_first() -> None:
    core, log = new_core(session_count_max=8), Log()
    for number in range(1, 9):
        core.feed_sshd(accepted(4000 + number, f"u{number}"), "pipe", 0)
        core.feed_audit(log.login(ses=number, pid=4000 + number))
    core.feed_audit(log.message("USER_END", ses=5, pid=4005) + log.message("USER_END", ses=3, pid=4003))
    core.feed_audit(log.execve(b"old", ses=1))  # the longest silent is now session 2
    core.take()
    for number in range(9, 12):
        core.feed_sshd(accepted(4000 + number, f"u{number}"), "pipe", 0)
        core.feed_audit(log.login(ses=number, pid=4000 + number))
    core.take()
    for number in range(1, 12):
        core.feed_audit(log.execve(b"x", ses=number))
    assert [session for session, _, _ in told(core)] == ["1", "4", "6", "7", "8", "9", "10", "11"]
    assert core.counters()["sessions_evicted"] == 3


def test_the_table_refuses_a_senseless_size() -> None:
    for capacity in (0, 1, (1 << 24) + 1):
        with pytest.raises(ValueError, match="session table"):
            Sessions(capacity)
    with pytest.raises(IndexError, match="slot 7"):
        Sessions(16).info(7)


@pytest.mark.parametrize("in_flight", [10, 5_000])
def test_events_interleave_without_mixing(in_flight: int) -> None:
    """Record by record in turn; past 4,096 events in flight the oldest is completed early and counted."""
    core, log = new_core(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    log.ms += 100
    events = []
    for number in range(in_flight):
        log.ms -= 10  # all within the time-out
        events.append(log.execve(b"n%d" % number, ses=7).splitlines(keepends=True))
    for position in range(len(events[0])):
        core.feed_audit(b"".join(lines[position] for lines in events))
    core.flush()
    counted = core.counters()
    assert counted["events_forced"] == max(in_flight - 4096, 0)
    found = told(core)
    args = [args for _, _, args in found if args]
    assert len(found) == in_flight
    assert counted["args_incomplete"] == len(found) - len(args)
    assert sorted(args) == sorted([f"n{number}"] for number in range(in_flight) if number >= in_flight - 4096)
    assert counted["events_late"] == (0 if in_flight <= 4096 else (in_flight - 4096) * 4)


def test_a_sequence_of_zero_at_time_zero_is_an_event() -> None:
    lines = b"".join(decode([b"type=USER_CMD msg=audit(0.000:0): pid=1 ses=2 msg='cmd=6C73 res=success'\n"]))
    assert json.loads(lines)["action"] == "ran-command"


STAMP = re.compile(rb"([0-9]{1,12})\.([0-9]{1,3}):([0-9]{1,10})\)")


def stamps() -> list[bytes]:
    """Stamps of every length, each also with a byte that belongs in none at every place."""
    numbers = [b"1234567890123"[:length] for length in range(14)]
    found = [b"%s.%s:17)" % (seconds, ms) for seconds in numbers for ms in numbers[:5]]
    found += [b"1720530029.099:%s)" % sequence for sequence in numbers]
    found += [b"1720530029.099:%d)" % number for number in (0, 2**32 - 1, 2**32, 9_999_999_999)]
    whole = b"1720530029.099:12345678)"
    found += [whole[:at] + other + whole[at + 1 :] for at in range(len(whole)) for other in (b"/", b":", b"\xb0", b" ")]
    return found


@pytest.mark.parametrize("rest", [b"", b": ", b": pid=1 ses=2 msg='cmd=6C73 res=success'"])
def test_a_stamp_is_its_numbers_or_none(rest: bytes) -> None:
    for stamp in stamps():
        match = STAMP.fullmatch(stamp)
        (*lines,) = decode([b"type=USER_CMD msg=audit(" + stamp + rest + b"\n"])
        if match is None or int(match[3]) >= 2**32 or not rest:
            assert not lines, stamp
            continue
        event = json.loads(b"".join(lines))
        assert (event["seq"], event["ts"]) == (int(match[3]), int(match[1]) * 1000 + int(match[2])), stamp


def test_the_same_sequence_at_another_time_is_another_event() -> None:
    core, log = new_core(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    for _ in range(3):
        core.feed_audit(log.execve(b"x", ses=7))
        log.sequence -= 1
    assert len(told(core)) == 3


def test_a_record_that_comes_too_late_is_counted() -> None:
    core, log = new_core(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    command = log.login(ses=7, pid=4000) + log.execve(b"x", ses=7)
    core.feed_audit(command + command.splitlines(keepends=True)[-2])
    assert core.counters()["events_late"] == 1


@pytest.mark.parametrize("background", [0, 3])
def test_what_is_nobodys_is_passed_over_by_its_stamp(background: int) -> None:
    core, log = new_core(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    counts: dict[str, int] = defaultdict(int)
    for _ in range(50):
        core.feed_audit(log.execve(b"mine", ses=7))
        for _ in range(background):
            core.feed_audit(log.execve(b"theirs", ses=4_294_967_295))
    for _, _, args in told(core):
        counts[args[0]] += 1
    assert counts == {"mine": 50}
    assert core.counters()["skipped"] == 50 * background * 4
    assert core.counters()["events_ignored"] == 50 * background
