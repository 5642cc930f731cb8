"""Faults that a second reader found in the core, each with what must hold instead; by bytes in, lines out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from audito.core import Core, CoreSettings, decode
from audito.errors import StateError
from tests.records import BASE_MS, Log, accepted

UNSET = 4294967295

measures_memory = pytest.mark.skipif(
    os.environ.get("AUDITO_SANITIZE") == "1", reason="the sanitizer keeps what was freed for a while"
)


def core_of(reject: Any = None, **kw: Any) -> Core:
    return Core(CoreSettings(host="h", machine_id="m", boot_id="b", **kw), reject)


def taken(core):
    return [json.loads(line) for line in core.take().splitlines()]


def acts(found):
    return [
        (
            e["metadata"]["auditId"],
            e["subjects"]["userID"],
            e["metadata"]["extra"]["action"],
            e["metadata"]["extra"]["sequence"],
        )
        for e in found
        if e["type"] == "UserAction"
    ]


def journal(pid, ident, ms, **kw):
    return accepted(pid, ident, **kw).replace(b"%d " % pid, b"%d %d 1 " % (ms * 1000, pid), 1)


# ---------------------------------------------------------------- 1. resolved
def test_resolved_never_lies_behind_a_partial_line():
    """carry() takes line_offset from self.offset, which feed() has moved to the end of the chunk already."""
    core = core_of()
    core.feed_audit(b"type=SYSC")
    assert core.audit_resolved == 0


def restart_oracle(cut_everywhere_step, order):
    log = Log()
    audit = (
        log.login(ses=7, pid=4000)
        + log.message("USER_START", ses=7, pid=4000)
        + log.execve(b"id", ses=7)
        + log.login(ses=8, pid=4001)
        + log.execve(b"ls", ses=8)
        + log.execve(b"ls", ses=7)
        + log.message("USER_END", ses=7, pid=4000)
    )
    line = journal(4000, "bob", BASE_MS) + journal(4001, "eve", BASE_MS + 30)

    def run(cut):
        core = core_of()
        out = []
        if order == "before":
            core.feed_sshd(line, "journal", 0)
        at = 0
        if cut is not None:
            core.feed_audit(audit[:cut])
            out += taken(core)
            state, at, s = core.dump(), core.audit_resolved, core.sshd_resolved
            core = core_of()
            core.load(state, at, s)
        core.feed_audit(audit[at:])
        if order == "after":
            core.feed_sshd(line, "journal", 0)
        core.flush()
        out += taken(core)
        return set(acts(out))

    want = run(None)
    bad = {}
    for cut in range(1, len(audit), cut_everywhere_step):
        got = run(cut)
        if got != want:
            bad[cut] = (sorted(want - got), sorted(got - want))
    return bad, len(audit)


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_restart_at_any_byte_gives_the_same_events(order):
    bad, n = restart_oracle(7, order)
    k = next(iter(bad), None)
    assert not bad, f"{len(bad)} of {n // 7} cuts differ; first {k}: {bad[k]}"


def test_a_restart_while_login_is_in_flight_keeps_the_identity():
    """Line first, LOGIN in flight at the checkpoint: load() says `announced`, so opened() is never called again."""
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", BASE_MS * 1000)
    login = log.login(ses=7, pid=4000)
    core.feed_audit(login[: login.index(b"\n") + 1])
    again = core_of()
    again.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    assert core.audit_resolved == 0
    again.feed_audit(login + log.execve(b"id", ses=7))
    again.flush()
    assert {a[1] for a in acts(taken(again))} == {"bob@corp"}


# ---------------------------------------------------------------- 2. evasion
def long_event(log, **kw):
    """An execve that was stamped 3 s before its records were written (open() on FUSE or NFS blocks)."""
    log.ms -= 3000
    e = log.execve(b"/mnt/evil", b"--secret", **kw)
    log.ms += 3000
    return e.splitlines(keepends=True)


def test_a_blocking_syscall_interleaved_with_another_event_keeps_its_records():
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    slow = long_event(log, ses=7)
    other = log.execve(b"true", ses=UNSET).splitlines(keepends=True)
    core.feed_audit(slow[0] + other[0] + b"".join(slow[1:]) + b"".join(other[1:]))
    core.flush()
    (event,) = taken(core)
    assert event["metadata"]["extra"].get("process_args") == ["/mnt/evil", "--secret"], core.counters()["events_late"]


@pytest.mark.parametrize(("ses", "res"), [(UNSET, 0), (UNSET, 1), (9, 1)])
def test_a_user_that_changes_his_loginuid_is_not_silent(ses, res):
    """`echo 0 > /proc/self/loginuid` inside session 7: refused by the kernel for a user (res=0), done for root."""
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    text = f"pid=5000 uid=0 subj=unconfined old-auid=1000 auid=0 tty=pts0 old-ses=7 ses={ses} res={res}".encode()
    after = ses if res else 7
    core.feed_audit(
        log.event(
            ("LOGIN", text),
            log.syscall(1, ses=after, pid=5000, comm="bash", exe="/usr/bin/bash", ok=bool(res)),
            ("PROCTITLE", b'proctitle="bash"'),
        )
    )
    core.flush()
    found = acts(taken(core))
    assert found and found[0][:2] == ("7", "bob@corp"), "the change itself has to be told in session 7"


def test_what_follows_a_changed_loginuid_stays_attributed():
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    text = b"pid=5000 uid=0 subj=unconfined old-auid=1000 auid=0 tty=pts0 old-ses=7 ses=9 res=1"
    core.feed_audit(
        log.event(
            ("LOGIN", text),
            log.syscall(1, ses=9, pid=5000, comm="bash", exe="/usr/bin/bash"),
            ("PROCTITLE", b'proctitle="bash"'),
        )
    )
    core.feed_audit(log.execve(b"rm", b"-rf", b"/", ses=9, pid=5001))
    core.flush()
    assert acts(taken(core))


# ---------------------------------------------------------------- 3. identity
def test_u13_two_lines_of_one_pid_before_its_session_are_a_conflict():
    """The true line first, a forged one 5 ms later, LOGIN 5 ms after that: the forged one is nearer and wins."""
    core = core_of()
    log = Log()  # LOGIN is at BASE_MS + 10
    core.feed_sshd(journal(4000, "bob", BASE_MS) + journal(4000, "mallory", BASE_MS + 5), "journal", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    core.flush()
    found = taken(core)
    assert {a[1] for a in acts(found)} == {"bob"}
    assert [e["type"] for e in found].count("IdentityConflict") == 1


def test_u13_two_untimed_lines_of_one_pid_are_a_conflict():
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000, "bob") + accepted(4000, "mallory"), "pipe", BASE_MS * 1000)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    core.flush()
    found = taken(core)
    assert {a[1] for a in acts(found)} == {"bob"}
    assert [e["type"] for e in found].count("IdentityConflict") == 1


def test_f27_a_line_without_a_time_does_not_name_yesterdays_session_of_a_reused_pid():
    """Session 7 never got a line (container's sshd, or a program called sshd); its pid is used again a day later."""
    core = core_of()
    log = Log()
    core.feed_audit(log.login(ses=7, pid=4000, exe="/tmp/sshd") + log.execve(b"evil", ses=7))
    core.tick(BASE_MS + 200_000)
    taken(core)
    day = 86_400_000
    log.ms += day
    core.tick(BASE_MS + day)
    taken(core)
    core.feed_sshd(accepted(4000, "admin"), "pipe", (BASE_MS + day) * 1000)
    core.feed_audit(log.login(ses=8, pid=4000) + log.execve(b"good", ses=8) + log.execve(b"evil", ses=7, pid=4100))
    core.flush()
    who = {(a[0], a[1]) for a in acts(taken(core))}
    assert who == {("8", "admin"), ("7", "unknown")}


def test_f27_of_two_lines_of_one_pid_the_one_from_where_the_session_comes_is_its():
    """The session of the first was lost with a kill; both lines are read before the second one's LOGIN."""
    core = core_of()
    log = Log()
    at = (datetime.fromtimestamp(log.ms / 1000 - ago, UTC).isoformat() for ago in (4, 1))
    for when, who, addr in zip(at, ("first", "second"), ("10.0.0.1", "10.0.0.2"), strict=True):
        line = accepted(4000, who, addr=addr).partition(b" ")[2]
        core.feed_sshd(f"{when} host sshd[4000]: ".encode() + line, "syslog", 0)
    core.feed_audit(log.login(ses=8, pid=4000))
    core.feed_audit(log.message("USER_START", ses=8, pid=4000, addr="10.0.0.2") + log.execve(b"good", ses=8))
    core.flush()
    found = taken(core)
    assert {(a[0], a[1]) for a in acts(found)} == {("8", "second")}
    assert not [e for e in found if e["type"] == "IdentityConflict"]


@pytest.mark.parametrize("start", [b"", Log(150).message("USER_START", ses=7, pid=4000)])
def test_f27_the_first_of_several_lines_that_wait_is_bound_and_the_others_are_conflicts(start: bytes):
    """One that comes while they wait to be told apart is none the better for that."""
    core = core_of()
    core.feed_sshd(accepted(4000, "alice") + accepted(4000, "mallory"), "pipe", 0)
    core.feed_audit(Log().login(ses=7, pid=4000))
    core.feed_sshd(accepted(4000, "eve"), "pipe", 0)
    core.feed_audit(start)
    core.flush()
    found = taken(core)
    assert {(a[0], a[1]) for a in acts(found)} == {("7", "alice")}
    claims = [e["metadata"]["extra"]["claimedSubjects"] for e in found if e["type"] == "IdentityConflict"]
    assert [claim["userID"] for claim in claims] == ["mallory", "eve"]


def test_f27_a_line_after_its_pids_last_session_is_no_claim_on_it_though_its_end_is_read_later():
    core = core_of()
    log = Log()
    start = log.ms
    lines = []
    for after, who in ((-1, "first"), (2, "second")):
        when = datetime.fromtimestamp(start / 1000 + after, UTC).isoformat()
        lines.append(f"{when} host sshd[4000]: ".encode() + accepted(4000, who).partition(b" ")[2])
    core.feed_sshd(lines[0], "syslog", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.feed_sshd(lines[1], "syslog", 0)
    core.feed_audit(log.message("CRED_DISP", ses=7, pid=4000))
    log.ms = start + 2_100
    opened = log.login(ses=8, pid=4000)
    log.ms = start + 6_000
    core.feed_audit(log.execve(b"other", ses=3))  # more than CONFLICT_DELAY_MS after the line
    core.feed_audit(opened + log.execve(b"good", ses=8))
    core.flush()
    found = taken(core)
    assert {(a[0], a[1]) for a in acts(found)} == {("7", "first"), ("8", "second")}
    assert not [e for e in found if e["type"] == "IdentityConflict"]


def test_f27_a_line_that_is_lost_leaves_its_session_to_no_other_login_of_its_pid():
    """Session 7's line was cut away; a second after its end its pid is used again, by one who comes from elsewhere."""
    core = core_of()
    log = Log()
    session = log.login(ses=7, pid=4000) + log.message("USER_START", ses=7, pid=4000, addr="10.0.0.7")
    core.feed_audit(session + log.execve(b"evil", ses=7) + log.message("CRED_DISP", ses=7, pid=4000))
    late = datetime.fromtimestamp(log.ms / 1000 + 1, UTC).isoformat()
    core.feed_sshd(f"{late} host sshd[4000]: ".encode() + accepted(4000, "admin").partition(b" ")[2], "syslog", 0)
    log.ms += 1_100
    core.feed_audit(log.login(ses=8, pid=4000) + log.execve(b"good", ses=8))
    core.flush()
    found = taken(core)
    assert {(a[0], a[1]) for a in acts(found)} == {("8", "admin"), ("7", "unknown")}
    logins = {e["source"]["value"]: e["component"] for e in found if e["type"] == "UserLogin"}
    assert logins == {"10.0.0.5": "sshd", "10.0.0.7": "auditd"}


def syslog(pid: int, who: str, ms: int, addr: str) -> bytes:
    when = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return f"{when} host sshd[{pid}]: ".encode() + accepted(pid, who, addr=addr).partition(b" ")[2]


def asked(log: Log, addr: str) -> bytes:
    """CRED_ACQ as sshd sends it before LOGIN."""
    return log.message("CRED_ACQ", ses=UNSET, pid=4000, addr=addr).replace(b"op=PAM:x", b"op=PAM:setcred")


@pytest.mark.parametrize(("told", "later_ms"), [(False, 1_500), (True, 1_500), (True, -500)])
def test_f27_the_line_of_another_login_with_its_pid_does_not_name_a_session_whose_line_is_lost(
    told: bool, later_ms: int
):
    """It is there before USER_START: what the kernel heard before LOGIN tells, or the time of the line."""
    core = core_of()
    log = Log()
    before = asked(log, "10.0.0.7") if told else b""
    opened = log.login(ses=7, pid=4000)
    core.feed_sshd(syslog(4000, "admin", log.ms + later_ms, "10.0.0.9"), "syslog", 0)
    core.feed_audit(before + opened)
    assert core.take().count(b"UserAction") == 0
    core.feed_audit(log.message("USER_START", ses=7, pid=4000, addr="10.0.0.7") + log.execve(b"evil", ses=7))
    core.flush()
    assert {a[1] for a in acts(taken(core))} == {"unknown"}


@pytest.mark.parametrize("later_ms", [-500, 1_500])
def test_a_session_whose_line_fits_is_written_at_its_login(later_ms: int):
    core = core_of()
    log = Log()
    before = asked(log, "10.0.0.9") if later_ms > 0 else b""
    opened = log.login(ses=7, pid=4000)
    core.feed_sshd(syslog(4000, "admin", log.ms + later_ms, "10.0.0.9"), "syslog", 0)
    core.feed_audit(before + opened + log.execve(b"id", ses=7))
    assert {(a[1], a[2]) for a in acts(taken(core))} == {("admin", "changed-login-id-to"), ("admin", "executed")}


@pytest.mark.parametrize(("addr", "who"), [("10.0.0.9", "unknown"), ("10.0.0.7", "admin")])
def test_f27_a_late_line_names_a_session_that_was_given_up_only_from_there(addr: str, who: str):
    core = core_of(join_window_ms=8_000)
    log = Log()
    opened_ms = log.ms
    core.tick(opened_ms)
    core.feed_audit(log.login(ses=7, pid=4000) + log.message("USER_START", ses=7, pid=4000, addr="10.0.0.7"))
    core.tick(opened_ms + 1_000)
    core.tick(opened_ms + 20_000)
    assert {a[1] for a in acts(taken(core))} == {"unknown"}
    core.feed_sshd(syslog(4000, "admin", opened_ms + 1_500, addr), "syslog", 0)
    core.feed_audit(log.execve(b"id", ses=7))
    core.flush()
    assert {a[1] for a in acts(taken(core))} == {who}


def test_f27_what_was_told_before_a_login_is_known_after_a_restart():
    log = Log()
    once, again = core_of(), core_of()
    line = syslog(4000, "admin", log.ms - 500, "10.0.0.9")
    before = asked(log, "10.0.0.7")
    once.feed_audit(before)
    once.feed_sshd(line, "syslog", 0)
    once.take()
    again.load(once.dump(), len(before), len(line))
    again.feed_audit(log.login(ses=7, pid=4000) + log.message("USER_START", ses=7, pid=4000, addr="10.0.0.7"))
    again.flush()
    assert {a[1] for a in acts(taken(again))} == {"unknown"}


@pytest.mark.parametrize(("line_came", "who"), [(True, "second"), (False, "unknown")])
def test_f27_a_login_whose_session_went_with_a_kill_gives_its_name_to_no_other_with_its_pid(line_came: bool, who: str):
    """The pipe had its session, and what sshd told of the next login; from where that comes USER_START says."""
    log = Log()
    once, again = core_of(), core_of()
    first, before = syslog(4000, "first", log.ms, "10.0.0.7"), asked(log, "10.0.0.7")
    once.feed_sshd(first, "syslog", 0)
    once.feed_audit(before)
    once.take()
    second = syslog(4000, "second", log.ms + 1_000, "10.0.0.9")
    lost = log.login(ses=7, pid=4000) + log.message("CRED_DISP", ses=7, pid=4000) + asked(log, "10.0.0.9")
    log.ms += 1_500
    again.load(once.dump(), len(before + lost), len(first), now_ms=log.ms, again=False, killed=True)
    again.feed_sshd(second if line_came else b"", "syslog", 0)
    again.feed_audit(log.login(ses=8, pid=4000))
    assert again.take().count(b"UserAction") == 0
    again.feed_audit(log.message("USER_START", ses=8, pid=4000, addr="10.0.0.9") + log.execve(b"id", ses=8))
    again.flush()
    assert {(a[0], a[1]) for a in acts(taken(again))} == {("8", who)}


def test_a_session_whose_login_is_half_read_as_its_window_ends_takes_the_line_that_waits():
    """A full disk kept the daemon from reading on."""
    core = core_of(join_window_ms=8_000)
    log = Log()
    opened_ms = log.ms
    opened = log.login(ses=7, pid=4000)
    half = opened.index(b"\n") + 1
    core.feed_audit(opened[:half])
    core.tick(opened_ms, audit_idle=False)
    core.feed_sshd(syslog(4000, "admin", opened_ms - 500, "10.0.0.9"), "syslog", 0)
    core.tick(opened_ms + 20_000, audit_idle=False)
    core.feed_audit(opened[half:] + log.execve(b"id", ses=7))
    core.flush()
    found = taken(core)
    assert {(a[0], a[1]) for a in acts(found)} == {("7", "admin")}
    assert [e["component"] for e in found if e["type"] == "UserLogin"] == ["sshd"]


def test_f27_a_session_that_its_user_start_opens_takes_the_line_from_there():
    """Its LOGIN was destroyed; lines of two logins with its pid wait."""
    core = core_of()
    log = Log()
    for who, ago_ms, addr in (("first", 9_000, "10.0.0.1"), ("second", 3_000, "10.0.0.2")):
        core.feed_sshd(syslog(4000, who, log.ms - ago_ms, addr), "syslog", 0)
    core.feed_audit(asked(log, "10.0.0.1"))  # of the first, whose LOGIN was destroyed, too
    start = log.message("USER_START", ses=8, pid=4000, addr="10.0.0.2")
    core.feed_audit(start + log.execve(b"good", ses=8))
    core.flush()
    assert {a[1] for a in acts(taken(core))} == {"second"}


def test_f27_a_line_that_comes_while_its_pids_session_is_half_read_waits_for_its_own():
    """The LOGIN of the first is there, its SYSCALL is not: the second one's line does not take the session."""
    core = core_of()
    log = Log()
    lines = [syslog(4000, who, log.ms + ms, f"10.0.0.{ms}") for who, ms in (("first", 1), ("second", 9))]
    core.feed_sshd(lines[0], "syslog", 0)
    opened = log.login(ses=7, pid=4000)
    half = opened.find(b"type=SYSCALL") if b"type=SYSCALL" in opened else len(opened) - 1
    core.feed_audit(opened[:half])
    core.feed_sshd(lines[1], "syslog", 0)
    core.feed_audit(opened[half:] + log.message("USER_START", ses=7, pid=4000, addr="10.0.0.1"))
    core.feed_audit(log.message("CRED_DISP", ses=7, pid=4000))
    core.feed_audit(log.login(ses=8, pid=4000) + log.message("USER_START", ses=8, pid=4000, addr="10.0.0.9"))
    core.flush()
    assert {(a[0], a[1]) for a in acts(taken(core))} == {("7", "first"), ("8", "second")}


def test_f27_a_second_line_of_a_pid_is_no_conflict_while_the_audit_log_is_seconds_behind():
    core = core_of()
    log = Log()
    start = log.ms
    core.tick(start)
    core.feed_sshd(syslog(4000, "first", start - 5, "10.0.0.1"), "syslog", 0)
    core.feed_sshd(syslog(4000, "second", start + 900, "10.0.0.2"), "syslog", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.message("USER_START", ses=7, pid=4000, addr="10.0.0.1"))
    for later_s in (1, 2, 3, 4, 5):
        core.tick(start + 1_000 * later_s)
    core.feed_audit(log.message("CRED_DISP", ses=7, pid=4000))
    log.ms = start + 1_000
    core.feed_audit(log.login(ses=8, pid=4000) + log.message("USER_START", ses=8, pid=4000, addr="10.0.0.2"))
    core.flush()
    found = taken(core)
    assert {(a[0], a[1]) for a in acts(found)} == {("7", "first"), ("8", "second")}
    assert not [e for e in found if e["type"] == "IdentityConflict"]


def test_f26_a_line_that_is_read_before_the_first_tick_waits_no_longer_though_the_clock_was_set_back():
    core = core_of(join_window_ms=8_000)
    core.feed_sshd(accepted(4000), "pipe", (BASE_MS + 3_600_000) * 1000)
    for later_s in range(12):
        core.tick(BASE_MS + 1_000 * later_s)
    assert core.counters()["logins_waiting_now"] == 0


# ---------------------------------------------------------------- 4. eviction
def test_an_evicted_session_that_waits_is_written_not_freed():
    core = core_of(session_count_max=2)
    log = Log()
    for s in (1, 2, 3):
        core.feed_audit(log.login(ses=s, pid=4000 + s) + log.execve(b"id", ses=s, pid=9000 + s))
    core.flush()
    assert {a[0] for a in acts(taken(core))} == {"1", "2", "3"}


def test_a_flood_of_unproven_sessions_does_not_push_out_a_live_login():
    """Anyone whose loginuid is unset (a service, a container) can open sessions by writing /proc/self/loginuid."""
    core = core_of(session_count_max=64)
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=1, pid=4000))
    taken(core)
    for s in range(100, 200):
        core.feed_audit(log.login(ses=s, pid=s, exe="/tmp/sshd"))
    core.feed_audit(log.execve(b"id", ses=1))
    core.flush()
    assert ("1", "bob@corp") in {(a[0], a[1]) for a in acts(taken(core))}


