"""The plan: what is due at each point of a session's life, and that nothing is done twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plait.core import events as e
from plait.core import plan
from plait.core import reports as r
from plait.core.admission import Decision
from plait.core.state import Whole
from tests.support.histories import AGENT_RUN, DONE, EVENTS, PREPARED, READY, created, history, snapshotted

ADMIT = {"s": Decision(True, "room")}


def due(
    *events: e.Event, spec: e.Created | None = None, decisions: dict[str, Decision] | None = None
) -> list[plan.Action]:
    whole = history(Whole(), "s", spec or created(), *events)
    return list(plan.plan(whole, decisions or {}, frozenset()))


def test_each_step_of_a_life_is_due_in_its_turn() -> None:
    admitted = e.Admitted(reason="")
    assert due() == []
    assert due(decisions=ADMIT) == [plan.Admit("s", "room")]
    assert due(admitted) == [plan.Prepare("s")]
    assert due(admitted, PREPARED) == [plan.Start("s", "agent", 1)]
    assert due(admitted, PREPARED, AGENT_RUN) == [plan.Attend("s", 1)]
    assert due(admitted, PREPARED, AGENT_RUN, DONE) == [plan.Record("s")]
    assert due(*READY) == []


def test_set_up_runs_before_the_agent_and_once() -> None:
    spec = created(setup=e.SetupRef(commands=("npm ci",)))
    start = (e.Admitted(reason=""), PREPARED)
    setup = (e.RunStarted(run=1, kind="setup"), e.RunEnded(run=1, ok=True, reason="Done."))
    assert due(*start, spec=spec) == [plan.Start("s", "setup", 1)]
    assert due(*start, *setup, spec=spec) == [plan.Start("s", "agent", 2)]


def test_a_stop_reaches_the_running_process() -> None:
    assert due(*READY[:3], e.StopAsked()) == [plan.Attend("s", 1), plan.Stop("s", 1)]


def test_comments_are_sent_when_the_agent_rests_and_not_before() -> None:
    said = e.Commented(id="c", path="a", text="Why?")
    assert due(*READY[:3], said, e.SendAsked()) == [plan.Attend("s", 1)]
    assert due(*READY[:4], said, e.SendAsked()) == [plan.Record("s")]
    assert due(*READY, said) == [], "never by itself"
    assert due(*READY, said, e.SendAsked()) == [plan.Send("s")]
    assert due(*READY, said, e.SendAsked(), e.CommentsSent(ids=("c",))) == []
    assert due(*READY, said, e.SendAsked(), e.SendFailed(why="no")) == []
    assert due(*READY[:3], said, e.SendAsked(), e.StopAsked())[1:] == [plan.Stop("s", 1)]
    trashed = (e.TrashAsked(), e.Trashed(place="/t"), e.Restored())
    assert due(*READY, said, e.SendAsked(), *trashed) == [], "a restored session starts nothing"


def test_a_program_in_a_terminal_is_told_when_it_waits_for_its_user() -> None:
    spec = created(agent=e.AgentRef(name="claude", kind="terminal", command=("claude",)))
    begun = (*READY[:3], e.Commented(id="c", path="a", text="Why?"), e.SendAsked())
    asked = r.Asked(id="r", kind="question", title="What next?")
    assert due(*begun, spec=spec) == [plan.Attend("s", 1)]
    waits = e.Reported(run=1, report=asked)
    assert due(*begun, waits, spec=spec) == [plan.Attend("s", 1), plan.Send("s")]
    permission = e.Reported(run=1, report=asked.model_copy(update={"kind": "permission"}))
    assert due(*begun, permission, spec=spec) == [plan.Attend("s", 1)], "nothing is typed into a permission prompt"
    assert due(*begun, waits) == [plan.Attend("s", 1)], "others are in the middle of a turn"


def test_a_stop_before_the_first_process_halts_the_start() -> None:
    assert due(*READY[:2], e.StopAsked()) == [plan.Halt("s")]


def test_the_trash_waits_for_the_process_and_runs_the_teardown_first() -> None:
    spec = created(setup=e.SetupRef(teardown=("docker compose down",)))
    assert due(*READY[:3], e.TrashAsked()) == [plan.Attend("s", 1)]
    assert due(*READY, e.TrashAsked(), spec=spec) == [plan.Start("s", "teardown", 2)]
    torn = (e.RunStarted(run=2, kind="teardown"), e.RunEnded(run=2, ok=False, reason="it failed"))
    assert due(*READY, e.TrashAsked(), *torn, spec=spec) == [plan.Discard("s")]


def test_an_empty_worktree_is_released_and_one_with_untracked_files_is_not_asked_again() -> None:
    empty = (*READY[:4], snapshotted(files=0))
    assert due(*empty) == [plan.Release("s")]
    assert due(*empty, e.Kept()) == []
    assert due(*empty, e.Released()) == []


def test_an_interrupted_change_of_a_branch_is_settled() -> None:
    asked = e.FinishAsked(how="merge", into="main", previous="1", commit="2")
    assert due(*READY, asked) == [plan.Settle("s")]


@given(st.lists(EVENTS, max_size=25), st.booleans())
def test_nothing_busy_is_due_again_and_the_same_input_gives_the_same_plan(events: list[e.Event], admit: bool) -> None:
    whole = history(Whole(), "s", created(), *events)
    decisions = ADMIT if admit else {}
    actions = plan.plan(whole, decisions, frozenset())
    assert actions == plan.plan(whole, decisions, frozenset())
    assert plan.plan(whole, decisions, frozenset(actions)) == ()


def test_set_up_runs_again_in_a_worktree_that_was_made_anew_or_torn_down() -> None:
    spec = created(setup=e.SetupRef(commands=("npm ci",)))
    setup = (e.RunStarted(run=1, kind="setup"), e.RunEnded(run=1, ok=True, reason="Done."))
    agent = (e.RunStarted(run=2, kind="agent"), e.RunEnded(run=2, ok=True, reason="Done."), snapshotted(2, files=0))
    life = (e.Admitted(reason=""), PREPARED, *setup, *agent)
    assert due(*life, e.Released(), e.Resumed(), PREPARED, spec=spec) == [plan.Start("s", "setup", 3)]
    teardown = (e.RunStarted(run=3, kind="teardown"), e.RunEnded(run=3, ok=True, reason="Done."))
    trashed = (e.TrashAsked(), *teardown, e.Trashed(place="/t"), e.Restored())
    assert due(*life, *trashed, e.Resumed(), spec=spec) == [plan.Start("s", "setup", 4)]
    assert due(*life, e.Kept(), e.Resumed(), spec=spec) == [plan.Start("s", "agent", 3)]


def test_what_a_set_up_made_is_torn_down_before_its_worktree_goes() -> None:
    spec = created(setup=e.SetupRef(commands=("createdb x",), teardown=("dropdb x",)))
    setup = (e.RunStarted(run=1, kind="setup"), e.RunEnded(run=1, ok=True, reason="Done."))
    agent = (e.RunStarted(run=2, kind="agent"), e.RunEnded(run=2, ok=True, reason="Done."), snapshotted(2, files=0))
    life = (e.Admitted(reason=""), PREPARED, *setup, *agent)
    assert due(*life, spec=spec) == []
    assert due(*life, e.TrashAsked(), spec=spec) == [plan.Start("s", "teardown", 3)]


def test_two_actions_never_work_on_one_worktree() -> None:
    empty = (*READY[:-1], snapshotted(files=0))
    whole = history(Whole(), "s", created(), *empty)
    release = plan.Release("s")
    assert plan.plan(whole, {}, frozenset()) == (release,)
    whole = history(whole, "s", e.Resumed())
    assert plan.plan(whole, {}, frozenset([release])) == ()
    assert plan.plan(whole, {}, frozenset(), held=frozenset("s")) == ()
    assert plan.plan(whole, {}, frozenset([plan.Release("other")])) == (plan.Start("s", "agent", 2),)
