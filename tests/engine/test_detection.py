"""Finding agents on the disk: through every kind of shim to the native binary, their versions, their logins."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from plait.agents.presets import PRESETS, Npm
from plait.core.config import UserConfig, parse_user
from plait.engine import programs, versions
from plait.engine.detection import Found, detect, login_of, resolve, usable
from plait.engine.programs import Machine, Program, find, interpreted, native
from plait.engine.versions import Versions
from plait.errors import UsageError
from tests.support.processes import eventually, state_of

LINUX = Machine("linux", "x64")
ELF = b"\x7fELF" + b"\0" * 60
CODEX = PRESETS["codex"].npm or Npm("")
NATIVE = "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
SHIM = b"#!/usr/bin/env node\nspawn()\n"
AGENTS = Path(__file__).resolve().parents[2] / ".agents"


def program(path: Path, content: str | bytes = "#!/bin/sh\nexit 1\n") -> Path:
    """An executable file with that content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o755)
    return path


def package(modules: Path, name: str, version: str = "1.2.3") -> Path:
    """The directory of an npm package below a node_modules."""
    root = modules / name
    root.mkdir(parents=True, exist_ok=True)
    (root / "package.json").write_text(json.dumps({"name": name, "version": version}))
    return root


def linked(link: Path, target: Path) -> Path:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))
    return link


def codex_in(modules: Path, beside: Path | None = None) -> Path:
    """Codex's npm package, with its platform package beside it or in another node_modules; its shim."""
    program((beside or modules) / NATIVE, ELF)
    return program(package(modules, "@openai/codex", "0.170.1") / "bin/codex.js", SHIM)


def native_codex(command: Path) -> Program:
    return native(str(command), CODEX, LINUX)


def test_npm_links_a_command_to_the_script_of_its_package(tmp_path: Path) -> None:
    modules = tmp_path / "lib/node_modules"
    command = linked(tmp_path / "bin/codex", codex_in(modules))
    assert native_codex(command) == Program(str(modules / NATIVE))


def test_npm_may_put_the_platform_package_below_the_package(tmp_path: Path) -> None:
    modules = tmp_path / "lib/node_modules"
    inner = modules / "@openai/codex/node_modules"
    command = linked(tmp_path / "bin/codex", codex_in(modules, inner))
    assert native_codex(command) == Program(str(inner / NATIVE))


