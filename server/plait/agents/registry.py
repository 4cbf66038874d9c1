"""The adapters by kind."""

from __future__ import annotations

from collections.abc import Mapping

from plait.agents.adapter import Adapter
from plait.agents.command import Command

ADAPTERS: Mapping[str, Adapter] = {"command": Command()}
