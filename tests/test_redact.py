"""Redaction: what is hidden and how it is told, whatever stands around it; through the core, as records bring it."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audito._needles import Needles
from audito.core import Core, CoreSettings
from audito.redact import (
    LOOKS_MAX,
    MASK,
    OwnPattern,
    Redaction,
    Redactor,
    parse_own_names,
    parse_own_pattern,
    written,
)
from audito.tables.secrets import ROW_NAMES, ROWS
from audito.text import original
from tests.records import TAIL, Log, accepted, quoted

DEFAULT = Redaction()
ALL_ON = Redactor(DEFAULT)
MARKED = re.compile("«.*?»", re.DOTALL)


def redacted(*args: str, by: Redactor = ALL_ON) -> list[str]:
    return by.args(args, set())


def core_of(redaction: Redaction = DEFAULT) -> tuple[Core, Log]:
    """A core with a session, 7."""
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b", redaction=redaction))
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.take()
    return core, log


def written_of(*events: bytes, redaction: Redaction = DEFAULT) -> bytes:
    """What the core writes of these events of session 7."""
    core, _ = core_of(redaction)
    for event in events:
        core.feed_audit(event)
    core.flush()
    return core.take()


def later() -> Log:
    """Makes events that come after the login."""
    log = Log(start=101)  # the serial behind the login's: no hole to tell of
    log.ms += 1000
    return log


def extra_of(line: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)["metadata"]["extra"]
    return found


def user_cmd(command: bytes) -> bytes:
    """sudo's record of a command; it joins the words with blanks."""
    text = b'pid=4100 uid=0 auid=1000 ses=7 msg=\'cwd="/" cmd=' + command.hex().upper().encode()
    return later().event(
        ("USER_CMD", text + b' exe="/usr/bin/sudo" terminal=pts/0 res=success\'' + TAIL + b'UID="root"')
    )


def keystrokes(kind: str, data: bytes) -> bytes:
    text = b'pid=4100 uid=0 auid=1000 ses=7 major=136 minor=0 comm="bash" data=' + data.hex().upper().encode()
    return later().event((kind, text))


def execve_forms(args: Sequence[bytes], split: int) -> bytes:
    """An event whose arguments are in quotes or hex as the kernel does it, one of them perhaps in parts."""
    log = later()
    fields = []
    for number, arg in enumerate(args):
        if number == split % (len(args) + 1) and len(arg) > 2:
            hexed = arg.hex().upper().encode()
            middle = len(hexed) // 4 * 2
            fields.append(b"a%d_len=%d a%d[0]=%s" % (number, len(hexed), number, hexed[:middle]))
            fields.append(b"a%d[1]=%s" % (number, hexed[middle:]))
        else:
            fields.append(b"a%d=%s" % (number, quoted(arg)))
    text = b"argc=%d " % len(args) + b" ".join(fields)
    return log.event(log.syscall(59, ses=7, pid=5000, comm="x", exe="/bin/x"), ("EXECVE", text))


# ---------------------------------------------------------------------------------- what is written


def test_an_argument_is_hidden_and_the_event_says_so() -> None:
    argv = (b"mysql", b"-u", b"root", b"-phunter2", b"postgres://bob:pw@db/x")
    extra = extra_of(written_of(later().execve(*argv, ses=7, exe="/usr/bin/mysql")))
    assert extra["process_args"] == ["mysql", "-u", "root", "-p[redacted]", "postgres://bob:[redacted]@db/x"]
    assert extra["redacted"] == ["mysql", "url"]
    assert "args_incomplete" not in extra


def test_an_event_without_a_secret_says_nothing() -> None:
    extra = extra_of(written_of(later().execve(b"mysql", b"-u", b"root", ses=7)))
    assert "redacted" not in extra


def test_all_that_can_hold_a_command_line_is_hidden() -> None:
    secret = b"hunter2"
    command = b"mysql -p" + secret
    lines = written_of(user_cmd(command), keystrokes("TTY", command + b"\r"), keystrokes("USER_TTY", command + b"\r"))
    assert secret not in lines
    for line in lines.splitlines():
        assert extra_of(line)["object"]["primary"].strip() == "mysql -p[redacted]"
        assert extra_of(line)["redacted"] == ["mysql"]