def test_a_package_of_the_project_is_found_above(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules/wrapper/node_modules"
    command = linked(tmp_path / "bin/codex", codex_in(modules, tmp_path / "node_modules"))
    assert native_codex(command) == Program(str(tmp_path / "node_modules" / NATIVE))


@pytest.mark.parametrize("interpreter", ['"$basedir/node" ', "node "])
def test_pnpm_starts_the_script_by_a_launcher_of_its_own(tmp_path: Path, interpreter: str) -> None:
    store = tmp_path / "global/5/.pnpm/@openai+codex@0.170.1/node_modules"
    shim = codex_in(store)
    linked(tmp_path / "global/5/node_modules/@openai/codex", shim.parents[1])
    launcher = (
        '#!/bin/sh\nbasedir=$(dirname "$(echo "$0" | sed -e \'s,\\\\,/,g\')")\n'
        f'exec {interpreter} "$basedir/global/5/node_modules/@openai/codex/bin/codex.js" "$@"\n'
    )
    command = program(tmp_path / "codex", launcher)
    assert native_codex(command) == Program(str(store / NATIVE))
    assert Versions().of_package(str(command), CODEX.package) == "0.170.1"


def test_yarn_and_bun_link_from_elsewhere_over_several_links(tmp_path: Path) -> None:
    modules = tmp_path / "install/global/node_modules"
    inner = linked(modules / ".bin/codex", codex_in(modules))
    command = linked(tmp_path / ".bun/bin/codex", inner)
    assert native_codex(command) == Program(str(modules / NATIVE))


def test_an_older_package_holds_the_binary_itself(tmp_path: Path) -> None:
    root = package(tmp_path / "node_modules", "@openai/codex")
    command = linked(tmp_path / "bin/codex", program(root / "bin/codex.js", SHIM))
    old = program(root / "vendor/x86_64-unknown-linux-musl/codex/codex", ELF)
    assert native_codex(command) == Program(str(old))


def test_a_binary_that_took_the_shims_place_is_the_program(tmp_path: Path) -> None:
    npm = PRESETS["claude"].npm or Npm("")
    modules = tmp_path / "node_modules"
    shim = program(package(modules, npm.package) / "bin/claude.exe", ELF)
    assert native(str(linked(tmp_path / "bin/claude", shim)), npm, LINUX) == Program(str(shim))


@pytest.mark.parametrize(
    ("machine", "place"),
    [
        (LINUX, "opencode-linux-x64/bin/opencode"),
        (Machine("linux", "x64", old_cpu=True), "opencode-linux-x64-baseline/bin/opencode"),
        (Machine("linux", "x64", musl=True), "opencode-linux-x64-musl/bin/opencode"),
        (Machine("linux", "arm64"), "opencode-linux-arm64/bin/opencode"),
        (Machine("darwin", "arm64"), "opencode-darwin-arm64/bin/opencode"),
    ],
)
def test_the_binary_of_the_platform_is_chosen_where_several_are_installed(
    tmp_path: Path, machine: Machine, place: str
) -> None:
    npm = PRESETS["opencode"].npm or Npm("")
    modules = tmp_path / "node_modules"
    for name in ("linux-x64", "linux-x64-baseline", "linux-x64-musl", "linux-arm64", "darwin-arm64"):
        program(modules / f"opencode-{name}/bin/opencode", ELF)
    command = linked(tmp_path / "bin/opencode", program(package(modules, npm.package) / "bin/opencode", SHIM))
    assert native(str(command), npm, machine) == Program(str(modules / place))


def test_without_a_binary_the_shim_is_run_and_that_is_said(tmp_path: Path) -> None:
    command = linked(tmp_path / "bin/codex", program(package(tmp_path / "m", "@openai/codex") / "bin/codex.js", SHIM))
    found = native_codex(command)
    assert found.path == str(command)
    assert "shim" in found.note


def test_what_belongs_to_no_such_package_is_left_as_it_is(tmp_path: Path) -> None:
    """A version manager's shims are links to one binary, which looks at the name it was called by."""
    manager = program(tmp_path / "usr/bin/mise", ELF)
    shim = linked(tmp_path / "shims/codex", manager)
    assert native_codex(shim) == Program(str(shim))
    own = linked(tmp_path / "bin/claude", program(tmp_path / "share/claude/versions/2.1.0", ELF))
    assert native(str(own), PRESETS["claude"].npm or Npm(""), LINUX) == Program(str(own))
    impostor = program(package(tmp_path / "node_modules", "something-else") / "bin/codex", ELF)
    assert native_codex(impostor) == Program(str(impostor))


def test_relative_entries_of_the_path_find_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "codex")
    monkeypatch.chdir(tmp_path)
    assert find(("codex",), {"PATH": f".:{os.path.relpath(tmp_path)}::"}) is None
    assert find(("./codex",), {"PATH": str(tmp_path)}) is None
    assert find(("codex",), {"PATH": f"relative:{tmp_path}"}) == str(tmp_path / "codex")
    (tmp_path / "codex").chmod(0o644)
    assert find(("codex",), {"PATH": str(tmp_path)}) is None


def test_the_python_of_a_script_is_told_by_its_first_lines(tmp_path: Path) -> None:
    python = program(tmp_path / "an environment/bin/python3")
    plain = program(tmp_path / "plain/bin/python")
    for number, head in enumerate(
        [
            f"#!/bin/sh\n'''exec' '{python}' \"$0\" \"$@\"\n' '''\n",
            f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
            "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python3' \"$0\" \"$@\"\n' '''\n",
        ]
    ):
        script = program(tmp_path / "an environment/bin" / f"aider{number}", f"{head}import sys\n")
        assert interpreted(str(script), {}) == Program(str(python)), head
    for head in (f"#!{plain}\n", f"#!{plain} -sE\n", "#!/usr/bin/env python\n", "#!/usr/bin/env -S python -I\n"):
        script = program(tmp_path / "bin/aider", f"{head}import sys\n")
        assert interpreted(str(script), {"PATH": str(plain.parent)}) == Program(str(plain)), head


