"""What a worktree holds at a moment, as a tree in the repository, and how two trees differ.

Nothing here obeys the repository's configuration, reads the agent's index, or enters a nested repository.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plait.errors import GitError
from plait.git.run import decoded, encoded, failure
from plait.git.shadow import Shadow
from plait.git.worktrees import Worktree, head

_IDENTITY = ("plait", "plait@localhost")
_GITLINK = "160000"
LARGEST_BLOB = 16 * 1024 * 1024


@dataclass(frozen=True)
class Snapshot:
    """A worktree's content at a moment, uncommitted and untracked work included, ignored files not."""

    tree: str
    commit: str | None
    """The commit that keeps the tree; None if it went to a scratch directory."""
    parent: str
    """The commit that the worktree's HEAD was at."""
    problems: tuple[str, ...] = ()
    """What git could not take in, in its words: an unreadable file, a nested repository without a
    commit."""


@dataclass(frozen=True)
class RawChange:
    """One path that differs between two trees; modes are octal, an absent side has mode 000000 and a blob
    of zeros."""

    kind: Literal["A", "D", "M", "T", "R"]
    old_path: str
    path: str
    old_mode: str
    mode: str
    old_blob: str
    blob: str


def snapshot(
    shadow: Shadow,
    worktree: Worktree,
    message: str,
    *,
    ref: str | None = None,
    expected: str | None = None,
    scratch: Path | None = None,
    leave_out: Sequence[str] = (),
) -> Snapshot:
    """What the worktree holds now, but for the paths in `leave_out`.

    With `ref` (below refs/plait/), a commit on top of the worktree's HEAD keeps the tree: the ref moves
    from `expected` (None: it must be new). With `scratch` instead, objects go to that directory, no commit
    is made, and the repository stays as it was. Raises GitError if git fails or the ref moved meanwhile.
    """
    assert (ref is None) != (scratch is None), "a snapshot is kept by a ref, or lies in a scratch directory"
    parent = head(shadow, worktree)
    with shadow.temporary() as place:
        index = place / "index"
        gitlinks = _without_gitlinks(shadow, parent, index)
        added = shadow.run(
            "add", "-A", "--sparse", "--ignore-errors", "--", ".", *(f":(exclude,literal){path}" for path in leave_out),
            work_tree=worktree.path, index=index, scratch=scratch, check=False, writes=True, timeout_s=600.0,
            environment={"GIT_LITERAL_PATHSPECS": "0"},  # else what is left out would be looked for by its whole word
        )  # fmt: skip
        if added.status not in (0, 1):
            raise failure(["add"], added)
        _put_back(shadow, worktree, parent, index, gitlinks)
        tree = shadow.run("write-tree", index=index, scratch=scratch, writes=True).text
    problems = tuple(line.strip() for line in added.err.splitlines() if line.startswith("error: "))
    if ref is None:
        return Snapshot(tree, None, parent, problems)
    assert ref.startswith("refs/plait/"), ref
    made = commit(shadow, tree, [parent], message)
    keep(shadow, ref, made, expected)
    return Snapshot(tree, made, parent, problems)


def commit(
    shadow: Shadow,
    tree: str,
    parents: Sequence[str],
    message: str | bytes,
    *,
    author: tuple[str, str] = _IDENTITY,
    author_date: str | None = None,
    committer: tuple[str, str] = _IDENTITY,
    scratch: Path | None = None,
    also: Sequence[Path] = (),
) -> str:
    """A new commit, which no ref holds yet; `author_date` is in git's raw form, such as "1700000000
    +0100"."""
    now = f"{int(time.time())} +0000"
    who = {
        "GIT_AUTHOR_NAME": author[0],
        "GIT_AUTHOR_EMAIL": author[1],
        "GIT_AUTHOR_DATE": author_date or now,
        "GIT_COMMITTER_NAME": committer[0],
        "GIT_COMMITTER_EMAIL": committer[1],
        "GIT_COMMITTER_DATE": now,
    }
    args = ["commit-tree", *(part for parent in parents for part in ("-p", parent)), "-F", "-", tree]
    words = encoded(message) if isinstance(message, str) else message
    return shadow.run(*args, stdin=words, environment=who, scratch=scratch, also=also, writes=True).text


def keep(shadow: Shadow, ref: str, made: str, expected: str | None = None) -> None:
    """Let `ref` of the repository hold the commit `made`; it must be at `expected`, or not exist if that is
    None."""
    before = expected or "0" * len(made)
    with shadow.writer():
        shadow.repo.run("update-ref", "-m", "plait", "--end-of-options", ref, made, before, writes=True)


