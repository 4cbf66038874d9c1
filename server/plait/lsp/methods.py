"""The `plait/…` requests: each unpacks, makes one call, and converts."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plait.core.sessions import LIVE, Session, State
from plait.core.unified import unified
from plait.engine import control, launch, views
from plait.engine.approvals import Approvals
from plait.engine.review import Located, Result, relative, waits
from plait.errors import PlaitError, UsageError
from plait.git import repo as repos
from plait.lsp import agents, commenting, conflicts, opening, talking
from plait.lsp import models as m
from plait.lsp.connection import Connection
from plait.lsp.hub import Hub
from plait.lsp.placing import hunk_view, hunks_in_document
from plait.lsp.requests import environment_of, hub_of, key_of, place_of
from plait.lsp.tables import Method

View = dict[str, Any]


async def run(connection: Connection, params: m.Run) -> View:
    hub = hub_of(connection)
    request = launch.Request(
        path=place_of(connection, params.path),
        text=params.text,
        agents=tuple((agent.name, agent.count) for agent in params.agents),
        command=params.command,
        base=params.base,
        check=params.check,
        after=tuple(hub.session(other).id for other in params.after),
        setup=params.setup,
        environment=environment_of(connection, params.env),
    )
    created = await control.run(hub.engine, request)
    return {
        "task": created[0].spec.task.id,
        "sessions": [views.session_view(hub.engine, session) for session in created],
    }


async def sessions(connection: Connection, params: m.Sessions) -> View:
    hub = hub_of(connection)
    key = await key_of(params.path)
    chosen = [
        session
        for session in hub.engine.whole.sessions.values()
        if key in (None, session.spec.repo.key) and (params.all or session.state is not State.TRASHED)
    ]
    return {
        "seq": hub.seq,
        "sessions": [views.session_view(hub.engine, session) for session in views.in_review_order(chosen)],
        "counts": views.counts(hub.engine),
        "problems": list(hub.engine.problems),
    }


async def session(connection: Connection, params: m.OfSession) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    located, problem = [], None
    try:
        located = await _located(hub, known)
    except PlaitError as error:
        # All else that is known of the session can be shown all the same.
        problem = str(error)
    return {
        **views.session_detail(hub.engine, known),
        "hunks": [hunk_view(known, file, row) for file in located for row in file.placed],
        "problem": problem,
        "events": await asyncio.to_thread(hub.engine.store.events, known.id),
        "disk": await control.disk_use(known),
        "resources": await hub.resources(known),
    }


async def resources(connection: Connection, params: m.OfSessions) -> View:
    """What the processes of running sessions take now; those that run none are left out."""
    hub = hub_of(connection)
    named = [hub.session(name) for name in params.sessions]
    live = named or [session for session in hub.engine.whole.sessions.values() if session.live_run is not None]
    taken = {session.id: await hub.resources(session) for session in live}
    return {"resources": {session: one for session, one in taken.items() if one is not None}}


async def wait(connection: Connection, params: m.Wait) -> View:
    """Answers when none of the sessions is queued or running."""
    hub = hub_of(connection)
    wanted = [hub.session(name).id for name in params.sessions]

    def rest(whole: Any) -> bool:
        return not any(whole.sessions[one].state in (State.QUEUED, *LIVE) for one in wanted)

    done = True
    try:
        async with asyncio.timeout(params.timeout_s):
            await hub.engine.until(rest)
    except TimeoutError:
        done = False
    found = [hub.engine.session(one) for one in wanted]
    return {"done": done, "sessions": [views.session_view(hub.engine, session) for session in found]}


async def review(connection: Connection, params: m.Where) -> View:
    """The sessions that wait for the user's review, with how much of each waits."""
    hub = hub_of(connection)
    key = await key_of(params.path)
    queue, problems = [], []
    for session in views.in_review_order(hub.engine.whole.sessions.values()):
        if session.state not in (State.READY, State.STOPPED, State.FAILED) or key not in (None, session.spec.repo.key):
            continue
        if session.snapshot is None or not session.snapshot.files:
            continue
        try:
            located = await _located(hub, session)
        except PlaitError as error:
            problems.append(f"“{session.spec.task.title}” cannot be reviewed: {error}")
            continue
        rows = [row for file in located for row in file.placed if waits(session, row)]
        if rows:
            view = views.session_view(hub.engine, session)
            queue.append(
                {
                    **view,
                    "waiting": len(rows),
                    "conflicting": sum(row.state == "conflicting" for row in rows),
                    "age": max(0.0, hub.engine.clock() - session.changed_at),
                    "next": hunk_view(session, *_first(session, located)),
                }
            )
    return {"queue": queue, "problems": problems}


