"""Codex's values in Plait's words, as its app-server and `codex exec --json` have them in common.

Sources: `codex app-server generate-json-schema` of 0.169 and recorded streams of both.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from plait.agents.adapter import End, Outcome, stopped_or_lost
from plait.core.reports import (
    Limit,
    Place,
    StopReason,
    ToolKind,
    Trouble,
    TroubleKind,
    UsageScope,
    Used,
    Window,
    shorten,
)

Json = Mapping[str, Any]

NO_COMMIT = "Do not commit; leave your changes in the working tree."
"""Codex's sandbox keeps `.git` read-only, so an attempt could only fail or ask."""

LOGIN = "run `codex login`, or give it an API key with `codex login --with-api-key`"

_INFO_KINDS: Mapping[str, TroubleKind] = {
    "contextWindowExceeded": "context",
    "sessionBudgetExceeded": "quota",
    "usageLimitExceeded": "quota",
    "rateLimitExceeded": "rate_limit",
    "serverOverloaded": "overloaded",
    "flexUnavailable": "overloaded",
    "policyCapacityUnavailable": "overloaded",
    "internalServerError": "overloaded",
    "unauthorized": "auth",
    "sandboxError": "sandbox",
}
_STATUS = re.compile(r"\bstatus:? (\d{3})\b")
_ATTEMPT = re.compile(r"(\d{1,6})/(\d{1,6})")
_DELAY = re.compile(r"try again in (\d{1,9}(?:\.\d{1,9})?) ?(ms|s|seconds?|minutes?|m)\b", re.IGNORECASE)
_UNIT_S = {"ms": 0.001, "s": 1, "second": 1, "seconds": 1, "m": 60, "minute": 60, "minutes": 60}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WARNING_FROM = 0.9
"""The share of a limit from which on the user is warned."""


def text(value: Json, key: str) -> str:
    """The string below `key`, or an empty one; what no encoding can hold is replaced."""
    found = value.get(key)
    return clean(found) if isinstance(found, str) else ""


def clean(found: str) -> str:
    """The string without halves of surrogate pairs, which JSON can carry and nothing else."""
    return found if found.isascii() else found.encode("utf-8", "replace").decode()


def number(value: Json, key: str) -> int | None:
    """The whole number below `key`."""
    found = value.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 1 << 62 else None


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
    return [clean(row) for row in found if isinstance(row, str)] if isinstance(found, list) else []


