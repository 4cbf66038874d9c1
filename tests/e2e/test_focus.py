"""Commands without arguments, as editors' pickers give them: they mean where the user was last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plait.errors import NothingToDo, UsageError
from tests.support.editor import Editor
from tests.support.plait import Plait, ready
from tests.support.repo import LINES, make_repo


def run(editor: Editor, command: str) -> Any:
    return editor.caller.request("workspace/executeCommand", {"command": command}, 20)


def look(editor: Editor, uri: str, line: int) -> None:
    """What an editor asks when its user rests the cursor somewhere."""
    at = {"line": line, "character": 0}
    editor.caller.request("textDocument/hover", {"textDocument": {"uri": uri}, "position": at}, 10)


def test_walking_and_deciding_need_no_arguments(plait: Plait, editor: Editor, top: Path) -> None:
    ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/; s/line 30/LINE 30/' a.txt; echo new > b.txt")
    ready(plait, editor.caller, top, "sed -i 's/line 10$/LINE 10/' a.txt")
    uri = editor.open(top / "a.txt")
    look(editor, uri, 0)

    def go(command: str) -> tuple[str, int, int, int]:
        there = run(editor, command)
        assert there["shown"] is False, "this editor does not take requests to show something"
        return Path(there["uri"]).name, there["range"]["start"]["line"], there["number"], there["count"]

    assert go("plait.hunk.next") == ("a.txt", 3, 1, 4)
    assert len(run(editor, "plait.hunk.accept")["done"]) == 1
    assert editor.texts[uri] == LINES.replace("line 3\n", "LINE 3\n")
    assert go("plait.hunk.next") == ("a.txt", 10, 1, 3)
    assert len(run(editor, "plait.hunk.reject")["done"]) == 1
    assert go("plait.hunk.next") == ("a.txt", 30, 1, 2)
    assert go("plait.hunk.next") == ("b.txt", 0, 2, 2)
    assert go("plait.hunk.next") == ("a.txt", 30, 1, 2)
    assert go("plait.hunk.prev") == ("b.txt", 0, 2, 2)
    editor.type(uri, "above\n" + editor.texts[uri])
    look(editor, uri, 31)
    assert run(editor, "plait.file.accept")["inEditor"] == ["a.txt"]
    assert "LINE 30\n" in editor.texts[uri]
    look(editor, uri, 20)
    assert go("plait.hunk.next") == ("b.txt", 0, 1, 1)


def test_without_a_place_or_at_the_wrong_one_nothing_is_decided(plait: Plait, editor: Editor, top: Path) -> None:
    one = ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/' a.txt")
    other = ready(plait, editor.caller, top, "sed -i 's/line 3$/Line three/' a.txt")
    uri = editor.open(top / "a.txt")
    with pytest.raises(UsageError, match="Which hunk"):
        run(editor, "plait.hunk.accept")
    look(editor, uri, 20)
    with pytest.raises(UsageError, match="No hunk waits at line 21"):
        run(editor, "plait.hunk.accept")
    look(editor, uri, 3)
    for command in ("plait.hunk.accept", "plait.file.accept", "plait.session.accept"):
        with pytest.raises(UsageError, match="2 hunks lie here"):
            run(editor, command)
    with pytest.raises(UsageError, match="those of a session"):
        editor.execute("plait.hunk.accept", hunks=["0"])
    assert editor.texts[uri] == LINES

    chosen = run(editor, "plait.hunk.next")
    assert chosen["session"] in (one, other)
    run(editor, "plait.session.accept")
    assert editor.texts[uri] != LINES
    left = editor.caller.request("plait/hunks", {"textDocument": {"uri": uri}}, 10)["hunks"]
    assert {hunk["session"]: hunk["state"] for hunk in left}[chosen["session"]] == "applied"


def test_only_the_repository_that_the_user_is_in_is_walked(
    plait: Plait, editor: Editor, top: Path, tmp_path: Path
) -> None:
    ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/' a.txt")
    elsewhere = make_repo(tmp_path / "elsewhere", {"x.txt": "x\n"})
    uri = editor.open(elsewhere / "x.txt")
    look(editor, uri, 0)
    with pytest.raises(NothingToDo):
        run(editor, "plait.hunk.next")


def test_the_status_is_told_to_an_editor_that_has_just_come(plait: Plait, editor: Editor, top: Path) -> None:
    ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/' a.txt")
    late = Editor()
    while not late.notified:
        late.caller.listen(10)
    assert [params["message"] for method, params in late.notified if method == "plait/didChangeStatus"] == ["1 ready"]
    late.close()
