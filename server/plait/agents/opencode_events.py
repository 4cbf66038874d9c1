"""What the events of OpenCode's server mean for one conversation, whichever way and however often they come.

After a break the bridge repeats as events what it may have missed, so each fact is reported once, by its own id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plait.agents.opencode_speech import Speech
from plait.agents.opencode_values import (
    LONGEST_PIECE,
    Json,
    count,
    diffs,
    error_text,
    inner,
    number,
    permission,
    places,
    plan,
    question,
    text,
    tool_input,
    tool_kind,
    tool_title,
    trouble_kind,
    used,
)
from plait.core.reports import (
    Asked,
    Context,
    Delivered,
    FileDiff,
    Planned,
    Remark,
    Report,
    Retry,
    StopReason,
    ToolBegan,
    ToolEnded,
    ToolUpdated,
    Trouble,
    TroubleKind,
    TurnBegan,
    TurnEnded,
    Withdrawn,
    shorten,
)

_SILENT = frozenset(
    {
        "session.created",
        "session.updated",
        "session.deleted",
        "session.diff",
        "message.removed",
        "message.part.removed",
        "command.executed",
    }
)
"""Events that say nothing a user would want to know, or nothing that others do not say."""
_SILENT_FAMILIES = ("session.next.", "permission.v2.", "question.v2.")
"""A second form of the same events, for clients of the server's next interface."""
_SILENT_PARTS = frozenset({"step-start", "snapshot", "patch", "file", "agent", "subtask", "retry", "compaction"})
_RULE = "The user has specified a rule which prevents"
"""How OpenCode begins its reply to a tool that the user's own configuration forbids."""
_ABORTED = "User aborted the command"


@dataclass
class Tool:
    """One use of a tool, as far as it has been reported."""

    name: str
    given: Json
    begun: bool = False
    ended: bool = False
    output: str = ""
    diffs: tuple[FileDiff, ...] = ()
    refused: bool = False


