"""`plait attach`: an agent's screen on the user's terminal, with keys and sizes, and the terminal as it was after."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plait.cli.attaching import DETACH, again, modes, until_left
from tests.support.cli import CONFIG, Plait, Repos, Terminal, installed, terminal
from tests.support.processes import eventually
from tests.support.screen_agent import install

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plait]:
    root = tmp_path_factory.mktemp("attach")
    program = install(root / "bin")
    table = f'\n[agents.screen]\nkind = "terminal"\ncommand = {json.dumps([str(program), "{prompt}"])}\n'
    with installed(root / "user", CONFIG + table) as made:
        yield made


@pytest.fixture
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Repos(tmp_path_factory.mktemp("repos"))()


@contextmanager
def working(plait: Plait, repo: Path, text: str = "first") -> Iterator[str]:
    """A session that waits for a message in its terminal."""
    session: str = plait("run", text, "--agent", "screen", "--json", cwd=repo).json["sessions"][0]["id"]
    eventually(lambda: plait.show(session)["state"] == "needs input", 20)
    yield session
    plait("stop", session, status=None)
    eventually(lambda: not plait.show(session)["live"], 20)


@contextmanager
def attached(plait: Plait, repo: Path, session: str, columns: int = 90, rows: int = 25) -> Iterator[Terminal]:
    with terminal(plait, "attach", session, cwd=repo, columns=columns, rows=rows) as shown:
        shown.shows("Ctrl-\\")
        yield shown


def test_keys_and_sizes_go_there_and_the_screen_comes_here(plait: Plait, repo: Path) -> None:
    with working(plait, repo) as session, attached(plait, repo, session) as here:
        here.shows("did first")
        here.shows("size 25x90")
        here.press("by hand\r")
        here.shows("did by hand")
        fcntl.ioctl(here.master, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 101, 0, 0))
        os.kill(here.process.pid, signal.SIGWINCH)
        here.shows("size 31x101")


def test_it_is_left_by_a_key_and_the_terminal_is_as_before(plait: Plait, repo: Path) -> None:
    with working(plait, repo) as session, attached(plait, repo, session) as here:
        here.shows("did first")
        here.shows("size 25x90")
        during = here.settings()
        here.press("\x1c")
        said = here.ends(0)
        assert "\x1b[?2004l" in said
        assert "comes back" in said
        assert here.settings() != during
        assert here.settings()[3] & termios.ECHO
        assert plait.show(session)["live"]


def test_it_is_put_in_order_again_when_the_command_is_ended(plait: Plait, repo: Path) -> None:
    with working(plait, repo) as session, attached(plait, repo, session) as here:
        here.shows("size 25x90")
        here.process.send_signal(signal.SIGTERM)
        here.ends(0)
        assert here.settings()[3] & termios.ECHO


def test_it_ends_with_the_agent_and_says_so(plait: Plait, repo: Path) -> None:
    with working(plait, repo) as session, attached(plait, repo, session) as here:
        here.shows("size 25x90")
        here.press("/exit\r")
        assert "The agent has ended. (ready)" in here.ends(0)
        assert here.settings()[3] & termios.ECHO


def test_it_goes_on_across_a_restart_of_the_daemon(plait: Plait, repo: Path) -> None:
    with working(plait, repo) as session, attached(plait, repo, session) as here:
        here.shows("size 25x90")
        plait("daemon", "stop")
        here.press("still\r")
        here.shows("did still")


def test_without_a_terminal_or_for_an_agent_that_has_none_it_is_refused(plait: Plait, repo: Path) -> None:
    with working(plait, repo) as session:
        assert "at a terminal" in plait("attach", session, cwd=repo, status=2).err
    ended = plait.run(repo, "true")
    with terminal(plait, "attach", ended, cwd=repo) as here:
        assert "has no terminal" in here.ends(2)
    with terminal(plait, "attach", session, cwd=repo) as here:
        assert "Nothing runs" in here.ends(3)


def test_what_is_no_input_is_refused(plait: Plait, repo: Path) -> None:
    def told(session: str, **params: object) -> str:
        done = plait("exec", "plait/input", json.dumps({"session": session, **params}), status=None)
        assert done.status == 2
        return done.err

    with working(plait, repo) as session:
        assert "base64" in told(session, data="no base64!")
        assert "rows and columns" in told(session, rows=3)
        assert told(session, rows=0, columns=10)
        done = plait("exec", "plait/input", json.dumps({"session": session, "data": base64.b64encode(b"x").decode()}))
        assert done.json == {"run": 1, "bytes": 1}


def test_the_key_that_leaves_is_known_however_the_terminal_sends_it() -> None:
    assert {until_left(b"ab" + key + b"c") for key in DETACH} == {b"ab"}
    assert until_left(b"a\x1b[A\x03") == b"a\x1b[A\x03"


def test_a_terminal_gets_the_modes_that_the_program_has_set_and_no_question_a_second_time() -> None:
    started = b"\x1b[?2004h\x1b[?1049h\x1b[>1u\x1b[?25l\x1b[c\x1b[?u"
    assert modes(started + b"\x1b[?1049l") == b"\x1b[?25l\x1b[?1049l\x1b[?2004h\x1b[>1u"
    assert modes(b"\x1b[>1u\x1b[<u") == b""
    assert again(b"a\x1b[cb\x1b[6nc\x1b]11;?\x07d\x1b[31me", cut=False) == b"abcd\x1b[31me"
    assert again(b"1mcut\x1b[0mwhole", cut=True) == b"\x1b[0mwhole"
