"""OpenCode, through the server that its sessions share: a bridge of ours speaks with it, one for each run.

Sources: the OpenAPI description that `opencode serve` gives at /doc (1.18); the bridge's lines are described in
`plait.agents.programs.opencode_bridge`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.agents.adapter import (
    Abilities,
    Answer,
    Command,
    Effect,
    End,
    GiveUp,
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
from plait.agents.opencode_events import Events
from plait.agents.opencode_values import Json, count, inner, text, words
from plait.core.reports import Began, Remark, Trouble, Unread, shorten

PROGRAMS = Path(__file__).with_name("programs")
REFUSED = "The user refused this. Do not try it again; go on without it, or ask."
"""What the agent hears with a refusal; without any text, OpenCode ends the turn."""


class OpenCode:
    """The adapter of OpenCode."""

    abilities = Abilities(steers=True, cost=True, limits=True)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        """The bridge, and before it the host of the server."""
        return Launch(
            argv=_program("opencode_bridge.py", command),
            stdin="fifo",
            stderr="apart",
            host=Launch(argv=_program("opencode_host.py", command)),
        )

    def driver(self, job: Job) -> OpenCodeDriver:
        return OpenCodeDriver(job)


class OpenCodeDriver:
    """The conversation over one bridge."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lines = Lines()
        self._events = Events(job.model)
        self._began = False
        self._hung_up = False
        self._gave_up = False
        self._failure = ""
        self._interrupts = 0

    def begin(self) -> Sequence[Effect]:
        """Open the conversation, and say the first thing."""
        job = self._job
        self._events.expect(None, job.opening)
        opened = {"op": "open", "permission": job.permission, "resume": job.resume, "title": job.title}
        return [_line("open", opened), self._prompt("opening", job.opening)]

    def feed(self, data: bytes) -> Sequence[Effect]:
        return [effect for line in self._lines.feed(data) for effect in self._read(line)]

    def take(self, command: Command) -> Sequence[Effect]:
        if self._hung_up or self._gave_up:
            return []
        match command:
            case Say():
                self._events.expect(command.id, command.text)
                return [self._prompt(f"say-{command.id}", command.text)]
            case Answer():
                return self._answer(command)
            case Interrupt():
                self._interrupts += 1
                return [_line(f"abort-{self._interrupts}", {"op": "abort"})]

    def close(self) -> Sequence[Effect]:
        return [effect for line in self._lines.close() for effect in self._read(line)]

    def outcome(self, end: End) -> Outcome:
        events = self._events
        if events.fatal is not None:
            return Outcome(False, _advice(events.fatal), trouble=events.fatal.kind)
        if not events.turn_open and not events.expected and events.stop == "end_turn":
            return Outcome(True, "Done.")
        if events.stop == "cancelled" and not events.turn_open:
            return Outcome(False, "Stopped.", stopped=True)
        if events.stop == "error" and not events.turn_open:
            return Outcome(False, events.why, trouble=events.trouble)
        special = stopped_or_lost(end)
        if special is not None:
            return special
        if self._failure:
            return Outcome(False, self._failure, trouble="agent")
        if events.stop in ("max_tokens", "refusal") and not events.turn_open:
            return Outcome(False, events.why)
        complaint = end.complaints.strip()[-1000:]
        return Outcome(False, "It ended without finishing its turn" + (f": {complaint}" if complaint else "."))

    def _prompt(self, name: str, said: str) -> Write:
        return _line(name, {"op": "prompt", "id": name, "text": said, "model": self._job.model})

    def _answer(self, answer: Answer) -> list[Effect]:
        asked = self._events.asked.get(answer.request)
        if asked is None:
            return []
        about: dict[str, object] = {"request": asked.id}
        if asked.kind == "question":
            if answer.answers:
                replies = [list(answer.answers.get(question.id, ())) for question in asked.questions]
                if answer.text and not any(replies):
                    replies[0] = [answer.text]
            elif answer.text and asked.questions:
                replies = [[answer.text], *([] for _ in asked.questions[1:])]
            else:
                return [_line(f"answer-{asked.id}", {"op": "dismiss", **about})]
            return [_line(f"answer-{asked.id}", {"op": "question", "answers": replies, **about})]
        match answer.option:
            case "once" | "always" as reply:
                about["reply"] = reply
            case "stop":
                self._events.refuse(asked, ends_turn=True)
                about["reply"] = "reject"
            case _:
                self._events.refuse(asked, ends_turn=False)
                about |= {"reply": "reject", "message": answer.text or REFUSED}
        return [_line(f"answer-{asked.id}", {"op": "permission", **about})]

    def _read(self, line: bytes) -> list[Effect]:
        found = read_object(line)
        if found is None:
            return []
        if isinstance(found, Unread):
            return [found]
        effects: list[Effect] = list(self._meant(found, line))
        if self._hung_up or self._gave_up:
            return effects
        if self._events.fatal is not None:
            self._gave_up = True
            effects.append(GiveUp())
        elif self._events.over:
            self._hung_up = True
            effects.append(HangUp())
        return effects

    def _meant(self, found: dict[str, Any], line: bytes) -> Sequence[Effect]:
        match found.get("type"):
            case "event":
                event = inner(found, "event")
                known = self._events.read(event, inner(event, "properties"), found)
                return known if known is not None else [_unread(line, "This event is not known.")]
            case "ready":
                return self._ready(found)
            case "model":
                self._events.sizes[text(found, "model")] = count(found, "context")
                return []
            case "pending":
                return self._events.only(set(words(found, "requests")))
            case "refused":
                return self._refused(found)
            case "aborted":
                return self._events.end("cancelled", "Stopped.", forget=True)
            case "failed" | "gone" as kind:
                self._failure = shorten(text(found, "text"), 4000) or "OpenCode failed without saying why."
                trouble = Trouble(account="opencode", kind="agent", text=self._failure, fatal=kind == "failed")
                return [trouble, *self._events.end("error", self._failure, forget=True)]
            case _:
                return [_unread(line, "This line is not one of the bridge's.")]

    def _ready(self, found: Json) -> Sequence[Effect]:
        session = text(found, "session")
        if self._began or not session:
            return []
        self._began = True
        self._events.session = session
        return [Began(agent_session=session, model=self._job.model)]

    def _refused(self, found: Json) -> Sequence[Effect]:
        """The server did not take a command."""
        why = shorten(text(found, "text"), 2000)
        if text(found, "op") == "prompt":
            return self._events.refused(text(found, "id"), why)
        withdrawn = self._events.withdraw(text(found, "request"))
        return [*withdrawn, Remark(text=f"OpenCode did not take the answer: {why}")]


def _program(name: str, command: tuple[str, ...]) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-E", str(PROGRAMS / name), *command)


def _line(name: str, message: Mapping[str, object]) -> Write:
    return Write(name, json.dumps(message).encode() + b"\n")


def _unread(line: bytes, why: str) -> Unread:
    return Unread(text=shorten(line.decode("utf-8", "replace"), 2000), why=why)


def _advice(trouble: Trouble) -> str:
    match trouble.kind:
        case "auth":
            return (
                f"OpenCode is not logged in to {trouble.account}: run `opencode auth login`, or set the provider's API "
                f"key. It said: {trouble.text}"
            )
        case "quota":
            return f"The quota of {trouble.account} is used up: {trouble.text}"
        case _:
            return trouble.text
