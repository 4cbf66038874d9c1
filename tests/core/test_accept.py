from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.core.accept import (
    Chmod,
    Delete,
    FileOperation,
    Rename,
    TextEdit,
    Write,
    accept,
    edited,
    path_without,
    revert,
    without,
)
from plait.core.changes import EXECUTABLE, SUBMODULE, SYMLINK, Content, FileChange, file_change
from plait.core.lines import split
from plait.core.locate import UserFile, locate
from tests.support.contents import (
    any_changes,
    at_agent,
    at_base,
    change_of,
    contents,
    distinct_rows,
    edited_by,
    many,
    rows_of,
    text_changes,
    user_of,
)


def performed(files: dict[str, Content | None], operations: tuple[FileOperation, ...]) -> dict[str, Content | None]:
    """What a file system would hold after the operations."""
    now = dict(files)
    for operation in operations:
        match operation:
            case Write(path, content):
                now[path] = content
            case Delete(path):
                assert now[path] is not None
                now[path] = None
            case Rename(old, new):
                assert now[new] is None
                assert now[old] is not None
                now[new], now[old] = now[old], None
            case Chmod(path, mode):
                before = now[path]
                assert before is not None
                now[path] = Content(before.data, mode)
    return now


@many
@given(change=any_changes())
def test_accepting_everything_on_the_base_gives_the_agents_files_byte_for_byte(change: FileChange) -> None:
    user = at_base(change)
    outcome = accept(change, user)
    assert outcome.refused == ()
    assert outcome.user == at_agent(change)
    after = performed(outcome.expected, outcome.operations)
    assert after[change.path] == change.agent
    if change.old_path is not None:
        assert after[change.old_path] is None


@many
@given(change=any_changes(), data=st.data())
def test_hunks_accepted_one_by_one_in_any_order_end_in_the_agents_files(
    change: FileChange, data: st.DataObject
) -> None:
    user, done = at_base(change), frozenset[str]()
    for hunk in data.draw(st.permutations(change.hunks)):
        outcome = accept(change, user, frozenset({hunk.id}), done)
        assert outcome.accepted == (hunk.id,)
        user, done = outcome.user, done | {hunk.id}
        for placed in locate(change, user, done):
            assert placed.state == ("applied" if placed.hunk.id in done else "pending")
    assert user == at_agent(change)


@many
@given(change=any_changes(), data=st.data())
def test_accepting_and_reverting_gives_back_what_the_user_had(change: FileChange, data: st.DataObject) -> None:
    chosen = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans()))
    before = at_base(change)
    accepted = accept(change, before, chosen)
    back = revert(change, accepted.user, chosen, chosen)
    assert back.refused == ()
    assert set(back.accepted) == chosen
    assert back.user == before
    after = performed(performed(accepted.expected, accepted.operations), back.operations)
    assert after == accepted.expected


@many
@given(change=any_changes(), data=st.data())
def test_leaving_hunks_out_equals_accepting_the_rest(change: FileChange, data: st.DataObject) -> None:
    rejected = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans()))
    rest = frozenset(hunk.id for hunk in change.hunks) - rejected
    outcome = accept(change, at_base(change), rest)
    files = performed(outcome.expected, outcome.operations)
    path = path_without(change, rejected)
    assert files[path] == without(change, rejected)
    assert all(content is None for other, content in files.items() if other != path)


@many
@given(change=any_changes(), old=contents(), new=contents(), data=st.data())
def test_accepting_never_raises_and_the_operations_lead_to_the_state_it_tells(
    change: FileChange, old: Content | None, new: Content | None, data: st.DataObject
) -> None:
    ids = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans())) | {"unknown"}
    user = UserFile(old if change.old_path else new, new)
    outcome = accept(change, user, ids)
    files = performed(outcome.expected, outcome.operations)
    assert files[change.path] == outcome.user.at_new
    if change.old_path is not None:
        assert files[change.old_path] == outcome.user.at_old
    told = [*outcome.accepted, *outcome.already, *(name for name, _ in outcome.refused)]
    assert sorted(told) == sorted(ids)
    assert all(reason for _, reason in outcome.refused)


@many
@given(change=text_changes(), data=st.data())
def test_nothing_that_the_user_wrote_is_lost_by_accepting(change: FileChange, data: st.DataObject) -> None:
    assert change.base is not None
    source = data.draw(st.randoms(use_true_random=False))
    own = [b"user %d\n" % i for i in range(12)]
    start = source.choice([side.data for side in (change.base, change.agent) if side is not None])
    mine = edited_by(source, split(start), own, source.randint(1, 4))
    content = Content(b"".join(row if row.endswith(b"\n") else row + b"\n" for row in mine), change.base.mode)
    user = UserFile(content, None if change.old_path else content)
    ledger = frozenset(hunk.id for hunk in change.hunks if source.random() < 0.3)
    ids = None if source.random() < 0.5 else frozenset(h.id for h in change.hunks if source.random() < 0.5)
    outcome = accept(change, user, ids, ledger)
    after = outcome.user.at_new if outcome.user.at_new is not None else outcome.user.at_old
    assert after is not None
    assert [row for row in split(after.data) if row in own] == [row for row in split(content.data) if row in own]


