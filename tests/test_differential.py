"""The compiled core against the slow, obvious reference, on generated records.

Well-formed records, as kernels and programs write them, must mean the same to both in every field. Damaged ones
must give the same events. Sessions must get the same events and the same identities as the truth says.
``AUDITO_FUZZ=N`` runs N examples a test, new ones each time; otherwise a few, always the same.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from audito import core
from audito.tables import actions, record_types, syscalls
from benchmarks import workload
from tests import reference

FUZZ = int(os.environ.get("AUDITO_FUZZ", "0"))


def examples(count: int) -> Callable[[Any], Any]:
    """Run this many examples, always the same; with AUDITO_FUZZ as many as it says, new ones, shrunk where they fail."""
    return settings(
        max_examples=FUZZ or count,
        derandomize=not FUZZ,
        phases=[Phase.generate, Phase.shrink] if FUZZ else [Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# ------------------------------------------------------------------------------------------ values

# Pieces of text that a careless parser trips over.
TRAPS = [
    b"?", b"(null)", b"(none)", b"unset", b"deadbeef", b"DEADBEEF", b"1234", b"", b"a b", b"a=b", b" ses=5", b"msg='x",
    b'"', b"'", b"it's", b"\\", b"\\x41", b"\\\\", b"ends\\", b"a\x1dUID=", b"#035UID=x", b"#035", b"type=LOGIN",
    b"audit(1.0:2):", b"h\xc3\xa9", b"\xff\xfe", b"\xc3", b"\x01\x02\x7f", b"\t", b"\r", b"a\nb", b"{ }", b"avc: ",
    b"1.2.3.4,", b"SYSCALL", b"/usr/bin/python3", b"/usr/bin/bash", b"/usr/sbin/sshd", b"%s%n",
]  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(TRAPS),
    st.binary(max_size=12).map(lambda text: text.replace(b"\0", b"0")),
    st.from_regex(rb"\A[!-~]{1,20}\Z"),
)
# Text in quotes whose last byte is a backslash reads otherwise to go-libaudit than it was written: not in its fields.
PLAIN = TEXT.filter(lambda text: not text.endswith(b"\\"))
NAME = st.from_regex(rb"\A[a-z][a-z0-9._-]{0,14}\Z")
PATHS = st.one_of(
    st.sampled_from([b"/usr/bin/ls", b"/usr/bin/python3.11", b"/usr/bin/shutdown", b"/usr/sbin/sshd", b"/tmp/a b"]),
    PLAIN.map(lambda text: b"/" + text),
)


def untrusted(text: bytes) -> bytes:
    """Text as the kernel's audit_log_untrustedstring writes it."""
    if any(byte < 0x21 or byte > 0x7E or byte == 0x22 for byte in text):
        return text.hex().upper().encode()
    return b'"' + text + b'"'


UNTRUSTED = PLAIN.map(untrusted)
NUMBER = st.one_of(st.integers(0, 100_000), st.just(4294967295))
SESSION = st.sampled_from([b"1", b"7", b"325", b"4294967295", b"-1", b"unset"])
ADDRESS = st.sampled_from([b"1.2.3.4", b"?", b"::1", b"2001:db8::7", b"::ffff:1.2.3.4", b"host.example"])
TERMINAL = st.sampled_from([b"ssh", b"pts/0", b"/dev/pts/3", b"cron", b"?", b"(none)"])
RESULT = st.sampled_from([b"success", b"failed", b"yes", b"no", b"1", b"0"])
TAIL = st.sampled_from([b"", b"", b'\x1dARCH=x86_64 SYSCALL=x AUID="bob" UID="root"', b'#035UID="root" AUID="unset"'])

# ------------------------------------------------------------------------------------------ records


def line(kind: str, *body: bytes) -> bytes:
    """A record line whose stamp is still to be filled in."""
    return b"type=" + kind.encode() + b" msg=audit(@): " + b" ".join(part for part in body if part)


