"""An engine and features of the tests' own, served by the real daemon."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from lsprotocol import types
from pydantic import BaseModel, Field

from plait import daemon, election
from plait.errors import NothingToDo, StaleError
from plait.lsp import capabilities, connection
from plait.lsp.connection import Connection
from plait.lsp.tables import Command, Features, Method
from plait.paths import Places


class TinyEngine:
    """Counts, and appends to a file beside the state what happened to it."""

    def __init__(self, places: Places) -> None:
        self.file = places.state / "engine.log"
        self.count = 0
        self.finished: list[str] = []

    async def start(self) -> None:
        self.say("start")
        if os.environ.get("TINY_FAILS"):
            raise RuntimeError("the engine cannot start")

    async def stop(self) -> None:
        self.say("stop")

    def status(self) -> dict[str, object]:
        return {"sessions": 0}

    def say(self, word: str) -> None:
        with self.file.open("a") as log:
            log.write(f"{word} {os.getpid()}\n")


class Echo(BaseModel):
    text: str
    times: int = Field(default=1, ge=0)


def echo(_: Connection, params: Echo) -> dict[str, object]:
    return {"text": params.text * params.times}


def raw(_: Connection, params: object) -> object:
    return params


def stale(_: Connection, __: object) -> object:
    raise StaleError("The text changed.", "Look again.", {"version": 3})


def boom(_: Connection, __: object) -> object:
    raise ZeroDivisionError("secret text")


def unspeakable(_: Connection, __: object) -> object:
    return {"value": float("nan"), "thing": object()}


async def forever(connection: Connection, _: object) -> object:
    connection.engine.count += 1
    try:
        await asyncio.Event().wait()
    finally:
        connection.engine.count -= 1
    return None


async def slow_change(connection: Connection, params: dict[str, Any]) -> object:
    """Changes something in several steps, and must not be left in the middle."""
    for _ in range(5):
        await asyncio.sleep(0.02)
    connection.engine.finished.append(params.get("name", ""))
    return {"done": True}


async def ask(connection: Connection, _: object) -> object:
    answer = await connection.request("tiny/question", {"a": 1})
    return {"answer": answer}


async def edit(connection: Connection, params: dict[str, Any]) -> object:
    change = types.TextEdit(types.Range(types.Position(0, 0), types.Position(0, 0)), "new\n")
    answer = await connection.apply_edit(types.WorkspaceEdit(changes={params["uri"]: [change]}), "Accept")
    return {"applied": answer.applied}


async def flood(connection: Connection, params: dict[str, Any]) -> object:
    block = "x" * params["size"]
    sent = 0
    for _ in range(params["count"]):
        sent += connection.notify("plait/didChangeStatus", {"message": block})
    return {"sent": sent}


def who(connection: Connection, _: object) -> object:
    forwarder = connection.client.forwarder
    return {
        "name": connection.client.name,
        "features": sorted(connection.client.features),
        "folders": connection.client.folders,
        "encoding": connection.client.encoding,
        "forwarder": None if forwarder is None else {"pid": forwarder.pid, "cwd": forwarder.cwd, "env": forwarder.env},
    }


def document(connection: Connection, params: dict[str, Any]) -> object:
    found = connection.documents.get(params["uri"])
    return None if found is None else {"text": found.text, "version": found.version, "path": found.path}


def lens(connection: Connection, params: types.CodeLensParams) -> list[types.CodeLens]:
    start = types.Position(0, 0)
    command = types.Command(title="Accept", command="tiny.accept", arguments=[{"uri": params.text_document.uri}])
    return [types.CodeLens(range=types.Range(start, start), command=command)]


def content(_: Connection, params: types.TextDocumentContentParams) -> types.TextDocumentContentResult:
    return types.TextDocumentContentResult(text=f"content of {params.uri}\n")


def publish(connection: Connection, params: types.DidOpenTextDocumentParams) -> None:
    spot = types.Range(types.Position(0, 0), types.Position(0, 1))
    found = types.Diagnostic(range=spot, message="1 change", source="plait", code="hunk")
    uri = params.text_document.uri
    connection.server.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri=uri, diagnostics=[found]))


def accept(_: Connection, arguments: dict[str, Any]) -> object:
    if not arguments:
        raise NothingToDo("There is no hunk here.")
    return {"ok": True, "accepted": [arguments]}


FEATURES = Features(
    methods=(
        Method("plait/echo", echo, Echo),
        Method("plait/raw", raw),
        Method("plait/stale", stale),
        Method("plait/boom", boom),
        Method("plait/unspeakable", unspeakable),
        Method("plait/forever", forever),
        Method("plait/slowChange", slow_change, mutates=True),
        Method("plait/ask", ask),
        Method("plait/edit", edit),
        Method("plait/flood", flood),
        Method("plait/who", who),
        Method("plait/document", document),
        Method(types.TEXT_DOCUMENT_CODE_LENS, lens),
        Method(types.TEXT_DOCUMENT_DID_OPEN, publish),
        Method(types.WORKSPACE_TEXT_DOCUMENT_CONTENT, content),
    ),
    commands=(Command("tiny.accept", accept), Command("tiny.echo", echo, Echo)),
    schemes=("plait",),
)


def serve() -> int:
    """The daemon of the tests, as the variables TINY_VERSION and TINY_CHECK_S want it."""
    if version := os.environ.get("TINY_VERSION"):
        # As another release would.
        for module in (daemon, election, capabilities, connection):
            vars(module)["__version__"] = version
    return daemon.main(TinyEngine, FEATURES, float(os.environ.get("TINY_CHECK_S", daemon.CHECK_S)))
