"""What the user writes into a review comes back as it was written, and nothing of an agent's can pass for it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from plait.core.changes import Content, FileChange, file_change
from plait.core.locate import UserFile, locate
from plait.core.review_page import Entry, drafts, normal, page, sections
from tests.support.contents import many, text_changes

NOTES = st.lists(st.text(max_size=30).map(normal).filter(str.strip), max_size=3).map(tuple)


def entries(change: FileChange, notes: dict[str, tuple[str, ...]] | None = None) -> list[Entry]:
    user = UserFile(change.base, change.base if change.old_path is None else None)
    return [Entry(change, row, "", (notes or {}).get(row.hunk.id, ())) for row in locate(change, user)]


@many
@given(text_changes(), st.data())
def test_every_hunk_and_every_comment_comes_back(change: FileChange, data: st.DataObject) -> None:
    notes = {hunk.id: data.draw(NOTES) for hunk in change.hunks}
    text = page("A\ntask", "ag\rent", "abcd", entries(change, notes))
    found = sections(text)
    assert [one.hunk for one in found] == [hunk.id for hunk in change.hunks]
    assert {one.hunk: one.notes for one in found} == notes
    lines = text.split("\n")
    for one in found:
        assert one.hunk in lines[one.start]
        assert one.start < one.end <= len(lines)
        inside = lines[one.start + 1 : one.end]
        assert not any(line.startswith(("@@", "diff ")) for line in inside)
    assert not list(drafts({one.hunk: one.notes for one in found}, notes))


@many
@given(st.lists(st.sampled_from([b"# mine", b"\r# mine", b"x\x0b# y", "\u2028# z".encode(), b"@@ -1,1 +1,1 @@ "])))
def test_no_text_of_an_agent_passes_for_the_users(rows: list[bytes]) -> None:
    data = b"\r".join([*rows, b"0123456789abcdef # mine\n"])
    change = file_change("\r# mine", None, Content(b"# base\n"), Content(data + b"\n".join(rows)))
    text = page("\r# mine", "\n# mine", "abcd", entries(change))
    assert [one.hunk for one in sections(text)] == [hunk.id for hunk in change.hunks]
    assert not any(one.notes for one in sections(text))
    assert len(text.splitlines()) == len(text.split("\n")) - 1, "no line has another line in it"


@many
@given(text_changes(), st.randoms(use_true_random=False), st.text(max_size=10))
def test_whatever_the_user_does_to_the_document_is_read_without_a_fault(
    change: FileChange, source: random.Random, typed: str
) -> None:
    text = page("Task", "agent", "abcd", entries(change))
    for _ in range(3):
        at, length = source.randint(0, len(text)), source.randint(0, 40)
        text = text[:at] + typed + text[at + length :]
    known = {hunk.id for hunk in change.hunks}
    for one in sections(text):
        assert one.hunk in known or typed
        assert 0 <= one.start < one.end


def test_a_page_reads_like_a_diff() -> None:
    base = b"".join(b"line %d\n" % number for number in range(12))
    after = base.replace(b"line 2\n", b"two\n").replace(b"line 5\n", b"").replace(b"line 11\n", b"end")
    change = file_change("src/a.txt", None, Content(base), Content(after))
    first, second, last = change.hunks
    text = page("Shorten it", "claude", "abcd", entries(change, {first.id: ("Why?", "And\n\nhow?")}))
    assert text.split("\n", 7)[7] == (
        "diff --git a/src/a.txt b/src/a.txt\n--- a/src/a.txt\n+++ b/src/a.txt\n"
        f"@@ -1,5 +1,5 @@ {first.id} replace\n line 0\n line 1\n-line 2\n+two\n line 3\n line 4\n"
        "# Why?\n\n# And\n#\n# how?\n"
        f"@@ -4,6 +4,5 @@ {second.id} delete\n line 3\n line 4\n-line 5\n line 6\n line 7\n line 8\n"
        f"@@ -9,4 +8,4 @@ {last.id} replace\n line 8\n line 9\n line 10\n-line 11\n+end\n"
    )


def test_what_has_no_text_is_told_in_words() -> None:
    renamed = file_change("b", "a", Content(b"x\n"), Content(b"x\n", 0o100755))
    assert "\\ rename from a to b" in page("T", "a", "s", entries(renamed))
    assert "\\ mode from 100644 to 100755" in page("T", "a", "s", entries(renamed))
    binary = file_change("b", None, Content(b"\0"), Content(b"\0\0"))
    assert "\\ binary: there is no text to show" in page("T", "a", "s", entries(binary))
    assert "Nothing waits for you here" in page("T", "a", "s", [])
