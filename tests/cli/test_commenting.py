from __future__ import annotations

import pytest

from tests.support.cli import Plait, Repos, numbered

pytestmark = pytest.mark.slow

TWO = "sed -i 's/^line 3$/LINE 3/;s/^line 30$/LINE 30/' a.txt; echo new > b.txt"


def test_comments_are_listed_taken_back_and_sent_with_rejections(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, TWO)
    assert "have said nothing" in plait("comments", session, status=3).err
    assert "nothing that the agent was not told" in plait("send", session, status=3).err
    hunks = {hunk["path"]: hunk["id"] for hunk in plait.show(session)["hunks"]}
    first = plait("comment", session, "a.txt:3", "Why in capitals?", "--json", cwd=repo).json
    assert (first["path"], first["line"], first["quote"], first["sent"]) == ("a.txt", 2, ["LINE 3"], False)
    second = plait("comment", session, "--hunk", hunks["b.txt"], "-", "--json", cwd=repo, stdin=b"Say\nmore.\n").json
    assert (second["text"], second["quote"], second["hunk"]) == ("Say\nmore.", ["+new"], hunks["b.txt"])
    base = plait("comment", session, "--base", "a.txt:3", "Keep it.", "--json", cwd=repo).json
    assert (base["quote"], base["side"]) == (["line 3"], "base")
    assert "Taken back: Keep it." in plait("comments", session, "--remove", base["id"][-6:]).out
    plait("reject", session, "--hunk", hunks["b.txt"], "--why", "not asked for")
    out = plait("comments", session).out
    assert f"{first['id'][-6:]}  a.txt:3  (not sent)\n        LINE 3\n    Why in capitals?\n" in out
    assert f"rejected  b.txt {hunks['b.txt']}  (not sent): not asked for\n" in out
    sent = plait("send", session, "--wait", "--json", status=None).json
    assert (sent["comments"], sent["rejections"], sent["waits"], sent["left"]) == (2, 1, False, 0)
    view = plait.show(session)
    message = view["runs"][-1]["message"]
    assert "Why in capitals?" in message
    assert "Reason: not asked for" in message
    assert "a.txt:3  (sent)" in plait("comments", session).out
    assert "told this comment already" in plait("comments", session, "--remove", first["id"], status=3).err
    assert (repo / "a.txt").read_text() == numbered(40)


def test_what_cannot_be_commented_on_is_refused_with_the_way_to_do_it(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, TWO)
    assert "FILE:LINE TEXT" in plait("comment", session, "a.txt:3", cwd=repo, status=2).err
    assert "--hunk H TEXT" in plait("comment", session, "--hunk", "0" * 16, "a.txt", "x", status=2).err
    assert "no hunk" in plait("comment", session, "--hunk", "0" * 16, "x", status=2).err
    assert "no line 99" in plait("comment", session, "a.txt:99", "x", cwd=repo, status=2).err
    assert "no file" in plait("comment", session, "c.txt", "x", cwd=repo, status=2).err
    assert "empty" in plait("comment", session, "a.txt", " ", cwd=repo, status=2).err


def test_a_review_as_a_file_takes_up_what_was_written_into_it(plait: Plait, repos: Repos) -> None:
    repo = repos()
    session = plait.run(repo, TWO)
    assert "review of one session" in plait("review", "--file", status=2).err
    path = plait("review", session, "--file", "--json").json["path"]
    assert path.startswith(str(plait.places.data))
    with open(path) as file:  # noqa: PTH123 - the path is what the user would open
        text = file.read()
    assert "+LINE 30\n" in text
    with open(path, "w") as file:  # noqa: PTH123 - as above
        file.write(text.replace("+new\n", "+new\n# What is this for?\n# Tell.\n"))
    for _ in range(2):
        assert plait("review", session, "--file").out == f"{path}\n"
        (said,) = plait("comments", session, "--json").json["comments"]
        assert (said["path"], said["text"]) == ("b.txt", "What is this for?\nTell.")
    plait("comments", session, "--remove", said["id"])
    plait("review", session, "--file")
    assert plait("comments", session, "--json", status=0).json["comments"] == []
