"""Builds the compiled modules: every ``audito/*.pyx``. All else stands in pyproject.toml.

Environment: ``AUDITO_DEBUG=1`` -O0, asserts and bounds checks; ``AUDITO_SANITIZE=1`` ASan and UBSan;
``AUDITO_FUZZ=1`` both, and counters of what is reached, for libFuzzer: needs clang (``make fuzz``);
``AUDITO_WERROR=1`` warnings of Cython and of the C compiler are errors (``make lint``);
``AUDITO_PROFILE=collect`` modules that count, where they run, which way the code goes, ``AUDITO_PROFILE=use`` modules
built by those counts: gcc, both in one place (``make release``).
"""

from __future__ import annotations

import os
import sysconfig
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("AUDITO_DEBUG") == "1"
SANITIZE = os.environ.get("AUDITO_SANITIZE") == "1"
FUZZ = os.environ.get("AUDITO_FUZZ") == "1"
WERROR = os.environ.get("AUDITO_WERROR") == "1"
PROFILE = os.environ.get("AUDITO_PROFILE", "")
if PROFILE not in ("", "collect", "use"):
    raise SystemExit(f"AUDITO_PROFILE is collect, use or not set, not {PROFILE!r}")

SWITCHES = {"debug": DEBUG, "sanitize": SANITIZE, "fuzz": FUZZ, "werror": WERROR}
FLAVOUR = "-".join(name for name, on in SWITCHES.items() if on) or "release"
BUILD_DIR = Path("build", f"cython-{FLAVOUR}")
PROFILE_DIR = Path("build", "profile").absolute()

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
}

# What these name is in the C that Cython writes, and none of it can be changed from a .pyx.
CYTHON_NOISE = [
    "-Wno-unused-parameter",
    "-Wno-unused-function",
    "-Wno-unused-variable",  # what only an assert uses, in a release build
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
]


def compile_args() -> list[str]:
    """Flags of the C compiler. Never -march=native: what was built here must run on the next machine.

    -O3 inlines more of the leaves than -O2: an event that is written takes 8 % less time.
    """
    args = ["-std=c11", "-Wall", "-Wextra", *CYTHON_NOISE]
    args += ["-isystem", sysconfig.get_path("include")]  # as -isystem its own warnings (3.13) are none of ours
    args += ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3"]
    if SANITIZE:
        args += ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
    if FUZZ:
        args += ["-g", "-O1", "-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=undefined"]
    if WERROR:
        args += ["-Wconversion", "-Werror"]
    return args


def link_args() -> list[str]:
    """Flags of the linker."""
    return ["-fsanitize=address,undefined"] if SANITIZE else []


def profile_args() -> tuple[list[str], list[str]]:
    """For the compiler and for the linker. Not among the flags that Cython notes in the C: its lines have to stay."""
    if PROFILE == "collect":
        return ["-fprofile-generate", f"-fprofile-dir={PROFILE_DIR}"], ["-fprofile-generate"]
    if PROFILE == "use":
        # What the stages do not reach is built as without a profile. Inlined by one, Cython's own code looks as if it
        # used variables that are not set.
        used = [f"-fprofile-use={PROFILE_DIR}", "-fprofile-partial-training"]
        return [*used, "-Wno-missing-profile", "-Wno-maybe-uninitialized"], []
    return [], []


def define_macros() -> list[tuple[str, str | None]]:
    """``AUDITO_DEBUG`` is always 0 or 1, so that C and Cython may say ``if AUDITO_DEBUG`` at no cost."""
    macros: list[tuple[str, str | None]] = [("AUDITO_DEBUG", str(int(DEBUG)))]
    if not DEBUG:
        macros.append(("CYTHON_WITHOUT_ASSERTIONS", "1"))
    return macros


def extensions() -> list[Extension]:
    """One extension a .pyx, none where there is none."""
    return [
        Extension(
            name=path.removesuffix(".pyx").replace("/", "."),
            sources=[path],
            depends=sorted(glob("audito/*.pxd")),
            define_macros=define_macros(),
            extra_compile_args=compile_args(),
            extra_link_args=link_args(),
        )
        for path in sorted(glob("audito/*.pyx"))
    ]


class BuildExt(build_ext):
    """Builds all anew where the modules in the tree are of another flavour than the one asked for."""

    def run(self) -> None:
        # Here, since an sdist and the metadata of a wheel need no C.
        written = cythonize(self.extensions, build_dir=str(BUILD_DIR), compiler_directives=DIRECTIVES, quiet=True)
        compile_more, link_more = profile_args()
        for extension, with_c in zip(self.extensions, written, strict=True):
            extension.sources = with_c.sources
            extension.extra_compile_args += compile_more
            extension.extra_link_args += link_more
        flavour = FLAVOUR + PROFILE  # objects have one place with a profile or without: gcc looks for the counts by it
        flavour_path = Path("build", "inplace-flavour")
        if self.inplace:
            built = flavour_path.read_text() if flavour_path.exists() else ""
            self.force = self.force or built != flavour
        super().run()
        if self.inplace:
            flavour_path.parent.mkdir(exist_ok=True)
            flavour_path.write_text(flavour)

    def finalize_options(self) -> None:
        super().finalize_options()
        # Objects of one flavour are never taken for those of another.
        self.build_temp = str(Path(self.build_temp).with_name(f"{Path(self.build_temp).name}-{FLAVOUR}"))


Options.warning_errors = WERROR
setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
