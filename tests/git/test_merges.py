"""A trial merge says whether and where two commits collide, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.core.conflicts import Collision
from plait.errors import GitError
from plait.git.merges import collisions, is_ancestor, merge_base, merge_trees
from plait.git.shadow import Shadow
from plait.git.trees import commit as make_commit
from plait.git.trees import entries, snapshot
from plait.git.worktrees import Intent, create
from tests.support.repo import commit, manifest, run_git, write


def side(top: Path, name: str, files: dict[str, str | bytes]) -> str:
    run_git(top, "switch", "--quiet", "-c", name, "main")
    write(top, files)
    made = commit(top, name)
    run_git(top, "switch", "--quiet", "main")
    return made


def test_changes_apart_merge_and_changes_of_one_line_collide(shaded: Shadow, top: Path) -> None:
    one = side(top, "one", {"a.txt": "ONE\ntwo\nthree\n"})
    other = side(top, "other", {"a.txt": "one\ntwo\nthree\n", "src/b.py": "print('B')\n"})
    third = side(top, "third", {"a.txt": "Eins\ntwo\nthree\n", "src/b.py": "print('C')\n"})
    before = manifest(top / ".git")
    assert merge_trees(shaded, one, other).clean
    assert merge_trees(shaded, one, third).conflicts == ("a.txt",)
    assert merge_trees(shaded, other, third).conflicts == ("src/b.py",)
    assert manifest(top / ".git") == before


def test_a_file_deleted_here_and_changed_there_collides(shaded: Shadow, top: Path) -> None:
    one = side(top, "one", {"a.txt": "ONE\ntwo\nthree\n"})
    run_git(top, "rm", "--quiet", "a.txt")
    other = commit(top, "gone")
    assert merge_trees(shaded, one, other).conflicts == ("a.txt",)


def test_names_of_any_bytes_come_back(shaded: Shadow, top: Path) -> None:
    name = "new\nline \udce9 ü"
    one, other = side(top, "one", {name: "1\n"}), side(top, "other", {name: "2\n"})
    assert merge_trees(shaded, one, other).conflicts == (name,)


def test_two_snapshots_in_scratch_directories_are_merged_without_a_trace(
    shaded: Shadow, top: Path, tmp_path: Path
) -> None:
    base = run_git(top, "rev-parse", "HEAD")
    commits, places = [], []
    for number, text in enumerate(("one\n2\nthree\n", "one\nzwei\nthree\n")):
        made = create(shaded, Intent(tmp_path / "w" / str(number), f"plait/{number}", base, f"plait {number}"))
        write(made.path, {"a.txt": text, f"own{number}": "x\n"})
        place = tmp_path / f"scratch{number}"
        place.mkdir()
        taken = snapshot(shaded, made, "x", scratch=place)
        commits.append(make_commit(shaded, taken.tree, [base], "x", scratch=place))
        places.append(place)
    before = manifest(top / ".git", times=False)
    assert merge_trees(shaded, *commits, also=places).conflicts == ("a.txt",)
    assert merge_base(shaded, *commits, also=places) == base
    assert is_ancestor(shaded, base, commits[0], also=places)
    assert not is_ancestor(shaded, commits[0], base, also=places)
    assert manifest(top / ".git", times=False) == before


def test_a_merged_tree_can_be_kept_in_a_scratch_directory(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    one, other = side(top, "one", {"x": "1\n"}), side(top, "other", {"y": "2\n"})
    place = tmp_path / "scratch"
    place.mkdir()
    merged = merge_trees(shaded, one, other, scratch=place)
    assert merged.tree is not None
    assert {"x", "y"} <= entries(shaded, merged.tree, scratch=place).keys()


def test_histories_with_nothing_in_common_are_an_answer(shaded: Shadow, top: Path) -> None:
    run_git(top, "switch", "--quiet", "--orphan", "apart")
    apart = commit(top, "apart")
    run_git(top, "switch", "--quiet", "main")
    main = run_git(top, "rev-parse", "main")
    assert merge_base(shaded, main, apart) is None
    with pytest.raises(GitError, match="unrelated histories"):
        merge_trees(shaded, main, apart)


def test_many_pairs_are_merged_at_once_as_each_would_be_alone(
    shaded: Shadow, top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tips = [
        side(top, "one", {"a.txt": "ONE\ntwo\nthree\n", "new\nline": "1\n"}),
        side(top, "other", {"a.txt": "one\ntwo\nthree\n", "src/b.py": "print('B')\n", "x": "1\n"}),
        side(top, "third", {"a.txt": "Eins\ntwo\nthree\n", "new\nline": "2\n", "x/y": "2\n"}),
    ]
    pairs = [(one, other) for one in tips for other in tips if one != other]
    before = manifest(top / ".git", times=False)
    place = tmp_path / "scratch"
    place.mkdir()
    together = collisions(shaded, pairs, place)
    contents = (Collision("contents", ("a.txt",)), Collision("contents", ("new\nline",)))
    assert together[:3] == [(), contents, ()]
    assert together[3] == (Collision("file/directory", ("x",)),)
    assert together == [found for pair in pairs for found in collisions(shaded, [pair], place)]
    monkeypatch.setattr("plait.git.merges.version", lambda: (2, 38, 1))
    assert collisions(shaded, pairs, place) == together
    assert manifest(top / ".git", times=False) == before


def test_a_pair_that_cannot_be_merged_spoils_no_other(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    one, other = side(top, "one", {"a.txt": "1\n"}), side(top, "other", {"a.txt": "2\n"})
    run_git(top, "switch", "--quiet", "--orphan", "apart")
    apart = commit(top, "apart")
    run_git(top, "switch", "--quiet", "main")
    place = tmp_path / "scratch"
    place.mkdir()
    first, error, last = collisions(shaded, [(one, other), (one, apart), (other, other)], place)
    assert (first, last) == ((Collision("contents", ("a.txt",)),), ())
    assert isinstance(error, GitError)
    assert "unrelated histories" in str(error)
