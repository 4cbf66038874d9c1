"""A repository is found from anywhere in it, and what is unusual about it is said in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.errors import GitError, UsageError
from plait.git.repo import (
    Repo,
    branches,
    current_branch,
    default_branch,
    features,
    find,
    identity,
    resolve_base,
)
from plait.git.shadow import shadow
from plait.git.trees import changes, snapshot
from plait.git.worktrees import Intent, create
from tests.support.repo import commit, make_repo, run_git, write


def test_it_is_found_from_a_subdirectory_a_file_and_what_does_not_exist_yet(top: Path) -> None:
    expected = Repo(top / ".git", top / ".git", top)
    for path in (top, top / "src", top / "src/b.py", top / "src/new/file.py", top / ".git", top / ".git/refs"):
        assert find(path) == expected


def test_it_is_found_from_a_linked_worktree(top: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    run_git(top, "worktree", "add", "-q", "-b", "x", str(linked))
    found = find(linked / "src")
    assert (found.common_dir, found.git_dir, found.top) == (top / ".git", top / ".git/worktrees/linked", linked)
    assert found.key == find(top).key
    assert current_branch(found) == "x"


def test_a_link_to_the_checkout_is_the_same_repository(top: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(top)
    assert find(tmp_path / "link") == find(top)


def test_a_folder_outside_any_repository_is_an_answer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in a git repository"):
        find(tmp_path)


def test_a_repository_without_a_commit_is_found_and_says_what_to_do(tmp_path: Path) -> None:
    repo = find(make_repo(tmp_path))
    assert current_branch(repo) == "main"
    with pytest.raises(GitError, match="no commit yet"):
        resolve_base(repo)


def test_a_bare_repository_has_no_top_and_a_whole_session_life(top: Path, tmp_path: Path) -> None:
    run_git(tmp_path, "clone", "-q", "--bare", str(top), "bare.git")
    repo = find(tmp_path / "bare.git")
    assert repo.top is None
    shaded = shadow(repo, tmp_path / "state")
    made = create(shaded, Intent(tmp_path / "w", "plait/x", resolve_base(repo).commit, "plait x"))
    write(made.path, {"n": "1\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/x/1")
    assert [one.path for one in changes(shaded, taken.parent, taken.tree)] == ["n"]


def test_a_submodule_is_a_repository_of_its_own_and_worktrees_of_it_stay_apart(tmp_path: Path) -> None:
    library = make_repo(tmp_path / "library", {"lib.c": "int x;\n"})
    outer = make_repo(tmp_path / "outer", {"a": "1\n"})
    run_git(outer, "submodule", "--quiet", "add", str(library), "sub")
    repo = find(outer / "sub")
    assert (repo.top, repo.common_dir) == (outer / "sub", outer / ".git/modules/sub")
    shaded = shadow(repo, tmp_path / "state")
    made = create(shaded, Intent(tmp_path / "w", "plait/x", resolve_base(repo).commit, "plait x"))
    assert run_git(made.path, "rev-parse", "--show-toplevel") == str(made.path)
    assert run_git(outer / "sub", "status", "--porcelain") == ""


def test_settings_of_the_checkout_are_handed_on_without_its_place(top: Path, tmp_path: Path) -> None:
    run_git(top, "config", "extensions.worktreeConfig", "true")
    run_git(top, "config", "core.repositoryFormatVersion", "1")
    repo = find(top)
    base = resolve_base(repo).commit
    (top / ".git/config.worktree").write_text(f"[core]\n\tworktree = {top}\n[extra]\n\tkey = 1\n")
    shaded = shadow(repo, tmp_path / "state")
    made = create(shaded, Intent(tmp_path / "w", "plait/x", base, "plait x"))
    # With core.worktree handed on as well, an agent's git would act on the user's checkout.
    assert run_git(made.path, "rev-parse", "--show-toplevel") == str(made.path)
    assert run_git(made.path, "config", "extra.key") == "1"


def test_a_base_is_named_by_branch_tag_remote_branch_and_commit(top: Path, tmp_path: Path) -> None:
    first = run_git(top, "rev-parse", "HEAD")
    run_git(top, "tag", "-a", "v1", "-m", "v1")
    write(top, {"n": "1\n"})
    second = commit(top)
    run_git(tmp_path, "clone", "-q", str(top), "clone")
    repo = find(tmp_path / "clone")
    for ref, commit_id, name in (
        (None, second, "refs/heads/main"),
        ("main", second, "refs/heads/main"),
        ("origin/main", second, "refs/remotes/origin/main"),
        ("v1", first, "refs/tags/v1"),
        (first[:10], first, None),
    ):
        base = resolve_base(repo, ref)
        assert (base.commit, base.ref_name) == (commit_id, name)
    run_git(tmp_path / "clone", "switch", "-q", "--detach", "v1")
    assert resolve_base(repo).commit == first
    assert (resolve_base(repo).ref_name, current_branch(repo)) == (None, None)
    assert default_branch(repo) == "main"
    assert branches(repo) == ["main", "origin/HEAD", "origin/main"]


@pytest.mark.parametrize(
    "ref", ["mian", "--output=x", "-D", "a..b", "a\nb", "", "HEAD:a.txt", ":/Start x", "a\0b", "main^{tree}"]
)
def test_an_unknown_base_is_an_answer_that_names_near_ones(top: Path, ref: str) -> None:
    with pytest.raises(UsageError, match="There is no branch, tag or commit") as raised:
        resolve_base(find(top), ref)
    assert "main" in raised.value.hint if ref == "mian" else raised.value.hint
    assert not (top / "x").exists()


def test_the_default_branch_is_what_origin_says_or_what_is_usual(top: Path, tmp_path: Path) -> None:
    assert default_branch(find(top)) == "main"
    run_git(top, "branch", "-m", "main", "develop")
    assert default_branch(find(top)) == "develop"
    run_git(tmp_path, "clone", "-q", str(top), "clone")
    run_git(tmp_path / "clone", "switch", "-q", "-c", "main")
    assert default_branch(find(tmp_path / "clone")) == "develop"


def test_an_identity_is_known_or_the_command_that_sets_it(top: Path, own_home: Path) -> None:
    assert identity(find(top)) == ("Ada", "ada@example.org")
    run_git(top, "config", "user.email", "ada@work.example")
    assert identity(find(top)) == ("Ada", "ada@work.example")
    (own_home / ".gitconfig").write_text("")
    with pytest.raises(GitError, match="git config --global"):
        identity(find(top))


def test_what_is_unusual_is_said_and_a_plain_repository_has_nothing_to_say(top: Path, tmp_path: Path) -> None:
    repo = find(top)
    assert features(repo, resolve_base(repo).commit) == []
    commit(top, "Second")
    run_git(tmp_path, "clone", "-q", "--depth=1", f"file://{top}", "shallow")
    shallow = find(tmp_path / "shallow")
    assert "shallow" in " ".join(features(shallow, resolve_base(shallow).commit))
    run_git(top, "config", "uploadpack.allowFilter", "true")
    run_git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{top}", "partial")
    partial = find(tmp_path / "partial")
    assert "partial clone" in " ".join(features(partial, resolve_base(partial).commit))
    run_git(top, "sparse-checkout", "set", "src")
    assert "sparse" in " ".join(features(repo, resolve_base(repo).commit))


def test_a_shallow_clone_takes_snapshots_and_merges(top: Path, tmp_path: Path) -> None:
    commit(top, "Second")
    run_git(tmp_path, "clone", "-q", "--depth=1", f"file://{top}", "shallow")
    repo = find(tmp_path / "shallow")
    shaded = shadow(repo, tmp_path / "state")
    made = create(shaded, Intent(tmp_path / "w", "plait/x", resolve_base(repo).commit, "plait x"))
    write(made.path, {"n": "1\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/x/1")
    assert [one.path for one in changes(shaded, taken.parent, taken.tree)] == ["n"]


def test_a_partial_clone_that_lacks_files_says_so_and_fetches_nothing(top: Path, tmp_path: Path) -> None:
    write(top, {"a.txt": "newer\n"})
    commit(top)
    run_git(top, "config", "uploadpack.allowFilter", "true")
    run_git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{top}", "partial")
    repo = find(tmp_path / "partial")
    shaded = shadow(repo, tmp_path / "state")
    old = run_git(top, "rev-parse", "HEAD~1")
    with pytest.raises(GitError, match="partial clone"):
        create(shaded, Intent(tmp_path / "w", "plait/x", old, "plait x"))
    assert not (tmp_path / "w").exists()
