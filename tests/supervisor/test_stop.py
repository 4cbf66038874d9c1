"""The kill ladder against processes that do not want to go."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from plait.errors import PlaitError
from plait.supervisor.runs import RunSpec, control, prepare, read_output, stop
from tests.support.processes import Bench, eventually_async, exit_of, marked, output, python, record, state_of

OBSTINATE = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: print("got", number))
print("ready")
while True:
    time.sleep(600)
"""

STORM = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    os.fork()
for _ in range(25):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(600)
    time.sleep(0.01)
time.sleep(600)
"""


async def test_an_agent_that_heeds_the_interrupt_gets_nothing_else(bench: Bench) -> None:
    code = OBSTINATE.replace(
        'lambda number, frame: print("got", number)', "lambda number, frame: os._exit(number + 100)"
    )
    directory = await bench.started(*python(code))
    await output(directory, b"ready")
    await stop(directory, grace_s=30)
    ended = await exit_of(directory)
    assert (ended.code, ended.signal, ended.unknown, ended.reason) == (102, None, False, "stopped")


async def test_the_interrupt_is_the_one_that_was_asked_for(bench: Bench) -> None:
    code = OBSTINATE.replace(
        'lambda number, frame: print("got", number)', "lambda number, frame: os._exit(number + 100)"
    )
    directory = await bench.started(*python(code), interrupt="TERM")
    await output(directory, b"ready")
    await stop(directory, grace_s=30)
    assert (await exit_of(directory)).code == 115


async def test_an_agent_that_ignores_all_is_killed_after_two_graces(bench: Bench) -> None:
    directory = await bench.started(*python(OBSTINATE))
    await output(directory, b"ready")
    began = time.monotonic()
    await stop(directory, grace_s=0.3)
    ended = await exit_of(directory)
    assert 0.3 < time.monotonic() - began < 5
    assert (ended.code, ended.signal, ended.reason) == (None, signal.SIGKILL, "stopped")
    assert b"got 2\n" in read_output(directory, 0)
    assert b"got 15\n" in read_output(directory, 0)


async def test_a_harder_stop_overtakes_a_gentle_one(bench: Bench) -> None:
    directory = await bench.started(*python(OBSTINATE))
    await output(directory, b"ready")
    await stop(directory, grace_s=600)
    await output(directory, b"got 2\n")
    await stop(directory, interrupt=False, grace_s=0)
    assert (await exit_of(directory)).signal == signal.SIGKILL


async def test_the_supervisors_own_term_is_a_stop(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        os.kill(record(directory)["pid"], number)
    os.kill(record(directory)["pid"], signal.SIGTERM)
    ended = await exit_of(directory)
    assert (ended.signal, ended.reason) == (signal.SIGINT, "stopped")


async def test_a_stopped_process_is_continued_so_that_it_can_end_properly(bench: Bench) -> None:
    code = OBSTINATE.replace('lambda number, frame: print("got", number)', "lambda number, frame: os._exit(3)")
    directory = await bench.started(*python(code))
    await output(directory, b"ready")
    pid = record(directory)["agent_pid"]
    os.kill(pid, signal.SIGSTOP)
    await eventually_async(lambda: state_of(pid) == "T")
    await stop(directory, interrupt=False, grace_s=30)
    assert (await exit_of(directory)).code == 3


async def test_descendants_in_sessions_of_their_own_go_too(bench: Bench) -> None:
    code = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.setsid()
        os.execve("/bin/sleep", ["sleep", "600"], {"PLAIT_TEST": os.environ["PLAIT_TEST"]})
print("ready")
time.sleep(600)
"""
    directory = await bench.started(*python(code))
    await eventually_async(lambda: len(marked(bench.mark)) == 6)
    await stop(directory)
    assert (await exit_of(directory)).reason == "stopped"
    bench.none_left()


async def test_a_fork_storm_that_ignores_term_leaves_nothing(bench: Bench) -> None:
    directory = await bench.started(*python(STORM))
    await eventually_async(lambda: len(marked(bench.mark)) > 30, 20)
    began = time.monotonic()
    await stop(directory, interrupt=False, grace_s=0.2)
    ended = await exit_of(directory)
    assert time.monotonic() - began < 8
    assert (ended.signal, ended.error) == (signal.SIGKILL, None)
    bench.none_left()


async def test_a_paused_run_stands_still_and_goes_on(bench: Bench) -> None:
    directory = await bench.started("sh", "-c", "sleep 600 & sleep 601; true")
    await eventually_async(lambda: len(marked(bench.mark)) == 3)
    reached = await control(directory)
    await reached.request("pause")
    await eventually_async(lambda: {state_of(pid) for pid in marked(bench.mark)} == {"T"})
    assert (await reached.request("status"))["paused"] is True
    await reached.request("continue")
    await eventually_async(lambda: {state_of(pid) for pid in marked(bench.mark)} == {"S"})
    await reached.request("pause")
    await stop(directory)
    assert (await exit_of(directory)).reason == "stopped"
    await reached.close()


async def test_stopping_what_has_ended_changes_nothing(bench: Bench) -> None:
    directory, ended = await bench.ended("sh", "-c", "exit 3")
    await stop(directory)
    assert await exit_of(directory) == ended


async def test_stopping_what_never_began_says_so(tmp_path: Path) -> None:
    prepare(tmp_path / "1", RunSpec("r", ("true",), tmp_path))
    with pytest.raises(PlaitError, match="never started"):
        await stop(tmp_path / "1")


async def test_nobody_outside_the_run_is_touched(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    other = await bench.started("sleep", "600")
    await stop(directory)
    await exit_of(directory)
    assert state_of(record(other)["agent_pid"]) == "S"
    await stop(other)
    await exit_of(other)
