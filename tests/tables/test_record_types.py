"""tables/record_types.py: each row, and the rules that need numbers."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from pathlib import Path

import pytest

from audito.tables import record_types
from audito.tables.record_types import (
    CARRIES_SESSION,
    ENDS_EVENT,
    NAMES,
    RECORD_TYPES,
    Row,
    carries_session,
    is_single_record,
)

HEADERS = [Path("/usr/include/linux/audit.h"), Path("/usr/include/libaudit.h")]

# Names in the headers that are no record type: bounds of blocks, a record that no kernel has, a size.
NOT_TYPES = re.compile(r"FIRST_|LAST_|INTEGRITY_(FIRST|LAST)_|FS_WATCH$|MESSAGE_TEXT_MAX$")


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_each_name_and_its_number_lead_to_each_other(name: str) -> None:
    number = RECORD_TYPES[name]
    assert NAMES.get(number) == (None if 1420 <= number <= 1426 else name)
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", name)


def test_names_and_numbers_are_one_to_one() -> None:
    assert len(RECORD_TYPES) == len(NAMES) + 7 == len(record_types._ROWS)


def test_a_number_that_patched_kernels_gave_to_other_records_has_no_name() -> None:
    assert RECORD_TYPES["IPE_CONFIG_CHANGE"] == 1421
    assert 1421 not in NAMES
    assert not carries_session(1421)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("USER", 1005),
        ("LOGIN", 1006),
        ("USER_ACCT", 1101),
        ("CRED_DISP", 1104),
        ("USER_START", 1105),
        ("USER_END", 1106),
        ("USER_CMD", 1123),
        ("DAEMON_START", 1200),
        ("SYSCALL", 1300),
        ("PATH", 1302),
        ("SOCKADDR", 1306),
        ("CWD", 1307),
        ("EXECVE", 1309),
        ("EOE", 1320),
        ("SECCOMP", 1326),
        ("PROCTITLE", 1327),
        ("BPF", 1334),
        ("EVENT_LISTENER", 1335),
        ("URINGOP", 1336),
        ("OPENAT2", 1337),
        ("DM_CTRL", 1338),
        ("DM_EVENT", 1339),
        ("AVC", 1400),
        ("LANDLOCK_ACCESS", 1423),
        ("APPARMOR", 1500),
        ("ANOM_ABEND", 1701),
        ("KERNEL", 2000),
        ("VIRT_MIGRATE_OUT", 2507),
    ],
)
def test_types_that_everyone_meets(name: str, number: int) -> None:
    assert RECORD_TYPES[name] == number


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_every_type_of_the_headers_is_here(header: Path) -> None:
    if not header.is_file():
        pytest.skip(f"no {header} on this machine")
    found = re.findall(r"^#define\s+AUDIT_(\w+)\s+(\d{4})\b", header.read_text(), re.MULTILINE)
    types = {(name, int(number)) for name, number in found if not NOT_TYPES.match(name)}
    assert len(types) > 50
    # libaudit calls 1500 AA in its header and APPARMOR in what it prints.
    missing = {(name, number) for name, number in types if NAMES.get(number) != name} - {("AA", 1500)}
    assert not missing


def test_names_are_those_that_libaudit_prints() -> None:
    library = ctypes.util.find_library("audit")
    if library is None:
        pytest.skip("no libaudit on this machine")
    to_name = ctypes.CDLL(library).audit_msg_type_to_name
    to_name.restype = ctypes.c_char_p
    printed = {number: name.decode() for number in range(1000, 3000) if (name := to_name(number)) is not None}
    assert len(printed) > 150
    # The number of a type that came after ours was written, or that patched kernels used, is no fault of the table.
    different = {number: name for number, name in printed.items() if number in NAMES and NAMES[number] != name}
    assert not different


@pytest.mark.parametrize("number", [*range(1000, 1100), *range(1300, 1800), *range(1900, 2100)])
def test_kernel_types_that_are_not_listed_carry_no_session(number: int) -> None:
    if number not in NAMES:
        assert not carries_session(number)
    else:
        assert carries_session(number) == (NAMES[number] in CARRIES_SESSION)


@pytest.mark.parametrize("number", [*range(1100, 1200), *range(2100, 3000)])
def test_all_user_messages_carry_the_session_that_the_kernel_wrote(number: int) -> None:
    assert carries_session(number)


@pytest.mark.parametrize(
    "name", "SYSCALL LOGIN USER_START CRED_DISP CONFIG_CHANGE ANOM_ABEND SECCOMP TTY FEATURE_CHANGE MAC_STATUS".split()
)
def test_carriers(name: str) -> None:
    assert name in CARRIES_SESSION


@pytest.mark.parametrize(
    "name", "PATH CWD EXECVE PROCTITLE SOCKADDR AVC BPF NETFILTER_CFG OBJ_PID EOE KERN_MODULE URINGOP FANOTIFY".split()
)
def test_types_that_leave_the_session_to_another_record(name: str) -> None:
    assert name not in CARRIES_SESSION


@pytest.mark.parametrize("name", CARRIES_SESSION)
def test_carriers_are_types(name: str) -> None:
    assert name in RECORD_TYPES


@pytest.mark.parametrize("number", range(1000, 3000))
def test_single_records_are_those_of_auparse(number: int) -> None:
    expected = number == 1005 or 1006 < number < 1300 or number == 2000 or number >= 2100 or 1406 <= number <= 1419
    assert is_single_record(number) is expected


def test_a_login_and_a_syscall_are_not_single() -> None:
    assert not is_single_record(RECORD_TYPES["LOGIN"])
    assert not is_single_record(RECORD_TYPES["SYSCALL"])
    assert {1320, 1327} == ENDS_EVENT
    assert not any(map(is_single_record, ENDS_EVENT))


@pytest.mark.parametrize(
    "rows",
    [
        (Row("A", 1300, True), Row("A", 1301, True)),
        (Row("A", 1300, True), Row("B", 1300, False)),
        (Row("lower", 1300, True),),
        (Row("", 1300, True),),
        (Row("A B", 1300, True),),
        (Row("A", 999, True),),
        (Row("A", 3000, True),),
    ],
)
def test_a_bad_row_raises(rows: tuple[Row, ...]) -> None:
    with pytest.raises(ValueError, match="record type"):
        record_types._check(rows)
