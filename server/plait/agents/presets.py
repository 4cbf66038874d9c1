"""The agents that Plait knows how to find: programs, arguments, variables, places of binaries, traces of a login.

Only descriptions; `plait.engine.detection` looks at the disk. What is said of an agent with `tested` was seen with that
version of it; of the others only their documentation is known: https://agentclientprotocol.com/overview/agents and
https://github.com/agentclientprotocol/registry for the command lines, each agent's own pages for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from plait.core.advice import STRENGTHS, Login
from plait.environment import AGENT_VARIABLES, of_agents

Kind = Literal["claude", "codex", "opencode", "aider", "acp"]


@dataclass(frozen=True)
class Npm:
    """The npm package that an agent's command belongs to, and where native binaries lie in its platform packages.

    The command of such a package is a shim of Node.js that keeps the native program as its child, which a signal to
    the shim does not reach; so the native program is executed directly. `{os}` is linux or darwin, `{arch}` x64 or
    arm64, `{triple}` Rust's name of the platform; the first that exists is taken.
    """

    package: str
    natives: tuple[str, ...] = ()
    musl: tuple[str, ...] = ()
    """The same on a Linux with musl instead of glibc; none: those above are linked statically."""
    old_cpu: tuple[str, ...] = ()
    """The same on an x64 processor without AVX2."""


@dataclass(frozen=True)
class Trace:
    """A file that tells of a login, below `{VARIABLE:place}`: the variable's value, or else the place."""

    path: str
    keys: tuple[str, ...] = ()
    """Dotted keys in a JSON or TOML file, one of which holds something; none: the file is not empty."""
    means: Login = "yes"


@dataclass(frozen=True)
class LoginCheck:
    """How it is told, without the network and without running the agent, whether an agent is logged in."""

    variables: tuple[str, ...] = ()
    """Each of them is enough."""
    traces: tuple[Trace, ...] = ()
    """Looked at in this order."""
    otherwise: Login = "unknown"
    """What it means when there is no sign of a login."""
    because: str = ""
    """Why that is not `no`, as the end of a sentence."""
    hint: str = ""
    """What the user does to log in, as a whole sentence."""


@dataclass(frozen=True)
class Preset:
    """One known agent; its title and what it is good for are in `plait.core.advice.STRENGTHS`."""

    name: str
    kind: Kind
    programs: tuple[str, ...]
    """Names to look for on PATH, the best first."""
    variables: tuple[str, ...]
    """What it may have of the user's environment; see `plait.environment.AGENT_VARIABLES`."""
    install: str
    """A command line that installs it, or an address that says how."""
    login: LoginCheck
    account: str
    """The provider account that it spends from, as far as that is the same for all its users."""
    args: tuple[str, ...] = ()
    """What follows the program, before what the adapter adds."""
    npm: Npm | None = None
    interpreter: bool = False
    """What is executed is the Python that the program's first line names, with a program of ours."""
    distribution: str = ""
    """The Python distribution that a program with an interpreter belongs to, as its metadata is named."""
    tested: str = ""
    """The version that was driven by Plait's tests; none: never run with Plait so far."""

    @property
    def title(self) -> str:
        return STRENGTHS[self.name].title

    @property
    def good_for(self) -> str:
        return STRENGTHS[self.name].good_for

    @property
    def install_hint(self) -> str:
        """What the user does to install it, as a whole sentence."""
        if self.install.startswith("https:"):
            return f"Install it as {self.install} says."
        return f"Install it with `{self.install}`."


def variables_for(preset: Preset, environment: Mapping[str, str]) -> dict[str, str]:
    """Of an environment that holds the variables of all agents, those that this one may have."""
    return of_agents(environment, preset.variables)


def _npm(package: str) -> str:
    return f"npm install -g {package}"


_ANTHROPIC = (*AGENT_VARIABLES["anthropic"], *AGENT_VARIABLES["aws"], *AGENT_VARIABLES["google"])
_OPENAI = AGENT_VARIABLES["openai"]
_PROVIDERS = (
    "ANTHROPIC_*",
    "OPENAI_*",
    "AZURE_OPENAI_*",
    *AGENT_VARIABLES["google"],
    *AGENT_VARIABLES["aws"],
    *AGENT_VARIABLES["providers"],
)
"""What the agents read that speak to the provider of the user's choice."""
_PROVIDER_KEYS = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "DEEPSEEK_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "XAI_API_KEY",
)

