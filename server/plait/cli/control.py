"""`plait say`, `stop`, `resume`, `retry` and `merge`: what a user tells a session to do."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Session
from plait.cli.running import UNSUCCESSFUL, wait_for
from plait.cli.text import one_line, safe
from plait.errors import UsageError

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Until it rests again; exit 1 if it failed.")]


def say(
    session: Session,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The message; `-` reads it from stdin.")],
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Tell the agent something: now if it can take it while it works, else when its turn is over.

    An agent that rests goes on with it.
    """
    message = sys.stdin.buffer.read().decode("utf-8", "replace") if text == "-" else text
    if not message.strip():
        raise UsageError("The message is empty.", "Say what the agent shall do.")
    answer = client.request("plait/say", session=session, text=message, env=client.environment())
    if not as_json:
        screen.put(f"{answer['short']}  {_DELIVERY[answer['delivery']]}")
    _went_on(answer, wait, as_json, announced=True)


_DELIVERY = {
    "delivered": "The agent has been told.",
    "waits": "The message waits: the agent is told when it can take it, at the latest when its turn is over.",
    "starts": "The agent is started again with it.",
}


def stop(session: Session, as_json: AsJson = False) -> None:
    """End the agent's processes; what it did so far stays."""
    _told(client.request("plait/stop", session=session), as_json)


def resume(
    session: Session,
    message: Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="Tell it this first.")] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Let the agent go on in its worktree."""
    answer = client.request("plait/resume", session=session, message=message, env=client.environment())
    _went_on(answer, wait, as_json)


def retry(session: Session, wait: Wait = False, as_json: AsJson = False) -> None:
    """Give the same task to a new session, from the same base; the old one stays as it is."""
    _went_on(client.request("plait/retry", session=session, env=client.environment()), wait, as_json)


def merge(
    session: Session,
    squash: Annotated[bool, typer.Option("--squash", help="As one commit.")] = False,
    rebase: Annotated[bool, typer.Option("--rebase", help="As its own commits, on top of the branch.")] = False,
    into: Annotated[str | None, typer.Option(metavar="BRANCH", help="Default: the branch you are on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the session's work, without rejected hunks, into a branch."""
    if squash and rebase:
        raise UsageError("--squash and --rebase exclude each other.", "Choose one of them.")
    how = "squash" if squash else "rebase" if rebase else "merge"
    answer = client.request("plait/merge", session=session, how=how, into=into)
    if as_json:
        screen.put_json(answer)
    else:
        screen.put(f"Merged into {safe(answer['into'])}: {answer['previous'][:12]} → {answer['commit'][:12]}")


def _told(session: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.put_json(session)
        return
    reason = f" · {one_line(session['reason'])}" if session["reason"] else ""
    screen.put(f"{session['short']}  {session['state']}{reason}  {one_line(session['title'])}")


def _went_on(session: dict[str, Any], wait: bool, as_json: bool, announced: bool = False) -> None:
    if wait:
        session = wait_for([session["id"]], quiet=as_json)[0]
    if as_json or wait or not announced:
        _told(session, as_json)
    if wait and session["state"] in UNSUCCESSFUL:
        raise typer.Exit(1)
