"""Whatever a repository or an agent configures, no command of ours runs any of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from plait.errors import PlaitError
from plait.git import merges, trees
from plait.git.finish import finish
from plait.git.repo import current_branch, default_branch, features, find, identity, resolve_base
from plait.git.shadow import Shadow, shadow
from plait.git.trash import purge, restore, trash
from plait.git.worktrees import Intent, Worktree, create, delete_branch, head, listed
from tests.support.repo import commit, make_repo, run_git, write

HOOKS = (
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "prepare-commit-msg",
    "reference-transaction",
    "update",
)


def payloads(marker: Path) -> dict[str, str]:
    """Every key known to name a program, each set to one that leaves a mark."""

    def run(name: str) -> str:
        return f"touch {marker}/{name}; cat; true "

    return {
        "core.fsmonitor": run("fsmonitor"),
        "core.pager": run("pager"),
        "core.editor": run("editor"),
        "sequence.editor": run("sequence"),
        "core.sshCommand": run("ssh"),
        "core.gitProxy": run("proxy"),
        "core.askPass": run("askpass"),
        "core.alternateRefsCommand": run("alternate"),
        "credential.helper": f"!{run('credential')}",
        "diff.external": run("external"),
        "diff.evil.command": run("command"),
        "diff.evil.textconv": run("textconv"),
        "filter.evil.clean": run("clean"),
        "filter.evil.smudge": run("smudge"),
        "filter.evil.process": run("process"),
        "filter.evil.required": "false",
        "merge.evil.driver": run("driver"),
        "merge.evil.name": "evil",
        "gpg.program": run("gpg"),
        "gpg.ssh.program": run("gpgssh"),
        "commit.gpgSign": "true",
        "tag.gpgSign": "true",
        "log.showSignature": "true",
        "pager.log": run("pagerlog"),
        "pager.diff": run("pagerdiff"),
        "interactive.diffFilter": run("difffilter"),
        "alias.add": f"!{run('alias')}",
        "alias.worktree": f"!{run('alias2')}",
        "alias.read-tree": f"!{run('alias3')}",
        "remote.origin.url": f"ext::sh -c touch% {marker}/ext",
        "remote.origin.uploadpack": run("uploadpack"),
        "remote.origin.promisor": "true",
        "remote.origin.vcs": "evil",
        "extensions.partialClone": "origin",
        "protocol.ext.allow": "always",
        "submodule.sub.update": f"!{run('submodule')}",
        "submodule.recurse": "true",
        "core.attributesFile": "/dev/null",
        "uploadpack.packObjectsHook": run("packhook"),
        "gc.auto": "1",
        "maintenance.auto": "true",
        "core.repositoryFormatVersion": "1",
        "extensions.worktreeConfig": "true",
    }


def plant(top: Path, marker: Path, place: Path) -> None:
    """Put every payload wherever git may look for it."""
    hooks = place / "hooks"
    for name in HOOKS:
        for directory in (hooks, top / ".git/hooks"):
            write(directory, {name: f"#!/bin/sh\ntouch {marker}/hook-{name}\n"})
            (directory / name).chmod(0o755)
    included = place / "included"
    included.write_text("".join(_section(key, value) for key, value in payloads(marker).items()))
    text = f"[core]\n\thooksPath = {hooks}\n[include]\n\tpath = {included}\n" + included.read_text()
    with (top / ".git/config").open("a") as file:
        file.write(text)
    for where in (top / ".git", *(top / ".git").glob("worktrees/*")):
        (where / "config.worktree").write_text(text)
    write(top / ".git/info", {"attributes": "* filter=evil diff=evil merge=evil\n"})


def _section(key: str, value: str) -> str:
    section, name = key.rsplit(".", 1)
    head_, _, sub = section.partition(".")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return (f'[{head_} "{sub}"]' if sub else f"[{head_}]") + f'\n\t{name} = "{escaped}"\n'


def attributes() -> dict[str, str | bytes]:
    return {".gitattributes": "* filter=evil diff=evil merge=evil\n", "a.txt": "one\ntwo\nthree\n", "b.txt": "b\n"}


def whole_life(shaded: Shadow, place: Path, name: str, after_create: object = None) -> Worktree:
    """Everything that this package does, once; an operation may refuse, it may not run a program of the repository."""
    repo = shaded.repo
    base = resolve_base(repo, "main").commit
    made = create(shaded, Intent(place / "worktrees" / name, f"plait/{name}", base, f"plait {name}"))
    assert (made.path / "a.txt").read_bytes()
    if callable(after_create):
        after_create(made)
    work(shaded, made, base, place, name)
    return made


def work(shaded: Shadow, made: Worktree, base: str, place: Path, name: str) -> None:
    repo = shaded.repo
    write(made.path, {"a.txt": f"one\n{name}\nthree\n", f"new-{name}": "n\n"})
    scratch = place / f"scratch-{name}"
    scratch.mkdir()
    trees.snapshot(shaded, made, "x", scratch=scratch)
    taken = trees.snapshot(shaded, made, "x", ref=f"refs/plait/{name}/1")
    assert taken.commit is not None
    found = trees.changes(shaded, base, taken.tree)
    assert {one.path for one in found} >= {"a.txt", f"new-{name}"}
    trees.blobs(shaded, [one.blob for one in found if one.mode != "160000"])
    trees.smudged(shaded, taken.tree, ["a.txt"])
    trees.write_tree(shaded, taken.tree, {"a.txt": ("100644", b"x\n")})
    merges.merge_trees(shaded, taken.commit, resolve_base(repo, "main").commit)
    merges.merge_base(shaded, taken.commit, base)
    current_branch(repo), default_branch(repo), features(repo, base), identity(repo), head(shaded, made), listed(repo)
    for how in ("squash", "rebase", "merge"):
        who = ("Ada", "ada@example.org")
        try:
            finish(shaded, into="side", how=how, work=head(shaded, made), tree=taken.tree, message="m", identity=who)
            finish(shaded, into="main", how=how, work=head(shaded, made), tree=taken.tree, message="m", identity=who)
        except PlaitError:
            continue
    thrown = trash(shaded, made, place / "trash")
    restore(shaded, thrown)
    purge(shaded, trash(shaded, made, place / "trash"), branch_tip=base)
    delete_branch(shaded, f"plait/{name}", base)
    trees.drop_ref(shaded, f"refs/plait/{name}/1", taken.commit)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    place = tmp_path / "marker"
    place.mkdir()
    return place


def test_the_payloads_are_live(tmp_path: Path, marker: Path) -> None:
    top = make_repo(tmp_path, attributes())
    plant(top, marker, tmp_path)
    write(top, {"a.txt": "changed\n"})
    for command in ("status", "add -A", "diff --cached", "commit -m x", "log -p", "checkout -b y"):
        subprocess.run(["git", *command.split()], cwd=top, capture_output=True, check=False, timeout=60)
    assert len(list(marker.iterdir())) >= 5, "the test would prove nothing if git itself ran none of it"


def test_a_hostile_repository_runs_nothing_in_a_whole_life(tmp_path: Path, marker: Path) -> None:
    top = make_repo(tmp_path, attributes())
    run_git(top, "branch", "side")
    plant(top, marker, tmp_path)
    shaded = shadow(find(top), tmp_path / "state")
    whole_life(shaded, tmp_path, "one")
    assert [path.name for path in marker.iterdir()] == []


def test_an_agent_that_plants_it_midway_runs_nothing(tmp_path: Path, marker: Path) -> None:
    top = make_repo(tmp_path, attributes())
    run_git(top, "branch", "side")
    shaded = shadow(find(top), tmp_path / "state")
    whole_life(shaded, tmp_path, "one", lambda made: plant(top, marker, tmp_path))
    whole_life(shadow(find(top), tmp_path / "state"), tmp_path, "two")
    assert [path.name for path in marker.iterdir()] == []


def test_a_swapped_git_file_and_a_bare_repository_within_are_not_followed(tmp_path: Path, marker: Path) -> None:
    top = make_repo(tmp_path, attributes())
    run_git(top, "branch", "side")
    evil = make_repo(tmp_path / "evil", attributes())
    plant(evil, marker, tmp_path / "evil")

    def swap(made: Worktree) -> None:
        (made.path / ".git").write_text(f"gitdir: {evil / '.git'}\n")
        subprocess.run(["cp", "-r", str(evil / ".git"), str(made.path / "bare")], check=True)
        for name in ("HEAD", "config"):
            (made.path / name).write_bytes((evil / ".git" / name).read_bytes())

    whole_life(shadow(find(top), tmp_path / "state"), tmp_path, "one", swap)
    assert [path.name for path in marker.iterdir()] == []


def test_a_nested_repository_is_never_entered_even_when_committed(tmp_path: Path, marker: Path) -> None:
    top = make_repo(tmp_path, {"a.txt": "one\ntwo\nthree\n"})
    run_git(top, "branch", "side")

    def nest(made: Worktree) -> None:
        inner = make_repo(made.path / "vendor", attributes())
        commit(made.path, "A link to a nested repository")
        plant(inner, marker, tmp_path)
        write(inner, {"a.txt": "dirty\n"})

    shaded = shadow(find(top), tmp_path / "state")
    whole_life(shaded, tmp_path, "one", nest)
    assert [path.name for path in marker.iterdir()] == []


def test_links_and_pipes_in_place_of_git_files_neither_leak_nor_hang(tmp_path: Path, own_home: Path) -> None:
    top = make_repo(tmp_path, {"a.txt": "1\n"})
    info = top / ".git/info"
    for name in ("exclude", "attributes"):
        (info / name).unlink(missing_ok=True)
    (own_home / "secret").write_text("key")
    (info / "exclude").symlink_to(own_home / "secret")
    os.mkfifo(info / "attributes")
    shaded = shadow(find(top), tmp_path / "state")
    assert not (shaded.git_dir / "info/exclude").exists()
    assert not (shaded.git_dir / "info/attributes").exists()


def test_the_configuration_of_the_shadow_holds_nothing_but_the_fixed_keys(tmp_path: Path, marker: Path) -> None:
    top = make_repo(tmp_path, attributes())
    plant(top, marker, tmp_path)
    run_git(top, "config", "user.name", 'x"\n[core]\n\tfsmonitor = evil')
    shaded = shadow(find(top), tmp_path / "state")
    keys = run_git(tmp_path, "config", "--file", str(shaded.git_dir / "config"), "--name-only", "--list").splitlines()
    assert set(keys) <= {
        "core.bare",
        "core.filemode",
        "core.repositoryformatversion",
        "lfs.storage",
        "user.name",
    }


def test_the_shadow_follows_the_settings_it_copies(tmp_path: Path) -> None:
    top = make_repo(tmp_path, {"a": "1\n"})
    shaded = shadow(find(top), tmp_path / "state")
    first = (shaded.git_dir / "config").stat().st_ino
    assert shadow(find(top), tmp_path / "state") == shaded
    assert (shaded.git_dir / "config").stat().st_ino == first
    run_git(top, "config", "core.eol", "crlf")
    (top / ".git/info/exclude").unlink()
    shadow(find(top), tmp_path / "state")
    assert run_git(tmp_path, "config", "--file", str(shaded.git_dir / "config"), "core.eol") == "crlf"
    assert not (shaded.git_dir / "info/exclude").exists()
    assert oct(shaded.home.stat().st_mode)[-3:] == "700"
