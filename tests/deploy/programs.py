"""Programs that check manifests, rules and images; a test that lacks one skips and says what brings it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "audito"


def find(name: str) -> str:
    """The program's path: in .tools, beside this Python, on PATH, or where only root looks. Skips where there is none."""
    scripts = sysconfig.get_path("scripts")
    places = [ROOT / ".tools" / "bin", scripts, *os.get_exec_path(), "/usr/sbin", "/sbin"]
    found = shutil.which(name, path=os.pathsep.join(map(str, places)))
    if found is None:
        pytest.skip(f"{name} is not here: make deploy-tools, or the distribution's package")
    return found


def run(
    *command: str | Path, cwd: Path = ROOT, environ: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; no AUDITO_ setting of ours reaches it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDITO_")}
    words = [str(word) for word in command]
    environment = {**inherited, **(environ or {})}
    return subprocess.run(words, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, check=False)


def output_of(*command: str | Path, cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> str:
    """Standard output of a program that has to succeed."""
    done = run(*command, cwd=cwd, environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
