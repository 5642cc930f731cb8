"""Context of actions, through the core: terminal, parent and ancestors, and what is shown of a container."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audito import events
from audito.core import Core, CoreSettings
from tests.records import Log, accepted

SSHD = "/usr/sbin/sshd"
BASH = "/usr/bin/bash"
CONTEXT_NAMES = set(events.CONTEXT)
PLACES = 32768
"""PROCESSES of _processes.pxd: pids that far apart share a row."""


def core_of(*sessions: tuple[int, int], log: Log, **others: Any) -> Core:
    """A core with these (session, pid of its login), bound."""
    container_of = others.pop("container_of", None)
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b", **others), None, container_of)
    for ses, pid in sessions:
        core.feed_sshd(accepted(pid, f"user{ses}"), "pipe", 0)
        core.feed_audit(log.login(ses=ses, pid=pid))
    core.take()
    return core


def log_of_now() -> Log:
    """Of records that are just made: only then is a process looked up."""
    log = Log()
    log.ms = time.time_ns() // 1_000_000
    return log


def syscall(pid: int, ppid: int, exe: str, *, ses: int = 7, tty: str = "pts0") -> tuple[str, bytes]:
    """A SYSCALL record with this parent and terminal."""
    kind, text = Log().syscall(59, ses=ses, pid=pid, comm="x", exe=exe)
    return kind, text.replace(b"ppid=%d " % (pid - 1), b"ppid=%d " % ppid).replace(b"tty=pts0", b"tty=" + tty.encode())


def ran(core: Core, log: Log, pid: int, ppid: int, exe: str, **others: Any) -> dict[str, Any]:
    """The context of the one action that a process's syscall is, with its exe."""
    core.feed_audit(log.event(syscall(pid, ppid, exe, **others), ("PROCTITLE", b"proctitle=78")))
    return context_of(core)


def said(core: Core, log: Log, kind: str, **others: Any) -> dict[str, Any]:
    core.feed_audit(log.message(kind, **others))
    return context_of(core)


def context_of(core: Core) -> dict[str, Any]:
    (line,) = core.take().splitlines()
    extra = json.loads(line)["metadata"]["extra"]
    return {name: extra[name] for name in events.CONTEXT if name in extra}


def test_the_chain_goes_up_to_the_sshd_of_the_login() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    assert ran(core, log, 4100, 4000, BASH) == {
        "tty": "pts0",
        "parent": {"pid": 4000, "exe": SSHD},
        "ancestors": [SSHD],
    }
    assert ran(core, log, 4101, 4100, "/usr/bin/make")["ancestors"] == [BASH, SSHD]
    assert ran(core, log, 4102, 4101, "/usr/bin/dash") == {
        "tty": "pts0",
        "parent": {"pid": 4101, "exe": "/usr/bin/make"},
        "ancestors": ["/usr/bin/make", BASH, SSHD],
    }


def test_sshds_own_child_is_told_by_its_message() -> None:
    """With privilege separation the shell's parent is no process of a syscall, but sshd sends CRED_ACQ from it."""
    log = Log()
    core = core_of((7, 4000), log=log)
    assert said(core, log, "CRED_ACQ", ses=7, pid=4050) == {"tty": "ssh"}
    assert ran(core, log, 4100, 4050, BASH)["parent"] == {"pid": 4050, "exe": SSHD}


def test_an_old_kernels_login_stands_alone_and_names_no_program() -> None:
    log = Log()
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000, exe=None) + log.message("USER_START", ses=7, pid=4000))
    core.take()
    assert ran(core, log, 4100, 4000, BASH)["ancestors"] == [SSHD]


def test_execve_changes_the_program_and_not_the_ancestors() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    ran(core, log, 4100, 4000, BASH)
    first = ran(core, log, 4101, 4100, "/usr/bin/env")
    again = ran(core, log, 4101, 4100, "/usr/bin/vim")
    assert first == again
    assert ran(core, log, 4102, 4101, "/usr/bin/id")["ancestors"] == ["/usr/bin/vim", BASH, SSHD]
    ran(core, log, 4100, 4000, "/usr/bin/tmux")
    assert ran(core, log, 4101, 4100, "/usr/bin/vim")["ancestors"] == [BASH, SSHD]
    assert ran(core, log, 4103, 4100, "/usr/bin/id")["ancestors"] == ["/usr/bin/tmux", SSHD]


def test_a_parent_of_which_nothing_is_known_ends_the_chain() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    assert ran(core, log, 4100, 4090, BASH) == {"tty": "pts0"}
    assert ran(core, log, 4101, 4100, "/usr/bin/id")["ancestors"] == [BASH]
    # It is told later, by an event that was completed after its child's.
    ran(core, log, 4090, 4000, "/usr/bin/screen")
    assert ran(core, log, 4100, 4090, BASH)["ancestors"] == ["/usr/bin/screen", SSHD]
    assert ran(core, log, 4102, 4100, "/usr/bin/id")["ancestors"] == [BASH, "/usr/bin/screen", SSHD]


