"""Sessions as the JSON that editors and scripts get; the keys are the protocol's and are described in PROTOCOL.md."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from plait.agents.registry import ADAPTERS
from plait.core import naming
from plait.core.progress import Progress
from plait.core.sessions import LIVE, Session, State
from plait.core.usage import total
from plait.engine.engine import Engine

View = dict[str, Any]

_ORDER = (
    State.NEEDS_PERMISSION,
    State.NEEDS_INPUT,
    State.READY,
    State.FAILED,
    State.STOPPED,
    State.CHECKING,
    State.WORKING,
    State.STARTING,
    State.QUEUED,
    State.APPLIED,
    State.MERGED,
    State.TRASHED,
)


def in_review_order(sessions: Collection[Session]) -> list[Session]:
    """What needs the user first, then what runs, then what is done; in each the oldest first."""
    return sorted(sessions, key=lambda session: (_ORDER.index(session.state), session.changed_at, session.id))


def session_view(engine: Engine, session: Session) -> View:
    """One session in a list."""
    spec = session.spec
    files, added, removed = _size(engine, session)
    return {
        "id": session.id,
        "short": naming.short_id(session.id, engine.whole.sessions.keys()),
        "task": spec.task.id,
        "title": spec.task.title,
        "agent": spec.agent.name,
        "why": spec.agent.why,
        "state": str(session.state),
        "reason": engine.reason(session),
        "live": session.state in LIVE,
        "branch": spec.branch,
        "worktree": spec.worktree if session.prepared and session.trash_place is None else None,
        "repo": spec.repo.top or spec.repo.common_dir,
        "base": spec.base,
        "created": session.created_at,
        "changed": session.changed_at,
        "files": files,
        "added": added,
        "removed": removed,
        "commits": session.snapshot.commits if session.snapshot else 0,
        "accepted": len(session.accepted),
        "rejected": len(session.rejected),
        "risk": None,
        "check": None,
        "usage": _usage(engine, session),
        "activity": _activity(engine, session),
        "requests": requests_view(session),
        "undelivered": len(session.undelivered),
        "unsent": len(session.unsent) + len(session.untold),
        "actions": [*actions(session), *_live_review(engine, session)],
    }


def _size(engine: Engine, session: Session) -> tuple[int, int, int]:
    """Files changed, lines added and removed: up to now while the session runs, else as it was recorded."""
    taken = session.snapshot
    recorded = (taken.files, taken.added, taken.removed) if taken else (0, 0, 0)
    return engine.live.get(session.id, recorded) if session.state in LIVE else recorded


def requests_view(session: Session) -> list[View]:
    """What the session's agent waits for; `run` goes with an answer, for another run may use the same ids again."""
    run = session.live_run.number if session.live_run else None
    return [{**asked.model_dump(mode="json", exclude={"type"}), "run": run} for asked in session.requests.values()]


def _live_review(engine: Engine, session: Session) -> tuple[str, ...]:
    """What of its changes may be taken while the agent still works."""
    return ("accept", "reject") if session.state in LIVE and _size(engine, session)[0] else ()


def actions(session: Session) -> tuple[str, ...]:
    """What may be done with the session now, most likely first."""
    if session.state is State.QUEUED or session.state in LIVE:
        can = ADAPTERS[session.spec.agent.kind].abilities
        answers = any(asked.options or asked.questions for asked in session.requests.values())
        attach = can.terminal and session.live_run is not None
        offered = (("answer", answers), ("attach", attach), ("say", can.converses), ("stop", True))
        return tuple(action for action, may in offered if may)
    if session.state is State.TRASHED:
        return () if session.purged else ("restore",)
    review = ("accept", "reject", "merge") if session.snapshot and session.snapshot.files else ()
    if session.state is State.MERGED:
        return ("trash",)
    return (*review, "resume", "retry", "trash")


def session_detail(engine: Engine, session: Session) -> View:
    """One session in full, but for its hunks."""
    return {
        **session_view(engine, session),
        "prompt": session.spec.task.prompt,
        "after": list(session.spec.task.after),
        "port": session.prepared.port if session.prepared else None,
        "snapshot": session.snapshot.commit if session.snapshot else None,
        "trash": session.trash_place,
        "merged": session.merged.model_dump(include={"into", "how", "commit"}) if session.merged else None,
        "notes": list(session.notes),
        "conclusion": session.conclusion,
        "agentSession": session.agent_session_before(len(session.runs) + 1),
        "model": session.model,
        "permission": session.spec.agent.permission,
        "plan": [entry.model_dump() for entry in _progress(engine, session).plan],
        "context": _context(engine, session),
        "limits": [limit.model_dump(mode="json", exclude={"type"}) for limit in session.limits.values()],
        "runs": [
            {
                "run": run.number,
                "kind": run.kind,
                "started": run.started_at,
                "ended": run.ended_at,
                "message": run.message,
                "outcome": _outcome(run.ended.model_dump()) if run.ended else None,
            }
            for run in session.runs
        ],
        "verdicts": {
            hunk: {"verdict": verdict.verdict, "path": verdict.path, "why": verdict.why}
            for hunk, verdict in session.verdicts.items()
        },
    }


def _progress(engine: Engine, session: Session) -> Progress:
    conversation = engine.conversations.get(session.id)
    return conversation.progress if conversation else Progress()


def _activity(engine: Engine, session: Session) -> str:
    """What the agent is at now, in a line; empty when it is not at work."""
    doing = _progress(engine, session).activity if session.state in LIVE else ""
    shown = within(session.spec.worktree, doing)
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[: LONGEST_SHOWN - 1]}…"


LONGEST_SHOWN = 120
"""Characters of an activity in a view."""


def within(worktree: str, text: str) -> str:
    """The text without the worktree's own path, which says nothing and is long."""
    # Only where it begins a path of more than itself: `rm -rf /w/` must not read as `rm -rf `.
    return re.sub(rf"(?<![\w./~@+-]){re.escape(worktree)}/(?=[^\s\"'`;|&)/])", "", text)


def _usage(engine: Engine, session: Session) -> View | None:
    """What all turns used together, the one that runs included; none if no agent told."""
    spent = session.usage
    conversation = engine.conversations.get(session.id)
    if conversation is not None:
        before = total(one for run, one in session.spent.items() if run != conversation.run)
        spent = before.plus(conversation.progress.tally.spent)
    if not spent.tokens and spent.cost_usd is None:
        return None
    return {**spent.model_dump(), "tokens": spent.tokens}


def _context(engine: Engine, session: Session) -> View | None:
    context = _progress(engine, session).context
    return {"used": context.used, "size": context.size} if context else None


def counts(engine: Engine) -> dict[str, int]:
    """How many sessions stand where, for a status bar."""
    sessions = engine.whole.sessions.values()
    return {
        "running": sum(session.state in LIVE for session in sessions),
        "waiting": sum(session.state in (State.NEEDS_INPUT, State.NEEDS_PERMISSION) for session in sessions),
        "ready": sum(
            session.state is State.READY and session.snapshot is not None and session.snapshot.files > 0
            for session in sessions
        ),
        "queued": sum(session.state is State.QUEUED for session in sessions),
        "failed": sum(session.state is State.FAILED for session in sessions),
    }


def _outcome(ended: Mapping[str, Any]) -> View:
    return {key: ended[key] for key in ("ok", "stopped", "code", "signal", "unknown", "reason", "output_bytes")}
