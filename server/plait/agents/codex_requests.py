"""What Codex's app-server asks of the user, in Plait's words, and the user's answers in Codex's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plait.agents.adapter import Answer
from plait.agents.codex_items import change_title, diffs
from plait.agents.codex_values import Json, bare_command, clean, command_kind, inner, plain, rows, text, words
from plait.core.reports import Asked, Option, OptionKind, Question, shorten

_DECISIONS: Mapping[str, tuple[str, OptionKind]] = {
    "accept": ("Allow", "allow_once"),
    "acceptForSession": ("Allow for this conversation", "allow_session"),
    "decline": ("Deny", "reject_once"),
    "cancel": ("Deny and end the turn", "cancel_turn"),
}
_ELICITATION: tuple[Option, ...] = (
    Option(id="decline", label="Deny", kind="reject_once"),
    Option(id="cancel", label="Deny and end the turn", kind="cancel_turn"),
)
_YES = "yes"


@dataclass(frozen=True)
class Pending:
    """A request that waits: what the user is asked, and how each of the answers is said to Codex."""

    rpc: object
    """The request's id in Codex's protocol."""
    thread: str
    turn: str
    asked: Asked
    results: Mapping[str, Any] = field(default_factory=dict)
    """By option id."""
    schema: Mapping[str, Json] = field(default_factory=dict)
    """The form's fields by name, where the answers make up a form."""

    def result(self, answer: Answer) -> Any:
        """What Codex wants to hear, or nothing if that is no answer to this."""
        if answer.option is not None:
            return self.results.get(answer.option)
        if self.asked.kind == "permission":
            return None
        given = {key: tuple(clean(word) for word in said) for key, said in answer.answers.items()}
        if not given and answer.text and self.asked.questions:
            given = {self.asked.questions[0].id: (clean(answer.text),)}
        if not self.schema:
            return {"answers": {row.id: {"answers": list(given.get(row.id, ()))} for row in self.asked.questions}}
        content = {
            name: value
            for name, schema in self.schema.items()
            if (value := _form_value(schema, given.get(name, ()))) is not None
        }
        return {"action": "accept", "content": content}


def pending(method: str, rpc: object, params: Json, item: Json) -> Pending | None:
    """The request as something to ask the user; none if it is not for the user. `item` is the tool use it is about."""
    match method:
        case "item/commandExecution/requestApproval":
            return _command(rpc, params)
        case "item/fileChange/requestApproval":
            return _file_change(rpc, params, item)
        case "item/permissions/requestApproval":
            return _permissions(rpc, params)
        case "item/tool/requestUserInput":
            return _user_input(rpc, params)
        case "mcpServer/elicitation/request":
            return _elicitation(rpc, params, item)
        case _:
            return None


def _made(
    rpc: object,
    params: Json,
    asked: Mapping[str, Any],
    results: Mapping[str, Any],
    schema: Mapping[str, Json] | None = None,
) -> Pending:
    thread, turn = text(params, "threadId"), text(params, "turnId")
    reason = shorten(text(params, "reason"))
    values = {"id": f"{turn or thread}:{plain(rpc)}", "reason": reason, **asked}
    return Pending(rpc, thread, turn, Asked.model_validate(values), results, schema or {})


def _command(rpc: object, params: Json) -> Pending:
    command = bare_command(text(params, "command"))
    kind, _ = command_kind(rows(params, "commandActions"))
    host = text(inner(params, "networkApprovalContext"), "host")
    title = command or "Run a command"
    if text(params, "kind") == "writeStdin":
        title = f"Type into a command that runs: {command}" if command else "Type into a command that runs"
    elif host:
        title = f"Reach {host} over the network"
    offered = params.get("availableDecisions")
    decisions = list(offered) if isinstance(offered, list) else ["accept", "acceptForSession", "cancel"]
    if "decline" not in decisions:
        # Codex does not always offer it, but always takes it: the turn goes on without the command.
        decisions.insert(-1 if decisions[-1:] == ["cancel"] else len(decisions), "decline")
    options, results = _options(decisions)
    asked = {
        "tool": "command",
        "tool_kind": kind,
        "tool_id": text(params, "itemId") or None,
        "title": shorten(title, 2000),
        "input": shorten(command),
        "options": options,
    }
    return _made(rpc, params, asked, results)


def _file_change(rpc: object, params: Json, item: Json) -> Pending:
    options, results = _options(list(_DECISIONS))
    root = text(params, "grantRoot")
    asked = {
        "tool": "file change",
        "tool_kind": "edit",
        "tool_id": text(params, "itemId") or None,
        "title": change_title(rows(item, "changes")) + (f", and anything below {root}" if root else ""),
        "diffs": diffs(item),
        "options": options,
    }
    return _made(rpc, params, asked, results)


def _permissions(rpc: object, params: Json) -> Pending:
    wanted = inner(params, "permissions")
    parts = [part for part in ("network", "fileSystem") if wanted.get(part)]
    names = {"network": "the network", "fileSystem": "more files"}
    asked = {
        "tool": "more access",
        "tool_id": text(params, "itemId") or None,
        "title": "Get access to " + (" and ".join(names[part] for part in parts) or "more"),
        "input": plain(dict(wanted)),
        "options": (
            Option(id="turn", label="Allow for this turn", kind="allow_once"),
            Option(id="session", label="Allow for this conversation", kind="allow_session"),
            Option(id="none", label="Deny", kind="reject_once"),
        ),
    }
    results = {
        "turn": {"permissions": wanted, "scope": "turn"},
        "session": {"permissions": wanted, "scope": "session"},
        "none": {"permissions": {}, "scope": "turn"},
    }
    return _made(rpc, params, asked, results)


