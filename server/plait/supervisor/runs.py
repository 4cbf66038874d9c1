"""Knows how the daemon prepares, starts, observes and stops a run, from nothing but the run's directory."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import importlib.util
import json
import os
import py_compile
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

from plait.connect import connect
from plait.errors import PlaitError, StorageError
from plait.supervisor import program
from plait.supervisor.control import Control, GoneError, opened

OUTPUT = "output.log"
"""What the run puts out; see `plait.supervisor` for all the files."""
HOOKS = "hooks.log"
"""What an agent in a terminal tells its hooks."""

_START_S = 30.0
_REACH_S = 10.0
_PIECE_BYTES = 384 << 10
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class RunSpec:
    """What is to be run.

    `grace_s` is the time between the steps of a stop, `size` rows and columns of a terminal. With `stdin="fifo"` the
    agent's input stays open until `close-input`; with `stderr="apart"` its error stream has a file of its own. With a
    terminal neither has a meaning.
    """

    run: str
    argv: tuple[str, ...]
    cwd: Path
    stdin: Literal["null", "fifo"] = "null"
    stderr: Literal["output", "apart"] = "output"
    pty: bool = False
    interrupt: Literal["INT", "TERM"] | None = "INT"
    grace_s: float = 5.0
    timeout_s: float | None = None
    size: tuple[int, int] = (40, 120)


@dataclass(frozen=True)
class NotStarted:
    """Nothing of the run has ever been executed."""


@dataclass(frozen=True)
class Alive:
    """A supervisor has the run in its hands."""


@dataclass(frozen=True)
class Lost:
    """The run was started, has no supervisor any more, and its end was not recorded."""

    agent_alive: bool


@dataclass(frozen=True)
class Exit:
    """How a run ended.

    `code` and `signal` are exact; both are None if it never executed (`reason` exec-failed) or if nobody saw the end
    (`unknown`). `reason` is one of exited, stopped, timeout, exec-failed, supervisor-lost, reboot. `at` is unix time.
    """

    code: int | None
    signal: int | None
    unknown: bool
    reason: str
    error: str | None
    output_bytes: int
    at: float


RunStatus = NotStarted | Alive | Lost | Exit


def prepare(directory: Path, spec: RunSpec) -> None:
    """Write the intent to run `spec` and the program that will do it; what is already there stays.

    Raises StorageError.
    """
    try:
        for each in (directory.parent, directory):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        if not (directory / "program.py").exists():
            _replace(directory / "program.pyc", _compiled())
            _replace(directory / "program.py", Path(program.__file__).read_bytes())
        if not (directory / "run.json").exists():
            intent = {"wire": 1, **asdict(spec), "cwd": str(spec.cwd)}
            _replace(directory / "run.json", json.dumps(intent).encode() + b"\n")
    except OSError as error:
        raise StorageError(f"Could not prepare the run in {directory}: {error.strerror}.") from error


async def start(directory: Path, env: Mapping[str, str], python: str | None = None) -> None:
    """Start a prepared run; it has executed its program when this returns. A second start changes nothing.

    `env` is the whole environment of the agent and reaches no disk and no argument list. Raises PlaitError if the
    program or its directory cannot be executed, StorageError if the supervisor cannot keep its records.
    """
    await _launch(directory, json.dumps(dict(env)).encode(), python, [], None)


async def adopt(directory: Path, master: int | None = None, python: str | None = None) -> None:
    """Give a lost run a supervisor again; how it ends is then unknown, but it is watched, reachable and recorded.

    `master` is the run's terminal, if the caller holds it. Raises PlaitError.
    """
    await _launch(directory, b"", python, ["--adopt"], master)


def status(directory: Path) -> RunStatus:
    """What has become of the run, decided by its lock and its files and never by a pid.

    A damaged `exit.json` is moved aside as `exit.json.torn-<n>`.
    """
    _reap()
    ended = _read_exit(directory)
    if ended:
        return ended
    if _is_locked(directory):
        return Alive()
    # The end may have been recorded between the two looks.
    ended = _read_exit(directory)
    if ended:
        return ended
    try:
        record = json.loads((directory / "supervisor.json").read_bytes())
        pid, ticks, boot = record["agent_pid"], record["agent_start_ticks"], record["boot_id"]
    except FileNotFoundError:
        return NotStarted()
    except (OSError, ValueError, KeyError, TypeError):
        return Lost(agent_alive=False)
    known = isinstance(pid, int) and isinstance(ticks, int) and boot == program.boot_id()
    return Lost(agent_alive=known and program.is_alive(pid, ticks))


async def wait(directory: Path) -> Exit | Lost:
    """How the run ended, as soon as it has; Lost if its supervisor dies before, and the caller may adopt then.

    Raises PlaitError if the run was never started.
    """
    pause = 0.005
    while True:
        found = status(directory)
        if isinstance(found, Exit | Lost):
            return found
        if isinstance(found, NotStarted):
            raise PlaitError(f"The run in {directory} was never started.", "Start it first.")
        try:
            async with _connected(directory) as reached:
                await reached.request("subscribe")
                await reached.ended()
        except PlaitError:
            # It is dead, or has not bound its socket yet, or speaks no version of ours: its lock still tells.
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)


async def stop(directory: Path, interrupt: bool = True, grace_s: float | None = None) -> None:
    """Begin to end the run: interrupt, then TERM, then KILL, `grace_s` seconds apart; `wait` tells when it is over.

    A run that has ended needs nothing more; a lost one is adopted first. Raises PlaitError if it was never started.
    """
    deadline = time.monotonic() + _REACH_S
    while True:
        found = status(directory)
        if isinstance(found, Exit):
            return
        if isinstance(found, NotStarted):
            raise PlaitError(f"The run in {directory} was never started.", "Start it first.")
        if isinstance(found, Lost):
            await adopt(directory)
            continue
        try:
            async with _connected(directory) as reached:
                await reached.request("stop", interrupt=interrupt, grace_s=grace_s)
            return
        except GoneError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


async def write(directory: Path, id: str, data: bytes) -> None:  # noqa: A002 - the wire's own word
    """Write `data` to the agent's input once, however often this is called with the same `id`.

    Returns when the agent's side has taken all of it. Raises PlaitError if the agent has no open input, or if an
    earlier attempt was cut off, so that nobody can know whether it arrived.
    """
    async with _connected(directory) as reached:
        for start_ in range(0, max(len(data), 1), _PIECE_BYTES):
            piece = base64.b64encode(data[start_ : start_ + _PIECE_BYTES]).decode()
            await reached.request("write", id=f"{id}#{start_}" if start_ else id, data=piece)


async def close_input(directory: Path) -> None:
    """End of file for the agent, after what is still to be written to it. Raises PlaitError if it has no input."""
    async with _connected(directory) as reached:
        await reached.request("close-input")


async def control(directory: Path) -> Control:
    """A connection to the run's supervisor, which the caller closes. Raises PlaitError if there is none."""
    try:
        return await opened(connect(directory / "control", timeout=_REACH_S))
    except OSError as error:
        raise GoneError(f"The supervisor in {directory} cannot be reached: {error.strerror}.") from error


