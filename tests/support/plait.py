"""A daemon of a test's own, spoken to as the command line does."""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from plait.dial import converse, manifest
from plait.environment import pass_on
from plait.paths import Places, places
from plait.rpc import Caller
from tests.support.processes import MARK, eventually, marked, state_of, supervisors_below

CONFIG = """
[limits]
max_running = 20
review_backlog = 1000
min_free_memory_mb = 0
min_free_disk_gb = 0
[environment]
pass = ["PLAIT_TEST", "PLAIT_AGENT_IDLE_S"]
"""


class Plait:
    """One installation below a directory: its daemon is started when somebody connects."""

    def __init__(self, home: Path, agents: Mapping[str, list[str]] | None = None, config: str = CONFIG) -> None:
        self.home = home
        self.mark = uuid.uuid4().hex
        self._callers: list[Caller] = []
        self.env = {**pass_on(os.environ), MARK: self.mark}
        (home / "config").mkdir(parents=True, exist_ok=True)
        tables = [
            f'\n[agents.{name}]\nkind = "command"\ncommand = {json.dumps(argv)}\n'
            for name, argv in (agents or {}).items()
        ]
        (home / "config" / "config.toml").write_text(config + "".join(tables))

    @property
    def places(self) -> Places:
        found = places()
        assert found.state.is_relative_to(self.home), "a test must not reach the user's own installation"
        return found

    @property
    def daemon(self) -> int:
        known = manifest(self.places)
        assert known is not None
        return known.pid

    def connect(self, **options: Any) -> Caller:
        caller = converse(self.places, "test", {"terminal": True, "features": ["sessions"]}, **options)
        self._callers.append(caller)
        return caller

    def run(self, caller: Caller, repo: Path, text: str, **params: Any) -> list[str]:
        """The ids of new sessions on a task."""
        given = {"path": str(repo), "text": text, "env": self.env, **params}
        return [session["id"] for session in caller.request("plait/run", given, 60)["sessions"]]

    def rested(self, caller: Caller, sessions: list[str], seconds: float = 60) -> dict[str, dict[str, Any]]:
        """The sessions once none of them is queued or running."""
        answer = caller.request("plait/wait", {"sessions": sessions, "timeoutS": seconds}, seconds + 10)
        found = {session["id"]: session for session in answer["sessions"]}
        assert answer["done"], {session["id"]: (session["state"], session["reason"]) for session in found.values()}
        return found

    def kill_daemon(self) -> None:
        """kill -9, and wait until it is dead."""
        pid = self.daemon
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: state_of(pid) in ("", "Z"))

    def none_left(self) -> None:
        """Fail if a process of any session lives on."""
        eventually(lambda: not marked(self.mark))
        eventually(lambda: not supervisors_below(self.home))

    def close(self) -> None:
        for caller in self._callers:
            caller.close()
        known = manifest(self.places)
        if known is not None and state_of(known.pid) not in ("", "Z"):
            with suppress(ProcessLookupError):
                os.kill(known.pid, signal.SIGTERM)
            eventually(lambda: state_of(known.pid) in ("", "Z"), 20)
        for pid in [*supervisors_below(self.home), *marked(self.mark)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def installed(home: Path, agents: Mapping[str, list[str]] | None = None, config: str = CONFIG) -> Iterator[Plait]:
    """An installation whose daemon and agents are gone afterwards."""
    plait = Plait(home, agents, config)
    try:
        yield plait
    finally:
        plait.close()


def script(code: str) -> list[str]:
    """An agent that is a small Python program; its argument is the task's text."""
    return [sys.executable, "-I", "-S", "-u", "-c", code, "{prompt}"]


def ready(plait: Plait, caller: Caller, top: Path, command: str) -> str:
    """A session that has come to rest after the shell command was its agent."""
    (session,) = plait.run(caller, top, command, agents=[{"name": "sh"}])
    plait.rested(caller, [session])
    return session
