"""How an agent's request is shown, and which keys answer it: the same in `answer`, `show`, `log` and `watch`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rich.text import Text

from plait.cli.text import count, one_line, safe

View = dict[str, Any]

DIFF_ROWS = 40
"""Rows of one file's diff that are shown."""
INPUT_ROWS = 12
"""Rows of a request's input that are shown."""


@dataclass(frozen=True)
class Choice:
    """A key that answers a request, what it is called, and what `plait/answer` is told."""

    key: str
    label: str
    answer: Mapping[str, Any]


def choices(request: View) -> list[Choice]:
    """Every answer that one key can give; none for a question that needs words or several answers."""
    decisions = _decisions(request["options"]) if request["kind"] == "permission" else {}
    taken = {option["id"] for _, option in decisions.values()}
    picked: list[tuple[str, Mapping[str, Any]]] = []
    if len(request["questions"]) == 1 and not request["questions"][0]["several"]:
        question = request["questions"][0]
        picked += [(choice, {"answers": {question["id"]: [choice]}}) for choice in question["choices"]]
    picked += [(_label(one), {"option": one["id"]}) for one in request["options"] if one["id"] not in taken]
    named = [Choice(key, _label(one), {"decision": decision}) for key, (decision, one) in decisions.items()]
    return [*named, *(Choice(str(number), label, given) for number, (label, given) in enumerate(picked[:9], 1))]


def request_lines(request: View, rows: int = DIFF_ROWS) -> list[Text]:
    """What is asked, why, and with which input and changes; at most `rows` rows of each file's diff."""
    lines = [Text(one_line(request["title"]), "bold yellow")]
    if request["reason"]:
        lines.append(Text(f"  {one_line(request['reason'])}"))
    tool = one_line(request["tool"])
    if tool and tool not in request["title"]:
        lines.append(Text(f"  with {tool}", "dim"))
    if request["input"].strip() and request["input"].strip() != request["title"].strip():
        lines += [Text(f"  {line}", style) for line, style in bounded(request["input"], INPUT_ROWS)]
    for diff in request["diffs"]:
        lines += diff_of(diff, "  ", rows)
    for number, question in enumerate(request["questions"], 1):
        asked = f"{number}. " if len(request["questions"]) > 1 else ""
        header = f"{one_line(question['header'])}: " if question["header"] else ""
        if question["text"].strip() != request["title"].strip() or asked:
            lines.append(Text(f"  {asked}{header}{one_line(question['text'])}"))
        if question["several"]:
            lines.append(Text("  Choose any number of them:", "dim"))
        if question["several"] or len(request["questions"]) > 1:
            lines += [Text(f"    - {one_line(choice)}") for choice in question["choices"]]
    return lines


def key_line(found: Sequence[Choice]) -> Text:
    """The keys with their labels, in one line."""
    line = Text()
    for choice in found:
        line.append("  " if line.plain else "")
        line.append(f"[{choice.key}]", "bold")
        line.append(f" {one_line(choice.label)}")
    return line


def diff_of(diff: View, indent: str, rows: int) -> list[Text]:
    """The file's name with the size of its change, and the changed lines below it."""
    lines = _unified(diff)
    added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    name = Text.assemble(f"{indent}{one_line(diff['path'])}  ", (f"+{added} ", "green"), (f"-{removed}", "red"))
    shown = [Text(f"{indent}  {_row(line)}", _style(line)) for line in lines[:rows]]
    if len(lines) > rows:
        shown.append(Text(f"{indent}  … {count(len(lines) - rows, 'line')} more", "dim"))
    return [name, *shown]


def bounded(text: str, rows: int) -> Iterator[tuple[str, str]]:
    """The first and the last lines of a text, each with its style, and how many were left out between them."""
    lines = [line.rstrip().expandtabs(4) for line in text.strip("\n").split("\n")]
    if len(lines) <= rows + 1:
        yield from ((safe(line), "dim") for line in lines)
        return
    first = rows // 3
    yield from ((safe(line), "dim") for line in lines[:first])
    yield f"… {count(len(lines) - rows, 'line')} more", "dim italic"
    yield from ((safe(line), "dim") for line in lines[first - rows :])


def _decisions(options: Sequence[View]) -> dict[str, tuple[str, View]]:
    """The keys of our own decisions, each with the agent's option that it comes to."""
    found: dict[str, tuple[str, View]] = {}
    for key, decision, kinds in _DECISIONS:
        option = next((one for kind in kinds for one in options if one["kind"] == kind), None)
        if option is not None and all(option["id"] != taken["id"] for _, taken in found.values()):
            found[key] = (decision, option)
    return found


_DECISIONS = (
    ("a", "allow", ("allow_once", "allow_session", "allow_always")),
    ("A", "always", ("allow_always", "allow_session")),
    ("d", "deny", ("reject_once", "reject_always", "cancel_turn")),
)


def _label(option: View) -> str:
    return str(option["label"] or option["id"])


def _unified(diff: View) -> list[str]:
    """The lines of the change from its first hunk on."""
    if diff["unified"] is not None:
        lines = diff["unified"].rstrip("\n").split("\n")
        first = next((number for number, line in enumerate(lines) if line.startswith("@@")), None)
        if first is not None:
            return [line for line in lines[first:] if not line.startswith("diff --git ")]
        return [line for line in lines if not line.startswith(("diff --git ", "--- ", "+++ ", "index "))]
    return list(_compared(diff["old"] or "", diff["new"] or ""))


@lru_cache(maxsize=64)
def _compared(old: str, new: str) -> tuple[str, ...]:
    """The lines of the change; kept, since the monitor draws the same request again and again."""
    return tuple(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm=""))[2:]


def _row(line: str) -> str:
    return safe(line.removesuffix("\r").expandtabs(4))


def _style(line: str) -> str:
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "dim")
