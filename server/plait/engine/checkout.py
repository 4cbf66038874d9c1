"""The user's checkout on disk: the only place that writes into it.

Every path is walked one component at a time from the top's descriptor and no link is followed on the way, so that
nothing outside of the checkout is ever read or written, whatever somebody swaps meanwhile. Files are replaced by
rename, and only if they are still what the caller saw.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from plait.core.accept import Chmod, Delete, FileOperation, Rename, Write
from plait.core.changes import EXECUTABLE, REGULAR, SUBMODULE, SYMLINK, Content, link_escapes
from plait.errors import PlaitError, StaleError, StorageError, UsageError


def read(top: Path, path: str) -> Content | None:
    """The file at `path` below `top`; None if there is none, or a directory.

    A symlink is read as a link. Raises UsageError for a path that no file of a repository may have, StorageError if
    the path goes through a link, or names something that is not a file (a pipe, a device), or cannot be read.
    """
    parts = _parts(path)
    with _reported(top, path), _descent(top, parts[:-1]) as parents:
        return None if parents is None else _content(parents[-1], parts[-1], path)


def apply(
    top: Path,
    operations: Sequence[FileOperation],
    expected: Mapping[str, Content | None],
    *,
    allow_escaping_links: bool = False,
) -> None:
    """Performs the operations in their order, if every path of theirs still is as `expected` says.

    All are checked before the first is performed. Raises StaleError if something changed, UsageError for a path or an
    operation that is never allowed, StorageError if the disk refuses; `data["done"]` lists the paths that had been
    written by then, which the message names too.
    """
    now = dict(expected)
    for operation in operations:
        _check(operation, now, allow_escaping_links)
    for path, content in now.items():
        _require(top, path, content)
    for operation in operations:
        target = operation.new if isinstance(operation, Rename) else operation.path
        if isinstance(operation, Write | Rename) and now[target] is None:
            _check_room(top, target, operations)
    done: list[str] = []
    for operation in operations:
        try:
            _perform(top, operation, now)
        except PlaitError as error:
            raise _partly(error, done) from error
        done += _paths(operation)


def refusal(path: str) -> str | None:
    """Why no file of a repository may have this path; None if one may.

    The forms of `.git` are those of git's own `verify_path`: other file systems take them for the same name.
    """
    if not path or "\0" in path:
        return "the path is empty or has a NUL byte"
    if path.startswith("/"):
        return "the path is absolute"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "the path has an empty component, '.' or '..'"
        for name in part.split("\\"):
            if _DOT_GIT.fullmatch(_IGNORED_BY_HFS.sub("", name)):
                return "the path leads into a .git directory"
    return None


_IGNORED_BY_HFS: Final = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_DOT_GIT: Final = re.compile(r"(\.git|git~[0-9]+)[ .]*(:.*)?", re.IGNORECASE | re.DOTALL)
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _parts(path: str) -> list[str]:
    reason = refusal(path)
    if reason is not None:
        raise UsageError(f"Refused the path {path!r}: {reason}.")
    return path.split("/")


@contextmanager
def _reported(top: Path, path: str) -> Iterator[None]:
    """Turns what the operating system refuses into an error that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            _refuse_link(path)
        raise StorageError(
            f"Could not work on {path} in {top}: {error.strerror}.",
            "Check the file's permissions and the free space of the disk, then try again.",
        ) from error


def _refuse_link(path: str) -> NoReturn:
    raise StorageError(
        f"{path} lies behind a symbolic link, which is never followed.",
        "Replace the link by a directory, or make the change by hand.",
    )


@contextmanager
def _descent(top: Path, names: Sequence[str], create: bool = False) -> Iterator[list[int] | None]:
    """Descriptors of `top` and of the directories below it; None if one is missing and shall not be created."""
    opened: list[int] = []
    try:
        opened.append(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for name in names:
            below = _open_directory(opened[-1], name, create, "/".join(names))
            if below is None:
                yield None
                return
            opened.append(below)
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open_directory(above: int, name: str, create: bool, path: str) -> int | None:
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=above)
    except FileNotFoundError:
        if not create:
            return None
    except OSError as error:
        # Without following links, Linux says of a link either ELOOP or ENOTDIR.
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        with suppress(FileNotFoundError):
            if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                _refuse_link(path)
        if not create:
            return None
        raise
    with suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=above)
    return os.open(name, _OPEN_DIRECTORY, dir_fd=above)