def test_a_full_table_costs_no_scan_for_each_login():
    """slot_new() walks the whole table where no session has ended."""
    core = core_of(session_count_max=131072)
    log = Log(enriched=False)

    def batch(n, first):
        return b"".join(log.login(ses=first + i, pid=first + i, exe="/tmp/sshd") for i in range(n))

    for k in range(131):
        core.feed_audit(batch(1000, 1 + k * 1000))
        core.tick(log.ms + 200_000)  # given up: none waits
        core.take()
    core.feed_audit(batch(72, 131_001))
    a = batch(200, 200_000)
    t = time.perf_counter()
    core.feed_audit(a)
    full = time.perf_counter() - t
    empty = core_of()
    t = time.perf_counter()
    empty.feed_audit(a)
    base = time.perf_counter() - t
    assert full < 20 * base, f"{full / 200 * 1e3:.2f} ms a LOGIN against {base / 200 * 1e3:.4f} ms"


# ---------------------------------------------------------------- 5. RHEL channels
def test_the_end_of_a_channel_is_not_the_end_of_the_session():
    """RHEL's sshd sends USER_END op=login per channel from the monitor's pid (sshd_lines.md, vendor patch)."""
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    core.feed_audit(
        log.event(
            (
                "USER_END",
                b"pid=4000 uid=0 auid=1000 ses=7 subj=x msg='op=login id=1000 exe=\"/usr/sbin/sshd\" hostname=? addr=10.0.0.5 terminal=/dev/pts/0 res=success'",
            )
        )
    )
    core.feed_audit(log.execve(b"id", ses=7))
    assert "UserLogout" not in [e["type"] for e in taken(core)]


