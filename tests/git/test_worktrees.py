"""A worktree is made whole or not at all, many at once, and runs nothing of the repository's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plait.errors import GitError, PlaitError, UsageError
from plait.git.repo import find, resolve_base
from plait.git.run import version
from plait.git.shadow import Shadow, shadow
from plait.git.worktrees import Intent, create, delete_branch, head, listed, recover
from tests.support.repo import commit, make_repo, manifest, refs, run_git, user_commands_work, write


def intent(shaded: Shadow, place: Path, name: str = "one") -> Intent:
    return Intent(place / "worktrees" / name, f"plait/{name}", resolve_base(shaded.repo).commit, f"plait {name}")


def test_a_new_worktree_is_clean_locked_and_on_its_own_branch(shaded: Shadow, tmp_path: Path) -> None:
    asked = intent(shaded, tmp_path)
    made = create(shaded, asked)
    assert run_git(made.path, "status", "--porcelain") == ""
    assert run_git(made.path, "symbolic-ref", "HEAD") == "refs/heads/plait/one"
    assert head(shaded, made) == asked.base
    assert [one.locked for one in listed(shaded.repo)] == [None, "plait one"]
    assert (made.path / "tool.sh").read_text() == "#!/bin/sh\n"
    assert (made.path / ".git").read_text() == f"gitdir: {made.admin}\n"


def test_making_one_leaves_the_checkout_of_the_user_as_it_was(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    write(top, {"a.txt": "edited\n", "untracked": "mine\n"})
    before, index, config = manifest(top), (top / ".git/index").read_bytes(), (top / ".git/config").read_bytes()
    create(shaded, intent(shaded, tmp_path))
    assert manifest(top) == before
    assert (top / ".git/index").read_bytes() == index
    assert (top / ".git/config").read_bytes() == config


def test_an_existing_branch_or_place_is_refused_and_kept(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    asked = intent(shaded, tmp_path)
    run_git(top, "branch", asked.branch)
    before = refs(top)
    with pytest.raises(UsageError, match="exists already"):
        create(shaded, asked)
    assert refs(top) == before
    asked.path.mkdir(parents=True)
    with pytest.raises(UsageError, match="something is there"):
        create(shaded, Intent(asked.path, "plait/other", asked.base, "plait other"))
    assert refs(top) == before


@pytest.mark.parametrize(
    "name",
    ["--output=x", "-D", "@{-1}", "a..b", "a\nb", "HEAD", "refs/heads/x", "", "x.lock", "a b", "a\\b", "/x", "@"],
)
def test_a_name_that_is_no_branch_is_an_answer(shaded: Shadow, top: Path, tmp_path: Path, name: str) -> None:
    before = refs(top)
    with pytest.raises(UsageError):
        create(shaded, Intent(tmp_path / "w" / "x", name, resolve_base(shaded.repo).commit, "plait x"))
    assert refs(top) == before
    assert len(listed(shaded.repo)) == 1
    assert not (tmp_path / "w" / "x").exists()


@pytest.mark.parametrize("name", ["a;b", "$(touch${IFS}x)", "a'b\"c", "ü-ñ", "\u202egpj", "%s", "x" * 200, "a/b/c"])
def test_odd_names_are_only_names(shaded: Shadow, tmp_path: Path, name: str) -> None:
    base = resolve_base(shaded.repo).commit
    made = create(shaded, Intent(tmp_path / "w" / name.replace("/", "-"), name, base, f"plait {name}"))
    assert run_git(made.path, "symbolic-ref", "--short", "HEAD") == name
    assert run_git(made.path, "status", "--porcelain") == ""


def test_a_place_with_spaces_colons_and_quotes_works(tmp_path: Path) -> None:
    top = make_repo(tmp_path / 'a: "b" \\c', {"x": "1\n"})
    shaded = shadow(find(top), tmp_path / "st: ate")
    made = create(shaded, intent(shaded, tmp_path / "w: 'q'"))
    assert run_git(made.path, "status", "--porcelain") == ""


@pytest.mark.slow
def test_fifty_at_once_all_succeed_and_no_reader_fails(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    failures: list[str] = []

    def read() -> None:
        while not stop.is_set():
            try:
                assert listed(shaded.repo)
            except PlaitError as error:
                failures.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda n: create(shaded, intent(shaded, tmp_path, f"s{n}")), range(50)))
    finally:
        stop.set()
        reader.join()
    assert failures == []
    assert len({one.admin for one in made}) == 50
    assert len(listed(shaded.repo)) == 51
    assert len(refs(top)) == 51
    assert all(run_git(one.path, "status", "--porcelain") == "" for one in made[::10])


def test_a_base_that_is_gone_leaves_nothing_behind(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    before = refs(top)
    with pytest.raises(GitError):
        create(shaded, Intent(tmp_path / "w", "plait/x", "1" * 40, "plait x"))
    assert refs(top) == before
    assert not (top / ".git/worktrees").exists()
    assert not (tmp_path / "w").exists()


def test_a_missing_blob_leaves_nothing_behind(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    blob = run_git(top, "rev-parse", "HEAD:src/b.py")
    (top / ".git/objects" / blob[:2] / blob[2:]).unlink()
    before = refs(top)
    with pytest.raises(GitError, match="object is missing"):
        create(shaded, intent(shaded, tmp_path))
    assert refs(top) == before
    assert not (top / ".git/worktrees").exists()
    assert not (tmp_path / "worktrees" / "one").exists()


def test_recovery_of_what_was_never_begun_or_is_complete(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    asked = intent(shaded, tmp_path)
    assert recover(shaded, asked) is None
    made = create(shaded, asked)
    before = manifest(made.path)
    assert recover(shaded, asked) == made
    assert manifest(made.path) == before


def test_recovery_repairs_the_empty_file_that_makes_git_fail(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    asked = intent(shaded, tmp_path)
    made = create(shaded, asked)
    for name in ("HEAD", "commondir"):
        (made.admin / name).write_bytes(b"")
    (made.admin / "index").unlink()
    for path in made.path.iterdir():
        if path.name != ".git":
            subprocess.run(["rm", "-r", str(path)], check=True)
    assert subprocess.run(["git", "branch"], cwd=top, capture_output=True, check=False).returncode != 0
    assert recover(shaded, asked) is None
    user_commands_work(top)
    assert list(refs(top)) == ["refs/heads/main"]
    assert not made.path.exists()


def test_recovery_keeps_a_branch_and_files_that_are_not_ours(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    asked = intent(shaded, tmp_path)
    run_git(top, "branch", asked.branch)
    asked.path.mkdir(parents=True)
    write(asked.path, {"precious": "mine\n"})
    with pytest.raises(GitError, match="not ours"):
        recover(shaded, asked)
    assert (asked.path / "precious").read_text() == "mine\n"
    assert f"refs/heads/{asked.branch}" in refs(top)


def test_recovery_leaves_other_worktrees_alone(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "one"
    run_git(top, "worktree", "add", "--quiet", "-b", "users", str(other))
    before = manifest(other)
    assert recover(shaded, intent(shaded, tmp_path)) is None
    assert manifest(other) == before
    assert run_git(other, "status", "--porcelain") == ""


CHILD = """
import sys
from pathlib import Path
from plait.git.repo import find
from plait.git.shadow import shadow
from plait.git.worktrees import Intent, create
top, state, path, branch, base, reason = sys.argv[1:]
create(shadow(find(Path(top)), Path(state)), Intent(Path(path), branch, base, reason))
print("made", flush=True)
"""


WRAPPER = """#!/bin/sh
case "$*" in
  *{victim}*)
    {strace} -f -qq -o /dev/null -e trace={call} -e inject={call}:signal=SIGKILL:when={when} {git} "$@"
    status=$?
    [ $status -gt 128 ] && touch {hit}
    [ $status -gt 128 ] && [ {ours} = True ] && kill -9 $PPID
    exit $status ;;
