"""The commands with which an editor's user says something about what is at hand, and has it sent."""

from __future__ import annotations

from typing import Any

from plait.errors import PlaitError, UsageError
from plait.lsp import commenting, focus, opening
from plait.lsp import models as m
from plait.lsp.connection import Connection


async def comment_here(connection: Connection, params: m.CommentHere) -> dict[str, Any]:
    """A comment on the one hunk that is named, or lies at the place; without words, where they can be written."""
    if params.session is not None:
        if len(params.hunks) != 1:
            raise UsageError("A comment is about one hunk.", "Name one in hunks.")
        session, hunk = params.session, params.hunks[0]
    else:
        one = await focus.hunk_here(connection, params)
        session, hunk = one.session.id, one.row.hunk.id
    if params.text is not None:
        return await commenting.comment(connection, m.Comment(session=session, hunk=hunk, text=params.text))
    answer = await opening.review_file(connection, m.ReviewPage(session=session, hunk=hunk))
    if not answer["shown"]:
        raise PlaitError(
            "The editor does not open documents that a server names.",
            f"Write the comment below the hunk in {answer['path']}, or use `plait comment`.",
        )
    return answer


async def send_here(connection: Connection, params: m.SendHere) -> dict[str, Any]:
    """Send the comments on a session: the one that is named, or whose hunk lies at the place."""
    session = await _session(connection, params)
    return await commenting.send(connection, m.SendComments(session=session, now=params.now, env=params.env))


async def review_here(connection: Connection, params: m.ReviewHere) -> dict[str, Any]:
    """Open the review of a session: the one that is named, or whose hunk lies at the place."""
    if params.session is not None:
        hunk = params.hunks[0] if params.hunks else None
        return await opening.review_file(connection, m.ReviewPage(session=params.session, show=params.show, hunk=hunk))
    one = await focus.hunk_here(connection, params)
    asked = m.ReviewPage(session=one.session.id, show=params.show, hunk=one.row.hunk.id)
    return await opening.review_file(connection, asked)


async def _session(connection: Connection, params: m.Here) -> str:
    return params.session or (await focus.hunk_here(connection, params)).session.id
