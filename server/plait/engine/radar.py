"""Watches which sessions collide: each two works are merged on trial once, and again only when one of them changes.

What a session brings is its newest snapshot, or what it has changed up to now while it runs, without the hunks that
the user rejected. What is applied or merged is in the user's text already, where hunks of others that collide with it
show themselves as conflicts with that text.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from plait.core.accept import taken_back
from plait.core.changes import Content, FileChange
from plait.core.conflicts import Collision, Pair, Work, candidates, meeting, merge_order, places, size, touched
from plait.core.sessions import LIVE, Session, State
from plait.engine.changes import entries, recorded
from plait.engine.engine import Engine
from plait.engine.review import Reviews
from plait.engine.worktrees import shadow_of
from plait.errors import GitError, PlaitError
from plait.git import trees
from plait.git.merges import collisions
from plait.git.shadow import Shadow

log = logging.getLogger(__name__)

WATCHED = (State.READY, State.STOPPED, State.FAILED, *LIVE)
"""States of sessions whose work may still be brought into the user's checkout."""

PAUSE_S = 0.05
"""How long is waited for further changes before the works are looked at."""

SHARE = 10
"""Between two looks is so many times what the last one took, unless somebody asks: agents write all the time."""

LONGEST_S = 2.0
"""How long is waited at most."""

BATCH = 200
"""Pairs that are merged by one git process, after which its objects are thrown away."""

_RUNS = "runs"

Mark = tuple[State, str, frozenset[str]]
"""By what it is seen that a session's work may be another: its state, its tree or a count, what was rejected."""

Key = tuple[str, str]
"""What a merge of the work depends on: the base, and a digest of all that differs from it."""

Answer = tuple[Collision, ...] | GitError


@dataclass(frozen=True)
class Opponent:
    """A session that meets a hunk, with those of its hunks that do."""

    session: str
    hunks: tuple[str, ...]
    text: str
    alternative: bool
    """It does the same task, so that one of the two is chosen rather than both merged."""


@dataclass(frozen=True)
class Found:
    """Which sessions collide now."""

    pairs: tuple[Pair, ...] = ()
    alternatives: tuple[Pair, ...] = ()
    """Sessions of one task that touch the same rows or files."""
    order: tuple[str, ...] = ()
    """All sessions with work to bring in, as `merge_order` recommends."""
    problems: tuple[str, ...] = ()
    opponents: Mapping[tuple[str, str], tuple[Opponent, ...]] = field(default_factory=dict)
    """By session and hunk."""


@dataclass(frozen=True)
class _Side:
    """A session's work, and what is needed to merge it."""

    mark: Mark
    key: Key
    repo: str
    title: str
    work: Work
    commit: str
    replaced: Mapping[str, Content | None]
    """In what the work differs from the commit's tree: the rejected hunks, or all that a running agent did."""


