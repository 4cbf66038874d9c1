"""The engine between any two steps: killed there, or asked for something else just then, it loses nothing."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plait.core import events as e
from plait.core import plan
from plait.core.config import UserConfig
from plait.core.sessions import Session, State
from plait.engine import control, launch, review, worktrees
from plait.engine.engine import Engine
from plait.engine.perform import perform, run_directory
from plait.engine.review import Reviews
from plait.errors import BusyError, ConflictError, NothingToDo, PlaitError, StorageError
from plait.git import trees
from plait.git.removal import remove_tree
from plait.git.shadow import Shadow
from plait.paths import places
from plait.supervisor import runs
from tests.support.engines import begun, config, engine, ready, rested
from tests.support.repo import commit, make_repo, refs, run_git, write


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path, {"a.txt": "".join(f"line {number}\n" for number in range(20)), "b.txt": "b\n"})


def cut_off(kind: type[plan.Action], work: Callable[[Session], object] | None = None) -> Any:
    """A `perform` that never records what came of one kind of action, as if it had been killed there."""

    async def performs(engine: Engine, action: plan.Action) -> None:
        if not isinstance(action, kind):
            await perform(engine, action)
            return
        if work is not None:
            await asyncio.to_thread(work, engine.session(action.session))
        await asyncio.Event().wait()

    return performs


class Gate:
    """Stands before a blocking function: tells that it was called, and lets it begin when it is opened."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self._function = function

    def __call__(self, *args: Any) -> Any:
        self.reached.set()
        assert self.opened.wait(30)
        return self._function(*args)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)


def read(*parts: str) -> str | None:
    """The text of a file; none if there is no such file."""
    path = Path(*parts)
    return path.read_text() if path.exists() else None


def listed(top: Path) -> int:
    return len(run_git(top, "worktree", "list").splitlines())


async def released(engine: Engine, session: str) -> None:
    async with asyncio.timeout(30):
        await engine.until(lambda whole: whole.sessions[session].prepared is None or whole.sessions[session].kept)


def test_killed_between_the_move_to_the_trash_and_its_record(top: Path) -> None:
    async def story() -> None:
        async with engine() as first:
            session = await ready(first, top, "echo 1 > one")
        worktrees.discard(places(), session)
        async with engine() as second:
            trashed = await control.trash(second, session.id)
            assert trashed.trash_place is not None
            await control.restore(second, session.id)
            assert read(session.spec.worktree, "one") == "1\n"

    asyncio.run(story())


