"""Drives Aider from inside its own interpreter: its questions, edits and requests become lines of JSON, and back.

Run as `python aider_driver.py SETTINGS [aider's options]`, where SETTINGS is a JSON object with `permission`, `files`
(a private directory, or ""), `session` and `resume`. It imports the standard library and Aider only, the latter late:
what needs no Aider can be tested without. It is one file on purpose, so that nothing has to be found on a path.

Aider offers no protocol, so this replaces parts of it (seen in 0.86.2) by name and says so if one is not there. Every
line on standard output is an object with a `type`; `plait.agents.aider` reads them. Every line on standard input is
`{"type": "message", "id", "text"}`, `{"type": "answer", "id", "option", "text"}` or `{"type": "interrupt"}`; the end
of the input lets the present turn finish, with no for every question that is open, and then the program.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LARGEST_DIFF = 1 << 20
"""Bytes; of a larger file no diff is shown."""
MOST_OUTPUT = 4 << 20
"""Bytes of a command's output that are kept."""
LONGEST_WAIT_S = 600.0
PIECE_S = 0.15
"""So often at most a piece of a streamed reply is told."""

ASK, YES, NO = None, True, False
QUESTIONS: tuple[tuple[str, str, tuple[bool | None, bool | None, bool | None]], ...] = (
    # Beginning of the question, kind of tool, what to do where the permission is ask, edits, all.
    (r"Create new file\?", "edit", (ASK, YES, YES)),
    (r"Allow edits to file", "edit", (ASK, YES, YES)),
    (r"No files matched", "edit", (ASK, YES, YES)),
    (r"Add file to the chat\?", "read", (ASK, YES, YES)),
    (r"Run shell commands?\?", "execute", (ASK, ASK, YES)),
    (r"Add URL to the chat\?", "fetch", (ASK, ASK, YES)),
    # The command was allowed, and its output is what it was run for.
    (r"Add .*command output to the chat\?", "read", (YES, YES, YES)),
    # What comes of these is asked for by itself.
    (r"Attempt to fix|Fix lint errors|Edit the files\?", "think", (YES, YES, YES)),
    # These would change the user's machine or open a window on it.
    (r"Install playwright|Run pip install|Open |Login to OpenRouter", "other", (NO, NO, NO)),
)


def judged(question: str, permission: str, outside: bool = False) -> tuple[str, bool | None]:
    """The kind of tool that one of Aider's questions is about, and the answer if nobody need be asked.

    `outside`: it is about a file that is not in the worktree.
    """
    kind: str = "other"
    answers: tuple[bool | None, bool | None, bool | None] = (ASK, ASK, YES)
    for beginning, known, known_answers in QUESTIONS:
        if re.match(beginning, question):
            kind, answers = known, known_answers
            break
    answer = answers[("ask", "edits", "all").index(permission)] if permission in ("ask", "edits", "all") else ASK
    return kind, ASK if answer is YES and outside and permission != "all" else answer


def trouble(errors: list[tuple[str, int | None, str]]) -> str:
    """What kind of trouble an error and its causes are; each has its class's name, its HTTP status and its text."""
    names = {name for name, _, _ in errors}
    statuses = {status for _, status, _ in errors}
    text = " ".join(text for _, _, text in errors).lower()
    if statuses & {401, 403} or "AuthenticationError" in names or "api_key client option must be set" in text:
        return "auth"
    if 402 in statuses or any(
        word in text for word in ("insufficient_quota", "insufficient credits", "credit balance")
    ):
        return "quota"
    if 429 in statuses or "RateLimitError" in names:
        return "rate_limit"
    if "ContextWindowExceededError" in names:
        return "context"
    overloaded = {"InternalServerError", "ServiceUnavailableError", "BadGatewayError"}
    if statuses & {500, 502, 503, 504, 529} or names & overloaded or "overloaded" in text:
        return "overloaded"
    if names & {"Timeout", "APIConnectionError", "APITimeoutError"}:
        return "network"
    return "agent"


def causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and so on."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def trouble_of(error: BaseException) -> str:
    """What kind of trouble an exception of litellm is."""
    facts = []
    for cause in causes(error):
        status = getattr(cause, "status_code", None)
        facts.append((type(cause).__name__, status if isinstance(status, int) else None, str(cause)))
    return trouble(facts)


def retry_after(error: BaseException) -> float:
    """How long the provider wants to be left alone, in seconds (RFC 9110 Retry-After; a date counts as nothing)."""
    for cause in causes(error):
        for headers in (getattr(cause, "litellm_response_headers", None), getattr(cause, "headers", None)):
            found = _seconds(headers)
            if found:
                return found
        found = _seconds(getattr(getattr(cause, "response", None), "headers", None))
        if found:
            return found
    return 0.0


def _seconds(headers: Any) -> float:
    try:
        return min(LONGEST_WAIT_S, max(0.0, float(headers["retry-after"])))
    except (KeyError, TypeError, ValueError):
        return 0.0


