"""The image's HEALTHCHECK: asks the daemon that runs in this container whether its loop is alive (/livez).

Where it listens is worked out as the daemon does it, from the same flags and environment. Exit code: 0 alive, or
nothing that could be asked (a replay, --healthz=false); 1 not alive, not reachable, or no daemon at all.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from audito.config import load
from audito.errors import AuditoError

PROGRAM = "/opt/audito/bin/audito"
TIMEOUT_S = 4
"""Below the timeout of HEALTHCHECK, so that it is we who say what is wrong."""


def command_lines(proc: Path) -> Iterator[list[str]]:
    """The words behind the program's name of each audito that runs; it need not be process 1 (``docker --init``)."""
    for directory in proc.iterdir():
        if directory.name.isdigit():
            try:
                words = (directory / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
            except OSError:
                continue  # it has ended meanwhile
            if PROGRAM in words[:2]:  # the kernel puts the interpreter of a script before it
                yield words[words.index(PROGRAM) + 1 :]


def url_of(words: list[str]) -> str | None:
    """Where a daemon with these flags answers; None for another command and for one that serves no health."""
    word = words[0] if words and not words[0].startswith("-") else "run"
    if word not in ("run", "namedpipe"):
        return None
    http = load(words[words[:1] == [word] :], os.environ).http
    if not http.healthz:
        return None
    host, port = http.listen
    if host in ("", "0.0.0.0", "::"):  # noqa: S104  # a comparison
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/livez"


def main() -> int:
    """Ask, and say on standard output what came: the engine keeps the last few of these."""
    found = list(command_lines(Path("/proc")))
    if not found:
        print("no audito runs here")
        return 1
    try:
        url = url_of(found[0])
        if url is None:
            print("it serves no health")
            return 0
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            print(answer.read(1024).decode().strip())
            return 0
    except urllib.error.HTTPError as error:
        print(error.read(1024).decode(errors="replace").strip())
    except (OSError, AuditoError) as error:
        print(error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