def test_a_path_a_program_and_a_key_that_hold_a_secret() -> None:
    """Odd, but they are texts that others chose; `how` is the name of a script."""
    token = b"ghp_0123456789abcdefghijABCDEFGHIJ012345"
    log = later()
    kind, text = log.syscall(257, ses=7, pid=5000, comm="x", exe="/usr/bin/prog")
    text = text.replace(b'exe="/usr/bin/prog"', b'exe="/opt/%s/prog"' % token)
    path = b'item=0 name="/tmp/%s" inode=1 mode=0100644 nametype=NORMAL' % token
    lines = written_of(log.event((kind, text), ("CWD", b'cwd="/home/%s"' % token), ("PATH", path)))
    assert token not in lines
    extra = extra_of(lines)
    assert extra["cwd"] == "/home/[redacted]"
    assert extra["exe"] == extra["how"] == "/opt/[redacted]/prog"
    assert extra["object"]["primary"] == "/tmp/[redacted]"
    assert extra["redacted"] == ["github"]


def test_an_argument_that_the_kernel_split() -> None:
    secret = b"hunter2" * 3000
    argument = b"--password=" + secret
    hexed = argument.hex().upper().encode()
    parts = [hexed[i : i + 7500] for i in range(0, len(hexed), 7500)]
    log = later()
    records = [("EXECVE", b'argc=2 a0="prog" a1_len=%d a1[0]=%s' % (len(hexed), parts[0]))]
    records += [("EXECVE", b" a1[%d]=%s" % (number, part)) for number, part in enumerate(parts[1:], 1)]
    lines = written_of(log.event(log.syscall(59, ses=7, pid=5000, comm="prog", exe="/bin/prog"), *records))
    assert extra_of(lines)["process_args"] == ["prog", "--password=[redacted]"]
    assert "args_incomplete" not in extra_of(lines)


def test_secrets_are_counted_by_what_found_them() -> None:
    core, _ = core_of()
    assert core.counters()["redacted_mysql"] == 0
    core.feed_audit(later().execve(b"mysql", b"-phunter2", b"--password=x", ses=7))
    core.take()
    counters = core.counters()
    assert (counters["redacted_mysql"], counters["redacted_password"]) == (1, 1)


def test_what_is_kept_between_events_is_still_hidden() -> None:
    """Short texts are made once: the second event that has one has to be as careful as the first."""
    log = later()
    event = [log.execve(b"curl", b"-u", b"bob:hunter2", ses=7) for _ in range(3)]
    harmless = [log.execve(b"echo", b"bob:hunter2", ses=7) for _ in range(2)]
    lines = written_of(event[0], harmless[0], event[1], harmless[1], event[2]).splitlines()
    args = [extra_of(line)["process_args"] for line in lines]
    hidden, shown = ["curl", "-u", "bob:[redacted]"], ["echo", "bob:hunter2"]
    assert args == [hidden, shown, hidden, shown, hidden]


@pytest.mark.parametrize(("row", "example"), [(row.name, example) for row in ROWS for example in row.told])
def test_each_example_through_the_core(row: str, example: str) -> None:
    """The compiled half lets nothing pass that the rows would hide: as an argv, and as one text."""
    args = [arg.encode() for arg in shlex.split(re.sub("[«»]", "", example))]
    extra = extra_of(written_of(execve_forms(args, 9)))
    assert extra["process_args"] == shlex.split(MARKED.sub(MASK, example))
    assert row in extra["redacted"]
    extra = extra_of(written_of(user_cmd(re.sub("[«»]", "", example).encode())))
    assert extra["object"]["primary"] == MARKED.sub(MASK, example)


# ---------------------------------------------------------------------------------- the mask


