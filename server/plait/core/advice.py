"""Which agents Plait knows, what each is good for, and which of them suits a task: the guide's advice as a table.

The kind of a task is told by words in its text, each with a weight; nothing is asked of a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

TaskKind = Literal[
    "architecture",
    "refactoring",
    "debugging",
    "integration",
    "migration",
    "tests",
    "bug fix",
    "documentation",
    "interface",
    "exploration",
    "pairing",
    "quick edit",
    "model choice",
    "well-defined",
    "general",
]

Login = Literal["yes", "no", "unknown"]
"""Whether an agent has what it needs to reach its provider, as far as that can be told."""


@dataclass(frozen=True)
class Strength:
    """An agent that Plait knows, and what it is good for."""

    title: str
    good_for: str
    guided: bool = False
    """The guide says so; of the others it says nothing."""


STRENGTHS: Mapping[str, Strength] = {
    "claude": Strength("Claude Code", "complex multi-file refactors, architecture, subtle bugs, MCP tools", True),
    "codex": Strength("Codex CLI", "well-scoped tasks, tests, autonomous runs, cheaper OpenAI models", True),
    "opencode": Strength("OpenCode", "free choice of models (75+ providers, local ones too), cost, LSP", True),
    "aider": Strength("Aider", "small focused changes, pair programming with much back and forth", True),
    "gemini": Strength("Gemini CLI", "Google's models"),
    "copilot": Strength("Copilot CLI", "the models of a GitHub Copilot plan"),
    "cursor": Strength("Cursor CLI", "the models of a Cursor plan"),
    "goose": Strength("Goose", "extensions, and models of many providers"),
    "qwen": Strength("Qwen Code", "Qwen's models"),
    "kimi": Strength("Kimi CLI", "Moonshot's models"),
    "droid": Strength("Factory Droid", "the models of a Factory plan"),
    "kiro": Strength("Kiro CLI", "the models of a Kiro plan"),
    "claude-acp": Strength("Claude Code over ACP", "what Claude Code is, where its own protocol cannot be used"),
    "codex-acp": Strength("Codex over ACP", "what Codex is, where its own protocol cannot be used"),
    "opencode-acp": Strength("OpenCode over ACP", "what OpenCode is, without a server that sessions share"),
}
"""By the name that `--agent` takes, in the order in which they are preferred if nothing else decides."""


@dataclass(frozen=True)
class Told:
    """The kind of a task, and the words that told it (none if nothing did)."""

    kind: TaskKind
    words: str = ""


@dataclass(frozen=True)
class Suggestion:
    """An agent for a task, and why, in one sentence."""

    agent: str
    reason: str
    kind: TaskKind


def kind_of_task(text: str) -> Told:
    """What kind of work the text asks for: the kind with the most weight in words, the earlier kind at a tie."""
    read = text[:_READ]
    best: tuple[int, Told] = (0, Told("general"))
    for kind, signals in _SIGNALS.items():
        found = [(weight * _emphasis(match), match) for weight, signal in signals if (match := signal.search(read))]
        total = sum(weight for weight, _ in found)
        if total > best[0]:
            _, strongest = max(found, key=lambda one: (one[0], -one[1].start()))
            best = total, Told(kind, _quotable(strongest[0]))
    if best[0] == 0 and (named := _NAMED.search(read)):
        return Told("well-defined", _quotable(named[0]))
    return best[1]


def suggest(text: str, available: Sequence[str], logins: Mapping[str, Login] | None = None) -> Suggestion | None:
    """The agent of `available` that suits the task best; None if there is none at all.

    One that is logged in comes before one of which that is not known, and that before one that is not: the best
    agent for a task is of no use if it cannot start.
    """
    if not available:
        return None
    told = kind_of_task(text)
    suited = _ranked(told.kind, available)
    known = logins or {}
    agent = min(suited, key=lambda name: _TIERS.get(known.get(name, "unknown"), 1))
    return Suggestion(agent, _reason(told, agent, suited[0]), told.kind)


def title_of(name: str) -> str:
    """The name that people know the agent by."""
    return STRENGTHS[name].title if name in STRENGTHS else name


_READ = 20_000
"""Characters of a task that are looked at."""
_OPENING = 200
"""Characters at the beginning that count double: there stands what is wanted, below how."""
_LONGEST_QUOTE = 40
_TIERS = {"yes": 0, "unknown": 1, "no": 2}

_SUITED: Mapping[TaskKind, tuple[str, ...]] = {
    "architecture": ("claude", "codex", "opencode"),
    "refactoring": ("claude", "codex", "opencode"),
    "debugging": ("claude", "codex", "opencode"),
    "integration": ("claude", "codex", "opencode"),
    "migration": ("claude", "codex", "opencode"),
    "interface": ("claude", "codex", "opencode"),
    "exploration": ("claude", "codex", "opencode"),
    "tests": ("codex", "claude", "opencode"),
    "bug fix": ("codex", "claude", "aider"),
    "documentation": ("codex", "claude", "aider"),
    "well-defined": ("codex", "claude", "opencode"),
    "quick edit": ("aider", "codex", "claude"),
    "pairing": ("aider", "claude", "codex"),
    "model choice": ("opencode", "aider", "goose"),
    "general": ("claude", "codex"),
}
"""From the guide's section on choosing an agent; what it does not name goes where its own words come nearest."""