@st.composite
def syscall_records(draw: st.DrawFn) -> bytes:
    """A SYSCALL record."""
    arch = draw(st.sampled_from([0xC000003E, 0xC000003E, 0x40000003, 0xC00000B7, 0xC00000F3, 0x12345678]))
    known = [number for number in range(512) if syscalls.syscall_name(arch, number) in actions.SYSCALL_ACTIONS]
    number = draw(st.one_of(st.sampled_from(known or [0]), st.integers(0, 600)))
    outcome = draw(st.sampled_from([b"success=yes exit=0", b"success=no exit=-13", b"", b'success="yes"']))
    return line(
        "SYSCALL",
        b"arch=%x syscall=%d" % (arch, number),
        draw(st.sampled_from([b"", b"per=400008"])),
        outcome,
        b"a0=7ffc a1=0 a2=1b6 a3=8 items=%d" % draw(st.integers(0, 5)),
        b"ppid=%d pid=%d auid=%d" % (draw(NUMBER), draw(NUMBER), draw(NUMBER)),
        b"uid=%d gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0" % draw(NUMBER),
        b"tty=(none) ses=" + draw(SESSION),
        b"comm=" + draw(st.one_of(NAME.map(untrusted), UNTRUSTED)),
        b"exe=" + draw(st.one_of(PATHS.map(untrusted), st.just(b"(null)"))),
        draw(st.sampled_from([b"", b"subj=unconfined", b"subj==unconfined", b"subj=?"])),
        b"key=" + draw(st.sampled_from([b"(null)", b'"user-commands"', b"61017A"])) + draw(TAIL),
    )


@st.composite
def path_records(draw: st.DrawFn) -> bytes:
    """A PATH record; with nametype last, as kernels before 3.14 have it, or with capabilities behind it."""
    name = draw(st.one_of(PATHS.map(untrusted), UNTRUSTED, st.just(b"(null)")))
    mode = draw(st.sampled_from([b"", b"mode=0100644", b"mode=040755", b"mode=020620", b"mode=?"]))
    kind = draw(st.sampled_from([b"NORMAL", b"PARENT", b"CREATE", b"DELETE", b"UNKNOWN"]))
    return line(
        "PATH",
        b"item=%d name=" % draw(st.integers(0, 4)) + name,
        b"inode=%d dev=fe:01" % draw(NUMBER),
        mode,
        b"ouid=0 ogid=0 rdev=00:00",
        draw(st.sampled_from([b"nametype=" + kind, b"nametype=" + kind + b" cap_fp=0 cap_fe=? cap_fver=0", b""]))
        + draw(st.sampled_from([b"", b'\x1dOUID="root" OGID="root"'])),
    )


@st.composite
def sockaddr_records(draw: st.DrawFn) -> bytes:
    """A SOCKADDR record of any family, whole or cut."""
    tail = draw(st.binary(max_size=10))
    port, host = draw(st.binary(min_size=2, max_size=2)), draw(st.binary(min_size=16, max_size=16))
    address = draw(
        st.sampled_from([
            b"\2\0" + port + host[:4] + b"\0" * 8,
            b"\x0a\0" + port + b"\0" * 4 + host + b"\0" * 4,
            b"\x0a\0" + port + b"\0" * 14 + b"\xff\xff" + host[:4] + b"\0" * 4,
            b"\1\0/run/sock\0" + tail,
            b"\1\0\0abstract",
            b"\x10\0" + b"\0" * 10,
            b"\0\2" + port + host[:4],
            b"\2\0",
        ])
    )  # fmt: skip
    suffix = draw(st.sampled_from([b"", b"\x1dSADDR={ saddr_fam=inet laddr=1.2.3.4 lport=22 }"]))
    return line("SOCKADDR", b"saddr=" + address.hex().upper().encode() + suffix)


@st.composite
def execve_records(draw: st.DrawFn) -> list[bytes]:
    """The EXECVE records of one event; a few of them miss an argument or a part of one."""
    args = draw(st.lists(TEXT, min_size=1, max_size=6))
    records = execve(args, draw(st.sampled_from([4, 9, 1000])), draw(st.sampled_from([40, 200, 10_000])))
    if draw(st.integers(0, 9)) == 0:
        records[0] = re.sub(rb" a1=[^ ]*", b"", records[0])
    return records


