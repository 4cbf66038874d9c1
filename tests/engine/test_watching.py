"""Whatever touches a worktree is told of, by one thread for all worktrees, and nothing else is."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait.engine.watching import Touched, Watcher
from tests.support.processes import eventually


class Watched:
    """A watcher and its worktrees, which are mere directories here."""

    def __init__(self, place: Path, watcher: Watcher, told: threading.Event) -> None:
        self.place = place
        self.watcher = watcher
        self.told = told

    def tree(self, name: str, *directories: str) -> Path:
        top = self.place / name
        for directory in ("", *directories):
            (top / directory).mkdir(parents=True)
        (self.place / f"{name}.git").mkdir()
        return top

    def follow(self, name: str, *directories: str, skipped: tuple[str, ...] = ()) -> Path:
        top = self.tree(name, *directories)
        assert self.watcher.add(name, top, self.place / f"{name}.git", skipped)
        return top

    def paths(self, name: str) -> set[str]:
        self.watcher.flush()
        return self.watcher.take(name).paths


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    told = threading.Event()
    watcher = Watcher(told.set)
    yield Watched(tmp_path, watcher, told)
    watcher.close()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "plait-watch"]


def test_what_is_touched_is_told_and_taken_once(watched: Watched) -> None:
    top = watched.follow("one", "d/e")
    (top / "d" / "e" / "f").write_text("x")
    (top / "g").symlink_to("nowhere")
    assert watched.paths("one") == {"d/e/f", "g"}
    assert watched.paths("one") == set()
    (top / "g").rename(top / "h")
    (top / "d" / "e" / "f").chmod(0o755)
    assert watched.paths("one") == {"g", "h", "d/e/f"}


def test_it_is_told_without_being_asked(watched: Watched) -> None:
    top = watched.follow("one")
    (top / "f").write_text("x")
    assert watched.told.wait(10)
    assert watched.watcher.take("one").paths == {"f"}


def test_directories_that_come_move_and_go_are_followed(watched: Watched) -> None:
    top = watched.follow("one", "d/e")
    (top / "new" / "deep").mkdir(parents=True)
    watched.paths("one")
    (top / "new" / "deep" / "f").write_text("x")
    assert watched.paths("one") == {"new/deep/f"}
    (top / "new").rename(top / "d" / "moved")
    assert watched.paths("one") == {"new", "d/moved"}
    (top / "d" / "moved" / "deep" / "f").write_text("y")
    assert watched.paths("one") == {"d/moved/deep/f"}
    shutil.rmtree(top / "d")
    assert "d" in watched.paths("one")
    (top / "d" / "e").mkdir(parents=True)
    watched.paths("one")
    (top / "d" / "e" / "f").write_text("z")
    assert watched.paths("one") == {"d/e/f"}


def test_git_s_own_files_are_a_sign_that_head_may_have_moved_and_no_files(watched: Watched) -> None:
    top = watched.follow("one")
    (watched.place / "one.git" / "HEAD.lock").write_text("ref")
    watched.watcher.flush()
    assert watched.watcher.take("one") == Touched(record=True)
    (top / "in").mkdir()
    (top / "in" / ".git").mkdir()
    watched.paths("one")
    (top / "in" / ".git" / "HEAD").write_text("ref")
    assert watched.paths("one") == set()


def test_links_are_not_followed_and_skipped_directories_not_watched(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    top = watched.tree("one", "node_modules/a", "d")
    (top / "link").symlink_to(tmp_path / "outside")
    assert watched.watcher.add("one", top, tmp_path / "one.git", ["node_modules"])
    watched.watcher.skip("one", ["d"])
    watched.paths("one")
    (tmp_path / "outside" / "f").write_text("x")
    (top / "node_modules" / "a" / "f").write_text("x")
    (top / "node_modules" / "b").mkdir()
    (top / "d" / "f").write_text("x")
    (top / "seen").write_text("x")
    assert watched.paths("one") == {"seen"}


def test_worktrees_do_not_mix_and_all_share_one_thread(watched: Watched) -> None:
    tops = [watched.follow(f"t{number}", "d") for number in range(30)]
    assert threads() == ["plait-watch"]
    (tops[3] / "d" / "f").write_text("x")
    watched.watcher.flush()
    assert watched.watcher.waiting == ["t3"]
    watched.watcher.remove("t3")
    (tops[3] / "d" / "g").write_text("x")
    (tops[4] / "g").write_text("x")
    watched.watcher.flush()
    assert watched.watcher.waiting == ["t4"]


def test_too_few_watches_are_no_watches_and_take_none_from_others(tmp_path: Path) -> None:
    watcher = Watcher(lambda: None, limit=5)
    watched = Watched(tmp_path, watcher, threading.Event())
    try:
        small = watched.follow("small", "d")
        large = watched.tree("large", *map(str, range(10)))
        assert not watcher.add("large", large, tmp_path / "large.git")
        (small / "d" / "f").write_text("x")
        assert watched.paths("small") == {"d/f"}
        for number in range(10):
            (small / f"more{number}").mkdir()
        watcher.flush()
        assert watcher.take("small").lost
    finally:
        watcher.close()


def test_reports_that_the_kernel_dropped_are_known_to_be_lost(watched: Watched) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    top = watched.follow("one")
    one, other = (os.open(top / name, os.O_WRONLY | os.O_CREAT) for name in "ab")
    # Nobody reads meanwhile: whoever reads waits for this lock.
    with watched.watcher._source._inotify._lock:  # type: ignore[attr-defined]  # there is no other way to fall behind
        for _ in range(most // 2 + 10):
            os.write(one, b"x")
            os.write(other, b"x")
    os.close(one)
    os.close(other)
    watched.watcher.flush()
    assert watched.watcher.take("one").lost


def test_a_worktree_that_is_moved_away_is_lost(watched: Watched) -> None:
    top = watched.follow("one")
    top.rename(watched.place / "trash")
    watched.watcher.flush()
    assert watched.watcher.take("one").lost


def test_the_way_of_other_systems_tells_the_same(tmp_path: Path) -> None:
    told = threading.Event()
    watcher = Watcher(told.set, portable=True)
    watched = Watched(tmp_path, watcher, told)
    try:
        one, two = watched.follow("one", "d", "node_modules", skipped=("node_modules",)), watched.follow("two")
        eventually(lambda: threads() == ["plait-watch"])
        seen: dict[str, set[str]] = {"one": set(), "two": set()}

        def tells(name: str, path: str) -> bool:
            seen[name] |= watcher.take(name).paths
            return path in seen[name]

        (one / "node_modules" / "f").write_text("x")
        (one / "d" / "f").write_text("x")
        eventually(lambda: tells("one", "d/f"))
        (two / "g").write_text("x")
        eventually(lambda: tells("two", "g"))
        assert "node_modules/f" not in seen["one"]
        (tmp_path / "two.git" / "HEAD").write_text("x")
        eventually(lambda: watcher.take("two").record)
        watcher.remove("one")
        (two / "h").write_text("x")
        eventually(lambda: tells("two", "h"))
    finally:
        watcher.close()
    assert threads() == []
