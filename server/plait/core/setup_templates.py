"""The templates in worktrunk's hooks, as far as they can be rendered exactly as that tool does.

Known are variables, concatenation with `~`, and the filters `sanitize` and `hash_port`; anything else makes the
whole line unusable, because half a template would run something that nobody wrote.
Source of the semantics: worktrunk's `docs/content/hook.md` and `src/config/expansion.rs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from plait.core.config import Problem


def values(*, root: str, worktree: str, branch: str, default_branch: str, commit: str) -> dict[str, str]:
    """What the variables stand for: `root` is the user's checkout, `commit` the full name of the base."""
    repo = PurePosixPath(root).name
    return {
        "branch": branch,
        "commit": commit,
        "cwd": worktree,
        "default_branch": default_branch,
        "main_worktree": repo,
        "main_worktree_path": root,
        "primary_worktree_path": root,
        "repo": repo,
        "repo_path": root,
        "repo_root": root,
        "worktree": worktree,
        "worktree_name": PurePosixPath(worktree).name,
        "worktree_path": worktree,
    }


def cannot_render(line: str) -> str | None:
    """Why the line cannot be rendered whatever the values are, or None."""
    if "{{{" in line or "}}}" in line:
        return "Plait cannot render three braces in a row"
    rest = line
    for match in _EXPRESSION.finditer(line):
        rest = rest.replace(match[0], "")
        parsed = _parsed(match[1])
        if parsed is None:
            return f"Plait cannot render {match[0]}"
        for variable in parsed[0]:
            if variable[0] not in _QUOTES and variable not in _KNOWN:
                return f"Plait has no value for {variable!r}"
    opened = _UNRENDERED.search(rest)
    return f"Plait cannot render {opened[0]!r}" if opened else None


def render(line: str, values: Mapping[str, str]) -> str | Problem:
    """The line with its templates filled in; a Problem if one cannot be, or if a value is more than a plain word.

    Only a word that the shell takes literally inside quotes and outside is put in, so that no directory's name can
    become a command, wherever in the line the template stands.
    """
    reason = cannot_render(line)
    made: list[str] = []
    end = 0
    for match in _EXPRESSION.finditer(line):
        parsed = _parsed(match[1])
        if reason is not None or parsed is None:
            break
        value = _evaluated(*parsed, values)
        if value is None or not _PLAIN_WORD.fullmatch(value):
            reason = f"the value of {match[0]} is not a plain word"
            break
        made += (line[end : match.start()], value)
        end = match.end()
    if reason is not None:
        return Problem(f"A command is left out because {reason}: {ascii(line)[:80]}")
    return "".join(made) + line[end:]


def hash_port(text: str) -> int:
    """The port between 10000 and 19999 that worktrunk derives from a string: SipHash-1-3 of it, with no key.

    That is what Rust's DefaultHasher does with a string: its UTF-8 bytes and then one byte 0xFF.
    """
    return 10000 + siphash13(text.encode() + b"\xff") % 10000


def siphash13(data: bytes) -> int:
    """SipHash with one compression and three finalisation rounds and an all-zero key (Aumasson and Bernstein)."""
    state = [0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573]
    whole = len(data) // 8 * 8
    words = [int.from_bytes(data[start : start + 8], "little") for start in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        state[3] ^= word
        state = _sip_round(state)
        state[0] ^= word
    state[2] ^= 0xFF
    for _ in range(3):
        state = _sip_round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


_QUOTES = "'\""
_KNOWN = frozenset(values(root="/", worktree="/", branch="", default_branch="", commit=""))

_TERM = r"(?:[a-z_]+|'[^'{}\\]*'|\"[^\"{}\\]*\")"
_EXPRESSION = re.compile(r"\{\{ *([^{}]*?) *\}\}")
_BODY = re.compile(rf"(?:({_TERM})|\( *({_TERM}(?: *~ *{_TERM})*) *\))((?: *\| *[a-z_]+)*)")
_UNRENDERED = re.compile(r"\{\{|\{%|\{#|\}\}|%\}|#\}")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_FILTERS = frozenset({"sanitize", "hash_port"})


def _parsed(body: str) -> tuple[list[str], list[str]] | None:
    """The terms that are joined, and the filters that then apply in turn."""
    match = _BODY.fullmatch(body)
    if match is None:
        return None
    filters = [name.strip() for name in match[3].split("|")[1:]]
    if not _FILTERS.issuperset(filters):
        return None
    return re.findall(_TERM, match[1] or match[2]), filters


def _evaluated(terms: list[str], filters: list[str], values: Mapping[str, str]) -> str | None:
    parts = [term[1:-1] if term[0] in _QUOTES else values.get(term) for term in terms]
    if None in parts:
        return None
    value = "".join(part for part in parts if part is not None)
    for name in filters:
        value = re.sub(r"[/\\]", "-", value) if name == "sanitize" else str(hash_port(value))
    return value


def _sip_round(state: list[int]) -> list[int]:
    a, b, c, d = state
    a = (a + b) & _MASK
    b = _rotated(b, 13) ^ a
    a = _rotated(a, 32)
    c = (c + d) & _MASK
    d = _rotated(d, 16) ^ c
    a = (a + d) & _MASK
    d = _rotated(d, 21) ^ a
    c = (c + b) & _MASK
    b = _rotated(b, 17) ^ c
    c = _rotated(c, 32)
    return [a, b, c, d]


_MASK = (1 << 64) - 1


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK
