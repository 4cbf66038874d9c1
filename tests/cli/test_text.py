from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.cli.text import readable, safe, safe_lines, size, span


@given(st.text())
def test_nothing_that_controls_a_terminal_is_left(text: str) -> None:
    for shown in (safe(text), readable(text)):
        assert not any(ord(character) < 0x20 and character != "\t" for character in shown)
        assert not any(0x7F <= ord(character) < 0xA0 for character in shown)
        assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\u200e\u200f")


@given(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert safe(text) == text
    assert readable(text) == text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("10%\r50%\r100%", "100%"),
        ("done\r", "done"),
        ("\x1b]0;title\x07said", "said"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2K\x1b[1Gspinner", "spinner"),
        ("broken \x1b[", "broken ␛["),
        ("a\tb", "a       b"),
        ("\x9b31mc1", "\ufffd31mc1"),
    ],
)
def test_a_line_of_output_reads_as_a_person_saw_it(line: str, shown: str) -> None:
    assert readable(line) == shown


def test_lines_stay_lines() -> None:
    assert safe_lines("a\nb\x07\n") == "a\nb␇\n"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0s"), (59.9, "59s"), (61, "1m 01s"), (3599, "59m"), (3660, "1h 01m"), (200_000, "2d")],
)
def test_times_are_short(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize(
    ("bytes_", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (2048, "2 KiB"),
        (3 << 20, "3.0 MiB"),
        (30 << 20, "30 MiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_sizes_are_short(bytes_: int, said: str) -> None:
    assert size(bytes_) == said
