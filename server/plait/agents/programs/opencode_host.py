"""Knows how to keep one OpenCode server for the sessions that may share it, and what to clean up after each of them.

Run as `python -I -S -E opencode_host.py <command of opencode>`; returns as soon as a host listens, which is then either
the one that was there or this process' child. It belongs to no session, so it must not be started from below a
supervisor, which would end it with the session. It imports the standard library only.

The host listens on the unix socket `host` in its directory; the lock beside it is held for life. A connection speaks
JSON lines: `hello` keeps the host from leaving, `attach` tells the directory, environment and permissions of a run and
is answered with the address and the password of the server. While that connection lasts the run is served; when it
ends, however it ends, its turn is aborted and whatever its tools left behind is ended. A line that nobody asked for
says that the server has ended.
"""

# No pathlib: these programs are small and start often.
# ruff: noqa: PTH101, PTH103, PTH105, PTH108, PTH109, PTH118, PTH123, PTH208

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import hashlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

WIRE_VERSION = 1
RUN = "PLAIT_RUN"
HOST = "PLAIT_OPENCODE_HOST"
"""The mark of the server's own processes."""
RUNTIME = "PLAIT_AGENT_RUNTIME"
VARIABLES = "PLAIT_AGENT_VARIABLES"
"""Names of variables, separated by spaces, that belong to the session and not to its surroundings."""
IDLE = "PLAIT_AGENT_IDLE_S"
UNSHARED = ("PLAIT_", "GIT_CONFIG_", "XDG_SESSION_")
"""What begins so differs from session to session, or from terminal to terminal, and matters to commands alone."""
PERSONAL = frozenset({"TERM", "COLORTERM", "EDITOR", "VISUAL", "PAGER", "XDG_SEAT", "XDG_VTNR"})
"""The same holds for these."""
UNIMPORTANT = frozenset({"PWD", "OLDPWD", "SHLVL", "_", "LINES", "COLUMNS"})
ADDRESS = "http://127.0.0.1:"
"""Nothing else is ever spoken to."""
PROMISED_S = 10.0
"""How long a host waits at least for the run that it was asked to be there for."""
PATIENCE_S = 15.0
STARTING_S = 90.0
LEAVING_S = 5.0
GRACE_S = 1.0
LONGEST_TAIL = 4000

PLUGIN = __file__.rpartition("/")[0] + "/opencode_plugin.js"
"""Gives every worktree its own permissions and environment; copied, so that an upgrade changes no running server."""


def main(command: list[str]) -> int:
    """Make sure that a host listens for this command and environment; the process's exit status."""
    try:
        problem = ensure(command)
    except OSError as error:
        problem = f"The place of the OpenCode server cannot be used: {error}."
    print(json.dumps({"ok": problem is None, "error": problem}), flush=True)
    return 0 if problem is None else 1


def ensure(command: list[str]) -> str | None:
    """Return once a host listens, becoming it in a child if there is none; what is wrong, if something is."""
    if not command:
        return "The command of OpenCode is missing."
    directory = group_directory(os.environ, command)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    found = os.lstat(directory)
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        return f"{directory} is open to others; remove it."
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if answered(directory):
            return None
        lock = taken_lock(directory)
        if lock is None:
            # Another one is on its way up or down.
            time.sleep(0.02)
            continue
        os.chdir(directory)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("host")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The relative name: a unix socket's path is limited to about 100 bytes.
        listener.bind("host")
        os.chmod("host", 0o600)
        listener.listen(64)
        if os.fork() == 0:
            become_host(listener, directory, command)
        return None
    return f"The host in {directory} neither answers nor leaves."


