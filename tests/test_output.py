"""The output when something goes wrong that no sink tells of."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from audito.health import Health
from audito.output import Output
from audito.sinks.all import open_sink
from audito.sinks.file import FileSink
from audito.watch import Complaints


def test_an_error_that_nobody_foresaw_stops_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events"
    freed: list[bool] = []
    sink = FileSink(path)
    output = Output(lambda: sink, Health(dict), Complaints(), lambda: freed.append(True))

    def no_memory(data: memoryview) -> int:
        raise MemoryError

    async def run() -> None:
        output.open()
        output.offer(b"one\n")
        with monkeypatch.context() as patch:
            patch.setattr(sink, "write", no_memory)
            with pytest.raises(MemoryError):
                output.offer(b"two\n")
            with pytest.raises(MemoryError):
                output.poll()
            assert output.blocked
        output.poll()
        assert not output.blocked
        assert freed == [True]
        output.offer(b"three\n")

    asyncio.run(run())
    assert path.read_bytes() == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("clean", [True, False])
def test_a_pipe_that_could_not_be_looked_at_at_the_start_is_written_once_it_can(tmp_path: Path, clean: bool) -> None:
    path = tmp_path / "later" / "pipe"
    output = Output(lambda: open_sink(str(path)), Health(dict), Complaints(), lambda: None)

    async def run() -> bytes:
        output.open()
        output.go_on({}, b"kept\n", clean=clean)
        output.start()
        assert output.blocked
        path.parent.mkdir()
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            for _ in range(100):
                output.poll()
                if not output.blocked:
                    break
                await asyncio.sleep(0.05)
            output.offer(b"new\n")
            output.close()
            return os.read(reader, 100)
        finally:
            os.close(reader)

    # A killed process may have left half a line in it.
    assert asyncio.run(run()) == b"\n" * (not clean) + b"kept\nnew\n"
