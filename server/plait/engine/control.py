"""What a user can do with a session: stop, resume, retry, finish, trash, restore, clean up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plait.core import events as e
from plait.core import plan
from plait.core.sessions import LIVE, RESTING, Session, State
from plait.engine import launch, worktrees
from plait.engine.engine import Engine
from plait.engine.review import Reviews
from plait.errors import BusyError, NothingToDo, PlaitError, StorageError, UsageError
from plait.git import reads
from plait.git import repo as repos
from plait.git.finish import Finished, FinishIntent, finish
from plait.git.removal import size


async def run(engine: Engine, request: launch.Request) -> list[Session]:
    """Create the sessions that the request asks for; they start as they are admitted. Raises PlaitError."""
    specified = await asyncio.to_thread(launch.specify, engine, request)
    created: list[Session] = []
    for session, spec in specified:
        try:
            created.append(engine.create(session, spec, request.environment))
        except StorageError as error:
            if not created:
                raise
            made = f"{len(created)} of {len(specified)} sessions were created and go on."
            raise StorageError(f"{error.message} {made}", error.hint) from error
    return created


async def stop(engine: Engine, session_id: str) -> Session:
    """End the session's process, or keep it from starting; what it did so far stays."""
    session = engine.session(session_id)
    if session.state is not State.QUEUED and session.state not in LIVE:
        raise NothingToDo(f"The session is not running; it is {session.state}.")
    return session if session.stop_asked else engine.submit(session_id, e.StopAsked())


async def resume(engine: Engine, session_id: str, message: str | None, environment: Mapping[str, str]) -> Session:
    """Let the session go on in its worktree, with a message if one is given."""
    session = engine.session(session_id)
    if session.state in LIVE or session.state is State.QUEUED:
        raise BusyError(f"The session is {session.state}.", "Wait until it rests, or stop it.")
    if session.state not in (State.READY, State.APPLIED, State.STOPPED, State.FAILED):
        raise UsageError(f"A session that is {session.state} cannot go on.", "Retry it, or restore it first.")
    if session.trash_asked:
        raise BusyError("The session is on its way to the trash.", "Restore it then.")
    engine.environments[session_id] = environment or engine.environment(session_id)
    return engine.submit(session_id, e.Resumed(message=message))


async def retry(engine: Engine, session_id: str, environment: Mapping[str, str]) -> Session:
    """Give the session's task to a new session, which starts from the same base; the old one stays as it is."""
    old = engine.session(session_id)
    if old.state in LIVE or old.state is State.QUEUED:
        raise BusyError(f"The session is {old.state}.", "Stop it first.")
    new_id, spec = await asyncio.to_thread(launch.again, engine, old)
    new = engine.create(new_id, spec, environment or engine.environment(session_id))
    engine.submit(session_id, e.Retried(by=new_id))
    return new


async def merge(
    engine: Engine, reviews: Reviews, session_id: str, how: e.FinishKind, into: str | None
) -> tuple[str, Finished]:
    """Bring the session's work, without the hunks that were rejected, into a branch: its name and where it is now.

    Raises PlaitError, changing nothing.
    """
    _mergeable(engine.session(session_id))
    key = engine.session(session_id).spec.repo.key
    async with reviews.writing(key), engine.holding(session_id):
        session = await _recorded_again(engine, _mergeable(engine.session(session_id)))
        if session.snapshot is None or session.snapshot.files + session.snapshot.commits == 0:
            raise NothingToDo("The session changed nothing.")
        tree = await reviews.reviewed_tree(session)
        return await _merge(engine, session, how, into, tree)


def _mergeable(session: Session) -> Session:
    """The session, if it rests; raises PlaitError otherwise."""
    if session.state is State.MERGED:
        raise NothingToDo(f"The session was merged already: {session.reason}")
    if session.state not in RESTING or session.trash_asked:
        raise BusyError(f"The session is {session.state}.", "Wait until it rests, or stop it.")
    return session


async def _merge(
    engine: Engine, session: Session, how: e.FinishKind, into: str | None, tree: str
) -> tuple[str, Finished]:
    session_id = session.id
    if session.finishing is not None:
        raise BusyError(
            f"An earlier merge into {session.finishing.into} was interrupted and is not settled yet.",
            "`git status` shows whether files of your checkout are in its way; Plait tries again by itself.",
        )

    def journal(intent: FinishIntent) -> None:
        asked = e.FinishAsked(how=how, into=intent.into, previous=intent.previous, commit=intent.commit)
        engine.from_thread(lambda: engine.submit(session_id, asked))

    with engine.claimed(plan.Settle(session_id)):
        try:
            branch, finished = await asyncio.to_thread(_finish, engine, session, how, into, tree, journal)
        except PlaitError as error:
            if engine.session(session_id).finishing is not None:
                engine.submit(session_id, e.FinishFailed(why=str(error)))
            raise
        engine.submit(session_id, e.Merged(how=how, into=branch, commit=finished.commit))
    return branch, finished


