"""Knows how to stand between an editor's stdio and the daemon's socket: `plait lsp`.

It introduces itself in the first message and copies bytes from then on, in both directions at once, with
bounded buffers. Imports nothing but the standard library, so that it is up in tens of milliseconds.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from plait import __version__
from plait.dial import dial, manifest
from plait.environment import EVERY_AGENT, pass_on
from plait.errors import PlaitError
from plait.paths import Places, places
from plait.wire import Framer, WireError, encode, frame, parse

FULL = 1 << 20
"""Bytes that may wait in one direction before its source is no longer read."""
CHUNK = 1 << 16
SILENCE_S = 5.0
"""How long the daemon may leave the editor's first request unanswered before the user is told."""

_EXIT = re.compile(rb'"method"\s*:\s*"exit"')


def main(argv: Sequence[str], command: Sequence[str] | None = None) -> int:
    """Runs the proxy on this process's stdin and stdout until either side ends; gives the exit status.

    `--stdio` and `--client NAME`, which editors' templates add, change nothing. `command` starts the daemon,
    if not the usual one.
    """
    unknown = _unknown(argv)
    if unknown:
        print(f"plait lsp: unknown argument {unknown!r}; it takes none.", file=sys.stderr)
        return 2
    here = places()
    first, rest = _first_message(0)
    if not first and not rest:
        return 0
    try:
        daemon = dial(here) if command is None else dial(here, command=command)
    except PlaitError as error:
        _refuse(first, error)
        print(f"plait lsp: {error}", file=sys.stderr)
        return 1
    with daemon:
        return _splice(here, daemon, _introduced(first, os.environ, _cwd()) + rest)


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        # Somebody removed the directory that the editor was started in.
        return ""


def _unknown(argv: Sequence[str]) -> str:
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--client":
            next(arguments, None)
        elif argument != "--stdio" and not argument.startswith("--client="):
            return argument
    return ""


def _first_message(source: int) -> tuple[bytes, bytes]:
    """The body of the first message and the bytes that came with it; no body if the stream is not in frames."""
    framer = Framer()
    seen = b""
    while data := os.read(source, CHUNK):
        seen += data
        try:
            bodies = framer.feed(data)
        except WireError as error:
            # The daemon says what is wrong with it, in an answer that the editor can show.
            return (error.bodies[0], seen[_extent(seen, error.bodies[0]) :]) if error.bodies else (b"", seen)
        if bodies:
            return bodies[0], seen[_extent(seen, bodies[0]) :]
    return b"", seen


def _extent(seen: bytes, body: bytes) -> int:
    """How many bytes at the start of `seen` the first message takes."""
    return seen.index(b"\r\n\r\n") + 4 + len(body)


def _introduced(body: bytes, environ: Mapping[str, str], cwd: str) -> bytes:
    """The first message's frame, with what the daemon has to know of this side; unchanged if it is not
    `initialize`.
    """
    if not body:
        return b""
    message = _message(body)
    if message.get("method") != "initialize" or not isinstance(message.get("params"), dict):
        return frame(body)
    options = message["params"].get("initializationOptions")
    options = options if isinstance(options, dict) else {}
    ours = options.get("plait")
    ours = ours if isinstance(ours, dict) else {}
    forwarder = {"version": __version__, "pid": os.getpid(), "cwd": cwd, "env": pass_on(environ, patterns=EVERY_AGENT)}
    message["params"]["initializationOptions"] = {**options, "plait": {**ours, "forwarder": forwarder}}
    return frame(encode(message))


def _message(body: bytes) -> dict[str, Any]:
    try:
        return parse(body)
    except WireError:
        return {}


def _refuse(body: bytes, error: PlaitError) -> None:
    """Answers the editor's first request with the reason why there is no server."""
    number = _message(body).get("id")
    if number is None:
        return
    answer = {"code": error.code, "message": error.message, "data": {"hint": error.hint, **error.data}}
    with suppress(OSError):
        _write_all(1, frame(encode({"jsonrpc": "2.0", "id": number, "error": answer})))


class _Flow:
    """Bytes on their way in one direction, with the last ones that went, since they say how it ended."""

    def __init__(self, waiting: bytes = b"") -> None:
        self.waiting = bytearray(waiting)
        self.tail = waiting[-256:]
        self.ended = False
        """Its source will give nothing more."""
        self.refused = False
        """Its destination will take nothing more."""

    @property
    def has_room(self) -> bool:
        return not self.ended and not self.refused and len(self.waiting) < FULL

    def add(self, data: bytes) -> None:
        self.waiting += data
        self.tail = (self.tail + data)[-256:]


