"""Anthropic's Messages protocol as a scripted model speaks it (docs.anthropic.com: Messages, Streaming, Errors)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from tests.support.model_script import MIDDLE, Ask, Declared, Dialect, Json, Reply, Tokens, cut, sse, typed


def read(path: str, body: Json) -> Ask:
    prompts: list[str] = []
    results = 0
    for message in body.get("messages", []):
        blocks = _blocks(message.get("content"))
        if message.get("role") != "user":
            continue
        results += any(block.get("type") == "tool_result" for block in blocks)
        said = "\n".join(
            filter(None, (typed(block.get("text", "")) for block in blocks if block.get("type") == "text"))
        )
        if said:
            prompts.append(said)
            results = 0
    said_all = [*_blocks(body.get("system")), *(b for m in body.get("messages", []) for b in _blocks(m.get("content")))]
    return Ask(
        model=str(body.get("model", "")),
        streamed=bool(body.get("stream")),
        tools={
            tool["name"]: Declared(
                tool["name"], tool.get("input_schema") or {}, description=tool.get("description", "")
            )
            for tool in body.get("tools") or ()
            if "name" in tool
        },
        typed=tuple(prompts),
        results=results,
        text="\n".join(str(block["text"]) for block in said_all if block.get("text")),
        answer_schema=((body.get("output_config") or {}).get("format") or {}).get("schema"),
    )


def stream(reply: Reply) -> Iterator[bytes | None]:
    def event(data: Json) -> bytes:
        return sse(data, data["type"])

    yield event({"type": "message_start", "message": _message(reply, [], None, 1)})
    yield event({"type": "ping"})
    held = False
    for index, block in enumerate(_content(reply)):
        empty, deltas = _deltas(block)
        yield event({"type": "content_block_start", "index": index, "content_block": empty})
        for delta in deltas:
            yield event({"type": "content_block_delta", "index": index, "delta": delta})
            if not held:
                yield MIDDLE
                held = True
        yield event({"type": "content_block_stop", "index": index})
    if not held:
        yield MIDDLE
    yield event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": _stop(reply), "stop_sequence": None},
            "usage": {"output_tokens": reply.usage.output},
        }
    )
    yield event({"type": "message_stop"})


def whole(reply: Reply) -> Json:
    return _message(reply, _content(reply), _stop(reply), reply.usage.output)


def refusal(status: int, message: str) -> Json:
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message or f"scripted {kind}"}, "request_id": "req_0"}


def stream_error(reply: Reply, message: str) -> bytes:
    error = {"type": "overloaded_error", "message": message or "scripted overloaded_error"}
    return sse({"type": "error", "error": error}, "error")


def headers(now: float) -> Mapping[str, str]:
    """Limits as both kinds of accounts get them: 42 % of five hours and 17 % of seven days are used."""
    soon = datetime.fromtimestamp(int(now) + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    reset = int(now) + 3600
    unified = {
        "status": "allowed",
        "reset": reset,
        "representative-claim": "five_hour",
        "5h-status": "allowed",
        "5h-utilization": "0.42",
        "5h-reset": reset,
        "7d-status": "allowed",
        "7d-utilization": "0.17",
        "7d-reset": reset + 86400,
    }
    plain = {
        f"anthropic-ratelimit-{what}-{part}": value
        for what, limit, left in (("requests", "1000", "990"), ("tokens", "400000", "390000"))
        for part, value in (("limit", limit), ("remaining", left), ("reset", soon))
    }
    return {**plain, **{f"anthropic-ratelimit-unified-{name}": str(value) for name, value in unified.items()}}


def sayable(tokens: Tokens) -> Tokens:
    return replace(tokens, reasoning=0)


DIALECT = Dialect("anthropic", read, stream, whole, refusal, stream_error, headers, sayable)

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def _message(reply: Reply, content: list[Json], stop: str | None, output: int) -> Json:
    return {
        "id": f"msg_{reply.number:020d}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.usage.input,
            "cache_creation_input_tokens": reply.usage.cache_write,
            "cache_read_input_tokens": reply.usage.cache_read,
            "output_tokens": output,
            "service_tier": "standard",
        },
    }


def _content(reply: Reply) -> list[Json]:
    content: list[Json] = []
    if reply.thought:
        content.append({"type": "thinking", "thinking": reply.thought, "signature": "c2NyaXB0ZWQ="})
    if reply.text:
        content.append({"type": "text", "text": reply.text})
    return content + [
        {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": call.input} for call in reply.calls
    ]


def _deltas(block: Json) -> tuple[Json, list[Json]]:
    match block["type"]:
        case "thinking":
            pieces: list[Json] = [{"type": "thinking_delta", "thinking": text} for text in cut(block["thinking"])]
            return {**block, "thinking": "", "signature": ""}, [
                *pieces,
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": text} for text in cut(block["text"])]
        case _:
            written = json.dumps(block["input"])
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": text} for text in cut(written, 40)
            ]


def _stop(reply: Reply) -> str:
    return "tool_use" if reply.calls else "end_turn"


def _blocks(content: object) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
