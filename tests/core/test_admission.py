"""Admission: limits are kept, the oldest goes first, and each one held back is told why."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plait.core import events as e
from plait.core.admission import Machine, decide
from plait.core.config import Limits
from plait.core.state import Whole
from tests.support.histories import READY, created, history

PLENTY = Machine(free_memory=2**40, free_disk=2**42)


def queued(count: int, whole: Whole | None = None) -> Whole:
    whole = whole or Whole()
    for number in range(count):
        whole = history(whole, f"q{number:02}", created(f"Task {number}"))
    return whole


def test_the_oldest_are_admitted_up_to_the_limit_and_the_rest_told_why() -> None:
    decisions = decide(queued(5), Limits(max_running=3), PLENTY, 0.0)
    assert [decision.admit for decision in decisions.values()] == [True, True, True, False, False]
    assert decisions["q03"].reason == "3 sessions run, as many as max_running allows."


def test_a_dependent_session_waits_and_says_for_what() -> None:
    whole = history(Whole(), "a", created("First"))
    task = e.Task(id="t", title="Second", prompt="Second", after=("a",))
    whole = history(whole, "b", created("Second", task=task))
    limits = Limits()
    assert decide(whole, limits, PLENTY, 0.0)["b"].reason == "Waits for “First” to finish."
    failed = history(whole, "a", e.Failed(step="worktree", why="full"))
    assert "which failed" in decide(failed, limits, PLENTY, 0.0)["b"].reason
    assert decide(history(whole, "a", *READY), limits, PLENTY, 0.0)["b"].admit


def test_a_full_review_queue_holds_new_launches() -> None:
    whole = Whole()
    for number in range(3):
        whole = history(whole, f"r{number}", created(), *READY)
    whole = queued(1, whole)
    assert decide(whole, Limits(review_backlog=3), PLENTY, 0.0)["q00"].admit
    held = decide(whole, Limits(review_backlog=2), PLENTY, 0.0)["q00"]
    assert not held.admit
    assert "3 sessions wait for your review" in held.reason


def test_too_little_memory_or_disk_holds_a_launch_for_a_while() -> None:
    limits = Limits(min_free_memory_mb=1000, min_free_disk_gb=5)
    memory = decide(queued(1), limits, Machine(free_memory=500 * 2**20, free_disk=2**42), 10.0)["q00"]
    assert (memory.admit, memory.wake_at) == (False, 15.0)
    assert "500 MB of memory" in memory.reason
    disk = decide(queued(1), limits, Machine(free_memory=2**40, free_disk=2**30), 10.0)["q00"]
    assert "1.0 GB of disk" in disk.reason
    assert decide(queued(1), limits, Machine(), 10.0)["q00"].admit


@given(running=st.integers(0, 6), waiting=st.integers(0, 6), limit=st.integers(1, 5))
def test_the_limit_is_never_exceeded_and_never_starves(running: int, waiting: int, limit: int) -> None:
    whole = Whole()
    for number in range(running):
        whole = history(whole, f"a{number}", created(), *READY[:3])
    whole = queued(waiting, whole)
    admitted = [
        session for session, decision in decide(whole, Limits(max_running=limit), PLENTY, 0.0).items() if decision.admit
    ]
    assert len(admitted) == min(waiting, max(0, limit - running))
    assert admitted == sorted(admitted)
