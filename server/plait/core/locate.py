"""Where each hunk of a change lies in the text that the user has now, and whether it is there already.

The state of a hunk is always derived from the user's text, never remembered: undoing an accepted hunk in
the editor makes it pending again, typing it by hand makes it applied, and a switched branch needs no
repair. What the ledger says was accepted is only the first guess at which mixture of base and agent the
user started from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from plait.core.alignment import Placed, State, place_rows
from plait.core.changes import EXECUTABLE, LINE_KINDS, REGULAR, Content, FileChange, Hunk
from plait.core.lines import eol_of, split

__all__ = ["Placed", "State", "UserFile", "locate", "same_content", "seat"]


@dataclass(frozen=True)
class UserFile:
    """What the user has at the two paths of a rename; the same object twice if the file keeps its path.

    The content is the open buffer's, encoded as the file is, or else the file's in the user's checkout.
    """

    at_old: Content | None
    at_new: Content | None


def locate(change: FileChange, user: UserFile, accepted: frozenset[str] = frozenset()) -> tuple[Placed, ...]:
    """Every hunk of `change`, in its order, placed in what the user has; never raises."""
    path, content = seat(change, user)
    rows = _placed_rows(change, path, content, accepted)
    return tuple(
        rows[hunk.id] if hunk.kind in LINE_KINDS else _placed_whole(change, hunk, path, content, user)
        for hunk in change.hunks
    )


def seat(change: FileChange, user: UserFile) -> tuple[str, Content | None]:
    """The path at which the user has the file now, and its content there."""
    if change.old_path is None or (user.at_old is None and user.at_new is not None):
        return change.path, user.at_new
    return change.old_path, user.at_old


def same_content(one: Content | None, other: Content | None) -> bool:
    """Whether two contents are equal, line ends aside if one has only CRLF and the other only LF."""
    if one is None or other is None or one == other:
        return one == other
    if one.mode != other.mode or one.mode not in (REGULAR, EXECUTABLE):
        return False
    if {eol_of(one.data), eol_of(other.data)} != {"lf", "crlf"}:
        return False
    return one.data.replace(b"\r\n", b"\n") == other.data.replace(b"\r\n", b"\n")


def _placed_whole(change: FileChange, hunk: Hunk, path: str, content: Content | None, user: UserFile) -> Placed:
    """The place of a hunk about the file as a whole."""
    placed = Placed(hunk, "pending", path, removed=hunk.removed, added=hunk.added)
    if hunk.kind == "rename":
        state, reason = _rename_state(user)
    elif hunk.kind == "mode":
        state, reason = _mode_state(change, content)
    else:
        state, reason = _content_state(change, hunk, content)
        rows = [] if content is None or change.binary else split(content.data)
        theirs = tuple(rows) if state == "conflicting" else ()
        placed = replace(placed, end=len(rows), theirs=theirs)
    return replace(placed, state=state, reason=reason)


def _content_state(change: FileChange, hunk: Hunk, content: Content | None) -> tuple[State, str]:
    base, agent = change.base, change.agent
    if hunk.kind == "binary":
        # The executable bit is the matter of another hunk.
        base, agent, content = _plain(base), _plain(agent), _plain(content)
    same = _equal if change.binary else same_content
    if same(content, agent):
        return "applied", ""
    if hunk.kind == "submodule":
        return "conflicting", "A submodule is only shown: update it with git."
    if same(content, base):
        return "pending", ""
    return "conflicting", _whole_reason(change, content)


def _equal(one: Content | None, other: Content | None) -> bool:
    return one == other


def _plain(content: Content | None) -> Content | None:
    return replace(content, mode=REGULAR) if content is not None and content.mode == EXECUTABLE else content


def _whole_reason(change: FileChange, content: Content | None) -> str:
    if content is None:
        return "You removed the file."
    if change.base is None:
        return "You have another file of this name."
    if change.agent is None:
        return "You changed the file that the agent removed."
    return "You changed the file too, and it can only be taken as a whole."


def _rename_state(user: UserFile) -> tuple[State, str]:
    if user.at_old is not None and user.at_new is None:
        return "pending", ""
    if user.at_old is None and user.at_new is not None:
        return "applied", ""
    if user.at_old is None:
        return "conflicting", "You removed the file."
    return "conflicting", "You have another file of the new name."


def _mode_state(change: FileChange, content: Content | None) -> tuple[State, str]:
    if content is None or change.base is None or change.agent is None:
        return "conflicting", "You removed the file."
    if content.mode == change.agent.mode:
        return "applied", ""
    if content.mode == change.base.mode:
        return "pending", ""
    return "conflicting", "The file is of another type in your checkout."


def _placed_rows(change: FileChange, path: str, content: Content | None, accepted: frozenset[str]) -> dict[str, Placed]:
    """The place of every line hunk, by the hunk's id."""
    hunks = [hunk for hunk in change.hunks if hunk.kind in LINE_KINDS]
    if not hunks or change.base is None or change.agent is None:
        return {}
    if content is None or content.mode not in (REGULAR, EXECUTABLE):
        reason = "You removed the file." if content is None else "The file is of another type in your checkout."
        return {
            hunk.id: Placed(hunk, "conflicting", path, reason=reason, removed=hunk.removed, added=hunk.added)
            for hunk in hunks
        }
    placed = place_rows(path, change.base.data, change.agent.data, hunks, content.data, accepted)
    return {row.hunk.id: row for row in placed}
