"""Which paths of a worktree may differ from a base commit, and what git makes of some of its paths.

All of it is asked of git with an index of ours: what an agent does to its own index hides nothing here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from plait.git.run import decoded, encoded, failure
from plait.git.shadow import Shadow
from plait.git.trees import RawChange, changes, entries, write_tree
from plait.git.worktrees import Worktree, head

_GITLINK = "160000"
_AT_ONCE = 400
"""Paths that are given to one git process as arguments."""

_ALL = 4000
"""Paths from which on it is quicker to ask for all that a commit has."""

_EMPTY = {40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904"}
_EMPTY_SHA256 = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"
_NOT_LITERAL = {"GIT_LITERAL_PATHSPECS": "0"}
_CONVERTING = ("filter", "ident", "working-tree-encoding")


@dataclass(frozen=True)
class Standing:
    """How a worktree stands against a base commit."""

    head: str
    """The commit that the worktree's HEAD is at."""
    paths: frozenset[str]
    """The files that may differ from the base; no other does."""
    tracked: Mapping[str, bool]
    """Of the files in which HEAD differs from the base: whether HEAD has them."""
    composite: bool
    """Whether there are repositories inside, or only a part of the tree is there: then file by file is not enough."""


def standing(shadow: Shadow, worktree: Worktree, base: str, index: Path) -> Standing:
    """Look at the whole worktree; `index` is a file of the caller's that makes the next look quick.

    Raises GitError.
    """
    at = head(shadow, worktree)
    if not index.exists():
        _seed(shadow, worktree, at, index)
    else:
        shadow.run("read-tree", "--reset", "--end-of-options", at, index=index)
    found = _looked_at(shadow, worktree, base, at, index)
    if any(path.rpartition("/")[2] == ".gitattributes" for path in found.paths):
        # Files that nobody touched may be stored otherwise now, which their times do not tell.
        index.unlink()
        shadow.run("read-tree", "--end-of-options", at, index=index)
        found = _looked_at(shadow, worktree, base, at, index)
    return found


def _looked_at(shadow: Shadow, worktree: Worktree, base: str, at: str, index: Path) -> Standing:
    sparse = shadow.sparse or (worktree.admin / "info" / "sparse-checkout").exists()
    links = _without_gitlinks(shadow, index)
    if not sparse:
        _show_hidden(shadow, index)
    place = worktree.path
    shadow.run("update-index", "-q", "--really-refresh", work_tree=place, index=index, check=False, timeout_s=600.0)
    edited = shadow.run("diff-files", "--name-only", "-z", work_tree=place, index=index, timeout_s=600.0).fields
    args = ["ls-files", "-z", "--others", "--exclude-standard"]
    others = shadow.run(*args, work_tree=place, index=index, timeout_s=600.0).fields
    tracked: dict[str, bool] = {}
    for change in [] if at == base else changes(shadow, base, at):
        tracked[change.old_path] = change.kind not in ("D", "R")
        tracked[change.path] = change.kind != "D"
    composite = links or sparse or any(path.endswith("/") for path in others)
    return Standing(at, frozenset((*edited, *others, *tracked)), tracked, composite)


def ignored_directories(shadow: Shadow, worktree: Worktree) -> list[str]:
    """The directories of the worktree that git ignores as a whole. Raises GitError."""
    with shadow.temporary() as place:
        index = place / "index"
        shadow.run("read-tree", "--end-of-options", head(shadow, worktree), index=index)
        args = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"]
        found = shadow.run(*args, work_tree=worktree.path, index=index).fields
    return [path.removesuffix("/") for path in found if path.endswith("/")]


