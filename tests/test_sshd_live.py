"""What the sshd of this machine really writes: every line has its row, and no peer's text changes who or from where."""

from __future__ import annotations

import json
import os
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
from tests.live_sshd import LiveSshd, make_key, why_not

REASON = why_not()
pytestmark = [pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.timeout(300)]

CLIENTS = 4
"""Clients at once: two cores are busy with four."""

Rejects = list[tuple[bytes, str]]


def events_of(lines: list[bytes], rejects: Rejects) -> list[dict[str, Any]]:
    """What the core makes of lines as they came over the log socket."""
    core = Core(
        CoreSettings(host="blam", machine_id="deadbeef", boot_id="boot"), lambda line, why: rejects.append((line, why))
    )
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