def test_what_was_left_running_still_says_who_started_it() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    ran(core, log, 4100, 4000, BASH)
    ran(core, log, 4101, 4100, "/usr/bin/nohup")
    orphan = ran(core, log, 4101, 1, "/usr/bin/sleep")
    assert (orphan["parent"], orphan["ancestors"]) == ({"pid": 4100, "exe": BASH}, [BASH, SSHD])


def test_a_pid_that_is_used_again_has_the_ancestors_of_its_own_parent() -> None:
    log = Log()
    core = core_of((7, 4000), (8, 4001), log=log)
    ran(core, log, 4100, 4000, BASH)
    ran(core, log, 4200, 4100, "/usr/bin/make")
    assert ran(core, log, 4200, 4000, "/usr/bin/zsh")["ancestors"] == [SSHD]  # in the same session
    assert ran(core, log, 4200, 4100, "/usr/bin/id", ses=8) == {"tty": "pts0"}  # in another
    assert ran(core, log, 4300, 4200, "/usr/bin/ls") == {"tty": "pts0"}  # of 7, whose 4200 is gone
    assert ran(core, log, 4301, 4200, "/usr/bin/ls", ses=8)["ancestors"] == ["/usr/bin/id"]


def test_a_session_number_that_starts_again_begins_anew() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    ran(core, log, 4100, 4000, BASH)
    log.ms += 3_600_000
    core.feed_sshd(accepted(5000, "other"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=5000))
    core.take()
    assert ran(core, log, 4101, 4100, "/usr/bin/id") == {"tty": "pts0"}


def test_the_chain_is_capped() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    found = [ran(core, log, 4100 + i, 4099 + i if i else 4000, f"/bin/p{i}") for i in range(40)]
    assert found[39]["ancestors"] == [f"/bin/p{i}" for i in range(38, 22, -1)]
    assert [len(context["ancestors"]) for context in found] == [min(i, 16) for i in range(1, 41)]


def test_two_pids_of_one_place_do_not_meet() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    ran(core, log, 4100, 4000, BASH)
    ran(core, log, 4100 + PLACES, 4000, "/usr/bin/zsh")  # takes its place
    assert ran(core, log, 4101, 4100, "/usr/bin/id") == {"tty": "pts0"}
    assert ran(core, log, 4102, 4100 + PLACES, "/usr/bin/id")["ancestors"] == ["/usr/bin/zsh", SSHD]
    # A child that takes its parent's place has it as its parent all the same.
    assert ran(core, log, 4100 + 2 * PLACES, 4100 + PLACES, "/usr/bin/id")["ancestors"] == ["/usr/bin/zsh", SSHD]


Step = tuple[int, int, int, int]


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([7, 8, 9]),
            st.sampled_from([20, 21, 22, 23, 20 + PLACES, 21 + PLACES]),
            st.sampled_from([1, 10, 11, 20, 21, 22, 23, 20 + PLACES]),
            st.integers(0, 2),
        ),
        max_size=40,
    )
)
def test_a_chain_never_shows_another_sessions_process(steps: list[Step]) -> None:
    """Whatever pids come again: each program says in its name whose it is."""
    log = Log()
    core = core_of((7, 10), (8, 11), (9, 12), log=log)
    for ses, pid, ppid, program in steps:
        context = ran(core, log, pid, ppid, f"/s{ses}/pid{pid}/{program}", ses=ses)
        chain = context.get("ancestors", [])
        assert len(chain) <= 16
        assert all(exe.startswith(f"/s{ses}/") or exe == SSHD for exe in chain)
        assert SSHD not in chain[:-1]
        if not chain:
            assert "parent" not in context
            continue
        assert context["parent"]["exe"] == chain[0]
        if ppid != 1:
            assert context["parent"]["pid"] == ppid
            assert chain[0] == SSHD or chain[0].startswith(f"/s{ses}/pid{ppid}/")


@pytest.mark.parametrize("asked", [(), *((name,) for name in events.CONTEXT), events.CONTEXT])
def test_each_can_be_switched_off(asked: tuple[str, ...]) -> None:
    log = log_of_now()
    core = core_of((7, 4000), log=log, context=asked, container_of=lambda pid, ms: events.Container("a" * 64))
    assert set(ran(core, log, 4100, 4000, BASH)) == set(asked)
    core.adjust(msgspec.structs.replace(core.settings, context=()))
    assert ran(core, log, 4101, 4100, BASH) == {}
    core.adjust(msgspec.structs.replace(core.settings, context=events.CONTEXT))
    ran(core, log, 4100, 4000, BASH)
    assert set(ran(core, log, 4102, 4100, BASH)) == CONTEXT_NAMES


@pytest.mark.parametrize(
    ("text", "told"),
    [("pts0", "pts0"), ("tty1", "tty1"), ("(none)", None), ("?", None), ('p"x', 'p"x'), ("p\\xff", "p\\\\xff")],
)
def test_tty(text: str, told: str | None) -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    assert ran(core, log, 4100, 4090, BASH, tty=text) == ({"tty": told} if told else {})