def execve(args: list[bytes], part_bytes: int, record_bytes: int) -> list[bytes]:
    """EXECVE records as the kernel writes them: long arguments in parts, long command lines in several records."""
    records, body = [], b"argc=%d" % len(args)
    for number, arg in enumerate(args):
        words = [b"a%d=" % number + untrusted(arg)]
        if len(arg) > part_bytes:
            parts = [arg[i : i + part_bytes] for i in range(0, len(arg), part_bytes)]
            words = [b"a%d_len=%d" % (number, 2 * len(arg))]
            words += [b"a%d[%d]=%s" % (number, i, part.hex().upper().encode()) for i, part in enumerate(parts)]
        for word in words:
            if len(body) > record_bytes:
                records.append(body)
                body = b""
            body += b" " + word
    return [b"type=EXECVE msg=audit(@): " + body for body in (*records, body)]


@st.composite
def syscall_events(draw: st.DrawFn) -> list[bytes]:
    """The records of a kernel event."""
    first = draw(
        st.sampled_from([
            None, None, None, None,
            line("BPF", b"prog-id=439 op=LOAD"),
            line("UNKNOWN[1334]", b"prog-id=1 op=UNLOAD"),
            line("AVC", b'apparmor="DENIED" operation="open" pid=7 comm="x" requested_mask="r" denied_mask="r"'),
            line("AVC", b"avc:  denied  { read write } for  pid=1 tcontext=u:o:t tclass=file permissive=0"),
            line("NETFILTER_CFG", b"table=filter:2 family=2 entries=4 op=nft_register_rule pid=9"),
            line("KERN_MODULE", b'name="dummy"'),
            line("CONFIG_CHANGE", b'auid=1000 ses=7 op=add_rule key="k" list=4 res=1'),
            line("TIME_ADJNTPVAL", b"op=adjust old=0 new=12345"),
            line("LANDLOCK_ACCESS", b"domain=195ba459b blockers=ptrace opid=1"),
            line("FUTURE_RECORD", b"x=1"),
        ])
    )  # fmt: skip
    records = [first] if first else []
    records.append(draw(syscall_records()))
    if draw(st.booleans()):
        records += draw(execve_records())
    if draw(st.integers(0, 3)) == 0:
        records.append(draw(sockaddr_records()))
    if draw(st.booleans()):
        records.append(line("CWD", b"cwd=" + draw(PATHS.map(untrusted))))
    records += draw(st.lists(path_records(), max_size=4))
    end = draw(st.sampled_from(["PROCTITLE", "PROCTITLE", "PROCTITLE", "EOE", ""]))
    if end == "PROCTITLE":
        title = b"\0".join(draw(st.lists(PLAIN, min_size=1, max_size=3)))
        hexed = title.hex().upper().encode() if b"\0" in title else untrusted(title)
        records.append(line(end, b"proctitle=" + draw(st.sampled_from([hexed, hexed, b"(null)"]))))
    elif end:
        records.append(line(end, b""))
    return records


MESSAGES = ["USER_ACCT", "USER_AUTH", "USER_START", "USER_END", "USER_LOGIN", "CRED_ACQ", "CRED_DISP", "CRED_REFR",
            "USER_ERR", "ADD_USER", "SERVICE_START", "UNKNOWN[1150]"]  # fmt: skip


@st.composite
def message_events(draw: st.DrawFn) -> list[bytes]:
    """A message of a trusted program. libaudit writes names as the kernel does: in quotes or in hex."""
    kind = draw(st.sampled_from(MESSAGES))
    account = untrusted(draw(NAME)) if kind != "USER_LOGIN" else draw(UNTRUSTED)
    return [
        line(
            kind,
            b"pid=%d uid=%d auid=%d ses=" % (draw(NUMBER), draw(NUMBER), draw(NUMBER)) + draw(SESSION),
            draw(st.sampled_from([b"", b"subj=unconfined"])),
            b"msg='op=PAM:setcred grantors=pam_unix acct=" + account,
            draw(st.sampled_from([b'exe="/usr/sbin/sshd"', b'exe="/usr/bin/su"', b'exe="/usr/bin/python3"', b""])),
            b"hostname=" + draw(ADDRESS) + b" addr=" + draw(ADDRESS) + b" terminal=" + draw(TERMINAL),
            b"res=" + draw(RESULT) + b"'" + draw(st.sampled_from([b"", b'\x1dUID="root" AUID="x"', b'UID="root"'])),
        )
    ]


