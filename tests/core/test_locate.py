from __future__ import annotations

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plait.core.accept import accept
from plait.core.changes import EXECUTABLE, SUBMODULE, SYMLINK, Content, FileChange, file_change
from plait.core.lines import BOM, eol_of, split, with_eol
from plait.core.locate import Placed, State, UserFile, locate, same_content
from tests.support.contents import (
    any_changes,
    at_agent,
    at_base,
    change_of,
    contents,
    distinct_rows,
    many,
    rows_of,
    text_changes,
    user_of,
)


def states(change: FileChange, user: UserFile, accepted: frozenset[str] = frozenset()) -> list[State]:
    return [placed.state for placed in locate(change, user, accepted)]


def rows(text: str) -> list[bytes]:
    """One row for every letter."""
    return [letter.encode() + b"\n" for letter in text]


def placed_in(base: str, agent: str, user: str) -> list[Placed]:
    return list(locate(change_of(rows(base), rows(agent)), user_of(rows(user))))


@pytest.mark.parametrize(
    ("base", "agent", "user", "state"),
    [
        ("abc", "aXc", "abc", "pending"),
        ("abc", "aXc", "aXc", "applied"),
        ("abc", "aXc", "aYc", "conflicting"),
        ("abc", "aXc", "ac", "conflicting"),
        ("abc", "aXc", "YYabc", "pending"),
        ("abc", "aXc", "YbZ", "pending"),
        ("abc", "abXc", "abc", "pending"),
        ("abc", "abXc", "abXc", "applied"),
        ("abc", "abXc", "abYc", "conflicting"),
        ("abc", "abXc", "aYc", "conflicting"),
        ("abc", "abXc", "Ybc", "pending"),
        ("abc", "abcX", "abc", "pending"),
        ("abc", "abcX", "abcY", "conflicting"),
        ("abc", "Xabc", "abc", "pending"),
        ("abc", "Xabc", "Yabc", "conflicting"),
        ("abc", "ac", "abc", "pending"),
        ("abc", "ac", "ac", "applied"),
        ("abc", "ac", "aYc", "conflicting"),
        ("abc", "", "abc", "pending"),
        ("abc", "", "", "applied"),
        ("abc", "", "Y", "conflicting"),
        ("", "X", "", "pending"),
        ("", "X", "X", "applied"),
        ("", "X", "Y", "conflicting"),
        ("abc", "aXYc", "aXc", "conflicting"),
        ("aaa", "aaaa", "aaa", "pending"),
        ("aaa", "aaaa", "aaaa", "applied"),
    ],
)
def test_a_hunk_has_the_state_that_the_users_text_gives_it(base: str, agent: str, user: str, state: State) -> None:
    (placed,) = placed_in(base, agent, user)
    assert placed.state == state
    assert bool(placed.reason) == (state == "conflicting")


def test_a_pending_hunk_lies_where_its_lines_are_now() -> None:
    (placed,) = placed_in("abcdef", "abXdef", "YYYabcdef")
    assert (placed.start, placed.end) == (5, 6)
    (placed,) = placed_in("abcdef", "abcXdef", "bcdef")
    assert (placed.start, placed.end) == (2, 2)


def test_an_applied_hunk_lies_where_the_agents_lines_are_now() -> None:
    (placed,) = placed_in("abcdef", "abXYdef", "ZabXYdef")
    assert (placed.start, placed.end) == (3, 5)


def test_a_conflict_shows_the_users_lines() -> None:
    (placed,) = placed_in("abcdef", "abXdef", "QabYZdef")
    assert (placed.start, placed.end) == (3, 5)
    assert placed.theirs == (b"Y\n", b"Z\n")


def test_a_conflict_spares_the_other_hunks_of_the_file() -> None:
    assert [p.state for p in placed_in("abcdefgh", "aXcdeYgh", "aQcdefgh")] == ["conflicting", "pending"]
    assert [p.state for p in placed_in("abcdefgh", "aXcYeZgh", "aXcQefgh")] == ["applied", "conflicting", "pending"]


def test_undoing_an_accepted_hunk_makes_it_pending_again() -> None:
    change = change_of(rows("abcdefgh"), rows("aXcdYfgZ"))
    ids = [hunk.id for hunk in change.hunks]
    everything = frozenset(ids)
    assert states(change, user_of(rows("aXcdYfgZ")), everything) == ["applied"] * 3
    assert states(change, user_of(rows("aXcdefgZ")), everything) == ["applied", "pending", "applied"]
    assert states(change, user_of(rows("abcdefgh")), everything) == ["pending"] * 3


