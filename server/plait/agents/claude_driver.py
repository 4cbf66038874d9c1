"""The conversation with one process of Claude Code, in the lines of its stream-json.

Sources: `sdk.d.ts` of `@anthropic-ai/claude-agent-sdk` (SDKMessage, the control requests), and runs of version 2.1.328
against a scripted model server.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plait.agents.adapter import (
    Answer,
    Command,
    Effect,
    End,
    GiveUp,
    HangUp,
    Interrupt,
    Job,
    Outcome,
    Say,
    Write,
    stopped_or_lost,
)
from plait.agents.claude_background import Background
from plait.agents.claude_fields import content_text, mapping, text, texts
from plait.agents.claude_input import line_of, message_line, refusal_line, request_line, response_line
from plait.agents.claude_provider import Meter, Provider, trouble_kind
from plait.agents.claude_requests import CANCEL, Waiting, decision, wanting
from plait.agents.claude_story import Story, remarks
from plait.agents.lines import Lines, read_object
from plait.core.reports import (
    Began,
    Delivered,
    Remark,
    TurnBegan,
    TurnEnded,
    Unread,
    Withdrawn,
    shorten,
)

LEFT_RUNNING_S = 600.0
"""How long commands that the agent left running may hold up its end."""

_ABORTED = frozenset({"aborted_streaming", "aborted_tools"})
_SAY_IDS = uuid.UUID("5f1c2c53-6e1d-4d0b-9d7c-0a8a3d3c6f6e")
_LOST = "Claude Code ended without finishing its turn"


class ClaudeDriver:
    """The conversation with one process of Claude Code.

    A turn is open from the moment its message is written until it is idle after a `result`. The report of a subagent
    starts another round of the turn, so that it is held open for them; commands left in the background do not hold it:
    see `HangUp.after_s`.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lines = Lines()
        self._effects: list[Effect] = []
        self._story = Story()
        self._provider = Provider()
        self._meter = Meter(resumed=job.resume is not None)
        self._background = Background()
        self._began = Began(agent_session="")
        self._prompt = job.opening
        self._open = True
        self._announced = False
        self._held: TurnEnded | None = None
        self._ended: TurnEnded | None = None
        self._tells_states = False
        self._interrupts = 0
        self._interrupting = False
        self._rest_remark = ""
        self._over = False
        self._sent: dict[str, Say] = {}
        self._waiting: dict[str, Waiting] = {}
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "assistant": self._assistant,
            "auth_status": self._auth_status,
            "command_lifecycle": self._lifecycle,
            "control_cancel_request": self._cancel_request,
            "control_request": self._control_request,
            "control_response": self._control_response,
            "conversation_reset": self._reset,
            "rate_limit_event": self._rate_limit,
            "result": self._result,
            "system/api_retry": self._api_retry,
            "system/background_tasks_changed": self._tasks_changed,
            "system/compact_boundary": self._compacted,
            "system/init": self._init,
            "system/session_state_changed": self._state_changed,
            "system/session_writes_lost": self._writes_lost,
            "system/status": self._status,
            "system/task_notification": self._task_noticed,
            "tool_progress": self._tool_progress,
            "user": self._user,
        }

    def begin(self) -> Sequence[Effect]:
        self._write("initialize", request_line("initialize", "initialize", hooks=None))
        self._write("opening", message_line(self._job.opening))
        return self._taken()

    def feed(self, data: bytes) -> Sequence[Effect]:
        for line in self._lines.feed(data):
            self._line(line)
        return self._taken()

    def take(self, command: Command) -> Sequence[Effect]:
        match command:
            case Say():
                self._say(command)
            case Answer():
                self._answer(command)
            case Interrupt():
                self._interrupt()
        return self._taken()

    def close(self) -> Sequence[Effect]:
        for line in self._lines.close():
            self._line(line)
        if self._held is not None and not self._background.subagents:
            self._end_turn(self._held)
        self._withdraw_all()
        return self._taken()

    def outcome(self, end: End) -> Outcome:
        if self._provider.fatal is not None:
            return Outcome(False, self._provider.advice(), trouble=self._provider.fatal.kind)
        if self._ended is None:
            return stopped_or_lost(end) or Outcome(False, _lost(end))
        match self._ended.stop:
            case "end_turn":
                return Outcome(True, "Done.")
            case "cancelled":
                return Outcome(False, "Stopped.", stopped=True)
            case "max_tokens":
                return Outcome(False, "It reached the longest answer that its model can give before it was done.")
            case "refusal":
                return Outcome(False, f"Its model refused to go on. {self._ended.text}".strip())
            case "error":
                return Outcome(False, self._ended.text or _lost(end), trouble=self._provider.last)

    def _line(self, line: bytes) -> None:
        message = read_object(line)
        if message is None:
            return
        if isinstance(message, Unread):
            self._effects.append(message)
            return
        name = text(message, "type")
        if name == "system":
            name = f"system/{text(message, 'subtype')}"
        if handler := self._handlers.get(name):
            handler(message)
        elif (spoken := remarks(name, message)) is not None:
            self._effects += spoken
        else:
            why = f"Claude Code sent a message of an unknown type, {shorten(name, 100)!r}."
            self._effects.append(Unread(text=shorten(line.decode("utf-8", "replace"), 2000), why=why))

    def _taken(self) -> Sequence[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def _write(self, name: str, said: Mapping[str, Any]) -> None:
        self._effects.append(Write(name, line_of(said)))

    def _say(self, say: Say) -> None:
        if self._over:
            return
        name = str(uuid.uuid5(_SAY_IDS, f"{self._job.session}/{say.id}"))
        self._sent[name] = say
        self._write(f"say-{say.id}", {**message_line(say.text), "uuid": name})

    def _answer(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.request)
        if waiting is None:
            return
        said = decision(waiting, answer)
        if said is None:
            self._effects.append(Remark(text="That is none of the answers to what it asked; it still waits."))
            return
        self._interrupting = self._interrupting or answer.option == CANCEL
        self._write(f"answer-{answer.request}", response_line(answer.request, said))
        self._withdraw(answer.request)

    def _interrupt(self) -> None:
        if self._over:
            return
        if self._open and self._held is None:
            self._interrupts += 1
            self._interrupting = True
            name = f"interrupt-{self._interrupts}"
            # A message that waits would otherwise start the next turn at once.
            self._write(name, request_line(name, "interrupt", cancel_queued=True))
            return
        if self._held is not None:
            done = not self._background.subagents
            self._end_turn(self._held if done else TurnEnded(stop="cancelled", text="Interrupted."))
        self._hang_up()

    def _init(self, message: dict[str, Any]) -> None:
        self._provider.keyed(text(message, "apiKeySource"))
        self._is(text(message, "session_id"), text(message, "model"), text(message, "permissionMode"))
        if self._held is not None and self._sent:
            # This round is a message's, not a subagent's.
            self._end_turn(self._held)
        self._held = None
        self._rest_remark = ""
        if not self._open:
            self._open, self._announced, self._ended, self._prompt = True, False, None, ""

    def _is(self, session: str, model: str = "", mode: str = "") -> None:
        known = self._began
        began = Began(
            agent_session=session or known.agent_session,
            model=model or known.model,
            mode=mode or known.mode,
        )
        if began != known and began.agent_session:
            self._began = began
            self._effects.append(began)

    def _announce(self, prompt: str = "") -> None:
        """The first sign of work on a turn."""
        if not self._announced:
            self._announced = True
            self._effects.append(TurnBegan(prompt=shorten(prompt or self._prompt)))

    def _result(self, message: dict[str, Any]) -> None:
        self._is(text(message, "session_id"))
        self._announce()
        used = self._meter.turn(message)
        if used is not None:
            self._effects.append(used)
        self._effects += self._story.sized(mapping(message, "modelUsage"))
        ended = self._verdict(message)
        self._interrupting = False
        if ended.stop == "end_turn":
            self._held = ended
        else:
            self._end_turn(ended)
        if not self._tells_states:
            self._idle()

    def _verdict(self, message: dict[str, Any]) -> TurnEnded:
        words = shorten(text(message, "result") or "\n".join(texts(message, "errors")))
        if message.get("is_error") is not True and text(message, "subtype") == "success":
            match text(message, "stop_reason"):
                case "max_tokens":
                    return TurnEnded(stop="max_tokens", text=words)
                case "refusal":
                    return TurnEnded(stop="refusal", text=words)
                case _:
                    return TurnEnded(stop="end_turn", text=words)
        how = text(message, "terminal_reason")
        if self._interrupting or how in _ABORTED:
            return TurnEnded(stop="cancelled", text="Interrupted.")
        words = words or f"Claude Code ended its turn: {text(message, 'subtype') or 'no reason given'}."
        if how != "api_error":
            # Of an API error the message before has told.
            self._effects.append(self._provider.trouble(trouble_kind("", None, how=how), words))
        return TurnEnded(stop="error", text=words)

    def _end_turn(self, ended: TurnEnded) -> None:
        self._withdraw_all()
        self._open = False
        self._held = None
        self._ended = ended
        self._effects.append(ended)

    def _state_changed(self, message: dict[str, Any]) -> None:
        self._tells_states = True
        if text(message, "state") == "idle":
            self._idle()

    def _idle(self) -> None:
        """It waits for input: that is its end, unless a message is on its way to it or something still runs for it."""
        self._background.idle()
        if self._held is not None and self._background.subagents and not self._over:
            self._rests(f"Its subagents are still at work: {self._background.names}.")
            return
        if self._held is not None:
            self._end_turn(self._held)
        if self._open or self._over or self._sent:
            return
        if not self._background or self._ended is None or self._ended.stop != "end_turn":
            self._hang_up()
            return
        words = f"It left running in the background: {self._background.names}."
        if self._rests(f"{words} That is given {LEFT_RUNNING_S / 60:.0f} minutes to finish, then it is stopped."):
            self._effects.append(HangUp(after_s=LEFT_RUNNING_S))

    def _rests(self, words: str) -> bool:
        """Says what it waits for, once."""
        if words == self._rest_remark:
            return False
        self._rest_remark = words
        self._effects.append(Remark(text=words))
        return True

    def _hang_up(self) -> None:
        self._over = True
        self._effects.append(HangUp())

    def _tasks_changed(self, message: dict[str, Any]) -> None:
        self._background.changed(message)
        self._look_at_background()

    def _task_noticed(self, message: dict[str, Any]) -> None:
        words = self._background.noticed(message)
        returned = self._story.returned(message)
        self._effects += returned or ([Remark(text=words)] if words else [])
        self._look_at_background()

    def _look_at_background(self) -> None:
        """Ends the wait for background tasks if none is left and none will start another round."""
        resting = self._held is not None or not self._open
        if resting and self._background.over():
            self._idle()

    def _assistant(self, message: dict[str, Any]) -> None:
        self._announce()
        if text(message, "error"):
            self._effects.append(
                self._provider.failed(message, content_text(mapping(message, "message").get("content")))
            )
        else:
            self._effects += self._story.said(message)

    def _user(self, message: dict[str, Any]) -> None:
        if message.get("isReplay") is not True:
            self._effects += self._story.heard(message)
            return
        name, words = text(message, "uuid"), content_text(mapping(message, "message").get("content"))
        if name not in self._sent:
            # Older versions do not keep the id of a message.
            name = next((sent for sent, say in self._sent.items() if say.text == words), "")
        self._announce(words)
        self._delivered(name)

    def _lifecycle(self, message: dict[str, Any]) -> None:
        name = text(message, "command_uuid")
        match text(message, "state"):
            case "completed":
                self._delivered(name)
            case "cancelled" | "discarded":
                self._sent.pop(name, None)

    def _delivered(self, name: str) -> None:
        said = self._sent.pop(name, None)
        if said is not None:
            self._effects.append(Delivered(id=said.id))

    def _control_request(self, message: dict[str, Any]) -> None:
        request, name = mapping(message, "request"), text(message, "request_id")
        kind = text(request, "subtype")
        if kind == "can_use_tool" and name:
            self._announce()
            self._waiting[name] = wanting(name, request, self._story.wanted(text(request, "tool_use_id")))
            self._effects.append(self._waiting[name].asked)
        elif kind == "elicitation" and name:
            words = (
                f"The MCP server {text(request, 'mcp_server_name')} asked for a form to be filled in; that was declined"
            )
            self._effects.append(Remark(text=shorten(f"{words}: {text(request, 'message')}", 2000)))
            self._write(f"answer-{name}", response_line(name, {"action": "decline"}))
        else:
            why = f"Claude Code asks for something that Plait does not do, {shorten(kind, 100)!r}."
            self._effects.append(Unread(text=shorten(content_text([request]), 2000), why=why))
            # A dialog of a kind that was not asked for has to stay without an answer.
            if name and kind != "request_user_dialog":
                self._write(f"answer-{name}", refusal_line(name, "Plait does not do that."))

    def _control_response(self, message: dict[str, Any]) -> None:
        response = mapping(message, "response")
        name = text(response, "request_id")
        if text(response, "subtype") == "error":
            words = f"Claude Code refused {name or 'a request'}: {text(response, 'error')}"
            self._effects.append(self._provider.trouble("agent", shorten(words, 2000)))
        elif name == "initialize":
            self._provider.initialized(mapping(mapping(response, "response"), "account"))

    def _cancel_request(self, message: dict[str, Any]) -> None:
        self._withdraw(text(message, "request_id"))

    def _withdraw(self, name: str) -> None:
        if self._waiting.pop(name, None) is not None:
            self._effects.append(Withdrawn(id=name))

    def _withdraw_all(self) -> None:
        for name in list(self._waiting):
            self._withdraw(name)

    def _api_retry(self, message: dict[str, Any]) -> None:
        self._announce()
        self._effects.append(self._provider.retry(message))
        if self._provider.fatal is not None and not self._over:
            self._over = True
            self._effects += [self._provider.fatal, GiveUp()]

    def _tool_progress(self, message: dict[str, Any]) -> None:
        if again := mapping(message, "subagent_retry"):
            self._effects.append(self._provider.retry(again))

    def _rate_limit(self, message: dict[str, Any]) -> None:
        self._effects.append(self._provider.limited(mapping(message, "rate_limit_info")))

    def _auth_status(self, message: dict[str, Any]) -> None:
        if words := text(message, "error"):
            self._effects.append(self._provider.trouble("auth", shorten(words, 2000)))

    def _compacted(self, message: dict[str, Any]) -> None:
        self._effects += self._story.compacted(message)

    def _status(self, message: dict[str, Any]) -> None:
        self._is(text(message, "session_id"), mode=text(message, "permissionMode"))
        if text(message, "compact_result") == "failed":
            words = f"Its conversation could not be summed up: {text(message, 'compact_error')}"
            self._effects.append(self._provider.trouble("context", shorten(words, 2000)))

    def _reset(self, message: dict[str, Any]) -> None:
        self._is(text(message, "new_conversation_id"))
        self._effects.append(Remark(text="It began its conversation anew and forgot what was said before."))

    def _writes_lost(self, message: dict[str, Any]) -> None:
        words = f"Claude Code could not save its transcript ({text(message, 'error_code')}): resuming may miss a part."
        self._effects.append(self._provider.trouble("agent", words))


def _lost(end: End) -> str:
    complaint = end.complaints.strip()
    return shorten(f"{_LOST}: {complaint}", 2000) if complaint else f"{_LOST}."
