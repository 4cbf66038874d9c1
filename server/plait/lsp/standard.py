"""Review in the words of LSP itself, for editors that know nothing of Plait: what each shows of a document's hunks.

Diagnostics, code actions, lenses and hovers speak of the same list of rows, placed in the text that the asking editor
has. They only offer; what happens on a choice is a command.
"""

from __future__ import annotations

from dataclasses import dataclass

from lsprotocol import types as t

from plait.core.alignment import Placed
from plait.core.changes import LINE_KINDS
from plait.core.lines import LspText
from plait.core.sessions import LIVE, Session
from plait.engine.review import waits
from plait.lsp import dashboard, review_file, said
from plait.lsp.conflicts import SAID, Met, met, sentences
from plait.lsp.connection import Connection
from plait.lsp.editor import lsp_range
from plait.lsp.hub import Hub
from plait.lsp.placing import located_in_document

FULL_RANGE = 5
"""Rows up to which a diagnostic underlines the whole hunk; a longer one is marked at its first row."""

HOVER_ROWS = 40
"""Rows of a diff in a hover; more are counted."""


@dataclass(frozen=True)
class Shown:
    """One hunk that waits for the user in a document."""

    session: Session
    row: Placed
    range: t.Range
    """Where it lies, whole lines; empty for an insertion."""
    number: int
    """Its place among the session's waiting hunks of the file, from 1."""
    count: int
    met: tuple[Met, ...] = ()
    """The sessions that touch the same."""

    @property
    def who(self) -> str:
        return f"{self.session.spec.agent.name}: {self.session.spec.task.title}"

    @property
    def note(self) -> str:
        """What is said behind the agent's name of a hunk that it may still change."""
        return " (still working)" if self.session.state in LIVE else ""

    @property
    def arguments(self) -> dict[str, object]:
        return {"session": self.session.id, "hunks": [self.row.hunk.id]}


async def shown(hub: Hub, connection: Connection, uri: str) -> list[Shown]:
    """The hunks of sessions that wait in an open document, in the order of its lines."""
    document = connection.documents.get(uri)
    if document is None:
        return []
    if review_file.session_of(hub, document.path) is not None:
        return [Shown(*one) for one in await review_file.located_in_page(hub, document)]
    text = LspText(document.text)
    found: list[Shown] = []
    for session, file in await located_in_document(hub, connection, uri):
        waiting = [row for row in file.placed if waits(session, row)]
        for number, row in enumerate(waiting, 1):
            start, end = (row.start, row.end) if row.hunk.kind in LINE_KINDS else (0, 0)
            span = lsp_range(text, start, end, connection.client.encoding)
            others = met(hub, session.id, row.hunk.id)
            found.append(Shown(session, row, span, number, len(waiting), others))
    return sorted(found, key=lambda one: (one.range.start.line, one.session.id, one.number))


def diagnostics(found: list[Shown], uri: str = "", related: bool = False) -> list[t.Diagnostic]:
    """One for each hunk: information where it can be taken, a warning where it collides.

    A collision is one with the user's text, or else with another session, whose hunk is linked to if `related`.
    """
    return [
        t.Diagnostic(
            range=_marked(one.range),
            message=". ".join([f"{one.who}{one.note}: {what(one.row)} ({one.number} of {one.count})", *_said(one)]),
            severity=t.DiagnosticSeverity.Information if _code(one) == "hunk" else t.DiagnosticSeverity.Warning,
            source="plait",
            code=_code(one),
            data=one.arguments,
            related_information=_related(one, found, uri) if related and one.met else None,
        )
        for one in found
    ]


def places(found: list[Shown]) -> dict[str, t.Range]:
    """Where each hunk lies."""
    return {one.row.hunk.id: one.range for one in found}


def _code(one: Shown) -> str:
    if one.row.state == "conflicting":
        return "conflict"
    return "overlap" if any(not other.alternative for other in one.met) else "hunk"


def _said(one: Shown) -> list[str]:
    said = " ".join([*([one.row.reason] if one.row.reason else []), *sentences(one.met)])
    return [said] if said else []


