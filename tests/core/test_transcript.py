"""A reader who asks for what changed sees in the end what one sees who reads everything at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plait.core import reports as r
from plait.core.transcript import LONGEST_SHOWN, MOST_ENTRIES, Transcript

NAMES = st.sampled_from(["1", "2"])
REPORTS: st.SearchStrategy[r.Report] = st.one_of(
    st.builds(r.Message, text=st.text(max_size=5), partial=st.booleans()),
    st.builds(r.Thought, text=st.text(max_size=5), partial=st.booleans()),
    st.builds(r.ToolBegan, id=NAMES, name=st.just("Edit"), kind=st.just("edit")),
    st.builds(r.ToolUpdated, id=NAMES, title=st.text(max_size=5), output=st.text(max_size=5)),
    st.builds(r.ToolEnded, id=NAMES, status=st.sampled_from(["completed", "failed", "denied"])),
    st.builds(r.Planned, entries=st.just((r.PlanEntry(text="one"),))),
    st.builds(r.Asked, id=NAMES, title=st.just("May I?")),
    st.builds(r.Withdrawn, id=NAMES),
    st.builds(r.Used, scope=st.just("request"), input=st.integers(0, 9)),
    st.builds(r.TurnEnded, stop=st.just("end_turn")),
    st.builds(r.Unread, text=st.text(max_size=5), why=st.just("It is not JSON.")),
)


def shown(transcript: Transcript) -> list[tuple[object, ...]]:
    return [(entry.number, entry.kind, entry.text, entry.fields) for entry in transcript.entries]


@given(st.lists(REPORTS, max_size=30), st.integers(1, 5))
def test_changes_add_up_to_the_whole(reports: list[r.Report], often: int) -> None:
    transcript = Transcript()
    seen: dict[int, tuple[object, ...]] = {}
    known = 0
    for number, report in enumerate(reports):
        transcript.add(report)
        if number % often == 0:
            seen |= {
                entry.number: (entry.number, entry.kind, entry.text, dict(entry.fields))
                for entry in transcript.since(known)
            }
            known = transcript.changes
    seen |= {
        entry.number: (entry.number, entry.kind, entry.text, dict(entry.fields)) for entry in transcript.since(known)
    }
    assert list(seen.values()) == shown(transcript)


def test_pieces_of_a_message_become_one_entry() -> None:
    transcript = Transcript()
    for piece in ("Hel", "lo"):
        transcript.add(r.Message(text=piece, partial=True))
    assert not transcript.entries[0].whole
    transcript.add(r.Message(text="Hello"))
    transcript.add(r.Message(text="Next"))
    assert [(entry.text, entry.whole) for entry in transcript.entries] == [("Hello", True), ("Next", True)]


def test_a_tool_is_one_entry_from_its_beginning_to_its_end() -> None:
    transcript = Transcript()
    transcript.add(r.ToolBegan(id="1", name="Edit", kind="edit", places=(r.Place(path="a.py", line=3),)))
    transcript.add(r.ToolEnded(id="1", diffs=(r.FileDiff(path="a.py", old="a", new="b"),), output="ok"))
    (entry,) = transcript.entries
    assert (entry.text, entry.fields["status"], entry.fields["output"]) == ("Edits a.py", "completed", "ok")
    assert entry.fields["diffs"][0]["new"] == "b"


def test_the_answer_stands_with_the_request_and_a_withdrawal_only_where_there_is_none() -> None:
    transcript = Transcript()
    for name in ("1", "2"):
        transcript.add(r.Asked(id=name, title="May I?"))
    transcript.answered("1", "Yes")
    for name in ("1", "2", "3"):
        transcript.add(r.Withdrawn(id=name))
    answered, withdrawn = transcript.entries
    assert answered.fields["answer"] == "Yes"
    assert "withdrawn" not in answered.fields
    assert withdrawn.fields["withdrawn"] is True


def test_texts_and_entries_are_bounded() -> None:
    transcript = Transcript()
    transcript.add(r.Message(text="x" * 10 * LONGEST_SHOWN))
    assert len(transcript.entries[0].text) < 1.1 * LONGEST_SHOWN
    for _ in range(MOST_ENTRIES + 1):
        transcript.add(r.Message(text="line"))
    assert len(transcript.entries) <= MOST_ENTRIES
    assert transcript.entries[-1].number == MOST_ENTRIES + 1
