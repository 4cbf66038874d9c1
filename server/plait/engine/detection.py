"""Which agents are installed here, what exactly is executed for each, its version, and whether it is logged in.

Looks at files; nothing is run but a program's own `--version`, and that only where no package says it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from plait.agents.presets import PRESETS, LoginCheck, Preset, Trace
from plait.core.advice import Login
from plait.core.config import AgentConfig, UserConfig
from plait.core.events import AgentKind
from plait.engine.programs import Program, find, interpreted, native, read_json
from plait.engine.versions import Versions
from plait.errors import UsageError


@dataclass(frozen=True)
class Found:
    """An agent by its name, as it is installed here, or why it cannot be started."""

    name: str
    title: str
    kind: AgentKind
    command: tuple[str, ...] = ()
    """What is executed, with the arguments that come first; empty if it cannot be started."""
    path: str | None = None
    """The program that is executed (for Aider its interpreter)."""
    program: str | None = None
    """The program as it was found on PATH."""
    version: str | None = None
    login: Login = "unknown"
    told_by: str = ""
    """How it was told whether it is logged in, as the end of a sentence."""
    note: str = ""
    """What is worth knowing of the way it is started."""
    problem: str = ""
    """Why it cannot be started, as a sentence."""
    hint: str = ""
    """What the user does: to install it, or to log in."""
    preset: Preset | None = None
    """None: an agent of the user's own."""
    config: AgentConfig = field(default_factory=AgentConfig)


def detect(config: UserConfig, environment: Mapping[str, str], versions: Versions | None = None) -> list[Found]:
    """All agents that Plait knows, installed or not, and those of the user's own, with their versions."""
    names = [*PRESETS, *sorted(set(config.agents) - set(PRESETS))]
    found = [_found(name, config, environment) for name in names]
    known = versions or Versions()
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="version") as pool:
        told = list(pool.map(lambda one: _version(one, environment, known, ask=True), found))
    known.save()
    return [replace(one, version=version) for one, version in zip(found, told, strict=True)]


def resolve(name: str, config: UserConfig, environment: Mapping[str, str], versions: Versions | None = None) -> Found:
    """The agent of that name, ready to be started; its version only where it is known without running it.

    Raises UsageError if there is none of that name, or it cannot be started.
    """
    if name not in PRESETS and name not in config.agents:
        known = ", ".join([*PRESETS, *sorted(set(config.agents) - set(PRESETS))])
        raise UsageError(f"There is no agent {name!r}.", f"Known are: {known}.")
    found = _found(name, config, environment)
    if found.problem:
        raise UsageError(found.problem, found.hint)
    return replace(found, version=_version(found, environment, versions or Versions(), ask=False))


def login_of(check: LoginCheck, environment: Mapping[str, str]) -> tuple[Login, str]:
    """Whether the agent has what it needs to reach its provider, and how that was told."""
    for name in check.variables:
        if environment.get(name, "").strip() not in ("", "0", "false"):
            return "yes", f"{name} is set"
    for trace in check.traces:
        path = _place(trace.path, environment)
        if path is not None and _holds(path, trace):
            return trace.means, f"{path} {'says so' if trace.means == 'yes' else 'leaves it open'}"
    if check.otherwise == "no":
        return "no", "neither its files nor a variable hold a login"
    return check.otherwise, check.because


def usable(found: list[Found]) -> dict[str, Login]:
    """The agents that can be started and hold a conversation, with whether they are logged in; see `core.advice`."""
    return {one.name: one.login for one in found if not one.problem and one.kind != "command"}


_AT_ONCE = 4
"""Programs that are asked for their version at a time."""
_LONGEST = 4_000_000
"""Bytes of a file that is looked at for a trace of a login: ~/.claude.json grows with the projects."""


def _found(name: str, config: UserConfig, environment: Mapping[str, str]) -> Found:
    configured = config.agents.get(name, AgentConfig())
    if configured.kind is not None:
        return _own(name, configured, configured.kind, environment)
    preset = PRESETS[name]
    found = _installed(preset, configured, environment)
    login, told_by = login_of(preset.login, environment)
    hint = found.hint or (preset.login.hint if login != "yes" else "")
    return replace(found, login=login, told_by=told_by, hint=hint)


def _own(
    name: str, configured: AgentConfig, kind: Literal["command", "acp", "terminal"], environment: Mapping[str, str]
) -> Found:
    found = Found(name, name, kind, config=configured)
    word, *rest = configured.command
    arguments = (*rest, *configured.args)
    if "/" in word and not word.startswith("/"):
        # It is a file of the repository; whether it is there depends on the commit that a session starts from.
        return replace(found, command=(word, *arguments), path=word, program=word, note="counts from each worktree")
    program = find((word,), environment)
    if program is None:
        problem = f"The agent {name!r} is to run {word}, which cannot be executed."
        return replace(found, problem=problem, hint="Install it, or correct its command in config.toml.")
    return replace(found, command=(program, *arguments), path=program, program=program)


def _installed(preset: Preset, configured: AgentConfig, environment: Mapping[str, str]) -> Found:
    found = Found(preset.name, preset.title, preset.kind, preset=preset, config=configured)
    words = configured.command
    program = find(words[:1] or preset.programs, environment)
    if program is None:
        if words:
            problem = f"{preset.title} is to be run as {words[0]}, which cannot be executed."
            return replace(found, problem=problem, hint="Correct its command in config.toml.")
        return replace(found, problem=f"{preset.title} is not installed.", hint=preset.install_hint)
    executed = _executed(preset, program, environment)
    if executed.path is None:
        return replace(found, program=program, problem=f"{preset.title} cannot be started: {executed.note}.")
    # A command of one word stands for the program, a longer one for the whole command line.
    rest = words[1:] if len(words) > 1 else preset.args
    command = (executed.path, *rest, *configured.args)
    return replace(found, command=command, path=executed.path, program=program, note=executed.note)


def _executed(preset: Preset, program: str, environment: Mapping[str, str]) -> Program:
    if preset.interpreter:
        return interpreted(program, environment)
    if preset.npm is not None:
        return native(program, preset.npm)
    return Program(program)


def _version(found: Found, environment: Mapping[str, str], versions: Versions, *, ask: bool) -> str | None:
    preset = found.preset
    if preset is None or found.path is None or found.program is None or len(found.config.command) > 1:
        # A command line of the user's own may start anything, which need not know `--version`.
        return None
    told = versions.of_package(found.program, preset.npm.package) if preset.npm else None
    if preset.interpreter:
        told = versions.of_distribution(found.path, preset.distribution)
    return told or versions.of_program(found.program if preset.interpreter else found.path, environment, ask=ask)


_PLACE = re.compile(r"^\{(\w+):([^}]*)\}")


def _place(path: str, environment: Mapping[str, str]) -> Path | None:
    match = _PLACE.match(path)
    if match:
        path = (environment.get(match[1], "") or match[2]) + path[match.end() :]
    if path.startswith("~/"):
        home = environment.get("HOME", "")
        path = home + path[1:] if home else ""
    return Path(path) if path.startswith("/") else None


def _holds(path: Path, trace: Trace) -> bool:
    try:
        if not path.is_file() or not 0 < path.stat().st_size <= _LONGEST:
            return False
        if not trace.keys:
            return path.read_bytes().strip() not in (b"", b"{}", b"[]", b"null")
        document = _document(path)
    except OSError:
        return False
    return any(_under(document, key.split(".")) for key in trace.keys)


def _document(path: Path) -> object:
    if path.suffix != ".toml":
        return read_json(path)
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _under(document: object, keys: list[str]) -> bool:
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value not in (None, "", False, {}, [])
