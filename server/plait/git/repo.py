"""What a repository is: where it lies, what its branches are called, and what is unusual about it."""

from __future__ import annotations

import difflib
import functools
import os
from dataclasses import dataclass
from pathlib import Path

from plait.errors import GitError, UsageError
from plait.git.run import Result, failure, git


@dataclass(frozen=True)
class Repo:
    """A repository as seen from one checkout of it."""

    common_dir: Path
    """The directory that all its worktrees share."""
    git_dir: Path
    """The git directory of the user's checkout; the common one unless that checkout is a linked
    worktree."""
    top: Path | None
    """The top of the user's checkout; None for a bare repository."""

    @property
    def key(self) -> str:
        """A name for the repository that survives a rename of its directory, made of device and inode."""
        found = self.common_dir.stat()
        return f"{found.st_dev:x}-{found.st_ino:x}"

    @property
    def objects(self) -> Path:
        return self.common_dir / "objects"

    def run(self, *args: str, check: bool = True, stdin: bytes = b"", writes: bool = False) -> Result:
        """Run git on the repository itself, with its own configuration: only for what runs none of it."""
        return git(args, cwd=self.common_dir, git_dir=self.common_dir, check=check, stdin=stdin, writes=writes)


@dataclass(frozen=True)
class Base:
    """The commit that a session starts from, and the full name of the ref that named it, if one did."""

    commit: str
    ref_name: str | None


def find(path: Path) -> Repo:
    """The repository that `path` (a file or directory, of any worktree of it) belongs to.

    Raises UsageError if there is none, GitError if git refuses it, such as one that another user owns.
    """
    start = path.absolute()
    while not start.is_dir():
        if start == start.parent:
            break
        start = start.parent
    result = git(
        ["rev-parse", "--path-format=absolute", "--git-common-dir", "--absolute-git-dir", "--is-bare-repository"],
        cwd=start,
        check=False,
    )
    if result.status != 0:
        if "not a git repository" in result.err:
            raise UsageError(
                f"{path} is not in a git repository.", "Open a folder of a repository, or run `git init` there."
            )
        raise failure(["rev-parse"], result)
    common, git_dir, _ = result.text.rsplit("\n", 2)
    # Inside a .git directory there is no worktree to speak of, and a bare repository has none.
    shown = git(["rev-parse", "--path-format=absolute", "--show-toplevel"], cwd=start, check=False)
    top = Path(shown.text) if shown.status == 0 and shown.text else None
    if top is None and Path(common).name == ".git" and Path(common) == Path(git_dir):
        top = _top_of(Path(common))
    return Repo(Path(os.path.realpath(common)), Path(os.path.realpath(git_dir)), top and Path(os.path.realpath(top)))


