"""Titles, branch names and ids: whatever a task text holds, git and people can use what comes out."""

from __future__ import annotations

import re
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.core.naming import NoSuchId, branch_name, match_id, new_id, short_id, slug, title_of

HOSTILE = [
    "",
    "   \n\t",
    "../../x",
    "--output=x",
    "-D",
    "@{-1}",
    "HEAD",
    "refs/heads/x",
    "a;b $(x) `y` | z",
    "x.lock",
    ".hidden",
    "a..b~1^2:3?*[",
    "🚀🎉",
    "\u202egnp.exe",
    "\x1b]52;c;x\x07",
    "日本語のタスク",
    "x" * 300,
    "word " * 60,
    "\ud800",
    "a\0b",
]
TEN = bytes(range(10))

ids = st.builds(new_id, st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
near_ids = st.builds(new_id, st.integers(1_700_000_000_000, 1_700_000_000_050), st.binary(min_size=10, max_size=10))


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Fix the login\nmore", "Fix the login"),
        ("\n\n## Fix   the login  \n", "Fix the login"),
        ("```\n- [ ] add tests", "add tests"),
        ("1. first", "first"),
        ("---\n***\nreal", "real"),
        ("--output=x", "--output=x"),
        ("../../x", "../../x"),
        ("safe\u202etxt.exe\u2066\x07", "safetxt.exe"),
        ("", "Untitled task"),
        ("👩\u200d💻 pair", "👩\u200d💻 pair"),
        ("👩\u200d💻", "Untitled task"),
    ],
)
def test_the_title_is_the_first_line_that_says_something(text: str, title: str) -> None:
    assert title_of(text) == title


def test_a_long_title_ends_at_a_word() -> None:
    title = title_of("word " * 60)
    assert len(title) <= 80
    assert title.endswith("word…")
    assert len(title_of("x" * 300)) == 80


@given(st.text())
@settings(deadline=None)
def test_a_title_is_short_and_holds_nothing_invisible(text: str) -> None:
    title = title_of(text)
    assert 1 <= len(title) <= 80
    assert not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in title)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]", title)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Fix the Login!", "fix-the-login"),
        ("Größe prüfen — Übersicht", "grosse-prufen-ubersicht"),
        ("Łódź żółw, Ærø, œuvre, Þór, \u0131ğd\u0131r", "lodz-zolw-aero-oeuvre-thor-igdir"),
        ("x.lock", "x-lock"),
        ("🚀", "task"),
        ("../../x", "x"),
        ("ﬁx ①", "fix-1"),
        ("add authentication to the user service now", "add-authentication-to-the-user-service"),
    ],
)
def test_a_slug_is_what_one_would_write(title: str, expected: str) -> None:
    assert slug(title) == expected


@given(st.text())
@settings(deadline=None)
def test_a_slug_is_always_usable(title: str) -> None:
    made = slug(title)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", made)


def _git_accepts(branch: str) -> bool:
    done = subprocess.run(["git", "check-ref-format", "--branch", branch], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == branch


@pytest.mark.parametrize("text", HOSTILE)
def test_git_takes_the_branch_of_a_hostile_task(text: str) -> None:
    branch = branch_name(slug(title_of(text)), new_id(1, TEN))
    assert re.fullmatch(r"plait/[a-z0-9-]{1,40}-[0-9a-z]{6}", branch)
    assert _git_accepts(branch)


@given(st.text(), ids)
@settings(max_examples=60, deadline=None)
def test_git_takes_the_branch_of_any_task(text: str, identifier: str) -> None:
    assert _git_accepts(branch_name(slug(title_of(text)), identifier))


def test_an_id_is_the_ulid_of_its_time_and_chance() -> None:
    # The specification's own example of a time part: 01ARYZ6S41 for 1469918176385.
    assert new_id(1469918176385, b"\xff" * 10) == "01aryz6s41" + "z" * 16
    assert new_id(0, bytes(10)) == "0" * 26
    assert new_id((1 << 48) - 1, b"\xff" * 10) == "7" + "z" * 25


@given(st.integers(0, (1 << 48) - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
@settings(deadline=None)
def test_ids_sort_by_age(now: int, one: bytes, other: bytes) -> None:
    assert new_id(now, one) < new_id(now + 1, other)


@pytest.mark.parametrize(("now", "chance"), [(-1, TEN), (1 << 48, TEN), (1, b"short")])
def test_an_id_needs_time_and_chance_that_fit(now: int, chance: bytes) -> None:
    with pytest.raises(ValueError, match="ten random bytes"):
        new_id(now, chance)


def test_an_id_is_found_by_its_beginning_its_end_and_in_capitals() -> None:
    one, other = new_id(1_700_000_000_000, TEN), new_id(1_800_000_000_000, TEN[::-1])
    known = [one, other]
    assert match_id(one, known) == one
    assert match_id(one[-5:].upper(), known) == one
    assert match_id(other[:12], known) == other
    assert match_id(one[-5:].replace("1", "l").replace("0", "O"), known) == one


def test_what_names_nothing_or_too_much_is_answered_with_a_sentence() -> None:
    one, other = new_id(1_700_000_000_000, TEN), new_id(1_700_000_000_000, TEN[::-1])
    several = match_id(one[:10], [one, other])
    assert isinstance(several, NoSuchId)
    assert several.candidates == tuple(sorted([one, other]))
    for text in ("", "  ", "zzzz\u202e", "x" * 10_000):
        none = match_id(text, [one, other])
        assert isinstance(none, NoSuchId)
        assert none.candidates == ()
        assert len(none.message) < 100
        assert "\u202e" not in none.message


@given(st.sets(near_ids, min_size=1, max_size=40))
@settings(deadline=None)
def test_a_shortened_id_always_leads_back(known: set[str]) -> None:
    for identifier in known:
        short = short_id(identifier, known)
        assert len(short) >= 4
        assert match_id(short, known) == identifier


def test_shortened_ids_grow_only_where_they_must() -> None:
    one, other = "0" * 20 + "aabcde", "0" * 19 + "1xabcde"
    far = "0" * 22 + "wxyz"
    assert short_id(far, [one, other, far]) == "wxyz"
    assert short_id(one, [one, other, far]) == "aabcde"
