"""A small stand-in for `opencode serve`: the same paths and events, and faults that the real one cannot be asked for.

What the user says decides: `say TEXT` is answered with the text, `wait` goes on until it is aborted, `break` breaks the
event stream off and goes on without it, `die` ends the server. `SCRIPTED_LOG` names a file for the requests.
With `SCRIPTED_START=fail` it does not start; with `SCRIPTED_PLUGINS=off` it does not read the plugin that it is given.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Json = dict[str, Any]
RULES = {
    "ask": {"edit": "ask", "bash": "ask"},
    "edits": {"edit": "allow", "bash": "ask"},
    "all": {"edit": "allow", "bash": "allow"},
}


class World:
    """All that the server knows."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.listeners: dict[queue.Queue[Json | None], str] = {}
        self.sessions: dict[str, str] = {}
        self.messages: dict[str, list[Json]] = {}
        self.busy: set[str] = set()
        self.count = 0

    def name(self, kind: str) -> str:
        with self.lock:
            self.count += 1
            return f"{kind}_{self.count}"

    def tell(self, directory: str, kind: str, properties: Json) -> None:
        with self.lock:
            for listener, place in self.listeners.items():
                if place == directory:
                    listener.put({"type": kind, "properties": properties})

    def status(self, directory: str, session: str, kind: str) -> None:
        with self.lock:
            (self.busy.add if kind == "busy" else self.busy.discard)(session)
        self.tell(directory, "session.status", {"sessionID": session, "status": {"type": kind}})
        if kind == "idle":
            self.tell(directory, "session.idle", {"sessionID": session})

    def message(self, directory: str, session: str, role: str, said: str) -> None:
        info = {"id": self.name("msg"), "sessionID": session, "role": role, "time": {"created": 1e15}}
        if role == "assistant":
            info |= {"providerID": "scripted", "modelID": "one", "finish": "stop"}
        part = {"id": self.name("prt"), "messageID": info["id"], "sessionID": session, "type": "text", "text": said}
        part["time"] = {"start": 1, "end": 2}
        with self.lock:
            self.messages[session].append({"info": info, "parts": [part]})
        self.tell(directory, "message.updated", {"sessionID": session, "info": info})
        self.tell(directory, "message.part.updated", {"sessionID": session, "part": part})

    def hear(self, directory: str, session: str, said: str) -> None:
        self.message(directory, session, "user", said)
        self.status(directory, session, "busy")
        word, _, rest = said.partition(" ")
        if word == "wait":
            return
        if word == "die":
            print("That was too much for me.", flush=True)
            os._exit(7)
        if word == "break":
            with self.lock:
                for listener in self.listeners:
                    listener.put(None)
                self.listeners.clear()
        self.message(directory, session, "assistant", rest)
        self.status(directory, session, "idle")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    world: World

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has in the base class
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        split = urlsplit(self.path)
        directory = parse_qs(split.query).get("directory", [""])[0]
        wanted = "Basic " + base64.b64encode(f"opencode:{os.environ['OPENCODE_SERVER_PASSWORD']}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self._answer(401, {"message": "no"})
            return
        if log := os.environ.get("SCRIPTED_LOG"):
            with Path(log).open("a") as file:
                file.write(json.dumps([method, split.path, directory, body]) + "\n")
        if split.path == "/event":
            self._stream(directory)
            return
        self._answer(*self._reply(method, split.path.strip("/").split("/"), directory, body))

    def _reply(self, method: str, path: list[str], directory: str, body: Any) -> tuple[int, Any]:
        world = self.world
        match method, path:
            case "GET", ["config"]:
                return 200, {"permission": permissions(directory)}
            case "GET", ["config", "providers"]:
                models = {"one": {"limit": {"context": 1000}}}
                return 200, {"providers": [{"id": "scripted", "models": models}]}
            case "POST", ["session"]:
                session = world.name("ses")
                world.sessions[session] = directory
                world.messages[session] = []
                return 200, {"id": session, "version": "0"}
            case "GET", ["session", "status"]:
                return 200, {session: {"type": "busy"} for session in world.busy}
            case "GET", ["session", _, "children"] | ["permission"] | ["question"]:
                return 200, []
            case "GET", ["session", session, "message"]:
                return 200, world.messages[session]
            case "POST", ["session", session, "prompt_async"]:
                said = body["parts"][0]["text"]
                if said == "refuse":
                    return 400, {"data": {"message": "not that"}}
                threading.Thread(target=world.hear, args=(directory, session, said), daemon=True).start()
                return 204, None
            case "POST", ["session", session, "abort"]:
                if session in world.busy:
                    error = {"name": "MessageAbortedError", "data": {"message": "Aborted"}}
                    world.tell(directory, "session.error", {"sessionID": session, "error": error})
                    world.status(directory, session, "idle")
                return 200, True
            case "POST", ["instance", "dispose"]:
                return 200, True
            case _:
                return 404, {"data": {"message": f"no {'/'.join(path)}"}}

    def _stream(self, directory: str) -> None:
        events: queue.Queue[Json | None] = queue.Queue()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with self.world.lock:
            self.world.listeners[events] = directory
        events.put({"type": "server.connected", "properties": {}})
        while (event := events.get()) is not None:
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            self.wfile.flush()

    def _answer(self, status: int, reply: Any) -> None:
        data = b"" if status == 204 else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def permissions(directory: str) -> Json:
    """What the plugin would have made of the configuration, by the file that it reads."""
    if os.environ.get("SCRIPTED_PLUGINS") == "off":
        return {}
    plugin = json.loads(os.environ["OPENCODE_CONFIG_CONTENT"])["plugin"][-1]
    wanted = json.loads(Path(unquote(urlsplit(plugin).path)).with_name("worktrees.json").read_text())
    return RULES[wanted[directory]["permission"]]


def main() -> None:
    """Serve, and say where as OpenCode does."""
    if os.environ.get("SCRIPTED_START") == "fail":
        sys.exit("I do not want to.")
    Handler.world = World()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"opencode server listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
