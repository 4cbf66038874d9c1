from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.cli import Plait, Repos
from tests.support.processes import eventually
from tests.support.repo import run_git

pytestmark = pytest.mark.slow


def test_list_shows_this_repository_or_all_of_them(plait: Plait, repos: Repos, tmp_path: Path) -> None:
    here, there = repos(), repos()
    mine, other = plait.run(here, "echo x >> a.txt"), plait.run(there, "echo x >> a.txt")
    answer = plait("list", "--json", cwd=here).json
    assert [one["id"] for one in answer["sessions"]] == [mine]
    keys = {"id", "task", "title", "agent", "state", "reason", "branch", "worktree", "base", "created"}
    assert keys | {"files", "added", "removed", "risk", "check", "usage"} <= answer["sessions"][0].keys()
    for where, words in ((here, ["--everywhere"]), (tmp_path, [])):
        assert {mine, other} <= {one["id"] for one in plait("list", "--json", *words, cwd=where).json["sessions"]}
    (here / "deep").mkdir()
    header, row = plait("list", cwd=here / "deep").out.splitlines()
    assert header.split() == ["id", "state", "title", "agent", "files", "age"]
    assert row.split()[:2] == [answer["sessions"][0]["short"], "ready"]


def test_an_empty_list_is_an_empty_answer(plait: Plait, repos: Repos) -> None:
    done = plait("list", cwd=repos())
    assert done.raw == b""
    assert "There are no sessions here yet" in done.err


def test_show_tells_all_and_takes_a_shortened_id(plait: Plait, repos: Repos) -> None:
    session = plait.run(repos(), "echo x >> a.txt; echo new > b.txt")
    view = plait.show(session[-6:])
    assert view["id"] == session
    assert [hunk["path"] for hunk in view["hunks"]] == ["a.txt", "b.txt"]
    assert view["runs"][-1]["outcome"]["ok"] is True
    assert view["resources"] is None
    shown = plait("show", session).out
    for expected in (view["branch"], view["worktree"], "2 +2 -0", "b.txt (create)", "accept, reject, merge"):
        assert expected in shown


def test_an_id_that_names_nothing_is_a_usage_error(plait: Plait) -> None:
    for command in ("show", "log", "diff", "accept", "reject", "revert", "stop", "resume", "retry", "merge", "trash"):
        done = plait(command, "no-such-id", status=2)
        assert done.err.startswith("plait: No id begins or ends with 'no-such-id'.")
        assert done.raw == b""


def test_log_gives_lines_or_the_exact_bytes(plait: Plait, repos: Repos) -> None:
    script = (
        r"printf 'caf\303\251\n\377\376\000\033[31mred\033[0m\rover\n\033]0;title\007bell\n'; echo oops >&2; printf end"
    )
    session = plait.run(repos(), script)
    raw = b"caf\xc3\xa9\n\xff\xfe\x00\x1b[31mred\x1b[0m\rover\n\x1b]0;title\x07bell\noops\nend"
    assert plait("log", session, "--raw").raw == raw
    assert plait("log", session, "--raw", "--follow").raw == raw
    assert plait("log", session).out.splitlines() == ["café", "over", "bell", "oops", "end"]


def test_log_follows_an_agent_to_its_end_over_a_restart_of_the_daemon(plait: Plait, repos: Repos) -> None:
    gate = plait.root / "log-gate"
    script = f"echo first; until [ -e {gate} ]; do sleep 0.05; done; echo last"
    answer = plait("run", "Talk", "--json", "--", "sh", "-c", script, cwd=repos()).json
    following = plait.popen("log", answer["sessions"][0]["id"], "--follow")
    assert following.stdout is not None
    assert following.stdout.readline() == b"first\n"
    plait("daemon", "restart")
    gate.touch()
    out, err = following.communicate(timeout=30)
    assert (out, following.returncode) == (b"last\n", 0), err


def test_diff_is_exact_so_that_git_apply_takes_it(plait: Plait, repos: Repos) -> None:
    repo = repos({"a.txt": b"one\r\ntwo\r\n", "b.bin": bytes(range(256)), "sub/c.txt": "c\n"})
    session = plait.run(repo, "printf 'one\\r\\nTWO\\r\\n\\377' > a.txt; printf x >> b.bin; echo d >> sub/c.txt")
    patch = plait("diff", session, cwd=repo).raw
    run_git(repo, "apply", stdin=patch)
    worktree = Path(plait.show(session)["worktree"])
    for name in ("a.txt", "b.bin", "sub/c.txt"):
        assert (repo / name).read_bytes() == (worktree / name).read_bytes()
    assert plait("diff", session, "--json").json["diff"].startswith("diff --git")


def test_diff_takes_paths_as_seen_from_where_one_is(plait: Plait, repos: Repos, tmp_path: Path) -> None:
    repo = repos({"a.txt": "a\n", "sub/c.txt": "c\n"})
    session = plait.run(repo, "echo x >> a.txt; echo x >> sub/c.txt")
    worktree = Path(plait.show(session)["worktree"])
    for where, path in (
        (repo / "sub", "c.txt"),
        (worktree / "sub", "c.txt"),
        (tmp_path, "sub"),
        (repo, str(repo / "sub")),
    ):
        lines = plait("diff", session, path, "--stat", cwd=where).out.splitlines()
        assert [line.split()[0] for line in lines] == ["file", "sub/c.txt", "1"]
    assert "The session changes nothing there." in plait("diff", session, "no.txt", cwd=repo, status=3).err


def test_names_of_files_have_no_power_over_the_terminal(plait: Plait, repos: Repos) -> None:
    session = plait.run(repos(), "printf x > \"$(printf 'evil\\033[2J')\"")
    for words in (["show", session], ["diff", session, "--stat"], ["review", "--everywhere"]):
        assert "\x1b" not in plait(*words).out


def test_stop_resume_say_and_retry(plait: Plait, repos: Repos) -> None:
    repo = repos()
    agent = ["sh", "-c", 'echo "$PLAIT_PROMPT" >> a.txt; [ "$PLAIT_PROMPT" != Long ] || sleep 600']
    answer = plait("run", "Long", "--json", "--", *agent, cwd=repo).json
    session = answer["sessions"][0]["id"]
    eventually(lambda: plait.show(session)["state"] == "working", 20)
    assert plait("resume", session, status=1).err.startswith("plait: The session is working.")
    plait("stop", session)
    eventually(lambda: plait.show(session)["state"] == "stopped", 20)
    assert "is not running" in plait("stop", session, status=3).err
    assert "empty" in plait("say", session, " ", status=2).err
    assert plait("say", session, "More", "--wait", "--json").json["state"] == "ready"
    assert plait("resume", session, "--message", "Again", "--wait").status == 0
    assert (Path(plait.show(session)["worktree"]) / "a.txt").read_text().endswith("Long\nMore\nAgain\n")
    again = plait("retry", session, "--json").json
    assert again["id"] != session
    assert again["task"] == answer["task"]
    plait("stop", again["id"])


def test_open_starts_the_editor_on_the_worktree_and_says_if_there_is_none(plait: Plait, repos: Repos) -> None:
    session = plait.run(repos(), "echo x >> a.txt")
    worktree = plait.show(session)["worktree"]
    programs = plait.root / "bin"
    programs.mkdir()
    opened = plait.root / "opened"
    (programs / "zed").write_text(f'#!/bin/sh\necho "$1" > {opened}.new; mv {opened}.new {opened}\n')
    (programs / "code").write_text("#!/bin/sh\nexit 5\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    path = f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin"
    plait("open", session, PATH=path, VISUAL="zed --wait")
    eventually(opened.exists)
    assert opened.read_text() == f"{worktree}\n"
    assert "code ended at once with status 5" in plait("open", session, "--in", "code", status=1, PATH=path).err
    assert "cursor is not installed" in plait("open", session, "--in", "cursor", status=1, PATH=path).err
    assert "no way to open a worktree in 'vim'" in plait("open", session, "--in", "vim", status=2).err
