"""Knows the text of the documents that one client has open, exactly as the client sees it.

Only \\n, \\r\\n and \\r end a line here, as LSP says. pygls' own mirror also splits at form feeds and U+2028,
and so puts an edit into the wrong line; that is why there is this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from plait.errors import UsageError


class Happening(StrEnum):
    """What a client did with a document."""

    OPENED = "opened"
    CHANGED = "changed"
    SAVED = "saved"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Document:
    """One open document at one version."""

    uri: str
    """As the client spells it; the same spelling goes back to it."""
    path: Path | None
    """None if it is not a file."""
    text: str
    version: int | None
    """The client's own count: it may start at 0 and jump."""
    language_id: str


Listener = Callable[[Happening, str], None]
"""Takes what happened and the document's URI; on `CLOSED` the document is gone already."""


class Documents:
    """The documents that one client has open, found by URI in any spelling, or by path."""

    def __init__(self, encoding: str = "utf-16") -> None:
        self.encoding = encoding
        """The unit of the client's columns: utf-8, utf-16 or utf-32."""
        self._open: dict[str, _Mirror] = {}
        self._listeners: list[Listener] = []

    def __iter__(self) -> Iterator[Document]:
        return iter([mirror.document() for mirror in self._open.values()])

    def __len__(self) -> int:
        return len(self._open)

    def get(self, uri: str) -> Document | None:
        """The open document with this URI."""
        mirror = self._open.get(_key(uri))
        return None if mirror is None else mirror.document()

    def by_path(self, path: Path) -> Document | None:
        """The open document that is this file."""
        mirror = self._open.get(str(path))
        return None if mirror is None else mirror.document()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` after each happening, in order; the function returned ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def close(self) -> None:
        """Forgets all documents and listeners: the client is gone."""
        self._listeners.clear()
        self._open.clear()

    def did_open(self, params: Mapping[str, Any]) -> None:
        """Takes `textDocument/didOpen`; raises UsageError if it is not in LSP's form."""
        item = _part(params, "textDocument")
        uri, text = item.get("uri"), item.get("text")
        if not isinstance(uri, str) or not isinstance(text, str):
            raise UsageError("An opened document needs a URI and a text.")
        language = item.get("languageId")
        self._open[_key(uri)] = _Mirror(uri, text, _version(item), language if isinstance(language, str) else "")
        self._tell(Happening.OPENED, uri)

    def did_change(self, params: Mapping[str, Any]) -> None:
        """Takes `textDocument/didChange`.

        Raises UsageError if it is not in LSP's form; the document is then forgotten, since a wrong text is
        worse than none.
        """
        item = _part(params, "textDocument")
        mirror = self._open.get(_key(str(item.get("uri"))))
        if mirror is None:
            return
        try:
            changes = params.get("contentChanges")
            if not isinstance(changes, list):
                raise UsageError("A change of a document needs a list of changes.")
            for change in changes:
                _apply(mirror, change, self.encoding)
        except UsageError:
            del self._open[_key(mirror.uri)]
            self._tell(Happening.CLOSED, mirror.uri)
            raise
        mirror.version = _version(item)
        self._tell(Happening.CHANGED, mirror.uri)

    def did_save(self, params: Mapping[str, Any]) -> None:
        """Takes `textDocument/didSave`."""
        mirror = self._open.get(_key(str(_part(params, "textDocument").get("uri"))))
        if mirror is not None:
            self._tell(Happening.SAVED, mirror.uri)

    def did_close(self, params: Mapping[str, Any]) -> None:
        """Takes `textDocument/didClose`."""
        mirror = self._open.pop(_key(str(_part(params, "textDocument").get("uri"))), None)
        if mirror is not None:
            self._tell(Happening.CLOSED, mirror.uri)

    def _tell(self, happening: Happening, uri: str) -> None:
        for listener in tuple(self._listeners):
            listener(happening, uri)


class _Mirror:
    """A document as a list of lines with their ends, so that an edit costs what it touches, not the whole
    text.
    """

    def __init__(self, uri: str, text: str, version: int | None, language_id: str) -> None:
        self.uri = uri
        self.version = version
        self._language_id = language_id
        self._path = path_of(uri)
        self._lines = _split(text)
        self._text: str | None = text

    def document(self) -> Document:
        if self._text is None:
            self._text = "".join(self._lines)
        return Document(self.uri, self._path, self._text, self.version, self._language_id)

    def replace(self, text: str) -> None:
        self._lines = _split(text)
        self._text = text

    def edit(self, start: tuple[int, int], end: tuple[int, int], text: str, encoding: str) -> None:
        """Puts `text` in place of what lies between two positions, which are clamped to the text as LSP says."""
        first, from_ = self._clamped(*start, encoding)
        last, to = self._clamped(*end, encoding)
        if (last, to) < (first, from_):
            raise UsageError("A change of a document ends before it starts.")
        # A line before and one after belong to it, since \r and \n may come together or part.
        low, high = max(0, first - 1), min(len(self._lines), last + 2)
        before = "".join(self._lines[low:first]) + self._lines[first][:from_]
        after = self._lines[last][to:] + "".join(self._lines[last + 1 : high])
        fresh = _split(before + text + after)
        if high < len(self._lines) and not fresh[-1]:
            # The text goes on behind the last line end, so the empty line there is the next line itself.
            fresh.pop()
        self._lines[low:high] = fresh
        self._text = None

    def _clamped(self, line: int, column: int, encoding: str) -> tuple[int, int]:
        if line >= len(self._lines):
            return len(self._lines) - 1, len(self._lines[-1])
        return line, _index(self._lines[line], column, encoding)


_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)")


def _split(text: str) -> list[str]:
    """The lines of `text` with their ends; the last has none, and is empty if the text ends with one."""
    lines = _LINE.findall(text)
    lines.append(text[sum(map(len, lines)) :])
    return lines


def _index(line: str, column: int, encoding: str) -> int:
    """The index in `line` of a column; a column past the end is the end, one inside a character is its start."""
    content = line.rstrip("\r\n")
    if encoding == "utf-32" or content.isascii():
        return min(column, len(content))
    width = 0
    for index, character in enumerate(content):
        width += len(character.encode("utf-8")) if encoding == "utf-8" else 1 + (character > "\uffff")
        if width > column:
            return index
    return len(content)


def _apply(mirror: _Mirror, change: object, encoding: str) -> None:
    if not isinstance(change, dict) or not isinstance(change.get("text"), str):
        raise UsageError("A change of a document needs a text.")
    span = change.get("range")
    if span is None:
        mirror.replace(change["text"])
        return
    if not isinstance(span, dict):
        raise UsageError("The range of a change is not an object.")
    mirror.edit(_position(span.get("start")), _position(span.get("end")), change["text"], encoding)


def _position(raw: object) -> tuple[int, int]:
    if isinstance(raw, dict):
        line, column = raw.get("line"), raw.get("character")
        if isinstance(line, int) and isinstance(column, int) and line >= 0 and column >= 0:
            return line, column
    raise UsageError("A position needs a line and a character, both from 0 up.")


def _part(params: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = params.get(name)
    if not isinstance(part, dict):
        raise UsageError(f"The parameters have no {name}.")
    return part


def _version(item: Mapping[str, Any]) -> int | None:
    version = item.get("version")
    return version if isinstance(version, int) else None


def _key(uri: str) -> str:
    """What two spellings of one document's URI have in common: clients differ in what they escape."""
    path = path_of(uri)
    return uri if path is None else str(path)


def path_of(uri: str) -> Path | None:
    """The path that a `file:` URI names, or None for another scheme or host."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() != "file":
        return None
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        if host not in ("", "localhost"):
            return None
        rest = slash + rest
    rest = rest.partition("#")[0].partition("?")[0]
    raw = unquote_to_bytes(rest)
    if not raw.startswith(b"/") or b"\0" in raw:
        return None
    return Path(raw.decode("utf-8", "surrogateescape"))


def uri_of(path: Path) -> str:
    """The `file:` URI of an absolute path, for a document that no client has named yet."""
    return "file://" + quote(str(path).encode("utf-8", "surrogateescape"), safe="/")
