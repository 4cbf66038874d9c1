"""What programs in a terminal tell their hooks, on what the real ones told and on what none should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.agents import terminal_hooks
from plait.agents.adapter import Answer, Command, Effect, End, Interrupt, Job, Say, Write
from plait.agents.terminal import Hooked, Terminal
from plait.core.reports import (
    Asked,
    Began,
    Delivered,
    FileDiff,
    Message,
    Place,
    Remark,
    ToolBegan,
    ToolEnded,
    Trouble,
    TurnBegan,
    TurnEnded,
    Unread,
    Withdrawn,
)

SAMPLES = sorted((Path(__file__).parent / "samples/terminal").glob("*.jsonl"))
STOPPED = End(code=None, signal=15, unknown=False, reason="stopped")
LEFT = End(code=0, signal=None, unknown=False, reason="exited")

TURN = "began turn_began tool_began asked withdrawn tool_ended message turn_ended asked"
STORIES = {
    "claude.turns": f"{TURN} withdrawn remark turn_began tool_began asked withdrawn tool_ended message turn_ended asked"
    " withdrawn remark turn_began message turn_ended asked withdrawn",
    "claude.escaped": "began turn_began tool_began asked withdrawn remark turn_began tool_began asked withdrawn",
    "claude.idle_prompt": "began turn_began tool_began tool_ended message turn_ended asked withdrawn",
    "claude.stopped": f"{TURN} withdrawn remark turn_began tool_began asked withdrawn",
    "codex.asked": "began turn_began tool_began asked withdrawn",
    "codex.turns": f"{TURN} withdrawn remark turn_began tool_began tool_ended message turn_ended asked withdrawn",
}
ENDS = {
    "claude.turns": ("ok", "ok"),
    "claude.escaped": ("stopped", "stopped"),
    "claude.idle_prompt": ("ok", "ok"),
    "claude.stopped": ("stopped", "stopped"),
    "codex.asked": ("stopped", "stopped"),
    "codex.turns": ("ok", "ok"),
}
"""What comes of it when it is stopped, and when the user leaves it."""


def job(program: str = "claude", **more: Any) -> Job:
    given = {"title": "Notes", "prompt": "Write notes.txt.", "worktree": "/w", "port": 0, "files": "/f"}
    return Job(session="s", task="t", command=(program, "{prompt}"), **{**given, **more})


def told(*events: dict[str, Any], thread: str = "t1") -> bytes:
    return b"".join(json.dumps({"session_id": thread, **event}).encode() + b"\n" for event in events)


def hook(name: str, **fields: Any) -> dict[str, Any]:
    return {"hook_event_name": name, **fields}


START, PROMPT, STOP = hook("SessionStart"), hook("UserPromptSubmit", prompt="p"), hook("Stop")
BASH = {"tool_name": "Bash", "tool_input": {"command": "ls", "description": "Look"}}


def driver(program: str = "claude", *events: dict[str, Any]) -> Hooked:
    """A driver that has heard of the events."""
    made = Hooked(job(program))
    made.feed(told(*events))
    return made


def kinds(effects: Sequence[Effect], kind: type[Any]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def names(effects: Sequence[Effect]) -> str:
    return " ".join(getattr(effect, "type", type(effect).__name__) for effect in effects)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_each_recorded_conversation_is_understood_to_its_end_in_any_pieces(path: Path) -> None:
    data = path.read_bytes()
    outcomes = []
    for size in (1, 7, 1000, len(data)):
        made = Hooked(job(path.stem.partition(".")[0]))
        effects: list[Effect] = []
        for start in range(0, len(data), size):
            effects += made.feed(data[start : start + size])
        effects += made.close()
        assert names(effects) == STORIES[path.stem]
        asked = [one.id for one in kinds(effects, Asked)]
        assert len(set(asked)) == len(asked)
        assert sorted(asked) == sorted(one.id for one in kinds(effects, Withdrawn))
        outcomes.append([made.outcome(end) for end in (STOPPED, LEFT)])
    assert all(one == outcomes[0] for one in outcomes)
    found = ["ok" if one.ok else "stopped" if one.stopped else "failed" for one in outcomes[0]]
    assert tuple(found) == ENDS[path.stem]


def test_a_permission_says_what_is_wanted_and_can_only_be_given_in_the_terminal() -> None:
    made = Hooked(job("codex"))
    sample = next(path for path in SAMPLES if path.stem == "codex.asked")
    effects = made.feed(sample.read_bytes())
    (asked,) = kinds(effects, Asked)
    assert (asked.kind, asked.title, asked.tool_kind, asked.options) == ("permission", "Edit hello.txt", "edit", ())
    assert asked.diffs == (FileDiff(path="hello.txt", new="hello\n"),)
    (tool,) = kinds(effects, ToolBegan)
    assert tool.id == asked.tool_id
    assert tool.places == (Place(path="hello.txt"),)
    (question,) = kinds(
        driver("claude", START, PROMPT).feed(told(hook("PermissionRequest", tool_name="AskUserQuestion"))), Asked
    )
    assert question.kind == "question"
    assert question.questions == ()


def test_a_message_is_typed_only_when_the_agent_rests() -> None:
    made = driver("claude", START, PROMPT)
    assert names(made.take(Say("1", "one"))) == "remark"
    (typed, *more) = made.feed(told(STOP))[1:]
    assert not more
    assert typed == Write("say-1", b"\x1b[200~one\x1b[201~\r")
    # It has not been taken up yet, so that what comes now must not be mixed with it.
    assert names(made.take(Say("2", "two"))) == "remark"
    assert names(made.feed(told(hook("UserPromptSubmit", prompt="one")))) == "turn_began delivered"
    assert names(made.feed(told(STOP))) == "turn_ended Write"
    assert (
        names(made.feed(told(hook("UserPromptSubmit", prompt="two"), STOP))) == "turn_began delivered turn_ended asked"
    )
    assert names(made.take(Say("3", "three"))) == "Write"


def test_nothing_is_typed_while_it_asks_for_a_permission() -> None:
    made = driver("claude", START, PROMPT, hook("PermissionRequest", **BASH))
    (remark,) = made.take(Say("1", "yes"))
    assert isinstance(remark, Remark)
    assert "question in the terminal" in remark.text
    assert made.take(Answer("permission-1", text="yes")) == []
    assert made.take(Interrupt()) == []


def test_an_answer_is_the_next_message() -> None:
    made = driver("claude", START, PROMPT, STOP)
    answer = Answer("idle-1", answers={"message": ("go\non",)})
    assert made.take(answer) == [Withdrawn(id="idle-1"), Write("answer-idle-1", b"\x1b[200~go\ron\x1b[201~\r")]
    assert names(made.feed(told(hook("UserPromptSubmit", prompt="go\non")))) == "turn_began"
    assert made.take(answer) == []


def test_a_command_to_the_program_itself_leaves_it_at_rest() -> None:
    made = driver("claude", START, PROMPT, STOP)
    assert names(made.take(Say("1", "/compact"))) == "Write delivered"
    assert names(made.take(Answer("idle-1", text="/help"))) == "withdrawn Write asked"


def test_what_is_typed_holds_no_keys() -> None:
    made = driver("claude", START, PROMPT, STOP)
    (write,) = made.take(Say("1", "a\x1b[201~\x03b\x7f\r\nc\ud800\u200d\u3000é"))
    assert isinstance(write, Write)
    assert write.data == "\x1b[200~a[201~b\rc?\u200d\u3000é\x1b[201~\r".encode()


def test_nobody_tells_when_a_program_without_hooks_may_be_told_something() -> None:
    (remark,) = driver("htop").take(Say("1", "q"))
    assert isinstance(remark, Remark)
    assert "`plait attach s`" in remark.text


def test_an_interrupted_turn_is_over_as_soon_as_it_says_that_it_is_idle() -> None:
    made = driver("claude", START, PROMPT, hook("PermissionRequest", **BASH))
    made.take(Say("1", "on"))
    idle = hook("Notification", notification_type="idle_prompt")
    effects = made.feed(told(idle))
    assert names(effects) == "withdrawn turn_ended Write"
    assert effects[1] == TurnEnded(stop="cancelled")
    # What was typed and begins no turn holds the next message up no longer.
    made.take(Say("2", "off"))
    assert names(made.feed(told(idle))) == "delivered Write"


def test_it_works_again_when_another_hook_keeps_it_from_stopping() -> None:
    made = driver("claude", START, PROMPT, STOP)
    effects = made.feed(told(hook("PreToolUse", tool_use_id="u", **BASH)))
    assert effects[:2] == [Withdrawn(id="idle-1"), TurnBegan()]
    assert not made.outcome(STOPPED).ok


def test_a_permission_stays_open_while_another_tool_of_claude_begins_and_ends() -> None:
    first, second = hook("PreToolUse", tool_use_id="a", **BASH), hook("PreToolUse", tool_use_id="b", tool_name="Read")
    made = driver("claude", START, PROMPT, first, hook("PermissionRequest", **BASH))
    assert names(made.feed(told(second, hook("PostToolUse", tool_use_id="b")))) == "tool_began tool_ended"
    assert names(made.feed(told(hook("PostToolUse", tool_use_id="a")))) == "withdrawn tool_ended"
    made = driver("codex", START, PROMPT, first, hook("PermissionRequest", **BASH))
    assert names(made.feed(told(second))) == "withdrawn tool_began"


def test_tools_end_well_badly_or_not_at_all() -> None:
    made = driver("claude", START, PROMPT)
    failure = hook("PostToolUseFailure", tool_use_id="a", error="Error: Exit code 2\nno")
    denial = hook("PermissionDenied", tool_use_id="b", reason="too much")
    failed, denied = kinds(made.feed(told(failure, denial)), ToolEnded)
    assert (failed.status, failed.exit) == ("failed", 2)
    assert (denied.status, denied.output) == ("denied", "too much")


def test_a_failed_turn_says_why_and_is_the_outcome_if_it_is_left_so() -> None:
    made = driver("claude", START, PROMPT)
    effects = made.feed(told(hook("StopFailure", error="authentication_failed", error_details="Please run /login")))
    assert effects[0] == Trouble(account="anthropic", kind="auth", text="Please run /login")
    outcome = made.outcome(LEFT)
    assert (outcome.ok, outcome.reason, outcome.trouble) == (False, "Please run /login", "auth")


def test_another_conversation_in_it_is_followed_and_a_foreign_one_is_not() -> None:
    made = driver("codex", START, PROMPT, STOP)
    assert made.feed(told(PROMPT, STOP, thread="title")) == []
    effects = made.feed(told(hook("SessionStart", source="clear"), thread="t2"))
    assert names(effects) == "began withdrawn asked"
    assert effects[0] == Began(agent_session="t2")
    assert made.feed(told(STOP)) == []
    assert names(made.feed(told(PROMPT, thread="t2"))) == "withdrawn remark turn_began"


def test_messages_that_were_not_told_keep_a_stop_from_being_the_end_of_the_work() -> None:
    made = driver("claude", START, PROMPT, STOP)
    made.take(Say("1", "one"))
    assert made.outcome(STOPPED).stopped


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(1, None, False, "exited"), "It exited with status 1."),
        (End(None, 9, False, "exited"), "Signal 9 ended it."),
        (End(None, None, True, "reboot"), "restarted"),
    ],
)
def test_other_ends_are_failures(end: End, words: str) -> None:
    outcome = driver("claude", START, PROMPT, STOP).outcome(end)
    assert not outcome.ok
    assert words in outcome.reason


def test_the_end_of_a_finished_turn_counts_even_if_nobody_saw_the_process_end() -> None:
    lost = End(None, None, True, "supervisor-lost")
    assert driver("claude", START, PROMPT, STOP, hook("SessionEnd", reason="other")).outcome(lost).ok
    assert not driver("claude", START, PROMPT).outcome(lost).ok


def test_without_hooks_the_exit_status_counts() -> None:
    assert driver("htop").outcome(LEFT).ok
    assert not driver("htop").outcome(End(3, None, False, "exited")).ok


def test_claude_is_launched_with_our_hooks_and_the_users_own_words() -> None:
    launch = Terminal().launch(("/bin/claude", "--verbose", "{prompt}"), job(permission="edits", model="opus"))
    assert launch.argv[:7] == (
        *("/bin/claude", "--settings", "/f/hooks.json", "--permission-mode", "acceptEdits", "--model", "opus"),
    )
    assert launch.argv[7:] == ("--verbose", "--", "Write notes.txt.")
    assert launch.pty
    hooks = json.loads(launch.files["hooks.json"])["hooks"]
    assert set(hooks) == set(terminal_hooks.CLAUDE_EVENTS)
    again = Terminal().launch(("claude.exe",), job(resume="abc", message="- go on"))
    assert again.argv[-4:] == ("--resume", "abc", "--", "- go on")
    own = Terminal().launch(("claude", "--permission-mode=plan", "{prompt}"), job())
    assert "default" not in own.argv
    assert Terminal().launch(("claude", "--settings", "mine.json"), job()).argv == ("claude", "--settings", "mine.json")


def test_codex_is_launched_with_our_hooks_trusted_and_no_others() -> None:
    launch = Terminal().launch(("codex", "{prompt}"), job("codex", resume="th", message="on", permission="edits"))
    assert launch.argv[:6] == ("codex", "--no-daemon", "-a", "on-request", "-s", "workspace-write")
    assert launch.argv[-4:] == ("resume", "th", "--", "on")
    assert not any("bypass" in word for word in launch.argv)
    assert sum(word.startswith("hooks.") for word in launch.argv) == len(terminal_hooks.CODEX_EVENTS) + 1
    # That Codex takes it for its own is seen by the real one calling our hooks.
    assert terminal_hooks.codex_hash("stop", "cat >> /tmp/x") == (
        "sha256:49869ea368b3e75c538f5aa4d1a02991c7aa35c5f9cf2d9a398d51be84c57c0a"
    )


def test_any_other_program_is_run_as_it_was_given() -> None:
    launch = Terminal().launch(("htop", "-d", "{port}"), job("htop", port=4000))
    assert launch.argv == ("htop", "-d", "4000")
    assert launch.env["PLAIT_PROMPT"] == "Write notes.txt."
    assert not launch.files


def test_the_hooks_program_adds_whole_lines_whoever_else_does_and_never_speaks(tmp_path: Path) -> None:
    log = tmp_path / "hooks.log"

    def call(number: int) -> None:
        given = json.dumps({"n": number, "text": "two\nlines" * 1000}, indent=1)
        words = [given] if number % 2 else []
        done = subprocess.run(
            [sys.executable, "-I", "-S", terminal_hooks.PROGRAM, *words],
            input=None if words else given.encode(),
            env={"PLAIT_HOOKS": os.fspath(log)},
            capture_output=True,
            check=True,
        )
        assert not done.stdout + done.stderr

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(12)))
    assert sorted(json.loads(line)["n"] for line in log.read_text().splitlines()) == list(range(12))


@pytest.mark.parametrize(("given_", "place"), [(b"no json", "x"), (b"{}", "no/such/x"), (b"\xff", "x"), (b"{}", "")])
def test_the_hooks_program_never_fails(tmp_path: Path, given_: bytes, place: str) -> None:
    argv = [sys.executable, "-I", "-S", os.fspath(terminal_hooks.PROGRAM)]
    env = {"PLAIT_HOOKS": os.fspath(tmp_path / place)} if place else {}
    done = subprocess.run(argv, input=given_, env=env, capture_output=True, check=True)
    assert not done.stdout + done.stderr
    assert not (tmp_path / "no").exists()


LINES = [line for path in SAMPLES for line in path.read_bytes().splitlines()]
JUNK = st.one_of(
    st.sampled_from(LINES),
    st.sampled_from(LINES).flatmap(lambda line: st.integers(0, len(line)).map(lambda end: line[:end])),
    st.binary(max_size=80),
    st.fixed_dictionaries(
        {"hook_event_name": st.sampled_from([*terminal_hooks.CLAUDE_EVENTS, "New", ""])},
        optional={
            name: st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers()), st.just({"a": 1}))
            for name in (
                "session_id",
                "tool_name",
                "tool_input",
                "tool_use_id",
                "tool_response",
                "prompt",
                "error",
                "message",
                "notification_type",
                "last_assistant_message",
                "agent_id",
                "model",
            )
        },
    ).map(lambda event: json.dumps(event).encode()),
)
COMMANDS = st.one_of(
    st.builds(Say, st.text("ab1", min_size=1, max_size=3), st.text(max_size=10)),
    st.builds(Answer, st.sampled_from(["idle-1", "idle-2", "permission-1"]), text=st.text(max_size=5)),
    st.just(Interrupt()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(JUNK, COMMANDS), max_size=12), st.sampled_from(["claude", "codex", "htop"]))
def test_nothing_that_comes_raises_and_every_request_is_taken_back(steps: list[bytes | Command], program: str) -> None:
    first = _story(steps, program, 1 << 20)
    asked = [one.id for one in kinds(first, Asked)]
    assert len(set(asked)) == len(asked)
    assert sorted(asked) == sorted(one.id for one in kinds(first, Withdrawn))
    assert len(kinds(first, Message)) <= len(kinds(first, TurnEnded))
    assert {one.id for one in kinds(first, Delivered)} <= {step.id for step in steps if isinstance(step, Say)}
    assert _story(steps, program, 3) == first


def _story(steps: Sequence[bytes | Command], program: str, size: int) -> list[Effect]:
    made = Hooked(job(program))
    effects: list[Effect] = [*made.begin()]
    for step in steps:
        if isinstance(step, bytes):
            data = step + b"\n"
            for start in range(0, len(data), size):
                effects += made.feed(data[start : start + size])
        else:
            effects += made.take(step)
    effects += made.close()
    made.outcome(LEFT)
    return effects


def test_garbage_is_shown() -> None:
    effects = driver("claude", START).feed(b"no json\n[1]\n\n" + told(hook("Brand"), hook("")))
    assert [one.why.split()[0] for one in kinds(effects, Unread)] == ["It", "It", "The", "The"]
