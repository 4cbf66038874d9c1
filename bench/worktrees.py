"""Creating worktrees, against git's own `worktree add`, one by one and ten at once."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

from bench.pairs import measured, report
from bench.place import git, place, repository
from plait.git.repo import find, resolve_base
from plait.git.shadow import shadow
from plait.git.worktrees import Intent, create


def main(rounds: int = 7, files: int = 4000) -> None:
    with place() as root:
        top = repository(root / "repo", files, 30)
        repo = find(top)
        ours = shadow(repo, root / "state")
        base = resolve_base(repo).commit
        numbers = itertools.count()

        def plain() -> None:
            number = next(numbers)
            git(top, "worktree", "add", "--quiet", "-b", f"plain-{number}", str(root / "plain" / str(number)))

        def made(number: int | None = None) -> None:
            number = next(numbers) if number is None else number
            create(ours, Intent(root / "ours" / f"w{number}", f"ours-{number}", base, f"bench {number}"))

        def one_by_one() -> None:
            for _ in range(10):
                plain()

        def at_once() -> None:
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(made, [next(numbers) for _ in range(10)]))

        print(f"  a repository of {files} files")
        report(measured({"git worktree add": plain, "plait": made}, rounds), "git worktree add")
        ten = measured({"git, ten one by one": one_by_one, "plait, ten at once": at_once}, 3)
        report(ten, "git, ten one by one")