def drop_ref(shadow: Shadow, ref: str, expected: str) -> bool:
    """Let go of a ref of ours if it is still at `expected`; returns whether it was."""
    assert ref.startswith("refs/plait/"), ref
    with shadow.writer():
        return (
            shadow.repo.run("update-ref", "-d", "--end-of-options", ref, expected, check=False, writes=True).status == 0
        )


def tree_of(shadow: Shadow, commit_id: str, *, also: Sequence[Path] = ()) -> str:
    """The tree of a commit."""
    return shadow.run("rev-parse", "--verify", "--end-of-options", f"{commit_id}^{{tree}}", also=also).text


def changes(shadow: Shadow, base: str, tree: str, *, scratch: Path | None = None) -> list[RawChange]:
    """The paths in which `tree` differs from `base` (trees or commits), renames found by likeness."""
    args = ["diff-tree", "-r", "-z", "--raw", "--no-abbrev", "-M", "--no-ext-diff", "--no-textconv"]
    fields = iter(shadow.run(*args, "--end-of-options", base, tree, also=_given(scratch)).fields)
    found = []
    for meta in fields:
        old_mode, mode, old_blob, blob, status = meta.removeprefix(":").split(" ")
        old_path = next(fields)
        path = next(fields) if status[0] == "R" else old_path
        found.append(RawChange(_kind(status), old_path, path, old_mode, mode, old_blob, blob))
    return found


def sizes(shadow: Shadow, ids: Iterable[str], *, scratch: Path | None = None) -> dict[str, int]:
    """The size in bytes of each blob."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    said = shadow.run("cat-file", "--batch-check", also=_given(scratch), stdin=_lines(wanted))
    return {name: int(_answered(line.split(" "))[2]) for name, line in zip(wanted, said.text.split("\n"), strict=True)}


def blobs(
    shadow: Shadow, ids: Iterable[str], *, largest: int = LARGEST_BLOB, scratch: Path | None = None
) -> dict[str, bytes]:
    """The contents of the blobs as stored; those of more than `largest` bytes are left out."""
    wanted = [name for name, size in sizes(shadow, ids, scratch=scratch).items() if size <= largest]
    if not wanted:
        return {}
    out = shadow.run("cat-file", "--batch", also=_given(scratch), stdin=_lines(wanted)).out
    contents = {}
    at = 0
    for name in wanted:
        end = out.index(b"\n", at)
        size = int(_answered(decoded(out[at:end]).split(" "))[2])
        contents[name] = out[end + 1 : end + 1 + size]
        at = end + 1 + size + 1
    return contents


def entries(shadow: Shadow, tree: str, *, scratch: Path | None = None) -> dict[str, tuple[str, str]]:
    """Mode and blob of every path in a tree."""
    fields = shadow.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", tree, also=_given(scratch)).fields
    found = {}
    for field in fields:
        meta, path = field.split("\t", 1)
        mode, _, blob = meta.split(" ")
        found[path] = (mode, blob)
    return found


def smudged(shadow: Shadow, tree: str, paths: Iterable[str], *, scratch: Path | None = None) -> dict[str, bytes]:
    """The contents of `paths` of a tree as a checkout writes them: line endings and trusted filters
    applied; a link's target."""
    wanted = sorted(set(paths))
    if not wanted:
        return {}
    with shadow.temporary() as place:
        index, out = place / "index", place / "out"
        out.mkdir()
        also = _given(scratch)
        shadow.run("read-tree", "--end-of-options", tree, index=index, also=also)
        given = b"".join(encoded(path) + b"\0" for path in wanted)
        shadow.run(
            "checkout-index", "-z", "--stdin", work_tree=out, index=index, also=also, stdin=given, timeout_s=600.0
        )
        return {path: _on_disk(out / os.fsdecode(encoded(path))) for path in wanted}


def write_tree(
    shadow: Shadow, tree: str, replacements: Mapping[str, tuple[str, bytes] | None], *, scratch: Path | None = None
) -> str:
    """`tree` with some paths replaced by (mode, content) or, for None, removed; contents are stored as they
    are, that of a submodule is the id of its commit.

    Raises GitError for a path that git does not allow in a tree.
    """
    with shadow.temporary() as place:
        index = place / "index"
        shadow.run("read-tree", "--end-of-options", tree, index=index, scratch=scratch)
        files = {path: entry for path, entry in replacements.items() if entry and entry[0] != _GITLINK}
        written = _store(shadow, [content for _, content in files.values()], place, scratch)
        gone = [f"0 {'0' * len(tree)}\t{path}\0" for path, entry in replacements.items() if entry is None]
        new = [f"{mode} {blob}\t{path}\0" for (path, (mode, _)), blob in zip(files.items(), written, strict=True)]
        links = {path: entry[1] for path, entry in replacements.items() if entry and entry[0] == _GITLINK}
        new += [f"{_GITLINK} {decoded(commit_id)}\t{path}\0" for path, commit_id in links.items()]
        _update_index(shadow, index, [*gone, *new], scratch)
        return shadow.run("write-tree", index=index, scratch=scratch, writes=True).text