# ---------------------------------------------------------------- 6. exceptions on input
def test_a_time_that_python_cannot_say_does_not_stop_the_core():
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    line = b"0000-01-01T00:00:00Z h sshd[4000]: " + accepted(4000, "mallory").split(b" ", 1)[1]
    core.feed_sshd(line, "syslog", 0)
    core.feed_audit(log.execve(b"id", ses=7))
    core.tick(BASE_MS + 999_999)
    core.flush()
    assert "IdentityConflict" in [e["type"] for e in taken(core)]


def test_a_journal_time_of_18_digits():
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.feed_sshd(accepted(4000, "mallory").replace(b"4000 ", b"999999999999999999 4000 1 ", 1), "journal", 0)
    core.flush()


def in_a_process(code: str) -> None:
    """Run code with this module's names in a process of its own: a crash must not take the tests along."""
    root = Path(__file__).parent.parent
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, resource, pytest\nfrom audito.errors import StateError\nfrom tests.test_core_faults import *\n"
            + code,
        ],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert run.returncode == 0, f"exit {run.returncode}: {run.stderr[-600:]}"


def test_a_state_that_is_half_good_leaves_nothing_behind():
    """load() raises in the second row; the first stays, bound, without identity. identities[slot] is read without
    a bounds check (boundscheck=False): SIGSEGV at the session's first event."""
    in_a_process("""
core = core_of(); log = Log()
core.feed_sshd(accepted(4000) + accepted(4001), "pipe", 0)
core.feed_audit(log.login(ses=7, pid=4000) + log.login(ses=8, pid=4001))
state = json.loads(core.dump()); state["sessions"][1][6] = 77
again = core_of()
with pytest.raises(StateError): again.load(json.dumps(state).encode(), 0, 0)
again.feed_audit(log.execve(b"id", ses=7)); again.flush()
""")