@st.composite
def login_events(draw: st.DrawFn) -> list[bytes]:
    """A LOGIN, in the form of today or of kernels up to 3.13, alone or with the SYSCALL that did it."""
    body = draw(
        st.sampled_from([
            b"pid=%d uid=0 old-auid=4294967295 auid=%d tty=(none) old-ses=4294967295 ses=%d res=%d",
            b"pid=%d uid=0 subj=unconfined old-auid=4294967295 auid=%d tty=(none) old-ses=4294967295 ses=%d res=%d",
            b"login pid=%d uid=0 old auid=4294967295 new auid=%d old ses=4294967295 new ses=%d res=%d",
        ])
    )  # fmt: skip
    record = line("LOGIN", body % (draw(NUMBER), draw(NUMBER), draw(st.integers(1, 9)), draw(st.integers(0, 1))))
    records = [record + draw(st.sampled_from([b"", b'\x1dUID="root" AUID="bob"']))]
    if draw(st.booleans()):
        records += [draw(syscall_records()), line("PROCTITLE", b'proctitle="sshd"')]
    return records


OTHERS = [
    line("ANOM_ABEND", b'auid=1000 uid=1000 gid=1000 ses=7 pid=600 comm="a" exe="/tmp/a" sig=11 res=1'),
    line("SECCOMP", b'auid=1 uid=1 gid=1 ses=7 pid=8 comm="c" exe="/c" sig=31 arch=c000003e syscall=161 code=0x0'),
    line("TTY", b'tty pid=27930 uid=1000 auid=1000 ses=762 major=136 minor=0 comm="bash" data=6563686F0D'),
    line("USER_CMD", b"pid=5 uid=1 auid=1 ses=3 msg='cwd=\"/home/u\" cmd=6361742066 terminal=pts/0 res=success'"),
    line("KERNEL", b"state=initialized audit_enabled=0 res=1"),
    line("DAEMON_START", b"op=start ver=3.0.9 auid=4294967295 pid=1 uid=0 ses=4294967295 res=success"),
    line("UNKNOWN[1999]", b"x=1"),
    line("UNKNOWN[2999]", b"pid=1 ses=7 res=1"),
]
EVENTS = st.one_of(
    syscall_events(), syscall_events(), message_events(), login_events(), st.sampled_from(OTHERS).map(lambda one: [one])
)

GARBAGE = st.one_of(
    st.just(b""),
    st.just(b"\r"),
    st.just(b"type=SYSCALL msg=audit(1.0:"),
    st.just(b"type=SYSCALL msg=audit(1.0:99999999999): pid=1"),
    st.just(b"audit(1.0:3): arch=c000003e"),
    st.binary(max_size=60).map(lambda text: text.replace(b"\n", b"\r")),
).filter(lambda text: reference.parse_header(reference.trimmed(text)) is None)


@st.composite
def logs(draw: st.DrawFn, garbage: bool = True) -> bytes:
    """An audit log: events whose records interleave, of one host or of two, with other lines between."""
    events = draw(st.lists(EVENTS, min_size=1, max_size=6))
    nodes = draw(st.sampled_from([[b""], [b""], [b"node=web1 ", b"node=web2 "]]))
    ms, queues = 1_700_000_000_000, []
    for position, records in enumerate(events):
        ms += draw(st.sampled_from([0, 0, 1, 500, 1999, 2001, 5000]))
        stamp = b"audit(%d.%03d:%d)" % (ms // 1000, ms % 1000, 100 + position)
        node = draw(st.sampled_from(nodes))
        queues.append([node + record.replace(b"audit(@)", stamp) for record in records])
    lines: list[bytes] = []
    while queues:
        queue = queues[draw(st.integers(0, min(len(queues), 3) - 1))]
        lines.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
        if garbage and draw(st.integers(0, 7)) == 0:
            lines.append(draw(GARBAGE))
    ending = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    return ending.join(lines) + draw(st.sampled_from([ending, b""]))


# ------------------------------------------------------------------------------------------ decode


def decoded(chunks: Iterable[bytes]) -> list[dict[str, Any]]:
    """What the compiled core makes of these bytes."""
    return [json.loads(text) for lines in core.decode(chunks) for text in lines.splitlines()]


@examples(400)
@given(logs())
def test_f17_records_mean_the_same_to_both(log: bytes) -> None:
    assert decoded([log]) == reference.decode(log)


@examples(100)
@given(logs(), st.lists(st.integers(0, 4000), max_size=6))
def test_reads_may_end_anywhere(log: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(log), *(cut % (len(log) + 1) for cut in cuts)})
    chunks = [log[start:end] for start, end in itertools.pairwise(places)]
    assert b"".join(core.decode(chunks)) == b"".join(core.decode([log]))


