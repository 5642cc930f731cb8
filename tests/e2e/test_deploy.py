"""What is in deploy/ on a real host: audit rules in its kernel, its logs fetched over its sshd, the image beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import container
from tests.deploy.container import InContainer
from tests.deploy.programs import DEPLOY, run
from tests.deploy.running import until

from . import evidence
from .host import CHANGES, Host, audit_status
from .scenario import Truth, alice_on_the_shared_account
from .test_live import REASON, is_command, is_complete, source_of, where_from
from .undo import run as run_as_root
from .undo import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(900),
]

RULES = sorted((DEPLOY / "audit").glob("*.rules"))


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host with all its real parts; says first what it changes."""
    terminal = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with terminal.global_and_fixture_disabled():
            print(text)

    say(f"\n{CHANGES}")
    with Host(say=say) as host:
        yield host


def rules_in_kernel() -> list[str]:
    """The rules that the kernel has now, as auditctl tells them."""
    return [line for line in run_as_root("auditctl", "-l").splitlines() if line.startswith("-")]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_kernel_takes_the_audit_rules(host: Host, path: Path, tmp_path: Path) -> None:
    assert audit_status()["failure"] == 0, "a lost record must not stop this machine"
    before = rules_in_kernel()
    copy = tmp_path / path.name  # auditctl reads only what belongs to root
    shutil.copy(path, copy)
    wanted = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("-a")]
    try:
        said = run_as_root("auditctl", "-R", str(copy))
        assert "rror" not in said
        added = [rule for rule in rules_in_kernel() if rule not in before]
        assert len(added) == len(wanted), said
        assert {key_of(rule) for rule in added} == {key_of(rule) for rule in wanted}
    finally:
        # One by one, and not by key: the host may have rules with the same.
        for rule in rules_in_kernel():
            if rule not in before:
                run_as_root("auditctl", "-d", *rule.split()[1:])
    assert rules_in_kernel() == before


def key_of(rule: str) -> str:
    """The key of a rule, in the file's words or the kernel's."""
    match = re.search(r"key=(\S+)", rule)
    assert match is not None, rule
    return match[1]


@pytest.fixture(scope="module")
def truth(host: Host) -> Truth:
    """One login with a certificate that happened before anything looked."""
    truth = Truth()
    alice_on_the_shared_account(host, truth)
    logs = sorted(host.audit_directory.glob("audit.log*"))
    wait_until("its records", lambda: not evidence.missing(truth, evidence.read(logs, host.syslog_path)))
    return truth


def test_instance_test_over_the_hosts_own_sshd(host: Host, truth: Truth, tmp_path: Path) -> None:
    """As its users run it: an account that is not root, a certificate, sudo without a password."""
    root = tmp_path / "root"
    for here, there in (
        (host.audit_directory, "var/log/audit"),
        (host.journal_directory, "run/log/journal"),
        (Path("/etc/machine-id"), "etc/machine-id"),
        (Path("/etc/os-release"), "etc/os-release"),
    ):
        (root / there).parent.mkdir(parents=True, exist_ok=True)
        (root / there).symlink_to(here)
    key = host.key_path("alice@example.com")
    ssh = (
        f"ssh -F none -p {host.port} -i {key} -o CertificateFile={key}-cert.pub -o HostKeyAlias=audito-e2e"
        f" -o UserKnownHostsFile={host.known_hosts_path} -o BatchMode=yes"
    )
    environ = {"LIVE_INSTANCE": "127.0.0.1", "INSTANCE_USER": "core", "INSTANCE_SSH": ssh, "INSTANCE_ROOT": str(root)}
    environ |= {"INSTANCE_DIR": str(tmp_path), "AUDITO_PYTHON": sys.executable, "PATH": os.environ["PATH"]}
    done = run("bash", "tools/instance-test", environ=environ)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "127.0.0.1" / "run" / "audit.log").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert is_complete(truth, events)
    (login,) = truth.logins
    actions = [event for event in events if event["type"] == "UserAction" and source_of(event) == where_from(login)]
    for command in (command for command in login.commands if command.succeeded):
        (action,) = [action for action in actions if is_command(action, command)]
        assert action["subjects"]["userID"] == "alice@example.com"


@pytest.mark.skipif(container.why_not() is not None, reason=str(container.why_not()))
def test_the_image_joins_a_real_login_alone_in_its_container(host: Host, tmp_path: Path) -> None:
    """The DaemonSet's container, on this host's journal and audit log, while somebody logs in."""
    from tests.deploy import manifests
    from tests.deploy.test_image import as_buildah_runs_it

    node = tmp_path / "node"
    (node / "log").mkdir(parents=True)
    (node / "state").mkdir()
    for name, here in (
        ("log/audit", host.audit_directory),
        ("journal", host.journal_directory),
        ("machine-id", Path("/etc/machine-id")),
        ("os-release", Path("/etc/os-release").resolve()),
    ):
        (node / name).symlink_to(here)
    words, options = as_buildah_runs_it(manifests.base_daemon_set(), node)
    # A mount of a directory does not follow a link in it, as it does not on a node.
    options["volumes"] |= {str(host.audit_directory): "/var/log/audit:ro"}  # type: ignore[operator]
    (node / "log" / "audit").unlink()
    (node / "log" / "audit").mkdir()
    with (
        container.built(tmp_path) as image,
        container.container_of(image) as box,
        box.daemon(tmp_path, words, **options) as daemon,
    ):
        assert isinstance(daemon, InContainer)
        daemon.wait_ready()
        assert b'"sshd":"ok"' in daemon.get("/readyz")[1]
        truth = Truth()
        alice_on_the_shared_account(host, truth)
        until("all of the login", lambda: is_complete(truth, daemon.events()), timeout_s=30)
        (login,) = truth.logins
        events = [event for event in daemon.events() if source_of(event) == where_from(login)]
        assert daemon.stop() == 0, daemon.log.read_text()
    assert "reading sshd from sshd-journal" in daemon.log.read_text()
    assert {event["subjects"]["userID"] for event in events} == {"alice@example.com"}
    assert {"UserLogin", "UserAction"} <= {event["type"] for event in events}
    machine_id = Path("/etc/machine-id").read_text().strip()
    assert {event["target"]["machine-id"] for event in events} == {machine_id}
