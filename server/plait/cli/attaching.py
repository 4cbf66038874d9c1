"""`plait attach`: the terminal that an agent works in, on the user's own."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from types import FrameType

from plait.cli import client, screen
from plait.cli.options import Session
from plait.cli.text import one_line
from plait.errors import NothingToDo, PlaitError, UsageError
from plait.rpc import Caller

TAIL_BYTES = 64 << 10
"""So much of what was put on the screen is put there again; the program then draws the rest anew."""
PATIENCE_S = 20.0
RECORDED_S = 5.0
"""How long it is waited for what the agent left to be recorded."""
PIECE_BYTES = 4096

DETACH = (b"\x1c", b"\x1b[92;5u", b"\x1b[27;5;92~")
"""Ctrl-\\ as terminals send it: as ever, and in the two ways that programs can ask for."""

MODES = (1, 7, 25, 1000, 1002, 1003, 1004, 1006, 1049, 2004, 2031)
"""Modes of a terminal that programs set once at their start: keys, cursor, mouse, focus, second screen, pasting."""
_MODE = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")
_KEYBOARD = re.compile(rb"\x1b\[(?:[>=][0-9;]*|<[0-9]*)u")
"""How programs ask for more of keys: https://sw.kovidgoyal.net/kitty/keyboard-protocol/."""
_QUESTION = re.compile(
    rb"\x1b\[[?>=]?[0-9;]*[cn]|\x1b\[>[0-9;]*q|\x1b\[\?u|\x1b\[\?[0-9;]+\$p|\x1b\[1[468]t"
    rb"|\x1b\][0-9;]+;\?(?:\x07|\x1b\\)|\x1b[P_][^\x1b]*\x1b\\"
)
"""What a program asks a terminal: asked again, the answer would be taken for keys."""

FIRST_SCREEN = b"\x1b[?1049l"
# Off: mouse, focus, pasting, more of keys, colours; on: cursor, wrapping.
RESET = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?2026l\x1b[?2031l"
    b"\x1b[=0u\x1b[>4m\x1b[?1l\x1b[0m\x1b[r\x1b[?7h\x1b[?25h\r\n"
)


def attach(session: Session) -> None:
    """Work in the terminal of an agent of the kind `terminal`. Ctrl-\\ leaves it; the agent goes on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("An agent's terminal can only be shown at a terminal.", "`plait log --raw` has its bytes.")
    with client.connect() as caller:
        known = caller.request("plait/session", {"session": session})
        # It is refused, with the reason, before anything happens to this terminal.
        caller.request("plait/input", {"session": known["id"]})
        screen.note(f"{known['short']}  {one_line(known['title'])}  (Ctrl-\\ leaves it, and it goes on)")
        ended = _attached(caller, known["id"])
    if ended:
        with client.connect() as caller:
            rested = caller.request("plait/wait", {"sessions": [known["id"]], "timeoutS": RECORDED_S})
        screen.note(f"{known['short']}  The agent has ended. ({rested['sessions'][0]['state']})")
    else:
        screen.note(f"{known['short']}  Left; `plait attach {known['short']}` comes back.")


def _attached(caller: Caller, session: str) -> bool:
    """Carry keys and the screen to and fro; whether the agent has ended, and not the user left."""
    answer = caller.request("plait/output", {"session": session, "tail": TAIL_BYTES, "limit": TAIL_BYTES})
    tail = base64.b64decode(answer["data"])
    head = b""
    if answer["offset"]:
        first = {"session": session, "run": answer["run"], "offset": 0, "limit": TAIL_BYTES}
        head = base64.b64decode(caller.request("plait/output", first)["data"])
    shown = Shown(session, answer["run"], answer["next"], head + tail)
    typing = Typing(caller, session)
    with _raw(sys.stdin.fileno()), _woken() as woken:
        _put(modes(head + tail) + again(tail, cut=bool(answer["offset"])))
        # A program draws its screen anew when its size changes.
        typing.resize(shrunk=True)
        typing.resize()
        shown.begin(woken.send)
        try:
            return _carried(typing, shown, woken.receive)
        finally:
            shown.left = True
            # Where there was no second screen, leaving it would move the cursor.
            _put((FIRST_SCREEN if shown.second_screen else b"") + RESET)


class Shown:
    """What the program puts on the screen, copied in a thread until it ends or the user leaves."""

    def __init__(self, session: str, run: int, offset: int, before: bytes) -> None:
        self.second_screen = False
        self.left = False
        self.ended = False
        self.failure: PlaitError | None = None
        self._params = {"session": session, "run": run, "waitS": PATIENCE_S}
        self._offset = offset
        self._last = b""
        self._look(before)

    def begin(self, wake: int) -> None:
        threading.Thread(target=self._copy, args=(wake,), daemon=True).start()

    def _copy(self, wake: int) -> None:
        failures = 0
        try:
            while not (self.left or self.ended):
                try:
                    with client.connect() as caller:
                        failures = self._copy_from(caller, failures)
                except PlaitError as error:
                    failures += 1
                    if failures > 5 or not client.interrupted(error):
                        raise
        except (PlaitError, OSError) as error:
            self.failure = error if isinstance(error, PlaitError) else PlaitError(f"The terminal is gone: {error}.")
        finally:
            with contextlib.suppress(OSError):
                os.write(wake, b"!")

    def _copy_from(self, caller: Caller, failures: int) -> int:
        while not (self.left or self.ended):
            answer = caller.request("plait/output", {**self._params, "offset": self._offset})
            failures = 0
            data = base64.b64decode(answer["data"])
            self._offset = answer["next"]
            if not self.left:
                _put(data)
                self._look(data)
            self.ended = answer["ended"] and not data
        return failures

    def _look(self, data: bytes) -> None:
        """Note which of the terminal's two screens the program uses."""
        data = self._last + data
        for match in _MODE.finditer(data):
            if b"1049" in match[1].split(b";"):
                self.second_screen = match[2] == b"h"
        # A sequence may be cut in two.
        self._last = data[-16:]


