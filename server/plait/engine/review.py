"""Brings sessions' hunks together with what the user has: the buffer of an editor that has the file open, or the disk.

What a hunk's state is, is derived each time from the user's text; the verdicts in the ledger are the user's own words.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from plait.core import events as e
from plait.core.accept import Chmod, FileOperation, Outcome, TextEdit, Write, accept, revert, taken_back
from plait.core.alignment import Placed
from plait.core.changes import REGULAR, Content, FileChange, Hunk
from plait.core.lines import decode, encode
from plait.core.locate import UserFile, locate
from plait.core.sessions import Session, State
from plait.engine import checkout
from plait.engine.changes import Changes, entries, recorded, weight
from plait.engine.engine import Engine
from plait.engine.following import Following
from plait.engine.worktrees import shadow_of
from plait.errors import ConflictError, NothingToDo, PlaitError, UsageError
from plait.git import trees

P = ParamSpec("P")
T = TypeVar("T")

REVIEWABLE = (State.READY, State.APPLIED, State.STOPPED, State.FAILED, State.MERGED)
"""States in which nothing changes the session's tree."""

QUICK = 64 << 10
"""Bytes of a file up to which its hunks are placed in the event loop's own thread."""

CACHED = 256 << 20
"""Bytes of the changes that are kept in memory, as far as they can be known."""


class Editor(Protocol):
    """A connected editor, as far as review needs it."""

    def text(self, path: Path) -> str | None:
        """The text of the file in the editor, unsaved edits included; none if it is not open."""

    async def edit(self, path: Path, before: str, edits: Sequence[TextEdit], after: str, label: str) -> bool:
        """Apply the edits as one undoable step; true once the editor's text is `after`."""


@dataclass(frozen=True)
class Located:
    """One file of a session with its hunks placed in what the user has."""

    change: FileChange
    placed: tuple[Placed, ...]
    buffer: bool
    """Whether the user's text is that of an open editor."""


@dataclass
class Result:
    """What came of accepting, rejecting or reverting."""

    done: list[str]
    already: list[str]
    refused: list[tuple[str, str]]
    files: list[str]
    in_editor: list[str]
    """Files whose change is in an editor's buffer and not saved."""


