"""Knows the options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from plait.errors import UsageError


def _enter(directory: Path | None) -> Path | None:
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            raise UsageError(f"Could not go to {directory}: {error.strerror}.") from error
    return directory


Session = Annotated[str, typer.Argument(metavar="ID", help="A session; its id may be shortened.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Directory = Annotated[
    Path | None,
    typer.Option("-C", metavar="PATH", callback=_enter, is_eager=True, help="Work as if started in this directory."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Files = Annotated[list[str] | None, typer.Option("--file", "-f", metavar="P", help="Only this file or directory.")]
Hunks = Annotated[list[str] | None, typer.Option("--hunk", metavar="H", help="Only this hunk.")]
