"""A small program with a screen that tells hooks what it does, as Claude Code does: each line typed is a prompt.

A prompt `ask` asks for a permission, which a line `y` gives; `wait` waits for a line; `/exit` ends it. What is pasted
comes as one prompt.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from types import FrameType
from typing import Any


def install(directory: Path) -> Path:
    """The program under the name by which it is known to have hooks."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "claude"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S -u "{Path(__file__).resolve()}" "$@"\n')
    path.chmod(0o755)
    return path


def main() -> None:
    """Take up the prompt, and then what is typed, until that is over."""
    words = sys.argv[1:]
    settings = json.loads(Path(words[words.index("--settings") + 1]).read_text())
    thread = words[words.index("--resume") + 1] if "--resume" in words else str(uuid.uuid4())

    def tell(event: str, **fields: Any) -> None:
        for matcher in settings["hooks"].get(event, ()):
            for hook in matcher["hooks"]:
                told = json.dumps({"session_id": thread, "hook_event_name": event, **fields})
                subprocess.run(hook["command"], shell=True, input=told.encode(), check=True)

    def resized(_number: int, _frame: FrameType | None) -> None:
        size = shutil.get_terminal_size()
        os.write(1, f"size {size.lines}x{size.columns}\r\n".encode())

    os.environ.pop("LINES", None)
    os.environ.pop("COLUMNS", None)
    signal.signal(signal.SIGWINCH, resized)
    os.write(1, b"\x1b[?2004h")
    tell("SessionStart", source="startup", model="small")
    prompt: str | None = words[-1]
    while prompt is not None and prompt != "/exit":
        tell("UserPromptSubmit", prompt=prompt)
        take_up(prompt, tell)
        tell("Stop", last_assistant_message=f"did {prompt}")
        print("> ", end="", flush=True)
        prompt = line()
    tell("SessionEnd", reason="other")


def take_up(prompt: str, tell: Any) -> None:
    """Do what the prompt says."""
    if prompt == "wait":
        print(f"waited for {line()}", flush=True)
    if prompt != "ask":
        print(f"did {prompt}", flush=True)
        return
    use = {"tool_name": "Write", "tool_input": {"file_path": "made.txt", "content": "made\n"}}
    tell("PreToolUse", tool_use_id="t1", **use)
    tell("PermissionRequest", **use)
    print("Allow? ", end="", flush=True)
    if line() == "y":
        Path("made.txt").write_text("made\n")
        tell("PostToolUse", tool_use_id="t1", tool_response={"type": "create", "filePath": "made.txt"}, **use)


def line() -> str | None:
    """What is typed next; none at the end of the terminal."""
    typed = b""
    while not typed.endswith(b"\n") or typed.count(b"\x1b[200~") > typed.count(b"\x1b[201~"):
        more = os.read(0, 4096)
        if not more:
            return None
        typed += more
    return typed.replace(b"\x1b[200~", b"").replace(b"\x1b[201~", b"").decode().strip()


if __name__ == "__main__":
    main()
