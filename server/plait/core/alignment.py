"""Where line hunks lie in a text that may hold any mixture of base, agent and the user's own edits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from plait.core.changes import Hunk
from plait.core.diff import Edit, edits, slide
from plait.core.lines import BOM, eol_of, split, with_eol, without_bom

State = Literal["pending", "applied", "conflicting"]


@dataclass(frozen=True)
class Placed:
    """A hunk and its place in the user's text.

    Rows [start, end) of the file at `path`: what accepting would replace (pending), the agent's rows
    (applied), or the user's rows in dispute (conflicting), which are also in `theirs`. `added` and
    `removed` are the hunk's two texts with the user's line ends. `edited` says of a conflicting hunk that
    it had been applied and was changed since, so that nothing waits for the user there.
    """

    hunk: Hunk
    state: State
    path: str
    start: int = 0
    end: int = 0
    reason: str = ""
    theirs: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()
    added: tuple[bytes, ...] = ()
    edited: bool = False


def place_rows(
    path: str, base: bytes, agent: bytes, hunks: Sequence[Hunk], user: bytes, accepted: frozenset[str]
) -> list[Placed]:
    """Every line hunk placed in the rows of the user's text, in the order of `hunks`."""
    rows = split(user)
    ledger = frozenset(index for index, hunk in enumerate(hunks) if hunk.id in accepted)
    matches = [_closest(*reading, ledger, rows) for reading in _readings(base, agent, hunks, user)]
    placed = dict(_settled(min(matches, key=lambda match: match.cost), ledger, rows, path))
    return [placed[index] for index in range(len(hunks))]


@dataclass(frozen=True)
class _Piece:
    """A line hunk in the user's line ends, on the base's rows."""

    hunk: Hunk
    start: int
    removed: list[bytes]
    added: list[bytes]

    def side(self, applied: bool) -> list[bytes]:
        return self.added if applied else self.removed


def _readings(
    base: bytes, agent: bytes, hunks: Sequence[Hunk], user: bytes
) -> Iterator[tuple[list[bytes], list[_Piece]]]:
    """The base and the hunks with the line ends of the user's text, and first without a byte order mark if it has none.

    git may have converted the checkout's line ends (`core.autocrlf`); only a text that is of one style throughout is
    converted, a mixture means something and is left alone. An editor's buffer hides the mark, but a text may lack it
    for other reasons too: the nearer reading counts.
    """
    rows = split(base)
    pieces = [_Piece(hunk, hunk.start, list(hunk.removed), list(hunk.added)) for hunk in hunks]
    here, there = eol_of(user), eol_of(base)
    if {here, there} == {"lf", "crlf"} and eol_of(agent) in (there, "none"):
        rows = with_eol(rows, here)
        pieces = [replace(p, removed=with_eol(p.removed, here), added=with_eol(p.added, here)) for p in pieces]
    if base.startswith(BOM) and base != BOM and not user.startswith(BOM):
        first = pieces[0]
        if first.start == 0:
            first = replace(first, removed=without_bom(first.removed), added=without_bom(first.added))
        yield without_bom(rows), [first, *pieces[1:]]
    yield rows, pieces


@dataclass(frozen=True)
class _Match:
    """A mixture of base and agent, and what the user made of it.

    `text` is the base with the pieces `applied`, which begin at `starts` in it; `script` turns it into the user's text.
    """

    pieces: list[_Piece]
    applied: frozenset[int]
    text: list[bytes]
    starts: list[int]
    script: list[Edit]
    cost: int

    @property
    def ends(self) -> list[int]:
        sizes = [len(piece.side(index in self.applied)) for index, piece in enumerate(self.pieces)]
        return [start + size for start, size in zip(self.starts, sizes, strict=True)]


def _settled(match: _Match, ledger: frozenset[int], user: list[bytes], path: str) -> Iterator[tuple[int, Placed]]:
    """Places every piece."""
    starts, ends = match.starts, match.ends
    for cluster in _clusters(match.text, starts, ends, match.script, user):
        if cluster.edits:
            yield from _disputed(cluster, match, ends, ledger, user, path)
        else:
            (index,) = cluster.pieces
            shift = cluster.u1 - cluster.v1
            span = (starts[index] + shift, ends[index] + shift)
            yield index, _untouched(match.pieces[index], index in match.applied, span, user, path)


def _closest(base: list[bytes], pieces: list[_Piece], ledger: frozenset[int], user: list[bytes]) -> _Match:
    """The mixture of base and agent that the user's text is compared with: the ledger's, unless that is wrong.

    A ledger that knows nothing gives way to what is nearer, as when the hunks were accepted from another editor. One
    that knows something is believed unless the text is exactly another mixture, as when another branch is checked out:
    among equal lines a nearer mixture may be chance, and an accepted hunk would be offered again.
    """
    best = _match(base, pieces, ledger, user)
    for other in (frozenset[int](), frozenset(range(len(pieces)))):
        # By the triangle inequality a mixture that far from the best one cannot be nearer than it.
        distance = sum(len(pieces[i].removed) + len(pieces[i].added) for i in other ^ best.applied)
        if distance < 2 * best.cost:
            match = _match(base, pieces, other, user)
            if match.cost < best.cost and (not ledger or not match.cost):
                best = match
    return best


