from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import threading
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from plait.errors import NothingToDo
from plait.lsp.connection import MAX_UNREAD, Connection
from plait.lsp.tables import Features, Method
from plait.paths import Places
from plait.wire import frame
from tests.support.lsp import Peer, eventually, pair
from tests.support.tiny_plait import FEATURES, TinyEngine


@pytest.fixture
def engine(tmp_path: Path) -> TinyEngine:
    return TinyEngine(Places(tmp_path, tmp_path, tmp_path, tmp_path))


@pytest.fixture
async def peer(engine: TinyEngine) -> AsyncIterator[Peer]:
    client, _, serving = await pair(engine, FEATURES)
    await client.open(features=["status"])
    yield client
    client.close()
    await asyncio.wait_for(serving, 10)


async def test_the_handshake_tells_versions_methods_and_commands(engine: TinyEngine) -> None:
    client, _, serving = await pair(engine, FEATURES)
    answer = await client.open()
    ours = answer["capabilities"]["experimental"]["plait"]
    assert answer["serverInfo"]["name"] == "plait"
    assert ours["protocol"] == 1
    assert ours["daemonPid"] == os.getpid()
    assert "plait/echo" in ours["methods"]
    assert "textDocument/codeLens" not in ours["methods"]
    assert ours["commands"] == ["tiny.accept", "tiny.echo"]
    capabilities = answer["capabilities"]
    assert capabilities["workspace"]["textDocumentContent"] == {"schemes": ["plait"]}
    assert capabilities["executeCommandProvider"]["commands"] == ["tiny.accept", "tiny.echo"]
    assert capabilities["textDocumentSync"]["change"] == types.TextDocumentSyncKind.Incremental
    assert capabilities["textDocumentSync"]["openClose"] is True
    assert "codeLensProvider" in capabilities
    assert "hoverProvider" not in capabilities
    client.close()
    await serving


async def test_exit_ends_this_connection_and_no_other(engine: TinyEngine) -> None:
    first, _, first_serving = await pair(engine, FEATURES)
    second, _, second_serving = await pair(engine, FEATURES)
    await first.open()
    await second.open()
    await first.result("shutdown")
    first.tell("exit")
    await asyncio.wait_for(first.ends(), 10)
    await asyncio.wait_for(first_serving, 10)
    assert await second.result("plait/echo", {"text": "still here"}) == {"text": "still here"}
    second.close()
    await second_serving


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("plait/echo", {"text": 5}),
        ("plait/echo", None),
        ("plait/echo", [1]),
        ("plait/echo", {"text": "x", "times": -1}),
        ("textDocument/codeLens", {"textDocument": None}),
        ("textDocument/codeLens", None),
        ("textDocument/codeLens", {"textDocument": {}}),
        ("textDocument/codeLens", "text"),
        ("plait/raw", "text"),
        ("workspace/executeCommand", None),
        ("workspace/executeCommand", {"command": 3}),
        ("workspace/executeCommand", {"command": "no.such"}),
        ("workspace/executeCommand", {"command": "tiny.accept", "arguments": [1]}),
        ("workspace/executeCommand", {"command": "tiny.accept", "arguments": [{}, {}]}),
        ("workspace/executeCommand", {"command": "tiny.accept", "arguments": {}}),
        ("workspace/executeCommand", {"command": "tiny.echo", "arguments": [{"text": []}]}),
    ],
)
async def test_malformed_parameters_are_answered(peer: Peer, method: str, params: object) -> None:
    error = await peer.error(method, params)
    assert error["code"] == -32602
    assert error["message"].endswith(".")
    assert await peer.result("plait/echo", {"text": "a"}) == {"text": "a"}


async def test_dicts_of_ours_come_and_go_unchanged(peer: Peer) -> None:
    tricky = {
        "src/main.py": 2,
        "class": 3,
        "type_name": "X",
        "n": None,
        "jsonrpc": "2.0",
        "method": "x",
        "id": {"a": []},
    }
    assert await peer.result("plait/raw", tricky) == tricky


