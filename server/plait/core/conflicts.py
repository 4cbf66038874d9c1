"""Which sessions may collide, where they do, and in which order to merge them.

What really collides is for git's three-way merge to say. Two sessions are a candidate when they touch a path in
common (or names that depend on each other), so that sessions which have nothing to do with each other cost nothing.
Whether lines that lie close together collide depends on how the lines are aligned, and git's merge aligns them in its
own way: rows are therefore compared only to tell people where a collision lies, never to leave a candidate out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from plait.core.accept import path_without
from plait.core.changes import LINE_KINDS, FileChange, stats
from plait.core.sessions import State

RISK: Final[Mapping[State, int]] = {State.READY: 0, State.APPLIED: 0, State.STOPPED: 1, State.FAILED: 2}
"""How doubtful a session's work is by where it stands; what still runs is the most doubtful."""

_RUNNING: Final = 3


@dataclass(frozen=True, slots=True)
class Span:
    """The rows [start, end) of the base that a hunk replaces; an insertion's span is empty."""

    hunk: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Touched:
    """What a session does to one file, without the contents."""

    path: str
    old_path: str | None
    arrives: bool
    """The base has no file of this name."""
    leaves: bool
    """Afterwards the base's name is gone."""
    spans: tuple[Span, ...]
    hunks: tuple[str, ...]
    """The ids of all hunks, those about the whole file included."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset((self.path, self.old_path or self.path))

    @property
    def only_lines(self) -> bool:
        return len(self.spans) == len(self.hunks)


@dataclass(frozen=True)
class Work:
    """What one session would bring into the repository."""

    session: str
    task: str
    base: str
    files: tuple[Touched, ...]
    state: State = State.READY
    size: int = 0
    """Lines added and removed."""
    after: tuple[str, ...] = ()
    """Sessions that its task builds on."""


@dataclass(frozen=True)
class Collision:
    """One thing that git cannot merge: the type that git gives it, and the paths that it concerns."""

    kind: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where two sessions collide in one file.

    `lines` has the rows [start, end) of the base on both sides, counted from 0; none if it is about the whole file,
    or if the sessions started from different commits. `hunks` has the hunks of both sides that take part.
    """

    path: str
    kind: str
    lines: tuple[tuple[int, int], tuple[int, int]] | None
    hunks: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def text(self) -> str:
        """What collides, as a sentence about the two sessions."""
        if self.kind == "contents" and self.lines is None:
            return "Both change it, and git cannot merge that."
        return _TEXTS.get(self.kind, f"git cannot merge it: {self.kind}.")


@dataclass(frozen=True)
class Pair:
    """Two sessions, by ascending id, and the places at which they meet."""

    a: str
    b: str
    places: tuple[Place, ...]


_TEXTS: Final[Mapping[str, str]] = {
    "contents": "Both change these lines.",
    "add/add": "Both create it, with different content.",
    "modify/delete": "One changes it, the other deletes it.",
    "rename/delete": "One renames it, the other deletes it.",
    "rename/rename": "Both rename it, to different names.",
    "rename involved in collision": "Two different files would have this name.",
    "file/directory": "One makes a file of it, the other a directory.",
    "distinct modes": "Each makes another type of file of it.",
    "binary": "Both change it, and it is binary.",
    "directory rename suggested": "One renames the directory into which the other puts it.",
}


def touched(files: Iterable[FileChange], rejected: Collection[str] = ()) -> tuple[Touched, ...]:
    """What the changes touch, without the hunks that the user rejected."""
    left_out = frozenset(rejected)
    found = []
    for change in files:
        hunks = [hunk for hunk in change.hunks if hunk.id not in left_out]
        if not hunks:
            continue
        path = path_without(change, left_out)
        renamed = change.old_path if change.old_path != path else None
        spans = tuple(Span(h.id, h.start, h.start + len(h.removed)) for h in hunks if h.kind in LINE_KINDS)
        arrives = change.base is None or renamed is not None
        leaves = change.agent is None or renamed is not None
        found.append(Touched(path, renamed, arrives, leaves, spans, tuple(hunk.id for hunk in hunks)))
    return tuple(found)


def size(files: Iterable[FileChange]) -> int:
    """Lines added and removed by all changes."""
    return sum(sum(stats(change)) for change in files)


def candidates(works: Sequence[Work]) -> list[tuple[str, str]]:
    """The pairs of sessions that git may not be able to merge, each by ascending id, in order.

    No pair that a merge finds colliding is missing: besides names in common these are a file where the other needs a
    directory, and new files where the other renames files away, which git may take for a renamed directory.
    """
    naming: defaultdict[str, set[str]] = defaultdict(set)
    arriving: defaultdict[str, set[str]] = defaultdict(set)
    below: defaultdict[str, set[str]] = defaultdict(set)
    emptied: defaultdict[str, set[str]] = defaultdict(set)
    for work in works:
        renames = any(file.old_path for file in work.files)
        for file in work.files:
            for name in file.names:
                naming[name].add(work.session)
            if file.arrives:
                arriving[file.path].add(work.session)
                for directory in _above(file.path):
                    below[directory].add(work.session)
            if file.leaves and renames:
                for directory in _left(file):
                    emptied[directory].add(work.session)
    found: set[tuple[str, str]] = set()
    for sessions in naming.values():
        found.update(combinations(sorted(sessions), 2))
    for others, place in ((arriving, below), (emptied, below)):
        for name in others.keys() & place.keys():
            found.update((min(a, b), max(a, b)) for a in others[name] for b in place[name] if a != b)
    return sorted(found)


