"""An error stream that is kept apart: where it goes, with which rights, and what survives."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest

from plait.errors import PlaitError, StorageError
from plait.supervisor.runs import Alive, Lost, adopt, read_errors, read_output, start, status, write
from tests.support.processes import Bench, eventually_async, exit_of, output, record

BOTH = ("sh", "-c", "echo out; echo err >&2; echo out again")


async def test_an_error_stream_apart_never_mixes_with_the_output(bench: Bench) -> None:
    directory, ended = await bench.ended(*BOTH, stderr="apart")
    assert read_output(directory, 0) == b"out\nout again\n"
    assert read_errors(directory) == b"err\n"
    assert ended.output_bytes == len(b"out\nout again\n")
    assert stat.S_IMODE((directory / "errors.log").stat().st_mode) == 0o600


async def test_by_default_errors_are_part_of_the_output(bench: Bench) -> None:
    directory, _ = await bench.ended(*BOTH)
    assert read_output(directory, 0) == b"out\nerr\nout again\n"
    assert not (directory / "errors.log").exists()
    assert read_errors(directory) == b""


async def test_a_run_prepared_before_there_was_a_choice_goes_on_as_it_did(bench: Bench) -> None:
    directory = bench.prepared(*BOTH)
    intent = json.loads((directory / "run.json").read_bytes())
    assert intent.pop("stderr") == "output"
    (directory / "run.json").write_text(json.dumps(intent))
    await start(directory, bench.env)
    assert (await exit_of(directory)).code == 0
    assert read_output(directory, 0) == b"out\nerr\nout again\n"


async def test_a_damaged_choice_is_refused_before_anything_runs(bench: Bench) -> None:
    directory = bench.prepared(*BOTH)
    intent = json.loads((directory / "run.json").read_bytes())
    (directory / "run.json").write_text(json.dumps({**intent, "stderr": "elsewhere"}))
    with pytest.raises(PlaitError, match="damaged"):
        await start(directory, bench.env)
    assert read_output(directory, 0) == b""


async def test_with_a_terminal_there_is_one_stream_only(bench: Bench) -> None:
    directory, _ = await bench.ended(*BOTH, stderr="apart", pty=True)
    assert read_output(directory, 0) == b"out\r\nerr\r\nout again\r\n"
    assert read_errors(directory) == b""


async def test_errors_go_on_after_the_supervisor_was_killed_and_replaced(bench: Bench) -> None:
    script = 'echo one >&2; echo ready; while read line; do echo "$line" >&2; echo "read $line"; done'
    directory = await bench.started("sh", "-c", script, stdin="fifo", stderr="apart")
    await output(directory, b"ready\n")
    os.kill(record(directory)["pid"], signal.SIGKILL)
    await eventually_async(lambda: status(directory) == Lost(agent_alive=True))
    await adopt(directory)
    assert status(directory) == Alive()
    await write(directory, "w1", b"two\n")
    await output(directory, b"read two\n")
    assert read_errors(directory) == b"one\ntwo\n"


async def test_the_last_of_many_errors_is_what_is_read(bench: Bench) -> None:
    directory, _ = await bench.ended("sh", "-c", "seq 1 100000 >&2", stderr="apart")
    whole = "".join(f"{number}\n" for number in range(1, 100_001)).encode()
    assert (directory / "errors.log").read_bytes() == whole
    assert read_errors(directory, 17) == whole[-17:]
    assert read_errors(directory, len(whole) + 1) == whole


def test_errors_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    assert read_errors(tmp_path / "none") == b""
    (tmp_path / "errors.log").mkdir()
    with pytest.raises(StorageError, match=r"errors\.log"):
        read_errors(tmp_path)
