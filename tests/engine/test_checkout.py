from __future__ import annotations

import os
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait.core.accept import Chmod, Delete, FileOperation, Rename, Write, accept
from plait.core.changes import EXECUTABLE, REGULAR, SUBMODULE, SYMLINK, Content, FileChange
from plait.engine.checkout import apply, read, refusal
from plait.errors import PlaitError, StaleError, StorageError, UsageError
from tests.support.contents import any_changes, at_base

ONE, TWO = Content(b"one\n"), Content(b"two\n")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    place = tmp_path / "top"
    place.mkdir()
    return place


def files(top: Path) -> list[str]:
    return sorted(str(file.relative_to(top)) for file in top.rglob("*"))


def test_a_file_a_link_and_an_executable_are_read_as_git_would(top: Path) -> None:
    (top / "d").mkdir()
    (top / "d" / "f").write_bytes(b"a\r\n\xff")
    (top / "x").write_bytes(b"")
    (top / "x").chmod(0o755)
    (top / "l").symlink_to("/etc/passwd")
    assert read(top, "d/f") == Content(b"a\r\n\xff", REGULAR)
    assert read(top, "x") == Content(b"", EXECUTABLE)
    assert read(top, "l") == Content(b"/etc/passwd", SYMLINK)
    assert [read(top, path) for path in ("missing", "no/where", "d", "x/below")] == [None] * 4


def test_names_that_are_not_text_are_read_too(top: Path) -> None:
    (top / os.fsdecode(b"\xff\n")).write_bytes(b"a")
    assert read(top, "\udcff\n") == Content(b"a")


def test_nothing_is_read_through_a_link(top: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "f").write_bytes(b"secret")
    (top / "d").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError, match="link"):
        read(top, "d/f")


def test_a_pipe_or_a_socket_is_refused_and_does_not_block(top: Path) -> None:
    os.mkfifo(top / "pipe")
    with pytest.raises(StorageError, match="pipe"):
        read(top, "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "socket"))
        with pytest.raises(StorageError, match="socket"):
            read(top, "socket")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../x",
        "a/..",
        ".",
        "a/./b",
        "a//b",
        "a/",
        "a\0b",
        ".git",
        ".git/config",
        "sub/.git/hooks/pre-commit",
        ".GIT/config",
        ".Git",
        ".git /x",
        ".git./x",
        ".git. . /x",
        ".git::$INDEX_ALLOCATION/config",
        "git~1/config",
        "GIT~1",
        ".g\u200cit/config",
        "\ufeff.git/config",
        ".git\u200f",
        "a\\.git\\config",
        "..\\.git",
    ],
)
def test_a_path_that_leads_out_of_the_tree_or_into_git_is_refused(path: str, top: Path) -> None:
    assert refusal(path) is not None
    with pytest.raises(UsageError):
        read(top, path)
    operations: list[FileOperation] = [Write(path, ONE), Delete(path), Chmod(path, EXECUTABLE), Rename("f", path)]
    (top / "f").write_bytes(ONE.data)
    for operation in operations:
        with pytest.raises(UsageError):
            apply(top, [operation], {path: None, "f": ONE})
    assert files(top) == ["f"]


@pytest.mark.parametrize("path", [".gitignore", ".github/x", "git", "a.git", ".git2", "git~", "...", "..a", "a b", "é"])
def test_an_ordinary_path_is_not_refused(path: str, top: Path) -> None:
    assert refusal(path) is None
    apply(top, [Write(path, ONE)], {path: None})
    assert read(top, path) == ONE


def test_a_file_is_created_with_its_directories_and_replaced_and_removed_with_them(top: Path) -> None:
    apply(top, [Write("a/b/f", ONE), Write("a/g", TWO)], {"a/b/f": None, "a/g": None})
    assert read(top, "a/b/f") == ONE
    apply(top, [Write("a/b/f", TWO)], {"a/b/f": ONE})
    assert read(top, "a/b/f") == TWO
    apply(top, [Delete("a/b/f")], {"a/b/f": TWO})
    assert files(top) == ["a", "a/g"]
    apply(top, [Delete("a/g")], {"a/g": TWO})
    assert files(top) == []
    assert top.is_dir()


