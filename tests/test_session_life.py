"""A session's life as an auditor reads it: who became whom, what was left running."""

from __future__ import annotations

import json
from typing import Any

from audito.core import Core, CoreSettings
from tests.records import Log, accepted


def bound(log: Log) -> Core:
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.take()
    return core


def extras(core: Core) -> list[dict[str, Any]]:
    return [json.loads(line)["metadata"]["extra"] for line in core.take().splitlines()]


def test_sudo_is_noted_with_its_command() -> None:
    log = Log()
    core = bound(log)
    text = (
        b'pid=4100 uid=1000 auid=1000 ses=7 subj=unconfined msg=\'cwd="/home/bob" cmd=6964202D75 '
        b'exe="/usr/bin/sudo" terminal=pts/0 res=success\''
    )
    core.feed_audit(log.event(("USER_CMD", text)))
    core.feed_audit(log.execve(b"sudo", b"id", b"-u", ses=7, pid=4100, exe="/usr/bin/sudo"))
    core.feed_audit(log.execve(b"id", b"-u", ses=7, pid=4101, exe="/usr/bin/id", uid=0))
    said, typed, ran = extras(core)
    assert said["privilege"] == {"by": "sudo", "command": "id -u"}
    assert typed["privilege"] == {"by": "sudo"}
    assert typed["process_args"] == ["sudo", "id", "-u"]
    assert "privilege" not in ran
    assert ran["user"] == {"uid": "root", "euid": "root"}


def test_su_is_noted_with_whom_it_became() -> None:
    log = Log()
    core = bound(log)
    core.feed_audit(log.message("USER_START", ses=7, pid=4100, exe="/usr/bin/su", acct="root"))
    core.feed_audit(log.message("USER_START", ses=7, pid=4000, acct="bob"))
    core.feed_audit(log.execve(b"sush", ses=7, exe="/usr/local/bin/sush"))
    su, own, other = extras(core)
    assert su["privilege"] == {"by": "su", "user": "root"}
    assert "privilege" not in own
    assert "privilege" not in other


def test_u11_what_outlives_the_login_is_marked_and_what_was_before_is_not() -> None:
    log = Log()
    core = bound(log)
    early = log.execve(b"early", ses=7)  # in flight when the end comes: its stamp is older
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    core.feed_audit(early)
    core.feed_audit(log.message("CRED_DISP", ses=7, pid=4000))
    core.feed_audit(log.execve(b"nohup", ses=7))
    core.feed_audit(log.message("USER_CMD", ses=7, pid=4100, exe="/usr/bin/sudo"))
    marks = [extra.get("afterLogout") for extra in extras(core)]
    assert marks == [None, None, None, True, True]


def test_a_session_counts_its_commands_over_a_restart() -> None:
    log = Log()
    core = bound(log)
    core.feed_audit(log.execve(b"one", ses=7) + log.execve(b"two", ses=7, ok=False))
    core.take()
    again = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    again.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    again.feed_audit(log.message("USER_END", ses=7, pid=4000))
    assert [extra["correlation"] for extra in extras(again)] == ["pid"]
    third = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))  # the logout waits for its reason
    third.load(again.dump(), again.audit_resolved, again.sshd_resolved)
    third.feed_audit(log.execve(b"left", ses=7))
    third.flush()
    left, logout = extras(third)
    assert left["afterLogout"] is True
    assert (logout["actions"], logout["commands"], logout["failures"]) == (4, 2, 1)