esac
exec {git} "$@"
"""


def created_elsewhere(shaded: Shadow, asked: Intent, kill_after_s: float | None = None) -> None:
    """Run a `create` in a process of its own, and kill that the hard way after a while."""
    command = [sys.executable, "-c", CHILD, str(shaded.repo.top), str(shaded.home.parent.parent)]
    child = subprocess.Popen(
        [*command, str(asked.path), asked.branch, asked.base, asked.reason],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("server"))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if kill_after_s is not None:
        deadline = time.monotonic() + kill_after_s
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
    child.wait(timeout=60)


def check_all_or_nothing(shaded: Shadow, top: Path, asked: Intent) -> bool:
    recovered = recover(shaded, asked)
    expected = {"refs/heads/main"}
    if recovered:
        expected.add(f"refs/heads/{asked.branch}")
        assert run_git(recovered.path, "status", "--porcelain") == ""
        assert recovered.admin.joinpath("locked").exists()
    else:
        assert not asked.path.exists()
        assert list((top / ".git").glob("worktrees/*")) == []
    assert set(refs(top)) == expected
    user_commands_work(top)
    assert [str(p) for p in (top / ".git").rglob("*.lock")] == []
    return recovered is not None


def git_killed_at(place: Path, victim: str, call: str, when: int, *, ours: bool) -> tuple[bool, bool]:
    """Kill a git of `create` at its n-th call of a kind; whether that call came, and whether git fails now."""
    top = make_repo(place, {"a.txt": "one\n", "d/b.txt": "two\n"})
    shaded = shadow(find(top), place / "state")
    asked = intent(shaded, place)
    script = place / "bin" / "git"
    hit = place / "hit"
    values = {"strace": shutil.which("strace"), "git": shutil.which("git"), "hit": hit, "ours": ours}
    write(place / "bin", {"git": WRAPPER.format(victim=victim, call=call, when=when, **values)})
    script.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        created_elsewhere(shaded, asked)
    fails = subprocess.run(["git", "branch"], cwd=top, capture_output=True, check=False).returncode != 0
    check_all_or_nothing(shaded, top, asked)
    return hit.exists(), fails


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("victim", "call", "numbers"),
    [
        ("update-ref\\ --create", "openat", range(18, 28, 5)),
        ("update-ref\\ --create", "write", range(1, 4)),
        ("update-ref\\ --create", "rename", range(1, 2)),
        ("worktree\\ add", "openat", range(34, 39, 2)),
        ("worktree\\ add", "write", range(1, 7)),
        ("worktree\\ add", "mkdir", range(1, 3)),
        ("worktree\\ add", "rename", range(1, 2)),
        ("read-tree\\ --reset", "openat", range(18, 40, 10)),
        ("read-tree\\ --reset", "write", range(1, 5, 2)),
    ],
)
def test_git_and_we_killed_at_any_system_call_leave_all_or_nothing(
    tmp_path: Path, victim: str, call: str, numbers: range
) -> None:
    left = [git_killed_at(tmp_path / str(n), victim, call, n, ours=True) for n in numbers]
    assert any(hit for hit, _ in left), "the sweep must reach the command"
    if (victim, call) == ("worktree\\ add", "write") and version()[:2] == (2, 39):
        assert any(fails for _, fails in left), "the known defect of git must be among the cases"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_git_killed_beneath_us_is_undone_at_once(tmp_path: Path) -> None:
    left = [git_killed_at(tmp_path / str(n), "worktree\\ add", "write", n, ours=False) for n in (1, 3, 5)]
    assert any(hit for hit, _ in left)
    assert not any(fails for _, fails in left)


@pytest.mark.slow
def test_our_process_killed_at_any_moment_leaves_all_or_nothing(tmp_path: Path) -> None:
    top = make_repo(tmp_path, {f"d{n % 20}/f{n}": f"{n}\n" for n in range(400)})
    shaded = shadow(find(top), tmp_path / "state")
    started = time.monotonic()
    created_elsewhere(shaded, intent(shaded, tmp_path, "whole"))
    whole = time.monotonic() - started
    assert recover(shaded, intent(shaded, tmp_path, "whole")) is not None
    for n in range(10):
        asked = intent(shaded, tmp_path, f"k{n}")
        created_elsewhere(shaded, asked, whole * (0.4 + 0.6 * n / 9))
        made = recover(shaded, asked)
        assert (made is not None) == asked.path.exists() == (f"refs/heads/{asked.branch}" in refs(top))
        if made:
            assert run_git(made.path, "status", "--porcelain") == ""
    user_commands_work(top)


def test_a_branch_goes_only_from_where_it_was_seen(shaded: Shadow, top: Path, tmp_path: Path) -> None:
    base = resolve_base(shaded.repo).commit
    run_git(top, "branch", "x")
    run_git(top, "branch", "y")
    assert delete_branch(shaded, "x", "2" * 40) == "moved"
    assert delete_branch(shaded, "x", base) == "deleted"
    assert delete_branch(shaded, "x", base) == "missing"
    assert delete_branch(shaded, "main", base) == "checked out"
    made = create(shaded, intent(shaded, tmp_path))
    assert delete_branch(shaded, made.branch, base) == "checked out"
    assert set(refs(top)) == {"refs/heads/main", "refs/heads/y", "refs/heads/plait/one"}


def test_head_follows_what_the_agent_checked_out(shaded: Shadow, tmp_path: Path) -> None:
    made = create(shaded, intent(shaded, tmp_path))
    write(made.path, {"n": "1\n"})
    new = commit(made.path)
    assert head(shaded, made) == new
    run_git(made.path, "switch", "--detach", "HEAD~1")
    assert head(shaded, made) != new
    run_git(made.path, "switch", "--orphan", "empty")
    with pytest.raises(GitError, match="names no commit"):
        head(shaded, made)
