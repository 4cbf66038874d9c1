"""The session: its states as one table, and the fold of its events into what is known of it now.

Everything that changes a session's state lies in `TRANSITIONS`; a pair that is not in it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from plait.core import events as e
from plait.core import reports as r
from plait.core.progress import name_of
from plait.core.usage import NOTHING, Spent, total


class State(StrEnum):
    """Where a session stands, in the words that people are shown."""

    QUEUED = "queued"
    STARTING = "starting"
    WORKING = "working"
    NEEDS_INPUT = "needs input"
    NEEDS_PERMISSION = "needs permission"
    CHECKING = "checking"
    READY = "ready"
    APPLIED = "applied"
    MERGED = "merged"
    STOPPED = "stopped"
    FAILED = "failed"
    TRASHED = "trashed"


class Moment(StrEnum):
    """What an event means for the state machine."""

    ADMITTED = "admitted"
    AGENT_STARTED = "agent started"
    WAITS_FOR_PERMISSION = "waits for permission"
    WAITS_FOR_INPUT = "waits for input"
    WORKS_ON = "works on"
    SETUP_FAILED = "setup failed"
    RECORDED_WELL = "recorded after success"
    RECORDED_STOPPED = "recorded after a stop"
    RECORDED_FAILED = "recorded after a failure"
    STOP_ASKED = "stop asked"
    RUN_STOPPED = "run stopped"
    FAILED = "failed"
    RESUMED = "resumed"
    APPLIED = "applied"
    REOPENED = "reopened"
    MERGED = "merged"
    TRASHED = "trashed"


S, M = State, Moment
RESTING = (S.READY, S.APPLIED, S.MERGED, S.STOPPED, S.FAILED)
"""Nothing runs and nothing is waited for."""
LIVE = (S.STARTING, S.WORKING, S.NEEDS_INPUT, S.NEEDS_PERMISSION, S.CHECKING)
"""The session takes part of the machine."""

TRANSITIONS: Mapping[tuple[State, Moment], State] = {
    (S.QUEUED, M.ADMITTED): S.STARTING,
    (S.QUEUED, M.STOP_ASKED): S.STOPPED,
    (S.QUEUED, M.FAILED): S.FAILED,
    (S.STARTING, M.AGENT_STARTED): S.WORKING,
    (S.STARTING, M.SETUP_FAILED): S.FAILED,
    (S.STARTING, M.RUN_STOPPED): S.STOPPED,
    (S.STARTING, M.FAILED): S.FAILED,
    **{(state, M.WAITS_FOR_PERMISSION): S.NEEDS_PERMISSION for state in (S.WORKING, S.NEEDS_INPUT)},
    **{(state, M.WAITS_FOR_INPUT): S.NEEDS_INPUT for state in (S.WORKING, S.NEEDS_PERMISSION)},
    **{(state, M.WORKS_ON): S.WORKING for state in (S.NEEDS_INPUT, S.NEEDS_PERMISSION)},
    (S.WORKING, M.RECORDED_WELL): S.READY,
    (S.WORKING, M.RECORDED_STOPPED): S.STOPPED,
    (S.WORKING, M.RECORDED_FAILED): S.FAILED,
    (S.WORKING, M.FAILED): S.FAILED,
    (S.READY, M.APPLIED): S.APPLIED,
    (S.STOPPED, M.APPLIED): S.APPLIED,
    (S.FAILED, M.APPLIED): S.APPLIED,
    (S.APPLIED, M.REOPENED): S.READY,
    **{(state, M.RESUMED): S.STARTING for state in (S.READY, S.APPLIED, S.STOPPED, S.FAILED)},
    **{(state, M.MERGED): S.MERGED for state in (S.READY, S.APPLIED, S.STOPPED, S.FAILED)},
    **{(state, M.TRASHED): S.TRASHED for state in (S.QUEUED, *RESTING)},
}


@dataclass(frozen=True)
class Run:
    """One supervised process of a session; `ended` is none while it may still be alive."""

    number: int
    kind: e.RunKind
    started_at: float
    message: str | None = None
    permission: e.PermissionMode | None = None
    ended: e.RunEnded | None = None
    ended_at: float | None = None


@dataclass(frozen=True)
class Session:
    """All that is known of one session, derived from its events."""

    id: str
    spec: e.Created
    created_at: float
    state: State = State.QUEUED
    reason: str = "Waits to be admitted."
    seq: int = 0
    """The number of the newest event."""
    changed_at: float = 0.0
    prepared: e.Prepared | None = None
    bare_until: int = 0
    """How many runs there were when the worktree was made or torn down: no earlier set-up counts any more."""
    runs: tuple[Run, ...] = ()
    snapshot: e.Snapshotted | None = None
    stop_asked: bool = False
    attempt: int = 0
    """The number of the run that the current attempt began with: earlier runs belong to earlier attempts."""
    message: str | None = None
    verdicts: Mapping[str, e.Decided] = field(default_factory=dict)
    comments: tuple[e.Commented, ...] = ()
    """What the user said about the changes, oldest first; what was taken back is not among it."""
    sent: frozenset[str] = frozenset()
    """The comments that the agent was told."""
    told_rejections: frozenset[str] = frozenset()
    """The rejected hunks that the agent was told of."""
    send_asked: bool = False
    """The agent shall be told as soon as it rests."""
    finishing: e.FinishAsked | None = None
    merged: e.Merged | None = None
    trash_asked: bool = False
    trash_place: str | None = None
    before_trash: tuple[State, str] | None = None
    purged: bool = False
    kept: bool = False
    """The worktree was looked at and stays: it holds files that git does not track."""
    notes: tuple[str, ...] = ()
    agent_sessions: Mapping[int, str] = field(default_factory=dict)
    """The agent's own name for the conversation, by run; by it the conversation goes on."""
    model: str | None = None
    requests: Mapping[str, r.Asked] = field(default_factory=dict)
    """What the agent waits for, by the request's name in the live run."""
    commands: tuple[e.Said | e.Answered | e.Interrupted, ...] = ()
    """Everything the user told the agent, in order."""
    delivered: frozenset[str] = frozenset()
    reports: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """How many kept reports of each name there are, by run."""
    saved: frozenset[str] = frozenset()
    """The answers to the agent about files that it wanted written, as `run:write`."""
    spent: Mapping[int, Spent] = field(default_factory=dict)
    """What each run has used."""
    thread: Spent = NOTHING
    """What the whole conversation has used, where the agent counts so."""
    limits: Mapping[str, r.Limit] = field(default_factory=dict)
    """The provider's limits by account, as the agent last told."""
    conclusion: str = ""
    """What the agent said at the end of its last turn."""

    @property
    def usage(self) -> Spent:
        """What all runs have used together."""
        return total(self.spent.values())

    @property
    def undelivered(self) -> tuple[e.Said, ...]:
        """The user's messages that have not reached the agent, oldest first."""
        return tuple(said for said in self.commands if isinstance(said, e.Said) and said.id not in self.delivered)

    def agent_session_before(self, run: int) -> str | None:
        """The agent's own name for the conversation that the run goes on with, if there was one."""
        earlier = [number for number in self.agent_sessions if number < run]
        return self.agent_sessions[max(earlier)] if earlier else None

    @property
    def reported(self) -> Mapping[int, int]:
        """How many kept reports there are of each run."""
        return {run: sum(counts.values()) for run, counts in self.reports.items()}

    def told(self, run: int) -> tuple[e.Said | e.Answered | e.Interrupted, ...]:
        """What the user told the agent while that run was alive."""
        return tuple(command for command in self.commands if command.run == run)

    @property
    def live_run(self) -> Run | None:
        """The run whose end has not been seen."""
        return next((run for run in reversed(self.runs) if run.ended is None), None)

    @property
    def last_run(self) -> Run | None:
        return self.runs[-1] if self.runs else None

    @property
    def current_runs(self) -> tuple[Run, ...]:
        """The runs of this attempt."""
        return tuple(run for run in self.runs if run.number >= self.attempt)

    @property
    def accepted(self) -> frozenset[str]:
        """The hunks that the user accepted, as the ledger has them; the user's text decides what is really there."""
        return frozenset(h for h, verdict in self.verdicts.items() if verdict.verdict == "accepted")

    @property
    def rejected(self) -> frozenset[str]:
        return frozenset(h for h, verdict in self.verdicts.items() if verdict.verdict == "rejected")

    @property
    def at_turn_boundary(self) -> bool:
        """Whether the agent can be told something that does not meet it in the middle of its work."""
        if self.live_run is not None:
            # A program in a terminal stays when its turn is over.
            return self.spec.agent.kind == "terminal" and self.state is State.NEEDS_INPUT
        return self.state in (State.READY, State.APPLIED, State.STOPPED, State.FAILED)

    @property
    def unsent(self) -> tuple[e.Commented, ...]:
        """The comments that the agent was not told yet, oldest first."""
        return tuple(comment for comment in self.comments if comment.id not in self.sent)

    @property
    def untold(self) -> tuple[e.Decided, ...]:
        """The rejections that the agent was not told of yet."""
        return tuple(self.verdicts[hunk] for hunk in self.verdicts if hunk in self.rejected - self.told_rejections)

    @property
    def holds_nothing(self) -> bool:
        """Whether the session rests on a worktree in which its agent seems to have left nothing."""
        if self.state not in (State.READY, State.FAILED, State.STOPPED) or self.prepared is None or self.kept:
            return False
        return self.snapshot is not None and self.snapshot.files == 0 and self.snapshot.commits == 0

    @property
    def unrecorded_run(self) -> Run | None:
        """The agent run that has ended without a snapshot of what it left."""
        run = self.last_run
        if run is None or run.kind != "agent" or run.ended is None or run.number < self.attempt:
            return None
        return run if self.snapshot is None or self.snapshot.run < run.number else None


