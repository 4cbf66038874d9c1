"""Knows how to bind and reach unix sockets, however long their path is, and who is at the other end.

The kernel's limit on a socket's path (107 bytes on Linux, 103 on macOS) is far below what a home directory,
a project name and a session id may add up to, so a longer path is handed over through its open directory.
Imports only the standard library: the proxy imports this and must start in milliseconds.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 103 if sys.platform == "darwin" else 107
_XUCRED_BYTES = 76


def bind(path: Path) -> socket.socket:
    """A stream socket bound to `path` with mode 0600, not yet listening.

    The caller listens, and owns the name: nothing is unlinked here, so an existing `path` raises OSError
    (EADDRINUSE). The way to replace one is to bind a new name beside it, listen, and rename.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if sys.platform == "linux":
            # The file takes over the socket's own mode, so it is never open to others, not even for a moment.
            os.fchmod(bound.fileno(), 0o600)
        with _short(path) as name:
            bound.bind(name)
        path.chmod(0o600)
    except BaseException:
        bound.close()
        raise
    return bound


def connect(path: Path, timeout: float | None = None) -> socket.socket:
    """A blocking stream socket connected to the listener at `path`.

    `timeout` in seconds bounds the connecting alone. Raises OSError: FileNotFoundError if nothing has the
    name, ConnectionRefusedError if its owner is dead, TimeoutError if its queue stays full.
    """
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # With a timeout of Python's own the kernel sees a non-blocking socket and refuses instead of waiting.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout or 0.0))
        with _short(path) as name:
            peer.connect(name)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0.0))
    except BlockingIOError as error:
        peer.close()
        raise TimeoutError(f"The listener at {path} accepts no connection.") from error
    except BaseException:
        peer.close()
        raise
    return peer


def peer_uid(connected: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel recorded it when it connected or listened.

    Raises OSError if `connected` is not a connected unix socket. Sources: unix(7) SO_PEERCRED;
    `struct xucred` in macOS's sys/ucred.h for LOCAL_PEERCRED.
    """
    if sys.platform == "linux":
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
    else:
        sol_local, local_peercred = 0, 1
        credentials = connected.getsockopt(sol_local, local_peercred, _XUCRED_BYTES)
        _, uid = struct.unpack_from("=iI", credentials)
    return int(uid)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for `path` that the kernel accepts, valid only inside the `with`."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    if sys.platform == "linux":
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            through = f"/proc/self/fd/{directory}"
            if Path(through).exists():
                yield f"{through}/{path.name}"
                return
        finally:
            os.close(directory)
    # $TMPDIR may be long itself.
    # Only where a short link is needed: this import costs the proxy milliseconds.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="plait-", dir="/tmp") as private:
        link = Path(private, "d")
        link.symlink_to(path.parent.absolute())
        yield str(link / path.name)


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
