"""Aider: driven by a program that its own interpreter executes, for it has no protocol of its own.

The program is `programs/aider_driver.py`, which describes the lines of JSON that are exchanged. The conversation lives
in the chat history below `Job.files`; its name is ours, since Aider has none.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from plait.agents.adapter import (
    Abilities,
    Answer,
    Command,
    Driver,
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
from plait.core.reports import (
    Asked,
    Began,
    Context,
    Delivered,
    FileDiff,
    Message,
    Option,
    OptionKind,
    Place,
    Remark,
    Report,
    Retry,
    StopReason,
    Thought,
    ToolBegan,
    ToolEnded,
    ToolKind,
    Trouble,
    TroubleKind,
    TurnBegan,
    TurnEnded,
    Unread,
    Used,
    Withdrawn,
    shorten,
)

PROGRAM = Path(__file__).parent / "programs" / "aider_driver.py"

ACCOUNTS = {"gemini": "google", "vertex_ai": "google", "vertex_ai_beta": "google"}
"""What litellm calls a provider, where we call it something else."""

LONGEST_REMARK = 2000


class Aider:
    """The adapter of Aider; the command is the interpreter that Aider is installed for."""

    abilities = Abilities(cost=True, limits=True)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        """Aider with the user's own configuration, except for what Plait does: commits, permissions, histories."""
        settings = {"permission": job.permission, "files": job.files, "session": job.session, "resume": job.resume}
        history = str(Path(job.files) / "chat.history.md") if job.files else os.devnull
        typed = str(Path(job.files) / "input.history") if job.files else os.devnull
        options = [
            "--no-auto-commits",
            "--no-dirty-commits",
            "--no-gitignore",
            "--no-check-update",
            "--no-show-release-notes",
            "--no-analytics",
            "--no-pretty",
            "--no-fancy-input",
            "--stream",
            "--chat-history-file",
            history,
            "--input-history-file",
            typed,
        ]
        if job.resume is not None:
            options.append("--restore-chat-history")
        if job.model is not None:
            options += ["--model", job.model]
        # Not -I: the user may have installed Aider among the packages of his own.
        interpreter, *more = command
        return Launch((interpreter, str(PROGRAM), json.dumps(settings), *options, *more), stdin="fifo", stderr="apart")

    def driver(self, job: Job) -> Driver:
        return Talk(job)


