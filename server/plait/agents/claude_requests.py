"""Claude Code's requests to the user: how they are put as questions, and how answers are said in its words.

Source of the shapes: `can_use_tool` and `PermissionResult` in `sdk.d.ts` of `@anthropic-ai/claude-agent-sdk`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plait.agents.adapter import Answer
from plait.agents.claude_fields import mapping, mappings, text, texts
from plait.agents.claude_tools import tool_input, tool_kind, tool_title, wanted_diffs
from plait.core.reports import Asked, Option, Question, shorten

ALLOW, REJECT, CANCEL = "allow", "reject", "cancel"
REFUSED = "The user does not want this. Do something else, or end your turn and say what you need."
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")


@dataclass(frozen=True)
class Waiting:
    """A request that was put to the user, with what is needed to answer it."""

    asked: Asked
    given: Mapping[str, Any]
    grants: Mapping[str, Mapping[str, Any]]
    """By option: the lasting permission that goes with it."""


def wanting(request_id: str, request: Mapping[str, Any], called: Mapping[str, Any]) -> Waiting:
    """A `can_use_tool` request for a tool; `called` is its input by the model, which some requests leave out."""
    name, given = text(request, "tool_name"), mapping(request, "input")
    shown = given or called
    description = text(request, "description")
    about = _ESCAPES.sub("", text(request, "decision_reason"))
    if name == "AskUserQuestion" and mappings(given, "questions"):
        questions = tuple(_question(place, one) for place, one in enumerate(mappings(given, "questions"), 1))
        title = text(mappings(given, "questions")[0], "question")
        options: tuple[Option, ...] = (
            Option(id=REJECT, label="Do not answer", kind="reject_once"),
            Option(id=CANCEL, label="Do not answer and end the turn", kind="cancel_turn"),
        )
        grants: dict[str, Mapping[str, Any]] = {}
    else:
        questions = ()
        title = _ESCAPES.sub("", text(request, "title")) or _title(name, shown)
        options, grants = _options(name, request)
    asked = Asked(
        id=request_id,
        kind="question" if questions else "permission",
        tool=name,
        tool_kind=tool_kind(name),
        tool_id=text(request, "tool_use_id") or None,
        title=shorten(title, 2000),
        input="" if questions else tool_input(name, shown),
        reason=shorten(about or ("" if description in title else description), 2000),
        diffs=wanted_diffs(name, shown),
        options=options,
        questions=questions,
    )
    return Waiting(asked, given, grants)


def _title(name: str, given: Mapping[str, Any]) -> str:
    return "It has a plan and asks to begin" if name == "ExitPlanMode" else tool_title(name, given)


def _question(place: int, one: Mapping[str, Any]) -> Question:
    choices = mappings(one, "options")
    explained = [f"{text(choice, 'label')}: {text(choice, 'description')}" for choice in choices]
    return Question(
        id=str(place),
        text=shorten("\n".join([text(one, "question"), *explained]), 4000),
        header=text(one, "header"),
        choices=tuple(text(choice, "label") for choice in choices),
        several=one.get("multiSelect") is True,
    )


def _options(name: str, request: Mapping[str, Any]) -> tuple[tuple[Option, ...], dict[str, Mapping[str, Any]]]:
    allow = "Begin" if name == "ExitPlanMode" else "Allow"
    reject = "Keep planning" if name == "ExitPlanMode" else "Deny"
    options = [Option(id=ALLOW, label=allow, kind="allow_once")]
    grants: dict[str, Mapping[str, Any]] = {}
    for suggestion in mappings(request, "permission_suggestions"):
        label = _grant_label(suggestion)
        if not label or (request.get("suppress_always_allow_rule") is True and text(suggestion, "type") == "addRules"):
            continue
        grant_id = f"{ALLOW}-{len(grants) + 1}"
        # A rule in a settings file would be a change in the worktree that the agent's work does not need.
        grants[grant_id] = {**suggestion, "destination": "session"}
        options.append(Option(id=grant_id, label=label, kind="allow_session"))
    options.append(Option(id=REJECT, label=reject, kind="reject_once"))
    options.append(Option(id=CANCEL, label="Deny and end the turn", kind="cancel_turn"))
    return tuple(options), grants


def _grant_label(suggestion: Mapping[str, Any]) -> str:
    """What a suggested lasting permission is called; empty for one that is not offered."""
    match text(suggestion, "type"):
        case "setMode" if text(suggestion, "mode") == "acceptEdits":
            return "Allow all edits in this run"
        case "addRules" if text(suggestion, "behavior") == "allow":
            rules = [_rule(rule) for rule in mappings(suggestion, "rules")]
            return shorten(f"Allow {', '.join(rules)} in this run", 500) if rules else ""
        case "addDirectories":
            return shorten(f"Allow all in {', '.join(texts(suggestion, 'directories'))} in this run", 500)
        case _:
            return ""


def _rule(rule: Mapping[str, Any]) -> str:
    content = text(rule, "ruleContent")
    return f"{text(rule, 'toolName')}({content})" if content else text(rule, "toolName")


def decision(waiting: Waiting, answer: Answer) -> dict[str, Any] | None:
    """The answer as a `PermissionResult`; none if it is no answer to this request."""
    offered = {option.id for option in waiting.asked.options}
    if answer.option is not None and answer.option not in offered:
        return None
    if answer.option in (REJECT, CANCEL):
        return {"behavior": "deny", "message": answer.text or REFUSED, "interrupt": answer.option == CANCEL}
    if waiting.asked.kind == "question":
        return _replies(waiting, answer)
    if answer.option is None:
        return {"behavior": "deny", "message": answer.text, "interrupt": False} if answer.text else None
    allowed: dict[str, Any] = {"behavior": "allow", "updatedInput": waiting.given}
    if answer.option in waiting.grants:
        allowed["updatedPermissions"] = [waiting.grants[answer.option]]
    return allowed


def _replies(waiting: Waiting, answer: Answer) -> dict[str, Any] | None:
    said = {}
    for place, one in enumerate(mappings(waiting.given, "questions"), 1):
        chosen = answer.answers.get(str(place), ())
        if chosen:
            said[text(one, "question")] = ", ".join(chosen)
    if said:
        return {"behavior": "allow", "updatedInput": {**waiting.given, "answers": said}}
    return {"behavior": "deny", "message": answer.text, "interrupt": False} if answer.text else None
