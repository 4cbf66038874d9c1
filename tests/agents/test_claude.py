"""Claude Code's translator, on what the real program wrote and on what no program should write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.agents.adapter import Answer, Command, Effect, End, GiveUp, HangUp, Interrupt, Job, Say, Write
from plait.agents.claude import Claude
from plait.agents.claude_driver import ClaudeDriver
from plait.agents.claude_provider import Meter, trouble_kind
from plait.core.reports import (
    Asked,
    Began,
    Context,
    Delivered,
    FileDiff,
    Limit,
    Message,
    PlanEntry,
    Planned,
    Remark,
    Retry,
    Thought,
    ToolBegan,
    ToolEnded,
    ToolUpdated,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    Used,
    Withdrawn,
)

SAMPLES = sorted((Path(__file__).parent / "samples/claude").glob("*.jsonl"))
WELL = End(code=0, signal=None, unknown=False, reason="exited")
ASKED = "asked tool_ended context message used context withdrawn turn_ended HangUp"
AGAIN = "turn_began context message tool_began asked tool_ended context message used withdrawn turn_ended"
TURN = "began turn_began context message tool_began"
AFTER = "tool_ended context message used context turn_ended"

STORIES = {
    "401-retrying": "began turn_began retry trouble GiveUp" + " retry" * 8,
    "429-final": "began turn_began retry retry trouble turn_ended HangUp",
    "429x2-then-ok": f"began turn_began retry retry context message tool_began {AFTER} HangUp",
    "529-final": "began turn_began retry retry trouble turn_ended HangUp",
    "allow+followup": f"{TURN} {ASKED} {AGAIN}",
    "background": f"{TURN} {AFTER} remark HangUp remark turn_began context message used turn_ended HangUp turn_began "
    "context message used turn_ended",
    "deny": f"{TURN} {ASKED} {AGAIN}",
    "interrupt": f"{TURN} asked withdrawn tool_ended used context turn_ended HangUp",
    "interrupted-at-once": "began turn_began turn_ended HangUp",
    "not-logged-in": "began turn_began trouble turn_ended HangUp",
    "oauth-rate_limit_event": f"{TURN} limit {AFTER} HangUp",
    "oauth-usage-limit": "began limit turn_began trouble turn_ended HangUp",
    "permission-denied-nohost": f"{TURN} {AFTER} HangUp",
    "sigint": "began turn_began turn_ended HangUp",
    "success": f"{TURN} {AFTER} HangUp",
    "subagents": f"{TURN} tool_updated context message tool_updated tool_began used context remark tool_ended "
    "tool_updated tool_ended context message used turn_ended HangUp",
    "unknown-conversation": "began turn_began trouble turn_ended HangUp",
}
OUTCOMES = {
    "401-retrying": "auth",
    "429-final": "rate_limit",
    "529-final": "overloaded",
    "interrupt": "stopped",
    "interrupted-at-once": "stopped",
    "not-logged-in": "auth",
    "oauth-usage-limit": "quota",
    "sigint": "stopped",
    "steer-then-interrupt": "stopped",
    "unknown-conversation": "agent",
}


def job(resume: str | None = None, message: str | None = None) -> Job:
    return Job("s", "t", "Notes", "Write it.", "/w", 0, message=message, resume=resume)


def fed(*messages: Any, driver: ClaudeDriver | None = None) -> list[Effect]:
    """The effects of messages, without those of the beginning."""
    driver = driver or begun()
    return list(driver.feed(b"".join(json.dumps(message).encode() + b"\n" for message in messages)))


def begun(resume: str | None = None) -> ClaudeDriver:
    driver = Claude().driver(job(resume))
    driver.begin()
    return driver


def name_of(effect: Effect) -> str:
    return str(getattr(effect, "type", type(effect).__name__))


def assistant(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": {"id": "m", "model": "x", "content": list(blocks)}, **more}


def result(**more: Any) -> dict[str, Any]:
    done = {"type": "result", "subtype": "success", "is_error": False, "stop_reason": "end_turn", "session_id": "c"}
    return {**done, **more}


def wanted(name: str = "Write", **more: Any) -> dict[str, Any]:
    given = {"file_path": "/w/a.txt", "content": "a\n"}
    request = {"subtype": "can_use_tool", "tool_name": name, "input": given, "tool_use_id": "u", **more}
    return {"type": "control_request", "request_id": "r", "request": request}


def written(effects: Sequence[Effect], name: str) -> Any:
    """What a write says."""
    (found,) = [effect for effect in effects if isinstance(effect, Write) and effect.id == name]
    assert found.data.endswith(b"\n")
    return json.loads(found.data)


def system(subtype: str, **more: Any) -> dict[str, Any]:
    return {"type": "system", "subtype": subtype, **more}


INIT = system("init", session_id="c", model="x", permissionMode="default", apiKeySource="ANTHROPIC_API_KEY")


def test_it_is_launched_for_a_conversation() -> None:
    launch = Claude().launch(("claude", "--debug"), Job("s", "t", "T", "P", "/w", 0, permission="all", model="opus"))
    assert launch.argv[:2] == ("claude", "--debug")
    assert launch.argv[launch.argv.index("--permission-mode") + 1] == "bypassPermissions"
    assert launch.argv[-2:] == ("--model", "opus")
    assert (launch.stdin, launch.stderr, launch.interrupt) == ("fifo", "apart", "INT")
    resumed = Claude().launch(("claude",), job(resume="abc"))
    assert resumed.argv[-2:] == ("--resume", "abc")
    assert "P" not in launch.argv, "a prompt among the arguments could be taken for an option"


def test_the_first_lines_ask_for_control_and_give_the_opening() -> None:
    effects = Claude().driver(job()).begin()
    assert written(effects, "initialize")["request"]["subtype"] == "initialize"
    assert written(effects, "opening")["message"]["content"][0]["text"] == "Write it."


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_recorded_run_is_read_to_its_end(sample: Path) -> None:
    driver = begun("x" if "resume" in sample.stem else None)
    effects = [*driver.feed(sample.read_bytes()), *driver.close()]
    assert not [effect for effect in effects if isinstance(effect, Unread)]
    asked = [effect.id for effect in effects if isinstance(effect, Asked)]
    assert asked == [effect.id for effect in effects if isinstance(effect, Withdrawn)]
    if sample.stem in STORIES:
        assert " ".join(map(name_of, effects)) == STORIES[sample.stem]
    outcome = driver.outcome(WELL)
    assert ("stopped" if outcome.stopped else outcome.trouble) == OUTCOMES.get(sample.stem)
    assert outcome.ok == (sample.stem not in OUTCOMES)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
@given(size=st.integers(1, 5000))
@settings(max_examples=5, deadline=None)
def test_the_pieces_of_the_output_do_not_matter(sample: Path, size: int) -> None:
    data = sample.read_bytes()
    whole, pieces = begun(), begun()
    expected = [*whole.feed(data), *whole.close()]
    found = [effect for start in range(0, len(data), size) for effect in pieces.feed(data[start : start + size])]
    assert [*found, *pieces.close()] == expected


def test_there_are_samples_of_all_that_was_recorded() -> None:
    assert len(SAMPLES) >= 26
    assert STORIES.keys() | OUTCOMES.keys() <= {path.stem for path in SAMPLES}


LINES = [line for path in SAMPLES for line in path.read_bytes().splitlines(keepends=True)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real line that was cut, repeated, mixed with another, or had a value exchanged for any other."""
    line = draw(st.sampled_from(LINES))
    match draw(st.integers(0, 4)):
        case 0:
            return line[: draw(st.integers(0, len(line)))]
        case 1:
            return line + line
        case 2:
            return line[: draw(st.integers(0, len(line)))] + draw(st.sampled_from(LINES))
        case 3:
            return draw(st.binary(max_size=200)) + b"\n"
        case _:
            value = json.loads(line)
            exchange(value, draw)
            return json.dumps(value).encode() + b"\n"


