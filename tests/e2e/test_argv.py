"""Random arguments, executed for real under auditd in an ssh session, come back byte by byte, or say that they do not.

AUDITO_E2E_ARGV says how many argv are executed, 500 where it does not; the full measure is 10,000. Each has 0 to 128 KiB
of bytes 1 to 255 in a random number of arguments. Run by `make integration-test`.
"""

from __future__ import annotations

import json
import math
import os
import pwd
import random
import re
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audito.text import original

from ..kernel import execve_texts
from . import daemon
from .host import Host, audit_status, why_not
from .scenario import Person, Truth
from .undo import run

REASON = (
    "changes this machine (accounts, audit rules, daemons): set AUDITO_E2E=1 to allow it"
    if os.environ.get("AUDITO_E2E") != "1"
    else why_not()
)
COUNT = int(os.environ.get("AUDITO_E2E_ARGV", "500"))
SEED = 5
BYTES_MAX = 128 * 1024
BACKLOG_RECORDS = 65_536
# What the kernel, auditd and audito together take for one argv, with much to spare on a busy machine.
SECONDS_EACH = 0.2
# So long without another event and no more come.
SILENCE_S = 30
PROGRAM = "/bin/true"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(180 + 3 * SECONDS_EACH * COUNT),
]

# What a careless reader of records takes for something else.
TRAPS = (
    b"", b"?", b"(null)", b"DEADBEEF", b"6162", b'"', b"'", b"\\", b"\\x41", b"ends\\", b"a b", b" a1=x", b'a1="x"', b"argc=9",
    b"a0[0]=61", b"a0_len=4", b"x\ntype=EOE msg=audit(1.0:2): ", b"#035UID=x", b"\x1dUID=x", b"h\xc3\xa9", b"\xff", b"\xc3",
)  # fmt: skip


def random_argv(rng: random.Random) -> list[bytes]:
    """One argv of up to BYTES_MAX bytes in all; most are short, as most are, and each power of two is as likely."""
    size = (
        rng.randrange(BYTES_MAX + 1)
        if rng.random() < 0.1
        else int(math.exp(rng.uniform(0, math.log(BYTES_MAX + 1)))) - 1
    )
    count = int(math.exp(rng.uniform(0, math.log(min(size, 20_000) + 2))))
    cuts = sorted(rng.randrange(size + 1) for _ in range(count - 1))
    text = random_bytes(rng, size)
    args = [text[start:end] for start, end in zip([0, *cuts], [*cuts, size], strict=True)]
    if size < BYTES_MAX // 2 and rng.random() < 0.5:
        args.insert(rng.randrange(len(args) + 1), rng.choice(TRAPS))
    return args


