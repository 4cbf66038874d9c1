"""What agents that speak ACP say, from recordings of the real programs and from a small agent that does odd things.

The samples of gemini, copilot and opencode-acp are the lines that the programs wrote, with short lists of commands;
those of claude-acp and codex-acp were recorded message by message and put into the protocol's frames again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.agents.acp import Acp
from plait.agents.acp_quirks import QUIRKS
from plait.agents.adapter import (
    Answer,
    Command,
    Driver,
    Effect,
    End,
    GiveUp,
    HangUp,
    Interrupt,
    Job,
    SaveFile,
    Say,
    Write,
)
from plait.core.events import PermissionMode
from plait.core.reports import (
    Asked,
    Began,
    Context,
    Delivered,
    FileDiff,
    Message,
    Planned,
    Remark,
    Retry,
    Thought,
    ToolBegan,
    ToolEnded,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    Used,
    Withdrawn,
)
from tests.support.driving import driven

SAMPLES = Path(__file__).parent / "samples" / "acp"
ALL_SAMPLES = sorted(path.name for path in SAMPLES.glob("*.jsonl"))
EXITED = End(code=0, signal=None, unknown=False, reason="exited")

Journal = list[tuple[int, Command]]


def job(preset: str = "", **more: Any) -> Job:
    return Job(
        session="s", task="t", title="", prompt="Create hello.txt", worktree="/work/tree", port=0, preset=preset, **more
    )


def job_of(sample: str) -> Job:
    """The job for which a sample was recorded."""
    preset, part, _ = sample.split(".")
    if part == "resume":
        return job(preset, resume="old", message="run it")
    return job(preset, permission="ask" if part == "session" or preset.endswith("-acp") else "all")


def play(sample: str) -> tuple[Driver, list[Effect], bytes, Journal]:
    """Feeds a sample line by line; whatever is asked is allowed once, and a second message is sent at the start."""
    data = (SAMPLES / sample).read_bytes()
    driver = Acp().driver(job_of(sample))
    effects = list(driver.begin())
    journal: Journal = []
    offset = 0

    def take(command: Command) -> None:
        journal.append((offset, command))
        effects.extend(driver.take(command))

    for line in data.splitlines(keepends=True):
        offset += len(line)
        new = list(driver.feed(line))
        effects += new
        for effect in new:
            if isinstance(effect, Began) and ".session." in sample:
                take(Say("m1", "Now change it"))
            if isinstance(effect, Asked):
                allowed = next(option.id for option in effect.options if option.kind == "allow_once")
                take(Answer(effect.id, allowed))
    return driver, [*effects, *driver.close()], data, journal


def replay(driver: Driver, data: bytes, journal: Journal, size: int) -> list[Effect]:
    effects = list(driver.begin())
    fed = 0
    ends: Sequence[tuple[int, Command | None]] = [*journal, (len(data), None)]
    for offset, command in ends:
        while fed < offset:
            piece = data[fed : min(offset, fed + size)]
            effects += driver.feed(piece)
            fed += len(piece)
        if command is not None:
            effects += driver.take(command)
    return [*effects, *driver.close()]


def of(kind: type, effects: Sequence[Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def written(effects: Sequence[Effect]) -> list[dict[str, Any]]:
    return [json.loads(effect.data) for effect in of(Write, effects)]


def line(**body: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **body}).encode() + b"\n"


def update(**body: Any) -> bytes:
    return line(method="session/update", params={"sessionId": "s1", "update": body})


INITIALIZED: dict[str, Any] = {"protocolVersion": 1, "agentCapabilities": {}, "authMethods": []}
MODES = {
    "currentModeId": "default",
    "availableModes": [
        {"id": "default", "name": "Default"},
        {"id": "autoEdit", "name": "A"},
        {"id": "yolo", "name": "Y"},
    ],
}


def in_turn(driver: Driver) -> list[Effect]:
    """A driver whose first turn runs."""
    effects = list(driver.begin())
    effects += driver.feed(line(id=1, result=INITIALIZED))
    return [*effects, *driver.feed(line(id=2, result={"sessionId": "s1"}))]


def permission(kind: str, path: str, **more: Any) -> bytes:
    call = {"toolCallId": "c1", "kind": kind, "title": "Do it", "locations": [{"path": path}], **more}
    options = [
        {"optionId": "y", "name": "Yes", "kind": "allow_once"},
        {"optionId": "a", "name": "For this session", "kind": "allow_always"},
        {"optionId": "n", "name": "No", "kind": "reject_once"},
    ]
    params = {"sessionId": "s1", "toolCall": call, "options": options}
    return line(id="p1", method="session/request_permission", params=params)


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_every_recording_is_read_to_its_end_with_nothing_unread(sample: str) -> None:
    driver, effects, _, _ = play(sample)
    assert of(Unread, effects) == []
    asked = [asked.id for asked in of(Asked, effects)]
    assert [withdrawn.id for withdrawn in of(Withdrawn, effects)] == asked
    ended = of(TurnEnded, effects)
    assert ended
    outcome = driver.outcome(EXITED)
    if ".401." in sample:
        assert outcome.trouble == "auth"
        assert not outcome.ok
        assert "is not logged in" in outcome.reason
        assert of(GiveUp, effects)
        assert of(Trouble, effects)[-1].fatal
    else:
        assert {turn.stop for turn in ended} == {"end_turn"}
        assert len(ended) == (2 if ".session." in sample else 1)
        assert outcome.ok
        assert len(of(HangUp, effects)) == 1


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_a_replay_in_any_pieces_gives_the_same_effects(sample: str) -> None:
    _, effects, data, journal = play(sample)
    for size in (1, 7, 1000, len(data)):
        assert replay(Acp().driver(job_of(sample)), data, journal, size) == effects
    writes = [write.id for write in of(Write, effects)]
    assert len(set(writes)) == len(writes)


def test_messages_of_a_recorded_session_are_whole_at_their_end() -> None:
    for preset in ("gemini", "copilot", "opencode-acp"):
        _, effects, _, _ = play(f"{preset}.session.jsonl")
        whole = [message.text for message in of(Message, effects) if not message.partial]
        assert whole == ["I will write it.", "Done: wrote hello.txt.", "I will change it.", "Done: changed it."]
        pieces = "".join(message.text for message in of(Message, effects) if message.partial)
        assert pieces == "".join(whole)
        assert [turn.text for turn in of(TurnEnded, effects)] == ["Done: wrote hello.txt.", "Done: changed it."]


def test_a_tool_that_was_only_asked_for_begins_nevertheless() -> None:
    _, effects, _, _ = play("gemini.session.jsonl")
    order = [type(e).__name__ for e in effects if isinstance(e, ToolBegan | Asked | ToolEnded)]
    assert order == ["ToolBegan", "Asked", "ToolEnded"] * 2
    began, asked, ended = of(ToolBegan, effects)[0], of(Asked, effects)[0], of(ToolEnded, effects)[0]
    assert (began.name, began.kind) == ("write_file", "edit")
    assert asked.tool_id == began.id == ended.id
    created = FileDiff(path="/work/tree/hello.txt", old=None, new="hello\n")
    assert asked.diffs == (created,)
    assert ended.diffs == (created,)
    assert [option.kind for option in asked.options] == ["allow_session", "allow_once", "reject_once"]


def test_usage_is_what_each_agent_means_by_it() -> None:
    def spent(sample: str) -> list[tuple[Any, ...]]:
        _, effects, _, _ = play(sample)
        return [(u.scope, u.input, u.cache_read, u.output, u.reasoning) for u in of(Used, effects)]

    assert spent("copilot.session.jsonl") == [("process", 2409, 1206, 83, 15), ("process", 4845, 2430, 175, 34)]
    assert spent("gemini.session.jsonl") == [("turn", 3630, 0, 69, 0), ("turn", 3840, 0, 105, 0)]
    assert spent("opencode-acp.session.jsonl")[0] == ("request", 1212, 608, 44, 9)
    assert spent("claude-acp.session.jsonl") == [("turn", 8567, 200, 84, 0), ("turn", 13466, 300, 126, 0)]
    assert spent("codex-acp.session.jsonl") == [("turn", 15503, 200, 84, 14), ("turn", 24224, 300, 126, 21)]
    _, effects, _, _ = play("claude-acp.session.jsonl")
    assert [(u.cost_usd, u.cost_scope) for u in of(Used, effects)] == [(0.040464, "process"), (0.101384, "process")]


def test_a_history_that_is_replayed_late_is_not_reported_again() -> None:
    _, effects, _, _ = play("gemini.resume.jsonl")
    said = [message.text for message in of(Message, effects) if not message.partial]
    assert said == ["I will run it.", "Done: ran it."]
    assert [tool.kind for tool in of(ToolBegan, effects)] == ["execute"]
    assert [body["method"] for body in written(effects) if "method" in body] == [
        "initialize",
        "session/load",
        "session/set_mode",
        "session/set_mode",
        "session/prompt",
    ]


def test_an_agent_that_never_stops_replaying_is_prompted_at_last() -> None:
    driver = Acp().driver(job("gemini", resume="old", message="go"))
    effects = list(driver.begin())
    can_load = {**INITIALIZED, "agentCapabilities": {"loadSession": True}}
    effects += driver.feed(line(id=1, result=can_load))
    effects += driver.feed(line(id=2, result={"modes": MODES}))
    for number in range(3, 400):
        effects += driver.feed(update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "old"}))
        effects += driver.feed(line(id=number, result={}))
        if of(TurnBegan, effects):
            break
    assert len(of(TurnBegan, effects)) == 1
    assert of(Message, effects) == []


def test_retries_of_codex_name_the_attempt_and_the_kind() -> None:
    _, effects, _, _ = play("codex-acp.429.jsonl")
    retries = of(Retry, effects)
    assert [(retry.attempt, retry.most, retry.kind, retry.account) for retry in retries] == [
        (1, 5, "rate_limit", "openai"),
        (2, 5, "rate_limit", "openai"),
    ]


def test_words_of_the_program_are_not_the_models() -> None:
    _, effects, _, _ = play("copilot.401.jsonl")
    assert of(Message, effects) == []
    assert len(of(Retry, effects)) == 2
    driver = Acp().driver(job("copilot"))
    in_turn(driver)
    said = driver.feed(
        update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "Error: no such file"})
        + update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "I go on."})
        + line(id=3, result={"stopReason": "end_turn"})
    )
    assert Remark(text="Error: no such file") in said
    assert of(TurnEnded, said)[0].stop == "end_turn"
    assert driver.outcome(EXITED).ok


@pytest.mark.parametrize(
    ("preset", "permission_mode", "mode"),
    [("gemini", "ask", None), ("gemini", "edits", "autoEdit"), ("gemini", "all", "yolo"), ("", "all", None)],
)
def test_the_mode_follows_the_permission_where_the_agent_has_one(
    preset: str, permission_mode: PermissionMode, mode: str | None
) -> None:
    driver = Acp().driver(job(preset, permission=permission_mode))
    driver.begin()
    driver.feed(line(id=1, result=INITIALIZED))
    effects = driver.feed(line(id=2, result={"sessionId": "s1", "modes": MODES}))
    [body] = written(effects)
    if mode is None:
        assert body["method"] == "session/prompt"
    else:
        assert (body["method"], body["params"]["modeId"]) == ("session/set_mode", mode)
        [prompt] = written(driver.feed(line(id=3, result={})))
        assert prompt["method"] == "session/prompt"
        assert prompt["params"]["prompt"] == [{"type": "text", "text": "Create hello.txt"}]


def test_a_mode_among_the_options_is_chosen_there_and_a_refused_one_is_said() -> None:
    options = [
        {
            "id": "mode",
            "name": "Mode",
            "type": "select",
            "category": "mode",
            "currentValue": "plan",
            "options": [{"value": "build", "name": "Build"}, {"value": "plan", "name": "Plan"}],
        }
    ]
    driver = Acp().driver(job("opencode-acp", model="big"))
    driver.begin()
    driver.feed(line(id=1, result=INITIALIZED))
    effects = driver.feed(line(id=2, result={"sessionId": "s1", "configOptions": options}))
    [body] = written(effects)
    assert body["method"] == "session/set_config_option"
    assert (body["params"]["configId"], body["params"]["value"]) == ("mode", "build")
    assert "does not offer the model 'big'" in of(Remark, effects)[0].text
    refused = driver.feed(line(id=3, error={"code": -32603, "message": "no"}))
    assert "It did not take the mode 'build': no." in [remark.text for remark in of(Remark, refused)]
    assert of(TurnBegan, refused)


@pytest.mark.parametrize(
    ("permission_mode", "kind", "path", "asked"),
    [
        ("ask", "edit", "/work/tree/a.py", True),
        ("edits", "edit", "/work/tree/a.py", False),
        ("edits", "edit", "a.py", False),
        ("edits", "edit", "/work/tree/../other/a.py", True),
        ("edits", "edit", "/etc/passwd", True),
        ("edits", "edit", "/work/tree/.git/hooks/pre-commit", True),
        ("edits", "edit", "/work/tree/sub/.GIT/config", True),
        ("edits", "execute", "/work/tree/a.py", True),
        ("all", "execute", "/work/tree/a.py", False),
    ],
)
def test_the_tasks_permission_answers_what_it_covers(
    permission_mode: PermissionMode, kind: str, path: str, asked: bool
) -> None:
    driver = Acp().driver(job(permission=permission_mode))
    in_turn(driver)
    effects = driver.feed(permission(kind, path))
    assert bool(of(Asked, effects)) == asked
    if not asked:
        [body] = written(effects)
        assert body == {
            "jsonrpc": "2.0",
            "id": "p1",
            "result": {"outcome": {"outcome": "selected", "optionId": "y"}},
        }


def test_a_permission_is_answered_once_and_a_denied_tool_is_denied() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    driver.feed(permission("execute", "/work/tree/a.py"))
    assert of(Write, driver.take(Answer("ask-1", "maybe"))) == []
    effects = driver.take(Answer("ask-1", "n", text="not that"))
    [body] = written(effects)
    assert body["result"]["outcome"] == {"outcome": "selected", "optionId": "n"}
    assert Withdrawn(id="ask-1") in effects
    assert of(Write, driver.take(Answer("ask-1", "y"))) == []
    failed = driver.feed(update(sessionUpdate="tool_call_update", toolCallId="c1", status="failed"))
    assert [ended.status for ended in of(ToolEnded, failed)] == ["denied"]


def test_a_denied_tool_whose_end_is_never_said_ends_with_the_turn() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    driver.feed(permission("execute", "/work/tree/a.py"))
    driver.take(Answer("ask-1", "n"))
    effects = driver.feed(line(id=3, result={"stopReason": "end_turn"}))
    assert [(ended.id, ended.status) for ended in of(ToolEnded, effects)] == [("c1", "denied")]


def test_an_interrupt_cancels_what_waits_and_the_turn() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    driver.take(Say("m1", "later"))
    driver.feed(permission("execute", "/work/tree/a.py"))
    effects = driver.take(Interrupt())
    cancel, answer = written(effects)
    assert answer["result"]["outcome"] == {"outcome": "cancelled"}
    assert (cancel["method"], cancel.get("id")) == ("session/cancel", None)
    assert Withdrawn(id="ask-1") in effects
    assert driver.take(Interrupt()) == []
    late = driver.feed(permission("execute", "/work/tree/a.py"))
    assert of(Asked, late) == []
    assert written(late)[0]["result"]["outcome"] == {"outcome": "cancelled"}
    over = driver.feed(line(id=3, result={"stopReason": "cancelled"}))
    assert of(TurnEnded, over)[0].stop == "cancelled"
    assert of(ToolEnded, over)[0].status == "failed"
    assert isinstance(over[-1], HangUp)
    assert of(Delivered, over) == []
    assert driver.outcome(EXITED).stopped
    assert driver.take(Say("m2", "too late")) == []


def test_an_interrupt_before_the_first_turn_ends_it_and_nothing_more_is_asked() -> None:
    driver = Acp().driver(job())
    driver.begin()
    effects = driver.take(Interrupt())
    assert [type(effect) for effect in effects] == [TurnEnded, HangUp]
    assert driver.feed(line(id=1, result=INITIALIZED)) == []
    assert driver.outcome(EXITED).stopped


def test_files_to_be_written_are_handed_on_and_everything_else_is_refused() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    [save] = driver.feed(
        line(id=7, method="fs/write_text_file", params={"sessionId": "s1", "path": "/work/tree/a", "content": "x"})
    )
    assert isinstance(save, SaveFile)
    assert (save.path, save.text) == ("/work/tree/a", "x")
    assert json.loads(save.done.data) == {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert json.loads(save.refused.data)["error"]["code"] == -32602
    for method in ("fs/read_text_file", "terminal/create", "cursor/ask_question"):
        effects = driver.feed(line(id=8, method=method, params={"sessionId": "s1", "path": "/work/tree/a"}))
        assert written(effects)[0]["error"]["code"] == -32601
        assert bool(of(Unread, effects)) == (method == "cursor/ask_question")


def test_a_form_becomes_questions_and_its_answers_the_forms_content() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    schema = {
        "type": "object",
        "properties": {
            "colour": {"type": "string", "title": "Colour", "oneOf": [{"const": "r", "title": "Red"}]},
            "count": {"type": "integer", "description": "How many?"},
            "sure": {"type": "boolean"},
            "parts": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        },
        "required": ["colour"],
    }
    params = {"sessionId": "s1", "mode": "form", "message": "Tell me", "requestedSchema": schema}
    [asked] = of(Asked, driver.feed(line(id=9, method="elicitation/create", params=params)))
    assert (asked.kind, asked.title) == ("question", "Tell me")
    assert [(q.id, q.choices, q.several, q.free) for q in asked.questions] == [
        ("colour", ("Red",), False, False),
        ("count", (), False, True),
        ("sure", ("yes", "no"), False, False),
        ("parts", ("a", "b"), True, False),
    ]
    for wrong in ({}, {"colour": ("Blue",)}, {"colour": ("Red",), "count": ("many",)}):
        assert [type(effect) for effect in driver.take(Answer(asked.id, answers=wrong))] == [Remark]
    answers = {"colour": ("Red",), "count": ("3",), "sure": ("no",), "parts": ("a", "b")}
    effects = driver.take(Answer(asked.id, answers=answers))
    assert written(effects)[0]["result"] == {
        "action": "accept",
        "content": {"colour": "r", "count": 3, "sure": False, "parts": ["a", "b"]},
    }
    assert Withdrawn(id=asked.id) in effects
    url = {"sessionId": "s1", "mode": "url", "message": "Go", "elicitationId": "e", "url": "https://example.org"}
    declined = driver.feed(line(id=10, method="elicitation/create", params=url))
    assert written(declined)[0]["result"] == {"action": "decline"}


def test_an_agent_takes_back_its_own_request() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    driver.feed(permission("execute", "/work/tree/a.py"))
    effects = driver.feed(line(method="$/cancel_request", params={"requestId": "p1"}))
    assert Withdrawn(id="ask-1") in effects
    assert written(effects)[0]["error"]["code"] == -32800


def test_an_agent_that_cannot_resume_is_told_anew() -> None:
    driver = Acp().driver(job(resume="old", message="and tests"))
    driver.begin()
    effects = [*driver.feed(line(id=1, result=INITIALIZED)), *driver.feed(line(id=2, result={"sessionId": "s2"}))]
    assert "told the task anew" in of(Remark, effects)[0].text
    assert of(TurnBegan, effects)[0].prompt == "Create hello.txt\n\nand tests"
    assert of(Began, effects)[0].agent_session == "s2"


def test_a_lost_conversation_is_told_anew() -> None:
    driver = Acp().driver(job(resume="old"))
    driver.begin()
    can_resume = {**INITIALIZED, "agentCapabilities": {"sessionCapabilities": {"resume": {}}}}
    [body] = written(driver.feed(line(id=1, result=can_resume)))
    assert (body["method"], body["params"]["sessionId"]) == ("session/resume", "old")
    effects = driver.feed(line(id=2, error={"code": -32002, "message": "Resource not found"}))
    assert "Resource not found" in of(Remark, effects)[0].text
    assert written(effects)[0]["method"] == "session/new"


@pytest.mark.parametrize(
    ("error", "kind", "fatal"),
    [
        ({"code": -32000, "message": "Authentication required"}, "auth", True),
        ({"code": -32603, "message": "You exceeded your current quota"}, "quota", True),
        ({"code": 429, "message": "slow down"}, "rate_limit", False),
        ({"code": -32603, "message": "Internal error", "data": {"details": "fetch failed"}}, "network", False),
        ({"code": -32603, "message": "Overloaded"}, "overloaded", False),
        ({"code": -32603, "message": "prompt is too long: 300000 tokens"}, "context", False),
        ("nonsense", "agent", False),
    ],
)
def test_errors_of_a_turn_have_a_kind_and_only_some_are_final(error: object, kind: str, fatal: bool) -> None:
    driver = Acp().driver(job("gemini"))
    in_turn(driver)
    driver.take(Say("m1", "and then?"))
    effects = driver.feed(line(id=3, error=error))
    [trouble] = of(Trouble, effects)
    assert (trouble.kind, trouble.fatal, trouble.account) == (kind, fatal, "google")
    assert of(TurnEnded, effects)[0].stop == "error"
    assert bool(of(GiveUp, effects)) == fatal
    assert bool(of(Delivered, effects)) == (not fatal)
    assert not driver.outcome(EXITED).ok


def test_reasons_and_updates_that_are_not_known_are_said_and_end_nothing_wrongly() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    assert "hologram" in of(Unread, driver.feed(update(sessionUpdate="hologram")))[0].why
    assert of(Unread, driver.feed(line(method="vendor/news", params={})))
    assert of(Unread, driver.feed(b"Debugger attached.\n"))
    effects = driver.feed(line(id=3, result={"stopReason": "bored"}))
    assert "bored" in of(TurnEnded, effects)[0].text
    assert of(TurnEnded, effects)[0].stop == "error"
    assert not driver.outcome(EXITED).ok


@pytest.mark.parametrize(
    ("stop", "ok"), [("end_turn", True), ("refusal", False), ("max_tokens", False), ("max_turn_requests", False)]
)
def test_only_the_end_of_the_turn_is_a_success(stop: str, ok: bool) -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    driver.feed(line(id=3, result={"stopReason": stop}))
    assert driver.outcome(EXITED).ok == ok
    assert driver.outcome(End(None, 15, False, "stopped")).ok == ok


def test_an_end_without_the_end_of_the_turn_is_a_failure_with_its_last_complaint() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    outcome = driver.outcome(End(0, None, False, "exited", complaints="one\nout of memory\n\n"))
    assert (outcome.ok, outcome.reason) == (False, "It ended without finishing its turn: out of memory")
    assert driver.outcome(End(None, 15, False, "stopped")).stopped
    other = Acp().driver(job())
    other.begin()
    effects = other.feed(line(id=1, result={**INITIALIZED, "protocolVersion": 7}))
    assert of(GiveUp, effects)
    assert "version 7" in other.outcome(EXITED).reason


def test_plans_thoughts_and_context_are_reported() -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    entries = [{"content": "look", "priority": "high", "status": "in_progress"}]
    effects = driver.feed(
        update(sessionUpdate="agent_thought_chunk", content={"type": "text", "text": "Hm."})
        + update(sessionUpdate="plan", entries=entries)
        + update(sessionUpdate="usage_update", used=10, size=100)
    )
    assert [type(e) for e in effects] == [Thought, Thought, Planned, Context]
    assert of(Thought, effects)[-1].text == "Hm."
    assert of(Planned, effects)[0].entries[0].status == "in_progress"


def test_every_preset_launches_with_an_input_that_stays_open() -> None:
    for preset in QUIRKS:
        launch = Acp().launch(("agent", "acp"), job(preset, model="big"))
        assert launch.stdin == "fifo"
        assert ("agent", "acp") in (launch.argv[:2], launch.argv[4:6])
    assert Acp().launch(("gemini", "--acp"), job("gemini", model="big")).argv[-2:] == ("--model", "big")
    asks = Acp().launch(("opencode", "acp"), job("opencode-acp")).env
    assert json.loads(asks["OPENCODE_PERMISSION"])["bash"] == "ask"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FRAMES = [frame for name in ALL_SAMPLES for frame in (SAMPLES / name).read_bytes().splitlines(keepends=True)]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A real message with one of its values replaced by something else."""
    frame = json.loads(draw(st.sampled_from(FRAMES)))
    place: Any = frame
    for _ in range(draw(st.integers(0, 5))):
        keys = list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or draw(st.booleans()):
            place[key] = draw(JSON)
            break
        place = place[key]
    return json.dumps(frame).encode() + b"\n"


