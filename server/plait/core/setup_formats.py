"""How other orchestrators write down a repository's set-up, one reader for each file, all in one table.

A reader never raises: what it cannot use becomes a Problem, what is done differently here becomes a note.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from plait.core.config import LONGEST_FILE, Problem, parse_toml

Dialect = Literal[
    "plait",
    "superset",
    "cursor",
    "conductor",
    "codex",
    "emdash",
    "paseo",
    "worktrunk",
    "container-use",
    "kilo",
    "agent-deck",
]


@dataclass(frozen=True)
class Asked:
    """What one set-up file asks for."""

    commands: tuple[str, ...] = ()
    teardown: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    symlinks: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def with_problems(self, problems: tuple[Problem, ...]) -> Asked:
        return replace(self, problems=(*problems, *self.problems))


@dataclass(frozen=True)
class Format:
    """One tool's way of writing a set-up down."""

    dialect: Dialect
    files: tuple[str, ...]
    """Any of these makes the format apply."""
    read: Callable[[Mapping[str, bytes], str], Asked]
    """Takes the contents of the files and the platform in Python's words (`linux`, `darwin`)."""
    beside: tuple[str, ...] = ()
    """Further files that the reader looks at."""


def superset(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.superset/config.json` with `setup` and `teardown` as lists of commands, else the scripts of those names."""
    source = ".superset/config.json"
    reader = _Reader(source)
    data = reader.json(files)
    cwd = reader.text(data, "cwd")
    commands = reader.lines(data, "setup") or _script(files, ".superset/setup.sh")
    teardown = reader.lines(data, "teardown") or _script(files, ".superset/teardown.sh")
    if cwd:
        place = inside(cwd)
        if place is None:
            return reader.refused("cwd", cwd)
        commands, teardown = (tuple(_within(place, line) for line in lines) for lines in (commands, teardown))
    return reader.asked(commands, teardown)


def cursor(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.cursor/worktrees.json`: a list of commands, or the path of a script relative to that file."""
    reader = _Reader(".cursor/worktrees.json")
    data = reader.json(files)
    key = "setup-worktree-unix" if "setup-worktree-unix" in data else "setup-worktree"
    if isinstance(data.get(key), str):
        written = reader.text(data, key)
        script = inside(f".cursor/{written}") if inside(written) is not None else None
        return reader.refused(key, written) if script is None else reader.asked((_run_script(script),))
    return reader.asked(reader.lines(data, key))


def conductor_toml(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.conductor/settings.toml`: `[scripts] setup, archive`, and `file_include_globs`."""
    reader = _Reader(".conductor/settings.toml")
    return _conductor(reader, reader.toml(files), files)


def conductor_json(files: Mapping[str, bytes], platform: str) -> Asked:
    """`conductor.json`, the older form of the same."""
    reader = _Reader("conductor.json")
    return _conductor(reader, reader.json(files), files)


def codex(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.codex/environments/environment.toml`: `script` under `[setup]`, `[cleanup]`, or their `.linux`, `.darwin`."""
    reader = _Reader(".codex/environments/environment.toml")
    data = reader.toml(files)

    def script(phase: str) -> tuple[str, ...]:
        table = reader.table(data, phase)
        return reader.lines(reader.table(table, platform), "script") or reader.lines(table, "script")

    return reader.asked(script("setup"), script("cleanup"))


def emdash(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.emdash.json`: `scripts.prepare`, `.setup`, `.teardown`, each after `shellSetup`, and `preservePatterns`."""
    reader = _Reader(".emdash.json")
    data = reader.json(files)
    scripts = reader.table(data, "scripts")
    before = reader.text(data, "shellSetup")

    def after_shell_setup(*keys: str) -> tuple[str, ...]:
        lines = tuple(line for key in keys for line in reader.lines(scripts, key))
        return tuple(f"{before}\n{line}" for line in lines) if before else lines

    return reader.asked(
        after_shell_setup("prepare", "setup"),
        after_shell_setup("teardown"),
        include=reader.lines(data, "preservePatterns"),
    )


def paseo(files: Mapping[str, bytes], platform: str) -> Asked:
    """`paseo.json`: `worktree.setup` and `worktree.teardown`, each a command or a list of them."""
    reader = _Reader("paseo.json")
    table = reader.table(reader.json(files), "worktree")
    return reader.asked(reader.lines(table, "setup"), reader.lines(table, "teardown"))


def worktrunk(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.config/wt.toml`: the hooks `pre-start` (once `post-create`), `post-start` and `pre-remove`."""
    reader = _Reader(".config/wt.toml")
    data = reader.toml(files)
    started = reader.nested(data, "pre-start") + reader.nested(data, "post-create")
    background = reader.nested(data, "post-start")
    copies = [line for line in (*started, *background) if line.split() == ["wt", "step", "copy-ignored"]]
    commands = tuple(line for line in (*started, *background) if line not in copies)
    include: tuple[str, ...] = ()
    if copies:
        # Where a `.worktreeinclude` lists what to copy it is that; without one the tool copies all that is ignored.
        step = reader.table(reader.table(data, "step"), "copy-ignored")
        everything = () if ".worktreeinclude" in files else ("*",)
        include = everything + tuple(f"!{pattern}" for pattern in reader.lines(step, "exclude"))
        reader.note("`wt step copy-ignored` is done by Plait itself.")
    if any(line not in copies for line in background):
        reader.note(
            "post-start commands run one after the other and before the agent starts; one that never ends, such as"
            " a server, has no place there."
        )
    return reader.asked(commands, reader.nested(data, "pre-remove"), include)


def container_use(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.container-use/environment.json`: `setup_commands` and `install_commands`."""
    reader = _Reader(".container-use/environment.json")
    data = reader.json(files)
    reader.note("No container is made: the commands of container-use run in the worktree, on this machine.")
    return reader.asked(reader.lines(data, "setup_commands") + reader.lines(data, "install_commands"))


def kilo(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.kilo/setup-script`, with or without `.sh`."""
    return Asked(_script(files, ".kilo/setup-script") or _script(files, ".kilo/setup-script.sh"))


def agent_deck(files: Mapping[str, bytes], platform: str) -> Asked:
    """`.agent-deck/worktree-setup.sh` and `worktree-destruction.sh`, run directly if executable, else by `sh -e`."""
    return Asked(_script(files, ".agent-deck/worktree-setup.sh"), _script(files, ".agent-deck/worktree-destruction.sh"))


FORMATS: tuple[Format, ...] = (
    Format("superset", (".superset/config.json", ".superset/setup.sh"), superset, beside=(".superset/teardown.sh",)),
    Format("cursor", (".cursor/worktrees.json",), cursor),
    Format("conductor", (".conductor/settings.toml",), conductor_toml),
    Format("conductor", ("conductor.json",), conductor_json),
    Format("codex", (".codex/environments/environment.toml",), codex),
    Format("emdash", (".emdash.json",), emdash),
    Format("paseo", ("paseo.json",), paseo),
    Format("worktrunk", (".config/wt.toml",), worktrunk),
    Format("container-use", (".container-use/environment.json",), container_use),
    Format("kilo", (".kilo/setup-script", ".kilo/setup-script.sh"), kilo),
    Format(
        "agent-deck",
        (".agent-deck/worktree-setup.sh",),
        agent_deck,
        beside=(".agent-deck/worktree-destruction.sh",),
    ),
)
"""In the order in which they are looked for; the first whose file is there counts."""


def claude_symlinks(files: Mapping[str, bytes]) -> Asked:
    """`worktree.symlinkDirectories` of Claude Code's settings, which goes with whatever else sets a worktree up."""
    reader = _Reader(".claude/settings.json")
    wanted = reader.lines(reader.table(reader.json(files), "worktree"), "symlinkDirectories")
    paths = {path: inside(path) for path in wanted}
    for written, path in paths.items():
        if path is None:
            reader.problem(f"{written!r} in symlinkDirectories is not used: it leads out of the repository.")
    return reader.asked((), symlinks=tuple(dict.fromkeys(path for path in paths.values() if path is not None)))


def text_of(files: Mapping[str, bytes], name: str) -> tuple[str, tuple[Problem, ...]]:
    """A file's text, empty if there is no such file or if it cannot be read, which is then a problem."""
    content = files.get(name, b"")
    if len(content) > LONGEST_FILE:
        return "", (Problem(f"{name} is too long to be read.", None, name),)
    try:
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return "", (Problem(f"{name} is not read: it is not UTF-8.", line, name),)


def inside(path: str) -> str | None:
    """The path in its shortest form if it stays in the repository and out of git's own directory, else None."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith(("/", "~")) or "\\" in path or "\0" in path or not parts:
        return None
    if any(part == ".." or part.casefold().rstrip(". ") == ".git" for part in parts):
        return None
    return "/".join(parts)


class _Reader:
    """One file being read: its problems and notes gather here, under its name."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._problems: list[Problem] = []
        self._notes: list[str] = []

    def json(self, files: Mapping[str, bytes]) -> Mapping[str, object]:
        if self._source not in files:
            return {}
        text, problems = text_of(files, self._source)
        self._problems += problems
        if problems:
            return {}
        try:
            data = json.loads(text)
        except RecursionError:
            self.problem("It nests too deeply to be read.")
            return {}
        except json.JSONDecodeError as error:
            self.problem(f"It is not JSON ({error.msg}).", error.lineno)
            return {}
        except ValueError as error:
            # Python's own limit on the digits of an integer.
            self.problem(f"It is not JSON ({error}).")
            return {}
        if not isinstance(data, dict):
            self.problem("It does not hold a JSON object.")
            return {}
        return data

    def toml(self, files: Mapping[str, bytes]) -> Mapping[str, object]:
        text, problems = text_of(files, self._source)
        data, wrong = parse_toml(text)
        self._problems += problems
        for found in wrong:
            self.problem(found.message, found.line)
        return data

    def table(self, data: Mapping[str, object], key: str) -> Mapping[str, object]:
        value = data.get(key, {})
        if isinstance(value, dict):
            return value
        self.problem(f"`{key}` is not used: it has to be a table.")
        return {}

    def text(self, data: Mapping[str, object], key: str) -> str:
        value = data.get(key)
        if value is None or isinstance(value, str):
            return value or ""
        self.problem(f"`{key}` is not used: it has to be a string.")
        return ""

    def lines(self, data: Mapping[str, object], key: str) -> tuple[str, ...]:
        """A string or a list of strings; a list that holds anything else is not used at all."""
        value = data.get(key)
        if isinstance(value, str):
            value = [value]
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            self.problem(f"`{key}` is not used: it has to be a command or a list of commands.")
            return ()
        return tuple(line for line in value if line.strip())

    def nested(self, data: Mapping[str, object], key: str) -> tuple[str, ...]:
        """The commands in a string, a named table of them, or a list of either, in the order they are written."""
        pending: list[object] = [data[key]] if key in data else []
        found: list[str] = []
        while pending:
            value = pending.pop(0)
            if isinstance(value, str):
                found.append(value)
            elif isinstance(value, (dict, list)):
                pending[:0] = value.values() if isinstance(value, dict) else value
            else:
                self.problem(f"`{key}` holds {value!r}, which is not a command.")
        return tuple(line for line in found if line.strip())

    def problem(self, message: str, line: int | None = None) -> None:
        self._problems.append(Problem(f"{self._source}: {message}", line, self._source))

    def note(self, sentence: str) -> None:
        self._notes.append(sentence)

    def refused(self, key: str, path: str) -> Asked:
        self.problem(f"`{key}` names {path!r}, which is outside the repository; none of it is run.")
        return self.asked(())

    def asked(
        self,
        commands: tuple[str, ...],
        teardown: tuple[str, ...] = (),
        include: tuple[str, ...] = (),
        symlinks: tuple[str, ...] = (),
    ) -> Asked:
        return Asked(commands, teardown, include, symlinks, tuple(self._problems), tuple(self._notes))


def _conductor(reader: _Reader, data: Mapping[str, object], files: Mapping[str, bytes]) -> Asked:
    scripts = reader.table(data, "scripts")
    include = reader.lines(data, "file_include_globs") or (".env*",)
    if ".worktreeinclude" in files:
        include = ()
    if "environment_variables" in data:
        reader.note("`environment_variables` of Conductor's settings are not set.")
    return reader.asked(reader.lines(scripts, "setup"), reader.lines(scripts, "archive"), include)


def _script(files: Mapping[str, bytes], path: str) -> tuple[str, ...]:
    return (_run_script(path),) if path in files else ()


def _run_script(path: str) -> str:
    """A shell line that honours the script's `#!` if it is executable, as the tools do, and else gives it to sh."""
    quoted = shlex.quote(f"./{path}")
    return f"if [ -x {quoted} ]; then {quoted}; else sh -e {quoted}; fi"


def _within(place: str, line: str) -> str:
    return f"cd {shlex.quote('./' + place)} || exit 1\n{line}"
