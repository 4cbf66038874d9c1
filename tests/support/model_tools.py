"""How a neutral tool call is said to a client: with the tools it declared, by the names in their schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from tests.support.model_script import (
    Ask,
    AskUser,
    Call,
    Declared,
    Edit,
    Json,
    Plan,
    Raw,
    Read,
    Scenario,
    Shell,
    Step,
    Tool,
    Write,
)

_WRITERS = ("Write", "write", "write_file", "create")
_EDITORS = ("Edit", "edit", "replace", "str_replace_editor")
_READERS = ("Read", "read", "read_file", "view")
_SHELLS = ("Bash", "bash", "exec_command", "shell_command", "shell", "run_shell_command")
_PLANNERS = ("TodoWrite", "todowrite", "update_plan", "write_todos", "update_todo")
_ASKERS = ("AskUserQuestion", "question", "ask_user", "request_user_input")

_PATH = ("file_path", "filePath", "absolute_path", "path")
_CONTENT = ("content", "file_text", "contents")
_OLD = ("old_string", "oldString", "old_str")
_NEW = ("new_string", "newString", "new_str")
_COMMAND = ("command", "cmd")


def call(tool: Tool, ask: Ask, id: str) -> Call | str:  # noqa: A002 - the wire's own word
    """The call that says `tool` to the client, or a sentence that says why there is none."""
    found = _said(tool, ask)
    if found is None:
        return f"The client declared no tool for {tool!r}; it has {', '.join(ask.tools) or 'none'}."
    name, given = found
    declared = ask.tools.get(name)
    return Call(id, name, given, declared.namespace if declared else None)


def choose(scenario: Scenario, ask: Ask) -> Step:
    """The reply that the scenario has for this request.

    Plans and questions are left out for a client that has no tool for them. A client that gets its edits as text gets
    no results to go on with, so the whole turn is one reply to it.
    """
    steps = scenario.turn(len(ask.typed))
    if ask.blocks:
        return _joined(steps) if ask.results == 0 else replace(steps[-1], tool=None)
    optional = (Plan, AskUser)
    able = [step for step in steps if all(_said(t, ask) for t in step.tools if isinstance(t, optional))] or steps[-1:]
    return able[min(ask.results, len(able) - 1)]


def block(tool: Tool) -> str:
    """An edit as the text that Aider applies."""
    match tool:
        case Write(path, content):
            old, new = "", content
        case Edit(path, old, new):
            pass
        case Shell(command):
            return f"```bash\n{command}\n```"
        case Read(path):
            return f"Please add {path} to the chat."
        case AskUser(question, choices):
            return f"{question} ({' / '.join(choices)})"
        case Plan(items):
            return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
        case Raw(name, given):
            return given if isinstance(given, str) else f"{name} {json.dumps(given)}"
    return f"{path}\n```\n<<<<<<< SEARCH\n{_ended(old)}=======\n{_ended(new)}>>>>>>> REPLACE\n```"


def fill(schema: Mapping[str, Any]) -> Any:
    """A small value that fits a JSON schema, for clients that want their answers in a form of their own."""
    if schema.get("enum"):
        return schema["enum"][-1]
    for alternative in ("anyOf", "oneOf"):
        if schema.get(alternative):
            return fill(schema[alternative][0])
    kind = schema.get("type")
    match str(kind[0] if isinstance(kind, list) else kind).lower():
        case "object":
            return {name: fill(part) for name, part in (schema.get("properties") or {}).items()}
        case "array":
            return []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case _:
            return "scripted"


_PLACES = tuple(
    re.compile(pattern)
    for pattern in (
        r"<cwd>(/[^<]+)</cwd>",
        r"(?:[Ww]orking directory|Workspace root folder)[^/\n]{0,20}(/[^\s\"\\<>`*]+)",
        r"(?:[Ww]orkspace [Dd]irectories|working in the directory|current directory)[^/]{0,80}?(/[^\s\"\\<>`*]+)",
    )
)


def directory(text: str) -> str | None:
    """Where a client says that it works; the last place it names, since a conversation may have moved."""
    for pattern in _PLACES:
        if found := pattern.findall(text):
            return str(found[-1]).rstrip(".,;")
    return None


def _joined(steps: Sequence[Step]) -> Step:
    """Several steps as one; the blocks stand between the texts."""
    parts = [part for step in steps for part in (step.text, *(block(tool) for tool in step.tools))]
    return Step("\n\n".join(filter(None, parts)) + "\n", hold=any(step.hold for step in steps))


def _said(tool: Tool, ask: Ask) -> tuple[str, Json | str] | None:
    if "exec" in ask.tools and ask.tools["exec"].custom and not isinstance(tool, Raw):
        return _program(tool)
    match tool:
        case Raw(name, given):
            return name, given if isinstance(given, str) else dict(given)
        case Write(path, content):
            if declared := _first(ask, _WRITERS):
                return _filled(declared, {_PATH: _absolute(path, ask), _CONTENT: content})
            return _patched(ask, _added(path, content)) or _run(ask, Shell(_heredoc(path, content)))
        case Edit(path, old, new):
            if declared := _first(ask, _EDITORS):
                return _filled(declared, {_PATH: _absolute(path, ask), _OLD: old, _NEW: new})
            return _patched(ask, _updated(path, old, new))
        case Read(path):
            if declared := _first(ask, _READERS):
                return _filled(declared, {_PATH: _absolute(path, ask)})
            return _run(ask, Shell(f"cat '{path}'"))
        case Shell():
            return _run(ask, tool)
        case Plan(items):
            declared = _first(ask, _PLANNERS)
            return (declared.name, _todo(declared, items)) if declared else None
        case AskUser(question, choices):
            declared = _first(ask, _ASKERS)
            return (declared.name, _question(declared, question, choices)) if declared else None


def _first(ask: Ask, names: tuple[str, ...]) -> Declared | None:
    return next((ask.tools[name] for name in names if name in ask.tools), None)


def _filled(declared: Declared, parts: Mapping[tuple[str, ...], Any]) -> tuple[str, Json]:
    """Each part under that of its names which the schema has; what else is required gets a value that fits."""
    properties = declared.properties
    given = {next((name for name in names if name in properties), names[0]): part for names, part in parts.items()}
    for name in declared.schema.get("required") or ():
        given.setdefault(name, fill(properties.get(name, {})))
    return declared.name, given


def _run(ask: Ask, tool: Shell) -> tuple[str, Json] | None:
    declared = _first(ask, _SHELLS)
    if declared is None:
        return None
    command: str | list[str] = tool.command
    if declared.properties.get("command", {}).get("type") == "array":
        command = ["bash", "-lc", tool.command]
    name, given = _filled(declared, {_COMMAND: command})
    if tool.escalate:
        given |= _escalation(declared.properties)
    return name, given


def _escalation(properties: Json) -> Json:
    if "sandbox_permissions" in properties:
        return {"sandbox_permissions": "require_escalated", "justification": "May I run this outside the sandbox?"}
    if "dangerouslyDisableSandbox" in properties:
        return {"dangerouslyDisableSandbox": True}
    return {}


def _patched(ask: Ask, patch: str) -> tuple[str, Json | str] | None:
    declared = ask.tools.get("apply_patch")
    if declared is None:
        return None
    if declared.custom:
        return "apply_patch", patch
    return _filled(declared, {("input", "patch", "patchText"): patch})


def _added(path: str, content: str) -> str:
    lines = "".join(f"+{line}\n" for line in content.splitlines())
    return f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch\n"


def _updated(path: str, old: str, new: str) -> str:
    taken = "".join(f"-{line}\n" for line in old.splitlines())
    put = "".join(f"+{line}\n" for line in new.splitlines())
    return f"*** Begin Patch\n*** Update File: {path}\n@@\n{taken}{put}*** End Patch\n"


def _program(tool: Tool) -> tuple[str, str] | None:
    """Codex with its newest models offers one tool that runs JavaScript, and the others inside it."""
    inner: str
    given: Json | str
    match tool:
        case Write(path, content):
            inner, given = "apply_patch", _added(path, content)
        case Edit(path, old, new):
            inner, given = "apply_patch", _updated(path, old, new)
        case Read(path):
            inner, given = "exec_command", {"cmd": f"cat '{path}'"}
        case Shell(command, escalate):
            inner, given = "exec_command", {"cmd": command}
            if escalate:
                given |= _escalation({"sandbox_permissions": {}})
        case Plan(items):
            inner, given = "update_plan", _todo(Declared("update_plan"), items)
        case _:
            return None
    return "exec", f"text(await tools.{inner}({json.dumps(given)}));"


_STATES = ("completed", "in_progress")


def _todo(declared: Declared, items: tuple[str, ...]) -> Json:
    states = [*_STATES, *["pending"] * len(items)][: len(items)]
    pairs = list(zip(items, states, strict=True))
    match declared.name:
        case "TodoWrite":
            return {"todos": [{"content": item, "status": state, "activeForm": item} for item, state in pairs]}
        case "todowrite":
            return {"todos": [{"content": item, "status": state, "priority": "medium"} for item, state in pairs]}
        case "write_todos":
            return {"todos": [{"description": item, "status": state} for item, state in pairs]}
        case "update_todo":
            return {"todos": "\n".join(f"- [{'x' if state == 'completed' else ' '}] {item}" for item, state in pairs)}
        case _:
            return {"plan": [{"step": item, "status": state} for item, state in pairs]}


def _question(declared: Declared, question: str, choices: tuple[str, ...]) -> Json:
    if "questions" not in declared.properties:
        return _filled(declared, {("question",): question, ("choices", "options"): list(choices)})[1]
    parts = declared.properties["questions"].get("items", {}).get("properties", {})
    asked: Json = {"question": question, "header": "Question"}
    asked["options"] = [{"label": choice, "description": f"Take {choice}."} for choice in choices]
    for name, text in (("id", "the_question"), ("multiSelect", False), ("multiple", False), ("type", "choice")):
        if name in parts:
            asked[name] = text
    return {"questions": [asked]}


def _absolute(path: str, ask: Ask) -> str:
    place = directory(ask.text)
    return path if place is None else str(PurePosixPath(place) / path)


def _heredoc(path: str, content: str) -> str:
    return f"cat > '{path}' <<'PLAIT_END'\n{_ended(content)}PLAIT_END"


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
