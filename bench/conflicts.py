"""Finding which of many sessions collide, against merging every pair of them by one git process."""

from __future__ import annotations

import itertools
import random
import subprocess
from functools import partial
from pathlib import Path

from bench.pairs import measured, report
from bench.place import GIT, git, place, repository
from plait.core.changes import Content, file_change
from plait.core.conflicts import Pair, Work, candidates, merge_order, places, touched
from plait.errors import GitError
from plait.git.merges import collisions
from plait.git.repo import find
from plait.git.shadow import Shadow, shadow

HOT = 40
"""Files that many sessions change."""


def main(rounds: int = 3, files: int = 2000, lines: int = 300) -> None:
    with place() as root:
        top = repository(root / "repo", files, lines)
        ours = shadow(find(top), root / "state")
        for sessions in (10, 50, 100):
            works = dict(_sessions(top, files, lines, sessions))
            chosen = candidates(list(works))
            every = list(itertools.combinations(sorted(works, key=lambda work: work.session), 2))
            merged = _collisions(ours, works, chosen)
            found, truth = _found(works, merged), _found(works, _collisions(ours, works, _names(every)))
            assert found == truth, "no collision is missed, and none is made up"
            base = f"every pair ({len(every)})"
            print(f"  {sessions} sessions: {len(chosen)} candidates, {len(found)} pairs collide")
            newest = max(work.session for work in works)
            newer = [pair for pair in chosen if newest in pair]
            taken = measured(
                {
                    base: partial(_collisions, ours, works, _names(every)),
                    "candidates only": partial(_collisions, ours, works, chosen),
                    "one session changed": partial(_collisions, ours, works, newer),
                    "index, places and order": partial(_settled, works, merged),
                },
                rounds,
            )
            report(taken, base)


def _sessions(top: Path, files: int, lines: int, count: int) -> list[tuple[Work, str]]:
    """Commits in each of which three hot files and three others have three edits each."""
    rng = random.Random(count)
    base = git(top, "rev-parse", "HEAD").strip()
    made = []
    for session in range(count):
        stream = f"commit refs/heads/s{count}-{session}\ncommitter A <a@b> 1700000000 +0000\ndata 0\nfrom {base}\n"
        changes = []
        for number in (*rng.sample(range(HOT), 3), *rng.sample(range(HOT, files), 3)):
            path = f"d{number % 60}/f{number}.py"
            before = [f"value_{number}_{line} = {line}\n" for line in range(lines)]
            after = list(before)
            for row in rng.sample(range(lines), 3):
                after[row] = f"session_{session} = {row}\n"
            sides = ["".join(side).encode() for side in (before, after)]
            changes.append(file_change(path, None, Content(sides[0]), Content(sides[1])))
            stream += f"M 100644 inline {path}\ndata {len(sides[1])}\n{sides[1].decode()}\n"
        subprocess.run([*GIT, "fast-import", "--quiet"], cwd=top, input=stream.encode(), check=True)
        commit = git(top, "rev-parse", f"s{count}-{session}").strip()
        made.append((Work(f"s{session:03}", f"t{session}", base, touched(changes)), commit))
    return made


def _names(pairs: list[tuple[Work, Work]]) -> list[tuple[str, str]]:
    return [(one.session, other.session) for one, other in pairs]


def _collisions(ours: Shadow, works: dict[Work, str], pairs: list[tuple[str, str]]) -> dict[tuple[str, str], object]:
    commits = {work.session: commit for work, commit in works.items()}
    with ours.temporary() as scratch:
        answers = collisions(ours, [(commits[a], commits[b]) for a, b in pairs], scratch)
    return dict(zip(pairs, answers, strict=True))


def _found(works: dict[Work, str], merged: dict[tuple[str, str], object]) -> list[Pair]:
    known = {work.session: work for work in works}
    found = []
    for (a, b), answer in merged.items():
        assert not isinstance(answer, GitError)
        if answer:
            assert isinstance(answer, tuple)
            found.append(Pair(a, b, places(known[a], known[b], answer)))
    return found


def _settled(works: dict[Work, str], merged: dict[tuple[str, str], object]) -> None:
    assert candidates(list(works)) == list(merged)
    merge_order(list(works), _found(works, merged))
