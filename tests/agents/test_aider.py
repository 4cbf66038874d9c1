"""Aider's lines as reports: recorded conversations, damaged ones, and the decisions that need no Aider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.agents.adapter import Answer, Effect, End, GiveUp, HangUp, Interrupt, Job, Say, Write
from plait.agents.aider import PROGRAM, Aider, Talk
from plait.agents.programs import aider_driver as program
from plait.core.reports import (
    Asked,
    Began,
    Delivered,
    FileDiff,
    Message,
    Remark,
    Retry,
    ToolEnded,
    Trouble,
    TurnEnded,
    Unread,
    Used,
    Withdrawn,
)
from tests.support.processes import eventually, state_of

SAMPLES = sorted((Path(__file__).parent / "samples" / "aider").glob("*.jsonl"))
JOB = Job("s-1", "t", "Notes", "Make notes.", "/worktree", 0, files="/files")
EXITED = End(code=0, signal=None, unknown=False, reason="exited")


def line(type_: str, **fields: Any) -> bytes:
    return json.dumps({"type": type_, **fields}).encode() + b"\n"


def played(data: bytes, size: int = 1 << 20) -> tuple[Talk, list[Effect]]:
    """A driver that was fed `data` in pieces of `size` bytes, and all that it made of them."""
    driver = Talk(JOB)
    effects = list(driver.begin())
    for start in range(0, len(data), size):
        effects += driver.feed(data[start : start + size])
    return driver, [*effects, *driver.close()]


def kinds(effects: list[Effect], kind: type[Any]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_there_are_samples_of_every_kind_of_line() -> None:
    seen = {json.loads(row)["type"] for sample in SAMPLES for row in sample.read_bytes().splitlines()}
    assert seen == {
        "ready", "turn_began", "message", "thought", "tool_began", "tool_ended", "asked", "withdrawn", "used",
        "context", "retry", "trouble", "note", "turn_ended", "failed",
    }  # fmt: skip


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_recorded_conversation_is_read_to_its_end_however_it_is_cut(sample: Path) -> None:
    data = sample.read_bytes()
    driver, effects = played(data)
    assert not kinds(effects, Unread)
    assert [asked.id for asked in kinds(effects, Asked)] == [taken.id for taken in kinds(effects, Withdrawn)]
    assert isinstance(effects[-1], HangUp | GiveUp)
    for size in (1, 7, 100, 4096):
        assert played(data, size)[1] == effects
    stops = [ended.stop for ended in kinds(effects, TurnEnded)]
    assert driver.outcome(EXITED).ok == (stops[-1:] == ["end_turn"])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_output_never_raises_and_what_cannot_be_read_is_said(data: st.DataObject) -> None:
    rows = data.draw(st.sampled_from(SAMPLES)).read_bytes().splitlines(keepends=True)
    damaged = bytearray()
    for row in data.draw(st.permutations(rows)) if data.draw(st.booleans()) else rows:
        match data.draw(st.sampled_from(["keep", "keep", "twice", "cut", "garbage", "json", "flip"])):
            case "keep":
                damaged += row
            case "twice":
                damaged += row * 2
            case "cut":
                damaged += row[: data.draw(st.integers(0, len(row) - 1))]
            case "garbage":
                damaged += data.draw(st.binary(max_size=50)) + b"\n"
            case "json":
                found = json.loads(row)
                found[data.draw(st.sampled_from(sorted(found)))] = data.draw(
                    st.sampled_from([None, [], {}, -1, 1 << 70, "x", True, [1], [{}], 1.5])
                )
                damaged += json.dumps(found).encode() + b"\n"
            case "flip":
                place = data.draw(st.integers(0, len(row) - 1))
                damaged += row[:place] + data.draw(st.binary(min_size=1, max_size=3)) + row[place + 1 :]
    whole = bytes(damaged)
    driver, effects = played(whole)
    assert played(whole, data.draw(st.integers(1, 300)))[1] == effects
    assert driver.outcome(EXITED).reason
    for effect in kinds(effects, Unread):
        assert effect.why
    if any(not _is_object(row) for row in whole.split(b"\n") if row.strip()):
        assert kinds(effects, Unread)


def _is_object(row: bytes) -> bool:
    try:
        return isinstance(json.loads(row), dict)
    except (ValueError, RecursionError):
        return False


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_an_answer(first: bytes, second: bytes) -> None:
    driver = Talk(JOB)
    driver.begin()
    driver.feed(first)
    driver.take(Interrupt())
    driver.take(Answer("ask-1", "yes"))
    driver.feed(second)
    driver.close()
    assert not driver.outcome(EXITED).ok


def test_the_users_configuration_stays_and_what_plait_does_is_switched_off() -> None:
    launch = Aider().launch(("/opt/aider/bin/python",), JOB)
    assert launch.argv[:2] == ("/opt/aider/bin/python", str(PROGRAM))
    assert PROGRAM.is_file()
    given_settings = json.loads(launch.argv[2])
    assert given_settings == {"permission": "ask", "files": "/files", "session": "s-1", "resume": None}
    assert {"--no-auto-commits", "--no-gitignore", "--no-analytics"} <= set(launch.argv)
    assert not {"--yes-always", "--restore-chat-history", "--model", "-I"} & set(launch.argv)
    assert (launch.stdin, launch.stderr, launch.env) == ("fifo", "apart", {})
    again = Aider().launch(("p",), replace(JOB, resume="s-1", model="sonnet", message="More."))
    assert again.argv[-3:] == ("--restore-chat-history", "--model", "sonnet")
    assert json.loads(Aider().driver(replace(JOB, resume="s-1", message="More.")).begin()[0].data) == {  # type: ignore[union-attr]  # it is a write
        "type": "message",
        "id": "opening",
        "text": "More.",
    }


def test_messages_wait_for_the_end_of_the_turn_and_for_nothing_after_the_last() -> None:
    driver = Talk(JOB)
    driver.begin()
    assert driver.take(Say("m1", "One.")) == (Remark(text="It will be told when this turn is over."),)
    driver.take(Say("m2", "Two."))
    ended = line("turn_ended", stop="end_turn", text="")
    told = driver.feed(ended)
    assert [type(effect) for effect in told] == [TurnEnded, Write, Delivered]
    assert kinds(list(told), Write)[0].id == "say-m1"
    assert kinds(list(driver.feed(ended)), Delivered) == [Delivered(id="m2")]
    assert driver.feed(ended)[-1] == HangUp()
    assert driver.take(Say("m3", "Three.")) == ()
    assert driver.take(Interrupt()) == ()


def test_a_stop_hangs_up_and_leaves_what_was_said_for_the_next_process() -> None:
    driver = Talk(JOB)
    driver.begin()
    driver.take(Say("m1", "One."))
    assert [effect.id for effect in driver.take(Interrupt()) if isinstance(effect, Write)] == ["interrupt-1"]
    effects = list(driver.feed(line("turn_ended", stop="cancelled", text="")))
    assert effects == [TurnEnded(stop="cancelled"), HangUp()]
    outcome = driver.outcome(EXITED)
    assert (outcome.ok, outcome.stopped) == (False, True)


def test_a_request_is_answered_once_and_only_while_it_waits() -> None:
    driver = Talk(JOB)
    driver.begin()
    assert driver.take(Answer("ask-1", "yes")) == ()
    options = [{"id": "yes", "label": "Yes", "kind": "allow_once"}]
    asked = line("asked", id="ask-1", tool="edit", kind="edit", title="Edit x", input="", reason="", options=options)
    driver.feed(asked)
    (write,) = driver.take(Answer("ask-1", "yes", text="Go."))
    assert isinstance(write, Write)
    assert json.loads(write.data) == {"type": "answer", "id": "ask-1", "option": "yes", "text": "Go."}
    assert driver.take(Answer("ask-1", "no")) == ()
    assert driver.feed(line("withdrawn", id="ask-1")) == [Withdrawn(id="ask-1")]
    assert driver.take(Answer("ask-1", "no")) == ()


def test_what_is_open_at_the_end_of_a_turn_or_of_the_output_is_closed() -> None:
    options: list[Any] = []
    opened = line("asked", id="a", tool="edit", kind="edit", title="x", input="", reason="", options=options)
    opened += line("tool_began", id="b", name="shell", kind="execute", title="x", input="x", places=[])
    closed = [Withdrawn(id="a"), ToolEnded(id="b", status="failed")]
    driver = Talk(JOB)
    driver.feed(opened)
    assert list(driver.feed(line("turn_ended", stop="cancelled", text="")))[:2] == closed
    assert played(opened)[1][-2:] == closed


def test_an_end_without_the_end_of_its_turn_is_a_failure_whatever_the_status() -> None:
    driver, _ = played(line("turn_began", id="opening", prompt="x"))
    outcome = driver.outcome(replace(EXITED, complaints="Traceback\nMemoryError\n"))
    assert (outcome.ok, outcome.reason) == (False, "It ended without finishing its turn: MemoryError")
    assert driver.outcome(replace(EXITED, reason="stopped")).stopped
    done, _ = played(line("turn_ended", stop="end_turn", text="All good."))
    assert done.outcome(End(code=None, signal=15, unknown=False, reason="stopped")).ok


@pytest.mark.parametrize(
    ("question", "ask", "edits", "all_"),
    [
        ("Create new file?", None, True, True),
        ("Allow edits to file that has not been added to the chat?", None, True, True),
        ("Add file to the chat?", None, True, True),
        ("Run shell command?", None, None, True),
        ("Run shell commands?", None, None, True),
        ("Add URL to the chat?", None, None, True),
        ("Add command output to the chat?", True, True, True),
        ("Add 1.2k tokens of command output to the chat?", True, True, True),
        ("Attempt to fix lint errors?", True, True, True),
        ("Install playwright?", False, False, False),
        ("Run pip install?", False, False, False),
        ("Something that nobody has heard of?", None, None, True),
    ],
)
def test_aiders_questions_are_answered_as_the_permission_says(
    question: str, ask: bool | None, edits: bool | None, all_: bool | None
) -> None:
    assert [program.judged(question, permission)[1] for permission in ("ask", "edits", "all")] == [ask, edits, all_]
    assert program.judged(question, "a damaged one")[1] is None


def test_a_file_outside_the_worktree_is_asked_for_unless_all_is_allowed() -> None:
    found = [program.judged("Create new file?", permission, outside=True)[1] for permission in ("ask", "edits", "all")]
    assert found == [None, None, True]


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([("AuthenticationError", 401, "")], "auth"),
        ([("BadRequestError", 400, ""), ("AuthenticationError", 401, "")], "auth"),
        ([("APIConnectionError", None, "The api_key client option must be set")], "auth"),
        ([("RateLimitError", 429, "code: insufficient_quota")], "quota"),
        ([("APIError", None, "Insufficient credits")], "quota"),
        ([("BadRequestError", 400, "Your credit balance is too low")], "quota"),
        ([("RateLimitError", 429, "slow down")], "rate_limit"),
        ([("APIError", 529, "")], "overloaded"),
        ([("InternalServerError", 500, "")], "overloaded"),
        ([("Timeout", None, "")], "network"),
        ([("ContextWindowExceededError", 400, "")], "context"),
        ([("BadRequestError", 400, "")], "agent"),
    ],
)
def test_errors_of_providers_are_told_apart(errors: list[tuple[str, int | None, str]], kind: str) -> None:
    assert program.trouble(errors) == kind


def test_what_was_read_from_the_cache_is_not_counted_twice() -> None:
    details = SimpleNamespace(cached_tokens=600, cache_creation_tokens=90)
    usage = SimpleNamespace(
        prompt_tokens=1000,
        completion_tokens=40,
        prompt_tokens_details=details,
        completion_tokens_details=SimpleNamespace(reasoning_tokens=7),
    )
    assert program.tokens(usage) == {"input": 310, "cache_read": 600, "cache_write": 90, "output": 40, "reasoning": 7}
    assert program.tokens(SimpleNamespace(prompt_tokens=None))["input"] == 0


def test_a_diff_says_what_is_created_deleted_and_not_ended() -> None:
    assert program.file_diff("a", None, b"x")["unified"] == (
        "--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n"
    )
    assert program.file_diff("a", b"x\n", None)["unified"].startswith("--- a/a\n+++ /dev/null\n")
    assert program.file_diff("a", b"", b"x" * (program.LARGEST_DIFF + 1)) == {"path": "a", "unified": None}


class Coder:
    """As much of Aider's coder as the staging of edits sees."""

    def __init__(self, root: Path, chat: set[str]) -> None:
        self.root = str(root)
        self.abs_fnames = {str(root / name) for name in chat}
        self.abs_root_path_cache: dict[str, str] = {}

    def get_rel_fname(self, name: str) -> str:
        return os.path.relpath(name, self.root)


