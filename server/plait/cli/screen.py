"""Knows how answers are put out: JSON for programs, colours and tables for a terminal, plain lines for a pipe."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from plait.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES: Mapping[str, str] = {
    "needs input": "bold yellow",
    "needs permission": "bold yellow",
    "ready": "bold green",
    "failed": "bold red",
    "stopped": "yellow",
    "starting": "cyan",
    "working": "cyan",
    "checking": "cyan",
    "queued": "blue",
    "applied": "green dim",
    "merged": "green dim",
    "trashed": "dim",
}
"""How each state is coloured; the word itself always stands there too."""


def put(text: str = "") -> None:
    """One line to the user."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A remark beside the answer, which a pipe does not get."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def put_json(answer: object) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")


def on_terminal() -> bool:
    """Whether what is put out is read by a person at a terminal."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def can_ask() -> bool:
    """Whether there is somebody who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def width() -> int | None:
    """The cells of a line of the terminal; none for a pipe, where lines are as long as they are."""
    return shutil.get_terminal_size().columns if on_terminal() else None


def console() -> Console:
    """Rich's console for the terminal; it interprets nothing in the texts that it is given."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def put_styled(line: Text) -> None:
    """One line, coloured on a terminal."""
    if on_terminal():
        console().print(line, soft_wrap=True)
    else:
        put(line.plain)


def ask(question: str) -> bool:
    """Whether the user at the terminal says yes; anything but a clear yes is a no."""
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip().lower() in ("y", "yes")


def confirmed(question: str, yes: bool, hint: str) -> bool:
    """Whether the user agrees, by an option or when asked; raises UsageError if there is nobody to ask."""
    if yes:
        return True
    if not can_ask():
        raise UsageError("This needs your yes, and there is no terminal to ask at.", hint)
    return ask(question)


def state_style(session: Mapping[str, Any]) -> str:
    return STYLES.get(str(session.get("state")), "")


def note_inline(text: str) -> None:
    """A piece of a line to the user at the terminal."""
    sys.stdout.flush()
    sys.stderr.write(text)
    sys.stderr.flush()
