"""The parameters of `plait/…` requests and of commands, as they come over the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Params(BaseModel):
    """Parameters in camelCase; a key that is not known is an error, so that a slip is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Nothing(Params):
    """No parameters."""


class TextDocument(Params):
    uri: str


class AgentCount(Params):
    name: str
    count: Annotated[int, Field(ge=1)] = 1


class Run(Params):
    """A task to be done by one or more sessions."""

    text: str
    path: str | None = None
    """A file or directory of the repository; the client's workspace folder or directory if it is left out."""
    agents: tuple[AgentCount, ...] = ()
    command: tuple[str, ...] = ()
    base: str | None = None
    check: str | None = None
    after: tuple[str, ...] = ()
    setup: bool = True
    env: dict[str, str] | None = None


class Where(Params):
    """Which repository; all of them if nothing is said."""

    path: str | None = None


class Sessions(Where):
    all: bool = False
    """With those in the trash."""


class OfSession(Params):
    session: str


class OfSessions(Params):
    """All that run, if none is named."""

    sessions: tuple[str, ...] = ()


class Wait(Params):
    sessions: tuple[str, ...]
    timeout_s: float | None = None


class Hunks(Params):
    """The hunks in an open document, or those of a session."""

    text_document: TextDocument | None = None
    session: str | None = None
    path: str | None = None


class Diff(Params):
    session: str
    paths: tuple[str, ...] = ()


class FileContent(Params):
    session: str | None = None
    path: str | None = None
    side: Literal["base", "agent"] = "agent"
    uri: str | None = None


class Output(Params):
    session: str
    run: int | None = None
    """The newest agent run if it is left out."""
    offset: Annotated[int, Field(ge=0)] = 0
    tail: Annotated[int, Field(ge=1)] | None = None
    """Begin so many bytes before what is the end now, and not at the offset."""
    limit: Annotated[int, Field(ge=1, le=1 << 20)] = 1 << 18
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0


class Input(Params):
    """Keys for the program in the session's terminal, the size of its screen, or both."""

    session: str
    data: Annotated[str, Field(max_length=1 << 20)] | None = None
    """In base64."""
    rows: Annotated[int, Field(ge=1, le=1000)] | None = None
    columns: Annotated[int, Field(ge=1, le=1000)] | None = None


class Log(Params):
    session: str
    run: int | None = None
    """The newest agent run if it is left out."""
    after: Annotated[int, Field(ge=0)] = 0
    """What was `next` in the last answer: only what changed since is told."""
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0


class Answer(Params):
    """By a decision of ours, by the agent's own option, or with answers to its questions by their ids."""

    session: str
    request: str | None = None
    """The only one that waits, if it is left out."""
    run: int | None = Field(default=None, ge=1)
    """The run that asked: an agent may use the same names again in its next run."""
    decision: Literal["allow", "always", "deny"] | None = None
    option: str | None = None
    text: str = ""
    """Goes along with a refusal, or answers a single question."""
    answers: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Verdict(Params):
    """Hunks by id, files by path, or all of the session."""

    session: str
    paths: tuple[str, ...] = ()
    hunks: tuple[str, ...] = ()
    why: str | None = None


class Here(Params):
    """The same for editors' commands: without a session, what lies at the place, or where the user was last."""

    session: str | None = None
    paths: tuple[str, ...] = ()
    hunks: tuple[str, ...] = ()
    why: str | None = None
    uri: str | None = None
    line: Annotated[int, Field(ge=0)] | None = None


class Place(Params):
    """Where the user is in a document; where the user was last, if it is left out."""

    uri: str | None = None
    line: Annotated[int, Field(ge=0)] | None = None


class Position(Params):
    line: Annotated[int, Field(ge=0)]
    character: Annotated[int, Field(ge=0)] = 0


class Comment(Params):
    """On a hunk, on a file, on a row of it (from 0) in the text on `side`, or on a line of a document."""

    session: str
    text: str
    hunk: str | None = None
    path: str | None = None
    line: Annotated[int, Field(ge=0)] | None = None
    side: Literal["agent", "base", "user"] = "agent"
    text_document: TextDocument | None = None
    position: Position | None = None


class CommentHere(Here):
    """On one hunk; without `text` the place where the user can write it is opened."""

    text: str | None = None


class SendHere(Here):
    """The comments on one session: that of the hunk at the place, if none is named."""

    now: bool = False
    env: dict[str, str] | None = None


class ReviewHere(Here):
    """One session: that of the hunk at the place, if none is named."""

    show: bool = True


class RemoveComment(Params):
    session: str
    comment: str


class SendComments(Params):
    session: str
    now: bool = False
    """Not only when the agent's turn has ended."""
    env: dict[str, str] | None = None


class ReviewPage(Params):
    session: str
    show: bool = True
    """Ask the editor to open it."""
    hunk: str | None = None
    """Where in it."""


class Dashboard(Params):
    show: bool = True


class Agents(Params):
    env: dict[str, str] | None = None


class Say(Params):
    session: str
    text: str
    env: dict[str, str] | None = None


class Resume(Params):
    session: str
    message: str | None = None
    env: dict[str, str] | None = None


class Retry(Params):
    session: str
    env: dict[str, str] | None = None


class Merge(Params):
    session: str
    how: Literal["merge", "squash", "rebase"] = "merge"
    into: str | None = None


class Clean(Params):
    path: str | None = None
    dry_run: bool = False
    empty_trash: bool = False


class Setup(Params):
    path: str
    base: str | None = None


class Approve(Params):
    path: str
    base: str | None = None
    key: str
    """As `plait/setup` gave it: what was looked at is what is approved."""


class Revoke(Params):
    key: str