def exchange(value: Any, draw: st.DrawFn) -> None:
    """Puts something else in some place of a value."""
    while True:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not places:
            return
        place = draw(st.sampled_from(places))
        if isinstance(value[place], dict | list) and draw(st.booleans()):
            value = value[place]
        else:
            value[place] = draw(JSON)
            return


COMMANDS = st.one_of(
    st.builds(Say, st.text(max_size=3), st.text(max_size=20)),
    st.builds(
        Answer, st.sampled_from(["r", "x"]), st.sampled_from([None, "allow", "allow-1", "reject", "cancel", "?"])
    ),
    st.just(Interrupt()),
)


@given(st.lists(damaged() | COMMANDS, max_size=20))
@settings(max_examples=300, deadline=None)
def test_nothing_that_is_fed_makes_it_fail(steps: list[bytes | Command]) -> None:
    driver, again = begun(), begun()
    effects: list[Effect] = []
    repeated: list[Effect] = []
    for step in steps:
        if isinstance(step, bytes):
            effects += driver.feed(step)
            repeated += [effect for byte in step for effect in again.feed(bytes([byte]))]
        else:
            effects += driver.take(step)
            repeated += again.take(step)
    effects += driver.close()
    repeated += again.close()
    assert repeated == effects
    assert driver.outcome(WELL).reason
    assert [effect for effect in effects if isinstance(effect, HangUp | GiveUp)].count(HangUp()) <= 1