def tokens(usage: Any) -> dict[str, int]:
    """The parts of a usage of litellm, whose `prompt_tokens` hold what was read from or written to the cache too."""
    prompt = _count(usage, "prompt_tokens")
    inward, outward = getattr(usage, "prompt_tokens_details", None), getattr(usage, "completion_tokens_details", None)
    read = (
        _count(inward, "cached_tokens")
        or _count(usage, "cache_read_input_tokens")
        or _count(usage, "prompt_cache_hit_tokens")
    )
    write = _count(inward, "cache_creation_tokens") or _count(usage, "cache_creation_input_tokens")
    return {
        "input": max(0, prompt - read - write),
        "cache_read": read,
        "cache_write": write,
        "output": _count(usage, "completion_tokens"),
        "reasoning": _count(outward, "reasoning_tokens"),
    }


def _count(holder: Any, name: str) -> int:
    value = getattr(holder, name, 0)
    return value if isinstance(value, int) and value > 0 else 0


def file_diff(path: str, old: bytes | None, new: bytes | None) -> dict[str, Any]:
    """A unified diff of one file; None stands for a file that is not there."""
    if max(len(old or b""), len(new or b"")) > LARGEST_DIFF:
        return {"path": path, "unified": None}
    lines = difflib.unified_diff(
        (old or b"").decode("utf-8", "replace").splitlines(keepends=True),
        (new or b"").decode("utf-8", "replace").splitlines(keepends=True),
        "/dev/null" if old is None else f"a/{path}",
        "/dev/null" if new is None else f"b/{path}",
    )
    whole = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return {"path": path, "unified": "".join(whole)}


def read_bytes(path: Path) -> bytes | None:
    """The content of a file, None if there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def kind_of_change(old: bytes | None, new: bytes | None) -> str:
    """In a word, what becomes of a file."""
    return "create" if old is None else "delete" if new is None else "edit"


class Hopeless(BaseException):
    """Goes through Aider's own handlers to the end of the turn: trying again would not help."""


class Left(BaseException):
    """The user or the supervisor wants the program to end."""


class Link:
    """The lines between this program and its driver; what anybody else prints goes to the error stream."""

    def __init__(self) -> None:
        self.reading = os.fdopen(os.dup(0), "rb")
        self._writing = os.dup(1)
        self._lock = threading.Lock()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)

    def emit(self, type_: str, /, **fields: Any) -> None:
        """Write one line, whole."""
        data = json.dumps({"type": type_, **fields}, default=str).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._writing, data) :]


class Conversation:
    """What the user has said and not been heard on yet, and whether the present turn may go on."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.changed = threading.Condition()
        self.messages: deque[dict[str, Any]] = deque()
        self.answers: dict[str, dict[str, Any]] = {}
        self.closed = False
        self.leaving = False
        self.cancelled = False
        self.wished = False
        self.in_turn = False
        self.stoppable = False
        self.idle = False

    def listen(self) -> None:
        """Read the input to its end; runs in a thread of its own."""
        for line in self.link.reading:
            try:
                said = json.loads(line)
                kind, name = said["type"], str(said.get("id", ""))
            except (ValueError, TypeError, KeyError, AttributeError):
                self.link.emit("note", level="error", text=f"This input means nothing: {line[:200]!r}")
                continue
            with self.changed:
                if kind == "message":
                    self.messages.append(said)
                elif kind == "answer":
                    self.answers[name] = said
                elif kind == "interrupt":
                    self._interrupt()
                self.changed.notify_all()
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _interrupt(self) -> None:
        if self.in_turn:
            self.wished = True
            # A signal, because nothing else ends a wait for the network.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            for message in self.messages:
                message["cancelled"] = True

    def heed(self, _number: int, _frame: Any) -> None:
        """Handle SIGINT, whose sender is our own listener or the supervisor."""
        if not self.wished:
            self.closed = self.leaving = True
        if self.stoppable:
            self.stoppable = False
            self.cancelled = True
            raise KeyboardInterrupt
        if self.idle:
            self.idle = False
            raise Left

    def next_message(self) -> dict[str, Any] | None:
        """The user's next message, None when there will be none."""
        try:
            with self.changed:
                self.idle = not self.closed
                while not self.messages and not self.closed:
                    self.changed.wait()
                self.idle = False
                if not self.messages or self.leaving:
                    return None
                self.in_turn, self.wished, self.cancelled = True, False, False
                return self.messages.popleft()
        except Left:
            return None

    def begin(self, message: dict[str, Any]) -> None:
        """From here on the turn can be interrupted, and is at once if that was wished for already."""
        self.stoppable = True
        if self.wished or message.get("cancelled"):
            self.stoppable = False
            self.cancelled = True
            raise KeyboardInterrupt

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """What is done here is not interrupted in its middle, but at its end."""
        was, self.stoppable = self.stoppable, False
        try:
            yield
        finally:
            if was and (self.wished or self.leaving):
                self.cancelled = True
                raise KeyboardInterrupt
            self.stoppable = was

    def end(self) -> None:
        """The turn is over; no interrupt reaches it any more."""
        self.stoppable = False
        with self.changed:
            self.in_turn = False

    def answer(self, name: str) -> dict[str, Any]:
        """Wait for the user's answer; without an input there is none, which is a no."""
        with self.changed:
            while name not in self.answers and not self.closed:
                self.changed.wait()
            return self.answers.pop(name, {"option": "no"})