def test_two_sessions_with_one_slot_in_the_state():
    """One of them would be bound and nobody's, which the next load() refuses, and with it all sessions."""
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000) + accepted(4001), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.login(ses=8, pid=4001))
    state = json.loads(core.dump())
    state["sessions"][1][0] = state["sessions"][0][0]
    with pytest.raises(StateError, match="one slot"):
        core_of().load(json.dumps(state).encode(), 0, 0)


def test_an_identity_longer_than_any_line_in_the_state():
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    state = json.loads(core.dump())
    state["identities"]["0"][1]["loggedAs"] = "x" * 65_536
    with pytest.raises(StateError, match="identity"):
        core_of().load(json.dumps(state).encode(), 0, 0)


def test_a_state_of_more_sessions_than_the_table_holds_names_each_by_its_own_login():
    core, log = core_of(), Log()
    for s in range(1, 7):
        core.feed_sshd(accepted(4000 + s, f"who{s}"), "pipe", 0)
        core.feed_audit(log.login(ses=s, pid=4000 + s))
    state = json.loads(core.dump())
    state["identities"] = dict(sorted(state["identities"].items(), reverse=True))
    again = core_of(session_count_max=2)
    again.load(json.dumps(state).encode(), 0, 0)
    for s in range(1, 7):
        again.feed_audit(log.execve(b"id", ses=s, pid=9000 + s))
    again.flush()
    assert {(a[0], a[1]) for a in acts(taken(again))} == {("5", "who5"), ("6", "who6")}


