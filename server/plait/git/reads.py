"""Small questions about a repository and its worktrees, each answered without obeying its configuration."""

from __future__ import annotations

from pathlib import Path

from plait.git.repo import branch_ref
from plait.git.shadow import Shadow
from plait.git.trees import snapshot, tree_of
from plait.git.worktrees import Worktree


def ref_value(shadow: Shadow, ref: str) -> str | None:
    """The commit that a full ref name of the repository is at."""
    found = shadow.repo.run("rev-parse", "--verify", "--quiet", "--end-of-options", ref, check=False)
    return found.text if found.status == 0 and found.text else None


def branch_tip(shadow: Shadow, branch: str) -> str | None:
    """The commit that a branch is at; none if there is no such branch."""
    return ref_value(shadow, branch_ref(branch))


def refs_below(shadow: Shadow, prefix: str) -> list[tuple[str, str]]:
    """All refs below a prefix, each with its commit."""
    lines = shadow.repo.run("for-each-ref", "--format=%(refname) %(objectname)", prefix).text.splitlines()
    return [(ref, commit) for ref, _, commit in (line.partition(" ") for line in lines)]


def commits_since(shadow: Shadow, base: str, tip: str) -> int:
    """How many commits `tip` has that `base` has not."""
    return int(shadow.run("rev-list", "--count", "--end-of-options", tip, f"^{base}").text)


def parent(shadow: Shadow, commit: str) -> str:
    """The first parent of a commit."""
    return shadow.run("rev-parse", "--verify", "--end-of-options", f"{commit}^").text


def lines_changed(shadow: Shadow, base: str, tree: str) -> list[tuple[int, int]]:
    """Lines added and removed in each file that differs; a binary file counts none."""
    args = [
        "diff-tree",
        "-r",
        "-z",
        "--numstat",
        "-M",
        "--no-ext-diff",
        "--no-textconv",
        "--end-of-options",
        base,
        tree,
    ]
    counts = []
    for field in shadow.run(*args).fields:
        added, tab, rest = field.partition("\t")
        removed, second, _ = rest.partition("\t")
        # A rename's two paths follow in fields of their own, which hold no such pair of figures.
        if tab and second and all(figure.isdigit() or figure == "-" for figure in (added, removed)):
            counts.append((int(added) if added != "-" else 0, int(removed) if removed != "-" else 0))
    return counts


def ignored(shadow: Shadow, top: Path) -> list[str]:
    """The paths in the user's checkout that git ignores; a directory that is ignored whole ends in a slash."""
    with shadow.temporary() as place:
        index = place / "index"
        # The user's own index may list files that are not committed yet; copying it is a read.
        theirs = shadow.repo.git_dir / "index"
        if theirs.exists():
            index.write_bytes(theirs.read_bytes())
        args = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"]
        return list(shadow.run(*args, work_tree=top, index=index).fields)


def holds_only(shadow: Shadow, worktree: Worktree, base: str) -> bool:
    """Whether the worktree's files are those of `base` and no other, ignored ones included."""
    with shadow.temporary() as place:
        index = place / "index"
        shadow.run("read-tree", "--end-of-options", base, index=index)
        if shadow.run("ls-files", "-z", "--others", work_tree=worktree.path, index=index).fields:
            return False
    with shadow.temporary() as scratch:
        taken = snapshot(shadow, worktree, "", scratch=scratch)
        # What git could not take in may be anything.
        return not taken.problems and taken.tree == tree_of(shadow, base)