@given(st.binary(min_size=1, max_size=60).filter(lambda data: data.strip() and b"{" not in data))
def test_what_cannot_be_read_is_shown(data: bytes) -> None:
    driver = begun()
    effects = [*driver.feed(data + b"\n"), *driver.close()]
    assert effects
    assert all(isinstance(effect, Unread) and effect.why for effect in effects)


def test_a_message_of_an_unknown_type_is_shown() -> None:
    effects = fed({"type": "hologram", "x": 1}, system("telepathy"), assistant({"type": "smell"}))
    unread = [effect for effect in effects if isinstance(effect, Unread)]
    assert [effect.why.split("type, ")[-1] for effect in unread] == ["'hologram'.", "'system/telepathy'.", "'smell'."]
    assert '"x": 1' in unread[0].text


def test_thoughts_and_plans_are_reported() -> None:
    todos = [{"content": "look", "status": "completed"}, {"content": "write", "status": "in_progress"}]
    effects = fed(
        assistant({"type": "thinking", "thinking": "Hm."}, {"type": "redacted_thinking", "data": "x"}),
        assistant({"type": "tool_use", "id": "u", "name": "TodoWrite", "input": {"todos": todos}}),
    )
    assert Thought(text="Hm.") in effects
    entries = (PlanEntry(text="look", status="completed"), PlanEntry(text="write", status="in_progress"))
    assert Planned(entries=entries) in effects


def test_a_plan_that_is_made_step_by_step_is_reported_whole() -> None:
    def used(place: int, name: str, **given: Any) -> dict[str, Any]:
        return assistant({"type": "tool_use", "id": str(place), "name": name, "input": given})

    def done(place: int, told: Any) -> dict[str, Any]:
        content = [{"type": "tool_result", "tool_use_id": str(place), "content": "ok"}]
        return {"type": "user", "message": {"content": content}, "tool_use_result": told}

    effects = fed(
        used(1, "TaskCreate", subject="look"),
        done(1, {"task": {"id": "7", "subject": "look"}}),
        used(2, "TaskCreate", subject="write"),
        done(2, {"task": {"id": "8", "subject": "write"}}),
        used(3, "TaskUpdate", taskId="7", status="completed"),
        done(3, {"success": True}),
        used(4, "TaskUpdate", taskId="8", status="deleted"),
        done(4, {"success": True}),
    )
    plans = [effect.entries for effect in effects if isinstance(effect, Planned)]
    assert plans[-2] == (PlanEntry(text="look", status="completed"), PlanEntry(text="write"))
    assert plans[-1] == (PlanEntry(text="look", status="completed"),)


def test_a_failed_command_has_its_exit_status() -> None:
    content = [{"type": "tool_result", "tool_use_id": "u", "content": "Exit code 3\nno", "is_error": True}]
    effects = fed({"type": "user", "message": {"content": content}, "tool_use_result": "Error: Exit code 3"})
    assert effects == [ToolEnded(id="u", status="failed", exit=3, output="Exit code 3\nno")]


