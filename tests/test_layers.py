"""The floors of the house: a module imports only from lower floors. Reads the sources, imports none of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "audito"

# Lowest first. A module that is in no row fails the test: give it a floor when you write it.
FLOORS = (
    ("errors", "objects", "signals", "tables", "text"),
    ("_scan",),
    ("_put",),
    ("_sessions", "_gaps", "_needles"),
    ("_whose",),
    ("_fastparse", "_sshd", "events", "_redact"),
    ("redact",),
    ("filters",),
    ("_fields", "_processes"),
    ("_normalise", "_logins"),
    ("_actions",),
    ("normalise", "logins", "ends", "gaps", "checkpoint", "health", "privileges", "auditctl"),
    ("vendor",),
    ("core",),
    ("sources", "sinks"),
    ("values",),
    ("config",),
    ("netlink", "proc", "watch", "written"),
    ("feed", "output", "http", "service"),
    ("daemon", "doctor"),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Packages whose members stand on one floor, and the parts that several members share, lowest first. A member may
# import its package (the Protocol) and the parts; only the package itself and its list of members import members.
PACKAGES: dict[str, tuple[str, ...]] = {
    "tables": ("sshd_grammar", "sshd_notes"),
    "sources": ("inotify", "unread", "follow"),
    "sinks": ("paths",),
}
MEMBER_LISTS = ("__init__", "all")

# Sources know bytes and files and never events; sinks see bytes only.
BYTES_ONLY = ("sources", "sinks")
EVENT_ROOMS = (
    "events", "_sessions", "_gaps", "_whose", "_fastparse", "_fields", "_processes", "_sshd", "_normalise", "_actions", "_logins",
    "normalise", "logins", "ends", "gaps", "vendor", "core",
)  # fmt: skip

# What makes tasks, timers or threads.
SCHEDULERS = ("asyncio", "uvloop", "threading", "sched", "concurrent", "multiprocessing")

CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<module>[.\w]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n#]+)"
    r"|c?import[ \t]+(?P<modules>[^\n#]+)"
    r"|include[ \t]+[\"'](?P<include>[^\"']+))",
    re.MULTILINE,
)
FILES = sorted(path for ending in ("py", "pyi", "pyx", "pxd") for path in PACKAGE.rglob(f"*.{ending}"))


def module_of(path: Path) -> str:
    """``audito/sources/fifo.py`` → ``audito.sources.fifo``; a package is named by its ``__init__``."""
    return ".".join(("audito", *path.relative_to(PACKAGE).with_suffix("").parts))


def room_of(module: str) -> str:
    """``audito.sources.fifo`` → ``sources``: what has a floor."""
    return module.split(".")[1]


def absolute(importer: str, module: str | None, level: int) -> str:
    """The full name of what ``from <level dots><module> import`` names inside ``importer``."""
    if level == 0:
        return module or ""
    base = importer.split(".")[:-level]
    return ".".join((*base, module) if module else base)


def python_imports(importer: str, text: str) -> Iterator[str]:
    """Full dotted names, ``from m import n`` as ``m.n``: n may be a module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(importer, node.module, node.level)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def cython_imports(importer: str, text: str) -> Iterator[str]:
    """As :func:`python_imports`, for .pyx and .pxd."""
    for match in CYTHON_IMPORT.finditer(text):
        if match["include"]:
            yield f"audito.{match['include']}"  # never a room: parts are modules, not included text
        elif match["modules"]:
            yield from (name.split(" as ")[0].strip() for name in match["modules"].split(","))
        else:
            dotted = match["module"]
            level = len(dotted) - len(dotted.lstrip("."))
            base = absolute(importer, dotted.lstrip("."), level)
            names = re.sub(r"#[^\n]*", "", match["names"]).strip("() \t\n").split(",")
            yield from (f"{base}.{name.split(' as ')[0].strip()}" for name in names if name.strip())


def imports(path: Path) -> list[str]:
    """All that a file imports, of ours and of others."""
    text = path.read_text(encoding="utf-8")
    reader = python_imports if path.suffix in (".py", ".pyi") else cython_imports
    return sorted(set(reader(module_of(path), text)))


def edge_fault(importer: str, imported: str) -> str | None:
    """Why ``importer`` may not import ``imported`` (a module or a name in one); None when it may."""
    parts = imported.split(".")
    if parts[0] != "audito":
        return None
    if len(parts) == 1 or (len(parts) == 2 and parts[1].startswith("__") and parts[1] != "__main__"):
        return None  # the version, from audito/__init__.py, which imports nothing
    here, there = room_of(importer), parts[1]
    if there not in FLOOR:
        return f"{imported} has no floor"
    if here in BYTES_ONLY and there in EVENT_ROOMS:
        return f"{here} see bytes only, and {there} is about events"
    if here != there:
        is_below = FLOOR[there] < FLOOR[here]
        return None if is_below else f"{there} (floor {FLOOR[there]}) is not below {here} ({FLOOR[here]})"
    return same_room_fault(importer.split("."), parts)


def same_room_fault(importer: list[str], imported: list[str]) -> str | None:
    """Inside a room: a module and its own .pxd, a member and its package or a part, a package and its members."""
    room, here, there = importer[1], importer[2:3], imported[2:3]
    if room not in PACKAGES or here == there or not there or here[0] in MEMBER_LISTS:
        return None
    if not any((PACKAGE / room).glob(f"{there[0]}.*")):
        return None  # a name in the package itself
    parts = PACKAGES[room]
    lower = parts[: parts.index(here[0])] if here[0] in parts else parts
    return None if there[0] in lower else f"{'.'.join(importer)} imports its neighbour {there[0]}"


