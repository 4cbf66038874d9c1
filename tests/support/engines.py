"""An engine in the test's own process, with real worktrees and processes, that can be cut off between two steps."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from plait.core.config import UserConfig, parse_user
from plait.core.sessions import RESTING, Session
from plait.engine import control, launch, perform
from plait.engine.engine import Engine, Perform
from plait.environment import pass_on
from plait.paths import places
from tests.support.plait import CONFIG


def config() -> UserConfig:
    return parse_user(CONFIG)[0]


@asynccontextmanager
async def engine(
    performs: Perform = perform.perform, config: Callable[[], UserConfig] = config
) -> AsyncIterator[Engine]:
    """An engine on the test's own places; leaving it is what a kill leaves of a daemon: its records."""
    made = Engine(places(), config, performs)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def begun(engine: Engine, top: Path, command: str) -> str:
    """The id of a new session whose agent is a shell command."""
    request = launch.Request(top, "Do it", command=("sh", "-c", command), environment=pass_on(os.environ))
    (session,) = await control.run(engine, request)
    return session.id


async def rested(engine: Engine, session: str) -> Session:
    async with asyncio.timeout(30):
        await engine.until(lambda whole: whole.sessions[session].state in RESTING)
    return engine.session(session)


async def ready(engine: Engine, top: Path, command: str) -> Session:
    """A session whose agent has done its work."""
    return await rested(engine, await begun(engine, top, command))
