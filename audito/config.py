"""Every setting of audito, and the one place where flags, environment and TOML meet.

A setting is one annotated field of one struct: its default is the field's, its names, help and grammar are in the
:class:`Setting` beside it. A name is the same everywhere: ``--join-window 2m``, ``AUDITO_JOIN_WINDOW=2m`` and
``join-window = "2m"`` are one setting. Precedence: flag, environment, file of ``--config``, default. Nothing here
reads ``sys.argv`` or ``os.environ``: both come in as arguments, so that a reload is a second call.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from msgspec import Struct
from msgspec.structs import fields, replace

from audito.errors import UsageError
from audito.events import CONTEXT, EVENT_TYPES, UNKNOWN
from audito.filters import FILTERS_MAX, Filter, line_of_table, parse_filter
from audito.redact import ALL, OwnPattern, Redaction, check_own_patterns, parse_own_names, parse_own_pattern
from audito.sources import Format
from audito.tables.secrets import ROW_NAMES
from audito.values import (
    HTTP_PORT,
    NO_CONTEXT,
    LogLevel,
    SshdFormat,
    duration_text,
    nearest,
    parse_address,
    parse_bool,
    parse_boot_id,
    parse_context,
    parse_count,
    parse_duration_ms,
    parse_event_types,
    parse_level,
    parse_path,
    parse_positive_duration_ms,
    parse_redact_off,
    parse_spool_bytes,
    parse_sshd_format,
    parse_text,
    parse_time_zone,
)

if TYPE_CHECKING:
    from audito.core import CoreSettings

STANDARD_STREAM = "-"
"""As a path: standard input of an input, standard output of the output."""

ENVIRONMENT_PREFIX = "AUDITO_"
VARIABLES_OF_OTHERS = tuple(
    "AUDITO_DEBUG AUDITO_SANITIZE AUDITO_WERROR AUDITO_E2E AUDITO_E2E_ARGV AUDITO_E2E_PASSWORD AUDITO_FUZZ"
    " AUDITO_GAP_RECORDS AUDITO_GOLDEN_WRITE AUDITO_IMAGE AUDITO_KILLS AUDITO_PROFILE AUDITO_PYTHON AUDITO_SEED"
    " AUDITO_SHARED AUDITO_TORTURE".split()
)
"""Read by the build and the tests, and no settings."""

# Kubernetes gives every pod such variables for every Service of its namespace: one that is named "audito" or
# "audito-maldito" must not keep the daemon from starting.
SERVICE_VARIABLE = re.compile(r"AUDITO(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")

APP_DIRECTORY = "/app-audit"
AUDIT_PIPE = APP_DIRECTORY + "/audit-pipe"
SSHD_PIPE = APP_DIRECTORY + "/sshd-pipe"
SYSLOG_PATHS = ("/var/log/secure", "/var/log/auth.log")
BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"
NO_BOOT_ID = "00000000-0000-0000-0000-000000000000"
"""The boot of a replay that names none: saved logs do not say which boot they are from."""

JOURNAL_PATTERNS = ("/run/log/journal/*/*.journal", "/var/log/journal/*/*.journal")
"""Files, not directories: Debian makes an empty /var/log/journal where no journal daemon ever ran."""

POD_VARIABLE = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every pod."""


class Setting(Struct, frozen=True, kw_only=True):
    """What there is to know of a setting beside its type and default.

    ``names``: the first is its name, the others are older names or those of the Go daemon; flag, variable and key
    are spelt from them. ``variables``: names of others' environment variables, each weaker than our own.
    ``rivals``: of the settings with the same word here only one can be meant. ``default``: the words for a default
    that is worked out. ``repeated``: the flag may come again, and may take several values; a variable has one a line.
    ``bare``: the value of the flag without one. ``in_file``: can stand in the TOML file. ``of_table``: gives the words
    of a TOML table, where a value may be one. ``live``: SIGHUP can change it; the others need a restart.
    """

    names: tuple[str, ...]
    help: str
    parse: Callable[[str], Any] = parse_text
    value: str = "TEXT"
    variables: tuple[str, ...] = ()
    rivals: str = ""
    default: str = ""
    repeated: bool = False
    bare: str = ""
    in_file: bool = True
    live: bool = False
    of_table: Callable[[Mapping[str, object]], str] | None = None

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def is_switch(self) -> bool:
        return self.parse is parse_bool

    def default_text(self, default: Any) -> str:
        """The words for the field's default in ``--help``; "" where the default is to have none, or to be off."""
        if self.default:
            return self.default
        if self.parse in (parse_duration_ms, parse_positive_duration_ms):
            return duration_text(default)
        return str(default) if default else ""


