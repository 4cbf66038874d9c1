"""What all tools here do at the end: run the tests on what they made."""

import pathlib
import subprocess
import sys


def sources():
    """The Python files of the program and its tests."""
    return [path for folder in ("till", "tests") for path in sorted(pathlib.Path(folder).glob("*.py"))]


def finish(changed):
    """Say what was changed, run the tests, and exit as they do."""
    print(f"{len(changed)} files changed; running the tests", flush=True)
    done = subprocess.run([sys.executable, "-m", "unittest", "-q"], check=False)
    sys.exit(done.returncode)


def rewrite(path, text):
    """Replace the file's text if it differs; whether it did."""
    if path.read_text() == text:
        return False
    path.write_text(text)
    print(f"changed {path}", flush=True)
    return True
