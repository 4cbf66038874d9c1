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
    try:
        target = _target(worktree.resolve(), path)
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        _replace(target, text.encode("utf-8", "surrogatepass"), mode)
    except OSError as error:
        raise PlaitError(f"{path!r} could not be written for the agent: {error.strerror}.") from error
    except (ValueError, RuntimeError) as error:
        # What pathlib makes of a NUL, of half a surrogate pair, and of links that lead in a circle.
        raise UsageError(f"The agent asked to write {path!r}, which is no name of a file: {error}.") from error


def _target(root: Path, path: str) -> Path:
    name = Path(path).name
    target = (root / path).parent.resolve() / name
    if name in ("", "..") or not target.is_relative_to(root):
        raise UsageError(f"The agent asked to write {path!r}, which is not in its worktree.")
    if ".git" in (part.lower() for part in target.relative_to(root).parts):
        raise UsageError(f"The agent asked to write {path!r}, which is git's own.")
    if target.is_symlink() or target.is_dir():
        raise UsageError(f"The agent asked to write {path!r}, which is a symbolic link or a directory.")
    return target


def _replace(target: Path, data: bytes, mode: int) -> None:
    # A name of its own, which nothing of the agent's can stand in the way of.
    temporary = target.parent / f".plait-{os.urandom(8).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
