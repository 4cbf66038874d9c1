"""Lines, line ends and encodings of a text: as git counts them (bytes) and as LSP counts them (positions)."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final, Literal

Eol = Literal["lf", "crlf", "mixed", "none"]
PositionEncoding = Literal["utf-8", "utf-16", "utf-32"]

BOM: Final = b"\xef\xbb\xbf"


def split(data: bytes) -> list[bytes]:
    r"""The lines of `data` with their ends; only ``\n`` ends a line, as in git."""
    rows = data.split(b"\n")
    last = rows.pop()
    lines = [row + b"\n" for row in rows]
    if last:
        lines.append(last)
    return lines


def eol_of(data: bytes) -> Eol:
    r"""How the lines end: all ``\n``, all ``\r\n``, some of both, or none of them ends."""
    ended, with_cr = data.count(b"\n"), data.count(b"\r\n")
    if not ended:
        return "none"
    if not with_cr:
        return "lf"
    return "crlf" if with_cr == ended else "mixed"


def with_eol(lines: Sequence[bytes], eol: Eol) -> list[bytes]:
    """The lines with every end replaced by that of `eol`; left alone for "mixed" and "none"."""
    if eol == "crlf":
        return [line[:-1] + b"\r\n" if line.endswith(b"\n") and not line.endswith(b"\r\n") else line for line in lines]
    if eol == "lf":
        return [line[:-2] + b"\n" if line.endswith(b"\r\n") else line for line in lines]
    return list(lines)


def without_bom(lines: Sequence[bytes]) -> list[bytes]:
    """The lines without the byte order mark of UTF-8, which an editor's buffer does not show."""
    if lines and lines[0].startswith(BOM):
        first = lines[0][len(BOM) :]
        return [first, *lines[1:]] if first else list(lines[1:])
    return list(lines)


def decode(data: bytes) -> tuple[str, str] | None:
    """The text and its encoding, such that encoding the text again gives exactly `data`; None if there is none.

    Tries UTF-8, then UTF-16 if it begins with a byte order mark, then Windows-1252 and Latin-1; the last
    two are guesses, and an editor may have made another one. The result of "utf-8-sig" and of "utf-16" has
    no mark.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        codec = "utf-16-le" if data.startswith(b"\xff\xfe") else "utf-16-be"
        try:
            return data[2:].decode(codec), codec
        except UnicodeDecodeError:
            pass
    if b"\0" in data:
        return None
    for encoding in ("utf-8-sig" if data.startswith(BOM) else "utf-8", "cp1252", "latin-1"):
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return None


def encode(text: str, encoding: str) -> bytes:
    """The bytes of `text` in an encoding named by `decode`, byte order mark included.

    Raises UnicodeEncodeError if the encoding has no such character.
    """
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    return mark + text.encode(encoding)


@dataclass(frozen=True, order=True)
class Position:
    """A place in a text by LSP's rules: a line from 0, and code units of the agreed encoding from 0."""

    line: int
    character: int


_LINE_END: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class LspText:
    r"""A document by LSP's rules: only ``\n``, ``\r\n`` and ``\r`` end a line.

    Offsets count characters (code points) from 0.
    """

    text: str

    @cached_property
    def line_starts(self) -> list[int]:
        """The offset at which each line begins; a text that ends with a line end has an empty line after it."""
        if "\r" in self.text:
            return [0, *(found.end() for found in _LINE_END.finditer(self.text))]
        lengths = [len(row) + 1 for row in self.text.split("\n")]
        lengths.pop()
        return [0, *accumulate(lengths)]

    def position(self, offset: int, encoding: PositionEncoding = "utf-16") -> Position:
        """The position of an offset; one outside of the text is moved to its nearest end."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.line_starts, offset) - 1
        return Position(line, _units(self.text[self.line_starts[line] : offset], encoding))

    def offset(self, position: Position, encoding: PositionEncoding = "utf-16") -> int:
        """The offset of a position.

        As LSP asks, a character beyond the line is its end (before the line end), and so is a line beyond
        the text the text's end; a position inside of a character is the character's beginning.
        """
        if position.line < 0:
            return 0
        if position.line >= len(self.line_starts):
            return len(self.text)
        first, last = self._bounds(position.line)
        row = self.text[first:last]
        if position.character <= 0:
            return first
        if encoding == "utf-32" or row.isascii():
            return first + min(position.character, len(row))
        units = 0
        for index, character in enumerate(row):
            units += _units(character, encoding)
            if units > position.character:
                return first + index
        return last

    def apply_change(
        self, change: tuple[Position, Position] | None, text: str, encoding: PositionEncoding = "utf-16"
    ) -> LspText:
        """The document after one content change of `textDocument/didChange`; without a range it is all of it."""
        if change is None:
            return LspText(text)
        first, last = sorted(self.offset(position, encoding) for position in change)
        return LspText(self.text[:first] + text + self.text[last:])

    def range_of_rows(self, start: int, end: int, encoding: PositionEncoding = "utf-16") -> tuple[Position, Position]:
        r"""The range of the rows [start, end), counted as git does, in a document that may hold lone ``\r``.

        Whole lines, so that it begins and ends at character 0, except behind a last line without an end.
        """
        rows = self.row_starts
        first = rows[start] if start < len(rows) else len(self.text)
        last = rows[end] if end < len(rows) else len(self.text)
        return self.position(first, encoding), self.position(last, encoding)

    @cached_property
    def row_starts(self) -> list[int]:
        r"""The offset at which each row begins if only ``\n`` ends one, as git counts them."""
        if "\r" not in self.text:
            return self.line_starts
        lengths = [len(row) + 1 for row in self.text.split("\n")]
        lengths.pop()
        return [0, *accumulate(lengths)]

    def _bounds(self, line: int) -> tuple[int, int]:
        """The offsets between which the line's text lies, its end left out."""
        first = self.line_starts[line]
        if line + 1 == len(self.line_starts):
            return first, len(self.text)
        last = self.line_starts[line + 1] - 1
        if last > first and self.text[last] == "\n" and self.text[last - 1] == "\r":
            last -= 1
        return first, last


def _units(text: str, encoding: PositionEncoding) -> int:
    """The length of `text` in code units; a lone surrogate counts as the one unit that it is."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-16":
        return len(text) + sum(1 for character in text if character > "\uffff")
    return len(text.encode("utf-8", "surrogatepass"))