def begin(record: e.Record) -> Session:
    """The session that a `created` record opens."""
    if not isinstance(record.event, e.Created):
        raise ValueError("a session begins with its created event")
    return Session(record.session, record.event, created_at=record.at, changed_at=record.at)


def apply(session: Session, record: e.Record) -> Session:
    """The session after `record`; the only way in which one changes."""
    event = record.event
    known = replace(_learn(session, event, record.at), seq=record.seq, changed_at=record.at)
    if isinstance(event, e.Restored) and session.state is State.TRASHED:
        state, reason = session.before_trash or (State.STOPPED, "")
        return replace(known, state=state, reason=reason)
    moment = _moment(known, event)
    if moment is None:
        return known
    after = TRANSITIONS.get((session.state, moment))
    if after is None:
        return known
    return replace(known, state=after, reason=_reason(known, event, moment))


def _learn(session: Session, event: e.Event, at: float) -> Session:
    match event:
        case e.Prepared():
            notes = (*session.notes, *event.notes)
            return replace(session, prepared=event, kept=False, notes=notes, bare_until=len(session.runs))
        case e.Kept():
            return replace(session, kept=True)
        case e.Released():
            return replace(session, prepared=None)
        case e.RunStarted():
            return _started(session, event, at)
        case e.RunEnded():
            return _ended(session, event, at)
        case e.Reported():
            return _reported(session, event)
        case e.Said() | e.Interrupted():
            return replace(session, commands=(*session.commands, event))
        case e.Answered():
            return replace(
                session, commands=(*session.commands, event), requests=_without(session.requests, event.request)
            )
        case e.FileSaved():
            return replace(session, saved=session.saved | {f"{event.run}:{event.write}"})
        case e.Snapshotted():
            return replace(session, snapshot=event)
        case e.StopAsked():
            # Who stops an agent does not want it to go on by itself.
            return replace(session, stop_asked=True, send_asked=False)
        case e.Resumed():
            # What was said before and never reached a run is not lost by what is said now.
            message = _joined(session.message, event.message)
            return replace(session, stop_asked=False, message=message, attempt=len(session.runs) + 1, kept=False)
        case e.Decided():
            told = session.told_rejections - {event.hunk}
            return replace(session, verdicts=_decide(session.verdicts, event), told_rejections=told)
        case e.Commented():
            return replace(session, comments=(*session.comments, event))
        case e.CommentRemoved():
            kept = tuple(comment for comment in session.comments if comment.id != event.id)
            return replace(session, comments=kept)
        case e.SendAsked():
            return replace(session, send_asked=True)
        case e.CommentsSent():
            sent, told = session.sent.union(event.ids), session.told_rejections.union(event.rejected)
            return replace(session, sent=sent, told_rejections=told, send_asked=False)
        case e.SendFailed():
            return replace(session, send_asked=False, notes=(*session.notes, event.why))
        case e.FinishAsked():
            return replace(session, finishing=event)
        case e.Merged():
            return replace(session, finishing=None, merged=event, send_asked=False)
        case e.FinishFailed():
            return replace(session, finishing=None)
        case e.TrashAsked():
            return replace(session, trash_asked=True, send_asked=False)
        case e.Trashed():
            before = session.before_trash if session.state is S.TRASHED else (session.state, session.reason)
            return replace(session, trash_asked=False, trash_place=event.place, before_trash=before)
        case e.TrashFailed():
            return replace(session, trash_asked=False, notes=(*session.notes, event.why))
        case e.Restored():
            return replace(session, trash_place=None, before_trash=None)
        case e.Purged():
            return replace(session, trash_place=None, purged=True)
        case e.Retried():
            return replace(session, notes=(*session.notes, f"Retried as {event.by}."))
        case e.Noted():
            return replace(session, notes=(*session.notes, event.text))
        case e.Created() | e.Admitted() | e.Failed() | e.Applied() | e.Reopened():
            return session