async def hunks(connection: Connection, params: m.Hunks) -> View:
    hub = hub_of(connection)
    if params.text_document is not None:
        return await hunks_in_document(hub, connection, params.text_document.uri)
    if params.session is None:
        raise UsageError("Name a textDocument or a session.")
    known = hub.session(params.session)
    paths = None if params.path is None else [relative(known, params.path)]
    located = await hub.reviews.located(known, paths)
    return {
        "session": known.id,
        "hunks": [hunk_view(known, file, row) for file in located for row in file.placed],
    }


async def diff(connection: Connection, params: m.Diff) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    changes = await hub.reviews.changes(known)
    wanted = {relative(known, path) for path in params.paths}
    files = [file for file in changes.files if not wanted or _below(file.path, wanted)]
    patch = b"".join(unified(file) for file in files)
    return {
        "session": known.id,
        "tree": changes.tree or None,
        "diff": patch.decode("utf-8", "replace"),
        "raw": base64.b64encode(patch).decode(),
        "files": [_file_view(file) for file in files],
        "problems": list(changes.problems),
    }


async def file_content(connection: Connection, params: m.FileContent) -> View:
    """A file of a session as text: by name, or by a `plait:/SESSION/SIDE/PATH` address."""
    hub = hub_of(connection)
    session, side, path = _addressed(params)
    known = hub.session(session)
    changes = await hub.reviews.changes(known)
    change = next((file for file in changes.files if path in (file.path, file.old_path)), None)
    if change is None:
        raise UsageError(f"The session changes no file {path!r}.")
    content = change.base if side == "base" else change.agent
    data = content.data if content else b""
    return {"text": data.decode("utf-8", "replace"), "exists": content is not None, "binary": change.binary}


async def accept(connection: Connection, params: m.Verdict) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    return _result_view(await hub.reviews.accept(known, **_selected(known, params)))


async def revert(connection: Connection, params: m.Verdict) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    return _result_view(await hub.reviews.revert(known, **_selected(known, params)))


async def reject(connection: Connection, params: m.Verdict) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    return _result_view(await hub.reviews.reject(known, why=params.why, **_selected(known, params)))


async def stop(connection: Connection, params: m.OfSession) -> View:
    hub = hub_of(connection)
    return views.session_view(hub.engine, await control.stop(hub.engine, hub.session(params.session).id))


async def resume(connection: Connection, params: m.Resume) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    environment = environment_of(connection, params.env)
    return views.session_view(hub.engine, await control.resume(hub.engine, known.id, params.message, environment))


async def retry(connection: Connection, params: m.Retry) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    environment = environment_of(connection, params.env)
    return views.session_view(hub.engine, await control.retry(hub.engine, known.id, environment))


async def merge(connection: Connection, params: m.Merge) -> View:
    hub = hub_of(connection)
    known = hub.session(params.session)
    branch, finished = await control.merge(hub.engine, hub.reviews, known.id, params.how, params.into)
    return {"into": branch, "how": params.how, "commit": finished.commit, "previous": finished.previous}


async def trash(connection: Connection, params: m.OfSession) -> View:
    hub = hub_of(connection)
    return views.session_detail(hub.engine, await control.trash(hub.engine, hub.session(params.session).id))


async def restore(connection: Connection, params: m.OfSession) -> View:
    hub = hub_of(connection)
    return views.session_view(hub.engine, await control.restore(hub.engine, hub.session(params.session).id))