@pytest.mark.parametrize(
    ("raw", "spans", "text"),
    [
        (b"--password=x", [(11, 12, 0)], "--password=[redacted]"),
        (b"abcdef", [(1, 3, 0), (2, 4, 0), (4, 5, 0)], "a[redacted]f"),
        (b"abcdef", [(0, 1, 0), (3, 6, 0)], "[redacted]bc[redacted]"),
        (b"\xff=x", [(2, 3, 0)], "\\xff=[redacted]"),
        (b"\\\xff=x\\", [(3, 4, 0)], "\\\\\\xff=[redacted]\\\\"),
        (b"a\\b=x", [(4, 5, 0)], "a\\b=[redacted]"),
        (b"h\xc3\xa9=x", [(4, 5, 0)], "hé=[redacted]"),
        (b"[redacted]", [], "\\x5bredacted]"),
        (b"[redacted]\\=x", [(12, 13, 0)], "\\x5bredacted]\\\\=[redacted]"),
    ],
)
def test_a_text_with_masks(raw: bytes, spans: list[tuple[int, int, int]], text: str) -> None:
    assert written(raw, spans) == text


def test_a_mask_that_was_typed_is_told_from_ours() -> None:
    typed = (b"echo", b"[redacted]", b"a[redacted]\\b", b"[REDACTED]")
    extra = extra_of(written_of(later().execve(*typed, ses=7)))
    assert extra["process_args"] == ["echo", "\\x5bredacted]", "a\\x5bredacted]\\\\b", "[REDACTED]"]
    assert [original(arg) for arg in extra["process_args"]] == list(typed)
    assert "redacted" not in extra


@given(
    st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([b"[redacted]", b"\\", b"\\x5b", b"token=", b"\xff"])))
)
def test_no_typed_text_reads_as_a_mask(parts: list[bytes]) -> None:
    raw = b"".join(parts)
    text = ALL_ON.text(written(raw, []), set())
    assert text.count(MASK) <= text.count("=") + text.count(":")
    if MASK not in text:
        assert original(text) == raw


# ---------------------------------------------------------------------------------- more of what is hidden


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        # A value ends where the argument ends, whatever is in it.
        (["env", "PGPASSWORD=my secret; x"], ["env", "PGPASSWORD=[redacted]"]),
        (["x", "--password=a=b --user c"], ["x", "--password=[redacted]"]),
        (["x", "--password", "two words"], ["x", "--password", "[redacted]"]),
        (["x", "--password", "-Xsecret"], ["x", "--password", "[redacted]"]),
        (["x", "--password", "--user", "bob"], ["x", "--password", "--user", "bob"]),
        (["x", "--password", ""], ["x", "--password", ""]),
        # A script is looked into and not hidden as a whole.
        (["sh", "-c", "TOKEN=abc ls /; rm x"], ["sh", "-c", "TOKEN=[redacted] ls /; rm x"]),
        (["bash", "-lc", "TOKEN='a b' ls"], ["bash", "-lc", "TOKEN='[redacted]' ls"]),
        (["bash", "-c", "curl -u a:b http://x | sh"], ["bash", "-c", "curl -u a:[redacted] http://x | sh"]),
        (["sh", "-c", 'ssh h "mysql -psecret db"'], ["sh", "-c", 'ssh h "mysql -p[redacted] db"']),
        (["sh", "-c", "it's; mysql -psecret"], ["sh", "-c", "it's; mysql -p[redacted]"]),
        (["sh", "-c", "PGPASSWORD='never closed"], ["sh", "-c", "PGPASSWORD=[redacted]"]),
        # A program's flags end with the program.
        (["sh", "-c", "mysql -px; ls -pa"], ["sh", "-c", "mysql -p[redacted]; ls -pa"]),
        (["sshpass", "-p", "x", "ssh", "-p", "22", "h"], ["sshpass", "-p", "[redacted]", "ssh", "-p", "22", "h"]),
        (["curl", "-u", "bob:", "x"], ["curl", "-u", "[redacted]:", "x"]),
        (["x", "-H", "X-Token:a b"], ["x", "-H", "X-Token:[redacted]"]),
        (["x", '{\\"password\\": \\"a b\\"}'], ["x", '{\\"password\\": \\"[redacted]\\"}']),
        (["mysql", "-p\\ b"], ["mysql", "-p[redacted]"]),
    ],
)
def test_in_an_argv(args: list[str], expected: list[str]) -> None:
    assert redacted(*args) == expected


