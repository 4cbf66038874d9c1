"""How the entries of a conversation look as lines: the same for every agent, coloured for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from plait.cli.asked import bounded, diff_of, request_lines
from plait.cli.text import one_line, safe, spending

View = dict[str, Any]

DIFF_ROWS = 40
OUTPUT_ROWS: Mapping[str, int] = {"execute": 12, "other": 8, "subagent": 8}
"""Rows of a tool's output that are shown; what it read or found says little to people."""
FAILED_ROWS = 12

MARKS: Mapping[str, tuple[str, str]] = {
    "running": ("…", "cyan"),
    "completed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "denied": ("⊘", "yellow"),
}
_BOXES: Mapping[str, tuple[str, str]] = {
    "pending": ("☐", ""),
    "in_progress": ("▶", "bold"),
    "completed": ("☑", "dim"),
}
_STOPS: Mapping[str, tuple[str, str]] = {
    "end_turn": ("Turn ended", "dim"),
    "cancelled": ("Turn interrupted", "yellow"),
    "max_tokens": ("Turn ended: the answer became too long", "yellow"),
    "refusal": ("Turn ended: the model refused", "yellow"),
    "error": ("Turn ended by an error", "bold red"),
}
_CLOSE = frozenset({"tool", "retry", "limit", "remark", "began", "unread", "trouble"})
"""Kinds whose entries stand without an empty line between them."""


def is_settled(entry: View) -> bool:
    """Whether the entry says all that it will, as far as that can be known."""
    if entry["kind"] == "tool":
        return bool(entry["status"] != "running")
    return bool(entry["whole"])


def stand_apart(before: str, kind: str) -> bool:
    """Whether an empty line belongs between entries of these kinds."""
    return bool(before) and not (before in _CLOSE and kind in _CLOSE)


def entry_lines(entry: View, width: int | None, known: View | None = None) -> list[Text]:
    """The lines of an entry, at most `width` cells each; `known` is how it was when it was shown last."""
    lines = _changed(entry, known) if known is not None else _lines(entry, width)
    if width is not None:
        for line in lines:
            line.truncate(width, overflow="ellipsis")
    return lines


def plan_lines(entries: list[View], indent: str = "") -> list[Text]:
    """A plan as a checklist."""
    lines = []
    for entry in entries:
        box, style = _BOXES[entry["status"]]
        lines.append(Text(f"{indent}{box} {one_line(entry['text'])}", style))
    return lines


def limit_line(account: str, limit: View) -> str:
    """How the provider's limits stand, with the times at which they begin anew."""
    windows = []
    for window in limit["windows"]:
        used = "" if window["used"] is None else f" {window['used']:.0%} used"
        resets = "" if window["resets_at"] is None else f", resets {moment(window['resets_at'])}"
        windows.append(f"{one_line(window['name'])}{used}{resets}")
    stands = {"allowed": "within its limits", "warning": "near a limit", "rejected": "limit reached"}
    return f"{one_line(account)}: {stands[limit['status']]}" + (f" ({'; '.join(windows)})" if windows else "")


def moment(at: float) -> str:
    """A time of day, with its date if that is another one."""
    then = time.localtime(at)
    today = time.localtime()
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def _lines(entry: View, width: int | None) -> list[Text]:
    text = entry["text"]
    match entry["kind"]:
        case "user":
            return _paragraph(text, "> ", "bold cyan", width)
        case "message":
            return _paragraph(text, "", "", width)
        case "thought":
            return _paragraph(text, "  ", "dim italic", width)
        case "tool":
            return _tool(entry)
        case "plan":
            return plan_lines(entry["entries"])
        case "asked":
            return _asked(entry)
        case "limit":
            style = "" if entry["status"] == "allowed" else "yellow"
            return [Text(f"! {limit_line(text, entry)}", style or "dim")]
        case "retry":
            detail = f" {one_line(entry['detail'])}" if entry["detail"] else ""
            return [Text(f"↻ {one_line(text)}{detail}", "yellow")]
        case "trouble":
            account = f" ({one_line(entry['account'])})" if entry["account"] else ""
            return _paragraph(f"{text.strip()}{account}", "! ", "bold red" if entry["fatal"] else "red", width)
        case "remark":
            return _paragraph(text, "· ", "yellow", width)
        case "unread":
            shown = [Text(f"    {line}", style) for line, style in bounded(text, 4)]
            return [Text(f"? Not understood: {one_line(entry['why'])}", "magenta"), *shown]
        case "turn":
            return [_turn(entry)]
        case "began":
            model = f" · {one_line(text)}" if text else ""
            mode = f" · {one_line(entry['mode'])}" if entry["mode"] else ""
            return [Text(f"  conversation {one_line(entry['agent_session'])}{model}{mode}", "dim")]
        case _:
            # A newer daemon's kind of entry is shown as what it says.
            return _paragraph(text, "", "", width)


