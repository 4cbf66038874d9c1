"""The HTTP side of the scripted model server: one thread per request, faults, and replies that stop in their middle."""

from __future__ import annotations

import gzip
import json
import select
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import model_anthropic, model_chat, model_gemini, model_responses, model_tools
from tests.support.model_script import MIDDLE, Ask, Call, Dialect, Fault, Json, Reply, Step, Tokens
from tests.support.model_stages import Exchange, Stage, Stages

SIDE_TEXT = "A scripted title"
"""What a request without tools is answered."""


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1 as soon as it is made; `serve_forever` answers."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, port: int, stages: Stages) -> None:
        self.stages = stages
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End all connections, so that no thread waits for a client."""
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):
            self.stages.problems.append(f"{type(error).__name__}: {error}")


class _ClientLeft(Exception):
    """Nobody waits for the reply any more."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "scripted-model/1"
    timeout = 60
    server: Server
    stage: Stage
    exchange: Exchange

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        return

    def do_POST(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.close_connection = True
        stages = self.server.stages
        raw = self._raw_body()
        start, _, rest = self.path.removeprefix("/s/").partition("/")
        stage = stages.playing(start) if self.path.startswith("/s/") else None
        if stage is None:
            self._plain(404, _message(f"There is no scenario at {self.path}."))
            return
        path = "/" + rest.partition("?")[0]
        dialect = _dialect(path) if self.command == "POST" else None
        body = _json(raw)
        ask = dialect.read(path, body) if dialect else None
        headers = {name.lower(): _masked(name.lower(), value) for name, value in self.headers.items()}
        self.stage = stage
        self.exchange = stages.record(stage, self.command, self.path, headers, body, ask)
        try:
            if dialect is None or ask is None:
                self._other(path, raw)
            else:
                self._answer(dialect, ask)
        except (_ClientLeft, ConnectionError):
            stages.end(stage, self.exchange, "client left")

    def _answer(self, dialect: Dialect, ask: Ask) -> None:
        stages, stage, exchange = self.server.stages, self.stage, self.exchange
        fault = stages.fault(stage, exchange)
        if fault and fault.kind == "status":
            wait = {} if fault.retry_after_s is None else {"retry-after": f"{fault.retry_after_s:g}"}
            stages.end(stage, exchange, "refused")
            body = dialect.refusal(fault.status, fault.message) if fault.body is None else fault.body
            self._plain(fault.status, body, {**wait, **fault.headers})
            return
        step = _step(ask, stage)
        reply = _reply(ask, step, exchange.number, dialect.sayable(stages.cost(stage)))
        headers = {**dialect.headers(time.time()), **stage.scenario.headers}
        headers = {name: value for name, value in headers.items() if value}
        if ask.streamed:
            self._stream(dialect, reply, step, fault, headers)
        elif fault:
            self._break()
        else:
            self._middle(step)
            stages.end(stage, exchange, "answered", reply.usage)
            self._plain(200, dialect.whole(reply), headers)

    def _stream(
        self, dialect: Dialect, reply: Reply, step: Step, fault: Fault | None, headers: Mapping[str, str]
    ) -> None:
        stages, stage, exchange = self.server.stages, self.stage, self.exchange
        exchange.status = 200
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("cache-control", "no-cache")
        self.send_header("transfer-encoding", "chunked")
        self._end_headers(headers)
        pieces = list(dialect.stream(reply))
        for place, piece in enumerate(pieces):
            if piece is not MIDDLE:
                if place == len(pieces) - 1:
                    stages.end(stage, exchange, "answered", reply.usage)
                self._chunk(piece)
                self._dawdle()
            elif fault and fault.kind == "drop":
                self._break()
                return
            elif fault:
                stages.end(stage, exchange, "stream error")
                self._chunk(dialect.stream_error(reply, fault.message))
                break
            else:
                self._middle(step)
        self.wfile.write(b"0\r\n\r\n")

    def _other(self, path: str, raw: bytes) -> None:
        self.server.stages.end(self.stage, self.exchange, "answered")
        guess = max(1, len(raw) // 4)
        if path.endswith("/count_tokens"):
            self._plain(200, {"input_tokens": guess})
        elif path.endswith(":countTokens"):
            self._plain(200, {"totalTokens": guess})
        elif path.endswith("/models") and self.command != "POST":
            model = {"id": "fake-1", "object": "model", "created": 0, "owned_by": "scripted", "type": "model"}
            self._plain(200, {"object": "list", "data": [model], "models": []})
        else:
            self._plain(404, _message(f"No route {self.command} {path}."))

    def _middle(self, step: Step) -> None:
        """Wait as long as this reply is held; replies beside the conversation never are."""
        if self.exchange.kind == "main" and not self.server.stages.wait_released(self.stage, step.hold, self._there):
            raise _ClientLeft

    def _dawdle(self) -> None:
        delay = self.stage.scenario.chunk_delay_s
        if delay and not (self.server.stages.pause(delay) and self._there()):
            raise _ClientLeft

    def _there(self) -> bool:
        """Whether the client still has its connection open."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if not readable:
            return True
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except ConnectionError:
            return False

    def _break(self) -> None:
        """Cut the connection so that the client notices."""
        self.server.stages.end(self.stage, self.exchange, "dropped")
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.shutdown_request(self.connection)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _plain(self, status: int, body: Json, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        if hasattr(self, "exchange"):
            self.exchange.status = status
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self._end_headers(headers or {})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _end_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in {"connection": "close", "request-id": "req_0", "x-request-id": "req_0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _raw_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            raw = b""
            while size := int(self.rfile.readline().partition(b";")[0] or b"0", 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        match self.headers.get("content-encoding", ""):
            case "gzip":
                return gzip.decompress(raw)
            case "deflate":
                return zlib.decompress(raw)
        return raw


def _dialect(path: str) -> Dialect | None:
    if path.endswith("/messages"):
        return model_anthropic.DIALECT
    if path.endswith("/responses"):
        return model_responses.DIALECT
    if path.endswith("/chat/completions"):
        return model_chat.DIALECT
    if path.endswith((":generateContent", ":streamGenerateContent")):
        return model_gemini.DIALECT
    return None


def _step(ask: Ask, stage: Stage) -> Step:
    if not ask.side:
        return model_tools.choose(stage.scenario, ask)
    return Step(SIDE_TEXT if ask.answer_schema is None else json.dumps(model_tools.fill(ask.answer_schema)))


def _reply(ask: Ask, step: Step, number: int, usage: Tokens) -> Reply:
    text, calls = step.text, list[Call]()
    for place, tool in enumerate(step.tools):
        said = model_tools.call(tool, ask, f"{number:06d}{place:02d}")
        if isinstance(said, Call):
            calls.append(said)
        else:
            text = f"{text}\n\n{said}\n".lstrip("\n")
    return Reply(number, ask.model, text, tuple(calls), usage, step.thought)


def _json(raw: bytes) -> Json:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _message(text: str) -> Json:
    return {"error": {"message": text, "type": "not_found_error"}}


def _masked(name: str, value: str) -> str:
    return "***" if name in ("authorization", "x-api-key", "x-goog-api-key", "api-key") else value
