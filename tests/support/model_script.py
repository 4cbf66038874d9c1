"""What a scripted model says, in no protocol's words, and what the protocols share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """What requests cost; the parts do not overlap, but `output` includes `reasoning`."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    requests: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.requests + other.requests,
        )

    @property
    def prompt(self) -> int:
        """Everything that went in, cached or not."""
        return self.input + self.cache_read + self.cache_write


def tokens_of(number: int) -> Tokens:
    """What the request with this number (from 0) costs; no other as many of the first twelve have the same sum."""
    weight = 1 << number % 12
    return Tokens(1200 + 3 * weight, 600 + 2 * weight, 90 + weight, 40 + weight, 7 + number % 12, 1)


@dataclass(frozen=True)
class Write:
    """Make a file; a path that is not absolute lies in the directory the agent says it works in."""

    path: str
    content: str


@dataclass(frozen=True)
class Edit:
    """Change whole lines of a file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Read:
    """Read a file."""

    path: str


@dataclass(frozen=True)
class Shell:
    """Run a command; `escalate` asks to run it outside the sandbox, where the agent has such a thing."""

    command: str
    escalate: bool = False


@dataclass(frozen=True)
class Plan:
    """Say what is to be done: the first is done, the second under way."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class AskUser:
    """Ask the user a question with choices."""

    question: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Raw:
    """Call a tool by its own name, declared or not."""

    name: str
    input: Mapping[str, Any] | str


Tool = Write | Edit | Read | Shell | Plan | AskUser | Raw


@dataclass(frozen=True)
class Step:
    """One reply of the model: text, tool calls, or both; without a tool call the turn is over."""

    text: str = ""
    tool: Tool | Sequence[Tool] | None = None
    thought: str = ""
    """Reasoning that is shown before the text, in the protocols that show it to this client."""
    hold: bool = False
    """The reply stops in its middle until `ModelServer.release`."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        match self.tool:
            case None:
                return ()
            case Write() | Edit() | Read() | Shell() | Plan() | AskUser() | Raw():
                return (self.tool,)
            case tools:
                return tuple(tools)


@dataclass(frozen=True)
class Fault:
    """A request that goes wrong; those without tools (titles and the like) are spared.

    `status`: refused with that status. `drop`: the connection breaks in the middle of the reply. `stream_error`: the
    reply turns into an error in its middle. Faults are tried in order; each is used `times` times (None: for ever) once
    `after` requests were answered well.
    """

    status: int = 429
    kind: Literal["status", "drop", "stream_error"] = "status"
    retry_after_s: float | None = None
    times: int | None = 1
    after: int = 0
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None


@dataclass(frozen=True)
class Scenario:
    """A conversation: for every prompt of the user the model's replies, one for each result of a tool that it gets.

    The last turn goes for all further prompts, the last step of a turn for all further results. A message in the middle
    of a turn is as its agent tells it: Claude Code puts it beside the result, so the turn goes on with its next step;
    Codex tells it as a prompt, which starts the next turn.
    """

    turns: Sequence[Sequence[Step]]
    faults: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """On top of the protocol's own rate-limit headers; an empty value takes one away."""
    chunk_delay_s: float = 0
    usage: Sequence[Tokens] = ()
    """What the requests cost, one after the other and over again; `tokens_of` if empty."""

    def turn(self, prompts: int) -> Sequence[Step]:
        """The steps after so many prompts."""
        return self.turns[min(max(prompts - 1, 0), len(self.turns) - 1)]

    def tokens(self, number: int) -> Tokens:
        if not self.usage:
            return tokens_of(number)
        return replace(self.usage[number % len(self.usage)], requests=1)


@dataclass(frozen=True)
class Declared:
    """A tool that the client offers the model."""

    name: str
    schema: Json = field(default_factory=dict)
    custom: bool = False
    """It takes bare text instead of JSON."""
    namespace: str | None = None
    description: str = ""

    @property
    def properties(self) -> Json:
        found = self.schema.get("properties")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Ask:
    """A request, read."""

    model: str
    streamed: bool
    tools: Mapping[str, Declared]
    typed: tuple[str, ...]
    """The user's prompts, without what the client adds by itself."""
    results: int
    """Rounds of tool results since the last prompt."""
    text: str
    """All that the request says, for finding the directory in."""
    answer_schema: Json | None = None
    """The form in which the answer is to be, if it is JSON."""
    blocks: bool = False
    """Edits are text (Aider's SEARCH/REPLACE blocks), because the client has no tools."""

    @property
    def side(self) -> bool:
        """Whether it is a request that the client makes for itself: a title, a summary, a probe."""
        return not self.tools and not self.blocks


@dataclass(frozen=True)
class Call:
    """A tool call in the client's own terms."""

    id: str
    name: str
    input: Json | str
    namespace: str | None = None


@dataclass(frozen=True)
class Reply:
    """What a protocol has to put into words."""

    number: int
    model: str
    text: str
    calls: tuple[Call, ...]
    usage: Tokens
    thought: str = ""


MIDDLE = None
"""Stands in a stream where it can be held, dropped or turned into an error."""


@dataclass(frozen=True)
class Dialect:
    """One protocol."""

    name: str
    read: Callable[[str, Json], Ask]
    stream: Callable[[Reply], Iterator[bytes | None]]
    whole: Callable[[Reply], Json]
    refusal: Callable[[int, str], Json]
    """The body of an error with a status and a message."""
    stream_error: Callable[[Reply, str], bytes]
    """An error after the stream has begun."""
    headers: Callable[[float], Mapping[str, str]]
    """Rate-limit headers at a time (Unix seconds)."""
    sayable: Callable[[Tokens], Tokens]
    """Without the parts that the protocol has no words for."""


def sse(data: Json | str, event: str | None = None) -> bytes:
    """A server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def cut(text: str, size: int = 16) -> list[str]:
    """A text in the pieces in which a model utters it; at least two if it has two characters."""
    size = max(1, min(size, len(text) // 2))
    return [text[start : start + size] for start in range(0, len(text), size)]


_WRAPPED = re.compile(r"\s*<([A-Za-z_][\w-]*)[^<>]*>.*?</\1[^<>]*>", re.DOTALL)
_ADDED = (
    "# AGENTS.md instructions",
    "This is the Gemini CLI",
    "This is the gemini CLI",
    "[Request interrupted by user",
)


def typed(text: str) -> str:
    """What of a user message the user typed: without the tagged blocks that clients put in front, or nothing."""
    while found := _WRAPPED.match(text):
        text = text[found.end() :]
    text = text.strip()
    return "" if text.startswith(_ADDED) else text