def test_undoing_one_of_several_close_hunks_beside_an_own_edit_is_understood() -> None:
    change = change_of(rows("abcdefgh"), rows("aXcYeZgh"))
    ids = frozenset(hunk.id for hunk in change.hunks)
    assert states(change, user_of(rows("aXQdeZgh")), ids) == ["applied", "pending", "applied"]


def test_a_lost_ledger_heals_even_beside_own_edits_among_many_close_hunks() -> None:
    base = rows("abcdefghijklmnopqrstu")
    agent = [b"new %d\n" % at if at % 2 else row for at, row in enumerate(base)]
    mine = [*agent]
    mine[5], mine[12] = base[5], b"mine\n"
    change = change_of(base, agent)
    expected = ["pending" if hunk.start == 5 else "applied" for hunk in change.hunks]
    assert len(expected) == 10
    assert states(change, user_of(mine)) == expected


def test_a_hunk_that_was_changed_after_it_was_applied_says_so() -> None:
    change = change_of(rows("abcdef"), rows("aXYdef"))
    (placed,) = locate(change, user_of(rows("aXQdef")), frozenset({change.hunks[0].id}))
    assert (placed.state, placed.edited) == ("conflicting", True)
    (placed,) = locate(change, user_of(rows("aQcdef")))
    assert (placed.state, placed.edited) == ("conflicting", False)


def test_an_accepted_deletion_stays_applied_while_the_user_edits_beside_it() -> None:
    change = change_of(rows("abcd"), rows("acd"))
    ledger = frozenset({change.hunks[0].id})
    assert states(change, user_of(rows("Qcd")), ledger) == ["applied"]
    assert states(change, user_of(rows("aQcd")), ledger) == ["applied"]
    assert states(change, user_of(rows("aQcd"))) == ["conflicting"]
    assert states(change, user_of(rows("aQbcd")), ledger) == ["pending"]
    assert states(change, user_of(rows("QQd")), ledger) == ["applied"]
    assert states(change, user_of(rows("d")), ledger) == ["applied"]


def test_it_is_not_guessed_which_of_two_equal_lines_the_user_added_or_removed() -> None:
    assert [p.state for p in placed_in("ax", "a", "axx")] == ["conflicting"]
    assert [p.state for p in placed_in("pxxq", "pxYq", "pxq")] == ["conflicting"]


@many
@given(change=text_changes(), data=st.data())
def test_a_wrong_ledger_heals_where_the_text_is_all_base_or_all_agent(change: FileChange, data: st.DataObject) -> None:
    wrong = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans())) | {"unknown"}
    assert set(states(change, at_base(change), wrong)) <= {"pending"}
    assert set(states(change, at_agent(change), wrong)) <= {"applied"}


@many
@given(data=st.data())
def test_a_lost_ledger_heals_for_every_mixture_of_distinct_lines(data: st.DataObject) -> None:
    base = distinct_rows(40)
    agent = list(base)
    for row in range(38, 0, -4):
        what = data.draw(st.sampled_from(["keep", "replace", "insert", "delete"]))
        if what != "keep":
            agent[row : row + (what != "insert")] = [] if what == "delete" else [b"agent %d\n" % row]
    change = change_of(base, agent)
    chosen = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans()))
    outcome = accept(change, at_base(change), chosen)
    wrong = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans()))
    expected = ["applied" if hunk.id in chosen else "pending" for hunk in change.hunks]
    assert states(change, outcome.user) == expected
    assert states(change, outcome.user, wrong) == expected


@many
@given(change=text_changes(), eol=st.sampled_from(["lf", "crlf"]))
def test_a_checkout_with_converted_line_ends_is_understood(change: FileChange, eol: str) -> None:
    assert change.base is not None
    assert change.agent is not None
    base = with_eol(split(change.base.data), "lf")
    agent = with_eol(split(change.agent.data), "lf")
    user = with_eol(base, "crlf")
    if eol == "lf":
        base, agent, user = with_eol(base, "crlf"), with_eol(agent, "crlf"), base
    # A text in which no line ends has no style to go by.
    assume(eol_of(b"".join(base)) != "none")
    outcome = accept(change_of(base, agent), user_of(user))
    assert not outcome.refused
    assert rows_of(outcome.user) == with_eol(agent, "crlf" if eol == "crlf" else "lf")


