"""The command line: words → configuration → the part that does the work, and its outcome → an exit code.

Exit codes: 0, 1 for a failure at run time, 2 for a command line, environment or file that cannot be meant. What a
command needs is imported when it runs: ``--help`` needs neither the compiled core nor systemd.
"""

from __future__ import annotations

import logging
import os
import re
import select
import shlex
import stat
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from audito import __version__
from audito.config import (
    STANDARD_STREAM,
    Config,
    DoctorConfig,
    Replay,
    core_settings,
    headings,
    load,
    load_doctor,
    load_replay,
    parse_flags,
    rows,
)
from audito.errors import AuditoError, SinkError, SourceError, UsageError
from audito.text import printable
from audito.values import LEVELS, LogLevel, SshdFormat, nearest

if TYPE_CHECKING:
    from msgspec import Struct

    from audito.core import Core

STANDARD_INPUT, STANDARD_OUTPUT = 0, 1

DECODE_READ_BYTES = 1 << 20
"""A pipe that was enlarged to the usual limit is emptied by one read."""

REPLAY_READ_BYTES = 256 << 10
"""Small enough that a read of an idle host's log spans minutes, not hours, large enough to cost nothing."""

HELP_COLUMNS = 110
PROGRESS_INTERVAL_S = 0.1

RUN_USAGE = """\
audito: who logged in over SSH, and what they did, as JSON events

usage: audito [run] [flags]                   watch this host
       audito decode [FILE...|-]              audit records in, one JSON object an event out, nothing joined
       audito replay --audit FILE|DIR... [--sshd FILE] [flags]
                                              what run would have written, from saved logs
       audito doctor [--json] [--write-rules [PATH]] [flags of run]
                                              what this host lacks for run, and the commands that mend it
       audito decode|replay|doctor --help, audito --version

Each flag of run has one dash or two, and is also an environment variable and a key of the TOML file of --config:
--join-window 2m, AUDITO_JOIN_WINDOW=2m, join-window = "2m". A flag is stronger than a variable, a variable than the
file, the file than the default. An empty value stands for the default. Times are written as 500ms, 1s, 1m30s.
SIGHUP reads the settings again and opens output and logs anew.
The word namedpipe in place of run is --namedpipe. Exit codes: 1 for a failure at run time, 2 for wrong usage, else 0.
"""

DECODE_USAGE = """\
usage: audito decode [FILE|DIR...|-]

Reads audit records from the files, one after the other, or from standard input (-, or no file). A directory stands
for its audit.log and rotated files, oldest first. Writes one JSON object for each audit event, nothing joined:
seq ts type ses result action how object process records.
"""

REPLAY_USAGE = """\
usage: audito replay --audit FILE|DIR... [--sshd FILE] [flags]

Writes what audito run would have written, from saved logs. The same logs and flags give the same bytes each time;
the host's name and machine id are this host's where --host and --machine-id do not say otherwise.
"""


DOCTOR_USAGE = """\
usage: audito doctor [--json] [--sshd-config FILE] [flags of run]
       audito doctor --write-rules [PATH]

Looks at this host for what audito run needs with these settings. Each line is ok, a warning, or something missing, and
names the commands that mend it. Changes nothing. To be run as root, on the host itself and not in a container.
With --write-rules it looks at nothing, and prints audit rules, or writes them to PATH, a file or a directory.
Exit codes: 1 when something is missing, 2 for wrong usage, else 0.
"""


class ReaderGone(Exception):  # noqa: N818  # it ends a command quietly, and is no error
    """Whoever read our standard output has seen enough, as ``head`` does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. ``argv``: without the program's name; ``sys.argv`` when None."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _command(words)
    except ReaderGone:
        return 0
    except AuditoError as error:
        return _complain(str(error), error.exit_code)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt:
        return 130  # as a shell tells SIGINT; the daemon handles it and ends with 0


def _command(words: list[str]) -> int:
    """Do what the first word says; ``run`` where it is a flag or absent."""
    name = words.pop(0) if words and not words[0].startswith("-") else "run"
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name}{nearest(name, COMMANDS)}")
    return COMMANDS[name](words)


def _complain(message: str, exit_code: int) -> int:
    """Say one line on standard error; gives the exit code."""
    sys.stderr.write(f"audito: {printable(message)}\n")
    return exit_code


def _run(words: list[str]) -> int:
    """``audito run``: watch this host until a signal says stop."""
    if asked := _asked(words, Config, RUN_USAGE):
        return _say(asked)
    cwd = os.getcwd()

    def read() -> Config:
        return load(words, os.environ, hostname=os.uname().nodename, cwd=cwd)

    config = read()
    start_logging(config.daemon.log_level, sys.stderr)

    from audito import daemon, service

    return daemon.run(config, read, service.connect(os.environ, os.getpid()))


def _run_namedpipe(words: list[str]) -> int:
    """``audito namedpipe``, as the Go daemon's mode of that name was started."""
    return _run(["--namedpipe", *words])


