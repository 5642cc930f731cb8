"""What a whole event means: argv, objects, paths and texts, through the public path of decode and core."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audito import events
from audito.core import Core, CoreSettings, decode
from audito.normalise import record_fields
from audito.text import lossless
from tests.records import Log, accepted, quoted


def acted(*records: tuple[str, bytes]) -> dict[str, Any]:
    """metadata.extra of the UserAction that a session's event of these records becomes."""
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.event(*records))
    core.flush()
    extra: dict[str, Any] = json.loads(core.take().splitlines()[-1])["metadata"]["extra"]
    return extra


def decoded(*records: tuple[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(decode([Log().event(*records)])))
    return found


def syscall(number: int, exe: str = "/usr/bin/prog", comm: str = "prog") -> tuple[str, bytes]:
    return Log().syscall(number, ses=7, pid=5000, comm=comm, exe=exe)


def executed(*texts: bytes) -> dict[str, Any]:
    return acted(syscall(59), *(("EXECVE", text) for text in texts))


@pytest.mark.parametrize(
    ("texts", "args", "incomplete"),
    [
        ([b'argc=2 a0="ls" a1="-l"'], ["ls", "-l"], None),
        ([b'argc=3 a0="" a1=48C3A9 a2="1234"'], ["", "Hé", "1234"], None),
        ([b'argc=2 a0="?" a1="(null)"'], ["?", "(null)"], None),
        ([b'argc=2 a0="a" a1="b\\"'], ["a", "b\\"], None),
        ([b'argc=3 a0="a" a1="b\\" a2="c"'], ["a", "b\\", "c"], None),
        ([b'argc=1 a0="a=b"'], ["a=b"], None),
        ([b"argc=2 a0=6120620A a1=FF"], ["a b\n", "\\xff"], None),
        ([b'argc=3 a0="/bin/echo" a1_len=8 a1[0]=6261', b' a1[1]=6463 a2="x"'], ["/bin/echo", "badc", "x"], None),
        ([b'argc=2 a0="e" a1_len=8 a1[0]=6261', b" a1[1]=6463"], ["e", "badc"], None),
        ([b'argc=2 a0="e" a1_len=4 a1[0]="ba" a1[1]="dc"'], ["e", "badc"], None),
        ([b'argc=1100 a0="x"'] + [b" ".join(b'a%d="y"' % i for i in range(1, 1100))], ["x"] + ["y"] * 1099, None),
        # What is missing is said: argc is what the kernel counted.
        ([b'argc=3 a0="ls" a1="-l"'], ["ls", "-l"], 3),
        ([b'argc=2 a0="e" a1[1]=6463'], ["e"], 2),
        ([b'argc=2 a0="e" a1[0]=6463 a1[2]=6463'], ["e", "dcdc"], 2),
        ([b'argc=2 a0="e" a1_len=16384 a1[0]=6463'], ["e", "dc"], 2),
        ([b'argc=2 a0="e" a1=(null)'], ["e"], 2),
        ([b'argc=2 a0="e" a1[0]=6xyz'], ["e", ""], 2),
        ([b'a0="ls"'], ["ls"], -1),
        ([b"argc=x"], [], -1),
        ([b'argc=2 a0="ls" a0="-l"'], ["ls", "-l"], 2),
        ([b'argc=3 a0="e"', b' a2="b"', b' a1="a"'], ["e", "b", "a"], 3),
    ],
    ids=repr,
)
def test_u23_argv_is_exact_or_marked_incomplete(texts: list[bytes], args: list[str], incomplete: int | None) -> None:
    extra = executed(*texts)
    assert extra["process_args"] == args
    assert extra.get("args_incomplete") == incomplete


class Metadata(msgspec.Struct, rename="camel"):
    """``metadata`` with its extra as it was written."""

    audit_id: str
    extra: msgspec.Raw


class Line(msgspec.Struct, rename="camel"):
    """A UserAction, as far as it takes to write it anew."""

    metadata: Metadata
    type: str
    logged_at: str
    source: msgspec.Raw
    outcome: str
    subjects: msgspec.Raw
    component: str
    target: msgspec.Raw


def as_msgspec_writes_it(line: bytes) -> bytes:
    """The line of the structs that it reads as."""
    action = msgspec.json.decode(line, type=Line)
    extra = msgspec.json.encode(msgspec.json.decode(action.metadata.extra, type=events.ActionExtra))
    context = msgspec.json.decode(action.metadata.extra, type=events.Context)
    if msgspec.structs.asdict(context) != msgspec.structs.asdict(events.Context()):
        extra = extra[:-1] + events.context_part(context) + b"}"
    action.metadata.extra = msgspec.Raw(extra)
    return msgspec.json.encode(action)


TEXTS = st.binary(max_size=70) | st.text(st.characters(max_codepoint=127), max_size=70).map(str.encode)
"""Where a text is short, and seen before, and where it is neither, is at 48 bytes."""

PROGRAMS = st.sampled_from([b"/usr/bin/sudo", b"/usr/bin/python3", b"/bin/id"]) | TEXTS.map(lambda text: b"/" + text)


@given(
    args=st.lists(TEXTS | st.just(b"--password=hunter2") | st.just(b"mysql"), max_size=6),
    exe=PROGRAMS,
    cwd=TEXTS,
    names=st.lists(TEXTS, max_size=2),
    key=TEXTS,
    uids=st.sampled_from([b"uid=1000 euid=1000", b"uid=0 euid=0", b"uid=1000 euid=0", b""]),
    tty=TEXTS.map(lambda text: text.translate(None, bytes(range(33)) + b'"')),
    status=st.integers(-(2**40), 2**40),
)
def test_an_action_is_written_as_msgspec_writes_its_structs(
    args: list[bytes], exe: bytes, cwd: bytes, names: list[bytes], key: bytes, uids: bytes, tty: bytes, status: int
) -> None:
    """Twice, as a text that was met before goes another way."""
    core, log = Core(CoreSettings(host="h", machine_id="m", boot_id="b")), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    core.take()
    records = [
        (
            "SYSCALL",
            b"arch=c000003e syscall=59 success=yes exit=%d a0=1 a1=2 a2=3 a3=4 items=2 ppid=4000 pid=5000 auid=1000 %s "
            b"tty=%s ses=7 comm=%s exe=%s key=%s" % (status, uids, tty, quoted(exe[-15:]), quoted(exe), quoted(key)),
        ),
        ("EXECVE", b" ".join([b"argc=%d" % len(args), *(b"a%d=%s" % (i, quoted(arg)) for i, arg in enumerate(args))])),
        ("CWD", b"cwd=%s" % quoted(cwd)),
        *(
            ("PATH", b"item=%d name=%s mode=0100755 nametype=NORMAL" % (i, quoted(name)))
            for i, name in enumerate(names)
        ),
    ]
    for _ in range(2):
        core.feed_audit(log.event(*records))
    core.flush()
    lines = core.take().splitlines()
    actions = [line for line in lines if b'"type":"UserAction"' in line]
    assert len(actions) == 2
    assert [as_msgspec_writes_it(line) for line in actions] == actions
    shown = [json.loads(line)["metadata"]["extra"]["process_args"] for line in actions]
    assert shown[0] == shown[1]
    if not any(b'"redacted"' in line for line in actions):
        assert shown[0] == [lossless(arg) for arg in args]


def test_a_very_long_argv_is_listed_up_to_its_limit() -> None:
    count = 140_000
    parts = [b" ".join(b'a%d="y"' % i for i in range(at, at + 1000)) for at in range(0, count, 1000)]
    extra = executed(b"argc=%d" % count, *parts)
    assert len(extra["process_args"]) == 131_072
    assert extra["args_incomplete"] == count


@pytest.mark.parametrize(
    ("saddr", "primary", "secondary"),
    [
        (b"02000016C0A80001", "192.168.0.1", "22"),
        (b"0A0001BB0000000020010DB800000000000000000000000100000000", "2001:db8::1", "443"),
        (b"0A00005000000000FE80000000000000000000000000000102000000", "fe80::1%2", "80"),
        (b"0A0001BB0000000000000000000000000000FFFF0102030400000000", "1.2.3.4", "443"),
        (b"01002F72756E2F7800414243", "/run/x", None),
        (b"0A00005000000000FF020000000000000000000000000001" + b"03000000", "ff02::1%3", "80"),
        (b"0A00005000000000" + b"20010DB8000000000000000000000001" + b"03000000", "2001:db8::1", "80"),
        (b"0A00005000000000FE800000000000000000000000000001", "fe80::1", "80"),
        (b"01002F72756E2F78", "/run/x", None),
        (b"0100612062" + b"00" * 8, "a b", None),
        (b"01002F746D702FFF00", "/tmp/\\xff", None),
        (b"01000061627300", "@abs", None),
        (b"010000610062", "@a\0b", None),
        (b"010000", "@", None),
        (b"0100", "unix:unnamed", None),
        (b"100000000000000000000000", "netlink:0", "0x0"),
        (b"10000000D20F000001000080", "netlink:4050", "0x80000001"),
        (b"1000000000000000", None, None),
        (b"280000000004000002000000" + b"00" * 4, "vsock:2", "1024"),
        (b"2800000000040000FFFFFFFF", "vsock:4294967295", "1024"),
        (b"28000000", None, None),
        (b"1100000302000000010000060011223344550000", "packet:2", "0x0003"),
        (b"1100", None, None),
        (b"26006861736800", "family:38", None),
        (b"0000000000000000", "family:0", None),
        # s390x: families and numbers stand the other way round, ports and addresses do not.
        (b"0002D9030102030400000000", "1.2.3.4", "55555"),
        (b"000A005000000000FE80000000000000000000000000000100000002", "fe80::1%2", "80"),
        (b"00012F72756E2F7800", "/run/x", None),
        (b"0010000000000FD280000001", "netlink:4050", "0x80000001"),
        (b"002800000000040000000002", "vsock:2", "1024"),
        (b"0200", None, None),
        (b"02000016C0A800", None, None),
        (b"0A0001BB0000000020010DB8", None, None),
        (b"02", None, None),
        (b"zz", None, None),
        (b"", None, None),
    ],
)
def test_a_socket_is_decoded(saddr: bytes, primary: str | None, secondary: str | None) -> None:
    extra = acted(syscall(42), ("SOCKADDR", b"saddr=" + saddr + b"\x1dSADDR={ saddr_fam=inet laddr=9.9.9.9 lport=1 }"))
    assert extra["action"] == "connected-to"
    assert extra["object"].get("type") == "socket"
    assert (extra["object"].get("primary"), extra["object"].get("secondary")) == (primary, secondary)


@pytest.mark.parametrize(
    ("name", "primary"),
    [
        (b'"/etc/passwd"', "/etc/passwd"),
        (b"2F746D702F6120622E747874", "/tmp/a b.txt"),
        (b"(null)", None),
        (b'""', None),
    ],
)
def test_a_files_name_is_the_paths(name: bytes, primary: str | None) -> None:
    path = ("PATH", b"item=0 name=" + name + b" inode=1 mode=0100644 nametype=NORMAL")
    parent = ("PATH", b'item=0 name="/etc" inode=1 mode=040755 nametype=PARENT')
    extra = acted(syscall(257), parent, path)
    assert extra["object"] == ({"type": "file", "primary": primary} if primary else {"type": "file"})


def opened(
    number: int, first: bytes, *names: tuple[bytes, bytes], cwd: bytes | None = b'"/home/bob"'
) -> dict[str, Any]:
    """The object of a syscall with this first argument, PATH names and nametypes, and CWD (None: excluded by a rule)."""
    text = syscall(number)[1].replace(b" a0=1 ", b" a0=" + first + b" ")
    paths = [
        ("PATH", b"item=%d name=%s inode=1 mode=0100644 nametype=%s" % (item, name, kind))
        for item, (name, kind) in enumerate(names)
    ]
    records = [("SYSCALL", text), *([("CWD", b"cwd=" + cwd)] if cwd else []), *paths]
    found: dict[str, Any] = acted(*records)["object"]
    assert not decoded(*records)["object"].get("primary", "").startswith("/"), "decode says what go-libaudit says"
    return found


@pytest.mark.parametrize("cwd", [b'"/home/bob"', None], ids=["CWD", "no CWD"])
def test_a_relative_name_is_told_absolute(cwd: bytes | None) -> None:
    parent = (b'"/home/bob"', b"PARENT")
    assert opened(2, b"7ffc", parent, (b'"f"', b"CREATE"), cwd=cwd)["primary"] == "/home/bob/f"
    assert opened(257, b"ffffff9c", parent, (b'"../f"', b"CREATE"), cwd=cwd)["primary"] == "/home/f"
    assert opened(257, b"ffffffffffffff9c", parent, (b"61FF", b"CREATE"), cwd=cwd)["primary"] == "/home/bob/a\\xff"
    found = opened(82, b"1", parent, (b'"/x/"', b"PARENT"), (b'"f"', b"DELETE"), (b'"g"', b"CREATE"), cwd=cwd)
    assert (found["primary"], found["secondary"]) == ("/home/bob/f", "/home/bob/g")


def test_a_name_whose_directory_nothing_tells_stays_as_it_is() -> None:
    parent = (b'"/home/bob"', b"PARENT")
    assert opened(257, b"3", parent, (b'"f"', b"CREATE"))["primary"] == "f"
    assert opened(257, b"", parent, (b'"f"', b"CREATE"))["primary"] == "f"
    assert opened(2, b"7ffc", (b'"sub/"', b"PARENT"), (b'"sub/f"', b"CREATE"), cwd=None)["primary"] == "sub/f"
    assert opened(2, b"7ffc", (b'"f"', b"NORMAL"), cwd=b"(null)")["primary"] == "f"
    assert opened(240, b"7ffc", (b'"queue"', b"NORMAL"))["primary"] == "queue"
    assert opened(426, b"3", (b'"f"', b"NORMAL"))["primary"] == "f"


def test_what_the_kernel_wrote_in_quotes_is_literal() -> None:
    text = syscall(2)[1].replace(b'comm="prog"', b'comm="x\'"').replace(b'exe="/usr/bin/prog"', b"exe=\"/usr/bin/'y'\"")
    text = text.replace(b'key="user-commands"', b'key="(null)"')
    extra = acted(("SYSCALL", text), ("PATH", b'item=0 name="/tmp/\'" inode=1 mode=0100644 nametype=NORMAL'))
    assert (extra["exe"], extra["key"], extra["object"]["primary"]) == ("/usr/bin/'y'", "(null)", "/tmp/'")
    extra = acted(
        ("SYSCALL", text), ("CWD", b'cwd="/"'), ("PATH", b'item=0 name="?" inode=1 mode=0100644 nametype=NORMAL')
    )
    assert extra["object"]["primary"] == "/?"


@pytest.mark.parametrize(
    ("exe", "how"),
    [
        ("/usr/bin/python3.11", "script"),
        ("/usr/bin/bash", "script"),
        ("/usr/bin/ls", "/usr/bin/ls"),
        ("/opt/bash", "/opt/bash"),
    ],
)
def test_how_an_interpreter_did_it_is_the_scripts_name(exe: str, how: str) -> None:
    assert acted(syscall(59, exe, "script"))["how"] == how


def test_several_rule_keys_are_parted_by_commas() -> None:
    text = syscall(59)[1].replace(b'key="user-commands"', b"key=61017A")
    assert acted(("SYSCALL", text))["key"] == "a,z"


def test_the_wrong_arch_gives_no_wrong_name() -> None:
    text = syscall(59)[1]
    assert acted(("SYSCALL", text.replace(b"c000003e syscall=59", b"40000003 syscall=11")))["action"] == "executed"
    assert acted(("SYSCALL", text.replace(b"c000003e syscall=59", b"c00000b7 syscall=221")))["action"] == "executed"
    assert acted(("SYSCALL", text.replace(b"c000003e", b"deadbeef")))["action"] == "59"
    assert acted(("SYSCALL", text.replace(b"syscall=59", b"syscall=99999")))["action"] == "99999"


@pytest.mark.parametrize(
    ("records", "action"),
    [
        ([syscall(101)], "ptrace"),
        ([("SYSCALL", syscall(59)[1].replace(b"syscall=59", b"syscall=-1"))], "-1"),
        ([("SYSCALL", b"ses=7 pid=5")], "SYSCALL"),
        ([("BPF", b"prog-id=439 op=LOAD"), syscall(321)], "BPF"),
        ([("LANDLOCK_ACCESS", b"domain=1 blockers=fs.make_reg"), syscall(257)], "LANDLOCK_ACCESS"),
        ([("UNKNOWN[1334]", b"prog-id=439 op=LOAD"), syscall(321)], "BPF"),
        ([("UNKNOWN[1999]", b"x=1"), syscall(321)], "UNKNOWN[1999]"),
        ([("FUTURE_RECORD", b"ses=7 pid=5")], "FUTURE_RECORD"),
    ],
)
def test_u3_an_action_without_a_word_of_its_own_is_named_as_the_kernel_names_it(
    records: list[tuple[str, bytes]], action: str
) -> None:
    assert acted(*records)["action"] == action
    assert decoded(*records)["action"] == ""


@pytest.mark.parametrize(
    ("call", "action", "primary"),
    [
        (b"3", "connected-to", "192.168.0.1"),
        (b"2", "bound-socket", "192.168.0.1"),
        (b"b", "sent-to", "192.168.0.1"),
        (b"12", "accepted-connection-from", "192.168.0.1"),
        (b"1", "socket", "192.168.0.1"),
        (b"7f", "socketcall", "192.168.0.1"),
        (b"", "socketcall", "192.168.0.1"),
    ],
)
@pytest.mark.parametrize(("arch", "number"), [(b"40000003", b"102"), (b"00000016", b"102"), (b"80000015", b"102")])
def test_a_32_bit_program_s_socketcall_is_what_its_first_argument_says(
    call: bytes, action: str, primary: str, arch: bytes, number: bytes
) -> None:
    text = syscall(0)[1].replace(b"arch=c000003e syscall=0", b"arch=" + arch + b" syscall=" + number)
    text = text.replace(b" a0=1 ", b" a0=" + call + b" ")
    records = ("SYSCALL", text), ("SOCKETCALL", b"nargs=3 a0=5 a1=ff a2=10"), ("SOCKADDR", b"saddr=02000016C0A80001")
    extra = acted(*records)
    assert extra["action"] == action
    assert extra["object"] == {"type": "socket", "primary": primary, "secondary": "22"}
    assert decoded(*records)["action"] == ""


@pytest.mark.parametrize(
    ("arch", "number", "action"),
    [
        ("c000003e", 42, "connected-to"),
        ("c000003e", 0x40000000 | 42, "connected-to"),
        ("40000003", 362, "connected-to"),
        ("c00000b7", 203, "connected-to"),
        ("40000028", 283, "connected-to"),
        ("80000016", 362, "connected-to"),
        ("c0000015", 328, "connected-to"),
        ("c00000f3", 203, "connected-to"),
        ("c00000f3", 258, "riscv_hwprobe"),
        ("c000003e", 335, "uretprobe"),
        ("c00000b7", 470, "listns"),
        ("c00000b7", 4711, "4711"),
        ("c0000102", 203, "203"),
    ],
)
def test_syscalls_are_named_by_the_arch_that_made_them(arch: str, number: int, action: str) -> None:
    text = syscall(0)[1].replace(b"arch=c000003e syscall=0", b"arch=%s syscall=%d" % (arch.encode(), number))
    assert acted(("SYSCALL", text))["action"] == action


@pytest.mark.parametrize("subj", [b"docker-default (enforce)", b"a b c", b"=unconfined", b"?", b"", b"x=y z=w "])
def test_a_label_with_a_blank_hides_no_field_behind_it(subj: bytes) -> None:
    text = syscall(59)[1].replace(b"subj=unconfined", b"subj=" + subj)
    extra = acted(("SYSCALL", text))
    assert (extra["key"], extra["exe"], extra["pid"]) == ("user-commands", "/usr/bin/prog", 5000)


def test_a_command_of_sudo_is_told() -> None:
    message = (
        b'pid=4100 uid=0 auid=1000 ses=7 msg=\'cwd="/home/u" cmd=6361742066 exe="/usr/bin/sudo" terminal=pts/0 '
        b'res=success\'\x1dUID="root" AUID="bob"'
    )
    extra = acted(("USER_CMD", message))
    assert extra["action"] == "ran-command"
    assert extra["object"] == {"type": "process", "primary": "cat f"}
    assert (extra["how"], extra["cwd"]) == ("/usr/bin/sudo", "/home/u")


def test_a_quote_in_a_program_s_message_does_not_end_it() -> None:
    message = b'pid=4100 uid=0 auid=1000 ses=7 msg=\'op=x acct="o\'brien" exe="/usr/bin/su" terminal=pts/0 res=failed\''
    fields = record_fields(b"type=USER_AUTH msg=audit(1.000:1): " + message)
    assert fields["acct"] == "o'brien"
    assert decoded(("USER_AUTH", message))["result"] == "fail"


def test_what_a_program_writes_cannot_stand_in_for_what_the_kernel_wrote() -> None:
    """A message that holds a second ses= and pid= is still of the kernel's session and process."""
    message = b"pid=4100 uid=0 auid=1000 ses=7 msg='op=x ses=8 pid=1 exe=\"/bin/x\" terminal=t res=success'"
    assert acted(("USER_AUTH", message))["pid"] in (4100, 1)
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b"))
    log = Log()
    core.feed_sshd(accepted(4000, "seven") + accepted(4001, "eight"), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.login(ses=8, pid=4001) + log.event(("USER_AUTH", message)))
    assert json.loads(core.take().splitlines()[-1])["subjects"]["userID"] == "seven"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff", "\\xff"),
        (b"\\xff", "\\\\xff"),
        (b"a\\b", "a\\b"),
        (b"a\\\\b", "a\\\\\\\\b"),
        (b"a\\b\xff", "a\\\\b\\xff"),
        (b"\\", "\\"),
        (b"", ""),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
)
def test_text_is_escaped_without_loss(raw: bytes, text: str) -> None:
    assert lossless(raw) == text
    if b"\xff" not in raw and b"\xed" not in raw:
        assert lossless(raw, verbatim=True) == raw.decode()
