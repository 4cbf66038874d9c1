"""What the processes of a run take from the machine now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil


def resources(directory: Path) -> dict[str, Any] | None:
    """Processes, memory in bytes and CPU seconds of a run's whole process tree; none if it has none."""
    try:
        known = json.loads((directory / "supervisor.json").read_bytes())
        top = psutil.Process(int(known["agent_pid"]))
        tree = [top, *top.children(recursive=True)]
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    memory, cpu, processes = 0, 0.0, 0
    for process in tree:
        try:
            with process.oneshot():
                times = process.cpu_times()
                memory += process.memory_info().rss
                cpu += times.user + times.system
                processes += 1
        except psutil.Error:
            # It ended while we looked.
            continue
    return {"processes": processes, "memory": memory, "cpu_s": round(cpu, 2)}
