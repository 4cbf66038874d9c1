"""Everything known at one moment: all sessions, and how a record changes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from plait.core import sessions
from plait.core.events import Record
from plait.core.sessions import Session


@dataclass(frozen=True)
class Whole:
    """All sessions by id, oldest first (ids sort by time)."""

    sessions: Mapping[str, Session] = field(default_factory=dict)

    def of_repo(self, key: str) -> tuple[Session, ...]:
        """The sessions on one repository."""
        return tuple(session for session in self.sessions.values() if session.spec.repo.key == key)


def apply(whole: Whole, record: Record) -> Whole:
    """The state after `record`."""
    known = whole.sessions.get(record.session)
    after = sessions.begin(record) if known is None else sessions.apply(known, record)
    return Whole({**whole.sessions, record.session: after})


def fold(records: Iterable[Record]) -> Session | None:
    """The session that a history amounts to; none for an empty one."""
    session: Session | None = None
    for record in records:
        session = sessions.begin(record) if session is None else sessions.apply(session, record)
    return session
