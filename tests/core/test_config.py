"""Reading `config.toml` and `plait.toml`: right parts count, wrong parts are named, nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from plait.core.advice import STRENGTHS
from plait.core.config import AgentConfig, Limits, RepoConfig, UserConfig, fill, parse_repo, parse_user, user_config

FULL_USER = """
[limits]
max_running = 5
max_checks = 2
review_backlog = 3
min_free_memory_mb = 100
min_free_disk_gb = 1
launch_interval_s = 0.5
[worktrees]
location = "sibling"
[agents.claude]
permission = "edits"
model = "opus"
args = ["--add-dir", "/srv"]
[agents.opencode]
permission = "all"
unsandboxed = true
[agents.nightly]
kind = "command"
command = ["./scripts/codemod.sh", "{prompt}"]
env = ["MY_TOKEN"]
[environment]
pass = ["HTTPS_PROXY"]
"""

FULL_REPO = """
[worktree]
setup = ["npm ci"]
teardown = ["docker compose down"]
include = [".env"]
[check]
command = "pytest -q"
timeout_s = 60
"""


def test_an_empty_text_means_the_documented_defaults() -> None:
    config, problems = parse_user("")
    assert problems == ()
    assert config.limits == Limits(
        max_running=3,
        max_checks=1,
        review_backlog=8,
        min_free_memory_mb=1500,
        min_free_disk_gb=5,
        launch_interval_s=2.0,
    )
    assert config.worktrees.location == "managed"
    assert parse_repo("") == (RepoConfig(), ())
    assert parse_repo("")[0].check.timeout_s == 900


def test_every_documented_key_is_read() -> None:
    config, problems = parse_user(FULL_USER)
    assert problems == ()
    assert config.limits.max_running == 5
    assert config.limits.launch_interval_s == 0.5
    assert config.worktrees.location == "sibling"
    assert config.agents["claude"].permission == "edits"
    assert (config.agents["claude"].model, config.agents["claude"].args) == ("opus", ("--add-dir", "/srv"))
    assert config.agents["claude"].kind is None
    assert not config.agents["claude"].unsandboxed
    assert config.agents["opencode"].unsandboxed
    assert config.agents["nightly"].command == ("./scripts/codemod.sh", "{prompt}")
    assert config.agents["nightly"].env == ("MY_TOKEN",)
    assert config.environment.passed == ("HTTPS_PROXY",)
    repo, problems = parse_repo(FULL_REPO)
    assert problems == ()
    assert repo.worktree is not None
    assert (repo.worktree.setup, repo.worktree.teardown, repo.worktree.include) == (
        ("npm ci",),
        ("docker compose down",),
        (".env",),
    )
    assert (repo.check.command, repo.check.timeout_s) == ("pytest -q", 60.0)


def test_the_values_cannot_be_changed() -> None:
    config, _ = parse_user(FULL_USER)
    with pytest.raises(ValidationError):
        config.limits.max_running = 9  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("text", "key", "line", "named"),
    [
        ("[limits]\nmax_runing = 3\n", "limits.max_runing", 2, "max_running"),
        ("[limit]\nmax_running = 3\n", "limit", 1, "limits"),
        ('[agents.x]\nkind = "acp"\ncomand = ["x"]\ncommand = ["x"]\n', "agents.x.comand", 3, "command"),
        ('[environment]\npas = ["A"]\n', "environment.pas", 2, "pass"),
        ('limits.max_checkss = 1\nx = "y"\n', "limits.max_checkss", 1, "max_checks"),
    ],
)
def test_an_unknown_key_is_reported_with_its_line_and_the_nearest_known_one(
    text: str, key: str, line: int, named: str
) -> None:
    _, problems = parse_user(text)
    found = next(problem for problem in problems if problem.key == key)
    assert found.line == line
    assert f"Did you mean `{named}`?" in found.message


@pytest.mark.parametrize(
    "line",
    [
        "max_running = true",
        'max_running = "4"',
        "max_running = 0",
        "max_running = 2.5",
        "launch_interval_s = nan",
        "launch_interval_s = -1",
        "max_running = 1979-05-27",
        "max_running = [4]",
    ],
)
def test_a_wrong_value_falls_back_to_its_default_and_leaves_the_rest(line: str) -> None:
    config, problems = parse_user(f"[limits]\n{line}\nmax_checks = 2\n")
    assert config.limits == Limits(max_checks=2)
    assert [problem.line for problem in problems] == [2]
    assert line.split()[0] in problems[0].message


def test_a_list_with_one_wrong_entry_is_not_used_in_part() -> None:
    repo, problems = parse_repo('[worktree]\nsetup = ["npm ci", 3]\n')
    assert repo.worktree is not None
    assert repo.worktree.setup == ()
    assert [problem.key for problem in problems] == ["worktree.setup"]


def test_commands_given_as_one_string_are_reported_and_not_split() -> None:
    config, problems = parse_user('[agents.x]\nkind = "command"\ncommand = "run {prompt}"\n')
    assert "x" not in config.agents
    assert {problem.key for problem in problems} == {"agents.x.command", "agents.x"}


@pytest.mark.parametrize("kind", ["command", "acp", "terminal"])
def test_an_agent_of_the_users_own_without_a_command_is_a_problem(kind: str) -> None:
    config, problems = parse_user(f'[agents.mine]\nkind = "{kind}"\n[agents.claude]\npermission = "all"\n')
    assert set(config.agents) == {"claude"}
    assert [(problem.key, problem.line) for problem in problems] == [("agents.mine", 1)]
    assert "needs a command" in problems[0].message


def test_a_name_that_is_no_known_agent_needs_a_kind() -> None:
    config, problems = parse_user('[agents.claud]\npermission = "edits"\n[agents.mine]\ncommand = ["mine"]\n')
    assert config.agents == {}
    assert [(problem.key, problem.line) for problem in problems] == [("agents.claud", 1), ("agents.mine", 3)]
    assert "Did you mean `claude`?" in problems[0].message
    assert "Known are: claude, codex, opencode, aider, gemini, " in problems[0].message
    assert "Did you mean" not in problems[1].message


def test_every_known_agent_may_be_adjusted_or_replaced() -> None:
    config, problems = parse_user("".join(f'[agents.{name}]\npermission = "edits"\n' for name in STRENGTHS))
    assert problems == ()
    assert set(config.agents) == set(STRENGTHS)
    config, problems = parse_user('[agents.claude]\nkind = "command"\ncommand = ["true"]\n')
    assert problems == ()
    assert config.agents["claude"].kind == "command"


@pytest.mark.parametrize(
    "line", ['unsandboxed = "yes"', "unsandboxed = 1", 'model = ""', "model = 4", 'args = "--x"', 'kind = "tui"']
)
def test_a_wrong_key_of_an_agent_leaves_its_other_keys(line: str) -> None:
    config, problems = parse_user(f'[agents.claude]\npermission = "edits"\n{line}\n')
    assert config.agents["claude"] == AgentConfig(permission="edits")
    assert [(problem.key, problem.line) for problem in problems] == [(f"agents.claude.{line.split()[0]}", 3)]


@pytest.mark.parametrize("program", ["{prompt}", "{title}.sh", "", "  "])
def test_a_task_text_cannot_choose_the_program(program: str) -> None:
    config, problems = parse_user(f'[agents.x]\nkind = "command"\ncommand = ["{program}"]\n')
    assert config.agents == {}
    assert len(problems) == 1


@pytest.mark.parametrize("name", ["A B", "A=1", "", "1A", "A\\n"])
def test_only_names_of_variables_may_be_passed_on(name: str) -> None:
    config, problems = parse_user(f'[environment]\npass = ["{name}"]\n')
    assert config.environment.passed == ()
    assert len(problems) == 1


def test_an_agents_name_has_to_fit_into_the_command_line() -> None:
    config, problems = parse_user('[agents."a:2,b"]\npermission = "all"\n')
    assert config.agents == {}
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb =", 2), ("a = 1\n[x]\n[x]\n", 3), ("x = " + "[" * 5000, None), ("x = " + "9" * 5000, None)],
)
def test_broken_toml_means_the_defaults_and_a_problem_where_it_breaks(text: str, line: int | None) -> None:
    config, problems = parse_user(text)
    assert config == UserConfig()
    assert [problem.line for problem in problems] == [line]


def test_a_file_beyond_all_measure_is_not_parsed() -> None:
    config, problems = parse_user("# " + "x" * 2_000_000)
    assert config == UserConfig()
    assert "too long" in problems[0].message


def test_an_editors_settings_take_the_same_way() -> None:
    config, problems = user_config({"limits": {"max_running": 7, "max_chekcs": 1}})
    assert config.limits.max_running == 7
    assert "max_checks" in problems[0].message


def test_placeholders_are_filled_once_and_other_braces_stay() -> None:
    values = {"prompt": "use {worktree} and $(x)\0", "worktree": "/w", "port": "20000"}
    argv = fill(["run", "{prompt}", "--dir={worktree}", "{port}{other}", "{title}", "{{port}}"], values)
    assert argv == ("run", "use {worktree} and $(x)", "--dir=/w", "20000{other}", "{title}", "{20000}")


@given(st.text())
@settings(deadline=None)
def test_no_text_makes_the_readers_raise(text: str) -> None:
    parse_user(text)
    parse_repo(text)


_names = st.sampled_from(
    ["limits", "max_running", "agents", "kind", "command", "env", "pass", "environment", "permission", "worktrees"]
) | st.text(max_size=6)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_names, _values, max_size=5))
@settings(deadline=None)
def test_no_settings_make_the_reader_raise(given_settings: dict[str, object]) -> None:
    config, problems = user_config(given_settings)
    assert isinstance(config, UserConfig)
    assert problems or set(given_settings) <= set(UserConfig.model_fields)
