"""Performs each action of the plan, and turns what came of it into events."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from plait.agents.adapter import End, Job, Launch, Outcome, stopped_or_lost
from plait.agents.presets import PRESETS
from plait.agents.registry import ADAPTERS
from plait.core import events as e
from plait.core import plan
from plait.core.sessions import Run, Session, State
from plait.core.state import Whole
from plait.core.usage import Tally
from plait.engine import comments, hosts, ports, worktrees
from plait.engine.choosing import allowed_now
from plait.engine.conversations import Conversation
from plait.engine.engine import Engine
from plait.environment import pass_on
from plait.errors import PlaitError, StorageError
from plait.supervisor import runs

AGENT_GIT = {"gc.auto": "0", "maintenance.auto": "false", "core.fsmonitor": "false"}
"""Git settings for what agents run: background upkeep in one worktree races with commits in another."""

_SETUP = 'for command do printf "+ %s\\n" "$command"; sh -c "$command" || exit; done'


async def perform(engine: Engine, action: plan.Action) -> None:
    """Do what is due; a step that cannot be done ends in a `failed` event with its reason."""
    match action:
        case plan.Admit():
            engine.submit(action.session, e.Admitted(reason=action.reason))
        case plan.Prepare():
            await _prepare(engine, engine.session(action.session))
        case plan.Start():
            await _start(engine, engine.session(action.session), action.kind, action.run)
        case plan.Attend():
            await _attend(engine, engine.session(action.session), action.run)
        case plan.Stop():
            await _stop(engine, action.session, action.run)
        case plan.Record():
            await _record(engine, engine.session(action.session))
        case plan.Settle():
            await _settle(engine, engine.session(action.session))
        case plan.Discard():
            await _discard(engine, engine.session(action.session))
        case plan.Halt():
            engine.submit(action.session, e.Failed(step="start", why="Stopped before the agent started."))
        case plan.Release():
            await _release(engine, engine.session(action.session))
        case plan.Send():
            await comments.deliver(engine, engine.session(action.session))


def run_directory(engine: Engine, session: str, run: int) -> Path:
    """Where one supervised process of a session keeps its files."""
    return engine.store.directory(session) / "runs" / str(run)


async def _prepare(engine: Engine, session: Session) -> None:
    try:
        async with engine.preparing:
            made = await asyncio.to_thread(worktrees.prepare, engine.places, session)
        # Not in a thread: between looking for a free block and writing it down nobody else may look.
        port = _free_port(engine)
    except PlaitError as error:
        engine.submit(session.id, e.Failed(step="worktree", why=f"The worktree could not be made: {error}"))
        return
    engine.submit(session.id, e.Prepared(admin=str(made.admin), port=port, notes=made.notes))


def _free_port(engine: Engine) -> int:
    known = engine.whole.sessions.values()
    return ports.assign({other.prepared.port for other in known if other.prepared and not other.purged})


async def _start(engine: Engine, session: Session, kind: e.RunKind, number: int) -> None:
    told = [said.text for said in session.undelivered] + ([session.message] if session.message else [])
    message = "\n\n".join(told) if kind == "agent" and told else None
    permission = allowed_now(session.spec.agent, engine.config()) if kind == "agent" else None
    engine.submit(session.id, e.RunStarted(run=number, kind=kind, message=message, permission=permission))


async def _attend(engine: Engine, session: Session, number: int) -> None:
    run = next(run for run in session.runs if run.number == number)
    if run.kind != "agent":
        await _attend_run(engine, session, run, None)
        return
    # In a thread, for the first driver of a kind may have much to import.
    conversation = await asyncio.to_thread(_conversation, engine, session, run)
    engine.conversations[session.id] = conversation
    engine.tell(session.id)
    try:
        await _attend_run(engine, session, run, conversation)
    finally:
        await conversation.close()
        if engine.conversations.get(session.id) is conversation:
            del engine.conversations[session.id]


async def _attend_run(engine: Engine, session: Session, run: Run, conversation: Conversation | None) -> None:
    number = run.number
    directory = run_directory(engine, session.id, number)
    failures = 0
    while True:
        status = await asyncio.to_thread(runs.status, directory)
        match status:
            case runs.Exit():
                engine.terminals.let_go(directory)
                outcome = await conversation.finish(status) if conversation else _outcome(status)
                tally = conversation.progress.tally if conversation else None
                heard = status.reason != "exec-failed" and (conversation is None or conversation.heard)
                engine.submit(session.id, _ended(number, status, outcome, tally, heard))
                return
            case runs.NotStarted() if engine.session(session.id).stop_asked:
                engine.submit(
                    session.id, e.RunEnded(run=number, ok=False, stopped=True, reason="Stopped.", heard=False)
                )
                return
            case runs.NotStarted():
                try:
                    spec, environment = await _specified(engine, session, run)
                except PlaitError as error:
                    engine.submit(session.id, e.RunEnded(run=number, ok=False, reason=str(error), heard=False))
                    return
                try:
                    await asyncio.to_thread(runs.prepare, directory, spec)
                    await runs.start(directory, environment)
                except StorageError:
                    raise
                except PlaitError as error:
                    failures += 1
                    now = await asyncio.to_thread(runs.status, directory)
                    # A supervisor that was killed before it executed anything costs nothing but another attempt.
                    if isinstance(now, runs.NotStarted) and failures == START_ATTEMPTS:
                        engine.submit(session.id, e.RunEnded(run=number, ok=False, reason=str(error), heard=False))
                        return
            case runs.Lost():
                await runs.adopt(directory, engine.terminals.master(directory))
            case runs.Alive():
                if conversation and conversation.abilities.terminal:
                    await engine.terminals.hold(directory)
                await (conversation.follow() if conversation else runs.wait(directory))


async def _stop(engine: Engine, session: str, number: int) -> None:
    """Returns when the run is over, so that nobody is asked to stop twice."""
    directory = run_directory(engine, session, number)

    def over(whole: Whole) -> bool:
        return all(run.ended is not None for run in whole.sessions[session].runs if run.number == number)

    await _interrupt(engine, session, number, over)
    while not over(engine.whole):
        if isinstance(await asyncio.to_thread(runs.status, directory), runs.NotStarted):
            # It is being launched, or its attendant finds it stopped.
            await asyncio.sleep(LAUNCHING_S)
            continue
        await runs.stop(directory)
        if isinstance(await runs.wait(directory), runs.Exit):
            await engine.until(over)


async def _interrupt(engine: Engine, session: str, number: int, over: Callable[[Whole], bool]) -> None:
    """Ask an agent that converses to end its turn itself, so that it keeps what it knows of it."""
    conversation = engine.conversations.get(session)
    if conversation is None or conversation.run != number or not conversation.abilities.converses:
        return

    async def ends_by_itself(conversation: Conversation) -> None:
        if await conversation.interrupt():
            await engine.until(over)

    waiting = [asyncio.create_task(ends_by_itself(conversation)), asyncio.create_task(engine.until(over))]
    try:
        await asyncio.wait(waiting, timeout=INTERRUPT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


INTERRUPT_S = 4.0
"""How long an agent may take to end its turn before its process is ended."""

LAUNCHING_S = 0.02
"""How often it is looked whether a run that is to be stopped has been launched."""


async def _specified(engine: Engine, session: Session, run: Run) -> tuple[runs.RunSpec, dict[str, str]]:
    """What is to be run, and in which environment. Raises PlaitError if it must not be."""
    worktree = Path(session.spec.worktree)
    await asyncio.to_thread(worktrees.verify, session)
    launch = _launch_of(engine, session, run)
    if run.kind != "agent":
        await asyncio.to_thread(_verify_scripts, session, worktree)
    await asyncio.to_thread(_write_files, agent_files(engine, session.id), launch.files)
    environment = await _environment(engine, session, run, launch)
    spec = runs.RunSpec(
        run=f"{session.id}-{run.number}",
        argv=launch.argv,
        cwd=worktree,
        stdin=launch.stdin,
        stderr=launch.stderr,
        pty=launch.pty,
        interrupt=launch.interrupt,
        timeout_s=TEARDOWN_LIMIT_S if run.kind == "teardown" else None,
    )
    return spec, environment


async def _environment(engine: Engine, session: Session, run: Run, launch: Launch) -> dict[str, str]:
    """What the process finds in its environment, once the server that it needs is there. Raises PlaitError."""
    passed = _passed(engine, session, run)
    own = {**_variables(session), **launch.env}
    if run.kind == "agent" and ADAPTERS[session.spec.agent.kind].abilities.terminal:
        own["PLAIT_HOOKS"] = os.fspath(run_directory(engine, session.id, run.number) / runs.HOOKS)
    if launch.host is None:
        return {**passed, **own}
    runtime = engine.places.runtime / "agents"
    environment = hosts.surroundings(passed, own, runtime)
    await hosts.ensure(launch.host, environment, runtime)
    return environment


def _passed(engine: Engine, session: Session, run: Run) -> dict[str, str]:
    """What a process of the session gets of its asker's environment: an agent also what its provider needs."""
    agent = session.spec.agent
    named = (*agent.env, *engine.config().environment.passed)
    # A program in a terminal has a name of the user's, but is known by its own.
    name = Path(agent.command[0]).name.partition(".")[0] if agent.kind == "terminal" and agent.command else agent.name
    preset = PRESETS.get(name) if run.kind == "agent" and agent.kind != "command" else None
    return pass_on(engine.environment(session.id), named, preset.variables if preset else ())


