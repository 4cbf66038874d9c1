"""Reading single keys of a terminal: without Enter, without showing them, and leaving it as it was."""

from __future__ import annotations

import contextlib
import sys
import termios
import tty
from collections.abc import Iterator


@contextlib.contextmanager
def single_keys() -> Iterator[int | None]:
    """The descriptor on which keys come one by one; none if stdin is no terminal. Ctrl-C interrupts as ever."""
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSADRAIN)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def forget_pressed(descriptor: int) -> None:
    """Drop the keys that were pressed before the question that they would answer was asked."""
    termios.tcflush(descriptor, termios.TCIFLUSH)