def test_staged_edits_touch_copies_only_and_tell_the_error_they_end_with(tmp_path: Path) -> None:
    root = tmp_path / "worktree"
    root.mkdir()
    (root / "a").write_text("a\n")
    (root / "gone").write_text("gone\n")
    coder = Coder(root, {"a", "gone"})

    def apply(edits: list[tuple[str, str]]) -> None:
        assert coder.root != str(root)
        for path, text in edits:
            (Path(coder.root) / path).write_text(text)
        (Path(coder.root) / "gone").unlink()
        raise ValueError("one block failed")

    edits = [("a", "b\n"), ("sub/new", "new\n"), ("../outside", "x"), ("same", "")]
    changes, error = program.stage(coder, edits, apply)
    assert changes == {"a": (b"a\n", b"b\n"), "gone": (b"gone\n", None), "sub/new": (None, b"new\n")}
    assert str(error) == "one block failed"
    assert coder.root == str(root)
    assert sorted(path.name for path in root.iterdir()) == ["a", "gone"]
    assert (root / "a").read_text() == "a\n"
    assert not (tmp_path / "outside").exists()


@pytest.fixture
def talk() -> Iterator[tuple[program.Conversation, int]]:
    """A conversation that listens, with the writing end of its input."""
    reading, writing = os.pipe()
    link = SimpleNamespace(reading=os.fdopen(reading, "rb"), emit=lambda *_, **__: None)
    conversation = program.Conversation(cast("program.Link", link))
    before = signal.signal(signal.SIGINT, conversation.heed)
    listening = threading.Thread(target=conversation.listen)
    listening.start()
    yield conversation, writing
    os.close(writing)
    listening.join()
    link.reading.close()
    signal.signal(signal.SIGINT, before)