class Inputs(Struct, frozen=True, kw_only=True):
    """Where audit records and sshd lines come from; :func:`audit_source` and :func:`sshd_source` decide."""

    audit_dir: Annotated[
        str,
        Setting(
            names=("audit-dir-path",),
            value="DIR",
            parse=parse_path,
            help="Read audit records from audit.log and its rotated files here; the check below looks here too.",
        ),
    ] = "/var/log/audit"
    audit_pipe: Annotated[
        str,
        Setting(
            names=("auditd-pipe-path", "auditd-log-file-path"),
            value="PIPE",
            parse=parse_path,
            help="Read audit records from this named pipe and not from the directory.",
        ),
    ] = ""
    sshd_pipe: Annotated[
        str,
        Setting(
            names=("sshd-pipe-path", "sshd-log-file-path"),
            value="PIPE",
            parse=parse_path,
            rivals="sshd",
            help='Read sshd lines, each "PID MESSAGE", from this named pipe.',
        ),
    ] = ""
    sshd_log: Annotated[
        str,
        Setting(
            names=("sshd-log-path",),
            value="FILE",
            parse=parse_path,
            rivals="sshd",
            help="Read sshd lines from this syslog file.",
        ),
    ] = ""
    journal_dir: Annotated[
        str,
        Setting(
            names=("journal-dir",),
            value="DIR",
            parse=parse_path,
            rivals="sshd",
            help="Read sshd lines from the journal files in this directory.",
        ),
    ] = ""
    namedpipe: Annotated[
        bool,
        Setting(
            names=("namedpipe",),
            parse=parse_bool,
            help=f"Read {AUDIT_PIPE} and {SSHD_PIPE} where no other pipe or sshd input is named.",
        ),
    ] = False


REJECT_LOG = Setting(
    names=("reject-log",),
    value="FILE",
    live=True,
    parse=parse_path,
    default="none, they are only counted",
    help="Copy input lines that are no records to this file.",
)


class Output(Struct, frozen=True, kw_only=True):
    """Where events go. ``path`` is never empty in what :func:`load` gives."""

    path: Annotated[
        str,
        Setting(
            names=("output", "audit-log-path", "app-events-output"),
            value="PATH",
            parse=parse_path,
            default=f'{APP_DIRECTORY}/audit.log where {APP_DIRECTORY} exists, else "-", standard output',
            help='Write events to this file or named pipe, or to standard output ("-").',
        ),
    ] = ""
    reject_log: Annotated[str, REJECT_LOG] = ""


class Events(Struct, frozen=True, kw_only=True):
    """What is written, and how long the two halves of a login wait for each other."""

    types: Annotated[
        tuple[str, ...],
        Setting(
            names=("event-types",),
            value="LIST",
            live=True,
            parse=parse_event_types,
            default="all of them",
            help="Write only these types of event, with commas between them: " + ", ".join(EVENT_TYPES) + ".",
        ),
    ] = EVENT_TYPES
    context: Annotated[
        tuple[str, ...],
        Setting(
            names=("context",),
            value="LIST",
            live=True,
            parse=parse_context,
            default="all of them",
            help=f"Of {', '.join(CONTEXT)} add only these to actions, with commas between them, or {NO_CONTEXT}.",
        ),
    ] = CONTEXT
    join_window_ms: Annotated[
        int,
        Setting(
            names=("join-window",),
            value="TIME",
            live=True,
            parse=parse_positive_duration_ms,
            help="How long the audit session and the login line of one login wait for each other.",
        ),
    ] = 120_000


class Rules(Struct, frozen=True, kw_only=True):
    """What of a session's actions is written, and what of them is hidden."""

    filters: Annotated[
        tuple[Filter, ...],
        Setting(
            names=("filter",),
            value="RULE",
            parse=parse_filter,
            repeated=True,
            of_table=line_of_table,
            default="none, every action is written",
            live=True,
            help='Write or leave out actions: "drop NAME KEY=GLOB..." or "keep NAME KEY=GLOB..."; the first rule whose'
            " keys all fit decides. Keys: action, object-type, object, exe, key, uid, logged-as, user-id.",
        ),
    ] = ()
    redact_off: Annotated[
        tuple[str, ...],
        Setting(
            names=("redact-off",),
            value="LIST",
            parse=parse_redact_off,
            default="none, all of them hide secrets",
            live=True,
            help=f"Switch off these built-in patterns for secrets, or {ALL}: " + ", ".join(ROW_NAMES) + ".",
        ),
    ] = ()
    redact_names: Annotated[
        tuple[str, ...],
        Setting(
            names=("redact-names",),
            value="LIST",
            parse=parse_own_names,
            live=True,
            help="Hide the values of more options, variables and keys with these names.",
        ),
    ] = ()
    redact_patterns: Annotated[
        tuple[OwnPattern, ...],
        Setting(
            names=("redact-pattern",),
            value="NAME=REGEX",
            parse=parse_own_pattern,
            repeated=True,
            live=True,
            help="Hide what this regular expression (RE2) matches, or its group (?P<secret>...), in any argument.",
        ),
    ] = ()


