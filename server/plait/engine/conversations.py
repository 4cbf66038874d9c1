"""Follows what a working agent says, does what its driver asks for, and carries the user's words to it.

A conversation holds nothing that a restart could lose: its driver is rebuilt from the run's output and from what the
session's history says the user told the agent, at the places where it was told. Reports that the history has already
are recognised by their names and skipped, and the supervisor recognises writes that it has made.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path

from plait.agents.adapter import (
    Abilities,
    Adapter,
    Answer,
    Command,
    Effect,
    End,
    GiveUp,
    HangUp,
    Interrupt,
    Job,
    Outcome,
    SaveFile,
    Say,
    Write,
)
from plait.core import events as e
from plait.core import reports as r
from plait.core.progress import Progress, advance, is_kept, name_of
from plait.core.sessions import Session
from plait.core.usage import Tally
from plait.engine.saving import save
from plait.errors import BusyError, NothingToDo, PlaitError
from plait.supervisor import runs
from plait.supervisor.control import GoneError

log = logging.getLogger(__name__)

PIECE_BYTES = 256 << 10
"""How much is read before others get their turn."""

QUICK_S, SLOW_S = 0.02, 0.2
"""How often the output is looked at: right after something came, and while the agent is silent. Nobody but the agent
itself knows when it writes to its file."""

TELL_S = 0.25
"""At least this long between two notices of what an agent is at."""

GRACE_S = 5.0
"""How long an agent that is done may take to leave before it is ended."""

TAIL_BYTES = 64 << 10
"""Of an agent that only prints, no more of the output than this is read again after a restart."""

REACH_S = 10.0
"""How long what is to be written waits for a supervisor that died to be replaced."""

UNHEARD = (r.Began, r.Limit, r.Retry, r.Trouble, r.Remark, r.Unread, r.Delivered, r.Withdrawn)
"""What an agent may report without having taken up what it was told."""


class Conversation:
    """The conversation with one run of an agent, from its start, or from a restart of the daemon, to its end."""

    def __init__(
        self,
        session: Session,
        run: int,
        directory: Path,
        adapter: Adapter,
        job: Job,
        look: Callable[[], Session],
        submit: Callable[..., Session],
        tell: Callable[[], None],
    ) -> None:
        self.run = run
        self.directory = directory
        self.abilities: Abilities = adapter.abilities
        self.progress = Progress(tally=Tally(before=session.thread))
        self.offset = 0
        self._log = runs.HOOKS if adapter.abilities.terminal else runs.OUTPUT
        self._driver = adapter.driver(job)
        self._worktree = Path(session.spec.worktree)
        self._journal = session.told(run)
        self._known = Counter(session.reports.get(run, {}))
        self._open: dict[str, r.Asked] = {}
        """What the driver says that the agent waits for, without what has been answered."""
        # Of a terminal and of a mere command it cannot be told: what they are told they are started with.
        self.heard = adapter.abilities.terminal or not adapter.abilities.converses
        """Whether the agent took up what it was told at its start."""
        self._saved = session.saved
        self._look = look
        self._submit = submit
        self._tell = tell
        self._telling: asyncio.TimerHandle | None = None
        self._taking = asyncio.Lock()
        self._caught_up = asyncio.Event()
        self._begun = False
        self._ended = False
        self._closed = False
        self._failure: Exception | None = None
        """Why this conversation cannot go on: its driver is ahead of what was done."""
        self._told_now: set[asyncio.Task[_Told]] = set()
        self._hung_up = False
        self._leaving: asyncio.Task[None] | None = None

    async def follow(self) -> runs.Exit | runs.Lost:
        """Carry the conversation on until the run has ended or lost its supervisor. Raises PlaitError."""
        over = asyncio.create_task(runs.wait(self.directory))
        try:
            await self._catch_up()
            pause = QUICK_S
            while not over.done():
                self._check()
                if await self._read():
                    pause = QUICK_S
                    continue
                await asyncio.wait([over], timeout=pause)
                pause = min(pause * 1.5, SLOW_S)
            return await over
        finally:
            over.cancel()
            await asyncio.gather(over, return_exceptions=True)

    async def finish(self, ended: runs.Exit) -> Outcome:
        """What came of the run, after the last of its output. Raises PlaitError."""
        self._ended = True
        try:
            self._check()
            await self._catch_up()
            while await self._read():
                pass
            async with self._taking:
                await self._perform(self._safely(self._driver.close))
        finally:
            await self.close()
        complaints = await asyncio.to_thread(runs.read_errors, self.directory)
        end = End(
            ended.code,
            ended.signal,
            ended.unknown,
            ended.reason,
            ended.error,
            complaints.decode("utf-8", "replace"),
        )
        return self._driver.outcome(end)

    async def say(self, said: e.Said) -> Session:
        """Tell the agent something; the driver decides whether now or after its turn."""
        return (await self._uncancelled(self._told(said)))[0]

    async def answer(self, answered: e.Answered) -> Session:
        """Answer one of the agent's requests. Raises NothingToDo if it does not wait for that any more."""
        return (await self._uncancelled(self._told(answered)))[0]

    async def interrupt(self) -> bool:
        """Ask the agent, in its own protocol, to end its turn; whether there is anything that asks it."""
        try:
            _, effects = await self._uncancelled(self._told(e.Interrupted(run=self.run)))
        except (NothingToDo, BusyError):
            return False
        return bool(effects)

    async def close(self) -> None:
        """Leave; the run is not touched."""
        self._closed = True
        self._caught_up.set()
        if self._telling is not None:
            self._telling.cancel()
        leaving = [task for task in (self._leaving, *self._told_now) if task is not None]
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)

    async def _uncancelled(self, telling: Coroutine[None, None, _Told]) -> _Told:
        """What is written down is carried out, also if whoever said it goes away meanwhile."""
        task = asyncio.create_task(telling)
        self._told_now.add(task)
        task.add_done_callback(self._told_now.discard)
        return await asyncio.shield(task)

    async def _told(self, event: e.Said | e.Answered | e.Interrupted) -> _Told:
        await self._caught_up.wait()
        async with self._taking:
            if self._ended:
                raise NothingToDo("The agent has just ended.")
            if self._closed or self._failure is not None:
                raise BusyError("The conversation with the agent is being taken up again.", "Try again in a moment.")
            if isinstance(event, e.Answered) and event.request not in self._look().requests:
                # Somebody else was faster, while this waited for its turn.
                raise NothingToDo(f"The request {event.request!r} was answered already, or the agent took it back.")
            event = event.model_copy(update={"run": self.run, "offset": self.offset})
            session = self._submit(event)
            try:
                return session, await self._take(event)
            except Exception as error:
                # It is written down, and is done when the conversation is taken up anew.
                log.warning("%s was not told %s: %s", self.directory, event.type, error)
                self._failure = error
                return session, ()

    async def _take(self, event: e.Said | e.Answered | e.Interrupted) -> Sequence[Effect]:
        """Let the driver know, and do what it makes of that."""
        effects = self._safely(partial(self._driver.take, command_of(event)))
        asked = self._open.pop(event.request, None) if isinstance(event, e.Answered) else None
        await self._perform(effects)
        if asked is not None and not any(isinstance(effect, Write | r.Withdrawn) for effect in effects):
            # It was no answer to that, as the driver has remarked: the agent still waits.
            self._open[asked.id] = asked
            if self._caught_up.is_set():
                self._submit(e.Reported(run=self.run, report=asked))
        return effects

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _catch_up(self) -> None:
        """Bring the driver to where it was, once."""
        if self._caught_up.is_set():
            return
        async with self._taking:
            if not self.abilities.converses:
                self.offset = max(0, _length(self.directory / self._log) - TAIL_BYTES)
            if not self._begun:
                self._begun = True
                await self._perform(self._safely(self._driver.begin))
            for command in self._journal:
                while self.offset < command.offset and await self._feed(command.offset - self.offset):
                    pass
                await self._take(command)
            self._journal = ()
            # What the user answers now was asked in what is already there, however much of it there is.
            end = _length(self.directory / self._log)
            while self.offset < end and await self._feed(end - self.offset):
                pass
            if not self._ended:
                self._agree()
            self._caught_up.set()

    def _agree(self) -> None:
        """Make the requests that are open by the history those of the driver: an upgrade may tell them otherwise."""
        known = self._look().requests
        for name in known.keys() - self._open.keys():
            self._submit(e.Reported(run=self.run, report=r.Withdrawn(id=name)))
        for asked in [asked for name, asked in self._open.items() if name not in known]:
            self._submit(e.Reported(run=self.run, report=asked))

    async def _read(self) -> bool:
        """Take in what has been written since; False if there is nothing."""
        if _length(self.directory / self._log) <= self.offset:
            return False
        async with self._taking:
            return await self._feed(PIECE_BYTES)

    async def _feed(self, limit: int) -> bool:
        limit = min(limit, PIECE_BYTES)
        data = await asyncio.to_thread(runs.read_output, self.directory, self.offset, limit, self._log)
        if not data:
            return False
        self.offset += len(data)
        await self._perform(self._safely(partial(self._driver.feed, data)))
        return True

    def _safely(self, call: Callable[[], Sequence[Effect]]) -> Sequence[Effect]:
        """The driver's effects; a fault of ours in it must cost no more than what it made of these bytes."""
        try:
            return call()
        except Exception:
            log.exception("the driver of %s failed", self.directory)
            return [r.Remark(text="Plait failed at reading a part of the agent's output; `plait log --raw` shows it.")]

    async def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Write():
                    await self._write(effect)
                case SaveFile():
                    await self._save(effect)
                case HangUp():
                    await self._hang_up(effect.after_s)
                case GiveUp():
                    if not self._ended:
                        await runs.stop(self.directory, grace_s=1.0)
                case _:
                    if isinstance(effect, r.TurnBegan):
                        await self._stay()
                    self._learn(effect)

    def _learn(self, report: r.Report) -> None:
        kept = is_kept(self.progress, report)
        self.progress = advance(self.progress, report)
        self.heard = self.heard or _shows_that_it_heard(report)
        if isinstance(report, r.Asked):
            report = self._open[report.id] = bounded(report)
        elif isinstance(report, r.Withdrawn):
            self._open.pop(report.id, None)
        if kept and self._known[name_of(report)]:
            self._known[name_of(report)] -= 1
        elif kept:
            assert isinstance(report, r.Began | r.Asked | r.Withdrawn | r.Limit | r.Trouble | r.Delivered | r.TurnEnded)
            spent = self.progress.tally.spent if isinstance(report, r.TurnEnded) else None
            self._submit(e.Reported(run=self.run, report=report, spent=spent))
        elif self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_S, self._tell_now)

    def _tell_now(self) -> None:
        self._telling = None
        self._tell()

    async def _write(self, write: Write) -> None:
        if self._ended:
            return
        deadline = time.monotonic() + REACH_S
        while True:
            try:
                await runs.write(self.directory, write.id, write.data)
                return
            except GoneError as error:
                # The agent lives on if only its supervisor died, and waits for this.
                if not await self._reach(deadline):
                    log.info("%s did not take %s: %s", self.directory, write.id, error)
                    return
            except PlaitError as error:
                # An agent that does not listen any more ends, and how it ends is judged then.
                log.info("%s did not take %s: %s", self.directory, write.id, error)
                return

    async def _reach(self, deadline: float) -> bool:
        """Whether it is worth another attempt to reach the supervisor; one that is gone is replaced."""
        found = await asyncio.to_thread(runs.status, self.directory)
        if time.monotonic() > deadline or not isinstance(found, runs.Alive | runs.Lost):
            return False
        if isinstance(found, runs.Lost):
            await runs.adopt(self.directory)
        else:
            await asyncio.sleep(QUICK_S)
        return True

    async def _save(self, effect: SaveFile) -> None:
        for answer in (effect.done, effect.refused):
            if f"{self.run}:{answer.id}" in self._saved:
                await self._write(answer)
                return
        if self._ended:
            return
        answer = effect.done
        try:
            await asyncio.to_thread(save, self._worktree, effect.path, effect.text)
        except PlaitError as error:
            log.info("%s", error)
            answer = effect.refused
        # A refusal is written down too: what the agent did instead must not be overwritten by a second attempt.
        self._submit(e.FileSaved(run=self.run, write=answer.id))
        await self._write(answer)

    async def _hang_up(self, after_s: float) -> None:
        if self._ended or self._hung_up:
            return
        await self._stay()
        self._hung_up = after_s == 0
        self._leaving = asyncio.create_task(self._leave(after_s))

    async def _stay(self) -> None:
        """Take back a leave that has not begun."""
        if self._leaving is not None and not self._hung_up:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)
            self._leaving = None

    async def _leave(self, after_s: float) -> None:
        """Close the agent's input, and end it if it stays."""
        await asyncio.sleep(after_s)
        self._hung_up = True
        try:
            await runs.close_input(self.directory)
        except PlaitError as error:
            log.info("%s: its input could not be closed: %s", self.directory, error)
        await asyncio.sleep(GRACE_S)
        try:
            await runs.stop(self.directory, interrupt=False)
        except PlaitError as error:
            log.warning("%s could not be ended: %s", self.directory, error)


