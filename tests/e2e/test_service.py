"""The unit of deploy/systemd under a real systemd, installed by the commands of docs/operation.md.

systemd is process 1 of a guest (guest.py), with a real journald and a real sshd; the audit log is a file that
nobody but root may read, since the kernel audits the machine and not the guest.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..test_daemon import command, opened
from .guest import REPOSITORY, TREE, Guest, why_not
from .host import free_port
from .undo import run, wait_until

REASON = (
    "starts a systemd in namespaces of its own: set AUDITO_E2E=1 to allow it"
    if os.environ.get("AUDITO_E2E") != "1"
    else why_not()
)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(180),
]

AUDIT_LOG = "/var/log/audit/audit.log"
EVENTS = "/var/log/audito/events.jsonl"
SETTINGS = "/etc/audito/audito.toml"

# Only what sshd needs to let root in by a key: it is the guest's, on loopback.
SSHD_CONFIGURATION = """\
Port PORT
ListenAddress 127.0.0.1
HostKey /etc/ssh/audito-e2e
AuthorizedKeysFile /etc/ssh/audito-e2e.pub
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
"""


def documented() -> list[str]:
    """The commands of docs/operation.md that install the service."""
    text = (REPOSITORY / "docs/operation.md").read_text()
    section = text.partition("## Under systemd")[2]
    block = section.partition("```sh\n")[2].partition("```")[0]
    return block.strip().splitlines()


class Service:
    """audito as a service of the guest."""

    def __init__(self, guest: Guest, directory: Path) -> None:
        self.guest = guest
        self._key = directory / "key"
        self.port = free_port("127.0.0.1")
        self._sequence = 0

    def install(self) -> None:
        """Run the documented commands, but for pip: the tree and its packages are there already."""
        venv, *commands = documented()
        assert venv == "python3 -m venv /opt/audito && /opt/audito/bin/pip install ."
        self.guest.install_audito()
        self.guest.write(AUDIT_LOG, "", "600")
        self.guest.run("chmod", "700", "/var/log/audit")
        # A watchdog that barks within the patience of a test, and the library of an interpreter from a home.
        drop_in = "[Service]\nWatchdogSec=3\nEnvironment=LD_LIBRARY_PATH=/opt/python/lib\n"
        self.guest.write("/etc/systemd/system/audito.service.d/90-e2e.conf", drop_in)
        for line in commands:
            code, text = self.guest.try_run("sh", "-ec", f"cd {TREE}; {line}")
            assert code == 0, f"{line}: {text}{self.log()}"

    def start_sshd(self) -> None:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key))
        self.guest.write("/etc/ssh/audito-e2e", self._key.read_text(), "600")
        self.guest.write("/etc/ssh/audito-e2e.pub", Path(f"{self._key}.pub").read_text())
        self.guest.write("/etc/ssh/audito-e2e.conf", SSHD_CONFIGURATION.replace("PORT", str(self.port)))
        self.guest.run("mkdir", "-p", "/run/sshd")
        self.guest.run("/usr/sbin/sshd", "-f", "/etc/ssh/audito-e2e.conf")

    def log_in(self, session: int) -> int:
        """A real login, and the records that the kernel would write of it; returns the pid that sshd logged."""
        before = self.logins()
        destination = ("-i", str(self._key), "-p", str(self.port), "root@127.0.0.1", "true")
        options = ("-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
        subprocess.run(["ssh", *options, *destination], check=True, stderr=subprocess.DEVNULL, timeout=30)
        wait_until("sshd's line in the journal", lambda: len(self.logins()) > len(before))
        (line,) = self.logins()[len(before) :]
        pid, time_s = int(line["_PID"]), int(line["__REALTIME_TIMESTAMP"]) // 1_000_000
        self._sequence += 2
        self.guest.append(AUDIT_LOG, opened(session, pid, self._sequence, time_s + 1))
        return pid

    def act(self, session: int) -> int:
        """A command of that session; returns its sequence, which is its argument too."""
        self._sequence += 1
        self.guest.append(AUDIT_LOG, command(session, self._sequence))
        return self._sequence

    def logins(self) -> list[dict[str, Any]]:
        """sshd's lines about logins in the guest's journal."""
        lines = self.guest.run("journalctl", "-o", "json", "-t", "sshd", "-t", "sshd-session").splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if "Accepted publickey" in entry["MESSAGE"]]

    def events(self) -> list[dict[str, Any]]:
        code, text = self.guest.try_run("cat", EVENTS)
        return [json.loads(line) for line in text.splitlines()] if code == 0 else []

    def sequences(self) -> list[int]:
        actions = [event["metadata"]["extra"] for event in self.events() if event["type"] == "UserAction"]
        return [extra["sequence"] for extra in actions if extra["action"] == "executed"]

    def wait_for(self, sequence: int) -> None:
        wait_until(f"event {sequence}: {self.log()}", lambda: sequence in self.sequences())

    def show(self, name: str) -> str:
        return self.guest.show("audito", name)

    def pid(self) -> int:
        return int(self.show("MainPID"))

    def status(self) -> dict[str, str]:
        """Fields of /proc/PID/status."""
        text = self.guest.run("cat", f"/proc/{self.pid()}/status")
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def log(self) -> str:
        return self.guest.run("journalctl", "--no-pager", "-u", "audito")

    def configure(self, more: str = "") -> None:
        """The documented settings, and these."""
        text = (REPOSITORY / "deploy/systemd/audito.toml").read_text()
        self.guest.write(SETTINGS, text + more)


@pytest.fixture(scope="module", name="service")
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("guest")
    with Guest(directory) as guest:
        service = Service(guest, directory)
        service.start_sshd()
        service.install()
        yield service


def test_it_is_active_and_says_so(service: Service) -> None:
    assert service.show("ActiveState") == "active", service.log()
    assert re.search(r"^\d+ sessions; \d+ records", service.show("StatusText"))
    assert service.show("NRestarts") == "0"


def test_it_has_one_power_and_no_more(service: Service) -> None:
    status = service.status()
    assert status["Uid"].split()[0] == service.guest.run("id", "-u", "audito").strip() != "0"
    for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 1 << 2, "CAP_DAC_READ_SEARCH"
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    inside = ("nsenter", f"--target={service.pid()}", "--mount", "--", "touch")
    for path in ("/etc/x", "/opt/audito/x", "/var/log/audit/x", "/usr/x"):
        code, text = service.guest.try_run(*inside, path)
        assert code != 0 and "Read-only file system" in text, path


def test_a_login_from_the_journal_and_a_log_of_root_s_alone(service: Service) -> None:
    pid = service.log_in(7)
    service.wait_for(service.act(7))
    login = next(event for event in service.events() if event["type"] == "UserLogin")
    action = next(event for event in service.events() if event["type"] == "UserAction")
    assert login["subjects"] == action["subjects"]
    assert login["subjects"]["loggedAs"] == "root" and login["subjects"]["pid"] == str(pid)
    assert service.guest.run("stat", "-c", "%U %a", EVENTS).strip() == "audito 640"
    # A rotation as auditd does it: the new log is root's alone too.
    service.guest.run("mv", AUDIT_LOG, f"{AUDIT_LOG}.1")
    service.guest.write(AUDIT_LOG, "", "600")
    service.wait_for(service.act(7))


def test_reload_takes_up_what_the_file_says(service: Service) -> None:
    pid = service.pid()
    service.configure("event-types = ['UserLogin']\n")
    service.guest.run("systemctl", "reload", "audito")
    wait_until(f"the reload: {service.log()}", lambda: service.show("ActiveState") == "active")
    service.log_in(8)
    hidden = service.act(8)
    service.configure("nonsense = 1\n")
    service.guest.run("systemctl", "reload", "audito")
    wait_until("the refusal", lambda: "configuration refused: " in service.show("StatusText"))
    assert "unknown key nonsense" in service.log()
    assert service.show("ActiveState") == "active"
    service.configure()
    service.guest.run("systemctl", "reload", "audito")
    wait_until("the end of the refusal", lambda: "refused" not in service.show("StatusText"))
    service.wait_for(service.act(8))
    assert hidden not in service.sequences()
    assert service.pid() == pid


def test_http_is_for_this_host(service: Service) -> None:
    port = free_port("127.0.0.1")
    service.configure(f"healthz = true\nhttp-address = '127.0.0.1:{port}'\n")
    service.guest.run("systemctl", "reload", "audito")

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(json.load(answer)["overall"] == "ok")
        except OSError:
            return False

    wait_until(f"/readyz: {service.log()}", ready)
    service.configure()
    service.guest.run("systemctl", "reload", "audito")


def test_a_loop_that_is_stuck_is_killed_and_nothing_is_lost(service: Service) -> None:
    before, pid = service.sequences(), service.pid()
    service.guest.run("kill", "-STOP", str(pid))
    during = service.act(7)
    wait_until("the watchdog", lambda: service.show("NRestarts") == "1")
    service.wait_for(during)
    service.wait_for(after := service.act(8))
    # What came after the last checkpoint may be written twice: it was killed.
    assert list(dict.fromkeys(service.sequences())) == [*before, during, after], service.log()
    assert "Watchdog timeout" in service.log()
    assert service.pid() != pid


def test_it_waits_for_what_is_missing_and_ends_in_time(service: Service) -> None:
    service.guest.run("systemctl", "stop", "audito")
    assert service.show("Result") == "success"
    assert service.show("ExecMainStatus") == "0"
    service.guest.run("mv", "/var/log/audit", "/var/log/audit.away")
    service.guest.run("systemctl", "start", "--no-block", "audito")
    wait_until("its word", lambda: "/var/log/audit: " in service.show("StatusText"))
    assert service.show("ActiveState") == "activating"
    service.guest.run("mv", "/var/log/audit.away", "/var/log/audit")
    wait_until(f"the start: {service.log()}", lambda: service.show("ActiveState") == "active")
    service.wait_for(service.act(8))


def test_settings_that_cannot_be_meant_are_not_tried_again(service: Service) -> None:
    service.configure("nonsense = 1\n")
    assert service.guest.try_run("systemctl", "restart", "audito")[0] != 0
    assert service.show("ExecMainStatus") == "2"
    assert service.show("ActiveState") == "failed"
    service.configure()
    service.guest.run("systemctl", "start", "audito")
    assert service.show("ActiveState") == "active"
