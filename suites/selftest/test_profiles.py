"""Hypothesis profiles: the right one is in force before the first `@settings` is evaluated."""

from __future__ import annotations

import sys
import unittest

from suites.selftest.support import CommandTestCase

HARNESS_FIRST = """
    from harness import TestCase
    import hypothesis
"""
HYPOTHESIS_FIRST = """
    import hypothesis
    from harness import TestCase
"""
SHOW = """
    s = hypothesis.settings(max_examples=3)
    d = hypothesis.settings.default
    print(d.max_examples, d.derandomize, d.deadline, d.verbosity.name, s.deadline)
    for name in ("dev", "ci", "pytorch_ci", "debug"):
        print(name, hypothesis.settings.get_profile(name).max_examples)
"""
ALL = "dev 10\nci 50\npytorch_ci 50\ndebug 1000\n"


class TestProfiles(CommandTestCase):
    def shown(self, imports, **env):
        self.write("show.py", imports + SHOW)
        done = self.run_command(sys.executable, "show.py", **env)
        self.assertEqual(done.err, "")
        return done.out

    def test_in_either_order_of_imports(self):
        for imports in (HARNESS_FIRST, HYPOTHESIS_FIRST):
            self.assertEqual(self.shown(imports), "10 False None normal None\n" + ALL)

    def test_chosen_by_the_environment(self):
        found = self.shown(HARNESS_FIRST, CI="true")
        self.assertTrue(found.startswith("50 True None normal None\n"), found)
        found = self.shown(HARNESS_FIRST, PYTORCH_HYPOTHESIS_PROFILE="debug")
        self.assertTrue(found.startswith("1000 False None verbose None\n"), found)

    def test_other_projects_are_left_alone(self):
        """Installed beside a project that uses Hypothesis without the harness."""
        self.write(
            "alone.py",
            """
            import hypothesis, sys
            print(hypothesis.settings.default.max_examples, "torch" in sys.modules)
            """,
        )
        done = self.run_command(sys.executable, "alone.py")
        self.assertEqual(done.out, "100 False\n", done.err)


if __name__ == "__main__":
    unittest.main()
