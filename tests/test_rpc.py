from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from plait.errors import NeedsApproval, NothingToDo, PlaitError, StaleError, UsageError
from plait.rpc import Caller, ConnectionLostError
from plait.wire import Framer, frame

Script = Callable[[dict[str, Any]], list[dict[str, Any]]]


def served(script: Script, **hooks: Any) -> Caller:
    """A caller whose daemon answers each message with what `script` makes of it, and hangs up on an empty list."""
    near, far = socket.socketpair()

    def serve() -> None:
        framer = Framer()
        with far:
            while data := far.recv(1 << 16):
                for body in framer.feed(data):
                    answers = script(json.loads(body))
                    if not answers:
                        return
                    far.sendall(b"".join(frame(json.dumps(answer).encode()) for answer in answers))

    threading.Thread(target=serve, daemon=True).start()
    return Caller(near, **hooks)


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (-32602, UsageError, 2),
        (NothingToDo.code, NothingToDo, 3),
        (NeedsApproval.code, NeedsApproval, 4),
        (-32010, StaleError, 1),
        (-32603, PlaitError, 1),
        ("odd", PlaitError, 1),
    ],
)
def test_errors_come_back_as_what_they_were(code: object, kind: type[PlaitError], status: int) -> None:
    error = {"code": code, "message": "No.", "data": {"hint": "Try.", "commands": ["x"]}}
    with (
        served(lambda message: [{"jsonrpc": "2.0", "id": message["id"], "error": error}]) as caller,
        pytest.raises(kind) as raised,
    ):
        caller.request("plait/x", {})
    assert (raised.value.message, raised.value.hint, raised.value.exit_status) == ("No.", "Try.", status)
    assert raised.value.data["commands"] == ["x"]


def test_notifications_and_questions_between_are_handled() -> None:
    heard: list[tuple[str, Any]] = []
    pending: list[dict[str, Any]] = []

    def script(message: dict[str, Any]) -> list[dict[str, Any]]:
        if "method" in message:
            pending.append(message)
            note = {"jsonrpc": "2.0", "method": "plait/output", "params": {"n": 1}}
            return [note, {"jsonrpc": "2.0", "id": "q", "method": "plait/ask", "params": [2]}]
        return [{"jsonrpc": "2.0", "id": pending[0]["id"], "result": {"asked": message}}]

    with served(
        script,
        on_notification=lambda method, params: heard.append((method, params)),
        on_request=lambda method, params: {"got": [method, params]},
    ) as caller:
        answer = caller.request("plait/x")
    assert heard == [("plait/output", {"n": 1})]
    assert answer == {"asked": {"jsonrpc": "2.0", "id": "q", "result": {"got": ["plait/ask", [2]]}}}


def test_a_daemon_that_goes_away_is_an_error_and_one_that_is_slow_a_timeout() -> None:
    with served(lambda message: []) as caller, pytest.raises(ConnectionLostError):
        caller.request("plait/x")
    note = {"jsonrpc": "2.0", "method": "plait/other"}
    with served(lambda message: [note]) as caller, pytest.raises(TimeoutError):
        caller.request("plait/x", timeout_s=0.05)


def test_garbage_from_the_other_side_ends_the_conversation() -> None:
    near, far = socket.socketpair()
    with far, Caller(near) as caller:
        far.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with pytest.raises(ConnectionLostError):
            caller.request("plait/x")
