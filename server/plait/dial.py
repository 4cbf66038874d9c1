"""Knows how to reach the user's daemon, how to start it if there is none, and how to replace one that is too
old.

Imports nothing but the standard library: the proxy and the command line start with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from plait import __version__
from plait.connect import connect, peer_uid
from plait.errors import PlaitError, StorageError
from plait.paths import Places, private_directory
from plait.rpc import Caller, ConnectionLostError

if TYPE_CHECKING:
    import subprocess

READY_FD = "PLAIT_READY_FD"
"""The variable that tells a daemon the descriptor on which its starter waits for a word."""
MAX_LOG = 5 << 20
"""Bytes after which the daemon's log is put aside."""
PATIENCE_S = 10.0
"""How long a start may take, and how long one waits for another's."""

_COMMAND = (sys.executable, "-m", "plait", "daemon", "run")
_started: list[subprocess.Popen[bytes]] = []


class NoDaemonError(PlaitError):
    """No daemon runs, and none was to be started."""

    code = -32005


class Manifest(NamedTuple):
    """What a running daemon says about itself in a file beside its socket."""

    pid: int
    start_ticks: int
    """Field 22 of /proc/PID/stat, or 0 where there is none: tells the process from a later one with its pid.
    """
    boot_id: str
    version: str
    protocol: int
    socket: str
    started: float
    """Seconds since the epoch."""


def dial(places: Places, start: bool = True, command: Sequence[str] = _COMMAND) -> socket.socket:
    """A connection to the user's daemon, which is started if there is none, and replaced if it is older than
    this program.

    Raises NoDaemonError if there is none and `start` is false; PlaitError if it does not start or does not
    accept; StorageError if the directory of the socket is not safe.
    """
    private_directory(places.runtime)
    if start and _is_older(places):
        with _start_lock(places):
            if _is_older(places) and _stop_older(places):
                start_daemon(places, command)
    try:
        return _connect(places)
    except (FileNotFoundError, ConnectionRefusedError):
        if not start:
            raise NoDaemonError("No plait daemon is running.", "Any editor or `plait run` starts it.") from None
    with _start_lock(places):
        # Whoever held the lock before may have started it.
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return _connect(places)
        start_daemon(places, command)
    try:
        return _connect(places)
    except (FileNotFoundError, ConnectionRefusedError):
        raise _failed(places, "The plait daemon ended right after its start.") from None


def converse(
    places: Places,
    name: str,
    options: dict[str, Any] | None = None,
    *,
    start: bool = True,
    on_notification: Callable[[str, Any], None] | None = None,
    on_request: Callable[[str, Any], object] | None = None,
) -> Caller:
    """A conversation with the daemon that is past the handshake; `options` are those of `Caller.introduce`.

    A daemon that is just dying may still take the connection, so one that is lost at once is tried again. Raises as
    `dial` does.
    """
    for last in (False, False, True):
        caller = Caller(dial(places, start=start), on_notification, on_request)
        try:
            caller.introduce(name, options)
        except ConnectionLostError:
            caller.close()
            if last:
                raise
        except BaseException:
            caller.close()
            raise
        else:
            return caller
    raise AssertionError("the last attempt returns or raises")


def start_daemon(places: Places, command: Sequence[str] = _COMMAND) -> None:
    """Starts a daemon in a session of its own, and returns when one is ready to serve.

    Raises PlaitError with the last lines of its log if it fails or is not ready in ten seconds. Several at
    once are harmless: all but one of the daemons end again.
    """
    import subprocess  # Here, because most who dial find a daemon and need not pay for it.

    if "PLAIT_RUN" in os.environ:
        raise PlaitError(
            "No daemon runs, and one that is started inside a session would end with that session.",
            "Start Plait in a shell of your own, for example with `plait list`.",
        )
    private_directory(places.state)
    rotate_log(places.log)
    log = open_log(places.log)
    ready, word = os.pipe()
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, READY_FD: str(word)},
            start_new_session=True,
            pass_fds=(word,),
        )
        # Kept, because the object of a process that goes on must not be collected.
        _started.append(process)
    except OSError as error:
        os.close(ready)
        raise PlaitError(f"Could not start the plait daemon ({command[0]}): {error.strerror}.") from error
    finally:
        os.close(word)
        os.close(log)
    try:
        said = _word(ready, time.monotonic() + PATIENCE_S)
    finally:
        os.close(ready)
    if said is None:
        process.terminate()
        raise _failed(places, f"The plait daemon was not ready after {PATIENCE_S:.0f} seconds.")
    if not said:
        process.wait()
        raise _failed(places, "The plait daemon did not start.")


