"""Bringing ignored files into a worktree: what is wanted comes, and nothing leads out or is replaced."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from plait.engine import setup
from plait.engine.setup import Brought, bring_ignored, symlink_dirs
from plait.errors import StorageError


def _git(cwd: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A checkout with ignored files of many kinds, and a worktree of it at `tmp_path / "worktree"`."""
    top = tmp_path / "checkout"
    top.mkdir()
    _git(top, "init", "-q")
    _write(top / ".gitignore", "*.env\n.env\nnode_modules/\nbuild/\nvendor/\nsub/secret\n")
    _write(top / "tracked.txt", "tracked\n")
    _git(top, "add", ".")
    _git(top, "commit", "-qm", "base")
    _git(top, "worktree", "add", "-q", "--lock", "--no-track", "-b", "x", str(tmp_path / "worktree"))
    return top


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _ignored(top: Path) -> list[str]:
    listed = _git(top, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
    return [path for path in listed.split("\0") if path]


def _bring(top: Path, *patterns: str) -> Brought:
    return bring_ignored(top, top.parent / "worktree", patterns, _ignored(top))


def _brought(top: Path) -> set[str]:
    worktree = top.parent / "worktree"
    present = {
        str(path.relative_to(worktree)) for path in worktree.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    return present - {".git", ".gitignore", "tracked.txt"}


def test_only_what_matches_and_is_ignored_comes(top: Path) -> None:
    _write(top / ".env", "A=1\n")
    _write(top / "deep" / "er" / "x.env", "B=2\n")
    _write(top / "untracked.txt", "not ignored\n")
    _write(top / "build" / "out", "ignored, not wanted\n")
    result = _bring(top, ".env", "*.env", "untracked.txt", "tracked.txt")
    assert _brought(top) == {".env", "deep/er/x.env"}
    assert result == Brought(2, 8, ())
    assert (top.parent / "worktree" / ".env").read_text() == "A=1\n"


def test_without_patterns_nothing_comes(top: Path) -> None:
    _write(top / ".env", "A=1\n")
    assert _bring(top) == Brought(0, 0, ())
    assert _bring(top, "# .env", "") == Brought(0, 0, ())


def test_directories_that_git_lists_as_one_are_looked_into(top: Path) -> None:
    _write(top / "node_modules" / "a" / "index.js", "1")
    _write(top / "node_modules" / "a" / ".env", "2")
    _write(top / "build" / "a.o", "3")
    assert _ignored(top) == ["build/", "node_modules/"]
    _bring(top, "node_modules")
    assert _brought(top) == {"node_modules/a/index.js", "node_modules/a/.env"}
    _bring(top, "build/*.o")
    assert "build/a.o" in _brought(top)


def test_a_negated_pattern_keeps_its_files_back(top: Path) -> None:
    _write(top / "build" / "keep.o", "1")
    _write(top / "build" / "secret" / "key", "2")
    _write(top / ".env", "3")
    _write(top / "prod.env", "4")
    _bring(top, "build/", "!build/secret/", "*.env", "!prod.env")
    assert _brought(top) == {"build/keep.o", ".env"}


def test_what_is_already_there_is_never_replaced(top: Path) -> None:
    _write(top / ".env", "mine")
    _write(top / "build" / "x", "1")
    worktree = top.parent / "worktree"
    _write(worktree / ".env", "theirs")
    (worktree / "build").symlink_to(top.parent / "outside")
    result = _bring(top, ".env", "build")
    assert (worktree / ".env").read_text() == "theirs"
    assert dict(result.skipped)[".env"] == "it is already there"
    assert result.files == 0
    assert not (top.parent / "outside").exists()
    again = _bring(top, ".env")
    assert again.skipped == ((".env", "it is already there"),)


def test_a_directory_that_is_a_link_in_the_worktree_is_not_gone_through(top: Path) -> None:
    outside = top.parent / "outside"
    outside.mkdir()
    (top.parent / "worktree" / "sub").symlink_to(outside)
    _write(top / "sub" / "secret", "s")
    result = _bring(top, "sub/secret")
    assert list(outside.iterdir()) == []
    assert [path for path, _ in result.skipped] == ["sub/secret"]
    assert "link" in result.skipped[0][1]


def test_links_come_as_links_and_are_never_followed(top: Path) -> None:
    outside = _write(top.parent / "outside" / "id_rsa", "PRIVATE")
    (top / "key.env").symlink_to(outside)
    (top / "build").mkdir()
    (top / "build" / "dir").symlink_to(outside.parent)
    (top / "build" / "dangling").symlink_to("nowhere")
    _bring(top, "*.env", "build/**")
    worktree = top.parent / "worktree"
    assert (worktree / "key.env").readlink() == outside
    assert (worktree / "build" / "dir").readlink() == outside.parent
    assert (worktree / "build" / "dangling").readlink() == Path("nowhere")
    assert _brought(top) == {"key.env", "build/dangling", "build/dir"}


def test_a_listed_path_below_a_link_in_the_checkout_is_refused(top: Path) -> None:
    _write(top.parent / "outside" / "id_rsa", "PRIVATE")
    (top / "build").symlink_to(top.parent / "outside")
    worktree = top.parent / "worktree"
    result = bring_ignored(top, worktree, ["*"], ["build/id_rsa", "build/"])
    assert result.files == 0
    assert _brought(top) == set()


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../outside/x", "a/../../outside/x", "", "a//b", "./a", "a\0b", ".git/config", "x/.GIT/y"]
)
def test_paths_that_leave_the_checkout_or_enter_git_are_refused(top: Path, path: str) -> None:
    _write(top.parent / "outside" / "x", "PRIVATE")
    assert bring_ignored(top, top.parent / "worktree", ["*"], [path, path + "/"]).files == 0
    assert _brought(top) == set()


def test_nested_repositories_worktrees_and_tools_directories_are_left_alone(top: Path) -> None:
    _write(top / "vendor" / "lib" / "kept", "1")
    nested = top / "vendor" / "repo"
    nested.mkdir()
    _git(nested, "init", "-q")
    _write(nested / "inner", "x")
    _git(top, "worktree", "add", "-q", "-b", "y", str(top / "build" / "wt"))
    _write(top / "vendor" / ".hg" / "store", "x")
    _write(top / "vendor" / ".worktrees" / "w" / "f", "x")
    result = _bring(top, "vendor/", "build/")
    assert _brought(top) == {"vendor/lib/kept"}
    assert {path for path, _ in result.skipped} == {"vendor/repo/", "build/wt/"}


def test_modes_times_and_bytes_are_kept_and_special_files_are_named(top: Path) -> None:
    script = _write(top / "build" / "run", "#!/bin/sh\n")
    script.chmod(0o750)
    os.utime(script, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    binary = top / "build" / "blob"
    binary.write_bytes(bytes(range(256)) * 9000)
    suid = _write(top / "build" / "suid", "")
    suid.chmod(0o4755)
    (top / "build").chmod(0o750)
    os.mkfifo(top / "build" / "fifo")
    result = _bring(top, "build/")
    copied = top.parent / "worktree" / "build"
    assert (copied / "run").stat().st_mode & 0o7777 == 0o750
    assert (copied / "run").stat().st_mtime_ns == script.stat().st_mtime_ns
    assert (copied / "blob").read_bytes() == binary.read_bytes()
    assert (copied / "suid").stat().st_mode & 0o7777 == 0o755
    assert copied.stat().st_mode & 0o777 == 0o750
    assert result.skipped == (("build/fifo", "it is neither a file nor a link"),)
    assert (result.files, result.bytes) == (3, 10 + 256 * 9000)


def test_the_copy_is_independent_of_the_checkouts_file(top: Path) -> None:
    original = _write(top / ".env", "A=1")
    os.link(original, top / "second.env")
    _bring(top, "*.env", ".env")
    (top.parent / "worktree" / ".env").write_text("changed by the agent")
    assert original.read_text() == "A=1"
    assert (top.parent / "worktree" / "second.env").read_text() == "A=1"


def test_names_that_are_not_utf8_come_along(top: Path) -> None:
    name = os.fsdecode(b"\xff\xfe\n.env")
    _write(top / name, "x")
    bring_ignored(top, top.parent / "worktree", ["*.env"], [name])
    assert (top.parent / "worktree" / name).read_text() == "x"


def test_what_a_killed_copy_left_behind_is_cleared_by_the_next(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(top / ".env", "A=1")

    class Killed(BaseException):
        pass

    def die(target: int, beside: str, name: str) -> None:
        raise Killed

    unlink = setup._unlink_if_there
    with monkeypatch.context() as patched:
        patched.setattr(setup, "_into_place", die)
        patched.setattr(setup, "_unlink_if_there", lambda name, directory: None)
        with pytest.raises(Killed):
            _bring(top, ".env")
    left = _brought(top)
    assert len(left) == 1
    assert ".env" not in left
    assert setup._unlink_if_there is unlink
    _bring(top, ".env")
    assert _brought(top) == {".env"}


def test_a_full_disk_stops_with_a_sentence_and_no_half_file(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(top / ".env", "A=1")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(setup._Copying, "_contents", full)
    with pytest.raises(StorageError, match="No space left"):
        _bring(top, ".env")
    assert _brought(top) == set()


def test_progress_is_told_and_may_stop_it(top: Path) -> None:
    for number in range(5):
        _write(top / "build" / str(number), "x" * number)
    seen: list[tuple[int, int]] = []

    def progress(files: int, size: int) -> None:
        seen.append((files, size))
        if files == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        bring_ignored(top, top.parent / "worktree", ["build/"], _ignored(top), progress)
    assert seen == [(1, 0), (2, 1), (3, 3)]
    assert _brought(top) == {"build/0", "build/1", "build/2"}


def test_no_descriptor_stays_open(top: Path) -> None:
    for number in range(20):
        _write(top / "build" / str(number) / "x", "x")
    (top / "build" / "link").symlink_to("/")
    before = len(list(Path("/dev/fd").iterdir()))
    _bring(top, "build/", "nothing[")
    symlink_dirs(top, top.parent / "worktree", ["build", "no", "../x"])
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_pattern_that_is_none_is_named_and_the_others_count(top: Path) -> None:
    _write(top / ".env", "A=1")
    result = _bring(top, "!", ".env")
    assert result.files == 1
    assert [path for path, _ in result.skipped] == ["!"]


def test_a_missing_worktree_is_a_sentence(top: Path) -> None:
    with pytest.raises(StorageError, match="no-such"):
        bring_ignored(top, top.parent / "no-such", ["*"], [])


def test_shared_directories_are_linked_where_nothing_is_yet(top: Path) -> None:
    _write(top / "node_modules" / "a", "1")
    _write(top / "pkg" / "node_modules" / "b", "2")
    worktree = top.parent / "worktree"
    linked = symlink_dirs(top, worktree, ["node_modules", "pkg/node_modules/"])
    assert linked.made == ("node_modules", "pkg/node_modules")
    assert (worktree / "pkg" / "node_modules" / "b").read_text() == "2"
    assert (worktree / "node_modules").is_symlink()
    assert "node_modules" in linked.note
    assert "checkout" in linked.note
    again = symlink_dirs(top, worktree, ["node_modules"])
    assert again.made == ()
    assert again.note == ""
    assert again.skipped == (("node_modules", "it is already there"),)


def test_nothing_outside_is_ever_linked(top: Path) -> None:
    outside = top.parent / "outside"
    outside.mkdir()
    (top / "link").symlink_to(outside)
    _write(top / "file", "x")
    _write(top / "sub" / "dir" / "x", "x")
    worktree = top.parent / "worktree"
    (worktree / "sub").symlink_to(outside)
    wanted = ["link", "file", "/etc", "../outside", ".git", "missing", "sub/dir", ".git/hooks"]
    linked = symlink_dirs(top, worktree, wanted)
    assert linked.made == ()
    assert [path for path, _ in linked.skipped] == wanted
    assert list(outside.iterdir()) == []
    assert _brought(top) == {"sub"}
