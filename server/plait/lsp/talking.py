"""The `plait/…` requests about the conversation with an agent: what it said, and what it is told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from pathlib import Path
from typing import Any

from plait.agents.registry import ADAPTERS
from plait.core import events as e
from plait.core.sessions import LIVE, Run, Session, State
from plait.core.state import Whole
from plait.engine import talk, views
from plait.engine.perform import run_directory
from plait.errors import NothingToDo, UsageError
from plait.lsp import models as m
from plait.lsp.connection import Connection
from plait.lsp.hub import Hub
from plait.lsp.requests import environment_of, hub_of
from plait.supervisor import runs

View = dict[str, Any]

TAKEN_S = 1.0
"""How long an agent that can be told something in the middle of its turn may take to say that it has it."""

POLL_S = 0.05
"""How often a growing output is looked at while somebody waits for more of it."""


async def output(connection: Connection, params: m.Output) -> View:
    """Bytes of what a run wrote; with `waitS` the answer comes when there are some, or the run is over."""
    hub = hub_of(connection)
    known = hub.session(params.session)
    number = params.run or next((run.number for run in reversed(known.runs) if run.kind == "agent"), None)
    if number is None:
        return {"run": None, "offset": 0, "next": 0, "data": "", "ended": known.state not in (State.QUEUED, *LIVE)}
    directory = run_directory(hub.engine, known.id, number)
    deadline = time.monotonic() + params.wait_s
    offset = params.offset if params.tail is None else max(0, _length(directory) - params.tail)
    while True:
        # Whether it is over is asked first: what is written before the end is then read with it.
        ended = all(run.ended is not None for run in hub.engine.session(known.id).runs if run.number == number)
        data = await asyncio.to_thread(runs.read_output, directory, offset, params.limit)
        if data or ended or time.monotonic() >= deadline:
            break
        await asyncio.sleep(POLL_S)
    end = offset + len(data)
    return {
        "run": number,
        "offset": offset,
        "next": end,
        "data": base64.b64encode(data).decode(),
        "ended": ended and len(data) < params.limit,
    }


async def type_in(connection: Connection, params: m.Input) -> View:
    """Keys and the size of the screen for the program in a terminal."""
    hub = hub_of(connection)
    known = hub.session(params.session)
    if not ADAPTERS[known.spec.agent.kind].abilities.terminal:
        raise UsageError(
            "The session's agent has no terminal.", "`plait log` shows what it says, `plait say` tells it."
        )
    if (params.rows is None) != (params.columns is None):
        raise UsageError("A size is rows and columns.")
    data = _decoded(params.data or "")
    run = known.live_run
    if run is None or run.kind != "agent":
        raise NothingToDo(f"Nothing runs in the session's terminal; it is {known.state}.")
    directory = run_directory(hub.engine, known.id, run.number)
    if params.rows is not None and params.columns is not None:
        await hub.engine.terminals.resize(directory, params.rows, params.columns)
    await hub.engine.terminals.type_in(directory, data)
    return {"run": run.number, "bytes": len(data)}


async def log(connection: Connection, params: m.Log) -> View:
    """The entries that changed after `after`; with `waitS` the answer comes when there are some, or the run is over."""
    hub = hub_of(connection)
    known = hub.session(params.session)
    run = _run_of(known, params.run)
    converses = (run is None or run.kind == "agent") and ADAPTERS[known.spec.agent.kind].abilities.converses
    if run is None:
        ended = known.state not in (State.QUEUED, *LIVE)
        return {"run": None, "converses": converses, "entries": [], "next": 0, "more": False, "ended": ended}
    deadline = time.monotonic() + params.wait_s
    while True:
        session = hub.engine.session(known.id)
        page = await hub.transcripts.read(session, run.number, params.after)
        if page.entries or page.over or time.monotonic() >= deadline:
            return {
                "run": run.number,
                "converses": converses,
                "entries": page.entries,
                "next": page.next,
                "more": page.more,
                "ended": page.over,
            }
        await asyncio.sleep(POLL_S)


async def say(connection: Connection, params: m.Say) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    environment = environment_of(connection, params.env)
    session = await talk.say(hub.engine, known.id, params.text, environment)
    delivery = await _delivery(hub, known, session)
    return {**views.session_view(hub.engine, hub.engine.session(known.id)), "delivery": delivery}


async def answer(connection: Connection, params: m.Answer) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    reply = talk.Reply(
        request=params.request,
        run=params.run,
        decision=params.decision,
        option=params.option,
        text=params.text,
        answers=params.answers,
        by=connection.client.name,
    )
    session, asked, option = await talk.answer(hub.engine, known.id, reply)
    return {
        "session": views.session_view(hub.engine, session),
        "request": asked.id,
        "option": option.id if option else None,
    }


async def _delivery(hub: Hub, before: Session, after: Session) -> str:
    """What became of a message: `delivered`, `waits` for the end of the turn or the start, `starts` the agent again."""
    said = [one.id for one in after.commands[len(before.commands) :] if isinstance(one, e.Said)]
    if not said:
        return "starts"

    def delivered(whole: Whole) -> bool:
        return whole.sessions[after.id].delivered.issuperset(said)

    can = ADAPTERS[after.spec.agent.kind].abilities
    taken_at_once = can.steers or (can.terminal and before.state is State.NEEDS_INPUT)
    if taken_at_once and after.live_run is not None:
        # The agent has to say that it has taken it, which it does in a moment or not before its turn is over.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TAKEN_S):
                await hub.engine.until(delivered)
    return "delivered" if delivered(hub.engine.whole) else "waits"


def _run_of(session: Session, number: int | None) -> Run | None:
    """The run that was named, or the newest one of the agent. Raises UsageError."""
    if number is None:
        return next((run for run in reversed(session.runs) if run.kind == "agent"), None)
    found = next((run for run in session.runs if run.number == number), None)
    if found is None:
        raise UsageError(f"The session has no run {number}.", f"It has {len(session.runs)}.")
    return found


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise UsageError(f"The data is not base64: {error}.") from error


def _length(directory: Path) -> int:
    try:
        return (directory / runs.OUTPUT).stat().st_size
    except OSError:
        return 0
