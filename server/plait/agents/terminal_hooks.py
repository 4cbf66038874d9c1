"""Which programs tell from within a terminal how they are getting on, and the arguments by which they tell it to us.

Sources: https://code.claude.com/docs/en/hooks, https://developers.openai.com/codex/hooks, and runs of Claude Code
2.1.328 and Codex 0.169 in a terminal. Codex runs a hook only if its hash is trusted; the hash of our own hooks is given
along, so that no other hook, such as a repository's, runs that the user has not looked at.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from plait.agents import claude, codex
from plait.agents.adapter import Job

Flavour = Literal["claude", "codex"]

PROGRAM = Path(__file__).parent / "programs" / "hook.py"
SETTINGS = "hooks.json"
"""Where Claude Code finds its hooks, below `Job.files`."""

CLAUDE_EVENTS = (
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PermissionRequest",
    "PermissionDenied",
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "Notification",
    "Stop",
    "StopFailure",
    "SessionEnd",
)
CODEX_EVENTS: Mapping[str, str] = {
    "SessionStart": "session_start",
    "UserPromptSubmit": "user_prompt_submit",
    "PreToolUse": "pre_tool_use",
    "PermissionRequest": "permission_request",
    "PostToolUse": "post_tool_use",
    "Stop": "stop",
}
"""Each with its name in the keys of the trusted hashes."""
_CODEX_TIMEOUT_S = 600
"""What Codex takes where none is set; it is part of the hash."""

_CLAUDE_MODES = ("--permission-mode", "--dangerously-skip-permissions", "--allow-dangerously-skip-permissions")
_CODEX_MODES = (
    "-a",
    "-s",
    "-p",
    "--ask-for-approval",
    "--sandbox",
    "--profile",
    "--full-auto",
    "--yolo",
    "--approve-for-me",
    "--dangerously-bypass-approvals-and-sandbox",
)


def flavour_of(command: Sequence[str]) -> Flavour | None:
    """By the name of the program, which npm's packages also call `claude.exe` and `codex.js`.

    Claude Code takes one file of settings only: with the user's own there are no hooks of ours.
    """
    name = Path(command[0]).name.partition(".")[0] if command else ""
    if name == "claude":
        return None if _given(command, ("--settings",)) else "claude"
    return "codex" if name == "codex" else None


def options(flavour: Flavour, command: Sequence[str], job: Job) -> list[str]:
    """What goes between the program and its own arguments; the user's own choice of permissions or model stands."""
    added: list[str] = []
    if flavour == "claude":
        added += ["--settings", str(Path(job.files) / SETTINGS)]
        if not _given(command, _CLAUDE_MODES):
            added += ["--permission-mode", claude.MODES[job.permission]]
        if job.model and not _given(command, ("--model",)):
            added += ["--model", job.model]
        return [*added, "--resume", job.resume] if job.resume else added
    # A server that it shares with others of its kind would run the hooks of whoever started it.
    added += [] if "--no-daemon" in command else ["--no-daemon"]
    if not _given(command, _CODEX_MODES):
        approval, sandbox = codex.MODES[job.permission]
        added += ["-a", approval, "-s", sandbox]
    if job.model and not _given(command, ("-m", "--model")):
        added += ["-m", job.model]
    added += codex_hooks(hook_command())
    return [*added, "resume", job.resume] if job.resume else added


def hook_command() -> str:
    """The command line, for a shell, that every hook runs."""
    return shlex.join([sys.executable, "-I", "-S", str(PROGRAM)])


def claude_settings(command: str) -> str:
    """The settings with which Claude Code tells all that is listened to."""
    hook = [{"hooks": [{"type": "command", "command": command}]}]
    return json.dumps({"hooks": dict.fromkeys(CLAUDE_EVENTS, hook)}, indent=1)


def codex_hooks(command: str) -> list[str]:
    """The arguments with which Codex tells all that is listened to."""
    arguments: list[str] = []
    trusted = []
    for event, name in CODEX_EVENTS.items():
        # TOML's basic strings are written as JSON's.
        arguments += ["-c", f"hooks.{event}=[{{hooks=[{{type={_QUOTED_COMMAND},command={json.dumps(command)}}}]}}]"]
        trusted.append(f'"/<session-flags>/config.toml:{name}:0:0"={{trusted_hash="{codex_hash(name, command)}"}}')
    return [*arguments, "-c", f"hooks.state={{{','.join(trusted)}}}"]


def codex_hash(event: str, command: str) -> str:
    """What Codex calls the trusted hash of a command hook without a matcher."""
    hook = {"type": "command", "command": command, "timeout": _CODEX_TIMEOUT_S, "async": False}
    identity = json.dumps({"event_name": event, "hooks": [hook]}, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(identity.encode()).hexdigest()}"


_QUOTED_COMMAND = '"command"'


def _given(command: Sequence[str], names: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in names for word in command)