async def test_an_expected_failure_carries_its_hint_and_data(peer: Peer) -> None:
    error = await peer.error("plait/stale", {})
    assert error == {
        "code": -32010,
        "message": "The text changed.",
        "data": {"kind": "StaleError", "hint": "Look again.", "version": 3},
    }


async def test_an_unexpected_failure_tells_no_detail_but_logs_it(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    error = await peer.error("plait/boom", {})
    assert error["code"] == -32603
    assert "secret text" not in json.dumps(error)
    assert "Traceback" not in json.dumps(error)
    assert any(record.exc_info and "secret text" in str(record.exc_info[1]) for record in caplog.records)


async def test_a_result_that_json_cannot_say_is_still_answered(peer: Peer) -> None:
    assert (await peer.error("plait/unspeakable", {}))["code"] == -32603


async def test_unknown_requests_are_answered_and_unknown_notifications_ignored(peer: Peer) -> None:
    peer.tell("$/whatever", {})
    peer.tell("plait/unheard", {"a": 1})
    assert (await peer.error("plait/unheard", {}))["code"] == -32601
    assert (await peer.error("$/whatever", {}))["code"] == -32601


async def test_requests_at_the_wrong_time_are_refused(engine: TinyEngine) -> None:
    client, _, serving = await pair(engine, FEATURES)
    assert (await client.error("plait/echo", {"text": "a"}))["code"] == -32002
    await client.open()
    assert (await client.error("initialize", {"capabilities": {}}))["code"] == -32600
    await client.result("shutdown")
    assert (await client.error("plait/echo", {"text": "a"}))["code"] == -32600
    client.close()
    await serving


async def test_another_major_version_is_refused_readably(engine: TinyEngine) -> None:
    client, _, serving = await pair(engine, FEATURES)
    options = {"plait": {"protocol": 7}}
    error = await client.error("initialize", {"capabilities": {}, "initializationOptions": options})
    assert error["code"] == -32600
    assert "version 7" in error["message"]
    client.close()
    await serving


@pytest.mark.parametrize(
    "odd",
    [
        {
            "textDocument": {"completion": {"completionItemKind": {"valueSet": ["no such kind"]}}},
            "workspace": {"applyEdit": True},
        },
        {"workspace": {"applyEdit": True}, "general": 7},
    ],
)
async def test_one_odd_capability_does_not_cost_the_others(engine: TinyEngine, odd: dict[str, Any]) -> None:
    client, connection, serving = await pair(engine, FEATURES)
    await client.result("initialize", {"capabilities": odd})
    assert connection.client.capabilities.workspace is not None
    assert connection.client.capabilities.workspace.apply_edit
    client.close()
    await serving


async def test_a_cancelled_request_is_answered_once_with_the_code_for_it(peer: Peer, engine: TinyEngine) -> None:
    number = peer.ask("plait/forever", {})
    await eventually(lambda: engine.count == 1)
    peer.tell("$/cancelRequest", {"id": number})
    answer = await peer.answer_to(number)
    assert answer["error"]["code"] == -32800
    assert engine.count == 0
    peer.tell("$/cancelRequest", {"id": number})
    peer.tell("$/cancelRequest", {"id": 9999})
    peer.tell("$/cancelRequest", None)
    await peer.result("plait/echo", {"text": "a"})
    assert [message.get("id") for message in peer.seen].count(number) == 1


async def test_a_request_and_its_cancellation_in_one_packet_give_one_answer(peer: Peer) -> None:
    numbers = [peer.ask("plait/forever", {}) for _ in range(50)]
    for number in numbers:
        peer.tell("$/cancelRequest", {"id": number})
    for number in numbers:
        assert (await peer.answer_to(number))["error"]["code"] == -32800


async def test_what_changes_something_is_not_cancelled(peer: Peer, engine: TinyEngine) -> None:
    number = peer.ask("plait/slowChange", {"name": "a"})
    peer.tell("$/cancelRequest", {"id": number})
    assert (await peer.answer_to(number))["result"] == {"done": True}
    assert engine.finished == ["a"]


async def test_what_changes_something_is_finished_when_the_client_vanishes(engine: TinyEngine) -> None:
    client, _, serving = await pair(engine, FEATURES)
    await client.open()
    client.ask("plait/slowChange", {"name": "b"})
    client.ask("plait/forever", {})
    await eventually(lambda: engine.count == 1)
    client.writer.transport.abort()
    await asyncio.wait_for(serving, 10)
    assert engine.finished == ["b"]
    assert engine.count == 0


async def test_a_client_that_only_closed_its_sending_side_still_gets_its_answers(engine: TinyEngine) -> None:
    client, _, serving = await pair(engine, FEATURES)
    await client.open()
    number = client.ask("plait/slowChange", {"name": "c"})
    client.writer.write_eof()
    assert (await client.answer_to(number))["result"] == {"done": True}
    await client.ends()
    await serving
    client.close()


async def test_every_request_of_a_mixed_burst_is_answered_exactly_once(peer: Peer) -> None:
    methods = ["plait/echo", "plait/boom", "plait/none", "plait/stale", "plait/slowChange", "textDocument/codeLens"]
    numbers = [peer.ask(methods[turn % len(methods)], {"text": "x"}, f"r{turn}") for turn in range(600)]
    answered: list[str] = []
    while len(answered) < len(numbers):
        message = await peer.receive()
        assert message is not None
        answered.append(str(message["id"]))
    await peer.result("plait/echo", {"text": "nothing more comes"})
    answered = [str(message["id"]) for message in peer.seen if str(message.get("id")).startswith("r")]
    assert sorted(answered) == sorted(str(number) for number in numbers)


async def test_an_id_that_is_still_at_work_is_refused(peer: Peer, engine: TinyEngine) -> None:
    peer.ask("plait/forever", {}, "same")
    await eventually(lambda: engine.count == 1)
    peer.ask("plait/echo", {"text": "a"}, "same")
    assert (await peer.answer_to("same"))["error"]["code"] == -32600
    peer.tell("$/cancelRequest", {"id": "same"})
    assert (await peer.answer_to("same"))["error"]["code"] == -32800


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0"},
        {"jsonrpc": "2.0", "id": 3},
        {"jsonrpc": "2.0", "id": None, "method": "plait/raw"},
        {"jsonrpc": "2.0", "id": [1], "method": "plait/raw"},
        {"jsonrpc": "2.0", "id": True, "method": "plait/raw"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "plait/raw"},
        {"jsonrpc": "2.0", "method": 5},
    ],
)
async def test_messages_that_are_none_are_answered_as_invalid(peer: Peer, message: dict[str, Any]) -> None:
    peer.send(message)
    answer = await peer.receive()
    assert answer is not None
    assert answer["error"]["code"] == -32600
    assert await peer.result("plait/echo", {"text": "a"}) == {"text": "a"}


