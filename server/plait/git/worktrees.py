"""How a worktree is made, so that a kill at any moment leaves all of it or nothing, and where its parts lie.

git's own `worktree add`, killed at the wrong instant, leaves a file that makes every later git command of
the user fail. So what is about to be made is an `Intent`, which the caller writes down first; `recover`
then finishes or undoes what it finds of it. A worktree's directory can be written by its agent: its `.git`
file is read once, right after git made it, and never believed again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plait.errors import GitError, StorageError, UsageError
from plait.git.removal import remove_tree
from plait.git.repo import Repo, branch_ref
from plait.git.run import Result, failure, git
from plait.git.shadow import Shadow

Outcome = Literal["deleted", "missing", "moved", "checked out"]

_WHO = {"GIT_COMMITTER_NAME": "plait", "GIT_COMMITTER_EMAIL": "plait@localhost"}


@dataclass(frozen=True)
class Worktree:
    """A linked worktree of ours; all three are remembered, never asked of the worktree itself."""

    path: Path
    admin: Path
    """`<common>/worktrees/<id>`: its HEAD, index and lock."""
    branch: str


@dataclass(frozen=True)
class Intent:
    """A worktree that is to be made; the caller writes this down before `create`, and forgets it
    afterwards."""

    path: Path
    branch: str
    base: str
    """The full id of the commit to start from."""
    reason: str
    """What the worktree is locked with; it must belong to no other, such as "plait <session id>"."""


@dataclass(frozen=True)
class Listed:
    """A worktree as git lists it."""

    path: Path
    head: str | None
    branch: str | None
    locked: str | None
    bare: bool


def create(shadow: Shadow, intent: Intent) -> Worktree:
    """A new locked worktree with a new branch at the base, filled without running anything of the
    repository's.

    Several can be made at once: only the registration waits its turn. Raises UsageError if the name or
    place cannot be used, GitError if git fails; nothing is left behind then.
    """
    intent = _settled(intent)
    _claim_place(intent.path)
    with shadow.filling(intent.path) as fill:
        with shadow.writer() as lock:
            _make_branch(shadow.repo, intent, lock)
            try:
                worktree = _register(shadow.repo, intent, [lock, fill])
            except BaseException:
                _undo(shadow, intent)
                raise
        try:
            _verify(intent)
            _fill(shadow, worktree, intent.base, fill)
        except BaseException:
            with shadow.writer():
                _undo(shadow, intent)
            raise
    return worktree


def recover(shadow: Shadow, intent: Intent) -> Worktree | None:
    """Finish what a killed `create` began, or undo it and return None.

    Waits for a git that outlived us. Touches only what carries this intent's reason, path or branch mark.
    Raises GitError, and leaves the directory alone, if somebody has put files there meanwhile.
    """
    intent = _settled(intent)
    with shadow.filling(intent.path) as fill:
        with shadow.writer():
            worktree = _complete(shadow.repo, intent)
            if worktree is None or _value(shadow.repo, branch_ref(intent.branch)) != intent.base:
                _undo(shadow, intent)
                return None
            for name in ("index.lock", "HEAD.lock"):
                (worktree.admin / name).unlink(missing_ok=True)
        try:
            _verify(intent)
            if not (worktree.admin / "index").exists():
                _fill(shadow, worktree, intent.base, fill)
        except GitError:
            with shadow.writer():
                _undo(shadow, intent)
            return None
    return worktree


def head(shadow: Shadow, worktree: Worktree) -> str:
    """The commit that the worktree's HEAD is at, whatever its agent has checked out.

    Raises GitError if HEAD names no commit.
    """
    name = f"worktrees/{worktree.admin.name}/HEAD"
    found = shadow.repo.run("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}", check=False)
    if found.status != 0:
        raise GitError(
            f"HEAD of the worktree {worktree.path} names no commit.",
            f"Its branch was {worktree.branch}; `git -C '{worktree.path}' status` tells more.",
        )
    return found.text


def listed(repo: Repo) -> list[Listed]:
    """All worktrees of the repository, the main one first."""
    blocks = repo.run("worktree", "list", "--porcelain", "-z").text.removesuffix("\0").split("\0\0")
    return [_listed(block.strip("\0").split("\0")) for block in blocks if block.strip("\0")]


def delete_branch(shadow: Shadow, branch: str, expected: str) -> Outcome:
    """Delete a branch if it is still at `expected` and no worktree has it checked out."""
    ref = branch_ref(branch)
    with shadow.writer():
        now = _value(shadow.repo, ref)
        if now is None:
            return "missing"
        if any(one.branch == branch for one in listed(shadow.repo)):
            return "checked out"
        gone = shadow.repo.run("update-ref", "-d", "--end-of-options", ref, expected, check=False, writes=True)
        return "deleted" if gone.status == 0 else "moved"


def forget(shadow: Shadow, worktree: Worktree) -> None:
    """Remove git's record of a worktree whose directory is gone; a record that names another directory is
    left alone."""
    with shadow.writer():
        if _text(worktree.admin / "gitdir") in (None, os.fspath(worktree.path / ".git")):
            _remove_admin(shadow.repo, worktree.admin)


def _settled(intent: Intent) -> Intent:
    path = intent.path
    if not path.is_absolute() or any(ord(letter) < 32 for letter in os.fspath(path)):
        raise UsageError(
            f"A worktree cannot be made at {os.fspath(path)!r}.", "Give an absolute path without control characters."
        )
    # git writes down the real path; so must we, to recognise it.
    return Intent(Path(os.path.realpath(path.parent)) / path.name, intent.branch, intent.base, intent.reason)


def _claim_place(path: Path) -> None:
    if os.path.lexists(path):
        raise UsageError(f"A worktree cannot be made at {path}: something is there already.", "Choose another place.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"Could not create {path.parent}: {error.strerror}.", "Check the disk and its permissions."
        ) from error


def _make_branch(repo: Repo, intent: Intent, lock: int) -> None:
    ref, absent = branch_ref(intent.branch), "0" * len(intent.base)
    # The mark in the branch's log is what lets `recover` tell our branch from one that the user made meanwhile.
    args = ["update-ref", "--create-reflog", "-m", _mark(intent), "--end-of-options", ref, intent.base, absent]
    common = repo.common_dir
    made = git(args, cwd=common, git_dir=common, environment=_WHO, writes=True, check=False, keep_open=[lock])
    if "reference already exists" in made.err:
        raise UsageError(
            f"A branch {intent.branch} exists already.", "Choose another name, or delete it if it is not needed."
        )
    if made.status != 0:
        raise failure(args, made)


def _register(repo: Repo, intent: Intent, locks: list[int]) -> Worktree:
    args = ["worktree", "add", "--quiet", "--no-checkout", "--lock", "--reason", intent.reason, "--end-of-options"]
    # The user's own git directory, so that a sparse checkout is passed on.
    git(
        [*args, os.fspath(intent.path), intent.branch],
        cwd=repo.common_dir, git_dir=repo.git_dir, environment=_WHO, writes=True, keep_open=locks,
    )  # fmt: skip
    worktree = _complete(repo, intent)
    if worktree is None:
        raise GitError(f"git made no proper worktree at {intent.path}.", "Please report this with `git version`.")
    return worktree


def _verify(intent: Intent) -> None:
    seen: Result = git(["rev-parse", "--show-toplevel", "HEAD"], cwd=intent.path, check=False)
    top, _, commit = seen.text.rpartition("\n")
    if seen.status != 0 or top != os.fspath(intent.path) or commit != intent.base:
        raise GitError(
            f"git commands in the new worktree {intent.path} would act on {top or 'something else'}.",
            "Look for a stray setting: git config --show-origin --get-all core.worktree",
        )


def _fill(shadow: Shadow, worktree: Worktree, base: str, fill: int) -> None:
    shadow.run(
        "read-tree", "--reset", "-u", "--end-of-options", base,
        work_tree=worktree.path, index=worktree.admin / "index", writes=True, timeout_s=1800.0, keep_open=[fill],
    )  # fmt: skip


def _complete(repo: Repo, intent: Intent) -> Worktree | None:
    ref = branch_ref(intent.branch)
    for admin in _ours(repo, intent):
        whole = (
            _text(admin / "commondir") == "../.."
            and _text(admin / "gitdir") == os.fspath(intent.path / ".git")
            and _text(admin / "HEAD") == f"ref: {ref}"
            and _text(intent.path / ".git") == f"gitdir: {admin}"
        )
        if whole:
            return Worktree(intent.path, admin, intent.branch)
    return None


def _ours(repo: Repo, intent: Intent) -> list[Path]:
    name = re.compile(re.escape(re.sub(r"[^\w.-]", "-", intent.path.name)) + r"\d*")
    found = []
    with contextlib.suppress(FileNotFoundError):
        for admin in sorted((repo.common_dir / "worktrees").iterdir()):
            if admin.is_symlink() or not admin.is_dir():
                continue
            reason = _text(admin / "locked")
            # Killed between making the directory and writing our reason into it, git leaves one that is as
            # good as empty.
            empty = (
                not reason and {entry.name for entry in admin.iterdir()} <= {"locked"} and name.fullmatch(admin.name)
            )
            if reason == intent.reason or _text(admin / "gitdir") == os.fspath(intent.path / ".git") or empty:
                found.append(admin)
    return found


def _undo(shadow: Shadow, intent: Intent) -> None:
    # What failed is what the user must hear of, so that this does not raise for what it cannot remove,
    # except for foreign files.
    repo = shadow.repo
    admins = _ours(repo, intent)
    if os.path.lexists(intent.path):
        _remove_checkout(shadow, intent, admins)
    for admin in admins:
        _remove_admin(repo, admin)
    _remove_branch(repo, intent)


def _remove_checkout(shadow: Shadow, intent: Intent, admins: list[Path]) -> None:
    path = intent.path
    linked = _text(path / ".git") in ("", None, *(f"gitdir: {admin}" for admin in admins))
    names = {entry.name for entry in path.iterdir()} if path.is_dir() and not path.is_symlink() else {"?"}
    if not linked or (not names <= {".git"} and not _only_checkout(shadow, intent)):
        raise GitError(
            f"{path} was being made and now holds files that are not ours, so that it was left as it is.",
            f"Save them, then run `git worktree unlock '{path}'` and remove the directory.",
        )
    remove_tree(path)


def _only_checkout(shadow: Shadow, intent: Intent) -> bool:
    with shadow.temporary() as place:
        index = place / "index"
        shadow.run("read-tree", "--end-of-options", intent.base, index=index)
        others = shadow.run("ls-files", "-z", "--others", work_tree=intent.path, index=index).fields
        if others:
            return False
        shadow.run("update-index", "-q", "--refresh", work_tree=intent.path, index=index, check=False, writes=True)
        args = ["diff-files", "-z", "--name-only", "--diff-filter=d", "--ignore-submodules=all"]
        changed = shadow.run(*args, work_tree=intent.path, index=index).fields
        # A kill in the middle of a file leaves its beginning; a change by anybody is something else.
        return all(_is_beginning(shadow, intent, path) for path in changed)


def _is_beginning(shadow: Shadow, intent: Intent, path: str) -> bool:
    stored = shadow.run("cat-file", "--filters", "--end-of-options", f"{intent.base}:{path}", check=False)
    file = intent.path / path
    return stored.status == 0 and not file.is_symlink() and stored.out.startswith(file.read_bytes())


def _remove_admin(repo: Repo, admin: Path) -> None:
    assert admin.parent == repo.common_dir / "worktrees"
    assert shutil.rmtree.avoids_symlink_attacks
    if not admin.is_symlink():
        shutil.rmtree(admin, ignore_errors=True)
    with contextlib.suppress(OSError):
        # git itself removes the directory when the last worktree goes.
        admin.parent.rmdir()


def _remove_branch(repo: Repo, intent: Intent) -> None:
    ref = branch_ref(intent.branch)
    log = repo.common_dir / "logs" / ref
    lines = (_text(log) or "").splitlines()
    if lines and all(line.endswith(f"\t{_mark(intent)}") for line in lines):
        if _value(repo, ref) is None:
            log.unlink(missing_ok=True)
        else:
            repo.run("update-ref", "-d", "--end-of-options", ref, intent.base, check=False, writes=True)
    # The lock of a killed update-ref on a branch that never came to be; everybody else's git has no
    # business with that name.
    lock = repo.common_dir / f"{ref}.lock"
    if _value(repo, ref) is None and _text(lock) in ("", intent.base):
        lock.unlink(missing_ok=True)


def _value(repo: Repo, ref: str) -> str | None:
    found = repo.run("rev-parse", "--verify", "--quiet", "--end-of-options", ref, check=False)
    return found.text if found.status == 0 and found.text else None


def _mark(intent: Intent) -> str:
    return f"plait: created for {' '.join(intent.reason.split())}"


def _text(path: Path) -> str | None:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return os.fsdecode(file.read(1024 * 1024)).rstrip("\n")
    except OSError:
        return None


def _listed(lines: list[str]) -> Listed:
    values = dict(line.partition(" ")[::2] for line in lines)
    branch = values.get("branch")
    return Listed(
        path=Path(values["worktree"]),
        head=values.get("HEAD"),
        branch=branch.removeprefix("refs/heads/") if branch else None,
        locked=values.get("locked"),
        bare="bare" in values,
    )
