"""A running session's real worktree, and its live changes, without an engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plait.core import events as e
from plait.core.sessions import Session
from plait.core.state import Whole
from plait.engine.live import LiveTree
from plait.engine.watching import Watcher
from plait.engine.worktrees import prepare
from plait.git.repo import find, resolve_base
from plait.paths import Places, private_directory
from tests.support.histories import AGENT_RUN, created, history


def running(places: Places, top: Path, symlinks: tuple[str, ...] = (), name: str = "one") -> Session:
    """A session whose agent runs in a worktree that was made just now."""
    found = find(top)
    repo = e.RepoRef(
        key=found.key, common_dir=str(found.common_dir), git_dir=str(found.git_dir), top=str(found.top or top)
    )
    private_directory(places.state)
    spec = created(
        repo=repo,
        base=resolve_base(found).commit,
        branch=f"plait/{name}",
        worktree=str(places.data / "worktrees" / name),
        setup=e.SetupRef(symlinks=symlinks),
    )
    queued = history(Whole(), name, spec, e.Admitted(reason=""))
    made = prepare(places, queued.sessions[name])
    return history(queued, name, e.Prepared(admin=str(made.admin), port=20000), AGENT_RUN).sessions[name]


class Live:
    """One session's live tree with a watcher of its own."""

    def __init__(self, tree: LiveTree, watcher: Watcher) -> None:
        self.tree = tree
        self.watcher = watcher

    def look(self) -> frozenset[str]:
        """Take in what happened until now; the paths whose changes are others than before."""
        self.watcher.flush()
        return self.tree.update(self.watcher.take(self.tree.session.id))


@contextmanager
def live(places: Places, session: Session, watcher: Watcher | None = None) -> Iterator[Live]:
    """The session's live tree, with a watcher that it may share."""
    own = watcher or Watcher(lambda: None)
    try:
        with tempfile.TemporaryDirectory() as place:
            yield Live(LiveTree(places, session, Path(place), own), own)
    finally:
        if watcher is None:
            own.close()