async def trash(engine: Engine, session_id: str) -> Session:
    """Move the session's worktree to the trash; returns when it is there. Raises PlaitError."""
    session = engine.session(session_id)
    if session.state is State.TRASHED:
        raise NothingToDo("The session is in the trash already.")
    if session.state in LIVE:
        raise BusyError(f"The session is {session.state}.", "Stop it first.")
    engine.submit(session_id, e.TrashAsked())
    await engine.until(lambda whole: not whole.sessions[session_id].trash_asked)
    session = engine.session(session_id)
    if session.state is not State.TRASHED:
        raise PlaitError(session.notes[-1])
    return session


async def restore(engine: Engine, session_id: str) -> Session:
    """Bring a session back from the trash. Raises PlaitError."""
    async with engine.holding(session_id):
        session = engine.session(session_id)
        if session.state is not State.TRASHED:
            raise NothingToDo("The session is not in the trash.")
        if session.purged:
            raise UsageError("The trash was emptied: its worktree is gone for good.", "Retry its task instead.")
        await asyncio.to_thread(worktrees.restore, engine.places, session)
        return engine.submit(session_id, e.Restored())


@dataclass
class Cleaned:
    """What a clean-up did or would do; sizes in bytes."""

    trashed: list[tuple[str, int]] = field(default_factory=list)
    purged: list[tuple[str, int]] = field(default_factory=list)
    kept: list[tuple[str, int, str]] = field(default_factory=list)


async def clean(engine: Engine, reviews: Reviews, *, dry_run: bool, empty_trash: bool, key: str | None) -> Cleaned:
    """Move what is finished to the trash, and empty the trash only if that was asked for.

    What cannot be cleaned is kept, with the reason, and holds up nothing else.
    """
    cleaned = Cleaned()
    chosen = [session.id for session in engine.whole.sessions.values() if key in (None, session.spec.repo.key)]
    for session_id in chosen:
        used = await disk_use(engine.session(session_id))
        try:
            if await _is_finished(engine, reviews, session_id):
                if not dry_run:
                    await trash(engine, session_id)
                cleaned.trashed.append((session_id, used))
                continue
        except PlaitError as error:
            cleaned.kept.append((session_id, used, str(error)))
            continue
        session = engine.session(session_id)
        if session.state is not State.TRASHED and session.prepared is not None:
            cleaned.kept.append((session_id, used, f"It is {session.state}."))
    for session_id in chosen if empty_trash else ():
        session = engine.session(session_id)
        if session.state is not State.TRASHED or session.purged:
            continue
        used = await disk_use(session)
        try:
            if not dry_run:
                await _purge(engine, session_id)
            cleaned.purged.append((session_id, used))
        except PlaitError as error:
            cleaned.kept.append((session_id, used, str(error)))
    return cleaned


async def _is_finished(engine: Engine, reviews: Reviews, session_id: str) -> bool:
    if engine.session(session_id).state is State.APPLIED:
        # The user's text may have changed since without anybody telling us.
        await reviews.settle(session_id)
    return engine.session(session_id).state in (State.MERGED, State.APPLIED)


async def _purge(engine: Engine, session_id: str) -> None:
    async with engine.holding(session_id):
        session = engine.session(session_id)
        if session.state is State.TRASHED and not session.purged:
            await asyncio.to_thread(worktrees.purge, engine.places, session)
            engine.submit(session_id, e.Purged())


async def disk_use(session: Session) -> int:
    """The bytes that the session's worktree takes, in its place or in the trash."""
    place = session.trash_place or (session.spec.worktree if session.prepared else None)
    return await asyncio.to_thread(size, Path(place)) if place else 0


async def _recorded_again(engine: Engine, session: Session) -> Session:
    """The session with a snapshot of its worktree as it is now: the user may have worked in it too."""
    if session.snapshot is None or session.prepared is None:
        return session
    taken = await asyncio.to_thread(worktrees.record_again, engine.places, session)
    return session if taken is None else engine.submit(session.id, taken)


def _finish(
    engine: Engine,
    session: Session,
    how: e.FinishKind,
    into: str | None,
    tree: str,
    journal: Callable[[FinishIntent], None],
) -> tuple[str, Finished]:
    assert session.snapshot is not None
    shadow = worktrees.shadow_of(engine.places, session)
    branch = into or repos.current_branch(shadow.repo) or repos.default_branch(shadow.repo)
    if branch is None:
        raise UsageError("Into which branch?", "HEAD is on none; name one with --into.")
    done = finish(
        shadow,
        into=branch,
        how=how,
        work=reads.parent(shadow, session.snapshot.commit),
        tree=tree,
        message=_message(session),
        identity=repos.identity(shadow.repo),
        journal=journal,
    )
    return branch, done


def _message(session: Session) -> str:
    """The commit message for work that the agent did not commit itself: the task in the user's words."""
    task = session.spec.task
    body = task.prompt.strip()
    return task.title if body == task.title else f"{task.title}\n\n{body}"
