"""The durable record of what happened: a directory for each session is the truth, an SQLite index over all is a copy.

`<sessions>/<id>/spec.json` holds the `created` event, `events.jsonl` every later one. The index answers questions
across sessions and makes a start fast; whenever it disagrees with a directory, the directory is right.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.core import events as e
from plait.core.events import Record
from plait.errors import StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  session TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (session, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS extents (session TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
"""
_INDEX_VERSION = 1


@dataclass(frozen=True)
class Loaded:
    """All histories that could be read, and a sentence for everything that could not."""

    histories: dict[str, tuple[Record, ...]]
    problems: tuple[str, ...]


class Store:
    """The histories of all sessions; used by one thread of one process at a time."""

    def __init__(self, state: Path) -> None:
        self._sessions = state / "sessions"
        self._path = state / "index.sqlite"
        self._index: sqlite3.Connection | None = None

    def directory(self, session: str) -> Path:
        """The session's own directory."""
        return self._sessions / session

    def create(self, record: Record) -> None:
        """Write a new session's intent; it is on disk when this returns. Raises StorageError."""
        directory = self.directory(record.session)
        try:
            directory.mkdir(mode=0o700, parents=True)
            write_durably(directory / "spec.json", e.dump(record))
            _sync(self._sessions)
        except OSError as error:
            with contextlib.suppress(OSError):
                (directory / "spec.json").unlink(missing_ok=True)
                directory.rmdir()
            raise StorageError(_failure("write", directory, error), "Free some space and try again.") from error
        self._mirror(record.session, [record], 0)

    def append(self, session: str, records: Sequence[Record]) -> None:
        """Add events to a session's history; all are on disk when this returns. Raises StorageError, adding none."""
        path = self.directory(session) / "events.jsonl"
        lines = b"".join(map(e.dump, records))
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(_failure("write", path, error)) from error
        try:
            before = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError as error:
                # Half an event must not stay: the next one would be glued to it.
                os.ftruncate(descriptor, before)
                raise StorageError(_failure("write", path, error), "Free some space; Plait tries again.") from error
        finally:
            os.close(descriptor)
        self._mirror(session, records, before + len(lines))

    def events(self, session: str) -> list[dict[str, Any]]:
        """A session's history as it is written down, for people and scripts; damaged lines are left out."""
        directory = self.directory(session)
        found: list[dict[str, Any]] = []
        for name in ("spec.json", "events.jsonl"):
            with contextlib.suppress(OSError):
                for line in (directory / name).read_bytes().splitlines():
                    with contextlib.suppress(ValueError):
                        body = json.loads(line)
                        if isinstance(body, dict):
                            found.append(body)
        return found

    def load(self) -> Loaded:
        """Every session's history, oldest session first; damaged parts are set aside and named, never deleted."""
        problems: list[str] = []
        histories: dict[str, tuple[Record, ...]] = {}
        if not self._sessions.is_dir():
            return Loaded({}, ())
        known = self._known(problems)
        for directory in sorted(path for path in self._sessions.iterdir() if path.is_dir()):
            session = directory.name
            if not (directory / "spec.json").exists():
                # Nothing had been done for it: the intent comes first.
                continue
            size = _size(directory / "events.jsonl")
            if session in known and known[session][0] == size:
                histories[session] = known[session][1]
                continue
            history = _read(directory, problems)
            if history:
                histories[session] = history
                self._replace(session, history, _size(directory / "events.jsonl"))
        return Loaded(histories, tuple(problems))

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None

    def _known(self, problems: list[str]) -> dict[str, tuple[int, tuple[Record, ...]]]:
        """What the index holds; a damaged one is moved aside and made anew from the directories."""
        try:
            return _rows(self._connection())
        except (sqlite3.DatabaseError, ValueError) as error:
            self.close()
            aside = _aside(self._path)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            problems.append(f"The index was damaged ({error}); it is kept as {aside.name} and was rebuilt.")
            return {}

    def _connection(self) -> sqlite3.Connection:
        if self._index is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            index = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._path.chmod(0o600)
            index.execute("PRAGMA journal_mode=WAL")
            index.execute("PRAGMA synchronous=NORMAL")
            version = index.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _INDEX_VERSION):
                index.close()
                raise ValueError(f"it has version {version}, this program writes {_INDEX_VERSION}")
            index.executescript(_SCHEMA)
            index.execute(f"PRAGMA user_version={_INDEX_VERSION}")
            self._index = index
        return self._index

    def _mirror(self, session: str, records: Sequence[Record], size: int) -> None:
        """Copy events to the index; if that fails the next load sees the difference and reads the directory."""
        with contextlib.suppress(sqlite3.Error, ValueError):
            index = self._connection()
            index.execute("BEGIN")
            try:
                index.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)", map(_row, records))
                index.execute("INSERT OR REPLACE INTO extents VALUES (?, ?)", (session, size))
            except sqlite3.Error:
                index.execute("ROLLBACK")
                raise
            index.execute("COMMIT")

    def _replace(self, session: str, history: Iterable[Record], size: int) -> None:
        with contextlib.suppress(sqlite3.Error, ValueError):
            index = self._connection()
            index.execute("BEGIN")
            index.execute("DELETE FROM events WHERE session = ?", (session,))
            index.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", map(_row, history))
            index.execute("INSERT OR REPLACE INTO extents VALUES (?, ?)", (session, size))
            index.execute("COMMIT")


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that after a crash it is either the old or the new content. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rows(index: sqlite3.Connection) -> dict[str, tuple[int, tuple[Record, ...]]]:
    if index.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("quick_check found damage")
    extents = dict(index.execute("SELECT session, bytes FROM extents"))
    # An index that lost a row would pass by its size alone, so the numbering must be without gaps too.
    whole = {
        session
        for session, count, last in index.execute("SELECT session, COUNT(*), MAX(seq) FROM events GROUP BY session")
        if count == last + 1
    }
    found: dict[str, list[Record]] = {}
    for session, body in index.execute("SELECT session, body FROM events ORDER BY session, seq"):
        record = e.load(session, body)
        if record is not None:
            found.setdefault(session, []).append(record)
    return {
        session: (extents[session], tuple(records))
        for session, records in found.items()
        if session in extents and session in whole and isinstance(records[0].event, e.Created)
    }