@pytest.mark.parametrize(
    "path",
    [("sshd_clock_ms",), ("kernel_lost",), ("pending", 0, "pid"), ("pending", 0, "time_ms"), ("pending", 0, "seen_ms")],
)
def test_a_number_greater_than_any_that_is_written_in_the_state(path: tuple[str | int, ...]) -> None:
    """The next feed compares it with a compiled number: OverflowError, out of the daemon."""
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000) + accepted(4001), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    state = json.loads(core.dump())
    inner = state
    for key in path[:-1]:
        inner = inner[key]
    assert path[-1] in inner
    inner[path[-1]] = 2**64
    with pytest.raises(StateError, match="cannot be read"):
        core_of().load(json.dumps(state).encode(), 0, 0)


def test_an_argument_whose_first_part_is_empty_as_the_first_text_of_all():
    """There is no scratch memory yet, and none is asked for: NULL was taken for an exception. SIGSEGV."""
    in_a_process("""
stamp = b"msg=audit(1700000000.000:7): "
(event,) = map(json.loads, decode([b"type=EXECVE " + stamp + b'argc=2 a0="id" a1[0]= a1[1]=\\n']))
assert event["process"]["args"] == ["id", ""], event
""")


def test_a_bound_session_without_an_identity_in_the_state():
    in_a_process("""
core = core_of(); log = Log()
core.feed_sshd(accepted(4000), "pipe", 0); core.feed_audit(log.login(ses=7, pid=4000))
state = json.loads(core.dump()); state["identities"] = {}
again = core_of()
try: again.load(json.dumps(state).encode(), 0, 0)
except StateError: raise SystemExit(0)
again.feed_audit(log.execve(b"id", ses=7)); again.flush()
""")


