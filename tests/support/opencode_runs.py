"""Runs of OpenCode as the engine makes them: the host outside of every run, the bridge with the run's own variables."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.agents.adapter import Job
from plait.agents.opencode import OpenCode
from plait.agents.programs import opencode_host
from plait.engine import hosts
from tests.support.driving import Driven, driven

PATIENCE_S = 60.0


@dataclass
class Surroundings:
    """What the runs of a test have in common: the command of OpenCode, its environment, and where hosts live."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    runtime: Path
    scratch: Path

    @contextmanager
    def run(self, worktree: Path, **job: Any) -> Iterator[Driven]:
        """A run at work on `job`, with a host that was there or is started for it."""
        number = len(list(self.scratch.glob("run-*")))
        files = self.scratch / f"files-{number}"
        wanted = {"prompt": "Write hello.txt.", "title": "Say hello", **job}
        made = Job(session=f"s{number}", task="t", worktree=str(worktree), port=4700, files=str(files), **wanted)
        adapter = OpenCode()
        environment = hosts.surroundings(self.environment, {"PLAIT_PORT": "4700"}, self.runtime)
        host = adapter.launch(self.command, made).host
        assert host is not None
        asyncio.run(hosts.ensure(host, environment, self.runtime))
        marked = {**environment, opencode_host.RUN: marker(self.scratch, number)}
        with driven(adapter, self.command, made, marked, self.scratch / f"run-{number}") as run:
            yield run

    def directories(self) -> list[Path]:
        """Where hosts are or have been."""
        return sorted(self.runtime.glob("opencode-*"))

    def servers(self) -> list[int]:
        """The processes of all servers that were started here."""
        return [
            pid
            for directory in self.directories()
            for pid in opencode_host.marked("PLAIT_OPENCODE_HOST", str(directory))
        ]

    def gone(self) -> bool:
        """Whether every host has left and taken its server along."""
        return not self.servers() and not any((directory / "host").exists() for directory in self.directories())

    def end(self) -> None:
        """Wait for the hosts to leave by themselves; whatever is left is killed, and is a failure."""
        try:
            eventually(self.gone)
        finally:
            for pid in self.servers():
                os.kill(pid, signal.SIGKILL)


def marker(scratch: Path, number: int) -> str:
    """The mark of a run, which no other test has."""
    return f"{scratch}-{number}"


def lines(run: Driven) -> list[dict[str, Any]]:
    """What the bridge has written so far."""
    return [json.loads(line) for line in run.output.read_bytes().splitlines()]


def eventually(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, "That did not come to hold."
        time.sleep(0.02)
