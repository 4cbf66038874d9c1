"""Who does a task: whom the user named, or who suits it; and who is refused, with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from plait.core.config import parse_user
from plait.engine.choosing import choose
from plait.errors import UsageError


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """A PATH with programs named claude and codex, that of claude with a key."""
    for name in ("claude", "codex"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    home = tmp_path / "user"
    (home / ".codex").mkdir(parents=True)
    (home / ".codex/auth.json").write_text('{"OPENAI_API_KEY": "k"}')
    return {"PATH": str(tmp_path / "bin"), "HOME": str(home), "ANTHROPIC_API_KEY": "k"}


def chosen(text: str, environment: Mapping[str, str], config: str = "", agent: str = "auto") -> tuple[str, str]:
    ((found, count),) = choose([(agent, 1)] if agent else [], (), text, parse_user(config)[0], environment)
    assert count == 1
    return found.name, found.why


def test_the_agent_that_suits_the_task_is_taken_and_the_reason_quotes_the_task(environment: Mapping[str, str]) -> None:
    name, why = chosen("Refactor the architecture of the billing module", environment)
    assert name == "claude"
    assert "efactor" in why or "rchitecture" in why
    name, why = chosen("Write unit tests for the parser", environment)
    assert name == "codex"
    assert "tests" in why


def test_without_a_name_it_is_the_one_that_suits_or_the_only_one_of_the_users_own(
    environment: Mapping[str, str],
) -> None:
    assert chosen("Write unit tests for the parser", environment, agent="")[0] == "codex"
    own = '[agents.own]\nkind = "command"\ncommand = ["./own.sh"]\n'
    assert chosen("Write unit tests for the parser", environment, own, agent="") == ("own", "")


def test_an_agent_that_was_named_needs_no_reason(environment: Mapping[str, str]) -> None:
    assert chosen("Write unit tests", environment, agent="claude") == ("claude", "")


def test_everything_without_asking_is_refused_where_nothing_but_the_worktree_holds_the_agent_back(
    environment: Mapping[str, str],
) -> None:
    everything = '[agents.{name}]\npermission = "all"\n'
    with pytest.raises(UsageError, match="nothing but its worktree"):
        chosen("Do it", environment, everything.format(name="claude"), "claude")
    meant = everything.format(name="claude") + "unsandboxed = true\n"
    assert chosen("Do it", environment, meant, "claude")[0] == "claude"
    assert chosen("Do it", environment, everything.format(name="codex"), "codex")[0] == "codex", "it has a sandbox"


def test_without_any_agent_the_user_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        chosen("Do it", {"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert "plait agents" in (refused.value.hint or "")
