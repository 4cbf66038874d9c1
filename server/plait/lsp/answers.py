"""Knows how a request is unpacked for its handler, and how what comes of it is put into an answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import attrs
from cattrs import transform_error
from lsprotocol import types
from pydantic import BaseModel, ValidationError
from pygls.exceptions import JsonRpcException

from plait.errors import PlaitError, UsageError
from plait.lsp.client import converter
from plait.lsp.tables import Command, Features, Method
from plait.wire import INVALID_REQUEST

if TYPE_CHECKING:
    from plait.lsp.connection import Connection

logger = logging.getLogger(__name__)

METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603
NOT_INITIALIZED = -32002


class DisconnectedError(PlaitError):
    """The client went away before it answered."""

    code = -32003


class ClientError(PlaitError):
    """The client answered one of our requests with an error; `data` holds its code."""

    code = -32004


class InvalidRequestError(PlaitError):
    """The message has no place here: no request at all, or at the wrong time."""

    code = INVALID_REQUEST


class NotInitializedError(PlaitError):
    """A request came before `initialize`."""

    code = NOT_INITIALIZED


class MethodNotFoundError(PlaitError):
    """Nobody answers this method."""

    code = METHOD_NOT_FOUND


@dataclass(frozen=True, slots=True)
class Failure:
    error: dict[str, object]


async def outcome(
    handler: Callable[[Connection, Any], Any], connection: Connection, params: object, name: str
) -> object:
    """What the handler returned, or why it failed; only cancellation passes through."""
    try:
        result = handler(connection, params)
        return await result if isawaitable(result) else result
    except Exception as error:
        return Failure(error_of(error, name))


async def logged(work: Awaitable[object], name: str) -> None:
    try:
        await work
    except Exception as error:
        logger.warning("Could not handle %s: %s", name, error_of(error, name)["message"])


def error_of(error: Exception, name: str) -> dict[str, object]:
    """The error to send: the sentence of an expected failure, and of an unexpected one nothing but its kind."""
    if isinstance(error, PlaitError):
        data: dict[str, object] = {"kind": type(error).__name__, **error.data}
        if error.hint:
            data["hint"] = error.hint
        return {"code": error.code, "message": error.message, "data": data}
    if isinstance(error, ValidationError):
        places = "; ".join(f"{_place(one['loc'])}{one['msg']}" for one in error.errors(include_url=False)[:3])
        return {"code": UsageError.code, "message": f"Invalid parameters of {name}: {places}."}
    if isinstance(error, JsonRpcException):
        return {"code": error.code, "message": error.message}
    logger.error("%s failed.", name, exc_info=error)
    return internal(name, type(error).__name__)


def internal(name: str, kind: str = "the result cannot be sent") -> dict[str, object]:
    message = f"Internal error in {name} ({kind})."
    return {"code": INTERNAL_ERROR, "message": message, "data": {"hint": "The daemon's log has the details."}}


def _place(location: tuple[int | str, ...]) -> str:
    return "".join((".".join(str(part) for part in location), ": ")) if location else ""


def parameters(method: Method, params: object) -> object:
    """The parameters in the form that the method's handler takes; raises UsageError or pydantic's
    ValidationError.
    """
    if method.params is not None:
        return method.params.model_validate({} if params is None else params)
    entry: Any = types.METHOD_TO_TYPES.get(method.name)
    if entry is None or entry[2] is None:
        if params is not None and not isinstance(params, dict):
            raise UsageError(f"The parameters of {method.name} must be an object.")
        return params or {}
    try:
        return converter().structure({} if params is None else params, entry[2])
    except Exception as error:
        said = "; ".join(transform_error(error, path="params")[:3])
        raise UsageError(f"Invalid parameters of {method.name}: {said}.") from None


def command_of(features: Features, params: object) -> tuple[Command, object]:
    if not isinstance(params, dict) or not isinstance(params.get("command"), str):
        raise UsageError("workspace/executeCommand needs the name of a command.")
    name, arguments = params["command"], params.get("arguments")
    command = features.command.get(name)
    if command is None:
        raise UsageError(f"There is no command {name!r}.")
    if arguments is not None and not isinstance(arguments, list):
        raise UsageError(f"The arguments of {name} must be a list.")
    given = [argument for argument in arguments or [] if argument is not None]
    if len(given) > 1 or not all(isinstance(argument, dict) for argument in given):
        raise UsageError(f"{name} takes one JSON object as its argument, or none.")
    argument = given[0] if given else {}
    return command, argument if command.arguments is None else command.arguments.model_validate(argument)


def structured_result(method: str, result: object) -> object:
    response = types.METHOD_TO_TYPES.get(method, (None, None))[1]
    if response is None:
        return result
    return converter().structure({"id": 0, "jsonrpc": "2.0", "result": result}, response).result


def plain(value: Any) -> object:
    if attrs.has(type(value)):
        return converter().unstructure(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
