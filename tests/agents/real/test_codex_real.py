"""Codex, the real program against the scripted model server, through its app-server and through `codex exec`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plait.agents.adapter import Adapter, Answer, Interrupt, Job, Say, Write
from plait.agents.codex import Codex
from plait.agents.codex_exec import CodexExec
from plait.core.events import PermissionMode
from plait.core.reports import (
    Asked,
    Began,
    Context,
    Delivered,
    FileDiff,
    Limit,
    Message,
    Remark,
    Report,
    Retry,
    ToolBegan,
    ToolEnded,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    Used,
    Withdrawn,
)
from tests.support import models as scripted
from tests.support.driving import Driven, driven
from tests.support.models import AskUser, Edit, Fault, ModelServer, Scenario, Shell, Step
from tests.support.real_agents import RealAgent

pytestmark = [pytest.mark.agents, pytest.mark.slow]

WRITES = (Step("I will write it.", scripted.Write("notes.txt", "one\ntwo\n")), Step("Done: wrote notes.txt."))
EDITS = (Step("I will change it.", Edit("notes.txt", "one", "three")), Step("Done: changed it."))


class Stand:
    """Codex at its scripted model, in a worktree; every process is fed to a second driver at its end."""

    def __init__(self, agent: RealAgent, models: ModelServer, worktree: Path, directory: Path) -> None:
        self.agent = agent
        self.models = models
        self.worktree = worktree
        self.directory = directory
        self.name = directory.name
        self.home = directory / "codex"
        self.extra: tuple[str, ...] = ()
        self._processes = 0
        self.job = Job(
            session="s",
            task="t",
            title="Notes",
            prompt="Write notes.txt.",
            worktree=str(worktree),
            port=0,
            files=str(directory / "files"),
        )

    def play(self, *turns: tuple[Step, ...], **more: Any) -> None:
        self.models.put(self.name, Scenario(turns, **more))

    @contextmanager
    def process(
        self, permission: PermissionMode = "edits", adapter: Adapter | None = None, **job: Any
    ) -> Iterator[Driven]:
        self._processes += 1
        self.job = replace(self.job, permission=permission, **job)
        environment = self.agent.environment(self.models, self.name, self.home)
        place = self.directory / f"process-{self._processes}"
        command = (*self.agent.command, *self.extra)
        adapter = adapter or Codex()
        with driven(adapter, command, self.job, environment, place) as process:
            yield process
        assert process.replayed(adapter.driver(self.job), 77) == process.effects
        unread = [report for report in process.reports if isinstance(report, Unread)]
        assert not unread, unread
        asked = [report.id for report in process.reports if isinstance(report, Asked)]
        taken_back = [report.id for report in process.reports if isinstance(report, Withdrawn)]
        assert sorted(asked) == sorted(taken_back)
        writes = [effect.id for effect in process.effects if isinstance(effect, Write)]
        assert len(set(writes)) == len(writes)


@pytest.fixture
def stand(real: Callable[[str], RealAgent], models: ModelServer, worktree: Path, tmp_path: Path) -> Stand:
    return Stand(real("codex"), models, worktree, tmp_path)


def kinds(process: Driven, kind: type[Report]) -> list[Any]:
    return [report for report in process.reports if isinstance(report, kind)]


def test_an_edit_lands_and_every_token_is_counted(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process() as process:
        outcome = process.finish()
    assert outcome.ok, outcome
    assert (stand.worktree / "notes.txt").read_text() == "one\ntwo\n"
    began = kinds(process, Began)[0]
    assert began.model == "gpt-5.5"
    assert began.mode == "workspaceWrite, on-request"
    assert [report.text for report in kinds(process, Message)] == ["I will write it.", "Done: wrote notes.txt."]
    assert kinds(process, TurnBegan) == [TurnBegan(prompt="Write notes.txt.")]
    assert kinds(process, TurnEnded) == [TurnEnded(stop="end_turn", text="Done: wrote notes.txt.")]
    tool = kinds(process, ToolBegan)[0]
    assert (tool.kind, tool.title) == ("edit", "Create notes.txt")
    ended = kinds(process, ToolEnded)[0]
    assert (ended.id, ended.status) == (tool.id, "completed")
    assert ended.diffs == (FileDiff(path=str(stand.worktree / "notes.txt"), new="one\ntwo\n"),)
    assert usage(process) == spent(stand)
    assert kinds(process, Context)[-1].size == 258400
    limits = kinds(process, Limit)
    assert [(window.name, window.used) for window in limits[0].windows] == [("5 hours", 0.42), ("7 days", 0.17)]
    assert limits[0].account == "scripted"
    assert not kinds(process, Trouble)
    instructions = [row for row in stand.models.requests(stand.name)[0].body["input"] if row.get("role") == "developer"]
    assert "Do not commit; leave your changes in the working tree." in str(instructions)


def test_messages_are_steered_into_the_turn_and_delivered_when_codex_takes_them(stand: Stand) -> None:
    stand.play((Step("Wait.", Shell("sleep 0.5; echo slept")), Step("Done.")), (Step("Second."),))
    with stand.process() as process:
        process.until_a(ToolBegan)
        process.take(Say("m1", "And also that."))
        assert process.until_a(Delivered) == Delivered(id="m1")
        outcome = process.finish()
    assert outcome.ok
    assert len(kinds(process, TurnBegan)) == 1
    assert not kinds(process, Remark)[1:], "no message was queued"
    assert stand.models.requests(stand.name)[-1].prompt == "And also that."
    output = kinds(process, ToolEnded)[0]
    assert (output.output, output.exit) == ("slept\n", 0)


def test_a_message_before_the_turn_begins_is_steered_too(stand: Stand) -> None:
    stand.play((Step("Wait.", Shell("sleep 0.3")), Step("Done.")), (Step("Second."),))
    with stand.process() as process:
        process.take(Say("m1", "And also that."))
        process.until_a(Delivered)
        assert process.finish().ok
    assert stand.models.requests(stand.name)[-1].prompt == "And also that."


def test_a_conversation_goes_on_in_a_new_process(stand: Stand) -> None:
    stand.play(WRITES, EDITS)
    with stand.process() as first:
        assert first.finish().ok
    began = kinds(first, Began)[0]
    with stand.process(resume=began.agent_session, message="Now change it.") as second:
        assert second.finish().ok
    assert kinds(second, Began)[0].agent_session == began.agent_session
    assert kinds(second, TurnBegan) == [TurnBegan(prompt="Now change it.")]
    assert (stand.worktree / "notes.txt").read_text() == "three\ntwo\n"
    diff = kinds(second, ToolEnded)[0].diffs[0]
    assert diff.unified is not None
    assert "-one\n+three\n" in diff.unified
    both = [x + y for x, y in zip(usage(first), usage(second), strict=True)]
    assert both == list(spent(stand)), "what was used before the resume is not counted twice"


def test_a_conversation_that_is_gone_is_an_answer(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process(resume="01a20a37-c9ac-76e0-a96b-4b4d1daabe8c", message="Go on.") as process:
        outcome = process.finish()
    assert process.gave_up
    assert not outcome.ok
    assert outcome.reason.startswith("Codex cannot go on with the conversation: no rollout found")


@pytest.mark.parametrize("option", ["accept", "acceptForSession"])
def test_asking_shows_the_change_and_allowing_makes_it(stand: Stand, option: str) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        assert not (stand.worktree / "notes.txt").exists()
        assert asked.title == "Create notes.txt"
        assert asked.tool_id == kinds(process, ToolBegan)[0].id
        assert asked.diffs == (FileDiff(path=str(stand.worktree / "notes.txt"), new="one\ntwo\n"),)
        assert [row.kind for row in asked.options] == ["allow_once", "allow_session", "reject_once", "cancel_turn"]
        process.take(Answer(asked.id, option))
        assert process.finish().ok
    assert (stand.worktree / "notes.txt").read_text() == "one\ntwo\n"


def test_denying_a_change_keeps_the_file_and_passes_the_words_on(stand: Stand) -> None:
    stand.play(WRITES, (Step("I see."),))
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        process.take(Answer(asked.id, "decline", text="Not like that."))
        assert process.finish().ok
    assert not (stand.worktree / "notes.txt").exists()
    assert kinds(process, ToolEnded)[0].status == "denied"
    assert "Not like that." in str(stand.models.requests(stand.name)[-1].body["input"])


def test_cancelling_at_a_request_ends_the_turn(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        process.take(Answer(asked.id, "cancel"))
        outcome = process.finish()
    assert outcome.stopped
    assert kinds(process, TurnEnded)[-1].stop == "cancelled"
    assert not (stand.worktree / "notes.txt").exists()


@pytest.mark.parametrize(("option", "lands"), [("accept", True), ("decline", False)])
def test_a_command_that_needs_more_than_the_sandbox_asks(stand: Stand, option: str, lands: bool) -> None:
    stand.play((Step("Run.", Shell("touch ran.txt", escalate=True)), Step("Done.")))
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        assert asked.title == "touch ran.txt"
        assert "decline" in [row.id for row in asked.options]
        process.take(Answer(asked.id, option))
        assert process.finish().ok, "a denied command does not end the turn"
    assert (stand.worktree / "ran.txt").exists() == lands
    assert kinds(process, ToolEnded)[-1].status == ("completed" if lands else "denied")


def test_reading_is_free_and_writing_by_a_command_is_not_when_asking(stand: Stand) -> None:
    # Of a command that its sandbox makes fail at once, Codex reports nothing at all.
    commands = "cat README.md; echo x > made.txt; true"
    stand.play((Step("Run.", Shell(commands)), Step("Done.")))
    with stand.process("ask") as process:
        assert process.finish().ok
    ended = kinds(process, ToolEnded)[0]
    assert "It says hello." in ended.output
    assert "Read-only file system" in ended.output
    assert not kinds(process, Asked)


def test_with_all_permissions_nothing_is_asked_and_the_sandbox_stays(stand: Stand) -> None:
    commands = f"echo x > made.txt; echo > /dev/tcp/127.0.0.1/{stand.models.port}; true"
    stand.play((Step("Run.", Shell(commands)), Step("Done.")))
    with stand.process("all") as process:
        assert process.finish().ok
    assert not kinds(process, Asked)
    assert (stand.worktree / "made.txt").exists()
    assert "not permitted" in kinds(process, ToolEnded)[0].output, "the sandbox keeps the network shut"


def test_a_question_reaches_the_user_and_the_answer_reaches_codex(stand: Stand) -> None:
    stand.play((Step("Ask.", AskUser("Which colour?", ("Red", "Blue"))), Step("Done.")))
    stand.extra = ("-c", "features.default_mode_request_user_input=true")
    with stand.process() as process:
        asked = process.until_a(Asked)
        assert asked.kind == "question"
        question = asked.questions[0]
        assert question.text == "Which colour?"
        assert question.choices == ("Red", "Blue")
        process.take(Answer(asked.id, answers={question.id: ("Blue",)}))
        assert process.finish().ok
    assert "Blue" in str(stand.models.requests(stand.name)[-1].body["input"][-1])


def test_an_interrupt_ends_the_turn_and_what_was_steered_stays_undelivered(stand: Stand) -> None:
    stand.play((Step("Wait.", Shell("sleep 30")), Step("Done.")))
    with stand.process() as process:
        process.until_a(ToolBegan)
        process.take(Say("m1", "Faster."))
        process.take(Interrupt())
        outcome = process.finish()
    assert outcome.stopped
    assert kinds(process, TurnEnded) == [TurnEnded(stop="cancelled")]
    assert kinds(process, ToolEnded)[0].status == "failed"
    assert not kinds(process, Delivered)


def test_an_interrupt_takes_a_request_back(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        process.until_a(Asked)
        process.take(Interrupt())
        assert process.finish().stopped
    assert not (stand.worktree / "notes.txt").exists()


def test_an_interrupt_before_the_turn_begins_is_kept(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        process.until_a(Began)
        process.take(Interrupt())
        assert process.finish().stopped


def test_too_many_requests_are_reported_and_then_it_goes_well(stand: Stand) -> None:
    stand.play(WRITES, faults=(Fault(429, retry_after_s=1, times=1),))
    with stand.process() as process:
        assert process.finish().ok
    retries = kinds(process, Retry)
    assert [(retry.kind, retry.attempt, retry.most) for retry in retries] == [("rate_limit", 1, 3)]
    assert retries[0].account == "scripted"
    assert usage(process) == spent(stand)


def test_a_refused_key_fails_fast(stand: Stand) -> None:
    stand.play(WRITES, faults=(Fault(401, times=None),))
    with stand.process() as process:
        trouble = process.until_a(Trouble)
        assert (trouble.kind, trouble.fatal) == ("auth", True)
        outcome = process.finish()
    assert process.gave_up
    assert outcome.trouble == "auth"
    assert outcome.reason.startswith("The model provider scripted refuses Codex's key")
    assert len(stand.models.requests(stand.name)) == 1


def test_without_a_login_it_gives_up_before_any_request(stand: Stand) -> None:
    stand.play(WRITES)
    stand.extra = ("-c", 'model_provider="openai"')
    with stand.process() as process:
        outcome = process.finish()
    assert process.gave_up
    assert "codex login" in outcome.reason
    assert kinds(process, Trouble)[0].account == "openai"
    assert not stand.models.requests(stand.name)


def test_a_used_up_quota_is_fatal(stand: Stand) -> None:
    body = {"error": {"type": "usage_limit_reached", "message": "x", "plan_type": "plus", "resets_at": 1795475000}}
    stand.play(WRITES, faults=(Fault(429, times=None, body=body),))
    with stand.process() as process:
        outcome = process.finish()
    assert outcome.trouble == "quota"
    assert "usage limit" in outcome.reason


def test_an_overloaded_provider_fails_the_turn_in_the_end(stand: Stand) -> None:
    stand.play(WRITES, faults=(Fault(400, times=None, message="No such thing."),))
    with stand.process() as process:
        outcome = process.finish()
    assert not outcome.ok
    assert not process.gave_up
    assert "No such thing." in outcome.reason
    assert kinds(process, TurnEnded)[0].stop == "error"


def test_a_killed_codex_has_failed(stand: Stand) -> None:
    stand.play((Step("Wait.", Shell("sleep 30")), Step("Done.")))
    with stand.process() as process:
        process.until_a(ToolBegan)
        process.process.kill()
        outcome = process.finish()
    assert not outcome.ok
    assert outcome.reason.startswith("It ended without finishing its turn")


def test_exec_edits_and_goes_on_in_a_new_process(stand: Stand) -> None:
    stand.play(WRITES, EDITS)
    with stand.process(adapter=CodexExec()) as first:
        assert first.finish().ok
    assert (stand.worktree / "notes.txt").read_text() == "one\ntwo\n"
    began = kinds(first, Began)[0]
    with stand.process(adapter=CodexExec(), resume=began.agent_session, message="-- Now change it.") as second:
        process = second.until_a(TurnBegan)
        second.take(Say("m1", "More."))
        assert second.finish().ok
    assert process == TurnBegan(prompt="-- Now change it.")
    assert kinds(second, Began)[0].agent_session == began.agent_session
    assert (stand.worktree / "notes.txt").read_text() == "three\ntwo\n"
    assert [report.scope for report in (*kinds(first, Used), *kinds(second, Used))] == ["thread", "thread"]
    last = kinds(second, Used)[0]
    assert (last.input, last.cache_read, last.output, last.reasoning) == spent(stand), "the sum of both processes"
    assert not kinds(second, Delivered)


def test_exec_that_may_not_ask_may_only_read(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask", adapter=CodexExec()) as process:
        assert process.finish().ok
    assert not (stand.worktree / "notes.txt").exists()
    assert "cannot ask" in kinds(process, Remark)[0].text


def test_exec_is_ended_by_an_interrupt_and_by_a_refused_key(stand: Stand) -> None:
    stand.play((Step("Wait.", Shell("sleep 30")), Step("Done.")))
    with stand.process(adapter=CodexExec()) as process:
        process.until_a(ToolBegan)
        process.take(Interrupt())
        assert process.finish().stopped
    stand.play(WRITES, faults=(Fault(401, times=None),))
    with stand.process(adapter=CodexExec()) as process:
        outcome = process.finish()
    assert outcome.trouble == "auth"
    assert "codex login" in outcome.reason


def usage(process: Driven) -> tuple[int, ...]:
    found: list[Used] = kinds(process, Used)
    assert {report.scope for report in found} <= {"request"}
    return tuple(
        sum(getattr(report, name) for report in found) for name in ("input", "cache_read", "output", "reasoning")
    )


def spent(stand: Stand) -> tuple[int, ...]:
    total = stand.models.spent(stand.name).total
    return (total.input, total.cache_read, total.output, total.reasoning)
