"""What the known agents that speak ACP do differently, as one table by the name of their preset.

Gemini CLI, Copilot CLI and OpenCode were tried with the real programs (tests/agents/real/test_acp_real.py);
claude-agent-acp and codex-acp were recorded from them. Cursor, Goose and Qwen Code are from their documentation:
https://cursor.com/docs/cli/acp, https://block.github.io/goose/docs/guides/goose-permissions, and the approval modes of
Qwen Code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from plait.core.events import PermissionMode
from plait.core.reports import UsageScope

Modes = Mapping[PermissionMode, tuple[str, ...]]


@dataclass(frozen=True)
class AcpQuirks:
    """How one agent differs from the protocol's plain reading."""

    title: str = "The agent"
    """Its name in sentences."""
    account: str = "unknown"
    """The provider account it spends from."""
    log_in: str = "log in with the agent's own program"
    """What the user does to log in, as the end of a sentence."""
    modes: Modes = field(default_factory=dict)
    """Session modes per permission, the best first; requests are answered by Plait's own rules in each of them."""
    usage_scope: UsageScope | Literal["none"] = "turn"
    """What the `usage` of a prompt's answer counts."""
    cost_scope: UsageScope = "thread"
    """What the cost of a usage update counts."""
    quota_meta: bool = False
    """Tokens of a turn come in `_meta.quota.token_count` where the answer has no `usage`; those of Gemini CLI leave out
    what it thought, and do not tell what was cached."""
    late_history: bool = False
    """It may go on replaying the conversation after it answered session/load."""
    tool_in_id: bool = False
    """A tool's name is the beginning of its call's id, up to two underscores."""
    piped: bool = False
    """Its output has to be a pipe: those in Python with the protocol's own package cannot write to a file."""
    model_flag: str | None = None
    """The option of its command line that takes a model."""
    env: Mapping[str, str] = field(default_factory=dict)
    permission_env: Mapping[PermissionMode, Mapping[str, str]] = field(default_factory=dict)
    asides: re.Pattern[str] | None = None
    """Pieces of a message that the program says, not the model."""
    retries: re.Pattern[str] | None = None
    """Asides that announce another attempt."""
    failures: re.Pattern[str] | None = None
    """A last aside of a turn that means the turn failed, though it ends as if it were done."""
    noise: re.Pattern[str] | None = None
    """Pieces of a message that the program says for itself alone."""


QUIRKS: Mapping[str, AcpQuirks] = {
    "default": AcpQuirks(piped=True),
    "gemini": AcpQuirks(
        title="Gemini CLI",
        account="google",
        log_in="run `gemini` and choose how to log in",
        modes={"ask": ("default",), "edits": ("autoEdit", "default"), "all": ("yolo", "default")},
        usage_scope="turn",
        quota_meta=True,
        late_history=True,
        tool_in_id=True,
        model_flag="--model",
        # Otherwise it starts itself a second time in a child.
        env={"GEMINI_CLI_NO_RELAUNCH": "true", "NO_COLOR": "1"},
        # In a folder that it trusts, the repository's own settings may allow everything and start servers; in one that
        # it does not, it asks for everything, and Plait answers by its own rules.
        permission_env={
            "ask": {"GEMINI_CLI_TRUST_WORKSPACE": "false"},
            "edits": {"GEMINI_CLI_TRUST_WORKSPACE": "false"},
            "all": {"GEMINI_CLI_TRUST_WORKSPACE": "true"},
        },
        # The answer to session/set_mode, said as if the model had.
        noise=re.compile(r"\[MODE_UPDATE\] \w+"),
    ),
    "copilot": AcpQuirks(
        title="GitHub Copilot CLI",
        account="github",
        log_in="run `copilot login`",
        modes=dict.fromkeys(("ask", "edits", "all"), ("https://agentclientprotocol.com/protocol/session-modes#agent",)),
        usage_scope="process",
        model_flag="--model",
        env={"COPILOT_AUTO_UPDATE": "false"},
        asides=re.compile(r"(?:Info|Warning|Error): "),
        retries=re.compile(r"Info: .*Retrying"),
        failures=re.compile(r"Error: "),
        # The path of a file that it just wrote.
        noise=re.compile(r"Info: /.*"),
    ),
    "cursor": AcpQuirks(
        title="Cursor CLI",
        account="cursor",
        log_in="run `cursor-agent login` or set CURSOR_API_KEY",
        modes=dict.fromkeys(("ask", "edits", "all"), ("agent",)),
    ),
    "goose": AcpQuirks(
        title="Goose",
        account="goose",
        log_in="run `goose configure`",
        modes={"ask": ("approve",), "edits": ("approve",), "all": ("auto", "approve")},
        permission_env={
            "ask": {"GOOSE_MODE": "approve"},
            "edits": {"GOOSE_MODE": "approve"},
            "all": {"GOOSE_MODE": "auto"},
        },
    ),
    "qwen": AcpQuirks(
        title="Qwen Code",
        account="qwen",
        log_in="run `qwen` and choose how to log in",
        modes={"ask": ("default",), "edits": ("auto-edit", "autoEdit", "default"), "all": ("yolo", "default")},
        late_history=True,
        quota_meta=True,
        model_flag="--model",
    ),
    "claude-acp": AcpQuirks(
        title="Claude Code",
        account="anthropic",
        log_in="run `claude` and use /login, or set ANTHROPIC_API_KEY",
        # Its own default is `auto`, in which a model decides what is allowed.
        modes={
            "ask": ("default",),
            "edits": ("acceptEdits", "default"),
            "all": ("bypassPermissions", "default"),
        },
        cost_scope="process",
    ),
    "codex-acp": AcpQuirks(
        title="Codex",
        account="openai",
        log_in="run `codex login`, or set OPENAI_API_KEY",
        # Its own default is `agent`, in which a model decides what is asked.
        modes={
            "ask": ("read-only",),
            "edits": ("workspace-write", "read-only"),
            "all": ("agent-full-access", "workspace-write"),
        },
    ),
    "opencode-acp": AcpQuirks(
        title="OpenCode",
        account="opencode",
        log_in="run `opencode auth login`",
        modes=dict.fromkeys(("ask", "edits", "all"), ("build",)),
        usage_scope="request",
        env={"OPENCODE_DISABLE_AUTOUPDATE": "1"},
        # What it asks for is a matter of its configuration; this adds to the user's, for this process.
        permission_env={
            "ask": {"OPENCODE_PERMISSION": '{"edit":"ask","bash":"ask","webfetch":"ask"}'},
            "edits": {"OPENCODE_PERMISSION": '{"edit":"allow","bash":"ask","webfetch":"ask"}'},
            "all": {"OPENCODE_PERMISSION": '{"edit":"allow","bash":"allow","webfetch":"allow"}'},
        },
    ),
}


def quirks_of(preset: str) -> AcpQuirks:
    """The quirks of a preset; those of plain ACP, under its name, for an agent that is not known."""
    found = QUIRKS.get(preset)
    if found is not None:
        return found
    return replace(QUIRKS["default"], title=preset or "The agent", account=preset or "unknown")
