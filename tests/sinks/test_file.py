"""A regular file: what a full disk, a rotation, a crash and a neighbour with bad intentions do to it."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audito.errors import SinkError
from audito.sinks.file import FileSink, truncate_torn_line
from tests.sinks.events import event, events

is_root = os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="needs root")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.log"


@pytest.fixture
def sink(path: Path) -> Iterator[FileSink]:
    sink = FileSink(path)
    sink.open()
    yield sink
    sink.close()


def write(sink: FileSink, data: bytes) -> int:
    return sink.write(memoryview(data))


# -- opening


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_u28_is_created_0640_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        sink = FileSink(path)
        sink.open()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    sink.close()


def test_the_mode_of_a_file_that_is_there_is_its_owners(path: Path) -> None:
    path.touch(0o604)
    path.chmod(0o604)
    sink = FileSink(path)
    sink.open()
    sink.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_what_is_there_is_appended_to(path: Path) -> None:
    path.write_bytes(event(1))
    sink = FileSink(path)
    sink.open()
    write(sink, event(2))
    sink.close()
    assert path.read_bytes() == event(1) + event(2)


def make_link(path: Path) -> None:
    (path.parent / "victim").write_bytes(b"precious\n")
    path.symlink_to(path.parent / "victim")


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def make_second_name(path: Path) -> None:
    (path.parent / "victim").write_bytes(b"precious\n")
    os.link(path.parent / "victim", path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_link, "is a symbolic link, not a regular file"),
        (make_dangling_link, "is a symbolic link, not a regular file"),
        (make_second_name, "has 2 names"),
        (Path.mkdir, "is a directory, not a regular file"),
        (os.mkfifo, "is a named pipe, not a regular file"),
    ],
)
def test_u28_f30_only_a_plain_file_of_one_name_is_opened(path: Path, make: Callable[[Path], None], words: str) -> None:
    make(path)
    with pytest.raises(SinkError, match=f"{path}: {words}"):
        FileSink(path).open()
    victim = path.parent / "victim"
    assert not victim.exists() or victim.read_bytes() == b"precious\n"
    assert not (path.parent / "nowhere").exists()


@needs_root
def test_a_file_of_somebody_else_is_refused_unless_we_become_him(path: Path) -> None:
    path.touch()
    os.chown(path, 12345, 12345)
    with pytest.raises(SinkError, match="belongs to uid 12345"):
        FileSink(path).open()
    sink = FileSink(path, uid=12345, gid=12345)
    sink.open()
    sink.close()


@needs_root
def test_a_file_made_for_another_user_is_his(path: Path) -> None:
    sink = FileSink(path, uid=12345, gid=12346)
    sink.open()
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 12346, 0o640)
    sink.close()


def test_a_missing_directory_is_named(path: Path) -> None:
    with pytest.raises(SinkError, match="gone/out.log: No such file or directory"):
        FileSink(path.parent / "gone" / "out.log").open()


def test_a_relative_path_is_made_absolute_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = FileSink(Path("out.log"))
    monkeypatch.chdir("/")
    sink.open()
    sink.close()
    assert (tmp_path / "out.log").exists()


# -- directories on the way


def test_f30_a_directory_that_everybody_can_swap_is_refused(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    (loose / "inner").mkdir(parents=True)
    loose.chmod(0o777)
    sink = FileSink(loose / "inner" / "out.log")
    with pytest.raises(SinkError, match=f"{loose}: everybody can put anything in place of {loose}/inner"):
        sink.open()
    loose.chmod(0o1777)
    sink.open()
    sink.close()


def test_the_last_directory_may_be_open_to_all_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An emptyDir volume is 0777; in it only the file itself can be exchanged, and that is looked at."""
    tmp_path.chmod(0o777)
    sink = FileSink(tmp_path / "out.log")
    for _ in range(2):
        sink.open()
        sink.close()
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/out.log: {tmp_path} can be written to by everybody"
    ]


@needs_root
def test_f30_a_directory_of_somebody_else_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "his" / "inner").mkdir(parents=True)
    os.chown(tmp_path / "his", 12345, 12345)
    with pytest.raises(SinkError, match="his: belongs to uid 12345"):
        FileSink(tmp_path / "his" / "inner" / "out.log").open()


