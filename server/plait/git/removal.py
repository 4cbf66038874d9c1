"""How a directory is removed, or measured, whatever an agent put into it: links, deep nesting, odd names."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from pathlib import Path

from plait.errors import StorageError


def remove_tree(path: Path) -> None:
    """Remove `path` and all below it, following no link; what is missing counts as removed.

    Raises StorageError naming what could not be removed; a second call goes on from there.
    """
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
        top = _opened(os.fspath(path), None)
        try:
            _empty(top)
        finally:
            os.close(top)
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(
            f"Could not remove {path}: {error.strerror}.", "Check its permissions and try again."
        ) from error


def size(path: Path) -> int:
    """The disk space below `path` in bytes; links are not followed, a file with several names counts
    once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    pending = [path]
    while pending:
        directory = pending.pop()
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                # A file may go while we look; an agent is at work here.
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        pending.append(Path(entry.path))
                    elif found.st_nlink > 1:
                        if (found.st_dev, found.st_ino) in seen:
                            continue
                        seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
    return total


def _empty(top: int) -> None:
    # Directories below are first moved up to the top, so that no depth of nesting exhausts descriptors,
    # stack or path length.
    numbers = itertools.count()
    pending = os.listdir(top)
    while pending:
        name = pending.pop()
        if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=top)
            continue
        inner = _opened(name, top)
        try:
            for below in os.listdir(inner):  # noqa: PTH208 - a descriptor, which Path cannot hold
                if stat.S_ISDIR(os.stat(below, dir_fd=inner, follow_symlinks=False).st_mode):
                    # A directory that may not be written cannot be moved either.
                    os.close(_opened(below, inner))
                    moved = _free_name(top, numbers)
                    os.rename(below, moved, src_dir_fd=inner, dst_dir_fd=top)
                    pending.append(moved)
                else:
                    os.unlink(below, dir_fd=inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _opened(name: str, parent: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, flags, dir_fd=parent)
    if os.fstat(descriptor).st_mode & 0o700 != 0o700:
        os.fchmod(descriptor, 0o700)
    return descriptor


def _free_name(top: int, numbers: itertools.count[int]) -> str:
    while True:
        name = f".plait-removing-{next(numbers)}"
        try:
            os.stat(name, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return name
