"""Every test has a home of its own; the suite refuses to run where it could touch the user's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# A shell that runs the suite in the background has it ignore Ctrl-C, and what it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

GITCONFIG = """[user]
	name = Ada
	email = ada@example.org
[protocol "file"]
	allow = always
[advice]
	detachedHead = false
"""

_REAL_HOME = Path(os.path.expanduser("~"))  # noqa: PTH111 - the name as the shell has it, before any test changes it


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    assert not _REAL_HOME.is_relative_to(tmp_path), "the tests' temporary directory must not hold the user's home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "plait"))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (home / ".gitconfig").write_text(GITCONFIG)
