"""Brings what agents ask to each editor: as a message with the agent's own options, or as a notification of ours.

A request is shown in every editor that it concerns until it has been answered in one of them, or taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lsprotocol import types as t
from pygls.uris import to_fs_path

from plait.core import reports as r
from plait.core.sessions import Session
from plait.engine import talk, views
from plait.engine.store import write_durably
from plait.errors import NothingToDo, PlaitError
from plait.lsp.answers import ClientError, DisconnectedError
from plait.lsp.connection import Connection
from plait.lsp.documents import Happening
from plait.lsp.editor import real
from plait.lsp.hub import Hub
from plait.paths import private_directory

log = logging.getLogger(__name__)

SHOW = "Show"
"""The action that opens the request with all that belongs to it."""

INPUT_ROWS, ROW_CHARACTERS = 6, 200
"""How much of a request's input a message shows."""

_ORDER: tuple[r.OptionKind, ...] = (
    "allow_once",
    "allow_session",
    "allow_always",
    "reject_once",
    "reject_always",
    "cancel_turn",
)


@dataclass(frozen=True)
class _Asking:
    """A message that stands in the editor."""

    asked: r.Asked
    task: asyncio.Task[None]


@dataclass
class _Told:
    """What one editor has been told of a session's requests."""

    asking: _Asking | None = None
    dismissed: set[str] = field(default_factory=set)
    """Open requests that the user put aside here, as JSON: asked again only when they change."""
    sent: Mapping[str, Any] | None = None
    """The last notification of ours."""


class Asker:
    """Tells one editor of the requests of agents that work for its workspace; at most one message per session."""

    def __init__(self, hub: Hub, connection: Connection) -> None:
        self._hub = hub
        self._connection = connection
        self._told: dict[str, _Told] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def document(self, happening: Happening, uri: str) -> None:
        """A document that was opened may make a repository this editor's concern."""
        if happening is Happening.OPENED:
            for session in self._hub.engine.whole.sessions.values():
                if session.requests:
                    self.session(session)

    def session(self, session: Session) -> None:
        """A session changed."""
        told = self._told.get(session.id)
        if told is None:
            if not session.requests:
                return
            told = self._told[session.id] = _Told()
        if self._connection.client.wants("requests"):
            self._notify(session, told)
        else:
            self._show(session, told)

    def files(self, session: Session, paths: frozenset[str]) -> None:
        """What a session changes in files is no request."""

    def close(self) -> None:
        """The editor is gone; an answer that it gave is still carried out."""
        for told in self._told.values():
            if told.asking is not None:
                told.asking.task.cancel()

    def _notify(self, session: Session, told: _Told) -> None:
        params = {
            "session": session.id,
            "title": session.spec.task.title,
            "agent": session.spec.agent.name,
            "here": concerns(self._connection, session),
            "requests": views.requests_view(session),
        }
        if told.sent is None and not params["requests"]:
            return
        if params != told.sent and self._connection.notify("plait/didChangeRequests", params):
            told.sent = params

    def _show(self, session: Session, told: _Told) -> None:
        open_ = list(session.requests.values()) if session.requests and concerns(self._connection, session) else []
        told.dismissed &= {asked.model_dump_json() for asked in open_}
        if told.asking is not None:
            if told.asking.asked in open_:
                return
            # The editor is told that its answer is not wanted any more.
            told.asking.task.cancel()
            told.asking = None
        following = next((asked for asked in open_ if asked.model_dump_json() not in told.dismissed), None)
        if following is not None:
            task = asyncio.create_task(self._ask(session, following, told))
            told.asking = _Asking(following, task)

    async def _ask(self, session: Session, asked: r.Asked, told: _Told) -> None:
        """Put one message up, and do what the user makes of it."""
        answers = _answers(asked)
        if not answers and not self._can_show:
            self._say(_message(session, asked), t.MessageType.Warning)
            chosen = None
        else:
            try:
                chosen = await self._chosen(session, asked, answers)
            except DisconnectedError:
                return
            except ClientError as error:
                log.info("%s shows no messages: %s", self._connection.client.name, error)
                chosen = None
        # From here on the answer must not be cancelled with the message, by the very change that it brings.
        told.asking = None
        if chosen is None:
            told.dismissed.add(asked.model_dump_json())
        else:
            answering = asyncio.create_task(self._answer(session.id, chosen))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)
            await asyncio.shield(answering)
        with contextlib.suppress(PlaitError):
            self._show(self._hub.engine.session(session.id), told)

    async def _chosen(self, session: Session, asked: r.Asked, answers: Mapping[str, talk.Reply]) -> talk.Reply | None:
        """The user's answer; none if the message was dismissed."""
        titles = [*answers, *([SHOW] if self._can_show else [])]
        while True:
            params = t.ShowMessageRequestParams(
                type=t.MessageType.Warning if asked.kind == "permission" else t.MessageType.Info,
                message=_message(session, asked),
                actions=[t.MessageActionItem(title=title) for title in titles],
            )
            item = await self._connection.request(t.WINDOW_SHOW_MESSAGE_REQUEST, params)
            title = getattr(item, "title", None)
            if title != SHOW or SHOW not in titles:
                return answers.get(str(title))
            await self._open(session, asked)
            # Having seen it, the user is asked once more.
            titles.remove(SHOW)
            if not answers:
                return None

    async def _answer(self, session: str, reply: talk.Reply) -> None:
        try:
            await talk.answer(self._hub.engine, session, replace(reply, by=self._connection.client.name))
        except NothingToDo as error:
            # Somebody was faster, or the agent went on without an answer.
            log.info("%s", error)
        except PlaitError as error:
            self._say(f"The answer was not given: {error}", t.MessageType.Error)

    @property
    def _can_show(self) -> bool:
        window = self._connection.client.capabilities.window
        return bool(window and window.show_document and window.show_document.support)

    async def _open(self, session: Session, asked: r.Asked) -> None:
        """Open the request as a document of its own."""
        try:
            directory = private_directory(self._hub.engine.store.directory(session.id) / "shown")
            path = directory / "request.md"
            # In a thread with the comparing: two long texts that have little in common take long to be compared.
            await asyncio.to_thread(_write_page, path, session, asked)
            params = t.ShowDocumentParams(uri=path.as_uri(), take_focus=True)
            await self._connection.request(t.WINDOW_SHOW_DOCUMENT, params)
        except (PlaitError, OSError) as error:
            self._say(f"The request could not be shown: {error}", t.MessageType.Error)

    def _say(self, text: str, kind: t.MessageType) -> None:
        self._connection.server.window_show_message(t.ShowMessageParams(type=kind, message=text))


