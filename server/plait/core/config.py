"""What may stand in a user's `config.toml` and a repository's `plait.toml`, and what is wrong with a text.

Nothing here raises on bad input: what is wrong falls back to its default and is reported as a Problem.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from plait.core.advice import STRENGTHS

Count = Annotated[int, Field(strict=True, ge=0)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
VariableName = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
AgentName = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

PLACEHOLDERS = ("prompt", "title", "session", "worktree", "port")
"""What `{…}` in a command agent's argv may name; any other braces stay as they are."""

LONGEST_FILE = 1_000_000
"""Characters; a longer file is not parsed, for a parser's time must not be in a repository's hands."""


@dataclass(frozen=True)
class Problem:
    """Something in a file that was not used as it stands there."""

    message: str
    """A sentence: what is wrong, what holds instead."""
    line: int | None = None
    """Counted from 1, where it could be found."""
    key: str = ""
    """The dotted key, or the name of the file that the problem is about."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Table):
    """How much may happen at once."""

    max_running: AtLeastOne = 3
    max_checks: AtLeastOne = 1
    review_backlog: AtLeastOne = 8
    min_free_memory_mb: Count = 1500
    min_free_disk_gb: Count = 5
    launch_interval_s: Seconds = 2.0


class Worktrees(_Table):
    """Where worktrees are made: in a directory of Plait's own, or beside the checkout."""

    location: Literal["managed", "sibling"] = "managed"


class AgentConfig(_Table):
    """One `[agents.NAME]`: an adjustment of a known agent, or (with `kind`) an agent of the user's own."""

    permission: Literal["ask", "edits", "all"] = "ask"
    kind: Literal["command", "acp", "terminal"] | None = None
    """None: NAME is an agent that Plait knows."""
    command: tuple[StrictStr, ...] = ()
    """The argv, run without a shell; see `fill`. For a known agent its program, if it is not to be looked for on
    PATH, or its whole command line."""
    args: tuple[StrictStr, ...] = ()
    """What follows the command."""
    model: Annotated[str, StringConstraints(strict=True, min_length=1)] | None = None
    """In the agent's own words; None: what the agent itself is set to."""
    env: tuple[VariableName, ...] = ()
    """Names of variables that this agent gets besides the usual ones; never their values."""
    unsandboxed: Annotated[bool, Field(strict=True)] = False
    """Whether permission = "all" is meant even though nothing but the worktree holds this agent back."""

    @model_validator(mode="after")
    def _can_be_started(self) -> Self:
        if self.kind is not None and not self.command:
            raise PydanticCustomError("no_command", 'kind = "{kind}" needs a command', {"kind": self.kind})
        if self.command and (not self.command[0].strip() or fill(self.command[:1], _PROBE) != self.command[:1]):
            # Otherwise the text of a task would choose which program is run.
            raise PydanticCustomError("no_program", "the first word of the command has to be a program's name")
        return self


class Environment(_Table):
    """Names of variables that every agent, check and set-up command gets besides the usual ones."""

    passed: tuple[VariableName, ...] = Field(default=(), alias="pass")


class UserConfig(_Table):
    """The whole of `config.toml`."""

    limits: Limits = Limits()
    worktrees: Worktrees = Worktrees()
    agents: dict[AgentName, AgentConfig] = {}
    environment: Environment = Environment()


class WorktreeTable(_Table):
    """`[worktree]` of `plait.toml`: what makes a new worktree usable, and what undoes it."""

    setup: tuple[StrictStr, ...] = ()
    teardown: tuple[StrictStr, ...] = ()
    include: tuple[StrictStr, ...] = ()


class CheckTable(_Table):
    """`[check]` of `plait.toml`: how a session's work is verified."""

    command: StrictStr | None = None
    timeout_s: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 900.0


class RepoConfig(_Table):
    """The whole of `plait.toml`."""

    worktree: WorktreeTable | None = None
    """None when the file has no such table, which lets another tool's set-up file speak."""
    check: CheckTable = CheckTable()


def parse_user(text: str) -> tuple[UserConfig, tuple[Problem, ...]]:
    """The configuration in the text of a `config.toml`, and what of it was not used."""
    data, problems = parse_toml(text)
    config, wrong = _user(data, text)
    return config, problems + wrong


def user_config(data: Mapping[str, object]) -> tuple[UserConfig, tuple[Problem, ...]]:
    """The same from a nested mapping, as an editor's `plait.*` settings are."""
    return _user(data, "")


def parse_repo(text: str) -> tuple[RepoConfig, tuple[Problem, ...]]:
    """The configuration in the text of a `plait.toml`, and what of it was not used."""
    data, problems = parse_toml(text)
    config, wrong = _checked(RepoConfig, data, text)
    return config, problems + wrong


