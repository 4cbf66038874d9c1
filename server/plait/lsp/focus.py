"""Knows where in the editor the user is: what a command without arguments is about, and which hunk comes next.

Pickers of commands (Helix, LSP4IJ, `M-x`) give no arguments, so the place is remembered from what the editor asks
about anyway, and from where the last step led.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsprotocol import types as t

from plait.core.changes import LINE_KINDS
from plait.core.lines import LspText
from plait.core.sessions import Session
from plait.engine import views
from plait.engine.review import waits
from plait.errors import NothingToDo, PlaitError, UsageError
from plait.lsp import methods
from plait.lsp import models as m
from plait.lsp.connection import Connection
from plait.lsp.documents import path_of, uri_of
from plait.lsp.editor import LspEditor, lsp_range, real
from plait.lsp.hub import Hub
from plait.lsp.placing import SHOWN
from plait.lsp.requests import hub_of, place_of
from plait.lsp.standard import Shown, shown, touches
from plait.lsp.tables import Handler

View = dict[str, Any]


@dataclass(frozen=True)
class Focus:
    """Where the user is in a document."""

    uri: str
    line: int
    hunk: str | None = None
    """The hunk that a step led to, which tells several on one line apart."""


@dataclass(frozen=True)
class Stop:
    """One hunk that waits, on the way through all of them."""

    path: Path
    uri: str
    line: int
    session: Session
    hunk: str
    state: str


def noting(handler: Handler, place: Callable[[Any], Focus]) -> Handler:
    """The same handler, which also notes where the editor asked about."""

    def noted(connection: Connection, params: Any) -> Any:
        connection.memory["focus"] = place(params)
        return handler(connection, params)

    return noted


def of_code_action(params: t.CodeActionParams) -> Focus:
    return Focus(params.text_document.uri, params.range.start.line)


def of_hover(params: t.HoverParams) -> Focus:
    return Focus(params.text_document.uri, params.position.line)


def in_hunk(handler: Handler) -> Handler:
    """A command on hunks, which without a session means the one hunk at the place given, or at the focus."""

    async def command(connection: Connection, params: m.Here) -> View:
        if params.session is not None:
            return await _done(handler, connection, params)
        one = await hunk_here(connection, params)
        return await _done(handler, connection, params, session=one.session.id, hunks=(one.row.hunk.id,))

    return command


def in_file(handler: Handler) -> Handler:
    """A command on a file, which without a session means the file given, or in focus, and its only session."""

    async def command(connection: Connection, params: m.Here) -> View:
        if params.session is not None:
            return await _done(handler, connection, params)
        focus = _focus(connection, params)
        found = await shown(hub_of(connection), connection, focus.uri)
        if len({one.session.id for one in found}) != 1:
            found = [await hunk_here(connection, params)]
        return await _done(handler, connection, params, session=found[0].session.id, paths=(found[0].row.hunk.path,))

    return command


def in_session(handler: Handler) -> Handler:
    """A command on a session, which without one means that of the hunk at the place given, or at the focus."""

    async def command(connection: Connection, params: m.Here) -> View:
        if params.session is not None:
            return await _done(handler, connection, params)
        one = await hunk_here(connection, params)
        return await _done(handler, connection, params, session=one.session.id)

    return command


async def following(connection: Connection, params: m.Place) -> View:
    """Leads the editor to the next hunk in review order."""
    return await _step(connection, params, forward=True)


async def preceding(connection: Connection, params: m.Place) -> View:
    """Leads the editor to the hunk before in review order."""
    return await _step(connection, params, forward=False)


async def stops(hub: Hub, connection: Connection, within: Path) -> list[Stop]:
    """The hunks that wait in the repositories around or below a path: files in review order, lines ascending."""
    files: dict[Path, list[Stop]] = {}
    for session in views.in_review_order(hub.engine.whole.sessions.values()):
        if session.state not in SHOWN or session.snapshot is None or session.spec.repo.top is None:
            continue
        top = Path(session.spec.repo.top)
        if not within.is_relative_to(top) and not top.is_relative_to(within):
            continue
        try:
            located = await hub.reviews.located(session)
        except PlaitError:
            # What cannot be read is no place to go to; the session's own details say why.
            continue
        for file in located:
            for row in file.placed:
                if waits(session, row):
                    path = top / row.path
                    start = (row.start, row.end) if row.hunk.kind in LINE_KINDS else (0, 0)
                    uri, line = _place(connection, path, *start)
                    one = Stop(path, uri, line, session, row.hunk.id, row.state)
                    files.setdefault(path, []).append(one)
    return [one for found in files.values() for one in sorted(found, key=lambda stop: (stop.line, stop.session.id))]


def stepped(found: list[Stop], focus: Focus | None, path: Path | None, *, forward: bool) -> int:
    """The index of the hunk to go to from the focus; beyond the last comes the first again."""
    if focus is not None and focus.hunk is not None:
        for index, one in enumerate(found):
            if one.hunk == focus.hunk and one.path == path:
                return (index + (1 if forward else -1)) % len(found)
    own = [index for index, one in enumerate(found) if one.path == path]
    if focus is None or not own:
        return 0 if forward else len(found) - 1
    if forward:
        return next((index for index in own if found[index].line > focus.line), (own[-1] + 1) % len(found))
    return next((index for index in reversed(own) if found[index].line < focus.line), (own[0] - 1) % len(found))


async def _step(connection: Connection, params: m.Place, *, forward: bool) -> View:
    hub = hub_of(connection)
    known = connection.memory.get("focus")
    focus = known if params.uri is None else Focus(params.uri, params.line or 0)
    path = path_of(focus.uri) if focus is not None else None
    within = real(path) if path is not None else place_of(connection, None)
    found = await stops(hub, connection, within)
    if not found:
        raise NothingToDo("No hunk waits for you here.", "`plait list` shows the sessions of all repositories.")
    index = stepped(found, focus, within if path is not None else None, forward=forward)
    one = found[index]
    connection.memory["focus"] = Focus(one.uri, one.line, one.hunk)
    at = t.Position(line=one.line, character=0)
    return {
        "uri": one.uri,
        "range": {"start": {"line": one.line, "character": 0}, "end": {"line": one.line, "character": 0}},
        "session": one.session.id,
        "hunk": one.hunk,
        "state": one.state,
        "number": index + 1,
        "count": len(found),
        "shown": await _show(connection, t.ShowDocumentParams(one.uri, take_focus=True, selection=t.Range(at, at))),
    }


async def _show(connection: Connection, params: t.ShowDocumentParams) -> bool:
    """Whether the editor could be asked to go there, and did."""
    window = connection.client.capabilities.window
    if window is None or window.show_document is None or not window.show_document.support:
        return False
    answer: t.ShowDocumentResult = await connection.request(t.WINDOW_SHOW_DOCUMENT, params)
    return answer.success


def _focus(connection: Connection, params: m.Here) -> Focus:
    if params.hunks or params.paths:
        raise UsageError("Hunks and paths are those of a session.", "Name the session, too.")
    if params.uri is not None:
        return Focus(params.uri, params.line or 0)
    known = connection.memory.get("focus")
    if not isinstance(known, Focus):
        raise UsageError("Which hunk?", "Go to one with plait.hunk.next, or use the code actions on its lines.")
    return known


async def hunk_here(connection: Connection, params: m.Here) -> Shown:
    """The one hunk that is meant. Raises UsageError if there is none, or more than one."""
    focus = _focus(connection, params)
    found = await shown(hub_of(connection), connection, focus.uri)
    at = t.Position(line=focus.line, character=0)
    here = [one for one in found if focus.hunk is not None and one.row.hunk.id == focus.hunk]
    here = here or [one for one in found if touches(one.range, t.Range(start=at, end=at))]
    if not here:
        raise UsageError(f"No hunk waits at line {focus.line + 1}.", "plait.hunk.next goes to one.")
    if len(here) > 1:
        names = "; ".join(one.who for one in here)
        raise UsageError(f"{len(here)} hunks lie here: {names}.", "Choose one by its code action.")
    return here[0]


async def _done(handler: Handler, connection: Connection, params: m.Here, **chosen: Any) -> View:
    given = params.model_dump(include={"session", "paths", "hunks", "why"})
    answer: View = await handler(connection, m.Verdict(**{**given, **chosen}))
    return answer


def _place(connection: Connection, path: Path, start: int, end: int) -> tuple[str, int]:
    """The address and line of rows of a file; one that is not open is taken to have a line for each row."""
    document = LspEditor(connection).document(path)
    if document is None:
        return uri_of(path), start
    span = lsp_range(LspText(document.text), start, end, connection.client.encoding)
    return document.uri, span.start.line


ACCEPT_HUNK, REJECT_HUNK = in_hunk(methods.accept), in_hunk(methods.reject)
ACCEPT_FILE, REJECT_FILE = in_file(methods.accept), in_file(methods.reject)
ACCEPT_SESSION, REJECT_SESSION = in_session(methods.accept), in_session(methods.reject)
