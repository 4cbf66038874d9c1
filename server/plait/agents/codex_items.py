"""The items of Codex's app-server — what it says, thinks, runs and changes — in Plait's words."""

from __future__ import annotations

from collections.abc import Sequence

from plait.agents.codex_values import Json, bare_command, command_kind, inner, number, plain, rows, text, words
from plait.core.reports import (
    FileDiff,
    Message,
    Place,
    PlanEntry,
    Planned,
    Remark,
    Report,
    Thought,
    ToolBegan,
    ToolEnded,
    ToolKind,
    ToolUpdated,
    Unread,
    shorten,
)

_STATUSES = {"failed": "failed", "declined": "denied", "interrupted": "failed"}
_PLAN_STATUSES = {"inProgress": "in_progress", "completed": "completed"}
_COMPACTED = "The conversation was compacted to make room in the model's context."


def began(item: Json, own: bool) -> list[Report]:
    """What the start of an item means; `own` is false for what an agent that Codex started does."""
    match text(item, "type"):
        case "commandExecution":
            command = bare_command(text(item, "command"))
            kind, places = command_kind(rows(item, "commandActions"))
            return [_tool(item, "command", kind, command, places, command)]
        case "fileChange":
            changes = rows(item, "changes")
            places = tuple(Place(path=text(change, "path")) for change in changes)
            return [_tool(item, "file change", _change_kind(changes), change_title(changes), places)]
        case "mcpToolCall":
            name = f"{text(item, 'server')}.{text(item, 'tool')}"
            return [_tool(item, name, "other", name, (), plain(item.get("arguments")))]
        case "dynamicToolCall":
            return [_tool(item, text(item, "tool"), "other", text(item, "tool"), (), plain(item.get("arguments")))]
        case "webSearch":
            return [_tool(item, "web search", "fetch", _search_title(item))]
        case "imageView":
            return [_tool(item, "view image", "read", text(item, "path"), (Place(path=text(item, "path")),))]
        case "imageGeneration":
            return [_tool(item, "image generation", "other", "Make an image")]
        case "sleep":
            return [_tool(item, "sleep", "other", f"Wait for {(number(item, 'durationMs') or 0) / 1000:g} s")]
        case "collabAgentToolCall":
            return [_tool(item, text(item, "tool"), "subagent", text(item, "tool"), (), text(item, "prompt"))]
        case _:
            # The other kinds have nothing to tell before they are complete.
            return []


def ended(item: Json, own: bool) -> list[Report]:
    """What the end of an item means."""
    match text(item, "type"):
        case "agentMessage":
            asked = [f"{text(row, 'title')} ({', '.join(words(row, 'options'))})" for row in rows(item, "questions")]
            said = shorten("\n".join(part for part in (text(item, "text"), *asked) if part))
            if not said:
                return []
            return [Message(text=said)] if own else [Thought(text=f"(a helping agent) {said}")]
        case "plan":
            return [Message(text=shorten(text(item, "text")))]
        case "reasoning":
            thought = "\n\n".join(words(item, "summary")) or "\n\n".join(words(item, "content"))
            return [Thought(text=shorten(thought))] if thought else []
        case "commandExecution":
            return [_tool_ended(item, text(item, "aggregatedOutput"), code=number(item, "exitCode"))]
        case "fileChange":
            return [_tool_ended(item, "", diffs=diffs(item))]
        case "mcpToolCall":
            failure = text(inner(item, "error"), "message")
            return [_tool_ended(item, failure or _content(rows(inner(item, "result"), "content")))]
        case "dynamicToolCall":
            return [_tool_ended(item, _content(rows(item, "contentItems")))]
        case "webSearch":
            output = plain(item.get("results"))
            return [ToolUpdated(id=text(item, "id"), title=_search_title(item)), _tool_ended(item, output)]
        case "imageView" | "imageGeneration" | "sleep":
            return [_tool_ended(item, text(item, "savedPath"))]
        case "collabAgentToolCall":
            states = inner(item, "agentsStates")
            told = [text(inner(states, key), "message") or text(inner(states, key), "status") for key in states]
            return [_tool_ended(item, "\n\n".join(told))]
        case "subAgentActivity":
            return [Remark(text=f"A helping agent ({text(item, 'agentPath')}) has {text(item, 'kind') or 'worked'}.")]
        case "functionCallOutput":
            began_now = _tool(item, text(item, "name"), "other", text(item, "name"))
            return [began_now, _tool_ended(item, plain(item.get("output")))]
        case "hookPrompt":
            parts = [text(fragment, "text") for fragment in rows(item, "fragments")]
            return [Remark(text=shorten("A hook told it: " + "\n".join(parts)))]
        case "enteredReviewMode":
            return [Remark(text="It reviews: " + shorten(text(item, "review")))]
        case "exitedReviewMode":
            return [Message(text=shorten(text(item, "review")))]
        case "contextCompaction":
            return [Remark(text=_COMPACTED)]
        case "userMessage":
            # The driver has seen to it.
            return []
        case kind:
            return [Unread(text=shorten(plain(dict(item)), 2000), why=f"It is an item of an unknown type, “{kind}”.")]


