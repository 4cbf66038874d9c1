"""Knows how one run of OpenCode speaks with the server that it shares: commands come in, what the server says goes out.

Run as `python -I -S -E opencode_bridge.py <command of opencode>` in the worktree, with JSON lines on standard input
(`open` first, then `prompt`, `permission`, `question`, `dismiss`, `abort`) and on standard output: `ready`, `event`
(one of the server's events, if it is about this conversation or one of its subagents'), `model`, `pending`, `refused`,
`aborted`, `failed`, `gone`. `at` is the time in Unix seconds. It ends when its input does. It imports the standard
library only, and keeps no state that the server does not have.
"""

# No pathlib: these programs are small and start often.
# ruff: noqa: PTH109

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from urllib.parse import quote, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from plait.agents.programs import opencode_host as host
else:
    # -I leaves the program's own directory out.
    sys.path.insert(0, __file__.rpartition("/")[0])
    import opencode_host as host

REQUEST_S = 120.0
FIRST_REQUEST_S = 400.0
"""OpenCode then installs its plugin library from npm, which without a network takes several attempts."""
SILENCE_S = 60.0
"""The server sends a heartbeat every 10 s."""
SETTLING_S = 3.0
LEAVING_S = 2.0
AGAIN_S = 0.2
GONE_S = 2.0
UNINTERESTING = frozenset({"session.updated", "session.diff"})
"""Events that repeat at length what other events say."""
EXPECTED = {"ask": ("ask", "ask"), "edits": ("allow", "ask"), "all": ("allow", "allow")}
"""What edits and commands must amount to in the server's configuration, by permission mode."""


class Stopped(Exception):
    """We were told to end by a signal."""


class Failed(Exception):
    """The run cannot go on; its text is the reason."""


def main(command: list[str]) -> int:
    """Serve one run until its input ends; the process's exit status."""
    bridge = Bridge(command)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        bridge.serve()
    except Stopped:
        bridge.abort(LEAVING_S)
    except Failed as error:
        bridge.say({"type": "failed", "text": str(error)})
        return 1
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        bridge.say({"type": "failed", "text": f"Speaking with OpenCode failed: {type(error).__name__}: {error}"})
        return 1
    return 0


