"""Where the user's own comments show in a document until they are sent: as hints on its lines, and as actions there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types as t

from plait.core import events as e
from plait.core.comments import nearest
from plait.core.lines import LspText, split
from plait.core.sessions import Session, State
from plait.engine import comments
from plait.lsp.documents import Document
from plait.lsp.editor import lsp_range, real
from plait.lsp.hub import Hub

WORDS = 300
"""Characters of a comment in a hint."""


def hints(hub: Hub, document: Document, encoding: str, hunks: Mapping[str, t.Range]) -> list[t.Diagnostic]:
    """A hint for each comment on the document that was not sent; `hunks` says where hunks lie in it."""
    return [
        t.Diagnostic(
            range=span,
            message=f"You, to {session.spec.agent.name} (not sent): {_cut(one.text)}",
            severity=t.DiagnosticSeverity.Hint,
            source="plait",
            code="comment",
            data={"session": session.id, "comment": one.id},
        )
        for session, one, span in _placed(hub, document, encoding, hunks)
    ]


def on_hunk(
    session: Session, hunk: str, what: str, offered: Iterable[str], diagnosed: list[t.Diagnostic]
) -> list[t.CodeAction]:
    """What the user can say about a hunk, and have sent; `offered` are the commands that the editor has itself."""
    arguments = {"session": session.id, "hunks": [hunk]}
    # An editor that can ask for words does; others are led to where the words can be written.
    command = ASKS if ASKS in offered else "plait.hunk.comment"
    comment = t.CodeAction(
        title=f"Comment on {what}",
        kind="quickfix.plait.comment",
        diagnostics=diagnosed,
        command=t.Command(title="Comment", command=command, arguments=[arguments]),
    )
    return [comment, *_send(session)]


ASKS = "plait.ui.comment"
"""The command of an editor's own that asks the user for a comment."""


def of_comments(hub: Hub, document: Document, encoding: str, hunks: Mapping[str, t.Range], line: int) -> list[Any]:
    """What can be done with the comments on a line."""
    return [
        t.CodeAction(
            title=f"Take back “{_cut(one.text, 40)}”",
            kind="quickfix.plait.removeComment",
            command=t.Command(
                title="Take back",
                command="plait.comment.remove",
                arguments=[{"session": session.id, "comment": one.id}],
            ),
        )
        for session, one, span in _placed(hub, document, encoding, hunks)
        if span.start.line <= line <= max(span.start.line, span.end.line - 1)
    ]


def _send(session: Session) -> list[t.CodeAction]:
    unsent = len(session.unsent), len(session.untold)
    words = [f"{n} {name}{'s' * (n != 1)}" for n, name in zip(unsent, ("comment", "rejection"), strict=True) if n]
    if not words or session.send_asked:
        return []
    title = f"Send {' and '.join(words)} to {session.spec.agent.name}"
    command = t.Command(title="Send", command="plait.session.sendComments", arguments=[{"session": session.id}])
    return [t.CodeAction(title=title, kind="quickfix.plait.send", command=command)]


def _placed(
    hub: Hub, document: Document, encoding: str, hunks: Mapping[str, t.Range]
) -> list[tuple[Session, e.Commented, t.Range]]:
    if document.path is None:
        return []
    path = real(document.path)
    found: list[tuple[Session, e.Commented, t.Range]] = []
    rows: Sequence[bytes] | None = None
    text = LspText(document.text)
    for session in hub.engine.whole.sessions.values():
        top = session.spec.repo.top
        if session.state is State.TRASHED or not session.unsent or top is None or not path.is_relative_to(Path(top)):
            continue
        name = path.relative_to(top).as_posix()
        for one in session.unsent:
            if one.path != name:
                continue
            if one.hunk is not None and one.hunk in hunks:
                found.append((session, one, _first_line(hunks[one.hunk])))
                continue
            rows = split(document.text.encode("utf-8", "surrogatepass")) if rows is None else rows
            row = nearest(rows, one.quote[0] if one.line is not None and one.quote else "", one.line or 0)
            found.append((session, one, lsp_range(text, row, row + 1, encoding)))
    return found


def _first_line(span: t.Range) -> t.Range:
    return t.Range(start=span.start, end=t.Position(line=span.start.line + 1, character=0))


def _cut(text: str, length: int = WORDS) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def heard(session: Session, hunk: str) -> list[str]:
    """The comments on a hunk that were not sent, one line each."""
    return [_cut(one.text) for one in comments.of_hunk(session, hunk)]
