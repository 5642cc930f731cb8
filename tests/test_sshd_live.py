"""What the sshd of this machine really writes: every line has its row, and no peer's text changes who or from where."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from audito.core import Core, CoreSettings
from audito.text import lossless
from tests.live_sshd import LiveSshd, make_key, why_not
from tests.sshd_lines import NOW_US, PHRASES

REASON = why_not()
pytestmark = [pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.timeout(300)]

CLIENTS = 4
"""Clients at once: two cores are busy with four."""

Rejects = list[tuple[bytes, str]]


def new_core(rejects: Rejects) -> Core:
    settings = CoreSettings(host="blam", machine_id="deadbeef", boot_id="boot")
    return Core(settings, lambda line, why: rejects.append((line, why)))


def events_of(lines: list[bytes], rejects: Rejects) -> list[dict[str, Any]]:
    """What the core makes of lines as they came over the log socket."""
    core = new_core(rejects)
    core.feed_sshd(b"".join(line + b"\n" for line in lines), "syslog", time.time_ns() // 1000)
    return [json.loads(line) for line in core.take().splitlines()]


# ---------------------------------------------------------------------------------- every line has its row

PASSWORD_HASH = "$5$audito$U59STM8dbGojK06MJerU1G7gIeOA63Udc4FYIrEHRr0"  # of "pw"
ACCOUNTS = {"bob": "/bin/sh", "denied": "/bin/sh", "grouped": "/bin/sh", "shellless": "/nonexistent", "late": "/bin/sh"}
SETTINGS = """
UsePAM yes
PasswordAuthentication yes
KbdInteractiveAuthentication yes
HostbasedAuthentication yes
MaxAuthTries 3
LoginGraceTime 8
ClientAliveInterval 1
ClientAliveCountMax 1
DenyUsers denied
DenyGroups grouped
RevokedKeys {directory}/revoked
Subsystem sftp internal-sftp
"""
MATCH = """
Match User late
    AuthenticationMethods publickey,keyboard-interactive
