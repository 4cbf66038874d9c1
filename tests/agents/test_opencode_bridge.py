"""The host keeps one server for all runs and cleans up after each; the bridge misses nothing and never hangs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plait.agents.adapter import Interrupt, Job, Launch, Say, Write
from plait.agents.opencode import OpenCode
from plait.agents.programs import opencode_host
from plait.core.reports import Delivered, Message, Remark, TurnBegan, TurnEnded
from plait.engine import hosts
from plait.errors import PlaitError
from plait.supervisor import runs
from tests.support import opencode_server
from tests.support.opencode_runs import Surroundings, eventually, lines, marker
from tests.support.processes import eventually_async

Make = Callable[..., Surroundings]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Surroundings] = []

    def surroundings(idle_s: float = 0.3, **environment: str) -> Surroundings:
        command = (sys.executable, "-I", opencode_server.__file__)
        variables = {"PATH": os.defpath, "SCRIPTED_LOG": str(tmp_path / "requests"), opencode_host.IDLE: str(idle_s)}
        made.append(Surroundings(command, {**variables, **environment}, tmp_path / "runtime", tmp_path))
        return made[-1]

    yield surroundings
    for one in made:
        one.end()


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    (tmp_path / "worktree").mkdir()
    return tmp_path / "worktree"


def requests(tmp_path: Path) -> list[tuple[str, str, str, Any]]:
    path = tmp_path / "requests"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_turn_goes_through_and_the_host_leaves_when_it_is_idle(make: Make, worktree: Path) -> None:
    world = make()
    with world.run(worktree, prompt="say Hello.") as run:
        outcome = run.finish()
        assert outcome.ok, run.story()
        assert run.reports[-1] == TurnEnded(stop="end_turn", text="Hello.")
        assert lines(run)[0]["type"] == "ready"
    eventually(world.gone)
    [directory] = world.directories()
    assert (directory / "host.log").read_text() == ""


def test_runs_share_a_server_and_each_end_cleans_up_its_own_directory(
    make: Make, worktree: Path, tmp_path: Path
) -> None:
    world = make()
    other = tmp_path / "other"
    other.mkdir()
    with world.run(worktree, prompt="wait") as first, world.run(other, prompt="wait") as second:
        first.until_a(TurnBegan)
        second.until_a(TurnBegan)
        assert len(world.servers()) == 1
        os.kill(first.process.pid, signal.SIGKILL)
        eventually(lambda: ("/instance/dispose", str(worktree)) in [request[1:3] for request in requests(tmp_path)])
        aborted = [request[2] for request in requests(tmp_path) if request[1].endswith("/abort")]
        assert aborted == [str(worktree)]
        assert not first.finish().ok
        second.take(Interrupt())
        assert second.finish().stopped


def test_another_environment_gets_another_server(make: Make, worktree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with (
        make(COLOUR="red").run(worktree, prompt="wait") as first,
        make(COLOUR="blue").run(other, prompt="wait") as second,
    ):
        first.until_a(TurnBegan)
        second.until_a(TurnBegan)
        assert len(make().servers()) == 2


def test_what_is_marked_as_the_runs_own_is_ended_with_it(make: Make, worktree: Path, tmp_path: Path) -> None:
    world = make()
    with world.run(worktree, prompt="wait") as run:
        run.until_a(TurnBegan)
        left = os.posix_spawn("/bin/sleep", ["sleep", "600"], {opencode_host.RUN: marker(tmp_path, 0)}, setsid=True)
        os.kill(run.process.pid, signal.SIGKILL)
        _, status = os.waitpid(left, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


def test_what_a_broken_event_stream_missed_is_told_afterwards(make: Make, worktree: Path) -> None:
    with make().run(worktree, prompt="break Missed.") as run:
        assert run.finish().ok, run.story()
        assert Message(text="Missed.") in run.reports
        assert sum(isinstance(report, TurnBegan) for report in run.reports) == 1


def test_a_message_is_delivered_in_the_middle_of_a_turn(make: Make, worktree: Path) -> None:
    with make().run(worktree, prompt="wait") as run:
        run.until_a(TurnBegan)
        run.take(Say("m1", "say Yes."))
        assert run.until_a(Delivered).id == "m1"
        assert run.finish().ok


def test_a_message_that_the_server_refuses_is_said(make: Make, worktree: Path) -> None:
    with make().run(worktree, prompt="wait") as run:
        run.until_a(TurnBegan)
        run.take(Say("m1", "refuse"))
        assert "not that" in run.until_a(Remark).text
        run.take(Interrupt())
        assert run.finish().stopped
    with make().run(worktree, prompt="refuse") as run:
        outcome = run.finish()
        assert (outcome.ok, outcome.reason) == (False, "not that")


def test_a_signal_ends_the_turn_first(make: Make, worktree: Path, tmp_path: Path) -> None:
    with make().run(worktree, prompt="wait") as run:
        run.until_a(TurnBegan)
        os.kill(run.process.pid, signal.SIGINT)
        assert run.finish().stopped
        assert lines(run)[-1]["type"] == "aborted"


def test_a_server_that_dies_fails_its_turns_and_is_replaced(make: Make, worktree: Path) -> None:
    world = make()
    with world.run(worktree, prompt="die") as run:
        outcome = run.finish()
        assert not outcome.ok
        assert "ended with status 7" in outcome.reason
        assert lines(run)[-1]["type"] == "gone"
    with world.run(worktree, prompt="say Back.") as run:
        assert run.finish().ok


def test_a_host_that_is_killed_takes_its_server_along_and_is_replaced(make: Make, worktree: Path) -> None:
    world = make()
    with world.run(worktree, prompt="wait") as run:
        run.until_a(TurnBegan)
        os.kill(host_of(world), signal.SIGKILL)
        outcome = run.finish()
        assert "host of the OpenCode server was killed" in outcome.reason
        eventually(lambda: not world.servers())
    with world.run(worktree, prompt="say Back.") as run:
        assert run.finish().ok


async def test_the_sweep_of_a_stopped_run_spares_the_host(make: Make, worktree: Path, tmp_path: Path) -> None:
    world = make()
    other = tmp_path / "other"
    other.mkdir()
    environment = hosts.surroundings(world.environment, {}, world.runtime)
    directories = [tmp_path / "supervised" / name for name in ("first", "second")]
    for directory, place in zip(directories, (worktree, other), strict=True):
        job = Job(session="s", task="t", title="t", prompt="wait", worktree=str(place), port=1)
        launch = OpenCode().launch(world.command, job)
        assert launch.host is not None
        await hosts.ensure(launch.host, environment, world.runtime)
        mark = f"{tmp_path}-{directory.name}"
        runs.prepare(directory, runs.RunSpec(run=mark, argv=launch.argv, cwd=place, stdin="fifo", stderr="apart"))
        await runs.start(directory, environment)
        for write in OpenCode().driver(job).begin():
            assert isinstance(write, Write)
            await runs.write(directory, write.id, write.data)
    await eventually_async(lambda: all(b'"busy"' in runs.read_output(each, 0, 1 << 20) for each in directories))
    marked = {opencode_host.RUN: f"{tmp_path}-first"}
    tool = await asyncio.create_subprocess_exec("/bin/sleep", "600", env=marked, start_new_session=True)
    await runs.stop(directories[0])
    ended = await runs.wait(directories[0])
    assert isinstance(ended, runs.Exit)
    assert ended.reason == "stopped"
    await tool.wait()
    assert isinstance(runs.status(directories[1]), runs.Alive)
    assert len(world.servers()) == 1
    await runs.write(directories[1], "later", b'{"op": "prompt", "text": "say Still here."}\n')
    await eventually_async(lambda: b"Still here." in runs.read_output(directories[1], 0, 1 << 20))
    await runs.stop(directories[1])
    await runs.wait(directories[1])


def test_a_server_that_does_not_start_says_why(make: Make, worktree: Path) -> None:
    with make(SCRIPTED_START="fail").run(worktree) as run:
        outcome = run.finish()
        assert not outcome.ok
        assert "I do not want to." in outcome.reason


def test_nothing_runs_without_the_permissions_that_were_asked_for(make: Make, worktree: Path, tmp_path: Path) -> None:
    with make(SCRIPTED_PLUGINS="off").run(worktree) as run:
        outcome = run.finish()
        assert not outcome.ok
        assert "did not take over the permissions" in outcome.reason
    assert not any(request[1].endswith("prompt_async") for request in requests(tmp_path))


def test_the_password_is_nowhere_to_be_read(make: Make, worktree: Path) -> None:
    world = make()
    with world.run(worktree, prompt="wait") as run:
        run.until_a(TurnBegan)
        [server] = world.servers()
        environment = dict(
            entry.split("=", 1) for entry in Path(f"/proc/{server}/environ").read_text().split("\0") if "=" in entry
        )
        password = environment["OPENCODE_SERVER_PASSWORD"]
        assert len(password) == 64
        assert opencode_host.RUN not in environment
        [directory] = world.directories()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        written = [path.read_bytes() for path in directory.iterdir() if path.is_file()]
        argv = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (server, host_of(world))]
        assert not [data for data in (*written, *argv, run.output.read_bytes()) if password.encode() in data]


def test_many_starts_at_once_make_one_host(make: Make, worktree: Path) -> None:
    world = make(idle_s=1)
    environment = hosts.surroundings(world.environment, {}, world.runtime)
    program = Path(opencode_host.__file__)
    launch = Launch((sys.executable, "-I", "-S", "-E", str(program), *world.command))

    async def all_at_once() -> None:
        await asyncio.gather(*(hosts.ensure(launch, environment, world.runtime) for _ in range(12)))

    asyncio.run(all_at_once())
    eventually(lambda: len(world.servers()) == 1)


def test_a_host_that_cannot_be_started_is_an_error_with_its_reason(tmp_path: Path) -> None:
    launch = Launch((sys.executable, "-c", "import sys; sys.exit('no such luck')"))
    with pytest.raises(PlaitError, match="no such luck"):
        asyncio.run(hosts.ensure(launch, {}, tmp_path / "runtime"))


def test_the_users_own_configuration_stays_and_gets_the_plugin() -> None:
    given = json.dumps({"model": "a/b", "plugin": ["theirs"]})
    made = json.loads(opencode_host.configured(given, "/run/user/1/x y"))
    assert made == {"model": "a/b", "plugin": ["theirs", "file:///run/user/1/x%20y/plait.js"]}
    with pytest.raises(ValueError, match="JSON"):
        opencode_host.configured("[]", "/x")


def test_a_sessions_own_variables_do_not_make_another_group() -> None:
    common = {"PATH": "/bin", "PLAIT_AGENT_RUNTIME": "/run"}
    own = {"PLAIT_PORT": "1", "GIT_CONFIG_COUNT": "0", "CONDUCTOR_PORT": "1", "PWD": "/w", "TERM": "xterm"}
    named = {"PLAIT_AGENT_VARIABLES": "PLAIT_PORT CONDUCTOR_PORT"}
    command = ["opencode"]
    first = opencode_host.group_directory({**common, **own, **named}, command)
    assert first == opencode_host.group_directory(
        {**common, **own, "CONDUCTOR_PORT": "2", "TERM": "dumb", **named}, command
    )
    assert first != opencode_host.group_directory({**common, **own, "PATH": "/usr/bin", **named}, command)
    assert first != opencode_host.group_directory({**common, **own, **named}, ["other"])


@pytest.mark.parametrize(
    ("permission", "theirs", "ours"),
    [
        ("ask", None, {"edit": "ask", "bash": "ask", "webfetch": "ask", "websearch": "ask", "my_tools_*": "ask"}),
        ("ask", "allow", {"*": "allow", "edit": "ask", "bash": "ask"}),
        ("ask", {"bash": {"*": "allow", "rm *": "deny"}}, {"bash": {"*": "ask", "rm *": "deny"}, "edit": "ask"}),
        ("edits", {"edit": "deny", "bash": "allow"}, {"edit": "deny", "bash": "ask"}),
        (
            "all",
            {"bash": {"git push *": "ask", "rm *": "deny"}},
            {"bash": {"*": "allow", "rm *": "deny"}, "edit": "allow"},
        ),
        ("all", "deny", {"*": "deny", "edit": "deny", "bash": "deny"}),
    ],
)
def test_the_plugin_sets_the_permissions_and_keeps_what_the_user_forbids(
    permission: str, theirs: object, ours: dict[str, object], tmp_path: Path
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    shutil.copy(opencode_host.PLUGIN, tmp_path / "plait.mjs")
    wanted = {"/w": {"permission": permission, "env": {"PLAIT_PORT": "4700"}}}
    (tmp_path / "worktrees.json").write_text(json.dumps(wanted))
    agent = {"permission": {"bash": "allow", "edit": {"*.lock": "deny"}}}
    config = {"permission": theirs, "mcp": {"my tools": {}}, "agent": {"mine": agent}}
    (tmp_path / "try.mjs").write_text(f"""
        import {{ Plait }} from "./plait.mjs"
        const config = {json.dumps(config)}
        const output = {{ env: {{}} }}
        const hooks = await Plait({{ directory: "/w" }})
        await hooks.config(config)
        await hooks["shell.env"]({{}}, output)
        console.log(JSON.stringify([config.permission, config.agent.mine.permission, output.env]))
    """)
    done = subprocess.run([node, str(tmp_path / "try.mjs")], capture_output=True, check=True)
    rules, agents, environment = json.loads(done.stdout)
    assert {tool: rules[tool] for tool in ours} == ours
    assert agents["bash"] == ("allow" if permission == "all" else "ask")
    assert agents["edit"] == {"*": "ask" if permission == "ask" else "allow", "*.lock": "deny"}
    assert environment == {"OPENCODE_SERVER_PASSWORD": "", "PLAIT_PORT": "4700"}


def host_of(world: Surroundings) -> int:
    """The process that keeps the server."""
    [server] = world.servers()
    return int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
