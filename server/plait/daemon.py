"""Knows how one process per user becomes the daemon, accepts connections, and ends without any agent
noticing.

Who holds the lock on `daemon.lock` is the daemon; the lock file is never removed. A socket is bound under a
temporary name and renamed into place, so that its name never leads to nobody. Clients find it through
`plait.dial`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from plait import __version__
from plait.connect import bind, peer_uid
from plait.dial import READY_FD, dial, manifest_file, open_log, rotate_log, start_daemon
from plait.election import elected, identity, locked, note_crash, write_manifest
from plait.errors import PlaitError, StorageError
from plait.lsp.client import PROTOCOL
from plait.lsp.connection import Connection, Phase
from plait.lsp.tables import Features, Method
from plait.paths import Places, places, private_directory
from plait.wire import encode, frame

__all__ = ["Engine", "MakeEngine", "dial", "main", "run", "start_daemon"]

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
"""Clients at the same time; one that has not introduced itself yields to a newcomer."""
CHECK_S = 30.0
"""How often the daemon looks whether its socket and lock are still its own."""
FAREWELL_S = 5.0
"""How long connections may finish what changes something when the daemon ends."""


class Engine(Protocol):
    """What the daemon runs; its features get it as `connection.engine`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@runtime_checkable
class Reporting(Protocol):
    """An engine that adds to `plait/daemon/status`."""

    def status(self) -> dict[str, object]: ...


MakeEngine = Callable[[Places], Engine]


def main(make_engine: MakeEngine, features: Features, check_s: float = CHECK_S) -> int:
    """Runs the daemon of the current user until it is told to end; gives the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return run(places(), make_engine, features, check_s)
    except PlaitError as error:
        logger.error("%s", error)
        return error.exit_status


def run(places: Places, make_engine: MakeEngine, features: Features, check_s: float = CHECK_S) -> int:
    """Becomes the daemon and serves until SIGTERM, SIGINT or `plait/daemon/stop`; gives the exit status.

    If another daemon serves already, says so and ends with 0. Raises StorageError if a directory is not safe
    to use.
    """
    starter = _starter()
    os.umask(0o077)
    for directory in (places.runtime, places.state):
        private_directory(directory)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    # The daemon must outlive the terminal that it may have been started from.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = elected(places)
    if lock is None:
        logger.info("Another daemon serves %s.", places.socket)
        _tell(starter, b"taken\n")
        return 0
    asyncio.run(_Daemon(places, make_engine, features, lock, check_s).serve(starter))
    return 0


class _Daemon:
    """The elected process: its listener, its connections, and how it ends."""

    def __init__(self, places: Places, make_engine: MakeEngine, features: Features, lock: int, check_s: float) -> None:
        self._places = places
        self._make_engine = make_engine
        self._features = replace(features, methods=(*features.methods, *_methods(self)))
        self._locks = [lock]
        self._check_s = check_s
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._started = time.time()
        self._begun = time.monotonic()
        self._crashes: list[float] = []
        self._engine: Engine | None = None
        self._group: asyncio.TaskGroup | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._identity = (0, 0)

    async def serve(self, starter: int | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._crashes = note_crash(self._places)
        # Clients that come before the engine is ready wait in the listener's queue.
        self._listener = self._listen()
        self._engine = self._make_engine(self._places)
        await self._engine.start()
        write_manifest(self._places, PROTOCOL, self._started)
        logger.info("Daemon %s (pid %d) serves %s.", __version__, os.getpid(), self._places.socket)
        _tell(starter, b"ready\n")
        try:
            async with asyncio.TaskGroup() as self._group:
                self._accepting = self._group.create_task(self._accept(self._listener))
                checking = self._group.create_task(self._check())
                await self._stopping.wait()
                checking.cancel()
                self._withdraw()
                await self._dismiss()
        finally:
            await self._engine.stop()
        logger.info("Daemon (pid %d) ends.", os.getpid())

    def stop(self, reason: str) -> None:
        logger.info("Told to stop (%s).", reason or "no reason given")
        self._stopping.set()

    async def status(self) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(0)
        said: dict[str, object] = {
            "pid": os.getpid(),
            "version": __version__,
            "protocol": PROTOCOL,
            "socket": str(self._places.socket),
            "log": str(self._places.log),
            "uptime_s": round(time.monotonic() - self._begun, 3),
            "connections": len(self._connections),
            "editors": sum(connection.client.forwarder is not None for connection in self._connections),
            "loop_lag_ms": round((loop.time() - before) * 1000, 3),
            "crashes": len(self._crashes),
        }
        engine: object = self._engine
        if isinstance(engine, Reporting):
            said.update(engine.status())
        return said

    def _listen(self) -> socket.socket:
        """A fresh listener, put in place of whatever has the socket's name."""
        private_directory(self._places.runtime)
        fresh = self._places.socket.with_name(f"{self._places.socket.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        try:
            listener = bind(fresh)
            listener.setblocking(False)
            listener.listen(128)
            found = fresh.lstat()
            fresh.rename(self._places.socket)
        except OSError as error:
            raise StorageError(f"Could not listen at {self._places.socket}: {error.strerror}.") from error
        self._identity = (found.st_dev, found.st_ino)
        return listener

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        assert self._group is not None
        with listener:
            while True:
                try:
                    peer, _ = await loop.sock_accept(listener)
                except OSError as error:
                    # Too many open files, most likely: others have to close theirs first.
                    logger.warning("Could not accept a connection: %s.", error.strerror)
                    await asyncio.sleep(0.2)
                    continue
                if _is_ours(peer) and self._has_room(peer):
                    connection = Connection(self._engine, self._features)
                    self._connections[connection] = self._group.create_task(self._talk(connection, peer))
                await asyncio.sleep(0)
                if len(self._connections) >= 2 * MAX_CONNECTIONS:
                    # Those that were sent away hold a descriptor until their task ends.
                    await asyncio.wait(self._connections.values(), return_when=asyncio.FIRST_COMPLETED)

    def _has_room(self, peer: socket.socket) -> bool:
        open_ones = [connection for connection in self._connections if not connection.closing]
        if len(open_ones) < MAX_CONNECTIONS:
            return True
        silent = next((connection for connection in open_ones if connection.phase is Phase.NEW), None)
        if silent is not None:
            silent.abort()
            return True
        logger.warning("Refused a connection: %d clients are connected.", MAX_CONNECTIONS)
        message = f"{MAX_CONNECTIONS} clients are connected to the plait daemon; close one of them."
        with contextlib.suppress(OSError):
            error = {"code": -32000, "message": message}
            peer.send(frame(encode({"jsonrpc": "2.0", "id": None, "error": error})))
        peer.close()
        return False

    async def _talk(self, connection: Connection, peer: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=peer)
            await connection.serve(reader, writer)
        except OSError as error:
            logger.info("A connection broke: %s.", error)
        except Exception:
            # A fault in one connection must not end the others.
            logger.exception("A connection failed.")
        finally:
            del self._connections[connection]
            peer.close()

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(self._check_s)
            try:
                self._keep_lock()
                if identity(self._places.socket) != self._identity:
                    logger.warning("%s was removed or replaced; binding it again.", self._places.socket)
                    self._rebind()
                    write_manifest(self._places, PROTOCOL, self._started)
                _rotate_own_log(self._places.log)
            except (OSError, PlaitError) as error:
                logger.warning("The self-check failed: %s", error)

    def _rebind(self) -> None:
        assert self._group is not None
        assert self._accepting is not None
        listener = self._listen()
        self._accepting.cancel()
        self._accepting = self._group.create_task(self._accept(listener))

    def _keep_lock(self) -> None:
        """Takes the lock again if its file was removed (a cleaner emptied the directory), or yields to who
        has it.
        """
        held = os.fstat(self._locks[-1])
        if identity(self._places.lock) == (held.st_dev, held.st_ino):
            return
        private_directory(self._places.runtime)
        fresh = locked(self._places.lock)
        if fresh is None:
            self.stop("another daemon was elected after the lock file was removed")
        else:
            self._locks.append(fresh)

    def _withdraw(self) -> None:
        """Stops listening, and removes the socket and the manifest unless they are a successor's."""
        assert self._accepting is not None
        self._accepting.cancel()
        if identity(self._places.socket) == self._identity:
            self._places.socket.unlink(missing_ok=True)
            manifest_file(self._places).unlink(missing_ok=True)

    async def _dismiss(self) -> None:
        tasks = list(self._connections.values())
        for connection in tuple(self._connections):
            connection.close()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=FAREWELL_S)
            for task in late:
                task.cancel()


