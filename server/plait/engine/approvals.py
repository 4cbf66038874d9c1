"""Which commands of which repositories the user has allowed, each under the hash of exactly what was shown.

The file lies in the state directory, never in a repository. It is private, replaced by rename, and carries its own
digest: one that is damaged, or that somebody else could have written, approves nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from plait.errors import StorageError
from plait.paths import private_directory

FILE = "approvals.json"
LOCK = "approvals.lock"
VERSION = 1


@dataclass(frozen=True)
class Approval:
    """One thing that the user has allowed."""

    key: str
    """What `plait.core.setup.approval_key` makes of it."""
    repo: str
    source: str
    """The file that the commands stand in."""
    commands: tuple[str, ...]
    """As they were shown."""
    approved_at: float
    """Seconds since the epoch."""


class Approvals:
    """The approvals in one state directory; several processes may use it at once."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir
        self._path = state_dir / FILE

    def approved(self, key: str) -> bool:
        """Whether exactly this has been allowed; False as well whenever that cannot be told for certain."""
        return any(one.key == key for one in self.listing())

    def listing(self) -> tuple[Approval, ...]:
        """Everything allowed, oldest first; nothing if the file is damaged or unsafe, which `problem` explains."""
        return self._read()[0]

    def problem(self) -> str | None:
        """Why the file on disk counts for nothing, or None if it is sound or does not exist."""
        return self._read()[1]

    def approve(self, key: str, repo: str, source: str, commands: Sequence[str], now: float) -> Approval:
        """Allow it from `now` on (seconds since the epoch). Raises StorageError if that could not be kept."""
        if not _KEY.fullmatch(key):
            raise ValueError("an approval's key is 64 hexadecimal digits")
        new = Approval(key, repo, source, tuple(commands), float(now))
        self._change(lambda known: (*(one for one in known if one.key != key), new))
        return new

    def revoke(self, key_or_repo: str) -> int:
        """Take back one approval by its key, or all of one repository; how many went. Raises StorageError."""
        removed = 0

        def without(known: tuple[Approval, ...]) -> tuple[Approval, ...]:
            nonlocal removed
            kept = tuple(one for one in known if key_or_repo not in {one.key, one.repo})
            removed = len(known) - len(kept)
            return kept

        self._change(without)
        return removed

    def _change(self, change: Callable[[tuple[Approval, ...]], tuple[Approval, ...]]) -> None:
        private_directory(self._directory)
        try:
            with _locked(self._directory / LOCK):
                known, problem = self._read()
                if problem is not None:
                    self._quarantine(problem)
                after = change(known)
                if after != known:
                    _replace(self._path, _encoded(after))
        except OSError as error:
            raise StorageError(
                f"Could not write {self._path}: {error.strerror}.", "The approvals are as they were before."
            ) from error

    def _read(self) -> tuple[tuple[Approval, ...], str | None]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return (), None
        except OSError as error:
            return (), f"{self._path} could not be opened safely: {error.strerror}."
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
                return (), f"{self._path} is not a file that only you can write."
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return _decoded(file.read()), None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return (), f"{self._path} is damaged, or was written by another version."
        finally:
            os.close(descriptor)

    def _quarantine(self, problem: str) -> None:
        """Move the file aside, never over an older one of its kind. Raises StorageError if it is a directory."""
        if self._path.is_dir() and not self._path.is_symlink():
            raise StorageError(problem, f"Move {self._path} away.")
        number = 1
        while os.path.lexists(aside := self._path.with_name(f"{FILE}.damaged-{number}")):
            number += 1
        self._path.rename(aside)


_KEY = re.compile(r"[0-9a-f]{64}")


def _encoded(approvals: Sequence[Approval]) -> bytes:
    entries = [asdict(one) for one in approvals]
    document = {"version": VERSION, "digest": _digest(entries), "approvals": entries}
    return json.dumps(document, indent=1).encode("ascii") + b"\n"


def _decoded(content: bytes) -> tuple[Approval, ...]:
    """Raises ValueError, TypeError, KeyError or RecursionError unless every byte that matters is as it was written."""
    document = json.loads(content)
    entries = document["approvals"]
    if set(document) != {"version", "digest", "approvals"} or document["version"] != VERSION:
        raise ValueError("not a file of this version")
    if document["digest"] != _digest(entries):
        raise ValueError("the digest does not fit")
    return tuple(Approval(**{**entry, "commands": tuple(entry["commands"])}) for entry in entries)


def _digest(entries: object) -> str:
    canonical = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held while one process changes the file; the lock file itself stays for ever, so that all lock the same one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    """Put the content there in one step that survives a crash; only the holder of the lock calls this."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
