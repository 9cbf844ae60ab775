"""What the fork server preloads: what a module will import, and what makes a fork unsafe."""

from __future__ import annotations

import os
import sys
import unittest
import warnings
from unittest import mock

from harness.ranks.launch.preload_plan import foreseen
from suites.selftest.support import CommandTestCase


class TestForesight(CommandTestCase):
    def test_what_a_module_will_use(self):
        self.write("foreseen_a.py", "import re\nNAME = re.compile('x')\n")
        self.write("foreseen_b.py", "def f(x):\n    x.sum().backward()\n")
        self.write("foreseen_c.py", "import torch\n\nf = torch.compile(print)\n")
        with mock.patch.object(sys, "path", [str(self.folder), *sys.path]):
            self.assertEqual(foreseen(["foreseen_a", "no_such_module"]), [])
            self.assertEqual(foreseen(["foreseen_b"]), ["torch.fx.experimental.symbolic_shapes"])
            self.assertEqual(foreseen(["foreseen_c"]), ["torch._dynamo"])


class TestForkSafety(unittest.TestCase):
    """A module that is not safe to fork makes its ranks slow, never stuck."""

    def test_thread_started_by_an_import(self):
        from harness.ranks.launch.preload import _why_unsafe

        with mock.patch("harness.ranks.launch.preload._thread_count", return_value=3):
            self.assertIn("importing mod started 2 thread(s)", _why_unsafe("mod"))

    def test_cuda_woken_up_by_an_import(self):
        import torch

        from harness.ranks.launch.preload import _why_unsafe

        with mock.patch("harness.ranks.launch.preload._thread_count", return_value=1):
            self.assertEqual(_why_unsafe("mod"), "")
            with mock.patch.object(torch.cuda, "is_available", return_value=True):
                self.assertEqual(_why_unsafe("mod"), "")
                for sign in ("is_initialized", "_is_in_bad_fork"):
                    with mock.patch.object(torch.cuda, sign, return_value=True):
                        self.assertEqual(_why_unsafe("mod"), "importing mod initialized CUDA")

    def test_a_module_to_preload_that_is_not_there_is_told_once(self):
        from harness.model.clock import Deadline
        from harness.ranks.launch.launcher import Launcher

        launcher = Launcher()
        launcher.expect_no_ranks()
        environ = {"HARNESS_PRELOAD": "json,no.such", "HARNESS_START_METHOD": "forkserver"}
        with mock.patch.dict(os.environ, environ), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                launcher.factory(Deadline.after(60.0))
            launcher.advance().kill()
        (told,) = [str(w.message) for w in caught if w.category is UserWarning]
        self.assertIn("HARNESS_PRELOAD names no.such, which the fork server cannot import", told)
        self.assertIn("(ModuleNotFoundError: No module named 'no'): correct it", told)

    def test_the_reason_is_shown_once(self):
        from harness.model.errors import RanksSpawnedWarning
        from harness.ranks.launch.launcher import Launcher

        launcher = Launcher()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            launcher._warn("importing mod started 1 thread(s)")
            launcher._warn("importing mod started 1 thread(s)")
        self.assertEqual([w.category for w in caught], [RanksSpawnedWarning])
        self.assertIn("importing mod started 1 thread(s)", str(caught[0].message))
