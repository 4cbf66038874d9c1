"""Owns the state: every change is an event, written down, applied, and followed by whatever is due next.

The loop is level-triggered: it asks `core.plan` what should be so and is not, and performs that. A restart therefore
needs no code of its own: the histories are loaded and the plan is made.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

from plait.core import admission, state
from plait.core.admission import Decision
from plait.core.config import UserConfig
from plait.core.events import Created, Event, Record
from plait.core.plan import ON_WORKTREE, Action, plan
from plait.core.sessions import Session
from plait.core.state import Whole
from plait.engine.conversations import Conversation
from plait.engine.machine import measure
from plait.engine.store import Store
from plait.engine.terminals import Terminals
from plait.errors import PlaitError, UsageError
from plait.paths import Places

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""How long an action rests after its result could not be written down."""

PREPARING = 4
"""Worktrees filled at the same time: more would only wait for the disk."""

THREADS = 32
"""Blocking calls at the same time."""

Perform = Callable[["Engine", Action], Awaitable[None]]


class Engine:
    """The sessions of one user: their state, their histories, and the loop that carries them on."""

    def __init__(
        self,
        places: Places,
        config: Callable[[], UserConfig],
        perform: Perform,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.places = places
        self.config = config
        self.clock = clock
        self.store = Store(places.state)
        self.whole = Whole()
        self.decisions: Mapping[str, Decision] = {}
        self.problems: tuple[str, ...] = ()
        """What the user should know about Plait itself: damage found, a full disk."""
        self.environments: dict[str, Mapping[str, str]] = {}
        """The environment that each session's asker passed on; kept in memory only, it may hold secrets."""
        self.latest_environment: Mapping[str, str] = {}
        self.listeners: list[Callable[[Session], None]] = []
        self.conversations: dict[str, Conversation] = {}
        """With the agents that are at work now, by session."""
        self.live: dict[str, tuple[int, int, int]] = {}
        """Files changed, lines added and lines removed up to now, of the running sessions that are followed."""
        self.terminals = Terminals()
        self._perform = perform
        self._busy: dict[Action, asyncio.Task[None] | None] = {}
        """What is being done, with its task if the plan began it."""
        self._troubles: dict[Action, str] = {}
        self._held: set[str] = set()
        self._holding: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._due = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self.preparing = asyncio.Semaphore(PREPARING)

    async def start(self) -> None:
        """Load every session and take up where things stand."""
        self._loop = asyncio.get_running_loop()
        # Threads here wait for git and for locks; a few long snapshots must not keep everybody else waiting.
        self._loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(THREADS, "plait"))
        loaded = await asyncio.to_thread(self.store.load)
        self.problems = loaded.problems
        folded = (state.fold(history) for history in loaded.histories.values())
        self.whole = Whole({session.id: session for session in folded if session is not None})
        self._loop_task = asyncio.create_task(self._run(), name="plan")
        self._due.set()

    async def stop(self) -> None:
        """Stop carrying sessions on; their processes have supervisors and are not touched."""
        tasks = [task for task in (*self._busy.values(), self._loop_task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.terminals.close()
        self.store.close()

    def session(self, session: str) -> Session:
        """The session of that id. Raises UsageError."""
        known = self.whole.sessions.get(session)
        if known is None:
            raise UsageError(f"There is no session {session}.", "`plait list` shows them.")
        return known

    def create(self, session: str, spec: Created, environment: Mapping[str, str]) -> Session:
        """Write down the intent of a new session; it starts when it is admitted. Raises StorageError."""
        record = Record(session=session, seq=0, at=self.clock(), event=spec)
        self.store.create(record)
        self.environments[session] = environment
        return self._apply([record])

    def submit(self, session: str, *events: Event) -> Session:
        """Write down what happened to a session and apply it. Raises StorageError, changing nothing."""
        known = self.session(session)
        now = self.clock()
        records = [
            Record(session=session, seq=known.seq + 1 + number, at=now, event=event)
            for number, event in enumerate(events)
        ]
        self.store.append(session, records)
        return self._apply(records)

    def tell(self, session: str) -> None:
        """Let listeners know that something about the session is new that is not written down."""
        known = self.whole.sessions.get(session)
        if known is not None:
            for listener in tuple(self.listeners):
                listener(known)

    def reason(self, session: Session) -> str:
        """Why the session stands where it does."""
        if session.requests:
            return next(iter(session.requests.values())).title
        decision = self.decisions.get(session.id)
        return decision.reason if session.state == "queued" and decision else session.reason

    def environment(self, session: str) -> Mapping[str, str]:
        """The environment for a session's processes; after a restart that of whoever spoke to the daemon last."""
        return self.environments.get(session) or self.latest_environment

    async def until(self, condition: Callable[[Whole], bool]) -> None:
        """Return as soon as the condition holds."""
        changed = asyncio.Event()

        def wake(_session: Session) -> None:
            changed.set()

        self.listeners.append(wake)
        try:
            while not condition(self.whole):
                changed.clear()
                await changed.wait()
        finally:
            self.listeners.remove(wake)

    @contextlib.contextmanager
    def claimed(self, action: Action) -> Iterator[None]:
        """Keep the plan from performing an action that the caller performs itself."""
        self._busy.setdefault(action, None)
        try:
            yield
        finally:
            if self._busy.get(action) is None:
                self._busy.pop(action, None)
            self._due.set()

    @contextlib.asynccontextmanager
    async def holding(self, session: str) -> AsyncIterator[None]:
        """Have a session's worktree to oneself: waits for what is being done there, and lets nothing begin."""
        async with self._holding[session]:
            self._held.add(session)
            try:
                begun = [self._busy[action] for action in self._busy if _is_on_worktree(action, session)]
                if tasks := [task for task in begun if task is not None]:
                    await asyncio.wait(tasks)
                yield
            finally:
                self._held.discard(session)
                self._due.set()

    def from_thread(self, call: Callable[[], object]) -> None:
        """Do something in the engine's own thread, and return, or raise what it raised, once it is done."""
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def perform() -> None:
            try:
                call()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(perform)
        done.result()

    def _apply(self, records: list[Record]) -> Session:
        for record in records:
            self.whole = state.apply(self.whole, record)
        session = self.whole.sessions[records[-1].session]
        self._due.set()
        for listener in tuple(self.listeners):
            listener(session)
        return session

    async def _run(self) -> None:
        while True:
            await self._pause()
            self._due.clear()
            try:
                await self._carry_on()
            except Exception:
                # A fault in one round must not be the end of all others.
                log.exception("making the plan failed")
                self._note_problem(f"Plait itself failed at making a plan; {self.places.log} has the details.")
                asyncio.get_running_loop().call_later(RETRY_S, self._due.set)

    async def _carry_on(self) -> None:
        """Begin everything that is due."""
        limits = self.config().limits
        queued = any(session.state == "queued" for session in self.whole.sessions.values())
        machine = await asyncio.to_thread(measure, self.places.data) if queued else admission.Machine()
        before = self.decisions
        self.decisions = admission.decide(self.whole, limits, machine, self.clock())
        self._tell_reasons(before)
        for action in plan(self.whole, self.decisions, frozenset(self._busy), frozenset(self._held)):
            self._busy[action] = asyncio.create_task(self._carry_out(action), name=str(action))

    async def _pause(self) -> None:
        """Wait until something happened, or until time alone may change a decision."""
        times = [decision.wake_at for decision in self.decisions.values() if decision.wake_at is not None]
        timeout = max(0.05, min(times) - self.clock()) if times else None
        try:
            async with asyncio.timeout(timeout):
                await self._due.wait()
        except TimeoutError:
            return

    def _tell_reasons(self, before: Mapping[str, Decision]) -> None:
        for session, decision in self.decisions.items():
            if before.get(session) != decision and session in self.whole.sessions:
                for listener in tuple(self.listeners):
                    listener(self.whole.sessions[session])

    async def _carry_out(self, action: Action) -> None:
        try:
            await self._perform(self, action)
        except PlaitError as error:
            # Nothing was lost: what was due is still due, and is tried again after a rest.
            log.warning("%s: %s", action, error)
            self._note_problem(str(error))
            self._troubles[action] = str(error)
            await asyncio.sleep(RETRY_S)
        except Exception:
            log.exception("%s failed", action)
            self._note_problem(f"Plait itself failed at {action}; {self.places.log} has the details.")
            await asyncio.sleep(RETRY_S)
        else:
            self._forget_trouble(action)
        finally:
            self._busy.pop(action, None)
            self._due.set()

    def _forget_trouble(self, action: Action) -> None:
        """What went well at last is no problem any more, unless it still is another action's."""
        trouble = self._troubles.pop(action, None)
        if trouble is not None and trouble not in self._troubles.values():
            self.problems = tuple(problem for problem in self.problems if problem != trouble)

    def _note_problem(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems = (*self.problems, problem)[-20:]


def _is_on_worktree(action: Action, session: str) -> bool:
    return isinstance(action, ON_WORKTREE) and action.session == session
