from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Plait, Repos, terminal

pytestmark = pytest.mark.slow


def started(plait: Plait, repo: Path, title: str, script: str) -> str:
    session: str = plait("run", title, "--json", "--", "sh", "-c", script, cwd=repo).json["sessions"][0]["id"]
    return session


def test_without_a_terminal_every_change_is_a_line(plait: Plait, repos: Repos) -> None:
    here, there = repos(), repos()
    watching = plait.popen("watch", cwd=here)
    assert watching.stdout is not None
    other = plait.run(there, "true")
    session = plait.run(here, "echo x >> a.txt; exit 4")
    states = []
    for line in iter(watching.stdout.readline, b""):
        words = line.decode().split()
        assert session.endswith(words[1]), "the other repository's sessions are not told"
        states.append(words[2])
        if words[2] == "failed":
            break
    watching.kill()
    watching.communicate()
    assert states[-2:] == ["working", "failed"]
    assert other != session


def test_it_ends_when_nothing_runs_if_asked_to(plait: Plait, repos: Repos) -> None:
    repo = repos()
    started(plait, repo, "Short", "echo x >> a.txt")
    assert plait("watch", "--until-idle", cwd=repo).out.splitlines()[-1].split()[2] == "ready"
    with terminal(plait, "watch", "--until-idle", cwd=repo) as screen:
        screen.ends(0)


def test_lines_go_on_after_a_restart_of_the_daemon(plait: Plait, repos: Repos) -> None:
    repo = repos()
    watching = plait.popen("watch", cwd=repo)
    assert watching.stdout is not None
    first = plait.run(repo, "true")
    assert any(b"ready" in line for line in iter(watching.stdout.readline, b""))
    plait("daemon", "restart")
    second = plait.run(repo, "true")
    for line in iter(watching.stdout.readline, b""):
        short = line.split()[1].decode()
        if second.endswith(short) and b"ready" in line:
            break
        assert not first.endswith(short) or b"ready" in line
    watching.kill()
    _, err = watching.communicate()
    assert b"connected to the daemon again" in err


def test_the_full_screen_groups_the_sessions_and_shows_the_last_words(plait: Plait, repos: Repos) -> None:
    repo = repos()
    plait.run(repo, "echo x >> a.txt")
    plait.run(repo, "exit 3")
    long = started(plait, repo, "Evil \x1b[2J title", r"printf 'one\n\033]0;pwned\007last words\n'; sleep 600")
    with terminal(plait, "watch", cwd=repo, columns=120) as screen:
        before = screen.settings()
        shown = screen.shows("last words")
        shown += screen.shows("MiB")
        for expected in ("Needs you (1)", "It exited with status 3.", "Ready to review (1)", "Working (1)", "MiB"):
            assert expected in shown
        assert "\x1b[?1049h" in shown, "it has a screen of its own"
        assert "\x1b]" not in shown
        assert "Evil ␛[2J" in shown or "Evil [2J" in shown
        plait("stop", long)
        screen.shows("Ready to review (1)")
        screen.shows("stopped", 20)
        screen.press("q")
        assert "\x1b[?1049l" in screen.ends(0), "the user's screen is back"
    assert before


def test_the_full_screen_outlives_the_daemon(plait: Plait, repos: Repos) -> None:
    repo = repos()
    with terminal(plait, "watch", cwd=repo) as screen:
        screen.shows("No sessions yet")
        plait("daemon", "stop")
        screen.shows("The daemon went away")
        plait.run(repo, "echo x >> a.txt")
        screen.shows("Connected again")
        screen.shows("Ready to review (1)")
        screen.press("q")
        screen.ends(0)


def test_a_tiny_terminal_is_enough(plait: Plait, repos: Repos) -> None:
    repo = repos()
    for _ in range(3):
        plait.run(repo, "echo x >> a.txt")
    with terminal(plait, "watch", cwd=repo, columns=24, rows=5) as screen:
        screen.shows("more below")
        screen.press("j")
        screen.press("q")
        screen.ends(0)
