"""Claude Code and Codex with their own screens in a terminal, behind a real engine, at scripted models."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from plait.core import reports as r
from plait.core.config import UserConfig, parse_user
from plait.core.sessions import RESTING, Session, State
from plait.engine import control, launch, talk
from plait.engine.engine import Engine
from plait.engine.perform import run_directory
from plait.engine.transcripts import Transcripts
from plait.errors import UsageError
from plait.supervisor import runs
from tests.support.engines import engine
from tests.support.models import ModelServer, Scenario, Step, Write
from tests.support.plait import CONFIG
from tests.support.real_agents import CODEX_MODEL, RealAgent
from tests.support.repo import make_repo

pytestmark = [pytest.mark.agents, pytest.mark.slow]

ALLOW = {"claude": b"\r", "codex": b"y"}
"""The key that says yes to what each of them asks."""
TURNS = (
    (Step("I will write it.", Write("notes.txt", "one\n")), Step("Done: wrote notes.txt.")),
    (Step("I will make it.", Write("more.txt", "two\n")), Step("Done: wrote more.txt.")),
    (Step("That was all."),),
)


@dataclass
class Stand:
    """One engine with one agent in a terminal."""

    engine: Engine
    name: str
    session: str

    async def until(self, holds: Callable[[Session], bool]) -> Session:
        try:
            async with asyncio.timeout(45):
                await self.engine.until(lambda whole: holds(whole.sessions[self.session]))
        except TimeoutError:
            raise AssertionError(self.story()) from None
        return self.engine.session(self.session)

    async def asks(self) -> r.Asked:
        session = await self.until(lambda one: one.state is State.NEEDS_PERMISSION or one.state in RESTING)
        assert session.requests, self.story()
        return next(iter(session.requests.values()))

    async def idle(self) -> Session:
        session = await self.until(lambda one: one.state is State.NEEDS_INPUT or one.state in RESTING)
        assert session.requests, self.story()
        return session

    async def allow(self, asked: r.Asked) -> None:
        """Say yes on the screen, until that is heard: the hook tells of a question before the screen takes keys."""
        deadline = time.monotonic() + 30
        while asked.id in self.engine.session(self.session).requests:
            assert time.monotonic() < deadline, self.story()
            await self.engine.terminals.type_in(self.directory, ALLOW[self.name])
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self.engine.until(lambda whole: asked.id not in whole.sessions[self.session].requests)

    @property
    def directory(self) -> Path:
        return run_directory(self.engine, self.session, len(self.engine.session(self.session).runs))

    def story(self) -> str:
        session = self.engine.session(self.session)
        told = runs.read_output(self.directory, 0, name=runs.HOOKS).decode()
        shown = runs.read_output(self.directory, 0).decode("utf-8", "replace")[-3000:]
        return f"{session.state} {session.reason}\n{told}\n{shown!r}"


@asynccontextmanager
async def standing(
    agent: RealAgent, models: ModelServer, tmp_path: Path, turns: tuple[tuple[Step, ...], ...] = TURNS
) -> AsyncIterator[Stand]:
    scenario = tmp_path.name
    models.put(scenario, Scenario(turns))
    home = tmp_path / "user"
    environment = agent.environment(models, scenario, home)
    table = f'\n[agents.tui]\nkind = "terminal"\ncommand = {json.dumps([*agent.command, "{prompt}"])}\n'

    def config() -> UserConfig:
        return parse_user(CONFIG + table)[0]

    top = make_repo(tmp_path / "project", {"a.txt": "a\n"})
    trust(agent.name, home, top)
    async with engine(config=config) as running:
        request = launch.Request(top, "Write notes.txt", agents=(("tui", 1),), environment=environment)
        (session,) = await control.run(running, request)
        stand = Stand(running, agent.name, session.id)
        try:
            yield stand
        finally:
            if running.session(session.id).live_run is not None:
                await control.stop(running, session.id)
                await stand.until(lambda one: one.state in RESTING)


def trust(name: str, home: Path, top: Path) -> None:
    """What the user has said once before: that the directories may be worked in."""
    if name == "claude":
        file = home / ".claude.json"
        known = json.loads(file.read_text())
        known["projects"] = {str(top): {"hasTrustDialogAccepted": True}}
        file.write_text(json.dumps(known))
    else:
        config = home / ".codex/config.toml"
        # It would begin by praising its newest model.
        said = (
            f'[projects."{top}"]\ntrust_level = "trusted"\n[notice.model_migrations]\n"{CODEX_MODEL}" = "gpt-6-sol"\n'
        )
        config.write_text(f"{config.read_text()}\n{said}")


@pytest.mark.parametrize("name", ["claude", "codex"])
async def test_a_conversation_in_a_terminal(
    name: str, real: Callable[[str], RealAgent], models: ModelServer, tmp_path: Path
) -> None:
    async with standing(real(name), models, tmp_path) as stand:
        asked = await stand.asks()
        assert asked.kind == "permission"
        with pytest.raises(UsageError, match="terminal"):
            await talk.answer(stand.engine, stand.session, talk.Reply(decision="allow"))
        await stand.allow(asked)
        session = await stand.idle()
        assert (Path(session.spec.worktree) / "notes.txt").read_text() == "one\n"
        await talk.say(stand.engine, stand.session, "Now more.txt\nplease", {})
        asked = await stand.asks()
        assert not stand.engine.session(stand.session).undelivered
        await talk.say(stand.engine, stand.session, "And then?", {})
        await stand.allow(asked)
        session = await stand.until(lambda one: one.conclusion == "That was all." and one.state is State.NEEDS_INPUT)
        page = await Transcripts(stand.engine).read(session, 1, 0)
        told = [entry["text"] for entry in page.entries if entry["kind"] in ("user", "message")]
        assert told == [
            "Write notes.txt",
            "Done: wrote notes.txt.",
            "Now more.txt\nplease",
            "And then?",
            "Done: wrote more.txt.",
            "That was all.",
        ]
        assert not [entry for entry in page.entries if entry["kind"] == "unread"]
        await control.stop(stand.engine, stand.session)
        session = await stand.until(lambda one: one.state in RESTING)
        assert session.state is State.READY, stand.story()


@pytest.mark.parametrize("name", ["claude", "codex"])
async def test_a_new_process_goes_on_with_the_same_conversation(
    name: str, real: Callable[[str], RealAgent], models: ModelServer, tmp_path: Path
) -> None:
    async with standing(real(name), models, tmp_path, TALK) as stand:
        await stand.idle()
        await control.stop(stand.engine, stand.session)
        session = await stand.until(lambda one: one.state in RESTING)
        assert session.state is State.READY, stand.story()
        first = session.agent_sessions[1]
        await talk.say(stand.engine, stand.session, "- and again", session_environment(stand))
        session = await stand.until(lambda one: one.state is State.NEEDS_INPUT and one.conclusion == "And you.")
        assert session.agent_sessions == {1: first, 2: first}
        answered = talk.Reply(text="/exit" if name == "claude" else "/quit")
        await talk.answer(stand.engine, stand.session, answered)
        session = await stand.until(lambda one: one.state in RESTING)
        assert session.state is State.READY, stand.story()


def session_environment(stand: Stand) -> Mapping[str, str]:
    return stand.engine.environment(stand.session)


TALK = ((Step("Hello."),), (Step("And you."),))
