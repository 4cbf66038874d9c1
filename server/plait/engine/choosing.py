"""Decides which agents a request means, and refuses those that cannot or should not be started."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from plait.agents.codex_exec import has_app_server
from plait.agents.presets import PRESETS
from plait.core import events as e
from plait.core.advice import suggest
from plait.core.config import UserConfig
from plait.core.events import PermissionMode
from plait.engine import detection
from plait.engine.detection import Found
from plait.errors import UsageError

AUTO = "auto"
"""In place of an agent's name: the one that suits the task."""

OWN_SANDBOX = ("codex",)
"""Kinds of agents that confine what they run to the worktree themselves."""


def choose(
    asked: Sequence[tuple[str, int]],
    command: tuple[str, ...],
    text: str,
    config: UserConfig,
    environment: Mapping[str, str],
) -> list[tuple[e.AgentRef, int]]:
    """The agents for a task, each with how many sessions. Blocking: looks for programs. Raises UsageError."""
    if command:
        _on_path(command[0], environment)
        agent = e.AgentRef(name=Path(command[0]).name or "command", command=command)
        return [(agent, max(1, asked[0][1] if asked else 1))]
    wanted = asked or _unasked(config)
    return [(_agent(name, text, config, environment), count) for name, count in wanted]


def allowed_now(agent: e.AgentRef, config: UserConfig) -> PermissionMode:
    """What an agent of an earlier day may do unasked today: no more than then, and no more than is configured now."""
    configured = config.agents.get(agent.name)
    if agent.kind == "command" or configured is None:
        return agent.permission if agent.kind == "command" else "ask"
    now = configured.permission
    if now == "all" and agent.kind not in (*OWN_SANDBOX, "codex-exec") and not configured.unsandboxed:
        now = "edits"
    return min(agent.permission, now, key=MODES.index)


MODES: tuple[PermissionMode, ...] = ("ask", "edits", "all")
"""From the strictest on."""


def _unasked(config: UserConfig) -> Sequence[tuple[str, int]]:
    """Who does a task for which nobody was named: the only agent of the user's own, or the one that suits it."""
    own = [name for name, agent in config.agents.items() if agent.kind is not None]
    if len(own) > 1:
        raise UsageError(
            "Which agent shall do it?",
            f"Name one with --agent: {', '.join(sorted(own))}, or {AUTO} for the one that suits the task.",
        )
    return ((own[0] if own else AUTO, 1),)


def _agent(name: str, text: str, config: UserConfig, environment: Mapping[str, str]) -> e.AgentRef:
    if name == AUTO:
        name, why = _suited(text, config, environment)
        return _reference(detection.resolve(name, config, environment), why)
    return _reference(detection.resolve(name, config, environment), "")


def _suited(text: str, config: UserConfig, environment: Mapping[str, str]) -> tuple[str, str]:
    """The installed agent that suits the task, and why."""
    found = []
    for name in PRESETS:
        try:
            found.append(detection.resolve(name, config, environment))
        except UsageError:
            continue
    logins = detection.usable(found)
    suggestion = suggest(text, list(logins), logins)
    if suggestion is None:
        raise UsageError(
            "Which agent shall do it?",
            "No agent that Plait knows is installed; `plait agents` says how to install one. "
            "Or add [agents.NAME] to config.toml, or give a command after `--`.",
        )
    return suggestion.agent, suggestion.reason


def _reference(found: Found, why: str) -> e.AgentRef:
    config = found.config
    if config.permission == "all" and found.kind not in (*OWN_SANDBOX, "command") and not config.unsandboxed:
        raise UsageError(
            f"{found.title} would do everything without asking, and nothing but its worktree holds it back.",
            f'Set permission = "edits" for [agents.{found.name}] in config.toml, '
            "or unsandboxed = true if that is what you want.",
        )
    return e.AgentRef(
        name=found.name,
        kind="codex-exec" if found.kind == "codex" and not has_app_server(found.version) else found.kind,
        command=found.command,
        env=config.env,
        permission=config.permission,
        model=config.model,
        why=why,
    )


def _on_path(program: str, environment: Mapping[str, str]) -> None:
    """Raises UsageError if the program of a command line cannot be executed; a file of the worktree is left open."""
    in_worktree = "/" in program and not program.startswith("/")
    if not in_worktree and shutil.which(program, path=environment.get("PATH", os.defpath)) is None:
        raise UsageError(
            f"The agent {Path(program).name!r} is to run {shlex.quote(program)}, which cannot be executed.",
            "Install it, or give its whole path.",
        )
