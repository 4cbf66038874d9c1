"""OpenAI's chat completions as a scripted model speaks them (platform.openai.com: Chat, streaming, error codes)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.support.model_script import MIDDLE, Ask, Declared, Dialect, Json, Reply, Tokens, cut, sse, typed

LIMITS = {
    "x-ratelimit-limit-requests": "1000",
    "x-ratelimit-remaining-requests": "990",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "400000",
    "x-ratelimit-remaining-tokens": "390000",
    "x-ratelimit-reset-tokens": "6m0s",
}
"""What an account with an API key is told."""


def read(path: str, body: Json) -> Ask:
    messages = [{**message, "content": _text(message)} for message in body.get("messages", [])]
    everything = "\n".join(str(message["content"]) for message in messages)
    tools = [tool.get("function") or tool.get("custom") or {} for tool in body.get("tools") or ()]
    customs = {tool["custom"]["name"] for tool in body.get("tools") or () if "custom" in tool}
    blocks = not tools and "SEARCH/REPLACE" in everything and bool(messages) and messages[0].get("role") == "system"
    prompts: list[str] = []
    results = 0
    answered = False
    for message in messages:
        is_result = message.get("role") == "tool"
        results += is_result and not answered
        answered = is_result
        said = typed(message["content"]).partition(_AIDER_RULES)[0] if message.get("role") == "user" else ""
        if blocks and said.startswith(_AIDER_FAILED):
            results += 1
        elif said and not (blocks and said.startswith(_AIDER_ADDED)):
            prompts.append(said)
            results = 0
    if blocks:
        # Aider shows the model how it is done before the conversation begins, and says so when that is over.
        starts = [place for place, said in enumerate(prompts) if said.startswith(_AIDER_STARTS)]
        prompts = prompts[starts[-1] + 1 :] if starts else prompts
    return Ask(
        model=str(body.get("model", "")),
        streamed=bool(body.get("stream")),
        tools={
            tool["name"]: Declared(
                tool["name"], tool.get("parameters") or {}, tool["name"] in customs, None, tool.get("description", "")
            )
            for tool in tools
        },
        typed=tuple(prompts),
        results=results,
        text=everything,
        answer_schema=((body.get("response_format") or {}).get("json_schema") or {}).get("schema"),
        blocks=blocks,
    )


def stream(reply: Reply) -> Iterator[bytes | None]:
    head = {**_head(reply), "object": "chat.completion.chunk"}

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        return sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    yield chunk({"role": "assistant", "content": ""})
    deltas: list[Json] = [{"reasoning_content": text} for text in cut(reply.thought)]
    deltas += [{"content": text} for text in cut(reply.text)]
    for index, call in enumerate(_calls(reply)):
        function = call["function"]
        deltas.append({"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
            for text in cut(function["arguments"], 40)
        ]
    for number, delta in enumerate(deltas):
        yield chunk(delta)
        if number == 0:
            yield MIDDLE
    if not deltas:
        yield MIDDLE
    yield chunk({}, _finish(reply))
    yield sse({**head, "choices": [], "usage": _usage(reply)})
    yield sse("[DONE]")


def whole(reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.calls:
        message["tool_calls"] = _calls(reply)
    if reply.thought:
        message["reasoning_content"] = reply.thought
    choice = {"index": 0, "message": message, "finish_reason": _finish(reply), "logprobs": None}
    return {**_head(reply), "object": "chat.completion", "choices": [choice], "usage": _usage(reply)}


def refusal(status: int, message: str) -> Json:
    kind, code = _KINDS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    return {"error": {"message": message or f"scripted {code or kind}", "type": kind, "code": code, "param": None}}


def stream_error(reply: Reply, message: str) -> bytes:
    text = message or "scripted server_error"
    return sse({"error": {"message": text, "type": "server_error", "code": "server_error", "param": None}})


def headers(now: float) -> Mapping[str, str]:
    return LIMITS


def sayable(tokens: Tokens) -> Tokens:
    return replace(tokens, cache_write=0)


DIALECT = Dialect("chat", read, stream, whole, refusal, stream_error, headers, sayable)

_KINDS: Mapping[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    429: ("rate_limit_exceeded", "rate_limit_exceeded"),
    503: ("server_error", "server_overloaded"),
}
_AIDER_RULES = "\n\n# *SEARCH/REPLACE block* Rules:"
_AIDER_STARTS = "I switched to a new code base."
_AIDER_FAILED = ("# 1 SEARCH/REPLACE block", "# 2 SEARCH/REPLACE block", "The LLM did not conform")
_AIDER_ADDED = (
    "I have *added these files to the chat*",
    "Here are summaries of some files",
    "Here are some READ ONLY files",
    "I am not sharing any files",
    "Don't try and edit any existing code",
    "I updated the files.",
    "I committed the changes with git hash",
    "I didn't see any properly formatted edits",
    "I edited the files myself.",
    "I added these files to the chat:",
    "I ran this command:",
)


def _head(reply: Reply) -> Json:
    return {"id": f"chatcmpl-{reply.number:020d}", "created": 1_700_000_000 + reply.number, "model": reply.model}


def _calls(reply: Reply) -> list[Json]:
    return [
        {
            "id": f"call_{call.id}",
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": call.input if isinstance(call.input, str) else json.dumps(call.input),
            },
        }
        for call in reply.calls
    ]


def _finish(reply: Reply) -> str:
    return "tool_calls" if reply.calls else "stop"


def _usage(reply: Reply) -> Json:
    usage = reply.usage
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _text(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))
