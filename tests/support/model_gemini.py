"""Gemini's generateContent as a scripted model speaks it (ai.google.dev: generateContent, function calling, errors)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.support.model_script import MIDDLE, Ask, Declared, Dialect, Json, Reply, Tokens, cut, sse, typed


def read(path: str, body: Json) -> Ask:
    prompts: list[str] = []
    results = 0
    for content in body.get("contents", []):
        parts = content.get("parts") or []
        if content.get("role", "user") != "user":
            continue
        results += any("functionResponse" in part for part in parts)
        said = "\n".join(filter(None, (typed(str(part.get("text", ""))) for part in parts)))
        if said:
            prompts.append(said)
            results = 0
    functions = [one for tool in body.get("tools") or () for one in tool.get("functionDeclarations") or ()]
    settings = body.get("generationConfig") or {}
    wants_json = settings.get("responseMimeType") == "application/json"
    said_all = [body.get("systemInstruction") or {}, *body.get("contents", [])]
    return Ask(
        model=path.rpartition("/models/")[2].partition(":")[0],
        streamed=":streamGenerateContent" in path,
        tools={
            one["name"]: Declared(
                one["name"],
                one.get("parametersJsonSchema") or one.get("parameters") or {},
                description=one.get("description", ""),
            )
            for one in functions
        },
        typed=tuple(prompts),
        results=results,
        text="\n".join(str(part.get("text", "")) for said in said_all for part in said.get("parts") or ()),
        answer_schema=(settings.get("responseJsonSchema") or settings.get("responseSchema") or {"type": "object"})
        if wants_json
        else None,
    )


def stream(reply: Reply) -> Iterator[bytes | None]:
    parts: list[Json] = [{"text": text, "thought": True} for text in cut(reply.thought)]
    parts += [{"text": text} for text in cut(reply.text)] + _calls(reply)
    for number, part in enumerate(parts):
        yield sse(_response(reply, [part], None))
        if number == 0:
            yield MIDDLE
    if not parts:
        yield MIDDLE
    yield sse(_response(reply, [{"text": ""}], "STOP"))


def whole(reply: Reply) -> Json:
    parts: list[Json] = [{"text": reply.thought, "thought": True}] if reply.thought else []
    parts += [{"text": reply.text}] if reply.text else []
    return _response(reply, parts + _calls(reply), "STOP")


def refusal(status: int, message: str) -> Json:
    kind = _KINDS.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": message or f"scripted {kind}", "status": kind}}


def stream_error(reply: Reply, message: str) -> bytes:
    return sse({"error": {"code": 503, "message": message or "scripted UNAVAILABLE", "status": "UNAVAILABLE"}})


def headers(now: float) -> Mapping[str, str]:
    return {}


def sayable(tokens: Tokens) -> Tokens:
    return replace(tokens, cache_write=0)


DIALECT = Dialect("gemini", read, stream, whole, refusal, stream_error, headers, sayable)

_KINDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def _calls(reply: Reply) -> list[Json]:
    return [{"functionCall": {"id": call.id, "name": call.name, "args": call.input}} for call in reply.calls]


def _response(reply: Reply, parts: list[Json], finish: str | None) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    response: Json = {"candidates": [candidate], "modelVersion": reply.model, "responseId": f"gemini-{reply.number}"}
    if finish:
        candidate["finishReason"] = finish
        usage = reply.usage
        response["usageMetadata"] = {
            "promptTokenCount": usage.prompt,
            "cachedContentTokenCount": usage.cache_read,
            "candidatesTokenCount": usage.output - usage.reasoning,
            "thoughtsTokenCount": usage.reasoning,
            "totalTokenCount": usage.prompt + usage.output,
        }
    return response
