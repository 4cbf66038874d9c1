"""The configuration as it stands on disk now: read again when a file changed, and never a reason to stop."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from plait.core.config import LONGEST_FILE, Problem, RepoConfig, UserConfig, parse_repo, parse_user

Config = TypeVar("Config", UserConfig, RepoConfig)


@dataclass(frozen=True)
class Loaded(Generic[Config]):
    """A configuration and what of its file was not used."""

    config: Config
    problems: tuple[Problem, ...] = ()


class Settings:
    """The user's `config.toml` and, for each checkout, its `plait.toml`, kept until the file changes.

    Commands of a repository are taken from the base commit (`plait.core.setup`); what the checkout's file says
    here is for showing, and needs approval as much.
    """

    def __init__(self, config_file: Path) -> None:
        self._config_file = config_file
        self._user: tuple[_Stamp, Loaded[UserConfig]] | None = None
        self._repositories: dict[Path, tuple[_Stamp, Loaded[RepoConfig]]] = {}

    def user(self) -> Loaded[UserConfig]:
        """The user's configuration; the defaults if there is none, and with a problem if it cannot be read."""
        stamp = _stamp(self._config_file)
        if self._user is None or self._user[0] != stamp:
            # A dotfile manager may have made this one a link; it is the user's own.
            text, problems = _read(self._config_file, follow=True)
            config, wrong = parse_user(text)
            self._user = stamp, Loaded(config, problems + wrong)
        return self._user[1]

    def repository(self, top: Path) -> Loaded[RepoConfig]:
        """The `plait.toml` in the checkout whose root is `top`, likewise."""
        path = top / "plait.toml"
        stamp = _stamp(path)
        known = self._repositories.get(top)
        if known is None or known[0] != stamp:
            text, problems = _read(path, follow=False)
            config, wrong = parse_repo(text)
            known = self._repositories[top] = stamp, Loaded(config, problems + wrong)
        return known[1]


_Stamp = tuple[int, ...] | str


def _stamp(path: Path) -> _Stamp:
    """What changes whenever the file does: also when it is replaced, or rewritten within one tick of the clock."""
    try:
        found = path.lstat()
        behind = path.stat()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "")
    return (
        found.st_ino,
        behind.st_dev,
        behind.st_ino,
        behind.st_size,
        behind.st_mode,
        behind.st_mtime_ns,
        behind.st_ctime_ns,
    )


def _read(path: Path, *, follow: bool) -> tuple[str, tuple[Problem, ...]]:
    """The file's text, empty if it is missing, or empty with the reason why it cannot be read."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return "", ()
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else os.strerror(error.errno or 0)
        return "", (_unreadable(path, reason),)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "", (_unreadable(path, "it is not a file"),)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(4 * LONGEST_FILE).decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return "", (_unreadable(path, "it is not UTF-8"),)
    except OSError as error:
        return "", (_unreadable(path, os.strerror(error.errno or 0)),)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, reason: str) -> Problem:
    return Problem(f"{path} could not be read ({reason}); the defaults hold until it can be.", None, path.name)
