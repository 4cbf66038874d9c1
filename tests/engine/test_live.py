"""What a running session changed is at any moment what a snapshot of its worktree would give."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait.engine.changes import peek
from plait.git import run as git_run
from plait.paths import Places
from tests.support.live import Live, live, running
from tests.support.repo import make_repo, run_git, write

FILES: dict[str, str | bytes] = {
    "a.txt": "".join(f"a {row}\n" for row in range(30)),
    "b.txt": "".join(f"b {row}\n" for row in range(30)),
    "crlf.txt": "one\r\ntwo\r\n",
    "d/x": "".join(f"x {row}\n" for row in range(30)),
    "d/e/z": "z\n",
    "tool": "#!/bin/sh\n",
    ".gitignore": "*.log\nbuild/\n",
    "build/kept": "kept though it is ignored\n",
}
NAMES = ("a.txt", "b.txt", "crlf.txt", "d/x", "d/y", "d/e/z", "tool", "new", "n/e/w", "x.log", "build/o", "sp ace*?")
PLACES = ("d", "d/e", "n", "n/e", "m", "build")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = make_repo(tmp_path)
    write(top, FILES)
    run_git(top, "add", "--all", "--force")
    run_git(top, "commit", "--quiet", "--message", "Start")
    return top


def places(root: Path) -> Places:
    return Places(root / "config", root / "state", root / "data", root / "run")


def step(name: str) -> st.SearchStrategy[Callable[[Path], None]]:
    """What a process may do in a worktree; it does nothing where it cannot be done."""
    one = st.sampled_from(NAMES)
    place = st.sampled_from(PLACES)
    text = st.sampled_from([b"", b"text\n", b"\0\1", b"cr\r\nlf\r\n", *(v.encode() for v in (str(FILES["a.txt"]),))])
    strategies: dict[str, st.SearchStrategy[Callable[[Path], None]]] = {
        "write": st.builds(lambda path, data: lambda top: _write(top / path, data), one, text),
        "append": st.builds(lambda path: lambda top: _append(top / path), one),
        "replace": st.builds(lambda path, data: lambda top: _replace(top / path, data), one, text),
        "remove": st.builds(lambda path: lambda top: (top / path).unlink(), one),
        "rename": st.builds(lambda path, to: lambda top: _rename(top / path, top / to), one, one),
        "mode": st.builds(
            lambda path, mode: lambda top: (top / path).chmod(mode), one, st.sampled_from([0o644, 0o755])
        ),
        "link": st.builds(lambda path, to: lambda top: _link(top / path, to), one, st.sampled_from(["a.txt", "/etc"])),
        "remove tree": st.builds(lambda path: lambda top: shutil.rmtree(top / path), place),
        "rename tree": st.builds(lambda path, to: lambda top: _rename(top / path, top / to), place, place),
        "tree to link": st.builds(lambda path: lambda top: _tree_to_link(top / path), place),
        "ignore": st.builds(
            lambda at, rules: lambda top: _write(top / at / ".gitignore", rules),
            st.sampled_from(["", "d"]),
            st.sampled_from([b"", b"*.log\nbuild/\n", b"new\nx\n!x.log\n", b"n/\n"]),
        ),
        "attributes": st.builds(
            lambda rules: lambda top: _write(top / ".gitattributes", rules),
            st.sampled_from([b"", b"* text=auto\n", b"*.txt eol=crlf\n", b"new ident\n"]),
        ),
        "commit": st.just(lambda top: _git(top, "commit", "--quiet", "--all", "--message", "work")),
        "force": st.builds(lambda path: lambda top: _git(top, "add", "--force", "--", path), one),
        "reset": st.just(lambda top: _git(top, "reset", "--quiet", "--hard", "HEAD")),
        "back": st.just(lambda top: _git(top, "reset", "--quiet", "HEAD~1")),
        "hide": st.builds(lambda path: lambda top: _git(top, "update-index", "--skip-worktree", path), one),
        "untrack": st.builds(lambda path: lambda top: _git(top, "rm", "--quiet", "--cached", "--", path), one),
    }
    return strategies[name]


STEPS = st.sampled_from(
    ["write", "append", "replace", "remove", "rename", "mode", "link", "remove tree", "rename tree", "tree to link"] * 2
    + ["ignore", "attributes", "commit", "force", "reset", "back", "hide", "untrack"]
).flatmap(step)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(STEPS, min_size=1, max_size=6), min_size=1, max_size=4))
def test_whatever_happens_in_a_worktree_is_seen_as_a_snapshot_sees_it(
    top: Path, batches: list[list[Callable[[Path], None]]]
) -> None:
    with tempfile.TemporaryDirectory(dir=top.parent) as place:
        here = places(Path(place))
        session = running(here, top, name=Path(place).name)
        with live(here, session) as now:
            now.look()
            for batch in batches:
                for act in batch:
                    try:
                        act(Path(session.spec.worktree))
                    except (OSError, shutil.Error):
                        continue
                now.look()
                assert now.tree.changes.files == peek(here, session).files


@pytest.fixture
def now(tmp_path: Path, top: Path) -> Iterator[Live]:
    here = places(tmp_path / "plait")
    with live(here, running(here, top)) as made:
        made.look()
        yield made


def worktree(now: Live) -> Path:
    return Path(now.tree.session.spec.worktree)


def same_as_a_snapshot(now: Live) -> None:
    now.look()
    assert now.tree.changes.files == peek(now.tree._places, now.tree.session).files


def test_only_the_paths_that_differ_are_told(now: Live) -> None:
    top = worktree(now)
    (top / "a.txt").write_text("other\n")
    (top / "x.log").write_text("ignored")
    (top / "b.txt").write_text(str(FILES["b.txt"]))
    assert now.look() == {"a.txt"}
    assert now.look() == frozenset()
    (top / "b.txt").rename(top / "c.txt")
    assert now.look() == {"b.txt", "c.txt"}
    same_as_a_snapshot(now)


def test_a_further_change_of_a_known_file_asks_git_nothing(now: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    top = worktree(now)
    (top / "a.txt").write_text("first\n")
    (top / "fresh").write_text("first\n")
    now.look()
    asked: list[object] = []
    before = git_run._run

    def counted(*args: Any) -> Any:
        asked.append(args)
        return before(*args)

    monkeypatch.setattr(git_run, "_run", counted)
    (top / "a.txt").write_text("second\n")
    (top / "fresh").write_text("second\n")
    assert now.look() == {"a.txt", "fresh"}
    assert asked == []
    assert {file.path: file.agent and file.agent.data for file in now.tree.changes.files} == {
        "a.txt": b"second\n",
        "fresh": b"second\n",
    }


def test_a_commit_is_no_change_and_what_it_takes_away_is_one(now: Live) -> None:
    top = worktree(now)
    (top / "a.txt").write_text("other\n")
    now.look()
    run_git(top, "commit", "--quiet", "--all", "--message", "work")
    assert now.look() == frozenset()
    run_git(top, "rm", "--quiet", "--cached", "build/kept")
    run_git(top, "commit", "--quiet", "--message", "untracked now")
    assert now.look() == {"build/kept"}
    same_as_a_snapshot(now)


def test_a_repository_inside_is_seen_as_git_sees_it(now: Live) -> None:
    top = worktree(now)
    (top / "inner").mkdir()
    (top / "inner" / "f").write_text("f\n")
    same_as_a_snapshot(now)
    run_git(top / "inner", "init", "--quiet")
    run_git(top / "inner", "add", "f")
    run_git(top / "inner", "commit", "--quiet", "--message", "inner")
    same_as_a_snapshot(now)
    (top / "inner" / "g").write_text("g\n")
    (top / "a.txt").write_text("other\n")
    same_as_a_snapshot(now)
    shutil.rmtree(top / "inner")
    same_as_a_snapshot(now)
    assert [file.path for file in now.tree.changes.files] == ["a.txt"]


def test_nothing_is_read_through_a_link_out_of_the_worktree(now: Live, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("secret\n")
    shutil.rmtree(worktree(now) / "d")
    (worktree(now) / "d").symlink_to(outside)
    same_as_a_snapshot(now)
    (outside / "x").write_text("secret, changed\n")
    (outside / "more").write_text("secret\n")
    assert now.look() == frozenset()
    assert all(b"secret" not in (file.agent.data if file.agent else b"") for file in now.tree.changes.files)


def test_what_is_ignored_is_neither_shown_nor_watched(now: Live) -> None:
    top = worktree(now)
    before = now.watcher._source._inotify.count  # type: ignore[attr-defined]  # the figure is nobody's else
    _write(top / ".gitignore", b"*.log\nbuild/\nnode_modules/\n")
    now.look()
    for number in range(50):
        _write(top / "node_modules" / f"p{number}" / "index.js", b"x\n")
    _write(top / "src" / "new.js", b"x\n")
    same_as_a_snapshot(now)
    assert [file.path for file in now.tree.changes.files] == [".gitignore", "src/new.js"]
    assert now.watcher._source._inotify.count == before + 1  # type: ignore[attr-defined]  # as above
    _write(top / "node_modules" / "p1" / "index.js", b"y\n")
    now.watcher.flush()
    assert now.watcher.waiting == []
    _write(top / ".gitignore", b"")
    same_as_a_snapshot(now)
    assert len(now.tree.changes.files) == 52


def test_a_file_that_cannot_be_shown_hides_no_other(now: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.engine.live.LARGEST", 1000)
    top = worktree(now)
    (top / "a.txt").write_text("other\n")
    (top / "large").write_bytes(b"x" * 2000)
    os.mkfifo(top / "pipe")
    now.look()
    assert [file.path for file in now.tree.changes.files] == ["a.txt"]
    assert [problem.split()[0] for problem in now.tree.changes.problems] == ["large"]


def test_links_to_the_users_checkout_are_no_work_of_the_agent(tmp_path: Path, top: Path) -> None:
    (top / "shared").mkdir()
    here = places(tmp_path / "plait")
    session = running(here, top, symlinks=("shared",))
    assert (Path(session.spec.worktree) / "shared").is_symlink()
    with live(here, session) as now:
        same_as_a_snapshot(now)
        _write(Path(session.spec.worktree) / "new", b"x")
        same_as_a_snapshot(now)
        assert [file.path for file in now.tree.changes.files] == ["new"]


def test_work_that_was_there_before_it_was_followed_is_seen(tmp_path: Path, top: Path) -> None:
    here = places(tmp_path / "plait")
    session = running(here, top)
    _write(Path(session.spec.worktree) / "n" / "new", b"x")
    (Path(session.spec.worktree) / "a.txt").unlink()
    with live(here, session) as now:
        assert now.look() == {"n/new", "a.txt"}
        same_as_a_snapshot(now)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more\n")


def _replace(path: Path, data: bytes) -> None:
    """As editors save: a new file, renamed over the old one."""
    fresh = path.with_name(path.name + ".tmp")
    _write(fresh, data)
    fresh.replace(path)


def _rename(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    path.rename(to)


def _link(path: Path, to: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def _tree_to_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("/etc")


def _git(top: Path, *args: str) -> None:
    run_git(top, *args, check=False)
