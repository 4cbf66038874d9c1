"""What agents ask comes up in every editor that it concerns, is answered in one of them, and goes in all others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from plait.agents import registry
from plait.core import reports as r
from plait.core.sessions import Session
from plait.engine import control, launch, talk
from plait.environment import pass_on
from plait.lsp.connection import Connection
from plait.lsp.server import FEATURES, Hub
from plait.paths import places
from tests.support.engines import rested
from tests.support.lsp import Peer, eventually, pair
from tests.support.plait import CONFIG
from tests.support.repo import LINES, make_repo
from tests.support.talker import adapters, report, task

YES = r.Option(id="yes", label="Yes", kind="allow_once")
EVER = r.Option(id="ever", label="Yes, always", kind="allow_always")
NO = r.Option(id="no", label="No", kind="reject_once")
DONE = report(r.TurnEnded(stop="end_turn", text="Done."))


def permission(name: str = "r1", **more: Any) -> r.Asked:
    given = {"title": "Run make", "input": "make all", "reason": "It must be built.", "options": (NO, EVER, YES)}
    return r.Asked(id=name, **{**given, **more})


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    assert isinstance(registry.ADAPTERS, dict)
    for kind, adapter in adapters().items():
        monkeypatch.setitem(registry.ADAPTERS, kind, adapter)
    places().config.mkdir(parents=True)
    places().config_file.write_text(CONFIG)
    made = Hub(places())
    await made.start()
    yield made
    for session in made.engine.whole.sessions.values():
        if session.live_run is not None:
            await control.stop(made.engine, session.id)
            await rested(made.engine, session.id)
    await made.stop()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": LINES})


async def asking(hub: Hub, top: Path, *asked: r.Asked, title: str = "Build it") -> Session:
    """A session that waits for the answers to these requests, one after the other being answered."""
    steps = [*(report(one) for one in asked), *("answer" for _ in asked), DONE]
    request = launch.Request(top, task(title, *steps), command=("true",), environment=pass_on(os.environ))
    (session,) = await control.run(hub.engine, request)
    async with asyncio.timeout(30):
        await hub.engine.until(lambda whole: len(whole.sessions[session.id].requests) == len(asked))
    return hub.engine.session(session.id)


def page_at(uri: str) -> str:
    return Path(uri.removeprefix("file://")).read_text()


class Window:
    """An editor that shows messages; `answers` to them are given by hand."""

    def __init__(self, peer: Peer, connection: Connection, serving: asyncio.Task[None]) -> None:
        self.peer = peer
        self.connection = connection
        self._serving = serving

    async def message(self, method: str = "window/showMessageRequest") -> dict[str, Any]:
        """The next message of that kind."""
        while True:
            message = await self.peer.receive()
            assert message is not None, f"the connection ended before {method}"
            if message.get("method") == method:
                return message

    def answer(self, message: dict[str, Any], title: str | None) -> None:
        result = None if title is None else {"title": title}
        self.peer.send({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async def nothing_more(self) -> list[str]:
        """What else has been sent to it by now."""
        before = len(self.peer.seen)
        await self.peer.result("plait/approvals", {})
        return [str(message["method"]) for message in self.peer.seen[before:] if "method" in message]

    async def close(self) -> None:
        self.peer.close()
        await asyncio.wait_for(self._serving, 10)


async def window(hub: Hub, folder: Path | None, *, shows: bool = False, **ours: object) -> Window:
    peer, connection, serving = await pair(hub, FEATURES)
    await peer.result(
        "initialize",
        {
            "processId": None,
            "clientInfo": {"name": "window"},
            "rootUri": None if folder is None else folder.as_uri(),
            "capabilities": {"window": {"showDocument": {"support": shows}}},
            "initializationOptions": {"plait": {"protocol": 1, **ours}},
        },
    )
    peer.tell("initialized", {})
    return Window(peer, connection, serving)


async def test_a_request_is_a_message_with_the_agents_own_options_and_its_answer_reaches_the_agent(
    hub: Hub, top: Path
) -> None:
    editor = await window(hub, top)
    session = await asking(hub, top, permission())
    message = await editor.message()
    params = message["params"]
    assert [action["title"] for action in params["actions"]] == ["Yes", "Yes, always", "No"]
    assert params["message"].splitlines() == [
        "“Build it” asks: Run make",
        "It must be built.",
        "make all",
    ]
    assert params["type"] == 2
    editor.answer(message, "Yes, always")
    done = await rested(hub.engine, session.id)
    assert str(done.state) == "ready"
    (answered,) = done.commands
    assert getattr(answered, "option", None) == "ever"
    assert getattr(answered, "by", None) == "window"
    assert "$/cancelRequest" not in [seen.get("method") for seen in editor.peer.seen], (
        "its own answer is not taken back"
    )
    await editor.close()


async def test_what_is_answered_in_one_editor_is_taken_back_in_all_others(hub: Hub, top: Path) -> None:
    windows = [await window(hub, top), await window(hub, top / "src"), await window(hub, top.parent)]
    stranger = await window(hub, top.parent / "elsewhere")
    session = await asking(hub, top, permission())
    messages = [await one.message() for one in windows]
    windows[1].answer(messages[1], "No")
    for index in (0, 2):
        cancelled = await windows[index].message("$/cancelRequest")
        assert cancelled["params"] == {"id": messages[index]["id"]}
    # An answer that comes too late is nobody's business any more.
    windows[0].answer(messages[0], "Yes")
    done = await rested(hub.engine, session.id)
    assert [getattr(command, "option", None) for command in done.commands] == ["no"]
    assert "window/showMessageRequest" not in await stranger.nothing_more()
    for one in (*windows, stranger):
        await one.close()


async def test_an_answer_at_a_terminal_takes_the_message_back(hub: Hub, top: Path) -> None:
    editor = await window(hub, top)
    session = await asking(hub, top, permission())
    message = await editor.message()
    await talk.answer(hub.engine, session.id, talk.Reply(decision="allow"))
    assert (await editor.message("$/cancelRequest"))["params"] == {"id": message["id"]}
    await editor.close()


async def test_one_message_at_a_time_and_a_dismissed_one_is_not_asked_again(hub: Hub, top: Path) -> None:
    editor = await window(hub, top)
    session = await asking(hub, top, permission("r1"), permission("r2", title="Run tests"))
    first = await editor.message()
    assert await editor.nothing_more() == []
    editor.answer(first, None)
    second = await editor.message()
    assert "Run tests" in second["params"]["message"]
    editor.answer(second, "Yes")
    await eventually(lambda: len(hub.engine.session(session.id).requests) == 1)
    hub.engine.tell(session.id)
    assert await editor.nothing_more() == []
    assert list(hub.engine.session(session.id).requests) == ["r1"], "it is still open, and can be answered elsewhere"
    late = await window(hub, top)
    assert "Run make" in (await late.message())["params"]["message"]
    await late.close()
    await editor.close()


async def test_an_editor_that_connects_later_or_opens_a_file_later_is_asked_too(hub: Hub, top: Path) -> None:
    await asking(hub, top, permission())
    editor = await window(hub, None)
    assert await editor.nothing_more() == []
    document = {"uri": (top / "a.txt").as_uri(), "languageId": "plaintext", "version": 0, "text": LINES}
    editor.peer.tell("textDocument/didOpen", {"textDocument": document})
    assert "Run make" in (await editor.message())["params"]["message"]
    await editor.close()


async def test_requests_are_asked_again_after_a_restart_of_the_daemon(hub: Hub, top: Path) -> None:
    session = await asking(hub, top, permission())
    await hub.stop()
    again = Hub(places())
    await again.start()
    editor = await window(again, top)
    message = await editor.message()
    editor.answer(message, "Yes")
    assert str((await rested(again.engine, session.id)).state) == "ready"
    await editor.close()
    await again.stop()
    # What the fixture ends is over already.
    hub.engine.whole = again.engine.whole


async def test_choices_of_a_question_are_actions_and_free_words_are_asked_for_elsewhere(hub: Hub, top: Path) -> None:
    editor = await window(hub, top)
    question = r.Question(id="q", text="Which one?", choices=("left", "right"), free=False)
    session = await asking(hub, top, r.Asked(id="a", kind="question", title="Which one?", questions=(question,)))
    message = await editor.message()
    assert [action["title"] for action in message["params"]["actions"]] == ["left", "right"]
    assert message["params"]["type"] == 3
    editor.answer(message, "right")
    done = await rested(hub.engine, session.id)
    assert [getattr(command, "answers", None) for command in done.commands] == [{"q": ("right",)}]

    words = r.Asked(id="b", kind="question", title="What name?", questions=(r.Question(id="n", text="What name?"),))
    session = await asking(hub, top, words)
    told = await editor.message("window/showMessage")
    assert f'plait answer {session.id[-8:]} --text "…"' in told["params"]["message"]
    await editor.close()


async def test_show_opens_the_whole_request_and_the_message_comes_back_without_it(hub: Hub, top: Path) -> None:
    editor = await window(hub, top, shows=True)
    diff = r.FileDiff(path="a.txt", old="one\n```\n", new="two\n```\n")
    session = await asking(hub, top, permission(diffs=(diff,), input="\n".join(f"step {n}" for n in range(20))))
    message = await editor.message()
    assert message["params"]["actions"][-1] == {"title": "Show"}
    assert "… 14 more lines" in message["params"]["message"]
    assert "It changes a.txt." in message["params"]["message"]
    editor.answer(message, "Show")
    shown = await editor.message("window/showDocument")
    page = page_at(shown["params"]["uri"])
    assert "# Run make" in page
    assert "step 19" in page
    assert "````diff\n--- before\n+++ after" in page
    editor.peer.send({"jsonrpc": "2.0", "id": shown["id"], "result": {"success": True}})
    again = await editor.message()
    assert [action["title"] for action in again["params"]["actions"]] == ["Yes", "Yes, always", "No"]
    editor.answer(again, "Yes")
    await rested(hub.engine, session.id)
    await editor.close()


async def test_an_editor_with_requests_of_its_own_gets_all_open_ones_as_a_notification(hub: Hub, top: Path) -> None:
    here = await window(hub, top, features=["requests"])
    there = await window(hub, top.parent / "elsewhere", features=["requests"])
    terminal = await window(hub, top, features=["requests"], terminal=True)
    session = await asking(hub, top, permission("r1"), permission("r2"))
    for one, is_here in ((here, True), (there, False)):
        params = (await one.message("plait/didChangeRequests"))["params"]
        if len(params["requests"]) == 1:
            params = (await one.message("plait/didChangeRequests"))["params"]
        assert params["session"] == session.id
        assert params["here"] is is_here
        assert [asked["id"] for asked in params["requests"]] == ["r1", "r2"]
    for name in ("r1", "r2"):
        await talk.answer(hub.engine, session.id, talk.Reply(request=name, decision="deny"))
    assert [one["id"] for one in (await here.message("plait/didChangeRequests"))["params"]["requests"]] == ["r2"]
    assert (await here.message("plait/didChangeRequests"))["params"]["requests"] == []
    assert "window/showMessageRequest" not in [seen.get("method") for seen in here.peer.seen]
    assert await terminal.nothing_more() == []
    for one in (here, there, terminal):
        await one.close()


async def test_labels_that_are_alike_stay_apart(hub: Hub, top: Path) -> None:
    editor = await window(hub, top)
    options = (
        YES,
        r.Option(id="dir", label="Yes", kind="allow_session"),
        r.Option(id="x", label="\x1b[1mNo", kind="cancel_turn"),
    )
    session = await asking(hub, top, permission(options=options))
    message = await editor.message()
    assert [action["title"] for action in message["params"]["actions"]] == ["Yes", "Yes (dir)", "\ufffd[1mNo"]
    editor.answer(message, "Yes (dir)")
    done = await rested(hub.engine, session.id)
    assert [getattr(command, "option", None) for command in done.commands] == ["dir"]
    await editor.close()
