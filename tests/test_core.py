"""The join, through the public path of the core: bytes of both streams in, JSON lines out."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from audito import events
from audito.core import Core, CoreSettings
from audito.errors import StateError
from audito.text import original
from tests.records import BASE_MS, Log, accepted

SETTINGS = CoreSettings(host="blam", machine_id="deadbeef", boot_id="boot")


def new_core(**changes: Any) -> Core:
    """A core that fails the test when a line is rejected."""

    def reject(line: bytes, reason: str) -> None:
        raise AssertionError(f"{reason}: {line!r}")

    settings = {name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__} | changes
    return Core(CoreSettings(**settings), reject)


def taken(core: Core) -> list[dict[str, Any]]:
    """The events made since the last take."""
    assert core.counters()["rejects_failed"] == 0, "an audit line was rejected, which new_core() forbids"
    return [json.loads(line) for line in core.take().splitlines()]


def actions(found: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(session, userID, action and its first argument or nothing) of each UserAction."""
    return [
        (
            event["metadata"]["auditId"],
            event["subjects"]["userID"],
            " ".join([event["metadata"]["extra"]["action"], *event["metadata"]["extra"].get("process_args", [])[:1]]),
        )
        for event in found
        if event["type"] == "UserAction"
    ]


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in found]


# ------------------------------------------------------------------------------------------- shapes


def test_a_certificate_login_and_a_command_have_the_known_shapes() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", (BASE_MS + 5) * 1000)
    core.feed_audit(
        log.login(ses=67, pid=4000) + log.execve(b"rizin", b"-q", ses=67, exe="/usr/local/bin/rizin", ok=False)
    )
    login, opened, action = taken(core)
    assert list(login) == [
        "metadata", "type", "loggedAt", "source", "outcome", "subjects", "component", "target", "data",
    ]  # fmt: skip
    assert login["type"] == "UserLogin"
    assert login["source"] == {"type": "IP", "value": "10.0.0.5", "extra": {"port": "5022"}}
    assert login["subjects"] == {"loggedAs": "bob", "userID": "bob@corp", "pid": "4000"}
    assert list(login["subjects"]) == ["loggedAs", "pid", "userID"]
    assert list(login["data"]) == ["Alg", "CA", "SSHKeySum", "Serial", "method"]
    assert login["target"] == {"host": "blam", "machine-id": "deadbeef"}
    assert login["data"]["Alg"] == "ED25519-CERT SHA256"
    assert login["data"]["SSHKeySum"] == "kkk"
    assert login["data"]["Serial"] == "42"
    assert login["data"]["CA"] == "CA ED25519 SHA256:ccc"
    assert opened["metadata"]["extra"]["action"] == "changed-login-id-to"
    assert action == {
        "metadata": {
            "auditId": "67",
            "extra": {
                "action": "executed",
                "how": "/usr/local/bin/rizin",
                "object": {"type": "file", "primary": "/usr/local/bin/rizin"},
                "process_args": ["rizin", "-q"],
                "sequence": 102,
                "pid": 5000,
                "ppid": 4999,
                "cwd": "/home/bob",
                "exe": "/usr/local/bin/rizin",
                "key": "user-commands",
                "exit": -13,
                "correlation": "pid",
                "tty": "pts0",
            },
        },
        "type": "UserAction",
        "loggedAt": "2023-11-14T22:13:20.020Z",
        "source": login["source"],
        "outcome": "failed",
        "subjects": login["subjects"],
        "component": "auditd",
        "target": login["target"],
    }
    assert list(action) == ["metadata", "type", "loggedAt", "source", "outcome", "subjects", "component", "target"]


def test_the_user_is_named_where_it_is_not_the_logins_own() -> None:
    core = new_core()
    log = Log()
    raw = Log(start=500, enriched=False)
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7) + log.execve(b"id", ses=7, uid=0))
    core.feed_audit(raw.execve(b"id", ses=7, uid=0))
    own, root, number = [event["metadata"]["extra"].get("user") for event in taken(core)[2:]]
    assert own is None
    assert root == {"uid": "root", "euid": "root"}
    assert number == {"uid": "0", "euid": "0"}