def diffs(item: Json) -> tuple[FileDiff, ...]:
    """What a file change does: of a new and of a deleted file Codex sends the content, of others a unified diff."""
    found = []
    for change in rows(item, "changes"):
        if not isinstance(change.get("diff"), str):
            continue
        path, diff = text(change, "path"), shorten(text(change, "diff"))
        match text(inner(change, "kind"), "type"):
            case "add":
                found.append(FileDiff(path=path, new=diff))
            case "delete":
                found.append(FileDiff(path=path, old=diff))
            case _:
                found.append(FileDiff(path=path, unified=diff))
    return tuple(found)


def change_title(changes: Sequence[Json]) -> str:
    """A change of files in a few words."""
    if not changes:
        return "Change files"
    verbs = {"add": "Create", "delete": "Delete"}
    parts = []
    for change in changes[:3]:
        kind = inner(change, "kind")
        name = text(change, "path").rpartition("/")[2] or text(change, "path")
        moved = text(kind, "move_path")
        parts.append(f"Move {name} to {moved}" if moved else f"{verbs.get(text(kind, 'type'), 'Change')} {name}")
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return ", ".join(parts) + more


def planned(steps: Sequence[Json]) -> Planned:
    """The agent's plan."""
    return Planned(
        entries=tuple(
            PlanEntry.model_validate(
                {"text": text(step, "step"), "status": _PLAN_STATUSES.get(text(step, "status"), "pending")}
            )
            for step in steps
        )
    )


def _tool(
    item: Json, name: str, kind: ToolKind, title: str, places: tuple[Place, ...] = (), input_text: str = ""
) -> ToolBegan:
    return ToolBegan(
        id=text(item, "id"),
        name=name,
        kind=kind,
        title=shorten(title, 1000),
        places=places,
        input=shorten(input_text),
    )


def _tool_ended(item: Json, output: str, code: int | None = None, diffs: tuple[FileDiff, ...] = ()) -> ToolEnded:
    return ToolEnded.model_validate(
        {
            "id": text(item, "id"),
            "status": _STATUSES.get(text(item, "status"), "completed"),
            "exit": code,
            "output": shorten(output),
            "diffs": diffs,
        }
    )


def _change_kind(changes: Sequence[Json]) -> ToolKind:
    kinds = [inner(change, "kind") for change in changes]
    if kinds and all(text(kind, "type") == "delete" for kind in kinds):
        return "delete"
    if kinds and all(text(kind, "move_path") for kind in kinds):
        return "move"
    return "edit"


def _search_title(item: Json) -> str:
    action = inner(item, "action")
    return text(item, "query") or text(action, "query") or text(action, "url") or "Search the web"


def _content(blocks: Sequence[Json]) -> str:
    return "\n".join(text(block, "text") or f"[{text(block, 'type') or 'something else'}]" for block in blocks)