class Streamed:
    """A streamed reply on its way to Aider: its pieces are told, and its usage is kept where Aider looks for one."""

    def __init__(self, chunks: Any, host: Host) -> None:
        self._chunks = chunks
        self._host = host
        self.usage: Any = None

    def __iter__(self) -> Any:
        arriving = iter(self._chunks)
        for chunk in arriving:
            self._note(chunk)
            if any(getattr(choice, "finish_reason", None) for choice in chunk.choices):
                # The usage comes after the last piece, on which Aider may stop reading.
                rest = list(arriving)
                for late in rest:
                    self._note(late)
                yield chunk
                yield from rest
                return
            yield chunk

    def _note(self, chunk: Any) -> None:
        self.usage = getattr(chunk, "usage", None) or self.usage
        for choice in chunk.choices:
            delta = getattr(choice, "delta", None)
            thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
            if isinstance(thought, str):
                self._host.speak("thought", thought)
            text = getattr(delta, "content", None)
            if isinstance(text, str):
                self._host.speak("message", text)


class Host:
    """Aider with its parts replaced, and what the present turn has come to."""

    def __init__(self, settings: dict[str, Any], link: Link) -> None:
        self.permission = str(settings.get("permission", "ask"))
        self.files = str(settings.get("files", ""))
        self.session = str(settings.get("resume") or settings.get("session", ""))
        self.resumed = bool(settings.get("resume"))
        self.link = link
        self.talk = Conversation(link)
        self.coder: Any = None
        self.count = 0
        self.ready = False
        self.allowed: set[str] = set()
        self.allowed_once: list[str] = []
        self.refused: BaseException | None = None
        self.failed: tuple[str, str] | None = None
        self.attempts = 0
        self.limit_hit = False
        self.sending = False
        self.speaking = ""
        self.said: list[str] = []
        self.pieces: list[str] = []
        self.spoke_at = 0.0
        self.last_text = ""
        self.complaints: list[str] = []

    def new_id(self, kind: str) -> str:
        self.count += 1
        return f"{kind}-{self.count}"

    # What the agent says.

    def speak(self, kind: str, text: str) -> None:
        """A piece of a reply."""
        if not text:
            return
        if kind != self.speaking:
            self.fall_silent()
            self.speaking = kind
        self.said.append(text)
        self.pieces.append(text)
        if time.monotonic() - self.spoke_at >= PIECE_S:
            self._tell_pieces()

    def _tell_pieces(self) -> None:
        pieces, self.pieces = "".join(self.pieces), []
        self.spoke_at = time.monotonic()
        if pieces:
            self.link.emit(self.speaking, text=pieces, partial=True)

    def fall_silent(self) -> None:
        """The end of a reply, or of its thoughts."""
        text = "".join(self.said)
        if text:
            self.link.emit(self.speaking, text=text, partial=False)
            if self.speaking == "message":
                self.last_text = text
        self.speaking, self.said, self.pieces = "", [], []

    def note(self, level: str, text: str) -> None:
        """What Aider itself says; before it is ready that only matters if it never is."""
        if not text.strip():
            return
        if level != "info":
            self.complaints = [*self.complaints[-9:], text]
        self.link.emit("note", level=level if self.ready else "info", text=text)

    # What it asks.

    def ask(self, title: str, kind: str, options: list[tuple[str, str, str]], **more: Any) -> dict[str, Any]:
        """Put a request to the user and wait; each option has an id, a label and a kind."""
        name = self.new_id("ask")
        shown = [{"id": option, "label": label, "kind": meaning} for option, label, meaning in options]
        try:
            self.link.emit("asked", id=name, title=title, kind=kind, options=shown, **more)
            return self.talk.answer(name)
        finally:
            self.link.emit("withdrawn", id=name)

    def confirm(
        self, question: str, subject: str | None, explicit: bool, group: Any, allow_never: bool, never: set[Any]
    ) -> bool:
        """Answer a question of Aider's, by the permission or by the user."""
        about = subject or ""
        kind, answer = judged(question, self.permission, kind_is_file(question) and not self.is_inside(about))
        if not self.ready or (question, subject) in never:
            return False
        grouped = group is not None and group.show_group
        known = (kind == "execute" and about in self.allowed) or (grouped and group.preference == "all")
        if answer is ASK and known:
            answer = YES
        if answer is ASK:
            answer = self._put(question, about, kind, explicit, group if grouped else None, allow_never, never)
        if answer and kind == "execute":
            self.allowed_once += [line.strip() for line in about.splitlines()]
        return answer

    def _put(
        self, question: str, about: str, kind: str, explicit: bool, group: Any, allow_never: bool, never: set[Any]
    ) -> bool:
        options = [("yes", "Yes", "allow_once")]
        if group is not None and not explicit:
            options.append(("all", "Yes to all of these", "allow_session"))
        elif kind == "execute":
            options.append(("session", "Yes, and this command from now on", "allow_session"))
        options.append(("no", "No", "reject_once"))
        if allow_never or group is not None:
            options.append(("never", "No, and do not ask again", "reject_always"))
        title = f"{question} {about}" if about and "\n" not in about else question
        said = self.ask(title, kind, options, tool=kind, input=about, reason="")
        option = said.get("option")
        if option == "all":
            group.preference = "all"
        elif option == "session":
            self.allowed.add(about)
        elif option == "never":
            never.add((question, about or None))
        if option in ("no", "never") and said.get("text"):
            self.tell_model(f'I said no to "{title}". {said["text"]}')
        return option in ("yes", "all", "session")

    def tell_model(self, text: str) -> None:
        """Let the model know something with its next request."""
        self.coder.cur_messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "Ok."}]

    def is_inside(self, path: str) -> bool:
        """Whether a path leads to something in the worktree."""
        root = Path(self.coder.root if self.coder else ".").resolve()
        return (root / path).resolve().is_relative_to(root)

    # What it does.

    def run_command(
        self, command: str, verbose: bool = False, error_print: Any = None, cwd: Any = None, **_: Any
    ) -> Any:
        """Run a command for Aider, which has asked for the ones that the model suggested; status and output."""
        command = command.strip()
        name = self.new_id("tool")
        self.link.emit("tool_began", id=name, name="shell", kind="execute", title=command, input=command, places=[])
        if not self._may_run(command, name):
            self.link.emit("tool_ended", id=name, status="denied", exit=None, output="", diffs=[])
            # Not a failure, which Aider would try to mend.
            return 0, ""
        try:
            status, output = run_shell(command, cwd, self.talk)
        except OSError as error:
            status, output = 1, f"{error}\n"
        ended = "completed" if status == 0 else "failed"
        self.link.emit("tool_ended", id=name, status=ended, exit=status, output=output, diffs=[])
        return status, output

    def _may_run(self, command: str, tool: str) -> bool:
        if command in self.allowed_once:
            self.allowed_once.remove(command)
            return True
        if self.permission == "all" or command in self.allowed:
            return True
        options = [
            ("yes", "Yes", "allow_once"),
            ("session", "Yes, and this command from now on", "allow_session"),
            ("no", "No", "reject_once"),
        ]
        # A test or lint command, which may come from the repository's own configuration of Aider.
        title = f"Run {command}"
        said = self.ask(title, "execute", options, tool="execute", tool_id=tool, input=command, reason="")
        if said.get("option") == "session":
            self.allowed.add(command)
        return said.get("option") in ("yes", "session")

    def apply_updates(self, original: Any, coder: Any) -> Any:
        """Let Aider make the edits of a reply, after the user has seen them if the permission says so."""
        if self.permission == "ask":
            return self._apply_allowed(original, coder)
        root, before, prepare = Path(coder.root), {}, coder.prepare_to_edit

        def prepared(edits: Any) -> Any:
            for path in edited_paths(edits):
                before[path] = read_bytes(root / path)
            return prepare(edits)

        coder.prepare_to_edit = prepared
        try:
            return original(coder)
        finally:
            del coder.prepare_to_edit
            for path, old in before.items():
                new = read_bytes(root / path)
                if new != old:
                    self._tell_change(self.new_id("tool"), path, old, new)

    def _tell_change(self, name: str, path: str, old: bytes | None, new: bytes | None) -> None:
        self._tell_beginning(name, path, kind_of_change(old, new))
        self.link.emit(
            "tool_ended", id=name, status="completed", exit=None, output="", diffs=[file_diff(path, old, new)]
        )

    def _tell_beginning(self, name: str, path: str, change: str) -> None:
        kind = "delete" if change == "delete" else "edit"
        title = f"{change.capitalize()} {path}"
        self.link.emit("tool_began", id=name, name=change, kind=kind, title=title, input="", places=[{"path": path}])

    def _apply_allowed(self, original: Any, coder: Any) -> Any:
        """Aider edits copies of the files; what the user allows of the result is then written."""
        written: set[str] = set()
        rejected: list[str] = []
        apply = coder.apply_edits

        def prepared(edits: Any) -> Any:
            return [edit for edit in edits if self._is_editable(coder, edit[0])]

        def staged(edits: Any, dry_run: bool = False) -> Any:
            if dry_run:
                return apply(edits, dry_run=True)
            changes, error = stage(coder, edits, apply)
            for path, (old, new) in changes.items():
                self._offer(coder, path, old, new, written, rejected)
            if error is not None:
                raise error
            return None

        coder.prepare_to_edit, coder.apply_edits = prepared, staged
        try:
            edited = original(coder)
        finally:
            del coder.prepare_to_edit, coder.apply_edits
        if rejected:
            self.tell_model("\n".join(rejected))
        return {path for path in edited if path in written}

    def _is_editable(self, coder: Any, path: str) -> bool:
        if not self.is_inside(path):
            self.note("warning", f"It wanted to edit {path}, which is not in its worktree; that was not done.")
            return False
        if coder.repo and coder.repo.git_ignored_file(path):
            self.note("warning", f"Skipping edits to {path} that matches gitignore spec.")
            return False
        return True

    def _offer(
        self, coder: Any, path: str, old: bytes | None, new: bytes | None, written: set[str], rejected: list[str]
    ) -> None:
        name, change = self.new_id("tool"), kind_of_change(old, new)
        diffs = [file_diff(path, old, new)]
        self._tell_beginning(name, path, change)
        said: dict[str, Any] = {"option": "yes"}
        if self.permission == "ask":
            options = [
                ("yes", "Yes", "allow_once"),
                ("session", "Yes, and all edits from now on", "allow_session"),
                ("no", "No", "reject_once"),
            ]
            kind = "delete" if change == "delete" else "edit"
            title = f"{change.capitalize()} {path}"
            said = self.ask(title, kind, options, tool=change, tool_id=name, input="", reason="", diffs=diffs)
        if said.get("option") == "session":
            self.permission = "edits"
        real, status, output = Path(coder.root) / path, "completed", ""
        if said.get("option") not in ("yes", "session"):
            status = "denied"
            rejected.append(f"I did not accept your change to {path}. {said.get('text') or ''}".strip())
        elif read_bytes(real) != old:
            status, output = "failed", f"{path} was changed by somebody else in the meantime, so it was left alone."
            rejected.append(f"{output} Look at it again.")
        else:
            put(coder, real, new, created=old is None)
            written.add(path)
        self.link.emit(
            "tool_ended", id=name, status=status, exit=None, output=output, diffs=[] if status != "completed" else diffs
        )

    def lint_edited(self, original: Any, coder: Any, names: Any) -> Any:
        """Tell of a linter that runs over what was edited."""
        name, shown = self.new_id("tool"), ", ".join(sorted(str(each) for each in names if each))
        self.link.emit(
            "tool_began", id=name, name="lint", kind="execute", title=f"Lint {shown}", input=shown, places=[]
        )
        found = original(coder, names)
        status = "failed" if found else "completed"
        self.link.emit("tool_ended", id=name, status=status, exit=None, output=found or "", diffs=[])
        return found

    # What it asks its provider.

    def complete(self, complete: Any, **wanted: Any) -> Any:
        """A request to the provider; libraries below do not try again unseen, and a stream ends with its usage."""
        wanted.setdefault("max_retries", 0)
        if wanted.get("stream"):
            wanted.setdefault("stream_options", {"include_usage": True})
        answer = complete(**wanted)
        if not self.sending or threading.current_thread() is not threading.main_thread():
            # A summary of the conversation, which Aider does not count.
            if getattr(answer, "usage", None):
                self.link.emit("used", **tokens(answer.usage), cost=self._cost(answer.usage, wanted.get("model")))
            return answer
        if wanted.get("stream"):
            return Streamed(answer, self)
        for choice in answer.choices:
            thought = getattr(choice.message, "reasoning_content", None)
            self.speak("thought", thought if isinstance(thought, str) else "")
            self.speak("message", choice.message.content or "")
        return answer

    def send(
        self, original: Any, too_long: type[BaseException], coder: Any, messages: Any, *more: Any, **named: Any
    ) -> Any:
        """A request of the conversation."""
        self.sending = True
        self.refused = None
        try:
            yield from original(coder, messages, *more, **named)
            self.failed, self.attempts, self.limit_hit = None, 0, False
        except too_long:
            self.failed, self.limit_hit = None, True
            raise
        except Exception as error:
            kind = trouble_of(error)
            self.refused, self.failed = error, (kind, str(error))
            if kind in ("auth", "quota"):
                raise Hopeless from error
            raise
        finally:
            self.sending = False
            self.fall_silent()

    def count_tokens(self, original: Any, coder: Any, messages: Any, completion: Any = None) -> None:
        """Tell what a request of the conversation used; Aider counts the tokens itself if the provider did not."""
        cost, sent, received = coder.total_cost, coder.message_tokens_sent, coder.message_tokens_received
        original(coder, messages, completion)
        if completion is None:
            return
        usage = getattr(completion, "usage", None)
        if usage is None:
            counted = {
                "input": coder.message_tokens_sent - sent,
                "output": coder.message_tokens_received - received,
            }
        else:
            counted = tokens(usage)
        spent = self._cost(usage, coder.main_model.name)
        if spent is None and coder.main_model.info.get("input_cost_per_token"):
            spent = coder.total_cost - cost
        self.link.emit("used", **counted, cost=spent)
        size = coder.main_model.info.get("max_input_tokens")
        self.link.emit("context", used=sum(counted.values()) - counted.get("reasoning", 0), size=size)

    def _cost(self, usage: Any, model: Any) -> float | None:
        """Dollars by litellm's price list, which knows the price of cached tokens; None if it has none."""
        if usage is None:
            return None
        try:
            prices = importlib.import_module("litellm").cost_per_token(model=model, usage_object=usage)
            return float(sum(prices)) or None
        except Exception:
            return None

    def sleep(self, delay: float) -> None:
        """Aider's wait before it tries again, which we make as long as the provider asks for."""
        if self.refused is not None and threading.current_thread() is threading.main_thread():
            self.attempts += 1
            delay = max(delay, retry_after(self.refused))
            kind, text = trouble_of(self.refused), str(self.refused)
            self.link.emit("retry", attempt=self.attempts, delay=delay, kind=kind, text=text[:2000])
        time.sleep(delay)

    # Its turns.

    def serve(self) -> None:
        """Take messages until there will be none."""
        while message := self.talk.next_message():
            if not self._turn(message):
                return

    def _turn(self, message: dict[str, Any]) -> bool:
        """One message and what Aider does about it; whether more can follow."""
        text = str(message.get("text", ""))
        self.link.emit("turn_began", id=str(message.get("id", "")), prompt=text)
        self.failed, self.refused, self.attempts, self.limit_hit, self.last_text = None, None, 0, False, ""
        self.allowed_once, self.complaints = [], []
        goes_on = True
        try:
            self.talk.begin(message)
            self._run(text)
            self.talk.stoppable = False
        except (KeyboardInterrupt, Left):
            self.talk.stoppable = False
        except Hopeless:
            goes_on = False
        except SystemExit:
            # The user's own /exit or /quit.
            goes_on = False
        except Exception as error:
            self.failed = ("agent", f"{type(error).__name__}: {error}")
        self.talk.end()
        self.fall_silent()
        stop, why = self._stop()
        if stop == "error" and self.failed:
            self.link.emit("trouble", kind=self.failed[0], text=self.failed[1][:4000], fatal=not goes_on)
        self.link.emit("turn_ended", stop=stop, text=why)
        self._save()
        return goes_on

    def _run(self, text: str) -> None:
        if not text.strip():
            raise ValueError("The message is empty.")
        coder = self.coder
        coder.last_keyboard_interrupt = None
        coder.reflected_message = None
        switch = importlib.import_module("aider.commands").SwitchCoder
        try:
            coder.run(with_message=text, preproc=True)
        except switch as wish:
            # A command such as /architect or /model goes on with another kind of coder.
            wanted = {"io": coder.io, "from_coder": coder, **wish.kwargs}
            wanted.pop("show_announcements", None)
            self.adopt(importlib.import_module("aider.coders").Coder.create(**wanted))

    def _stop(self) -> tuple[str, str]:
        """How the turn has ended, and in which words."""
        if self.talk.cancelled:
            return "cancelled", ""
        if self.failed:
            return "error", self.failed[1][:4000]
        if self.limit_hit:
            return "max_tokens", self.last_text
        coder = self.coder
        if coder.reflected_message and coder.lint_outcome is not False and coder.test_outcome is not False:
            return "error", f"Its edits could not be applied: {str(coder.reflected_message)[:2000]}"
        if not self.last_text and self.complaints and coder.num_exhausted_context_windows:
            return "error", self.complaints[-1]
        return "end_turn", self.last_text

    def adopt(self, coder: Any) -> None:
        """Work with this coder from now on."""
        self.coder = coder
        commands = coder.commands
        known = set(commands.get_commands())
        # A task may well begin with a path, or with an exclamation mark.
        commands.is_command = lambda text: text.split(maxsplit=1)[0] in known

    def _save(self) -> None:
        """Keep which files are in the chat, for a process that resumes it."""
        if not self.files:
            return
        names = sorted(self.coder.get_inchat_relative_files())
        path = Path(self.files) / "chat.json"
        try:
            path.with_suffix(".tmp").write_text(json.dumps(names))
            path.with_suffix(".tmp").replace(path)
        except OSError as error:
            self.note("warning", f"The list of files in the chat could not be saved: {error}")

    def restore(self) -> None:
        """Take the files into the chat that were in it when the last process ended."""
        if not (self.files and self.resumed):
            return
        try:
            names = json.loads((Path(self.files) / "chat.json").read_text())
        except (OSError, ValueError):
            return
        for name in names if isinstance(names, list) else []:
            if isinstance(name, str) and self.is_inside(name) and (Path(self.coder.root) / name).is_file():
                self.coder.add_rel_fname(name)


