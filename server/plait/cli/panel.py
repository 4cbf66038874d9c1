"""The monitor's panel with the request that is answered next: which one it is, how it looks, and what a key means."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from plait.cli.asked import choices, key_line, request_lines
from plait.cli.text import one_line

View = dict[str, Any]

PANEL_ROWS = 9
"""Rows of the panel; Enter shows all of a longer request."""
GUARD_S = 0.5
"""Keys that come sooner after another request took the panel were meant for the one before."""


@dataclass(frozen=True)
class Reply:
    """What `plait/answer` is to be told, and what the user is told meanwhile."""

    params: View
    said: str


class Panel:
    """The request that stands in the panel, until it is answered or the user goes on to another."""

    def __init__(self) -> None:
        self.open = False
        """Whether the request has the whole screen."""
        self._waiting: list[tuple[View, View]] = []
        self._answered: set[tuple[str, str]] = set()
        """Requests that were answered here, of which it has not been heard yet that they are gone."""
        self._chosen: tuple[str, str] | None = None
        self._since = 0.0

    @property
    def session(self) -> str | None:
        """The session whose request it is."""
        return None if self._chosen is None else self._chosen[0]

    def update(self, sessions: Sequence[View]) -> None:
        """Take in how things stand; what has waited longest comes first."""
        asking = sorted((one for one in sessions if one["requests"]), key=lambda one: (one["changed"], one["id"]))
        waiting = [(one, asked) for one in asking for asked in one["requests"]]
        self._answered &= {(one["id"], asked["id"]) for one, asked in waiting}
        self._waiting = [(one, asked) for one, asked in waiting if (one["id"], asked["id"]) not in self._answered]
        if self._chosen not in self._names:
            self._choose(self._names[0] if self._waiting else None)

    def lines(self, width: int, height: int, most: int = PANEL_ROWS) -> list[Text]:
        """The panel of at most `most` rows, or nothing if no agent asks or the screen has no room for it."""
        found = self._found
        if found is None or (height < 2 * PANEL_ROWS and not self.open):
            return []
        session, asked = found
        keys = self._keys(asked)
        body = request_lines(asked, height)
        room = max(1, height - 3 if self.open else most - 2)
        if len(body) > room:
            body = [*body[: room - 1], Text("  …" if self.open else "  … [Enter] shows all of it", "dim")]
        number = self._names.index((session["id"], asked["id"])) + 1
        of = f" ({number} of {len(self._waiting)})" if len(self._waiting) > 1 else ""
        title = f"── {session['short']} {one_line(session['title'])} · {one_line(session['agent'])} asks{of} "
        rule = Text(title, "yellow")
        rule.truncate(width, overflow="ellipsis")
        rule.append("─" * max(0, width - rule.cell_len))
        lines = [rule, *body, keys]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return lines

    def pressed(self, key: str) -> Reply | None:
        """What the key answers, if it answers; other keys of the panel take their effect."""
        found = self._found
        if found is None:
            return None
        session, asked = found
        if key in ("\r", "\n"):
            self.open = not self.open
        elif key == "\x1b":
            self.open = False
        elif key in ("n", "\t"):
            self._choose(self._names[(self._names.index((session["id"], asked["id"])) + 1) % len(self._waiting)])
        else:
            chosen = next((choice for choice in choices(asked) if choice.key == key), None)
            if chosen is not None and time.monotonic() - self._since >= GUARD_S:
                self._answered.add((session["id"], asked["id"]))
                params = {"session": session["id"], "request": asked["id"], "run": asked["run"], **chosen.answer}
                return Reply(params, f"{session['short']}: {one_line(chosen.label)}")
        return None

    def failed(self, reply: Reply) -> None:
        """The answer was not taken: the request still waits, as far as is known."""
        self._answered.discard((reply.params["session"], reply.params["request"]))

    def _keys(self, asked: View) -> Text:
        found = choices(asked)
        line = key_line(found) if found else Text("Answer it in another terminal: plait answer")
        if len(self._waiting) > 1:
            line.append("  [n]", "bold").append(" next")
        return line

    @property
    def _names(self) -> list[tuple[str, str]]:
        return [(session["id"], asked["id"]) for session, asked in self._waiting]

    @property
    def _found(self) -> tuple[View, View] | None:
        return next((one for one in self._waiting if (one[0]["id"], one[1]["id"]) == self._chosen), None)

    def _choose(self, name: tuple[str, str] | None) -> None:
        self._chosen = name
        self._since = time.monotonic()
        self.open = False