@needs_root
def test_f30_a_link_on_the_way_is_followed_only_where_nobody_else_can_make_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    sink = FileSink(tmp_path / "link" / "out.log")
    sink.open()
    sink.close()
    assert (tmp_path / "real" / "out.log").exists()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "trap").symlink_to(tmp_path / "real")
    os.lchown(shared / "trap", 12345, 12345)
    with pytest.raises(SinkError, match="everybody can put anything in place of .*/shared/trap"):
        FileSink(shared / "trap" / "out.log").open()
    loose = tmp_path / "loose"
    (loose / "inner").mkdir(parents=True)
    loose.chmod(0o777)
    (tmp_path / "way").symlink_to(loose / "inner")
    with pytest.raises(SinkError, match="loose: everybody can put anything in place of .*/loose/inner"):
        FileSink(tmp_path / "way" / "out.log").open()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SinkError, match=r"too many symbolic links|Too many levels"):
        FileSink(tmp_path / "a" / "out.log").open()


def test_f30_a_link_made_between_the_look_and_the_opening_is_not_followed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = path.parent / "victim"
    victim.write_bytes(b"precious\n")
    path.touch()
    sink = FileSink(path)
    look = sink._require_ours

    def swap_after(status: os.stat_result) -> None:
        monkeypatch.undo()
        look(status)
        path.unlink()
        path.symlink_to(victim)

    monkeypatch.setattr(sink, "_require_ours", swap_after)
    with pytest.raises(SinkError, match="symbolic link"):
        sink.open()
    assert victim.read_bytes() == b"precious\n"


@needs_root
def test_f30_nothing_is_written_outside_while_names_are_swapped(tmp_path: Path) -> None:
    """Somebody with write permission to the directory swaps the file for links and back, as fast as he can."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious\n")
    arena = tmp_path / "arena"
    arena.mkdir()
    arena.chmod(0o777)
    path = arena / "out.log"
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        swap(path, victim)
    try:
        refused = taken = 0
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            sink = FileSink(path)
            try:
                sink.open()
                taken += write(sink, event(taken))
                sink.poll()
            except SinkError:
                refused += 1
            sink.close()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert refused > 0
    assert taken > 0
    assert victim.read_bytes() == b"precious\n"


def swap(path: Path, victim: Path) -> None:
    spare = str(path.parent / "spare")
    while True:
        for make in (
            lambda: open(spare, "wb").close(),
            lambda: os.symlink(victim, spare),
            lambda: os.link(victim, spare),
        ):
            make()
            os.rename(spare, path)


# -- a torn last line


@pytest.mark.parametrize(
    ("before", "after", "cut"),
    [
        (b"", b"", 0),
        (event(1), event(1), 0),
        (event(1) + event(2)[:-1], event(1), len(event(2)) - 1),
        (event(1) + b"{", event(1), 1),
        (event(2)[:5], b"", 5),
        (event(1) + b"\0" * 300, event(1), 300),
        (event(1) + b'{"x":"' + b"y" * 200_000, event(1), 200_006),
        (b"host name", b"host name\n", 0),
        (event(1) + b"# note", event(1) + b"# note\n", 0),
    ],
)
def test_f01_a_torn_last_line_is_cut(path: Path, before: bytes, after: bytes, cut: int) -> None:
    path.write_bytes(before)
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    assert truncate_torn_line(fd) == cut
    os.close(fd)
    assert path.read_bytes() == after


def test_opening_cuts_and_goes_on(path: Path) -> None:
    path.write_bytes(event(1) + event(2)[:-4])
    sink = FileSink(path)
    sink.open()
    assert sink.position()["length"] == len(event(1))
    write(sink, event(2))
    sink.close()
    assert path.read_bytes() == event(1) + event(2)


# -- rotation


def test_u28_rotated_away_is_noticed_by_the_next_write(path: Path, sink: FileSink) -> None:
    write(sink, event(1))
    path.rename(f"{path}.1")
    write(sink, event(2))
    assert Path(f"{path}.1").read_bytes() == event(1)
    assert path.read_bytes() == event(2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_u28_rotated_away_is_noticed_by_a_poll(path: Path, sink: FileSink) -> None:
    write(sink, event(1))
    path.rename(f"{path}.1")
    path.touch(0o600)
    inode = path.stat().st_ino
    sink.poll()
    assert sink.position()["inode"] == inode
    assert sink.position()["length"] == 0
    path.unlink()
    sink.poll()
    assert path.exists()


def test_what_was_written_is_found_in_numbered_files_whatever_the_clock_said(path: Path, sink: FileSink) -> None:
    """After a checkpoint the clock was set back, and the output rotated twice: the newer file has the older time."""
    write(sink, event(1))
    sink.sync()
    position = sink.position()
    write(sink, event(2))
    path.rename(f"{path}.2")
    write(sink, event(3))
    path.rename(f"{path}.1")
    os.utime(f"{path}.1", (1_000_000_000, 1_000_000_000))
    Path(f"{path}.3").write_bytes(event(0))  # older by its number
    os.utime(f"{path}.3", (1_000_000_000, 1_000_000_000))
    other = FileSink(path)
    other.open()
    assert sorted(b"".join(other.since(position)).splitlines(keepends=True)) == sorted([event(2), event(3)])
    other.close()


def test_what_was_written_is_found_while_it_is_rotated(
    path: Path, sink: FileSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotated after a kill, and again while the old file is looked for: it has another name than was listed."""
    write(sink, event(1))
    sink.sync()
    position = sink.position()
    write(sink, event(2))
    path.rename(f"{path}.1")
    other = FileSink(path)
    other.open()
    real_lstat, looks = os.lstat, []

    def lstat(name: Path) -> os.stat_result:
        looks.append(name)
        if len(looks) == 2:  # the new one was looked at, the old one is the next
            path.with_name(path.name + ".1").rename(f"{path}.2")
            path.rename(f"{path}.1")
            path.touch(0o640)
        return real_lstat(name)

    monkeypatch.setattr(os, "lstat", lstat)
    assert b"".join(other.since(position)) == event(2)
    other.close()


