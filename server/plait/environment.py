"""Knows which variables of an editor's or terminal's environment may reach the daemon and the agents.

An allow list, because no list of secrets is ever complete. Imports nothing but the standard library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

ALLOWED = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TERM",
        "COLORTERM",
        "TZ",
        "TMPDIR",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "EDITOR",
        "VISUAL",
        "PAGER",
        "JAVA_HOME",
        "GOPATH",
        "GOROOT",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "PYENV_ROOT",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PNPM_HOME",
        "BUN_INSTALL",
        "DENO_DIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "CI",
    ]
)
"""Names that pass."""
PREFIXES = ("LC_", "XDG_", "NVM_", "ASDF_", "MISE_", "NIX_")
"""Names that begin so pass."""
SUFFIXES = ("_proxy", "_PROXY")
"""Names that end so pass."""

_ALTERING = re.compile(r"(?:GIT|LD|DYLD)_|PYTHON")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)


def pass_on(environ: Mapping[str, str], named: Collection[str] = ()) -> dict[str, str]:
    """The variables of `environ` that are allowed or `named`.

    What would alter git, the loader or Python (`GIT_*`, `LD_*`, `DYLD_*`, `PYTHON*`) and what sounds like a
    secret passes only by its exact name in `named`. Relative and empty entries of PATH go, since they would
    find programs in a repository.
    """
    passed = {name: value for name, value in environ.items() if name in named or _allowed(name)}
    if "PATH" in passed:
        passed["PATH"] = os.pathsep.join(entry for entry in passed["PATH"].split(os.pathsep) if entry.startswith("/"))
    return passed


def _allowed(name: str) -> bool:
    if _ALTERING.match(name) or _SECRET.search(name):
        return False
    return name in ALLOWED or name.startswith(PREFIXES) or name.endswith(SUFFIXES)
