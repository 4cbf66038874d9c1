from __future__ import annotations

import pytest

from tests.support.cli import Plait, Repos, numbered

pytestmark = pytest.mark.slow


def test_conflicts_names_the_pairs_the_places_and_the_order(plait: Plait, repos: Repos) -> None:
    repo = repos({"a.txt": numbered(40), "b.txt": numbered(40)})
    assert "No session has work" in plait("conflicts", cwd=repo, status=3).err
    one = plait.run(repo, "sed -i 's/^line 3$/ONE/' a.txt; rm b.txt")
    apart = plait.run(repo, "sed -i 's/^line 30$/APART/' a.txt")
    assert plait("conflicts", cwd=repo).out.startswith("No two sessions collide.\n")
    other = plait.run(repo, "sed -i 's/^line [345]$/OTHER/' a.txt; echo more >> b.txt")
    answer = plait("conflicts", "--json", cwd=repo).json
    (pair,) = answer["pairs"]
    assert (pair["a"], pair["b"]) == (one, other)
    assert [(file["path"], file["kind"]) for file in pair["files"]] == [
        ("a.txt", "contents"),
        ("b.txt", "modify/delete"),
    ]
    assert answer["order"] == [apart, one, other]
    lines = plait("conflicts", cwd=repo).out.splitlines()
    assert lines[0].split() == ["session", "other", "file", "lines", "what"]
    assert lines[1].split()[-6:] == ["a.txt", "3-5", "Both", "change", "these", "lines."]
    assert lines[2].endswith("b.txt         One changes it, the other deletes it.")
    assert [line.split()[0] for line in lines[5:]] == ["1", "2", "3"]
    assert lines[5].endswith("merges cleanly")
    assert lines[7].endswith("to be reworked after 1 other")


def test_conflicts_of_one_repository_or_of_all(plait: Plait, repos: Repos) -> None:
    here, there = repos(), repos()
    both = [plait.run(here, f"sed -i 's/^line 3$/{number}/' a.txt") for number in range(2)]
    assert "No session has work" in plait("conflicts", cwd=there, status=3).err
    answer = plait("conflicts", "--everywhere", "--json", cwd=there).json
    assert both in [[pair["a"], pair["b"]] for pair in answer["pairs"]]


def test_alternatives_are_named_as_such(plait: Plait, repos: Repos) -> None:
    repo = repos()
    first = plait.run(repo, 'sed -i "s/^line 3$/$$/" a.txt')
    plait("retry", first, cwd=repo)
    names = [session["id"] for session in plait("list", "--json", cwd=repo).json["sessions"]]
    plait("exec", "plait/wait", f'{{"sessions": ["{names[0]}", "{names[1]}"]}}')
    assert "Alternatives, of which to choose one: " in plait("conflicts", cwd=repo).out