def test_a_file_that_is_another_one_by_now_is_not_read_for_ours(
    path: Path, sink: FileSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotated between the look and the opening: that is tried again, and no other file's end is taken for ours."""
    write(sink, event(1))
    position = sink.position()
    path.rename(f"{path}.1")
    other = FileSink(path)
    other.open()
    real_open = os.open

    def rotate_and_open(name: Path, *args: int, **kwargs: int) -> int:
        monkeypatch.undo()
        path.with_name(path.name + ".1").rename(f"{path}.2")
        path.rename(f"{path}.1")
        return real_open(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", rotate_and_open)
    with pytest.raises(SinkError, match="is being rotated"):
        list(other.since(position))
    assert b"".join(other.since(position)) == event(1)
    other.close()


def test_f10_what_a_killed_process_wrote_is_in_doubt_and_is_written_again(
    path: Path, sink: FileSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync of it may have failed: the pages are clean then, and the next sync would report success."""
    write(sink, event(1))
    sink.sync()
    position = sink.position()
    write(sink, event(2))
    again: list[tuple[int, bytes]] = []
    synced: list[int] = []
    pwrite, fsync = os.pwrite, os.fsync
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: again.append((at, bytes(data))) or pwrite(fd, data, at))
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)) or fsync(fd))
    other = FileSink(path)
    other.open()
    assert b"".join(other.since(position)) == event(2)
    assert other.position() == position
    write(other, event(3))
    other.sync()
    assert again == [(len(event(1)), event(2) + event(3))]
    assert synced == [True], "the name may not be durable, either"
    assert other.position()["length"] == path.stat().st_size
    write(other, event(4))
    other.sync()
    assert path.read_bytes() == b"".join(map(event, (1, 2, 3, 4)))
    assert len(again) == len(synced) == 1
    other.close()


def test_reopen_goes_on_with_the_same_file(path: Path, sink: FileSink) -> None:
    write(sink, event(1))
    sink.reopen()
    write(sink, event(2))
    assert path.read_bytes() == event(1) + event(2)


def test_copied_and_emptied_goes_on_at_its_start(path: Path, sink: FileSink) -> None:
    write(sink, events(0, 10))
    os.truncate(path, 0)
    write(sink, event(10))
    assert path.read_bytes() == event(10)
    sink.sync()
    assert sink.position()["length"] == len(event(10))


def test_what_takes_the_name_must_be_a_file(path: Path, sink: FileSink) -> None:
    write(sink, event(1))
    path.rename(f"{path}.1")
    path.symlink_to(f"{path}.1")
    with pytest.raises(SinkError, match="is a symbolic link"):
        sink.poll()
    assert not sink.ready
    with pytest.raises(SinkError, match="is not open"):
        write(sink, event(2))
    path.unlink()
    sink.open()
    write(sink, event(2))
    assert path.read_bytes() == event(2)
    assert Path(f"{path}.1").read_bytes() == event(1)


# -- the position is what is durable


def test_the_length_is_what_was_synced(path: Path, sink: FileSink) -> None:
    status = path.stat()
    assert sink.position() == {"path": str(path), "dev": status.st_dev, "inode": status.st_ino, "length": 0}
    write(sink, event(1))
    assert sink.position()["length"] == 0
    sink.sync()
    assert sink.position()["length"] == len(event(1))


# -- a full disk


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """The kernel ends a write at this size and then refuses (EFBIG), which is as real as a full disk and needs no root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_u5_f09_what_does_not_fit_leaves_no_half_line(
    path: Path, sink: FileSink, file_limit: Callable[[int], None]
) -> None:
    data = events(0, 100)
    for size in (0, 1, 10, 500, 501, len(data) - 1):
        os.truncate(path, 0)
        file_limit(size)
        taken = write(sink, data)
        assert not sink.ready
        assert taken <= size
        assert path.read_bytes() == data[:taken]
        assert taken == 0 or data[:taken].endswith(b"\n")
        assert write(sink, data[taken:]) == 0
        file_limit(1 << 30)
        assert write(sink, data[taken:]) == len(data) - taken
        assert sink.ready
        assert path.read_bytes() == data


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", disk]
    if not is_root or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_f09_a_full_disk_pauses_and_goes_on(small_disk: Path) -> None:
    path = small_disk / "out.log"
    sink = FileSink(path)
    sink.open()
    data = events(0, 10_000, 300)
    view = memoryview(data)
    taken = 0
    rotated = b""
    rounds = 0
    while taken < len(data):
        count = sink.write(view[taken : taken + 100_000])
        taken += count
        if not sink.ready and count == 0:
            rounds += 1
            assert rounds < 20
            content = path.read_bytes()
            assert content.endswith(b"\n")
            sink.sync()
            assert sink.position()["length"] == len(content)
            for _ in range(3):
                assert sink.write(view[taken : taken + 100_000]) == 0
            rotated += content
            path.unlink()  # somebody makes room
    sink.close()
    assert rounds >= 2
    assert rotated + path.read_bytes() == data


def test_f09_no_room_even_for_the_name(small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
    sink = FileSink(small_disk / "out.log")
    sink.open()
    assert write(sink, event(1)) == 0
    (small_disk / "filler").unlink()
    assert write(sink, event(1)) == len(event(1))
    sink.close()
    assert (small_disk / "out.log").read_bytes() == event(1)


def test_f10_a_disk_made_read_only_is_an_error_that_ends(small_disk: Path) -> None:
    sink = FileSink(small_disk / "out.log")
    sink.open()
    write(sink, event(1))
    sink.close()
    remount = ["mount", "-o", "remount,{}", small_disk]
    subprocess.run([str(word).format("ro") for word in remount], check=True)
    with pytest.raises(SinkError, match="Read-only file system"):
        sink.open()
    subprocess.run([str(word).format("rw") for word in remount], check=True)
    sink.open()
    write(sink, event(2))
    sink.close()
    assert (small_disk / "out.log").read_bytes() == event(1) + event(2)
