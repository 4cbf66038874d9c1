"""How two commits merge, tried without touching a checkout, an index or the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.core.conflicts import Collision
from plait.errors import GitError
from plait.git.run import Result, failure, version
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


def collisions(
    shadow: Shadow, pairs: Sequence[tuple[str, str]], scratch: Path
) -> list[tuple[Collision, ...] | GitError]:
    """What each pair of commits collides in, in the order of the pairs; nothing if it merges cleanly.

    The commits may lie in `scratch`, which the merged trees go to. A pair that git cannot merge at all, such as one of
    unrelated histories, has its error.
    """
    if not pairs:
        return []
    # One process for all pairs costs a fraction of one for each; git before 2.39 has no such way.
    if version() >= (2, 39) and len(pairs) > 1:
        given = "".join(f"{ours} {theirs}\n" for ours, theirs in pairs).encode()
        args = ["merge-tree", "--write-tree", "--stdin", "--name-only", "--messages"]
        done = shadow.run(*args, scratch=scratch, stdin=given, check=False, writes=True, timeout_s=900.0)
        # A pair that cannot be merged ends the process: then each is asked about alone.
        if done.status == 0:
            return _several(done, pairs)
    return [_alone(shadow, ours, theirs, scratch) for ours, theirs in pairs]


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


def _alone(shadow: Shadow, ours: str, theirs: str, scratch: Path) -> tuple[Collision, ...] | GitError:
    args = ["merge-tree", "--write-tree", "-z", "--name-only", "--messages"]
    try:
        done = shadow.run(*args, "--end-of-options", ours, theirs, scratch=scratch, check=False, writes=True)
        if done.status not in (0, 1):
            return failure(args, done)
    except GitError as error:
        return error
    fields = iter(done.fields[1:])
    return tuple(_sections(fields, ours, theirs)) if done.status == 1 else ()


def _several(done: Result, pairs: Sequence[tuple[str, str]]) -> list[tuple[Collision, ...] | GitError]:
    # Of each merge "1" (clean) or "0" and the tree, then two sections.
    fields = iter(done.fields)
    found: list[tuple[Collision, ...] | GitError] = []
    for ours, theirs in pairs:
        clean = next(fields, None)
        if clean not in ("0", "1"):
            raise GitError(f"git answered {len(found)} merges of {len(pairs)}.", "Another version of git may help.")
        next(fields)
        sections = tuple(_sections(fields, ours, theirs))
        found.append(() if clean == "1" else sections)
    return found


def _sections(fields: Iterator[str], ours: str, theirs: str) -> Iterator[Collision]:
    """The collisions of one merge: the paths up to an empty field, then the messages up to another.

    A message is a number of paths, the paths, its type and its words.
    """
    for path in fields:
        if not path:
            break
    for number in fields:
        if not number:
            break
        # Where two things want one name, git calls the one of a side `name~side`.
        named = [re.sub(f"~({ours}|{theirs})(_[0-9]+)?$", "", next(fields)) for _ in range(int(number))]
        kind = next(fields)
        next(fields)
        if kind.startswith("CONFLICT ("):
            yield Collision(kind.removeprefix("CONFLICT (").removesuffix(")"), tuple(dict.fromkeys(named)))
