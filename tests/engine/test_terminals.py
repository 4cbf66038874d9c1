"""A program with a screen: its state comes from its hooks, keys reach it, and it outlives its supervisor."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from plait.core.config import UserConfig, parse_user
from plait.core.sessions import RESTING, Session, State
from plait.engine import control, launch, talk, views
from plait.engine.engine import Engine
from plait.engine.perform import run_directory
from plait.engine.transcripts import Transcripts
from plait.environment import pass_on
from plait.errors import NothingToDo, UsageError
from plait.supervisor import runs
from tests.support.engines import engine
from tests.support.plait import CONFIG
from tests.support.processes import eventually_async, kill_supervisor, record
from tests.support.repo import make_repo
from tests.support.screen_agent import install

pytestmark = pytest.mark.slow


@dataclass
class Stand:
    """An engine that is started again and again on the same places."""

    config: UserConfig
    top: Path
    session: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        async with engine(config=lambda: self.config) as made:
            yield made

    async def begin(self, running: Engine, text: str) -> None:
        request = launch.Request(self.top, text, agents=(("screen", 1),), environment=pass_on(os.environ))
        (session,) = await control.run(running, request)
        self.session = session.id

    async def until(self, running: Engine, holds: Callable[[Session], bool]) -> Session:
        async with asyncio.timeout(30):
            await running.until(lambda whole: holds(whole.sessions[self.session]))
        return running.session(self.session)

    async def at(self, running: Engine, state: State) -> Session:
        return await self.until(running, lambda one: one.state is state)

    async def idle_after(self, running: Engine, words: str) -> Session:
        return await self.until(running, lambda one: one.state is State.NEEDS_INPUT and one.conclusion == words)

    async def stopped(self, running: Engine) -> Session:
        await control.stop(running, self.session)
        return await self.until(running, lambda one: one.state in RESTING)

    def directory(self, running: Engine) -> Path:
        return run_directory(running, self.session, len(running.session(self.session).runs))

    async def shows(self, running: Engine, text: str) -> None:
        directory = self.directory(running)
        await eventually_async(lambda: text.encode() in runs.read_output(directory, 0))


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    program = install(tmp_path / "bin")
    table = f'\n[agents.screen]\nkind = "terminal"\ncommand = {json.dumps([str(program), "{prompt}"])}\n'
    return Stand(parse_user(CONFIG + table)[0], make_repo(tmp_path / "till", {"a.txt": "a\n"}))


async def test_its_state_follows_its_hooks_and_its_work_is_recorded_when_it_is_stopped_at_rest(stand: Stand) -> None:
    async with stand.running() as running:
        await stand.begin(running, "ask")
        session = await stand.at(running, State.NEEDS_PERMISSION)
        assert running.reason(session) == "Write made.txt"
        assert views.actions(session) == ("attach", "say", "stop")
        with pytest.raises(UsageError, match="in its terminal"):
            await talk.answer(running, stand.session, talk.Reply(decision="allow"))
        await stand.shows(running, "Allow?")
        await running.terminals.type_in(stand.directory(running), b"y\r")
        session = await stand.at(running, State.NEEDS_INPUT)
        assert views.actions(session) == ("answer", "attach", "say", "stop")
        began = asyncio.get_running_loop().time()
        session = await stand.stopped(running)
        assert asyncio.get_running_loop().time() - began < 3, "nobody waits for an interrupt that cannot be made"
        assert session.state is State.READY
        assert session.snapshot is not None
        assert session.snapshot.files == 1
        with pytest.raises(NothingToDo):
            await running.terminals.type_in(stand.directory(running), b"x")


async def test_a_message_is_typed_when_it_rests_and_kept_while_it_asks(stand: Stand) -> None:
    async with stand.running() as running:
        await stand.begin(running, "ask")
        await stand.at(running, State.NEEDS_PERMISSION)
        await stand.shows(running, "Allow?")
        session = await talk.say(running, stand.session, "several\nlines", {})
        assert session.undelivered
        assert b"several" not in runs.read_output(stand.directory(running), 0)
        await running.terminals.type_in(stand.directory(running), b"y\r")
        session = await stand.idle_after(running, "did several\nlines")
        assert not session.undelivered
        await talk.answer(running, stand.session, talk.Reply(text="more"))
        session = await stand.idle_after(running, "did more")
        page = await Transcripts(running).read(session, 1, 0)
        told = [entry["text"] for entry in page.entries if entry["kind"] == "remark"]
        assert not [entry for entry in page.entries if entry["kind"] == "unread"]
        assert len(told) == 2, "where it works, and that the message waits"
        assert (await stand.stopped(running)).state is State.READY


async def test_what_is_typed_by_hand_shows_in_the_conversation(stand: Stand) -> None:
    async with stand.running() as running:
        await stand.begin(running, "first")
        await stand.at(running, State.NEEDS_INPUT)
        await running.terminals.type_in(stand.directory(running), b"by hand\r")
        session = await stand.idle_after(running, "did by hand")
        page = await Transcripts(running).read(session, 1, 0)
        assert any(entry["text"] == "You, in the terminal: by hand" for entry in page.entries)
        await running.terminals.type_in(stand.directory(running), b"/exit\r")
        session = await stand.until(running, lambda one: one.state in RESTING)
        assert session.state is State.READY


async def test_a_size_reaches_it(stand: Stand) -> None:
    async with stand.running() as running:
        await stand.begin(running, "first")
        await stand.at(running, State.NEEDS_INPUT)
        await running.terminals.resize(stand.directory(running), 33, 77)
        await stand.shows(running, "size 33x77")
        await stand.stopped(running)


async def test_a_restarted_daemon_goes_on_where_it_was(stand: Stand) -> None:
    async with stand.running() as running:
        await stand.begin(running, "first")
        await stand.at(running, State.NEEDS_INPUT)
        await talk.say(running, stand.session, "second", {})
        session = await stand.idle_after(running, "did second")
        reported = session.reported
    async with stand.running() as running:
        session = await stand.until(running, lambda _one: stand.session in running.conversations)
        await talk.say(running, stand.session, "third", {})
        session = await stand.idle_after(running, "did third")
        # Nothing that was told before is told again: one request is taken back, and four more things happen.
        assert session.reported[1] - reported[1] == 4, "withdrawn, delivered, turn ended, asked"
        assert runs.read_output(stand.directory(running), 0).count(b"did second") == 1
        await stand.stopped(running)


async def test_it_outlives_its_supervisor_and_what_it_does_then_is_kept(stand: Stand) -> None:
    async with stand.running() as running:
        await stand.begin(running, "first")
        await stand.at(running, State.NEEDS_INPUT)
        directory = stand.directory(running)
        agent = record(directory)["agent_pid"]
        await eventually_async(lambda: running.terminals.master(directory) is not None)
        for number in range(2):
            before = record(directory)["pid"]
            await asyncio.to_thread(kill_supervisor, directory)
            await taken_over(directory, before)
            await talk.say(running, stand.session, f"after {number}", {})
            session = await stand.idle_after(running, f"did after {number}")
            assert record(directory)["agent_pid"] == agent
            await stand.shows(running, f"did after {number}")
        session = await stand.stopped(running)
        assert session.state is State.READY
        assert running.terminals.master(directory) is None


async def taken_over(directory: Path, before: int) -> None:
    """Wait until another supervisor than that one has the run."""
    await eventually_async(lambda: record(directory)["pid"] != before)


async def test_it_is_taken_up_again_in_a_new_process_under_its_own_name(stand: Stand) -> None:
    async with stand.running() as running:
        await stand.begin(running, "first")
        await stand.at(running, State.NEEDS_INPUT)
        await stand.stopped(running)
        await talk.say(running, stand.session, "again", pass_on(os.environ))
        session = await stand.idle_after(running, "did again")
        assert len(set(session.agent_sessions.values())) == 1
        assert len(session.agent_sessions) == 2
        assert (await stand.stopped(running)).state is State.READY
