"""Knows how messages travel: LSP's header framing and strict JSON, both bounded, without any input or output
of its own.

Imports nothing but the standard library: the proxy, the command line and the daemon share it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

MAX_BODY = 64 << 20
"""Bytes that one message may have at most."""
MAX_HEADER = 8 << 10
"""Bytes that the header lines of one message may have at most, all together."""
MAX_DEPTH = 256
"""How deep arrays and objects may lie in each other."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600


class WireError(Exception):
    """What the peer sent cannot be understood; the sentence says why, and the connection has to end.

    `code` is the JSON-RPC error code; `bodies` are the complete messages that came before the broken one.
    """

    def __init__(self, message: str, code: int = PARSE_ERROR, bodies: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.bodies = bodies


class Framer:
    """Cuts a stream of bytes into message bodies, however the stream was split on its way."""

    def __init__(self, max_body: int = MAX_BODY, max_header: int = MAX_HEADER) -> None:
        self._max_body = max_body
        self._max_header = max_header
        self._buffer = bytearray()
        self._length: int | None = None
        self._searched = 0

    @property
    def rest(self) -> bytes:
        """The bytes that have come since the last complete message, header included once it is complete or
        not.
        """
        if self._length is None:
            return bytes(self._buffer)
        return b"Content-Length: %d\r\n\r\n" % self._length + bytes(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes, oldest first.

        Raises WireError for a header that is malformed or too long, or announces too much; the framer is of
        no use after that.
        """
        self._buffer += data
        bodies: list[bytes] = []
        try:
            while (body := self._next()) is not None:
                bodies.append(body)
        except WireError as error:
            error.bodies = tuple(bodies)
            raise
        return bodies

    def _next(self) -> bytes | None:
        if self._length is None:
            header = self._header()
            if header is None:
                return None
            self._length = self._announced(header)
        if len(self._buffer) < self._length:
            return None
        body = bytes(memoryview(self._buffer)[: self._length])
        del self._buffer[: self._length]
        self._length = None
        return body

    def _header(self) -> bytes | None:
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0:
            self._searched = len(self._buffer)
            # Three bytes of an unfinished terminator may follow a header of the largest size.
            if len(self._buffer) > self._max_header + 3:
                raise WireError(f"The header of a message is longer than {self._max_header} bytes.")
            return None
        if end > self._max_header:
            raise WireError(f"The header of a message is longer than {self._max_header} bytes.")
        header = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 4]
        self._searched = 0
        return header

    def _announced(self, header: bytes) -> int:
        lengths = []
        for line in header.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon:
                raise WireError("A header line of a message has no colon.")
            if name.strip().lower() == b"content-length":
                lengths.append(value.strip())
        if len(set(lengths)) != 1:
            raise WireError("A message has no Content-Length header, or several that differ.")
        # Ten digits are more than any bound allows, and never cost time to convert.
        if not re.fullmatch(rb"[0-9]{1,10}", lengths[0]) or int(lengths[0]) > self._max_body:
            raise WireError(f"The Content-Length of a message is not a number from 0 to {self._max_body}.")
        return int(lengths[0])


def frame(body: bytes) -> bytes:
    """`body` with the header that LSP's base protocol puts before it."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def encode(message: object, plain: Callable[[Any], object] | None = None) -> bytes:
    """`message` as the bytes of a JSON body; `plain` turns values that JSON does not know into ones that it
    does.

    Raises TypeError or ValueError for what JSON cannot say (NaN among it). A lone surrogate, which a file
    name may hold, becomes a question mark, since strict readers refuse the whole message for it.
    """
    text = json.dumps(message, default=plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def parse(body: bytes) -> dict[str, Any]:
    """The message in `body`, which must be one JSON object in UTF-8.

    A lone surrogate becomes U+FFFD, which has the same width in UTF-16, so that an editor's positions stay
    right. Raises WireError for anything else: broken UTF-8 or JSON, NaN, infinite numbers, depth over
    MAX_DEPTH, a batch.
    """
    try:
        message = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise WireError("A message is not valid UTF-8.") from None
    except RecursionError:
        raise WireError(f"A message is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise WireError(f"A message is not valid JSON: {_without_text(error)}.") from None
    if isinstance(message, list):
        raise WireError("A batch of messages is not part of this protocol: send one by one.", INVALID_REQUEST)
    if not isinstance(message, dict):
        raise WireError("A message is not a JSON object.", INVALID_REQUEST)
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(message)
    if b"\\ud" in body or b"\\uD" in body:
        message = dict(_without_surrogates(message))
    return message


def _check_depth(message: dict[str, Any]) -> None:
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise WireError(f"A message is nested deeper than {MAX_DEPTH} levels.")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _without_surrogates(value: Any) -> Any:
    """`value` with U+FFFD for each surrogate that has no partner (the decoder has joined those that have)."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


def _without_text(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return str(error) if isinstance(error, _NumberError) else "a number is too long"


class _NumberError(ValueError):
    pass


def _refuse_constant(name: str) -> float:
    raise _NumberError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _NumberError("a number is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
