"""Which queued sessions may start now, and for each that may not, the sentence that says what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plait.core.config import Limits
from plait.core.sessions import LIVE, Session, State
from plait.core.state import Whole


@dataclass(frozen=True)
class Machine:
    """What the machine has left; memory and disk in bytes, unknown figures are none and hold nothing back."""

    free_memory: int | None = None
    free_disk: int | None = None


@dataclass(frozen=True)
class Decision:
    """Whether a queued session may start, and why or why not."""

    admit: bool
    reason: str
    wake_at: float | None = None
    """Unix time at which the answer may change by itself."""


RESOURCE_INTERVAL_S = 5.0
"""Memory and disk are freed without an event, so they are measured again after this time."""

FINISHED_WELL = (State.READY, State.APPLIED, State.MERGED)


def decide(whole: Whole, limits: Limits, machine: Machine, now: float) -> Mapping[str, Decision]:
    """A decision for every queued session, oldest first: those admitted count against the limits at once."""
    running = sum(session.state in LIVE for session in whole.sessions.values())
    launched = [_launched_at(session) for session in whole.sessions.values()]
    last_launch = max((at for at in launched if at is not None), default=None)
    decisions: dict[str, Decision] = {}
    for session in whole.sessions.values():
        if session.state is not State.QUEUED or session.stop_asked or session.trash_asked:
            continue
        decision = (
            _dependencies(session, whole)
            or _backlog(whole, limits)
            or _room(running, limits)
            or _resources(machine, limits, now)
            or _interval(session, last_launch, limits, now)
            or Decision(True, f"{running + 1} of {limits.max_running} running.")
        )
        decisions[session.id] = decision
        if decision.admit:
            running += 1
            if _costs_requests(session):
                last_launch = now
    return decisions


def _dependencies(session: Session, whole: Whole) -> Decision | None:
    for dependency in session.spec.task.after:
        other = whole.sessions.get(dependency)
        if other is None:
            return Decision(False, f"Waits for session {dependency}, which is not known; stop it or start it anew.")
        if other.state in FINISHED_WELL:
            continue
        if other.state in (State.FAILED, State.STOPPED, State.TRASHED):
            return Decision(
                False,
                f"Waits for “{other.spec.task.title}”, which {_ended(other.state)}; resume or retry that first.",
            )
        return Decision(False, f"Waits for “{other.spec.task.title}” to finish.")
    return None


def _ended(state: State) -> str:
    return {State.FAILED: "failed", State.STOPPED: "was stopped"}.get(state, "is in the trash")


def _backlog(whole: Whole, limits: Limits) -> Decision | None:
    waiting = sum(
        session.state is State.READY and session.snapshot is not None and session.snapshot.files > 0
        for session in whole.sessions.values()
    )
    if waiting <= limits.review_backlog:
        return None
    return Decision(
        False,
        f"{waiting} sessions wait for your review, more than the {limits.review_backlog} that review_backlog allows.",
    )


def _room(running: int, limits: Limits) -> Decision | None:
    if running < limits.max_running:
        return None
    return Decision(False, f"{running} sessions run, as many as max_running allows.")


def _resources(machine: Machine, limits: Limits, now: float) -> Decision | None:
    again = now + RESOURCE_INTERVAL_S
    if machine.free_memory is not None and machine.free_memory < limits.min_free_memory_mb * 2**20:
        free = machine.free_memory // 2**20
        reason = f"{free} MB of memory are free; min_free_memory_mb asks for {limits.min_free_memory_mb}."
        return Decision(False, reason, wake_at=again)
    if machine.free_disk is not None and machine.free_disk < limits.min_free_disk_gb * 2**30:
        free_gb = machine.free_disk / 2**30
        reason = f"{free_gb:.1f} GB of disk are free; min_free_disk_gb asks for {limits.min_free_disk_gb}."
        return Decision(False, reason, wake_at=again)
    return None


def _interval(session: Session, last_launch: float | None, limits: Limits, now: float) -> Decision | None:
    if last_launch is None or not _costs_requests(session):
        return None
    next_at = last_launch + limits.launch_interval_s
    # A clock that was set back must not hold everything until it has caught up.
    if now >= next_at or now < last_launch:
        return None
    return Decision(False, "Launches are spread out; this one is next.", wake_at=next_at)


def _costs_requests(session: Session) -> bool:
    """Whether the agent talks to a model provider, whose rate limits a burst of launches would hit."""
    return session.spec.agent.kind != "command"


def _launched_at(session: Session) -> float | None:
    if not _costs_requests(session) or not session.runs:
        return None
    return session.runs[-1].started_at
