"""Codex through `codex exec --json`, for versions whose app-server cannot be spoken with: one turn a process, no input.

`has_app_server` tells which of the two ways to take. Sources: recorded streams of 0.169.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from plait.agents import codex_items
from plait.agents.adapter import (
    Abilities,
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
)
from plait.agents.codex import MODES
from plait.agents.codex_values import (
    Json,
    attempts,
    delay_s,
    inner,
    judged,
    plain,
    rows,
    text,
    trouble_kind,
    used,
)
from plait.agents.lines import Lines, read_object
from plait.core.reports import (
    Began,
    PlanEntry,
    Planned,
    Remark,
    Retry,
    StopReason,
    ToolBegan,
    ToolEnded,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    shorten,
)

FIRST_WITH_APP_SERVER = (0, 100)
"""The oldest version whose app-server was seen to understand what `codex` says to it."""

TOKENS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)
ACCOUNT = "openai"
"""`exec` does not say which provider it uses."""

_VERSION = re.compile(r"(\d+)\.(\d+)")
_ITEMS = {
    "agent_message": "agentMessage",
    "command_execution": "commandExecution",
    "file_change": "fileChange",
    "mcp_tool_call": "mcpToolCall",
    "collab_tool_call": "collabAgentToolCall",
    "web_search": "webSearch",
}
_FIELDS = {"aggregated_output": "aggregatedOutput", "exit_code": "exitCode"}
_NO_QUESTIONS = "This version of Codex cannot ask for permission, so it may only read. With `edits` it may write here."
_LATER = "This version of Codex takes no message in the middle of a turn. It will be told when this turn is over."


def has_app_server(version: str | None) -> bool:
    """Whether the Codex that says this with `--version` has a usable app-server; an unknown one is taken to be new."""
    found = _VERSION.search(version or "")
    return found is None or (int(found[1][:6]), int(found[2][:6])) >= FIRST_WITH_APP_SERVER


class CodexExec:
    """The adapter of Codex versions without a usable app-server."""

    abilities = Abilities(asks=False, limits=True)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        _, sandbox = MODES[job.permission]
        settings = ("-c", "check_for_update_on_startup=false", "--sandbox", sandbox, "--skip-git-repo-check")
        model = () if job.model is None else ("--model", job.model)
        resume = () if job.resume is None else ("resume", job.resume)
        return Launch((*command, "exec", "--json", *settings, *model, *resume, "--", job.opening), stderr="apart")

    def driver(self, job: Job) -> CodexExecDriver:
        return CodexExecDriver(job)


class CodexExecDriver:
    """What one `codex exec` prints; nothing can be said to it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lines = Lines()
        self._tools: set[str] = set()
        self._last_said = ""
        self._running = False
        self._told_later = False
        self._stop: StopReason | None = None
        self._trouble: Trouble | None = None
        self._over = False

    def begin(self) -> Sequence[Effect]:
        return [Remark(text=_NO_QUESTIONS)] if self._job.permission == "ask" else []

    def feed(self, data: bytes) -> Sequence[Effect]:
        return [effect for line in self._lines.feed(data) for effect in self._line(line)]

    def close(self) -> Sequence[Effect]:
        return [effect for line in self._lines.close() for effect in self._line(line)]

    def take(self, command: Command) -> Sequence[Effect]:
        if self._over:
            return []
        if isinstance(command, Interrupt):
            return [*self._turn_over("cancelled", "")[:-1], GiveUp()]
        if isinstance(command, Say) and not self._told_later:
            self._told_later = True
            return [Remark(text=_LATER)]
        return []

    def outcome(self, end: End) -> Outcome:
        return judged(self._stop, self._trouble, self._last_said, end)

    def _line(self, line: bytes) -> list[Effect]:
        event = read_object(line)
        if event is None:
            return []
        if isinstance(event, Unread):
            return [event]
        match text(event, "type"):
            case "thread.started":
                return [Began(agent_session=text(event, "thread_id"), model=self._job.model)]
            case "turn.started":
                if self._running or self._over:
                    return []
                self._running = True
                return [TurnBegan(prompt=shorten(self._job.opening))]
            case "item.started":
                return self._item_began(_item(inner(event, "item")))
            case "item.updated":
                item = _item(inner(event, "item"))
                return [_planned(item)] if text(item, "type") == "todo_list" else []
            case "item.completed":
                return self._item_ended(_item(inner(event, "item")))
            case "error":
                return self._failed(text(event, "message"))
            case "turn.completed":
                spent = used("thread", inner(event, "usage"), TOKENS)
                return [spent, *self._turn_over("end_turn", self._last_said)] if not self._over else [spent]
            case "turn.failed":
                said = text(inner(event, "error"), "message") or "It does not say why."
                failed = [] if self._trouble and self._trouble.text == shorten(said) else self._failed(said)
                return failed if self._over else [*failed, *self._turn_over("error", said)]
            case kind:
                shown = shorten(line.decode("utf-8", "replace"), 2000)
                return [Unread(text=shown, why=f"It is an event of an unknown kind, “{kind}”.")]

    def _item_began(self, item: Json) -> list[Effect]:
        effects: list[Effect] = list(codex_items.began(item, own=True))
        if text(item, "type") == "todo_list":
            return [_planned(item)]
        if any(isinstance(effect, ToolBegan) for effect in effects):
            self._tools.add(text(item, "id"))
        return effects

    def _item_ended(self, item: Json) -> list[Effect]:
        match text(item, "type"):
            case "todo_list":
                return [_planned(item)]
            case "error":
                return [Remark(text=shorten(text(item, "message"), 2000))]
            case "agentMessage":
                self._last_said = text(item, "text") or self._last_said
        effects: list[Effect] = list(codex_items.ended(item, own=True))
        known = text(item, "id") in self._tools
        self._tools.discard(text(item, "id"))
        if not known and any(isinstance(effect, ToolEnded) for effect in effects):
            return [*codex_items.began(item, own=True), *effects]
        return effects

    def _failed(self, said: str) -> list[Effect]:
        kind = trouble_kind(None, said)
        will_retry = said.startswith("Reconnecting")
        if kind == "auth" or (kind == "quota" and not will_retry):
            if self._over:
                return []
            ended = self._turn_over("error", said)[:-1]
            self._trouble = Trouble(account=ACCOUNT, kind=kind, text=shorten(said), fatal=True)
            return [self._trouble, *ended, GiveUp()]
        if will_retry:
            attempt, most = attempts(said)
            retry = Retry(
                account=ACCOUNT, kind=kind, attempt=attempt, most=most, delay_s=delay_s(said), text=shorten(said)
            )
            return [retry]
        self._trouble = Trouble(account=ACCOUNT, kind=kind, text=shorten(said))
        return [self._trouble]

    def _turn_over(self, stop: StopReason, said: str) -> list[Effect]:
        self._over = True
        self._running = False
        self._stop = stop
        self._last_said = said
        note = "It did not come to its end."
        broken = [ToolEnded(id=name, status="failed", output=note) for name in sorted(self._tools)]
        self._tools.clear()
        return [*broken, TurnEnded(stop=stop, text=shorten(said)), HangUp()]


def _item(item: Json) -> Json:
    """An item in the words of the app-server, which says the same in other cases."""
    made: dict[str, Any] = {_FIELDS.get(key, key): value for key, value in item.items()}
    made["type"] = _ITEMS.get(text(item, "type"), text(item, "type"))
    if made["type"] == "fileChange":
        made["changes"] = [
            {"path": row.get("path"), "kind": {"type": row.get("kind")}} for row in rows(item, "changes")
        ]
    if made["type"] == "reasoning":
        made["summary"] = [plain(item.get("text"))]
    if made["type"] == "collabAgentToolCall":
        made["agentsStates"] = item.get("agents_states")
    return made


def _planned(item: Json) -> Planned:
    entries = rows(item, "items")
    return Planned(entries=tuple(_entry(entry) for entry in entries))


def _entry(entry: Mapping[str, Any]) -> PlanEntry:
    return PlanEntry(text=text(entry, "text"), status="completed" if entry.get("completed") is True else "pending")
