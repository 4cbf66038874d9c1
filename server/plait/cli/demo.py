"""`plait demo`: the main job on a sample repository, by the very commands that a user types; needs no account."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from plait.cli import screen
from plait.errors import PlaitError

SAMPLE = Path(__file__).with_name("sample")

TASKS = (
    ("rename", "Rename calc_total to total everywhere"),
    ("docstrings", "Give every public function a docstring"),
    ("sort-imports", "Sort the imports, the standard library first"),
    ("make-tests", "Turn the examples in docstrings into unit tests"),
)
"""Agents of the sample's configuration, each a codemod that lies in the sample itself, and what they are asked."""

CONFIG = """# The demo's own configuration: any command line is an agent.
[limits]
max_running = 4
min_free_memory_mb = 0
min_free_disk_gb = 0
"""


def demo(
    place: Annotated[
        Path | None,
        typer.Option("--place", metavar="DIR", help="Make the sample here; default: a temporary directory."),
    ] = None,
) -> None:
    """Run four codemods at once on a sample repository, and bring their work back by hunks."""
    root = _place(place)
    repo = root / "till"
    environment = {**os.environ, "PLAIT_HOME": str(root / "plait")}
    _say("A sample repository", f"{repo} is a small program with tests. Plait keeps everything below {root}.")
    _make(root, repo)
    stage = _Stage(repo, environment)

    _say("Four tasks at once", "Each gets a worktree and a branch of its own; your checkout is not touched.")
    for agent, task in TASKS:
        _command("plait", "run", task, "--agent", agent)
    with ThreadPoolExecutor() as pool:
        sessions = list(pool.map(stage.started, TASKS))
    stage.shown("watch", "--until-idle")

    _say("What waits for you", "The review queue, and one session in full.")
    stage.shown("review")
    renaming, documenting, sorting, _ = sessions
    stage.shown("diff", documenting, "till/money.py")

    _say("Accept one hunk", "It goes into your checkout as an ordinary change; nothing else moves.")
    hunks = stage.asked("show", documenting)["hunks"]
    wanted = next(hunk for hunk in hunks if hunk["path"] == "till/money.py")
    before = stage.git("status", "--porcelain")
    stage.shown("accept", documenting, "--hunk", wanted["id"])
    stage.shown_git("diff")
    _verify(before == "" and stage.git("status", "--porcelain") == " M till/money.py", "exactly one file changed")

    _say("Reject another", "The verdict is kept; the session can still be merged without that hunk.")
    unwanted = next(hunk for hunk in hunks if "Between of" in "".join(hunk["added"]))
    stage.shown("reject", documenting, "--hunk", unwanted["id"], "--why", "Say what it returns.")

    _say("Merge a third", "The whole session, into the branch that is checked out here.")
    stage.shown_git("commit", "--quiet", "--all", "--message", "Describe parse_amount")
    stage.shown("merge", sorting)
    stage.shown_git("log", "--oneline", "--graph", "--max-count", "6")
    _verify(stage.git("status", "--porcelain") == "", "the checkout is clean")

    # The next command starts it again; a demo that was only looked at leaves no process behind.
    stage.quiet("daemon", "stop")
    _next(root, repo, renaming)


class _Stage:
    """The sample repository, and the commands that are run there for all to see."""

    def __init__(self, repo: Path, environment: Mapping[str, str]) -> None:
        self._repo = repo
        self._environment = environment

    def started(self, asked: tuple[str, str]) -> str:
        """The id of a new session."""
        agent, task = asked
        answer = self._json("run", task, "--agent", agent)
        found: str = answer["sessions"][0]["short"]
        return found

    def asked(self, *words: str) -> dict[str, Any]:
        return self._json(*words)

    def shown(self, *words: str) -> None:
        _command("plait", *words)
        self._run([*_PLAIT, *words], capture=False)

    def quiet(self, *words: str) -> None:
        self._run([*_PLAIT, *words], capture=True)

    def shown_git(self, *words: str) -> None:
        _command("git", *words)
        self._run(
            ["git", "-c", "core.pager=cat", "-c", f"color.ui={'always' if screen.on_terminal() else 'never'}", *words],
            capture=False,
        )

    def git(self, *words: str) -> str:
        return self._run(["git", *words], capture=True).rstrip("\n")

    def _json(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._run([*_PLAIT, *words, "--json"], capture=True))
        return found

    def _run(self, argv: Sequence[str], capture: bool) -> str:
        sys.stdout.flush()
        done = subprocess.run(
            argv,
            cwd=self._repo,
            env=dict(self._environment),
            stdout=subprocess.PIPE if capture else None,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PlaitError(f"`{shlex.join(argv)}` ended with status {done.returncode}.", "The demo stops here.")
        return done.stdout or ""


_PLAIT = (sys.executable, "-m", "plait")


def _place(place: Path | None) -> Path:
    if place is None:
        return Path(os.path.realpath(tempfile.mkdtemp(prefix="plait-demo-")))
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise PlaitError(
            f"Could not make {place}: {error.strerror}.", "Name a directory that does not exist yet."
        ) from error
    return Path(os.path.realpath(place))


def _make(root: Path, repo: Path) -> None:
    shutil.copytree(SAMPLE, repo, ignore=shutil.ignore_patterns("__pycache__"))
    stage = _Stage(repo, os.environ)
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("config", "user.name", "Plait demo"),
        ("config", "user.email", "demo@plait.invalid"),
        ("add", "--all"),
        ("commit", "--quiet", "--message", "A small cash register"),
    ):
        stage.git(*words)
    tools = {
        "rename": ["tools/rename.py", "calc_total", "total"],
        "docstrings": ["tools/docstrings.py"],
        "sort-imports": ["tools/sort_imports.py"],
        "make-tests": ["tools/make_tests.py"],
    }
    tables = [
        f'\n[agents.{name}]\nkind = "command"\ncommand = {json.dumps([sys.executable, "-u", *words])}\n'
        for name, words in tools.items()
    ]
    config = root / "plait" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG + "".join(tables))


def _say(heading: str, text: str) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if screen.on_terminal() else ("", "")
    print(f"\n{bold}{heading}.{plain} {text}", flush=True)


def _command(*words: str) -> None:
    dim, plain = ("\x1b[36m", "\x1b[0m") if screen.on_terminal() else ("", "")
    print(f"{dim}$ {shlex.join(words)}{plain}", flush=True)


def _verify(true: bool, what: str) -> None:
    if not true:
        raise PlaitError(f"The demo expected that {what}, and it is not so.", "Please report this.")
    print(f"(checked: {what})", flush=True)


def _next(root: Path, repo: Path, session: str) -> None:
    beside = Path(sys.executable).with_name("plait")
    program = "plait" if shutil.which("plait") else shlex.quote(str(beside)) if beside.exists() else shlex.join(_PLAIT)
    _say("Now you", "The sample stays. Go on with it in this shell:")
    print(
        f"""
    cd {shlex.quote(str(repo))}
    export PLAIT_HOME={shlex.quote(str(root / "plait"))}
    {program} review --next    # go through what is left, hunk by hunk
    {program} accept {session}      # or take all of one session
    {program} watch            # the live monitor

In an editor: any LSP client that starts `{program} lsp` in that directory, with PLAIT_HOME set.
When you have seen enough: {program} daemon stop; rm -rf {shlex.quote(str(root))}"""
    )
