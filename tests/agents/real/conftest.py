"""One scripted model server for all tests with real agents, the agents that are installed, and a worktree for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.models import ModelServer
from tests.support.real_agents import Missing, RealAgent, find
from tests.support.repo import make_repo, run_git

README = "# A small project\n\nIt says hello.\n"


@pytest.fixture(scope="session")
def models() -> Iterator[ModelServer]:
    """The scripted models; each test plays scenarios of its own names."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def real() -> Callable[[str], RealAgent]:
    """The installed agent of a name; without it, the test is skipped with the reason."""

    def found(name: str) -> RealAgent:
        agent = find(name)
        if isinstance(agent, Missing):
            pytest.skip(agent.reason)
        return agent

    return found


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    """A worktree on a branch of its own, of a repository with a README and a program."""
    top = make_repo(tmp_path / "project", {"README.md": README, "hello.py": 'print("hello")\n'})
    place = tmp_path / "worktrees" / "task"
    run_git(top, "worktree", "add", "--quiet", "-b", "task", str(place))
    return place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a repository can make of its agent is looked at each time; the rest is thorough."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and not item.path.stem.endswith("_repository_real"):
            item.add_marker(pytest.mark.thorough)
