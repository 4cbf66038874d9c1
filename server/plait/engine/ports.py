"""Which block of local ports a worktree gets, so that several servers of one project can run side by side."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

from plait.errors import PlaitError

LAST = 32767
"""Above it Linux hands out ports for outgoing connections, which come and go."""


def assign(taken: Collection[int], first: int = 20000, block: int = 10) -> int:
    """The first port of the lowest block of `block` ports that no worktree has and nobody uses now.

    `taken` holds the first ports of the blocks in use. Raises PlaitError if no block up to LAST is free.
    """
    for start in range(first, LAST + 2 - block, block):
        if any(abs(start - other) < block for other in taken):
            continue
        if all(_is_free(port) for port in range(start, start + block)):
            return start
    raise PlaitError(
        f"Could not find {block} free ports in a row between {first} and {LAST}.",
        "Trash sessions that are done with and empty the trash, or stop servers that still run.",
    )


def _is_free(port: int) -> bool:
    """Whether a server could listen there; without SO_REUSEADDR, so that a wildcard listener counts too."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise PlaitError(f"Could not try port {port} on 127.0.0.1: {error.strerror}.") from error
    return True
