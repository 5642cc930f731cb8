"""Faults that a real disk cannot be asked for: short writes, errors at the n-th call, a failing fdatasync.

A library put before libc's does them, in a process of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.sinks.events import events

ROOT = Path(__file__).parents[2]

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }

static int is_target(int fd) {
    struct stat status;
    return fd > 2 && fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode));
}

/* FAULT_SHORT: each write takes a random part. FAULT_EVERY: each n-th write fails with FAULT_ERRNO. */
ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    static unsigned seed = 7, calls;
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (is_target(fd) && size > 0) {
        int every = number("FAULT_EVERY");
        if (every && ++calls % every == 0) { errno = number("FAULT_ERRNO"); return -1; }
        if (number("FAULT_SHORT")) size = 1 + rand_r(&seed) % size;
    }
    return real(fd, data, size);
}

/* FAULT_SYNC: the first call fails, the next ones succeed, as the kernel does it. */
int fdatasync(int fd) {
    static int (*real)(int);
    static int calls;
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (number("FAULT_SYNC") && calls++ == 0) { errno = EIO; return -1; }
    return real(fd);
}

/* FAULT_CUT: cutting fails. */
int ftruncate(int fd, off_t size) {
    static int (*real)(int, off_t);
    static int calls;
    if (!real) real = dlsym(RTLD_NEXT, "ftruncate");
    if (calls++ < number("FAULT_CUT")) { errno = EIO; return -1; }
    return real(fd, size);
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("shim")
    (directory / "shim.c").write_text(SHIM)
    library = directory / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, directory / "shim.c", "-ldl"]
    subprocess.run(command, check=True)
    return library


def run_with(shim: Path, code: str, *arguments: object, **faults: int) -> str:
    environment = {**os.environ, "LD_PRELOAD": str(shim), **{name: str(value) for name, value in faults.items()}}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


WRITE = """
    import sys
    import time
    from pathlib import Path
    from audito.sinks.all import open_sink
    from tests.sinks.events import events
    path = Path(sys.argv[1])
    sink = open_sink(str(path))
    sink.open()
    done = refused = 0
    for first in range(0, 3000, 60):
        batch = memoryview(events(first, first + 60, 50))
        taken = 0
        while taken < len(batch):
            count = sink.write(batch[taken:])
            taken += count
            if path.is_file():
                assert taken == 0 or batch[taken - 1] == 10, "only whole lines are taken"
                sink.sync()
                assert sink.position()["length"] == done + taken, "a half line is not durable"
                if not "FAULT_CUT" in sys.argv:
                    assert path.stat().st_size == done + taken, "a line that was not taken left something behind"
            if count == 0:
                refused += 1
                assert refused < 20_000 and not sink.ready
                time.sleep(0 if path.is_file() else 0.001)
        assert sink.ready
        done += taken
    sink.close()
    print(refused)
"""


def test_f11_short_writes(shim: Path, tmp_path: Path) -> None:
    assert run_with(shim, WRITE, tmp_path / "out", FAULT_SHORT=1) == "0\n"
    assert (tmp_path / "out").read_bytes() == events(0, 3000, 50)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("every", [2, 3, 7])
def test_f09_f10_a_write_that_fails_now_and_then(shim: Path, tmp_path: Path, error: int, every: int) -> None:
    out = run_with(shim, WRITE, tmp_path / "out", FAULT_SHORT=1, FAULT_EVERY=every, FAULT_ERRNO=error)
    assert int(out) > 0
    assert (tmp_path / "out").read_bytes() == events(0, 3000, 50)


def test_f09_a_half_line_that_cannot_be_cut_yet_is_cut_later(shim: Path, tmp_path: Path) -> None:
    faults = {"FAULT_SHORT": 1, "FAULT_EVERY": 2, "FAULT_ERRNO": errno.ENOSPC, "FAULT_CUT": 50}
    assert int(run_with(shim, WRITE, tmp_path / "out", "FAULT_CUT", **faults)) >= 50
    assert (tmp_path / "out").read_bytes() == events(0, 3000, 50)


def test_f11_short_writes_to_a_pipe(shim: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out")
    with (tmp_path / "read").open("wb") as copy, subprocess.Popen(["cat", tmp_path / "out"], stdout=copy) as cat:
        run_with(shim, WRITE, tmp_path / "out", FAULT_SHORT=1, FAULT_EVERY=3, FAULT_ERRNO=errno.EAGAIN)
        assert cat.wait(timeout=20) == 0
    assert (tmp_path / "read").read_bytes() == events(0, 3000, 50)


def test_f10_a_pipe_whose_writes_fail_now_and_then_goes_on_in_its_line(shim: Path, tmp_path: Path) -> None:
    """Its reader never left: it would get the rest of a line as a line."""
    code = """
        import sys
        from pathlib import Path
        from audito.sinks.stream import StreamSink
        from tests.sinks.events import events
        sink = StreamSink(Path(sys.argv[1]))
        sink.open()
        rest, calls = memoryview(events(0, 100, 50)), 0
        while rest:
            rest = rest[sink.write(rest):]
            calls += 1
        print(calls)
    """
    os.mkfifo(tmp_path / "out")
    reader = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert int(run_with(shim, code, tmp_path / "out", FAULT_SHORT=1, FAULT_EVERY=3, FAULT_ERRNO=errno.EIO)) > 1
        got, rest = b"", os.read(reader, 1 << 20)
        while rest:
            got, rest = got + rest, os.read(reader, 1 << 20)
    finally:
        os.close(reader)
    assert got == events(0, 100, 50)


@pytest.mark.parametrize("thrown_away", [False, True])
def test_f10_a_failed_sync_is_never_taken_for_a_success(shim: Path, tmp_path: Path, thrown_away: bool) -> None:
    """The next sync succeeds only after all was written anew; where the pages are gone, there is nothing to write."""
    code = """
        import os, sys
        from pathlib import Path
        from audito.errors import SinkError
        from audito.sinks.file import FileSink
        path, gone = Path(sys.argv[1]), sys.argv[2] == "True"
        sink = FileSink(path)
        sink.open()
        before = sink.position()["length"]
        sink.write(memoryview(b'{"a":1}\\n'))
        sink.write(memoryview(b'{"b":2}\\n'))
        try:
            sink.sync()
        except SinkError as exc:
            assert "may not be on the disk" in str(exc)
        assert sink.position()["length"] == before
        sink.close()
        sink.open()
        assert sink.position()["length"] == before, "what is there now may be gone after a crash"
        sink.write(memoryview(b'{"c":3}\\n'))
        if gone:
            with path.open("r+b") as file:
                file.seek(before)
                file.write(bytes(8))
        written, pwrite = [], os.pwrite
        os.pwrite = lambda fd, data, at: written.append((at, data)) or pwrite(fd, data, at)
        try:
            sink.sync()
        except SinkError as exc:
            assert gone and "may not be on the disk" in str(exc)
            assert not written and sink.position()["length"] == before
        else:
            assert not gone and written == [(before, b'{"a":1}\\n{"b":2}\\n{"c":3}\\n')]
            assert sink.position()["length"] == path.stat().st_size
            sink.write(memoryview(b'{"d":4}\\n'))
            sink.sync()
            assert path.read_bytes() == b'{}\\n{"a":1}\\n{"b":2}\\n{"c":3}\\n{"d":4}\\n'
        print(before)
    """
    (tmp_path / "out").write_bytes(b"{}\n")
    assert run_with(shim, code, tmp_path / "out", thrown_away, FAULT_SYNC=1) == "3\n"
