"""Whole stories over the protocol, with real processes, worktrees and repositories."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plait.errors import BusyError, ConflictError, GitError, NeedsApproval, NothingToDo, UsageError
from plait.rpc import Caller
from tests.support.plait import CONFIG, Plait, installed, script
from tests.support.processes import eventually
from tests.support.repo import commit, make_repo, manifest, refs, run_git, write

LINES = "".join(f"line {number}\n" for number in range(40))

AGENTS = {
    "sh": ["sh", "-c", "{prompt}"],
    "echo": script("import os, sys; print(sys.argv[1], os.environ['PLAIT_TITLE'], os.environ['PLAIT_SESSION'])"),
}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": LINES, "src/b.py": "b = 1\n", ".gitignore": "*.log\n.env\n"})


@pytest.fixture
def plait(tmp_path: Path) -> Iterator[Plait]:
    with installed(tmp_path / "plait", AGENTS) as made:
        yield made


@pytest.fixture
def caller(plait: Plait) -> Caller:
    return plait.connect()


def done(plait: Plait, caller: Caller, top: Path, command: str, **params: Any) -> dict[str, Any]:
    """A session that has come to rest after a shell command was its agent."""
    (session,) = plait.run(caller, top, command, **{"agents": [{"name": "sh"}], **params})
    plait.rested(caller, [session])
    detail: dict[str, Any] = caller.request("plait/session", {"session": session})
    return detail


def hunk_of(detail: dict[str, Any], path: str, number: int = 0) -> str:
    hunks = [hunk["id"] for hunk in detail["hunks"] if hunk["path"] == path]
    found: str = hunks[number]
    return found


def output_of(caller: Caller, session: str) -> str:
    return base64.b64decode(caller.request("plait/output", {"session": session})["data"]).decode()


def test_hunks_are_accepted_rejected_and_merged_one_by_one(plait: Plait, caller: Caller, top: Path) -> None:
    before = manifest(top)
    detail = done(plait, caller, top, "sed -i 's/line 3$/LINE 3/; s/line 30/LINE 30/' a.txt; echo new > new.txt")
    assert (detail["state"], detail["files"], detail["added"], detail["removed"]) == ("ready", 2, 3, 2)
    assert [(hunk["path"], hunk["kind"], hunk["state"]) for hunk in detail["hunks"]] == [
        ("a.txt", "replace", "pending"),
        ("a.txt", "replace", "pending"),
        ("new.txt", "create", "pending"),
    ]
    assert [event["type"] for event in detail["events"]] == [
        "created",
        "admitted",
        "prepared",
        "run_started",
        "run_ended",
        "snapshotted",
    ]
    assert manifest(top) == before

    accepted = caller.request("plait/accept", {"session": detail["id"], "hunks": [hunk_of(detail, "a.txt")]})
    assert accepted["done"] == [hunk_of(detail, "a.txt")]
    assert (top / "a.txt").read_text() == LINES.replace("line 3\n", "LINE 3\n")
    assert set(manifest(top)) == set(before)

    caller.request("plait/reject", {"session": detail["id"], "hunks": [hunk_of(detail, "a.txt", 1)], "why": "no"})
    states = {hunk["id"]: hunk["state"] for hunk in caller.request("plait/session", {"session": detail["id"]})["hunks"]}
    assert list(states.values()) == ["applied", "rejected", "pending"]

    with pytest.raises(ConflictError, match=r"a\.txt"):
        caller.request("plait/merge", {"session": detail["id"]})
    commit(top, "Mine")
    merged = caller.request("plait/merge", {"session": detail["id"]})
    assert merged["into"] == "main"
    assert run_git(top, "rev-parse", "HEAD") == merged["commit"]
    assert (top / "a.txt").read_text() == LINES.replace("line 3\n", "LINE 3\n")
    assert (top / "new.txt").read_text() == "new\n"
    assert run_git(top, "status", "--porcelain") == ""
    assert caller.request("plait/session", {"session": detail["id"]})["state"] == "merged"


def test_accepting_all_of_a_session_gives_what_git_gives(plait: Plait, caller: Caller, top: Path) -> None:
    detail = done(plait, caller, top, "mv src/b.py src/c.py; echo 'c = 2' >> src/c.py; chmod +x a.txt; rm .gitignore")
    caller.request("plait/accept", {"session": detail["id"]})
    run_git(top, "add", "--all")
    assert run_git(top, "write-tree") == run_git(top, "rev-parse", f"{detail['snapshot']}^{{tree}}")
    assert caller.request("plait/session", {"session": detail["id"]})["state"] == "applied"
    with pytest.raises(NothingToDo):
        caller.request("plait/accept", {"session": detail["id"]})


def test_an_accepted_hunk_can_be_taken_back(plait: Plait, caller: Caller, top: Path) -> None:
    before = manifest(top, times=False)
    detail = done(plait, caller, top, "sed -i 's/line 3$/LINE 3/' a.txt; echo new > new.txt")
    caller.request("plait/accept", {"session": detail["id"]})
    assert manifest(top, times=False) != before
    caller.request("plait/revert", {"session": detail["id"]})
    assert manifest(top, times=False) == before
    again = caller.request("plait/session", {"session": detail["id"]})
    assert (again["state"], again["accepted"]) == ("ready", 0)


def test_a_hunk_over_the_users_own_edit_is_refused_and_the_edit_stays(plait: Plait, caller: Caller, top: Path) -> None:
    detail = done(plait, caller, top, "sed -i 's/line 3$/LINE 3/; s/line 30/LINE 30/' a.txt")
    mine = LINES.replace("line 3\n", "my line 3\n")
    (top / "a.txt").write_text(mine)
    with pytest.raises(ConflictError, match="You changed the lines"):
        caller.request("plait/accept", {"session": detail["id"], "hunks": [hunk_of(detail, "a.txt")]})
    assert (top / "a.txt").read_text() == mine
    result = caller.request("plait/accept", {"session": detail["id"]})
    assert len(result["done"]) == len(result["refused"]) == 1
    assert (top / "a.txt").read_text() == mine.replace("line 30\n", "LINE 30\n")


def test_alternatives_work_side_by_side_in_worktrees_of_their_own(plait: Plait, caller: Caller, top: Path) -> None:
    params = {"agents": [{"name": "sh", "count": 3}]}
    sessions = plait.run(caller, top, 'echo "$PLAIT_PORT $PWD" > where.txt', **params)
    rested = plait.rested(caller, sessions)
    assert [entry["state"] for entry in rested.values()] == ["ready"] * 3
    assert len({entry["task"] for entry in rested.values()}) == 1
    assert len({entry["branch"] for entry in rested.values()}) == 3
    texts = {Path(entry["worktree"], "where.txt").read_text() for entry in rested.values()}
    assert len({text.split()[0] for text in texts}) == 3
    assert {text.split()[1] for text in texts} == {entry["worktree"] for entry in rested.values()}
    assert run_git(top, "status", "--porcelain") == ""


def test_an_agent_finds_its_task_and_nothing_of_git_in_its_environment(plait: Plait, caller: Caller, top: Path) -> None:
    plait.env["GIT_DIR"] = "/elsewhere"
    (session,) = plait.run(caller, top, "Say hello", agents=[{"name": "echo"}])
    plait.rested(caller, [session])
    assert output_of(caller, session) == f"Say hello Say hello {session}\n"


def test_sessions_beyond_the_limit_wait_and_say_so(tmp_path: Path, top: Path) -> None:
    with installed(tmp_path / "plait", AGENTS, CONFIG.replace("max_running = 20", "max_running = 1")) as plait:
        caller = plait.connect()
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        sessions = [
            plait.run(caller, top, f"cat {gate}; echo {name} > {name}", agents=[{"name": "sh"}])[0] for name in "ab"
        ]

        def states() -> list[str]:
            return [caller.request("plait/session", {"session": session})["state"] for session in sessions]

        eventually(lambda: states() == ["working", "queued"])
        reason = caller.request("plait/session", {"session": sessions[1]})["reason"]
        assert reason == "1 sessions run, as many as max_running allows."
        gate.write_text("go")
        eventually(lambda: states() == ["ready", "working"])
        gate.write_text("go")
        plait.rested(caller, sessions)


def test_a_dependent_task_starts_after_the_other(plait: Plait, caller: Caller, top: Path, tmp_path: Path) -> None:
    log = tmp_path / "order"
    (first,) = plait.run(caller, top, f"sleep 0.3; echo first >> {log}; touch x", agents=[{"name": "sh"}])
    (second,) = plait.run(caller, top, f"echo second >> {log}; touch y", agents=[{"name": "sh"}], after=[first])
    assert "Waits for" in plait_reason(caller, second)
    plait.rested(caller, [first, second])
    assert log.read_text() == "first\nsecond\n"


def plait_reason(caller: Caller, session: str) -> str:
    found: list[str] = []

    def told() -> bool:
        found[:] = [caller.request("plait/session", {"session": session})["reason"]]
        return found[0] != "Waits to be admitted."

    eventually(told)
    return found[0]


def test_a_stopped_session_keeps_its_work_and_can_go_on(plait: Plait, caller: Caller, top: Path) -> None:
    command = 'if [ -e half ]; then echo "$PLAIT_PROMPT" > rest; else touch half; sleep 600 & wait; fi'
    agent = {"command": ["sh", "-c", command]}
    (session,) = plait.run(caller, top, "Do it", **agent)
    eventually(
        lambda: Path(caller.request("plait/session", {"session": session})["worktree"] or "/none", "half").exists()
    )
    with pytest.raises(BusyError):
        caller.request("plait/trash", {"session": session})
    caller.request("plait/stop", {"session": session})
    entry = plait.rested(caller, [session])[session]
    assert (entry["state"], entry["reason"], entry["files"]) == ("stopped", "Stopped.", 1)
    plait.none_left()
    caller.request("plait/resume", {"session": session, "message": "and the rest", "env": plait.env})
    entry = plait.rested(caller, [session])[session]
    assert (entry["state"], entry["files"]) == ("ready", 2)
    assert Path(entry["worktree"], "rest").read_text() == "and the rest\n"


def test_a_retry_starts_over_and_leaves_the_first_attempt_alone(plait: Plait, caller: Caller, top: Path) -> None:
    detail = done(plait, caller, top, "echo x >> log.txt; exit 7")
    assert (detail["state"], detail["reason"], detail["files"]) == ("failed", "It exited with status 7.", 1)
    new = caller.request("plait/retry", {"session": detail["id"], "env": plait.env})
    plait.rested(caller, [new["id"]])
    again = caller.request("plait/session", {"session": new["id"]})
    assert (again["state"], again["task"], again["base"]) == ("failed", detail["task"], detail["base"])
    old = caller.request("plait/session", {"session": detail["id"]})
    assert old["notes"][-1] == f"Retried as {new['id']}."
    assert Path(old["worktree"], "log.txt").read_text() == "x\n"


@pytest.mark.parametrize("command", ["exit 0", "exit 3", "kill -9 $$"])
def test_an_agent_that_leaves_nothing_leaves_no_worktree_and_no_branch(
    plait: Plait, caller: Caller, top: Path, command: str
) -> None:
    before = refs(top)
    detail = done(plait, caller, top, command)
    eventually(lambda: caller.request("plait/session", {"session": detail["id"]})["worktree"] is None)
    assert refs(top) == before
    assert len(run_git(top, "worktree", "list").splitlines()) == 1
    assert not any((plait.places.data / "worktrees").glob("*/*"))
    plait.none_left()


def test_trash_and_restore_give_back_every_byte_and_purge_takes_all(plait: Plait, caller: Caller, top: Path) -> None:
    command = "echo s > staged; git add staged; echo i > ignored.log; git init -q nested; echo n > nested/n; rm a.txt"
    detail = done(plait, caller, top, command)
    worktree = Path(detail["worktree"])
    before = manifest(worktree)
    trashed = caller.request("plait/trash", {"session": detail["id"]})
    assert not worktree.exists()
    assert manifest(Path(trashed["trash"])) == before
    run_git(top, "worktree", "prune")
    run_git(top, "gc", "--quiet", "--prune=now")
    caller.request("plait/restore", {"session": detail["id"]})
    assert manifest(worktree) == before
    assert "A  staged" in run_git(worktree, "status", "--porcelain")
    caller.request("plait/trash", {"session": detail["id"]})
    cleaned = caller.request("plait/clean", {"emptyTrash": True})
    assert [entry["session"] for entry in cleaned["purged"]] == [detail["id"]]
    assert cleaned["purged"][0]["bytes"] > 0
    assert [ref for ref in refs(top) if "plait" in ref] == []
    with pytest.raises(UsageError, match="for good"):
        caller.request("plait/restore", {"session": detail["id"]})


def test_clean_takes_only_what_is_finished(plait: Plait, caller: Caller, top: Path) -> None:
    ready = done(plait, caller, top, "echo 1 > one")
    merged = done(plait, caller, top, "echo 2 > two")
    caller.request("plait/merge", {"session": merged["id"], "how": "squash"})
    planned = caller.request("plait/clean", {"dryRun": True})
    assert [entry["session"] for entry in planned["trashed"]] == [merged["id"]]
    assert [entry["session"] for entry in planned["kept"]] == [ready["id"]]
    assert caller.request("plait/session", {"session": merged["id"]})["state"] == "merged"
    caller.request("plait/clean", {})
    assert caller.request("plait/session", {"session": merged["id"]})["state"] == "trashed"
    assert Path(ready["worktree"]).exists()


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_a_branch_takes_the_work_without_the_users_checkout_noticing(
    plait: Plait, caller: Caller, top: Path, how: str
) -> None:
    run_git(top, "branch", "release")
    command = "echo 1 > one; git add .; git -c user.name=A -c user.email=a@b commit -qm 'By the agent'; echo 2 > two"
    detail = done(plait, caller, top, command)
    assert detail["commits"] == 1
    before = manifest(top)
    merged = caller.request("plait/merge", {"session": detail["id"], "how": how, "into": "release"})
    assert run_git(top, "rev-parse", "release") == merged["commit"]
    assert run_git(top, "show", "release:one") == "1"
    assert run_git(top, "show", "release:two") == "2"
    assert manifest(top) == before
    subjects = run_git(top, "log", "--format=%s", "main..release").splitlines()
    assert len(subjects) == (1 if how == "squash" else 2)


def test_set_up_runs_only_as_it_was_approved(plait: Plait, caller: Caller, top: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    toml = (
        f'[worktree]\nsetup = ["echo $PLAIT_WORKSPACE_NAME >> {marker}", "cp .env used-env.log"]\ninclude = [".env"]\n'
    )
    write(top, {"plait.toml": toml, ".env": "TOKEN=1\n"})
    commit(top, "Set up")
    with pytest.raises(NeedsApproval) as refused:
        done(plait, caller, top, "touch x")
    assert refused.value.data["commands"] == [f"echo $PLAIT_WORKSPACE_NAME >> {marker}", "cp .env used-env.log"]
    assert caller.request("plait/sessions", {"all": True})["sessions"] == []
    assert [ref for ref in refs(top) if "plait" in ref] == []

    proposed = caller.request("plait/setup", {"path": str(top)})
    with pytest.raises(UsageError):
        caller.request("plait/approve", {"path": str(top), "key": "0" * 64})
    caller.request("plait/approve", {"path": str(top), "key": proposed["key"]})
    detail = done(plait, caller, top, "touch x")
    assert detail["state"] == "ready", detail["reason"]
    assert marker.read_text().strip() == Path(detail["worktree"]).name
    assert Path(detail["worktree"], "used-env.log").read_text() == "TOKEN=1\n"
    assert [run["kind"] for run in detail["runs"]] == ["setup", "agent"]

    write(top, {"plait.toml": toml.replace("cp .env", "cp  .env")})
    commit(top, "Another byte")
    with pytest.raises(NeedsApproval):
        done(plait, caller, top, "touch x")
    assert done(plait, caller, top, "touch x", setup=False)["state"] == "ready"


def test_a_set_up_that_fails_is_told_and_its_output_kept(plait: Plait, caller: Caller, top: Path) -> None:
    write(top, {"plait.toml": '[worktree]\nsetup = ["echo about to fail; exit 9"]\n'})
    commit(top, "Set up")
    key = caller.request("plait/setup", {"path": str(top)})["key"]
    caller.request("plait/approve", {"path": str(top), "key": key})
    detail = done(plait, caller, top, "touch x")
    assert detail["state"] == "failed"
    assert "status 9" in detail["reason"]
    text = base64.b64decode(caller.request("plait/output", {"session": detail["id"], "run": 1})["data"]).decode()
    assert "about to fail" in text


def test_a_lost_index_and_a_new_daemon_change_nothing(plait: Plait, caller: Caller, top: Path) -> None:
    detail = done(plait, caller, top, "echo 1 > one; echo out")
    caller.request("plait/accept", {"session": detail["id"]})
    before = caller.request("plait/session", {"session": detail["id"]})
    plait.kill_daemon()
    for path in plait.places.state.glob("index.sqlite*"):
        path.unlink()
    after = plait.connect().request("plait/session", {"session": detail["id"]})
    assert after == before


def test_bad_requests_are_answered_with_one_sentence_and_leave_nothing(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    nothing_committed = make_repo(tmp_path / "fresh")
    for params, words in (
        ({"path": str(empty), "text": "x"}, "repository"),
        ({"path": str(nothing_committed), "text": "x"}, "commit"),
        ({"path": str(top), "text": " \n"}, "empty"),
        ({"path": str(top), "text": "x", "base": "no-such"}, "no-such"),
        ({"path": str(top), "text": "x", "agents": [{"name": "nobody"}]}, "nobody"),
        ({"path": str(top), "text": "x", "agents": []}, "Which agent"),
        ({"path": str(top), "text": "x", "command": ["no-such-program-at-all"]}, "cannot be executed"),
        ({"path": str(top), "text": "x", "command": ["./missing.sh"]}, "does not exist"),
        ({"path": str(top), "text": "x", "command": ["./a.txt"]}, "not executable"),
        ({"path": str(top), "text": "x", "agents": [{"name": "sh"}], "after": ["zzzz"]}, "zzzz"),
        ({"path": str(top), "text": "x", "agents": [{"name": "sh", "count": 51}]}, "50"),
    ):
        with pytest.raises((UsageError, GitError), match=words):
            caller.request("plait/run", {"env": plait.env, **params})
    assert caller.request("plait/sessions", {"all": True})["sessions"] == []
    assert list(plait.places.sessions.glob("*")) == []
    assert len(run_git(top, "branch", "--list").splitlines()) == 1
    assert not (plait.places.data / "worktrees").exists()


@pytest.mark.parametrize(
    "title", ["x" * 300, "🎉🎊", "../../x", "--output=x", "a;b $(c) `d`", "\u202eevil\x1b[31m", "é ü 日本"]
)
def test_any_title_makes_a_session(plait: Plait, caller: Caller, top: Path, title: str) -> None:
    sessions = plait.run(caller, top, title, command=["sh", "-c", 'printf %s "$PLAIT_PROMPT" > said', "sh"])
    sessions += plait.run(caller, top, title, command=["sh", "-c", 'printf %s "$PLAIT_PROMPT" > said', "sh"])
    rested = plait.rested(caller, sessions)
    assert [entry["state"] for entry in rested.values()] == ["ready", "ready"]
    for entry in rested.values():
        assert Path(entry["worktree"], "said").read_text() == title
        assert Path(entry["worktree"]).is_relative_to(plait.places.data)
        run_git(top, "check-ref-format", "--branch", entry["branch"])


def test_a_bare_repository_can_be_worked_on_and_merged_into(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.git"
    run_git(top, "clone", "--quiet", "--bare", str(top), str(bare))
    run_git(bare, "config", "user.name", "Ada")
    detail = done(plait, caller, bare, "echo 1 > one")
    assert detail["state"] == "ready"
    with pytest.raises(UsageError, match="no checkout"):
        caller.request("plait/accept", {"session": detail["id"]})
    caller.request("plait/merge", {"session": detail["id"], "into": "main"})
    assert run_git(bare, "show", "main:one") == "1"


def test_a_detached_head_is_a_base_like_any_other(plait: Plait, caller: Caller, top: Path) -> None:
    first = run_git(top, "rev-parse", "HEAD")
    write(top, {"a.txt": "changed\n"})
    commit(top, "Second")
    run_git(top, "switch", "--quiet", "--detach", first)
    detail = done(plait, caller, top, "echo 1 > one")
    assert detail["base"] == first
    caller.request("plait/accept", {"session": detail["id"]})
    assert (top / "one").exists()
    merged = caller.request("plait/merge", {"session": detail["id"], "into": "main"})
    assert run_git(top, "rev-parse", "main") == merged["commit"]


def test_what_an_agent_plants_in_the_repository_runs_nowhere(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    plant = (
        f"git config core.fsmonitor 'touch {ran}'; git config filter.x.clean 'touch {ran}; cat'; "
        f"git config filter.x.smudge 'touch {ran}; cat'; git config diff.x.textconv 'touch {ran}; cat'; "
        f"git config core.hooksPath {tmp_path}/hooks; git config merge.x.driver 'touch {ran}'; "
        f"mkdir -p {tmp_path}/hooks; for h in post-checkout reference-transaction pre-commit post-merge; do "
        f"printf '#!/bin/sh\\ntouch {ran}\\n' > {tmp_path}/hooks/$h; chmod +x {tmp_path}/hooks/$h; done; "
        "echo '* filter=x diff=x merge=x' > .gitattributes; sed -i 's/line 3$/LINE 3/' a.txt"
    )
    detail = done(plait, caller, top, plant)
    assert detail["state"] == "ready"
    caller.request("plait/diff", {"session": detail["id"]})
    caller.request("plait/accept", {"session": detail["id"], "paths": ["a.txt"]})
    other = done(plait, caller, top, "echo 1 > one")
    caller.request("plait/trash", {"session": other["id"]})
    caller.request("plait/restore", {"session": other["id"]})
    run_git(top, "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "branch", "side")
    caller.request("plait/merge", {"session": other["id"], "into": "side"})
    assert not ran.exists()


def test_a_link_out_of_the_repository_is_named_before_it_is_taken(plait: Plait, caller: Caller, top: Path) -> None:
    detail = done(plait, caller, top, "ln -s /etc/passwd leak; echo 1 > one")
    (link,) = [hunk for hunk in detail["hunks"] if hunk["path"] == "leak"]
    assert (link["kind"], link["escapes"], link["target"]) == ("symlink", True, "/etc/passwd")
    caller.request("plait/accept", {"session": detail["id"]})
    assert (top / "one").exists()
    assert not (top / "leak").is_symlink()
    caller.request("plait/accept", {"session": detail["id"], "hunks": [link["id"]]})
    assert (top / "leak").is_symlink()
    assert (top / "leak").readlink() == Path("/etc/passwd")


def test_a_worktree_that_vanishes_is_told_and_never_replaced_by_another_place(
    plait: Plait, caller: Caller, top: Path
) -> None:
    detail = done(plait, caller, top, "echo 1 > one")
    shutil.rmtree(detail["worktree"])
    caller.request("plait/resume", {"session": detail["id"], "env": plait.env})
    entry = plait.rested(caller, [detail["id"]])[detail["id"]]
    assert entry["state"] == "failed"
    assert "is gone" in entry["reason"]
    caller.request("plait/accept", {"session": detail["id"]})
    assert (top / "one").read_text() == "1\n"
    assert caller.request("plait/trash", {"session": detail["id"]})["state"] == "trashed"


def test_secrets_of_the_environment_reach_neither_disk_nor_an_agent_unasked(
    tmp_path: Path, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "canary-5c3b")
    config = (
        CONFIG + f'\n[agents.named]\nkind = "command"\nenv = ["MY_API_KEY"]\ncommand = {json.dumps(AGENTS["sh"])}\n'
    )
    with installed(tmp_path / "plait", {"sh": AGENTS["sh"]}, config) as plait:
        plait.env["MY_API_KEY"] = "canary-5c3b"
        caller = plait.connect()
        (session,) = plait.run(caller, top, 'test -z "$MY_API_KEY" && touch unseen', agents=[{"name": "sh"}])
        (named,) = plait.run(caller, top, 'test -n "$MY_API_KEY" && touch seen', agents=[{"name": "named"}])
        rested = plait.rested(caller, [session, named])
        assert [entry["state"] for entry in rested.values()] == ["ready", "ready"]
        for path in plait.home.rglob("*"):
            if path.is_file():
                assert b"canary-5c3b" not in path.read_bytes(), path


@pytest.mark.slow
def test_ten_sessions_at_once_on_one_repository(plait: Plait, caller: Caller, top: Path) -> None:
    before = manifest(top)
    sessions = [
        plait.run(caller, top, f"sed -i 's/line {number}$/LINE {number}/' a.txt", agents=[{"name": "sh"}])[0]
        for number in range(10)
    ]
    rested = plait.rested(caller, sessions)
    assert [entry["state"] for entry in rested.values()] == ["ready"] * 10
    assert manifest(top) == before
    expected = LINES
    for number in (2, 4, 6):
        caller.request("plait/accept", {"session": sessions[number]})
        expected = expected.replace(f"line {number}\n", f"LINE {number}\n")
    assert (top / "a.txt").read_text() == expected
