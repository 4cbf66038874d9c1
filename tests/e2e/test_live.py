"""While an agent runs, the editor shows what it changed on disk, and takes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plait.errors import PlaitError
from tests.support.editor import Editor
from tests.support.plait import Plait
from tests.support.repo import LINES

SCRIPT = """
cat {go}; sed -i 's/line 3$/LINE 3/' a.txt; echo new > new.txt
cat {go}; sed -i 's/^LINE 3$/LINE three/' a.txt; git commit -qam work
cat {go}; rm -rf *
cat {go}
"""


def let_go(fifo: Path) -> None:
    """The agent takes its next step."""
    with fifo.open("w"):
        pass


def told(editor: Editor, condition: Callable[[str, Any], bool]) -> Any:
    """Returns what the next notification says for which the condition holds."""
    for _ in range(500):
        while editor.notified:
            method, params = editor.notified.pop(0)
            if condition(method, params):
                return params
        try:
            editor.caller.listen(0.2)
        except TimeoutError:
            continue
    raise AssertionError("it was never told")


def diagnosed(editor: Editor, uri: str, count: int) -> list[dict[str, Any]]:
    """The document's diagnostics once there are that many."""
    found: list[dict[str, Any]] = told(
        editor,
        lambda method, params: (
            method == "textDocument/publishDiagnostics" and params["uri"] == uri and len(params["diagnostics"]) == count
        ),
    )["diagnostics"]
    return found


def test_a_running_agents_hunks_are_shown_taken_and_go_stale(
    plait: Plait, editor: Editor, top: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    uri = editor.open(top / "a.txt")
    (session,) = plait.run(editor.caller, top, SCRIPT.format(go=go), agents=[{"name": "sh"}])

    let_go(go)
    (diagnostic,) = diagnosed(editor, uri, 1)
    assert "(still working)" in diagnostic["message"]
    (first,) = editor.hunks(uri)
    assert (first["state"], first["added"]) == ("pending", ["LINE 3\n"])
    known = editor.caller.request("plait/session", {"session": session})
    assert (known["state"], known["files"], known["added"], known["removed"]) == ("working", 2, 2, 1)
    assert editor.execute("plait.hunk.accept", session=session, hunks=[first["id"]])["done"] == [first["id"]]
    assert editor.texts[uri] == LINES.replace("line 3\n", "LINE 3\n")
    diagnosed(editor, uri, 0)

    let_go(go)
    diagnosed(editor, uri, 1)
    (second,) = editor.hunks(uri)
    assert second["id"] != first["id"]
    editor.take_back(uri)
    with pytest.raises(PlaitError, match="the agent has changed it since"):
        editor.execute("plait.hunk.accept", session=session, hunks=[first["id"]])
    assert editor.execute("plait.hunk.accept", session=session, hunks=[second["id"]])["done"] == [second["id"]]
    assert editor.texts[uri] == LINES.replace("line 3\n", "LINE three\n")

    let_go(go)
    told(editor, lambda method, params: method == "textDocument/publishDiagnostics" and len(params["diagnostics"]) > 0)
    assert [hunk["kind"] for hunk in editor.hunks(uri)] == ["remove"]
    assert editor.caller.request("plait/session", {"session": session})["state"] == "working"
    assert (top / "a.txt").read_text() == LINES, "nothing but the buffer was changed"
    let_go(go)
    assert plait.rested(editor.caller, [session])[session]["state"] == "ready"
