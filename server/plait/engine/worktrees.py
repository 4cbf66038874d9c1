"""A session's worktree from its making to its end: what git and the file system have to do for it. All blocking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from plait.core import events as e
from plait.core.sessions import Session
from plait.core.setup import environment
from plait.core.setup_formats import Dialect
from plait.engine.setup import bring_ignored, symlink_dirs
from plait.errors import GitError, PlaitError, StorageError
from plait.git import reads, repo, shadow, trash, trees
from plait.git.finish import FinishIntent, recover_finish
from plait.git.removal import remove_tree
from plait.git.repo import Repo
from plait.git.shadow import Shadow
from plait.git.worktrees import Intent, Worktree, create, delete_branch, forget, head, recover
from plait.paths import Places, private_directory


@dataclass(frozen=True)
class Made:
    """A worktree that is ready to be worked in, and what the user should know of it."""

    admin: Path
    notes: tuple[str, ...]


def prepare(places: Places, session: Session) -> Made:
    """Create the session's worktree, or complete an interrupted creation, and bring in the files that it needs.

    Raises PlaitError; what was made before that is found by the next call, and by `unfinished`.
    """
    shadows = shadow_of(places, session)
    if str(session.spec.worktree).startswith(str(places.data)):
        private_directory(places.data)
    intent = _intent(session)
    worktree = recover(shadows, intent) or create(shadows, intent)
    notes = repo.features(shadows.repo, session.spec.base)
    return Made(worktree.admin, (*notes, *_bring(shadows, session, worktree)))


def verify(session: Session) -> None:
    """Raises PlaitError unless the session's worktree is a directory at its own place, and no link to another."""
    path = Path(session.spec.worktree)
    if path.is_symlink() or not path.is_dir():
        raise PlaitError(
            f"The worktree {path} is gone.", "Put it back where it was, or trash this session and retry its task."
        )


def variables(session: Session) -> dict[str, str]:
    """What set-up, agent and teardown find in their environment about the worktree."""
    spec = session.spec
    return environment(
        _dialect(session),
        root=spec.repo.top or spec.repo.common_dir,
        worktree=spec.worktree,
        name=Path(spec.worktree).name,
        default_branch=spec.default_branch or "",
        port=session.prepared.port if session.prepared else 0,
        branch=spec.branch,
    )


def record(places: Places, session: Session, run: int) -> tuple[e.Snapshotted, tuple[str, ...]]:
    """Take the snapshot of what the agent left, and say what could not be taken in. Raises PlaitError."""
    return _recorded(places, session, run, f"refs/plait/{session.id}/{run}")


def record_again(places: Places, session: Session) -> e.Snapshotted | None:
    """A further snapshot, beside the earlier ones, if the worktree has changed since the last. Raises PlaitError."""
    last = session.snapshot
    if last is None or not os.path.lexists(session.spec.worktree):
        return None
    verify(session)
    shadows = shadow_of(places, session)
    with shadows.temporary() as scratch:
        now = trees.snapshot(shadows, worktree_of(session), "", scratch=scratch, leave_out=shared(session))
    if (now.tree, now.parent) == (last.tree, reads.parent(shadows, last.commit)):
        return None
    return _recorded(places, session, last.run, f"refs/plait/{session.id}/{last.run}.{session.seq}")[0]


def _recorded(places: Places, session: Session, run: int, ref: str) -> tuple[e.Snapshotted, tuple[str, ...]]:
    verify(session)
    shadows = shadow_of(places, session)
    worktree = worktree_of(session)
    taken = _snapshot(shadows, session, worktree, ref)
    commit = taken.commit or taken.parent
    added, removed, files = _counted(shadows, session.spec.base, taken.tree)
    commits = reads.commits_since(shadows, session.spec.base, taken.parent)
    event = e.Snapshotted(
        run=run, tree=taken.tree, commit=commit, ref=ref, files=files, added=added, removed=removed, commits=commits
    )
    return event, tuple(f"Not in the snapshot: {problem}" for problem in taken.problems)


@contextlib.contextmanager
def peeked(places: Places, session: Session) -> Iterator[tuple[Shadow, str, Path]]:
    """The tree of the session's worktree as it is now, in a directory of objects that is gone afterwards."""
    verify(session)
    shadows = shadow_of(places, session)
    with shadows.temporary() as scratch:
        taken = trees.snapshot(shadows, worktree_of(session), "", scratch=scratch, leave_out=shared(session))
        yield shadows, taken.tree, scratch


