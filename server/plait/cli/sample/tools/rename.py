"""Rename a Python name everywhere: python tools/rename.py OLD NEW"""

import io
import sys
import tokenize

from checked import finish, rewrite, sources


def renamed(text, old, new):
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    lines = text.splitlines(keepends=True)
    for token in reversed(tokens):
        if token.type == tokenize.NAME and token.string == old:
            (row, start), (_, end) = token.start, token.end
            lines[row - 1] = lines[row - 1][:start] + new + lines[row - 1][end:]
    return "".join(lines)


old, new = sys.argv[1:3]
finish([path for path in sources() if rewrite(path, renamed(path.read_text(), old, new))])
