"""The commands of `workspace/executeCommand`: the same calls as the requests, for editors that only know commands."""

from __future__ import annotations

from plait.lsp import methods, talking
from plait.lsp import models as m
from plait.lsp.tables import Command

COMMANDS = (
    Command("plait.hunk.accept", methods.accept, m.Verdict, summary="Accept a hunk"),
    Command("plait.hunk.reject", methods.reject, m.Verdict, summary="Reject a hunk"),
    Command("plait.file.accept", methods.accept, m.Verdict, summary="Accept a session's changes of a file"),
    Command("plait.file.reject", methods.reject, m.Verdict, summary="Reject a session's changes of a file"),
    Command("plait.session.accept", methods.accept, m.Verdict, summary="Accept all of a session"),
    Command("plait.session.reject", methods.reject, m.Verdict, summary="Reject all of a session"),
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
