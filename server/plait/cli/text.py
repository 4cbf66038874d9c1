"""Knows how text that somebody else chose is shown: without any power over the terminal, and how figures are written.

Agents, repositories and task texts are not trusted: an escape sequence in a title must not move the cursor, change
the window's title, or hide what stands beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS and their like, which end with BEL or ST
    r"|\x1b[ -/]+[0-~]"  # character sets
)
"""Complete escape sequences as ECMA-48 and xterm's ctlseqs describe them."""


def safe(text: str) -> str:
    """One line of it, with a visible sign for every character that would control the terminal."""
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def safe_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(safe(line) for line in text.split("\n"))


def readable(line: str) -> str:
    """A line of a program's output as a person would have seen it: without colours, after the last carriage return."""
    plain = _SEQUENCES.sub("", line)
    shown = next((part for part in reversed(plain.split("\r")) if part.strip()), "")
    return safe(shown.expandtabs())


def one_line(text: str) -> str:
    """The text on one line."""
    return safe(" ".join(text.split()))


def size(count: float) -> str:
    """A number of bytes for people: `0 B`, `12 KiB`, `3.4 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.1f} {unit}" if unit == "GiB" or (unit == "MiB" and count < 10) else f"{count:.0f} {unit}"


def span(seconds: float) -> str:
    """A length of time for people, in at most two units: `8s`, `3m 20s`, `5h 2m`, `4d`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s" if whole < 600 else f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d"


def count(number: int, word: str) -> str:
    """`1 hunk`, `2 hunks`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def amount(number: float) -> str:
    """A number of tokens for people: `950`, `12.3k`, `1.2M`."""
    if number < 1000:
        return f"{number:.0f}"
    return f"{number / 1000:.1f}k" if number < 999_950 else f"{number / 1e6:.1f}M"


def dollars(cost: float) -> str:
    """`$0.42`; less than a cent is said to be so."""
    return "<$0.01" if 0 < cost < 0.005 else f"${cost:.2f}"


def spending(usage: Mapping[str, Any] | None) -> str:
    """Tokens and cost in few cells, `12.3k tok · $0.42`; empty if nothing is known."""
    if usage is None:
        return ""
    parts = []
    if usage["tokens"]:
        parts.append(f"{amount(usage['tokens'])} tok")
    if usage["cost_usd"] is not None:
        parts.append(dollars(usage["cost_usd"]))
    return " · ".join(parts)


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    if character == "\t" or (character.isprintable() and not unicodedata.category(character).startswith("C")):
        return character
    number = ord(character)
    if number < 0x20:
        # The block of control pictures: U+241B is a small ESC.
        return chr(0x2400 + number)
    if number == 0x7F:
        return "\u2421"
    if character in "\u200c\u200d":
        # Zero-width, yet part of emoji and of several scripts' spelling.
        return character
    return " " if unicodedata.category(character) in ("Zs", "Zl", "Zp") else "\ufffd"