def fill(command: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """The argv with every `{name}` of PLACEHOLDERS that `values` holds replaced, each once and in place.

    What is put in is not looked at again, so that a task text may itself hold `{worktree}`. NUL characters,
    which no argv can carry, are left out.
    """

    def value_of(match: re.Match[str]) -> str:
        return values.get(match[1], match[0]).replace("\0", "")

    return tuple(_PLACEHOLDER.sub(value_of, argument) for argument in command)


def parse_toml(text: str) -> tuple[dict[str, object], tuple[Problem, ...]]:
    """The tables of a TOML text, or nothing and the one problem that kept it from being read."""
    if len(text) > LONGEST_FILE:
        return {}, (Problem("The file is too long to be read; the defaults hold."),)
    try:
        return tomllib.loads(text), ()
    except RecursionError:
        return {}, (Problem("The file nests too deeply to be read; the defaults hold."),)
    except ValueError as error:
        # Besides TOMLDecodeError: Python's own limit on the digits of an integer.
        return {}, (Problem(f"This is not TOML, so the defaults hold: {error}.", _line_in(str(error), text)),)


def _user(data: Mapping[str, object], text: str) -> tuple[UserConfig, tuple[Problem, ...]]:
    config, problems = _checked(UserConfig, data, text)
    unknown = [name for name, agent in config.agents.items() if agent.kind is None and name not in STRENGTHS]
    if not unknown:
        return config, problems
    known = {name: agent for name, agent in config.agents.items() if name not in unknown}
    return config.model_copy(update={"agents": known}), problems + tuple(_no_agent(name, text) for name in unknown)


def _no_agent(name: str, text: str) -> Problem:
    near = difflib.get_close_matches(name[:100], STRENGTHS, n=1, cutoff=0.75)
    hint = f"Did you mean `{near[0]}`? " if near else ""
    message = (
        f"`agents.{name}` is not used: Plait knows no agent of this name, and it has no kind of its own. {hint}"
        f"Known are: {', '.join(STRENGTHS)}."
    )
    return Problem(message, _line_of(text, ("agents", name)), f"agents.{name}")


_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_PROBE = dict.fromkeys(PLACEHOLDERS, "")

_Model = TypeVar("_Model", bound=_Table)


def _checked(model: type[_Model], data: Mapping[str, object], text: str) -> tuple[_Model, tuple[Problem, ...]]:
    """The model made of whatever in `data` is right; each round takes out what the last one found wrong."""
    rest = _copy(data)
    problems: list[Problem] = []
    while True:
        try:
            return model.model_validate(rest), tuple(problems)
        except ValidationError as error:
            reported: set[tuple[str, ...]] = set()
            for detail in error.errors(include_url=False):
                path = _key_path(detail)
                if path not in reported:
                    reported.add(path)
                    problems.append(_problem(model, path, detail, text))
                    _remove(rest, path)
            if not all(reported):
                # Nothing smaller than the whole is to blame.
                return model(), tuple(problems)


def _copy(data: Mapping[str, object]) -> dict[str, object]:
    return {str(key): _copy(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def _key_path(detail: ErrorDetails) -> tuple[str, ...]:
    """The keys down to the value that goes: a list with one wrong entry goes as a whole."""
    path: list[str] = []
    for part in detail["loc"]:
        if isinstance(part, int) or part == "[key]":
            break
        path.append(part)
    return tuple(path)


def _remove(data: dict[str, object], path: tuple[str, ...]) -> None:
    if not path:
        return
    *parents, last = path
    table: object = data
    for key in parents:
        table = table.get(key) if isinstance(table, dict) else None
    if isinstance(table, dict):
        table.pop(last, None)


def _problem(model: type[_Table], path: tuple[str, ...], detail: ErrorDetails, text: str) -> Problem:
    key = ".".join(path)
    line = _line_of(text, path)
    if detail["type"] != "extra_forbidden":
        reason = detail["msg"][:1].lower() + detail["msg"][1:]
        return Problem(f"`{key}` is not used: {reason}.", line, key)
    near = difflib.get_close_matches(path[-1][:100], _names_at(model, path[:-1]), n=1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return Problem(f"`{key}` is not known.{hint}", line, key)


def _names_at(model: type[_Table], path: tuple[str, ...]) -> list[str]:
    """The names that the table at `path` may hold."""
    table: type[_Table] = model
    inside: object = None
    for part in path:
        if inside is not None:
            # `part` is a name the user chose, as in `[agents.NAME]`.
            table, inside = _table_in(inside) or table, None
            continue
        annotation = next((f.annotation for n, f in table.model_fields.items() if (f.alias or n) == part), None)
        if annotation is not None and getattr(annotation, "__origin__", None) is dict:
            inside = get_args(annotation)[1]
        else:
            table = _table_in(annotation) or table
    return [field.alias or name for name, field in table.model_fields.items()]


def _table_in(annotation: object) -> type[_Table] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, _Table):
            return candidate
    return None


_HEADER = re.compile(r"^\s*\[\[?([^\[\]]+)\]\]?")
_ASSIGNMENT = re.compile(r"^\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_\"'-]+)*)\s*=")


def _line_of(text: str, path: tuple[str, ...]) -> int | None:
    """The line that sets the key, or the one that opens its table; None if neither is written plainly."""
    table: tuple[str, ...] = ()
    opened = None
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = _keys(header[1])
            if opened is None and table[: len(path)] == path:
                opened = number
        elif (assignment := _ASSIGNMENT.match(line)) and (table + _keys(assignment[1]))[: len(path)] == path:
            return opened or number
    return opened


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _line_in(message: str, text: str) -> int | None:
    """The line that tomllib's sentence names; it offers no other way before Python 3.14."""
    if found := re.search(r"at line (\d+)", message):
        return int(found[1])
    return text.count("\n") + 1 if "end of document" in message else None
