"""What Claude Code says of its provider: the account, limits, retries, errors, tokens and dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from plait.agents.claude_fields import clean, count, mapping, number, text
from plait.core.reports import Limit, Retry, Trouble, TroubleKind, Used, Window, shorten

AUTH = frozenset(
    {
        "account_on_hold",
        "authentication_failed",
        "cloud_credential_error",
        "oauth_org_not_allowed",
        "verification_required",
    }
)
WINDOWS: Mapping[str, tuple[str, int]] = {"five_hour": ("5 hours", 300), "seven_day": ("7 days", 10080)}
"""The name and the minutes of a limit's window; what follows in its own name is the model that it is for."""
_UNFINISHED_CONTEXT = frozenset({"prompt_too_long", "blocking_limit", "rapid_refill_breaker"})


class Provider:
    """What is known of the account that a process uses and of its troubles."""

    def __init__(self) -> None:
        self.account = "anthropic"
        self.fatal: Trouble | None = None
        """The trouble that the agent cannot get out of."""
        self.last: TroubleKind | None = None
        self._platform = ""
        self._key_source = ""
        self._resets_at: float | None = None

    def initialized(self, account: Mapping[str, Any]) -> None:
        """Takes up what the answer to `initialize` says of the account."""
        self._platform = text(account, "apiProvider")
        self.keyed(text(account, "apiKeySource"))

    def keyed(self, source: str) -> None:
        """Takes up where the key comes from: a variable's or a helper's name, or `none` for a subscription's login."""
        self._key_source = source or self._key_source
        if self._platform not in ("", "firstParty"):
            self.account = self._platform
        elif self._key_source == "none":
            self.account = "anthropic (subscription)"
        else:
            self.account = "anthropic"

    def retry(self, message: Mapping[str, Any]) -> Retry:
        """A `system/api_retry` message, or a subagent's retry; a refused login becomes fatal.

        A subscription's or a helper's token may be renewed by the first retry; a key in the environment stays wrong.
        """
        status = number(message, "error_status")
        error = text(message, "error", "error_category")
        delay = number(message, "retry_delay_ms")
        named = f"{int(status)} {error}" if status is not None else error or "no connection"
        told = Retry(
            account=self.account,
            kind=trouble_kind(error or "unknown", status),
            attempt=count(message, "attempt") or None,
            most=count(message, "max_retries") or None,
            delay_s=max(0.0, delay) / 1000 if delay is not None else None,
            text=shorten(named, 500),
        )
        hopeless = 1 if self._key_source == "ANTHROPIC_API_KEY" else 2
        if told.kind == "auth" and (told.attempt or 1) >= hopeless and self.fatal is None:
            self.fatal = Trouble(account=self.account, kind="auth", text=told.text, fatal=True)
        return told

    def failed(self, message: Mapping[str, Any], words: str) -> Trouble:
        """An `assistant` message that is the last word on a request that failed for good."""
        kind = trouble_kind(text(message, "error"), number(message, "api_error_status"), text(message, "api_error"))
        trouble = self.trouble(kind, shorten(words, 2000))
        if kind in ("auth", "quota"):
            trouble = trouble.model_copy(
                update={"fatal": True, "resets_at": self._resets_at if kind == "quota" else None}
            )
            self.fatal = self.fatal or trouble
        return trouble

    def trouble(self, kind: TroubleKind, words: str) -> Trouble:
        self.last = kind
        return Trouble(account=self.account, kind=kind, text=words)

    def limited(self, info: Mapping[str, Any]) -> Limit:
        """A `rate_limit_event`: the window that it is about, and all windows where it tells them."""
        status: Literal["allowed", "warning", "rejected"] = "allowed"
        match text(info, "status"):
            case "rejected":
                status = "rejected"
                self._resets_at = number(info, "resetsAt")
            case "allowed_warning":
                status = "warning"
        every = mapping(info, "unifiedWindows")
        windows = [_window(name, mapping(every, name)) for name in every]
        about = text(info, "rateLimitType")
        if about and about not in every:
            windows.insert(0, _window(about, info))
        return Limit(account=self.account, status=status, windows=tuple(windows[:20]))

    def advice(self) -> str:
        """What the user can do about the fatal trouble."""
        if self.fatal is None:
            return ""
        if self.fatal.kind == "quota":
            return shorten(f"The account's limit is reached: {self.fatal.text}", 1000)
        if not self.account.startswith("anthropic"):
            return f"Claude Code is not let in by {self.account} ({self.fatal.text}): renew its credentials there."
        if self._key_source in ("", "none"):
            return "Claude Code is not logged in: run `claude` and use /login, or set ANTHROPIC_API_KEY."
        return (
            f"The key that Claude Code takes from {self._key_source} is refused ({self.fatal.text}): set a valid one, "
            "or run `claude` without it and use /login."
        )


