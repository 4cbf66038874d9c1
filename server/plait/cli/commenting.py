"""`plait comment`, `comments` and `send`: what the user says about changes, and having the agent told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Session
from plait.cli.running import UNSUCCESSFUL, wait_for
from plait.cli.text import count, one_line, safe, safe_lines
from plait.core.comments import parse_place
from plait.errors import NothingToDo, UsageError

View = dict[str, Any]


def comment(
    session: Session,
    words: Annotated[
        list[str], typer.Argument(metavar="[FILE[:LINE]] TEXT", help="Where, and what; TEXT `-` reads it from stdin.")
    ],
    hunk: Annotated[str | None, typer.Option("--hunk", metavar="H", help="On this hunk.")] = None,
    before: Annotated[bool, typer.Option("--base", help="LINE is one of the file before the changes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say something about a change; the agent is told when you `plait send` it.

    LINE counts in the file as the agent has it, which is what `plait diff` shows.
    """
    if len(words) != (1 if hunk else 2):
        how = "`plait comment ID --hunk H TEXT`" if hunk else "`plait comment ID FILE:LINE TEXT`, the text in quotes"
        raise UsageError("A comment is a place and a text.", f"Write it as {how}.")
    text = sys.stdin.buffer.read().decode("utf-8", "replace") if words[-1] == "-" else words[-1]
    place: View = {"hunk": hunk}
    if hunk is None:
        path, line = parse_place(words[0])
        place = {"path": client.within_checkout(path), "line": line, "side": "base" if before else "agent"}
    answer = client.request("plait/comment", session=session, text=text, **place)
    if as_json:
        screen.put_json(answer)
    else:
        screen.put(f"{answer['id'][-6:]}  {safe(answer['where'])}")
        screen.note(f"Send it to the agent: plait send {answer['session'][-6:]}")


def comments(
    session: Session,
    remove: Annotated[str | None, typer.Option("--remove", metavar="C", help="Take this one back.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what you said about a session's changes, and what of it the agent was told."""
    if remove is not None:
        gone = client.request("plait/removeComment", session=session, comment=remove)
        if as_json:
            screen.put_json(gone)
        else:
            screen.put(f"Taken back: {one_line(gone['text'])}")
        return
    answer = client.request("plait/comments", session=session)
    if as_json:
        screen.put_json(answer)
    elif not answer["comments"] and not answer["rejections"]:
        raise NothingToDo("You have said nothing about this session's changes.")
    else:
        for line in _lines(answer):
            screen.put(line)


def send(
    session: Session,
    now: Annotated[bool, typer.Option("--now", help="Also in the middle of the agent's turn.")] = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Until it rests again; exit 1 if it failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell the agent your comments and rejections, in one message: when it rests, or when its turn has ended.

    Rejected hunks are taken out of its worktree before it goes on.
    """
    answer = client.request("plait/sendComments", session=session, now=now, env=client.environment())
    if not as_json:
        screen.put(f"{answer['session']['short']}  {_sent(answer)}")
    if wait:
        rested = wait_for([answer["session"]["id"]], quiet=as_json)[0]
        answer = {**answer, "session": rested}
        if not as_json:
            screen.put(f"{rested['short']}  {rested['state']}")
    if as_json:
        screen.put_json(answer)
    if wait and answer["session"]["state"] in UNSUCCESSFUL:
        raise typer.Exit(1)


def _sent(answer: View) -> str:
    if answer["waits"]:
        return "The agent is told when its turn has ended."
    parts = [count(answer[key], key.removesuffix("s")) for key in ("comments", "rejections") if answer[key]]
    left = f" {answer['left']} did not fit into one message: send again for them." if answer["left"] else ""
    return f"The agent is told {' and '.join(parts)}.{left}"


def _lines(answer: View) -> Iterator[str]:
    for one in answer["comments"]:
        state = "sent" if one["sent"] else "not sent"
        yield f"{one['id'][-6:]}  {safe(one['where'])}  ({state})"
        yield from (f"        {safe(line)}" for line in one["quote"])
        yield from (f"    {line}" for line in safe_lines(one["text"]).split("\n"))
    for one in answer["rejections"]:
        state = "sent" if one["sent"] else "not sent"
        reason = f": {one_line(one['why'])}" if one["why"] else ""
        yield f"rejected  {safe(one['path'])} {one['hunk']}  ({state}){reason}"
    if answer["sending"]:
        yield "The agent is told when its turn has ended."
    elif answer["unsent"]:
        yield f"Send what is not sent: plait send {answer['session'][-6:]}"
