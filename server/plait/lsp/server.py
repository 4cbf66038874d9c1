"""All that a connection answers, put together from its tables."""

from __future__ import annotations

from lsprotocol import types as t

from plait.lsp import focus, standard
from plait.lsp.asking import Asker
from plait.lsp.commands import COMMANDS
from plait.lsp.connection import Connection
from plait.lsp.hub import Hub
from plait.lsp.methods import METHODS
from plait.lsp.opening import Pages
from plait.lsp.publishing import Publisher
from plait.lsp.requests import hub_of
from plait.lsp.tables import Features, Method

ACTION_KINDS = (
    "quickfix.plait.accept",
    "quickfix.plait.reject",
    "quickfix.plait.comment",
    "quickfix.plait.send",
    "source.plait.acceptFile",
    "source.plait.rejectFile",
)

STANDARD = (
    Method(
        t.TEXT_DOCUMENT_CODE_ACTION,
        focus.noting(standard.code_action, focus.of_code_action),
        options=t.CodeActionOptions(code_action_kinds=list(ACTION_KINDS)),
    ),
    Method(t.TEXT_DOCUMENT_CODE_LENS, standard.code_lens),
    Method(t.TEXT_DOCUMENT_HOVER, focus.noting(standard.hover, focus.of_hover)),
)
"""What every LSP editor knows already."""


def _opened(connection: Connection) -> None:
    hub = hub_of(connection)
    hub.opened(connection, Publisher(hub, connection), Asker(hub, connection), Pages(hub, connection))


def _closed(connection: Connection) -> None:
    hub_of(connection).closed(connection)


FEATURES = Features(methods=(*METHODS, *STANDARD), commands=COMMANDS, opened=_opened, closed=_closed)

__all__ = ["FEATURES", "Hub"]
