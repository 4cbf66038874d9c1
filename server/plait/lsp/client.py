"""Knows what a client said about itself in `initialize`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cattrs
from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder
from pygls.protocol import default_converter

from plait.errors import PlaitError

logger = logging.getLogger(__name__)

PROTOCOL = 1
"""The major version of the `plait/…` methods."""


class WrongProtocolError(PlaitError):
    """The client speaks another major version of our protocol."""

    code = -32600


@dataclass(frozen=True, slots=True)
class Forwarder:
    """The proxy that stands between an editor and the daemon; it tells what only the editor's side knows."""

    version: str
    pid: int
    cwd: str
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Client:
    """One connected editor, command line or test."""

    name: str = ""
    version: str = ""
    capabilities: types.ClientCapabilities = field(default_factory=types.ClientCapabilities)
    encoding: str = "utf-16"
    """The unit that positions are counted in: utf-8, utf-16 or utf-32."""
    folders: tuple[str, ...] = ()
    """URIs of the workspace folders."""
    protocol: int | None = None
    """The client's version of our protocol, or None if it did not ask for anything of ours."""
    features: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()
    """Commands that the client itself offers, as targets for lenses."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """All of `initializationOptions.plait` except the forwarder."""
    forwarder: Forwarder | None = None

    def wants(self, feature: str) -> bool:
        """Whether the client asked for this feature of ours."""
        return feature in self.features


@cache
def converter() -> cattrs.Converter:
    """The one converter of the process: a new one costs milliseconds and 70 KB."""
    made: cattrs.Converter = default_converter()  # type: ignore[no-untyped-call]  # pygls leaves it unannotated
    return made


def introduced(params: Mapping[str, Any]) -> Client:
    """The client that sent these parameters of `initialize`; what is malformed in them is left out.

    Raises WrongProtocolError if it speaks another major version of our protocol.
    """
    capabilities = _capabilities(_object(params.get("capabilities")))
    info = _object(params.get("clientInfo"))
    ours = {
        **_object(_object(_object(params.get("capabilities")).get("experimental")).get("plait")),
        **_object(_object(params.get("initializationOptions")).get("plait")),
    }
    protocol = ours.get("protocol")
    if protocol is not None and protocol != PROTOCOL:
        raise WrongProtocolError(
            f"The client speaks version {protocol!r} of the plait protocol, this server version {PROTOCOL}.",
            "Update the older of the two.",
        )
    said = ours.keys() - {"forwarder"}
    encoding = ServerCapabilitiesBuilder.choose_position_encoding(capabilities)
    return Client(
        name=_text(info.get("name")),
        version=_text(info.get("version")),
        capabilities=capabilities,
        encoding=str(getattr(encoding, "value", encoding)),
        folders=_folders(params),
        protocol=PROTOCOL if said else None,
        features=_names(ours.get("features")),
        commands=_names(ours.get("commands")),
        options={key: value for key, value in ours.items() if key != "forwarder"},
        forwarder=_forwarder(ours.get("forwarder")),
    )


def _capabilities(raw: Mapping[str, Any]) -> types.ClientCapabilities:
    """The sections that can be understood: an editor's one odd value must not cost all the others."""
    try:
        return converter().structure(raw, types.ClientCapabilities)
    except Exception:
        kept = {key: value for key, value in raw.items() if _understood({key: value})}
        logger.warning("Left out the client capabilities %s.", ", ".join(sorted(raw.keys() - kept.keys())))
        return converter().structure(kept, types.ClientCapabilities)


def _understood(raw: Mapping[str, Any]) -> bool:
    try:
        converter().structure(raw, types.ClientCapabilities)
    except Exception:
        return False
    return True


def _folders(params: Mapping[str, Any]) -> tuple[str, ...]:
    folders = params.get("workspaceFolders")
    if isinstance(folders, list):
        uris = tuple(uri for folder in folders if (uri := _text(_object(folder).get("uri"))))
        if uris:
            return uris
    if uri := _text(params.get("rootUri")):
        return (uri,)
    return ()


def _forwarder(raw: object) -> Forwarder | None:
    said = _object(raw)
    if not said:
        return None
    pid = said.get("pid")
    env = {name: value for name, value in _object(said.get("env")).items() if isinstance(value, str)}
    return Forwarder(_text(said.get("version")), pid if isinstance(pid, int) else 0, _text(said.get("cwd")), env)


def _object(raw: object) -> Mapping[str, Any]:
    return raw if isinstance(raw, dict) else {}


def _text(raw: object) -> str:
    return raw if isinstance(raw, str) else ""


def _names(raw: object) -> frozenset[str]:
    return frozenset(name for name in raw if isinstance(name, str)) if isinstance(raw, list) else frozenset()
