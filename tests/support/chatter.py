"""An adapter for the small agent of `chatter_program`, so that conversations can be tested without a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from plait.agents.adapter import (
    Abilities,
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
    SaveFile,
    Say,
    Write,
    stopped_or_lost,
)
from plait.agents.lines import Lines
from plait.core import reports as r

OPTIONS = (
    r.Option(id="yes", label="Yes", kind="allow_once"),
    r.Option(id="no", label="No", kind="reject_once"),
)


class Chatter:
    """The adapter; register it as `ADAPTERS["acp"]` for a test."""

    abilities = Abilities(steers=True)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        return Launch(
            (sys.executable, str(Path(__file__).with_name("chatter_program.py"))),
            {"CHATTER_RESUME": job.resume or ""},
            stdin="fifo",
            stderr="apart",
        )

    def driver(self, job: Job) -> Driver:
        return ChatterDriver(job)


class ChatterDriver:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._lines = Lines()
        self._writes = 0
        self._asked = 0
        self._waiting: list[str] = []
        self._told: list[str] = []
        self._stop: str | None = None

    def begin(self) -> Sequence[Effect]:
        return [self._write({"say": self._job.opening, "id": "opening"})]

    def feed(self, data: bytes) -> Sequence[Effect]:
        return [effect for line in self._lines.feed(data) for effect in self._line(json.loads(line))]

    def take(self, command: Command) -> Sequence[Effect]:
        match command:
            case Say():
                if self._stop:
                    return []
                self._told.append(command.id)
                return [self._write({"say": command.text, "id": command.id})]
            case Answer() if command.text == "nonsense":
                return [r.Remark(text="That is no answer; it still waits.")]
            case Answer() if command.request not in self._waiting:
                return []
            case Answer():
                answer = self._write({"option": command.option, "answers": dict(command.answers)})
                return [answer, *self._withdrawn()]
            case Interrupt():
                return [self._write({"interrupt": True})]

    def close(self) -> Sequence[Effect]:
        return self._withdrawn()

    def outcome(self, end: End) -> Outcome:
        if self._stop == "end_turn":
            return Outcome(True, "Done.")
        if self._stop == "cancelled":
            return Outcome(False, "Stopped.", stopped=True)
        return stopped_or_lost(end) or Outcome(False, "It ended without finishing its turn.")

    def _line(self, line: dict[str, object]) -> Sequence[Effect]:
        match line:
            case {"began": str(name)}:
                return [r.Began(agent_session=name)]
            case {"got": "opening"}:
                return [r.TurnBegan()]
            case {"save": str(rest)}:
                path, _, text = rest.partition(" ")
                done, refused = self._write({"saved": True}), self._write({"saved": False})
                return [SaveFile(path, text, done, refused)]
            case {"got": str(name)} if name in self._told:
                self._told.remove(name)
                return [r.Delivered(id=name)]
            case {"tool": str(path)}:
                return [r.ToolBegan(id=path, name="write", kind="edit", places=(r.Place(path=path),))]
            case {"tool_end": str(path)}:
                return [r.ToolEnded(id=path)]
            case {"ask": str(title)}:
                self._asked += 1
                self._waiting.append(f"r{self._asked}")
                return [r.Asked(id=f"r{self._asked}", title=title, tool="write", options=OPTIONS)]
            case {"question": str(text)}:
                self._asked += 1
                self._waiting.append(f"r{self._asked}")
                question = r.Question(id="q", text=text)
                return [r.Asked(id=f"r{self._asked}", kind="question", title=text, questions=(question,))]
            case {"use": int(tokens)}:
                return [r.Used(scope="request", input=tokens, output=1, cost_usd=0.5)]
            case {"message": str(text)}:
                return [r.Message(text=text)]
            case {"end": str(stop)}:
                if self._told:
                    return []
                self._stop = stop
                ended = r.TurnEnded(stop="end_turn" if stop == "end_turn" else "cancelled")
                return [*self._withdrawn(), ended, HangUp()]
        return []

    def _withdrawn(self) -> list[Effect]:
        gone: list[Effect] = [r.Withdrawn(id=name) for name in self._waiting]
        self._waiting = []
        return gone

    def _write(self, message: dict[str, object]) -> Write:
        self._writes += 1
        return Write(f"t{self._writes}", json.dumps(message).encode() + b"\n")