def concerns(connection: Connection, session: Session) -> bool:
    """Whether the editor has the session's repository open, or its worktree, or a file of one of them."""
    roots = [Path(top) for top in (session.spec.repo.top, session.spec.worktree) if top is not None]
    client = connection.client
    folders = [Path(os.path.realpath(path)) for uri in client.folders if (path := to_fs_path(uri))]
    if not folders and client.forwarder and client.forwarder.cwd:
        folders = [Path(os.path.realpath(client.forwarder.cwd))]
    if any(folder.is_relative_to(root) or root.is_relative_to(folder) for folder in folders for root in roots):
        return True
    paths = [real(document.path) for document in connection.documents if document.path is not None]
    return any(path.is_relative_to(root) for path in paths for root in roots)


def request_page(session: Session, asked: r.Asked) -> str:
    """The request in Markdown, with its whole input and its changes as diffs."""
    parts = [
        f"# {_line(asked.title)}",
        f"{_line(session.spec.agent.name)} asks, for “{_line(session.spec.task.title)}”.",
    ]
    if asked.reason:
        parts.append(_line(asked.reason))
    if asked.tool:
        parts.append(f"With {_line(asked.tool)}:" if asked.input.strip() else f"With {_line(asked.tool)}.")
    if asked.input.strip():
        parts.append(_fenced(asked.input, ""))
    for diff in asked.diffs:
        parts += [f"## {_line(diff.path)}", _fenced(_unified(diff), "diff")]
    for question in asked.questions:
        parts.append("\n".join([f"**{_line(question.text)}**", *(f"- {_line(one)}" for one in question.choices)]))
    return "\n\n".join([*parts, _how(session, asked)]) + "\n"


def _write_page(path: Path, session: Session, asked: r.Asked) -> None:
    write_durably(path, request_page(session, asked).encode("utf-8", "replace"))


def _answers(asked: r.Asked) -> dict[str, talk.Reply]:
    """What each action of the message answers: the choices of a single question, and the agent's options."""
    found: list[tuple[str, str, talk.Reply]] = []
    if len(asked.questions) == 1 and not asked.questions[0].several:
        question = asked.questions[0]
        found += [
            (choice, choice, talk.Reply(request=asked.id, answers={question.id: (choice,)}))
            for choice in question.choices
        ]
    for option in sorted(asked.options, key=lambda option: _ORDER.index(option.kind)):
        found.append((option.label or option.id, option.id, talk.Reply(request=asked.id, option=option.id)))
    answers: dict[str, talk.Reply] = {}
    for label, name, reply in found:
        title = _line(label)
        # Editors answer with the title alone, so that each must be another.
        answers[title if title not in (*answers, SHOW) else f"{title} ({_line(name)})"] = reply
    return answers


def _message(session: Session, asked: r.Asked) -> str:
    worktree = session.spec.worktree
    lines = [f"“{_line(session.spec.task.title)}” asks: {_line(views.within(worktree, asked.title))}"]
    if asked.reason:
        lines.append(_line(asked.reason))
    shown = [_line(row) for row in views.within(worktree, asked.input).splitlines() if row.strip()]
    if shown != [_line(asked.title)]:
        lines += shown[:INPUT_ROWS]
        lines += [f"… {len(shown) - INPUT_ROWS} more lines"] if len(shown) > INPUT_ROWS else []
    if asked.diffs:
        lines.append(f"It changes {', '.join(_line(views.within(worktree, diff.path)) for diff in asked.diffs)}.")
    lines += [_line(question.text) for question in asked.questions if question.text.strip() != asked.title.strip()]
    if not _answers(asked) or any(question.free or question.several for question in asked.questions):
        lines.append(_how(session, asked))
    return "\n".join(lines)


def _how(session: Session, asked: r.Asked) -> str:
    """How to answer where there are no buttons."""
    name = session.id[-8:]
    words = ' --text "…"' if len(asked.questions) == 1 else ""
    return f"Answer in a terminal: `plait answer {name}{words}`, or with the command plait.session.answer."


def _line(text: str) -> str:
    """One line of it without what could make an editor show something else."""
    line = "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
    return line if len(line) <= ROW_CHARACTERS else f"{line[: ROW_CHARACTERS - 1]}…"


def _unified(diff: r.FileDiff) -> str:
    if diff.unified is not None:
        return diff.unified
    old, new = ((side or "").splitlines() for side in (diff.old, diff.new))
    return "\n".join(difflib.unified_diff(old, new, "before", "after", lineterm=""))


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
