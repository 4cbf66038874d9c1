"""What an agent did to one file: the two contents and the hunks between them, as values.

Lines are bytes that end in ``\\n`` (the last may lack it), exactly as git counts them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from plait.core.diff import edits
from plait.core.lines import split

Kind = Literal["replace", "insert", "delete", "create", "remove", "rename", "mode", "binary", "symlink", "submodule"]

REGULAR: Final = 0o100644
EXECUTABLE: Final = 0o100755
SYMLINK: Final = 0o120000
SUBMODULE: Final = 0o160000

LINE_KINDS: Final[frozenset[Kind]] = frozenset({"replace", "insert", "delete"})
"""The kinds that have a place in the text; every other kind is about the file as a whole."""

CONTENT_KINDS: Final[frozenset[Kind]] = frozenset({"create", "remove", "binary", "symlink", "submodule"})
"""The kinds that exchange a file's whole content; no other hunk but a rename or a mode is beside one."""

SIZE_LIMIT: Final = 1_500_000
"""Bytes above which a file is exchanged as a whole: no editor shows inline hunks in such a text at ease."""

_CONTEXT: Final = 3
_BINARY_PROBE: Final = 8000


@dataclass(frozen=True)
class Content:
    """A file as git knows it.

    For a symlink `data` is its target, for a submodule the id of its commit in hexadecimal.
    """

    data: bytes
    mode: int = REGULAR


@dataclass(frozen=True)
class Hunk:
    """One thing to accept or to reject.

    The removed lines are ``[start, start + len(removed))`` of the base and the added ones begin at
    `new_start` of the agent's text, both counted from 0; a hunk about the whole file has 0 for both.
    `target` and `escapes` speak of a symlink that the hunk would create: where it points, and whether that
    is outside the tree (or inside `.git`).
    """

    id: str
    kind: Kind
    path: str
    start: int
    removed: tuple[bytes, ...]
    added: tuple[bytes, ...]
    new_start: int
    target: str | None = None
    escapes: bool = False


@dataclass(frozen=True)
class FileChange:
    """One file between a session's base and its latest tree.

    `old_path` is set only for a rename. `binary` says that the content has no lines to show.
    """

    path: str
    old_path: str | None
    base: Content | None
    agent: Content | None
    hunks: tuple[Hunk, ...]
    binary: bool = False


def file_change(
    path: str,
    old_path: str | None,
    base: Content | None,
    agent: Content | None,
    *,
    size_limit: int = SIZE_LIMIT,
) -> FileChange:
    """The change from `base` to `agent`, taken apart into hunks.

    A side that is None does not exist. Sizes are in bytes.
    """
    renamed_from = old_path if old_path != path and base is not None and agent is not None else None
    plain = [side for side in (base, agent) if side is not None and side.mode not in (SYMLINK, SUBMODULE)]
    binary = any(is_binary(side.data, size_limit) for side in plain)
    hunks: list[Hunk] = []
    if renamed_from is not None:
        names = (renamed_from.encode("utf-8", "surrogateescape"), path.encode("utf-8", "surrogateescape"))
        hunks.append(_whole("rename", path, names[:1], names[1:]))
    if base is None or agent is None or _type_of(base) != _type_of(agent) or _type_of(base) != REGULAR:
        hunks += _exchange(path, base, agent, binary)
    else:
        if base.mode != agent.mode:
            hunks.append(_whole("mode", path, (b"%o" % base.mode,), (b"%o" % agent.mode,)))
        if binary and base.data != agent.data:
            hunks.append(_whole("binary", path, (base.data,), (agent.data,)))
        elif not binary:
            hunks += _line_hunks(path, split(base.data), split(agent.data))
    return FileChange(path, renamed_from, base, agent, tuple(hunks), binary)


def is_binary(data: bytes, size_limit: int = SIZE_LIMIT) -> bool:
    """Whether the content is exchanged as a whole: a NUL near its beginning (git's own rule), or too large."""
    return len(data) > size_limit or b"\0" in data[:_BINARY_PROBE]


def stats(change: FileChange) -> tuple[int, int]:
    """The number of lines added and removed; a binary file, a link and a submodule count none."""
    if change.binary:
        return 0, 0
    counted = [h for h in change.hunks if h.kind in LINE_KINDS or h.kind in ("create", "remove")]
    return sum(len(h.added) for h in counted), sum(len(h.removed) for h in counted)


def link_escapes(path: str, target: bytes) -> bool:
    """Whether a symlink at `path` of the tree could lead out of the tree or into `.git`.

    A `..` behind a name is taken as leading out: what that name is decides where the link ends.
    """
    if not target or target.startswith(b"/") or b"\0" in target:
        return True
    depth = path.count("/")
    named = False
    for part in target.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if named or depth == 0:
                return True
            depth -= 1
        else:
            named = True
            if part.lower().startswith((b".git", b"git~")):
                return True
    return False


