"""Cuts an agent's output into lines, and reads a line as JSON or says why it cannot be read."""

from __future__ import annotations

import json
from typing import Any

from plait.core.reports import Unread, shorten

LONGEST_LINE = 64 << 20
"""Bytes; a longer line is not kept until its end."""


class Lines:
    """The lines of a stream of bytes, without their ends; the incomplete last one is kept."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._dropped = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        lines: list[bytes] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._keep(data[start:end])
            lines.append(self._taken())
            start = end + 1
        self._keep(data[start:])
        return lines

    def close(self) -> list[bytes]:
        """The last line, if its end never came."""
        return [self._taken()] if self._rest or self._dropped else []

    def _keep(self, data: bytes) -> None:
        room = max(0, LONGEST_LINE - len(self._rest))
        self._rest += data[:room]
        self._dropped += len(data) - min(room, len(data))

    def _taken(self) -> bytes:
        line = bytes(self._rest).removesuffix(b"\r")
        if self._dropped:
            line += b" [%d bytes more]" % self._dropped
        self._rest.clear()
        self._dropped = 0
        return line


def read_object(line: bytes) -> dict[str, Any] | Unread | None:
    """The JSON object that a line holds; none for an empty line, Unread for anything else."""
    if not line.strip():
        return None
    text = line.decode("utf-8", "replace")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Unread(text=shorten(text, 2000), why=f"It is not JSON: {error}.")
    if not isinstance(found, dict):
        return Unread(text=shorten(text, 2000), why="It is not a JSON object.")
    return found
