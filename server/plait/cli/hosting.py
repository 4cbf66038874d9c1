"""`plait daemon`, `plait exec` and `plait lsp`: the process behind all the others."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory
from plait.cli.text import count, one_line, safe, span
from plait.dial import PATIENCE_S, NoDaemonError, dial, manifest
from plait.errors import NothingToDo, PlaitError, UsageError
from plait.paths import places
from plait.rpc import ConnectionLostError

app = typer.Typer(no_args_is_help=True, help="The background process that keeps the sessions.")

_WITH_ENVIRONMENT = ("run", "say", "resume", "retry")
"""What starts processes, and therefore takes the caller's environment along."""


@app.command("status")
def status(as_json: AsJson = False) -> None:
    """Show the daemon's process, version, socket and clients."""
    with client.connect(start=False) as caller:
        said = caller.request("plait/daemon/status", timeout_s=PATIENCE_S)
    if as_json:
        screen.put_json(said)
        return
    screen.put(f"plait {said['version']}, pid {said['pid']}, up {span(said['uptime_s'])}")
    screen.put(f"socket    {safe(said['socket'])}")
    screen.put(f"log       {safe(said['log'])}")
    running = said["counts"]["running"]
    screen.put(f"sessions  {said['sessions']}, {running} running")
    screen.put(f"clients   {said['connections']}, of them {count(said['editors'], 'editor')}")
    for problem in said["problems"]:
        screen.put(f"problem   {one_line(problem)}")


@app.command("stop")
def stop() -> None:
    """End the daemon; agents go on, and the next command finds them again."""
    pid = _stop("plait daemon stop")
    if pid is None:
        raise NothingToDo("No plait daemon is running.")
    screen.put(f"The daemon (pid {pid}) has ended.")


@app.command("restart")
def restart() -> None:
    """End the daemon and start it again; agents go on meanwhile."""
    _stop("plait daemon restart")
    dial(places()).close()
    known = manifest(places())
    screen.put("The daemon runs again." if known is None else f"The daemon runs again (pid {known.pid}).")


@app.command("run")
def run() -> None:
    """Be the daemon, in the foreground; its log goes to stderr."""
    _as_program("daemon", "run")


def lsp(
    stdio: Annotated[bool, typer.Option("--stdio", help="Accepted and ignored: there is no other way.")] = False,
) -> None:
    """Be the language server of an editor, on stdin and stdout."""
    _as_program("lsp")


def execute(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="`plait/sessions`, `plait.session.stop`, …")],
    argument: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="One object; `-` reads it from stdin.")
    ] = None,
    directory: Directory = None,
) -> None:
    """Make any plait/… request or plait.… command, and show the answer as JSON."""
    params = _parsed(sys.stdin.buffer.read().decode("utf-8", "replace") if argument == "-" else argument)
    name = method.rpartition("/")[2].rpartition(".")[2]
    if name in _WITH_ENVIRONMENT:
        params.setdefault("env", client.environment())
    if name == "run":
        params.setdefault("path", client.here())
    with client.connect() as caller:
        if method.startswith("plait/"):
            answer = caller.request(method, params)
        elif method.startswith("plait."):
            answer = caller.request("workspace/executeCommand", {"command": method, "arguments": [params]})
        else:
            raise UsageError(f"{method!r} is neither a plait/… request nor a plait.… command.")
    screen.put_json(answer)


def _parsed(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        params = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"The argument is not JSON: {error}.", 'Quote it for the shell: \'{"session": "…"}\'.'
        ) from None
    if not isinstance(params, dict):
        raise UsageError("The argument must be one JSON object.")
    return params


def _stop(reason: str) -> int | None:
    """The pid of the daemon that has ended, or none if none ran. Raises PlaitError if it does not end in time."""
    known = manifest(places())
    try:
        caller = client.connect(start=False)
    except NoDaemonError:
        return None
    with caller:
        pid: int = caller.request("plait/daemon/stop", {"reason": reason}, timeout_s=PATIENCE_S)["pid"]
        deadline = time.monotonic() + PATIENCE_S
        try:
            while True:
                caller.listen(timeout_s=max(0.01, deadline - time.monotonic()))
        except (ConnectionLostError, TimeoutError):
            pass
    # It keeps its lock to its very end; a successor may take it at once.
    while not _lock_is_free() and (manifest(places()) or known) == known:
        if time.monotonic() > deadline:
            raise PlaitError(f"The daemon (pid {pid}) has not ended yet.", f"Its log is {places().log}.")
        time.sleep(0.02)
    return pid


def _lock_is_free() -> bool:
    try:
        lock = os.open(places().lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _as_program(*words: str) -> None:
    """What `plait.__main__` does at once when these words come first, and does here when they come later."""
    os.execv(sys.executable, [sys.executable, "-m", "plait", *words])  # noqa: S606  # no shell is what is wanted