def _content(directory: int, name: str, path: str) -> Content | None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return None
        if stat.S_ISLNK(found.st_mode):
            return Content(os.readlink(os.fsencode(name), dir_fd=directory), SYMLINK)
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"{path} is not a file but a pipe, a socket or a device.", "Move it away.")
        # Without O_NONBLOCK a pipe put here meanwhile would block the open for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"{path} is not a file but a pipe, a socket or a device.", "Move it away.")
        return Content(file.read(), _git_mode(found.st_mode))


def _git_mode(mode: int) -> int:
    return EXECUTABLE if mode & 0o100 else REGULAR


def _paths(operation: FileOperation) -> list[str]:
    return [operation.old, operation.new] if isinstance(operation, Rename) else [operation.path]


def _check(operation: FileOperation, expected: Mapping[str, Content | None], allow_escaping_links: bool) -> None:
    """Refuses what can be known beforehand to be wrong."""
    for path in _paths(operation):
        _parts(path)
        if path not in expected:
            raise UsageError(f"Refused to change {path}: it was not said what is expected there.")
    if isinstance(operation, Write):
        mode, data = operation.content.mode, operation.content.data
        if mode not in (REGULAR, EXECUTABLE, SYMLINK):
            what = "a submodule" if mode == SUBMODULE else f"a file of mode {mode:o}"
            raise UsageError(f"Refused to write {operation.path}: it is {what}.", "Use git for it.")
        if mode == SYMLINK and not allow_escaping_links and link_escapes(operation.path, data):
            target = data.decode("utf-8", "backslashreplace")
            raise UsageError(
                f"Refused to create the link {operation.path}: it points out of the tree, to {target!r}.",
                "Look at the target; if it is what you want, create the link yourself.",
            )


def _check_room(top: Path, path: str, operations: Sequence[FileOperation]) -> None:
    """Refuses a new file where a directory is, or below a file, unless an operation clears the way."""
    cleared = {op.path for op in operations if isinstance(op, Delete)}
    cleared |= {op.old for op in operations if isinstance(op, Rename)}
    parts = _parts(path)
    with _reported(top, path):
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if above not in cleared and read(top, above) is not None:
                raise StorageError(f"Could not create {path}: {above} is a file.", "Move it away.")
        with _descent(top, parts) as found:
            if found is not None and not any(other.startswith(path + "/") for other in cleared):
                raise StorageError(f"Could not create {path}: there is a directory of that name.", "Move it away.")


def _require(top: Path, path: str, expected: Content | None) -> None:
    if read(top, path) != expected:
        raise StaleError(f"{path} was changed since its hunks were looked at; nothing was done to it.", "Look again.")


def _partly(error: PlaitError, done: list[str]) -> PlaitError:
    """The same error with the account of what had been written before it."""
    if done:
        message = f"{error.message} Already written: {', '.join(done)}; the rest was not touched."
    else:
        message = f"{error.message} Nothing was written."
    return type(error)(message, error.hint, {**error.data, "done": list(done)})


def _perform(top: Path, operation: FileOperation, now: dict[str, Content | None]) -> None:
    """Performs one operation and keeps the account of what is expected to be where."""
    for path in _paths(operation):
        _require(top, path, now[path])
    match operation:
        case Write(path, content):
            with _reported(top, path):
                _write(top, path, content, now[path])
            now[path] = content
        case Delete(path):
            with _reported(top, path):
                _delete(top, path, now[path])
            now[path] = None
        case Rename(old, new):
            with _reported(top, new):
                _rename(top, old, new)
            now[new], now[old] = now[old], None
        case Chmod(path, mode):
            with _reported(top, path):
                _chmod(top, path, mode)
            before = now[path]
            now[path] = None if before is None else Content(before.data, mode)


