"""Making a worktree usable: ignored files that the work needs are copied in, shared directories linked.

Every step from a directory to the next one refuses links, on both sides, so that neither a checkout nor a worktree
can lead a copy out of itself; and nothing that exists is ever replaced.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from plait.errors import StorageError

Progress = Callable[[int, int], None]
"""Called after each file with the number of files and of bytes so far; what it raises ends the copying."""

LEFT_ALONE = frozenset({".git", ".hg", ".jj", ".svn", ".conductor", ".worktrees"})
"""Directories of version control and of worktree tools, which are never copied."""

DEEPEST = 128
"""Directories; a deeper tree is not followed, for each step costs an open file."""


@dataclass(frozen=True)
class Brought:
    """What `bring_ignored` did."""

    files: int
    bytes: int
    skipped: tuple[tuple[str, str], ...]
    """Paths (or patterns) that were wanted and not copied, each with the reason."""


@dataclass(frozen=True)
class Linked:
    """What `symlink_dirs` did."""

    made: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    note: str
    """A sentence on what sharing means, empty if nothing is shared."""


def bring_ignored(
    top: Path,
    worktree: Path,
    patterns: Sequence[str],
    ignored: Iterable[str],
    progress: Progress | None = None,
) -> Brought:
    """Copy the files of the checkout `top` that match the patterns and that git ignores into the worktree.

    `patterns` are in gitignore syntax, the last that matches decides. `ignored` are the paths which
    `git ls-files --others --ignored --exclude-standard --directory -z` printed in `top`; directories among them are
    looked into. Blocking. Raises StorageError if the disk is full or fails; one file's trouble only skips it.
    """
    spec, skipped = _compiled(patterns)
    with _directory(top) as source, _directory(worktree) as target:
        copying = _Copying(source, target, skipped, progress)
        for folder, names in _wanted(source, spec, ignored, skipped).items():
            copying.folder(folder, names)
    return Brought(copying.files, copying.bytes, tuple(skipped))


def symlink_dirs(top: Path, worktree: Path, directories: Iterable[str]) -> Linked:
    """Link directories of the checkout into the worktree by absolute links, where the worktree has nothing yet.

    Only on the user's approval: what an agent changes in such a directory changes in the checkout. Raises StorageError
    if the disk is full or fails.
    """
    made: list[str] = []
    skipped: list[tuple[str, str]] = []
    with _directory(top) as source, _directory(worktree) as target:
        for written in directories:
            parts = _parts(written)
            if parts is None:
                skipped.append((written, "it leads out of the repository"))
                continue
            try:
                with _opened(source, parts):
                    pass
                with _made(source, target, parts[:-1]) as folder:
                    os.symlink(Path(os.path.realpath(top), *parts), parts[-1], dir_fd=folder)
            except OSError as error:
                skipped.append((written, _reason(error)))
            else:
                made.append("/".join(parts))
    names = ", ".join(made)
    note = f"Shared with your checkout, so that changes there are changes in both: {names}." if made else ""
    return Linked(tuple(made), tuple(skipped), note)


_Folder = tuple[str, ...]


class _Copying:
    """A copy under way: how far it is, and whether the file system can share blocks between two files."""

    def __init__(self, source: int, target: int, skipped: list[tuple[str, str]], progress: Progress | None) -> None:
        self.files = 0
        self.bytes = 0
        self._source = source
        self._target = target
        self._skipped = skipped
        self._progress = progress
        self._can_clone = sys.platform == "linux"

    def folder(self, folder: _Folder, names: Iterable[str]) -> None:
        """Copy files of one directory, which comes into being with them."""
        with ExitStack() as stack:
            try:
                source = stack.enter_context(_opened(self._source, folder))
                target = stack.enter_context(_made(self._source, self._target, folder))
            except OSError as error:
                reason = _reason(error)
                self._skipped += [("/".join((*folder, name)), reason) for name in names]
                return
            for name in names:
                try:
                    size = self._entry(source, target, name)
                except OSError as error:
                    self._skipped.append(("/".join((*folder, name)), _reason(error)))
                    continue
                self.files += 1
                self.bytes += size
                if self._progress is not None:
                    self._progress(self.files, self.bytes)

    def _entry(self, source: int, target: int, name: str) -> int:
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if _exists(target, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            return 0
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is neither a file nor a link")
        return self._file(source, target, name)

    def _file(self, source: int, target: int, name: str) -> int:
        """Copy beside its place and move it there, so that a crash leaves no half file under the real name."""
        beside = f".plait-part-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=target)
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        with ExitStack() as stack:
            read = os.open(name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=source)
            stack.callback(os.close, read)
            found = os.fstat(read)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is neither a file nor a link")
            written = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target)
            stack.callback(_unlink_if_there, beside, target)
            stack.callback(os.close, written)
            self._contents(read, written)
            os.fchmod(written, stat.S_IMODE(found.st_mode) & 0o777)
            # Build tools compare times to decide what is up to date.
            os.utime(written, ns=(found.st_atime_ns, found.st_mtime_ns))
            _into_place(target, beside, name)
            return os.fstat(written).st_size

    def _contents(self, read: int, written: int) -> None:
        if self._can_clone:
            try:
                fcntl.ioctl(written, _FICLONE, read)
                return
            except OSError:
                # Not on this file system, or not between these two.
                self._can_clone = False
        with os.fdopen(read, "rb", closefd=False) as source, os.fdopen(written, "wb", closefd=False) as target:
            shutil.copyfileobj(source, target, 1 << 20)


_FICLONE = 0x40049409
"""The request of ioctl_ficlone(2), which makes two files share their blocks until one is written."""

_FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})


def _compiled(patterns: Sequence[str]) -> tuple[GitIgnoreSpec, list[tuple[str, str]]]:
    good, bad = [], []
    for pattern in patterns:
        try:
            GitIgnoreSpec.from_lines([pattern])
            good.append(pattern)
        except ValueError:
            bad.append((pattern, "it is not a pattern of gitignore's syntax"))
    return GitIgnoreSpec.from_lines(good), bad


def _wanted(
    source: int, spec: GitIgnoreSpec, ignored: Iterable[str], skipped: list[tuple[str, str]]
) -> dict[_Folder, dict[str, None]]:
    """The names to copy, by directory; nested repositories and worktrees are left out whole.

    git may name a directory, one inside it, and a file in that: each is looked at once.
    """
    can_skip_matching = all(pattern.include is not False for pattern in spec.patterns)
    wanted: dict[_Folder, dict[str, None]] = {}
    seen: set[_Folder] = set()
    borders: dict[_Folder, bool] = {}
    for path in ignored if len(spec) else ():
        parts = _parts(path)
        if parts is None or any(_is_border(source, parts[:depth], borders) for depth in range(1, len(parts))):
            continue
        if not path.endswith("/"):
            if spec.match_file("/".join(parts)):
                wanted.setdefault(parts[:-1], {})[parts[-1]] = None
            continue
        pending = [(parts, False)]
        while pending:
            folder, whole = pending.pop()
            if folder in seen:
                continue
            seen.add(folder)
            shown = "/".join(folder) + "/"
            if _is_border(source, folder, borders):
                skipped.append((shown, "it is a repository or a worktree of its own"))
                continue
            whole = whole or (can_skip_matching and spec.match_file(shown))
            try:
                entries = _entries(source, folder)
            except OSError as error:
                skipped.append((shown, _reason(error)))
                continue
            for name, is_directory in entries:
                inner = (*folder, name)
                if is_directory:
                    if name not in LEFT_ALONE:
                        pending.append((inner, whole))
                elif whole or spec.match_file("/".join(inner)):
                    wanted.setdefault(folder, {})[name] = None
    return wanted


def _entries(source: int, folder: _Folder) -> list[tuple[str, bool]]:
    if len(folder) > DEEPEST:
        raise OSError(errno.ELOOP, "it lies too deep")
    with _opened(source, folder) as descriptor, os.scandir(descriptor) as entries:
        return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)


def _is_border(source: int, folder: _Folder, known: dict[_Folder, bool]) -> bool:
    """Whether another repository begins at this directory; a `.git` of any kind, also a worktree's file, says so."""
    if folder not in known:
        try:
            with _opened(source, folder) as descriptor:
                known[folder] = _exists(descriptor, ".git")
        except OSError:
            # What cannot be entered is reported when it is to be read.
            known[folder] = False
    return known[folder]


