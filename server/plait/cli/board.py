"""The live monitor's picture: which line stands where for given sessions, figures and size; draws nothing itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from plait.cli.screen import state_style
from plait.cli.text import one_line, safe, size, span

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
    Column("takes", 14, 104),
    Column("age", 7, 34, right=True),
)
"""The title gets what the others leave."""


def group_of(session: View) -> str:
    """The key of the group that the session is shown in: what changed nothing waits for nobody."""
    group = _GROUP_OF.get(session["state"], "done")
    return "done" if group == "ready" and not session["files"] else group


def board(
    sessions: Sequence[View], figures: Figures, now: float, width: int, height: int, scroll: int = 0
) -> tuple[list[Text], int]:
    """The lines between head and foot, at most `height` of them, and how far one can scroll.

    The second lines of sessions go first if there is not enough room.
    """
    lines, furthest = _board(sessions, figures, now, width, height, scroll)
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
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    gap = width - line.cell_len - len(clock) - 1
    if gap > 0:
        line.append(" " * gap)
        line.append(clock, "dim")
    line.truncate(width, overflow="ellipsis")
    return line


def _board(
    sessions: Sequence[View], figures: Figures, now: float, width: int, height: int, scroll: int
) -> tuple[list[Text], int]:
    if not sessions:
        return [Text("No sessions yet. Start one: plait run “What is to be done”", "dim")], 0
    lines = _lines(sessions, figures, now, width, details=True)
    if len(lines) > height:
        lines = _lines(sessions, figures, now, width, details=False)
    if len(lines) <= height:
        return lines, 0
    room = max(1, height - 1)
    furthest = len(lines) - room
    first = max(0, min(scroll, furthest))
    hidden = furthest - first
    more = f"… {hidden} more below" if hidden else f"… {first} more above"
    return [*lines[first : first + room], Text(more, "dim")][:height], furthest


def _lines(sessions: Sequence[View], figures: Figures, now: float, width: int, details: bool) -> list[Text]:
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
            lines.append(_row(session, figures, now, width))
            if details and (more := _detail(session, figures)) is not None:
                lines.append(more)
    return lines


def _row(session: View, figures: Figures, now: float, width: int) -> Text:
    columns = [column for column in _COLUMNS if width >= column.from_width]
    taken = sum(column.width for column in columns) + 2 * (len(columns) - 1)
    parts = []
    for column in columns:
        part = _cell(column.name, session, figures, now)
        room = max(8, width - taken) if column.name == "title" else column.width
        part.truncate(room, overflow="ellipsis")
        blank = " " * (room - cell_len(part.plain))
        parts.append(Text(blank).append_text(part) if column.right else part.append(blank))
    line = Text("  ").join(parts)
    line.truncate(width, overflow="crop")
    return line


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
        case "takes":
            if identifier not in figures.memory:
                return Text()
            used = f"{figures.cpu[identifier] * 100:.0f}%" if identifier in figures.cpu else ""
            return Text(f"{used:>5} {size(figures.memory[identifier]):>8}")
        case _:
            return Text(span(now - session["changed"]), "dim")


def _detail(session: View, figures: Figures) -> Text | None:
    said = figures.output.get(session["id"], "") if session["live"] else ""
    if said:
        return Text.assemble(("      │ ", "dim"), (said, "dim"))
    if session["reason"] and group_of(session) != "done":
        return Text(f"        {one_line(session['reason'])}", "dim")
    return None
