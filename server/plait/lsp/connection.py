"""Knows one client's connection: reads its messages, answers each request exactly once, and bounds what it
may cost.

pygls gives the types, the capabilities and the typed calls to the client (`connection.server`). Reading,
dispatch and answering are here, because pygls' own end the process with the first client's `exit`, leave a
malformed request unanswered, turn dicts into named tuples, send tracebacks, and buffer without bound for a
client that does not read.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import select
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from inspect import isawaitable
from typing import Any

from lsprotocol import types

from plait import __version__
from plait.errors import BusyError, PlaitError
from plait.lsp.answers import (
    ClientError,
    DisconnectedError,
    Failure,
    InvalidRequestError,
    MethodNotFoundError,
    NotInitializedError,
    command_of,
    error_of,
    internal,
    logged,
    outcome,
    parameters,
    plain,
    structured_result,
)
from plait.lsp.capabilities import capabilities_for
from plait.lsp.client import Client, converter, introduced
from plait.lsp.documents import Documents
from plait.lsp.outgoing import ClientCalls
from plait.lsp.tables import Features
from plait.wire import Framer, WireError, encode, frame, parse

logger = logging.getLogger(__name__)
# At INFO pygls writes the text of every message into the log.
logging.getLogger("pygls").setLevel(logging.WARNING)

REQUEST_CANCELLED = -32800
MAX_UNREAD = 32 << 20
"""Bytes that may wait for a client that does not read; with more it is dropped."""
PAUSE_UNREAD = 8 << 20
"""Bytes that may wait before no further message of the client is read."""
MAX_RUNNING = 1024
"""Requests of one client that may be at work at the same time."""
LAST_ANSWERS_S = 5.0
"""How long the answers to a client that has closed its sending side may take."""


class Phase(Enum):
    """How far the conversation with the client has come."""

    NEW = auto()
    OPEN = auto()
    SHUT_DOWN = auto()


@dataclass(frozen=True, slots=True)
class _Running:
    task: asyncio.Task[object]
    mutates: bool


class Connection:
    """One client, from its first byte to its last.

    `engine` is what the handlers of `features` work with; the connection itself never touches it. All methods
    belong to the event loop's thread, except `notify`, which any thread may call.
    """

    def __init__(self, engine: Any, features: Features) -> None:
        self.engine = engine
        self.features = features
        self.client = Client()
        self.documents = Documents()
        self.phase = Phase.NEW
        self.server = ClientCalls(self)
        """pygls' typed calls to the client: `connection.server.text_document_publish_diagnostics(…)`."""
        self.memory: dict[str, Any] = {}
        """What the features remember about this client, such as its last focus."""
        self._running: dict[int | str, _Running] = {}
        self._asked: dict[int | str, tuple[str, asyncio.Future[Any]]] = {}
        self._numbers = itertools.count(1)
        self._writer: asyncio.StreamWriter | None = None
        self._group: asyncio.TaskGroup | None = None
        self._reading: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._closing = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talks to the client until either side ends it; returns when no handler of it is at work any more."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=PAUSE_UNREAD)
        try:
            async with asyncio.TaskGroup() as self._group:
                if self._closing:
                    return
                self._reading = self._group.create_task(self._read(reader))
                await asyncio.wait([self._reading])
                await self._finish_requests()
        finally:
            self._closing = True
            if self.phase is not Phase.NEW and self.features.closed is not None:
                self.features.closed(self)
            self.documents.close()
            await _hang_up(writer)

    def close(self) -> None:
        """Ends the conversation: nothing more is read, queries are cancelled, what changes something is
        finished.
        """
        self._closing = True
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()

    def abort(self) -> None:
        """Ends the conversation at once, without sending what is still to be sent."""
        self.close()
        if self._writer is not None:
            self._writer.transport.abort()

    @property
    def closing(self) -> bool:
        return self._closing or self._writer is None or self._writer.is_closing()

    @property
    def unread(self) -> int:
        """Bytes that wait for the client to read them."""
        return 0 if self._writer is None else self._writer.transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Returns when the client has read enough for more; producers of much output wait here between
        messages.
        """
        if self._writer is not None and not self._writer.is_closing():
            await self._writer.drain()

    def notify(self, method: str, params: object = None) -> bool:
        """Sends a notification; False if the client is gone or did not ask for anything of ours.

        From the event loop's thread the message is on its way on return; another thread hands it to the loop.
        """
        if self.closing or (method.startswith("plait/") and self.client.protocol is None):
            return False
        message: dict[str, object] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        if threading.get_ident() != self._thread and self._loop is not None:
            self._loop.call_soon_threadsafe(self._write, message)
            return True
        return self._write(message)

    async def request(self, method: str, params: object = None, timeout_s: float | None = None) -> Any:
        """The client's answer, as lsprotocol's type for a method of LSP, else as it came.

        If the caller is cancelled or `timeout_s` passes, the client is told so. Raises DisconnectedError,
        ClientError, or TimeoutError.
        """
        if self.closing or self._loop is None or self._reading is None or self._reading.done():
            raise DisconnectedError("The editor closed the connection.")
        number = next(self._numbers)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked[number] = (method, answer)
        message: dict[str, object] = {"jsonrpc": "2.0", "id": number, "method": method}
        if params is not None:
            message["params"] = params
        self._write(message)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except (asyncio.CancelledError, TimeoutError):
            self.notify(types.CANCEL_REQUEST, {"id": number})
            raise
        finally:
            self._asked.pop(number, None)

    async def apply_edit(self, edit: types.WorkspaceEdit, label: str = "") -> types.ApplyWorkspaceEditResult:
        """Asks the editor to apply `edit` as one undoable step named `label`, and says what came of it.

        Raises PlaitError if the editor cannot apply edits; DisconnectedError or ClientError as for any
        request.
        """
        workspace = self.client.capabilities.workspace
        if workspace is None or not workspace.apply_edit:
            raise PlaitError(
                "The editor does not apply edits that a server asks for.",
                "Use `plait accept` in a terminal; the editor then reloads the file.",
            )
        params = types.ApplyWorkspaceEditParams(edit=edit, label=label or None)
        answer: types.ApplyWorkspaceEditResult = await self.request(types.WORKSPACE_APPLY_EDIT, params)
        return answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        framer = Framer()
        try:
            while True:
                data = await reader.read(1 << 16)
                if not data:
                    return
                try:
                    bodies, broken = tuple(framer.feed(data)), None
                except WireError as error:
                    bodies, broken = error.bodies, error
                for body in bodies:
                    self._receive(parse(body))
                    # A request's first step runs on the text as it was when the request came; and others get
                    # their turn.
                    await asyncio.sleep(0)
                    await self.drained()
                    if self.closing:
                        return
                if broken is not None:
                    raise broken
        except WireError as error:
            # Whatever the broken message asked can never be answered, so the client must not wait for it.
            logger.warning("Closing the connection of %s: %s", self.client.name or "a client", error)
            self._write_error(None, {"code": error.code, "message": str(error)})
            self._closing = True
        except ConnectionError:
            self._closing = True
        except Exception:
            logger.exception("Closing the connection of %s.", self.client.name or "a client")
            self._closing = True

    async def _finish_requests(self) -> None:
        """Lets what changes something finish; queries get a moment if the client may still be listening."""
        for _, answer in self._asked.values():
            if not answer.done():
                answer.set_exception(DisconnectedError("The editor closed the connection."))
                # Nobody may be waiting any more.
                answer.exception()
        queries = [running.task for running in self._running.values() if not running.mutates]
        if queries and not self.closing and not _is_gone(self._writer):
            await asyncio.wait(queries, timeout=LAST_ANSWERS_S)
        for task in queries:
            task.cancel()

    def _receive(self, message: dict[str, Any]) -> None:
        method, number = message.get("method"), message.get("id")
        if isinstance(method, str) and "id" not in message:
            self._on_notification(method, message.get("params"))
        elif method is None and number is not None and ("result" in message or "error" in message):
            self._on_answer(message)
        elif method is None and number is None and "error" in message:
            logger.warning("%s could not read one of our messages.", self.client.name or "The client")
        elif isinstance(method, str) and isinstance(number, (int, str)) and not isinstance(number, bool):
            self._on_request(number, method, message.get("params"))
        else:
            error = InvalidRequestError("A message is neither a request, nor a notification, nor an answer.")
            self._write_error(number if isinstance(number, (int, str)) else None, error_of(error, "a message"))

    def _on_request(self, number: int | str, method: str, params: object) -> None:
        try:
            self._check_phase(method)
            if number in self._running:
                raise InvalidRequestError(f"A request with the id {number!r} is still at work.")
            if method == types.INITIALIZE:
                return self._write_result(number, method, self._initialize(params))
            if method == types.SHUTDOWN:
                self.phase = Phase.SHUT_DOWN
                return self._write_result(number, method, None)
            if len(self._running) >= MAX_RUNNING:
                raise BusyError(f"More than {MAX_RUNNING} requests of one client are at work.")
            work, mutates = self._work(method, params)
        except Exception as error:
            return self._write_error(number, error_of(error, method))
        assert self._group is not None
        task = self._group.create_task(work)
        self._running[number] = _Running(task, mutates)
        task.add_done_callback(partial(self._answer, number, method))
        return None

    def _check_phase(self, method: str) -> None:
        if self.phase is Phase.NEW and method != types.INITIALIZE:
            raise NotInitializedError(f"{method} came before initialize.")
        if self.phase is Phase.OPEN and method == types.INITIALIZE:
            raise InvalidRequestError("The connection is initialized already.")
        if self.phase is Phase.SHUT_DOWN:
            raise InvalidRequestError(f"{method} came after shutdown.")

    def _work(self, method: str, params: object) -> tuple[Coroutine[Any, Any, object], bool]:
        if method == types.WORKSPACE_EXECUTE_COMMAND:
            command, argument = command_of(self.features, params)
            return outcome(command.handler, self, argument, command.name), command.mutates
        known = self.features.method.get(method)
        if known is None:
            raise MethodNotFoundError(f"There is no method {method!r}.")
        return outcome(known.handler, self, parameters(known, params), method), known.mutates

    def _answer(self, number: int | str, method: str, task: asyncio.Task[object]) -> None:
        """Sends the one answer to a request, however its task came to its end."""
        self._running.pop(number, None)
        if task.cancelled():
            self._write_error(number, {"code": REQUEST_CANCELLED, "message": f"{method} was cancelled."})
            return
        result = task.result()
        if isinstance(result, Failure):
            self._write_error(number, result.error)
        else:
            self._write_result(number, method, result)

    def _on_notification(self, method: str, params: object) -> None:
        if method == types.EXIT:
            self._closing = True
            return
        if self.phase is not Phase.OPEN:
            return
        try:
            if (builtin := _NOTIFICATIONS.get(method)) is not None:
                builtin(self, params if isinstance(params, dict) else {})
            if (known := self.features.method.get(method)) is not None:
                result = known.handler(self, parameters(known, params))
                if isawaitable(result):
                    assert self._group is not None
                    self._group.create_task(logged(result, method))
        except Exception as error:
            # A notification has no answer; the log is the only place to say it.
            logger.warning("Could not handle %s: %s", method, error_of(error, method)["message"])

    def _on_answer(self, message: dict[str, Any]) -> None:
        method, answer = self._asked.pop(message["id"], ("", None)) if _is_id(message["id"]) else ("", None)
        if answer is None or answer.done():
            return
        error = message.get("error")
        if error is not None:
            said = error if isinstance(error, dict) else {}
            text = str(said.get("message") or "no reason given")
            answer.set_exception(ClientError(f"The editor refused {method}: {text}", data={"code": said.get("code")}))
            return
        try:
            answer.set_result(structured_result(method, message.get("result")))
        except Exception as failure:
            logger.info("Unusable answer to %s: %s", method, type(failure).__name__)
            answer.set_exception(ClientError(f"The editor's answer to {method} is not in LSP's form."))

    def _initialize(self, params: object) -> dict[str, object]:
        self.client = introduced(params if isinstance(params, dict) else {})
        self.documents.encoding = self.client.encoding
        self.phase = Phase.OPEN
        if self.features.opened is not None:
            self.features.opened(self)
        return {
            "capabilities": capabilities_for(self),
            "serverInfo": {"name": "plait", "version": __version__},
        }

    def _write_result(self, number: int | str, method: str, result: object) -> None:
        try:
            self._write({"jsonrpc": "2.0", "id": number, "result": result})
        except (TypeError, ValueError, RecursionError):
            logger.exception("The result of %s cannot be sent.", method)
            self._write_error(number, internal(method))

    def _write_error(self, number: int | str | None, error: dict[str, object]) -> None:
        self._write({"jsonrpc": "2.0", "id": number, "error": error})

    def _write(self, message: dict[str, object]) -> bool:
        writer = self._writer
        if writer is None or writer.is_closing():
            return False
        writer.write(frame(encode(message, plain)))
        if writer.transport.get_write_buffer_size() > MAX_UNREAD:
            logger.warning("Dropped %s: it does not read what it is sent.", self.client.name or "a client")
            self.abort()
            return False
        return True


def _is_gone(writer: asyncio.StreamWriter | None) -> bool:
    """Whether the other end is closed altogether, and not only for sending, where the system can tell."""
    found = None if writer is None else writer.get_extra_info("socket")
    if found is None or found.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(found.fileno(), 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def _is_id(number: object) -> bool:
    return isinstance(number, (int, str)) and not isinstance(number, bool)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Closes the stream after what is still to be sent, unless the client does not take it within a moment."""
    writer.close()
    try:
        async with asyncio.timeout(2):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except ConnectionError:
        pass


