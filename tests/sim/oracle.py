"""What must come of a scenario, whatever happened: the invariants, each with its name."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec

from audito.events import UNKNOWN
from benchmarks.pipes import as_written, said_of, who
from benchmarks.workload import Login
from tests.sim.scenario import STATE_DIR
from tests.sim.world import BrokenError, Outcome

Event = dict[str, Any]
HEAD = b'{"metadata":'


def check(outcome: Outcome) -> int:
    """All that must hold; returns how many events there are. Errors: BrokenError."""
    return sum(Oracle(outcome, number).check() for number in range(len(outcome.boots)))


class Oracle:
    """Compares what came of one boot with its truth."""

    def __init__(self, outcome: Outcome, number: int) -> None:
        self.outcome = outcome
        scenario = outcome.scenario
        boots = outcome.boots
        self.boot = boots[number]
        self.ends_ms = boots[number + 1].begins_ms if number + 1 < len(boots) else 1 << 62
        self.logins = {str(login.ses): login for login in self.boot.truth.logins}
        kinds = {step.kind for step in scenario.steps}
        self.audit_whole = "audit" not in outcome.destroyed
        self.sshd_whole = "sshd" not in outcome.destroyed
        # A line that waits for its session is given up by the clock, and that was wrong.
        self.told = self.sshd_whole and not outcome.jumped and self.boot.whole is None
        # Its sessions were nowhere but in a state that could not be saved.
        self.forgot = any(STATE_DIR in step.args for step in scenario.steps) and not self.audit_whole
        self.once = scenario.output == "file" or (outcome.lives == 1 and "reader" not in kinds)
        self.next_gaps = 0  # that the next boot told of its inputs: what was missing from this one's, too
        self.events = self._read(outcome.output)
        # Nobody had the output pipe open, so the kernel threw away what was in it: no promise, and no loss of ours.
        self.thrown = self._read(outcome.lost_output[: outcome.lost_output.rfind(b"\n") + 1])
        self.gaps = [event for event in self.events if event["type"] == "AuditGap"]
        self.actions = [event for event in self.events if event["type"] == "UserAction"]

    def check(self) -> int:
        """Returns how many events there are. Errors: BrokenError."""
        self._nothing_twice()
        self._attribution()
        self._nothing_lost()
        self._logins()
        self._logouts()
        self._order()
        self._gaps_are_true()
        return len(self.events)

    def _read(self, output: bytes) -> list[Event]:
        """Whole lines of JSON, I7."""
        lines = output.split(b"\n")
        _require(lines[-1] == b"", "lines", f"ends in the middle of a line: {lines[-1][:80]!r}")
        events = []
        torn = 0
        for line in lines[:-1]:
            if not line:
                _require(not self.once, "lines", "an empty line")
                continue
            try:
                event = msgspec.json.decode(line)
                if len(self.outcome.boots) == 1 or self.boot.begins_ms <= _time_ms(event) < self.ends_ms:
                    events.append(event)
                elif event["type"] == "AuditGap" and _time_ms(event) >= self.ends_ms:
                    self.next_gaps += event["metadata"]["extra"]["reason"] in (
                        "file_truncated",
                        "file_gone",
                        "place_lost",
                    )
            except msgspec.DecodeError:
                # A kill can leave half a line in a pipe. The next process ends it; nothing else may stand behind it.
                torn += not self.once and line[: len(HEAD)] == HEAD[: len(line)] and line.find(HEAD, 1) < 0
                _require(0 < torn < self.outcome.lives, "lines", f"no JSON: {line!r}")
        return events

    def _nothing_twice(self) -> None:
        """I2: an id stands once in a file."""
        if not self.once:
            return
        ids = Counter(_name(event) for event in self.events)
        # The rest of an event in a pipe, of which the daemon had a part when it was told to stop, is one by itself.
        parts = self.outcome.halved | self.outcome.spliced
        doubled = [name for name, count in ids.items() if count > 1 and name[3] not in parts]
        _require(not doubled, "once", f"{len(doubled)} are there twice, such as {doubled[:3]}")

    def _attribution(self) -> None:
        """I6: each action is of its own session, and says of the login what is true, or that it is unknown."""
        for event in self.actions:
            ses, extra = event["metadata"]["auditId"], event["metadata"]["extra"]
            if self._is_anybodys(event, ses):
                continue
            _require(ses in self.logins, "attribution", f"session {ses} is no ssh login's: {event}")
            login = self.logins[ses]
            wanted = {seq: (action, argv) for seq, action, argv in login.events}
            _require(extra["sequence"] not in self.boot.lost, "truth", f"event {extra['sequence']} was lost")
            if extra["sequence"] in self.outcome.spliced:
                continue
            if extra["sequence"] in self.outcome.halved:
                self._says_truth(event, login)
                continue
            _require(extra["sequence"] in wanted, "attribution", f"event {extra['sequence']} is not of session {ses}")
            action, argv = wanted[extra["sequence"]]
            _require(extra["action"] == action, "truth", f"event {extra['sequence']}: {extra['action']}, not {action}")
            self._says_truth(event, login)
            if self.audit_whole and not self.outcome.jumped:
                argv = None if argv is None else [as_written(arg) for arg in argv]
                # The power failed between the records of an event: that the call had arguments is all that is known.
                cut_off = not self._came(extra["sequence"]) and extra.get("args_incomplete") == -1
                said = extra.get("process_args")
                holds = said == argv or (cut_off and argv is not None and said is None)
                _require(holds, "truth", f"event {extra['sequence']}: {extra}, not {argv}")

    def _is_anybodys(self, event: Event, ses: str) -> bool:
        """A session of cron's, of which all was destroyed but a bare LOGIN: nothing says whose it is, nor does audito."""
        return (
            not self.audit_whole and ses not in self.logins and set(said_of(event)) - {said_of(event)[2]} == {UNKNOWN}
        )

    def _says_truth(self, event: Event, login: Login) -> None:
        said, true = said_of(event), who(login)
        if self.told and self.audit_whole:
            _require(said == true, "attribution", f"{_name(event)} is given to {said}, not to {true}")
        holds = _less(said, true)
        _require(holds, "attribution", f"{_name(event)} is given to {said}, not to {true}")

    def _nothing_lost(self) -> None:
        """I1, I5."""
        actions = self.actions + [event for event in self.thrown if event["type"] == "UserAction"]
        there = {(event["metadata"]["auditId"], event["metadata"]["extra"]["sequence"]) for event in actions}
        holes = [
            event["metadata"]["extra"] for event in self.gaps if event["metadata"]["extra"]["reason"] == "sequence"
        ]
        # Behind such a serial nothing came after a kill; of what is missing before it that tells nothing.
        extras = [event["metadata"]["extra"] for event in self.gaps]
        silent = [extra["sequence"] for extra in extras if extra["reason"] == "killed" and "sequence" in extra]
        others = len(self.gaps) - len(holes) - len(silent) + self.next_gaps
        # Where a record is cut off an event, its serial came all the same; a cut goes through those that interleave.
        cut = self.outcome.cuts * self.outcome.scenario.window
        for ses, login in self.logins.items():
            missing = [seq for seq, _, _ in login.events if (ses, seq) not in there and self._came(seq)]
            if self.audit_whole and self.boot.whole is None:
                untold = [seq for seq, _, _ in login.events if seq in self.boot.lost and not self._told(seq, holes)]
                _require(not untold, "gap", f"the kernel lost {untold} of session {ses}, and no AuditGap tells of it")
            if not missing:
                continue
            text = f"{missing} of session {ses}"
            _require(not self.audit_whole, "lost", text)
            # A session whose LOGIN is among them is nobody's, and so is what it does.
            opened = next(seq for seq, action, _ in login.events if action == "changed-login-id-to")
            forgotten = any(hole["from"] <= opened <= hole["to"] for hole in holes)  # by a kill that it outlived
            seqs = [opened] if opened in missing or forgotten else missing
            known = max(silent, default=1 << 32)
            bare = [
                seq for seq in seqs if seq <= known and not any(hole["from"] <= seq <= hole["to"] for hole in holes)
            ]
            told = self.forgot or self.outcome.unplaced or others or len(bare) <= cut or self._at_end(bare)
            _require(told, "gap", f"{bare} of session {ses} and no AuditGap tells of it")

    def _came(self, seq: int) -> bool:
        """Whether all its records were written, and before the power failed."""
        return seq not in self.boot.lost and (self.boot.whole is None or seq in self.boot.whole)

    def _told(self, seq: int, holes: list[Event]) -> bool:
        """Whether a hole has this serial, which is no other's, or nothing came after it."""
        return any(hole["from"] <= seq <= hole["to"] for hole in holes) or self.boot.lost.issuperset(
            range(seq, self.boot.truth.last_seq + 1)
        )

    def _at_end(self, missing: list[int]) -> bool:
        """What is missing is behind all that came: no serial shows that it was there."""
        seen = max((event["metadata"]["extra"]["sequence"] for event in self.actions), default=0)
        return min(missing) > seen

    def _logins(self) -> None:
        """A login is told once, and those that sshd told are all there."""
        events = self.events + self.thrown
        told = [event for event in events if event["type"] == "UserLogin" and event["outcome"] == "succeeded"]
        by_sshd = Counter(said_of(event) for event in told if event["component"] == "sshd")
        true = Counter(who(login) for login in self.logins.values() if login.claimed)
        # Where a part of a line was destroyed, what is left of it may say less; it must not say anything else.
        rests = self.outcome.scenario.sshd == "pipe" and self.outcome.killed
        false = [
            said for said in by_sshd
            if said not in true and not (rests and any(_is_rest(said, known) for known in true)) and ((self.sshd_whole and self.boot.whole is None) or not any(_less(said, known) for known in true))
        ]  # fmt: skip
        _require(not false, "attribution", f"no such login: {false}")
        if self.sshd_whole and self.boot.whole is None:
            _require(not true.keys() - by_sshd.keys(), "lost", f"login {list(true.keys() - by_sshd.keys())}")
        for event in told:
            if event["component"] == "auditd":
                login = self.logins.get(event["data"]["session"])
                if self._is_anybodys(event, event["data"]["session"]):
                    continue
                _require(login is not None, "attribution", f"no such session: {event}")
                assert login is not None
                if self.told and self.audit_whole:
                    _require(not login.claimed, "attribution", f"sshd told of session {login.ses}, and it is unknown")
        conflicts = [event for event in self.events if event["type"] == "IdentityConflict"]
        # A pid that is used again, by a session whose LOGIN was destroyed, is a second claim on the one before.
        real = self.audit_whole or not self.outcome.scenario.pids
        _require(not conflicts or not real, "attribution", f"a conflict where there is none: {conflicts[:1]}")

    def _logouts(self) -> None:
        """A session ends once."""
        ended = {event["metadata"]["auditId"] for event in self.events + self.thrown if event["type"] == "UserLogout"}
        if self.audit_whole and self.boot.whole is None:
            sessions = {ses for ses in ended if ses in self.logins}
            _require(sessions == set(self.logins), "lost", f"logout of {sorted(set(self.logins) - sessions)}")
            if self.told:
                _require(ended == sessions, "truth", f"logouts of nobody: {sorted(ended - sessions)}")

    def _order(self) -> None:
        """What a session did is written in the order in which it did it."""
        if not self.once or not self.audit_whole:
            return
        last: dict[str, int] = {}
        for event in self.actions:
            ses, seq = event["metadata"]["auditId"], event["metadata"]["extra"]["sequence"]
            _require(seq > last.get(ses, 0), "order", f"{seq} of session {ses} after {last.get(ses)}")
            last[ses] = seq

    def _gaps_are_true(self) -> None:
        """No gap is told where nothing is missing."""
        for event in self.gaps:
            extra = event["metadata"]["extra"]
            whole = self.sshd_whole if event["component"] == "sshd" else self.audit_whole
            if extra["reason"] == "login_without_session":
                whole = self.audit_whole and self.told
            whole = whole and extra["reason"] not in self._of_boot()
            if extra["reason"] == "sequence":
                whole = whole and not self.boot.lost.issuperset(range(extra["from"], extra["to"] + 1))
            _require(not whole, "gap", f"nothing is missing: {event}")

    def _of_boot(self) -> tuple[str, ...]:
        """What is told of a boot, and of logins whose session it cut off."""
        if self.boot.whole is not None:
            return ("login_without_session",)
        return ("auditd_started",) if self.boot.begins_ms else ()


def _time_ms(event: Event) -> int:
    return int(datetime.fromisoformat(event["loggedAt"]).timestamp() * 1000)


def _less(said: tuple[str, ...], true: tuple[str, ...]) -> bool:
    """Whether all that is said is true; what is not said is "unknown", and the pid of a line without its head ""."""
    return all(one in (other, "unknown", "") for one, other in zip(said, true, strict=True))


def _is_rest(said: tuple[str, ...], true: tuple[str, ...]) -> bool:
    """Whether a killed process read the start of the line: its pid stands first in a pipe, and lost its first digits."""
    return true[2].endswith(said[2]) and (*said[:2], *said[3:]) == (*true[:2], *true[3:])


def _name(event: Event) -> tuple[Any, ...]:
    extra = event["metadata"].get("extra", {})
    detail = (extra.get("sequence"), extra.get("from"), extra.get("reason"), extra.get("pid"))
    return event["type"], event["metadata"]["auditId"], event["loggedAt"], *detail


def _require(holds: bool, rule: str, text: str) -> None:
    if not holds:
        raise BrokenError(rule, text)