def read_output(directory: Path, offset: int, limit: int = 1 << 20, name: str = OUTPUT) -> bytes:
    """At most `limit` bytes of the output from `offset` on; empty if there are none yet. Raises StorageError."""
    try:
        with (directory / name).open("rb") as file:
            return os.pread(file.fileno(), limit, offset)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"Could not read {directory / name}: {error.strerror}.") from error


def read_errors(directory: Path, limit: int = 1 << 16) -> bytes:
    """At most the last `limit` bytes of an error stream kept apart; empty if there are none. Raises StorageError."""
    try:
        with (directory / "errors.log").open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), limit, max(0, size - limit))
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"Could not read {directory / 'errors.log'}: {error.strerror}.") from error


@asynccontextmanager
async def _connected(directory: Path) -> AsyncIterator[Control]:
    reached = await control(directory)
    try:
        yield reached
    finally:
        await reached.close()


async def _launch(directory: Path, env: bytes, python: str | None, flags: list[str], master: int | None) -> None:
    """Launch supervisors until one of them, ours or another's, has the run."""
    deadline = time.monotonic() + _START_S
    while True:
        told = await asyncio.to_thread(_launch_once, directory, env, python or sys.executable, flags, master)
        if told.get("ok") is not True and told.get("busy") is not True:
            raise _failure(directory, str(told.get("error")))
        if told.get("busy") is not True or await _is_in_other_hands(directory, deadline):
            ended = _read_exit(directory)
            if ended and ended.reason == "exec-failed":
                raise _failure(directory, str(ended.error))
            return


