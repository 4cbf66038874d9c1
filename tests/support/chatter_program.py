"""A small agent that does what its messages say, and speaks lines of JSON; run as a program by `chatter`.

A message is a list of orders separated by `;`: `write PATH TEXT`, `ask TITLE`, `question TEXT`, `use TOKENS`,
`wait` (until another message comes), `spin` (until it is interrupted), `stay` (does not leave at the end of its
input), `die STATUS`, `babble BYTES` (says so much in many lines), `save PATH TEXT` (has its client write a file).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


def tell(**message: Any) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def hear() -> dict[str, Any] | None:
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def do(order: str) -> bool:
    """Carry out an order; False if the turn was interrupted."""
    verb, _, rest = order.strip().partition(" ")
    if verb == "write":
        path, _, text = rest.partition(" ")
        tell(tool=path)
        with Path(path).open("a") as file:
            file.write(text + "\n")
        tell(tool_end=path)
    elif verb in ("ask", "question"):
        tell(**{verb: rest})
        heard = hear()
        if heard is None or "interrupt" in heard:
            return False
        tell(message=f"heard {heard.get('option') or heard.get('answers')}")
        return bool(heard.get("option") != "no")
    elif verb == "use":
        tell(use=int(rest))
    elif verb == "wait":
        tell(message="waiting")
        heard = hear()
        if heard is None or "interrupt" in heard:
            return False
        tell(got=heard["id"])
        return do(heard["say"])
    elif verb == "spin":
        tell(message="spinning")
        while (heard := hear()) and "interrupt" not in heard:
            pass
        return False
    elif verb == "babble":
        for _ in range(int(rest) // 1000):
            tell(message="x" * 980)
    elif verb == "save":
        tell(save=rest)
        heard = hear()
        tell(message=f"saved {heard}")
    elif verb == "stay":
        threading.Event().wait()
    elif verb == "die":
        sys.exit(int(rest))
    return True


def main() -> None:
    tell(began=os.environ.get("CHATTER_RESUME") or f"talk-{os.getpid()}")
    while (heard := hear()) is not None:
        if "say" not in heard:
            continue
        tell(got=heard["id"])
        done = all(do(order) for order in heard["say"].split(";"))
        tell(end="end_turn" if done else "cancelled")


main()