class _Stop(BaseModel):
    reason: str = ""


def _methods(daemon: _Daemon) -> tuple[Method, ...]:
    async def status(_: Connection, __: object) -> dict[str, object]:
        return await daemon.status()

    def stop(_: Connection, params: _Stop) -> dict[str, object]:
        daemon.stop(params.reason)
        return {"pid": os.getpid()}

    return (
        Method("plait/daemon/status", status, summary="The daemon's process, version, socket and clients."),
        Method("plait/daemon/stop", stop, _Stop, mutates=True, summary="Ends the daemon; agents go on."),
    )


def _is_ours(peer: socket.socket) -> bool:
    try:
        uid = peer_uid(peer)
    except OSError:
        uid = -1
    if uid == os.getuid():
        return True
    logger.warning("Refused a connection of the user with the id %d.", uid)
    peer.close()
    return False


def _starter() -> int | None:
    """The descriptor on which whoever started this process waits, which no child may inherit."""
    said = os.environ.pop(READY_FD, "")
    if not said.isdecimal():
        return None
    descriptor = int(said)
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        return None
    return descriptor


def _tell(starter: int | None, word: bytes) -> None:
    if starter is not None:
        # The starter may have given up meanwhile.
        with contextlib.suppress(OSError):
            os.write(starter, word)
        os.close(starter)


def _rotate_own_log(path: Path) -> None:
    """Puts the log aside when it is long, if it is this process's own output."""
    own = os.fstat(2)
    if identity(path) == (own.st_dev, own.st_ino) and rotate_log(path):
        fresh = open_log(path)
        os.dup2(fresh, 1)
        os.dup2(fresh, 2)
        os.close(fresh)