class Host(Struct, frozen=True, kw_only=True):
    """What events say of where they happened. ``name`` is never empty in what :func:`load` gives; ids may be."""

    name: Annotated[
        str,
        Setting(
            names=("host",),
            value="NAME",
            variables=("NODE_NAME",),
            default="NODE_NAME, else the hostname",
            help="The name of the host.",
        ),
    ] = ""
    machine_id: Annotated[
        str,
        Setting(
            names=("machine-id",),
            value="ID",
            default="what the next file holds",
            help="The machine id.",
        ),
    ] = ""
    machine_id_path: Annotated[
        str,
        Setting(
            names=("machine-id-path",),
            value="FILE",
            parse=parse_path,
            help="Read the machine id from this file.",
        ),
    ] = "/etc/machine-id"
    boot_id: Annotated[
        str,
        Setting(
            names=("boot-id",),
            value="ID",
            parse=parse_boot_id,
            default="the current boot; in a replay none, all zeros",
            help="The boot that sessions belong to, and whose journal entries are read.",
        ),
    ] = ""
    syslog_time_zone: Annotated[
        str,
        Setting(
            names=("syslog-time-zone",),
            value="ZONE",
            parse=parse_time_zone,
            default="this host's own",
            help="The zone of the times in a syslog file that name none, as in Europe/Berlin.",
        ),
    ] = ""


class State(Struct, frozen=True, kw_only=True):
    """Where the daemon remembers."""

    directory: Annotated[
        str,
        Setting(
            names=("state-dir",),
            value="DIR",
            parse=parse_path,
            help="Keep what was read and the live sessions here, so that a restart goes on where it stopped.",
        ),
    ] = "/var/run/audito-maldito"
    spool_bytes: Annotated[
        int,
        Setting(
            names=("spool",),
            value="SIZE",
            parse=parse_spool_bytes,
            default="0, none",
            help="Keep what comes through named pipes in up to SIZE (as in 64MiB) each of the state directory, until "
            "its events are written.",
        ),
    ] = 0


class Http(Struct, frozen=True, kw_only=True):
    """The server of metrics and health; none runs where both are off. A timeout of 0 is none."""

    metrics: Annotated[
        bool,
        Setting(names=("metrics",), parse=parse_bool, live=True, help="Serve Prometheus metrics at /metrics."),
    ] = False
    healthz: Annotated[
        bool,
        Setting(names=("healthz",), parse=parse_bool, live=True, help="Serve /readyz and /livez."),
    ] = False
    address: Annotated[
        str,
        Setting(
            names=("http-address",),
            value="HOST:PORT",
            live=True,
            parse=parse_address,
            default=f"127.0.0.1:{HTTP_PORT}; in a pod :{HTTP_PORT}, all addresses",
            help="Listen here.",
        ),
    ] = ""
    read_timeout_ms: Annotated[
        int,
        Setting(
            names=("http-server-read-timeout",),
            value="TIME",
            live=True,
            parse=parse_duration_ms,
            help="Drop a client that takes longer to send its request; 0 is never.",
        ),
    ] = 1_000
    read_header_timeout_ms: Annotated[
        int,
        Setting(
            names=("http-server-read-header-timeout",),
            value="TIME",
            live=True,
            parse=parse_duration_ms,
            help="Drop a client that takes longer to send the head of its request; 0 is never.",
        ),
    ] = 5_000

    @property
    def listen(self) -> tuple[str, int]:
        """Host and port to listen on; the host "" is all addresses."""
        host, _, port = self.address.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)


class AuditCheck(Struct, frozen=True, kw_only=True):
    """The look at the age of audit.log in ``inputs.audit_dir``, also where records come through a pipe."""

    enabled: Annotated[
        bool,
        Setting(names=("audit-metrics",), parse=parse_bool, live=True, help="Look how old audit.log is, for /metrics."),
    ] = False
    interval_ms: Annotated[
        int,
        Setting(
            names=("audit-seconds-interval",),
            value="TIME",
            live=True,
            parse=parse_positive_duration_ms,
            help="How often to look.",
        ),
    ] = 15_000
    modified_threshold_s: Annotated[
        int,
        Setting(
            names=("audit-log-last-modify-seconds-threshold",),
            value="SECONDS",
            live=True,
            parse=parse_count,
            help="How many seconds after the last write audit.log is too old.",
        ),
    ] = 86_400