def resolve_base(repo: Repo, ref: str | None = None) -> Base:
    """The commit that `ref` (a branch, tag, remote branch or commit; default: HEAD) names.

    Raises UsageError naming an unknown ref and those that look like it, GitError if the repository has no
    commit yet.
    """
    at = repo.git_dir
    if ref is None:
        head = git(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], cwd=repo.common_dir, git_dir=at, check=False)
        if head.status != 0:
            raise GitError(
                "The repository has no commit yet, so a session has nothing to start from.",
                "Commit something first: git commit --allow-empty -m 'Start'.",
            )
        return Base(head.text, _symbolic(repo, "HEAD"))
    args = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"]
    found = None if _odd(ref) else git(args, cwd=repo.common_dir, git_dir=at, check=False)
    if found is None or found.status != 0 or not found.text:
        near = difflib.get_close_matches(ref, [*branches(repo), *_tags(repo)], n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "`git branch --all` lists what there is."
        raise UsageError(f"There is no branch, tag or commit {ref!r} in this repository.", hint)
    full = git(
        ["rev-parse", "--symbolic-full-name", "--end-of-options", ref], cwd=repo.common_dir, git_dir=at, check=False
    )
    # `rev-parse` repeats the marker itself before the answer.
    names = [line for line in full.text.splitlines() if line.startswith("refs/")]
    return Base(found.text, names[0] if full.status == 0 and names else None)


def branches(repo: Repo) -> list[str]:
    """The short names of the local branches and, as `origin/x`, of the remote ones."""
    listing = repo.run("for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").text.splitlines()
    return [name.removeprefix("refs/heads/").removeprefix("refs/remotes/") for name in listing]


def current_branch(repo: Repo) -> str | None:
    """The branch that the user's checkout is on, which may have no commit yet; None when HEAD is
    detached."""
    name = _symbolic(repo, "HEAD")
    return name.removeprefix("refs/heads/") if name else None


def default_branch(repo: Repo) -> str | None:
    """The branch that work goes to: what origin calls its HEAD, else main or master, else the current
    one."""
    origin = _symbolic(repo, "refs/remotes/origin/HEAD")
    if origin:
        return origin.removeprefix("refs/remotes/origin/")
    present = set(repo.run("for-each-ref", "--format=%(refname)", "refs/heads").text.splitlines())
    for name in ("main", "master", "trunk"):
        if f"refs/heads/{name}" in present:
            return name
    return current_branch(repo)


def identity(repo: Repo) -> tuple[str, str]:
    """Name and address that the user commits under here.

    Raises GitError with the command that sets them.
    """
    hint = "Set them: git config --global user.name 'Your Name' && git config --global user.email you@example.com"
    values = []
    for key in ("user.name", "user.email"):
        found = git(["config", "--get", key], cwd=repo.common_dir, git_dir=repo.git_dir, check=False)
        if found.status != 0 or not found.text.strip():
            raise GitError(f"git does not know your {key}, which a commit needs.", hint)
        values.append(found.text.strip())
    return values[0], values[1]


@functools.lru_cache(maxsize=1024)
def branch_ref(branch: str) -> str:
    """The full ref name of a branch, once `branch` is known to be a name and nothing else.

    Raises UsageError for an option, a revision expression, or what git does not allow in a name.
    """
    ref = f"refs/heads/{branch}"
    plain = not branch.startswith(("-", "refs/")) and branch not in ("", "HEAD", "@") and not _odd(branch)
    if not plain or git(["check-ref-format", ref], cwd=Path("/"), check=False).status != 0:
        raise UsageError(f"{branch!r} cannot be the name of a branch.", "Use letters, digits, '-', '_', '.' and '/'.")
    return ref


def features(repo: Repo, commit: str) -> list[str]:
    """What about the repository makes a new worktree differ from the user's checkout, as sentences for the
    user."""
    notes = []
    modules = repo.run("ls-tree", "-z", "--name-only", "--end-of-options", commit, ".gitmodules").out
    if modules:
        notes.append(
            "It has submodules, which a new worktree leaves empty; "
            "run `git submodule update --init` in setup if they are needed."
        )
    if _uses_lfs(repo, commit):
        notes.append(
            "It uses Git LFS; a new worktree holds pointers. Run `git lfs pull` in setup if the files are needed."
        )
    if _setting(repo, "core.sparseCheckout") == "true":
        notes.append("Your checkout is sparse; a new worktree has the same part of the tree.")
    if (repo.common_dir / "shallow").exists():
        notes.append(
            "It is a shallow clone; a merge may not find where two branches parted. `git fetch --unshallow` helps."
        )
    if _setting(repo, "extensions.partialClone") or _setting(repo, "remote.origin.promisor") == "true":
        notes.append(
            "It is a partial clone, and Plait fetches nothing by itself; "
            "if files are missing, run `git fetch --refetch --no-filter` once."
        )
    return notes


def _uses_lfs(repo: Repo, commit: str) -> bool:
    listing = repo.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit).fields
    entries = [entry.split("\t", 1) for entry in listing]
    blobs = [meta.split()[2] for meta, path in entries if path.rsplit("/", 1)[-1] == ".gitattributes"]
    texts = [repo.run("cat-file", "blob", blob).out for blob in blobs[:50]]
    info = repo.common_dir / "info" / "attributes"
    if info.is_file():
        texts.append(info.read_bytes())
    return any(b"filter=lfs" in text for text in texts)


def _setting(repo: Repo, key: str) -> str:
    found = git(["config", "--get", key], cwd=repo.common_dir, git_dir=repo.git_dir, check=False)
    return found.text.strip().lower()


def _symbolic(repo: Repo, name: str) -> str | None:
    found = git(["symbolic-ref", "--quiet", name], cwd=repo.common_dir, git_dir=repo.git_dir, check=False)
    return found.text if found.status == 0 and found.text else None


def _tags(repo: Repo) -> list[str]:
    return repo.run("for-each-ref", "--format=%(refname:short)", "refs/tags").text.splitlines()


def _top_of(git_dir: Path) -> Path | None:
    shown = git(["rev-parse", "--is-bare-repository"], cwd=git_dir, git_dir=git_dir, check=False)
    return git_dir.parent if shown.text == "false" else None


def _odd(name: str) -> bool:
    return any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
