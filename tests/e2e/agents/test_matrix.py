"""What every agent must be able to do, each with its real program: the table of agents and behaviours."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from plait.agents.registry import ADAPTERS
from tests.e2e.agents.conftest import HELLO, Installation
from tests.support.models import Fault, Scenario, Shell, Step, Write
from tests.support.processes import eventually, marked, supervisors_below
from tests.support.repo import manifest

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(240)]

SECOND = (Step("Now the other one.", Write("second.txt", "second\n")), Step("Done: second.txt is there."))
# Some agents forget a message whose turn was broken off, so that the next one takes its place in the script.
AFTER_STOP = Scenario([[replace(HELLO[0], hold=True), HELLO[1]], list(HELLO)])


def can(at_work: Installation, ability: str) -> bool:
    return bool(getattr(ADAPTERS[at_work.agent.kind].abilities, ability))


def test_an_edit_lands_in_the_worktree_and_nowhere_else(at_work: Installation) -> None:
    before = manifest(at_work.top)
    session = at_work.run()
    detail = at_work.ready(session)
    assert (at_work.worktree(session) / "hello.txt").read_text() == "hello\n"
    assert [(hunk["path"], hunk["kind"]) for hunk in detail["hunks"]] == [("hello.txt", "create")]
    assert manifest(at_work.top) == before
    assert detail["agentSession"]
    kinds = [entry["kind"] for entry in at_work.log(session)]
    assert kinds[0] == "user"
    assert "tool" in kinds
    assert "turn" in kinds
    assert "unread" not in kinds, at_work.story(session)
    assert any("Done" in entry["text"] for entry in at_work.log(session) if entry["kind"] == "message")
    at_work.plait.none_left()


def test_usage_is_what_the_server_sent(at_work: Installation) -> None:
    session = at_work.run(scenario=Scenario([list(HELLO), list(SECOND)]))
    at_work.ready(session)
    at_work.say(session, "Now the second file")
    detail = at_work.ready(session)
    spent = at_work.models.spent(at_work.scenario)
    usage = detail["usage"]
    assert usage is not None, at_work.story(session)
    told = (usage["input"] + usage["cache_read"] + usage["cache_write"], usage["output"])
    sent = [spent.main, spent.total]
    if at_work.agent.name == "gemini":
        # What it thinks, and what the cache gave, it does not tell over ACP.
        assert told in [(one.prompt, one.output - one.reasoning) for one in sent], (usage, spent)
    else:
        assert told in [(one.prompt, one.output) for one in sent], (usage, spent)


def test_a_follow_up_goes_on_with_the_conversation(at_work: Installation) -> None:
    session = at_work.run(scenario=Scenario([list(HELLO), list(SECOND)]))
    first = at_work.ready(session)
    at_work.say(session, "Now the second file")
    eventually(lambda: len(at_work.show(session)["runs"]) == 2)
    detail = at_work.ready(session)
    assert (at_work.worktree(session) / "second.txt").read_text() == "second\n"
    assert detail["agentSession"] == first["agentSession"]
    assert sorted(hunk["path"] for hunk in detail["hunks"]) == ["hello.txt", "second.txt"]


def test_a_message_in_the_middle_of_a_turn_is_not_lost(at_work: Installation) -> None:
    held = Step("I will create hello.txt.", Write("hello.txt", "hello\n"), hold=True)
    session = at_work.run(scenario=Scenario([[held, Step("Done.")], list(SECOND)]))
    at_work.models.wait_held(at_work.scenario)
    at_work.say(session, "And the second file")
    at_work.models.release(at_work.scenario)
    at_work.ready(session)
    asked = json.dumps([exchange.body for exchange in at_work.models.requests(at_work.scenario)])
    assert "And the second file" in asked, at_work.story(session)
    # Codex breaks off its model's reply when it is steered, so that what that was about to do is not done.
    done = {path.name for path in at_work.worktree(session).glob("*.txt")}
    assert done & {"hello.txt", "second.txt"}, at_work.story(session)


@pytest.mark.parametrize("permission", ["ask"])
def test_a_permission_is_asked_for_and_given(at_work: Installation) -> None:
    session = at_work.run()
    view = at_work.until(session, "needs permission")
    (request,) = view["requests"]
    assert not (at_work.worktree(session) / "hello.txt").exists()
    shown = json.dumps(request)
    assert "hello" in shown
    assert {option["kind"] for option in request["options"]} & {"allow_once"}
    at_work.caller.request("plait/answer", {"session": session, "decision": "allow"}, 60)
    _allow_the_rest(at_work, session)
    at_work.ready(session)
    assert (at_work.worktree(session) / "hello.txt").read_text() == "hello\n"


@pytest.mark.parametrize("permission", ["ask"])
def test_a_permission_is_refused(at_work: Installation) -> None:
    session = at_work.run()
    at_work.until(session, "needs permission")
    at_work.caller.request("plait/answer", {"session": session, "decision": "deny"}, 60)
    detail = at_work.rested(session)
    assert detail["state"] in ("ready", "stopped"), at_work.story(session)
    assert not (at_work.worktree(session) / "hello.txt").exists()
    assert not detail["requests"]


@pytest.mark.parametrize("permission", ["ask"])
def test_a_request_is_answered_after_the_daemon_was_killed(at_work: Installation) -> None:
    session = at_work.run()
    (before,) = at_work.until(session, "needs permission")["requests"]
    at_work.restart()
    (after,) = at_work.until(session, "needs permission")["requests"]
    assert after == before
    at_work.caller.request("plait/answer", {"session": session, "decision": "allow"}, 60)
    _allow_the_rest(at_work, session)
    at_work.ready(session)
    assert (at_work.worktree(session) / "hello.txt").read_text() == "hello\n"


def test_a_stop_ends_the_turn_and_the_session_can_go_on(at_work: Installation) -> None:
    session = at_work.run(scenario=AFTER_STOP)
    at_work.models.wait_held(at_work.scenario)
    at_work.caller.request("plait/stop", {"session": session}, 60)
    detail = at_work.rested(session)
    assert detail["state"] == "stopped", at_work.story(session)
    at_work.plait.none_left()
    at_work.models.release(at_work.scenario)
    at_work.say(session, "Create hello.txt now")
    after = at_work.ready(session)
    assert (at_work.worktree(session) / "hello.txt").read_text() == "hello\n"
    assert after["agentSession"] == detail["agentSession"] or _told_anew(at_work, session)


def test_an_agent_works_on_while_the_daemon_is_killed(at_work: Installation) -> None:
    held = Step("I will create hello.txt.", Write("hello.txt", "hello\n"), hold=True)
    session = at_work.run(scenario=Scenario([[held, Step("Done.")], list(SECOND)]))
    at_work.models.wait_held(at_work.scenario)
    at_work.plait.kill_daemon()
    at_work.models.release(at_work.scenario)
    at_work.caller = at_work.plait.connect()
    first = at_work.ready(session)
    at_work.say(session, "Now the second file")
    detail = at_work.ready(session)
    assert (at_work.worktree(session) / "second.txt").read_text() == "second\n"
    assert detail["agentSession"] == first["agentSession"]


def test_a_session_goes_on_after_a_reboot(at_work: Installation) -> None:
    session = at_work.run(scenario=Scenario([[*HELLO], [replace(SECOND[0], hold=True), SECOND[1]], list(SECOND)]))
    first = at_work.ready(session)
    at_work.say(session, "Now the second file")
    at_work.models.wait_held(at_work.scenario)
    _reboot(at_work, session)
    at_work.models.release(at_work.scenario)
    detail = at_work.rested(session)
    assert detail["state"] == "failed"
    assert "restarted" in detail["reason"]
    assert (at_work.worktree(session) / "hello.txt").read_text() == "hello\n"
    at_work.say(session, "Try again")
    after = at_work.ready(session)
    if _told_anew(at_work, session):
        return
    assert (at_work.worktree(session) / "second.txt").read_text() == "second\n"
    assert after["agentSession"] == first["agentSession"]


def test_too_many_requests_are_waited_out_and_shown(at_work: Installation) -> None:
    faults = [Fault(status=429, retry_after_s=1, times=1)]
    session = at_work.run(scenario=Scenario([list(HELLO)], faults=faults))
    at_work.ready(session)
    assert (at_work.worktree(session) / "hello.txt").read_text() == "hello\n"
    if can(at_work, "limits"):
        retries = [entry for entry in at_work.log(session) if entry["kind"] == "retry"]
        assert retries, at_work.story(session)


def test_a_login_that_is_refused_fails_fast_and_says_what_to_do(at_work: Installation) -> None:
    began = time.monotonic()
    session = at_work.run(scenario=Scenario([list(HELLO)], faults=[Fault(status=401, times=None)]))
    detail = at_work.rested(session)
    assert detail["state"] == "failed", at_work.story(session)
    assert "log" in detail["reason"].lower() or "key" in detail["reason"].lower(), detail["reason"]
    assert time.monotonic() - began < 45
    at_work.plait.none_left()


def test_a_stop_leaves_no_process_of_the_agents_tools(at_work: Installation) -> None:
    if at_work.agent.name == "aider":
        pytest.skip("Aider has no tool that runs a command by itself: it proposes commands, which are asked for")
    # Not `sleep`: an agent may refuse to wait for that.
    endless = "tail -n 987654 -f a.txt"
    session = at_work.run("Run it", Scenario([[Step("I run it.", Shell(endless)), Step("Done.")]]))

    def sleeping() -> bool:
        if at_work.view(session)["state"] == "needs permission":
            at_work.caller.request("plait/answer", {"session": session, "decision": "allow"}, 60)
        return _runs(endless)

    eventually(sleeping, 60)
    at_work.caller.request("plait/stop", {"session": session}, 60)
    detail = at_work.rested(session)
    assert detail["state"] == "stopped", at_work.story(session)
    eventually(lambda: not _runs(endless))
    at_work.plait.none_left()


def _told_anew(at_work: Installation, session: str) -> bool:
    """Gemini CLI 0.61 loses a conversation whose first turn was broken off or that was killed; Plait says so then."""
    remarks = [entry["text"] for entry in at_work.log(session) if entry["kind"] == "remark"]
    return at_work.agent.name == "gemini" and any("anew" in remark for remark in remarks)


def _allow_the_rest(at_work: Installation, session: str) -> None:
    """Some agents ask more than once for one file: each request is allowed until the session rests."""

    def rests() -> bool:
        view = at_work.view(session)
        if view["state"] == "needs permission":
            params = {"session": session, "request": view["requests"][0]["id"], "decision": "allow"}
            with suppress(Exception):
                at_work.caller.request("plait/answer", params, 60)
        return view["state"] in ("ready", "failed", "stopped")

    eventually(rests, 90)


def _runs(command: str) -> bool:
    words = command.encode().replace(b" ", b"\0")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if words in (entry / "cmdline").read_bytes():
                    return True
    return False


def _reboot(at_work: Installation, session: str) -> None:
    """What a power cut leaves: no process at all, and a boot id that is not the machine's any more."""
    at_work.plait.kill_daemon()
    for pid in [*supervisors_below(at_work.plait.home), *marked(at_work.plait.mark)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not marked(at_work.plait.mark) and not supervisors_below(at_work.plait.home))
    for record in (at_work.plait.places.state / "sessions" / session / "runs").glob("*/supervisor.json"):
        known = json.loads(record.read_bytes())
        record.write_text(json.dumps({**known, "boot_id": "another"}))
    at_work.caller = at_work.plait.connect()
