"""The control socket with well-behaved clients, hostile ones and ones from other times."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import struct
import termios
from pathlib import Path

import pytest

from plait.connect import connect
from plait.supervisor.control import GoneError, RefusedError
from plait.supervisor.runs import control, read_output, start, stop, wait, write
from tests.support.processes import Bench, eventually_async, exit_of, fork, output, python, record


def raw(directory: Path, *lines: bytes) -> list[dict[str, object]]:
    """All that a supervisor answers to bytes from a client that then stops sending."""
    with connect(directory / "control") as peer:
        peer.settimeout(10)
        for line in lines:
            peer.sendall(line)
        peer.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := peer.recv(65536):
            answer += piece
    return [json.loads(line) for line in answer.splitlines()]


HELLO = b'{"hello": {"versions": [1, 99]}}\n'


async def test_the_greeting_names_the_run_and_the_version(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    reached = await control(directory)
    assert (reached.version, reached.run) == (1, f"{bench.mark}-1")
    assert reached.agent_pid == record(directory)["agent_pid"]
    await reached.close()


async def test_supervisors_of_other_versions_are_understood_or_refuse(bench: Bench) -> None:
    for versions, agreed in (([1, 2], 1), ([2, 3], None)):
        directory = bench.prepared("sleep", "600")
        (directory / "program.pyc").unlink()
        program = directory / "program.py"
        program.write_text(program.read_text().replace("WIRE_VERSIONS = [1]", f"WIRE_VERSIONS = {versions}"))
        await start(directory, bench.env)
        if agreed:
            reached = await control(directory)
            assert reached.version == agreed
            await reached.close()
            await stop(directory)
        else:
            with pytest.raises(RefusedError, match=r"no common version; this supervisor speaks \[2, 3\]"):
                await control(directory)
            waiting = asyncio.create_task(wait(directory))
            os.kill(record(directory)["pid"], signal.SIGTERM)
            # Its records are still understood.
            assert (await waiting) == await exit_of(directory)
        assert (await exit_of(directory)).reason == "stopped"


MALFORMED = [
    b"\n",
    b"nonsense\n",
    b"[]\n",
    b"{}\n",
    b'"x"\n',
    b"\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b'{"op": "no-such-op", "seq": 7}\n',
    b'{"op": ["stop"]}\n',
    b'{"op": "stop", "grace_s": "soon"}\n',
    b'{"op": "stop", "grace_s": -1}\n',
    b'{"op": "stop", "grace_s": NaN}\n',
    b'{"op": "write"}\n',
    b'{"op": "write", "id": 3, "data": ""}\n',
    b'{"op": "write", "id": "x", "data": "*"}\n',
    b'{"op": "signal", "name": "NONE"}\n',
    b'{"op": "signal", "name": 9}\n',
    b'{"op": "resize", "rows": 1, "columns": 1}\n',
    b'{"op": "pty"}\n',
    b'{"op": "close-input"}\n',
]


async def test_no_malformed_request_ends_the_supervisor(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    for line in MALFORMED:
        answers = await asyncio.to_thread(raw, directory, HELLO, line, b'{"op": "status", "seq": 1}\n')
        assert [("hello" in answer, answer.get("ok")) for answer in answers] == [
            (True, None),
            (False, False),
            (False, True),
        ], line
        (refused,) = await asyncio.to_thread(raw, directory, line)
        assert refused["ok"] is False
    for line in (b"x" * (3 << 20), b"x" * (3 << 20) + b"\n"):
        with pytest.raises(ConnectionError):
            await asyncio.to_thread(raw, directory, HELLO, line)
    for _ in range(50):
        connect(directory / "control").close()
    await stop(directory)
    assert (await exit_of(directory)).signal == signal.SIGINT
    assert not (directory / "supervisor.log").exists()


async def test_another_user_cannot_connect(bench: Bench) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    directory = await bench.started("sleep", "600")
    # Even with all directories and the socket laid open, the supervisor itself looks who comes.
    (directory / "control").chmod(0o666)
    name = os.open(directory / "control", os.O_PATH)
    child = fork()
    if child == 0:
        os.setgroups([])
        os.setuid(65534)
        try:
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(f"/proc/self/fd/{name}")
            peer.sendall(HELLO)
            os._exit(10 if peer.recv(10) == b"" else 11)
        except (ConnectionError, PermissionError):
            os._exit(10)
        finally:
            os._exit(12)
    os.close(name)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 10
    await (await control(directory)).close()


async def test_what_is_written_twice_arrives_once(bench: Bench) -> None:
    directory = await bench.started("cat", stdin="fifo")
    await asyncio.gather(*(write(directory, "a", b"one\n") for _ in range(5)))
    await write(directory, "b", b"two\n")
    await write(directory, "a", b"never\n")
    reached = await control(directory)
    await reached.request("close-input")
    assert (await exit_of(directory)).code == 0
    assert read_output(directory, 0) == b"one\ntwo\n"
    await reached.close()


async def test_two_megabytes_arrive_whole_and_the_end_after_them(bench: Bench) -> None:
    directory = await bench.started("sh", "-c", "cat; sleep 600", stdin="fifo")
    data = bytes(range(256)) * 8192
    writing = asyncio.create_task(write(directory, "big", data))
    await output(directory, data[:1000])
    await writing
    reached = await control(directory)
    await reached.request("close-input")
    with pytest.raises(RefusedError, match="no open input"):
        await reached.request("write", id="late", data="")
    await reached.close()
    await eventually_async(lambda: len(read_output(directory, 0, 4 << 20)) == len(data))
    assert read_output(directory, 0, 4 << 20) == data


async def test_an_agent_that_does_not_read_holds_up_nobody_else(bench: Bench) -> None:
    directory = await bench.started("sleep", "600", stdin="fifo")
    waiting = asyncio.create_task(write(directory, "big", bytes(1 << 20)))
    reached = await control(directory)
    for _ in range(20):
        assert (await reached.request("status"))["alive"] is True
    assert not waiting.done()
    await stop(directory)
    await exit_of(directory)
    with pytest.raises((GoneError, RefusedError)):
        await waiting
    await reached.close()


async def test_an_agent_that_closes_its_input_is_no_place_to_write_to(bench: Bench) -> None:
    directory = await bench.started("sh", "-c", "exec <&-; echo closed; exec sleep 600", stdin="fifo")
    await output(directory, b"closed")
    with pytest.raises(RefusedError, match="closed its input"):
        await write(directory, "1", b"anybody?")


async def test_a_run_without_input_says_so(bench: Bench) -> None:
    directory = await bench.started("sleep", "600")
    with pytest.raises(RefusedError, match="no open input"):
        await write(directory, "1", b"x")


async def test_a_signal_reaches_the_agent(bench: Bench) -> None:
    code = "import os, signal, time; signal.signal(signal.SIGUSR1, lambda *_: os._exit(8)); print(1); time.sleep(600)"
    directory = await bench.started(*python(code))
    await output(directory, b"1\n")
    reached = await control(directory)
    await reached.request("signal", name="USR1")
    ended = await exit_of(directory)
    assert (ended.code, ended.reason) == (8, "exited")
    await reached.close()


async def test_a_terminal_is_one_and_has_its_size(bench: Bench) -> None:
    code = """
