"""Performs each action of the plan, and turns what came of it into events."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

from plait.agents.adapter import End, Job, Launch, Outcome, stopped_or_lost
from plait.agents.registry import ADAPTERS
from plait.core import events as e
from plait.core import plan
from plait.core.sessions import Run, Session, State
from plait.core.state import Whole
from plait.engine import ports, worktrees
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
    message = session.message if kind == "agent" else None
    engine.submit(session.id, e.RunStarted(run=number, kind=kind, message=message))


async def _attend(engine: Engine, session: Session, number: int) -> None:
    directory = run_directory(engine, session.id, number)
    run = next(run for run in session.runs if run.number == number)
    failures = 0
    while True:
        status = await asyncio.to_thread(runs.status, directory)
        match status:
            case runs.Exit():
                outcome = _outcome(session, run, status)
                engine.submit(session.id, _ended(number, status, outcome))
                return
            case runs.NotStarted() if engine.session(session.id).stop_asked:
                engine.submit(session.id, e.RunEnded(run=number, ok=False, stopped=True, reason="Stopped."))
                return
            case runs.NotStarted():
                try:
                    spec, environment = await _specified(engine, session, run)
                except PlaitError as error:
                    engine.submit(session.id, e.RunEnded(run=number, ok=False, reason=str(error)))
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
                        engine.submit(session.id, e.RunEnded(run=number, ok=False, reason=str(error)))
                        return
            case runs.Lost():
                await runs.adopt(directory)
            case runs.Alive():
                await runs.wait(directory)


async def _stop(engine: Engine, session: str, number: int) -> None:
    """Returns when the run is over, so that nobody is asked to stop twice."""
    directory = run_directory(engine, session, number)

    def over(whole: Whole) -> bool:
        return all(run.ended is not None for run in whole.sessions[session].runs if run.number == number)

    while not over(engine.whole):
        if isinstance(await asyncio.to_thread(runs.status, directory), runs.NotStarted):
            # It is being launched, or its attendant finds it stopped.
            await asyncio.sleep(LAUNCHING_S)
            continue
        await runs.stop(directory)
        if isinstance(await runs.wait(directory), runs.Exit):
            await engine.until(over)


LAUNCHING_S = 0.02
"""How often it is looked whether a run that is to be stopped has been launched."""


async def _specified(engine: Engine, session: Session, run: Run) -> tuple[runs.RunSpec, dict[str, str]]:
    """What is to be run, and in which environment. Raises PlaitError if it must not be."""
    worktree = Path(session.spec.worktree)
    await asyncio.to_thread(worktrees.verify, session)
    launch = _launch_of(session, run)
    if run.kind != "agent":
        await asyncio.to_thread(_verify_scripts, session, worktree)
    named = (*session.spec.agent.env, *engine.config().environment.passed)
    environment = {**pass_on(engine.environment(session.id), named), **_variables(session), **launch.env}
    spec = runs.RunSpec(
        run=f"{session.id}-{run.number}",
        argv=launch.argv,
        cwd=worktree,
        stdin=launch.stdin,
        pty=launch.pty,
        interrupt=launch.interrupt,
        timeout_s=TEARDOWN_LIMIT_S if run.kind == "teardown" else None,
    )
    return spec, environment


START_ATTEMPTS = 3
"""How often a process is started anew whose supervisor vanished before anything was executed."""

TEARDOWN_LIMIT_S = 60.0
"""A clean-up of the repository must not keep the user's clean-up waiting for ever."""


def _launch_of(session: Session, run: Run) -> Launch:
    spec = session.spec
    if run.kind != "agent":
        commands = spec.setup.commands if run.kind == "setup" else spec.setup.teardown
        return Launch(("sh", "-c", _SETUP, run.kind, *commands))
    port = session.prepared.port if session.prepared else 0
    job = Job(session.id, spec.task.id, spec.task.title, spec.task.prompt, spec.worktree, port, run.message)
    return ADAPTERS[spec.agent.kind].launch(spec.agent.command, job)


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


def _outcome(session: Session, run: Run, exit_: runs.Exit) -> Outcome:
    end = End(exit_.code, exit_.signal, exit_.unknown, exit_.reason, exit_.error)
    if run.kind == "agent":
        return ADAPTERS[session.spec.agent.kind].outcome(end)
    special = stopped_or_lost(end)
    if special is not None:
        return special
    return Outcome(end.code == 0, "Done." if end.code == 0 else f"a command exited with status {end.code}.")


def _ended(number: int, exit_: runs.Exit, outcome: Outcome) -> e.RunEnded:
    return e.RunEnded(
        run=number,
        ok=outcome.ok,
        stopped=outcome.stopped,
        code=exit_.code,
        signal=exit_.signal,
        unknown=exit_.unknown,
        reason=outcome.reason,
        output_bytes=exit_.output_bytes,
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
    engine.submit(session.id, taken, *(e.Noted(text=problem) for problem in problems))


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
