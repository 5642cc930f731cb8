"""Filters: what a rule's line says, which actions it fits, what is counted; through the core, a replay, a daemon."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audito.core import Core, CoreSettings
from audito.filters import KEYS, Filter, Filters, line_of_table, parse_filter
from tests.records import Log, accepted

from .test_daemon import (  # noqa: F401  # the fixtures
    Start,
    _home,
    _pipes,
    _start,
    command,
    events_of,
    login_line,
    opened,
    sequences,
    wait_for,
)

# ---------------------------------------------------------------------------------- the line of a rule


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("drop n exe=/bin/ls", Filter("n", True, (("exe", ("/bin/ls",)),))),
        ("keep a-1_b uid=0 uid=root key=k", Filter("a-1_b", False, (("uid", ("0", "root")), ("key", ("k",))))),
        ("drop n 'exe=/opt/a b/*' object=/x=y", Filter("n", True, (("exe", ("/opt/a b/*",)), ("object", ("/x=y",))))),
    ],
)
def test_a_rule_from_its_line(line: str, rule: Filter) -> None:
    assert parse_filter(line) == rule


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "write it as drop NAME KEY=GLOB..."),
        ("drop", "write it as drop NAME"),
        ("deny n exe=x", "write it as drop NAME"),
        ("drop N exe=x", 'filter "N": a name begins with a-z'),
        ("drop " + "n" * 64 + " exe=x", "a name begins with a-z and has up to 63"),
        ('drop n"\x1b exe=x', "no closing quotation"),
        ("drop n", "filter n: it asks for nothing and would drop everything"),
        ("drop n exe", 'filter n: "exe" is no condition'),
        ("drop n exe=", 'filter n: "exe=" is no condition'),
        ("drop n =x", 'filter n: unknown key ""'),
        ("drop n object_type=x", 'unknown key "object_type"; did you mean object-type?'),
        ("drop n colour=x", 'unknown key "colour"; there are action, object-type, object, exe, key, uid,'),
        ("drop n" + " exe=x" * 257, "filter n: key exe: 257 globs are more than 256"),
    ],
)
def test_a_line_that_is_no_rule(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_filter(line)


@given(st.dictionaries(st.sampled_from(KEYS), st.lists(st.text("ab *?'\"\\=[]é", min_size=1), min_size=1), min_size=1))
def test_a_table_and_its_line_say_the_same(globs: dict[str, list[str]]) -> None:
    table: dict[str, object] = {"name": "n", "do": "keep"}
    table.update({key.replace("-", "_"): some[0] if len(some) == 1 else some for key, some in globs.items()})
    wanted = Filter("n", False, tuple((key, tuple(some)) for key, some in globs.items()))
    assert parse_filter(line_of_table(table)) == wanted


# ---------------------------------------------------------------------------------- what a rule fits

ACTION = {
    "action": "opened-file", "object_type": "file", "primary": "/etc/shadow", "exe": "/usr/bin/vim.basic",
    "key": "etc\x01passwords", "uid": "0", "uid_name": "root",
    "subjects": b'{"loggedAs":"core","pid":"1","userID":"bob@corp"}',
}  # fmt: skip


def is_dropped(*lines: str, **facts: Any) -> bool:
    return Filters([parse_filter(line) for line in lines]).drops(**{**ACTION, **facts})


@pytest.mark.parametrize(
    ("conditions", "fits"),
    [
        ("action=opened-file", True),
        ("action=opened*", True),
        ("action=opened", False),
        ("object-type=file", True),
        ("object=/etc/*", True),
        ("object=/etc/shadow?", False),
        ("object=/etc/[rs]hadow", True),
        ("object=*/bin/*", False),
        ("exe=/usr/*", True),
        ("exe=/bin/vim exe=/usr/bin/vim*", True),
        ("exe=/bin/vim exe=/bin/vi", False),
        ("key=etc", True),
        ("key=passwords", True),
        ("key=pass*", True),
        ("key=etc*words", False),
        ("uid=0", True),
        ("uid=root", True),
        ("uid=1*", False),
        ("logged-as=core", True),
        ("logged-as=bob", False),
        ("user-id=*@corp", True),
        ("user-id=bob@corp logged-as=core uid=0 key=etc exe=* object=* object-type=* action=*", True),
        ("user-id=bob@corp logged-as=core uid=0 key=etc exe=* object=* object-type=* action=x", False),
        ("action=OPENED-FILE", False),
        ("'object=/etc/shadow\n'", False),
    ],
)
def test_what_a_rule_fits(conditions: str, fits: bool) -> None:
    assert is_dropped(f"drop n {conditions}") is fits


@pytest.mark.parametrize(
    ("key", "fact"), [("object", "primary"), ("object-type", "object_type"), ("exe", "exe"), ("key", "key")]
)
def test_what_is_not_told_fits_nothing(key: str, fact: str) -> None:
    assert is_dropped(f"drop n {key}=*")
    assert not is_dropped(f"drop n {key}=*", **{fact: None})
    assert not is_dropped("drop n uid=*", uid=None, uid_name=None)
    assert is_dropped("drop n uid=0", uid_name=None)


def test_the_first_that_fits_decides() -> None:
    filters = Filters(
        [parse_filter(line) for line in ("keep a uid=1", "keep b key=etc", "drop c action=*", "keep d exe=*")]
    )
    assert [filters.drops(**ACTION), filters.drops(**{**ACTION, "key": None}), filters.drops(**{**ACTION, "uid": "1"})] == [
        False, True, False,
    ]  # fmt: skip
    assert filters.hits == {"a": 1, "b": 1, "c": 1, "d": 0}
    assert filters.dropped == 1
    assert filters.asks == (True, True, True, False)


def test_time_is_bounded_for_what_others_chose() -> None:
    start = time.process_time()
    assert not is_dropped("drop n exe=" + "*a" * 30 + "b", exe="a" * 4096)
    assert time.process_time() - start < 0.5


# ---------------------------------------------------------------------------------- through the core


def core_of(*lines: str, types: tuple[str, ...] = ("UserAction", "UserLogout")) -> Core:
    rules = tuple(parse_filter(line) for line in lines)
    return Core(CoreSettings(host="h", machine_id="m", boot_id="b", event_types=types, filters=rules))


def session(core: Core) -> list[dict[str, Any]]:
    """A login, its three commands of which one fails, and its logout; what is written of them."""
    log = Log()
    core.feed_sshd(accepted(4000, "bob@corp", user="core"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.feed_audit(log.execve(b"ls", ses=7, exe="/usr/bin/ls"))
    core.feed_audit(log.execve(b"id", ses=7, exe="/usr/bin/id", ok=False))
    core.feed_audit(log.execve(b"id", b"-u", ses=7, exe="/usr/bin/id", uid=0))
    core.feed_audit(log.message("USER_END", ses=7, pid=4000))
    core.flush()
    return events_of(core.take())


def told(events: list[dict[str, Any]]) -> list[str]:
    return [event["metadata"]["extra"].get("exe", event["type"]) for event in events]


ALL = ["/usr/sbin/sshd", "/usr/bin/ls", "/usr/bin/id", "/usr/bin/id", "/usr/sbin/sshd", "UserLogout"]


@pytest.mark.parametrize(
    ("lines", "written"),
    [
        ((), ALL),
        (("drop n exe=/nothing",), ALL),
        (("drop n exe=/usr/bin/id",), [ALL[0], ALL[1], *ALL[4:]]),
        (("keep root uid=0 exe=/usr/bin/*", "drop n exe=/usr/bin/*"), [ALL[0], ALL[3], *ALL[4:]]),
        (("keep root uid=root exe=/usr/bin/*", "drop n exe=/usr/bin/*"), [ALL[0], ALL[3], *ALL[4:]]),
        (("drop n user-id=*@corp action=executed",), [ALL[0], *ALL[4:]]),
        (("drop n user-id=*@corp logged-as=bob",), ALL),
        (("drop n key=user-commands object=/usr/bin/l?",), [ALL[0], *ALL[2:]]),
        (("drop n action=*",), ["UserLogout"]),
    ],
)
def test_actions_that_are_written(lines: tuple[str, ...], written: list[str]) -> None:
    assert told(session(core_of(*lines))) == written


def test_what_is_dropped_is_counted_in_its_session() -> None:
    every, none = session(core_of()), session(core_of("drop n action=*"))
    assert none == every[-1:]
    totals = none[0]["metadata"]["extra"]
    assert (totals["actions"], totals["failures"]) == (len(every) - 1, 1)


def test_hits_are_counters() -> None:
    core = core_of("keep root uid=0", "drop ids exe=/usr/bin/id", "drop never exe=/nothing")
    assert core.counters()["filter_hits_ids"] == 0
    session(core)
    counters = core.counters()
    assert (counters["filter_hits_ids"], counters["filter_hits_never"], counters["actions_dropped"]) == (1, 0, 1)
    assert counters["filter_hits_root"] > 0


def test_logins_and_conflicts_are_not_for_filters() -> None:
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b", filters=(parse_filter("drop n action=*"),)))
    log = Log()
    core.feed_sshd(accepted(4000, "bob@corp"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.feed_sshd(accepted(4000, "eve@corp"), "pipe", 0)
    core.flush()
    assert [event["type"] for event in events_of(core.take())] == ["UserLogin", "UserLogin", "IdentityConflict"]


def test_a_filter_sees_what_was_typed() -> None:
    """Redaction comes behind the filters: a glob fits the text itself."""
    log = Log()
    core = core_of("drop n object=*hunter2*")
    core.feed_sshd(accepted(4000), "pipe", 0)
    text = b"pid=4100 uid=0 auid=1000 ses=7 msg='cmd=" + b"mysql -phunter2".hex().upper().encode() + b" res=success'"
    core.feed_audit(log.login(ses=7, pid=4000) + log.event(("USER_CMD", text)))
    core.flush()
    assert told(events_of(core.take())) == ["/usr/sbin/sshd"]


# ---------------------------------------------------------------------------------- through a daemon

SETTINGS = """
redact-pattern = ["badge=B-(?P<secret>[0-9]+)"]

