"""A program like `plait`, with the real proxy and the real daemon but the tests' engine: `lsp` and `daemon run`."""

from __future__ import annotations

import sys
from pathlib import Path

# With -P the folder of this file, where other helpers may have any name, is not searched for modules.
PROGRAM = (sys.executable, "-P", str(Path(__file__).resolve()))
COMMAND = (*PROGRAM, "daemon", "run")

if __name__ == "__main__":
    if sys.argv[1] == "lsp":
        from plait import proxy

        sys.exit(proxy.main(sys.argv[2:], COMMAND))
    from tests.support import tiny_plait

    sys.exit(tiny_plait.serve())
