"""The shadow keeps its places private, cleans up after kills, and answers when it cannot write."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from plait.errors import GitError, StorageError
from plait.git.repo import find
from plait.git.shadow import Shadow, held, shadow
from tests.support.repo import make_repo, run_git


def test_what_a_kill_left_is_removed_after_a_day_and_not_before(shaded: Shadow, tmp_path: Path) -> None:
    left, fresh = shaded.home / "tmp" / "left", shaded.home / "tmp" / "fresh"
    for place in (left, fresh):
        place.mkdir(parents=True)
        (place / "index").touch()
    old = time.time() - 25 * 3600
    os.utime(left, (old, old))
    shadow(shaded.repo, tmp_path / "state")
    assert (left.exists(), fresh.exists()) == (False, True)


def test_a_temporary_directory_is_private_and_gone_afterwards(shaded: Shadow) -> None:
    with shaded.temporary() as place:
        assert oct(place.stat().st_mode)[-3:] == "700"
    assert not place.exists()


def test_a_lock_that_cannot_be_opened_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="Could not open the lock"), held(tmp_path / "lock", 1.0):
        raise AssertionError("a link must not be followed")
    assert not (tmp_path / "elsewhere").exists()


def test_a_configuration_that_git_cannot_read_is_named(top: Path, tmp_path: Path) -> None:
    repo = find(top)
    (top / ".git/config").write_text("[core\n")
    with pytest.raises(GitError, match=r"cannot read .*config"):
        shadow(repo, tmp_path / "state")


def test_a_repository_without_a_configuration_file_works(top: Path, tmp_path: Path) -> None:
    repo = find(top)
    (top / ".git/config").unlink()
    assert shadow(repo, tmp_path / "state").run("rev-parse", "--git-dir").status == 0


def test_two_repositories_have_two_shadows_and_a_renamed_one_keeps_its_own(tmp_path: Path) -> None:
    one, other = make_repo(tmp_path / "1", {"a": "1"}), make_repo(tmp_path / "2", {"a": "1"})
    homes = [shadow(find(top), tmp_path / "state").home for top in (one, other)]
    assert homes[0] != homes[1]
    one.rename(tmp_path / "renamed")
    assert shadow(find(tmp_path / "renamed"), tmp_path / "state").home == homes[0]


def test_a_key_without_a_value_means_true(top: Path, tmp_path: Path) -> None:
    with (top / ".git/config").open("a") as file:
        file.write("[core]\n\tprotectNTFS\n")
    place = shadow(find(top), tmp_path / "state").git_dir / "config"
    assert run_git(tmp_path, "config", "--file", str(place), "core.protectntfs") == "true"