class BoomError(Exception):
    pass


def test_a_reject_callback_that_raises_loses_no_other_line():
    def reject(line, reason):
        raise BoomError

    core = core_of(reject)
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    data = b"junk\n" + log.execve(b"id", ses=7)
    core.feed_audit(data)
    assert len(acts(taken(core))) == 1
    assert core.counters()["rejects_failed"] == 1


# ---------------------------------------------------------------- 7. clocks and chunks
@pytest.mark.parametrize("clock_by", ["line", "tick"])
def test_what_the_kernel_knows_does_not_depend_on_the_chunks(clock_by):
    """sshd's side is ahead (backlog, replay): a session is given up behind its LOGIN, before its USER_START is read."""

    def run(split):
        core = core_of()
        log = Log()
        if clock_by == "line":
            core.feed_sshd(journal(99, "x", BASE_MS + 3_600_000), "journal", 0)
        else:
            core.tick(BASE_MS + 3_600_000, audit_idle=False, sshd_idle=True)
        audit = (
            log.login(ses=7, pid=4000)
            + log.message("USER_START", ses=7, pid=4000, acct="eve")
            + log.execve(b"id", ses=7)
        )
        out = b""
        for at in range(0, len(audit), split):
            core.feed_audit(audit[at : at + split])
            out += core.take()
        core.flush()
        return out + core.take()

    assert run(1 << 20) == run(500)


def test_one_line_with_a_time_ahead_does_not_blind_the_join_for_ever():
    core = core_of()
    log = Log()
    core.feed_sshd(journal(1, "x", BASE_MS + 10 * 365 * 86_400_000), "journal", 0)  # the RTC was wrong at boot
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    core.feed_sshd(journal(4000, "bob", BASE_MS + 5), "journal", 0)
    core.flush()
    assert {a[1] for a in acts(taken(core))} == {"bob"}


def test_nodes_with_other_clocks_do_not_cut_each_others_events():
    core = core_of()
    a, b = Log(node=b"a"), Log(node=b"b")
    b.ms += 5000
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(a.login(ses=7, pid=4000))
    taken(core)
    x = a.execve(b"id", b"-u", ses=7).splitlines(keepends=True)
    y = b.execve(b"true", ses=UNSET)
    core.feed_audit(x[0] + y + b"".join(x[1:]))
    core.flush()
    assert taken(core)[0]["metadata"]["extra"].get("process_args") == ["id", "-u"]


# ---------------------------------------------------------------- 8. memory
@measures_memory
def test_events_in_flight_are_bounded_in_bytes():
    code = """
import resource
from audito.core import *
c=Core(CoreSettings(host="h",machine_id="m",boot_id="b"))
a=b'x'*60000
for i in range(200):
    for k in range(70): c.feed_audit(b'type=EXECVE msg=audit(1700000000.000:%d): a%d="%s"\\n'%(i,k,a))
print(int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024)
"""
    mb = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert mb < 200, f"{mb} MB for 200 of 4096 events"


def test_more_than_65535_records_do_not_wrap():
    lines = (
        b'type=SYSCALL msg=audit(1.000:1): arch=c000003e syscall=1 ses=4 comm="x" exe="/x"\n'
        + b"type=CWD msg=audit(1.000:1): \n" * 65_540
    )
    out = b"".join(decode([lines]))
    assert json.loads(out.splitlines()[0])["type"] == "SYSCALL" and out.count(b"\n") == 1
    assert json.loads(out)["records"] >= 65_535


# ---------------------------------------------------------------- 9. restart, what the workload oracle (oracle.py) found


def test_a_session_that_ended_while_it_waits_has_its_logout_after_a_restart():
    """dump() says ended; the held USER_END is read again and, `ended` already, gets no EVENT_ENDS_SESSION."""
    core = core_of()
    log = Log()
    audit = log.login(ses=7, pid=4000) + log.message("USER_END", ses=7, pid=4000)
    core.feed_audit(audit)
    again = core_of()
    again.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    again.feed_audit(audit[core.audit_resolved :])
    again.feed_sshd(accepted(4000), "pipe", 0)
    again.flush()
    assert "UserLogout" in [e["type"] for e in taken(again)]


@measures_memory
def test_an_exception_from_the_opened_path_leaks_no_event():
    """settle() frees nothing when opened() raises (Raw/encoder/MemoryError): 4 KiB an event."""
    in_a_process("""
from audito._fastparse import AuditStream
from audito._sessions import Sessions
from audito.normalise import ActionBuilder, record_types, rules
from msgspec import Raw
import resource
def opened(slot): raise BoomError
s = AuditStream(Sessions(131072), ActionBuilder(rules(), Raw(b'{}')), record_types(), opened=opened)
log = Log(enriched=False); n = 0
def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4
for i in range(20000):
    if i == 2000: before = rss()
    try: s.feed(log.login(ses=i + 1, pid=4000))
    except BoomError: n += 1
assert n == 20000
grown = rss() - before
assert grown < 20_000, f"{grown} KiB leaked by 18000 events"
""")


def test_one_stamp_from_the_future_does_not_keep_all_later_events_in_flight():
    """time_out() looks at the oldest flight only, by its own stamp: nothing behind it is completed (decode prints nothing)."""
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    core.feed_audit(b'type=PATH msg=audit(9999999999.000:5): item=0 name="x"\n')
    for _ in range(100):
        core.feed_audit(log.event(log.syscall(1, ses=7, pid=5000, comm="x", exe="/x")))
        log.ms += 3000
    assert len(acts(taken(core))) > 90


