"""What an agent says and thinks, piece by piece; what its program says in between is told apart."""

from __future__ import annotations

from typing import Literal

from acp import schema

from plait.agents.acp_quirks import AcpQuirks
from plait.agents.acp_values import content_text, trouble_kind
from plait.core.reports import Message, Remark, Report, Retry, Thought, shorten

Kind = Literal["message", "thought"]


class Speech:
    """The message or thought that is being said."""

    def __init__(self, quirks: AcpQuirks) -> None:
        self._quirks = quirks
        self._open: Kind | None = None
        self._message_id: str | None = None
        self._pieces: list[str] = []
        self._failure = ""
        self.last = ""
        """The last message that the model said."""

    def say(self, chunk: schema.ContentChunk, kind: Kind) -> list[Report]:
        """A piece of a message or of a thought."""
        text = content_text(chunk.content)
        if not text or self.is_noise(text):
            return []
        if kind == "message" and self._quirks.asides is not None and self._quirks.asides.match(text):
            return [*self.close(), *self._aside(text)]
        reports: list[Report] = []
        if failure := self.take_failure():
            reports.append(Remark(text=failure))
        if self._open is not None and (kind != self._open or chunk.message_id not in (None, self._message_id)):
            reports += self.close()
        self._open = kind
        self._message_id = chunk.message_id
        self._pieces.append(text)
        piece = Message if kind == "message" else Thought
        return [*reports, piece(text=shorten(text), partial=True)]

    def close(self) -> list[Report]:
        """The end of what is being said, if anything is, with the whole of it."""
        kind, self._open, self._message_id = self._open, None, None
        if kind is None:
            return []
        whole = shorten("".join(self._pieces))
        self._pieces.clear()
        if kind == "thought":
            return [Thought(text=whole)]
        self.last = whole
        return [Message(text=whole)]

    def is_noise(self, text: str) -> bool:
        """Whether the program says this for itself alone."""
        return self._quirks.noise is not None and self._quirks.noise.fullmatch(text) is not None

    def take_failure(self) -> str:
        """What the program said last, if it means that the turn failed; asked for once."""
        failure, self._failure = self._failure, ""
        return failure

    def _aside(self, text: str) -> list[Report]:
        reports: list[Report] = []
        if failure := self.take_failure():
            reports.append(Remark(text=failure))
        if self._quirks.retries is not None and self._quirks.retries.match(text):
            kind = trouble_kind(None, text)
            return [*reports, Retry(account=self._quirks.account, kind=kind, text=shorten(text, 2000))]
        if self._quirks.failures is not None and self._quirks.failures.match(text):
            # Whether it is one is known when the turn ends, or does not.
            self._failure = shorten(text, 2000)
            return reports
        return [*reports, Remark(text=shorten(text, 2000))]
