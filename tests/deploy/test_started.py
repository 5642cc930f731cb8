"""The real daemon, started with the words of our manifests and of those of the Go daemon's chart."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.running import EXAMPLES, expected_users, get, started, until, users_of

NODE = "node-7"

# What the Go daemon's chart gives its container, less the image: args with the older names of flags, NODE_NAME, three
# pipes in an emptyDir that init containers made, a sidecar that reads the last of them, port 2112, /readyz.
APP = "/app-audit"
OLDER = (
    *("--healthz", "--metrics"),
    *("--sshd-log-file-path", f"{APP}/sshd-pipe"),
    *("--auditd-log-file-path", f"{APP}/audit-pipe"),
    *("--app-events-output", f"{APP}/app-events-output.log"),
)
NEWER = (
    *("-healthz", "-metrics", "-audit-metrics", "-log-level", "info"),
    *("-http-server-read-timeout", "1s", "-http-server-read-header-timeout", "5s"),
    *("-audit-seconds-interval", "15s", "-audit-log-last-modify-seconds-threshold", "86400"),
    *("-sshd-pipe-path", f"{APP}/sshd-pipe", "-auditd-pipe-path", f"{APP}/audit-pipe"),
    *("-app-events-output", f"{APP}/app-events-output.log"),
)
WORD = ("namedpipe", *OLDER)
PIPES = ("sshd-pipe", "audit-pipe", "app-events-output.log")
GO_SERIES = ("audito_maldito_remote_logins_total", "audito_maldito_errors_total")


@pytest.mark.parametrize("args", [OLDER, NEWER, WORD], ids=["older names", "one dash", "the word namedpipe"])
def test_the_go_daemons_manifest_starts_us(args: tuple[str, ...], tmp_path: Path) -> None:
    app = tmp_path / "app-audit"
    app.mkdir()
    for name in PIPES:
        os.mkfifo(app / name)
    tailed = tmp_path / "tailed"
    words = [word.replace(APP, str(app)) for word in args]
    environ = {
        "NODE_NAME": NODE,
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "AUDITO_PORT_80_TCP": "tcp://10.96.0.9:80",
        "AUDITO_STATE_DIR": str(tmp_path / "state"),
    }
    with tailed.open("wb") as file:
        sidecar = subprocess.Popen(["cat", str(app / PIPES[2])], stdout=file)
    try:
        with started(tmp_path, words, environ, lines=tailed) as daemon:
            daemon.wait_ready()
            for source, pipe in (("sshd.pipe", "sshd-pipe"), ("audit.log", "audit-pipe")):
                with (EXAMPLES / source).open("rb") as file, (app / pipe).open("wb") as into:
                    shutil.copyfileobj(file, into)
            until("events of all logins", lambda: expected_users() <= users_of(daemon.events(), "UserLogout"))
            assert expected_users() <= users_of(daemon.events(), "UserAction")
            assert {event["target"]["host"] for event in daemon.events()} == {NODE}
            status, metrics = daemon.get("/metrics")
            assert status == 200
            assert all(series.encode() in metrics for series in GO_SERIES)
            assert daemon.stop() == 0, daemon.log.read_text()
    finally:
        sidecar.kill()
        sidecar.wait()


def test_our_manifest_starts_it_and_its_probes_pass(tmp_path: Path) -> None:
    from tests.deploy.manifests import container_of, environment_of, helm_template, of_kind

    logs = tmp_path / "log"
    (logs / "audit").mkdir(parents=True)
    shutil.copy(EXAMPLES / "audit.log", logs / "audit")
    shutil.copy(EXAMPLES / "sshd.log", logs / "auth.log")
    (tmp_path / "machine-id").write_text("deadbeefdeadbeefdeadbeefdeadbeef\n")
    (tmp_path / "state").mkdir(mode=0o700)
    # The container sees these at /var/log, /etc and /var/run; that is all that is put elsewhere here.
    places = {
        "audit-dir-path": logs / "audit",
        "sshd-log-path": logs / "auth.log",
        "machine-id-path": tmp_path / "machine-id",
        "state-dir": tmp_path / "state",
    }
    flags = ",".join(f"config.{name}={path}" for name, path in places.items())
    container = container_of(of_kind(helm_template("--set", flags), "DaemonSet"))
    with started(tmp_path, container["args"], environment_of(container, NODE)) as daemon:
        until("the readiness probe", lambda: get(daemon.port, container["readinessProbe"]["httpGet"]["path"])[0] == 200)
        until("events of all logins", lambda: expected_users() <= users_of(daemon.events(), "UserLogout"))
        assert get(daemon.port, container["livenessProbe"]["httpGet"]["path"]) == (200, b"ok\n")
        assert get(daemon.port, "/metrics")[0] == 200
        assert {tuple(event["target"].values()) for event in daemon.events()} == {(NODE, "deadbeef" * 4)}
        if os.environ.get("AUDITO_SANITIZE") != "1":
            assert resident_kib(daemon.process.pid) < 64 << 10, "more than the chart's request"
        assert daemon.stop() == 0, daemon.log.read_text()


def resident_kib(pid: int) -> int:
    """What of a process is in memory."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])