def release(places: Places, session: Session) -> bool:
    """Remove a worktree and branch that hold nothing beyond the base; false if they hold anything at all.

    Can be repeated after a kill: the directory gets another name before it is looked at for the last time, and a
    third once it was seen to hold nothing.
    """
    worktree = worktree_of(session)
    shadows = shadow_of(places, session)
    place = trash_of(places, session)
    leaving, empty = (place.with_name(f"{place.name}.{name}") for name in ("leaving", "empty"))
    if os.path.lexists(leaving) and not os.path.lexists(worktree.path):
        leaving.rename(worktree.path)
    if os.path.lexists(worktree.path):
        if worktree.path.is_symlink() or not worktree.path.is_dir():
            return False
        if not _holds_only_base(shadows, session, worktree):
            return False
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        worktree.path.rename(leaving)
        # Whoever wrote into it while it was looked at finds it where it was.
        if not reads.holds_only(shadows, replace(worktree, path=leaving), session.spec.base):
            leaving.rename(worktree.path)
            return False
        leaving.rename(empty)
    remove_tree(empty)
    with contextlib.suppress(OSError):
        place.parent.rmdir()
    forget(shadows, worktree)
    delete_branch(shadows, worktree.branch, session.spec.base)
    _drop_snapshots(shadows, session, only_empty=True)
    return True


def unfinished(places: Places, session: Session) -> Path | None:
    """The record of a worktree whose making was cut off, completed now; none if nothing of it is there.

    Raises PlaitError.
    """
    if not Path(session.spec.repo.common_dir).is_dir():
        return None
    worktree = recover(shadow_of(places, session), _intent(session))
    return worktree.admin if worktree else None


def discard(places: Places, session: Session) -> tuple[e.Event, ...]:
    """Move the session's worktree to the trash, with a snapshot of it taken first; what happened, as events."""
    if session.prepared is None:
        return (e.Trashed(place=None),)
    worktree = worktree_of(session)
    if not os.path.lexists(worktree.path):
        moved = _in_trash(trash_of(places, session))
        if moved is not None:
            # We were killed between moving it and writing that down.
            return (e.Trashed(place=os.fspath(moved)),)
        return (e.Noted(text=f"The worktree {worktree.path} was gone already."), e.Trashed(place=None))
    if not Path(session.spec.repo.common_dir).is_dir():
        return _discard_without_repository(places, session, worktree)
    events: list[e.Event] = []
    try:
        shadows = shadow_of(places, session)
        if session.live_run is None and session.state not in ("queued", "starting"):
            events += _last_snapshot(shadows, session, worktree)
        place = trash.trash(shadows, worktree, trash_of(places, session)).path
    except PlaitError as error:
        return (*events, e.TrashFailed(why=f"It could not be moved to the trash: {error}"))
    return (*events, e.Trashed(place=os.fspath(place)))


def restore(places: Places, session: Session) -> None:
    """Move the session's worktree from the trash back to its place. Raises PlaitError, changing nothing.

    Can be repeated after a kill.
    """
    if session.trash_place is None:
        return
    worktree = worktree_of(session)
    trashed = trash.Trashed(Path(session.trash_place), worktree)
    if os.path.lexists(trashed.path) or not _is_back(worktree):
        trash.restore(shadow_of(places, session), trashed)


def purge(places: Places, session: Session) -> None:
    """Delete a trashed worktree and its branch for good, as the user asked. Raises PlaitError."""
    if session.trash_place is None or session.prepared is None:
        return
    if not Path(session.spec.repo.common_dir).is_dir():
        remove_tree(Path(session.trash_place))
        return
    shadows = shadow_of(places, session)
    worktree = worktree_of(session)
    tip = reads.branch_tip(shadows, worktree.branch)
    trash.purge(shadows, trash.Trashed(Path(session.trash_place), worktree), branch_tip=tip)
    _drop_snapshots(shadows, session)


