"""The tools of programs in a terminal as their hooks show them: Claude Code's own, and Codex's patches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from plait.agents import claude_tools
from plait.agents.claude_fields import text
from plait.core.reports import FileDiff, Place, ToolBegan, shorten

_FILE = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)
_ADDED = re.compile(r"\A\s*\*\*\* Begin Patch\n\*\*\* Add File: (.+)\n((?:\+.*\n)*)\*\*\* End Patch\s*\Z")


def tool_began(name_of_use: str, name: str, given: Mapping[str, Any], by: str = "") -> ToolBegan:
    """The report of a tool's use; `by` names the subagent that uses it."""
    if name == "apply_patch":
        patch = text(given, "command", "input", "patch")
        places = tuple(Place(path=path.strip()) for path in _FILE.findall(patch[:_LONGEST_PATCH]))[:_MOST_PLACES]
        title = f"Edit {', '.join(place.path for place in places)}" if places else "Edit"
        title = shorten(title, 300)
        return ToolBegan(id=name_of_use, name=name, kind="edit", title=title, places=places, input=shorten(patch))
    block = {"id": name_of_use, "name": name or "a tool", "input": given}
    return claude_tools.tool_began(block, by)


def tool_diffs(name: str, given: Mapping[str, Any]) -> tuple[FileDiff, ...]:
    """What the tool would change, as far as its arguments tell."""
    if name == "apply_patch":
        added = _ADDED.match(text(given, "command", "input", "patch")[:_LONGEST_PATCH])
        if added is None:
            return ()
        content = "".join(f"{line[1:]}\n" for line in added[2].splitlines())
        return (FileDiff(path=added[1].strip(), new=shorten(content)),)
    return claude_tools.wanted_diffs(name, given)


_LONGEST_PATCH = 1 << 20
_MOST_PLACES = 20
