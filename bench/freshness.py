"""From a write in a running session's worktree to its hunks: beside idle sessions, and in a larger repository."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.pairs import measured, report
from bench.place import place, repository
from plait.core.sessions import Session
from plait.engine.changes import peek
from plait.paths import Places, private_directory
from tests.support.live import Live, live, running


def main(rounds: int = 41, idle: int = 50, files: int = 300, larger: int = 6000) -> None:
    with place() as root, ExitStack() as stack:
        small, large = repository(root / "small", files, 40), repository(root / "large", larger, 40)
        alone = stack.enter_context(_followed(root / "1", small, 0))
        among = stack.enter_context(_followed(root / "2", small, idle))
        big = stack.enter_context(_followed(root / "3", large, 0))
        print(f"  a line changed in a worktree of {files} files; {idle} idle sessions; a repository of {larger} files")
        variants: dict[str, Callable[[], object]] = {
            "one session": _change(alone),
            f"beside {idle} idle sessions": _change(among),
            f"repository {larger // files} times as large": _change(big),
            "a snapshot by git": lambda: peek(alone.tree._places, alone.tree.session),
        }
        report(measured(variants, rounds), "one session")
        before = time.process_time()
        time.sleep(5.0)
        print(f"  CPU of {idle + 3} idle sessions: {(time.process_time() - before) / 5.0:.2%} of one core")


def _change(now: Live) -> Callable[[], object]:
    path = Path(now.tree.session.spec.worktree) / "d0" / "f0.py"
    numbers = itertools.count()

    def change() -> None:
        path.write_text(f"changed = {next(numbers)}\n" * 40)
        assert now.look() == {"d0/f0.py"}

    change()
    return change


@contextmanager
def _followed(root: Path, top: Path, idle: int) -> Iterator[Live]:
    """A session that is followed, with others that share its watcher."""
    places = Places(root / "config", root / "state", root / "data", root / "run")
    for directory in (root, places.state, places.data):
        private_directory(directory)
    sessions: list[Session] = [running(places, top, name=f"s{number}") for number in range(idle + 1)]
    with ExitStack() as stack:
        busy = stack.enter_context(live(places, sessions[0]))
        busy.look()
        for session in sessions[1:]:
            beside = stack.enter_context(live(places, session, watcher=busy.watcher))
            beside.look()
        yield busy
