"""Knows which variables of an editor's or terminal's environment may reach the daemon and the agents.

An allow list, because no list of secrets is ever complete. Imports nothing but the standard library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping

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

AGENT_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "anthropic": (
        "ANTHROPIC_*",
        "CLAUDE_CODE_*",
        "CLAUDE_CONFIG_DIR",
        "API_TIMEOUT_MS",
        "BASH_DEFAULT_TIMEOUT_MS",
        "BASH_MAX_TIMEOUT_MS",
        "DISABLE_AUTOUPDATER",
        "DISABLE_ERROR_REPORTING",
        "DISABLE_PROMPT_CACHING",
        "DISABLE_TELEMETRY",
        "MAX_MCP_OUTPUT_TOKENS",
        "MAX_THINKING_TOKENS",
        "MCP_TIMEOUT",
        "MCP_TOOL_TIMEOUT",
    ),
    "openai": ("OPENAI_*", "CODEX_*", "AZURE_OPENAI_*"),
    "opencode": ("OPENCODE_*",),
    "aider": ("AIDER_*", "LITELLM_*"),
    "google": ("GEMINI_*", "GOOGLE_*", "GCLOUD_PROJECT", "VERTEXAI_PROJECT", "VERTEXAI_LOCATION", "CLOUD_ML_REGION"),
    "aws": ("AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"),
    "github": ("COPILOT_*", "GH_TOKEN", "GH_HOST", "GITHUB_TOKEN"),
    "cursor": ("CURSOR_API_KEY", "CURSOR_CONFIG_DIR"),
    "goose": ("GOOSE_*",),
    "qwen": ("QWEN_*", "DASHSCOPE_*", "BAILIAN_*"),
    "kimi": ("KIMI_*", "MOONSHOT_*"),
    "factory": ("FACTORY_*", "DROID_*"),
    "kiro": ("KIRO_*",),
    "providers": (
        "AZURE_API_BASE",
        "AZURE_API_KEY",
        "AZURE_API_VERSION",
        "CEREBRAS_API_KEY",
        "COHERE_API_KEY",
        "DATABRICKS_HOST",
        "DATABRICKS_TOKEN",
        "DEEPSEEK_API_KEY",
        "FIREWORKS_API_KEY",
        "GROQ_API_KEY",
        "HF_TOKEN",
        "LM_STUDIO_API_BASE",
        "LM_STUDIO_API_KEY",
        "MISTRAL_API_KEY",
        "OLLAMA_*",
        "OPENROUTER_API_KEY",
        "PERPLEXITY_API_KEY",
        "TOGETHER_API_KEY",
        "XAI_API_KEY",
        "ZAI_API_KEY",
        "ZHIPU_API_KEY",
    ),
}
"""By whom they are read: names that agents may have, or with `*` at the end what such names begin with.

General credentials of a cloud (`AWS_SECRET_ACCESS_KEY` and its like) are not among them: they open more than models,
so that they pass only where the user's configuration names them.
"""
EVERY_AGENT = tuple(dict.fromkeys(pattern for group in AGENT_VARIABLES.values() for pattern in group))
"""What some agent may have; the daemon gives each one its own."""
MARKS = (
    "CLAUDE_CODE_AGENT*",
    "CLAUDE_CODE_CHILD_*",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_EXECPATH",
    "CLAUDE_CODE_REMOTE*",
    "CLAUDE_CODE_SESSION*",
    "CLAUDE_CODE_SSE_PORT",
    "CODEX_CI",
    "CODEX_SANDBOX*",
    "CODEX_SESSION_ID",
    "CODEX_THREAD_ID",
    "CODEX_TOOL_CALL_ID",
    "COPILOT_CLI*",
    "GEMINI_CLI",
    "GOOSE_TERMINAL",
    "OPENCODE_PID",
    "OPENCODE_RUN_ID",
    "OPENCODE_SERVER_*",
    "OPENCODE_WORKSPACE_ID",
    "QWEN_CODE",
)
"""What agents and editors tell the programs that they start: an agent that found them would take itself for part of
another one, when Plait is used from an agent's own shell."""

_ALTERING = re.compile(r"(?:GIT|LD|DYLD)_|PYTHON")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)


def pass_on(environ: Mapping[str, str], named: Collection[str] = (), patterns: Collection[str] = ()) -> dict[str, str]:
    """The variables of `environ` that are allowed, `named`, or among the `patterns` of agents.

    What would alter git, the loader or Python (`GIT_*`, `LD_*`, `DYLD_*`, `PYTHON*`) and what sounds like a
    secret passes only by its exact name in `named`, or as the patterns of an agent say (see `of_agents`). Relative
    and empty entries of PATH go, since they would find programs in a repository.
    """
    passed = {name: value for name, value in environ.items() if name in named or _allowed(name)}
    passed |= of_agents(environ, patterns)
    if "PATH" in passed:
        passed["PATH"] = os.pathsep.join(entry for entry in passed["PATH"].split(os.pathsep) if entry.startswith("/"))
    return passed


def of_agents(environ: Mapping[str, str], patterns: Collection[str]) -> dict[str, str]:
    """The variables of `environ` that the patterns of AGENT_VARIABLES fit, without the MARKS of another agent."""
    return {name: value for name, value in environ.items() if _fits(name, patterns) and not _fits(name, MARKS)}


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in patterns)


def _allowed(name: str) -> bool:
    if _ALTERING.match(name) or _SECRET.search(name):
        return False
    return name in ALLOWED or name.startswith(PREFIXES) or name.endswith(SUFFIXES)
