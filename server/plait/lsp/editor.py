"""A connected editor as review sees it: which text it has open, and how an edit is applied and verified there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from lsprotocol import types

from plait.core.accept import TextEdit
from plait.core.lines import LspText
from plait.lsp.connection import Connection
from plait.lsp.documents import Document

VERIFY_S = 1.0
"""How long after its answer an editor may take to tell the text that it has then (Neovim: 160 ms)."""


class LspEditor:
    """The editor behind one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def document(self, path: Path) -> Document | None:
        """The open document that is this file, also if the editor knows it by another name of its directory."""
        documents = self.connection.documents
        return documents.by_path(path) or next((doc for doc in documents if doc.path and real(doc.path) == path), None)

    def text(self, path: Path) -> str | None:
        document = self.document(path)
        return None if document is None else document.text

    async def edit(self, path: Path, before: str, edits: Sequence[TextEdit], after: str, label: str) -> bool:
        """Ask for one versioned edit, and believe only the text that the editor tells afterwards."""
        document = self.document(path)
        if document is None or document.text != before:
            return False
        changed = asyncio.Event()
        forget = self.connection.documents.listen(lambda _happening, _uri: changed.set())
        try:
            await self.connection.apply_edit(self._edit(document, edits), label)
            async with asyncio.timeout(VERIFY_S):
                while self.text(path) != after:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            forget()
        return True

    def _edit(self, document: Document, edits: Sequence[TextEdit]) -> types.WorkspaceEdit:
        text = LspText(document.text)
        changes = [self._change(text, edit) for edit in edits]
        workspace = self.connection.client.capabilities.workspace
        if workspace and workspace.workspace_edit and workspace.workspace_edit.document_changes:
            identifier = types.OptionalVersionedTextDocumentIdentifier(uri=document.uri, version=document.version)
            return types.WorkspaceEdit(
                document_changes=[types.TextDocumentEdit(text_document=identifier, edits=list(changes))]
            )
        return types.WorkspaceEdit(changes={document.uri: changes})

    def _change(self, text: LspText, edit: TextEdit) -> types.TextEdit:
        new = b"".join(edit.rows)
        return types.TextEdit(
            range=lsp_range(text, edit.start, edit.end, self.connection.client.encoding),
            new_text=new.decode("utf-8", "replace"),
        )


def lsp_range(text: LspText, start: int, end: int, encoding: str) -> types.Range:
    """The LSP range of the rows [start, end)."""
    first, last = text.range_of_rows(start, end, encoding)  # type: ignore[arg-type]  # one of the three, by negotiation
    return types.Range(
        start=types.Position(line=first.line, character=first.character),
        end=types.Position(line=last.line, character=last.character),
    )


def real(path: Path) -> Path:
    """The path with the links in its directory resolved; the file itself may be a link."""
    return Path(os.path.realpath(path.parent)) / path.name
