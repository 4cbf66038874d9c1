"""The tasks that Claude Code has in the background: subagents, which report to it, and commands left running."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plait.agents.claude_fields import mappings, text
from plait.core.reports import shorten

_COMMANDS = ("local_bash", "monitor", "mcp_task")


class Background:
    """The live tasks, and those that ended while the agent was idle.

    The end of a task that completed or failed starts a round of the agent; the end of a stopped one does not.
    """

    def __init__(self) -> None:
        self._live: dict[str, Mapping[str, Any]] = {}
        self._ended: set[str] = set()
        self._notices: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._live)

    @property
    def subagents(self) -> bool:
        """Whether one of them ends by itself for sure; a command such as a server may not."""
        return any(not text(task, "task_type").startswith(_COMMANDS) for task in self._live.values())

    @property
    def names(self) -> str:
        return shorten(", ".join(text(task, "description") or name for name, task in self._live.items()), 500)

    def changed(self, message: Mapping[str, Any]) -> None:
        """Takes up a `background_tasks_changed` message: all tasks that there are now."""
        tasks = [task for task in mappings(message, "tasks") if task.get("ambient") is not True]
        before = set(self._live)
        self._live = {text(task, "task_id"): task for task in tasks}
        self._ended |= before - set(self._live)

    def noticed(self, message: Mapping[str, Any]) -> str:
        """Takes up a `task_notification` message; gives what is worth telling, which is nothing for other tasks."""
        task = text(message, "task_id")
        if task not in self._live and task not in self._ended:
            return ""
        self._notices[task] = text(message, "status")
        if message.get("ambient") is True or message.get("skip_transcript") is True:
            return ""
        return shorten(text(message, "summary") or f"The background task {task} ended.", 2000)

    def idle(self) -> None:
        """The agent is idle: it has heard of every task that ended before."""
        self._ended.clear()
        self._notices = {task: status for task, status in self._notices.items() if task in self._live}

    def over(self) -> bool:
        """Whether all tasks ended since the agent is idle and none of them will wake it."""
        if self._live or not self._ended or not all(task in self._notices for task in self._ended):
            return False
        return all(self._notices[task] == "stopped" for task in self._ended)
