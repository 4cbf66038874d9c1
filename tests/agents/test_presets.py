"""The table of known agents: it agrees with the advice, the configuration and the variables that clients pass on."""

from __future__ import annotations

import re

import pytest

from plait.agents.presets import PRESETS, Preset, variables_for
from plait.core.advice import STRENGTHS
from plait.environment import AGENT_VARIABLES, EVERY_AGENT, of_agents, pass_on

EVERY = pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)


def test_every_known_agent_has_a_preset_and_the_other_way_round() -> None:
    assert set(PRESETS) == set(STRENGTHS)
    assert all(name == preset.name for name, preset in PRESETS.items())


@EVERY
def test_what_an_agent_may_have_reaches_the_daemon(preset: Preset) -> None:
    assert set(preset.variables) <= set(EVERY_AGENT)
    for name in preset.login.variables:
        assert of_agents({name: "x"}, preset.variables) == {name: "x"}, f"{preset.name} never sees {name}"


@EVERY
def test_the_places_that_tell_of_a_login_are_absolute_or_below_the_home(preset: Preset) -> None:
    for trace in preset.login.traces:
        assert re.match(r"(~/|\{[A-Z_]+:~[^}]*\}/)", trace.path), trace.path
        moved = re.match(r"\{([A-Z_]+):", trace.path)
        if moved and not moved[1].startswith("XDG_"):
            assert of_agents({moved[1]: "x"}, preset.variables), f"{preset.name} itself never sees {moved[1]}"


@EVERY
def test_every_hint_is_a_sentence_and_every_unknown_login_has_a_reason(preset: Preset) -> None:
    assert preset.install_hint.endswith(".")
    assert preset.login.hint.endswith(".")
    assert preset.login.because or preset.login.otherwise == "no"


@EVERY
def test_native_binaries_lie_in_packages_of_the_platform(preset: Preset) -> None:
    for place in (*preset.npm.natives, *preset.npm.musl, *preset.npm.old_cpu) if preset.npm else ():
        filled = place.format(os="linux", arch="x64", triple="x86_64-unknown-linux-musl")
        assert "{" not in filled
        assert re.match(r"(@[\w-]+/)?[\w-]+/", filled)


def test_no_agent_gets_the_keys_of_another_one() -> None:
    keys = {
        "ANTHROPIC_API_KEY": "a",
        "OPENAI_API_KEY": "o",
        "GEMINI_API_KEY": "g",
        "GH_TOKEN": "h",
        "CURSOR_API_KEY": "c",
        "AWS_SECRET_ACCESS_KEY": "s",
        "DATABASE_URL": "d",
        "PATH": "/bin",
    }
    given = {name: set(variables_for(preset, keys)) for name, preset in PRESETS.items()}
    assert given["codex"] == {"OPENAI_API_KEY"}
    assert given["copilot"] == {"GH_TOKEN"}
    assert given["cursor"] == {"CURSOR_API_KEY"}
    assert given["gemini"] == {"GEMINI_API_KEY"}
    assert "OPENAI_API_KEY" not in given["claude"]
    assert "GH_TOKEN" not in given["claude"]
    assert {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"} <= given["opencode"]
    assert not any({"AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "PATH"} & names for names in given.values())


def test_every_group_of_variables_is_some_agents() -> None:
    used = {pattern for preset in PRESETS.values() for pattern in preset.variables}
    assert set(EVERY_AGENT) == used == {pattern for group in AGENT_VARIABLES.values() for pattern in group}


def test_no_pattern_of_an_agent_fits_what_would_alter_git_the_loader_or_python() -> None:
    hostile = dict.fromkeys(("GIT_DIR", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "PLAIT_RUN"), "x")
    assert pass_on(hostile, patterns=EVERY_AGENT) == {}
