"""How things are called: titles and branch names made from a task, ids, and ids cut short for people."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass

TITLE_LENGTH = 80
SLUG_LENGTH = 40
ID_LENGTH = 26
SHORTEST_ID = 4


@dataclass(frozen=True)
class NoSuchId:
    """Why a shortened id names nothing, or names too much."""

    message: str
    candidates: tuple[str, ...] = ()
    """The ids it could mean, when there are several."""


def title_of(text: str) -> str:
    """The first line of the text that says something, without Markdown's marks, at most 80 characters.

    Characters that cannot be seen or that turn the direction of writing are left out: a title is shown in
    places where it stands beside things the user trusts.
    """
    for line in text.splitlines():
        plain = _LINE_MARKS.sub("", _visible(line)).strip()
        if any(character.isalnum() for character in plain):
            return _shortened(" ".join(plain.split()), TITLE_LENGTH)
    return "Untitled task"


def slug(title: str) -> str:
    """The title as `[a-z0-9-]`, at most 40 characters, never empty, never starting or ending with `-`."""
    letters = "".join(_ascii(character) for character in unicodedata.normalize("NFKD", title.casefold()))
    words = re.findall(r"[a-z0-9]+", letters)
    short = "-".join(words)[: SLUG_LENGTH + 1]
    if len(short) > SLUG_LENGTH:
        # Half a word at the end is dropped where a whole one stays in front of it.
        short = short.rpartition("-")[0] or short[:SLUG_LENGTH]
    return short.strip("-") or "task"


def branch_name(slug: str, session_id: str) -> str:
    """`plait/<slug>-<last six of the id>`: as unique as the ids are, and valid for `git check-ref-format`."""
    return f"plait/{slug}-{session_id[-6:].lower()}"


def new_id(now_ms: int, random_bytes: bytes) -> str:
    """A ULID in lower case (48 bits of milliseconds, 80 of chance, Crockford's base 32): ids sort by age.

    Raises ValueError unless there are ten random bytes and the time fits. Format: github.com/ulid/spec.
    """
    if len(random_bytes) != 10 or not 0 <= now_ms < 1 << 48:
        raise ValueError("an id needs 48 bits of time and ten random bytes")
    number = now_ms << 80 | int.from_bytes(random_bytes, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(5 * (ID_LENGTH - 1), -1, -5))


def match_id(text: str, ids: Iterable[str]) -> str | NoSuchId:
    """The one id that `text` stands for: the whole id, its beginning, or its end.

    The end is what people use, since ids made in the same minute begin alike.
    """
    asked = text.strip().lower()
    if not asked:
        return NoSuchId("An empty id names no session.")
    known = sorted(set(ids))
    if asked in known:
        return asked
    ways = (asked, asked.translate(_MISREAD))
    found = tuple(one for one in known if one.startswith(ways) or one.endswith(ways))
    if len(found) == 1:
        return found[0]
    shown = _visible(text.strip())[:ID_LENGTH]
    if found:
        return NoSuchId(f"{shown!r} could be any of {len(found)} ids; give more of its end.", found)
    return NoSuchId(f"No id begins or ends with {shown!r}.")


def short_id(identifier: str, ids: Collection[str]) -> str:
    """The shortest end of the id, of four characters or more, that `match_id` resolves to it among `ids`."""
    others = [other for other in ids if other != identifier]
    for length in range(SHORTEST_ID, len(identifier)):
        end = identifier[-length:]
        if not any(other.startswith(end) or other.endswith(end) for other in others):
            return end
    return identifier


_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_MISREAD = str.maketrans("ilo", "110")
"""Crockford's alphabet has no i, l and o; they are read as the digits they look like."""

_LINE_MARKS = re.compile(r"^\s*(?:(?:#{1,6}|[-*+>]|\d{1,3}[.)]|\[[ xX]\])\s+)+")

_JOINERS = frozenset("\u200c\u200d")
"""Zero-width, yet part of emoji and of several scripts' spelling."""

_LATIN = re.compile(r"LATIN (?:SMALL|CAPITAL) LETTER ([A-Z]{1,2})(?: WITH .*)?")
_SPELLED = {"\u00f0": "d", "\u00fe": "th", "\u0131": "i", "\u014b": "n", "\u0153": "oe"}
"""Eth, thorn, dotless i, eng, the ligature oe: Unicode's names do not say how they are written in ASCII."""


def _visible(text: str) -> str:
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if category in {"Cc", "Zl", "Zp", "Zs"}:
            kept.append(" ")
        elif category not in {"Cf", "Cs", "Co", "Cn"} or character in _JOINERS:
            kept.append(character)
    return "".join(kept)


def _shortened(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    head = text[: length - 1]
    whole = head.rpartition(" ")[0]
    return (whole if len(whole) > length // 2 else head).rstrip() + "…"


def _ascii(character: str) -> str:
    """The character in ASCII where Unicode's own data says how; nothing for a combining mark, else a gap."""
    if character.isascii():
        return character
    if unicodedata.combining(character):
        return ""
    named = _LATIN.fullmatch(unicodedata.name(character, ""))
    return _SPELLED.get(character) or (named[1].lower() if named else " ")