def test_killed_between_the_move_out_of_the_trash_and_its_record(top: Path) -> None:
    async def story() -> None:
        async with engine() as first:
            session = await ready(first, top, "echo 1 > one")
            trashed = await control.trash(first, session.id)
        worktrees.restore(places(), trashed)
        async with engine() as second:
            restored = await control.restore(second, session.id)
            assert (restored.state, restored.trash_place) == (State.READY, None)
            assert read(session.spec.worktree, "one") == "1\n"

    asyncio.run(story())


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_killed_while_an_empty_worktree_is_removed(top: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = refs(top)
    real = remove_tree

    def killed(path: Path) -> None:
        if moment == "within":
            (path / "a.txt").unlink()
        elif moment == "after":
            real(path)
        raise KeyboardInterrupt

    def work(session: Session) -> None:
        monkeypatch.setattr(worktrees, "remove_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            worktrees.release(places(), session)
        monkeypatch.setattr(worktrees, "remove_tree", real)
        gone.set()

    gone = threading.Event()

    async def story() -> None:
        async with engine(cut_off(plan.Release, work)) as first:
            session = await ready(first, top, "exit 0")
            assert await asyncio.to_thread(gone.wait, 30)
        async with engine() as second:
            await released(second, session.id)
            assert (refs(top), listed(top)) == (before, 1)
            assert not list(Path(session.spec.worktree).parent.glob("*"))
            await control.resume(second, session.id, None, {})
            assert (await rested(second, session.id)).state is State.READY

    asyncio.run(story())


def test_an_empty_end_lets_go_of_no_earlier_work(top: Path) -> None:
    async def story() -> None:
        async with engine() as only:
            session = await ready(only, top, "if [ -e one ]; then rm one; else echo 1 > one; fi")
            await control.resume(only, session.id, None, {})
            await rested(only, session.id)
            await released(only, session.id)
            assert run_git(top, "show", f"refs/plait/{session.id}/1:one") == "1"
            assert f"refs/plait/{session.id}/2" not in refs(top)

    asyncio.run(story())


def test_a_worktree_whose_making_was_cut_off_leaves_with_its_session(top: Path) -> None:
    before = refs(top)

    def work(session: Session) -> None:
        worktrees.prepare(places(), session)
        made.set()

    made = threading.Event()

    async def story() -> None:
        async with engine(cut_off(plan.Prepare, work)) as first:
            session = await begun(first, top, "echo 1 > one")
            assert await asyncio.to_thread(made.wait, 30)
            await control.stop(first, session)
            await rested(first, session)
        assert listed(top) == 2
        async with engine() as second:
            trashed = await control.trash(second, session)
            assert trashed.trash_place is not None
            cleaned = await control.clean(second, Reviews(second), dry_run=False, empty_trash=True, key=None)
            assert [purged for purged, _ in cleaned.purged] == [session]
            assert (refs(top), listed(top)) == (before, 1)

    asyncio.run(story())


def test_an_unfinished_worktree_with_files_of_somebody_else_stays_and_says_so(top: Path) -> None:
    def work(session: Session) -> None:
        path = Path(session.spec.worktree)
        worktrees.prepare(places(), session)
        (path / ".git").write_text("gitdir: /elsewhere\n")
        write(path, {"mine": "mine\n"})
        made.set()

    made = threading.Event()

    async def story() -> None:
        async with engine(cut_off(plan.Prepare, work)) as first:
            session = await begun(first, top, "echo 1 > one")
            assert await asyncio.to_thread(made.wait, 30)
            await control.stop(first, session)
            stopped = await rested(first, session)
        async with engine() as second, asyncio.timeout(30):
            with pytest.raises(PlaitError, match="left as it is"):
                await control.trash(second, session)
            assert second.session(session).state is State.STOPPED
            assert read(stopped.spec.worktree, "mine") == "mine\n"

    asyncio.run(story())


def test_a_disk_that_fills_up_between_two_sessions_says_how_many_there_are(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with engine() as only:
            real = only.store.create

            def create(record: e.Record) -> None:
                if only.whole.sessions:
                    raise StorageError("Could not write: No space left on device.")
                real(record)

            monkeypatch.setattr(only.store, "create", create)
            request = launch.Request(top, "Do it", agents=(("x", 3),), command=("sh", "-c", "echo 1 > one"))
            with pytest.raises(StorageError, match="1 of 3"):
                await control.run(only, request)
            (session,) = only.whole.sessions
            assert (await rested(only, session)).state is State.READY

    asyncio.run(story())


def test_a_disk_that_is_full_at_any_one_record_costs_nothing_but_time(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.engine.engine.RETRY_S", 0.05)
    full: dict[type[e.Event], list[StorageError]] = {
        kind: [StorageError(f"Could not write {kind.__name__}.")]
        for kind in (e.Admitted, e.Prepared, e.RunStarted, e.RunEnded, e.Snapshotted, e.Released, e.Trashed)
    }

    async def story() -> None:
        async with engine() as only:
            real = only.store.append

            def append(session: str, records: Sequence[e.Record]) -> None:
                waiting = full.get(type(records[-1].event))
                if waiting:
                    assert only.session(session).seq == records[0].seq - 1
                    raise waiting.pop()
                real(session, records)

            monkeypatch.setattr(only.store, "append", append)
            session = await ready(only, top, 'if [ "$PLAIT_PROMPT" = more ]; then echo 1 > one; fi')
            await released(only, session.id)
            await control.resume(only, session.id, "more", {})
            await rested(only, session.id)
            trashed = await control.trash(only, session.id)
            assert read(trashed.trash_place or "", "one") == "1\n"
            assert not any(full.values())
            assert only.problems == ()
            assert [run.number for run in trashed.runs] == [1, 2]

    asyncio.run(story())


@pytest.mark.parametrize("words", ["error: open(b.txt): Permission denied", "error: b.txt: No space left on device"])
def test_a_change_that_git_cannot_take_in_is_never_taken_for_none(
    top: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr("plait.engine.engine.RETRY_S", 0.05)
    real = trees.snapshot
    broken = [True]

    def snapshot(shadow: Shadow, *args: Any, **kwargs: Any) -> trees.Snapshot:
        taken = real(shadow, *args, **kwargs)
        base = trees.tree_of(shadow, taken.parent)
        return replace(taken, tree=base, problems=(words,)) if broken else taken

    monkeypatch.setattr(trees, "snapshot", snapshot)
    monkeypatch.setattr("plait.git.reads.snapshot", snapshot)

    async def story() -> None:
        async with engine() as only, asyncio.timeout(30):
            session = await begun(only, top, "echo more >> b.txt")
            if "space" in words:
                await only.until(lambda whole: whole.sessions[session].unrecorded_run is not None)
                while not only.problems:  # noqa: ASYNC110 - a problem is no event
                    await asyncio.sleep(0.01)
                broken.clear()
                done = await rested(only, session)
                assert (done.snapshot and done.snapshot.files, only.problems) == (1, ())
            else:
                await rested(only, session)
                await released(only, session)
                assert only.session(session).kept
                assert words in only.session(session).notes[-1]
            assert read(only.session(session).spec.worktree, "b.txt") == "b\nmore\n"

    asyncio.run(story())


def test_what_could_not_be_read_is_not_taken_for_applied(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.engine.changes.LARGEST_ALL", 1000)

    async def story() -> None:
        async with engine() as only:
            reviews = Reviews(only)
            session = await ready(only, top, "echo small > small; head -c 5000 /dev/zero > large")
            changes = await reviews.changes(session)
            assert ([file.path for file in changes.files], len(changes.problems)) == (["small"], 1)
            await reviews.accept(session)
            assert read(str(top), "small") == "small\n"
            assert only.session(session.id).state is State.READY

    asyncio.run(story())


def test_no_more_of_the_changes_is_kept_in_memory_than_allowed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "CACHED", 50_000)

    async def story() -> None:
        async with engine() as only:
            reviews = Reviews(only)
            sessions = [await ready(only, top, f"head -c 20000 /dev/zero > {name}") for name in "xyz"]
            for session in sessions:
                await reviews.changes(session)
            assert 20_000 < sum(weight for _, weight in reviews._cache.values()) == reviews._cached <= 50_000
            assert (await reviews.changes(sessions[0])).files[0].path == "x"

    asyncio.run(story())


def test_trash_waits_for_a_worktree_that_is_being_made(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(worktrees.prepare)
    monkeypatch.setattr(worktrees, "prepare", gate)

    async def story() -> None:
        async with engine() as only:
            session = await begun(only, top, "echo 1 > one")
            await gate.wait()
            await control.stop(only, session)
            await rested(only, session)
            trashing = asyncio.create_task(control.trash(only, session))
            await asyncio.sleep(0)
            gate.opened.set()
            assert (await trashing).trash_place is not None
            assert listed(top) == 2
            assert read(only.session(session).spec.worktree, "b.txt") is None

    asyncio.run(story())


def test_a_session_is_resumed_while_its_empty_worktree_is_removed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(worktrees.release)
    monkeypatch.setattr(worktrees, "release", gate)

    async def story() -> None:
        async with engine() as only:
            session = await ready(only, top, 'if [ "$PLAIT_PROMPT" = more ]; then echo 1 > one; fi')
            await gate.wait()
            await control.resume(only, session.id, "more", {})
            gate.opened.set()
            again = await rested(only, session.id)
            assert (again.state, again.snapshot and again.snapshot.files) == (State.READY, 1)
            assert read(session.spec.worktree, "one") == "1\n"

    asyncio.run(story())


def test_a_session_on_its_way_to_the_trash_is_not_resumed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(worktrees.discard)
    monkeypatch.setattr(worktrees, "discard", gate)

    async def story() -> None:
        async with engine() as only:
            session = await ready(only, top, "echo 1 > one")
            trashing = asyncio.create_task(control.trash(only, session.id))
            await gate.wait()
            with pytest.raises(BusyError, match="trash"):
                await control.resume(only, session.id, None, {})
            with pytest.raises(BusyError):
                await control.merge(only, Reviews(only), session.id, "merge", None)
            gate.opened.set()
            assert (await trashing).state is State.TRASHED

    asyncio.run(story())


def test_two_who_restore_at_once_restore_once(top: Path) -> None:
    async def story() -> None:
        async with engine() as only:
            session = await ready(only, top, "echo 1 > one")
            await control.trash(only, session.id)
            found = await asyncio.gather(
                control.restore(only, session.id), control.restore(only, session.id), return_exceptions=True
            )
            assert [type(one) for one in found] == [Session, NothingToDo]
            assert only.session(session.id).state is State.READY

    asyncio.run(story())


def test_two_who_merge_at_once_merge_once(top: Path) -> None:
    run_git(top, "branch", "one")
    run_git(top, "branch", "two")

    async def story() -> None:
        async with engine() as only:
            reviews = Reviews(only)
            session = await ready(only, top, "echo 1 > one")
            found = await asyncio.gather(
                *(control.merge(only, reviews, session.id, "squash", into) for into in ("one", "two")),
                return_exceptions=True,
            )
            assert [type(one) for one in found] == [tuple, NothingToDo]
            assert run_git(top, "rev-parse", "two") == run_git(top, "rev-parse", "main")

    asyncio.run(story())


def test_a_merge_that_was_refused_leaves_every_snapshot_where_it_was(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with engine() as only:
            reviews = Reviews(only)
            session = await ready(only, top, "echo 1 > one")
            assert session.snapshot is not None
            write(top, {"b.txt": "mine\n"})
            monkeypatch.setattr("plait.git.trees.time.time", lambda: 2e9)
            with pytest.raises(ConflictError):
                await control.merge(only, reviews, session.id, "merge", None)
            assert run_git(top, "rev-parse", session.snapshot.ref) == session.snapshot.commit
            write(Path(session.spec.worktree), {"one": "2\n"})
            with pytest.raises(ConflictError):
                await control.merge(only, reviews, session.id, "merge", None)
            assert run_git(top, "show", f"{session.snapshot.ref}:one") == "1"
            commit(top, "Mine")
            run_git(top, "gc", "--quiet", "--prune=now")
            await control.merge(only, reviews, session.id, "merge", None)
            assert (top / "one").read_text() == "2\n"

    asyncio.run(story())


def test_a_session_whose_worktree_is_gone_can_still_be_merged(top: Path) -> None:
    async def story() -> None:
        async with engine() as only:
            session = await ready(only, top, "echo 1 > one")
            shutil.rmtree(session.spec.worktree)
            await control.merge(only, Reviews(only), session.id, "merge", None)
            assert (top / "one").read_text() == "1\n"

    asyncio.run(story())


def test_sessions_of_a_repository_that_is_gone_leave_and_hold_up_no_other(top: Path, tmp_path: Path) -> None:
    other = make_repo(tmp_path / "other", {"x": "x\n"})

    async def story() -> None:
        async with engine() as only:
            reviews = Reviews(only)
            lost = await ready(only, top, "echo 1 > one")
            fine = await ready(only, other, "echo 2 > two")
            shutil.rmtree(top)
            await control.merge(only, reviews, fine.id, "merge", None)
            trashed = await control.trash(only, lost.id)
            assert trashed.trash_place is not None
            assert read(trashed.trash_place, "one") == "1\n"
            cleaned = await control.clean(only, reviews, dry_run=False, empty_trash=True, key=None)
            assert {session for session, _ in cleaned.purged} == {lost.id, fine.id}
            assert read(trashed.trash_place, "one") is None

    asyncio.run(story())


def test_one_session_that_cannot_be_cleaned_holds_up_no_other(top: Path) -> None:
    async def story() -> None:
        async with engine() as only:
            reviews = Reviews(only)
            sessions = [await ready(only, top, f"echo 1 > {name}") for name in "xy"]
            for session in sessions:
                await control.merge(only, reviews, session.id, "squash", None)
            place = worktrees.trash_of(places(), sessions[0])
            place.parent.mkdir(parents=True)
            place.write_text("in the way")
            cleaned = await control.clean(only, reviews, dry_run=False, empty_trash=False, key=None)
            assert [session for session, _ in cleaned.trashed] == [sessions[1].id]
            assert [(session, "could not be moved" in why) for session, _, why in cleaned.kept] == [
                (sessions[0].id, True)
            ]

    asyncio.run(story())


def test_clean_looks_again_whether_the_work_is_still_in_the_users_text(top: Path) -> None:
    async def story() -> None:
        async with engine() as only:
            reviews = Reviews(only)
            session = await ready(only, top, "echo 1 > one")
            await reviews.accept(session)
            assert only.session(session.id).state is State.APPLIED
            (top / "one").unlink()
            cleaned = await control.clean(only, reviews, dry_run=False, empty_trash=False, key=None)
            assert (cleaned.trashed, only.session(session.id).state) == ([], State.READY)

    asyncio.run(story())


def test_a_process_is_asked_to_stop_once(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    real = runs.stop

    async def stop(directory: Path) -> None:
        asked.append(directory)
        await real(directory)

    monkeypatch.setattr(runs, "stop", stop)

    async def story() -> None:
        async with engine() as only:
            up = tmp_path / "up"
            session = await begun(only, top, f"trap 'sleep 1; exit 3' INT; touch {up}; while :; do sleep 0.05; done")
            async with asyncio.timeout(30):
                while not up.exists():  # noqa: ASYNC110 - a file tells nobody that it is there
                    await asyncio.sleep(0.01)
            await control.stop(only, session)
            assert (await rested(only, session)).state is State.STOPPED
            assert len(asked) == 1

    asyncio.run(story())


def test_a_stop_before_the_launch_keeps_the_agent_from_starting(top: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    async def performs(engine: Engine, action: plan.Action) -> None:
        await perform(engine, action)
        if isinstance(action, plan.Start):
            await control.stop(engine, action.session)

    async def story() -> None:
        async with engine(performs) as only:
            session = await begun(only, top, f"touch {ran}")
            assert (await rested(only, session)).state is State.STOPPED
            assert not ran.exists()
            assert isinstance(runs.status(run_directory(only, session, 1)), runs.NotStarted)
            assert only.problems == ()

    asyncio.run(story())


def test_a_snapshot_of_an_earlier_run_does_not_end_a_later_one(top: Path) -> None:
    async def story() -> None:
        async with engine(cut_off(plan.Record)) as only:
            session = await begun(only, top, "echo 1 > one")
            async with asyncio.timeout(30):
                await only.until(lambda whole: whole.sessions[session].unrecorded_run is not None)
            old = e.Snapshotted(run=0, tree="1" * 40, commit="2" * 40, ref="r", files=1, added=1, removed=0)
            assert only.submit(session, old).state is State.WORKING

    asyncio.run(story())


def test_a_fault_while_planning_is_told_and_is_not_the_end(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.engine.engine.RETRY_S", 0.05)
    faults = [OSError("odd")]

    def faulty() -> UserConfig:
        if faults:
            raise faults.pop()
        return config()

    async def story() -> None:
        async with engine(config=config) as only:
            only.config = faulty
            session = await begun_without_config(only, top)
            assert (await rested(only, session)).state is State.READY
            assert "Plait itself failed" in only.problems[0]

    async def begun_without_config(only: Engine, top: Path) -> str:
        only.config = config
        session = await begun(only, top, "echo 1 > one")
        only.config = faulty
        return session

    asyncio.run(story())
