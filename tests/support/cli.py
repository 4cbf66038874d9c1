"""The command line as a user runs it: a real process, with a home of its own, against a real daemon."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.paths import Places
from tests.support.processes import eventually, proc
from tests.support.repo import make_repo

CONFIG = """
[limits]
max_running = 4
launch_interval_s = 0.0
review_backlog = 1000
min_free_memory_mb = 0
min_free_disk_gb = 0
[agents.sh]
kind = "command"
command = ["sh", "-c", "{prompt}"]
[agents.noop]
kind = "command"
command = ["true"]
[agents.missing]
kind = "command"
command = ["/nonexistent/agent"]
"""


@dataclass(frozen=True)
class Done:
    """How one command ended, and what it put out."""

    status: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class Plait:
    """One user's installation below a directory, and the command line on it."""

    def __init__(self, root: Path, config: str = CONFIG) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir(parents=True)
        (self.home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
        plait = root / "plait"
        self.places = Places(plait / "config", plait / "state", plait / "data", plait / "run")
        self.places.config.mkdir(parents=True)
        self.places.config_file.write_text(config)
        kept = ("PATH", "LANG", "LC_ALL", "TMPDIR")
        self.env = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.home),
            "PLAIT_HOME": str(plait),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "server"),
            "PYTHONUTF8": "1",
            "TERM": "xterm-256color",
        }

    def __call__(
        self, *words: str, cwd: Path | None = None, stdin: bytes = b"", status: int | None = 0, **env: str
    ) -> Done:
        """Run `plait` with these words; fail unless it ends with the status (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "plait", *words],
            cwd=cwd or self.root,
            env={**self.env, **env},
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        result = Done(done.returncode, done.stdout, done.stderr.decode())
        assert "Traceback" not in result.err, result.err
        assert status in (None, result.status), (words, result)
        return result

    def run(self, repo: Path, script: str, *words: str) -> str:
        """The id of a session in which a shell has run the script to its end."""
        answer = self("run", "Change it", "--wait", "--json", *words, "--", "sh", "-c", script, cwd=repo, status=None)
        identifier: str = answer.json["sessions"][0]["id"]
        return identifier

    def show(self, session: str) -> dict[str, Any]:
        found: dict[str, Any] = self("show", session, "--json").json
        return found

    def popen(self, *words: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """A `plait` that goes on, with pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "plait", *words],
            cwd=cwd or self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def processes(self) -> dict[int, bytes]:
        """Every process that has this installation's home, and what it runs."""
        mark = os.fsencode(f"HOME={self.home}")
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return {pid: proc(pid, "cmdline") for pid in pids if mark in proc(pid, "environ").split(b"\0")}

    def worktrees(self) -> list[Path]:
        """What lies where worktrees are put."""
        return sorted((self.places.data / "worktrees").glob("*/*"))

    def close(self) -> None:
        """End the daemon as a user would, and fail if any process of this installation is left."""
        self("daemon", "stop", status=None)
        try:
            eventually(lambda: not self.processes(), 20)
        finally:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def installed(root: Path, config: str = CONFIG) -> Iterator[Plait]:
    """An installation that is ended, and checked for what it left behind, with the `with`."""
    plait = Plait(root, config)
    try:
        yield plait
    finally:
        plait.close()


class Repos:
    """Repositories for the tests of one file, each with a name of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def __call__(self, files: Mapping[str, str | bytes] | None = None) -> Path:
        self.count += 1
        return make_repo(self.root / str(self.count), files or {"a.txt": numbered(40)})


def numbered(count: int) -> str:
    return "".join(f"line {number}\n" for number in range(1, count + 1))


class Terminal:
    """A command at a terminal: what stands on it so far, and keys pressed at it."""

    def __init__(self, plait: Plait, *words: str, cwd: Path, columns: int = 100, rows: int = 30) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "plait", *words],
            cwd=cwd,
            env={**plait.env, "COLUMNS": str(columns), "LINES": str(rows)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509  # only so does Ctrl-C at it reach the command
        )
        os.close(slave)

    def shows(self, text: str, seconds: float = 20.0) -> str:
        """Wait until the text appears after everything seen before; what came up to it, the text included."""
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} does not come; there is {self.text!r}"
            assert self._read(deadline), f"{text!r} did not come before the end; there is {self.text!r}"
        seen, _, self.text = self.text.partition(text)
        return seen + text

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ends(self, status: int) -> str:
        """What else it puts out until its end, which has to be of this status."""
        deadline = time.monotonic() + 20
        while self._read(deadline):
            assert time.monotonic() < deadline, f"it goes on: {self.text!r}"
        assert self.process.wait(20) == status, self.text
        return self.text

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self.master)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def _read(self, deadline: float) -> bool:
        if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return True
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:
            # Linux's way of saying that nobody holds the other side any more.
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def terminal(plait: Plait, *words: str, cwd: Path, columns: int = 100, rows: int = 30) -> Iterator[Terminal]:
    opened = Terminal(plait, *words, cwd=cwd, columns=columns, rows=rows)
    try:
        yield opened
    finally:
        opened.close()
