"""`plait list` and `plait show`: the sessions, and one of them in full."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory, Session
from plait.cli.text import count, one_line, safe, safe_lines, size, span
from plait.core.changes import LINE_KINDS

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

View = dict[str, Any]


def list_sessions(
    everything: Annotated[bool, typer.Option("--all", "-a", help="With those in the trash.")] = False,
    everywhere: Annotated[bool, typer.Option("--everywhere", "-e", help="Those of all repositories.")] = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Show the sessions of this repository: first what needs you, then what runs, then what is done.

    Outside of a repository it shows the sessions of all.
    """
    path = None if everywhere or client.checkout() is None else client.here()
    answer = client.request("plait/sessions", path=path, all=everything)
    if as_json:
        screen.put_json(answer)
        return
    sessions = answer["sessions"]
    if sessions:
        screen.console().print(_table(sessions, several=path is None))
    else:
        screen.note('There are no sessions here yet. Start one: plait run "What is to be done"')
    for problem in answer["problems"]:
        screen.note(f"plait: {one_line(problem)}")


def show(session: Session, as_json: AsJson = False) -> None:
    """Show one session in full: what was asked, where it stands, its hunks."""
    found = client.request("plait/session", session=session)
    if as_json:
        screen.put_json(found)
        return
    _show(found)


def changes_of(session: View) -> Text:
    """`3 files +10 -2`, coloured."""
    from rich.text import Text

    if not session["files"]:
        return Text("")
    return Text.assemble(f"{session['files']} ", (f"+{session['added']} ", "green"), (f"-{session['removed']}", "red"))


def grid(*columns: str) -> Table:
    """A table without lines; a column's name ending in `>` is aligned to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left", no_wrap=True)
    return table


def _table(sessions: Sequence[View], several: bool) -> Table:
    from rich.text import Text

    console = screen.console()
    table = grid("id", "state", "title", "agent", "files", "age>", "reason")
    for name, ratio in (("title", 3), ("reason", 2)):
        column = next(column for column in table.columns if column.header == name)
        column.overflow = "ellipsis"
        if screen.on_terminal():
            column.ratio, column.min_width = ratio, 12
    narrow = screen.on_terminal() and console.width < 90
    if narrow:
        # A reason that cannot be read helps nobody; `plait show` has it.
        table.columns.pop()
    now = time.time()
    for session in sessions:
        title = one_line(session["title"])
        if several:
            title = f"{safe(session['repo'].rpartition('/')[2])}: {title}"
        row: list[Text | str] = [
            session["short"],
            Text(session["state"], screen.state_style(session)),
            title,
            safe(session["agent"]),
            changes_of(session),
            span(now - session["changed"]),
            Text(one_line(session["reason"] or ""), "dim"),
        ]
        table.add_row(*row[:6] if narrow else row)
    return table


def _show(session: View) -> None:
    from rich.text import Text

    console = screen.console()
    console.print(Text.assemble((session["short"], "bold"), "  ", (one_line(session["title"]), "bold")))
    table = grid("", "")
    table.show_header = False
    table.columns[0].style = "dim"
    table.columns[1].no_wrap = False
    table.columns[1].overflow = "fold"
    for name, value in _facts(session):
        table.add_row(name, value)
    console.print(table)
    if session["prompt"].strip() != session["title"]:
        screen.put()
        screen.put("\n".join(f"  {line}" for line in safe_lines(session["prompt"].strip()).split("\n")))
    if session["hunks"]:
        screen.put()
        console.print(_hunks(session["hunks"]))


def _facts(session: View) -> list[tuple[str, Text | str]]:
    from rich.text import Text

    now = time.time()
    state = Text.assemble((session["state"], screen.state_style(session)))
    if session["reason"]:
        state.append(f" · {one_line(session['reason'])}")
    facts: list[tuple[str, Text | str]] = [
        ("id", session["id"]),
        ("state", state),
        ("agent", safe(session["agent"])),
        ("created", f"{datetime.fromtimestamp(session['created']).astimezone():%Y-%m-%d %H:%M:%S}"),
        ("changed", f"{span(now - session['changed'])} ago"),
        ("base", session["base"][:12]),
        ("branch", safe(session["branch"])),
        ("worktree", safe(session["worktree"] or "none now")),
    ]
    if session["trash"]:
        facts.append(("trash", safe(session["trash"])))
    if session["after"]:
        facts.append(("after", ", ".join(session["after"])))
    if session["port"]:
        facts.append(("ports", f"from {session['port']}"))
    if session["files"]:
        judged = f" · {session['accepted']} accepted, {session['rejected']} rejected of {len(session['hunks'])} hunks"
        facts.append(("files", changes_of(session) + Text(judged if session["hunks"] else "")))
    if session["disk"]:
        facts.append(("disk", size(session["disk"])))
    if session["resources"]:
        taken = session["resources"]
        facts.append(
            (
                "takes",
                f"{taken['processes']} proc., {size(taken['memory'])}, {taken['cpu_s']} s of CPU",
            )
        )
    if session["merged"]:
        facts.append(("merged", f"into {safe(session['merged']['into'])} as {session['merged']['commit'][:12]}"))
    facts += [(f"run {run['run']}", _run(run, now)) for run in session["runs"]]
    facts += [("note", one_line(item)) for item in session["notes"]]
    facts.append(("you can", ", ".join(session["actions"])))
    return facts


def _run(run: View, now: float) -> str:
    long = span((run["ended"] or now) - run["started"])
    if run["outcome"] is None:
        return f"{run['kind']}, for {long} so far"
    message = f" · told: {one_line(run['message'])}" if run["message"] else ""
    return f"{run['kind']}, {long} · {one_line(run['outcome']['reason'])}{message}"


def _hunks(hunks: Sequence[View]) -> Table:
    from rich.text import Text

    table = grid("hunk", "where", "lines", "state")
    table.columns[1].overflow = "fold"
    for hunk in hunks:
        place = safe(hunk["path"])
        place += f":{hunk['start'] + 1}" if hunk["kind"] in LINE_KINDS else f" ({hunk['kind']})"
        figures = Text.assemble((f"+{hunk['stats']['added']} ", "green"), (f"-{hunk['stats']['removed']}", "red"))
        reason = f" · {one_line(hunk['reason'])}" if hunk["reason"] else ""
        table.add_row(hunk["id"], place, figures, f"{hunk['state']}{reason}")
    return table
