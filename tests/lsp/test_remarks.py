"""An editor that cannot ask for words is led to where a comment can be written; one that can asks by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from plait.core.sessions import Session
from plait.lsp.server import FEATURES, Hub
from plait.paths import places
from tests.support.engines import ready
from tests.support.lsp import Peer, pair
from tests.support.plait import CONFIG
from tests.support.repo import LINES, make_repo


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    places().config.mkdir(parents=True)
    places().config_file.write_text(CONFIG)
    made = Hub(places())
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def session(hub: Hub, tmp_path: Path) -> Session:
    top = make_repo(tmp_path, {"a.txt": LINES})
    return await ready(hub.engine, top, "sed -i 's/line 3$/LINE 3/; s/line 30$/LINE 30/' a.txt")


async def opened(hub: Hub, session: Session, shows: bool, **ours: object) -> tuple[Peer, str]:
    """An editor with the session's file open, and its address."""
    peer, _, _ = await pair(hub, FEATURES)
    capabilities = {"window": {"showDocument": {"support": shows}}, "workspace": {"applyEdit": True}}
    options = {"plait": {"protocol": 1, **ours}}
    await peer.result(
        "initialize",
        {"processId": None, "rootUri": None, "capabilities": capabilities, "initializationOptions": options},
    )
    peer.tell("initialized", {})
    path = Path(session.spec.repo.top or "") / "a.txt"
    document = {"uri": path.as_uri(), "languageId": "plaintext", "version": 0, "text": LINES}
    peer.tell("textDocument/didOpen", {"textDocument": document})
    return peer, path.as_uri()


async def comment_action(peer: Peer, uri: str) -> dict[str, Any]:
    at = {"line": 3, "character": 0}
    context = {"diagnostics": [], "only": ["quickfix.plait.comment"]}
    params = {"textDocument": {"uri": uri}, "range": {"start": at, "end": at}, "context": context}
    (action,) = await peer.result("textDocument/codeAction", params)
    command: dict[str, Any] = action["command"]
    return command


async def test_without_words_the_review_is_opened_at_the_hunk(hub: Hub, session: Session) -> None:
    peer, uri = await opened(hub, session, True)
    command = await comment_action(peer, uri)
    number = peer.ask("workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]})
    while (message := await peer.receive()) is not None and message.get("method") != "window/showDocument":
        pass
    assert message is not None
    peer.send({"jsonrpc": "2.0", "id": message["id"], "result": {"success": True}})
    answer = (await peer.answer_to(number))["result"]
    text = (await asyncio.to_thread(Path(answer["path"]).read_text)).split("\n")
    line = message["params"]["selection"]["start"]["line"]
    assert (answer["shown"], message["params"]["uri"]) == (True, Path(answer["path"]).as_uri())
    assert text[line] == " line 6", "the last line of the hunk, below which the comment is written"
    peer.close()


async def test_an_editor_that_shows_no_documents_is_told_where_to_write(hub: Hub, session: Session) -> None:
    peer, uri = await opened(hub, session, False)
    # The place that the editor asked about last is the place that is meant.
    command = await comment_action(peer, uri)
    error = await peer.error("workspace/executeCommand", {"command": command["command"], "arguments": []})
    assert "does not open documents" in error["message"]
    assert "review.diff" in error["data"]["hint"]
    said = await peer.result(
        "workspace/executeCommand", {"command": "plait.hunk.comment", "arguments": [{"text": "A"}]}
    )
    assert (said["line"], said["text"]) == (3, "A")
    sent = await peer.result("workspace/executeCommand", {"command": "plait.session.sendComments", "arguments": []})
    assert sent["comments"] == 1
    peer.close()


async def test_an_editor_that_can_ask_for_words_gets_its_own_command(hub: Hub, session: Session) -> None:
    peer, uri = await opened(hub, session, True, commands=["plait.ui.comment"])
    command = await comment_action(peer, uri)
    assert command["command"] == "plait.ui.comment"
    assert command["arguments"][0]["session"] == session.id
    peer.close()
