"""The layers of the package hold: imports point down only, the core is pure, the supervisor stands alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import plait

ROOT = Path(__file__).resolve().parents[1]


def test_the_import_contracts_are_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_supervisor_imports_only_the_standard_library() -> None:
    tree = ast.parse((Path(plait.__file__).parent / "supervisor" / "program.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert imported <= sys.stdlib_module_names


def test_the_proxy_loads_nothing_heavy() -> None:
    code = "import sys, plait.proxy; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pygls", "lsprotocol", "pydantic", "typer", "rich", "git", "psutil", "asyncio", "cattrs"}
    assert not heavy & set(done.stdout.split())


def test_no_shell_is_ever_asked_to_interpret_a_command_line() -> None:
    for path in Path(plait.__file__).parent.rglob("*.py"):
        assert "shell=True" not in path.read_text(), path


def test_nothing_speaks_to_a_network() -> None:
    clients = {
        "aiohttp",
        "ftplib",
        "http",
        "httpx",
        "imaplib",
        "poplib",
        "requests",
        "smtplib",
        "urllib.request",
        "urllib3",
    }
    package = Path(plait.__file__).parent
    # They speak with a server that they have started themselves, on this machine.
    local = {package / "agents" / "programs" / name for name in ("opencode_host.py", "opencode_bridge.py")}
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        if path in local:
            hosts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not {host for host in hosts if isinstance(host, str) and "://" in host} - {
                "http://127.0.0.1:",
                "file://",
            }, path
            continue
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name for name in imported if name in clients or name.split(".")[0] in clients}, path
        # A port is only tried for being free, and only on this machine.
        inet = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & {"AF_INET", "AF_INET6"}
        assert not inet or path == package / "engine" / "ports.py", path
