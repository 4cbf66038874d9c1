"""A scripted model server: the agents' real programs talk to it instead of to their providers.

It speaks Anthropic Messages, OpenAI Responses, OpenAI chat completions and Gemini on one port of 127.0.0.1. A scenario
has a name, which is in the URL (`/s/NAME/...`). Which step of it a request gets depends on the request's transcript
alone, so retries, resumed conversations and parallel agents need no state here; only faults are counted.

    with ModelServer() as models:
        models.put("greet", Scenario([[Step("I will.", Write("hello.txt", "hello\\n")), Step("Done.")]]))
        ... run an agent with models.base("greet") as its base URL ...
        assert models.spent("greet").main == what the agent says it used

By hand: `python -m tests.support.models --port 8787`.
"""

from __future__ import annotations

import argparse
import threading
from types import TracebackType

from tests.support.model_http import SIDE_TEXT, Server
from tests.support.model_script import (
    AskUser,
    Edit,
    Fault,
    Plan,
    Raw,
    Read,
    Scenario,
    Shell,
    Step,
    Tokens,
    Tool,
    Write,
    tokens_of,
)
from tests.support.model_stages import Exchange, Spent, Stages

__all__ = [
    "SIDE_TEXT",
    "AskUser",
    "Edit",
    "Exchange",
    "Fault",
    "ModelServer",
    "Plan",
    "Raw",
    "Read",
    "Scenario",
    "Shell",
    "Spent",
    "Step",
    "Tokens",
    "Tool",
    "Write",
    "tokens_of",
]


class ModelServer(Stages):
    """Serves scenarios between `with` and its end; a fault of the server itself is raised at the end."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self._wanted_port = port
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ModelServer:
        self._server = Server(self._wanted_port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="models", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._thread is not None
        self.close()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        if kind is None and self.problems:
            raise AssertionError("The model server itself failed:\n" + "\n".join(self.problems))

    @property
    def port(self) -> int:
        assert self._server is not None, "the server does not run"
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def base(self, name: str) -> str:
        """The URL that a client is given as its provider's; OpenAI's clients want `/v1` behind it."""
        return f"{self.url}/s/{name}"


_WRITING = (Step("I will write it.", Write("hello.txt", "hello\n")), Step("Done: wrote hello.txt."))

BY_HAND = {
    "write": Scenario([_WRITING]),
    "shell": Scenario([[Step("I will look.", Shell("ls -l")), Step("That is what is here.")]]),
    "escalate": Scenario([[Step("I need more.", Shell("touch /tmp/plait-escalated", escalate=True)), Step("Done.")]]),
    "plan": Scenario([[Step("A plan.", Plan(("look", "write", "check"))), *_WRITING]]),
    "question": Scenario([[Step("One question.", AskUser("Which colour?", ("red", "blue"))), Step("Good.")]]),
    "limited": Scenario([_WRITING], [Fault(429, retry_after_s=2, times=2)]),
    "forbidden": Scenario([_WRITING], [Fault(401, times=None)]),
    "slow": Scenario([_WRITING], chunk_delay_s=1),
    "held": Scenario([[Step("I stop here and wait for ever.", hold=True)]]),
}
"""What the server plays when it is started by hand."""


def main() -> None:
    """Serve until Ctrl-C and print every request."""
    parser = argparse.ArgumentParser(description="Serves scripted models on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8787)
    with ModelServer(parser.parse_args().port) as models:
        for name, scenario in BY_HAND.items():
            print(f"{models.base(models.put(name, scenario))}", flush=True)
        try:
            shown = 0
            while models.pause(0.5):
                seen = sorted((e for name in BY_HAND for e in models.requests(name, None)), key=lambda e: e.number)
                for one in seen[shown:]:
                    tools = len(one.ask.tools) if one.ask else 0
                    print(f"{one.method} {one.path} {one.kind}, {tools} tools: {one.prompt[:100]!r}", flush=True)
                shown = len(seen)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
