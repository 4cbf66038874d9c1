"""Which version a program is: from its package where it has one, else from its `--version`, remembered until the file
changes.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from plait.engine.programs import package_root, read_json
from plait.environment import pass_on

PATIENCE_S = 10.0
"""How long a program may take to say its version; those that are slow take 4 s on a busy machine."""


class Versions:
    """What is known of the versions of programs, in memory and, if it has a file, on disk."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, str] | None = None
        """Path, size and times of a program as one text → its version."""
        self._silent: set[str] = set()
        """Those that do not say it; a program that was slow once is asked again by the next one who looks."""
        self._learned = False

    def of_package(self, program: str, package: str) -> str | None:
        """The version of the npm package that a command belongs to."""
        root = package_root(program, package) if package else None
        document = read_json(root / "package.json") if root else None
        version = document.get("version") if isinstance(document, dict) else None
        return version if isinstance(version, str) else None

    def of_distribution(self, interpreter: str, distribution: str) -> str | None:
        """The version of a distribution in a Python environment of its own."""
        # Not resolved: the interpreter of a virtual environment is a link out of it.
        for metadata in Path(interpreter).parent.parent.glob(f"lib/python3*/site-packages/{distribution}-*.dist-info"):
            return metadata.name.removeprefix(f"{distribution}-").removesuffix(".dist-info")
        return None

    def of_program(self, program: str, environment: Mapping[str, str], *, ask: bool) -> str | None:
        """What the program says with `--version`; None if it does not, or if it may not be asked and is not known."""
        key = _identity(program)
        if key is None:
            return None
        with self._lock:
            known = self._read()
            if key in known or key in self._silent or not ask:
                return known.get(key)
        version = _asked(program, environment)
        with self._lock:
            if version is None:
                self._silent.add(key)
            else:
                self._read()[key] = version
                self._learned = True
        return version

    def save(self) -> None:
        """Keep what was learned; that it cannot be kept is no reason to fail, it is only learned again."""
        with self._lock:
            if self._file is None or not self._learned:
                return
            kept = dict(list(self._read().items())[-_KEPT:])
            with suppress(OSError):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile("w", dir=self._file.parent, delete=False, encoding="utf-8") as new:
                    json.dump(kept, new)
                Path(new.name).replace(self._file)
                self._learned = False

    def _read(self) -> dict[str, str]:
        if self._known is None:
            document = read_json(self._file) if self._file else None
            known = document.items() if isinstance(document, dict) else ()
            self._known = {key: value for key, value in known if isinstance(value, str)}
        return self._known


_KEPT = 100
_MOST = 65_536
"""Bytes of an answer that are looked at."""
_VERSION = re.compile(r"\b\d+\.\d[\w.+-]*(?<![.+-])")


def _identity(program: str) -> str | None:
    try:
        found = Path(program).stat()
    except OSError:
        return None
    return f"{program}\0{found.st_ino}\0{found.st_size}\0{found.st_mtime_ns}"


def _asked(program: str, environment: Mapping[str, str]) -> str | None:
    """Runs in an empty directory, so that it finds no project, and without what agents may have."""
    with tempfile.TemporaryDirectory(prefix="plait-version-") as scratch, tempfile.TemporaryFile() as answer:
        try:
            process = subprocess.Popen(
                [program, "--version"],
                cwd=scratch,
                env={**pass_on(environment), **_QUIET},
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return None
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            # Not waited for yet, so that its number still belongs to it and to what it started.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
        return _version_in(answer) if status == 0 else None


_QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "COPILOT_AUTO_UPDATE": "false",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "NO_COLOR": "1",
}
"""A program that is asked for its version is not to replace itself meanwhile."""


def _version_in(answer: IO[bytes]) -> str | None:
    answer.seek(0)
    match = _VERSION.search(answer.read(_MOST).decode("utf-8", "replace"))
    return match[0] if match else None
