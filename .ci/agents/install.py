"""Installs the agents that the tests drive, as package.json and aider.txt beside it pin them, below .agents/.

What cannot be had is named with the reason in .agents/missing.json, its tests are skipped, and nothing fails. What is
there is left alone, so that a second run costs nothing. Only the standard library, npm, pip and uv are used; no install
script of a package runs.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PINS = Path(__file__).resolve().parent
PLACE = Path(os.environ.get("PLAIT_TEST_AGENTS") or PINS.parents[1] / ".agents").resolve()
NAMES = {
    "@anthropic-ai/claude-code": "claude",
    "@openai/codex": "codex",
    "opencode-ai": "opencode",
    "@google/gemini-cli": "gemini",
    "@github/copilot": "copilot",
}
PATIENCE_S = 600
UV = "uv==0.13.9"
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ENETUNREACH", "ETIMEDOUT")
"""How npm says that it reaches no registry, so that trying each package would only take longer."""
NPM = (
    "npm",
    "install",
    "--ignore-scripts",
    "--no-package-lock",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=2000",
)


def main() -> None:
    """Install what is missing and say in one line each what could not be had."""
    begun = time.monotonic()
    PLACE.mkdir(parents=True, exist_ok=True)
    pins: dict[str, str] = json.loads((PINS / "package.json").read_text())["dependencies"]
    with ThreadPoolExecutor() as pool:
        aider = pool.submit(install_aider)
        missing = install_packages(pins)
        if reason := aider.result():
            missing["aider"] = reason
    (PLACE / "missing.json").write_text(json.dumps(missing, indent=1, sort_keys=True) + "\n")
    (PLACE / ".tried").touch()
    for name, reason in sorted(missing.items()):
        print(f"agents: {name} could not be installed, so its tests are skipped: {reason}")
    if len(missing) < len(pins) + 1 and time.monotonic() - begun > 1:
        there = sorted({*NAMES.values(), "aider"} - set(missing))
        print(f"agents: {', '.join(there)} are installed below {PLACE} ({time.monotonic() - begun:.0f} s)")


def install_packages(pins: dict[str, str]) -> dict[str, str]:
    """Install npm packages together, or one by one if that does not work; the reasons of those that are missing."""
    if all(there(name, version) for name, version in pins.items()):
        return {}
    if shutil.which("npm") is None:
        return {NAMES[name]: "npm is not on PATH" for name, version in pins.items() if not there(name, version)}
    together = npm(pins)
    if together is None or any(code in together for code in OFFLINE):
        return {NAMES[name]: together or absent(name) for name, version in pins.items() if not there(name, version)}
    missing: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name, version in pins.items():
        reason = npm({**kept, name: version})
        if reason is None and there(name, version):
            kept[name] = version
        else:
            missing[NAMES[name]] = reason or absent(name)
    return missing


def npm(pins: dict[str, str]) -> str | None:
    """Install exactly these packages; the reason if that does not work."""
    wanted = {key: value for name, version in pins.items() for key, value in packages(name, version).items()}
    (PLACE / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}, indent=2) + "\n")
    return attempted([*NPM, "--prefix", str(PLACE)])


def packages(name: str, version: str) -> dict[str, str]:
    """What is installed for a pinned package; OpenCode's own brings two binaries of 177 MB, of which one is used."""
    if name == "opencode-ai":
        return {f"opencode-{variant()}": version}
    return {name: version}


def there(name: str, version: str) -> bool:
    """Whether the pinned version, and the binary that belongs to it here, lies in its place."""
    natives = {
        "@anthropic-ai/claude-code": f"@anthropic-ai/claude-code-{target()}",
        "@openai/codex": f"@openai/codex-{target()}",
        "@github/copilot": f"@github/copilot-{target()}",
    }
    package = next(iter(packages(name, version)))
    if name in natives and not (PLACE / "node_modules" / natives[name] / "package.json").exists():
        return False
    try:
        found = json.loads((PLACE / "node_modules" / package / "package.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(found.get("version") == version)


def absent(name: str) -> str:
    """The reason when npm was content, but the program is not there."""
    return f"{name} has no binary for {target()}"


def target() -> str:
    """This machine as npm's packages name it."""
    processor = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower())
    return f"{platform.system().lower()}-{processor or platform.machine()}"


def variant() -> str:
    """The same for OpenCode, which has another binary for processors without AVX2."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return target()
    return f"{target()}-baseline" if target() == "linux-x64" and "avx2" not in flags else target()


def install_aider() -> str | None:
    """Install Aider in an environment of its own; the reason if that does not work."""
    version = (PINS / "aider.txt").read_text().strip().partition("==")[2]
    program = PLACE / "aider" / "bin" / "aider"
    whole = PLACE / "aider" / ".whole"
    if os.access(program, os.X_OK) and whole.exists() and whole.read_text() == version:
        return None
    shutil.rmtree(PLACE / "aider", ignore_errors=True)
    python = next((found for found in map(shutil.which, ("python3.12", "python3.11", "python3.10")) if found), None)
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        python = sys.executable
    if python is None:
        return "Aider needs Python 3.10 to 3.12, and none is on PATH"
    if reason := attempted([python, "-m", "venv", str(PLACE / "aider")]):
        return reason
    inner = str(PLACE / "aider" / "bin" / "python")
    listed = ["--requirement", str(PINS / "aider.txt")]
    pip = [inner, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    # uv needs seconds for Aider's hundred packages where pip needs minutes; but it does not read pip's configuration.
    fast = [inner, "-m", "uv", "pip", "install", "--quiet", *listed]
    done = attempted([*pip, UV]) is None and attempted(fast) is None
    if not done and (reason := attempted([*pip, *listed])):
        return reason
    whole.write_text(version)
    return None


def attempted(command: list[str]) -> str | None:
    """Run a command, a second time if it fails, since most failures are the network's; the reason if it fails again."""
    reason = ""
    for _ in range(2):
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"{command[0]} did not end within {PATIENCE_S} s"
        except OSError as error:
            return f"{command[0]}: {error.strerror}"
        if done.returncode == 0:
            return None
        reason = told(done.stderr) or told(done.stdout) or f"{Path(command[0]).name} failed ({done.returncode})"
    return reason


def told(output: str) -> str:
    """What npm or pip say went wrong, as one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and "A complete log of this run" not in line]
    errors = [line for line in lines if "error" in line.lower()]
    return " ".join((errors or lines)[:2])[:300]


if __name__ == "__main__":
    main()
