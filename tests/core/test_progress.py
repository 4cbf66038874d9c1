"""What a list of sessions shows of a working agent follows from its reports alone."""

from __future__ import annotations

import pytest

from plait.core import reports as r
from plait.core.progress import LONGEST_ACTIVITY, Progress, advance, is_kept, retrying

LIMIT = r.Limit(account="anthropic", status="allowed", windows=(r.Window(name="five_hour", used=0.4, resets_at=9.0),))


def after(*reports: r.Report) -> Progress:
    progress = Progress()
    for report in reports:
        progress = advance(progress, report)
    return progress


def test_the_activity_is_the_last_thing_that_the_agent_does() -> None:
    edit = r.ToolBegan(id="1", name="Edit", kind="edit", places=(r.Place(path="src/a.py"),))
    shell = r.ToolBegan(id="2", name="Bash", kind="execute", title="pytest -q")
    assert after(r.TurnBegan()).activity == "Thinking…"
    assert after(edit).activity == "Edits src/a.py"
    assert after(edit, shell).activity == "pytest -q"
    assert after(edit, shell, r.ToolEnded(id="2")).activity == "Edits src/a.py"
    assert after(edit, r.ToolEnded(id="1")).activity == "Thinking…"
    assert after(edit, r.TurnEnded(stop="end_turn")).activity == ""
    assert len(after(r.Message(text="x" * 999)).activity) == LONGEST_ACTIVITY


def test_a_retry_is_shown_until_the_agent_gets_on() -> None:
    retry = r.Retry(account="anthropic", kind="rate_limit", attempt=1, most=10, delay_s=20)
    waiting = after(retry)
    assert waiting.retry == retry
    assert "too many requests" in waiting.activity
    assert "20 s" in waiting.activity
    assert advance(waiting, r.Message(text="Done.")).retry is None


@pytest.mark.parametrize("kind", r.TroubleKind.__args__)  # type: ignore[attr-defined]  # a Literal has them
def test_every_kind_of_trouble_has_a_sentence(kind: r.TroubleKind) -> None:
    assert retrying(r.Retry(account="x", kind=kind)).endswith(".")


def test_a_limit_is_kept_when_it_changes_and_not_with_every_percent() -> None:
    more = LIMIT.model_copy(update={"windows": (r.Window(name="five_hour", used=0.41, resets_at=9.0),)})
    warning = LIMIT.model_copy(update={"status": "warning"})
    assert is_kept(Progress(), LIMIT)
    assert not is_kept(after(LIMIT), more)
    assert is_kept(after(LIMIT), warning)
    assert is_kept(after(LIMIT), LIMIT.model_copy(update={"account": "openai"}))


def test_messages_and_tools_are_in_the_output_and_need_not_be_kept() -> None:
    assert not is_kept(Progress(), r.Message(text="hello"))
    assert is_kept(Progress(), r.Asked(id="1", title="May I?"))
    assert is_kept(Progress(), r.TurnEnded(stop="end_turn"))
