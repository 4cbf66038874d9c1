"""The form of every value that crosses a boundary: a file, a socket, another process."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value that crosses a boundary; unknown keys of a newer program are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")
