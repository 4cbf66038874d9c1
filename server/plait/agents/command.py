"""Any command line as an agent: its exit status says whether it did the job, its output is what it said.

Source of the conventions: `[agents.NAME] kind = "command"` in README.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from plait.agents.adapter import Abilities, Driver, Effect, End, Job, Launch, Outcome, stopped_or_lost
from plait.agents.adapter import Command as UserCommand
from plait.agents.lines import Lines
from plait.core.config import fill
from plait.core.reports import Message


class Command:
    """The adapter of `command` agents."""

    abilities = Abilities(converses=False, asks=False, usage=False)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        """The command with its placeholders filled in; other braces stay."""
        prompt = job.prompt if job.message is None else job.message
        filled = {
            "prompt": prompt,
            "title": job.title,
            "session": job.session,
            "worktree": job.worktree,
            "port": str(job.port),
        }
        env = {
            "PLAIT_PROMPT": prompt,
            "PLAIT_TITLE": job.title,
            "PLAIT_SESSION": job.session,
            "PLAIT_TASK": job.task,
        }
        return Launch(fill(command, filled), env)

    def driver(self, job: Job) -> Driver:
        return Printed()


class Printed:
    """What a command prints, line by line; bytes that are not UTF-8 become replacement characters."""

    def __init__(self) -> None:
        self._lines = Lines()

    def begin(self) -> Sequence[Effect]:
        return ()

    def feed(self, data: bytes) -> Sequence[Effect]:
        return _messages(self._lines.feed(data))

    def take(self, command: UserCommand) -> Sequence[Effect]:
        return ()

    def close(self) -> Sequence[Effect]:
        return _messages(self._lines.close())

    def outcome(self, end: End) -> Outcome:
        special = stopped_or_lost(end)
        if special is not None:
            return special
        if end.code == 0:
            return Outcome(True, "Done.")
        if end.signal is not None:
            return Outcome(False, f"It was ended by {_signal_name(end.signal)}.")
        return Outcome(False, f"It exited with status {end.code}.")


def _messages(lines: list[bytes]) -> list[Effect]:
    return [Message(text=line.decode("utf-8", "replace")) for line in lines]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
