"""Any program with a screen of its own, in a terminal: the user works in it with `plait attach`.

What it is at is known only from the hooks that some programs offer (`terminal_hooks`); the screen is never read. Of
other programs it is known when they end, and how.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from plait.agents import claude_tools, terminal_hooks
from plait.agents.adapter import (
    Abilities,
    Answer,
    Command,
    Driver,
    Effect,
    End,
    Interrupt,
    Job,
    Launch,
    Outcome,
    Say,
    Write,
    stopped_or_lost,
)
from plait.agents.claude_fields import clean, mapping, text
from plait.agents.claude_provider import trouble_kind
from plait.agents.lines import Lines, read_object
from plait.agents.terminal_tools import tool_began, tool_diffs
from plait.core.config import fill
from plait.core.reports import (
    Asked,
    Began,
    Delivered,
    Message,
    Question,
    Remark,
    StopReason,
    ToolEnded,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    Withdrawn,
    shorten,
)

IDLE = "It waits for your next message."
LATER = "It will be told when this turn is over."
QUESTIONS = ("AskUserQuestion",)
"""Tools whose permission is the user's answer."""

_UNHEARD = frozenset({"SubagentStart", "SubagentStop", "PreCompact", "PostCompact", "MessageDisplay", "ConfigChange"})
"""Hooks that are known and say nothing about where the conversation stands."""


class Terminal:
    """The adapter of programs in a terminal."""

    abilities = Abilities(usage=False, terminal=True)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        """The command with its placeholders filled in, and with the hooks of a program that is known to have some."""
        prompt = job.opening
        values = {
            "prompt": prompt,
            "title": job.title,
            "session": job.session,
            "worktree": job.worktree,
            "port": str(job.port),
        }
        # Whatever terminal the user will attach, this much every one of them understands.
        env = {
            "PLAIT_PROMPT": prompt,
            "PLAIT_TITLE": job.title,
            "PLAIT_SESSION": job.session,
            "PLAIT_TASK": job.task,
            "TERM": "xterm-256color",
        }
        flavour = terminal_hooks.flavour_of(command)
        if flavour is None:
            return Launch(fill(command, values), env, pty=True, interrupt="TERM")
        files: Mapping[str, str] = {}
        if flavour == "claude":
            env["DISABLE_AUTOUPDATER"] = "1"
            files = {terminal_hooks.SETTINGS: terminal_hooks.claude_settings(terminal_hooks.hook_command())}
        argv = (command[0], *terminal_hooks.options(flavour, command, job), *_with_prompt(command[1:]))
        return Launch(fill(argv, values), env, pty=True, interrupt="TERM", files=files)

    def driver(self, job: Job) -> Driver:
        return Hooked(job)