PIECES = st.one_of(
    st.sampled_from(FRAMES),
    mangled(),
    st.sampled_from(FRAMES).flatmap(lambda frame: st.integers(0, len(frame)).map(lambda cut: frame[:cut])),
    st.binary(max_size=40),
    st.just(b"[" * 2000 + b"\n"),
    st.just(b'{"method":"session/update","params":' + b'{"a":' * 900 + b"1" + b"}" * 901 + b"\n"),
)
COMMANDS = st.one_of(
    st.builds(Say, st.text(max_size=3), st.text(max_size=5)),
    st.builds(
        Answer,
        st.sampled_from(["ask-1", "ask-2", "x"]),
        st.none() | st.sampled_from(["allow_once", "proceed_once", "once", "reject", "cancel", "decline"]),
        st.dictionaries(st.text(max_size=3), st.tuples(st.text(max_size=3)), max_size=2),
    ),
    st.builds(Interrupt),
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(QUIRKS)),
    st.sampled_from(["ask", "edits", "all"]),
    st.booleans(),
    st.lists(PIECES | COMMANDS, max_size=30),
    st.integers(1, 50),
)
def test_garbage_never_raises_and_a_replay_of_it_is_the_same(
    preset: str, permission_mode: PermissionMode, resumes: bool, pieces: list[bytes | Command], size: int
) -> None:
    made = job(preset, permission=permission_mode, resume="old" if resumes else None)
    driver = Acp().driver(made)
    effects = list(driver.begin())
    data, journal = b"", Journal()
    for piece in pieces:
        if isinstance(piece, bytes):
            data += piece
            effects += driver.feed(piece)
        else:
            journal.append((len(data), piece))
            effects += driver.take(piece)
    effects += driver.close()
    driver.outcome(EXITED)
    again = replay(Acp().driver(made), data, journal, size)
    assert repr(again) == repr(effects)
    asked = [asked.id for asked in of(Asked, effects)]
    assert [withdrawn.id for withdrawn in of(Withdrawn, effects)] == asked or sorted(asked) == sorted(
        withdrawn.id for withdrawn in of(Withdrawn, effects)
    )