def _parts(path: str) -> _Folder | None:
    """The names along a relative path, or None if it does not stay in the tree or enters a directory left alone."""
    parts = tuple(path.rstrip("/").split("/"))
    if "\0" in path or any(part in {"", ".", ".."} or part.casefold() in LEFT_ALONE for part in parts):
        return None
    return parts


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"Could not open the directory {path}: {error.strerror}.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened(root: int, folder: _Folder) -> Iterator[int]:
    """The directory below `root`, reached without going through a link. Raises OSError."""
    descriptor = os.dup(root)
    try:
        for name in folder:
            descriptor = _entered(descriptor, name)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _made(source: int, target: int, folder: _Folder) -> Iterator[int]:
    """The same below `target`, where what is missing is created with the mode it has below `source`."""
    descriptor = os.dup(target)
    try:
        for depth, name in enumerate(folder, 1):
            try:
                os.mkdir(name, 0o700, dir_fd=descriptor)
            except FileExistsError:
                descriptor = _entered(descriptor, name)
            else:
                descriptor = _entered(descriptor, name)
                with _opened(source, folder[:depth]) as like:
                    os.fchmod(descriptor, stat.S_IMODE(os.fstat(like).st_mode) & 0o777 | 0o700)
        yield descriptor
    finally:
        os.close(descriptor)


def _entered(descriptor: int, name: str) -> int:
    """The directory `name` in the one open as `descriptor`, which is closed if that succeeds."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    inner = os.open(name, flags, dir_fd=descriptor)
    os.close(descriptor)
    return inner


def _into_place(target: int, beside: str, name: str) -> None:
    """Give the finished copy its name, unless that name has come to exist meanwhile."""
    try:
        os.link(beside, name, src_dir_fd=target, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK} or _exists(target, name):
            raise
        # A file system without hard links.
        os.rename(beside, name, src_dir_fd=target, dst_dir_fd=target)


def _unlink_if_there(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _reason(error: OSError) -> str:
    """Why one entry was skipped. Raises StorageError for what would befall every other one as well."""
    if error.errno in _FATAL:
        raise StorageError(
            f"Could not copy ignored files into the worktree: {error.strerror}.",
            "Free some space or widen .worktreeinclude less; what exists is complete.",
        ) from error
    if error.errno == errno.EEXIST:
        return "it is already there"
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return "its way leads through a link or a file" if error.errno == errno.ENOTDIR else "it is a link"
    return (error.strerror or type(error).__name__).lower()
