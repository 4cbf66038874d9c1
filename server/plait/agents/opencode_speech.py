"""What OpenCode says and thinks, in pieces and as a whole; the wholes may be told late, or twice."""

from __future__ import annotations

from plait.agents.opencode_values import Json, inner, text
from plait.core.reports import Message, Report, Thought, shorten


class Speech:
    """The texts of one conversation."""

    def __init__(self) -> None:
        self.last = ""
        """The last thing that was said in this turn."""
        self._whole: set[str] = set()
        """Parts that nothing more is to be said of."""
        self._thoughts: set[str] = set()
        self._pieces: dict[str, str] = {}
        """Texts that are being said, by part."""
        self._cut: dict[str, str] = {}
        """What was said of a text when something else came in between."""

    def part(self, name: str, kind: str, part: Json) -> list[Report]:
        """A text (`text` or `reasoning`) as it now is; it counts when it has an end."""
        if kind == "reasoning":
            self._thoughts.add(name)
        if name in self._whole or "end" not in inner(part, "time"):
            return []
        self._whole.add(name)
        self._pieces.pop(name, None)
        said = shorten(text(part, "text"))
        if kind == "text":
            self.last = said or self.last
        rest = said.removeprefix(self._cut.pop(name, ""))
        return [self._said(name, rest)] if rest else []

    def delta(self, properties: Json) -> list[Report]:
        """A further piece of a text."""
        name = text(properties, "partID")
        piece = shorten(text(properties, "delta"))
        if not piece or name in self._whole or text(properties, "field") != "text":
            return []
        self._pieces[name] = shorten(self._pieces.get(name, "") + piece)
        return [self._said(name, piece, partial=True)]

    def cut_short(self) -> list[Report]:
        """End what is being said, since something else comes before OpenCode tells its end."""
        reports: list[Report] = []
        for name, said in self._pieces.items():
            self._cut[name] = self._cut.get(name, "") + said
            reports.append(self._said(name, said))
        self._pieces.clear()
        return reports

    def end_turn(self) -> None:
        """Nothing of this turn goes on."""
        self.last = ""
        self._pieces.clear()
        self._cut.clear()

    def _said(self, name: str, said: str, *, partial: bool = False) -> Report:
        if name in self._thoughts:
            return Thought(text=said, partial=partial)
        return Message(text=said, partial=partial)
