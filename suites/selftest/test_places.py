"""A rank that dies without a word: the failure is placed at the test that the user wrote."""

from __future__ import annotations

import re
import sys
import unittest

from suites.selftest.support import CommandTestCase

SUITE = """
    TOP = "of the file"
    import ctypes, os, signal
    from hypothesis import given, settings, strategies as st
    from harness import MultiProcessTestCase, backends, devices, parametrize
    from harness import instantiate_parametrized_tests
    from harness.common_distributed import skip_if_lt_x_gpu
    from torch.testing._internal.common_device_type import instantiate_device_type_tests

    def die(): os._exit(3)

    class TestPlaces(MultiProcessTestCase):
        world_size = 2

        @parametrize("x", [1])
        def test_parametrized(self, x):
            die()

        @parametrize("x", [1])
        @skip_if_lt_x_gpu(0)
        def test_parametrized_and_skipping(self, x):
            os.kill(os.getpid(), signal.SIGKILL)

        @backends("gloo")
        def test_backend(self, backend):
            die()

        @devices("cpu")
        @parametrize("x", [1])
        def test_device(self, device, x):
            die()

        @skip_if_lt_x_gpu(0)
        def test_skipping(self):
            die()

        @settings(max_examples=1, database=None)
        @given(x=st.just(1))
        def test_given(self, x):
            die()

        def test_in_sub_test(self):
            with self.subTest(i=1):
                die()

        def test_crash(self):
            ctypes.string_at(0)

        def test_abort(self):
            os.abort()

    instantiate_parametrized_tests(TestPlaces)

    class TestDevices(MultiProcessTestCase):
        world_size = 2
        def test_device_type(self, device):
            die()

    instantiate_device_type_tests(TestDevices, globals(), only_for="cpu")
"""

TESTS = {
    "test_parametrized_x_1": "def test_parametrized(self, x):",
    "test_parametrized_and_skipping_x_1": "def test_parametrized_and_skipping(self, x):",
    "test_backend_gloo": "def test_backend(self, backend):",
    "test_device_cpu_x_1": "def test_device(self, device, x):",
    "test_skipping": "def test_skipping(self):",
    "test_given": "def test_given(self, x):",
    "test_in_sub_test": "def test_in_sub_test(self):",
    "test_crash": "ctypes.string_at(0)",
    "test_abort": "os.abort()",
    "test_device_type_cpu": "def test_device_type(self, device):",
}

# As unittest's tracebacks have it, and pytest's.
_PLACE = re.compile(r'/test_places\.py", line \d+, in test_|^test_places\.py:\d+: \w+Error$', re.M)


class TestPlaces(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("test_places.py", SUITE)

    def check(self, sections: dict[str, str]) -> None:
        self.assertEqual(sorted(sections), sorted(TESTS))
        for test, line in TESTS.items():
            with self.subTest(test):
                self.assertIn(line, sections[test])
                self.assertNotIn("parametrize.py", sections[test])
                self.assertRegex(sections[test], _PLACE)
                self.assertNotIn('TOP = "of the file"', sections[test])

    def test_under_the_runner(self) -> None:
        done = self.harness("-j", "2", "--no-history", "test_places.py")
        self.assertEqual(done.last_line, f"0 passed, {len(TESTS)} failed, 0 skipped")
        parts = re.split(r"^-+\nERROR: \S+\.(test_\w+)\n-+\n", done.out, flags=re.MULTILINE)
        self.check(dict(zip(parts[1::2], parts[2::2], strict=True)))

    def test_under_pytest(self) -> None:
        done = self.run_command(
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_places.py"
        )
        self.assertIn(f"{len(TESTS)} failed", done.out)
        failures = done.out.partition("short test summary")[0]
        parts = re.split(r"^_+ \w+\.(test_\w+) _+$", failures, flags=re.MULTILINE)
        self.check(dict(zip(parts[1::2], parts[2::2], strict=True)))


if __name__ == "__main__":
    unittest.main()
