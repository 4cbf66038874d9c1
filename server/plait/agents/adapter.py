"""What every agent's translator answers: how to launch it, what its output means, what to write to it.

An adapter only translates values; the engine starts processes, writes bytes and keeps files, the supervisor keeps the
process. A driver is an adapter's state for one process. It is deterministic: the same output and the same commands at
the same places give the same effects, however the output was cut into pieces. After a restart the daemon therefore
rebuilds it by feeding it everything again; writes that were made already are recognised by their ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from plait.core.events import PermissionMode
from plait.core.reports import Report, TroubleKind


@dataclass(frozen=True)
class Job:
    """What one process of an agent is to do: the task, where to work, and the message if this is not the first turn."""

    session: str
    task: str
    title: str
    prompt: str
    worktree: str
    port: int
    message: str | None = None
    permission: PermissionMode = "ask"
    model: str | None = None
    resume: str | None = None
    """The agent's own name for the conversation that is to go on."""
    preset: str = ""
    """The agent's name in the table of known agents, if it is one."""
    files: str = ""
    """A private directory that lasts as long as the session, for files the agent needs between runs."""
    command: tuple[str, ...] = ()
    """The same as `launch` is given."""

    @property
    def opening(self) -> str:
        """The first thing to tell the agent in this process."""
        if self.resume is None:
            return self.prompt if self.message is None else f"{self.prompt}\n\n{self.message}"
        return self.message or "Go on where you left off."


@dataclass(frozen=True)
class Launch:
    """The process that does the job; `env` holds only what comes on top of the environment passed on."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: Literal["null", "fifo"] = "null"
    stderr: Literal["output", "apart"] = "output"
    """`apart` keeps what the process complains of out of the stream that the driver reads."""
    pty: bool = False
    interrupt: Literal["INT", "TERM"] | None = "INT"
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts to be written below `Job.files` before the start, by relative path."""
    host: Launch | None = None
    """A program to be run to its end before, outside of the session: it leaves a server behind that sessions share."""


@dataclass(frozen=True)
class End:
    """How a supervised process ended: exactly, or `unknown` when nobody could see it."""

    code: int | None
    signal: int | None
    unknown: bool
    reason: str
    error: str | None = None
    complaints: str = ""
    """The last of what it wrote to its error stream, where that is kept apart."""


@dataclass(frozen=True)
class Outcome:
    """Whether the agent did its job, in a sentence that the user reads."""

    ok: bool
    reason: str
    stopped: bool = False
    trouble: TroubleKind | None = None


@dataclass(frozen=True)
class Say:
    """The user has a message; a driver that cannot deliver it now keeps it and says so with a Remark."""

    id: str
    text: str


@dataclass(frozen=True)
class Answer:
    """The user's answer to a request: one of its options, or answers by question id; `text` goes along if it can."""

    request: str
    option: str | None = None
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Interrupt:
    """The user wants the turn to end; what was done so far stays."""


Command = Say | Answer | Interrupt


@dataclass(frozen=True)
class Write:
    """Bytes for the agent's input, delivered once per `id`."""

    id: str
    data: bytes


@dataclass(frozen=True)
class SaveFile:
    """A file that the agent wants written for it, confined to the worktree; one of the two writes follows."""

    path: str
    text: str
    done: Write
    refused: Write


@dataclass(frozen=True)
class HangUp:
    """Nothing is left to be done: the agent's input is closed, and it is ended if it does not leave by itself."""

    after_s: float = 0.0
    """Seconds to wait before that, and not at all if a turn begins in the meantime: for commands that the agent left
    running and waits for. An engine that does not wait closes the input at once, which ends them."""


@dataclass(frozen=True)
class GiveUp:
    """The agent cannot succeed and would only go on trying: it is ended now; `outcome` says why."""


Effect = Report | Write | SaveFile | HangUp | GiveUp


class Driver(Protocol):
    """The conversation with one process of an agent; never raises, whatever it is fed."""

    def begin(self) -> Sequence[Effect]:
        """What is due as soon as the process runs, before any output."""
        ...

    def feed(self, data: bytes) -> Sequence[Effect]:
        """What the next bytes of output mean; incomplete ones are kept until the rest has come."""
        ...

    def take(self, command: Command) -> Sequence[Effect]:
        """What a wish of the user means for the agent."""
        ...

    def close(self) -> Sequence[Effect]:
        """The output is over: what the incomplete rest means."""
        ...

    def outcome(self, end: End) -> Outcome:
        """Whether the job was done; by what the agent reported, not by how its process ended."""
        ...


@dataclass(frozen=True)
class Abilities:
    """What can be done with an agent of this kind."""

    converses: bool = True
    """It takes messages, reports turns and can be resumed; a mere command cannot."""
    steers: bool = False
    """It takes a message in the middle of a turn."""
    asks: bool = True
    """Its requests for permission reach the user."""
    usage: bool = True
    cost: bool = False
    limits: bool = False
    """It reports retries and rate limits."""
    terminal: bool = False
    """It works in a terminal of its own, which its driver does not read: its bytes are what it tells its hooks."""


class Adapter(Protocol):
    """One kind of agent."""

    abilities: Abilities

    def launch(self, command: tuple[str, ...], job: Job) -> Launch: ...

    def driver(self, job: Job) -> Driver: ...


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
