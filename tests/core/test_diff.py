from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.core.diff import Edit, edits, patched
from tests.support.contents import edited_by, many, texts

rows = st.one_of(texts(), st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n"]), max_size=40))


@many
@given(a=rows, b=rows)
def test_the_edits_turn_the_first_text_into_the_second(a: list[bytes], b: list[bytes]) -> None:
    script = edits(a, b)
    assert patched(a, b, script) == b
    assert all(edit.cost > 0 for edit in script)


@many
@given(a=rows, b=rows)
def test_two_edits_always_have_a_common_line_between_them(a: list[bytes], b: list[bytes]) -> None:
    script = edits(a, b)
    for one, next_one in pairwise(script):
        assert one.a2 < next_one.a1
        assert a[one.a2 : next_one.a1] == b[one.b2 : next_one.b1]


@many
@given(a=rows, b=rows)
def test_a_small_script_keeps_as_much_as_the_longest_common_subsequence_but_for_joined_edits(
    a: list[bytes], b: list[bytes]
) -> None:
    longest = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            longest[i + 1][j + 1] = longest[i][j] + 1 if x == y else max(longest[i][j + 1], longest[i + 1][j])
    # Edits that slide into each other are joined, which never changes how many lines they touch.
    assert sum(edit.cost for edit in edits(a, b)) == len(a) + len(b) - 2 * longest[-1][-1]


def test_an_added_function_is_shown_with_its_own_first_line() -> None:
    one = [b"def one():\n", b"    return 1\n", b"\n"]
    two = [b"def two():\n", b"    return 1\n", b"\n"]
    assert edits(one + one, one + two + one) == [Edit(3, 3, 3, 6)]


def test_a_line_added_among_equal_ones_is_the_last_of_them() -> None:
    assert edits([b"a\n", b"a\n", b"z\n"], [b"a\n", b"a\n", b"a\n", b"z\n"]) == [Edit(2, 2, 2, 3)]


def _two_letters(source: random.Random) -> tuple[list[bytes], list[bytes]]:
    one, other = ([source.choice([b"a\n", b"b\n"]) for _ in range(20_000)] for _ in range(2))
    return one, other


def _shuffled_pairs(source: random.Random) -> tuple[list[bytes], list[bytes]]:
    one = [b"%d\n" % (i // 2) for i in range(20_000)]
    return one, source.sample(one, len(one))


def _backwards(source: random.Random) -> tuple[list[bytes], list[bytes]]:
    one = [b"%d\n" % i for i in range(20_000)]
    return one, one[::-1]


def _many_edits(source: random.Random) -> tuple[list[bytes], list[bytes]]:
    one = [b"line %d\n" % (i % 5000) for i in range(20_000)]
    return one, edited_by(source, one, [b"new 1\n", b"new 2\n", b"\n", b"}\n"], 500)


@pytest.mark.parametrize("pair", [_two_letters, _shuffled_pairs, _backwards, _many_edits])
def test_no_pair_of_long_texts_is_slow(
    pair: Callable[[random.Random], tuple[list[bytes], list[bytes]]],
) -> None:
    a, b = pair(random.Random(7))
    started = time.perf_counter()
    script = edits(a, b)
    # Two orders of magnitude above what it takes; a quadratic step would take minutes.
    assert time.perf_counter() - started < 10
    assert patched(a, b, script) == b
