"""A conversation as people read it: folds reports and the user's words into entries that change until they are whole.

Every entry has a place in the order and the number of its last change, so that a reader who has seen everything up to
a change asks for what is newer, and replaces the entries that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from plait.core import reports as r
from plait.core.progress import doing_of, retrying
from plait.core.usage import NOTHING, Spent, Tally

EntryKind = Literal[
    "user",
    "message",
    "thought",
    "tool",
    "plan",
    "asked",
    "limit",
    "retry",
    "trouble",
    "remark",
    "unread",
    "turn",
    "began",
]

MOST_ENTRIES = 20_000
"""Of a longer conversation the oldest entries are left out; the raw output has them."""

LONGEST_SHOWN = 20_000
"""Characters of one text in an entry."""


@dataclass
class Entry:
    """One thing that was said or done; `changed` counts the changes of the whole transcript."""

    number: int
    kind: EntryKind
    changed: int
    text: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    whole: bool = True
    """False while pieces of it still come."""


class Transcript:
    """The entries of one run so far; `before` is what the conversation had used when the run began."""

    def __init__(self, before: Spent = NOTHING) -> None:
        self.entries: list[Entry] = []
        self.changes = 0
        self._tools: dict[str, Entry] = {}
        self._asked: dict[str, Entry] = {}
        self._plan: Entry | None = None
        self._tally = Tally(before=before)
        self._count = 0

    def since(self, changes: int) -> list[Entry]:
        """The entries that changed after that many changes."""
        return [entry for entry in self.entries if entry.changed > changes]

    def user(self, text: str) -> None:
        """The user said something."""
        self._add("user", text)

    def answered(self, request: str, label: str) -> None:
        """The user answered a request."""
        entry = self._asked.get(request)
        if entry is not None:
            self._change(entry, answer=label)

    def add(self, report: r.Report) -> None:
        """The agent reported something."""
        match report:
            case r.Message():
                self._piece("message", report.text, report.partial)
            case r.Thought():
                self._piece("thought", report.text, report.partial)
            case r.ToolBegan():
                self._tool(report)
            case r.ToolUpdated() | r.ToolEnded():
                self._more_of_tool(report)
            case r.Planned():
                self._planned(report)
            case r.Asked():
                self._asked[report.id] = self._add("asked", report.title, **_asked_fields(report))
            case r.Withdrawn():
                entry = self._asked.get(report.id)
                if entry is not None and "answer" not in entry.fields:
                    self._change(entry, withdrawn=True)
            case r.Used():
                self._tally = self._tally.add(report)
            case r.Began():
                self._add("began", report.model or "", agent_session=report.agent_session, mode=report.mode)
            case r.Limit():
                self._add("limit", report.account, **report.model_dump(mode="json", exclude={"type", "account"}))
            case r.Retry():
                self._add("retry", retrying(report), detail=report.text)
            case r.Trouble():
                self._add("trouble", report.text, trouble_kind=report.kind, account=report.account, fatal=report.fatal)
            case r.Remark():
                self._add("remark", report.text)
            case r.Unread():
                self._add("unread", report.text, why=report.why)
            case r.TurnEnded():
                self._end_pieces()
                self._add("turn", "", stop=report.stop, why=report.text, spent=self._tally.spent.model_dump())
            case r.TurnBegan() | r.Context() | r.Delivered():
                return
            case _:
                assert_never(report)

    def _add(self, entry_kind: EntryKind, text: str, **fields: Any) -> Entry:
        self._end_pieces()
        self.changes += 1
        entry = Entry(self._count, entry_kind, self.changes, r.shorten(text, LONGEST_SHOWN), fields)
        self._count += 1
        self.entries.append(entry)
        if len(self.entries) > MOST_ENTRIES:
            del self.entries[: MOST_ENTRIES // 10]
        return entry

    def _change(self, entry: Entry, text: str | None = None, **fields: Any) -> None:
        self.changes += 1
        entry.changed = self.changes
        entry.fields.update(fields)
        if text is not None:
            entry.text = r.shorten(text, LONGEST_SHOWN)

    def _piece(self, kind: Literal["message", "thought"], text: str, partial: bool) -> None:
        last = self.entries[-1] if self.entries else None
        if last is None or last.kind != kind or last.whole:
            if text or partial:
                self._add(kind, text).whole = not partial
            return
        # The whole text at the end says what the pieces said; an empty one only ends them.
        self._change(last, last.text + text if partial else text or last.text)
        last.whole = not partial

    def _end_pieces(self) -> None:
        if self.entries and not self.entries[-1].whole:
            self.entries[-1].whole = True

    def _tool(self, tool: r.ToolBegan) -> None:
        fields = {
            "tool": tool.name,
            "tool_kind": tool.kind,
            "places": [place.model_dump() for place in tool.places],
            "input": r.shorten(tool.input, LONGEST_SHOWN),
            "status": "running",
        }
        known = self._tools.get(tool.id)
        if known is not None and known.fields["status"] == "running":
            self._change(known, doing_of(tool), **fields)
        else:
            self._tools[tool.id] = self._add("tool", doing_of(tool), **fields)

    def _more_of_tool(self, report: r.ToolUpdated | r.ToolEnded) -> None:
        entry = self._tools.get(report.id)
        if entry is None:
            entry = self._tools[report.id] = self._add("tool", report.id, tool="", tool_kind="other", status="running")
        if isinstance(report, r.ToolUpdated):
            changed: dict[str, Any] = {}
            if report.input:
                changed["input"] = r.shorten(report.input, LONGEST_SHOWN)
            if report.output:
                changed["output"] = r.shorten(report.output, LONGEST_SHOWN)
            if report.places:
                changed["places"] = [place.model_dump() for place in report.places]
            self._change(entry, report.title or None, **changed)
            return
        self._change(
            entry,
            status=report.status,
            exit=report.exit,
            diffs=[_diff_fields(diff) for diff in report.diffs],
            **({"output": r.shorten(report.output, LONGEST_SHOWN)} if report.output else {}),
        )

    def _planned(self, report: r.Planned) -> None:
        entries = [entry.model_dump() for entry in report.entries]
        if self._plan is None:
            self._plan = self._add("plan", "", entries=entries)
        else:
            self._change(self._plan, entries=entries)


def _asked_fields(asked: r.Asked) -> Mapping[str, Any]:
    return {
        "request": asked.id,
        "of": asked.kind,
        "tool": asked.tool,
        "input": r.shorten(asked.input, LONGEST_SHOWN),
        "reason": asked.reason,
        "diffs": [_diff_fields(diff) for diff in asked.diffs],
        "options": [option.model_dump() for option in asked.options],
        "questions": [question.model_dump() for question in asked.questions],
    }


def _diff_fields(diff: r.FileDiff) -> dict[str, Any]:
    texts = {"unified": diff.unified, "old": diff.old, "new": diff.new}
    kept = {name: None if text is None else r.shorten(text, LONGEST_SHOWN) for name, text in texts.items()}
    return {"path": diff.path, **kept}
