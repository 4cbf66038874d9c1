"""How two commits merge, tried without touching a checkout, an index or the repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.git.run import failure
from plait.git.shadow import Shadow


@dataclass(frozen=True)
class Merged:
    """What a three-way merge gives: a tree, or the paths that collide."""

    tree: str | None
    """The merged tree, which exists only where the caller let it be written; None if the sides collide."""
    conflicts: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return self.tree is not None


def merge_trees(
    shadow: Shadow, ours: str, theirs: str, *, scratch: Path | None = None, also: Sequence[Path] = ()
) -> Merged:
    """Merge two commits and say whether and where they collide.

    New objects go to `scratch`, or are thrown away. `also` names scratch directories that hold one of the
    commits. Raises GitError if git cannot merge them at all, such as for unrelated histories.
    """
    if scratch is None:
        with shadow.temporary() as place:
            return _merge(shadow, ours, theirs, place, also)
    return _merge(shadow, ours, theirs, scratch, also)


def merge_base(shadow: Shadow, one: str, other: str, *, also: Sequence[Path] = ()) -> str | None:
    """The commit where two histories parted; None if they have nothing in common."""
    found = shadow.run("merge-base", "--end-of-options", one, other, also=also, check=False)
    if found.status not in (0, 1):
        raise failure(["merge-base"], found)
    return found.text or None


def is_ancestor(shadow: Shadow, one: str, other: str, *, also: Sequence[Path] = ()) -> bool:
    """Whether `other` has all of `one`'s history, itself included."""
    found = shadow.run("merge-base", "--is-ancestor", "--end-of-options", one, other, also=also, check=False)
    if found.status not in (0, 1):
        raise failure(["merge-base"], found)
    return found.status == 0


def _merge(shadow: Shadow, ours: str, theirs: str, scratch: Path, also: Sequence[Path]) -> Merged:
    args = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages"]
    done = shadow.run(*args, "--end-of-options", ours, theirs, scratch=scratch, also=also, check=False, writes=True)
    if done.status not in (0, 1):
        raise failure(args, done)
    tree, *paths = done.fields
    return Merged(tree, ()) if done.status == 0 else Merged(None, tuple(sorted(set(paths) - {""})))
