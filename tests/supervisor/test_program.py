"""One run from its start to its end by itself: what is executed, what is recorded, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from plait.errors import PlaitError, StorageError
from plait.supervisor import program
from plait.supervisor.runs import (
    Alive,
    Exit,
    NotStarted,
    RunSpec,
    control,
    prepare,
    read_output,
    start,
    status,
    stop,
    write,
)
from tests.support.processes import (
    Bench,
    descriptors,
    eventually,
    eventually_async,
    exit_of,
    fill,
    marked,
    output,
    proc,
    python,
    record,
)


@pytest.mark.parametrize("code", [0, 1, 42, 255])
async def test_the_exit_code_is_exact(bench: Bench, code: int) -> None:
    _, ended = await bench.ended("sh", "-c", f"exit {code}")
    assert (ended.code, ended.signal, ended.unknown, ended.reason, ended.error) == (code, None, False, "exited", None)


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM"])
async def test_the_signal_is_exact(bench: Bench, name: str) -> None:
    _, ended = await bench.ended("sh", "-c", f"kill -{name} $$")
    assert (ended.code, ended.signal, ended.unknown, ended.reason) == (
        None,
        signal.Signals[f"SIG{name}"],
        False,
        "exited",
    )


async def test_a_missing_program_is_named_and_recorded(bench: Bench) -> None:
    directory = bench.prepared("no-such-agent", "--help")
    with pytest.raises(PlaitError, match="no-such-agent: No such file or directory"):
        await start(directory, bench.env)
    found = status(directory)
    assert isinstance(found, Exit)
    assert (found.code, found.signal, found.unknown, found.reason) == (None, None, False, "exec-failed")
    assert found.error == "No such file or directory: no-such-agent"


async def test_a_program_that_may_not_be_executed_says_so(bench: Bench) -> None:
    script = bench.root / "agent"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(PlaitError, match="Permission denied"):
        await bench.started(str(script))


async def test_a_missing_working_directory_is_named(bench: Bench) -> None:
    with pytest.raises(PlaitError, match=r"working directory .*/gone"):
        await bench.started("true", cwd=bench.root / "gone", stdin="fifo")
    bench.none_left()


async def test_a_program_is_never_found_in_the_working_directory(bench: Bench) -> None:
    trap = bench.root / "agent"
    trap.write_text("#!/bin/sh\necho trapped\n")
    trap.chmod(0o755)
    for path in (".", "", "relative:.:", f"{bench.root.name}"):
        directory = bench.prepared("agent")
        with pytest.raises(PlaitError, match="No such file"):
            await start(directory, {**bench.env, "PATH": path})
        assert read_output(directory, 0) == b""


async def test_binary_output_without_a_last_newline_arrives_whole(bench: Bench) -> None:
    code = """
import sys
for j in range(80):
    sys.stdout.buffer.write(bytes((i * 7 + j) % 256 for i in range(1 << 10)) * 64)
