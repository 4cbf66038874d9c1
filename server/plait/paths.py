"""Where Plait keeps things; one value decides it, so that tests and users can move everything at once.

Imports nothing but the standard library at module level: the proxy imports this and must start in milliseconds.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from plait.errors import StorageError


class Places(NamedTuple):
    """The directories of one user's installation."""

    config: Path
    """`config.toml` lies here."""
    state: Path
    """Sessions, approvals, the index, the trash list: what must not be lost."""
    data: Path
    """Managed worktrees and their trash, on one file system."""
    runtime: Path
    """The daemon's socket and lock."""

    @property
    def config_file(self) -> Path:
        return self.config / "config.toml"

    @property
    def sessions(self) -> Path:
        return self.state / "sessions"

    @property
    def socket(self) -> Path:
        return self.runtime / "daemon.sock"

    @property
    def lock(self) -> Path:
        return self.runtime / "daemon.lock"

    @property
    def log(self) -> Path:
        return self.state / "daemon.log"


def places() -> Places:
    """The places of the current user.

    `PLAIT_HOME` moves all of them below one directory; otherwise the platform's own conventions hold
    (XDG base directories on Linux, `~/Library` on macOS).
    """
    home = os.environ.get("PLAIT_HOME")
    if home:
        root = Path(home).absolute()
        return Places(root / "config", root / "state", root / "data", root / "run")
    if os.environ.get("XDG_RUNTIME_DIR") is None:
        # Without a runtime directory the platform's fallback is a shared /tmp, which cleaners empty.
        runtime = _platform_dir("state") / "run"
    else:
        runtime = Path(os.environ["XDG_RUNTIME_DIR"]) / "plait"
    return Places(_platform_dir("config"), _platform_dir("state"), _platform_dir("data"), runtime)


def _platform_dir(kind: str) -> Path:
    from platformdirs import PlatformDirs

    dirs = PlatformDirs("plait", appauthor=False)
    return {"config": dirs.user_config_path, "state": dirs.user_state_path, "data": dirs.user_data_path}[kind]


def private_directory(path: Path) -> Path:
    """`path`, created if need be, as a real directory of ours that nobody else can enter.

    Raises StorageError if it is a link, belongs to somebody else, or cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StorageError(f"Could not create the directory {path}: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode):
        raise StorageError(f"{path} is not a directory.", "Move it away; Plait keeps private files there.")
    if found.st_uid != os.getuid():
        raise StorageError(f"{path} belongs to another user.", "Remove it or set PLAIT_HOME to a directory of yours.")
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path
