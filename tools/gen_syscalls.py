#!/usr/bin/env python3
"""Write audito/tables/syscalls.py from the kernel's own headers: number to name, for each audit arch.

Usage: python tools/gen_syscalls.py [--headers DIR] [--check]

x86_64 and i386 come from /usr/include of this machine (linux-libc-dev); the others from Debian's
linux-libc-dev-*-cross packages, which are fetched with apt-get and unpacked in a temporary directory
(or taken from DIR, where such packages have been unpacked already). Needs a C compiler for its
preprocessor. ``--check`` writes nothing and exits 1 when the file differs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).resolve().parent.parent / "audito" / "tables" / "syscalls.py"


class Arch(NamedTuple):
    """One value of the audit field arch= (linux/audit.h: machine, 0x80000000 = 64 bit, 0x40000000 = little endian)."""

    name: str
    audit: tuple[int, ...]
    package: str
    include: str
    header: str


ARCHES = (
    Arch("x86_64", (0xC000003E,), "linux-libc-dev", "usr/include/x86_64-linux-gnu", "asm/unistd_64.h"),
    Arch("x32", (), "linux-libc-dev", "usr/include/x86_64-linux-gnu", "asm/unistd_x32.h"),
    Arch("i386", (0x40000003,), "linux-libc-dev", "usr/include/x86_64-linux-gnu", "asm/unistd_32.h"),
    Arch("aarch64", (0xC00000B7,), "linux-libc-dev-arm64-cross", "usr/aarch64-linux-gnu/include", "asm/unistd.h"),
    Arch("arm", (0x40000028,), "linux-libc-dev-armhf-cross", "usr/arm-linux-gnueabihf/include", "asm/unistd-eabi.h"),
    Arch("oabi", (), "linux-libc-dev-armhf-cross", "usr/arm-linux-gnueabihf/include", "asm/unistd-oabi.h"),
    Arch("s390x", (0x80000016,), "linux-libc-dev-s390x-cross", "usr/s390x-linux-gnu/include", "asm/unistd_64.h"),
    Arch("s390", (0x00000016,), "linux-libc-dev-s390x-cross", "usr/s390x-linux-gnu/include", "asm/unistd_32.h"),
    Arch(
        "ppc64",
        (0xC0000015, 0x80000015),
        "linux-libc-dev-ppc64el-cross",
        "usr/powerpc64le-linux-gnu/include",
        "asm/unistd_64.h",
    ),
    Arch("ppc", (0x00000014,), "linux-libc-dev-ppc64el-cross", "usr/powerpc64le-linux-gnu/include", "asm/unistd_32.h"),
    Arch("riscv64", (0xC00000F3,), "linux-libc-dev-riscv64-cross", "usr/riscv64-linux-gnu/include", "asm/unistd.h"),
)

# Little-endian ppc64 shares its numbers with big-endian; the name of the audit arch tells which it was.
NAMES_BY_AUDIT = {0xC0000015: "ppc64le"}

# Syscalls younger than Debian 12's headers (6.1). From number 424 on, every arch has the same numbers.
NEWER = """
451 cachestat 452 fchmodat2 453 map_shadow_stack 454 futex_wake 455 futex_wait 456 futex_requeue 457 statmount
458 listmount 459 lsm_get_self_attr 460 lsm_set_self_attr 461 lsm_list_modules 462 mseal 463 setxattrat
464 getxattrat 465 listxattrat 466 removexattrat 467 open_tree_attr 468 file_getattr 469 file_setattr 470 listns
471 rseq_slice_yield
"""

# … and those that one arch alone has.
NEWER_OF = {"x86_64": {335: "uretprobe", 336: "uprobe"}, "riscv64": {258: "riscv_hwprobe"}}

# Names in the headers that are no syscall (as are those in capitals), and second names of a number.
NOT_SYSCALLS = {"syscalls", "arch_specific_syscall"}
ALIASES = {"arm": {"sync_file_range2": "arm_sync_file_range"}, "oabi": {"sync_file_range2": "arm_sync_file_range"}}

# What x32 and the old ABI of arm add to a number to tell their own calls from others.
BASES = "#define __X32_SYSCALL_BIT 0x40000000\n#define __NR_SYSCALL_BASE 0\n"


def preprocess(arch: Arch, root: Path, source: str, *flags: str) -> str:
    """What the C preprocessor makes of ``source`` with only this arch's headers in sight."""
    include = root / arch.include
    common = root / "usr/include"
    command = ["cc", "-E", "-nostdinc", "-undef", "-D__LP64__", "-D__SIZEOF_POINTER__=8", f"-I{include}", f"-I{common}"]
    result = subprocess.run(
        [*command, *flags, "-xc", "-"], input=source, capture_output=True, text=True, check=False, timeout=60
    )
    if result.returncode:
        raise SystemExit(f"{arch.name}: the preprocessor failed:\n{result.stderr}")
    return result.stdout


def number(expression: str) -> int:
    """The value of a sum of integers in brackets, which is all that these headers hold."""
    terms = re.findall(r"0x[0-9a-fA-F]+|\d+", expression)
    if not terms or not re.fullmatch(r"[0-9a-fA-Fx+() ]+", expression):
        raise ValueError(f"no sum of numbers: {expression!r}")
    return sum(int(term, 0) for term in terms)