def test_a_command_has_no_input_and_its_whole_family_ends_with_an_interrupt(
    talk: tuple[program.Conversation, int], tmp_path: Path
) -> None:
    conversation, writing = talk
    assert program.run_shell("cat; echo out; echo err >&2; exit 3", tmp_path, conversation) == (3, "out\nerr\n")
    marker = tmp_path / "pid"
    os.write(writing, line("message", id="m", text="x"))
    message = conversation.next_message()
    assert message == {"type": "message", "id": "m", "text": "x"}

    def interrupt() -> None:
        eventually(lambda: marker.exists() and marker.read_text().strip())
        os.write(writing, line("interrupt"))

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    conversation.begin(message)
    with pytest.raises(KeyboardInterrupt):
        program.run_shell(f"sleep 600 & echo $! > {marker}; wait", tmp_path, conversation)
    interrupting.join()
    eventually(lambda: state_of(int(marker.read_text())) in ("", "Z"))
    conversation.end()
    assert conversation.cancelled


def test_an_interrupt_between_turns_goes_for_what_is_waiting_and_nothing_else(
    talk: tuple[program.Conversation, int],
) -> None:
    conversation, writing = talk
    os.write(writing, line("interrupt") + b"garbage\n" + line("message", id="1") + line("interrupt"))
    os.write(writing, line("message", id="2"))
    eventually(lambda: len(conversation.messages) == 2)
    first = conversation.next_message()
    assert first is not None
    with pytest.raises(KeyboardInterrupt):
        conversation.begin(first)
    conversation.end()
    second = conversation.next_message()
    assert second is not None
    conversation.begin(second)
    conversation.end()
    assert (second["id"], conversation.cancelled) == ("2", False)


