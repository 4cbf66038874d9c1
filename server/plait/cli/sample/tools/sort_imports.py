"""Sort the imports at the top of every file: the standard library first, then our own."""

import ast

from checked import finish, sources, step


def sorted_imports(text):
    nodes = [node for node in ast.parse(text).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    if not nodes:
        return text
    lines = text.splitlines(keepends=True)
    first, last = nodes[0].lineno - 1, nodes[-1].end_lineno
    own = [node for node in nodes if module(node).split(".")[0] == "till"]
    others = [node for node in nodes if node not in own]
    groups = [
        sorted(group, key=lambda node: (isinstance(node, ast.ImportFrom), module(node))) for group in (others, own)
    ]
    blocks = ["".join("".join(lines[node.lineno - 1 : node.end_lineno]) for node in group) for group in groups if group]
    return "".join(lines[:first]) + "\n".join(blocks) + "".join(lines[last:])


def module(node):
    return node.module if isinstance(node, ast.ImportFrom) else node.names[0].name


finish([path for path in sources() if step(path, sorted_imports(path.read_text()))])
