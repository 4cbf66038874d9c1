"""The scenarios that are being played: what was asked, what was answered, which replies are held."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.support.model_script import Ask, Fault, Json, Scenario, Tokens

PATIENCE_S = 60.0
GONE_S = 0.05
"""How often a held reply looks whether its client is still there."""

Kind = Literal["main", "side", "other"]

Ending = Literal["open", "answered", "refused", "dropped", "stream error", "client left"]


@dataclass
class Exchange:
    """One request and what became of it."""

    number: int
    """Of all requests to the server, from 0."""
    kind: Kind
    """`side`: the client asks for itself, without tools. `other`: no request to a model, such as a list of models."""
    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name; keys are masked."""
    body: Json
    ask: Ask | None
    began: float
    """Seconds of a monotonic clock."""
    ended: float | None = None
    ending: Ending = "open"
    status: int | None = None
    usage: Tokens = field(default_factory=Tokens)
    """What the client was told that it cost."""

    @property
    def prompt(self) -> str:
        """The last thing that the user said in it."""
        return self.ask.typed[-1] if self.ask and self.ask.typed else ""

    def mentions(self, text: str) -> bool:
        """Whether the model was told this, by anybody in the conversation, such as in a message that steers it."""
        return self.ask is not None and text in self.ask.text


@dataclass(frozen=True)
class Spent:
    """What the clients of a scenario were told, in the conversation and beside it."""

    main: Tokens
    side: Tokens

    @property
    def total(self) -> Tokens:
        return self.main + self.side


@dataclass
class Stage:
    """A scenario while it is played."""

    scenario: Scenario
    exchanges: list[Exchange] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    """How often each fault was used."""
    answered: int = 0
    numbered: int = 0
    holding: bool = False
    released: bool = False
    held: int = 0


