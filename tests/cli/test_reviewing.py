from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Plait, Repos, numbered, terminal
from tests.support.repo import commit, run_git, write

pytestmark = pytest.mark.slow

TWO = "sed -i 's/^line 3$/LINE 3/;s/^line 30$/LINE 30/' a.txt; echo new > b.txt"


def test_review_lists_what_waits_and_shows_the_next_hunk(plait: Plait, repos: Repos) -> None:
    repo = repos()
    assert "Nothing waits" in plait("review", cwd=repo, status=3).err
    assert plait("review", "--json", cwd=repo).json == {"queue": []}
    assert "Nothing waits" in plait("review", "--next", "--json", cwd=repo, status=3).err
    session = plait.run(repo, TWO)
    (waiting,) = plait("review", "--json", cwd=repo).json["queue"]
    assert (waiting["id"], waiting["waiting"], waiting["conflicting"]) == (session, 3, 0)
    assert plait("review", cwd=repo).out.splitlines()[1].split()[0] == waiting["short"]
    lines = plait("review", "--next", cwd=repo).out.splitlines()
    assert lines[:6] == ["a.txt:3  sh", " line 1", " line 2", "-line 3", "+LINE 3", " line 4"]
    assert plait("review", "--next", "--json", cwd=repo).json["hunk"]["id"] == waiting["next"]["id"]


def test_hunks_and_files_are_accepted_rejected_and_taken_back(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, TWO)
    first, second, created = (hunk["id"] for hunk in plait.show(session)["hunks"])
    assert plait("accept", session, "--hunk", second, cwd=repo).out == "1 hunk accepted in a.txt.\n"
    assert (repo / "a.txt").read_text() == numbered(40).replace("line 30\n", "LINE 30\n")
    assert plait("revert", session, "--hunk", second, "--json", cwd=repo).json["done"] == [second]
    assert (repo / "a.txt").read_text() == numbered(40)
    assert plait("reject", session, "--file", "b.txt", "--why", "not asked for", cwd=repo).status == 0
    view = plait.show(session)
    assert view["verdicts"][created] == {"verdict": "rejected", "path": "b.txt", "why": "not asked for"}
    assert plait("accept", session, cwd=repo).out == "2 hunks accepted in a.txt.\n"
    assert not (repo / "b.txt").exists()
    assert plait.show(session)["state"] == "applied"
    assert plait("accept", session, cwd=repo, status=3).raw == b""
    assert "no hunk" in plait("reject", session, "--hunk", "0" * 16, cwd=repo, status=2).err
    assert {first, second} == {hunk["id"] for hunk in plait.show(session)["hunks"] if hunk["state"] == "applied"}


def test_a_hunk_over_which_the_user_wrote_is_refused(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, "sed -i 's/^line 3$/LINE 3/' a.txt")
    mine = numbered(40).replace("line 3\n", "mine\n")
    write(repo, {"a.txt": mine})
    done = plait("accept", session, cwd=repo, status=1)
    assert done.err.startswith("plait: 1 hunk could not be accepted:")
    assert (repo / "a.txt").read_text() == mine


def test_merge_brings_the_work_into_the_branch_one_is_on(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, TWO)
    plait("reject", session, "--file", "b.txt", cwd=repo)
    assert "exclude each other" in plait("merge", session, "--squash", "--rebase", status=2).err
    write(repo, {"a.txt": "changed meanwhile\n"})
    refused = plait("merge", session, cwd=repo, status=1)
    assert "not committed: a.txt" in refused.err
    write(repo, {"a.txt": numbered(40)})
    answer = plait("merge", session, "--squash", "--json", cwd=repo).json
    assert (answer["into"], answer["how"]) == ("main", "squash")
    assert run_git(repo, "rev-parse", "main") == answer["commit"]
    assert run_git(repo, "status", "--porcelain") == ""
    assert "LINE 30" in (repo / "a.txt").read_text()
    assert not (repo / "b.txt").exists()
    assert plait.show(session)["state"] == "merged"
    assert plait("merge", session, cwd=repo, status=3).raw == b""


def test_merge_into_another_branch_leaves_the_checkout_alone(plait: Plait, repos: Repos) -> None:
    repo = repos()
    run_git(repo, "branch", "next")
    session = plait.run(repo, "echo more >> a.txt")
    assert plait("merge", session, "--into", "next", cwd=repo).out.startswith("Merged into next: ")
    assert (repo / "a.txt").read_text() == numbered(40)
    assert run_git(repo, "show", "next:a.txt").endswith("more")


