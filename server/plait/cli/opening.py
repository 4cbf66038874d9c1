"""`plait open`: a session's worktree in an editor or a terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from plait.cli import client, screen
from plait.cli.options import Session
from plait.cli.text import safe
from plait.errors import PlaitError, UsageError

PROGRAMS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "code": (("code",), ("code-insiders",), ("codium",)),
    "cursor": (("cursor",),),
    "windsurf": (("windsurf",),),
    "zed": (("zed",), ("zeditor",)),
    "idea": (("idea",), ("idea.sh",), ("intellij-idea-ultimate",), ("intellij-idea-community",)),
    "xcode": (("xed",),),
    "terminal": (
        ("x-terminal-emulator",),
        ("gnome-terminal",),
        ("konsole",),
        ("wezterm", "start"),
        ("kitty",),
        ("alacritty",),
        ("foot",),
        ("xterm",),
    ),
}
"""What starts each of them; the worktree's path follows, except for a terminal, which starts in it."""
SETTLED_S = 1.0
"""A program that ends badly within this time has not opened anything."""


def open_worktree(
    session: Session,
    in_: Annotated[
        str | None, typer.Option("--in", metavar="|".join(PROGRAMS), help="Default: your $VISUAL, or what is found.")
    ] = None,
) -> None:
    """Open the session's worktree in an editor or a terminal."""
    if in_ is not None and in_ not in PROGRAMS:
        raise UsageError(f"There is no way to open a worktree in {in_!r}.", f"Choose one of {', '.join(PROGRAMS)}.")
    found = client.request("plait/session", session=session)
    worktree = found["worktree"]
    if worktree is None:
        raise UsageError(
            f"The session has no worktree now; it is {found['state']}.",
            "Restore it first." if "restore" in found["actions"] else "It gets one when it starts.",
        )
    name = in_ or _guess(os.environ)
    argv = _argv(name, worktree)
    _start(argv, worktree)
    screen.put(f"{found['short']}  {safe(worktree)}  in {name}")


def _guess(environ: Mapping[str, str]) -> str:
    """The editor that the user seems to use."""
    for variable in ("VISUAL", "EDITOR"):
        program = Path((environ.get(variable, "").split() or [""])[0]).name
        for name, ways in PROGRAMS.items():
            if any(program == way[0] for way in ways):
                return name
    for name in PROGRAMS:
        if name != "terminal" and _found(name):
            return name
    raise PlaitError("No editor that opens a folder was found.", f"Name one with --in: {', '.join(PROGRAMS)}.")


def _found(name: str) -> tuple[str, ...] | None:
    return next((way for way in PROGRAMS[name] if shutil.which(way[0])), None)


def _argv(name: str, worktree: str) -> Sequence[str]:
    if name == "terminal" and sys.platform == "darwin":
        return ("open", "-a", "Terminal", worktree)
    way = _found(name)
    if way is None:
        tried = ", ".join(way[0] for way in PROGRAMS[name])
        raise PlaitError(f"{name} is not installed, or not on your PATH (looked for {tried}).", "Choose another --in.")
    return way if name == "terminal" else (*way, worktree)


def _start(argv: Sequence[str], worktree: str) -> None:
    """Starts the program in a session of its own, so that it outlives this one. Raises PlaitError."""
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=worktree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise PlaitError(f"Could not start {argv[0]}: {error.strerror}.") from error
    try:
        status = process.wait(SETTLED_S)
    except subprocess.TimeoutExpired:
        # It runs on; nobody waits for it.
        process.returncode = 0
        return
    if status != 0:
        raise PlaitError(f"{argv[0]} ended at once with status {status}.", "Try it by hand, or choose another --in.")
