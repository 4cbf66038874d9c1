"""Give every public function without a docstring one that is made of its name."""

import ast

from checked import finish, sources, step


def documented(text):
    lines = text.splitlines(keepends=True)
    for node in reversed(list(ast.walk(ast.parse(text)))):
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        first = node.body[0]
        words = node.name.replace("_", " ")
        if ast.get_docstring(node) is None:
            indent = " " * first.col_offset
            lines.insert(first.lineno - 1, f'{indent}"""{words.capitalize()} of {arguments(node)}."""\n')
        elif ast.get_docstring(node).startswith(">>>"):
            indent = " " * first.col_offset
            lines[first.lineno - 1] = f'{indent}"""{words.capitalize()} of {arguments(node)}.\n\n'
    return "".join(lines)


def arguments(node):
    names = [argument.arg for argument in node.args.args if argument.arg != "self"]
    return " and ".join(names) or "nothing"


program = [path for path in sources() if path.parts[0] == "till"]
finish([path for path in program if step(path, documented(path.read_text()))])
