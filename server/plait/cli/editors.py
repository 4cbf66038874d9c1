"""`plait editor-config`: a set-up for each editor that speaks LSP, and what that editor cannot show.

The set-ups are the files in `editors/` beside this module; only the command that starts the server is filled in.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from plait.cli import screen
from plait.cli.text import safe
from plait.errors import PlaitError, UsageError

Files = Mapping[str, str]
"""File name -> content."""

WRITTEN = ("plait", "lsp")
"""The command as the files have it."""


@dataclass(frozen=True)
class Setup:
    """How Plait is set up in one editor."""

    files: Callable[[Sequence[str]], Files]
    """Takes the command that starts the server."""
    where: str
    """What to do with the files."""
    lacks: str
    """What this editor does not show."""


def editor_config(
    editor: Annotated[
        str,
        typer.Argument(metavar="EDITOR", help="neovim, emacs, helix, zed, sublime or jetbrains.", show_default=False),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Write the files into this directory instead.")
    ] = None,
) -> None:
    """Print what sets Plait up in an editor, and say what that editor cannot show."""
    setup = SETUPS.get(editor)
    if setup is None:
        raise UsageError(f"There is no set-up for {editor!r}.", f"Choose one of {', '.join(SETUPS)}.")
    made = setup.files(server_command())
    if to is not None:
        _write(to, made)
    elif len(made) == 1:
        screen.put(next(iter(made.values())).rstrip("\n"))
    else:
        for name, text in made.items():
            screen.put(f"==> {name} <==\n{text}")
    screen.note(f"{setup.where}\n{setup.lacks}")


def server_command() -> list[str]:
    """What starts the language server: the program's name if it is on PATH, else this very installation."""
    return list(WRITTEN) if shutil.which(WRITTEN[0]) else [sys.executable, "-m", "plait", "lsp"]


def filled(name: str, command: Sequence[str]) -> str:
    """A file of `editors/` with the command in it."""
    text = _text(name)
    for between in (", ", " "):
        text = text.replace(between.join(map(quoted, WRITTEN)), between.join(map(quoted, command)))
    return text


def quoted(word: str) -> str:
    """A string as Lua, Emacs Lisp, Rust, TOML and JSON all write it."""
    return json.dumps(word, ensure_ascii=False)


def helix(command: Sequence[str], user: str = "") -> str:
    """Helix' `languages.toml` with Plait for every language, except those that the user's file sets up already.

    Raises PlaitError if the user's file is no TOML.
    """
    own = _own_languages(user)
    known: Mapping[str, list[Any]] = json.loads(_text("helix.json"))["languages"]
    ours = {"name": "plait", "only-features": ["diagnostics", "code-action", "workspace-command"]}
    lines = [_text("helix.toml").replace(quoted(WRITTEN[0]), quoted(command[0]))]
    arguments = ", ".join(map(quoted, [*command[1:], "--client", "helix"]))
    lines[0] = lines[0].replace('"lsp", "--client", "helix"', arguments)
    for name, servers in known.items():
        entry = ", ".join(_toml(server) for server in [*own.get(name, servers), ours])
        if name in own:
            # A second table of the same language would replace the user's own.
            lines.append(f"\n# Yours has {name} already; give it this there:\n#   language-servers = [{entry}]\n")
        else:
            lines.append(f"\n[[language]]\nname = {quoted(name)}\nlanguage-servers = [{entry}]\n")
    return "".join(lines)


def _own_languages(text: str) -> dict[str, list[Any]]:
    try:
        found = tomllib.loads(text).get("language", [])
    except tomllib.TOMLDecodeError as error:
        raise PlaitError(f"Your languages.toml of Helix cannot be read: {error}.", "Correct it first.") from None
    known: Mapping[str, list[Any]] = json.loads(_text("helix.json"))["languages"]
    own: dict[str, list[Any]] = {}
    for entry in found if isinstance(found, list) else []:
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str):
            servers = entry.get("language-servers")
            own[name] = servers if isinstance(servers, list) else known.get(name, [])
    return own


