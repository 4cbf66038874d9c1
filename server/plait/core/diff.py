"""Line differences between two texts: small, readable, and never slow.

A shortest edit script where the texts are close; where they are not, unique lines anchor them first (as in patience
diff). Every step has a bound, so that a hostile pair of files costs readability and not time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_MAX_DISTANCE: Final = 80
_RARE: Final = 16
_MAX_SLIDES: Final = 200
_STRIDE: Final = 256
_BUDGET_PER_LINE: Final = 40

_Gap = tuple[int, int, int, int]
"""(a1, a2, b1, b2), as in Edit."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines [a1, a2) of the first text become lines [b1, b2) of the second."""

    a1: int
    a2: int
    b1: int
    b2: int

    @property
    def cost(self) -> int:
        return self.a2 - self.a1 + self.b2 - self.b1


def edits(a: Sequence[bytes], b: Sequence[bytes]) -> list[Edit]:
    """What turns `a` into `b`: ordered edits with at least one common line between any two of them."""
    a, b = list(a), list(b)
    gaps = _joined(sorted(_gaps(a, b)))
    return _settled(a, b, gaps)


def patched(a: Sequence[bytes], b: Sequence[bytes], script: Sequence[Edit]) -> list[bytes]:
    """`a` with the given edits, whose lines come from `b`, applied."""
    result: list[bytes] = []
    done = 0
    for edit in script:
        result += a[done : edit.a1]
        result += b[edit.b1 : edit.b2]
        done = edit.a2
    result += a[done:]
    return result


def _gaps(a: list[bytes], b: list[bytes]) -> Iterator[_Gap]:
    """The places where the texts differ, in no particular order."""
    todo: list[_Gap] = [(0, len(a), 0, len(b))]
    # Every step spends the lines it looks at; when nothing is left, what remains is shown as replaced.
    budget = _BUDGET_PER_LINE * (len(a) + len(b)) + _MAX_DISTANCE**2
    while todo:
        gap = _trimmed(a, b, todo.pop())
        a1, a2, b1, b2 = gap
        if a1 == a2 and b1 == b2:
            continue
        if a1 == a2 or b1 == b2:
            yield gap
            continue
        size = a2 - a1 + b2 - b1
        budget -= size + _MAX_DISTANCE
        if budget < 0:
            yield gap
            continue
        matches = _shortest(a, b, gap)
        if matches is None:
            matches = _chained(_unique(a, b, gap)) or _chained(_evenly(a, b, gap)) or _rarest(a, b, gap)
        if not matches:
            yield gap
            continue
        for i, j, length in matches:
            if i > a1 or j > b1:
                todo.append((a1, i, b1, j))
            a1, b1 = i + length, j + length
        todo.append((a1, a2, b1, b2))


def _trimmed(a: list[bytes], b: list[bytes], gap: _Gap) -> _Gap:
    """The gap without the lines that are common at its beginning and its end."""
    a1, a2, b1, b2 = gap
    # Slices are compared at C speed; only the stride that holds the difference is walked line by line.
    while a2 - a1 >= _STRIDE <= b2 - b1 and a[a1 : a1 + _STRIDE] == b[b1 : b1 + _STRIDE]:
        a1, b1 = a1 + _STRIDE, b1 + _STRIDE
    while a1 < a2 and b1 < b2 and a[a1] == b[b1]:
        a1, b1 = a1 + 1, b1 + 1
    while a2 - a1 >= _STRIDE <= b2 - b1 and a[a2 - _STRIDE : a2] == b[b2 - _STRIDE : b2]:
        a2, b2 = a2 - _STRIDE, b2 - _STRIDE
    while a1 < a2 and b1 < b2 and a[a2 - 1] == b[b2 - 1]:
        a2, b2 = a2 - 1, b2 - 1
    return a1, a2, b1, b2


def _unique(a: list[bytes], b: list[bytes], gap: _Gap) -> list[tuple[int, int]]:
    """The rows of the lines that occur once on each side, in the first text's order."""
    a1, a2, b1, b2 = gap
    part_a, part_b = a[a1:a2], b[b1:b2]
    count_a, count_b = Counter(part_a), Counter(part_b)
    row_in_b = dict(zip(part_b, range(b1, b2), strict=True))
    return [
        (row, row_in_b[line])
        for row, line in enumerate(part_a, a1)
        if count_a[line] == 1 and line in row_in_b and count_b[line] == 1
    ]


