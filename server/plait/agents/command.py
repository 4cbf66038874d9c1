"""Any command line as an agent: its exit status says whether it did the job, its output is what it said.

Source of the conventions: `[agents.NAME] kind = "command"` in README.
"""

from __future__ import annotations

import codecs
import signal

from plait.agents.adapter import End, Job, Launch, Outcome, Said, stopped_or_lost
from plait.core.config import fill


class Command:
    """The adapter of `command` agents."""

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

    def outcome(self, end: End) -> Outcome:
        special = stopped_or_lost(end)
        if special is not None:
            return special
        if end.code == 0:
            return Outcome(True, "Done.")
        if end.signal is not None:
            return Outcome(False, f"It was ended by {_signal_name(end.signal)}.")
        return Outcome(False, f"It exited with status {end.code}.")

    def reader(self) -> Lines:
        return Lines()


class Lines:
    """Reads output line by line; bytes that are not UTF-8 become replacement characters."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[Said]:
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        return [Said("message", line.rstrip("\r")) for line in lines]

    def close(self) -> list[Said]:
        rest = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        return [Said("message", rest)] if rest else []


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
