"""Claude Code, the real program against the scripted model server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plait.agents.adapter import Answer, GiveUp, HangUp, Interrupt, Job, Say
from plait.agents.adapter import Write as Written
from plait.agents.claude import Claude
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
    ToolUpdated,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    Used,
    Withdrawn,
)
from tests.support.driving import Driven, driven
from tests.support.models import AskUser, Edit, Fault, ModelServer, Raw, Scenario, Shell, Step, Tokens, Write
from tests.support.real_agents import RealAgent

pytestmark = [pytest.mark.agents, pytest.mark.slow]

WRITES = (Step("I will write it.", Write("notes.txt", "one\ntwo\n")), Step("Done: wrote notes.txt."))
NEVER = "while :; do sleep 1; done"


class Stand:
    """Claude Code at its scripted model, in a worktree; every process is fed to a second driver at its end."""

    def __init__(self, agent: RealAgent, models: ModelServer, worktree: Path, directory: Path) -> None:
        self.agent = agent
        self.models = models
        self.worktree = worktree
        self.directory = directory
        self.name = directory.name
        self.variables: dict[str, str] = {}
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
    def process(self, permission: PermissionMode = "edits", **job: Any) -> Iterator[Driven]:
        self._processes += 1
        self.job = replace(self.job, permission=permission, **job)
        environment = self.agent.environment(self.models, self.name, self.directory / "home") | self.variables
        place = self.directory / f"process-{self._processes}"
        with driven(Claude(), self.agent.command, self.job, environment, place) as process:
            yield process
        assert process.replayed(Claude().driver(self.job), 77) == process.effects
        assert not kinds(process, Unread)
        assert sorted(report.id for report in kinds(process, Asked)) == sorted(
            report.id for report in kinds(process, Withdrawn)
        )
        writes = [effect.id for effect in process.effects if isinstance(effect, Written)]
        assert len(set(writes)) == len(writes)


@pytest.fixture
def stand(real: Callable[[str], RealAgent], models: ModelServer, worktree: Path, tmp_path: Path) -> Stand:
    return Stand(real("claude"), models, worktree, tmp_path)


def kinds(process: Driven, kind: type[Report]) -> list[Any]:
    return [report for report in process.reports if isinstance(report, kind)]


def until_written(process: Driven, words: bytes) -> None:
    """Waits until the process has written the words, without reading them."""
    deadline = time.monotonic() + 20
    while words not in process.output.read_bytes():
        assert time.monotonic() < deadline, process.story()
        time.sleep(0.01)


def counted(process: Driven) -> Tokens:
    """The tokens of all turns of a process."""
    used = kinds(process, Used)
    assert all(report.scope == "turn" for report in used)
    parts = ("input", "cache_read", "cache_write", "output")
    return Tokens(**{part: sum(getattr(report, part) for report in used) for part in parts})


def told(stand: Stand) -> Tokens:
    """What the model server told; the provider's tokens for thinking are within its output."""
    return replace(stand.models.spent(stand.name).total, requests=0, reasoning=0)


