"""The live monitor's loop: follows the sessions, asks for the figures of those that run, and draws the board."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from plait.cli import board, screen
from plait.cli.following import Following
from plait.cli.keys import single_keys
from plait.cli.panel import Panel, Reply
from plait.cli.text import one_line, readable
from plait.errors import PlaitError
from plait.rpc import ConnectionLostError

TICK_S = 0.15
"""How long a key may wait."""
CLOCK_S = 1.0
FIGURES_S = 2.0
AGAIN_S = 0.5
"""Between two attempts to reach the daemon."""
TAIL = 4096
"""Bytes at the end of an output in which its last line is looked for."""


_KEY = re.compile(r"\x1b\[[0-9;]*[~A-Za-z]|\x1bO.|.", re.DOTALL)
"""One key, as xterm and its like send it."""
_STEPS = {
    **dict.fromkeys(("j", "\x1b[B", "\x1bOB"), 1),
    **dict.fromkeys(("k", "\x1b[A", "\x1bOA"), -1),
    **dict.fromkeys((" ", "\x1b[6~"), 10),
    **dict.fromkeys(("b", "\x1b[5~"), -10),
}
"""How many lines a key scrolls down."""


def monitor(following: Following, place: str, until_idle: bool = False) -> None:
    """Show the sessions in full screen until the user quits, or until nothing runs or is queued if that is asked.

    Raises PlaitError if the daemon cannot be started.
    """
    following.connect(start=True)
    console = screen.console()
    with single_keys() as keys, _quiet_end(), Live(console=console, screen=True, auto_refresh=False) as live:
        _Monitor(following, place, console, live, keys).run(until_idle)
    following.close()


class _Monitor:
    def __init__(self, following: Following, place: str, console: Console, live: Live, keys: int | None) -> None:
        self.following = following
        self.place = place
        self.console = console
        self.live = live
        self.keys = keys
        self.figures = board.Figures()
        self.panel = Panel()
        self.message = ""
        self.scroll = 0
        self.away_since: float | None = None
        self._cpu_at: dict[str, tuple[float, float]] = {}
        self._drawn = self._asked = self._tried = 0.0

    def run(self, until_idle: bool) -> None:
        self._draw()
        while True:
            changed = self._listen()
            if until_idle and self.away_since is None and self.following.idle:
                return
            keys = self._pressed()
            if not {"q", "Q", "\x03"}.isdisjoint(keys):
                return
            moved = self._move(keys) | self._answer(keys)
            now = time.monotonic()
            if self.away_since is None and now - self._asked >= FIGURES_S:
                self._asked = now
                self._ask()
                changed = True
            if changed or moved or now - self._drawn >= CLOCK_S:
                self._draw()

    def _listen(self) -> bool:
        """Wait for a change for a moment; whether there is something new to show."""
        if self.away_since is not None:
            return self._connect()
        try:
            return bool(self.following.changed(TICK_S))
        except ConnectionLostError:
            self._lost()
            return True

    def _lost(self) -> None:
        self.away_since = time.time()
        self.figures = board.Figures()
        self.message = "The daemon went away; agents go on. Connecting again…"

    def _connect(self) -> bool:
        time.sleep(TICK_S)
        if time.monotonic() - self._tried < AGAIN_S:
            return False
        self._tried = time.monotonic()
        try:
            self.following.connect(start=False)
        except (PlaitError, OSError, TimeoutError):
            return False
        self.away_since = None
        self.message = f"Connected again at {time.strftime('%H:%M:%S')}: the daemon was restarted."
        return True

    def _ask(self) -> None:
        """Figures and the last words of what runs."""
        try:
            live = [one["id"] for one in self.following.sessions.values() if one["live"]]
            self._resources(live)
            # What an agent that converses prints is for programs; it is told as its activity.
            prints = [one for one in live if "say" not in self.following.sessions[one]["actions"]]
            self.figures.output = {one: self._last_line(one) for one in prints}
        except (ConnectionLostError, TimeoutError):
            self._lost()
        except PlaitError as error:
            # One session may have gone meanwhile; the next round will tell.
            self.message = one_line(error.message)

    def _resources(self, live: list[str]) -> None:
        now = time.monotonic()
        taken = self.following.request("plait/resources", {"sessions": live})["resources"] if live else {}
        self.figures.memory = {session: one["memory"] for session, one in taken.items()}
        self.figures.cpu = {}
        for session, one in taken.items():
            at, before = self._cpu_at.get(session, (now, one["cpu_s"]))
            if now > at:
                self.figures.cpu[session] = max(0.0, one["cpu_s"] - before) / (now - at)
        self._cpu_at = {session: (now, one["cpu_s"]) for session, one in taken.items()}

    def _last_line(self, session: str) -> str:
        data = base64.b64decode(self.following.request("plait/output", {"session": session, "tail": TAIL})["data"])
        lines = (readable(line) for line in reversed(data.decode("utf-8", "replace").split("\n")))
        return next((line.strip() for line in lines if line.strip()), "")

    def _draw(self) -> None:
        width, height = self.console.size
        now = time.time()
        # What lies in the trash is over for good.
        sessions = [one for one in self.following.sessions.values() if one["state"] != "trashed"]
        self.panel.update(sessions)
        panel = self.panel.lines(width, height - 2)
        # The board has what the smallest panel leaves, and the panel then what the board leaves.
        room = 0 if self.panel.open else max(1, height - 3 - len(panel))
        lines, furthest = board.board(sessions, self.figures, now, width, room, self.scroll, self.panel.session)
        panel = self.panel.lines(width, height - 2, max(len(panel), height - 4 - len(lines)))
        self.scroll = min(self.scroll, furthest)
        rows = [board.head(sessions, self.place, now, width), Text(), *lines]
        rows += [Text()] * (height - 1 - len(rows) - len(panel))
        rows += panel
        self.live.update(Group(*rows[: max(0, height - 1)], self._foot(width, furthest)), refresh=True)
        self._drawn = time.monotonic()

    def _foot(self, width: int, furthest: int) -> Text:
        problem = self.following.problems[-1] if self.following.problems else ""
        said = self.message or one_line(problem)
        keys = "q quit" + ("  ↑↓ scroll" if furthest else "") if self.keys is not None else "Ctrl-C quits"
        room = max(0, width - len(keys) - 2)
        foot = Text(said, "yellow")
        foot.truncate(room, overflow="ellipsis", pad=True)
        foot.append(f"  {keys}", "dim")
        foot.truncate(width)
        return foot

    def _pressed(self) -> list[str]:
        """The keys pressed since the last time; none if the terminal is not ours to read."""
        if self.keys is None or not select.select([self.keys], [], [], 0)[0]:
            return []
        data = os.read(self.keys, 64)
        if not data:
            self.keys = None
        return _KEY.findall(data.decode("utf-8", "replace"))

    def _move(self, keys: list[str]) -> bool:
        step = sum(_STEPS.get(key, 0) for key in keys)
        self.scroll = max(0, self.scroll + step)
        return step != 0

    def _answer(self, keys: list[str]) -> bool:
        """Do what the keys mean for the request in the panel; whether there was one."""
        if self.panel.session is None or self.away_since is not None:
            return False
        for key in keys:
            reply = self.panel.pressed(key)
            if reply is not None:
                self._send(reply)
                # Another request takes the panel, and nobody has seen it yet.
                break
        return bool(keys)

    def _send(self, reply: Reply) -> None:
        try:
            self.following.request("plait/answer", dict(reply.params))
        except (ConnectionLostError, TimeoutError):
            self.panel.failed(reply)
            self._lost()
        except PlaitError as error:
            self.panel.failed(reply)
            self.message = one_line(str(error))
        else:
            self.message = reply.said


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """A signal ends the monitor like Ctrl-C, so that the terminal is left as it was; it cannot be suspended."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
