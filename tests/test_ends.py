"""Why a login ended: sshd's line, mostly of another process than the login's, meets the kernel's end of the session."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from msgspec import Raw

from audito.core import Core, CoreSettings
from audito.ends import ENDED_MAX, REASON_DELAY_MS, Ended, Ends
from audito.events import LogoutExtra
from tests.records import BASE_MS, Log, accepted

CHILD = 4003
RECEIVED = f"{CHILD} Received disconnect from 10.0.0.5 port 5022:11: disconnected by user\n".encode()
DISCONNECTED = f"{CHILD} Disconnected from user bob 10.0.0.5 port 5022\n".encode()
CLOSED = b"4000 pam_unix(sshd:session): session closed for user bob\n"
TIMEOUT = f"{CHILD} Timeout, client not responding from user bob 10.0.0.5 port 5022\n".encode()


def new_core(**settings: Any) -> Core:
    return Core(CoreSettings(host="h", machine_id="m", boot_id="b", **settings))


def bound(log: Log) -> Core:
    core = new_core()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    return core


def logouts(core: Core) -> list[dict[str, Any]]:
    return [event for line in core.take().splitlines() if (event := json.loads(line))["type"] == "UserLogout"]


def reason(logout: dict[str, Any]) -> str | None:
    return logout["metadata"]["extra"].get("reason")


@pytest.mark.parametrize("line_first", [True, False])
@pytest.mark.parametrize(
    ("lines", "why"),
    [(RECEIVED + DISCONNECTED, "disconnected by user"), (TIMEOUT + CLOSED, "Timeout, client not responding")],
)
def test_the_line_of_the_user_child_says_why_the_session_ended(lines: bytes, why: str, line_first: bool) -> None:
    """The PID trap: the child's pid is not the login's; address and port are."""
    log = Log()
    core = bound(log)
    if line_first:
        core.feed_sshd(lines, "pipe", 0)
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    if not line_first:
        assert logouts(core) == []
        core.feed_sshd(lines, "pipe", 0)
    (logout,) = logouts(core)
    assert reason(logout) == why
    assert logout["component"] == "auditd"
    assert logout["subjects"]["userID"] == "bob@corp"
    core.flush()
    assert logouts(core) == []


def test_the_child_that_sshd_named_is_known_by_its_pid() -> None:
    log = Log()
    core = bound(log)
    core.feed_sshd(f"4000 User child is on pid {CHILD}\n".encode(), "pipe", 0)
    core.feed_sshd(
        f"{CHILD} Received disconnect from UNKNOWN port 65535:11: disconnected by user\n".encode(), "pipe", 0
    )
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    assert [reason(logout) for logout in logouts(core)] == ["disconnected by user"]


def test_another_connection_says_nothing_of_this_one() -> None:
    log = Log()
    core = bound(log)
    core.feed_sshd(RECEIVED.replace(b"5022", b"5023"), "pipe", 0)
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    core.flush()
    assert [reason(logout) for logout in logouts(core)] == [None]


def test_a_connection_that_comes_again_is_another_login() -> None:
    log = Log()
    core = bound(log)
    core.feed_sshd(RECEIVED, "pipe", 0)
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    core.feed_sshd(accepted(4100, "eve@corp"), "pipe", 0)
    core.feed_audit(log.login(ses=8, pid=4100) + log.message("USER_END", ses=8, pid=4100))
    core.feed_sshd(TIMEOUT, "pipe", 0)
    first, second = logouts(core)
    assert (reason(first), reason(second)) == ("disconnected by user", "Timeout, client not responding")
    assert second["subjects"]["userID"] == "eve@corp"


def test_a_logout_waits_no_longer_than_its_reason_can_take() -> None:
    log = Log()
    core = bound(log)
    core.tick(BASE_MS)
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    core.tick(BASE_MS + 1_000)
    assert logouts(core) == []
    core.tick(BASE_MS + 4_000, sshd_idle=False)  # its lines lag behind: the one that says why may be among them
    assert logouts(core) == []
    core.tick(BASE_MS + 4_001)
    assert [reason(logout) for logout in logouts(core)] == [None]


def test_sessions_that_wait_for_a_reason_are_bounded() -> None:
    log = Log()
    core = new_core()
    for number in range(ENDED_MAX + 2):
        pid = 10_000 + number
        core.feed_sshd(accepted(pid, port=1024 + number), "pipe", 0)
        core.feed_audit(log.login(ses=number + 1, pid=pid) + log.message("USER_END", ses=number + 1, pid=pid))
    assert [logout["metadata"]["auditId"] for logout in logouts(core)] == ["1", "2"]


def test_a_login_without_a_session_has_its_end_from_sshd_alone() -> None:
    core = new_core(join_window_ms=5_000)
    core.tick(BASE_MS)
    core.feed_sshd(accepted(4000), "pipe", BASE_MS * 1000)
    (login,) = [json.loads(line) for line in core.take().splitlines()]
    core.tick(BASE_MS + 6_000)
    core.feed_sshd(RECEIVED + DISCONNECTED + CLOSED, "pipe", (BASE_MS + 9_000) * 1000)
    (logout,) = logouts(core)
    assert logout["metadata"] == {
        "auditId": login["metadata"]["auditId"],
        "extra": {"duration_ms": 9_000, "reason": "disconnected by user"},
    }
    assert logout["component"] == "sshd"
    assert logout["subjects"] == login["subjects"]


def test_a_login_that_was_over_before_it_was_given_up_has_its_end_too() -> None:
    core = new_core(join_window_ms=5_000)
    core.tick(BASE_MS)
    core.feed_sshd(accepted(4000) + RECEIVED + CLOSED, "pipe", BASE_MS * 1000)
    assert logouts(core) == []
    core.tick(BASE_MS + 6_000)
    assert [reason(logout) for logout in logouts(core)] == ["disconnected by user"]


def test_logins_without_a_session_and_ends_without_a_reason_survive_a_restart() -> None:
    log = Log()
    core = new_core(join_window_ms=5_000)
    core.tick(BASE_MS)
    core.feed_sshd(accepted(4000) + accepted(5000, "eve@corp", port=6000), "pipe", BASE_MS * 1000)
    core.feed_audit(log.login(ses=7, pid=4000) + log.message("USER_END", ses=7, pid=4000))
    core.tick(BASE_MS + 1_000)
    core.take()
    again = new_core(join_window_ms=5_000)
    again.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    again.tick(BASE_MS + 7_000)
    assert logouts(again) == []
    again.feed_sshd(RECEIVED + b"5002 Connection closed by 10.0.0.5 port 6000\n", "pipe", (BASE_MS + 8_000) * 1000)
    first, second = logouts(again)
    assert (first["subjects"]["userID"], first["component"]) == ("bob@corp", "auditd")
    assert (second["subjects"]["userID"], second["component"]) == ("eve@corp", "sshd")


CONNECTION = b"10.0.0.5 port 5022"
OF_SESSION = b"%d %d 3 Received disconnect from %s:11: disconnected by user\n"


@pytest.mark.parametrize("line_first", [True, False])
@pytest.mark.parametrize(("session", "connection", "counts"), [(7, CONNECTION, True), (8, CONNECTION, False),
                                                              (7, b"10.0.0.5 port 5023", False)])  # fmt: skip
def test_u25_what_a_users_own_process_says_counts_for_its_own_session_only(
    session: int, connection: bytes, counts: bool, line_first: bool
) -> None:
    """In the journal the user child has the user's uid, as has an sshd that somebody runs for himself."""
    log = Log()
    core = bound(log)
    line = OF_SESSION % (BASE_MS * 1000, session, connection)
    if line_first:
        core.feed_sshd(line, "journal", 0)
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    if not line_first:
        core.feed_sshd(line, "journal", 0)
    core.flush()
    (logout,) = logouts(core)
    assert reason(logout) == ("disconnected by user" if counts else None)


