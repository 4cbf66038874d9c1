"""Aider, the real program against the scripted model server, driven from inside its own interpreter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plait.agents.adapter import Answer, Interrupt, Job, Say, Write
from plait.agents.aider import Aider
from plait.core.events import PermissionMode
from plait.core.reports import (
    Asked,
    Began,
    Context,
    Delivered,
    Message,
    Remark,
    Report,
    Retry,
    Thought,
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
from tests.support.models import Edit, Fault, ModelServer, Scenario, Shell, Step, Tokens
from tests.support.real_agents import RealAgent
from tests.support.repo import run_git

pytestmark = [pytest.mark.agents, pytest.mark.slow]

WRITES = (Step("I will write it.", scripted.Write("notes.txt", "one\ntwo\n")), Step("Done: wrote notes.txt."))
EDITS = (Step("I will change it.", Edit("notes.txt", "one", "three")), Step("Done: changed it."))


class Stand:
    """Aider at its scripted model, in a worktree; every process is fed to a second driver at its end."""

    def __init__(self, agent: RealAgent, models: ModelServer, worktree: Path, directory: Path) -> None:
        self.agent = agent
        self.models = models
        self.worktree = worktree
        self.directory = directory
        self.name = directory.name
        self.home = directory / "aider"
        self._processes = 0
        files = directory / "files"
        files.mkdir()
        self.job = Job("s-1", "t", "Notes", "Make notes.", str(worktree), 0, files=str(files))

    def play(self, *turns: tuple[Step, ...], **more: Any) -> None:
        self.models.put(self.name, Scenario(turns, **more))

    @contextmanager
    def process(self, permission: PermissionMode = "edits", config: str = "", **job: Any) -> Iterator[Driven]:
        self._processes += 1
        self.job = replace(self.job, permission=permission, **job)
        environment = self.agent.environment(self.models, self.name, self.home)
        if config:
            (self.worktree / ".aider.conf.yml").write_text(config)
        place = self.directory / f"process-{self._processes}"
        with driven(Aider(), self.agent.command, self.job, environment, place) as process:
            yield process
        assert process.replayed(Aider().driver(self.job), 77) == process.effects
        assert not kinds(process, Unread), process.story()
        asked = [report.id for report in kinds(process, Asked)]
        assert sorted(asked) == sorted(report.id for report in kinds(process, Withdrawn))
        began = [report.id for report in kinds(process, ToolBegan)]
        assert sorted(began) == sorted(report.id for report in kinds(process, ToolEnded))
        writes = [effect.id for effect in process.effects if isinstance(effect, Write)]
        assert len(set(writes)) == len(writes)

    def status(self) -> list[str]:
        """What git sees changed in the worktree."""
        return run_git(self.worktree, "status", "--porcelain").splitlines()


@pytest.fixture
def stand(real: Callable[[str], RealAgent], models: ModelServer, worktree: Path, tmp_path: Path) -> Stand:
    return Stand(real("aider"), models, worktree, tmp_path)


def kinds(process: Driven, kind: type[Report]) -> list[Any]:
    return [report for report in process.reports if isinstance(report, kind)]


def used(process: Driven) -> Tokens:
    """What the process says that it used, all told."""
    return sum(
        (Tokens(u.input, u.cache_read, u.cache_write, u.output, u.reasoning, 1) for u in kinds(process, Used)), Tokens()
    )


def texts(process: Driven) -> list[str]:
    return [report.text for report in kinds(process, Message) if not report.partial]


def test_an_edit_lands_and_a_message_meanwhile_becomes_the_next_turn(stand: Stand) -> None:
    stand.play(WRITES, EDITS, usage=(Tokens(1000, 600, 0, 40, 7), Tokens(2000, 0, 0, 50, 0)))
    with stand.process() as process:
        process.until_a(TurnBegan)
        process.take(Say("m1", "Change notes.txt."))
        outcome = process.finish()
    assert outcome.ok, process.story()
    assert (stand.worktree / "notes.txt").read_text() == "three\ntwo\n"
    assert stand.status() == ["AM notes.txt"], "it commits nothing and leaves nothing of its own"
    began = kinds(process, Began)
    assert (began[0].agent_session, began[0].model, began[0].mode) == ("s-1", "openai/fake-1", "diff")
    assert [report.prompt for report in kinds(process, TurnBegan)] == ["Make notes.", "Change notes.txt."]
    assert [report.stop for report in kinds(process, TurnEnded)] == ["end_turn", "end_turn"]
    assert "It will be told when this turn is over." in [report.text for report in kinds(process, Remark)]
    assert kinds(process, Delivered) == [Delivered(id="m1")]
    assert texts(process)[0].startswith("I will write it.")
    pieces = [report.text for report in kinds(process, Message) if report.partial]
    assert pieces
    assert all(any(piece in text for text in texts(process)) for piece in pieces)
    names = [report.name for report in kinds(process, ToolBegan)]
    assert names == ["create", "lint", "edit", "lint"]
    diffs = [report.diffs[0].unified for report in kinds(process, ToolEnded) if report.diffs]
    assert diffs == [
        "--- /dev/null\n+++ b/notes.txt\n@@ -0,0 +1,2 @@\n+one\n+two\n",
        "--- a/notes.txt\n+++ b/notes.txt\n@@ -1,2 +1,2 @@\n-one\n+three\n two\n",
    ]
    assert used(process) == stand.models.spent(stand.name).main
    costs = [report.cost_usd for report in kinds(process, Used)]
    assert costs[1] == pytest.approx(2000 * 3e-6 + 50 * 15e-6)
    assert kinds(process, Context)[0].size == 200_000
    assert kinds(process, Context)[0].used == 1640


def test_a_conversation_goes_on_in_a_new_process_with_its_files(stand: Stand) -> None:
    stand.play(WRITES, EDITS)
    with stand.process() as first:
        assert first.finish().ok
    with stand.process(resume="s-1", message="Change it.") as second:
        assert second.finish().ok, second.story()
    assert (stand.worktree / "notes.txt").read_text() == "three\ntwo\n"
    last = stand.models.requests(stand.name)[-1]
    said = [str(message["content"]) for message in last.body["messages"]]
    assert any("I will write it." in text for text in said), "it remembers what it said"
    assert any("one\ntwo" in text and "notes.txt" in text for text in said), "the file is in the chat again"
    assert kinds(second, Began)[0].agent_session == "s-1"


def test_asking_shows_each_change_before_it_is_made(stand: Stand) -> None:
    both = Step("Both.", (scripted.Write("new.txt", "new\n"), Edit("hello.py", 'print("hello")', 'print("bye")')))
    stand.play((both,), (Step("I see."),))
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        while asked.tool == "read":
            process.take(Answer(asked.id, "yes"))
            asked = process.until_a(Asked)
        assert (asked.title, asked.tool_kind) == ("Edit hello.py", "edit")
        assert asked.diffs[0].unified is not None
        assert '-print("hello")\n+print("bye")\n' in asked.diffs[0].unified
        assert asked.tool_id in [report.id for report in kinds(process, ToolBegan)]
        assert [option.kind for option in asked.options] == ["allow_once", "allow_session", "reject_once"]
        assert stand.status() == []
        process.take(Answer(asked.id, "no", text="Keep the greeting."))
        process.take(Answer(asked.id, "yes"))
        other = process.until_a(Asked)
        assert (other.title, other.diffs[0].unified) == (
            "Create new.txt",
            "--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+new\n",
        )
        assert not (stand.worktree / "new.txt").exists()
        process.take(Answer(other.id, "yes"))
        process.take(Say("m1", "What do you see?"))
        assert process.finish().ok, process.story()
    assert stand.status() == ["A  new.txt"]
    assert [r.status for r in kinds(process, ToolEnded) if r.diffs or r.status == "denied"] == ["denied", "completed"]
    assert "I did not accept your change to hello.py. Keep the greeting." in json.dumps(
        stand.models.requests(stand.name)[-1].body
    )


def test_a_command_is_run_if_the_user_says_yes_and_not_if_no(stand: Stand) -> None:
    stand.play((Step("Look.", Shell("echo seen > seen.txt; echo loud")),), (Step("Again.", Shell("touch other.txt")),))
    with stand.process("edits") as process:
        asked = process.until_a(Asked)
        assert (asked.tool_kind, asked.input) == ("execute", "echo seen > seen.txt; echo loud")
        assert not (stand.worktree / "seen.txt").exists()
        process.take(Say("m1", "And now?"))
        process.take(Answer(asked.id, "yes"))
        second = process.until_a(Asked)
        assert second.input == "touch other.txt"
        assert {option.kind for option in second.options} >= {"allow_once", "reject_once", "reject_always"}
        process.take(Answer(second.id, "no"))
        assert process.finish().ok, process.story()
    tools = kinds(process, ToolEnded)
    assert [(tool.exit, tool.output) for tool in tools] == [(0, "loud\n")]
    assert (stand.worktree / "seen.txt").read_text() == "seen\n"
    assert not (stand.worktree / "other.txt").exists()
    assert "loud" in json.dumps(stand.models.requests(stand.name)[-1].body)


def test_with_all_permissions_nothing_is_asked_and_a_stop_ends_the_command(stand: Stand) -> None:
    stand.play((Step("Wait.", Shell("touch begun; exec sleep 600")),))
    with stand.process("all") as process:
        process.until_a(ToolBegan)
        process.take(Interrupt())
        ended = process.until_a(TurnEnded)
        assert ended.stop == "cancelled"
        outcome = process.finish()
    assert not kinds(process, Asked)
    assert (outcome.ok, outcome.stopped) == (False, True)
    assert kinds(process, ToolEnded)[-1].status == "failed"


def test_an_interrupt_ends_a_turn_in_the_middle_of_a_reply(stand: Stand) -> None:
    stand.play((Step("I will never come to the end of this.", hold=True),))
    with stand.process() as process:
        stand.models.wait_held(stand.name)
        process.take(Interrupt())
        process.until_a(TurnEnded, 10)
        outcome = process.finish()
    assert outcome.stopped
    assert kinds(process, TurnEnded) == [TurnEnded(stop="cancelled")]
    assert stand.models.requests(stand.name)[0].ending in ("client left", "open")


def test_an_interrupt_while_it_asks_takes_the_question_back(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process("ask") as process:
        asked = process.until_a(Asked)
        process.take(Say("m1", "Later."))
        process.take(Interrupt())
        assert process.until_a(Withdrawn).id == asked.id
        assert process.finish().stopped
    assert stand.status() == []
    assert not kinds(process, Delivered), "what was said before the stop waits for the next process"


def test_an_interrupt_before_it_is_up_is_heeded(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process() as process:
        process.take(Interrupt())
        assert process.finish().stopped
    assert kinds(process, TurnEnded) == [TurnEnded(stop="cancelled")]
    assert stand.models.requests(stand.name) == []


def test_a_rate_limit_is_told_and_waited_for_as_long_as_the_provider_says(stand: Stand) -> None:
    stand.play(WRITES, faults=[Fault(429, retry_after_s=1.5), Fault(503)])
    with stand.process() as process:
        assert process.finish().ok, process.story()
    retries = kinds(process, Retry)
    assert [(retry.account, retry.kind, retry.attempt) for retry in retries] == [
        ("openai", "rate_limit", 1),
        ("openai", "overloaded", 2),
    ]
    assert retries[0].delay_s == 1.5
    assert retries[1].delay_s is not None
    assert retries[1].delay_s < 1.5
    assert used(process) == stand.models.spent(stand.name).main
    assert (stand.worktree / "notes.txt").exists()
    assert len(stand.models.requests(stand.name)) == 3 + (used(process).requests - 1), "no attempt goes unseen"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault(401, times=None), "auth", "set its key"),
        (
            Fault(
                429, times=None, body={"error": {"message": "No credit.", "code": "insufficient_quota", "type": "q"}}
            ),
            "quota",
            "no credit left",
        ),
    ],
)
def test_what_only_the_user_can_mend_fails_at_once(stand: Stand, fault: Fault, kind: str, words: str) -> None:
    stand.play(WRITES, faults=[fault])
    with stand.process() as process:
        outcome = process.finish()
    assert process.gave_up
    trouble = kinds(process, Trouble)[0]
    assert (trouble.kind, trouble.fatal, trouble.account) == (kind, True, "openai")
    assert (outcome.ok, outcome.trouble) == (False, kind)
    assert words in outcome.reason
    assert len(stand.models.requests(stand.name)) == 1


def test_a_test_command_from_the_repository_is_asked_for(stand: Stand) -> None:
    stand.play(WRITES)
    with stand.process(config="auto-test: true\ntest-cmd: touch executed\n") as process:
        asked = process.until_a(Asked)
        assert (asked.title, asked.tool_kind) == ("Run touch executed", "execute")
        assert not (stand.worktree / "executed").exists()
        process.take(Answer(asked.id, "no"))
        assert process.finish().ok, process.story()
    assert not (stand.worktree / "executed").exists()
    assert ToolEnded(id=asked.tool_id or "", status="denied") in process.reports


def test_edits_that_never_fit_are_no_success_and_thoughts_are_told_as_such(stand: Stand) -> None:
    wrong = "hello.py\n```\n<<<<<<< SEARCH\nno such line\n=======\nx\n>>>>>>> REPLACE\n```\n"
    stand.play((Step(wrong, thought="I am sure of that line."),))
    with stand.process(resume="lost", message="Change it.") as process:
        outcome = process.finish()
    assert (outcome.ok, outcome.stopped) == (False, False)
    assert outcome.reason.startswith("Its edits could not be applied: # 1 SEARCH/REPLACE block failed to match!")
    assert len(stand.models.requests(stand.name)) == 4, "it tries three times more"
    thoughts = [report.text for report in kinds(process, Thought) if not report.partial]
    assert set(thoughts) == {"I am sure of that line."}
    assert texts(process)[0].strip() == wrong.strip()
    assert stand.status() == []
    gone = "The earlier conversation is gone; it begins anew, with the files as they are."
    assert gone in [report.text for report in kinds(process, Remark)]


def test_without_a_model_and_a_key_it_says_what_is_missing(stand: Stand) -> None:
    stand.play(WRITES)
    stand.agent.environment(stand.models, stand.name, stand.home)
    agent = replace(stand.agent, settings=lambda base, home: {"LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    (stand.home / ".aider.conf.yml").unlink()
    stand.agent = agent
    with stand.process() as process:
        outcome = process.finish()
    assert process.gave_up
    assert kinds(process, Trouble)[0].kind == "auth"
    assert "set its key" in outcome.reason
