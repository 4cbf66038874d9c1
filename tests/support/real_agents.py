"""Where the agents' real programs are, and the surroundings in which they reach nothing but a scripted model server.

`make agents` installs them below .agents/ (another place: PLAIT_TEST_AGENTS), pinned in .ci/agents/.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.models import ModelServer

Kind = Literal["claude", "codex", "opencode", "aider", "acp"]

ROOT = Path(os.environ.get("PLAIT_TEST_AGENTS") or Path(__file__).parents[2] / ".agents")
KEY = "sk-ant-scripted-0123456789-abcdef"
"""The key of every provider; the server masks it and takes any."""
MODEL = "fake-1"
CODEX_MODEL = "gpt-5.5"
"""Codex knows its own models only; the newest of them run programs instead of calling tools."""
GEMINI_MODEL = "gemini-2.5-flash"
COST = {"input": 3.0, "output": 15.0, "cache_read": 0.3}
"""What OpenCode and Aider take a million tokens to cost, in dollars; Aider knows no cached ones."""


@dataclass(frozen=True)
class Missing:
    """An agent that is not installed."""

    reason: str


@dataclass(frozen=True)
class RealAgent:
    """An agent that is installed."""

    name: str
    kind: Kind
    command: tuple[str, ...]
    """What the user would configure: with what makes it speak ACP; for Aider, the Python that it is installed in."""
    settings: Callable[[str, Path], Mapping[str, str]]
    """Writes its configuration for a base URL into a home; the variables that go with it."""

    def environment(self, server: ModelServer, scenario: str, home: Path) -> dict[str, str]:
        """A whole environment for it, with a home of its own that is made and filled.

        Several agents may share a home, and then the union of their environments.
        """
        home.mkdir(parents=True, exist_ok=True)
        # Codex starts no helper from a home within the temporary directory, so that has to be elsewhere.
        temporary = home / "tmp"
        temporary.mkdir(exist_ok=True)
        _write(home / ".gitconfig", "[user]\n\tname = Ada\n\temail = ada@example.org\n")
        path = dict.fromkeys(filter(None, (_directory_of("node"), _directory_of("git"), "/usr/bin", "/bin")))
        return {
            "PATH": os.pathsep.join(path),
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "USER": "ada",
            "LANG": "C.UTF-8",
            "SHELL": "/bin/sh" if shutil.which("bash") is None else str(shutil.which("bash")),
            "TERM": "xterm-256color",
            **self.settings(server.base(scenario), home),
        }


def find(name: str) -> RealAgent | Missing:
    """The agent of that name, one of NAMES."""
    kind, settings = _AGENTS[name]
    program = _PROGRAMS[name]()
    if program is None:
        return Missing(f"{name} is not installed: {_recorded(name) or 'run `make agents`'}")
    return RealAgent(name, kind, program, settings)


def _native(package: str, inside: str) -> tuple[str, ...] | None:
    found = sorted(ROOT.glob(f"node_modules/{package}-{_SYSTEM}-{_PROCESSOR}/{inside}"))
    found += sorted(ROOT.glob(f"node_modules/{package}-{_SYSTEM}-{_PROCESSOR}-baseline/{inside}"))
    return next(((str(path),) for path in found if os.access(path, os.X_OK)), None)


def _gemini() -> tuple[str, ...] | None:
    package = ROOT / "node_modules/@google/gemini-cli"
    node = shutil.which("node")
    if node is None or not (package / "package.json").exists():
        return None
    start = json.loads((package / "package.json").read_text())["bin"]["gemini"]
    return node, str(package / start), "--acp"


def _aider() -> tuple[str, ...] | None:
    if not os.access(ROOT / "aider/bin/aider", os.X_OK):
        return None
    return (str(ROOT / "aider/bin/python"),)


def _copilot() -> tuple[str, ...] | None:
    program = _native("@github/copilot", "copilot")
    return None if program is None else (*program, "--acp")


def _claude_settings(base: str, home: Path) -> Mapping[str, str]:
    seen = {"hasCompletedOnboarding": True, "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []}}
    _write(home / ".claude.json", json.dumps(seen))
    return {
        "ANTHROPIC_BASE_URL": base,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # Without it, it refuses to work as root without asking for permissions.
        **({"IS_SANDBOX": "1"} if os.geteuid() == 0 else {}),
    }


def _codex_settings(base: str, home: Path) -> Mapping[str, str]:
    _write(
        home / ".codex/config.toml",
        f"""model = "{CODEX_MODEL}"
