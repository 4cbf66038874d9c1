"""The daemon's side: intents, states, two starters, damaged records."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path

import pytest

from plait.errors import PlaitError, StorageError
from plait.supervisor import program
from plait.supervisor.control import GoneError
from plait.supervisor.runs import (
    Alive,
    Exit,
    Lost,
    NotStarted,
    RunSpec,
    adopt,
    control,
    prepare,
    read_output,
    start,
    status,
    stop,
    wait,
)
from tests.support.processes import (
    Bench,
    descriptors,
    eventually_async,
    exit_of,
    output,
    record,
    state_of,
    supervisor_gone,
)


async def test_a_run_goes_through_its_states(bench: Bench) -> None:
    assert status(bench.root / "none") == NotStarted()
    directory = bench.prepared("sh", "-c", "read line; exit 2", stdin="fifo")
    assert status(directory) == NotStarted()
    await start(directory, bench.env)
    assert status(directory) == Alive()
    await stop(directory, interrupt=False)
    ended = await exit_of(directory)
    assert status(directory) == ended
    assert await wait(directory) == ended


def test_preparing_again_changes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "1"
    prepare(directory, RunSpec("r-1", ("first",), tmp_path))
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    prepare(directory, RunSpec("r-1", ("second",), tmp_path))
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert before["program.py"] == Path(program.__file__).read_bytes()
    assert json.loads(before["run.json"])["argv"] == ["first"]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/1"):
        prepare(tmp_path / "file" / "1", RunSpec("r", ("true",), tmp_path))


async def test_of_many_starters_one_wins_and_nobody_sees_an_error(bench: Bench) -> None:
    directory = bench.prepared("sh", "-c", "echo once; exec sleep 600")
    await asyncio.gather(*(start(directory, bench.env) for _ in range(8)))
    assert status(directory) == Alive()
    await output(directory, b"once\n")
    assert state_of(record(directory)["agent_pid"]) == "S"
    await stop(directory)
    assert (await exit_of(directory)).reason == "stopped"
    assert read_output(directory, 0) == b"once\n"


async def test_of_many_starters_all_hear_of_a_failure(bench: Bench) -> None:
    directory = bench.prepared("no-such-agent")
    results = await asyncio.gather(*(start(directory, bench.env) for _ in range(4)), return_exceptions=True)
    assert ["no-such-agent" in str(result) for result in results] == [True] * 4
    assert all(isinstance(result, PlaitError) for result in results)


async def test_asking_for_the_status_never_keeps_a_run_from_starting(bench: Bench) -> None:
    directory = bench.prepared("sh", "-c", "exit 4")
    starting = asyncio.create_task(start(directory, bench.env))
    seen = set()
    while not starting.done():
        seen.add(type(status(directory)))
        await asyncio.sleep(0)
    await starting
    assert seen <= {NotStarted, Alive, Exit}
    assert (await exit_of(directory)).code == 4


async def test_a_stop_during_the_start_is_heeded(bench: Bench) -> None:
    for _ in range(5):
        directory = bench.prepared("sleep", "600")
        starting = asyncio.create_task(start(directory, bench.env))
        await eventually_async(lambda: status(directory) != NotStarted())  # noqa: B023 - awaited at once
        await stop(directory)
        await starting
        assert (await exit_of(directory)).reason == "stopped"
    bench.none_left()


async def test_adopting_what_is_in_good_hands_changes_nothing(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    before = record(directory)
    await adopt(directory)
    assert record(directory) == before
    await stop(directory)
    assert not (await exit_of(directory)).unknown


async def test_a_python_that_cannot_be_executed_is_named(bench: Bench) -> None:
    directory = bench.prepared("true")
    with pytest.raises(PlaitError, match="/no/python"):
        await start(directory, bench.env, python="/no/python")
    assert status(directory) == NotStarted()
    with pytest.raises(PlaitError, match="died while starting"):
        await start(directory, bench.env, python="/bin/false")


async def test_without_a_supervisor_there_is_no_control(bench: Bench) -> None:
    directory = bench.prepared("true")
    with pytest.raises(GoneError, match="cannot be reached"):
        await control(directory)
    with pytest.raises(PlaitError, match="never started"):
        await wait(directory)


async def test_a_damaged_exit_is_moved_aside_and_never_guessed_from(bench: Bench) -> None:
    directory, ended = await bench.ended("sh", "-c", "exit 3")
    await eventually_async(lambda: supervisor_gone(directory))
    whole = (directory / "exit.json").read_bytes()
    chance = random.Random(5)
    damages = [b"", b"{}", b"null", whole[:-9], b"\0" * len(whole), b"[" * 100_000]
    damages += [whole[: chance.randrange(len(whole) - 2)] for _ in range(20)]
    damages += [whole.replace(b'"code": 3', b'"code": "3"'), whole.replace(b'"code": 3', b'"code": true')]
    damages += [whole.replace(b'"code": 3', b'"code": null'), whole.replace(b'"signal": null', b'"signal": 9')]
    for number, damage in enumerate(damages, 1):
        (directory / "exit.json").write_bytes(damage)
        assert status(directory) == Lost(agent_alive=False), damage
        assert (directory / f"exit.json.torn-{number}").read_bytes() == damage
    await adopt(directory)
    again = await exit_of(directory)
    assert (again.code, again.unknown, again.reason) == (None, True, "supervisor-lost")
    assert again.output_bytes == ended.output_bytes


def test_output_that_is_not_there_is_empty_and_one_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    assert read_output(tmp_path, 0) == b""
    (tmp_path / "output.log").mkdir()
    with pytest.raises(StorageError, match=r"output\.log"):
        read_output(tmp_path, 0)


async def test_ended_supervisors_leave_neither_zombies_nor_descriptors(bench: Bench) -> None:
    directory, _ = await bench.ended("true")
    before = descriptors(os.getpid())
    pids = []
    for _ in range(5):
        directory, _ = await bench.ended("true")
        pids.append(record(directory)["pid"])
    await eventually_async(lambda: status(directory) and [state_of(pid) for pid in pids] == [""] * 5)
    assert descriptors(os.getpid()).keys() == before.keys()


async def test_a_compiled_program_of_another_python_is_passed_over_for_the_source(bench: Bench) -> None:
    directory = bench.prepared("sh", "-c", "exit 6")
    (directory / "program.pyc").write_bytes(b"other magic and code")
    await start(directory, bench.env)
    assert (await exit_of(directory)).code == 6
