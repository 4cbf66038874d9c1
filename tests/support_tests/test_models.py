"""The scripted model server: steps, usage, faults and holds are the same in every protocol."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.model_clients import ANTHROPIC, CHAT, CLIENTS, GEMINI, RESPONSES, Client, post
from tests.support.models import SIDE_TEXT, Fault, ModelServer, Scenario, Step, Tokens, Write, tokens_of

WRITES = (Step("I will write it.", Write("hello.txt", "hello\n")), Step("Done: wrote hello.txt."))
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


@every_client
def test_the_step_depends_on_the_transcript_alone(models: ModelServer, client: Client) -> None:
    scenario = models.put("steps", Scenario([[Step("one"), Step("two")], [Step("three"), Step("four")]]))
    expected = [("one", 1, 0), ("two", 1, 1), ("two", 1, 9), ("three", 2, 0), ("four", 2, 1), ("three", 7, 0)]
    for text, prompts, results in reversed(expected):
        said = client.ask(models, scenario, [f"Prompt {number}." for number in range(prompts)], results)
        assert client.text(said) == text
    assert [one.prompt for one in models.requests(scenario)][-1] == "Prompt 0."


@every_client
def test_what_clients_add_by_themselves_is_no_prompt(models: ModelServer, client: Client) -> None:
    scenario = models.put("added", Scenario([[Step("first")], [Step("second")]]))
    added = ["<environment_context>\n<cwd>/x</cwd>\n</environment_context>", "<reminder>Be good.</reminder>"]
    assert client.text(client.ask(models, scenario, [*added, "<date>today</date>\n\nDo it."])) == "first"
    assert models.requests(scenario)[0].prompt == "Do it."


@every_client
def test_spent_is_what_the_clients_were_told(models: ModelServer, client: Client) -> None:
    scenario = models.put("spent", Scenario([WRITES]))
    told = [client.usage(client.ask(models, scenario, results=results)) for results in (0, 1, 2)]
    assert len(set(told)) == 3
    assert models.spent(scenario).main == told[0] + told[1] + told[2]
    assert models.spent(scenario).side == Tokens()
    aside = post(models, scenario, client.path, client.body(["A title, please."], tools=False))
    assert client.text(aside) == SIDE_TEXT
    assert models.spent(scenario).main == told[0] + told[1] + told[2]
    assert models.spent(scenario).side == client.usage(aside)
    assert models.spent(scenario).total.requests == 4


def test_the_sums_of_as_many_requests_differ() -> None:
    chosen = [[number for number in range(9) if mask >> number & 1] for mask in range(1 << 9)]
    sums = {(len(numbers), sum(tokens_of(number).input for number in numbers)) for numbers in chosen}
    assert len(sums) == 1 << 9


def test_the_usage_of_a_scenario_is_sent_in_turn(models: ModelServer) -> None:
    wanted = Tokens(input=11, cache_read=5, output=3, reasoning=1)
    scenario = models.put("own", Scenario([WRITES], usage=[wanted]))
    assert CHAT.usage(CHAT.ask(models, scenario)) == Tokens(11, 5, 0, 3, 1, 1)


@every_client
def test_faults_are_counted_and_side_requests_are_spared(models: ModelServer, client: Client) -> None:
    faults = [Fault(429, retry_after_s=2, times=2, headers={"x-why": "limit"}), Fault(503, after=1, message="Full.")]
    scenario = models.put("faults", Scenario([WRITES], faults))
    assert post(models, scenario, client.path, client.body(["A title."], tools=False)).status == 200
    refused = client.ask(models, scenario)
    assert (refused.status, refused.headers["retry-after"], refused.headers["x-why"]) == (429, "2", "limit")
    assert "error" in refused.object
    assert [client.ask(models, scenario).status for _ in range(4)] == [429, 200, 503, 200]
    endings = [one.ending for one in models.requests(scenario)]
    assert endings == ["refused", "refused", "answered", "refused", "answered"]
    assert models.spent(scenario).main.requests == 2


def test_refusals_have_the_form_that_each_provider_gives_them(models: ModelServer) -> None:
    scenario = models.put("refused", Scenario([WRITES], [Fault(401, times=None)]))
    assert ANTHROPIC.ask(models, scenario).object["error"]["type"] == "authentication_error"
    assert RESPONSES.ask(models, scenario).object["error"]["code"] == "invalid_api_key"
    assert CHAT.ask(models, scenario).object["error"]["code"] == "invalid_api_key"
    assert GEMINI.ask(models, scenario).object["error"]["status"] == "UNAUTHENTICATED"
    models.put("quota", Scenario([WRITES], [Fault(429, body={"error": {"type": "usage_limit_reached"}})]))
    assert RESPONSES.ask(models, "quota").object == {"error": {"type": "usage_limit_reached"}}


@every_client
def test_a_dropped_reply_breaks_off_in_its_middle(models: ModelServer, client: Client) -> None:
    scenario = models.put("drop", Scenario([WRITES], [Fault(kind="drop")]))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        client.ask(models, scenario)
    assert client.ask(models, scenario).status == 200
    assert [one.ending for one in models.requests(scenario)] == ["dropped", "answered"]
    assert models.spent(scenario).main.requests == 1


@every_client
def test_an_error_can_come_in_the_middle_of_a_stream(models: ModelServer, client: Client) -> None:
    scenario = models.put("broken", Scenario([WRITES], [Fault(kind="stream_error", message="Too much to do.")]))
    answer = client.ask(models, scenario)
    assert answer.status == 200
    assert len(answer.events()) > 1
    assert "Too much to do." in json.dumps(answer.events()[-1])
    assert models.spent(scenario).main == Tokens()
    assert "Too much" not in client.ask(models, scenario).body.decode()


@every_client
def test_a_held_reply_stops_in_its_middle_until_it_is_released(models: ModelServer, client: Client) -> None:
    scenario = models.put("held", Scenario([[Step("Some words before the tool.", hold=True)]]))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.ask, models, scenario)
        models.wait_held(scenario)
        assert not waiting.done()
        assert models.spent(scenario).main == Tokens()
        models.release(scenario)
        assert client.text(waiting.result(30)) == "Some words before the tool."
    models.wait_answered(scenario, 1)
    models.hold(scenario)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.ask, models, scenario)
        models.wait_held(scenario)
        models.release(scenario)
        assert waiting.result(30).status == 200


def test_what_was_sent_before_the_hold_arrives(models: ModelServer) -> None:
    scenario = models.put("half", Scenario([[Step("Some words before the tool.", hold=True)]]))
    connection = http.client.HTTPConnection("127.0.0.1", models.port, timeout=30)
    connection.request("POST", f"/s/{scenario}{ANTHROPIC.path}", json.dumps(ANTHROPIC.body(["Do it."])))
    response = connection.getresponse()
    lines = [response.readline() for _ in range(12)]
    assert b"text_delta" in b"".join(lines)
    response.close()
    connection.close()
    models.wait_ended(scenario, 1)
    assert models.requests(scenario)[0].ending == "client left"
    assert models.spent(scenario).main == Tokens()


def test_the_end_of_the_server_lets_held_replies_go() -> None:
    with ThreadPoolExecutor(1) as pool:
        with ModelServer() as models:
            scenario = models.put("end", Scenario([[Step("Never said in full.", hold=True)]]))
            waiting = pool.submit(ANTHROPIC.ask, models, scenario)
            models.wait_held(scenario)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            waiting.result(30)


def test_a_fault_of_the_server_itself_is_not_kept_secret() -> None:
    def misuse() -> None:
        with ModelServer() as models:
            models.put("bad", Scenario([[Step("x")]]))
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                post(models, "bad", ANTHROPIC.path, {"messages": 3})

    with pytest.raises(AssertionError, match="model server itself failed"):
        misuse()


def test_requests_are_waited_for_and_keys_are_masked(models: ModelServer) -> None:
    scenario = models.put("keys", Scenario([WRITES]))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(models.wait_for_requests, scenario, 1)
        body = ANTHROPIC.body(["Do it."])
        post(models, scenario, ANTHROPIC.path + "?beta=true", body, {"X-Api-Key": "secret", "x-app": "cli"})
        (one,) = waiting.result(30)
    assert (one.headers["x-api-key"], one.headers["x-app"]) == ("***", "cli")
    assert one.body == body
    assert one.mentions("Do it.")
    assert "secret" not in repr(one)
    with pytest.raises(
        AssertionError, match=r"2 main requests to keys: that did not come within 0 s\.\n.*/v1/messages"
    ):
        models.wait_for_requests(scenario, 2, timeout_s=0)


def test_what_is_no_request_to_a_model_is_answered_and_kept_apart(models: ModelServer) -> None:
    scenario = models.put("other", Scenario([WRITES], [Fault(500, times=None)]))
    counted = post(models, scenario, "/v1/messages/count_tokens", ANTHROPIC.body(["Count."])).object
    assert counted["input_tokens"] > 0
    assert post(models, scenario, "/v1beta/models/m:countTokens", GEMINI.body(["Count."])).object["totalTokens"] > 0
    assert post(models, scenario, "/v1/telemetry", {}).status == 404
    assert post(models, "nobody", ANTHROPIC.path, {}).status == 404
    assert models.requests(scenario) == []
    assert len(models.requests(scenario, "other")) == 3


def test_limits_are_told_in_the_headers_and_a_scenario_changes_them(models: ModelServer) -> None:
    models.put("limits", Scenario([WRITES], headers={"anthropic-ratelimit-unified-status": "rejected", "x-more": "1"}))
    headers = ANTHROPIC.ask(models, "limits").headers
    assert headers["anthropic-ratelimit-unified-status"] == "rejected"
    assert headers["anthropic-ratelimit-unified-5h-utilization"] == "0.42"
    assert headers["x-more"] == "1"
    models.put("none", Scenario([WRITES], headers={"x-codex-primary-used-percent": ""}))
    headers = RESPONSES.ask(models, "none").headers
    assert "x-codex-primary-used-percent" not in headers
    assert headers["x-codex-secondary-used-percent"] == "17.0"


def test_many_clients_at_once_get_each_their_own_conversation(models: ModelServer) -> None:
    names = [models.put(f"many-{number}", Scenario([[Step(f"I am {number}.")]])) for number in range(8)]
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(lambda number: CHAT.text(CHAT.ask(models, names[number % 8])), range(64)))
    assert texts == [f"I am {number % 8}." for number in range(64)]
    assert [models.spent(name).main.requests for name in names] == [8] * 8
    seen = [one.number for name in names for one in models.requests(name)]
    assert len(set(seen)) == 64
