"""The fuzzer on one target: ``tools/fuzz`` starts it."""

from __future__ import annotations

import sys

import atheris

import audito
from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    assert "build/fuzz" in (audito.__file__ or ""), "not the modules that were built for the fuzzer"
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
