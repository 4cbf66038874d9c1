"""Review in an open document: the hunks lie where the text is now, and accepting is an ordinary undoable edit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as t
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from plait.errors import ConflictError
from tests.support.editor import Editor, applied
from tests.support.plait import Plait, ready
from tests.support.processes import eventually
from tests.support.repo import LINES, make_repo, manifest


def states(editor: Editor, uri: str) -> list[tuple[str, int, int]]:
    return [(hunk["state"], hunk["range"]["start"]["line"], hunk["range"]["end"]["line"]) for hunk in editor.hunks(uri)]


def test_a_hunk_is_accepted_into_the_buffer_undone_and_typed_by_hand(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/; s/line 30/LINE 30/' a.txt")
    before = manifest(top)
    uri = editor.open(top / "a.txt")
    assert states(editor, uri) == [("pending", 3, 4), ("pending", 30, 31)]

    editor.type(uri, "typed above\nand more\n" + LINES)
    assert states(editor, uri) == [("pending", 5, 6), ("pending", 32, 33)]

    first = editor.hunks(uri)[0]["id"]
    result = editor.execute("plait.hunk.accept", session=session, hunks=[first])
    assert (result["done"], result["inEditor"]) == ([first], ["a.txt"])
    assert editor.texts[uri] == "typed above\nand more\n" + LINES.replace("line 3\n", "LINE 3\n")
    assert len(editor.undo[uri]) == 2, "one edit, one undoable step"
    assert states(editor, uri)[0] == ("applied", 5, 6)
    assert manifest(top) == before, "nothing is saved behind the user's back"

    editor.take_back(uri)
    assert states(editor, uri)[0] == ("pending", 5, 6)
    editor.type(uri, editor.texts[uri].replace("line 3\n", "LINE 3\n"))
    assert states(editor, uri)[0] == ("applied", 5, 6)


def test_the_users_edit_of_the_same_line_is_a_conflict_and_survives(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/; s/line 30/LINE 30/' a.txt")
    uri = editor.open(top / "a.txt")
    mine = LINES.replace("line 3\n", "my own\n")
    editor.type(uri, mine)
    conflicting, _ = editor.hunks(uri)
    assert (conflicting["state"], conflicting["theirs"]) == ("conflicting", ["my own\n"])
    with pytest.raises(ConflictError):
        editor.execute("plait.hunk.accept", session=session, hunks=[conflicting["id"]])
    editor.execute("plait.session.accept", session=session)
    assert editor.texts[uri] == mine.replace("line 30\n", "LINE 30\n")


def test_an_editor_that_claims_an_edit_which_it_dropped_is_not_believed(
    plait: Plait, editor: Editor, top: Path
) -> None:
    session = ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/' a.txt")
    uri = editor.open(top / "a.txt")
    editor.stale = True
    with pytest.raises(ConflictError):
        editor.execute("plait.session.accept", session=session)
    assert states(editor, uri) == [("pending", 3, 4)]
    assert editor.caller.request("plait/session", {"session": session})["accepted"] == 0


def test_a_terminal_accepts_into_the_editor_that_has_the_file_open(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/' a.txt; echo new > new.txt")
    uri = editor.open(top / "a.txt")
    editor.type(uri, "unsaved\n" + LINES)
    terminal = plait.connect()

    def accept() -> Any:
        return terminal.request("plait/accept", {"session": session}, 20)

    import threading

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(accept()))
    thread.start()
    while thread.is_alive():
        try:
            editor.caller.listen(0.1)
        except TimeoutError:
            continue
    (result,) = results
    assert result["inEditor"] == ["a.txt"]
    assert editor.texts[uri] == "unsaved\n" + LINES.replace("line 3\n", "LINE 3\n")
    assert (top / "a.txt").read_text() == LINES
    assert (top / "new.txt").read_text() == "new\n"


def test_undo_in_the_editor_reopens_an_applied_session(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, "sed -i 's/line 3$/LINE 3/' a.txt")
    uri = editor.open(top / "a.txt")
    editor.execute("plait.session.accept", session=session)

    def state() -> str:
        found: str = editor.caller.request("plait/session", {"session": session})["state"]
        return found

    assert state() == "applied"
    editor.take_back(uri)
    eventually(lambda: state() == "ready")


@pytest.mark.parametrize(
    ("content", "command"),
    [
        (LINES.replace("\n", "\r\n"), r"sed -i 's/line 3\r$/LINE 3\r/' a.txt"),
        ("\ufeff" + LINES, "sed -i 's/line 3$/LINE 3/' a.txt"),
        ("🎉é\tx\u2028y\x0cz\n" + LINES, "sed -i 's/line 3$/LINE 3/' a.txt"),
        (LINES + "no end", "sed -i 's/no end/still none/' a.txt; truncate -s -1 a.txt"),
        (LINES + "no end", "printf '\\nmore' >> a.txt"),
    ],
    ids=["crlf", "bom", "odd characters", "no final newline", "appended without newline"],
)
def test_line_ends_marks_and_odd_characters_survive(
    plait: Plait, editor: Editor, tmp_path: Path, content: str, command: str
) -> None:
    top = make_repo(tmp_path / "odd", {"a.txt": content})
    session = ready(plait, editor.caller, top, command)
    uri = editor.open(top / "a.txt")
    editor.execute("plait.session.accept", session=session)
    worktree = editor.caller.request("plait/session", {"session": session})["worktree"]
    assert editor.texts[uri] == Path(worktree, "a.txt").read_bytes().decode("utf-8-sig")
    assert [hunk["state"] for hunk in editor.hunks(uri)] == ["applied"]


@pytest.mark.slow
@pytest.mark.parametrize("capabilities", ["visual_studio_code", "neovim@v0.11"])
async def test_the_same_through_the_real_proxy_with_a_real_clients_capabilities(
    plait: Plait, top: Path, capabilities: str
) -> None:
    config = ClientServerConfig(server_command=[sys.executable, "-m", "plait", "lsp", "--stdio"])
    client = await config.start()
    assert isinstance(client, LanguageClient)
    text = {"now": LINES}
    uri = (top / "a.txt").as_uri()

    @client.feature(t.WORKSPACE_APPLY_EDIT)
    def apply(params: t.ApplyWorkspaceEditParams) -> t.ApplyWorkspaceEditResult:
        if params.edit.document_changes:
            (change,) = params.edit.document_changes
            assert isinstance(change, t.TextDocumentEdit)
            assert (change.text_document.uri, change.text_document.version) == (uri, 7)
            given = change.edits
        else:
            given = (params.edit.changes or {})[uri]
        edits = [client.protocol._converter.unstructure(edit) for edit in given]
        text["now"] = applied(text["now"], edits)
        client.text_document_did_change(
            t.DidChangeTextDocumentParams(
                text_document=t.VersionedTextDocumentIdentifier(uri=uri, version=8),
                content_changes=[t.TextDocumentContentChangeWholeDocument(text=text["now"])],
            )
        )
        return t.ApplyWorkspaceEditResult(applied=True)

    try:
        result = await client.initialize_session(
            t.InitializeParams(
                capabilities=client_capabilities(capabilities),
                root_uri=top.as_uri(),
                initialization_options={"plait": {"protocol": 1, "features": ["hunks"]}},
            )
        )
        assert result.server_info is not None
        assert result.server_info.name == "plait"
        client.text_document_did_open(
            t.DidOpenTextDocumentParams(t.TextDocumentItem(uri=uri, language_id="plaintext", version=7, text=LINES))
        )
        run = {"text": "sed -i 's/line 3$/LINE 3/' a.txt", "agents": [{"name": "sh"}], "env": plait.env}
        (session,) = (await client.protocol.send_request_async("plait/run", run)).sessions
        await client.protocol.send_request_async("plait/wait", {"sessions": [session.id]})
        done = await client.workspace_execute_command_async(
            t.ExecuteCommandParams(command="plait.session.accept", arguments=[{"session": session.id}])
        )
        assert isinstance(done, dict)
        assert done["inEditor"] == ["a.txt"]
        assert text["now"] == LINES.replace("line 3\n", "LINE 3\n")
    finally:
        await client.shutdown_session()