def test_event_types_pick_what_is_written() -> None:
    core = new_core(event_types=("UserLogin", "UserLogout"))
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7) + log.execve(b"no", ses=7, ok=False))
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    core.flush()
    login, logout = taken(core)
    assert kinds([login, logout]) == ["UserLogin", "UserLogout"]
    assert logout["metadata"]["extra"] == {
        "duration_ms": 30, "actions": 4, "commands": 2, "failures": 1, "correlation": "pid",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------- either side first


@pytest.mark.parametrize("split", [1, 7, 4096])
@pytest.mark.parametrize("login_first", [True, False])
def test_either_side_may_come_first(login_first: bool, split: int) -> None:
    core = new_core()
    log = Log()
    audit = log.login(ses=7, pid=4000) + log.execve(b"id", ses=7)
    if login_first:
        core.feed_sshd(accepted(4000), "pipe", 0)
    for at in range(0, len(audit), split):
        core.feed_audit(audit[at : at + split])
    if not login_first:
        assert taken(core) == []
        core.feed_sshd(accepted(4000), "pipe", 0)
    found = taken(core)
    assert kinds(found) == ["UserLogin", "UserAction", "UserAction"]
    assert actions(found)[1] == ("7", "bob@corp", "executed id")


def test_sessions_of_one_account_are_told_apart() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000, "alice") + accepted(4001, "dave"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4001) + log.login(ses=8, pid=4000))
    core.feed_audit(log.execve(b"a", ses=8) + log.execve(b"d", ses=7))
    assert actions(taken(core))[2:] == [("8", "alice", "executed a"), ("7", "dave", "executed d")]


def test_a_session_of_cron_is_nobodys() -> None:
    core = new_core()
    log = Log()
    core.feed_audit(log.login(ses=3, pid=900, exe="/usr/sbin/cron") + log.execve(b"nproc", ses=3))
    core.feed_sshd(accepted(900), "pipe", 0)
    core.flush()
    assert kinds(taken(core)) == ["UserLogin", "AuditGap"]
    assert core.counters()["sessions_refused"] == 1


def test_before_kernel_5_2_the_pid_decides_and_a_message_of_cron_undoes_it() -> None:
    core = new_core()
    log = Log()
    core.feed_audit(log.login(ses=3, pid=900, exe=None) + log.login(ses=4, pid=901, exe=None))
    core.feed_audit(log.message("USER_START", ses=3, pid=900, exe="/usr/sbin/cron") + log.execve(b"nproc", ses=3))
    core.feed_audit(log.execve(b"id", ses=4))
    core.feed_sshd(accepted(901), "pipe", 0)
    core.flush()
    assert actions(taken(core)) == [("4", "bob@corp", "changed-login-id-to"), ("4", "bob@corp", "executed id")]


def test_an_old_kernels_login_record_opens_the_new_session() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(
        log.event(("LOGIN", b"login pid=4000 uid=0 old auid=4294967295 new auid=1000 old ses=4294967295 new ses=9"))
        + log.execve(b"id", ses=9)
    )
    core.flush()
    assert ("9", "bob@corp", "executed id") in actions(taken(core))


def test_a_node_prefix_changes_nothing_and_nodes_do_not_mix() -> None:
    core = new_core()
    one, two = Log(node=b"h1"), Log(node=b"h2")
    core.feed_sshd(accepted(4000, "one") + accepted(4001, "two"), "pipe", 0)
    core.feed_audit(one.login(ses=7, pid=4000) + two.login(ses=7, pid=4001))
    core.feed_audit(two.execve(b"b", ses=7) + one.execve(b"a", ses=7))
    assert actions(taken(core))[2:] == [("7", "two", "executed b"), ("7", "one", "executed a")]


# ------------------------------------------------------------------------------------------- never silent


