"""Strategies for file contents, changes of them and edits by a user: hostile on purpose."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st

from plait.core.changes import EXECUTABLE, REGULAR, SYMLINK, Content, FileChange, file_change
from plait.core.lines import BOM, split
from plait.core.locate import UserFile

many = settings(max_examples=200, deadline=None)

WORDS = (
    b"",
    b"a",
    b"b",
    b"}",
    b"    x",
    b"\tx",
    b"\xff\xfe",
    "é\u2028".encode(),
    b"cr\rin",
    b"\x0c",
    b"u1",
    b"u2",
    b"u3",
)
ENDS = (b"\n", b"\r\n")


def edited_by(source: random.Random, rows: Sequence[bytes], fresh: Sequence[bytes], count: int) -> list[bytes]:
    """The rows after `count` random replacements, insertions and deletions that take their new rows from `fresh`."""
    result = list(rows)
    for _ in range(count):
        at = source.randint(0, len(result))
        result[at : at + source.randint(0, 3)] = source.sample(list(fresh), source.randint(0, min(3, len(fresh))))
    return result


@st.composite
def texts(draw: st.DrawFn) -> list[bytes]:
    """Rows of few different words, so that they repeat, with one of the kinds of line ends or a mixture."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6))
    ends = draw(st.sampled_from([ENDS[:1], ENDS[1:], ENDS]))
    size = draw(st.integers(0, 24))
    source = draw(st.randoms(use_true_random=False))
    rows = [source.choice(words) + source.choice(ends) for _ in range(size)]
    if rows and source.random() < 0.2:
        rows[0] = BOM + rows[0]
    return _ended(rows, source)


@st.composite
def text_changes(draw: st.DrawFn) -> FileChange:
    """A regular text file on both sides, perhaps renamed or with another mode."""
    rows = draw(texts())
    source = draw(st.randoms(use_true_random=False))
    if source.random() < 0.1:
        after = draw(texts())
    else:
        fresh = [*(word + b"\n" for word in WORDS), *(b"new %d\n" % i for i in range(4)), *rows[:3], *rows[-3:]]
        after = edited_by(source, rows, fresh, source.randint(0, 5))
    if source.random() < 0.3:
        after = _ended(after, source)
    renamed = source.random() < 0.2
    modes = [source.choice([REGULAR, REGULAR, EXECUTABLE]) for _ in range(2)]
    base, agent = Content(b"".join(rows), modes[0]), Content(b"".join(after), modes[1])
    return file_change("dir/new" if renamed else "file", "old name" if renamed else None, base, agent)


@st.composite
def contents(draw: st.DrawFn) -> Content | None:
    """Anything that may be at a path: nothing, a text, a binary, a link."""
    kind = draw(st.sampled_from(["none", "text", "text", "binary", "link"]))
    if kind == "none":
        return None
    if kind == "link":
        return Content(draw(st.sampled_from([b"target", b"../up", b"/abs", b"d/e"])), SYMLINK)
    mode = draw(st.sampled_from([REGULAR, EXECUTABLE]))
    if kind == "binary":
        return Content(b"\x00" + draw(st.binary(max_size=80)), mode)
    return Content(b"".join(draw(texts())), mode)


@st.composite
def any_changes(draw: st.DrawFn) -> FileChange:
    """A change of any kind but that of a submodule."""
    if draw(st.booleans()):
        return draw(text_changes())
    base, agent = draw(contents()), draw(contents())
    old = "was" if base is not None and agent is not None and draw(st.booleans()) else None
    return file_change("dir/it", old, base, agent)


def at_base(change: FileChange) -> UserFile:
    """A user who has exactly the base."""
    return UserFile(change.base, change.base if change.old_path is None else None)


def at_agent(change: FileChange) -> UserFile:
    """A user who has exactly what the agent made."""
    return UserFile(change.agent if change.old_path is None else None, change.agent)


def distinct_rows(count: int) -> list[bytes]:
    """Rows of which no two are equal."""
    return [b"row %d\n" % i for i in range(count)]


def user_of(rows: Sequence[bytes]) -> UserFile:
    content = Content(b"".join(rows))
    return UserFile(content, content)


def change_of(base: Sequence[bytes], agent: Sequence[bytes]) -> FileChange:
    return file_change("file", None, Content(b"".join(base)), Content(b"".join(agent)))


def rows_of(user: UserFile) -> list[bytes]:
    assert user.at_new is not None
    return split(user.at_new.data)


def _ended(rows: list[bytes], source: random.Random) -> list[bytes]:
    """The rows as a file could have them: only the last may lack its end, and then it is not empty."""
    if rows and source.random() < 0.3:
        last = rows[-1].rstrip(b"\r\n")
        rows = [*rows[:-1], last] if last else rows[:-1]
    return split(b"".join(rows))