def read_arch(arch: Arch, root: Path) -> dict[int, str]:
    """Number to name of one arch, from its header under ``root``."""
    source = f"{BASES}#include <{arch.header}>\n"
    defined = preprocess(arch, root, source, "-dM")
    names = sorted(set(re.findall(r"^#define __NR_([a-z_0-9]+) ", defined, re.MULTILINE)) - NOT_SYSCALLS)
    probes = "".join(f"@{name}@ __NR_{name}\n" for name in names)
    expanded = preprocess(arch, root, source + probes, "-P")
    table: dict[int, str] = {}
    for name, expression in re.findall(r"^@(\w+)@ (.*)$", expanded, re.MULTILINE):
        value = number(expression) & ~0x40000000
        if name in ALIASES.get(arch.name, {}):
            continue
        if table.setdefault(value, name) != name:
            raise SystemExit(f"{arch.name}: {value} is both {table[value]} and {name}")
    if not 250 < len(table) < 500:
        raise SystemExit(f"{arch.name}: {len(table)} syscalls cannot be right")
    if arch.name == "x32":  # the rest is as in x86_64
        return {value: name for value, name in table.items() if value >= 512}
    words = NEWER.split()
    newer = {int(value): name for value, name in zip(words[::2], words[1::2], strict=True)}
    return {**newer, **NEWER_OF.get(arch.name, {}), **table}


def pack(table: dict[int, str]) -> str:
    """Names in the order of their numbers; a number stands where the count jumps."""
    words: list[str] = []
    expected = -1
    for value in sorted(table):
        if value != expected:
            words.append(str(value))
        words.append(table[value])
        expected = value + 1
    return " ".join(words)


def literal(text: str) -> str:
    """``text`` as indented string literals of at most 116 columns."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        if len(line) + len(word) + 1 > 106:
            lines.append(line + " ")
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join(f'        "{part}"' for part in [*lines, line])


HEAD = '''\
"""Syscall numbers by audit arch, as the kernel's headers have them.

GENERATED by tools/gen_syscalls.py from {version}; do not edit.
Each arch is one string, split the first time that it is asked for: importing costs nothing.
"""

from __future__ import annotations

ARCHES: dict[int, str] = {{
{arches}
}}
"""The record field arch= (hexadecimal there) to the name that the audit tools use."""

X32_BIT = 0x40000000
"""Set in the number of an x32 syscall, whose arch= is that of x86_64."""

_SAME_NUMBERS = {{"ppc64le": "ppc64"}}

_PACKED: dict[str, str] = {{
{packed}
}}


def _unpack(text: str) -> dict[int, str]:
    """Number to name; a word that is a number sets the count for the words after it."""
    table: dict[int, str] = {{}}
    number = 0
    for word in text.split(" "):
        if word.isdecimal():
            number = int(word)
        else:
            table[number] = word
            number += 1
    return table


class _Lazy(dict[str, dict[int, str]]):
    """Arch name to its table; a table is made when it is first asked for."""

    def __missing__(self, arch: str) -> dict[int, str]:
        table = _unpack(_PACKED[_SAME_NUMBERS.get(arch, arch)])
        self[arch] = table
        return table


SYSCALLS: dict[str, dict[int, str]] = _Lazy()
"""Arch name to number to syscall name. Ask with [], which makes the table; KeyError for no such arch."""


def syscall_name(arch: int, number: int) -> str | None:
    """The name of syscall ``number`` under audit arch value ``arch``, None where either is not known."""
    name = ARCHES.get(arch)
    if name is None:
        return None
    if number & X32_BIT and name == "x86_64":
        number &= ~X32_BIT
        if number >= 512:
            name = "x32"
    return SYSCALLS[name].get(number)
'''


def render(tables: dict[str, dict[int, str]], version: str) -> str:
    """The text of the generated module."""
    arches = {value: NAMES_BY_AUDIT.get(value, arch.name) for arch in ARCHES for value in arch.audit}
    return HEAD.format(
        version=version,
        arches="\n".join(f'    0x{value:08X}: "{name}",' for value, name in sorted(arches.items())),
        packed="\n".join(f'    "{name}": (\n{literal(pack(table))}\n    ),' for name, table in tables.items()),
    )


def fetch(root: Path) -> None:
    """Unpack the header packages of the other arches under ``root``."""
    for package in sorted({arch.package for arch in ARCHES} - {"linux-libc-dev"}):
        subprocess.run(["apt-get", "download", "-q", package], cwd=root, check=True, stdout=subprocess.DEVNULL)
    for deb in root.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)


def header_version(include: Path) -> str:
    """The kernel version that these headers are of, from linux/version.h."""
    text = (include / "linux/version.h").read_text()
    parts = [re.search(rf"LINUX_VERSION_{part} (\d+)", text) for part in ("MAJOR", "PATCHLEVEL")]
    return "Linux " + ".".join(part[1] for part in parts if part)


def main() -> int:
    """Write or check the table; 0 when it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headers", type=Path, help="directory with the unpacked *-cross packages")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file differs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        others = args.headers or Path(scratch)
        if args.headers is None:
            fetch(others)
        roots = {arch.name: Path("/") if arch.package == "linux-libc-dev" else others for arch in ARCHES}
        tables = {arch.name: read_arch(arch, roots[arch.name]) for arch in ARCHES}
        tables["arm"] = {**tables.pop("oabi"), **tables["arm"]}  # programs of the old ABI have numbers that EABI left
        version = header_version(others / ARCHES[3].include)
        text = render(tables, f"the headers of {version} and the newer numbers listed in it")
    if args.check:
        return int(text != TABLE.read_text())
    TABLE.write_text(text)
    print(", ".join(f"{name} {len(table)}" for name, table in tables.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
