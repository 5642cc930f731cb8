"""All sinks, and which one a path means. A new one is its own file and one name here."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from audito.sinks import Sink
from audito.sinks.file import FileSink
from audito.sinks.stream import STDOUT_PATHS, StdoutSink, StreamSink

ALL: tuple[type[Sink], ...] = (FileSink, StdoutSink, StreamSink)


def open_sink(path: str, *, uid: int = -1, gid: int = -1) -> Sink:
    """The sink for a path: ``-`` is standard output, a pipe or device is a stream, all else a regular file.

    It is not open yet: open() is the caller's, who can call it again when it fails. ``uid``, ``gid``: the user
    that we are to become once it is open.
    """
    if path in STDOUT_PATHS:
        return StdoutSink(STDOUT_PATHS[path])
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        mode = 0  # Not there yet, or not to be reached: open() will say what is wrong.
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return StreamSink(Path(path), uid=uid)
    return FileSink(Path(path), uid=uid, gid=gid)