def manifest(places: Places) -> Manifest | None:
    """What the running daemon, or the last one if it crashed, said about itself; None if there is nothing
    readable.
    """
    try:
        said = json.loads(manifest_file(places).read_bytes())
        return Manifest(
            pid=int(said["pid"]),
            start_ticks=int(said["start_ticks"]),
            boot_id=str(said["boot_id"]),
            version=str(said["version"]),
            protocol=int(said["protocol"]),
            socket=str(said["socket"]),
            started=float(said["started"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def manifest_file(places: Places) -> Path:
    return places.runtime / "daemon.json"


def version_key(version: str) -> tuple[int, ...]:
    """The numbers at the start of a version, which order it; a suffix such as `.dev1` does not count."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def open_log(path: Path) -> int:
    """A descriptor that appends to the daemon's log, private to the user; raises StorageError."""
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise StorageError(f"Could not open the log {path}: {error.strerror}.") from error


def rotate_log(path: Path) -> bool:
    """Puts a long log aside under the name with `.1`; whether it did."""
    try:
        if path.stat().st_size <= MAX_LOG:
            return False
        path.replace(path.with_name(path.name + ".1"))
    except OSError:
        # A log that cannot be put aside is appended to.
        return False
    return True


def last_lines(path: Path, count: int = 15) -> list[str]:
    """The last lines of the daemon's log, for people; empty if there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 4096))
            return log.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return []


def _connect(places: Places) -> socket.socket:
    try:
        connected = connect(places.socket, timeout=5.0)
    except TimeoutError:
        known = manifest(places)
        raise PlaitError(
            f"The plait daemon{'' if known is None else f' (pid {known.pid})'} accepts no connection.",
            "Restart it with `plait daemon restart`; agents go on meanwhile.",
        ) from None
    try:
        uid = peer_uid(connected)
    except OSError:
        connected.close()
        raise ConnectionRefusedError from None
    if uid != os.getuid():
        connected.close()
        raise PlaitError(f"The daemon behind {places.socket} belongs to another user.", "Remove that socket.")
    return connected


@contextmanager
def _start_lock(places: Places) -> Iterator[None]:
    """Held by the one that starts or replaces the daemon, so that fifty editors make one."""
    path = places.runtime / "start.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"Could not open {path}: {error.strerror}.") from error
    try:
        deadline, pause = time.monotonic() + 2 * PATIENCE_S, 0.01
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                # flock has no timeout, so one asks again, less and less often.
                if time.monotonic() > deadline:
                    raise _failed(places, "Another program has been starting the plait daemon for too long.") from None
                time.sleep(pause)
                pause = min(pause * 1.5, 0.2)
        yield
    finally:
        os.close(lock)


def _word(ready: int, deadline: float) -> bytes | None:
    """What the daemon says when it is ready; empty if it ended without a word, None if the time is over."""
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            return os.read(ready, 64)
    return None


def _failed(places: Places, sentence: str) -> PlaitError:
    lines = last_lines(places.log)
    said = f" Its last words:\n{os.linesep.join(lines)}" if lines else ""
    return PlaitError(sentence, f"Run `plait daemon run` to see why; its log is {places.log}.{said}", {"log": lines})


def _is_older(places: Places) -> bool:
    known = manifest(places)
    return known is not None and version_key(known.version) < version_key(__version__)


def _stop_older(places: Places) -> bool:
    """Asks a daemon of an older version to end; whether there is none any more. Its agents do not notice."""
    try:
        caller = Caller(_connect(places))
    except (FileNotFoundError, ConnectionRefusedError):
        return True
    with caller:
        try:
            answer = caller.introduce("plait-upgrade")
            if version_key(str(answer["serverInfo"]["version"])) >= version_key(__version__):
                return False
            caller.request("plait/daemon/stop", {"reason": "upgrade"}, timeout_s=PATIENCE_S)
            while True:
                caller.listen(timeout_s=PATIENCE_S)
        except TimeoutError:
            return False
        except PlaitError as error:
            # The end of the connection is what was asked for; anything else leaves the old one in its place.
            return type(error).__name__ == "ConnectionLostError"
        except (KeyError, TypeError):
            return False
