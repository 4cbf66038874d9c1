"""What is left of a run when its supervisor is killed: the agent, its output, and no wrong word about its end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from plait.supervisor.control import GoneError, RefusedError
from plait.supervisor.runs import (
    Alive,
    Lost,
    NotStarted,
    adopt,
    control,
    read_output,
    start,
    status,
    stop,
    wait,
    write,
)
from tests.support.processes import (
    Bench,
    eventually_async,
    exit_of,
    fill,
    kill_supervisor,
    marked,
    output,
    python,
    record,
    state_of,
    supervisors_below,
)

LINES = """
import time
for number in range(400):
    print("line", number)
    time.sleep(0.002)
"""


async def test_the_agent_goes_on_and_writes_all_its_lines(bench: Bench) -> None:
    directory = await bench.started(*python(LINES))
    await output(directory, b"line 20\n")
    kill_supervisor(directory)
    assert status(directory) == Lost(agent_alive=True)
    await adopt(directory)
    assert status(directory) == Alive()
    ended = await exit_of(directory)
    assert read_output(directory, 0) == b"".join(b"line %d\n" % number for number in range(400))
    assert (ended.code, ended.signal, ended.unknown, ended.reason) == (None, None, True, "supervisor-lost")
    assert ended.output_bytes == len(read_output(directory, 0))
    bench.none_left()


async def test_who_waits_is_told_that_the_supervisor_is_lost(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    waiting = asyncio.create_task(wait(directory))
    await asyncio.sleep(0)
    kill_supervisor(directory)
    assert await asyncio.wait_for(waiting, 10) == Lost(agent_alive=True)


async def test_an_agent_that_ended_unseen_has_an_unknown_exit_and_no_leftovers(bench: Bench) -> None:
    script = "sleep 600 & (setsid sleep 601 &); echo up; read line; exit 3"
    directory = await bench.started("sh", "-c", script, stdin="fifo")
    await eventually_async(lambda: len(marked(bench.mark)) == 3)
    kill_supervisor(directory)
    agent = record(directory)["agent_pid"]
    with (directory / "input").open("wb", buffering=0) as file:
        file.write(b"\n")
    await eventually_async(lambda: state_of(agent) in ("", "Z"))
    assert status(directory) == Lost(agent_alive=False)
    await adopt(directory)
    ended = await exit_of(directory)
    assert (ended.code, ended.unknown, ended.reason) == (None, True, "supervisor-lost")
    bench.none_left()


async def test_an_adopted_run_can_be_talked_to_and_stopped(bench: Bench) -> None:
    directory = await bench.started(
        "sh", "-c", "(setsid sleep 600 &); while read line; do echo got $line; done", stdin="fifo"
    )
    await write(directory, "1", b"one\n")
    await output(directory, b"got one\n")
    kill_supervisor(directory)
    await adopt(directory)
    await write(directory, "1", b"one\n")
    await write(directory, "2", b"two\n")
    await output(directory, b"got two\n")
    assert read_output(directory, 0) == b"got one\ngot two\n"
    reached = await control(directory)
    assert (await reached.request("status"))["adopted"] is True
    await reached.close()
    await stop(directory, interrupt=False)
    ended = await exit_of(directory)
    assert (ended.code, ended.signal, ended.unknown, ended.reason) == (None, None, True, "stopped")
    bench.none_left()


async def test_the_input_of_an_adopted_run_can_be_closed(bench: Bench) -> None:
    directory = await bench.started("cat", stdin="fifo")
    kill_supervisor(directory)
    await adopt(directory)
    await write(directory, "1", b"to the end")
    reached = await control(directory)
    await reached.request("close-input")
    await exit_of(directory)
    assert read_output(directory, 0) == b"to the end"
    await reached.close()
    bench.none_left()


async def test_the_death_of_the_supervisor_is_no_end_of_input(bench: Bench) -> None:
    directory = await bench.started("sh", "-c", "cat; echo ended", stdin="fifo")
    kill_supervisor(directory)
    with (directory / "input").open("wb", buffering=0) as file:
        file.write(b"alone\n")
    await output(directory, b"alone\n")
    assert b"ended" not in read_output(directory, 0)
    assert status(directory) == Lost(agent_alive=True)


async def test_a_write_that_was_cut_off_is_called_uncertain(bench: Bench) -> None:
    directory = await bench.started("sleep", "600", stdin="fifo")
    writing = asyncio.create_task(write(directory, "big", bytes(300_000)))
    noted = directory / "input.ids"
    await eventually_async(lambda: noted.exists() and b"begun" in noted.read_bytes())
    kill_supervisor(directory)
    with pytest.raises(GoneError):
        await writing
    await adopt(directory)
    with pytest.raises(RefusedError, match="uncertain"):
        await write(directory, "big", bytes(300_000))


async def test_an_end_that_nobody_saw_is_recorded_even_on_a_full_disk(bench: Bench, disk: Path) -> None:
    directory = await bench.started("sh", "-c", "read line; exit 3", stdin="fifo", cwd=Path("/"))
    kill_supervisor(directory)
    fill(disk)
    with (directory / "input").open("wb", buffering=0) as file:
        file.write(b"\n")
    await eventually_async(lambda: status(directory) == Lost(agent_alive=False))
    await adopt(directory)
    ended = await exit_of(directory)
    assert (ended.code, ended.unknown) == (None, True)


async def test_a_supervisor_of_a_supervisor_can_be_lost_as_well(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    for _ in range(3):
        kill_supervisor(directory)
        assert status(directory) == Lost(agent_alive=True)
        await adopt(directory)
    await stop(directory)
    assert (await exit_of(directory)).unknown


async def test_starting_again_what_was_started_never_executes_twice(bench: Bench) -> None:
    directory = await bench.started("sh", "-c", "echo once; exec sleep 600")
    await output(directory, b"once\n")
    kill_supervisor(directory)
    await start(directory, bench.env)
    assert status(directory) == Alive()
    await stop(directory)
    assert (await exit_of(directory)).unknown
    await start(directory, bench.env)
    assert read_output(directory, 0) == b"once\n"


async def test_a_terminal_is_handed_on_to_the_next_supervisor(bench: Bench) -> None:
    directory = await bench.started("sh", "-c", "while read line; do echo got $line; done", pty=True)
    reached = await control(directory)
    master = await reached.terminal()
    await reached.close()
    kill_supervisor(directory)
    await adopt(directory, master)
    os.close(master)
    await write(directory, "1", b"hello\n")
    await output(directory, b"got hello\r\n")
    await write(directory, "2", b"\x04")
    assert (await exit_of(directory)).unknown
    bench.none_left()


async def test_after_a_reboot_nothing_is_signalled_and_that_is_the_reason(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    kill_supervisor(directory)
    found = record(directory)
    (directory / "supervisor.json").write_text(json.dumps({**found, "boot_id": "another"}))
    assert status(directory) == Lost(agent_alive=False)
    await adopt(directory)
    ended = await exit_of(directory)
    assert (ended.unknown, ended.reason) == (True, "reboot")
    assert state_of(found["agent_pid"]) == "S"


async def test_a_stranger_with_the_agents_number_is_left_alone(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    other = await bench.started("sleep", "600")
    kill_supervisor(directory)
    stranger = record(other)["agent_pid"]
    os.kill(record(directory)["agent_pid"], signal.SIGKILL)
    (directory / "supervisor.json").write_text(json.dumps({**record(directory), "agent_pid": stranger}))
    assert status(directory) == Lost(agent_alive=False)
    await adopt(directory)
    assert (await exit_of(directory)).unknown
    assert state_of(stranger) == "S"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"agent_pid": "x"}'])
async def test_a_damaged_record_costs_no_agent(bench: Bench, damage: bytes) -> None:
    directory = await bench.started("sh", "-c", "sleep 600 & wait")
    await eventually_async(lambda: len(marked(bench.mark)) == 2)
    agent = record(directory)["agent_pid"]
    kill_supervisor(directory)
    (directory / "supervisor.json").write_bytes(damage)
    assert isinstance(status(directory), Lost)
    await adopt(directory)
    assert status(directory) == Alive()
    reached = await control(directory)
    assert reached.agent_pid == agent
    await reached.close()
    await stop(directory)
    assert (await exit_of(directory)).unknown
    bench.none_left()


async def kill_at(bench: Bench, delay: float, number: int) -> str:
    """Start a run, kill -9 whatever supervises it after `delay` seconds, and look whether what is said is true."""
    said = bench.root / f"said-{number}"
    code = f"""
