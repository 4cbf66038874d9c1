"""Every protocol of the scripted model server, proved by the real programs in their simplest mode."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.models import Edit, Fault, ModelServer, Plan, Read, Scenario, Shell, Step, Tokens, Write
from tests.support.real_agents import NAMES, RealAgent

pytestmark = [pytest.mark.agents, pytest.mark.slow]

Real = Callable[[str], RealAgent]

WORK = (
    Step("I will write.", Write("new.txt", "one\ntwo\n")),
    Step("Now the program.", Edit("hello.py", 'print("hello")', 'print("goodbye")')),
    Step("This is the plan.", Plan(("write", "edit", "look"))),
    Step("I look.", Read("README.md")),
    Step("I run it.", Shell("echo done > ran.txt")),
    Step("Done."),
)
"""Every kind of tool."""
QUICK = (Step("I will write.", Write("new.txt", "new\n")), Step("Done."))

HEADLESS: Mapping[str, tuple[str, ...]] = {
    "claude": ("-p", "--output-format", "json", "--permission-mode", "bypassPermissions"),
    "codex": ("exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
    "opencode": ("run", "--auto", "--format", "json"),
    "aider": ("-m", "aider", "--yes-always", "--no-pretty", "--no-stream", "--no-auto-commits", "--message"),
    "gemini": ("--approval-mode", "yolo", "-o", "json", "-p"),
    "copilot": ("--allow-all-tools", "--no-auto-update", "--output-format", "json", "-p"),
}


@dataclass(frozen=True)
class Ran:
    """What a program left."""

    code: int
    output: str
    errors: str

    def objects(self) -> list[dict[str, object]]:
        """The JSON objects among its lines."""
        lines = [line for line in self.output.splitlines() if line.startswith("{") and line.endswith("}")]
        return [json.loads(line) for line in lines]


def run(
    agent: RealAgent, models: ModelServer, scenario: str, worktree: Path, home: Path, *more: str, say: str = "Do it."
) -> Ran:
    """One prompt, without anybody to answer."""
    command = [word for word in agent.command if word != "--acp"]
    done = subprocess.run(
        [*command, *HEADLESS[agent.name], say, *more],
        cwd=worktree,
        env=agent.environment(models, scenario, home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def told(agent: str, ran: Ran) -> Tokens | None:
    """What the agent itself says that it used; None where it does not say it in this mode."""
    match agent:
        case "claude":
            usage = json.loads(ran.output)["usage"]
            return Tokens(
                usage["input_tokens"],
                usage["cache_read_input_tokens"],
                usage["cache_creation_input_tokens"],
                usage["output_tokens"],
            )
        case "codex":
            usage = next(o["usage"] for o in ran.objects() if o["type"] == "turn.completed")
            assert isinstance(usage, dict)
            cached = usage["cached_input_tokens"]
            return Tokens(
                usage["input_tokens"] - cached, cached, 0, usage["output_tokens"], usage["reasoning_output_tokens"]
            )
        case "opencode":
            total = Tokens()
            for one in ran.objects():
                if one["type"] == "step_finish":
                    assert isinstance(one["part"], dict)
                    tokens = one["part"]["tokens"]
                    output = tokens["output"] + tokens["reasoning"]
                    total += Tokens(tokens["input"], tokens["cache"]["read"], 0, output, tokens["reasoning"])
            return total
        case "gemini":
            stats = json.loads(ran.output)["stats"]["models"]
            total = Tokens()
            for model in stats.values():
                tokens = model["tokens"]
                cached, thoughts = tokens["cached"], tokens["thoughts"]
                output = tokens["candidates"] + thoughts
                total += Tokens(tokens["prompt"] - cached, cached, 0, output, thoughts)
            return total
    return None


@pytest.mark.parametrize("name", NAMES)
def test_all_tools_reach_the_agent_and_its_usage_is_what_was_sent(
    name: str, models: ModelServer, real: Real, worktree: Path, tmp_path: Path
) -> None:
    scenario = models.put(f"work-{name}", Scenario([WORK]))
    ran = run(real(name), models, scenario, worktree, tmp_path / "agent-home")
    story = f"{ran}\n{models.story(scenario)}"
    assert ran.code == 0, story
    assert (worktree / "new.txt").read_text() == "one\ntwo\n", story
    assert (worktree / "hello.py").read_text() == 'print("goodbye")\n', story
    if name != "aider":
        # Aider has no tools; it would ask before it runs what a model suggests.
        assert (worktree / "ran.txt").read_text() == "done\n", story
    usage = told(name, ran)
    sent = models.spent(scenario).main
    assert sent.requests >= (2 if name == "aider" else 5), story
    if usage is not None:
        assert usage == Tokens(sent.input, sent.cache_read, sent.cache_write, sent.output, sent.reasoning), story


@pytest.mark.parametrize("name", ["claude", "codex", "copilot", "gemini"])
def test_a_refused_request_is_made_again(
    name: str, models: ModelServer, real: Real, worktree: Path, tmp_path: Path
) -> None:
    scenario = models.put(f"limited-{name}", Scenario([QUICK], [Fault(429, retry_after_s=1, times=1)]))
    ran = run(real(name), models, scenario, worktree, tmp_path / "agent-home")
    story = f"{ran}\n{models.story(scenario)}"
    assert (worktree / "new.txt").read_text() == "new\n", story
    endings = [one.ending for one in models.requests(scenario)]
    assert endings[:2] == ["refused", "answered"], story


def test_codex_takes_a_patch_within_the_program_that_its_newest_models_write(
    models: ModelServer, real: Real, worktree: Path, tmp_path: Path
) -> None:
    scenario = models.put("codex-newest", Scenario([WORK]))
    ran = run(real("codex"), models, scenario, worktree, tmp_path / "agent-home", "-m", "gpt-6-sol")
    story = f"{ran}\n{models.story(scenario)}"
    assert (worktree / "hello.py").read_text() == 'print("goodbye")\n', story
    assert (worktree / "ran.txt").read_text() == "done\n", story
    asked = models.requests(scenario)[0].ask
    assert asked is not None
    assert "apply_patch" not in asked.tools