def _write(top: Path, path: str, content: Content, before: Content | None) -> None:
    *names, name = _parts(path)
    with _descent(top, names, create=True) as parents:
        assert parents is not None
        directory = parents[-1]
        temporary = _unused_name()
        try:
            _fill(directory, temporary, content, _status(directory, name) if before is not None else None)
            _require(top, path, before)
            _put(directory, temporary, name, replace=before is not None, path=path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        os.fsync(directory)


def _unused_name() -> str:
    return f".{secrets.token_hex(8)}.plait-tmp"


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _fill(directory: int, name: str, content: Content, like: os.stat_result | None) -> None:
    """Creates the file with the owner and the permissions of the one it is to replace."""
    if content.mode == SYMLINK:
        os.symlink(content.data, os.fsencode(name), dir_fd=directory)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # The user's umask decides about a new file, as it does in git.
    fresh = 0o777 if content.mode == EXECUTABLE else 0o666
    descriptor = os.open(name, flags, 0o600 if like is not None else fresh, dir_fd=directory)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.data)
        file.flush()
        if like is not None:
            if (like.st_uid, like.st_gid) != (os.fstat(descriptor).st_uid, os.fstat(descriptor).st_gid):
                with suppress(PermissionError):
                    os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, _with_bit(stat.S_IMODE(like.st_mode), content.mode))
        os.fsync(descriptor)


def _with_bit(permissions: int, mode: int) -> int:
    """The permissions with the executable bit that `mode` asks for, untouched if they have it already."""
    if _git_mode(permissions) == mode:
        return permissions
    if mode == EXECUTABLE:
        return permissions | (permissions & 0o444) >> 2 | 0o100
    return permissions & ~0o111


_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


def _put(directory: int, temporary: str, name: str, *, replace: bool, path: str) -> None:
    """Gives the temporary file its name; a file that appeared there meanwhile is not replaced by a new one."""
    if not replace:
        try:
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            return
        except FileExistsError as error:
            if not _is_directory(directory, name):
                raise StaleError(f"{path} appeared just now; it was left alone.", "Look again.") from error
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _is_directory(directory: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _delete(top: Path, path: str, expected: Content | None) -> None:
    """Removes the file, if what is removed is what was expected."""
    *names, name = _parts(path)
    with _descent(top, names) as parents:
        if parents is None:
            return
        # Moved aside first and then compared: what an editor saves in the meantime is never removed unseen.
        aside = _unused_name()
        os.rename(name, aside, src_dir_fd=parents[-1], dst_dir_fd=parents[-1])
        if _content(parents[-1], aside, path) != expected:
            _put(parents[-1], aside, name, replace=False, path=path)
            with suppress(FileNotFoundError):
                os.unlink(aside, dir_fd=parents[-1])
            raise StaleError(f"{path} was changed just now; it was left alone.", "Look again.")
        os.unlink(aside, dir_fd=parents[-1])
        os.fsync(parents[-1])
        _remove_emptied(parents, names)


def _remove_emptied(parents: Sequence[int], names: Sequence[str]) -> None:
    """Removes the directories that are empty now, from the innermost upwards, as git does."""
    for above, name in zip(reversed(parents[:-1]), reversed(names), strict=True):
        try:
            os.rmdir(name, dir_fd=above)
        except OSError:
            return


def _rename(top: Path, old: str, new: str) -> None:
    *old_names, old_name = _parts(old)
    *new_names, new_name = _parts(new)
    with _descent(top, old_names) as sources, _descent(top, new_names, create=True) as targets:
        assert targets is not None
        if sources is None:
            raise StaleError(f"{old} is gone.", "Look again.")
        source, target = sources[-1], targets[-1]
        try:
            os.link(old_name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            # A file system that ignores case takes the two names of a case-only rename for one file.
            same = error.errno == errno.EEXIST and _same_file(source, old_name, target, new_name)
            if not same and error.errno not in _NO_LINKS:
                raise
            os.rename(old_name, new_name, src_dir_fd=source, dst_dir_fd=target)
        else:
            os.unlink(old_name, dir_fd=source)
        os.fsync(target)
        os.fsync(source)
        _remove_emptied(sources, old_names)


def _same_file(source: int, old: str, target: int, new: str) -> bool:
    one = os.stat(old, dir_fd=source, follow_symlinks=False)
    other = os.stat(new, dir_fd=target, follow_symlinks=False)
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _chmod(top: Path, path: str, mode: int) -> None:
    *names, name = _parts(path)
    with _descent(top, names) as parents:
        if parents is None:
            raise StaleError(f"{path} is gone.", "Look again.")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=parents[-1])
        try:
            found = os.fstat(descriptor)
            os.fchmod(descriptor, _with_bit(stat.S_IMODE(found.st_mode), mode))
        finally:
            os.close(descriptor)
