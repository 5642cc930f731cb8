"""The Dockerfile as hadolint sees it, what `make image` runs, and HEALTHCHECK's program against a real daemon."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import sysconfig
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import pytest

from tests.deploy.programs import DEPLOY, ROOT, find, output_of, run
from tests.deploy.running import Started, started, until

DOCKERFILE = ROOT / "Dockerfile"
SCRIPT = Path(sysconfig.get_path("scripts")) / "audito"


def test_hadolint_is_content() -> None:
    output_of(find("hadolint"), "--failure-threshold", "style", DOCKERFILE)


def test_hadolint_would_say_so(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM debian\nRUN apt-get install gcc\n")
    assert run(find("hadolint"), wrong).returncode != 0


def test_the_context_holds_what_the_dockerfile_copies(tmp_path: Path) -> None:
    text = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert text[0] == "*", "only what is named goes in: logs and keys of a work tree do not"
    kept = {line.removeprefix("!") for line in text if line.startswith("!")}
    assert {"audito", "pyproject.toml", "setup.py", "deploy/image"} <= kept
    for copied in re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE):
        assert copied == "." or any(copied.startswith(name) for name in kept)


@pytest.mark.parametrize(
    ("engines", "called"),
    [
        (("docker", "podman", "buildah"), "docker build --tag audito:latest ."),
        (("podman", "buildah"), "podman build --format docker --tag audito:latest ."),
        (("buildah",), "buildah build --format docker --tag audito:latest ."),
    ],
)
def test_make_image_takes_the_engine_that_works(engines: tuple[str, ...], called: str, tmp_path: Path) -> None:
    for name in ("docker", "podman", "buildah"):
        engine = tmp_path / name
        works = f'[ "$1" = info ] || echo "{name} $*"' if name in engines else "exit 1"
        engine.write_text(f"#!/bin/sh\n{works}\n")
        engine.chmod(0o755)
    done = run("tools/image", environ={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (done.returncode, done.stdout.strip()) == (0, called), done.stderr


def test_make_image_says_what_it_lacks(tmp_path: Path) -> None:
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = run(ROOT / "tools" / "image", environ={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "takes docker, podman or buildah" in done.stderr


@pytest.fixture
def healthcheck(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, looking for the script of this tree instead of the image's."""
    if os.environ.get("AUDITO_SANITIZE") == "1":
        pytest.skip("the script starts Python without the sanitizers' runtime")
    path = DEPLOY / "image" / "healthcheck.py"
    spec = importlib.util.spec_from_file_location("healthcheck", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PROGRAM", str(SCRIPT))
    monkeypatch.setattr(module, "TIMEOUT_S", 1)
    return module


def start(directory: Path, *flags: str) -> AbstractContextManager[Started]:
    """The daemon by its script, on two pipes."""
    for name in ("audit", "sshd"):
        os.mkfifo(directory / name)
    args = [
        *("--auditd-pipe-path", str(directory / "audit"), "--sshd-pipe-path", str(directory / "sshd")),
        *("--output", "-", "--state-dir", str(directory / "state"), *flags),
    ]
    return started(directory, args, {}, command=(str(SCRIPT),))


def test_health_of_a_daemon(
    healthcheck: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(tmp_path, "--healthz") as daemon:
        daemon.wait_ready()
        # In the container this stands in the environment of both.
        monkeypatch.setenv("AUDITO_HTTP_ADDRESS", f"127.0.0.1:{daemon.port}")
        assert healthcheck.main() == 0
        assert capsys.readouterr().out == "ok\n"
        daemon.process.send_signal(signal.SIGSTOP)
        assert healthcheck.main() == 1, "a daemon that hangs"
        assert "timed out" in capsys.readouterr().out
        daemon.process.send_signal(signal.SIGCONT)
        assert daemon.stop() == 0
    assert healthcheck.main() == 1
    assert capsys.readouterr().out == "no audito runs here\n"


def test_a_daemon_that_serves_no_health_is_not_called_ill(
    healthcheck: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(tmp_path, "--healthz=false", "--metrics") as daemon:
        until("metrics", lambda: daemon.get("/metrics")[0] == 200)
        assert healthcheck.main() == 0
        assert capsys.readouterr().out == "it serves no health\n"


def test_where_it_asks(healthcheck: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITO_HEALTHZ", "true")
    url = healthcheck.url_of
    assert url([]) == "http://127.0.0.1:2112/livez"
    assert url(["run", "--metrics"]) == "http://127.0.0.1:2112/livez"
    assert url(["namedpipe", "-healthz"]) == "http://127.0.0.1:2112/livez"
    assert url(["--http-address", "0.0.0.0:9"]) == "http://127.0.0.1:9/livez"
    assert url(["--http-address=[::1]:9"]) == "http://[::1]:9/livez"
    assert url(["--healthz=false"]) is None
    assert url(["replay", "--audit", "x"]) is None
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert url(["--healthz"]) == "http://127.0.0.1:2112/livez"
