"""An installation and repositories for measurements, below one temporary directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@plait.invalid", "-c", "gc.auto=0")


@contextmanager
def place() -> Iterator[Path]:
    """A directory that holds a Plait installation of its own, whose daemon is stopped afterwards.

    In memory where that is possible: what is measured is the work, not the disk.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="plait-bench-") as name:
        before = os.environ.get("PLAIT_HOME")
        os.environ["PLAIT_HOME"] = str(Path(name, "plait"))
        try:
            yield Path(name)
        finally:
            subprocess.run([sys.executable, "-m", "plait", "daemon", "stop"], capture_output=True, check=False)
            os.environ.pop("PLAIT_HOME")
            if before is not None:
                os.environ["PLAIT_HOME"] = before


def repository(top: Path, files: int, lines: int) -> Path:
    """A repository of `files` files of `lines` lines each, with one commit."""
    for number in range(files):
        path = top / f"d{number % 60}" / f"f{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"value_{number}_{line} = {line}\n" for line in range(lines)))
    git(top, "init", "--quiet", "--initial-branch=main")
    git(top, "config", "user.name", "bench")
    git(top, "config", "user.email", "bench@plait.invalid")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "--message", "Start")
    return top


def git(top: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=top, check=True, capture_output=True, text=True).stdout
