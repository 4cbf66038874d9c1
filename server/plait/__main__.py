"""The program `plait`: decides by its first words what to load, because an editor waits for `plait lsp`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit with its status."""
    words = sys.argv[1:]
    if words[:1] == ["lsp"]:
        from plait import proxy

        raise SystemExit(proxy.main(words[1:]))
    if words[:2] == ["daemon", "run"]:
        from plait import daemon
        from plait.lsp.server import FEATURES, Hub

        raise SystemExit(daemon.main(Hub, FEATURES))
    from plait.cli.app import main as command_line

    command_line()


if __name__ == "__main__":
    main()
