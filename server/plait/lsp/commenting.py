"""The `plait/…` requests about comments: what the user says about changes, and having it told to the agent."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

from plait.core import events as e
from plait.core.changes import LINE_KINDS, Content
from plait.core.comments import place, row_in
from plait.core.lines import LspText, Position, decode, split
from plait.core.sessions import Session
from plait.engine import comments, views
from plait.engine.review import Located, relative
from plait.errors import UsageError
from plait.lsp import models as m
from plait.lsp import review_file
from plait.lsp.connection import Connection
from plait.lsp.documents import Document, path_of
from plait.lsp.editor import real
from plait.lsp.hub import Hub
from plait.lsp.requests import environment_of, hub_of

View = dict[str, Any]


async def comment(connection: Connection, params: m.Comment) -> View:
    hub = hub_of(connection)
    session = hub.session(params.session)
    about = await _place(hub, connection, session, params)
    said = await comments.comment(hub.engine, hub.reviews, session.id, about, params.text)
    return {"session": session.id, **comment_view(hub.engine.session(session.id), said)}


async def listing(connection: Connection, params: m.OfSession) -> View:
    session = hub_of(connection).session(params.session)
    return {
        "session": session.id,
        "comments": [comment_view(session, one) for one in session.comments],
        "rejections": [
            {"hunk": hunk, "path": one.path, "why": one.why, "sent": hunk in session.told_rejections}
            for hunk, one in session.verdicts.items()
            if one.verdict == "rejected"
        ],
        "unsent": comments.waiting(session),
        "sending": session.send_asked,
    }


async def remove(connection: Connection, params: m.RemoveComment) -> View:
    hub = hub_of(connection)
    session = hub.session(params.session)
    gone = comments.remove(hub.engine, session.id, params.comment)
    await review_file.rewrite(hub, session.id)
    return {"session": session.id, **comment_view(session, gone)}


async def send(connection: Connection, params: m.SendComments) -> View:
    hub = hub_of(connection)
    session = hub.session(params.session)
    environment = environment_of(connection, params.env)
    sent = await comments.send(hub.engine, session.id, environment, now=params.now)
    return {
        "session": views.session_view(hub.engine, hub.engine.session(session.id)),
        "comments": sent.comments,
        "rejections": sent.rejections,
        "waits": sent.waits,
        "left": sent.left,
    }


def comment_view(session: Session, one: e.Commented) -> View:
    """One comment; `line` is a row from 0 of the text on `side`."""
    return {
        "id": one.id,
        "path": one.path,
        "hunk": one.hunk,
        "line": one.line,
        "side": one.side,
        "quote": list(one.quote),
        "text": one.text,
        "where": place(one.path, one.line),
        "sent": one.id in session.sent,
    }


async def _place(hub: Hub, connection: Connection, session: Session, params: m.Comment) -> comments.Place:
    if params.hunk is not None:
        return comments.Place(hunk=params.hunk)
    if params.text_document is None:
        path = None if params.path is None else _relative(session, params.path)
        return comments.Place(path=path, line=params.line, side=params.side)
    uri = params.text_document.uri
    document = connection.documents.get(uri)
    found = path_of(uri)
    if found is None:
        raise UsageError(f"{uri} is no file.")
    if document is None or params.position is None:
        line = None if params.position is None else params.position.line
        return comments.Place(path=_relative(session, str(found)), line=line, side="user")
    page = review_file.hunk_at(hub, document, params.position.line)
    if page is not None:
        return comments.Place(hunk=page[1])
    if real(found).is_relative_to(session.spec.worktree):
        return _in_text(_relative(session, str(found)), document, params.position.line, "agent")
    return await _in_checkout(hub, session, document, params.position.line)


async def _in_checkout(hub: Hub, session: Session, document: Document, line: int) -> comments.Place:
    """The hunk that lies at a line of the user's text, or else the row of the agent's text that is the same."""
    path = relative(session, str(document.path))
    row = _row(document, line)
    files = await hub.reviews.located(session, [path])
    for file in files:
        for placed in file.placed:
            first = placed.start - (placed.start == placed.end)
            if placed.hunk.kind in LINE_KINDS and first <= row < max(placed.end, placed.start + 1):
                return comments.Place(hunk=placed.hunk.id)
    return _same_row(path, files, document, line)


def _same_row(path: str, files: list[Located], document: Document, line: int) -> comments.Place:
    agent = files[0].change.agent if files else None
    if agent is not None and not files[0].change.binary:
        there, same = row_in(_rows(document), _utf8(agent), _row(document, line))
        if same:
            return comments.Place(path=files[0].change.path, line=there)
    return _in_text(path, document, line, "user")


def _in_text(path: str, document: Document, line: int, side: e.Side) -> comments.Place:
    return comments.Place(path=path, line=_row(document, line), side=side, rows=_rows(document))


def _row(document: Document, line: int) -> int:
    r"""The row of a line of a document, in which a lone ``\r`` may end lines but no rows."""
    text = LspText(document.text)
    return bisect_right(text.row_starts, text.offset(Position(line, 0))) - 1


def _rows(document: Document) -> list[bytes]:
    return split(document.text.encode("utf-8", "surrogatepass"))


def _utf8(content: Content) -> list[bytes]:
    """The rows of a file as an editor would show them."""
    found = decode(content.data)
    return split(found[0].encode("utf-8", "surrogatepass") if found else content.data)


def _relative(session: Session, path: str) -> str:
    """The path as the repository calls it: of a file in the user's checkout, or in the session's worktree."""
    found = Path(path)
    if found.is_absolute() and real(found).is_relative_to(session.spec.worktree):
        return real(found).relative_to(session.spec.worktree).as_posix()
    return relative(session, path)
