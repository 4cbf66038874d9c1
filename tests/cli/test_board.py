from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from plait.cli.asked import choices
from plait.cli.board import Figures, board, head
from plait.cli.columns import in_columns
from plait.cli.panel import Panel

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
        "usage": None,
        "activity": "",
        "requests": [],
        "undelivered": 0,
        **more,
    }


def asked(name: str = "r1", **more: object) -> dict[str, Any]:
    options = [("yes", "Yes", "allow_once"), ("ever", "Always", "allow_always"), ("no", "No", "reject_once")]
    return {
        "id": name,
        "kind": "permission",
        "tool": "Bash",
        "title": "Run make",
        "input": "make all",
        "reason": "It must be built.",
        "diffs": [],
        "options": [{"id": one, "label": label, "kind": kind} for one, label, kind in options],
        "run": 1,
        "questions": [],
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


def test_what_an_agent_asks_stands_before_what_it_is_at() -> None:
    asks = view(1, "needs permission", requests=[asked(), asked("r2")], activity="Edits a.txt", live=True)
    works = view(2, "working", activity="Edits b.txt", undelivered=1)
    text = [line.plain.strip() for line in board([asks, works], Figures({"id2": "raw"}), 200.0, 100, 40)[0]]
    assert "? Run make (and 1 more)" in text
    assert "│ Edits b.txt  (1 message to be told)" in text


def test_tokens_and_cost_are_shown_of_each_and_of_all() -> None:
    usage = {"tokens": 12_345, "cost_usd": 0.421}
    sessions = [view(1, "working", usage=usage), view(2, "ready", usage={"tokens": 1_000_000, "cost_usd": None})]
    lines = board(sessions, Figures(), 200.0, 100, 40)[0]
    assert any("12.3k $0.42" in line.plain for line in lines)
    assert any("1.0M " in line.plain for line in lines)
    assert "1.0M tok · $0.42" in head(sessions, "repo", 200.0, 100).plain
    assert not any("12.3k" in line.plain for line in board(sessions, Figures(), 200.0, 60, 40)[0])


def test_twelve_sessions_and_a_question_fit_a_usual_terminal() -> None:
    sessions = [view(number, "working", activity="Edits a.txt") for number in range(9)]
    sessions += [view(number, "needs permission", requests=[asked()], live=True) for number in range(9, 12)]
    panel = Panel()
    panel.update(sessions)
    below = panel.lines(120, 38)
    lines, furthest = board(sessions, Figures(), 200.0, 120, 40 - 3 - len(below), 0, panel.session)
    assert furthest == 0
    assert len([line for line in lines if "Edits a.txt" in line.plain]) == 9
    assert len(lines) + len(below) + 3 <= 40


def test_a_key_answers_only_the_request_that_has_been_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("plait.cli.panel.time.monotonic", lambda: now)
    panel = Panel()
    sessions = [
        view(1, "needs permission", requests=[asked("r1")]),
        view(2, "needs permission", requests=[asked("r2")]),
    ]
    panel.update(sessions)
    assert panel.session == "id2", "what has waited longest"
    assert panel.pressed("a") is None
    now += 1
    reply = panel.pressed("a")
    assert reply is not None
    assert reply.params == {"session": "id2", "request": "r2", "run": 1, "decision": "allow"}
    panel.update(sessions[:1])
    assert panel.session == "id1"
    assert panel.pressed("d") is None, "the key was meant for the other one"
    now += 1
    denied = panel.pressed("d")
    assert denied is not None
    assert denied.params["decision"] == "deny"
    assert panel.pressed("x") is None


def test_without_a_request_there_is_no_panel() -> None:
    panel = Panel()
    panel.update([view(1, "working")])
    assert panel.session is None
    assert panel.lines(100, 40) == []
    assert panel.pressed("a") is None


def test_the_panel_shows_a_part_and_on_request_all() -> None:
    panel = Panel()
    panel.update([view(1, "needs permission", requests=[asked(input="\n".join(f"step {n}" for n in range(9)))])])
    part = panel.lines(80, 40)
    assert len(part) == 9
    assert "[Enter] shows all of it" in part[-2].plain
    assert part[-1].plain == "[a] Yes  [A] Always  [d] No"
    panel.pressed("\n")
    assert any("step 8" in line.plain for line in panel.lines(80, 40))
    panel.pressed("\x1b")
    assert len(panel.lines(80, 40)) == 9
    assert panel.lines(80, 10) == [], "there is no room"


def test_a_single_question_is_answered_by_the_number_of_a_choice() -> None:
    question = {"id": "q", "text": "Which?", "header": "", "choices": ["left", "right"], "several": False, "free": True}
    found = choices(asked(kind="question", questions=[question], options=[]))
    assert [(one.key, one.label, one.answer) for one in found] == [
        ("1", "left", {"answers": {"q": ["left"]}}),
        ("2", "right", {"answers": {"q": ["right"]}}),
    ]
    assert choices(asked(kind="question", questions=[{**question, "several": True}], options=[])) == []


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
