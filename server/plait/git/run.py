"""How a git process is started, and what its failures mean; the only place where one is.

A fixed argument list and never a shell; no inherited `GIT_*`; no hook, no file system monitor, no automatic
gc, no network. A process that takes too long is asked to end (TERM) and never killed, because git cleans up
after the one and corrupts a repository by the other.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.errors import GitError

_ALWAYS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "i18n.commitEncoding=utf-8",
    "i18n.logOutputEncoding=utf-8",
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_ADVICE": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_EDITOR": "false",
}
# On a busy machine the other git may not get its turn for a while.
_PAUSES_S = (0.02, 0.1, 0.4, 1.5)
_INSTALL = "Install git 2.38 or newer and have it on the PATH."
_GRACE_S = 15.0

# `git worktree add` of anybody makes readers fail for the instant between creating and filling a file.
_COMMONDIR_RACE = re.compile(rb"failed to read (?P<file>\S*?worktrees/[^/\n]+/commondir)")
_LOCK_HELD = re.compile(
    r"Unable to create '(?P<file>[^'\n]+\.lock)': File exists|could not lock config file (?P<config>\S+): File exists"
)
_MISSING = re.compile(r"unable to read (tree|sha1 file)|(bad|invalid|missing) (object|blob|tree)")
_UNSAFE = re.compile(r"git config --global --add safe\.directory .+")


@dataclass(frozen=True)
class Result:
    """What a finished git process left: its exit status, its output, and its complaints as text."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """The output as text without the final newline; bytes that are not UTF-8 survive as surrogates."""
        return decoded(self.out).removesuffix("\n")

    @property
    def fields(self) -> list[str]:
        """The NUL-terminated fields of the output."""
        return decoded(self.out).removesuffix("\0").split("\0") if self.out else []


def git(
    args: Sequence[str],
    *,
    cwd: Path,
    git_dir: Path | None = None,
    work_tree: Path | None = None,
    index: Path | None = None,
    objects: Path | None = None,
    alternates: Sequence[Path] = (),
    config: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float = 120.0,
    check: bool = True,
    writes: bool = False,
    keep_open: Sequence[int] = (),
) -> Result:
    """Run git in `cwd` and return what came of it.

    `objects` and `alternates` say where new objects go and where else objects are read. `config` holds
    further `key=value`. `keep_open` are descriptors that the process inherits: a lock lives on in a git
    that outlives us. A command that `writes` is never repeated; others are, on the one race that git is
    known to have. With `check`, an exit status other than 0 raises.

    Raises GitError when git is missing, fails, or does not end in `timeout_s` seconds.
    """
    variables = dict(_ENVIRONMENT)
    for name, place in (
        ("GIT_DIR", git_dir),
        ("GIT_WORK_TREE", work_tree),
        ("GIT_INDEX_FILE", index),
        ("GIT_OBJECT_DIRECTORY", objects),
    ):
        if place is not None:
            variables[name] = os.fspath(place)
    if alternates:
        variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = ":".join(_quoted(place) for place in alternates)
    variables.update(environment or {})
    settings = [part for setting in (*_ALWAYS, *config) for part in ("-c", setting)]
    for pause_s in (*_PAUSES_S, None):
        result = _run([*settings, "--no-pager"], args, cwd, variables, stdin, timeout_s, keep_open)
        raced = result.status != 0 and _COMMONDIR_RACE.search(encoded(result.err))
        if not raced or writes or pause_s is None:
            break
        time.sleep(pause_s)
    if check and result.status != 0:
        raise failure(args, result)
    return result


def failure(args: Sequence[str], result: Result) -> GitError:
    """The error for a git that ended badly: its own words, and a hint where one is known."""
    lines = [line.strip() for line in result.err.splitlines() if line.strip()]
    words = "; ".join(re.sub(r"^(fatal|error): ", "", line) for line in lines[:4])[:600]
    if not words:
        words = f"it ended with status {result.status} and said nothing"
    return GitError(f"git {_verb(args)} failed: {words}", _hint(result.err), {"status": result.status})


def decoded(data: bytes) -> str:
    """git's bytes as text in which every path survives: not UTF-8 becomes lone surrogates, and back in
    `encoded`."""
    return data.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """The bytes that `decoded` read."""
    return text.encode("utf-8", "surrogateescape")


@functools.lru_cache(maxsize=1)
def version() -> tuple[int, ...]:
    """The version of the installed git, such as (2, 39, 5)."""
    said = git(["version"], cwd=Path("/")).text
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    if found is None:
        raise GitError(f"git did not say its version: {said!r}.", "Install git 2.38 or newer.")
    return tuple(int(part) for part in found.groups(default="0"))


def _hint(err: str) -> str:
    held = _LOCK_HELD.search(err)
    if held:
        file = held["file"] or f"{held['config']}.lock"
        return f"Another git process holds {file}. If none is running any more, remove that file and try again."
    raced = _COMMONDIR_RACE.search(encoded(err))
    if raced:
        broken = decoded(raced["file"]).removesuffix("/commondir")
        return (
            f"If no git is running, a killed `git worktree add` left {broken} half made: "
            "remove that directory to repair git."
        )
    if "dubious ownership" in err:
        command = _UNSAFE.search(err)
        return (
            f"If you trust it, run: {command[0].strip()}"
            if command
            else "Add it to git's safe.directory if you trust it."
        )
    if "No space left on device" in err:
        return "The disk is full; free some space and try again. Nothing was removed."
    if _MISSING.search(err):
        return "An object is missing: after gc --prune=now, or in a partial clone; try git fetch --refetch."
    return ""


def _verb(args: Sequence[str]) -> str:
    words = [arg for arg in args[:2] if not arg.startswith("-")]
    return " ".join(words[: 2 if words[:1] == ["worktree"] else 1])


def _quoted(place: Path) -> str:
    # A colon separates directories, so that a path is quoted the way git reads it back.
    text = os.fspath(place).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


@functools.lru_cache(maxsize=1)
def _command() -> Any:
    """GitPython's command class, loaded at the first use: loading it costs a tenth of a second and starts a
    git."""
    _scrub()
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    try:
        return importlib.import_module("git.cmd").Git
    except ImportError as error:
        raise GitError(f"git could not start: {error}.", _INSTALL) from error
    finally:
        _scrub()


def _scrub() -> None:
    # GitPython hands on all of `os.environ`. An inherited GIT_DIR or GIT_CONFIG_* would point git somewhere
    # else, and this process has no use of its own for any of them.
    for name in list(os.environ):
        if name.startswith("GIT_"):
            os.environ.pop(name, None)


def _run(
    settings: Sequence[str],
    args: Sequence[str],
    cwd: Path,
    variables: Mapping[str, str],
    stdin: bytes,
    timeout_s: float,
    keep_open: Sequence[int],
) -> Result:
    command = _command()
    _scrub()
    if not cwd.is_dir():
        # GitPython would run in our own working directory instead.
        raise GitError(f"git could not start: the directory {cwd} is gone.")
    try:
        handle = command(os.fspath(cwd)).execute(
            [command.GIT_PYTHON_GIT_EXECUTABLE or "git", *settings, *args],
            istream=subprocess.PIPE,
            as_process=True,
            env=variables,
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )
    except Exception as error:
        # GitPython turns a missing program into an exception of its own; the rest is OSError and ValueError
        # (a NUL in a path).
        raise GitError(f"git could not start: {error}.", _INSTALL) from error
    # The wrapper signals and waits when it is collected; the process is ours to end.
    process: subprocess.Popen[bytes] = handle.proc
    handle.proc = None
    try:
        out, err = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _ask_to_end(process)
        raise GitError(
            f"git {_verb(args)} did not finish within {timeout_s:g} s and was asked to stop.",
            "The disk or a filter program may be stuck.",
        ) from None
    return Result(process.returncode, out, decoded(err))


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        # It may be stuck in the kernel. It keeps what locks it holds, and somebody who reads until it ends.
        threading.Thread(target=process.communicate, name="git that does not end", daemon=True).start()
