"""inotify is a hint: it wakes up, it never carries data, and its failures cost a second at most."""

from __future__ import annotations

import logging
import os
import select
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from audito.sources.directory import DirectorySource
from audito.sources.inotify import Watcher
from tests.sources.logs import Log, read_all, record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Watcher]:
    watcher = Watcher(tmp_path)
    watcher.open()
    yield watcher
    watcher.close()


def is_readable(fd: int, timeout_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def test_a_new_name_wakes_up_once(watcher: Watcher, tmp_path: Path) -> None:
    assert not is_readable(watcher.fileno())
    (tmp_path / "audit.log").touch()
    assert is_readable(watcher.fileno(), 1000)
    watcher.drain()
    assert not is_readable(watcher.fileno())
    watcher.drain()


def test_the_descriptor_is_not_inherited_and_never_waits(watcher: Watcher) -> None:
    assert not os.get_inheritable(watcher.fileno())
    assert not os.get_blocking(watcher.fileno())


def test_writes_to_other_files_of_the_directory_wake_nobody(watcher: Watcher, tmp_path: Path) -> None:
    with (tmp_path / "audit.log").open("wb") as log, (tmp_path / "other").open("wb", buffering=0) as other:
        watcher.watch(log.fileno())
        watcher.drain()
        other.write(b"x")
        assert not is_readable(watcher.fileno())
        log.write(b"x")
        log.flush()
        assert is_readable(watcher.fileno(), 1000)


def test_the_file_is_watched_under_its_new_name_and_then_another_one(watcher: Watcher, tmp_path: Path) -> None:
    with (tmp_path / "audit.log").open("wb", buffering=0) as old:
        watcher.watch(old.fileno())
        (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")
        watcher.drain()
        old.write(b"late")
        assert is_readable(watcher.fileno(), 1000)
        with (tmp_path / "audit.log").open("wb", buffering=0) as new:
            watcher.watch(new.fileno())
            watcher.drain()
            old.write(b"x")
            assert not is_readable(watcher.fileno())
            new.write(b"x")
            assert is_readable(watcher.fileno(), 1000)


def test_a_name_that_is_not_utf_8_is_a_wake_up_like_any_other(tmp_path: Path) -> None:
    source = DirectorySource(tmp_path)
    source.open()
    log = Log(tmp_path / "audit.log")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe\x80")).touch()
    log.write(record(1))
    assert is_readable(source.fileno(), 1000)
    source.wake()
    assert read_all(source) == record(1)
    source.close()
    log.close()


def test_u32_f20_an_overflow_loses_nothing(tmp_path: Path) -> None:
    """More events than the queue holds, none of them taken; then a rotation that no event tells of."""
    source = DirectorySource(tmp_path)
    source.open()
    log = Log(tmp_path / "audit.log")
    log.write(record(1))
    a, b = tmp_path / "a", tmp_path / "b"
    a.touch()
    queue_length = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if queue_length > 50_000:
        pytest.skip(f"fs.inotify.max_queued_events is {queue_length}: too many to fill here")
    for _ in range(queue_length // 2 + 8):
        a.rename(b)
        a, b = b, a
    log.write(record(2))
    log.rotate()
    log.write(record(3))
    wakes = 0
    while is_readable(source.fileno()):
        source.wake()
        wakes += 1
        assert wakes < 1000
    assert read_all(source) == record(1) + record(2) + record(3)
    log.write(record(4))
    assert is_readable(source.fileno(), 1000), "the watches outlive an overflow"
    assert read_all(source) == record(4)
    source.close()
    log.close()


def test_one_wake_takes_a_bounded_time(watcher: Watcher, tmp_path: Path) -> None:
    a, b = tmp_path / ("a" * 200), tmp_path / ("b" * 200)
    a.touch()
    for _ in range(5000):
        a.rename(b)
        a, b = b, a
    watcher.drain()
    assert is_readable(watcher.fileno()), "512 KiB at a time"


def test_a_directory_that_was_replaced_is_watched_again(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    directory.mkdir()
    source = DirectorySource(directory)
    source.open()
    directory.rename(tmp_path / "aside")
    directory.mkdir()
    source.wake()
    source.poll()
    source.wake()
    assert not is_readable(source.fileno())
    log = Log(directory / "audit.log")
    log.write(record(1))
    assert is_readable(source.fileno(), 1000)
    assert read_all(source) == record(1)
    source.close()
    log.close()


def test_many_rotations_keep_two_watches(tmp_path: Path) -> None:
    source = DirectorySource(tmp_path)
    source.open()
    log = Log(tmp_path / "audit.log", keep=3)
    for number in range(50):
        log.write(record(number))
        assert read_all(source) == record(number)
        log.rotate()
    watches = Path(f"/proc/self/fdinfo/{source.fileno()}").read_text().count("inotify wd:")
    assert watches == 2
    source.close()
    log.close()


def run_python(code: str, *before: str) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


POLLED = """
    import logging, pathlib, sys, tempfile
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    from audito.sources.directory import DirectorySource
    directory = pathlib.Path(tempfile.mkdtemp())
    source = DirectorySource(directory)
    source.open()
    assert source.opened and source.fileno() == -1
    source.wake()
    for number in range(3):
        (directory / "audit.log").write_bytes(b"line %d\\n" % number)
        source.poll()
        assert bytes(source.read()) == b"line %d\\n" % number, number
        (directory / "audit.log").rename(directory / "audit.log.1")
    source.close(); source.open(); source.close()
    print("done")
"""


def test_f20_without_inotify_instances_it_polls_and_says_so_once() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to make a user namespace with")
    limit = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    probe = [*limit, "echo 0 > /proc/sys/user/max_inotify_instances"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespaces here")
    done = run_python(POLLED, *limit, 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert done.stderr.count("no inotify, looking once a second instead") == 1
    assert done.stderr.count("\n") == 1, done.stderr


def test_without_the_library_it_polls_and_says_so_once() -> None:
    hide = "import sys; sys.modules['pyinotify'] = None"
    done = run_python(hide + "\n" + textwrap.dedent(POLLED))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert done.stderr.count("no inotify, looking once a second instead") == 1


def test_importing_the_sources_loads_no_library() -> None:
    done = run_python("import audito.sources.all, sys; print(sorted({'pyinotify', 'systemd'} & set(sys.modules)))")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_library_prints_and_warns_nothing() -> None:
    code = """
        import tempfile, pathlib
        from audito.sources.inotify import Watcher
        watcher = Watcher(pathlib.Path(tempfile.mkdtemp()))
        watcher.open()
        assert watcher.fileno() >= 0
        watcher.close()
    """
    done = run_python(code, sys.executable, "-W", "error", "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_second_handler_in_our_log(watcher: Watcher) -> None:
    assert watcher.fileno() >= 0
    assert logging.getLogger("pyinotify").handlers == []
