"""Knows how the command line begins and ends: its version, its exit statuses, and what is said when something fails.

Imports little at module level, so that `plait --version` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from plait import __version__
from plait.errors import PlaitError

INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the command that the words (default: those of this process) ask for, and exit with its status."""
    asked = list(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if asked in (["--version"], ["-V"]):
        print(f"plait {__version__}")
        raise SystemExit(0)
    raise SystemExit(_status(asked))


def _status(words: list[str]) -> int:
    try:
        status = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more at its end, which must not fail aloud.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except PlaitError as error:
        _say(error.message, error.hint)
        return error.exit_status
    except Exception as error:
        if os.environ.get("PLAIT_DEBUG"):
            raise
        return _unexpected(error)
    return status


def _run(words: list[str]) -> int:
    from plait.cli.commands import program

    try:
        result = program(words).main(words, prog_name="plait", standalone_mode=False)
    except Exception as error:
        said = getattr(error, "format_message", None)
        if type(error).__name__ == "Abort":
            return INTERRUPTED
        if said is None:
            raise
        return _misused(error, said())
    return result if isinstance(result, int) else 0


def _misused(error: Exception, sentence: str) -> int:
    """What typer found wrong with the words themselves."""
    context = getattr(error, "ctx", None)
    if not sentence:
        # A group without a command has shown its help instead.
        return 2
    command = context.command_path if context is not None else "plait"
    ending = "" if sentence.endswith((".", "?", "!")) else "."
    _say(f"{sentence}{ending}", f"`{command} --help` shows what it takes.")
    return 2


def _unexpected(error: Exception) -> int:
    from plait.paths import places

    kind = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    _say(
        f"Plait itself failed here ({kind}).",
        f"PLAIT_DEBUG=1 shows where; the daemon's log is {places().log}. Please report it.",
    )
    return 1


def _say(sentence: str, hint: str = "") -> None:
    from plait.cli.text import safe_lines

    try:
        print(f"plait: {safe_lines(sentence)}", file=sys.stderr)
        if hint:
            print(f"       {safe_lines(hint)}", file=sys.stderr)
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
