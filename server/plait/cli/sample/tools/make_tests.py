"""Turn the examples in docstrings into unit tests, one file for each module that has any."""

import doctest
import importlib
import pathlib
import sys

from checked import finish, sources, step

sys.path.insert(0, ".")

HEAD = "import unittest\n\nfrom {module} import *\n{more}\n\nclass {name}Examples(unittest.TestCase):\n"


def tests_of(path):
    name = f"till.{path.stem}"
    module = importlib.import_module(name)
    cases = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        function = test.name.rpartition(".")[2]
        for number, example in enumerate(test.examples, 1):
            call, wanted = example.source.strip(), example.want.strip()
            cases.append(f"    def test_{function}_{number}(self):\n        self.assertEqual({call}, {wanted})\n")
    more = "from decimal import Decimal\n" if any("Decimal" in case for case in cases) else ""
    head = HEAD.format(module=name, name=path.stem.capitalize(), more=more)
    return head + "\n".join(cases) if cases else ""


made = []
for path in [path for path in sources() if path.parts[0] == "till" and not path.stem.startswith("_")]:
    text = tests_of(path)
    target = pathlib.Path("tests", f"test_{path.stem}_examples.py")
    if text:
        target.touch()
        made += [target] if step(target, text) else []
finish(made)
