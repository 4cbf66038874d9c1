"""The tools that an agent has in use, from the protocol's tool calls and their updates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from acp import schema

from plait.agents.acp_values import content_text, exit_status, input_text, output_text
from plait.core.reports import FileDiff, Place, Report, ToolBegan, ToolEnded, ToolKind, ToolUpdated, shorten

Status = Literal["completed", "failed", "denied"]

_KINDS: dict[str, ToolKind] = {
    "read": "read",
    "edit": "edit",
    "delete": "delete",
    "move": "move",
    "search": "search",
    "execute": "execute",
    "think": "think",
    "fetch": "fetch",
}


@dataclass(frozen=True)
class Tool:
    """What is known of one tool call."""

    id: str
    name: str
    kind: ToolKind = "other"
    title: str = ""
    input: str = ""
    places: tuple[Place, ...] = ()
    output: str = ""
    diffs: tuple[FileDiff, ...] = ()
    exit: int | None = None
    begun: bool = False
    denied: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that it is known to touch."""
        return (*(place.path for place in self.places), *(diff.path for diff in self.diffs))


class Tools:
    """The tools in use by the ids of their calls; those that have ended are remembered by their ids only."""

    def __init__(self, name_in_id: bool) -> None:
        self._name_in_id = name_in_id
        self._open: dict[str, Tool] = {}
        self._ended: set[str] = set()

    def update(self, call: schema.ToolCall | schema.ToolCallUpdate) -> list[Report]:
        """What a tool call or an update of one means; one that says nothing yet is kept until it does."""
        if call.tool_call_id in self._ended:
            return []
        before = self._open.get(call.tool_call_id) or Tool(call.tool_call_id, self._name(call))
        tool = _merged(before, call)
        self._open[tool.id] = tool
        status = call.status
        if not tool.begun and status in (None, "pending") and not (tool.input or tool.paths or tool.output):
            return []
        reports = self.begin(tool.id)
        if status in ("completed", "failed"):
            return [*reports, self._end(tool.id, "completed" if status == "completed" else "failed")]
        if before.begun and _known(before) != _known(tool):
            reports.append(
                ToolUpdated(
                    id=tool.id,
                    title=tool.title if tool.title != before.title else "",
                    input=tool.input if tool.input != before.input else "",
                    output=tool.output if tool.output != before.output else "",
                    places=tool.places if tool.places != before.places else (),
                )
            )
        return reports

    def begin(self, id_: str) -> list[Report]:
        """Reports a tool that was kept back; nothing if it is reported already."""
        tool = self._open.get(id_)
        if tool is None or tool.begun:
            return []
        self._open[id_] = replace(tool, begun=True)
        return [
            ToolBegan(
                id=tool.id, name=tool.name, kind=tool.kind, title=tool.title, places=tool.places, input=tool.input
            )
        ]

    def asked(self, call: schema.ToolCallUpdate) -> tuple[Tool, list[Report]]:
        """The tool that a permission is asked for; it is reported now if the agent did not do so before."""
        if call.tool_call_id in self._ended:
            return _merged(Tool(call.tool_call_id, self._name(call)), call), []
        before = self._open.get(call.tool_call_id) or Tool(call.tool_call_id, self._name(call))
        tool = _merged(before, call)
        # The request describes the question; what the call itself said of its title and input stays.
        kept = replace(tool, title=before.title or tool.title, input=before.input or tool.input, output=before.output)
        self._open[tool.id] = kept
        return tool, self.begin(tool.id)

    def deny(self, id_: str) -> None:
        """The user said no to it: if it fails now, that is why."""
        if id_ in self._open:
            self._open[id_] = replace(self._open[id_], denied=True)

    def end_turn(self, *, broke_off: bool) -> list[Report]:
        """Nothing more will come of those that were denied, nor of any if the turn broke off."""
        reports: list[Report] = []
        for id_, tool in list(self._open.items()):
            if broke_off or tool.denied:
                reports += self.begin(id_)
                reports.append(self._end(id_, "failed"))
        return reports

    def _end(self, id_: str, status: Status) -> ToolEnded:
        tool = self._open.pop(id_)
        self._ended.add(id_)
        return ToolEnded(
            id=id_,
            status="denied" if tool.denied and status == "failed" else status,
            exit=tool.exit,
            output=tool.output,
            diffs=() if status == "failed" else tool.diffs,
        )

    def _name(self, call: schema.ToolCall | schema.ToolCallUpdate) -> str:
        meta = call.field_meta or {}
        for place in (meta, *meta.values()):
            name = place.get("toolName") if isinstance(place, dict) else None
            if isinstance(name, str) and name:
                return name
        if self._name_in_id and "__" in call.tool_call_id:
            return call.tool_call_id.split("__")[0]
        title = call.title or ""
        if title and not any(mark.isspace() or mark in "/\\" for mark in title):
            return title
        return call.kind or "tool"


def _merged(tool: Tool, call: schema.ToolCall | schema.ToolCallUpdate) -> Tool:
    if call.kind is not None:
        tool = replace(tool, kind=_KINDS.get(call.kind, "other"))
    if call.title:
        tool = replace(tool, title=shorten(call.title, 2000))
    if call.locations:
        tool = replace(tool, places=tuple(_place(place) for place in call.locations))
    if (said := input_text(call.raw_input)) != "":
        tool = replace(tool, input=said)
    if call.content:
        diffs = tuple(_diff(item) for item in call.content if isinstance(item, schema.Diff))
        tool = replace(tool, diffs=diffs or tool.diffs)
    # What a call that has not started yet carries as text describes it; it is not what it gave back.
    texts = [content_text(item.content) for item in call.content or () if isinstance(item, schema.Content)]
    if texts and call.status != "pending":
        tool = replace(tool, output=shorten("\n".join(texts)))
    elif call.raw_output is not None:
        tool = replace(tool, output=output_text(call.raw_output))
    if (status := exit_status(call.raw_output)) is not None:
        tool = replace(tool, exit=status)
    return tool


def _known(tool: Tool) -> tuple[object, ...]:
    return tool.title, tool.input, tool.output, tool.places


def _place(location: schema.ToolCallLocation) -> Place:
    return Place(path=location.path, line=location.line or None)


def _diff(diff: schema.Diff) -> FileDiff:
    kind = (diff.field_meta or {}).get("kind")
    return FileDiff(
        path=diff.path,
        # Those that do not say so with `kind` send an empty text for a file that is not there yet.
        old=None if kind == "add" or (kind is None and not diff.old_text) else shorten(diff.old_text or ""),
        new=None if kind == "delete" else shorten(diff.new_text),
    )