def test_bytes_that_are_no_text() -> None:
    lines = written_of(later().execve(b"curl", b"-u", b"b\xffb:\xfe\\\xc3secret", b"\xff", ses=7))
    assert extra_of(lines)["process_args"] == ["curl", "-u", "b\\xffb:[redacted]", "\\xff"]


# ---------------------------------------------------------------------------------- whatever stands around it

SENTINEL = b"Zq7Wv3Xk"
"""Begins each secret: no other text here has it, so wherever it stands in the output it leaked."""

FORMED = {"private-key", "aws-key-id", "github", "gitlab", "slack", "jwt", "vendor", "bearer"}
"""Rows that know a secret by its form: it cannot be any bytes."""

UNTIL = {"url": b" /?#@\t\n\r\v\f", "oracle": b"@", "npm": b" \t\n\r\v\f'\"", "connection-string": b";'\""}
"""Bytes that a secret of a row cannot have: it would end there for its program, too."""

PLACES = [(row.name, example) for row in ROWS if row.name not in FORMED for example in row.told]
BYTES = st.binary(max_size=12).map(lambda raw: raw.replace(b"\0", b"\1"))
ANY_ARG = st.one_of(
    BYTES, st.sampled_from([b"-x", b"--y=z", b"a:b", b"'", b'"', b"\\", b"=", b"[redacted]", b"\xff", b"sudo"])
)


def is_delimited(example: str) -> bool:
    """Whether a byte behind the secret says where it ends: then the secret cannot have it."""
    return any(not arg.endswith("»") for arg in shlex.split(example) if "»" in arg)


def with_secrets(example: str, secret: bytes) -> list[bytes]:
    return [MARKED.sub("\0", arg).encode().replace(b"\0", secret) for arg in shlex.split(example)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), BYTES, st.lists(ANY_ARG, max_size=3), st.lists(ANY_ARG, max_size=3), st.integers(0, 9))
def test_a_secret_in_an_argv_is_never_written(
    place: tuple[str, str], rest: bytes, before: list[bytes], behind: list[bytes], split: int
) -> None:
    row, example = place
    if is_delimited(example) or row in UNTIL:
        rest = rest.hex().encode()
    else:
        assume(not any(byte in UNTIL.get(row, b"") for byte in rest))
    args = [*before, *with_secrets(example, SENTINEL + rest), *behind]
    if row == "sshpass":
        args = args[len(before) :]
    lines = written_of(execve_forms(args, split))
    assert SENTINEL not in lines
    extra = extra_of(lines)
    assert len(extra["process_args"]) == len(args)
    assert row in extra["redacted"]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from([b"", b"sudo -u x ", b"cd /; ", b"\xff ", b"echo it's & ", b"(", b"a=b "]),
       st.sampled_from([b"", b" x", b"; ls", b" | sh", b"\n\xff", b")", b" 'x' \\"]), st.integers(0, 2))  # fmt: skip
def test_a_secret_in_a_command_line_is_never_written(
    place: tuple[str, str], before: bytes, behind: bytes, form: int
) -> None:
    """As sudo tells it, as keystrokes, and as the argument of a shell."""
    row, example = place
    assume(not (row == "sshpass" and before.startswith(b"sudo")))
    assume(b"'" not in before or not {"'", '"'} & set(example))
    line = before + MARKED.sub("\0", example).encode().replace(b"\0", SENTINEL + b"=%+") + behind
    event = [
        lambda: user_cmd(line),
        lambda: keystrokes("TTY", line),
        lambda: execve_forms([b"bash", b"-c", line], 9),
    ][form]()
    assert SENTINEL not in written_of(event)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(
    [b"mysql", b"-p", b"--password", b"token=", b"://a:", b"@", b"'", b'"', b"\\", b" ", b"\n", b"Authorization: ", b"AKIA",
     b"-----BEGIN PRIVATE KEY-----", b"eyJ", b".eyJ", b"curl", b"-u", b":", b"[redacted]", b"; pwd=", b"-H", b"-c"])),
    max_size=12))  # fmt: skip