class Radar:
    """The collisions between all sessions, kept in memory and up to date."""

    def __init__(self, engine: Engine, reviews: Reviews) -> None:
        self.found = Found()
        self.seq = 0
        """Counts the changes of `found`."""
        self.merged = 0
        """How many pairs have been merged on trial so far."""
        self.listeners: list[Callable[[frozenset[str]], None]] = []
        """Told of the sessions whose opponents changed."""
        self._engine = engine
        self._reviews = reviews
        self._known: Mapping[str, Mark] = {}
        """What each session was like when it was looked at last."""
        self._written: Counter[str] = Counter()
        """How often files of each running session changed."""
        self._sides: dict[str, _Side] = {}
        self._answers: dict[tuple[str, Key, Key], Answer] = {}
        self._looking: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        self._took = 0.0

    def start(self) -> None:
        """Take up what there is, and follow what changes; once somebody wants to know is soon enough."""
        if self._session_changed not in self._engine.listeners:
            self._engine.listeners.append(self._session_changed)
            self._reviews.following.listeners.append(self._files_changed)
            self._look()

    async def stop(self) -> None:
        if self._session_changed in self._engine.listeners:
            self._engine.listeners.remove(self._session_changed)
            self._reviews.following.listeners.remove(self._files_changed)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def current(self) -> Found:
        """What is found once all changes so far have been looked at."""
        self.start()
        while self._looking is not None:
            self._asked.set()
            await asyncio.wait({self._looking})
        return self.found

    def _session_changed(self, session: Session) -> None:
        if self._known.get(session.id) != self._mark(session):
            self._look()

    def _files_changed(self, session: Session, _paths: frozenset[str]) -> None:
        self._written[session.id] += 1
        self._look()

    def _mark(self, session: Session) -> Mark | None:
        """What the session is like now; none if it has no part in this."""
        if session.state not in WATCHED:
            return None
        # What exactly a running session is at makes no difference.
        state = State.WORKING if session.state in LIVE else session.state
        if state is State.WORKING and self._reviews.following.known(session.id):
            return state, f"{_RUNS} {self._written[session.id]}", session.rejected
        if session.snapshot is None or not session.snapshot.files:
            return None
        return state, session.snapshot.tree, session.rejected

    def _look(self) -> None:
        if self._looking is None:
            self._looking = asyncio.create_task(self._follow(), name="radar")

    async def _follow(self) -> None:
        try:
            while True:
                await self._pause()
                sessions = dict(self._engine.whole.sessions)
                marks = {name: mark for name, session in sessions.items() if (mark := self._mark(session)) is not None}
                if marks == self._known:
                    return
                began = time.monotonic()
                await self._update({name: (sessions[name], mark) for name, mark in marks.items()})
                self._known = marks
                self._took = time.monotonic() - began
        except Exception:
            # What is unforeseen here costs this view, not the daemon; the next change begins anew.
            log.exception("looking for collisions failed")
        finally:
            self._looking = None

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(min(LONGEST_S, max(PAUSE_S, SHARE * self._took))):
                await self._asked.wait()
        except TimeoutError:
            return
        finally:
            self._asked.clear()

    async def _update(self, sessions: Mapping[str, tuple[Session, Mark]]) -> None:
        problems: list[str] = []
        sides: dict[str, _Side] = {}
        for session, mark in sessions.values():
            try:
                side = await self._side(session, mark)
            except PlaitError as error:
                problems.append(f"“{session.spec.task.title}” is left out: {error}")
                continue
            if side is not None:
                sides[session.id] = side
        self._sides = sides
        asked, alternatives = await asyncio.to_thread(_candidates, sides)
        for repo in sorted({sides[a].repo for a, _ in asked}):
            problems += await self._merge([(sides[a], sides[b]) for a, b in asked if sides[a].repo == repo])
        self._answers = {
            key: self._answers[key] for a, b in asked if (key := _pair_key(sides[a], sides[b])) in self._answers
        }
        self._tell(await asyncio.to_thread(_judged, sides, asked, self._answers, alternatives, problems))

    async def _side(self, session: Session, mark: Mark) -> _Side | None:
        known = self._sides.get(session.id)
        state, tree, rejected = mark
        if known is not None and known.mark[1:] == mark[1:]:
            return replace(known, mark=mark, work=replace(known.work, state=state))
        runs = tree.startswith(_RUNS)
        if state is State.WORKING and not runs:
            changes = await asyncio.to_thread(recorded, self._engine.places, session, tree)
        else:
            changes = await self._reviews.changes(session)
        files = touched(changes.files, rejected)
        if not files:
            return None
        spec = session.spec
        digest = hashlib.sha256("\n".join(hunk for file in files for hunk in file.hunks).encode()).hexdigest()
        replaced = {**(_differing(changes.files) if runs else {}), **taken_back(changes.files, rejected)}
        return _Side(
            mark=mark,
            key=(spec.base, digest if runs else f"{tree} {digest}"),
            repo=spec.repo.key,
            title=spec.task.title,
            work=Work(session.id, spec.task.id, spec.base, files, state, size(changes.files), tuple(spec.task.after)),
            commit=spec.base if runs or session.snapshot is None else session.snapshot.commit,
            replaced=replaced,
        )

    async def _merge(self, pairs: Sequence[tuple[_Side, _Side]]) -> list[str]:
        """Merge on trial the pairs of one repository that have not been, and say what hindered it."""
        fresh = [pair for pair in pairs if _pair_key(*pair) not in self._answers]
        if not fresh:
            return []
        session = self._engine.session(fresh[0][0].work.session)
        try:
            shadow = await asyncio.to_thread(shadow_of, self._engine.places, session)
            for start in range(0, len(fresh), BATCH):
                batch = fresh[start : start + BATCH]
                answers = await asyncio.to_thread(_merged, shadow, batch)
                self.merged += len(batch)
                for pair, answer in zip(batch, answers, strict=True):
                    self._answers[_pair_key(*pair)] = answer
        except PlaitError as error:
            return [f"Sessions of {session.spec.repo.top or session.spec.repo.common_dir} were not compared: {error}"]
        return []

    def _tell(self, found: Found) -> None:
        before, self.found = self.found, found
        if found == before:
            return
        self.seq += 1
        keys = before.opponents.keys() | found.opponents.keys()
        changed = {key[0] for key in keys if before.opponents.get(key) != found.opponents.get(key)}
        for listener in tuple(self.listeners):
            listener(frozenset(changed))


