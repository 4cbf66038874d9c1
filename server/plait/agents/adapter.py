"""What every agent's translator answers: how to launch it, what its output means, how its end is to be judged.

An adapter only translates values; the engine starts processes, and the supervisor keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True)
class Job:
    """One turn for an agent: the task, where to work, and the message if this is not the first turn."""

    session: str
    task: str
    title: str
    prompt: str
    worktree: str
    port: int
    message: str | None = None


@dataclass(frozen=True)
class Launch:
    """The process that does the job; `env` holds only what comes on top of the environment passed on."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: Literal["null", "fifo"] = "null"
    pty: bool = False
    interrupt: Literal["INT", "TERM"] | None = "INT"


@dataclass(frozen=True)
class End:
    """How a supervised process ended: exactly, or `unknown` when nobody could see it."""

    code: int | None
    signal: int | None
    unknown: bool
    reason: str
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Whether the agent did its job, in a sentence that the user reads."""

    ok: bool
    reason: str
    stopped: bool = False


@dataclass(frozen=True)
class Said:
    """One piece of a readable conversation."""

    kind: Literal["message"]
    text: str


class Reader(Protocol):
    """Turns an agent's output into what it said; keeps what is incomplete until the rest has come."""

    def feed(self, data: bytes) -> list[Said]: ...

    def close(self) -> list[Said]: ...


class Adapter(Protocol):
    """One kind of agent."""

    def launch(self, command: tuple[str, ...], job: Job) -> Launch: ...

    def outcome(self, end: End) -> Outcome: ...

    def reader(self) -> Reader: ...


def stopped_or_lost(end: End) -> Outcome | None:
    """The outcome of an end that says nothing about the job: a stop, a time limit, a process nobody saw end."""
    if end.reason == "stopped":
        return Outcome(False, "Stopped.", stopped=True)
    if end.reason == "timeout":
        return Outcome(False, "Stopped at its time limit.")
    if end.reason == "reboot":
        return Outcome(False, "The machine was restarted while it worked; resume it to go on.")
    if end.reason == "exec-failed":
        return Outcome(False, f"It could not be started: {end.error}")
    if end.unknown:
        return Outcome(False, "Its supervisor was killed, so how it ended is not known; its work is kept.")
    return None
