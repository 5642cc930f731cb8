"""benchmarks/workload.py and the check of benchmarks/pipes.py: a bench that cannot fail proves nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audito import core
from benchmarks import pipes, workload
from tests import reference

SMALL = {"sessions": 5, "commands": 6, "concurrent": 3, "background": 1.0, "seed": 3, "delay_ms": 5}


def made(**changes: Any) -> tuple[workload.Truth, bytes, bytes, bytes]:
    """A small workload: truth, audit log, sshd lines for the pipe and as syslog."""
    audit, pipe, syslog = io.BytesIO(), io.BytesIO(), io.BytesIO()
    settings = workload.Settings(**{**SMALL, **changes})
    truth = workload.Workload(settings).run(audit, pipe, syslog)
    return truth, audit.getvalue(), pipe.getvalue(), syslog.getvalue()


def test_the_same_seed_makes_the_same_bytes() -> None:
    assert made() == made()
    assert made()[1] != made(seed=4)[1]


@pytest.mark.parametrize("enriched", [True, False])
def test_records_are_whole_and_as_many_as_the_truth_says(enriched: bool) -> None:
    truth, audit, _, _ = made(enriched=enriched, window=8)
    assert audit.count(b"\n") == truth.records == len(reference.parse_records(audit))
    assert len(audit) == truth.audit_bytes
    assert (b"\x1d" in audit) is enriched
    events = reference.events(audit)
    assert len(events) == truth.events
    assert sorted(event.seq for event in events) == list(range(501, truth.last_seq + 1))


def test_commands_are_those_of_the_truth() -> None:
    truth, audit, _, _ = made(commands=30)
    told = {event.seq: reference.argv(event.records) for event in reference.events(audit)}
    wanted = [(seq, argv) for login in truth.logins for seq, _, argv in login.events if argv is not None]
    assert len(wanted) > 100
    for seq, argv in wanted:
        assert told[seq] == ([arg.encode().decode("latin-1") for arg in argv], None)


@pytest.mark.parametrize(("order", "signs"), [("before", {True}), ("after", {False}), ("mixed", {True, False})])
def test_login_lines_come_when_they_should(order: str, signs: set[bool]) -> None:
    truth, audit, pipe, _ = made(order=order, sessions=40)
    opened = {login.pid: audit.index(b"type=LOGIN msg=audit(%s" % login_stamp(audit, login)) for login in truth.logins}
    lines = zip(pipe.splitlines(), truth.sshd_offsets, strict=True)
    earlier = {offset <= opened[int(line.split()[0])] for line, offset in lines if b" Accepted " in line}
    assert earlier == signs


def login_stamp(audit: bytes, login: workload.Login) -> bytes:
    """The stamp of a login's LOGIN record, up to its bracket."""
    records = reference.parse_records(audit)
    record = next(one for one in records if one.name == "LOGIN" and f" ses={login.ses} " in f"{one.body} ")
    return b"%d.%03d:%d)" % (record.ts_ms // 1000, record.ts_ms % 1000, record.seq)


def test_both_forms_have_the_same_lines_of_sshd() -> None:
    _, _, pipe, syslog = made(failures=30)
    lines = [line.partition(b": ")[2] for line in syslog.splitlines()]
    assert lines == [line.partition(b" ")[2] for line in pipe.splitlines()]
    assert sum(b"Failed password for invalid user" in line for line in lines) == 10


def test_a_scanned_host_needs_no_session() -> None:
    truth, audit, pipe, _ = made(sessions=0, failures=300)
    assert (truth.logins, audit) == ([], b"")
    assert pipe.count(b"\n") == 300


def test_truth_survives_the_file(tmp_path: Path) -> None:
    truth = workload.write(workload.Settings(**SMALL), tmp_path)
    assert workload.read_truth(tmp_path) == truth


@pytest.mark.parametrize("change", [{"order": "never"}, {"window": 0}, {"concurrent": 0}, {"background": -1.0}])
def test_settings_that_cannot_be_meant(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"order|workload"):
        workload.Settings(**change)


# ------------------------------------------------------------------------------------------ the check of a run


def output(path: Path) -> tuple[workload.Truth, list[dict[str, Any]]]:
    """A right output of a workload, written to ``path``."""
    truth, audit, pipe, _ = made()
    joined = core.Core(core.CoreSettings(host="h", machine_id="m", boot_id="b"))
    joined.feed_sshd(pipe, "pipe", 0)
    joined.feed_audit(audit)
    joined.flush()
    path.write_bytes(joined.take())
    return truth, [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_right_output_passes(tmp_path: Path) -> None:
    truth, events = output(tmp_path / "out")
    assert pipes.check(tmp_path / "out", truth) == len(events) == pipes.expected_lines(truth)


def of_kind(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in events if event["type"] == kind)


def lose(events: list[dict[str, Any]]) -> None:
    events.remove(of_kind(events, "UserAction"))


def double(events: list[dict[str, Any]]) -> None:
    events.append(of_kind(events, "UserAction"))


def give_away(events: list[dict[str, Any]]) -> None:
    action = of_kind(events, "UserAction")
    action["subjects"] = {**action["subjects"], "userID": "mallory@example.com"}


def move(events: list[dict[str, Any]]) -> None:
    action = of_kind(events, "UserAction")
    other = next(e["metadata"]["auditId"] for e in events if e["type"] == "UserAction" and e != action)
    action["metadata"]["auditId"] = "77" if other == action["metadata"]["auditId"] else other


def change_argv(events: list[dict[str, Any]]) -> None:
    ran = next(e for e in events if "process_args" in e["metadata"].get("extra", {}))
    ran["metadata"]["extra"]["process_args"].append("--more")


def lose_login(events: list[dict[str, Any]]) -> None:
    events.remove(of_kind(events, "UserLogin"))


def lose_logout(events: list[dict[str, Any]]) -> None:
    events.remove(of_kind(events, "UserLogout"))


def add_conflict(events: list[dict[str, Any]]) -> None:
    events.append({**of_kind(events, "UserLogin"), "type": "IdentityConflict"})


@pytest.mark.parametrize("damage", [lose, double, give_away, move, change_argv, lose_login, lose_logout, add_conflict])
def test_a_wrong_output_is_found(tmp_path: Path, damage: Callable[[list[dict[str, Any]]], None]) -> None:
    path = tmp_path / "out"
    truth, events = output(path)
    damage(events)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    with pytest.raises(pipes.WrongOutputError):
        pipes.check(path, truth)