async def clean(connection: Connection, params: m.Clean) -> View:
    hub = hub_of(connection)
    key = await key_of(params.path)
    done = await control.clean(hub.engine, hub.reviews, dry_run=params.dry_run, empty_trash=params.empty_trash, key=key)
    return {
        "trashed": [{"session": session, "bytes": size} for session, size in done.trashed],
        "purged": [{"session": session, "bytes": size} for session, size in done.purged],
        "kept": [{"session": session, "bytes": size, "reason": reason} for session, size, reason in done.kept],
        "dryRun": params.dry_run,
    }


async def setup(connection: Connection, params: m.Setup) -> View:
    """What the repository asks to run in every new worktree, and whether that is approved."""
    hub = hub_of(connection)
    plan, scripts, key = await asyncio.to_thread(_proposed, hub, params.path, params.base)
    return {
        "source": plan.source,
        "commands": list(plan.to_approve),
        "include": list(plan.include),
        "scripts": sorted(scripts),
        "key": key if plan.to_approve else None,
        "approved": not plan.to_approve or Approvals(hub.engine.places.state).approved(key),
        "problems": [problem.message for problem in plan.problems],
        "notes": list(plan.notes),
    }


async def approve(connection: Connection, params: m.Approve) -> View:
    hub = hub_of(connection)
    plan, _, key = await asyncio.to_thread(_proposed, hub, params.path, params.base)
    if key != params.key:
        raise UsageError("The set-up has changed since you looked at it.", "Look at it again with `plait approve`.")
    repo = await asyncio.to_thread(repos.find, Path(params.path))
    Approvals(hub.engine.places.state).approve(
        key, os.fspath(repo.common_dir), plan.source or "", plan.to_approve, hub.engine.clock()
    )
    return {"key": key, "commands": list(plan.to_approve)}


async def approvals(connection: Connection, _params: m.Nothing) -> View:
    known = Approvals(hub_of(connection).engine.places.state)
    return {
        "approvals": [
            {
                "key": one.key,
                "repo": one.repo,
                "source": one.source,
                "commands": list(one.commands),
                "approved": one.approved_at,
            }
            for one in known.listing()
        ],
        "problem": known.problem(),
    }


async def revoke(connection: Connection, params: m.Revoke) -> View:
    return {"revoked": Approvals(hub_of(connection).engine.places.state).revoke(params.key)}


