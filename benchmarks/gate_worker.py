"""What runs under callgrind: each stage once, between two marks that callgrind acts on.

    python -m benchmarks.gate_worker TREE STAGE …

TREE is where the package must come from: its compiled modules are what is counted. Between getpgrp() and getppid(),
which nothing else here calls, is one run of one stage; see gate.py for how callgrind is told. Prints the stages.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import audito
from benchmarks import stages
from benchmarks.measure import require


def count_stage(stage: stages.Stage, digests: dict[str, str] | None) -> None:
    """One run to warm up, one between the marks; both are checked."""
    job = stage.make(stages.SIZES["gate"])
    for measured in (False, True):
        run = job.start()
        gc.collect()
        gc.disable()
        if measured:
            os.getpgrp()  # callgrind: --zero-before
            run.go()
            os.getppid()  # callgrind: --dump-before
        else:
            run.go()
        gc.enable()
        stages.verify(stage, "gate", job, run, digests)
    print(stage.name, flush=True)


def main(tree: str, names: list[str]) -> None:
    """Count these stages. Errors: WrongOutputError."""
    origin = Path(audito.__file__).resolve()
    require(origin.is_relative_to(Path(tree).resolve()), f"audito comes from {origin}, not from {tree}")
    # An older tree may write other events; its counts are checked all the same.
    digests = None if os.environ.get("BENCH_ANY_DIGEST") == "1" else stages.known_digests()
    for name in names:
        count_stage(stages.BY_NAME[name], digests)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
