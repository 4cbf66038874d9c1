"""`plait/conflicts`: which sessions collide, in the words of the protocol; and what is said of it beside a hunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plait.core import naming
from plait.core.conflicts import Pair
from plait.core.sessions import Session
from plait.lsp import models as m
from plait.lsp.connection import Connection
from plait.lsp.hub import Hub
from plait.lsp.requests import hub_of, key_of

View = dict[str, Any]

SAID = 5
"""Sessions that are named beside a hunk; more are counted."""


@dataclass(frozen=True)
class Met:
    """Another session that touches what a hunk touches."""

    session: Session
    hunks: tuple[str, ...]
    text: str
    alternative: bool

    @property
    def who(self) -> str:
        return f"{self.session.spec.agent.name}: {self.session.spec.task.title}"


async def conflicts(connection: Connection, params: m.Where) -> View:
    hub = hub_of(connection)
    key = await key_of(params.path)
    found = await hub.radar.current()
    known = hub.engine.whole.sessions
    chosen = {name for name in found.order if name in known and key in (None, known[name].spec.repo.key)}
    return {
        "pairs": [_pair_view(pair) for pair in found.pairs if pair.a in chosen],
        "alternatives": [_pair_view(pair) for pair in found.alternatives if pair.a in chosen],
        "order": [name for name in found.order if name in chosen],
        "sessions": [
            {
                "id": name,
                "short": naming.short_id(name, known.keys()),
                "task": known[name].spec.task.id,
                "title": known[name].spec.task.title,
                "agent": known[name].spec.agent.name,
                "state": str(known[name].state),
            }
            for name in found.order
            if name in chosen
        ],
        "problems": list(found.problems),
    }


def met(hub: Hub, session: str, hunk: str) -> tuple[Met, ...]:
    """The sessions that collide with a hunk, then those that are alternatives to it."""
    known = hub.engine.whole.sessions
    opponents = hub.radar.found.opponents.get((session, hunk), ())
    found = [Met(known[one.session], one.hunks, one.text, one.alternative) for one in opponents if one.session in known]
    return tuple(sorted(found, key=lambda one: (one.alternative, one.session.id)))


def met_view(one: Met) -> View:
    return {
        "session": one.session.id,
        "agent": one.session.spec.agent.name,
        "title": one.session.spec.task.title,
        "hunks": list(one.hunks),
        "alternative": one.alternative,
    }


def sentences(found: tuple[Met, ...]) -> list[str]:
    """Who else touches the hunk's lines or file, in a sentence for each kind."""
    said = []
    for alternative, words in ((False, "Collides with"), (True, "Alternatives:")):
        names = [f"“{one.who}”" for one in found if one.alternative is alternative]
        more = len(names) - SAID
        if names:
            said.append(f"{words} {', '.join(names[:SAID])}{f' and {more} more' if more > 0 else ''}.")
    return said


def _pair_view(pair: Pair) -> View:
    return {
        "a": pair.a,
        "b": pair.b,
        "files": [
            {
                "path": place.path,
                "kind": place.kind,
                "lines": [list(rows) for rows in place.lines] if place.lines else None,
                "hunks": [list(hunks) for hunks in place.hunks],
                "text": place.text,
            }
            for place in pair.places
        ],
    }