class Typing:
    """Keys and the size of the screen on their way to the program, across restarts of the daemon."""

    def __init__(self, caller: Caller, session: str) -> None:
        self._caller = caller
        self._session = session

    def keys(self, data: bytes) -> None:
        self._tell({"data": base64.b64encode(data).decode()})

    def resize(self, shrunk: bool = False) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        self._tell({"rows": max(1, size.lines - shrunk), "columns": max(1, size.columns)})

    def _tell(self, params: dict[str, object]) -> None:
        try:
            self._caller.request("plait/input", {"session": self._session, **params})
        except NothingToDo:
            # It is ending, which the other thread sees.
            return
        except PlaitError as error:
            if not client.interrupted(error):
                raise
            self._caller.close()
            self._caller = client.connect()
            self._caller.request("plait/input", {"session": self._session, **params})


def _carried(typing: Typing, shown: Shown, receive: int) -> bool:
    keyboard = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([keyboard, receive], [], [])
        if receive in ready:
            told = os.read(receive, PIECE_BYTES)
            if shown.failure is not None:
                raise shown.failure
            if shown.ended:
                return True
            if bytes([signal.SIGWINCH]) in told:
                typing.resize()
            if {signal.SIGTERM, signal.SIGHUP} & set(told):
                return False
        if keyboard in ready:
            data = os.read(keyboard, PIECE_BYTES)
            kept = until_left(data)
            if kept:
                typing.keys(kept)
            if kept != data or not data:
                return False


def until_left(data: bytes) -> bytes:
    """The keys before the one that leaves."""
    found = [place for place in (data.find(key) for key in DETACH) if place >= 0]
    return data[: min(found)] if found else data


def modes(output: bytes) -> bytes:
    """What sets a terminal's modes as this output has left them."""
    on: dict[int, bool] = {}
    for match in _MODE.finditer(output):
        for number in match[1].split(b";"):
            if number.isdigit() and int(number) in MODES:
                on[int(number)] = match[2] == b"h"
    keyboard = _KEYBOARD.findall(output)
    told = b"".join(b"\x1b[?%d%c" % (number, b"h" if set_ else b"l") for number, set_ in sorted(on.items()))
    return told + (keyboard[-1] if keyboard and not keyboard[-1].startswith(b"\x1b[<") else b"")


def again(output: bytes, cut: bool) -> bytes:
    """Output to be put on a screen a second time: without questions, and without a sequence that was cut off."""
    if cut:
        start = output.find(b"\x1b")
        output = output[max(0, start) :]
    return _QUESTION.sub(b"", output)


@contextlib.contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    before = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


class Woken:
    """A pipe that signals, and the other thread, wake the loop by."""

    def __init__(self) -> None:
        self.receive, self.send = os.pipe()
        for one in (self.receive, self.send):
            os.set_blocking(one, False)


@contextlib.contextmanager
def _woken() -> Iterator[Woken]:
    """Signals come as their numbers, also those that would end this process without restoring the terminal."""

    def noted(_number: int, _frame: FrameType | None) -> None:
        return

    numbers = (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, noted) for number in numbers}
    woken = Woken()
    previous = signal.set_wakeup_fd(woken.send, warn_on_full_buffer=False)
    try:
        yield woken
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)


def _put(data: bytes) -> None:
    out = sys.stdout.fileno()
    while data:
        try:
            data = data[os.write(out, data) :]
        except BlockingIOError:
            select.select([], [out], [])