def _splice(places: Places, daemon: socket.socket, first: bytes) -> int:
    """Copies until the daemon ends the conversation, or the editor is gone."""
    daemon.setblocking(False)
    # A pipe that the editor does not read must not stop the other direction.
    blocking = os.get_blocking(1)
    os.set_blocking(1, False)
    try:
        return _copy(places, daemon, _Flow(first), _Flow())
    finally:
        with suppress(OSError):
            os.set_blocking(1, blocking)


def _copy(places: Places, daemon: socket.socket, up: _Flow, down: _Flow) -> int:
    # Unlike epoll, poll also takes a file as stdin.
    selector = selectors.PollSelector()
    interests: dict[int, int] = {}
    patience: float | None = time.monotonic() + SILENCE_S
    shut = False
    while True:
        if down.ended and not down.waiting:
            return _verdict(up)
        if up.ended and not up.waiting and not shut:
            shut = True
            with suppress(OSError):
                daemon.shutdown(socket.SHUT_WR)
        _watch(selector, interests, 0, selectors.EVENT_READ if up.has_room else 0)
        _watch(selector, interests, 1, selectors.EVENT_WRITE if down.waiting else 0)
        reading = selectors.EVENT_READ if down.has_room else 0
        writing = selectors.EVENT_WRITE if up.waiting else 0
        _watch(selector, interests, daemon.fileno(), reading | writing)
        left = None if patience is None else max(0.0, patience - time.monotonic())
        for key, events in selector.select(left):
            if key.fd == 0:
                _fill_from_editor(up)
            elif key.fd == 1:
                if not _drain_to_editor(down):
                    return 0
            else:
                if events & selectors.EVENT_WRITE:
                    _drain_to_daemon(up, daemon)
                if events & selectors.EVENT_READ:
                    patience = None
                    _fill_from_daemon(down, daemon)
        if patience is not None and time.monotonic() >= patience:
            patience = None
            _report_silence(places, down)


def _watch(selector: selectors.PollSelector, interests: dict[int, int], descriptor: int, events: int) -> None:
    before = interests.get(descriptor, 0)
    if events == before:
        return
    interests[descriptor] = events
    if not events:
        selector.unregister(descriptor)
    elif not before:
        selector.register(descriptor, events)
    else:
        selector.modify(descriptor, events)


def _fill_from_editor(up: _Flow) -> None:
    try:
        data = os.read(0, CHUNK)
    except BlockingIOError:
        return
    except OSError:
        data = b""
    up.add(data)
    up.ended = not data


def _drain_to_daemon(up: _Flow, daemon: socket.socket) -> None:
    try:
        sent = daemon.send(memoryview(up.waiting)[:CHUNK].tobytes())
    except BlockingIOError:
        return
    except OSError:
        # It is gone; what it had said before can still be read.
        up.refused = True
        up.waiting.clear()
        return
    del up.waiting[:sent]


def _fill_from_daemon(down: _Flow, daemon: socket.socket) -> None:
    try:
        data = daemon.recv(CHUNK)
    except BlockingIOError:
        return
    except OSError:
        data = b""
    down.add(data)
    down.ended = not data


def _drain_to_editor(down: _Flow) -> bool:
    """Whether the editor still takes what it is sent."""
    try:
        written = os.write(1, memoryview(down.waiting)[:CHUNK].tobytes())
    except BlockingIOError:
        return True
    except OSError:
        return False
    del down.waiting[:written]
    return True


def _verdict(up: _Flow) -> int:
    """The exit status when the daemon has ended the conversation: 0 if the editor had ended it before."""
    if up.ended or _EXIT.search(up.tail):
        return 0
    print("plait lsp: the daemon ended; start the language server again to reconnect.", file=sys.stderr)
    return 1


def _report_silence(places: Places, down: _Flow) -> None:
    known = manifest(places)
    who = "The plait daemon" if known is None else f"The plait daemon (pid {known.pid})"
    text = f"{who} does not answer. `plait daemon restart` starts a new one; agents go on meanwhile."
    print(f"plait lsp: {text}", file=sys.stderr)
    # Nothing has come from the daemon yet, so this cannot fall into the middle of a message.
    params = {"type": 1, "message": text}
    down.add(frame(encode({"jsonrpc": "2.0", "method": "window/showMessage", "params": params})))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
