"""Which set-up a repository asks for: its own `plait.toml`, or the set-up file of another tool.

Only contents come in here; the caller reads SETUP_FILES from the base commit and runs nothing before the user has
approved `SetupPlan.to_approve` under `approval_key`.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plait.core.config import Problem, parse_repo
from plait.core.setup_formats import FORMATS, Asked, Dialect, claude_symlinks, inside, text_of
from plait.core.setup_templates import cannot_render, render

OWN_FILE = "plait.toml"
INCLUDE_FILE = ".worktreeinclude"
CLAUDE_SETTINGS = ".claude/settings.json"

UNREAD_FILES = ("uzi.yaml", "orca.yaml", "agent-orchestrator.yaml")
"""Set-up files in YAML, which are named to the user and not read: a YAML parser is too much for three rare formats."""

SETUP_FILES: tuple[str, ...] = (
    OWN_FILE,
    INCLUDE_FILE,
    CLAUDE_SETTINGS,
    *(name for known in FORMATS for name in (*known.files, *known.beside)),
    *UNREAD_FILES,
)
"""What to read from the base commit for `setup_plan`, as paths relative to the repository's root."""


@dataclass(frozen=True)
class SetupPlan:
    """What makes a new worktree of the repository usable."""

    source: str | None = None
    """The file that the commands come from."""
    dialect: Dialect = "plait"
    """Whose file it is; decides which variables `environment` sets besides Plait's own."""
    commands: tuple[str, ...] = ()
    """Shell lines, each for `sh -c` in the worktree, one after the other; as written, see `rendered`."""
    teardown: tuple[str, ...] = ()
    """The same, before the worktree goes."""
    scripts: tuple[str, ...] = ()
    """Repository paths that the lines seem to run; those which exist are part of the approval."""
    include: tuple[str, ...] = ()
    """Patterns in gitignore syntax: ignored files to bring along."""
    symlinks: tuple[str, ...] = ()
    """Directories to be shared with the checkout by a link."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences on what is different here from the tool whose file this is."""

    @property
    def to_approve(self) -> tuple[str, ...]:
        """What the user is asked to allow, line by line; pass it to `approval_key`."""
        return (
            *self.commands,
            *(f"on removal: {line}" for line in self.teardown),
            *(f"share with your checkout: {path}" for path in self.symlinks),
        )


def setup_plan(files: Mapping[str, bytes], platform: str = sys.platform) -> SetupPlan:
    """What the contents of a repository's SETUP_FILES ask for; a `[worktree]` in `plait.toml` silences the rest.

    Never raises; of several other tools' files the first in the order of FORMATS counts.
    """
    source, dialect, asked = _asked(files, platform)
    problems = list(asked.problems)
    commands = _acceptable(asked.commands, source, dialect, problems)
    teardown = _acceptable(asked.teardown, source, dialect, problems)
    symlinks = asked.symlinks
    if source != OWN_FILE and CLAUDE_SETTINGS in files:
        linked = claude_symlinks(files)
        symlinks += tuple(path for path in linked.symlinks if path not in symlinks)
        problems += linked.problems
    listed, unreadable = text_of(files, INCLUDE_FILE)
    problems += unreadable
    return SetupPlan(
        source=source,
        dialect=dialect,
        commands=commands,
        teardown=teardown,
        scripts=_once(path for line in (*commands, *teardown) for path in scripts_in(line)),
        include=(*_patterns(listed), *asked.include),
        symlinks=symlinks,
        problems=tuple(problems),
        notes=(*asked.notes, *_unread(files, source)),
    )


