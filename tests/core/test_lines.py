from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.core.lines import (
    BOM,
    Eol,
    LspText,
    Position,
    PositionEncoding,
    decode,
    encode,
    eol_of,
    split,
    with_eol,
    without_bom,
)
from tests.support.contents import many

awkward = st.text(
    alphabet=st.sampled_from(list("ab\n\r\t \x0c\x0b\x85\u2028\u2029é\u0301\U0001f600\ufeff\x00")), max_size=40
)
encodings: st.SearchStrategy[PositionEncoding] = st.sampled_from(["utf-8", "utf-16", "utf-32"])
CODECS: dict[PositionEncoding, tuple[str, int]] = {
    "utf-8": ("utf-8", 1),
    "utf-16": ("utf-16-le", 2),
    "utf-32": ("utf-32-le", 4),
}


@many
@given(data=st.binary(max_size=60) | awkward.map(str.encode))
def test_lines_join_to_the_data_and_only_newlines_end_them(data: bytes) -> None:
    rows = split(data)
    assert b"".join(rows) == data
    assert all(row.endswith(b"\n") for row in rows[:-1])
    assert all(row.count(b"\n") <= 1 for row in rows)
    assert all(rows)


@pytest.mark.parametrize(
    ("data", "eol"),
    [(b"", "none"), (b"a", "none"), (b"a\rb", "none"), (b"a\nb", "lf"), (b"a\r\nb", "crlf"), (b"a\r\nb\n", "mixed")],
)
def test_the_style_of_line_ends_is_recognised(data: bytes, eol: Eol) -> None:
    assert eol_of(data) == eol


@many
@given(rows=st.lists(st.sampled_from([b"a", b"", b"x\r"]), max_size=8))
def test_line_ends_convert_there_and_back(rows: list[bytes]) -> None:
    lines = [row.rstrip(b"\r") + b"\n" for row in rows]
    assert with_eol(with_eol(lines, "crlf"), "lf") == lines
    assert with_eol(lines, "mixed") == lines


def test_a_byte_order_mark_is_left_out_once() -> None:
    assert without_bom([BOM + b"a\n", BOM + b"b\n"]) == [b"a\n", BOM + b"b\n"]
    assert without_bom([BOM]) == []
    assert without_bom([]) == []


@many
@given(data=st.binary(max_size=40) | awkward.map(str.encode) | awkward.map(lambda text: text.encode("utf-16")))
def test_what_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    found = decode(data)
    if found is None:
        assert b"\0" in data
    else:
        assert encode(*found) == data


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("é".encode(), "é", "utf-8"),
        (BOM + b"a", "a", "utf-8-sig"),
        (b"\xff\xfea\x00", "a", "utf-16-le"),
        (b"\xfe\xff\x00a", "a", "utf-16-be"),
        (b"caf\xe9", "café", "cp1252"),
        (b"\x81", "\x81", "latin-1"),
    ],
)
def test_the_encoding_is_recognised(data: bytes, text: str, encoding: str) -> None:
    assert decode(data) == (text, encoding)


@many
@given(text=awkward, encoding=encodings)
def test_every_offset_makes_the_round_trip_through_its_position(text: str, encoding: PositionEncoding) -> None:
    document = LspText(text)
    for offset in range(len(text) + 1):
        position = document.position(offset, encoding)
        inside_line_end = text[offset - 1 : offset + 1] == "\r\n"
        assert document.offset(position, encoding) == (offset - 1 if inside_line_end else offset)


@many
@given(text=awkward, encoding=encodings)
def test_positions_count_lines_and_units_as_the_protocol_defines_them(text: str, encoding: PositionEncoding) -> None:
    codec, width = CODECS[encoding]
    document = LspText(text)
    offset = 0
    for number, row in enumerate(re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)):
        assert document.position(offset, encoding) == Position(number, 0)
        content = row.rstrip("\r\n")
        end = Position(number, len(content.encode(codec)) // width)
        assert document.position(offset + len(content), encoding) == end
        assert document.offset(Position(number, 10_000), encoding) == offset + len(content)
        offset += len(row)


@many
@given(text=awkward, inserted=awkward, data=st.data(), encoding=encodings)
def test_a_change_replaces_exactly_its_range(
    text: str, inserted: str, data: st.DataObject, encoding: PositionEncoding
) -> None:
    document = LspText(text)
    first = data.draw(st.integers(0, len(text)))
    last = data.draw(st.integers(first, len(text)))
    start, end = document.position(first, encoding), document.position(last, encoding)
    changed = document.apply_change((start, end), inserted, encoding)
    first, last = document.offset(start, encoding), document.offset(end, encoding)
    assert changed.text == text[:first] + inserted + text[last:]
    assert document.apply_change(None, inserted, encoding) == LspText(inserted)


def test_a_position_inside_of_a_character_is_its_beginning() -> None:
    document = LspText("a\U0001f600b")
    assert document.offset(Position(0, 2), "utf-16") == 1
    assert document.offset(Position(0, 3), "utf-16") == 2
    assert document.offset(Position(0, 4), "utf-8") == 1
    assert document.offset(Position(9, 0)) == 3


def test_a_lone_surrogate_counts_as_one_unit() -> None:
    assert LspText("\ud800b").position(2, "utf-16") == Position(0, 2)
    assert LspText("\ud800b").position(2, "utf-8") == Position(0, 4)


@many
@given(text=awkward, data=st.data())
def test_a_range_of_rows_covers_exactly_their_text(text: str, data: st.DataObject) -> None:
    rows = split(text.encode())
    start = data.draw(st.integers(0, len(rows)))
    end = data.draw(st.integers(start, len(rows)))
    document = LspText(text)
    first, last = (document.offset(p, "utf-8") for p in document.range_of_rows(start, end, "utf-8"))
    assert text[first:last].encode() == b"".join(rows[start:end])
