"""`make instance-test`, fetching from a real sshd of our own on the loopback."""

from __future__ import annotations

import gzip
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.programs import find, output_of, run
from tests.deploy.running import EXAMPLES, expected_users, until, users_of
from tests.e2e.host import free_port

MACHINE_ID = "deadbeefdeadbeefdeadbeefdeadbeef"
INSTANCE = "127.0.0.1"

# -E: its lines go to a file and not to the machine's log, where other tests look for logins.
SSHD_CONFIGURATION = """\
ListenAddress 127.0.0.1
PidFile DIRECTORY/sshd.pid
HostKey DIRECTORY/host
AuthorizedKeysFile DIRECTORY/user.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
"""


@dataclass(frozen=True)
class Instance:
    """``ssh``: how to reach it; ``root``: where its files begin; ``kept``: where what was fetched lies."""

    ssh: str
    root: Path
    kept: Path

    def test(self) -> subprocess.CompletedProcess[str]:
        """What `make instance-test` runs."""
        environ = {
            "LIVE_INSTANCE": INSTANCE,
            "INSTANCE_USER": pwd.getpwuid(os.geteuid()).pw_name,
            "INSTANCE_SSH": self.ssh,
            "INSTANCE_ROOT": str(self.root),
            "INSTANCE_DIR": str(self.kept.parent),
            "AUDITO_PYTHON": sys.executable,
        }
        return run("bash", "tools/instance-test", environ={**os.environ, **environ})

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.kept / "run" / "audit.log").read_text().splitlines()]


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An sshd of our own, and the words that log in to it."""
    if os.geteuid() != 0 and not Path("/run/sshd").exists():
        pytest.skip("sshd wants /run/sshd, which only root can make")
    directory = tmp_path_factory.mktemp("sshd")
    sshd, keygen = find("sshd"), find("ssh-keygen")
    for name in ("host", "user"):
        output_of(keygen, "-q", "-t", "ed25519", "-N", "", "-f", directory / name)
    port = free_port("127.0.0.1")
    configuration = directory / "sshd_config"
    configuration.write_text(f"Port {port}\n" + SSHD_CONFIGURATION.replace("DIRECTORY", str(directory)))
    made = not Path("/run/sshd").exists()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    process = subprocess.Popen([sshd, "-D", "-f", configuration, "-E", directory / "log"], stdin=subprocess.DEVNULL)
    try:
        until("sshd", (directory / "sshd.pid").exists)
        yield (
            f"ssh -F none -p {port} -i {directory}/user -o BatchMode=yes -o StrictHostKeyChecking=no"
            f" -o UserKnownHostsFile={directory}/known -o LogLevel=ERROR"
        )
    finally:
        process.terminate()
        process.wait(10)
        if made:
            Path("/run/sshd").rmdir()


@pytest.fixture
def instance(ssh: str, tmp_path: Path) -> Instance:
    """A host with auditd's log in two files, the older one rotated, and machine id and os-release."""
    root = tmp_path / "root of it"
    (root / "var" / "log" / "audit").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "usr" / "lib").mkdir(parents=True)
    records = (EXAMPLES / "audit.log").read_bytes().splitlines(keepends=True)
    (root / "var" / "log" / "audit" / "audit.log.1").write_bytes(b"".join(records[:400]))
    (root / "var" / "log" / "audit" / "audit.log").write_bytes(b"".join(records[400:]))
    (root / "etc" / "machine-id").write_text(MACHINE_ID + "\n")
    (root / "usr" / "lib" / "os-release").write_text("ID=debian\n")
    (root / "etc" / "os-release").symlink_to("../usr/lib/os-release")
    return Instance(ssh, root, tmp_path / "kept" / INSTANCE)