def _on_cancel(connection: Connection, params: dict[str, Any]) -> None:
    number = params.get("id")
    running = connection._running.get(number) if isinstance(number, (int, str)) else None
    if running is not None and not running.mutates:
        running.task.cancel()


def _on_folders(connection: Connection, params: dict[str, Any]) -> None:
    event = converter().structure(params, types.DidChangeWorkspaceFoldersParams).event
    removed = {folder.uri for folder in event.removed}
    kept = [uri for uri in connection.client.folders if uri not in removed]
    added = [folder.uri for folder in event.added if folder.uri not in kept]
    connection.client = replace(connection.client, folders=(*kept, *added))


def _on_progress_cancel(connection: Connection, params: dict[str, Any]) -> None:
    token = params.get("token")
    if isinstance(token, (int, str)) and (waiting := connection.server.work_done_progress.tokens.get(token)):
        waiting.cancel()


_NOTIFICATIONS: dict[str, Callable[[Connection, dict[str, Any]], None]] = {
    types.CANCEL_REQUEST: _on_cancel,
    types.TEXT_DOCUMENT_DID_OPEN: lambda connection, params: connection.documents.did_open(params),
    types.TEXT_DOCUMENT_DID_CHANGE: lambda connection, params: connection.documents.did_change(params),
    types.TEXT_DOCUMENT_DID_SAVE: lambda connection, params: connection.documents.did_save(params),
    types.TEXT_DOCUMENT_DID_CLOSE: lambda connection, params: connection.documents.did_close(params),
    types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: _on_folders,
    types.WINDOW_WORK_DONE_PROGRESS_CANCEL: _on_progress_cancel,
}
"""What the connection does itself; an entry of the tables for the same method runs after it."""