def become_host(listener: socket.socket, directory: str, command: list[str]) -> None:
    """Serve until nobody needs the server any more; never returns."""
    status = 1
    try:
        os.setsid()
        os.umask(0o077)
        log = os.open("host.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR)
        for source, target in ((nothing, 0), (nothing, 1), (log, 2)):
            os.dup2(source, target)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        Host(listener, directory, command).serve()
        status = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


class Run:
    """A run of an agent that uses the server, as long as its bridge is connected."""

    def __init__(self, directory: str, marker: str, pid: int, permission: str, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.marker = marker
        self.pid = pid
        self.permission = permission
        self.environment = environment
        self.sessions: list[str] = []


class Host:
    """One OpenCode server and the runs that use it."""

    def __init__(self, listener: socket.socket, directory: str, command: list[str]) -> None:
        self.listener = listener
        self.directory = directory
        self.command = command
        self.password = secrets.token_hex(32)
        self.idle_s = float(os.environ.get(IDLE) or 30)
        self.changed = threading.Condition()
        self.runs: dict[int, Run] = {}
        self.connections: dict[int, socket.socket] = {}
        self.last_use = time.monotonic()
        self.promises = [time.monotonic() + PROMISED_S]
        self.leaving = False
        self.url = ""
        self.failure = ""
        self.told = False
        self.tail = ""

    def serve(self) -> None:
        """Start the server, and stay until it has ended or has not been used for a while."""
        for pid in marked(HOST, self.directory):
            # What a killed host left behind.
            send(pid, signal.SIGKILL)
        self._write_worktrees()
        with open(PLUGIN) as plugin:
            write_file("plait.js", plugin.read())
        try:
            server = self._start_server()
        except (OSError, ValueError) as error:
            self.failure = f"OpenCode could not be started: {error}."
            server = None
        threading.Thread(target=self._accept, daemon=True).start()
        if server is not None:
            threading.Thread(target=self._listen_to, args=(server,), daemon=True).start()
        with self.changed:
            while not self.failure:
                left = max(self.last_use + self.idle_s, *self.promises, 0) - time.monotonic()
                if not self.connections and left <= 0:
                    break
                self.changed.wait(None if self.connections else left)
            if self.failure:
                # Those who use the server, wait for it, or are about to, are told what became of it.
                for number in self.runs:
                    with contextlib.suppress(OSError):
                        self.connections[number].sendall(self._answer({"ok": False, "error": self.failure}))
                self.changed.wait_for(lambda: self.told and not self.connections, LEAVING_S)
            self.leaving = True
            left_over = list(self.connections.values())
        with contextlib.suppress(OSError):
            os.unlink("host")
        for connected in left_over:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        if server is not None:
            end_server(server)
        for pid in marked(HOST, self.directory):
            send(pid, signal.SIGKILL)

    def _start_server(self) -> subprocess.Popen[bytes]:
        environment = {
            **shared(os.environ),
            "OPENCODE_CONFIG_CONTENT": configured(os.environ.get("OPENCODE_CONFIG_CONTENT"), self.directory),
            "OPENCODE_SERVER_PASSWORD": self.password,
            "OPENCODE_SERVER_USERNAME": "opencode",
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            HOST: self.directory,
        }
        return subprocess.Popen(
            [*self.command, "serve", "--hostname", "127.0.0.1", "--port", "0"],
            env=environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread has been started yet
        )

    def _listen_to(self, server: subprocess.Popen[bytes]) -> None:
        """Learn the address from what the server writes, and how it ended."""
        assert server.stdout is not None
        for line in server.stdout:
            text = line.decode("utf-8", "replace")
            with self.changed:
                self.tail = (self.tail + text)[-LONGEST_TAIL:]
                if not self.url and (at := text.find(ADDRESS)) >= 0:
                    self.url = text[at:].split()[0]
                    self.changed.notify_all()
        status = server.wait()
        with self.changed:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            said = self.tail.strip()
            self.failure = f"The OpenCode server {how}." + (f" It said: {said}" if said and not self.url else "")
            self.changed.notify_all()

    def _accept(self) -> None:
        while True:
            connected, _ = self.listener.accept()
            threading.Thread(target=self._attend, args=(connected,), daemon=True).start()

    def _attend(self, connected: socket.socket) -> None:
        """Serve one connection to its end."""
        number = connected.fileno()
        with self.changed:
            if self.leaving:
                connected.close()
                return
            self.connections[number] = connected
        try:
            with contextlib.suppress(OSError, ValueError, KeyError), connected.makefile("rb") as lines:
                for line in lines:
                    message = json.loads(line)
                    reply = self._reply(number, message if isinstance(message, dict) else {})
                    connected.sendall(self._answer(reply))
        finally:
            self._part(number)
            connected.close()

    def _answer(self, reply: dict[str, object]) -> bytes:
        self.told = self.told or bool(self.failure)
        return json.dumps(reply).encode() + b"\n"

    def _reply(self, number: int, message: dict[str, object]) -> dict[str, object]:
        match message.get("op"):
            case "hello":
                with self.changed:
                    self.promises.append(time.monotonic() + PROMISED_S)
                    self.changed.notify_all()
                return {"ok": not self.leaving and not self.failure, "pid": os.getpid()}
            case "attach":
                return self._attach(number, message)
            case "session":
                self.runs[number].sessions.append(str(message["id"]))
                return {"ok": True}
            case unknown:
                return {"ok": False, "error": f"unknown op {unknown!r}"}

    def _attach(self, number: int, message: dict[str, object]) -> dict[str, object]:
        environment = message.get("env")
        pid = message.get("pid")
        run = Run(
            str(message.get("directory")),
            str(message.get("run") or ""),
            pid if isinstance(pid, int) else 0,
            str(message.get("permission")),
            {str(name): str(value) for name, value in environment.items()} if isinstance(environment, dict) else {},
        )
        with self.changed:
            if self.promises:
                self.promises.pop(0)
            if not self.changed.wait_for(lambda: self.url or self.failure, STARTING_S):
                return {"ok": False, "error": f"OpenCode did not start within {STARTING_S:.0f} s. {self.tail}".strip()}
            if self.failure:
                return {"ok": False, "error": self.failure}
            # The previous run of this worktree may still be on its way out, and the server must forget it first.
            alone = self.changed.wait_for(
                lambda: all(other.directory != run.directory for other in self.runs.values()), PATIENCE_S
            )
            if not alone:
                return {"ok": False, "error": f"Another run uses OpenCode in {run.directory}."}
            self.runs[number] = run
            self._write_worktrees()
            return {"ok": True, "url": self.url, "password": self.password}

    def _part(self, number: int) -> None:
        """End the turn of a run whose bridge is gone, forget its directory, and end what its tools left behind."""
        run = self.runs.get(number)
        if run is not None and not self.failure:
            place = f"?directory={quote(run.directory, safe='')}"
            for session in run.sessions:
                self._request(f"/session/{session}/abort{place}")
            self._request(f"/instance/dispose{place}")
        if run is not None and run.marker:
            end_marked(RUN, run.marker, {run.pid, os.getpid()})
        with self.changed:
            self.connections.pop(number, None)
            self.last_use = time.monotonic()
            if self.runs.pop(number, None) is not None:
                self._write_worktrees()
            self.changed.notify_all()

    def _request(self, path: str) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            request(self.url, self.password, "POST", path, {}, 10)

    def _write_worktrees(self) -> None:
        worktrees = {
            run.directory: {"permission": run.permission, "env": dict(run.environment)} for run in self.runs.values()
        }
        write_file("worktrees.json", json.dumps(worktrees))


def group_directory(environment: Mapping[str, str], command: list[str]) -> str:
    """The directory of the host that serves this command in this environment; raises OSError without a runtime."""
    runtime = environment.get(RUNTIME)
    if not runtime:
        raise OSError(f"{RUNTIME} is not set")
    told = json.dumps([WIRE_VERSION, command, sorted(shared(environment).items())])
    digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
    return os.path.join(runtime, f"opencode-{digest[:16]}")


def shared(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that do not belong to one session."""
    apart = own_variables(environment) | UNIMPORTANT
    return {name: value for name, value in environment.items() if name not in apart}


def own_variables(environment: Mapping[str, str]) -> set[str]:
    """The names of those that do belong to one session."""
    named = PERSONAL.union(environment.get(VARIABLES, "").split())
    return {name for name in environment if name in named or name.startswith(UNSHARED)}


def configured(given: str | None, directory: str) -> str:
    """The configuration that the server gets: the user's own with our plugin; raises ValueError if it is no JSON."""
    content = json.loads(given) if given else {}
    if not isinstance(content, dict):
        raise ValueError("OPENCODE_CONFIG_CONTENT is not a JSON object")
    plugins = content.get("plugin")
    others = plugins if isinstance(plugins, list) else []
    plugin = "file://" + quote(os.path.join(directory, "plait.js"))
    return json.dumps({**content, "plugin": [*others, plugin]})


def answered(directory: str) -> bool:
    """Whether a host listens in the directory and stays for now."""
    try:
        with dialled(directory) as connected, connected.makefile("rb") as lines:
            connected.settimeout(2)
            connected.sendall(b'{"op": "hello"}\n')
            return json.loads(lines.readline()).get("ok") is True
    except (OSError, ValueError):
        return False


def dialled(directory: str) -> socket.socket:
    """A connection to the host in the directory; raises OSError."""
    before = os.getcwd()
    os.chdir(directory)
    try:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.connect("host")
    finally:
        os.chdir(before)
    return connected


def taken_lock(directory: str) -> int | None:
    """The host's lock, held for life by the returned descriptor, or None if somebody has it."""
    lock = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def request(url: str, password: str, method: str, path: str, body: object, timeout_s: float) -> tuple[int, object]:
    """The status and the parsed reply of a request to the server; raises OSError, HTTPException or ValueError."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {**authorization(password), "Content-Type": "application/json"})
        response = connection.getresponse()
        raw = response.read()
    finally:
        connection.close()
    return response.status, json.loads(raw) if raw else None


def authorization(password: str) -> dict[str, str]:
    """The header that the server wants."""
    return {"Authorization": "Basic " + base64.b64encode(f"opencode:{password}".encode()).decode()}


def end_server(server: subprocess.Popen[bytes]) -> None:
    """End the server, gently first."""
    server.terminate()
    try:
        server.wait(LEAVING_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def end_marked(name: str, value: str, apart: set[int]) -> None:
    """End all processes that carry a marker, except some."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_S
        while pids := [pid for pid in marked(name, value) if pid not in apart]:
            for pid in pids:
                send(pid, number)
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)


def marked(name: str, value: str) -> list[int]:
    """The living processes of ours whose environment has a variable with this value."""
    entry = f"{name}={value}".encode("utf-8", "surrogateescape")
    if sys.platform != "linux":
        shown = ["/bin/ps", "-xwwE", "-o", "pid=,command="]
        listing = subprocess.run(shown, stdout=subprocess.PIPE, check=False).stdout
        return [int(line.split(None, 1)[0]) for line in listing.splitlines() if entry in line.split()]
    found = []
    for directory in os.listdir("/proc"):
        if directory.isdigit() and int(directory) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{directory}/environ", "rb") as file:
                if entry in file.read().split(b"\0"):
                    found.append(int(directory))
    return found


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def die_with_parent() -> None:
    """Have the calling process killed when the thread that started it ends (prctl(2) PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def write_file(name: str, text: str) -> None:
    """Replace a file of the host's directory in one step."""
    with open(os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
    os.replace(f"{name}.tmp", name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
