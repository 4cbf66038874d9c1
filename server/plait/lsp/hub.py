"""What the connections of one daemon share: the engine, the reviews, and who is told of what."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from plait.core import naming
from plait.core.naming import NoSuchId
from plait.core.sessions import Session
from plait.engine import views
from plait.engine.engine import Engine
from plait.engine.perform import perform, run_directory
from plait.engine.radar import Radar
from plait.engine.resources import resources
from plait.engine.review import Reviews, relative
from plait.engine.settings import Settings
from plait.engine.transcripts import Transcripts
from plait.errors import PlaitError, UsageError
from plait.lsp.connection import Connection
from plait.lsp.documents import Happening, path_of
from plait.lsp.editor import LspEditor, real
from plait.paths import Places

IDLE_S = 0.3
"""After this long without a keystroke a document's hunks are looked at again."""


class Watcher(Protocol):
    """What keeps an editor told about its open documents."""

    def document(self, happening: Happening, uri: str) -> None: ...

    def session(self, session: Session) -> None: ...

    def files(self, session: Session, paths: frozenset[str]) -> None: ...

    def close(self) -> None: ...


class Hub:
    """The daemon's sessions and everybody who is connected to it."""

    def __init__(self, places: Places) -> None:
        self.settings = Settings(places.config_file)
        self.engine = Engine(places, lambda: self.settings.user().config, perform)
        self.reviews = Reviews(self.engine)
        self.radar = Radar(self.engine, self.reviews)
        self.radar.listeners.append(self._conflicts_changed)
        self.transcripts = Transcripts(self.engine)
        self.seq = 0
        """Counts what clients are told about sessions, so that they see when they missed something."""
        self._editors: dict[Connection, LspEditor] = {}
        self._watchers: dict[Connection, tuple[Watcher, ...]] = {}
        self._known: dict[str, int] = {}
        """The newest event of each session that watchers have been told of."""
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        self.engine.listeners.append(self._session_changed)
        await self.engine.start()
        self.reviews.following.listeners.append(self._files_changed)
        await self.reviews.following.start()

    async def stop(self) -> None:
        for task in self._looking.values():
            task.cancel()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)
        await self.radar.stop()
        await self.reviews.following.stop()
        await self.engine.stop()

    def status(self) -> dict[str, object]:
        """What the daemon's own status says about sessions and configuration."""
        places = self.engine.places
        return {
            "sessions": len(self.engine.whole.sessions),
            "counts": views.counts(self.engine),
            "problems": [*self.engine.problems, *(problem.message for problem in self.settings.user().problems)],
            "config": str(places.config_file),
            "worktrees": str(places.data / "worktrees"),
        }

    def session(self, name: str) -> Session:
        """The session of that id, which may be shortened. Raises UsageError."""
        found = naming.match_id(name, self.engine.whole.sessions)
        if isinstance(found, NoSuchId):
            raise UsageError(found.message, "`plait list` shows the sessions.")
        return self.engine.session(found)

    def opened(self, connection: Connection, *watchers: Watcher) -> None:
        """A client has introduced itself; an editor's `watchers` are told of what concerns it."""
        if connection.client.forwarder:
            self.engine.latest_environment = connection.client.forwarder.env
        if connection.client.wants("conflicts") or not connection.client.options.get("terminal"):
            self.radar.start()
        editor = LspEditor(connection)
        self._editors[connection] = editor
        connection.documents.listen(lambda happening, uri: self._document_changed(connection, happening, uri))
        if not connection.client.options.get("terminal"):
            self.reviews.editors.append(editor)
            self._watchers[connection] = watchers
            for watcher in watchers:
                connection.documents.listen(watcher.document)
            # Not before the client has the answer to its first request.
            asyncio.get_running_loop().call_soon(self._catch_up, connection)

    def closed(self, connection: Connection) -> None:
        """A client is gone."""
        editor = self._editors.pop(connection, None)
        for watcher in self._watchers.pop(connection, ()):
            watcher.close()
        if editor in self.reviews.editors:
            self.reviews.editors.remove(editor)
            # What was only in its unsaved buffers is gone.
            for document in connection.documents:
                self._look_again(document.uri)

    @property
    def connections(self) -> list[Connection]:
        return list(self._editors)

    async def resources(self, session: Session) -> Mapping[str, Any] | None:
        """What the session's processes take now; none if none runs."""
        run = session.live_run
        if run is None:
            return None
        return await asyncio.to_thread(resources, run_directory(self.engine, session.id, run.number))

    def _catch_up(self, connection: Connection) -> None:
        if connection.client.wants("status"):
            connection.notify("plait/didChangeStatus", self._status())
        for session in self.engine.whole.sessions.values():
            for watcher in self._watchers.get(connection, ()):
                watcher.session(session)

    def _session_changed(self, session: Session) -> None:
        self.seq += 1
        # What an agent is at changes all the time, and none of it is about hunks or requests.
        happened = self._known.get(session.id) != session.seq
        self._known[session.id] = session.seq
        for watchers in self._watchers.values() if happened else ():
            for watcher in watchers:
                watcher.session(session)
        view: dict[str, Any] | None = None
        for connection in self.connections:
            if connection.client.wants("sessions"):
                view = view or views.session_view(self.engine, session)
                connection.notify("plait/didChangeSessions", {"seq": self.seq, "upsert": [view], "removed": []})
            if connection.client.wants("status"):
                connection.notify("plait/didChangeStatus", self._status())
            if connection.client.wants("hunks") and happened:
                for document in connection.documents:
                    if _concerns(session, document.path):
                        connection.notify("plait/didChangeHunks", {"uri": document.uri, "seq": self.seq})

    def _conflicts_changed(self, sessions: frozenset[str]) -> None:
        """Other sessions collide with these than before, or none any more."""
        known = [self.engine.whole.sessions[name] for name in sessions if name in self.engine.whole.sessions]
        for watchers in self._watchers.values():
            for watcher in watchers:
                for session in known:
                    watcher.session(session)
        for connection in self.connections:
            if connection.client.wants("conflicts"):
                found = self.radar.found
                told = {"seq": self.radar.seq, "pairs": len(found.pairs), "order": list(found.order)}
                connection.notify("plait/didChangeConflicts", told)

    def _files_changed(self, session: Session, paths: frozenset[str]) -> None:
        """A running session changed files otherwise than before."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.files(session, paths)
        for connection in self.connections:
            if connection.client.wants("hunks"):
                for document in connection.documents:
                    if _concerns(session, document.path) and relative(session, str(document.path)) in paths:
                        connection.notify("plait/didChangeHunks", {"uri": document.uri, "seq": self.seq})

    def _status(self) -> dict[str, Any]:
        counts = views.counts(self.engine)
        parts = [f"{count} {name}" for name, count in counts.items() if count]
        return {"busy": counts["running"] > 0, "counts": counts, "message": " · ".join(parts) or "nothing to do"}

    def _document_changed(self, connection: Connection, happening: Happening, uri: str) -> None:
        """Derive again, once the user pauses, whether the sessions that touch the document still wait."""
        if happening is Happening.OPENED or connection.client.options.get("terminal"):
            return
        self._look_again(uri)

    def _look_again(self, uri: str) -> None:
        path = path_of(uri)
        if path is None:
            return
        if uri in self._looking:
            self._looking[uri].cancel()
        task = asyncio.create_task(self._settle(real(path)))
        self._looking[uri] = task
        task.add_done_callback(lambda done: self._looking.pop(uri) if self._looking.get(uri) is done else None)

    async def _settle(self, path: Path) -> None:
        await asyncio.sleep(IDLE_S)
        for session in list(self.engine.whole.sessions.values()):
            if _concerns(session, path):
                try:
                    await self.reviews.settle(session.id, touching=relative(session, str(path)))
                except PlaitError:
                    # What a request finds it will say; here nobody asked.
                    continue


def _concerns(session: Session, path: Path | None) -> bool:
    """Whether the file lies in the checkout that the session's work comes back to."""
    return path is not None and session.spec.repo.top is not None and path.is_relative_to(session.spec.repo.top)
