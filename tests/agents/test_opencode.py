"""What OpenCode's bridge writes becomes reports, whole or in pieces, once or twice; what cannot be read is said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.agents.adapter import Answer, Effect, End, GiveUp, HangUp, Interrupt, Job, Say, Write
from plait.agents.opencode import OpenCode
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

SAMPLES = Path(__file__).parent / "samples" / "opencode"
RECORDED = {path.stem: path.read_bytes() for path in sorted(SAMPLES.glob("*.jsonl"))}
ENDED = End(0, None, unknown=False, reason="exited")
KILLED = End(None, 9, unknown=False, reason="exited")
SESSION = "ses_1"


def job(**fields: Any) -> Job:
    given_: dict[str, Any] = {"prompt": "Write hello.txt.", "message": None, **fields}
    return Job(session="s", task="t", title="Say hello", worktree="/home/ada/worktrees/task", port=4700, **given_)


def line(**fields: object) -> bytes:
    return json.dumps({**fields, "at": 1000.0}).encode() + b"\n"


def event(kind: str, **properties: object) -> bytes:
    return line(type="event", event={"id": "evt", "type": kind, "properties": {"sessionID": SESSION, **properties}})


def part(kind: str, **fields: object) -> bytes:
    return event("message.part.updated", part={"id": "prt", "messageID": "msg_a", "type": kind, **fields})


def tool(status: str, name: str = "bash", **state: object) -> bytes:
    return part("tool", tool=name, callID="call", state={"status": status, "input": {"command": "ls"}, **state})


def user(text: str, number: int = 1) -> bytes:
    name = f"msg_u{number}"
    return event("message.updated", info={"id": name, "role": "user"}) + event(
        "message.part.updated", part={"id": f"prt_u{number}", "messageID": name, "type": "text", "text": text}
    )


READY = line(type="ready", session=SESSION)
BUSY = event("session.status", status={"type": "busy"})
IDLE = event("session.status", status={"type": "idle"}) + event("session.idle")
STARTED = READY + user("Write hello.txt.") + BUSY
ANSWERING = event(
    "message.updated", info={"id": "msg_a", "role": "assistant", "providerID": "anthropic", "modelID": "claude"}
)
ASKED = event(
    "permission.asked",
    id="per_1",
    permission="bash",
    patterns=["ls"],
    metadata={"command": "ls"},
    always=["ls *"],
    tool={"callID": "call"},
)


def error(name: str, **data: object) -> bytes:
    return event("session.error", error={"name": name, "data": {"message": "It went wrong", **data}})


def played(*data: bytes, **fields: Any) -> list[Effect]:
    driver = OpenCode().driver(job(**fields))
    driver.begin()
    return [effect for piece in data for effect in driver.feed(piece)]


def of(effects: Iterable[Effect], *kinds: type) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kinds)]


def told(write: object) -> dict[str, Any]:
    assert isinstance(write, Write)
    found = json.loads(write.data)
    assert isinstance(found, dict)
    return found


def test_the_bridge_is_launched_with_the_command_and_its_host_before_it() -> None:
    launch = OpenCode().launch(("/opt/opencode", "--pure=no"), job())
    assert launch.argv[:4] == (sys.executable, "-I", "-S", "-E")
    assert launch.argv[4].endswith("opencode_bridge.py")
    assert launch.argv[5:] == ("/opt/opencode", "--pure=no")
    assert launch.host is not None
    assert launch.host.argv[4].endswith("opencode_host.py")
    assert Path(launch.argv[4]).is_file()
    assert Path(launch.host.argv[4]).with_name("opencode_plugin.js").is_file()


def test_it_opens_the_conversation_and_says_the_first_thing() -> None:
    fresh = [told(write) for write in OpenCode().driver(job(permission="edits", model="a/b")).begin()]
    assert fresh[0] == {"op": "open", "permission": "edits", "resume": None, "title": "Say hello"}
    assert fresh[1] == {"op": "prompt", "id": "opening", "text": "Write hello.txt.", "model": "a/b"}
    resumed = [told(write) for write in OpenCode().driver(job(resume="ses_9", message="More.")).begin()]
    assert (resumed[0]["resume"], resumed[1]["text"]) == ("ses_9", "More.")


@pytest.mark.parametrize("name", RECORDED)
def test_every_recording_is_understood_to_its_end_in_pieces_of_any_size(name: str) -> None:
    data = RECORDED[name]
    whole = played(data)
    assert not of(whole, Unread)
    assert isinstance(whole[0], Began)
    assert of(whole, TurnEnded)
    assert len(of(whole, HangUp, GiveUp)) == 1
    for size in (1, 113, 4096):
        assert played(*(data[at : at + size] for at in range(0, len(data), size))) == whole


def test_recordings_cover_what_matters() -> None:
    seen = {type(effect) for data in RECORDED.values() for effect in played(data)}
    assert seen >= {
        Asked,
        Context,
        GiveUp,
        HangUp,
        Message,
        Planned,
        Retry,
        ToolBegan,
        ToolEnded,
        Trouble,
        Used,
        Withdrawn,
    }


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_told_twice_is_reported_once(name: str) -> None:
    kept = [one for one in RECORDED[name].splitlines(keepends=True) if b"message.part.delta" not in one]
    facts = [one for one in kept if b'"message.' in one or b'"permission.' in one or b'"question.' in one]
    once = played(*kept)
    twice = played(
        *(piece for one in kept for piece in ([one, one] if one in facts and b".asked" not in one else [one]))
    )
    assert twice == once


def test_a_turn_that_ends_well_is_well_however_the_process_ends() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    said = part("text", text="Done.", time={"start": 1, "end": 2})
    effects = driver.feed(STARTED + ANSWERING + said + IDLE)
    assert effects == [
        Began(agent_session=SESSION),
        TurnBegan(prompt="Write hello.txt."),
        Message(text="Done."),
        TurnEnded(stop="end_turn", text="Done."),
        HangUp(),
    ]
    assert driver.outcome(ENDED).ok
    assert driver.outcome(End(None, 15, unknown=False, reason="stopped")).ok


def test_a_process_that_ends_in_the_middle_of_a_turn_has_failed() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    driver.feed(STARTED)
    outcome = driver.outcome(End(0, None, unknown=False, reason="exited", complaints="Traceback: no\n"))
    assert (outcome.ok, outcome.reason) == (False, "It ended without finishing its turn: Traceback: no")
    assert driver.outcome(End(0, None, unknown=False, reason="stopped")).stopped


def test_a_message_that_steers_is_delivered_when_it_has_arrived() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    driver.feed(STARTED)
    [write] = driver.take(Say("m1", "Be careful."))
    assert told(write) == {"op": "prompt", "id": "say-m1", "text": "Be careful.", "model": None}
    assert driver.feed(user("Be careful.", 2)) == [Delivered(id="m1")]
    assert of(driver.feed(IDLE), TurnEnded, HangUp) == [TurnEnded(stop="end_turn"), HangUp()]


def test_a_message_that_comes_too_late_to_steer_is_the_next_turn() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    driver.feed(STARTED)
    driver.take(Say("m1", "And now?"))
    assert driver.feed(IDLE) == [TurnEnded(stop="end_turn")]
    assert driver.feed(user("And now?", 2)) == [Delivered(id="m1"), TurnBegan(prompt="And now?")]
    assert driver.feed(BUSY + IDLE) == [TurnEnded(stop="end_turn"), HangUp()]
    assert driver.take(Say("m2", "Too late.")) == []


def test_what_opencode_writes_to_itself_is_no_message_of_the_users() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    driver.feed(STARTED)
    driver.take(Say("m1", "Be careful."))
    own = {"id": "prt_s", "messageID": "msg_s", "type": "text", "text": "Continue.", "synthetic": True}
    said = event("message.updated", info={"id": "msg_s", "role": "user"}) + event("message.part.updated", part=own)
    assert driver.feed(said) == []


def test_text_is_ended_before_a_tool_begins() -> None:
    delta = event("message.part.delta", messageID="msg_a", partID="prt_t", field="text", delta="I look.")
    full = {"id": "prt_t", "messageID": "msg_a", "type": "text", "text": "I look.", "time": {"end": 1}}
    effects = played(STARTED + ANSWERING + delta + tool("running") + event("message.part.updated", part=full))
    assert of(effects, Message, ToolBegan) == [
        Message(text="I look.", partial=True),
        Message(text="I look."),
        ToolBegan(id="call", name="bash", kind="execute", title="ls", input="ls"),
    ]


def test_thoughts_are_no_messages() -> None:
    begun = part("reasoning", text="", time={"start": 1})
    delta = event("message.part.delta", messageID="msg_a", partID="prt", field="text", delta="Hm")
    full = part("reasoning", text="Hm.", time={"start": 1, "end": 2})
    effects = played(STARTED + begun + delta + full)
    assert of(effects, Message, Thought) == [Thought(text="Hm", partial=True), Thought(text="Hm.")]


@pytest.mark.parametrize(
    ("option", "text", "reply"),
    [
        ("once", "", {"reply": "once"}),
        ("always", "", {"reply": "always"}),
        ("stop", "", {"reply": "reject"}),
        ("reject", "Not there.", {"reply": "reject", "message": "Not there."}),
    ],
)
def test_an_answer_is_what_opencode_wants_to_hear(option: str, text: str, reply: dict[str, str]) -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    [asked] = of(driver.feed(STARTED + tool("running") + ASKED), Asked)
    assert (asked.title, asked.tool_kind, asked.tool_id) == ("ls", "execute", "call")
    [write] = driver.take(Answer("per_1", option, text=text))
    assert told(write) == {"op": "permission", "request": "per_1", **reply}
    assert driver.feed(event("permission.replied", requestID="per_1", reply=reply["reply"])) == [Withdrawn(id="per_1")]
    assert driver.take(Answer("per_1", "once")) == []


def test_a_refused_tool_was_denied_and_may_end_the_turn() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    driver.feed(STARTED + tool("running") + ASKED)
    driver.take(Answer("per_1", "stop"))
    effects = driver.feed(tool("error", error="The user rejected permission to use this specific tool call.") + IDLE)
    assert of(effects, ToolEnded)[0].status == "denied"
    assert of(effects, TurnEnded)[0].stop == "cancelled"
    assert driver.outcome(ENDED).stopped


def test_a_refusal_without_words_still_tells_the_model_something() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    driver.feed(STARTED + ASKED)
    assert "refused" in told(driver.take(Answer("per_1", "reject"))[0])["message"]


def test_questions_are_answered_in_their_order_or_dismissed() -> None:
    cases: list[tuple[Answer, dict[str, Any]]] = [
        (Answer("que_1", answers={"1": ("so",), "0": ("A", "B")}), {"op": "question", "answers": [["A", "B"], ["so"]]}),
        (Answer("que_1", text="Whatever."), {"op": "question", "answers": [["Whatever."], []]}),
        (Answer("que_1"), {"op": "dismiss"}),
    ]
    questions = [
        {"question": "Which?", "header": "Pick", "options": [{"label": "A"}, {"label": "B"}]},
        {"question": "Why?"},
    ]
    for answer, reply in cases:
        driver = OpenCode().driver(job())
        driver.begin()
        [asked] = of(driver.feed(STARTED + event("question.asked", id="que_1", questions=questions)), Asked)
        assert [question.choices for question in asked.questions] == [("A", "B"), ()]
        assert told(driver.take(answer)[0]) == {**reply, "request": "que_1"}


def test_requests_end_with_their_turn_and_with_what_the_server_says_still_waits() -> None:
    assert of(played(STARTED + ASKED + IDLE), Withdrawn, TurnEnded)[0] == Withdrawn(id="per_1")
    assert of(played(STARTED + ASKED + line(type="pending", requests=["per_1"])), Withdrawn) == []
    assert of(played(STARTED + ASKED + line(type="pending", requests=[])), Withdrawn) == [Withdrawn(id="per_1")]


def test_an_interrupt_is_over_when_the_server_says_so_for_the_second_time() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    driver.feed(STARTED + tool("running"))
    assert told(driver.take(Interrupt())[0]) == {"op": "abort"}
    aborted = "ls\n<shell_metadata>\nUser aborted the command\n</shell_metadata>"
    effects = driver.feed(
        error("MessageAbortedError") + IDLE + tool("completed", output=aborted, metadata={"exit": None}) + IDLE
    )
    assert [type(effect) for effect in effects] == [ToolEnded, TurnEnded, HangUp]
    assert of(effects, ToolEnded)[0].status == "failed"
    assert driver.feed(line(type="aborted")) == []
    assert driver.outcome(KILLED).stopped


def test_an_interrupt_before_anything_began_ends_it_too() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    driver.take(Interrupt())
    assert driver.feed(READY + line(type="aborted"))[1:] == [TurnEnded(stop="cancelled", text="Stopped."), HangUp()]
    assert driver.outcome(ENDED).stopped


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (error("APIError", statusCode=401), "auth"),
        (error("ProviderAuthError", providerID="anthropic"), "auth"),
        (error("UnknownError", message="Anthropic API key is missing."), "auth"),
        (error("APIError", statusCode=429, responseBody='{"error": {"code": "insufficient_quota"}}'), "quota"),
        (error("APIError", statusCode=402), "quota"),
    ],
)
def test_what_only_the_user_can_put_right_is_fatal(failure: bytes, kind: str) -> None:
    driver = OpenCode().driver(job(model="anthropic/claude"))
    driver.begin()
    effects = driver.feed(STARTED + ANSWERING + failure + IDLE + IDLE)
    [trouble] = of(effects, Trouble)
    assert (trouble.account, trouble.kind, trouble.fatal) == ("anthropic", kind, True)
    assert [type(effect) for effect in effects[-2:]] == [TurnEnded, GiveUp]
    outcome = driver.outcome(End(None, 15, unknown=False, reason="stopped"))
    assert (outcome.ok, outcome.trouble) == (False, kind)
    assert "anthropic" in outcome.reason


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (error("APIError", statusCode=429), "rate_limit"),
        (error("APIError", statusCode=529), "overloaded"),
        (error("ContextOverflowError"), "context"),
        (error("UnknownError", message="Unable to connect. Is the computer able to access the url?"), "network"),
        (error("UnknownError", message="Model not found: fake/nope.\n    at <anonymous> (chunk.js:1)"), "agent"),
    ],
)
def test_other_errors_end_the_turn_once_and_keep_their_sentence(failure: bytes, kind: str) -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    late = event("message.updated", info={"id": "msg_a", "role": "assistant", "error": {"name": "APIError"}})
    effects = driver.feed(STARTED + ANSWERING + failure + IDLE + late + IDLE + failure)
    assert [type(effect) for effect in effects[-3:]] == [Trouble, TurnEnded, HangUp]
    assert effects[-3].kind == kind  # type: ignore[union-attr]  # it was just seen to be a Trouble
    outcome = driver.outcome(ENDED)
    assert not outcome.ok
    assert outcome.reason
    assert "\n" not in outcome.reason


def test_a_retry_tells_when_and_whose_limit() -> None:
    retry = event("session.status", status={"type": "retry", "attempt": 2, "message": "Rate limit", "next": 1_004_500})
    [report] = of(played(STARTED + ANSWERING + retry + retry), Retry)
    assert report == Retry(account="anthropic", kind="rate_limit", attempt=2, delay_s=4.5, text="Rate limit")


def test_retrying_for_ever_without_quota_is_given_up() -> None:
    status = {"type": "retry", "attempt": 1, "message": "You exceeded your current quota", "next": 1_004_500}
    effects = played(STARTED + ANSWERING + event("session.status", status=status))
    assert of(effects, Trouble)[0].kind == "quota"
    assert effects[-1] == GiveUp()


def test_usage_counts_each_request_once_subagents_included() -> None:
    tokens = {"input": 10, "output": 5, "reasoning": 2, "cache": {"read": 100, "write": 20}}
    step = part("step-finish", tokens=tokens, cost=0.5)
    child = {"id": "prt_c", "messageID": "m", "sessionID": "ses_2", "type": "step-finish", "tokens": tokens}
    inner = line(
        type="event", event={"type": "message.part.updated", "properties": {"sessionID": "ses_2", "part": child}}
    )
    known = line(type="model", model="anthropic/claude", context=1000)
    effects = played(STARTED + known + ANSWERING + step + step + inner)
    assert of(effects, Used) == [
        Used(scope="request", input=10, cache_read=100, cache_write=20, output=7, reasoning=2, cost_usd=0.5),
        Used(scope="request", input=10, cache_read=100, cache_write=20, output=7, reasoning=2),
    ]
    assert of(effects, Context) == [Context(used=137, size=1000)]


def test_a_changed_file_comes_with_its_diff() -> None:
    given_ = {"filePath": "/w/a.txt", "content": "new\n"}
    new = tool("completed", "write", input=given_, metadata={"filepath": "/w/a.txt", "exists": False})
    assert of(played(STARTED + new), ToolEnded)[0].diffs == (FileDiff(path="/w/a.txt", new="new\n"),)
    edited = tool("completed", "edit", input={"filePath": "/w/a.txt"}, metadata={"diff": "--- a\n+++ b\n"})
    assert of(played(STARTED + edited), ToolEnded)[0].diffs == (FileDiff(path="/w/a.txt", unified="--- a\n+++ b\n"),)
    files = [{"filePath": "/w/a", "diff": "x"}, {"relativePath": "b", "patch": "y"}, {"filePath": "/w/c"}]
    patched = tool("completed", "apply_patch", input={}, metadata={"files": files})
    assert [diff.path for diff in of(played(STARTED + patched), ToolEnded)[0].diffs] == ["/w/a", "b"]


def test_a_server_that_is_gone_fails_the_run_with_its_reason() -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    effects = driver.feed(STARTED + ASKED + line(type="gone", text="The OpenCode server was killed by signal 9."))
    assert [type(effect) for effect in effects[-4:]] == [Trouble, Withdrawn, TurnEnded, HangUp]
    assert driver.outcome(ENDED).reason == "The OpenCode server was killed by signal 9."


def test_what_is_not_known_is_shown() -> None:
    effects = played(
        READY + b'{"a": "\xc3("}\n' + b"[1]\n" + line(type="new") + event("brand.new") + event("session.next.x")
    )
    assert [report.why.partition(": ")[0] for report in of(effects, Unread)] == [
        "It is not JSON",
        "It is not a JSON object.",
        "This line is not one of the bridge's.",
        "This event is not known.",
    ]
    driver = OpenCode().driver(job())
    driver.feed(b'{"type": "rea')
    assert len(of(driver.close(), Unread)) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "busy", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
LINES = sorted({one for data in RECORDED.values() for one in data.splitlines(keepends=True)})


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A recorded line, whole, cut, with other bytes in it, or with something else in one of its places."""
    one = draw(st.sampled_from(LINES))
    match draw(st.integers(0, 4)):
        case 0:
            return one
        case 1:
            return one[: draw(st.integers(0, len(one)))]
        case 2:
            at = draw(st.integers(0, len(one)))
            return one[:at] + draw(st.binary(max_size=8)) + one[at:]
        case 3:
            return draw(st.binary(max_size=30)) + b"\n"
        case _:
            value = json.loads(one)
            place: Any = value
            while True:
                keys: Sequence[Any] = list(place) if isinstance(place, dict) else range(len(place))
                key = draw(st.sampled_from(keys)) if keys else None
                if key is None:
                    break
                if not isinstance(place[key], dict | list) or draw(st.integers(0, 3)) == 0:
                    place[key] = draw(JSON)
                    break
                place = place[key]
            return json.dumps(value).encode() + b"\n"


COMMANDS = st.sampled_from([Say("m1", "More."), Interrupt(), Answer("per_1", "once"), Answer("que_1")])


@given(st.lists(spoiled() | COMMANDS, max_size=25))
def test_garbage_never_raises_and_bytes_that_are_no_json_are_said(story: list[bytes | Any]) -> None:
    driver = OpenCode().driver(job())
    driver.begin()
    data = b""
    effects: list[Effect] = []
    for step in story:
        if isinstance(step, bytes):
            data += step
            effects += driver.feed(step)
        else:
            effects += driver.take(step)
    effects += driver.close()
    assert isinstance(driver.outcome(ENDED).ok, bool)
    shown = len(of(effects, Unread))
    assert shown >= sum(not readable(one) for one in data.split(b"\n"))


def readable(one: bytes) -> bool:
    """Whether a line is empty or a JSON object."""
    try:
        return not one.strip() or isinstance(json.loads(one), dict)
    except ValueError:
        return False


def test_remarks_say_what_has_no_report_of_its_own() -> None:
    assert "summed up" in of(played(STARTED + event("session.compacted")), Remark)[0].text
