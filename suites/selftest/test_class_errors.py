"""Errors in a test class: its world size, its hooks, its name or its start method."""

from __future__ import annotations

import os
import unittest
from unittest import mock

from harness import MultiProcessTestCase, WorldSizeError
from harness.model.errors import HookSignatureError
from suites.samples import sound
from suites.selftest.support import run_case


class TestBadWorlds(unittest.TestCase):
    def test_world_size_that_is_none(self):
        for value in (0, -1, True, 2.0, "two", None):

            class Odd(MultiProcessTestCase):
                world_size = value

                def test(self):
                    pass

            with mock.patch("multiprocessing.process.BaseProcess.start") as start:
                result = run_case(Odd, "test")
            self.assertEqual(result.status, "error")
            self.assertIn("WorldSizeError", result.text)
            self.assertNotIn("/harness/", result.text)  # raised at the line of the test
            self.assertIn("Odd has world_size", result.text)
            self.assertIn(repr(value), result.text)
            start.assert_not_called()

    def test_decorator_against_a_property(self):
        from harness import requires_world_size

        class Fixed(MultiProcessTestCase):
            @property
            def world_size(self):
                return 2

            @requires_world_size(3, allow_cpu=True)
            def test(self):
                pass

        with self.assertRaisesRegex(WorldSizeError, "asks for 3 ranks.*property with the value 2"):
            Fixed("test")

    def test_hook_with_other_parameters(self):
        with self.assertRaisesRegex(HookSignatureError, r"Wrong\._run.*rank, test_name, file_name"):

            class Wrong(MultiProcessTestCase):
                @classmethod
                def _run(cls, rank):
                    pass

    def test_class_that_no_other_process_can_find(self):
        class Local(MultiProcessTestCase):
            world_size = 1

            def test(self):
                pass

        result = run_case(Local, "test")
        self.assertEqual(result.status, "error")
        self.assertIn("Define test classes at module level", result.text)

    def test_set_up_without_super(self):
        class Forgetful(MultiProcessTestCase):
            def setUp(self):
                pass

            def test(self):
                pass

        result = run_case(Forgetful, "test")
        self.assertEqual(result.status, "error")
        self.assertIn("Forgetful.setUp() must call super().setUp()", result.text)

    def test_unknown_start_method(self):
        with mock.patch.dict(os.environ, HARNESS_START_METHOD="fork"):
            result = run_case(sound.WithoutSetUpCode, "test_all_reduce")
        self.assertEqual(result.status, "error")
        self.assertIn("HARNESS_START_METHOD='fork': must be one of forkserver, spawn", result.text)

    def test_wrong_method_name(self):
        with self.assertRaisesRegex(ValueError, "no such test method.*WithoutSetUpCode.*test_no"):
            sound.WithoutSetUpCode("test_no")
        sound.WithoutSetUpCode()