def _changed(entry: View, known: View) -> list[Text]:
    """What is new about an entry that was shown already."""
    match entry["kind"]:
        case "plan":
            before = {(one["text"], one["status"]) for one in known["entries"]}
            return plan_lines([one for one in entry["entries"] if (one["text"], one["status"]) not in before])
        case "asked":
            told = list(_reply(entry))
            return told if told != list(_reply(known)) else []
        case _:
            return []


def _tool(entry: View) -> list[Text]:
    mark, style = MARKS[entry["status"]]
    status = entry["exit"] if entry.get("exit") else None
    line = Text.assemble((f"{mark} ", style), one_line(entry["text"]))
    if status is not None:
        line.append(f" (exit status {status})", "red")
    lines = [line]
    given = entry.get("input", "").strip()
    if entry["tool_kind"] == "execute" and given and one_line(given) not in one_line(entry["text"]):
        lines += [Text(f"    {text}", "cyan") for text, _ in bounded(given, 6)]
    diffs = entry.get("diffs") or []
    if len(diffs) == 1 and diffs[0]["path"] in entry["text"]:
        # The tool's line names the file already.
        name, *rows = diff_of({**diffs[0], "path": ""}, "  ", DIFF_ROWS)
        line.append_text(name)
        lines += rows
    else:
        lines += [row for diff in diffs for row in diff_of(diff, "    ", DIFF_ROWS)]
    most = FAILED_ROWS if entry["status"] == "failed" else 0 if diffs else OUTPUT_ROWS.get(entry["tool_kind"], 0)
    output = entry.get("output", "").strip("\n")
    if most and output.strip():
        lines += [Text(f"    {text}", style) for text, style in bounded(output, most)]
    return lines


def _asked(entry: View) -> list[Text]:
    lines = request_lines({**entry, "kind": entry["of"], "title": entry["text"]})
    first = Text.assemble(("? ", "bold yellow"), lines[0])
    return [first, *lines[1:], *_reply(entry)]


def _reply(entry: View) -> Iterator[Text]:
    if "answer" in entry:
        yield Text(f"  → {one_line(entry['answer'])}", "cyan")
    elif entry.get("withdrawn"):
        yield Text("  → taken back", "dim")


def _turn(entry: View) -> Text:
    words, style = _STOPS[entry["stop"]]
    spent = entry["spent"]
    tokens = sum(spent[name] for name in ("input", "cache_read", "cache_write", "output"))
    used = spending({"tokens": tokens, "cost_usd": spent["cost_usd"]})
    why = f": {one_line(entry['why'])}" if entry["why"] and entry["stop"] != "end_turn" else ""
    return Text(f"── {words}{why}{f' · {used}' if used else ''}", style)


def _paragraph(text: str, mark: str, style: str, width: int | None) -> list[Text]:
    """The text with the mark before its first line, wrapped to the width."""
    lines: list[Text] = []
    for row in text.strip("\n").split("\n"):
        line = Text(safe(row.rstrip().expandtabs(4)), style)
        if width is None:
            lines.append(line)
        else:
            lines += line.wrap(_WRAPPING, max(10, width - len(mark)))
    blank = " " * len(mark)
    return [Text(blank if number else mark, style).append_text(line) for number, line in enumerate(lines)]


_WRAPPING = Console(width=80)
"""Rich wants one to wrap a text; nothing is put out on it."""
