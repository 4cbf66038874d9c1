"""The live monitor's picture: which line stands where for given sessions, figures and size; draws nothing itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from plait.cli.screen import state_style
from plait.cli.text import amount, count, dollars, one_line, readable, safe, size, span

View = dict[str, Any]

GROUPS: tuple[tuple[str, str], ...] = (
    ("needs", "Needs you"),
    ("ready", "Ready to review"),
    ("working", "Working"),
    ("queued", "Queued"),
    ("done", "Done"),
)
_GROUP_OF: Mapping[str, str] = {
    "needs input": "needs",
    "needs permission": "needs",
    "failed": "needs",
    "ready": "ready",
    "stopped": "ready",
    "starting": "working",
    "working": "working",
    "checking": "working",
    "queued": "queued",
}
STATE_WIDTH = len("needs permission")


@dataclass
class Figures:
    """What is known of running sessions besides their state."""

    output: dict[str, str] = field(default_factory=dict)
    """The last line that each put out, harmless already."""
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes."""
    cpu: dict[str, float] = field(default_factory=dict)
    """Parts of one processor: 1.5 is one and a half."""


@dataclass(frozen=True)
class Column:
    """One column and the width of the terminal from which on there is room for it."""

    name: str
    width: int
    from_width: int
    right: bool = False


_COLUMNS = (
    Column("id", 6, 0),
    Column("state", STATE_WIDTH, 44),
    Column("title", 0, 0),
    Column("agent", 12, 84),
    Column("files", 15, 64),
    Column("used", 13, 92, right=True),
    Column("takes", 14, 104),
    Column("age", 7, 34, right=True),
)
"""The title gets what the others leave."""
NARROW_TITLE = 28
"""Below so many cells the title gets those of what is good to know and no more."""


def group_of(session: View) -> str:
    """The key of the group that the session is shown in: what changed nothing waits for nobody."""
    group = _GROUP_OF.get(session["state"], "done")
    return "done" if group == "ready" and not session["files"] else group


def board(
    sessions: Sequence[View],
    figures: Figures,
    now: float,
    width: int,
    height: int,
    scroll: int = 0,
    chosen: str | None = None,
) -> tuple[list[Text], int]:
    """The lines between head and foot, at most `height` of them, and how far one can scroll.

    The second lines of sessions go first if there is not enough room. `chosen` is the session that is marked.
    """
    lines, furthest = _board(sessions, figures, now, width, height, scroll, chosen)
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines, furthest


def head(sessions: Sequence[View], place: str, now: float, width: int) -> Text:
    """The line at the top: whose sessions these are, and how many stand where."""
    numbers = {key: sum(group_of(session) == key for session in sessions) for key, _ in GROUPS}
    parts = [
        (numbers["needs"], "need you" if numbers["needs"] != 1 else "needs you", "bold yellow"),
        (numbers["ready"], "to review", "bold green"),
        (numbers["working"], "running", "cyan"),
        (numbers["queued"], "queued", "blue"),
    ]
    line = Text.assemble((" plait ", "reverse bold"), " ", (safe(place), "bold"), "  ")
    shown = [Text(f"{number} {word}", style) for number, word, style in parts if number]
    line.append_text(Text(" · ").join(shown) if shown else Text("nothing runs", "dim"))
    if spent := spent_by(sessions):
        line.append(f"  {spent}", "dim")
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    gap = width - line.cell_len - len(clock) - 1
    if gap > 0:
        line.append(" " * gap)
        line.append(clock, "dim")
    line.truncate(width, overflow="ellipsis")
    return line


def spent_by(sessions: Sequence[View]) -> str:
    """The tokens and the cost of all of them together; empty if none told."""
    used = [session["usage"] for session in sessions if session["usage"]]
    if not used:
        return ""
    costs = [usage["cost_usd"] for usage in used if usage["cost_usd"] is not None]
    tokens = f"{amount(sum(usage['tokens'] for usage in used))} tok"
    return f"{tokens} · {dollars(sum(costs))}" if costs else tokens


