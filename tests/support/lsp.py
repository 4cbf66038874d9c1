"""A client for tests that says exactly what it is told to, well formed or not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

from plait.lsp.connection import Connection
from plait.lsp.tables import Features
from plait.wire import Framer, frame

TIMEOUT_S = 10.0


class Peer:
    """The client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.seen: list[dict[str, Any]] = []
        """Every message that came, in order."""
        self._framer = Framer()
        self._waiting: list[dict[str, Any]] = []
        self._number = 0

    def send(self, message: object) -> None:
        self.writer.write(frame(json.dumps(message).encode()))

    def ask(self, method: str, params: object = None, number: object = None) -> object:
        """Sends a request and gives its id, without waiting for the answer."""
        self._number += 1
        number = self._number if number is None else number
        message = {"jsonrpc": "2.0", "id": number, "method": method}
        self.send(message if params is None else {**message, "params": params})
        return number

    def tell(self, method: str, params: object = None) -> None:
        message = {"jsonrpc": "2.0", "method": method}
        self.send(message if params is None else {**message, "params": params})

    async def receive(self) -> dict[str, Any] | None:
        """The next message, or None at the end of the stream."""
        while not self._waiting:
            data = await asyncio.wait_for(self.reader.read(1 << 16), TIMEOUT_S)
            if not data:
                return None
            self._waiting.extend(json.loads(body) for body in self._framer.feed(data))
        message = self._waiting.pop(0)
        self.seen.append(message)
        return message

    async def answer_to(self, number: object) -> dict[str, Any]:
        """The answer to a request; other messages before it are only noted."""
        while (message := await self.receive()) is not None:
            if "method" not in message and message.get("id") == number:
                return message
        raise AssertionError(f"the connection ended before request {number!r} was answered")

    async def call(self, method: str, params: object = None) -> dict[str, Any]:
        """A request's whole answer."""
        return await self.answer_to(self.ask(method, params))

    async def result(self, method: str, params: object = None) -> Any:
        answer = await self.call(method, params)
        assert "error" not in answer, answer
        return answer["result"]

    async def error(self, method: str, params: object = None) -> dict[str, Any]:
        answer = await self.call(method, params)
        assert "result" not in answer, answer
        found: dict[str, Any] = answer["error"]
        return found

    async def open(self, **ours: object) -> dict[str, Any]:
        """The handshake; gives the server's answer."""
        params = {
            "processId": None,
            "rootUri": None,
            "capabilities": {"workspace": {"applyEdit": True}},
            "initializationOptions": {"plait": {"protocol": 1, **ours}},
        }
        answer: dict[str, Any] = await self.result("initialize", params)
        self.tell("initialized", {})
        return answer

    async def ends(self) -> None:
        """Reads to the end of the stream, and closes this side."""
        while await self.receive() is not None:
            pass
        self.writer.close()

    def close(self) -> None:
        self.writer.close()


async def pair(engine: Any, features: Features) -> tuple[Peer, Connection, asyncio.Task[None]]:
    """A client, the connection that serves it in this process, and the task that it is served in."""
    near, far = socket.socketpair()
    connection = Connection(engine, features)
    serving = asyncio.create_task(_serve(connection, far))
    return Peer(*await asyncio.open_unix_connection(sock=near)), connection, serving


async def _serve(connection: Connection, far: socket.socket) -> None:
    await connection.serve(*await asyncio.open_unix_connection(sock=far))


async def eventually(condition: Callable[[], object], seconds: float = TIMEOUT_S) -> None:
    """Returns as soon as `condition` holds; fails if it does not within `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)
