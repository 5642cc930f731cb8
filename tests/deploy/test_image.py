"""The image itself: small, without a compiler, and doing the main job. Only where it is asked for: AUDITO_IMAGE=1."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import audito
from tests.deploy import container
from tests.deploy.container import PROGRAM, Container, InContainer
from tests.deploy.programs import ROOT, output_of
from tests.deploy.running import EXAMPLES, expected_users, until, users_of
from tests.deploy.test_started import APP, GO_SERIES, NODE, OLDER, PIPES, resident_kib

REASON = container.why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(900),
]

BYTES_MAX = 180_000_000
NUMBER = 65532
HEALTHCHECK = ("/opt/audito/bin/python", "/opt/audito/healthcheck.py")
NOT_IN_IT = ("gcc", "cc", "g++", "as", "ld", "make", "pkg-config", "pip", "pip3", "git", "curl")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with container.built(tmp_path_factory.mktemp("image")) as name:
        yield name


@pytest.fixture
def box(image: str) -> Iterator[Container]:
    with container.container_of(image) as made:
        yield made


def test_it_is_small(box: Container) -> None:
    size = int(output_of("du", "--summarize", "--block-size=1", box.root).split()[0])
    print(f"image on disk: {size / 1e6:.1f} MB")
    assert size < BYTES_MAX


def test_it_holds_nothing_that_builds(box: Container) -> None:
    for directory in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "opt/audito/bin"):
        here = {path.name for path in (box.root / directory).iterdir()}
        assert not here & set(NOT_IN_IT), directory
    assert not list((box.root / "opt" / "audito").rglob("*.pyx"))
    assert not list((box.root / "usr").rglob("Python.h"))


def test_how_it_is_run(image: str) -> None:
    configuration = container.configuration_of(image)
    assert configuration["User"] == f"{NUMBER}:{NUMBER}", "a pod with runAsNonRoot takes a number"
    assert configuration["Entrypoint"] == [PROGRAM]
    assert configuration["Healthcheck"]["Test"] == ["CMD", *HEALTHCHECK]
    assert "2112/tcp" in configuration["ExposedPorts"]


def test_a_replay_in_it_writes_what_one_here_writes(box: Container) -> None:
    words = (
        "replay",
        "--audit",
        "/examples/audit.log",
        "--sshd",
        "/examples/sshd.log",
        "--host",
        "h",
        "--machine-id",
        "m",
    )
    here = [word.replace("/examples", str(EXAMPLES)) for word in words]
    assert box.run(PROGRAM, "--version").strip() == f"audito {audito.__version__}"
    assert box.run(PROGRAM, *words, volumes={str(EXAMPLES): "/examples:ro"}) == output_of(
        sys.executable, "-m", "audito", *here
    )


def test_the_go_daemons_manifest_with_only_the_image_changed(box: Container, tmp_path: Path) -> None:
    """Not root, an emptyDir with pipes that init containers of the same user made, no directory for the state."""
    app = tmp_path / "app"
    app.mkdir(mode=0o777)
    for name in PIPES:
        os.mkfifo(app / name, 0o600)
        os.chown(app / name, NUMBER, NUMBER)
    files = {f"{path}": f"{path}:ro" for path in ("/etc/os-release", "/etc/machine-id") if Path(path).exists()}
    tailed = tmp_path / "tailed"
    with tailed.open("wb") as file:
        sidecar = subprocess.Popen(["cat", str(app / PIPES[2])], stdout=file)
    try:
        options = {"volumes": {str(app): APP, **files}, "environ": {"NODE_NAME": NODE}, "capabilities": ()}
        with box.daemon(tmp_path, OLDER, lines=tailed, **options) as daemon:
            assert isinstance(daemon, InContainer)
            daemon.wait_ready()
            status = Path(f"/proc/{daemon.pid()}/status").read_text()
            assert f"\nUid:\t{NUMBER}\t{NUMBER}\t{NUMBER}\t{NUMBER}\n" in status
            assert "\nCapEff:\t0000000000000000\n" in status
            assert "state" not in daemon.log.read_text(), "it has a place of its own for it"
            for source, pipe in (("sshd.pipe", "sshd-pipe"), ("audit.log", "audit-pipe")):
                with (EXAMPLES / source).open("rb") as file, (app / pipe).open("wb") as into:
                    shutil.copyfileobj(file, into)
            until("events of all logins", lambda: expected_users() <= users_of(daemon.events(), "UserLogout"))
            assert {event["target"]["host"] for event in daemon.events()} == {NODE}
            metrics = daemon.get("/metrics")[1].decode()
            assert all(series in metrics for series in GO_SERIES)
            assert box.run(*HEALTHCHECK, environ={"AUDITO_HTTP_ADDRESS": f"127.0.0.1:{daemon.port}"}) == "ok\n"
            assert resident_kib(daemon.pid()) < 64 << 10
            assert daemon.stop() == 0, daemon.log.read_text()
    finally:
        sidecar.kill()
        sidecar.wait()


def test_healthcheck_fails_where_nothing_runs(box: Container) -> None:
    done = subprocess.run(box.command(*HEALTHCHECK), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode != 0
    assert "no audito runs here" in done.stdout


def test_our_manifest_reads_what_only_root_may_and_writes_nothing_but_its_state(box: Container, tmp_path: Path) -> None:
    from tests.deploy import manifests

    daemon_set = manifests.base_daemon_set()
    words, options = as_buildah_runs_it(daemon_set, node_directory(tmp_path))
    marker = tmp_path / "marker"
    marker.touch()
    with box.daemon(tmp_path, words, **options) as daemon:
        assert isinstance(daemon, InContainer)
        daemon.wait_ready()
        until("events of all logins", lambda: expected_users() <= users_of(daemon.events(), "UserLogout"))
        status = Path(f"/proc/{daemon.pid()}/status").read_text()
        assert "\nCapEff:\t0000000000000004\n" in status, "CAP_DAC_READ_SEARCH and no other"
        # Its root directory is read-only in a pod; here nothing stops it, so it has to have written nothing there.
        # What is empty are the places that buildah mounts on.
        assert daemon.get("/metrics")[0] == 200
        newer = output_of("find", box.root, "-xdev", "-newer", marker, "-type", "f", "-size", "+0").split()
        written = [path for path in newer if not path.endswith("/run/.containerenv")]
        assert written == []
        assert daemon.stop() == 0, daemon.log.read_text()
    assert (tmp_path / "node" / "state" / "state").exists()


def node_directory(tmp_path: Path) -> Path:
    """What a node has, with logs that are root's alone, as auditd and rsyslogd make them."""
    node = tmp_path / "node"
    (node / "log" / "audit").mkdir(parents=True)
    shutil.copy(EXAMPLES / "audit.log", node / "log" / "audit")
    shutil.copy(EXAMPLES / "sshd.log", node / "log" / "auth.log")
    (node / "machine-id").write_text("deadbeef" * 4 + "\n")
    (node / "os-release").write_text("ID=debian\n")
    for name in ("journal", "state"):
        (node / name).mkdir()
    # Nobody may read these: to do so takes the capability, also for root.
    for path in (node / "log" / "audit" / "audit.log", node / "log" / "auth.log", node / "log" / "audit"):
        path.chmod(0)
    return node


def as_buildah_runs_it(daemon_set: object, node: Path) -> tuple[list[str], dict[str, object]]:
    """A DaemonSet's container in the words of `buildah run`, with the node's paths found below NODE."""
    from tests.deploy import manifests

    assert isinstance(daemon_set, dict)
    spec = manifests.container_of(daemon_set)
    here = {volume["name"]: node / volume["name"] for volume in manifests.pod_spec(daemon_set)["volumes"]}
    volumes = {
        str(here[mount["name"]]): mount["mountPath"] + (":ro" if mount.get("readOnly") else "")
        for mount in spec["volumeMounts"]
    }
    security = spec["securityContext"]
    environ = manifests.environment_of(spec, NODE)
    options = {
        "user": f"{security['runAsUser']}:{security['runAsGroup']}",
        "volumes": volumes,
        "environ": environ,
        "capabilities": security["capabilities"]["add"],
    }
    return spec["args"], options