def _row(record: Record) -> tuple[str, int, float, str, bytes]:
    return record.session, record.seq, record.at, record.event.type, e.dump(record)


def _read(directory: Path, problems: list[str]) -> tuple[Record, ...]:
    session = directory.name
    try:
        first = e.load(session, (directory / "spec.json").read_bytes())
        if first is None or not isinstance(first.event, e.Created):
            raise ValueError("it does not hold a created event")
    except (OSError, ValueError) as error:
        problems.append(f"Session {session} is set aside, its spec.json cannot be read: {error}")
        return ()
    try:
        return (first, *_read_events(directory / "events.jsonl", session, problems))
    except OSError as error:
        # Without its history a session would begin anew.
        problems.append(f"Session {session} is set aside, its history cannot be read: {error}")
        return ()


def _read_events(path: Path, session: str, problems: list[str]) -> list[Record]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    records: list[Record] = []
    good: list[bytes] = []
    damaged = False
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("torn line")
            record = e.load(session, line)
        except (ValueError, json.JSONDecodeError):
            damaged = True
            continue
        good.append(line)
        if record is not None:
            records.append(record)
    if damaged:
        aside = _aside(path, copy=True)
        write_durably(path, b"".join(good))
        problems.append(f"The history of session {session} had damaged lines; the file as it was is {aside.name}.")
    return records


def _aside(path: Path, copy: bool = False) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    if copy:
        write_durably(aside, path.read_bytes())
    else:
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
    return aside


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _failure(what: str, path: Path, error: OSError) -> str:
    return f"Could not {what} {path}: {error.strerror or error}."
