"""Knows the form of the tables that say what a connection answers: methods, commands and hooks, all literal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lsprotocol import types
from pydantic import BaseModel

if TYPE_CHECKING:
    from plait.lsp.connection import Connection

Handler = Callable[["Connection", Any], Any]
"""Takes the connection and the parameters; may be a coroutine function; raises PlaitError to answer with an
error.
"""


@dataclass(frozen=True, slots=True)
class Method:
    """A request or notification that the client may send."""

    name: str
    """As on the wire: `plait/hunks`, `textDocument/codeLens`."""
    handler: Handler
    """Gets lsprotocol's type for a method of LSP; for one of ours the model below, or else the raw dict."""
    params: type[BaseModel] | None = None
    """What the parameters of a method of ours must look like; a mismatch is answered with -32602."""
    options: Any = None
    """lsprotocol's registration options, for the capabilities."""
    mutates: bool = False
    """It runs to its end even if the client cancels or vanishes meanwhile."""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `workspace/executeCommand`; it takes one optional JSON object."""

    name: str
    handler: Handler
    """Gets the model below, or else the raw dict (empty without an argument)."""
    arguments: type[BaseModel] | None = None
    mutates: bool = True
    """As for a method."""
    summary: str = ""


@dataclass(frozen=True)
class Features:
    """All that connections of one daemon answer."""

    methods: tuple[Method, ...] = ()
    commands: tuple[Command, ...] = ()
    schemes: tuple[str, ...] = ()
    """URI schemes whose text `workspace/textDocumentContent` gives."""
    opened: Callable[[Connection], None] | None = None
    """Called once the client has introduced itself, before its `initialize` is answered."""
    closed: Callable[[Connection], None] | None = None
    """Called once for each connection for which `opened` was called, after its last message."""
    adjust: Callable[[Connection, types.ServerCapabilities], None] | None = None
    """Completes the capabilities where pygls has no way to say something."""

    def __post_init__(self) -> None:
        names = [method.name for method in self.methods] + [command.name for command in self.commands]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice in the tables: {', '.join(twice)}")

    @cached_property
    def method(self) -> dict[str, Method]:
        return {method.name: method for method in self.methods}

    @cached_property
    def command(self) -> dict[str, Command]:
        return {command.name: command for command in self.commands}