"""
CERTIFICATES = {
    "good": ["-n", "root,bob,late"],
    "old": ["-n", "root", "-V", "20200101:20200102"],
    "other": ["-n", "nobody"],
    "none": [],
    "elsewhere": ["-n", "root", "-O", "source-address=10.0.0.0/8"],
    "odd": ["-n", "root", "-O", "critical:x=y"],
}


def with_accounts() -> dict[str, str]:
    """The files of accounts of this machine, with ours."""
    files = {name: Path("/etc", name).read_text() for name in ("passwd", "shadow", "group")}
    for number, (name, shell) in enumerate(ACCOUNTS.items(), 3000):
        files["passwd"] += f"{name}:x:{number}:{number}::/:{shell}\n"
        files["shadow"] += f"{name}:{PASSWORD_HASH}:19000:0:99999:7:::\n"
        files["group"] += f"{name}:x:{number}:\n"
    return files


class Scenes:
    """What clients do to it, each a method that takes a second or two."""

    def __init__(self, sshd: LiveSshd, keys: dict[str, Path]) -> None:
        self.sshd = sshd
        self.keys = keys

    def key(self, name: str, *arguments: str, user: str = "root") -> None:
        self.sshd.ssh("-i", str(self.keys[name]), "-l", user, "127.0.0.1", *(arguments or ("true",)))

    def password(self, user: str, password: str, method: str, *more: str) -> None:
        helper = self.sshd.directory / f"password-{password}"
        helper.write_text(f"#!/bin/sh\necho {password}\n")
        helper.chmod(0o700)
        options = ["BatchMode=no", f"PreferredAuthentications={method}", "NumberOfPasswordPrompts=1"]
        command = ["ssh", "-F", str(self.sshd.directory / "client"), *(f"-o{option}" for option in options)]
        environment = os.environ | {"SSH_ASKPASS": str(helper), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(
            [*command, *more, "-l", user, "127.0.0.1", "true"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def bytes_(self, data: bytes, wait_s: float = 0.2) -> None:
        with socket.create_connection(("127.0.0.1", self.sshd.port)) as peer:
            peer.sendall(data)
            time.sleep(wait_s)

    def killed(self, sign: signal.Signals, wait_s: float) -> None:
        """A client that is gone, or does not answer, while its session runs."""
        command = ["ssh", "-F", str(self.sshd.directory / "client"), "-i", str(self.keys["good"])]
        client = subprocess.Popen(
            [*command, "-l", "bob", "127.0.0.1", "echo here; exec sleep 60"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert client.stdout is not None
        client.stdout.readline()
        client.send_signal(sign)
        time.sleep(wait_s)
        client.kill()
        client.communicate()

    def all(self) -> Iterator[Callable[[], None]]:
        yield lambda: self.killed(signal.SIGSTOP, 4)
        yield lambda: self.killed(signal.SIGKILL, 0)
        yield lambda: self.bytes_(b"SSH-2.0-x\r\n", 9)
        for method in ("password", "keyboard-interactive"):
            for user, password in (("bob", "no"), ("bob", "pw"), ("nobody here", "no"), ("root", "no")):
                yield lambda user=user, password=password, method=method: self.password(user, password, method)
        yield lambda: self.password("late", "pw", "publickey,keyboard-interactive", "-i", str(self.keys["good"]))
        for name in self.keys:
            yield lambda name=name: self.key(name)
        for user in (*ACCOUNTS, "nobody here", ""):
            yield lambda user=user: self.key("listed", user=user)
        yield lambda: self.key("good", "-tt", "true", user="bob")
        yield lambda: self.key("good", "-s", "sftp", user="bob")
        yield lambda: self.key("good", "-W", "127.0.0.1:1")
        yield lambda: self.key("good", "-R", "/nonexistent/x:127.0.0.1:1", "true")
        for option in ("KexAlgorithms=diffie-hellman-group1-sha1", "HostKeyAlgorithms=ssh-rsa", "Ciphers=3des-cbc"):
            yield lambda option=option: self.key("good", "-o", option, "true")
        for data in (b"", b"GET / HTTP/1.0\r\n\r\n", b"SSH-1.5-x\r\n", b"SSH-2.0-OpenSSH_Keyscan\r\n"):
            yield lambda data=data: self.bytes_(data)
        yield lambda: self.bytes_(b"SSH-2.0-x\r\n" + b"none of its packets\r\n" * 9)


@pytest.fixture(scope="module", name="everyday")
def _everyday(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of an sshd that met all the scenes."""
    directory = tmp_path_factory.mktemp("sshd")
    directory.chmod(0o755)
    sshd = LiveSshd(directory, SETTINGS.format(directory=directory), match=MATCH, accounts=with_accounts())
    keys = {name: make_key(directory / name) for name in (*CERTIFICATES, "listed", "revoked_key", "elsewhere_key")}
    for serial, (name, options) in enumerate(CERTIFICATES.items()):
        sshd.sign(keys[name].with_suffix(".pub"), f"{name}@corp".encode(), serial, *options)
    public = {name: path.with_suffix(".pub").read_text() for name, path in keys.items()}
    (directory / "revoked").write_text(public["revoked_key"])
    (directory / "authorized_keys").write_text(f'{public["listed"]}from="10.0.0.1" {public["elsewhere_key"]}')
    with sshd, ThreadPoolExecutor(CLIENTS) as clients:
        for scene in [clients.submit(scene) for scene in Scenes(sshd, keys).all()]:
            scene.result()
    return sshd.lines()


def test_every_line_that_it_writes_has_a_row(everyday: list[bytes]) -> None:
    rejects: Rejects = []
    events_of(everyday, rejects)
    assert rejects == []
    assert len(everyday) > 150


def test_what_happened_is_told(everyday: list[bytes]) -> None:
    told = {
        (event["outcome"], event["subjects"]["loggedAs"], event["subjects"]["userID"], event["data"]["method"],
         event["data"].get("error"), event["data"].get("reason"))
        for event in events_of(everyday, [])
    }  # fmt: skip
    assert told >= {
        ("succeeded", "root", "good@corp", "publickey", None, None),
        ("succeeded", "bob", "good@corp", "publickey", None, None),
        ("succeeded", "root", "unknown", "publickey", None, None),
        ("succeeded", "bob", "unknown", "password", None, None),
        ("succeeded", "bob", "unknown", "keyboard-interactive/pam", None, None),
        ("succeeded", "late", "good@corp", "keyboard-interactive/pam", None, None),
        ("failed", "bob", "unknown", "password", "authentication failed", None),
        ("failed", "nobody here", "unknown", "password", "invalid user", None),
        ("failed", "nobody here", "unknown", "keyboard-interactive/pam", "invalid user", None),
        ("failed", "", "unknown", "unknown", "invalid user", None),
        ("failed", "root", "unknown", "publickey", "authentication failed", None),
        ("failed", "unknown", "unknown", "publickey", "certificate invalid", "options"),
        ("failed", "root", "unknown", "publickey", "not from a permitted host", None),
        ("failed", "root", "unknown", "publickey", "not from a permitted host", "10.0.0.1"),
        ("failed", "denied", "unknown", "unknown", "user not allowed", "listed in DenyUsers"),
        ("failed", "grouped", "unknown", "unknown", "user not allowed", "a group is listed in DenyGroups"),
        ("failed", "shellless", "unknown", "unknown", "user not allowed", "shell /nonexistent does not exist"),
    }
    reasons = [reason for *_, error, reason in told if error == "certificate invalid"]
    # From 10.1 on the reason begins with the old message.
    for reason in ("expired", "name is not a listed principal", "lacks principal list"):
        assert any(found and found.endswith(reason) for found in reasons), reason


