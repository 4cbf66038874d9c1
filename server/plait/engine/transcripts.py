"""Reads conversations for people: replays a run's output through a driver of its own, live and after the fact."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from plait.agents.adapter import Driver, Effect
from plait.agents.registry import ADAPTERS
from plait.core import events as e
from plait.core import reports as r
from plait.core.sessions import Run, Session
from plait.core.transcript import Entry, Transcript
from plait.core.usage import NOTHING
from plait.engine.conversations import PIECE_BYTES, command_of
from plait.engine.engine import Engine
from plait.engine.perform import job_of, run_directory
from plait.engine.views import within
from plait.supervisor import runs

log = logging.getLogger(__name__)

KEPT = 8
"""Transcripts that are kept for whoever reads on."""

PAGE_CHARACTERS = 4 << 20
"""About so much is told at once: a client that is sent more than it reads is dropped."""


@dataclass
class _Read:
    """A run as far as it has been read."""

    driver: Driver
    transcript: Transcript
    log: str
    """The file that the driver reads."""
    offset: int = 0
    told: int = 0
    """How many of the user's words to this run have been taken in."""
    over: bool = False
    labels: dict[tuple[str, str], str] = field(default_factory=dict)
    """How each option of each request is called."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True)
class Page:
    """A part of a transcript: `next` is the change up to which it goes, `more` whether others came after it."""

    entries: list[dict[str, Any]]
    next: int
    more: bool
    over: bool
    """Whether the run is over, so that nothing will come after this."""


class Transcripts:
    """The transcripts that were asked for lately."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[tuple[str, int], _Read] = OrderedDict()

    async def read(self, session: Session, number: int, after: int) -> Page:
        """The entries that changed after that many changes. Raises PlaitError if the output cannot be read."""
        run = next(run for run in session.runs if run.number == number)
        read = self._kept.get((session.id, number)) or self._opened(session, run)
        self._kept[session.id, number] = read
        self._kept.move_to_end((session.id, number))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        async with read.lock:
            # Commands were given between certain bytes: no more is read than the conversation itself has read by now,
            # else one that is given next could come here too late.
            conversation = self._engine.conversations.get(session.id)
            session = self._engine.session(session.id)
            run = next(run for run in session.runs if run.number == number)
            reached = conversation.offset if conversation and conversation.run == number else read.offset
            end = None if run.ended is not None or run.kind != "agent" else reached
            await asyncio.to_thread(self._read_on, read, session, run, end)
            return _page(read, session.spec.worktree, after)

    def _opened(self, session: Session, run: Run) -> _Read:
        adapter = ADAPTERS[session.spec.agent.kind if run.kind == "agent" else "command"]
        earlier = [other.ended.thread for other in session.runs if other.number < run.number and other.ended]
        before = next((thread for thread in reversed(earlier) if thread is not None), NOTHING)
        told = runs.HOOKS if adapter.abilities.terminal else runs.OUTPUT
        read = _Read(adapter.driver(job_of(self._engine, session, run)), Transcript(before), told)
        if run.kind == "agent":
            opening = session.spec.task.prompt if session.agent_session_before(run.number) is None else ""
            read.transcript.user("\n\n".join(text for text in (opening, run.message) if text))
        _follow(read, read.driver.begin)
        return read

    def _read_on(self, read: _Read, session: Session, run: Run, end: int | None) -> None:
        if read.over:
            return
        directory = run_directory(self._engine, session.id, run.number)
        for event in session.told(run.number)[read.told :]:
            self._read_until(read, directory, event.offset)
            _take(read, event)
            read.told += 1
        self._read_until(read, directory, end)
        if run.ended is not None:
            read.over = True
            _follow(read, read.driver.close)

    def _read_until(self, read: _Read, directory: Any, end: int | None) -> None:
        while end is None or read.offset < end:
            limit = PIECE_BYTES if end is None else min(PIECE_BYTES, end - read.offset)
            data = runs.read_output(directory, read.offset, limit, read.log)
            if not data:
                return
            read.offset += len(data)
            _follow(read, partial(read.driver.feed, data))


def _take(read: _Read, event: e.Said | e.Answered | e.Interrupted) -> None:
    if isinstance(event, e.Said):
        read.transcript.user(event.text)
    elif isinstance(event, e.Answered):
        given = [", ".join(texts) for texts in event.answers.values()]
        label = read.labels.get((event.request, event.option or ""), event.option or "")
        read.transcript.answered(event.request, "; ".join(part for part in (label, *given, event.text) if part))
    _follow(read, partial(read.driver.take, command_of(event)))


def _follow(read: _Read, call: Callable[[], Sequence[Effect]]) -> None:
    """Add what the driver makes of it; a fault of ours in it hides no more than that part."""
    try:
        effects = call()
    except Exception:
        log.exception("the driver failed at %s, about byte %d", read.log, read.offset)
        effects = [r.Remark(text="Plait failed at reading a part of the agent's output; `plait log --raw` shows it.")]
    for effect in effects:
        _add(read, effect)


def _add(read: _Read, effect: object) -> None:
    if isinstance(effect, r.Asked):
        read.labels |= {(effect.id, option.id): option.label for option in effect.options}
    if isinstance(effect, r.Report):
        read.transcript.add(effect)


def _page(read: _Read, worktree: str, after: int) -> Page:
    """What changed first of all that changed after that many changes, as much of it as fits."""
    changed = sorted(read.transcript.since(after), key=lambda entry: entry.changed)
    views: list[dict[str, Any]] = []
    characters = 0
    for entry in changed:
        view = _view(entry, worktree)
        characters += len(repr(view))
        if views and characters > PAGE_CHARACTERS:
            return Page(views, changed[len(views) - 1].changed, more=True, over=False)
        views.append(view)
    return Page(views, read.transcript.changes, more=False, over=read.over)


def _view(entry: Entry, worktree: str) -> dict[str, Any]:
    """The entry with the names of files as they are in the worktree."""
    fields = dict(entry.fields)
    for name in ("places", "diffs"):
        if name in fields:
            fields[name] = [{**one, "path": within(worktree, one["path"])} for one in fields[name]]
    text = within(worktree, entry.text) if entry.kind in ("tool", "asked") else entry.text
    return {"entry": entry.number, "kind": entry.kind, "text": text, "whole": entry.whole, **fields}