[[filter]]
name = "noise"
do = "drop"
action = "executed"
exe = "/usr/bin/echo"
object = "/never"

[[filter]]
name = "echo"
do = "drop"
exe = ["/usr/bin/echo", "/bin/echo"]
user-id = "alice@*"
"""


def typed(ses: int, seq: int, *args: str) -> str:
    """A command with these arguments."""
    argv = " ".join(f'a{number}="{arg}"' for number, arg in enumerate(args))
    text = command(ses, seq).replace(f'argc=2 a0="echo" a1="{seq}"', f"argc={len(args)} {argv}")
    return text.replace("/usr/bin/echo", f"/usr/bin/{args[0]}")


def test_a_daemon_filters_and_redacts(start: Start, pipes: list[str], home: Path) -> None:
    file = home / "audito.toml"
    file.write_text(SETTINGS)
    run = start(*pipes, "--config", str(file))
    run.write("sshd", login_line(100) + login_line(101, "carol"))
    run.write(
        "audit", opened(7, 100, 1) + opened(8, 101, 2) + command(7, 3) + typed(7, 4, "mysql", "-phunter2", "B-77")
    )
    run.write("audit", command(8, 5) + command(7, 6) + typed(8, 7, "curl", "http://bob:hunter2@x/"))
    wait_for(lambda: 7 in sequences(run.events()), f"the last command: {run.log_text()}")
    actions = [event["metadata"]["extra"] for event in run.events() if event["type"] == "UserAction"]
    commands = {action["sequence"]: action for action in actions if "process_args" in action}
    assert sorted(commands) == [4, 5, 7]
    assert commands[4]["process_args"] == ["mysql", "-p[redacted]", "B-[redacted]"]
    assert commands[4]["redacted"] == ["mysql", "badge"]
    assert commands[7]["process_args"] == ["curl", "http://bob:[redacted]@x/"]
    assert run.metric('audito_filter_hits_total{filter="echo"}') == 2
    assert run.metric('audito_filter_hits_total{filter="noise"}') == 0
    assert run.metric('audito_redacted_total{pattern="badge"}') == 1
    assert run.metric("audito_actions_dropped_total") == 2
    assert run.stop() == 0
    for path in home.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), f"{path}: output, log or state"


def test_what_is_held_for_a_login_line_is_redacted_too(start: Start, pipes: list[str], home: Path) -> None:
    """Commands that came before the login line are kept as records in memory, and written when it comes."""
    run = start(*pipes)
    run.write("audit", opened(7, 100, 1) + typed(7, 3, "mysql", "-phunter2"))
    time.sleep(2.5)  # a checkpoint is made
    assert not run.events()
    run.write("sshd", login_line(100))
    run.wait_sequences([3])
    assert run.stop() == 0
    for path in home.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path


def test_json_of_the_output_is_whole() -> None:
    core = core_of()
    core.feed_sshd(accepted(4000), "pipe", 0)
    log = Log()
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"curl", b"-u", b'a:"\\\xff\n', b'"', ses=7))
    core.flush()
    extra = json.loads(core.take().splitlines()[-1])["metadata"]["extra"]
    assert extra["process_args"] == ["curl", "-u", "a:[redacted]", '"']
