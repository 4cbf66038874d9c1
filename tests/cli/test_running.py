from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Plait, Repos, terminal
from tests.support.repo import commit, manifest, refs, run_git, write


def test_a_command_line_does_a_task_in_a_worktree_of_its_own(plait: Plait, repos: Repos) -> None:
    repo = repos()
    before = manifest(repo)
    answer = plait("run", "Shout", "--wait", "--json", "--", "sed", "-i", "s/line 3$/LINE 3/", "a.txt", cwd=repo).json
    (session,) = answer["sessions"]
    assert (session["state"], session["agent"], session["title"]) == ("ready", "sed", "Shout")
    assert (session["files"], session["added"], session["removed"]) == (1, 1, 1)
    assert "LINE 3\n" in (Path(session["worktree"]) / "a.txt").read_text()
    assert manifest(repo) == before


def test_several_agents_do_it_side_by_side(plait: Plait, repos: Repos) -> None:
    repo = repos()
    answer = plait("run", "echo x >> a.txt", "-a", "sh:2,noop", "-a", "sh", "--wait", "--json", cwd=repo).json
    assert sorted(one["agent"] for one in answer["sessions"]) == ["noop", "sh", "sh", "sh"]
    assert len({one["branch"] for one in answer["sessions"]}) == 4
    assert {one["task"] for one in answer["sessions"]} == {answer["task"]}


def test_waiting_tells_every_step_and_fails_with_a_failed_session(plait: Plait, repos: Repos) -> None:
    done = plait("run", "Break", "--wait", "--", "sh", "-c", "echo half > a.txt; exit 3", cwd=repos(), status=1)
    lines = done.out.splitlines()
    assert lines[0].endswith("Break  (sh)")
    assert [line.split()[1] for line in lines[1:]][-2:] == ["working", "failed"]
    assert lines[-1].endswith("It exited with status 3.")


def test_the_task_can_come_from_stdin_and_keeps_every_line(plait: Plait, repos: Repos) -> None:
    text = "First line\n\nSecond ünïcode\n"
    answer = plait("run", "-", "--json", "--", "true", cwd=repos(), stdin=text.encode()).json
    assert plait.show(answer["sessions"][0]["id"])["prompt"] == text


def test_a_session_waits_for_the_one_named_by_after(plait: Plait, repos: Repos) -> None:
    repo = repos()
    first = plait("run", "First", "--json", "--", "sh", "-c", "until [ -e go ]; do sleep 0.05; done", cwd=repo).json
    second = plait("run", "Second", "--after", first["sessions"][0]["short"], "--json", "--", "true", cwd=repo).json
    found = plait.show(second["sessions"][0]["id"])
    assert found["after"] == [first["sessions"][0]["id"]]
    assert found["state"] == "queued"
    assert found["reason"]
    plait("stop", second["sessions"][0]["id"])
    plait("stop", first["sessions"][0]["id"])


def test_it_starts_from_the_named_base_and_in_the_named_directory(plait: Plait, repos: Repos) -> None:
    repo = repos()
    first = run_git(repo, "rev-parse", "HEAD")
    write(repo, {"b.txt": "new\n"})
    commit(repo)
    answer = plait("-C", str(repo), "run", "Look", "--base", "HEAD~1", "--json", "--", "true").json
    assert answer["sessions"][0]["base"] == first
    answer = plait("run", "Look", "-C", str(repo), "--json", "--", "true").json
    assert answer["sessions"][0]["base"] != first


def test_the_agent_gets_the_users_path_but_not_the_users_secrets(plait: Plait, repos: Repos) -> None:
    plait.places.config_file.write_text(
        plait.places.config_file.read_text() + '\n[environment]\npass = ["WANTED_TOKEN"]\n'
    )
    done = plait("run", "Env", "--wait", "--json", "--", "env", cwd=repos(), WANTED_TOKEN="yes", API_KEY="hidden")
    log = plait("log", done.json["sessions"][0]["id"]).out.splitlines()
    assert f"PATH={plait.env['PATH']}" in log
    assert "WANTED_TOKEN=yes" in log
    assert not any("hidden" in line for line in log)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["x", "-a", "nobody"], "There is no agent 'nobody'."),
        (["x", "-a", "sh:many"], "'sh:many' is not an agent."),
        (["x", "-a", "sh:0"], "'sh:0' is not an agent."),
        (["x", "-a", "sh:999"], "999 sessions were asked for."),
        (["x", "-a", "missing"], "which cannot be executed"),
        (["x", "--", "/nonexistent/agent"], "which cannot be executed"),
        (["x", "--", "./no-such.sh"], "which does not exist in the base commit"),
        (["x", "--"], "After `--` comes the command line"),
        (["x", "-a", "sh", "--", "true"], "Who does it"),
        (["x"], "Which agent shall do it?"),
        ([" ", "--", "true"], "The task is empty."),
        (["x", "--base", "no-such", "--", "true"], "There is no branch, tag or commit 'no-such'"),
        (["x", "--base", "--output=x", "--", "true"], "There is no branch, tag or commit '--output=x'"),
        (["x", "--after", "zzzz", "--", "true"], "No id begins or ends with 'zzzz'."),
        (["--output=x", "--", "true"], "No such option"),
        ([], "Missing argument 'TEXT'"),
        (["two", "words", "--", "true"], "unexpected extra argument"),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence_and_leaves_nothing(
    plait: Plait, repos: Repos, words: list[str], sentence: str
) -> None:
    repo = repos()
    known, before, kept = refs(repo), plait.worktrees(), manifest(repo)
    done = plait("run", *words, cwd=repo, status=2)
    assert sentence in done.err
    assert done.err.startswith("plait: ")
    assert done.raw == b""
    assert (refs(repo), plait.worktrees(), manifest(repo)) == (known, before, kept)
    assert plait("list", "--all", "--json", cwd=repo).json["sessions"] == []


def test_outside_of_a_repository_it_says_so(plait: Plait, tmp_path: Path) -> None:
    done = plait("run", "x", "--json", "--", "true", cwd=tmp_path, status=2)
    assert f"{tmp_path} is not in a git repository." in done.err
    assert done.raw == b""
    assert "Could not go to" in plait("-C", str(tmp_path / "no"), "list", status=2).err


def test_a_repository_without_a_commit_is_refused(plait: Plait, tmp_path: Path) -> None:
    run_git(tmp_path, "init", "--quiet")
    assert "has no commit yet" in plait("run", "x", "--", "true", cwd=tmp_path, status=1).err


@pytest.mark.parametrize(
    "title",
    [
        "x" * 300,
        "🎉 Füge Emoji hinzu 👩‍💻",
        "../../x",
        " --output=x",
        "a\x1b]0;evil\x07b\x1b[2J",
        "\u202ereversed",
        "; rm -rf /",
    ],
)
def test_any_title_works_and_has_no_power_over_the_terminal(plait: Plait, repos: Repos, title: str) -> None:
    repo = repos()
    session = plait("run", title, "--wait", "--json", "--", "sh", "-c", "echo x >> a.txt", cwd=repo).json["sessions"][0]
    assert Path(session["worktree"]).is_relative_to(plait.places.data)
    assert session["branch"].startswith("plait/")
    for words in (["list"], ["show", session["id"]]):
        shown = plait(*words, cwd=repo).out
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert plait.show(session["id"])["prompt"] == title


def test_two_tasks_of_the_same_title_do_not_meet(plait: Plait, repos: Repos) -> None:
    repo = repos()
    first, second = (plait.run(repo, "echo x >> a.txt") for _ in range(2))
    views = [plait.show(one) for one in (first, second)]
    assert views[0]["title"] == views[1]["title"]
    assert len({view["branch"] for view in views}) == len({view["worktree"] for view in views}) == 2


def test_an_agent_that_ends_at_once_is_ready_or_failed_by_its_status(plait: Plait, repos: Repos) -> None:
    repo = repos()
    good, bad = (plait.show(plait.run(repo, f"exit {status}")) for status in (0, 9))
    assert (good["state"], good["reason"]) == ("ready", "The agent finished without changing anything.")
    assert (bad["state"], bad["reason"]) == ("failed", "It exited with status 9.")


def test_set_up_commands_need_approval_and_a_terminal_asks_for_it(plait: Plait, repos: Repos) -> None:
    repo = repos({"plait.toml": '[worktree]\nsetup = ["echo ready > prepared"]\n', "a.txt": "a\n"})
    refused = plait("run", "x", "--json", "--", "true", cwd=repo, status=4)
    assert "asks to run commands in every new worktree" in refused.err
    assert refused.raw == b""
    assert (
        plait("run", "x", "--no-setup", "--wait", "--json", "--", "true", cwd=repo).json["sessions"][0]["state"]
        == "ready"
    )
    with terminal(plait, "run", "x", "--wait", "--", "cat", "prepared", cwd=repo) as no:
        no.shows("1. echo ready > prepared")
        no.shows("[y/N]")
        no.press("n\n")
        assert "not approved" in no.ends(4)
    with terminal(plait, "run", "x", "--wait", "--", "cat", "prepared", cwd=repo) as yes:
        yes.shows("[y/N]")
        yes.press("y\n")
        assert "ready" in yes.ends(0)
    assert plait("approve", cwd=repo, status=3).err.startswith("plait: The commands of plait.toml are approved")


def test_waiting_goes_on_across_a_restart_of_the_daemon(plait: Plait, repos: Repos) -> None:
    repo = repos()
    gate = plait.root / "gate"
    waiting = plait.popen(
        "run",
        "Wait",
        "--wait",
        "--",
        "sh",
        "-c",
        f"until [ -e {gate} ]; do sleep 0.05; done; echo x >> a.txt",
        cwd=repo,
    )
    assert waiting.stdout is not None
    assert any(b"working" in line for line in iter(waiting.stdout.readline, b""))
    plait("daemon", "restart")
    gate.touch()
    out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, (out, err)
    assert out.splitlines()[-1].split()[1] == b"ready"
