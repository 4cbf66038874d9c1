"""Knows which directories of Linux changed, through one inotify descriptor for all of them.

watchfiles, which watches elsewhere, walks every directory anew whenever one is added, with Python standing still, and
follows links out of the worktree. Here a directory is added by itself, and no link is followed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

Note = Callable[[str, str | None], None]
"""Told of a watched tree's name, and of what changed below its top: a path, or None for what git knows of it."""

Lost = Callable[[str], None]
"""Told of a tree of which changes may have been missed."""

_EVENT = struct.Struct("iIII")
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _OVERFLOW, _IGNORED, _IS_DIRECTORY = 0x400, 0x800, 0x4000, 0x8000, 0x40000000
_ONLY_DIRECTORY, _NO_LINK, _EXCLUDE_UNLINKED = 0x01000000, 0x02000000, 0x04000000
_CHANGES = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_MASK = _CHANGES | _ONLY_DIRECTORY | _NO_LINK | _EXCLUDE_UNLINKED
_READ = 256 << 10

_MOST = Path("/proc/sys/fs/inotify/max_user_watches")


class Inotify:
    """The watches of all trees. Its methods may be called from any thread."""

    def __init__(self, note: Note, lost: Lost, limit: int | None = None) -> None:
        """`limit` is the number of directories that may be watched; half of what the user may have if none is given.

        Raises OSError if there is no inotify to be had.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise _error("inotify_init1")
        self._note = note
        self._lost = lost
        self._limit = limit if limit is not None else _allowed()
        self._lock = threading.RLock()
        self._places: dict[int, tuple[str, str | None]] = {}
        """What each watch is of: a tree and the directory below its top; None for git's record of the worktree."""
        self._watches: dict[str, dict[str, int]] = {}
        self._tops: dict[str, tuple[Path, Path]] = {}
        self._skipped: dict[str, set[str]] = {}

    @property
    def count(self) -> int:
        """Directories that are watched now."""
        return len(self._places)

    def add(self, tree: str, top: Path, record: Path, skipped: Iterable[str]) -> bool:
        """Watch all directories below `top` but the skipped ones, and git's record of the worktree.

        False, with nothing watched, if there are not watches enough.
        """
        with self._lock:
            self.remove(tree)
            self._tops[tree] = top, record
            self._skipped[tree] = set(skipped)
            self._watches[tree] = {}
        # Not under the lock as a whole: what other worktrees have to tell does not wait for a long walk.
        if self._watch(tree, None, record) and self._watch_below(tree, ""):
            return True
        self._give_up(tree)
        return False

    def remove(self, tree: str) -> None:
        """Watch nothing of the tree any more."""
        with self._lock:
            for watch in [watch for watch, (of, _) in self._places.items() if of == tree]:
                self._let_go(watch)
            for known in (self._tops, self._skipped, self._watches):
                known.pop(tree, None)

    def skip(self, tree: str, directories: Iterable[str]) -> None:
        """Watch directories, and all that is below them, no longer."""
        with self._lock:
            if tree not in self._tops:
                return
            for directory in directories:
                self._skipped[tree].add(directory)
                self._forget(tree, directory)

    def read(self) -> None:
        """Tell of everything that happened until now; never waits."""
        with self._lock:
            while self.descriptor >= 0:
                try:
                    data = os.read(self.descriptor, _READ)
                except BlockingIOError:
                    return
                at = 0
                while at < len(data):
                    watch, mask, _cookie, size = _EVENT.unpack_from(data, at)
                    at += _EVENT.size + size
                    self._happened(watch, mask, os.fsdecode(data[at - size : at].rstrip(b"\0")))

    def close(self) -> None:
        with self._lock:
            os.close(self.descriptor)
            self.descriptor = -1
            self._places.clear()

    def _happened(self, watch: int, mask: int, name: str) -> None:
        if mask & _OVERFLOW:
            # The kernel dropped events, also those of directories that were made or moved.
            for known in self._tops:
                self._lost(known)
            return
        tree, directory = self._places.get(watch, ("", None))
        if not tree:
            return
        if directory is None:
            self._note(tree, None)
            return
        if mask & _IGNORED:
            self._places.pop(watch, None)
            if self._watches[tree].get(directory) == watch:
                del self._watches[tree][directory]
            return
        if not name:
            if not directory and mask & (_DELETE_SELF | _MOVE_SELF):
                self._lost(tree)
            return
        path = f"{directory}/{name}" if directory else name
        if path == ".git" or path in self._skipped[tree]:
            return
        if mask & _IS_DIRECTORY:
            if not mask & (_MOVED_FROM | _MOVED_TO | _CREATE | _DELETE):
                return
            if mask & _MOVED_FROM:
                self._forget(tree, path)
            if mask & (_MOVED_TO | _CREATE) and name != ".git" and not self._watch_below(tree, path):
                self._give_up(tree)
                self._lost(tree)
                return
        self._note(tree, path)

    def _give_up(self, tree: str) -> None:
        with self._lock:
            for watch in [watch for watch, (of, _) in self._places.items() if of == tree]:
                self._let_go(watch)
            if tree in self._watches:
                self._watches[tree] = {}

    def _watch_below(self, tree: str, directory: str) -> bool:
        """Watch a directory and those below it; false if there are not watches enough."""
        top = self._top(tree)
        due = deque([directory])
        while due:
            below = due.popleft()
            place = top / below
            # First the watch, then the look: what is made in between is seen twice rather than never.
            if not self._watch(tree, below, place):
                return False
            try:
                with os.scandir(place) as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                # Gone again, or not readable for us: git could not read it either.
                continue
            with self._lock:
                skipped = self._skipped.get(tree, set())
                paths = [f"{below}/{name}" if below else name for name in names if name != ".git"]
                due += [path for path in paths if path not in skipped]
        return True

    def _watch(self, tree: str, directory: str | None, place: Path) -> bool:
        with self._lock:
            if tree not in self._tops:
                return True
            if len(self._places) >= self._limit:
                return False
            watch = self._libc.inotify_add_watch(self.descriptor, os.fsencode(place), ctypes.c_uint32(_MASK))
            if watch < 0:
                # A directory that is gone, or not for us, is not watched; only a lack of watches is a failure.
                return ctypes.get_errno() not in (errno.ENOSPC, errno.ENOMEM)
            self._places[watch] = tree, directory
            if directory is not None:
                self._watches[tree][directory] = watch
            return True

    def _top(self, tree: str) -> Path:
        with self._lock:
            return self._tops[tree][0] if tree in self._tops else Path(os.devnull)

    def _forget(self, tree: str, path: str) -> None:
        watches = self._watches[tree]
        for directory in [known for known in watches if known == path or known.startswith(path + "/")]:
            self._let_go(watches.pop(directory))

    def _let_go(self, watch: int) -> None:
        self._places.pop(watch, None)
        self._libc.inotify_rm_watch(self.descriptor, watch)


def available() -> bool:
    """Whether this system has inotify."""
    return sys.platform == "linux"


def _allowed() -> int:
    """Half of the directories that the user may watch: editors want theirs too."""
    try:
        return int(_MOST.read_text()) // 2
    except (OSError, ValueError):
        return 4096


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