def _evenly(a: list[bytes], b: list[bytes], gap: _Gap) -> list[tuple[int, int]]:
    """The rows of the lines that occur a few times and equally often on each side, each with its counterpart."""
    a1, a2, b1, b2 = gap
    rows_a, rows_b = _rows_of(a, a1, a2), _rows_of(b, b1, b2)
    pairs: list[tuple[int, int]] = []
    for line, rows in rows_a.items():
        others = rows_b.get(line, ())
        if len(rows) == len(others) <= _RARE:
            pairs += zip(rows, others, strict=True)
    return sorted(pairs)


def _chained(pairs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """The most pairs whose rows rise on both sides, as runs (row in a, row in b, length)."""
    rows = [row for _, row in pairs]
    chain = pairs if rows == sorted(rows) else _longest_rising(pairs)
    runs: list[tuple[int, int, int]] = []
    if not chain:
        return runs
    (first, other), length = chain[0], 0
    for i, j in chain:
        if i == first + length and j == other + length:
            length += 1
        else:
            runs.append((first, other, length))
            first, other, length = i, j, 1
    return [*runs, (first, other, length)]


def _longest_rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence whose second rows rise (patience sorting)."""
    tails: list[int] = []
    tail_pairs: list[int] = []
    previous: list[int] = []
    for index, (_, row) in enumerate(pairs):
        at = bisect_left(tails, row)
        previous.append(tail_pairs[at - 1] if at else -1)
        if at == len(tails):
            tails.append(row)
            tail_pairs.append(index)
        else:
            tails[at] = row
            tail_pairs[at] = index
    chain: list[tuple[int, int]] = []
    index = tail_pairs[-1] if tail_pairs else -1
    while index >= 0:
        chain.append(pairs[index])
        index = previous[index]
    return chain[::-1]


def _rows_of(lines: list[bytes], first: int, last: int) -> dict[bytes, list[int]]:
    rows: dict[bytes, list[int]] = {}
    for row in range(first, last):
        rows.setdefault(lines[row], []).append(row)
    return rows


def _shortest(a: list[bytes], b: list[bytes], gap: _Gap) -> list[tuple[int, int, int]] | None:
    """The common runs of a shortest edit script; None if it is longer than the bound.

    The greedy algorithm of Myers, "An O(ND) Difference Algorithm and Its Variations" (1986).
    """
    a1, a2, b1, b2 = gap
    n, m = a2 - a1, b2 - b1
    reach = {1: 0}
    trace: list[dict[int, int]] = []
    for distance in range(min(_MAX_DISTANCE, n + m) + 1):
        trace.append(reach.copy())
        for k in range(-distance, distance + 1, 2):
            down = k == -distance or (k != distance and reach[k - 1] < reach[k + 1])
            x = reach[k + 1] if down else reach[k - 1] + 1
            y = x - k
            if x < n and y < m and a[a1 + x] == b[b1 + y]:
                x, y = x + 1, y + 1
                while x + _STRIDE <= n and y + _STRIDE <= m and _same_stride(a, b, a1 + x, b1 + y):
                    x, y = x + _STRIDE, y + _STRIDE
                while x < n and y < m and a[a1 + x] == b[b1 + y]:
                    x, y = x + 1, y + 1
            reach[k] = x
            if x == n and y == m:
                return _walked_back(trace, n, m, a1, b1)
    return None


def _same_stride(a: list[bytes], b: list[bytes], i: int, j: int) -> bool:
    return a[i + _STRIDE - 1] == b[j + _STRIDE - 1] and a[i : i + _STRIDE] == b[j : j + _STRIDE]


def _walked_back(trace: list[dict[int, int]], n: int, m: int, a1: int, b1: int) -> list[tuple[int, int, int]]:
    runs: list[tuple[int, int, int]] = []
    x, y = n, m
    for distance in range(len(trace) - 1, -1, -1):
        reach, k = trace[distance], x - y
        down = k == -distance or (k != distance and reach[k - 1] < reach[k + 1])
        before_k = k + 1 if down else k - 1
        before_x = reach[before_k]
        start_x = before_x if down else before_x + 1
        if distance == 0:
            start_x = 0
        if x > start_x:
            runs.append((a1 + start_x, b1 + start_x - k, x - start_x))
        x, y = before_x, before_x - before_k
    runs.reverse()
    return runs


def _rarest(a: list[bytes], b: list[bytes], gap: _Gap) -> list[tuple[int, int, int]]:
    """The longest common run around one of the rarest common lines; nothing if no line is rare enough."""
    a1, a2, b1, b2 = gap
    rows_a, rows_b = _rows_of(a, a1, a2), _rows_of(b, b1, b2)
    common = [line for line in rows_a if line in rows_b]
    if not common:
        return []
    line = min(common, key=lambda text: len(rows_a[text]) * len(rows_b[text]))
    if len(rows_a[line]) * len(rows_b[line]) > _RARE * _RARE:
        return []
    best = (0, 0, 0)
    for i in rows_a[line]:
        for j in rows_b[line]:
            first, last = 0, 1
            while i - first > a1 and j - first > b1 and a[i - first - 1] == b[j - first - 1]:
                first += 1
            while i + last < a2 and j + last < b2 and a[i + last] == b[j + last]:
                last += 1
            best = max(best, (first + last, -(i - first), -(j - first)))
    return [(-best[1], -best[2], best[0])]


def _joined(gaps: list[_Gap]) -> list[Edit]:
    """The gaps as edits, those that touch made one."""
    result: list[Edit] = []
    for a1, a2, b1, b2 in gaps:
        if result and result[-1].a2 == a1 and result[-1].b2 == b1:
            result[-1] = Edit(result[-1].a1, a2, result[-1].b1, b2)
        else:
            result.append(Edit(a1, a2, b1, b2))
    return result


def _settled(a: list[bytes], b: list[bytes], script: list[Edit]) -> list[Edit]:
    """The same edits, each pure insertion or deletion moved to where it reads best, as git does.

    Among equal lines it is open which of them are the new ones. Edits that meet on the way become one.
    """
    waiting = script[::-1]
    done: list[Edit] = []
    while waiting:
        edit = waiting.pop()
        if edit.a1 != edit.a2 and edit.b1 != edit.b2:
            done.append(edit)
            continue
        lines, first, last = (a, edit.a1, edit.a2) if edit.b1 == edit.b2 else (b, edit.b1, edit.b2)
        room_up = edit.a1 - done[-1].a2 if done else min(edit.a1, edit.b1)
        up = slide(lines, first, last, -room_up)
        if done and up == room_up:
            met = done.pop()
            waiting.append(Edit(met.a1, edit.a2 - up, met.b1, edit.b2 - up))
            continue
        ahead = waiting[-1] if waiting else None
        room_down = (ahead.a1 if ahead else len(a)) - edit.a2
        down = slide(lines, first, last, room_down)
        if ahead and down == room_down:
            waiting[-1] = Edit(edit.a1 + down, ahead.a2, edit.b1 + down, ahead.b2)
            continue
        shift = _best_shift(lines, first, last, up, down)
        done.append(Edit(edit.a1 + shift, edit.a2 + shift, edit.b1 + shift, edit.b2 + shift))
    return done


def slide(lines: Sequence[bytes], first: int, last: int, room: int) -> int:
    """How many rows the block [first, last) can be moved (up if `room` is negative) with the same text around it."""
    moved = 0
    if room < 0:
        while moved < -room and lines[first - moved - 1] == lines[last - moved - 1]:
            moved += 1
    else:
        while moved < room and lines[first + moved] == lines[last + moved]:
            moved += 1
    return moved


def _best_shift(lines: list[bytes], first: int, last: int, up: int, down: int) -> int:
    """The shift after which the block begins and ends at the least indented lines; the lowest among equals."""
    if up + down == 0 or up + down > _MAX_SLIDES:
        return down
    return min(
        range(-up, down + 1),
        key=lambda shift: (_depth(lines, first + shift) + _depth(lines, last + shift), -shift),
    )


def _depth(lines: list[bytes], row: int) -> float:
    """How bad a place the gap before `row` is to cut the text: the indentation of what follows."""
    if row >= len(lines):
        return 0
    line = lines[row]
    text = line.lstrip()
    if not text:
        following = lines[row + 1] if row + 1 < len(lines) else b""
        return len(following) - len(following.lstrip()) + 0.5
    return len(line) - len(text)