def _decode(words: list[str]) -> int:
    """``audito decode``: audit records in, one JSON object an event out."""
    if asked := _asked(words, None, DECODE_USAGE):
        return _say(asked)
    paths = parse_flags(words, None, os.getcwd()).rest or [STANDARD_STREAM]

    from audito.core import decode

    output = Output(STANDARD_STREAM, inputs=())
    logs = Logs(_log_paths(paths), DECODE_READ_BYTES, is_live=True)
    for lines in decode(iter(logs.read, b"")):
        output.write(lines)
    return 0


def _replay(words: list[str]) -> int:
    """``audito replay``: the daemon's core over saved logs, at full speed."""
    if asked := _asked(words, Replay, REPLAY_USAGE):
        return _say(asked)
    replay = load_replay(words, os.environ, hostname=os.uname().nodename)
    audit = Logs(_log_paths(replay.inputs.audit), REPLAY_READ_BYTES)
    sshd = Logs([replay.inputs.sshd] if replay.inputs.sshd else [], REPLAY_READ_BYTES)
    inputs = (*audit.paths, *sshd.paths)
    output = Output(replay.output.path, inputs)
    rejects = Output(replay.output.reject_log, inputs) if replay.output.reject_log else None

    from audito.core import Core

    core = Core(core_settings(replay.host, replay.events, replay.rules), rejects.write_reject if rejects else None)
    progress = Progress(sys.stderr, audit.bytes_total + sshd.bytes_total)
    try:
        for count in replay_steps(core, audit, sshd, replay.inputs.sshd_format):
            if lines := core.take():
                progress.clear()
                output.write(lines)
            progress.show(count)
    finally:
        progress.clear()
    _tell_rejected(core.counters(), replay.output.reject_log)
    _tell_filtered(core.counters(), [rule.name for rule in replay.rules.filters])
    return 0


def _doctor(words: list[str]) -> int:
    """``audito doctor``: what this host lacks, or the audit rules that it needs."""
    if asked := _asked(words, DoctorConfig, DOCTOR_USAGE):
        return _say(asked)
    config = load_doctor(words, os.environ, hostname=os.uname().nodename)

    from audito import auditctl, doctor

    if config.doctor.write_rules:
        rules = auditctl.rules_text(os.uname().machine)
        if config.doctor.write_rules == STANDARD_STREAM:
            return _say(rules)
        doctor.write_rules(config.doctor.write_rules, rules)
        return 0
    report = doctor.examine(doctor.Host(program=_program()), config)
    if config.doctor.json:
        _say(doctor.as_json(report))
    else:
        doctor.show(report, sys.stdout)
    return 0 if report.ok else 1


def _program() -> str:
    """How a root shell starts this program: what sudo finds on its PATH need not be it."""
    name = os.path.basename(sys.argv[0])
    if name == "__main__.py":
        return shlex.join((sys.executable, "-m", "audito"))
    return shlex.quote(os.path.abspath(sys.argv[0])) if "/" in sys.argv[0] else "audito"


def _tell_rejected(counters: Mapping[str, int], reject_log: str) -> None:
    """Say how many lines were no records at all: somebody may have named the wrong file."""
    no_sshd_line = ("sshd_no_envelope", "sshd_too_long")
    count = sum(number for name, number in counters.items() if name.startswith("reject_") or name in no_sshd_line)
    if count:
        where = f"are in {reject_log}" if reject_log else "can be had with --reject-log FILE"
        _complain(f"lines that are no records: {count}; they {where}", 0)


def _tell_filtered(counters: Mapping[str, int], filters: Sequence[str]) -> None:
    """Say how many actions each filter decided: saved logs are where one tries them."""
    if filters:
        hits = ", ".join(f"{name} {counters[f'filter_hits_{name}']}" for name in filters)
        _complain(f"actions that filters decided: {hits}; dropped: {counters['actions_dropped']}", 0)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "decode": _decode,
    "replay": _replay,
    "doctor": _doctor,
    "namedpipe": _run_namedpipe,
}


