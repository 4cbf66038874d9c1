from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait import __version__
from plait.cli.commands import COMMANDS
from plait.cli.setup import proposal
from plait.core.advice import STRENGTHS
from tests.support.cli import Plait, Repos, Terminal, installed
from tests.support.repo import commit, write


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Plait]:
    with installed(tmp_path / "fresh") as made:
        yield made


def test_the_version_and_the_help_start_no_daemon(fresh: Plait) -> None:
    assert fresh("--version").out == fresh("-V").out == f"plait {__version__}\n"
    shown = fresh("--help").out
    assert all(f" {entry.name} " in shown for entry in COMMANDS)
    assert "No such command 'frobnicate'" in fresh("frobnicate", status=2).err
    assert not fresh.places.runtime.exists()


def test_the_version_is_told_without_loading_the_command_line(plait: Plait) -> None:
    code = (
        "import sys, plait.__main__ as program; sys.argv[1:] = ['--version']\n"
        "try:\n    program.main()\nfinally:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=plait.env, capture_output=True, check=True, text=True)
    loaded = set(done.stdout.splitlines()[1].split())
    assert "plait.cli.app" in loaded
    assert not {"typer", "rich", "pydantic", "plait.cli.commands"} & loaded


def test_the_daemon_is_told_about_stopped_and_restarted(fresh: Plait) -> None:
    assert "No plait daemon is running." in fresh("daemon", "status", status=1).err
    assert "No plait daemon is running." in fresh("daemon", "stop", status=3).err
    fresh("daemon", "restart")
    first = fresh("daemon", "status", "--json").json
    assert {"pid", "version", "socket", "uptime_s", "sessions", "editors"} <= first.keys()
    assert (first["version"], first["sessions"], first["editors"]) == (__version__, 0, 0)
    fresh("daemon", "restart")
    second = fresh("daemon", "status", "--json").json
    assert second["pid"] != first["pid"]
    assert f"pid {second['pid']}" in fresh("daemon", "status").out
    assert str(second["pid"]) in fresh("daemon", "stop").out
    assert not fresh.places.socket.exists()


def test_agents_are_listed_with_what_starts_them(plait: Plait, tmp_path: Path) -> None:
    program = tmp_path / "gemini"
    program.write_text("#!/bin/sh\necho 7.8.9\n")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}/usr/bin:/bin"
    answer = {one["name"]: one for one in plait("agents", "--json", PATH=path, GEMINI_API_KEY="k").json["agents"]}
    assert list(answer) == [*STRENGTHS, "missing", "noop", "sh"]
    gemini = answer["gemini"]
    assert (gemini["path"], gemini["command"]) == (str(program), [str(program), "--acp"])
    assert (gemini["version"], gemini["login"], gemini["toldBy"]) == ("7.8.9", "yes", "GEMINI_API_KEY is set")
    assert answer["sh"]["supported"]
    assert "cannot be executed" in answer["missing"]["problem"]
    listed, _, missing = plait("agents", PATH=path, GEMINI_API_KEY="k").out.partition("\n\n")
    rows = {line.split()[0]: line for line in listed.splitlines()[1:]}
    assert "cannot be started" in rows["missing"]
    assert "{prompt}" in rows["sh"]
    assert "7.8.9" in rows["gemini"]
    for name, how in (line.split(maxsplit=1) for line in missing.splitlines()[1:]):
        assert how == answer[name]["install"]
        assert answer[name]["path"] is None


@pytest.mark.parametrize("columns", [80, 120])
def test_agents_fit_into_a_terminal(plait: Plait, tmp_path: Path, columns: int) -> None:
    shown = Terminal(plait, "agents", cwd=tmp_path, columns=columns).ends(0)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "").splitlines()
    assert lines[0].split() == ["agent", "version", "logged", "in", "can"] or lines[0].split() == ["agent", "can"]
    table = [line for line in lines if not line.startswith("  ")]
    assert max(map(len, table)) <= columns
    assert not [line for line in table if line.endswith("…")]
    assert [line for line in table if line.startswith("noop ")]


def test_a_configuration_that_cannot_be_read_is_reported_and_stops_nothing(fresh: Plait, repos: Repos) -> None:
    repo = repos()
    for broken in (b"[agents", b"\xff\xfe not utf-8", b"[limits]\nmax_runing = 3\n"):
        fresh.places.config_file.write_bytes(broken)
        done = fresh("run", "x", "--wait", "--json", "--", "true", cwd=repo)
        assert done.json["sessions"][0]["state"] == "ready"
        found = fresh("doctor", "--json").json["checks"]
        assert any(one["name"] == "config.toml" and one["state"] == "warn" for one in found)
    assert "Did you mean `max_running`" in fresh("doctor").out
    fresh.places.config_file.unlink()
    fresh.places.config_file.mkdir()
    assert "Which agent shall do it?" in fresh("run", "x", cwd=repo, status=2).err
    assert "could not be read" in fresh("doctor").out


