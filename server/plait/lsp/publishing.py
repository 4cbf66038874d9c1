"""Tells each editor what waits in the documents it has open: after a pause in typing, and when a session changes."""

from __future__ import annotations

import asyncio
import logging

from lsprotocol import types as t

from plait.core.sessions import Session
from plait.errors import PlaitError
from plait.lsp.connection import Connection
from plait.lsp.documents import Happening
from plait.lsp.editor import real
from plait.lsp.hub import Hub
from plait.lsp.said import hints
from plait.lsp.standard import diagnostics, places, shown

log = logging.getLogger(__name__)

PAUSE_S = 0.15
"""How long nothing must happen before a document's diagnostics are made again."""


class Publisher:
    """The diagnostics of one connection: each document's are sent when they differ from what was sent last."""

    def __init__(self, hub: Hub, connection: Connection) -> None:
        self._hub = hub
        self._connection = connection
        self._sent: dict[str, list[t.Diagnostic]] = {}
        self._due: dict[str, asyncio.Task[None]] = {}

    def document(self, happening: Happening, uri: str) -> None:
        """A document was opened, changed, saved or closed."""
        if happening is Happening.CLOSED:
            self._forget(uri)
        elif happening is not Happening.SAVED:
            self._schedule(uri, 0.0 if happening is Happening.OPENED else PAUSE_S)

    def session(self, session: Session) -> None:
        """A session changed."""
        top = session.spec.repo.top
        for document in self._connection.documents:
            if top is not None and document.path is not None and real(document.path).is_relative_to(top):
                self._schedule(document.uri, PAUSE_S)

    def files(self, session: Session, paths: frozenset[str]) -> None:
        """A running session changed files otherwise than before; reports of that come in batches already."""
        top = session.spec.repo.top
        for document in self._connection.documents:
            place = real(document.path) if document.path else None
            if top is None or place is None or not place.is_relative_to(top):
                continue
            if place.relative_to(top).as_posix() in paths:
                self._schedule(document.uri, 0.0)

    def close(self) -> None:
        for task in self._due.values():
            task.cancel()

    def _schedule(self, uri: str, pause: float) -> None:
        if uri in self._due:
            self._due[uri].cancel()
        task = asyncio.create_task(self._publish(uri, pause))
        self._due[uri] = task
        task.add_done_callback(lambda done: self._due.pop(uri) if self._due.get(uri) is done else None)

    async def _publish(self, uri: str, pause: float) -> None:
        await asyncio.sleep(pause)
        try:
            hunks = await shown(self._hub, self._connection, uri)
            found = diagnostics(hunks, uri, self._shows_related)
        except PlaitError as error:
            # What cannot be read now is asked for again with the next change; a request will say why.
            log.info("No diagnostics for %s: %s", uri, error)
            return
        document = self._connection.documents.get(uri)
        if document is not None:
            found += hints(self._hub, document, self._connection.client.encoding, places(hunks))
        if document is None or found == self._sent.get(uri, []):
            return
        self._sent[uri] = found
        params = t.PublishDiagnosticsParams(uri=uri, version=document.version, diagnostics=found)
        self._connection.server.text_document_publish_diagnostics(params)
        self._refresh_lenses()

    @property
    def _shows_related(self) -> bool:
        document = self._connection.client.capabilities.text_document
        return bool(document and document.publish_diagnostics and document.publish_diagnostics.related_information)

    def _refresh_lenses(self) -> None:
        workspace = self._connection.client.capabilities.workspace
        if workspace and workspace.code_lens and workspace.code_lens.refresh_support:
            self._connection.server.workspace_code_lens_refresh(None)

    def _forget(self, uri: str) -> None:
        if uri in self._due:
            self._due[uri].cancel()
        if self._sent.pop(uri, []):
            self._connection.server.text_document_publish_diagnostics(
                t.PublishDiagnosticsParams(uri=uri, diagnostics=[])
            )
