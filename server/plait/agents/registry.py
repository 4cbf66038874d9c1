"""The adapters by kind."""

from __future__ import annotations

from plait.agents.acp import Acp
from plait.agents.adapter import Adapter
from plait.agents.aider import Aider
from plait.agents.claude import Claude
from plait.agents.codex import Codex
from plait.agents.codex_exec import CodexExec
from plait.agents.command import Command
from plait.agents.opencode import OpenCode
from plait.agents.terminal import Terminal

ADAPTERS: dict[str, Adapter] = {
    "command": Command(),
    "claude": Claude(),
    "codex": Codex(),
    "codex-exec": CodexExec(),
    "opencode": OpenCode(),
    "aider": Aider(),
    "acp": Acp(),
    "terminal": Terminal(),
}
