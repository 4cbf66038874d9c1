"""A message to the agent loses nothing, is bounded and always the same; rows keep their places between texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plait.core import comments as c
from plait.core import events as e
from plait.core.changes import Content, file_change
from plait.core.comments import Rejection
from plait.core.lines import split
from plait.core.state import Whole
from tests.support.histories import READY, created, history

TEXT = st.text(min_size=1, max_size=40).map(str.strip).filter(bool)
PATHS = st.sampled_from(["a.py", "b/c.py", "b/d.py", "ü x.txt"])
QUOTES = st.lists(st.text(max_size=20).map(c.shown), max_size=3).map(tuple)
COMMENTED = st.builds(
    e.Commented,
    id=st.uuids().map(str),
    path=PATHS,
    line=st.none() | st.integers(0, 99),
    side=st.sampled_from(["agent", "base", "user"]),
    quote=QUOTES,
    text=TEXT,
)
REJECTIONS = st.builds(
    Rejection,
    hunk=st.uuids().map(str),
    path=PATHS,
    line=st.none() | st.integers(0, 99),
    quote=QUOTES,
    why=st.none() | TEXT,
    fate=st.sampled_from(["taken out", "still there", "gone"]),
    reason=st.sampled_from(["", "It has changed."]),
)
COMMENTS = st.lists(COMMENTED, max_size=6, unique_by=lambda one: one.id)
UNWANTED = st.lists(REJECTIONS, max_size=6, unique_by=lambda one: one.hunk)


@given(COMMENTS, UNWANTED, st.randoms(use_true_random=False))
def test_nothing_is_lost_and_the_order_of_events_does_not_matter(
    comments: list[e.Commented], rejections: list[Rejection], source: object
) -> None:
    told = c.message(comments, rejections)
    assert set(told.comments) == {one.id for one in comments}
    assert set(told.rejected) == {one.hunk for one in rejections}
    for one in comments:
        assert one.text.strip() in told.text
        assert all(line in told.text for line in one.quote)
    for rejection in rejections:
        assert rejection.why is None or rejection.why.strip() in told.text
    shuffled = list(comments), list(rejections)
    for part in shuffled:
        source.shuffle(part)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert c.message(*shuffled) == told


@given(COMMENTS, UNWANTED, st.integers(0, 400))
def test_what_does_not_fit_waits_for_the_next_message_and_none_is_told_twice(
    comments: list[e.Commented], rejections: list[Rejection], limit: int
) -> None:
    left, unwanted, rounds = list(comments), list(rejections), 0
    while left or unwanted:
        told = c.message(left, unwanted, limit)
        assert told.comments or told.rejected
        left = [one for one in left if one.id not in told.comments]
        unwanted = [one for one in unwanted if one.hunk not in told.rejected]
        rounds += 1
    assert rounds <= len(comments) + len(rejections)


def test_a_message_reads_as_a_person_would_write_it() -> None:
    comments = [
        e.Commented(id="2", path="src/b.py", line=4, quote=("+total = 0",), text="Call it `sum`."),
        e.Commented(id="1", path="src/a.py", text="Split this file."),
    ]
    rejections = [Rejection("h", "src/b.py", 9, ("-x", "+```"), "Not asked for.", "taken out")]
    assert c.message(comments, rejections).text == (
        "The user has reviewed your changes and says:\n\n"
        "## src/a.py\n\nThe file:\nSplit this file.\n\n"
        "## src/b.py\n\nLine 5:\n```\n+total = 0\n```\nCall it `sum`.\n\n"
        "The user rejected the following changes. Do not bring them back in this or another form:\n\n"
        "## src/b.py\n\nLine 10:\n````\n-x\n+```\n````\nReason: Not asked for.\n"
        "It has been taken out of your worktree already."
    )


@given(PATHS | st.text(min_size=1).filter(lambda text: ":" not in text), st.none() | st.integers(0, 10**8))
def test_a_place_is_read_as_it_was_written(path: str, line: int | None) -> None:
    assert c.parse_place(c.place(path, line)) == (path, line)


@given(st.text())
def test_any_text_names_some_place(text: str) -> None:
    path, line = c.parse_place(text)
    assert text.startswith(path)
    assert line is None or line >= 0


ROWS = st.lists(st.sampled_from([b"a\n", b"b\n", b"}\n", b"\n", b"x"]), max_size=12)


@given(ROWS, ROWS, st.integers(0, 12))
def test_a_row_that_is_the_same_in_another_text_is_found_and_found_back(
    one: list[bytes], other: list[bytes], row: int
) -> None:
    there, same = c.row_in(one, other, row)
    assert 0 <= there <= max(0, len(other) - 1)
    if same:
        assert one[row] == other[there]
    if one == other and row < len(one):
        assert (there, same) == (row, True)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_quoted_row_is_one_harmless_line(data: bytes) -> None:
    for row in split(data):
        line = c.shown(row)
        assert line.splitlines() in ([line], [])
        assert "\x1b" not in line


def test_a_long_change_is_quoted_by_its_ends() -> None:
    after = b"".join(b"row %d\n" % number for number in range(100))
    (hunk,) = file_change("a", None, Content(b""), Content(after)).hunks
    quote = c.quote_of(hunk)
    assert (quote[0], quote[-1], len(quote)) == ("+row 0", "+row 99", c.QUOTED + 1)
    assert "… 80 rows …" in quote


SAID = e.Commented(id="c1", path="a", text="Why?")
NO = e.Decided(hunk="h", path="a", verdict="rejected", why="No.")


def test_a_comment_is_unsent_until_it_was_sent_and_a_rejection_given_again_is_told_again() -> None:
    def after(*events: e.Event) -> tuple[int, int]:
        session = history(Whole(), "s", created(), *READY, *events).sessions["s"]
        return len(session.unsent), len(session.untold)

    sent = e.CommentsSent(ids=("c1",), rejected=("h",))
    assert after(SAID, NO) == (1, 1)
    assert after(SAID, e.CommentRemoved(id="c1")) == (0, 0)
    assert after(SAID, NO, sent) == (0, 0)
    assert after(SAID, NO, sent, NO) == (0, 1)
    assert after(NO, e.Decided(hunk="h", path="a", verdict="cleared")) == (0, 0)
