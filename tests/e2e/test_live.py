"""audito live on a real host: kernel, auditd, journald, rsyslog, sshd with a user CA, sudo, cron.

The scenario is played once through the audit directory and the journal, with a rotation of the
audit log in the middle, and once through the two named pipes. Run by `make integration-test`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.schema import faults, validator

from . import daemon, evidence, scenario
from .evidence import Evidence
from .host import CHANGES, REFUSED_PROGRAM, Host, audit_status, why_not
from .scenario import Command, Login, Truth

Event = dict[str, Any]

REASON = (
    "changes this machine (accounts, audit rules, daemons): set AUDITO_E2E=1 to allow it"
    if os.environ.get("AUDITO_E2E") != "1"
    else why_not()
)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    # One scenario waits for a password delay of PAM twice, and for cron's next minute.
    pytest.mark.timeout(300),
]
WAYS = {"directory-and-journal": daemon.on_directory_and_journal, "named-pipes": daemon.on_named_pipes}


@dataclass
class Outcome:
    """What happened, what audito wrote about it, and how it ended."""

    truth: Truth
    events: list[Event]
    exit_code: int
    log: str
    evidence: Evidence
    lost: int
    began: datetime

    def of_type(self, name: str) -> list[Event]:
        """Return the events of one type, in the order they were written."""
        return [event for event in self.events if event["type"] == name]

    def of_login(self, name: str, login: Login) -> list[Event]:
        """Return the events of one type whose source is that login's connection."""
        return [event for event in self.of_type(name) if source_of(event) == where_from(login)]

    def of_command(self, login: Login, command: Command) -> list[Event]:
        """Return the actions that are this command, in whatever login they stand: it must be that one, once.

        An execve that failed is known by the serial under which auditd logged it.
        """
        serials = evidence.serials(self.evidence, login, command)
        return [
            action
            for action in self.of_type("UserAction")
            if (
                is_command(action, command) if command.succeeded else action["metadata"]["extra"]["sequence"] in serials
            )
        ]


def where_from(login: Login) -> tuple[str, str]:
    """Return address and port of a login as events carry them."""
    return login.source_address, str(login.source_port)


def source_of(event: Event) -> tuple[str, str]:
    """Return address and port of an event's source; "" where it has none."""
    source = event.get("source", {})
    return source.get("value", ""), source.get("extra", {}).get("port", "")


def is_command(event: Event, command: Command) -> bool:
    """Tell by its arguments whether an action is this command; the kernel gives none where it failed."""
    extra = event["metadata"]["extra"]
    return bool(extra["action"] == "executed") and tuple(map(unescape, extra.get("process_args", ()))) == command.argv


def unescape(text: str) -> str:
    """Undo the escape of text that JSON cannot carry as it is; our arguments hold no other backslash."""
    return text.replace("\\\\", "\\")


def is_complete(truth: Truth, events: list[Event]) -> bool:
    """Tell whether each login and each command of the truth has an event."""
    actions = [event for event in events if event["type"] == "UserAction"]
    logins = {source_of(event) for event in events if event["type"] == "UserLogin"}
    commands = [command for login in truth.logins for command in login.commands if command.succeeded]
    return all(where_from(login) in logins for login in truth.logins) and all(
        any(is_command(action, command) for action in actions) for command in commands
    )


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host with all its real parts, for all tests of this file; says first what it changes."""
    terminal = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with terminal.global_and_fixture_disabled():
            print(text)

    say(f"\n{CHANGES}")
    with Host(say=say) as host:
        yield host


@pytest.fixture(scope="module", params=WAYS)
def outcome(host: Host, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Play the scenario while audito watches in one of two ways."""
    directory: Path = tmp_path_factory.mktemp(request.param)
    lost = audit_status()["lost"]
    began = datetime.now(UTC).replace(microsecond=0)
    with WAYS[request.param](host, directory) as running:
        truth = scenario.play(host, rotate=request.param == "directory-and-journal")
        running.wait_for(lambda events: is_complete(truth, events))
        exit_code = running.stop()
    logs = sorted(host.audit_directory.glob("audit.log*"))
    return Outcome(
        truth,
        running.events(),
        exit_code,
        running.log.read_text(),
        evidence.read(logs, host.syslog_path),
        audit_status()["lost"] - lost,
        began,
    )


def test_the_host_itself_recorded_what_happened(outcome: Outcome) -> None:
    """When this fails, the harness or the kernel is to blame, and the other tests prove nothing."""
    assert not evidence.missing(outcome.truth, outcome.evidence)
    assert outcome.lost == 0