@examples(200)
@given(logs(), st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=3), st.integers(0, 5)), max_size=4))
def test_damage_costs_no_other_record(log: bytes, damage: list[tuple[int, bytes, int]]) -> None:
    for place, inserted, removed in damage:
        place %= len(log) + 1
        log = log[:place] + inserted + log[place + removed :]
    keys = ("seq", "ts", "type", "records")
    events = [{key: event[key] for key in keys} for event in decoded([log])]
    assert events == [{key: event[key] for key in keys} for event in reference.decode(log)]


@examples(200)
@given(st.binary(max_size=400))
def test_f16_any_bytes_are_survived(data: bytes) -> None:
    keys = ("seq", "ts", "records")
    events = [tuple(event[key] for key in keys) for event in decoded([data])]
    assert events == [tuple(event[key] for key in keys) for event in reference.decode(data)]


# ------------------------------------------------------------------------------------------ argv

SETTINGS = core.CoreSettings(host="h", machine_id="m", boot_id="b")
LOGIN = (
    b"type=LOGIN msg=audit(1.0:1): pid=9 uid=0 old-auid=4294967295 auid=1 tty=(none) old-ses=4294967295 ses=7 res=1\n"
)


def written(audit: bytes, sshd: bytes, order: str = "before") -> list[dict[str, Any]]:
    """The events that the core writes of these two streams."""
    joined = core.Core(SETTINGS)
    if order == "before":
        joined.feed_sshd(sshd, "pipe", 0)
    joined.feed_audit(audit)
    if order == "after":
        joined.feed_sshd(sshd, "pipe", 0)
    joined.flush()
    return [json.loads(text) for text in joined.take().splitlines()]


def unescaped(text: str) -> bytes:
    """The bytes that a text of an event stands for: UTF-8, ``\\\\xNN`` a byte, a doubled backslash one."""
    return re.sub(
        rb"\\(\\|x[0-9a-f]{2})",
        lambda found: b"\\" if found[1] == b"\\" else bytes.fromhex(found[1][1:].decode()),
        text.encode(),
    )


@examples(200)
@given(st.lists(TEXT, min_size=1, max_size=8), st.sampled_from([4, 9, 1000]), st.sampled_from([40, 200, 10_000]))
def test_u23_and_u31_argv_is_exact_and_can_be_turned_back(args: list[bytes], part: int, record: int) -> None:
    syscall = line("SYSCALL", b'arch=c000003e syscall=59 success=yes exit=0 ppid=9 pid=10 ses=7 comm="x" exe="/x"')
    records = [syscall, *execve(args, part, record), line("PROCTITLE", b'proctitle="x"')]
    audit = LOGIN + b"".join(text.replace(b"audit(@)", b"audit(1.1:2)") + b"\n" for text in records)
    actions_ = [
        event["metadata"]["extra"]
        for event in written(audit, b"9 Accepted password for bob from 1.2.3.4 port 5 ssh2\n")
        if event["type"] == "UserAction" and event["metadata"]["extra"]["action"] == "executed"
    ]
    assert [unescaped(arg) for arg in actions_[0]["process_args"]] == args
    assert "args_incomplete" not in actions_[0]
    told, incomplete = reference.argv(reference.parse_records(audit))
    assert [arg.encode("latin-1") for arg in told] == args
    assert incomplete is None