def _shows_that_it_heard(report: r.Report) -> bool:
    """Whether an agent reports so only after it took up what it was told at its start."""
    if isinstance(report, r.TurnEnded):
        return report.stop not in ("error", "cancelled")
    return not isinstance(report, UNHEARD)


_Told = tuple[Session, Sequence[Effect]]


def command_of(event: e.Said | e.Answered | e.Interrupted) -> Command:
    """What the driver is told."""
    match event:
        case e.Said():
            return Say(event.id, event.text)
        case e.Answered():
            return Answer(event.request, event.option, event.answers, event.text)
        case e.Interrupted():
            return Interrupt()


LONGEST_REQUEST = 200_000
"""Characters of a request's input and changes together: it is kept, and told to every client whenever it changes."""


def bounded(asked: r.Asked) -> r.Asked:
    """The request without those changes that are too long to be sent around; the transcript shows more of them."""
    room = LONGEST_REQUEST - len(asked.input)
    diffs = []
    for diff in asked.diffs:
        length = sum(len(text) for text in (diff.unified, diff.old, diff.new) if text)
        if length <= room:
            room -= length
            diffs.append(diff)
        else:
            why = f"[A change of {length} characters, too long to be shown here; `plait log` shows more of it.]"
            diffs.append(r.FileDiff(path=diff.path, unified=why))
    return asked.model_copy(update={"diffs": tuple(diffs)})


def _length(file: Path) -> int:
    try:
        return os.stat(file).st_size  # noqa: PTH116 - called often, and a Path adds nothing
    except OSError:
        return 0