_CLAUDE_LOGIN = LoginCheck(
    variables=(
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
    ),
    traces=(
        Trace("{CLAUDE_CONFIG_DIR:~/.claude}/.credentials.json", ("claudeAiOauth",)),
        Trace("{CLAUDE_CONFIG_DIR:~}/.claude.json", ("oauthAccount", "primaryApiKey")),
        Trace(
            "{CLAUDE_CONFIG_DIR:~/.claude}/settings.json",
            ("apiKeyHelper", "env.ANTHROPIC_API_KEY", "env.ANTHROPIC_AUTH_TOKEN", "env.CLAUDE_CODE_USE_BEDROCK"),
        ),
    ),
    otherwise="no",
    hint="Run `claude` and use /login, or set ANTHROPIC_API_KEY.",
)
_CODEX_LOGIN = LoginCheck(
    # Neither OPENAI_API_KEY nor CODEX_API_KEY logs its app-server in: account/read answers null with both.
    variables=("CODEX_ACCESS_TOKEN",),
    traces=(
        Trace(
            "{CODEX_HOME:~/.codex}/auth.json", ("OPENAI_API_KEY", "tokens", "agent_identity", "personal_access_token")
        ),
        Trace("{CODEX_HOME:~/.codex}/config.toml", ("model_provider", "cli_auth_credentials_store"), "unknown"),
    ),
    otherwise="no",
    hint="Run `codex login`, or `codex login --with-api-key` to use an API key.",
)
_OPENCODE_LOGIN = LoginCheck(
    variables=("OPENCODE_API_KEY", "OPENCODE_AUTH_CONTENT", *_PROVIDER_KEYS),
    traces=(Trace("{XDG_DATA_HOME:~/.local/share}/opencode/auth.json"),),
    because="it also has models that need no login",
    hint="Run `opencode auth login`.",
)
_CODEX_BINARY = "@openai/codex-{os}-{arch}/vendor/{triple}/bin/codex"
_CODEX_OLDER = "@openai/codex/vendor/{triple}/codex/codex"

_OPENCODE = Preset(
    "opencode",
    "opencode",
    ("opencode",),
    variables=(*AGENT_VARIABLES["opencode"], *_PROVIDERS),
    install=_npm("opencode-ai"),
    login=_OPENCODE_LOGIN,
    account="",
    npm=Npm(
        "opencode-ai",
        ("opencode-{os}-{arch}/bin/opencode", "opencode-{os}-{arch}-baseline/bin/opencode"),
        musl=("opencode-{os}-{arch}-musl/bin/opencode", "opencode-{os}-{arch}-baseline-musl/bin/opencode"),
        old_cpu=("opencode-{os}-{arch}-baseline/bin/opencode",),
    ),
    tested="1.18.33",
)

