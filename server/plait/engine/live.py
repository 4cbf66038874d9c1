"""What a running session has changed up to now, kept by re-reading only the files that were touched.

git is asked for the whole of a worktree when a session begins to be followed, when its HEAD moves, when its rules of
what to ignore change, and when reports were lost. Otherwise it is asked once about each path that is new here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from plait.core.changes import SYMLINK, Content, FileChange, file_change, stats
from plait.core.sessions import Session
from plait.engine import checkout
from plait.engine.changes import LARGEST, Changes, affordable, entries, peek
from plait.engine.watching import Touched, Watcher
from plait.engine.worktrees import base_of, shadow_of, shared, verify, worktree_of
from plait.errors import StorageError
from plait.git import status, trees
from plait.paths import Places

RULES = (".gitignore", ".gitattributes", ".git")
"""Names that say how git takes other files."""

ATTEMPTS = 3
"""How often a file is read that changes while it is read."""


class LiveTree:
    """The changes of one session's worktree. All of its methods block, and only one may run at a time."""

    def __init__(self, places: Places, session: Session, place: Path, watcher: Watcher) -> None:
        """`place` is a directory of the caller's for what is needed only while the session is followed."""
        self.session = session
        self.changes = Changes(session.spec.base, ())
        self.watched = False
        """Whether changes are reported; otherwise somebody must ask from time to time."""
        self._places = places
        self._watcher = watcher
        self._index = place / "index"
        self._scratch = place / "objects"
        self._shadow = shadow_of(places, session)
        self._worktree = worktree_of(session)
        self._top = self._worktree.path
        self._base = base_of(session)
        self._standing: status.Standing | None = None
        self._token: tuple[bytes, bytes] | None = None
        self._entries: dict[str, tuple[str, str] | None] = {}
        """What the base has at each path that was ever looked at: mode and blob."""
        self._contents: dict[str, Content] = {}
        """The base's contents of what differs."""
        self._now: dict[str, Content | None] = {}
        """The files that differ from the base, as they are."""
        self._files: dict[str, FileChange] = {}
        self._unread: dict[str, str] = {}
        """Sentences about files that cannot be shown."""
        self._ignored: dict[str, bool] = {}
        self._converting: dict[str, bool] = {}
        self._renames: tuple[object, dict[str, str]] = (None, {})

    def update(self, touched: Touched) -> frozenset[str]:
        """Look at what was touched; the paths whose changes are others than before. Raises PlaitError.

        After an error what was touched must be given again, with `lost` set.
        """
        verify(self.session)
        before = self.changes
        if touched.lost or self._standing is None or _names_rules(touched.paths):
            self._begin()
            self._reconcile()
        elif touched.record and self._moved():
            self._reconcile(touched.paths)
        elif self._standing.composite:
            self.changes = peek(self._places, self.session)
        else:
            candidates = self._candidates(touched.paths)
            if _names_rules(candidates):
                # A directory that was moved here has rules of its own.
                self._begin()
                self._reconcile(touched.paths)
            else:
                self._look(candidates)
                self._assemble()
        return _differing(before, self.changes)

    def _begin(self) -> None:
        """Watch the worktree from now on, and know nothing of its rules any more."""
        self._ignored.clear()
        self._converting.clear()
        skipped = status.ignored_directories(self._shadow, self._worktree)
        self.watched = self._watcher.add(self.session.id, self._top, self._worktree.admin, skipped)

    def _reconcile(self, also: Iterable[str] = ()) -> None:
        self._index.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before the look, so that a commit during it is seen as one.
        self._token = status.head_token(self._shadow, self._worktree)
        self._standing = status.standing(self._shadow, self._worktree, self._base, self._index)
        if self._standing.composite:
            self.changes = peek(self._places, self.session)
            return
        paths = {*self._standing.paths, *self._now, *self._unread}
        self._learn(paths)
        self._look(paths | self._candidates(also))
        self._assemble()

    def _moved(self) -> bool:
        token = status.head_token(self._shadow, self._worktree)
        return token is None or token != self._token

    def _candidates(self, touched: Iterable[str]) -> set[str]:
        """The files that may be others than before: those touched, and those below touched directories."""
        touched = frozenset(touched)
        self._learn(touched)
        found = set(touched)
        for path in touched:
            if stat.S_ISDIR(_mode(self._top / path) or 0) and path not in self._ask_ignored([path]):
                found.update(self._files_below(path))
        self._entries.update(dict.fromkeys(found - self._entries.keys()))
        # What was a directory, or is one again, had files of which nobody tells one by one.
        return found | {known for known in self._entries if not touched.isdisjoint(_directories(known))}

    def _learn(self, paths: Iterable[str]) -> None:
        """Ask once what the base has at paths."""
        unknown = {path for path in paths if path not in self._entries}
        if unknown:
            self._entries.update(dict.fromkeys(unknown))
            self._entries.update(status.entries_at(self._shadow, self._base, unknown))

    def _files_below(self, directory: str) -> Iterator[str]:
        due = [directory]
        while due:
            below = due.pop()
            try:
                with os.scandir(self._top / below) as entries:
                    listing = [(f"{below}/{entry.name}", entry.is_dir(follow_symlinks=False)) for entry in entries]
            except OSError:
                continue
            nested = f"{below}/.git"
            directories = [path for path, is_directory in listing if is_directory and path != nested]
            ignored = self._ask_ignored(directories)
            due += [path for path in directories if path not in ignored]
            yield from (path for path, is_directory in listing if not is_directory or path == nested)

    def _ask_ignored(self, paths: Iterable[str]) -> set[str]:
        """Those of the paths that git would ignore; directories that it ignores are watched no longer."""
        asked = set(paths)
        unknown = {path for path in asked if path not in self._ignored and not self._behind_link(path)}
        if unknown:
            found = status.ignored(self._shadow, self._worktree, unknown)
            self._ignored.update({path: path in found for path in unknown})
            directories = {path for path in found if (self._top / path).is_dir() and not self._holds_tracked(path)}
            if directories:
                self._watcher.skip(self.session.id, directories)
        return {path for path in asked if self._ignored.get(path)}

    def _holds_tracked(self, directory: str) -> bool:
        self._learn([directory])
        return any(known.startswith(f"{directory}/") and entry for known, entry in self._entries.items())

    def _tracked(self, path: str) -> bool:
        assert self._standing is not None
        return self._standing.tracked.get(path, self._entries.get(path) is not None)

    def _look(self, paths: set[str]) -> None:
        """Read the files anew and keep those that differ from the base."""
        paths = paths - set(shared(self.session))
        found = {path: self._read(path) for path in paths}
        there = [path for path, content in found.items() if content is not None]
        ignored = self._ask_ignored(path for path in there if not self._tracked(path))
        found.update(dict.fromkeys(ignored))
        self._fetch(path for path in paths if self._entries.get(path) is not None)
        found.update(self._taken_in({path: content for path, content in found.items() if content is not None}))
        for path, content in found.items():
            base = self._contents.get(path)
            if path in self._unread or content == base:
                self._now.pop(path, None)
                self._files.pop(path, None)
                if path not in self._unread:
                    self._contents.pop(path, None)
            elif path not in self._now or self._now[path] != content or path not in self._files:
                self._now[path] = content
                self._files[path] = file_change(path, None, base, content)

    def _read(self, path: str) -> Content | None:
        """The file as it is now; none if there is none, or none that git could take."""
        self._unread.pop(path, None)
        place = self._top / path
        for _ in range(ATTEMPTS):
            before = _signature(place)
            if before is None or self._behind_link(path):
                return None
            if stat.S_ISREG(before[0]) and before[1] > LARGEST:
                self._unread[path] = f"{path} is too large to be reviewed here; merge the session to take it."
                return None
            if not (stat.S_ISREG(before[0]) or stat.S_ISLNK(before[0])):
                return None
            try:
                content = checkout.read(self._top, path)
            except (StorageError, OSError) as error:
                self._unread[path] = f"{path} cannot be read: {error}"
                return None
            if _signature(place) == before:
                break
        # Whoever still writes is heard of again when he has done it.
        return content

    def _behind_link(self, path: str) -> bool:
        return any(stat.S_ISLNK(_mode(self._top / name) or 0) for name in _directories(path))

    def _fetch(self, paths: Iterable[str]) -> None:
        """Have the base's contents of the paths at hand."""
        wanted = {path: self._entries[path] for path in paths if path not in self._contents}
        known = {path: entry for path, entry in wanted.items() if entry is not None}
        blobs = trees.blobs(self._shadow, (blob for _, blob in known.values()), largest=LARGEST) if known else {}
        for path, (mode, blob) in known.items():
            if blob in blobs:
                self._contents[path] = Content(blobs[blob], int(mode, 8))
            else:
                self._unread[path] = f"{path} is too large to be reviewed here; merge the session to take it."

    def _taken_in(self, found: Mapping[str, Content]) -> dict[str, Content | None]:
        """What git makes of files that it does not store as they are."""
        assert self._standing is not None
        regular = {path: content for path, content in found.items() if content.mode != SYMLINK}
        unknown = [path for path in regular if path not in self._converting]
        if unknown:
            converting = status.converting(self._shadow, self._worktree, unknown)
            self._converting.update({path: path in converting for path in unknown})
        asked = [path for path, content in regular.items() if self._converting[path] or self._is_odd(path, content)]
        if not asked:
            return {}
        self._scratch.mkdir(mode=0o700, exist_ok=True)
        stored = status.taken_in(self._shadow, self._worktree, self._standing.head, asked, self._scratch)
        blobs = trees.blobs(self._shadow, (blob for _, blob in stored.values()), largest=LARGEST, scratch=self._scratch)
        made: dict[str, Content | None] = {}
        for path in asked:
            mode, blob = stored.get(path, ("", ""))
            made[path] = Content(blobs[blob], int(mode, 8)) if blob in blobs else None
        return made

    def _is_odd(self, path: str, content: Content) -> bool:
        """Whether settings of git may decide about the line ends or the mode."""
        base = self._contents.get(path)
        return b"\r" in content.data or (base is not None and base.mode != content.mode)

    def _assemble(self) -> None:
        files = {path: change for path, change in self._files.items() if change.hunks}
        for path, old in self._renamed().items():
            del files[path], files[old]
            files[path] = file_change(path, old, self._contents[old], self._now[path])
        sizes = {path: _size(change) for path, change in files.items()}
        chosen = set(affordable(sizes))
        problems = [self._unread[path] for path in sorted(self._unread)]
        problems += [
            f"{path} is too large to be reviewed here; merge the session to take it." for path in files.keys() - chosen
        ]
        self.changes = Changes("", tuple(files[path] for path in sorted(chosen)), tuple(problems))

    def _renamed(self) -> dict[str, str]:
        """Which new file was which one that is gone, as git sees it."""
        gone = {path: self._contents[path] for path, now in self._now.items() if now is None}
        new = {path: now for path, now in self._now.items() if now is not None and path not in self._contents}
        if not gone or not new:
            return {}
        if self._renames[0] != (gone, new):
            self._scratch.mkdir(mode=0o700, exist_ok=True)
            found = status.renamed(self._shadow, self._base, entries(gone), entries(new), self._scratch)
            self._renames = (gone, new), {change.path: change.old_path for change in found}
        return self._renames[1]


def counted(changes: Changes) -> tuple[int, int, int]:
    """Files, lines added, lines removed."""
    lines = [stats(change) for change in changes.files]
    return len(lines), sum(added for added, _ in lines), sum(removed for _, removed in lines)


def _differing(before: Changes, after: Changes) -> frozenset[str]:
    """The paths of files that are changed otherwise than before."""
    old, new = ({file.path: file for file in changes.files} for changes in (before, after))
    differing = [path for path in old.keys() | new.keys() if old.get(path) != new.get(path)]
    sides = [side for path in differing for side in (old.get(path), new.get(path)) if side is not None]
    return frozenset(path for side in sides for path in (side.path, side.old_path) if path is not None)


def _names_rules(paths: Iterable[str]) -> bool:
    return any(path.rpartition("/")[2] in RULES for path in paths)


def _directories(path: str) -> list[str]:
    """The directories that a path lies in, below the top."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _size(change: FileChange) -> int:
    return sum(len(side.data) for side in (change.base, change.agent) if side is not None)


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except (OSError, ValueError):
        return None


def _signature(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return None
    return found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino
