"""Ten sessions at once, each applying a change from a repository's own history.

`PLAIT_TEST_REPOSITORIES` names clones to run on (paths separated by colons); without it, a history made up here.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.plait import installed
from tests.support.repo import commit, make_repo, manifest, refs, run_git, user_commands_work, write

SESSIONS = 10
GIVEN = [Path(path) for path in os.environ.get("PLAIT_TEST_REPOSITORIES", "").split(":") if path]


def made_up(tmp_path: Path) -> Path:
    """A repository with a history of edits, new files, removals, renames and modes."""
    rng = random.Random(5)
    files = {f"src/m{number}.py": "".join(f"v{line} = {line}\n" for line in range(120)) for number in range(30)}
    top = make_repo(tmp_path / "history", files)
    for number in range(40):
        path = top / rng.choice([name for name in files if (top / name).exists()])
        kind = number % 8
        if kind == 5:
            write(top, {f"src/new{number}.py": f"number = {number}\n"})
        elif kind == 6:
            run_git(top, "mv", str(path), str(path.with_name(f"moved{number}.py")))
        elif kind == 7:
            path.chmod(0o755)
        else:
            rows = path.read_text().splitlines(keepends=True)
            for row in rng.sample(range(len(rows)), 4):
                rows[row] = f"changed = {rng.random()}\n"
            path.write_text("".join(rows))
        commit(top, f"Change {number}")
    return top


def patches(top: Path, base: str, tip: str, place: Path) -> list[Path]:
    """The changes between two commits that apply to the base alone, newest first."""
    place.mkdir()
    found: list[Path] = []
    names = run_git(top, "rev-list", "--no-merges", f"{base}..{tip}").split()
    for name in names:
        patch = place / f"{name}.patch"
        args = ["git", "diff-tree", "-p", "--binary", "--full-index", "-M", f"{name}^", name]
        patch.write_bytes(subprocess.run(args, cwd=top, check=True, capture_output=True).stdout)
        checked = subprocess.run(
            ["git", "apply", "--check", "--index", patch], cwd=top, capture_output=True, check=False
        )
        if patch.stat().st_size and checked.returncode == 0:
            found.append(patch)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("given", GIVEN or [None], ids=lambda given: given.name if given else "made up")
def test_ten_real_changes_at_once_and_three_taken_hunk_by_hunk(tmp_path: Path, given: Path | None) -> None:
    origin = given or made_up(tmp_path)
    top = tmp_path / "clone"
    run_git(tmp_path, "clone", "--quiet", "--no-local", str(origin), str(top))
    tip = run_git(top, "rev-parse", "HEAD")
    depth = min(400, int(run_git(top, "rev-list", "--count", "--first-parent", "HEAD")) - 1)
    base = run_git(top, "rev-parse", f"HEAD~{depth}")
    run_git(top, "reset", "--quiet", "--hard", base)
    available = patches(top, base, tip, tmp_path / "patches")
    rng = random.Random(3)
    chosen = rng.sample(available, min(SESSIONS, len(available)))
    assert len(chosen) == SESSIONS, "the history has too few changes that apply alone"
    before, heads = manifest(top), {ref for ref in refs(top) if not ref.startswith("refs/plait/")}

    with installed(tmp_path / "plait", {"apply": ["git", "apply", "--index", "{prompt}"]}) as plait:
        caller = plait.connect()
        began = time.monotonic()
        sessions = [plait.run(caller, top, str(patch), agents=[{"name": "apply"}])[0] for patch in chosen]
        rested = plait.rested(caller, sessions, 300)
        took = time.monotonic() - began
        assert [(entry["state"], entry["reason"]) for entry in rested.values()] == [("ready", "")] * SESSIONS
        assert manifest(top) == before
        assert {ref for ref in refs(top) if not ref.startswith(("refs/plait/", "refs/heads/plait/"))} == heads

        for session, patch in zip(sessions, chosen, strict=True):
            snapshot = caller.request("plait/session", {"session": session})["snapshot"]
            assert run_git(top, "rev-parse", f"{snapshot}^{{tree}}") == tree_with(tmp_path, top, base, [patch])

        taken: list[Path] = []
        hunks = 0
        for session, patch in zip(sessions, chosen, strict=True):
            if len(taken) == 3:
                break
            together = tree_with(tmp_path, top, base, [*taken, patch])
            if together is None:
                # It collides with one that was taken already; another change is as good.
                continue
            waiting = [hunk["id"] for hunk in caller.request("plait/session", {"session": session})["hunks"]]
            for hunk in rng.sample(waiting, len(waiting)):
                caller.request("plait/accept", {"session": session, "hunks": [hunk]})
            hunks += len(waiting)
            taken.append(patch)
            assert caller.request("plait/session", {"session": session})["state"] == "applied"
        assert len(taken) == 3
        run_git(top, "add", "--all")
        assert run_git(top, "write-tree") == tree_with(tmp_path, top, base, taken)
        plait.none_left()
    user_commands_work(top)
    print(
        f"{top.parent.name}: {SESSIONS} sessions ready after {took:.1f} s; {hunks} hunks of 3 sessions accepted singly"
    )


def tree_with(tmp_path: Path, top: Path, base: str, chosen: list[Path]) -> str | None:
    """The tree that git makes of the base and some patches; none if they do not go together."""
    place = tmp_path / "by-git"
    if not place.exists():
        run_git(top, "worktree", "add", "--quiet", "--detach", str(place), base)
    run_git(place, "reset", "--quiet", "--hard", base)
    run_git(place, "clean", "--quiet", "-fd")
    for patch in chosen:
        done = subprocess.run(["git", "apply", "--index", patch], cwd=place, capture_output=True, check=False)
        if done.returncode != 0:
            return None
    return run_git(place, "write-tree")
