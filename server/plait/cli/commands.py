"""The table of all commands, in the order in which `plait --help` shows them.

A command's module is imported only when it is asked for, or when the help shows all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

from plait.cli.options import Directory

WORK, REVIEW, TIDY, AROUND = "Work", "Review", "Clean-up", "Surroundings"


@dataclass(frozen=True)
class Entry:
    """One command: its name, the heading it stands under, and the module and function that do it."""

    name: str
    panel: str
    module: str
    function: str = ""
    """Empty: the module's `app` is a group of commands."""


COMMANDS = (
    Entry("run", WORK, "running", "run"),
    Entry("list", WORK, "listing", "list_sessions"),
    Entry("show", WORK, "listing", "show"),
    Entry("watch", WORK, "watching", "watch"),
    Entry("log", WORK, "conversation", "log"),
    Entry("say", WORK, "control", "say"),
    Entry("answer", WORK, "answering", "answer"),
    Entry("attach", WORK, "attaching", "attach"),
    Entry("stop", WORK, "control", "stop"),
    Entry("resume", WORK, "control", "resume"),
    Entry("retry", WORK, "control", "retry"),
    Entry("open", WORK, "opening", "open_worktree"),
    Entry("review", REVIEW, "reviewing", "review"),
    Entry("diff", REVIEW, "output", "diff"),
    Entry("conflicts", REVIEW, "conflicts", "conflicts"),
    Entry("accept", REVIEW, "reviewing", "accept"),
    Entry("reject", REVIEW, "reviewing", "reject"),
    Entry("comment", REVIEW, "commenting", "comment"),
    Entry("comments", REVIEW, "commenting", "comments"),
    Entry("send", REVIEW, "commenting", "send"),
    Entry("revert", REVIEW, "reviewing", "revert"),
    Entry("merge", REVIEW, "control", "merge"),
    Entry("trash", TIDY, "cleaning", "trash"),
    Entry("restore", TIDY, "cleaning", "restore"),
    Entry("clean", TIDY, "cleaning", "clean"),
    Entry("agents", AROUND, "detecting", "agents"),
    Entry("approve", AROUND, "setup", "approve"),
    Entry("doctor", AROUND, "doctor", "doctor"),
    Entry("daemon", AROUND, "hosting"),
    Entry("demo", AROUND, "demo", "demo"),
    Entry("editor-config", AROUND, "editors", "editor_config"),
    Entry("lsp", AROUND, "hosting", "lsp"),
    Entry("exec", AROUND, "hosting", "execute"),
)


def program(words: Sequence[str]) -> Any:
    """The command line as typer's command, with at least those commands that may be meant by the words."""
    app = typer.Typer(
        name="plait",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_plait)
    for entry in [entry for entry in COMMANDS if entry.name in words] or COMMANDS:
        module = import_module(f"plait.cli.{entry.module}")
        if not entry.function:
            app.add_typer(module.app, name=entry.name, rich_help_panel=entry.panel)
            continue
        function = getattr(module, entry.function)
        kind: type[TyperCommand] = getattr(module, "KIND", TyperCommand)
        app.command(entry.name, cls=kind, rich_help_panel=entry.panel)(function)
    return typer.main.get_command(app)


def _plait(
    directory: Directory = None,
    version: bool = typer.Option(False, "--version", "-V", help="Show the version and exit."),
) -> None:
    """Run many AI coding agents in parallel, each in its own git worktree, and review their work hunk by hunk.

    Ids may be shortened. Exit status: 0 done, 1 it did not succeed, 2 usage, 3 nothing to do, 4 needs approval.
    """
    if version:
        from plait import __version__
        from plait.cli.screen import put

        put(f"plait {__version__}")
        raise typer.Exit
