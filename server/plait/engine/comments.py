"""What the user says about a session's changes, kept with the session and told to its agent when that was asked for.

The agent is told at the boundary of a turn: if it rests, at once; if it works, when its turn has ended. That the user
asked for it is an event, and telling is an action of the plan, so that neither is lost with the daemon.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from plait.core import comments as words
from plait.core import events as e
from plait.core import naming
from plait.core.accept import Delete, FileOperation, Write, taken_back
from plait.core.changes import LINE_KINDS, SUBMODULE, Content, FileChange, Hunk
from plait.core.comments import Message, Rejection
from plait.core.lines import split
from plait.core.sessions import Session, State
from plait.engine import checkout, talk, worktrees
from plait.engine.changes import Changes, entries, recorded
from plait.engine.engine import Engine
from plait.engine.review import Reviews
from plait.errors import BusyError, NothingToDo, PlaitError, StorageError, UsageError
from plait.git import trees
from plait.paths import Places


@dataclass(frozen=True)
class Place:
    """What a comment is about: a hunk, a row of a file, or a file."""

    hunk: str | None = None
    path: str | None = None
    line: int | None = None
    side: e.Side = "agent"
    rows: Sequence[bytes] | None = field(default=None, repr=False)
    """The text that `line` counts in, if the caller has it: what the user has in an editor."""


@dataclass(frozen=True)
class Sent:
    """What came of asking for the comments to be sent."""

    session: Session
    comments: int
    """How many comments the agent is told now; none of them while it works."""
    rejections: int
    waits: bool
    """The agent works, and is told when its turn has ended."""
    left: int
    """How many comments and rejections did not fit into one message and wait for the next."""


async def comment(engine: Engine, reviews: Reviews, session_id: str, place: Place, text: str) -> e.Commented:
    """Keep a comment for the agent. Raises PlaitError."""
    session = engine.session(session_id)
    if session.state is State.TRASHED:
        raise UsageError("The session is in the trash.", "Restore it first.")
    text = text.strip()
    if not text:
        raise UsageError("The comment is empty.", "Say what you think of the change.")
    if len(text) > words.LONGEST:
        raise UsageError(f"The comment has {len(text)} characters.", f"At most {words.LONGEST} travel in one.")
    changes = await reviews.changes(session)
    fields = _about_hunk(changes, place.hunk) if place.hunk else await _about_file(session, changes, place)
    number = naming.new_id(int(engine.clock() * 1000), os.urandom(10))
    said = e.Commented.model_validate({"id": number, "text": text, **fields})
    engine.submit(session_id, said)
    return said


def remove(engine: Engine, session_id: str, name: str) -> e.Commented:
    """Take a comment back that was not sent; its id may be shortened. Raises PlaitError."""
    session = engine.session(session_id)
    found = naming.match_id(name, [one.id for one in session.comments])
    if isinstance(found, naming.NoSuchId):
        raise UsageError(found.message, f"`plait comments {session.id[-8:]}` shows them.")
    if found in session.sent:
        raise NothingToDo("The agent was told this comment already.")
    engine.submit(session_id, e.CommentRemoved(id=found))
    return next(one for one in session.comments if one.id == found)


async def send(engine: Engine, session_id: str, environment: Mapping[str, str], *, now: bool = False) -> Sent:
    """Have the agent told all comments and rejections it does not know: when it rests, or `now` in its turn.

    Returns when it is told, or at once if that has to wait. Raises PlaitError.
    """
    session = engine.session(session_id)
    if not session.unsent and not session.untold:
        raise NothingToDo("There is nothing that the agent was not told.", "`plait comment` says something to it.")
    if session.state in (State.MERGED, State.TRASHED):
        raise UsageError(f"A session that is {session.state} cannot go on.", "Retry it, or restore it first.")
    if session.trash_asked:
        raise BusyError("The session is on its way to the trash.", "Restore it then.")
    if now and session.live_run is not None:
        return await _interject(engine, session, environment)
    engine.environments[session_id] = environment or engine.environment(session_id)
    before = session
    session = session if session.send_asked else engine.submit(session_id, e.SendAsked())
    if not session.at_turn_boundary:
        return Sent(session, 0, 0, True, 0)
    await engine.until(lambda whole: not whole.sessions[session_id].send_asked)
    session = engine.session(session_id)
    sent, told = session.sent - before.sent, session.told_rejections - before.told_rejections
    if not sent and not told:
        raise PlaitError(session.notes[-1] if session.notes != before.notes else "The agent was not told.")
    return Sent(session, len(sent), len(told), False, _left(session, before))


async def deliver(engine: Engine, session: Session) -> None:
    """Tell the agent, and let it go on; what it must not keep is taken out of its worktree before that.

    Raises StorageError, after which it is tried again.
    """
    if not session.unsent and not session.untold:
        engine.submit(session.id, e.SendFailed(why="Nothing was left to send: the comments had been taken back."))
        return
    try:
        if session.live_run is not None:
            await _interject(engine, session, {})
            return
        if session.prepared is not None:
            await asyncio.to_thread(worktrees.verify, session)
        taken = await _take_out(engine, session)
        changes = (
            taken.changes if taken.changes is not None else await asyncio.to_thread(_changes, engine.places, session)
        )
    except StorageError:
        raise
    except PlaitError as error:
        engine.submit(session.id, e.SendFailed(why=f"Your comments could not be sent: {error}"))
        return
    events: list[e.Event] = [taken.after] if taken.after else []
    session = engine.session(session.id)
    if session.send_asked:
        told = _message(session, changes, taken)
        events += [e.CommentsSent(ids=told.comments, rejected=told.rejected), e.Resumed(message=told.text)]
    # Together, so that nothing comes between, and a crash leaves all of it or none.
    if events:
        engine.submit(session.id, *events)


@dataclass(frozen=True)
class _Taken:
    """What became of rejected hunks in a worktree."""

    changes: Changes | None = None
    """As they were before, if that had to be looked at."""
    out: frozenset[str] = frozenset()
    left: Mapping[str, str] = field(default_factory=dict)
    """Why others are still there, by hunk."""
    after: e.Snapshotted | None = None


async def _take_out(engine: Engine, session: Session) -> _Taken:
    """Take the rejected hunks out of the worktree of an agent that rests, between two snapshots. Raises PlaitError."""
    reviewed = session.snapshot
    if reviewed is None or session.prepared is None or not session.rejected:
        return _Taken()
    before = await asyncio.to_thread(worktrees.record_again, engine.places, session)
    if before is not None:
        # Written down before anything is changed, so that whatever else is in the worktree cannot be lost.
        session = engine.submit(session.id, before)
    taken = await asyncio.to_thread(_taken_out, engine.places, session, reviewed.tree)
    if not taken.out:
        return taken
    after = await asyncio.to_thread(worktrees.record_again, engine.places, session)
    return replace(taken, after=after)


def _taken_out(places: Places, session: Session, reviewed: str) -> _Taken:
    """Undo the rejected hunks in the files that are as the user reviewed them. Blocking; raises PlaitError."""
    assert session.snapshot is not None
    changes = recorded(places, session, session.snapshot.tree)
    seen = changes
    if reviewed != session.snapshot.tree:
        seen = recorded(places, session, reviewed)
    known = {change.path: change.agent for change in seen.files}
    left: dict[str, str] = {}
    chosen: list[tuple[FileChange, frozenset[str]]] = []
    for change in changes.files:
        ids = frozenset(hunk.id for hunk in change.hunks) & session.rejected
        if ids and known.get(change.path) != change.agent:
            left |= dict.fromkeys(ids, "The file has changed since the user looked at it.")
        elif ids:
            chosen.append((change, ids))
    out: set[str] = set()
    if chosen:
        _undo(places, session, chosen, out, left)
    return _Taken(changes, frozenset(out), left)


def _undo(
    places: Places,
    session: Session,
    chosen: Sequence[tuple[FileChange, frozenset[str]]],
    out: set[str],
    left: dict[str, str],
) -> None:
    assert session.snapshot is not None
    top = Path(session.spec.worktree)
    wanted = {change.path: taken_back([change], ids) for change, ids in chosen}
    replaced = {path: content for one in wanted.values() for path, content in one.items()}
    shadow = worktrees.shadow_of(places, session)
    with shadow.temporary() as scratch:
        tree = trees.write_tree(shadow, session.snapshot.tree, entries(replaced), scratch=scratch)
        there = [path for path, content in replaced.items() if content is not None]
        # As a checkout would write them, so that line ends and filters come out as the agent knows them.
        goal = trees.smudged(shadow, tree, there, scratch=scratch)
        was = trees.smudged(shadow, session.snapshot.tree, [change.path for change, _ in chosen if change.agent])
    for change, ids in chosen:
        if any(side is not None and side.mode == SUBMODULE for side in (change.base, change.agent)):
            left |= dict.fromkeys(ids, "It is a submodule.")
            continue
        expected: dict[str, Content | None] = dict.fromkeys(wanted[change.path])
        if change.agent is not None:
            expected[change.path] = Content(was[change.path], change.agent.mode)
        operations: list[FileOperation] = []
        for path, content in sorted(wanted[change.path].items(), key=lambda item: item[1] is not None):
            after = None if content is None else Content(goal[path], content.mode)
            if after is not None:
                operations.append(Write(path, after))
            elif expected[path] is not None:
                operations.append(Delete(path))
        try:
            checkout.apply(top, operations, expected, allow_escaping_links=True)
        except PlaitError as error:
            left |= dict.fromkeys(ids, error.message)
            continue
        out |= ids


def _changes(places: Places, session: Session) -> Changes:
    """The changes that rejections are quoted from. Blocking; raises PlaitError."""
    if session.snapshot is None or not session.rejected:
        return Changes(session.spec.base, ())
    return recorded(places, session, session.snapshot.tree)


def _message(session: Session, changes: Changes, taken: _Taken) -> Message:
    untold = {verdict.hunk: verdict for verdict in session.untold}
    # What was told before and is there again, the agent has brought back.
    due = untold.keys() | taken.out | taken.left.keys()
    there = [(change, hunk) for change in changes.files for hunk in change.hunks if hunk.id in due]
    rejections = [_rejection(session, change, hunk, taken) for change, hunk in there]
    # The agent has changed these since; what the user said of them may still matter.
    rejections += [
        Rejection(verdict.hunk, verdict.path, None, (), verdict.why, "gone")
        for verdict in untold.values()
        if verdict.hunk not in {hunk.id for _, hunk in there}
    ]
    return words.message(session.unsent, rejections)


def _rejection(session: Session, change: FileChange, hunk: Hunk, taken: _Taken) -> Rejection:
    line = hunk.new_start if hunk.kind in LINE_KINDS else None
    reason = taken.left.get(hunk.id, "The agent was at work.")
    fate: words.Fate = "taken out" if hunk.id in taken.out else "still there"
    quote = words.quote_of(hunk, change.binary)
    verdict = session.verdicts.get(hunk.id)
    why = verdict.why if verdict else None
    return Rejection(hunk.id, change.path, line, quote, why, fate, "" if fate == "taken out" else reason)


async def _interject(engine: Engine, session: Session, environment: Mapping[str, str]) -> Sent:
    """Tell an agent whose process is alive; its worktree is its own meanwhile. Raises PlaitError."""
    changes = await asyncio.to_thread(_changes, engine.places, session)
    told = _message(session, changes, _Taken())
    await talk.say(engine, session.id, told.text, environment)
    after = engine.submit(session.id, e.CommentsSent(ids=told.comments, rejected=told.rejected))
    return Sent(after, len(told.comments), len(told.rejected), False, _left(after, session))


def _left(session: Session, before: Session) -> int:
    known = {one.id for one in before.unsent} | {one.hunk for one in before.untold}
    return len(known & ({one.id for one in session.unsent} | {one.hunk for one in session.untold}))


def _about_hunk(changes: Changes, name: str) -> dict[str, object]:
    for change in changes.files:
        for hunk in change.hunks:
            if hunk.id == name:
                line = hunk.new_start if hunk.kind in LINE_KINDS else None
                quote = words.quote_of(hunk, change.binary)
                return {"path": change.path, "hunk": hunk.id, "line": line, "quote": quote}
    raise UsageError(f"There is no hunk {name} any more.", "The agent has changed it since, or it never was there.")


async def _about_file(session: Session, changes: Changes, place: Place) -> dict[str, object]:
    if place.path is None:
        raise UsageError("A comment on what?", "Name a hunk, a file, or a file and a line.")
    path = place.path
    change = next((file for file in changes.files if path in (file.path, file.old_path)), None)
    rows, side = place.rows, place.side
    if rows is None:
        rows = await asyncio.to_thread(_rows, session, change, path, side)
    if rows is None:
        raise UsageError(f"The session has no file {path}.", f"`plait diff {session.id[-8:]} --stat` shows its files.")
    found: dict[str, object] = {"path": change.path if change is not None and side == "agent" else path, "side": side}
    if place.line is None:
        return found
    if not 0 <= place.line < len(rows):
        raise UsageError(f"{path} has no line {place.line + 1}.", f"It has {len(rows)}.")
    hunk = words.hunk_at(change, place.line) if change is not None and side == "agent" else None
    quote = (words.shown(rows[place.line]),)
    return {**found, "line": place.line, "hunk": hunk.id if hunk else None, "quote": quote}


def _rows(session: Session, change: FileChange | None, path: str, side: e.Side) -> list[bytes] | None:
    """The text on a side; none if there is no such file. Blocking; raises PlaitError."""
    if change is not None and side != "user":
        content = change.agent if side == "agent" else change.base
        return None if content is None else split(content.data)
    worktree = session.spec.worktree if session.prepared is not None and session.trash_place is None else None
    top = session.spec.repo.top if side == "user" or worktree is None else worktree
    content = checkout.read(Path(top), path) if top is not None and Path(top).is_dir() else None
    return None if content is None else split(content.data)


def waiting(session: Session) -> int:
    """How much there is that the agent was not told."""
    return len(session.unsent) + len(session.untold)


def of_hunk(session: Session, hunk: str) -> Collection[e.Commented]:
    """The comments on a hunk that were not sent."""
    return [one for one in session.unsent if one.hunk == hunk]
