"""What is missing on a real kernel: auditing switched off and on, all rules deleted, records over the rate limit.

One story, played while audito watches: in an ssh session somebody switches auditing off and on; later all rules are
deleted; then the kernel may make five records a second and has to drop some. All of it is put back, whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.gap_model import runs

from . import daemon
from .host import CERTIFICATES, CHANGES, RULES, Host, audit_status, why_not
from .scenario import Login, Person, Truth
from .undo import run

Event = dict[str, Any]

REASON = (
    "changes this machine (accounts, audit rules, daemons): set AUDITO_E2E=1 to allow it"
    if os.environ.get("AUDITO_E2E") != "1"
    else why_not()
)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(120),
]

PROGRAMS_OVER_THE_LIMIT = 8
DAEMON_RECORD = re.compile(r"^(?:node=\S+ )?type=(?:DAEMON_|UNKNOWN\[12)")
STAMP = re.compile(r"audit\((\d+\.\d+):(\d+)\)")


@dataclass
class Story:
    """What happened, and what audito wrote about it from its beginning on."""

    login: Login
    lost: int
    rules_deleted: int
    began: datetime
    records: list[str]
    events: list[Event]
    exit_code: int

    def gaps(self, reason: str) -> list[Event]:
        """The AuditGap events of one reason."""
        return [e for e in self.events if e["type"] == "AuditGap" and e["metadata"]["extra"]["reason"] == reason]


@contextlib.contextmanager
def put_back(rules: list[str]) -> Iterator[None]:
    """Whatever happens inside: auditing is on after it, without a limit, and these rules are there."""
    try:
        yield
    finally:
        run("auditctl", "-e", "1")
        run("auditctl", "-r", "0")
        present = run("auditctl", "-l").splitlines()
        for rule in rules:
            if rule not in present:
                run("auditctl", *rule.split())


def listed_rules() -> list[str]:
    """The rules that the kernel has, each as auditctl takes it again."""
    return [rule for rule in run("auditctl", "-l").splitlines() if rule.startswith("-")]


def play(host: Host, truth: Truth) -> tuple[Login, int, int]:
    """The story; returns the login, how much the kernel says it lost, and how many rules were deleted."""
    rules = listed_rules()
    with put_back(rules):
        login = Person(host, truth, "127.0.0.20").log_in(
            "certificate",
            "core",
            "alice@example.com",
            "sudo auditctl -e 0; sleep 0.5; sudo auditctl -e 1; sleep 0.3; id",
            serial=CERTIFICATES["alice@example.com"],
        )
        run("auditctl", "-D")
    with put_back(rules):
        run("auditctl", "--reset-lost")
        run("auditctl", "-r", "5")
        for _ in range(PROGRAMS_OVER_THE_LIMIT):
            subprocess.run(["/usr/bin/uptime"], check=True, stdout=subprocess.DEVNULL)
        run("auditctl", "-r", "0")
        lost = audit_status()["lost"]
        run("auditctl", "--reset-lost")
        subprocess.run(["/usr/bin/uptime"], check=True, stdout=subprocess.DEVNULL)
    return login, lost, len(rules)


@pytest.fixture(scope="module")
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Play it once; says first what it changes."""
    terminal = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with terminal.global_and_fixture_disabled():
            print(text)

    say(f"\n{CHANGES}  also          auditing off for half a second, all rules away, a rate limit\n")
    with Host(say=say) as host:
        began = datetime.now(UTC).replace(microsecond=0)
        with daemon.on_directory_and_journal(host, tmp_path_factory.mktemp("gaps")) as running:
            login, lost, deleted = play(host, Truth())
            running.wait_for(lambda events: reasons(events, began) >= {"rules_deleted", "kernel_lost", "sequence"})
            exit_code = running.stop()
        logs = sorted(host.audit_directory.glob("audit.log*"), reverse=True)
        records = [line for log in logs for line in log.read_text(errors="replace").split("\n")]
        events = [event for event in running.events() if datetime.fromisoformat(event["loggedAt"]) >= began]
        yield Story(login, lost, deleted, began, records, events, exit_code)


def reasons(events: list[Event], began: datetime) -> set[str]:
    """The reasons of gaps that were told since then."""
    gaps = [event for event in events if event["type"] == "AuditGap"]
    return {e["metadata"]["extra"]["reason"] for e in gaps if datetime.fromisoformat(e["loggedAt"]) >= began}


def test_switching_auditing_off_is_told_with_the_session_that_did_it(story: Story) -> None:
    (off,) = story.gaps("auditing_disabled")
    extra = off["metadata"]["extra"]
    assert "audit_enabled=0 old=1" in extra["detail"]
    (logged_in,) = (e for e in story.events if e["type"] == "UserLogin" and e["outcome"] == "succeeded")
    (action,) = (
        event
        for event in story.events
        if event["type"] == "UserAction" and event["metadata"]["extra"]["sequence"] == extra["sequence"]
    )
    assert action["metadata"]["auditId"] == extra["session"]
    assert action["subjects"] == logged_in["subjects"]


def test_that_it_is_on_again_is_told_once(story: Story) -> None:
    (off,) = story.gaps("auditing_disabled")
    (on,) = story.gaps("auditing_enabled")
    between = datetime.fromisoformat(on["loggedAt"]) - datetime.fromisoformat(off["loggedAt"])
    assert 0.4 < between.total_seconds() < 5


def test_each_rule_that_was_deleted_is_told(story: Story) -> None:
    assert story.rules_deleted >= len(RULES)
    assert len(story.gaps("rules_deleted")) == story.rules_deleted


def test_the_rate_limit_and_what_it_cost_are_told(story: Story) -> None:
    assert ["=5 old=0" in gap["metadata"]["extra"]["detail"] for gap in story.gaps("rate_limit_changed")][:1] == [True]
    assert story.lost > 0
    assert story.lost in [gap["metadata"]["extra"]["count"] for gap in story.gaps("kernel_lost")]


def test_the_holes_are_those_of_the_log(story: Story) -> None:
    """The truth is auditd's own log: the serials of the kernel that are not in it."""
    stamps = [
        STAMP.search(record)
        for record in story.records
        if record and not DAEMON_RECORD.match(record)
    ]  # fmt: skip
    serials = {int(stamp[2]) for stamp in stamps if stamp and float(stamp[1]) >= story.began.timestamp()}
    holes = runs(sorted(set(range(min(serials), max(serials))) - serials))
    assert holes, "the rate limit made some"
    told = [gap["metadata"]["extra"] for gap in story.gaps("sequence")]
    assert [(gap["from"], gap["to"], gap["count"]) for gap in told] == [
        (first, last, last - first + 1) for first, last in holes
    ]


def test_nothing_else_is_told_and_audito_ends_in_order(story: Story) -> None:
    """Other programs of the machine may change auditing, too; they do not make us lose anything."""
    ours = {"record_too_long", "session_evicted", "killed", "file_gone", "file_truncated", "place_lost"}
    assert not reasons(story.events, story.began) & ours
    assert story.exit_code == 0
