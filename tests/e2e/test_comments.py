"""What the user says in an editor reaches the agent in one message, at the end of its turn, whatever dies meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plait.rpc import Caller
from tests.support.editor import Editor
from tests.support.plait import Plait
from tests.support.processes import eventually
from tests.support.repo import LINES

pytestmark = pytest.mark.slow


def view(caller: Caller, session: str) -> dict[str, Any]:
    found: dict[str, Any] = caller.request("plait/session", {"session": session}, 20)
    return found


def test_a_comment_and_a_rejection_made_in_the_editor_reach_the_agent_in_one_message(
    plait: Plait, editor: Editor, caller: Caller, top: Path
) -> None:
    # The agent keeps what it finds when it is started.
    script = "cp a.txt seen.txt; sed -i 's/line 3$/LINE 3/; s/line 30$/LINE 30/' a.txt"
    (session,) = plait.run(caller, top, "Capitals", command=["sh", "-c", script])
    plait.rested(caller, [session])
    uri = editor.open(top / "a.txt")
    first, second, seen = view(caller, session)["hunks"]
    said = editor.execute("plait.hunk.comment", session=session, hunks=[first["id"]], text="Why in capitals?")
    assert (said["path"], said["line"], said["quote"]) == ("a.txt", 3, ["-line 3", "+LINE 3"])
    here = editor.execute("plait.hunk.comment", uri=uri, line=30, text="And here?")
    assert here["hunk"] == second["id"]
    editor.execute("plait.hunk.reject", session=session, hunks=[second["id"], seen["id"]], why="Not asked for.")
    before = view(caller, session)
    assert (before["unsent"], len(before["runs"])) == (4, 1), "nothing goes by itself"
    answer = editor.execute("plait.session.sendComments", session=session)
    assert (answer["comments"], answer["rejections"], answer["waits"]) == (2, 2, False)
    plait.rested(caller, [session])
    after = view(caller, session)
    assert after["unsent"] == 0
    message = after["runs"][-1]["message"]
    assert message.count("taken out of your worktree already") == 2
    assert message.index("Why in capitals?") < message.index("And here?") < message.index("Reason: Not asked for.")
    now = (Path(after["worktree"]) / "seen.txt").read_text()
    assert now == LINES.replace("line 3\n", "LINE 3\n"), "when it went on, only what was not rejected was there"
    assert (top / "a.txt").read_text() == LINES
    with pytest.raises(Exception, match="nothing that the agent was not told"):
        editor.execute("plait.session.sendComments", session=session)


def test_what_shall_be_sent_after_the_turn_is_sent_by_the_next_daemon(plait: Plait, caller: Caller, top: Path) -> None:
    go = top.parent / "go"
    script = f"echo x >> b.txt; until [ -e {go} ]; do sleep 0.05; done"
    (session,) = plait.run(caller, top, "Wait", command=["sh", "-c", script])
    eventually(lambda: view(caller, session)["worktree"] is not None)
    worktree = Path(view(caller, session)["worktree"])
    eventually((worktree / "b.txt").exists)
    given = {"session": session, "path": "a.txt", "line": 0, "text": "Leave this."}
    caller.request("plait/comment", given, 20)
    assert caller.request("plait/sendComments", {"session": session, "env": plait.env}, 20)["waits"]
    plait.kill_daemon()
    go.touch()
    again = plait.connect()
    eventually(lambda: len(view(again, session)["runs"]) == 2, 30)
    plait.rested(again, [session])
    found = view(again, session)
    assert "Line 1:\n```\nline 0\n```\nLeave this." in found["runs"][1]["message"]
    assert found["unsent"] == 0
    assert (worktree / "b.txt").read_text() == "x\nx\n"