def test_no_bytes_stop_it_and_spans_lie_in_the_text(parts: list[bytes]) -> None:
    finder = ALL_ON.finder
    raw = b"".join(parts)
    for spans, texts in ((finder.in_text(raw), [raw]), (finder.in_args(parts), parts)):
        assert all(0 <= start < end <= len(texts[number]) for number, start, end, _ in spans)
    for text in (raw, *parts):
        if finder.in_text(text):
            assert finder.needles.found(text), "the search has to find all that the rows can match"


# ---------------------------------------------------------------------------------- the configuration


def test_a_row_is_switched_off_by_its_name() -> None:
    off = Redactor(Redaction(off=("mysql", "url")))
    assert redacted("mysql", "-px", "http://a:b@c", "--password=y", by=off) == [
        "mysql", "-px", "http://a:b@c", "--password=[redacted]",
    ]  # fmt: skip
    assert "mysql" not in off.counts and "password" in off.counts


def test_redactors_share_their_rows_and_count_apart() -> None:
    one, other = Redactor(DEFAULT), Redactor(DEFAULT)
    assert one.finder is other.finder
    found: set[int] = set()
    assert one.text("DB_PASSWORD=hunter2", found) == f"DB_PASSWORD={MASK}"
    assert sum(one.counts.values()) == 1 and not any(other.counts.values())


def test_all_rows_are_switched_off() -> None:
    event = later().execve(b"mysql", b"-phunter2", b"[redacted]", ses=7)
    extra = extra_of(written_of(event, redaction=Redaction(off=("all",))))
    assert extra["process_args"] == ["mysql", "-phunter2", "[redacted]"]
    own = Redaction(off=("all",), patterns=(OwnPattern("two", "hunter"),))
    extra = extra_of(written_of(event, redaction=own))
    assert extra["process_args"] == ["mysql", "-p[redacted]2", "\\x5bredacted]"]
    assert extra["redacted"] == ["two"]


def test_own_names() -> None:
    own = Redaction(off=("all",), names=parse_own_names("pin, Badge-Number"))
    args = [
        b"x",
        b"--pin",
        b"1",
        b"PIN=2",
        b"card_pin=3",
        b"--badge_number=4",
        b"BADGE.NUMBER2",
        b"spin=5",
        b'{"pin": 6}',
    ]
    extra = extra_of(written_of(later().execve(*args, ses=7), redaction=own))
    mask = MASK
    assert extra["process_args"] == [
        "x", "--pin", mask, f"PIN={mask}", f"card_pin={mask}", f"--badge_number={mask}", "BADGE.NUMBER2", "spin=5",
        f'{{"pin": {mask}}}',
    ]  # fmt: skip
    assert extra["redacted"] == ["own-names"]


def test_own_patterns() -> None:
    own = Redaction(
        patterns=(parse_own_pattern("staff=EMP-(?P<secret>[0-9]+)"), parse_own_pattern("ssn=[0-9]{3}-[0-9]{2}"))
    )
    args = [b"x", b"EMP-123 and EMP-456\xff", b"123-45", b"EMP-", b"--password=EMP-7"]
    extra = extra_of(written_of(later().execve(*args, ses=7), redaction=own))
    assert extra["process_args"] == ["x", "EMP-[redacted] and EMP-[redacted]\\xff", MASK, "EMP-", f"--password={MASK}"]
    assert extra["redacted"] == ["password", "staff", "ssn"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EMP-[0-9]+", "write it as NAME=REGEX"),
        ("Name=x", "write it as NAME=REGEX"),
        ("mysql=x", 'a pattern of audito has the name "mysql"'),
        ("all=x", 'has the name "all"'),
        ("a=(", "pattern a: missing ): ("),
        ("a=(?=x)", "pattern a: invalid perl operator"),
        ("a=(x)\\1", "pattern a: invalid escape sequence"),
        ("a=x*", "pattern a: it matches an empty text"),
        ("a=", "pattern a: it matches an empty text"),
        ("a=([a-z]{1,50}x){1,9}", "pattern a: its program has"),
        ("a=é", "pattern a: it has to be ASCII"),
        ("a=" + "x" * 2000, "pattern a: it has to be ASCII (other bytes as \\xNN), up to 1024"),
    ],
)
def test_own_patterns_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_own_pattern(text)


