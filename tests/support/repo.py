"""Repositories for tests: how one is made, changed, and proved unchanged."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

LINES = "".join(f"line {number}\n" for number in range(40))
"""A text in which every line is another."""


def run_git(where: Path, *args: str, stdin: bytes = b"", check: bool = True) -> str:
    """What the user's own git says in `where`, as its owner would run it."""
    done = subprocess.run(["git", *args], cwd=where, input=stdin, capture_output=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"git {' '.join(args)} -> {done.returncode}: {os.fsdecode(done.stderr)}")
    return os.fsdecode(done.stdout).removesuffix("\n")


def make_repo(place: Path, files: Mapping[str, str | bytes] | None = None, *, init: Sequence[str] = ()) -> Path:
    """A repository at `place` / repo on branch main, with one commit if there are files."""
    top = place / "repo"
    top.mkdir(parents=True)
    run_git(top, "init", "--quiet", "--initial-branch=main", *init)
    if files:
        write(top, files)
        commit(top, "Start")
    return top


def write(top: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files below `top`; text as UTF-8, without changing line ends."""
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def commit(top: Path, message: str = "Change") -> str:
    """Commit everything in `top` and return the commit's id."""
    run_git(top, "add", "--all")
    run_git(top, "commit", "--quiet", "--allow-empty", "--message", message)
    return run_git(top, "rev-parse", "HEAD")


def manifest(top: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Path -> (mode, digest or link target, time of change) of everything below `top` except a .git directory."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(top):
        if ".git" in names and Path(directory) == top:
            names.remove(".git")
        for name in [*names, *files]:
            path = Path(directory) / name
            seen = path.lstat()
            if stat.S_ISLNK(seen.st_mode):
                content = str(path.readlink())
            elif stat.S_ISREG(seen.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                content = ""
            moment = seen.st_mtime_ns if times and not stat.S_ISDIR(seen.st_mode) else 0
            found[str(path.relative_to(top))] = (seen.st_mode, content, moment)
    return found


def refs(top: Path) -> dict[str, str]:
    """Every ref of the repository and what it points at."""
    lines = run_git(top, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.rsplit(" ", 1) for line in lines)


def user_commands_work(top: Path) -> None:
    """Fail unless the commands that a user runs daily all succeed."""
    for command in (
        ("branch", "--all"),
        ("status",),
        ("log", "--all", "--oneline"),
        ("fetch", "."),
        ("worktree", "list"),
        ("worktree", "prune"),
        ("stash", "list"),
        ("switch", "-c", "probe"),
        ("switch", "-"),
        ("branch", "-D", "probe"),
        ("fsck",),
        ("gc", "--quiet"),
    ):
        run_git(top, *command)