def stop(number: int, _frame: FrameType | None) -> None:
    """The first signal aborts the turn; a second one must not disturb that."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise Stopped


class Bridge:
    """One run's connection to the host and to the server."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.directory = os.getcwd()
        self.host: socket.socket | None = None
        self.url = ""
        self.password = ""
        self.session = ""
        self.opened_ms = 0.0
        self.family: set[str] = set()
        self.models: dict[str, int] = {}
        self.named: set[str] = set()
        self.idle = threading.Event()
        self.idle.set()
        self.listening = threading.Event()
        self.writing = threading.Lock()

    def serve(self) -> None:
        """Carry out the commands on standard input; raises Stopped or Failed."""
        for line in sys.stdin.buffer:
            message = json.loads(line)
            match message["op"]:
                case "open":
                    self._open(message)
                case "prompt":
                    body: dict[str, object] = {"parts": [{"type": "text", "text": message["text"]}]}
                    model = str(message.get("model") or "").partition("/")
                    if model[2]:
                        body["model"] = {"providerID": model[0], "modelID": model[2]}
                    self.idle.clear()
                    self._ask(message, f"/session/{self.session}/prompt_async", body)
                case "permission":
                    answer = {key: message[key] for key in ("reply", "message") if message.get(key)}
                    self._ask(message, f"/permission/{message['request']}/reply", answer)
                case "question":
                    self._ask(message, f"/question/{message['request']}/reply", {"answers": message["answers"]})
                case "dismiss":
                    self._ask(message, f"/question/{message['request']}/reject", {})
                case "abort":
                    self.abort(SETTLING_S)
                case unknown:
                    self.say({"type": "refused", "op": str(unknown), "text": "unknown op"})

    def abort(self, patience_s: float) -> None:
        """End the turn, wait a while for the server to say so, and say what became of everything."""
        if not self.session:
            return
        # What was asked for a moment ago may not have begun yet, so that there would be nothing to abort.
        deadline = time.monotonic() + patience_s
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            left = patience_s
            while left > 0:
                self._request("POST", f"/session/{self.session}/abort", {}, patience_s)
                if self.idle.wait(min(left, AGAIN_S)):
                    break
                left = deadline - time.monotonic()
            self._repeat()
        self.say({"type": "aborted"})

    def say(self, message: dict[str, object]) -> None:
        """Write a line, however long the disk stays full."""
        data = json.dumps({**message, "at": time.time()}).encode() + b"\n"
        with self.writing:
            while data:
                try:
                    data = data[os.write(1, data) :]
                except BrokenPipeError:
                    os._exit(1)
                except OSError:
                    time.sleep(AGAIN_S)

    def _open(self, message: dict[str, object]) -> None:
        """Attach to the host, and open the conversation or take it up again."""
        permission = str(message.get("permission"))
        self._attach(permission)
        self._check(permission)
        self.opened_ms = time.time() * 1000
        resume = message.get("resume")
        if resume:
            status, session = self._request("GET", f"/session/{quote(str(resume), safe='')}")
            if status != 200:
                raise Failed(f"OpenCode does not know the conversation {resume} any more.")
        else:
            status, session = self._request("POST", "/session", {"title": message.get("title")})
        if not isinstance(session, dict) or "id" not in session:
            raise Failed(f"OpenCode did not open a conversation (status {status}): {explained(session)}")
        self.session = str(session["id"])
        self.family = {self.session}
        told = self._tell_host({"op": "session", "id": self.session})
        if told.get("ok") is not True:
            raise Failed(str(told.get("error") or "The host of the OpenCode server has left."))
        threading.Thread(target=self._wait_for_host, daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self.listening.wait(REQUEST_S):
            raise Failed("OpenCode's events could not be listened to.")
        self.say({"type": "ready", "session": self.session, "version": session.get("version")})

    def _attach(self, permission: str) -> None:
        own = host.own_variables(os.environ)
        try:
            self.host = host.dialled(host.group_directory(os.environ, self.command))
        except OSError as error:
            raise Failed(f"The host of the OpenCode server is not there: {error}.") from error
        reply = self._tell_host(
            {
                "op": "attach",
                "directory": self.directory,
                "run": os.environ.get(host.RUN),
                "pid": os.getpid(),
                "permission": permission,
                "env": {name: os.environ[name] for name in own},
            }
        )
        if reply.get("ok") is not True:
            raise Failed(str(reply.get("error") or "The host of the OpenCode server has left."))
        self.url, self.password = str(reply["url"]), str(reply["password"])

    def _check(self, permission: str) -> None:
        """Raises Failed unless the server asks for what this run must ask for: our plugin may have been kept out."""
        status, config = self._request("GET", "/config", None, FIRST_REQUEST_S)
        rules = config.get("permission") if isinstance(config, dict) else None
        if not isinstance(rules, dict):
            rules = {}
        for tool, action in zip(("edit", "bash"), EXPECTED[permission], strict=True):
            rule = rules.get(tool)
            if (rule.get("*") if isinstance(rule, dict) else rule) not in (action, "deny"):
                raise Failed(
                    f"OpenCode did not take over the permissions of this run (status {status}): "
                    "its configuration keeps plugins out."
                )
        _, providers = self._request("GET", "/config/providers")
        self.models = limits(providers)

    def _tell_host(self, message: dict[str, object]) -> dict[str, object]:
        assert self.host is not None
        with contextlib.suppress(OSError):
            self.host.sendall(json.dumps(message).encode() + b"\n")
            return self._heard()
        return {}

    def _heard(self) -> dict[str, object]:
        """The next line from the host; empty if it is gone."""
        assert self.host is not None
        received = b""
        try:
            while not received.endswith(b"\n"):
                piece = self.host.recv(65536)
                if not piece:
                    return {}
                received += piece
        except OSError:
            return {}
        reply = json.loads(received)
        return reply if isinstance(reply, dict) else {}

    def _wait_for_host(self) -> None:
        """End this run when the server has ended."""
        reply = self._heard()
        self.say({"type": "gone", "text": str(reply.get("error") or "The host of the OpenCode server was killed.")})
        os._exit(1)

    def _request(self, method: str, path: str, body: object = None, timeout_s: float = REQUEST_S) -> tuple[int, object]:
        place = f"{path}{'&' if '?' in path else '?'}directory={quote(self.directory, safe='')}"
        try:
            return host.request(self.url, self.password, method, place, body, timeout_s)
        except (OSError, http.client.HTTPException):
            # If that was the end of the server, the host tells it in a moment, and how it ended.
            time.sleep(GONE_S)
            raise

    def _ask(self, message: dict[str, object], path: str, body: object) -> None:
        """Hand a command to the server, and say if it does not want it."""
        try:
            status, reply = self._request("POST", path, body)
            problem = "" if status < 300 else explained(reply) or f"status {status}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            about: dict[str, object] = {key: message[key] for key in ("op", "id", "request") if key in message}
            self.say({"type": "refused", **about, "text": problem})

    def _listen(self) -> None:
        """Pass on the server's events for ever; after a break, first what was missed."""
        while True:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                self._stream()
            time.sleep(AGAIN_S)

    def _stream(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=SILENCE_S)
        try:
            connection.request(
                "GET", f"/event?directory={quote(self.directory, safe='')}", headers=host.authorization(self.password)
            )
            for line in connection.getresponse():
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line[5:])
                if event.get("type") == "server.connected":
                    if self.listening.is_set():
                        self._catch_up()
                    self.listening.set()
                else:
                    self._pass_on(event)
        finally:
            connection.close()

    def _pass_on(self, event: dict[str, object]) -> None:
        """Write an event that is about this conversation."""
        properties = event.get("properties")
        kind = event.get("type")
        if not isinstance(properties, dict) or kind in UNINTERESTING:
            return
        info = properties.get("info")
        info = info if isinstance(info, dict) else {}
        if kind == "session.created" and info.get("parentID") in self.family:
            self.family.add(str(info.get("id")))
        session = properties.get("sessionID") or info.get("sessionID")
        if session not in self.family:
            return
        model = f"{info.get('providerID')}/{info.get('modelID')}"
        if model in self.models and model not in self.named:
            self.named.add(model)
            self.say({"type": "model", "model": model, "context": self.models[model]})
        self.say({"type": "event", "event": event})
        if session == self.session:
            status = properties.get("status")
            if kind == "session.idle":
                self.idle.set()
            elif kind == "session.status" and isinstance(status, dict) and status.get("type") == "busy":
                self.idle.clear()

    def _catch_up(self) -> None:
        """Say as events all that may have been missed."""
        self._repeat()
        waiting: list[str] = []
        for kind in ("permission", "question"):
            _, requests = self._request("GET", f"/{kind}")
            for asked in requests if isinstance(requests, list) else []:
                if asked["sessionID"] in self.family:
                    waiting.append(asked["id"])
                    self._pass_on({"type": f"{kind}.asked", "properties": asked})
        self.say({"type": "pending", "requests": waiting})
        _, statuses = self._request("GET", "/session/status")
        status = (statuses.get(self.session) if isinstance(statuses, dict) else None) or {"type": "idle"}
        about = {"sessionID": self.session, "status": status}
        self._pass_on({"type": "session.status", "properties": about})
        if status["type"] == "idle":
            self._pass_on({"type": "session.idle", "properties": {"sessionID": self.session}})

    def _repeat(self) -> None:
        """Say as events what the messages since we began are now."""
        _, children = self._request("GET", f"/session/{self.session}/children")
        self.family |= {str(child["id"]) for child in children} if isinstance(children, list) else set()
        for session in sorted(self.family):
            _, messages = self._request("GET", f"/session/{session}/message")
            for message in messages if isinstance(messages, list) else []:
                if message["info"]["time"]["created"] >= self.opened_ms:
                    self._pass_on({"type": "message.updated", "properties": {"info": message["info"]}})
                    for part in message["parts"]:
                        self._pass_on(
                            {"type": "message.part.updated", "properties": {"sessionID": session, "part": part}}
                        )


def limits(providers: object) -> dict[str, int]:
    """The size of each model's context, by `provider/model`, in the reply to `GET /config/providers`."""
    found: dict[str, int] = {}
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        listed = providers["providers"]  # type: ignore[index]  # a reply of another shape has no limits to tell
        for provider in listed:
            for name, model in provider["models"].items():
                found[f"{provider['id']}/{name}"] = int(model["limit"]["context"])
    return found


def explained(reply: object) -> str:
    """What a reply says is wrong."""
    if isinstance(reply, dict):
        data = reply.get("data")
        return str((data.get("message") if isinstance(data, dict) else None) or reply.get("message") or reply)
    return str(reply or "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