def kind_is_file(question: str) -> bool:
    """Whether the subject of a question of Aider's is a path."""
    return question.startswith(("Create new file?", "Allow edits to file", "Add file to the chat?"))


def run_shell(command: str, cwd: Any, talk: Conversation) -> tuple[int, str]:
    """Run a command line with nothing to read; when the turn is interrupted, all that it started is ended."""
    process: subprocess.Popen[bytes] | None = None
    output, dropped = bytearray(), 0
    try:
        with talk.undisturbed():
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert process.stdout is not None
        while piece := os.read(process.stdout.fileno(), 65536):
            room = max(0, MOST_OUTPUT - len(output))
            output += piece[:room]
            dropped += len(piece) - min(room, len(piece))
        process.wait()
    except BaseException:
        if process is not None:
            end_group(process)
        raise
    finally:
        if process is not None and process.stdout is not None:
            process.stdout.close()
    text = output.decode("utf-8", "replace")
    return process.returncode, f"{text}\n[{dropped} bytes more]\n" if dropped else text


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(2)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def edited_paths(edits: Any) -> set[str]:
    """The paths that edits of any of Aider's formats are about, with where they move something to."""
    found = {edit[0] for edit in edits if edit[0] is not None}
    moved = {getattr(edit[1], "move_path", None) for edit in edits if len(edit) > 1}
    return {str(path) for path in found | moved - {None}}


