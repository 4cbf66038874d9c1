"""Follows what a working agent says, does what its driver asks for, and carries the user's words to it.

A conversation holds nothing that a restart could lose: its driver is rebuilt from the run's output and from what the
session's history says the user told the agent, at the places where it was told. Reports that the history has already
are counted and skipped, and the supervisor recognises writes that it has made.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
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
from plait.core.progress import Progress, advance, is_kept
from plait.core.sessions import Session
from plait.core.usage import Tally
from plait.engine.saving import save
from plait.errors import NothingToDo, PlaitError
from plait.supervisor import runs

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


class Conversation:
    """The conversation with one run of an agent, from its start, or from a restart of the daemon, to its end."""

    def __init__(
        self,
        session: Session,
        run: int,
        directory: Path,
        adapter: Adapter,
        job: Job,
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
        self._skip = session.reported.get(run, 0)
        self._saved = session.saved
        self._submit = submit
        self._tell = tell
        self._telling: asyncio.TimerHandle | None = None
        self._taking = asyncio.Lock()
        self._caught_up = asyncio.Event()
        self._begun = False
        self._ended = False
        self._hung_up = False
        self._leaving: asyncio.Task[None] | None = None

    async def follow(self) -> runs.Exit | runs.Lost:
        """Carry the conversation on until the run has ended or lost its supervisor. Raises PlaitError."""
        over = asyncio.create_task(runs.wait(self.directory))
        try:
            await self._catch_up()
            pause = QUICK_S
            while not over.done():
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
        return await self._told(said)

    async def answer(self, answered: e.Answered) -> Session:
        """Answer one of the agent's requests."""
        return await self._told(answered)

    async def interrupt(self) -> bool:
        """Ask the agent, in its own protocol, to end its turn; whether there is anything that asks it."""
        await self._caught_up.wait()
        async with self._taking:
            effects = self._safely(partial(self._driver.take, Interrupt()))
            await self._perform(effects)
        return bool(effects)

    async def close(self) -> None:
        """Leave; the run is not touched."""
        if self._telling is not None:
            self._telling.cancel()
        if self._leaving is not None:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)

    async def _told(self, event: e.Said | e.Answered) -> Session:
        await self._caught_up.wait()
        async with self._taking:
            if self._ended:
                raise NothingToDo("The agent has just ended.")
            session = self._submit(event.model_copy(update={"run": self.run, "offset": self.offset}))
            await self._perform(self._safely(partial(self._driver.take, command_of(event))))
            return session

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
                await self._perform(self._safely(partial(self._driver.take, command_of(command))))
            self._journal = ()
            self._caught_up.set()

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
        if kept and self._skip:
            self._skip -= 1
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
        try:
            await runs.write(self.directory, write.id, write.data)
        except PlaitError as error:
            # An agent that does not listen any more ends, and how it ends is judged then.
            log.info("%s did not take %s: %s", self.directory, write.id, error)

    async def _save(self, effect: SaveFile) -> None:
        if f"{self.run}:{effect.done.id}" in self._saved:
            await self._write(effect.done)
            return
        if self._ended:
            return
        try:
            await asyncio.to_thread(save, self._worktree, effect.path, effect.text)
        except PlaitError as error:
            log.info("%s", error)
            await self._write(effect.refused)
            return
        self._submit(e.FileSaved(run=self.run, write=effect.done.id))
        await self._write(effect.done)

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


def command_of(event: e.Said | e.Answered) -> Command:
    """What the driver is told."""
    if isinstance(event, e.Said):
        return Say(event.id, event.text)
    return Answer(event.request, event.option, event.answers, event.text)


def _length(file: Path) -> int:
    try:
        return os.stat(file).st_size  # noqa: PTH116 - called often, and a Path adds nothing
    except OSError:
        return 0
