"""Candidates leave no collision out, places say where, and the order leaves the least to be reworked."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait.core.changes import EXECUTABLE, REGULAR, SYMLINK, Content, FileChange, file_change
from plait.core.conflicts import Collision, Pair, Work, candidates, meeting, merge_order, places, touched
from plait.core.sessions import State
from plait.errors import GitError
from plait.git import trees
from plait.git.merges import collisions
from plait.git.repo import find
from plait.git.shadow import Shadow, shadow
from tests.support.contents import distinct_rows, edited_by
from tests.support.repo import make_repo, run_git

Files = dict[str, Content]

NAMES = ("a", "b", "d/a", "d/b", "d/e/c", "d/e/f", "g/a", "g/h")
WORDS = [*(b"row %d\n" % i for i in range(8)), b"}\n", b"\n"]


def work(name: str, *changes: FileChange, base: str = "0", task: str = "", **more: object) -> Work:
    return replace(Work(name, task or name, base, touched(changes)), **more)  # type: ignore[arg-type]  # as given


def lines(path: str, *rows: int) -> FileChange:
    """A change of these rows of a file of 40 different ones."""
    base = distinct_rows(40)
    agent = [b"other\n" if row in rows else text for row, text in enumerate(base)]
    return file_change(path, None, Content(b"".join(base)), Content(b"".join(agent)))


def collided(*pairs: str) -> list[Pair]:
    return [Pair(pair[0], pair[1], ()) for pair in pairs]


def test_only_sessions_with_something_in_common_are_candidates() -> None:
    works = [work("s1", lines("a", 1)), work("s2", lines("a", 30)), work("s3", lines("b", 1)), work("s4")]
    assert candidates(works) == [("s1", "s2")]


def test_a_file_where_the_other_needs_a_directory_is_a_candidate() -> None:
    file = file_change("x", None, None, Content(b"1\n"))
    inside = file_change("x/y/z", None, None, Content(b"2\n"))
    beside = file_change("xy", None, None, Content(b"3\n"))
    assert candidates([work("s1", file), work("s2", inside), work("s3", beside)]) == [("s1", "s2")]


def test_a_new_file_in_a_renamed_directory_is_a_candidate() -> None:
    moved = file_change("new/a", "old/a", Content(b"1\n"), Content(b"1\n"))
    deep = file_change("new/old/a", "old/a", Content(b"1\n"), Content(b"1\n"))
    created = file_change("old/b", None, None, Content(b"2\n"))
    top = file_change("c", None, None, Content(b"2\n"))
    assert candidates([work("s1", moved), work("s2", created), work("s3", top)]) == [("s1", "s2")]
    assert candidates([work("s1", deep), work("s3", top)]) == [("s1", "s3")]


def test_rejected_hunks_are_no_part_of_the_work() -> None:
    change = lines("a", 1, 30)
    assert [span.start for span in touched([change], [change.hunks[0].id])[0].spans] == [30]
    assert touched([change], [hunk.id for hunk in change.hunks]) == ()
    moved = file_change("new", "old", Content(b"1\n2\n"), Content(b"1\n3\n"))
    (kept,) = touched([moved], [moved.hunks[0].id])
    assert (kept.path, kept.old_path, kept.arrives, kept.leaves) == ("old", None, False, False)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((3,), (3,), None),
        ((3, 4), (4, 5), [((3, 5), (4, 6))]),
        ((3,), (4,), [((3, 4), (4, 5))]),
        ((3,), (5,), []),
        ((3, 10), (10, 11, 30), [((10, 11), (10, 12))]),
    ],
)
def test_rows_that_overlap_or_touch_are_places_and_equal_hunks_are_none(
    one: Sequence[int], other: Sequence[int], expected: list[object] | None
) -> None:
    a, b = work("a", lines("f", *one)), work("b", lines("f", *other))
    found = places(a, b, [Collision("contents", ("f",))])
    if expected:
        assert [place.lines for place in found] == expected
        assert {place.text for place in found} == {"Both change these lines."}
    else:
        # git has its own opinion of where; ours is that both change the file.
        assert [place.lines for place in found] == [None]
    assert [place.lines for place in meeting(a, b)] == (expected or [])


def test_a_collision_of_a_renamed_file_is_found_under_both_names() -> None:
    base, rows = distinct_rows(40), distinct_rows(40)
    rows[3] = b"mine\n"
    moved = file_change("new", "old", Content(b"".join(base)), Content(b"".join(rows)))
    (place,) = places(work("a", moved), work("b", lines("old", 3)), [Collision("contents", ("new",))])
    assert (place.path, place.lines) == ("new", ((3, 4), (3, 4)))


def test_a_collision_under_a_name_that_git_made_up_is_about_the_files_behind_it() -> None:
    moved = file_change("new/a", "old/a", Content(b"1\n"), Content(b"1\n"))
    created = file_change("old/b", None, None, Content(b"2\n"))
    followed = [Collision("directory rename suggested", ("new/b", "old/b")), Collision("contents", ("new/b",))]
    found = places(work("a", moved), work("b", created), followed)
    assert [place.kind for place in found] == ["contents", "directory rename suggested"]
    assert all(place.hunks[1] == (created.hunks[0].id,) for place in found)


def test_two_new_files_are_add_add() -> None:
    one, other = (file_change("f", None, None, Content(text)) for text in (b"1\n", b"2\n"))
    (place,) = places(work("a", one), work("b", other), [Collision("contents", ("f",))])
    assert (place.kind, place.lines) == ("add/add", None)
    assert place.hunks == ((one.hunks[0].id,), (other.hunks[0].id,))


def test_of_different_bases_only_what_both_changed_counts() -> None:
    a, b = work("a", lines("f", 3), lines("g", 1)), work("b", lines("f", 3), base="1")
    found = places(a, b, [Collision("contents", ("f",)), Collision("contents", ("g",))])
    assert [(place.path, place.lines) for place in found] == [("f", None)]


def test_a_type_of_collision_that_is_new_to_us_is_said_in_gits_words() -> None:
    (place,) = places(work("a", lines("f", 3)), work("b", lines("f", 4)), [Collision("novel", ("f",))])
    assert place.text == "git cannot merge it: novel."


def test_the_order_begins_with_what_spoils_the_fewest() -> None:
    works = [work(name) for name in "abcde"]
    # a stands against all others, so it alone is to be reworked.
    assert merge_order(works, collided("ab", "ac", "ad")) == ["e", "b", "c", "d", "a"]


def test_of_equals_the_settled_go_first_and_the_large_before_the_small() -> None:
    works = [
        work("a", state=State.WORKING, size=90),
        work("b", state=State.FAILED, size=80),
        work("c", size=3),
        work("d", size=40),
        work("e", state=State.STOPPED, size=70),
    ]
    assert merge_order(works, []) == ["d", "c", "e", "b", "a"]


def test_a_task_is_never_before_the_one_that_it_builds_on() -> None:
    works = [work("a", after=("b",), size=9), work("b", after=("x",)), work("c", after=("d",)), work("d", after=("c",))]
    assert merge_order(works, collided("ab")) == ["b", "a", "c", "d"]


@given(st.data())
def test_the_order_has_every_session_once_however_they_are_given(data: st.DataObject) -> None:
    names = [f"s{number}" for number in range(data.draw(st.integers(0, 8)))]
    every = list(itertools.combinations(names, 2))
    pairs = [Pair(*pair, ()) for pair in data.draw(st.lists(st.sampled_from(every), unique=True))] if every else []
    states = st.sampled_from(list(State))
    works = [
        Work(
            name,
            "t",
            "0",
            (),
            data.draw(states),
            data.draw(st.integers(0, 3)),
            tuple(data.draw(st.sets(st.sampled_from(names), max_size=2))),
        )
        for name in names
    ]
    order = merge_order(works, pairs)
    assert sorted(order) == names
    assert merge_order(data.draw(st.permutations(works)), data.draw(st.permutations(pairs))) == order
    # Nobody who collides with nobody waits behind one that has to be reworked, unless he builds on it.
    if not any(work.after for work in works):
        merged: set[str] = set()
        reworked = False
        for name in order:
            dirty = any(merged & {pair.a, pair.b} and name in (pair.a, pair.b) for pair in pairs)
            assert dirty or not reworked
            reworked = reworked or dirty
            merged.add(name)


@pytest.fixture(scope="module")
def shaded(tmp_path_factory: pytest.TempPathFactory) -> Shadow:
    place = tmp_path_factory.mktemp("merges")
    return shadow(find(make_repo(place)), place / "state")


def changed_by(source: random.Random, files: Files) -> Files:
    """The files after a few things that agents do."""
    result = dict(files)
    for _ in range(source.randint(1, 4)):
        path = source.choice(sorted(result) or ["a"])
        known = result.get(path)
        match source.choice(
            ["edit", "edit", "edit", "create", "remove", "rename", "directory", "mode", "link", "binary"]
        ):
            case "edit" if known:
                rows = edited_by(source, known.data.splitlines(keepends=True), WORDS, source.randint(1, 2))
                result[path] = Content(b"".join(rows), known.mode)
            case "create":
                result[source.choice([*NAMES, "n", "d/n", "d/e/n", "a/n", "g", "z", "z/n"])] = _content(source)
            case "remove":
                result.pop(path, None)
            case "rename" if known:
                result[source.choice([*NAMES, "m", "d/m", "k/m"])] = result.pop(path)
            case "directory":
                old, new = source.choice(["d/", "d/e/", "g/"]), source.choice(["k/", "d/k/", "", "k/d/"])
                result = {
                    new + name.removeprefix(old) if name.startswith(old) else name: it for name, it in result.items()
                }
            case "mode" if known:
                result[path] = replace(known, mode=EXECUTABLE if known.mode == REGULAR else REGULAR)
            case "link":
                result[path] = Content(source.choice([b"to", b"elsewhere"]), SYMLINK)
            case "binary":
                result[path] = Content(b"\0" + source.randbytes(3))
    # A name cannot be a file and a directory.
    return {name: it for name, it in result.items() if not any(other.startswith(f"{name}/") for other in result)}


def _content(source: random.Random) -> Content:
    return Content(b"".join(source.choice(WORDS) for _ in range(source.randint(0, 12))))


def committed(top: Path, versions: Sequence[Files], parents: Sequence[int | None]) -> list[str]:
    """Commits of these files, each on top of an earlier one."""
    stream = b""
    for number, (files, parent) in enumerate(zip(versions, parents, strict=True), 1):
        stream += b"commit refs/heads/v%d\nmark :%d\ncommitter A <a@b> 1700000000 +0000\ndata 0\n" % (number, number)
        stream += b"" if parent is None else b"from :%d\n" % (parent + 1)
        stream += b"deleteall\n"
        for path, it in files.items():
            stream += b"M %o inline %s\ndata %d\n%s\n" % (it.mode, path.encode(), len(it.data), it.data)
        stream += b"\n"
    run_git(top, "fast-import", "--quiet", "--force", stdin=stream)
    return [run_git(top, "rev-parse", f"v{number}") for number in range(1, len(versions) + 1)]


def changes_of(
    shaded: Shadow, base: str, tip: str, before: Mapping[str, Content], after: Mapping[str, Content]
) -> list[FileChange]:
    found = []
    for raw in trees.changes(shaded, base, tip):
        old = raw.old_path if raw.kind == "R" else None
        found.append(file_change(raw.path, old, before.get(raw.old_path), after.get(raw.path)))
    return found


def checked(shaded: Shadow, tmp: Path, seed: int) -> int:
    """How many pairs of four random works really collide; fails if one of them is no candidate or has no place."""
    source = random.Random(seed)
    top = shaded.repo.top
    assert top is not None
    start = {name: _content(source) for name in source.sample(NAMES, source.randint(3, len(NAMES)))}
    versions = [start, *(changed_by(source, start) for _ in range(4))]
    base, *tips = committed(top, versions, [None, 0, 0, 0, 0])
    works = [
        Work(f"s{number}", "t", base, touched(changes_of(shaded, base, tip, start, versions[number + 1])))
        for number, tip in enumerate(tips)
    ]
    wanted = set(candidates(works))
    every = list(itertools.combinations(range(4), 2))
    with shaded.temporary() as scratch:
        answers = collisions(shaded, [(tips[a], tips[b]) for a, b in every], scratch)
    count = 0
    for (a, b), answer in zip(every, answers, strict=True):
        assert not isinstance(answer, GitError), answer
        if answer:
            count += 1
            assert (f"s{a}", f"s{b}") in wanted, (seed, answer)
            found = places(works[a], works[b], answer)
            assert {path for collision in answer for path in collision.paths} >= {place.path for place in found}
            assert found, (seed, answer)
            assert all(place.hunks[0] or place.hunks[1] for place in found), (seed, found)
    return count


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30))
def test_no_pair_that_git_cannot_merge_is_left_out(shaded: Shadow, tmp_path: Path, seed: int) -> None:
    checked(shaded, tmp_path, seed)
