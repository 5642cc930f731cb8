"""The configuration: every setting by every way, what is stronger, and what is refused with which words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audito import config as under_test
from audito.config import (
    AUDIT_PIPE,
    NO_BOOT_ID,
    SSHD_PIPE,
    SYSLOG_PATHS,
    VARIABLES_OF_OTHERS,
    Config,
    Events,
    Host,
    Input,
    Inputs,
    Replay,
    Rules,
    audit_source,
    core_settings,
    headings,
    load,
    load_replay,
    parse_flags,
    read_id,
    rows,
    sshd_source,
    take_live,
    variable_of,
)
from audito.core import CoreSettings
from audito.errors import UsageError
from audito.events import CONTEXT, EVENT_TYPES
from audito.filters import Filter
from audito.redact import OwnPattern, Redaction
from audito.values import LogLevel, SshdFormat, duration_text, parse_duration_ms

ROOT = Path(__file__).parent.parent
CWD = "/here"
UUID = "050f0018-8b4b-4255-92e3-5d0146cbf043"


def bare(path: str) -> bool:
    """``exists`` of a host without /app-audit."""
    return False


def of(*argv: str, environ: Mapping[str, str] | None = None, exists: Callable[[str], bool] = bare) -> Config:
    return load(argv, environ or {}, hostname="box", cwd=CWD, exists=exists)


def refusal(*argv: str, environ: Mapping[str, str] | None = None) -> str:
    """The message that a command line or environment gets."""
    with pytest.raises(UsageError) as caught:
        of(*argv, environ=environ)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def at(config: Config | Replay, where: str) -> Any:
    group, _, field = where.partition(".")
    return getattr(getattr(config, group), field)


# Every setting of run: where it lands, every name of it, a value as it is written, the value that it becomes, and
# the value when nothing is said. A setting that is not here fails test_every_setting_has_a_case.
CASES: tuple[tuple[str, tuple[str, ...], str, Any, Any], ...] = (
    ("inputs.audit_dir", ("audit-dir-path",), "/a", "/a", "/var/log/audit"),
    ("inputs.audit_pipe", ("auditd-pipe-path", "auditd-log-file-path"), "a/pipe", "/here/a/pipe", ""),
    ("inputs.sshd_pipe", ("sshd-pipe-path", "sshd-log-file-path"), "../s", "/s", ""),
    ("inputs.sshd_log", ("sshd-log-path",), "/var/log/secure", "/var/log/secure", ""),
    ("inputs.journal_dir", ("journal-dir",), "./j/", "/here/j", ""),
    ("inputs.namedpipe", ("namedpipe",), "true", True, False),
    ("output.path", ("output", "audit-log-path", "app-events-output"), "out", "/here/out", "-"),
    ("output.reject_log", ("reject-log",), "rej", "/here/rej", ""),
    ("events.types", ("event-types",), "UserAction, UserLogin", ("UserLogin", "UserAction"), EVENT_TYPES),
    ("events.context", ("context",), "container, tty", ("tty", "container"), CONTEXT),
    ("events.join_window_ms", ("join-window",), "1m30s", 90_000, 120_000),
    ("rules.filters", ("filter",), "drop n exe=/a", (Filter("n", True, (("exe", ("/a",)),)),), ()),
    ("rules.redact_off", ("redact-off",), "url, mysql", ("mysql", "url"), ()),
    ("rules.redact_names", ("redact-names",), "pin, Badge-No", ("pin", "badge-no"), ()),
    ("rules.redact_patterns", ("redact-pattern",), "emp=E[0-9]+", (OwnPattern("emp", "E[0-9]+"),), ()),
    ("host.name", ("host",), "blam", "blam", "box"),
    ("host.machine_id", ("machine-id",), "deadbeef", "deadbeef", ""),
    ("host.machine_id_path", ("machine-id-path",), "id", "/here/id", "/etc/machine-id"),
    ("host.boot_id", ("boot-id",), UUID.replace("-", ""), UUID, ""),
    ("host.syslog_time_zone", ("syslog-time-zone",), "Europe/Berlin", "Europe/Berlin", ""),
    ("state.directory", ("state-dir",), "/state", "/state", "/var/run/audito-maldito"),
    ("state.spool_bytes", ("spool",), "64MiB", 64 << 20, 0),
    ("http.metrics", ("metrics",), "true", True, False),
    ("http.healthz", ("healthz",), "true", True, False),
    ("http.address", ("http-address",), "[::1]:80", "[::1]:80", "127.0.0.1:2112"),
    ("http.read_timeout_ms", ("http-server-read-timeout",), "500ms", 500, 1_000),
    ("http.read_header_timeout_ms", ("http-server-read-header-timeout",), "0", 0, 5_000),
    ("audit_check.enabled", ("audit-metrics",), "true", True, False),
    ("audit_check.interval_ms", ("audit-seconds-interval",), "1h", 3_600_000, 15_000),
    ("audit_check.modified_threshold_s", ("audit-log-last-modify-seconds-threshold",), "60", 60, 86_400),
    ("daemon.log_level", ("log-level",), "WARN", "warn", "info"),
    ("daemon.user", ("user",), "nobody", "nobody", ""),
)
SPELLINGS = [(where, name, text, value) for where, names, text, value, _ in CASES for name in names]
BY_NAME = [f"{where}-{name}" for where, name, _, _ in SPELLINGS]


def test_every_setting_has_a_case() -> None:
    settings = {f"{row.group}.{row.field}": row.setting.names for row in rows(Config)}
    assert settings.pop("daemon.file") == ("config",)  # tested by itself, below
    assert settings == {where: names for where, names, *_ in CASES}


@pytest.mark.parametrize("kind", [Config, Replay])
def test_names_are_told_apart(kind: type[Config | Replay]) -> None:
    names = [name for row in rows(kind) for name in row.setting.names]
    assert len(names) == len(set(names))
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", name) for name in names)
    assert all(row.setting.help.endswith(".") for row in rows(kind))
    assert set(headings(kind)) == {row.group for row in rows(kind)}


@pytest.mark.parametrize(("where", "default"), [(where, default) for where, *_, default in CASES])
def test_default(where: str, default: Any) -> None:
    assert at(of(), where) == default


@pytest.mark.parametrize(("where", "name", "text", "value"), SPELLINGS, ids=BY_NAME)
@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("joined", [True, False], ids=["equals", "next-word"])
def test_flag(where: str, name: str, text: str, value: Any, dashes: str, joined: bool) -> None:
    words = [f"{dashes}{name}={text}"] if joined else [f"{dashes}{name}", text]
    assert at(of(*words), where) == value
    assert at(of(*words, "-user", "after"), "daemon.user") == "after"


@pytest.mark.parametrize(("where", "name", "text", "value"), SPELLINGS, ids=BY_NAME)
def test_variable(where: str, name: str, text: str, value: Any) -> None:
    assert at(of(environ={variable_of(name): text}), where) == value


@pytest.mark.parametrize(("where", "name", "text", "value"), SPELLINGS, ids=BY_NAME)
@pytest.mark.parametrize("spell", [str, lambda name: name.replace("-", "_")], ids=["hyphens", "underscores"])
def test_key_of_a_file(
    where: str, name: str, text: str, value: Any, spell: Callable[[str], str], tmp_path: Path
) -> None:
    file = tmp_path / "audito.toml"
    file.write_text(f'{spell(name)} = "{text}"\n', encoding="utf-8")
    config = of("--config", str(file))
    if isinstance(value, str):
        value = value.replace("/here", str(tmp_path)) if "/here" in value else value
        value = str(tmp_path.parent / "s") if text == "../s" else value
    assert at(config, where) == value
    assert config.daemon.file == str(file)


@pytest.mark.parametrize(
    ("line", "where", "value"),
    [
        ("metrics = true", "http.metrics", True),
        ("metrics = false", "http.metrics", False),
        ("audit-log-last-modify-seconds-threshold = 7", "audit_check.modified_threshold_s", 7),
        ('context = "none"', "events.context", ()),
        ('event-types = ["UserLogout", "AuditGap"]', "events.types", ("UserLogout", "AuditGap")),
    ],
)
def test_file_takes_types_of_its_own(line: str, where: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text(line, encoding="utf-8")
    assert at(of("--config", str(file)), where) == value


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["-metrics"], True),
        (["--metrics"], True),
        (["-metrics=1"], True),
        (["-metrics=T"], True),
        (["-metrics=false"], False),
        (["-metrics=0"], False),
        (["-metrics", "true"], True),
        (["-metrics", "false"], False),
        (["-metrics", "-metrics=FALSE"], False),
    ],
)
def test_switch(argv: list[str], value: bool) -> None:
    config = of(*argv, "-healthz")
    assert (config.http.metrics, config.http.healthz) == (value, True)


def test_the_stronger_way_wins(tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text('user = "file"\nhost = "file"\nboot-id = "file"\n', encoding="utf-8")
    environ = {"AUDITO_CONFIG": str(file), "AUDITO_USER": "variable", "AUDITO_HOST": "variable"}
    config = of("-user", "flag", environ=environ)
    assert (config.daemon.user, config.host.name, config.host.boot_id) == ("flag", "variable", "file")
    assert config.events.join_window_ms == 120_000


def test_flag_names_another_file_than_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text('user = "file"\n', encoding="utf-8")
    config = of("--config", str(file), environ={"AUDITO_CONFIG": "/nowhere"})
    assert config.daemon.user == "file"


RULES_FILE = """
redact-off = ["url", "all"]
redact-names = ["pin", "otp"]
redact-pattern = ["emp=E[0-9]{2,3}", 'path=/srv/(?P<secret>[^,]+)']

