"""What is said between a user and an agent survives daemons: asked, answered, told and counted exactly once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plait.agents.registry import ADAPTERS
from plait.core import events as e
from plait.core.sessions import RESTING, Session, State
from plait.engine import control, launch, talk
from plait.engine.engine import Engine
from plait.engine.transcripts import Transcripts
from plait.environment import pass_on
from plait.errors import NothingToDo, UsageError
from tests.support.chatter import Chatter
from tests.support.engines import engine, rested
from tests.support.repo import make_repo


@pytest.fixture(autouse=True)
def _chatter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "acp", Chatter())


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "till", {"a.txt": "a\n"})


async def begun(running: Engine, top: Path, orders: str) -> str:
    """The id of a new session with the chatter."""
    request = launch.Request(top, orders, command=("sh",), environment=pass_on(os.environ))
    ((session, spec),) = await asyncio.to_thread(launch.specify, running, request)
    agent = spec.agent.model_copy(update={"kind": "acp", "name": "chatter"})
    running.create(session, spec.model_copy(update={"agent": agent}), request.environment)
    return session


async def until(running: Engine, session: str, holds: Callable[[Session], bool]) -> Session:
    async with asyncio.timeout(30):
        await running.until(lambda whole: holds(whole.sessions[session]))
    return running.session(session)


def waits(session: Session) -> bool:
    return bool(session.requests)


def kept(session: Session, running: Engine, kind: str) -> int:
    """How many events of a kind the history has."""
    return sum(event["type"] == kind for event in running.store.events(session.id))


async def test_a_turn_ends_the_process_and_its_work_is_recorded(top: Path) -> None:
    async with engine() as running:
        session = await rested(running, await begun(running, top, "write b.txt hello; use 7"))
    assert session.state is State.READY
    assert session.snapshot is not None
    assert session.snapshot.files == 1
    assert (session.usage.input, session.usage.output, session.usage.cost_usd) == (7, 1, 0.5)


async def test_a_permission_is_asked_for_answered_once_and_its_answer_reaches_the_agent(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "ask May I?; write b.txt yes")
        session = await until(running, name, waits)
        assert session.state is State.NEEDS_PERMISSION
        assert running.reason(session) == "May I?"
        with pytest.raises(UsageError, match="Allow or deny"):
            await talk.answer(running, name, talk.Reply())
        with pytest.raises(UsageError, match="does not offer"):
            await talk.answer(running, name, talk.Reply(option="maybe"))
        after, asked, option = await talk.answer(running, name, talk.Reply(decision="allow", by="tests"))
        assert (asked.title, option.label if option else None) == ("May I?", "Yes")
        assert after.state is State.WORKING
        with pytest.raises(NothingToDo):
            await talk.answer(running, name, talk.Reply(request=asked.id, decision="allow"))
        session = await rested(running, name)
    assert session.state is State.READY
    assert (Path(session.spec.worktree) / "b.txt").read_text() == "yes\n"


async def test_a_refusal_reaches_the_agent_too(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "ask May I?; write b.txt yes")
        await until(running, name, waits)
        await talk.answer(running, name, talk.Reply(decision="deny"))
        session = await rested(running, name)
    assert session.state is State.STOPPED
    assert not (Path(session.spec.worktree) / "b.txt").exists()


async def test_a_question_is_answered_with_words(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "question Which colour?; write b.txt done")
        session = await until(running, name, waits)
        assert session.state is State.NEEDS_INPUT
        await talk.answer(running, name, talk.Reply(text="blue"))
        session = await rested(running, name)
        page = await Transcripts(running).read(session, 1, 0)
    assert session.state is State.READY
    assert page.over
    assert any("blue" in entry["text"] for entry in page.entries if entry["kind"] == "message")
    assert next(entry for entry in page.entries if entry["kind"] == "asked")["answer"] == "blue"


async def test_what_waits_for_an_answer_can_be_answered_after_the_daemon_died(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "use 3; ask May I?; write b.txt yes; use 4")
        await until(running, name, waits)
    for _ in range(2):
        # Each restart reads everything again, and reports nothing twice.
        async with engine() as running:
            session = await until(running, name, lambda one: name in running.conversations)
            assert session.state is State.NEEDS_PERMISSION
    async with engine() as running:
        await until(running, name, waits)
        await talk.answer(running, name, talk.Reply(decision="allow"))
        session = await rested(running, name)
        assert kept(session, running, "answered") == 1
        assert session.reported[1] == 4, "began, asked, withdrawn, turn ended"
    assert session.state is State.READY
    assert (Path(session.spec.worktree) / "b.txt").read_text() == "yes\n"
    assert session.usage.input == 7


async def test_an_answer_given_before_the_daemon_died_is_not_given_again(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "ask May I?; wait; write b.txt end")
        await until(running, name, waits)
        await talk.answer(running, name, talk.Reply(decision="allow"))
        await until(running, name, lambda _one: running.conversations[name].progress.activity == "waiting")
    async with engine() as running:
        await until(running, name, lambda _one: name in running.conversations)
        after = await talk.say(running, name, "write c.txt told", {})
        assert after.undelivered or after.delivered
        session = await rested(running, name)
    worktree = Path(session.spec.worktree)
    assert session.state is State.READY
    assert not session.undelivered
    assert ((worktree / "b.txt").read_text(), (worktree / "c.txt").read_text()) == ("end\n", "told\n")


async def test_a_message_to_a_session_that_rests_goes_on_with_the_same_conversation(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write b.txt one; use 1")
        first = await rested(running, name)
        await talk.say(running, name, "write b.txt two; use 2", pass_on(os.environ))
        session = await until(running, name, lambda one: len(one.runs) == 2 and one.state in RESTING)
    assert (Path(session.spec.worktree) / "b.txt").read_text() == "one\ntwo\n"
    assert session.agent_sessions[2] == first.agent_sessions[1]
    assert session.usage.input == 3


async def test_a_message_that_comes_before_the_start_is_part_of_it(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write b.txt one")
        await talk.say(running, name, "write c.txt two", {})
        session = await rested(running, name)
        await until(running, name, lambda one: one.state in RESTING and not one.undelivered)
        session = running.session(name)
    assert not session.undelivered
    assert "two" in "".join(run.message or "" for run in session.runs) or session.delivered


async def test_stopping_lets_the_agent_end_its_turn_and_it_can_go_on(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write b.txt one; spin")
        await until(running, name, lambda one: _activity(running, name) == "spinning")
        await control.stop(running, name)
        session = await rested(running, name)
        assert session.state is State.STOPPED
        assert session.last_run is not None
        assert session.last_run.ended is not None
        assert session.last_run.ended.code == 0, "it ended its turn itself"
        await control.resume(running, name, "write b.txt two", pass_on(os.environ))
        session = await until(running, name, lambda one: len(one.runs) == 2 and one.state in RESTING)
    assert session.state is State.READY
    assert (Path(session.spec.worktree) / "b.txt").read_text() == "one\ntwo\n"


async def test_an_agent_that_dies_in_its_turn_has_failed_whatever_its_status(top: Path) -> None:
    async with engine() as running:
        session = await rested(running, await begun(running, top, "write b.txt one; die 0"))
    assert session.state is State.FAILED
    assert not session.requests
    assert session.snapshot is not None
    assert session.snapshot.files == 1


async def test_the_transcript_is_the_same_live_and_after_the_fact(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write b.txt one; ask May I?; write c.txt two; use 5")
        session = await until(running, name, waits)
        live = Transcripts(running)
        first = await live.read(session, 1, 0)
        assert [entry["kind"] for entry in first.entries] == ["user", "began", "tool", "asked"]
        assert not first.over
        await talk.answer(running, name, talk.Reply(decision="allow"))
        session = await rested(running, name)
        changed = await live.read(session, 1, first.next)
        assert changed.over
        assert changed.entries[0]["kind"] == "asked"
        assert changed.entries[0]["answer"] == "Yes"
        again = (await Transcripts(running).read(session, 1, 0)).entries
        whole = (await live.read(session, 1, 0)).entries
    assert again == whole
    assert [entry["kind"] for entry in again] == ["user", "began", "tool", "asked", "message", "tool", "turn"]
    assert again[-1]["spent"]["input"] == 5


def _activity(running: Engine, name: str) -> str:
    conversation = running.conversations.get(name)
    return conversation.progress.activity if conversation else ""


def test_events_of_a_conversation_read_back_the_same() -> None:
    said = e.Said(id="m", text="hello", run=1, offset=10)
    record = e.Record(session="s", seq=3, at=1.0, event=said)
    assert e.load("s", e.dump(record)) == record
