"""A scripted agent that converses: what it reports, and when it waits for the user, is written in its task.

The lines of a task after the first are its steps, one JSON value each: an object is a report, `"say"` or `"answer"`
waits until the user has said or answered something, `"delivered"` tells that it has been heard, `"gate PATH"` waits
until that file exists.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from plait.agents.adapter import (
    Abilities,
    Adapter,
    Answer,
    Command,
    Driver,
    Effect,
    End,
    HangUp,
    Interrupt,
    Job,
    Launch,
    Outcome,
    Say,
    Write,
    stopped_or_lost,
)
from plait.agents.lines import Lines, read_object
from plait.core import reports as r

AGENT = (sys.executable, "-I", "-S", str(Path(__file__).resolve().with_name("talker_agent.py")))

_REPORT: TypeAdapter[r.Report] = TypeAdapter(Annotated[r.Report, Field(discriminator="type")])


class Talker:
    """The adapter."""

    abilities = Abilities(steers=True)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        return Launch((*AGENT, job.opening), stdin="fifo")

    def driver(self, job: Job) -> Driver:
        return Talk()


class Talk:
    """The conversation with one process of it."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._stop: str | None = None

    def begin(self) -> Sequence[Effect]:
        return ()

    def feed(self, data: bytes) -> Sequence[Effect]:
        effects: list[Effect] = []
        for line in self._lines.feed(data):
            found = read_object(line)
            if isinstance(found, dict):
                effects += self._read(found)
            elif found is not None:
                effects.append(found)
        return effects

    def take(self, command: Command) -> Sequence[Effect]:
        match command:
            case Say():
                return [_write(f"say-{command.id}", {"say": command.text, "id": command.id})]
            case Answer():
                told = {"answer": command.option, "text": command.text, "answers": command.answers}
                return [_write(f"answer-{command.request}", told), r.Withdrawn(id=command.request)]
            case Interrupt():
                self._stop = "cancelled"
                return [r.TurnEnded(stop="cancelled"), HangUp()]

    def close(self) -> Sequence[Effect]:
        return ()

    def outcome(self, end: End) -> Outcome:
        if self._stop == "end_turn":
            return Outcome(True, "Done.")
        stopped = self._stop == "cancelled"
        return stopped_or_lost(end) or Outcome(False, "It ended without finishing its turn.", stopped=stopped)

    def _read(self, found: dict[str, Any]) -> list[Effect]:
        report = _REPORT.validate_python(found)
        if isinstance(report, r.TurnEnded):
            self._stop = report.stop
            return [report, HangUp()]
        return [report]


def task(title: str, *steps: object) -> str:
    """The task of an agent that shall take these steps."""
    return "\n".join([title, *(json.dumps(step) for step in steps)])


def report(given: r.Report) -> dict[str, Any]:
    """The report as a step."""
    return given.model_dump(mode="json")


def adapters() -> dict[str, Adapter]:
    """What the registry is to hold: every agent of the kind `command` is a talker."""
    return {"command": Talker()}


def _write(name: str, message: Mapping[str, object]) -> Write:
    return Write(name, json.dumps(message).encode() + b"\n")
