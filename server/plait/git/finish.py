"""How a session's reviewed work becomes part of a branch: as a merge, as one commit, or commit by commit.

All is computed in a scratch directory first, so that a collision changes nothing. Then the objects go to
the repository, the user's files move if the branch is the one checked out there, and last the branch moves,
if it is still where it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plait.errors import ConflictError, GitError, NothingToDo, UsageError
from plait.git.checkout import advance, refuse_unless_movable, settle
from plait.git.merges import is_ancestor, merge_trees
from plait.git.repo import branch_ref
from plait.git.run import decoded, encoded
from plait.git.shadow import Shadow
from plait.git.trees import commit, tree_of
from plait.git.worktrees import listed

How = Literal["merge", "squash", "rebase"]


@dataclass(frozen=True)
class Finished:
    """Where the branch is now, and where it was."""

    commit: str
    previous: str


@dataclass(frozen=True)
class FinishIntent:
    """A move of a branch that is about to happen; the caller may write it down through `journal`, for
    `recover_finish`."""

    into: str
    previous: str
    commit: str


@dataclass(frozen=True)
class _Desk:
    """Where a finish is worked out: everything new lands in the scratch directory."""

    shadow: Shadow
    scratch: Path
    who: tuple[str, str]

    def commit(self, tree: str, parents: Sequence[str], message: str | bytes) -> str:
        return commit(self.shadow, tree, parents, message, author=self.who, committer=self.who, scratch=self.scratch)

    def tree(self, name: str) -> str:
        return tree_of(self.shadow, name, also=[self.scratch])


def finish(
    shadow: Shadow,
    *,
    into: str,
    how: How,
    work: str,
    tree: str,
    message: str,
    identity: tuple[str, str],
    journal: Callable[[FinishIntent], None] | None = None,
) -> Finished:
    """Bring `tree`, the reviewed state of the commit `work`, into the branch `into`.

    Where the tree differs from that of `work`, a commit by `identity` with `message` is put on top. Hooks
    do not run. Raises ConflictError naming the files that collide, NothingToDo if the branch has it all,
    GitError if the branch is checked out in another worktree, moved meanwhile, or the user's checkout is
    not ready for it. Nothing has changed in any of these cases.
    """
    ref = branch_ref(into)
    target = _tip(shadow, into, ref)
    if into_is_elsewhere := _checked_out_elsewhere(shadow, into):
        raise GitError(
            f"The branch {into} is checked out in the worktree {into_is_elsewhere}.",
            "Finish there, or switch that worktree to another branch.",
        )
    with shadow.temporary() as scratch:
        desk = _Desk(shadow, scratch, identity)
        final = work if desk.tree(work) == tree else desk.commit(tree, [work], message)
        if is_ancestor(shadow, final, target, also=[scratch]):
            raise NothingToDo(f"The branch {into} already has all of this work.")
        result = _BUILD[how](desk, target, final, message)
        if how != "merge" and desk.tree(result) == desk.tree(target):
            raise NothingToDo(f"The branch {into} already has all of this work.")
        with shadow.writer() as lock:
            here = _here(shadow, into)
            if here:
                refuse_unless_movable(shadow, target, result, scratch)
            _bring(shadow, scratch, result, [target, work])
            if journal:
                journal(FinishIntent(into, target, result))
            advance(shadow, ref, target, result, lock=lock, with_checkout=here)
    return Finished(result, target)


def recover_finish(shadow: Shadow, intent: FinishIntent) -> bool:
    """Finish a move that a kill interrupted, or take it back; returns whether the branch has the work now.

    Raises GitError, changing nothing, if the user has edited one of the files since, or a lock file of
    git's is left.
    """
    ref = branch_ref(intent.into)
    with shadow.writer() as lock:
        now = _tip(shadow, intent.into, ref)
        if now != intent.previous:
            return is_ancestor(shadow, intent.commit, now)
        if not _here(shadow, intent.into):
            return False
        return settle(shadow, ref, intent.previous, intent.commit, lock=lock)


def _merged(desk: _Desk, target: str, final: str, message: str) -> str:
    if is_ancestor(desk.shadow, target, final, also=[desk.scratch]):
        return final
    return desk.commit(_merge(desk, target, final), [target, final], message)


def _squashed(desk: _Desk, target: str, final: str, message: str) -> str:
    ahead = is_ancestor(desk.shadow, target, final, also=[desk.scratch])
    return desk.commit(desk.tree(final) if ahead else _merge(desk, target, final), [target], message)


def _rebased(desk: _Desk, target: str, final: str, message: str) -> str:
    args = ["rev-list", "--reverse", "--topo-order", "--parents", "--end-of-options", final, f"^{target}"]
    whole = merge_trees(desk.shadow, target, final, scratch=desk.scratch)
    if whole.tree == desk.tree(target):
        # The commits one by one could collide with what already holds all of them.
        return target
    onto = target
    for line in desk.shadow.run(*args, also=[desk.scratch]).text.splitlines():
        name, *parents = line.split(" ")
        if len(parents) > 1:
            raise UsageError(
                f"The work holds the merge {name[:10]}, which cannot be replayed commit by commit.",
                "Use merge or squash instead.",
            )
        onto = _replayed(desk, onto, name, parents)
    return onto


_BUILD = {"merge": _merged, "squash": _squashed, "rebase": _rebased}


def _replayed(desk: _Desk, onto: str, name: str, parents: Sequence[str]) -> str:
    if [onto] == parents:
        return name
    before = desk.tree(parents[0]) if parents else _empty_tree(desk)
    here, after = desk.tree(onto), desk.tree(name)
    if here == before:
        tree = after
    else:
        # git finds the base of a merge by history. This history says what a replay means: what the commit
        # did to its parent.
        base = desk.commit(before, [], "base")
        tree = _merge(desk, desk.commit(here, [base], "ours"), desk.commit(after, [base], "theirs"))
    if tree == here:
        return onto
    author, date, message = _authorship(desk, name)
    return commit(
        desk.shadow, tree, [onto], message,
        author=author, author_date=date, committer=desk.who, scratch=desk.scratch,
    )  # fmt: skip


def _authorship(desk: _Desk, name: str) -> tuple[tuple[str, str], str, bytes]:
    raw = desk.shadow.run("cat-file", "commit", name, also=[desk.scratch]).out
    headers, _, message = raw.partition(b"\n\n")
    coding = re.search(rb"^encoding (.+)$", headers, re.MULTILINE)
    if coding:
        headers, message = (_recoded(part, coding[1].decode("ascii", "replace")) for part in (headers, message))
    author = re.search(rb"^author (.*) ?<(.*)> (\d+ [+-]\d+)$", headers, re.MULTILINE)
    if author is None:
        raise GitError(f"The commit {name} has no readable author.", "Use squash instead.")
    who = (decoded(author[1]).strip() or "unknown", decoded(author[2]))
    return who, author[3].decode(), message


def _recoded(text: bytes, coding: str) -> bytes:
    try:
        return encoded(text.decode(coding))
    except (LookupError, UnicodeDecodeError):
        return text


def _merge(desk: _Desk, ours: str, theirs: str) -> str:
    found = merge_trees(desk.shadow, ours, theirs, scratch=desk.scratch)
    if found.tree is None:
        names = ", ".join(found.conflicts[:5]) + (", …" if len(found.conflicts) > 5 else "")
        raise ConflictError(
            f"The work and the branch changed the same lines{': ' + names if names else ''}.",
            "Bring the branch into the session's worktree, or ask its agent to resolve it, and finish again.",
            {"files": list(found.conflicts)},
        )
    return found.tree


def _empty_tree(desk: _Desk) -> str:
    return desk.shadow.run("mktree", scratch=desk.scratch, writes=True).text


def _bring(shadow: Shadow, scratch: Path, result: str, known: Sequence[str]) -> None:
    wanted = "".join([f"{result}\n", *(f"^{name}\n" for name in known)]).encode()
    pack = shadow.run("pack-objects", "--revs", "--stdout", "-q", also=[scratch], stdin=wanted, timeout_s=600.0).out
    shadow.run("unpack-objects", "-q", stdin=pack, writes=True, timeout_s=600.0)


def _tip(shadow: Shadow, into: str, ref: str) -> str:
    found = shadow.repo.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", check=False)
    if found.status != 0 or not found.text:
        raise UsageError(f"There is no branch {into} to merge into.", "`git branch` lists the branches.")
    return found.text


def _checked_out_elsewhere(shadow: Shadow, into: str) -> Path | None:
    for one in listed(shadow.repo):
        if one.branch == into and not one.bare and one.path.resolve() != shadow.repo.top:
            return one.path
    return None


def _here(shadow: Shadow, into: str) -> bool:
    return any(
        one.branch == into and one.path.resolve() == shadow.repo.top for one in listed(shadow.repo) if not one.bare
    )
