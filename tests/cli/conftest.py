"""One installation, with its daemon, for the tests of each file; each test has a repository of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cli import Plait, Repos, installed


@pytest.fixture(scope="module")
def plait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plait]:
    with installed(tmp_path_factory.mktemp("cli")) as made:
        yield made


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> Repos:
    return Repos(tmp_path_factory.mktemp("repos"))
