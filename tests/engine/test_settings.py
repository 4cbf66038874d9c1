"""Settings on disk: read again when they change, defaults and a problem when they cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plait.core.config import RepoConfig, UserConfig
from plait.engine.settings import Settings


def test_a_missing_file_means_the_defaults(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "no" / "config.toml")
    assert settings.user().config == UserConfig()
    assert settings.user().problems == ()
    assert settings.repository(tmp_path).config == RepoConfig()


def test_a_change_is_seen_also_within_one_tick_and_at_the_same_size(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    settings = Settings(path)
    assert settings.user().config.limits.max_running == 3
    path.write_text("[limits]\nmax_running = 4\n")
    assert settings.user().config.limits.max_running == 4
    before = path.stat()
    new = tmp_path / "new"
    new.write_text("[limits]\nmax_running = 5\n")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(path)
    assert settings.user().config.limits.max_running == 5
    path.unlink()
    assert settings.user().config.limits.max_running == 3


def test_an_unchanged_file_is_not_parsed_again(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[limits]\nmax_running = 4\n")
    (tmp_path / "plait.toml").write_text('[check]\ncommand = "make test"\n')
    settings = Settings(tmp_path / "config.toml")
    assert settings.user() is settings.user()
    assert settings.repository(tmp_path) is settings.repository(tmp_path)
    assert settings.repository(tmp_path).config.check.command == "make test"


def test_problems_of_the_file_come_along(tmp_path: Path) -> None:
    (tmp_path / "plait.toml").write_text("[chek]\n")
    loaded = Settings(tmp_path / "config.toml").repository(tmp_path)
    assert "`check`" in loaded.problems[0].message


@pytest.mark.parametrize("make", ["directory", "fifo", "bytes", "link loop"])
def test_what_cannot_be_read_is_a_problem_and_no_crash(tmp_path: Path, make: str) -> None:
    path = tmp_path / "config.toml"
    if make == "directory":
        path.mkdir()
    elif make == "fifo":
        os.mkfifo(path)
    elif make == "bytes":
        path.write_bytes(b"\xff\xfe")
    else:
        path.symlink_to(path)
    loaded = Settings(path).user()
    assert loaded.config == UserConfig()
    assert str(path) in loaded.problems[0].message


def test_the_users_own_file_may_be_a_link_but_a_repositorys_may_not(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("[limits]\nmax_running = 6\n")
    (tmp_path / "config.toml").symlink_to(real)
    (tmp_path / "plait.toml").symlink_to(real)
    settings = Settings(tmp_path / "config.toml")
    assert settings.user().config.limits.max_running == 6
    real.write_text("[limits]\nmax_running = 12\n")
    assert settings.user().config.limits.max_running == 12
    assert "link" in settings.repository(tmp_path).problems[0].message
