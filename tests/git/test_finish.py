"""Reviewed work reaches the branch in three ways, or nothing changes and the reason is said."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from plait.errors import ConflictError, GitError, NothingToDo, PlaitError, UsageError
from plait.git import checkout
from plait.git.finish import Finished, FinishIntent, How, finish, recover_finish
from plait.git.repo import find, resolve_base
from plait.git.shadow import Shadow, shadow
from plait.git.trees import tree_of, write_tree
from plait.git.worktrees import Intent, Worktree, create
from tests.support.repo import commit, make_repo, manifest, refs, run_git, user_commands_work, write

WHO = ("Ada", "ada@example.org")
START: dict[str, str | bytes] = {"a.txt": "".join(f"{n}\n" for n in range(30)), "b.txt": "b\n", "d/c.txt": "c\n"}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, START)


@pytest.fixture
def made(shaded: Shadow, tmp_path: Path) -> Worktree:
    base = resolve_base(shaded.repo).commit
    return create(shaded, Intent(tmp_path / "w" / "one", "plait/one", base, "plait one"))


def lines(**changed: str) -> str:
    return "".join(f"{changed.get(f'l{n}', n)}\n" for n in range(30))


def two_commits(made: Worktree) -> str:
    write(made.path, {"a.txt": lines(l3="three"), "new/x": "X\n"})
    run_git(made.path, "-c", "user.name=Bot", "-c", "user.email=bot@x", "add", "-A")
    run_git(made.path, "-c", "user.name=Bot", "-c", "user.email=bot@x", "commit", "-qm", "First\n\nBody: ü")
    write(made.path, {"a.txt": lines(l3="three", l4="four")})
    (made.path / "b.txt").unlink()
    return commit(made.path, "Second")


def bring(shaded: Shadow, how: How, work: str, *, tree: str | None = None, into: str = "main") -> Finished:
    reviewed = tree or tree_of(shaded, work)
    return finish(shaded, into=into, how=how, work=work, tree=reviewed, message="Reviewed work", identity=WHO)


def subjects(top: Path, since: str) -> list[str]:
    return run_git(top, "log", "--format=%s", "--topo-order", f"{since}..main").splitlines()


@pytest.mark.parametrize(
    ("how", "expected"),
    [("merge", ["Second", "First"]), ("squash", ["Reviewed work"]), ("rebase", ["Second", "First"])],
)
def test_onto_a_branch_that_did_not_move(
    shaded: Shadow, top: Path, made: Worktree, how: How, expected: list[str]
) -> None:
    done = bring(shaded, how, two_commits(made))
    assert run_git(top, "rev-parse", "main") == done.commit
    assert subjects(top, done.previous) == expected
    assert run_git(top, "status", "--porcelain") == ""
    assert (top / "a.txt").read_text() == lines(l3="three", l4="four")
    assert not (top / "b.txt").exists()
    assert (top / "new/x").read_text() == "X\n"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("merge", ["Reviewed work", "Second", "First", "Meanwhile"]),
        ("squash", ["Reviewed work", "Meanwhile"]),
        ("rebase", ["Second", "First", "Meanwhile"]),
    ],
)
def test_onto_a_branch_that_moved(shaded: Shadow, top: Path, made: Worktree, how: How, expected: list[str]) -> None:
    work = two_commits(made)
    base = run_git(top, "rev-parse", "main")
    write(top, {"a.txt": lines(l20="twenty"), "d/other": "O\n"})
    commit(top, "Meanwhile")
    done = bring(shaded, how, work)
    assert sorted(subjects(top, base)) == sorted(expected)
    assert (top / "a.txt").read_text() == lines(l3="three", l4="four", l20="twenty")
    assert (top / "d/other").exists()
    assert not (top / "b.txt").exists()
    assert run_git(top, "status", "--porcelain") == ""
    assert run_git(top, "fsck", "--no-dangling") == ""
    assert run_git(top, "log", "-1", "--format=%cn", done.commit) == "Ada"
    if how == "rebase":
        first = run_git(top, "log", "--format=%an|%ae|%s|%b", "--grep=First", "main")
        assert first.strip() == "Bot|bot@x|First|Body: ü"


def test_the_reviewed_tree_counts_where_it_differs_from_the_work(shaded: Shadow, top: Path, made: Worktree) -> None:
    work = two_commits(made)
    reviewed = write_tree(shaded, tree_of(shaded, work), {"new/x": None, "b.txt": ("100644", b"b\n")})
    for how, into in (("merge", "m"), ("squash", "s"), ("rebase", "r")):
        run_git(top, "branch", into, "main")
        done = bring(shaded, how, work, tree=reviewed, into=into)  # type: ignore[arg-type]  # a literal in a loop is a str
        assert tree_of(shaded, done.commit) == reviewed
    assert run_git(top, "log", "-1", "--format=%s %an", "r") == "Reviewed work Ada"
    assert run_git(top, "status", "--porcelain") == ""
    assert (top / "b.txt").exists()


def test_a_replayed_commit_that_the_branch_already_has_is_dropped(shaded: Shadow, top: Path, made: Worktree) -> None:
    work = two_commits(made)
    write(top, {"a.txt": lines(l3="three"), "new/x": "X\n"})
    commit(top, "The same as first")
    done = bring(shaded, "rebase", work)
    assert subjects(top, done.previous) == ["Second"]


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_a_collision_names_the_files_and_changes_nothing(shaded: Shadow, top: Path, made: Worktree, how: How) -> None:
    work = two_commits(made)
    write(top, {"a.txt": lines(l3="drei")})
    commit(top, "Meanwhile")
    before, files = manifest(top / ".git", times=False), manifest(top)
    with pytest.raises(ConflictError, match=r"a\.txt") as raised:
        bring(shaded, how, work)
    assert raised.value.data["files"] == ["a.txt"]
    assert manifest(top / ".git", times=False) == before
    assert manifest(top) == files


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_work_that_is_there_already_is_nothing_to_do(shaded: Shadow, top: Path, made: Worktree, how: How) -> None:
    work = two_commits(made)
    bring(shaded, "squash", work)
    if how != "merge":
        with pytest.raises(NothingToDo):
            bring(shaded, how, work)
    with pytest.raises(NothingToDo):
        bring(shaded, how, resolve_base(shaded.repo, "main~1").commit)


def test_a_branch_that_is_checked_out_nowhere_moves_alone(shaded: Shadow, top: Path, made: Worktree) -> None:
    run_git(top, "branch", "release")
    write(top, {"a.txt": "being edited\n"})
    files, index = manifest(top), (top / ".git/index").read_bytes()
    done = bring(shaded, "merge", two_commits(made), into="release")
    assert refs(top)["refs/heads/release"] == done.commit
    assert manifest(top) == files
    assert (top / ".git/index").read_bytes() == index


def test_a_branch_that_another_worktree_has_is_refused(
    shaded: Shadow, top: Path, made: Worktree, tmp_path: Path
) -> None:
    run_git(top, "worktree", "add", "-q", "-b", "other", str(tmp_path / "elsewhere"))
    before = refs(top)
    with pytest.raises(GitError, match="elsewhere"):
        bring(shaded, "merge", two_commits(made), into="other")
    assert refs(top)["refs/heads/other"] == before["refs/heads/other"]
    with pytest.raises(UsageError, match="no branch nowhere"):
        bring(shaded, "merge", before["refs/heads/main"], into="nowhere")


def dirty(top: Path) -> None:
    write(top, {"d/c.txt": "edited\n"})


def staged(top: Path) -> None:
    write(top, {"d/c.txt": "staged\n"})
    run_git(top, "add", "d/c.txt")


def removed(top: Path) -> None:
    (top / "d/c.txt").unlink()


def hidden(top: Path) -> None:
    run_git(top, "update-index", "--assume-unchanged", "a.txt")
    write(top, {"a.txt": "edited in secret\n"})


def in_the_way(top: Path) -> None:
    write(top, {"new/x": "mine\n"})


def ignored_in_the_way(top: Path) -> None:
    write(top, {".git/info/exclude": "new/\n", "new/x": "mine\n"})


def file_for_directory(top: Path) -> None:
    write(top, {"new": "mine\n"})


def merging(top: Path) -> None:
    write(top, {".git/MERGE_HEAD": run_git(top, "rev-parse", "HEAD") + "\n"})


def rebasing(top: Path) -> None:
    (top / ".git/rebase-merge").mkdir()


def locked(top: Path) -> None:
    write(top, {".git/index.lock": ""})


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (dirty, "d/c.txt"),
        (staged, "d/c.txt"),
        (removed, "d/c.txt"),
        (hidden, "a.txt"),
        (in_the_way, "new/x"),
        (ignored_in_the_way, "new/x"),
        (file_for_directory, "new"),
        (merging, "a merge"),
        (rebasing, "a rebase"),
        (locked, r"index\.lock"),
    ],
)
def test_a_checkout_that_is_not_ready_is_left_exactly_as_it_is(
    shaded: Shadow, top: Path, made: Worktree, prepare: Callable[[Path], None], words: str
) -> None:
    work = two_commits(made)
    prepare(top)
    files, known, index = manifest(top), refs(top), (top / ".git/index").read_bytes()
    with pytest.raises(PlaitError, match=words):
        bring(shaded, "merge", work)
    assert manifest(top) == files
    assert refs(top) == known
    assert (top / ".git/index").read_bytes() == index


def test_files_that_are_only_touched_and_untracked_ones_elsewhere_are_no_obstacle(
    shaded: Shadow, top: Path, made: Worktree
) -> None:
    os.utime(top / "a.txt", (1, 1))
    write(top, {"notes": "mine\n"})
    bring(shaded, "merge", two_commits(made))
    assert (top / "a.txt").read_text() == lines(l3="three", l4="four")
    assert (top / "notes").read_text() == "mine\n"


def test_a_file_gives_way_to_a_directory_and_back(shaded: Shadow, top: Path, made: Worktree) -> None:
    (made.path / "b.txt").unlink()
    write(made.path, {"b.txt/inner": "I\n"})
    (made.path / "d/c.txt").unlink()
    (made.path / "d").rmdir()
    write(made.path, {"d": "a file now\n"})
    bring(shaded, "merge", commit(made.path))
    assert (top / "b.txt/inner").read_text() == "I\n"
    assert (top / "d").read_text() == "a file now\n"
    assert run_git(top, "status", "--porcelain") == ""


def test_an_untracked_file_in_a_directory_that_must_go_is_kept(shaded: Shadow, top: Path, made: Worktree) -> None:
    (made.path / "d/c.txt").unlink()
    (made.path / "d").rmdir()
    write(made.path, {"d": "a file now\n"})
    work = commit(made.path)
    write(top, {"d/mine": "precious\n"})
    with pytest.raises(ConflictError, match="d"):
        bring(shaded, "merge", work)
    assert (top / "d/mine").read_text() == "precious\n"


def test_a_link_out_of_the_tree_is_not_written_through(
    shaded: Shadow, top: Path, made: Worktree, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    work = two_commits(made)
    (top / "new").symlink_to(outside)
    with pytest.raises(ConflictError, match="new"):
        bring(shaded, "merge", work)
    assert list(outside.iterdir()) == []


def test_hooks_do_not_run(shaded: Shadow, top: Path, made: Worktree, tmp_path: Path) -> None:
    for name in ("post-merge", "post-checkout", "reference-transaction", "post-index-change", "commit-msg"):
        hook = top / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        hook.chmod(0o755)
    work = two_commits(made)
    (tmp_path / "ran").unlink(missing_ok=True)
    bring(shaded, "squash", work)
    assert not (tmp_path / "ran").exists()


def test_a_checkout_in_a_linked_worktree_and_a_bare_repository_work(tmp_path: Path) -> None:
    top = make_repo(tmp_path, START)
    run_git(tmp_path, "clone", "-q", "--bare", str(top), "bare.git")
    run_git(tmp_path / "bare.git", "worktree", "add", "-q", str(tmp_path / "linked"), "main")
    shaded = shadow(find(tmp_path / "linked"), tmp_path / "state")
    base = resolve_base(shaded.repo).commit
    made = create(shaded, Intent(tmp_path / "w" / "one", "plait/one", base, "plait one"))
    bring(shaded, "merge", two_commits(made))
    assert (tmp_path / "linked/new/x").read_text() == "X\n"
    assert run_git(tmp_path / "linked", "status", "--porcelain") == ""
    from_bare = shadow(find(tmp_path / "bare.git"), tmp_path / "state")
    with pytest.raises(GitError, match="checked out"):
        bring(from_bare, "merge", base)


def test_a_history_with_merges_is_not_replayed(shaded: Shadow, top: Path, made: Worktree) -> None:
    two_commits(made)
    write(top, {"d/other": "O\n"})
    commit(top, "Meanwhile")
    run_git(made.path, "merge", "-q", "--no-edit", "main")
    write(top, {"d/another": "O\n"})
    commit(top, "More")
    with pytest.raises(UsageError, match="merge"):
        bring(shaded, "rebase", run_git(made.path, "rev-parse", "HEAD"))


def test_a_branch_that_moves_at_the_last_moment_wins_and_the_files_go_back(
    shaded: Shadow, top: Path, made: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = two_commits(made)
    files = manifest(top, times=False)
    elsewhere = run_git(top, "commit-tree", "-p", "HEAD", "-m", "Quick", "HEAD^{tree}")
    real = checkout._move_ref

    def late(*args: object, **named: object) -> None:
        run_git(top, "update-ref", "refs/heads/main", elsewhere)
        real(*args, **named)  # type: ignore[arg-type]  # passed through as they came

    monkeypatch.setattr(checkout, "_move_ref", late)
    with pytest.raises(GitError, match="expected"):
        bring(shaded, "merge", work)
    assert refs(top)["refs/heads/main"] == elsewhere
    assert manifest(top, times=False) == files
    assert run_git(top, "status", "--porcelain") == ""


class Killed(BaseException):
    """Stands for a kill: nothing below may catch it."""


def test_a_kill_between_files_and_branch_is_completed(
    shaded: Shadow, top: Path, made: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    intents: list[FinishIntent] = []

    def kill(*_: object, **__: object) -> None:
        raise Killed

    work = two_commits(made)
    with monkeypatch.context() as patch:
        patch.setattr(checkout, "_move_ref", kill)
        with pytest.raises(Killed):
            finish(
                shaded, into="main", how="merge", work=work, tree=tree_of(shaded, work), message="m",
                identity=WHO, journal=intents.append,
            )  # fmt: skip
    (intent,) = intents
    assert refs(top)["refs/heads/main"] == intent.previous
    assert recover_finish(shaded, intent)
    assert refs(top)["refs/heads/main"] == intent.commit
    assert run_git(top, "status", "--porcelain") == ""
    assert recover_finish(shaded, intent)
    user_commands_work(top)


def test_a_kill_before_anything_moved_is_taken_back(shaded: Shadow, top: Path, made: Worktree) -> None:
    work = two_commits(made)
    files = manifest(top)
    intent = FinishIntent("main", refs(top)["refs/heads/main"], work)
    assert not recover_finish(shaded, intent)
    assert manifest(top, times=False) == {path: (*rest[:2], 0) for path, rest in files.items()}
    assert run_git(top, "status", "--porcelain") == ""


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_a_kill_amid_the_files_is_taken_back(shaded: Shadow, top: Path, made: Worktree, done: int) -> None:
    work = two_commits(made)
    files = manifest(top, times=False)
    half = lines(l3="three", l4="four")[:40]
    (top / "b.txt").unlink()
    if done > 1:
        (top / "a.txt").unlink()
    if done > 2:
        write(top, {"a.txt": half})
    if done > 3:
        write(top, {"a.txt": lines(l3="three", l4="four"), "new/x": "X\n"})
    assert not recover_finish(shaded, FinishIntent("main", refs(top)["refs/heads/main"], work))
    assert {path: one for path, one in manifest(top, times=False).items() if path != "new"} == files
    assert run_git(top, "status", "--porcelain") == ""


def test_an_edit_after_the_kill_is_not_overwritten(shaded: Shadow, top: Path, made: Worktree) -> None:
    work = two_commits(made)
    write(top, {"a.txt": "the user went on\n"})
    before = manifest(top)
    with pytest.raises(ConflictError, match=r"a\.txt"):
        recover_finish(shaded, FinishIntent("main", refs(top)["refs/heads/main"], work))
    assert manifest(top) == before


def test_a_split_index_is_refused_with_the_command_that_helps(shaded: Shadow, top: Path, made: Worktree) -> None:
    work = two_commits(made)
    run_git(top, "update-index", "--split-index")
    with pytest.raises(GitError, match="--no-split-index"):
        bring(shaded, "merge", work)
    run_git(top, "update-index", "--no-split-index")
    for file in (top / ".git").glob("sharedindex.*"):
        file.unlink()
    bring(shaded, "merge", work)
    assert subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=top, check=False).returncode == 0
