from __future__ import annotations

import pytest

from plait.environment import pass_on


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
