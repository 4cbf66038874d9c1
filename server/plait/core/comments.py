"""Knows how the user's comments and rejections become one message to the agent, and where in a text they belong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from plait.core.changes import LINE_KINDS, FileChange, Hunk
from plait.core.diff import edits
from plait.core.events import Commented

LONGEST: Final = 20_000
"""Characters of one comment."""

LIMIT: Final = 60_000
"""Characters of a message; what does not fit any more waits for the next one."""

QUOTED: Final = 20
"""Rows of a change that are quoted; a longer one is cut in its middle."""

_WIDEST: Final = 200

Fate = Literal["taken out", "still there", "gone"]


@dataclass(frozen=True)
class Rejection:
    """A hunk that the user does not want, and what became of it in the agent's worktree."""

    hunk: str
    path: str
    line: int | None
    """Its row in the agent's text, from 0; none if it is about the file as a whole, or gone."""
    quote: tuple[str, ...]
    why: str | None
    fate: Fate
    reason: str = ""
    """Why it is still there."""


@dataclass(frozen=True)
class Message:
    """What the agent is told, and which comments and rejected hunks that covers."""

    text: str
    comments: tuple[str, ...]
    rejected: tuple[str, ...]


def message(comments: Iterable[Commented], rejections: Iterable[Rejection], limit: int = LIMIT) -> Message:
    """One message of about `limit` characters from as many comments and rejections as fit, but at least one.

    Comments come first, then rejections, each grouped by file and in the order of their lines.
    """
    said = sorted(comments, key=lambda one: (one.path, -1 if one.line is None else one.line, one.id))
    unwanted = sorted(rejections, key=lambda one: (one.path, -1 if one.line is None else one.line, one.hunk))
    parts: list[tuple[Commented | Rejection, str]] = []
    parts += [(comment, _comment(comment)) for comment in said]
    parts += [(rejection, _rejection(rejection)) for rejection in unwanted]
    room = limit
    taken: list[tuple[Commented | Rejection, str]] = []
    for part in parts:
        room -= len(part[1]) + len(part[0].path)
        if taken and room < 0:
            break
        taken.append(part)
    return Message(
        _joined(taken),
        tuple(one.id for one, _ in taken if isinstance(one, Commented)),
        tuple(one.hunk for one, _ in taken if isinstance(one, Rejection)),
    )


def quote_of(hunk: Hunk, binary: bool = False) -> tuple[str, ...]:
    """The hunk's rows with their signs, or a word for one that has none to show."""
    if binary or hunk.kind not in (*LINE_KINDS, "create", "remove"):
        return (f"({hunk.kind})",)
    rows = [*(f"-{shown(row)}" for row in hunk.removed), *(f"+{shown(row)}" for row in hunk.added)]
    if len(rows) <= QUOTED:
        return tuple(rows)
    head = QUOTED // 2
    return (*rows[:head], f"… {len(rows) - QUOTED} rows …", *rows[len(rows) - QUOTED + head :])


def shown(row: bytes | str, widest: int = _WIDEST) -> str:
    """A row as one line of text: without its end, and with nothing in it that could end a line or steer a terminal.

    A row of more than `widest` characters is cut.
    """
    text = row.decode("utf-8", "replace") if isinstance(row, bytes) else row
    text = text.removesuffix("\n").removesuffix("\r")
    line = "".join(_PICTURES.get(character, character) for character in text)
    return line if len(line) <= widest else f"{line[: widest - 1]}…"


_PICTURES: Final = {
    **{chr(code): chr(0x2400 + code) for code in range(32) if chr(code) != "\t"},
    **dict.fromkeys("\x7f\x85\u2028\u2029", "\ufffd"),
    **{chr(code): "\ufffd" for code in range(0x80, 0xA0)},
}


def place(path: str, line: int | None) -> str:
    """A file and a row of it, as people write them: `path:LINE`, the line counted from 1."""
    return path if line is None else f"{path}:{line + 1}"


def parse_place(text: str) -> tuple[str, int | None]:
    """The file and the row, from 0, that `path:LINE` names; no row if it names none."""
    path, colon, number = text.rpartition(":")
    if colon and path and number.isascii() and number.isdigit() and 0 < len(number) < 10 and int(number) > 0:
        return path, int(number) - 1
    return text, None


def row_in(rows: Sequence[bytes], others: Sequence[bytes], row: int) -> tuple[int, bool]:
    """Where a row of one text lies in another, and whether it is the same row there; otherwise where it would be."""
    shift = 0
    for edit in edits(rows, others):
        if row < edit.a1:
            break
        if row < edit.a2:
            return min(edit.b1, max(0, len(others) - 1)), False
        shift = edit.b2 - edit.a2
    return max(0, min(row + shift, len(others) - 1)), row < len(rows)


def nearest(rows: Sequence[bytes], quote: str, row: int) -> int:
    """The row nearest to `row` that reads like the quoted one; `row` itself, or the last, if none does."""
    wanted = max(0, min(row, len(rows) - 1))
    same = [number for number, one in enumerate(rows) if quote and shown(one) == quote]
    return min(same, key=lambda number: abs(number - wanted), default=wanted)


def hunk_at(change: FileChange, row: int) -> Hunk | None:
    """The hunk that added this row of the agent's text."""
    found = (h for h in change.hunks if h.kind in LINE_KINDS and h.new_start <= row < h.new_start + len(h.added))
    return next(found, None)


_COMMENTS: Final = "The user has reviewed your changes and says:"
_REJECTIONS: Final = "The user rejected the following changes. Do not bring them back in this or another form:"


def _joined(taken: Sequence[tuple[Commented | Rejection, str]]) -> str:
    parts: list[str] = []
    for kind, heading in ((Commented, _COMMENTS), (Rejection, _REJECTIONS)):
        path = None
        own = [(one.path, text) for one, text in taken if isinstance(one, kind)]
        parts += [heading] if own else []
        for where, text in own:
            if where != path:
                parts.append(f"## {shown(where)}")
                path = where
            parts.append(text)
    return "\n\n".join(parts)


def _comment(comment: Commented) -> str:
    return "\n".join([*_quoted(_where(comment), comment.quote), comment.text.strip()])


def _where(comment: Commented) -> str:
    if comment.line is None:
        return "The file:" if comment.hunk is None else "This change of the file:"
    whose = {"agent": "", "base": " of the file before your changes", "user": " of the file as the user has it"}
    return f"Line {comment.line + 1}{whose[comment.side]}:"


def _rejection(rejection: Rejection) -> str:
    where = "This change:" if rejection.line is None else f"Line {rejection.line + 1}:"
    if rejection.fate == "gone":
        where = "A change that is not there any more."
    lines = [*_quoted(where, rejection.quote), *([f"Reason: {rejection.why.strip()}"] if rejection.why else [])]
    if rejection.fate == "taken out":
        lines.append("It has been taken out of your worktree already.")
    elif rejection.fate == "still there":
        lines.append(f"It is still in your worktree, so take it out yourself. ({rejection.reason})")
    return "\n".join(lines)


def _quoted(where: str, quote: Sequence[str]) -> Iterator[str]:
    yield where
    if quote:
        # A fence longer than any in the quoted text, so that the text cannot end it.
        longest = max(max(map(len, "".join(c if c == "`" else " " for c in line).split()), default=0) for line in quote)
        fence = "`" * max(3, longest + 1)
        yield from (fence, *quote, fence)