def test_mixed_line_ends_are_left_alone() -> None:
    change = change_of([b"a\n", b"b\n", b"c\n"], [b"a\n", b"X\n", b"c\n"])
    assert states(change, user_of([b"a\r\n", b"b\n", b"c\r\n"])) == ["pending"]
    assert states(change, user_of([b"a\n", b"b\r\n", b"c\n"])) == ["conflicting"]


def test_a_change_of_the_line_ends_themselves_is_a_change() -> None:
    change = change_of([b"a\n", b"b\n"], [b"a\r\n", b"b\r\n"])
    assert states(change, at_base(change)) == ["pending"]
    assert states(change, at_agent(change)) == ["applied"]


def test_a_buffer_without_the_byte_order_mark_is_aligned_all_the_same() -> None:
    change = change_of([BOM + b"a\n", b"b\n", b"c\n"], [BOM + b"X\n", b"b\n", b"Y\n"])
    buffer = user_of([b"a\n", b"b\n", b"c\n"])
    assert states(change, buffer) == ["pending", "pending"]
    assert rows_of(accept(change, buffer).user) == [b"X\n", b"b\n", b"Y\n"]
    on_disk = at_base(change)
    assert rows_of(accept(change, on_disk).user) == [BOM + b"X\n", b"b\n", b"Y\n"]


def test_a_removed_byte_order_mark_has_nothing_to_do_in_a_buffer_that_shows_none() -> None:
    change = change_of([BOM + b"a\n", b"b\n"], [b"a\n", b"b\n"])
    assert states(change, at_base(change)) == ["pending"]
    assert states(change, user_of([b"a\n", b"b\n"])) == ["applied"]


def test_a_byte_order_mark_that_moved_into_the_text_is_found_there() -> None:
    change = change_of([BOM + b"a\n"], [b"new\n", BOM + b"a\n"])
    assert states(change, at_agent(change)) == ["applied"]
    assert states(change, at_base(change)) == ["pending"]
    assert states(change, user_of([b"a\n"])) == ["pending"]


def test_an_end_without_a_line_end_is_not_put_in_the_middle() -> None:
    change = change_of([b"a\n", b"b\n"], [b"a\n", b"b"])
    (placed,) = locate(change, user_of([b"a\n", b"b\n", b"mine\n"]))
    assert placed.state == "conflicting"
    assert accept(change, user_of([b"a\n", b"b\n", b"mine\n"])).operations == ()


TEXT, OTHER = Content(b"a\n"), Content(b"other\n")


@pytest.mark.parametrize(
    ("base", "agent", "user", "state"),
    [
        (None, TEXT, None, "pending"),
        (None, TEXT, TEXT, "applied"),
        (None, TEXT, Content(b"a\r\n"), "applied"),
        (None, TEXT, OTHER, "conflicting"),
        (None, TEXT, Content(b"a\n", EXECUTABLE), "conflicting"),
        (None, Content(b""), None, "pending"),
        (None, Content(b""), Content(b""), "applied"),
        (TEXT, None, TEXT, "pending"),
        (TEXT, None, Content(b"a\r\n"), "pending"),
        (TEXT, None, None, "applied"),
        (TEXT, None, OTHER, "conflicting"),
        (TEXT, OTHER, None, "conflicting"),
        (TEXT, OTHER, Content(b"a", SYMLINK), "conflicting"),
        (TEXT, Content(b"a\n", EXECUTABLE), TEXT, "pending"),
        (TEXT, Content(b"a\n", EXECUTABLE), OTHER, "pending"),
        (TEXT, Content(b"a\n", EXECUTABLE), Content(b"q\n", EXECUTABLE), "applied"),
        (TEXT, Content(b"a\n", EXECUTABLE), None, "conflicting"),
        (TEXT, Content(b"a\n", EXECUTABLE), Content(b"to", SYMLINK), "conflicting"),
        (Content(b"\0a"), Content(b"\0b"), Content(b"\0a"), "pending"),
        (Content(b"\0a"), Content(b"\0b"), Content(b"\0a", EXECUTABLE), "pending"),
        (Content(b"\0a"), Content(b"\0b"), Content(b"\0b"), "applied"),
        (Content(b"\0a"), Content(b"\0b"), TEXT, "conflicting"),
        (Content(b"\0a\n"), Content(b"\0b"), Content(b"\0a\r\n"), "conflicting"),
        (TEXT, Content(b"to", SYMLINK), TEXT, "pending"),
        (TEXT, Content(b"to", SYMLINK), Content(b"to", SYMLINK), "applied"),
        (TEXT, Content(b"to", SYMLINK), Content(b"elsewhere", SYMLINK), "conflicting"),
        (None, Content(b"1" * 40, SUBMODULE), None, "conflicting"),
        (None, Content(b"1" * 40, SUBMODULE), Content(b"1" * 40, SUBMODULE), "applied"),
    ],
)
def test_a_hunk_about_the_whole_file_has_the_state_that_the_users_file_gives_it(
    base: Content | None, agent: Content | None, user: Content | None, state: State
) -> None:
    (placed,) = locate(file_change("f", None, base, agent), UserFile(user, user))
    assert placed.state == state
    assert bool(placed.reason) == (state == "conflicting")


