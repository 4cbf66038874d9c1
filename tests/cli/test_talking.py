"""Conversations at the command line, with a daemon whose agents report, ask, and listen as a script says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from plait.core import reports as r
from tests.support.cli import Repos, terminal
from tests.support.processes import eventually
from tests.support.talker import report
from tests.support.talking import Talking, talking

pytestmark = pytest.mark.slow

BEGAN = report(r.Began(agent_session="abc", model="opus"))
DONE = report(r.TurnEnded(stop="end_turn", text="All is built."))


@pytest.fixture(scope="module")
def plait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talking]:
    with talking(tmp_path_factory.mktemp("talking")) as made:
        yield made


def permission(name: str = "r1", title: str = "Run make") -> dict[str, Any]:
    options = (
        r.Option(id="yes", label="Yes", kind="allow_once"),
        r.Option(id="ever", label="Yes, always", kind="allow_always"),
        r.Option(id="no", label="No", kind="reject_once"),
    )
    diff = r.FileDiff(path="a.txt", old="one\n", new="two\n")
    asked = r.Asked(
        id=name, tool="Bash", title=title, input="make all", reason="To build.", diffs=(diff,), options=options
    )
    return report(asked)


def question(name: str = "q1", **more: Any) -> dict[str, Any]:
    asked = r.Question(id="which", text="Which one?", choices=("left", "right"), **more)
    return report(r.Asked(id=name, kind="question", title="Which one?", questions=(asked,)))


def test_log_reads_as_a_conversation_live_and_afterwards(plait: Talking, repos: Repos) -> None:
    gate = plait.root / "log-gate"
    tool = r.ToolBegan(id="t", name="Bash", kind="execute", title="Build it", input="make")
    session = plait.begin(
        repos(),
        "Build",
        BEGAN,
        report(r.Message(text="I will ", partial=True)),
        report(r.Message(text="build it.", partial=True)),
        report(r.Message(text="", partial=False)),
        report(tool),
        f"gate {gate}",
        report(r.ToolEnded(id="t", output="built")),
        permission(),
        "answer",
        report(r.Used(scope="turn", input=1000, output=500, cost_usd=0.25)),
        DONE,
    )
    following = plait.popen("log", session, "--follow")
    as_lines = plait.popen("log", session, "--follow", "--json")
    assert following.stdout is not None
    seen: list[str] = []
    for line in iter(following.stdout.readline, b""):
        seen.append(line.decode().rstrip())
        if seen[-1] == "I will build it.":
            break
    assert "✓ Build it" not in seen, "a tool is told once it is done"
    plait("daemon", "restart")
    gate.touch()
    for line in iter(following.stdout.readline, b""):
        seen.append(line.decode().rstrip())
        if seen[-1] == "? Run make":
            break
    plait("answer", session, "--always")
    rest, _ = following.communicate(timeout=30)
    assert following.returncode == 0
    seen += rest.decode().split("\n")
    assert seen.count("I will build it.") == 1, "a restart of the daemon repeats nothing"
    text = "\n".join(seen)
    assert "✓ Build it\n    make\n    built\n" in text
    assert "  → Yes, always\n" in text
    assert "── Turn ended · 1.5k tok · $0.25" in text
    told, _ = as_lines.communicate(timeout=30)
    kinds = [json.loads(line)["kind"] for line in told.splitlines()]
    assert kinds[:3] == ["user", "began", "message"]
    assert kinds.count("asked") == 2, "as it was asked, and as it was answered"
    document = plait("log", session, "--json").json
    assert [entry["kind"] for entry in document["entries"]] == [
        *("user", "began", "message", "tool", "asked", "message", "turn")
    ]
    assert "I will build it." in plait("log", session).out
    assert b'"type": "began"' in plait("log", session, "--raw").raw


def test_answer_takes_options_decisions_and_words(plait: Talking, repos: Repos) -> None:
    session = plait.begin(repos(), "Ask", permission("r1"), permission("r2", "Run tests"), "answer", "answer", DONE)
    plait.asks(session, 2)
    assert "several answers" in plait("answer", session, "--allow", status=2).err
    assert "does not offer" in plait("answer", session, "--request", "r1", "--option", "x", status=2).err
    assert plait("answer", session, "--allow", "--deny", status=2).err.startswith("plait: --allow")
    assert "Yes, always" in plait("answer", session, "--request", "r2", "--always").out
    answered = plait("answer", session, "--deny", "--text", "not now", "--json").json
    assert (answered["request"], answered["option"]) == ("r1", "no")
    assert plait.rests(session) == "ready"
    assert "  → No; not now" in plait("log", session).out
    assert plait("answer", session, "--allow", status=3).err.startswith("plait: ")


def test_questions_are_answered_by_text_or_by_name(plait: Talking, repos: Repos) -> None:
    session = plait.begin(repos(), "Q", question("q1"), "answer", question("q2", several=True), "answer", DONE)
    plait.asks(session)
    assert plait("answer", session, "--text", "middle").out.endswith("(working)\n")
    plait.asks(session)
    assert "did not ask" in plait("answer", session, "--answer", "2=left", status=2).err
    plait("answer", session, "--answer", "which=left", "--answer", "1=right")
    assert plait.rests(session) == "ready"
    log = plait("log", session).out
    assert "→ middle" in log
    assert "→ left, right" in log


def test_without_a_terminal_the_request_is_shown_and_nothing_answered(plait: Talking, repos: Repos) -> None:
    repo = repos()
    assert plait("answer", cwd=repo, status=3).err.startswith("plait: No agent waits")
    session = plait.begin(repo, "Show", permission(), "answer", DONE)
    plait.asks(session)
    done = plait("answer", cwd=repo, status=2)
    for expected in ("Run make", "To build.", "make all", "a.txt  +1 -1", "--option ever  (Yes, always)"):
        assert expected in done.out
    (waiting,) = plait("answer", "--json", cwd=repo, status=2).json["waiting"]
    assert [asked["id"] for asked in waiting["requests"]] == ["r1"]
    other = plait.begin(repo, "Other", permission(), "answer", DONE)
    plait.asks(other)
    assert "Several sessions" in plait("answer", "--allow", cwd=repo, status=2).err
    for one in (session, other):
        plait("answer", one, "--allow")
        assert plait.rests(one) == "ready"


def test_at_a_terminal_one_request_comes_after_the_other(plait: Talking, repos: Repos) -> None:
    repo = repos()
    first = plait.begin(repo, "First", permission("r1", "Run one"), "answer", DONE)
    plait.asks(first)
    second = plait.begin(repo, "Second", question(), "answer", DONE)
    plait.asks(second)
    with terminal(plait, "answer", cwd=repo) as screen:
        screen.shows("Run one")
        screen.shows("1 more request after this.")
        screen.shows("[q]")
        screen.shows("? ")
        screen.press("D")
        screen.shows("Why? ")
        screen.press("too slow\n")
        screen.shows("Which one?")
        screen.shows("[1]")
        screen.shows("? ")
        screen.press("2")
        screen.shows("answered")
        screen.ends(0)
    assert plait.rests(first) == plait.rests(second) == "ready"
    assert "→ No; too slow" in plait("log", first).out
    assert "→ right" in plait("log", second).out


def test_say_tells_whether_the_agent_has_it(plait: Talking, repos: Repos) -> None:
    gate = plait.root / "say-gate"
    session = plait.begin(repos(), "Say", BEGAN, "say", "delivered", f"gate {gate}", DONE)
    assert "has been told" in plait("say", session, "Also the docs").out
    late = "And the tests\n" + json.dumps(DONE)
    assert plait("say", session, late, "--json").json["delivery"] == "waits"
    assert "1 message waits to be told" in plait("show", session).out
    gate.touch()
    first = plait.show(session)["runs"][0]["run"]
    assert "heard" in plait("log", session, "--follow", "--run", str(first)).out
    # What came too late for that turn begins the next one by itself.
    eventually(lambda: len(plait.ask("plait/session", session=session)["runs"]) == 2, 20)
    assert plait.rests(session) == "ready"
    assert plait("log", session).out.startswith("> And the tests\n")


def test_say_starts_an_agent_that_rests(plait: Talking, repos: Repos) -> None:
    session = plait.begin(repos(), "Rest", BEGAN, DONE)
    assert plait.rests(session) == "ready"
    assert "started again" in plait("say", session, "More\n" + json.dumps(DONE)).out
    assert plait.rests(session) == "ready"
    assert "> More" in plait("log", session).out


def test_list_and_show_tell_what_is_asked_used_and_planned(plait: Talking, repos: Repos) -> None:
    repo = repos()
    session = plait.begin(
        repo,
        "Much",
        BEGAN,
        report(r.Planned(entries=(r.PlanEntry(text="Read", status="completed"), r.PlanEntry(text="Write")))),
        report(r.Context(used=50_000, size=200_000)),
        report(r.Limit(account="anthropic", status="warning", windows=(r.Window(name="week", used=0.9),))),
        report(r.Used(scope="turn", input=12_000, cache_read=300, cost_usd=0.42)),
        permission(),
        "answer",
        DONE,
    )
    plait.asks(session)
    row = plait("list", cwd=repo).out.splitlines()[1]
    assert "12.3k tok · $0.42" in row
    assert row.endswith("asks: Run make")
    shown = plait("show", session).out
    for expected in (
        "noop · opus · permission: ask",
        "50.0k tokens of 200.0k (25%)",
        "anthropic: near a limit (week 90% used)",
        "12.3k tok · $0.42 (12.0k in, 300 from the cache)",
        "  ☑ Read",
        "  ☐ Write",
        "  --option no  (No)",
    ):
        assert expected in shown
    plait("answer", session, "--allow")
    assert plait.rests(session) == "ready"
    assert "  All is built." in plait("show", session).out


def test_watch_shows_the_request_and_takes_the_answer(plait: Talking, repos: Repos) -> None:
    repo = repos()
    session = plait.begin(repo, "Watched", permission(), "answer", report(r.Message(text="Going on.")), "say")
    plait.asks(session)
    with terminal(plait, "watch", cwd=repo, columns=120, rows=40) as screen:
        screen.shows("Needs you (1)")
        screen.shows("asks")
        screen.shows("[A]")
        screen.press("z")
        screen.shows("q quit")
        # A key is not taken for an answer to what has only just come up.
        for _ in range(200):
            screen.press("A")
            if plait.ask("plait/session", session=session)["state"] == "working":
                break
        screen.shows("Going on.")
        screen.press("q")
        screen.ends(0)
    assert "→ Yes, always" in plait("log", session).out
    plait("stop", session)