_ALL = (
    Preset(
        "claude",
        "claude",
        ("claude",),
        variables=_ANTHROPIC,
        install=_npm("@anthropic-ai/claude-code"),
        login=_CLAUDE_LOGIN,
        account="anthropic",
        npm=Npm(
            "@anthropic-ai/claude-code",
            ("@anthropic-ai/claude-code-{os}-{arch}/claude",),
            musl=("@anthropic-ai/claude-code-{os}-{arch}-musl/claude",),
        ),
        tested="2.1.328",
    ),
    Preset(
        "codex",
        "codex",
        ("codex",),
        variables=_OPENAI,
        install=_npm("@openai/codex"),
        login=_CODEX_LOGIN,
        account="openai",
        npm=Npm("@openai/codex", (_CODEX_BINARY, _CODEX_OLDER)),
        tested="0.169.0",
    ),
    _OPENCODE,
    Preset(
        "aider",
        "aider",
        ("aider",),
        variables=(*AGENT_VARIABLES["aider"], *_PROVIDERS),
        install="uv tool install --python 3.12 aider-chat",
        login=LoginCheck(
            variables=(*_PROVIDER_KEYS, "VERTEXAI_PROJECT", "OLLAMA_API_BASE", "AIDER_OPENAI_API_KEY"),
            traces=(Trace("~/.aider/oauth-keys.env"),),
            because="its key may also stand in a .env or .aider.conf.yml file",
            hint="Set the key of a provider, such as ANTHROPIC_API_KEY or OPENAI_API_KEY.",
        ),
        account="",
        interpreter=True,
        distribution="aider_chat",
        tested="0.86.2",
    ),
    Preset(
        "gemini",
        "acp",
        ("gemini",),
        variables=AGENT_VARIABLES["google"],
        install=_npm("@google/gemini-cli"),
        login=LoginCheck(
            variables=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA"),
            traces=(
                Trace("{GEMINI_CLI_HOME:~}/.gemini/oauth_creds.json"),
                Trace("{GEMINI_CLI_HOME:~}/.gemini/gemini-credentials.json"),
                Trace("{GEMINI_CLI_HOME:~}/.gemini/google_accounts.json", ("active",)),
                Trace("{GEMINI_CLI_HOME:~}/.gemini/.env", means="unknown"),
                Trace("{GEMINI_CLI_HOME:~}/.gemini/settings.json", ("security.auth.selectedType",), "unknown"),
            ),
            otherwise="no",
            hint="Run `gemini` and choose how to log in, or set GEMINI_API_KEY.",
        ),
        account="google",
        args=("--acp",),
        npm=Npm("@google/gemini-cli"),
        tested="0.61.0",
    ),
    Preset(
        "copilot",
        "acp",
        ("copilot",),
        variables=AGENT_VARIABLES["github"],
        install=_npm("@github/copilot"),
        login=LoginCheck(
            variables=("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN", "COPILOT_PROVIDER_BASE_URL"),
            traces=(
                Trace(
                    "{COPILOT_HOME:~/.copilot}/config.json",
                    ("loggedInUsers", "logged_in_users", "lastLoggedInUser", "last_logged_in_user"),
                ),
            ),
            because="its login may lie in the system's keychain or with `gh`",
            hint="Run `copilot login`.",
        ),
        account="github",
        args=("--acp",),
        npm=Npm(
            "@github/copilot",
            ("@github/copilot-{os}-{arch}/copilot",),
            musl=("@github/copilot-{os}musl-{arch}/copilot",),
        ),
        tested="1.0.102",
    ),
    Preset(
        "cursor",
        "acp",
        ("cursor-agent",),
        variables=AGENT_VARIABLES["cursor"],
        # The npm package of its name is somebody else's.
        install="https://cursor.com/docs/cli",
        login=LoginCheck(
            variables=("CURSOR_API_KEY",),
            traces=(
                Trace("{CURSOR_CONFIG_DIR:~/.cursor}/cli-config.json", ("authInfo",)),
                Trace("{XDG_CONFIG_HOME:~/.config}/cursor/auth.json", ("accessToken", "apiKey")),
            ),
            because="its login may lie in the system's keychain",
            hint="Run `cursor-agent login`.",
        ),
        account="cursor",
        args=("acp",),
    ),
    Preset(
        "goose",
        "acp",
        ("goose",),
        variables=(*AGENT_VARIABLES["goose"], *_PROVIDERS),
        install="https://block.github.io/goose",
        login=LoginCheck(
            traces=(Trace("{XDG_CONFIG_HOME:~/.config}/goose/config.yaml", means="unknown"),),
            because="its keys may lie in the system's keychain",
            hint="Run `goose configure`.",
        ),
        account="",
        args=("acp",),
    ),
    Preset(
        "qwen",
        "acp",
        ("qwen",),
        variables=(*AGENT_VARIABLES["qwen"], "OPENAI_*", *AGENT_VARIABLES["google"]),
        install=_npm("@qwen-code/qwen-code"),
        login=LoginCheck(
            variables=("OPENAI_API_KEY", "DASHSCOPE_API_KEY", "BAILIAN_CODING_PLAN_API_KEY"),
            traces=(
                Trace("~/.qwen/oauth_creds.json"),
                Trace("~/.qwen/settings.json", ("security.auth.selectedType",), "unknown"),
            ),
            because="its key may also stand in a .env file",
            hint="Run `qwen` and use /auth.",
        ),
        account="qwen",
        args=("--acp",),
        npm=Npm("@qwen-code/qwen-code"),
    ),
    Preset(
        "kimi",
        "acp",
        ("kimi",),
        variables=AGENT_VARIABLES["kimi"],
        install="uv tool install --python 3.13 kimi-cli",
        login=LoginCheck(
            variables=("KIMI_API_KEY",),
            traces=(Trace("~/.kimi/config.toml", ("default_model",), "unknown"),),
            because="its files do not say so",
            hint="Run `kimi` and use /login.",
        ),
        account="moonshot",
        args=("acp",),
    ),
    Preset(
        "droid",
        "acp",
        ("droid",),
        variables=AGENT_VARIABLES["factory"],
        install=_npm("droid"),
        login=LoginCheck(
            variables=("FACTORY_API_KEY",),
            traces=(Trace("~/.factory/auth.json"), Trace("~/.factory/auth.encrypted")),
            because="its login may lie in the system's keychain",
            hint="Run `droid` and use /login, or set FACTORY_API_KEY.",
        ),
        account="factory",
        args=("exec", "--output-format", "acp"),
        npm=Npm("droid"),
    ),
    Preset(
        "kiro",
        "acp",
        ("kiro-cli",),
        variables=(*AGENT_VARIABLES["kiro"], *AGENT_VARIABLES["aws"]),
        install="https://kiro.dev/docs/cli",
        login=LoginCheck(
            variables=("KIRO_API_KEY",),
            because="its login lies in a database of its own",
            hint="Run `kiro-cli login`.",
        ),
        account="kiro",
        args=("acp",),
    ),
    Preset(
        "claude-acp",
        "acp",
        ("claude-agent-acp", "claude-code-acp"),
        variables=_ANTHROPIC,
        install=_npm("@agentclientprotocol/claude-agent-acp"),
        login=_CLAUDE_LOGIN,
        account="anthropic",
        npm=Npm("@agentclientprotocol/claude-agent-acp"),
    ),
    Preset(
        "codex-acp",
        "acp",
        ("codex-acp",),
        variables=_OPENAI,
        install=_npm("@agentclientprotocol/codex-acp"),
        login=_CODEX_LOGIN,
        account="openai",
        npm=Npm("@agentclientprotocol/codex-acp"),
    ),
    replace(_OPENCODE, name="opencode-acp", kind="acp", args=("acp",)),
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}
"""By name."""
