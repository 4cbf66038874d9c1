"""`plait diff`: what a session changed since its base."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Session
from plait.cli.text import count, safe
from plait.errors import NothingToDo


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
