"""`plait doctor`: is everything there that Plait needs, and what to do if not."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from plait import __version__
from plait.cli import client, screen
from plait.cli.options import AsJson
from plait.cli.text import count, one_line, safe, size, span
from plait.core.config import Problem, UserConfig, parse_user
from plait.dial import NoDaemonError, last_lines, version_key
from plait.errors import PlaitError
from plait.paths import places

OLDEST_GIT = (2, 38)
"""The first with `git merge-tree --write-tree`."""
FEW_WATCHES = 65_536
"""Below this number of inotify watches a few large worktrees cannot be watched."""
FEW_FILES = 1024


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warn", "fail"]
    message: str
    hint: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Check what Plait needs: git, directories, the daemon, the configuration, the machine."""
    found = [finding for check in CHECKS for finding in _tried(check)]
    failed = any(finding.state == "fail" for finding in found)
    if as_json:
        screen.put_json({"ok": not failed, "checks": [asdict(finding) for finding in found]})
    else:
        _show(found)
    if failed:
        raise typer.Exit(1)


def _git() -> Iterator[Finding]:
    from plait.git.run import version

    if shutil.which("git") is None:
        yield Finding("git", "fail", "git is not on your PATH.", "Install git 2.38 or newer.")
        return
    found = version()
    said = ".".join(map(str, found))
    if found < OLDEST_GIT:
        yield Finding("git", "fail", f"git {said} is too old.", "Install git 2.38 or newer.")
    else:
        yield Finding("git", "ok", f"git {said}")


def _directories() -> Iterator[Finding]:
    here = places()
    for name, path in (("config", here.config), ("state", here.state), ("data", here.data), ("runtime", here.runtime)):
        yield _directory(name, path)


