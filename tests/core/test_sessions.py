"""The state machine: what each moment leads to, and that no history can break it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.core import events as e
from plait.core.sessions import TRANSITIONS, Session, State
from plait.core.state import Whole
from tests.support.histories import AGENT_RUN, DONE, EVENTS, PREPARED, READY, created, history, snapshotted


def after(*events: e.Event, spec: e.Created | None = None) -> Session:
    return history(Whole(), "s", spec or created(), *events).sessions["s"]


def test_a_session_goes_from_queued_to_ready() -> None:
    states = [after(*READY[:count]).state for count in range(len(READY) + 1)]
    assert states == ["queued", "starting", "starting", "working", "working", "ready"]


def test_a_failed_agent_fails_only_once_its_work_is_recorded() -> None:
    failed = e.RunEnded(run=1, ok=False, code=3, reason="It exited with status 3.")
    assert after(*READY[:3], failed).state is State.WORKING
    session = after(*READY[:3], failed, snapshotted())
    assert (session.state, session.reason) == (State.FAILED, "It exited with status 3.")


def test_a_stopped_agent_ends_stopped() -> None:
    stopped = e.RunEnded(run=1, ok=False, stopped=True, signal=15, reason="Stopped.")
    assert after(*READY[:3], e.StopAsked(), stopped, snapshotted()).state is State.STOPPED


def test_a_queued_session_stops_at_once() -> None:
    assert after(e.StopAsked()).state is State.STOPPED


def test_a_set_up_that_fails_says_so() -> None:
    session = after(
        *READY[:2],
        e.RunStarted(run=1, kind="setup"),
        e.RunEnded(run=1, ok=False, code=2, reason="a command exited with status 2."),
    )
    assert session.state is State.FAILED
    assert "set-up" in session.reason
    assert "status 2" in session.reason


def test_resuming_starts_a_new_attempt_that_keeps_the_worktree() -> None:
    session = after(*READY, e.Resumed(message="Also add docs"))
    assert session.state is State.STARTING
    assert session.prepared is not None
    assert session.message == "Also add docs"
    assert session.current_runs == ()


def test_trash_and_restore_come_back_to_the_same_state() -> None:
    trashed = after(*READY, e.TrashAsked(), e.Trashed(place="/trash/s"))
    assert (trashed.state, trashed.trash_place) == (State.TRASHED, "/trash/s")
    restored = after(*READY, e.TrashAsked(), e.Trashed(place="/trash/s"), e.Restored())
    assert (restored.state, restored.trash_place) == (State.READY, None)


def test_a_verdict_can_be_taken_back() -> None:
    accepted = e.Decided(hunk="h", path="a", verdict="accepted")
    assert after(*READY, accepted).accepted == {"h"}
    assert after(*READY, accepted, e.Decided(hunk="h", path="a", verdict="cleared")).verdicts == {}
    rejected = e.Decided(hunk="h", path="a", verdict="rejected", why="no")
    assert after(*READY, accepted, rejected).rejected == {"h"}


def test_a_session_that_changed_nothing_says_so() -> None:
    assert after(*READY[:4], snapshotted(files=0)).reason == "The agent finished without changing anything."


def test_every_state_can_be_reached_and_left_or_is_final() -> None:
    reached = set(TRANSITIONS.values()) | {State.QUEUED}
    # Nothing runs checks yet.
    assert set(State) - reached == {State.CHECKING}


@given(st.lists(EVENTS, max_size=30))
def test_no_history_breaks_the_fold(events: list[e.Event]) -> None:
    session = after(*events)
    assert session.seq == len(events)
    assert session.state in State
    if session.state is State.TRASHED:
        assert session.before_trash is not None


@given(st.lists(EVENTS, max_size=15))
def test_a_history_read_back_gives_the_same_session(events: list[e.Event]) -> None:
    records = [e.Record(session="s", seq=n, at=float(n), event=x) for n, x in enumerate([created(), *events])]
    assert [e.load("s", e.dump(record)) for record in records] == records


def test_an_event_of_a_newer_version_is_skipped_and_a_damaged_one_refused() -> None:
    assert e.load("s", b'{"v":9,"seq":1,"at":1.0,"type":"teleported","x":1}') is None
    for line in (b"", b"[]", b"{", b'{"type":"applied"}', b'{"type":"run_ended","seq":1,"at":1.0}', b"\xff"):
        with pytest.raises(ValueError, match=r".*"):
            e.load("s", line)


def test_the_prepared_worktree_is_forgotten_when_it_is_released() -> None:
    session = after(e.Admitted(reason=""), PREPARED, AGENT_RUN, DONE, snapshotted(files=0))
    assert session.holds_nothing
    assert not after(*READY).holds_nothing
    assert after(e.Admitted(reason=""), PREPARED, AGENT_RUN, DONE, snapshotted(files=0), e.Released()).prepared is None
