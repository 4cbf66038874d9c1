"""What Claude Code says and does in its messages: words, thoughts, tools, its plan, and how full its context is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from plait.agents.claude_fields import content_text, count, mapping, mappings, text
from plait.agents.claude_tools import Plan, tool_began, tool_ended, was_denied
from plait.core.reports import (
    Context,
    Message,
    Planned,
    Remark,
    Report,
    Thought,
    ToolEnded,
    ToolUpdated,
    Unread,
    shorten,
)

IGNORED = frozenset(
    {
        "active_goal",
        "keep_alive",
        "prompt_suggestion",
        "stream_event",
        "system/commands_changed",
        "system/control_request_progress",
        "system/elicitation_complete",
        "system/files_persisted",
        "system/hook_progress",
        "system/hook_response",
        "system/hook_started",
        "system/memory_recall",
        "system/mirror_error",
        "system/permission_denied",
        "system/plugin_install",
        "system/task_progress",
        "system/task_started",
        "system/task_updated",
        "system/thinking_tokens",
        "system/worker_shutting_down",
        "tool_use_summary",
    }
)
"""Messages that tell nothing that a report has a place for, or nothing that another message does not tell too."""


class Story:
    """Reads messages one by one; it knows the tools in use, the plan and the context from those before."""

    def __init__(self) -> None:
        self._tools: dict[str, Mapping[str, Any]] = {}
        self._sent_off: set[str] = set()
        self._plan = Plan()
        self._context = Context(used=0)
        self._model = ""

    def said(self, message: Mapping[str, Any]) -> Sequence[Report]:
        """The reports of an `assistant` message; a subagent's words belong to the tool that it runs in."""
        inner = mapping(message, "message")
        parent = text(message, "parent_tool_use_id")
        reports: list[Report] = []
        if not parent:
            self._model = text(inner, "model") or self._model
            parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
            used = sum(count(mapping(inner, "usage"), part) for part in parts)
            reports += self._filled(used, self._context.size)
        by = text(message, "task_description", "subagent_type") or "subagent"
        for block in mappings(inner, "content"):
            reports += self._block(block, parent, by if parent else "")
        return reports

    def _block(self, block: Mapping[str, Any], parent: str, by: str) -> Sequence[Report]:
        words = shorten(text(block, "text", "thinking"))
        match text(block, "type"):
            case "text" if parent:
                return [ToolUpdated(id=parent, output=words)]
            case "text":
                return [Message(text=words)]
            case "thinking" if words and not parent:
                return [Thought(text=words)]
            case "thinking" | "redacted_thinking":
                return []
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                self._tools[text(block, "id")] = block
                planned = self._planned(block, None) if text(block, "name") == "TodoWrite" and not parent else []
                return [tool_began(block, by), *planned]
            case name if name.endswith("_tool_result"):
                return [tool_ended(block, None, denied=False)]
            case name:
                why = f"A part of a message is of an unknown type, {name!r}."
                return [Unread(text=shorten(content_text([block]), 2000), why=why)]

    def heard(self, message: Mapping[str, Any]) -> Sequence[Report]:
        """The reports of a `user` message that is not the user's: results of tools, words of the program."""
        inner = mapping(message, "message")
        results = [block for block in mappings(inner, "content") if text(block, "type") == "tool_result"]
        metas = {text(meta, "id"): meta for meta in mappings(message, "tool_result_meta")}
        told = message.get("tool_use_result") if len(results) == 1 else None
        reports: list[Report] = []
        for block in results:
            tool = text(block, "tool_use_id")
            if isinstance(told, dict) and text(told, "status") == "async_launched":
                self._sent_off.add(tool)
                reports.append(ToolUpdated(id=tool, output="It works in the background."))
            else:
                reports.append(tool_ended(block, told, was_denied(metas.get(tool, {}))))
            used = self._tools.pop(tool, {})
            if block.get("is_error") is not True and text(used, "name") != "TodoWrite":
                reports += self._planned(used, told)
        hidden = results or message.get("isSynthetic") is True or text(message, "parent_tool_use_id")
        words = "" if hidden else content_text(inner.get("content"))
        # What it notes of an interruption is told by the end of the turn.
        if words and not words.startswith("[Request interrupted by user"):
            reports.append(Remark(text=shorten(words, 2000)))
        return reports

    def wanted(self, tool: str) -> Mapping[str, Any]:
        """What a tool in use was called with."""
        return mapping(self._tools.get(tool, {}), "input")

    def returned(self, message: Mapping[str, Any]) -> Sequence[Report]:
        """The end of a subagent that was sent off, of which a `task_notification` message tells."""
        tool = text(message, "tool_use_id")
        if tool not in self._sent_off:
            return []
        self._sent_off.remove(tool)
        status: Literal["completed", "failed"] = "completed" if text(message, "status") == "completed" else "failed"
        return [ToolEnded(id=tool, status=status, output=shorten(text(message, "summary")))]

    def _planned(self, block: Mapping[str, Any], told: Any) -> Sequence[Report]:
        changed = self._plan.changed(text(block, "name"), mapping(block, "input"), told)
        return [Planned(entries=self._plan.entries)] if changed else []

    def sized(self, models: Mapping[str, Any]) -> Sequence[Report]:
        """The context, once a `modelUsage` table has told how much the model can hold."""
        size = count(mapping(models, self._model), "contextWindow")
        return self._filled(self._context.used, size or self._context.size)

    def compacted(self, message: Mapping[str, Any]) -> Sequence[Report]:
        """The reports of a `compact_boundary` message."""
        told = mapping(message, "compact_metadata")
        before, after = count(told, "pre_tokens"), count(told, "post_tokens")
        became = f"; it is {after} now" if after else ""
        remark = Remark(text=f"It summed up its conversation of {before} tokens{became}.")
        return [remark, *self._filled(after, self._context.size)]

    def _filled(self, used: int, size: int | None) -> Sequence[Report]:
        found = Context(used=used, size=size)
        if not used or found == self._context:
            return []
        self._context = found
        return [found]


def remarks(name: str, message: Mapping[str, Any]) -> Sequence[Report] | None:
    """The reports of a message in which the program itself speaks; none if it is not one of those."""
    words = shorten(text(message, "content", "text"), 2000)
    match name:
        case "system/informational":
            shown = text(message, "level") in ("notice", "warning")
        case "system/notification":
            shown = text(message, "priority") in ("high", "immediate")
        case "system/model_refusal_fallback" | "system/model_refusal_no_fallback":
            shown = True
        case "system/local_command_output":
            return [Message(text=words)] if words else []
        case _:
            return [] if name in IGNORED else None
    return [Remark(text=words)] if shown and words else []
