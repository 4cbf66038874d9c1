"""How a worktree goes to the trash and comes back, byte for byte, and how it is gone for good when the user
empties the trash.

To the trash is a rename within one file system. git keeps the worktree's record, its index and all that the
index refers to, since the record is locked; so what was staged, untracked or ignored, and repositories
within, all return.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from plait.errors import GitError, StorageError
from plait.git.removal import remove_tree
from plait.git.shadow import Shadow
from plait.git.worktrees import Outcome, Worktree, delete_branch, forget


@dataclass(frozen=True)
class Trashed:
    """A worktree in the trash: where it lies, and what it was."""

    path: Path
    worktree: Worktree


def trash(shadow: Shadow, worktree: Worktree, trash_dir: Path) -> Trashed:
    """Move the worktree into `trash_dir`, under its own name or a numbered one; the caller takes a snapshot
    first.

    Raises GitError if the worktree is not there or the trash is on another file system; nothing has changed
    then.
    """
    if worktree.path.is_symlink() or not worktree.path.is_dir():
        raise GitError(
            f"The worktree {worktree.path} is not there any more.",
            "If you moved it, move it back; its snapshots are kept.",
        )
    with shadow.writer():
        _lock(worktree)
        try:
            trash_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            place = _free(trash_dir, worktree.path.name)
            worktree.path.rename(place)
        except OSError as error:
            raise _not_moved(worktree.path, trash_dir, error) from error
    return Trashed(place, worktree)


def restore(shadow: Shadow, trashed: Trashed) -> Worktree:
    """Move the worktree back to where it was, with its link to the repository as it must be.

    Raises GitError if something lies there now, or git's record of it is gone.
    """
    worktree = trashed.worktree
    if os.path.lexists(worktree.path):
        raise GitError(f"Something else lies at {worktree.path} now.", "Move it away, then restore again.")
    if not trashed.path.is_dir() or trashed.path.is_symlink():
        raise GitError(
            f"{trashed.path} is not in the trash any more.", "The session's snapshots are kept in refs/plait/."
        )
    if not worktree.admin.is_dir():
        raise GitError(
            f"git's record {worktree.admin} of the worktree is gone, so that it would not be one.",
            f"Its files are in {trashed.path}; `git worktree add` and copying them makes a new one.",
        )
    with shadow.writer():
        try:
            _link(trashed.path / ".git", f"gitdir: {worktree.admin}\n")
            _link(worktree.admin / "gitdir", f"{worktree.path / '.git'}\n")
            worktree.path.parent.mkdir(parents=True, exist_ok=True)
            trashed.path.rename(worktree.path)
        except OSError as error:
            raise _not_moved(trashed.path, worktree.path.parent, error) from error
    return worktree


def purge(shadow: Shadow, trashed: Trashed, *, branch_tip: str | None = None) -> Outcome | None:
    """Remove a trashed worktree for good, git's record of it too; only ever because the user asked.

    With `branch_tip`, its branch is deleted as well if it is still there; returns what became of it. Can be
    repeated after a kill. Raises StorageError if a file cannot be removed.
    """
    if os.path.lexists(trashed.worktree.path):
        raise GitError(
            f"{trashed.worktree.path} exists, so that the worktree is not in the trash.", "Restore or trash it first."
        )
    remove_tree(trashed.path)
    forget(shadow, trashed.worktree)
    return delete_branch(shadow, trashed.worktree.branch, branch_tip) if branch_tip else None


def _lock(worktree: Worktree) -> None:
    # An agent can unlock its worktree, and then a prune would drop its index.
    lock = worktree.admin / "locked"
    if worktree.admin.is_dir() and not lock.exists():
        lock.write_text("plait: in the trash\n")


def _link(file: Path, content: str) -> None:
    if file.is_dir() and not file.is_symlink():
        raise GitError(
            f"{file} is a directory now, a repository of its own.", "Move it away if you want the worktree back."
        )
    wanted = os.fsencode(content)
    if file.is_symlink() or not file.exists() or file.read_bytes() != wanted:
        fresh = file.with_name(f"{file.name}.plait-new")
        fresh.unlink(missing_ok=True)
        fresh.write_bytes(wanted)
        fresh.replace(file)


def _free(directory: Path, name: str) -> Path:
    place = directory / name
    number = 1
    while os.path.lexists(place):
        number += 1
        place = directory / f"{name}.{number}"
    return place


def _not_moved(path: Path, directory: Path, error: OSError) -> GitError | StorageError:
    if error.errno == errno.EXDEV:
        return GitError(
            f"{path} and {directory} are on different file systems, and a worktree is moved, never copied.",
            "Configure a place for worktrees and trash on one file system.",
        )
    return StorageError(
        f"Could not move {path} to {directory}: {error.strerror}.", "Check the disk and its permissions."
    )