def swapped(change: FileChange) -> FileChange:
    """The change backwards: from the agent's content to the base, under the same hunk ids."""
    if change.old_path is None:
        path, old_path = change.path, None
    else:
        path, old_path = change.old_path, change.path
    hunks = tuple(
        replace(
            h,
            kind=_BACKWARDS.get(h.kind, h.kind),
            path=path,
            start=h.new_start,
            new_start=h.start,
            removed=h.added,
            added=h.removed,
        )
        for h in change.hunks
    )
    return FileChange(path, old_path, change.agent, change.base, hunks, change.binary)


_BACKWARDS: Final[dict[Kind, Kind]] = {
    "insert": "delete",
    "delete": "insert",
    "create": "remove",
    "remove": "create",
}


def _type_of(content: Content) -> int:
    """The file's type, without the executable bit."""
    return REGULAR if content.mode in (REGULAR, EXECUTABLE) else content.mode


def _exchange(path: str, base: Content | None, agent: Content | None, binary: bool) -> list[Hunk]:
    """The one hunk that stands for a file which appears, vanishes, or is a link or a submodule on a side."""
    if base == agent:
        return []
    sides = [side for side in (base, agent) if side is not None]
    removed = _rows(base, binary)
    added = _rows(agent, binary)
    if any(side.mode == SUBMODULE for side in sides):
        return [_whole("submodule", path, removed, added, base, agent)]
    if any(side.mode == SYMLINK for side in sides):
        hunk = _whole("symlink", path, removed, added, base, agent)
        if agent is not None and agent.mode == SYMLINK:
            target = agent.data.decode("utf-8", "surrogateescape")
            hunk = replace(hunk, target=target, escapes=link_escapes(path, agent.data))
        return [hunk]
    return [_whole("create" if base is None else "remove", path, removed, added, base, agent)]


def _rows(content: Content | None, binary: bool) -> tuple[bytes, ...]:
    if content is None:
        return ()
    if binary or content.mode in (SYMLINK, SUBMODULE):
        return (content.data,)
    return tuple(split(content.data))


def _whole(
    kind: Kind,
    path: str,
    removed: tuple[bytes, ...],
    added: tuple[bytes, ...],
    base: Content | None = None,
    agent: Content | None = None,
) -> Hunk:
    modes = b"%o %o" % (base.mode if base else 0, agent.mode if agent else 0)
    return Hunk(_identity(path, kind, removed, added, (modes,), (), 0), kind, path, 0, removed, added, 0)


def _line_hunks(path: str, base: list[bytes], agent: list[bytes]) -> list[Hunk]:
    occurrences = _Occurrences(base)
    hunks = []
    for edit in edits(base, agent):
        removed, added = tuple(base[edit.a1 : edit.a2]), tuple(agent[edit.b1 : edit.b2])
        kind: Kind = "insert" if not removed else "delete" if not added else "replace"
        first, last = max(0, edit.a1 - _CONTEXT), min(len(base), edit.a2 + _CONTEXT)
        before, after = tuple(base[first : edit.a1]), tuple(base[edit.a2 : last])
        # Counted among the equal places of the base, not among the hunks, so that a hunk keeps its id when
        # the agent adds or drops a hunk of the same text elsewhere in the file.
        ordinal = occurrences.before(first, last)
        identity = _identity(path, kind, removed, added, before, after, ordinal)
        hunks.append(Hunk(identity, kind, path, edit.a1, removed, added, edit.b1))
    return hunks


class _Occurrences:
    """Where windows of a text occur in it, looked up through their rarest line."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self._rows: dict[bytes, list[int]] = {}
        self._found: dict[tuple[bytes, ...], list[int]] = {}

    def before(self, first: int, last: int) -> int:
        """How many windows equal to the lines [first, last) begin before `first`."""
        if first == last:
            return 0
        if not self._rows:
            for row, line in enumerate(self._lines):
                self._rows.setdefault(line, []).append(row)
        window = tuple(self._lines[first:last])
        found = self._found.get(window)
        if found is None:
            offset = min(range(len(window)), key=lambda i: len(self._rows[window[i]]))
            starts = [row - offset for row in self._rows[window[offset]]]
            found = [s for s in starts if s >= 0 and tuple(self._lines[s : s + len(window)]) == window]
            self._found[window] = found
        return bisect_left(found, first)


def _identity(
    path: str,
    kind: Kind,
    removed: Sequence[bytes],
    added: Sequence[bytes],
    before: Sequence[bytes],
    after: Sequence[bytes],
    ordinal: int,
) -> str:
    """16 hexadecimal digits over everything that makes the hunk what it is."""
    digest = hashlib.sha256()
    for rows in ((path.encode("utf-8", "surrogateescape"), kind.encode()), removed, added, before, after):
        digest.update(b"%d;" % len(rows))
        for row in rows:
            digest.update(b"%d:" % len(row))
            digest.update(row)
    digest.update(b"%d" % ordinal)
    return digest.hexdigest()[:16]
