"""The radar finds what git cannot merge, once for each pair of trees, and leaves no trace in the repository."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from plait.core import events as e
from plait.engine import control
from plait.engine.engine import Engine
from plait.engine.radar import Found, Radar
from plait.engine.review import Reviews
from tests.support.engines import begun, engine, ready, rested
from tests.support.repo import LINES, commit, make_repo, manifest, run_git, write

pytestmark = pytest.mark.slow


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": LINES, "b.txt": LINES, "d/c.txt": LINES})


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[Engine, Reviews, Radar]]:
    async with engine() as made:
        reviews = Reviews(made)
        radar = Radar(made, reviews)
        radar.start()
        try:
            yield made, reviews, radar
        finally:
            await radar.stop()


def seen(found: Found) -> dict[tuple[str, str], list[tuple[str, str]]]:
    return {(pair.a, pair.b): [(place.path, place.kind) for place in pair.places] for pair in found.pairs}


async def test_pairs_that_collide_are_found_with_their_places_and_an_order(top: Path) -> None:
    async with watching() as (made, _, radar):
        one = await ready(made, top, "sed -i 's/line 3$/ONE/' a.txt")
        other = await ready(made, top, "sed -i 's/line 3$/OTHER/; s/line 30$/x/' a.txt; rm b.txt")
        third = await ready(made, top, "sed -i 's/line 20$/x/' a.txt; sed -i 's/line 1$/x/' b.txt")
        apart = await ready(made, top, "sed -i 's/line 1$/x/' d/c.txt")
        before = manifest(top / ".git", times=False)
        found = await radar.current()
        assert seen(found) == {
            (one.id, other.id): [("a.txt", "contents")],
            (other.id, third.id): [("b.txt", "modify/delete")],
        }
        assert found.pairs[0].places[0].lines == ((3, 4), (3, 4))
        assert found.order == (apart.id, third.id, one.id, other.id)
        assert found.problems == ()
        assert manifest(top / ".git", times=False) == before, "a trial merge leaves nothing in the repository"
        # `one` and `third` change lines of one file that are far apart, so they were merged; `apart` never was.
        assert radar.merged == 3


async def test_nothing_is_merged_again_unless_a_tree_changed(top: Path) -> None:
    async with watching() as (made, _, radar):
        for number in range(4):
            await ready(made, top, f"sed -i 's/line 3$/{number}/' a.txt")
        found = await radar.current()
        assert len(found.pairs) == 6
        merged, seq = radar.merged, radar.seq
        assert merged == 6
        first, last = found.pairs[0].a, found.order[-1]
        made.submit(first, e.Noted(text="Nothing of its tree."))
        await control.resume(made, first, "Go on", {})
        await rested(made, first)
        assert (await radar.current()).pairs == found.pairs
        assert radar.merged == merged, "the run ended with the same tree"
        write(Path(made.session(last).spec.worktree), {"new.txt": "1\n"})
        await control.resume(made, last, "Go on", {})
        await rested(made, last)
        await radar.current()
        assert radar.merged == merged + 3, "the one whose tree changed against the others"
        assert radar.seq >= seq


async def test_rejecting_the_hunk_ends_the_collision_and_listeners_are_told(top: Path) -> None:
    async with watching() as (made, reviews, radar):
        one = await ready(made, top, "sed -i 's/line 3$/ONE/; s/line 30$/x/' a.txt")
        other = await ready(made, top, "sed -i 's/line 3$/OTHER/' a.txt")
        (pair,) = (await radar.current()).pairs
        ((mine,), (theirs,)) = pair.places[0].hunks
        (opponent,) = radar.found.opponents[one.id, mine]
        assert (opponent.session, opponent.hunks, opponent.alternative) == (other.id, (theirs,), False)
        told: list[frozenset[str]] = []
        radar.listeners.append(told.append)
        before = manifest(top / ".git", times=False)
        await reviews.reject(made.session(one.id), hunks=frozenset([mine]))
        found = await radar.current()
        assert (found.pairs, dict(found.opponents)) == ((), {})
        assert set(found.order) == {one.id, other.id}
        assert told == [frozenset([one.id, other.id])]
        assert manifest(top / ".git", times=False) == before, "the tree without the hunk is made in a scratch directory"
        await reviews.reject(made.session(other.id), hunks=frozenset([theirs]))
        assert (await radar.current()).order == (one.id,), "nothing of the other is left to be merged"


async def test_what_is_applied_merged_or_trashed_has_no_part(top: Path) -> None:
    async with watching() as (made, reviews, radar):
        sessions = [await ready(made, top, f"sed -i 's/line 3$/{number}/' a.txt") for number in range(4)]
        assert len((await radar.current()).pairs) == 6
        await reviews.accept(sessions[0])
        await control.trash(made, sessions[1].id)
        assert set((await radar.current()).order) == {sessions[2].id, sessions[3].id}
        assert await radar.current() == radar.found
        run_git(top, "checkout", "--quiet", "--", ".")
        await control.merge(made, reviews, sessions[2].id, "merge", None)
        found = await radar.current()
        assert (found.pairs, found.order) == ((), (sessions[3].id,))
        await control.restore(made, sessions[1].id)
        assert len((await radar.current()).pairs) == 1


async def test_alternatives_of_one_task_do_not_collide(top: Path) -> None:
    async with watching() as (made, _, radar):
        one = await ready(made, top, 'sed -i "s/line 3$/$RANDOM $$/" a.txt')
        again = await rested(made, (await control.retry(made, one.id, {})).id)
        found = await radar.current()
        assert found.pairs == ()
        (pair,) = found.alternatives
        assert {pair.a, pair.b} == {one.id, again.id}
        assert pair.places[0].lines == ((3, 4), (3, 4))
        assert radar.merged == 0
        assert all(opponent.alternative for opponents in found.opponents.values() for opponent in opponents)


async def test_a_running_session_counts_with_its_newest_snapshot(top: Path) -> None:
    async with watching() as (made, _, radar):
        script = "if [ -e b.txt ]; then rm b.txt; else sleep 60; fi; sed -i 's/line 3$/ONE/' a.txt"
        one = await ready(made, top, script)
        other = await ready(made, top, "sed -i 's/line 3$/OTHER/' a.txt")
        await control.resume(made, one.id, "Go on", {})
        async with asyncio.timeout(30):
            await made.until(lambda whole: whole.sessions[one.id].state == "working")
        found = await radar.current()
        assert seen(found) == {(one.id, other.id): [("a.txt", "contents")]}
        assert found.order == (other.id, one.id), "what still works is the more doubtful"
        await control.stop(made, one.id)
        await rested(made, one.id)


async def test_sessions_of_different_bases_and_repositories(top: Path, tmp_path: Path) -> None:
    elsewhere = make_repo(tmp_path / "elsewhere", {"a.txt": LINES})
    async with watching() as (made, _, radar):
        one = await ready(made, top, "sed -i 's/line 3$/ONE/' a.txt")
        write(top, {"b.txt": "all new\n"})
        commit(top)
        other = await ready(made, top, "sed -i 's/line 3$/OTHER/' a.txt; echo more >> b.txt")
        third = await ready(made, top, "sed -i 's/line 30$/x/' a.txt")
        await ready(made, elsewhere, "sed -i 's/line 3$/ELSEWHERE/' a.txt")
        found = await radar.current()
        assert seen(found) == {(one.id, other.id): [("a.txt", "contents")]}
        assert found.pairs[0].places[0].lines is None
        assert third.id in found.order


async def test_a_repository_that_is_gone_is_said_and_hides_no_other(top: Path, tmp_path: Path) -> None:
    elsewhere = make_repo(tmp_path / "elsewhere", {"a.txt": LINES})
    async with engine() as made:
        gone = await ready(made, elsewhere, "sed -i 's/line 3$/ONE/' a.txt")
        one = await ready(made, top, "sed -i 's/line 3$/ONE/' a.txt")
        other = await ready(made, top, "sed -i 's/line 3$/OTHER/' a.txt")
    elsewhere.rename(tmp_path / "moved")
    async with watching() as (_, _, radar):
        found = await radar.current()
        assert seen(found) == {(one.id, other.id): [("a.txt", "contents")]}
        (problem,) = found.problems
        assert gone.spec.task.title in problem
        assert "is gone" in problem


async def test_a_pair_that_git_cannot_merge_is_said(top: Path) -> None:
    async with watching() as (made, _, radar):
        one = await ready(made, top, "sed -i 's/line 3$/ONE/' a.txt")
        other = await ready(made, top, "sed -i 's/line 3$/OTHER/' a.txt")
        orphan = "git checkout -q --orphan apart && sed -i 's/line 3$/APART/' a.txt && git commit -qam apart"
        apart = await ready(made, top, orphan)
        assert apart.state == "ready", apart.reason
        found = await radar.current()
        assert seen(found) == {(one.id, other.id): [("a.txt", "contents")]}
        assert len(found.problems) == 2
        assert all("unrelated histories" in problem for problem in found.problems)


async def test_a_session_that_begins_while_the_radar_looks_is_seen(top: Path) -> None:
    async with watching() as (made, _, radar):
        names = [await begun(made, top, f"sed -i 's/line 3$/{number}/' a.txt") for number in range(5)]
        for name in names:
            await rested(made, name)
        assert len((await radar.current()).pairs) == 10
        assert radar.merged == 10, "whatever the order of events, no pair is merged twice"


async def test_what_running_agents_write_is_compared_while_they_write_it(top: Path) -> None:
    async with watching() as (made, reviews, radar):
        await reviews.following.start()
        try:
            rest = await ready(made, top, "sed -i 's/line 30$/REST/' a.txt")
            one = await begun(made, top, "sed -i 's/line 3$/ONE/' a.txt; mv b.txt e.txt; exec sleep 60")
            other = await begun(made, top, "sed -i 's/line 3$/OTHER/' a.txt; echo > e.txt; exec sleep 60")
            before = manifest(top / ".git" / "objects", times=False)

            async def until(expected: dict[tuple[str, str], list[str]]) -> Found:
                changed = asyncio.Event()
                radar.listeners.append(lambda _sessions: changed.set())
                async with asyncio.timeout(30):
                    while {pair: sorted(dict(found)) for pair, found in seen(radar.found).items()} != expected:
                        changed.clear()
                        await changed.wait()
                return radar.found

            found = await until({(one, other): ["a.txt", "e.txt"]})
            assert found.order[0] == rest.id
            assert manifest(top / ".git" / "objects", times=False) == before, "no object of theirs is in the repository"
            write(Path(made.session(other).spec.worktree), {"a.txt": LINES.replace("line 30\n", "OTHER\n")})
            await until({(one, other): ["e.txt"], (rest.id, other): ["a.txt"]})
            for name in (one, other):
                await control.stop(made, name)
                await rested(made, name)
            assert set(seen(await radar.current())) == {(one, other), (rest.id, other)}
        finally:
            await reviews.following.stop()
