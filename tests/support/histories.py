"""Sessions and histories for tests of the core."""

from __future__ import annotations

from hypothesis import strategies as st

from plait.core import events as e
from plait.core.state import Whole, apply


def created(title: str = "Add a test", **changes: object) -> e.Created:
    """A session's intent with sensible values."""
    values: dict[str, object] = {
        "task": e.Task(id="t1", title=title, prompt=title),
        "agent": e.AgentRef(name="sed", command=("sed", "-i", "s/a/b/", "x")),
        "repo": e.RepoRef(key="k", common_dir="/r/.git", git_dir="/r/.git", top="/r"),
        "base": "0" * 40,
        "branch": "plait/add-a-test-abc123",
        "worktree": "/w/add-a-test-abc123",
    }
    return e.Created.model_validate({**values, **changes})


def history(whole: Whole, session: str, *events: e.Event, at: float = 0.0) -> Whole:
    """`whole` after the events have happened to one session."""
    for event in events:
        known = whole.sessions.get(session)
        seq = known.seq + 1 if known else 0
        whole = apply(whole, e.Record(session=session, seq=seq, at=at, event=event))
    return whole


def snapshotted(run: int = 1, files: int = 1, commits: int = 0) -> e.Snapshotted:
    return e.Snapshotted(
        run=run,
        tree="1" * 40,
        commit="2" * 40,
        ref="refs/plait/x",
        files=files,
        added=1,
        removed=0,
        commits=commits,
    )


PREPARED = e.Prepared(admin="/r/.git/worktrees/x", port=20000)
AGENT_RUN = e.RunStarted(run=1, kind="agent")
DONE = e.RunEnded(run=1, ok=True, code=0, reason="Done.")

READY = (e.Admitted(reason=""), PREPARED, AGENT_RUN, DONE, snapshotted())
"""What brings a fresh session to `ready`."""

_runs = st.integers(1, 4)
_text = st.text(max_size=12)

EVENTS: st.SearchStrategy[e.Event] = st.one_of(
    st.builds(e.Admitted, reason=_text),
    st.just(PREPARED),
    st.builds(e.RunStarted, run=_runs, kind=st.sampled_from(["setup", "agent", "teardown"])),
    st.builds(e.RunEnded, run=_runs, ok=st.booleans(), stopped=st.booleans(), reason=_text),
    st.builds(snapshotted, run=_runs, files=st.integers(0, 2)),
    st.builds(e.StopAsked),
    st.builds(e.Resumed, message=st.none() | _text),
    st.builds(e.Retried, by=_text),
    st.builds(e.Failed, step=_text, why=_text),
    st.builds(
        e.Decided,
        hunk=_text,
        path=_text,
        verdict=st.sampled_from(["accepted", "rejected", "cleared"]),
        why=st.none(),
    ),
    st.builds(e.Commented, id=_text, path=_text, line=st.none() | st.integers(0, 9), text=_text),
    st.builds(e.CommentRemoved, id=_text),
    st.builds(e.SendAsked),
    st.builds(e.CommentsSent, ids=st.tuples(_text), rejected=st.tuples(_text)),
    st.builds(e.SendFailed, why=_text),
    st.builds(e.Applied),
    st.builds(e.Reopened),
    st.builds(e.FinishAsked, how=st.just("merge"), into=_text, previous=_text, commit=_text),
    st.builds(e.Merged, how=st.just("merge"), into=_text, commit=_text),
    st.builds(e.FinishFailed, why=_text),
    st.builds(e.TrashAsked),
    st.builds(e.Trashed, place=st.none() | _text),
    st.builds(e.Restored),
    st.builds(e.Purged),
    st.builds(e.Released),
    st.builds(e.Kept),
    st.builds(e.Noted, text=_text),
)
