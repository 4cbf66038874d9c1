"""Codex's two translators: recorded streams to their end, any chunking alike, garbage without a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plait.agents.adapter import (
    Adapter,
    Answer,
    Command,
    Effect,
    End,
    GiveUp,
    HangUp,
    Interrupt,
    Job,
    Outcome,
    Say,
    Write,
)
from plait.agents.codex import MODES, Codex
from plait.agents.codex_exec import CodexExec, has_app_server
from plait.agents.codex_notices import IGNORED, SUPERFLUOUS
from plait.agents.codex_values import bare_command, delay_s, limit, trouble_kind
from plait.core.reports import (
    Asked,
    Began,
    Context,
    Delivered,
    FileDiff,
    Limit,
    Message,
    Planned,
    Remark,
    Report,
    Retry,
    Thought,
    ToolBegan,
    ToolEnded,
    Trouble,
    TroubleKind,
    TurnBegan,
    TurnEnded,
    Unread,
    Used,
    Withdrawn,
)

SAMPLES = Path(__file__).parent / "samples" / "codex"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.jsonl"))
EXITED = End(code=0, signal=None, unknown=False, reason="exited")
JOB = Job(session="s", task="t", title="Hello", prompt="Create hello.txt", worktree="/w", port=0, permission="edits")


@dataclass(frozen=True)
class Sample:
    """A recorded stream, with what the user did at its places."""

    adapter: Adapter
    job: Job
    parts: tuple[bytes | Command, ...]

    def played(self, size: int | None = None) -> tuple[list[Effect], Outcome]:
        driver = self.adapter.driver(self.job)
        effects = list(driver.begin())
        for part in self.parts:
            if isinstance(part, bytes):
                step = size or max(1, len(part))
                for start in range(0, len(part), step):
                    effects += driver.feed(part[start : start + step])
            else:
                effects += driver.take(part)
        return [*effects, *driver.close()], driver.outcome(EXITED)


def sample(name: str) -> Sample:
    parts: list[bytes | Command] = []
    job = JOB
    for line in (SAMPLES / f"{name}.jsonl").read_bytes().splitlines(keepends=True):
        if not line.startswith(b"# "):
            parts.append(line)
            continue
        match json.loads(line[2:]):
            case {"job": known}:
                job = replace(JOB, **known)
            case {"say": {"id": identity, "text": text}}:
                parts.append(Say(identity, text))
            case {"answer": known}:
                answers = {key: tuple(said) for key, said in known.pop("answers", {}).items()}
                parts.append(Answer(answers=answers, **known))
            case {"interrupt": _}:
                parts.append(Interrupt())
            case other:
                raise AssertionError(f"{name} has an unknown line: {other}")
    return Sample(CodexExec() if name.startswith("exec-") else Codex(), job, tuple(parts))


def of(effects: Sequence[Effect], *kinds: type[Report]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kinds)]


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_is_read_to_its_end(name: str) -> None:
    effects, _ = sample(name).played()
    assert not of(effects, Unread)
    assert len(of(effects, TurnBegan)) == len(of(effects, TurnEnded)) or name == "gone"
    assert sorted(report.id for report in of(effects, Asked)) == sorted(report.id for report in of(effects, Withdrawn))
    began, ended = of(effects, ToolBegan), of(effects, ToolEnded)
    assert sorted(report.id for report in began) == sorted(report.id for report in ended)
    writes = [effect.id for effect in effects if isinstance(effect, Write)]
    assert len(set(writes)) == len(writes)
    assert isinstance(effects[-1], HangUp | GiveUp)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_stream_means_the_same_however_it_is_cut(name: str, size: int) -> None:
    recorded = sample(name)
    assert recorded.played(size) == recorded.played()


@pytest.mark.parametrize(
    ("name", "ok", "stopped", "trouble", "reason"),
    [
        ("edit", True, False, None, "Done."),
        ("resume", True, False, None, "Done."),
        ("0.100", True, False, None, "Done."),
        ("interrupt", False, True, None, "Stopped."),
        ("interrupt-asked", False, True, None, "Stopped."),
        ("401", False, False, "auth", "The model provider scripted refuses Codex's key (unexpected status 401"),
        (
            "no-login",
            False,
            False,
            "auth",
            "Codex is not logged in (It has no login and no API key): run `codex",
        ),
        ("quota", False, False, "quota", "You\u2019ve hit your usage limit"),
        ("gone", False, False, "agent", "Codex cannot go on with the conversation: no rollout found"),
        ("refused", False, False, "agent", "{"),
        ("exec-success", True, False, None, "Done."),
        ("exec-429x2-then-ok", True, False, None, "Done."),
        ("exec-429-final", False, False, "rate_limit", "exceeded retry limit"),
        ("exec-401", False, False, "auth", "Codex is not logged in"),
        ("exec-nokey", False, False, "auth", "Codex is not logged in (Missing environment variable"),
        ("exec-usage-limit", False, False, "quota", "You\u2019ve hit your usage limit"),
        ("exec-interrupt", False, True, None, "Stopped."),
    ],
)
def test_the_outcome_comes_from_the_stream(
    name: str, ok: bool, stopped: bool, trouble: TroubleKind | None, reason: str
) -> None:
    _, outcome = sample(name).played()
    assert (outcome.ok, outcome.stopped, outcome.trouble) == (ok, stopped, trouble)
    assert outcome.reason.startswith(reason)


def test_a_stream_that_breaks_off_has_failed_whatever_the_exit_code() -> None:
    recorded = sample("edit")
    driver = Codex().driver(recorded.job)
    driver.begin()
    for part in recorded.parts[:-1]:
        assert isinstance(part, bytes)
        driver.feed(part)
    complaint = "\x1b[31mERROR\x1b[0m core: the disk is full\n"
    assert driver.outcome(replace(EXITED, complaints=complaint)) == Outcome(
        False, "It ended without finishing its turn: ERROR core: the disk is full"
    )
    assert driver.outcome(replace(EXITED, reason="stopped")).stopped


def test_every_token_is_counted_once() -> None:
    names = ("input", "cache_read", "output", "reasoning")

    def sums(name: str) -> list[tuple[int, ...]]:
        return [tuple(getattr(used, key) for key in names) for used in of(sample(name).played()[0], Used)]

    assert sums("edit") == [(1203, 602, 41, 7), (1206, 604, 42, 8)]
    # The first process of this conversation used the numbers 0 and 1.
    assert sums("resume") == [(1212, 608, 44, 9), (1224, 616, 48, 10)]
    # 0.100 repeats the last numbers with every change of a limit, and at the beginning of a resumed conversation.
    assert [used[0] for used in sums("0.100")] == [3975, 4090, 4219]
    assert [used[0] for used in sums("0.100-resume")] == [6035]
    spent = of(sample("exec-resume").played()[0], Used)
    assert spent == [Used(scope="thread", input=36315, cache_read=500, output=210, reasoning=35)]


def test_context_and_limits_are_reported() -> None:
    effects, _ = sample("edit").played()
    assert of(effects, Context)[-1] == Context(used=1852, size=258400)
    limits = of(effects, Limit)
    assert len(limits) == 1, "limits that did not change are not told again"
    assert limits[0].account == "scripted"
    assert [(window.name, window.used, window.minutes) for window in limits[0].windows] == [
        ("5 hours", 0.42, 300),
        ("7 days", 0.17, 10080),
    ]


def test_a_request_shows_the_change_and_is_answered_once() -> None:
    effects, _ = sample("allow").played()
    asked = of(effects, Asked)[0]
    assert asked.diffs == (FileDiff(path="/home/ada/worktrees/task/notes.txt", new="one\ntwo\n"),)
    assert asked.title == "Create notes.txt"
    written = [effect for effect in effects if isinstance(effect, Write) and effect.id == "answer-0"]
    assert [json.loads(write.data) for write in written] == [{"id": 0, "result": {"decision": "accept"}}]


def test_words_that_go_with_a_refusal_are_steered_in() -> None:
    effects, _ = sample("deny").played()
    calls = [json.loads(effect.data) for effect in effects if isinstance(effect, Write)]
    assert [call["params"]["input"][0]["text"] for call in calls if call.get("method") == "turn/steer"] == [
        "Not like that."
    ]
    assert of(effects, ToolEnded)[0].status == "denied"


def test_an_mcp_tool_is_a_permission_and_its_form_is_questions() -> None:
    effects, _ = sample("mcp").played()
    tool, form, again = of(effects, Asked)
    assert (tool.kind, tool.tool, tool.input) == ("permission", "t.greet", '{"who": "me"}')
    assert [option.kind for option in tool.options] == [
        "allow_once",
        "allow_session",
        "allow_always",
        "reject_once",
        "cancel_turn",
    ]
    assert {row.id: row.choices for row in form.questions} == {"big": ("yes", "no"), "colour": ("red", "blue"), "n": ()}
    assert again.kind == "question"
    answers = [json.loads(e.data)["result"] for e in effects if isinstance(e, Write) and e.id.startswith("answer-")]
    assert answers == [
        {"action": "accept", "content": {}, "_meta": {"persist": "session"}},
        {"action": "accept", "content": {"big": True, "colour": "blue", "n": 3}},
        {"action": "decline"},
    ]


def test_a_question_is_answered_by_its_choices() -> None:
    effects, _ = sample("question").played()
    question = of(effects, Asked)[0].questions[0]
    assert (question.text, question.choices, question.free) == ("Which colour?", ("Red", "Blue"), True)
    answer = next(json.loads(e.data) for e in effects if isinstance(e, Write) and e.id.startswith("answer-"))
    assert answer["result"] == {"answers": {question.id: {"answers": ["Blue"]}}}


def test_an_answer_that_is_none_leaves_the_request_waiting() -> None:
    recorded = sample("allow")
    driver = Codex().driver(recorded.job)
    driver.begin()
    asked = [
        effect
        for part in recorded.parts
        if isinstance(part, bytes)
        for effect in driver.feed(part)
        if isinstance(effect, Asked)
    ]
    fresh = Codex().driver(recorded.job)
    fresh.begin()
    for part in recorded.parts:
        if isinstance(part, Answer):
            break
        assert isinstance(part, bytes)
        fresh.feed(part)
    assert isinstance(fresh.take(Answer(asked[0].id, "nonsense"))[0], Remark)
    assert not fresh.take(Answer("another", "accept"))
    assert Withdrawn(id=asked[0].id) in fresh.take(Answer(asked[0].id, "decline"))


def test_what_was_steered_before_an_interrupt_is_not_called_delivered() -> None:
    effects, _ = sample("interrupt").played()
    assert not of(effects, Delivered)
    assert of(effects, ToolEnded)[0].status == "failed"
    assert of(sample("steer").played()[0], Delivered) == [Delivered(id="m1")]
    assert of(sample("0.100").played()[0], Delivered) == [Delivered(id="m1")]


def test_a_refused_steer_is_told_when_the_turn_is_over() -> None:
    driver = started()
    steer = json.loads(driver.take(Say("m1", "More."))[0].data)
    assert steer["method"] == "turn/steer"
    refused = line({"id": steer["id"], "error": {"code": -32600, "message": "no active turn to steer"}})
    assert driver.feed(refused) == [Remark(text="It will be told when this turn is over.")]
    effects = driver.feed(completed("turn-1"))
    following = next(json.loads(effect.data) for effect in effects if isinstance(effect, Write))
    assert following["method"] == "turn/start"
    assert following["params"]["clientUserMessageId"] == "m1"
    assert HangUp() not in effects
    assert of(driver.feed(began("turn-2")), Delivered, TurnBegan) == [TurnBegan(prompt="More."), Delivered(id="m1")]
    assert driver.feed(completed("turn-2"))[-1] == HangUp()
    assert not driver.take(Say("m2", "Too late.")), "it stays undelivered"


def test_a_message_that_codex_dropped_begins_the_next_turn() -> None:
    driver = started()
    driver.take(Say("m1", "More."))
    effects = driver.feed(completed("turn-1"))
    assert [json.loads(e.data)["method"] for e in effects if isinstance(e, Write)] == ["turn/start"]


def test_an_unknown_request_is_refused_at_once() -> None:
    effects = started().feed(line({"id": 5, "method": "item/tool/call", "params": {"tool": "x"}}))
    assert json.loads(effects[0].data)["error"]["code"] == -32601
    assert isinstance(effects[1], Unread)


def test_an_unknown_notification_and_an_unknown_item_are_shown() -> None:
    driver = started()
    assert "unknown kind" in of(driver.feed(line({"method": "thread/new/thing", "params": {}})), Unread)[0].why
    item = {"type": "hologram", "id": "h1"}
    told = line({"method": "item/completed", "params": {"threadId": "thread", "item": item}})
    assert "“hologram”" in of(driver.feed(told), Unread)[0].why


def test_what_helping_agents_do_does_not_end_the_turn() -> None:
    driver = started()
    other = {"threadId": "helper", "turn": {"id": "h", "status": "completed", "items": []}}
    assert driver.feed(line({"method": "turn/started", "params": other})) == []
    usage = {"last": {"inputTokens": 5, "cachedInputTokens": 1, "outputTokens": 2}, "total": {"inputTokens": 5}}
    told = {"threadId": "helper", "turnId": "h", "tokenUsage": usage}
    spent = driver.feed(line({"method": "thread/tokenUsage/updated", "params": told}))
    assert spent == [Used(scope="request", input=4, cache_read=1, output=2)]
    said = {"threadId": "helper", "item": {"type": "agentMessage", "id": "a", "text": "Found it."}}
    assert isinstance(driver.feed(line({"method": "item/completed", "params": said}))[0], Thought)
    assert driver.feed(line({"method": "turn/completed", "params": other})) == []


def test_items_that_no_sample_has() -> None:
    driver = started()

    def told(item: dict[str, Any]) -> list[Effect]:
        return list(driver.feed(line({"method": "item/completed", "params": {"threadId": "thread", "item": item}})))

    assert told({"type": "reasoning", "id": "r", "summary": ["Think."], "content": []}) == [Thought(text="Think.")]
    assert told({"type": "contextCompaction", "id": "c"})[0].text.startswith("The conversation was compacted")  # type: ignore[union-attr]  # a Remark
    moved = {"path": "/w/a.py", "kind": {"type": "update", "move_path": "/w/b.py"}, "diff": "@@\n-a\n+b\n"}
    gone = {"path": "/w/c.py", "kind": {"type": "delete"}, "diff": "old\n"}
    one, two = told({"type": "fileChange", "id": "f", "changes": [moved, gone], "status": "completed"})
    assert isinstance(one, ToolBegan)
    assert one.title == "Move a.py to /w/b.py, Delete c.py"
    assert isinstance(two, ToolEnded)
    assert two.diffs == (FileDiff(path="/w/a.py", unified="@@\n-a\n+b\n"), FileDiff(path="/w/c.py", old="old\n"))
    search = told({"type": "webSearch", "id": "w", "query": "plait", "action": None, "results": None})
    assert isinstance(search[0], ToolBegan)
    assert (search[0].kind, search[0].title) == ("fetch", "plait")
    plan = {
        "threadId": "thread",
        "plan": [{"step": "One", "status": "completed"}, {"step": "Two", "status": "inProgress"}],
    }
    entries = of(driver.feed(line({"method": "turn/plan/updated", "params": plan})), Planned)[0].entries
    assert [(entry.text, entry.status) for entry in entries] == [("One", "completed"), ("Two", "in_progress")]


def test_permissions_become_policies_and_commits_are_not_asked_for() -> None:
    for permission, (policy, sandbox) in MODES.items():
        driver = Codex().driver(replace(JOB, permission=permission, model="gpt-x"))
        params = opened(driver)["params"]
        assert (params["approvalPolicy"], params["sandbox"]) == (policy, sandbox)
        assert params["model"] == "gpt-x"
        assert params["developerInstructions"].startswith("Be brief.\n\nDo not commit")
        assert "danger-full-access" not in str(params)
    launch = Codex().launch(("/bin/codex", "--enable", "x"), JOB)
    assert launch.argv == ("/bin/codex", "--enable", "x", "app-server", "-c", "check_for_update_on_startup=false")
    assert (launch.stdin, launch.stderr) == ("fifo", "apart")


def test_exec_gets_the_message_on_its_command_line() -> None:
    job = replace(JOB, resume="thread", message="--help", model="m", permission="all")
    argv = CodexExec().launch(("codex",), job).argv
    assert argv[:3] == ("codex", "exec", "--json")
    assert argv[-4:] == ("resume", "thread", "--", "--help")
    assert argv[argv.index("--sandbox") + 1] == "workspace-write"


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ("codex-cli 0.169.0", True),
        ("codex-cli 0.100.0", True),
        ("codex-cli 0.99.0", False),
        ("codex-cli 1.2", True),
        ("0.20", False),
        (None, True),
        ("who knows", True),
    ],
)
def test_the_version_decides_how_codex_is_driven(version: str | None, has: bool) -> None:
    assert has_app_server(version) is has


@pytest.mark.parametrize(
    ("info", "message", "kind"),
    [
        ("usageLimitExceeded", "", "quota"),
        ("contextWindowExceeded", "", "context"),
        ("serverOverloaded", "", "overloaded"),
        ("unauthorized", "", "auth"),
        ("sandboxError", "", "sandbox"),
        ({"responseStreamDisconnected": {"httpStatusCode": 429}}, "", "rate_limit"),
        ({"httpConnectionFailed": {"httpStatusCode": 503}}, "", "overloaded"),
        ({"httpConnectionFailed": {"httpStatusCode": None}}, "", "network"),
        ("other", "unexpected status 401 Unauthorized", "auth"),
        (None, "something else", "agent"),
        (["strange"], "", "agent"),
    ],
)
def test_errors_have_kinds(info: object, message: str, kind: str) -> None:
    assert trouble_kind(info, message) == kind


def test_small_readings() -> None:
    assert delay_s("Rate limit reached. Please try again in 11.054s.") == pytest.approx(11.054)
    assert delay_s("try again in 250ms") == pytest.approx(0.25)
    assert delay_s("try again at 11:03 PM") is None
    assert bare_command("/bin/bash -lc 'echo \"a b\"'") == 'echo "a b"'
    assert bare_command("unbalanced 'quote") == "unbalanced 'quote"
    full = {"primary": {"usedPercent": 100, "windowDurationMins": 300, "resetsAt": 5}}
    assert limit("openai", full).status == "rejected"
    assert limit("openai", {"primary": {"usedPercent": 93}}).status == "warning"
    assert not IGNORED & {"error", "turn/completed", "warning"}
    assert set(SUPERFLUOUS) <= IGNORED


def test_exec_retries_are_reported_and_a_refused_key_ends_it() -> None:
    retries = of(sample("exec-429x2-then-ok").played()[0], Retry)
    assert [(retry.kind, retry.attempt, retry.most) for retry in retries] == [
        ("rate_limit", 1, 2),
        ("rate_limit", 2, 2),
    ]
    effects, _ = sample("exec-401").played()
    assert of(effects, Trouble)[0].fatal
    assert GiveUp() in effects
    assert [message.text for message in of(sample("exec-success").played()[0], Message)] == [
        "I will create hello.txt.",
        "Done 1.",
    ]


def line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def began(turn: str) -> bytes:
    return line({"method": "turn/started", "params": {"threadId": "thread", "turn": {"id": turn}}})


def completed(turn: str) -> bytes:
    ended = {"id": turn, "status": "completed", "items": []}
    return line({"method": "turn/completed", "params": {"threadId": "thread", "turn": ended}})


def opened(driver: Any) -> Any:
    """What the driver opens the conversation with."""
    driver.begin()
    driver.feed(line({"id": 1, "result": {}}))
    driver.feed(line({"id": 2, "result": {"account": {"type": "chatgpt"}, "requiresOpenaiAuth": True}}))
    config = {"config": {"developer_instructions": "Be brief."}}
    return json.loads(driver.feed(line({"id": 3, "result": config}))[0].data)


def started() -> Any:
    """A driver in the middle of its first turn."""
    driver = Codex().driver(JOB)
    opened(driver)
    answer = {"thread": {"id": "thread"}, "model": "m", "modelProvider": "openai"}
    effects = driver.feed(line({"id": 4, "result": answer}))
    assert of(effects, Began)
    driver.feed(line({"id": 5, "result": {"turn": {"id": "turn-1"}}}))
    driver.feed(began("turn-1"))
    return driver


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, tuple[bytes | Command, ...]]:
    """A recorded stream that was cut, shuffled, doubled, or had values and bytes of it replaced."""
    name = draw(st.sampled_from(NAMES))
    parts = list(sample(name).parts)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(parts) - 1))
        part = parts[place]
        match draw(st.sampled_from(["drop", "double", "move", "cut", "noise", "value", "interrupt", "say"])):
            case "drop" if len(parts) > 1:
                del parts[place]
            case "double":
                parts.insert(place, part)
            case "move":
                parts.insert(draw(st.integers(0, len(parts) - 1)), parts.pop(place))
            case "cut" if isinstance(part, bytes):
                parts[place] = part[: draw(st.integers(0, len(part)))]
            case "noise":
                parts.insert(place, draw(st.binary(max_size=40)) + draw(st.sampled_from([b"", b"\n"])))
            case "value" if isinstance(part, bytes):
                parts[place] = _changed(part, draw)
            case "interrupt":
                parts.insert(place, Interrupt())
            case "say":
                parts.insert(place, Say(f"m{place}", draw(st.text(max_size=5))))
            case _:
                pass
    return name, tuple(parts)


def _changed(part: bytes, draw: st.DrawFn) -> bytes:
    """The line with one value in it replaced by any other."""
    try:
        message = json.loads(part)
    except ValueError:
        return part
    holder, steps = message, 0
    while isinstance(holder, dict) and holder and steps < 6:
        key = draw(st.sampled_from(sorted(holder)))
        if isinstance(holder[key], dict) and holder[key] and draw(st.booleans()):
            holder, steps = holder[key], steps + 1
            continue
        holder[key] = draw(json_values)
        break
    return json.dumps(message).encode() + b"\n"


@given(damaged(), st.sampled_from([None, 1, 50]))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_damaged_stream_never_raises(case: tuple[str, tuple[bytes | Command, ...]], size: int | None) -> None:
    name, parts = case
    effects, outcome = replace(sample(name), parts=parts).played(size)
    assert outcome.reason
    for effect in effects:
        if not isinstance(effect, Write | HangUp | GiveUp):
            assert effect.model_validate_json(effect.model_dump_json()) == effect  # type: ignore[union-attr]  # a report


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
@example([b"\xff\xfe\n", b'{"method":"error","params":[]}\n'], False)
@example([b"[1]\n", b'"x"\n', b"nonsense"], True)
@settings(max_examples=150, deadline=None)
def test_garbage_is_shown_and_not_dropped(pieces: list[bytes], exec_: bool) -> None:
    adapter: Adapter = CodexExec() if exec_ else Codex()
    driver = adapter.driver(JOB)
    effects = [*driver.begin()]
    for piece in pieces:
        effects += driver.feed(piece)
    effects += driver.close()
    lines = [row for row in b"".join(pieces).split(b"\n") if row.strip()]
    assert len(of(effects, Unread, Trouble)) == len(lines)