def test_an_interrupt_in_the_middle_of_something_whole_comes_at_its_end(
    talk: tuple[program.Conversation, int],
) -> None:
    conversation, writing = talk
    os.write(writing, line("message", id="1"))
    conversation.begin(conversation.next_message() or {})
    whole: list[bool] = []

    def do() -> None:
        with conversation.undisturbed():
            os.write(writing, line("interrupt"))
            eventually(lambda: conversation.wished)
            whole.append(True)

    with pytest.raises(KeyboardInterrupt):
        do()
    assert whole


def test_retry_after_is_found_in_whatever_caused_the_error() -> None:
    cause = OSError()
    cause.response = SimpleNamespace(headers={"retry-after": "2.5"})  # type: ignore[attr-defined]  # as httpx has it
    error = ValueError()
    error.__cause__ = cause
    assert program.retry_after(error) == 2.5
    cause.response = SimpleNamespace(headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})  # type: ignore[attr-defined]
    assert program.retry_after(error) == 0
    cause.response = SimpleNamespace(headers={"retry-after": "86400"})  # type: ignore[attr-defined]
    assert program.retry_after(error) == program.LONGEST_WAIT_S


def test_the_program_needs_no_more_than_the_standard_library_until_aider_is_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), json.dumps({"permission": "ask"})],
        input=b"",
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    driver, effects = played(done.stdout)
    assert kinds(effects, Trouble)[0].text.startswith("This version of Aider cannot be driven: No module named 'aider'")
    assert effects[-1] == GiveUp()
    assert not driver.outcome(EXITED).ok


