"""How the user's own checkout follows its branch to another commit, and when it must not.

This is the one place of the package that changes files of the user's. It replaces files that are as git
last wrote them, and no others: not an edited one, not an untracked one, not an ignored one.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from plait.errors import ConflictError, GitError
from plait.git.run import encoded, git
from plait.git.shadow import Shadow
from plait.git.trees import RawChange, changes, smudged, tree_of

_UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or am",
}


def refuse_unless_movable(shadow: Shadow, old: str, new: str, scratch: Path) -> None:
    """Raise unless the user's checkout is clean at `old` and nothing lies where `new` puts files; reads
    only.

    `scratch` holds the objects of `new`. Raises ConflictError naming the files in the way, GitError for an
    operation under way.
    """
    _refuse_under_way(shadow)
    changed = sorted({*_staged(shadow, old), *_edited(shadow)})
    if changed:
        raise _in_the_way(
            "Your checkout has changes that are not committed", changed, "Commit them, then finish again."
        )
    blocked = _blocked(_top(shadow), changes(shadow, old, new, scratch=scratch))
    if blocked:
        raise _in_the_way("Files that git does not track are in the way", blocked, "Move them away, then finish again.")


def advance(shadow: Shadow, ref: str, old: str, new: str, *, lock: int, with_checkout: bool) -> None:
    """Move the branch from `old` to `new`, and before it the user's files and index, if they are on it.

    Raises GitError if the branch moved meanwhile; the files are as before then.
    """
    if with_checkout:
        _switch(shadow, old, new, lock)
    try:
        _move_ref(shadow, ref, old, new, lock)
    except GitError:
        if with_checkout:
            _switch(shadow, new, old, lock)
        raise


def settle(shadow: Shadow, ref: str, old: str, new: str, *, lock: int) -> bool:
    """Complete an `advance` that was killed, or take it back; returns whether the branch is at `new` now.

    The branch is still at `old`. Raises GitError, changing nothing, if a file that it touched holds
    something else by now.
    """
    _refuse_under_way(shadow)
    if not _staged(shadow, new) and _staged(shadow, old):
        _move_ref(shadow, ref, old, new, lock)
        return True
    touched = changes(shadow, old, new)
    foreign = _foreign(shadow, touched, old, new)
    if foreign:
        raise _in_the_way(
            "A merge was interrupted and files changed since", foreign, "Look at them: git diff; then finish again."
        )
    _take_back(shadow, touched, old, lock)
    return False


def _switch(shadow: Shadow, old: str, new: str, lock: int) -> None:
    # `read-tree` takes a file that was only touched for an edited one, unless the index is told that it is the same.
    shadow.run(
        "update-index", "-q", "--refresh", "--ignore-submodules",
        work_tree=_top(shadow), index=_index(shadow), check=False, writes=True, keep_open=[lock],
    )  # fmt: skip
    shadow.run(
        "read-tree", "-m", "-u", "--end-of-options", old, new,
        work_tree=_top(shadow), index=_index(shadow), writes=True, timeout_s=1800.0, keep_open=[lock],
    )  # fmt: skip


def _move_ref(shadow: Shadow, ref: str, old: str, new: str, lock: int) -> None:
    repo = shadow.repo
    args = ["update-ref", "-m", "plait: finish", "--end-of-options", ref, new, old]
    git(args, cwd=repo.common_dir, git_dir=repo.git_dir, writes=True, keep_open=[lock])


def _refuse_under_way(shadow: Shadow) -> None:
    git_dir = shadow.repo.git_dir
    for name, what in _UNDER_WAY.items():
        if (git_dir / name).exists():
            raise GitError(f"Your checkout is in the middle of {what}.", "Complete or abort it, then finish again.")
    lock = git_dir / "index.lock"
    if lock.exists():
        raise GitError(
            f"Another git process holds {lock}.", "If none is running any more, remove that file and try again."
        )
    if any(git_dir.glob("sharedindex.*")):
        raise GitError(
            "Your checkout uses a split index, which Plait cannot update.", "Run: git update-index --no-split-index"
        )


def _staged(shadow: Shadow, commit: str) -> list[str]:
    args = [
        "diff-index",
        "--cached",
        "-z",
        "--name-only",
        "--no-renames",
        "--ignore-submodules=dirty",
        "--end-of-options",
        commit,
    ]
    return shadow.run(*args, index=_index(shadow)).fields


def _edited(shadow: Shadow) -> list[str]:
    # Refreshing writes an index, so that it is done to a copy. Flags that hide edits are of no matter:
    # `read-tree` ignores them.
    with shadow.temporary() as place:
        index = place / "index"
        if not _index(shadow).exists():
            return []
        shutil.copyfile(_index(shadow), index)
        top = _top(shadow)
        shadow.run(
            "update-index",
            "-q",
            "--refresh",
            "--ignore-submodules",
            work_tree=top,
            index=index,
            check=False,
            writes=True,
        )
        return shadow.run(
            "diff-files", "-z", "--name-only", "--ignore-submodules=all", work_tree=top, index=index
        ).fields


def _blocked(top: Path, touched: Sequence[RawChange]) -> list[str]:
    leaving = {one.old_path for one in touched if one.kind in ("D", "R")}
    blocked = set()
    for path in (one.path for one in touched if one.kind in ("A", "R")):
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            there = _lstat(top / part)
            if there is None:
                break
            directory = stat.S_ISDIR(there)
            if directory and depth < len(parts):
                continue
            if part not in leaving and not (directory and _only(top, part, leaving)):
                blocked.add(part)
            break
    return sorted(blocked)


def _only(top: Path, directory: str, leaving: set[str]) -> bool:
    for place, _, files in os.walk(top / directory):
        inside = Path(place).relative_to(top)
        if any((inside / name).as_posix() not in leaving for name in files):
            return False
    return True


def _foreign(shadow: Shadow, touched: Sequence[RawChange], old: str, new: str) -> list[str]:
    before = smudged(shadow, tree_of(shadow, old), [one.old_path for one in touched if one.kind != "A"])
    after = smudged(shadow, tree_of(shadow, new), [one.path for one in touched if one.kind != "D"])
    top = _top(shadow)
    foreign = []
    for path in sorted(before.keys() | after.keys()):
        now = _now(top / path)
        # The kill may have come in the middle of a file, or between removing the old and writing the new.
        known = now is None or now == before.get(path) or (path in after and after[path].startswith(now))
        if not known:
            foreign.append(path)
    return foreign


def _take_back(shadow: Shadow, touched: Sequence[RawChange], old: str, lock: int) -> None:
    top = _top(shadow)
    for path in {one.path for one in touched if one.kind in ("A", "R")}:
        (top / path).unlink(missing_ok=True)
    with shadow.temporary() as place:
        index = place / "index"
        shadow.run("read-tree", "--end-of-options", old, index=index)
        given = b"".join(encoded(one.old_path) + b"\0" for one in touched if one.kind != "A")
        shadow.run(
            "checkout-index", "-f", "-z", "--stdin",
            work_tree=top, index=index, stdin=given, writes=True, timeout_s=600.0, keep_open=[lock],
        )  # fmt: skip


def _now(path: Path) -> bytes | None:
    mode = _lstat(path)
    if mode is None:
        return None
    if stat.S_ISLNK(mode):
        return os.fsencode(path.readlink())
    return path.read_bytes() if stat.S_ISREG(mode) else b""


def _lstat(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except OSError:
        return None


def _in_the_way(what: str, files: Sequence[str], hint: str) -> ConflictError:
    names = ", ".join(files[:5]) + (", …" if len(files) > 5 else "")
    return ConflictError(f"{what}: {names}.", hint, {"files": list(files)})


def _top(shadow: Shadow) -> Path:
    assert shadow.repo.top is not None, "a bare repository has no checkout"
    return shadow.repo.top


def _index(shadow: Shadow) -> Path:
    return shadow.repo.git_dir / "index"
