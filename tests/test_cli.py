"""The command line through its real front door: a process with arguments, an environment and descriptors."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from audito import __version__
from audito.cli import (
    REPLAY_READ_BYTES,
    LineFormatter,
    Logs,
    Output,
    Progress,
    ReaderGone,
    main,
    printable,
    record_times_ms,
    start_logging,
)
from audito.config import Config, Replay, rows
from audito.errors import SinkError, SourceError

EXAMPLES = Path(__file__).parent.parent / "examples"
AUDIT, SYSLOG = EXAMPLES / "audit.log", EXAMPLES / "sshd.log"
SSHD_FORMS = {"syslog": SYSLOG, "pipe": EXAMPLES / "sshd.pipe", "journal-json": EXAMPLES / "sshd.journal.json"}
REPLAY = ("replay", "--audit", str(AUDIT), "--host", "bastion", "--machine-id", "deadbeef")
HOST = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def audito(
    *words: str, stdin: bytes = b"", environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in an environment that says nothing of this one."""
    command = [sys.executable, "-m", "audito", *words]
    return subprocess.run(command, input=stdin, capture_output=True, env={**HOST, **(environ or {})}, timeout=60)


def replayed(*words: str, stdin: bytes = b"") -> bytes:
    """What a replay of the captured session writes, one that went well."""
    done = audito(*REPLAY, *words, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def events_of(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line on standard error that says why, without the name before it."""
    assert done.stderr.startswith(b"audito: ")
    assert done.stderr.endswith(b"\n")
    assert done.stderr.count(b"\n") == 1
    return done.stderr.decode().removeprefix("audito: ").rstrip("\n")


# Help and version.


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-help"], ["run", "--help"], ["-metrics", "--help"]])
def test_help_tells_every_flag(words: list[str]) -> None:
    done = audito(*words)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    for row in rows(Config):
        assert all(re.search(rf"--{name}\b", text) for name in row.setting.names), row
    assert max(map(len, text.splitlines())) <= 120
    assert "[default: 2m]" in text


def test_help_of_replay_tells_every_flag_and_none_of_run() -> None:
    text = audito("replay", "--help").stdout.decode()
    flags = set(re.findall(r"^  --([a-z-]+)", text, re.MULTILINE))
    assert flags == {row.setting.name for row in rows(Replay)}


def test_help_of_decode() -> None:
    assert audito("decode", "--help").stdout.startswith(b"usage: audito decode ")


@pytest.mark.parametrize("words", [["--version"], ["-version"], ["decode", "--version"]])
def test_version(words: list[str]) -> None:
    assert audito(*words).stdout.decode() == f"audito {__version__}\n"


def test_help_needs_neither_the_core_nor_systemd() -> None:
    code = "import sys; from audito.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    loaded = set(done.stderr.decode().split())
    assert "audito.config" in loaded
    assert not loaded & {
        "audito.core",
        "audito._fastparse",
        "audito.daemon",
        "systemd",
        "uvloop",
        "pyinotify",
        "asyncio",
    }


# Usage.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["decod"], "unknown command decod; did you mean decode?"),
        (["frobnicate"], "unknown command frobnicate"),
        (["-metrcs"], "unknown flag -metrcs; did you mean -metrics?"),
        (["run", "--output"], "flag --output needs a value: --output PATH"),
        (["namedpipe", "stray"], 'unexpected word "stray" on the command line'),
        (["replay"], "a replay needs --audit FILE|DIR..."),
        (["replay", "--audits=x"], "unknown flag --audits; did you mean --audit?"),
        (["decode", "--fast"], "unknown flag --fast"),
        (["--output=a\nb\x1b[2J", "--reject-log=a\nb\x1b[2J"], None),
    ],
)
def test_wrong_usage_exits_2_with_one_line(words: list[str], message: str | None) -> None:
    done = audito(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    told = complaint(done)
    assert told.isprintable()
    assert message is None or told == message


def test_wrong_variable_exits_2() -> None:
    done = audito(environ={"AUDITO_OUTPT": "/x"})
    assert done.returncode == 2
    assert complaint(done) == "unknown variable AUDITO_OUTPT; did you mean AUDITO_OUTPUT?"


def test_wrong_file_exits_2(tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text("outptu = '/x'", encoding="utf-8")
    done = audito("--config", str(file))
    assert done.returncode == 2
    assert complaint(done) == f"{file}: unknown key outptu; did you mean output?"


# decode


def test_decode_reads_files_and_standard_input_alike() -> None:
    from_file = audito("decode", str(AUDIT))
    assert (from_file.returncode, from_file.stderr) == (0, b"")
    events = events_of(from_file.stdout)
    assert sum(event["records"] for event in events) > len(events) > 100
    assert len(events) == len({(event["ts"], event["seq"]) for event in events})
    data = AUDIT.read_bytes()
    assert audito("decode", "-", stdin=data).stdout == from_file.stdout
    assert audito("decode", stdin=data).stdout == from_file.stdout


def test_decode_of_several_files_is_that_of_one(tmp_path: Path) -> None:
    data = AUDIT.read_bytes()
    whole = audito("decode", str(AUDIT)).stdout
    middle = data.index(b"\n", len(data) // 2) + 1
    (tmp_path / "audit.log.1").write_bytes(data[:middle])
    (tmp_path / "audit.log").write_bytes(data[middle:])
    assert audito("decode", f"{tmp_path}/audit.log.1", f"{tmp_path}/audit.log").stdout == whole
    assert audito("decode", str(tmp_path)).stdout == whole
    (tmp_path / "audit.log.1").write_bytes(data[: middle - 1])  # its last line is cut before the newline
    assert audito("decode", str(tmp_path)).stdout == whole


def test_decode_writes_while_its_input_is_still_open() -> None:
    lines = AUDIT.read_bytes().splitlines(keepends=True)
    command = [sys.executable, "-m", "audito", "decode"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=HOST) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(lines[:100]))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["seq"]
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0


@pytest.mark.parametrize(
    "words", [["decode", "{}"], ["replay", "--audit", "{}"], ["replay", "--audit", str(AUDIT), "--sshd", "{}"]]
)
def test_missing_input_is_named(words: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "missing.log")
    done = audito(*(word.format(path) for word in words))
    assert (done.returncode, done.stdout) == (1, b"")
    assert complaint(done) == f"{path}: No such file or directory"


@pytest.mark.parametrize("words", [["decode"], ["replay", "--audit"]])
def test_directory_without_logs_is_named(words: list[str], tmp_path: Path) -> None:
    done = audito(*words, str(tmp_path))
    assert (done.returncode, done.stdout) == (1, b"")
    assert complaint(done) == f"{tmp_path}: there is no audit.log in it"


def test_sshd_log_that_is_a_directory_is_named(tmp_path: Path) -> None:
    done = audito(*REPLAY, "--sshd", str(tmp_path))
    assert done.returncode == 1
    assert complaint(done) == f"{tmp_path}: Is a directory"


@pytest.mark.parametrize(
    "words", [["decode", *[str(AUDIT)] * 20], ["replay", "--audit", *[str(AUDIT)] * 20, "--sshd", str(SYSLOG)]]
)
def test_reader_that_saw_enough_ends_the_command_quietly(words: list[str]) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "audito", *words], stdout=writer, stderr=subprocess.PIPE, env=HOST
    ) as process:
        os.close(writer)
        assert os.read(reader, 100).startswith(b"{")
        os.close(reader)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_output_that_cannot_take_is_a_failure() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "audito", "decode", str(AUDIT)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=HOST, timeout=60)
    assert done.returncode == 1
    assert done.stderr == b"audito: standard output: No space left on device\n"


def test_interrupt_has_no_traceback() -> None:
    command = [sys.executable, "-m", "audito", "decode"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=HOST
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(AUDIT.read_bytes())
        process.stdin.flush()
        process.stdout.read(1)  # it is at work
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 130


# replay


@pytest.mark.parametrize("form", SSHD_FORMS)
def test_replay_joins_the_captured_session(form: str) -> None:
    lines = replayed("--sshd", str(SSHD_FORMS[form]))
    assert lines == replayed("--sshd", str(SSHD_FORMS[form]), "--sshd-format", form)
    events = events_of(lines)
    rizin = [
        event
        for event in events
        if event["type"] == "UserAction"
        and event["metadata"]["extra"]["object"].get("primary") == "/usr/local/bin/rizin"
    ]
    assert [event["subjects"]["userID"] for event in rizin] == ["alice@example.com"] * len(rizin)
    assert [event["outcome"] for event in rizin].count("failed") == 1
    users = {
        event["subjects"]["userID"]
        for event in events
        if event["type"] == "UserLogin" and event["outcome"] == "succeeded"
    }
    assert {"alice@example.com", "dave@example.com", "unknown"} == users
    assert {event["target"]["host"] for event in events} == {"bastion"}
    assert {event["target"]["machine-id"] for event in events} == {"deadbeef"}


def test_forms_of_sshd_lines_tell_the_same_actions() -> None:
    actions = [replayed("--sshd", str(path), "--event-types", "UserAction") for path in SSHD_FORMS.values()]
    assert actions[0]
    assert sorted(actions[0].splitlines()) == sorted(actions[1].splitlines()) == sorted(actions[2].splitlines())


@pytest.mark.parametrize("form", SSHD_FORMS)
def test_replay_gives_the_same_bytes_each_time(form: str) -> None:
    words = ("--sshd", str(SSHD_FORMS[form]))
    first = replayed(*words)
    assert first
    assert replayed(*words) == first
    assert replayed(*words, "--output", "-") == first


def test_replay_of_times_without_a_zone_gives_the_same_bytes_on_any_host(tmp_path: Path) -> None:
    lines = []
    for line in SYSLOG.read_text().splitlines():
        stamp, _, rest = line.partition(" ")
        local = datetime.fromisoformat(stamp).astimezone(ZoneInfo("Asia/Kolkata"))
        lines.append(f"{local:%b %d %H:%M:%S} {rest}\n")
    (tmp_path / "sshd.log").write_text("".join(lines))
    words = (*REPLAY, "--sshd", str(tmp_path / "sshd.log"))
    here, there = ({"TZ": zone} for zone in ("America/New_York", "Europe/Berlin"))
    named = audito(*words, "--syslog-time-zone", "Asia/Kolkata", environ=here).stdout
    assert audito(*words, "--syslog-time-zone", "Asia/Kolkata", environ=there).stdout == named
    assert audito(*words, environ={"TZ": "Asia/Kolkata"}).stdout == named
    assert audito(*words, environ=here).stdout != named
    times = [event["loggedAt"][:19] for event in events_of(named) if event["type"] == "UserLogin"]
    known = events_of(replayed("--sshd", str(SYSLOG)))
    assert times == [event["loggedAt"][:19] for event in known if event["type"] == "UserLogin"]


def test_replay_filters_and_says_what_filters_did() -> None:
    every = events_of(replayed("--sshd", str(SYSLOG)))
    words = ["--sshd", str(SYSLOG), "--filter", "drop executed action=executed", "drop never exe=/nothing"]
    done = audito(*REPLAY, *words)
    kept = [event for event in every if event["metadata"].get("extra", {}).get("action") != "executed"]
    assert events_of(done.stdout) == kept
    count = len(every) - len(kept)
    assert count > 0
    assert complaint(done) == f"actions that filters decided: executed {count}, never 0; dropped: {count}"


def test_replay_redacts(tmp_path: Path) -> None:
    log = AUDIT.read_bytes()
    secret = re.sub(rb'argc=\d+ a0="uname" a1="[^"]*"', b'argc=2 a0="uname" a1="--password=hunter2"', log)
    assert secret != log
    path = tmp_path / "audit.log"
    path.write_bytes(secret)
    words = ("replay", "--audit", str(path), "--sshd", str(SYSLOG))
    lines = audito(*words).stdout
    assert b"hunter2" not in lines
    assert b'"--password=[redacted]"' in lines and b'"redacted":["password"]' in lines
    assert b'"--password=hunter2"' in audito(*words, "--redact-off", "all").stdout
    assert b'"--password=hunter2"' in audito(*words, "--redact-off", "url,password").stdout


def test_replay_of_rotated_files_is_that_of_one_log(tmp_path: Path) -> None:
    data = AUDIT.read_bytes()
    cuts = [0, len(data) // 3, 2 * len(data) // 3, len(data)]
    for number, (begin, end) in enumerate(itertools.pairwise(cuts)):
        name = f"audit.log.{10 - number}" if number < 2 else "audit.log"
        start = data.index(b"\n", begin) + 1 if begin else 0
        (tmp_path / name).write_bytes(data[start : data.index(b"\n", end - 1) + 1])
    words = ("--sshd", str(SYSLOG), "--host", "bastion", "--machine-id", "deadbeef", "--event-types", "UserAction")
    assert audito("replay", "--audit", str(tmp_path), *words).stdout == replayed(*words)


def test_replay_reads_standard_input_however_it_is_written() -> None:
    words = ["replay", "--audit", "-", "--sshd", str(SYSLOG), "--host", "bastion", "--machine-id", "deadbeef"]
    with subprocess.Popen(
        [sys.executable, "-m", "audito", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=HOST
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for at in range(0, 3000, 1000):
            process.stdin.write(AUDIT.read_bytes()[at : at + 1000])
            process.stdin.flush()
            time.sleep(0.02)
        process.stdin.write(AUDIT.read_bytes()[3000:])
        process.stdin.close()
        assert process.stdout.read() == replayed("--sshd", str(SYSLOG))


HOURS = 40


def port_in(hour: int, port: int) -> int:
    return 10_000 + (port + 7 * hour) % 50_000


@pytest.mark.parametrize("form", ["syslog", "pipe"])
def test_replay_of_a_long_log_whose_pids_come_again(form: str, tmp_path: Path) -> None:
    """The captured session once an hour: the same pids, other sessions and ports, far longer than the window."""
    truth = {event["metadata"]["auditId"]: event["source"]["extra"]["port"] for event in captured_actions(form)}
    with open(tmp_path / "audit.log", "wb") as audit, open(tmp_path / "sshd.log", "wb") as sshd:
        for hour in range(HOURS):
            audit.write(records_an_hour_on(AUDIT.read_bytes(), hour))
            sshd.write(lines_an_hour_on(SSHD_FORMS[form].read_bytes(), hour))
    assert (tmp_path / "audit.log").stat().st_size > 10 * REPLAY_READ_BYTES
    done = audito("replay", "--audit", f"{tmp_path}/audit.log", "--sshd", f"{tmp_path}/sshd.log")
    assert (done.returncode, done.stderr) == (0, b"")
    actions = [event for event in events_of(done.stdout) if event["type"] == "UserAction"]
    assert len(actions) == HOURS * len(captured_actions(form))
    found = {(event["metadata"]["auditId"], event["source"]["extra"]["port"]) for event in actions}
    assert found == {
        (str(int(session) + 1000 * hour), str(port_in(hour, int(port))))
        for session, port in truth.items()
        for hour in range(HOURS)
    }


def captured_actions(form: str) -> list[dict[str, Any]]:
    return events_of(replayed("--sshd", str(SSHD_FORMS[form]), "--event-types", "UserAction"))


def records_an_hour_on(records: bytes, hours: int) -> bytes:
    """The records, as many hours later, with later sequences and sessions."""

    def stamp(match: re.Match[bytes]) -> bytes:
        return b"audit(%d%s:%d)" % (int(match[1]) + 3600 * hours, match[2], int(match[3]) + 20_000 * hours)

    records = re.sub(rb"audit\((\d+)(\.\d+):(\d+)\)", stamp, records)
    return re.sub(rb"\bses=(\d{1,5})\b", lambda match: b"ses=%d" % (int(match[1]) + 1000 * hours), records)


def lines_an_hour_on(lines: bytes, hours: int) -> bytes:
    """The login lines, as many hours later where they say a time, from other ports."""

    def later(match: re.Match[bytes]) -> bytes:
        return (datetime.fromisoformat(match[0].decode()) + timedelta(hours=hours)).isoformat().encode()

    lines = re.sub(rb"(?m)^\d{4}-\S+", later, lines)
    return re.sub(rb"port (\d+) ssh2", lambda match: b"port %d ssh2" % port_in(hours, int(match[1])), lines)


def test_replay_without_login_lines_tells_what_the_kernel_knows() -> None:
    events = events_of(replayed())
    assert events
    assert {event["subjects"]["userID"] for event in events if event["type"] != "AuditGap"} == {"unknown"}
    assert {event["type"] for event in events} >= {"UserAction"}


def test_replay_writes_a_file_anew(tmp_path: Path) -> None:
    output = tmp_path / "events.json"
    words = ("--sshd", str(SYSLOG))
    for _ in range(2):
        assert replayed(*words, "--output", str(output)) == b""
        assert output.read_bytes() == replayed(*words)
    assert stat.S_IMODE(output.stat().st_mode) & ~0o640 == 0


def test_replay_does_not_follow_a_link_to_its_output(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept", encoding="utf-8")
    (tmp_path / "link").symlink_to(target)
    done = audito(*REPLAY, "--output", str(tmp_path / "link"))
    assert done.returncode == 1
    assert complaint(done).startswith(f"{tmp_path}/link: ")
    assert target.read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize("flag", ["--output", "--reject-log"])
def test_replay_does_not_write_over_its_input(flag: str, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(AUDIT.read_bytes())
    os.link(log, tmp_path / "same")
    done = audito("replay", "--audit", str(log), flag, str(tmp_path / "same"))
    assert done.returncode == 2
    assert complaint(done) == f"{tmp_path}/same is an input, and would be written over"
    assert log.read_bytes() == AUDIT.read_bytes()


def test_replay_picks_types_of_event() -> None:
    events = events_of(replayed("--sshd", str(SYSLOG), "--event-types", "UserLogin,UserLogout"))
    assert {event["type"] for event in events} == {"UserLogin", "UserLogout"}


def test_replay_passes_bad_lines_and_keeps_them(tmp_path: Path) -> None:
    bad = [b"\xff\x00 binary", b"type=EXECVE no stamp", b"x" * 100]
    lines = AUDIT.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(bad):
        lines.insert(100 * number, line + b"\n")
    lines.insert(50, b"\n")
    rejects = tmp_path / "rejects"
    words = ("replay", "--audit", "-", "--sshd", str(SYSLOG), "--host", "bastion", "--machine-id", "deadbeef")
    done = audito(*words, "--reject-log", str(rejects), stdin=b"".join(lines))
    assert done.returncode == 0
    assert complaint(done) == f"lines that are no records: 3; they are in {rejects}"
    assert done.stdout == replayed("--sshd", str(SYSLOG))
    assert [line for line in rejects.read_bytes().splitlines() if line in bad] == bad


def test_replay_of_the_wrong_file_says_so() -> None:
    done = audito("replay", "--audit", str(SYSLOG))
    assert (done.returncode, done.stdout) == (0, b"")
    count = SYSLOG.read_bytes().count(b"\n")
    assert complaint(done) == f"lines that are no records: {count}; they can be had with --reject-log FILE"


def test_replay_draws_its_progress_on_a_terminal_only(tmp_path: Path) -> None:
    control, terminal = pty.openpty()
    output = tmp_path / "events.json"
    with subprocess.Popen(
        [sys.executable, "-m", "audito", *REPLAY, "--output", str(output)], stderr=terminal, env=HOST
    ) as process:
        os.close(terminal)
        shown = b""
        while chunk := read_terminal(control):
            shown += chunk
    os.close(control)
    assert process.returncode == 0
    assert re.search(rb"\r\[#* *\] +\d+%", shown)
    assert shown.endswith(b"\r\x1b[K")


def read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""  # EIO: its other side was closed


# run


def test_run_ends_with_0_on_sigterm_and_logs_lines(tmp_path: Path) -> None:
    for name in ("sshd", "audit"):
        os.mkfifo(tmp_path / name)
    output = tmp_path / "events.json"
    words = ["-app-events-output", str(output), "-sshd-pipe-path", str(tmp_path / "sshd")]
    words += ["-auditd-pipe-path", str(tmp_path / "audit"), "--state-dir", str(tmp_path / "state"), "--host", "bastion"]
    command = [sys.executable, "-m", "audito", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=HOST) as process:
        (tmp_path / "sshd").write_bytes(SSHD_FORMS["pipe"].read_bytes())
        (tmp_path / "audit").write_bytes(AUDIT.read_bytes())
        deadline = time.monotonic() + 20
        while not (output.exists() and b"rizin" in output.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        log = process.stderr.read().decode()
    assert process.returncode == 0
    assert b"rizin" in output.read_bytes()
    stamped = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warn|error|fatal) .+"
    assert [line for line in log.splitlines() if not re.fullmatch(stamped, line)] == []


def test_run_that_can_never_work_exits_1(tmp_path: Path) -> None:
    words = ["--output", str(tmp_path), "--state-dir", str(tmp_path / "state"), "--sshd-log-path", str(SYSLOG)]
    done = audito(*words, "-audit-dir-path", str(EXAMPLES))
    assert done.returncode == 1
    assert str(tmp_path).encode() in done.stderr
    assert b"Traceback" not in done.stderr


# The parts.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain täxt", "plain täxt"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[2J\r\0", r"\x1b[2J\r\x00"),
        ("\u202egnihton", r"\u202egnihton"),
        ("\udcff", r"\udcff"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("debug", ["debug", "info", "warn", "error", "fatal"]),
        ("warn", ["warn", "error", "fatal"]),
        ("panic", ["fatal"]),
    ],
)
def test_log_levels(level: Any, words: list[str]) -> None:
    stream = io.StringIO()
    start_logging(level, stream)
    log = logging.getLogger("audito.test")
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        log.log(number, "user=%s", "a\nb")
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        rf"{word} user=a\nb" for word in words
    ]


def test_log_line_has_time_in_utc_and_the_error_in_the_same_line() -> None:
    try:
        int("two\nlines")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "internal error", (), sys.exc_info())
    record.created = 1679060258.1261
    line = LineFormatter().format(record)
    assert line.startswith("2023-03-17T13:37:38.126Z error internal error: Traceback ")
    assert "ValueError: invalid literal" in line
    assert "\n" not in line


def test_log_level_that_has_no_name() -> None:
    record = logging.LogRecord("x", 35, "f", 1, "text", (), None)
    assert LineFormatter().format(record).endswith("Z warn text")


def test_logs_end_each_file_with_a_newline(tmp_path: Path) -> None:
    for name, data in (("a", b"one"), ("b", b""), ("c", b"two\n"), ("d", b"three")):
        (tmp_path / name).write_bytes(data)
    logs = Logs([str(tmp_path / name) for name in "abcd"], 2)
    assert logs.bytes_total == 12
    assert b"".join(iter(logs.read, b"")) == b"one\ntwo\nthree"
    assert (logs.ended, logs.read()) == (True, b"")
    assert Logs([], 2).ended


def test_logs_read_whole_chunks_also_from_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with open(pipe, "wb", buffering=0) as file:
            for _ in range(10):
                file.write(b"abc")
                time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    logs = Logs([str(pipe)], 20)
    assert [len(chunk) for chunk in iter(logs.read, b"")] == [20, 10]
    writer.join()


def test_logs_name_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.touch()
    logs = Logs([str(path)], 20)
    path.unlink()
    with pytest.raises(SourceError, match=f"{path}: No such file or directory"):
        logs.read()


def test_output_waits_for_a_pipe_that_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    monkeypatch.setattr("audito.cli.STANDARD_OUTPUT", writer)
    output = Output("-", inputs=())
    data = bytes(range(256)) * 4096
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reader, 4096), b"")))
    thread.start()
    output.write(data)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert b"".join(received) == data


def test_output_tells_a_reader_that_left_from_a_file_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr("audito.cli.STANDARD_OUTPUT", writer)
    with pytest.raises(ReaderGone):
        Output("-", inputs=()).write(b"x")
    os.close(writer)
    with pytest.raises(SinkError, match="/dev/full: No space left on device"):
        Output("/dev/full", inputs=()).write(b"x")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress() -> None:
    terminal = Terminal()
    progress = Progress(terminal, 200)
    progress.show(100)
    progress.show(150)  # too soon
    progress.clear()
    progress.clear()
    assert terminal.getvalue() == f"\r[{'#' * 20}{' ' * 20}]  50%\r\x1b[K"


@pytest.mark.parametrize(("stream", "bytes_total"), [(io.StringIO(), 100), (Terminal(), 0)])
def test_no_progress(stream: io.StringIO, bytes_total: int) -> None:
    progress = Progress(stream, bytes_total)
    progress.show(50)
    progress.clear()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("chunk", "times"),
    [
        (b"", (0, 0)),
        (b"type=X msg=audit(12.345:6): a\n", (12345, 12345)),
        (b"type=X msg=audit(1.000:6): a\ntype=X msg=audit(2.500:7): b\ntype=X msg=aud", (1000, 2500)),
        (b"type=X msg=audit(1.000:6): a\nmsg=audit(x) msg=audit(", (1000, 1000)),
        (b"msg=audit(bad msg=audit(3.001:9): ", (3001, 3001)),
        (b"msg=audit(" * 100_000, (0, 0)),
    ],
)
def test_record_times(chunk: bytes, times: tuple[int, int]) -> None:
    assert record_times_ms(chunk) == times


def test_main_reads_the_words_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["audito", "--version"])
    assert main() == 0
    assert capfd.readouterr().out == f"audito {__version__}\n"
