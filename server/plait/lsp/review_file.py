"""Knows a session's review as a document: where it lies, what it says now, and what the user has written into it.

The document lies in a directory of Plait's own. While an editor has it open it is changed by edits in that editor
alone; saving it makes comments of what the user wrote.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lsprotocol import types as t

from plait.core import events as e
from plait.core import naming, review_page
from plait.core.accept import TextEdit
from plait.core.alignment import Placed
from plait.core.diff import edits
from plait.core.lines import split
from plait.core.review_page import Entry, Section, normal, sections
from plait.core.sessions import Session, State
from plait.engine import comments
from plait.engine.review import Located, waits
from plait.engine.store import write_durably
from plait.errors import PlaitError, StorageError
from plait.lsp.connection import Connection
from plait.lsp.documents import Document
from plait.lsp.editor import LspEditor, real
from plait.lsp.hub import Hub
from plait.paths import private_directory

log = logging.getLogger(__name__)

ENDING = ".review.diff"


@dataclass
class Written:
    """What one editor's copy of a document shows beside the diff."""

    comments: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Hunk and text of the comments that it shows, by their ids: one that is missing there later was deleted."""
    paths: dict[str, str] = field(default_factory=dict)
    """The files of the hunks that it showed."""


def directory(hub: Hub) -> Path:
    """Where documents that Plait writes for the user lie."""
    return hub.engine.places.data / "review"


def path_of(hub: Hub, session: str) -> Path:
    return directory(hub) / f"{session}{ENDING}"


def session_of(hub: Hub, path: Path | None) -> str | None:
    """The session whose review the document is; none if it is another document."""
    if path is None or not path.name.endswith(ENDING) or real(path).parent != Path(os.path.realpath(directory(hub))):
        return None
    name = path.name.removesuffix(ENDING)
    return name if name in hub.engine.whole.sessions else None


def hunk_at(hub: Hub, document: Document, line: int) -> tuple[str, str] | None:
    """The session and the hunk that a line of the document belongs to."""
    session = session_of(hub, document.path)
    if session is None:
        return None
    found = next((one for one in sections(document.text) if one.start <= line < one.end), None)
    return None if found is None else (session, found.hunk)


async def located_in_page(hub: Hub, document: Document) -> list[tuple[Session, Placed, t.Range, int, int]]:
    """The hunks that wait in a document that is a review, each with its lines there, its number and their count."""
    name = session_of(hub, document.path)
    if name is None:
        return []
    session = hub.engine.session(name)
    places = {one.hunk: one for one in sections(document.text)}
    found = []
    for file in await hub.reviews.located(session):
        waiting = [row for row in file.placed if waits(session, row)]
        for number, row in enumerate(waiting, 1):
            place = places.get(row.hunk.id)
            if place is not None:
                span = t.Range(t.Position(place.start, 0), t.Position(place.end, 0))
                found.append((session, row, span, number, len(waiting)))
    return found


async def rewrite(hub: Hub, session: str, *, create: bool = False) -> Path:
    """Make the document anew on disk, unless an editor has it open, or it does not exist and need not.

    What the user wrote into it without an editor that told us becomes comments first. Raises PlaitError.
    """
    path = path_of(hub, session)
    if any(LspEditor(connection).document(real(path)) for connection in hub.connections):
        return path
    try:
        before = await asyncio.to_thread(path.read_text, "utf-8", "replace")
    except OSError:
        before = ""
    if not before and not create:
        return path
    if create and before:
        known = hub.engine.session(session)
        texts = _texts(known.comments)
        await _keep(hub, known, review_page.drafts(_notes(sections(before)), texts), {})
    text, _ = await _text(hub, hub.engine.session(session), {}, frozenset())
    try:
        private_directory(directory(hub))
        await asyncio.to_thread(write_durably, path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise StorageError(f"Could not write {path}: {error.strerror}.") from error
    return path


async def refresh(hub: Hub, connection: Connection, session: str) -> None:
    """Bring the document in an editor up to date by an edit there, with what the user has written meanwhile."""
    path = real(path_of(hub, session))
    document = LspEditor(connection).document(path)
    if document is None:
        return
    written = _written(connection, session)
    found = sections(document.text)
    notes = _notes(found)
    deleted = frozenset(name for name, (hunk, text) in written.comments.items() if _is_deleted(notes, hunk, text))
    drafts: defaultdict[str, list[str]] = defaultdict(list)
    for hunk, note in review_page.drafts(notes, _known(hub.engine.session(session), written)):
        drafts[hunk].append(note)
    text, shown = await _text(hub, hub.engine.session(session), drafts, deleted)
    if not drafts.keys() <= {one.hunk for one in sections(text)}:
        # The agent has changed a hunk under which the user is writing. Nothing is touched until that is saved.
        return
    if text != document.text and not await _edited(connection, path, document, text):
        return
    written.comments = {**{name: written.comments[name] for name in deleted}, **shown.comments}
    written.paths |= shown.paths


def opened(hub: Hub, connection: Connection, session: str, document: Document) -> None:
    """An editor has opened the document: what it shows is what may be deleted there."""
    written = _written(connection, session)
    notes = _notes(sections(document.text))
    written.comments = {
        one.id: (one.hunk, one.text)
        for one in hub.engine.session(session).unsent
        if one.hunk is not None and normal(one.text) in notes.get(one.hunk, ())
    }


async def saved(hub: Hub, connection: Connection, session: str, document: Document) -> list[str]:
    """Make comments of what the user wrote into the document, and take back what he deleted there.

    Gives sentences about what could not be done; that stays in the document.
    """
    known = hub.engine.session(session)
    written = _written(connection, session)
    notes = _notes(sections(document.text))
    for name, (hunk, text) in list(written.comments.items()):
        if _is_deleted(notes, hunk, text):
            del written.comments[name]
            if any(one.id == name for one in known.unsent):
                comments.remove(hub.engine, session, name)
    drafts = review_page.drafts(notes, _known(known, written))
    kept, problems = await _keep(hub, known, drafts, written.paths)
    written.comments |= {one.id: (hunk, one.text) for hunk, one in kept}
    return problems


async def _keep(
    hub: Hub, session: Session, drafts: Iterable[tuple[str, str]], paths: Mapping[str, str]
) -> tuple[list[tuple[str, e.Commented]], list[str]]:
    kept: list[tuple[str, e.Commented]] = []
    problems: list[str] = []
    for hunk, text in list(drafts):
        places = [comments.Place(hunk=hunk), *([comments.Place(path=paths[hunk])] if hunk in paths else [])]
        for number, place in enumerate(places, 1):
            try:
                kept.append((hunk, await comments.comment(hub.engine, hub.reviews, session.id, place, text)))
                break
            except PlaitError as error:
                # A hunk that the agent has changed meanwhile leaves a comment on its file.
                if number == len(places):
                    problems.append(f"The comment “{text}” was not kept: {error}")
    return kept, problems


async def _text(
    hub: Hub, session: Session, drafts: Mapping[str, Collection[str]], deleted: frozenset[str]
) -> tuple[str, Written]:
    """The document as it should be, and what it shows."""
    shown = Written()
    entries: list[Entry] = []
    located = await hub.reviews.located(session) if session.state is not State.TRASHED else []
    for file in located:
        for row in file.placed:
            unsent = [one for one in session.unsent if one.hunk == row.hunk.id and one.id not in deleted]
            notes = (*(one.text for one in unsent), *drafts.get(row.hunk.id, ()))
            if waits(session, row) or notes:
                shown.comments |= {one.id: (row.hunk.id, one.text) for one in unsent}
                shown.paths[row.hunk.id] = file.change.path
                entries.append(Entry(file.change, row, _state(session, file, row), notes))
    short = naming.short_id(session.id, hub.engine.whole.sessions.keys())
    spec = session.spec
    # In a thread, for it may be long.
    text = await asyncio.to_thread(review_page.page, spec.task.title, spec.agent.name, short, entries)
    return text, shown


def _state(session: Session, file: Located, row: Placed) -> str:
    if row.state == "applied":
        return "accepted"
    if row.hunk.id in session.rejected:
        return "rejected"
    return "" if row.state == "pending" else row.state


async def _edited(connection: Connection, path: Path, document: Document, text: str) -> bool:
    before, after = split(document.text.encode("utf-8", "surrogatepass")), split(text.encode("utf-8", "replace"))
    found = await asyncio.to_thread(edits, before, after)
    changes = [TextEdit(edit.a1, edit.a2, tuple(after[edit.b1 : edit.b2])) for edit in found]
    try:
        return await LspEditor(connection).edit(path, document.text, changes, text, "Plait: review")
    except PlaitError as error:
        log.info("%s is not brought up to date: %s", path, error)
        return False


def _written(connection: Connection, session: str) -> Written:
    known: dict[str, Written] = connection.memory.setdefault("review", {})
    return known.setdefault(session, Written())


def _notes(found: Iterable[Section]) -> dict[str, tuple[str, ...]]:
    return {one.hunk: one.notes for one in found}


def _texts(said: Iterable[e.Commented]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for one in said:
        if one.hunk is not None:
            found[one.hunk].append(one.text)
    return found


def _known(session: Session, written: Written) -> dict[str, list[str]]:
    """The texts that are comments already: those that wait, and those that the document showed before they went."""
    found = _texts(session.unsent)
    for hunk, text in written.comments.values():
        found.setdefault(hunk, []).append(text)
    return found


def _is_deleted(notes: Mapping[str, Collection[str]], hunk: str, text: str) -> bool:
    return hunk in notes and normal(text) not in notes[hunk]