def test_an_sshd_session_without_a_login_line_is_written_with_what_the_kernel_knows() -> None:
    core = new_core(join_window_ms=60_000)
    log = Log()
    wall_ms = BASE_MS + 86_400_000  # what is read is of yesterday: only what passes from here on counts
    core.tick(wall_ms)
    core.feed_audit(log.login(ses=7, pid=4000) + log.message("USER_START", ses=7, pid=4000, acct="eve"))
    core.feed_audit(log.execve(b"id", ses=7))
    core.tick(wall_ms + 59_000)
    assert taken(core) == []
    core.tick(wall_ms + 61_000)
    found = taken(core)
    login, *acts = found
    assert [event["metadata"]["extra"]["action"] for event in acts] == [
        "changed-login-id-to", "started-session", "executed",
    ]  # fmt: skip
    assert {event["metadata"]["extra"]["correlation"] for event in found} == {"kernel"}
    assert (login["type"], login["component"], login["outcome"]) == ("UserLogin", "auditd", "succeeded")
    assert login["data"] == {"method": "unknown", "session": "7"}
    assert {json.dumps(event["subjects"]) for event in found} == {
        '{"loggedAs": "eve", "pid": "4000", "userID": "unknown"}'
    }
    assert found[0]["source"] == {"type": "IP", "value": "10.0.0.5", "extra": {"port": "unknown"}}


def test_u14_a_login_line_of_any_lateness_still_names_its_session() -> None:
    """By arrival hours late, by its own time right: a source that is merely behind expires nothing."""
    core = new_core(join_window_ms=60_000)
    log = Log()
    core.tick(BASE_MS, sshd_idle=False)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    core.tick(BASE_MS + 3_600_000, sshd_idle=False)
    assert taken(core) == []
    line = accepted(4000).replace(b"4000 ", b"%d 4000 1 " % ((BASE_MS + 8) * 1000), 1)
    core.feed_sshd(line, "journal", 0)
    assert actions(taken(core))[1] == ("7", "bob@corp", "executed id")


def test_u14_a_line_after_the_window_names_what_is_still_to_come() -> None:
    core = new_core(join_window_ms=60_000)
    log = Log()
    core.tick(BASE_MS)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    core.tick(BASE_MS + 61_000)
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.execve(b"ls", ses=7))
    assert actions(taken(core)) == [
        ("7", "unknown", "changed-login-id-to"),
        ("7", "unknown", "executed id"),
        ("7", "bob@corp", "executed ls"),
    ]
    assert core.counters()["joins_late"] == 1


@pytest.mark.parametrize("years", [-10, 0, 10])
def test_records_of_any_year_join_lines_that_carry_no_time(years: int) -> None:
    """Through pipes the lines have the time of their arrival: the records' own may be of another year."""
    core = new_core()
    log = Log()
    wall_ms = BASE_MS + years * 365 * 86_400_000
    core.tick(wall_ms)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    core.tick(wall_ms + 1_000)
    core.feed_sshd(accepted(4000) + accepted(4001, "eve"), "pipe", (wall_ms + 1_500) * 1000)
    core.tick(wall_ms + 2_000)
    core.feed_audit(log.login(ses=8, pid=4001) + log.execve(b"ls", ses=8))
    assert [who for _, who, _ in actions(taken(core))] == ["bob@corp"] * 2 + ["eve"] * 2


def test_u15_what_waits_for_login_lines_is_bounded_and_told() -> None:
    core = new_core()
    log = Log()
    fat = b"x" * 60_000
    core.feed_audit(log.login(ses=7, pid=4000) + log.login(ses=8, pid=4001))
    for ses in (7, 8):
        while not core.audit_paused:
            core.feed_audit(log.execve(b"id", fat, ses=ses))
        if ses == 7:
            held = core.counters()["held_bytes_now"]
            while core.counters()["held_bytes_now"] >= held:
                core.feed_audit(log.execve(b"id", fat, ses=8))
            assert not core.audit_paused or core.counters()["joins_kernel"]
    assert core.counters()["joins_kernel"] >= 1
    assert core.counters()["held_bytes_now"] < 65 << 20
    assert {who for _, who, _ in actions(taken(core))} == {"unknown"}


