"""The output when something goes wrong that no sink tells of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from audito.health import Health
from audito.output import Output
from audito.sinks.file import FileSink
from audito.watch import Complaints


def test_an_error_that_nobody_foresaw_stops_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events"
    freed: list[bool] = []
    sink = FileSink(path)
    output = Output(sink, Health(dict), Complaints(), lambda: freed.append(True))

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
