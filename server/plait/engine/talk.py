"""What a user can tell an agent: a message, or the answer to what it asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from plait.agents.registry import ADAPTERS
from plait.core import events as e
from plait.core import naming
from plait.core import reports as r
from plait.core.sessions import LIVE, RESTING, Session, State
from plait.core.state import Whole
from plait.engine import control
from plait.engine.conversations import Conversation
from plait.engine.engine import Engine
from plait.errors import BusyError, NothingToDo, UsageError


@dataclass(frozen=True)
class Reply:
    """An answer as the user gave it: by the agent's own option, or in one of our words."""

    request: str | None = None
    """None: the only one that waits."""
    run: int | None = None
    """The run that asked, if it is known: the same name may stand for something else in the next one."""
    decision: str | None = None
    """`allow`, `always` or `deny`."""
    option: str | None = None
    text: str = ""
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by: str = ""


async def say(engine: Engine, session_id: str, text: str, environment: Mapping[str, str]) -> Session:
    """Give the agent a message: now if it works, with its next start if it has not started, else by going on.

    Raises PlaitError.
    """
    session = engine.session(session_id)
    if not text.strip():
        raise UsageError("The message is empty.")
    if session.state is not State.QUEUED and session.state not in LIVE:
        return await control.resume(engine, session_id, text, environment)
    if not ADAPTERS[session.spec.agent.kind].abilities.converses:
        raise BusyError(f"The session is {session.state}, and its agent is a command.", "Wait until it rests.")
    said = e.Said(id=naming.new_id(int(engine.clock() * 1000), os.urandom(10)), text=text)
    conversation = await _conversation(engine, session_id)
    if conversation is None:
        # It is told when its next run starts, or by the next one if this run is just ending.
        return engine.submit(session_id, said)
    try:
        return await conversation.say(said)
    except NothingToDo:
        return engine.submit(session_id, said)


async def answer(engine: Engine, session_id: str, reply: Reply) -> tuple[Session, r.Asked, r.Option | None]:
    """Give the agent the answer to its request: the request, and the option that was chosen. Raises PlaitError."""
    session = engine.session(session_id)
    if reply.run is not None and (session.live_run is None or session.live_run.number != reply.run):
        raise NothingToDo("The agent that asked this is not running any more.")
    asked = _asked(session, reply.request)
    if not asked.options and not asked.questions:
        raise UsageError(f"This can only be answered in its terminal: {asked.title}", f"`plait attach {session.id}`")
    option = _option(asked, reply)
    answers = _answers(asked, reply)
    conversation = await _conversation(engine, session_id)
    if conversation is None:
        raise NothingToDo("The agent does not wait for an answer any more.")
    answered = e.Answered(
        run=conversation.run,
        request=asked.id,
        option=option.id if option else None,
        answers=answers,
        # What answers a question is not said a second time.
        text="" if answers else reply.text,
        by=reply.by,
    )
    return await conversation.answer(answered), asked, option


async def _conversation(engine: Engine, session: str) -> Conversation | None:
    """The conversation with the session's live run; after a restart of the daemon it is taken up in a moment."""

    def settled(whole: Whole) -> bool:
        run = whole.sessions[session].live_run
        return session in engine.conversations or run is None or run.kind != "agent"

    try:
        async with asyncio.timeout(TAKEN_UP_S):
            await engine.until(settled)
    except TimeoutError:
        return None
    return engine.conversations.get(session)


TAKEN_UP_S = 10.0
"""How long a conversation may take to be taken up."""


def _asked(session: Session, name: str | None) -> r.Asked:
    if not session.requests:
        rests = session.state in RESTING
        why = "The agent is not running." if rests else "The agent does not wait for an answer."
        raise NothingToDo(why)
    if name is None:
        if len(session.requests) > 1:
            waiting = "; ".join(f"{asked.id}: {asked.title}" for asked in session.requests.values())
            raise UsageError("The agent waits for several answers.", f"Name one of them: {waiting}")
        return next(iter(session.requests.values()))
    found = session.requests.get(name)
    if found is None:
        raise NothingToDo(f"The request {name!r} was answered already, or the agent took it back.")
    return found


_BY_DECISION: Mapping[str, tuple[r.OptionKind, ...]] = {
    "allow": ("allow_once", "allow_session", "allow_always"),
    "always": ("allow_always", "allow_session", "allow_once"),
    "deny": ("reject_once", "reject_always", "cancel_turn"),
}


def _option(asked: r.Asked, reply: Reply) -> r.Option | None:
    """The agent's option that the reply amounts to; none for a question. Raises UsageError."""
    offered = ", ".join(f"{option.id} ({option.label})" for option in asked.options)
    if reply.option is not None:
        found = next((option for option in asked.options if reply.option in (option.id, option.label)), None)
        if found is None:
            raise UsageError(f"The agent does not offer {reply.option!r}.", f"It offers: {offered or 'no options'}.")
        return found
    if reply.decision is not None:
        kinds = _BY_DECISION.get(reply.decision)
        if kinds is None:
            raise UsageError(f"{reply.decision!r} is no decision.", "Decide allow, always or deny.")
        for kind in kinds:
            for option in asked.options:
                if option.kind == kind:
                    return option
        if asked.options:
            raise UsageError(f"The agent offers nothing like {reply.decision!r}.", f"It offers: {offered}.")
    if asked.kind == "permission":
        raise UsageError(f"Allow or deny? {asked.title}", f"The agent offers: {offered}.")
    return None


def _answers(asked: r.Asked, reply: Reply) -> dict[str, tuple[str, ...]]:
    """The answers to the agent's questions; one text answers a single question. Raises UsageError."""
    if asked.kind == "permission" or (reply.option or reply.decision):
        return {}
    answers = dict(reply.answers)
    if not answers and reply.text and len(asked.questions) == 1:
        answers = {asked.questions[0].id: (reply.text,)}
    known = {question.id: question for question in asked.questions}
    unknown = set(answers) - set(known)
    missing = [question.text for question in asked.questions if not any(answers.get(question.id, ()))]
    if unknown:
        raise UsageError(f"The agent did not ask {', '.join(sorted(unknown))}.", f"It asked: {', '.join(known)}.")
    if missing:
        raise UsageError("Not every question is answered.", f"Missing: {' / '.join(missing)}")
    for name, given in answers.items():
        question = known[name]
        wrong = [
            choice for choice in given if question.choices and not question.free and choice not in question.choices
        ]
        if wrong:
            raise UsageError(
                f"{wrong[0]!r} is no answer to “{question.text}”.", f"Choose: {', '.join(question.choices)}"
            )
    return answers