def test_an_edit_lands_and_every_token_is_counted(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process() as process:
        outcome = process.finish()
    assert outcome.ok, outcome
    assert (stand.worktree / "notes.txt").read_text() == "one\ntwo\n"
    began = kinds(process, Began)
    assert [report.mode for report in began] == ["acceptEdits"]
    assert [report.text for report in kinds(process, Message)] == ["I will write it.", "Done: wrote notes.txt."]
    assert kinds(process, TurnBegan) == [TurnBegan(prompt="Write notes.txt.")]
    assert kinds(process, TurnEnded) == [TurnEnded(stop="end_turn", text="Done: wrote notes.txt.")]
    tool, ended = kinds(process, ToolBegan)[0], kinds(process, ToolEnded)[0]
    path = str(stand.worktree / "notes.txt")
    assert (tool.kind, tool.title, tool.places[0].path) == ("edit", f"Write {path}", path)
    assert (ended.id, ended.status) == (tool.id, "completed")
    assert ended.diffs == (FileDiff(path=path, new="one\ntwo\n"),)
    assert counted(process) == told(stand)
    assert kinds(process, Used)[0].cost_usd > 0
    assert kinds(process, Context)[-1].size >= 200_000
    assert not kinds(process, Trouble)
    assert process.effects[-1] == HangUp()


def test_an_edit_of_a_file_is_reported_as_a_unified_diff(stand: Stand) -> None:
    stand.play(
        (
            Step("I look.", Raw("Read", {"file_path": str(stand.worktree / "hello.py")})),
            Step("I edit.", Edit("hello.py", 'print("hello")', 'print("good day")')),
            Step("Done."),
        )
    )
    with stand.process() as process:
        assert process.finish().ok
    assert (stand.worktree / "hello.py").read_text() == 'print("good day")\n'
    read, edited = kinds(process, ToolEnded)
    assert read.diffs == ()
    (diff,) = edited.diffs
    assert diff.unified.splitlines()[2:] == ["@@ -1,1 +1,1 @@", '-print("hello")', '+print("good day")']


def test_a_message_in_the_middle_of_a_turn_is_steered_into_it(stand: Stand) -> None:
    stand.play((Step("Wait.", Shell("sleep 0.7; echo slept")), Step("Done.")), (Step("Second."),))
    with stand.process("all") as process:
        process.until_a(ToolBegan)
        process.take(Say("m1", "And also that."))
        assert process.until_a(Delivered) == Delivered(id="m1")
        assert process.finish().ok
    assert len(kinds(process, TurnBegan)) == 1
    assert kinds(process, ToolEnded)[0].exit == 0
    assert "And also that." in json.dumps(stand.models.requests(stand.name)[-1].body["messages"][-1])
    assert counted(process) == told(stand)


def test_a_message_at_the_very_end_of_a_turn_is_the_next_turn_of_the_same_process(stand: Stand) -> None:
    stand.play((Step("First, held.", hold=True),), (Step("Second."),))
    with stand.process() as process:
        stand.models.wait_held(stand.name)
        process.take(Say("m1", "Now the second."))
        # Claude Code has the message once it notes that it is queued; then the only reply of the turn goes on.
        until_written(process, b'"queued"')
        stand.models.release(stand.name)
        assert process.until_a(Delivered) == Delivered(id="m1")
        assert process.finish().ok
    assert [report.prompt for report in kinds(process, TurnBegan)] == ["Write notes.txt.", "Now the second."]
    assert [report.text for report in kinds(process, TurnEnded)] == ["First, held.", "Second."]
    assert counted(process) == told(stand)
    assert process.effects.count(HangUp()) == 1


def test_a_conversation_goes_on_in_a_new_process_and_no_token_is_counted_twice(stand: Stand) -> None:
    stand.play(WRITES, (Step("Changed it."),))
    with stand.process() as first:
        assert first.finish().ok
    before = told(stand)
    began = kinds(first, Began)[0]
    with stand.process(resume=began.agent_session, message="Now change it.") as second:
        assert second.finish().ok
    assert kinds(second, Began)[0].agent_session == began.agent_session
    assert kinds(second, TurnBegan) == [TurnBegan(prompt="Now change it.")]
    assert counted(first) == before
    assert counted(first) + counted(second) == told(stand)
    assert kinds(second, Used)[0].cost_usd < kinds(first, Used)[0].cost_usd


def test_a_conversation_that_is_not_there_fails_with_its_words(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process(resume="aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", message="Go on.") as process:
        outcome = process.finish()
    assert not outcome.ok
    assert "No conversation found" in outcome.reason


def test_a_permission_is_asked_for_and_given(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        path = str(stand.worktree / "notes.txt")
        assert (asked.kind, asked.tool, asked.tool_kind) == ("permission", "Write", "edit")
        assert asked.title == f"Write {path}"
        assert asked.diffs == (FileDiff(path=path, new="one\ntwo\n"),)
        assert [(option.id, option.kind) for option in asked.options] == [
            ("allow", "allow_once"),
            ("allow-1", "allow_session"),
            ("reject", "reject_once"),
            ("cancel", "cancel_turn"),
        ]
        process.take(Answer(asked.id, "allow"))
        assert process.finish().ok
    assert (stand.worktree / "notes.txt").read_text() == "one\ntwo\n"


def test_a_permission_for_all_edits_lasts_for_the_run(stand: Stand) -> None:
    stand.play((Step("", Write("a.txt", "a")), Step("", Write("b.txt", "b")), Step("Done.")))
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        assert asked.options[1].label == "Allow all edits in this run"
        process.take(Answer(asked.id, "allow-1"))
        assert process.finish().ok
    assert len(kinds(process, Asked)) == 1
    assert (stand.worktree / "b.txt").read_text() == "b"


def test_a_rule_that_is_allowed_is_kept_out_of_the_worktree(stand: Stand) -> None:
    stand.play((Step("", Shell("touch a.txt")), Step("", Shell("touch a.txt")), Step("Done.")))
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        rule = next(option for option in asked.options if option.label.startswith("Allow Bash("))
        process.take(Answer(asked.id, rule.id))
        for _ in range(2):
            report = process.until(lambda report: isinstance(report, Asked | TurnEnded))
            if isinstance(report, TurnEnded):
                break
            process.take(Answer(report.id, "allow"))  # type: ignore[union-attr]  # it is one of the two
        assert process.finish().ok
    assert (stand.worktree / "a.txt").exists()
    assert not (stand.worktree / ".claude").exists()


def test_a_refused_permission_reaches_the_model_with_the_users_words(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        process.take(Answer(asked.id, "reject", text="Call it log.txt."))
        outcome = process.finish()
    assert outcome.ok, "the agent went on and ended its turn well"
    assert not (stand.worktree / "notes.txt").exists()
    assert kinds(process, ToolEnded)[0].status == "denied"
    assert "Call it log.txt." in json.dumps(stand.models.requests(stand.name)[-1].body)


def test_a_refusal_can_end_the_turn(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        process.take(Answer(process.until_a(Asked).id, "cancel"))
        outcome = process.finish()
    assert outcome.stopped
    assert kinds(process, TurnEnded)[0].stop == "cancelled"
    assert not (stand.worktree / "notes.txt").exists()


def test_a_question_is_put_to_the_user_and_the_answer_reaches_the_model(stand: Stand) -> None:
    stand.play((Step("I ask.", AskUser("Which colour?", ("Red", "Blue"))), Step("Thanks.")))
    with stand.process("all") as process:
        asked = process.until_a(Asked)
        assert asked.kind == "question"
        assert asked.questions[0].choices == ("Red", "Blue")
        assert asked.questions[0].text.startswith("Which colour?")
        process.take(Answer(asked.id, answers={asked.questions[0].id: ("Green, my own",)}))
        assert process.finish().ok
    assert "Green, my own" in kinds(process, ToolEnded)[0].output


def test_a_plan_is_put_to_the_user(stand: Stand) -> None:
    stand.play(
        (
            Step("I plan.", Raw("EnterPlanMode", {})),
            Step("This is it.", Raw("ExitPlanMode", {"plan": "1. Write it"})),
            Step("Done."),
        )
    )
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        if asked.tool == "EnterPlanMode":
            process.take(Answer(asked.id, "allow"))
            asked = process.until_a(Asked)
        assert (asked.title, asked.input) == ("It has a plan and asks to begin", "1. Write it")
        process.take(Answer(asked.id, "allow"))
        assert process.finish().ok
    assert "plan" in [report.mode for report in kinds(process, Began)]


def test_an_interruption_ends_the_turn_and_a_running_command(stand: Stand) -> None:
    stand.play((Step("Wait.", Shell(NEVER)), Step("Never.")))
    with stand.process("all") as process:
        process.until_a(ToolBegan)
        process.take(Interrupt())
        outcome = process.finish()
    assert outcome.stopped
    assert [report.stop for report in kinds(process, TurnEnded)] == ["cancelled"]
    assert counted(process) == told(stand)


def test_an_interruption_takes_a_request_back(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        process.take(Interrupt())
        assert process.until_a(Withdrawn) == Withdrawn(id=asked.id)
        assert process.finish().stopped


def test_an_interruption_before_the_first_word_ends_the_turn(stand: Stand) -> None:
    stand.play((Step("Held.", hold=True),))
    with stand.process() as process:
        process.take(Interrupt())
        outcome = process.finish()
    assert outcome.stopped


def test_a_message_that_waits_at_an_interruption_stays_undelivered(stand: Stand) -> None:
    stand.play((Step("Held.", hold=True),), (Step("Second."),))
    with stand.process() as process:
        stand.models.wait_held(stand.name)
        process.take(Say("m1", "Later."))
        until_written(process, b'"queued"')
        process.take(Interrupt())
        assert process.finish().stopped
    assert not kinds(process, Delivered)
    assert len(stand.models.requests(stand.name)) == 1


def test_a_rate_limit_is_reported_with_its_delay_and_survived(stand: Stand) -> None:
    stand.play(WRITES, faults=[Fault(status=429, retry_after_s=1)])
    with stand.process() as process:
        assert process.finish().ok
    (again,) = kinds(process, Retry)
    assert (again.account, again.kind, again.attempt, again.text) == ("anthropic", "rate_limit", 1, "429 rate_limit")
    assert 1 <= again.delay_s < 2
    assert counted(process) == told(stand)


def test_a_wrong_key_fails_fast_with_what_to_do(stand: Stand) -> None:
    stand.play(WRITES, faults=[Fault(status=401, times=None)])
    with stand.process() as process:
        outcome = process.finish()
    assert process.gave_up
    assert [report.fatal for report in kinds(process, Trouble)] == [True]
    assert outcome.trouble == "auth"
    assert "ANTHROPIC_API_KEY" in outcome.reason
    assert len(stand.models.requests(stand.name)) <= 2


def test_without_a_login_it_says_how_to_get_one(stand: Stand) -> None:
    stand.play(WRITES)
    stand.variables = {"ANTHROPIC_API_KEY": ""}
    with stand.process() as process:
        outcome = process.finish()
    assert outcome.trouble == "auth"
    assert outcome.reason == "Claude Code is not logged in: run `claude` and use /login, or set ANTHROPIC_API_KEY."
    assert kinds(process, Trouble)[0].fatal


SUBSCRIPTION = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-scripted"}


def test_a_subscription_that_is_used_up_fails_with_the_time_of_its_return(stand: Stand) -> None:
    stand.variables = SUBSCRIPTION
    back = int(time.time()) + 3600
    headers = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(back),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
        "anthropic-ratelimit-unified-overage-status": "rejected",
        "anthropic-ratelimit-unified-overage-disabled-reason": "org_level_disabled",
    }
    stand.play(WRITES, faults=[Fault(status=429, times=None, headers=headers)])
    with stand.process() as process:
        outcome = process.finish()
    assert outcome.trouble == "quota"
    trouble = kinds(process, Trouble)[0]
    assert (trouble.fatal, trouble.resets_at) == (True, back)
    assert kinds(process, Limit)[0].status == "rejected"
    assert len(stand.models.requests(stand.name)) == 1


def test_a_subscription_tells_its_limits(stand: Stand) -> None:
    stand.variables = SUBSCRIPTION
    stand.play(WRITES)
    with stand.process() as process:
        assert process.finish().ok
    limited = kinds(process, Limit)[0]
    assert limited.account == "anthropic (subscription)"
    assert {window.name: window.minutes for window in limited.windows} == {"5 hours": 300, "7 days": 10080}


def test_subagents_hold_the_turn_open_until_they_have_reported(stand: Stand) -> None:
    task = {"description": "Look around", "prompt": "LOOK", "subagent_type": "Explore"}
    # The subagent plays the same scenario: it has no such tool, and its report is what comes next.
    stand.play((Step("I send one.", Raw("Agent", task)), Step("It is under way.")))
    with stand.process() as process:
        assert process.finish().ok
    assert len(kinds(process, TurnBegan)) == 1
    assert len(kinds(process, TurnEnded)) == 1
    assert counted(process) == told(stand)
    tool = kinds(process, ToolBegan)[0]
    assert [report.output for report in kinds(process, ToolEnded) if report.id == tool.id] == ["It is under way."]
    assert kinds(process, ToolUpdated)


def test_a_command_left_in_the_background_is_named_and_may_finish(stand: Stand) -> None:
    shell = {"command": "sleep 1; echo late > late.txt", "description": "Write late", "run_in_background": True}
    stand.play((Step("I start it.", Raw("Bash", shell)), Step("Started."), Step("It is finished.")))
    with stand.process("all") as process:
        assert process.finish().ok
    assert (stand.worktree / "late.txt").read_text() == "late\n"
    remark = next(report.text for report in kinds(process, Remark))
    assert remark.startswith("It left running in the background: Write late.")
    assert HangUp(after_s=600.0) in process.effects
    assert counted(process) == told(stand)


def test_a_program_that_refuses_to_start_is_quoted(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process(resume="no-such-id", message="Go on.") as process:
        outcome = process.finish()
    assert not outcome.ok
    assert "no-such-id" in outcome.reason
    assert not any(isinstance(effect, GiveUp) for effect in process.effects)