def _directory(name: str, path: Path) -> Finding:
    try:
        found = path.stat()
    except FileNotFoundError:
        parent = next(parent for parent in path.parents if parent.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding(f"{name} directory", "ok", f"{path} (will be made)")
        return Finding(
            f"{name} directory", "fail", f"{path} cannot be made in {parent}.", "Let it be writable, or set PLAIT_HOME."
        )
    except OSError as error:
        return Finding(f"{name} directory", "fail", f"{path}: {error.strerror}.", "Set PLAIT_HOME to another place.")
    if found.st_uid != os.getuid():
        return Finding(f"{name} directory", "fail", f"{path} belongs to another user.", "Set PLAIT_HOME to your own.")
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding(f"{name} directory", "fail", f"{path} is not writable.", f"chmod u+rwx {path}")
    return Finding(f"{name} directory", "ok", str(path))


def _daemon() -> Iterator[Finding]:
    try:
        if not places().runtime.exists():
            # Dialling would make the directory, and looking shall change nothing.
            raise NoDaemonError("No plait daemon is running.")
        with client.connect(start=False) as caller:
            said = caller.request("plait/daemon/status", timeout_s=10)
    except NoDaemonError:
        yield Finding("daemon", "ok", "does not run; the next command starts it")
        return
    except TimeoutError:
        yield Finding("daemon", "fail", "It does not answer.", "plait daemon restart; agents go on meanwhile.")
        return
    about = (
        f"plait {said['version']}, pid {said['pid']}, up {span(said['uptime_s'])}, {count(said['sessions'], 'session')}"
    )
    if version_key(said["version"]) != version_key(__version__):
        yield Finding("daemon", "warn", f"{about}; this is {__version__}", "plait daemon restart")
    else:
        yield Finding("daemon", "ok", about)
    if said["crashes"]:
        lines = [line for line in last_lines(places().log, 40) if " ERROR " in line or " WARNING " in line][-3:]
        told = f": {' / '.join(lines)}" if lines else ""
        yield Finding("daemon", "warn", f"It ended unexpectedly not long ago{told}", f"The log is {places().log}.")
    for problem in said["problems"]:
        yield Finding("daemon", "warn", one_line(problem))


def _configuration() -> Iterator[Finding]:
    path = places().config_file
    config, problems = _configured()
    if not problems:
        yield Finding("config.toml", "ok", str(path) if path.exists() else f"{path} (none; the defaults hold)")
    for problem in problems:
        line = f", line {problem.line}" if problem.line else ""
        yield Finding(
            "config.toml", "warn", f"{path}{line}: {problem.message}", "Correct it; it is read again at once."
        )
    for name, agent in sorted(config.agents.items()):
        program = agent.command[0] if agent.command else ""
        # A relative path counts from each worktree, and is checked when a session is made.
        if program and not ("/" in program and not program.startswith("/")) and shutil.which(program) is None:
            yield Finding(
                f"agent {name}", "warn", f"{program} cannot be executed.", "Install it, or correct config.toml."
            )


def _configured() -> tuple[UserConfig, tuple[Problem, ...]]:
    path = places().config_file
    try:
        return parse_user(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return UserConfig(), ()
    except UnicodeDecodeError:
        return UserConfig(), (Problem("it is not UTF-8; the defaults hold."),)
    except OSError as error:
        return UserConfig(), (Problem(f"it could not be read ({error.strerror}); the defaults hold."),)


def _machine() -> Iterator[Finding]:
    from plait.engine.machine import measure

    limits = _configured()[0].limits
    free = measure(places().data)
    if free.free_disk is not None:
        needed = limits.min_free_disk_gb * 10**9
        state: Literal["ok", "warn"] = "ok" if free.free_disk >= needed else "warn"
        hint = "" if state == "ok" else f"No session starts below {size(needed)}; `plait clean` makes room."
        yield Finding("disk", state, f"{size(free.free_disk)} free where worktrees are put", hint)
    if free.free_memory is not None:
        needed = limits.min_free_memory_mb * 10**6
        state = "ok" if free.free_memory >= needed else "warn"
        hint = "" if state == "ok" else f"No session starts below {size(needed)}."
        yield Finding("memory", state, f"{size(free.free_memory)} free", hint)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FEW_FILES:
        yield Finding("open files", "warn", f"This shell allows {soft}.", f"ulimit -n {FEW_FILES * 4}")
    else:
        yield Finding("open files", "ok", f"{soft} allowed" if hard != soft else f"{soft} allowed at most")


def _linux() -> Iterator[Finding]:
    if sys.platform != "linux":
        return
    try:
        watches = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
    except (OSError, ValueError):
        watches = None
    if watches is not None and watches < FEW_WATCHES:
        hint = "sudo sysctl fs.inotify.max_user_watches=524288 (in /etc/sysctl.d to keep it)"
        yield Finding("inotify", "warn", f"only {watches} watches; large worktrees may not be watched", hint)
    elif watches is not None:
        yield Finding("inotify", "ok", f"{watches} watches")
    if Path("/run/systemd/system").is_dir():
        yield _linger()


def _linger() -> Finding:
    """systemd ends what a user runs at logout where it is told to, and empties /run/user in any case."""
    import getpass

    if (Path("/var/lib/systemd/linger") / getpass.getuser()).exists():
        return Finding("logout", "ok", "agents go on after you log out")
    remote = "SSH_CONNECTION" in os.environ
    return Finding(
        "logout",
        "warn" if remote else "ok",
        "agents may be ended when you log out",
        "loginctl enable-linger lets them go on.",
    )


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_git, _directories, _configuration, _daemon, _machine, _linux)


def _tried(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check found; that it failed itself is a finding too."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except PlaitError as error:
        found.append(Finding(check.__name__.strip("_"), "fail", error.message, error.hint))
    return found


def _show(found: list[Finding]) -> None:
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for finding in found:
        line = Text.assemble(
            (f"{finding.state:<4}", styles[finding.state]), f"  {finding.name:<18} ", safe(finding.message)
        )
        screen.put_styled(line)
        if finding.hint:
            screen.put_styled(Text(f"{'':26}{safe(finding.hint)}", "dim"))