import os, time
with open({str(said)!r}, "wb", buffering=0) as file:
    file.write(b"executed")
for number in range(20):
    print("line", number)
    time.sleep(0.002)
os._exit(37)
"""
    directory = bench.prepared(*python(code))
    starting = asyncio.create_task(start(directory, bench.env))
    await asyncio.sleep(delay)
    victims = supervisors_below(directory)
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await asyncio.gather(starting, return_exceptions=True)
    await eventually_async(lambda: all(state_of(pid) in ("", "Z") for pid in victims))
    found = status(directory)
    if isinstance(found, NotStarted):
        assert not said.exists()
        return "not started"
    if isinstance(found, Lost):
        await adopt(directory)
    ended = await exit_of(directory)
    assert not (directory / "supervisor.log").exists()
    if ended.unknown:
        assert (ended.code, ended.signal, ended.reason) == (None, None, "supervisor-lost")
    else:
        assert (ended.code, ended.signal, ended.reason) == (37, None, "exited")
    if said.exists():
        assert read_output(directory, 0) == b"".join(b"line %d\n" % line for line in range(20))
    assert ended.output_bytes == len(read_output(directory, 0))
    assert marked(bench.mark) == []
    return "unknown" if ended.unknown else "exact"


async def kill_many(bench: Bench, count: int) -> dict[str, int]:
    seed = int(time.time())
    chance = random.Random(seed)
    print("seed", seed)
    counts = {"not started": 0, "unknown": 0, "exact": 0}
    for number in range(count):
        counts[await kill_at(bench, chance.uniform(0, 0.3), number)] += 1
    bench.none_left()
    return counts


async def test_a_supervisor_killed_at_any_moment_leaves_no_wrong_exit(bench: Bench) -> None:
    counts = await kill_many(bench, 20)
    assert sum(counts.values()) == 20
    assert counts["unknown"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_supervisor_killed_at_any_moment_leaves_no_wrong_exit_in_many_runs(bench: Bench) -> None:
    # PLAIT_CHAOS_KILLS=200 looks harder.
    counts = await kill_many(bench, int(os.environ.get("PLAIT_CHAOS_KILLS", "40")))
    print(counts)
    assert counts["unknown"] > 0