def _started(session: Session, event: e.RunStarted, at: float) -> Session:
    run = Run(event.run, event.kind, at, event.message, event.permission)
    if event.kind != "agent":
        bare_until = event.run if event.kind == "teardown" else session.bare_until
        return replace(session, runs=(*session.runs, run), bare_until=bare_until)
    # What waited for a run is part of what this one is told at its start.
    waited = {said.id for said in session.undelivered}
    return replace(
        session,
        runs=(*session.runs, run),
        message=None,
        requests={},
        delivered=session.delivered | waited,
    )


def _ended(session: Session, event: e.RunEnded, at: float) -> Session:
    runs = tuple(replace(run, ended=event, ended_at=at) if run.number == event.run else run for run in session.runs)
    spent = session.spent if event.spent is None else {**session.spent, event.run: event.spent}
    session = replace(session, runs=runs, spent=spent, thread=event.thread or session.thread)
    run = next((run for run in runs if run.number == event.run and run.kind == "agent"), None)
    if run is None:
        return session
    if event.heard:
        return replace(session, requests={})
    # It was started in vain: a conversation that began without its first words does not count.
    known = {number: name for number, name in session.agent_sessions.items() if number != event.run}
    message = _joined(run.message, session.message)
    return replace(session, requests={}, message=message, agent_sessions=known)


