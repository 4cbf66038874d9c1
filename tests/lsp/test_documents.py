from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import UsageError
from plait.lsp.documents import Documents, Happening, path_of, uri_of

URI = "file:///work/a.py"
TEXT = st.text(alphabet="ab\n\r\x0b\x0c\x85\u2028\u2029é𝄞😀", max_size=40)
ENCODINGS = ["utf-8", "utf-16", "utf-32"]


def opened(text: str, uri: str = URI, encoding: str = "utf-16", version: object = 1) -> Documents:
    documents = Documents(encoding)
    documents.did_open({"textDocument": {"uri": uri, "languageId": "python", "version": version, "text": text}})
    return documents


def change(documents: Documents, *changes: dict[str, Any], version: object = 2, uri: str = URI) -> None:
    documents.did_change({"textDocument": {"uri": uri, "version": version}, "contentChanges": list(changes)})


def edit(start: tuple[int, int], end: tuple[int, int], text: str) -> dict[str, Any]:
    places = [{"line": line, "character": character} for line, character in (start, end)]
    return {"range": {"start": places[0], "end": places[1]}, "text": text}


def text_of(documents: Documents, uri: str = URI) -> str:
    found = documents.get(uri)
    assert found is not None
    return found.text


def width(text: str, encoding: str) -> int:
    units = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
    codec, size = units[encoding]
    return len(text.encode(codec)) // size


def position(text: str, offset: int, encoding: str) -> tuple[int, int]:
    """The straightforward way: count the line ends before the offset."""
    ends = [found.end() for found in re.finditer(r"\r\n|\r|\n", text) if found.end() <= offset]
    start = ends[-1] if ends else 0
    return len(ends), width(text[start:offset], encoding)


def is_a_place(text: str, offset: int) -> bool:
    """Between the two characters of one line end there is no position."""
    return text[offset - 1 : offset + 1] != "\r\n"


@given(TEXT, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), TEXT), max_size=6), st.sampled_from(ENCODINGS))
@settings(deadline=None, max_examples=500)
def test_any_series_of_edits_gives_the_text_that_the_client_has(
    text: str, edits: list[tuple[int, int, str]], encoding: str
) -> None:
    documents = opened(text, encoding=encoding)
    expected = text
    for one, other, fresh in edits:
        low, high = sorted((one % (len(expected) + 1), other % (len(expected) + 1)))
        low -= 0 if is_a_place(expected, low) else 1
        high -= 0 if is_a_place(expected, high) else 1
        span = position(expected, low, encoding), position(expected, high, encoding)
        change(documents, edit(*span, fresh))
        expected = expected[:low] + fresh + expected[high:]
        assert text_of(documents) == expected


@given(TEXT, st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.sampled_from(ENCODINGS))
@settings(deadline=None, max_examples=300)
def test_positions_outside_of_the_text_never_raise_and_lose_nothing_before_them(
    text: str, line: int, column: int, more: int, further: int, encoding: str
) -> None:
    documents = opened(text, encoding=encoding)
    change(documents, edit((line, column), (line + more, column + further), "X"))
    assert "X" in text_of(documents)
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z|\Z", text)
    assert text_of(documents).startswith("".join(lines[:line]))


@pytest.mark.parametrize("mark", ["\x0c", "\x0b", "\x85", "\u2028", "\u2029", "\x1c", "\x1e"])
def test_only_the_line_ends_of_lsp_end_a_line(mark: str) -> None:
    documents = opened(f"a{mark}b\nc\n")
    change(documents, edit((1, 0), (1, 1), "Z"))
    assert text_of(documents) == f"a{mark}b\nZ\n"


@pytest.mark.parametrize(
    ("encoding", "column", "expected"),
    [
        ("utf-8", 4, "😀Xb"),
        ("utf-16", 2, "😀Xb"),
        ("utf-32", 1, "😀Xb"),
        ("utf-16", 1, "X😀b"),
        ("utf-8", 3, "X😀b"),
        ("utf-16", 99, "😀bX"),
    ],
)
def test_columns_count_in_the_agreed_unit(encoding: str, column: int, expected: str) -> None:
    documents = opened("😀b", encoding=encoding)
    change(documents, edit((0, column), (0, column), "X"))
    assert text_of(documents) == expected


def test_line_ends_may_come_together_and_part() -> None:
    documents = opened("a\r\nb")
    change(documents, edit((0, 1), (1, 0), "\r"), edit((1, 0), (1, 0), "\n"))
    assert text_of(documents) == "a\r\nb"
    change(documents, edit((1, 0), (1, 0), "X"))
    assert text_of(documents) == "a\r\nXb"


