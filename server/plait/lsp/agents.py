"""`plait/agents`: who can do a task here, and what each is good for."""

from __future__ import annotations

import asyncio
from typing import Any

from plait.agents.registry import ADAPTERS
from plait.engine.detection import Found, detect
from plait.engine.versions import Versions
from plait.lsp import models as m
from plait.lsp.connection import Connection
from plait.lsp.requests import environment_of, hub_of

View = dict[str, Any]


async def agents(connection: Connection, params: m.Agents) -> View:
    """Looks at the disk each time, since the user may just have installed one; versions are remembered."""
    engine = hub_of(connection).engine
    environment = environment_of(connection, params.env)
    versions = Versions(engine.places.state / "versions.json")
    found = await asyncio.to_thread(detect, engine.config(), environment, versions)
    return {"agents": [_view(one) for one in found]}


def _view(found: Found) -> View:
    adapter = ADAPTERS.get(found.kind)
    can = adapter.abilities if adapter else None
    return {
        "name": found.name,
        "title": found.title,
        "kind": found.kind,
        "supported": adapter is not None,
        "known": found.preset is not None,
        "command": list(found.command or found.config.command),
        "path": found.path,
        "version": found.version,
        "tested": (found.preset.tested or None) if found.preset else None,
        "login": found.login,
        "toldBy": found.told_by or None,
        "problem": found.problem or None,
        "note": found.note or None,
        "hint": found.hint or None,
        "install": found.preset.install if found.preset else None,
        "can": can
        and {
            "ask": can.asks,
            "steer": can.steers,
            "resume": can.converses,
            "usage": can.usage,
            "cost": can.cost,
            "limits": can.limits,
        },
        "goodFor": found.preset.good_for if found.preset else None,
    }
