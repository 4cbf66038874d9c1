"""What the agent asks the user for over ACP, permissions and forms: until when it waits, and what it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acp import schema

from plait.agents.acp_forms import Form, content_of, form_of
from plait.agents.acp_tools import Tool, Tools
from plait.agents.acp_values import option_of, plain, read, within
from plait.agents.acp_wire import INVALID_PARAMS, REQUEST_CANCELLED, Wire, WireId
from plait.agents.adapter import Answer, Effect, Job, Write
from plait.core.reports import Asked, Option, Remark, Unread, Withdrawn, shorten


@dataclass(frozen=True)
class Waiting:
    """A request of the agent that waits for the user."""

    wire_id: WireId
    options: tuple[Option, ...] = ()
    tool: str | None = None
    form: Form | None = None


class Requests:
    """The requests that wait, by the name under which the user was asked."""

    def __init__(self, job: Job, wire: Wire, tools: Tools) -> None:
        self._job = job
        self._wire = wire
        self._tools = tools
        self._count = 0
        self._waiting: dict[str, Waiting] = {}

    def permission(self, id_: WireId, params: object, *, cancelled: bool) -> list[Effect]:
        """The agent asks whether it may; answered at once if the task's permission says so or all is `cancelled`."""
        request = read(schema.RequestPermissionRequest, _with_known_options(params))
        if isinstance(request, str):
            return [
                self._wire.refuse(id_, INVALID_PARAMS, request),
                Unread(text=shorten(plain(params), 2000), why=f"It asked for a permission. {request}"),
            ]
        tool, reports = self._tools.asked(request.tool_call)
        options = tuple(option_of(option) for option in request.options)
        allowed = self._allowed(tool, options)
        if cancelled or allowed is not None:
            return [*reports, self._chosen(id_, None if cancelled or allowed is None else allowed.id)]
        asked = Asked(
            id=self._wait(Waiting(id_, options, tool.id)),
            tool=tool.name,
            tool_kind=tool.kind,
            tool_id=tool.id,
            title=tool.title or tool.name,
            input=tool.input,
            diffs=tool.diffs,
            options=options,
        )
        return [*reports, asked]

    def question(self, id_: WireId, params: object, *, cancelled: bool) -> list[Effect]:
        """The agent has a form to be filled in."""
        form = form_of(params)
        if isinstance(form, str):
            declined = self._wire.respond(id_, schema.DeclineElicitationResponse(action="decline"))
            return [declined, Remark(text=f"It asked something that cannot be shown, and was told so. {form}")]
        if cancelled:
            return [self._wire.respond(id_, schema.CancelElicitationResponse(action="cancel"))]
        options = (Option(id="decline", label="Do not answer", kind="reject_once"),)
        name = self._wait(Waiting(id_, options, form=form))
        return [Asked(id=name, kind="question", title=form.message, options=options, questions=form.questions)]

    def answer(self, answer: Answer) -> list[Effect]:
        """The user's answer, handed to the agent; or a word why it cannot be."""
        waiting = self._waiting.get(answer.request)
        if waiting is None:
            return [Remark(text="It does not wait for that answer any more.")]
        if waiting.form is not None and answer.option is None:
            content = content_of(waiting.form, answer.answers)
            if isinstance(content, str):
                return [Remark(text=content)]
            accepted = schema.AcceptElicitationResponse(action="accept", content=dict(content))
            return self._settle(answer.request, self._wire.respond(waiting.wire_id, accepted))
        chosen = next((option for option in waiting.options if option.id == answer.option), None)
        if chosen is None:
            return [Remark(text=f"{answer.option!r} is not one of its options.")]
        if waiting.form is not None:
            declined = schema.DeclineElicitationResponse(action="decline")
            return self._settle(answer.request, self._wire.respond(waiting.wire_id, declined))
        if waiting.tool is not None and chosen.kind in ("reject_once", "reject_always"):
            self._tools.deny(waiting.tool)
        effects = self._settle(answer.request, self._chosen(waiting.wire_id, chosen.id))
        if answer.text:
            effects.append(Remark(text="It takes no words along with an answer: send them as a message."))
        return effects

    def cancel_all(self) -> list[Effect]:
        """The turn is over or is to be: nothing waits any more."""
        effects: list[Effect] = []
        for name, waiting in list(self._waiting.items()):
            if waiting.form is None:
                effects += self._settle(name, self._chosen(waiting.wire_id, None))
            else:
                cancelled = schema.CancelElicitationResponse(action="cancel")
                effects += self._settle(name, self._wire.respond(waiting.wire_id, cancelled))
        return effects

    def take_back(self, wire_id: object) -> list[Effect]:
        """The agent does not want the answer to that request of its any more."""
        effects: list[Effect] = []
        for name, waiting in list(self._waiting.items()):
            if waiting.wire_id == wire_id:
                effects += self._settle(name, self._wire.refuse(waiting.wire_id, REQUEST_CANCELLED, "Cancelled."))
        return effects

    def close(self) -> list[Effect]:
        """The process is gone, and nobody waits."""
        withdrawn: list[Effect] = [Withdrawn(id=name) for name in self._waiting]
        self._waiting.clear()
        return withdrawn

    def _allowed(self, tool: Tool, options: Sequence[Option]) -> Option | None:
        """The option to choose without asking the user, by the task's permission; it never lasts beyond this once."""
        if self._job.permission == "ask":
            return None
        if self._job.permission == "edits" and (
            tool.kind not in ("edit", "read", "delete", "move")
            or not tool.paths
            or not within(self._job.worktree, tool.paths)
        ):
            return None
        return next((option for option in options if option.kind == "allow_once"), None)

    def _wait(self, waiting: Waiting) -> str:
        self._count += 1
        name = f"ask-{self._count}"
        self._waiting[name] = waiting
        return name

    def _settle(self, name: str, response: Write) -> list[Effect]:
        del self._waiting[name]
        return [response, Withdrawn(id=name)]

    def _chosen(self, wire_id: WireId, option: str | None) -> Write:
        """The answer to a permission request: an option, or none because the turn is cancelled."""
        outcome: schema.AllowedOutcome | schema.DeniedOutcome = schema.DeniedOutcome(outcome="cancelled")
        if option is not None:
            outcome = schema.AllowedOutcome(outcome="selected", option_id=option)
        return self._wire.respond(wire_id, schema.RequestPermissionResponse(outcome=outcome))


def _with_known_options(params: object) -> object:
    """The request without those options that the schema does not know, so that the others can be shown."""
    if not isinstance(params, dict) or not isinstance(params.get("options"), list):
        return params
    known = [each for each in params["options"] if not isinstance(read(schema.PermissionOption, each), str)]
    return {**params, "options": known} if known else params