def stage(coder: Any, edits: Any, apply: Any) -> tuple[dict[str, tuple[bytes | None, bytes | None]], Exception | None]:
    """What Aider makes of the files, done on copies: by path, before and after; and the error it ended with."""
    chat = {coder.get_rel_fname(name) for name in coder.abs_fnames}
    wanted = edited_paths(edits)
    inside = {path for path in wanted | chat if not Path(path).is_absolute() and ".." not in Path(path).parts}
    before = {path: read_bytes(Path(coder.root) / path) for path in sorted(inside)}
    kept = coder.root, coder.abs_fnames, coder.abs_root_path_cache
    failure: Exception | None = None
    with tempfile.TemporaryDirectory(prefix="plait-aider-") as made:
        scratch = Path(made).resolve()
        for path, content in before.items():
            (scratch / path).parent.mkdir(parents=True, exist_ok=True)
            # Aider's formats take a new file for an empty one that is there.
            (scratch / path).write_bytes(content or b"")
        coder.root, coder.abs_root_path_cache = str(scratch), {}
        coder.abs_fnames = {str(scratch / path) for path in chat & inside}
        try:
            apply([edit for edit in edits if edit[0] in inside])
        except Exception as error:
            failure = error
        finally:
            coder.root, coder.abs_fnames, coder.abs_root_path_cache = kept
        after = {path: read_bytes(scratch / path) for path in before}
    changes = {path: (old, after[path]) for path, old in before.items() if after[path] != (old or b"")}
    return {path: change for path, change in changes.items() if change != (None, None)}, failure