def _without_gitlinks(shadow: Shadow, parent: str, index: Path) -> dict[str, str]:
    # `add` starts `git status` inside every nested repository that the index knows, and that obeys the
    # configuration of the nested one. As an untracked directory it is only looked at.
    shadow.run("read-tree", "--end-of-options", parent, index=index)
    listing = shadow.run("ls-files", "-s", "-z", index=index).fields
    gitlinks = {}
    for entry in listing:
        if entry.startswith(_GITLINK):
            meta, path = entry.split("\t", 1)
            gitlinks[path] = meta.split(" ")[1]
    if gitlinks:
        _update_index(shadow, index, [f"0 {'0' * len(blob)}\t{path}\0" for path, blob in gitlinks.items()], None)
    return gitlinks


def _put_back(shadow: Shadow, worktree: Worktree, parent: str, index: Path, gitlinks: Mapping[str, str]) -> None:
    # A submodule that was never filled in is an empty directory; a path outside a sparse checkout is
    # absent. Neither was deleted.
    back = []
    if gitlinks:
        present = set(shadow.run("ls-files", "-z", index=index).fields)
        empty = [path for path in gitlinks if path not in present and _is_empty(worktree.path / path)]
        back += [f"{_GITLINK} {gitlinks[path]}\t{path}\0" for path in empty]
    if shadow.sparse or (worktree.admin / "info" / "sparse-checkout").exists():
        back += _left_out(shadow, worktree, parent, index)
    if back:
        _update_index(shadow, index, back, None)


def _left_out(shadow: Shadow, worktree: Worktree, parent: str, index: Path) -> list[str]:
    args = [
        "diff-index",
        "--cached",
        "-z",
        "--no-renames",
        "--diff-filter=D",
        "--no-abbrev",
        "--end-of-options",
        parent,
    ]
    fields = shadow.run(*args, index=index).fields
    gone = dict(zip(fields[1::2], fields[::2], strict=True))
    flags = shadow.run("ls-files", "-t", "-z", index=worktree.admin / "index").fields
    skipped = {flag[2:] for flag in flags if flag.startswith("S ")}
    back = []
    for path in gone.keys() & skipped:
        mode, _, blob, _, _ = gone[path].removeprefix(":").split(" ")
        back.append(f"{mode} {blob}\t{path}\0")
    return back


def _store(shadow: Shadow, contents: Sequence[bytes], place: Path, scratch: Path | None) -> list[str]:
    if not contents:
        return []
    names = []
    for number, content in enumerate(contents):
        file = place / f"blob{number}"
        file.write_bytes(content)
        names.append(os.fspath(file))
    given = os.fsencode("\n".join(names) + "\n")
    said = shadow.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=given, scratch=scratch, writes=True)
    return said.text.splitlines()


def _update_index(shadow: Shadow, index: Path, lines: Sequence[str], scratch: Path | None) -> None:
    given = encoded("".join(lines))
    args = ["update-index", "--add", "--replace", "-z", "--index-info"]
    done = shadow.run(*args, index=index, stdin=given, scratch=scratch, writes=True, check=False)
    if done.status != 0 or "Ignoring path" in done.err:
        raise failure(args, done)


def _on_disk(path: Path) -> bytes:
    if path.is_symlink():
        return os.fsencode(path.readlink())
    # A nested repository is checked out as an empty directory.
    return b"" if path.is_dir() else path.read_bytes()


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _given(scratch: Path | None) -> Sequence[Path]:
    return () if scratch is None else (scratch,)


def _lines(ids: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in ids).encode("ascii", "replace")


def _answered(header: Sequence[str]) -> Sequence[str]:
    if len(header) != 3:
        raise GitError(
            f"The repository lacks the object {header[0]}.",
            "A gc with --prune=now may have removed it, or the clone is partial: `git fsck` tells more.",
        )
    return header


def _kind(status: str) -> Literal["A", "D", "M", "T", "R"]:
    letter = status[0]
    assert letter in "ADMTR", status
    return letter  # type: ignore[return-value]  # the line above says so; mypy does not narrow a str by `in`