_BECAUSE: Mapping[TaskKind, str] = {
    "architecture": "an architectural change",
    "refactoring": "a refactoring over several files",
    "debugging": "a bug that has to be understood first",
    "integration": "work with MCP tools",
    "migration": "a migration over several files",
    "interface": "work on a user interface",
    "exploration": "an exploration of the code",
    "tests": "tests or boilerplate, which is well-scoped work",
    "bug fix": "a clearly defined fix",
    "documentation": "documentation, which is well-scoped work",
    "well-defined": "a clearly defined task",
    "quick edit": "a small, focused change",
    "pairing": "work with much back and forth",
    "model choice": "a choice of models or of cost",
}


def _signals(*rows: tuple[int, str]) -> tuple[tuple[int, re.Pattern[str]], ...]:
    return tuple((weight, re.compile(rf"\b(?:{words})\b", re.IGNORECASE)) for weight, words in rows)


_SIGNALS: Mapping[TaskKind, tuple[tuple[int, re.Pattern[str]], ...]] = {
    "architecture": _signals(
        (4, r"architect\w*|re-?design\w*|restructur\w*|re-?architect\w*"),
        (3, r"decoupl\w*|dependency injection|plugin system|new pattern|split [^.\n]{0,40}into (?:modules|packages)"),
        (2, r"abstraction layer|module structure|service layer"),
    ),
    "refactoring": _signals(
        (4, r"refactor\w*"),
        (3, r"de-?duplicat\w*|consolidat\w*|multi-file|untangle\w*"),
        (2, r"across (?:the |all )?(?:code ?base|repo(?:sitory)?|files|modules|packages)|everywhere|clean(?:ing)? up"),
        (2, r"extract [^.\n]{0,40}(?:class|function|method|module|helper)"),
    ),
    "debugging": _signals(
        (5, r"race conditions?|dead-?locks?|memory leaks?|heisenbug|flak(?:y|iness)|root cause"),
        (4, r"debug\w*|investigat\w*|intermittent\w*|figure out why|find out why"),
        (2, r"sometimes|randomly|once in a while|hangs?|crash(?:es|ed)?"),
    ),
    "integration": _signals((5, r"MCP(?: servers?| tools?)?")),
    "migration": _signals(
        (4, r"migrat\w*"),
        (3, r"upgrad\w*|port [^.\n]{0,40}(?:to|from)|convert [^.\n]{0,60}(?:to|into)|move (?:from|off) \w+"),
        (2, r"replac\w* [^.\n]{0,40}(?:by|with)|deprecat\w*|switch (?:from|to)"),
    ),
    "tests": _signals(
        (6, r"(?:add|write|generate|create|extend|increase|improve)(?:ing)? [^.\n]{0,40}(?:tests?|coverage|fixtures?)"),
        (3, r"test coverage|unit tests for|boiler-?plate|scaffold\w*|property tests?"),
    ),
    "bug fix": _signals(
        (4, r"fix(?:es|ed|ing)?|bugs?|bug-?fix"),
        (3, r"null pointer|off[- ]by[- ]one|regression|traceback|[A-Z]\w*(?:Error|Exception)|instead of"),
        (2, r"wrong(?:ly)?|broken|fails?|failing|incorrect(?:ly)?"),
    ),
    "documentation": _signals(
        (5, r"document(?:ation|ing)?|docs|read-?me(?:\.md)?|doc-?strings?|change-?log"),
        (2, r"tutorial|guide|user manual|comments"),
    ),
    "interface": _signals(
        (4, r"UI|user interface|front-?end|dark mode|CSS|style-?sheets?"),
        (3, r"buttons?|layout|responsive|modals?|dialogs?|tool-?tips?|web ?page|landing page|icons?"),
    ),
    "exploration": _signals(
        (4, r"explor\w*|prototyp\w*|spike|proof of concept|research"),
        (3, r"explain|how does|compare|propose|understand|evaluate"),
    ),
    "pairing": _signals((4, r"pair(?: with me| program\w*)|back and forth|step by step with me|iterat(?:e|ively|ing)")),
    "quick edit": _signals(
        (6, r"typos?|one-liner?|one line|spelling|misspell\w*"),
        (4, r"quick(?:ly)?|tiny|trivial|tweak\w*|bump"),
        (3, r"small|minor|simple|rename|change the (?:text|label|colou?r|constant|default|wording|message)"),
    ),
    "model choice": _signals(
        (6, r"ollama|local models?|open(?:-weight)? models?|other providers?"),
        (3, r"cheap(?:ly|est)?|low cost|cost-sensitive"),
    ),
}

_NAMED = re.compile(
    r"`[^`\n]{1,60}`|\b\w+\.\w+\(\)|\b[A-Z]\w+\.[a-z_]\w+\b|\b[\w/-]+\.(?:py|ts|tsx|js|go|rs|java|c|cpp|rb)\b"
)
"""What only a text holds that says where: code in backquotes, `Class.method`, a source file."""


def _emphasis(match: re.Match[str]) -> int:
    return 2 if match.start() < _OPENING else 1


def _quotable(words: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split()).strip("`")
    return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1].rstrip() + "…"


def _ranked(kind: TaskKind, available: Sequence[str]) -> list[str]:
    order = [*_SUITED[kind], *STRENGTHS]
    return sorted(available, key=lambda name: order.index(name) if name in order else len(order))


def _reason(told: Told, agent: str, best: str) -> str:
    chosen = title_of(agent)
    if told.words:
        why = f"“{told.words}” speaks of {_BECAUSE[told.kind]}"
    else:
        why = "Nothing in the text tells what kind of task this is"
    if agent != best:
        return f"{why}; {title_of(best)} would suit it best, but {chosen} is more likely to be logged in."
    if agent not in _SUITED[told.kind]:
        return f"{why}; of the agents that are installed, {chosen} comes nearest."
    if told.kind == "general":
        return f"{why}; {chosen} is a good one to begin with."
    return f"{why}, and that is what {chosen} is good for."
