"""Real daemons and proxies for tests, each in a home of its own, ended when the test ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plait import dial
from plait.paths import Places
from plait.rpc import Caller
from tests.support.tiny_program import COMMAND, PROGRAM

ROOT = Path(__file__).resolve().parents[2]


class Home:
    """One user's installation, below a directory of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = Places(root / "config", root / "state", root / "data", root / "run")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PLAIT", "XDG"))},
            "PLAIT_HOME": str(root),
            "PYTHONPATH": os.pathsep.join((str(ROOT / "server"), str(ROOT))),
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, wait: bool = True, **env: str) -> subprocess.Popen[bytes]:
        """A process of the program; with `wait`, returns when its daemon serves."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "stderr.log").open("ab") as errors:
            process = subprocess.Popen(
                [*PROGRAM, *(arguments or ("daemon", "run"))],
                env={**self.env, **env},
                stdin=subprocess.PIPE if arguments else subprocess.DEVNULL,
                stdout=subprocess.PIPE if arguments else errors,
                stderr=errors,
            )
        self.started.append(process)
        if wait:
            until(lambda: dial.manifest_file(self.places).exists() or process.poll() is not None)
        return process

    def caller(self, start: bool = False) -> Caller:
        """A client of this home's daemon that has introduced itself."""
        caller = Caller(dial.dial(self.places, start=start, command=COMMAND))
        try:
            caller.introduce("test")
        except BaseException:
            caller.close()
            raise
        return caller

    def status(self) -> dict[str, object]:
        with self.caller() as caller:
            status: dict[str, object] = caller.request("plait/daemon/status", timeout_s=10)
            return status

    def pid(self) -> int:
        found = dial.manifest(self.places)
        assert found is not None
        return found.pid

    def engine_log(self) -> list[str]:
        return (self.places.state / "engine.log").read_text().splitlines()

    def errors(self) -> str:
        return (self.root / "stderr.log").read_text()


@contextmanager
def home(root: Path) -> Iterator[Home]:
    """A home whose daemons all end with the `with`, and whose environment is this process's meanwhile."""
    made = Home(root)
    before = dict(os.environ)
    os.environ.update({name: made.env[name] for name in ("PLAIT_HOME", "PYTHONPATH")})
    try:
        yield made
    finally:
        os.environ.clear()
        os.environ.update(before)
        found = dial.manifest(made.places)
        if found is not None and belongs_to(found.pid, root):
            os.kill(found.pid, signal.SIGCONT)
            os.kill(found.pid, signal.SIGKILL)
        for process in (*made.started, *dial._started):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
        dial._started.clear()


def belongs_to(pid: int, root: Path) -> bool:
    """Whether the process is one of the home at `root`, so that no other one is ever ended."""
    try:
        return f"PLAIT_HOME={root}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return False


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Returns as soon as `condition` holds; fails if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True
