"""What should be done now: looks only at how things stand, so that recovery after a crash is the ordinary path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from plait.core.admission import Decision
from plait.core.events import RunKind
from plait.core.sessions import RESTING, Run, Session, State
from plait.core.state import Whole


@dataclass(frozen=True)
class Admit:
    """Let a queued session start."""

    session: str
    reason: str


@dataclass(frozen=True)
class Prepare:
    """Create the worktree, or complete a creation that was interrupted."""

    session: str


@dataclass(frozen=True)
class Start:
    """Start the next supervised process."""

    session: str
    kind: RunKind
    run: int


@dataclass(frozen=True)
class Attend:
    """Follow a process that is, or may be, alive until its end is known."""

    session: str
    run: int


@dataclass(frozen=True)
class Stop:
    """End a process by the kill ladder."""

    session: str
    run: int


@dataclass(frozen=True)
class Record:
    """Take the snapshot of what an agent left."""

    session: str


@dataclass(frozen=True)
class Settle:
    """Complete or undo a change of a branch that was interrupted."""

    session: str


@dataclass(frozen=True)
class Discard:
    """Move the worktree to the trash."""

    session: str


@dataclass(frozen=True)
class Halt:
    """End a start that the user no longer wants and that has no process yet."""

    session: str


@dataclass(frozen=True)
class Release:
    """Remove a worktree that holds nothing but the base."""

    session: str


@dataclass(frozen=True)
class Send:
    """Tell the agent what the user said about its changes, and let it go on."""

    session: str


Action = Admit | Prepare | Start | Attend | Stop | Record | Settle | Discard | Halt | Release | Send

ON_WORKTREE = (Prepare, Start, Record, Discard, Release, Send)
"""Actions that make, fill, read or remove a worktree: of one session never two at the same time."""


def plan(
    whole: Whole,
    decisions: Mapping[str, Decision],
    busy: frozenset[Action],
    held: frozenset[str] = frozenset(),
) -> tuple[Action, ...]:
    """Every action that is due and not in `busy`, oldest session first; none on the worktrees of sessions in `held`."""
    worked_on = held | {action.session for action in busy if isinstance(action, ON_WORKTREE)}
    due = (action for session in whole.sessions.values() for action in _due(session, decisions.get(session.id)))
    return tuple(
        action
        for action in due
        if action not in busy and not (isinstance(action, ON_WORKTREE) and action.session in worked_on)
    )


def _due(session: Session, decision: Decision | None) -> Iterator[Action]:
    if session.finishing is not None:
        yield Settle(session.id)
    live = session.live_run
    if live is not None:
        yield Attend(session.id, live.number)
        if session.stop_asked:
            yield Stop(session.id, live.number)
        elif session.send_asked and session.at_turn_boundary:
            yield Send(session.id)
        return
    if session.trash_asked and session.state in (State.QUEUED, *RESTING):
        yield _next_discard(session)
        return
    if session.state is State.QUEUED and decision is not None and decision.admit:
        yield Admit(session.id, decision.reason)
    if session.state is State.STARTING:
        yield Halt(session.id) if session.stop_asked else _next_start(session)
    if session.state is State.WORKING and session.unrecorded_run is not None:
        yield Record(session.id)
    if session.send_asked and session.at_turn_boundary and session.finishing is None:
        yield Send(session.id)
        return
    # What a set-up made outside of the worktree is only taken down when the user discards the session.
    if session.holds_nothing and not session.spec.setup.teardown:
        yield Release(session.id)


def _next_start(session: Session) -> Action:
    number = len(session.runs) + 1
    if session.prepared is None:
        return Prepare(session.id)
    if session.spec.setup.commands and not any(_succeeded(run, "setup") for run in session.runs[session.bare_until :]):
        return Start(session.id, "setup", number)
    return Start(session.id, "agent", number)


def _next_discard(session: Session) -> Action:
    last = session.last_run
    if session.prepared is None or not session.spec.setup.teardown or (last is not None and last.kind == "teardown"):
        return Discard(session.id)
    return Start(session.id, "teardown", len(session.runs) + 1)


def _succeeded(run: Run, kind: RunKind) -> bool:
    return run.kind == kind and run.ended is not None and run.ended.ok
