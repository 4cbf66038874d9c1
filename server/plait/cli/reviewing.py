"""`plait review`, `accept`, `reject` and `revert`: the user's verdicts on hunks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory, Files, Hunks, Session
from plait.cli.text import count, one_line, safe, span
from plait.errors import NothingToDo, UsageError

View = dict[str, Any]


def review(
    session: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only this session; needs --file.", show_default=False)
    ] = None,
    file: Annotated[
        bool, typer.Option("--file", help="As a document: comments that you write into it reach the agent.")
    ] = False,
    next_: Annotated[
        bool, typer.Option("--next", "-n", help="The next hunk; at a terminal, ask hunk by hunk.")
    ] = False,
    everywhere: Annotated[bool, typer.Option("--everywhere", "-e", help="Those of all repositories.")] = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Show what waits for your review, or go through it hunk by hunk."""
    if session is not None or file:
        _file(session, file, as_json)
        return
    path = None if everywhere or client.checkout() is None else client.here()
    if next_ and not as_json and screen.on_terminal() and screen.can_ask():
        from plait.cli.hunkwise import go_through

        go_through(path)
        return
    queue = client.request("plait/review", path=path)["queue"]
    if next_:
        _next(queue, as_json)
    elif as_json:
        screen.put_json({"queue": queue})
    elif queue:
        _show(queue)
    else:
        raise NothingToDo("Nothing waits for your review.")


def _file(session: str | None, file: bool, as_json: bool) -> None:
    """Where the review of a session lies as a document."""
    if session is None or not file:
        raise UsageError(
            "A document is the review of one session.", "`plait review ID --file`; without both, all is shown."
        )
    answer = client.request("plait/reviewFile", session=session)
    if as_json:
        screen.put_json(answer)
    else:
        screen.put(safe(answer["path"]))
        screen.note("Comments that you write into it count once your editor has told of the save, or with this again.")


def accept(session: Session, file: Files = None, hunk: Hunks = None, as_json: AsJson = False) -> None:
    """Put hunks into your checkout: those named, or all that are not rejected."""
    _put(_asked("plait/accept", session, file, hunk), "accepted", as_json)


def reject(
    session: Session,
    file: Files = None,
    hunk: Hunks = None,
    why: Annotated[str | None, typer.Option(metavar="TEXT", help="The reason.")] = None,
    as_json: AsJson = False,
) -> None:
    """Note that you do not want hunks; no file is changed."""
    _put(_asked("plait/reject", session, file, hunk, why=why), "rejected", as_json)


def revert(session: Session, file: Files = None, hunk: Hunks = None, as_json: AsJson = False) -> None:
    """Take accepted hunks out of your checkout again."""
    _put(_asked("plait/revert", session, file, hunk), "taken back", as_json)


def _asked(method: str, session: str, file: list[str] | None, hunk: list[str] | None, **more: object) -> View:
    paths = [client.within_checkout(path) for path in file or ()]
    answer: View = client.request(method, session=session, paths=paths, hunks=hunk or [], **more)
    return answer


def _put(answer: View, what: str, as_json: bool) -> None:
    """What came of it; what was refused makes it a failure, though the rest was done."""
    if as_json:
        screen.put_json(answer)
    else:
        where = f" in {', '.join(safe(path) for path in answer['files'])}" if answer["files"] else ""
        screen.put(f"{count(len(answer['done']), 'hunk')} {what}{where}.")
        if answer["already"]:
            screen.put(f"{count(len(answer['already']), 'hunk')} was so already.")
        if answer["inEditor"]:
            screen.put(f"Not saved yet in your editor: {', '.join(safe(path) for path in answer['inEditor'])}.")
        for refused in answer["refused"]:
            screen.note(f"plait: not {what}: {safe(refused['hunk'])}: {one_line(refused['reason'])}")
    if answer["refused"]:
        raise typer.Exit(1)


def _next(queue: list[View], as_json: bool) -> None:
    if not queue:
        raise NothingToDo("Nothing waits for your review.")
    if as_json:
        screen.put_json({"session": queue[0]["id"], "waiting": queue[0]["waiting"], "hunk": queue[0]["next"]})
        return
    from plait.cli.hunkwise import hunk_lines

    for line, _ in hunk_lines(queue[0]["next"]):
        screen.put(line)
    screen.put(f"plait accept {queue[0]['short']} --hunk {queue[0]['next']['id']}")


def _show(queue: list[View]) -> None:
    from rich.text import Text

    from plait.cli.columns import put_columns
    from plait.cli.listing import changes_of

    rows: list[tuple[Text | str, ...]] = []
    for session in queue:
        hunks = Text(str(session["waiting"]))
        if session["conflicting"]:
            hunks.append(f" ({count(session['conflicting'], 'conflict')})", "red")
        rows.append(
            (
                session["short"],
                one_line(session["title"]),
                safe(session["agent"]),
                Text(session["state"], screen.state_style(session)),
                changes_of(session),
                hunks,
                span(session["age"]),
                safe(session["next"]["path"]),
            )
        )
    header = ("id", "title", "agent", "state", "files", "hunks", "waits>", "first")
    put_columns(header, rows, {"title": 3, "first": 2})
    if screen.on_terminal():
        screen.note("Go through them: plait review --next")
