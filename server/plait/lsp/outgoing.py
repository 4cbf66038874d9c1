"""Knows pygls' typed calls to a client, and sends them through our connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol

from plait import __version__
from plait.lsp.client import converter

if TYPE_CHECKING:
    from plait.lsp.connection import Connection


class SendingProtocol(LanguageServerProtocol):
    """pygls' protocol object reduced to its sending half, which goes through the connection."""

    _server: ClientCalls

    def _register_builtin_features(self) -> None:
        """Nothing: dispatch is the connection's."""

    def notify(self, method: str, params: Any = None) -> None:
        self._server.connection.notify(method, params)

    def send_request(self, method: str, params: Any = None, callback: Any = None, msg_id: Any = None) -> Any:
        task = asyncio.ensure_future(self._server.connection.request(method, params))
        if callback is not None:
            task.add_done_callback(
                lambda done: None if done.cancelled() or done.exception() else callback(done.result())
            )
        return task

    def send_request_async(self, method: str, params: Any = None, msg_id: Any = None) -> Any:
        return self._server.connection.request(method, params)


class ClientCalls(LanguageServer):
    """pygls' typed calls to one client."""

    protocol: SendingProtocol

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        super().__init__("plait", __version__, protocol_cls=SendingProtocol, converter_factory=converter)
