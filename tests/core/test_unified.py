from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.core.accept import accept
from plait.core.changes import EXECUTABLE, SUBMODULE, SYMLINK, Content, FileChange, file_change
from plait.core.unified import hunk_text, quoted, unified
from tests.support.contents import any_changes, at_base, change_of, many


def git(place: Path, *argv: str, stdin: bytes = b"") -> bytes:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    result = subprocess.run(["git", *argv], cwd=place, input=stdin, capture_output=True, check=False, env=environment)
    assert result.returncode == 0, (result.stderr, stdin)
    return result.stdout


def put(place: Path, path: str, content: Content | None) -> None:
    if content is None:
        return
    file = place / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if content.mode == SYMLINK:
        file.symlink_to(os.fsdecode(content.data))
    else:
        file.write_bytes(content.data)
        file.chmod(content.mode & 0o777)


def held(place: Path) -> dict[str, Content]:
    found: dict[str, Content] = {}
    for file in place.rglob("*"):
        name, mode = str(file.relative_to(place)), file.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[name] = Content(os.fsencode(file.readlink()), SYMLINK)
        elif stat.S_ISREG(mode):
            found[name] = Content(file.read_bytes(), EXECUTABLE if mode & 0o100 else 0o100644)
    return found


def in_directory(change: FileChange, directory: str) -> FileChange:
    old = None if change.old_path is None else f"{directory}/{change.old_path}"
    return file_change(f"{directory}/{change.path}", old, change.base, change.agent)


@many
@given(
    changes=st.lists(any_changes(), min_size=1, max_size=6),
    data=st.data(),
    context=st.sampled_from([1, 3]),
)
def test_any_subset_of_hunks_does_what_git_makes_of_its_patch(
    changes: list[FileChange], data: st.DataObject, context: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Never without context: git 2.39 misplaces its own `diff -U0` of a deletion among equal lines at a file's end.
    place = tmp_path_factory.mktemp("tree")
    patch, expected = b"", dict[str, Content]()
    for number, plain in enumerate(changes):
        change = in_directory(plain, str(number))
        put(place, change.old_path or change.path, change.base)
        chosen = [hunk for hunk in change.hunks if data.draw(st.booleans())]
        patch += unified(change, chosen, context, binary=True)
        after = accept(change, at_base(change), frozenset(hunk.id for hunk in chosen)).user
        for path, content in ((change.old_path, after.at_old), (change.path, after.at_new)):
            if path is not None and content is not None:
                expected[path] = content
    if patch:
        git(place, "apply", "--whitespace=nowarn", "-", stdin=patch)
    assert held(place) == expected


@pytest.mark.parametrize(
    "name", ["plain", "two words", 'quote"d', "back\\slash", "tab\tnew\nline", "é", "b\udcffad", "\x7f\x01", "-dash"]
)
def test_paths_are_quoted_as_git_quotes_them(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    git(tmp_path, "init", "-q")
    assert git(tmp_path, "ls-files", "--others", "--", name).rstrip(b"\n") == quoted(name)


@pytest.mark.parametrize(
    ("base", "agent"),
    [
        (Content(b"a\nb\nc\n"), Content(b"a\nX\nc\n")),
        (Content(b"a\nb"), Content(b"a\nb\n")),
        (Content(b"a\n"), Content(b"a\nb")),
        (None, Content(b"a\nb")),
        (None, Content(b"")),
        (Content(b"a\n"), None),
        (Content(b"a\n"), Content(b"b\n", EXECUTABLE)),
        (Content(b"a\n"), Content(b"a\n", EXECUTABLE)),
        (Content(b"".join(b"%d\n" % i for i in range(30))), Content(b"".join(b"%d\n" % (i % 28) for i in range(30)))),
        (Content(b"\0a"), Content(b"\0b")),
        (None, Content(b"to", SYMLINK)),
        (Content(b"to", SYMLINK), Content(b"from", SYMLINK)),
        (Content(b"to"), Content(b"to", SYMLINK)),
    ],
)
def test_the_patch_reads_as_the_one_that_git_writes(
    base: Content | None, agent: Content | None, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q")
    for side in (base, agent):
        (tmp_path / "some file").unlink(missing_ok=True)
        put(tmp_path, "some file", side)
        git(tmp_path, "add", "-A")
        git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x")
    theirs = git(tmp_path, "diff", "--full-index", "--no-renames", "HEAD~", "HEAD")
    # What git writes behind the second @@ is a guess at the enclosing function; nothing reads it.
    rows = [row[: row.index(b" @@") + 3] if row.startswith(b"@@") else row for row in theirs.split(b"\n")]
    assert unified(file_change("some file", None, base, agent)).split(b"\n") == rows


def test_a_binary_file_is_only_named_unless_its_content_is_asked_for() -> None:
    change = file_change("f", None, Content(b"\0a"), Content(b"\0b"))
    assert unified(change).endswith(b"Binary files a/f and b/f differ\n")
    assert b"GIT binary patch\nliteral 2\n" in unified(change, binary=True)


def test_a_submodule_shows_its_commits() -> None:
    change = file_change("sub", None, Content(b"1" * 40, SUBMODULE), Content(b"2" * 40, SUBMODULE))
    patch = unified(change)
    assert b"-Subproject commit " + b"1" * 40 + b"\n+Subproject commit " + b"2" * 40 + b"\n" in patch
    assert b"index " + b"1" * 40 + b".." + b"2" * 40 + b" 160000\n" in patch


def test_nothing_chosen_is_no_patch() -> None:
    assert unified(change_of([b"a\n"], [b"b\n"]), []) == b""


def test_the_text_of_a_hunk_has_its_signs() -> None:
    hunk = change_of([b"a\n", b"b"], [b"a\n", b"c\n"]).hunks[0]
    assert hunk_text(hunk) == b"-b\n\\ No newline at end of file\n+c\n"
    assert hunk_text(replace(hunk, removed=())) == b"+c\n"