# ------------------------------------------------------------------------------------------- session life


def test_u09_login_and_its_syscall_are_one_event() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    _login, action = taken(core)
    assert action["metadata"]["extra"]["action"] == "changed-login-id-to"
    assert action["metadata"]["extra"]["object"] == {"type": "user-session", "primary": "1000"}


def test_u10_sudo_does_not_end_the_session() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    for kind in ("USER_START", "USER_END", "CRED_DISP"):
        core.feed_audit(log.message(kind, ses=7, pid=4100, exe="/usr/bin/sudo", acct="root"))
    core.feed_audit(log.execve(b"id", ses=7))
    core.flush()  # also what waits for the reason of a logout
    found = taken(core)
    assert "UserLogout" not in kinds(found)
    assert actions(found)[-1] == ("7", "bob@corp", "executed id")


def test_a_session_ends_once_and_u11_what_it_left_running_stays_its_own() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7, ok=False))
    core.feed_audit(log.message("USER_END", ses=7, pid=4000) + log.message("CRED_DISP", ses=7, pid=4000))
    core.feed_audit(log.execve(b"sort", ses=7))
    core.flush()
    found = taken(core)
    assert kinds(found).count("UserLogout") == 1
    logout = found[kinds(found).index("UserLogout")]
    extra = {"duration_ms": 20, "actions": 3, "commands": 1, "failures": 1, "correlation": "pid"}
    assert logout["metadata"] == {"auditId": "7", "extra": extra}
    assert logout["loggedAt"] == "2023-11-14T22:13:20.030Z"
    assert logout["subjects"]["userID"] == "bob@corp"
    assert actions(found)[-1] == ("7", "bob@corp", "executed sort")
    later = [event["metadata"]["extra"].get("afterLogout") for event in found if event["type"] == "UserAction"]
    assert later == [None, None, None, None, True]


def test_a_pid_that_is_used_again_meets_its_own_login() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000, "first"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.message("USER_END", ses=7, pid=4000))
    core.feed_sshd(accepted(4000, "second", port=6000), "pipe", 0)
    core.feed_audit(log.login(ses=8, pid=4000) + log.execve(b"b", ses=8) + log.execve(b"a", ses=7))
    core.flush()
    found = taken(core)
    assert actions(found)[-2:] == [("8", "second", "executed b"), ("7", "first", "executed a")]
    assert "IdentityConflict" not in kinds(found)


def test_a_session_number_that_starts_again_is_a_new_session() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000, "first"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    log.ms += 3_600_000
    core.feed_audit(log.login(ses=7, pid=300) + log.execve(b"id", ses=7))
    core.feed_sshd(accepted(300, "second"), "pipe", 0)
    assert actions(taken(core))[-1] == ("7", "second", "executed id")


# ------------------------------------------------------------------------------------------- identity


def test_u13_the_first_binding_wins_and_a_second_claim_is_a_conflict() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", BASE_MS * 1000)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.feed_sshd(accepted(4000, "mallory", port=7000), "pipe", (BASE_MS + 50) * 1000)
    core.feed_audit(log.execve(b"id", ses=7))
    core.tick(BASE_MS + 1_000)
    found = taken(core)
    assert actions(found)[-1] == ("7", "bob@corp", "executed id")
    assert "IdentityConflict" not in kinds(found)
    core.tick(BASE_MS + 10_000)
    (conflict,) = taken(core)
    assert conflict["type"] == "IdentityConflict"
    assert conflict["metadata"]["auditId"] == "7"
    assert conflict["metadata"]["extra"]["claimedSubjects"]["userID"] == "mallory"
    assert conflict["subjects"]["userID"] == "bob@corp"


def test_a_line_that_is_read_twice_is_no_conflict() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", BASE_MS * 1000)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.feed_sshd(accepted(4000), "pipe", BASE_MS * 1000)
    core.flush()
    assert "IdentityConflict" not in kinds(taken(core))
    assert core.counters()["logins_repeated"] == 1


