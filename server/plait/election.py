"""Knows how one process per user becomes the daemon, and what it leaves in files for those who look for it.

Who holds the lock on `daemon.lock` is the daemon. The lock file is never removed: with a new one, two could hold "it".
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from pathlib import Path

from plait import __version__
from plait.connect import connect
from plait.dial import Manifest, manifest, manifest_file
from plait.errors import PlaitError, StorageError
from plait.paths import Places

logger = logging.getLogger(__name__)

ELECTION_S = 8.0
"""How long a newcomer waits for the lock of a daemon that accepts nobody any more."""
CRASH_WINDOW_S = 60.0


def elected(places: Places) -> int | None:
    """The descriptor that holds the lock, or None if a daemon that serves has it."""
    deadline, pause = time.monotonic() + ELECTION_S, 0.01
    while True:
        lock = locked(places.lock)
        if lock is not None:
            return lock
        # One that is ending keeps its lock to the last, but accepts nobody any more.
        with contextlib.suppress(OSError):
            connect(places.socket, timeout=1.0).close()
            return None
        if time.monotonic() > deadline:
            raise PlaitError(
                f"Another process holds {places.lock} and serves nobody.",
                "End the old `plait daemon` process; agents go on meanwhile.",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def locked(path: Path) -> int | None:
    """The descriptor that holds the lock, or None if somebody else does; raises StorageError."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"Could not open the lock {path}: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    held = os.fstat(lock)
    if identity(path) != (held.st_dev, held.st_ino):
        # The file was removed between opening and locking: this lock would bind nobody.
        os.close(lock)
        return None
    return lock


def identity(path: Path) -> tuple[int, int]:
    """Which file has the name: its device and inode, zeros for none."""
    try:
        found = path.lstat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def write_manifest(places: Places, protocol: int, started: float) -> None:
    """Says in a file, replaced in one step, who the daemon is; `started` is in seconds since the epoch."""
    said = Manifest(
        pid=os.getpid(),
        start_ticks=_start_ticks(),
        boot_id=_boot_id(),
        version=__version__,
        protocol=protocol,
        socket=str(places.socket),
        started=started,
    )
    path = manifest_file(places)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(said._asdict()))
    fresh.replace(path)


def _start_ticks() -> int:
    try:
        # Field 22 of proc(5); the second field is a name in parentheses that may hold spaces itself.
        return int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def note_crash(places: Places) -> list[float]:
    """The times of crashes in the last minute, with the one that a manifest left behind stands for."""
    path = places.state / "crashes.json"
    now = time.time()
    try:
        times = [float(moment) for moment in json.loads(path.read_bytes()) if 0 <= now - moment < CRASH_WINDOW_S]
    except (OSError, ValueError, TypeError):
        times = []
    before = manifest(places)
    if before is None:
        return times
    times.append(now)
    logger.warning("The daemon before this one (pid %d) ended without stopping.", before.pid)
    if len(times) >= 3:
        logger.error("The daemon ended so %d times within a minute.", len(times))
    manifest_file(places).unlink(missing_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(times[-20:]))
    fresh.replace(path)
    return times
