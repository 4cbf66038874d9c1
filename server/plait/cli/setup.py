"""`plait approve`: which of a repository's commands may run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory, Yes
from plait.cli.text import count, one_line, safe
from plait.errors import NeedsApproval, NothingToDo, UsageError
from plait.rpc import Caller

View = dict[str, Any]


def approve(
    base: Annotated[str | None, typer.Option(metavar="REF", help="As of this commit; default HEAD.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show what was approved so far.")] = False,
    revoke: Annotated[str | None, typer.Option(metavar="KEY", help="Take an approval back.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Look at the commands that this repository wants to run in every new worktree, and allow exactly these.

    A change of one of them, or of a script that they name, needs a new approval.
    """
    if listing:
        _list(as_json)
    elif revoke is not None:
        _revoke(revoke, as_json)
    else:
        with client.connect() as caller:
            _approve(caller, base, yes, as_json)


def approve_shown(caller: Caller, path: str, base: str | None) -> bool:
    """Show the repository's commands at the terminal, ask, and approve what was shown; whether that was done."""
    where = {"path": path} if base is None else {"path": path, "base": base}
    found = caller.request("plait/setup", where)
    if found["approved"]:
        return True
    for line in proposal(found):
        screen.note(line)
    if not screen.ask("Run this in every new worktree of this repository?"):
        return False
    caller.request("plait/approve", {**where, "key": found["key"]})
    return True


def _approve(caller: Caller, base: str | None, yes: bool, as_json: bool) -> None:
    where = {"path": client.here()} if base is None else {"path": client.here(), "base": base}
    found = caller.request("plait/setup", where)
    if not found["commands"]:
        raise NothingToDo("This repository asks to run nothing.", *found["problems"][:1])
    if found["approved"]:
        raise NothingToDo(f"The commands of {found['source']} are approved as they are.")
    for line in proposal(found):
        screen.note(line)
    if not yes:
        if not screen.can_ask():
            raise NeedsApproval("These commands need your approval.", "Approve them with `plait approve --yes`.")
        if not screen.ask("Run this in every new worktree of this repository?"):
            raise NeedsApproval("Nothing was approved.")
    done = caller.request("plait/approve", {**where, "key": found["key"]})
    if as_json:
        screen.put_json(done)
    else:
        screen.put(f"Approved: {count(len(done['commands']), 'command')}. Key {done['key'][:12]}.")


def proposal(found: View) -> list[str]:
    """What is to be approved, so that nothing of it can hide."""
    lines = [f"{safe(found['source'] or 'The repository')} asks to run in every new worktree:"]
    for number, command in enumerate(found["commands"], 1):
        first, *rest = command.split("\n")
        lines += [f"  {number}. {safe(first)}", *(f"     │ {safe(line)}" for line in rest)]
    if found["scripts"]:
        lines.append(f"These run files of the repository: {', '.join(safe(script) for script in found['scripts'])}")
    return [*lines, *(f"Note: {one_line(item)}" for item in (*found["problems"], *found["notes"]))]


def _list(as_json: bool) -> None:
    answer = client.request("plait/approvals")
    if as_json:
        screen.put_json(answer)
        return
    if answer["problem"]:
        screen.note(f"plait: {one_line(answer['problem'])}")
    if not answer["approvals"]:
        raise NothingToDo("Nothing was approved so far.")
    for one in answer["approvals"]:
        screen.put(f"{one['key'][:12]}  {safe(one['repo'])}  {safe(one['source'])}")
        for command in one["commands"]:
            screen.put(f"    {safe(command)}")


def _revoke(key: str, as_json: bool) -> None:
    known = [one["key"] for one in client.request("plait/approvals")["approvals"]]
    found = [one for one in known if key and one.startswith(key)]
    if len(found) > 1:
        raise UsageError(f"{key!r} could be any of {len(found)} approvals.", "Give more of the key.")
    if not found or not client.request("plait/revoke", key=found[0])["revoked"]:
        raise NothingToDo(f"There is no approval {key!r}.", "`plait approve --list` shows them.")
    if as_json:
        screen.put_json({"revoked": found[0]})
    else:
        screen.put(f"Revoked: {found[0][:12]}")
