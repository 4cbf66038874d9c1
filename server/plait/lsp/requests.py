"""What every request begins with: whose hub it is, which repository is meant, which environment comes along."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from plait.errors import UsageError
from plait.git import repo as repos
from plait.lsp.connection import Connection
from plait.lsp.hub import Hub


def hub_of(connection: Connection) -> Hub:
    hub = connection.engine
    assert isinstance(hub, Hub)
    return hub


def environment_of(connection: Connection, given: Mapping[str, str] | None) -> Mapping[str, str]:
    """The environment that the client passes on: with the request, or by the proxy when it connected."""
    if given is not None:
        return given
    forwarder = connection.client.forwarder
    return forwarder.env if forwarder else {}


def place_of(connection: Connection, path: str | None) -> Path:
    """The path that was named, or else where the client is. Raises UsageError."""
    if path is not None:
        return Path(path)
    folders = connection.client.folders
    if folders:
        from pygls.uris import to_fs_path

        return Path(to_fs_path(folders[0]) or "/")
    if connection.client.forwarder and connection.client.forwarder.cwd:
        return Path(connection.client.forwarder.cwd)
    raise UsageError("Which repository?", "Give its path.")


async def key_of(path: str | None) -> str | None:
    if path is None:
        return None
    return (await asyncio.to_thread(repos.find, Path(path))).key