def test_the_same_peer_with_the_same_pid_later_is_a_login_of_its_own() -> None:
    core = new_core()
    log = Log()
    for ses in (7, 8):
        core.feed_sshd(accepted(4000), "pipe", 0)
        core.feed_audit(log.login(ses=ses, pid=4000) + log.message("USER_END", ses=ses, pid=4000))
    assert [who for _, who, _ in actions(taken(core))] == ["bob@corp"] * 4
    assert core.counters()["logins_repeated"] == 0


def test_a_line_with_a_time_meets_the_session_that_is_near() -> None:
    """The login line of the first session is lost; the pid comes again within the window."""
    core = new_core()
    log = Log()
    core.feed_audit(log.login(ses=7, pid=4000) + log.message("USER_END", ses=7, pid=4000))
    log.ms += 30_000
    line = accepted(4000, "second").replace(b"4000 ", b"%d 4000 1 " % (log.ms * 1000), 1)
    core.feed_sshd(line, "journal", 0)
    core.feed_audit(log.login(ses=8, pid=4000))
    core.flush()
    assert actions(taken(core)) == [
        ("8", "second", "changed-login-id-to"),
        ("7", "unknown", "changed-login-id-to"),
        ("7", "unknown", "ended-session"),
    ]


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\n",
        b"\n",
        b"   \r\n",
        b"\0\0\0\0\n",
        b"type=\n",
        b"type=SYSCALL\n",
        b"type=SYSCALL msg=audit(x): a\n",
        b"type=SYSCALL msg=audit(1.2:99999999999): a=1\n",
        b"type=SYSCALL msg=audit(1.2:3) a=1\n",
        b"node= type=x\n",
        b"type=UNKNOWN[9999] msg=audit(1.000:1): x=1\n",
        b"type=NEVER_HEARD_OF msg=audit(1.000:1): ses=7\n",
        b"\xff\xfe\x00t\x00y\x00p\x00e\x00\n",
        bytes(range(10)) + bytes(range(11, 256)) + b"\n",
        b"type=LOGIN msg=audit(1.000:1): pid=0 ses=9 res=1\n",
        b"type=LOGIN msg=audit(1.000:1): pid=x ses=y\n",
    ],
    ids=repr,
)
def test_u01_u02_u03_a_line_that_is_no_record_is_counted_and_passed(garbage: bytes) -> None:
    rejected: list[tuple[bytes, str]] = []
    core = Core(SETTINGS, lambda line, reason: rejected.append((line, reason)))
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + garbage + log.execve(b"id", ses=7) + garbage)
    core.feed_audit(log.execve(b"ls", ses=7))
    assert [what for _, _, what in actions(taken(core))][-2:] == ["executed id", "executed ls"]
    counted = core.counters()
    known = counted["blank_lines"] + counted["reject_not_a_record"] + counted["reject_bad_stamp"]
    known += counted["types_unknown"] + (b"type=LOGIN" in garbage) * 2
    assert known >= 2
    assert len(rejected) == counted["reject_not_a_record"] + counted["reject_bad_stamp"]


def test_u03_a_type_newer_than_the_tables_keeps_its_name() -> None:
    from audito.core import decode

    lines = b"".join(
        b"type=%s msg=audit(1.000:%d): pid=1 ses=4 res=1\n" % (name, number)
        for number, name in enumerate((b"UNKNOWN[2999]", b"LANDLOCK_OF_2031", b"UNKNOWN[1420]"), 1)
    )
    found = [json.loads(line) for line in b"".join(decode([lines])).splitlines()]
    assert [(event["type"], event["ses"]) for event in found] == [
        ("UNKNOWN[2999]", "4"),
        ("LANDLOCK_OF_2031", "4"),
        ("UNKNOWN[1420]", "4"),
    ]


