"""`plait conflicts`: which sessions collide, where, and in which order to merge them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory
from plait.cli.text import count, one_line, safe
from plait.errors import NothingToDo

View = dict[str, Any]


def conflicts(
    everywhere: Annotated[bool, typer.Option("--everywhere", "-e", help="Those of all repositories.")] = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Show which sessions collide, where, and in which order to merge them.

    Each two sessions are merged on trial, with what is not committed; nothing is changed by that.
    """
    path = None if everywhere or client.checkout() is None else client.here()
    answer = client.request("plait/conflicts", path=path)
    if as_json:
        screen.put_json(answer)
        return
    for problem in answer["problems"]:
        screen.note(f"plait: {safe(problem)}")
    if not answer["order"]:
        raise NothingToDo("No session has work to be merged.")
    names = {session["id"]: session for session in answer["sessions"]}
    if answer["pairs"]:
        _put_pairs(answer["pairs"], names)
    else:
        screen.put("No two sessions collide.")
    _put_alternatives(answer["alternatives"], names)
    _put_order(answer, names)


def _put_pairs(pairs: list[View], names: dict[str, View]) -> None:
    from plait.cli.columns import put_columns

    rows = [
        (
            _named(names[pair["a"]]),
            _named(names[pair["b"]]),
            safe(file["path"]),
            _lines(file["lines"]),
            one_line(file["text"]),
        )
        for pair in pairs
        for file in pair["files"]
    ]
    put_columns(("session", "other", "file", "lines", "what"), rows, {"session": 2, "other": 2, "file": 3, "what": 3})


def _put_alternatives(pairs: list[View], names: dict[str, View]) -> None:
    tasks: dict[str, list[str]] = {}
    for pair in pairs:
        for session in (pair["a"], pair["b"]):
            shorts = tasks.setdefault(names[session]["task"], [])
            if names[session]["short"] not in shorts:
                shorts.append(names[session]["short"])
    for shorts in tasks.values():
        screen.put(f"Alternatives, of which to choose one: {', '.join(shorts)}.")


def _put_order(answer: View, names: dict[str, View]) -> None:
    from rich.text import Text

    from plait.cli.columns import put_columns

    screen.put()
    colliding = {
        session: {p["b"] if p["a"] == session else p["a"] for p in answer["pairs"] if session in (p["a"], p["b"])}
        for session in names
    }
    merged: set[str] = set()
    rows: list[tuple[Text | str, ...]] = []
    for number, session in enumerate(answer["order"], 1):
        view = names[session]
        behind = len(colliding[session] & merged)
        note = f"to be reworked after {count(behind, 'other')}" if behind else "merges cleanly"
        state = Text(view["state"], screen.state_style(view))
        rows.append((str(number), view["short"], one_line(view["title"]), safe(view["agent"]), state, note))
        merged.add(session)
    put_columns(("merge>", "id", "title", "agent", "state", "then"), rows, {"title": 1})


def _named(session: View) -> str:
    return f"{session['short']} {one_line(session['title'])}"


def _lines(lines: list[list[int]] | None) -> str:
    """The rows of the base of both sides, as people count them."""
    if lines is None:
        return ""
    first = min(start for start, _ in lines) + 1
    last = max(max(start + 1, end) for start, end in lines)
    return str(first) if first == last else f"{first}-{last}"
