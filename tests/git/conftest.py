"""What most tests here start from: a repository with three files, and its shadow."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.git.repo import find
from plait.git.shadow import Shadow, shadow
from tests.support.repo import make_repo


@pytest.fixture
def own_home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": "one\ntwo\nthree\n", "src/b.py": "print('b')\n", "tool.sh": "#!/bin/sh\n"})


@pytest.fixture
def shaded(top: Path, tmp_path: Path) -> Shadow:
    return shadow(find(top), tmp_path / "state")
