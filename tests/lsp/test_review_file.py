"""A session's review as a document: actions on its hunks, comments by saving it, and it stays true while it is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.editor import Editor
from tests.support.plait import Plait, installed, ready
from tests.support.repo import LINES, make_repo, manifest

pytestmark = pytest.mark.slow

TWO = "sed -i 's/line 3$/LINE 3/; s/line 30/LINE 30/' a.txt; echo new > b.txt"


@pytest.fixture
def plait(tmp_path: Path) -> Iterator[Plait]:
    with installed(tmp_path / "plait", {"sh": ["sh", "-c", "{prompt}"]}) as made:
        yield made


@pytest.fixture
def editor(plait: Plait) -> Iterator[Editor]:
    plait.connect()
    made = Editor()
    yield made
    made.close()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": LINES})


def line_of(editor: Editor, uri: str, text: str) -> int:
    return editor.texts[uri].split("\n").index(text)


def actions(editor: Editor, uri: str, line: int) -> dict[str, dict[str, Any]]:
    """The code actions at a line, by their kind."""
    at = {"line": line, "character": 0}
    params = {"textDocument": {"uri": uri}, "range": {"start": at, "end": at}, "context": {"diagnostics": []}}
    found = editor.caller.request("textDocument/codeAction", params, 10)
    return {action["kind"].removeprefix("quickfix.plait."): action for action in found}


def do(editor: Editor, action: dict[str, Any]) -> Any:
    return editor.execute(action["command"]["command"], **action["command"]["arguments"][0])


def comes(editor: Editor, holds: Callable[[], object]) -> None:
    while not holds():
        editor.caller.listen(15)


def save(editor: Editor, uri: str) -> None:
    Path(uri.removeprefix("file://")).write_text(editor.texts[uri])
    editor.caller.notify("textDocument/didSave", {"textDocument": {"uri": uri}})


def said(editor: Editor, session: str) -> list[tuple[str, str]]:
    answer = editor.caller.request("plait/comments", {"session": session}, 10)
    return [(one["path"], one["text"]) for one in answer["comments"]]


def opened(editor: Editor, session: str) -> str:
    answer = editor.caller.request("plait/reviewFile", {"session": session}, 10)
    assert not answer["shown"], "this editor cannot be asked to show a document"
    return editor.open(Path(answer["path"]))


def test_hunks_are_accepted_and_rejected_in_the_document_which_follows(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, TWO)
    before = manifest(top)
    uri = opened(editor, session)
    assert uri.startswith(plait.places.data.as_uri())
    assert manifest(top) == before, "nothing is written into the user's repository"
    assert actions(editor, uri, 0) == {}
    do(editor, actions(editor, uri, line_of(editor, uri, "+LINE 3"))["accept"])
    assert (top / "a.txt").read_text() == LINES.replace("line 3\n", "LINE 3\n")
    comes(editor, lambda: "+LINE 3\n" not in editor.texts[uri])
    assert "+LINE 30\n" in editor.texts[uri]
    do(editor, actions(editor, uri, line_of(editor, uri, "+new"))["reject"])
    comes(editor, lambda: "+new\n" not in editor.texts[uri])
    assert editor.labels == ["Plait: review"] * 2
    do(editor, actions(editor, uri, line_of(editor, uri, "+LINE 30"))["accept"])
    comes(editor, lambda: "Nothing waits for you here" in editor.texts[uri])


def test_lines_below_a_hunk_become_comments_when_it_is_saved_and_are_taken_back_when_deleted(
    plait: Plait, editor: Editor, top: Path
) -> None:
    session = ready(plait, editor.caller, top, TWO)
    uri = opened(editor, session)
    editor.type(uri, editor.texts[uri].replace("+new\n", "+new\n# Why?\n# Tell me.\n\n# And a test.\n"))
    assert said(editor, session) == [], "not before it is saved"
    written = editor.texts[uri]
    save(editor, uri)
    comes(editor, lambda: len(said(editor, session)) == 2)
    assert said(editor, session) == [("b.txt", "Why?\nTell me."), ("b.txt", "And a test.")]
    save(editor, uri)
    editor.caller.request("plait/comment", {"session": session, "path": "a.txt", "text": "Elsewhere"}, 10)
    assert len(said(editor, session)) == 3, "saving again says nothing twice"
    assert editor.texts[uri] == written, "what was saved is not changed under the user's hands"
    editor.type(uri, written.replace("# Why?\n# Tell me.\n\n", ""))
    save(editor, uri)
    comes(editor, lambda: len(said(editor, session)) == 2)
    assert said(editor, session) == [("b.txt", "And a test."), ("a.txt", "Elsewhere")]


def test_what_the_user_is_writing_survives_when_the_document_changes(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, TWO)
    uri = opened(editor, session)
    editor.type(uri, editor.texts[uri].replace("+LINE 30\n", "+LINE 30\n# not saved yet\n"))
    (created,) = [hunk["id"] for hunk in editor.caller.request("plait/hunks", {"session": session}, 10)["hunks"]][2:]
    given = {"session": session, "hunk": created, "text": "From elsewhere."}
    editor.caller.request("plait/comment", given, 10)
    comes(editor, lambda: "+new\n# From elsewhere.\n" in editor.texts[uri])
    editor.caller.request("plait/accept", {"session": session, "hunks": [created]}, 10)
    comes(editor, lambda: f"{created} accepted" in editor.texts[uri])
    assert "# not saved yet\n" in editor.texts[uri]
    assert len(said(editor, session)) == 1
    save(editor, uri)
    comes(editor, lambda: len(said(editor, session)) == 2)
    assert ("a.txt", "not saved yet") in said(editor, session)


def test_a_comment_shows_on_its_lines_until_it_is_sent(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, TWO)
    uri = editor.open(top / "a.txt")
    params = {"session": session, "textDocument": {"uri": uri}, "position": {"line": 3, "character": 0}}
    editor.caller.request("plait/comment", {**params, "text": "Why in capitals?"}, 10)
    below = {**params, "position": {"line": 10, "character": 2}, "text": "And this?"}
    answer = editor.caller.request("plait/comment", below, 10)
    assert (answer["line"], answer["side"], answer["quote"]) == (10, "agent", ["line 10"])

    def hints() -> list[tuple[int, str]]:
        published = [p for m, p in editor.notified if m == "textDocument/publishDiagnostics" and p["uri"] == uri]
        newest = published[-1]["diagnostics"] if published else []
        return [(one["range"]["start"]["line"], one["message"]) for one in newest if one["code"] == "comment"]

    comes(editor, lambda: len(hints()) == 2)
    assert hints() == [(3, "You, to sh (not sent): Why in capitals?"), (10, "You, to sh (not sent): And this?")]
    at = {"textDocument": {"uri": uri}, "position": {"line": 3, "character": 0}}
    assert (
        "You (not sent): Why in capitals?" in editor.caller.request("textDocument/hover", at, 10)["contents"]["value"]
    )
    editor.type(uri, "typed\n" + editor.texts[uri])
    comes(editor, lambda: [line for line, _ in hints()] == [4, 11])
    found = actions(editor, uri, 11)
    do(editor, found["removeComment"])
    comes(editor, lambda: len(hints()) == 1)
    send = actions(editor, uri, 4)["send"]
    assert send["title"] == "Send 1 comment to sh"
    assert do(editor, send)["comments"] == 1
    comes(editor, lambda: not hints())


def test_the_dashboard_follows_the_sessions_and_offers_what_can_be_done(
    plait: Plait, editor: Editor, top: Path
) -> None:
    path = editor.execute("plait.dashboard")["path"]
    uri = editor.open(Path(path))
    assert "There are no sessions" in editor.texts[uri]
    session = ready(plait, editor.caller, top, TWO)
    comes(editor, lambda: "## ready: " in editor.texts[uri])
    heading = next(line for line in editor.texts[uri].split("\n") if line.startswith("## ready"))
    found = actions(editor, uri, line_of(editor, uri, heading) + 1)
    assert {"review", "accept", "reject", "merge", "resume", "retry", "trash"} == found.keys()
    assert do(editor, found["review"])["session"] == session
    do(editor, found["reject"])
    comes(editor, lambda: "3 of your comments and rejections are not sent" in editor.texts[uri])
