"""`plait log`: the conversation with an agent, as it goes on or after the fact, for every agent alike."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Session
from plait.cli.text import one_line, readable
from plait.errors import PlaitError, UsageError
from plait.rpc import Caller

View = dict[str, Any]

PATIENCE_S = 20.0
"""How long the daemon may keep a request for more open; then it is asked again."""


def log(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the agent ends.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Its bytes, and nothing else.")] = False,
    run: Annotated[int | None, typer.Option(metavar="N", min=1, help="Of this run; default the last one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what you and the agent said, what it did, and what it asked; of a command, the lines it printed.

    With --follow --json each entry is one line of JSON, again when it changes.
    """
    if raw and as_json:
        raise UsageError("--raw and --json exclude each other.", "Choose one of them.")
    if raw:
        _put_bytes(session, run, follow)
        return
    pages = _pages(session, run, follow)
    first = next(pages)
    if as_json:
        _put_json(first, pages, follow)
    elif first["converses"]:
        _put_entries(first, pages, follow)
    else:
        _put_lines(session, run, follow)


@dataclass
class _Shown:
    """The entries that stand on the screen, as they were when they were put there, and the kind of the last one."""

    width: int | None
    entries: dict[int, View] = field(default_factory=dict)
    last: str = ""
    status: bool = False
    """Whether the line at the cursor only says what is going on now."""


def _put_entries(first: View, pages: Iterator[View], follow: bool) -> None:
    shown = _Shown(screen.width())
    waiting: dict[int, View] = {}
    page: View | None = first
    while page is not None:
        waiting |= {entry["entry"]: entry for entry in page["entries"]}
        if not page["more"]:
            _put_ready(waiting, shown, everything=page["ended"] or not follow)
        page = next(pages, None)


def _put_ready(waiting: dict[int, View], shown: _Shown, everything: bool) -> None:
    """Show those entries that are complete, in their order, and what is still going on as a passing line."""
    from plait.cli.entries import entry_lines, is_settled, stand_apart

    for number in sorted(waiting):
        entry = waiting[number]
        if not everything and not is_settled(entry):
            continue
        del waiting[number]
        lines = entry_lines(entry, shown.width, shown.entries.get(number))
        if not lines:
            continue
        _clear(shown)
        if stand_apart(shown.last, entry["kind"]):
            screen.put()
        for line in lines:
            screen.put_styled(line)
        shown.entries[number] = entry
        shown.last = entry["kind"]
    if waiting and shown.width is not None:
        _clear(shown)
        going_on = waiting[max(waiting)]
        last = next((row for row in reversed(going_on["text"].split("\n")) if row.strip()), "")
        sys.stdout.write(f"\x1b[2m… {one_line(last)[: shown.width - 4]}\x1b[0m")
        shown.status = True
    elif everything:
        _clear(shown)
    sys.stdout.flush()


def _clear(shown: _Shown) -> None:
    if shown.status:
        sys.stdout.write("\r\x1b[2K")
        shown.status = False


def _put_json(first: View, pages: Iterator[View], follow: bool) -> None:
    from plait.cli.entries import is_settled

    if not follow:
        entries = [*first["entries"], *(entry for page in pages for entry in page["entries"])]
        known = {entry["entry"]: entry for entry in entries}
        screen.put_json({"run": first["run"], "entries": [known[number] for number in sorted(known)]})
        return
    waiting: dict[int, View] = {}
    page: View | None = first
    while page is not None:
        waiting |= {entry["entry"]: entry for entry in page["entries"]}
        for number in sorted(waiting):
            if page["ended"] or is_settled(waiting[number]):
                screen.put(json.dumps(waiting.pop(number), ensure_ascii=False).encode("utf-8", "replace").decode())
        sys.stdout.flush()
        page = next(pages, None)


def _pages(session: str, run: int | None, follow: bool) -> Iterator[View]:
    """What `plait/log` answers, page by page; with `follow` until the run is over, across restarts of the daemon."""
    seen: dict[int, View] = {}
    failures = 0
    while True:
        with client.connect(features=["sessions"] if follow else []) as caller:
            try:
                for page in _read_log(caller, session, run, follow):
                    failures = 0
                    run = page["run"]
                    # A daemon that was restarted begins anew, and has nothing new to say at first.
                    fresh = [entry for entry in page["entries"] if seen.get(entry["entry"]) != entry]
                    seen |= {entry["entry"]: entry for entry in fresh}
                    yield {**page, "entries": fresh}
                return
            except PlaitError as error:
                failures += 1
                if failures > 5 or not client.interrupted(error):
                    raise


def _read_log(caller: Caller, session: str, run: int | None, follow: bool) -> Iterator[View]:
    after, begun = 0, False
    while True:
        # The first answer says at once what kind of conversation it is.
        params = {"session": session, "run": run, "after": after, "waitS": PATIENCE_S if follow and begun else 0}
        page = caller.request("plait/log", {name: value for name, value in params.items() if value is not None})
        begun, run, after = True, page["run"], page["next"]
        yield page
        if page["more"]:
            continue
        if page["ended"] or not follow:
            return
        if run is None:
            _something_happens(caller)


def _put_bytes(session: str, run: int | None, follow: bool) -> None:
    for chunk in _chunks(session, run, follow):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def _put_lines(session: str, run: int | None, follow: bool) -> None:
    from plait.agents.lines import Lines

    lines = Lines()
    for chunk in _chunks(session, run, follow):
        _put_readable(lines.feed(chunk))
    _put_readable(lines.close())


def _put_readable(lines: list[bytes]) -> None:
    for line in lines:
        screen.put(readable(line.decode("utf-8", "replace")))
    sys.stdout.flush()


def _chunks(session: str, run: int | None, follow: bool) -> Iterator[bytes]:
    """The output from its beginning; with `follow` until the run is over, across restarts of the daemon."""
    offset, failures = 0, 0
    while True:
        with client.connect(features=["sessions"] if follow else []) as caller:
            try:
                for chunk in _read_output(caller, session, run, offset, follow):
                    offset += len(chunk)
                    failures = 0
                    yield chunk
                return
            except PlaitError as error:
                failures += 1
                if failures > 5 or not client.interrupted(error):
                    raise


def _read_output(caller: Caller, session: str, run: int | None, offset: int, follow: bool) -> Iterator[bytes]:
    while True:
        params = {"session": session, "run": run, "offset": offset, "waitS": PATIENCE_S if follow else 0}
        answer = caller.request("plait/output", {name: value for name, value in params.items() if value is not None})
        chunk = base64.b64decode(answer["data"])
        # From now on of the same run, also if another one begins.
        run = answer["run"]
        offset = answer["next"]
        if chunk:
            yield chunk
        elif answer["ended"] or not follow:
            return
        elif run is None:
            _something_happens(caller)


def _something_happens(caller: Caller) -> None:
    """Returns when any session changed, or after a while."""
    try:
        caller.listen(timeout_s=PATIENCE_S)
    except TimeoutError:
        return