@examples(200)
@given(
    st.lists(TEXT.filter(lambda text: len(text) > 4), min_size=1, max_size=4),
    st.sampled_from([40, 10_000]),
    st.integers(0, 1000),
)
def test_u23_argv_that_lacks_a_part_says_so(args: list[bytes], record: int, choice: int) -> None:
    records = execve([b"x", *args], 4, record)
    words = [
        (number, word)
        for number, text in enumerate(records)
        for word in re.findall(rb' a[0-9]+(?:\[[0-9]+\])?=(?:"[^"]*"|[^ ]*)', text)
    ]
    number, word = words[choice % len(words)]
    records[number] = records[number].replace(word, b"", 1)
    syscall = line("SYSCALL", b'arch=c000003e syscall=59 success=yes exit=0 ppid=9 pid=10 ses=7 comm="x" exe="/x"')
    audit = LOGIN + b"".join(
        text.replace(b"audit(@)", b"audit(1.1:2)") + b"\n"
        for text in [syscall, *records, line("PROCTITLE", b'proctitle="x"')]
    )
    executed = [
        event["metadata"]["extra"]
        for event in written(audit, b"9 Accepted password for bob from 1.2.3.4 port 5 ssh2\n")
        if event["type"] == "UserAction" and event["metadata"]["extra"]["action"] == "executed"
    ]
    assert executed[0]["args_incomplete"] == len(args) + 1
    assert reference.argv(reference.parse_records(audit))[1] == len(args) + 1


# ------------------------------------------------------------------------------------------ actions


@st.composite
def syscall_fields(draw: st.DrawFn) -> bytes:
    """The text of a SYSCALL record of session 7 in the kernel's order; some fields are missing, some are in addition."""
    fields = [
        b"arch=c000003e", b"syscall=59", draw(st.sampled_from([b"", b"per=400008"])), b"success=yes",
        draw(st.sampled_from([b"exit=0", b"exit=-13", b"exit=94387276521472"])),
        b"a0=7ffc", b"a1=0", b"a2=1b6", b"a3=8", b"items=2", b"ppid=%d" % draw(NUMBER), b"pid=%d" % draw(NUMBER),
        b"auid=%d" % draw(NUMBER), b"uid=%d" % draw(NUMBER), b"gid=0", b"euid=%d" % draw(NUMBER), b"suid=0",
        b"fsuid=0", b"egid=0", b"sgid=0", b"fsgid=0", draw(st.sampled_from([b"tty=pts0", b"tty=(none)"])), b"ses=7",
        b"comm=" + draw(st.one_of(UNTRUSTED, st.just(b"(null)"))),
        b"exe=" + draw(st.one_of(PATHS.map(untrusted), st.just(b"(null)"))),
        draw(st.sampled_from([b"", b"subj=unconfined", b"subj==x", b"subj=docker-default (enforce)", b"subj=?"])),
        b"key=" + draw(st.one_of(UNTRUSTED, st.just(b"(null)"))),
    ]  # fmt: skip
    missing = draw(st.sets(st.integers(0, len(fields) - 1), max_size=3)) - {fields.index(b"ses=7")}
    text = b" ".join(field for number, field in enumerate(fields) if field and number not in missing)
    return text + draw(st.sampled_from([b"", b"", b'\x1dARCH=x86_64 SYSCALL=execve AUID="a" UID="b"']))


@examples(300)
@given(syscall_fields())
def test_an_action_has_the_fields_of_its_syscall(text: bytes) -> None:
    audit = LOGIN + b"type=SYSCALL msg=audit(1.1:2): " + text + b"\n"
    event = written(audit, b"9 Accepted password for bob from 1.2.3.4 port 5 ssh2\n")[-1]
    extra = event["metadata"]["extra"]
    found = reference.fields(reference.parse_records(audit)[-1])
    told = {name: unescaped(extra[name]).decode("latin-1") for name in ("exe", "key") if name in extra}
    told |= {name: str(extra[name]) for name in ("pid", "ppid", "exit") if name in extra}
    wanted = {name: found.get(name) for name in ("exe", "key", "pid", "ppid", "exit")}
    if wanted["key"] is not None:
        wanted["key"] = wanted["key"].replace("\1", ",").replace("\0", " ")
    assert told == {name: value for name, value in wanted.items() if value}


