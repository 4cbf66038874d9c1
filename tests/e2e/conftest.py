"""What the stories start with: a repository, an installation whose agent is a shell, and an editor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plait.rpc import Caller
from tests.support.editor import Editor
from tests.support.plait import Plait, installed
from tests.support.repo import LINES, make_repo


@pytest.fixture
def plait(tmp_path: Path) -> Iterator[Plait]:
    with installed(tmp_path / "plait", {"sh": ["sh", "-c", "{prompt}"]}) as made:
        yield made


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": LINES})


@pytest.fixture
def caller(plait: Plait) -> Caller:
    return plait.connect()


@pytest.fixture
def editor(plait: Plait) -> Iterator[Editor]:
    made = Editor()
    yield made
    made.close()
