"""Going through the waiting hunks one by one at a terminal: each is shown, and the user says what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from plait.cli import client, screen
from plait.cli.keys import forget_pressed, single_keys
from plait.cli.text import count, one_line, safe
from plait.core.changes import LINE_KINDS
from plait.errors import NothingToDo, PlaitError
from plait.rpc import Caller

CONTEXT = 3
"""Lines shown before and after a hunk."""
CHOICES = "[a]ccept, [r]eject, [s]kip, [q]uit"

View = dict[str, Any]


def go_through(path: str | None) -> None:
    """Show hunk after hunk, in the queue's order, until none waits or the user quits. Raises PlaitError."""
    console = screen.console()
    seen: set[tuple[str, str]] = set()
    done = {"accepted": 0, "rejected": 0, "skipped": 0}
    with client.connect() as caller, single_keys() as keys:
        assert keys is not None, "the caller has looked whether there is a terminal"
        while (found := _next(caller, path, seen)) is not None:
            session, hunk, left = found
            seen.add((session["id"], hunk["id"]))
            from rich.text import Text

            console.print()
            for line, style in hunk_lines(hunk):
                console.print(Text(line, style), soft_wrap=True)
            console.print(Text(f"{session['short']} {one_line(session['title'])} · {left} left", "dim"))
            choice = _choice(keys)
            if choice == "q":
                break
            done[_carried_out(caller, session, hunk, choice)] += 1
    if not seen:
        raise NothingToDo("Nothing waits for your review.")
    screen.put(", ".join(f"{number} {what}" for what, number in done.items()) + ".")


def hunk_lines(hunk: View) -> Iterator[tuple[str, str]]:
    """The hunk as a piece of a patch on the user's text, each line with its style."""
    place = f":{hunk['start'] + 1}" if hunk["kind"] in LINE_KINDS else ""
    yield f"{safe(hunk['path'])}{place}  {safe(hunk['agent'])}", "bold"
    if hunk["state"] != "pending" or hunk["reason"]:
        said = f": {one_line(hunk['reason'])}" if hunk["reason"] else ""
        yield f"{hunk['state']}{said}", "yellow"
    if hunk["target"]:
        yield f"link to {safe(str(hunk['target']))}", "yellow"
    if not hunk["added"] and not hunk["removed"]:
        yield f"({hunk['kind']})", "dim"
    before, after = _context(hunk)
    yield from ((f" {_shown(line)}", "dim") for line in before)
    for key, sign, style in (("removed", "-", "red"), ("theirs", "!", "yellow"), ("added", "+", "green")):
        if key == "theirs" and hunk["state"] != "conflicting":
            continue
        yield from ((f"{sign}{_shown(line)}", style) for line in hunk[key])
        unseen = hunk["stats"].get(key, 0) - len(hunk[key])
        if unseen > 0:
            yield f"{sign} … {count(unseen, 'line')} more: plait diff shows them", "dim"
    yield from ((f" {_shown(line)}", "dim") for line in after)


def _next(caller: Caller, path: str | None, seen: set[tuple[str, str]]) -> tuple[View, View, int] | None:
    """The next session and hunk that wait and were not shown yet, and how many of them there are."""
    params = {} if path is None else {"path": path}
    for session in caller.request("plait/review", params)["queue"]:
        hunks = caller.request("plait/hunks", {"session": session["id"]})["hunks"]
        waiting = [hunk for hunk in hunks if hunk["waits"] and (session["id"], hunk["id"]) not in seen]
        if waiting:
            return session, waiting[0], len(waiting)
    return None


def _choice(keys: int) -> str:
    # A key that was pressed too early must not judge a hunk that nobody has seen.
    forget_pressed(keys)
    screen.note_inline(f"{CHOICES}? ")
    while True:
        key = os.read(keys, 1).decode("ascii", "replace").lower()
        if key in ("a", "r", "s", "q"):
            screen.note_inline(f"{key}\n")
            return key
        if key in ("", "\x04"):
            return "q"


def _carried_out(caller: Caller, session: View, hunk: View, choice: str) -> str:
    if choice == "s":
        return "skipped"
    params = {"session": session["id"], "hunks": [hunk["id"]]}
    try:
        caller.request("plait/accept" if choice == "a" else "plait/reject", params)
    except PlaitError as error:
        screen.note(f"plait: {one_line(str(error))}")
        return "skipped"
    return "accepted" if choice == "a" else "rejected"


def _context(hunk: View) -> tuple[list[str], list[str]]:
    """Lines of the user's file around the hunk; none if an editor has another text of it."""
    if hunk["inEditor"] or hunk["kind"] not in LINE_KINDS:
        return [], []
    try:
        data = Path(unquote(urlsplit(hunk["uri"]).path)).read_bytes()
    except OSError:
        return [], []
    rows = data.decode("utf-8", "replace").split("\n")
    if rows and not rows[-1]:
        rows.pop()
    return rows[max(0, hunk["start"] - CONTEXT) : hunk["start"]], rows[hunk["end"] : hunk["end"] + CONTEXT]


def _shown(line: str) -> str:
    return safe(line.removesuffix("\n").removesuffix("\r"))