def test_several_changes_of_one_message_follow_each_other() -> None:
    documents = opened("a\nb\n")
    change(
        documents, edit((0, 0), (0, 1), "x\ny"), edit((2, 0), (2, 1), "z"), {"text": "all\n"}, edit((0, 3), (0, 3), "!")
    )
    assert text_of(documents) == "all!\n"


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 7), (5, 3), (None, None), (1, "x")])
def test_versions_are_the_clients_own(first: object, second: object) -> None:
    documents = opened("a", version=first)
    assert documents.get(URI) is not None
    change(documents, {"text": "b"}, version=second)
    found = documents.get(URI)
    assert found is not None
    assert (found.text, found.version) == ("b", second if isinstance(second, int) else None)


@pytest.mark.parametrize(
    "spelling",
    [
        "file:///work/a%20b.py",
        "file:///work/a b.py",
        "file:/work/a%20b.py",
        "FILE:///work/%61%20b.py",
        "file://localhost/work/a%20b.py",
    ],
)
def test_a_document_is_found_by_any_spelling_and_keeps_the_clients(spelling: str) -> None:
    documents = opened("x", uri="file:///work/a%20b.py")
    found = documents.get(spelling)
    assert found is not None
    assert found.uri == "file:///work/a%20b.py"
    assert found == documents.by_path(Path("/work/a b.py"))


@pytest.mark.parametrize(
    "uri", ["untitled:Untitled-1", "plait:/a/b.py", "file://host/share/x", "", "file:relative", "file:///a%00b"]
)
def test_documents_that_are_no_files_have_no_path(uri: str) -> None:
    documents = opened("x", uri=uri)
    found = documents.get(uri)
    assert found is not None
    assert found.path is None


@given(st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw))
def test_every_path_survives_as_a_uri(raw: bytes) -> None:
    path = Path("/") / raw.decode("utf-8", "surrogateescape").strip("/")
    uri = uri_of(path)
    assert uri.isascii()
    assert path_of(uri) == path


@pytest.mark.parametrize(
    "changes",
    [
        None,
        {},
        [5],
        [{}],
        [{"text": 5}],
        [{"text": "x", "range": 5}],
        [{"text": "x", "range": {}}],
        [edit((0, 0), (0, -1), "x")],
        [edit((0, 1), (0, 0), "x")],
        [{"text": "x", "range": {"start": {"line": "0", "character": 0}, "end": {"line": 0, "character": 0}}}],
    ],
)
def test_a_change_that_cannot_be_understood_loses_the_document(changes: object) -> None:
    documents = opened("abc")
    happened: list[tuple[Happening, str]] = []
    documents.listen(lambda happening, uri: happened.append((happening, uri)))
    with pytest.raises(UsageError):
        documents.did_change({"textDocument": {"uri": URI, "version": 2}, "contentChanges": changes})
    assert documents.get(URI) is None
    assert happened == [(Happening.CLOSED, URI)]


def test_listeners_hear_of_everything_in_order_until_they_end_it() -> None:
    documents = Documents()
    happened: list[str] = []
    end = documents.listen(lambda happening, uri: happened.append(happening.value))
    documents.did_open({"textDocument": {"uri": URI, "version": 1, "text": "a"}})
    change(documents, {"text": "b"})
    documents.did_save({"textDocument": {"uri": URI}})
    documents.did_close({"textDocument": {"uri": URI}})
    documents.did_close({"textDocument": {"uri": URI}})
    end()
    end()
    documents.did_open({"textDocument": {"uri": URI, "version": 1, "text": "a"}})
    assert happened == ["opened", "changed", "saved", "closed"]
    assert [document.uri for document in documents] == [URI]
    documents.close()
    assert len(documents) == 0


def test_changes_of_unknown_documents_are_ignored() -> None:
    documents = Documents()
    change(documents, {"text": "b"})
    documents.did_save({"textDocument": {"uri": URI}})
    assert documents.get(URI) is None


def test_an_edit_costs_what_it_touches_not_the_whole_text() -> None:
    documents = opened("x = 1  # a line of the usual length\n" * 200_000)
    began = time.perf_counter()
    for turn in range(200):
        change(documents, edit((100_000, 0), (100_000, 0), str(turn % 10)))
    each = (time.perf_counter() - began) / 200
    assert text_of(documents).count("\n") == 200_000
    # A mirror that splits the text again takes 37 ms for this.
    assert each < 0.01
