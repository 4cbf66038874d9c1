"""Which set-up a repository asks for: each tool's file, hostile files, the approval's hash, the templates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.core.config import Problem
from plait.core.setup import (
    SETUP_FILES,
    SetupPlan,
    approval_key,
    environment,
    rendered,
    scripts_in,
    setup_plan,
)
from plait.core.setup_formats import FORMATS, Dialect
from plait.core.setup_templates import cannot_render, hash_port, render, siphash13, values


def _plan(platform: str = "linux", **files: str) -> SetupPlan:
    return setup_plan({name: content.encode() for name, content in files.items()}, platform)


def _one(name: str, content: str, platform: str = "linux") -> SetupPlan:
    return setup_plan({name: content.encode()}, platform)


def test_a_repository_without_any_file_asks_for_nothing() -> None:
    assert setup_plan({}) == SetupPlan()


def test_plait_toml_is_read() -> None:
    plan = _one(
        "plait.toml",
        '[worktree]\nsetup = ["npm ci", "./bin/seed.sh"]\nteardown = ["make down"]\ninclude = [".env"]\n',
    )
    assert (plan.source, plan.dialect) == ("plait.toml", "plait")
    assert plan.commands == ("npm ci", "./bin/seed.sh")
    assert plan.teardown == ("make down",)
    assert plan.include == (".env",)
    assert plan.scripts == ("bin/seed.sh",)
    assert plan.to_approve == ("npm ci", "./bin/seed.sh", "on removal: make down")


def test_a_worktree_table_in_plait_toml_silences_every_other_tool_even_when_empty() -> None:
    others = {known.files[0]: b"{}" for known in FORMATS} | {
        "paseo.json": b'{"worktree": {"setup": "evil"}}',
        ".claude/settings.json": b'{"worktree": {"symlinkDirectories": ["node_modules"]}}',
    }
    plan = setup_plan({**others, "plait.toml": b"[worktree]\n"})
    assert (plan.source, plan.to_approve) == ("plait.toml", ())
    beside = setup_plan({"paseo.json": others["paseo.json"], "plait.toml": b'[check]\ncommand = "x"\n'})
    assert (beside.source, beside.commands) == ("paseo.json", ("evil",))


def test_of_several_tools_the_first_in_the_table_counts() -> None:
    names = [known.files[0] for known in FORMATS]
    for position in range(len(names)):
        plan = setup_plan(dict.fromkeys(names[position:], b""))
        assert plan.source == names[position]
        assert plan.dialect == FORMATS[position].dialect


def test_superset() -> None:
    plan = _one(
        ".superset/config.json",
        '{"setup": ["bun install", "cp \\"$SUPERSET_ROOT_PATH/.env\\" .env"], "teardown": ["docker-compose down"],'
        ' "run": ["./.superset/run.sh"]}',
    )
    assert plan.commands == ("bun install", 'cp "$SUPERSET_ROOT_PATH/.env" .env')
    assert plan.teardown == ("docker-compose down",)
    inner = _one(".superset/config.json", '{"setup": ["bun install"], "cwd": "apps/my web"}')
    assert inner.commands == ("cd './apps/my web' || exit 1\nbun install",)


def test_superset_falls_back_to_its_scripts_key_by_key() -> None:
    files = {".superset/setup.sh": b"#!/bin/sh\n", ".superset/teardown.sh": b"#!/bin/sh\n"}
    plan = setup_plan(files)
    assert plan.source == ".superset/setup.sh"
    assert plan.scripts == (".superset/setup.sh", ".superset/teardown.sh")
    mixed = setup_plan({**files, ".superset/config.json": b'{"setup": ["bun i"]}'})
    assert mixed.commands == ("bun i",)
    assert mixed.scripts == (".superset/teardown.sh",)


def test_cursor_as_a_list_as_a_script_and_for_this_platform() -> None:
    listed = _one(".cursor/worktrees.json", '{"setup-worktree": ["npm ci", "cp $ROOT_WORKTREE_PATH/.env .env"]}')
    assert listed.commands == ("npm ci", "cp $ROOT_WORKTREE_PATH/.env .env")
    script = _one(".cursor/worktrees.json", '{"setup-worktree": ["no"], "setup-worktree-unix": "setup unix.sh"}')
    assert len(script.commands) == 1
    assert "'./.cursor/setup unix.sh'" in script.commands[0]
    plain = _one(".cursor/worktrees.json", '{"setup-worktree-unix": "bin/go.sh"}')
    assert plain.scripts == (".cursor/bin/go.sh",)


def test_conductor_in_both_its_files() -> None:
    toml = '[scripts]\nsetup = """\npnpm i\ncp "$CONDUCTOR_ROOT_PATH/.env" .\n"""\narchive = "./down.sh"\nrun = "x"\n'
    plan = _one(".conductor/settings.toml", toml)
    assert plan.commands == ('pnpm i\ncp "$CONDUCTOR_ROOT_PATH/.env" .',)
    assert plan.teardown == ("./down.sh",)
    assert plan.include == (".env*",)
    older = _one("conductor.json", '{"scripts": {"setup": "npm i", "run": "x", "archive": "y"}}')
    assert (older.commands, older.teardown, older.dialect) == (("npm i",), ("y",), "conductor")


def test_conductor_copies_what_it_lists_and_a_worktreeinclude_wins() -> None:
    toml = b'file_include_globs = [".env.local"]\n'
    assert setup_plan({".conductor/settings.toml": toml}).include == (".env.local",)
    both = setup_plan({".conductor/settings.toml": toml, ".worktreeinclude": b"# what\n\n.env\r\n!x\n"})
    assert both.include == (".env", "!x")


def test_codex_with_its_overrides_for_a_platform() -> None:
    toml = '[setup]\nscript = "npm ci"\n[setup.darwin]\nscript = "brew x"\n[cleanup]\nscript = "rm -r tmp"\n'
    name = ".codex/environments/environment.toml"
    assert _one(name, toml, "linux").commands == ("npm ci",)
    assert _one(name, toml, "darwin").commands == ("brew x",)
    assert _one(name, toml, "linux").teardown == ("rm -r tmp",)


def test_emdash_runs_each_script_after_the_shell_setup() -> None:
    text = json.dumps(
        {
            "preservePatterns": [".env", ".env.*"],
            "shellSetup": ". ./env.sh",
            "scripts": {"prepare": "a", "setup": "b", "run": "c", "teardown": "d"},
        }
    )
    plan = _one(".emdash.json", text)
    assert plan.commands == (". ./env.sh\na", ". ./env.sh\nb")
    assert plan.teardown == (". ./env.sh\nd",)
    assert plan.include == (".env", ".env.*")
    assert plan.scripts == ("env.sh",)


def test_paseo_with_a_string_or_a_list() -> None:
    plan = _one("paseo.json", '{"worktree": {"setup": "a", "teardown": ["b", "c"]}, "scripts": {}}')
    assert (plan.commands, plan.teardown) == (("a",), ("b", "c"))


def test_worktrunk_hooks_in_each_shape() -> None:
    toml = """
