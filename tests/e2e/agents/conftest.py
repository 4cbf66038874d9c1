"""Each agent's real program behind a real daemon, with a scripted model server in place of its provider."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plait.rpc import Caller
from tests.support.models import ModelServer, Scenario, Step, Write
from tests.support.plait import CONFIG, Plait, installed
from tests.support.processes import MARK, eventually
from tests.support.real_agents import NAMES, ROOT, Missing, RealAgent, find
from tests.support.repo import LINES, make_repo

PATIENCE_S = 90.0

HELLO = (Step("I will create hello.txt.", Write("hello.txt", "hello\n")), Step("Done: hello.txt is there."))


@dataclass
class Installation:
    """One agent, one daemon, one repository, one scenario."""

    agent: RealAgent
    models: ModelServer
    plait: Plait
    caller: Caller
    top: Path
    home: Path
    scenario: str
    sessions: list[str] = field(default_factory=list)

    def run(self, text: str = "Create hello.txt", scenario: Scenario | None = None) -> str:
        """The id of a new session."""
        self.models.put(self.scenario, scenario or Scenario([list(HELLO)]))
        params = {"path": str(self.top), "text": text, "env": self.environment(), "agents": [{"name": self.agent.name}]}
        (session,) = self.caller.request("plait/run", params, 60)["sessions"]
        self.sessions.append(session["id"])
        return str(session["id"])

    def show(self, session: str) -> dict[str, Any]:
        detail: dict[str, Any] = self.caller.request("plait/session", {"session": session}, 60)
        return detail

    def view(self, session: str) -> dict[str, Any]:
        listed = self.caller.request("plait/sessions", {}, 60)["sessions"]
        return next(one for one in listed if one["id"] == session)

    def until(self, session: str, *states: str) -> dict[str, Any]:
        """The session once it is in one of the states."""

        def there() -> bool:
            view = self.view(session)
            assert view["state"] in states or view["state"] not in ("failed", "stopped"), self.story(session)
            return view["state"] in states

        eventually(there, PATIENCE_S)
        return self.view(session)

    def rested(self, session: str) -> dict[str, Any]:
        """The session once it rests and has been told everything."""

        def rests() -> bool:
            view = self.view(session)
            return view["state"] in ("ready", "failed", "stopped") and not view["undelivered"]

        eventually(rests, PATIENCE_S)
        return self.show(session)

    def ready(self, session: str) -> dict[str, Any]:
        detail = self.rested(session)
        assert detail["state"] == "ready", self.story(session)
        return detail

    def log(self, session: str, run: int | None = None) -> list[dict[str, Any]]:
        params = {"session": session} | ({"run": run} if run else {})
        entries: list[dict[str, Any]] = self.caller.request("plait/log", params, 60)["entries"]
        return entries

    def environment(self) -> dict[str, str]:
        return {
            **self.agent.environment(self.models, self.scenario, self.home),
            MARK: self.plait.mark,
            "PLAIT_AGENT_IDLE_S": "1",
        }

    def say(self, session: str, text: str) -> dict[str, Any]:
        _pretend_a_minute_has_passed(self.home)
        params = {"session": session, "text": text, "env": self.environment()}
        answer: dict[str, Any] = self.caller.request("plait/say", params, 60)
        return answer

    def restart(self) -> None:
        """kill -9 for the daemon, and a new one."""
        self.plait.kill_daemon()
        self.caller = self.plait.connect()

    def worktree(self, session: str) -> Path:
        return Path(self.view(session)["worktree"])

    def story(self, session: str) -> str:
        """All that is known, for a failed assertion."""
        view = self.view(session)
        directory = self.plait.places.state / "sessions" / session / "runs"
        ends = "\n".join(
            f"--- {path}\n{path.read_bytes()[-1500:].decode(errors='replace')}"
            for path in sorted(directory.glob("*/*.log"))
        )
        log = "\n".join(json.dumps(entry)[:400] for entry in self.log(session)) if view["state"] != "queued" else ""
        return f"{view['state']}: {view['reason']}\n{log}\n{ends}\n{self.models.story(self.scenario)}"


def _pretend_a_minute_has_passed(home: Path) -> None:
    """Gemini CLI 0.61 overwrites a conversation that is taken up within the minute in which it began."""
    for path in (home / ".gemini/tmp").glob("*/chats/session-*"):
        path.rename(path.with_name(re.sub(r"^session-[-\dT]{16}", "session-2026-01-01T00-00", path.name)))


def configured(agent: RealAgent, permission: str) -> str:
    """The table of an agent in config.toml."""
    command = list(agent.command)
    if agent.name == "aider":
        # As a user would say it; that its interpreter is executed is Plait's business.
        command = [str(ROOT / "aider/bin/aider")]
    return f'\n[agents.{agent.name}]\npermission = "{permission}"\ncommand = {json.dumps(command)}\n'


@pytest.fixture(scope="session")
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(params=NAMES)
def agent(request: pytest.FixtureRequest) -> RealAgent:
    found = find(request.param)
    if isinstance(found, Missing):
        pytest.skip(found.reason)
    return found


@pytest.fixture
def permission() -> str:
    return "edits"


@pytest.fixture
def at_work(
    agent: RealAgent, permission: str, models: ModelServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Installation]:
    scenario = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    top = make_repo(tmp_path, {"a.txt": LINES})
    with installed(tmp_path / "plait", config=CONFIG + configured(agent, permission)) as plait:
        made = Installation(agent, models, plait, plait.connect(), top, tmp_path / "user", scenario)
        models.put(scenario, Scenario([list(HELLO)]))
        yield made
        models.release(scenario)