@pytest.mark.parametrize(
    ("at_old", "at_new", "expected"),
    [
        (rows("abc"), None, ["pending", "pending"]),
        (None, rows("abc"), ["applied", "pending"]),
        (None, rows("aXc"), ["applied", "applied"]),
        (rows("aXc"), None, ["pending", "applied"]),
        (rows("abc"), rows("Q"), ["conflicting", "pending"]),
        (None, None, ["conflicting", "conflicting"]),
    ],
)
def test_a_rename_is_found_at_either_path(
    at_old: list[bytes] | None, at_new: list[bytes] | None, expected: list[State]
) -> None:
    change = file_change("new", "old", Content(b"a\nb\nc\n"), Content(b"a\nX\nc\n"))
    user = UserFile(*(None if side is None else Content(b"".join(side)) for side in (at_old, at_new)))
    placed = locate(change, user)
    assert [row.state for row in placed] == expected
    assert {row.path for row in placed} == {"new" if at_old is None and at_new is not None else "old"}


@many
@given(change=any_changes(), old=contents(), new=contents(), data=st.data())
def test_any_user_file_has_an_answer_and_always_the_same(
    change: FileChange, old: Content | None, new: Content | None, data: st.DataObject
) -> None:
    ledger = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans()))
    user = UserFile(old if change.old_path else new, new)
    placed = locate(change, user, ledger)
    assert [row.hunk for row in placed] == list(change.hunks)
    assert locate(change, user, ledger) == placed
    for row in placed:
        assert 0 <= row.start <= row.end
        if row.state != "conflicting" and row.hunk.kind in ("replace", "insert", "delete"):
            here = user.at_new if row.path == change.path else user.at_old
            assert here is not None
            lines = row.added if row.state == "applied" else row.removed
            at_place = split(here.data)[row.start : row.end]
            assert at_place == list(lines) or row.removed == row.added


@many
@given(data=st.data())
def test_a_hunk_on_lines_that_the_user_changed_is_never_pending(data: st.DataObject) -> None:
    base = distinct_rows(30)
    source = data.draw(st.randoms(use_true_random=False))
    agent, user = list(base), list(base)
    theirs: set[int] = set()
    for row in source.sample(range(30), 6):
        user[row] = b"user %d\n" % row
        theirs.add(row)
    for row in sorted(source.sample(range(30), 6), reverse=True):
        agent[row : row + source.randint(0, 2)] = [b"agent %d\n" % row] * source.randint(0, 2)
    change = change_of(base, agent)
    for placed in locate(change, user_of(user)):
        touched = theirs & set(range(placed.hunk.start, placed.hunk.start + len(placed.hunk.removed)))
        neighbours = theirs & {placed.hunk.start - 1, placed.hunk.start}
        if touched or (not placed.hunk.removed and neighbours):
            assert placed.state == "conflicting"
        else:
            assert placed.state == "pending"


def test_contents_that_differ_only_in_line_ends_are_the_same() -> None:
    assert same_content(Content(b"a\nb\n"), Content(b"a\r\nb\r\n"))
    assert not same_content(Content(b"a\nb\n"), Content(b"a\r\nb\n"))
    assert not same_content(Content(b"a\n"), Content(b"a\n", EXECUTABLE))
    assert not same_content(Content(b"a\n"), None)
    assert same_content(None, None)


def test_a_long_file_with_many_hunks_keeps_every_state() -> None:
    source = random.Random(5)
    base = [b"line %d\n" % i if i % 3 else b"\n" for i in range(20_000)]
    agent = list(base)
    for row in sorted(source.sample(range(19_990), 500), reverse=True):
        agent[row : row + source.randint(0, 2)] = [b"new %d\n" % row] * source.randint(1, 3)
    change = change_of(base, agent)
    half = frozenset(hunk.id for hunk in change.hunks[::2])
    user = accept(change, at_base(change), half).user
    expected = ["applied" if hunk.id in half else "pending" for hunk in change.hunks]
    assert states(change, user, half) == expected
    assert states(change, user) == expected
