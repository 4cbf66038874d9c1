"""Following the sessions of one repository, or of all, as the daemon tells of their changes."""

from __future__ import annotations

from collections import deque
from typing import Any

from plait.cli import client
from plait.rpc import Caller

View = dict[str, Any]


class Following:
    """The sessions as the daemon last told them. `connect` comes first, and again after a ConnectionLostError."""

    def __init__(self, path: str | None) -> None:
        self.sessions: dict[str, View] = {}
        self.problems: list[str] = []
        self._path = path
        self._caller: Caller | None = None
        self._seq = 0
        self._told: deque[View] = deque()
        self._foreign: set[str] = set()
        """Sessions of other repositories."""

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing waits to run."""
        return not any(one["live"] or one["state"] == "queued" for one in self.sessions.values())

    def connect(self, start: bool) -> list[View]:
        """Every session that is new or changed since the last conversation. Raises PlaitError."""
        self.close()
        self._told.clear()
        self._caller = client.connect(start=start, features=["sessions"], on_notification=self._note)
        return self._load()

    def close(self) -> None:
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    def changed(self, timeout_s: float | None) -> list[View]:
        """The sessions that changed, as soon as there are some; none if the time is over. Raises
        ConnectionLostError.
        """
        assert self._caller is not None
        try:
            if not self._told:
                self._caller.listen(timeout_s)
            while True:
                # What has come meanwhile is taken along.
                self._caller.listen(0.002)
        except TimeoutError:
            pass
        return self._digest()

    def request(self, method: str, params: View) -> Any:
        """One request in the same conversation. Raises PlaitError."""
        assert self._caller is not None
        return self._caller.request(method, params, timeout_s=10)

    def _note(self, method: str, params: Any) -> None:
        if method == "plait/didChangeSessions":
            self._told.append(params)

    def _digest(self) -> list[View]:
        found: dict[str, View] = {}
        while self._told:
            told = self._told.popleft()
            if told["seq"] <= self._seq:
                continue
            upserts = [one for one in told["upsert"] if one["id"] not in self._foreign]
            unknown = any(one["id"] not in self.sessions for one in upserts)
            if told["seq"] != self._seq + 1 or unknown:
                # Something was missed, or it cannot be said yet whose repository the session belongs to.
                found |= {one["id"]: one for one in self._load()}
                self._foreign |= {one["id"] for one in upserts if one["id"] not in self.sessions}
                continue
            self._seq = told["seq"]
            for one in upserts:
                found[one["id"]] = self.sessions[one["id"]] = one
        return list(found.values())

    def _load(self) -> list[View]:
        assert self._caller is not None
        params = {"all": True} if self._path is None else {"path": self._path, "all": True}
        answer = self._caller.request("plait/sessions", params, timeout_s=10)
        before, self.sessions = self.sessions, {one["id"]: one for one in answer["sessions"]}
        self._seq, self.problems = answer["seq"], answer["problems"]
        return [one for one in self.sessions.values() if before.get(one["id"]) != one]
