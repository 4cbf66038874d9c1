"""Comments and rejections reach the agent once, at the boundary of a turn, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plait.agents.registry import ADAPTERS
from plait.core import events as e
from plait.core.sessions import RESTING, Session, State
from plait.engine import comments, control, launch, talk, worktrees
from plait.engine.comments import Place
from plait.engine.engine import Engine
from plait.engine.review import Reviews
from plait.environment import pass_on
from plait.errors import NothingToDo, PlaitError, UsageError
from tests.support.chatter import Chatter
from tests.support.engines import engine, ready, rested
from tests.support.repo import LINES, commit, make_repo, manifest, run_git

ENVIRONMENT = pass_on(os.environ)


@pytest.fixture(autouse=True)
def _chatter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "acp", Chatter())


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "till", {"a.txt": LINES, "b.txt": "b\n", "crlf.txt": "one\r\ntwo\r\n"})


async def begun(running: Engine, top: Path, orders: str) -> str:
    """The id of a new session with the chatter."""
    request = launch.Request(top, orders, command=("sh",), environment=ENVIRONMENT)
    ((session, spec),) = await asyncio.to_thread(launch.specify, running, request)
    agent = spec.agent.model_copy(update={"kind": "acp", "name": "chatter"})
    running.create(session, spec.model_copy(update={"agent": agent}), request.environment)
    return session


async def until(running: Engine, session: str, holds: Callable[[Session], bool]) -> Session:
    async with asyncio.timeout(30):
        await running.until(lambda whole: holds(whole.sessions[session]))
    return running.session(session)


async def rests_after(running: Engine, session: str, runs: int) -> Session:
    return await until(running, session, lambda one: len(one.runs) == runs and one.state in RESTING)


def messages(session: Session) -> list[str]:
    """What each run of the agent began with, beyond its task."""
    return [run.message for run in session.runs if run.message]


async def reject(running: Engine, session: Session, path: str, why: str | None = None) -> str:
    reviews = Reviews(running)
    located = await reviews.located(session, [path])
    hunk = located[0].change.hunks[0].id
    await reviews.reject(session, hunks=frozenset([hunk]), why=why)
    return hunk


async def test_a_session_that_rests_goes_on_with_all_comments_in_one_message(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write new.txt hello; write a.txt more")
        session = await rested(running, name)
        reviews = Reviews(running)
        change = next(file for file in (await reviews.changes(session)).files if file.path == "new.txt")
        await comments.comment(running, reviews, name, Place(hunk=change.hunks[0].id), "Say goodbye, too.")
        await comments.comment(running, reviews, name, Place(path="a.txt", line=40), "Why `more`?")
        await comments.comment(running, reviews, name, Place(path="b.txt"), "Leave this file alone.")
        assert len(running.session(name).runs) == 1, "nothing is sent by itself"
        sent = await comments.send(running, name, ENVIRONMENT)
        assert (sent.comments, sent.rejections, sent.waits, sent.left) == (3, 0, False, 0)
        session = await rests_after(running, name, 2)
        with pytest.raises(NothingToDo):
            await comments.send(running, name, ENVIRONMENT)
    (message,) = messages(session)
    assert not session.unsent
    assert message.index("## a.txt") < message.index("## b.txt") < message.index("## new.txt")
    assert "Line 41:\n```\nmore\n```\nWhy `more`?" in message
    assert "```\n+hello\n```\nSay goodbye, too." in message
    assert session.agent_sessions[2] == session.agent_sessions[1], "the same conversation"


async def test_while_the_agent_works_nothing_is_said_until_its_turn_has_ended(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write new.txt one; ask May I?; write new.txt two")
        await until(running, name, lambda one: bool(one.requests))
        await comments.comment(running, Reviews(running), name, Place(path="b.txt", line=0), "Also this.")
        sent = await comments.send(running, name, ENVIRONMENT)
        assert (sent.comments, sent.waits) == (0, True)
        assert not running.session(name).commands, "the agent was not told anything"
    # The wish outlives the daemon.
    async with engine() as running:
        await until(running, name, lambda one: name in running.conversations and bool(one.requests))
        await talk.answer(running, name, talk.Reply(decision="allow"))
        session = await rests_after(running, name, 2)
    assert (Path(session.spec.worktree) / "new.txt").read_text() == "one\ntwo\n"
    (message,) = messages(session)
    assert "Also this." in message
    assert session.runs[0].ended is not None
    assert session.runs[0].ended.ok


async def test_an_agent_that_is_told_now_hears_it_in_its_turn(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write new.txt one; wait")
        await until(running, name, lambda _one: _activity(running, name) == "waiting")
        await comments.comment(running, Reviews(running), name, Place(path="b.txt", line=0), "Also this.")
        sent = await comments.send(running, name, ENVIRONMENT, now=True)
        assert (sent.comments, sent.waits) == (1, False)
        session = await rested(running, name)
    assert len(session.runs) == 1
    assert not session.unsent
    (said,) = session.commands
    assert isinstance(said, e.Said)
    assert "Also this." in said.text


async def test_rejected_hunks_are_taken_out_before_the_agent_goes_on_and_nothing_else_changes(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write new.txt hello; write a.txt more; write crlf.txt x; write b.txt kept")
        session = await rested(running, name)
        worktree = Path(session.spec.worktree)
        before = manifest(worktree, times=False)
        theirs = manifest(top)
        first = session.snapshot
        for path, why in (("new.txt", "Nobody asked."), ("a.txt", None), ("crlf.txt", None)):
            await reject(running, running.session(name), path, why)
        assert manifest(worktree, times=False) == before, "a verdict changes no file"
        sent = await comments.send(running, name, ENVIRONMENT)
        assert (sent.comments, sent.rejections) == (0, 3)
        session = await rests_after(running, name, 2)
    assert not (worktree / "new.txt").exists()
    assert (worktree / "a.txt").read_text() == LINES
    assert (worktree / "crlf.txt").read_bytes() == b"one\r\ntwo\r\n"
    assert (worktree / "b.txt").read_text() == "b\nkept\n"
    assert manifest(top) == theirs, "the user's checkout is not touched"
    assert len(session.rejected) == 3, "the verdicts stay"
    (message,) = messages(session)
    assert "Do not bring them back" in message
    assert "Reason: Nobody asked." in message
    assert message.count("taken out of your worktree already") == 3
    assert first is not None
    assert run_git(top, "show", f"{first.commit}:new.txt") == "hello", "what was taken out is in the snapshot"


async def test_a_file_that_changed_since_the_review_is_left_alone_and_kept(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write new.txt hello; write a.txt more")
        session = await rested(running, name)
        worktree = Path(session.spec.worktree)
        await reject(running, session, "a.txt")
        (worktree / "a.txt").write_text("by hand\n" + LINES + "more\n")
        await comments.send(running, name, ENVIRONMENT)
        session = await rests_after(running, name, 2)
    assert (worktree / "a.txt").read_text() == "by hand\n" + LINES + "more\n"
    (message,) = messages(session)
    assert "It is still in your worktree, so take it out yourself. (The file has changed" in message
    kept = run_git(top, "for-each-ref", "--format=%(refname)", f"refs/plait/{name}").split()
    texts = [run_git(top, "show", f"{ref}:a.txt") for ref in kept]
    assert any(text.startswith("by hand") for text in texts), "a snapshot was taken before"


async def test_what_the_agent_brings_back_is_taken_out_again_and_told_again(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write a.txt more")
        session = await rested(running, name)
        hunk = await reject(running, session, "a.txt")
        await comments.send(running, name, ENVIRONMENT)
        session = await rests_after(running, name, 2)
        assert not session.untold
        (Path(session.spec.worktree) / "a.txt").write_text(LINES + "more\n")
        taken = await asyncio.to_thread(worktrees.record_again, running.places, session)
        assert taken is not None
        running.submit(name, taken)
        await comments.comment(running, Reviews(running), name, Place(path="b.txt"), "One more thing.")
        sent = await comments.send(running, name, ENVIRONMENT)
        session = await rests_after(running, name, 3)
    assert sent.comments == 1
    assert (Path(session.spec.worktree) / "a.txt").read_text() == LINES
    assert "Do not bring them back" in messages(session)[-1]
    assert hunk in session.rejected


async def test_a_stop_calls_the_sending_off_and_keeps_the_comments(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write new.txt one; spin")
        await until(running, name, lambda _one: _activity(running, name) == "spinning")
        said = await comments.comment(running, Reviews(running), name, Place(path="b.txt"), "Also this.")
        assert (await comments.send(running, name, ENVIRONMENT)).waits
        await control.stop(running, name)
        session = await rested(running, name)
        assert (session.state, session.send_asked, len(session.runs)) == (State.STOPPED, False, 1)
        assert session.unsent == (said,)
        comments.remove(running, name, said.id)
        with pytest.raises(NothingToDo):
            await comments.send(running, name, ENVIRONMENT)


async def test_a_worktree_that_is_gone_keeps_the_comments_and_says_why(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write new.txt hello")
        session = await rested(running, name)
        await reject(running, session, "new.txt")
        await asyncio.to_thread(Path(session.spec.worktree).rename, top.parent / "elsewhere")
        with pytest.raises(PlaitError, match="is gone"):
            await comments.send(running, name, ENVIRONMENT)
        session = running.session(name)
    assert len(session.untold) == 1
    assert not session.send_asked


async def test_comments_are_refused_on_what_is_not_there(top: Path) -> None:
    async with engine() as running:
        name = await begun(running, top, "write new.txt hello")
        await rested(running, name)
        reviews = Reviews(running)
        for place, why in (
            (Place(hunk="0" * 16), "no hunk"),
            (Place(path="none.txt"), "no file"),
            (Place(path="b.txt", line=7), "no line 8"),
            (Place(path="../../secret", line=0), "Refused the path"),
            (Place(), "on what"),
        ):
            with pytest.raises(UsageError, match=why):
                await comments.comment(running, reviews, name, place, "Hm.")
        with pytest.raises(UsageError, match="empty"):
            await comments.comment(running, reviews, name, Place(path="b.txt"), " \n")
        with pytest.raises(UsageError, match="characters"):
            await comments.comment(running, reviews, name, Place(path="b.txt"), "x" * 30_000)
        assert running.session(name).comments == ()


def _activity(running: Engine, session: str) -> str:
    conversation = running.conversations.get(session)
    return conversation.progress.activity if conversation else ""


EVERYTHING = """
[ -e .ran ] && exit; touch .ran
git mv moved.txt elsewhere/moved.txt 2>/dev/null || { mkdir elsewhere; git mv moved.txt elsewhere/moved.txt; }
chmod +x a.txt; printf 'more\\r\\n' >> windows.txt; rm gone.txt; ln -s a.txt link; rm old-link; ln -s b.txt old-link
printf '\\0new' > binary; mkdir -p new/deep; echo new > new/deep/file; echo tail >> moved.txt.keep
git add -A; git commit -qm 'All kinds of changes'
"""


async def test_every_kind_of_change_can_be_taken_out_again(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        ".gitattributes": "windows.txt eol=crlf\n",
        ".gitignore": ".ran\n",
        "a.txt": LINES,
        "windows.txt": "one\r\ntwo\r\n",
        "moved.txt": LINES + "moved\n",
        "moved.txt.keep": "keep\n",
        "gone.txt": "gone\n",
        "binary": b"\0old",
    }
    top = make_repo(tmp_path / "kinds", files)
    await asyncio.to_thread((top / "old-link").symlink_to, "a.txt")
    commit(top, "A link")
    async with engine() as running:
        session = await ready(running, top, EVERYTHING)
        reviews = Reviews(running)
        kinds = {hunk.kind for file in (await reviews.changes(session)).files for hunk in file.hunks}
        assert kinds >= {"rename", "mode", "insert", "remove", "create", "symlink", "binary"}
        await reviews.reject(session)
        sent = await comments.send(running, session.id, ENVIRONMENT)
        session = await rests_after(running, session.id, 2)
    (message,) = messages(session)
    assert "still in your worktree" not in message
    assert sent.rejections == message.count("taken out of your worktree already")
    assert sent.rejections >= 8
    worktree = Path(session.spec.worktree)
    found = {path: what[:2] for path, what in manifest(worktree, times=False).items() if path not in (".git", ".ran")}
    assert found == {path: what[:2] for path, what in manifest(top, times=False).items()}
    assert session.snapshot is not None
    assert run_git(top, "rev-parse", f"{session.snapshot.commit}^{{tree}}") == run_git(top, "rev-parse", "HEAD^{tree}")


async def test_a_kill_after_hunks_were_taken_out_loses_nothing(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    async with engine() as running:
        name = await begun(running, top, "write new.txt hello; write b.txt more")
        session = await rested(running, name)
        await reject(running, session, "new.txt", "Nobody asked.")
        await comments.comment(running, Reviews(running), name, Place(path="b.txt", line=1), "Why?")
    # What is left when the daemon dies between the change of the worktree and its record.
    async with engine(performs=_nothing) as running:
        running.submit(name, e.SendAsked())
        with monkeypatch.context() as patch:
            patch.setattr(comments, "_message", killed)
            with pytest.raises(KilledError):
                await comments.deliver(running, running.session(name))
        worktree = Path(running.session(name).spec.worktree)
        assert not (worktree / "new.txt").exists()
        assert running.session(name).send_asked
        assert len(running.session(name).unsent) == 1
    async with engine() as running:
        session = await rests_after(running, name, 2)
    (message,) = messages(session)
    assert "Why?" in message
    assert "A change that is not there any more.\nReason: Nobody asked." in message
    assert (worktree / "b.txt").read_text() == "b\nmore\n"
    texts = [run_git(top, "ls-tree", "-r", "--name-only", ref) for ref in _snapshots(top, name)]
    assert any("new.txt" in names.split("\n") for names in texts)


async def _nothing(_engine: Engine, _action: object) -> None:
    await asyncio.Event().wait()


def _snapshots(top: Path, session: str) -> list[str]:
    return run_git(top, "for-each-ref", "--format=%(refname)", f"refs/plait/{session}").split()