def _toml(value: object) -> str:
    """A string, a list of them, or a table of these, on one line of TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return quoted(str(value))


def _helix_files(command: Sequence[str]) -> Files:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    try:
        user = Path(home, "helix", "languages.toml").read_text()
    except (OSError, UnicodeDecodeError):
        user = ""
    return {"languages.toml": helix(command, user)}


def _jetbrains_files(command: Sequence[str]) -> Files:
    program = shlex.join(command)
    # The command is in a string of the shell's, which is in a string of JSON's.
    nested = program.replace("\\", "\\\\").replace('"', '\\"')
    escaped = quoted(nested)[1:-1]
    made = {name: _text(f"jetbrains/{name}") for name in JETBRAINS}
    return {**made, "template.json": made["template.json"].replace("plait lsp", escaped)}


JETBRAINS = ("template.json", "settings.json", "initializationOptions.json", "clientSettings.json", "README.md")
ZED = ("extension.toml", "Cargo.toml", "src/lib.rs", "settings.json")

SETUPS: Mapping[str, Setup] = {
    "neovim": Setup(
        lambda command: {"plait.lua": filled("neovim.lua", command)},
        "Save it as plugin/plait.lua in Neovim's configuration, for example with --to ~/.config/nvim/plugin.",
        "Neovim shows no tree of sessions and no side-by-side diff: `plait watch` and `plait diff` do.",
    ),
    "emacs": Setup(
        lambda command: {"plait.el": filled("emacs.el", command)},
        'Save it as plait.el in your user-emacs-directory, and load it: (load (locate-user-emacs-file "plait") t)',
        "Eglot gives a buffer one server, so beside another one Plait needs lsp-mode; Eglot shows no code lenses.",
    ),
    "helix": Setup(
        _helix_files,
        "Append it to ~/.config/helix/languages.toml; :lsp-workspace-command plait.hunk.next leads to a hunk.",
        "Helix shows no code lenses, no status, no hover of a second server, and nothing in files without a language.",
    ),
    "zed": Setup(
        lambda command: {name: filled(f"zed/{name}", command) for name in ZED},
        "Zed takes language servers from extensions only: write this one with --to DIR, and choose that directory in\n"
        "zed: install dev extension (Zed builds it, which needs Rust). settings.json belongs into your own settings.",
        "Zed cannot be led to a hunk by the server, shows no status, and serves only the languages that are listed.",
    ),
    "sublime": Setup(
        lambda command: {"LSP.sublime-settings": filled("sublime.json", command)},
        "Needs the package LSP. Put it into Preferences > Package Settings > LSP > Settings.",
        "Sublime Text shows no status of sessions: `plait watch` in a terminal does.",
    ),
    "jetbrains": Setup(
        _jetbrains_files,
        "Needs the plug-in LSP4IJ. Write the files with --to DIR, then: Language Servers > + > Import from custom\n"
        "template... > that directory. The guide is jetbrains-notes/README.md in Plait's sources.",
        "LSP4IJ shows no status of sessions, ignores the version of edits, and opens no virtual files.",
    ),
}
"""The editors by name."""


def _write(directory: Path, made: Files) -> None:
    """Writes the files, unless one would replace something else. Raises PlaitError."""
    for name, text in made.items():
        there = directory / name
        if there.is_symlink() or (there.exists() and there.read_bytes() != text.encode()):
            raise PlaitError(f"{safe(str(there))} is there already and says something else.", "Move it away first.")
    for name, text in made.items():
        there = directory / name
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_text(text)
        except OSError as error:
            raise PlaitError(f"{safe(str(there))} could not be written: {error.strerror}.") from error
        screen.put(str(there))


def _text(name: str) -> str:
    return files("plait.cli").joinpath("editors", *name.split("/")).read_text(encoding="utf-8")
