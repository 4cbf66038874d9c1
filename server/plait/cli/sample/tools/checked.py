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
    sys.exit(tests())


def step(path, text):
    """Change one file and run the tests; it is put back if they fail. Whether it stays changed."""
    before = path.read_text()
    if not rewrite(path, text):
        return False
    if tests() == 0:
        return True
    path.write_text(before)
    print(f"put {path} back: the tests fail with it", flush=True)
    return False


def rewrite(path, text):
    """Replace the file's text if it differs; whether it did."""
    if path.read_text() == text:
        return False
    path.write_text(text)
    print(f"changed {path}", flush=True)
    return True


def tests():
    """Run the tests and give their exit status."""
    return subprocess.run([sys.executable, "-m", "unittest", "-q"], check=False).returncode