def test_a_kernel_session_takes_its_account_from_sshd_alone():
    """_give_up() asks the pid only: a program that is not sshd, with the LOGIN's pid, names the account (SESSION_SSHD by exe /tmp/sshd)."""
    core = core_of()
    log = Log()
    core.feed_audit(
        log.login(ses=7, pid=4000)
        + log.message("USER_START", ses=7, pid=4000, acct="bob")
        + log.message("USER_START", ses=7, pid=4000, exe="/usr/bin/su", acct="root", addr="6.6.6.6")
    )
    core.flush()
    assert {e["subjects"]["loggedAs"] for e in taken(core)} == {"bob"}


def test_a_line_shorter_than_the_search_for_its_type_is_not_read_past_its_end() -> None:
    """Tells in a sanitized build: the line ends the chunk, and a stamp is at hand to compare."""
    core = core_of()
    core.feed_audit(b"type=SYSCALL audit(1.0:1): ses=4294967295\n")
    core.feed_audit(bytes(bytearray(b"x" * 26 + b"\n")))
    assert core.counters()["reject_not_a_record"] == 1


def test_f09_a_late_tick_cuts_no_event_in_two() -> None:
    """A disk hung for 3 s; half an event was written just before we read on, half after it."""
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.tick(BASE_MS)
    event = log.execve(b"id", ses=7)
    half = event.index(b"type=EXECVE")
    core.feed_audit(event[:half])
    core.tick(BASE_MS + 3_000)
    core.feed_audit(event[half:])
    (act,) = [e for e in taken(core) if e["metadata"].get("extra", {}).get("action") == "executed"]
    assert act["metadata"]["extra"]["process_args"] == ["id"]
    core.feed_audit(log.execve(b"ls", ses=7)[:half])
    for later_ms in (6_000, 9_000):
        core.tick(BASE_MS + later_ms)  # late, each of them: the event does not wait for ever
    assert "executed" in str(acts(taken(core)))


def rebooted(core: Core, boot_ms: int, *, again: bool = True) -> Core:
    """What a process of the next boot makes of it; audit input goes on where it was taken, or is gone."""
    after = core_of()
    at = core.audit_resolved
    after.load(core.dump(), at, core.sshd_resolved, now_ms=boot_ms, rebooted=True, again=again, boot_ms=boot_ms)
    return after


@pytest.mark.parametrize("chunk", [1, 7, 100, 100_000])
@pytest.mark.parametrize("start", [b"", b"type=DAEMON_START msg=audit(%d.%03d:9): op=start res=success\n"])
def test_f25_the_end_of_the_log_of_the_boot_before_is_of_its_sessions(chunk: int, start: bytes) -> None:
    """It was not read yet when the power failed. What is of this boot is not theirs, whatever number it has."""
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000, "alice"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    boot_ms = log.ms + 5_000
    after = rebooted(core, boot_ms)
    data = log.execve(b"before", ses=7)
    log.ms, log.sequence = boot_ms + 20, 0
    if start:
        data += start % (boot_ms // 1000, boot_ms % 1000)
    data += log.execve(b"nobodys", ses=7) + log.login(ses=7, pid=4000) + log.execve(b"after", ses=7)
    for at in range(0, len(data), chunk):
        after.feed_audit(data[at : at + chunk])
    after.feed_sshd(accepted(4000, "bob"), "pipe", (boot_ms + 40) * 1000)
    after.flush()
    actions = [e for e in taken(after) if e["type"] == "UserAction"]
    told = [(act["subjects"]["userID"], act["metadata"]["extra"].get("process_args")) for act in actions]
    assert told == [("alice", ["before"]), ("bob", None), ("bob", ["after"])]


def test_f25_the_boot_is_found_where_nothing_is_left_to_read() -> None:
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000, "alice"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    after = rebooted(core, log.ms + 5_000)
    twice = rebooted(after, log.ms + 9_000)  # and the power failed again
    for one in (after, twice):
        assert one.counters()["sessions_now"] == 1
        one.tick(log.ms + 10_000)
        assert one.counters()["sessions_now"] == 1
        one.audit_caught_up()
        assert one.counters()["sessions_now"] == 0


@pytest.mark.parametrize("again", [True, False])
def test_f25_a_login_of_the_boot_before_names_no_session_of_this_one(again: bool) -> None:
    """Its session never came; a pid of then is soon somebody else's."""
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000, "alice"), "pipe", log.ms * 1000)
    taken(core)
    log.ms += 5_000
    after = rebooted(core, log.ms, again=again)
    log.sequence = 0
    after.feed_sshd(accepted(4000, "bob"), "pipe", (log.ms + 10) * 1000)
    after.feed_audit(log.login(ses=1, pid=4000) + log.message("USER_END", ses=1, pid=4000))
    after.flush()
    told = taken(after)
    assert {e["subjects"]["userID"] for e in told if e["type"] == "UserAction"} == {"bob"}
    assert [e["type"] for e in told if e["type"] in ("IdentityConflict", "UserLogout")] == ["UserLogout"]


def test_f05_what_a_cut_log_goes_on_with_is_no_record_of_a_type_that_there_is_not() -> None:
    """The half of a line that a cut left, and the line that was written next: rejected, and its serial is a hole."""
    rejected: list[bytes] = []
    core = core_of(reject=lambda line, reason: rejected.append(line))
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    glued = b"type=SYSCAL" + log.message("CRED_ACQ", ses=7, pid=4000)
    core.feed_audit(glued + log.message("USER_START", ses=7, pid=4000))
    log.ms += 10_000
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    core.flush()
    events = taken(core)
    assert rejected == [glued.rstrip()]
    assert core.counters()["reject_not_a_record"] == 1
    assert "acquired" not in str(acts(events))
    holes = [e["metadata"]["extra"] for e in events if e["type"] == "AuditGap"]
    assert [(hole["reason"], hole["from"], hole["to"]) for hole in holes] == [
        ("sequence", log.sequence - 2, log.sequence - 2)
    ]