sys.stdout.buffer.write(b'end')
"""
    directory, ended = await bench.ended(*python(code))
    expected = b"".join(bytes((i * 7 + j) % 256 for i in range(1 << 10)) * 64 for j in range(80)) + b"end"
    assert ended.output_bytes == len(expected) == 5_242_883
    written = (directory / "output.log").read_bytes()
    assert hashlib.sha256(written).digest() == hashlib.sha256(expected).digest()
    assert read_output(directory, 5_242_880) == b"end"
    assert read_output(directory, 5_242_883) == b""
    assert len(read_output(directory, 0, 1000)) == 1000


async def print_then_exit(bench: Bench, count: int) -> None:
    for number in range(count):
        directory, ended = await bench.ended("sh", "-c", f"printf 'last words {number}'; exit {number % 256}")
        assert (ended.code, ended.output_bytes) == (number % 256, len(f"last words {number}"))
        assert read_output(directory, 0) == f"last words {number}".encode()
    bench.none_left()


async def test_print_then_exit_loses_nothing(bench: Bench) -> None:
    await print_then_exit(bench, 20)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_print_then_exit_loses_nothing_in_three_hundred_runs(bench: Bench) -> None:
    await print_then_exit(bench, 300)


async def test_both_streams_are_one_in_the_order_of_writing(bench: Bench) -> None:
    directory, _ = await bench.ended("sh", "-c", "echo a; echo b >&2; echo c")
    assert read_output(directory, 0) == b"a\nb\nc\n"


@pytest.mark.parametrize("more", [{}, {"stdin": "fifo"}, {"pty": True}])
async def test_the_agent_has_three_descriptors_a_clean_slate_and_its_own_session(
    bench: Bench, more: dict[str, object]
) -> None:
    inherited = os.open(bench.root, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    umask = os.umask(0o027)
    try:
        directory = await bench.started("sleep", "600", **more)
    finally:
        os.umask(umask)
        os.close(inherited)
    pid = record(directory)["agent_pid"]
    assert sorted(descriptors(pid)) == [0, 1, 2]
    fields = dict(line.split(":\t", 1) for line in proc(pid, "status").decode().splitlines() if ":\t" in line)
    # Above 31 are the real-time signals, of which the C library keeps some for itself.
    blocked, ignored, caught = (int(fields[name], 16) & 0x7FFFFFFF for name in ("SigBlk", "SigIgn", "SigCgt"))
    assert blocked == ignored == caught == 0
    assert fields["Umask"] == "0027"
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert cwd(pid) == str(bench.root)
    await stop(directory, interrupt=False)
    assert (await exit_of(directory)).signal == signal.SIGTERM


async def test_the_supervisor_holds_nothing_of_its_starter(bench: Bench) -> None:
    inherited = os.open(bench.root, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    directory = await bench.started("sleep", "600")
    os.close(inherited)
    pid = record(directory)["pid"]
    held = list(descriptors(pid).values())
    assert str(bench.root) not in held
    assert [name for name in held if name.startswith("/") and not name.startswith(str(directory))] == ["/dev/null"] * 3
    assert cwd(pid) == "/"
    assert os.getsid(pid) == pid


async def test_no_file_is_open_to_others_and_no_value_of_the_environment_is_on_disk(bench: Bench) -> None:
    canary = f"canary-{bench.mark}"
    bench.env["AGENT_TOKEN"] = canary
    umask = os.umask(0)
    try:
        directory = await bench.started("sh", "-c", 'test "$AGENT_TOKEN" && echo present; sleep 600', stdin="fifo")
    finally:
        os.umask(umask)
    await output(directory, b"present\n")
    supervisor = record(directory)["pid"]
    for name in ("environ", "cmdline"):
        assert canary.encode() not in proc(supervisor, name)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    await stop(directory)
    await exit_of(directory)
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path


async def test_environment_values_that_are_no_utf8_arrive_unchanged(bench: Bench) -> None:
    bench.env["ODD"] = os.fsdecode(b"a\xff\xfe\n=z")
    directory, _ = await bench.ended("sh", "-c", 'printf %s "$ODD"')
    assert read_output(directory, 0) == b"a\xff\xfe\n=z"


async def test_the_end_of_the_agent_is_the_end_of_all_its_processes(bench: Bench) -> None:
    code = """
import os, time
for escape in (False, True):
    if os.fork() == 0:
        if escape:
            os.setsid()
            if os.fork():
                os._exit(0)
        time.sleep(600)