def put(coder: Any, path: Path, content: bytes | None, created: bool) -> None:
    """Write a file, or delete it, and let Aider know it."""
    if content is None:
        path.unlink()
        coder.abs_fnames.discard(str(path))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if created and coder.repo:
        try:
            # As Aider does, whose map of the repository holds what git knows.
            coder.repo.repo.git.add(str(path))
        except Exception as error:
            coder.io.tool_warning(f"git add failed: {error}")
    coder.abs_fnames.add(str(path))
    coder.check_added_files()


class Clock:
    """The module `time` as Aider's coder sees it, with a sleep that is told of."""

    def __init__(self, host: Host) -> None:
        self.sleep = host.sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def console(host: Host, parent: Any) -> Any:
    """Aider's InputOutput with a user behind lines of JSON; raises AttributeError if it is not the one we know."""
    shown = parent.tool_output, parent.tool_error, parent.tool_warning

    class Console(parent):  # type: ignore[misc]  # Aider is not there when this is checked
        def confirm_ask(
            self,
            question: str,
            default: str = "y",
            subject: str | None = None,
            explicit_yes_required: bool = False,
            group: Any = None,
            allow_never: bool = False,
        ) -> bool:
            answer = host.confirm(question, subject, explicit_yes_required, group, allow_never, self.never_prompts)
            said = f"{question} {subject or ''} {'y' if answer else 'n'}"
            self.append_chat_history(said.replace("\n", " "), linebreak=True, blockquote=True)
            return answer

        def prompt_ask(self, question: str, default: str = "", subject: str | None = None) -> str:
            return default

        def get_input(self, *_: Any, **__: Any) -> str:
            raise EOFError

        def offer_url(self, url: str, prompt: str = "", allow_never: bool = True) -> bool:
            host.note("info", url)
            return False

        def tool_output(self, *messages: Any, **named: Any) -> None:
            shown[0](self, *messages, **named)
            host.note("info", " ".join(str(message) for message in messages))

        def tool_error(self, message: Any = "", strip: bool = True) -> None:
            shown[1](self, str(message), strip)
            host.note("error", str(message))

        def tool_warning(self, message: Any = "", strip: bool = True) -> None:
            shown[2](self, str(message), strip)
            host.note("warning", str(message))

        def assistant_output(self, message: Any, pretty: Any = None) -> None:
            """A whole reply, which was told when it came."""

    return Console