model_provider = "scripted"
check_for_update_on_startup = false

[model_providers.scripted]
name = "scripted"
base_url = "{base}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 3
stream_max_retries = 3

[analytics]
enabled = false

[feedback]
enabled = false

[features]
apps = false
plugins = false
""",
    )
    return {"CODEX_HOME": str(home / ".codex"), "OPENAI_API_KEY": KEY}


def _opencode_settings(base: str, home: Path) -> Mapping[str, str]:
    model = {
        "name": "Scripted",
        "tool_call": True,
        "limit": {"context": 200_000, "output": 8_000},
        "cost": COST,
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Scripted",
        "options": {"baseURL": f"{base}/v1", "apiKey": KEY},
        "models": {MODEL: model},
    }
    config = {
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "model": f"scripted/{MODEL}",
        "small_model": f"scripted/{MODEL}",
        "enabled_providers": ["scripted"],
        "provider": {"scripted": provider},
    }
    _write(home / ".config/opencode/opencode.json", json.dumps(config))
    # It installs a package for plugins into every directory with a configuration, whether there are plugins or not.
    _write(home / ".npmrc", "registry=http://127.0.0.1:9/\nfetch-retries=0\noffline=true\n")
    return {
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    }


def _aider_settings(base: str, home: Path) -> Mapping[str, str]:
    price = {
        "max_tokens": 8_000,
        "max_input_tokens": 200_000,
        "max_output_tokens": 8_000,
        "input_cost_per_token": COST["input"] / 1_000_000,
        "output_cost_per_token": COST["output"] / 1_000_000,
        "litellm_provider": "openai",
        "mode": "chat",
    }
    _write(home / "prices.json", json.dumps({f"openai/{MODEL}": price}))
    config = {
        "model": f"openai/{MODEL}",
        "model-metadata-file": str(home / "prices.json"),
        "openai-api-base": f"{base}/v1",
        "openai-api-key": KEY,
        "edit-format": "diff",
        "map-tokens": 0,
        "analytics": False,
        "check-update": False,
        "show-model-warnings": False,
        "show-release-notes": False,
        "detect-urls": False,
    }
    # JSON is YAML.
    _write(home / ".aider.conf.yml", json.dumps(config, indent=1))
    return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "AIDER_ANALYTICS": "false"}


def _gemini_settings(base: str, home: Path) -> Mapping[str, str]:
    config = {
        "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "model": {"name": GEMINI_MODEL},
    }
    _write(home / ".gemini/settings.json", json.dumps(config))
    return {
        "GEMINI_API_KEY": KEY,
        "GOOGLE_GEMINI_BASE_URL": base,
        "GEMINI_CLI_NO_RELAUNCH": "true",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }


def _copilot_settings(base: str, home: Path) -> Mapping[str, str]:
    return {
        "COPILOT_OFFLINE": "true",
        "COPILOT_PROVIDER_BASE_URL": f"{base}/v1",
        "COPILOT_PROVIDER_API_KEY": KEY,
        "COPILOT_MODEL": MODEL,
        "COPILOT_AUTO_UPDATE": "false",
    }


_SYSTEM = platform.system().lower()
_PROCESSOR = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())

_PROGRAMS: Mapping[str, Callable[[], tuple[str, ...] | None]] = {
    "claude": lambda: _native("@anthropic-ai/claude-code", "claude"),
    "codex": lambda: _native("@openai/codex", "vendor/*/bin/codex"),
    "opencode": lambda: _native("opencode", "bin/opencode"),
    "aider": _aider,
    "gemini": _gemini,
    "copilot": _copilot,
}
_AGENTS: Mapping[str, tuple[Kind, Callable[[str, Path], Mapping[str, str]]]] = {
    "claude": ("claude", _claude_settings),
    "codex": ("codex", _codex_settings),
    "opencode": ("opencode", _opencode_settings),
    "aider": ("aider", _aider_settings),
    "gemini": ("acp", _gemini_settings),
    "copilot": ("acp", _copilot_settings),
}
NAMES = tuple(_AGENTS)


def _recorded(name: str) -> str | None:
    """Why `make agents` could not install it, if it tried."""
    try:
        reasons = json.loads((ROOT / "missing.json").read_text())
    except (OSError, ValueError):
        return None
    return str(reasons[name]) if name in reasons else None


def _directory_of(program: str) -> str | None:
    found = shutil.which(program)
    return None if found is None else str(Path(found).parent)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
