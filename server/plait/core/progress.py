"""What a working agent is at now: folds its reports into the few facts that a list of sessions shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from plait.core import reports as r
from plait.core.usage import Tally

LONGEST_ACTIVITY = 600
"""Characters of the one line that says what an agent does, in which whole paths may stand."""


@dataclass(frozen=True)
class Progress:
    """How things stand with one process of an agent."""

    activity: str = ""
    """What it is at, in a line."""
    tally: Tally = field(default_factory=Tally)
    context: r.Context | None = None
    plan: tuple[r.PlanEntry, ...] = ()
    retry: r.Retry | None = None
    limits: Mapping[str, r.Limit] = field(default_factory=dict)
    """The provider's limits by account, as far as this process told."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """The tools in use, each with what it does."""


def advance(progress: Progress, report: r.Report) -> Progress:
    """The progress after a report."""
    match report:
        case r.Began():
            return replace(progress, activity="Started.")
        case r.TurnBegan():
            return replace(progress, activity="Thinking…", retry=None)
        case r.Message() if not report.partial:
            return replace(progress, activity=_line(report.text), retry=None)
        case r.Thought() if not report.partial:
            return replace(progress, activity=_line(report.text) or "Thinking…", retry=None)
        case r.ToolBegan():
            doing = _line(doing_of(report))
            return replace(progress, activity=doing, retry=None, tools={**progress.tools, report.id: doing})
        case r.ToolUpdated() if report.title:
            return replace(progress, activity=_line(report.title), tools={**progress.tools, report.id: report.title})
        case r.ToolEnded():
            others = {tool: doing for tool, doing in progress.tools.items() if tool != report.id}
            return replace(progress, activity=next(reversed(others.values()), "Thinking…"), tools=others)
        case r.Planned():
            return replace(progress, plan=report.entries)
        case r.Used():
            return replace(progress, tally=progress.tally.add(report))
        case r.Context():
            return replace(progress, context=report)
        case r.Limit():
            return replace(progress, limits={**progress.limits, report.account: report})
        case r.Retry():
            return replace(progress, retry=report, activity=_line(retrying(report)))
        case r.TurnEnded():
            return replace(progress, activity="", retry=None, tools={})
        case r.Trouble():
            return replace(progress, activity=_line(report.text))
        case (
            r.Message()
            | r.Thought()
            | r.ToolUpdated()
            | r.Asked()
            | r.Withdrawn()
            | r.Delivered()
            | r.Remark()
            | r.Unread()
        ):
            return progress
        case _:
            assert_never(report)


def is_kept(progress: Progress, report: r.Report) -> bool:
    """Whether the report must outlive the daemon; `progress` is that before it."""
    if isinstance(report, r.Limit):
        return _stand(progress.limits.get(report.account)) != _stand(report)
    return isinstance(report, r.Began | r.Asked | r.Withdrawn | r.Trouble | r.Delivered | r.TurnEnded)


def name_of(report: r.Report) -> str:
    """What a kept report is about: the same report has the same name when it is derived again from the output."""
    match report:
        case r.Asked() | r.Withdrawn() | r.Delivered():
            return f"{report.type} {report.id}"
        case r.Limit():
            return f"{report.type} {report.account}"
        case _:
            return report.type


def doing_of(tool: r.ToolBegan) -> str:
    """What a tool does, in words."""
    paths = ", ".join(place.path for place in tool.places)
    words = _VERBS.get(tool.kind)
    if words and paths:
        return f"{words} {paths}"
    return tool.title or " ".join(part for part in (tool.name, paths or tool.input) if part)


def retrying(retry: r.Retry) -> str:
    """Why the agent waits before it tries again, in a sentence."""
    why = _WHY[retry.kind]
    when = "" if retry.delay_s is None else f" in {retry.delay_s:.0f} s"
    which = "" if retry.attempt is None else f" (attempt {retry.attempt}{f' of {retry.most}' if retry.most else ''})"
    return f"{retry.account}: {why}; tries again{when}{which}."


_VERBS: Mapping[r.ToolKind, str] = {
    "read": "Reads",
    "edit": "Edits",
    "delete": "Deletes",
    "move": "Moves",
}

_WHY: Mapping[r.TroubleKind, str] = {
    "auth": "not logged in",
    "quota": "the usage limit is reached",
    "rate_limit": "too many requests",
    "overloaded": "the provider is overloaded",
    "network": "the provider could not be reached",
    "context": "the context is full",
    "sandbox": "the sandbox refused",
    "agent": "a request failed",
}


def _stand(limit: r.Limit | None) -> object:
    """What of a limit is worth a line in the history: not every percent."""
    if limit is None:
        return None
    return limit.status, tuple((window.name, window.resets_at) for window in limit.windows)


def _line(text: str) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= LONGEST_ACTIVITY else f"{first[: LONGEST_ACTIVITY - 1]}…"