def _reported(session: Session, event: e.Reported) -> Session:
    counts, name = session.reports.get(event.run, {}), name_of(event.report)
    counted = {**session.reports, event.run: {**counts, name: counts.get(name, 0) + 1}}
    session = replace(session, reports=counted)
    if event.spent is not None:
        session = replace(session, spent={**session.spent, event.run: event.spent})
    match event.report:
        case r.Began() as began:
            known = {**session.agent_sessions, event.run: began.agent_session}
            return replace(session, agent_sessions=known, model=began.model or session.model)
        case r.Asked() as asked:
            return replace(session, requests={**session.requests, asked.id: asked})
        case r.Withdrawn() as withdrawn:
            return replace(session, requests=_without(session.requests, withdrawn.id))
        case r.Limit() as limit:
            return replace(session, limits={**session.limits, limit.account: limit})
        case r.Delivered() as delivered:
            return replace(session, delivered=session.delivered | {delivered.id})
        case r.TurnEnded() as ended:
            return replace(session, conclusion=ended.text)
        case r.Trouble():
            return session


def _joined(*parts: str | None) -> str | None:
    return "\n\n".join(part for part in parts if part) or None


def _without(requests: Mapping[str, r.Asked], request: str) -> Mapping[str, r.Asked]:
    return {name: asked for name, asked in requests.items() if name != request}


