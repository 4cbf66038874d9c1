"""The way from hunk to hunk: each is met, in order, from wherever the user is."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from plait.core.sessions import Session
from plait.lsp.focus import Focus, Stop, stepped

SESSION = cast("Session", None)
"""Nobody looks at the session here."""

lines = st.lists(st.integers(0, 9), min_size=1, max_size=5).map(sorted)
files = st.lists(lines, min_size=1, max_size=4)


def way(found: list[list[int]]) -> list[Stop]:
    return [
        Stop(Path(f"/{file}"), f"file:///{file}", line, SESSION, f"{file}.{number}", "pending")
        for file, own in enumerate(found)
        for number, line in enumerate(own)
    ]


@given(files, st.booleans())
def test_walking_on_meets_every_hunk_once_and_comes_around(found: list[list[int]], forward: bool) -> None:
    stops = way(found)
    begun = index = stepped(stops, None, None, forward=forward)
    assert begun == (0 if forward else len(stops) - 1)
    met = []
    for _ in stops:
        met.append(index)
        one = stops[index]
        index = stepped(stops, Focus(one.uri, one.line, one.hunk), one.path, forward=forward)
    assert met == sorted(met, reverse=not forward)
    assert (len(set(met)), index) == (len(stops), begun)


@given(files, st.integers(0, 4), st.integers(0, 10), st.booleans())
def test_from_a_line_the_next_hunk_is_beyond_it_or_in_another_file(
    found: list[list[int]], file: int, line: int, forward: bool
) -> None:
    stops = way(found)
    one = stops[stepped(stops, Focus(f"file:///{file}", line), Path(f"/{file}"), forward=forward)]
    beyond = [at for at in (found[file] if file < len(found) else []) if (at > line if forward else at < line)]
    if beyond:
        assert (one.path, one.line) == (Path(f"/{file}"), min(beyond) if forward else max(beyond))
    elif file < len(found):
        assert one.path == Path(f"/{(file + (1 if forward else -1)) % len(found)}")
    else:
        assert one is stops[0 if forward else -1]


def test_a_hunk_that_is_gone_leaves_its_line_as_the_place() -> None:
    stops = way([[1, 5]])
    assert stepped(stops, Focus("file:///0", 3, "gone"), Path("/0"), forward=True) == 1
    assert stepped(stops, Focus("file:///0", 3, "gone"), Path("/0"), forward=False) == 0