def _in_trash(place: Path) -> Path | None:
    """The worktree in a session's own place in the trash."""
    try:
        found = sorted(path for path in place.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return None
    return found[0] if found else None


def _is_back(worktree: Worktree) -> bool:
    try:
        return (worktree.path / ".git").read_text() == f"gitdir: {worktree.admin}\n"
    except (OSError, ValueError):
        return False


def _discard_without_repository(places: Places, session: Session, worktree: Worktree) -> tuple[e.Event, ...]:
    """Without its repository a worktree is a directory like any other, whose files are kept as they are."""
    try:
        home = private_directory(private_directory(places.state / "repos") / session.spec.repo.key)
        moved = trash.trash(Shadow(repo_of(session), home), worktree, trash_of(places, session))
    except PlaitError as error:
        return (e.TrashFailed(why=f"It could not be moved to the trash: {error}"),)
    note = e.Noted(text=f"The repository {session.spec.repo.common_dir} is gone, so that no snapshot could be taken.")
    return (note, e.Trashed(place=os.fspath(moved.path)))


def settle(places: Places, session: Session) -> bool:
    """Complete or undo an interrupted change of a branch; whether the branch now has the session's work."""
    asked = session.finishing
    assert asked is not None
    return recover_finish(shadow_of(places, session), FinishIntent(asked.into, asked.previous, asked.commit))


def trash_of(places: Places, session: Session) -> Path:
    """Where the session's worktree goes when it is discarded: on the same file system, so that a rename is enough."""
    worktree = Path(session.spec.worktree)
    if worktree.is_relative_to(places.data):
        return places.data / "trash" / session.id
    return worktree.parent / ".plait-trash" / session.id


def repo_of(session: Session) -> Repo:
    """The session's repository, as it was when the session was created."""
    known = session.spec.repo
    return Repo(Path(known.common_dir), Path(known.git_dir), Path(known.top) if known.top else None)


def shadow_of(places: Places, session: Session) -> Shadow:
    """Plait's own git directory for the session's repository. Raises GitError if the repository is gone."""
    found = repo_of(session)
    if not found.common_dir.is_dir():
        raise GitError(f"The repository {found.common_dir} is gone.", "Put it back, or trash this session.")
    return shadow.shadow(found, places.state)


def worktree_of(session: Session) -> Worktree:
    """The session's worktree where it was made; what its own `.git` file says now is not asked."""
    if session.prepared is None:
        raise PlaitError("The session has no worktree.", "Resume it to make one.")
    return Worktree(Path(session.spec.worktree), Path(session.prepared.admin), session.spec.branch)


def base_of(session: Session) -> str:
    """The commit that the session's changes are counted from."""
    return session.spec.base


def _dialect(session: Session) -> Dialect:
    """The dialect of the session's set-up; Plait's own for one that only a newer version knows."""
    return next((known for known in get_args(Dialect) if known == session.spec.setup.dialect), "plait")


def _bring(shadows: Shadow, session: Session, worktree: Worktree) -> list[str]:
    """Copy what the repository asks for from the user's checkout; sentences about what was left out."""
    setup = session.spec.setup
    top = session.spec.repo.top
    if top is None:
        return []
    notes: list[str] = []
    if setup.include:
        ignored = reads.ignored(shadows, Path(top))
        brought = bring_ignored(Path(top), worktree.path, setup.include, ignored)
        notes += [f"{path} was not brought along: {reason}." for path, reason in brought.skipped]
    if setup.symlinks:
        linked = symlink_dirs(Path(top), worktree.path, setup.symlinks)
        notes += [f"{path} was not linked: {reason}." for path, reason in linked.skipped]
        notes += [linked.note] if linked.note else []
    return notes


def _snapshot(shadows: Shadow, session: Session, worktree: Worktree, ref: str) -> trees.Snapshot:
    message = f"{session.spec.task.title}\n\nSnapshot of plait session {session.id}"
    expected = reads.ref_value(shadows, ref)
    try:
        taken = trees.snapshot(shadows, worktree, message, ref=ref, expected=expected, leave_out=shared(session))
    except GitError as error:
        if _is_full(str(error)):
            raise StorageError(error.message, "Free some space; Plait tries again.") from error
        raise
    full = next((problem for problem in taken.problems if _is_full(problem)), None)
    if full is not None:
        raise StorageError(f"A snapshot of {worktree.path} would lack files: {full}.", "Free some space.")
    return taken


def _is_full(words: str) -> bool:
    return "No space left" in words or "Disk quota" in words


def shared(session: Session) -> tuple[str, ...]:
    """Paths that are links to the user's checkout and no work of the agent's."""
    return tuple(path for path in session.spec.setup.symlinks if (Path(session.spec.worktree) / path).is_symlink())


def _last_snapshot(shadows: Shadow, session: Session, worktree: Worktree) -> list[e.Event]:
    """A snapshot before the trash, if the worktree changed since the last one."""
    ref = f"refs/plait/{session.id}/trash"
    try:
        taken = _snapshot(shadows, session, worktree, ref)
    except StorageError:
        raise
    except GitError as error:
        return [e.Noted(text=f"No snapshot could be taken before it was trashed; the trash keeps all of it. {error}")]
    if session.snapshot is None or taken.tree == session.snapshot.tree or taken.commit is None:
        return []
    added, removed, files = _counted(shadows, session.spec.base, taken.tree)
    return [
        session.snapshot.model_copy(
            update={
                "tree": taken.tree,
                "commit": taken.commit,
                "ref": ref,
                "files": files,
                "added": added,
                "removed": removed,
            }
        )
    ]


def _counted(shadows: Shadow, base: str, tree: str) -> tuple[int, int, int]:
    """Lines added, lines removed, files."""
    counted = reads.lines_changed(shadows, base, tree)
    return sum(added for added, _ in counted), sum(removed for _, removed in counted), len(counted)


def _holds_only_base(shadows: Shadow, session: Session, worktree: Worktree) -> bool:
    if head(shadows, worktree) != session.spec.base or reads.branch_tip(shadows, worktree.branch) != session.spec.base:
        return False
    return reads.holds_only(shadows, worktree, session.spec.base)


def _drop_snapshots(shadows: Shadow, session: Session, only_empty: bool = False) -> None:
    """Let go of the session's snapshots, or of those alone that hold nothing beyond the base."""
    for ref, commit in reads.refs_below(shadows, f"refs/plait/{session.id}/"):
        if not only_empty or _is_empty(shadows, session, commit):
            trees.drop_ref(shadows, ref, commit)


def _is_empty(shadows: Shadow, session: Session, commit: str) -> bool:
    base = session.spec.base
    return reads.parent(shadows, commit) == base and trees.tree_of(shadows, commit) == trees.tree_of(shadows, base)


def _intent(session: Session) -> Intent:
    spec = session.spec
    return Intent(Path(spec.worktree), spec.branch, spec.base, f"plait {session.id}")
