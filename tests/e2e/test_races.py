"""Review where two things come together: renames and modes in open buffers, other clients, other repositories."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from plait.errors import ConflictError, NothingToDo
from plait.rpc import Caller
from tests.support.editor import Editor
from tests.support.plait import Plait, ready
from tests.support.processes import eventually
from tests.support.repo import LINES, commit, make_repo, run_git, write

CHANGED = LINES.replace("line 3\n", "LINE 3\n")
SED = "sed -i 's/line 3$/LINE 3/' a.txt"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": LINES, "b.txt": "b\n"})


def detail(caller: Caller, session: str) -> dict[str, Any]:
    found: dict[str, Any] = caller.request("plait/session", {"session": session})
    return found


def test_a_rename_with_edits_is_taken_whole_though_the_old_name_is_open(
    plait: Plait, editor: Editor, top: Path
) -> None:
    session = ready(plait, editor.caller, top, f"{SED}; mv a.txt c.txt")
    editor.open(top / "a.txt")
    result = editor.execute("plait.session.accept", session=session)
    assert len(result["done"]) == 2
    assert not (top / "a.txt").exists()
    assert (top / "c.txt").read_text() == CHANGED


def test_a_rename_of_a_file_with_unsaved_edits_asks_to_save_them(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, f"{SED}; mv a.txt c.txt")
    uri = editor.open(top / "a.txt")
    editor.type(uri, LINES + "mine\n")
    with pytest.raises(ConflictError, match="unsaved"):
        editor.execute("plait.session.accept", session=session)
    assert (top / "a.txt").read_text() == LINES
    assert not (top / "c.txt").exists()
    assert detail(editor.caller, session)["accepted"] == 0


def test_a_mode_goes_to_disk_and_the_lines_to_the_buffer(plait: Plait, editor: Editor, top: Path) -> None:
    session = ready(plait, editor.caller, top, f"{SED}; chmod +x a.txt")
    uri = editor.open(top / "a.txt")
    editor.execute("plait.session.accept", session=session)
    assert editor.texts[uri] == CHANGED
    assert (top / "a.txt").read_text() == LINES
    assert (top / "a.txt").stat().st_mode & 0o111
    assert detail(editor.caller, session)["state"] == "applied"


@pytest.mark.parametrize("how", ["close", "quit"])
def test_a_buffer_that_goes_unsaved_takes_the_acceptance_with_it(
    plait: Plait, caller: Caller, editor: Editor, top: Path, how: str
) -> None:
    session = ready(plait, caller, top, SED)
    uri = editor.open(top / "a.txt")
    editor.execute("plait.session.accept", session=session)
    assert detail(caller, session)["state"] == "applied"
    if how == "close":
        editor.caller.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    else:
        editor.close()
    eventually(lambda: detail(caller, session)["state"] == "ready")


def test_a_rejected_submodule_stays_at_its_commit(plait: Plait, caller: Caller, top: Path, tmp_path: Path) -> None:
    inner = make_repo(tmp_path / "inner", {"x": "x\n"})
    run_git(top, "submodule", "--quiet", "add", str(inner), "sub")
    base = commit(top, "Submodule")
    at = run_git(top, "rev-parse", "HEAD:sub")
    command = (
        "git submodule --quiet update --init; cd sub; echo y > y; git add y; "
        "git -c user.name=A -c user.email=a@b commit -qm y; cd ..; echo 1 > one"
    )
    session = ready(plait, caller, top, command)
    (hunk,) = [hunk for hunk in detail(caller, session)["hunks"] if hunk["kind"] == "submodule"]
    caller.request("plait/reject", {"session": session, "hunks": [hunk["id"]]})
    run_git(top, "branch", "side", base)
    caller.request("plait/merge", {"session": session, "into": "side", "how": "squash"})
    assert run_git(top, "rev-parse", "side:sub") == at
    assert run_git(top, "show", "side:one") == "1"


def test_hunks_are_rejected_in_a_bare_repository_too(plait: Plait, caller: Caller, top: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    run_git(top, "clone", "--quiet", "--bare", str(top), str(bare))
    session = ready(plait, caller, bare, f"{SED}; echo 1 > one")
    hunks = caller.request("plait/hunks", {"session": session})["hunks"]
    assert [(hunk["path"], hunk["state"]) for hunk in hunks] == [("a.txt", "pending"), ("one", "pending")]
    caller.request("plait/reject", {"session": session, "paths": ["a.txt"]})
    caller.request("plait/merge", {"session": session, "into": "main"})
    assert run_git(bare, "show", "main:one") == "1"
    assert run_git(bare, "show", "main:a.txt") == LINES.rstrip("\n")


def test_a_file_that_cannot_be_read_hides_no_other(plait: Plait, caller: Caller, tmp_path: Path) -> None:
    top = make_repo(tmp_path, {"dir/a.txt": LINES, "b.txt": "b\n"})
    session = ready(plait, caller, top, "echo more >> dir/a.txt; echo more >> b.txt")
    (top / "dir").rename(tmp_path / "elsewhere")
    (top / "dir").symlink_to(tmp_path / "elsewhere")
    assert [(hunk["path"], hunk["state"]) for hunk in detail(caller, session)["hunks"]] == [
        ("b.txt", "pending"),
        ("dir/a.txt", "conflicting"),
    ]
    result = caller.request("plait/accept", {"session": session})
    assert ([len(result["done"]), len(result["refused"])], result["files"]) == ([1, 1], ["b.txt"])
    assert "symbolic link" in result["refused"][0]["reason"]
    assert (tmp_path / "elsewhere" / "a.txt").read_text() == LINES


def test_a_repository_that_is_gone_hides_no_other_sessions(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    other = make_repo(tmp_path / "other", {"a.txt": LINES})
    lost, fine = ready(plait, caller, other, SED), ready(plait, caller, top, SED)
    shutil.rmtree(other)
    found = caller.request("plait/review", {})
    assert [entry["id"] for entry in found["queue"]] == [fine]
    assert "is gone" in found["problems"][0]
    assert "is gone" in detail(caller, lost)["problem"]
    caller.request("plait/trash", {"session": lost})
    assert caller.request("plait/review", {})["problems"] == []


def test_a_path_through_a_link_is_the_same_file(plait: Plait, caller: Caller, top: Path, tmp_path: Path) -> None:
    session = ready(plait, caller, top, SED)
    (tmp_path / "link").symlink_to(top)
    caller.request("plait/accept", {"session": session, "paths": [str(tmp_path / "link" / "a.txt")]})
    assert (top / "a.txt").read_text() == CHANGED


def test_a_name_that_is_not_utf8_is_reviewed_like_any_other(plait: Plait, caller: Caller, top: Path) -> None:
    session = ready(plait, caller, top, r"echo 1 > $(printf 'odd\377'); echo 2 > two")
    hunks = detail(caller, session)["hunks"]
    assert len(hunks) == 2
    caller.request("plait/reject", {"session": session, "hunks": [hunks[0]["id"]]})
    caller.request("plait/accept", {"session": session})
    assert (top / "two").read_text() == "2\n"
    assert detail(caller, session)["state"] == "applied"


def test_two_clients_accept_the_same_at_once(plait: Plait, caller: Caller, top: Path) -> None:
    session = ready(plait, caller, top, SED)
    other = plait.connect()
    import threading

    results: list[object] = []

    def accept(by: Caller) -> None:
        try:
            results.append(by.request("plait/accept", {"session": session})["done"])
        except NothingToDo:
            results.append("nothing")

    threads = [threading.Thread(target=accept, args=[by]) for by in (caller, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("nothing") == 1
    assert (top / "a.txt").read_text() == CHANGED
    write(top, {"a.txt": LINES})