@given(st.binary(min_size=1, max_size=60).filter(lambda data: data.strip(b" \t\r\n\x0b\x0c") != b""))
def test_bytes_that_are_no_message_are_shown(data: bytes) -> None:
    driver = Acp().driver(job())
    in_turn(driver)
    shown = [*driver.feed(data.replace(b"\n", b" ") + b"\n"), *driver.close()]
    assert len(of(Unread, shown)) == 1


@pytest.mark.slow
def test_a_small_agent_made_with_the_protocols_own_package_is_driven_to_the_end(tmp_path: Path) -> None:
    worktree = tmp_path / "tree"
    worktree.mkdir()
    agent = Path(__file__).parents[1] / "support" / "acp_agent.py"
    work = Job(session="s", task="t", title="", prompt="go", worktree=str(worktree), port=0, files=str(tmp_path))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    with driven(Acp(), (sys.executable, str(agent)), work, environment, tmp_path / "run") as run:
        question = run.until_a(Asked)
        assert question.kind == "question"
        run.take(Answer(question.id, answers={"name": ("made.txt",)}))
        asked = run.until_a(Asked)
        assert asked.diffs == (FileDiff(path="made.txt", old=None, new="made\n"),)
        run.take(Say("m1", "more"))
        run.take(Answer(asked.id, "yes"))
        first = run.until_a(TurnEnded)
        assert first.text == "Wrote made.txt."
        assert (worktree / "made.txt").read_text() == "made\n"
        run.until_a(Asked)
        run.take(Interrupt())
        assert run.until_a(TurnEnded).stop == "cancelled"
        outcome = run.finish()
        assert outcome.stopped
        assert Delivered(id="m1") in run.reports
        assert of(Unread, run.reports) == []
        assert run.replayed(Acp().driver(work)) == run.effects
