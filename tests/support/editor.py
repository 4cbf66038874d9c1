"""An editor for tests: opens files, types, undoes, and applies what the server asks for, as real ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plait.core.lines import LspText, Position
from plait.dial import dial
from plait.paths import places
from plait.rpc import Caller


class Editor:
    """One window with its open documents; `stale` makes it claim edits that it silently drops, as Neovim does."""

    def __init__(self) -> None:
        self.caller = Caller(dial(places()), on_notification=self._note, on_request=self._answer)
        self.caller.introduce("editor", {"features": ["hunks", "status"]})
        self.texts: dict[str, str] = {}
        self.undo: dict[str, list[str]] = {}
        self.notified: list[tuple[str, Any]] = []
        self.labels: list[str] = []
        self.stale = False
        self._versions: dict[str, int] = {}

    def open(self, path: Path) -> str:
        uri = path.as_uri()
        # An editor's buffer has neither the file's byte order mark nor its encoding.
        self.texts[uri] = path.read_bytes().decode("utf-8-sig")
        self.undo[uri] = []
        self._versions[uri] = 0
        document = {"uri": uri, "languageId": "plaintext", "version": 0, "text": self.texts[uri]}
        self.caller.notify("textDocument/didOpen", {"textDocument": document})
        return uri

    def type(self, uri: str, text: str) -> None:
        """Replace the whole text, as one undoable step."""
        self.undo[uri].append(self.texts[uri])
        self._set(uri, text)

    def take_back(self, uri: str) -> None:
        """Undo the last step."""
        self._set(uri, self.undo[uri].pop())

    def hunks(self, uri: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.caller.request("plait/hunks", {"textDocument": {"uri": uri}}, 10)["hunks"]
        return found

    def execute(self, command: str, **arguments: Any) -> Any:
        params = {"command": command, "arguments": [arguments]}
        return self.caller.request("workspace/executeCommand", params, 20)

    def close(self) -> None:
        self.caller.close()

    def _set(self, uri: str, text: str) -> None:
        self.texts[uri] = text
        self._versions[uri] += 1
        document = {"uri": uri, "version": self._versions[uri]}
        self.caller.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})

    def _note(self, method: str, params: Any) -> None:
        self.notified.append((method, params))

    def _answer(self, method: str, params: Any) -> object:
        assert method == "workspace/applyEdit", method
        self.labels.append(params["label"])
        if not self.stale:
            for uri, edits in params["edit"]["changes"].items():
                self.type(uri, applied(self.texts[uri], edits))
        return {"applied": True}


def applied(text: str, edits: list[dict[str, Any]]) -> str:
    """The text after edits that all count on the text before."""
    lines = LspText(text)
    spans = [
        (
            lines.offset(_position(edit["range"]["start"])),
            lines.offset(_position(edit["range"]["end"])),
            edit["newText"],
        )
        for edit in edits
    ]
    for start, end, new in sorted(spans, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _position(found: dict[str, int]) -> Position:
    return Position(found["line"], found["character"])