post-start = [{a = "one", b = "two"}, "three"]
[[pre-start]]
install = "npm ci"
[[pre-start]]
env = "echo 'PORT={{ branch | hash_port }}' > .env.local"
[pre-remove]
stop = "docker stop x"
[pre-merge]
test = "npm test"
"""
    plan = _one(".config/wt.toml", toml)
    assert plan.commands == (
        "npm ci",
        "echo 'PORT={{ branch | hash_port }}' > .env.local",
        "one",
        "two",
        "three",
    )
    assert plan.teardown == ("docker stop x",)
    assert any("post-start" in note for note in plan.notes)
    assert _one(".config/wt.toml", 'post-create = "npm i"').commands == ("npm i",)


def test_worktrunks_own_copying_becomes_patterns() -> None:
    toml = '[post-start]\ncopy = "wt step copy-ignored"\n[step.copy-ignored]\nexclude = [".cache/"]\n'
    assert _one(".config/wt.toml", toml).include == ("*", "!.cache/")
    assert _one(".config/wt.toml", toml).commands == ()
    listed = setup_plan({".config/wt.toml": toml.encode(), ".worktreeinclude": b".env\n"})
    assert listed.include == (".env", "!.cache/")


def test_a_worktrunk_line_that_cannot_be_rendered_is_left_out_and_named() -> None:
    plan = _one(".config/wt.toml", '[pre-start]\na = "echo {{ vars.x }}"\nb = "echo {{ upstream }}"\nc = "ok"\n')
    assert plan.commands == ("ok",)
    assert ["vars.x" in problem.message for problem in plan.problems] == [True, False]
    assert "'upstream'" in plan.problems[1].message


def test_container_use_says_that_no_container_is_made() -> None:
    plan = _one(
        ".container-use/environment.json",
        '{"base_image": "ubuntu:24.04", "setup_commands": ["a"], "install_commands": ["b"]}',
    )
    assert plan.commands == ("a", "b")
    assert "No container" in plan.notes[0]


@pytest.mark.parametrize("name", [".kilo/setup-script", ".kilo/setup-script.sh", ".agent-deck/worktree-setup.sh"])
def test_a_script_is_run_by_its_own_interpreter_if_executable_and_else_by_sh(name: str, tmp_path: Path) -> None:
    plan = _one(name, "")
    assert plan.source == name
    assert plan.scripts == (name,)
    script = tmp_path / name
    script.parent.mkdir()
    script.write_text(f'#!{sys.executable}\nprint("by itself")\n')
    script.chmod(0o755)
    assert _sh(plan.commands[0], tmp_path) == "by itself"
    script.write_text("echo by sh\nfalse\necho not reached\n")
    script.chmod(0o644)
    assert _sh(plan.commands[0], tmp_path) == "by sh"


def _sh(line: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def test_agent_deck_tears_down_too() -> None:
    plan = setup_plan({".agent-deck/worktree-setup.sh": b"", ".agent-deck/worktree-destruction.sh": b""})
    assert "worktree-destruction.sh" in plan.teardown[0]


def test_claude_codes_shared_directories_join_any_other_file_and_need_approval() -> None:
    settings_json = '{"worktree": {"symlinkDirectories": ["node_modules", "/etc", "../up", "a/../.git", "b/.GIT"]}}'
    plan = _plan(**{".claude/settings.json": settings_json, "paseo.json": "{}"})
    assert plan.symlinks == ("node_modules",)
    assert len(plan.problems) == 4
    assert plan.to_approve == ("share with your checkout: node_modules",)


def test_yaml_files_are_named_to_the_user() -> None:
    plan = _plan(**{"orca.yaml": "scripts: {setup: x}", "uzi.yaml": ""})
    assert plan.commands == ()
    assert ["uzi.yaml" in note or "orca.yaml" in note for note in plan.notes] == [True, True]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".cursor/worktrees.json", '{"setup-worktree": "/etc/evil.sh"}'),
        (".cursor/worktrees.json", '{"setup-worktree": "../../evil.sh"}'),
        (".cursor/worktrees.json", '{"setup-worktree": "~/evil.sh"}'),
        (".superset/config.json", '{"setup": ["x"], "cwd": "../.."}'),
        (".superset/config.json", '{"setup": ["x"], "cwd": "/"}'),
        (".superset/config.json", '{"setup": ["x", 3]}'),
        (".superset/config.json", '{"setup": {"before": ["x"]}}'),
        (".superset/config.json", "[1]"),
        (".superset/config.json", "{"),
        (".superset/config.json", "[" * 100_000),
        (".superset/config.json", "9" * 5_000),
        ("paseo.json", '{"worktree": "x"}'),
        ("paseo.json", '{"worktree": {"setup": "true\\u202e # hsilgne"}}'),
        ("paseo.json", '{"worktree": {"setup": "evil\\rgood"}}'),
        ("paseo.json", '{"worktree": {"setup": "a\\u0000b"}}'),
        ("paseo.json", '{"worktree": {"setup": "\\ud800"}}'),
        (".config/wt.toml", "pre-start = 3"),
        (".config/wt.toml", "pre-start = "),
        (".codex/environments/environment.toml", "setup = 'npm ci'"),
    ],
)
def test_a_hostile_or_broken_file_runs_nothing_and_says_why(name: str, content: str) -> None:
    plan = _one(name, content)
    assert plan.source == name
    assert plan.commands == ()
    assert plan.problems
    assert all(problem.message.isprintable() for problem in plan.problems)


def test_the_line_of_broken_json_is_named() -> None:
    assert _one("paseo.json", '{\n"worktree": \n}').problems[0].line == 3


def test_a_file_that_is_not_utf8_is_a_problem() -> None:
    plan = setup_plan({"paseo.json": b'{"a": "\xff"}', ".worktreeinclude": b"\n\xfe"})
    assert {(problem.key, problem.line) for problem in plan.problems} == {
        ("paseo.json", 1),
        (".worktreeinclude", 2),
    }


@given(st.dictionaries(st.sampled_from(SETUP_FILES), st.binary(max_size=200)))
@settings(deadline=None)
def test_no_bytes_make_the_plan_raise(files: dict[str, bytes]) -> None:
    plan = setup_plan(files)
    assert plan.source is None or plan.source in files


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["setup", "teardown", "cwd", "scripts", "worktree", "setup-worktree", "symlinkDirectories"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.sampled_from([name for name in SETUP_FILES if name.endswith(".json")]), _json)
@settings(deadline=None)
def test_no_json_makes_the_plan_raise(name: str, document: object) -> None:
    plan = setup_plan({name: json.dumps(document).encode()})
    assert all(isinstance(line, str) and line.strip() for line in (*plan.commands, *plan.teardown))


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("npm ci && ./bin/a.sh; bash setup 2>&1 | tee x.log", ("bin/a.sh", "setup")),
        ("sh -c './in quotes.sh'", ("in", "quotes.sh")),
        ("python3 tools/x.py --flag=conf/y.toml", ("tools/x.py", "conf/y.toml")),
        (". env && source ./venv/bin/activate", ("env", "venv/bin/activate")),
        ("cat /etc/passwd ../up.sh $HOME/x.sh -v/x ~/y.sh", ()),
        ("echo $(scripts/name)", ("scripts/name",)),
    ],
)
def test_scripts_that_a_line_names_are_found(line: str, paths: tuple[str, ...]) -> None:
    assert scripts_in(line) == paths


def test_plaits_variables_are_always_set_and_the_dialects_besides() -> None:
    dialects: tuple[Dialect, ...] = ("plait", *(known.dialect for known in FORMATS))
    for dialect in dialects:
        made = environment(
            dialect, root="/r", worktree="/w", name="n", default_branch="main", port=20010, branch="plait/n-1"
        )
        assert made.items() >= {
            ("PLAIT_ROOT_PATH", "/r"),
            ("PLAIT_WORKSPACE_PATH", "/w"),
            ("PLAIT_WORKSPACE_NAME", "n"),
            ("PLAIT_DEFAULT_BRANCH", "main"),
            ("PLAIT_PORT", "20010"),
        }


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("conductor", {"CONDUCTOR_PORT": "20010", "CONDUCTOR_ROOT_PATH": "/r", "CONDUCTOR_WORKSPACE_NAME": "n"}),
        ("conductor", {"CONDUCTOR_WORKSPACE_PATH": "/w", "CONDUCTOR_DEFAULT_BRANCH": "main"}),
        ("superset", {"SUPERSET_ROOT_PATH": "/r", "SUPERSET_WORKSPACE_PATH": "/w", "SUPERSET_WORKSPACE_NAME": "n"}),
        ("codex", {"CODEX_WORKTREE_PATH": "/w", "CODEX_SOURCE_TREE_PATH": "/r"}),
        ("cursor", {"ROOT_WORKTREE_PATH": "/r"}),
        ("kilo", {"WORKTREE_PATH": "/w", "REPO_PATH": "/r"}),
        ("agent-deck", {"AGENT_DECK_REPO_ROOT": "/r", "AGENT_DECK_WORKTREE_PATH": "/w"}),
        ("paseo", {"PASEO_WORKTREE_PATH": "/w", "PASEO_BRANCH_NAME": "plait/n-1"}),
        ("emdash", {"EMDASH_TASK_PATH": "/w", "EMDASH_PORT": "20010"}),
    ],
)
def test_each_dialect_finds_its_own_names(dialect: Dialect, expected: dict[str, str]) -> None:
    made = environment(
        dialect, root="/r", worktree="/w", name="n", default_branch="main", port=20010, branch="plait/n-1"
    )
    assert made.items() >= expected.items()


def test_the_approval_is_of_exactly_these_bytes() -> None:
    key = approval_key("/r", "plait.toml", ["a", "b"], {"x.sh": b"1", "y.sh": b"2"})
    assert len(key) == 64
    assert key == approval_key("/r", "plait.toml", ("a", "b"), {"y.sh": b"2", "x.sh": b"1"})
    others = [
        approval_key("/R", "plait.toml", ["a", "b"], {"x.sh": b"1", "y.sh": b"2"}),
        approval_key("/r", "paseo.json", ["a", "b"], {"x.sh": b"1", "y.sh": b"2"}),
        approval_key("/r", None, ["a", "b"], {"x.sh": b"1", "y.sh": b"2"}),
        approval_key("/r", "", ["a", "b"], {"x.sh": b"1", "y.sh": b"2"}),
        approval_key("/r", "plait.toml", ["b", "a"], {"x.sh": b"1", "y.sh": b"2"}),
        approval_key("/r", "plait.toml", ["a b"], {"x.sh": b"1", "y.sh": b"2"}),
        approval_key("/r", "plait.toml", ["ab"], {"x.sh": b"1", "y.sh": b"2"}),
        approval_key("/r", "plait.toml", ["a", "b", ""], {"x.sh": b"1", "y.sh": b"2"}),
        approval_key("/r", "plait.toml", ["a", "b"], {"x.sh": b"2", "y.sh": b"1"}),
        approval_key("/r", "plait.toml", ["a", "b"], {"x.sh": b"1"}),
        approval_key("/r", "plait.toml", ["a", "b", "x.sh", "1"], {"y.sh": b"2"}),
    ]
    assert len({key, *others}) == 1 + len(others)


_asked = st.tuples(
    st.text(max_size=3),
    st.none() | st.text(max_size=2),
    st.lists(st.text(alphabet="ab:1", max_size=3), max_size=3).map(tuple),
    st.dictionaries(st.text(alphabet="ab:1", max_size=2), st.binary(max_size=2), max_size=2),
)


@given(_asked, _asked)
@settings(deadline=None)
def test_two_approvals_are_the_same_only_if_all_of_them_is(
    one: tuple[str, str | None, tuple[str, ...], dict[str, bytes]],
    other: tuple[str, str | None, tuple[str, ...], dict[str, bytes]],
) -> None:
    assert (approval_key(*one) == approval_key(*other)) == (one == other)


VALUES = values(
    root="/home/me/app",
    worktree="/data/app-login",
    branch="plait/login-abc123",
    default_branch="main",
    commit="0123456789abcdef0123456789abcdef01234567",
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cd {{ repo_path }} && x", "cd /home/me/app && x"),
        ("{{repo}}-{{ branch | sanitize }}", "app-plait-login-abc123"),
        ("ln -s {{ main_worktree_path }}/node_modules .", "ln -s /home/me/app/node_modules ."),
        ("{{ (repo ~ '-' ~ branch) | sanitize }}", "app-plait-login-abc123"),
        ("{{ worktree_name }} {{ commit }}", "app-login 0123456789abcdef0123456789abcdef01234567"),
        ("echo {{ branch | hash_port }}", f"echo {hash_port('plait/login-abc123')}"),
        ("echo ${HOME} {x} {}", "echo ${HOME} {x} {}"),
    ],
)
def test_templates_are_rendered(line: str, expected: str) -> None:
    assert render(line, VALUES) == expected
    assert rendered("worktrunk", [line], VALUES) == ((expected,), ())
    assert rendered("paseo", [line], VALUES) == ((line,), ())


@pytest.mark.parametrize(
    "line",
    [
        "{{ branch | upper }}",
        "{% if upstream %}x{% endif %}",
        "{# x #}",
        "{{ branch",
        "branch }}",
        "{{ vars.db }}",
        "{{ unknown }}",
        "{{- branch }}",
        "{{{ branch }}}",
        "{{ repo ~ branch }}",
        "{{ args[0] }}",
        "{{}}",
    ],
)
def test_what_cannot_be_rendered_exactly_is_refused_whole(line: str) -> None:
    assert cannot_render(line) is not None
    assert isinstance(render(line, VALUES), Problem)


@pytest.mark.parametrize("root", ["/a b/app", "/a/$(touch pwned)", "/a'b", '/a"b', "/a;b", "/a\nb", "/a/`x`"])
@pytest.mark.parametrize("quotes", ["{}", "'{}'", '"{}"'])
def test_a_directorys_name_can_never_become_a_command(root: str, quotes: str) -> None:
    line = "echo " + quotes.format("{{ repo_path }}")
    made, problems = rendered("worktrunk", [line, "echo fine"], VALUES | {"repo_path": root})
    assert made == ("echo fine",)
    assert "not a plain word" in problems[0].message


def test_siphash_agrees_with_the_interpreters_own() -> None:
    if sys.hash_info.algorithm != "siphash13":
        pytest.skip("this Python hashes strings in another way")
    samples = [bytes(range(length)) for length in range(1, 70)]
    code = "import ast,sys; print([hash(one) & (2**64-1) for one in ast.literal_eval(sys.stdin.read())])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=repr(samples),
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [siphash13(one) for one in samples]
    assert 10000 <= hash_port("main") <= 19999