class Daemon(Struct, frozen=True, kw_only=True):
    """How the process itself runs."""

    log_level: Annotated[
        LogLevel,
        Setting(
            names=("log-level",),
            value="LEVEL",
            live=True,
            parse=parse_level,
            help="Log to standard error from this level on: " + ", ".join(get_args(LogLevel)) + ".",
        ),
    ] = "info"
    user: Annotated[
        str,
        Setting(
            names=("user",),
            value="NAME",
            default="who started it",
            help="Give up root for this user once inputs and output are open.",
        ),
    ] = ""
    file: Annotated[
        str,
        Setting(
            names=("config",),
            value="FILE",
            parse=parse_path,
            in_file=False,
            help="Read settings from this TOML file.",
        ),
    ] = ""


class Heading(Struct, frozen=True):
    """The title of a group in ``--help``, and a word on what holds for all of it."""

    title: str
    note: str = ""


STANDARD_INPUT_NOTE = 'The path "-" is standard input.'
SSHD_NOTE = (
    " Where no source of sshd lines is named, they come from the host's journal where there is one, else from "
    + " or ".join(SYSLOG_PATHS)
    + "."
)
RULES_NOTE = "Both concern what is done in sessions (UserAction), not logins, logouts, conflicts and gaps."


class Config(Struct, frozen=True, kw_only=True):
    """All that ``audito run`` is told. Made by :func:`load`: paths are absolute, what is worked out is filled in."""

    inputs: Annotated[Inputs, Heading("Inputs", STANDARD_INPUT_NOTE + SSHD_NOTE)] = Inputs()
    output: Annotated[Output, Heading("Output")] = Output()
    events: Annotated[Events, Heading("Events")] = Events()
    rules: Annotated[Rules, Heading("Filters and redaction", RULES_NOTE)] = Rules()
    host: Annotated[Host, Heading("Host", "What events say of where they happened.")] = Host()
    state: Annotated[State, Heading("State")] = State()
    http: Annotated[Http, Heading("HTTP")] = Http()
    audit_check: Annotated[AuditCheck, Heading("Check of the audit log")] = AuditCheck()
    daemon: Annotated[Daemon, Heading("Daemon")] = Daemon()


class Doctor(Struct, frozen=True, kw_only=True):
    """What ``audito doctor`` is told beside the settings of the daemon that it looks at the host for."""

    json: Annotated[
        bool,
        Setting(names=("json",), parse=parse_bool, help="Print the report as JSON."),
    ] = False
    write_rules: Annotated[
        str,
        Setting(
            names=("write-rules",),
            value="[PATH]",
            parse=parse_path,
            bare=STANDARD_STREAM,
            help="Look at nothing, and print the audit rules that audito needs, or write them to this file.",
        ),
    ] = ""
    sshd_config: Annotated[
        str,
        Setting(
            names=("sshd-config",),
            value="FILE",
            parse=parse_path,
            default="sshd's own, /etc/ssh/sshd_config",
            help="The configuration that sshd is started with.",
        ),
    ] = ""


class DoctorConfig(Config, frozen=True, kw_only=True):
    """All that ``audito doctor`` is told. Its own settings are flags only; the daemon's come from wherever they are."""

    doctor: Annotated[Doctor, Heading("Doctor")] = Doctor()


class ReplayInputs(Struct, frozen=True, kw_only=True):
    """The saved logs of a replay."""

    audit: Annotated[
        tuple[str, ...],
        Setting(
            names=("audit",),
            value="FILE|DIR...",
            parse=parse_path,
            repeated=True,
            help="Read audit records from these files, a directory standing for its audit.log files, oldest first.",
        ),
    ] = ()
    sshd: Annotated[
        str,
        Setting(
            names=("sshd",),
            value="FILE",
            parse=parse_path,
            help="Read sshd lines from this file.",
        ),
    ] = ""
    sshd_format: Annotated[
        SshdFormat,
        Setting(
            names=("sshd-format",),
            value="FORM",
            parse=parse_sshd_format,
            help="The form of the sshd lines: " + ", ".join(get_args(SshdFormat)) + ".",
        ),
    ] = "auto"


class ReplayOutput(Struct, frozen=True, kw_only=True):
    """Where the events of a replay go."""

    path: Annotated[
        str,
        Setting(
            names=("output",),
            value="PATH",
            parse=parse_path,
            help='Write events to this file, anew each time, or to standard output ("-").',
        ),
    ] = STANDARD_STREAM
    reject_log: Annotated[str, REJECT_LOG] = ""


class Replay(Struct, frozen=True, kw_only=True):
    """All that ``audito replay`` is told. It heeds flags only: a live daemon's settings are none of a replay's."""

    inputs: Annotated[ReplayInputs, Heading("Inputs", STANDARD_INPUT_NOTE)] = ReplayInputs()
    output: Annotated[ReplayOutput, Heading("Output")] = ReplayOutput()
    events: Annotated[Events, Heading("Events")] = Events()
    rules: Annotated[Rules, Heading("Filters and redaction", RULES_NOTE)] = Rules()
    host: Annotated[Host, Heading("Host", "What events say of where they happened.")] = Host()