@pytest.mark.parametrize("name", ["syscall", "SYS=CALL", "A-B", "\xc4"])
def test_what_no_type_is_called_is_no_record(name: str) -> None:
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    line = b"type=%s msg=" % name.encode("latin-1")
    core.feed_audit(line + log.stamp() + b": ses=7\n")
    own = log.event(log.syscall(1, ses=7, pid=5000, comm="x", exe="/x"))
    core.feed_audit(own + line + own.split(b" ")[1].removeprefix(b"msg=") + b" ses=7\n")  # of the event in hand
    assert core.counters()["reject_not_a_record"] == 2


def test_a_login_told_twice_with_the_table_of_flights_full() -> None:
    """The second LOGIN forces the first one out, whose program is cron: its session goes, once."""
    core = core_of(session_count_max=8)
    login = b"type=LOGIN msg=audit(1.000:%d): pid=7 uid=0 old-auid=4294967295 auid=1 old-ses=4294967295 ses=%d res=1\n"
    call = b'type=SYSCALL msg=audit(1.000:%d): arch=c000003e syscall=1 pid=7 ses=%d comm="cron" exe="/usr/sbin/cron"\n'
    core.feed_audit(login % (1, 5) + call % (1, 5))
    for number in range(10, 10 + 4095):
        core.feed_audit(b'type=PATH msg=audit(1.000:%d): item=0 name="x"\n' % number)
    core.feed_audit(login % (2, 5) + call % (2, 5))
    core.flush()
    assert core.counters()["sessions_now"] == 0
    for number in range(20):
        core.feed_audit(login % (9000 + number, 100 + number))
    core.flush()
    assert core.counters()["sessions_now"] == 8


@pytest.mark.parametrize("cut", [b"arch=c000003e syscall=59 succ", b"arch=c000003e", b"", b"a0=7"])
def test_f05_what_is_left_of_a_cut_record_is_given_to_no_other_session(cut: bytes) -> None:
    """A log that was cut inside of a line goes on behind the cut."""
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000) + accepted(5000, "eve@corp"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.login(ses=8, pid=5000))
    taken(core)
    half = b"type=SYSCALL msg=%s: %s" % (log.stamp(), cut)
    core.feed_audit(half + log.execve(b"id", ses=8, pid=5100))
    core.flush()
    assert acts(taken(core)) == [("8", "eve@corp", "executed", log.sequence)]
    assert core.counters()["reject_not_a_record"] == 1


def test_f05_of_many_cut_records_in_one_line_the_last_one_is_told() -> None:
    """Each goes on with the next one: as deep as a line is long, were they taken apart one by one."""
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    halves = b"".join(b"type=SYSCALL msg=%s: ses=7 a0=" % log.stamp() for _ in range(1_200))
    core.feed_audit(halves + log.execve(b"id", ses=7, pid=5100))
    core.flush()
    assert acts(taken(core)) == [("7", "bob@corp", "executed", log.sequence)]
    assert core.counters()["reject_not_a_record"] == 1


@pytest.mark.parametrize("cut", range(60, 190, 7))
def test_f05_a_line_whose_rest_is_lost_names_nobody(cut: int) -> None:
    """Half of a name is another's: the source says that a log was emptied in the middle of a line."""
    core = core_of()
    core.feed_sshd(accepted(4000)[:cut].rstrip(b"\n"), "pipe", 0)
    core.cut_line("sshd")
    core.feed_sshd(b"\n" + accepted(4001), "pipe", 0)
    assert [event["subjects"]["pid"] for event in taken(core)] == ["4001"]
    assert core.counters()["sshd_no_envelope"] == 1


def test_f05_a_record_whose_rest_is_lost_is_no_record() -> None:
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    line = log.syscall(59, ses=77, pid=5000, comm="x", exe="/usr/bin/x", uid=0)
    whole = log.event(line)
    core.feed_audit(whole[: whole.index(b"ses=77") + 5])  # ses=7
    core.cut_line("audit")
    core.feed_audit(b"\n" + log.execve(b"id", ses=7))
    core.flush()
    found = taken(core)
    assert [a[2] for a in acts(found)] == ["changed-login-id-to", "executed"]
    assert core.counters()["reject_not_a_record"] == 1
    # Its serial did not come.
    assert [e["metadata"]["extra"]["count"] for e in found if e["type"] == "AuditGap"] == [1]


@pytest.mark.parametrize("cut", [b"tty=(non", b'ses=1 res=1\x1dUID="ro', b"old-ses=429"])
def test_f05_a_login_that_goes_on_as_another_record_opens_no_session_of_that(cut: bytes) -> None:
    """A log cut in mid-line, and a writer that goes on in the middle of its own: no stamp stands where they meet."""
    core = core_of()
    log = Log()
    core.feed_sshd(accepted(4000, "one") + accepted(4001, "two"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    head = (
        b"type=LOGIN msg=audit(%d.%03d:900): pid=4001 uid=0 old-auid=4294967295 auid=1000 tty=(none) "
        b'old-ses=4294967295 ses=1 res=1\x1dUID="root"'
    ) % divmod(log.ms, 1000)
    core.feed_audit(head[: head.index(cut) + len(cut)] + b'd=1001 tty=pts0 ses=9 comm="cat" exe="/usr/bin/cat"\n')
    core.feed_audit(log.execve(b"id", ses=9))
    core.flush()
    assert "9" not in {a[0] for a in acts(taken(core))}


def test_f05_half_a_login_opens_no_session() -> None:
    core, log = core_of(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    half = b"type=LOGIN msg=%s: pid=4000 uid=0 old-auid=4294967295 auid=10" % log.stamp()
    core.feed_audit(half + log.execve(b"id", ses=8, pid=5100))
    assert core.counters()["sessions_now"] == 0