def agent_files(engine: Engine, session: str) -> Path:
    """Where the session's agent keeps files of its own between runs."""
    return engine.store.directory(session) / "agent"


def _write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write what a launch needs. Raises StorageError."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
    except OSError as error:
        raise StorageError(f"Could not write the agent's files in {directory}: {error.strerror}.") from error


START_ATTEMPTS = 3
"""How often a process is started anew whose supervisor vanished before anything was executed."""

TEARDOWN_LIMIT_S = 60.0
"""A clean-up of the repository must not keep the user's clean-up waiting for ever."""


def _launch_of(engine: Engine, session: Session, run: Run) -> Launch:
    spec = session.spec
    if run.kind != "agent":
        commands = spec.setup.commands if run.kind == "setup" else spec.setup.teardown
        return Launch(("sh", "-c", _SETUP, run.kind, *commands))
    return ADAPTERS[spec.agent.kind].launch(spec.agent.command, job_of(engine, session, run))


def job_of(engine: Engine, session: Session, run: Run) -> Job:
    spec = session.spec
    return Job(
        session=session.id,
        task=spec.task.id,
        title=spec.task.title,
        prompt=spec.task.prompt,
        worktree=spec.worktree,
        port=session.prepared.port if session.prepared else 0,
        message=run.message,
        permission=run.permission or spec.agent.permission,
        model=spec.agent.model,
        resume=session.agent_session_before(run.number),
        preset=spec.agent.name,
        files=os.fspath(agent_files(engine, session.id)),
        command=spec.agent.command,
    )


