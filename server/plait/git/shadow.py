"""The git directory that Plait owns for each repository, through which it reads and fills worktrees.

An agent can write the repository's configuration, and configuration names programs that git runs: filters,
drivers, hooks, file system monitors. Here lies a directory with a configuration of ours, a fixed list of
harmless keys copied by value, beside the repository's own objects. Whatever an agent writes into the
repository is never read as configuration by commands that run here. The user's global configuration is
trusted and stays in force, so that a filter such as LFS set up there works.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.errors import GitError, StorageError
from plait.git.removal import remove_tree
from plait.git.repo import Repo
from plait.git.run import Result, encoded, git
from plait.paths import private_directory

# Values that change how bytes become blobs and back, and none that names a program or a file.
_KEYS = (
    "core.autocrlf",
    "core.eol",
    "core.safecrlf",
    "core.ignorecase",
    "core.filemode",
    "core.symlinks",
    "core.precomposeunicode",
    "core.protecthfs",
    "core.protectntfs",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "core.bigfilethreshold",
    "core.repositoryformatversion",
    "extensions.objectformat",
    "index.sparse",
    "user.name",
    "user.email",
)
_COPIED = ("info/exclude", "info/attributes", "info/sparse-checkout", "shallow")
_LARGEST_COPY = 4 * 1024 * 1024
_POLL_S = 0.01
_ABANDONED_S = 24 * 3600.0
_DISK = "Check the disk and its permissions."


@dataclass(frozen=True)
class Shadow:
    """Plait's own git directory for one repository, and the lock under which that repository is written."""

    repo: Repo
    home: Path
    """`<state>/repos/<key>`; holds the git directory, the locks and what is temporary."""

    @property
    def git_dir(self) -> Path:
        return self.home / "git"

    @property
    def sparse(self) -> bool:
        """Whether worktrees hold only a part of the tree."""
        return (self.git_dir / "info" / "sparse-checkout").exists()

    def run(
        self,
        *args: str,
        work_tree: Path | None = None,
        index: Path | None = None,
        scratch: Path | None = None,
        also: Sequence[Path] = (),
        stdin: bytes = b"",
        check: bool = True,
        writes: bool = False,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
        keep_open: Sequence[int] = (),
    ) -> Result:
        """Run git here, on the repository's objects.

        With `scratch`, new objects go to that directory instead; `also` names scratch directories to read
        besides.
        """
        others = [*([self.repo.objects] if scratch else []), *also]
        return git(
            args,
            cwd=work_tree or self.git_dir,
            git_dir=self.git_dir,
            work_tree=work_tree,
            index=index,
            objects=scratch or self.repo.objects,
            alternates=others,
            environment=environment,
            stdin=stdin,
            check=check,
            writes=writes,
            timeout_s=timeout_s,
            keep_open=keep_open,
        )

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A private directory that is gone afterwards: for an index, or for objects that nobody shall
        keep."""
        place = private_directory(self.home / "tmp")
        try:
            made = tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True)
        except OSError as error:
            raise StorageError(f"Could not write in {place}: {error.strerror}.", _DISK) from error
        with made as name:
            yield Path(name)

    @contextlib.contextmanager
    def writer(self, timeout_s: float = 300.0) -> Iterator[int]:
        """Be the only one of all our threads and processes that writes to the repository.

        Yields the lock's descriptor: a git that inherits it (`keep_open`) holds the lock until it ends,
        even if we are killed. Raises GitError if others hold it for `timeout_s` seconds.
        """
        with held(self.home / "lock", timeout_s) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def filling(self, worktree: Path, timeout_s: float = 900.0) -> Iterator[int]:
        """Be the only one who makes or repairs the worktree at this path; works as `writer` does."""
        name = hashlib.sha256(os.fsencode(worktree)).hexdigest()[:32]
        with held(private_directory(self.home / "filling") / name, timeout_s) as descriptor:
            yield descriptor


def shadow(repo: Repo, state: Path) -> Shadow:
    """The shadow of `repo` below the state directory, made or brought up to date if the repository's
    settings changed.

    Raises StorageError if it cannot be written, GitError if the repository's configuration cannot be read.
    """
    found = Shadow(repo, private_directory(private_directory(state / "repos") / repo.key))
    _sweep(found.home / "tmp")
    wanted = {"config": _config(repo), **_copies(repo), "HEAD": b"ref: refs/heads/none\n"}
    if _up_to_date(found.git_dir, wanted):
        return found
    with held(found.home / "shadow.lock", 60.0):
        if not _up_to_date(found.git_dir, wanted):
            _write(found, wanted)
    return found


def _sweep(place: Path) -> None:
    # A kill leaves its temporary directory; after a day nobody works in it any more.
    with contextlib.suppress(FileNotFoundError):
        for left in place.iterdir():
            if left.lstat().st_mtime < time.time() - _ABANDONED_S:
                remove_tree(left)


@contextlib.contextmanager
def held(path: Path, timeout_s: float) -> Iterator[int]:
    """Hold the lock file `path`, which is never removed; raises GitError after `timeout_s` seconds of
    waiting."""
    deadline = time.monotonic() + timeout_s
    own = _thread_lock(path)
    if not own.acquire(timeout=timeout_s):
        raise _busy(path, timeout_s)
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(f"Could not open the lock {path}: {error.strerror}.", _DISK) from error
        try:
            while not _locked(descriptor):
                if time.monotonic() > deadline:
                    raise _busy(path, timeout_s)
                time.sleep(_POLL_S)
            yield descriptor
        finally:
            # Closing, and not unlocking: a git that inherited the descriptor keeps the lock.
            os.close(descriptor)
    finally:
        own.release()


_thread_locks: dict[Path, threading.Lock] = {}


def _thread_lock(path: Path) -> threading.Lock:
    # Threads queue here in turn; only one of them then competes for the file with other processes.
    return _thread_locks.setdefault(path, threading.Lock())


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(path: Path, timeout_s: float) -> GitError:
    return GitError(
        f"Another of Plait's git commands held {path} for more than {timeout_s:g} s.",
        "Try again; `plait daemon restart` is safe if it does not end.",
    )


def _config(repo: Repo) -> bytes:
    values = {"core.bare": "false"}
    places = [repo.common_dir / "config"]
    if _read(places[0], r"^extensions\.worktreeconfig$").get("extensions.worktreeconfig", "").lower() in (
        "true",
        "1",
        "yes",
        "on",
    ):
        places.append(repo.git_dir / "config.worktree")
    pattern = "^(" + "|".join(key.replace(".", r"\.") for key in _KEYS) + ")$"
    for place in places:
        values.update(_read(place, pattern))
    values["lfs.storage"] = os.fspath(repo.common_dir / "lfs")
    lines = []
    for key, value in sorted(values.items()):
        section, name = key.split(".", 1)
        lines.append(f"[{section}]\n\t{name} = {_escaped(value)}\n")
    return encoded("".join(lines))


def _read(place: Path, pattern: str) -> dict[str, str]:
    if not place.exists():
        return {}
    found = git(
        ["config", "--file", os.fspath(place), "--no-includes", "-z", "--get-regexp", pattern],
        cwd=Path("/"),
        check=False,
    )
    if found.status > 1:
        raise GitError(f"git cannot read {place}: {found.err.strip()}", "Repair that file; git itself refuses it too.")
    pairs = [field.partition("\n") for field in found.fields]
    # A key without "= value" means true.
    return {key: value if mark else "true" for key, mark, value in pairs}


def _escaped(value: str) -> str:
    body = (
        value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\b", "\\b")
    )
    return f'"{body}"'


def _copies(repo: Repo) -> dict[str, bytes]:
    copies = {}
    for name in _COPIED:
        # The sparse patterns belong to a checkout, the others to the repository.
        source = (repo.git_dir if name == "info/sparse-checkout" else repo.common_dir) / name
        content = _plain_file(source)
        if content is not None:
            copies[name] = content
    return copies


def _plain_file(path: Path) -> bytes | None:
    # An agent can put a link or a pipe there, which would leak a file of the user's or hang us.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not _is_small_file(descriptor):
            return None
        return file.read(_LARGEST_COPY)


def _is_small_file(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST_COPY


def _up_to_date(git_dir: Path, wanted: Mapping[str, bytes]) -> bool:
    if not (git_dir / "refs").is_dir() or not (git_dir / "objects").is_dir():
        return False
    return all(_content(git_dir / name) == wanted.get(name) for name in ("config", "HEAD", *_COPIED))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write(found: Shadow, wanted: Mapping[str, bytes]) -> None:
    git_dir = found.git_dir
    try:
        for name in ("info", "objects", "refs"):
            private_directory(git_dir / name)
        for name in ("config", "HEAD", *_COPIED):
            if name not in wanted:
                (git_dir / name).unlink(missing_ok=True)
            elif _content(git_dir / name) != wanted[name]:
                fresh = git_dir / f"{name}.new"
                fresh.write_bytes(wanted[name])
                fresh.replace(git_dir / name)
    except OSError as error:
        raise StorageError(f"Could not write {git_dir}: {error.strerror}.", _DISK) from error
