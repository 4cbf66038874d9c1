"""Adds up what agents say they used: by request, by turn, by process so far, or by conversation so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from plait.core.reports import Used
from plait.core.values import Value


class Spent(Value):
    """Tokens and dollars; `input` without what the provider's cache gave or took, `output` with `reasoning`."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cost_usd: float | None = None
    """None where no agent told."""

    @property
    def tokens(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.output

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        costs = [cost for cost in (self.cost_usd, other.cost_usd) if cost is not None]
        counts = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        return Spent(**counts, cost_usd=sum(costs) if costs else None)

    def beyond(self, other: Spent) -> Spent:
        """How much more this is, at least nothing: a conversation that was compacted may count anew."""
        counts = {name: max(0, getattr(self, name) - getattr(other, name)) for name in COUNTS}
        cost = None if self.cost_usd is None else max(0.0, self.cost_usd - (other.cost_usd or 0.0))
        return Spent(**counts, cost_usd=cost)


COUNTS = ("input", "cache_read", "cache_write", "output", "reasoning")

NOTHING = Spent()


@dataclass(frozen=True)
class Tally:
    """What one process of an agent has used; `before` is what the conversation had used when the process began."""

    before: Spent = NOTHING
    summed: Spent = NOTHING
    process: Spent = NOTHING
    thread: Spent | None = field(default=None)

    def add(self, used: Used) -> Tally:
        """The tally after another report."""
        if used.cost_usd is not None and used.cost_scope is not None and used.cost_scope != used.scope:
            tokens = self.add(used.model_copy(update={"cost_usd": None, "cost_scope": None}))
            return tokens.add(Used(scope=used.cost_scope, cost_usd=used.cost_usd))
        spent = Spent(**{name: getattr(used, name) for name in COUNTS}, cost_usd=used.cost_usd)
        match used.scope:
            case "request" | "turn":
                return replace(self, summed=self.summed.plus(spent))
            case "process":
                return replace(self, process=_newer(self.process, spent))
            case "thread":
                return replace(self, thread=_newer(self.thread or NOTHING, spent))

    @property
    def spent(self) -> Spent:
        """What the process has used."""
        own = self.summed.plus(self.process)
        return own if self.thread is None else own.plus(self.thread.beyond(self.before))


def total(parts: Iterable[Spent]) -> Spent:
    """All of them together."""
    whole = NOTHING
    for part in parts:
        whole = whole.plus(part)
    return whole


def _newer(known: Spent, told: Spent) -> Spent:
    """The newer count of the same thing; what a report says nothing of stays."""
    counted = any(getattr(told, name) for name in COUNTS)
    counts = told if counted else known
    cost = known.cost_usd if told.cost_usd is None else told.cost_usd
    return counts.model_copy(update={"cost_usd": cost})
