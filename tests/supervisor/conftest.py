"""What every test of the supervisor has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.processes import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Runs below the test's own directory, none of which outlives it."""
    found = Bench(tmp_path)
    yield found
    found.clear()
