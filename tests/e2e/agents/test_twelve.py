"""Twelve real agents of four kinds at once, on one repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.agents.conftest import HELLO, PATIENCE_S, configured
from tests.support.models import ModelServer, Scenario
from tests.support.plait import CONFIG, installed
from tests.support.processes import MARK
from tests.support.real_agents import Missing, RealAgent, find
from tests.support.repo import LINES, make_repo, manifest

KINDS = ("claude", "codex", "opencode", "copilot")


@pytest.fixture
def four() -> list[RealAgent]:
    found = [find(name) for name in KINDS]
    for one in found:
        if isinstance(one, Missing):
            pytest.skip(one.reason)
    return [one for one in found if isinstance(one, RealAgent)]


@pytest.mark.agents
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_twelve_agents_of_four_kinds_work_at_once(four: list[RealAgent], models: ModelServer, tmp_path: Path) -> None:
    top = make_repo(tmp_path, {"a.txt": LINES})
    before = manifest(top)
    config = CONFIG + "".join(configured(agent, "edits") for agent in four)
    with installed(tmp_path / "plait", config=config) as plait:
        caller = plait.connect()
        sessions = []
        for agent in four:
            scenario = models.put(f"twelve-{agent.name}", Scenario([list(HELLO)]))
            environment = {
                **agent.environment(models, scenario, tmp_path / "users" / agent.name),
                MARK: plait.mark,
                "PLAIT_AGENT_IDLE_S": "1",
            }
            agents = [{"name": agent.name, "count": 3}]
            sessions += plait.run(caller, top, "Create hello.txt", agents=agents, env=environment)
        found = plait.rested(caller, sessions, 4 * PATIENCE_S)
        assert [session["state"] for session in found.values()] == ["ready"] * 12, found
        for session in found.values():
            assert (Path(session["worktree"]) / "hello.txt").read_text() == "hello\n"
        # Their ids differ, but all did the same: twelve alternatives for one file.
        assert {session["files"] for session in found.values()} == {1}
        assert manifest(top) == before
        plait.none_left()
