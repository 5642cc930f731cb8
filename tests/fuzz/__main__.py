"""The fuzzer on one target: ``tools/fuzz`` starts it. Arguments: TARGET, a file for its dictionary, libFuzzer's own."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["audito"], exclude=["audito.tables"]):
    import audito
    from tests.fuzz import mutate, targets, words


def main() -> None:
    assert "build/fuzz" in (audito.__file__ or ""), "not the modules that were built for the fuzzer"
    name, dictionary = sys.argv.pop(1), Path(sys.argv.pop(1))
    dictionary.write_text(words.dictionary(name))
    more = {}
    if mutator := mutate.MUTATORS.get(name):
        more["custom_mutator"] = lambda data, size, seed: mutator(data, size, seed, atheris.Mutate)
    command = f"{sys.executable} -P -m tests.fuzz {name} {dictionary}"  # -merge=1 runs it again, by the shell
    atheris.Setup([command, *sys.argv[1:], f"-dict={dictionary}"], targets.TARGETS[name], **more)
    gc.freeze()  # what is there now stays, and is looked at no more
    atheris.Fuzz()


if __name__ == "__main__":
    main()
