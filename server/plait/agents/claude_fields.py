"""Reads fields of JSON that Claude Code wrote: a field of another type than expected counts as missing.

Texts come out without lone surrogates, numbers finite and of a size that can be kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

LARGEST = 1 << 62


def text(value: Mapping[str, Any], *names: str) -> str:
    """The first of the fields that is a string with something in it."""
    for name in names:
        found = value.get(name)
        if isinstance(found, str) and found:
            return clean(found)
    return ""


def number(value: Mapping[str, Any], name: str) -> float | None:
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    if not -LARGEST < found < LARGEST or not math.isfinite(found):
        return None
    return float(found)


def count(value: Mapping[str, Any], name: str) -> int:
    """A number of things; 0 where there is none."""
    found = number(value, name)
    return max(0, int(found)) if found is not None else 0


def mapping(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def mappings(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = value.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def texts(value: Mapping[str, Any], name: str) -> list[str]:
    found = value.get(name)
    return [clean(one) for one in found if isinstance(one, str)] if isinstance(found, list) else []


def content_text(content: Any) -> str:
    """What can be read of a message's or a tool result's content: a string, or blocks of several kinds."""
    if isinstance(content, str):
        return clean(content)
    if not isinstance(content, list):
        return "" if content is None else as_json(content)
    parts = []
    for block in content:
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            parts.append(clean(block["text"]))
        elif isinstance(block, dict) and text(block, "type") in ("image", "document"):
            parts.append(f"[{text(block, 'type')}]")
        else:
            parts.append(as_json(block))
    return "\n".join(parts)


def as_json(value: Any) -> str:
    try:
        return clean(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return "(nested too deeply to be shown)"


def clean(found: str) -> str:
    return found.encode("utf-8", "replace").decode("utf-8")
