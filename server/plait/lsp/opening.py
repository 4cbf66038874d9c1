"""Documents that Plait writes for the user: opened in an editor, and kept up to date while they are open there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lsprotocol import types as t

from plait.core.review_page import sections
from plait.core.sessions import Session
from plait.errors import PlaitError
from plait.lsp import dashboard as board
from plait.lsp import models as m
from plait.lsp import review_file as reviews
from plait.lsp.connection import Connection
from plait.lsp.documents import Happening, uri_of
from plait.lsp.editor import LspEditor, real
from plait.lsp.hub import Hub
from plait.lsp.requests import hub_of

log = logging.getLogger(__name__)

View = dict[str, Any]

PAUSE_S = 0.15
"""How long nothing must happen before an open document is made anew."""


class Pages:
    """The documents of Plait's own that one editor has open."""

    def __init__(self, hub: Hub, connection: Connection) -> None:
        self._hub = hub
        self._connection = connection
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: dict[str, asyncio.Task[None]] = {}
        """What will be done after a pause, by the document that it is about."""
        self._one_by_one = asyncio.Lock()

    def document(self, happening: Happening, uri: str) -> None:
        """A document was opened, changed, saved or closed."""
        document = self._connection.documents.get(uri)
        if document is None or happening not in (Happening.OPENED, Happening.SAVED):
            return
        if board.is_dashboard(self._hub, document.path):
            self._soon(board.NAME, self._refresh_board)
        session = reviews.session_of(self._hub, document.path)
        if session is None:
            return
        if happening is Happening.OPENED:
            reviews.opened(self._hub, self._connection, session, document)
            self._soon(session, lambda: reviews.refresh(self._hub, self._connection, session))
        else:
            self._soon(session, lambda: self._saved(session), 0.0)

    def session(self, session: Session) -> None:
        """A session changed."""
        if self._is_open(reviews.path_of(self._hub, session.id)):
            self._soon(session.id, lambda: reviews.refresh(self._hub, self._connection, session.id))
        if self._is_open(board.path_of(self._hub)):
            self._soon(board.NAME, self._refresh_board)

    def files(self, session: Session, paths: frozenset[str]) -> None:
        """A running session changed files otherwise than before."""
        self.session(session)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _is_open(self, path: Path) -> bool:
        # By the name first: this is asked with every change of every session.
        named = any(one.path is not None and one.path.name == path.name for one in self._connection.documents)
        return named and LspEditor(self._connection).document(real(path)) is not None

    def _soon(self, name: str, work: Callable[[], Awaitable[None]], pause: float = PAUSE_S) -> None:
        if pause and name in self._due:
            self._due[name].cancel()
        task = asyncio.create_task(self._work(name, work, pause))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if pause:
            self._due[name] = task

    async def _work(self, name: str, work: Callable[[], Awaitable[None]], pause: float) -> None:
        if pause:
            await asyncio.sleep(pause)
            # What has begun is not called off any more: the editor may be applying it.
            del self._due[name]
        async with self._one_by_one:
            try:
                await work()
            except PlaitError as error:
                # What cannot be read now is made anew with the next change.
                log.info("A document is not brought up to date: %s", error)

    async def _saved(self, session: str) -> None:
        document = LspEditor(self._connection).document(real(reviews.path_of(self._hub, session)))
        if document is None:
            return
        problems = await reviews.saved(self._hub, self._connection, session, document)
        for problem in problems:
            params = t.ShowMessageParams(type=t.MessageType.Warning, message=problem)
            self._connection.server.window_show_message(params)
        if not problems:
            await reviews.refresh(self._hub, self._connection, session)

    async def _refresh_board(self) -> None:
        await board.refresh(self._hub, self._connection)


async def review_file(connection: Connection, params: m.ReviewPage) -> View:
    """Write the review of a session as a document, and have the editor open it."""
    hub = hub_of(connection)
    session = hub.session(params.session)
    path = await reviews.rewrite(hub, session.id, create=True)
    document = LspEditor(connection).document(real(path))
    if document is not None:
        await reviews.refresh(hub, connection, session.id)
        document = LspEditor(connection).document(real(path))
    text = document.text if document is not None else await asyncio.to_thread(path.read_text, "utf-8")
    place = next((one for one in sections(text) if one.hunk == params.hunk), None)
    # Where a comment is written: below the last line of the hunk.
    line = max(place.start, place.end - 1) if place is not None else 0
    shown = params.show and await show(connection, path, line)
    return {"session": session.id, "path": str(path), "uri": uri_of(path), "line": line, "shown": shown}


async def dashboard(connection: Connection, params: m.Dashboard) -> View:
    """Write all sessions as a document, and have the editor open it."""
    hub = hub_of(connection)
    path = await board.rewrite(hub)
    shown = params.show and await show(connection, path, 0)
    return {"path": str(path), "uri": uri_of(path), "shown": shown}


async def show(connection: Connection, path: Path, line: int) -> bool:
    """Whether the editor could be asked to open the document there, and did."""
    window = connection.client.capabilities.window
    if window is None or window.show_document is None or not window.show_document.support:
        return False
    at = t.Position(line=line, character=0)
    params = t.ShowDocumentParams(uri=uri_of(path), take_focus=True, selection=t.Range(at, at))
    answer: t.ShowDocumentResult = await connection.request(t.WINDOW_SHOW_DOCUMENT, params)
    return answer.success
