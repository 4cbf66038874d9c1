"""The scripted model server: each protocol as a strict reader takes it, tools by the names in the client's schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.support.model_clients import ANTHROPIC, CHAT, GEMINI, RESPONSES, Json, post
from tests.support.models import (
    SIDE_TEXT,
    AskUser,
    Edit,
    Fault,
    ModelServer,
    Plan,
    Raw,
    Read,
    Scenario,
    Shell,
    Step,
    Tool,
    Write,
)

WRITES = (Step("I will write it.", Write("hello.txt", "hello\n"), thought="How?"), Step("Done: wrote hello.txt."))


def function(name: str, *properties: str) -> Json:
    schema = {"type": "object", "properties": {one: {"type": "string"} for one in properties}}
    return {"name": name, "description": "A tool.", "input_schema": schema}


def test_anthropic_streams_every_block_between_its_start_and_stop(models: ModelServer) -> None:
    events = ANTHROPIC.ask(models, models.put("a", Scenario([WRITES]))).events()
    assert all(name == data["type"] for name, data in events)
    kinds = [data["type"] for _, data in events]
    assert kinds[:2] == ["message_start", "ping"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert events[-2][1]["delta"]["stop_reason"] == "tool_use"
    open_block: int | None = None
    blocks: dict[int, str] = {}
    for _, data in events[2:-2]:
        match data["type"]:
            case "content_block_start":
                assert open_block is None
                open_block = data["index"]
                assert open_block == len(blocks)
                blocks[open_block] = ""
            case "content_block_delta":
                assert data["index"] == open_block
                delta = data["delta"]
                blocks[data["index"]] += delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
            case "content_block_stop":
                assert data["index"] == open_block
                open_block = None
            case other:
                pytest.fail(f"{other} does not belong here")
    assert blocks[0] == "How?"
    assert blocks[1] == "I will write it."
    assert json.loads(blocks[2]) == {"file_path": "/home/ada/tree/hello.txt", "content": "hello\n"}


def test_responses_streams_every_item_between_its_start_and_end(models: ModelServer) -> None:
    events = RESPONSES.ask(models, models.put("r", Scenario([WRITES]))).events()
    assert all(name == data["type"] for name, data in events)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    kinds = [data["type"].removeprefix("response.") for _, data in events]
    assert kinds[:2] == ["created", "in_progress"]
    assert kinds[-1] == "completed"
    order = list(dict.fromkeys(kinds[2:-1]))
    assert order == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "function_call_arguments.delta",
        "function_call_arguments.done",
    ]
    output = events[-1][1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert output == [data["item"] for _, data in events if data["type"] == "response.output_item.done"]
    pieces = [d["delta"] for _, d in events if d["type"] == "response.function_call_arguments.delta"]
    assert "".join(pieces) == output[2]["arguments"]
    assert json.loads(output[2]["arguments"])["file_path"] == "/home/ada/tree/hello.txt"


def test_chat_streams_chunks_the_usage_and_a_last_word(models: ModelServer) -> None:
    events = CHAT.ask(models, models.put("c", Scenario([WRITES]))).events()
    assert events[-1] == (None, "[DONE]")
    chunks = [data for _, data in events[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[-1]["choices"] == []
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]]
    assert finishes == [None] * (len(finishes) - 1) + ["tool_calls"]
    calls = [call for c in chunks[:-1] for call in c["choices"][0]["delta"].get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "Write"
    assert calls[0]["id"].startswith("call_")
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(arguments) == {"file_path": "/home/ada/tree/hello.txt", "content": "hello\n"}


def test_gemini_streams_parts_and_ends_with_the_usage(models: ModelServer) -> None:
    events = GEMINI.ask(models, models.put("g", Scenario([WRITES]))).events()
    candidates = [data["candidates"][0] for _, data in events]
    assert [candidate.get("finishReason") for candidate in candidates] == [None] * (len(events) - 1) + ["STOP"]
    assert all(candidate["content"]["role"] == "model" for candidate in candidates)
    calls = [
        p["functionCall"] for candidate in candidates for p in candidate["content"]["parts"] if "functionCall" in p
    ]
    assert [call["args"]["file_path"] for call in calls] == ["/home/ada/tree/hello.txt"]


def test_replies_that_are_not_streamed_say_the_same(models: ModelServer) -> None:
    models.put("whole", Scenario([WRITES]))
    anthropic = post(models, "whole", ANTHROPIC.path, ANTHROPIC.body(["Do it."], stream=False)).object
    assert [block["type"] for block in anthropic["content"]] == ["thinking", "text", "tool_use"]
    assert anthropic["stop_reason"] == "tool_use"
    responses = post(models, "whole", RESPONSES.path, RESPONSES.body(["Do it."], stream=False)).object
    assert [item["type"] for item in responses["output"]] == ["reasoning", "message", "function_call"]
    chat = post(models, "whole", CHAT.path, CHAT.body(["Do it."], stream=False)).object
    assert chat["choices"][0]["finish_reason"] == "tool_calls"
    assert "index" not in chat["choices"][0]["message"]["tool_calls"][0]
    gemini = post(models, "whole", "/v1beta/models/m:generateContent", GEMINI.body(["Do it."])).object
    assert [next(iter(part)) for part in gemini["candidates"][0]["content"]["parts"]] == [
        "text",
        "text",
        "functionCall",
    ]
    assert models.spent("whole").main.requests == 4


TOOLS: Sequence[tuple[Tool, Json, Json]] = (
    (
        Write("a/b.txt", "x"),
        function("write", "filePath", "content"),
        {"filePath": "/home/ada/tree/a/b.txt", "content": "x"},
    ),
    (Write("/abs", "x"), function("create", "path", "file_text"), {"path": "/abs", "file_text": "x"}),
    (
        Edit("a", "o", "n"),
        function("edit", "path", "old_str", "new_str"),
        {"path": "/home/ada/tree/a", "old_str": "o", "new_str": "n"},
    ),
    (Read("a"), function("view", "path"), {"path": "/home/ada/tree/a"}),
    (Shell("ls"), function("exec_command", "cmd"), {"cmd": "ls"}),
    (Read("a b"), function("Bash", "command"), {"command": "cat 'a b'"}),
    (
        Plan(("a", "b", "c")),
        function("update_plan", "plan"),
        {
            "plan": [
                {"step": "a", "status": "completed"},
                {"step": "b", "status": "in_progress"},
                {"step": "c", "status": "pending"},
            ]
        },
    ),
    (
        AskUser("Which?", ("red", "blue")),
        function("ask_user", "question", "choices"),
        {"question": "Which?", "choices": ["red", "blue"]},
    ),
    (Raw("anything", {"a": 1}), function("other"), {"a": 1}),
)


@pytest.mark.parametrize(("tool", "declared", "expected"), TOOLS)
def test_a_tool_is_called_by_the_names_in_the_clients_schema(
    models: ModelServer, tool: Tool, declared: Json, expected: Json
) -> None:
    scenario = models.put("tools", Scenario([[Step(tool=tool)]]))
    body = {**ANTHROPIC.body(["Do it."], stream=False), "tools": [declared]}
    (block,) = post(models, scenario, ANTHROPIC.path, body).object["content"]
    assert block["input"] == expected


def test_escalation_is_asked_for_where_the_client_knows_it(models: ModelServer) -> None:
    scenario = models.put("escalate", Scenario([[Step(tool=Shell("ls", escalate=True))]]))
    declared = function("exec_command", "cmd", "sandbox_permissions", "justification")
    body = {**ANTHROPIC.body(["Do it."], stream=False), "tools": [declared]}
    (block,) = post(models, scenario, ANTHROPIC.path, body).object["content"]
    assert block["input"]["sandbox_permissions"] == "require_escalated"


def test_codex_gets_patches_as_text_also_within_a_namespace(models: ModelServer) -> None:
    scenario = models.put(
        "patch", Scenario([[Step(tool=Write("a.txt", "one\ntwo\n")), Step(tool=Edit("a", "x", "y"))]])
    )
    body = {**RESPONSES.body(["Do it."], stream=False), "tools": [{"type": "custom", "name": "apply_patch"}]}
    (item,) = post(models, scenario, RESPONSES.path, body).object["output"]
    assert item["type"] == "custom_tool_call"
    assert item["input"] == "*** Begin Patch\n*** Add File: a.txt\n+one\n+two\n*** End Patch\n"
    space = {"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}
    body = RESPONSES.body(["Do it."], 1, tools=False)
    body["input"].insert(0, {"type": "additional_tools", "role": "developer", "tools": [space]})
    events = post(models, scenario, RESPONSES.path, body).events()
    (item,) = events[-1][1]["response"]["output"]
    assert (item["type"], item["name"], item["namespace"]) == ("custom_tool_call", "exec", "functions")
    assert "tools.apply_patch(" in item["input"]
    assert "".join(d["delta"] for n, d in events if n == "response.custom_tool_call_input.delta") == item["input"]


def test_a_client_without_a_tool_is_told_so_and_plans_are_left_out(models: ModelServer) -> None:
    steps = [Step("A plan.", Plan(("a",))), Step("Look.", Shell("ls")), Step("Done.")]
    scenario = models.put("lacking", Scenario([steps]))
    assert "The client declared no tool for Shell(command='ls'" in CHAT.text(CHAT.ask(models, scenario))
    assert CHAT.text(CHAT.ask(models, scenario, results=1)) == "Done."


def aider(prompts: Sequence[str], *, failed: int = 0) -> Json:
    """A request as Aider makes it: examples, a new start, earlier turns, files, the prompt with its rules."""
    messages: list[Json] = [{"role": "system", "content": "Act as an expert. Use *SEARCH/REPLACE blocks*."}]
    for example in ("Change get_factorial().", "Refactor hello().", "I switched to a new code base. Please wait."):
        messages += [{"role": "user", "content": example}, {"role": "assistant", "content": "Ok."}]
    for prompt in prompts[:-1]:
        messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": "Done."}]
        messages += [{"role": "user", "content": "I updated the files."}, {"role": "assistant", "content": "Ok."}]
    messages += [{"role": "user", "content": "I have *added these files to the chat*: a.py"}]
    messages += [{"role": "assistant", "content": "Ok."}, {"role": "user", "content": prompts[-1]}]
    for _ in range(failed):
        messages += [{"role": "assistant", "content": "Edit."}]
        messages += [{"role": "user", "content": "# 1 SEARCH/REPLACE block failed to match!"}]
    messages[-1]["content"] += "\n\n# *SEARCH/REPLACE block* Rules:\n\nEvery block ..."
    return {"model": "m", "messages": messages, "stream": True}


def test_aider_gets_a_whole_turn_as_one_text_with_blocks(models: ModelServer) -> None:
    turn = [Step("I write.", Write("a.txt", "new\n")), Step("I edit.", Edit("b.txt", "old", "new")), Step("Done.")]
    scenario = models.put("aider", Scenario([turn, [Step("Again.")]], [Fault(429)]))
    assert post(models, scenario, CHAT.path, aider(["Do it."])).status == 429
    text = CHAT.text(post(models, scenario, CHAT.path, aider(["Do it."])))
    assert "a.txt\n```\n<<<<<<< SEARCH\n=======\nnew\n>>>>>>> REPLACE\n```" in text
    assert "b.txt\n```\n<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE\n```" in text
    assert text.endswith("Done.\n")
    assert CHAT.text(post(models, scenario, CHAT.path, aider(["Do it."], failed=1))) == "Done."
    assert CHAT.text(post(models, scenario, CHAT.path, aider(["Do it.", "And again."]))).strip() == "Again."
    assert [one.prompt for one in models.requests(scenario)][-1] == "And again."
    summary = {"model": "m", "messages": [{"role": "user", "content": "Summarize."}], "stream": True}
    assert CHAT.text(post(models, scenario, CHAT.path, summary)) == SIDE_TEXT
    assert models.spent(scenario).side.requests == 1


def test_a_side_request_that_wants_json_gets_what_fits_its_schema(models: ModelServer) -> None:
    scenario = models.put("json", Scenario([WRITES]))
    schema = {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string"},
            "next_speaker": {"type": "string", "enum": ["model", "user"]},
            "score": {"type": "integer", "minimum": 3},
            "parts": {"type": "array"},
        },
    }
    settings = {"responseMimeType": "application/json", "responseJsonSchema": schema}
    body = {**GEMINI.body(["Who speaks?"], tools=False), "generationConfig": settings}
    answer = post(models, scenario, "/v1beta/models/m:generateContent", body).object
    said = json.loads(answer["candidates"][0]["content"]["parts"][0]["text"])
    assert said == {"reasoning": "scripted", "next_speaker": "user", "score": 3, "parts": []}
