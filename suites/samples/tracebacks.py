"""Errors of which no frame, or only one frame, is the user's."""

from __future__ import annotations

import shutil

from harness import MultiProcessTestCase, MultiThreadedTestCase


class WrongArguments(MultiProcessTestCase):
    world_size = 1

    def test_method(self, missing):
        """The harness calls it without an argument."""

    def test_cleanup(self):
        self.addCleanup(lambda missing: None)

    def test_helper(self):
        self.helper()

    def helper(self, missing):
        """The test calls it without an argument."""


class WrongArgumentsInThread(MultiThreadedTestCase):
    world_size = 1

    def test_method(self, missing):
        """The harness calls it without an argument."""


class MissingFolder(MultiProcessTestCase):
    world_size = 1

    def test_cleanup(self):
        self.addCleanup(shutil.rmtree, "/nonexistent/folder")
