from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.core.changes import (
    EXECUTABLE,
    SUBMODULE,
    SYMLINK,
    Content,
    FileChange,
    Kind,
    file_change,
    link_escapes,
    stats,
    swapped,
)
from tests.support.contents import any_changes, change_of, distinct_rows, many


@pytest.mark.parametrize(
    ("base", "agent", "kinds"),
    [
        (None, Content(b"a\nb\n"), ["create"]),
        (None, Content(b""), ["create"]),
        (Content(b"a\n"), None, ["remove"]),
        (Content(b"a\n"), Content(b"b\n"), ["replace"]),
        (Content(b"a\n"), Content(b"a\nb\n"), ["insert"]),
        (Content(b"a\nb\n"), Content(b"a\n"), ["delete"]),
        (Content(b"a"), Content(b"a\n"), ["replace"]),
        (Content(b""), Content(b"a\n"), ["insert"]),
        (Content(b"a\n"), Content(b"a\n", EXECUTABLE), ["mode"]),
        (Content(b"a\n"), Content(b"b\n", EXECUTABLE), ["mode", "replace"]),
        (Content(b"a\0"), Content(b"b\n"), ["binary"]),
        (Content(b"a\n"), Content(b"\0b"), ["binary"]),
        (None, Content(b"\0b"), ["create"]),
        (Content(b"a\n"), Content(b"to", SYMLINK), ["symlink"]),
        (Content(b"to", SYMLINK), None, ["symlink"]),
        (Content(b"1" * 40, SUBMODULE), Content(b"2" * 40, SUBMODULE), ["submodule"]),
        (Content(b"a\n"), Content(b"a\n"), []),
        (None, None, []),
    ],
)
def test_a_change_comes_apart_into_its_kinds(base: Content | None, agent: Content | None, kinds: list[Kind]) -> None:
    assert [hunk.kind for hunk in file_change("f", None, base, agent).hunks] == kinds


def test_a_rename_is_a_hunk_beside_its_content() -> None:
    change = file_change("new", "old", Content(b"a\nb\n"), Content(b"a\nc\n"))
    assert [hunk.kind for hunk in change.hunks] == ["rename", "replace"]
    assert change.hunks[0].removed == (b"old",)
    assert change.hunks[0].added == (b"new",)
    assert file_change("same", "same", Content(b""), Content(b"")).hunks == ()


def test_a_file_above_the_limit_is_exchanged_whole() -> None:
    base, agent = Content(b"a\n" * 6), Content(b"b\n" * 6)
    assert [h.kind for h in file_change("f", None, base, agent, size_limit=11).hunks] == ["binary"]
    assert [h.kind for h in file_change("f", None, base, agent, size_limit=12).hunks] == ["replace"]


def test_a_hunk_says_where_its_lines_lie_on_both_sides() -> None:
    change = change_of([b"a\n", b"b\n", b"c\n", b"d\n"], [b"new\n", b"a\n", b"b\n", b"d\n"])
    assert [(h.kind, h.start, h.new_start, h.removed, h.added) for h in change.hunks] == [
        ("insert", 0, 0, (), (b"new\n",)),
        ("delete", 2, 3, (b"c\n",), ()),
    ]


def test_the_lines_added_and_removed_are_counted() -> None:
    assert stats(change_of([b"a\n", b"b\n"], [b"a\n", b"c\n", b"d\n"])) == (2, 1)
    assert stats(file_change("f", None, None, Content(b"a\nb"))) == (2, 0)
    assert stats(file_change("f", None, Content(b"a\nb\n"), None)) == (0, 2)
    assert stats(file_change("f", None, Content(b"a\n"), Content(b"\0\n"))) == (0, 0)
    assert stats(file_change("f", None, Content(b"a\n"), Content(b"to", SYMLINK))) == (0, 0)


@many
@given(change=any_changes())
def test_ids_are_unique_and_the_same_when_computed_again(change: FileChange) -> None:
    ids = [hunk.id for hunk in change.hunks]
    assert len(set(ids)) == len(ids)
    again = file_change(change.path, change.old_path, change.base, change.agent)
    assert [hunk.id for hunk in again.hunks] == ids
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in ids)


@many
@given(change=any_changes())
def test_swapping_the_sides_twice_changes_nothing(change: FileChange) -> None:
    assert swapped(swapped(change)) == change


@many
@given(data=st.data())
def test_an_id_survives_what_the_agent_does_in_other_parts_of_the_file(data: st.DataObject) -> None:
    base = distinct_rows(60)
    rows = sorted(data.draw(st.sets(st.integers(0, 11), min_size=2, max_size=6)))
    agent = list(base)
    for row in rows:
        agent[row * 5] = b"agent %d\n" % row
    before = {hunk.start: hunk.id for hunk in change_of(base, agent).hunks}
    again = data.draw(st.sampled_from(rows))
    agent[again * 5] = data.draw(st.sampled_from([b"second thought\n", base[again * 5]]))
    after = {hunk.start: hunk.id for hunk in change_of(base, agent).hunks}
    for row in rows:
        if row == again:
            assert after.get(row * 5) != before[row * 5]
        else:
            assert after[row * 5] == before[row * 5]


def test_an_id_survives_when_an_equal_hunk_before_it_goes_away() -> None:
    block = [b"{\n", b"x\n", b"y\n", b"z\n", b"}\n", b"w\n", b"\n"]
    base = block * 3
    agent = [b"new\n" if row == b"z\n" else row for row in base]
    all_three = [hunk.id for hunk in change_of(base, agent).hunks]
    without_first = [hunk.id for hunk in change_of(base, [*block, *agent[7:]]).hunks]
    assert len(set(all_three)) == 3
    assert without_first == all_three[1:]


def test_another_path_or_another_mode_is_another_hunk() -> None:
    one = file_change("a", None, None, Content(b"x\n")).hunks[0]
    assert file_change("b", None, None, Content(b"x\n")).hunks[0].id != one.id
    assert file_change("a", None, None, Content(b"x\n", EXECUTABLE)).hunks[0].id != one.id


def test_ids_of_a_long_file_of_equal_lines_are_unique_and_soon_computed() -> None:
    base = [b"\n"] * 5000
    agent = list(base)
    for row in random.Random(3).sample(range(5000), 300):
        agent[row] = b"x\n"
    ids = [hunk.id for hunk in change_of(base, agent).hunks]
    assert len(set(ids)) == len(ids) > 0


@pytest.mark.parametrize(
    ("path", "target", "escapes"),
    [
        ("link", b"file", False),
        ("link", b"dir/file", False),
        ("d/link", b"../file", False),
        ("d/e/link", b"../../x", False),
        ("link", b"./x", False),
        ("link", b"../file", True),
        ("d/link", b"../../file", True),
        ("link", b"/etc/passwd", True),
        ("link", b"", True),
        ("d/link", b"e/../../x", True),
        ("link", b".git/config", True),
        ("d/link", b"../.GIT", True),
        ("link", b"a\0b", True),
    ],
)
def test_a_link_says_whether_it_leaves_the_tree(path: str, target: bytes, escapes: bool) -> None:
    assert link_escapes(path, target) is escapes
    hunk = file_change(path, None, None, Content(target, SYMLINK)).hunks[0]
    assert (hunk.target, hunk.escapes) == (target.decode(), escapes)
