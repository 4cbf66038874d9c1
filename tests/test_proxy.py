from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pytest_lsp import client_capabilities, make_test_lsp_client

from plait import __version__
from plait.wire import Framer, frame
from tests.support.daemons import Home, gone, home, until
from tests.support.tiny_program import PROGRAM

PARAMS: dict[str, object] = {"processId": None, "rootUri": None, "capabilities": {}}
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": PARAMS}
INITIALIZED = {"jsonrpc": "2.0", "method": "initialized", "params": {}}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path / "home") as made:
        yield made


def framed(*messages: object) -> bytes:
    return b"".join(frame(json.dumps(message).encode()) for message in messages)


def request(number: int, method: str, params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


class Editor:
    """An editor's side of `plait lsp`, byte by byte."""

    def __init__(self, here: Home, *arguments: str, **env: str) -> None:
        self.process = here.start("lsp", *arguments, wait=False, **env)
        self._framer = Framer()
        self._waiting: list[dict[str, Any]] = []

    def send(self, *messages: object) -> None:
        self.write(framed(*messages))

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        while not self._waiting:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                return None
            self._waiting.extend(json.loads(body) for body in self._framer.feed(data))
        return self._waiting.pop(0)

    def result(self, number: int, method: str, params: object) -> Any:
        self.send(request(number, method, params))
        while (message := self.receive()) is not None:
            if message.get("id") == number:
                return message["result"]
        raise AssertionError("the proxy ended")

    def open(self) -> dict[str, Any]:
        self.send(INITIALIZE)
        answer = self.receive()
        assert answer is not None
        self.send(INITIALIZED)
        return answer

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture(params=["visual_studio_code", "neovim"])
async def client(here: Home, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    made: Any = make_test_lsp_client()
    await made.start_io(*PROGRAM, "lsp", "--stdio", env=here.env)
    params = types.InitializeParams(
        capabilities=client_capabilities(request.param),
        root_uri="file:///w",
        initialization_options={"plait": {"protocol": 1}},
    )
    made.answer = await made.initialize_session(params)
    yield made
    await made.shutdown_session()
    await made.stop()


async def test_recorded_editors_are_served_through_the_proxy(client: Any) -> None:
    assert client.answer.server_info.name == "plait"
    uri = "file:///w/a.py"
    item = types.TextDocumentItem(uri, "python", 0, "x\n")
    client.text_document_did_open(types.DidOpenTextDocumentParams(item))
    await client.wait_for_notification("textDocument/publishDiagnostics")
    assert client.diagnostics[uri][0].source == "plait"
    lenses = await client.text_document_code_lens_async(types.CodeLensParams(types.TextDocumentIdentifier(uri)))
    assert lenses[0].command.command == "tiny.accept"
    command = types.ExecuteCommandParams(command="tiny.accept", arguments=[{"uri": uri}])
    answer = await client.workspace_execute_command_async(command)
    assert answer["ok"]
    answer = await client.protocol.send_request_async("plait/echo", {"text": "é😀", "times": 2})
    assert answer.text == "é😀é😀"


def test_the_daemon_learns_who_the_editor_is_and_no_secret(here: Home) -> None:
    editor = Editor(
        here, "--client", "x", "--stdio", LC_ALL="C.UTF-8", MY_API_KEY="canary", GIT_DIR="/x", PYTHONHOME_X="y"
    )
    editor.open()
    forwarder = editor.result(2, "plait/who", {})["forwarder"]
    assert forwarder["pid"] == editor.process.pid
    assert forwarder["cwd"] == str(Path.cwd())
    assert forwarder["env"]["LC_ALL"] == "C.UTF-8"
    assert forwarder["env"]["PATH"]
    assert not {"MY_API_KEY", "GIT_DIR", "PYTHONPATH", "PYTHONHOME_X", "PLAIT_HOME"} & forwarder["env"].keys()
    editor.hang_up()
    assert editor.process.wait(timeout=20) == 0


def test_what_the_editor_says_about_itself_stays(here: Home) -> None:
    editor = Editor(here)
    options = {"other": 1, "plait": {"protocol": 1, "features": ["status", "hunkView"]}}
    params = {**PARAMS, "initializationOptions": options, "clientInfo": {"name": "Ed"}}
    editor.send({**INITIALIZE, "params": params})
    assert editor.receive() is not None
    who = editor.result(2, "plait/who", {})
    assert (who["name"], who["features"]) == ("Ed", ["hunkView", "status"])


@pytest.mark.parametrize("split", [1, 7, 1 << 16])
def test_messages_may_come_in_any_pieces(here: Home, split: int) -> None:
    editor = Editor(here)
    data = framed(INITIALIZE, INITIALIZED, request(2, "plait/echo", {"text": "a"}))
    for low in range(0, len(data), split):
        editor.write(data[low : low + split])
    answers = [editor.receive(), editor.receive()]
    assert [answer["id"] for answer in answers if answer] == [1, 2]


def test_when_the_daemon_dies_the_proxy_ends_at_once_and_a_new_one_reconnects(here: Home) -> None:
    editor = Editor(here)
    editor.open()
    os.kill(here.pid(), signal.SIGKILL)
    began = time.monotonic()
    assert editor.process.wait(timeout=20) == 1
    assert time.monotonic() - began < 2
    assert here.errors().splitlines()[-1].startswith("plait lsp: the daemon ended")
    again = Editor(here)
    assert again.open()["result"]["serverInfo"] == {"name": "plait", "version": __version__}


def test_exit_ends_the_proxy_well_and_leaves_the_daemon(here: Home) -> None:
    editor = Editor(here)
    editor.open()
    editor.send(request(2, "shutdown", None), {"jsonrpc": "2.0", "method": "exit"})
    assert editor.receive() == {"jsonrpc": "2.0", "id": 2, "result": None}
    assert editor.process.wait(timeout=20) == 0
    assert here.status()["pid"] == here.pid()


def test_answers_still_come_after_stdin_was_closed(here: Home) -> None:
    out = subprocess.run(
        [*PROGRAM, "lsp"],
        input=framed(INITIALIZE, INITIALIZED, request(2, "plait/slowChange", {})),
        env=here.env,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    assert [json.loads(body)["id"] for body in Framer().feed(out.stdout)] == [1, 2]


def test_stdin_and_stdout_may_be_files(here: Home, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(framed(INITIALIZE, request(2, "plait/echo", {"text": "a"})))
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
        subprocess.run([*PROGRAM, "lsp"], stdin=source, stdout=target, env=here.env, timeout=30, check=True)
    assert [json.loads(body)["id"] for body in Framer().feed((tmp_path / "out").read_bytes())] == [1, 2]


def test_much_in_both_directions_at_once_does_not_block(here: Home) -> None:
    editor = Editor(here)
    editor.open()
    text = "x" * (1 << 20)
    messages = framed(*(request(number, "plait/raw", {"text": text}) for number in range(10, 34)))
    # All is written before anything is read: more than all buffers hold, so each side has to read while it writes.
    child = os.fork()
    if child == 0:
        try:
            editor.write(messages)
        finally:
            os._exit(0)
    answers = [editor.receive() for _ in range(24)]
    os.waitpid(child, 0)
    assert sorted(answer["id"] for answer in answers if answer) == list(range(10, 34))
    assert all(answer["result"] == {"text": text} for answer in answers if answer)


def test_an_editor_that_does_not_read_does_not_stop_its_own_requests(here: Home) -> None:
    editor = Editor(here)
    editor.open()
    editor.send(request(2, "plait/raw", {"text": "x" * (4 << 20)}), request(3, "plait/slowChange", {"name": "b"}))
    editor.send(request(4, "plait/raw", {"text": "y" * (4 << 20)}))
    answers = [editor.receive() for _ in range(3)]
    assert sorted(answer["id"] for answer in answers if answer) == [2, 3, 4]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(b"{oops"),
        b"Content-Length: x\r\n\r\n",
        frame(b"[]"),
        framed(INITIALIZE) + b"Content-Length: -5\r\n\r\n",
    ],
)
def test_garbage_is_answered_by_the_daemon_and_ends_the_proxy(here: Home, data: bytes) -> None:
    editor = Editor(here)
    editor.write(data)
    errors = []
    while (message := editor.receive()) is not None:
        if "error" in message:
            errors.append(message["error"]["code"])
    assert errors in ([-32700], [-32600])
    assert editor.process.wait(timeout=20) == 1
    assert here.status()["pid"] == here.pid()


def test_nothing_at_all_ends_it_without_starting_a_daemon(here: Home) -> None:
    editor = Editor(here)
    editor.hang_up()
    assert editor.process.wait(timeout=20) == 0
    assert not here.places.socket.exists()


def test_a_daemon_that_cannot_start_is_told_in_the_answer_to_initialize(here: Home) -> None:
    editor = Editor(here, TINY_FAILS="1")
    editor.send(INITIALIZE)
    answer = editor.receive()
    assert answer is not None
    assert answer["id"] == 1
    assert "did not start" in answer["error"]["message"]
    assert "the engine cannot start" in answer["error"]["data"]["hint"]
    assert editor.process.wait(timeout=20) == 1
    assert "plait lsp: The plait daemon did not start." in here.errors()


def test_unknown_arguments_are_named(here: Home) -> None:
    editor = Editor(here, "--stdio", "--prot=9")
    assert editor.process.wait(timeout=20) == 2
    assert "unknown argument '--prot=9'" in here.errors()


def test_a_newer_proxy_replaces_an_older_daemon(here: Home) -> None:
    old = here.start(TINY_VERSION="0.0.1")
    other = Editor(here, TINY_VERSION="0.0.1")
    editor = Editor(here)
    assert editor.open()["result"]["serverInfo"]["version"] == __version__
    assert old.wait(timeout=20) == 0
    other.hang_up()


@pytest.mark.slow
def test_a_daemon_that_hangs_is_reported_within_five_seconds_and_more(here: Home) -> None:
    here.caller(start=True).close()
    os.kill(here.pid(), signal.SIGSTOP)
    editor = Editor(here)
    began = time.monotonic()
    editor.send(INITIALIZE)
    message = editor.receive()
    assert message is not None
    assert message["method"] == "window/showMessage"
    assert "does not answer" in message["params"]["message"]
    assert str(here.pid()) in message["params"]["message"]
    assert time.monotonic() - began < 8
    os.kill(here.pid(), signal.SIGCONT)
    answer = editor.receive()
    assert answer is not None
    assert answer["id"] == 1


def test_proxies_killed_at_any_moment_leave_nothing_in_the_daemon(here: Home) -> None:
    here.caller(start=True).close()
    chance = random.Random(4)
    data = framed(
        INITIALIZE,
        INITIALIZED,
        request(2, "plait/forever", {}),
        request(3, "plait/flood", {"size": 10_000, "count": 50}),
    )
    for _ in range(15):
        editor = Editor(here)
        editor.write(data[: chance.randrange(len(data))])
        editor.process.kill()
        editor.process.wait()
    until(lambda: here.status()["connections"] == 1)
    assert not gone(here.pid())


def test_the_proxy_is_up_in_a_small_multiple_of_bare_python(here: Home) -> None:
    here.caller(start=True).close()

    def bare() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        return time.perf_counter() - began

    def proxied() -> float:
        began = time.perf_counter()
        editor = Editor(here)
        editor.open()
        took = time.perf_counter() - began
        editor.process.kill()
        editor.process.wait()
        return took

    floor, ready = min(bare() for _ in range(8)), min(proxied() for _ in range(8))
    # Up, connected, and the daemon's answer to initialize read: generous, since others use this machine too.
    assert ready < max(0.3, 12 * floor), (ready, floor)