class Row(Struct, frozen=True):
    """One setting and where its value goes: ``config.<group>.<field>``."""

    group: str
    field: str
    default: Any
    setting: Setting


def _mark(hint: Any, kind: type) -> Any:
    """What of ``kind`` stands in the annotation beside the type. Errors: TypeError, a field without one."""
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, kind):
            return mark
    raise TypeError(f"{hint} has no {kind.__name__}")


@cache
def headings(kind: type[Struct]) -> dict[str, Heading]:
    """The heading of each group of Config or Replay, by the group's name."""
    return {group: _mark(hint, Heading) for group, hint in get_type_hints(kind, include_extras=True).items()}


@cache
def rows(kind: type[Struct]) -> tuple[Row, ...]:
    """Every setting of Config or Replay, in the order of ``--help``."""
    found = []
    for group in fields(kind):
        struct = type(group.default)
        hints = get_type_hints(struct, include_extras=True)
        found += [Row(group.name, f.name, f.default, _mark(hints[f.name], Setting)) for f in fields(struct)]
    return tuple(found)


def variable_of(name: str) -> str:
    """The environment variable of a setting's name."""
    return ENVIRONMENT_PREFIX + name.upper().replace("-", "_")


class Word(Struct, frozen=True):
    """One value as it was given. ``origin``: how messages name it; ``base``: where relative paths start."""

    text: str
    origin: str
    name: str
    base: str


Layer = dict[str, list[Word]]
"""What one of flags, environment and file gives, by the settings' first names."""


class Arguments(Struct, frozen=True):
    """A command line taken apart. ``asked`` is "help" or "version" where that is all that was wanted."""

    layer: Layer
    rest: list[str]
    asked: str = ""


def parse_flags(argv: Sequence[str], kind: type[Struct] | None, cwd: str) -> Arguments:
    """Take a command line apart: flags with one dash or two, values behind ``=`` or as the next word.

    Errors: UsageError for a flag that is not known, or that lacks its value.
    Source: Go's flag package, except that words which are no flags may stand anywhere.
    """
    known = {name: row.setting for row in (rows(kind) if kind else ()) for name in row.setting.names}
    layer: Layer = {}
    rest: list[str] = []
    words = list(reversed(argv))
    while words:
        word = words.pop()
        if word == "--":
            rest.extend(reversed(words))
            break
        if not word.startswith("-") or word == STANDARD_STREAM:
            rest.append(word)
            continue
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("-").removeprefix("-")
        if name in ("help", "h", "version") and name not in known:
            return Arguments(layer, rest, "version" if name == "version" else "help")
        if name not in known:
            dashes = flag[: len(flag) - len(name)]
            raise UsageError(f"unknown flag {flag}{nearest(name, known, dashes)}")
        values = [value] if equals else _following_values(flag, known[name], known, words)
        layer.setdefault(known[name].name, []).extend(Word(text, f"flag {flag}", name, cwd) for text in values)
    return Arguments(layer, rest)


def _following_values(flag: str, setting: Setting, known: Mapping[str, Setting], words: list[str]) -> list[str]:
    """Take the value of a flag off the words behind it (``words`` is in reverse order)."""
    if setting.is_switch:
        # Go's flag package ends at a bare "true" and forgets every flag behind it; what was meant is clear.
        return [words.pop() if words and words[-1] in ("true", "false") else "true"]

    def is_flag(word: str) -> bool:
        return word.startswith("-") and word.lstrip("-").partition("=")[0] in known

    if setting.bare and (not words or (words[-1].startswith("-") and words[-1] != STANDARD_STREAM)):
        return [setting.bare]
    if not words or is_flag(words[-1]):
        raise UsageError(f"flag {flag} needs a value: {flag} {setting.value}")
    values = [words.pop()]
    while setting.repeated and words and (not words[-1].startswith("-") or words[-1] == STANDARD_STREAM):
        values.append(words.pop())
    return values


def _our_variables(environ: Mapping[str, str], kind: type[Struct], cwd: str) -> Layer:
    """What AUDITO_ variables give; an empty one gives nothing. Errors: UsageError for one that is not known."""
    layer: Layer = {}
    known = {variable_of(name): (row.setting, name) for row in rows(kind) for name in row.setting.names}
    in_pod = POD_VARIABLE in environ
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in VARIABLES_OF_OTHERS:
            continue
        if variable in known:
            setting, name = known[variable]
            for line in text.splitlines() if setting.repeated else [text]:
                if line:
                    layer.setdefault(setting.name, []).append(Word(line, f"variable {variable}", name, cwd))
        elif not (in_pod and SERVICE_VARIABLE.fullmatch(variable)):
            names = [other.removeprefix(ENVIRONMENT_PREFIX) for other in known]
            near = nearest(variable.removeprefix(ENVIRONMENT_PREFIX).upper(), names, ENVIRONMENT_PREFIX)
            raise UsageError(f"unknown variable {variable}{near}")
    return layer