def test_two_factors_are_one_login(everyday: list[bytes]) -> None:
    (login,) = (
        event
        for event in events_of(everyday, [])
        if event["subjects"]["loggedAs"] == "late" and event["outcome"] == "succeeded"
    )
    assert login["data"]["factors"] == "publickey,keyboard-interactive/pam"
    assert (login["data"]["Serial"], login["data"]["CA"][:11]) == ("0", "CA ED25519 ")


# ---------------------------------------------------------------------------------- names and key IDs that lie

NAMES = 700
KEY_IDS = 300

SEED = 4
NOT_ON_THE_COMMAND_LINE = re.compile(rb"[^ -~]|['`\";&<>|(){}\\]|^-|\s-")
"""What ssh takes as a name from its configuration only."""
TAGGED = re.compile(rb"<\d+>.{15} sshd(?:-session|-auth)?\[(\d+)\]: (.*)", re.DOTALL)
CONNECTION = re.compile(rb"Connection from (127\.\S+) port (\d+) on ")
"""The first line of a connection: its peer has said nothing yet."""
HOSTILE_SETTINGS = "UsePAM no\nMaxAuthTries 2\nForceCommand true\n"


def hostile_texts(count: int, spoilt: bytes, bytes_max: int) -> list[bytes]:
    """Texts made of what sshd writes around names, and of any bytes but ``spoilt``; the same in each run."""
    chance = random.Random(SEED)
    pieces = [piece.encode() for piece in PHRASES] + [bytes([byte]) for byte in range(1, 256)]
    weights = [12] * len(PHRASES) + [1] * 255
    texts = {b""}
    while len(texts) < count:
        text = b"".join(chance.choices(pieces, weights, k=chance.randrange(1, 9)))
        if len(texts) % 16 == 0:
            text *= 40  # for sshd to cut
        texts.add(bytes(byte for byte in text if byte not in spoilt)[:bytes_max])
    return sorted(texts)


def address_of(number: int) -> str:
    """A loopback address of its own for each client: who it was, whatever it says."""
    return f"127.9.{number // 250}.{number % 250 + 1}"


