"""A worktree comes back from the trash byte for byte, and leaves it for good only when asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plait.errors import GitError
from plait.git.removal import remove_tree, size
from plait.git.repo import resolve_base
from plait.git.shadow import Shadow
from plait.git.trash import purge, restore, trash
from plait.git.worktrees import Intent, Worktree, create, listed
from tests.support.repo import commit, make_repo, manifest, refs, run_git, user_commands_work, write


def session(shaded: Shadow, place: Path) -> Worktree:
    base = resolve_base(shaded.repo).commit
    return create(shaded, Intent(place / "worktrees" / "one", "plait/one", base, "plait one"))


def busy_session(shaded: Shadow, place: Path) -> Worktree:
    made = session(shaded, place)
    write(made.path, {".gitignore": "*.env\nvendor/\n", "staged": "S\n", "both": "index\n"})
    run_git(made.path, "add", "staged", "both")
    write(made.path, {"both": "disk\n", "untracked": "U\n", "secret.env": "KEY=1\n", "a.txt": "edited\n"})
    inner = make_repo(made.path / "vendor", {"x": "1\n"})
    write(inner, {"x": "uncommitted\n"})
    return made


def whole(made: Worktree) -> tuple[object, ...]:
    inner = made.path / "vendor/repo"
    return (
        manifest(made.path),
        (made.admin / "index").read_bytes(),
        run_git(made.path, "ls-files", "--stage"),
        run_git(made.path, "diff", "--cached"),
        run_git(inner, "log", "--format=%H") + run_git(inner, "diff"),
    )


def test_everything_returns_even_after_a_prune_and_the_strictest_gc(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    made = busy_session(shaded, tmp_path)
    before = whole(made)
    thrown = trash(shaded, made, tmp_path / "trash")
    assert not made.path.exists()
    run_git(top, "worktree", "prune", "--expire=now")
    run_git(top, "reflog", "expire", "--expire=now", "--all")
    run_git(top, "gc", "--quiet", "--prune=now")
    assert restore(shaded, thrown) == made
    assert whole(made) == before
    assert (made.path / ".git").read_text() == f"gitdir: {made.admin}\n"
    run_git(made.path, "fsck")


def test_an_unlocked_worktree_is_locked_again_before_it_goes(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    made = busy_session(shaded, tmp_path)
    before = whole(made)
    run_git(top, "worktree", "unlock", str(made.path))
    thrown = trash(shaded, made, tmp_path / "trash")
    run_git(top, "worktree", "prune", "--expire=now")
    restore(shaded, thrown)
    assert whole(made) == before


def test_two_of_one_name_lie_side_by_side(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    (tmp_path / "trash" / "one").mkdir(parents=True)
    assert trash(shaded, made, tmp_path / "trash").path == tmp_path / "trash" / "one.2"


def test_a_place_that_is_taken_is_not_overwritten(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    thrown = trash(shaded, made, tmp_path / "trash")
    made.path.mkdir()
    with pytest.raises(GitError, match="Something else"):
        restore(shaded, thrown)
    made.path.rmdir()
    made.path.symlink_to("/nowhere")
    with pytest.raises(GitError, match="Something else"):
        restore(shaded, thrown)
    made.path.unlink()
    assert restore(shaded, thrown) == made


def test_a_git_file_that_the_agent_changed_is_put_right(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    (made.path / ".git").write_text("gitdir: /somewhere/else\n")
    (made.admin / "gitdir").write_text("/nowhere/.git\n")
    restore(shaded, trash(shaded, made, tmp_path / "trash"))
    assert run_git(made.path, "status", "--porcelain") == ""
    (made.path / ".git").unlink()
    (made.path / ".git").symlink_to("/etc/hostname")
    restore(shaded, trash(shaded, made, tmp_path / "trash"))
    assert run_git(made.path, "status", "--porcelain") == ""


def test_a_worktree_that_is_not_there_is_an_answer(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    thrown = trash(shaded, made, tmp_path / "trash")
    with pytest.raises(GitError, match="not there any more"):
        trash(shaded, made, tmp_path / "trash")
    thrown.path.rename(tmp_path / "moved")
    with pytest.raises(GitError, match="not in the trash"):
        restore(shaded, thrown)


def test_another_file_system_is_refused_and_nothing_moves(shaded: Shadow, tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    made = session(shaded, tmp_path)
    before = manifest(made.path)
    place = other / f"plait-test-{os.getpid()}"
    try:
        with pytest.raises(GitError, match="different file systems"):
            trash(shaded, made, place)
        assert manifest(made.path) == before
    finally:
        place.rmdir()


def test_purging_removes_the_worktree_and_only_if_asked_the_branch(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    write(made.path, {"n": "1\n"})
    tip = commit(made.path)
    thrown = trash(shaded, made, tmp_path / "trash")
    assert purge(shaded, thrown) is None
    assert not thrown.path.exists()
    assert not made.admin.exists()
    assert refs(top)["refs/heads/plait/one"] == tip
    assert purge(shaded, thrown, branch_tip="5" * 40) == "moved"
    assert purge(shaded, thrown, branch_tip=tip) == "deleted"
    assert list(refs(top)) == ["refs/heads/main"]
    assert len(listed(shaded.repo)) == 1
    user_commands_work(top)


def test_a_worktree_that_was_restored_is_not_purged(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    thrown = trash(shaded, made, tmp_path / "trash")
    restore(shaded, thrown)
    with pytest.raises(GitError, match="not in the trash"):
        purge(shaded, thrown)
    assert (made.path / "a.txt").exists()


def test_removal_follows_no_link_and_stops_at_no_permission_or_depth(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    write(keep, {"precious": "1\n"})
    top = tmp_path / "top"
    write(top, {"a/b/c": "1\n", "ro/x": "1\n", "none/y/z": "1\n", ".plait-removing-0/q": "1\n"})
    (top / "link").symlink_to(keep)
    (top / "a" / "link").symlink_to(keep / "precious")
    (top / "ro").chmod(0o500)
    (top / "none" / "y").chmod(0o000)
    (top / "none").chmod(0o000)
    os.mkfifo(top / "pipe")
    (top / os.fsdecode(b"\xff\n")).mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    remove_tree(top)
    assert not os.path.lexists(top)
    assert (keep / "precious").read_text() == "1\n"
    remove_tree(top)
    (tmp_path / "entry").symlink_to(keep)
    remove_tree(tmp_path / "entry")
    assert keep.is_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user whom permissions bind")
def test_removal_works_for_a_user_whom_permissions_bind(tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    place.mkdir()
    os.chown(place, 65534, 65534)
    script = """
import os, sys
from pathlib import Path
from plait.git.removal import remove_tree
os.setgid(65534)
os.setuid(65534)
top = Path("top")
(top / "a/b/c").mkdir(parents=True)
(top / "a/b/c/f").write_text("x")
for name in ("a/b/c", "a/b", "a", "."):
    (top / name).chmod(0o000)
remove_tree(top)
sys.exit(os.path.lexists(top))
"""
    server = next(entry for entry in sys.path if entry.endswith("server"))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=place, env={"PYTHONPATH": server}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_size_counts_a_file_once_and_follows_no_link(tmp_path: Path) -> None:
    top = tmp_path / "top"
    write(top, {"a": b"x" * 100_000, "d/b": b"y" * 50_000})
    plain = size(top)
    assert 150_000 <= plain < 250_000
    os.link(top / "a", top / "d" / "again")
    (top / "link").symlink_to("/usr")
    assert size(top) - plain < 10_000
    assert size(tmp_path / "missing") == 0
