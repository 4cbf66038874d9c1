"""The review of one session as a document for editors with little UI: a diff in which the user writes comments.

A line of the diff begins with a blank, `+`, `-`, `\\` or `@`, so that lines that begin with `#` can only be the user's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plait.core.alignment import Placed
from plait.core.changes import LINE_KINDS, FileChange, Hunk
from plait.core.comments import shown
from plait.core.lines import split
from plait.core.unified import quoted

CONTEXT: Final = 3

ROWS: Final = 2000
"""Rows of one hunk that are shown."""

WIDEST: Final = 2000
"""Characters of a row that are shown."""

_HEADER: Final = re.compile(r"@@ -\d+,\d+ \+\d+,\d+ @@ ([0-9a-f]{16}) ")
_END: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Entry:
    """One hunk of the document, with the user's comments below it."""

    change: FileChange
    row: Placed
    state: str
    """In a word, if it is not just waiting."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """Where a hunk stands in the document: lines [start, end), from 0, and the comments that are written there."""

    hunk: str
    start: int
    end: int
    notes: tuple[str, ...]


def page(title: str, agent: str, session: str, entries: Sequence[Entry]) -> str:
    """The whole document; it says the same whenever it is made from the same."""
    lines = [
        f"# Review of “{shown(title)}” by {shown(agent)}",
        "#",
        "# The code actions on a hunk accept or reject it. To comment on it, write lines below it that begin with",
        '# "# ", and save: lines that follow each other are one comment. Delete them and save to take it back.',
        f"# Comments go to the agent when you say so, by a code action or by `plait send {session}`.",
        "# Whatever else is written here is forgotten when the document is made anew.",
    ]
    if not entries:
        lines += ["#", "# Nothing waits for you here."]
    change = None
    for entry in entries:
        if entry.change is not change:
            change = entry.change
            lines += ["", *_file(change)]
        lines += _hunk(entry)
    return "\n".join(lines) + "\n"


def sections(text: str) -> list[Section]:
    """The hunks of a document as the user has left it, in their order; whatever is not understood is passed over."""
    found: list[Section] = []
    hunk, start, notes, block = "", 0, list[str](), list[str]()
    lines = _END.split(text)
    for number, line in enumerate([*lines, "diff --git "]):
        header = _HEADER.match(line)
        if line.startswith("#") and hunk:
            block.append(line.removeprefix("#").removeprefix(" ").rstrip())
            continue
        if block:
            notes.append("\n".join(block).strip("\n"))
            block = []
        if hunk and (header or line.startswith("diff --git ")):
            # The empty line before the next file belongs to nobody.
            end = number - 1 if not header and number < len(lines) and not lines[number - 1] else number
            found.append(Section(hunk, start, min(end, len(lines)), tuple(note for note in notes if note.strip())))
            hunk, notes = "", []
        if header:
            hunk, start = header[1], number
    return found


def normal(note: str) -> str:
    """A comment as it comes back from a document that it was written into."""
    return "\n".join(shown(line, WIDEST).rstrip() for line in _END.split(note)).strip("\n")


def drafts(written: Mapping[str, Collection[str]], known: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str]]:
    """The hunk and text of every comment that is written in a document and not known, each once."""
    for hunk, notes in written.items():
        for note in dict.fromkeys(notes):
            if note not in {normal(text) for text in known.get(hunk, ())}:
                yield hunk, note


def _file(change: FileChange) -> Iterator[str]:
    old, new = (quoted(f"{side}/{path}") for side, path in (("a", change.old_path or change.path), ("b", change.path)))
    yield f"diff --git {_name(old)} {_name(new)}"
    yield f"--- {_name(old) if change.base is not None else '/dev/null'}"
    yield f"+++ {_name(new) if change.agent is not None else '/dev/null'}"


def _name(path: bytes) -> str:
    return shown(path, WIDEST)


def _hunk(entry: Entry) -> Iterator[str]:
    hunk, change = entry.row.hunk, entry.change
    before, after = _around(change, hunk)
    plain = hunk.kind in LINE_KINDS or (hunk.kind in ("create", "remove") and not change.binary)
    removed, added = (hunk.removed, hunk.added) if plain else ((), ())
    start, new_start = hunk.start - len(before), hunk.new_start - len(before)
    beside = len(before) + len(after)
    spans = (_span(start, len(removed) + beside), _span(new_start, len(added) + beside))
    words = [entry.state or hunk.kind, *([shown(entry.row.reason)] if entry.row.reason else [])]
    yield f"@@ -{spans[0]} +{spans[1]} @@ {hunk.id} {': '.join(words)}"
    if not plain:
        yield f"\\ {_whole(hunk)}"
    yield from (f" {shown(row, WIDEST)}" for row in before)
    rows = [*(("-", row) for row in removed), *(("+", row) for row in added)]
    yield from (f"{sign}{shown(row, WIDEST)}" for sign, row in rows[:ROWS])
    if len(rows) > ROWS:
        yield f"\\ {len(rows) - ROWS} more lines; `plait diff` shows them."
    yield from (f" {shown(row, WIDEST)}" for row in after)
    for number, note in enumerate(entry.notes):
        # What stands between two comments keeps them apart.
        yield from [""] if number else []
        yield from (f"# {line}".rstrip() for line in normal(note).split("\n"))


def _whole(hunk: Hunk) -> str:
    """A hunk that has no rows, in words."""
    names = [shown(b"".join(side), 200) for side in (hunk.removed, hunk.added)]
    if hunk.kind in ("rename", "mode"):
        return f"{hunk.kind} from {names[0]} to {names[1]}"
    if hunk.kind == "symlink" and hunk.target is not None:
        return f"a link to {shown(hunk.target)}"
    return f"{hunk.kind}: there is no text to show"


def _around(change: FileChange, hunk: Hunk) -> tuple[list[bytes], list[bytes]]:
    """The base's rows around a hunk, as far as no other hunk has them."""
    if hunk.kind not in LINE_KINDS or change.base is None:
        return [], []
    rows = split(change.base.data)
    others = [one for one in change.hunks if one.kind in LINE_KINDS and one.id != hunk.id]
    end = hunk.start + len(hunk.removed)
    first = max([0, *(one.start + len(one.removed) for one in others if one.start < hunk.start)])
    last = min([len(rows), *(one.start for one in others if one.start >= end)])
    return rows[max(first, hunk.start - CONTEXT) : hunk.start], rows[end : min(last, end + CONTEXT)]


def _span(first: int, count: int) -> str:
    return f"{first + 1 if count else first},{count}"
