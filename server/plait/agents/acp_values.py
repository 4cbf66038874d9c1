"""The protocol's values in Plait's words: content, usage, permission options, plans, kinds of trouble."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar

from acp import schema
from pydantic import BaseModel, ValidationError

from plait.core.reports import Option, OptionKind, PlanEntry, StopReason, TroubleKind, UsageScope, Used, shorten

M = TypeVar("M", bound=BaseModel)

STOPS: Mapping[str, tuple[StopReason, str]] = {
    "end_turn": ("end_turn", ""),
    "cancelled": ("cancelled", ""),
    "refusal": ("refusal", "It refused to go on."),
    "max_tokens": ("max_tokens", "It reached its limit of tokens."),
    "max_turn_requests": ("error", "It reached its limit of requests in one turn."),
}


def read(model: type[M], value: object) -> M | str:
    """The value as one of the protocol's types, or why it is none."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        return f"It is not ACP: {where}: {first['msg']}." if where else f"It is not ACP: {first['msg']}."
    except RecursionError:
        return "It is nested too deeply."


def plain(value: object) -> str:
    """A value that an agent sent, as text: a string as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "(a value that cannot be shown)"


def content_text(block: object) -> str:
    """The text of a content block; what is not text is named."""
    match block:
        case schema.TextContent():
            return block.text
        case schema.ResourceLink():
            return block.uri
        case schema.EmbeddedResource(resource=schema.TextResourceContents() as resource):
            return resource.text
        case schema.EmbeddedResource():
            return f"[resource {block.resource.uri}]"
        case schema.ImageContent():
            return f"[image {block.mime_type}]"
        case schema.AudioContent():
            return f"[audio {block.mime_type}]"
        case _:
            return ""


def input_text(raw: object) -> str:
    """What a tool is called with: its command if it has one, else its arguments as JSON."""
    if raw is None or raw == {}:
        return ""
    if isinstance(raw, dict):
        command = raw.get("command", raw.get("cmd"))
        if isinstance(command, str) and command:
            return shorten(command)
        if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
            return shorten(shlex.join(command))
    return shorten(plain(raw))


def output_text(raw: object) -> str:
    """What a tool gave back, from the field that the known agents put it in."""
    if raw is None:
        return ""
    if isinstance(raw, dict):
        for name in ("output", "formatted_output", "aggregated_output", "content", "stdout", "error", "message"):
            if isinstance(raw.get(name), str):
                return shorten(raw[name])
    return shorten(plain(raw))


def exit_status(raw: object) -> int | None:
    """The exit status of a command that ran, where the agent says it."""
    if not isinstance(raw, dict):
        return None
    places: list[object] = [raw, raw.get("metadata")]
    contents = raw.get("contents")
    if isinstance(contents, list):
        places += contents
    for place in places:
        if isinstance(place, dict):
            for name in ("exit_code", "exitCode", "exit"):
                found = place.get(name)
                if isinstance(found, int) and not isinstance(found, bool):
                    return found
    return None


def used(usage: schema.Usage, scope: UsageScope) -> Used:
    """The tokens of a `usage`; agents differ in what `inputTokens` includes, which its total tells."""
    read_ = usage.cached_read_tokens or 0
    written = usage.cached_write_tokens or 0
    thought = usage.thought_tokens or 0
    input_ = usage.input_tokens
    output = usage.output_tokens
    if usage.total_tokens == input_ + output:
        input_ = max(0, input_ - read_ - written)
    elif usage.total_tokens == input_ + output + read_ + written + thought:
        output += thought
    return Used(
        scope=scope, input=input_, cache_read=read_, cache_write=written, output=output, reasoning=min(thought, output)
    )


def quota_used(meta: Mapping[str, Any] | None, scope: UsageScope) -> Used | None:
    """The tokens of `_meta.quota.token_count`, as Gemini CLI sends them."""
    quota = (meta or {}).get("quota")
    count = quota.get("token_count") if isinstance(quota, dict) else None
    if not isinstance(count, dict):
        return None
    return Used(scope=scope, input=_whole(count.get("input_tokens")), output=_whole(count.get("output_tokens")))


def option_of(option: schema.PermissionOption) -> Option:
    """One answer to a permission request; `always` that is meant for the session alone is said so."""
    kind: OptionKind = option.kind
    if kind == "allow_always" and "session" in option.name.lower():
        kind = "allow_session"
    return Option(id=option.option_id, label=option.name, kind=kind)


def plan_entries(entries: Iterable[schema.PlanEntry]) -> tuple[PlanEntry, ...]:
    return tuple(PlanEntry(text=shorten(entry.content, 2000), status=entry.status) for entry in entries)


def within(worktree: str, paths: Iterable[str]) -> bool:
    """Whether all paths lie in the worktree by their names, none in git's files; symbolic links are not followed."""
    root = PurePosixPath(worktree)
    for path in paths:
        parts: list[str] = []
        for part in (root / path).parts:
            if part == "..":
                parts = parts[:-1] or parts
            else:
                parts.append(part)
        whole = PurePosixPath(*parts)
        if not whole.is_relative_to(root):
            return False
        if any(part.lower() == ".git" for part in whole.relative_to(root).parts):
            return False
    return True


def trouble_kind(code: int | None, text: str) -> TroubleKind:
    """What kind of trouble an error is, by its number or else by the words providers use."""
    if code in (-32000, 401, 403):
        return "auth"
    lower = text.lower()
    for kind, words in _WORDS:
        if words.search(lower):
            return kind
    if code == 429:
        return "rate_limit"
    if code in (503, 529):
        return "overloaded"
    return "agent"


_WORDS: tuple[tuple[TroubleKind, re.Pattern[str]], ...] = (
    (
        "quota",
        re.compile(
            r"usage limit|usage_limit|insufficient_quota|exceeded your current quota|quota exceeded|credit balance"
            r"|out of credits|premium requests|billing|upgrade your plan"
        ),
    ),
    (
        "auth",
        re.compile(
            r"\b401\b|\b403\b|unauthori[sz]ed|unauthenticated|authenticat|invalid.{0,12}api.?key|incorrect api key"
            r"|api key not valid|not logged in|please log in|log in again"
        ),
    ),
    ("rate_limit", re.compile(r"\b429\b|rate.?limit|too many requests|resource_exhausted")),
    ("overloaded", re.compile(r"overloaded|\b503\b|\b529\b|service unavailable|transient api error")),
    ("context", re.compile(r"context (length|window)|maximum context|prompt is too long|too many tokens")),
    (
        "network",
        re.compile(
            r"enotfound|econnrefused|econnreset|etimedout|fetch failed|network error|connection (refused|reset)"
            r"|getaddrinfo|socket hang up"
        ),
    ),
)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