def world_reads(text: str) -> list[str]:
    """Reads of the command line and of the environment in Python source."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in ("sys.argv", "sys.orig_argv", "os.environ", "os.environb", "os.getenv", "os.getenvb"):
                found.append(name)
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "sys"):
            wanted = {"argv", "orig_argv", "environ", "environb", "getenv", "getenvb"}
            found += [f"{node.module}.{alias.name}" for alias in node.names if alias.name in wanted]
    return found


def below(room: str) -> list[Path]:
    """Files of the rooms on lower floors than this one."""
    return [path for path in FILES if FLOOR.get(room_of(module_of(path)), -1) < FLOOR[room]]


def file_id(path: Path) -> str:
    """A test is named by the file it reads."""
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_imports_point_down(path: Path) -> None:
    importer = module_of(path)
    if importer == "audito.__init__":
        assert imports(path) in ([], ["__future__.annotations"]), "importing audito costs nothing"
        return
    assert room_of(importer) in FLOOR, f"{importer} has no floor: give it one in FLOORS"
    faults = [fault for name in imports(path) if (fault := edge_fault(importer, name))]
    assert not faults, faults


@pytest.mark.parametrize("path", below("watch"), ids=file_id)
def test_no_task_and_no_timer_below_the_daemon(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] in SCHEDULERS]


@pytest.mark.parametrize("path", below("cli"), ids=file_id)
def test_no_argv_and_no_environment_below_the_command_line(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".py", ".pyi"):
        assert not world_reads(text)
    else:
        assert not re.findall(r"\bsys\.argv|\bos\.(?:environ|getenv)|\bgetenv\s*\(", text)


def test_the_walk_sees_the_house() -> None:
    rooms = {room_of(module_of(path)) for path in FILES}
    assert {"errors", "events", "sources", "sinks"} <= rooms


@pytest.mark.parametrize(
    ("importer", "text", "found"),
    [
        ("audito.core", "import audito.events as e\nimport os, sys", ["audito.events", "os", "sys"]),
        ("audito.core", "from audito import events, errors", ["audito.errors", "audito.events"]),
        (
            "audito.sources.fifo",
            "from . import Source\nfrom ..errors import SourceError",
            ["audito.errors.SourceError", "audito.sources.Source"],
        ),
        ("audito.core", "def late():\n    import audito.cli", ["audito.cli"]),
    ],
)
def test_python_imports_are_found(importer: str, text: str, found: list[str]) -> None:
    assert sorted(python_imports(importer, text)) == found
    assert sorted(cython_imports(importer, text)) == found


def test_an_import_by_name_is_found() -> None:
    text = "import importlib\nimportlib.import_module('audito.cli')\n__import__('asyncio')\n"
    assert sorted(python_imports("audito.core", text)) == ["asyncio", "audito.cli", "importlib"]


def test_cython_imports_are_found() -> None:
    text = (
        "from libc.string cimport memchr\n"
        "cimport audito._scan as scan\n"
        "from audito._scan cimport (  # leaves\n    Span,\n    line_end as end,  # of a line\n)\n"
        "from ._fastparse cimport Core\n"
        'include "parts.pxi"\n'
        "# from audito.cli import main\n"
    )
    assert sorted(cython_imports("audito._normalise", text)) == [
        "audito._fastparse.Core",
        "audito._scan",
        "audito._scan.Span",
        "audito._scan.line_end",
        "audito.parts.pxi",
        "libc.string.memchr",
    ]


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("audito.core", "audito.sources.Source"),
        ("audito.normalise", "audito.logins"),
        ("audito._scan", "audito._fastparse.Core"),
        ("audito.events", "audito.unheard_of"),
        ("audito.config", "audito.__main__"),
        ("audito.sources.fifo", "audito.events.Event"),
        ("audito.sources.fifo", "audito.sources.directory.DirectorySource"),
        ("audito.sources.inotify", "audito.sources.follow.Follower"),
        ("audito._normalise", "audito.parts.pxi"),
    ],
)
def test_an_edge_that_points_up_is_a_fault(importer: str, imported: str) -> None:
    assert edge_fault(importer, imported)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("audito.core", "audito.events.UserLogin"),
        ("audito.cli", "audito.__version__"),
        ("audito._fastparse", "audito._fastparse.Core"),
        ("audito.sources.fifo", "audito.sources"),
        ("audito.sources.fifo", "audito.sources.Source"),
        ("audito.sources.all", "audito.sources.fifo.Fifo"),
        ("audito.sources.directory", "audito.sources.follow.Follower"),
        ("audito.sources.follow", "audito.sources.inotify"),
        ("audito.daemon", "asyncio"),
    ],
)
def test_an_edge_that_points_down_is_none(importer: str, imported: str) -> None:
    assert edge_fault(importer, imported) is None


def test_reads_of_the_world_are_found() -> None:
    text = "import os, sys\nfrom os import environ\nsys.argv[1:]\nos.environ['A']\nos.getenv('B')\n"
    assert sorted(world_reads(text)) == ["os.environ", "os.environ", "os.getenv", "sys.argv"]
    assert not world_reads("def load(environ, argv):\n    return environ['A'], argv[0]\n")
