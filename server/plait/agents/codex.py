"""Codex through `codex app-server`: JSON-RPC, one message a line, in both directions, several turns a process.

Sources: `codex app-server generate-json-schema` of 0.169, recorded streams, runs against a scripted model server.
Versions without app-server are driven by `codex_exec`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plait import __version__
from plait.agents import codex_items, codex_notices, codex_requests
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
)
from plait.agents.codex_account import Account
from plait.agents.codex_values import (
    NO_COMMIT,
    Json,
    inner,
    judged,
    number,
    plain,
    rows,
    text,
)
from plait.agents.lines import Lines, read_object
from plait.core.events import PermissionMode
from plait.core.reports import (
    Began,
    Delivered,
    Place,
    Remark,
    Retry,
    StopReason,
    ToolBegan,
    ToolEnded,
    ToolUpdated,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    Withdrawn,
    shorten,
)

MODES: Mapping[PermissionMode, tuple[str, str]] = {
    "ask": ("on-request", "read-only"),
    "edits": ("on-request", "workspace-write"),
    "all": ("never", "workspace-write"),
}
"""Approval policy and sandbox. In a read-only sandbox reading is free, every change of a file is asked for and made
when it is allowed, and a command that must write or reach the network has to ask. `untrusted` would ask for `ls`."""

LATER = "It will be told when this turn is over."
NOT_LOGGED_IN = "It has no login and no API key"


class Codex:
    """The adapter of Codex."""

    abilities = Abilities(steers=True, limits=True)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        return Launch(
            (*command, "app-server", "-c", "check_for_update_on_startup=false"),
            stdin="fifo",
            stderr="apart",
            interrupt="TERM",
        )

    def driver(self, job: Job) -> CodexDriver:
        return CodexDriver(job)


class CodexDriver:
    """The conversation with one app-server."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lines = Lines()
        self._calls: dict[int, Callable[[Json], list[Effect]]] = {}
        self._called = 0
        self._config: Json = {}
        self._account = Account()
        self._thread = ""
        self._starting: Say | None = None
        self._turn = ""
        self._turns: set[str] = set()
        self._queue: list[Say] = []
        self._steered: list[Say] = []
        self._tools: dict[str, Json] = {}
        self._pending: dict[str, codex_requests.Pending] = {}
        self._remarks: set[str] = set()
        self._interrupting = False
        self._over = False
        self._heard = False
        self._last_said = ""
        self._stop: StopReason | None = None
        self._trouble: Trouble | None = None

    def begin(self) -> Sequence[Effect]:
        client = {"name": "plait", "title": "Plait", "version": __version__}
        return [
            self._call(
                "initialize",
                {"clientInfo": client, "capabilities": {"optOutNotificationMethods": list(codex_notices.SUPERFLUOUS)}},
                self._initialized,
            )
        ]

    def feed(self, data: bytes) -> Sequence[Effect]:
        return [effect for line in self._lines.feed(data) for effect in self._line(line)]

    def close(self) -> Sequence[Effect]:
        return [effect for line in self._lines.close() for effect in self._line(line)]

    def take(self, command: Command) -> Sequence[Effect]:
        if self._over:
            return []
        match command:
            case Say():
                return self._say(command)
            case Answer():
                return self._answer(command)
            case Interrupt():
                return self._interrupt()

    def outcome(self, end: End) -> Outcome:
        return judged(self._stop, self._trouble, self._last_said, end)

    # What comes from Codex.

    def _line(self, line: bytes) -> list[Effect]:
        message = read_object(line)
        if message is None:
            return []
        if isinstance(message, Unread):
            return [message]
        method, params = text(message, "method"), inner(message, "params")
        if method and "id" in message:
            return self._asked(method, message["id"], params)
        if method:
            return self._told(method, params, line)
        identity = number(message, "id")
        answered = self._calls.pop(identity, None) if identity is not None else None
        if answered is None:
            return [_unread(line, "It answers nothing that was asked.")]
        return answered(message)

    def _initialized(self, answer: Json) -> list[Effect]:
        if "error" in answer:
            return self._lost(f"Codex's app-server does not start: {_error_text(answer)}")
        told = Write("initialized", _line_of({"method": "initialized"}))
        return [told, self._call("account/read", {}, self._account_read)]

    def _account_read(self, answer: Json) -> list[Effect]:
        result = inner(answer, "result")
        self._account.kind = text(inner(result, "account"), "type")
        lacking = result.get("requiresOpenaiAuth") is True and not self._account.kind

        def configured(answer: Json) -> list[Effect]:
            self._config = inner(inner(answer, "result"), "config")
            if lacking and not text(self._config, "openai_base_url"):
                return self._fatal(self._account.trouble("auth", NOT_LOGGED_IN, fatal=True))
            return [self._open_thread()]

        return [self._call("config/read", {"cwd": self._job.worktree, "includeLayers": False}, configured)]

    def _open_thread(self) -> Write:
        policy, sandbox = MODES[self._job.permission]
        own = text(self._config, "developer_instructions")
        params: dict[str, Any] = {
            "cwd": self._job.worktree,
            "approvalPolicy": policy,
            "approvalsReviewer": "user",
            "sandbox": sandbox,
            "developerInstructions": f"{own}\n\n{NO_COMMIT}" if own else NO_COMMIT,
        }
        if self._job.model is not None:
            params["model"] = self._job.model
        if self._job.resume is None:
            return self._call("thread/start", params, self._opened)
        return self._call("thread/resume", {**params, "threadId": self._job.resume, "excludeTurns": True}, self._opened)

    def _opened(self, answer: Json) -> list[Effect]:
        result = inner(answer, "result")
        self._thread = text(inner(result, "thread"), "id")
        if not self._thread:
            what = "begin a conversation" if self._job.resume is None else "go on with the conversation"
            return self._lost(f"Codex cannot {what}: {_error_text(answer)}")
        self._account.provider = text(result, "modelProvider") or self._account.provider
        sandbox = text(inner(result, "sandbox"), "type")
        mode = ", ".join(part for part in (sandbox, plain(result.get("approvalPolicy"))) if part)
        began = Began(agent_session=self._thread, model=text(result, "model") or None, mode=mode or None)
        if self._over:
            return [began]
        return [began, self._start(Say(id="", text=self._job.opening))]

    def _start(self, say: Say) -> Write:
        self._starting = say
        self._stop = None
        self._trouble = None

        def started(answer: Json) -> list[Effect]:
            # The turn itself begins with a notification; there is only something to do if it does not.
            if "error" not in answer or self._starting is not say:
                return []
            self._starting = None
            return self._turn_over("error", f"Codex did not take the message: {_error_text(answer)}")

        params = {"threadId": self._thread, "input": _input(say.text)}
        if say.id:
            params["clientUserMessageId"] = say.id
        return self._call("turn/start", params, started)

    def _told(self, method: str, params: Json, line: bytes) -> list[Effect]:
        thread = text(params, "threadId")
        own = thread in ("", self._thread)
        match method:
            case "turn/started":
                return self._turn_started(params, own)
            case "turn/completed":
                return self._turn_completed(inner(params, "turn"), own)
            case "item/started":
                return self._item_began(inner(params, "item"), own)
            case "item/completed":
                return self._item_ended(inner(params, "item"), own)
            case "item/fileChange/patchUpdated":
                return self._patch_updated(params)
            case "item/mcpToolCall/progress":
                return [ToolUpdated(id=text(params, "itemId"), output=shorten(text(params, "message")))]
            case "turn/plan/updated":
                return [codex_items.planned(rows(params, "plan"))] if own else []
            case "thread/tokenUsage/updated":
                return self._used(thread, params, own)
            case "account/rateLimits/updated":
                return list(self._account.limited(inner(params, "rateLimits")))
            case "account/updated":
                self._account.kind = text(params, "authMode") or self._account.kind
                return []
            case "error":
                return self._failed(inner(params, "error"), params.get("willRetry") is True)
            case "serverRequest/resolved":
                return self._resolved(params.get("requestId"))
            case _ if method in codex_notices.IGNORED or method.startswith(codex_notices.OLD):
                return []
            case _:
                remark = codex_notices.remark(method, params)
                if remark is None:
                    return [_unread(line, f"It is a notification of an unknown kind, “{method}”.")]
                if not remark or remark in self._remarks:
                    return []
                self._remarks.add(remark)
                return [Remark(text=shorten(remark, 2000))]

    def _turn_started(self, params: Json, own: bool) -> list[Effect]:
        turn = text(inner(params, "turn"), "id")
        known = turn in self._turns
        self._turns.add(turn)
        if not own or known or self._over:
            return []
        say, self._starting = self._starting, None
        self._turn = turn
        self._stop = None
        self._last_said = ""
        effects: list[Effect] = [TurnBegan(prompt=shorten(say.text) if say else "")]
        if say is not None and say.id:
            effects.append(Delivered(id=say.id))
        if self._interrupting:
            return [*effects, self._call_interrupt()]
        waiting, self._queue = self._queue, []
        return [*effects, *(self._steer(more) for more in waiting)]

    def _turn_completed(self, turn: Json, own: bool) -> list[Effect]:
        if not own or not self._turn or text(turn, "id") != self._turn:
            return []
        match text(turn, "status"):
            case "completed":
                return self._turn_over("end_turn", self._last_said)
            case "interrupted":
                return self._turn_over("cancelled", "")
            case _:
                error = inner(turn, "error")
                reports: list[Effect] = []
                if self._trouble is None and error:
                    reports = self._failed(error, False)
                said = text(error, "message") or (self._trouble.text if self._trouble else "")
                return reports if self._over else [*reports, *self._turn_over("error", said)]

    def _turn_over(self, stop: StopReason, said: str) -> list[Effect]:
        effects: list[Effect] = [Withdrawn(id=name) for name in self._pending]
        status = "completed" if stop == "end_turn" else "failed"
        note = "It was still running when the turn ended." if stop == "end_turn" else "It did not come to its end."
        effects += [ToolEnded.model_validate({"id": name, "status": status, "output": note}) for name in self._tools]
        self._pending.clear()
        self._tools.clear()
        # A message that was handed over and never seen in the conversation has been dropped by Codex.
        self._queue = [*self._steered, *self._queue]
        self._steered = []
        self._turn = ""
        self._stop = stop
        self._last_said = said
        effects.append(TurnEnded(stop=stop, text=shorten(said)))
        if stop == "cancelled" or self._interrupting or not self._queue:
            self._over = True
            return [*effects, HangUp()]
        return [*effects, self._start(self._queue.pop(0))]

    def _item_began(self, item: Json, own: bool) -> list[Effect]:
        effects: list[Effect] = list(codex_items.began(item, own))
        self._heard |= own and text(item, "type") != "userMessage"
        if any(isinstance(effect, ToolBegan) for effect in effects):
            self._tools[text(item, "id")] = item
        if own and text(item, "type") == "userMessage":
            effects += self._seen(item)
        return effects

    def _item_ended(self, item: Json, own: bool) -> list[Effect]:
        effects: list[Effect] = list(codex_items.ended(item, own))
        known = self._tools.pop(text(item, "id"), None)
        if known is None and any(isinstance(effect, ToolEnded) for effect in effects):
            effects = [*(e for e in codex_items.began(item, own) if isinstance(e, ToolBegan)), *effects]
        if own and text(item, "type") == "agentMessage":
            self._last_said = text(item, "text") or self._last_said
        if own and text(item, "type") == "userMessage":
            effects += self._seen(item)
        return effects

    def _seen(self, item: Json) -> list[Effect]:
        """A message that was steered into the turn is delivered when it stands in the conversation."""
        client, said = text(item, "clientId"), "".join(text(part, "text") for part in rows(item, "content"))
        for say in self._steered:
            if client == say.id or (not client and said == say.text):
                self._steered.remove(say)
                return [Delivered(id=say.id)]
        return []

    def _patch_updated(self, params: Json) -> list[Effect]:
        name, changes = text(params, "itemId"), rows(params, "changes")
        if name in self._tools:
            self._tools[name] = {**self._tools[name], "changes": changes}
        places = tuple(Place(path=text(change, "path")) for change in changes)
        return [ToolUpdated(id=name, title=codex_items.change_title(changes), places=places)]

    def _used(self, thread: str, params: Json, own: bool) -> list[Effect]:
        reports = self._account.used(thread, inner(params, "tokenUsage"), own)
        # After a resume the sums of the past are told again: for a turn of the past, or before the model has answered.
        past = text(params, "turnId") not in self._turns or (own and self._job.resume is not None and not self._heard)
        return [] if past else list(reports)

    def _failed(self, error: Json, will_retry: bool) -> list[Effect]:
        found = self._account.failed(error, will_retry)
        if isinstance(found, Retry):
            return [found]
        if found.fatal:
            return self._fatal(found)
        self._trouble = found
        return [found]

    def _fatal(self, trouble: Trouble) -> list[Effect]:
        if self._over:
            return []
        self._interrupting = True
        ended = self._turn_over("error", trouble.text)[:-1] if self._turn else []
        self._over = True
        self._trouble = trouble
        return [trouble, *ended, GiveUp()]

    def _lost(self, said: str) -> list[Effect]:
        return self._fatal(self._account.trouble("agent", said, fatal=True))

    # What Codex asks.

    def _asked(self, method: str, rpc: object, params: Json) -> list[Effect]:
        found = codex_requests.pending(method, rpc, params, self._item_of(params))
        if found is None or self._over:
            # Nobody could answer it, and Codex would wait for ever.
            error = {"code": -32601, "message": f"Plait does not answer {method}."}
            refusal = Write(f"answer-{plain(rpc)}", _line_of({"id": rpc, "error": error}))
            said = shorten(plain({"method": method, "params": params}), 2000)
            return [refusal, Unread(text=said, why="It is a request that Plait has no answer to.")]
        self._pending[found.asked.id] = found
        return [found.asked]

    def _item_of(self, params: Json) -> Json:
        if name := text(params, "itemId"):
            return self._tools.get(name, {})
        server, tool = text(params, "serverName"), text(inner(params, "_meta"), "tool_name")
        for item in reversed(list(self._tools.values())):
            if server and text(item, "server") == server and tool in ("", text(item, "tool")):
                return item
        return {}

    def _resolved(self, rpc: object) -> list[Effect]:
        """Codex does not wait any more: it was answered, or its turn is over."""
        gone = [name for name, found in self._pending.items() if found.rpc == rpc]
        for name in gone:
            del self._pending[name]
        return [Withdrawn(id=name) for name in gone]

    def _answer(self, answer: Answer) -> list[Effect]:
        found = self._pending.get(answer.request)
        if found is None:
            return []
        result = found.result(answer)
        if result is None:
            return [Remark(text="That is none of the answers that Codex takes; it still waits.")]
        del self._pending[answer.request]
        effects: list[Effect] = [
            Write(f"answer-{plain(found.rpc)}", _line_of({"id": found.rpc, "result": result})),
            Withdrawn(id=answer.request),
        ]
        if answer.text and found.asked.kind == "permission" and self._turn and not self._interrupting:
            # Codex's answers have no room for words, so they follow as a message.
            effects.append(self._call_steer(answer.text, "", lambda _: []))
        return effects

    # What the user wants.

    def _say(self, say: Say) -> list[Effect]:
        if self._turn and not self._interrupting:
            return [self._steer(say)]
        # Before the turn has begun it waits for that, which takes a moment.
        self._queue.append(say)
        return []

    def _steer(self, say: Say) -> Write:
        def steered(answer: Json) -> list[Effect]:
            if "error" not in answer or say not in self._steered:
                return []
            self._steered.remove(say)
            self._queue.append(say)
            return [Remark(text=LATER)]

        self._steered.append(say)
        return self._call_steer(say.text, say.id, steered)

    def _call_steer(self, said: str, name: str, answered: Callable[[Json], list[Effect]]) -> Write:
        params = {"threadId": self._thread, "expectedTurnId": self._turn, "input": _input(said)}
        if name:
            params["clientUserMessageId"] = name
        return self._call("turn/steer", params, answered)

    def _interrupt(self) -> list[Effect]:
        if self._interrupting:
            return []
        self._interrupting = True
        if self._turn:
            return [self._call_interrupt()]
        if self._starting is not None:
            return []
        self._over = True
        self._stop = "cancelled"
        return [TurnEnded(stop="cancelled", text="It was stopped before it began."), HangUp()]

    def _call_interrupt(self) -> Write:
        turn = self._turn

        def interrupted(answer: Json) -> list[Effect]:
            if "error" not in answer or self._turn != turn:
                return []
            return self._turn_over("cancelled", "")

        return self._call("turn/interrupt", {"threadId": self._thread, "turnId": turn}, interrupted)

    def _call(self, method: str, params: Mapping[str, Any], answered: Callable[[Json], list[Effect]]) -> Write:
        self._called += 1
        self._calls[self._called] = answered
        return Write(f"call-{self._called}", _line_of({"id": self._called, "method": method, "params": params}))


def _input(said: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": said}]


def _line_of(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _error_text(answer: Json) -> str:
    return text(inner(answer, "error"), "message") or "it does not say why."


def _unread(line: bytes, why: str) -> Unread:
    return Unread(text=shorten(line.decode("utf-8", "replace"), 2000), why=why)
