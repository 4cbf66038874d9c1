"""OpenCode's values in Plait's words: its tools, what they changed, its requests, and what its errors mean.

Sources: the OpenAPI description that `opencode serve` gives at /doc (1.18), and recorded event streams.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from plait.core.reports import (
    Asked,
    FileDiff,
    Option,
    Place,
    PlanEntry,
    Question,
    ToolKind,
    TroubleKind,
    Used,
    shorten,
)

Json = Mapping[str, Any]

LONGEST_PIECE = 4000
"""Characters of a tool's output while it still runs."""

_KINDS: Mapping[str, ToolKind] = {
    "read": "read",
    "skill": "read",
    "edit": "edit",
    "multiedit": "edit",
    "write": "edit",
    "patch": "edit",
    "apply_patch": "edit",
    "bash": "execute",
    "grep": "search",
    "glob": "search",
    "list": "search",
    "lsp": "search",
    "codesearch": "search",
    "webfetch": "fetch",
    "websearch": "fetch",
    "task": "subagent",
    "todowrite": "think",
    "todoread": "think",
}
_AUTH = re.compile(r"api key|unauthorized|authentication|not logged in|credentials", re.IGNORECASE)
_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|credit balance|payment required|usage limit|billing|"
    r"free limit|FreeUsageLimit|GoUsageLimit",
    re.IGNORECASE,
)
_OVERLOADED = re.compile(r"overloaded|unavailable|at capacity|internal (?:server )?error", re.IGNORECASE)
_LIMITED = re.compile(r"rate.?limit|too many requests|\b429\b|resource.?exhausted", re.IGNORECASE)
_NETWORK = re.compile(
    r"ECONN|ENOTFOUND|ETIMEDOUT|EAI_AGAIN|fetch failed|failed to fetch|network|socket|unable to connect|"
    r"connection (?:error|refused|reset|lost)|terminated|timed? ?out",
    re.IGNORECASE,
)


def text(value: Json, key: str) -> str:
    """The string below `key`, or an empty one; halves of surrogate pairs, which only JSON can carry, are replaced."""
    found = value.get(key)
    if not isinstance(found, str):
        return ""
    return found if found.isascii() else found.encode("utf-8", "replace").decode()


def number(value: Json, key: str) -> float | None:
    """The number below `key`, if it is a sensible one."""
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < 1 << 53:
        return None
    return found


def count(value: Json, key: str) -> int:
    """The whole number below `key` that is not negative, or 0."""
    return max(0, int(number(value, key) or 0))


def inner(value: Json, key: str) -> Json:
    """The object below `key`, or an empty one."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def rows(value: Json, key: str) -> list[Json]:
    """The objects in the list below `key`."""
    found = value.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def words(value: Json, key: str) -> list[str]:
    """The strings in the list below `key`."""
    found = value.get(key)
    return [text({"": row}, "") for row in found if isinstance(row, str)] if isinstance(found, list) else []


def tool_kind(name: str) -> ToolKind:
    """What kind of tool it is; tools of the user's own servers are `other`."""
    return _KINDS.get(name, "other")


def places(given: Json) -> tuple[Place, ...]:
    """The file that a tool was asked to work on."""
    path = text(given, "filePath") or text(given, "path")
    if not path:
        return ()
    return (Place(path=path, line=count(given, "offset") or None),)


def tool_input(given: Json) -> str:
    """What a tool was given: its command, or everything as JSON."""
    if command := text(given, "command"):
        return shorten(command)
    return shorten(json.dumps(given)) if given else ""


def tool_title(name: str, given: Json, title: str) -> str:
    """What the tool says it does, or its command, or its file."""
    said = title or text(given, "description") or text(given, "filePath") or text(given, "pattern")
    return said or text(given, "command")[:200] or name


def diffs(name: str, given: Json, metadata: Json) -> tuple[FileDiff, ...]:
    """What a tool or a request for permission says of the files that it changes."""
    path = text(metadata, "filepath") or text(given, "filePath")
    files = rows(metadata, "files")
    if files:
        # A patch of several files tells each one's diff.
        found = [
            FileDiff(
                path=text(file, "filePath") or text(file, "relativePath") or path,
                unified=shorten(text(file, "diff") or text(file, "patch")),
            )
            for file in files
        ]
        return tuple(diff for diff in found if diff.path and diff.unified)
    if unified := text(metadata, "diff"):
        return (FileDiff(path=path or text(inner(metadata, "filediff"), "file"), unified=shorten(unified)),)
    if name == "write" and path and metadata.get("exists") is False:
        return (FileDiff(path=path, new=shorten(text(given, "content"))),)
    return ()


