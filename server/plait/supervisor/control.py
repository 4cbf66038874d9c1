"""Knows the daemon's end of a supervisor's control socket."""

from __future__ import annotations

import array
import asyncio
import json
import socket

from plait.errors import PlaitError

VERSIONS = [1]
_LONGEST_LINE = 1 << 20
_ANSWER_S = 30.0
_NOT_INHERITED = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class GoneError(PlaitError):
    """The supervisor cannot be reached any more, or never could; the run directory tells what became of the run."""


class RefusedError(PlaitError):
    """The supervisor will not do what was asked for, and says why."""


class Control:
    """One connection to a supervisor. Requests are answered in order of their effect and may be made concurrently."""

    def __init__(self, connected: socket.socket) -> None:
        self.run = ""
        self.agent_pid: int | None = None
        self.version = 0
        self.exit: dict[str, object] | None = None
        self._socket = connected
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._greeting: asyncio.Future[dict[str, object]] | None = None
        self._over = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    async def request(self, op: str, **fields: object) -> dict[str, object]:
        """What the supervisor answers to `op`.

        Raises RefusedError with its reason, GoneError if it dies or leaves before it answers.
        """
        self._sequence += 1
        sequence = self._sequence
        answer: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = answer
        try:
            await self._send({"op": op, "seq": sequence, **fields})
            reply = await answer
        finally:
            self._waiting.pop(sequence, None)
        if reply.get("ok") is not True:
            raise RefusedError(f"The supervisor of run {self.run} refused {op}: {reply.get('error')}.")
        return reply

    async def terminal(self) -> int:
        """The master side of the run's terminal, as a descriptor that never blocks and that the caller closes.

        Who holds it keeps the agent from being hung up on when the supervisor dies. Raises as `request` does.
        """
        await self.request("pty")
        return self._descriptors.pop(0)

    async def ended(self) -> dict[str, object]:
        """What `exit.json` says, once the run has ended; subscribe before. Raises GoneError if nobody says."""
        await self._over.wait()
        if self.exit is None:
            raise self._gone()
        return self.exit

    async def close(self) -> None:
        """Leave; the run goes on."""
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._end()
        self._socket.close()
        for descriptor in self._descriptors:
            socket.close(descriptor)

    async def greet(self) -> None:
        """Agree on a version; raises RefusedError if there is none in common."""
        loop = asyncio.get_running_loop()
        self._greeting = loop.create_future()
        self._reader = loop.create_task(self._read())
        await self._send({"hello": {"versions": VERSIONS}})
        reply = await asyncio.wait_for(self._greeting, _ANSWER_S)
        hello = reply.get("hello")
        if not isinstance(hello, dict):
            raise RefusedError(f"The supervisor refused the connection: {reply.get('error')}.")
        self.run, self.agent_pid, self.version = str(hello.get("run")), hello.get("agent_pid"), int(hello["version"])

    async def _send(self, message: dict[str, object]) -> None:
        if self._over.is_set():
            raise self._gone()
        try:
            async with self._sending:
                await asyncio.get_running_loop().sock_sendall(self._socket, json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self._gone() from error

    async def _read(self) -> None:
        try:
            while data := await self._receive():
                self._received += data
                while (end := self._received.find(b"\n")) >= 0:
                    line = bytes(self._received[:end])
                    del self._received[: end + 1]
                    self._take(json.loads(line))
                if len(self._received) > _LONGEST_LINE:
                    return
        except (OSError, ValueError):
            return
        finally:
            self._end()

    async def _receive(self) -> bytes:
        """The next bytes; descriptors that come with them are kept."""
        loop = asyncio.get_running_loop()
        room = socket.CMSG_SPACE(4 * array.array("i").itemsize)
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(65536, room, _NOT_INHERITED)
            except BlockingIOError:
                readable = asyncio.Event()
                loop.add_reader(self._socket, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self._socket)
                continue
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                    self._descriptors.extend(numbers)
            return data

    def _take(self, message: object) -> None:
        if not isinstance(message, dict):
            return
        if isinstance(message.get("exit"), dict):
            self.exit = message["exit"]
            self._over.set()
        elif self._greeting and not self._greeting.done():
            self._greeting.set_result(message)
        elif (waiter := self._waiting.get(message.get("seq", 0))) and not waiter.done():
            waiter.set_result(message)

    def _end(self) -> None:
        self._over.set()
        for waiter in (self._greeting, *self._waiting.values()):
            if waiter and not waiter.done():
                waiter.set_exception(self._gone())

    def _gone(self) -> GoneError:
        return GoneError(f"The supervisor of run {self.run or '(unknown)'} is gone.")


async def opened(connected: socket.socket) -> Control:
    """A control connection over a connected socket, after the greeting; raises PlaitError, and closes it then."""
    connected.setblocking(False)
    control = Control(connected)
    try:
        await control.greet()
    except TimeoutError as error:
        await control.close()
        raise GoneError("The supervisor does not answer.") from error
    except BaseException:
        await control.close()
        raise
    return control