def test_each_login_that_went_well_is_one_event(outcome: Outcome) -> None:
    for login in outcome.truth.logins:
        if not login.succeeded:
            continue
        (event,) = outcome.of_login("UserLogin", login)
        assert event["outcome"] == "succeeded"
        assert event["component"] == "sshd"
        assert event["source"]["type"] == "IP"
        assert event["subjects"]["loggedAs"] == login.account
        assert event["subjects"]["userID"] == login.user_id
        assert event["subjects"]["pid"].isdigit()
        assert event["target"] == {"host": daemon.NODE_NAME, "machine-id": machine_id()}
        assert list(event)[:4] == ["metadata", "type", "loggedAt", "source"]


def machine_id() -> str:
    """Return the machine id that events of this host carry."""
    return Path("/etc/machine-id").read_text().strip()


def test_a_certificate_login_names_the_certificate(outcome: Outcome) -> None:
    for login in outcome.truth.logins:
        if login.how != "certificate":
            continue
        (event,) = outcome.of_login("UserLogin", login)
        data = event["data"]
        assert data["Alg"] == "ED25519-CERT SHA256"
        assert data["Serial"] == str(login.serial)
        assert data["CA"].startswith("CA ED25519 SHA256:")
        assert data["SSHKeySum"]


def test_a_plain_key_login_names_the_key(outcome: Outcome) -> None:
    (login,) = (login for login in outcome.truth.logins if login.how == "key")
    (event,) = outcome.of_login("UserLogin", login)
    assert event["data"]["Alg"] == "ED25519 SHA256"
    assert event["data"]["SSHKeySum"]
    assert "Serial" not in event["data"]


def test_a_login_that_failed_is_reported_as_failed(outcome: Outcome) -> None:
    for login in outcome.truth.logins:
        if login.succeeded:
            continue
        events = outcome.of_login("UserLogin", login)
        assert events, f"nothing about {login.account}"
        assert {event["outcome"] for event in events} == {"failed"}
        assert {event["subjects"]["loggedAs"] for event in events} == {login.account}
        assert not outcome.of_login("UserAction", login)


def test_each_command_is_reported_once_and_for_its_own_login(outcome: Outcome) -> None:
    wrong = []
    for login in outcome.truth.logins:
        for command in login.commands:
            found = outcome.of_command(login, command)
            if [source_of(event) for event in found] != [where_from(login)]:
                wrong.append((command, login.user_id, where_from(login), [source_of(event) for event in found]))
    assert not wrong


def test_actions_carry_the_identity_of_their_login(outcome: Outcome) -> None:
    for login in outcome.truth.logins:
        if not login.succeeded:
            continue
        (begin,) = outcome.of_login("UserLogin", login)
        actions = outcome.of_login("UserAction", login)
        assert actions
        for action in actions:
            assert action["subjects"] == begin["subjects"]
            assert action["source"] == begin["source"]
            assert action["target"] == begin["target"]
            assert action["component"] == "auditd"


def test_every_execve_of_a_session_is_reported(outcome: Outcome) -> None:
    """Not only what the scenario ran: what PAM ran before the shell, and each failed step of a search along PATH."""
    for login in outcome.truth.logins:
        if not login.succeeded:
            continue
        (session,) = outcome.evidence.sessions[login.source_port]
        actions = outcome.of_login("UserAction", login)
        assert {action["metadata"]["auditId"] for action in actions} == {session}
        executed = [a["metadata"]["extra"] for a in actions if a["metadata"]["extra"]["action"] == "executed"]
        recorded = [e.serial for e in outcome.evidence.executions if e.session == session]
        assert sorted(extra["sequence"] for extra in executed) == sorted(recorded)


def test_what_sudo_ran_stays_with_the_login(outcome: Outcome) -> None:
    (login,) = (login for login in outcome.truth.logins if login.user_id == "alice@example.com")
    as_root = [command for command in login.commands if command.as_root]
    assert as_root
    for command in as_root:
        (action,) = outcome.of_command(login, command)
        assert action["outcome"] == "succeeded"
        assert action["subjects"]["loggedAs"] == login.account


def test_a_job_that_outlives_its_login_stays_attributed(outcome: Outcome) -> None:
    (login,) = (login for login in outcome.truth.logins if login.user_id == "dave@example.com")
    (action,) = outcome.of_command(login, login.commands[-1])
    (logout,) = outcome.of_login("UserLogout", login)
    assert datetime.fromisoformat(action["loggedAt"]) > datetime.fromisoformat(logout["loggedAt"])


def test_three_channels_of_one_connection_are_one_login(outcome: Outcome) -> None:
    (login,) = (login for login in outcome.truth.logins if login.user_id == "erin@example.com")
    found = {command.argv: outcome.of_command(login, command)[0]["metadata"] for command in login.commands}
    assert len({metadata["auditId"] for metadata in found.values()}) == 1
    channels = [found[("basename", f"/channel/{which}")]["extra"] for which in ("one", "two", "three")]
    for extra in channels:
        assert extra["ancestors"][-1] == "/usr/sbin/sshd"
        assert extra["parent"]["exe"] == extra["ancestors"][0]
    assert "/usr/bin/su" in channels[1]["ancestors"]
    assert not {"/usr/bin/su", "/usr/bin/sudo"} & set(channels[0]["ancestors"] + channels[2]["ancestors"])


