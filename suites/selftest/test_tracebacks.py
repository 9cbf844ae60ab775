"""The traceback of a rank: the user's frames, and the harness's only if the error is in it."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

from harness.model.returned import checked
from harness.ranks.body import run_body
from harness.ranks.problems import problem_of
from suites.samples import tracebacks as samples
from suites.selftest.support import InProcess, run_case


class TestRanks(InProcess):
    def of_rank(self, cls: type[unittest.TestCase], method: str) -> str:
        """The part of the report that is about the rank."""
        result = run_case(cls, method)
        self.assertEqual(result.status, "error", result.text)
        return result.text.partition("rank 0: ")[2]

    def test_a_call_with_wrong_arguments_has_no_frames(self):
        for cls, method in (
            (samples.WrongArguments, "test_method"),
            (samples.WrongArguments, "test_cleanup"),
            (samples.WrongArgumentsInThread, "test_method"),
        ):
            with self.subTest(cls=cls, method=method):
                text = self.of_rank(cls, method)
                self.assertIn("missing 1 required positional argument: 'missing'", text)
                self.assertNotIn("File ", text)

    def test_the_users_own_wrong_call_has_the_users_frame(self):
        text = self.of_rank(samples.WrongArguments, "test_helper")
        self.assertEqual(text.count("File "), 1, text)
        self.assertIn("self.helper()", text)

    def test_a_cleanup_of_the_standard_library_has_its_frames(self):
        text = self.of_rank(samples.MissingFolder, "test_cleanup")
        self.assertIn("shutil.py", text)
        self.assertNotIn("case.py", text)
        self.assertNotIn("harness/", text)


class TestProblems(unittest.TestCase):
    def traceback_of(self, function, *arguments) -> str:
        """The traceback without the frame of this file, as if the harness had made the call."""
        try:
            function(*arguments)
        except BaseException as error:
            tb = error.__traceback__
            error.__traceback__ = tb and tb.tb_next
            return problem_of((type(error), error, error.__traceback__)).traceback
        raise AssertionError("nothing was raised")

    def test_an_error_in_the_harness_has_all_frames(self):
        no_function: Any = 3
        no_test: Any = None
        self.assertIn("returned.py", self.traceback_of(checked(no_function)))  # a TypeError
        self.assertIn("body.py", self.traceback_of(run_body, no_test, print, print, print))

    def test_all_exceptions_that_a_traceback_shows(self):
        def fails() -> None:
            try:
                checked(lambda missing: None)()
            except TypeError as error:
                raise ExceptionGroup("several", [error]) from error

        text = self.traceback_of(fails)
        self.assertEqual(text.count("missing 1 required"), 2, text)
        self.assertNotIn("returned.py", text)

    def test_full_tracebacks(self):
        with mock.patch.dict("os.environ", HARNESS_FULL_TRACEBACKS="1"):
            text = self.traceback_of(lambda: checked(lambda missing: None)())
        self.assertIn("returned.py", text)


if __name__ == "__main__":
    unittest.main()
