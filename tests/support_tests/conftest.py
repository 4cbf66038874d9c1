"""The fixtures of the tests with real agents, for the tests of what they stand on."""

from __future__ import annotations

from tests.agents.real.conftest import models, real, worktree

__all__ = ["models", "real", "worktree"]
