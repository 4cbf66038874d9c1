"""Hunks in the words of the protocol: with ranges in the text that the asking editor has."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from plait.core.alignment import Placed
from plait.core.changes import LINE_KINDS
from plait.core.lines import LspText
from plait.core.sessions import LIVE, Session, State
from plait.engine.review import Located, waits
from plait.errors import PlaitError
from plait.lsp.conflicts import met, met_view
from plait.lsp.connection import Connection
from plait.lsp.documents import uri_of
from plait.lsp.editor import lsp_range, real
from plait.lsp.hub import Hub

log = logging.getLogger(__name__)

MAX_LINES = 200
"""Lines of a hunk that travel with it; `plait/fileContent` has the rest."""

SHOWN = (State.READY, State.STOPPED, State.FAILED, State.APPLIED, *LIVE)
"""States in which a session's hunks are shown in the user's documents."""


async def hunks_in_document(hub: Hub, connection: Connection, uri: str) -> dict[str, Any]:
    """The hunks of all sessions that touch the document, placed in its text, with what was looked at."""
    found = await located_in_document(hub, connection, uri)
    document = connection.documents.get(uri)
    text = LspText(document.text) if document else None
    hunks = []
    for session, file in found:
        for row in file.placed:
            view = hunk_view(session, file, row)
            view["overlaps"] = [met_view(one) for one in met(hub, session.id, row.hunk.id)]
            if text is not None and row.hunk.kind in LINE_KINDS:
                span = lsp_range(text, row.start, row.end, connection.client.encoding)
                view["range"] = {
                    "start": {"line": span.start.line, "character": span.start.character},
                    "end": {"line": span.end.line, "character": span.end.character},
                }
            hunks.append(view)
    return {
        "uri": uri,
        "version": document.version if document else None,
        "contentHash": hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest() if document else None,
        "hunks": hunks,
    }


async def located_in_document(hub: Hub, connection: Connection, uri: str) -> list[tuple[Session, Located]]:
    """The files of sessions that are this document, each with its hunks placed in what the user has."""
    path = _path(connection, uri)
    if path is None:
        return []
    found = []
    for session in list(hub.engine.whole.sessions.values()):
        top = session.spec.repo.top
        if session.state not in SHOWN or top is None or not path.is_relative_to(top):
            continue
        if session.state in LIVE and not hub.reviews.following.known(session.id):
            # Its documents are looked at again as soon as its changes are known.
            continue
        name = path.relative_to(top).as_posix()
        try:
            found += [(session, file) for file in await hub.reviews.located(session, [name])]
        except PlaitError as error:
            # A session whose changes cannot be read hides no other's; its own details say why.
            log.info("The hunks of %s are not shown: %s", session.id, error)
    return found


def hunk_view(session: Session, file: Located, row: Placed) -> dict[str, Any]:
    """One hunk: `start` and `end` are rows of the user's text, counted from 0, the end not included."""
    hunk = row.hunk
    return {
        "id": hunk.id,
        "session": session.id,
        "agent": session.spec.agent.name,
        "title": session.spec.task.title,
        "path": file.change.path,
        "uri": uri_of(Path(session.spec.repo.top or "/") / row.path),
        "kind": hunk.kind,
        "state": "rejected" if hunk.id in session.rejected and row.state != "applied" else row.state,
        "reason": row.reason,
        "waits": waits(session, row),
        "start": row.start,
        "end": row.end,
        "removed": _lines(row.removed, file.change.binary),
        "added": _lines(row.added, file.change.binary),
        "theirs": _lines(row.theirs, file.change.binary),
        "stats": {"added": len(row.added), "removed": len(row.removed)},
        "target": hunk.target,
        "escapes": hunk.escapes,
        "inEditor": file.buffer,
    }


def _lines(rows: tuple[bytes, ...], binary: bool) -> list[str]:
    return [] if binary else [row.decode("utf-8", "replace") for row in rows[:MAX_LINES]]


def _path(connection: Connection, uri: str) -> Path | None:
    document = connection.documents.get(uri)
    if document is not None:
        return real(document.path) if document.path else None
    if not uri.startswith("file:"):
        return None
    from pygls.uris import to_fs_path

    path = to_fs_path(uri)
    return real(Path(path)) if path else None