def _match(base: list[bytes], pieces: list[_Piece], applied: frozenset[int], user: list[bytes]) -> _Match:
    text, starts = _mixture(base, pieces, applied)
    script = edits(text, user)
    return _Match(pieces, applied, text, starts, script, sum(edit.cost for edit in script))


def _mixture(base: Sequence[bytes], pieces: Sequence[_Piece], applied: frozenset[int]) -> tuple[list[bytes], list[int]]:
    """The base with some pieces applied, and the row at which each piece begins in it."""
    text: list[bytes] = []
    starts: list[int] = []
    done = 0
    for index, piece in enumerate(pieces):
        text += base[done : piece.start]
        starts.append(len(text))
        text += piece.side(index in applied)
        done = piece.start + len(piece.removed)
    text += base[done:]
    return text, starts


@dataclass(frozen=True)
class _Cluster:
    """Edits of the user and the pieces near them: rows [v1, v2) of the mixture, [u1, u2) of the user's text."""

    v1: int
    v2: int
    u1: int
    u2: int
    pieces: tuple[int, ...]
    edits: tuple[Edit, ...]


def _clusters(
    text: list[bytes], starts: list[int], ends: list[int], script: list[Edit], user: list[bytes]
) -> Iterator[_Cluster]:
    """Groups what touches; outside of the clusters that have edits, mixture and user's text are equal."""
    spans: list[tuple[int, int, int]] = [(*_reach(text, script, at, user), at) for at in range(len(script))]
    spans += [(start, end, len(script) + i) for i, (start, end) in enumerate(zip(starts, ends, strict=True))]
    spans.sort()
    shift = 0
    at = 0
    while at < len(spans):
        v1, v2, _ = spans[at]
        members = [spans[at][2]]
        at += 1
        while at < len(spans) and spans[at][0] <= v2:
            v2 = max(v2, spans[at][1])
            members.append(spans[at][2])
            at += 1
        touching = tuple(script[m] for m in sorted(members) if m < len(script))
        pieces = tuple(m - len(script) for m in sorted(members) if m >= len(script))
        u1 = v1 + shift
        shift += sum((edit.b2 - edit.b1) - (edit.a2 - edit.a1) for edit in touching)
        if pieces:
            yield _Cluster(v1, v2, u1, v2 + shift, pieces, touching)


def _reach(text: list[bytes], script: list[Edit], at: int, user: list[bytes]) -> tuple[int, int]:
    """The rows of the mixture where the edit may as well have happened, because equal lines surround it."""
    edit = script[at]
    if edit.a1 != edit.a2 and edit.b1 != edit.b2:
        return edit.a1, edit.a2
    lines, first, last = (text, edit.a1, edit.a2) if edit.b1 == edit.b2 else (user, edit.b1, edit.b2)
    above = script[at - 1].a2 if at else 0
    below = script[at + 1].a1 if at + 1 < len(script) else len(text)
    up = slide(lines, first, last, above - edit.a1)
    down = slide(lines, first, last, below - edit.a2)
    return edit.a1 - up, edit.a2 + down


_MAX_SUBSETS_OF: Final = 4
_MAX_WORK: Final = 100_000


def _disputed(
    cluster: _Cluster, match: _Match, ends: list[int], ledger: frozenset[int], user: list[bytes], path: str
) -> Iterator[tuple[int, Placed]]:
    """Places the pieces near which the user edited: by the mixture of them that explains the user's rows best."""
    members = [match.pieces[index] for index in cluster.pieces]
    fixed: list[list[bytes]] = []
    done = cluster.v1
    for index in cluster.pieces:
        fixed.append(match.text[done : match.starts[index]])
        done = ends[index]
    fixed.append(match.text[done : cluster.v2])
    here = user[cluster.u1 : cluster.u2]
    before = tuple(index in match.applied for index in cluster.pieces)
    chosen = _exact(fixed, members, before, here)
    if chosen is None:
        chosen = _nearest(fixed, members, before, here)
    rows, local = _assembled(fixed, members, chosen)
    script = edits(rows, here)
    # An edit that may as well have happened on the hunk's rows did happen there: nothing is guessed.
    reaches = [_reach(rows, script, at, here) for at in range(len(script))]
    for index, piece, start, on in zip(cluster.pieces, members, local, chosen, strict=True):
        end = start + len(piece.side(on))
        touching = [edit for edit, reach in zip(script, reaches, strict=True) if _touches(reach, start, end)]
        if not touching:
            shift = sum(e.b2 - e.b1 - e.a2 + e.a1 for e in script if e.a2 <= start) + cluster.u1
            yield index, _untouched(piece, on, (start + shift, end + shift), user, path)
            continue
        first, last = (cluster.u1 + row for row in _rows_in_dispute(script, touching, start, end))
        if on and index in ledger and _still_gone(piece, touching, here):
            at = first if touching[0].a1 >= start else last
            yield index, _untouched(piece, on, (at, at), user, path)
        else:
            yield index, _conflict(piece, (first, last), user, path, edited=on)


