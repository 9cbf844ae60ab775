"""The rooms of the house: who may import whom, and that every module stands on its own."""

from __future__ import annotations

import ast
import subprocess
import sys
import unittest
from pathlib import Path

from suites.selftest.support import ROOT

PACKAGE = ROOT / "harness"

# A room may import those before it. What stands beside the rooms may import what is named.
ROOMS = ["model", "diagnosis", "strategies", "ranks", "cases", "runner", "dropin", "bench"]
FACADES = ["common_distributed", "common_utils", "common_cuda"]
BESIDE = {
    "__init__": ["_version", *ROOMS],
    "__main__": ["runner"],
    "_version": [],
    "_hypothesis_plugin": [],
    **{facade: [*ROOMS, *FACADES] for facade in FACADES},
}
# Beyond the order: the runner knows unittest only, and cases reach it through run_tests() alone.
NEVER = {("runner", "cases")}
ALSO = {("harness.cases.running", "runner")}
WITHOUT_TORCH = ["harness", "harness.model", "harness.runner"]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_by(path: Path) -> set[str]:
    """The modules of the package that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name for name in names if name.split(".")[0] == "harness"}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def may_import(importer: str, room: str) -> bool:
    own = room_of(importer)
    if own in BESIDE:
        return room in {own, "_version", "__init__", *BESIDE[own]}
    if room in {own, "_version", "__init__"} or (importer, room) in ALSO:
        return True
    if (own, room) in NEVER or room not in ROOMS:
        return False
    return ROOMS.index(room) < ROOMS.index(own)


class TestLayers(unittest.TestCase):
    def test_every_room_is_in_the_table(self):
        rooms = {room_of(module) for module in modules()}
        self.assertLessEqual(rooms, {*ROOMS, *BESIDE})

    def test_imports_go_up_only(self):
        wrong = [
            f"{importer} imports {name}"
            for importer, path in modules().items()
            for name in imported_by(path)
            if not may_import(importer, room_of(name))
        ]
        self.assertEqual(wrong, [])

    def test_the_check_would_find_a_wrong_import(self):
        self.assertFalse(may_import("harness.model.clock", "ranks"))
        self.assertFalse(may_import("harness.runner.main", "cases"))
        self.assertFalse(may_import("harness.cases.testcase", "runner"))
        self.assertTrue(may_import("harness.cases.running", "runner"))
        self.assertTrue(may_import("harness.runner.main", "ranks"))

    def test_facades_only_re_export(self):
        for facade in FACADES:
            tree = ast.parse((PACKAGE / f"{facade}.py").read_text())
            kinds = {type(node) for node in tree.body}
            # A docstring, imports, and __all__.
            self.assertLessEqual(kinds, {ast.Expr, ast.ImportFrom, ast.Assign}, facade)

    def test_facades_list_all_that_they_import(self):
        for facade in FACADES:
            tree = ast.parse((PACKAGE / f"{facade}.py").read_text())
            imported = {
                alias.asname or alias.name
                for node in tree.body
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
                if not (alias.asname or "").startswith("_")
            }
            listed = next(
                ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
            )
            self.assertEqual(set(listed), imported, facade)

    def test_model_never_imports_torch(self):
        for path in (PACKAGE / "model").glob("*.py"):
            self.assertNotIn("import torch", path.read_text(), path.name)


class TestEveryModuleAlone(unittest.TestCase):
    def test_imports_without_a_warning(self):
        """In one process each would be the first only once; in a fresh one each costs seconds.

        So each is imported by a fork of an interpreter that has everything but the harness.
        """
        names = [name for name in modules() if name != "harness.__main__"]
        script = f"""
import os, sys, traceback, warnings
import torch, numpy, expecttest, hypothesis, psutil
import torch.testing._internal.common_distributed
warnings.simplefilter("error")
bad = []
for name in {names!r}:
    pid = os.fork()
    if pid == 0:
        try:
            __import__(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        bad.append(name)
print(*bad)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        self.assertEqual((done.stdout.strip(), done.returncode), ("", 0), done.stderr)

    def test_light_rooms_do_not_import_torch(self):
        names = [
            name
            for name in modules()
            if any(name == light or name.startswith(f"{light}.") for light in WITHOUT_TORCH[1:])
        ]
        script = f"""
import importlib, sys
for name in {["harness", *names]!r}:
    importlib.import_module(name)
print([name for name in sys.modules if name.split(".")[0] in ("torch", "numpy", "hypothesis")])
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.assertEqual(done.stdout.strip(), "[]", done.stderr)


class TestPublicNames(unittest.TestCase):
    def test_every_public_name_can_be_imported(self):
        import harness

        for name in harness.__all__:
            self.assertIsNotNone(getattr(harness, name), name)

    def test_every_public_name_says_what_it_is(self):
        import harness

        for name in harness.__all__:
            value = getattr(harness, name)
            if callable(value):
                self.assertTrue(value.__doc__, f"harness.{name} has no docstring")

    def test_every_public_name_has_one_home(self):
        """What is defined twice, or re-exported by a room, has two places to look for it."""
        import harness

        homes: dict[str, set[str]] = {}
        for module, path in modules().items():
            if room_of(module) in BESIDE:
                continue
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    homes.setdefault(node.name, set()).add(module)
        public = {name for name in harness.__all__ if name in homes}
        self.assertGreater(len(public), 20)
        self.assertEqual({name: homes[name] for name in public if len(homes[name]) > 1}, {})

    def test_unknown_names_are_an_attribute_error(self):
        import harness

        with self.assertRaises(AttributeError):
            harness.no_such_name  # noqa: B018


if __name__ == "__main__":
    unittest.main()