def told_of(lines: list[bytes]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Address and port of a peer as the kernel told sshd, and an event of that connection.

    As the journal hands the lines over: they have not gone through rsyslog, whose escapes are not to be undone.
    """
    rejects: Rejects = []
    core = new_core(rejects)
    peers = {}
    for line in lines:
        tagged = TAGGED.match(line)
        assert tagged is not None, line
        pid, message = tagged.groups()
        if connection := CONNECTION.match(message):
            peers[pid] = tuple(text.decode() for text in connection.groups())
        core.feed_sshd(b"%d %s 1 %s\n" % (NOW_US, pid, message), "journal", NOW_US)
        for event in core.take().splitlines():
            yield *peers[pid], json.loads(event)
    assert rejects == []


def as_sshd_takes_it(sshd: LiveSshd, name: bytes) -> bytes:
    """The account of a name: a colon begins a style and, in Debian's sshd, a slash a role; a log line has 100 bytes."""
    marks = b":/" if any(b"user probe from" in line for line in sshd.lines()) else b":"
    return re.split(b"[%s]" % marks, name, maxsplit=1)[0][:100]


def say_name(sshd: LiveSshd, number: int, name: bytes) -> None:
    """Try to log in as somebody, by name on the command line where ssh takes it there."""
    options: list[str | bytes] = ["-b", address_of(number), "-o", "PreferredAuthentications=publickey"]
    if NOT_ON_THE_COMMAND_LINE.search(name):
        path = sshd.directory / f"client-{number}"
        quoted = name.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        path.write_bytes(b'User "%s"\n%s' % (quoted, (sshd.directory / "client").read_bytes()))
        options += ["-F", str(path)]
    else:
        options += [b"-l", name]
    done = sshd.ssh(*options, "-i", str(sshd.directory / "nobodys"), "127.0.0.1", "true")
    assert done.returncode == 255, done
    assert b"Permission denied" in done.stderr, done


def test_f23_no_name_changes_who_or_from_where(tmp_path: Path) -> None:
    with LiveSshd(tmp_path, HOSTILE_SETTINGS) as sshd, ThreadPoolExecutor(CLIENTS) as clients:
        make_key(tmp_path / "nobodys")
        say_name(sshd, 0, b"probe/x")
        names = hostile_texts(NAMES, b"\n%$", 120)
        list(clients.map(lambda one: say_name(sshd, *one), enumerate(names, 1)))
    told: dict[str, set[str]] = {}
    for address, port, event in told_of(sshd.lines()):
        assert event["outcome"] == "failed"
        assert event["source"] == {"type": "IP", "value": address, "extra": {"port": port}}
        assert event["subjects"]["userID"] == "unknown"
        assert "extra" not in event["metadata"]
        told.setdefault(address, set()).add(event["subjects"]["loggedAs"])
    accounts = {address_of(number): lossless(as_sshd_takes_it(sshd, name)) for number, name in enumerate(names, 1)}
    assert told.pop(address_of(0))
    assert told == {address: {account} for address, account in accounts.items()}


def log_in(sshd: LiveSshd, number: int, key_id: bytes) -> None:
    """Log in with a certificate of this key ID, and this number as its serial."""
    public = sshd.directory / f"{number}.pub"
    public.write_bytes((sshd.directory / "key.pub").read_bytes())
    sshd.sign(public, key_id, number, "-n", "root")
    done = sshd.ssh(
        "-b", address_of(number), "-i", str(sshd.directory / "key"),
        "-o", f"CertificateFile={sshd.directory / f'{number}-cert.pub'}",
        "-l", "root", "127.0.0.1", "true",
    )  # fmt: skip
    assert done.returncode == 0, done


def test_f23_no_key_id_changes_who_or_from_where(tmp_path: Path) -> None:
    # Not root's own shell: what it reads at its start would take longer than the login.
    accounts = {"passwd": re.sub(r"(?m)^(root:.*:).*", r"\1/bin/sh", Path("/etc/passwd").read_text())}
    with LiveSshd(tmp_path, HOSTILE_SETTINGS, accounts=accounts) as sshd, ThreadPoolExecutor(CLIENTS) as clients:
        make_key(tmp_path / "key")
        ids = hostile_texts(KEY_IDS, b"", 400)
        list(clients.map(lambda one: log_in(sshd, *one), enumerate(ids)))
    logins: dict[str, dict[str, Any]] = {}
    for address, port, event in told_of(sshd.lines()):
        assert event["source"] == {"type": "IP", "value": address, "extra": {"port": port}}
        assert event["subjects"]["loggedAs"] == "root"
        if event["outcome"] == "succeeded":
            assert address not in logins
            logins[address] = event
        else:
            assert event["subjects"]["userID"] == "unknown"
    cut = 0
    for number, key_id in enumerate(ids):
        login = logins.pop(address_of(number))
        if "extra" in login["metadata"]:
            assert login["metadata"]["extra"] == {"truncated": True}
            assert "Serial" not in login["data"]
            cut += 1
        else:
            assert login["subjects"]["userID"] == (lossless(key_id) or "unknown")
            assert login["data"]["Serial"] == str(number)
            assert login["data"]["CA"] == f"CA ED25519 {fingerprint(sshd.ca_path)}"
            assert f"SHA256:{login['data']['SSHKeySum']}" == fingerprint(tmp_path / "key")
    assert not logins
    assert 0 < cut < KEY_IDS / 4


def test_lines_that_a_key_id_makes_in_a_file_are_marked(tmp_path: Path) -> None:
    """``sshd -E`` does not escape line ends: what follows one in a key ID is a line of its own."""
    forged = (
        "Accepted publickey for root from 6.6.6.6 port 22 ssh2: RSA-CERT SHA256:x ID eve (serial 1) CA RSA SHA256:y"
    )
    prefixes = ("", "auth.c:auth_log():301 (pid=4000): ", "Jul  9 15:00:29 host sshd[4000]: ")
    with LiveSshd(tmp_path, HOSTILE_SETTINGS, stderr=True) as sshd:
        make_key(tmp_path / "key")
        for number, prefix in enumerate(prefixes):
            log_in(sshd, number, f"x\r\n{prefix}{forged}\r\n".encode())
    core = new_core([])
    core.feed_sshd(b"".join(sshd.lines()), "syslog", NOW_US)
    events = [json.loads(line) for line in core.take().splitlines()]
    assert sum(event["subjects"]["userID"] == "eve" for event in events) >= len(prefixes)
    for event in events:
        assert event["metadata"]["extra"]["unescaped"]
        assert event["loggedAt"] == events[0]["loggedAt"]
        assert "pid" not in event["subjects"]


def fingerprint(key: Path) -> str:
    listed = subprocess.run(["ssh-keygen", "-l", "-f", key.with_suffix(".pub")], capture_output=True, check=True)
    return listed.stdout.split()[1].decode()
