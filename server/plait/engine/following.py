"""Follows the worktrees of the running sessions, so that everybody sees what their agents changed moments ago.

Something is done only where something was touched: a session that does nothing costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from plait.core.sessions import LIVE, Session
from plait.engine.changes import Changes, peek
from plait.engine.engine import Engine
from plait.engine.live import LiveTree, counted
from plait.engine.watching import Touched, Watcher
from plait.errors import PlaitError
from plait.paths import private_directory

log = logging.getLogger(__name__)

BATCH_S = 0.1
"""How long it is waited after the first report for those that come with it."""

LOOK_S = 2.0
"""How often a worktree that cannot be watched is looked at, at most."""

SHARE = 10
"""Looking at such a worktree takes at most this part of the time."""

TOO_MANY = (
    "There are not enough watches for all worktrees, so that changes of running agents are seen some seconds late. "
    "`sysctl fs.inotify.max_user_watches` says how many directories may be watched; raise it."
)

Listener = Callable[[Session, frozenset[str]], None]
"""Told of a running session whose changes are others than before, with the paths of the files concerned."""


@dataclass
class _Followed:
    """A session that is followed."""

    place: tempfile.TemporaryDirectory[str]
    tree: LiveTree | None = None
    """None until the worktree was looked at for the first time."""
    seen: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Following:
    """The live changes of all running sessions."""

    def __init__(self, engine: Engine) -> None:
        self.listeners: list[Listener] = []
        self._engine = engine
        self._watcher: Watcher | None = None
        self._followed: dict[str, _Followed] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._due: asyncio.TimerHandle | None = None

    async def start(self, *, portable: bool = False, limit: int | None = None) -> None:
        """Follow every session that runs, now and later; for the parameters see `Watcher`."""
        try:
            loop = asyncio.get_running_loop()
            self._watcher = Watcher(lambda: _in(loop, self._told), portable=portable, limit=limit)
        except OSError as error:
            # Without it a running session is looked at when somebody asks.
            log.warning("Worktrees are not watched: %s", error)
            self._problem(f"Worktrees are not watched: {error.strerror}. Changes of running agents are seen on asking.")
            return
        self._engine.listeners.append(self._session_changed)
        for session in self._engine.whole.sessions.values():
            self._session_changed(session)

    async def stop(self) -> None:
        """Follow nothing any more."""
        if self._session_changed in self._engine.listeners:
            self._engine.listeners.remove(self._session_changed)
        if self._due is not None:
            self._due.cancel()
        for session in list(self._followed):
            self._let_go(session)
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.close)
            self._watcher = None

    def known(self, session: str) -> bool:
        """Whether the changes of the running session are at hand."""
        followed = self._followed.get(session)
        return followed is not None and followed.seen

    async def changes(self, session: Session) -> Changes:
        """What the running session changed up to now, on Linux up to this call. Raises PlaitError."""
        followed = self._followed.get(session.id)
        if followed is None or self._watcher is None:
            return await asyncio.to_thread(peek, self._engine.places, session)
        self._watcher.flush()
        await self._look(session.id, followed)
        assert followed.tree is not None
        if not followed.tree.watched:
            return await asyncio.to_thread(peek, self._engine.places, session)
        return followed.tree.changes

    def _session_changed(self, session: Session) -> None:
        live = session.state in LIVE and session.prepared is not None
        if live and session.id not in self._followed:
            self._follow(session)
        elif not live and session.id in self._followed:
            self._let_go(session.id)

    def _follow(self, session: Session) -> None:
        try:
            place = private_directory(self._engine.places.state / "live")
            followed = _Followed(tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True))
        except (OSError, PlaitError) as error:
            log.warning("%s is not followed: %s", session.id, error)
            return
        self._followed[session.id] = followed
        self._begin(session.id, followed)

    def _let_go(self, session: str) -> None:
        followed = self._followed.pop(session)
        self._engine.live.pop(session, None)

        async def end() -> None:
            for task in followed.tasks:
                task.cancel()
            # What runs in a thread goes on to its end, and its directory must be there until then.
            async with followed.lock:
                if self._watcher is not None:
                    await asyncio.to_thread(self._watcher.remove, session)
                await asyncio.to_thread(followed.place.cleanup)

        task = asyncio.create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _told(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(BATCH_S, self._take_batch)

    def _take_batch(self) -> None:
        self._due = None
        if self._watcher is not None:
            for session in self._watcher.waiting:
                followed = self._followed.get(session)
                if followed is None:
                    self._watcher.take(session)
                elif not followed.lock.locked():
                    self._begin(session, followed)

    def _begin(self, session: str, followed: _Followed) -> None:
        async def look() -> None:
            began = time.monotonic()
            try:
                await self._look(session, followed)
                again = not (followed.tree and followed.tree.watched)
                if again:
                    self._problem(TOO_MANY)
            except PlaitError as error:
                # Whoever asks is told the same.
                log.info("The changes of %s are not known: %s", session, error)
                again = True
            except Exception:
                log.exception("looking at what %s changed failed", session)
                again = True
            if again:
                await asyncio.sleep(max(LOOK_S, SHARE * (time.monotonic() - began)))
                if self._watcher is not None and self._followed.get(session) is followed:
                    self._watcher.give_back(session, Touched(lost=True))
                    self._begin(session, followed)

        task = asyncio.create_task(look())
        followed.tasks.add(task)
        task.add_done_callback(followed.tasks.discard)

    async def _look(self, session: str, followed: _Followed) -> None:
        """Look at what was touched, and tell if the changes are others. Raises PlaitError."""
        watcher = self._watcher
        assert watcher is not None
        async with followed.lock:
            touched = watcher.take(session)
            if followed.seen and touched == Touched():
                return
            known = self._engine.session(session)
            try:
                work = asyncio.ensure_future(asyncio.to_thread(self._update, known, followed, watcher, touched))
                # Somebody who asked may give up; what is half looked at would be lost.
                differing = await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                watcher.give_back(session, Touched(lost=True))
                raise
            except Exception:
                watcher.give_back(session, Touched(lost=True))
                raise
            followed.seen = True
        assert followed.tree is not None
        if session in watcher.waiting:
            self._told()
        if self._followed.get(session) is followed:
            self._engine.live[session] = counted(followed.tree.changes)
            if differing:
                self._engine.tell(session)
                for listener in tuple(self.listeners):
                    listener(self._engine.session(session), differing)

    def _update(self, session: Session, followed: _Followed, watcher: Watcher, touched: Touched) -> frozenset[str]:
        if followed.tree is None:
            followed.tree = LiveTree(self._engine.places, session, Path(followed.place.name), watcher)
        return followed.tree.update(touched)

    def _problem(self, problem: str) -> None:
        if problem not in self._engine.problems:
            self._engine.problems = (*self._engine.problems, problem)


def _in(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Make a call in the loop's own thread, soon."""
    loop.call_soon_threadsafe(call)
