"""Claude Code: how it is launched to be talked to.

Source: `claude --help` of version 2.1.328, and runs of it against a scripted model server.
"""

from __future__ import annotations

from collections.abc import Mapping

from plait.agents.adapter import Abilities, Job, Launch
from plait.agents.claude_driver import ClaudeDriver
from plait.core.events import PermissionMode

MODES: Mapping[PermissionMode, str] = {"ask": "default", "edits": "acceptEdits", "all": "bypassPermissions"}
"""`default` is what every version takes; newer ones call it `manual` in their help."""

ENVIRONMENT: Mapping[str, str] = {
    # Many agents run from one installation, which must not be replaced under the others.
    "DISABLE_AUTOUPDATER": "1",
    # It says when it is idle: a result may be followed by a round that a background task's end starts.
    "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
    # The repository's instructions are read though its settings are not: see `launch`.
    "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
}


class Claude:
    """The adapter of Claude Code."""

    abilities = Abilities(steers=True, cost=True, limits=True)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        """Its print mode, with messages and control requests as lines in both directions.

        In that mode it runs the hooks and the MCP servers of a repository's `.claude` without asking whether the
        repository is trusted, and a hook may allow everything; so only what the user has set up for himself counts,
        unless he has allowed everything anyway.
        """
        argv = [
            *(*command, "-p", "--verbose", "--replay-user-messages"),
            *("--input-format", "stream-json", "--output-format", "stream-json"),
            *("--permission-prompt-tool", "stdio", "--permission-mode", MODES[job.permission]),
        ]
        if job.permission != "all":
            argv += ["--setting-sources", "user", "--add-dir", job.worktree]
        if job.model:
            argv += ["--model", job.model]
        if job.resume:
            argv += ["--resume", job.resume]
        return Launch(tuple(argv), ENVIRONMENT, stdin="fifo", stderr="apart")

    def driver(self, job: Job) -> ClaudeDriver:
        return ClaudeDriver(job)