def replace_parts(host: Host) -> Any:
    """Replace the parts of Aider that this program stands in for; its `main`. Raises AttributeError, ImportError."""
    main: Any = importlib.import_module("aider.main")
    io: Any = importlib.import_module("aider.io")
    base: Any = importlib.import_module("aider.coders.base_coder")
    commands: Any = importlib.import_module("aider.commands")
    linter: Any = importlib.import_module("aider.linter")
    maps: Any = importlib.import_module("aider.repomap").RepoMap
    lazy: Any = importlib.import_module("aider.llm").litellm
    coder = base.Coder
    names = ("run_cmd", base), ("run_cmd", commands), ("run_cmd_subprocess", linter), ("time", base)
    missing = [name for name, holder in (*names, ("TAGS_CACHE_DIR", maps)) if not hasattr(holder, name)]
    if missing:
        raise AttributeError(f"it has no {', '.join(missing)}")
    main.InputOutput = io.InputOutput = console(host, io.InputOutput)
    send, update = coder.send, coder.apply_updates
    count, lint, too_long = coder.calculate_and_show_tokens_and_cost, coder.lint_edited, base.FinishReasonLength
    coder.send = lambda self, *given, **named: host.send(send, too_long, self, *given, **named)
    coder.apply_updates = lambda self: host.apply_updates(update, self)
    coder.calculate_and_show_tokens_and_cost = lambda self, *given: host.count_tokens(count, self, *given)
    coder.lint_edited = lambda self, names: host.lint_edited(lint, self, names)
    base.run_cmd = commands.run_cmd = linter.run_cmd_subprocess = host.run_command
    base.time = Clock(host)
    webbrowser.open = lambda *_, **__: False
    if host.files:
        # Beside the worktree, for a cache is no part of the agent's work.
        maps.TAGS_CACHE_DIR = str(Path(host.files) / "tags")

    def complete(**wanted: Any) -> Any:
        lazy._load_litellm()
        return host.complete(lazy._lazy_module.completion, **wanted)

    lazy.completion = complete
    return main.main


