"""Whether a path leads where its owner meant it to: nobody else may swap a directory on the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from audito.errors import SinkError

LINKS_MAX = 40
"""As the kernel has it: more links than this in one path are a loop."""


def trusted_uids(uid: int = -1) -> frozenset[int]:
    """Whose files and directories are safe to use: root's, our own, and those of the user that we are to become."""
    return frozenset({0, os.geteuid(), *([uid] if uid >= 0 else [])})


def check_parents(path: Path, trusted: frozenset[int]) -> list[str]:
    """Look at each directory that ``path``, an absolute one, goes through; returns what is not as it should be.

    A directory on the way that another user could exchange for a link of his own would lead us anywhere: that is
    refused. In the last one he could only exchange the file, which is checked when it is opened: a warning.
    Errors: SinkError, which names the directory and what is wrong with it; OSError.
    """
    warnings: list[str] = []
    _check_entries(path.parent, trusted, warnings, LINKS_MAX)
    status = os.stat(path.parent)
    if status.st_uid not in trusted:
        warnings.append(f"{path.parent} belongs to uid {status.st_uid}")
    elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        warnings.append(f"{path.parent} can be written to by everybody")
    return warnings


def _check_entries(directory: Path, trusted: frozenset[int], warnings: list[str], links_left: int) -> None:
    """Check each step from the root down to ``directory``, and where it is a link, the way to its target."""
    for entry in [*reversed(directory.parents), directory][1:]:
        holder = os.stat(entry.parent)
        status = os.lstat(entry)
        kept = holder.st_mode & stat.S_ISVTX and status.st_uid in trusted
        if holder.st_uid not in trusted:
            raise SinkError(
                f"{entry.parent}: belongs to uid {holder.st_uid}, who could put anything in place of {entry}"
            )
        if holder.st_mode & stat.S_IWOTH and not kept:
            raise SinkError(f"{entry.parent}: everybody can put anything in place of {entry}")
        if holder.st_mode & stat.S_IWGRP and holder.st_gid != 0 and not kept:
            warnings.append(f"{entry.parent} can be written to by group {holder.st_gid}")
        if stat.S_ISLNK(status.st_mode):
            if links_left == 0:
                raise SinkError(f"{directory}: too many symbolic links")
            target = Path(os.path.abspath(entry.parent / os.readlink(entry)))
            _check_entries(target, trusted, warnings, links_left - 1)


def kind_of(mode: int) -> str:
    """What a file that we cannot use is, in words."""
    kinds = (
        (stat.S_ISREG, "a regular file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((words for test, words in kinds if test(mode)), "something unknown")
