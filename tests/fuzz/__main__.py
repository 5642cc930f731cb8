"""The fuzzer on one target: ``tools/fuzz`` starts it. Arguments: TARGET, a file for its dictionary, libFuzzer's own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["audito"], exclude=["audito.tables"]):
    import audito
    from tests.fuzz import targets, words


def main() -> None:
    assert "build/fuzz" in (audito.__file__ or ""), "not the modules that were built for the fuzzer"
    name, dictionary = sys.argv.pop(1), Path(sys.argv.pop(1))
    dictionary.write_text(words.dictionary(name))
    atheris.Setup([*sys.argv, f"-dict={dictionary}"], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