def random_bytes(rng: random.Random, size: int) -> bytes:
    """Bytes 1 to 255: any of them, or printable ones with none, few or many others among them."""
    text = bytearray(rng.choices(range(0x21, 0x7F), k=size))
    match rng.randrange(4):
        case 0:
            text = bytearray(rng.choices(range(1, 256), k=size))
        case 1:
            text = text.replace(b'"', b"_")
        case 2:
            for _ in range(size // 3000):
                text[rng.randrange(size)] = rng.choice(b' \x01\n"\x80\xff')
    return bytes(text)


@dataclass
class Outcome:
    """What was executed, in order, and the actions that audito wrote about it, in theirs."""

    argvs: list[list[bytes]]
    pids: list[int]
    actions: list[dict[str, Any]]
    lost: int
    seconds: float
    records: dict[int, list[bytes]]

    def is_identical(self, number: int) -> bool:
        """Whether the action tells just the arguments that were executed, and says that it does."""
        extra = self.actions[number]
        return "args_incomplete" not in extra and [original(arg) for arg in extra["process_args"]] == self.argvs[number]


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Execute them all in one session while audito watches auditd's log directory; says how it went."""
    rng = random.Random(SEED)
    argvs = [random_argv(rng) for _ in range(COUNT)]
    directory: Path = tmp_path_factory.mktemp("argv")
    with Host() as host:
        run("auditctl", "-b", str(BACKLOG_RECORDS))  # the run puts back what it was
        lost = audit_status()["lost"]
        # Of random bytes some look like a secret, and a hidden one is not identical.
        with daemon.on_directory_and_journal(host, directory, "--redact-off", "all") as running:
            began = time.monotonic()
            pids = execute(host, argvs)
            actions = list(executions(running, set(pids)))
            seconds = time.monotonic() - began
        records = records_of(host.audit_directory / "audit.log", {action["sequence"] for action in actions})
        running.output.unlink()
        result = Outcome(argvs, pids, actions, audit_status()["lost"] - lost, seconds, records)
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{summary(result)}")
    return result


def summary(result: Outcome) -> str:
    """How it went, in one line."""
    size = sum(len(arg) for argv in result.argvs for arg in argv)
    identical = sum(result.is_identical(number) for number in range(len(result.actions)))
    incomplete = sum("args_incomplete" in action for action in result.actions)
    return (
        f"{len(result.argvs)} argv of {size} bytes in {sum(map(len, result.argvs))} arguments: {identical} identical, "
        f"{incomplete} marked incomplete; the kernel lost {result.lost} records; {result.seconds:.0f} s"
    )


def execute(host: Host, argvs: list[list[bytes]]) -> list[int]:
    """Execute them in one ssh session of bob's, and return the pids."""
    home = Path(pwd.getpwnam("bob").pw_dir)
    helper, data = host.directory / "run_argv", host.directory / "argvs"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-o", helper, Path(__file__).with_name("run_argv.c")], check=True)
    with data.open("wb") as file:
        for argv in argvs:
            file.write(struct.pack("=I", len(argv)) + b"".join(arg + b"\0" for arg in argv))
    for path, mode in ((helper, 0o755), (data, 0o644)):
        path.chmod(mode)
    person = Person(host, Truth(), "127.0.0.14")
    person.log_in("key", "bob", "bob", f"{helper} {data} {PROGRAM} >pids", timeout_s=60 + SECONDS_EACH * COUNT)
    data.unlink()
    return [int(line) for line in (home / "pids").read_text().split()]


def executions(running: daemon.Daemon, pids: set[int]) -> Iterator[dict[str, Any]]:
    """metadata.extra of the actions that executed PROGRAM, until one of each pid is there or nothing more comes."""
    found = 0
    with running.output.open("rb") as lines:
        heard = time.monotonic()
        while found < len(pids) and time.monotonic() < heard + SILENCE_S:
            start = lines.tell()
            line = lines.readline()
            if not line.endswith(b"\n"):
                lines.seek(start)
                time.sleep(0.1)
                continue
            heard = time.monotonic()
            event = json.loads(line)
            extra = event["metadata"].get("extra", {})
            if event["type"] == "UserAction" and extra["object"].get("primary") == PROGRAM and extra.get("pid") in pids:
                found += 1
                yield extra


def records_of(log: Path, serials: set[int]) -> dict[int, list[bytes]]:
    """The texts of the EXECVE records of these events that the log still has whole, by serial."""
    texts: dict[int, list[bytes]] = {}
    whole: set[int] = set()
    for line in log.read_bytes().split(b"\n"):
        match = re.match(rb"type=(SYSCALL|EXECVE|PROCTITLE) msg=audit\([0-9.]+:([0-9]+)\): ?(.*)", line, re.DOTALL)
        if match is None or int(match[2]) not in serials:
            continue
        if match[1] == b"SYSCALL":
            texts[int(match[2])] = []
        elif match[1] == b"EXECVE" and int(match[2]) in texts:
            texts[int(match[2])].append(match[3])
        elif match[1] == b"PROCTITLE":
            whole.add(int(match[2]))
    return {serial: found for serial, found in texts.items() if serial in whole}


def test_each_execution_is_told_once_and_in_order(outcome: Outcome) -> None:
    assert len(outcome.pids) == COUNT
    assert [action["pid"] for action in outcome.actions] == outcome.pids
    assert {action["exe"] for action in outcome.actions} == {os.path.realpath(PROGRAM)}


def test_f19_argv_is_identical_or_marked_incomplete(outcome: Outcome) -> None:
    wrong = [
        (number, action.get("args_incomplete"))
        for number, action in enumerate(outcome.actions)
        if not outcome.is_identical(number) and action.get("args_incomplete") not in (-1, len(outcome.argvs[number]))
    ]
    assert wrong == []


def test_nothing_is_incomplete_where_the_kernel_lost_nothing(outcome: Outcome) -> None:
    assert outcome.lost > 0 or all(outcome.is_identical(number) for number in range(COUNT))


def test_the_model_of_the_kernel_writes_what_the_kernel_wrote(outcome: Outcome) -> None:
    """tests/kernel.py is what test_argv.py proves argv against: record by record it is the truth."""
    assert len(outcome.records) >= min(COUNT, 100)
    for number, action in enumerate(outcome.actions):
        if action["sequence"] in outcome.records:
            texts = [text.lstrip(b" ") for text in execve_texts(outcome.argvs[number])]
            assert [text.lstrip(b" ") for text in outcome.records[action["sequence"]]] == texts, number