def _board(
    sessions: Sequence[View],
    figures: Figures,
    now: float,
    width: int,
    height: int,
    scroll: int,
    chosen: str | None,
) -> tuple[list[Text], int]:
    if not sessions:
        return [Text("No sessions yet. Start one: plait run “What is to be done”", "dim")], 0
    lines = _lines(sessions, figures, now, width, chosen, details=True)
    if len(lines) > height:
        lines = _lines(sessions, figures, now, width, chosen, details=False)
    if len(lines) <= height:
        return lines, 0
    room = max(1, height - 1)
    furthest = len(lines) - room
    first = max(0, min(scroll, furthest))
    hidden = furthest - first
    more = f"… {hidden} more below" if hidden else f"… {first} more above"
    return [*lines[first : first + room], Text(more, "dim")][:height], furthest


def _lines(
    sessions: Sequence[View], figures: Figures, now: float, width: int, chosen: str | None, details: bool
) -> list[Text]:
    columns, room = _columns(sessions, figures, width)
    lines: list[Text] = []
    for key, title in GROUPS:
        # What has waited longest stands first, except for what is over.
        members = sorted(
            (session for session in sessions if group_of(session) == key),
            key=lambda session: (session["changed"], session["id"]),
            reverse=key == "done",
        )
        if not members:
            continue
        if lines and details:
            lines.append(Text())
        lines.append(Text(f"{title} ({len(members)})", "bold underline"))
        for session in members:
            row = _row(session, figures, now, columns, room)
            row.truncate(width, overflow="crop")
            if session["id"] == chosen:
                row.stylize("reverse", 0, len(session["short"]))
            lines.append(row)
            if details and (more := _detail(session, figures)) is not None:
                lines.append(more)
    return lines


def _columns(sessions: Sequence[View], figures: Figures, width: int) -> tuple[list[Column], int]:
    """The columns that there is something in and room for, and the width of the title."""
    empty = {
        "used": not any(session["usage"] for session in sessions),
        "takes": not figures.memory,
    }
    columns = [column for column in _COLUMNS if width >= column.from_width and not empty.get(column.name)]
    room = _title_room(columns, width)
    if room < NARROW_TITLE and any(column.name == "takes" for column in columns):
        columns = [column for column in columns if column.name != "takes"]
        room = _title_room(columns, width)
    return columns, room


def _title_room(columns: Sequence[Column], width: int) -> int:
    return max(8, width - sum(column.width for column in columns) - 2 * (len(columns) - 1))


def _row(session: View, figures: Figures, now: float, columns: Sequence[Column], title: int) -> Text:
    parts = []
    for column in columns:
        part = _cell(column.name, session, figures, now)
        room = title if column.name == "title" else column.width
        part.truncate(room, overflow="ellipsis")
        blank = " " * (room - cell_len(part.plain))
        parts.append(Text(blank).append_text(part) if column.right else part.append(blank))
    return Text("  ").join(parts)


def _cell(name: str, session: View, figures: Figures, now: float) -> Text:
    identifier = session["id"]
    match name:
        case "id":
            return Text(session["short"], "bold")
        case "state":
            return Text(session["state"], state_style(session))
        case "title":
            return Text(one_line(session["title"]), "dim" if group_of(session) == "done" else "")
        case "agent":
            return Text(safe(session["agent"]), "dim")
        case "files":
            if not session["files"]:
                return Text()
            return Text.assemble(
                f"{session['files']} ", (f"+{session['added']} ", "green"), (f"-{session['removed']}", "red")
            )
        case "used":
            usage = session["usage"]
            cost = "" if not usage or usage["cost_usd"] is None else f" {dollars(usage['cost_usd'])}"
            return Text(f"{amount(usage['tokens'])}{cost}" if usage else "", "dim")
        case "takes":
            if identifier not in figures.memory:
                return Text()
            used = f"{figures.cpu[identifier] * 100:.0f}%" if identifier in figures.cpu else ""
            return Text(f"{used:>5} {size(figures.memory[identifier]):>8}")
        case _:
            return Text(span(now - session["changed"]), "dim")


def _detail(session: View, figures: Figures) -> Text | None:
    if session["requests"]:
        more = len(session["requests"]) - 1
        asks = Text.assemble("      ? ", (one_line(session["requests"][0]["title"]), ""), style="yellow")
        return asks.append(f" (and {more} more)") if more else asks
    said = readable(session["activity"]) or figures.output.get(session["id"], "") if session["live"] else ""
    waits = f"  ({count(session['undelivered'], 'message')} to be told)" if session["undelivered"] else ""
    if said or waits:
        return Text.assemble(("      │ ", "dim"), (said, "dim"), (waits, "yellow"))
    if session["reason"] and group_of(session) != "done":
        return Text(f"        {one_line(session['reason'])}", "dim")
    return None