def test_doctor_says_what_is_wrong_and_what_to_do(fresh: Plait) -> None:
    answer = fresh("doctor", "--json").json
    states = {one["name"]: one["state"] for one in answer["checks"]}
    assert answer["ok"] is True
    assert {"git", "state directory", "config.toml", "daemon", "disk", "memory", "open files"} <= states.keys()
    assert states["agent missing"] == "warn"
    assert not fresh.places.runtime.exists(), "looking changes nothing"
    programs = fresh.root / "bin"
    programs.mkdir()
    (programs / "git").write_text("#!/bin/sh\necho git version 2.30.1\n")
    (programs / "git").chmod(0o755)
    done = fresh("doctor", status=1, PATH=f"{programs}{os.pathsep}{fresh.env['PATH']}")
    assert "git 2.30.1 is too old." in done.out
    assert "Install git 2.38 or newer." in done.out
    bad = fresh("doctor", "--json", status=1, PATH="/nonexistent").json
    assert bad["ok"] is False


def test_a_place_that_cannot_be_used_is_a_sentence(fresh: Plait) -> None:
    blocked = fresh.root / "blocked"
    blocked.write_text("a file\n")
    for words in (["list"], ["daemon", "status"]):
        assert str(blocked) in fresh(*words, status=1, PLAIT_HOME=str(blocked)).err


def test_exactly_what_was_shown_is_approved_and_can_be_revoked(plait: Plait, repos: Repos) -> None:
    repo = repos({"plait.toml": '[worktree]\nsetup = ["echo one", "./setup.sh"]\n', "setup.sh": "echo two\n"})
    refused = plait("approve", cwd=repo, status=4)
    assert "1. echo one" in refused.err
    assert "2. ./setup.sh" in refused.err
    key = plait("approve", "--yes", "--json", cwd=repo).json["key"]
    listed = plait("approve", "--list", "--json").json["approvals"]
    assert [(one["key"], one["commands"]) for one in listed] == [(key, ["echo one", "./setup.sh"])]
    assert "are approved as they are" in plait("approve", cwd=repo, status=3).err
    write(repo, {"setup.sh": "echo something else\n"})
    commit(repo)
    assert plait("approve", cwd=repo, status=4).raw == b""
    assert plait("approve", "--revoke", key[:10]).out == f"Revoked: {key[:12]}\n"
    assert "There is no approval" in plait("approve", "--revoke", key, status=3).err
    assert "asks to run nothing" in plait("approve", cwd=repos(), status=3).err


def test_what_is_shown_for_approval_cannot_hide(plait: Plait, repos: Repos) -> None:
    command = "evil \x1b[1A\x1b[2K\n  2. harmless"
    found = {"source": "plait.toml", "commands": [command], "scripts": [], "problems": [], "notes": []}
    assert proposal(found)[1:] == ["  1. evil ␛[1A␛[2K", "     │   2. harmless"]
    repo = repos({"plait.toml": f"[worktree]\nsetup = [{json.dumps(command)}]\n"})
    assert "\x1b" not in plait("approve", cwd=repo, status=3).err


def test_exec_makes_any_request_or_command(plait: Plait, repos: Repos) -> None:
    repo = repos()
    asked = json.dumps({"text": "Do", "command": ["sh", "-c", "echo x >> a.txt"]})
    session = plait("exec", "plait/run", asked, cwd=repo).json["sessions"][0]["id"]
    assert plait("exec", "plait/wait", "-", stdin=json.dumps({"sessions": [session]}).encode()).json["done"] is True
    assert plait("exec", "plait.session.accept", json.dumps({"session": session})).json["files"] == ["a.txt"]
    for words, status, sentence in (
        (["plait/nothing"], 1, "There is no method 'plait/nothing'."),
        (["plait.nothing"], 2, "There is no command 'plait.nothing'."),
        (["shutdown"], 2, "neither a plait/… request nor a plait.… command"),
        (["plait/session", "{"], 2, "The argument is not JSON"),
        (["plait/session", "[1]"], 2, "must be one JSON object"),
        (["plait/session", '{"sesion": "x"}'], 2, "Invalid parameters of plait/session"),
    ):
        done = plait("exec", *words, status=status)
        assert sentence in done.err
        assert done.raw == b""


def test_a_reader_that_goes_away_and_ctrl_c_are_quiet(plait: Plait, repos: Repos) -> None:
    session = plait.run(repos(), "seq 200000")
    reading = plait.popen("log", session)
    assert reading.stdout is not None
    assert reading.stderr is not None
    reading.stdout.readline()
    reading.stdout.close()
    assert (reading.wait(20), reading.stderr.read()) == (1, b"")
    reading.stderr.close()
    answer = plait("run", "Long", "--json", "--", "sh", "-c", "echo up; sleep 600", cwd=repos()).json
    following = plait.popen("log", answer["sessions"][0]["id"], "--follow")
    assert following.stdout is not None
    assert following.stdout.readline() == b"up\n"
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=20) == (b"", b"")
    assert following.returncode == 130
    plait("stop", answer["sessions"][0]["id"])


def test_an_unexpected_failure_is_one_sentence_with_the_place_of_the_log(plait: Plait, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); from plait.cli.app import main; main(['list'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=plait.env, capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("plait: ")


def test_the_language_server_is_there_under_its_name(plait: Plait) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "plait", "lsp", "--stdio"],
        env=plait.env,
        input=b"",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