def _asked(words: Sequence[str], kind: type[Struct] | None, usage: str) -> str:
    """The text that the command line asks for in place of work: help or the version; "" for none."""
    asked = parse_flags(words, kind, os.getcwd()).asked
    if asked == "version":
        return f"audito {__version__}\n"
    return usage + (_flags_text(kind) if kind else "") if asked else ""


def _say(text: str) -> int:
    Output(STANDARD_STREAM, inputs=()).write(text.encode())
    return 0


def _flags_text(kind: type[Struct]) -> str:
    """Every flag of a command by group: what it does, its other names, its default."""
    wrapper = textwrap.TextWrapper(HELP_COLUMNS, initial_indent=" " * 8, subsequent_indent=" " * 8)
    wrapper.break_on_hyphens = False
    lines: list[str] = []
    group = ""
    for row in rows(kind):
        if row.group != group:
            group = row.group
            heading = headings(kind)[group]
            lines += ["", heading.title, *textwrap.wrap(heading.note, HELP_COLUMNS, break_on_hyphens=False)]
        setting = row.setting
        names = [f"--{name}" for name in setting.names]
        lines.append(f"  {names[0]}" if setting.is_switch else f"  {names[0]} {setting.value}")
        others = f" Also {' and '.join(names[1:])}." if names[1:] else ""
        default = setting.default_text(row.default)
        lines += wrapper.wrap(f"{setting.help}{others}" + (f" [default: {default}]" if default else ""))
    return "\n".join(lines) + "\n"


class LineFormatter(logging.Formatter):
    """A message is one line: time, level, text, whatever the text holds (user names come from the network)."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += ": " + self.formatException(record.exc_info)
        seconds, milliseconds = divmod(int(record.created * 1000), 1000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return f"{stamp}.{milliseconds:03d}Z {LEVEL_WORDS[min(record.levelno // 10, 5)]} {printable(text)}"


LEVEL_WORDS = ("debug", "debug", "info", "warn", "error", "fatal")
"""By the tens of logging's numbers."""


def start_logging(level: LogLevel, stream: TextIO) -> None:
    """Log to the stream from this level on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)


def _log_paths(paths: Sequence[str]) -> list[str]:
    """The files to read, a directory standing for its log files. Errors: SourceError, OSError; both name the path."""
    from audito.sources.directory import log_files

    found: list[str] = []
    for path in paths:
        if path != STANDARD_STREAM and stat.S_ISDIR(os.stat(path).st_mode):
            names = [str(name) for name in log_files(Path(path))]
            if not names:
                raise SourceError(f"{path}: there is no audit.log in it")
            found += names
        else:
            found.append(path)
    return found


class Logs:
    """Saved logs, read one after the other as one stream of bytes.

    ``is_live``: give what a pipe has now, not only when a whole read has come together. ``bytes_total``: of those
    that know their size; ``bytes_read``: so far; ``ended``: there is no more.
    """

    def __init__(self, paths: Sequence[str], read_bytes: int, *, is_live: bool = False) -> None:
        self.paths = tuple(paths)
        self.bytes_total = sum(os.stat(path).st_size for path in paths if path != STANDARD_STREAM)
        self.bytes_read = 0
        self.ended = not paths
        self._chunks = self._read_all(read_bytes, is_live)

    def read(self) -> bytes:
        """The next bytes, as many as asked for or up to the end of a file; b"" once ended. Errors: SourceError."""
        chunk = next(self._chunks, b"")
        self.ended = not chunk
        self.bytes_read += len(chunk)
        return chunk

    def _read_all(self, read_bytes: int, is_live: bool) -> Iterator[bytes]:
        last = b""
        for path in self.paths:
            if last and not last.endswith(b"\n"):
                last = b"\n"  # a file cut in its last line: the next one's first line is not its rest
                yield last
            try:
                with open_input(path) as file:
                    # read() waits for all that was asked for also from a pipe: where a chunk ends must not depend
                    # on how fast somebody writes, or a replay would not be the same each time.
                    read = file.read1 if is_live else file.read
                    while chunk := read(read_bytes):
                        last = chunk
                        yield chunk
            except OSError as error:
                raise SourceError(f"{path}: {error.strerror}") from error


def open_input(path: str) -> BufferedReader:
    """The file, or standard input for "-"."""
    is_stdin = path == STANDARD_STREAM
    return open(STANDARD_INPUT if is_stdin else path, "rb", closefd=not is_stdin)


class Output:
    """Where a command writes: standard output, or a file that is written anew.

    ``inputs``: paths that it must not be, since they would be emptied before they are read. Errors: SinkError.
    """

    def __init__(self, path: str, inputs: Sequence[str]) -> None:
        self._name = "standard output" if path == STANDARD_STREAM else path
        self._fd = STANDARD_OUTPUT if path == STANDARD_STREAM else self._open(path, inputs)

    @staticmethod
    def _open(path: str, inputs: Sequence[str]) -> int:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
            status = os.fstat(fd)
            if any(os.path.samestat(status, os.stat(name)) for name in inputs if name != STANDARD_STREAM):
                raise UsageError(f"{path} is an input, and would be written over")
            if stat.S_ISREG(status.st_mode):
                os.ftruncate(fd, 0)
        except OSError as error:
            raise SinkError(f"{path}: {error.strerror}") from error
        return fd

    def write(self, data: bytes) -> None:
        """Write all of it. Errors: ReaderGone, SinkError."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                select.select((), (self._fd,), ())  # standard output is shared, and somebody made it non-blocking
            except BrokenPipeError as error:
                raise ReaderGone from error
            except OSError as error:
                raise SinkError(f"{self._name}: {error.strerror}") from error

    def write_reject(self, line: bytes, reason: str) -> None:
        """Copy a line that is no record; why it is none is counted, the copy can be fed again."""
        self.write(line + b"\n")


