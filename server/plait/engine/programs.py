"""From a name on PATH to the program that really does the work: through shims of npm, pnpm, yarn and bun to the native
binary, and from a Python script to its interpreter.

Only reads files. The layouts are those of https://nodejs.org/api/modules.html (where a package looks for another),
pnpm's cmd-shim, and the launchers that pip, uv and pipx write.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.agents.presets import Npm


@dataclass(frozen=True)
class Program:
    """What is executed, or None with the reason in the note; else the note says what is not as it should be."""

    path: str | None
    note: str = ""


@dataclass(frozen=True)
class Machine:
    """What platform packages are chosen by."""

    os: str
    """linux or darwin."""
    arch: str
    """x64 or arm64."""
    musl: bool = False
    old_cpu: bool = False
    """An x64 processor without AVX2."""

    @property
    def triple(self) -> str:
        vendor = "apple-darwin" if self.os == "darwin" else "unknown-linux-musl"
        return f"{'aarch64' if self.arch == 'arm64' else 'x86_64'}-{vendor}"


def find(names: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The first program of these names on PATH that can be executed, or the name itself if it is an absolute path.

    Relative entries of PATH are left out: they would find programs in a repository.
    """
    entries = environment.get("PATH", os.defpath).split(os.pathsep)
    for name in names:
        if name.startswith("/"):
            candidates = [name]
        elif "/" in name or not name:
            continue
        else:
            candidates = [f"{entry.rstrip('/')}/{name}" for entry in entries if entry.startswith("/")]
        for path in candidates:
            if _executable(Path(path)):
                return path
    return None


def native(program: str, npm: Npm, machine: Machine | None = None) -> Program:
    """The native binary behind a command of that npm package; the command itself if it belongs to no such package."""
    root = package_root(program, npm.package)
    if root is None or not npm.natives:
        return Program(program)
    target = _target(program)
    if _is_binary(target):
        # The package's own script has put the binary in the shim's place.
        return Program(str(target))
    for place in _places(npm, machine or this_machine()):
        for directory in _modules(root):
            path = directory / place
            if _executable(path) and _is_binary(path):
                return Program(str(path))
    return Program(program, "its native binary was not found, so the shim is run, and stopping may take longer")


def interpreted(program: str, environment: Mapping[str, str]) -> Program:
    """The interpreter that a Python script is run by, as its first lines name it."""
    head = _head(program)
    if not head.startswith("#!"):
        return Program(None, f"{program} is not a script, so its Python cannot be told")
    path = _polyglot(head, program) or _shebang(head, environment)
    if path is None or "python" not in Path(path).name:
        return Program(None, f"{program} does not say which Python runs it")
    if not _executable(Path(path)):
        return Program(None, f"{path}, the Python of {program}, cannot be executed")
    return Program(path)


def package_root(program: str, package: str) -> Path | None:
    """The directory of the npm package that a command belongs to, if it belongs to it."""
    target = _target(program)
    for directory in list(target.parents)[:_DEPTH]:
        manifest = directory / "package.json"
        if manifest.is_file():
            document = read_json(manifest)
            if isinstance(document, dict) and document.get("name") == package:
                return directory
    return None


def read_json(path: Path) -> object:
    """The document in a file, which may begin its lines with `//` for comments; None if there is none to be read."""
    try:
        text = path.read_text("utf-8-sig")
        return json.loads(_COMMENT.sub("", text))
    except (OSError, ValueError, RecursionError):
        return None


@functools.cache
def this_machine() -> Machine:
    """The machine that this runs on."""
    system = "darwin" if sys.platform == "darwin" else "linux"
    arch = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x64"
    if system == "darwin":
        return Machine(system, arch)
    try:
        old = arch == "x64" and not re.search(r"\bavx2\b", Path("/proc/cpuinfo").read_text("utf-8", "replace"))
    except OSError:
        old = False
    return Machine(system, arch, musl=platform.libc_ver()[0] != "glibc", old_cpu=old)


_DEPTH = 6
"""How far above a script its package's directory may lie."""
_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)
_HEAD = 8192
_MAGIC = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How an ELF file, a Mach-O file and a universal one begin."""
_PNPM = re.compile(r"^\s*exec\b[^\n]*?\"(?P<path>(?:\$basedir)?/[^\"$]+)\"\s+\"\$@\"", re.MULTILINE)
"""The script that pnpm's launcher executes, below its own directory unless that is absolute."""
_EXEC = re.compile(r"^'''exec'\s+(?P<path>'[^'\n]+'|\"[^\"$\n]+\"|[^'\"\s]+)\s+(?:-\w+\s+)*\"\$0\"", re.MULTILINE)
"""The second line of a launcher whose interpreter's path is too long, or has blanks, for a first line."""
_BESIDE = re.compile(r"^'''exec'\s+\"\$\(dirname [^\n]*?\)\"/'?(?P<name>python[\w.]*)'?", re.MULTILINE)
"""The same in an environment that can be moved: the interpreter beside the script."""


def _target(program: str) -> Path:
    """The file behind a command: symbolic links are followed, and pnpm's launcher."""
    path = Path(os.path.realpath(program))
    head = _head(str(path))
    if head.startswith("#!") and (match := _PNPM.search(head)):
        for place in (Path(program).parent, path.parent):
            behind = Path(os.path.realpath(match["path"].replace("$basedir", str(place), 1)))
            if behind.is_file():
                return behind
    return path


def _places(npm: Npm, machine: Machine) -> Iterator[str]:
    chosen = npm.musl if machine.musl and npm.musl else npm.natives
    for template in (*(npm.old_cpu if machine.old_cpu and chosen is npm.natives else ()), *chosen):
        yield template.format(os=machine.os, arch=machine.arch, triple=machine.triple)


def _modules(root: Path) -> Iterator[Path]:
    """Where Node.js looks for a package that this one needs, the nearest first."""
    yield root / "node_modules"
    for directory in root.parents:
        yield directory if directory.name == "node_modules" else directory / "node_modules"


def _shebang(head: str, environment: Mapping[str, str]) -> str | None:
    words = head[2:].split("\n", 1)[0].split()
    if words and Path(words[0]).name == "env":
        named = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
        return find((named,), environment)
    return words[0] if words and words[0].startswith("/") else None


def _polyglot(head: str, program: str) -> str | None:
    if match := _EXEC.search(head):
        return match["path"].strip("'\"")
    if match := _BESIDE.search(head):
        return str(Path(os.path.realpath(program)).parent / match["name"])
    return None


def _head(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return ""


def _is_binary(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in _MAGIC
    except OSError:
        return False


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