async def test_answers_to_nothing_are_ignored(peer: Peer) -> None:
    peer.send({"jsonrpc": "2.0", "id": 77, "result": None})
    peer.send({"jsonrpc": "2.0", "id": [1], "result": None})
    peer.send({"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "x"}})
    assert await peer.result("plait/echo", {"text": "a"}) == {"text": "a"}


@pytest.mark.parametrize(
    "data",
    [
        frame(b'{"jsonrpc":"2.0","id":1,"method":"plait/raw","params":{"x":NaN}}'),
        frame(b'{"x":' + b"[" * 300 + b"]" * 300 + b"}"),
        frame(b"[" * 200_000),
        frame(b"\xff\xfe"),
        frame(b"[]"),
        frame(b""),
        b"Content-Length: 99999999999\r\n\r\n",
        b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"x" * 20_000,
    ],
)
async def test_broken_messages_end_their_connection_alone(engine: TinyEngine, data: bytes) -> None:
    bystander, _, other_serving = await pair(engine, FEATURES)
    client, _, serving = await pair(engine, FEATURES)
    await bystander.open()
    await client.open()
    client.writer.write(data)
    answer = await client.receive()
    assert answer is not None
    assert answer["id"] is None
    assert answer["error"]["code"] in (-32700, -32600)
    await asyncio.wait_for(client.ends(), 10)
    await asyncio.wait_for(serving, 10)
    assert await bystander.result("plait/echo", {"text": "a"}) == {"text": "a"}
    client.close()
    bystander.close()
    await other_serving


async def test_the_server_asks_and_the_client_answers(peer: Peer) -> None:
    number = peer.ask("plait/ask", {})
    question = await peer.receive()
    assert question is not None
    assert (question["method"], question["params"]) == ("tiny/question", {"a": 1})
    peer.send({"jsonrpc": "2.0", "id": question["id"], "result": {"class": [1]}})
    assert (await peer.answer_to(number))["result"] == {"answer": {"class": [1]}}


async def test_a_refusal_of_the_client_becomes_an_error_of_the_request(peer: Peer) -> None:
    number = peer.ask("plait/ask", {})
    question = await peer.receive()
    assert question is not None
    peer.send({"jsonrpc": "2.0", "id": question["id"], "error": {"code": 5, "message": "no"}})
    error = (await peer.answer_to(number))["error"]
    assert "no" in error["message"]
    assert error["data"]["code"] == 5


async def test_a_question_is_withdrawn_when_its_request_is_cancelled(peer: Peer) -> None:
    number = peer.ask("plait/ask", {})
    question = await peer.receive()
    assert question is not None
    peer.tell("$/cancelRequest", {"id": number})
    await peer.answer_to(number)
    assert {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": question["id"]}} in peer.seen


async def test_edits_are_applied_through_the_client(peer: Peer) -> None:
    number = peer.ask("plait/edit", {"uri": "file:///a.py"})
    question = await peer.receive()
    assert question is not None
    assert question["method"] == "workspace/applyEdit"
    assert question["params"]["label"] == "Accept"
    assert question["params"]["edit"]["changes"]["file:///a.py"][0]["newText"] == "new\n"
    peer.send({"jsonrpc": "2.0", "id": question["id"], "result": {"applied": True}})
    assert (await peer.answer_to(number))["result"] == {"applied": True}


@pytest.mark.parametrize("answer", [None, {}, [], 3, {"done": True}])
async def test_a_nonsense_answer_to_an_edit_is_an_error_not_a_hang(peer: Peer, answer: object) -> None:
    number = peer.ask("plait/edit", {"uri": "file:///a.py"})
    question = await peer.receive()
    assert question is not None
    peer.send({"jsonrpc": "2.0", "id": question["id"], "result": answer})
    assert "error" in await peer.answer_to(number)


async def test_edits_are_not_asked_of_a_client_that_cannot_apply_them(engine: TinyEngine) -> None:
    client, _, serving = await pair(engine, FEATURES)
    await client.result("initialize", {"capabilities": {}})
    error = await client.error("plait/edit", {"uri": "file:///a.py"})
    assert "does not apply edits" in error["message"]
    client.close()
    await serving


async def test_nothing_of_ours_is_sent_to_a_client_that_did_not_ask(engine: TinyEngine) -> None:
    client, connection, serving = await pair(engine, FEATURES)
    options = {"plait": {"forwarder": {"version": "1", "pid": 4, "cwd": "/", "env": {"PATH": "/bin", "X": 3}}}}
    await client.result("initialize", {"capabilities": {}, "initializationOptions": options})
    assert await client.result("plait/flood", {"size": 1, "count": 3}) == {"sent": 0}
    assert connection.client.forwarder is not None
    assert connection.client.forwarder.env == {"PATH": "/bin"}
    assert [message for message in client.seen if "method" in message] == []
    client.close()
    await serving


async def test_commands_take_one_optional_object(peer: Peer) -> None:
    run = "workspace/executeCommand"
    answer = await peer.result(run, {"command": "tiny.accept", "arguments": [{"src/x.py": 1}]})
    assert answer == {"ok": True, "accepted": [{"src/x.py": 1}]}
    assert (await peer.error(run, {"command": "tiny.accept"}))["code"] == NothingToDo.code
    assert (await peer.error(run, {"command": "tiny.accept", "arguments": [None]}))["code"] == NothingToDo.code
    assert await peer.result(run, {"command": "tiny.echo", "arguments": [{"text": "ab", "times": 2}]}) == {
        "text": "abab"
    }


async def test_types_of_lsp_are_sent_in_its_form(peer: Peer) -> None:
    lenses = await peer.result("textDocument/codeLens", {"textDocument": {"uri": "file:///a.py"}})
    assert lenses[0]["command"] == {"title": "Accept", "command": "tiny.accept", "arguments": [{"uri": "file:///a.py"}]}
    answer = await peer.result("workspace/textDocumentContent", {"uri": "plait:/a"})
    assert answer == {"text": "content of plait:/a\n"}


async def test_the_text_is_right_for_each_request_of_one_packet(peer: Peer) -> None:
    uri = "file:///a%20b.py"
    peer.tell(
        "textDocument/didOpen",
        {"textDocument": {"uri": uri, "languageId": "python", "version": 0, "text": "a\x0cb\nc"}},
    )
    first = peer.ask("plait/document", {"uri": "file:///a b.py"})
    change = {"range": {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 1}}, "text": "Z"}
    peer.tell("textDocument/didChange", {"textDocument": {"uri": uri, "version": 9}, "contentChanges": [change]})
    second = peer.ask("plait/document", {"uri": uri})
    peer.tell("textDocument/didClose", {"textDocument": {"uri": uri}})
    third = peer.ask("plait/document", {"uri": uri})
    assert (await peer.answer_to(first))["result"] == {"text": "a\x0cb\nc", "version": 0, "path": "/a b.py"}
    assert (await peer.answer_to(second))["result"] == {"text": "a\x0cb\nZ", "version": 9, "path": "/a b.py"}
    assert (await peer.answer_to(third))["result"] is None
    published = [message for message in peer.seen if message.get("method") == "textDocument/publishDiagnostics"]
    assert published[0]["params"]["diagnostics"][0]["source"] == "plait"


async def test_a_malformed_change_loses_the_document_rather_than_misplace_edits(peer: Peer) -> None:
    uri = "file:///a.py"
    item = {"uri": uri, "languageId": "python", "version": 1, "text": "a\n"}
    peer.tell("textDocument/didOpen", {"textDocument": item})
    peer.tell("textDocument/didChange", {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [{"text": 5}]})
    assert await peer.result("plait/document", {"uri": uri}) is None


async def test_notify_may_be_called_from_any_thread(peer: Peer, engine: TinyEngine) -> None:
    client, connection, serving = await pair(engine, FEATURES)
    await client.open()
    threads = [threading.Thread(target=connection.notify, args=("plait/didChangeStatus", {"n": n})) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [await client.receive() for _ in range(20)]
    assert sorted(message["params"]["n"] for message in got if message is not None) == list(range(20))
    client.close()
    await serving


async def test_a_client_that_never_reads_is_dropped_and_the_others_do_not_notice(
    engine: TinyEngine, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, connection, stuck_serving = await pair(engine, FEATURES)
    lively, _, lively_serving = await pair(engine, FEATURES)
    await stuck.open()
    await lively.open()
    stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]  # unix transports have it
    highest, slowest = 0, 0.0
    loop = asyncio.get_running_loop()
    for _ in range(80):
        connection.notify("plait/didChangeStatus", {"message": "x" * (1 << 20)})
        highest = max(highest, connection.unread)
        began = loop.time()
        await lively.result("plait/echo", {"text": "a"})
        slowest = max(slowest, loop.time() - began)
    assert connection.closing
    assert highest <= MAX_UNREAD + (2 << 20)
    assert slowest < 0.5
    await asyncio.wait_for(stuck_serving, 10)
    assert "does not read" in caplog.text
    stuck.writer.transport.abort()
    lively.close()
    await lively_serving


async def test_a_client_that_asks_without_reading_is_not_read_any_further(engine: TinyEngine) -> None:
    client, connection, serving = await pair(engine, FEATURES)
    await client.open()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # unix transports have it
    for _ in range(200):
        client.ask("plait/echo", {"text": "x", "times": 1 << 18})
    await eventually(lambda: connection.unread > 8 << 20)
    for _ in range(50):
        await asyncio.sleep(0)
    assert connection.unread < 12 << 20
    assert not connection.closing
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # unix transports have it
    for number in range(2, 202):
        assert len((await client.answer_to(number))["result"]["text"]) == 1 << 18
    client.close()
    await serving


async def test_too_many_requests_at_once_are_refused_one_by_one(peer: Peer, engine: TinyEngine) -> None:
    numbers = [peer.ask("plait/forever", {}) for _ in range(1100)]
    await eventually(lambda: engine.count == 1024)
    for number in numbers[1024:]:
        assert (await peer.answer_to(number))["error"]["code"] == -32012


async def test_twenty_clients_at_once_each_get_their_own_answers(engine: TinyEngine) -> None:
    async def talk(name: str) -> None:
        client, _, serving = await pair(engine, FEATURES)
        await client.open()
        for turn in range(50):
            assert await client.result("plait/echo", {"text": f"{name}{turn}"}) == {"text": f"{name}{turn}"}
        client.close()
        await serving

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(talk(f"client {number} "))


async def test_closed_connections_are_collected(engine: TinyEngine) -> None:
    seen: list[weakref.ref[Connection]] = []

    async def visit() -> None:
        client, connection, serving = await pair(engine, FEATURES)
        seen.append(weakref.ref(connection))
        await client.open()
        item = {"uri": "file:///a.py", "languageId": "python", "version": 1, "text": "a\n"}
        client.tell("textDocument/didOpen", {"textDocument": item})
        await client.result("textDocument/codeLens", {"textDocument": {"uri": "file:///a.py"}})
        await client.result("plait/raw", {"a": 1})
        client.close()
        await serving

    for _ in range(30):
        await visit()
    await asyncio.sleep(0)
    gc.collect()
    assert [reference for reference in seen if reference() is not None] == []


async def test_hooks_run_once_per_connection(engine: TinyEngine) -> None:
    calls: list[str] = []

    def adjust(connection: Connection, capabilities: types.ServerCapabilities) -> None:
        capabilities.experimental = {**(capabilities.experimental or {}), "more": connection.client.name}

    features = Features(
        opened=lambda connection: calls.append("opened"),
        closed=lambda connection: calls.append("closed"),
        adjust=adjust,
    )
    client, _, serving = await pair(engine, features)
    answer = await client.result("initialize", {"capabilities": {}, "clientInfo": {"name": "Ed"}})
    assert answer["capabilities"]["experimental"]["more"] == "Ed"
    silent, _, silent_serving = await pair(engine, features)
    silent.close()
    client.close()
    await silent_serving
    await serving
    assert calls == ["opened", "closed"]


async def test_workspace_folders_follow_the_editor(peer: Peer) -> None:
    event = {"added": [{"uri": "file:///b", "name": "b"}, {"uri": "file:///c", "name": "c"}], "removed": []}
    peer.tell("workspace/didChangeWorkspaceFolders", {"event": event})
    event = {"added": [], "removed": [{"uri": "file:///b", "name": "b"}]}
    peer.tell("workspace/didChangeWorkspaceFolders", {"event": event})
    assert (await peer.result("plait/who", {}))["folders"] == ["file:///c"]


async def test_what_lies_in_messages_stays_out_of_the_log(engine: TinyEngine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client, _, serving = await pair(engine, FEATURES)
    await client.open()
    await client.result("plait/echo", {"text": "canary-4711"})
    await client.error("plait/echo", {"text": ["canary-4711"]})
    client.tell("textDocument/didOpen", {"textDocument": {"uri": 3, "text": "canary-4711"}})
    await client.result("plait/raw", {})
    client.close()
    await serving
    assert "canary-4711" not in caplog.text


def test_a_name_may_be_in_the_tables_only_once() -> None:
    with pytest.raises(ValueError, match="plait/a"):
        Features(methods=(Method("plait/a", lambda *_: None), Method("plait/a", lambda *_: None)))
