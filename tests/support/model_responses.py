"""OpenAI's Responses protocol as a scripted model speaks it (platform.openai.com: Responses, streaming events)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.support.model_chat import LIMITS, refusal
from tests.support.model_script import MIDDLE, Ask, Declared, Dialect, Json, Reply, Tokens, cut, sse, typed


def read(path: str, body: Json) -> Ask:
    given = body.get("input", [])
    items: list[Json] = [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given
    tools = list(body.get("tools") or ())
    prompts: list[str] = []
    results = 0
    answered = False
    for item in items:
        kind = item.get("type", "message")
        if kind == "additional_tools":
            tools += item.get("tools") or ()
        is_result = kind.endswith("_call_output")
        # Results of calls that were made together stand side by side and make one round.
        results += is_result and not answered
        answered = is_result
        if kind == "message" and item.get("role") == "user":
            said = typed(_text(item))
            if said:
                prompts.append(said)
                results = 0
    declared: dict[str, Declared] = {}
    for tool in tools:
        inner = tool.get("tools") if tool.get("type") == "namespace" else [tool]
        for one in inner or ():
            name = str(one.get("name") or one.get("type"))
            space = tool.get("name") if tool.get("type") == "namespace" else None
            custom = one.get("type") == "custom"
            declared[name] = Declared(name, one.get("parameters") or {}, custom, space, one.get("description", ""))
    return Ask(
        model=str(body.get("model", "")),
        streamed=bool(body.get("stream")),
        tools=declared,
        typed=tuple(prompts),
        results=results,
        text="\n".join([str(body.get("instructions") or ""), *(_text(item) for item in items)]),
        answer_schema=((body.get("text") or {}).get("format") or {}).get("schema"),
    )


def stream(reply: Reply) -> Iterator[bytes | None]:
    number = -1

    def event(kind: str, **data: object) -> bytes:
        nonlocal number
        number += 1
        return sse({"type": kind, "sequence_number": number, **data}, kind)

    started = _response(reply, "in_progress")
    yield event("response.created", response=started)
    yield event("response.in_progress", response=started)
    held = False
    for index, item in enumerate(_output(reply)):
        blank, pieces, closing = _parts(item)
        at: Json = {"item_id": item["id"], "output_index": index}
        yield event("response.output_item.added", output_index=index, item=blank)
        for kind, data in pieces:
            yield event(kind, **at, **data)
            if not held and kind.endswith(".delta"):
                yield MIDDLE
                held = True
        for kind, data in closing:
            yield event(kind, **at, **data)
        yield event("response.output_item.done", output_index=index, item=item)
    if not held:
        yield MIDDLE
    yield event("response.completed", response=_response(reply, "completed"))


def whole(reply: Reply) -> Json:
    return _response(reply, "completed")


def stream_error(reply: Reply, message: str) -> bytes:
    error = {"code": "server_is_overloaded", "message": message or "scripted server_is_overloaded"}
    failed = {**_response(reply, "failed"), "error": error}
    return sse({"type": "response.failed", "sequence_number": 999, "response": failed}, "response.failed")


def headers(now: float) -> Mapping[str, str]:
    """Limits as API keys get them, and as Codex reads them of ChatGPT accounts: 42 % of 5 hours, 17 % of 7 days."""
    windows = (("primary", "42.0", 300, 3600), ("secondary", "17.0", 10080, 86400))
    codex = {
        f"x-codex-{name}-{part}": str(value)
        for name, used, minutes, left in windows
        for part, value in (("used-percent", used), ("window-minutes", minutes), ("reset-at", int(now) + left))
    }
    return {**LIMITS, **codex}


def sayable(tokens: Tokens) -> Tokens:
    return replace(tokens, cache_write=0)


DIALECT = Dialect("responses", read, stream, whole, refusal, stream_error, headers, sayable)


def _response(reply: Reply, status: str) -> Json:
    done = status == "completed"
    usage = reply.usage
    return {
        "id": f"resp_{reply.number:020d}",
        "object": "response",
        "created_at": 1_700_000_000 + reply.number,
        "status": status,
        "model": reply.model,
        "output": _output(reply) if done else [],
        "parallel_tool_calls": True,
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "usage": {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cache_read},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.prompt + usage.output,
        }
        if done
        else None,
    }


def _output(reply: Reply) -> list[Json]:
    items: list[Json] = []
    if reply.thought:
        summary = [{"type": "summary_text", "text": reply.thought}]
        items.append(
            {
                "type": "reasoning",
                "id": f"rs_{reply.number:016d}",
                "summary": summary,
                "encrypted_content": "c2NyaXB0ZWQ=",
            }
        )
    if reply.text:
        content = [{"type": "output_text", "text": reply.text, "annotations": []}]
        message = {"type": "message", "role": "assistant", "id": f"msg_{reply.number:016d}", "content": content}
        items.append({**message, "status": "completed"})
    for call in reply.calls:
        space = {"namespace": call.namespace} if call.namespace else {}
        named = {"call_id": f"call_{call.id}", "name": call.name, "status": "completed", **space}
        if isinstance(call.input, str):
            items.append({"type": "custom_tool_call", "id": f"ctc_{call.id}", **named, "input": call.input})
        else:
            written = json.dumps(call.input)
            items.append({"type": "function_call", "id": f"fc_{call.id}", **named, "arguments": written})
    return items


Events = list[tuple[str, Json]]


def _parts(item: Json) -> tuple[Json, Events, Events]:
    """The item before it has any content, the events that bring the content, and those that close it."""
    match item["type"]:
        case "message":
            part = item["content"][0]
            place = {"content_index": 0}
            opening = ("response.content_part.added", {**place, "part": {**part, "text": ""}})
            pieces = [("response.output_text.delta", {**place, "delta": text}) for text in cut(part["text"])]
            closing = [
                ("response.output_text.done", {**place, "text": part["text"]}),
                ("response.content_part.done", {**place, "part": part}),
            ]
            return {**item, "status": "in_progress", "content": []}, [opening, *pieces], closing
        case "reasoning":
            part = item["summary"][0]
            place = {"summary_index": 0}
            kind = "response.reasoning_summary_"
            opening = (f"{kind}part.added", {**place, "part": {**part, "text": ""}})
            pieces = [(f"{kind}text.delta", {**place, "delta": text}) for text in cut(part["text"])]
            closing = [
                (f"{kind}text.done", {**place, "text": part["text"]}),
                (f"{kind}part.done", {**place, "part": part}),
            ]
            return {**item, "summary": []}, [opening, *pieces], closing
        case kind:
            field, event = (
                ("input", "response.custom_tool_call_input")
                if kind == "custom_tool_call"
                else ("arguments", "response.function_call_arguments")
            )
            pieces = [(f"{event}.delta", {"delta": text}) for text in cut(item[field], 40)]
            return {**item, "status": "in_progress", field: ""}, pieces, [(f"{event}.done", {field: item[field]})]


def _text(item: Json) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))
