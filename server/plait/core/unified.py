"""A change, or some of its hunks, as a patch in git's own format (git's `Documentation/diff-generate-patch.txt`)."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from plait.core.accept import path_without, without
from plait.core.changes import LINE_KINDS, SUBMODULE, Content, FileChange, Hunk, is_binary
from plait.core.diff import Edit, edits
from plait.core.lines import split

_NO_ID: Final = "0" * 40


def unified(
    change: FileChange, hunks: Iterable[Hunk] | None = None, context: int = 3, *, binary: bool = False
) -> bytes:
    """The patch from the base to the base with `hunks` (all, if None), with `context` lines around each.

    It is empty if nothing changes. A binary file is only named, unless `binary` asks for its content, as
    `git diff --binary` does.
    """
    taken = change.hunks if hunks is None else tuple(hunks)
    left_out = {hunk.id for hunk in change.hunks} - {hunk.id for hunk in taken}
    base, after = change.base, without(change, left_out)
    old = change.old_path or change.path
    new = path_without(change, left_out)
    if base == after and old == new:
        return b""
    if base is not None and after is not None and base.mode & 0o170000 != after.mode & 0o170000:
        # git shows a change of the file's type as the end of one file and the beginning of another.
        return _file(old, new, base, None, [], context, binary) + _file(old, new, None, after, [], context, binary)
    script = [_edit(hunk) for hunk in taken if hunk.kind in LINE_KINDS]
    return _file(old, new, base, after, script, context, binary)


def hunk_text(hunk: Hunk) -> bytes:
    """The hunk's lines alone, each with its sign, without header or context."""
    return b"".join([*_signed(b"-", hunk.removed), *_signed(b"+", hunk.added)])


def quoted(path: str) -> bytes:
    """The path as git prints it: in quotes with C's escapes if it has a byte that needs one (`core.quotePath`)."""
    raw = path.encode("utf-8", "surrogateescape")
    escaped = b"".join(_ESCAPES.get(byte) or bytes([byte]) for byte in raw)
    return raw if escaped == raw else b'"' + escaped + b'"'


_ESCAPES: Final[dict[int, bytes]] = {
    **{byte: b"\\%03o" % byte for byte in (*range(32), *range(127, 256))},
    **{
        ord(plain): b"\\" + name for plain, name in zip('\a\b\t\n\v\f\r"\\', b'a b t n v f r " \\'.split(), strict=True)
    },
}


def _edit(hunk: Hunk) -> Edit:
    return Edit(hunk.start, hunk.start + len(hunk.removed), hunk.new_start, hunk.new_start + len(hunk.added))


def _file(
    old: str, new: str, before: Content | None, after: Content | None, script: list[Edit], context: int, binary: bool
) -> bytes:
    from_path = old if before is not None else new
    to_path = new if after is not None else old
    lines = [b"diff --git %s %s\n" % (quoted("a/" + from_path), quoted("b/" + to_path))]
    if before is None and after is not None:
        lines.append(b"new file mode %o\n" % after.mode)
    elif after is None and before is not None:
        lines.append(b"deleted file mode %o\n" % before.mode)
    elif before is not None and after is not None and before.mode != after.mode:
        lines.append(b"old mode %o\nnew mode %o\n" % (before.mode, after.mode))
    if before is not None and after is not None and old != new:
        lines.append(b"rename from %s\nrename to %s\n" % (quoted(old), quoted(new)))
    was, now = _shown(before), _shown(after)
    if (before is None) == (after is None) and was == now:
        return b"".join(lines)
    mode = b" %o" % before.mode if before is not None and after is not None and before.mode == after.mode else b""
    lines.append(b"index %s..%s%s\n" % (_blob_id(before).encode(), _blob_id(after).encode(), mode))
    names = (
        b"/dev/null" if before is None else quoted("a/" + from_path),
        b"/dev/null" if after is None else quoted("b/" + to_path),
    )
    if is_binary(was, _ANY_SIZE) or is_binary(now, _ANY_SIZE):
        lines += _binary(was, now) if binary else [b"Binary files %s and %s differ\n" % names]
    elif was != now:
        tabs = tuple(b"\t" if b" " in name else b"" for name in names)
        lines.append(b"--- %s%s\n+++ %s%s\n" % (names[0], tabs[0], names[1], tabs[1]))
        a, b = split(was), split(now)
        lines += _body(a, b, _renumbered(script) if script else edits(a, b), context)
    return b"".join(lines)


_ANY_SIZE: Final = 1 << 62


def _shown(content: Content | None) -> bytes:
    """What git compares: a submodule is shown by a line that names its commit."""
    if content is None:
        return b""
    if content.mode == SUBMODULE:
        return b"Subproject commit " + content.data + b"\n"
    return content.data


def _blob_id(content: Content | None) -> str:
    if content is None:
        return _NO_ID
    if content.mode == SUBMODULE:
        return content.data.decode("ascii", "replace")
    header = b"blob %d\0" % len(content.data)
    return hashlib.sha1(header + content.data, usedforsecurity=False).hexdigest()


def _renumbered(script: Sequence[Edit]) -> list[Edit]:
    """The edits with the rows of the second text counted as if there were no others."""
    result: list[Edit] = []
    shift = 0
    for edit in script:
        first = edit.a1 + shift
        last = first + edit.b2 - edit.b1
        result.append(Edit(edit.a1, edit.a2, first, last))
        shift = last - edit.a2
    return result


def _body(a: list[bytes], b: list[bytes], script: list[Edit], context: int) -> Iterator[bytes]:
    for group in _grouped(script, context):
        a1, a2 = max(0, group[0].a1 - context), min(len(a), group[-1].a2 + context)
        b1, b2 = max(0, group[0].b1 - context), min(len(b), group[-1].b2 + context)
        yield b"@@ -%s +%s @@\n" % (_span(a1, a2), _span(b1, b2))
        for edit in group:
            yield from _signed(b" ", a[a1 : edit.a1])
            yield from _signed(b"-", a[edit.a1 : edit.a2])
            yield from _signed(b"+", b[edit.b1 : edit.b2])
            a1 = edit.a2
        yield from _signed(b" ", a[a1:a2])


def _grouped(script: list[Edit], context: int) -> Iterator[list[Edit]]:
    """The edits in groups whose contexts overlap or touch."""
    group: list[Edit] = []
    for edit in script:
        if group and edit.a1 - group[-1].a2 > 2 * context:
            yield group
            group = []
        group.append(edit)
    if group:
        yield group


def _span(first: int, last: int) -> bytes:
    count = last - first
    start = first + 1 if count else first
    return b"%d" % start if count == 1 else b"%d,%d" % (start, count)


def _signed(sign: bytes, lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield sign + line if line.endswith(b"\n") else sign + line + b"\n\\ No newline at end of file\n"


def _binary(was: bytes, now: bytes) -> Iterator[bytes]:
    """Both contents whole: zlib-compressed, in base 85, 52 bytes a line, as `emit_binary_diff_body` of git does."""
    yield b"GIT binary patch\n"
    for data in (now, was):
        yield b"literal %d\n" % len(data)
        packed = zlib.compress(data)
        for at in range(0, len(packed), 52):
            row = packed[at : at + 52]
            length = len(row) + (ord("A") - 1 if len(row) <= 26 else ord("a") - 27)
            yield bytes([length]) + base64.b85encode(row, pad=True) + b"\n"
        yield b"\n"
