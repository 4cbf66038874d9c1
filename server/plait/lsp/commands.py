"""The commands of `workspace/executeCommand`: the same calls as the requests, for editors that only know commands."""

from __future__ import annotations

from plait.lsp import commenting, focus, methods, opening, remarks, talking
from plait.lsp import models as m
from plait.lsp.tables import Command

COMMANDS = (
    Command("plait.hunk.accept", focus.ACCEPT_HUNK, m.Here, summary="Accept a hunk"),
    Command("plait.hunk.reject", focus.REJECT_HUNK, m.Here, summary="Reject a hunk"),
    Command("plait.hunk.next", focus.following, m.Place, mutates=False, summary="Go to the next hunk"),
    Command("plait.hunk.prev", focus.preceding, m.Place, mutates=False, summary="Go to the hunk before"),
    Command("plait.file.accept", focus.ACCEPT_FILE, m.Here, summary="Accept a session's changes of a file"),
    Command("plait.file.reject", focus.REJECT_FILE, m.Here, summary="Reject a session's changes of a file"),
    Command("plait.session.accept", focus.ACCEPT_SESSION, m.Here, summary="Accept all of a session"),
    Command("plait.session.reject", focus.REJECT_SESSION, m.Here, summary="Reject all of a session"),
    Command("plait.hunk.comment", remarks.comment_here, m.CommentHere, summary="Say something about a hunk"),
    Command("plait.comment.remove", commenting.remove, m.RemoveComment, summary="Take back a comment"),
    Command(
        "plait.session.sendComments",
        remarks.send_here,
        m.SendHere,
        summary="Send the comments on a session to its agent",
    ),
    Command(
        "plait.session.review",
        remarks.review_here,
        m.ReviewHere,
        mutates=False,
        summary="Review a session in a document",
    ),
    Command(
        "plait.dashboard", opening.dashboard, m.Dashboard, mutates=False, summary="Show all sessions in a document"
    ),
    Command("plait.session.stop", methods.stop, m.OfSession, summary="Stop a session"),
    Command("plait.session.resume", methods.resume, m.Resume, summary="Let a session go on"),
    Command("plait.session.retry", methods.retry, m.Retry, summary="Start a session's task over"),
    Command("plait.session.say", talking.say, m.Say, summary="Send a session a message"),
    Command("plait.session.answer", talking.answer, m.Answer, summary="Answer what a session asks"),
    Command("plait.session.merge", methods.merge, m.Merge, summary="Merge a session into a branch"),
    Command("plait.session.trash", methods.trash, m.OfSession, summary="Move a session to the trash"),
    Command("plait.session.restore", methods.restore, m.OfSession, summary="Restore a session from the trash"),
    Command("plait.task.run", methods.run, m.Run, summary="Run a task"),
)
