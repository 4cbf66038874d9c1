"""Reaching the daemon: what is refused before anything is started."""

from __future__ import annotations

import pytest

from plait.dial import dial
from plait.errors import PlaitError
from plait.paths import places


def test_no_daemon_is_started_from_inside_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_RUN", "01m84w4xrz0d78c5zk9nyfyr63-1")
    with pytest.raises(PlaitError, match="inside a session"):
        dial(places())
    assert not places().socket.exists()
