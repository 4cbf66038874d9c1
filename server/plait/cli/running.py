"""`plait run`: a task and the agents that do it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory
from plait.cli.setup import approve_shown
from plait.cli.text import count, one_line
from plait.errors import NeedsApproval, PlaitError, UsageError
from plait.rpc import Caller

_COMMAND_LINE = "plait.command_line"

UNSUCCESSFUL = ("failed", "stopped")


class WithCommandLine(TyperCommand):
    """A command whose words after `--` are a command line of the user's, and not its own arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        if "--" in words:
            at = words.index("--")
            ctx.meta[_COMMAND_LINE] = words[at + 1 :]
            words = words[:at]
        return super().parse_args(ctx, words)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND…]"]


KIND = WithCommandLine


def run(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is to be done; `-` reads it from stdin.")],
    agent: Annotated[
        list[str] | None,
        typer.Option("--agent", "-a", metavar="NAME[:N][,…]", help="Who does it; several do it side by side."),
    ] = None,
    base: Annotated[str | None, typer.Option(metavar="REF", help="Start from this commit; default HEAD.")] = None,
    check: Annotated[str | None, typer.Option(metavar="CMD", help="The command that verifies the work.")] = None,
    after: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Start when this session is done; repeatable.")
    ] = None,
    setup: Annotated[bool, typer.Option("--setup/--no-setup", help="Run the repository's own set-up commands.")] = True,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Until nothing of it runs; exit 1 if one failed.")] = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Give a task to one or more agents, each in a worktree of its own.

    Words after `--` are a command line that serves as the agent: plait run "Sort imports" -- ruff check --fix .
    """
    command = context.meta.get(_COMMAND_LINE)
    if command is not None and (not command or agent):
        raise UsageError(
            "After `--` comes the command line of the agent." if not command else "Who does it: --agent or `--`?",
            'For example: plait run "Sort imports" -- ruff check --select I --fix .',
        )
    params = {
        "text": _task(text),
        "path": client.here(),
        "agents": [count_ for words in agent or () for count_ in _counted(words)],
        "command": command or [],
        "base": base,
        "check": check,
        "after": after or [],
        "setup": setup,
        "env": client.environment(),
    }
    answer = _requested(params, ask=not as_json)
    if not as_json:
        for session in answer["sessions"]:
            _announce(session)
    if wait:
        answer["sessions"] = wait_for([session["id"] for session in answer["sessions"]], quiet=as_json)
    if as_json:
        screen.put_json(answer)
    elif not wait:
        _suggest(answer["sessions"])
    if wait and any(session["state"] in UNSUCCESSFUL for session in answer["sessions"]):
        raise typer.Exit(1)


def wait_for(ids: list[str], quiet: bool) -> list[dict[str, Any]]:
    """The sessions once none of them is queued or running; every change is told meanwhile, unless `quiet`.

    A daemon that is restarted meanwhile is asked again.
    """
    shown: dict[str, object] = {}

    def changed(_method: str, params: Any) -> None:
        for session in params.get("upsert", ()):
            said = (session["state"], session["reason"])
            if session["id"] in ids and shown.get(session["id"]) != said:
                shown[session["id"]] = said
                if not quiet:
                    _tell(session)

    failures = 0
    while True:
        with client.connect(features=["sessions"], on_notification=changed) as caller:
            try:
                return _waited(caller, ids)
            except PlaitError as error:
                failures += 1
                if failures > 5 or not client.interrupted(error):
                    raise


def _waited(caller: Caller, ids: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.request("plait/wait", {"sessions": ids})["sessions"]
    return found


def _requested(params: dict[str, Any], ask: bool) -> dict[str, Any]:
    with client.connect() as caller:
        given = {name: value for name, value in params.items() if value is not None}
        try:
            answer: dict[str, Any] = caller.request("plait/run", given)
        except NeedsApproval:
            if not ask or not screen.can_ask() or not approve_shown(caller, params["path"], params["base"]):
                raise
            answer = caller.request("plait/run", given)
        return answer


def _task(text: str) -> str:
    if text != "-":
        return text
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _counted(words: str) -> list[dict[str, Any]]:
    """`codex:2,claude` as the request has it."""
    agents = []
    for word in words.split(","):
        name, colon, number = word.strip().partition(":")
        if not name or (colon and not (number.isascii() and number.isdigit() and int(number[:4]) > 0)):
            raise UsageError(f"{word!r} is not an agent.", "Write NAME or NAME:N, for example --agent claude:2,codex.")
        agents.append({"name": name, "count": int(number[:4]) if colon else 1})
    return agents


def _announce(session: dict[str, Any]) -> None:
    screen.put(f"{session['short']}  {one_line(session['title'])}  ({one_line(session['agent'])})")
    if session["why"]:
        screen.put(f"      {one_line(session['why'])}")
    sys.stdout.flush()


def _tell(session: dict[str, Any]) -> None:
    reason = f"  {one_line(session['reason'])}" if session["reason"] else ""
    screen.put(f"{session['short']}  {session['state']}{reason}")
    sys.stdout.flush()


def _suggest(sessions: list[dict[str, Any]]) -> None:
    if screen.on_terminal():
        first = sessions[0]["short"]
        screen.note(f"{count(len(sessions), 'session')}. Follow: plait watch · plait log {first} --follow")
