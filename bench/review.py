"""Finding the hunks of a file and where they lie in the user's text, against `git diff --no-index` on the same file."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from bench.pairs import measured, report
from bench.place import place
from plait.core.changes import Content, file_change
from plait.core.locate import UserFile, locate


def main(rounds: int = 11, lines: int = 20_000, edits: int = 500) -> None:
    rng = random.Random(1)
    base = [b"line %d of the file\n" % number for number in range(lines)]
    agent = list(base)
    for row in rng.sample(range(lines), edits):
        agent[row] = b"changed %d\n" % row
    user = list(base)
    for row in rng.sample(range(lines), 50):
        user[row] = b"typed %d\n" % row
    with place() as root:
        one, other = _written(root / "base", base), _written(root / "agent", agent)
        change = file_change("f", None, Content(b"".join(base)), Content(b"".join(agent)))
        here = Content(b"".join(user))
        print(f"  {lines} lines, {len(change.hunks)} hunks, 50 unsaved edits of the user")
        taken = measured(
            {
                "git diff --no-index": lambda: subprocess.run(
                    ["git", "diff", "--no-index", "--unified=0", one, other], capture_output=True, check=False
                ),
                "hunks": lambda: file_change("f", None, Content(b"".join(base)), Content(b"".join(agent))),
                "located in the user's text": lambda: locate(change, UserFile(here, here)),
            },
            rounds,
        )
    report(taken, "git diff --no-index")


def _written(path: Path, rows: list[bytes]) -> Path:
    path.write_bytes(b"".join(rows))
    return path
