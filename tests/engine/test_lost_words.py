"""No word of a user or an agent is lost or doubled, whatever dies, fails or changes between two steps."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from plait.agents.adapter import Effect, Job, Launch
from plait.agents.registry import ADAPTERS
from plait.core import events as e
from plait.core import plan
from plait.core import reports as r
from plait.core.config import UserConfig, parse_user
from plait.core.sessions import RESTING, Session, State
from plait.engine import control, conversations, perform, talk
from plait.engine import engine as engines
from plait.engine.conversations import bounded
from plait.engine.engine import Engine
from plait.engine.transcripts import Transcripts
from plait.engine.views import within
from plait.environment import pass_on
from plait.errors import NothingToDo, StorageError, UsageError
from plait.supervisor import runs
from tests.engine.test_conversations import begun, kept, until, waits
from tests.support.chatter import Chatter, ChatterDriver
from tests.support.engines import engine, rested
from tests.support.repo import make_repo


@pytest.fixture(autouse=True)
def chatter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "acp", Chatter())
    monkeypatch.setattr(engines, "RETRY_S", 0.1)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "till", {"a.txt": "a\n"})


def text_of(session: Session, name: str) -> str:
    return (Path(session.spec.worktree) / name).read_text()


async def talking(running: Engine, name: str) -> conversations.Conversation:
    await until(running, name, lambda _: name in running.conversations)
    return running.conversations[name]


async def test_an_answer_waits_until_a_long_output_has_been_read_again(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "babble 900000; ask May I?; write b.txt yes")
        await until(running, name, waits)
    async with engine() as running:
        await talk.answer(running, name, talk.Reply(decision="allow"))
        session = await rested(running, name)
    assert session.state is State.READY
    assert text_of(session, "b.txt") == "yes\n"


async def test_of_two_answers_at_once_only_one_is_given(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "ask May I?; write b.txt yes")
        await until(running, name, waits)
        conversation = await talking(running, name)
        await conversation._taking.acquire()
        both = [asyncio.create_task(talk.answer(running, name, talk.Reply(decision=d))) for d in ("allow", "deny")]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        conversation._taking.release()
        first, second = await asyncio.gather(*both, return_exceptions=True)
        session = await rested(running, name)
        assert kept(session, running, "answered") == 1
    assert not isinstance(first, BaseException)
    assert isinstance(second, NothingToDo)
    assert text_of(session, "b.txt") == "yes\n"


async def test_an_answer_reaches_an_agent_whose_supervisor_was_just_killed(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "ask May I?; write b.txt yes")
        await until(running, name, waits)
        directory = perform.run_directory(running, name, 1)
        os.kill(json.loads((directory / "supervisor.json").read_bytes())["pid"], signal.SIGKILL)
        while not isinstance(runs.status(directory), runs.Lost):
            await asyncio.sleep(0)
            os.sched_yield()
        await talk.answer(running, name, talk.Reply(decision="allow"))
        session = await rested(running, name)
    assert text_of(session, "b.txt") == "yes\n"


async def test_what_was_answered_is_carried_out_though_the_client_goes_away(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, written = asyncio.Event(), runs.write

    async def slowly(directory: Path, name: str, data: bytes) -> None:
        await held.wait()
        await written(directory, name, data)

    async with engine() as running:
        name = await begun(running, top, "ask May I?; write b.txt yes")
        await until(running, name, waits)
        monkeypatch.setattr(runs, "write", slowly)
        answering = asyncio.create_task(talk.answer(running, name, talk.Reply(decision="allow")))
        await until(running, name, lambda one: not one.requests)
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        held.set()
        session = await rested(running, name)
        assert session.reports[1]["withdrawn r1"] == 1
    assert text_of(session, "b.txt") == "yes\n"


async def test_a_disk_that_was_full_in_the_middle_of_an_answer_costs_nothing(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as running:
        name = await begun(running, top, "ask May I?; write b.txt yes")
        await until(running, name, waits)
        append, full = running.store.append, [True]

        def sometimes(session: str, records: Sequence[e.Record]) -> None:
            if full and isinstance(records[0].event, e.Reported):
                full.pop()
                raise StorageError("The disk is full.")
            append(session, records)

        monkeypatch.setattr(running.store, "append", sometimes)
        await talk.answer(running, name, talk.Reply(decision="allow"))
        session = await rested(running, name)
        assert session.state is State.READY
        assert not full
        assert kept(session, running, "answered") == 1
        assert session.reports[1] == {"began": 1, "asked r1": 1, "withdrawn r1": 1, "turn_ended": 1}
    assert text_of(session, "b.txt") == "yes\n"


async def test_an_answer_that_the_agent_cannot_use_leaves_its_request_open(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "question Which colour?; write b.txt done")
        await until(running, name, waits)
        conversation = await talking(running, name)
        session = await conversation.answer(e.Answered(run=1, request="r1", text="nonsense"))
        assert running.session(name).state is State.NEEDS_INPUT
    async with engine() as running:
        await talking(running, name)
        assert (await until(running, name, waits)).state is State.NEEDS_INPUT
        await talk.answer(running, name, talk.Reply(text="blue"))
        session = await rested(running, name)
    assert session.state is State.READY


class Newer(Chatter):
    """The same agent as a later version of Plait might understand it."""

    def driver(self, job: Job) -> Any:
        return NewerDriver(job)


class NewerDriver(ChatterDriver):
    def _line(self, line: dict[str, object]) -> Sequence[Effect]:
        effects = [
            effect.model_copy(update={"id": "new-r2"}) if isinstance(effect, r.Asked) and effect.id == "r2" else effect
            for effect in super()._line(line)
        ]
        self._waiting = ["new-r2" if one == "r2" else one for one in self._waiting]
        if "began" in line:
            return []
        if "message" in line:
            return [r.Limit(account="one", status="allowed"), r.Limit(account="two", status="allowed"), *effects]
        return effects


async def test_a_driver_that_reports_otherwise_after_an_upgrade_leaves_no_request_hidden_or_stuck(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as running:
        name = await begun(running, top, "babble 1000; ask First?; babble 1000; ask May I?; write b.txt yes")
        await until(running, name, waits)
        await talk.answer(running, name, talk.Reply(decision="allow"))
        await until(running, name, lambda one: "r2" in one.requests)
    monkeypatch.setitem(ADAPTERS, "acp", Newer())
    for _ in range(2):
        async with engine() as running:
            session = await until(running, name, lambda one: "new-r2" in one.requests and len(one.requests) == 1)
            assert session.state is State.NEEDS_PERMISSION
    async with engine() as running:
        await until(running, name, lambda one: "new-r2" in one.requests)
        await talk.answer(running, name, talk.Reply(decision="allow"))
        session = await rested(running, name)
    assert session.state is State.READY
    assert not session.requests


async def test_an_interruption_is_part_of_what_is_replayed(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "babble 2000; spin")
        await until(running, name, lambda _: running_at(running, name) == "spinning")
        conversation = await talking(running, name)
        assert await conversation.interrupt()
        session = await rested(running, name)
        assert session.state is State.STOPPED
        told = session.told(1)
        assert [type(command) for command in told] == [e.Interrupted]
        assert told[0].offset > 2000
        assert (await Transcripts(running).read(session, 1, 0)).entries[-1]["stop"] == "cancelled"


def running_at(running: Engine, name: str) -> str:
    conversation = running.conversations.get(name)
    return conversation.progress.activity if conversation else ""


async def test_words_for_a_run_that_could_not_be_started_are_told_by_the_next(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as running:
        name = await begun(running, top, "write b.txt one")
        await rested(running, name)
        with monkeypatch.context() as broken:
            broken.setattr(Chatter, "launch", lambda *_: Launch(("/no/such/program",)))
            await talk.say(running, name, "write b.txt two", pass_on(os.environ))
            session = await until(running, name, lambda one: len(one.runs) == 2 and one.state in RESTING)
            assert session.state is State.FAILED
        await control.resume(running, name, "write b.txt three", pass_on(os.environ))
        session = await until(running, name, lambda one: len(one.runs) == 3 and one.state in RESTING)
    assert session.last_run is not None
    assert session.last_run.message == "write b.txt two\n\nwrite b.txt three"


async def test_an_agent_that_died_before_it_took_up_its_task_is_told_all_of_it_again(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as running:
        with monkeypatch.context() as broken:
            dies = Launch(("sh", "-c", 'echo {\\"began\\": \\"x\\"}; exit 1'), stdin="fifo", stderr="apart")
            broken.setattr(Chatter, "launch", lambda *_: dies)
            name = await begun(running, top, "write b.txt one")
            assert (await rested(running, name)).state is State.FAILED
        await control.resume(running, name, None, pass_on(os.environ))
        session = await until(running, name, lambda one: len(one.runs) == 2 and one.state in RESTING)
    assert session.state is State.READY
    assert text_of(session, "b.txt") == "one\n"


@pytest.mark.parametrize("stops", [False, True])
async def test_a_message_that_came_too_late_begins_another_turn_unless_the_user_stopped_it(
    top: Path, stops: bool
) -> None:
    recording, go_on = asyncio.Event(), asyncio.Event()

    async def performs(running: Engine, action: plan.Action) -> None:
        if isinstance(action, plan.Record):
            recording.set()
            await go_on.wait()
        await perform.perform(running, action)

    async with engine(performs) as running:
        name = await begun(running, top, "write b.txt one")
        async with asyncio.timeout(30):
            await recording.wait()
        running.submit(name, e.Said(id="late", text="write c.txt two"))
        if stops:
            await control.stop(running, name)
        before = running.session(name).seq
        go_on.set()
        session = await until(running, name, lambda one: one.seq > before)
        if stops:
            assert session.state is State.READY
            assert [said.id for said in session.undelivered] == ["late"]
        else:
            # Not even a crash right after it could leave the message lying.
            assert session.state is State.STARTING
            session = await rested(running, name)
            assert text_of(session, "c.txt") == "two\n"


async def test_a_refused_file_is_not_written_after_a_restart(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine() as running:
        name = await begun(running, top, "save ../x.txt no; save new\0.txt no; save b.txt old; ask May I?")
        await until(running, name, waits)
        worktree = Path(running.session(name).spec.worktree)
        assert (worktree / "b.txt").read_text() == "old"
        assert not (worktree.parent / "x.txt").exists()
        (worktree / "b.txt").write_text("new")
    saved: list[str] = []
    monkeypatch.setattr(conversations, "save", lambda _worktree, path, _text: saved.append(path))
    async with engine() as running:
        await talk.answer(running, name, talk.Reply(decision="allow"))
        await rested(running, name)
    assert not saved


async def test_a_transcript_does_not_read_ahead_of_what_the_user_told(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "babble 3000; wait")
        await until(running, name, lambda _: running_at(running, name) == "waiting")
        conversation = await talking(running, name)
        live = Transcripts(running)
        conversation.offset -= 1000
        await live.read(running.session(name), 1, 0)
        (read,) = live._kept.values()
        assert read.offset <= conversation.offset
        conversation.offset += 1000
        await talk.say(running, name, "write b.txt x", {})
        session = await rested(running, name)
        assert (await live.read(session, 1, 0)).entries == (await Transcripts(running).read(session, 1, 0)).entries


async def test_a_session_gets_no_more_permission_than_is_configured_now(top: Path) -> None:
    allowed = parse_user('[agents.chatter]\nkind = "acp"\ncommand = ["sh"]\npermission = "edits"\n')[0]
    configs: list[UserConfig] = [allowed]
    async with engine(config=lambda: configs[0]) as running:
        name = await begun(running, top, "write b.txt one")
        session = running.session(name)
        spec = session.spec.model_copy(update={"agent": session.spec.agent.model_copy(update={"permission": "all"})})
        await rested(running, name)
        first = await rested(running, name)
        assert perform.job_of(running, first, first.runs[0]).permission == "ask", "it was created with no more"
        running.create("again", spec, pass_on(os.environ))
        second = await rested(running, "again")
        assert perform.job_of(running, second, second.runs[0]).permission == "edits"
        configs[0] = parse_user("")[0]
        await control.resume(running, "again", None, pass_on(os.environ))
        third = await until(running, "again", lambda one: len(one.runs) == 2)
        assert perform.job_of(running, third, third.runs[1]).permission == "ask"
        assert perform.job_of(running, third, third.runs[0]).permission == "edits", "what it ran with stays"
        await rested(running, "again")


def test_a_request_is_not_sent_around_with_endless_changes() -> None:
    small = r.FileDiff(path="a", old="x", new="y")
    large = r.FileDiff(path="b", new="x" * 300_000)
    asked = bounded(r.Asked(id="1", title="?", diffs=(large, small)))
    assert asked.diffs[1] == small
    assert len(asked.model_dump_json()) < 2000
    assert "300000" in (asked.diffs[0].unified or "")


def test_only_the_beginning_of_a_path_is_left_out() -> None:
    assert within("/w/t", "Edit /w/t/a.py, /w/t/b.py") == "Edit a.py, b.py"
    assert within("/w/t", '{"path": "/w/t/a.py"}') == '{"path": "a.py"}'
    assert within("/w/t", "rm -rf /w/t/ && ls /w/t/") == "rm -rf /w/t/ && ls /w/t/"
    assert within("/w/t", "cat /evil/w/t/a.py") == "cat /evil/w/t/a.py"


async def test_an_answer_goes_to_no_other_run_than_the_one_that_asked(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "ask May I?; write b.txt yes")
        await until(running, name, waits)
        with pytest.raises(NothingToDo, match="not running any more"):
            await talk.answer(running, name, talk.Reply(request="r1", run=2, decision="allow"))
        await talk.answer(running, name, talk.Reply(request="r1", run=1, decision="allow"))
        assert (await rested(running, name)).state is State.READY


async def test_an_empty_answer_is_none(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "question Which colour?")
        await until(running, name, waits)
        with pytest.raises(UsageError, match="Not every question"):
            await talk.answer(running, name, talk.Reply(answers={"q": ()}))
        await control.stop(running, name)
        await rested(running, name)