def test_replacing_keeps_the_permissions_and_changes_only_the_bit_that_is_asked_for(top: Path) -> None:
    file = top / "f"
    file.write_bytes(ONE.data)
    file.chmod(0o640)
    apply(top, [Write("f", TWO)], {"f": ONE})
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    apply(top, [Write("f", Content(b"x", EXECUTABLE))], {"f": TWO})
    assert stat.S_IMODE(file.stat().st_mode) == 0o750
    apply(top, [Chmod("f", REGULAR)], {"f": Content(b"x", EXECUTABLE)})
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    apply(top, [Chmod("f", EXECUTABLE), Write("f", ONE)], {"f": Content(b"x")})
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_new_file_has_the_permissions_of_the_umask(top: Path) -> None:
    before = os.umask(0o027)
    try:
        apply(top, [Write("f", ONE), Write("x", Content(b"", EXECUTABLE))], {"f": None, "x": None})
    finally:
        os.umask(before)
    assert stat.S_IMODE((top / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((top / "x").stat().st_mode) == 0o750


def test_a_renamed_file_moves_with_its_identity_and_leaves_no_empty_directory(top: Path) -> None:
    apply(top, [Write("a/f", ONE)], {"a/f": None})
    (top / "a/f").chmod(0o600)
    apply(top, [Rename("a/f", "b/c/g"), Write("b/c/g", TWO)], {"a/f": ONE, "b/c/g": None})
    assert files(top) == ["b", "b/c", "b/c/g"]
    assert read(top, "b/c/g") == TWO
    assert stat.S_IMODE((top / "b/c/g").stat().st_mode) == 0o600


def test_a_rename_never_replaces_a_file(top: Path) -> None:
    (top / "f").write_bytes(ONE.data)
    (top / "g").write_bytes(TWO.data)
    with pytest.raises(StaleError):
        apply(top, [Rename("f", "g")], {"f": ONE, "g": None})
    with pytest.raises(PlaitError):
        apply(top, [Rename("f", "g")], {"f": ONE, "g": TWO})
    assert (read(top, "f"), read(top, "g")) == (ONE, TWO)


def test_a_link_is_created_replaced_and_removed_but_never_followed(top: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep")
    (top / "f").symlink_to(outside)
    there = Content(os.fsencode(outside), SYMLINK)
    apply(top, [Write("f", ONE)], {"f": there})
    assert read(top, "f") == ONE
    apply(top, [Write("f", Content(b"target", SYMLINK))], {"f": ONE})
    assert (top / "f").readlink() == Path("target")
    (top / "g").symlink_to(outside)
    apply(top, [Delete("g")], {"g": there})
    assert outside.read_bytes() == b"keep"
    assert files(top) == ["f"]


def test_a_link_that_leaves_the_tree_is_created_only_if_it_is_allowed(top: Path) -> None:
    link = Content(b"../outside", SYMLINK)
    with pytest.raises(UsageError, match="points out of the tree"):
        apply(top, [Write("l", link)], {"l": None})
    assert files(top) == []
    apply(top, [Write("l", link)], {"l": None}, allow_escaping_links=True)
    assert read(top, "l") == link


def test_nothing_is_written_through_a_link(top: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(ONE.data)
    (top / "d").symlink_to(outside)
    for operation in (Write("d/new", ONE), Write("d/f", TWO), Delete("d/f"), Chmod("d/f", EXECUTABLE)):
        with pytest.raises(StorageError, match="link"):
            apply(top, [operation], {operation.path: ONE if operation.path == "d/f" else None})
    assert files(outside) == ["f"]
    assert read(outside, "f") == ONE


def test_a_submodule_is_not_written(top: Path) -> None:
    with pytest.raises(UsageError, match="submodule"):
        apply(top, [Write("s", Content(b"1" * 40, SUBMODULE))], {"s": None})


def test_a_path_without_an_expectation_is_refused(top: Path) -> None:
    with pytest.raises(UsageError, match="expected"):
        apply(top, [Write("f", ONE)], {})


@pytest.mark.parametrize("operation", [Write("f", TWO), Delete("f"), Chmod("f", EXECUTABLE), Rename("f", "g")])
@pytest.mark.parametrize("seen", [TWO, None, Content(b"one\n", EXECUTABLE), Content(b"one\n", SYMLINK)])
def test_a_file_that_changed_since_is_left_alone(operation: FileOperation, seen: Content | None, top: Path) -> None:
    (top / "f").write_bytes(ONE.data)
    with pytest.raises(StaleError):
        apply(top, [operation], {"f": seen, "g": None})
    assert files(top) == ["f"]
    assert read(top, "f") == ONE


def test_several_files_are_all_checked_before_one_is_written(top: Path) -> None:
    (top / "b").write_bytes(b"changed")
    with pytest.raises(StaleError):
        apply(top, [Write("a", ONE), Write("b", TWO)], {"a": None, "b": ONE})
    with pytest.raises(UsageError):
        apply(top, [Write("a", ONE), Write("../b", TWO)], {"a": None, "../b": None})
    with pytest.raises(StorageError, match="is a file"):
        apply(top, [Write("a", ONE), Write("b/c", TWO)], {"a": None, "b/c": None})
    (top / "d").mkdir()
    with pytest.raises(StorageError, match="directory"):
        apply(top, [Write("a", ONE), Write("d", TWO)], {"a": None, "d": None})
    assert files(top) == ["b", "d"]


def test_a_file_gives_way_to_a_directory_and_a_directory_to_a_file(top: Path) -> None:
    apply(top, [Write("a", ONE)], {"a": None})
    apply(top, [Delete("a"), Write("a/b", TWO)], {"a": ONE, "a/b": None})
    assert read(top, "a/b") == TWO
    apply(top, [Delete("a/b"), Write("a", ONE)], {"a/b": TWO, "a": None})
    assert read(top, "a") == ONE


def test_a_failure_midway_says_what_had_been_written(top: Path) -> None:
    (top / "d").mkdir()
    (top / "d" / "keep").write_bytes(b"")
    (top / "d" / "f").write_bytes(ONE.data)
    # The directory is not emptied by the deletion, which only shows when the file is to take its place.
    operations: list[FileOperation] = [Write("a", ONE), Delete("d/f"), Write("d", TWO), Write("z", ONE)]
    with pytest.raises(PlaitError, match="Already written: a, d/f") as caught:
        apply(top, operations, {"a": None, "d/f": ONE, "d": None, "z": None})
    assert caught.value.data["done"] == ["a", "d/f"]
    assert files(top) == ["a", "d", "d/keep"]


def test_a_disk_that_refuses_leaves_the_file_and_no_remnant(top: Path) -> None:
    name = "n" * 300
    with pytest.raises(StorageError):
        apply(top, [Write(f"d/{name}", ONE)], {f"d/{name}": None})
    assert [file for file in files(top) if "plait" in file] == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=any_changes(), data=st.data())
def test_what_the_core_decides_is_what_lies_on_disk_afterwards(
    change: FileChange, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.mktemp("top")
    start = change.old_path or change.path
    if change.base is not None:
        apply(top, [Write(start, change.base)], {start: None}, allow_escaping_links=True)
    chosen = frozenset(hunk.id for hunk in change.hunks if data.draw(st.booleans()))
    outcome = accept(change, at_base(change), chosen)
    apply(top, outcome.operations, outcome.expected, allow_escaping_links=True)
    assert read(top, change.path) == outcome.user.at_new
    if change.old_path is not None:
        assert read(top, change.old_path) == outcome.user.at_old


def test_a_directory_that_is_swapped_for_a_link_all_the_time_never_lets_a_write_out(top: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub" / "f").write_bytes(b"outside")
    (top / "d" / "sub").mkdir(parents=True)
    aside, link = tmp_path / "aside", tmp_path / "link"
    link.symlink_to(outside)
    over = threading.Event()

    def put_there(source: Path) -> None:
        while source.is_symlink() or source.exists():
            # The directory was missing for a moment, and may have been created for the file that is written.
            with suppress(OSError):
                source.rename(top / "d")
                return
            with suppress(FileNotFoundError):
                (top / "d").rename(tmp_path / f"created {time.monotonic_ns()}")

    def swap() -> None:
        while not over.is_set():
            try:
                (top / "d").rename(aside)
            except FileNotFoundError:
                # A deletion emptied it, and so removed it too.
                aside.mkdir()
            put_there(link)
            (top / "d").rename(link)
            put_there(aside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    tried = done = refused = 0
    until = time.monotonic() + 2
    try:
        while time.monotonic() < until or not (done and refused):
            assert time.monotonic() < until + 30, (tried, done, refused)
            tried += 1
            content = Content(b"%d" % tried)
            try:
                before = read(top, "d/sub/f")
                assert before is None or before.data != b"outside"
                operation = Delete("d/sub/f") if before is not None and tried % 3 == 0 else Write("d/sub/f", content)
                apply(top, [operation, Write("d/sub/deep/g", content)], {"d/sub/f": before, "d/sub/deep/g": None})
                apply(top, [Delete("d/sub/deep/g")], {"d/sub/deep/g": content})
                done += 1
            except PlaitError:
                refused += 1
    finally:
        over.set()
        swapper.join()
    assert files(outside) == ["sub", "sub/f"]
    assert (outside / "sub" / "f").read_bytes() == b"outside"


@pytest.mark.parametrize(
    ("step", "operation", "seen"),
    [("rename", Delete("f"), ONE), ("link", Write("f", ONE), None), ("link", Rename("g", "f"), None)],
)
def test_what_an_editor_saves_at_the_last_moment_is_left_alone(
    step: str, operation: FileOperation, seen: Content | None, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "g").write_bytes(b"g")
    if seen is not None:
        (top / "f").write_bytes(seen.data)
    performed = getattr(os, step)

    def saved_just_before(*arguments: object, **options: object) -> None:
        monkeypatch.undo()
        (top / "f").write_bytes(b"saved")
        performed(*arguments, **options)

    monkeypatch.setattr(os, step, saved_just_before)
    with pytest.raises(PlaitError):
        apply(top, [operation], {"f": seen, "g": Content(b"g")})
    assert read(top, "f") == Content(b"saved")
    assert files(top) == ["f", "g"]
