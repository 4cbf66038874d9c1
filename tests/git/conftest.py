"""An own identity, home and configuration for every test here."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.git.repo import find
from plait.git.shadow import Shadow, shadow
from tests.support.repo import make_repo


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "plait"))
    (home / ".gitconfig").write_text(
        '[user]\n\tname = Ada\n\temail = ada@example.org\n[protocol "file"]\n\tallow = always\n[advice]\n\tdetachedHead = false\n'
    )
    return home


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": "one\ntwo\nthree\n", "src/b.py": "print('b')\n", "tool.sh": "#!/bin/sh\n"})


@pytest.fixture
def shaded(top: Path, tmp_path: Path) -> Shadow:
    return shadow(find(top), tmp_path / "state")
