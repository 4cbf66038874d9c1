"""`plait editor-config`: every set-up parses, starts the server that is here, and overwrites nothing."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.cli import editors
from plait.cli.editors import SETUPS, WRITTEN, filled, helix, quoted
from plait.errors import PlaitError
from plait.lsp.commands import COMMANDS
from tests.support.real_editors import emacs, neovim

ODD = ['/opt/a b/"py" \\ é\'', "-m", "plait", "lsp"]
"""A command whose path needs quoting in every language."""
NOTES = Path(__file__).parents[2] / "jetbrains-notes"
OURS = {"name": "plait", "only-features": ["diagnostics", "code-action", "workspace-command"]}

words = st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=4)


def config(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plait", "editor-config", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def languages(text: str) -> dict[str, list[Any]]:
    return {entry["name"]: entry["language-servers"] for entry in tomllib.loads(text).get("language", [])}


@pytest.mark.parametrize("name", SETUPS)
def test_a_setup_is_printed_and_the_editor_s_limits_are_said_beside_it(name: str) -> None:
    done = config(name)
    assert done.returncode == 0, done.stderr
    assert "plait" in done.stdout
    assert done.stderr == f"{SETUPS[name].where}\n{SETUPS[name].lacks}\n"
    assert SETUPS[name].lacks not in done.stdout


def test_an_unknown_editor_is_answered_with_the_known_ones() -> None:
    done = config("ed")
    assert done.returncode == 2
    assert all(name in done.stderr for name in SETUPS)


def test_files_are_written_again_but_never_over_something_else(tmp_path: Path) -> None:
    assert config("jetbrains", "--to", str(tmp_path / "made")).returncode == 0
    assert {path.name for path in (tmp_path / "made").iterdir()} == set(editors.JETBRAINS)
    assert config("jetbrains", "--to", str(tmp_path / "made")).returncode == 0
    (tmp_path / "made" / "README.md").write_text("mine\n")
    (tmp_path / "made" / "template.json").unlink()
    done = config("jetbrains", "--to", str(tmp_path / "made"))
    assert (done.returncode, "says something else" in done.stderr) == (1, True)
    assert (tmp_path / "made" / "README.md").read_text() == "mine\n"
    assert not (tmp_path / "made" / "template.json").exists(), "all or nothing"
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "plait.lua").symlink_to(tmp_path / "elsewhere")
    assert config("neovim", "--to", str(tmp_path / "link")).returncode == 1
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("command", [WRITTEN, ODD], ids=["usual", "odd"])
def test_real_neovim_runs_the_lua_and_has_the_command(tmp_path: Path, command: list[str]) -> None:
    program = neovim()
    script = tmp_path / "plait.lua"
    script.write_text(filled("neovim.lua", command) + "\nio.stdout:write(vim.json.encode(vim.lsp.config.plait.cmd))\n")
    done = subprocess.run(
        [program, "--clean", "-l", str(script)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == list(command)


@pytest.mark.parametrize("command", [WRITTEN, ODD], ids=["usual", "odd"])
def test_real_emacs_compiles_the_lisp_without_a_warning_and_has_the_command(tmp_path: Path, command: list[str]) -> None:
    program = emacs()
    file = tmp_path / "plait.el"
    file.write_text(filled("emacs.el", command))
    lisp = f"""(progn (setq byte-compile-error-on-warn t)
      (unless (byte-compile-file {quoted(str(file))}) (kill-emacs 1))
      (load {quoted(str(file))}) (princ (json-encode plait-command)))"""
    done = subprocess.run(
        [program, "-q", "--batch", "--eval", lisp], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(command)


@given(words)
def test_any_command_survives_in_toml_and_json(command: list[str]) -> None:
    server = tomllib.loads(helix(command))["language-server"]["plait"]
    assert (server["command"], server["args"]) == (command[0], [*command[1:], "--client", "helix"])
    assert json.loads(filled("sublime.json", command))["clients"]["plait"]["command"] == command
    template = json.loads(SETUPS["jetbrains"].files(command)["template.json"])
    shell, option, inner = shlex.split(template["programArgs"]["default"])
    assert (shell, option, shlex.split(inner)) == ("sh", "-c", [*command, "--client", "lsp4ij"])


def test_helix_has_every_language_with_its_own_servers_first() -> None:
    text = helix(WRITTEN)
    found = languages(text)
    assert len(found) == text.count("[[language]]") > 250
    assert all(servers[-1] == OURS for servers in found.values())
    assert found["go"] == ["gopls", "golangci-lint-lsp", OURS]
    assert found["pkgbuild"][1] == {"name": "bash-language-server", "except-features": ["diagnostics"]}


def test_languages_that_the_user_of_helix_has_are_left_to_the_user() -> None:
    user = '[[language]]\nname = "go"\nlanguage-servers = ["mine"]\n\n[[language]]\nname = "zig"\nauto-format = true\n'
    text = helix(WRITTEN, user)
    both = languages(user.replace("auto-format", 'language-servers = ["zls"]\nauto-format') + text)
    assert both["go"] == ["mine"], "nothing printed stands against it"
    for servers in ('["mine", {', '["zls", {'):
        assert f"#   language-servers = {servers}" in text
    with pytest.raises(PlaitError, match=r"languages\.toml"):
        helix(WRITTEN, "[[language")


@pytest.mark.parametrize("language", ["3", "[3]", "[{}]", "[{name = 3}]", '[{name = "go", language-servers = 3}]'])
def test_a_strange_file_of_the_users_is_taken_as_it_is(language: str) -> None:
    assert len(languages(helix(WRITTEN, f"language = {language}\n"))) > 250


@given(st.text())
def test_any_file_of_the_users_is_read_or_refused(user: str) -> None:
    try:
        tomllib.loads(user)
    except tomllib.TOMLDecodeError:
        with pytest.raises(PlaitError, match=r"languages\.toml"):
            helix(WRITTEN, user)
    else:
        assert languages(helix(WRITTEN, user))


def test_what_zed_builds_is_whole() -> None:
    made = SETUPS["zed"].files(ODD)
    manifest = tomllib.loads(made["extension.toml"])
    assert "Python" in manifest["language_servers"]["plait"]["languages"]
    assert tomllib.loads(made["Cargo.toml"])["lib"]["crate-type"] == ["cdylib"]
    assert ", ".join(map(quoted, ODD)) in made["src/lib.rs"]
    json.loads(made["settings.json"])


def test_the_template_for_jetbrains_is_the_one_in_the_notes() -> None:
    made = SETUPS["jetbrains"].files(WRITTEN)
    template = NOTES / "plait-lsp4ij"
    assert {path.name: path.read_text() for path in template.iterdir()} == dict(made)
    assert all(json.loads(text) is not None for name, text in made.items() if name.endswith(".json"))


def test_setups_name_only_commands_that_the_server_has() -> None:
    texts: Mapping[str, str] = {
        f"{name}/{file}": text for name, setup in SETUPS.items() for file, text in setup.files(WRITTEN).items()
    }
    named = {word for text in texts.values() for word in re.findall(r"plait\.(?:hunk|file|session|task)\.\w+", text)}
    assert named
    assert named <= {command.name for command in COMMANDS}
