"""Seeded workloads: the audit log and the sshd lines of a busy host, and the truth of who did what.

The records are modelled on what auditd 3.0.9 writes on Debian 12 (``examples/audit.log``): an ssh login, the
commands of its session, its end; cron's sessions; and events of no session at all, which on a container host are
nearly everything. The same settings give the same bytes.

    python -m benchmarks.workload --sessions 1000 --commands 50 --background 3 --seed 1 DIR

writes to DIR ``audit.log``, ``sshd.pipe`` (``PID MESSAGE``), ``sshd.log`` (syslog with ISO time) and ``truth.json``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

UNSET = 0xFFFFFFFF
ORDERS = ("before", "after", "mixed")


@dataclass(frozen=True)
class Settings:
    """What the workload is like. Times are record time.

    ``background``: events of no ssh session for each event of one. ``window``: how many events' records may
    interleave, 1 = none do. ``order``: whether sshd's line comes before its session's LOGIN record, after it, or
    either, by up to ``delay_ms``. ``unclaimed``: share of sessions whose login line never comes. ``failures``: sshd
    lines of logins that failed, three an attempt.
    """

    sessions: int = 1000
    commands: int = 50
    background: float = 3.0
    concurrent: int = 200
    seed: int = 1
    enriched: bool = True
    window: int = 4
    order: str = "mixed"
    delay_ms: int = 500
    unclaimed: float = 0.0
    failures: int = 0
    events_per_second: int = 10_000
    start_ms: int = 1_795_000_000_000

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order {self.order!r}: one of {', '.join(ORDERS)}")
        if self.window < 1 or self.concurrent < 1 or self.sessions < 0 or self.background < 0:
            raise ValueError(f"no such workload: {self}")


@dataclass
class Login:
    """The truth of one ssh session. ``events``: sequence, action, and argv where the event is an execve with one."""

    ses: int
    pid: int
    method: str
    account: str
    identity: str
    address: str
    port: int
    claimed: bool
    events: list[tuple[int, str, list[str] | None]] = field(default_factory=list)


@dataclass
class Truth:
    """What a reader of the workload must find. ``sshd_offsets``: the audit byte before which each line is written."""

    settings: dict[str, Any]
    logins: list[Login] = field(default_factory=list)
    events: int = 0
    records: int = 0
    audit_bytes: int = 0
    session_events: int = 0
    last_seq: int = 0
    sshd_offsets: list[int] = field(default_factory=list)


# ------------------------------------------------------------------------------------------ commands


PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x22)


def quoted(text: bytes) -> str:
    """Text as the kernel writes it: in quotes, or in upper-case hex where it holds a quote, a blank or is not ASCII."""
    if text.translate(None, PLAIN):
        return text.hex().upper()
    return f'"{text.decode()}"'


class Command:
    """One program run, with the parts of its records that are the same each time."""

    def __init__(self, exe: str, *args: str) -> None:
        self.exe = exe
        self.argv = [exe.rpartition("/")[2], *args]
        encoded = [arg.encode() for arg in self.argv]
        title = b"\0".join(encoded)[:128]
        self.comm = quoted(encoded[0][:15])
        self.execve = f"argc={len(encoded)} " + " ".join(f"a{i}={quoted(arg)}" for i, arg in enumerate(encoded))
        self.title = title.hex().upper() if b"\0" in title else quoted(title)
        self.inode = 246_000 + sum(encoded[0])


PROGRAMS = (
    ("/usr/bin/ls", "-la", "/srv/data/{n}"),
    ("/usr/bin/cat", "/etc/os-release"),
    ("/usr/bin/grep", "-rn", "TODO {n}", "src/"),
    ("/usr/bin/git", "commit", "-m", "fix: don't count {n} twice", "--author=Jörg <j@example.com>"),
    ("/usr/bin/git", "status", "--short"),
    ("/usr/bin/vim", "/home/core/notes-{n}.txt"),
    ("/usr/bin/curl", "-fsSL", "https://repo.example.com/pkg/{n}?arch=x86_64&v=2", "-o", "/tmp/pkg{n}"),
    ("/usr/bin/find", "/var/log", "-name", "*.gz", "-mtime", "+{n}", "-exec", "rm", "{{}}", ";"),
    ("/usr/bin/awk", '{{ print $1 "\\t" $NF }}', "/var/log/app-{n}.log"),
    ("/usr/bin/sed", "-i", "s/a{n}/b/g", "config.yaml"),
    ("/usr/bin/ps", "aux"),
    ("/usr/bin/kubectl", "get", "pods", "-n", "team-{n}", "-o", "wide"),
    ("/usr/bin/systemctl", "status", "app@{n}.service"),
    ("/usr/bin/tar", "-czf", "/tmp/backup-{n}.tar.gz", "/srv/data"),
    ("/usr/bin/python3.11", "/opt/tools/report.py", "--id", "{n}", "--note", ""),
    ("/usr/bin/bash", "-c", "for i in 1 2 3; do echo $i; done"),
    ("/usr/bin/wc", "-c"),
    ("/usr/bin/stat", "--format=%U", "/etc/hostname"),
    ("/usr/bin/printf", "\\x41{n}\\n"),
    ("/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "run-parts"),
)

SERVICES = (
    ("/usr/bin/runc", "--root", "/run/containerd/runc/k8s.io", "--log-format", "json", "exec", "c0ffee{n}"),
    ("/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", "deadbeef{n}", "-address", "/run/c.sock"),
    ("/usr/sbin/iptables", "-w", "5", "-t", "nat", "-A", "KUBE-SVC-{n}", "-j", "MARK"),
    ("/usr/bin/pgrep", "-f", "worker-{n}"),
    ("/usr/bin/sh", "-c", "curl -sf http://127.0.0.1:{n}/healthz || exit 1"),
    ("/usr/bin/mount", "--bind", "/var/lib/kubelet/pods/{n}", "/mnt"),
    ("/usr/bin/sleep", "{n}"),
)


class Commands:
    """Each program with ``variants`` different numbers in its arguments; one is made when it is first asked for."""

    def __init__(self, programs: tuple[tuple[str, ...], ...], rng: random.Random, variants: int) -> None:
        self._programs, self._variants = programs, variants
        # A number for each argument, also where it has no place for one. ``_first``: of each program's first variant.
        self._first = [0, *accumulate((len(program) - 1) * variants for program in programs)]
        self._numbers = numbers_below_10_000(rng, self._first.pop())
        self._made: list[Command | None] = [None] * (len(programs) * variants)

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index: int) -> Command:
        command = self._made[index]
        if command is None:
            program, variant = divmod(index, self._variants)
            exe, *args = self._programs[program]
            first = self._first[program] + variant * len(args)
            filled = (arg.format(n=self._numbers[first + i]) for i, arg in enumerate(args))
            command = self._made[index] = Command(exe, *filled)
        return command


def numbers_below_10_000(rng: random.Random, count: int) -> list[int]:
    """As ``count`` times randrange(1, 10_000) draws them: the upper 14 bits of a word, if that is few enough."""
    numbers: list[int] = []
    while left := count - len(numbers):
        words = struct.unpack(f"<{left}I", rng.getrandbits(32 * left).to_bytes(4 * left, "little"))
        numbers += [(word >> 18) + 1 for word in words if word >> 18 < 9_999]
    return numbers


# ------------------------------------------------------------------------------------------ records


class Writer:
    """Makes the records of events; ``stamp`` is ``SECONDS.MILLIS:SEQUENCE``. An event is one text, a line a record."""

    def __init__(self, enriched: bool) -> None:
        self.enriched = enriched
        self.owner = self.tail('OUID="root" OGID="root"')

    def tail(self, names: str) -> str:
        """What ``log_format = ENRICHED`` adds to a record."""
        return f"\x1d{names}" if self.enriched else ""

    def syscall(self, stamp: str, number: int, result: str, items: int, who: Actor, command: Command, pid: int) -> str:
        """A SYSCALL record. ``result``: ``success=… exit=…``."""
        tail = f"\x1dARCH=x86_64 SYSCALL={NAMES[number]} {who.names}" if self.enriched else ""
        return (
            f"type=SYSCALL msg=audit({stamp}): arch=c000003e syscall={number} {result} a0=5561288b7b70 "
            f"a1=5561288b8420 a2=5561288b4550 a3=8 items={items} ppid={who.pid} pid={pid} {who.ids} "
            f'tty={who.tty} ses={who.ses} comm={command.comm} exe="{command.exe}" key="user-commands"{tail}\n'
        )

    def path(self, stamp: str, item: int, name: str, inode: int, kind: str = "NORMAL", mode: str = "0100755") -> str:
        """A PATH record of a file that is there."""
        return (
            f"type=PATH msg=audit({stamp}): item={item} name={name} inode={inode} dev=fe:00 mode={mode} ouid=0 ogid=0 "
            f"rdev=00:00 nametype={kind} cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0{self.owner}\n"
        )

    def executed(self, stamp: str, who: Actor, command: Command, pid: int) -> str:
        """An execve that succeeded: six records, about 1.2 KB when enriched."""
        return (
            self.syscall(stamp, 59, "success=yes exit=0", 2, who, command, pid)
            + f"type=EXECVE msg=audit({stamp}): {command.execve}\n"
            + f'type=CWD msg=audit({stamp}): cwd="{who.cwd}"\n'
            + self.path(stamp, 0, f'"{command.exe}"', command.inode)
            + self.path(stamp, 1, '"/lib64/ld-linux-x86-64.so.2"', 325835)
            + f"type=PROCTITLE msg=audit({stamp}): proctitle={command.title}\n"
        )

    def not_found(self, stamp: str, who: Actor, command: Command, pid: int) -> str:
        """An execve of a file that is not there: no EXECVE record."""
        return (
            self.syscall(stamp, 59, "success=no exit=-2", 1, who, command, pid)
            + f'type=CWD msg=audit({stamp}): cwd="{who.cwd}"\n'
            + f'type=PATH msg=audit({stamp}): item=0 name="/usr/local{command.exe[4:]}" nametype=UNKNOWN '
            + "cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0\n"
            + f"type=PROCTITLE msg=audit({stamp}): proctitle={command.title}\n"
        )

    def opened(self, stamp: str, who: Actor, command: Command, pid: int) -> str:
        """An openat of a watched file."""
        return (
            self.syscall(stamp, 257, "success=yes exit=3", 1, who, command, pid)
            + f'type=CWD msg=audit({stamp}): cwd="{who.cwd}"\n'
            + self.path(stamp, 0, '"/etc/passwd"', 1311, mode="0100644")
            + f"type=PROCTITLE msg=audit({stamp}): proctitle={command.title}\n"
        )

    def connected(self, stamp: str, who: Actor, command: Command, pid: int) -> str:
        """A connect to 10.0.0.5 port 443."""
        tail = self.tail("SADDR={ saddr_fam=inet laddr=10.0.0.5 lport=443 }")
        return (
            self.syscall(stamp, 42, "success=yes exit=0", 0, who, command, pid)
            + f"type=SOCKADDR msg=audit({stamp}): saddr=020001BB0A0000050000000000000000{tail}\n"
            + f"type=PROCTITLE msg=audit({stamp}): proctitle={command.title}\n"
        )

    def message(self, stamp: str, kind: str, pid: int, who: Actor, text: str) -> str:
        """A message of a trusted program, one record."""
        tail = self.tail(f'UID="root" AUID="{who.auid_name}"')
        return f"type={kind} msg=audit({stamp}): pid={pid} uid=0 auid={who.auid} ses={who.ses} msg='{text}'{tail}\n"

    def login(self, stamp: str, who: Actor, program: Command, ppid: int) -> str:
        """The LOGIN that opens a session, with the SYSCALL that shows whose program did it."""
        tail = self.tail(f'UID="root" OLD-AUID="unset" AUID="{who.auid_name}"')
        parent = Actor(ppid, who.auid, who.auid_name, 0, "root", who.ses)
        return (
            f"type=LOGIN msg=audit({stamp}): pid={who.pid} uid=0 old-auid={UNSET} auid={who.auid} tty=(none) "
            f"old-ses={UNSET} ses={who.ses} res=1{tail}\n"
            + self.syscall(stamp, 1, "success=yes exit=4", 0, parent, program, who.pid)
            + f"type=PROCTITLE msg=audit({stamp}): proctitle={program.title}\n"
        )


NAMES = {1: "write", 42: "connect", 59: "execve", 257: "openat"}


class Actor:
    """Who a record is about, with the parts of its records that are the same each time."""

    def __init__(self, pid: int, auid: int, auid_name: str, uid: int, uid_name: str, ses: int, cwd: str = "/") -> None:
        self.pid, self.auid, self.auid_name, self.ses, self.cwd = pid, auid, auid_name, ses, cwd
        self.tty = "(none)" if uid == 0 else "pts0"
        ids = " ".join(f"{key}={uid}" for key in ("uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid"))
        self.ids = f"auid={auid} {ids}"
        added = " ".join(
            f'{key}="{uid_name}"' for key in ("UID", "GID", "EUID", "SUID", "FSUID", "EGID", "SGID", "FSGID")
        )
        self.names = f'AUID="{auid_name}" {added}'


SSHD = Command("/usr/sbin/sshd")
SSHD.title = b"sshd: core [priv]".hex().upper()
CRON = Command("/usr/sbin/cron")
UIDS = {"core": 1001, "bob": 1002, "carol": 1003}
NO_SESSION = Actor(1, UNSET, "unset", 0, "root", UNSET)
PAM_MODULES = "pam_selinux,pam_loginuid,pam_keyinit,pam_permit,pam_unix,pam_mail,pam_limits,pam_env,pam_env,pam_selinux"
KEY_HASHES = tuple(f"{i:02d}vRheySMj2kysIWwitDtR33PAc5UeroNUxsNIpIwTs3s"[:43] for i in range(100))
CA = "CA ED25519 SHA256:axH1FMYlNr4dVgbGra+CYDtbDE8cThGTXqt+9mSNyv0"


def pam(op: str, account: str, exe: str, address: str, terminal: str, modules: str = "pam_permit") -> str:
    """The text of a PAM message."""
    return (
        f'op=PAM:{op} grantors={modules} acct="{account}" exe="{exe}" hostname={address} addr={address} '
        f"terminal={terminal} res=success"
    )


# ------------------------------------------------------------------------------------------ the generator

SessionEvent = tuple[str, str, list[str] | None]
"""An event of a session: its records, its action ("": it is of no session yet), its argv."""


class Workload:
    """Generates the streams; ``run`` writes them and returns the truth. One use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rng = random.Random(settings.seed)
        self.writer = Writer(settings.enriched)
        self.commands = Commands(PROGRAMS, self.rng, 20)
        self.services = Commands(SERVICES, self.rng, 20)
        self.truth = Truth(asdict(settings))
        self.clock_us = settings.start_ms * 1000
        self.step_us = max(1_000_000 // settings.events_per_second, 1)
        self.seq = 500
        self.pid = 2000
        self.ses = 0
        self.due: list[tuple[int, int, int, str, int]] = []  # lines of sshd to come: due, order, line time, text, pid
        self.lines = 0
        self.late: dict[int, int] = {}  # session to how much later than its LOGIN its login line comes
        self.owed = 0.0  # background events that are due
        self.attempts = 0
        self.cron: list[Iterator[str]] = []  # the job that runs, if any
        self.cron_ses = 0
        self.thread = 0  # session whose process made the last event, 0: a process of its own

    # -------------------------------------------------------------------------------- small things

    def next_pid(self) -> int:
        """A pid that nothing alive has: the kernel counts up and starts again."""
        self.pid = self.pid + 1 if self.pid < 4_194_303 else 301
        return self.pid

    def stamp(self) -> str:
        """The stamp of the next event; time goes on."""
        self.clock_us += self.step_us
        self.seq = self.seq + 1 & UNSET
        ms = self.clock_us // 1000
        return f"{ms // 1000}.{ms % 1000:03d}:{self.seq}"

    def say(self, due_us: int, line_us: int, pid: int, text: str) -> None:
        """Have sshd write a line that is read at ``due_us`` and says that it was written at ``line_us``."""
        self.lines += 1
        heapq.heappush(self.due, (due_us, self.lines, line_us, text, pid))

    # -------------------------------------------------------------------------------- sessions

    def new_login(self) -> Login:
        """Someone to log in."""
        rng = self.rng
        self.ses += 1
        account, identity, method = "core", f"user{rng.randrange(500)}@example.com", "certificate"
        kind = rng.random()
        if kind < 0.15:
            account, identity, method = "bob", "unknown", "key"
        elif kind < 0.25:
            account, identity, method = "carol", "unknown", "password"
        address = f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        claimed = rng.random() >= self.settings.unclaimed
        port = rng.randrange(1024, 65536)
        return Login(self.ses, self.next_pid(), method, account, identity, address, port, claimed)

    def accepted(self, login: Login) -> str:
        """sshd's line of a login that it accepted."""
        ends = f"for {login.account} from {login.address} port {login.port} ssh2"
        if login.method == "password":
            return f"Accepted password {ends}"
        key = f"SHA256:{KEY_HASHES[login.ses % 100]}"
        if login.method == "key":
            return f"Accepted publickey {ends}: ED25519 {key}"
        return f"Accepted publickey {ends}: ED25519-CERT {key} ID {login.identity} (serial {login.ses}) {CA}"

    def session(self, login: Login) -> Iterator[SessionEvent]:
        """The events of one ssh session: text, action, argv. The first two, before LOGIN, are of no session."""
        writer, rng = self.writer, self.rng
        uid = UIDS[login.account]
        who = Actor(login.pid, uid, login.account, uid, login.account, login.ses, f"/home/{login.account}")
        where = (login.account, SSHD.exe, login.address, "ssh")
        yield writer.message(self.stamp(), "USER_ACCT", login.pid, NO_SESSION, pam("accounting", *where)), "", None
        yield writer.message(self.stamp(), "CRED_ACQ", login.pid, NO_SESSION, pam("setcred", *where)), "", None
        opened = writer.login(self.stamp(), who, SSHD, 1200)
        if login.ses in self.late:
            self.say_accepted(login, self.clock_us + self.late.pop(login.ses), self.clock_us)
        yield opened, "changed-login-id-to", None
        text = pam("session_open", *where, PAM_MODULES)
        yield writer.message(self.stamp(), "USER_START", login.pid, who, text), "started-session", None
        child = self.next_pid()
        yield writer.message(self.stamp(), "CRED_ACQ", child, who, pam("setcred", *where)), "acquired-credentials", None
        shell = Actor(child, uid, login.account, uid, login.account, login.ses, who.cwd)
        for _ in range(self.settings.commands):
            yield self.command(shell, rng.choice(self.commands), rng.random())
        self.say(self.clock_us, self.clock_us, child, f"Disconnected from user {login.account} {login.address}"
                 f" port {login.port}")  # fmt: skip
        text = pam("session_close", *where, PAM_MODULES)
        yield writer.message(self.stamp(), "USER_END", login.pid, who, text), "ended-session", None
        yield (
            writer.message(self.stamp(), "CRED_DISP", login.pid, who, pam("setcred", *where)),
            ("disposed-credentials"),
            None,
        )
        if rng.random() < 0.05:  # what nohup left running
            yield self.command(shell, rng.choice(self.commands), 0.9)

    def command(self, who: Actor, command: Command, kind: float) -> SessionEvent:
        """One thing done in a session: mostly a program run."""
        stamp, pid = self.stamp(), self.next_pid()
        if kind < 0.04:
            return self.writer.not_found(stamp, who, command, pid), "executed", None
        if kind < 0.07:
            return self.writer.opened(stamp, who, command, pid), "opened-file", None
        if kind < 0.09:
            return self.writer.connected(stamp, who, command, pid), "connected-to", None
        if kind < 0.11:  # sudo, whose messages must not end the session
            text = pam("setcred", "root", "/usr/bin/sudo", "?", "/dev/pts/0")
            return self.writer.message(stamp, "CRED_DISP", pid, who, text), "disposed-credentials", None
        return self.writer.executed(stamp, who, command, pid), "executed", command.argv

    def background(self) -> str:
        """One event that is no ssh session's."""
        rng, kind = self.rng, self.rng.random()
        if not self.cron and kind < 0.001:
            self.cron.append(self.cron_session())
        if self.cron and kind < 0.03:
            event = next(self.cron[0], None)
            if event is not None:
                self.thread = self.cron_ses
                return event
            self.cron.pop()
        self.thread = 0
        command, pid = rng.choice(self.services), self.next_pid()
        if kind < 0.75:
            return self.writer.executed(self.stamp(), NO_SESSION, command, pid)
        if kind < 0.9:
            return self.writer.opened(self.stamp(), NO_SESSION, command, pid)
        return self.writer.connected(self.stamp(), NO_SESSION, command, pid)

    def cron_session(self) -> Iterator[str]:
        """A job of cron: it has an audit session of its own, which is nobody's ssh login."""
        writer = self.writer
        self.ses += 1
        self.cron_ses = self.ses
        who = Actor(self.next_pid(), 0, "root", 0, "root", self.ses)
        where = ("root", CRON.exe, "?", "cron")
        yield writer.message(self.stamp(), "USER_ACCT", who.pid, NO_SESSION, pam("accounting", *where))
        yield writer.login(self.stamp(), who, CRON, 700)
        yield writer.message(self.stamp(), "USER_START", who.pid, who, pam("session_open", *where))
        for _ in range(3):
            yield writer.executed(self.stamp(), who, self.rng.choice(self.commands), self.next_pid())
        yield writer.message(self.stamp(), "CRED_DISP", who.pid, who, pam("setcred", *where))
        yield writer.message(self.stamp(), "USER_END", who.pid, who, pam("session_close", *where))

    # -------------------------------------------------------------------------------- the stream

    def offset_us(self) -> int:
        """How much later than its LOGIN record a login line is read; negative: earlier."""
        delay_us = self.settings.delay_ms * 1000
        if self.settings.order == "before":
            return -self.rng.randrange(delay_us + 1)
        if self.settings.order == "after":
            return self.rng.randrange(1, delay_us + 2)
        return self.rng.randrange(-delay_us, delay_us + 1)

    def scan_until(self, share: float) -> None:
        """Have this share of the failed attempts made."""
        rng = self.rng
        while self.attempts < int(share * (self.settings.failures // 3)):
            self.attempts += 1
            pid, name = self.next_pid(), f"admin{rng.randrange(100)}"
            peer = f"203.0.113.{rng.randrange(1, 255)} port {rng.randrange(1024, 65536)}"
            self.clock_us += self.step_us
            for text in (
                f"Invalid user {name} from {peer}",
                f"Failed password for invalid user {name} from {peer} ssh2",
                f"Connection closed by invalid user {name} {peer} [preauth]",
            ):
                self.say(self.clock_us, self.clock_us, pid, text)

    def events(self) -> Iterator[tuple[str, Login | None, str, list[str] | None]]:
        """All events in order: text, and for those of a session whose it is, its action and argv."""
        settings, rng = self.settings, self.rng
        waiting: list[tuple[int, int, Login]] = []
        live: list[tuple[Login, Iterator[SessionEvent]]] = []
        to_come = settings.sessions
        while to_come or waiting or live:
            while to_come and len(live) + len(waiting) < settings.concurrent:
                to_come -= 1
                self.log_in(waiting)
            self.scan_until(1 - (to_come + 1) / settings.sessions)
            while waiting and waiting[0][0] <= self.clock_us:
                login = heapq.heappop(waiting)[2]
                live.append((login, self.session(login)))
            if not live or self.owed >= 1:
                self.owed = max(self.owed - 1, 0)
                yield self.background(), None, "", None
                continue
            index = rng.randrange(len(live))
            login, session = live[index]
            made = next(session, None)
            if made is None:
                live[index] = live[-1]
                live.pop()
                continue
            self.owed += settings.background
            self.thread = login.ses
            text, action, argv = made
            yield text, login if action else None, action, argv
        self.scan_until(1)

    def log_in(self, waiting: list[tuple[int, int, Login]]) -> None:
        """Begin a login: its line of sshd is said, its session waits for its time."""
        login = self.new_login()
        self.truth.logins.append(login)
        offset_us = self.offset_us()
        begins_us = self.clock_us + max(-offset_us, 0)
        heapq.heappush(waiting, (begins_us, login.ses, login))
        if offset_us > 0:
            self.late[login.ses] = offset_us  # from its LOGIN record on, which is still to come
        else:
            self.say_accepted(login, begins_us + offset_us, begins_us)

    def say_accepted(self, login: Login, due_us: int, line_us: int) -> None:
        """Have sshd say that it let this one in."""
        if login.claimed:
            self.say(due_us, line_us, login.pid, self.accepted(login))
            opened = f"session opened for user {login.account}(uid={UIDS[login.account]}) by (uid=0)"
            self.say(due_us, line_us, login.pid, f"pam_unix(sshd:session): {opened}")

    def run(self, audit: BinaryIO, pipe: BinaryIO | None = None, syslog: BinaryIO | None = None) -> Truth:
        """Write audit records and sshd lines; both sshd files have the same lines in their two forms."""
        truth = self.truth
        group: list[str] = []
        threads: set[int] = set()
        size = 0
        for text, login, action, argv in self.events():
            if self.thread in threads:  # what one process does is in order
                self.flush(group, audit)
                threads.clear()
            threads.update((self.thread,) if self.thread else ())
            truth.events += 1
            truth.records += text.count("\n")
            if login is not None:
                truth.session_events += 1
                login.events.append((self.seq, action, argv))
            group.append(text)
            if len(group) >= size:
                self.flush(group, audit)
                threads.clear()
                self.write_lines(self.clock_us, pipe, syslog)
                size = self.rng.randrange(1, self.settings.window + 1) if self.rng.random() < 0.2 else 1
        self.flush(group, audit)
        self.write_lines(1 << 62, pipe, syslog)
        truth.last_seq = self.seq
        return truth

    def flush(self, group: list[str], audit: BinaryIO) -> None:
        """Write a group of events, their records interleaved."""
        if len(group) > 1:
            queues = [text.split("\n")[-2::-1] for text in group]
            order = [index for index, queue in enumerate(queues) for _ in queue]
            self.rng.shuffle(order)
            text = "".join(queues[index].pop() + "\n" for index in order)
        else:
            text = "".join(group)
        group.clear()
        self.truth.audit_bytes += audit.write(text.encode())

    def write_lines(self, until_us: int, pipe: BinaryIO | None, syslog: BinaryIO | None) -> None:
        """Write the lines of sshd that are due."""
        while self.due and self.due[0][0] <= until_us:
            _, _, line_us, text, pid = heapq.heappop(self.due)
            self.truth.sshd_offsets.append(self.truth.audit_bytes)
            if pipe is not None:
                pipe.write(f"{pid} {text}\n".encode())
            if syslog is not None:
                moment = datetime.fromtimestamp(line_us / 1e6, UTC).isoformat(timespec="microseconds")
                syslog.write(f"{moment} bastion sshd[{pid}]: {text}\n".encode())


def write(settings: Settings, directory: Path) -> Truth:
    """Make the workload in ``directory``, which is created; returns its truth."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (directory / "audit.log").open("wb", buffering=1 << 20) as audit,
        (directory / "sshd.pipe").open("wb") as pipe,
        (directory / "sshd.log").open("wb") as syslog,
    ):
        truth = Workload(settings).run(audit, pipe, syslog)
    (directory / "truth.json").write_text(json.dumps(asdict(truth)))
    return truth


def read_truth(directory: Path) -> Truth:
    """The truth that ``write`` left in ``directory``."""
    raw = json.loads((directory / "truth.json").read_text())
    logins = [Login(**{**login, "events": [tuple(event) for event in login["events"]]}) for login in raw.pop("logins")]
    return Truth(logins=logins, **raw)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for each setting."""
    for setting in fields(Settings):
        flag = "--" + setting.name.replace("_", "-")
        if setting.type == "bool":
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=setting.default)
        else:
            kind: type = {"int": int, "float": float, "str": str}[str(setting.type)]
            parser.add_argument(flag, type=kind, default=setting.default)


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that the flags give."""
    return Settings(**{setting.name: getattr(args, setting.name) for setting in fields(Settings)})


def main() -> int:
    """Write a workload and say what it is like."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workload", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    add_arguments(parser)
    args = parser.parse_args()
    began = time.perf_counter()
    truth = write(settings_of(args), args.directory)
    took = time.perf_counter() - began
    print(
        f"{truth.events:,} events ({truth.session_events:,} of {len(truth.logins):,} ssh sessions), "
        f"{truth.records:,} records, {truth.audit_bytes / 1e6:.1f} MB, {len(truth.sshd_offsets):,} sshd lines, "
        f"{took:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
