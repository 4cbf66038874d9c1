"""The forms that an agent asks the user to fill in (ACP's elicitation), as questions and back as the form's content.

Source of the format: `elicitation/create` of the protocol's schema 1.19, which is not stable yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from acp import schema

from plait.agents.acp_values import read
from plait.core.reports import Question, shorten

Kind = Literal["string", "number", "integer", "boolean", "array"]
Content = dict[str, str | int | float | bool | list[str]]

_KINDS: tuple[Kind, ...] = ("string", "number", "integer", "boolean", "array")


@dataclass(frozen=True)
class Item:
    """One field of a form; `choices` maps what the user sees to what the agent wants to hear."""

    kind: Kind
    choices: Mapping[str, str] = field(default_factory=dict)
    required: bool = False


@dataclass(frozen=True)
class Form:
    """A form and its questions; the ids of the questions are the names of the fields."""

    message: str
    questions: tuple[Question, ...]
    items: Mapping[str, Item]


def form_of(params: object) -> Form | str:
    """The form that a request asks for, or why there is none that could be shown."""
    mode = params.get("mode") if isinstance(params, dict) else None
    if mode != "form":
        return f"Forms of the kind {mode!r} cannot be shown."
    request: schema.CreateFormSessionElicitationRequest | schema.CreateFormRequestElicitationRequest | str
    request = read(schema.CreateFormSessionElicitationRequest, params)
    if isinstance(request, str):
        request = read(schema.CreateFormRequestElicitationRequest, params)
    if isinstance(request, str):
        return request
    required = request.requested_schema.required or []
    questions: list[Question] = []
    items: dict[str, Item] = {}
    for name, property_ in (request.requested_schema.properties or {}).items():
        known = property_.model_dump(by_alias=True, exclude_none=True)
        kind = next((kind for kind in _KINDS if kind == known.get("type")), None)
        if kind is None:
            return f"The field {name!r} is of a kind that cannot be shown."
        choices = _choices(known.get("items") if kind == "array" else known)
        if kind == "boolean":
            choices = {"yes": "true", "no": "false"}
        items[name] = Item(kind, choices, name in required)
        questions.append(
            Question(
                id=name,
                text=shorten(str(known.get("description") or known.get("title") or name), 2000),
                header=str(known.get("title") or name),
                choices=tuple(choices),
                several=kind == "array",
                free=not choices,
            )
        )
    return Form(shorten(request.message, 2000), tuple(questions), items)


def content_of(form: Form, answers: Mapping[str, tuple[str, ...]]) -> Content | str:
    """The form filled in, or what is wrong with an answer."""
    content: Content = {}
    for name, item in form.items.items():
        given = tuple(item.choices.get(answer, answer) for answer in answers.get(name, ()))
        if not given:
            if item.required:
                return f"It needs an answer to {name!r}."
            continue
        if item.choices and not set(given) <= set(item.choices.values()):
            return f"The answer to {name!r} is not one of its choices."
        if item.kind == "array":
            content[name] = list(given)
            continue
        if item.kind == "boolean":
            content[name] = given[0] == "true"
            continue
        try:
            content[name] = _number(item.kind, given[0]) if item.kind in ("integer", "number") else given[0]
        except ValueError:
            return f"The answer to {name!r} must be a number."
    return content


def _number(kind: Kind, text: str) -> int | float:
    number = int(text) if kind == "integer" else float(text)
    if isinstance(number, float) and not abs(number) < float("inf"):
        raise ValueError(text)
    return number


def _choices(known: object) -> dict[str, str]:
    if not isinstance(known, dict):
        return {}
    for titled in (known.get("oneOf"), known.get("anyOf")):
        if isinstance(titled, list):
            return {str(each.get("title") or each.get("const")): str(each.get("const")) for each in titled}
    plain = known.get("enum")
    return {str(each): str(each) for each in plain} if isinstance(plain, list) else {}
