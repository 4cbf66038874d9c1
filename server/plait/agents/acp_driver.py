"""The conversation with one process of an agent that speaks ACP: what its messages mean, what is written to it.

It opens or takes up a session, chooses its mode, and sends one prompt after the other. While a turn runs, messages of
the user wait, since the protocol cannot hand them over before the turn's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acp import PROTOCOL_VERSION, schema

from plait.agents.acp_quirks import quirks_of
from plait.agents.acp_requests import Requests
from plait.agents.acp_setup import SetUp, State, Step, set_up
from plait.agents.acp_speech import Speech
from plait.agents.acp_tools import Tools
from plait.agents.acp_updates import SILENT, codex_retry, planned, spent
from plait.agents.acp_values import STOPS, plain, plan_entries, read, trouble_kind
from plait.agents.acp_wire import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Asking,
    Refusal,
    Reply,
    Telling,
    Wire,
    WireId,
    unread,
)
from plait.agents.adapter import (
    Answer,
    Command,
    Effect,
    End,
    GiveUp,
    HangUp,
    Interrupt,
    Job,
    Outcome,
    SaveFile,
    Say,
    stopped_or_lost,
)
from plait.agents.lines import Lines, read_object
from plait.core.reports import (
    Began,
    Context,
    Delivered,
    Planned,
    Remark,
    StopReason,
    Trouble,
    TroubleKind,
    TurnBegan,
    TurnEnded,
    Unread,
    shorten,
)

SILENT_NOTIFICATIONS = frozenset({"_auth/status_update", "auth/status_update", "elicitation/complete"})
"""Notifications that are understood and tell the user nothing."""

NOT_OFFERED = frozenset(
    {
        "fs/read_text_file",
        "terminal/create",
        "terminal/output",
        "terminal/release",
        "terminal/wait_for_exit",
        "terminal/kill",
    }
)
"""What an agent may not ask for, since `initialize` does not offer it: files and commands are its own business."""

MOST_ROUNDS = 100
"""How often an agent that still replays its history is asked whether it is done."""


@dataclass
class Turn:
    """What has to be remembered of the turn that runs."""

    cost: float | None = None
    interrupted: bool = False


class AcpDriver:
    """The driver of one process; see `plait.agents.adapter.Driver`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._quirks = quirks_of(job.preset)
        self._lines = Lines()
        self._wire = Wire()
        self._tools = Tools(self._quirks.tool_in_id)
        self._speech = Speech(self._quirks)
        self._requests = Requests(job, self._wire, self._tools)
        self._opening = job.opening
        self._session = ""
        self._logins: tuple[str, ...] = ()
        self._replaying = False
        self._replayed = False
        self._rounds = 0
        self._queue: list[Say] = []
        self._turn: Turn | None = None
        self._over = False
        self._stop: StopReason | None = None
        self._why = ""
        self._trouble: Trouble | None = None

    def begin(self) -> Sequence[Effect]:
        capabilities = schema.ClientCapabilities(
            terminal=False, elicitation=schema.ElicitationCapabilities(form=schema.ElicitationFormCapabilities())
        )
        request = schema.InitializeRequest(
            protocol_version=PROTOCOL_VERSION,
            client_capabilities=capabilities,
            client_info=schema.Implementation(name="plait", title="Plait", version="1"),
        )
        return [self._wire.request("initialize", request, self._initialized)]

    def feed(self, data: bytes) -> Sequence[Effect]:
        return [effect for line in self._lines.feed(data) for effect in self._line(line)]

    def close(self) -> Sequence[Effect]:
        effects = [effect for line in self._lines.close() for effect in self._line(line)]
        effects += self._speech.close()
        if failure := self._speech.take_failure():
            effects.append(Remark(text=failure))
        return [*effects, *self._requests.close()]

    def take(self, command: Command) -> Sequence[Effect]:
        match command:
            case Say():
                return self._say(command)
            case Answer():
                return self._requests.answer(command)
            case Interrupt():
                return self._interrupt()

    def outcome(self, end: End) -> Outcome:
        if self._stop == "end_turn":
            return Outcome(True, "Done.")
        if self._stop == "cancelled":
            return Outcome(False, "Stopped.", stopped=True)
        kind = None if self._trouble is None else self._trouble.kind
        if self._stop is not None:
            return Outcome(False, self._why or "It broke off its turn.", trouble=kind)
        special = stopped_or_lost(end)
        if special is not None:
            return special
        complaint = next((line.strip() for line in reversed(end.complaints.splitlines()) if line.strip()), "")
        reason = "It ended without finishing its turn"
        return Outcome(False, f"{reason}: {shorten(complaint, 500)}" if complaint else f"{reason}.", trouble=kind)

    def _line(self, line: bytes) -> list[Effect]:
        found = read_object(line)
        if found is None:
            return []
        if isinstance(found, Unread):
            return [found]
        match self._wire.read(found, line):
            case Asking() as asking:
                return [*self._speech.close(), *self._asked(asking.method, asking.id, asking.params)]
            case Telling() as telling:
                return self._told(telling.method, telling.params, line)
            case Reply() as reply:
                return [] if self._over else reply.replied(reply.result, reply.refusal)
            case Unread() as other:
                return [other]

    def _asked(self, method: str, id_: WireId, params: object) -> list[Effect]:
        cancelled = self._turn is None or self._turn.interrupted
        if method == "session/request_permission":
            return self._requests.permission(id_, params, cancelled=cancelled)
        if method == "elicitation/create":
            return self._requests.question(id_, params, cancelled=cancelled)
        if method == "fs/write_text_file":
            return self._save(id_, params)
        refused = self._wire.refuse(id_, METHOD_NOT_FOUND, f"This client does not offer {shorten(method, 100)}.")
        if method in NOT_OFFERED:
            return [refused]
        why = f"It asked for {shorten(method, 100)!r}, which is not known."
        return [refused, Unread(text=shorten(plain(params), 2000), why=why)]

    def _save(self, id_: WireId, params: object) -> list[Effect]:
        """OpenCode wants every file that it changed to be written by its client, though no client here offers to."""
        request = read(schema.WriteTextFileRequest, params)
        if isinstance(request, str):
            return [self._wire.refuse(id_, INVALID_PARAMS, request)]
        done = self._wire.respond(id_, schema.WriteTextFileResponse())
        refused = self._wire.refuse(id_, INVALID_PARAMS, "This file is not in the worktree, or it cannot be written.")
        return [SaveFile(path=request.path, text=request.content, done=done, refused=refused)]

    def _told(self, method: str, params: object, line: bytes) -> list[Effect]:
        if method == "session/update":
            return self._updated(params, line)
        if method == "$/cancel_request":
            return self._requests.take_back(params.get("requestId") if isinstance(params, dict) else None)
        if method in SILENT_NOTIFICATIONS:
            return []
        return [unread(line, f"Notifications of the kind {shorten(method, 100)!r} are not known.")]

    def _updated(self, params: object, line: bytes) -> list[Effect]:
        update = params.get("update") if isinstance(params, dict) else None
        kind = update.get("sessionUpdate") if isinstance(update, dict) else None
        if not self._replaying and isinstance(kind, str) and kind in SILENT:
            return []
        known = read(schema.SessionNotification, params)
        if isinstance(known, str):
            return [unread(line, known)]
        if self._replaying:
            self._replayed = self._replayed or self._is_history(known.update)
            return []
        match known.update:
            case schema.AgentMessageChunk() as chunk:
                return [*self._speech.say(chunk, "message")]
            case schema.AgentThoughtChunk() as chunk:
                return [*self._speech.say(chunk, "thought")]
            case schema.ToolCallStart() | schema.ToolCallProgress() as call:
                reports = self._tools.update(call)
                return [*(self._speech.close() if reports else ()), *reports]
            case schema.AgentPlanUpdate(entries=entries):
                return [*self._speech.close(), Planned(entries=plan_entries(entries))]
            case schema.AgentPlanContentUpdate(plan=plan):
                return [*self._speech.close(), planned(plan)]
            case schema.AgentPlanRemovedUpdate():
                return [Planned(entries=())]
            case schema.UsageUpdate() as usage:
                if usage.cost is not None and usage.cost.currency.upper() == "USD" and self._turn is not None:
                    self._turn.cost = usage.cost.amount
                return [Context(used=usage.used, size=usage.size)] if usage.used else []
            case schema.SessionInfoUpdate(field_meta=meta):
                retry = codex_retry(meta, self._quirks.account)
                if retry is None:
                    return []
                return [retry, *(self._fail(retry.kind, retry.text) if retry.kind == "auth" else ())]
            case _:
                return []

    def _is_history(self, update: object) -> bool:
        match update:
            case schema.AgentMessageChunk(content=schema.TextContent(text=text)):
                return not self._speech.is_noise(text)
            case schema.UserMessageChunk() | schema.AgentMessageChunk() | schema.AgentThoughtChunk():
                return True
            case schema.ToolCallStart() | schema.ToolCallProgress() | schema.AgentPlanUpdate():
                return True
            case _:
                return False

    def _initialized(self, result: object, refusal: Refusal | None) -> list[Effect]:
        if refusal is not None:
            return self._refused("It could not be started up", refusal)
        found = read(schema.InitializeResponse, result)
        if isinstance(found, str):
            return self._fail("agent", f"It could not be started up. {found}")
        if found.protocol_version != PROTOCOL_VERSION:
            theirs = found.protocol_version
            return self._fail(
                "agent",
                f"It speaks version {theirs} of ACP, and Plait version {PROTOCOL_VERSION}: install one that fits.",
            )
        self._logins = tuple(method.name for method in found.auth_methods or ())
        if self._job.resume is None:
            return self._open()
        can = found.agent_capabilities
        sessions = None if can is None else can.session_capabilities
        if sessions is not None and sessions.resume is not None:
            resume = schema.ResumeSessionRequest(cwd=self._job.worktree, session_id=self._job.resume, mcp_servers=[])
            return [self._wire.request("session/resume", resume, self._resumed)]
        if can is not None and can.load_session:
            self._replaying = True
            load = schema.LoadSessionRequest(cwd=self._job.worktree, session_id=self._job.resume, mcp_servers=[])
            return [self._wire.request("session/load", load, self._resumed)]
        return self._tell_anew("It cannot take up a conversation again")

    def _open(self) -> list[Effect]:
        request = schema.NewSessionRequest(cwd=self._job.worktree, mcp_servers=[])
        return [self._wire.request("session/new", request, self._opened)]

    def _opened(self, result: object, refusal: Refusal | None) -> list[Effect]:
        if refusal is not None:
            return self._refused("It could not open a session", refusal)
        state = read(schema.NewSessionResponse, result)
        if isinstance(state, str):
            return self._fail("agent", f"It could not open a session. {state}")
        return self._up(state.session_id, state)

    def _resumed(self, result: object, refusal: Refusal | None) -> list[Effect]:
        if refusal is not None:
            if trouble_kind(refusal.code, refusal.text) in ("auth", "quota"):
                return self._refused("It could not take up the conversation", refusal)
            return self._tell_anew(f"It could not take up the conversation ({refusal.text})")
        assert self._job.resume is not None
        state = read(schema.LoadSessionResponse, result or {})
        if isinstance(state, str):
            remark = Remark(text=f"What it says of its session cannot be read. {state}")
            return [remark, *self._up(self._job.resume, None)]
        return self._up(self._job.resume, state)

    def _tell_anew(self, why: str) -> list[Effect]:
        self._replaying = False
        self._opening = "\n\n".join(filter(None, (self._job.prompt, self._job.message)))
        return [Remark(text=f"{why}, so it is told the task anew."), *self._open()]

    def _up(self, session: str, state: State | None) -> list[Effect]:
        """The session is there: its mode and model are chosen, then the first turn begins."""
        self._session = session
        plan = SetUp() if state is None else set_up(state, session, self._job, self._quirks)
        late = self._replaying and self._quirks.late_history and plan.barrier is not None
        self._replaying = late
        began = Began(agent_session=session, model=plan.model, mode=plan.mode)
        remarks = [Remark(text=plan.remark)] if plan.remark else []
        return [began, *remarks, *self._steps(plan.steps, plan.barrier if late else None)]

    def _steps(self, steps: tuple[Step, ...], barrier: Step | None) -> list[Effect]:
        """One request after the other, then the first prompt.

        An agent that goes on replaying its history is asked the same once more until a whole round has passed without
        any of it: what comes after that belongs to the turn.
        """
        if steps:

            def done(_result: object, refusal: Refusal | None) -> list[Effect]:
                said = [] if refusal is None else [Remark(text=f"{steps[0].failed}: {refusal.text}.")]
                return [*said, *self._steps(steps[1:], barrier)]

            return [self._wire.request(steps[0].method, steps[0].request, done)]
        if barrier is None:
            return self._begin_turn(self._opening)
        self._replayed = False
        self._rounds += 1

        def passed(_result: object, refusal: Refusal | None) -> list[Effect]:
            if self._replayed and refusal is None and self._rounds < MOST_ROUNDS:
                return self._steps((), barrier)
            self._replaying = False
            return self._steps((), None)

        return [self._wire.request(barrier.method, barrier.request, passed)]

    def _begin_turn(self, text: str) -> list[Effect]:
        self._turn = Turn()
        self._stop = None
        self._why = ""
        self._trouble = None
        block = schema.TextContentBlock(type="text", text=text)
        request = schema.PromptRequest(session_id=self._session, prompt=[block])
        return [self._wire.request("session/prompt", request, self._prompted), TurnBegan(prompt=shorten(text))]

    def _prompted(self, result: object, refusal: Refusal | None) -> list[Effect]:
        turn = self._turn
        assert turn is not None
        effects: list[Effect] = [*self._speech.close(), *self._requests.cancel_all()]
        failure = self._speech.take_failure()
        answer = None if refusal is not None else read(schema.PromptResponse, result)
        used = spent(answer if isinstance(answer, schema.PromptResponse) else None, turn.cost, self._quirks)
        if used is not None:
            effects.append(used)
        if turn.interrupted:
            # Agents that do not know better call that an end or an error.
            return [*effects, *self._end_turn("cancelled", "")]
        if isinstance(answer, schema.PromptResponse):
            stop, why = STOPS[answer.stop_reason]
            if stop == "end_turn" and failure:
                return [*effects, *self._fail(trouble_kind(None, failure), failure)]
            return [*effects, *self._end_turn(stop, why or self._speech.last)]
        if refusal is not None:
            return [*effects, *self._refused("", refusal)]
        said = result.get("stopReason") if isinstance(result, dict) else None
        why = f"It ended its turn for a reason that is not known: {plain(said)}." if said is not None else str(answer)
        return [*effects, *self._end_turn("error", shorten(why, 2000))]

    def _end_turn(self, stop: StopReason, text: str) -> list[Effect]:
        self._turn = None
        self._stop = stop
        self._why = "" if stop == "end_turn" else text
        effects: list[Effect] = [*self._tools.end_turn(broke_off=stop in ("cancelled", "error"))]
        effects.append(TurnEnded(stop=stop, text=shorten(text)))
        if stop == "cancelled" or not self._queue:
            self._over = True
            return [*effects, HangUp()]
        say = self._queue.pop(0)
        return [*effects, Delivered(id=say.id), *self._begin_turn(say.text)]

    def _refused(self, what: str, refusal: Refusal) -> list[Effect]:
        kind = trouble_kind(refusal.code, refusal.text)
        return self._fail(kind, f"{what}: {refusal.text}" if what and kind != "auth" else refusal.text)

    def _fail(self, kind: TroubleKind, text: str) -> list[Effect]:
        """The agent cannot do it: said to the user; without a session, a login or a quota nothing else is tried."""
        text = shorten(text.rstrip(), 2000)
        if kind == "auth":
            ways = f" ({', '.join(self._logins)})" if self._logins else ""
            text = f"{self._quirks.title} is not logged in: {self._quirks.log_in}{ways}. It said: {text}"
        fatal = kind in ("auth", "quota") or self._turn is None
        self._trouble = Trouble(account=self._quirks.account, kind=kind, text=text, fatal=fatal)
        effects: list[Effect] = [*self._speech.close(), self._trouble, *self._requests.cancel_all()]
        if not fatal:
            return [*effects, *self._end_turn("error", text)]
        if self._turn is not None:
            self._turn = None
            effects += [*self._tools.end_turn(broke_off=True), TurnEnded(stop="error", text=text)]
        self._stop = "error"
        self._why = text
        self._over = True
        return [*effects, GiveUp()]

    def _say(self, say: Say) -> list[Effect]:
        if self._over:
            return []
        self._queue.append(say)
        return [Remark(text="It will be told when this turn is over.")]

    def _interrupt(self) -> list[Effect]:
        if self._over or (self._turn is not None and self._turn.interrupted):
            return []
        if self._turn is None:
            return self._end_turn("cancelled", "")
        self._turn.interrupted = True
        cancel = self._wire.notify("session/cancel", schema.CancelNotification(session_id=self._session))
        return [cancel, *self._requests.cancel_all()]