def _candidates(sides: Mapping[str, _Side]) -> tuple[list[tuple[str, str]], list[Pair]]:
    """The pairs that are to be merged on trial, and the alternatives that meet."""
    asked: list[tuple[str, str]] = []
    alternatives: list[Pair] = []
    for repo in sorted({side.repo for side in sides.values()}):
        for a, b in candidates([side.work for side in sides.values() if side.repo == repo]):
            one, other = sides[a].work, sides[b].work
            if one.task != other.task:
                asked.append((a, b))
            elif met := meeting(one, other):
                alternatives.append(Pair(a, b, met))
    return asked, alternatives


def _judged(
    sides: Mapping[str, _Side],
    asked: Sequence[tuple[str, str]],
    answers: Mapping[tuple[str, Key, Key], Answer],
    alternatives: Sequence[Pair],
    problems: Sequence[str],
) -> Found:
    pairs: list[Pair] = []
    said = list(problems)
    for a, b in asked:
        answer = answers.get(_pair_key(sides[a], sides[b]), ())
        if isinstance(answer, GitError):
            said.append(f"“{sides[a].title}” and “{sides[b].title}” cannot be compared: {answer}")
        elif found := places(sides[a].work, sides[b].work, answer):
            pairs.append(Pair(a, b, found))
    order = merge_order([side.work for side in sides.values()], pairs)
    return Found(tuple(pairs), tuple(alternatives), tuple(order), tuple(said), _opponents(pairs, alternatives))


def _pair_key(one: _Side, other: _Side) -> tuple[str, Key, Key]:
    return one.repo, one.key, other.key


def _differing(changes: Sequence[FileChange]) -> dict[str, Content | None]:
    """What the changes make of the base."""
    gone: dict[str, Content | None] = {change.old_path: None for change in changes if change.old_path is not None}
    return {**gone, **{change.path: change.agent for change in changes}}


def _merged(shadow: Shadow, batch: Sequence[tuple[_Side, _Side]]) -> list[Answer]:
    """What each pair collides in. Blocking; nothing of it stays in the repository."""
    with shadow.temporary() as scratch:
        commits: dict[str, str] = {}
        for side in (side for pair in batch for side in pair):
            if side.work.session not in commits:
                commits[side.work.session] = _commit(shadow, side, scratch)
        pairs = [(commits[one.work.session], commits[other.work.session]) for one, other in batch]
        return collisions(shadow, pairs, scratch)


def _commit(shadow: Shadow, side: _Side, scratch: Path) -> str:
    if not side.replaced:
        return side.commit
    tree = trees.write_tree(shadow, side.commit, entries(side.replaced), scratch=scratch)
    return trees.commit(shadow, tree, [side.commit], "On trial", scratch=scratch)


def _opponents(pairs: Sequence[Pair], alternatives: Sequence[Pair]) -> dict[tuple[str, str], tuple[Opponent, ...]]:
    found: defaultdict[tuple[str, str], dict[str, Opponent]] = defaultdict(dict)
    for alternative, group in ((False, pairs), (True, alternatives)):
        for pair in group:
            for place in pair.places:
                for (mine, own), (theirs, others) in (
                    ((pair.a, place.hunks[0]), (pair.b, place.hunks[1])),
                    ((pair.b, place.hunks[1]), (pair.a, place.hunks[0])),
                ):
                    for hunk in own:
                        known = found[mine, hunk].get(theirs)
                        hunks = tuple(dict.fromkeys((*(known.hunks if known else ()), *others)))
                        text = known.text if known else place.text
                        found[mine, hunk][theirs] = Opponent(theirs, hunks, text, alternative)
    return {key: tuple(opponents.values()) for key, opponents in found.items()}
