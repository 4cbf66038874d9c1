"""What can happen to a session: a closed union, and the durable form in which it is kept.

A session's history is its `Created` event (kept alone as `spec.json`) and the events after it, one JSON object a line
in `events.jsonl`: `{"v": 1, "seq": 3, "at": 1763912345.5, "type": "run_ended", ...}`. Readers skip kinds that they do
not know, so that an older program can read a newer one's history.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from plait.core import reports
from plait.core.usage import Spent
from plait.core.values import Value

VERSION = 1

RunKind = Literal["setup", "agent", "teardown"]
VerdictKind = Literal["accepted", "rejected", "cleared"]
Side = Literal["agent", "base", "user"]
"""Whose text a row is counted in."""
FinishKind = Literal["merge", "squash", "rebase"]
AgentKind = Literal["command", "claude", "codex", "codex-exec", "opencode", "aider", "acp", "terminal"]
PermissionMode = Literal["ask", "edits", "all"]


class Task(Value):
    """What was asked: the user's words and what they set beside them."""

    id: str
    title: str
    prompt: str
    after: tuple[str, ...] = ()
    """Sessions that must have finished well before this one starts."""
    check: str | None = None


class AgentRef(Value):
    """The agent as it was configured when the session was created."""

    name: str
    kind: AgentKind = "command"
    command: tuple[str, ...] = ()
    """The program, found when the session was created, and its arguments; for a known agent what its adapter begins
    with."""
    env: tuple[str, ...] = ()
    """Names of extra environment variables that it gets; values are never kept."""
    permission: PermissionMode = "ask"
    model: str | None = None
    why: str = ""
    """Why this agent, if it was not the user who chose it."""


class RepoRef(Value):
    """The repository that the session works on."""

    key: str
    common_dir: str
    git_dir: str
    top: str | None
    """The user's checkout; none for a bare repository."""


class SetupRef(Value):
    """The set-up of the worktree as the user approved it."""

    source: str | None = None
    commands: tuple[str, ...] = ()
    scripts: dict[str, str] = Field(default_factory=dict)
    """Scripts of the repository that the commands name, each with the sha256 of its approved content."""
    teardown: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    symlinks: tuple[str, ...] = ()
    dialect: str | None = None


class Created(Value):
    """The intent of a session, written before anything is done for it."""

    type: Literal["created"] = "created"
    task: Task
    agent: AgentRef
    repo: RepoRef
    base: str
    base_name: str | None = None
    default_branch: str | None = None
    branch: str
    worktree: str
    setup: SetupRef = SetupRef()
    env: dict[str, str] = Field(default_factory=dict)
    """Variables of ours for its processes; nothing of the user's environment."""


class Admitted(Value):
    """The session may start now."""

    type: Literal["admitted"] = "admitted"
    reason: str


class Prepared(Value):
    """The worktree stands and holds the base."""

    type: Literal["prepared"] = "prepared"
    admin: str
    port: int
    notes: tuple[str, ...] = ()


class RunStarted(Value):
    """A supervised process was asked for; `run` numbers the session's run directory."""

    type: Literal["run_started"] = "run_started"
    run: int
    kind: RunKind
    message: str | None = None
    permission: PermissionMode | None = None
    """What an agent may do unasked in this run; none: what the session was created with."""


class RunEnded(Value):
    """A supervised process is over; `unknown` when nobody could see how it ended."""

    type: Literal["run_ended"] = "run_ended"
    run: int
    ok: bool
    stopped: bool = False
    code: int | None = None
    signal: int | None = None
    unknown: bool = False
    reason: str
    output_bytes: int = 0
    trouble: reports.TroubleKind | None = None
    spent: Spent | None = None
    """What the run used, as far as the agent told."""
    thread: Spent | None = None
    """What the whole conversation had used by then, for agents that count so."""
    heard: bool = True
    """Whether the agent took up what it was told at the start; if not, the next run tells it again."""


KeptReport = Annotated[
    reports.Began
    | reports.Asked
    | reports.Withdrawn
    | reports.Limit
    | reports.Trouble
    | reports.Delivered
    | reports.TurnEnded,
    Field(discriminator="type"),
]


class Reported(Value):
    """The agent reported something that must outlive the daemon."""

    type: Literal["reported"] = "reported"
    run: int
    report: KeptReport
    spent: Spent | None = None
    """What the run has used so far, with the end of a turn."""


class Said(Value):
    """The user has a message for the agent; `offset` is how much of the run's output had been read by then.

    Without a run it waits for the next one.
    """

    type: Literal["said"] = "said"
    id: str
    text: str
    run: int | None = None
    offset: int = 0


class Answered(Value):
    """The user has answered a request of the agent; `offset` as for Said."""

    type: Literal["answered"] = "answered"
    run: int
    request: str
    option: str | None = None
    answers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    text: str = ""
    offset: int = 0
    by: str = ""
    """Where it was answered: the client's name."""


class Interrupted(Value):
    """The agent was asked to end its turn; `offset` as for Said."""

    type: Literal["interrupted"] = "interrupted"
    run: int
    offset: int = 0


class FileSaved(Value):
    """A file was, or could not be, written on behalf of the agent; `write` is the id of the answer to it."""

    type: Literal["file_saved"] = "file_saved"
    run: int
    write: str


class Snapshotted(Value):
    """The session's tree at a moment, uncommitted work included, kept alive by `ref`."""

    type: Literal["snapshotted"] = "snapshotted"
    run: int
    tree: str
    commit: str
    ref: str
    files: int
    added: int
    removed: int
    commits: int = 0
    """How many commits the agent made on the session's branch."""


