"""The lines that the entries of a conversation become, from the transcript that the reports of an agent make."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.cli.entries import entry_lines, is_settled, limit_line, moment
from plait.core import reports as r
from plait.core.transcript import Transcript


def entries(*reports: r.Report) -> list[dict[str, Any]]:
    """The entries as the protocol has them."""
    transcript = Transcript()
    for report in reports:
        transcript.add(report)
    return views(transcript)


def views(transcript: Transcript) -> list[dict[str, Any]]:
    made = [
        {"entry": one.number, "kind": one.kind, "text": one.text, "whole": one.whole, **one.fields}
        for one in transcript.entries
    ]
    return list(json.loads(json.dumps(made)))


def shown(*reports: r.Report, width: int | None = None) -> list[str]:
    return [line.plain for entry in entries(*reports) for line in entry_lines(entry, width)]


def test_a_tool_is_a_line_with_its_change_below() -> None:
    reports = (
        r.ToolBegan(id="t", name="Edit", kind="edit", places=(r.Place(path="a.txt"),)),
        r.ToolEnded(id="t", diffs=(r.FileDiff(path="a.txt", old="one\ntwo\n", new="one\n2\n"),)),
    )
    assert shown(*reports) == ["✓ Edits a.txt    +1 -1", "    @@ -1,2 +1,2 @@", "     one", "    -two", "    +2"]
    (line, *rows) = [line for entry in entries(*reports) for line in entry_lines(entry, 80)]
    assert [str(row.style) for row in rows] == ["cyan", "dim", "red", "green"]
    assert "green" in {str(span.style) for span in line.spans}


def test_a_diff_of_the_agents_own_is_shown_from_its_first_hunk() -> None:
    unified = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n"
    reports = (
        r.ToolBegan(id="t", name="apply_patch", title="Apply a patch"),
        r.ToolEnded(id="t", diffs=(r.FileDiff(path="x", unified=unified), r.FileDiff(path="y", new="made\n"))),
    )
    assert shown(*reports) == [
        "✓ Apply a patch",
        "    x  +1 -1",
        "      @@ -1 +1 @@",
        "      -old",
        "      +new",
        "    y  +1 -0",
        "      @@ -0,0 +1 @@",
        "      +made",
    ]


def test_output_is_bounded_and_that_of_reading_left_out() -> None:
    long = "\n".join(f"row {number}" for number in range(100))
    read = (
        r.ToolBegan(id="t", name="Read", kind="read", places=(r.Place(path="a"),)),
        r.ToolEnded(id="t", output=long),
    )
    assert shown(*read) == ["✓ Reads a"]
    run = (
        r.ToolBegan(id="t", name="Bash", kind="execute", title="Test it", input="pytest -q"),
        r.ToolEnded(id="t", status="failed", exit=2, output=long),
    )
    lines = shown(*run)
    assert lines[:3] == ["✗ Test it (exit status 2)", "    pytest -q", "    row 0"]
    assert "    … 88 lines more" in lines
    assert lines[-1] == "    row 99"
    assert len(lines) == 2 + 12 + 1


def test_a_request_is_shown_with_its_options_decided() -> None:
    option = r.Option(id="y", label="Yes", kind="allow_once")
    asked = r.Asked(id="a", tool="Bash", title="Run make", input="make all", reason="To build.", options=(option,))
    transcript = Transcript()
    transcript.add(asked)
    (before,) = views(transcript)
    assert [line.plain for line in entry_lines(before, None)] == [
        "? Run make",
        "  To build.",
        "  with Bash",
        "  make all",
    ]
    transcript.answered("a", "Yes")
    transcript.add(r.Withdrawn(id="a"))
    (after,) = views(transcript)
    assert [line.plain for line in entry_lines(after, None, before)] == ["  → Yes"]
    assert entry_lines(after, None, after) == []


def test_of_a_plan_only_what_is_new_is_shown_again() -> None:
    first, second = r.PlanEntry(text="Read"), r.PlanEntry(text="Write")
    transcript = Transcript()
    transcript.add(r.Planned(entries=(first, second)))
    (before,) = views(transcript)
    assert [line.plain for line in entry_lines(before, None)] == ["☐ Read", "☐ Write"]
    transcript.add(r.Planned(entries=(first.model_copy(update={"status": "completed"}), second)))
    (after,) = views(transcript)
    assert [line.plain for line in entry_lines(after, None, before)] == ["☑ Read"]


def test_limits_retries_troubles_and_what_was_not_understood_are_lines_of_their_own() -> None:
    at = time.time() + 60
    window = r.Window(name="five hours", used=0.914, resets_at=at)
    lines = shown(
        r.Limit(account="anthropic", status="warning", windows=(window,)),
        r.Retry(account="anthropic", kind="rate_limit", attempt=1, most=10, delay_s=20.0, text="429"),
        r.Trouble(account="openai", kind="auth", text="Not logged in.", fatal=True),
        r.Unread(text='{"new": 1}', why="Unknown type."),
        r.Remark(text="It will be told when this turn is over."),
    )
    assert lines == [
        f"! anthropic: near a limit (five hours 91% used, resets {moment(at)})",
        "↻ anthropic: too many requests; tries again in 20 s (attempt 1 of 10). 429",
        "! Not logged in. (openai)",
        "? Not understood: Unknown type.",
        '    {"new": 1}',
        "· It will be told when this turn is over.",
    ]


def test_a_turn_ends_with_what_it_used() -> None:
    used = r.Used(scope="turn", input=1200, cache_read=10_000, output=950, cost_usd=0.0421)
    assert shown(used, r.TurnEnded(stop="end_turn", text="Done.")) == ["── Turn ended · 12.2k tok · $0.04"]
    assert shown(r.TurnEnded(stop="error", text="Overloaded.")) == ["── Turn ended by an error: Overloaded."]


def test_words_are_wrapped_on_a_terminal_only() -> None:
    text = "word " * 30
    assert len(shown(r.Message(text=text))) == 1
    lines = shown(r.Message(text=text), width=40)
    assert len(lines) == 4
    assert all(len(line) <= 40 for line in lines)


@pytest.mark.parametrize(
    ("report", "settled"),
    [
        (r.Message(text="so", partial=True), False),
        (r.Message(text="so"), True),
        (r.ToolBegan(id="t", name="Bash"), False),
        (r.Asked(id="a", title="Really?"), True),
    ],
)
def test_what_still_changes_is_not_settled(report: r.Report, settled: bool) -> None:
    (entry,) = entries(report)
    assert is_settled(entry) is settled


texts = st.text(max_size=80) | st.sampled_from(["\x1b[2J\x1b]0;x\x07", "日本語" * 30, "a\nb\rc\td", "x" * 300])


@given(texts, texts, st.integers(10, 100))
def test_no_text_of_an_agent_controls_the_terminal_or_leaves_the_line(one: str, two: str, width: int) -> None:
    diff = r.FileDiff(path=one or "p", old=two, new=one)
    option = r.Option(id="o", label=two, kind="allow_once")
    question = r.Question(id="q", text=two, header=one, choices=(one, two), several=True)
    made = entries(
        r.Began(agent_session=one, model=two),
        r.Message(text=one),
        r.Thought(text=two),
        r.ToolBegan(id="t", name=one, kind="execute", title=two, input=one),
        r.ToolEnded(id="t", output=two, diffs=(diff,)),
        r.Planned(entries=(r.PlanEntry(text=one),)),
        r.Asked(id="a", title=one, input=two, reason=one, diffs=(diff,), options=(option,), questions=(question,)),
        r.Limit(account=one, status="rejected", windows=(r.Window(name=two),)),
        r.Retry(account=one, kind="network", text=two),
        r.Trouble(account=one, kind="agent", text=two),
        r.Remark(text=one),
        r.Unread(text=one, why=two),
        r.TurnEnded(stop="refusal", text=two),
    )
    for entry in made:
        for line in entry_lines(entry, width):
            assert line.cell_len <= width
            assert not any(ord(character) < 0x20 or character == "\x7f" for character in line.plain)


def test_a_limit_without_windows_is_a_sentence() -> None:
    assert limit_line("google", {"status": "rejected", "windows": []}) == "google: limit reached"