class Talk:
    """The conversation with one process of Aider."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lines = Lines()
        self._account = "aider"
        self._queue: deque[Say] = deque()
        self._busy = False
        self._hung_up = False
        self._interrupts = 0
        self._asked: set[str] = set()
        self._answered: set[str] = set()
        self._tools: dict[str, None] = {}
        self._stop: StopReason | None = None
        self._trouble: Trouble | None = None
        self._why = ""

    def begin(self) -> Sequence[Effect]:
        self._busy = True
        return (_line("opening", type="message", id="opening", text=self._job.opening),)

    def feed(self, data: bytes) -> Sequence[Effect]:
        return [effect for line in self._lines.feed(data) for effect in self._read(line)]

    def take(self, command: Command) -> Sequence[Effect]:
        match command:
            case Say():
                return self._say(command)
            case Answer():
                return self._answer(command)
            case Interrupt():
                if not self._busy:
                    return ()
                self._interrupts += 1
                return (_line(f"interrupt-{self._interrupts}", type="interrupt"),)

    def close(self) -> Sequence[Effect]:
        effects = [effect for line in self._lines.close() for effect in self._read(line)]
        return [*effects, *self._left_over()]

    def outcome(self, end: End) -> Outcome:
        if self._trouble is not None and self._trouble.fatal:
            return Outcome(False, self._fatal_reason(self._trouble), trouble=self._trouble.kind)
        if not self._busy:
            return self._outcome_of_turn()
        special = stopped_or_lost(end)
        if special is not None:
            return special
        complaint = _last_line(end.complaints)
        said = f": {complaint}" if complaint else "."
        return Outcome(False, f"It ended without finishing its turn{said}")

    def _outcome_of_turn(self) -> Outcome:
        kind = self._trouble.kind if self._trouble else None
        match self._stop:
            case "end_turn":
                return Outcome(True, "Done.")
            case "cancelled":
                return Outcome(False, "Stopped.", stopped=True)
            case "max_tokens":
                return Outcome(False, "The model's reply was cut off at its longest length.")
            case _:
                return Outcome(False, shorten(self._why, LONGEST_REMARK) or "Its turn failed.", trouble=kind)

    def _fatal_reason(self, trouble: Trouble) -> str:
        if trouble.kind == "auth":
            return (
                f"Aider cannot log in at its provider ({self._account}): set its key, such as OPENAI_API_KEY or "
                "ANTHROPIC_API_KEY, in the environment or in ~/.aider.conf.yml."
            )
        if trouble.kind == "quota":
            return f"The account at {self._account} has no credit left: {shorten(trouble.text, 500)}"
        return shorten(trouble.text, LONGEST_REMARK)

    def _say(self, say: Say) -> Sequence[Effect]:
        if self._hung_up:
            return ()
        self._queue.append(say)
        return (Remark(text="It will be told when this turn is over."),)

    def _answer(self, answer: Answer) -> Sequence[Effect]:
        if answer.request not in self._asked or answer.request in self._answered:
            return ()
        self._answered.add(answer.request)
        option = answer.option if answer.option is not None else "no"
        return (_line(f"answer-{answer.request}", type="answer", id=answer.request, option=option, text=answer.text),)

    def _read(self, line: bytes) -> Sequence[Effect]:
        found = read_object(line)
        if found is None:
            return ()
        if isinstance(found, Unread):
            return (found,)
        try:
            return self._effects(found)
        except (KeyError, TypeError, ValueError) as error:
            return (_unread(line, f"Its {found.get('type')!r} is not as expected: {error!r}."),)

    def _effects(self, found: Mapping[str, Any]) -> Sequence[Effect]:
        """What a line means; raises KeyError, TypeError or ValueError if it is damaged."""
        match found["type"]:
            case "ready":
                provider = _text(found, "provider")
                self._account = ACCOUNTS.get(provider, provider) or "aider"
                return (
                    Began(
                        agent_session=_text(found, "session"), model=_text(found, "model"), mode=_text(found, "mode")
                    ),
                )
            case "turn_began":
                self._busy, self._stop, self._trouble = True, None, None
                return (TurnBegan(prompt=shorten(_text(found, "prompt"))),)
            case "turn_ended":
                return self._turn_ended(found)
            case "failed":
                kind = _one_of(found, "kind", TroubleKind)
                self._trouble = Trouble(account=self._account, kind=kind, text=_short(found, "text"), fatal=True)
                return (self._trouble, GiveUp())
            case "trouble":
                kind = _one_of(found, "kind", TroubleKind)
                fatal = found["fatal"] is True
                self._trouble = Trouble(account=self._account, kind=kind, text=_short(found, "text"), fatal=fatal)
                return (self._trouble,)
            case _:
                return self._told(found)

    def _told(self, found: Mapping[str, Any]) -> Sequence[Report]:
        """What happens within a turn."""
        match found["type"]:
            case "message":
                return (Message(text=_short(found, "text"), partial=found["partial"] is True),)
            case "thought":
                return (Thought(text=_short(found, "text"), partial=found["partial"] is True),)
            case "tool_began":
                return (self._tool_began(found),)
            case "tool_ended":
                return (self._tool_ended(found),)
            case "asked":
                asked = _asked(found)
                self._asked.add(asked.id)
                return (asked,)
            case "withdrawn":
                name = _text(found, "id")
                if name not in self._asked:
                    raise ValueError("nothing of that name was asked")
                self._asked.remove(name)
                return (Withdrawn(id=name),)
            case "used":
                return (_used(found),)
            case "context":
                return (Context(used=_number(found, "used"), size=_number_or_none(found, "size")),)
            case "retry":
                return (
                    Retry(
                        account=self._account,
                        kind=_one_of(found, "kind", TroubleKind),
                        attempt=_number(found, "attempt"),
                        delay_s=_float_or_none(found, "delay"),
                        text=_short(found, "text"),
                    ),
                )
            case "note":
                # What Aider says at the level info, it says for a screen: what it did is told by other lines.
                shown = _text(found, "level") in ("warning", "error")
                return (Remark(text=shorten(_text(found, "text").strip(), LONGEST_REMARK)),) if shown else ()
            case unknown:
                raise ValueError(f"there is no type {unknown!r}")

    def _turn_ended(self, found: Mapping[str, Any]) -> Sequence[Effect]:
        self._stop = _one_of(found, "stop", StopReason)
        self._why = _short(found, "text")
        effects: list[Effect] = [*self._left_over(), TurnEnded(stop=self._stop, text=self._why)]
        self._busy = False
        if self._trouble is not None and self._trouble.fatal:
            self._hung_up = True
            return [*effects, GiveUp()]
        if self._queue and self._stop != "cancelled":
            say = self._queue.popleft()
            self._busy = True
            return [*effects, _line(f"say-{say.id}", type="message", id=say.id, text=say.text), Delivered(id=say.id)]
        self._hung_up = True
        return [*effects, HangUp()]

    def _left_over(self) -> list[Report]:
        """The end of what is open when a turn ends."""
        ended: list[Report] = [Withdrawn(id=name) for name in sorted(self._asked)]
        ended += [ToolEnded(id=name, status="failed") for name in self._tools]
        self._asked.clear()
        self._tools.clear()
        return ended

    def _tool_began(self, found: Mapping[str, Any]) -> ToolBegan:
        places = tuple(Place(path=_text(place, "path")) for place in found["places"])
        began = ToolBegan(
            id=_text(found, "id"),
            name=_text(found, "name"),
            kind=_one_of(found, "kind", ToolKind),
            title=shorten(_text(found, "title"), LONGEST_REMARK),
            places=places,
            input=_short(found, "input"),
        )
        self._tools[began.id] = None
        return began

    def _tool_ended(self, found: Mapping[str, Any]) -> ToolEnded:
        ended = ToolEnded(
            id=_text(found, "id"),
            status=found["status"],
            exit=_number_or_none(found, "exit", least=-64),
            output=_short(found, "output"),
            diffs=_diffs(found["diffs"]),
        )
        self._tools.pop(ended.id, None)
        return ended


def _asked(found: Mapping[str, Any]) -> Asked:
    options = tuple(
        Option(id=_text(option, "id"), label=_text(option, "label"), kind=_one_of(option, "kind", OptionKind))
        for option in found["options"]
    )
    return Asked(
        id=_text(found, "id"),
        tool=_text(found, "tool"),
        tool_kind=_one_of(found, "kind", ToolKind),
        tool_id=_text(found, "tool_id") if "tool_id" in found else None,
        title=shorten(_text(found, "title"), LONGEST_REMARK),
        input=_short(found, "input"),
        reason=_short(found, "reason"),
        diffs=_diffs(found.get("diffs", [])),
        options=options,
    )


def _used(found: Mapping[str, Any]) -> Used:
    return Used(
        scope="request",
        input=_number(found, "input"),
        cache_read=_number(found, "cache_read") if "cache_read" in found else 0,
        cache_write=_number(found, "cache_write") if "cache_write" in found else 0,
        output=_number(found, "output"),
        reasoning=_number(found, "reasoning") if "reasoning" in found else 0,
        cost_usd=_float_or_none(found, "cost"),
    )


def _diffs(found: Any) -> tuple[FileDiff, ...]:
    diffs = []
    for each in found:
        unified = each["unified"]
        if unified is not None and not isinstance(unified, str):
            raise ValueError("a diff is a text")
        diffs.append(FileDiff(path=_text(each, "path"), unified=None if unified is None else shorten(unified)))
    return tuple(diffs)


def _line(name: str, **fields: Any) -> Write:
    return Write(name, json.dumps(fields).encode() + b"\n")


def _unread(line: bytes, why: str) -> Unread:
    return Unread(text=shorten(line.decode("utf-8", "replace"), LONGEST_REMARK), why=why)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return shorten(lines[-1].strip(), 500) if lines else ""


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _short(found: Mapping[str, Any], name: str) -> str:
    return shorten(_text(found, name))


def _number(found: Mapping[str, Any], name: str, least: int = 0) -> int:
    value = found[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 60:
        raise ValueError(f"{name} is no number")
    return value


def _number_or_none(found: Mapping[str, Any], name: str, least: int = 0) -> int | None:
    return None if found[name] is None else _number(found, name, least)


def _float_or_none(found: Mapping[str, Any], name: str) -> float | None:
    value = found[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError(f"{name} is no number")
    return float(value)


def _one_of(found: Mapping[str, Any], name: str, kinds: Any) -> Any:
    value = found[name]
    if value not in get_args(kinds):
        raise ValueError(f"{name} cannot be {value!r}")
    return value