class TrashFailed(Value):
    """The worktree could not be moved to the trash and is where it was."""

    type: Literal["trash_failed"] = "trash_failed"
    why: str


class Released(Value):
    """The worktree and branch held nothing beyond the base and are gone; going on makes them anew."""

    type: Literal["released"] = "released"


class Kept(Value):
    """The worktree holds only what git does not track, and stays."""

    type: Literal["kept"] = "kept"


class StopAsked(Value):
    """Somebody wants the session to stop."""

    type: Literal["stop_asked"] = "stop_asked"


class Resumed(Value):
    """The session goes on in its worktree, with a message if one was given."""

    type: Literal["resumed"] = "resumed"
    message: str | None = None


class Retried(Value):
    """The task was given to a new session, which starts from the base."""

    type: Literal["retried"] = "retried"
    by: str


class Failed(Value):
    """A step of ours could not be done."""

    type: Literal["failed"] = "failed"
    step: str
    why: str


class Decided(Value):
    """The user's verdict on a hunk; `cleared` takes an earlier one back."""

    type: Literal["decided"] = "decided"
    hunk: str
    path: str
    verdict: VerdictKind
    why: str | None = None


class Commented(Value):
    """The user said something about a change, for the agent to be told later."""

    type: Literal["commented"] = "commented"
    id: str
    path: str
    hunk: str | None = None
    line: int | None = None
    """A row of the text on `side`, counted from 0; none: the file as a whole."""
    side: Side = "agent"
    quote: tuple[str, ...] = ()
    """What was commented on, as it was then."""
    text: str


class CommentRemoved(Value):
    """The user took a comment back."""

    type: Literal["comment_removed"] = "comment_removed"
    id: str


class SendAsked(Value):
    """The user wants the agent to be told the comments and rejections as soon as it rests."""

    type: Literal["send_asked"] = "send_asked"


class CommentsSent(Value):
    """The agent is told these comments, and of these rejected hunks, with what happens next in the history."""

    type: Literal["comments_sent"] = "comments_sent"
    ids: tuple[str, ...]
    rejected: tuple[str, ...] = ()


class SendFailed(Value):
    """The agent could not be told; nothing was lost by it."""

    type: Literal["send_failed"] = "send_failed"
    why: str


class Applied(Value):
    """Every hunk is either in the user's text or rejected."""

    type: Literal["applied"] = "applied"


class Reopened(Value):
    """A hunk waits for review again."""

    type: Literal["reopened"] = "reopened"


class FinishAsked(Value):
    """A branch is about to take the session's work; kept so that a crash in the middle can be completed or undone."""

    type: Literal["finish_asked"] = "finish_asked"
    how: FinishKind
    into: str
    previous: str
    commit: str


class Merged(Value):
    """A branch took the session's work."""

    type: Literal["merged"] = "merged"
    how: FinishKind
    into: str
    commit: str


class FinishFailed(Value):
    """The branch is as it was."""

    type: Literal["finish_failed"] = "finish_failed"
    why: str


class TrashAsked(Value):
    """The user wants the worktree out of the way."""

    type: Literal["trash_asked"] = "trash_asked"


class Trashed(Value):
    """The worktree lies in the trash, whole."""

    type: Literal["trashed"] = "trashed"
    place: str | None
    """Where it lies; none when there never was a worktree."""


class Restored(Value):
    """The worktree is back at its place."""

    type: Literal["restored"] = "restored"


class Purged(Value):
    """The user emptied the trash of this session."""

    type: Literal["purged"] = "purged"


class Noted(Value):
    """Something the user should be able to read later."""

    type: Literal["noted"] = "noted"
    text: str


Event = (
    Created
    | Admitted
    | Prepared
    | RunStarted
    | RunEnded
    | Reported
    | Said
    | Answered
    | Interrupted
    | FileSaved
    | Snapshotted
    | Released
    | Kept
    | StopAsked
    | Resumed
    | Retried
    | Failed
    | Decided
    | Commented
    | CommentRemoved
    | SendAsked
    | CommentsSent
    | SendFailed
    | Applied
    | Reopened
    | FinishAsked
    | Merged
    | FinishFailed
    | TrashAsked
    | Trashed
    | TrashFailed
    | Restored
    | Purged
    | Noted
)

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


class Record(Value):
    """An event with its place in the session's history: `seq` counts from 0, `at` is Unix time in seconds."""

    session: str
    seq: int
    at: float
    event: Event


def dump(record: Record) -> bytes:
    """The record as one line of JSON, newline included."""
    body = {"v": VERSION, "seq": record.seq, "at": record.at, **record.event.model_dump(mode="json")}
    # A file name that is not UTF-8 holds lone surrogates; `json.loads` takes them back the same way.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def load(session: str, line: bytes) -> Record | None:
    """The record that `line` holds; none for a kind of event that this version does not know.

    Raises ValueError for anything that is not an event.
    """
    body = json.loads(line)
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise ValueError("not an event")
    if body["type"] not in KINDS:
        return None
    try:
        return Record(session=session, seq=body["seq"], at=body["at"], event=_EVENT.validate_python(body))
    except (KeyError, ValidationError) as error:
        raise ValueError(f"damaged event: {error}") from error


KINDS = frozenset(kind.model_fields["type"].default for kind in Event.__args__)
