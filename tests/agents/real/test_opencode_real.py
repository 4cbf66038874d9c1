"""The real OpenCode against the scripted model server, through its host and bridge as the engine runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from plait.agents.adapter import Answer, Interrupt, Job, Say
from plait.agents.opencode import OpenCode
from plait.agents.programs import opencode_host
from plait.core.reports import (
    Asked,
    Began,
    Delivered,
    Planned,
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
)
from tests.support.driving import Driven
from tests.support.models import AskUser, Edit, Fault, ModelServer, Plan, Raw, Scenario, Shell, Step, Write
from tests.support.opencode_runs import Surroundings, eventually
from tests.support.real_agents import MODEL, Missing, find

R = TypeVar("R", bound=Report)

pytestmark = [pytest.mark.agents, pytest.mark.slow]

SCENARIO = "opencode"
"""One server has one configuration, which names the scenario; each test plays another one under that name."""
WRITES = (Step("I will write it.", Write("hello.txt", "hello\n")), Step("Done: wrote hello.txt."))
RUNS = (Step("I will run it.", Shell("touch ran.txt")), Step("Done: ran it."))


@pytest.fixture(scope="module")
def opencode(models: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    agent = find("opencode")
    if isinstance(agent, Missing):
        pytest.skip(agent.reason)
    scratch = tmp_path_factory.mktemp("opencode")
    models.put(SCENARIO, Scenario([WRITES]))
    environment = agent.environment(models, SCENARIO, scratch / "home")
    already_installed(scratch / "home" / ".config" / "opencode")
    made = Surroundings(agent.command, {**environment, opencode_host.IDLE: "5"}, scratch / "runtime", scratch)
    yield made
    made.end()


def already_installed(directory: Path) -> None:
    """Keep OpenCode from fetching its plugin library from npm: it looks no further than at these files."""
    (directory / "node_modules").mkdir(parents=True)
    wanted = {"dependencies": {"@opencode-ai/plugin": "*"}}
    (directory / "package.json").write_text(json.dumps(wanted))
    (directory / "package-lock.json").write_text(json.dumps({"packages": {"": wanted}}))


def test_an_edit_is_asked_for_with_its_diff_and_lands(
    opencode: Surroundings, models: ModelServer, worktree: Path
) -> None:
    models.put(SCENARIO, Scenario([WRITES]))
    with opencode.run(worktree) as run:
        asked = run.until_a(Asked)
        assert (asked.tool, asked.tool_kind) == ("edit", "edit")
        assert "+hello" in (asked.diffs[0].unified or "")
        assert [option.kind for option in asked.options] == [
            "allow_once",
            "allow_session",
            "reject_once",
            "cancel_turn",
        ]
        assert not (worktree / "hello.txt").exists()
        run.take(Answer(asked.id, "once"))
        assert run.finish().ok
        assert (worktree / "hello.txt").read_text() == "hello\n"
        assert {type(report) for report in run.reports} >= {Began, TurnBegan, ToolBegan, ToolEnded, TurnEnded}
        usage_is_what_was_sent(run, models)
        understood(run)
        for size in (7, 100_000):
            assert run.replayed(OpenCode().driver(job_of(worktree)), size) == run.effects


def test_a_refusal_is_told_to_the_model_and_the_turn_goes_on(
    opencode: Surroundings, models: ModelServer, worktree: Path
) -> None:
    models.put(SCENARIO, Scenario([RUNS]))
    with opencode.run(worktree) as run:
        asked = run.until_a(Asked)
        assert (asked.tool_kind, asked.title) == ("execute", "touch ran.txt")
        run.take(Answer(asked.id, "reject", text="Use the other directory."))
        assert run.finish().ok
        assert of(run, ToolEnded)[-1].status == "denied"
        assert not (worktree / "ran.txt").exists()
        assert models.requests(SCENARIO)[-1].mentions("Use the other directory.")


def test_a_refusal_can_end_the_turn(opencode: Surroundings, models: ModelServer, worktree: Path) -> None:
    models.put(SCENARIO, Scenario([RUNS]))
    with opencode.run(worktree) as run:
        run.take(Answer(run.until_a(Asked).id, "stop"))
        assert run.finish().stopped
        assert of(run, TurnEnded)[-1].stop == "cancelled"
        assert len(models.requests(SCENARIO)) == 1


def test_a_message_in_the_middle_of_a_turn_steers_it(
    opencode: Surroundings, models: ModelServer, worktree: Path
) -> None:
    models.put(SCENARIO, Scenario([RUNS, [Step("I heard you.")]]))
    with opencode.run(worktree) as run:
        asked = run.until_a(Asked)
        run.take(Say("m1", "Be careful."))
        assert run.until_a(Delivered).id == "m1"
        run.take(Answer(asked.id, "once"))
        assert run.finish().ok
        assert len(of(run, TurnEnded)) == len(of(run, TurnBegan)) == 1
        assert models.requests(SCENARIO)[-1].mentions("Be careful.")


def test_a_conversation_goes_on_in_a_new_process_with_other_permissions(
    opencode: Surroundings, models: ModelServer, worktree: Path
) -> None:
    models.put(SCENARIO, Scenario([WRITES, [Step("Now.", Edit("hello.txt", "hello", "goodbye")), Step("Changed.")]]))
    with opencode.run(worktree, permission="edits") as run:
        session = run.until_a(Began).agent_session
        assert run.finish().ok
    with opencode.run(worktree, permission="edits", resume=session, message="Now change it.") as run:
        assert run.until_a(Began).agent_session == session
        assert run.finish().ok
        assert not of(run, Asked)
    assert (worktree / "hello.txt").read_text() == "goodbye\n"
    assert models.requests(SCENARIO)[-1].mentions("Write hello.txt.")


def test_an_unknown_conversation_cannot_be_resumed(opencode: Surroundings, worktree: Path) -> None:
    with opencode.run(worktree, resume="ses_nothing", message="Go on.") as run:
        outcome = run.finish()
        assert not outcome.ok
        assert "does not know the conversation" in outcome.reason


def test_an_interrupt_ends_the_turn_and_its_command(
    opencode: Surroundings, models: ModelServer, worktree: Path
) -> None:
    models.put(SCENARIO, Scenario([[Step("Waiting.", Shell("echo up; sleep 600")), Step("Waited.")]]))
    with opencode.run(worktree, permission="all") as run:
        run.until(lambda report: isinstance(report, ToolUpdated) and "up" in report.output)
        assert sleeping(worktree)
        run.take(Interrupt())
        assert run.finish().stopped
        assert of(run, ToolEnded)[-1].status == "failed"
        assert of(run, TurnEnded)[-1].stop == "cancelled"
        assert isinstance(run.reports[-1], TurnEnded)
        assert not sleeping(worktree)


def test_a_killed_bridge_takes_all_its_commands_along(
    opencode: Surroundings, models: ModelServer, worktree: Path
) -> None:
    left = Shell("(setsid sleep 600 >/dev/null 2>&1 &); echo up; sleep 600")
    models.put(SCENARIO, Scenario([[Step("Waiting.", left), Step("Waited.")], [Step("Here I am again.")]]))
    with opencode.run(worktree, permission="all") as run:
        session = run.until_a(Began).agent_session
        run.until(lambda report: isinstance(report, ToolUpdated) and "up" in report.output)
        eventually(lambda: len(sleeping(worktree)) >= 2)
        os.kill(run.process.pid, signal.SIGKILL)
        eventually(lambda: not sleeping(worktree))
        assert not run.finish().ok
    with opencode.run(worktree, resume=session, message="Still there?") as run:
        assert run.finish().ok


def test_a_rate_limit_is_reported_with_its_time_and_passes(
    opencode: Surroundings, models: ModelServer, worktree: Path
) -> None:
    models.put(SCENARIO, Scenario([[Step("Done.")]], [Fault(429, retry_after_s=2)]))
    with opencode.run(worktree) as run:
        retry = run.until_a(Retry)
        assert (retry.account, retry.kind, retry.attempt) == ("scripted", "rate_limit", 1)
        assert retry.delay_s is not None
        assert 0 < retry.delay_s < 10
        assert run.finish().ok
        usage_is_what_was_sent(run, models)


def test_a_missing_login_fails_at_once(opencode: Surroundings, models: ModelServer, worktree: Path) -> None:
    models.put(SCENARIO, Scenario([[Step("Done.")]], [Fault(401, times=None)]))
    with opencode.run(worktree) as run:
        trouble = run.until_a(Trouble)
        assert (trouble.account, trouble.kind, trouble.fatal) == ("scripted", "auth", True)
        outcome = run.finish()
        assert run.gave_up
        assert outcome.trouble == "auth"
        assert "opencode auth login" in outcome.reason
        assert len(models.requests(SCENARIO)) == 1


def test_an_unknown_model_is_said(opencode: Surroundings, worktree: Path) -> None:
    with opencode.run(worktree, model="scripted/nothing") as run:
        outcome = run.finish()
        assert not outcome.ok
        assert "Model not found: scripted/nothing" in outcome.reason


def test_the_model_can_be_chosen(opencode: Surroundings, models: ModelServer, worktree: Path) -> None:
    models.put(SCENARIO, Scenario([[Step("Done.")]]))
    with opencode.run(worktree, model=f"scripted/{MODEL}") as run:
        assert run.until_a(Began).model == f"scripted/{MODEL}"
        assert run.finish().ok


def test_plans_and_questions_reach_the_user(opencode: Surroundings, models: ModelServer, worktree: Path) -> None:
    question = Step("One question.", AskUser("Which colour?", ("red", "blue")))
    models.put(SCENARIO, Scenario([[Step("A plan.", Plan(("look", "write"))), question, Step("Good.")]]))
    with opencode.run(worktree) as run:
        asked = run.until_a(Asked)
        assert [entry.text for entry in of(run, Planned)[-1].entries] == ["look", "write"]
        assert asked.kind == "question"
        assert asked.questions[0].choices == ("red", "blue")
        run.take(Answer(asked.id, answers={asked.questions[0].id: ("blue",)}))
        assert run.finish().ok
        assert models.requests(SCENARIO)[-1].mentions("blue")


def test_a_subagent_asks_too_and_its_tokens_count(opencode: Surroundings, models: ModelServer, worktree: Path) -> None:
    # The subagent has heard one prompt, the agent two: so the same scenario has something else to say to each.
    given = {"description": "look", "prompt": "Run it.", "subagent_type": "general"}
    models.put(SCENARIO, Scenario([[Step("Ready.")], [Step("I will delegate.", Raw("task", given)), Step("Done.")]]))
    with opencode.run(worktree) as run:
        session = run.until_a(Began).agent_session
        assert run.finish().ok
    models.put(SCENARIO, Scenario([RUNS, [Step("I will delegate.", Raw("task", given)), Step("Done.")]]))
    with opencode.run(worktree, resume=session, message="Delegate it.") as run:
        asked = run.until_a(Asked)
        assert asked.title == "touch ran.txt"
        assert [report.kind for report in of(run, ToolBegan)] == ["subagent", "execute"]
        run.take(Answer(asked.id, "once"))
        assert run.finish().ok
        assert (worktree / "ran.txt").exists()
        usage_is_what_was_sent(run, models)


def test_sessions_share_a_server_and_nothing_else(
    opencode: Surroundings, models: ModelServer, worktree: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(worktree, other, ignore=shutil.ignore_patterns(".git"))
    models.put(SCENARIO, Scenario([[Step("Looking.", Shell("pwd; echo run $PLAIT_RUN")), Step("Looked.")]]))
    with opencode.run(worktree, permission="all") as first, opencode.run(other) as second:
        asked = second.until_a(Asked)
        assert first.finish().ok
        assert not of(first, Asked)
        assert len(opencode.servers()) == 1
        second.take(Answer(asked.id, "once"))
        assert second.finish().ok
        said = [of(run, ToolEnded)[-1].output for run in (first, second)]
        assert said[0].splitlines()[0] == str(worktree)
        assert said[1].splitlines()[0] == str(other)
        assert said[0].splitlines()[1] != said[1].splitlines()[1]


def test_a_killed_server_fails_the_turn_and_the_next_run_gets_another(
    opencode: Surroundings, models: ModelServer, worktree: Path
) -> None:
    models.put(SCENARIO, Scenario([RUNS, RUNS]))
    with opencode.run(worktree) as run:
        session = run.until_a(Began).agent_session
        run.until_a(Asked)
        for pid in opencode.servers():
            os.kill(pid, signal.SIGKILL)
        outcome = run.finish()
        assert not outcome.ok
        assert "was killed by signal 9" in outcome.reason
    with opencode.run(worktree, resume=session, message="Once more.") as run:
        run.take(Answer(run.until_a(Asked).id, "once"))
        assert run.finish().ok
    assert (worktree / "ran.txt").exists()


def usage_is_what_was_sent(run: Driven, models: ModelServer) -> None:
    used = of(run, Used)
    assert {report.scope for report in used} == {"request"}
    sent = models.spent(SCENARIO).total
    assert sum(report.input for report in used) == sent.input + sent.cache_write
    assert sum(report.cache_read for report in used) == sent.cache_read
    assert sum(report.output for report in used) == sent.output
    assert sum(report.reasoning for report in used) == sent.reasoning


def understood(run: Driven) -> None:
    assert not of(run, Unread)


def of(run: Driven, kind: type[R]) -> list[R]:
    return [report for report in run.reports if isinstance(report, kind)]


def sleeping(worktree: Path) -> list[int]:
    """The processes in the worktree."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == worktree and b"sleep" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def job_of(worktree: Path) -> Job:
    return Job(session="s", task="t", title="Say hello", prompt="Write hello.txt.", worktree=str(worktree), port=4700)