@pytest.mark.parametrize("text", ["ab", "pin,,x", "a b", "é" * 3, "x" * 64, "-pin"])
def test_own_names_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        parse_own_names(text)


def test_own_names_are_bounded() -> None:
    with pytest.raises(ValueError, match="65 names are more than 64"):
        parse_own_names(",".join(f"name{chr(97 + n % 26)}{n}" for n in range(65)))


# ---------------------------------------------------------------------------------- time


def test_what_is_made_to_cost_time_is_hidden() -> None:
    text = "AKIA " * (LOOKS_MAX + 5)
    assert redacted("echo", text) == ["echo", "AKIA " * LOOKS_MAX + MASK]
    own = Redactor(Redaction(patterns=(OwnPattern("x", "x"),)))
    assert written(b"", []) == ""
    assert redacted("x" + "yx" * LOOKS_MAX + "yyy", by=own) == [MASK + f"y{MASK}" * LOOKS_MAX]


def test_own_patterns_in_linear_time() -> None:
    own = Redactor(Redaction(patterns=(parse_own_pattern("hard=(?:a|b)*a(?:a|b){20}c"),)))
    start = time.process_time()
    redacted("ab" * 30_000, by=own)
    assert time.process_time() - start < 1.5


HOSTILE = ["'", '"', "\\", '"\\"', "password=", '"password":"', "token: ", "://a:", "://a:b@", "--token=x ", "mysql -p",
           "-----BEGIN PRIVATE KEY-----", "a.eyJaaaa", "authorization: a, ", "AKIA", ";pwd=", "password\\\\", "((", "&token=a",
           "a ", "x_-.", "' \" \\", "'\"", "A=", "curl -u "]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("read", [lambda r, x: r.text(x, set()), lambda r, x: r.args(["curl", x, "-u"], set())])
def test_time_is_linear_in_the_text(unit: str, read: Callable[[Redactor, str], object]) -> None:
    def cost(size: int) -> float:
        text = unit * (size // len(unit)) + "password"
        times = []
        for _ in range(3):
            redactor = Redactor(Redaction())
            start = time.process_time()
            read(redactor, text)
            times.append(time.process_time() - start)
        return min(times)

    assert cost(64_000) < 0.1 + 6 * cost(32_000)
    assert cost(64_000) < 0.2, "3 µs a byte"


# ---------------------------------------------------------------------------------- the search


@given(
    st.lists(st.text("aBc-=", min_size=4, max_size=9), min_size=1, max_size=20),
    st.text("AbcC-= x", max_size=30),
    st.integers(0, 31),
)
def test_the_search_finds_what_python_finds(needles: list[str], text: str, start: int) -> None:
    lower = text.lower()
    subject = Needles(needles)
    assert subject.found(text.encode()) == any(needle.lower() in lower for needle in needles)
    place = subject.find(text.encode(), start)
    places = [at for needle in needles if (at := lower.find(needle.lower(), start)) >= 0]
    assert (place is None) == (not places)
    if place is not None:
        assert lower.startswith(place[1], place[0])
        assert place[0] <= min(places) + 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"zip", True),
        (b"ZIP", True),
        (b"gzip", False),
        (b"", False),
        (b"a://b@", True),
        (b"b@a://", False),
        (b"://", False),
    ],
)
def test_short_needles_are_whole_texts(text: bytes, found: bool) -> None:
    assert Needles(["zip", "rar"], urls=True).found(text) is found


def test_needles_that_cannot_be() -> None:
    for needles in ([""], ["x" * 65], [f"{n:05}" for n in range(2049)], [f"{n:03}" for n in range(65)]):
        with pytest.raises(ValueError, match="needle"):
            Needles(needles)


def test_the_rows_have_a_number_each() -> None:
    assert [*ALL_ON.counts] == list(ROW_NAMES)