def _variables_of_others(environ: Mapping[str, str], kind: type[Struct], cwd: str) -> Layer:
    """What variables give that others set for reasons of their own, as NODE_NAME."""
    layer: Layer = {}
    for row in rows(kind):
        for variable in row.setting.variables:
            if environ.get(variable):
                layer[row.setting.name] = [Word(environ[variable], f"variable {variable}", row.setting.name, cwd)]
    return layer


def _file_layer(path: str, kind: type[Struct]) -> Layer:
    """What a TOML file gives; relative paths in it start at its own directory. Errors: UsageError."""
    import tomllib

    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: brackets in brackets, too many of them") from error
    known = {name: row for row in rows(kind) if row.setting.in_file for name in row.setting.names}
    layer: Layer = {}
    for key, value in document.items():
        name = key.replace("_", "-")
        if name not in known:
            raise UsageError(f"{path}: unknown key {key}{nearest(name, known)}")
        words = layer.setdefault(known[name].setting.name, [])
        for text, origin in _texts_of_toml(value, known[name], f"{path}: key {key}"):
            words.append(Word(text, origin, name, os.path.dirname(path)))
    return layer


def _texts_of_toml(value: object, row: Row, origin: str) -> Iterator[tuple[str, str]]:
    """The words of a TOML value with their origins: of a setting that may be repeated each item is one."""
    if not row.setting.repeated:
        yield _text_of_toml(value, row.default, origin), origin
        return
    for number, item in enumerate(value if isinstance(value, list) else [value], 1):
        where = f"{origin}, item {number}" if isinstance(value, list) else origin
        if isinstance(item, dict) and row.setting.of_table is not None:
            try:
                yield row.setting.of_table(item), where
            except ValueError as error:
                raise UsageError(f"{where}: {error}") from error
        else:
            yield _text_of_toml(item, "", where), where


def _text_of_toml(value: object, default: object, origin: str) -> str:
    """The words of a TOML value, in the one grammar that flags and variables have. Errors: UsageError, a wrong type."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) and isinstance(default, bool):
        return "true" if value else "false"
    if isinstance(value, int) and not isinstance(value, bool) and type(default) is int:
        return str(value)
    if isinstance(value, list) and isinstance(default, tuple) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    wanted = {bool: "true or false", int: "a number", tuple: "a list of strings"}.get(type(default), "a string")
    raise UsageError(f"{origin}: {type(value).__name__} {value} will not do; it takes {wanted}")


def _settle_rivals(kind: type[Struct], layers: Sequence[Layer]) -> None:
    """Of settings that exclude each other keep the one in the strongest layer. Errors: UsageError, two in one layer."""
    rivals: dict[str, list[str]] = {}
    for row in rows(kind):
        if row.setting.rivals:
            rivals.setdefault(row.setting.rivals, []).append(row.setting.name)
    for names in rivals.values():
        for depth, layer in enumerate(layers):
            claims = [layer[name][-1] for name in names if name in layer and layer[name][-1].text]
            if len(claims) > 1:
                raise UsageError(f"{claims[0].origin} and {claims[1].origin} exclude each other; give one of them")
            if claims:
                for weaker in layers[depth + 1 :]:
                    for name in names:
                        weaker.pop(name, None)
                break


def _value(row: Row, words: list[Word]) -> Any:
    """The value that the words of one layer give a setting. Errors: UsageError, naming the word's origin."""
    last = words[-1]
    for word in words:
        if word.name != last.name and word.text != last.text:
            raise UsageError(f"{word.origin} and {last.origin} are one setting and differ; give one of them")
    if row.setting.repeated:
        return tuple(_parsed(row.setting, word) for word in words if word.text)
    return _parsed(row.setting, last) if last.text else row.default


def _parsed(setting: Setting, word: Word) -> Any:
    try:
        value = setting.parse(word.text)
    except ValueError as error:
        raise UsageError(f"{word.origin}: {error}") from error
    if setting.parse is parse_path and value and value != STANDARD_STREAM:
        return os.path.abspath(os.path.join(word.base, value))
    return value


KindT = TypeVar("KindT", bound=Struct)
ConfigT = TypeVar("ConfigT", bound=Config)