@pytest.mark.parametrize("content", ["#!/bin/sh\nexec aider\n", "", ELF, "#!\n", "#!/nonexistent/python\n"])
def test_a_script_without_a_python_is_a_problem_with_a_reason(tmp_path: Path, content: str | bytes) -> None:
    found = interpreted(str(program(tmp_path / "aider", content)), {"PATH": "/usr/bin:/bin"})
    assert found.path is None
    assert "aider" in found.note


def test_a_version_is_read_from_the_package_and_nothing_is_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    modules = tmp_path / "node_modules"
    shim = codex_in(modules)
    program(modules / NATIVE, f"#!/bin/sh\ntouch {ran}\n")
    python = program(tmp_path / "venv/bin/python")
    (tmp_path / "venv/lib/python3.12/site-packages/aider_chat-0.86.9.dist-info").mkdir(parents=True)
    program(tmp_path / "bin/aider", f"#!{python}\n")
    linked(tmp_path / "bin/codex", shim)
    found = by_name(detect(UserConfig(), home(tmp_path)))
    assert found["codex"].version == "0.170.1"
    assert found["aider"].version == "0.86.9"
    assert not ran.exists()


def test_a_program_without_a_package_is_asked_once(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    script = f'#!/bin/sh\necho "$* $(pwd) $ANTHROPIC_API_KEY" >> {asked}\necho "2.7.1-beta.3 (Claude Code)"\n'
    claude = program(tmp_path / "bin/claude", script)
    environment = {**home(tmp_path), "ANTHROPIC_API_KEY": "secret"}
    kept = tmp_path / "state/versions.json"
    assert resolve("claude", UserConfig(), environment, Versions(kept)).version is None, "a start waits for no version"
    for _ in range(2):
        assert by_name(detect(UserConfig(), environment, Versions(kept)))["claude"].version == "2.7.1-beta.3"
    assert resolve("claude", UserConfig(), environment, Versions(kept)).version == "2.7.1-beta.3"
    lines = asked.read_text().splitlines()
    assert len(lines) == 1
    words, directory, *secret = lines[0].split(" ")
    assert words == "--version"
    assert not Path(directory).exists(), "it ran in a directory of its own"
    assert secret == [""]
    assert "secret" not in kept.read_text()
    program(claude, script.replace("2.7.1-beta.3", "2.8.0 "))
    assert by_name(detect(UserConfig(), environment, Versions(kept)))["claude"].version == "2.8.0"


def test_a_program_that_says_no_version_costs_no_more_than_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PATIENCE_S", 0.3)
    left = tmp_path / "left"
    program(tmp_path / "bin/claude", f"#!/bin/sh\nsleep 60 & echo $! > {left}; wait\n")
    program(tmp_path / "bin/goose", "#!/bin/sh\necho no version; echo 1.2.3 >&2\n")
    program(tmp_path / "bin/cursor-agent", "#!/bin/sh\necho 1.2.3; exit 3\n")
    program(tmp_path / "bin/kimi", "#!/nonexistent/interpreter\n")
    found = by_name(detect(UserConfig(), home(tmp_path), Versions(tmp_path / "versions.json")))
    assert [found[name].version for name in ("claude", "goose", "cursor", "kimi")] == [None] * 4
    assert not any(found[name].problem for name in ("claude", "goose", "cursor"))
    eventually(lambda: state_of(int(left.read_text())) in ("", "Z", "X"))
    assert not (tmp_path / "versions.json").exists()


def test_a_damaged_memory_of_versions_is_learned_again(tmp_path: Path) -> None:
    program(tmp_path / "bin/claude", "#!/bin/sh\necho 2.1.0\n")
    kept = tmp_path / "versions.json"
    for damage in ("{", "[]", '{"a": 1}', "\0"):
        kept.write_text(damage)
        assert by_name(detect(UserConfig(), home(tmp_path), Versions(kept)))["claude"].version == "2.1.0"
    assert all(isinstance(value, str) for value in json.loads(kept.read_text()).values())


@pytest.mark.parametrize(
    ("agent", "files", "variables", "expected"),
    [
        ("claude", {}, {}, "no"),
        ("claude", {}, {"ANTHROPIC_API_KEY": "k"}, "yes"),
        ("claude", {}, {"ANTHROPIC_API_KEY": " "}, "no"),
        ("claude", {}, {"CLAUDE_CODE_USE_BEDROCK": "0"}, "no"),
        ("claude", {".claude/.credentials.json": '{"claudeAiOauth": {"accessToken": "x"}}'}, {}, "yes"),
        ("claude", {".claude/.credentials.json": '{"mcpOAuth": {"x": 1}}'}, {}, "no"),
        ("claude", {".claude.json": '{"oauthAccount": {"emailAddress": "ada@example.org"}}'}, {}, "yes"),
        ("claude", {".claude.json": '{"numStartups": 3}'}, {}, "no"),
        ("claude", {".claude/settings.json": '{"env": {"ANTHROPIC_AUTH_TOKEN": "x"}}'}, {}, "yes"),
        ("claude", {"else/.credentials.json": '{"claudeAiOauth": {"a": 1}}'}, {"CLAUDE_CONFIG_DIR": "~/else"}, "yes"),
        ("codex", {}, {"OPENAI_API_KEY": "k"}, "no"),
        ("codex", {".codex/auth.json": '{"OPENAI_API_KEY": null, "tokens": {"access_token": "x"}}'}, {}, "yes"),
        ("codex", {".codex/auth.json": '{"OPENAI_API_KEY": null, "tokens": null}'}, {}, "no"),
        ("codex", {".codex/auth.json": "{broken"}, {}, "no"),
        ("codex", {".codex/config.toml": 'model_provider = "azure"'}, {}, "unknown"),
        ("codex", {".codex/config.toml": "[broken"}, {}, "no"),
        ("opencode", {}, {}, "unknown"),
        ("opencode", {".local/share/opencode/auth.json": "{}"}, {}, "unknown"),
        ("opencode", {".local/share/opencode/auth.json": '{"anthropic": {"type": "api"}}'}, {}, "yes"),
        ("opencode", {"data/opencode/auth.json": '{"x": {}}'}, {"XDG_DATA_HOME": "~/data"}, "yes"),
        ("aider", {}, {}, "unknown"),
        ("aider", {}, {"OPENROUTER_API_KEY": "k"}, "yes"),
        ("gemini", {}, {}, "no"),
        ("gemini", {".gemini/oauth_creds.json": '{"access_token": "x"}'}, {}, "yes"),
        ("gemini", {".gemini/google_accounts.json": '{"active": null, "old": []}'}, {}, "no"),
        ("gemini", {".gemini/settings.json": '{"security": {"auth": {"selectedType": "x"}}}'}, {}, "unknown"),
        ("copilot", {}, {}, "unknown"),
        ("copilot", {".copilot/config.json": '// managed\n{"logged_in_users": [{"login": "ada"}]}'}, {}, "yes"),
        ("cursor", {".cursor/cli-config.json": '{"authInfo": {"email": "ada@example.org"}}'}, {}, "yes"),
    ],
)
def test_a_login_is_told_by_files_and_variables(
    tmp_path: Path, agent: str, files: dict[str, str], variables: dict[str, str], expected: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {"HOME": str(tmp_path), **variables}
    login, told_by = login_of(PRESETS[agent].login, environment)
    assert login == expected
    assert told_by
    assert "\n" not in told_by


def test_a_file_that_cannot_be_read_or_is_none_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / ".codex/auth.json").mkdir(parents=True)
    os.mkfifo(tmp_path / ".codex/config.toml")
    assert login_of(PRESETS["codex"].login, {"HOME": str(tmp_path)})[0] == "no"
    assert login_of(PRESETS["codex"].login, {})[0] == "no"
    assert login_of(PRESETS["codex"].login, {"HOME": "relative", "CODEX_HOME": "also"})[0] == "no"


def test_every_known_agent_is_listed_and_a_missing_one_says_how_to_get_it(tmp_path: Path) -> None:
    found = by_name(detect(UserConfig(), home(tmp_path)))
    assert list(found) == list(PRESETS)
    for one in found.values():
        assert one.problem.endswith("is not installed.")
        assert one.hint == PRESETS[one.name].install_hint
        assert (one.command, one.path, one.version) == ((), None, None)
    assert usable(list(found.values())) == {}


def test_a_missing_or_unknown_agent_cannot_be_resolved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Gemini CLI is not installed. Install it with `npm install -g @google/gem"):
        resolve("gemini", UserConfig(), home(tmp_path))
    with pytest.raises(UsageError, match=r"no agent 'clod'. Known are: claude, codex, "):
        resolve("clod", UserConfig(), home(tmp_path))


def test_the_configuration_names_another_program_or_a_whole_command_line(tmp_path: Path) -> None:
    environment = home(tmp_path)
    shim = codex_in(tmp_path / "elsewhere/node_modules")
    mine = program(tmp_path / "opt/gemini")
    npx = program(tmp_path / "bin/npx")
    config = configured(
        f'[agents.codex]\ncommand = ["{shim}"]\nargs = ["-c", "x=1"]\n'
        f'[agents.gemini]\ncommand = ["{mine}"]\n'
        '[agents.qwen]\ncommand = ["npx", "@qwen-code/qwen-code", "--acp"]\n'
        '[agents.goose]\ncommand = ["goose-nightly"]\n'
    )
    expected = programs.native(str(shim), CODEX).path
    assert resolve("codex", config, environment).command == (expected, "-c", "x=1")
    assert resolve("gemini", config, environment).command == (str(mine), "--acp")
    assert resolve("qwen", config, environment).command == (str(npx), "@qwen-code/qwen-code", "--acp")
    with pytest.raises(UsageError, match=r"Goose is to be run as goose-nightly"):
        resolve("goose", config, environment)


def test_agents_of_the_users_own_stand_beside_the_known_ones(tmp_path: Path) -> None:
    environment = home(tmp_path)
    mine = program(tmp_path / "bin/mine", "#!/bin/sh\ntouch ran\n")
    config = configured(
        '[agents.mine]\nkind = "acp"\ncommand = ["mine", "serve"]\nargs = ["--fast"]\n'
        '[agents.script]\nkind = "command"\ncommand = ["./codemod.sh", "{prompt}"]\n'
        '[agents.gone]\nkind = "terminal"\ncommand = ["gone"]\n'
        '[agents.claude]\nkind = "command"\ncommand = ["mine"]\n'
    )
    found = by_name(detect(config, environment))
    assert list(found) == [*PRESETS, "gone", "mine", "script"]
    assert (found["mine"].kind, found["mine"].command) == ("acp", (str(mine), "serve", "--fast"))
    assert found["script"].command == ("./codemod.sh", "{prompt}")
    assert (found["claude"].kind, found["claude"].command, found["claude"].preset) == ("command", (str(mine),), None)
    assert "cannot be executed" in found["gone"].problem
    assert usable(list(found.values())) == {"mine": "unknown"}
    assert found["mine"].version is None


@pytest.mark.skipif(
    not (AGENTS / "node_modules/.bin").is_dir(), reason="`make agents` has not installed the agents here"
)
def test_the_real_agents_are_found_behind_their_shims(tmp_path: Path) -> None:
    path = f"{AGENTS / 'node_modules/.bin'}{os.pathsep}{AGENTS / 'aider/bin'}{os.pathsep}/usr/bin:/bin"
    found = by_name(detect(UserConfig(), {"PATH": path, "HOME": str(tmp_path)}))
    for name in ("claude", "codex", "opencode", "copilot"):
        if shutil.which(name, path=path):
            assert Path(found[name].path or "").read_bytes()[:4] in (ELF[:4], b"\xcf\xfa\xed\xfe")
            assert not found[name].note
    installed = [one for one in found.values() if not one.problem]
    assert installed
    assert all(one.version == one.preset.tested for one in installed if one.preset and one.preset.tested)
    assert not list(tmp_path.glob(".[a-z]*")), "looking left nothing in the home"


def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH holds what a test installs, and the system's shell."""
    return {"PATH": f"{tmp_path / 'bin'}{os.pathsep}/usr/bin:/bin", "HOME": str(tmp_path)}


def by_name(found: list[Found]) -> dict[str, Found]:
    return {one.name: one for one in found}


def configured(text: str) -> UserConfig:
    config, problems = parse_user(text)
    assert problems == ()
    return config