class Reviews:
    """The changes of all sessions, computed once for each tree, and the editors that are connected."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.editors: list[Editor] = []
        self.following = Following(engine)
        self._cache: OrderedDict[tuple[str, str, str], tuple[Changes, int]] = OrderedDict()
        self._cached = 0
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def writing(self, key: str) -> asyncio.Lock:
        """The lock under which the checkout of one repository is changed."""
        return self._locks[key]

    async def changes(self, session: Session) -> Changes:
        """What the session changed: its last snapshot if it rests, otherwise its worktree as it is this moment."""
        if session.state in REVIEWABLE or session.state is State.TRASHED:
            if session.snapshot is None:
                return Changes(session.spec.base, ())
            return await self._of_tree(session, session.snapshot.tree)
        if session.prepared is None:
            return Changes(session.spec.base, ())
        return await self.following.changes(session)

    async def _of_tree(self, session: Session, tree: str) -> Changes:
        key = (session.spec.repo.key, session.spec.base, tree)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key][0]
        changes = await asyncio.to_thread(recorded, self.engine.places, session, tree)
        if key not in self._cache:
            self._cache[key] = changes, weight(changes)
            self._cached += self._cache[key][1]
            while self._cached > CACHED:
                _, (_, gone) = self._cache.popitem(last=False)
                self._cached -= gone
        return changes

    async def located(self, session: Session, paths: Iterable[str] | None = None) -> list[Located]:
        """The session's hunks where they lie now, for all files or some."""
        wanted = None if paths is None else frozenset(paths)
        changes = await self.changes(session)
        chosen = [c for c in changes.files if wanted is None or c.path in wanted or c.old_path in wanted]
        return [await self._locate(session, change) for change in chosen]

    async def accept(
        self, session: Session, *, paths: frozenset[str] | None = None, hunks: frozenset[str] | None = None
    ) -> Result:
        """Put hunks into what the user has: those named, or all of the files or session that are not rejected.

        Raises PlaitError if nothing could be done.
        """
        return await self._change(session, paths, hunks, taking_back=False)

    async def revert(
        self, session: Session, *, paths: frozenset[str] | None = None, hunks: frozenset[str] | None = None
    ) -> Result:
        """Take applied hunks out of what the user has again."""
        return await self._change(session, paths, hunks, taking_back=True)

    async def reject(
        self,
        session: Session,
        *,
        paths: frozenset[str] | None = None,
        hunks: frozenset[str] | None = None,
        why: str | None = None,
    ) -> Result:
        """Note that the user does not want hunks; nothing is changed in any file."""
        located = await self.located(session, paths)
        chosen = _chosen(located, hunks)
        if hunks is None:
            chosen = [row for row in chosen if row.state != "applied"]
        applied = [row.hunk.id for row in chosen if row.state == "applied"]
        decided = [row for row in chosen if row.state != "applied" and row.hunk.id not in session.rejected]
        events = [e.Decided(hunk=row.hunk.id, path=row.hunk.path, verdict="rejected", why=why) for row in decided]
        if events:
            self.engine.submit(session.id, *events)
            await self.settle(session.id)
        elif not applied:
            raise NothingToDo("Nothing here waits for a verdict.")
        refused = [(hunk, "It is in your text already: undo it there, or take it back first.") for hunk in applied]
        return Result([row.hunk.id for row in decided], [], refused, sorted({r.hunk.path for r in decided}), [])

    async def settle(self, session_id: str, touching: str | None = None) -> None:
        """Say that a session is applied when nothing of it waits any more, or that it waits again.

        With `touching`, a path in the checkout, only if the session changes that file.
        """
        session = self.engine.session(session_id)
        if session.state not in (State.READY, State.STOPPED, State.FAILED, State.APPLIED) or session.snapshot is None:
            return
        changes = await self.changes(session)
        if touching is not None and not any(touching in (file.path, file.old_path) for file in changes.files):
            return
        located = await self.located(session)
        # What could not even be read cannot have been taken.
        waiting = bool(changes.problems) or any(waits(session, row) for file in located for row in file.placed)
        known = self.engine.session(session_id)
        if known.state is not session.state or known.snapshot is not session.snapshot:
            return
        if waiting and session.state is State.APPLIED:
            self.engine.submit(session_id, e.Reopened())
        elif not waiting and session.state is not State.APPLIED and session.snapshot.files:
            self.engine.submit(session_id, e.Applied())

    async def reviewed_tree(self, session: Session) -> str:
        """The tree of the session's snapshot without the hunks that the user rejected."""
        if session.snapshot is None:
            raise UsageError("The session has recorded no work yet.", "Wait until it is ready.")
        changes = await self.changes(session)
        replaced = entries(taken_back(changes.files, session.rejected))
        if not replaced:
            return session.snapshot.tree
        shadow = shadow_of(self.engine.places, session)
        return await asyncio.to_thread(trees.write_tree, shadow, session.snapshot.tree, replaced)

    async def _locate(self, session: Session, change: FileChange) -> Located:
        try:
            user, buffer = await self._user_file(session, change)
        except PlaitError as error:
            # One file that cannot be read must not hide all others.
            return Located(change, tuple(_out_of_reach(hunk, str(error)) for hunk in change.hunks), False)
        return Located(change, await _worked_out(change, locate, change, user, session.accepted), buffer)

    async def _user_file(self, session: Session, change: FileChange) -> tuple[UserFile, bool]:
        top = session.spec.repo.top
        if top is None:
            # Without a checkout the user has the base, and all of it waits for a verdict.
            return UserFile(change.base, change.base if change.old_path is None else None), False
        old, buffer_old = await self._content(Path(top), change.old_path or change.path, change)
        if change.old_path is None:
            return UserFile(old, old), buffer_old
        new, buffer_new = await self._content(Path(top), change.path, change)
        return UserFile(old, new), buffer_old or buffer_new

    async def _content(self, top: Path, path: str, change: FileChange) -> tuple[Content | None, bool]:
        on_disk = await asyncio.to_thread(checkout.read, top, path)
        opened = self._open(top / path)
        if opened is None:
            return on_disk, False
        mode = on_disk.mode if on_disk else (change.base or change.agent or Content(b"", REGULAR)).mode
        return Content(_encoded(opened[1], change), mode), True

    def _open(self, path: Path) -> tuple[Editor, str] | None:
        """The editor that has the file open; one with unsaved edits goes before one without."""
        found = [(editor, text) for editor in self.editors if (text := editor.text(path)) is not None]
        if len(found) < 2:
            return found[0] if found else None
        try:
            saved = path.read_bytes()
        except OSError:
            return found[0]
        return next(((editor, text) for editor, text in found if text.encode(errors="replace") != saved), found[0])

    async def _change(
        self, session: Session, paths: frozenset[str] | None, hunks: frozenset[str] | None, taking_back: bool
    ) -> Result:
        if session.spec.repo.top is None:
            raise UsageError(
                "The repository has no checkout to accept into.", "Merge the session into a branch instead."
            )
        async with self.writing(session.spec.repo.key):
            session = self.engine.session(session.id)
            located = await self.located(session, paths)
            if not located:
                raise NothingToDo("The session changes nothing there.")
            result = Result([], [], [], [], [])
            known = {hunk.id for file in located for hunk in file.change.hunks}
            for unknown in sorted((hunks or frozenset()) - known):
                result.refused.append((unknown, "There is no such hunk any more: the agent has changed it since."))
            for file in located:
                ids = _ids(session, file, hunks, taking_back)
                if ids:
                    await self._change_file(session, file.change, ids, taking_back, hunks is not None, result)
            await self._remember(session, located, result, taking_back)
        if not result.done and result.refused:
            reasons = list(dict.fromkeys(reason for _, reason in result.refused))
            what = "taken back" if taking_back else "accepted"
            raise ConflictError(
                f"{_count(result.refused, 'hunk')} could not be {what}: {reasons[0]}",
                data={"refused": [{"hunk": hunk, "reason": reason} for hunk, reason in result.refused]},
            )
        if not result.done:
            raise NothingToDo("Nothing there waits any more.")
        return result

    async def _change_file(
        self, session: Session, change: FileChange, ids: frozenset[str], taking_back: bool, named: bool, result: Result
    ) -> None:
        """One file as one transaction: computed on the newest text, applied, and verified."""
        top = Path(session.spec.repo.top or "/")
        try:
            user, buffer = await self._user_file(session, change)
        except PlaitError as error:
            result.refused += [(hunk, str(error)) for hunk in sorted(ids)]
            return
        decide = revert if taking_back else accept
        outcome = await _worked_out(change, decide, change, user, ids, session.accepted)
        result.already += outcome.already
        result.refused += outcome.refused
        if not outcome.accepted:
            return
        try:
            opened = self._open(top / outcome.path) if buffer and outcome.edits else None
            rest = _left_to_disk(outcome) if opened else outcome.operations
            expected = outcome.expected
            if buffer and rest:
                saved = {path: await asyncio.to_thread(checkout.read, top, path) for path in outcome.expected}
                if not all(isinstance(op, Chmod) for op in rest) and not _same_data(saved, expected):
                    raise ConflictError(f"{outcome.path} has unsaved edits in the editor.", "Save it, then repeat.")
                expected = saved
            if opened:
                await self._edit(opened, top, change, outcome, session)
                result.in_editor.append(outcome.path)
            if rest:
                await asyncio.to_thread(checkout.apply, top, rest, expected, allow_escaping_links=named)
        except PlaitError as error:
            result.refused += [(hunk, str(error)) for hunk in outcome.accepted]
            return
        result.done += outcome.accepted
        result.files.append(outcome.path)

    async def _edit(
        self, opened: tuple[Editor, str], top: Path, change: FileChange, outcome: Outcome, session: Session
    ) -> None:
        editor, before = opened
        after_content = outcome.user.at_new if outcome.path == change.path else outcome.user.at_old
        after = _decoded(after_content.data if after_content else b"", change)
        label = f"{len(outcome.accepted)} of “{session.spec.task.title}”"
        if not await editor.edit(top / outcome.path, before, outcome.edits, after, label):
            raise ConflictError("The text changed in the editor meanwhile.", "Look at the hunk again and repeat.")

    async def _remember(self, session: Session, located: list[Located], result: Result, taking_back: bool) -> None:
        paths = {hunk.id: hunk.path for file in located for hunk in file.change.hunks}
        before = session.accepted
        verdict: e.VerdictKind = "cleared" if taking_back else "accepted"
        hunks = result.done if taking_back else [*result.done, *(h for h in result.already if h not in before)]
        if hunks:
            events = [e.Decided(hunk=hunk, path=paths[hunk], verdict=verdict) for hunk in hunks]
            self.engine.submit(session.id, *events)
        await self.settle(session.id)


def waits(session: Session, row: Placed) -> bool:
    """Whether the hunk still wants something of the user."""
    if row.hunk.id in session.rejected or row.edited:
        return False
    return row.state != "applied"


def _ids(session: Session, file: Located, hunks: frozenset[str] | None, taking_back: bool) -> frozenset[str]:
    """The hunks of the file that are meant: a link that leaves the repository must be named to be accepted."""
    own = frozenset(row.hunk.id for row in file.placed)
    if hunks is not None:
        return own & hunks
    if taking_back:
        return own & session.accepted
    return frozenset(row.hunk.id for row in file.placed if not row.hunk.escapes) - session.rejected


def _chosen(located: list[Located], hunks: frozenset[str] | None) -> list[Placed]:
    rows = [row for file in located for row in file.placed]
    if hunks is None:
        return rows
    chosen = [row for row in rows if row.hunk.id in hunks]
    missing = hunks - {row.hunk.id for row in chosen}
    if missing:
        raise UsageError(
            f"There is no hunk {sorted(missing)[0]} any more.", "The agent has changed it since, or it never was there."
        )
    return chosen


async def _worked_out(change: FileChange, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function computes of a file; in a thread if that may take long enough to be felt by others."""
    if sum(len(side.data) for side in (change.base, change.agent) if side is not None) < QUICK:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


def _left_to_disk(outcome: Outcome) -> tuple[FileOperation, ...]:
    """The operations beside the edits of an open buffer: of the write of its file nothing but a change of its mode."""
    left: list[FileOperation] = []
    for operation in outcome.operations:
        if not (isinstance(operation, Write) and operation.path == outcome.path):
            left.append(operation)
            continue
        before = outcome.expected[outcome.path]
        if before is not None and before.mode != operation.content.mode:
            left.append(Chmod(operation.path, operation.content.mode))
    return tuple(left)


def _same_data(one: Mapping[str, Content | None], other: Mapping[str, Content | None]) -> bool:
    return all((a and a.data) == (b and b.data) for a, b in ((one[path], other[path]) for path in one))


def _out_of_reach(hunk: Hunk, reason: str) -> Placed:
    return Placed(hunk, "conflicting", hunk.path, reason=reason, removed=hunk.removed, added=hunk.added)


def _encoded(text: str, change: FileChange) -> bytes:
    """The buffer's text in the file's own encoding, so that it compares with what git keeps."""
    encoding = _encoding(change)
    try:
        return encode(text, encoding)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _decoded(data: bytes, change: FileChange) -> str:
    try:
        return data.decode(_encoding(change))
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _encoding(change: FileChange) -> str:
    side = change.base or change.agent
    found = decode(side.data) if side is not None else None
    return found[1] if found else "utf-8"


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def relative(session: Session, path: str) -> str:
    """A path as the user gave it, relative to the top of the checkout."""
    top = session.spec.repo.top
    if top is None or not Path(path).is_absolute():
        return os.path.normpath(path)
    real = Path(os.path.realpath(Path(path).parent)) / Path(path).name
    return os.path.relpath(real, top)
