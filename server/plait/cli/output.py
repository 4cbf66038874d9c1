"""`plait log` and `plait diff`: what an agent said, and what it changed."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Session
from plait.cli.text import count, readable, safe
from plait.errors import NothingToDo, PlaitError
from plait.rpc import Caller

PATIENCE_S = 20.0
"""How long the daemon may keep a request for more output open; then it is asked again."""


def log(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the agent ends.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Its bytes, and nothing else.")] = False,
    run: Annotated[int | None, typer.Option(metavar="N", min=1, help="Of this run; default the last one.")] = None,
) -> None:
    """Show what the agent said: readable lines, or with --raw its bytes."""
    chunks = _chunks(session, run, follow)
    if raw:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return
    from plait.agents.registry import ADAPTERS

    reader = ADAPTERS["command"].reader()
    for chunk in chunks:
        for said in reader.feed(chunk):
            screen.put(readable(said.text))
        sys.stdout.flush()
    for said in reader.close():
        screen.put(readable(said.text))


def diff(
    session: Session,
    paths: Annotated[list[str] | None, typer.Argument(metavar="[PATH]…", help="Only these.")] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Files and figures only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the session changed since its base, what is not committed included.

    In a pipe the patch is exact to the byte, so that `git apply` takes it.
    """
    wanted = [client.within_checkout(path) for path in paths or ()]
    answer = client.request("plait/diff", session=session, paths=wanted)
    if as_json:
        screen.put_json(answer)
        return
    for problem in answer["problems"]:
        screen.note(f"plait: {safe(problem)}")
    if not answer["files"]:
        raise NothingToDo("The session changes nothing there." if wanted else "The session has changed nothing.")
    if stat:
        _stat(answer["files"])
    elif screen.on_terminal():
        _coloured(answer["diff"])
    else:
        sys.stdout.buffer.write(base64.b64decode(answer["raw"]))


def diff_lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line of a patch, harmless for a terminal, with the style that it is shown in."""
    body = False
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("diff --git "):
            body = False
        elif line.startswith("@@"):
            body = True
        yield safe(line.removesuffix("\r") + ("\u240d" if line.endswith("\r") else "")), _style(line, body)


def _style(line: str, body: bool) -> str:
    if line.startswith("@@"):
        return "cyan"
    if not body:
        return "bold"
    return {"+": "green", "-": "red", "\\": "dim"}.get(line[:1], "")


def _coloured(text: str) -> None:
    from rich.text import Text

    console = screen.console()
    for line, style in diff_lines(text):
        console.print(Text(line, style), soft_wrap=True)


def _stat(files: list[dict[str, Any]]) -> None:
    from rich.text import Text

    from plait.cli.columns import put_columns

    rows: list[tuple[Text | str, ...]] = []
    for file in files:
        name = safe(file["path"])
        if file["oldPath"] and file["oldPath"] != file["path"]:
            name = f"{safe(file['oldPath'])} → {name}"
        figures = Text.assemble((f"+{file['added']} ", "green"), (f"-{file['removed']}", "red"))
        rows.append((name, "binary" if file["binary"] else figures))
    put_columns(("file", "lines"), rows, {"file": 1})
    added, removed = (sum(file[key] for file in files) for key in ("added", "removed"))
    screen.put(f"{count(len(files), 'file')}, +{added} -{removed}")


def _chunks(session: str, run: int | None, follow: bool) -> Iterator[bytes]:
    """The output from its beginning; with `follow` until the run is over, across restarts of the daemon."""
    offset, failures = 0, 0
    while True:
        with client.connect(features=["sessions"] if follow else []) as caller:
            try:
                for chunk in _read(caller, session, run, offset, follow):
                    offset += len(chunk)
                    failures = 0
                    yield chunk
                return
            except PlaitError as error:
                failures += 1
                if failures > 5 or not client.interrupted(error):
                    raise


def _read(caller: Caller, session: str, run: int | None, offset: int, follow: bool) -> Iterator[bytes]:
    while True:
        params = {"session": session, "run": run, "offset": offset, "waitS": PATIENCE_S if follow else 0}
        answer = caller.request("plait/output", {name: value for name, value in params.items() if value is not None})
        chunk = base64.b64decode(answer["data"])
        # From now on of the same run, also if another one begins.
        run = answer["run"]
        offset = answer["next"]
        if chunk:
            yield chunk
        elif answer["ended"] or not follow:
            return
        elif run is None:
            _something_happens(caller)


def _something_happens(caller: Caller) -> None:
    """Returns when any session changed, or after a while."""
    try:
        caller.listen(timeout_s=PATIENCE_S)
    except TimeoutError:
        return
