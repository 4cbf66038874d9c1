"""What every test of the supervisor has."""

from __future__ import annotations

import os
import subprocess
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


@pytest.fixture
def disk(bench: Bench) -> Iterator[Path]:
    """A file system of 512 KiB that the bench's runs are on."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    found = bench.root / "disk"
    found.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(found)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    bench.root = found
    yield found
    bench.clear()
    subprocess.run(["umount", "-l", found], check=True)
