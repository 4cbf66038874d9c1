"""A snapshot holds all that a worktree holds, changes nothing in it, and is compared and read back exactly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plait.errors import GitError
from plait.git.repo import features, find, resolve_base
from plait.git.shadow import Shadow, shadow
from plait.git.trees import (
    blobs,
    changes,
    drop_ref,
    entries,
    keep,
    sizes,
    smudged,
    snapshot,
    tree_of,
    write_tree,
)
from plait.git.worktrees import Intent, Worktree, create
from tests.support.repo import commit, make_repo, manifest, refs, run_git, write


def session(shaded: Shadow, place: Path, name: str = "one") -> Worktree:
    base = resolve_base(shaded.repo).commit
    return create(shaded, Intent(place / "worktrees" / name, f"plait/{name}", base, f"plait {name}"))


def in_repo(place: Path, files: dict[str, str | bytes], *, init: tuple[str, ...] = ()) -> tuple[Shadow, Path]:
    top = make_repo(place, files, init=init)
    return shadow(find(top), place / "state"), top


def held_files(shaded: Shadow, tree: str) -> dict[str, tuple[str, bytes]]:
    found = entries(shaded, tree)
    contents = blobs(shaded, [blob for mode, blob in found.values() if mode != "160000"])
    return {path: (mode, contents.get(blob, b"")) for path, (mode, blob) in found.items()}


def test_a_snapshot_takes_every_kind_of_uncommitted_work(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {name: f"{name}\n" for name in ("staged", "both", "edited", "gone", "tool", "old")}
    shaded, _ = in_repo(tmp_path, {**files, ".gitignore": "*.log\nbuild/\n"})
    made = session(shaded, tmp_path)
    write(made.path, {"staged": "S\n", "both": "1\n", "sub/new": "N\n", "x.log": "ignored", "build/o": "ignored"})
    run_git(made.path, "add", "staged", "both")
    write(made.path, {"both": "2\n", "edited": "E\n"})
    (made.path / "gone").unlink()
    (made.path / "tool").chmod(0o755)
    (made.path / "old").rename(made.path / "moved")
    (made.path / "link").symlink_to("/etc/passwd")
    index, before = (made.admin / "index").read_bytes(), manifest(made.path)
    taken = snapshot(shaded, made, "Turn 1", ref="refs/plait/s/1")
    assert held_files(shaded, taken.tree) == {
        ".gitignore": ("100644", b"*.log\nbuild/\n"),
        "staged": ("100644", b"S\n"),
        "both": ("100644", b"2\n"),
        "edited": ("100644", b"E\n"),
        "tool": ("100755", b"tool\n"),
        "moved": ("100644", b"old\n"),
        "sub/new": ("100644", b"N\n"),
        "link": ("120000", b"/etc/passwd"),
    }
    assert taken.problems == ()
    assert (made.admin / "index").read_bytes() == index
    assert manifest(made.path) == before
    assert taken.commit is not None
    assert run_git(made.path, "log", "-1", "--format=%P %an %s", taken.commit) == f"{taken.parent} plait Turn 1"


def test_flags_that_hide_an_edit_from_git_do_not_hide_it_here(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    run_git(made.path, "update-index", "--assume-unchanged", "a.txt")
    run_git(made.path, "update-index", "--skip-worktree", "tool.sh")
    write(made.path, {"a.txt": "hidden\n", "tool.sh": "hidden too\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    assert {one.path for one in changes(shaded, taken.parent, taken.tree)} == {"a.txt", "tool.sh"}


def test_a_snapshot_survives_the_strictest_gc_and_goes_when_dropped(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    write(made.path, {"n": "only here\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    run_git(top, "gc", "--quiet", "--prune=now")
    assert held_files(shaded, taken.tree)["n"] == ("100644", b"only here\n")
    assert taken.commit is not None
    assert not drop_ref(shaded, "refs/plait/s/1", "3" * 40)
    assert drop_ref(shaded, "refs/plait/s/1", taken.commit)
    assert "refs/plait/s/1" not in refs(top)


def test_a_scratch_snapshot_leaves_nothing_in_the_repository(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    write(made.path, {"n": "new\n", "a.txt": "one\n2\nthree\n"})
    # git refreshes the time of an object that it would have written again, which keeps a gc from removing it.
    before, known = manifest(top / ".git", times=False), refs(top)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    taken = snapshot(shaded, made, "x", scratch=scratch)
    found = changes(shaded, taken.parent, taken.tree, scratch=scratch)
    assert {(one.kind, one.path) for one in found} == {("A", "n"), ("M", "a.txt")}
    read = blobs(shaded, [one.blob for one in found], scratch=scratch)
    assert sorted(read.values()) == [b"new\n", b"one\n2\nthree\n"]
    assert manifest(top / ".git", times=False) == before
    assert refs(top) == known


def test_a_ref_that_moved_meanwhile_is_not_overwritten(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    first = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    with pytest.raises(GitError, match="already exists"):
        snapshot(shaded, made, "y", ref="refs/plait/s/1")
    assert refs(top)["refs/plait/s/1"] == first.commit
    assert first.commit is not None
    keep(shaded, "refs/plait/s/1", first.parent, first.commit)
    assert refs(top)["refs/plait/s/1"] == first.parent


def test_a_nested_repository_is_a_link_and_one_without_a_commit_is_told(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    inner = make_repo(made.path / "vendor", {"x": "1\n"})
    make_repo(made.path / "hollow")
    write(made.path, {"z": "last\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    found = entries(shaded, taken.tree)
    assert found["vendor/repo"] == ("160000", run_git(inner, "rev-parse", "HEAD"))
    assert "z" in found
    assert any("hollow/repo" in line for line in taken.problems)


def test_submodules_that_are_not_filled_in_stay_and_moved_ones_show(tmp_path: Path) -> None:
    library = make_repo(tmp_path / "library", {"lib.c": "int x;\n"})
    shaded, top = in_repo(tmp_path / "main", {"a": "1\n"})
    for name in ("kept", "used", "removed"):
        run_git(top, "submodule", "--quiet", "add", str(library), name)
    commit(top, "Submodules")
    made = session(shaded, tmp_path)
    assert "submodules" in " ".join(features(shaded.repo, resolve_base(shaded.repo).commit))
    plain = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    assert changes(shaded, plain.parent, plain.tree) == []
    run_git(made.path, "submodule", "--quiet", "update", "--init", "used")
    write(made.path / "used", {"lib.c": "int y;\n"})
    newer = commit(made.path / "used")
    (made.path / "removed").rmdir()
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/2")
    assert {(one.kind, one.path) for one in changes(shaded, taken.parent, taken.tree)} == {
        ("M", "used"),
        ("D", "removed"),
    }
    assert entries(shaded, taken.tree)["used"] == ("160000", newer)


def test_a_sparse_checkout_is_inherited_and_its_absent_files_are_not_deletions(tmp_path: Path) -> None:
    shaded, top = in_repo(tmp_path, {"in/a": "1\n", "out/b": "2\n", "root": "r\n"})
    run_git(top, "sparse-checkout", "set", "in")
    shaded = shadow(find(top), tmp_path / "state")
    made = session(shaded, tmp_path)
    assert not (made.path / "out").exists()
    assert (made.path / "in/a").exists()
    assert run_git(made.path, "status", "--porcelain") == ""
    write(made.path, {"in/a": "edited\n", "out/new": "outside\n"})
    (made.path / "root").unlink()
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    assert {(one.kind, one.path) for one in changes(shaded, taken.parent, taken.tree)} == {
        ("M", "in/a"),
        ("A", "out/new"),
        ("D", "root"),
    }


@pytest.mark.parametrize("setting", ["true", "input", "false"])
def test_line_ends_follow_the_settings_of_the_repository(tmp_path: Path, setting: str) -> None:
    shaded, top = in_repo(tmp_path, {".gitattributes": "*.bat text eol=crlf\n", "a.txt": "x\ny\n", "b.bat": "x\ny\n"})
    run_git(top, "config", "core.autocrlf", setting)
    shaded = shadow(find(top), tmp_path / "state")
    made = session(shaded, tmp_path)
    ends = b"\r\n" if setting == "true" else b"\n"
    assert (made.path / "a.txt").read_bytes() == b"x" + ends + b"y" + ends
    assert (made.path / "b.bat").read_bytes() == b"x\r\ny\r\n"
    write(made.path, {"a.txt": b"x\r\nz\r\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    (only,) = changes(shaded, taken.parent, taken.tree)
    stored = b"x\r\nz\r\n" if setting == "false" else b"x\nz\n"
    assert blobs(shaded, [only.blob]) == {only.blob: stored}
    shown = smudged(shaded, taken.tree, ["a.txt", "b.bat"])
    assert shown == {"a.txt": b"x\r\nz\r\n" if setting != "input" else b"x\nz\n", "b.bat": b"x\r\ny\r\n"}


def test_crlf_bytes_nul_bytes_and_no_final_newline_survive(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    odd: dict[str, str | bytes] = {"crlf": b"a\r\nb", "nul": b"\0\xff\n\n", "bom": b"\xef\xbb\xbfx", "empty": b""}
    write(made.path, odd)
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    held = held_files(shaded, taken.tree)
    assert {name: held[name][1] for name in odd} == odd
    assert smudged(shaded, taken.tree, odd) == odd


def test_names_of_any_bytes_survive(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    names = [b"new\nline", b"latin\xe9", b"tab\there", b"--output=x", b":(top)a", b"a;b", b' "q" ', "ü".encode(), b"-"]
    for name in names:
        (made.path / os.fsdecode(name)).write_bytes(name)
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    found = changes(shaded, taken.parent, taken.tree)
    assert {os.fsencode(one.path) for one in found} == set(names)
    read = blobs(shaded, [one.blob for one in found])
    assert {read[one.blob] == os.fsencode(one.path) for one in found} == {True}
    assert smudged(shaded, taken.tree, [os.fsdecode(names[0])]) == {os.fsdecode(names[0]): names[0]}


def test_changes_name_renames_modes_and_kinds(tmp_path: Path) -> None:
    shaded, _ = in_repo(tmp_path, {"old": "line\n" * 50, "mode": "m\n", "type": "t\n", "gone": "g\n"})
    made = session(shaded, tmp_path)
    (made.path / "old").rename(made.path / "new")
    (made.path / "mode").chmod(0o755)
    (made.path / "type").unlink()
    (made.path / "type").symlink_to("mode")
    (made.path / "gone").unlink()
    write(made.path, {"fresh": "f\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    assert [(one.kind, one.old_path, one.path) for one in changes(shaded, taken.parent, taken.tree)] == [
        ("A", "fresh", "fresh"),
        ("D", "gone", "gone"),
        ("M", "mode", "mode"),
        ("R", "old", "new"),
        ("T", "type", "type"),
    ]


def test_a_blob_that_is_too_large_is_left_out(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    write(made.path, {"large": b"x" * 5000, "small": b"y" * 10})
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    ids = {one.path: one.blob for one in changes(shaded, taken.parent, taken.tree)}
    assert blobs(shaded, ids.values(), largest=1000) == {ids["small"]: b"y" * 10}
    assert sizes(shaded, ids.values()) == {ids["large"]: 5000, ids["small"]: 10}
    with pytest.raises(GitError, match="lacks the object"):
        blobs(shaded, ["4" * 40])
    assert blobs(shaded, []) == {}


def test_a_tree_is_written_with_some_paths_replaced(shaded: Shadow, top: Path) -> None:
    base = tree_of(shaded, resolve_base(shaded.repo).commit)
    made = write_tree(
        shaded,
        base,
        {
            "a.txt": ("100755", b"new\r\n"),
            "src/b.py": None,
            "src": ("120000", b"a.txt"),
            "deep/er/x": ("100644", b""),
        },
    )
    assert held_files(shaded, made) == {
        "a.txt": ("100755", b"new\r\n"),
        "src": ("120000", b"a.txt"),
        "deep/er/x": ("100644", b""),
        "tool.sh": ("100644", b"#!/bin/sh\n"),
    }
    assert write_tree(shaded, base, {}) == base


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/abs", ".git/config", "a/.GIT/hooks/x", ".git", "a//b", "./a"])
def test_a_path_that_leaves_the_tree_is_refused(shaded: Shadow, path: str) -> None:
    base = tree_of(shaded, resolve_base(shaded.repo).commit)
    with pytest.raises(GitError):
        write_tree(shaded, base, {path: ("100644", b"x")})


def test_sha256_repositories_work(tmp_path: Path) -> None:
    shaded, top = in_repo(tmp_path, {"a": "1\n"}, init=("--object-format=sha256",))
    made = session(shaded, tmp_path)
    write(made.path, {"a": "2\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    (only,) = changes(shaded, taken.parent, taken.tree)
    assert len(only.blob) == 64
    assert blobs(shaded, [only.blob]) == {only.blob: b"2\n"}
    assert run_git(top, "fsck") == ""


def test_objects_borrowed_from_another_repository_are_found(tmp_path: Path) -> None:
    source = make_repo(tmp_path / "source", {"a": "1\n"})
    top = tmp_path / "borrower"
    run_git(tmp_path, "clone", "--quiet", "--shared", str(source), str(top))
    shaded = shadow(find(top), tmp_path / "state")
    made = session(shaded, tmp_path)
    write(made.path, {"a": "2\n"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    taken = snapshot(shaded, made, "x", scratch=scratch)
    assert [one.path for one in changes(shaded, taken.parent, taken.tree, scratch=scratch)] == ["a"]


def test_pointers_of_git_lfs_stay_pointers_where_it_is_not_installed(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"
    shaded, _ = in_repo(tmp_path, {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": pointer})
    made = session(shaded, tmp_path)
    assert (made.path / "a.bin").read_text() == pointer
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    assert changes(shaded, taken.parent, taken.tree) == []
    assert "LFS" in " ".join(features(shaded.repo, taken.parent))


def test_a_filter_of_the_users_own_configuration_is_in_force(tmp_path: Path, own_home: Path) -> None:
    with (own_home / ".gitconfig").open("a") as file:
        file.write('[filter "up"]\n\tclean = tr a-z A-Z\n\tsmudge = tr A-Z a-z\n')
    shaded, _ = in_repo(tmp_path, {".gitattributes": "*.up filter=up\n", "a.up": "abc\n"})
    made = session(shaded, tmp_path)
    assert (made.path / "a.up").read_text() == "abc\n"
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    assert changes(shaded, taken.parent, taken.tree) == []
    assert held_files(shaded, taken.tree)["a.up"] == ("100644", b"ABC\n")
    assert smudged(shaded, taken.tree, ["a.up"]) == {"a.up": b"abc\n"}


def test_names_that_differ_in_case_only_are_two_files(shaded: Shadow, tmp_path: Path) -> None:
    made = session(shaded, tmp_path)
    write(made.path, {"Case": "1\n", "case": "2\n"})
    taken = snapshot(shaded, made, "x", ref="refs/plait/s/1")
    assert {one.path for one in changes(shaded, taken.parent, taken.tree)} == {"Case", "case"}