def test_a_record_that_was_cut_has_no_tty() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    kind, text = syscall(4100, 4090, BASH)
    ids, _, _ = text.partition(b" tty=")
    for cut in (ids, ids + b" tty", ids + b" tty="):
        core.feed_audit(log.event((kind, cut + b" ses=7"), ("PROCTITLE", b"proctitle=78")))
        assert context_of(core) == {}


def test_a_message_names_its_terminal_and_no_parent() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    ran(core, log, 4100, 4000, BASH)
    text = b"pid=4101 uid=0 auid=1000 ses=7 msg='op=x ppid=4100 exe=\"/usr/bin/sudo\" terminal=/dev/pts/3 res=success'"
    core.feed_audit(log.event(("USER_CMD", text)))
    assert context_of(core) == {"tty": "/dev/pts/3"}


def test_a_process_is_looked_up_once_for_each_program() -> None:
    asked: list[tuple[int, int]] = []

    def container_of(pid: int, record_ms: int) -> events.Container | None:
        asked.append((pid, record_ms))
        return events.Container("c" * 64, "uid") if pid == 4101 else None

    log = log_of_now()
    core = core_of((7, 4000), log=log, container_of=container_of)
    asked.clear()
    assert "container" not in ran(core, log, 4100, 4000, BASH)
    assert ran(core, log, 4101, 4100, "/usr/bin/runc")["container"] == {"id": "c" * 64, "pod": "uid"}
    assert ran(core, log, 4101, 4100, "/usr/bin/runc")["container"] == {"id": "c" * 64, "pod": "uid"}
    ran(core, log, 4101, 4100, "/app")  # it has entered its container
    assert "container" not in ran(core, log, 4102, 4101, "/app")  # children inherit nothing
    assert [pid for pid, _ in asked] == [4100, 4101, 4101, 4102]
    assert asked[-1][1] == log.ms


def test_only_a_process_of_now_is_looked_up() -> None:
    asked: list[int] = []

    def container_of(pid: int, record_ms: int) -> events.Container | None:
        asked.append(pid)
        return None

    log = log_of_now()
    core = core_of((7, 4000), log=log, container_of=container_of)
    asked.clear()
    for pid, age_ms in ((4101, 9_000), (4102, 11_000), (4103, -9_000), (4104, -11_000), (4105, 40 * 365 * 86_400_000)):
        log.ms = time.time_ns() // 1_000_000 - age_ms
        ran(core, log, pid, 4000, BASH)
    assert asked == [4101, 4103]


def test_a_restart_goes_on_with_the_processes_that_it_knew() -> None:
    log = Log()
    first = core_of((7, 4000), log=log)
    ran(first, log, 4100, 4000, BASH)
    ran(first, log, 4101, 4100, "/usr/bin/make")
    again = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    again.load(first.dump(), 0, 0)
    steps = [(4102, 4101, "/bin/cc"), (4101, 1, "/usr/bin/make"), (4103, 4100, "/bin/ls"), (4104, 4000, "/bin/sh")]
    for pid, ppid, exe in steps:
        at = log.sequence, log.ms
        one = ran(first, log, pid, ppid, exe)
        log.sequence, log.ms = at
        assert ran(again, log, pid, ppid, exe) == one
        assert one["ancestors"][-1] == SSHD


def test_a_restart_keeps_no_process_of_a_session_that_is_gone() -> None:
    log = Log()
    core = core_of((7, 4000), log=log, session_count_max=2)
    ran(core, log, 4100, 4000, BASH)
    for ses in (8, 9, 10):
        core.feed_sshd(accepted(ses), "pipe", 0)
        core.feed_audit(log.login(ses=ses, pid=ses))
    state = json.loads(core.dump())
    assert len(state["sessions"]) == 2
    assert {row[1] for row in state["processes"]} == {row[3] for row in state["sessions"]}


def test_a_login_without_a_session_is_a_gap_where_audit_records_are_read() -> None:
    log = Log()
    core = core_of((7, 4000), log=log)
    core.feed_sshd(accepted(5000, "nobody@corp"), "pipe", log.ms * 1000)
    core.flush()
    login, gap, *logouts = (json.loads(line) for line in core.take().splitlines())
    assert login["type"] == "UserLogin"
    assert gap["type"] == "AuditGap"
    assert gap["metadata"] == {
        "auditId": login["metadata"]["auditId"],
        "extra": {"count": 1, "reason": "login_without_session"},
    }
    assert (gap["loggedAt"][:19], gap["target"]) == (login["loggedAt"][:19], login["target"])
    assert {event["type"] for event in logouts} <= {"UserLogout"}
    assert core.counters()["logins_without_session"] == 1


def test_a_host_whose_audit_records_nobody_reads_has_no_gaps() -> None:
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    core.feed_sshd(accepted(5000), "pipe", 0)
    core.flush()
    assert b"AuditGap" not in core.take()
    assert core.counters()["logins_without_session"] == 1