def test_who_became_another_user_is_told_with_the_command(outcome: Outcome) -> None:
    (login,) = (login for login in outcome.truth.logins if login.user_id == "erin@example.com")
    notes = [action["metadata"]["extra"].get("privilege") for action in outcome.of_login("UserAction", login)]
    by_sudo = [note for note in notes if note and note["by"] == "sudo"]
    by_su = [note for note in notes if note and note["by"] == "su"]
    commands = {note["command"] for note in by_sudo if "command" in note}
    assert commands == {"/usr/bin/tail -n 1 /etc/shadow", "su --shell /bin/sh carol -c basename /channel/two"}
    assert "root" in {note.get("user") for note in by_sudo}
    assert "carol" in {note.get("user") for note in by_su}
    for which, user in (("one", None), ("two", {"uid": "carol", "euid": "carol"}), ("three", None)):
        (action,) = outcome.of_command(login, Command("/usr/bin/basename", ("basename", f"/channel/{which}")))
        assert action["metadata"]["extra"].get("user") == user


def test_a_session_is_told_from_start_to_end(outcome: Outcome) -> None:
    for login in outcome.truth.logins:
        if not login.succeeded:
            continue
        (logout,) = outcome.of_login("UserLogout", login)
        told = outcome.of_login("UserAction", login)
        actions = [action["metadata"]["extra"] for action in told]
        pid = int(logout["subjects"]["pid"])
        (end,) = (n for n, extra in enumerate(actions) if (extra["action"], extra["pid"]) == ("ended-session", pid))
        counted = logout["metadata"]["extra"]
        assert counted["actions"] == end + 1
        assert counted["commands"] == sum("process_args" in extra for extra in actions[: end + 1])
        assert counted["reason"] == "disconnected by user"
        for action, extra in zip(told[end:], actions[end:], strict=True):  # sshd's last messages, and what was earlier
            assert extra.get("afterLogout") or extra["pid"] == pid or action["loggedAt"] <= logout["loggedAt"]
        assert not [extra for extra in actions[:end] if "afterLogout" in extra]
        written = [event["type"] for event in outcome.events if source_of(event) == where_from(login)]
        assert (written[0], written.index("UserLogout") > end) == ("UserLogin", True)


def test_each_session_ends_with_one_logout(outcome: Outcome) -> None:
    for login in outcome.truth.logins:
        assert len(outcome.of_login("UserLogout", login)) == int(login.succeeded)


def test_an_execve_that_failed_says_so(outcome: Outcome) -> None:
    for login in outcome.truth.logins:
        for command in login.commands:
            (action,) = outcome.of_command(login, command)
            assert action["outcome"] == ("succeeded" if command.succeeded else "failed")
            if command.exe == str(REFUSED_PROGRAM):
                extra = action["metadata"]["extra"]
                assert (extra["action"], extra["how"]) == ("executed", "bash")
                assert extra["object"] == {"type": "file", "primary": command.exe}


def test_nothing_of_cron_and_of_services_is_reported(outcome: Outcome) -> None:
    actions = outcome.of_type("UserAction")
    for command in outcome.truth.elsewhere:
        assert not [action for action in actions if is_command(action, command)]
    ours = {where_from(login) for login in outcome.truth.logins}
    assert {source_of(event) for event in actions} <= ours


def test_nothing_was_lost_doubled_or_in_conflict(outcome: Outcome) -> None:
    gaps = [gap for gap in outcome.of_type("AuditGap") if datetime.fromisoformat(gap["loggedAt"]) >= outcome.began]
    # The harness may have started auditd within the second.
    assert {gap["metadata"]["extra"]["reason"] for gap in gaps} <= {"auditd_started"}
    assert not outcome.of_type("IdentityConflict")
    keys = Counter(
        (action["metadata"]["auditId"], action["metadata"]["extra"]["sequence"], action["metadata"]["extra"]["action"])
        for action in outcome.of_type("UserAction")
    )
    assert [key for key, count in keys.items() if count > 1] == []


def test_each_event_is_one_that_the_schema_describes(outcome: Outcome) -> None:
    checker = validator(Path(__file__).parents[2] / "docs" / "events.schema.json")
    assert len(outcome.events) > 50
    assert [fault for event in outcome.events for fault in faults(checker, event)] == []


def test_audito_ends_in_order(outcome: Outcome) -> None:
    assert outcome.exit_code == 0, outcome.log
    assert "Traceback" not in outcome.log
