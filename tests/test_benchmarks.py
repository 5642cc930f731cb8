"""The benches themselves: each stage runs small and is right, a wrong output is found, and the gate's arithmetic."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from audito.tables.sshd import ROWS
from audito.tables.sshd_grammar import MESSAGE_BYTES
from benchmarks import gate, live, measure, report, sshd_reference, stages
from benchmarks.measure import WrongOutputError

# ------------------------------------------------------------------------------------------ stages


@pytest.mark.parametrize("stage", stages.STAGES, ids=lambda stage: stage.name)
def test_a_stage_comes_to_its_counts_and_its_digest(stage: stages.Stage) -> None:
    timing = stages.time_stage(stage, "test", 1, stages.known_digests())
    assert timing.items >= stages.SIZES["test"] * 0.8
    assert len(timing.runs_s) == 1


def test_every_stage_has_a_digest_in_every_size() -> None:
    wanted = {f"{stage.name}/{size}" for stage in stages.STAGES for size in stages.SIZES}
    assert set(stages.known_digests()) == wanted


@pytest.mark.parametrize("stage", stages.STAGES, ids=lambda stage: stage.name)
def test_a_wrong_output_makes_a_stage_fail(stage: stages.Stage) -> None:
    job = stage.make(stages.SIZES["test"])
    run = job.start()
    run.go()
    told, output = run.outcome()
    key = f"{stage.name}/test"
    digests = {key: stages.digest_of(told, output)}
    assert stages.verify(stage, "test", job, run, digests) == digests[key]
    spoilt = stages.Run(run.go, lambda: (told, output[:-1] + b"?"))
    with pytest.raises(WrongOutputError, match="the output is not what it was"):
        stages.verify(stage, "test", job, spoilt, digests)
    name = next(iter(told))
    lost = stages.Run(run.go, lambda: ({**told, name: told[name] - 1}, output))
    with pytest.raises(WrongOutputError, match=f"{name} is {told[name] - 1}, not {told[name]}"):
        stages.verify(stage, "test", job, lost, digests)
    with pytest.raises(WrongOutputError, match="has no digest"):
        stages.verify(stage, "test", job, run, {})


def test_the_reference_reads_every_example_as_the_scanner_does() -> None:
    """Two readers of the same rows, written apart."""
    examples = [example.line.encode() for row in ROWS for example in row.examples]
    whole = [line for line in examples if len(line) < MESSAGE_BYTES]
    sshd_reference.check(sshd_reference.Reference(), whole)
    with pytest.raises(WrongOutputError, match="read otherwise"):
        sshd_reference.check(sshd_reference.Reference(), [b"no such message"])


def test_the_reference_is_compared_on_lines_that_both_read_alike() -> None:
    costs = dict(sshd_reference.compare(20))
    assert set(costs) == {"reference", "scanner", "events"}
    assert costs["reference"] > 5 * costs["scanner"]


def test_a_stage_fed_other_bytes_fails() -> None:
    job = stages.make_header(100)
    shorter = stages.stream_job(b"", 100, {"events_ignored": 100})
    run = shorter.start()
    run.go()
    with pytest.raises(WrongOutputError, match="events_ignored is 0, not 100"):
        stages.verify(stages.BY_NAME["header"], "test", job, run, None)


def test_stages_are_seeded() -> None:
    one, other = (stages.make_track(200) for _ in range(2))
    assert (one.items, one.bytes, one.truth) == (other.items, other.bytes, other.truth)
    assert stages.mixed(100, 3.0, "mixed") == stages.mixed.__wrapped__(100, 3.0, "mixed")


# ------------------------------------------------------------------------------------------ the gate

COUNTS = {"frame": 100_000, "core": 2_000_000}
QUIET = {"wall": [1.9, 2.0, 2.0, 2.1], "cpu": [3.0, 3.1, 3.1, 3.2]}


def test_the_same_figures_pass() -> None:
    verdicts = gate.judge_instructions(COUNTS, COUNTS) + gate.judge_whole(QUIET, QUIET)
    assert [verdict.ok for verdict in verdicts] == [True] * 4
    assert gate.report(verdicts, []) == 0


@pytest.mark.parametrize(("count", "ok"), [(90_000, True), (110_000, True), (110_001, False), (200_000, False)])
def test_ten_percent_more_instructions_are_the_limit(count: int, ok: bool, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = gate.judge_instructions(COUNTS, {**COUNTS, "frame": count})
    assert [verdict.ok for verdict in verdicts] == [ok, True]
    assert gate.report(verdicts, []) == (not ok)
    assert ("FAILED: frame" in capsys.readouterr().out) is not ok


def test_a_stage_that_the_baseline_lacks_has_no_verdict() -> None:
    assert [verdict.name for verdict in gate.judge_instructions({"frame": 1}, COUNTS)] == ["frame"]


@pytest.mark.parametrize(
    ("walls", "ok"),
    [
        ([2.0, 2.0, 2.0, 9.0], True),  # one slow pair
        ([2.0, 2.1, 3.5, 3.5], True),  # noise: half of them slow
        ([2.3, 2.4, 2.4, 2.5], False),
        ([1.9, 2.9, 3.0, 3.0], False),  # one lucky pair
    ],
)
def test_noise_is_no_regression(walls: list[float], ok: bool) -> None:
    wall, cpu = gate.judge_whole(QUIET, {**QUIET, "wall": walls})
    assert (wall.ok, cpu.ok) == (ok, True)


def test_what_differs_is_said() -> None:
    assert gate.differing({"libc": "2.36"}, {"libc": "2.36"}) == ""
    assert gate.differing({"libc": "2.36"}, {"libc": "2.41"}) == "libc: '2.36' there, '2.41' here"


def test_nothing_compared_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert gate.report([], ["instructions: valgrind is not installed"]) == 0
    said = capsys.readouterr().out
    assert "SKIPPED: instructions: valgrind is not installed" in said
    assert "nothing was compared" in said


def test_the_count_of_a_dump() -> None:
    dump = "version: 1\ndesc: Trigger: --dump-before=getppid\nevents: Ir\nsummary: 4827\n\nfn=(1)\ntotals: 5000\n"
    assert gate.summary_of(dump) == 4827
    with pytest.raises(WrongOutputError):
        gate.summary_of(dump.replace("--dump-before=getppid", "Program termination"))


def test_the_baseline_is_whole() -> None:
    baseline = json.loads(gate.BASELINE_PATH.read_text())
    assert set(baseline["instructions"]) == set(stages.BY_NAME)
    assert set(baseline["toolchain"]) == set(measure.toolchain())
    assert all(len(ratios) == gate.PAIRS for ratios in baseline["whole"].values())


def test_there_is_something_to_slow_down(tmp_path: Path) -> None:
    tree = gate.copy_tree(tmp_path / "tree")
    gate.slow_down(tree)
    for name, _, replacement, _ in gate.SLOWED:
        text = (tree / name).read_text()
        assert text != (gate.ROOT / name).read_text()
        assert re.sub(r"^\\1\s*|\\\\n.*|\n", "", replacement) in text
    (tree / "audito" / "core.py").write_text("")
    with pytest.raises(WrongOutputError, match="bring gate.SLOWED up to date"):
        gate.slow_down(tree)


# ------------------------------------------------------------------------------------------ small parts


def test_quantiles() -> None:
    assert measure.quantile([4, 1, 3, 2], 0.5) == 2.5
    assert (measure.quantile([1, 2, 3], 0), measure.quantile([1, 2, 3], 1)) == (1, 3)
    with pytest.raises(ValueError, match="no values"):
        measure.quantile([], 0.5)


def test_a_pipe_copy_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 300_000)
    used = measure.pipe_copy(path)
    assert used.wall_s > 0
    (tmp_path / "cat").write_text("#!/bin/sh\necho short\n")
    (tmp_path / "cat").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(WrongOutputError, match="says b'6"):
        measure.pipe_copy(path)


def test_latency_is_of_the_chunk_that_ends_the_line() -> None:
    chunks = [(5_000_000, b'{"sequence":100}\n{"sequ'), (9_000_000, b'ence":101}\n')]
    assert live.taken_ms(chunks, [1_000_000, 2_000_000]) == [4.0, 7.0]
    with pytest.raises(WrongOutputError, match="no sequence"):
        live.taken_ms([(1, b"{}\n")], [0])


def test_a_histogram_has_every_value() -> None:
    values = [0.01, 0.5, 0.5, 3.0]
    assert sum(count for _, count in live.histogram(values)) == len(values)


def test_a_repetition_is_later_and_else_the_same() -> None:
    line = b"type=EOE msg=audit(1795000000.123:4): \n"
    assert live.shifted(line, 0) == line
    assert live.shifted(line, 3) == b"type=EOE msg=audit(1798000000.123:4): \n"
    said = b"2026-11-18T05:46:40.000000+00:00 bastion sshd[4]: Accepted\n"
    assert live.later_lines(said, 1) == b"2026-11-29T19:33:20.000000+00:00 bastion sshd[4]: Accepted\n"


def test_a_session_costs_events_that_are_counted() -> None:
    cost_ns, held = live.event_cost_ns(5, 50)
    assert cost_ns > 0
    assert held > 0


def test_the_daemon_is_ready(tmp_path: Path) -> None:
    assert 0 < live.ready_s(tmp_path) < 30


def test_plots_are_drawn(tmp_path: Path) -> None:
    plots = pytest.importorskip("benchmarks.plots", reason="matplotlib comes with make bench", exc_type=ImportError)
    way = {"events": 4, "histogram": live.histogram([0.01, 0.5, 0.5, 3.0])}
    for path in (
        plots.draw_sessions({"ns_an_event": {"10": 1000.0, "100": 1100.0}}, tmp_path),
        plots.draw_backgrounds({"0.0": {"events_per_s": 1e6, "written_per_s": 1e6}}, tmp_path),
        plots.draw_latency({"pipes": way, "directory": way}, tmp_path),
    ):
        assert b"</svg>" in path.read_bytes()


def test_the_page_has_a_place_for_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.PAGE.read_text().count(report.BEGIN) == report.PAGE.read_text().count(report.END) == 1
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(report, "sections", lambda said: [said["one"]])
    report.PAGE.write_text(f"a\n{report.BEGIN}old\n{report.END}z\n")
    for _ in range(2):
        report.write({"one": "new\n"})
        assert report.PAGE.read_text() == f"a\n{report.BEGIN}\nnew\n\n{report.END}z\n"
    report.PAGE.write_text("a\n")
    with pytest.raises(ValueError, match="no place for figures"):
        report.write({"one": "new"})
