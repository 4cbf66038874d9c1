"""Knows how to talk to the daemon from a program without an event loop: the command line, scripts, the proxy.

Imports nothing but the standard library at module level.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from plait import __version__
from plait.errors import (
    BusyError,
    ConflictError,
    GitError,
    NeedsApproval,
    NothingToDo,
    PlaitError,
    StaleError,
    StorageError,
    UsageError,
)
from plait.wire import Framer, WireError, encode, frame, parse

_KINDS: dict[int, type[PlaitError]] = {
    kind.code: kind
    for kind in (
        BusyError,
        ConflictError,
        GitError,
        NeedsApproval,
        NothingToDo,
        StaleError,
        StorageError,
        UsageError,
    )
}


class ConnectionLostError(PlaitError):
    """The daemon went away in the middle of a conversation."""

    code = -32003


class Caller:
    """A conversation with the daemon over a connected socket, one request at a time.

    `on_notification(method, params)` is called for what the daemon sends while an answer is awaited, and by
    `listen`. `on_request(method, params)` answers what the daemon asks; without it the daemon is told that
    nobody does.
    """

    def __init__(
        self,
        connected: socket.socket,
        on_notification: Callable[[str, Any], None] | None = None,
        on_request: Callable[[str, Any], object] | None = None,
    ) -> None:
        self._socket = connected
        self._on_notification = on_notification
        self._on_request = on_request
        self._framer = Framer()
        self._waiting: deque[bytes] = deque()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the conversation."""
        self._socket.close()

    def introduce(
        self, name: str = "plait", options: dict[str, Any] | None = None, timeout_s: float | None = 10.0
    ) -> dict[str, Any]:
        """Does the handshake, and gives the daemon's answer to `initialize`.

        `options` joins `initializationOptions.plait`. Raises as `request` does.
        """
        params = {
            "processId": None,
            "clientInfo": {"name": name, "version": __version__},
            "rootUri": None,
            "capabilities": {"workspace": {"applyEdit": self._on_request is not None}},
            "initializationOptions": {"plait": {"protocol": 1, **(options or {})}},
        }
        answer: dict[str, Any] = self.request("initialize", params, timeout_s)
        self.notify("initialized", {})
        return answer

    def request(self, method: str, params: object = None, timeout_s: float | None = None) -> Any:
        """The result of a request.

        Raises the PlaitError that the daemon answered with, ConnectionLostError if it goes away first,
        TimeoutError.
        """
        number = next(self._numbers)
        message: dict[str, object] = {"jsonrpc": "2.0", "id": number, "method": method}
        if params is not None:
            message["params"] = params
        self._send(message)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            answer = self._next(deadline)
            if "method" in answer:
                self._handle(answer)
            elif answer.get("id") == number or ("error" in answer and answer.get("id") is None):
                if answer.get("error") is not None:
                    raise error_of(answer["error"])
                return answer.get("result")

    def notify(self, method: str, params: object = None) -> None:
        """Sends a notification."""
        message: dict[str, object] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        self._send(message)

    def listen(self, timeout_s: float | None = None) -> None:
        """Handles the next thing that the daemon sends; raises TimeoutError or ConnectionLostError."""
        message = self._next(None if timeout_s is None else time.monotonic() + timeout_s)
        if "method" in message:
            self._handle(message)

    def _handle(self, message: dict[str, Any]) -> None:
        method, params = str(message["method"]), message.get("params")
        if "id" not in message:
            if self._on_notification is not None:
                self._on_notification(method, params)
            return
        answer: dict[str, object] = {"jsonrpc": "2.0", "id": message["id"]}
        if self._on_request is None:
            answer["error"] = {"code": -32601, "message": f"This client does not answer {method}."}
        else:
            try:
                answer["result"] = self._on_request(method, params)
            except PlaitError as error:
                answer["error"] = {"code": error.code, "message": str(error)}
        self._send(answer)

    def _send(self, message: dict[str, object]) -> None:
        self._socket.settimeout(None)
        try:
            self._socket.sendall(frame(encode(message)))
        except OSError as error:
            raise _lost() from error

    def _next(self, deadline: float | None) -> dict[str, Any]:
        while not self._waiting:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("The daemon did not answer in time.")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(1 << 16)
                if not data:
                    raise _lost()
                self._waiting.extend(self._framer.feed(data))
            except TimeoutError:
                raise TimeoutError("The daemon did not answer in time.") from None
            except (OSError, WireError) as error:
                raise _lost() from error
        try:
            return parse(self._waiting.popleft())
        except WireError as error:
            raise _lost() from error


def error_of(answered: object) -> PlaitError:
    """The exception that an error in an answer stands for, of the kind that its code names."""
    said: dict[str, Any] = answered if isinstance(answered, dict) else {}
    code, message = said.get("code"), str(said.get("message") or "The daemon gave no reason.")
    data = dict(said["data"]) if isinstance(said.get("data"), dict) else {}
    hint = str(data.pop("hint", ""))
    kind = _KINDS.get(code, PlaitError) if isinstance(code, int) else PlaitError
    return kind(message, hint, {"code": code, **data})


def _lost() -> ConnectionLostError:
    return ConnectionLostError("The daemon closed the connection.", "Its log may say why: `plait doctor` shows it.")