# ------------------------------------------------------------------------------------------ the join


def made(seed: int, **changes: Any) -> tuple[workload.Truth, bytes, bytes]:
    """A small workload: its truth, audit log and sshd lines."""
    audit, pipe = io.BytesIO(), io.BytesIO()
    chosen = workload.Settings(
        **{"sessions": 4, "commands": 3, "concurrent": 3, "delay_ms": 10, "seed": seed, **changes}
    )
    truth = workload.Workload(chosen).run(audit, pipe)
    return truth, audit.getvalue(), pipe.getvalue()


def claims(sshd: bytes) -> list[tuple[int, str]]:
    """Pid and identity of the lines of accepted logins."""
    found = re.findall(rb"^([0-9]+) Accepted .*?(?: ID (.+) \(serial [0-9]+\) CA .*)?$", sshd, re.MULTILINE)
    return [(int(pid), identity.decode() or "unknown") for pid, identity in found]


@examples(60)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["before", "after"]),
    st.sampled_from([0.0, 0.4]),
    st.booleans(),
    st.sampled_from([0.0, 1.0]),
)
def test_sessions_get_the_events_and_the_identity_that_are_theirs(
    seed: int, order: str, unclaimed: float, enriched: bool, background: float
) -> None:
    truth, audit, sshd = made(seed, unclaimed=unclaimed, enriched=enriched, background=background)
    wanted = {
        (login.ses, login.pid): (login.identity if login.claimed else "unknown", [seq for seq, _, _ in login.events])
        for login in truth.logins
    }
    joined = {
        (session.ses, session.pid): (session.identity or "unknown", [event.seq for event in session.events])
        for session in reference.join(audit, claims(sshd))
    }
    # Events become complete in another order than they began where their records interleave.
    assert {key: (who, sorted(seqs)) for key, (who, seqs) in joined.items()} == wanted
    got: dict[tuple[int, int], tuple[str, list[int]]] = {}
    for event in written(audit, sshd, order):
        if event["type"] == "UserAction":
            subjects = event["subjects"]
            key = (int(event["metadata"]["auditId"]), int(subjects["pid"]))
            identity, seqs = got.setdefault(key, (subjects["userID"], []))
            assert identity == subjects["userID"]
            seqs.append(event["metadata"]["extra"]["sequence"])
    assert {key: (who, sorted(seqs)) for key, (who, seqs) in got.items()} == wanted


@pytest.mark.parametrize("kind", ["UNKNOWN[1150]", "UNKNOWN[2999]", "USER_FUTURE", "KERNEL_FUTURE", "1112"])
@pytest.mark.parametrize("alone", [True, False])
def test_u3_what_a_session_did_is_told_whatever_its_type_is_called(kind: str, alone: bool) -> None:
    body = b"pid=10 uid=0 auid=1 ses=7 msg='op=x exe=\"/x\" res=success'"
    records = [line(kind, body)]
    if not alone:
        records += [
            line("SYSCALL", b'arch=c000003e syscall=59 success=yes exit=0 ppid=9 pid=10 ses=7 comm="x" exe="/x"'),
            line("PROCTITLE", b'proctitle="x"'),
        ]
    audit = LOGIN + b"".join(text.replace(b"audit(@)", b"audit(1.1:2)") + b"\n" for text in records)
    sshd = b"9 Accepted password for bob from 1.2.3.4 port 5 ssh2\n"
    told = [event["metadata"]["extra"]["sequence"] for event in written(audit, sshd) if event["type"] == "UserAction"]
    assert told == [1, 2]
    assert [event.seq for event in reference.join(audit, claims(sshd))[0].events] == [1, 2]


def test_the_tables_that_generated_records_lean_on_are_there() -> None:
    assert all(record_types.RECORD_TYPES.get(kind) for kind in MESSAGES if "[" not in kind)