def _decide(verdicts: Mapping[str, e.Decided], event: e.Decided) -> Mapping[str, e.Decided]:
    others = {hunk: verdict for hunk, verdict in verdicts.items() if hunk != event.hunk}
    return others if event.verdict == "cleared" else {**others, event.hunk: event}


def _moment(session: Session, event: e.Event) -> Moment | None:
    match event:
        case e.Admitted():
            return M.ADMITTED
        case e.RunStarted(kind="agent"):
            return M.AGENT_STARTED
        case e.RunEnded(stopped=True) if _kind(session, event.run) == "setup":
            return M.RUN_STOPPED
        case e.RunEnded(ok=False) if _kind(session, event.run) == "setup":
            return M.SETUP_FAILED
        case e.Reported() | e.Answered() | e.RunEnded():
            return _waiting(session)
        case e.Snapshotted():
            return _recorded(session, event)
        case e.StopAsked():
            return M.STOP_ASKED
        case e.Failed():
            return M.RUN_STOPPED if session.stop_asked and session.state is S.STARTING else M.FAILED
        case e.Resumed():
            return M.RESUMED
        case e.Applied():
            return M.APPLIED
        case e.Reopened():
            return M.REOPENED
        case e.Merged():
            return M.MERGED
        case e.Trashed():
            return M.TRASHED
        case _:
            return None


def _waiting(session: Session) -> Moment:
    kinds = {asked.kind for asked in session.requests.values()}
    if "permission" in kinds:
        return M.WAITS_FOR_PERMISSION
    return M.WAITS_FOR_INPUT if kinds else M.WORKS_ON


def _recorded(session: Session, taken: e.Snapshotted) -> Moment | None:
    run = session.last_run
    if run is None or run.ended is None or run.number != taken.run:
        return None
    if run.ended.stopped:
        return M.RECORDED_STOPPED
    return M.RECORDED_WELL if run.ended.ok else M.RECORDED_FAILED


def _kind(session: Session, number: int) -> e.RunKind | None:
    return next((run.kind for run in session.runs if run.number == number), None)


def _reason(session: Session, event: e.Event, moment: Moment) -> str:
    match event:
        case e.Admitted():
            return event.reason
        case e.Failed():
            return event.why
        case e.RunEnded():
            return f"The set-up of the worktree ended badly: {event.reason}" if moment is M.SETUP_FAILED else "Stopped."
        case e.Merged():
            return f"In {event.into}."
        case e.Snapshotted() if session.last_run and session.last_run.ended:
            if moment is M.RECORDED_WELL:
                return "" if event.files else "The agent finished without changing anything."
            return session.last_run.ended.reason
        case e.StopAsked():
            return "Stopped before it started."
        case e.Reported() | e.Answered() if session.requests:
            return next(iter(session.requests.values())).title
        case _:
            return ""
