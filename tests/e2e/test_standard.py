"""Review over plain LSP: diagnostics, code actions, lenses and hovers, with no extension of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.editor import Editor
from tests.support.plait import Plait, ready
from tests.support.repo import LINES


def told(editor: Editor, uri: str, count: int) -> list[dict[str, Any]]:
    """The newest diagnostics of the document, once there are `count` of them."""
    while True:
        published = [p for m, p in editor.notified if m == "textDocument/publishDiagnostics" and p["uri"] == uri]
        if published and len(published[-1]["diagnostics"]) == count:
            found: list[dict[str, Any]] = published[-1]["diagnostics"]
            return found
        editor.caller.listen(10)


def at(line: int) -> dict[str, Any]:
    return {"start": {"line": line, "character": 0}, "end": {"line": line, "character": 0}}


def actions(editor: Editor, uri: str, line: int, only: list[str] | None = None) -> list[dict[str, Any]]:
    context: dict[str, Any] = {"diagnostics": [], **({"only": only} if only else {})}
    params = {"textDocument": {"uri": uri}, "range": at(line), "context": context}
    found: list[dict[str, Any]] = editor.caller.request("textDocument/codeAction", params, 10)
    return found


def test_hunks_show_up_as_diagnostics_and_leave_when_they_are_settled(plait: Plait, editor: Editor, top: Path) -> None:
    uri = editor.open(top / "a.txt")
    ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/; s/line 30/LINE 30/' a.txt")
    first, second = told(editor, uri, 2)
    assert (first["source"], first["code"], first["severity"]) == ("plait", "hunk", 3)
    assert "replace 1 line with 1 (1 of 2)" in first["message"]
    assert (first["range"]["start"]["line"], second["range"]["start"]["line"]) == (3, 30)

    editor.type(uri, "typed\n" + LINES)
    assert told_at(editor, uri, [4, 31])
    accept, reject, comment = actions(editor, uri, 4)
    assert (accept["kind"], reject["kind"]) == ("quickfix.plait.accept", "quickfix.plait.reject")
    assert comment["kind"] == "quickfix.plait.comment"
    assert "isPreferred" not in accept
    editor.execute(accept["command"]["command"], **accept["command"]["arguments"][0])
    assert editor.texts[uri] == "typed\n" + LINES.replace("line 3\n", "LINE 3\n")
    assert told_at(editor, uri, [31])

    _, reject, _ = actions(editor, uri, 31)
    editor.execute(reject["command"]["command"], **reject["command"]["arguments"][0])
    assert told(editor, uri, 0) == []


def told_at(editor: Editor, uri: str, lines: list[int]) -> bool:
    """Whether the newest diagnostics come to lie at these lines."""
    while [entry["range"]["start"]["line"] for entry in told(editor, uri, len(lines))] != lines:
        editor.caller.listen(10)
    return True


def test_a_conflict_is_a_warning_that_cannot_be_accepted(plait: Plait, editor: Editor, top: Path) -> None:
    uri = editor.open(top / "a.txt")
    editor.type(uri, LINES.replace("line 3\n", "mine\n"))
    ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/' a.txt")
    (conflict,) = told(editor, uri, 1)
    assert (conflict["code"], conflict["severity"]) == ("conflict", 2)
    accept, reject, _ = actions(editor, uri, 3)
    assert "You changed the lines" in accept["disabled"]["reason"]
    assert "command" not in accept
    assert reject["command"]["command"] == "plait.hunk.reject"


def test_whole_files_are_offered_only_when_asked_for(plait: Plait, editor: Editor, top: Path) -> None:
    ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/; s/line 30/LINE 30/' a.txt")
    uri = editor.open(top / "a.txt")
    assert actions(editor, uri, 10) == []
    assert actions(editor, uri, 3, ["source.fixAll"]) == []
    (only,) = actions(editor, uri, 3, ["quickfix.plait.reject"])
    assert only["kind"] == "quickfix.plait.reject"
    accept, _ = actions(editor, uri, 10, ["source"])
    assert (accept["kind"], accept["title"].split(" (")[0]) == ("source.plait.acceptFile", "Accept all 2 hunks here")
    editor.execute(accept["command"]["command"], **accept["command"]["arguments"][0])
    assert editor.texts[uri] == LINES.replace("line 3\n", "LINE 3\n").replace("line 30\n", "LINE 30\n")


def test_lenses_and_hover_show_the_hunk(plait: Plait, editor: Editor, top: Path) -> None:
    ready(plait, editor.caller, top, "sed -i '3a ```\\n[x](command:evil)' a.txt")
    uri = editor.open(top / "a.txt")
    lenses = editor.caller.request("textDocument/codeLens", {"textDocument": {"uri": uri}}, 10)
    titles = [lens["command"]["title"].replace("\u2212", "-") for lens in lenses]
    assert titles == ["1 hunk of 1 session", "Accept sh +2 -0", "Reject"]
    params = {"textDocument": {"uri": uri}, "position": {"line": 3, "character": 0}}
    text = editor.caller.request("textDocument/hover", params, 10)["contents"]["value"]
    assert "````diff\n+```\n+[x](command:evil)\n````" in text
    assert "\\[x\\]\\(command:evil\\)" in text.split("````")[0], "the title is the task, in plain words"
    away = {"textDocument": {"uri": uri}, "position": {"line": 20, "character": 0}}
    assert editor.caller.request("textDocument/hover", away, 10) is None
