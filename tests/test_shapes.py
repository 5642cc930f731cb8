"""What the daemon's core writes about every shape of record: ``corpus/NAME.log`` gives ``corpus/NAME.events.jsonl``.

The audit sessions that a log names are logins here: each is opened before it by a LOGIN record that sshd's line claims,
unless the log opens it itself. The golden file has what :class:`audito.core.Core` reads out of the records, in the order
of its events. ``AUDITO_GOLDEN_WRITE=1`` writes them anew: read the difference before you commit it.

Each shape is read in all the forms in which a host may have it (``forms.py``): what happened does not depend on them,
and only who acted is told by a name where auditd gave it. What ``audito decode`` says of the shapes: test_corpus.py.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from audito.core import Core, CoreSettings
from tests import forms
from tests.test_corpus import SHAPES

EXAMPLES = Path(__file__).parent.parent / "examples"
OPENINGS_FROM = 3_000_000_000
"""Sequences of the LOGIN records that stand before a log; none of the shapes has such."""

LOGIN_PIDS = {"13_session_end": {325: 72605}}
"""The login's own pid, where the shape is about what that one does."""

OF_THE_RECORDS = (
    "action", "how", "object", "process_args", "args_incomplete", "sequence", "pid", "ppid", "cwd", "exe", "key", "exit",
    "user",
)  # fmt: skip
"""What of ``metadata.extra`` is the records' alone; the rest is about the login."""

Event = dict[str, Any]


def openings(log: bytes, pids: dict[int, int]) -> tuple[bytes, bytes]:
    """LOGIN records of the sessions that a log does not open itself, and sshd's lines that claim all of its sessions."""
    stamp = re.search(rb"audit\(([0-9]+)\.", log)
    second = stamp[1] if stamp else b"1"
    logins = re.findall(rb"type=LOGIN [^\n]*?pid=([0-9]+)[^\n]*?[^-](?:new )?ses=([0-9]+)", log)
    opened = {int(ses) for _, ses in logins}
    records, lines = [], [b"%s Accepted password for bob from 192.0.2.7 port 40000 ssh2\n" % pid for pid, _ in logins]
    named = {
        (node, int(ses))
        for node, text in re.findall(rb"^(node=\S+ )?type=\S+ ([^\n]*)", log, re.MULTILINE)
        for ses in re.findall(rb" ses=([0-9]{1,9})\b", text)
    }
    for number, (node, ses) in enumerate(sorted(named)):
        if ses in opened:
            continue
        pid = pids.get(ses, 4000 + ses)
        records.append(
            node
            + b"type=LOGIN msg=audit(%s.000:%d): pid=%d uid=0 " % (second, OPENINGS_FROM + number, pid)
            + b"old-auid=4294967295 auid=1000 tty=(none) old-ses=4294967295 ses=%d res=1\n" % ses
        )
        lines.append(b"%d Accepted password for bob from 192.0.2.7 port 40000 ssh2\n" % pid)
    return b"".join(records), b"".join(lines)


def told(log: bytes, pids: dict[int, int]) -> list[Event]:
    """What the core writes about the actions of a log, without what it says of their logins."""
    core = Core(CoreSettings(host="bastion", machine_id="m", boot_id="b"))
    records, lines = openings(log, pids)
    core.feed_sshd(lines, "pipe", 0)
    core.feed_audit(records + log)
    core.flush()
    events = [json.loads(line) for line in core.take().splitlines()]
    return [
        {"session": event["metadata"]["auditId"], "outcome": event["outcome"], "loggedAt": event["loggedAt"], **extra}
        for event in events
        if event["type"] == "UserAction"
        for extra in [{key: value for key, value in event["metadata"]["extra"].items() if key in OF_THE_RECORDS}]
        if not OPENINGS_FROM <= extra["sequence"] < OPENINGS_FROM + 1000
    ]


def golden(log: Path) -> list[Event]:
    """What the file beside the log says that the core writes."""
    path = log.with_suffix(".events.jsonl")
    if os.environ.get("AUDITO_GOLDEN_WRITE") == "1":
        events = told(log.read_bytes(), LOGIN_PIDS.get(log.stem, {}))
        path.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events))
    return [json.loads(line) for line in path.read_text().splitlines()]


def acting_user(event: Event) -> dict[str, str]:
    """Who acted, {} where that is the login's own user."""
    user: dict[str, str] = event.get("user", {})
    return user


def numbered(events: list[Event]) -> list[Event]:
    """The events with the number of each user for its name."""
    numbers = {name: number for number, name in forms.USERS.items()}
    for event in events:
        user = acting_user(event)
        for key, name in user.items():
            user[key] = numbers.get(name, re.sub(r"unknown\(([0-9]+)\)", r"\1", name))
    return events


@pytest.mark.parametrize("log", SHAPES, ids=lambda log: log.stem)
def test_the_core_tells_what_the_shape_means(log: Path) -> None:
    assert told(log.read_bytes(), LOGIN_PIDS.get(log.stem, {})) == golden(log)


@pytest.mark.parametrize("form", forms.FORMS)
@pytest.mark.parametrize(
    "log", [log for log in SHAPES if log.stem not in ("22_enriched", "31_garbage_lines")], ids=lambda log: log.stem
)
def test_every_form_of_a_shape_tells_the_same(log: Path, form: str) -> None:
    events = told(forms.FORMS[form](log.read_bytes()), LOGIN_PIDS.get(log.stem, {}))
    if form != "raw":
        assert [user for event in events for user in acting_user(event).values() if user.isdecimal()] == []
    assert numbered(events) == numbered(golden(log))


def test_every_shape_says_something_or_there_is_a_reason() -> None:
    """Shapes without an event in any session: RHEL 5 has none, and what is no auditd line is rejected."""
    silent = {log.stem for log in SHAPES if not golden(log)}
    assert silent == {"27_rhel5_user"}


def test_what_auditd_adds_is_made_here_as_auditd_made_it() -> None:
    """The forms are worth what they are like: stripped of its names and enriched again, a real log is the same."""
    log = (EXAMPLES / "audit.log").read_bytes()
    users = {**forms.USERS, "1000": "debian", "1001": "core", "1002": "bob", "1003": "carol", "42": "shadow"}
    assert forms.enriched(log, users) == log
    assert log.count(b"\x1d") > 300