def _touches(reach: tuple[int, int], start: int, end: int) -> bool:
    """Whether an edit changes the rows, or, if there are none, one of the two neighbours or what is between them."""
    if start == end:
        return reach[0] <= start <= reach[1]
    return reach[0] < end and reach[1] > start


def _still_gone(piece: _Piece, touching: list[Edit], here: list[bytes]) -> bool:
    """Whether lines that were removed by accepting are gone all the same, though the user edited around their place."""
    return not piece.added and not any(row in piece.removed for edit in touching for row in here[edit.b1 : edit.b2])


def _rows_in_dispute(script: list[Edit], touching: list[Edit], start: int, end: int) -> tuple[int, int]:
    shift = sum(e.b2 - e.b1 - e.a2 + e.a1 for e in script if e.a2 < touching[0].a1)
    first = touching[0].b1 if touching[0].a1 <= start else start + shift
    shift = sum(e.b2 - e.b1 - e.a2 + e.a1 for e in script if e.a1 <= touching[-1].a1)
    last = touching[-1].b2 if touching[-1].a2 >= end else end + shift
    return first, last


def _exact(
    fixed: list[list[bytes]], members: list[_Piece], before: tuple[bool, ...], here: list[bytes]
) -> tuple[bool, ...] | None:
    """The choice of sides that gives exactly the user's rows, with the fewest flips; None if there is none."""
    ways: dict[int, tuple[int, tuple[bool, ...]]] = {0: (0, ())}
    for rows, piece, was in zip(fixed, members, before, strict=False):
        after: dict[int, tuple[int, tuple[bool, ...]]] = {}
        for at, (flips, choice) in ways.items():
            if here[at : at + len(rows)] != rows:
                continue
            for side in (was, not was):
                lines = piece.side(side)
                first = at + len(rows)
                last = first + len(lines)
                if here[first:last] != lines:
                    continue
                way = (flips + (side != was), (*choice, side))
                if last not in after or way[0] < after[last][0]:
                    after[last] = way
        ways = after
        if len(ways) * len(members) > _MAX_WORK:
            return None
    last_rows = fixed[-1]
    way_to_end = ways.get(len(here) - len(last_rows))
    if way_to_end is None or here[len(here) - len(last_rows) :] != last_rows:
        return None
    return way_to_end[1]


def _nearest(
    fixed: list[list[bytes]], members: list[_Piece], before: tuple[bool, ...], here: list[bytes]
) -> tuple[bool, ...]:
    """The choice of sides that is nearest to the user's rows; the one before unless another is strictly nearer."""
    count = len(members)
    candidates = [before, (False,) * count, (True,) * count]
    if count <= _MAX_SUBSETS_OF:
        candidates += [tuple(bool(bits >> i & 1) for i in range(count)) for bits in range(1 << count)]
    else:
        candidates += [(*before[:i], not before[i], *before[i + 1 :]) for i in range(count)]
    best, best_cost = before, -1
    work = 0
    for candidate in dict.fromkeys(candidates):
        rows, _ = _assembled(fixed, members, candidate)
        work += len(rows) + len(here)
        if work > _MAX_WORK and best_cost >= 0:
            break
        cost = sum(edit.cost for edit in edits(rows, here))
        if best_cost < 0 or cost < best_cost:
            best, best_cost = candidate, cost
    return best


def _assembled(
    fixed: list[list[bytes]], members: list[_Piece], sides: tuple[bool, ...]
) -> tuple[list[bytes], list[int]]:
    rows: list[bytes] = []
    starts: list[int] = []
    for plain, piece, side in zip(fixed, members, sides, strict=False):
        rows += plain
        starts.append(len(rows))
        rows += piece.side(side)
    return rows + fixed[-1], starts


def _untouched(piece: _Piece, applied: bool, span: tuple[int, int], user: list[bytes], path: str) -> Placed:
    start, end = span
    other = piece.side(not applied)
    # A text that ends without a line end can only be put where the user's text ends.
    if other and not other[-1].endswith(b"\n") and end != len(user):
        return replace(
            _conflict(piece, span, user, path, edited=applied),
            reason="The agent's text ends the file without a line end, and yours goes on.",
        )
    # Two sides that differ only in a byte order mark which the user's text does not show are the same there.
    state: State = "applied" if applied or piece.removed == piece.added else "pending"
    removed, added = tuple(piece.removed), tuple(piece.added)
    return Placed(piece.hunk, state, path, start, end, removed=removed, added=added)


def _conflict(piece: _Piece, span: tuple[int, int], user: list[bytes], path: str, edited: bool) -> Placed:
    if edited:
        reason = "The hunk was applied, and its lines were changed since."
    elif piece.removed:
        reason = "You changed the lines that the agent changed."
    else:
        reason = "You changed the lines between which the agent added its own."
    theirs = tuple(user[span[0] : span[1]])
    removed, added = tuple(piece.removed), tuple(piece.added)
    return Placed(piece.hunk, "conflicting", path, *span, reason, theirs, removed, added, edited)
