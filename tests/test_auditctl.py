"""What auditctl prints, read: status, rules, and what rules record and hide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audito import auditctl
from audito.auditctl import Part, Rule, hidden_by, parse_rules, parse_status, same_rule, syscall_coverage
from audito.tables.audit_rules import ABIS, ARCH_ABIS, NEEDED_RECORDS, RULES_MARK
from audito.tables.record_types import RECORD_TYPES

STATUS = """\
enabled 1
failure 1
pid 8123
rate_limit 0
backlog_limit 8192
lost 3
backlog 0
backlog_wait_time 60000
backlog_wait_time_actual 0
loginuid_immutable 0 unlocked
"""


def test_status() -> None:
    status = parse_status(STATUS)
    assert (status["enabled"], status["pid"], status["lost"], status["backlog_limit"]) == (1, 8123, 3, 8192)


def test_status_of_an_old_auditctl() -> None:
    line = "AUDIT_STATUS: enabled=1 flag=2 pid=1234 rate_limit=0 backlog_limit=320 lost=0 backlog=0"
    status = parse_status(line)
    assert (status["enabled"], status["failure"], status["pid"], status["backlog_limit"]) == (1, 2, 1234, 320)


def test_rules() -> None:
    text = """\
-a always,exit -F arch=b64 -S execve,execveat -F auid!=-1 -F key=audito-exec
-w /etc/passwd -p wa -k identity
-a never,task
-a always,exit -S all -C uid!=euid -F key=setuid
No rules
"""
    first, second, third = parse_rules(text)
    assert first == Rule(
        text.splitlines()[0],
        "always",
        "exit",
        ("execve", "execveat"),
        (("arch", "=", "b64"), ("auid", "!=", "-1"), ("key", "=", "audito-exec")),
    )
    assert (second.action, second.filter, second.fields) == ("never", "task", ())
    assert third.fields[0] == ("-C", "", "uid!=euid")
    words = "auditctl -d always,exit -F arch=b64 -S execve,execveat -F 'auid!=-1' -F key=audito-exec"
    assert first.removal == words, "a shell would take the other signs for its own"


ALL = "-a always,exit -F arch=b64 -S execve -F auid!=-1"


@pytest.mark.parametrize(
    ("text", "part", "blamed"),
    [
        ("", "none", 0),
        ("No rules", "none", 0),
        (ALL, "all", 0),
        ("-a always,exit -F arch=x86_64 -S execve", "all", 0),
        ("-a exit,always -S all", "all", 0),
        ("-a always,exit -S execve -F auid>=1000 -F auid!=4294967295", "all", 0),
        ("-a always,exit -F arch=b32 -S execve", "none", 0),
        ("-a always,exit -F arch!=b64 -S execve", "none", 0),
        ("-a always,exit -F arch=b64 -S open,openat", "none", 0),
        ("-a always,exit -F arch=b64 -S execve -F auid=0", "none", 0),
        ("-a always,exit -F arch=b64 -S execve -F auid>1000", "none", 0),
        ("-a always,exit -F arch=b64 -S execve -F auid=-1", "none", 0),
        ("-a always,exit -F arch=b64 -S execve -F auid=alice", "some", 0),
        ("-a always,exit -F arch=b64 -S execve -F uid=0", "some", 0),
        ("-a always,exit -F arch=b64 -S execve -F success=1", "some", 0),
        ("-a always,exit -F arch=b64 -S execve -F exe=/usr/bin/sudo", "some", 0),
        ("-a always,exit -F arch=b64 -S execve -C uid!=euid", "some", 0),
        ("-a always,exit -F arch=b64 -S execve -F sessionid!=-1", "all", 0),
        ("-a always,exit -F arch=b64 -S execve -F sessionid=-1", "none", 0),
        ("-a always,exit -F path=/usr/bin/id -F perm=x", "none", 0),
        (f"-a never,task\n{ALL}", "none", 1),
        (f"{ALL}\n-a never,task", "none", 1),
        (f"-a never,task -F auid=0\n{ALL}", "all", 0),
        (f"-a never,task -F uid=33\n{ALL}", "some", 1),
        (f"-a never,exit -S all -F exe=/usr/bin/id\n{ALL}", "some", 1),
        (f"{ALL}\n-a never,exit -S all", "all", 0),
        (f"-a never,exit -F arch=b64 -S execve -F auid=1000\n{ALL}", "none", 1),
        (f"-a never,exit -F arch=b32 -S all\n{ALL}", "all", 0),
        (f"-a always,exit -S execve -F uid=0\n-a never,exit -S all\n{ALL}", "some", 1),
        (f"-a always,exclude -F msgtype=CWD\n-a never,user -F uid=33\n{ALL}", "all", 0),
    ],
)
def test_coverage_of_a_session_s_commands(text: str, part: Part, blamed: int) -> None:
    cover = syscall_coverage(parse_rules(text), abi="b64", syscall="execve", auid=1000)
    assert (cover.part, len(cover.blame)) == (part, blamed)


def test_a_name_without_an_architecture_is_the_native_one_s_number() -> None:
    rules = parse_rules("-a always,exit -S execve")
    assert syscall_coverage(rules, abi="b64", syscall="execve", auid=1000).part == "all"
    assert syscall_coverage(rules, abi="b32", syscall="execve", auid=1000).part == "none"
    assert syscall_coverage(parse_rules("-a always,exit -S all"), abi="b32", syscall="execve", auid=1000).part == "all"


@pytest.mark.parametrize(
    ("text", "record_type", "part"),
    [
        ("", "LOGIN", "none"),
        ("-a always,exclude -F msgtype=LOGIN", "LOGIN", "all"),
        ("-a exclude,never -F msgtype=1006", "LOGIN", "all"),
        ("-a always,exclude -F msgtype=CWD", "LOGIN", "none"),
        ("-a always,exclude -F msgtype>=1300 -F msgtype<=1399", "SYSCALL", "all"),
        ("-a always,exclude -F msgtype>=1300 -F msgtype<=1399", "LOGIN", "none"),
        ("-a always,exclude -F msgtype=USER_END -F uid=0", "USER_END", "some"),
        ("-a never,user", "USER_START", "all"),
        ("-a never,user -F uid=33", "USER_START", "some"),
        ("-a never,user", "LOGIN", "none"),
        ("-a always,user -F uid=33", "USER_START", "none"),
        ("-a never,exit -S all", "USER_START", "none"),
    ],
)
def test_records_that_rules_hide(text: str, record_type: str, part: Part) -> None:
    cover = hidden_by(parse_rules(text), record_type)
    assert cover.part == part
    assert bool(cover.blame) == (part != "none")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("-a never,task", "-a task,never", True),
        (
            "-a always,exit -F arch=b64 -S open,openat -F key=x",
            "-a exit,always -F arch=b64 -S openat -S open -k x",
            True,
        ),
        ("-a never,exit -S all -F auid=-1", "-a never,exit -F auid=unset", True),
        ("-a never,exit -S all -F auid=-1", "-a never,exit -F auid=4294967295", True),
        ("-a never,exit -S all -F auid=-1", "-a never,exit -F auid!=-1", False),
        ("-a never,exit -S all", "-a always,exit -S all", False),
    ],
)
def test_two_texts_of_one_rule(one: str, other: str, same: bool) -> None:
    (first,), (second,) = parse_rules(one), parse_rules(other)
    assert same_rule(first, second) is same


@pytest.mark.parametrize("machine", [*ABIS, "riscv64", "ppc64le"])
def test_the_rules_to_write_cover_all_sessions_of_the_machine_and_nobody_else(machine: str) -> None:
    text = auditctl.rules_text(machine)
    rules = parse_rules(text)
    assert text.startswith(RULES_MARK)
    assert len(rules) == len(auditctl.abis_of(machine))
    for abi in auditctl.abis_of(machine):
        for syscall in ("execve", "execveat"):
            for auid in (0, 1000, 2**32 - 2):
                assert syscall_coverage(rules, abi=abi, syscall=syscall, auid=auid).part == "all"
            assert syscall_coverage(rules, abi=abi, syscall=syscall, auid=2**32 - 1).part == "none"
        assert syscall_coverage(rules, abi=abi, syscall="openat", auid=1000).part == "none"
    assert all(hidden_by(rules, row.name).part == "none" for row in NEEDED_RECORDS)


def test_the_tables() -> None:
    assert set(ARCH_ABIS.values()) == {"b64", "b32"}
    assert set(ABIS) <= set(ARCH_ABIS)
    assert all(row.name in RECORD_TYPES for row in NEEDED_RECORDS)
    assert len({row.name for row in NEEDED_RECORDS}) == len(NEEDED_RECORDS)


@given(st.text(alphabet="-aFSCwk =!<>&,()\nalwysnevrxitdu0123456789", max_size=200))
def test_no_text_is_too_odd(text: str) -> None:
    rules = parse_rules(text)
    parse_status(text)
    assert syscall_coverage(rules, abi="b64", syscall="execve", auid=1000).part in ("all", "some", "none")
    assert hidden_by(rules, "LOGIN").part in ("all", "some", "none")
