"""What accepting, reverting or leaving out hunks makes of a file: decided here, performed elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from plait.core.alignment import Placed
from plait.core.changes import CONTENT_KINDS, EXECUTABLE, LINE_KINDS, REGULAR, Content, FileChange, swapped
from plait.core.diff import Edit, patched
from plait.core.lines import split
from plait.core.locate import UserFile, locate, seat


@dataclass(frozen=True)
class Write:
    """The file at `path` shall have this content and mode; it is created if it is missing."""

    path: str
    content: Content


@dataclass(frozen=True)
class Delete:
    """The file at `path` shall be gone."""

    path: str


@dataclass(frozen=True)
class Rename:
    """The file at `old` shall be at `new`, where there is none now."""

    old: str
    new: str


@dataclass(frozen=True)
class Chmod:
    """The file at `path` shall have the executable bit that `mode` has."""

    path: str
    mode: int


FileOperation = Write | Delete | Rename | Chmod


@dataclass(frozen=True)
class TextEdit:
    """Rows [start, end) of the text, counted before any edit, become `rows`."""

    start: int
    end: int
    rows: tuple[bytes, ...]


@dataclass(frozen=True)
class Outcome:
    """What accepting comes to.

    `operations` in their order bring the files on disk from the user's state to `user`. If the file is open
    in an editor, its line hunks are `edits` at `path` instead of the `Write` of that path: one undoable
    step. `expected` is what the operations were computed from, by path, to be compared again before they
    are performed. `accepted` were done now, `already` were done before, `refused` cannot be done and say
    why.
    """

    user: UserFile
    operations: tuple[FileOperation, ...]
    path: str
    edits: tuple[TextEdit, ...]
    accepted: tuple[str, ...]
    already: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    expected: dict[str, Content | None]


def accept(
    change: FileChange,
    user: UserFile,
    ids: frozenset[str] | None = None,
    accepted: frozenset[str] = frozenset(),
) -> Outcome:
    """Puts the hunks `ids` (all, if None) into what the user has.

    `accepted` is the ledger's hint, as in `locate`. A hunk that conflicts is refused; the others are done
    all the same.
    """
    placed = locate(change, user, accepted)
    wanted = [row for row in placed if ids is None or row.hunk.id in ids]
    chosen = [row for row in wanted if row.state == "pending"]
    refused = [(row.hunk.id, row.reason) for row in wanted if row.state == "conflicting"]
    unknown = sorted((ids or frozenset()) - {row.hunk.id for row in placed})
    refused += [(name, "The agent has changed this hunk since, or there is no such hunk.") for name in unknown]
    path, operations, edits, after = _performed(change, user, chosen)
    expected = {change.path: user.at_new}
    if change.old_path is not None:
        expected[change.old_path] = user.at_old
    return Outcome(
        user=after,
        operations=operations,
        path=path,
        edits=edits,
        accepted=tuple(row.hunk.id for row in chosen),
        already=tuple(row.hunk.id for row in wanted if row.state == "applied"),
        refused=tuple(refused),
        expected=expected,
    )


def revert(
    change: FileChange,
    user: UserFile,
    ids: frozenset[str] | None = None,
    accepted: frozenset[str] = frozenset(),
) -> Outcome:
    """Takes the applied hunks `ids` (all, if None) out of what the user has: accepting, with the sides swapped."""
    outstanding = frozenset(hunk.id for hunk in change.hunks) - accepted
    outcome = accept(swapped(change), _turned(change, user), ids, outstanding)
    return replace(outcome, user=_turned(change, outcome.user))


def without(change: FileChange, rejected: Iterable[str]) -> Content | None:
    """The agent's content without the rejected hunks; None if the file does not exist then.

    It lies at the path that `path_without` gives.
    """
    left_out = frozenset(rejected)
    taken = [hunk for hunk in change.hunks if hunk.id not in left_out]
    for hunk in change.hunks:
        if hunk.kind in CONTENT_KINDS and hunk.kind != "binary":
            return change.agent if hunk in taken else change.base
    if change.base is None or change.agent is None:
        return change.agent
    mode, data = change.base.mode, change.base.data
    if any(hunk.kind == "mode" for hunk in taken):
        mode = change.agent.mode
    if any(hunk.kind == "binary" for hunk in taken):
        data = change.agent.data
    lines = [hunk for hunk in taken if hunk.kind in LINE_KINDS]
    edits = [TextEdit(hunk.start, hunk.start + len(hunk.removed), hunk.added) for hunk in lines]
    return Content(b"".join(edited(split(data), edits)), mode) if edits else Content(data, mode)


def path_without(change: FileChange, rejected: Iterable[str]) -> str:
    """Where the content that `without` gives lies: at the old path if the rename is rejected."""
    left_out = frozenset(rejected)
    if change.old_path is not None and any(h.kind == "rename" and h.id in left_out for h in change.hunks):
        return change.old_path
    return change.path


def taken_back(changes: Iterable[FileChange], rejected: Collection[str]) -> dict[str, Content | None]:
    """What differs from the agent's tree when the rejected hunks are left out of it: a path that is None is gone."""
    found: dict[str, Content | None] = {}
    for change in changes:
        left_out = {hunk.id for hunk in change.hunks} & frozenset(rejected)
        if not left_out:
            continue
        found[change.path] = None
        content = without(change, left_out)
        if content is not None:
            found[path_without(change, left_out)] = content
        elif change.old_path is not None:
            found[change.old_path] = None
    return found


