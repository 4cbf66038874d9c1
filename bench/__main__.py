"""`python -m bench [NAME…]`: run the measurements and print a line for each."""

from __future__ import annotations

import sys

from bench import conflicts, freshness, memory, review, startup, worktrees

ALL = {
    "startup": startup.main,
    "memory": memory.main,
    "worktrees": worktrees.main,
    "review": review.main,
    "conflicts": conflicts.main,
    "freshness": freshness.main,
}

for name in sys.argv[1:] or ALL:
    print(f"{name}:", flush=True)
    ALL[name]()