class Events:
    """The state of one conversation and of the subagents in it."""

    def __init__(self, model: str | None) -> None:
        self.session = ""
        self.expected: list[tuple[str | None, str]] = []
        """What was said and has not arrived: the message's id (none: the opening) and its text."""
        self.asked: dict[str, Asked] = {}
        self.sizes: dict[str, int] = {}
        self.turn_open = False
        self.over = False
        self.stop: StopReason | None = None
        self.why = ""
        self.fatal: Trouble | None = None
        self.trouble: TroubleKind | None = None
        self._account = (model or "").partition("/")[0] or "opencode"
        self._model = model or ""
        self._busy = False
        self._error: Json | None = None
        self._abort_seen = False
        self._present: set[str] = set()
        """The model's messages of this turn."""
        self._past: set[str] = set()
        self._finish = ""
        self._ends_turn = False
        self._speech = Speech()
        self._users: dict[str, bool] = {}
        """The user's messages; whether each has been reported."""
        self._tools: dict[str, Tool] = {}
        self._done: set[str] = set()
        """Parts that nothing more is to be said of."""
        self._retry: tuple[str, int] | None = None

    def expect(self, message: str | None, said: str) -> None:
        """Something has been said to OpenCode and will arrive."""
        self.expected.append((message, said))

    def read(self, event: Json, properties: Json, line: Json) -> Sequence[Report] | None:
        """What an event means; None if it is not known. `line` is what the bridge wrote around it."""
        kind = text(event, "type")
        own = (text(properties, "sessionID") or text(inner(properties, "info"), "sessionID")) == self.session
        match kind:
            case "message.updated":
                return self._message(inner(properties, "info"), own)
            case "message.part.updated":
                return self._part(inner(properties, "part"), own)
            case "message.part.delta":
                return self._speech.delta(properties) if own else []
            case "session.status":
                return self._status(inner(properties, "status"), own, number(line, "at"))
            case "session.idle":
                return self._idle() if own else []
            case "session.error":
                return self._failed(inner(properties, "error")) if own else []
            case "session.compacted":
                return [Remark(text="OpenCode summed up the conversation, to make room in the context.")]
            case "todo.updated":
                return [*self._speech.cut_short(), Planned(entries=plan(properties))] if own else []
            case "permission.asked":
                return self._ask(self._permission(properties))
            case "question.asked":
                return self._ask(question(properties))
            case "permission.replied" | "question.replied" | "question.rejected":
                request = text(properties, "requestID")
                if text(properties, "reply") == "reject" and request in self.asked:
                    self.refuse(self.asked[request], ends_turn=False)
                return self.withdraw(request)
            case _:
                return [] if kind in _SILENT or kind.startswith(_SILENT_FAMILIES) else None

    def only(self, waiting: set[str]) -> list[Report]:
        """Take back the requests that do not wait any more."""
        return [report for request in list(self.asked) if request not in waiting for report in self.withdraw(request)]

    def withdraw(self, request: str) -> list[Report]:
        """Take a request back, if it still waits."""
        return [Withdrawn(id=request)] if self.asked.pop(request, None) is not None else []

    def refuse(self, asked: Asked, *, ends_turn: bool) -> None:
        """The user said no: the tool is not just a failed one, and maybe the turn ends."""
        self._ends_turn = self._ends_turn or ends_turn
        if asked.tool_id in self._tools:
            self._tools[asked.tool_id].refused = True

    def refused(self, name: str, why: str) -> list[Report]:
        """A message did not get through; `name` is `opening` or `say-` with the message's id."""
        for entry in self.expected:
            if name == ("opening" if entry[0] is None else f"say-{entry[0]}"):
                self.expected.remove(entry)
                break
        else:
            return []
        if entry[0] is None and not self.turn_open:
            return [self._troubled(why, fatal=True), *self.end("error", why)]
        self.over = not self.expected and not self.turn_open
        return [Remark(text=f"OpenCode did not take the message: {why}")]

    def end(self, stop: StopReason, why: str, *, forget: bool = False) -> list[Report]:
        """The turn is over; so is all of it if nothing more was said, or if that is to be forgotten."""
        reports: list[Report] = self.only(set())
        if self.turn_open or (forget and self.stop is None):
            self.stop, self.why = stop, why
            reports.append(TurnEnded(stop=stop, text=shorten(why)))
        self.turn_open = self._busy = self._ends_turn = self._abort_seen = False
        self._past |= self._present
        self._present.clear()
        self._error = self._retry = None
        self._finish = ""
        self._speech.end_turn()
        if forget:
            self.expected.clear()
        self.over = not self.expected
        return reports

    def _message(self, info: Json, own: bool) -> list[Report]:
        name = text(info, "id")
        if text(info, "role") == "user":
            if own:
                self._users.setdefault(name, False)
            return []
        provider, model = text(info, "providerID"), text(info, "modelID")
        if provider:
            self._account = provider
            if own and model:
                self._model = f"{provider}/{model}"
        if own and self.turn_open and name not in self._past:
            self._present.add(name)
            self._finish = text(info, "finish") or self._finish
            if error := inner(info, "error"):
                self._error = self._error or error
        return []

    def _part(self, part: Json, own: bool) -> list[Report]:
        name, message = text(part, "id"), text(part, "messageID")
        match text(part, "type"):
            case "text" if message in self._users:
                return self._arrived(message, part)
            case "text" | "reasoning" as kind:
                return self._speech.part(name, kind, part) if own else []
            case "tool":
                return self._tool(part)
            case "step-finish":
                if name in self._done:
                    return []
                self._done.add(name)
                spent = used(part)
                reports: list[Report] = [spent]
                if own:
                    full = spent.input + spent.cache_read + spent.cache_write + spent.output
                    reports.append(Context(used=full, size=self.sizes.get(self._model) or None))
                return reports
            case other:
                return [] if other in _SILENT_PARTS else [Remark(text=f"OpenCode sent a part of the kind {other!r}.")]

    def _arrived(self, message: str, part: Json) -> list[Report]:
        """A message of the user's has reached OpenCode; it writes some itself, which nobody waits for."""
        if self._users[message] or part.get("synthetic") is True or not self.expected:
            return []
        self._users[message] = True
        said = text(part, "text")
        index = next((i for i, entry in enumerate(self.expected) if entry[1].strip() == said.strip()), 0)
        name, prompt = self.expected.pop(index)
        reports: list[Report] = [] if name is None else [Delivered(id=name)]
        if not self.turn_open:
            self.turn_open = True
            self.over = False
            reports.append(TurnBegan(prompt=shorten(prompt)))
        return reports

    def _tool(self, part: Json) -> list[Report]:
        name = text(part, "callID") or text(part, "id")
        state = inner(part, "state")
        status = text(state, "status")
        given = inner(state, "input")
        tool = self._tools.setdefault(name, Tool(text(part, "tool"), given))
        tool.given = given or tool.given
        if tool.ended or status == "pending":
            return []
        metadata = inner(state, "metadata")
        title = tool_title(tool.name, tool.given, text(state, "title"))
        reports: list[Report] = []
        if not tool.begun:
            tool.begun = True
            reports += self._speech.cut_short()
            reports.append(
                ToolBegan(
                    id=name,
                    name=tool.name,
                    kind=tool_kind(tool.name),
                    title=shorten(title, 2000),
                    places=places(tool.given),
                    input=tool_input(tool.given),
                )
            )
        if status == "running":
            output = shorten(text(metadata, "output"), LONGEST_PIECE)
            if output and output != tool.output:
                tool.output = output
                reports.append(ToolUpdated(id=name, output=output))
            return reports
        tool.ended = True
        failure = text(state, "error")
        exit_ = number(metadata, "exit")
        output = text(state, "output")
        denied = tool.refused or failure.startswith(_RULE)
        done = status == "completed" and not (exit_ is None and _ABORTED in output)
        reports.append(
            ToolEnded(
                id=name,
                status="completed" if done else "denied" if denied else "failed",
                exit=None if exit_ is None else int(exit_),
                output=shorten(failure or output),
                diffs=(diffs(tool.name, tool.given, metadata) or tool.diffs) if done else (),
            )
        )
        return reports

    def _permission(self, request: Json) -> Asked:
        tool = self._tools.get(text(inner(request, "tool"), "callID")) or Tool("", {})
        tool.diffs = diffs(tool.name, tool.given, inner(request, "metadata")) or tool.diffs
        return permission(request, tool.given, tool.diffs)

    def _ask(self, asked: Asked) -> list[Report]:
        if not asked.id or asked.id in self.asked:
            return []
        self.asked[asked.id] = asked
        return [*self._speech.cut_short(), asked]

    def _status(self, status: Json, own: bool, at: float | None) -> list[Report]:
        kind = text(status, "type")
        if kind == "busy":
            if own:
                self._busy = True
                self._retry = None
            return []
        if kind == "idle":
            # `session.idle` says it too.
            return []
        if kind != "retry":
            return [Remark(text=f"OpenCode says that it is {kind!r}.")] if kind else []
        if own:
            self._busy = True
        action = inner(status, "action")
        why = shorten(text(action, "message") or text(status, "message"), 2000)
        attempt = count(status, "attempt")
        due = number(status, "next")
        if self._retry == (why, attempt):
            return []
        self._retry = (why, attempt)
        trouble = "quota" if text(action, "reason") else trouble_kind(why)
        if trouble in ("quota", "auth"):
            # It would try for ever what only the user can put right.
            return [self._troubled(why, fatal=True, kind=trouble), *self.end("error", why, forget=True)]
        return [
            Retry(
                account=self._account,
                kind="overloaded" if trouble == "agent" else trouble,
                attempt=attempt or None,
                delay_s=None if due is None or at is None else max(0.0, round(due / 1000 - at, 3)),
                text=why,
            )
        ]

    def _idle(self) -> list[Report]:
        """OpenCode has nothing to do; after an error it says so twice, and the second time means nothing."""
        if not self.turn_open or not self._busy:
            return []
        error = self._error
        if error is None:
            if self._ends_turn:
                return self.end("cancelled", "You refused what it asked for.")
            match self._finish:
                case "length":
                    return self.end("max_tokens", "It reached the most that the model writes at once.")
                case "content-filter":
                    return self.end("refusal", "The provider's filter refused to go on.")
            return self.end("end_turn", self._speech.last)
        match text(error, "name"):
            case "MessageAbortedError":
                # What became of the tool that was at work is told between the first time and the second.
                if self._abort_seen:
                    return self.end("cancelled", "Stopped.")
                self._abort_seen = True
                return []
            case "MessageOutputLengthError":
                return self.end("max_tokens", "It reached the most that the model writes at once.")
            case "ContentFilterError":
                return self.end("refusal", error_text(error))
        why = error_text(error)
        troubled = self._troubled(why, kind=_kind(error))
        return [troubled, *self.end("error", why, forget=troubled.fatal)]

    def _failed(self, error: Json) -> list[Report]:
        """An error is told first, and then that nothing goes on; unless nothing had begun."""
        if self.turn_open:
            self._error = self._error or error
            return []
        if not self.expected or self._busy:
            return []
        self.expected.pop(0)
        why = error_text(error)
        self.turn_open = True
        return [self._troubled(why, kind=_kind(error)), *self.end("error", why)]

    def _troubled(self, why: str, *, fatal: bool = False, kind: TroubleKind = "agent") -> Trouble:
        trouble = Trouble(account=self._account, kind=kind, text=why, fatal=fatal or kind in ("auth", "quota"))
        self.trouble = kind
        if trouble.fatal:
            self.fatal = trouble
        return trouble


def _kind(error: Json) -> TroubleKind:
    data = inner(error, "data")
    said = f"{error_text(error)} {text(data, 'responseBody')[:2000]}"
    return trouble_kind(said, count(data, "statusCode"), text(error, "name"))