def test_a_host_with_a_syslog_file(instance: Instance) -> None:
    lines = (EXAMPLES / "sshd.log").read_bytes().splitlines(keepends=True)
    with gzip.open(instance.root / "var" / "log" / "auth.log.1.gz", "wb") as older:
        older.write(b"".join(lines[:20]))
    os.utime(instance.root / "var" / "log" / "auth.log.1.gz", (1, 1))
    (instance.root / "var" / "log" / "auth.log").write_bytes(b"".join(lines[20:]))
    done = instance.test()
    assert done.returncode == 0, done.stderr
    events = instance.events()
    assert users_of(events, "UserAction") == expected_users()
    assert {tuple(event["target"].values()) for event in events} == {(INSTANCE, MACHINE_ID)}  # type: ignore[attr-defined]
    assert f"{len(events)} events are in" in done.stderr
    assert (instance.kept / "etc" / "os-release").read_text() == "ID=debian\n"
    assert not (instance.kept.stat().st_mode & 0o077), "it holds another host's logs"


def test_what_it_writes_is_what_a_replay_of_those_logs_writes(instance: Instance) -> None:
    shutil.copy(EXAMPLES / "sshd.log", instance.root / "var" / "log" / "secure")
    assert instance.test().returncode == 0
    boot = (instance.kept / "boot_id").read_text().strip()
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    expected = output_of(
        *(sys.executable, "-m", "audito", "replay", "--audit", EXAMPLES / "audit.log"),
        *("--sshd", EXAMPLES / "sshd.log", "--host", INSTANCE, "--machine-id", MACHINE_ID, "--boot-id", boot),
    )
    written = (instance.kept / "run" / "audit.log").read_text()
    # A logout that waits for its reason waits by the wall clock in one, to the end of the input in the other.
    assert sorted(written.splitlines()) == sorted(expected.splitlines())


def test_what_was_fetched_is_not_fetched_again(instance: Instance) -> None:
    shutil.copy(EXAMPLES / "sshd.log", instance.root / "var" / "log" / "auth.log")
    assert instance.test().returncode == 0
    shutil.rmtree(instance.root)
    done = instance.test()
    assert done.returncode == 0, done.stderr
    assert "fetched before" in done.stderr


def test_a_host_with_a_journal(instance: Instance) -> None:
    """The journal files are made of the captured entries by systemd's own journal-remote."""
    remote = Path("/lib/systemd/systemd-journal-remote")
    if not remote.exists():
        pytest.skip("systemd-journal-remote is not here: tools/bootstrap.sh tests")
    journal = instance.root / "var" / "log" / "journal" / MACHINE_ID
    journal.mkdir(parents=True)
    export = "".join(
        "".join(f"{name}={value}\n" for name, value in json.loads(line).items()) + "\n"
        for line in (EXAMPLES / "sshd.journal.json").read_text(encoding="utf-8").splitlines()
    )
    done = run(remote, f"--output={journal}/system.journal", "-", stdin=export)
    assert done.returncode == 0, done.stderr
    done = instance.test()
    assert done.returncode == 0, done.stderr
    assert users_of(instance.events(), "UserAction") == expected_users()


def test_a_host_without_auditd(instance: Instance) -> None:
    shutil.rmtree(instance.root / "var" / "log" / "audit")
    done = instance.test()
    assert done.returncode == 1
    assert "no audit.log" in done.stderr
    assert not (instance.kept / "fetched").exists()


def test_a_host_without_sshd_lines(instance: Instance) -> None:
    done = instance.test()
    assert done.returncode == 1
    assert "neither a journal nor a syslog file" in done.stderr


@pytest.mark.parametrize("name", ["", "-oProxyCommand=false", "../elsewhere", "a b"])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    environ = {"LIVE_INSTANCE": name, "INSTANCE_DIR": str(tmp_path), "INSTANCE_SSH": "false"}
    done = run("bash", "tools/instance-test", environ=environ)
    assert done.returncode == 1
    assert not list(tmp_path.iterdir())


def test_an_instance_that_cannot_be_reached(tmp_path: Path) -> None:
    environ = {"LIVE_INSTANCE": "nowhere.invalid", "INSTANCE_DIR": str(tmp_path), "INSTANCE_SSH": "false"}
    done = run("bash", "tools/instance-test", environ=environ)
    assert done.returncode != 0
    assert not (tmp_path / "nowhere.invalid" / "fetched").exists()
