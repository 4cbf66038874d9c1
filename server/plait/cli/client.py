"""Knows how a command reaches the daemon, and what it tells it about the user's surroundings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plait.dial import converse
from plait.environment import EVERY_AGENT, pass_on
from plait.errors import PlaitError
from plait.paths import places
from plait.rpc import Caller, ConnectionLostError

Answer = dict[str, Any]

_CANCELLED = -32800
"""LSP's code for a request that was given up; we never give one up ourselves."""


def connect(
    *,
    start: bool = True,
    features: Sequence[str] = (),
    on_notification: Callable[[str, Any], None] | None = None,
) -> Caller:
    """A conversation with the daemon, which is started if need be. Raises PlaitError."""
    options = {"terminal": True, "features": list(features)}
    return converse(places(), "plait", options, start=start, on_notification=on_notification)


def request(method: str, **params: object) -> Any:
    """The answer to one request; parameters that are none are left out. Raises PlaitError."""
    with connect() as caller:
        return caller.request(method, {name: value for name, value in params.items() if value is not None})


def interrupted(error: PlaitError) -> bool:
    """Whether the request came to nothing only because the daemon ended, so that the next one may answer it."""
    return isinstance(error, ConnectionLostError) or error.data.get("code") == _CANCELLED


def environment() -> dict[str, str]:
    """The variables of this process that agents may have, with those that the user's configuration names."""
    return pass_on(os.environ, _named_variables(), EVERY_AGENT)


def here() -> str:
    """The directory that the command is about."""
    return str(Path.cwd())


def checkout() -> Path | None:
    """The top of the checkout (or bare repository) around the current directory, found without running git."""
    current = Path(os.path.realpath(Path.cwd()))
    for directory in (current, *current.parents):
        # In a linked worktree it is a file; an empty directory of that name means nothing to git.
        if (directory / ".git").is_file() or (directory / ".git" / "HEAD").exists():
            return directory
        if (directory / "HEAD").is_file() and (directory / "objects").is_dir() and (directory / "refs").is_dir():
            return directory
    return None


def within_checkout(path: str) -> str:
    """A path as the user wrote it, as the repository calls it.

    It counts from the current directory, which may lie in the user's checkout or in a session's worktree; outside
    of any checkout it counts from the top of the session's repository.
    """
    top = checkout()
    if top is None or (Path(path).is_absolute() and not Path(path).is_relative_to(top)):
        return path
    return os.path.relpath(Path(os.path.realpath(Path.cwd())) / path, top)


def _named_variables() -> frozenset[str]:
    try:
        text = places().config_file.read_text("utf-8-sig")
    except (OSError, ValueError):
        # What is wrong with the file the daemon says, and `plait doctor`.
        return frozenset()
    from plait.core.config import parse_user

    config, _ = parse_user(text)
    return frozenset(config.environment.passed).union(*(agent.env for agent in config.agents.values()))
