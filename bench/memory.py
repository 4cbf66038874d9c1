"""What a supervisor and a proxy take of the machine's memory."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.place import place
from plait.dial import dial
from plait.paths import places
from plait.supervisor import runs


def main(count: int = 20) -> None:
    with place() as root:
        private, proportional = asyncio.run(_supervisors(root, count))
        print(f"  {count} supervisors: private {private:.1f} MiB, proportional {proportional:.1f} MiB each (median)")
        dial(places()).close()
        with subprocess.Popen([sys.executable, "-m", "plait", "lsp"], stdin=subprocess.PIPE) as proxy:
            bare = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            time.sleep(0.5)
            print(f"  plait lsp: private {_memory(proxy.pid)[0]:.1f} MiB; bare Python {_memory(bare.pid)[0]:.1f} MiB")
            bare.kill()
            bare.communicate()
            proxy.kill()


async def _supervisors(root: Path, count: int) -> tuple[float, float]:
    directories = [root / "runs" / str(number) for number in range(count)]
    for number, directory in enumerate(directories):
        runs.prepare(directory, runs.RunSpec(run=f"bench-{number}", argv=("sleep", "600"), cwd=root))
        await runs.start(directory, {"PATH": "/usr/bin:/bin"})
    figures = [_memory(_pid(directory)) for directory in directories]
    for directory in directories:
        await runs.stop(directory, grace_s=0.5)
    for directory in directories:
        await runs.wait(directory)
    return statistics.median(one for one, _ in figures), statistics.median(other for _, other in figures)


def _pid(directory: Path) -> int:
    return int(json.loads((directory / "supervisor.json").read_bytes())["pid"])


def _memory(pid: int) -> tuple[float, float]:
    """Private and proportional memory in MiB."""
    rollup = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:] if ":" in line
    )
    kib = {key: int(value.split()[0]) for key, value in rollup.items()}
    return (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024, kib["Pss"] / 1024
