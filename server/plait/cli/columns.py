"""Knows how rows are set in columns: as wide as they need to be, and no wider than the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from plait.cli import screen

GAP = 2
NARROWEST = 8
"""A column that may be cut keeps at least so many cells."""

Cell = Text | str


def put_columns(header: Sequence[str], rows: Sequence[Sequence[Cell]], flexible: Mapping[str, int]) -> None:
    """The rows below their header, to the terminal or, uncut and without colours, to a pipe."""
    for line in in_columns(header, rows, flexible, screen.width()):
        screen.put_styled(line)


def in_columns(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], flexible: Mapping[str, int], width: int | None
) -> list[Text]:
    """The header and the rows as lines of at most `width` cells.

    A name that ends in `>` is that of a column aligned to the right; a column in which nothing stands is left out.
    If there is not enough room, the `flexible` columns share what the others leave, in the given proportions.
    """
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    kept = [index for index in range(len(header)) if any(row[index].plain for row in cells)]
    names = [header[index].removesuffix(">") for index in kept]
    lines = [[Text(name, "dim") for name in names], *([row[index] for index in kept] for row in cells)]
    widths = [max(line[place].cell_len for line in lines) for place in range(len(kept))]
    if width is not None:
        shares = {place: flexible[name] for place, name in enumerate(names) if name in flexible}
        widths = _fitted(widths, shares, width - GAP * (len(kept) - 1))
    right = [header[index].endswith(">") for index in kept]
    return [_line(line, widths, right, width) for line in lines]


def _fitted(widths: list[int], shares: Mapping[int, int], room: int) -> list[int]:
    """The widths cut to the room: a column that needs less than its share leaves the rest to the others."""
    result = list(widths)
    left = dict(shares)
    free = room - sum(width for place, width in enumerate(widths) if place not in shares)
    while left and sum(widths[place] for place in left) > free:
        total = sum(left.values())
        content = [place for place, share in left.items() if widths[place] <= free * share // total]
        if not content:
            for place, share in left.items():
                result[place] = min(widths[place], max(NARROWEST, free * share // total))
            break
        for place in content:
            free -= widths[place]
            del left[place]
    return result


def _line(cells: Sequence[Text], widths: Sequence[int], right: Sequence[bool], width: int | None) -> Text:
    line = Text()
    for place, cell in enumerate(cells):
        shown = cell.copy()
        shown.truncate(widths[place], overflow="ellipsis")
        blank = " " * (widths[place] - shown.cell_len)
        line.append(" " * GAP if place else "")
        line.append_text(Text(blank).append_text(shown) if right[place] else shown.append(blank))
    line.rstrip()
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    return line
