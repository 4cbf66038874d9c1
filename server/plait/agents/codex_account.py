"""What Codex's app-server tells of an account with a model provider: tokens, limits, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plait.agents.codex_values import (
    Json,
    attempts,
    delay_s,
    inner,
    limit,
    number,
    resets_at,
    text,
    trouble_kind,
    used,
)
from plait.core.reports import Context, Limit, Report, Retry, Trouble, TroubleKind, shorten

TOKENS = ("inputTokens", "cachedInputTokens", "cacheWriteInputTokens", "outputTokens", "reasoningOutputTokens")
CLOSE_S = 60.0
"""Two times of a window's reset that are closer are the same."""


class Account:
    """The account that one app-server uses; it learns what it is from several messages."""

    def __init__(self) -> None:
        self.kind = ""
        """How Codex is logged in: `apiKey`, `chatgpt`, or not."""
        self.provider = "openai"
        self._totals: dict[str, tuple[int | None, ...]] = {}
        self._snapshots: dict[str, dict[str, Any]] = {}
        self._limits: dict[str, Limit] = {}

    @property
    def name(self) -> str:
        if self.provider != "openai":
            return self.provider
        return "openai (ChatGPT)" if self.kind.startswith("chatgpt") else "openai"

    def used(self, thread: str, usage: Json, own: bool) -> Sequence[Report]:
        """The tokens of the thread's last request, once; `own` is false for the thread of a helping agent."""
        total, last = inner(usage, "total"), inner(usage, "last")
        sums = tuple(number(total, name) for name in TOKENS)
        if self._totals.get(thread) == sums:
            return []
        self._totals[thread] = sums
        spent = used("request", last, TOKENS)
        held, size = number(last, "totalTokens"), number(usage, "modelContextWindow")
        return [spent, Context(used=held, size=size)] if own and held is not None else [spent]

    def limited(self, snapshot: Json) -> Sequence[Report]:
        """How the limits now stand, if that is news; what Codex leaves empty stays as it was."""
        key = text(snapshot, "limitId")
        known = self._snapshots.setdefault(key, {})
        known.update({name: value for name, value in snapshot.items() if value is not None})
        now = limit(self.name, known)
        before = self._limits.get(key)
        if before is not None and _same(before, now):
            return []
        self._limits[key] = now
        return [now]

    def failed(self, error: Json, will_retry: bool) -> Retry | Trouble:
        """What an error of a turn means; a refused login is fatal even if Codex would try again."""
        message, details = text(error, "message"), text(error, "additionalDetails")
        said = details or message or "Codex reports an error without saying what."
        kind = trouble_kind(error.get("codexErrorInfo"), said)
        refused = kind == "auth" and not (will_retry and "status 403" in said)
        if not will_retry or refused:
            return self.trouble(kind, said, fatal=refused or kind == "quota")
        attempt, most = attempts(message)
        return Retry(
            account=self.name, kind=kind, attempt=attempt, most=most, delay_s=delay_s(said), text=shorten(said)
        )

    def trouble(self, kind: TroubleKind, said: str, fatal: bool = False) -> Trouble:
        when = resets_at(list(self._limits.values())) if kind == "quota" else None
        return Trouble(account=self.name, kind=kind, text=shorten(said), fatal=fatal, resets_at=when)


def _same(one: Limit, other: Limit) -> bool:
    """Codex computes the times of resets anew at each request."""
    if (one.account, one.status, len(one.windows)) != (other.account, other.status, len(other.windows)):
        return False
    return all(
        (a.name, a.used, a.minutes) == (b.name, b.used, b.minutes)
        and abs((a.resets_at or 0) - (b.resets_at or 0)) < CLOSE_S
        for a, b in zip(one.windows, other.windows, strict=True)
    )
