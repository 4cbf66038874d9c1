"""Real processes for tests: marked, so that each test finds all of its own and nobody else's."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from plait.supervisor.runs import Exit, RunSpec, prepare, read_output, start, wait

MARK = "PLAIT_TEST"


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Return as soon as `condition` holds; fail if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.01)


async def eventually_async(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """As `eventually`, for conditions that tasks of this loop bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        await asyncio.sleep(0.01)


def marked(mark: str) -> list[int]:
    """The living processes that carry the mark in their environment."""
    return [pid for pid in _pids() if f"{MARK}={mark}".encode() in proc(pid, "environ").split(b"\0")]


def supervisors_below(directory: Path) -> list[int]:
    """The living supervisors and keepers of runs below `directory`."""
    program = os.fsencode(directory)
    return [
        pid
        for pid in _pids()
        if any(
            word.startswith(program) and word.endswith((b"/program.py", b"/program.pyc"))
            for word in proc(pid, "cmdline").split(b"\0")
        )
    ]


def state_of(pid: int) -> str:
    """The letter in /proc/<pid>/stat, or "" if there is no such process."""
    text = proc(pid, "stat")
    return text[text.rindex(b")") + 2 :][:1].decode() if text else ""


class Bench:
    """The runs of one test below one directory, with one mark."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = uuid.uuid4().hex
        self.env = {"PATH": os.environ["PATH"], MARK: self.mark}
        self.count = 0

    def prepared(self, *argv: str, **more: Any) -> Path:
        """The directory of a prepared run."""
        self.count += 1
        directory = self.root / f"{self.count}"
        prepare(directory, RunSpec(f"{self.mark}-{self.count}", argv, **{"cwd": self.root, **more}))
        return directory

    async def started(self, *argv: str, **more: Any) -> Path:
        """The directory of a started run."""
        directory = self.prepared(*argv, **more)
        await start(directory, self.env)
        return directory

    async def ended(self, *argv: str, **more: Any) -> tuple[Path, Exit]:
        """The directory of a run that has ended by itself, and how."""
        directory = await self.started(*argv, **more)
        return directory, await exit_of(directory)

    def none_left(self) -> None:
        """Fail if any process of any run of this test lives on."""
        assert marked(self.mark) == []
        eventually(lambda: not supervisors_below(self.root))

    def clear(self) -> None:
        """End whatever the test left behind."""
        for pid in supervisors_below(self.root):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while pids := marked(self.mark):
            assert time.monotonic() < deadline, f"cannot be killed: {pids}"
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)


def python(code: str) -> tuple[str, ...]:
    """The argv of a small Python program."""
    return (sys.executable, "-I", "-S", "-u", "-c", code)


def fork() -> int:
    """os.fork for a child that only makes system calls; newer Pythons warn of it whenever there are threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


async def exit_of(directory: Path) -> Exit:
    """How a run ended, which somebody must have seen."""
    found = await asyncio.wait_for(wait(directory), 60)
    assert isinstance(found, Exit)
    return found


async def output(directory: Path, expected: bytes) -> None:
    """Wait until the run has put `expected` out."""
    await eventually_async(lambda: expected in read_output(directory, 0))


def supervisor_gone(directory: Path) -> bool:
    """Whether the supervisor is dead and has let go of everything."""
    return state_of(record(directory)["pid"]) in ("", "Z")


def record(directory: Path) -> dict[str, Any]:
    """What `supervisor.json` says."""
    found: dict[str, Any] = json.loads((directory / "supervisor.json").read_bytes())
    return found


def kill_supervisor(directory: Path) -> None:
    """kill -9, and wait until it is dead."""
    os.kill(record(directory)["pid"], signal.SIGKILL)
    eventually(lambda: supervisor_gone(directory))


def descriptors(pid: int) -> dict[int, str]:
    """What each open descriptor of a process stands for."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        # When we look at ourselves, the looking itself takes one, which is gone by now.
        with suppress(FileNotFoundError):
            found[int(path.name)] = str(path.readlink())
    return found


def proc(pid: int, name: str) -> bytes:
    """What /proc says about a process; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def fill(disk: Path) -> Path:
    """Leave no room on the disk until the returned file is deleted."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        file.writelines(itertools.repeat(b"x" * 4096))
    return ballast


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