time.sleep(0.2)
print("leaving")
os._exit(7)
"""
    directory, ended = await bench.ended(*python(code))
    assert (ended.code, ended.reason) == (7, "exited")
    assert read_output(directory, 0) == b"leaving\n"
    bench.none_left()


async def test_what_was_prepared_outlives_the_installation(bench: Bench, tmp_path: Path) -> None:
    directory = await bench.started("sh", "-c", "read line; echo $line; exit 5", stdin="fifo")
    (directory / "program.py").unlink()
    (directory / "program.pyc").unlink()
    await write(directory, "1", b"still here\n")
    ended = await exit_of(directory)
    assert ended.code == 5
    assert read_output(directory, 0) == b"still here\n"


async def test_a_path_of_three_hundred_bytes_works_for_everything(bench: Bench) -> None:
    bench.root = bench.root / ("x" * 150) / ("y" * 150)
    bench.root.mkdir(parents=True)
    directory = await bench.started("sleep", "600", stdin="fifo")
    await stop(directory)
    assert (await exit_of(directory)).signal == signal.SIGINT


async def test_a_run_that_takes_too_long_is_ended_as_such(bench: Bench) -> None:
    _, ended = await bench.ended("sleep", "600", timeout_s=0.3, interrupt=None)
    assert (ended.signal, ended.reason) == (signal.SIGTERM, "timeout")


async def test_the_supervisor_is_small_and_imports_nothing_after_the_start(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    pid = record(directory)["pid"]
    resident = int(proc(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident < 14 << 20
    assert b"_asyncio" not in proc(pid, "maps")


def cwd(pid: int) -> str:
    return str(Path(f"/proc/{pid}/cwd").readlink())


@pytest.mark.parametrize("pty", [False, True])
async def test_a_full_disk_delays_the_record_and_loses_neither_agent_nor_exit(
    bench: Bench, disk: Path, pty: bool
) -> None:
    go = bench.root.parent / "go"
    os.mkfifo(go)
    script = f"read line <{go}; i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo 0123456789; done 2>/dev/null; exit 9"
    directory = await bench.started("sh", "-c", script, pty=pty, cwd=Path("/"))
    ballast = fill(disk)
    unblock(go)
    await eventually_async(lambda: not marked(bench.mark))
    await eventually_async(lambda: not (directory / "reserve").exists())
    ended = await exit_of(directory)
    assert (ended.code, ended.unknown, ended.reason) == (9, False, "exited")
    assert ended.output_bytes == len(read_output(directory, 0)) < 5000 * 11
    assert (ended.error is not None and "disk is full" in ended.error) or not pty
    assert ballast.stat().st_size > 300_000


async def test_a_record_that_finds_no_room_is_written_when_there_is_some(bench: Bench, disk: Path) -> None:
    directory = await bench.started("sh", "-c", "read line; exit 9", stdin="fifo", cwd=Path("/"))
    (directory / "reserve").unlink()
    ballast = fill(disk)
    unblock(directory / "input")
    await eventually_async(lambda: not marked(bench.mark))
    reached = await control(directory)
    assert (await reached.request("status"))["alive"] is False
    assert status(directory) == Alive()
    ballast.unlink()
    assert (await exit_of(directory)).code == 9
    await reached.close()


async def test_no_room_to_begin_with_is_said_and_starts_nothing(bench: Bench, disk: Path) -> None:
    directory = bench.prepared("sh", "-c", "echo started")
    ballast = fill(disk)
    with pytest.raises(StorageError, match="No space left"):
        await start(directory, bench.env)
    assert status(directory) == NotStarted()
    ballast.unlink()
    await start(directory, bench.env)
    assert (await exit_of(directory)).code == 0
    assert read_output(directory, 0) == b"started\n"


def unblock(fifo: Path) -> None:
    with fifo.open("wb", buffering=0) as file:
        file.write(b"go\n")


def test_a_damaged_intent_is_an_answer_and_no_traceback(tmp_path: Path) -> None:
    prepare(tmp_path / "1", RunSpec("r", ("true",), tmp_path))
    for damage in (b"", b"[]", b"{}", b'{"argv": 3}', b"\xff", b'{"argv": [], "size": []}'):
        (tmp_path / "1" / "run.json").write_bytes(damage)
        argv = [sys.executable, "-I", "-S", "-E", str(tmp_path / "1" / "program.py"), str(tmp_path / "1")]
        told = subprocess.run(argv, input=b"{}", capture_output=True, check=False)
        assert json.loads(told.stdout)["ok"] is False
        assert (told.returncode, told.stderr) == (1, b"")
        assert status(tmp_path / "1") == NotStarted()


def test_a_listing_of_macos_is_read() -> None:
    listing = "    1     0     1 Ss   Mon Nov 23 08:03:13 2026\n  812     1   812 Z    Mon Nov  2 18:03:13 2026    \n"
    table = program.parse_ps(listing)
    assert (table[812].parent, table[812].group, table[812].zombie) == (1, 812, True)
    assert table[1].ticks - table[812].ticks == 20 * 86400 + 14 * 3600
    assert not table[1].zombie


def test_a_signal_reaches_only_the_very_process() -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        found = program.process_of(child.pid)
        assert found is not None
        program.send(program.Process(found.pid, 0, 0, found.ticks - 1, False), signal.SIGKILL)
        assert child.poll() is None
        assert program.is_alive(found.pid, found.ticks)
        program.send(found, signal.SIGKILL)
        eventually(lambda: not program.is_alive(found.pid, found.ticks))
        assert program.identity_or_none(child.pid) == found.ticks
    finally:
        child.kill()
        child.wait()
    program.send(found, signal.SIGKILL)