def start(host: Host, options: list[str]) -> bool:
    """Make Aider ready; if that cannot be, say why."""
    forgotten = host.resumed and not (host.files and (Path(host.files) / "chat.history.md").is_file())
    try:
        main = replace_parts(host)
        coder = main(options, return_coder=True)
    except (ImportError, AttributeError) as error:
        host.link.emit("failed", kind="agent", text=f"This version of Aider cannot be driven: {error}.")
        return False
    except SystemExit:
        host.link.emit("failed", kind="agent", text="Aider refuses its options or its configuration.")
        return False
    except Exception as error:
        host.link.emit("failed", kind="agent", text=f"{type(error).__name__}: {error}")
        return False
    if not hasattr(coder, "run"):
        text = "\n".join(host.complaints) or "Aider would not start."
        kind = "auth" if "API key" in text or "OpenRouter" in text else "agent"
        host.link.emit("failed", kind=kind, text=text)
        return False
    host.adopt(coder)
    host.restore()
    name = str(coder.main_model.name)
    try:
        provider = str(importlib.import_module("litellm").get_llm_provider(model=name)[1])
    except Exception:
        provider = name.split("/")[0]
    host.ready = True
    version = str(getattr(importlib.import_module("aider"), "__version__", ""))
    host.link.emit(
        "ready", session=host.session, model=name, mode=coder.edit_format, provider=provider, version=version
    )
    if forgotten:
        host.note("warning", "The earlier conversation is gone; it begins anew, with the files as they are.")
    return True


def run(arguments: list[str]) -> None:
    """Be Aider until the input ends."""
    link = Link()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # they are text streams
    # Beside this file lie programs for other agents.
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]
    settings, options = json.loads(arguments[0]), arguments[1:]
    sys.argv = ["aider", *options]
    host = Host(settings, link)
    signal.signal(signal.SIGINT, host.talk.heed)
    threading.Thread(target=host.talk.listen, daemon=True).start()
    try:
        host.talk.idle = True
        started = start(host, options)
        host.talk.idle = False
    except Left:
        started = False
    if started:
        host.serve()
    sys.stderr.flush()
    # Libraries keep threads that would be waited for.
    os._exit(0)


if __name__ == "__main__":
    run(sys.argv[1:])
