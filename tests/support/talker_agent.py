"""The process of the scripted agent: takes the steps that its task consists of; see talker.py."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Take the steps, and leave when the input is closed."""
    heard: dict[str, Any] = {}
    for line in sys.argv[1].split("\n")[1:]:
        step = json.loads(line) if line.strip() else {}
        match step:
            case "say" | "answer":
                while step not in heard and (said := sys.stdin.readline()):
                    heard = json.loads(said)
                put({"type": "message", "text": f"heard {json.dumps(heard.pop(step, None))}"})
            case "delivered":
                put({"type": "delivered", "id": heard["id"]})
            case str():
                while not Path(step.removeprefix("gate ")).exists():
                    time.sleep(0.01)
            case _:
                put(step)
    sys.stdin.read()


def put(report: object) -> None:
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
