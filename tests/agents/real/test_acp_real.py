"""Gemini CLI, Copilot CLI and `opencode acp`, the real programs against the scripted model server.

None of them says over ACP that a request was refused with 429 and is tried again, so only what comes of it is seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plait.agents.acp import Acp
from plait.agents.adapter import Answer, GiveUp, HangUp, Interrupt, Job, Say
from plait.agents.adapter import Write as Written
from plait.core.events import PermissionMode
from plait.core.reports import (
    Asked,
    Began,
    Delivered,
    Message,
    Remark,
    Report,
    ToolBegan,
    ToolEnded,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    Used,
    Withdrawn,
)
from tests.support.driving import Driven, driven
from tests.support.models import Edit, Fault, ModelServer, Scenario, Shell, Step, Write
from tests.support.real_agents import RealAgent

pytestmark = [pytest.mark.agents, pytest.mark.slow]

WRITES = (Step("I will write it.", Write("notes.txt", "one\n")), Step("Done: wrote notes.txt."))
EDITS = (Step("I will change it.", Edit("notes.txt", "one", "two")), Step("Done: changed it."))
RUNS = (Step("I will run it.", Shell("touch ran.txt")), Step("Done: tried it."))
HELD = (Step("I stop here and wait for ever.", hold=True),)

PRESETS = {"gemini": "gemini", "copilot": "copilot", "opencode": "opencode-acp"}


class Stand:
    """An agent at its scripted model, in a worktree; every process is fed to a second driver at its end."""

    def __init__(self, agent: RealAgent, models: ModelServer, worktree: Path, directory: Path) -> None:
        self.agent = agent
        self.models = models
        self.worktree = worktree
        self.directory = directory
        self.home = directory / "home"
        self.name = directory.name
        self.command = (*agent.command, "acp") if agent.name == "opencode" else agent.command
        self.job = Job(
            session="s",
            task="t",
            title="Notes",
            prompt="Write notes.txt.",
            worktree=str(worktree),
            port=0,
            preset=PRESETS[agent.name],
        )
        self._processes = 0

    def play(self, *turns: tuple[Step, ...], **more: Any) -> None:
        self.models.put(self.name, Scenario(turns, **more))

    @contextmanager
    def process(self, permission: PermissionMode, **job: Any) -> Iterator[Driven]:
        self._processes += 1
        self.job = replace(self.job, permission=permission, **job)
        environment = self.agent.environment(self.models, self.name, self.home)
        with driven(Acp(), self.command, self.job, environment, self.directory / f"run-{self._processes}") as process:
            yield process
        assert process.replayed(Acp().driver(self.job), 77) == process.effects
        assert not kinds(process, Unread), process.story()
        assert [report.id for report in kinds(process, Asked)] == [report.id for report in kinds(process, Withdrawn)]
        writes = [effect.id for effect in process.effects if isinstance(effect, Written)]
        assert len(set(writes)) == len(writes)


@pytest.fixture(params=PRESETS)
def stand(
    request: pytest.FixtureRequest,
    real: Callable[[str], RealAgent],
    models: ModelServer,
    worktree: Path,
    tmp_path: Path,
) -> Stand:
    return Stand(real(request.param), models, worktree, tmp_path)


def kinds(process: Driven, kind: type[Report]) -> list[Any]:
    return [report for report in process.reports if isinstance(report, kind)]


def said(process: Driven) -> list[str]:
    return [message.text for message in kinds(process, Message) if not message.partial]


def answer(process: Driven, kind: str) -> Asked:
    """Answers the next request with its option of that kind."""
    asked = process.until_a(Asked)
    process.take(Answer(asked.id, next(option.id for option in asked.options if option.kind == kind)))
    return asked


def check_usage(stand: Stand, process: Driven) -> None:
    """What each agent says it used is what the server told it, as far as it says it."""
    main = stand.models.spent(stand.name).main
    used = kinds(process, Used)
    if stand.agent.name == "copilot":
        last = used[-1]
        assert last.scope == "process"
        parts = (last.input, last.cache_read, last.output, last.reasoning)
        assert parts == (main.input, main.cache_read, main.output, main.reasoning)
    elif stand.agent.name == "gemini":
        # It says neither what was cached nor what was thought.
        assert {report.scope for report in used} == {"turn"}
        assert sum(report.input for report in used) == main.prompt
        assert sum(report.output for report in used) == main.output - main.reasoning
    else:
        # It says the tokens of the last request of a turn only, but the cost of all.
        exchanges = stand.models.requests(stand.name)
        last = exchanges[-1].usage
        assert used[-1].scope == "request"
        parts = (used[-1].input, used[-1].cache_read, used[-1].output, used[-1].reasoning)
        assert parts == (last.input, last.cache_read, last.output, last.reasoning)
        assert used[-1].cost_scope == "thread"
        cost = (main.input * 3 + main.output * 15 + main.cache_read * 0.3) / 1_000_000
        assert used[-1].cost_usd == pytest.approx(cost)


def test_two_turns_in_one_process_and_one_more_in_a_new_one(stand: Stand) -> None:
    stand.play(WRITES, EDITS, RUNS)
    with stand.process("ask") as process:
        began = process.until_a(Began)
        process.take(Say("m1", "Now change it."))
        asked = answer(process, "allow_once")
        assert asked.tool_kind == "edit"
        assert [(diff.path, diff.old, diff.new) for diff in asked.diffs] == [
            (str(stand.worktree / "notes.txt"), None, "one\n")
        ]
        process.until_a(TurnEnded)
        assert (stand.worktree / "notes.txt").read_text() == "one\n"
        answer(process, "allow_once")
        outcome = process.finish()
        assert outcome.ok, outcome
        assert (stand.worktree / "notes.txt").read_text() == "two\n"
        assert said(process) == [step.text for step in (*WRITES, *EDITS)]
        assert [turn.text for turn in kinds(process, TurnEnded)] == [WRITES[-1].text, EDITS[-1].text]
        assert [turn.prompt for turn in kinds(process, TurnBegan)] == ["Write notes.txt.", "Now change it."]
        assert kinds(process, Remark) == [Remark(text="It will be told when this turn is over.")]
        assert kinds(process, Delivered) == [Delivered(id="m1")]
        assert [(tool.status, tool.id) for tool in kinds(process, ToolEnded)] == [
            ("completed", tool.id) for tool in kinds(process, ToolBegan)
        ]
        assert process.effects[-1] == HangUp()
        check_usage(stand, process)
    pretend_a_minute_has_passed(stand.home)
    with stand.process("ask", resume=began.agent_session, message="Run it.") as process:
        assert process.until_a(Began).agent_session == began.agent_session
        assert answer(process, "allow_once").tool_kind == "execute"
        assert process.finish().ok
        assert (stand.worktree / "ran.txt").exists()
        assert said(process) == [step.text for step in RUNS]
        assert [turn.prompt for turn in kinds(process, TurnBegan)] == ["Run it."]
        assert kinds(process, Remark) == []


def pretend_a_minute_has_passed(home: Path) -> None:
    """Gemini CLI 0.61 overwrites a conversation that is taken up within the minute in which it began."""
    for path in (home / ".gemini" / "tmp").glob("*/chats/session-*"):
        path.rename(path.with_name(re.sub(r"^session-[-\dT]{16}", "session-2026-01-01T00-00", path.name)))


def test_a_denied_tool_does_nothing_and_an_interrupt_ends_the_turn(stand: Stand) -> None:
    stand.play(WRITES, HELD)
    with stand.process("ask") as process:
        process.until_a(Began)
        process.take(Say("m1", "Now wait."))
        answer(process, "reject_once")
        process.until_a(TurnEnded)
        assert not (stand.worktree / "notes.txt").exists()
        assert [tool.status for tool in kinds(process, ToolEnded)] == ["denied"]
        stand.models.wait_held(stand.name)
        process.take(Interrupt())
        assert process.until_a(TurnEnded).stop == "cancelled"
        outcome = process.finish()
        assert outcome.stopped, outcome


def test_edits_are_allowed_by_themselves_and_a_refused_request_is_tried_again(stand: Stand) -> None:
    stand.play(WRITES, RUNS, faults=[Fault(429, retry_after_s=0.1)])
    with stand.process("edits") as process:
        process.until_a(Began)
        process.take(Say("m1", "Now run it."))
        process.until_a(TurnEnded)
        assert kinds(process, Asked) == []
        assert (stand.worktree / "notes.txt").read_text() == "one\n"
        assert stand.models.requests(stand.name)[0].status == 429
        assert answer(process, "reject_once").tool_kind == "execute"
        process.until_a(TurnEnded)
        process.finish()
        assert not (stand.worktree / "ran.txt").exists()


def test_a_wrong_key_fails_fast_and_says_what_to_do(stand: Stand) -> None:
    stand.play(WRITES, faults=[Fault(401, times=None)])
    with stand.process("all") as process:
        trouble = process.until_a(Trouble)
        assert (trouble.kind, trouble.fatal) == ("auth", True)
        outcome = process.finish()
        assert (outcome.ok, outcome.trouble) == (False, "auth")
        assert "is not logged in: run `" in outcome.reason
        assert GiveUp() in process.effects
        assert len(stand.models.requests(stand.name)) <= 4