def _build(kind: type[KindT], layers: Sequence[Layer]) -> KindT:
    """Put the strongest word for each setting into the structs."""
    _settle_rivals(kind, layers)
    groups: dict[str, dict[str, Any]] = {}
    for row in rows(kind):
        words = next((layer[row.setting.name] for layer in layers if row.setting.name in layer), None)
        if words is not None:
            groups.setdefault(row.group, {})[row.field] = _value(row, words)
    return replace(kind(), **{group: replace(getattr(kind(), group), **values) for group, values in groups.items()})


def load(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    hostname: str = "",
    cwd: str | None = None,
    exists: Callable[[str], bool] = os.path.exists,
) -> Config:
    """The configuration of ``audito run``: flags (without the command's word) over environment over file over default.

    ``hostname`` names the host where nothing else does; ``cwd`` is where relative paths start; ``exists`` is asked for
    /app-audit only. Errors: UsageError.
    """
    return _load(Config, argv, environ, hostname, cwd, exists)


def load_doctor(
    argv: Sequence[str], environ: Mapping[str, str], *, hostname: str = "", cwd: str | None = None
) -> DoctorConfig:
    """The same configuration for ``audito doctor``, with that command's own flags. Errors: UsageError."""
    return _load(DoctorConfig, argv, environ, hostname, cwd, os.path.exists)


def _load(
    kind: type[ConfigT],
    argv: Sequence[str],
    environ: Mapping[str, str],
    hostname: str,
    cwd: str | None,
    exists: Callable[[str], bool],
) -> ConfigT:
    cwd = os.getcwd() if cwd is None else cwd
    layers = [_flags_only(argv, kind, cwd), _our_variables(environ, Config, cwd)]
    layers.append(_variables_of_others(environ, Config, cwd))
    path = _build(kind, layers).daemon.file
    if path:
        layers.append(_file_layer(path, Config))
    config = _fill(_build(kind, layers), hostname, POD_VARIABLE in environ, exists)
    _refuse_loops(config)
    _refuse_twins(config.rules)
    return config


def load_replay(
    argv: Sequence[str], environ: Mapping[str, str], *, hostname: str = "", cwd: str | None = None
) -> Replay:
    """The settings of ``audito replay``, from its flags; of the environment it heeds only what names the host.

    A replay in the container of a live daemon must not write where that daemon writes. Errors: UsageError.
    """
    cwd = os.getcwd() if cwd is None else cwd
    replay = _build(Replay, [_flags_only(argv, Replay, cwd), _variables_of_others(environ, Replay, cwd)])
    _refuse_twins(replay.rules)
    if not replay.inputs.audit:
        raise UsageError("a replay needs --audit FILE|DIR...")
    if [*replay.inputs.audit, replay.inputs.sshd].count(STANDARD_STREAM) > 1:
        raise UsageError("standard input can be only one input")
    if replay.output.path == replay.output.reject_log:
        raise UsageError(f"output and reject-log are both {replay.output.path}; each needs its own")
    host = replace(replay.host, name=replay.host.name or hostname or UNKNOWN, boot_id=replay.host.boot_id or NO_BOOT_ID)
    return replace(replay, host=host)


