"""Approvals: kept across processes, private, and worth nothing once a byte of the file is not as it was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plait.core.setup import approval_key
from plait.engine.approvals import FILE, Approval, Approvals
from plait.errors import StorageError

KEY = approval_key("/r", "plait.toml", ["npm ci"], {})
OTHER = approval_key("/r", "plait.toml", ["npm i"], {})


def _approved(state: Path) -> Approvals:
    approvals = Approvals(state)
    approvals.approve(KEY, "/r", "plait.toml", ["npm ci"], 1_700_000_000)
    return approvals


def test_nothing_is_approved_at_first_and_asking_writes_nothing(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path / "state")
    assert not approvals.approved(KEY)
    assert approvals.listing() == ()
    assert approvals.problem() is None
    assert not (tmp_path / "state").exists()


def test_what_was_approved_stays_so_for_another_process(tmp_path: Path) -> None:
    _approved(tmp_path)
    again = Approvals(tmp_path)
    assert again.approved(KEY)
    assert not again.approved(OTHER)
    assert again.listing() == (Approval(KEY, "/r", "plait.toml", ("npm ci",), 1_700_000_000.0),)


def test_approving_twice_keeps_one(tmp_path: Path) -> None:
    approvals = _approved(tmp_path)
    approvals.approve(KEY, "/r", "plait.toml", ["npm ci"], 1_800_000_000)
    assert [one.approved_at for one in approvals.listing()] == [1_800_000_000.0]


def test_an_approval_goes_by_its_key_or_with_its_repository(tmp_path: Path) -> None:
    approvals = _approved(tmp_path)
    approvals.approve(OTHER, "/r", "plait.toml", ["npm i"], 2)
    third = approval_key("/q", "plait.toml", ["x"], {})
    approvals.approve(third, "/q", "plait.toml", ["x"], 3)
    assert approvals.revoke(KEY) == 1
    assert (approvals.approved(KEY), approvals.approved(OTHER)) == (False, True)
    assert approvals.revoke("/r") == 1
    assert approvals.revoke("/r") == 0
    assert [one.key for one in approvals.listing()] == [third]


def test_one_byte_changed_in_the_commands_asks_again(tmp_path: Path) -> None:
    approvals = _approved(tmp_path)
    script = b"#!/bin/sh\nnpm ci\n"
    key = approval_key("/r", "x", ["./s.sh"], {"s.sh": script})
    approvals.approve(key, "/r", "x", ["./s.sh"], 1)
    for position in range(len(script)):
        changed = bytearray(script)
        changed[position] ^= 1
        assert not approvals.approved(approval_key("/r", "x", ["./s.sh"], {"s.sh": bytes(changed)}))


def test_no_changed_byte_of_the_file_approves_or_lists_anything_else(tmp_path: Path) -> None:
    approvals = _approved(tmp_path)
    genuine = approvals.listing()
    path = tmp_path / FILE
    whole = path.read_bytes()
    for position in range(len(whole)):
        for change in (0x01, 0x20, 0x80):
            mutated = bytearray(whole)
            mutated[position] ^= change
            path.write_bytes(mutated)
            # Some changes, such as a line feed for another space, leave the document the same.
            assert approvals.listing() in ((), genuine)
            assert not approvals.approved(OTHER)
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not approvals.approved(KEY)


def test_a_damaged_file_is_put_aside_by_the_next_approval_and_never_lost(tmp_path: Path) -> None:
    approvals = _approved(tmp_path)
    path = tmp_path / FILE
    for number in (1, 2):
        path.write_bytes(b"torn %d" % number)
        assert not approvals.approved(KEY)
        assert "damaged" in (approvals.problem() or "")
        assert path.read_bytes() == b"torn %d" % number
        approvals.approve(OTHER, "/r", "plait.toml", ["npm i"], 2)
        assert (approvals.approved(OTHER), approvals.approved(KEY)) == (True, False)
        assert (tmp_path / f"{FILE}.damaged-{number}").read_bytes() == b"torn %d" % number
    assert approvals.problem() is None


@pytest.mark.parametrize(
    "document", ["[]", "3", "null", '{"version": 2, "digest": "", "approvals": []}', "[" * 100_000, '{"approvals": 3}']
)
def test_a_file_of_another_shape_approves_nothing(tmp_path: Path, document: str) -> None:
    (tmp_path / FILE).write_text(document)
    approvals = Approvals(tmp_path)
    assert approvals.listing() == ()
    assert approvals.problem() is not None


def test_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        _approved(tmp_path / "state")
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "state").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_others_could_write_or_that_is_a_link_counts_for_nothing(tmp_path: Path) -> None:
    approvals = _approved(tmp_path)
    path = tmp_path / FILE
    path.chmod(0o620)
    assert not approvals.approved(KEY)
    path.chmod(0o600)
    assert approvals.approved(KEY)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not approvals.approved(KEY)


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "approvals.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError):
        _approved(tmp_path)
    assert not (tmp_path / "victim").exists()


def test_a_directory_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(StorageError, match="only you can write"):
        _approved(tmp_path)


def test_a_key_has_to_be_a_hash(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64"):
        Approvals(tmp_path).approve("/r", "/r", "x", [], 1)


def test_processes_that_approve_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from plait.engine.approvals import Approvals\n"
        "for n in range(10): Approvals(Path(sys.argv[1])).approve(f'{sys.argv[2]}{n:063x}', '/r', 'x', [], n)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "server")}
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), letter], env=env, stderr=subprocess.PIPE)
        for letter in "abcd"
    ]
    for process in running:
        assert process.communicate(timeout=60)[1] == b""
    assert len(Approvals(tmp_path).listing()) == 40
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == [FILE, "approvals.lock"]


def test_the_file_can_be_read_by_a_person(tmp_path: Path) -> None:
    _approved(tmp_path)
    document = json.loads((tmp_path / FILE).read_text())
    assert document["approvals"][0]["commands"] == ["npm ci"]