def test_a_subagents_words_belong_to_its_tool() -> None:
    effects = fed(
        assistant({"type": "text", "text": "I look."}, parent_tool_use_id="u", task_description="Look"),
        assistant({"type": "tool_use", "id": "v", "name": "Glob", "input": {"pattern": "*"}}, parent_tool_use_id="u"),
    )
    assert ToolUpdated(id="u", output="I look.") in effects
    began = next(effect for effect in effects if isinstance(effect, ToolBegan))
    assert (began.title, began.kind) == ("subagent: Glob *", "search")
    assert not [effect for effect in effects if isinstance(effect, Message | Context)]


def test_a_suggested_permission_is_given_for_the_run_only() -> None:
    rule = {"toolName": "Bash", "ruleContent": "make:*"}
    suggestions: list[dict[str, Any]] = [
        {"type": "addRules", "rules": [rule], "behavior": "allow", "destination": "localSettings"},
        {"type": "setMode", "mode": "bypassPermissions", "destination": "session"},
    ]
    driver = begun()
    (_, asked) = fed(wanted("Bash", permission_suggestions=suggestions), driver=driver)
    assert isinstance(asked, Asked)
    labels = [option.label for option in asked.options]
    assert labels == ["Allow", "Allow Bash(make:*) in this run", "Deny", "Deny and end the turn"]
    effects = driver.take(Answer("r", "allow-1"))
    assert written(effects, "answer-r")["response"]["response"] == {
        "behavior": "allow",
        "updatedInput": {"file_path": "/w/a.txt", "content": "a\n"},
        "updatedPermissions": [{**suggestions[0], "destination": "session"}],
    }
    assert effects[-1] == Withdrawn(id="r")
    assert driver.take(Answer("r", "allow")) == [], "it was answered"


def test_an_answer_that_was_not_offered_leaves_the_request_open() -> None:
    driver = begun()
    fed(wanted(), driver=driver)
    assert [type(effect) for effect in driver.take(Answer("r", "perhaps"))] == [Remark]
    assert written(driver.take(Answer("r", "reject")), "answer-r")["response"]["response"]["behavior"] == "deny"


def test_several_answers_to_a_question_are_joined() -> None:
    questions = [
        {"question": "Which?", "options": [{"label": "A", "description": "first"}], "multiSelect": True},
        {"question": "When?", "options": []},
    ]
    driver = begun()
    (_, asked) = fed(wanted("AskUserQuestion", input={"questions": questions}), driver=driver)
    assert isinstance(asked, Asked)
    assert [(one.id, one.text, one.several) for one in asked.questions] == [
        ("1", "Which?\nA: first", True),
        ("2", "When?", False),
    ]
    effects = driver.take(Answer("r", answers={"1": ("A", "mine")}))
    said = written(effects, "answer-r")["response"]["response"]
    assert said["updatedInput"] == {"questions": questions, "answers": {"Which?": "A, mine"}}


def test_a_request_shows_what_would_be_written() -> None:
    (_, asked) = fed(wanted("Edit", input={"file_path": "/w/a", "old_string": "x", "new_string": "y"}))
    assert isinstance(asked, Asked)
    assert asked.diffs == (FileDiff(path="/w/a", old="x", new="y"),)


def test_what_it_asks_of_its_host_beside_permissions_is_answered_or_shown() -> None:
    form = {"subtype": "elicitation", "mcp_server_name": "db", "message": "Password?"}
    effects = fed({"type": "control_request", "request_id": "e", "request": form})
    assert written(effects, "answer-e")["response"]["response"] == {"action": "decline"}
    effects = fed({"type": "control_request", "request_id": "h", "request": {"subtype": "hook_callback"}})
    assert written(effects, "answer-h")["response"]["subtype"] == "error"
    assert isinstance(effects[0], Unread)
    dialog = {"subtype": "request_user_dialog", "dialog_kind": "x"}
    effects = fed({"type": "control_request", "request_id": "d", "request": dialog})
    assert [type(effect) for effect in effects] == [Unread]


def test_a_message_on_its_way_keeps_the_input_open() -> None:
    driver = begun()
    said = written(driver.take(Say("m1", "More.")), "say-m1")
    assert name_of(fed(INIT, result(), driver=driver)[-1]) == "turn_ended"
    replay = {"type": "user", "message": {"content": "More."}, "uuid": said["uuid"], "isReplay": True}
    effects = fed(INIT, replay, result(), driver=driver)
    assert effects[:2] == [TurnBegan(prompt="More."), Delivered(id="m1")]
    assert effects[-1] == HangUp()
    assert driver.take(Say("m2", "Too late.")) == []


