"""The lines that Claude Code reads: messages, control requests, and answers to its own control requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def line_of(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def message_line(words: str) -> dict[str, Any]:
    """A message of the user."""
    content = [{"type": "text", "text": words}]
    return {
        "type": "user",
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
        "session_id": "",
    }


def request_line(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """A control request of ours; its answer has the same name."""
    return {"type": "control_request", "request_id": name, "request": {"subtype": kind, **more}}


def response_line(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "control_response", "response": {"subtype": "success", "request_id": name, "response": said}}


def refusal_line(name: str, why: str) -> dict[str, Any]:
    return {"type": "control_response", "response": {"subtype": "error", "request_id": name, "error": why}}
