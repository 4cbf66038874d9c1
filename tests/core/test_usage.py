"""Usage adds up to what was used, whichever way an agent counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plait.core.reports import Used
from plait.core.usage import NOTHING, Spent, Tally, total

REQUESTS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), max_size=20)


def added(*reports: Used, before: Spent = NOTHING) -> Spent:
    tally = Tally(before=before)
    for report in reports:
        tally = tally.add(report)
    return tally.spent


@given(REQUESTS)
def test_requests_add_up(requests: list[tuple[int, int]]) -> None:
    spent = added(*(Used(scope="request", input=one, output=other) for one, other in requests))
    assert (spent.input, spent.output) == (sum(i for i, _ in requests), sum(o for _, o in requests))


@given(REQUESTS, st.sampled_from(["process", "thread"]))
def test_running_totals_come_to_the_same(requests: list[tuple[int, int]], scope: str) -> None:
    reports = []
    input_, output = 0, 0
    for one, other in requests:
        input_, output = input_ + one, output + other
        reports.append(Used.model_validate({"scope": scope, "input": input_, "output": output}))
    assert (added(*reports).input, added(*reports).output) == (input_, output)


def test_a_conversation_that_goes_on_counts_only_what_is_new() -> None:
    before = Spent(input=14_343, output=20)
    spent = added(Used(scope="thread", input=36_815, output=50), before=before)
    assert (spent.input, spent.output) == (22_472, 30)


def test_a_conversation_that_counts_anew_never_counts_backwards() -> None:
    assert added(Used(scope="thread", input=10), before=Spent(input=500)).input == 0


def test_dollars_may_be_counted_in_another_way_than_tokens() -> None:
    spent = added(
        Used(scope="turn", input=10, cost_usd=0.25, cost_scope="process"),
        Used(scope="turn", input=20, cost_usd=0.75, cost_scope="process"),
    )
    assert (spent.input, spent.cost_usd) == (30, 0.75)


def test_no_cost_is_told_as_none_and_not_as_nothing() -> None:
    assert added(Used(scope="request", input=1)).cost_usd is None
    assert total([Spent(input=1), Spent(input=2, cost_usd=0.5)]) == Spent(input=3, cost_usd=0.5)
    assert Spent(input=1, cache_read=2, cache_write=3, output=4, reasoning=2).tokens == 10