def test_a_false_word_on_a_session_keeps_no_true_one_out() -> None:
    log = Log()
    core = bound(log)
    core.feed_sshd(OF_SESSION % (BASE_MS * 1000, 8, CONNECTION), "journal", 0)
    core.feed_sshd(TIMEOUT, "pipe", 0)
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    (logout,) = logouts(core)
    assert reason(logout) == "Timeout, client not responding"


@pytest.mark.parametrize(
    "message",
    [
        b"Accepted publickey for alice from 6.6.6.6 port 22 ssh2: ED25519 SHA256:abc",
        b"Failed password for alice from 6.6.6.6 port 22 ssh2",
        b"User child is on pid 4000",
        b"Connection closed by authenticating user alice 6.6.6.6 port 22 [preauth]",
    ],
)
def test_u25_a_users_own_process_says_nothing_but_the_end(message: bytes) -> None:
    core = new_core()
    core.feed_sshd(b"%d 7 3 %s\n" % (BASE_MS * 1000, message), "journal", 0)
    core.flush()
    assert core.take() == b""
    assert core.counters()["sshd_untrusted"] == 1


def test_a_login_without_a_session_is_not_ended_by_a_users_own_process() -> None:
    core = new_core()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.flush()
    core.feed_sshd(OF_SESSION % (BASE_MS * 1000, 7, CONNECTION), "journal", 0)
    assert logouts(core) == []


