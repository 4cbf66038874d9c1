"""git starts with a fixed environment, is never killed, and its failures say what to do."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from plait.errors import GitError
from plait.git import run
from plait.git.repo import find
from plait.git.run import decoded, encoded, git, version
from plait.git.shadow import Shadow, held
from tests.support.repo import run_git


def fake_git(place: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    # What is loaded at the first use starts git as well, and shall meet the real one.
    version()
    place.mkdir()
    (place / "git").write_text(f"#!/bin/sh\n{script}\n")
    (place / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


def test_nothing_of_git_is_inherited(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_CONFIG_COUNT", "GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND"):
        monkeypatch.setenv(name, "/nonsense")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'alias.x'='!touch evil'")
    assert find(top).top == top
    assert [name for name in os.environ if name.startswith("GIT_")] == []


def test_the_environment_and_settings_are_the_fixed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_git(tmp_path / "bin", monkeypatch, 'env; for arg in "$@"; do echo "arg $arg"; done; [ -t 0 ] || cat')
    lines = git(
        ["status"], cwd=tmp_path, git_dir=tmp_path, alternates=[Path('/a:"b')], stdin=b"given"
    ).text.splitlines()
    assert {"LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_ALLOW_PROTOCOL=none"} <= set(lines)
    assert f"GIT_DIR={tmp_path}" in lines
    assert 'GIT_ALTERNATE_OBJECT_DIRECTORIES="/a:\\"b"' in lines
    assert {"arg core.hooksPath=/dev/null", "arg core.fsmonitor=false", "arg gc.auto=0"} <= set(lines)
    assert lines[-1] == "given"


def test_a_git_that_takes_too_long_is_asked_to_end_and_may_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path / "bin", monkeypatch, f"trap 'echo cleaned >{tmp_path}/said; exit 1' TERM\nsleep 60 & wait")
    with pytest.raises(GitError, match=r"git fsck did not finish within 0\.5 s"):
        git(["fsck"], cwd=tmp_path, timeout_s=0.5)
    assert (tmp_path / "said").read_text() == "cleaned\n"


def test_a_git_that_does_not_end_is_left_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_GRACE_S", 0.3)
    waits = f"while [ ! -e {tmp_path}/stop ]; do sleep 0.05; done"
    script = f"trap '' TERM\necho $$ >{tmp_path}/pid\n{waits}\necho >{tmp_path}/done"
    fake_git(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(GitError, match="did not finish"):
        git(["gc"], cwd=tmp_path, timeout_s=0.5)
    os.kill(int((tmp_path / "pid").read_text()), 0)
    (tmp_path / "stop").touch()
    wait_until((tmp_path / "done").exists)


def wait_until(holds: object, seconds: float = 10.0) -> None:
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reader_repeats_on_the_known_race_and_a_writer_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    words = "fatal: failed to read /r/.git/worktrees/x/commondir: Success"
    fake_git(
        tmp_path / "bin",
        monkeypatch,
        f'echo x >>{count}; [ $(wc -l <{count}) -ge 3 ] || {{ echo "{words}" >&2; exit 128; }}',
    )
    assert git(["branch"], cwd=tmp_path).status == 0
    assert len(count.read_text().splitlines()) == 3
    count.unlink()
    with pytest.raises(GitError, match="remove that directory to repair git"):
        git(["worktree", "add"], cwd=tmp_path, writes=True)
    assert len(count.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("fatal: Unable to create '/r/.git/index.lock': File exists.", "remove that file"),
        ("error: could not lock config file .git/config: File exists", r"\.git/config\.lock"),
        (
            "fatal: detected dubious ownership\n\n\tgit config --global --add safe.directory /r",
            "run: git config --global --add safe.directory /r",
        ),
        ("error: unable to write file: No space left on device", "disk is full"),
        ("fatal: bad object 1234", "missing"),
        ("", "ended with status 128 and said nothing"),
    ],
)
def test_a_failure_has_the_words_of_git_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, hint: str
) -> None:
    (tmp_path / "words").write_text(said)
    fake_git(tmp_path / "bin", monkeypatch, f"cat {tmp_path}/words >&2; exit 128")
    with pytest.raises(GitError, match=hint) as raised:
        git(["fsck"], cwd=tmp_path)
    assert raised.value.message.startswith("git fsck failed: ")
    assert git(["fsck"], cwd=tmp_path, check=False).status == 128


def test_a_held_lock_of_a_foreign_git_is_named_and_kept(shaded: Shadow, top: Path) -> None:
    lock = top / ".git/refs/heads/x.lock"
    lock.touch()
    with pytest.raises(GitError, match=r"x\.lock.*remove that file"):
        shaded.repo.run("update-ref", "refs/heads/x", run_git(top, "rev-parse", "HEAD"), writes=True)
    assert lock.exists()


def test_a_missing_git_or_directory_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GitError, match="is gone"):
        git(["status"], cwd=tmp_path / "missing")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match=r"Install git 2\.38"):
        git(["status"], cwd=tmp_path)


def test_every_byte_survives_decoding() -> None:
    data = bytes(range(256)) + "ü".encode()
    assert encoded(decoded(data)) == data


def test_the_version_is_known() -> None:
    assert version() >= (2, 38, 0)


def test_one_writer_at_a_time_among_threads_and_processes(shaded: Shadow) -> None:
    inside = 0
    most = 0

    def write_once() -> None:
        nonlocal inside, most
        with shaded.writer():
            inside += 1
            most = max(most, inside)
            inside -= 1

    threads = [threading.Thread(target=write_once) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    holder = subprocess.Popen(
        ["flock", str(shaded.home / "lock"), "sh", "-c", "echo held; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(GitError, match=r"held .*lock for more than"), held(shaded.home / "lock", 0.2):
        raise AssertionError("the lock is taken")
    holder.communicate(b"\n")
    with shaded.writer(5.0):
        pass


def test_a_git_that_outlives_us_keeps_the_lock(shaded: Shadow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_GRACE_S", 0.1)
    script = f"trap '' TERM\nwhile [ ! -e {tmp_path}/stop ]; do sleep 0.05; done"
    fake_git(tmp_path / "bin", monkeypatch, script)
    with shaded.writer() as lock, pytest.raises(GitError, match="did not finish"):
        git(["gc"], cwd=tmp_path, timeout_s=0.2, keep_open=[lock])
    with pytest.raises(GitError, match="held"), held(shaded.home / "lock", 0.2):
        raise AssertionError("the lock is taken")
    (tmp_path / "stop").touch()
    with held(shaded.home / "lock", 10.0):
        pass
