"""All sessions as a Markdown document that stays true while it is open, for editors that show nothing else of ours."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lsprotocol import types as t

from plait.core.accept import TextEdit
from plait.core.diff import edits
from plait.core.lines import split
from plait.core.sessions import Session, State
from plait.engine import comments, views
from plait.engine.store import write_durably
from plait.errors import PlaitError, StorageError
from plait.lsp.connection import Connection
from plait.lsp.documents import Document, uri_of
from plait.lsp.editor import LspEditor, real
from plait.lsp.hub import Hub
from plait.lsp.review_file import directory
from plait.lsp.review_file import path_of as review_of
from plait.paths import private_directory

log = logging.getLogger(__name__)

NAME: Final = "plait.md"

ACTIONS: Final = {
    "review": ("Review", "plait.session.review"),
    "send": ("Send the comments to the agent", "plait.session.sendComments"),
    "stop": ("Stop", "plait.session.stop"),
    "accept": ("Accept all", "plait.session.accept"),
    "reject": ("Reject all", "plait.session.reject"),
    "merge": ("Merge", "plait.session.merge"),
    "resume": ("Resume", "plait.session.resume"),
    "retry": ("Retry", "plait.session.retry"),
    "trash": ("Move to the trash", "plait.session.trash"),
}
"""What can be done with a session without more words, with the command that does it."""

_HEADING: Final = re.compile(r"## .* `([0-9a-z]+)`$")


def path_of(hub: Hub) -> Path:
    return directory(hub) / NAME


def is_dashboard(hub: Hub, path: Path | None) -> bool:
    return path is not None and path.name == NAME and real(path).parent == Path(os.path.realpath(directory(hub)))


def text(hub: Hub) -> str:
    """The document as it should be now."""
    shown = [one for one in hub.engine.whole.sessions.values() if one.state is not State.TRASHED]
    lines = ["# Plait", "", "Code actions on a session do what can be done with it."]
    if not shown:
        lines += ["", "There are no sessions: `plait run` starts one."]
    for session in views.in_review_order(shown):
        lines += ["", *_session(hub, session)]
    return "\n".join(lines) + "\n"


async def rewrite(hub: Hub) -> Path:
    """Make the document anew on disk, unless an editor has it open. Raises StorageError."""
    path = path_of(hub)
    if not any(LspEditor(connection).document(real(path)) for connection in hub.connections):
        try:
            private_directory(directory(hub))
            await asyncio.to_thread(write_durably, path, text(hub).encode("utf-8", "replace"))
        except OSError as error:
            raise StorageError(f"Could not write {path}: {error.strerror}.") from error
    return path


async def refresh(hub: Hub, connection: Connection) -> None:
    """Bring the document in an editor up to date by an edit there."""
    path = real(path_of(hub))
    document = LspEditor(connection).document(path)
    after = text(hub)
    if document is None or document.text == after:
        return
    old, new = split(document.text.encode("utf-8", "surrogatepass")), split(after.encode("utf-8", "replace"))
    changes = [TextEdit(edit.a1, edit.a2, tuple(new[edit.b1 : edit.b2])) for edit in edits(old, new)]
    try:
        await LspEditor(connection).edit(path, document.text, changes, after, "Plait: dashboard")
    except PlaitError as error:
        log.info("%s is not brought up to date: %s", path, error)


def actions_at(hub: Hub, document: Document, span: t.Range) -> list[t.CodeAction]:
    """What can be done with the session at a place of the document."""
    session = _session_at(hub, document.text, span.start.line)
    if session is None:
        return []
    can = _can(session)
    return [
        t.CodeAction(
            title=f"{title}: {session.spec.task.title}",
            kind=f"quickfix.plait.{name}",
            command=t.Command(title=title, command=command, arguments=[{"session": session.id}]),
        )
        for name, (title, command) in ACTIONS.items()
        if name in can
    ]


def _session_at(hub: Hub, document: str, line: int) -> Session | None:
    for row in reversed(document.split("\n")[: line + 1]):
        heading = _HEADING.match(row)
        if heading:
            try:
                return hub.session(heading[1])
            except PlaitError:
                return None
    return None


def _can(session: Session) -> set[str]:
    can = set(views.actions(session))
    if session.snapshot is not None and session.snapshot.files and session.state is not State.MERGED:
        can.add("review")
    if comments.waiting(session) and session.state is not State.MERGED:
        can.add("send")
    return can


def _session(hub: Hub, session: Session) -> Iterator[str]:
    view: dict[str, Any] = views.session_view(hub.engine, session)
    yield f"## {view['state']}: {plain(view['title'])} `{view['short']}`"
    yield ""
    figures = f"{view['files']} files, +{view['added']} -{view['removed']}"
    yield " · ".join([plain(view["agent"]), figures, f"`{view['branch'].replace('`', '')}`"])
    said = [view["reason"]] if view["reason"] else []
    said += [asked["title"] for asked in view["requests"] if asked["title"] != view["reason"]]
    said += [view["activity"]] if view["activity"] else []
    for words in said:
        yield from ["", plain(words)]
    for asked in view["requests"]:
        choices = [option["label"] for option in asked["options"]]
        choices += [choice for question in asked["questions"] for choice in question["choices"]]
        yield from ["", f"- asks: {plain(asked['title'])}" + (f" ({plain(', '.join(choices))})" if choices else "")]
        yield f"- answer: `plait answer {view['short']}`"
    waiting = comments.waiting(session)
    if waiting:
        yield from ["", f"{waiting} of your comments and rejections are not sent: `plait send {view['short']}`"]
    if "review" in _can(session):
        yield from [
            "",
            f"[The review as a document]({uri_of(review_of(hub, session.id))}) (`plait review {view['short']} --file`)",
        ]


def plain(words: str) -> str:
    """Text of an agent or a user as one line of plain words in Markdown: no link, no command, no formatting."""
    line = "".join(c if c.isprintable() else " " for c in words)
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#!|~" else c for c in " ".join(line.split()))[:400]
