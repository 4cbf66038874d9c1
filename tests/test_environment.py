from __future__ import annotations

import pytest

from plait.environment import EVERY_AGENT, of_agents, pass_on


@pytest.mark.parametrize(
    "name",
    ["HOME", "LANG", "LC_ALL", "XDG_DATA_HOME", "http_proxy", "HTTPS_PROXY", "NVM_DIR", "VIRTUAL_ENV", "CI", "TERM"],
)
def test_what_programs_need_passes(name: str) -> None:
    assert pass_on({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",
        "GITHUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "XDG_MY_TOKEN",
        "LC_SECRET",
        "KEY_proxy",
        "SSH_AUTH_SOCK",
        "GIT_DIR",
        "LD_PRELOAD",
        "DYLD_INSERT_LIBRARIES",
        "PYTHONPATH",
        "PLAIT_HOME",
        "home",
        "ANYTHING",
        "",
    ],
)
def test_what_is_secret_altering_or_unknown_passes_only_by_its_name(name: str) -> None:
    assert pass_on({name: "x"}) == {}
    assert pass_on({name: "x", "OTHER": "y"}, named=[name]) == {name: "x"}


def test_relative_entries_of_the_path_are_dropped() -> None:
    path = ":/usr/bin:.:bin:../x:/bin::~/bin:"
    assert pass_on({"PATH": path}) == {"PATH": "/usr/bin:/bin"}
    assert pass_on({"PATH": path}, named=["PATH"]) == {"PATH": "/usr/bin:/bin"}
    assert pass_on({}, named=["PATH"]) == {}


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",
        "CLAUDE_CONFIG_DIR",
        "OPENAI_BASE_URL",
        "CODEX_HOME",
        "GEMINI_API_KEY",
        "GH_TOKEN",
        "HF_TOKEN",
    ],
)
def test_what_agents_read_passes_where_agents_are_meant(name: str) -> None:
    assert pass_on({name: "x"}, patterns=EVERY_AGENT) == {name: "x"}
    assert pass_on({name: "x"}) == {}


@pytest.mark.parametrize(
    "name",
    ["CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "CLAUDECODE", "CODEX_SANDBOX", "GEMINI_CLI", "OPENCODE_PID"],
)
def test_an_agent_is_not_told_that_it_runs_inside_another_one(name: str) -> None:
    assert pass_on({name: "1"}, patterns=EVERY_AGENT) == {}
    assert pass_on({name: "1"}, named=[name]) == {name: "1"}


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "SSH_AUTH_SOCK", "NPM_TOKEN", "PLAIT_RUN"])
def test_other_secrets_pass_only_by_their_names_for_agents_too(name: str) -> None:
    assert pass_on({name: "x"}, patterns=EVERY_AGENT) == {}


def test_a_pattern_is_a_name_or_the_beginning_of_names() -> None:
    environ = {"AB": "1", "ABC": "2", "AX": "3", "XAB": "4"}
    assert of_agents(environ, ["AB"]) == {"AB": "1"}
    assert of_agents(environ, ["AB*"]) == {"AB": "1", "ABC": "2"}
    assert of_agents(environ, []) == {}
