from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from plait.cli.board import Figures, board, head
from plait.cli.columns import in_columns

STATES = ("queued", "starting", "working", "needs input", "needs permission", "checking", "ready", "applied")


def view(number: int, state: str, title: str = "A task", **more: object) -> dict[str, Any]:
    return {
        "id": f"id{number}",
        "short": f"s{number:03}",
        "state": state,
        "title": title,
        "agent": "sh",
        "reason": "",
        "live": state == "working",
        "files": 1,
        "added": 2,
        "removed": 3,
        "changed": 100.0 - number,
        **more,
    }


titles = st.text(max_size=60) | st.sampled_from(["日本語のタイトル", "👩‍💻 emoji", "x" * 300, "\x1b[2J"])


@given(st.lists(st.tuples(st.sampled_from(STATES), titles), max_size=30), st.integers(1, 160), st.integers(1, 50))
def test_no_line_is_wider_and_no_board_higher_than_its_room(
    rows: list[tuple[str, str]], width: int, height: int
) -> None:
    sessions = [view(number, state, title) for number, (state, title) in enumerate(rows)]
    lines, furthest = board(sessions, Figures(), 200.0, width, height)
    assert len(lines) <= height
    assert furthest >= 0
    if sessions:
        assert all(line.cell_len <= width for line in [*lines, head(sessions, "repo", 200.0, width)])


def test_who_needs_the_user_stands_first_and_who_waited_longest_before_the_others() -> None:
    sessions = [view(1, "queued"), view(2, "ready"), view(3, "needs permission"), view(4, "ready"), view(5, "applied")]
    text = [line.plain for line in board(sessions, Figures(), 200.0, 100, 40)[0]]
    shown = [line.split()[0] for line in text if line.startswith("s0")]
    assert shown == ["s003", "s004", "s002", "s001", "s005"]


def test_what_changed_nothing_waits_for_nobody() -> None:
    lines, _ = board([view(1, "ready", files=0)], Figures(), 200.0, 100, 40)
    assert lines[0].plain == "Done (1)"


def test_details_go_before_rows_do_and_the_rest_can_be_scrolled_to() -> None:
    sessions = [view(number, "needs input", reason="Which one?") for number in range(10)]
    assert any("Which one?" in line.plain for line in board(sessions, Figures(), 200.0, 80, 30)[0])
    tight, furthest = board(sessions, Figures(), 200.0, 80, 12)
    assert (len(tight), furthest) == (11, 0)
    cut, furthest = board(sessions, Figures(), 200.0, 80, 6)
    assert cut[-1].plain == "… 6 more below"
    end, _ = board(sessions, Figures(), 200.0, 80, 6, scroll=furthest)
    assert end[-2].plain.startswith("s000")


def test_what_runs_is_shown_with_its_figures_and_last_words() -> None:
    figures = Figures({"id1": "compiling"}, {"id1": 3 << 20}, {"id1": 1.5})
    lines, _ = board([view(1, "working")], figures, 200.0, 120, 40)
    assert "150%  3.0 MiB" in lines[1].plain
    assert lines[2].plain.strip() == "│ compiling"


@pytest.mark.parametrize("width", [None, 200, 40, 20])
def test_columns_are_cut_to_the_terminal_and_never_for_a_pipe(width: int | None) -> None:
    rows = [("id1", "t" * 100, "", "9"), ("id2", "short", "", "10")]
    lines = in_columns(("id", "title", "empty", "n>"), rows, {"title": 1}, width)
    assert lines[0].plain.split() == ["id", "title", "n"]
    assert lines[2].plain.startswith("id2  short")
    if width is None:
        assert "t" * 100 in lines[1].plain
    else:
        assert all(line.cell_len <= width for line in lines)


def test_a_column_that_needs_little_leaves_its_room_to_the_others() -> None:
    (_, line) = in_columns(("a", "b"), [("x" * 60, Text("yy"))], {"a": 1, "b": 1}, 50)
    assert line.plain == "x" * 45 + "…  yy"
