"""The store: what is written is read back, and damage costs nothing but the damaged line."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from plait.core import events as e
from plait.core.events import Record
from plait.engine.store import Store
from tests.support.histories import READY, created


def filled(state: Path, sessions: int = 2) -> dict[str, list[Record]]:
    store = Store(state)
    written: dict[str, list[Record]] = {}
    for number in range(sessions):
        session = f"s{number}"
        records = [Record(session=session, seq=n, at=float(n), event=x) for n, x in enumerate([created(), *READY])]
        store.create(records[0])
        store.append(session, records[1:3])
        store.append(session, records[3:])
        written[session] = records
    store.close()
    return written


def loaded(state: Path) -> tuple[dict[str, list[Record]], tuple[str, ...]]:
    store = Store(state)
    result = store.load()
    store.close()
    return {session: list(history) for session, history in result.histories.items()}, result.problems


def test_histories_are_read_back(tmp_path: Path) -> None:
    written = filled(tmp_path)
    assert loaded(tmp_path) == (written, ())


def test_a_lost_index_is_rebuilt_from_the_directories(tmp_path: Path) -> None:
    written = filled(tmp_path)
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    assert loaded(tmp_path) == (written, ())
    rows = sqlite3.connect(tmp_path / "index.sqlite").execute("SELECT COUNT(*) FROM events").fetchone()[0]
    assert rows == sum(map(len, written.values()))


def test_a_damaged_index_loses_no_session_wherever_the_damage_is(tmp_path: Path) -> None:
    rng = random.Random(7)
    for attempt in range(40):
        state = tmp_path / str(attempt)
        written = filled(state)
        index = state / "index.sqlite"
        # Without a checkpoint the damage could fall where nothing is read.
        connection = sqlite3.connect(index)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        data = bytearray(index.read_bytes())
        if attempt % 4 == 0:
            data = data[: rng.randrange(len(data))]
        else:
            start = rng.randrange(len(data))
            data[start : start + 64] = rng.randbytes(64)
        index.write_bytes(data)
        assert loaded(state)[0] == written


def test_an_index_of_a_newer_version_is_set_aside(tmp_path: Path) -> None:
    written = filled(tmp_path)
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    histories, problems = loaded(tmp_path)
    assert histories == written
    assert "version 99" in problems[0]
    assert (tmp_path / "index.sqlite.damaged-1").exists()


def test_an_event_that_reached_only_the_directory_is_found(tmp_path: Path) -> None:
    written = filled(tmp_path)
    extra = Record(session="s0", seq=6, at=9.0, event=e.Noted(text="after the index"))
    with (tmp_path / "sessions" / "s0" / "events.jsonl").open("ab") as file:
        file.write(e.dump(extra))
    written["s0"].append(extra)
    assert loaded(tmp_path) == (written, ())


def test_a_torn_last_line_is_set_aside_and_the_rest_kept(tmp_path: Path) -> None:
    written = filled(tmp_path)
    path = tmp_path / "sessions" / "s0" / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    histories, problems = loaded(tmp_path)
    assert histories["s0"] == written["s0"][:-1]
    assert histories["s1"] == written["s1"]
    assert "damaged" in problems[0]
    assert path.with_name("events.jsonl.damaged-1").exists()
    assert loaded(tmp_path)[1] == ()


def test_a_session_without_a_readable_spec_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    written = filled(tmp_path)
    spec = tmp_path / "sessions" / "s0" / "spec.json"
    spec.write_bytes(b"{}")
    (tmp_path / "index.sqlite").unlink()
    histories, problems = loaded(tmp_path)
    assert histories == {"s1": written["s1"]}
    assert "s0" in problems[0]
    assert spec.read_bytes() == b"{}"


def test_files_are_private(tmp_path: Path) -> None:
    filled(tmp_path)
    for path in [*tmp_path.glob("sessions/*/*"), *tmp_path.glob("index.sqlite")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_session_whose_history_cannot_be_read_does_not_begin_anew(tmp_path: Path) -> None:
    written = filled(tmp_path)
    events = tmp_path / "sessions" / "s0" / "events.jsonl"
    events.rename(events.with_name("kept"))
    events.mkdir()
    found, problems = loaded(tmp_path)
    assert set(found) == {"s1"}
    assert found["s1"] == written["s1"]
    assert "s0 is set aside" in problems[0]


def test_a_name_that_is_not_utf8_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    decided = e.Decided(hunk="h", path="odd\udcff", verdict="rejected")
    records = [Record(session="s", seq=n, at=0.0, event=x) for n, x in enumerate([created(), decided])]
    store.create(records[0])
    store.append("s", records[1:])
    store.close()
    assert loaded(tmp_path) == ({"s": records}, ())
    (tmp_path / "index.sqlite").unlink()
    assert loaded(tmp_path) == ({"s": records}, ())