def plain(value: object) -> str:
    """A value as text: nothing for none, a string as it is, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return shorten(clean(value))
    try:
        return shorten(clean(json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError):
        return "(a value that cannot be shown)"


def bare_command(command: str) -> str:
    """The command without the shell that Codex runs it in."""
    try:
        parts = shlex.split(command)
    except ValueError:
        return command
    return parts[2] if len(parts) == 3 and parts[1] in ("-c", "-lc") else command


def command_kind(actions: Sequence[Json]) -> tuple[ToolKind, tuple[Place, ...]]:
    """What Codex thinks that a command does, and the files that it reads."""
    kinds = {text(action, "type") for action in actions}
    places = tuple(Place(path=text(action, "path")) for action in actions if text(action, "path"))
    if kinds == {"read"}:
        return "read", places
    if kinds and kinds <= {"read", "listFiles", "search"}:
        return "search", places
    return "execute", places


def trouble_kind(info: object, message: str) -> TroubleKind:
    """The kind of an error: by its `codexErrorInfo`, then by the HTTP status, then by its words."""
    if isinstance(info, str) and info in _INFO_KINDS:
        return _INFO_KINDS[info]
    status: int | None = None
    connection = False
    if isinstance(info, dict):
        for detail in info.values():
            if isinstance(detail, dict) and "httpStatusCode" in detail:
                status, connection = number(detail, "httpStatusCode"), True
    if status is None and (found := _STATUS.search(message)):
        status = int(found[1])
    if status is not None:
        return _status_kind(status)
    if message.startswith("Missing environment variable"):
        return "auth"
    if "usage limit" in message or "Quota exceeded" in message:
        return "quota"
    if "context window" in message:
        return "context"
    if connection or "stream disconnected" in message or "error sending request" in message:
        return "network"
    return "agent"


def _status_kind(status: int) -> TroubleKind:
    match status:
        case 401 | 403:
            return "auth"
        case 402:
            return "quota"
        case 429:
            return "rate_limit"
        case 408:
            return "network"
        case _:
            return "overloaded" if status >= 500 else "agent"


def attempts(message: str) -> tuple[int | None, int | None]:
    """Which attempt of how many "Reconnecting... 2/5" speaks of."""
    found = _ATTEMPT.search(message)
    return (int(found[1]), int(found[2])) if found else (None, None)


def delay_s(message: str) -> float | None:
    """The seconds of "try again in 11.05s"; Codex does not pass the Retry-After header on otherwise."""
    found = _DELAY.search(message)
    return float(found[1]) * _UNIT_S[found[2].lower()] if found else None


def used(scope: UsageScope, tokens: Json, names: tuple[str, str, str, str, str]) -> Used:
    """Tokens by the names of input, cached, cache-write, output and reasoning ones; Codex counts cached input twice."""
    every, cached, written, output, reasoning = (max(0, number(tokens, name) or 0) for name in names)
    return Used(
        scope=scope,
        input=max(0, every - cached - written),
        cache_read=cached,
        cache_write=written,
        output=output,
        reasoning=reasoning,
    )


def limit(account: str, snapshot: Json) -> Limit:
    """The provider's limits as a `RateLimitSnapshot` tells them."""
    windows = []
    for name in ("primary", "secondary"):
        window = inner(snapshot, name)
        if not window:
            continue
        percent, minutes, resets = (number(window, key) for key in ("usedPercent", "windowDurationMins", "resetsAt"))
        windows.append(
            Window(
                name=_window_name(name, minutes, text(snapshot, "limitName")),
                used=None if percent is None else percent / 100,
                resets_at=None if resets is None else float(resets),
                minutes=minutes,
            )
        )
    fullest = max((window.used for window in windows if window.used is not None), default=0.0)
    if snapshot.get("rateLimitReachedType") or snapshot.get("spendControlReached") is True or fullest >= 1:
        return Limit(account=account, status="rejected", windows=tuple(windows))
    return Limit(account=account, status="warning" if fullest >= _WARNING_FROM else "allowed", windows=tuple(windows))


def _window_name(name: str, minutes: int | None, limit_name: str) -> str:
    if not minutes or minutes < 0:
        words = name
    elif minutes % 1440 == 0:
        words = _count(minutes // 1440, "day")
    elif minutes % 60 == 0:
        words = _count(minutes // 60, "hour")
    else:
        words = _count(minutes, "minute")
    return f"{limit_name}: {words}" if limit_name else words


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def resets_at(limits: Sequence[Limit]) -> float | None:
    """When the last of the used-up windows begins anew."""
    times = [
        window.resets_at
        for known in limits
        for window in known.windows
        if window.resets_at is not None and window.used is not None and window.used >= 1
    ]
    return max(times, default=None)


def judged(stop: StopReason | None, trouble: Trouble | None, said: str, end: End) -> Outcome:
    """The outcome by how the last turn stopped, none if it did not; `said` is what it said at its end."""
    if trouble is not None and (trouble.fatal or stop == "error"):
        return _failure(trouble)
    match stop:
        case "end_turn":
            return Outcome(True, "Done.")
        case "cancelled":
            return Outcome(False, "Stopped.", stopped=True)
        case None:
            return _unfinished(end)
        case _:
            return Outcome(False, said or "Its turn failed.")


def _unfinished(end: End) -> Outcome:
    known = stopped_or_lost(end)
    if known is not None:
        return known
    complaints = [line.strip() for line in _COLOUR.sub("", end.complaints).splitlines() if line.strip()]
    said = f": {complaints[-1]}" if complaints else "."
    return Outcome(False, f"It ended without finishing its turn{said}")


def _failure(trouble: Trouble) -> Outcome:
    reason = trouble.text or "It failed without saying why."
    if trouble.kind == "auth" and trouble.account.startswith("openai"):
        reason = f"Codex is not logged in ({trouble.text.rstrip('.')}): {LOGIN}."
    elif trouble.kind == "auth":
        reason = f"The model provider {trouble.account} refuses Codex's key ({trouble.text.rstrip('.')}): set it anew."
    return Outcome(False, reason, trouble=trouble.kind)
