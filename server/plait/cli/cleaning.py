"""`plait trash`, `restore` and `clean`: clean-up that loses nothing until the user empties the trash."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory, Session, Yes
from plait.cli.text import count, one_line, safe, size
from plait.errors import NothingToDo


def trash(session: Session, as_json: AsJson = False) -> None:
    """Move the session's worktree to the trash, from where `plait restore` brings it back."""
    found = client.request("plait/trash", session=session)
    if as_json:
        screen.put_json(found)
    else:
        screen.put(f"{found['short']}  in the trash; `plait restore {found['short']}` brings it back.")


def restore(session: Session, as_json: AsJson = False) -> None:
    """Bring a session back from the trash, with everything that was in its worktree."""
    found = client.request("plait/restore", session=session)
    if as_json:
        screen.put_json(found)
    else:
        screen.put(f"{found['short']}  {found['state']}  {safe(found['worktree'] or '')}")


def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Show what it would do.")] = False,
    empty_trash: Annotated[
        bool, typer.Option("--empty-trash", help="Also delete what is in the trash, for good.")
    ] = False,
    everywhere: Annotated[bool, typer.Option("--everywhere", "-e", help="In all repositories.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Move the worktrees of merged and applied sessions to the trash.

    Only --empty-trash deletes anything; it asks first, or needs --yes where there is no terminal.
    """
    path = None if everywhere or client.checkout() is None else client.here()
    if dry_run:
        _put(client.request("plait/clean", path=path, dryRun=True, emptyTrash=empty_trash), as_json)
        return
    if empty_trash:
        planned = client.request("plait/clean", path=path, dryRun=True, emptyTrash=True)
        # What is finished goes to the trash first, and out of it with the rest.
        going = planned["trashed"] + planned["purged"]
        if going:
            total = size(sum(item["bytes"] for item in going))
            question = f"Delete {count(len(going), 'worktree')} ({total}) for good? Nothing brings them back."
            hint = "Add --yes, or look first with --dry-run."
            if not screen.confirmed(question, yes, hint):
                raise NothingToDo("Nothing was deleted.")
    done = client.request("plait/clean", path=path, emptyTrash=empty_trash)
    if as_json:
        screen.put_json(done)
    elif not done["trashed"] and not done["purged"]:
        raise NothingToDo("There is nothing to clean up.", _kept(done["kept"]))
    else:
        _put(done, as_json)


def _put(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.put_json(answer)
        return
    would = "would be " if answer["dryRun"] else ""
    for item in answer["trashed"]:
        screen.put(f"{item['session']}  {would}moved to the trash ({size(item['bytes'])})")
    for item in answer["purged"]:
        screen.put(f"{item['session']}  {would}deleted ({size(item['bytes'])})")
    for item in answer["kept"]:
        screen.put(f"{item['session']}  stays ({size(item['bytes'])}): {one_line(item['reason'])}")
    if not answer["trashed"] and not answer["purged"]:
        screen.put("There is nothing to clean up.")


def _kept(kept: list[dict[str, Any]]) -> str:
    if not kept:
        return ""
    return f"{count(len(kept), 'worktree')} still in use; `plait trash ID` moves one away all the same."
