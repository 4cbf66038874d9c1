"""`plait list` and `plait show`: the sessions, and one of them in full."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory, Session
from plait.cli.text import amount, count, one_line, readable, safe, safe_lines, size, span, spending

if TYPE_CHECKING:
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
        _put_sessions(sessions, several=path is None)
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


def _put_sessions(sessions: Sequence[View], several: bool) -> None:
    from rich.text import Text

    from plait.cli.columns import put_columns

    now = time.time()
    rows: list[tuple[Text | str, ...]] = [
        (
            session["short"],
            Text(session["state"], screen.state_style(session)),
            safe(session["repo"].rpartition("/")[2]) if several else "",
            one_line(session["title"]),
            safe(session["agent"]),
            changes_of(session),
            spending(session["usage"]),
            span(now - session["changed"]),
            doing_of(session),
        )
        for session in sessions
    ]
    header = ("id", "state", "repository", "title", "agent", "files", "used", "age>", "now")
    put_columns(header, rows, {"title": 3, "now": 3, "repository": 1})


def doing_of(session: View) -> Text:
    """What the agent asks, or what it is at, or why it stands where it does."""
    from rich.text import Text

    if session["requests"]:
        more = len(session["requests"]) - 1
        asks = Text(f"asks: {one_line(session['requests'][0]['title'])}", "bold yellow")
        return asks.append(f" (and {more} more)") if more else asks
    waits = session["undelivered"]
    said = readable(session["activity"]) or one_line(session["reason"] or "")
    return Text(f"{said}{' · ' if said and waits else ''}{_undelivered(waits)}", "dim")


def _undelivered(number: int) -> str:
    return f"{count(number, 'message')} {'waits' if number == 1 else 'wait'} to be told" if number else ""


def _show(session: View) -> None:
    from rich.text import Text

    screen.put_styled(Text.assemble((session["short"], "bold"), "  ", (one_line(session["title"]), "bold")))
    for name, value in _facts(session):
        screen.put_styled(Text.assemble((f"{name:<10}", "dim"), value))
    if session["prompt"].strip() != session["title"]:
        screen.put()
        screen.put("\n".join(f"  {line}" for line in safe_lines(session["prompt"].strip()).split("\n")))
    _put_conversation(session)
    if session["hunks"]:
        screen.put()
        _put_hunks(session["hunks"])


def _put_conversation(session: View) -> None:
    """What the agent asks, plans, and said at the end."""
    from plait.cli.asked import request_lines
    from plait.cli.entries import plan_lines

    for asked in session["requests"]:
        screen.put()
        for line in request_lines(asked):
            screen.put_styled(line)
        for option in asked["options"]:
            screen.put(f"  --option {safe(option['id'])}  ({one_line(option['label'])})")
        screen.put(f"  plait answer {session['short']}")
    if session["plan"]:
        screen.put()
        for line in plan_lines(session["plan"], "  "):
            screen.put_styled(line)
    if session["conclusion"].strip() and not session["live"]:
        screen.put()
        screen.put("\n".join(f"  {line}" for line in safe_lines(session["conclusion"].strip()).split("\n")))


def _facts(session: View) -> list[tuple[str, Text | str]]:
    from rich.text import Text

    now = time.time()
    state = Text.assemble((session["state"], screen.state_style(session)))
    if session["reason"]:
        state.append(f" · {one_line(session['reason'])}")
    facts: list[tuple[str, Text | str]] = [
        ("id", session["id"]),
        ("state", state),
        ("agent", _agent(session)),
        *_conversation(session),
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


def _agent(session: View) -> str:
    model = f" · {one_line(session['model'])}" if session["model"] else ""
    # A mere command has no permissions that could be asked for.
    permission = f" · permission: {session['permission']}" if session["agentSession"] or model else ""
    return f"{safe(session['agent'])}{model}{permission}"


def _conversation(session: View) -> list[tuple[str, Text | str]]:
    """What is known of the conversation with the agent."""
    from plait.cli.entries import limit_line

    facts: list[tuple[str, Text | str]] = []
    if session["activity"]:
        facts.append(("now", readable(session["activity"])))
    if session["undelivered"]:
        facts.append(("messages", _undelivered(session["undelivered"])))
    if session["usage"]:
        facts.append(("used", _used(session["usage"])))
    if session["context"]:
        used, whole = session["context"]["used"], session["context"]["size"]
        of = f" of {amount(whole)} ({used / whole:.0%})" if whole else ""
        facts.append(("context", f"{amount(used)} tokens{of}"))
    return [*facts, *(("limit", limit_line(limit["account"], limit)) for limit in session["limits"])]


def _used(usage: View) -> str:
    names = (("input", "in"), ("cache_read", "from the cache"), ("cache_write", "to the cache"), ("output", "out"))
    parts = ", ".join(f"{amount(usage[key])} {word}" for key, word in names if usage[key])
    return f"{spending(usage)}{f' ({parts})' if parts else ''}"


def _run(run: View, now: float) -> str:
    long = span((run["ended"] or now) - run["started"])
    if run["outcome"] is None:
        return f"{run['kind']}, for {long} so far"
    message = f" · told: {one_line(run['message'])}" if run["message"] else ""
    return f"{run['kind']}, {long} · {one_line(run['outcome']['reason'])}{message}"


def _put_hunks(hunks: Sequence[View]) -> None:
    from rich.text import Text

    from plait.cli.columns import put_columns
    from plait.core.changes import LINE_KINDS

    rows: list[tuple[Text | str, ...]] = []
    for hunk in hunks:
        place = f":{hunk['start'] + 1}" if hunk["kind"] in LINE_KINDS else f" ({hunk['kind']})"
        figures = Text.assemble((f"+{hunk['stats']['added']} ", "green"), (f"-{hunk['stats']['removed']}", "red"))
        rows.append((hunk["id"], f"{safe(hunk['path'])}{place}", figures, hunk["state"], one_line(hunk["reason"])))
    put_columns(("hunk", "where", "lines", "state", "reason"), rows, {"where": 2, "reason": 1})