def test_a_version_that_keeps_no_message_ids_is_matched_by_the_text() -> None:
    driver = begun()
    driver.take(Say("m1", "More."))
    replay = {"type": "user", "message": {"content": [{"type": "text", "text": "More."}]}, "isReplay": True}
    assert Delivered(id="m1") in fed(INIT, replay, driver=driver)


def test_a_subscription_may_renew_its_login_once() -> None:
    driver = begun()
    again = {"error_status": 401, "error": "authentication_failed", "max_retries": 10, "retry_delay_ms": 500}
    effects = fed({**INIT, "apiKeySource": "none"}, system("api_retry", attempt=1, **again), driver=driver)
    assert [name_of(effect) for effect in effects] == ["began", "turn_began", "retry"]
    told = effects[-1]
    assert isinstance(told, Retry)
    assert (told.kind, told.delay_s, told.most, told.account) == ("auth", 0.5, 10, "anthropic (subscription)")
    effects = fed(system("api_retry", attempt=2, **again), driver=driver)
    assert [name_of(effect) for effect in effects] == ["retry", "trouble", "GiveUp"]
    assert driver.outcome(WELL).reason.startswith("Claude Code is not logged in: run `claude` and use /login")


def test_another_provider_is_named_as_the_account() -> None:
    driver = begun()
    account = {"apiProvider": "bedrock", "apiKeySource": "none"}
    response = {"subtype": "success", "request_id": "initialize", "response": {"account": account}}
    effects = fed(
        {"type": "control_response", "response": response},
        INIT,
        system("api_retry", attempt=1, error_status=529, error="overloaded"),
        driver=driver,
    )
    told = effects[-1]
    assert isinstance(told, Retry)
    assert (told.account, told.kind) == ("bedrock", "overloaded")


def test_limits_have_names_and_lengths() -> None:
    info = {"status": "rejected", "resetsAt": 9, "rateLimitType": "seven_day_opus", "utilization": 1.0}
    (limited,) = fed({"type": "rate_limit_event", "rate_limit_info": info})
    assert isinstance(limited, Limit)
    assert (limited.status, limited.windows[0].name, limited.windows[0].minutes) == ("rejected", "7 days, opus", 10080)


@pytest.mark.parametrize(
    ("error", "status", "how", "kind"),
    [
        ("authentication_failed", 401, "", "auth"),
        ("billing_error", 400, "", "quota"),
        ("server_error", 500, "", "overloaded"),
        ("unknown", None, "", "network"),
        ("invalid_request", 400, "prompt_too_long", "context"),
        ("model_not_found", 404, "", "agent"),
    ],
)
def test_errors_have_kinds(error: str, status: int | None, how: str, kind: str) -> None:
    assert trouble_kind(error, status, how=how) == kind


def models(**tokens: int) -> dict[str, Any]:
    return {"x": {"inputTokens": tokens["input"], "outputTokens": 1, "costUSD": tokens["input"] / 100}}


def test_older_versions_are_counted_from_their_running_totals() -> None:
    meter = Meter(resumed=False)
    first, second = meter.turn({"modelUsage": models(input=10)}), meter.turn({"modelUsage": models(input=25)})
    assert first is not None
    assert second is not None
    assert (first.input, first.cost_usd, second.input, second.cost_usd) == (10, 0.1, 15, 0.15)
    assert meter.turn({"modelUsage": models(input=25)}) is None


def test_a_resumed_conversations_earlier_turns_are_not_counted_again() -> None:
    usage = {"input_tokens": 5, "output_tokens": 1}
    used = Meter(resumed=True).turn({"modelUsage": models(input=25), "usage": usage})
    assert used == Used(scope="turn", input=5, output=1, cost_usd=None)
    alone = Meter(resumed=True).turn({"modelUsage": models(input=5), "usage": usage})
    assert alone == Used(scope="turn", input=5, output=1, cost_usd=0.05)


def tasks(*names: str, kind: str = "local_agent") -> dict[str, Any]:
    live = [{"task_id": name, "task_type": kind, "description": name} for name in names]
    return system("background_tasks_changed", tasks=live)