def rendered(
    dialect: Dialect, lines: Iterable[str], values: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """A plan's lines ready to run, the templates of a worktrunk file filled from `setup_templates.values`.

    What is approved are the lines as written: their values change with each worktree. A line whose value would not
    be one plain word to the shell is left out and reported.
    """
    if dialect != "worktrunk":
        return tuple(lines), ()
    made = [render(line, values) for line in lines]
    return (
        tuple(line for line in made if isinstance(line, str)),
        tuple(problem for problem in made if isinstance(problem, Problem)),
    )


def environment(
    dialect: Dialect,
    *,
    root: str,
    worktree: str,
    name: str,
    default_branch: str,
    port: int,
    branch: str = "",
) -> dict[str, str]:
    """The variables that set-up, check, agent and teardown of a worktree get: Plait's, and the dialect's names.

    `root` is the user's checkout, `port` the first of the worktree's ten.
    """
    values = {
        "root": root,
        "worktree": worktree,
        "name": name,
        "default_branch": default_branch,
        "port": str(port),
        "branch": branch,
    }
    return {variable: values[key] for variable, key in (_VARIABLES | _ALIASES.get(dialect, {})).items()}


def approval_key(
    repo_path: str, source: str | None, commands: Iterable[str], script_contents: Mapping[str, bytes]
) -> str:
    """The hash that an approval is stored under: any byte changed in any of these makes it another one.

    `script_contents` maps those of `SetupPlan.scripts` which exist to what they hold. Take them from where they will
    be run: before a teardown that is the worktree, which the agent has had in its hands.
    """
    digest = hashlib.sha256(b"plait approval 1\n")
    lines = list(commands)
    fields = [repo_path, "" if source is None else "file", source or "", str(len(lines)), *lines]
    for field in fields:
        _feed(digest, field.encode("utf-8", "surrogateescape"))
    for path, content in sorted(script_contents.items()):
        _feed(digest, path.encode("utf-8", "surrogateescape"))
        _feed(digest, content)
    return digest.hexdigest()


def scripts_in(line: str) -> tuple[str, ...]:
    """Paths inside the repository that a shell line seems to run or read; too many rather than too few."""
    words = [word for word in _BETWEEN_WORDS.split(line) if word]
    found = []
    for before, word in zip(["", *words], words, strict=False):
        if not _PLAIN_PATH.fullmatch(word) or not ("/" in word or _SCRIPT.search(word) or before in _INTERPRETERS):
            continue
        path = inside(word)
        if path is not None:
            found.append(path)
    return _once(found)


def _asked(files: Mapping[str, bytes], platform: str) -> tuple[str | None, Dialect, Asked]:
    text, problems = text_of(files, OWN_FILE)
    own, wrong = parse_repo(text)
    problems += tuple(Problem(p.message, p.line, p.key or OWN_FILE) for p in wrong)
    if own.worktree is not None:
        table = own.worktree
        return OWN_FILE, "plait", Asked(table.setup, table.teardown, table.include, problems=problems)
    for known in FORMATS:
        source = next((name for name in known.files if name in files), None)
        if source is not None:
            asked = known.read(files, platform)
            return source, known.dialect, asked.with_problems(problems)
    return None, "plait", Asked(problems=problems)


def _acceptable(lines: Iterable[str], source: str | None, dialect: Dialect, problems: list[Problem]) -> tuple[str, ...]:
    """The lines that may be shown for approval and run as they are; the others are reported."""
    kept = []
    for written in lines:
        line = written.replace("\r\n", "\n").strip("\n")
        reason = _hidden(line) or (cannot_render(line) if dialect == "worktrunk" else None)
        if reason is not None:
            problems.append(Problem(f"A command is left out because {reason}: {ascii(line)[:80]}", None, source or ""))
        elif line.strip():
            kept.append(line)
    return tuple(kept)


def _hidden(line: str) -> str | None:
    """Why a person who reads the line does not see what it does."""
    for character in line:
        if character in "\n\t\u200c\u200d":
            continue
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            return f"it holds the invisible character U+{ord(character):04X}"
    return None


def _patterns(text: str) -> tuple[str, ...]:
    lines = (line.rstrip("\r") for line in text.split("\n"))
    return tuple(line for line in lines if line.strip() and not line.startswith("#"))


def _unread(files: Mapping[str, bytes], source: str | None) -> tuple[str, ...]:
    if source is not None:
        return ()
    return tuple(
        f"{name} is not read, for it is YAML: put its set-up commands under [worktree] in {OWN_FILE}."
        for name in UNREAD_FILES
        if name in files
    )


def _once(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))


def _feed(digest: hashlib._Hash, field: bytes) -> None:
    # Its length goes before each field, so that no two different lists of fields run together into the same bytes.
    digest.update(b"%d:" % len(field))
    digest.update(field)


_BETWEEN_WORDS = re.compile(r"[\s;&|()<>\"'`=]+")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.@+][A-Za-z0-9_.@+,/-]*")
_SCRIPT = re.compile(r"\.(?:sh|bash|zsh|fish|py|js|cjs|mjs|ts|mts|rb|pl|php|lua|ps1)$")
_INTERPRETERS = frozenset(
    {".", "source", "sh", "bash", "zsh", "dash", "fish", "python", "python3", "node", "ruby", "perl"}
)

_VARIABLES = {
    "PLAIT_ROOT_PATH": "root",
    "PLAIT_WORKSPACE_PATH": "worktree",
    "PLAIT_WORKSPACE_NAME": "name",
    "PLAIT_DEFAULT_BRANCH": "default_branch",
    "PLAIT_PORT": "port",
}

_ALIASES: dict[Dialect, dict[str, str]] = {
    "agent-deck": {"AGENT_DECK_REPO_ROOT": "root", "AGENT_DECK_WORKTREE_PATH": "worktree"},
    "codex": {"CODEX_SOURCE_TREE_PATH": "root", "CODEX_WORKTREE_PATH": "worktree"},
    "conductor": {
        "CONDUCTOR_ROOT_PATH": "root",
        "CONDUCTOR_WORKSPACE_PATH": "worktree",
        "CONDUCTOR_WORKSPACE_NAME": "name",
        "CONDUCTOR_DEFAULT_BRANCH": "default_branch",
        "CONDUCTOR_PORT": "port",
    },
    "cursor": {"ROOT_WORKTREE_PATH": "root"},
    "emdash": {
        "EMDASH_ROOT_PATH": "root",
        "EMDASH_TASK_PATH": "worktree",
        "EMDASH_TASK_NAME": "name",
        "EMDASH_TASK_ID": "name",
        "EMDASH_DEFAULT_BRANCH": "default_branch",
        "EMDASH_PORT": "port",
    },
    "kilo": {"REPO_PATH": "root", "WORKTREE_PATH": "worktree"},
    "paseo": {
        "PASEO_SOURCE_CHECKOUT_PATH": "root",
        "PASEO_ROOT_PATH": "root",
        "PASEO_WORKTREE_PATH": "worktree",
        "PASEO_BRANCH_NAME": "branch",
        "PASEO_WORKTREE_PORT": "port",
    },
    "superset": {
        "SUPERSET_ROOT_PATH": "root",
        "SUPERSET_WORKSPACE_PATH": "worktree",
        "SUPERSET_WORKSPACE_NAME": "name",
    },
}