def places(a: Work, b: Work, collisions: Iterable[Collision]) -> tuple[Place, ...]:
    """Where in the two works the collisions lie that a merge of them found.

    A collision that has nothing to do with what both changed is left out: it is between one of them and the commits
    that lie between their bases.
    """
    found: dict[tuple[object, ...], Place] = {}
    named = _by_name(a), _by_name(b)
    all_of_it = tuple(collisions)
    # A file that follows a renamed directory collides under a name that only another collision connects with it.
    linked: defaultdict[str, set[str]] = defaultdict(set)
    for collision in all_of_it:
        for path in collision.paths:
            linked[path].update(collision.paths)
    for collision in all_of_it:
        mine, theirs = _concerned(*named, (name for path in collision.paths for name in linked[path]))
        if a.base != b.base and not (mine and theirs):
            continue
        for place in _of_collision(a.base == b.base, mine, theirs, collision):
            found.setdefault((place.path, place.kind, place.lines), place)
    return tuple(sorted(found.values(), key=lambda place: (place.path, place.lines or ((0, 0), (0, 0)), place.kind)))


def meeting(a: Work, b: Work) -> tuple[Place, ...]:
    """Where two works touch the same rows or change the same file whole, whether or not git could merge that."""
    found: list[Place] = []
    named = _by_name(b)
    for mine in a.files:
        for theirs in {file.path: file for name in mine.names for file in named.get(name, ())}.values():
            if mine.hunks == theirs.hunks:
                continue
            if a.base == b.base and mine.only_lines and theirs.only_lines:
                found += _rows(theirs.path, mine, theirs)
            else:
                found.append(Place(theirs.path, "contents", None, (mine.hunks, theirs.hunks)))
    return tuple(sorted(found, key=lambda place: (place.path, place.lines or ((0, 0), (0, 0)))))


def merge_order(works: Sequence[Work], pairs: Iterable[Pair]) -> list[str]:
    """The sessions in the order in which merging them leaves the fewest of them to be reworked.

    Whichever of two colliding sessions comes later has to be brought up to date with the earlier. So first come those
    that merge cleanly after all before them, beginning with those that spoil the fewest others; of equals what is
    settled before what is doubtful, and large before small, because a small change is the easier to do again. A
    session never comes before one that its task builds on.
    """
    left = {work.session: work for work in works}
    colliding: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        colliding[pair.a].add(pair.b)
        colliding[pair.b].add(pair.a)
    order: list[str] = []
    while left:
        free = [work for work in left.values() if not any(other in left for other in work.after)]
        # Tasks that wait for each other in a circle are taken as if they did not.
        chosen = min(free or left.values(), key=lambda work: _cost(work, colliding[work.session], left))
        order.append(chosen.session)
        del left[chosen.session]
    return order


def _cost(work: Work, colliding: set[str], left: Mapping[str, Work]) -> tuple[int, int, int, int, str]:
    spoiled = sum(other in left for other in colliding)
    return len(colliding) - spoiled, spoiled, RISK.get(work.state, _RUNNING), -work.size, work.session


def _above(path: str) -> Iterator[str]:
    """The directories that the path lies in, up to the top of the tree, which is an empty name."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _left(file: Touched) -> Iterator[str]:
    """The directories that git may find renamed because this file left them."""
    directories = list(_above(file.old_path or file.path))
    # The top itself moves only with a file that lay in it, or as a whole into a directory: `d/x` to `new/d/x`.
    whole = file.path.rpartition("/")[0].endswith(f"/{directories[0]}")
    yield from (one for one in directories if one or len(directories) == 1 or whole)


def _by_name(work: Work) -> Mapping[str, Sequence[Touched]]:
    """The work's files by both of their names."""
    found: defaultdict[str, list[Touched]] = defaultdict(list)
    for file in work.files:
        for name in file.names:
            found[name].append(file)
    return found


def _concerned(
    mine: Mapping[str, Sequence[Touched]], theirs: Mapping[str, Sequence[Touched]], paths: Iterable[str]
) -> tuple[list[Touched], list[Touched]]:
    """The files of both that a collision at these paths is about: a rename on one side has two names."""
    names = set(paths)
    for _ in range(2):
        for name in tuple(names):
            for file in (*mine.get(name, ()), *theirs.get(name, ())):
                names |= file.names
    one, other = ({file.path: file for name in names for file in side.get(name, ())} for side in (mine, theirs))
    return [one[path] for path in sorted(one)], [other[path] for path in sorted(other)]


def _of_collision(
    same_base: bool, mine: Sequence[Touched], theirs: Sequence[Touched], collision: Collision
) -> list[Place]:
    path = collision.paths[0]
    kind = collision.kind
    if kind == "contents":
        if any(m.arrives and t.arrives and m.path == t.path == path for m in mine for t in theirs):
            kind = "add/add"
        elif same_base:
            rows = [place for m in mine for t in theirs if m.names & t.names for place in _rows(path, m, t)]
            if rows:
                return rows
    hunks = (tuple(h for file in mine for h in file.hunks), tuple(h for file in theirs for h in file.hunks))
    return [Place(path, kind, None, hunks)]


def _rows(path: str, mine: Touched, theirs: Touched) -> list[Place]:
    """The hunks that overlap or touch, which is when git's merge takes them for a collision, unless they are equal."""
    found: list[Place] = []
    first = 0
    for one in mine.spans:
        while first < len(theirs.spans) and theirs.spans[first].end < one.start:
            first += 1
        for other in theirs.spans[first:]:
            if other.start > one.end:
                break
            if one.hunk != other.hunk:
                lines = ((one.start, one.end), (other.start, other.end))
                found.append(Place(path, "contents", lines, ((one.hunk,), (other.hunk,))))
    return found