import os, signal, sys, time
signal.signal(signal.SIGWINCH, lambda *_: print("now", *os.get_terminal_size()))
print(*map(os.isatty, (0, 1, 2)), *os.get_terminal_size(), os.tcgetpgrp(0) == os.getpid())
while True:
    print("read", sys.stdin.readline().strip())
"""
    directory = await bench.started(*python(code), pty=True, size=(50, 111))
    await output(directory, b"True True True 111 50 True\r\n")
    reached = await control(directory)
    await reached.request("resize", rows=20, columns=70)
    await output(directory, b"now 70 20\r\n")
    await write(directory, "1", b"typed\n")
    await write(directory, "1", b"typed\n")
    await output(directory, b"read typed\r\n")
    await write(directory, "2", b"\x03")
    ended = await exit_of(directory)
    assert (ended.code, ended.signal) in ((None, signal.SIGINT), (1, None))
    assert read_output(directory, 0).count(b"read typed") == 1
    assert ended.output_bytes == len(read_output(directory, 0))
    await reached.close()


async def test_all_that_a_terminal_was_given_is_in_the_log(bench: Bench) -> None:
    code = "import os; os.write(1, b'') or [os.write(1, b'%07d' % n) for n in range(40_000)]; os._exit(6)"
    directory, ended = await bench.ended(*python(code), pty=True)
    assert ended.code == 6
    assert read_output(directory, 0) == b"".join(b"%07d" % n for n in range(40_000))


async def test_a_terminal_that_is_held_elsewhere_survives_the_supervisor(bench: Bench) -> None:
    directory = await bench.started("sh", "-c", "while read line; do echo got $line; done; exit 4", pty=True)
    reached = await control(directory)
    master = await reached.terminal()
    assert os.isatty(master)
    assert not os.get_inheritable(master)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
    os.kill(record(directory)["pid"], signal.SIGKILL)
    with pytest.raises(GoneError):
        await reached.request("status")
    os.set_blocking(master, True)
    os.write(master, b"after\n")
    seen = b""
    while b"got after" not in seen:
        seen += await asyncio.to_thread(os.read, master, 1000)
    await reached.close()
    os.close(master)


async def test_many_clients_are_told_of_the_end(bench: Bench) -> None:
    directory = await bench.started("sh", "-c", "read x; exit 3", stdin="fifo")
    waiting = [asyncio.create_task(wait(directory)) for _ in range(30)]
    reached = await control(directory)
    await reached.request("subscribe")
    await write(directory, "1", b"\n")
    assert (await reached.ended())["code"] == 3
    assert {await task for task in waiting} == {await exit_of(directory)}
    await eventually_async(lambda: not (directory / "control").exists())
    await reached.close()
