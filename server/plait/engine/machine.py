"""What the machine has left now."""

from __future__ import annotations

from pathlib import Path

import psutil

from plait.core.admission import Machine


def measure(place: Path) -> Machine:
    """Free memory, and free disk where worktrees are put; a figure that cannot be had is none."""
    existing = next((path for path in (place, *place.parents) if path.exists()), Path("/"))
    try:
        disk: int | None = psutil.disk_usage(str(existing)).free
    except OSError:
        disk = None
    return Machine(free_memory=psutil.virtual_memory().available, free_disk=disk)
