"""tables/syscalls.py: numbers that are known, and the lazy form."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from audito.tables import syscalls
from audito.tables.syscalls import ARCHES, SYSCALLS, syscall_name

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
S390X, PPC64LE, RISCV64 = 0x80000016, 0xC0000015, 0xC00000F3


@pytest.mark.parametrize(
    ("arch", "number", "name"),
    [
        (X86_64, 0, "read"),
        (X86_64, 42, "connect"),
        (X86_64, 59, "execve"),
        (X86_64, 257, "openat"),
        (X86_64, 322, "execveat"),
        (X86_64, 437, "openat2"),
        (X86_64, 452, "fchmodat2"),
        (I386, 11, "execve"),
        (I386, 102, "socketcall"),
        (I386, 362, "connect"),
        (AARCH64, 56, "openat"),
        (AARCH64, 79, "newfstatat"),
        (AARCH64, 203, "connect"),
        (AARCH64, 221, "execve"),
        (ARM, 11, "execve"),
        (ARM, 283, "connect"),
        (S390X, 11, "execve"),
        (S390X, 362, "connect"),
        (PPC64LE, 11, "execve"),
        (PPC64LE, 328, "connect"),
        (RISCV64, 221, "execve"),
        (RISCV64, 203, "connect"),
    ],
)
def test_numbers_that_are_known(arch: int, number: int, name: str) -> None:
    assert syscall_name(arch, number) == name


def test_x32_has_the_arch_of_x86_64_and_a_bit() -> None:
    assert syscall_name(X86_64, 0x40000000 | 520) == "execve"
    assert syscall_name(X86_64, 0x40000000 | 42) == "connect"
    assert syscall_name(X86_64, 520) is None
    assert syscall_name(AARCH64, 0x40000000 | 221) is None


@pytest.mark.parametrize("number", [-1, 999_999, 2**32 - 1, 2**63])
def test_what_is_not_known_has_no_name(number: int) -> None:
    assert syscall_name(X86_64, number) is None
    assert syscall_name(number, 59) is None


@pytest.mark.parametrize("arch", ARCHES.values())
def test_every_arch_has_a_table_of_its_own_size(arch: str) -> None:
    table = SYSCALLS[arch]
    assert 300 < len(table) < 500
    assert all(re.fullmatch(r"[a-z_][a-z0-9_]*", name) for name in table.values())
    assert len(set(table.values())) == len(table)
    assert table[451] == "cachestat"
    assert {"execve", "execveat", "connect", "openat", "unlinkat", "kill"} <= set(table.values())


def test_a_table_is_made_once_and_no_arch_is_made_up() -> None:
    assert SYSCALLS["x86_64"] is SYSCALLS["x86_64"]
    with pytest.raises(KeyError):
        SYSCALLS["pdp11"]


def test_tables_agree_with_the_headers_of_this_machine() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.is_file():
        pytest.skip(f"no {header} on this machine")
    found = {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}
    ours = SYSCALLS["x86_64"]
    # Headers younger than the table may know more; they cannot know otherwise.
    assert {number: name for number, name in found.items() if number in ours and ours[number] != name} == {}


def test_importing_the_tables_makes_none() -> None:
    code = "import audito.tables.syscalls as s; assert not dict.__len__(s.SYSCALLS), list(s.SYSCALLS)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_packed_form() -> None:
    assert syscalls._unpack("0 a b 10 c 4095 d") == {0: "a", 1: "b", 10: "c", 4095: "d"}