def _related(one: Shown, found: list[Shown], uri: str) -> list[t.DiagnosticRelatedInformation]:
    """Where the others' hunks lie; for those that are not shown in this document, here."""
    links: list[tuple[t.Range, str]] = []
    for other in one.met[:SAID]:
        rows = [it for it in found if it.session.id == other.session.id and it.row.hunk.id in other.hunks]
        links += [(_marked(it.range), f"{it.who}: {what(it.row)}") for it in rows]
        if not rows:
            links.append((_marked(one.range), f"{other.who}: {other.text}"))
    return [
        t.DiagnosticRelatedInformation(location=t.Location(uri=uri, range=span), message=words) for span, words in links
    ]


async def code_action(connection: Connection, params: t.CodeActionParams) -> list[t.CodeAction]:
    """Accept or reject the hunks at the cursor; whole files only when the editor asks for source actions."""
    hub = connection.engine
    only = [str(getattr(kind, "value", kind)) for kind in params.context.only or []]
    document = connection.documents.get(params.text_document.uri)
    if document is not None and dashboard.is_dashboard(hub, document.path):
        offered = dashboard.actions_at(hub, document, params.range)
        return [action for action in offered if not only or any(_is_of(action.kind, kind) for kind in only)]
    found = await shown(hub, connection, params.text_document.uri)
    actions = []
    if not only or any("quickfix.plait".startswith(kind) or kind.startswith("quickfix.plait") for kind in only):
        for one in found:
            if touches(one.range, params.range):
                diagnosed = [d for d in params.context.diagnostics if d.data == one.arguments]
                actions += _of_hunk(one, diagnosed)
                title = f"{what(one.row)} ({one.who})"
                actions += said.on_hunk(one.session, one.row.hunk.id, title, connection.client.commands, diagnosed)
        if document is not None:
            line = params.range.start.line
            actions += said.of_comments(hub, document, connection.client.encoding, places(found), line)
    if any(kind.startswith("source.plait") or kind == "source" for kind in only):
        actions += _of_file(found)
    return [action for action in actions if not only or any(_is_of(action.kind, kind) for kind in only)]


async def code_lens(connection: Connection, params: t.CodeLensParams) -> list[t.CodeLens]:
    """Accept and Reject above each hunk, and what waits in the file above the first line."""
    found = await shown(connection.engine, connection, params.text_document.uri)
    lenses = []
    if found:
        top = t.Range(start=t.Position(line=0, character=0), end=t.Position(line=0, character=0))
        sessions = len({one.session.id for one in found})
        title = f"{len(found)} hunk{'s' * (len(found) != 1)} of {sessions} session{'s' * (sessions != 1)}"
        lenses.append(t.CodeLens(range=top, command=t.Command(title=title, command="")))
    for one in found:
        at = t.Range(start=one.range.start, end=one.range.start)
        if one.row.state == "pending":
            title = f"Accept {one.session.spec.agent.name} {_size(one.row)}"
            lenses.append(t.CodeLens(range=at, command=_command(title, "plait.hunk.accept", one.arguments)))
        lenses.append(t.CodeLens(range=at, command=_command("Reject", "plait.hunk.reject", one.arguments)))
    return lenses


async def hover(connection: Connection, params: t.HoverParams) -> t.Hover | None:
    """The diff of the hunks at the position, and whose they are."""
    found = await shown(connection.engine, connection, params.text_document.uri)
    here = t.Range(start=params.position, end=params.position)
    parts = [_diff(one) for one in found if touches(one.range, here)]
    if not parts:
        return None
    return t.Hover(contents=t.MarkupContent(kind=t.MarkupKind.Markdown, value="\n\n---\n\n".join(parts)))


def what(row: Placed) -> str:
    """The hunk in a few words."""
    added, removed = len(row.added), len(row.removed)
    match row.hunk.kind:
        case "insert":
            return f"add {_lines(added)}"
        case "delete":
            return f"delete {_lines(removed)}"
        case "replace":
            return f"replace {_lines(removed)} with {added}"
        case "create":
            return "create this file"
        case "remove":
            return "remove this file"
        case "rename":
            return f"rename to {row.hunk.path}"
        case "mode":
            return "change the executable bit"
        case "symlink":
            return f"make it a link to {row.hunk.target}" if row.hunk.target else "replace the link"
        case "submodule":
            return "move the submodule"
        case "binary":
            return "replace the content"


