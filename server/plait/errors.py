"""The errors that a user may see: each names what was tried and what can be done about it."""

from __future__ import annotations

from typing import ClassVar


class PlaitError(Exception):
    """What was tried and failed, in one sentence, and what the user can do next.

    `code` is the JSON-RPC error code it travels under, `exit_status` what the command line exits with.
    """

    code: ClassVar[int] = -32000
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "", data: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.data = data or {}

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(PlaitError):
    """The request itself is wrong: a missing argument, an unknown name, a value out of range."""

    code = -32602
    exit_status = 2


class NothingToDo(PlaitError):
    """What was asked for is already so."""

    code = -32015
    exit_status = 3


class NeedsApproval(PlaitError):
    """A repository's file holds commands that the user has not approved in this form.

    `data["commands"]` lists them, `data["source"]` names the file, `data["key"]` is what an approval is stored under.
    """

    code = -32014
    exit_status = 4


class StaleError(PlaitError):
    """The text changed since the caller looked at it, so that the answer would fall in the wrong place."""

    code = -32010


class ConflictError(PlaitError):
    """Two changes touch the same lines, so that neither may be applied over the other."""

    code = -32011


class BusyError(PlaitError):
    """The session is at work and the request has to wait until it is idle."""

    code = -32012


class GitError(PlaitError):
    """git refused or failed; the sentence carries git's own words."""

    code = -32020


class StorageError(PlaitError):
    """A file of ours could not be read or written: full disk, permissions, damage."""

    code = -32021