def trouble_kind(error: str, status: float | None, detail: str = "", how: str = "") -> TroubleKind:
    """What an API error is, by its class, its HTTP status, its detailed name and how its turn ended."""
    if error in AUTH or status in (401, 403):
        return "auth"
    if error == "billing_error" or detail == "usage_limit_reached" or status == 402:
        return "quota"
    if error == "rate_limit" or status == 429:
        return "rate_limit"
    if error == "overloaded" or (status is not None and status >= 500):
        return "overloaded"
    if how in _UNFINISHED_CONTEXT:
        return "context"
    if error == "server_error":
        return "overloaded"
    if error == "unknown" and status is None:
        return "network"
    return "agent"


def _window(name: str, info: Mapping[str, Any]) -> Window:
    used = number(info, "utilization")
    start = next((start for start in WINDOWS if name.startswith(start)), None)
    if start is not None:
        words, minutes = WINDOWS[start]
        rest = clean(name.removeprefix(start)).strip("_").replace("_", " ")
        name = f"{words}, {rest}" if rest else words
    else:
        minutes = None
        name = clean(name)
    return Window(name=shorten(name, 100), used=used, resets_at=number(info, "resetsAt"), minutes=minutes)


@dataclass(frozen=True)
class Spending:
    """Tokens and dollars of all models together."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cost_usd: float = 0.0

    def since(self, earlier: Spending) -> Spending:
        pairs = {part.name: getattr(self, part.name) - getattr(earlier, part.name) for part in fields(self)}
        return Spending(**{name: max(0, value) for name, value in pairs.items()})

    def used(self, priced: bool = True) -> Used:
        return Used(
            scope="turn",
            input=self.input,
            cache_read=self.cache_read,
            cache_write=self.cache_write,
            output=self.output,
            reasoning=self.reasoning,
            cost_usd=self.cost_usd if priced else None,
        )


def model_spending(models: Mapping[str, Any]) -> Spending:
    """The sum of a `modelUsage` table."""
    each = [mapping(models, name) for name in models]
    return Spending(
        input=sum(count(one, "inputTokens") for one in each),
        cache_read=sum(count(one, "cacheReadInputTokens") for one in each),
        cache_write=sum(count(one, "cacheCreationInputTokens") for one in each),
        output=sum(count(one, "outputTokens") for one in each),
        reasoning=sum(count(one, "thinkingTokens") for one in each),
        cost_usd=sum(max(0.0, number(one, "costUSD") or 0.0) for one in each),
    )


class Meter:
    """Tells what each turn of a process used.

    `modelUsage` and `total_cost_usd` add up over the turns of a process, and since some version over the whole resumed
    conversation; `usage` leaves out subagents. `model_usage_since_last_result` is right, but older versions have none.
    """

    def __init__(self, resumed: bool) -> None:
        self._before: Spending | None = None if resumed else Spending()

    def turn(self, result: Mapping[str, Any]) -> Used | None:
        """What the turn of a `result` message used; none if nothing."""
        total = model_spending(mapping(result, "modelUsage"))
        before, self._before = self._before, total
        if isinstance(result.get("model_usage_since_last_result"), dict):
            spent, priced = model_spending(mapping(result, "model_usage_since_last_result")), True
        elif before is not None:
            spent, priced = total.since(before), True
        else:
            spent = _main_loop(mapping(result, "usage"))
            # The table has the earlier turns in it, or not: if it is this turn's alone, so is its price.
            priced = (spent.input, spent.output) == (total.input, total.output)
            spent = total if priced else spent
        return spent.used(priced) if spent != Spending() else None


def _main_loop(usage: Mapping[str, Any]) -> Spending:
    return Spending(
        input=count(usage, "input_tokens"),
        cache_read=count(usage, "cache_read_input_tokens"),
        cache_write=count(usage, "cache_creation_input_tokens"),
        output=count(usage, "output_tokens"),
        reasoning=count(mapping(usage, "output_tokens_details"), "thinking_tokens"),
    )
