"""Knows what the server tells a client that it can do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder

from plait import __version__
from plait.lsp.client import PROTOCOL

if TYPE_CHECKING:
    from plait.lsp.connection import Connection


def capabilities_for(connection: Connection) -> types.ServerCapabilities:
    """The capabilities that the tables of `connection` come to for its client."""
    features = connection.features
    synced = {types.TEXT_DOCUMENT_DID_OPEN, types.TEXT_DOCUMENT_DID_CLOSE}
    builder = ServerCapabilitiesBuilder(
        connection.client.capabilities,
        {*features.method, *synced},
        {method.name: method.options for method in features.methods if method.options is not None},
        list(features.command),
        types.TextDocumentSyncKind.Incremental,
        None,
        connection.client.encoding,
    )
    capabilities: types.ServerCapabilities = builder.build()  # type: ignore[no-untyped-call]  # pygls' own
    capabilities.text_document_sync = types.TextDocumentSyncOptions(
        open_close=True,
        change=types.TextDocumentSyncKind.Incremental,
        save=types.SaveOptions(include_text=False),
    )
    if features.schemes and capabilities.workspace is not None:
        capabilities.workspace.text_document_content = types.TextDocumentContentOptions(schemes=features.schemes)
    capabilities.experimental = {
        "plait": {
            "protocol": PROTOCOL,
            "version": __version__,
            "daemonPid": os.getpid(),
            "methods": sorted(name for name in features.method if name.startswith("plait/")),
            "commands": list(features.command),
        }
    }
    if features.adjust is not None:
        features.adjust(connection, capabilities)
    return capabilities