METHODS = (
    Method("plait/run", run, m.Run, mutates=True, summary="Start one or more sessions on a task."),
    Method("plait/sessions", sessions, m.Sessions, summary="All sessions, in review order."),
    Method("plait/session", session, m.OfSession, summary="One session in full, with its hunks."),
    Method("plait/resources", resources, m.OfSessions, summary="Processes, memory and CPU of what runs."),
    Method("plait/wait", wait, m.Wait, summary="Answer when the sessions have come to rest."),
    Method("plait/review", review, m.Where, summary="The sessions that wait for review."),
    Method("plait/conflicts", conflicts.conflicts, m.Where, summary="The sessions that collide, and a merge order."),
    Method("plait/hunks", hunks, m.Hunks, summary="The hunks in a document or of a session, where they lie now."),
    Method("plait/diff", diff, m.Diff, summary="Base to the session's tree, as a patch."),
    Method("plait/fileContent", file_content, m.FileContent, summary="A file of a session as text."),
    Method("plait/output", talking.output, m.Output, summary="The bytes that a run wrote."),
    Method("plait/input", talking.type_in, m.Input, mutates=True, summary="Type into the terminal of an agent."),
    Method("plait/accept", accept, m.Verdict, mutates=True, summary="Put hunks into the user's text."),
    Method("plait/revert", revert, m.Verdict, mutates=True, summary="Take accepted hunks out again."),
    Method("plait/reject", reject, m.Verdict, mutates=True, summary="Note that hunks are not wanted."),
    Method("plait/comment", commenting.comment, m.Comment, mutates=True, summary="Say something about a change."),
    Method("plait/comments", commenting.listing, m.OfSession, summary="What was said about a session's changes."),
    Method(
        "plait/removeComment",
        commenting.remove,
        m.RemoveComment,
        mutates=True,
        summary="Take back a comment that was not sent.",
    ),
    Method(
        "plait/sendComments",
        commenting.send,
        m.SendComments,
        mutates=True,
        summary="Have the agent told the comments and rejections.",
    ),
    Method("plait/reviewFile", opening.review_file, m.ReviewPage, summary="A session's hunks as one document."),
    Method("plait/dashboard", opening.dashboard, m.Dashboard, summary="All sessions as one document."),
    Method("plait/stop", stop, m.OfSession, mutates=True, summary="End a session's process."),
    Method("plait/log", talking.log, m.Log, summary="The conversation with the agent, for people to read."),
    Method("plait/say", talking.say, m.Say, mutates=True, summary="Tell the agent something."),
    Method("plait/answer", talking.answer, m.Answer, mutates=True, summary="Answer what an agent asks."),
    Method("plait/resume", resume, m.Resume, mutates=True, summary="Go on in the session's worktree."),
    Method("plait/retry", retry, m.Retry, mutates=True, summary="Start the task over in a new session."),
    Method("plait/merge", merge, m.Merge, mutates=True, summary="Bring the session's work into a branch."),
    Method("plait/trash", trash, m.OfSession, mutates=True, summary="Move the worktree to the trash."),
    Method("plait/restore", restore, m.OfSession, mutates=True, summary="Bring it back from the trash."),
    Method("plait/clean", clean, m.Clean, mutates=True, summary="Trash what is finished; empty the trash if asked."),
    Method("plait/agents", agents.agents, m.Agents, summary="The agents, installed or not, and what each can do."),
    Method("plait/setup", setup, m.Setup, summary="What a repository asks to run in new worktrees."),
    Method("plait/approve", approve, m.Approve, mutates=True, summary="Allow a repository's commands as they are."),
    Method("plait/approvals", approvals, m.Nothing, summary="What was allowed so far."),
    Method("plait/revoke", revoke, m.Revoke, mutates=True, summary="Take an approval back."),
)


async def _located(hub: Hub, session: Session) -> list[Located]:
    return await hub.reviews.located(session) if session.spec.repo.top else []


def _first(session: Session, located: list[Located]) -> tuple[Located, Any]:
    return next((file, row) for file in located for row in file.placed if waits(session, row))


def _selected(session: Session, params: m.Verdict) -> dict[str, Any]:
    return {
        "paths": frozenset(relative(session, path) for path in params.paths) or None,
        "hunks": frozenset(params.hunks) or None,
    }


def _result_view(result: Result) -> View:
    return {
        "done": result.done,
        "already": result.already,
        "refused": [{"hunk": hunk, "reason": reason} for hunk, reason in result.refused],
        "files": result.files,
        "inEditor": result.in_editor,
    }


def _below(path: str, wanted: set[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") or one == "." for one in wanted)


def _addressed(params: m.FileContent) -> tuple[str, str, str]:
    if params.uri is not None:
        from urllib.parse import unquote, urlsplit

        parts = unquote(urlsplit(params.uri).path).lstrip("/").split("/", 2)
        if len(parts) != 3 or parts[1] not in ("base", "agent"):
            raise UsageError(f"{params.uri} is no address of a session's file.")
        return parts[0], parts[1], parts[2]
    if params.session is None or params.path is None:
        raise UsageError("Name a session and a path, or an address.")
    return params.session, params.side, params.path


def _proposed(hub: Hub, path: str, base: str | None) -> tuple[Any, Mapping[str, bytes], str]:
    return launch.proposed_setup(launch.survey(hub.engine, Path(path), base))


def _file_view(file: Any) -> View:
    from plait.core.changes import stats

    added, removed = stats(file)
    return {
        "path": file.path,
        "oldPath": file.old_path,
        "added": added,
        "removed": removed,
        "binary": file.binary,
        "hunks": len(file.hunks),
    }