[[filter]]
name = "monitoring"
do = "drop"
user-id = "nagios@*"
exe = ["/usr/lib/nagios/*", "/bin/a b"]

[[filter]]
name = "root"
do = "keep"
uid = "0"
"""


def test_rules_in_a_file_are_tables_or_lines(tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text(RULES_FILE, encoding="utf-8")
    rules = of("--config", str(file)).rules
    assert rules.filters == (
        Filter("monitoring", True, (("user-id", ("nagios@*",)), ("exe", ("/usr/lib/nagios/*", "/bin/a b")))),
        Filter("root", False, (("uid", ("0",)),)),
    )
    assert rules.redact_off == ("all",)
    assert rules.redact_names == ("pin", "otp")
    assert rules.redact_patterns == (OwnPattern("emp", "E[0-9]{2,3}"), OwnPattern("path", "/srv/(?P<secret>[^,]+)"))
    file.write_text(
        'filter = ["drop monitoring user-id=nagios@* exe=/usr/lib/nagios/* \'exe=/bin/a b\'", "keep root uid=0"]'
    )
    assert of("--config", str(file)).rules.filters == rules.filters


def test_rules_in_a_variable_stand_one_a_line() -> None:
    rules = of(environ={"AUDITO_FILTER": "drop a exe=x\n\nkeep b uid=0\n", "AUDITO_REDACT_PATTERN": "a=b"}).rules
    assert [rule.name for rule in rules.filters] == ["a", "b"]
    assert rules.redact_patterns == (OwnPattern("a", "b"),)


def test_rules_on_the_command_line_stand_one_a_flag() -> None:
    argv = ["--filter", "drop a exe=x", "keep b uid=0", "--filter=drop c key=k", "--metrics"]
    assert [rule.name for rule in of(*argv).rules.filters] == ["a", "b", "c"]
    assert of("--filter", "", environ={"AUDITO_FILTER": "drop a exe=x"}).rules.filters == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filter = 7", "{file}: key filter: int 7 will not do; it takes a string"),
        ('[[filter]]\ndo = "drop"', "{file}: key filter, item 1: it has no name"),
        ('filter = ["drop a exe=x", "drop b"]', "{file}: key filter, item 2: filter b: it asks for nothing"),
        ('[[filter]]\nname = "a"\ndo = "dorp"', '{file}: key filter, item 1: filter a: key do: it is "drop" or "keep"'),
        ('[[filter]]\nname = "a"\ndo = "drop"\nexec = "x"', 'item 1: filter a: unknown key "exec"; did you mean exe?'),
        (
            '[[filter]]\nname = "a"\ndo = "drop"\nexe = 3',
            "item 1: filter a: key exe: it takes a string or a list of strings",
        ),
        ('[[filter]]\nname = "A b"\ndo = "drop"\nexe = "x"', 'item 1: filter "A b": a name begins with a-z'),
        ('filter = ["drop a exe=x", "keep a uid=0"]', "filter: two have the name a"),
        ('redact-pattern = ["a=("]', "{file}: key redact-pattern, item 1: pattern a: missing )"),
        ('redact-pattern = ["a=b", "a=c"]', "redact-pattern: two have the name a"),
        (
            'redact-pattern = [{name = "a"}]',
            "key redact-pattern, item 1: dict {{'name': 'a'}} will not do; it takes a string",
        ),
        ('redact-off = ["mysq"]', '{file}: key redact-off: "mysq" is no pattern of audito; did you mean mysql?'),
        ('redact-names = ["a"]', '{file}: key redact-names: "a" is no name'),
    ],
)
def test_rules_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text(text, encoding="utf-8")
    assert message.format(file=file) in refusal("--config", str(file))


def test_rules_are_bounded() -> None:
    assert refusal(*(f"--filter=drop n{n} exe=x" for n in range(65))) == "filter: 65 are more than 64"
    assert refusal(*(f"--redact-pattern=n{n}=x" for n in range(65))) == "redact-pattern: 65 are more than 64"
    nine = [f"--redact-pattern=n{n}=[a-z]{{1,99}}x[0-9]{{99}}" for n in range(9)]
    assert re.fullmatch("redact-pattern: the programs of all have [0-9]+ steps, more than 2000", refusal(*nine))


def test_last_of_one_flag_wins() -> None:
    assert of("-user", "a", "-user", "b").daemon.user == "b"


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "box"),
        ({"NODE_NAME": "node"}, "node"),
        ({"NODE_NAME": ""}, "box"),
        ({"NODE_NAME": "node", "AUDITO_HOST": "ours"}, "ours"),
    ],
)
def test_host_name(environ: dict[str, str], name: str) -> None:
    assert of(environ=environ).host.name == name
    assert of("--host", "flag", environ=environ).host.name == "flag"


def test_host_without_any_name() -> None:
    assert load([], {}, cwd=CWD, exists=bare).host.name == "unknown"


@pytest.mark.parametrize(("where", "default"), [(where, default) for where, *_, default in CASES])
def test_empty_flag_stands_for_the_default(where: str, default: Any, tmp_path: Path) -> None:
    name = next(names[0] for case, names, *_ in CASES if case == where)
    text = next(text for case, _, text, *_ in CASES if case == where)
    assert at(of(f"-{name}=", environ={variable_of(name): text}), where) == default
    assert at(of(environ={variable_of(name): ""}), where) == default


def test_empty_variable_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text('user = "file"\n', encoding="utf-8")
    assert of("--config", str(file), environ={"AUDITO_USER": ""}).daemon.user == "file"


# The command lines of the Go daemon's own modes.


def test_flags_of_the_go_daemon_reading_pipes() -> None:
    argv = "--namedpipe -app-events-output /e -sshd-log-file-path /s -auditd-log-file-path /a -log-level debug -metrics"
    argv += " -healthz=true -audit-metrics -http-server-read-timeout 1s -http-server-read-header-timeout=5s"
    argv += " -audit-seconds-interval 15s -audit-log-last-modify-seconds-threshold 86400"
    config = of(*argv.split())
    assert audit_source(config.inputs) == Input("pipe", "/a", "audit")
    assert sshd_source(config.inputs, bare) == Input("pipe", "/s", "pipe")
    assert (config.output.path, config.daemon.log_level) == ("/e", "debug")
    assert config.http.metrics
    assert config.http.healthz
    assert config.audit_check.enabled


def test_flags_of_the_go_daemon_reading_the_journal() -> None:
    config = of("-boot-id", UUID, "-audit-log-path", "/e", "-audit-dir-path", "/logs", "--log-level=error")
    assert audit_source(config.inputs) == Input("directory", "/logs", "audit")
    assert (config.host.boot_id, config.output.path, config.daemon.log_level) == (UUID, "/e", "error")


@pytest.mark.parametrize(
    ("argv", "audit", "sshd"),
    [
        (["--namedpipe"], AUDIT_PIPE, SSHD_PIPE),
        (["--namedpipe", "-auditd-pipe-path", "/a"], "/a", SSHD_PIPE),
        (["--namedpipe", "-sshd-pipe-path", "/s"], AUDIT_PIPE, "/s"),
        (["--namedpipe", "-sshd-log-path", "/log"], AUDIT_PIPE, ""),
        (["--namedpipe", "-journal-dir", "/j"], AUDIT_PIPE, ""),
        (["--namedpipe", "-audit-dir-path", "/d"], AUDIT_PIPE, SSHD_PIPE),
        (["--namedpipe=false"], "", ""),
    ],
)
def test_pipes_that_need_no_name(argv: list[str], audit: str, sshd: str) -> None:
    inputs = of(*argv).inputs
    assert (inputs.audit_pipe, inputs.sshd_pipe) == (audit, sshd)


@pytest.mark.parametrize(
    ("argv", "path"), [([], "/app-audit/audit.log"), (["--namedpipe"], "/app-audit/app-events-output.log")]
)
def test_output_in_the_pod_of_the_go_daemon(argv: list[str], path: str) -> None:
    assert of(*argv, exists=lambda asked: asked == "/app-audit").output.path == path
    assert of(*argv, "--output", "-", exists=lambda asked: True).output.path == "-"
    assert of(*argv).output.path == "-"


@pytest.mark.parametrize(
    ("argv", "environ", "listen"),
    [
        ([], {}, ("127.0.0.1", 2112)),
        ([], {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ("", 2112)),
        (["--http-address", "127.0.0.1:9"], {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ("127.0.0.1", 9)),
        (["--http-address", ":0"], {}, ("", 0)),
        (["--http-address", "[::1]:80"], {}, ("::1", 80)),
        (["--http-address", "localhost:65535"], {}, ("localhost", 65535)),
    ],
)
def test_u30_http_is_for_this_host_unless_asked(
    argv: list[str], environ: dict[str, str], listen: tuple[str, int]
) -> None:
    assert of(*argv, environ=environ).http.listen == listen


# What is refused, and the words that name the way out.


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-metrcs"], "unknown flag -metrcs; did you mean -metrics?"),
        (["--audit-dir=/a"], "unknown flag --audit-dir; did you mean --audit-dir-path?"),
        (["--journal", "x"], "unknown flag --journal; did you mean --journal-dir?"),
        (["--qqqqqqqq"], "unknown flag --qqqqqqqq"),
        (["---metrics"], "unknown flag ---metrics; did you mean --metrics?"),
        (["-output"], "flag -output needs a value: -output PATH"),
        (["-output", "-metrics"], "flag -output needs a value: -output PATH"),
        (["-sshd-pipe-path", "-auditd-pipe-path", "/a"], "flag -sshd-pipe-path needs a value: -sshd-pipe-path PIPE"),
        (["-output", "--output=/a"], "flag -output needs a value: -output PATH"),
        (["stray"], 'unexpected word "stray" on the command line'),
        (["-metrics", "yes"], 'unexpected word "yes" on the command line'),
        (["--", "-metrics"], 'unexpected word "-metrics" on the command line'),
        (["-"], 'unexpected word "-" on the command line'),
        (["-metrics=maybe"], 'flag -metrics: "maybe" is neither true nor false'),
        (["-log-level", "wran"], 'flag -log-level: "wran" is no level; did you mean warn?'),
        (["-log-level", "9"], 'flag -log-level: "9" is no level'),
        (["--join-window", "0s"], 'flag --join-window: "0s": this duration cannot be zero'),
        (
            ["--syslog-time-zone", "Europe/Berlin2"],
            'flag --syslog-time-zone: "Europe/Berlin2" is no time zone of this host; did you mean Europe/Berlin?',
        ),
        (["--syslog-time-zone=../x"], 'flag --syslog-time-zone: "../x" is no time zone of this host'),
        (["-audit-seconds-interval", "15"], 'flag -audit-seconds-interval: "15": a duration needs a unit, as in 15s'),
        (
            ["-audit-log-last-modify-seconds-threshold=-1"],
            'flag -audit-log-last-modify-seconds-threshold: "-1" is no whole number',
        ),
        (
            ["--event-types", "UserLogin,UserActions"],
            'flag --event-types: "UserActions" is no type of event; did you mean UserAction?',
        ),
        (["--context", "tty,ancestor"], 'flag --context: "ancestor" is no context; did you mean ancestors?'),
        (["--context", "none,tty"], 'flag --context: "none,tty": none stands alone'),
        (["--event-types", "UserLogin,"], 'flag --event-types: "" is no type of event'),
        (["--http-address", "2112"], 'flag --http-address: "2112" is no address; write it as 127.0.0.1:2112 or :2112'),
        (
            ["--http-address", "h:65536"],
            'flag --http-address: "h:65536" is no address; write it as 127.0.0.1:2112 or :2112',
        ),
        (
            ["--http-address", "::1:80"],
            'flag --http-address: "::1:80": an IPv6 address goes in brackets, as in [::1]:2112',
        ),
        (["--output", "a\0b"], "flag --output: a path has no NUL byte"),
        (
            ["--output", "/a", "-audit-log-path", "/b"],
            "flag --output and flag -audit-log-path are one setting and differ; give one of them",
        ),
        (
            ["-sshd-pipe-path", "/a", "--sshd-log-path", "/b"],
            "flag -sshd-pipe-path and flag --sshd-log-path exclude each other; give one of them",
        ),
        (
            ["-sshd-pipe-path", "-", "-auditd-pipe-path", "-"],
            "auditd-pipe-path and sshd-pipe-path are both standard input; each needs its own",
        ),
        (["--output", "/x", "--reject-log", "/x"], "output and reject-log are both /x; each needs its own"),
        (["--output", "/x", "-auditd-pipe-path", "/x"], "auditd-pipe-path and output are both /x; each needs its own"),
        (
            ["-audit-log-path", "/var/log/audit/audit.log"],
            "output /var/log/audit/audit.log is auditd's own log, which audito reads; name another file",
        ),
        (["--config", "/no/such.toml"], "/no/such.toml: No such file or directory"),
    ],
)
def test_flags_that_are_refused(argv: list[str], message: str) -> None:
    assert refusal(*argv) == message


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"AUDITO_METRCS": "1"}, "unknown variable AUDITO_METRCS; did you mean AUDITO_METRICS?"),
        ({"AUDITO_STATE_DIRECTORY": "/s"}, "unknown variable AUDITO_STATE_DIRECTORY; did you mean AUDITO_STATE_DIR?"),
        ({"AUDITO_metrics": "1"}, "unknown variable AUDITO_metrics; did you mean AUDITO_METRICS?"),
        ({"AUDITO_QQQQQQ": ""}, "unknown variable AUDITO_QQQQQQ"),
        ({"AUDITO_METRICS": "yes"}, 'variable AUDITO_METRICS: "yes" is neither true nor false'),
        (
            {"AUDITO_OUTPUT": "/a", "AUDITO_APP_EVENTS_OUTPUT": "/b"},
            "variable AUDITO_OUTPUT and variable AUDITO_APP_EVENTS_OUTPUT are one setting and differ; give one of them",
        ),
        (
            {"AUDITO_SERVICE_HOST": "10.0.0.1"},
            "unknown variable AUDITO_SERVICE_HOST",
        ),
    ],
)
def test_variables_that_are_refused(environ: dict[str, str], message: str) -> None:
    assert refusal(environ=environ) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metrcs = true", "unknown key metrcs; did you mean metrics?"),
        ("audit_dir = '/a'", "unknown key audit_dir; did you mean audit-dir-path?"),
        ("config = 'other.toml'", "unknown key config"),
        ("[http]\nmetrics = true", "unknown key http"),
        ("metrics = 1", "key metrics: int 1 will not do; it takes true or false"),
        ("output = 5", "key output: int 5 will not do; it takes a string"),
        ("output = true", "key output: bool True will not do; it takes a string"),
        ("join-window = 120", 'key join-window: "120": a duration needs a unit, as in 120s'),
        (
            "audit-log-last-modify-seconds-threshold = true",
            "key audit-log-last-modify-seconds-threshold: bool True will not do; it takes a number",
        ),
        ("event-types = [1]", "key event-types: list [1] will not do; it takes a list of strings"),
        ("user = 1979-05-27", "key user: date 1979-05-27 will not do; it takes a string"),
        ("log-level = 'loud'", 'key log-level: "loud" is no level'),
        ("output = '/a'\naudit-log-path = '/b'", None),
        ("sshd-pipe-path = '/a'\njournal-dir = '/b'", None),
        ("= 5", "Invalid statement (at line 1, column 1)"),
        ("x = " + "[" * 100_000, "brackets in brackets, too many of them"),
    ],
)
def test_files_that_are_refused(text: str, message: str | None, tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text(text, encoding="utf-8")
    told = refusal("--config", str(file))
    assert told.startswith(f"{file}: ")
    if message is not None:
        assert told == f"{file}: {message}"


LIVE = (
    "reject-log event-types context join-window filter redact-off redact-names redact-pattern metrics healthz http-address http-server-read-timeout"
    " http-server-read-header-timeout audit-metrics audit-seconds-interval audit-log-last-modify-seconds-threshold"
    " log-level"
).split()
"""What SIGHUP changes; tests/test_reload.py shows that it does."""


@pytest.mark.parametrize(("where", "name", "text", "value"), SPELLINGS, ids=BY_NAME)
def test_what_a_running_daemon_takes_up(where: str, name: str, text: str, value: Any) -> None:
    old, new = of(), of(f"--{name}={text}")
    merged, others = take_live(old, new)
    first = next(names[0] for _, names, *_ in CASES if name in names)
    if first in LIVE:
        assert (merged, others) == (new, ())
        assert at(merged, where) == value
    else:
        assert merged == old
        assert first in others
    assert take_live(new, new) == (new, ())


def test_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_bytes(b"user = '\xff'")
    assert refusal("--config", str(file)).startswith(f"{file}: ")


READ_OF_A_VARIABLE = re.compile(
    r"environ(?:\.get\(|\.setdefault\(|\.pop\(|\[)\s*\"(AUDITO_\w+)|getenv\(\"(AUDITO_\w+)|\$[({]+(AUDITO_\w+)"
)


def test_variables_of_build_and_tests_are_let_be() -> None:
    files = [ROOT / "Makefile", ROOT / "setup.py", ROOT / ".ci" / "run"]
    files += [file for room in ("tests", "tools", "benchmarks") for file in sorted((ROOT / room).rglob("*.[ps][yh]"))]
    read = {
        name
        for file in files
        for match in READ_OF_A_VARIABLE.finditer(file.read_text(encoding="utf-8") if file.exists() else "")
        for name in match.groups()
        if name
    }
    assert {"AUDITO_DEBUG", "AUDITO_E2E"} <= read
    settings = {variable_of(name) for row in rows(Config) for name in row.setting.names}
    assert read <= settings | set(VARIABLES_OF_OTHERS)
    assert of(environ=dict.fromkeys(VARIABLES_OF_OTHERS, "1")) == of()


@pytest.mark.parametrize(
    "variable",
    [
        "AUDITO_SERVICE_HOST",
        "AUDITO_SERVICE_PORT",
        "AUDITO_SERVICE_PORT_METRICS",
        "AUDITO_PORT",
        "AUDITO_PORT_2112_TCP",
        "AUDITO_PORT_2112_TCP_ADDR",
        "AUDITO_MALDITO_SERVICE_HOST",
        "AUDITO_MALDITO_PORT_2112_TCP_PROTO",
    ],
)
def test_variables_of_a_kubernetes_service_that_is_named_like_us(variable: str) -> None:
    in_pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert of(environ={variable: "tcp://10.0.0.1:2112", **in_pod}) == of(environ=in_pod)


def test_two_names_of_a_setting_may_agree() -> None:
    assert of("--output", "/a", "-audit-log-path", "/a").output.path == "/a"


@pytest.mark.parametrize(
    ("argv", "environ", "source"),
    [
        ([], {"AUDITO_SSHD_LOG_PATH": "/log"}, Input("file", "/log", "syslog")),
        (["-sshd-pipe-path", "/s"], {"AUDITO_SSHD_LOG_PATH": "/log"}, Input("pipe", "/s", "pipe")),
        (["--sshd-log-path", "/l"], {"AUDITO_SSHD_PIPE_PATH": "/s"}, Input("file", "/l", "syslog")),
        (["-sshd-pipe-path="], {"AUDITO_SSHD_LOG_PATH": "/log"}, Input("file", "/log", "syslog")),
    ],
)
def test_of_sshd_sources_the_stronger_way_names_the_one(
    argv: list[str], environ: dict[str, str], source: Input
) -> None:
    assert sshd_source(of(*argv, environ=environ).inputs, bare) == source


# Sources.

JOURNAL_FILE = "/run/log/journal/*/*.journal"


@pytest.mark.parametrize(
    ("inputs", "there", "source"),
    [
        (Inputs(), (JOURNAL_FILE, *SYSLOG_PATHS), Input("journal", "", "journal")),
        (Inputs(), ("/var/log/journal/*/*.journal",), Input("journal", "", "journal")),
        (Inputs(), SYSLOG_PATHS, Input("file", "/var/log/secure", "syslog")),
        (Inputs(), ("/var/log/auth.log",), Input("file", "/var/log/auth.log", "syslog")),
        (Inputs(), (), None),
        (Inputs(sshd_log="/l"), (JOURNAL_FILE,), Input("file", "/l", "syslog")),
        (Inputs(sshd_log="-"), (JOURNAL_FILE,), Input("stdin", "-", "syslog")),
        (Inputs(sshd_pipe="/s"), (JOURNAL_FILE,), Input("pipe", "/s", "pipe")),
        (Inputs(sshd_pipe="-"), (JOURNAL_FILE,), Input("stdin", "-", "pipe")),
        (Inputs(journal_dir="/j"), SYSLOG_PATHS, Input("journal", "/j", "journal")),
    ],
)
def test_sshd_source(inputs: Inputs, there: Sequence[str], source: Input | None) -> None:
    assert sshd_source(inputs, there.__contains__) == source


def test_sshd_source_looks_at_files_and_not_at_empty_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syslog = tmp_path / "auth.log"
    (tmp_path / "journal" / "0123").mkdir(parents=True)
    monkeypatch.setattr(under_test, "JOURNAL_PATTERNS", (f"{tmp_path}/journal/*/*.journal",))
    monkeypatch.setattr(under_test, "SYSLOG_PATHS", (f"{tmp_path}/secure", str(syslog)))
    assert sshd_source(Inputs()) is None
    syslog.touch()
    assert sshd_source(Inputs()) == Input("file", str(syslog), "syslog")
    (tmp_path / "journal" / "0123" / "system.journal").touch()
    assert sshd_source(Inputs()) == Input("journal", "", "journal")


@pytest.mark.parametrize(
    ("inputs", "source"),
    [
        (Inputs(), Input("directory", "/var/log/audit", "audit")),
        (Inputs(audit_dir="/d", audit_pipe="/p"), Input("pipe", "/p", "audit")),
        (Inputs(audit_pipe="-"), Input("stdin", "-", "audit")),
    ],
)
def test_audit_source(inputs: Inputs, source: Input) -> None:
    assert audit_source(inputs) == source


# Durations: Go's own grammar.


@pytest.mark.parametrize(
    ("text", "value_ms"),
    [
        ("0", 0),
        ("+0", 0),
        ("0s", 0),
        ("1s", 1_000),
        ("+5s", 5_000),
        ("500ms", 500),
        ("1m30s", 90_000),
        ("1h", 3_600_000),
        ("1.5h", 5_400_000),
        (".5s", 500),
        ("1.s", 1_000),
        ("0.1s0.1s", 200),
        ("1h2m3s4ms5us6ns", 3_723_005),
        ("1ns", 1),
        ("1us", 1),
        ("1\u00b5s", 1),
        ("1\u03bcs", 1),
        ("1000000ns", 1),
        ("1000001ns", 2),
        ("0.000000001s", 1),
        ("0.3333333333333333333h", 1_200_000),
        ("2540400h10m10.000000000s", 9_145_440_610_000),
    ],
)
def test_duration(text: str, value_ms: int) -> None:
    assert parse_duration_ms(text) == value_ms


NO_DURATIONS = """3 - s . -. .s +.s 1d 1S 1e3s -1s -0.5h +-1s 1h-1m \u0661s 1ss 1mss 9223372037s 2562048h 0x1s 1,5s
NaN inf 1h2 h1""".split()


@pytest.mark.parametrize("text", [*NO_DURATIONS, "", " ", "1 s", " 1s", "1s ", "1s\n", "1" * 200 + "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|unit"):
        parse_duration_ms(text)


@given(st.integers(min_value=0, max_value=9_223_372_036_854))
def test_duration_text_reads_back(value_ms: int) -> None:
    assert parse_duration_ms(duration_text(value_ms)) == value_ms


@given(st.text(alphabet="0123456789.hmsuµn+- ", max_size=12))
def test_a_duration_is_a_number_or_a_value_error(text: str) -> None:
    try:
        value_ms = parse_duration_ms(text)
    except ValueError:
        return
    assert value_ms >= 0


@pytest.mark.parametrize("level", get_args(LogLevel))
def test_levels_of_zap(level: str) -> None:
    assert of("-log-level", level).daemon.log_level == level
    assert of("-log-level", level.upper()).daemon.log_level == level


@given(
    st.lists(st.sampled_from(["-output", "--metrics", "-metrics=false", "-", "--", "x", "-user=u", "-help", "=", ""]))
)
def test_any_words_are_a_configuration_or_a_usage_error(words: list[str]) -> None:
    try:
        arguments = parse_flags(words, Config, CWD)
    except UsageError:
        return
    assert arguments.asked or set(arguments.layer) <= {"output", "metrics", "user"}


@pytest.mark.parametrize(
    ("text", "boot_id"),
    [(UUID, UUID), (UUID.upper(), UUID), (UUID.replace("-", ""), UUID), ("some boot", "some boot"), ("-", "-")],
)
def test_boot_id(text: str, boot_id: str) -> None:
    assert of("-boot-id", text).host.boot_id == boot_id


# Ids of the host.


def test_ids(tmp_path: Path) -> None:
    file = tmp_path / "id"
    assert read_id(str(file)) == ""
    file.write_bytes(b"deadbeef\nsecond line\n")
    assert read_id(str(file)) == "deadbeef"
    file.write_bytes(b"uninitialized\n")
    assert read_id(str(file)) == ""
    file.write_bytes(b"")
    assert read_id(str(file)) == ""


def test_core_is_told(tmp_path: Path) -> None:
    machine, boot = tmp_path / "machine", tmp_path / "boot"
    machine.write_bytes(b"deadbeef\n")
    boot.write_bytes(UUID.encode() + b"\n")
    words = ["--machine-id-path", str(machine), "--event-types", "UserLogin", "--join-window", "5s", "--context", "tty"]
    words += ["--syslog-time-zone", "UTC"]
    words += ["--filter", "drop a exe=x", "--redact-off", "url", "--redact-names", "pin", "--redact-pattern", "p=q"]
    config = of(*words)
    settings = core_settings(config.host, config.events, config.rules, boot_id_path=str(boot))
    wanted = CoreSettings(
        host="box",
        machine_id="deadbeef",
        boot_id=UUID,
        event_types=("UserLogin",),
        context=("tty",),
        join_window_ms=5_000,
        syslog_time_zone="UTC",
        redaction=Redaction(off=("url",), names=("pin",), patterns=(OwnPattern("p", "q"),)),
        filters=(Filter("a", True, (("exe", ("x",)),)),),
    )
    assert settings == wanted
    config = of(*words, "--machine-id", "cafe", "-boot-id", NO_BOOT_ID)
    settings = core_settings(config.host, config.events, config.rules, boot_id_path=str(boot))
    assert (settings.machine_id, settings.boot_id) == ("cafe", NO_BOOT_ID)


def test_core_is_told_where_there_are_no_ids(tmp_path: Path) -> None:
    config = of("--machine-id-path", str(tmp_path / "none"))
    settings = core_settings(config.host, config.events, config.rules, boot_id_path=str(tmp_path / "none"))
    assert (settings.machine_id, settings.boot_id) == ("unknown", "unknown")


def test_the_core_has_the_defaults_of_the_settings() -> None:
    core = CoreSettings(host="", machine_id="", boot_id="")
    assert (core.event_types, core.context, core.join_window_ms) == (
        Events().types,
        Events().context,
        Events().join_window_ms,
    )
    assert core.filters == Rules().filters
    assert core.redaction == Redaction(
        off=Rules().redact_off, names=Rules().redact_names, patterns=Rules().redact_patterns
    )


# The settings of a replay.


def replay_of(*argv: str, environ: Mapping[str, str] | None = None) -> Replay:
    return load_replay(argv, environ or {}, hostname="box", cwd=CWD)


def test_replay_defaults() -> None:
    replay = replay_of("--audit", "a")
    assert replay.inputs.audit == ("/here/a",)
    assert (replay.inputs.sshd, replay.inputs.sshd_format) == ("", "auto")
    assert (replay.output.path, replay.output.reject_log) == ("-", "")
    assert (replay.events.types, replay.events.join_window_ms) == (EVENT_TYPES, 120_000)
    assert replay.host == Host(name="box", boot_id=NO_BOOT_ID)


@pytest.mark.parametrize(
    ("argv", "audit"),
    [
        (["--audit", "/a", "/b", "--sshd", "/s"], ("/a", "/b")),
        (["--sshd", "/s", "--audit", "/a", "/b", "-"], ("/a", "/b", "-")),
        (["--audit=/a", "-audit", "/b", "--sshd=/s"], ("/a", "/b")),
    ],
)
def test_replay_takes_many_audit_logs(argv: list[str], audit: tuple[str, ...]) -> None:
    replay = replay_of(*argv)
    assert (replay.inputs.audit, replay.inputs.sshd) == (audit, "/s")


def test_replay_settings() -> None:
    argv = "--audit /a --sshd - --sshd-format journal-json --output out --reject-log r --host h --machine-id m"
    argv += f" --machine-id-path i --boot-id {UUID} --event-types UserLogin --join-window 1s --syslog-time-zone UTC --redact-off all"
    replay = replay_of(*argv.split(), "--filter", "keep a uid=0")
    assert replay.rules == Rules(filters=(Filter("a", False, (("uid", ("0",)),)),), redact_off=("all",))
    assert (replay.inputs.sshd, replay.inputs.sshd_format) == ("-", "journal-json")
    assert (replay.output.path, replay.output.reject_log) == ("/here/out", "/here/r")
    assert (replay.events.types, replay.events.join_window_ms) == (("UserLogin",), 1_000)
    assert replay.host == Host(
        name="h", machine_id="m", machine_id_path="/here/i", boot_id=UUID, syslog_time_zone="UTC"
    )


@pytest.mark.parametrize("form", get_args(SshdFormat))
def test_replay_forms_of_sshd_lines(form: str) -> None:
    assert replay_of("--audit", "/a", "--sshd-format", form).inputs.sshd_format == form


def test_replay_does_not_write_where_the_live_daemon_writes() -> None:
    environ = {"AUDITO_OUTPUT": "/app-audit/audit.log", "NODE_NAME": "node", "AUDITO_HOST": "ours"}
    replay = replay_of("--audit", "/a", environ=environ)
    assert (replay.output.path, replay.host.name) == ("-", "node")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "a replay needs --audit FILE|DIR..."),
        (["/a"], 'unexpected word "/a" on the command line'),
        (["--audit", "--sshd", "/s"], "flag --audit needs a value: --audit FILE|DIR..."),
        (["--audit", "-", "--sshd", "-"], "standard input can be only one input"),
        (["--audit", "-", "-"], "standard input can be only one input"),
        (
            ["--audit", "/a", "--output", "x", "--reject-log", "/here/x"],
            "output and reject-log are both /here/x; each needs its own",
        ),
        (["--audits", "/a"], "unknown flag --audits; did you mean --audit?"),
        (["--audit", "/a", "--metrics"], "unknown flag --metrics"),
        (
            ["--audit", "/a", "--sshd-format", "journal"],
            'flag --sshd-format: "journal" is no form of sshd lines; did you mean journal-json?',
        ),
    ],
)
def test_replays_that_are_refused(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        replay_of(*argv)
    assert str(caught.value) == message