def entries_at(shadow: Shadow, commit: str, paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Mode and blob of what a commit has at the paths, and below those that are directories."""
    wanted = sorted(paths)
    if len(wanted) > _ALL:
        return entries(shadow, commit)
    found: dict[str, tuple[str, str]] = {}
    for some in _portions(wanted):
        args = ["ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit, "--", *some]
        for entry in shadow.run(*args).fields:
            meta, path = entry.split("\t", 1)
            mode, _, blob = meta.split(" ")
            found[path] = (mode, blob)
    return found


def ignored(shadow: Shadow, worktree: Worktree, paths: Iterable[str]) -> set[str]:
    """Those of the paths that git ignores if it does not track them. None may lie behind a link. Raises GitError."""
    # Behind "./" no name is taken for one with a meaning; that every name is literal, this command refuses to hear.
    given = _given(f"./{path}" for path in paths)
    if not given:
        return set()
    args = ["check-ignore", "-z", "--stdin", "--no-index"]
    said = shadow.run(*args, work_tree=worktree.path, stdin=given, check=False, environment=_NOT_LITERAL)
    if said.status not in (0, 1):
        raise failure(args, said)
    return {path.removeprefix("./") for path in said.fields}


def converting(shadow: Shadow, worktree: Worktree, paths: Iterable[str]) -> set[str]:
    """Those of the paths whose content git changes when it takes them in, whatever it is."""
    given = _given(paths)
    if not given:
        return set()
    said = shadow.run("check-attr", "-z", "--stdin", *_CONVERTING, work_tree=worktree.path, stdin=given).fields
    return {
        path
        for path, value in zip(said[::3], said[2::3], strict=True)
        if value not in ("unspecified", "unset", "false")
    }


def taken_in(
    shadow: Shadow, worktree: Worktree, commit: str, paths: Iterable[str], scratch: Path
) -> dict[str, tuple[str, str]]:
    """Mode and blob of files as `git add` on top of the commit would store them; objects go to `scratch`."""
    wanted = sorted(paths)
    if not wanted:
        return {}
    before = entries_at(shadow, commit, wanted)
    with shadow.temporary() as place:
        index = place / "index"
        shadow.run("read-tree", "--empty", index=index)
        known = "".join(f"{mode} {blob}\t{path}\0" for path, (mode, blob) in before.items() if path in set(wanted))
        shadow.run("update-index", "-z", "--index-info", index=index, stdin=encoded(known), scratch=scratch)
        shadow.run(
            "update-index", "-z", "--add", "--remove", "--stdin",
            work_tree=worktree.path, index=index, scratch=scratch, stdin=_given(wanted), check=False, writes=True,
        )  # fmt: skip
        listing = shadow.run("ls-files", "-s", "-z", index=index).fields
    found = {}
    for entry in listing:
        meta, path = entry.split("\t", 1)
        mode, blob, _ = meta.split(" ")
        found[path] = (mode, blob)
    return found


def renamed(
    shadow: Shadow,
    base: str,
    gone: Mapping[str, tuple[str, bytes] | None],
    new: Mapping[str, tuple[str, bytes] | None],
    scratch: Path,
) -> list[RawChange]:
    """The renames that git sees between files that are gone and new ones, each with mode and content."""
    empty = _EMPTY.get(len(base), _EMPTY_SHA256)
    before = write_tree(shadow, empty, gone, scratch=scratch)
    after = write_tree(shadow, empty, new, scratch=scratch)
    return [change for change in changes(shadow, before, after, scratch=scratch) if change.kind == "R"]


def head_token(shadow: Shadow, worktree: Worktree) -> tuple[bytes, bytes] | None:
    """Something that is another whenever HEAD may be at another commit, read without git; none if git must be asked."""
    try:
        said = (worktree.admin / "HEAD").read_bytes()
        name = decoded(said).removeprefix("ref: ").strip()
        if not said.startswith(b"ref: "):
            return said, b""
        if ".." in name or not name.startswith("refs/heads/") or name == "refs/heads/.invalid":
            return None
        return said, (shadow.repo.common_dir / name).read_bytes()
    except (OSError, ValueError):
        return None


def _seed(shadow: Shadow, worktree: Worktree, commit: str, index: Path) -> None:
    """An index of the commit that knows what the worktree's own knows of the files' times, if that can be read."""
    with suppress(OSError):
        theirs = worktree.admin / "index"
        if theirs.is_file() and not theirs.is_symlink():
            shutil.copyfile(theirs, index)
            if shadow.run("read-tree", "--reset", "--end-of-options", commit, index=index, check=False).status == 0:
                return
    index.unlink(missing_ok=True)
    shadow.run("read-tree", "--end-of-options", commit, index=index)


def _without_gitlinks(shadow: Shadow, index: Path) -> bool:
    """Take repositories inside out of the index, since git would run in them; whether there were any."""
    listing = shadow.run("ls-files", "-s", "-z", index=index).fields
    links = [entry.split("\t", 1)[1] for entry in listing if entry.startswith(_GITLINK)]
    if links:
        shadow.run("update-index", "-z", "--force-remove", "--stdin", index=index, stdin=_given(links))
    return bool(links)


def _show_hidden(shadow: Shadow, index: Path) -> None:
    """Drop the marks by which an index hides edits from git."""
    hidden = [field[2:] for field in shadow.run("ls-files", "-t", "-z", index=index).fields if field.startswith("S ")]
    if hidden:
        shadow.run("update-index", "-z", "--no-skip-worktree", "--stdin", index=index, stdin=_given(hidden))


def _portions(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(paths), _AT_ONCE):
        yield paths[first : first + _AT_ONCE]


def _given(paths: Iterable[str]) -> bytes:
    return b"".join(encoded(path) + b"\0" for path in paths)
