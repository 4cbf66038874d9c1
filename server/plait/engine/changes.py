"""What a session changed, read from git and taken apart into hunks, within bounds of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plait.core.changes import Content, FileChange, file_change
from plait.core.sessions import Session
from plait.engine.worktrees import base_of, peeked, shadow_of
from plait.git import trees
from plait.git.shadow import Shadow
from plait.paths import Places

LARGEST = 64 << 20
"""Bytes above which a file is not read for review: it can only be merged."""

LARGEST_ALL = 256 << 20
"""Bytes of all contents of one session that are read for review; what is largest is left to a merge."""


@dataclass(frozen=True)
class Changes:
    """What a session changed, file by file, and what could not be read."""

    tree: str
    """Empty while the session runs: then its files are in no tree yet."""
    files: tuple[FileChange, ...]
    problems: tuple[str, ...] = ()


def recorded(places: Places, session: Session, tree: str) -> Changes:
    """What lies between the session's base and a tree of the repository. Blocking; raises PlaitError."""
    shadow = shadow_of(places, session)
    return _changes(shadow, session, tree, None)


def peek(places: Places, session: Session) -> Changes:
    """What lies between the session's base and its worktree as it is now. Blocking; raises PlaitError."""
    with peeked(places, session) as (shadow, tree, scratch):
        return _changes(shadow, session, tree, scratch)


def _changes(shadow: Shadow, session: Session, tree: str, scratch: Path | None) -> Changes:
    raw = trees.changes(shadow, base_of(session), tree, scratch=scratch)
    wanted = [blob for change in raw for mode, blob in _sides(change) if mode not in ("000000", "160000")]
    wanted = affordable(trees.sizes(shadow, wanted, scratch=scratch))
    contents = trees.blobs(shadow, wanted, largest=LARGEST, scratch=scratch)
    files: list[FileChange] = []
    problems: list[str] = []
    for change in raw:
        sides = [_side(mode, blob, contents) for mode, blob in _sides(change)]
        if "missing" in sides:
            problems.append(f"{change.path} is too large to be reviewed here; merge the session to take it.")
            continue
        base, agent = (side if isinstance(side, Content) else None for side in sides)
        files.append(file_change(change.path, change.old_path if change.kind == "R" else None, base, agent))
    return Changes(tree, tuple(sorted(files, key=lambda file: file.path)), tuple(problems))


def affordable(sizes: Mapping[str, int]) -> list[str]:
    """The blobs that together are not too much to be held in memory; the smallest go first."""
    chosen: list[str] = []
    total = 0
    for blob in sorted(sizes, key=lambda blob: sizes[blob]):
        total += sizes[blob]
        if total > LARGEST_ALL:
            break
        chosen.append(blob)
    return chosen


def weight(changes: Changes) -> int:
    """About how many bytes of memory the changes take: a row is an object of its own."""
    sides = (side for file in changes.files for side in (file.base, file.agent) if side is not None)
    rows = (row for file in changes.files for hunk in file.hunks for row in (*hunk.removed, *hunk.added))
    return sum(len(side.data) for side in sides) + sum(len(row) + 48 for row in rows) + 1024 * (1 + len(changes.files))


def entries(contents: Mapping[str, Content | None]) -> dict[str, tuple[str, bytes] | None]:
    """The contents in the form in which git takes them into a tree."""
    return {path: (f"{it.mode:06o}", it.data) if it else None for path, it in contents.items()}


def _sides(change: trees.RawChange) -> tuple[tuple[str, str], tuple[str, str]]:
    return (change.old_mode, change.old_blob), (change.mode, change.blob)


def _side(mode: str, blob: str, contents: dict[str, bytes]) -> Content | str | None:
    if mode == "000000":
        return None
    if mode == "160000":
        return Content(blob.encode(), 0o160000)
    return Content(contents[blob], int(mode, 8)) if blob in contents else "missing"