def _conversation(engine: Engine, session: Session, run: Run) -> Conversation:
    return Conversation(
        session,
        run.number,
        run_directory(engine, session.id, run.number),
        ADAPTERS[session.spec.agent.kind],
        job_of(engine, session, run),
        lambda: engine.session(session.id),
        lambda event: engine.submit(session.id, event),
        lambda: engine.tell(session.id),
    )


def _variables(session: Session) -> Mapping[str, str]:
    """What every process of a session finds in its environment."""
    git = {"GIT_CONFIG_COUNT": str(len(AGENT_GIT))}
    for number, (key, value) in enumerate(AGENT_GIT.items()):
        git[f"GIT_CONFIG_KEY_{number}"] = key
        git[f"GIT_CONFIG_VALUE_{number}"] = value
    return {**git, **worktrees.variables(session)}


def _verify_scripts(session: Session, worktree: Path) -> None:
    """What was approved is what runs: a script that has changed since is refused. Raises PlaitError."""
    for name, approved in session.spec.setup.scripts.items():
        try:
            content = (worktree / name).read_bytes()
        except OSError as error:
            raise PlaitError(f"The set-up script {name} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != approved:
            raise PlaitError(f"The set-up script {name} is not the one that was approved.", "Run `plait approve`.")


def _outcome(exit_: runs.Exit) -> Outcome:
    end = End(exit_.code, exit_.signal, exit_.unknown, exit_.reason, exit_.error)
    special = stopped_or_lost(end)
    if special is not None:
        return special
    return Outcome(end.code == 0, "Done." if end.code == 0 else f"a command exited with status {end.code}.")


def _ended(number: int, exit_: runs.Exit, outcome: Outcome, tally: Tally | None, heard: bool) -> e.RunEnded:
    return e.RunEnded(
        run=number,
        ok=outcome.ok,
        stopped=outcome.stopped,
        code=exit_.code,
        signal=exit_.signal,
        unknown=exit_.unknown,
        reason=outcome.reason,
        output_bytes=exit_.output_bytes,
        trouble=outcome.trouble,
        spent=tally.spent if tally else None,
        thread=tally.thread if tally else None,
        heard=heard,
    )


async def _record(engine: Engine, session: Session) -> None:
    run = session.unrecorded_run
    if run is None:
        return
    try:
        taken, problems = await asyncio.to_thread(worktrees.record, engine.places, session, run.number)
    except StorageError:
        # Space comes back; until then the session waits with its work where it is.
        raise
    except PlaitError as error:
        engine.submit(session.id, e.Failed(step="snapshot", why=f"The result could not be recorded: {error}"))
        return
    now = engine.session(session.id)
    # A message that came too late for the last turn begins the next one; both are written down at once, so that no
    # crash can leave it lying.
    goes_on = run.ended is not None and run.ended.ok and now.undelivered and not now.stop_asked
    following = (e.Resumed(),) if goes_on else ()
    engine.submit(session.id, taken, *(e.Noted(text=problem) for problem in problems), *following)


async def _settle(engine: Engine, session: Session) -> None:
    asked = session.finishing
    if asked is None:
        return
    done = await asyncio.to_thread(worktrees.settle, engine.places, session)
    if done:
        engine.submit(session.id, e.Merged(how=asked.how, into=asked.into, commit=asked.commit))
    else:
        engine.submit(session.id, e.FinishFailed(why="It was interrupted; the branch is as it was."))


async def _discard(engine: Engine, session: Session) -> None:
    if session.prepared is None and session.state is not State.QUEUED:
        # A worktree whose making was cut off is completed first: then it goes the way of all others.
        try:
            admin = await asyncio.to_thread(worktrees.unfinished, engine.places, session)
            prepared = e.Prepared(admin=str(admin), port=_free_port(engine)) if admin else None
        except PlaitError as error:
            engine.submit(session.id, e.TrashFailed(why=f"It could not be moved to the trash: {error}"))
            return
        if prepared is not None:
            engine.submit(session.id, prepared)
            return
    event = await asyncio.to_thread(worktrees.discard, engine.places, session)
    engine.submit(session.id, *event)


async def _release(engine: Engine, session: Session) -> None:
    gone = await asyncio.to_thread(worktrees.release, engine.places, session)
    engine.submit(session.id, e.Released() if gone else e.Kept())
