"""An installation whose agents are talkers: the real command line with a real daemon, in which only they are known."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from plait import dial
from plait.dial import converse
from plait.errors import NothingToDo
from tests.support.cli import CONFIG, Plait
from tests.support.processes import eventually
from tests.support.talker import task

ROOT = Path(__file__).resolve().parents[2]

# Python imports this at its start; whoever starts the daemon, it is one that knows talkers.
AT_START = """
import sys
if sys.orig_argv[-2:] == ["daemon", "run"]:
    from plait.agents import registry
    from tests.support.talker import adapters
    registry.ADAPTERS.update(adapters())
"""


class Talking(Plait):
    """One user's installation with its talkers."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, CONFIG)
        (root / "site").mkdir()
        (root / "site" / "sitecustomize.py").write_text(AT_START)
        self.env["PYTHONPATH"] = os.pathsep.join(map(str, (root / "site", ROOT / "server", ROOT)))

    def ask(self, method: str, **params: object) -> Any:
        """The answer to a request of the test's own, which is quicker than a command."""
        if dial.manifest(self.places) is None:
            self("list", "--everywhere")
        with converse(self.places, "test", {"terminal": True}, start=False) as caller:
            return caller.request(method, params, 60)

    def begin(self, repo: Path, title: str, *steps: object) -> str:
        """The id of a new session whose agent takes these steps."""
        agents = [{"name": "noop"}]
        answer = self.ask("plait/run", text=task(title, *steps), path=str(repo), agents=agents, env=self.env)
        identifier: str = answer["sessions"][0]["id"]
        return identifier

    def asks(self, session: str, count: int = 1) -> None:
        """Wait until the agent waits for that many answers."""
        eventually(lambda: len(self.ask("plait/session", session=session)["requests"]) == count, 30)

    def rests(self, session: str) -> str:
        """The state in which the session comes to rest."""
        answer = self.ask("plait/wait", sessions=[session], timeoutS=50)
        assert answer["done"], answer
        state: str = answer["sessions"][0]["state"]
        return state

    def end(self) -> None:
        """End every agent and the daemon, and fail if a process of this installation is left."""
        for one in self.ask("plait/sessions")["sessions"]:
            if one["live"]:
                with suppress(NothingToDo):
                    self.ask("plait/stop", session=one["id"])
                self.rests(one["id"])
        self.close()


@contextmanager
def talking(root: Path) -> Iterator[Talking]:
    plait = Talking(root)
    try:
        yield plait
    finally:
        plait.end()