def _of_hunk(one: Shown, diagnosed: list[t.Diagnostic]) -> list[t.CodeAction]:
    accept = t.CodeAction(
        title=f"Accept {what(one.row)} ({one.who})",
        kind="quickfix.plait.accept",
        diagnostics=diagnosed,
        command=_command("Accept", "plait.hunk.accept", one.arguments),
    )
    if one.row.state == "conflicting":
        accept = t.CodeAction(
            title=accept.title,
            kind="quickfix.plait.accept",
            diagnostics=diagnosed,
            disabled=t.CodeActionDisabled(reason=one.row.reason),
        )
    reject = t.CodeAction(
        title=f"Reject {what(one.row)} ({one.who})",
        kind="quickfix.plait.reject",
        diagnostics=diagnosed,
        command=_command("Reject", "plait.hunk.reject", one.arguments),
    )
    return [accept, reject]


def _of_file(found: list[Shown]) -> list[t.CodeAction]:
    sessions = dict.fromkeys(one.session.id for one in found)
    return [
        _on_file(verb, [one for one in found if one.session.id == session])
        for session in sessions
        for verb in ("Accept", "Reject")
    ]


def _on_file(verb: str, own: list[Shown]) -> t.CodeAction:
    return t.CodeAction(
        title=f"{verb} all {len(own)} hunks here ({own[0].who})",
        kind=f"source.plait.{verb.lower()}File",
        command=_command(
            verb,
            f"plait.file.{verb.lower()}",
            {"session": own[0].session.id, "paths": [own[0].row.hunk.path]},
        ),
    )


def _is_of(kind: object, wanted: str) -> bool:
    """Whether a kind of action is the wanted one, or one of the kinds below it."""
    return not wanted or f"{kind}.".startswith(f"{wanted}.")


def _command(title: str, name: str, arguments: dict[str, object]) -> t.Command:
    return t.Command(title=title, command=name, arguments=[arguments])


def _diff(one: Shown) -> str:
    rows = [*(f"-{_text(row)}" for row in one.row.removed), *(f"+{_text(row)}" for row in one.row.added)]
    more = len(rows) - HOVER_ROWS
    body = "\n".join(rows[:HOVER_ROWS]) + (f"\n… and {_lines(more)} more" if more > 0 else "")
    # A fence longer than any in the text keeps an agent's words from ending it.
    fence = "`" * max(3, 1 + max((len(run) for run in _backticks(body)), default=0))
    reason = "".join(f"\n\n{_escaped(words)}" for words in _said(one))
    reason += "".join(f"\n\nYou (not sent): {_escaped(words)}" for words in said.heard(one.session, one.row.hunk.id))
    heading = f"**{_escaped(one.session.spec.agent.name)}** · {_escaped(one.session.spec.task.title)}"
    return f"{heading}{reason}\n\n{fence}diff\n{body}\n{fence}"


def _backticks(text: str) -> list[str]:
    return [run for run in "".join(c if c == "`" else " " for c in text).split() if run]


def _escaped(text: str) -> str:
    """Text of an agent or a user as plain words in Markdown: no link, no command, no formatting."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|~" else " " if ord(c) < 32 else c for c in text)


def _text(row: bytes) -> str:
    return row.decode("utf-8", "replace").rstrip("\r\n")


def _marked(span: t.Range) -> t.Range:
    if span.end.line - span.start.line <= FULL_RANGE:
        return span
    return t.Range(start=span.start, end=t.Position(line=span.start.line + 1, character=0))


def touches(one: t.Range, other: t.Range) -> bool:
    """Whether the lines of two ranges meet; an insertion meets the lines on both of its sides."""
    last = one.end.line if one.end.character else max(one.start.line, one.end.line - 1)
    first = one.start.line - 1 if one.start == one.end else one.start.line
    return first <= other.end.line and other.start.line <= last


def _size(row: Placed) -> str:
    return f"+{len(row.added)} −{len(row.removed)}"  # noqa: RUF001 - a minus sign, as editors show it


def _lines(count: int) -> str:
    return f"{count} line{'s' * (count != 1)}"