def idle() -> dict[str, Any]:
    return system("session_state_changed", state="idle")


def test_subagents_that_are_stopped_end_the_turn_that_waits_for_them() -> None:
    driver = begun()
    effects = fed(INIT, tasks("a"), result(result="Sent."), idle(), driver=driver)
    assert effects[-1] == Remark(text="Its subagents are still at work: a.")
    stopped = system("task_notification", task_id="a", status="stopped", summary="Stopped a")
    effects = fed(tasks(), stopped, driver=driver)
    assert [name_of(effect) for effect in effects] == ["remark", "turn_ended", "HangUp"]
    assert driver.outcome(WELL).ok


def test_a_subagents_request_stays_open_when_the_main_loop_rests() -> None:
    driver = begun()
    effects = fed(INIT, tasks("a"), wanted(agent_id="a"), result(), idle(), driver=driver)
    assert not [effect for effect in effects if isinstance(effect, Withdrawn | TurnEnded | HangUp)]
    assert written(driver.take(Answer("r", "allow")), "answer-r")["response"]["response"]["behavior"] == "allow"


def test_an_interruption_ends_the_wait_for_subagents() -> None:
    driver = begun()
    fed(INIT, tasks("a"), result(), idle(), driver=driver)
    assert list(driver.take(Interrupt())) == [TurnEnded(stop="cancelled", text="Interrupted."), HangUp()]
    assert driver.outcome(WELL).stopped


def test_a_server_that_is_left_running_does_not_hold_the_turn_open() -> None:
    driver = begun()
    fed(system("session_state_changed", state="running"), driver=driver)
    effects = fed(INIT, tasks("npm run dev", kind="local_bash"), result(), idle(), driver=driver)
    assert [name_of(effect) for effect in effects[-3:]] == ["turn_ended", "remark", "HangUp"]
    assert effects[-1] == HangUp(after_s=600.0)
    assert fed(idle(), driver=driver) == [], "that was said"
    assert driver.take(Say("m", "Stop it.")), "the input is still open"
    assert driver.outcome(WELL).ok


def test_a_process_that_ends_without_a_result_has_failed() -> None:
    driver = begun()
    fed(INIT, assistant({"type": "text", "text": "I begin."}), driver=driver)
    outcome = driver.outcome(End(0, None, False, "exited", complaints="out of memory\n"))
    assert (outcome.ok, outcome.reason) == (
        False,
        "Claude Code ended without finishing its turn: out of memory",
    )
    assert driver.outcome(End(None, 15, False, "stopped")).stopped


def test_a_turn_that_ended_well_stays_so_when_its_process_is_stopped() -> None:
    driver = begun()
    fed(INIT, result(), driver=driver)
    assert driver.outcome(End(None, 15, False, "stopped")).ok


@pytest.mark.parametrize(("stop", "word"), [("max_tokens", "longest answer"), ("refusal", "refused")])
def test_a_turn_that_was_cut_short_has_not_succeeded(stop: str, word: str) -> None:
    driver = begun()
    fed(INIT, result(stop_reason=stop), driver=driver)
    assert not driver.outcome(WELL).ok
    assert word in driver.outcome(WELL).reason


def test_what_the_program_itself_says_is_remarked() -> None:
    effects = fed(
        INIT,
        system("compact_boundary", compact_metadata={"pre_tokens": 100, "post_tokens": 20}),
        system("informational", level="warning", content="Careful."),
        system("informational", level="info", content="By the way."),
        system("status", permissionMode="plan"),
        system("session_writes_lost", error_code="ENOSPC"),
        {"type": "conversation_reset", "new_conversation_id": "d"},
    )
    assert effects[1:] == [
        Remark(text="It summed up its conversation of 100 tokens; it is 20 now."),
        Context(used=20),
        Remark(text="Careful."),
        Began(agent_session="c", model="x", mode="plan"),
        Trouble(
            account="anthropic",
            kind="agent",
            text="Claude Code could not save its transcript (ENOSPC): resuming may miss a part.",
        ),
        Began(agent_session="d", model="x", mode="plan"),
        Remark(text="It began its conversation anew and forgot what was said before."),
    ]