@pytest.mark.parametrize("split", [1 << 20, 65_535, 65_536, 65_537, 70_001, 100])
def test_u08_a_line_past_the_limit_is_skipped_and_the_next_is_read(split: int) -> None:
    rejected: list[tuple[bytes, str]] = []
    core = Core(SETTINGS, lambda line, reason: rejected.append((line, reason)))
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    data = log.login(ses=7, pid=4000) + b"type=" + b"x" * 3_000_000 + b"\n" + log.execve(b"id", ses=7)
    for at in range(0, len(data), split):
        core.feed_audit(data[at : at + split])
    assert actions(taken(core))[-1] == ("7", "bob@corp", "executed id")
    assert core.counters()["reject_too_long"] == 1
    assert [(len(line), reason) for line, reason in rejected] == [(65_536, "too long")]


def test_u22_a_login_without_a_pid_is_written_and_binds_nothing() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000).replace(b"4000 ", b"x ", 1), "pipe", 0)
    core.feed_sshd(accepted(4000).replace(b"4000 ", b"0 ", 1), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    core.flush()
    found = taken(core)
    assert kinds(found)[:2] == ["UserLogin", "UserLogin"]
    assert "pid" not in found[0]["subjects"]
    assert {who for _, who, _ in actions(found)} == {"unknown"}


def test_u24_enriched_names_do_not_make_a_login_fail() -> None:
    core = new_core()
    core.feed_sshd(accepted(4000) + accepted(4001), "pipe", 0)
    core.feed_audit(Log(enriched=True).login(ses=7, pid=4000, exe=None))
    core.feed_audit(Log(start=900).login(ses=8, pid=4001, exe=None).replace(b"\x1d", b"#035"))
    core.flush()
    assert [event["outcome"] for event in taken(core) if event["type"] == "UserAction"] == ["succeeded"] * 2


def test_u31_bytes_that_are_not_utf8_stay_apart() -> None:
    core = new_core()
    log = Log()
    given = [
        b"\xff",
        b"\\xff",
        b"\\\\xff",
        b"a\xe9b\\",
        b"\\",
        b"\\.py",
        b"caf\xc3\xa9",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x92\xa9",
    ]
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(*given, ses=7))
    args = taken(core)[-1]["metadata"]["extra"]["process_args"]
    assert len(set(args)) == len(given)
    assert [original(arg) for arg in args] == given
    assert args[5] == "\\.py"  # plain text stays as it was typed
    assert args[6] == "café"


# ------------------------------------------------------------------------------------------- checkpoint


def test_u12_a_login_of_two_factors_survives_a_restart_in_between() -> None:
    first = accepted(4000).replace(b"Accepted", b"Partial")
    last = b"4000 Accepted keyboard-interactive/pam for bob from 10.0.0.5 port 5022 ssh2\n"
    core = new_core()
    core.feed_sshd(first, "pipe", 0)
    again = new_core()
    again.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    again.feed_sshd(last, "pipe", 0)
    (login,) = taken(again)
    assert login["subjects"]["userID"] == "bob@corp"
    assert login["data"]["factors"] == "publickey,keyboard-interactive/pam"


def test_a_state_of_before_logins_had_one_is_read() -> None:
    core = new_core()
    core.feed_sshd(accepted(4000), "pipe", 0)
    old = json.loads(core.dump())
    assert old.pop("logins") == {"factors": [], "told": []}
    again = new_core()
    again.load(json.dumps(old).encode(), 0, 0)
    assert again.counters()["logins_waiting_now"] == 1


@pytest.mark.parametrize("logins", [1, {"told": [0]}, {"told": [1 << 63]}, {"factors": [{}]}])
def test_a_bad_state_of_logins_is_told(logins: Any) -> None:
    state = json.loads(new_core().dump()) | {"logins": logins}
    with pytest.raises(StateError, match="cannot be read"):
        new_core().load(json.dumps(state).encode(), 0, 0)


def test_lines_about_ends_and_children_make_no_event() -> None:
    """What they are for, the join will say; none of them may disturb it."""
    core = new_core()
    core.feed_sshd(
        accepted(4000)
        + b"4000 User child is on pid 4010\n4010 Disconnected from user bob 10.0.0.5 port 5022\n"
        + b"4000 pam_unix(sshd:session): session closed for user bob\n",
        "pipe",
        0,
    )
    log = Log()
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    assert kinds(taken(core)) == ["UserLogin", "UserAction", "UserAction"]
    counters = core.counters()
    assert (counters["sshd_ends"], counters["sshd_children"]) == (2, 1)


