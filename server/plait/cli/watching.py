"""`plait watch`: the sessions as they change, in full screen or line by line."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.following import Following
from plait.cli.options import Directory
from plait.cli.text import one_line
from plait.rpc import ConnectionLostError


def watch(
    everywhere: Annotated[bool, typer.Option("--everywhere", "-e", help="Sessions of all repositories.")] = False,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when nothing runs or is queued.")] = False,
    directory: Directory = None,
) -> None:
    """Watch the sessions: what needs you, what works, what waits. `q` quits.

    Without a terminal, every change is one line.
    """
    top = None if everywhere else client.checkout()
    following = Following(None if top is None else client.here())
    if screen.on_terminal():
        from plait.cli.monitor import monitor

        monitor(following, top.name if top else "all repositories", until_idle)
    else:
        _lines(following, until_idle)


def _lines(following: Following, until_idle: bool) -> None:
    """One line for each session that is there, and then one for each change of a state or its reason."""
    shown: dict[str, object] = {}
    first = True
    while True:
        try:
            changed = following.connect(start=True)
            if not first:
                screen.note("plait: connected to the daemon again.")
            while True:
                for session in changed:
                    said = (session["state"], session["reason"])
                    # What was in the trash already is nobody's news.
                    if shown.get(session["id"]) != said and not (first and session["state"] == "trashed"):
                        screen.put(_line(session))
                    shown[session["id"]] = said
                first = False
                sys.stdout.flush()
                if until_idle and following.idle:
                    return
                changed = following.changed(None)
        except ConnectionLostError:
            screen.note("plait: the daemon went away; connecting again.")


def _line(session: dict[str, Any]) -> str:
    words = (time.strftime("%H:%M:%S"), session["short"], session["state"], one_line(session["title"]))
    return "  ".join(words) + (f"  ({one_line(session['reason'])})" if session["reason"] else "")