@many
@given(change=text_changes(), data=st.data())
def test_the_edits_for_an_open_buffer_give_the_text_that_is_written_to_a_closed_file(
    change: FileChange, data: st.DataObject
) -> None:
    ids = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans()))
    user = at_base(change)
    outcome = accept(change, user, ids)
    assert change.base is not None
    after = performed(outcome.expected, outcome.operations)[outcome.path]
    assert after is not None
    assert b"".join(edited(split(change.base.data), outcome.edits)) == after.data


@many
@given(data=st.data())
def test_accepting_beside_own_edits_is_the_merge_that_git_makes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = distinct_rows(40)
    source = data.draw(st.randoms(use_true_random=False))
    agent = edited_by(source, base, [b"agent %d\n" % i for i in range(9)], 3)
    mine = edited_by(source, base, [b"user %d\n" % i for i in range(9)], 2)
    change, user = change_of(base, agent), user_of(mine)
    merged = _merged_by_git(tmp_path_factory.getbasetemp(), mine, base, agent)
    outcome = accept(change, user)
    if merged is not None:
        assert outcome.refused == ()
        assert b"".join(rows_of(outcome.user)) == merged
        done = frozenset(outcome.accepted)
        assert all(placed.state == "applied" for placed in locate(change, outcome.user, done))
        assert revert(change, outcome.user, done, done).user == user


def _merged_by_git(place: Path, mine: list[bytes], base: list[bytes], agent: list[bytes]) -> bytes | None:
    """What `git merge-file` makes of the three; None if it finds a conflict."""
    for name, rows in (("mine", mine), ("base", base), ("agent", agent)):
        (place / name).write_bytes(b"".join(rows))
    argv = ["git", "merge-file", "-p", "mine", "base", "agent"]
    result = subprocess.run(argv, cwd=place, capture_output=True, check=False)
    return result.stdout if result.returncode == 0 else None


@many
@given(data=st.data())
def test_after_accepting_what_is_pending_only_the_conflicts_are_left(data: st.DataObject) -> None:
    base = distinct_rows(30)
    source = data.draw(st.randoms(use_true_random=False))
    agent = edited_by(source, base, [b"agent %d\n" % i for i in range(9)], 4)
    mine = edited_by(source, base, [b"user %d\n" % i for i in range(9)], 3)
    change = change_of(base, agent)
    outcome = accept(change, user_of(mine))
    done = frozenset(outcome.accepted)
    conflicts = {name for name, _ in outcome.refused}
    for placed in locate(change, outcome.user, done):
        assert (placed.state == "conflicting") == (placed.hunk.id in conflicts)
        assert placed.state != "pending"
    assert accept(change, outcome.user, None, done).operations == ()


def test_hunks_that_conflict_are_refused_and_the_others_done() -> None:
    base = [b"a\n", b"b\n", b"c\n", b"d\n", b"e\n"]
    change = change_of(base, [b"a\n", b"X\n", b"c\n", b"Y\n", b"e\n"])
    outcome = accept(change, user_of([b"a\n", b"mine\n", b"c\n", b"d\n", b"e\n"]))
    assert outcome.accepted == (change.hunks[1].id,)
    assert [name for name, _ in outcome.refused] == [change.hunks[0].id]
    assert outcome.edits == (TextEdit(3, 4, (b"Y\n",)),)
    assert rows_of(outcome.user) == [b"a\n", b"mine\n", b"c\n", b"Y\n", b"e\n"]


def test_a_hunk_that_the_agent_changed_since_is_refused() -> None:
    change = change_of([b"a\n"], [b"b\n"])
    outcome = accept(change, at_base(change), frozenset({"0123456789abcdef"}))
    assert outcome.operations == ()
    assert outcome.refused[0][0] == "0123456789abcdef"


def test_a_hunk_that_is_there_already_is_not_done_twice() -> None:
    change = change_of([b"a\n"], [b"a\n", b"b\n"])
    outcome = accept(change, at_agent(change))
    assert (outcome.operations, outcome.accepted, outcome.already) == ((), (), (change.hunks[0].id,))


BASE, AGENT = Content(b"a\nb\n"), Content(b"a\nX\n", EXECUTABLE)


def test_the_operations_are_those_that_the_hunks_ask_for() -> None:
    change = file_change("new", "old", BASE, AGENT)
    rename, mode, line = change.hunks
    user = UserFile(BASE, None)
    assert accept(change, user, frozenset({rename.id})).operations == (Rename("old", "new"),)
    assert accept(change, user, frozenset({mode.id})).operations == (Chmod("old", EXECUTABLE),)
    assert accept(change, user, frozenset({line.id})).operations == (Write("old", Content(b"a\nX\n")),)
    assert accept(change, user).operations == (Rename("old", "new"), Write("new", AGENT))
    assert accept(change, user).expected == {"old": BASE, "new": None}


def test_creating_and_removing_are_whole_operations() -> None:
    created = file_change("f", None, None, BASE)
    assert accept(created, at_base(created)).operations == (Write("f", BASE),)
    removed = file_change("f", None, BASE, None)
    assert accept(removed, at_base(removed)).operations == (Delete("f"),)
    linked = file_change("f", None, BASE, Content(b"to", SYMLINK))
    assert accept(linked, at_base(linked)).operations == (Write("f", Content(b"to", SYMLINK)),)


def test_a_submodule_is_never_accepted() -> None:
    change = file_change("sub", None, Content(b"1" * 40, SUBMODULE), Content(b"2" * 40, SUBMODULE))
    outcome = accept(change, at_base(change))
    assert outcome.operations == ()
    assert [name for name, _ in outcome.refused] == [change.hunks[0].id]
