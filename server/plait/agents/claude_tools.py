"""Claude Code's tools: what kind each one is, the files it works on, what it changes, the plan it keeps.

Source of the shapes: `sdk-tools.d.ts` of the package `@anthropic-ai/claude-code`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from plait.agents.claude_fields import as_json, content_text, mapping, mappings, number, text, texts
from plait.core.reports import FileDiff, Place, PlanEntry, ToolBegan, ToolEnded, ToolKind, shorten

KINDS: Mapping[str, ToolKind] = {
    "Agent": "subagent",
    "Bash": "execute",
    "BashOutput": "execute",
    "Edit": "edit",
    "ExitPlanMode": "think",
    "EnterPlanMode": "think",
    "Glob": "search",
    "Grep": "search",
    "KillShell": "execute",
    "LS": "read",
    "LSP": "search",
    "Monitor": "execute",
    "MultiEdit": "edit",
    "NotebookEdit": "edit",
    "NotebookRead": "read",
    "PowerShell": "execute",
    "Read": "read",
    "Task": "subagent",
    "TaskCreate": "think",
    "TaskUpdate": "think",
    "TodoWrite": "think",
    "ToolSearch": "search",
    "WebFetch": "fetch",
    "WebSearch": "fetch",
    "Write": "edit",
    "web_fetch": "fetch",
    "web_search": "fetch",
}

_EXIT = re.compile(r"(?:Error: )?Exit code (\d{1,3})\b")
_LONGEST_TITLE = 200


def tool_kind(name: str) -> ToolKind:
    return KINDS.get(name, "other")


def tool_began(block: Mapping[str, Any], by: str = "") -> ToolBegan:
    """The report of a `tool_use` block; `by` names the subagent that uses the tool."""
    name, given = text(block, "name"), mapping(block, "input")
    title = tool_title(name, given)
    return ToolBegan(
        id=text(block, "id"),
        name=name,
        kind=tool_kind(name),
        title=f"{by}: {title}" if by else title,
        places=places(given),
        input=tool_input(name, given),
    )


def tool_title(name: str, given: Mapping[str, Any]) -> str:
    """A line that says what the tool is used for."""
    told = text(given, "file_path", "notebook_path", "command", "pattern", "url", "query", "description", "path")
    line = shorten(" ".join(told.split()), _LONGEST_TITLE)
    if name in ("Bash", "PowerShell"):
        return line or name
    return f"{name} {line}" if line else name


def tool_input(name: str, given: Mapping[str, Any]) -> str:
    if name == "ExitPlanMode":
        return shorten(text(given, "plan"))
    return shorten(text(given, "command") or (as_json(given) if given else ""))


def places(given: Mapping[str, Any]) -> tuple[Place, ...]:
    path = text(given, "file_path", "notebook_path", "path")
    offset = number(given, "offset")
    return (Place(path=path, line=int(offset) if offset and offset >= 1 else None),) if path else ()


def wanted_diffs(name: str, given: Mapping[str, Any]) -> tuple[FileDiff, ...]:
    """What an edit would do, as far as its arguments tell: pieces of the file for Edit, all of it for Write."""
    path = text(given, "file_path", "notebook_path")
    if not path:
        return ()
    match name:
        case "Write":
            return (FileDiff(path=path, new=shorten(text(given, "content"))),)
        case "NotebookEdit":
            return (FileDiff(path=path, new=shorten(text(given, "new_source"))),)
        case "Edit":
            return (_replacement(path, given),)
        case "MultiEdit":
            return tuple(_replacement(path, edit) for edit in mappings(given, "edits"))
        case _:
            return ()


def _replacement(path: str, edit: Mapping[str, Any]) -> FileDiff:
    return FileDiff(path=path, old=shorten(text(edit, "old_string")), new=shorten(text(edit, "new_string")))


def tool_ended(block: Mapping[str, Any], told: Any, denied: bool) -> ToolEnded:
    """The report of a `tool_result` block; `told` is what the message says of it beside its content."""
    output = content_text(block.get("content"))
    failed = block.get("is_error") is True
    result = told if isinstance(told, dict) else {}
    status: Literal["completed", "failed", "denied"] = "completed"
    if failed:
        status = "denied" if denied else "failed"
    return ToolEnded(
        id=text(block, "tool_use_id"),
        status=status,
        exit=_exit(output, result, failed),
        output=shorten(output),
        diffs=() if failed else _done_diffs(result),
    )


def was_denied(meta: Mapping[str, Any]) -> bool:
    """Whether a tool did not run because somebody or a rule said no."""
    return text(meta, "non_execution_kind") == "user-rejected" or (
        text(mapping(meta, "permission_decision"), "decision") == "reject"
    )


def _exit(output: str, result: Mapping[str, Any], failed: bool) -> int | None:
    if failed:
        found = _EXIT.match(output)
        return int(found[1]) if found else None
    ran = "stdout" in result and "backgroundTaskId" not in result and result.get("interrupted") is not True
    return 0 if ran else None


def _done_diffs(result: Mapping[str, Any]) -> tuple[FileDiff, ...]:
    if result.get("staged") is True:
        return ()
    notebook = text(result, "notebook_path")
    if notebook and "updated_file" in result:
        before, after = shorten(text(result, "original_file")), shorten(text(result, "updated_file"))
        return (FileDiff(path=notebook, old=before, new=after),)
    path = text(result, "filePath")
    if not path or "structuredPatch" not in result:
        return ()
    if text(result, "type") == "create":
        return (FileDiff(path=path, new=shorten(text(result, "content"))),)
    unified = "".join(_hunk(hunk) for hunk in mappings(result, "structuredPatch"))
    return (FileDiff(path=path, unified=shorten(f"--- {path}\n+++ {path}\n{unified}")),) if unified else ()


def _hunk(hunk: Mapping[str, Any]) -> str:
    at = [int(number(hunk, name) or 0) for name in ("oldStart", "oldLines", "newStart", "newLines")]
    return f"@@ -{at[0]},{at[1]} +{at[2]},{at[3]} @@\n" + "".join(f"{line}\n" for line in texts(hunk, "lines"))


class Plan:
    """The agent's list of steps: written whole by TodoWrite, or step by step by TaskCreate and TaskUpdate."""

    def __init__(self) -> None:
        self._steps: dict[str, PlanEntry] = {}

    @property
    def entries(self) -> tuple[PlanEntry, ...]:
        return tuple(self._steps.values())

    def changed(self, name: str, given: Mapping[str, Any], told: Any) -> bool:
        """Takes up what a tool that has run says of the plan, and says whether it was about the plan."""
        match name:
            case "TodoWrite":
                steps = [_entry(text(todo, "content"), todo) for todo in mappings(given, "todos")]
                self._steps = {str(place): step for place, step in enumerate(steps)}
            case "TaskCreate":
                task = mapping(told, "task") if isinstance(told, dict) else {}
                if not text(task, "id"):
                    return False
                self._steps[text(task, "id")] = _entry(text(task, "subject") or text(given, "subject"), {})
            case "TaskUpdate":
                return self._updated(text(given, "taskId"), given)
            case _:
                return False
        return True

    def _updated(self, task: str, given: Mapping[str, Any]) -> bool:
        known = self._steps.get(task)
        if known is None:
            return False
        if text(given, "status") == "deleted":
            del self._steps[task]
        else:
            status = given if text(given, "status") else {"status": known.status}
            self._steps[task] = _entry(text(given, "subject") or known.text, status)
        return True


def _entry(words: str, step: Mapping[str, Any]) -> PlanEntry:
    match text(step, "status"):
        case "in_progress":
            return PlanEntry(text=shorten(words, 2000), status="in_progress")
        case "completed":
            return PlanEntry(text=shorten(words, 2000), status="completed")
        case _:
            return PlanEntry(text=shorten(words, 2000))