class Progress:
    """A bar of one line on a terminal; nothing where there is none, or where the size of the work is not known."""

    def __init__(self, stream: TextIO, bytes_total: int) -> None:
        self._stream = stream
        self._bytes_total = bytes_total
        self._is_on = stream.isatty() and bytes_total > 0
        self._is_drawn = False
        self._drawn_at_s = 0.0

    def show(self, bytes_done: int) -> None:
        """Draw the bar, at most every PROGRESS_INTERVAL_S."""
        if self._is_on and time.monotonic() - self._drawn_at_s >= PROGRESS_INTERVAL_S:
            self._is_drawn = True
            self._drawn_at_s = time.monotonic()
            percent = min(100, 100 * bytes_done // self._bytes_total)
            self._stream.write(f"\r[{'#' * (percent * 2 // 5):<40}] {percent:3d}%")
            self._stream.flush()

    def clear(self) -> None:
        """Take the bar away, before lines go to what may be the same terminal."""
        if self._is_drawn:
            self._is_drawn = False
            self._stream.write("\r\x1b[K")
            self._stream.flush()


RECORD_TIME = re.compile(rb"msg=audit\(([0-9]{1,12})\.([0-9]{3}):")
"""Where a record says its time; enough to see how far a read goes, what it means is the core's to say."""


def record_times_ms(chunk: bytes) -> tuple[int, int]:
    """The times of the first and the last record that say one; zeros where none does."""
    first = RECORD_TIME.search(chunk)
    if first is None:
        return 0, 0
    last = first
    at = chunk.rfind(b"msg=audit(")
    while at > first.start():
        if match := RECORD_TIME.match(chunk, at):
            last = match
            break
        at = chunk.rfind(b"msg=audit(", 0, at)
    return int(first[1] + first[2]), int(last[1] + last[2])


def replay_steps(core: Core, audit: Logs, sshd: Logs, sshd_format: SshdFormat) -> Iterator[int]:
    """Feed both logs to the core, neither running far ahead; yields after each step how many bytes were read.

    Login lines go before the audit records of their time, and whenever the core misses them. Only bytes and their
    order decide, so that the same logs give the same events.
    """
    chunk = audit.read()
    first_ms, end_ms = record_times_ms(chunk)
    while chunk or not sshd.ended:
        now_us = (core.audit_clock_ms or first_ms) * 1000
        if not sshd.ended and (not chunk or core.audit_paused or _sshd_is_behind(core, audit, sshd, end_ms)):
            core.feed_sshd(sshd.read(), sshd_format, now_us)
        else:  # also when paused: no login line is to come, and the core gives up what waited longest
            core.feed_audit(chunk)
            chunk = audit.read()
            end_ms = max(end_ms, record_times_ms(chunk)[1])
        yield audit.bytes_read + sshd.bytes_read
    core.flush()
    yield audit.bytes_read + sshd.bytes_read


def _sshd_is_behind(core: Core, audit: Logs, sshd: Logs, audit_end_ms: int) -> bool:
    """Whether login lines are the next to feed: by their time, or by the share read where they say none."""
    if core.sshd_clock_ms:
        return core.sshd_clock_ms <= audit_end_ms
    return sshd.bytes_read * audit.bytes_total <= audit.bytes_read * sshd.bytes_total