def test_sessions_survive_a_dump() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000) + accepted(4001, "later"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    taken(core)
    again = new_core()
    again.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    assert again.audit_resolved == core.audit_resolved
    again.feed_audit(log.execve(b"ls", ses=7) + log.login(ses=8, pid=4001) + log.message("USER_END", ses=7, pid=4000))
    again.flush()
    found = taken(again)
    assert actions(found)[:2] == [("7", "bob@corp", "executed ls"), ("8", "later", "changed-login-id-to")]
    assert found[-1]["metadata"]["extra"] == {
        "duration_ms": 40, "actions": 4, "commands": 2, "failures": 0, "correlation": "pid",
    }  # fmt: skip


def test_f06_what_is_over_is_not_written_again_where_the_oldest_input_is_gone() -> None:
    """A session waits, its records go with their file; what was read behind them is read again."""
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4001) + accepted(4002, "open"), "pipe", 0)
    gone = log.login(ses=7, pid=4000)
    kept = log.login(ses=8, pid=4001) + log.execve(b"id", ses=8)
    opening = log.login(ses=9, pid=4002).splitlines(keepends=True)
    core.feed_audit(gone + kept + opening[0])
    assert kinds(taken(core)) == ["UserLogin", "UserLogin", "UserAction", "UserAction"]
    rest = b"".join(opening[1:])
    later = log.execve(b"ls", ses=8)
    for skipped, repeated in ((len(gone), kept + opening[0]), (len(gone + kept + opening[0]), b"")):
        again = new_core()
        again.load(core.dump(), core.audit_resolved, core.sshd_resolved)
        again.input_gap("audit", "audit-directory", "file_gone", BASE_MS)
        again.skip("audit", skipped)
        again.feed_audit(repeated + rest + later)
        again.flush()
        found = taken(again)
        assert kinds(found)[0] == "AuditGap"
        opened = "changed-login-id-to" if repeated else "wrote-to-file"  # of which the first record is gone
        assert sorted(actions(found)) == [("8", "bob@corp", "executed ls"), ("9", "open", opened)]
    # Killed once more in the midst of it, and the place of the second checkpoint is there.
    once = new_core()
    once.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    once.skip("audit", len(gone))
    once.feed_audit(kept[:100])
    twice = new_core()
    twice.load(once.dump(), once.audit_resolved, once.sshd_resolved)
    twice.feed_audit((kept + opening[0] + rest + later)[once.audit_resolved - len(gone) :])
    twice.flush()
    assert sorted(actions(taken(twice))) == [("8", "bob@corp", "executed ls"), ("9", "open", "changed-login-id-to")]


def test_what_is_over_is_not_written_again_after_two_restarts() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4001), "pipe", 0)
    audit = log.login(ses=7, pid=4000)  # held: no login line of its own
    audit += log.login(ses=8, pid=4001) + log.execve(b"id", ses=8)
    core.feed_audit(audit)
    assert len(taken(core)) == 3
    once = new_core()  # killed before it read anything again
    once.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    assert once.audit_resolved == 0
    twice = new_core()
    twice.load(once.dump(), once.audit_resolved, once.sshd_resolved)
    twice.feed_audit(audit)
    assert taken(twice) == []
    twice.flush()
    assert kinds(taken(twice)) == ["UserLogin", "UserAction"]  # of session 7, that nobody claimed


def test_the_start_of_a_line_is_no_line_before_its_input_ends() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=4, pid=4000))
    assert len(taken(core)) == 2
    core.feed_sshd(b"4001 Accepted password for bob from 10.0.0.5 port 50", "pipe", 0)
    line = b"type=USER_ACCT msg=audit(1700000001.000:777): pid=5 uid=0 auid=4294967295 ses=4294967295 msg='op=PAM res=success'"
    core.feed_audit(line[: line.index(b"94967295 msg")])
    core.flush(audit_ended=False, sshd_ended=False)
    assert taken(core) == []