class Stages:
    """All scenarios of a server; safe to be used from several threads."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}
        self._changed = threading.Condition()
        self._count = 0
        self.closing = False
        self.problems: list[str] = []
        """What went wrong in the server itself."""

    def put(self, name: str, scenario: Scenario) -> str:
        """Play `scenario` under this name from now on, with nothing counted yet; returns the name."""
        assert re.fullmatch(r"[\w.-]+", name), f"{name!r} is no name for a URL"
        with self._changed:
            self._stages[name] = Stage(scenario, used=[0] * len(scenario.faults))
        return name

    def requests(self, name: str, kind: Kind | None = "main") -> list[Exchange]:
        """The requests so far, in the order in which they came; None for all kinds."""
        with self._changed:
            return [one for one in self._stage(name).exchanges if kind in (None, one.kind)]

    def spent(self, name: str) -> Spent:
        """The sum of the usage that was sent in full: in replies that ran to their end."""
        with self._changed:
            exchanges = self._stage(name).exchanges
            return Spent(
                sum((one.usage for one in exchanges if one.kind == "main"), Tokens()),
                sum((one.usage for one in exchanges if one.kind == "side"), Tokens()),
            )

    def hold(self, name: str) -> None:
        """Stop every further reply in its middle: some of its text was sent, and no tool call is complete."""
        with self._changed:
            self._stage(name).holding = True
            self._stage(name).released = False

    def release(self, name: str) -> None:
        """Let all replies go on, also those that `Step.hold` stops, until `hold` is called again."""
        with self._changed:
            self._stage(name).holding = False
            self._stage(name).released = True
            self._changed.notify_all()

    def wait_held(self, name: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a reply is held."""
        self._wait(lambda: self._stage(name).held > 0, f"A reply of {name} is held", name, timeout_s)

    def wait_for_requests(
        self, name: str, count: int, timeout_s: float = PATIENCE_S, kind: Kind = "main"
    ) -> list[Exchange]:
        """Wait until so many requests have come, answered or not."""

        def enough() -> bool:
            return sum(one.kind == kind for one in self._stage(name).exchanges) >= count

        self._wait(enough, f"{count} {kind} requests to {name}", name, timeout_s)
        return self.requests(name, kind)

    def wait_answered(self, name: str, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many main requests were answered to the end."""

        def enough() -> bool:
            return sum(one.kind == "main" and one.ending == "answered" for one in self._stage(name).exchanges) >= count

        self._wait(enough, f"{count} answers of {name}", name, timeout_s)

    def wait_ended(self, name: str, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many main requests are over, however they ended: a client that was interrupted leaves."""

        def enough() -> bool:
            return sum(one.kind == "main" and one.ending != "open" for one in self._stage(name).exchanges) >= count

        self._wait(enough, f"{count} ends of {name}", name, timeout_s)

    def story(self, name: str) -> str:
        """What was asked and answered, for a failed assertion."""
        return "\n".join(
            f"{one.number} {one.kind} {one.method} {one.path} -> {one.status} {one.ending} {one.prompt[:80]!r}"
            for one in self.requests(name, None)
        )

    def playing(self, name: str) -> Stage | None:
        """The scenario of that name, for the server."""
        return self._stages.get(name)

    def record(
        self, stage: Stage, method: str, path: str, headers: Mapping[str, str], body: Json, ask: Ask | None
    ) -> Exchange:
        """Note a request that has come."""
        kind: Kind = "other" if ask is None else "side" if ask.side else "main"
        with self._changed:
            exchange = Exchange(self._count, kind, method, path, headers, body, ask, time.monotonic())
            self._count += 1
            stage.exchanges.append(exchange)
            self._changed.notify_all()
        return exchange

    def fault(self, stage: Stage, exchange: Exchange) -> Fault | None:
        """What goes wrong with this request; it counts as used."""
        if exchange.kind != "main":
            return None
        with self._changed:
            for place, fault in enumerate(stage.scenario.faults):
                left = fault.times is None or stage.used[place] < fault.times
                if left and stage.answered >= fault.after:
                    stage.used[place] += 1
                    return fault
        return None

    def cost(self, stage: Stage) -> Tokens:
        """What the next reply costs."""
        with self._changed:
            stage.numbered += 1
            return stage.scenario.tokens(stage.numbered - 1)

    def end(self, stage: Stage, exchange: Exchange, ending: Ending, usage: Tokens | None = None) -> None:
        """Note how a request ended; said just before its last byte, so that nobody who has it is ahead of us."""
        with self._changed:
            stage.answered += exchange.kind == "main" and (ending == "answered") - (exchange.ending == "answered")
            exchange.ending = ending
            exchange.usage = usage or Tokens()
            exchange.ended = time.monotonic()
            self._changed.notify_all()

    def wait_released(self, stage: Stage, step_holds: bool, there: Callable[[], bool]) -> bool:
        """Wait as long as a reply is held; False if its client left, or the server closes."""

        def free() -> bool:
            return self.closing or (not stage.holding and (stage.released or not step_holds))

        with self._changed:
            if free():
                return not self.closing
            stage.held += 1
            self._changed.notify_all()
            try:
                while not self._changed.wait_for(free, GONE_S):
                    if not there():
                        return False
            finally:
                stage.held -= 1
        return not self.closing

    def pause(self, seconds: float) -> bool:
        """Let time pass; False if the server closes."""
        with self._changed:
            return not self._changed.wait_for(lambda: self.closing, seconds)

    def close(self) -> None:
        """Let go of everything that is held."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()

    def _stage(self, name: str) -> Stage:
        if name not in self._stages:
            raise KeyError(f"no scenario is called {name!r}; there are {', '.join(self._stages) or 'none'}")
        return self._stages[name]

    def _wait(self, what: Callable[[], bool], words: str, name: str, timeout_s: float) -> None:
        with self._changed:
            came = self._changed.wait_for(what, timeout_s)
        assert came, f"{words}: that did not come within {timeout_s:.0f} s.\n{self.story(name)}"
