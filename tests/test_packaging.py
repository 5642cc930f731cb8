"""What users install: the sdist, the wheel made from it, and what the README tells them to type."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import audito

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "audito"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD_FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")
COMPILED = {path.stem for path in PACKAGE.glob("*.pyx")}


def sources(*endings: str) -> set[str]:
    """Paths of the package's files with these endings, as archives name them."""
    return {path.relative_to(ROOT).as_posix() for ending in endings for path in PACKAGE.rglob(f"*{ending}")}


def run(*command: str, cwd: Path, environ: Mapping[str, str] | None = None) -> str:
    """Standard output of a program that has to succeed; no AUDITO_ setting of ours reaches it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDITO_")}
    done = subprocess.run(command, cwd=cwd, env={**inherited, **(environ or {})}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(hook: str, tree: Path, out: Path) -> Path:
    """The archive that a PEP 517 hook makes of a tree, with the build packages of this environment."""
    out.mkdir()
    code = f"import sys, setuptools.build_meta as backend; backend.{hook}(sys.argv[1])"
    # -O0, and as many compilers as there are CPUs: what is tested is what the archives hold.
    (out.parent / "build.cfg").write_text(f"[build_ext]\nparallel = {os.cpu_count()}\n")
    environ = {"AUDITO_DEBUG": "1", "DIST_EXTRA_CONFIG": str(out.parent / "build.cfg")}
    run(sys.executable, "-c", code, str(out), cwd=tree, environ=environ)
    (archive,) = out.iterdir()
    return archive


@dataclass(frozen=True)
class Archives:
    """``sdist_names``: without the leading directory. ``installed``: the wheel, unpacked."""

    sdist_names: set[str]
    wheel_names: set[str]
    installed: Path


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """An sdist of a copy of this tree, the wheel built from the unpacked sdist, and that wheel unpacked."""
    base = tmp_path_factory.mktemp("packaging")
    tree, unpacked, installed = base / "tree", base / "unpacked", base / "installed"
    shutil.copytree(PACKAGE, tree / "audito", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, tree)
    # What earlier builds leave in a tree must not get out of it.
    (tree / "audito" / "_stale.c").write_text("#error stale\n")
    (tree / "audito" / "_stale.cpython-39-x86_64-linux-gnu.so").write_bytes(b"stale")

    sdist = build("build_sdist", tree, base / "sdist")
    unpacked.mkdir()
    run("tar", "-xzf", str(sdist), "-C", str(unpacked), cwd=base)
    with tarfile.open(sdist) as archive:
        sdist_names = {name.partition("/")[2] for name in archive.getnames()}
    (unpacked_tree,) = unpacked.iterdir()
    with zipfile.ZipFile(build("build_wheel", unpacked_tree, base / "wheel")) as wheel:
        wheel_names = set(wheel.namelist())
        wheel.extractall(installed)
    return Archives(sdist_names, wheel_names, installed)


def test_sdist_holds_all_sources(archives: Archives) -> None:
    assert sources(".py", ".pyx", ".pxd", ".pyi", "py.typed") <= archives.sdist_names
    assert set(BUILD_FILES) - {"MANIFEST.in"} <= archives.sdist_names


def test_sdist_holds_nothing_built(archives: Archives) -> None:
    assert not [name for name in archives.sdist_names if name.endswith((".c", ".so", ".pyc"))]


def test_wheel_holds_the_package_and_nothing_else(archives: Archives) -> None:
    names = {name for name in archives.wheel_names if ".dist-info/" not in name}
    binaries = {name for name in names if name.endswith(".so")}
    assert names - binaries == sources(".py", ".pyi", ".pxd", "py.typed")
    assert {Path(name).name.partition(".")[0] for name in binaries} == COMPILED
    assert COMPILED


def test_wheel_carries_the_licence(archives: Archives) -> None:
    assert [name for name in archives.wheel_names if name.endswith(".dist-info/licenses/LICENSE")]


def test_wheel_runs_where_the_tree_is_not(archives: Archives, tmp_path: Path) -> None:
    modules = ["audito", *(f"audito.{name}" for name in sorted(COMPILED))]
    code = f"import importlib\nfor name in {modules}: print(importlib.import_module(name).__file__)"
    environ = {"PYTHONPATH": str(archives.installed)}
    paths = run(sys.executable, "-c", code, cwd=tmp_path, environ=environ).split()
    assert len(paths) == len(modules)
    assert all(Path(path).is_relative_to(archives.installed) for path in paths)
    assert "replay" in run(sys.executable, "-m", "audito", "--help", cwd=tmp_path, environ=environ)


def test_a_build_by_a_profile(tmp_path: Path) -> None:
    """What ``make release`` does, on one module: counted, run, built by the counts."""
    (tmp_path / "audito").mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "audito/__init__.py", "audito/_needles.pyx",
                 "audito/_needles.pxd", "audito/_scan.pxd"):  # fmt: skip
        shutil.copy(ROOT / name, tmp_path / name)
    search = "from audito._needles import Needles; print(Needles(['root']).find(b'who is Root'))"

    def built(profile: str) -> str:
        run(sys.executable, "setup.py", "build_ext", "--inplace", cwd=tmp_path, environ={"AUDITO_PROFILE": profile})
        return run(sys.executable, "-c", search, cwd=tmp_path)

    counted = built("collect")
    assert list((tmp_path / "build" / "profile").rglob("*_needles.gcda"))
    (module,) = (tmp_path / "audito").glob("_needles.*.so")
    counting = module.read_bytes()
    assert b"__gcov_" in counting
    assert built("use") == counted == "(7, 'root')\n"
    assert b"__gcov_" not in module.read_bytes()


def test_a_profile_that_there_is_none_of_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT, env={**os.environ, "AUDITO_PROFILE": "used"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "AUDITO_PROFILE" in done.stderr


def test_one_version(archives: Archives) -> None:
    (metadata_path,) = archives.installed.glob("*.dist-info/METADATA")
    metadata = metadata_path.read_text(encoding="utf-8")
    assert re.search(r"^Version: (.+)$", metadata, re.MULTILINE)[1] == audito.__version__  # type: ignore[index]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", audito.__version__]


def test_the_script_is_the_module(archives: Archives) -> None:
    (entry_points,) = archives.installed.glob("*.dist-info/entry_points.txt")
    assert "audito = audito.__main__:main" in entry_points.read_text(encoding="utf-8")


def test_importing_audito_costs_nothing(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import audito; print(*sorted(set(sys.modules) - before))"
    environ = {"PYTHONPATH": str(ROOT)}
    assert run(sys.executable, "-c", code, cwd=tmp_path, environ=environ).split() == ["audito"]


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def readme_commands() -> list[str]:
    """The lines of the README's shell blocks, in order, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL)
    lines = (line.partition("#")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def flags_in(text: str) -> set[str]:
    """Names of flags, with one dash or two."""
    return set(re.findall(r"(?<![\w-])--?([a-z][a-z-]+[a-z])\b", text))


def test_readme_opens_with_the_two_commands() -> None:
    assert readme_commands()[:2] == ["make demo", "make test"]


def test_readme_names_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    quoted = re.findall(r"`([^`\n]+)`", readme())
    named = set(re.findall(r"\bmake (?:[A-Z]+=\S+ )*([a-z-]+)", "\n".join(readme_commands() + quoted)))
    assert {"build", "demo", "test", "lint", "integration-test"} <= named
    assert named <= targets


def test_readme_names_flags_that_exist() -> None:
    commands = "\n".join(command for command in readme_commands() if "audito" in command)
    tables = "\n".join(re.findall(r"^\|.*\|$", readme(), re.MULTILINE))
    named = flags_in(commands.replace("-m audito", "")) | flags_in(re.sub(r"[^`]*(`-[^`]*`|$)", r"\1", tables))
    helps = [
        run(sys.executable, "-m", "audito", name, "--help", cwd=ROOT) for name in ("run", "replay", "decode", "doctor")
    ]
    assert {"output", "audit-dir-path", "sshd-pipe-path", "sshd", "event-types"} <= named
    assert named <= flags_in("\n".join(helps))


def test_readme_gives_each_dependency_a_reason() -> None:
    wanted = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in wanted]  # type: ignore[index]
    assert not [name for name in names if not re.search(rf"^\| `?{name}`?.*\| .{{10,}} \|$", readme(), re.MULTILINE)]