def take_live(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """``old`` with what SIGHUP can change taken from ``new``, and the names of the other settings that differ."""
    groups: dict[str, dict[str, Any]] = {}
    others = []
    for row in rows(Config):
        value = getattr(getattr(new, row.group), row.field)
        if value == getattr(getattr(old, row.group), row.field):
            continue
        if row.setting.live:
            groups.setdefault(row.group, {})[row.field] = value
        else:
            others.append(row.setting.name)
    merged = replace(old, **{group: replace(getattr(old, group), **values) for group, values in groups.items()})
    return merged, tuple(others)


def _flags_only(argv: Sequence[str], kind: type[Struct], cwd: str) -> Layer:
    """The flags of a command that takes nothing else. Errors: UsageError."""
    arguments = parse_flags(argv, kind, cwd)
    if arguments.rest:
        raise UsageError(f'unexpected word "{arguments.rest[0]}" on the command line')
    return arguments.layer


def _fill(config: ConfigT, hostname: str, in_pod: bool, exists: Callable[[str], bool]) -> ConfigT:
    """Work out the defaults that depend on other settings or on where the daemon runs."""
    inputs, output, http = config.inputs, config.output, config.http
    if inputs.namedpipe:
        named = inputs.sshd_pipe or inputs.sshd_log or inputs.journal_dir
        inputs = replace(
            inputs, audit_pipe=inputs.audit_pipe or AUDIT_PIPE, sshd_pipe=inputs.sshd_pipe if named else SSHD_PIPE
        )
    if not output.path:
        # The Go daemon's two modes differ here: with pipes it writes to a file of another name.
        name = "app-events-output.log" if inputs.namedpipe else "audit.log"
        output = replace(output, path=f"{APP_DIRECTORY}/{name}" if exists(APP_DIRECTORY) else STANDARD_STREAM)
    if not http.address:
        # The kubelet and Prometheus come from outside of the pod.
        http = replace(http, address=f":{HTTP_PORT}" if in_pod else f"127.0.0.1:{HTTP_PORT}")
    host = replace(config.host, name=config.host.name or hostname or UNKNOWN)
    return replace(config, inputs=inputs, output=output, http=http, host=host)


def _refuse_loops(config: Config) -> None:
    """One path in two roles would feed the daemon its own output, or tear a stream in two. Errors: UsageError."""
    inputs, output = config.inputs, config.output
    roles = (
        ("auditd-pipe-path", inputs.audit_pipe),
        ("sshd-pipe-path", inputs.sshd_pipe),
        ("sshd-log-path", inputs.sshd_log),
        ("output", output.path if output.path != STANDARD_STREAM else ""),
        ("reject-log", output.reject_log),
    )
    seen: dict[str, str] = {}
    for name, path in roles:
        if path in seen:
            what = "standard input" if path == STANDARD_STREAM else path
            raise UsageError(f"{seen[path]} and {name} are both {what}; each needs its own")
        if path:
            seen[path] = name
    directory, _, name = output.path.rpartition("/")
    if not inputs.audit_pipe and directory == inputs.audit_dir and name.startswith("audit.log"):
        raise UsageError(f"output {output.path} is auditd's own log, which audito reads; name another file")


def _refuse_twins(rules: Rules) -> None:
    """Two rules of one name would be one series of /metrics; too many of them cost each event. Errors: UsageError."""
    for what, some in (("filter", rules.filters), ("redact-pattern", rules.redact_patterns)):
        names = [rule.name for rule in some]
        if twins := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"{what}: two have the name {twins[0]}")
    if len(rules.filters) > FILTERS_MAX:
        raise UsageError(f"filter: {len(rules.filters)} are more than {FILTERS_MAX}")
    try:
        check_own_patterns(rules.redact_patterns)
    except ValueError as error:
        raise UsageError(f"redact-pattern: {error}") from error


class Input(Struct, frozen=True):
    """An input that was decided on. ``path`` is "" for the host's own journal, and "-" for standard input."""

    kind: Literal["directory", "pipe", "stdin", "file", "journal"]
    path: str
    format: Format


def audit_source(inputs: Inputs) -> Input:
    """Where audit records come from: standard input or a pipe where one is named, else the directory."""
    if inputs.audit_pipe == STANDARD_STREAM:
        return Input("stdin", STANDARD_STREAM, "audit")
    if inputs.audit_pipe:
        return Input("pipe", inputs.audit_pipe, "audit")
    return Input("directory", inputs.audit_dir, "audit")


def _any_match(pattern: str) -> bool:
    return next(glob.iglob(pattern), None) is not None


def sshd_source(inputs: Inputs, found: Callable[[str], bool] = _any_match) -> Input | None:
    """Where sshd lines come from: what is named, else the journal where there is one, else the syslog file that exists.

    None where nothing is named and there is neither now: ask again later. ``found``: whether a glob pattern matches.
    """
    if STANDARD_STREAM in (inputs.sshd_pipe, inputs.sshd_log):
        return Input("stdin", STANDARD_STREAM, "pipe" if inputs.sshd_pipe else "syslog")
    if inputs.sshd_pipe:
        return Input("pipe", inputs.sshd_pipe, "pipe")
    if inputs.sshd_log:
        return Input("file", inputs.sshd_log, "syslog")
    if inputs.journal_dir:
        return Input("journal", inputs.journal_dir, "journal")
    if any(found(pattern) for pattern in JOURNAL_PATTERNS):
        return Input("journal", "", "journal")
    path = next((path for path in SYSLOG_PATHS if found(path)), None)
    return Input("file", path, "syslog") if path else None


def read_id(path: str) -> str:
    """The id that a file such as /etc/machine-id holds; "" where it cannot be read, or holds none yet."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.readline(256).strip()
    except OSError:
        return ""
    return "" if text == "uninitialized" else text  # systemd's own word for a machine id still to come


def core_settings(host: Host, events: Events, rules: Rules, *, boot_id_path: str = BOOT_ID_PATH) -> CoreSettings:
    """What the core is told. An id that is neither set nor to be read is "unknown"."""
    from audito.core import CoreSettings

    return CoreSettings(
        host=host.name,
        machine_id=host.machine_id or read_id(host.machine_id_path) or UNKNOWN,
        boot_id=host.boot_id or parse_boot_id(read_id(boot_id_path)) or UNKNOWN,
        event_types=events.types,
        context=events.context,
        join_window_ms=events.join_window_ms,
        syslog_time_zone=host.syslog_time_zone,
        redaction=Redaction(off=rules.redact_off, names=rules.redact_names, patterns=rules.redact_patterns),
        filters=rules.filters,
    )
