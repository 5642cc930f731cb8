"""The docs against the code, both ways: series, flags, event types and fields; and the JSON Schemas against events."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audito import config, events, health
from audito.core import Core, CoreSettings, decode
from tests.schema import faults, validator
from tests.sshd_lines import every_example
from tools import gen_docs

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = ROOT / "examples"
CORPUS = sorted((ROOT / "tests" / "corpus").glob("*.log"))

FLAG = re.compile(r"(?<![\w/.-])--?([a-z][a-z-]+[a-z])\b")
OURS = re.compile(r"\b(audito_[a-z_]+)")
OTHERS_FLAGS = {
    # docker, git, helm, kubectl, pip, systemd-analyze, auditctl, augenrules and ssh have flags of their own.
    *("user", "cap-drop", "cap-add", "security-opt", "read-only", "namespace", "create-namespace", "set", "load"),
    *("offline", "now", "full", "prove", "reset-lost", "write-rules", "version", "help"),
}


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands between a heading and the next one of its kind."""
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"there is no section {title}"
    return match[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in a text, less heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


# -- what is generated


def test_the_files_are_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, "tools/gen_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}run `make schema` and commit what it writes"


def test_every_series_has_a_help_of_its_own() -> None:
    figures = gen_docs.all_figures()
    labelled = (*health.LABELLED, health.LOGIN_PREFIX)
    plain = {name for name in figures if not name.startswith(labelled)}
    assert plain == set(health.OTHER_HELP), "a row for each figure, and none for another"
    assert not [family.name for family in gen_docs.families() if len(family.documentation) < 10]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_a_file_that_the_docs_speak_of_is_there(path: Path) -> None:
    named = re.findall(
        r"`((?:docs|deploy|tests|examples|tools|audito|benchmarks)/[\w./-]+)`", path.read_text(encoding="utf-8")
    )
    made = ["benchmarks/results/"]  # by `make bench`
    assert not [name for name in named if not (ROOT / name).exists() and name not in made]


# -- series


def test_the_docs_name_every_series_and_no_other() -> None:
    known = {gen_docs.series_name(family): family for family in gen_docs.families()}
    table = {row[0].strip("`"): row for row in rows(text_of("metrics.md"))}
    assert set(table) == set(known)
    for name, family in known.items():
        assert set(re.findall(r"`(\w+)`", table[name][2])) == set(gen_docs.labels_of(family)), name


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_a_series_that_the_docs_speak_of_is_there(path: Path) -> None:
    known = {gen_docs.series_name(family) for family in gen_docs.families()}
    text = re.sub(r"(/|-n |-m )audito\w*", "", path.read_text(encoding="utf-8"))
    named = {name for name in OURS.findall(text) if not name.endswith("_")}
    assert named <= known


def test_labels_are_words_of_ours() -> None:
    """What a peer or an account writes is in no label: the same labels, whatever was read."""
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    before = set(core.counters())
    core.feed_sshd(b'1 Accepted x"}y for evil{a="b"} from 1.2.3.4 port 5 ssh2\n', "pipe", 10**15)
    for path in (EXAMPLES / "audit.log", *CORPUS):
        core.feed_audit(path.read_bytes())
    for _, example in every_example():
        core.feed_sshd(b"7 " + example.line.encode() + b"\n", "pipe", 10**15)
    core.flush()
    assert set(core.counters()) == before


# -- flags


def flags() -> set[str]:
    """Every flag of the command line, with its older names."""
    settings = [row.setting for kind in (config.DoctorConfig, config.Replay) for row in config.rows(kind)]
    return {name for setting in settings for name in setting.names}


def test_the_docs_name_every_flag_and_no_other() -> None:
    first = [row[0] for row in rows(text_of("flags.md"))]
    assert {name for cell in first for name in FLAG.findall(cell)} == flags()


def test_the_help_names_every_flag_and_no_other() -> None:
    texts = [
        subprocess.run(
            [sys.executable, "-m", "audito", name, "--help"], cwd=ROOT, capture_output=True, text=True
        ).stdout
        for name in ("run", "replay", "decode", "doctor")
    ]
    assert set(FLAG.findall("\n".join(texts))) - {"help", "version"} == flags()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_a_flag_that_the_docs_speak_of_is_there(path: Path) -> None:
    quoted = " ".join(re.findall(r"`(--?[a-z][^`\n]*|audito [^`\n]*)`", path.read_text(encoding="utf-8")))
    if path.name == "rules.md":
        quoted = " ".join(re.findall(r"`(--(?:redact|filter)[^` \n]*)", quoted))  # of the rest, others' passwords
    assert set(FLAG.findall(quoted)) - OTHERS_FLAGS <= flags()


# -- events


def test_the_docs_name_every_type_and_no_other() -> None:
    text = text_of("events.md")
    overview = text.partition("## All types")[0]
    assert [row[0].strip("`") for row in rows(overview)] == list(events.EVENT_TYPES)
    assert [kind.__name__ for kind in gen_docs.EVENTS] == list(events.EVENT_TYPES)
    readme = section((ROOT / "README.md").read_text(encoding="utf-8"), "Events")
    assert {row[0].strip("`") for row in rows(readme)} >= set(events.EVENT_TYPES)


NEVER_LEFT_OUT = {
    *("data", "metadata.extra.correlation"),
    *("metadata.extra.claimedSource.extra", "metadata.extra.claimedSource.extra.port"),
}
"""Their structs could do without them."""


@pytest.mark.parametrize("kind", gen_docs.EVENTS, ids=lambda kind: kind.__name__)
def test_the_docs_name_every_field_and_no_other(kind: Any) -> None:
    name = kind.__name__
    text = text_of("events.md")
    common = {row[0].strip("`"): row for row in rows(section(text, "All types"))}
    common = {path: row for path, row in common.items() if f"all but `{name}`" not in row[2]}
    own = {row[0].strip("`"): row for row in rows(section(text, name)) if len(row) == 4}
    assert not set(common) & set(own), "each field is told once"
    fields = dict(gen_docs.paths(gen_docs.Shapes().of(kind)))
    assert set(common) | set(own) == set(fields)
    for path, row in own.items():
        is_always = row[2].split(";")[0] in ("always", f"with `{path.split('.')[-2] if '.' in path else ''}`")
        assert is_always != fields[path] or path in NEVER_LEFT_OUT, f"{path}: {row[2]}"


def test_the_docs_name_every_field_of_decode_and_no_other() -> None:
    named = [row[0].strip("`") for row in rows(section(text_of("events.md"), "audito decode"))]
    assert named == list(events.DecodedEvent.__struct_fields__)


def test_the_docs_name_every_correlation_reason_and_context() -> None:
    action = section(text_of("events.md"), "UserAction")
    words = [row[0].strip("`") for row in rows(action) if len(row) == 2]
    assert tuple(words) == events.CORRELATIONS
    assert {f"metadata.extra.{name}" for name in events.CONTEXT} <= {row[0].strip("`") for row in rows(action)}
    reasons = {name for row in rows(text_of("gaps.md")) for name in re.findall(r"`(\w+)`", row[0])}
    assert reasons == set(events.GAP_REASONS)


# -- the schemas


def core_with(**more: Any) -> Core:
    return Core(CoreSettings(host="h", machine_id="m", boot_id="b" * 32, **more))


def written() -> Iterator[bytes]:
    """Events of all types: the captured session, each shape of record, each line of sshd, conflicts and gaps."""
    core = core_with()
    core.feed_sshd((EXAMPLES / "sshd.log").read_bytes(), "auto", 10**15)
    core.feed_audit((EXAMPLES / "audit.log").read_bytes())
    core.flush()
    yield core.take()
    for path in CORPUS:
        core = core_with()
        core.feed_audit(path.read_bytes())
        core.input_gap("audit", "audit-directory", "file_gone", 10**12)
        core.flush()
        yield core.take()
    core = core_with()
    for number, (_, example) in enumerate(every_example()):
        core.feed_sshd(b"%d " % (number + 1) + example.line.encode() + b"\n", "pipe", 10**15 + number)
    core.flush()
    yield core.take()
    core = core_with()
    for who in ("alice", "mallory"):
        core.feed_sshd(login_line(who), "pipe", 1_700_000_000_000_000)
    core.feed_audit(LOGIN)
    core.feed_sshd(login_line("eve"), "pipe", 1_700_000_000_000_000)
    core.flush()
    yield core.take()


LOGIN = (
    b"type=LOGIN msg=audit(1700000000.000:7): pid=77 uid=0 old-auid=4294967295 auid=1000 tty=(none) "
    b"old-ses=4294967295 ses=3 res=1\n"
    b"type=SYSCALL msg=audit(1700000000.000:7): arch=c000003e syscall=1 success=yes exit=4 a0=3 a1=7 a2=4 a3=3e8 "
    b"items=0 ppid=1 pid=77 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=3 "
    b'comm="sshd" exe="/usr/sbin/sshd" key=(null)\n'
    b"type=PROCTITLE msg=audit(1700000000.000:7): proctitle=737368643A\n"
)


def login_line(who: str) -> bytes:
    return (
        f"77 Accepted publickey for core from 6.6.6.2 port 59145 ssh2: ED25519-CERT SHA256:{who} ID {who}@foo.com "
        "(serial 350) CA ED25519 SHA256:ca\n"
    ).encode()


def test_every_event_that_is_written_fits_the_schema() -> None:
    checker = validator(gen_docs.EVENTS_SCHEMA)
    seen: set[str] = set()
    data: set[str] = set()
    for lines in written():
        for line in lines.splitlines():
            event = json.loads(line)
            assert not faults(checker, event), event
            seen.add(event["type"])
            data |= set(event.get("data", ()))
    assert seen == set(events.EVENT_TYPES)
    login = section(text_of("events.md"), "UserLogin")
    told = {name for row in rows(login) if len(row) == 2 for name in re.findall(r"`(\w+)`", row[0])}
    assert data <= told
    assert told - data <= {"factors", "ambiguous", "session"}, "what no line of the tables alone brings about"


def test_what_decode_writes_fits_its_schema() -> None:
    checker = validator(gen_docs.DECODE_SCHEMA)
    count = 0
    for path in (EXAMPLES / "audit.log", *CORPUS):
        for lines in decode([path.read_bytes()]):
            for line in lines.splitlines():
                count += 1
                assert not [error.message for error in checker.iter_errors(json.loads(line))], line
    assert count > 300


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_the_examples_of_the_docs_fit_the_schema(path: Path) -> None:
    checker = validator(gen_docs.EVENTS_SCHEMA)
    for block in re.findall(r"^```json\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        decoder, at = json.JSONDecoder(), 0
        while at < len(block.rstrip()):
            event, at = decoder.raw_decode(block, at)
            at += len(block[at:]) - len(block[at:].lstrip())
            if "type" in event:  # docs/rules.md shows a part of one
                assert not faults(checker, event), event


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("type", "UserLogon"),
        ("outcome", "perhaps"),
        ("metadata.extra.sequence", "7"),
        ("metadata.extra.object", None),
        ("metadata.extra.surprise", 1),
        ("subjects.userID", None),
    ],
)
def test_the_schema_refuses_what_is_none(path: str, value: Any) -> None:
    core = core_with()
    core.feed_sshd(login_line("alice"), "pipe", 1_700_000_000_000_000)
    core.feed_audit(LOGIN)
    core.flush()
    (event,) = [event for event in map(json.loads, core.take().splitlines()) if event["type"] == "UserAction"]
    checker = validator(gen_docs.EVENTS_SCHEMA)
    assert checker.is_valid(event)
    *parents, name = path.split(".")
    holder = event
    for parent in parents:
        holder = holder[parent]
    holder[name] = value
    assert not checker.is_valid(event)
