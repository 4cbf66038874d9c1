"""How soon `plait lsp` is up, against a bare Python start."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from bench.pairs import measured, report
from bench.place import place
from plait.dial import dial
from plait.paths import places
from plait.wire import Framer, frame

INITIALIZE = frame(
    json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": {}}}).encode()
)


def main(rounds: int = 21) -> None:
    with place():
        dial(places()).close()
        taken = measured(
            {
                "bare Python": lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
                "plait lsp, initialize answered": _initialized,
                "import pygls.lsp.server": lambda: subprocess.run(
                    [sys.executable, "-c", "import pygls.lsp.server"], check=True
                ),
            },
            rounds,
        )
    report(taken, "bare Python")


def _initialized() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "plait", "lsp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(INITIALIZE)
        process.stdin.flush()
        framer = Framer()
        while not framer.feed(os.read(process.stdout.fileno(), 1 << 16)):
            pass
        process.kill()