class Hooked:
    """What the hooks of one process have told."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._flavour = terminal_hooks.flavour_of(job.command)
        self._lines = Lines()
        self._thread = ""
        self._working = True
        """From the start on, until it is told that it is not."""
        self._prompted = False
        self._idle: str | None = None
        """The request that stands for its waiting for a message."""
        self._open: dict[str, str] = {}
        """What it waits for the user to decide: the request's name, and the tool's."""
        self._tools: dict[str, tuple[str, str]] = {}
        """Those in use, each with its name and its input."""
        self._queue: deque[Say] = deque()
        self._typed: list[Say] = []
        """Messages that were typed in and that it has not taken up yet."""
        self._answered = False
        """The same of an answer."""
        self._count = 0
        self._stop: StopReason | None = None
        self._trouble: Trouble | None = None

    def begin(self) -> Sequence[Effect]:
        return [Remark(text=f"It works in a terminal: `plait attach {self._job.session}` shows it.")]

    def feed(self, data: bytes) -> Sequence[Effect]:
        return self._read(self._lines.feed(data))

    def close(self) -> Sequence[Effect]:
        return [*self._read(self._lines.close()), *self._withdrawn()]

    def take(self, command: Command) -> Sequence[Effect]:
        match command:
            case Say():
                return self._said(command)
            case Answer():
                told = command.text or "\n".join(word for words in command.answers.values() for word in words)
                return self._told_next(told) if told and command.request == self._idle else []
            case Interrupt():
                # What key that would be depends on what stands on the screen; ending the process ends the turn.
                return []

    def outcome(self, end: End) -> Outcome:
        """By the last turn where hooks tell of turns, else by the exit status."""
        finished = not self._working and self._stop == "end_turn"
        waiting = bool(self._queue or self._typed)
        if finished and not waiting and end.reason in ("stopped", "supervisor-lost"):
            return Outcome(True, "Done.")
        special = stopped_or_lost(end)
        if special is not None:
            return special
        if end.code != 0:
            how = f"It exited with status {end.code}." if end.signal is None else f"Signal {end.signal} ended it."
            return Outcome(False, how)
        if not self._prompted or finished:
            return Outcome(True, "Done.")
        if self._stop == "error" and self._trouble is not None:
            return Outcome(False, self._trouble.text, trouble=self._trouble.kind)
        return Outcome(False, "It was left in the middle of its turn.", stopped=True)

    def _said(self, said: Say) -> Sequence[Effect]:
        if self._idle is not None and not self._typed:
            return self._type(said)
        self._queue.append(said)
        if self._flavour is None:
            where = f"`plait attach {self._job.session}`"
            return [Remark(text=f"Nothing tells when it can be told something; type it yourself: {where}.")]
        if self._open:
            return [Remark(text="It will be told when its question in the terminal is answered and the turn is over.")]
        return [Remark(text=LATER)]

    def _told_next(self, words: str) -> list[Effect]:
        """The answer to what it shall do next."""
        write = _typing(f"answer-{self._idle}", words)
        effects: list[Effect] = [*self._withdrawn(), write]
        if words.startswith("/"):
            return [*effects, *self._rest()]
        self._answered = True
        return effects

    def _type(self, said: Say) -> list[Effect]:
        write = _typing(f"say-{said.id}", said.text)
        if said.text.startswith("/"):
            # A command to the program itself begins no turn that would confirm it.
            return [write, Delivered(id=said.id)]
        self._typed.append(said)
        return [write]

    def _read(self, lines: list[bytes]) -> list[Effect]:
        effects: list[Effect] = []
        for line in lines:
            found = read_object(line)
            if isinstance(found, Unread):
                effects.append(found)
            elif found is not None:
                effects += self._hear(found, line)
        return effects

    def _hear(self, told: dict[str, Any], line: bytes) -> list[Effect]:
        event = text(told, "hook_event_name")
        if event in _UNHEARD or told.get("type") == "agent-turn-complete":
            return []
        thread = text(told, "session_id")
        if event == "SessionStart":
            return self._started(told, thread)
        if self._thread and thread and thread != self._thread:
            # Another conversation of the same program, such as the one that finds a title.
            return []
        began: list[Effect] = [] if self._thread or not thread else self._began(told, thread)
        match event:
            case "UserPromptSubmit":
                return began + self._took_up(text(told, "prompt"))
            case "PreToolUse":
                return began + self._tool_began(told)
            case "PermissionRequest":
                return began + self._asked(told)
            case "PermissionDenied" | "PostToolUse" | "PostToolUseFailure":
                return began + self._tool_ended(event, told)
            case "PostToolBatch":
                return began + self._withdrawn()
            case "Notification":
                return began + self._notified(told)
            case "Stop":
                return began + self._ended("end_turn", text(told, "last_assistant_message"))
            case "StopFailure":
                return began + self._failed(told)
            case "SessionEnd":
                return began + self._withdrawn()
            case _:
                words = shorten(line.decode("utf-8", "replace"), 2000)
                return [*began, Unread(text=words, why=f"The hook {event!r} is not known.")]

    def _started(self, told: dict[str, Any], thread: str) -> list[Effect]:
        if not thread or thread == self._thread or text(told, "agent_id"):
            return []
        another = bool(self._thread)
        effects = self._began(told, thread)
        if another:
            # The user has begun or taken up another conversation in it.
            self._working = False
            effects += [*self._withdrawn(), *self._rest()]
        return effects

    def _began(self, told: dict[str, Any], thread: str) -> list[Effect]:
        self._thread = thread
        model, mode = text(told, "model"), text(told, "permission_mode")
        return [Began(agent_session=shorten(thread, 500), model=model or None, mode=mode or None)]

    def _took_up(self, prompt: str) -> list[Effect]:
        effects = self._withdrawn()
        by_hand = self._prompted and not self._typed and not self._answered
        self._working, self._prompted, self._stop = True, True, None
        if by_hand:
            effects.append(Remark(text=f"You, in the terminal: {shorten(prompt, 2000)}"))
        effects.append(TurnBegan(prompt=shorten(prompt)))
        effects += [Delivered(id=said.id) for said in self._typed]
        self._typed.clear()
        self._answered = False
        return effects

    def _goes_on(self) -> list[Effect]:
        """It works without having been told anything, as when another hook keeps it from stopping."""
        if self._working:
            return []
        self._working, self._stop = True, None
        return [*self._withdrawn(), TurnBegan()]

    def _tool_began(self, told: dict[str, Any]) -> list[Effect]:
        # Codex does not tell of the end of a tool that was refused, but begins the next; Claude Code tells of the end
        # of all tools that it called at once, one of which may begin while another is still asked for.
        settled = self._withdrawn() if self._flavour != "claude" else []
        name, given = text(told, "tool_name"), mapping(told, "tool_input")
        began = tool_began(text(told, "tool_use_id") or self._next("tool"), name, given, text(told, "agent_type"))
        self._tools[began.id] = (name, began.input.strip())
        return [*settled, *self._goes_on(), began]

    def _asked(self, told: dict[str, Any]) -> list[Effect]:
        name, given = text(told, "tool_name"), mapping(told, "tool_input")
        shown = tool_began("", name, given, text(told, "agent_type"))
        wanted = (name, shown.input.strip())
        same = (tool for tool, known in reversed(self._tools.items()) if known == wanted)
        used = text(told, "tool_use_id") or next(same, None)
        request = self._next("permission")
        effects = self._goes_on()
        self._open[request] = used or ""
        return [
            *effects,
            Asked(
                id=request,
                kind="question" if name in QUESTIONS else "permission",
                tool=name,
                tool_kind=shown.kind,
                tool_id=used,
                title=shown.title,
                input=shown.input,
                reason=shorten(text(given, "description", "justification"), 2000),
                diffs=tool_diffs(name, given),
            ),
        ]

    def _tool_ended(self, event: str, told: dict[str, Any]) -> list[Effect]:
        tool = text(told, "tool_use_id")
        self._tools.pop(tool, None)
        settled: list[Effect] = [Withdrawn(id=request) for request, one in self._open.items() if one in (tool, "")]
        self._open = {request: one for request, one in self._open.items() if one not in (tool, "")}
        failed = event != "PostToolUse"
        response = told.get("tool_response", told.get("error", told.get("reason")))
        block = {"tool_use_id": tool, "content": _output(response), "is_error": failed}
        ended: ToolEnded = claude_tools.tool_ended(block, response, event == "PermissionDenied")
        return [*settled, *self._goes_on(), ended]

    def _notified(self, told: dict[str, Any]) -> list[Effect]:
        match text(told, "notification_type"):
            case "idle_prompt":
                # It was interrupted, which no other hook tells of.
                return self._ended("cancelled", "") if self._working else self._retry()
            case "permission_prompt":
                return []
            case _:
                words = text(told, "message")
                return [Remark(text=shorten(words, 2000))] if words else []

    def _failed(self, told: dict[str, Any]) -> list[Effect]:
        error, details = text(told, "error"), text(told, "error_details", "last_assistant_message")
        words = shorten(details or error or "The turn failed.", 2000)
        account = "openai" if self._flavour == "codex" else "anthropic"
        # Not fatal: whatever it is, the user can see to it in the terminal.
        self._trouble = Trouble(account=account, kind=trouble_kind(error or "unknown", None), text=words)
        return [self._trouble, *self._ended("error", words)]

    def _ended(self, stop: StopReason, words: str) -> list[Effect]:
        effects = self._withdrawn()
        if not self._working:
            return [*effects, *self._rest()]
        self._working, self._prompted, self._stop = False, True, stop
        if words and stop == "end_turn":
            effects.append(Message(text=shorten(words)))
        self._tools.clear()
        return [*effects, TurnEnded(stop=stop, text=shorten(words)), *self._rest()]

    def _rest(self) -> list[Effect]:
        """It waits for a message: for one that is there already, or else for the user."""
        if self._queue:
            return self._type(self._queue.popleft())
        self._idle = self._next("idle")
        question = Question(id="message", text="What shall it do next?")
        return [Asked(id=self._idle, kind="question", title=IDLE, questions=(question,))]

    def _retry(self) -> list[Effect]:
        """It still waits: what was typed has not begun a turn, and holds up the other messages no longer."""
        given: list[Effect] = [Delivered(id=said.id) for said in self._typed]
        self._typed.clear()
        self._answered = False
        if self._queue:
            return [*given, *self._withdrawn(), *self._rest()]
        return given if self._idle else [*given, *self._rest()]

    def _withdrawn(self) -> list[Effect]:
        waiting = [*self._open, *([self._idle] if self._idle else [])]
        self._open.clear()
        self._idle = None
        return [Withdrawn(id=request) for request in waiting]

    def _next(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"


def _with_prompt(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments with the prompt in them; one that begins with a dash must not be taken for an option."""
    if not any("{prompt}" in argument for argument in arguments):
        arguments = (*arguments, "{prompt}")
    if arguments[-1] == "{prompt}" and "--" not in arguments:
        return (*arguments[:-1], "--", arguments[-1])
    return tuple(arguments)


def _typing(name: str, words: str) -> Write:
    """The words as a terminal pastes them, which keeps their lines together, and Enter."""
    pasted = _CONTROLS.sub("", clean(words)).strip().replace("\n", "\r").encode("utf-8", "replace")
    return Write(name, b"\x1b[200~" + pasted + b"\x1b[201~\r")


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal takes for keys: all but tabs and the ends of lines."""


def _output(response: object) -> object:
    """What a tool gave back, as far as people read it."""
    if isinstance(response, dict) and "stdout" in response:
        return "\n".join(part for part in (text(response, "stdout"), text(response, "stderr")) if part)
    if isinstance(response, dict) and "filePath" in response:
        return ""
    return response