def _user_input(rpc: object, params: Json) -> Pending:
    questions = []
    for row in rows(params, "questions"):
        choices = tuple(text(option, "label") for option in rows(row, "options"))
        free = row.get("isOther") is True or not choices
        questions.append(
            Question(
                id=text(row, "id"), text=text(row, "question"), header=text(row, "header"), choices=choices, free=free
            )
        )
    asked = {
        "kind": "question",
        "tool": "question",
        "tool_kind": "think",
        "tool_id": text(params, "itemId") or None,
        "title": questions[0].text if len(questions) == 1 else f"{len(questions)} questions",
        "questions": tuple(questions),
    }
    return _made(rpc, params, asked, {})


def _elicitation(rpc: object, params: Json, item: Json) -> Pending:
    server, message = text(params, "serverName"), text(params, "message")
    meta = inner(params, "_meta")
    fields = inner(inner(params, "requestedSchema"), "properties")
    schema = {clean(name): field for name, field in fields.items() if isinstance(field, dict)}
    refused = {option.id: {"action": option.id} for option in _ELICITATION}
    asked: dict[str, Any] = {
        "tool": f"{server}.{text(meta, 'tool_name')}" if text(meta, "tool_name") else server,
        "tool_id": text(item, "id") or None,
        "title": shorten(message, 2000) or f"The MCP server {server} asks for something",
    }
    if schema:
        questions = tuple(_form_question(name, field) for name, field in schema.items())
        silence = Option(id="decline", label="Do not answer", kind="reject_once")
        asked |= {"kind": "question", "questions": questions, "options": (silence,)}
        return _made(rpc, params, asked, {"decline": refused["decline"]}, schema)
    accepted: dict[str, Any] = {"action": "accept", "content": {}}
    options = [Option(id="accept", label="Allow", kind="allow_once")]
    results = {"accept": accepted}
    if "session" in words(meta, "persist"):
        options.append(Option(id="session", label="Allow for this conversation", kind="allow_session"))
        results["session"] = {**accepted, "_meta": {"persist": "session"}}
    if "always" in words(meta, "persist"):
        options.append(Option(id="always", label="Always allow", kind="allow_always"))
        results["always"] = {**accepted, "_meta": {"persist": "always"}}
    asked |= {"input": plain(meta.get("tool_params")) or text(params, "url"), "options": (*options, *_ELICITATION)}
    return _made(rpc, params, asked, {**results, **refused})


def _options(decisions: list[object]) -> tuple[tuple[Option, ...], dict[str, Any]]:
    options: list[Option] = []
    results: dict[str, Any] = {}
    for decision in decisions:
        option = _option(decision)
        if option is not None and option.id not in results:
            options.append(option)
            results[option.id] = {"decision": decision}
    return tuple(options), results


def _option(decision: object) -> Option | None:
    if isinstance(decision, str) and decision in _DECISIONS:
        label, kind = _DECISIONS[decision]
        return Option(id=decision, label=label, kind=kind)
    if not isinstance(decision, dict):
        return None
    if prefix := words(inner(decision, "acceptWithExecpolicyAmendment"), "execpolicy_amendment"):
        shown = shorten(" ".join(prefix), 200)
        return Option(id="acceptAlways", label=f"Always allow commands that begin with: {shown}", kind="allow_always")
    rule = inner(inner(decision, "applyNetworkPolicyAmendment"), "network_policy_amendment")
    host, action = text(rule, "host"), text(rule, "action")
    if host and action == "allow":
        return Option(id=f"allow:{host}", label=f"Always allow {host}", kind="allow_always")
    if host:
        return Option(id=f"deny:{host}", label=f"Never allow {host}", kind="reject_always")
    return None


def _form_question(name: str, schema: Json) -> Question:
    titles = _titles(schema)
    several = text(schema, "type") == "array"
    described = [text(schema, "title") or name, text(schema, "description")]
    return Question(
        id=name,
        text=": ".join(part for part in described if part),
        choices=tuple(titles),
        several=several,
        free=not titles,
    )


def _titles(schema: Json) -> dict[str, object]:
    """What the user chooses from, with the value that each choice stands for."""
    if text(schema, "type") == "boolean":
        return {_YES: True, "no": False}
    source = inner(schema, "items") if text(schema, "type") == "array" else schema
    named = [*rows(source, "oneOf"), *rows(source, "anyOf")]
    if named:
        return {text(row, "title") or text(row, "const"): text(row, "const") for row in named}
    values = words(source, "enum")
    names = words(source, "enumNames")
    return dict(zip(names if len(names) == len(values) else values, values, strict=True))


def _form_value(schema: Json, given: tuple[str, ...]) -> object:
    """The answers as the form wants them; what does not fit stays as it is, and the server says so."""
    if not given:
        return None
    titles = _titles(schema)
    values = [titles.get(word, word) for word in given]
    kind = text(schema, "type")
    if kind == "array":
        return values
    if kind in ("number", "integer") and isinstance(values[0], str):
        try:
            found = int(values[0]) if kind == "integer" else float(values[0])
        except ValueError:
            return values[0]
        return found if math.isfinite(found) else values[0]
    return values[0]