def test_a_merge_that_conflicts_changes_nothing(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, "sed -i 's/^line 3$/LINE 3/' a.txt")
    write(repo, {"a.txt": numbered(40).replace("line 3\n", "mine\n")})
    mine = commit(repo)
    assert "a.txt" in plait("merge", session, cwd=repo, status=1).err
    assert run_git(repo, "rev-parse", "HEAD") == mine
    assert run_git(repo, "status", "--porcelain") == ""


def test_at_a_terminal_the_review_goes_from_hunk_to_hunk(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, TWO)
    with terminal(plait, "review", "--next", cwd=repo) as seen:
        assert "LINE 3" in seen.shows("[q]uit? ")
        seen.press("x")
        seen.press("a")
        assert "LINE 30" in seen.shows("[q]uit? ")
        seen.press("s")
        assert "b.txt" in seen.shows("[q]uit? ")
        seen.press("r")
        assert "1 accepted, 1 rejected, 1 skipped." in seen.ends(0)
    assert (repo / "a.txt").read_text() == numbered(40).replace("line 3\n", "LINE 3\n")
    assert [hunk["state"] for hunk in plait.show(session)["hunks"]] == ["applied", "pending", "rejected"]
    with terminal(plait, "review", "--next", cwd=repo) as seen:
        assert "LINE 30" in seen.shows("[q]uit? ")
        before = seen.settings()
        seen.press("q")
        assert "0 accepted" in seen.ends(0)
    assert before
    with terminal(plait, "review", "--next", cwd=repo) as seen:
        seen.shows("[q]uit? ")
        seen.press("\x03")
        seen.ends(130)


def test_a_hunk_on_a_terminal_cannot_control_it(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, r"printf 'evil\033]0;pwned\007\033[2J\n' >> a.txt")
    with terminal(plait, "review", "--next", cwd=repo) as seen:
        shown = seen.shows("[q]uit? ")
        seen.press("q")
        seen.ends(0)
    with terminal(plait, "diff", session, cwd=repo) as seen:
        shown += seen.ends(0)
    assert shown.count("evil␛]0;pwned␇␛[2J") == 2
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert "\x1b[32m" in shown, "what is added is green"


def test_the_trash_keeps_everything_until_it_is_emptied(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, "echo x >> a.txt; echo untracked > b.txt")
    worktree = Path(plait.show(session)["worktree"])
    plait("trash", session)
    assert not worktree.exists()
    assert plait("list", "--json", cwd=repo).json["sessions"] == []
    assert plait("list", "--all", "--json", cwd=repo).json["sessions"][0]["state"] == "trashed"
    assert "in the trash already" in plait("trash", session, status=3).err
    assert plait("restore", session).out.split()[1] == "ready"
    assert (worktree / "b.txt").read_text() == "untracked\n"
    assert "not in the trash" in plait("restore", session, status=3).err


def test_clean_takes_only_what_is_finished_and_asks_before_it_deletes(plait: Plait, repos: Repos) -> None:
    repo = repos()
    done, open_ = plait.run(repo, "echo x >> a.txt"), plait.run(repo, "echo y > c.txt")
    assert "nothing to clean up" in plait("clean", cwd=repo, status=3).err
    plait("accept", done, cwd=repo)
    planned = plait("clean", "--dry-run", "--json", cwd=repo).json
    assert [one["session"] for one in planned["trashed"]] == [done]
    assert [one["session"] for one in planned["kept"]] == [open_]
    assert plait.show(done)["state"] == "applied"
    refused = plait("clean", "--empty-trash", cwd=repo, status=2)
    assert "there is no terminal to ask at" in refused.err
    assert plait.show(done)["state"] == "applied"
    with terminal(plait, "clean", "--empty-trash", cwd=repo) as asked:
        asked.shows("Delete 1 worktree")
        asked.shows("[y/N]")
        asked.press("\n")
        assert "Nothing was deleted." in asked.ends(3)
    assert done in plait("clean", cwd=repo).out
    place = Path(plait.show(done)["trash"])
    assert place.exists()
    plait("clean", "--empty-trash", "--yes", cwd=repo)
    assert not place.exists()
    assert "gone for good" in plait("restore", done, status=2).err
    assert plait.show(open_)["state"] == "ready"
