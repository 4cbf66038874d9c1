"""All that a connection answers, put together from its tables."""

from __future__ import annotations

from plait.lsp.commands import COMMANDS
from plait.lsp.connection import Connection
from plait.lsp.hub import Hub
from plait.lsp.methods import METHODS, hub_of
from plait.lsp.tables import Features


def _opened(connection: Connection) -> None:
    hub_of(connection).opened(connection)


def _closed(connection: Connection) -> None:
    hub_of(connection).closed(connection)


FEATURES = Features(methods=METHODS, commands=COMMANDS, opened=_opened, closed=_closed)

__all__ = ["FEATURES", "Hub"]
