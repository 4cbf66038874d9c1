"""What an agent reports while it works, in words that fit every agent; they follow the Agent Client Protocol.

Adapters make these values out of an agent's own stream. All texts are bounded by `shorten`, for a report is kept and
sent around; the agent's bytes stay in its output as they were.
"""

from __future__ import annotations

from typing import Literal

from plait.core.values import Value

ToolKind = Literal["read", "edit", "delete", "move", "search", "execute", "think", "fetch", "subagent", "other"]
OptionKind = Literal["allow_once", "allow_always", "allow_session", "reject_once", "reject_always", "cancel_turn"]
TroubleKind = Literal["auth", "quota", "rate_limit", "overloaded", "network", "context", "sandbox", "agent"]
UsageScope = Literal["request", "turn", "process", "thread"]
StopReason = Literal["end_turn", "cancelled", "max_tokens", "refusal", "error"]

LONGEST_TEXT = 100_000
"""Characters of one text in a report."""


class Place(Value):
    """A file that a tool works on; `line` counts from 1. Paths are as the agent gave them."""

    path: str
    line: int | None = None


class FileDiff(Value):
    """What a tool did to one file: a unified diff, or the text before (none: created) and after (none: deleted)."""

    path: str
    unified: str | None = None
    old: str | None = None
    new: str | None = None


class PlanEntry(Value):
    """One step of the agent's own plan."""

    text: str
    status: Literal["pending", "in_progress", "completed"] = "pending"


class Option(Value):
    """One of the agent's own answers to its request; `id` is what the agent wants to hear."""

    id: str
    label: str
    kind: OptionKind


class Question(Value):
    """Something the agent wants to know from the user; any text is an answer where `free`."""

    id: str
    text: str
    header: str = ""
    choices: tuple[str, ...] = ()
    several: bool = False
    free: bool = True


class Began(Value):
    """The agent is up, and this is its own name for the conversation."""

    type: Literal["began"] = "began"
    agent_session: str
    model: str | None = None
    mode: str | None = None


class TurnBegan(Value):
    """The agent took a message up."""

    type: Literal["turn_began"] = "turn_began"
    prompt: str = ""


class Message(Value):
    """The agent says something; pieces of one message (`partial`) are joined until one that is not partial ends it."""

    type: Literal["message"] = "message"
    text: str
    partial: bool = False


class Thought(Value):
    """The agent thinks aloud; pieces as for Message."""

    type: Literal["thought"] = "thought"
    text: str
    partial: bool = False


class ToolBegan(Value):
    """The agent uses a tool; `input` is the command, or the arguments as JSON."""

    type: Literal["tool_began"] = "tool_began"
    id: str
    name: str
    kind: ToolKind = "other"
    title: str = ""
    places: tuple[Place, ...] = ()
    input: str = ""


class ToolUpdated(Value):
    """More is known of a tool that is in use; what is empty stays as it was."""

    type: Literal["tool_updated"] = "tool_updated"
    id: str
    title: str = ""
    input: str = ""
    output: str = ""
    places: tuple[Place, ...] = ()


class ToolEnded(Value):
    """A tool is done; `output` is what it gave back."""

    type: Literal["tool_ended"] = "tool_ended"
    id: str
    status: Literal["completed", "failed", "denied"] = "completed"
    exit: int | None = None
    output: str = ""
    diffs: tuple[FileDiff, ...] = ()


class Planned(Value):
    """The agent's whole plan as it now is."""

    type: Literal["planned"] = "planned"
    entries: tuple[PlanEntry, ...]


class Asked(Value):
    """The agent waits for the user: for a permission (answered with one of `options`) or for answers to `questions`."""

    type: Literal["asked"] = "asked"
    id: str
    """The adapter's name for the request, unique in the run."""
    kind: Literal["permission", "question"] = "permission"
    tool: str = ""
    tool_kind: ToolKind = "other"
    tool_id: str | None = None
    title: str
    """A sentence or a command: what is asked for."""
    input: str = ""
    reason: str = ""
    """Why the agent wants it, if it says so."""
    diffs: tuple[FileDiff, ...] = ()
    options: tuple[Option, ...] = ()
    questions: tuple[Question, ...] = ()


class Withdrawn(Value):
    """The agent does not wait for that answer any more, or has taken it."""

    type: Literal["withdrawn"] = "withdrawn"
    id: str


class Used(Value):
    """Tokens and dollars that were spent: by one request or turn, by this process so far, or by the whole conversation.

    `input` leaves out what was read from or written to the provider's cache; `output` includes `reasoning`.
    """

    type: Literal["used"] = "used"
    scope: UsageScope
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cost_usd: float | None = None
    cost_scope: UsageScope | None = None
    """The scope of `cost_usd` where it is another one."""


class Context(Value):
    """How full the model's context is, in tokens."""

    type: Literal["context"] = "context"
    used: int
    size: int | None = None


class Window(Value):
    """One of the provider's limits: `used` from 0 to 1, `resets_at` in Unix seconds, `minutes` its length."""

    name: str
    used: float | None = None
    resets_at: float | None = None
    minutes: int | None = None


class Limit(Value):
    """How the provider's limits stand for an account."""

    type: Literal["limit"] = "limit"
    account: str
    status: Literal["allowed", "warning", "rejected"]
    windows: tuple[Window, ...] = ()


class Retry(Value):
    """The agent will try a request to its provider again, `delay_s` from when it said so."""

    type: Literal["retry"] = "retry"
    account: str
    kind: TroubleKind
    attempt: int | None = None
    most: int | None = None
    delay_s: float | None = None
    text: str = ""


class Trouble(Value):
    """The agent could not do something; `fatal` if it cannot go on without the user."""

    type: Literal["trouble"] = "trouble"
    account: str
    kind: TroubleKind
    text: str
    fatal: bool = False
    resets_at: float | None = None


class Delivered(Value):
    """A message of the user has reached the agent."""

    type: Literal["delivered"] = "delivered"
    id: str


class Remark(Value):
    """Something about the conversation that the user should see and the agent did not say, such as a queued message."""

    type: Literal["remark"] = "remark"
    text: str


class Unread(Value):
    """Output that the adapter does not understand: shown, never dropped."""

    type: Literal["unread"] = "unread"
    text: str
    why: str


class TurnEnded(Value):
    """The agent is done with a message."""

    type: Literal["turn_ended"] = "turn_ended"
    stop: StopReason
    text: str = ""
    """What it says at the end, or why it stopped."""


Report = (
    Began
    | TurnBegan
    | Message
    | Thought
    | ToolBegan
    | ToolUpdated
    | ToolEnded
    | Planned
    | Asked
    | Withdrawn
    | Used
    | Context
    | Limit
    | Retry
    | Trouble
    | Delivered
    | Remark
    | Unread
    | TurnEnded
)


def shorten(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text, or its beginning and its end with the number of characters between them."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters …]\n{text[-half:]}"
