"""Runs a folder as `python -m unittest discover` does, and prints each test's end as JSON."""

from __future__ import annotations

import io
import json
import os
import unittest
from collections import Counter
from typing import Any
from unittest.suite import _ErrorHolder
from unittest.util import strclass


class Log(unittest.TextTestResult):
    """Keeps for each test, in the order of the run, what unittest said of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tests: list[tuple[unittest.TestCase, set[str]]] = []
        self.fixtures: dict[tuple[str, type | None], set[str]] = {}
        self.setting_up: type | None = None
        self.pid = os.getpid()

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.leave_in_child()

    def leave_in_child(self) -> None:
        """End a child that a test has forked: it would run all the others, too."""
        if os.getpid() != self.pid:
            os._exit(0)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.tests.append((test, set()))

    def note(self, test: unittest.TestCase, what: str) -> None:
        if isinstance(test, _ErrorHolder):
            before = getattr(self, "_previousTestClass", None)
            of_class = {"setUpClass": self.setting_up, "tearDownClass": before}
            key = (test.id(), of_class.get(test.id().partition(" ")[0]))
            self.fixtures.setdefault(key, set()).add(what)
        else:
            self.tests[-1][1].add(what)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.note(test, "failed")

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self.note(test, "failed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self.note(test, "failed")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note(test, "failed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        if not hasattr(test, "test_case"):
            self.note(test, "skipped")


def status(said: set[str]) -> str:
    """A test that neither failed nor was skipped has passed, as in unittest's last line."""
    return next((word for word in ("failed", "skipped") if word in said), "passed")


def flat(suite: Any) -> list[unittest.TestCase]:
    found = suite if isinstance(suite, unittest.BaseTestSuite) else None
    return [suite] if found is None else [test for item in found for test in flat(item)]


class Suite(unittest.TestSuite):
    """Tells the log whose fixtures are set up."""

    def _handleClassSetUp(self, test: unittest.TestCase, result: Any) -> None:
        result.setting_up = type(test)
        try:
            super()._handleClassSetUp(test, result)  # type: ignore[misc]
        finally:
            result.leave_in_child()


def main() -> int:
    loader = unittest.TestLoader()
    loader.suiteClass = Suite
    suite = loader.discover(".")
    planned = flat(suite)
    out = os.dup(1)  # a test may close it
    log: Any = unittest.TextTestRunner(io.StringIO(), resultclass=Log).run(suite)
    outcomes = [(test.id(), status(said)) for test, said in log.tests]
    # unittest tells of each exception of a fixture; the fixture has failed once.
    for (name, _), said in log.fixtures.items():
        if "failed" in said or name.startswith("tearDown"):
            outcomes.append((name, status(said)))
    started = Counter(id(test) for test, _ in log.tests)
    not_run = 0
    for test in planned:
        started[id(test)] -= 1
        if started[id(test)] < 0:
            keys = _fixtures_of(type(test))
            if any("skipped" in log.fixtures.get(key, ()) for key in keys):
                outcomes.append((test.id(), "skipped"))
            else:
                not_run += 1
    with open(out, "w") as file:
        json.dump({"outcomes": outcomes, "not_run": not_run}, file)
    return 0 if log.wasSuccessful() else 1


def _fixtures_of(cls: type) -> list[tuple[str, type | None]]:
    return [(f"setUpClass ({strclass(cls)})", cls), (f"setUpModule ({cls.__module__})", None)]


os._exit(main())
