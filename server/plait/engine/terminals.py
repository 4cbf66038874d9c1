"""Holds the terminals of live runs: what the user types goes there, and an agent in one outlives its supervisor.

An agent is hung up on when the last holder of its terminal's master is gone. The supervisor holds it, and from when a
run is attended the daemon does too; so only the death of both at once takes the agent's terminal away.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import struct
import termios
import time
from pathlib import Path

from plait.errors import BusyError, NothingToDo, PlaitError
from plait.supervisor import runs

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long a program may leave what was typed unread before that is told."""
LOOK_S = 0.01


class Terminals:
    """The master sides of terminals, by the directory of their run."""

    def __init__(self) -> None:
        self._masters: dict[Path, int] = {}

    async def hold(self, directory: Path) -> None:
        """Take hold of the run's terminal, if it has one that can be had."""
        if directory in self._masters:
            return
        try:
            reached = await runs.control(directory)
            try:
                master = await reached.terminal()
            finally:
                await reached.close()
        except PlaitError as error:
            log.info("the terminal of %s cannot be had: %s", directory, error)
            return
        if directory in self._masters:
            os.close(master)
        else:
            self._masters[directory] = master

    def master(self, directory: Path) -> int | None:
        """The descriptor that a new supervisor of the run is given."""
        return self._masters.get(directory)

    async def type_in(self, directory: Path, data: bytes) -> None:
        """Let the program read the data as typed. Raises NothingToDo without a terminal, BusyError if it reads not."""
        master = await self._reached(directory)
        deadline = time.monotonic() + PATIENCE_S
        while data:
            try:
                data = data[os.write(master, data) :]
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError("The program does not read what is typed.", "Try again, or stop it.") from None
                await asyncio.sleep(LOOK_S)
                master = await self._reached(directory)
            except OSError as error:
                raise NothingToDo(f"Its terminal is closed: {error.strerror}.") from error

    async def resize(self, directory: Path, rows: int, columns: int) -> None:
        """Tell the program the size of its screen. Raises NothingToDo without a terminal."""
        master = await self._reached(directory)
        try:
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        except OSError as error:
            raise NothingToDo(f"Its terminal is closed: {error.strerror}.") from error

    def let_go(self, directory: Path) -> None:
        """The run is over."""
        master = self._masters.pop(directory, None)
        if master is not None:
            os.close(master)

    def close(self) -> None:
        """Let go of all of them; their supervisors hold them still."""
        for directory in list(self._masters):
            self.let_go(directory)

    async def _reached(self, directory: Path) -> int:
        if directory not in self._masters:
            await self.hold(directory)
        master = self._masters.get(directory)
        if master is None:
            raise NothingToDo("Its terminal is not open.", "Wait until it works, or resume it.")
        return master
