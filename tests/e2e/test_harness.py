"""The harness itself, as far as it needs neither root nor a real host."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from . import evidence
from .daemon import REPOSITORY
from .scenario import Truth
from .undo import HostError, Undo, started_at, wait_until

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def truth() -> Truth:
    """What happened in the capture that the repository carries."""
    return Truth.from_json((EXAMPLES / "truth.json").read_text())


def test_the_capture_in_examples_shows_its_truth(truth: Truth) -> None:
    assert truth.to_json() == (EXAMPLES / "truth.json").read_text()
    assert len(truth.logins) == 6
    assert not evidence.missing(truth, evidence.read([EXAMPLES / "audit.log"], EXAMPLES / "sshd.log"))


def test_the_forms_of_the_captured_sshd_log_agree() -> None:
    syslog = (EXAMPLES / "sshd.log").read_text().splitlines()
    pipe = (EXAMPLES / "sshd.pipe").read_text().splitlines()
    journal = (EXAMPLES / "sshd.journal.json").read_text().splitlines()
    assert len(syslog) == len(pipe) == len(journal)
    for long, short in zip(syslog, pipe, strict=True):
        pid, _, message = short.partition(" ")
        assert long.endswith(f" sshd[{pid}]: {message}")


@pytest.mark.parametrize("damage", ["no EXECVE of wc", "no LOGIN", "wc twice", "no Accepted"])
def test_evidence_that_is_missing_or_doubled_is_noticed(truth: Truth, tmp_path: Path, damage: str) -> None:
    audit = (EXAMPLES / "audit.log").read_text().splitlines(keepends=True)
    sshd = (EXAMPLES / "sshd.log").read_text().splitlines(keepends=True)
    (wc,) = (line for line in audit if line.startswith("type=EXECVE") and 'a0="wc"' in line)
    serial = wc.partition(")")[0].rpartition(":")[2]
    match damage:
        case "no EXECVE of wc":
            audit.remove(wc)
        case "no LOGIN":
            audit = [line for line in audit if not line.startswith("type=LOGIN")]
        case "wc twice":
            audit += [line.replace(f":{serial})", ":4000000000)") for line in audit if f":{serial})" in line]
        case "no Accepted":
            sshd = [line for line in sshd if "Accepted" not in line]
    (tmp_path / "audit.log").write_text("".join(audit))
    (tmp_path / "sshd.log").write_text("".join(sshd))
    assert evidence.missing(truth, evidence.read([tmp_path / "audit.log"], tmp_path / "sshd.log"))


def test_steps_are_taken_back_last_one_first_by_another_run_too(tmp_path: Path) -> None:
    inner, outer = tmp_path / "outer" / "inner", tmp_path / "outer"
    journal = Undo(tmp_path / "undo.jsonl")
    for path in (outer, inner):
        journal.add("remove", str(path))
        path.mkdir()
    process = subprocess.Popen(["sleep", "60"])
    journal.add("stop process", process.pid, started_at(process.pid) or "")
    assert Undo(tmp_path / "undo.jsonl").take_back() == []
    assert process.wait() is not None
    assert not outer.exists()
    assert Undo(tmp_path / "undo.jsonl").take_back() == []


def test_a_process_that_has_the_pid_of_an_old_one_is_left_alone(tmp_path: Path) -> None:
    journal = Undo(tmp_path / "undo.jsonl")
    process = subprocess.Popen(["sleep", "60"])
    try:
        journal.add("stop process", process.pid, "1")
        assert journal.take_back() == []
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_step_that_cannot_be_taken_back_is_told_and_the_others_are(tmp_path: Path) -> None:
    kept = tmp_path / "file"
    kept.touch()
    journal = Undo(tmp_path / "undo.jsonl")
    journal.add("remove", str(kept))
    journal.add("remove", str(kept / "below-a-file"))
    (complaint,) = journal.take_back()
    assert "below-a-file" in complaint
    assert not kept.exists()


def test_what_was_copied_is_put_back(tmp_path: Path) -> None:
    kept, etc = tmp_path / "kept", tmp_path / "etc"
    (etc / "rules.d").mkdir(parents=True, mode=0o750)
    (etc / "rules.d/a.rules").write_text("-D\n")
    shutil.copytree(etc, kept)
    journal = Undo(tmp_path / "undo.jsonl")
    journal.add("put back", str(kept), str(etc))
    journal.add("put back", str(tmp_path / "was not there"), str(tmp_path / "new"))
    (etc / "rules.d/a.rules").write_text("-e 2\n")
    (etc / "rules.d/b.rules").touch()
    (tmp_path / "new").touch()
    assert journal.take_back() == []
    assert [path.name for path in (etc / "rules.d").iterdir()] == ["a.rules"]
    assert (etc / "rules.d/a.rules").read_text() == "-D\n"
    assert (etc / "rules.d").stat().st_mode & 0o777 == 0o750
    assert not (tmp_path / "new").exists()


def test_waiting_has_an_end() -> None:
    with pytest.raises(HostError, match="the sun: not within 0 s"):
        wait_until("the sun", lambda: False, timeout_s=0.1)