def edited(rows: Sequence[bytes], edits: Sequence[TextEdit]) -> list[bytes]:
    """The rows after the edits, which are in order and do not overlap."""
    new = [row for edit in edits for row in edit.rows]
    script: list[Edit] = []
    at = 0
    for edit in edits:
        script.append(Edit(edit.start, edit.end, at, at + len(edit.rows)))
        at += len(edit.rows)
    return patched(rows, new, script)


def _turned(change: FileChange, user: UserFile) -> UserFile:
    return user if change.old_path is None else UserFile(user.at_new, user.at_old)


def _performed(
    change: FileChange, user: UserFile, chosen: Sequence[Placed]
) -> tuple[str, tuple[FileOperation, ...], tuple[TextEdit, ...], UserFile]:
    """The path, the operations, the edits of an open buffer and the state after them."""
    path, content = seat(change, user)
    operations: list[FileOperation] = []
    if change.old_path is not None and any(row.hunk.kind == "rename" for row in chosen):
        operations.append(Rename(change.old_path, change.path))
        path = change.path
    after = content
    if any(row.hunk.kind in CONTENT_KINDS for row in chosen):
        after = change.agent
        if content is not None and after is not None and any(r.hunk.kind == "binary" for r in chosen):
            after = replace(after, mode=content.mode)
    edits = tuple(TextEdit(row.start, row.end, row.added) for row in chosen if row.hunk.kind in LINE_KINDS)
    if edits and after is not None:
        after = replace(after, data=b"".join(edited(split(after.data), edits)))
    if after is not None and change.agent is not None and any(row.hunk.kind == "mode" for row in chosen):
        after = replace(after, mode=change.agent.mode)
    operations += _operations(path, content, after)
    return path, tuple(operations), edits, _state(change, user, path, after)


def _operations(path: str, before: Content | None, after: Content | None) -> list[FileOperation]:
    if before == after:
        return []
    if after is None:
        return [Delete(path)]
    modes = {REGULAR, EXECUTABLE}
    if before is not None and before.data == after.data and {before.mode, after.mode} == modes:
        return [Chmod(path, after.mode)]
    return [Write(path, after)]


def _state(change: FileChange, user: UserFile, path: str, after: Content | None) -> UserFile:
    if change.old_path is None:
        return UserFile(after, after)
    if path == change.old_path:
        return UserFile(after, user.at_new)
    return UserFile(None, after)
