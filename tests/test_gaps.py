"""What is missing: holes in the kernel's serials, the state of auditing, our own drops. Bytes in, AuditGap events out."""

from __future__ import annotations

import heapq
import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from audito import events
from audito.core import Core, CoreSettings
from audito.errors import StateError
from audito.sources import GapReason
from benchmarks import workload
from tests import gap_model
from tests.gap_model import FAR, SETTLE_MS, WINDOW, WRAP, WRAP_MAX, runs
from tests.records import BASE_MS, Log, accepted

FUZZ = int(os.environ.get("AUDITO_FUZZ", "0"))
PROOF_RECORDS = int(os.environ.get("AUDITO_GAP_RECORDS", "300000"))
"""Records of the proof; 2,000,000 are what was promised."""

Event = dict[str, Any]


def examples(count: int) -> Any:
    """This many examples, always the same; with AUDITO_FUZZ as many as it says, new ones, shrunk where they fail."""
    return settings(
        max_examples=FUZZ or count,
        derandomize=not FUZZ,
        phases=[Phase.generate, Phase.shrink] if FUZZ else [Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def new_core(**changes: Any) -> Core:
    return Core(CoreSettings(host="blam", machine_id="deadbeef", boot_id="boot", **changes))


def gaps(core: Core, reason: str = "") -> list[Event]:
    """The AuditGap events since the last call, of one reason or all."""
    told = [json.loads(line) for line in core.take().splitlines()]
    return [e for e in told if e["type"] == "AuditGap" and reason in ("", e["metadata"]["extra"]["reason"])]


def holes(core: Core) -> list[tuple[int, int, int]]:
    """(from, to, count) of the holes in the serials that were told since the last call."""
    found = []
    for event in gaps(core, "sequence"):
        extra = event["metadata"]["extra"]
        assert event["metadata"]["auditId"] == f"{extra['from']}-{extra['to']}"
        found.append((extra["from"], extra["to"], extra["count"]))
    return found


def line(serial: int, ms: int = BASE_MS, kind: str = "USER_CMD", node: str = "", body: str = "") -> bytes:
    """A record of no session of ours."""
    prefix = f"node={node} " if node else ""
    body = body or "pid=9 uid=0 auid=4294967295 ses=4294967295 msg='cwd=\"/\" cmd=6964 terminal=? res=success'"
    return f"{prefix}type={kind} msg=audit({ms // 1000}.{ms % 1000:03}:{serial % WRAP}): {body}\n".encode()


def lines(serials: Any, ms: int = BASE_MS, step_ms: int = 1, **more: Any) -> bytes:
    return b"".join(line(serial, ms + i * step_ms, **more) for i, serial in enumerate(serials))


def told(*inputs: bytes, **changes: Any) -> list[tuple[int, int, int]]:
    """The holes of an input, to its end."""
    core = new_core(**changes)
    for data in inputs:
        core.feed_audit(data)
    core.flush()
    return holes(core)


# ------------------------------------------------------------------------------------------- holes


def test_what_is_whole_has_no_hole() -> None:
    assert told(lines(range(100, 3000))) == []


def test_a_hole_is_told_with_its_first_its_last_and_how_many() -> None:
    assert told(lines([5, 6, 8, 9, 13, 14])) == [(7, 7, 1), (10, 12, 3)]


def test_an_event_that_has_one_record_left_is_no_hole() -> None:
    core = new_core()
    log = Log()
    records = b"".join(log.execve(b"id", ses=4294967295).splitlines(keepends=True)[i % 5] for i in range(40))
    core.feed_audit(records)
    core.flush()
    assert holes(core) == []


def test_what_comes_out_of_order_is_no_hole() -> None:
    serials = list(range(1000, 1500))
    random.Random(1).shuffle(serials)
    assert told(lines([999, *serials, 1500])) == []


def test_nothing_is_missing_before_the_first_record() -> None:
    assert told(lines([4_000_000_000, 4_000_000_001])) == []


def test_u9_no_login_tells_of_four_billion_lost_events() -> None:
    """The LOGIN and its SYSCALL have one serial; serials start again after a boot, from whatever they had come to."""
    log = Log(start=3_999_999_990)
    again = Log(start=0)
    again.ms = log.ms + 3_600_000
    core = new_core()
    for part in (log, again):
        for ses in range(1, 20):
            core.feed_audit(part.login(ses=ses, pid=4000 + ses) + part.execve(b"id", ses=ses))
    core.flush()
    assert gaps(core) == []


@pytest.mark.parametrize("last", [4, 400, 5_000, 3_000_000_000, WRAP - 100_000])
def test_serials_that_start_again_after_a_boot_are_no_hole(last: int) -> None:
    old = lines([last - 3, last - 2, last])
    new = lines([1, 2, 3, 5, 6], ms=BASE_MS + 60_000)
    start = line(4711, BASE_MS + 59_000, "DAEMON_START", body="op=start ver=3.0.9 ses=4294967295 res=success")
    assert told(old, start, new) == [(last - 1, last - 1, 1), (4, 4, 1)]
    # An aggregator's stream need not have auditd's own records: then the stamps tell, where the serials are far lower.
    if FAR < last < WRAP - WRAP_MAX:
        assert told(old, new) == [(last - 1, last - 1, 1), (4, 4, 1)]


def test_a_boot_without_a_clock_of_its_own_begins_anew_with_auditd() -> None:
    """No battery: the stamps of the first records are of before all that was seen."""
    start = line(4711, 1000, "DAEMON_START", body="op=start ver=3.0.9 ses=4294967295 res=success")
    assert told(lines(range(5000, 5100)), start, lines([1, 2, 4, 5], ms=1000)) == [(3, 3, 1)]


def test_a_boot_that_auditd_told_of_is_one_after_a_restart_too() -> None:
    """The first serials of the new count are among those that were seen of the old one."""
    core = new_core()
    core.feed_audit(lines(range(1, 20)))
    core.feed_audit(line(4711, BASE_MS + 59_000, "DAEMON_START", body="op=start ver=3.0.9 ses=4294967295 res=success"))
    gaps(core)
    again = restarted(core)
    again.feed_audit(lines([1, 2, 4, 5], ms=BASE_MS + 60_000))
    again.flush()
    assert [event["metadata"]["extra"]["from"] for event in gaps(again)] == [3]


def test_serials_wrap() -> None:
    around = range(WRAP - 700, WRAP + 700)
    missing = [serial for serial in around if serial % 50 == 7]
    assert told(lines(serial for serial in around if serial % 50 != 7)) == [
        (serial % WRAP, serial % WRAP, 1) for serial in missing
    ]


def test_u9_a_hole_over_the_wrap_is_one() -> None:
    assert told(lines([WRAP - 3, WRAP - 2, 2, 3])) == [(WRAP - 1, 1, 3)]
    assert told(lines([WRAP - 3, WRAP - 2, 0, 1])) == [(WRAP - 1, WRAP - 1, 1)]
    assert told(lines([WRAP - 2, WRAP - 1, 1, 2])) == [(0, 0, 1)]


def test_nodes_have_serials_of_their_own() -> None:
    mixed = b"".join(
        line(serial + offset, BASE_MS + serial, node=name)
        for serial in range(100, 400)
        for offset, name in ((0, ""), (7_000, "web1"), (900_000, "web2:b"), (50, "db"))
        if (serial + offset) % 90
    )
    core = new_core()
    core.feed_audit(mixed)
    core.flush()
    by_node: dict[str, list[int]] = {}
    for event in gaps(core, "sequence"):
        extra = event["metadata"]["extra"]
        assert extra["from"] == extra["to"]
        by_node.setdefault(extra.get("node", ""), []).append(extra["from"])
    assert by_node == {
        "": [180, 270, 360],
        "web1": [7110, 7200, 7290, 7380],
        "web2:b": [900_180, 900_270, 900_360],
        "db": [180, 270, 360],
    }


def test_more_nodes_than_are_kept_cost_the_one_that_was_silent_the_longest() -> None:
    core = new_core()
    for number in range(80):
        core.feed_audit(lines([10, 11, 13], node=f"n{number}"))
    assert core.counters()["nodes_evicted"] == 16
    core.flush()
    assert holes(core) == [(12, 12, 1)] * 80


def test_serials_of_auditd_make_no_hole_and_fill_none() -> None:
    """As captured: auditd counts from a random number below 10,000, which may be the kernel's next one."""
    kernel = [4529, 4530, 4532, 4533, 4534, 4536, 4538, 4540]
    kinds = ["DAEMON_START", "DAEMON_ROTATE", "DAEMON_CONFIG", "UNKNOWN[1210]", "DAEMON_NEWER", "DAEMON_END", "1209"]
    body = "op=x auid=0 uid=0 ses=4294967295 pid=9 res=success"
    of_auditd = [line(kernel[i] + 1, BASE_MS + i, kind, body=body) for i, kind in enumerate(kinds)]
    of_auditd.append(line(2_000_000_000, BASE_MS, "DAEMON_ROTATE", body=body))
    both = b"".join(line(a, BASE_MS - 50) + b for a, b in zip(kernel, of_auditd, strict=True))
    assert told(both) == [(missing, missing, 1) for missing in (4531, 4535, 4537, 4539)]
    assert told(lines([10, 11]), line(12, kind="DAEMON_NEWER", body=body), lines([13])) == [(12, 12, 1)]


# ------------------------------------------------------------------------------------------- when a hole is told


def test_a_hole_is_told_when_the_window_has_moved_past_it() -> None:
    core = new_core()
    core.feed_audit(lines([10, 12, *range(13, 11 + WINDOW)], step_ms=0))
    assert holes(core) == []
    core.feed_audit(lines([11 + WINDOW]))
    assert holes(core) == [(11, 11, 1)]
    core.flush()
    assert holes(core) == []


def test_a_hole_longer_than_the_window_is_one_all_the_same() -> None:
    core = new_core()
    core.feed_audit(lines([10, 11, *range(12 + FAR, 12 + FAR + WINDOW * 2, FAR)], step_ms=0))
    core.flush()
    assert holes(core)[:2] == [(12, 11 + FAR, FAR), (13 + FAR, 11 + 2 * FAR, FAR - 1)]


def test_a_hole_is_told_some_seconds_of_record_time_later() -> None:
    core = new_core()
    core.feed_audit(lines([10, 12], step_ms=0) + line(13, BASE_MS + SETTLE_MS))
    assert holes(core) == []
    core.feed_audit(line(14, BASE_MS + SETTLE_MS + 1))
    (event,) = gaps(core)
    assert event["metadata"] == {"auditId": "11-11", "extra": {"from": 11, "to": 11, "count": 1, "reason": "sequence"}}
    assert event["loggedAt"] == events.time_text(BASE_MS), "when it was first seen"
    assert event["component"] == "auditd"
    assert event["target"] == {"host": "blam", "machine-id": "deadbeef"}


def test_one_stamp_far_ahead_does_not_tell_a_hole_early() -> None:
    core = new_core()
    core.feed_audit(lines([10, 12]) + line(13, BASE_MS + 86_400_000) + lines([14, 11, 15]))
    core.flush()
    assert holes(core) == []


def test_live_the_wall_clock_counts_where_all_was_read() -> None:
    core = new_core()
    core.feed_audit(lines([10, 12]))
    for second in range(5):
        core.tick(BASE_MS + 1000 * second, audit_idle=True)
    core.tick(BASE_MS + 100_000, audit_idle=False)
    assert holes(core) == []
    core.tick(BASE_MS + 100_000, audit_idle=True)
    assert holes(core) == [(11, 11, 1)]


# ------------------------------------------------------------------------------------------- far off


@pytest.mark.parametrize("jump", [FAR + 2, 5_000, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW, 900_000])
def test_a_loss_of_any_length_is_one_hole_once_two_records_say_so(jump: int) -> None:
    core = new_core()
    core.feed_audit(lines([10, 11]) + line(11 + jump))
    assert core.counters()["serials_doubted"] == 1
    core.feed_audit(lines([13 + jump, 12 + jump, 14 + jump]))
    core.flush()
    assert holes(core) == [(12, 10 + jump, jump - 1)]


@pytest.mark.parametrize("absurd", [0, 1, 2**31, 2**32 - 1, 500_000])
def test_a_torn_line_with_an_absurd_serial_is_no_hole(absurd: int) -> None:
    around = b"".join(lines([100_000 + 2 * i, 100_001 + 2 * i], BASE_MS + i) for i in range(50))
    middle = len(around) // 2 // len(line(100_000)) * len(line(100_000))
    assert told(around[:middle], line(absurd, BASE_MS + 30), around[middle:]) == []


def test_many_absurd_serials_give_no_flood() -> None:
    rng = random.Random(3)
    mixed = b"".join(line(1000 + i, BASE_MS + i) + line(rng.randrange(WRAP), BASE_MS + i) for i in range(3000))
    assert len(told(mixed)) < 3


def test_more_than_a_kernel_can_make_is_no_loss() -> None:
    assert told(lines([10, 11, 3_000_000_000, 3_000_000_001, 3_000_000_003, 3_000_000_004])) == [
        (3_000_000_002, 3_000_000_002, 1)
    ]


# ------------------------------------------------------------------------------------------- restarts


def restarted(core: Core, **changes: Any) -> Core:
    """A new process that takes up the state of this one."""
    again = new_core()
    again.load(core.dump(), core.audit_resolved, core.sshd_resolved, **changes)
    return again


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("lost", [{2}, {2, 3}, {1}, {1, 2, 3, 6}, {8}, {1, 2, 3, 6, 7, 8}, set()])
def test_f05_what_was_held_and_does_not_come_again_is_told(lost: set[int], restarts: int) -> None:
    """A log is cut while a session waits, and grows past the place before the next look: its serials had come."""
    core, log = new_core(), Log()
    core.feed_sshd(accepted(4001), "pipe", 0)
    held, done = {"ses": 7, "pid": 4000}, {"ses": 8, "pid": 4001}
    parts = [log.login(**held), log.execve(b"a", ses=7), log.execve(b"b", ses=7), log.login(**done)]
    parts += [log.execve(b"c", ses=8), log.execve(b"d", ses=7), log.execve(b"e", ses=7), log.execve(b"f", ses=7)]
    core.feed_audit(b"".join(parts))
    assert core.take().count(b"UserAction") == 2
    for _ in range(restarts):
        core = restarted(core)
    core.feed_audit(b"".join(part for number, part in enumerate(parts, 1) if number not in lost))
    core.feed_audit(lines(range(log.sequence + 1, log.sequence + 90), log.ms))  # longer than what is lost
    core.tick(BASE_MS + 100_000)
    assert gaps(core) == []
    core.tick(BASE_MS + 106_000)
    first = log.sequence - len(parts)
    told = [(first + low, first + high, high - low + 1) for low, high in runs(sorted(lost))]
    assert holes(core) == told
    core.flush()
    again = restarted(core)
    again.feed_audit(lines([log.sequence + 90], log.ms + 100))
    again.flush()
    assert gaps(core) + gaps(again) == []


def test_f05_what_does_not_come_again_is_told_with_what_had_never_come() -> None:
    """The window goes back to the first that was held: what was missing there and not told yet is told once."""
    core, log = new_core(), Log()
    held = [log.login(ses=7, pid=4000)]
    log.sequence += 2
    held.append(log.execve(b"a", ses=7))
    first = log.sequence - 3
    core.feed_audit(b"".join(held))
    again = restarted(restarted(core))
    again.feed_audit(b"".join(held) + lines([log.sequence + 1], log.ms + 10))
    again.flush()
    assert holes(again) == [(first + 1, first + 2, 2)]
    lost = restarted(core)
    lost.feed_audit(held[0] + lines([log.sequence + 1], log.ms + 10))
    lost.flush()
    assert holes(lost) == [(first + 1, first + 3, 3)]


def test_f05_more_than_the_window_holds_came_behind_what_is_held() -> None:
    core, log = new_core(), Log()
    held = log.login(ses=7, pid=4000)
    later = log.sequence + 1
    core.feed_audit(held + lines(range(later, later + WINDOW), log.ms))
    again = restarted(core)
    again.feed_audit(lines([later + WINDOW], log.ms + 10_000))
    again.flush()
    assert gaps(again) == [], "it is too long ago to be known"


def test_a_hole_over_a_restart_is_told_once() -> None:
    core = new_core()
    core.feed_audit(lines([10, 12]))
    again = restarted(core)
    again.feed_audit(lines([13, 14, 17]))
    third = restarted(again)
    third.feed_audit(lines([18]))
    third.flush()
    assert (holes(core), holes(again), holes(third)) == ([], [], [(11, 11, 1), (15, 16, 2)])
    fourth = restarted(third)
    fourth.feed_audit(lines([19]))
    fourth.flush()
    assert holes(fourth) == []


def test_what_was_missed_while_we_did_not_run_is_a_hole() -> None:
    core = new_core()
    core.feed_audit(lines([10, 11]))
    again = restarted(core)
    again.feed_audit(lines([200, 201, 202]))
    again.flush()
    assert holes(again) == [(12, 199, 188)]


def test_a_million_serials_that_are_read_again_are_neither_holes_nor_a_boot() -> None:
    """A session that waits for its login line holds the place in the input; all that came after it comes again."""
    core = new_core()
    log = Log()
    first = log.login(ses=7, pid=4000) + log.execve(b"id", ses=7)
    rest = [serial for serial in range(log.sequence + 1, log.sequence + 60_000) if serial % 10_000]
    data = first + lines(rest, log.ms)
    core.feed_audit(data)
    before = holes(core)
    assert core.audit_resolved == 0
    again = restarted(core)
    again.feed_audit(data + line(rest[-1] + 1, log.ms + 60_000))
    again.flush()
    assert before + holes(again) == [(n, n, 1) for n in range(10_000, 60_001, 10_000)]
    assert again.counters()["serials_doubted"] == 0


def test_state_of_before_a_boot_keeps_what_was_missing_and_expects_serials_anew() -> None:
    core = new_core()
    core.feed_audit(lines([5000, 5002]))
    for first in (1, 900_000):
        again = restarted(core, rebooted=True, now_ms=BASE_MS + 600_000)
        again.feed_audit(line(5003, BASE_MS + 50) + lines([first, first + 1, first + 3], BASE_MS + 500_000))
        again.flush()
        assert holes(again) == [(5001, 5001, 1), (first + 2, first + 2, 1)]


@pytest.mark.parametrize("bits", [b"", b"\0", b"\x01", b"\x02\x02"])
def test_a_state_that_makes_no_sense_is_refused(bits: bytes) -> None:
    core = new_core()
    core.feed_audit(lines([10, 12]))
    state = json.loads(core.dump())
    from base64 import b64encode

    state["serials"][0][-1] = b64encode(bits).decode()
    with pytest.raises(StateError):
        new_core().load(json.dumps(state).encode(), 0, 0)


def test_a_state_of_the_version_before_is_taken() -> None:
    core = new_core()
    core.feed_audit(lines([10, 12]))
    state = json.loads(core.dump())
    for name in ("serials", "unresolved_bytes", "unwritten"):
        del state[name]
    again = new_core()
    again.load(json.dumps(state).encode(), 0, 0)
    again.feed_audit(lines([20, 21]))
    again.flush()
    assert holes(again) == []


def damaged(rng: random.Random, nodes: list[str]) -> tuple[list[tuple[int, str]], dict[str, list[int]]]:
    """Serials of some nodes in an order that is at most 500 off, some deleted; and what is missing in each node."""
    arrivals: list[tuple[float, int, str]] = []
    for node in nodes:
        first = rng.choice([1, 77, WRAP - 900, WRAP - 20, 2_000_000_000])
        lost, reach = rng.choice([0.0, 0.01, 0.2, 0.9]), rng.choice([0, 1, 20, 500])
        count = rng.randrange(1, 1500)
        arrivals += [(i + rng.random() * reach, (first + i) % WRAP, node) for i in range(count) if rng.random() >= lost]
    arrivals.sort()
    order = [(serial, node) for _, serial, node in arrivals]
    missing: dict[str, list[int]] = {}
    for node in {node for _, node in order}:
        came = [serial for serial, of in order if of == node]
        unwrapped = [came[0] + (serial - came[0] + WRAP // 2) % WRAP - WRAP // 2 for serial in came]
        missing[node] = sorted(set(range(unwrapped[0], max(unwrapped))) - set(unwrapped))
    return order, missing


@examples(120)
@given(st.integers(0, 1 << 32), st.sampled_from([[""], ["", "a"], ["a", "b", "c"]]), st.booleans())
def test_f24_exactly_what_is_missing_is_told_over_restarts_at_any_byte(seed: int, nodes: list[str], held: bool) -> None:
    rng = random.Random(seed)
    order, missing = damaged(rng, nodes)
    # A session without a login line makes all that follows come again after a restart.
    data = Log(node=b"held").login(ses=7, pid=4000) if held else b""
    data += b"".join(line(serial, BASE_MS + i // 4, node=node) for i, (serial, node) in enumerate(order))
    core, at, found = new_core(), 0, []
    for cut in sorted(rng.randrange(len(data) + 1) for _ in range(3)):
        core.feed_audit(data[at : max(cut, at)])
        found += gaps(core, "sequence")
        at, core = core.audit_resolved, restarted(core)
    core.feed_audit(data[at:])
    core.flush()
    found += gaps(core, "sequence")
    got: dict[str, list[tuple[int, int, int]]] = {node: [] for node in missing}
    for event in found:
        extra = event["metadata"]["extra"]
        got[extra.get("node", "")].append((extra["from"], extra["to"], extra["count"]))
    assert got == {
        node: [(first % WRAP, last % WRAP, last - first + 1) for first, last in runs(numbers)]
        for node, numbers in missing.items()
    }


# ------------------------------------------------------------------------------------------- against the slow model

STEP = st.sampled_from([1, 1, 1, 1, 2, 5, 400, FAR - 1, FAR, FAR + 1])
FAR_STEP = st.sampled_from(
    [FAR + 1, 5_000, WINDOW - FAR, WINDOW - 1, WINDOW, WINDOW + FAR, 40_000, (1 << 24) - 5, 10**9]
)
PAUSE_MS = st.sampled_from([0, 0, 1, 10, 300, 1_000, 1_500, 6_000, -100, -200_000])
OPERATIONS = st.one_of(
    st.tuples(st.just("steps"), st.lists(STEP, min_size=1, max_size=30)),
    st.tuples(st.just("steps"), st.lists(STEP, min_size=1, max_size=30)),
    st.tuples(st.just("late"), st.integers(0, 20_000)),
    st.tuples(st.just("jump"), st.tuples(FAR_STEP, st.lists(st.sampled_from([1, 3, -2, FAR, -FAR]), max_size=4))),
    st.tuples(st.just("absurd"), st.integers(0, WRAP - 1)),
    st.tuples(st.just("boot"), st.sampled_from([1, 50, -5_000, -100])),
    st.tuples(st.just("auditd"), st.integers(0, 10_000)),
    st.tuples(st.just("flush"), st.none()),
)  # fmt: skip


def scenario(first: int, steps: list[tuple[int, tuple[str, Any]]]) -> Iterator[tuple[int, int, str]]:
    """(serial, stamp, type) of records; "" for the end of an input. No serial has the same stamp twice."""
    serial, ms, had = first, BASE_MS, set()

    def record(of: int, at_ms: int, kind: str = "USER_CMD") -> Iterator[tuple[int, int, str]]:
        if (of % WRAP, at_ms) not in had:
            had.add((of % WRAP, at_ms))
            yield of % WRAP, at_ms, kind

    for pause_ms, (name, choice) in steps:
        ms += pause_ms
        if name == "flush":
            yield 0, 0, ""
        elif name == "auditd":
            yield from record(choice, ms, "DAEMON_START")
        elif name == "late":
            yield from record(serial - choice, ms)
        elif name == "absurd":
            yield from record(choice, ms + choice % 3 * 40_000)
        else:
            if name == "boot":
                serial, ms = (choice if choice > 0 else serial + choice), ms + 20_000
                yield from record(serial, ms)
                choice = [1, 1]
            elif name == "jump":
                serial += choice[0]
                yield from record(serial, ms)
                choice = choice[1]
            for step in choice:
                serial += step
                ms += step % 3 * 20
                yield from record(serial, ms)


@examples(400)
@given(
    st.sampled_from([5, 100, WRAP - 3_000, WRAP - 50, 3_000_000_000]),
    st.lists(st.tuples(PAUSE_MS, OPERATIONS), max_size=60),
)
def test_what_is_told_is_what_the_slow_model_tells(first: int, steps: list[tuple[int, tuple[str, Any]]]) -> None:
    core, model = new_core(), gap_model.Model()
    for serial, ms, kind in scenario(first, steps):
        if not kind:
            core.flush()
            model.flush()
            continue
        core.feed_audit(line(serial, ms, kind))
        if kind == "DAEMON_START":
            model.daemon_start(ms)
        else:
            model.note(serial, ms)
    core.flush()
    model.flush()
    got = [
        (extra["from"], extra["to"], extra["count"], event["loggedAt"])
        for event in gaps(core, "sequence")
        for extra in [event["metadata"]["extra"]]
    ]
    assert got == [(*hole[:3], events.time_text(hole[3])) for hole in model.told]


# ------------------------------------------------------------------------------------------- the proof


def records_of_a_host(rng: random.Random, count: int, per_second: int) -> Iterator[tuple[int, str]]:
    """(serial, line) of so many records, by the workload's writer: two messages of one record for each program run."""
    chosen = workload.Settings(seed=rng.randrange(1 << 30), start_ms=BASE_MS, events_per_second=per_second)
    made = workload.Workload(chosen)
    made.seq = WRAP - count // 10
    who = workload.NO_SESSION
    while count > 0:
        pid = made.next_pid()
        if rng.random() < 2 / 3:
            text = made.writer.message(made.stamp(), "USER_ACCT", pid, who, "op=PAM:accounting res=success")
        else:
            text = made.writer.executed(made.stamp(), who, rng.choice(made.services), pid)
        for record in text.split("\n")[:-1]:
            count -= 1
            yield made.seq, record + "\n"


def interleaved(records: Iterator[tuple[int, str]], rng: random.Random, reach: int) -> Iterator[tuple[int, str]]:
    """The same records, each up to ``reach`` places from where it was."""
    waiting: list[tuple[int, int, int, str]] = []
    for place, (serial, record) in enumerate(records):
        heapq.heappush(waiting, (place + rng.randrange(reach), place, serial, record))
        while waiting[0][0] < place:
            yield heapq.heappop(waiting)[2:]
    while waiting:
        yield heapq.heappop(waiting)[2:]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("per_second", [300, 20_000])
def test_of_two_million_records_with_one_in_a_hundred_deleted_exactly_the_missing_events_are_told(
    per_second: int,
) -> None:
    """A hole is a serial none of whose records is left; first, last and count of each, in order.

    At 300 events a second a hole is decided by the time, at 20,000 by the window.
    """
    rng = random.Random(per_second)
    came: set[int] = set()
    arrived: list[int] = []
    core = new_core(event_types=("AuditGap",))
    got: list[tuple[int, int, int]] = []
    chunk: list[str] = []
    kept = 0
    for serial, record in interleaved(records_of_a_host(rng, PROOF_RECORDS, per_second), rng, 500):
        if rng.random() < 0.01:
            continue
        kept += 1
        if serial not in came:
            came.add(serial)
            arrived.append(serial)
        chunk.append(record)
        if len(chunk) == 1000:
            core.feed_audit("".join(chunk).encode())
            got += holes(core)
            chunk.clear()
    core.feed_audit("".join(chunk).encode())
    core.flush()
    got += holes(core)
    shifted = [(serial - arrived[0]) % WRAP for serial in arrived]
    end = max(serial for serial in shifted if serial < WRAP // 2)
    missing = sorted(set(range(end)) - set(shifted))
    truth = [
        ((first + arrived[0]) % WRAP, (last + arrived[0]) % WRAP, last - first + 1) for first, last in runs(missing)
    ]
    assert core.counters()["lines"] == kept
    assert len(truth) > PROOF_RECORDS / 1000, "the generator does delete whole events"
    assert max(count for _, _, count in truth) > 1
    assert got == truth


# ------------------------------------------------------------------------------------------- the state of auditing

WHO = 'auid=4294967295 ses=4294967295 res=1\x1dAUID="unset"'


def state(*bodies: str, kind: str = "CONFIG_CHANGE") -> list[Event]:
    """The gaps that records of this kind tell, and nothing else."""
    core = new_core()
    core.feed_audit(b"".join(line(100 + i, BASE_MS + i, kind, body=body) for i, body in enumerate(bodies)))
    core.flush()
    return gaps(core)


def reasons(found: list[Event]) -> list[str]:
    return [event["metadata"]["extra"]["reason"] for event in found]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        # As kernel 6.18 writes them …
        (f"op=set audit_enabled=0 old=1 {WHO}", "auditing_disabled"),
        (f"op=set audit_enabled=0 old=2 {WHO}", "auditing_disabled"),
        (f"auid=4294967295 ses=4294967295 op=remove_rule key=\"gapx\" list=4 res=1{WHO[-13:]}", "rules_deleted"),
        ('op=remove_rule dir="/srv/watched" key="wdir2" list=4 res=1', "rules_deleted"),
        (f"op=set audit_backlog_limit=8192 old=64 {WHO}", "backlog_changed"),
        (f"op=set audit_backlog_wait_time=0 old=15000 {WHO}", "backlog_changed"),
        (f"op=set audit_rate_limit=5 old=0 {WHO}", "rate_limit_changed"),
        (f"op=set lost=0 old=44 {WHO}", "kernel_lost"),
        # … and older ones.
        ("audit_enabled=1 old=0 auid=4294967295 ses=4294967295 res=1", "auditing_enabled"),
        ("audit_enabled=0 old=1 auid=0 ses=3 subj=kernel res=1", "auditing_disabled"),
        ('auid=0 ses=3 op="remove rule" key=(null) list=4 res=1', "rules_deleted"),
        ("auid=0 ses=3 op=remove rule key=(null) list=4 res=1", "rules_deleted"),
        # Nothing changed, or it was refused.
        (f"op=set audit_enabled=1 old=1 {WHO}", ""),
        (f"op=set audit_enabled=2 old=1 {WHO}", ""),
        ("op=set audit_enabled=0 old=2 auid=0 ses=3 res=0", ""),
        ("auid=0 ses=3 op=remove_rule key=(null) list=4 res=0", ""),
        (f"op=set audit_backlog_limit=64 old=64 {WHO}", ""),
        (f"op=set lost=0 old=0 {WHO}", ""),
        (f"op=set lost=0 old={'9' * 5000} {WHO}", ""),
        (f"op=set audit_failure=0 old=1 {WHO}", ""),
        (f"op=set audit_pid=0 old=77 {WHO}", ""),
        ("auid=0 ses=3 op=add_rule key=(null) list=4 res=1", ""),
    ],
)  # fmt: skip
def test_a_change_of_auditing_is_told(body: str, reason: str) -> None:
    found = state(body)
    assert reasons(found) == [reason] * bool(reason)
    for event in found:
        extra = event["metadata"]["extra"]
        assert event["loggedAt"] == events.time_text(BASE_MS)
        assert event["metadata"]["auditId"] == f"{reason}:100"
        assert extra["sequence"] == 100
        assert extra["detail"] == body.partition("\x1d")[0]
        assert extra.get("session") == ("3" if "ses=3" in body else None)
        assert extra.get("count") == (44 if reason == "kernel_lost" else None)
        assert "from" not in extra


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("DAEMON_START", "op=start ver=3.0.9 format=enriched ses=4294967295 res=success", "auditd_started"),
        ("DAEMON_END", "op=terminate auid=0 uid=0 ses=4294967295 pid=31935 res=success", "auditd_stopped"),
        ("DAEMON_ABORT", "op=error-halt auid=0 pid=4 res=failed", "auditd_stopped"),
        ("DAEMON_RESUME", "op=resume-logging auid=0 uid=0 ses=4294967295 pid=31935 res=success", "auditd_resumed"),
        ("DAEMON_ROTATE", "op=rotate-logs auid=0 uid=0 ses=4294967295 pid=1 res=success", ""),
        ("DAEMON_CONFIG", "op=reconfigure state=changed auid=0 pid=1 res=success", ""),
    ],
)
def test_auditd_that_starts_or_stops_is_told(kind: str, body: str, reason: str) -> None:
    assert reasons(state(body, kind=kind)) == [reason] * bool(reason)


def test_two_rules_of_one_directory_are_deleted_in_one_event() -> None:
    """As captured: rmdir of a watched directory; both records have one serial, and the SYSCALL says who it was."""
    core = new_core()
    stamp = "audit(1795420415.676:4566)"
    core.feed_audit(
        f'type=CONFIG_CHANGE msg={stamp}: op=remove_rule dir="/w" key="wdir2" list=4 res=1\n'
        f'type=CONFIG_CHANGE msg={stamp}: op=remove_rule dir="/w" key="wdir" list=4 res=1\n'
        f"type=SYSCALL msg={stamp}: arch=c000003e syscall=84 success=yes exit=0 pid=32059 ses=4294967295\n"
        f'type=CONFIG_CHANGE msg={stamp}: op=remove_rule dir="/w" key="late" list=4 res=1\n'.encode()
    )
    core.flush()
    assert reasons(gaps(core)) == ["rules_deleted"] * 3


def test_that_auditing_is_on_again_is_seen_by_the_next_syscall() -> None:
    """The kernel logs audit_enabled=1 only where auditing is on already; a syscall's record shows that it is."""
    core = new_core()
    off = line(50, BASE_MS, "CONFIG_CHANGE", body=f"op=set audit_enabled=0 old=1 {WHO}")
    syscall = 'arch=c000003e syscall=44 success=yes exit=60 pid=9 ses=4294967295 exe="/usr/sbin/auditctl"'
    core.feed_audit(line(49) + off + line(50, BASE_MS, "SYSCALL", body=syscall))
    core.feed_audit(line(51, BASE_MS + 90, "SYSCALL", body=syscall))  # entered before it was switched off, maybe
    core.feed_audit(line(52, BASE_MS + 9_000, "AVC", body="avc: denied { read } for pid=1"))  # comes all the same
    assert reasons(gaps(core)) == ["auditing_disabled"]
    again = restarted(core)
    again.feed_audit(line(52, BASE_MS + 9_000, "AVC", body="avc: denied { read } for pid=1"))  # it was in flight
    again.feed_audit(line(53, BASE_MS + 9_900, "SYSCALL", body=syscall) + lines([54, 55], BASE_MS + 10_000))
    again.flush()
    (event,) = gaps(again)
    assert event["loggedAt"] == events.time_text(BASE_MS + 9_900)
    assert event["metadata"]["extra"] == {"reason": "auditing_enabled", "sequence": 53}


def test_the_first_record_of_all_may_switch_auditing_off() -> None:
    core = new_core()
    core.feed_audit(line(50, BASE_MS, "CONFIG_CHANGE", body=f"op=set audit_enabled=0 old=1 {WHO}"))
    core.feed_audit(line(51, BASE_MS + 500, "SYSCALL", body="arch=c000003e syscall=1 success=yes pid=9 ses=3"))
    assert reasons(gaps(core)) == ["auditing_disabled", "auditing_enabled"]


def test_who_switched_auditing_off_in_a_session_is_told_as_an_action_too() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.feed_audit(
        log.event(
            ("CONFIG_CHANGE", b"op=set audit_enabled=0 old=1 auid=1000 ses=7 res=1"),
            log.syscall(44, ses=7, pid=5000, comm="auditctl", exe="/usr/sbin/auditctl", uid=0),
            ("PROCTITLE", b"proctitle=617564697463746C002D650030"),
        )
    )
    core.feed_audit(log.event(("DAEMON_END", b"op=terminate auid=1000 uid=0 ses=7 pid=5001 res=success")))
    found = [json.loads(text) for text in core.take().splitlines()]
    assert [event["type"] for event in found].count("AuditGap") == 2
    assert {e["metadata"]["extra"]["session"] for e in found if e["type"] == "AuditGap"} == {"7"}
    done = [event["metadata"]["extra"]["action"] for event in found if event["type"] == "UserAction"]
    assert done[1:] == ["changed-audit-configuration", "shutdown-audit"]


def test_a_change_of_auditing_that_is_read_again_is_not_told_again() -> None:
    core = new_core()
    log = Log()
    held = log.login(ses=7, pid=4000)
    data = held + log.event(("CONFIG_CHANGE", b"op=set audit_enabled=0 old=1 auid=0 ses=4294967295 res=1"))
    core.feed_audit(data)
    assert reasons(gaps(core)) == ["auditing_disabled"]
    later = log.event(("DAEMON_END", b"op=terminate auid=0 uid=0 ses=4294967295 pid=9 res=success"))
    again = restarted(core)
    again.feed_audit(data + later)
    assert reasons(gaps(again)) == ["auditd_stopped"]
    # Where the place was not found again it may be another log: what that says is news.
    lost = restarted(core)
    lost.input_gap("audit", "audit-directory", "file_gone", BASE_MS)
    lost.skip("audit", None)
    lost.feed_audit(data)
    assert reasons(gaps(lost)) == ["file_gone", "auditing_disabled"]


@pytest.mark.parametrize("held", [True, False])
def test_a_change_of_auditing_is_told_once_over_a_restart_at_any_byte(held: bool) -> None:
    log = Log()
    body = b"op=set audit_enabled=0 old=1 auid=0 ses=4294967295 res=1"
    data = (log.login(ses=7, pid=4000) if held else b"") + log.event(("CONFIG_CHANGE", body))
    log.ms += 1000
    data += log.execve(b"id", ses=3) + log.event(("DAEMON_END", b"op=terminate auid=0 ses=4294967295 res=success"))
    for cut in range(0, len(data), 11):
        core = new_core()
        core.feed_audit(data[:cut])
        found = reasons(gaps(core))
        again = restarted(core)
        again.feed_audit(data[core.audit_resolved :])
        again.flush()
        assert found + reasons(gaps(again)) == ["auditing_disabled", "auditing_enabled", "auditd_stopped"], cut


def test_a_record_that_is_too_long_is_told_once_over_a_restart() -> None:
    data = lines([10]) + line(11, body="x" * 80_000) + lines([12])
    for cut in range(0, len(data), 5_000):
        core = new_core()
        core.feed_audit(data[:cut])
        found = reasons(gaps(core))
        again = restarted(core)
        again.feed_audit(data[core.audit_resolved :])
        again.flush()
        assert found + reasons(gaps(again)) == ["record_too_long"], cut


def test_the_kernels_own_log_tells_what_it_lost() -> None:
    core = new_core()
    core.feed_audit(
        line(1)
        + b"kernel: audit: audit_lost=44 audit_rate_limit=5 audit_backlog_limit=100\n"
        + b"kernel: audit: rate limit exceeded\n"
        + b"[   12.5] audit: audit_lost=50 audit_rate_limit=5 audit_backlog_limit=100\n"
        + b"[   12.5] audit: audit_lost=50 audit_rate_limit=5 audit_backlog_limit=100\n"
        + b"audit: backlog limit exceeded\n"
        + b"audit: kauditd hold queue overflow\n"
        + b"audit: audit_lost=3 audit_rate_limit=0 audit_backlog_limit=64\n"
        + b"something else of audit: nothing\n"
    )
    found = gaps(core)
    assert reasons(found) == ["kernel_lost"] * 4
    assert [event["metadata"]["extra"].get("count") for event in found] == [44, 6, None, 3]
    again = restarted(core)
    again.feed_audit(b"audit: audit_lost=4 audit_rate_limit=0 audit_backlog_limit=64\n")
    assert [event["metadata"]["extra"].get("count") for event in gaps(again)] == [1]


# ------------------------------------------------------------------------------------------- our own drops


def test_a_record_that_is_too_long_is_told_once_and_its_serial_is_no_hole() -> None:
    core = new_core()
    long = line(11, body="x" * 70_000)
    core.feed_audit(line(10) + long + line(12) + b"y" * 70_000 + b"\n" + line(13))
    for at in range(0, len(long), 4096):
        core.feed_audit(long[at : at + 4096])
    core.flush()
    found = gaps(core)
    assert reasons(found) == ["record_too_long"] * 3
    assert [event["metadata"]["extra"].get("sequence") for event in found] == [11, None, 11]
    assert {event["metadata"]["extra"]["count"] for event in found} == {1}


def test_a_live_session_that_is_pushed_out_is_told() -> None:
    core = new_core(session_count_max=4)
    log = Log()
    for ses in range(1, 5):
        core.feed_sshd(accepted(4000 + ses), "pipe", 0)
        core.feed_audit(log.login(ses=ses, pid=4000 + ses))
    core.feed_audit(log.message("USER_END", ses=2, pid=4002))
    core.feed_audit(log.login(ses=5, pid=4005))
    assert gaps(core) == [], "it had ended"
    core.feed_audit(log.login(ses=6, pid=4006))
    (event,) = gaps(core)
    assert event["metadata"]["extra"] == {"reason": "session_evicted", "detail": "sessions: 1"}


def test_what_a_pipe_gave_before_the_first_serial_was_saved_is_told() -> None:
    """After the kill no serial shows that there were events between the checkpoint and it."""
    state = new_core().dump()
    for killed, rebooted, told in ((True, False, 1), (False, False, 0), (True, True, 1)):
        again = new_core()
        again.load(state, 0, 0, now_ms=BASE_MS, again=False, killed=killed, rebooted=rebooted)
        assert [event["metadata"]["extra"] for event in gaps(again)] == [{"reason": "killed"}] * told
    seen = new_core()
    seen.feed_audit(Log().execve(b"id", ses=7))
    again = new_core()
    again.load(seen.dump(), 0, 0, now_ms=BASE_MS, again=False, killed=True)
    assert gaps(again) == [], "the serials will tell"


def after_a_kill(again: bool = False, killed: bool = True, rebooted: bool = False) -> Core:
    """It goes on from a state that has serials up to 12 of one node, and up to 7 of another."""
    before, core = new_core(), new_core()
    before.feed_audit(lines([10, 11, 12]) + lines([6, 7], node="b"))
    core.load(before.dump(), 0, 0, now_ms=BASE_MS, again=again, killed=killed, rebooted=rebooted)
    return core


SILENT = [{"reason": "killed", "sequence": 12}, {"reason": "killed", "sequence": 7, "node": "b"}]


def test_a_pipe_that_is_silent_after_a_kill_leaves_open_what_was_read_behind_the_last_serial() -> None:
    core = after_a_kill()
    for second in range(6):
        core.tick(BASE_MS + 1000 * second, audit_idle=True)
    core.tick(BASE_MS + 100_000, audit_idle=False)
    assert gaps(core) == []
    core.tick(BASE_MS + 5_001, audit_idle=True)
    found = gaps(core)
    assert [event["metadata"]["extra"] for event in found] == SILENT
    assert [event["metadata"]["auditId"] for event in found] == [f"killed:12:{BASE_MS}", f"killed:7:{BASE_MS}"]
    for second in range(20):
        core.tick(BASE_MS + 6_000 + 1000 * second, audit_idle=True)
    core.feed_audit(lines([15], BASE_MS + 30_000))
    core.flush()
    assert [event["metadata"]["extra"]["reason"] for event in gaps(core)] == ["sequence"], "it is told once"


@pytest.mark.parametrize("ticks", [0, 1])
def test_what_a_silent_pipe_leaves_open_is_told_when_we_end(ticks: int) -> None:
    core = after_a_kill()
    for _ in range(ticks):
        core.tick(BASE_MS, audit_idle=True)
    core.flush()
    assert [event["metadata"]["extra"] for event in gaps(core)] == SILENT


@pytest.mark.parametrize("ticks", [0, 1])
def test_a_serial_that_comes_after_a_kill_shows_what_is_missing_before_it(ticks: int) -> None:
    core = after_a_kill()
    for _ in range(ticks):
        core.tick(BASE_MS, audit_idle=True)
    core.feed_audit(lines([13]) + lines([10], node="b"))
    for second in range(20):
        core.tick(BASE_MS + 1000 * second, audit_idle=True)
    core.flush()
    assert [event["metadata"]["extra"] for event in gaps(core)] == [
        {"from": 8, "to": 9, "count": 2, "reason": "sequence", "node": "b"}
    ]


def test_f25_what_a_pipe_gave_before_the_power_failed_is_told_with_its_serials_and_of_its_boot() -> None:
    """A hole that was not told yet, events that were held, and what may have been read behind the last serial."""
    log = Log()
    before, core = new_core(), new_core()
    before.feed_audit(log.login(ses=7, pid=4000))
    log.sequence += 4
    before.feed_audit(log.execve(b"id", ses=7))
    last, last_ms = log.sequence, log.ms
    core.load(before.dump(), 0, 0, now_ms=last_ms + 60_000, rebooted=True, again=False, killed=True)
    found = gaps(core)
    assert [event["metadata"]["extra"] for event in found] == [
        {"from": last - 4, "to": last - 1, "count": 4, "reason": "sequence"},
        {"reason": "killed", "sequence": last},
        {"reason": "killed", "count": 2},
    ]
    assert max(event["loggedAt"] for event in found) <= events.time_text(last_ms)
    core.feed_audit(lines([1, 2], last_ms + 70_000))
    core.flush()
    assert gaps(core) == []


@pytest.mark.parametrize("what", [{"again": True}, {"killed": False}])
def test_what_comes_again_or_was_no_kill_leaves_nothing_open(what: dict[str, bool]) -> None:
    core = after_a_kill(**what)
    for second in range(20):
        core.tick(BASE_MS + 1000 * second, audit_idle=True)
    core.flush()
    assert gaps(core) == []


def test_two_cuts_of_one_millisecond_are_one_gap() -> None:
    core = new_core()
    for reason in ("file_truncated", "file_truncated", "file_gone", "file_truncated"):
        core.input_gap("audit", "audit-directory", reason, BASE_MS)
    assert [event["metadata"]["extra"]["reason"] for event in gaps(core)] == ["file_truncated", "file_gone"]
    core.input_gap("sshd", "sshd-syslog", "file_truncated", BASE_MS)
    core.input_gap("audit", "audit-directory", "file_truncated", BASE_MS + 1)
    assert len(gaps(core)) == 2


def test_what_a_pipe_gave_and_was_not_written_when_we_were_killed_is_told() -> None:
    core = new_core()
    log = Log()
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7) + log.execve(b"ls", ses=7))
    again = restarted(core, again=False, now_ms=BASE_MS)
    (event,) = gaps(again)
    assert event["metadata"]["extra"] == {"count": 3, "reason": "killed"}
    assert event["loggedAt"] == events.time_text(BASE_MS)
    core.flush()
    assert gaps(restarted(core, again=False)) == []


# ------------------------------------------------------------------------------------------- how it is written


def test_event_types_pick_gaps_too_and_counters_count_all_the_same() -> None:
    for types, count in ((("AuditGap",), 1), (("UserAction",), 0)):
        core = new_core(event_types=types)
        core.feed_audit(lines([10, 12]))
        core.flush()
        assert len(gaps(core)) == count
        assert core.counters()["gaps_sequence"] == 1


def test_a_gap_stands_among_the_events_where_it_shows() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    before = log.login(ses=7, pid=4000) + log.execve(b"a", ses=7)
    change = log.event(("CONFIG_CHANGE", b"op=set audit_rate_limit=5 old=0 auid=0 ses=4294967295 res=1"))
    whole = before + change + log.execve(b"b", ses=7)
    core.feed_audit(whole)
    at_once = core.take()
    assert [json.loads(text)["type"] for text in at_once.splitlines()] == [
        "UserLogin", "UserAction", "UserAction", "AuditGap", "UserAction",
    ]  # fmt: skip
    core = new_core()
    core.feed_sshd(accepted(4000), "pipe", 0)
    parts = []
    for at in range(0, len(whole), 100):
        core.feed_audit(whole[at : at + 100])
        parts.append(core.take())
    assert b"".join(parts) == at_once


def test_every_reason_has_a_counter_and_the_sources_know_no_others() -> None:
    counters = new_core().counters()
    assert [name for name in counters if name.startswith("gaps_")] == [
        f"gaps_{reason}" for reason in events.GAP_REASONS
    ]
    assert set(GapReason.__args__) < set(events.GAP_REASONS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("stream", ["audit", "sshd"])
def test_what_a_source_could_not_read_says_which_one(stream: Any) -> None:
    core = new_core()
    core.input_gap(stream, f"{stream}-x", "file_truncated", BASE_MS)
    (event,) = gaps(core)
    assert event["component"] == {"audit": "auditd", "sshd": "sshd"}[stream]
    assert event["metadata"] == {
        "auditId": f"file_truncated:{stream}-x:{BASE_MS}",
        "extra": {"reason": "file_truncated", "detail": f"{stream}-x"},
    }


@examples(150)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([
    b" op=remove_rule", b" audit_enabled=0", b" old=1", b" res=1", b"\x1d", b" lost=0", b"audit: audit_lost=7", b" ses=",
    b"9" * 30, b"\xff\n", b"type=DAEMON_END msg=audit(1.1:1): ", b" op=", b'"', b"node=\xff ", b"\0",
])), max_size=12))  # fmt: skip
def test_no_bytes_of_a_record_about_auditing_stop_anything(parts: list[bytes]) -> None:
    core = new_core()
    core.feed_audit(b"node=\xfe type=CONFIG_CHANGE msg=audit(1.1:7): " + b"".join(parts) + b"\n" + lines([8, 10]))
    core.flush()
    for text in core.take().splitlines():
        assert json.loads(text)["type"] == "AuditGap"