def _launch_once(directory: Path, env: bytes, python: str, flags: list[str], master: int | None) -> dict[str, object]:
    """Execute the program once and return what it reports; it stays our child only so that we reap it."""
    _reap()
    heard, ready = os.pipe()
    passed = [ready] if master is None else [ready, master]
    flags = flags if master is None else [*flags, f"--pty={master}"]
    try:
        process = subprocess.Popen(
            [python, "-I", "-S", "-E", str(_executable(directory, python)), str(directory), str(ready), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")},
            pass_fds=passed,
            start_new_session=True,
        )
    except OSError as error:
        os.close(heard)
        return {"ok": False, "error": f"{error.strerror}: {python}"}
    finally:
        os.close(ready)
    _children[process.pid] = process
    try:
        assert process.stdin
        with suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(env)
        told = _heard(heard)
        if told.get("ok") is not True:
            # It is about to end, and holds the lock until then.
            with suppress(subprocess.TimeoutExpired):
                process.wait(_REACH_S)
        return told
    finally:
        os.close(heard)


@cache
def _compiled() -> bytes:
    """The program, compiled: that saves a third of each start and half of each supervisor's memory."""
    with tempfile.TemporaryDirectory(prefix="plait-") as private:
        compiled = Path(private) / "program.pyc"
        py_compile.compile(program.__file__, str(compiled), dfile="program.py", doraise=True)
        return compiled.read_bytes()


def _executable(directory: Path, python: str) -> Path:
    """The compiled program if this Python made it, else the source, which every Python understands."""
    compiled = directory / "program.pyc"
    if python == sys.executable:
        with suppress(OSError), compiled.open("rb") as file:
            if file.read(4) == importlib.util.MAGIC_NUMBER:
                return compiled
    return directory / "program.py"


def _heard(descriptor: int) -> dict[str, object]:
    """The one line that a starting supervisor reports."""
    line = b""
    deadline = time.monotonic() + _START_S
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return {"ok": False, "error": f"The supervisor said nothing for {_START_S:.0f} s"}
        piece = os.read(descriptor, 65536)
        if not piece:
            return {"ok": False, "error": "The supervisor died while starting"}
        line += piece
    return cast("dict[str, object]", json.loads(line))


async def _is_in_other_hands(directory: Path, deadline: float) -> bool:
    """Whether somebody else's supervisor has started the run; False if there is none after all."""
    while True:
        found = status(directory)
        if isinstance(found, Exit):
            return True
        if not isinstance(found, Alive):
            return False
        try:
            # A supervisor greets only after its agent has executed.
            async with _connected(directory):
                return True
        except GoneError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


def _failure(directory: Path, error: str) -> PlaitError:
    if "No space left" in error or "Disk quota" in error:
        return StorageError(f"Could not start the run in {directory}: {error}.", "Free some space and start it again.")
    try:
        name = json.loads((directory / "run.json").read_bytes())["argv"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        name = directory.name
    return PlaitError(
        f"Could not start {name}: {error}.", "Check that the program is installed and that its directory exists."
    )


def _read_exit(directory: Path) -> Exit | None:
    path = directory / "exit.json"
    try:
        raw = json.loads(path.read_bytes())
        return _checked(Exit(**{name: raw[name] for name in Exit.__dataclass_fields__}))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"Could not read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        number = 1
        while (torn := path.with_name(f"exit.json.torn-{number}")).exists():
            number += 1
        with suppress(FileNotFoundError):
            path.rename(torn)
        return None


def _checked(found: Exit) -> Exit:
    """`found`, if its fields have their types and it claims no more than one outcome; raises ValueError."""
    numbers = [value for value in (found.code, found.signal) if value is not None]
    kinds = isinstance(found.reason, str) and isinstance(found.error, str | None) and isinstance(found.unknown, bool)
    counts = isinstance(found.output_bytes, int) and isinstance(found.at, float | int)
    if not (kinds and counts and all(type(value) is int for value in numbers)):
        raise ValueError("a field has another type")
    silent = found.unknown or found.reason == "exec-failed"
    if len(numbers) != (0 if silent else 1):
        raise ValueError("no or several outcomes")
    return found


def _is_locked(directory: Path) -> bool:
    """Whether a supervisor holds the lock; looking takes it for a moment, shared, so that lookers do not collide."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"Could not open {directory / 'lock'}: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _replace(path: Path, content: bytes) -> None:
    """Replace a file in one step, on disk when this returns."""
    temporary = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _reap() -> None:
    """Take leave of supervisors of ours that have ended, whose end says nothing that the run directory does not."""
    for pid, process in list(_children.items()):
        if process.poll() is not None:
            _children.pop(pid, None)
