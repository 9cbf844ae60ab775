"""All that the harness replaces in other libraries is in the table of docs/architecture.md."""

from __future__ import annotations

import ast
import json
import re
import unittest
from pathlib import Path

from suites.selftest.support import ROOT, CommandTestCase

PACKAGE = ROOT / "harness"
_HEADING = "## What the harness replaces in other libraries"

# State of the process itself, not code of others; a rank's or a worker's own is in the table's last
# row, and what a test changes in the environment of its own process is undone by the test.
_STATE = {"os.environ", "sys.path", "sys.argv", "sys.modules", "sys.warnoptions"}

# The test runs this in each kind of rank, and in the parent.
_TESTS = """
import json, os, unittest
import torch.testing._internal.common_distributed
from harness import MultiProcessTestCase, MultiThreadedTestCase
from suites.selftest.patches import replaced

def note(kind):
    with open(os.path.join(os.environ["FOUND"], kind), "w") as file:
        json.dump(replaced(), file)

class InProcess(MultiProcessTestCase):
    world_size = 1
    def test_it(self):
        self.init_process_group("gloo")
        note("process")

class InThread(MultiThreadedTestCase):
    world_size = 1
    def setUp(self):
        super().setUp()
        self._spawn_threads()
    def test_it(self):
        note("thread")

class InParent(unittest.TestCase):
    def test_it(self):
        note("parent")
"""


def table() -> list[list[str]]:
    """The cells of each row."""
    text = (ROOT / "docs/architecture.md").read_text()
    lines = text[text.index(_HEADING) :].split("\n## ")[0].splitlines()
    rows = [line.strip("|").split(" | ") for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def is_listed(name: str) -> bool:
    """Whether the table names an attribute, or the module or class that it is in."""
    if name.startswith("the class of "):
        return any(f"the class of `{name.split()[-1]}`" in row[0] for row in table())
    listed = re.findall(r"`([\w.]+)`", " ".join(row[0] for row in table()))
    return any(f".{name}.".find(f".{each}.") >= 0 for each in listed)


def assigned(path: Path) -> set[str]:
    """What a module assigns to attributes of what it has imported from elsewhere."""
    tree = ast.parse(path.read_text())
    foreign = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign.update((a.asname or a.name).split(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("harness"):
            foreign.update(a.asname or a.name for a in node.names)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = [t for top in node.targets for t in getattr(top, "elts", [top])]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        for target in targets:
            inner = target.value if isinstance(target, ast.Subscript) else target
            if isinstance(inner, ast.Attribute) and _root(inner) in foreign:
                found.add(ast.unparse(inner))
    return found - _STATE


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class TestPatches(CommandTestCase):
    def test_each_place_is_in_the_table(self):
        places = {path for row in table() for path in re.findall(r"`([\w/]+\.py)`", row[1])}
        for place in places:
            self.assertTrue((PACKAGE / place).exists(), place)
        missing = {
            str(path.relative_to(PACKAGE)): found
            for path in PACKAGE.rglob("*.py")
            if path.relative_to(PACKAGE).parts[0] != "bench"
            and str(path.relative_to(PACKAGE)) not in places
            and (found := assigned(path))
        }
        self.assertEqual(missing, {})

    def test_what_is_replaced_while_tests_run_is_in_the_table(self):
        file = self.write("test_replaced.py", _TESTS)
        folder = file.parent
        finished = self.harness(
            "-j1", "--no-history", str(file),
            FOUND=str(folder), EXPECTTEST_ACCEPT="1", PYTHONPATH=str(ROOT),
        )  # fmt: skip
        self.assertEqual(finished.last_line, "3 passed, 0 failed, 0 skipped", finished)
        for kind, least in (
            ("process", "expecttest.assert_expected_inline"),
            ("thread", "torch.random.default_generator"),
            ("parent", "warnings.showwarning"),
        ):
            with self.subTest(kind):
                found = json.loads((folder / kind).read_text())
                self.assertIn(least, found)  # the search finds something
                self.assertEqual([name for name in found if not is_listed(name)], [])


if __name__ == "__main__":
    unittest.main()
