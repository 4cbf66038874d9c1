"""Starts what the sessions of an agent share, outside of every session, before one of them needs it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from plait.agents.adapter import Launch
from plait.errors import PlaitError
from plait.paths import private_directory

PATIENCE_S = 30.0
RUNTIME = "PLAIT_AGENT_RUNTIME"
VARIABLES = "PLAIT_AGENT_VARIABLES"


def surroundings(environment: Mapping[str, str], own: Mapping[str, str], runtime: Path) -> dict[str, str]:
    """The environment for a run that has a host, and for the host: `own` are the session's own variables.

    Both must get the very same one, since a host is found by the variables that are not a session's own.
    """
    return {**environment, **own, RUNTIME: str(runtime), VARIABLES: " ".join(sorted(own))}


async def ensure(host: Launch, environment: Mapping[str, str], runtime: Path) -> None:
    """Return when the host listens, whoever started it. Raises PlaitError with the host's own reason.

    `environment` is what the run gets, from `surroundings`; `runtime` is the user's private directory for sockets.
    """
    await asyncio.to_thread(_run, host, {**environment, **host.env}, runtime)


def _run(host: Launch, environment: Mapping[str, str], runtime: Path) -> None:
    private_directory(runtime)
    try:
        done = subprocess.run(
            host.argv,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PlaitError(f"The agent's server could not be started: {error}.") from error
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        said = answer.get("error") if isinstance(answer, dict) else done.stderr.decode("utf-8", "replace")[-1000:]
        raise PlaitError(f"The agent's server could not be started: {said}")
