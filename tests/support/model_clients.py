"""Strict clients of the scripted model server: how each protocol says a transcript, and what its answers say."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.models import ModelServer, Tokens

Json = dict[str, Any]

CWD = "Working directory: /home/ada/tree\n"


@dataclass(frozen=True)
class Answer:
    """What came back, as bytes and as what they say."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def object(self) -> Json:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found

    def events(self) -> list[tuple[str | None, Any]]:
        """The server-sent events, each with its name; anything that is not one fails."""
        assert self.headers["content-type"].startswith("text/event-stream")
        assert self.body.endswith(b"\n\n")
        found: list[tuple[str | None, Any]] = []
        for block in self.body.decode().removesuffix("\n\n").split("\n\n"):
            lines = block.split("\n")
            name = lines.pop(0).removeprefix("event: ") if lines[0].startswith("event: ") else None
            assert len(lines) == 1
            assert lines[0].startswith("data: ")
            text = lines[0].removeprefix("data: ")
            found.append((name, text if text == "[DONE]" else json.loads(text)))
        return found


def post(models: ModelServer, scenario: str, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", models.port, timeout=30)
    try:
        sent = {"content-type": "application/json", **(headers or {})}
        connection.request("POST", f"/s/{scenario}{path}", json.dumps(body), sent)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


@dataclass(frozen=True)
class Client:
    """A client of one protocol with one tool that writes files: how it says a transcript."""

    name: str
    path: str

    def body(self, prompts: Sequence[str], results: int = 0, *, tools: bool = True, stream: bool = True) -> Json:
        """The request after these prompts; each earlier turn had one reply, the last has so many tool results."""
        schema = {"type": "object", "properties": {"file_path": {"type": "string"}, "content": {"type": "string"}}}
        declared: list[Json]
        match self.name:
            case "anthropic":
                messages: list[Json] = []
                for prompt in prompts:
                    messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": "Yes."}]
                messages.pop()
                for number in range(results):
                    use = {"type": "tool_use", "id": f"t{number}", "name": "Write", "input": {}}
                    result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": "ok"}
                    messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
                declared = [{"name": "Write", "input_schema": schema}]
                body: Json = {"model": "m", "system": CWD, "messages": messages, "stream": stream}
                return body | ({"tools": declared} if tools else {})
            case "responses":
                items: list[Json] = []
                for prompt in prompts:
                    items += [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": prompt}]}]
                    items += [{"type": "message", "role": "assistant", "content": "Yes."}]
                items.pop()
                for number in range(results):
                    items += [{"type": "function_call", "call_id": f"c{number}", "name": "Write", "arguments": "{}"}]
                    items += [{"type": "function_call_output", "call_id": f"c{number}", "output": "ok"}]
                declared = [{"type": "function", "name": "Write", "parameters": schema}]
                body = {"model": "m", "instructions": CWD, "input": items, "stream": stream}
                return body | ({"tools": declared} if tools else {})
            case "chat":
                messages = [{"role": "system", "content": CWD}]
                for prompt in prompts:
                    messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": "Yes."}]
                messages.pop()
                for number in range(results):
                    call = {"id": f"c{number}", "type": "function", "function": {"name": "Write", "arguments": "{}"}}
                    messages += [{"role": "assistant", "content": None, "tool_calls": [call]}]
                    messages += [{"role": "tool", "tool_call_id": f"c{number}", "content": "ok"}]
                declared = [{"type": "function", "function": {"name": "Write", "parameters": schema}}]
                return {"model": "m", "messages": messages, "stream": stream} | ({"tools": declared} if tools else {})
            case _:
                contents: list[Json] = []
                for prompt in prompts:
                    contents += [{"role": "user", "parts": [{"text": prompt}]}]
                    contents += [{"role": "model", "parts": [{"text": "Yes."}]}]
                contents.pop()
                for _ in range(results):
                    contents += [{"role": "model", "parts": [{"functionCall": {"name": "Write", "args": {}}}]}]
                    contents += [{"role": "user", "parts": [{"functionResponse": {"name": "Write", "response": {}}}]}]
                declared = [{"functionDeclarations": [{"name": "Write", "parametersJsonSchema": schema}]}]
                body = {"systemInstruction": {"parts": [{"text": CWD}]}, "contents": contents}
                return body | ({"tools": declared} if tools else {})

    def ask(self, models: ModelServer, scenario: str, prompts: Sequence[str] = ("Do it.",), results: int = 0) -> Answer:
        return post(models, scenario, self.path, self.body(prompts, results))

    def text(self, answer: Answer) -> str:
        """The text that the model said."""
        match self.name:
            case "anthropic":
                deltas = [data["delta"] for _, data in answer.events() if data["type"] == "content_block_delta"]
                return "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")
            case "responses":
                return "".join(d["delta"] for _, d in answer.events() if d["type"] == "response.output_text.delta")
            case "chat":
                chunks = [data for _, data in answer.events() if data != "[DONE]" and data["choices"]]
                return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
            case _:
                parts = [d["candidates"][0]["content"]["parts"][0] for _, d in answer.events()]
                return "".join(part.get("text", "") for part in parts if not part.get("thought"))

    def usage(self, answer: Answer) -> Tokens:
        """What the answer says that it cost."""
        match self.name:
            case "anthropic":
                first = answer.events()[0][1]["message"]["usage"]
                output = answer.events()[-2][1]["usage"]["output_tokens"]
                read, written = first["cache_read_input_tokens"], first["cache_creation_input_tokens"]
                return Tokens(first["input_tokens"], read, written, output, 0, 1)
            case "responses":
                usage = answer.events()[-1][1]["response"]["usage"]
                cached = usage["input_tokens_details"]["cached_tokens"]
                thought = usage["output_tokens_details"]["reasoning_tokens"]
                assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
                return Tokens(usage["input_tokens"] - cached, cached, 0, usage["output_tokens"], thought, 1)
            case "chat":
                usage = answer.events()[-2][1]["usage"]
                cached = usage["prompt_tokens_details"]["cached_tokens"]
                thought = usage["completion_tokens_details"]["reasoning_tokens"]
                return Tokens(usage["prompt_tokens"] - cached, cached, 0, usage["completion_tokens"], thought, 1)
            case _:
                usage = answer.events()[-1][1]["usageMetadata"]
                cached, thought = usage["cachedContentTokenCount"], usage["thoughtsTokenCount"]
                output = usage["candidatesTokenCount"] + thought
                assert usage["totalTokenCount"] == usage["promptTokenCount"] + output
                return Tokens(usage["promptTokenCount"] - cached, cached, 0, output, thought, 1)


ANTHROPIC = Client("anthropic", "/v1/messages")
RESPONSES = Client("responses", "/v1/responses")
CHAT = Client("chat", "/v1/chat/completions")
GEMINI = Client("gemini", "/v1beta/models/m:streamGenerateContent")
CLIENTS = (ANTHROPIC, RESPONSES, CHAT, GEMINI)