def used(part: Json) -> Used:
    """What one request to the model cost; OpenCode counts reasoning apart from the output."""
    tokens = inner(part, "tokens")
    cache = inner(tokens, "cache")
    reasoning = count(tokens, "reasoning")
    return Used(
        scope="request",
        input=count(tokens, "input"),
        cache_read=count(cache, "read"),
        cache_write=count(cache, "write"),
        output=count(tokens, "output") + reasoning,
        reasoning=reasoning,
        cost_usd=number(part, "cost"),
    )


def plan(properties: Json) -> tuple[PlanEntry, ...]:
    """The plan as it is now; what was cancelled is no part of it."""
    entries = []
    for row in rows(properties, "todos"):
        match text(row, "status"):
            case "pending" | "in_progress" | "completed" as status:
                entries.append(PlanEntry(text=shorten(text(row, "content")), status=status))
    return tuple(entries)


def permission(request: Json, given: Json, kept: tuple[FileDiff, ...]) -> Asked:
    """A request for permission; `given` is the input of the tool that asks, as far as it is known."""
    name = text(request, "permission")
    metadata = inner(request, "metadata")
    patterns = words(request, "patterns")
    command = text(metadata, "command") or text(given, "command")
    subject = command or text(metadata, "filepath") or text(metadata, "url") or ", ".join(patterns)
    always = ", ".join(words(request, "always"))
    kind = tool_kind(name)
    return Asked(
        id=text(request, "id"),
        tool=name,
        tool_kind=kind,
        tool_id=text(inner(request, "tool"), "callID") or None,
        title=shorten(command or f"{_VERBS.get(name, name)} {subject}".strip(), 2000),
        input=tool_input(given) or shorten(json.dumps(metadata)),
        reason=shorten(text(given, "description")) if command else "",
        diffs=kept,
        options=(
            Option(id="once", label="Allow once", kind="allow_once"),
            Option(
                id="always",
                label=f"Allow for this run: {always}"[:200] if always else "Allow for this run",
                kind="allow_session",
            ),
            Option(id="reject", label="Refuse, and let it go on", kind="reject_once"),
            Option(id="stop", label="Refuse, and end the turn", kind="cancel_turn"),
        ),
    )


_VERBS: Mapping[str, str] = {
    "edit": "Edit",
    "read": "Read",
    "webfetch": "Fetch",
    "websearch": "Search the web for",
    "external_directory": "Use files outside of the worktree:",
    "doom_loop": "Go on, although it repeats itself:",
}


def question(request: Json) -> Asked:
    """The questions of one request; each is known by its place, for they have no names."""
    questions = tuple(
        Question(
            id=str(index),
            text=shorten(text(row, "question")),
            header=text(row, "header"),
            choices=tuple(text(option, "label") for option in rows(row, "options")),
            several=row.get("multiple") is True,
            free=row.get("custom") is not False,
        )
        for index, row in enumerate(rows(request, "questions"))
    )
    return Asked(
        id=text(request, "id"),
        kind="question",
        tool="question",
        tool_id=text(inner(request, "tool"), "callID") or None,
        title=shorten(questions[0].text if questions else "OpenCode has a question.", 2000),
        questions=questions,
    )


def trouble_kind(message: str, status: int = 0, name: str = "") -> TroubleKind:
    """What kind of trouble an error is, by its status if it has one."""
    if name == "ContextOverflowError":
        return "context"
    if status == 402 or _QUOTA.search(message):
        return "quota"
    if name == "ProviderAuthError" or status in (401, 403):
        return "auth"
    if status == 429 or (not status and _LIMITED.search(message)):
        return "rate_limit"
    if status >= 500 or (not status and _OVERLOADED.search(message)):
        return "overloaded"
    if not status and "Model not found" not in message:
        if _AUTH.search(message):
            return "auth"
        if _NETWORK.search(message):
            return "network"
    return "agent"


def error_text(error: Json) -> str:
    """What an error says, without the server's own stack."""
    message = text(inner(error, "data"), "message") or text(error, "message") or text(error, "name")
    return shorten(message.partition("\n    at ")[0], 2000) or "OpenCode failed without saying why."