@dataclass(frozen=True)
class Told:
    """What a sample must tell."""

    sample: str
    kind: type[Any]
    field: str
    value: Any


@pytest.mark.parametrize(
    "told",
    [
        Told("edits", Began, "agent_session", "s-1"),
        Told("edits", Used, "scope", "request"),
        Told("edits", Used, "input", 1000),
        Told("edits", ToolEnded, "status", "completed"),
        Told("asks", Asked, "title", "Edit hello.py"),
        Told("asks", ToolEnded, "status", "denied"),
        Told("retries", Retry, "kind", "rate_limit"),
        Told("retries", Retry, "delay_s", 1.5),
        Told("auth", Trouble, "fatal", True),
        Told("cancelled", TurnEnded, "stop", "cancelled"),
        Told("thinks", Message, "partial", False),
    ],
    ids=lambda told: f"{told.sample}-{told.kind.__name__}-{told.field}",
)
def test_samples_say_what_happened(told: Told) -> None:
    sample = next(sample for sample in SAMPLES if sample.stem == told.sample)
    _, effects = played(sample.read_bytes())
    assert told.value in [getattr(effect, told.field) for effect in kinds(effects, told.kind)]


def test_a_denied_edit_is_shown_with_its_diff() -> None:
    sample = next(sample for sample in SAMPLES if sample.stem == "asks")
    _, effects = played(sample.read_bytes())
    asked = next(asked for asked in kinds(effects, Asked) if asked.title == "Edit hello.py")
    assert asked.diffs == (FileDiff(path="hello.py", unified=asked.diffs[0].unified),)
    assert "+print" in str(asked.diffs[0].unified)
