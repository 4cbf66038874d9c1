"""What an agent in a terminal calls at its turning points: adds what it is told, as one line, to the run's `hooks.log`.

Run as `python -I -S hook.py [JSON]`; without an argument the JSON comes on the standard input. PLAIT_HOOKS names the
file. It says nothing and always succeeds: a hook that fails or speaks would be heard by the agent.
"""

from __future__ import annotations

import json
import os
import sys

LONGEST = 4 << 20
"""Bytes of one report; of a longer one only its name and whose it is are kept."""


def main() -> None:
    """Add the report to the file; nothing if there is no file to be named, or no object to be read."""
    given = sys.argv[1].encode("utf-8", "surrogateescape") if len(sys.argv) > 1 else sys.stdin.buffer.read()
    place = os.environ.get("PLAIT_HOOKS", "")
    if not place:
        return
    found = json.loads(given)
    if isinstance(found, dict):
        # What a batch of tools gave back was told tool by tool already.
        found.pop("tool_calls", None)
    if len(given) > LONGEST and isinstance(found, dict):
        found = {name: value for name, value in found.items() if len(str(value)) < 1000}
    # One write to a file that is opened for appending: reports of hooks that run at once do not mix.
    line = json.dumps(found, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.write(descriptor, line)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        sys.exit(0)
