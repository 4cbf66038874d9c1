"""The two directions of JSON-RPC 2.0 over lines: what is written gets its ids here, what comes is told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from plait.agents.acp_values import plain
from plait.agents.adapter import Effect, Write
from plait.core.reports import Unread, shorten

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
REQUEST_CANCELLED = -32800

Params = dict[str, Any]
WireId = str | int


@dataclass(frozen=True)
class Refusal:
    """The error with which the agent answered a request."""

    code: int | None
    text: str


Replied = Callable[[object, Refusal | None], list[Effect]]


@dataclass(frozen=True)
class Asking:
    """A request of the agent."""

    method: str
    id: WireId
    params: object


@dataclass(frozen=True)
class Telling:
    """A notification of the agent."""

    method: str
    params: object


@dataclass(frozen=True)
class Reply:
    """The agent's answer to a request, with what was to be done then."""

    replied: Replied
    result: object
    refusal: Refusal | None


class Wire:
    """Numbers what is written, and finds the request that an answer belongs to."""

    def __init__(self) -> None:
        self._requests = 0
        self._writes = 0
        self._replies: dict[int, Replied] = {}

    def read(self, message: Params, line: bytes) -> Asking | Telling | Reply | Unread:
        """What a message is."""
        method, id_ = message.get("method"), message.get("id")
        params = message.get("params")
        if isinstance(method, str):
            if isinstance(id_, str | int) and not isinstance(id_, bool):
                return Asking(method, id_, params)
            if id_ is None:
                return Telling(method, params)
        elif isinstance(id_, int) and not isinstance(id_, bool) and ("result" in message or "error" in message):
            replied = self._replies.pop(id_, None)
            if replied is None:
                return unread(line, "It answers nothing that was asked.")
            error = message.get("error")
            return Reply(replied, message.get("result"), None if error is None else _refusal(error))
        elif id_ is None and "error" in message:
            return unread(line, "It is an error that belongs to no request.")
        return unread(line, "It is no message of the protocol.")

    def request(self, method: str, params: BaseModel, replied: Replied) -> Write:
        """A request; `replied` says what its answer means."""
        self._requests += 1
        self._replies[self._requests] = replied
        return self._write({"id": self._requests, "method": method, "params": _dumped(params)})

    def notify(self, method: str, params: BaseModel) -> Write:
        return self._write({"method": method, "params": _dumped(params)})

    def respond(self, id_: WireId, result: BaseModel) -> Write:
        return self._write({"id": id_, "result": _dumped(result)})

    def refuse(self, id_: WireId, code: int, text: str) -> Write:
        return self._write({"id": id_, "error": {"code": code, "message": text}})

    def _write(self, body: Params) -> Write:
        self._writes += 1
        return Write(f"acp-{self._writes}", json.dumps({"jsonrpc": "2.0", **body}).encode() + b"\n")


def unread(line: bytes, why: str) -> Unread:
    """A line of output that has no meaning here."""
    return Unread(text=shorten(line.decode("utf-8", "replace"), 2000), why=why)


def _dumped(value: BaseModel) -> Params:
    return value.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _refusal(error: object) -> Refusal:
    if not isinstance(error, dict):
        return Refusal(None, shorten(plain(error), 2000))
    code = error.get("code")
    text = plain(error.get("message") or "no reason given")
    data = error.get("data")
    details = data.get("details") if isinstance(data, dict) else data
    if isinstance(details, str) and details and details not in text:
        text = f"{text}: {details}"
    return Refusal(code if isinstance(code, int) else None, shorten(_inner(text), 2000))


def _inner(text: str) -> str:
    """The message inside an error that is JSON once more, as Google's are."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        status = error.get("status")
        return f"{error['message']} ({status})" if isinstance(status, str) else str(error["message"])
    return text
