"""Settings: read when asked for, refused with variable, value and rule."""

from __future__ import annotations

import contextlib
import os
import unittest
from unittest import mock

from harness.model import settings
from harness.model.changed import changed
from harness.model.errors import SettingError
from suites.selftest.support import ROOT


@contextlib.contextmanager
def environ(**values):
    """With these variables, and none for None; whatever is set meanwhile is forgotten."""
    with mock.patch.dict(os.environ), changed(os.environ, values):
        yield


class TestThePage(unittest.TestCase):
    def test_every_setting_is_on_it(self):
        page = (ROOT / "docs" / "settings.md").read_text()
        for setting in settings.ALL:
            with self.subTest(setting.env):
                self.assertIn(settings.row_for_the_manual(setting), page)
        self.assertEqual(page.count("\n| `"), len(settings.ALL))


class TestSettings(unittest.TestCase):
    def test_default_when_unset_or_empty(self):
        for value in ("", None):
            with environ(HARNESS_SEED=value):
                self.assertEqual(settings.SEED.value(), 1234)

    def test_environment_is_read_at_the_time_of_asking(self):
        with environ(HARNESS_SEED="7"):
            self.assertEqual(settings.SEED.value(), 7)
        with environ(HARNESS_SEED="8"):
            self.assertEqual(settings.SEED.value(), 8)

    def test_what_is_set_is_what_is_read(self):
        samples = {
            settings.SEED: 99,
            settings.TIMEOUT_S: 2.5,
            settings.START_METHOD: "spawn",
            settings.FULL_TRACEBACKS: True,
            settings.KEEP_FOLDERS: False,
            settings.PRELOAD: ("a", "b.c"),
            settings.TUNING: frozenset({settings.EXIT, settings.STORE}),
        }
        for setting, value in samples.items():
            with environ():
                setting.set(value)
                self.assertEqual(setting.value(), value, setting.env)

    def test_whole_seconds_are_a_whole_number(self):
        """PyTorch's common_distributed reads its timeout with int()."""
        with environ():
            settings.TIMEOUT_S.set(25.0)
            self.assertEqual(os.environ[settings.TIMEOUT_S.env], "25")

    def test_all_and_none(self):
        for text, value in (("all", frozenset(settings.TUNINGS)), ("none", frozenset())):
            with environ(HARNESS_TUNING=text):
                self.assertEqual(settings.TUNING.value(), value)
                settings.TUNING.set(value)
                self.assertEqual(os.environ["HARNESS_TUNING"], text)

    def test_bad_values_name_variable_value_and_rule(self):
        bad = {
            settings.TUNING: ("speed", "some of scheduling, exit"),
            settings.SEED: ("many", "whole number"),
            settings.TIMEOUT_S: ("-1", "positive number of seconds"),
            settings.START_TIMEOUT_S: ("nan", "positive number of seconds"),
            settings.START_METHOD: ("fork", "one of forkserver, spawn"),
            settings.KEEP_FOLDERS: ("maybe", "1 or 0"),
        }
        for setting, (value, rule) in bad.items():
            with environ(**{setting.env: value}):
                with self.assertRaises(SettingError) as caught:
                    setting.value()
                for part in (setting.env, value, rule):
                    self.assertIn(part, str(caught.exception))

    def test_every_setting_has_one_name_and_a_sentence(self):
        names = [setting.env for setting in settings.ALL]
        self.assertEqual(len(names), len(set(names)))
        self.assertGreaterEqual(len(names), 8)
        for setting in settings.ALL:
            self.assertTrue(setting.doc.endswith("."), setting.env)
