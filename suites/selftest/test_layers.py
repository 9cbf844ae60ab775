"""The rooms of the house: who may import whom, and that every module stands on its own."""

from __future__ import annotations

import ast
import graphlib
import unittest
from pathlib import Path

from suites.selftest.support import ROOT, run_python

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
NEVER = {("runner", "cases"), ("ranks", "strategies"), ("cases", "strategies")}
ALSO = {
    ("harness.cases.running", "runner"),
    # The name of the module that a drop-in run imports first; nothing imports it by this.
    ("harness.ranks.launch.preload_plan", "dropin"),
    # The fork server imports the test classes before it forks.
    ("harness.ranks.launch.launcher", "cases"),
    # Compares the name of the main module with it.
    ("harness.model.invocation", "__main__"),
    # Looks into sys.modules whether the module is there.
    ("harness._hypothesis_plugin", "cases"),
}

# Inside ranks, a folder may import these; "" is what lies beside the folders, which all may import.
RANKS_ROOMS = {
    "": {"launch"},
    "launch": set(),
    "watch": {"launch"},
    "threads": {"watch"},
    "child": {"launch"},
    "torchrun": {"launch", "watch"},
}
# Who may import from ranks/torchrun: what starts the ranks of a test, and the runner's own part.
ABOVE_TORCHRUN = {"harness.cases.process_ranks", "harness.runner.torchrun"}
# What runs in the parent imports nothing of ranks/child but the entry of a rank.
CHILD_ENTRY = "harness.ranks.child.main"
STARTS_RANKS = {"harness.ranks.world", "harness.ranks.launch.launcher"}
WITHOUT_TORCH = ["harness", "harness.model", "harness.runner"]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_by(source: str) -> set[str]:
    """The names of modules that a source imports, at any depth, or has in a string.

    A module's name in a string is as good as an import: `import_module()` takes it, and so does the
    list of what the fork server imports.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.update({node.value} & _modules)
    return names


def ours(names: set[str]) -> set[str]:
    """Those of the package."""
    return {name for name in names if name.split(".")[0] == "harness"}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def ranks_room_of(module: str) -> str | None:
    """The folder inside ranks; "" for what lies beside the folders, None elsewhere."""
    parts = module.split(".")
    if room_of(module) != "ranks" or len(parts) < 3:
        return None
    return parts[2] if parts[2] in RANKS_ROOMS else ""


def may_import_of_ranks(importer: str, module: str) -> bool:
    """Whether a module may import another, if that is in a folder of ranks."""
    own, room = ranks_room_of(importer), ranks_room_of(module)
    if not room or own == room or room_of(importer) == "bench":
        return True
    if room == "torchrun":
        return importer in ABOVE_TORCHRUN
    if room == "child":
        return module.startswith(CHILD_ENTRY) and importer in STARTS_RANKS
    return own is None or room in RANKS_ROOMS[own]


def may_import(importer: str, room: str) -> bool:
    own = room_of(importer)
    if (importer, room) in ALSO:
        return True
    if own in BESIDE:
        return room in {own, "_version", "__init__", *BESIDE[own]}
    if room in {own, "_version", "__init__"}:
        return True
    if (own, room) in NEVER or room not in ROOMS:
        return False
    return ROOMS.index(room) < ROOMS.index(own)


def is_of_child(module: str) -> bool:
    return ranks_room_of(module) == "child"


def is_torch(module: str) -> bool:
    return module.split(".")[0] == "torch"


_modules = set(modules())


class TestLayers(unittest.TestCase):
    def test_every_room_is_in_the_table(self):
        rooms = {room_of(module) for module in modules()}
        self.assertLessEqual(rooms, {*ROOMS, *BESIDE})

    def test_imports_go_up_only(self):
        wrong = [
            f"{importer} imports {name}"
            for importer, path in modules().items()
            for name in ours(imported_by(path.read_text()))
            if not may_import(importer, room_of(name))
        ]
        self.assertEqual(wrong, [])

    def test_imports_inside_ranks(self):
        wrong = [
            f"{importer} imports {name}"
            for importer, path in modules().items()
            for name in ours(imported_by(path.read_text()))
            if not may_import_of_ranks(importer, name)
        ]
        self.assertEqual(wrong, [])

    def test_no_exception_is_for_nothing(self):
        """Each module that may import more than others does."""
        of_child = {
            importer
            for importer, path in modules().items()
            if any(map(is_of_child, ours(imported_by(path.read_text()))))
        }
        self.assertLessEqual(STARTS_RANKS, of_child)

    def test_no_circle_of_benchmarks(self):
        benches = {name: path for name, path in modules().items() if room_of(name) == "bench"}
        imported = {
            name: ours(imported_by(path.read_text())) & set(benches) - {name}
            for name, path in benches.items()
        }
        graphlib.TopologicalSorter(imported).prepare()  # raises CycleError, naming the modules

    def test_the_check_would_find_a_wrong_import(self):
        self.assertFalse(may_import("harness.model.clock", "ranks"))
        self.assertFalse(may_import("harness.runner.main", "cases"))
        self.assertFalse(may_import("harness.cases.testcase", "runner"))
        self.assertTrue(may_import("harness.cases.running", "runner"))
        self.assertTrue(may_import("harness.runner.main", "ranks"))
        for importer, module in (
            ("harness.ranks.pool", "harness.ranks.torchrun.cluster"),
            ("harness.ranks.pool", "harness.ranks.watch.supervisor"),
            ("harness.ranks.watch.supervisor", "harness.ranks.child.state"),
            ("harness.ranks.launch.launcher", "harness.ranks.child.state"),
            ("harness.cases.process_ranks", "harness.ranks.child.main"),
            ("harness.cases.process_mixin_in_rank", "harness.ranks.child.rank"),
            ("harness.runner.main", "harness.ranks.torchrun.cluster"),
        ):
            self.assertFalse(may_import_of_ranks(importer, module), (importer, module))
        self.assertTrue(may_import_of_ranks("harness.ranks.world", CHILD_ENTRY))

    def test_every_way_to_import_is_seen(self):
        for source in (
            "import harness.model.clock",
            "from harness.model import clock",
            "from harness.model.clock import now",
            "def f():\n    import_module('harness.model.clock')",
            "PRELOAD = ['harness.model.clock']",
        ):
            self.assertIn("harness.model.clock", imported_by(source), source)
        for source in ("import torch.nn", "from torch import nn", "from torch.nn import Linear"):
            self.assertTrue(any(map(is_torch, imported_by(source))), source)

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
            self.assertFalse(any(map(is_torch, imported_by(path.read_text()))), path.name)


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
        done = run_python("-c", script)
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
        done = run_python("-W", "error", "-c", script)
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
