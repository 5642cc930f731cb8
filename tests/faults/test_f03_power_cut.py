"""F3: the power fails at any instant. What was synced is there; of all else the disk may have any part.

The calls of output and checkpoints are recorded as they are made, and every state is rebuilt that a file system may
leave behind at each of them: of unsynced data nothing, a half, zeros, or all; of unsynced names any subset. (Method:
Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.)
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audito import checkpoint
from audito.sinks.file import FileSink
from tests.sinks.events import events

SAVES = 4


class Disk:
    """Records what is done in one directory. ``ops``: what, which file, and what it is about.

    A file's number is ours: an inode is soon another file's.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ops: list[tuple[str, int, Any]] = []
        self._numbers: dict[int, int] = {}
        for name in ("open", "write", "fsync", "fdatasync", "rename", "unlink", "ftruncate"):
            monkeypatch.setattr(os, name, self._around(name, getattr(os, name)))

    def _number(self, status: os.stat_result) -> int:
        return self._numbers.get(status.st_ino, status.st_ino)

    def _around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            before = None
            if name in ("rename", "unlink"):
                try:
                    before = os.stat(args[0], dir_fd=kwargs.get("src_dir_fd", kwargs.get("dir_fd")))
                except FileNotFoundError:
                    pass
            created = name == "open" and args[1] & os.O_EXCL
            result = real(*args, **kwargs)
            if created:
                self._numbers[os.fstat(result).st_ino] = 10**9 + len(self.ops)
            match name:
                case "open" if created:
                    self.ops.append(("name", self._number(os.fstat(result)), (None, args[0])))
                case "write":
                    self.ops.append(("write", self._number(os.fstat(args[0])), bytes(args[1][:result])))
                case "fsync" | "fdatasync":
                    self.ops.append(("sync", self._number(os.fstat(args[0])), None))
                case "ftruncate":
                    self.ops.append(("cut", self._number(os.fstat(args[0])), args[1]))
                case "rename" if before is not None:
                    self.ops.append(("name", self._number(before), (args[0], args[1])))
                case "unlink" if before is not None:
                    self.ops.append(("name", self._number(before), (args[0], None)))
            return result

        return call


def contents(ops: list[tuple[str, int, Any]]) -> Iterator[dict[int, bytes]]:
    """What the files may hold: what was synced, and of each file's writes since then nothing, a part, or all."""
    durable: dict[int, bytes] = {}
    latest: dict[int, bytes] = {}
    for what, inode, data in ops:
        if what == "write":
            latest[inode] = latest.get(inode, b"") + data
        elif what == "cut":
            latest[inode] = latest.get(inode, b"")[:data]
        elif what == "sync":
            durable[inode] = latest.get(inode, b"")
    open_ended = [inode for inode in latest if latest[inode] != durable.get(inode, b"")]
    for choice in itertools.product(range(4), repeat=len(open_ended)):
        files = {**latest, **durable}
        for inode, kind in zip(open_ended, choice, strict=True):
            old, new = durable.get(inode, b""), latest[inode]
            half = (len(old) + len(new)) // 2
            files[inode] = (old, new[:half], new[:half] + bytes(len(new) - half), new)[kind]
        yield files


def listings(ops: list[tuple[str, int, Any]], directory: int) -> Iterator[dict[str, int]]:
    """What the names may mean: changes up to the last sync of the directory, and any of those after it."""
    sure: list[tuple[int, Any]] = []
    loose: list[tuple[int, Any]] = []
    for what, inode, data in ops:
        if what == "name":
            loose.append((inode, data))
        elif what == "sync" and inode == directory:
            sure += loose
            loose = []
    for mask in range(1 << len(loose)):
        names: dict[str, int] = {}
        for inode, (old, new) in sure + [change for bit, change in enumerate(loose) if mask >> bit & 1]:
            if old is not None and names.get(old) == inode:
                del names[old]
            if new is not None:
                names[new] = inode
        yield names


def test_f03_whatever_a_power_cut_leaves_a_state_is_there_and_its_output_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir(0o700)
    directory = str(tmp_path / "run")
    inode = os.stat(directory).st_ino
    done: list[int] = []  # how many calls had been made when each save() returned
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        sink = FileSink(tmp_path / "run" / "out")
        sink.open()
        for number in range(SAVES):
            sink.write(memoryview(events(10 * number, 10 * number + 10, 20)))
            sink.sync()
            state = checkpoint.State(
                boot_id=str(number), saved_at_ms=0, sources={}, core=bytes(50), output=sink.position()
            )
            checkpoint.save(directory, state)
            done.append(len(disk.ops))
            sink.write(memoryview(events(1000, 1003, 20)))  # is not covered by a checkpoint
        sink.close()
    whole = (tmp_path / "run" / "out").read_bytes()
    after = tmp_path / "after"
    after.mkdir(0o700)
    seen: set[tuple[tuple[str, bytes], ...]] = set()
    for at in range(len(disk.ops) + 1):
        least = sum(count <= at for count in done) - 1
        ops = disk.ops[:at]
        for names, files in itertools.product(listings(ops, inode), contents(ops)):
            found = {name: files.get(number, b"") for name, number in names.items()}
            key = tuple(sorted(found.items()))
            if key in seen:
                continue
            seen.add(key)
            for path in after.iterdir():
                path.unlink()
            for name, data in found.items():
                Path(after, os.path.basename(name)).write_bytes(data)
            state_found = checkpoint.load(str(after))
            generation = -1 if state_found is None else int(state_found.boot_id)
            assert generation >= least, f"after call {at}: generation {generation}, {least} was saved"
            if state_found is not None:
                length = state_found.output["length"]
                assert found[os.fspath("out")][:length] == whole[:length], f"after call {at}: output that it counts on"
    assert len(seen) > 50
