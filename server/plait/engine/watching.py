"""Knows which files of the live sessions' worktrees were touched: one watcher, with one thread, for all of them.

On Linux that is inotify, elsewhere whatever watchfiles uses there. A report says only that a path may have changed;
what it is now, its reader looks up.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from plait.engine import inotify

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

log = logging.getLogger(__name__)

STEP_MS = 50
"""How often watchfiles looks whether the system told it something."""


@dataclass
class Touched:
    """What happened to one worktree since it was last asked for."""

    paths: set[str] = field(default_factory=set)
    """Files and directories, below the worktree's top."""
    record: bool = False
    """Whether git wrote something of its own about the worktree: HEAD may be another commit."""
    lost: bool = False
    """Whether there may be changes that nobody told of."""


class Source(Protocol):
    """Where reports come from."""

    def add(self, tree: str, top: Path, record: Path, skipped: Iterable[str]) -> bool: ...

    def remove(self, tree: str) -> None: ...

    def skip(self, tree: str, directories: Iterable[str]) -> None: ...

    def read(self) -> None: ...

    def close(self) -> None: ...


class Watcher:
    """The worktrees that are watched, and what was touched in each; its methods may be called from any thread."""

    def __init__(self, told: Callable[[], None], *, portable: bool = False, limit: int | None = None) -> None:
        """`told` is called, in any thread, when a worktree was touched of which there was nothing to take.

        `portable` takes the way of other systems on Linux too; `limit` is of directories watched. Raises OSError.
        """
        self._told = told
        self._lock = threading.Lock()
        self._touched: dict[str, Touched] = {}
        self._source: Source
        if inotify.available() and not portable:
            self._source = _Descriptor(self._note, self._lose, limit)
        else:
            self._source = _Portable(self._note, self._lose)

    def add(self, tree: str, top: Path, record: Path, skipped: Iterable[str] = ()) -> bool:
        """Watch a worktree and git's record of it, but for the skipped directories; false if that cannot be had."""
        return self._source.add(tree, top, record, skipped)

    def remove(self, tree: str) -> None:
        self._source.remove(tree)
        with self._lock:
            self._touched.pop(tree, None)

    def skip(self, tree: str, directories: Iterable[str]) -> None:
        """Watch some directories no longer."""
        self._source.skip(tree, directories)

    def flush(self) -> None:
        """Take in what has been told until now. On Linux all that happened before is among it."""
        self._source.read()

    def take(self, tree: str) -> Touched:
        """What was touched since the last time."""
        with self._lock:
            return self._touched.pop(tree, None) or Touched()

    def give_back(self, tree: str, touched: Touched) -> None:
        """Keep for the next time what could not be looked at."""
        with self._lock:
            now = self._touched.setdefault(tree, Touched())
            now.paths |= touched.paths
            now.record |= touched.record
            now.lost |= touched.lost

    @property
    def waiting(self) -> list[str]:
        """The worktrees in which something was touched."""
        with self._lock:
            return list(self._touched)

    def close(self) -> None:
        self._source.close()

    def _note(self, tree: str, path: str | None) -> None:
        with self._lock:
            quiet = tree not in self._touched
            now = self._touched.setdefault(tree, Touched())
            if path is None:
                now.record = True
            else:
                now.paths.add(path)
        if quiet:
            self._told()

    def _lose(self, tree: str) -> None:
        with self._lock:
            self._touched.setdefault(tree, Touched()).lost = True
        self._told()


class _Descriptor:
    """inotify with the thread that reads it."""

    def __init__(self, note: inotify.Note, lost: inotify.Lost, limit: int | None) -> None:
        self._inotify = inotify.Inotify(note, lost, limit)
        self.add = self._inotify.add
        self.remove = self._inotify.remove
        self.skip = self._inotify.skip
        self.read = self._inotify.read
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name="plait-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)
        self._inotify.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._inotify.descriptor, select.POLLIN)
        poll.register(self._stop)
        while all(descriptor != self._stop for descriptor, _ in poll.poll()):
            try:
                self._inotify.read()
            except Exception:
                # The thread must outlive what one worktree holds.
                log.exception("reading what inotify told failed")


class _Portable:
    """watchfiles, which is made anew whenever the worktrees change; the old one watches until the new one does."""

    def __init__(self, note: inotify.Note, lost: inotify.Lost) -> None:
        self._note = note
        self._lost = lost
        self._lock = threading.RLock()
        self._tops: dict[str, tuple[Path, Path]] = {}
        self._skipped: dict[str, set[str]] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, tree: str, top: Path, record: Path, skipped: Iterable[str]) -> bool:
        with self._lock:
            self._tops[tree] = Path(os.path.realpath(top)), Path(os.path.realpath(record))
            self._skipped[tree] = set(skipped)
            try:
                self._renew()
            except OSError as error:
                log.warning("Not watched: %s", error)
                del self._tops[tree]
                return False
        return True

    def remove(self, tree: str) -> None:
        with self._lock:
            if self._tops.pop(tree, None) is not None:
                self._renew()

    def skip(self, tree: str, directories: Iterable[str]) -> None:
        with self._lock:
            self._skipped.setdefault(tree, set()).update(directories)

    def read(self) -> None:
        """Nothing can be read but what the thread was told."""

    def close(self) -> None:
        with self._lock:
            self._stop.set()
        for thread in self._threads:
            thread.join()

    def _renew(self) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        # Only here, for its import takes a tenth of a second that Linux need not spend.
        from watchfiles._rust_notify import RustNotify

        places = [os.fspath(place) for pair in self._tops.values() for place in pair if place.is_dir()]
        before, stop = self._stop, threading.Event()
        if places:
            source = RustNotify(places, False, False, 300, True, True)
            thread = threading.Thread(target=self._run, args=(source, stop), name="plait-watch", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._stop = stop
        before.set()

    def _run(self, source: RustNotify, stop: threading.Event) -> None:
        while True:
            try:
                found = source.watch(STEP_MS, STEP_MS, 0, stop)
            except Exception:
                log.exception("watching failed")
                with self._lock:
                    for tree in self._tops:
                        self._lost(tree)
                return
            if isinstance(found, str):
                source.close()
                return
            for _, path in found:
                self._happened(path)

    def _happened(self, path: str) -> None:
        with self._lock:
            for tree, (top, record) in self._tops.items():
                if path.startswith(f"{record}/"):
                    self._note(tree, None)
                elif path.startswith(f"{top}/"):
                    parts = path[len(os.fspath(top)) + 1 :].split("/")
                    above = {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
                    if parts[0] != ".git" and not above & self._skipped[tree]:
                        inside = parts.index(".git") + 1 if ".git" in parts else len(parts)
                        self._note(tree, "/".join(parts[:inside]))
                elif path == os.fspath(top):
                    self._lost(tree)