@pytest.mark.parametrize("order", [1, -1])
def test_waiting_logouts_are_told_in_time_and_cost_no_look(order: int) -> None:
    """However many wait: a daemon looks after each read."""
    ends = {count: Ends(2 * count) for count in (16, ENDED_MAX)}
    took_ns = {}
    for count, one in ends.items():
        for number in range(count):
            one.session(over(number + 1, 1_000_000 + order * number))
        began = time.perf_counter_ns()
        for _ in range(200):
            one.expire(1_000_000 - count, 1_000)
        took_ns[count] = time.perf_counter_ns() - began
        assert one.take() == []
        one.expire(1_000_000 + REASON_DELAY_MS + count, 1_000)
        assert [ended.pid for ended in one.take()] == list(range(1, count + 1))
    assert took_ns[ENDED_MAX] < 30 * took_ns[16], "a scan of all takes 256 times as long"


def over(pid: int, end_ms: int) -> Ended:
    source = Raw(b'{"type":"IP","value":"10.0.0.5","extra":{"port":"%d"}}' % pid)
    return Ended(pid, end_ms, 1_000, str(pid), "auditd", LogoutExtra(0), source, Raw(b"{}"))


def test_one_that_ended_in_the_future_holds_nothing_up_past_the_wall_time() -> None:
    one = Ends(16)
    one.session(over(1, 9_000_000))
    one.session(over(2, 1_000_000))
    one.expire(1_000_000 + REASON_DELAY_MS + 1, 1_000)
    assert one.take() == []
    one.expire(1_000_000 + REASON_DELAY_MS + 1, 1_000 + REASON_DELAY_MS + 1)
    assert [ended.pid for ended in one.take()] == [1, 2]


def test_in_a_backlog_each_login_of_a_pid_has_its_own_reason() -> None:
    """All of sshd's lines are read before the first audit record, and pids come again."""
    day_ms = 86_400_000
    whys = ["first", None, "third"]
    lines = []
    for number, why in enumerate(whys):
        at_us = (BASE_MS + number * day_ms) * 1000
        message = accepted(4000).partition(b" ")[2]
        lines.append(b"%d 4000 1 %s" % (at_us, message))
        if why:
            end = f"Received disconnect from 10.0.0.5 port 5022:11: {why}"
            lines.append(b"%d 4003 1 %s\n" % (at_us + 1_000_000, end.encode()))
    core = new_core()
    core.feed_sshd(b"".join(lines), "journal", 0)
    log = Log()
    told = []
    for number in range(len(whys)):
        log.ms = BASE_MS + number * day_ms
        core.feed_audit(log.login(ses=7 + number, pid=4000))
        log.ms += 1_000
        core.feed_audit(log.message("USER_END", ses=7 + number, pid=4000))
        told += logouts(core)
    core.flush()
    told += logouts(core)
    assert [(logout["metadata"]["auditId"], reason(logout)) for logout in told] == [
        ("7", "first"),
        ("8", None),
        ("9", "third"),
    ]
