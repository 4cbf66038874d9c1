"""Writes a file for an agent that asks its client to do so, and never outside of its worktree."""

from __future__ import annotations

import os
from pathlib import Path

from plait.errors import PlaitError, UsageError


def save(worktree: Path, path: str, text: str) -> None:
    """Replace or create a file of the worktree. Blocking.

    Raises UsageError for a path that leads out of the worktree or into git's own files, PlaitError if it cannot be
    written.
    """
    root = worktree.resolve()
    target = (root / path).parent.resolve() / Path(path).name
    inside = target.is_relative_to(root) and target != root
    if not inside or ".git" in (part.lower() for part in target.relative_to(root).parts):
        raise UsageError(f"The agent asked to write {path}, which is not in its worktree.")
    if target.is_symlink():
        raise UsageError(f"The agent asked to write {path}, which is a symbolic link.")
    temporary = target.with_name(f".{target.name}.plait")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogatepass"))
        temporary.replace(target)
    except OSError as error:
        raise PlaitError(f"{path} could not be written for the agent: {error.strerror}.") from error