def test_the_resolved_offset_is_that_of_the_oldest_open_input() -> None:
    core = new_core()
    log = Log()
    core.load(b"", 1000, 500)
    assert core.audit_resolved == 1000
    whole = log.execve(b"x", ses=4_294_967_295)
    core.feed_audit(whole)
    assert core.audit_resolved == 1000 + len(whole)
    core.feed_audit(log.login(ses=7, pid=4000))
    assert core.audit_resolved == 1000 + len(whole)  # held: no login line yet
    core.feed_sshd(accepted(4000)[:-10], "pipe", 0)
    assert core.sshd_resolved == 500
    core.feed_sshd(accepted(4000)[-10:], "pipe", 0)
    assert core.sshd_resolved == 500 + len(accepted(4000))
    before = core.audit_resolved
    assert before == 1000 + len(whole) + len(Log().login(ses=7, pid=4000))
    command = log.execve(b"id", ses=7)
    core.feed_audit(command[:-3])
    assert core.audit_resolved == before  # in flight
    core.feed_audit(command[-3:])
    assert core.audit_resolved == before + len(command)


@pytest.mark.parametrize(
    "state", [b"x", b"{}", b"[]", b'{"sessions":[[1]],"identities":{},"pending":[],"sshd_clock_ms":0}']
)
def test_a_state_that_cannot_be_read_is_a_clear_error(state: bytes) -> None:
    with pytest.raises(StateError, match="saved sessions"):
        new_core().load(state, 0, 0)


@pytest.mark.parametrize("text", [b'"b\xffb"', b'\n"bob"', b'\r"bob"', b"7", b'"bob","x":"\xff"'])
def test_a_state_is_refused_whose_identities_would_be_none_in_the_output(text: bytes) -> None:
    core = new_core()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(Log().login(ses=7, pid=4000))
    core.take()
    state = core.dump()
    assert state.count(b'"loggedAs":"bob"') == 1
    with pytest.raises(StateError, match="saved sessions"):
        new_core().load(state.replace(b'"loggedAs":"bob"', b'"loggedAs":' + text), 0, 0)


@pytest.mark.parametrize(
    ("zone", "logged_at"),
    [("Europe/Berlin", "2023-11-10T11:30:00Z"), ("UTC", "2023-11-10T12:30:00Z"), ("", "2023-11-10T17:30:00Z")],
)
def test_the_zone_of_times_without_one_is_a_setting(zone: str, logged_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")  # another host's: what is named does not depend on it
    time.tzset()
    try:
        core = new_core(syslog_time_zone=zone)
        core.feed_sshd(b"Nov 10 12:30:00 h sshd[9]: " + accepted(9).partition(b" ")[2], "syslog", BASE_MS * 1000)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [event["loggedAt"] for event in taken(core)] == [logged_at]


def test_a_zone_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match='"Mars/Base" is no time zone of this host'):
        new_core(syslog_time_zone="Mars/Base")


def test_the_same_input_gives_the_same_bytes() -> None:
    def run(split: int) -> bytes:
        core = new_core()
        log = Log()
        audit = b"".join(log.login(ses=s, pid=4000 + s) + log.execve(b"id", ses=s) for s in range(1, 40))
        for s in range(1, 40, 2):
            core.feed_sshd(accepted(4000 + s, f"u{s}"), "pipe", 0)
        out = b""
        for at in range(0, len(audit), split):
            core.feed_audit(audit[at : at + split])
            out += core.take()
        core.flush()
        return out + core.take()

    assert run(1 << 20) == run(1 << 20)
    assert sorted(run(1 << 20).splitlines()) == sorted(run(97).splitlines())


def test_every_event_type_has_a_name_in_the_documentation_order() -> None:
    assert events.EVENT_TYPES == ("UserLogin", "UserAction", "UserLogout", "IdentityConflict", "AuditGap")
