"""Settings: read when asked for, refused with variable, value and rule."""

from __future__ import annotations

import contextlib
import os
import sys
import unittest
from unittest import mock

from harness.model import settings
from harness.model.errors import SettingError
from harness.model.misspelt_settings import WARNED_VARIABLE, misspelt
from harness.model.spec import TORCHRUN_DEVICES_VARIABLE, WORLD_VARIABLE
from harness.model.temporarily import changed
from harness.ranks.launch.preload_plan import PLAN_VARIABLE
from suites.selftest.support import ROOT, CommandTestCase


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


class TestMisspelt(CommandTestCase):
    def test_near_names(self):
        for wrong, meant in {
            "HARNESS_TIMEOT": "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT",
            "HARNESS_TIMEOUT": "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT",
            "DISTRIBUTED_TESTS_TIMEOUT": "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT",
            "HARNESS_START_TIMEOUT_S": "HARNESS_START_TIMEOUT",
            "HARNESS_SEEDS": "HARNESS_SEED",
            "HARNESS_ISOLATON": "HARNESS_ISOLATION",
            "harness_leaks": "HARNESS_LEAKS",
            "HARNESS_KEEP_FOLDER": "HARNESS_KEEP_FOLDERS",
            "HARNESS_DEADLOCK": "HARNESS_DEADLOCK_AFTER",
        }.items():
            texts = misspelt({wrong: "5"})
            self.assertEqual(len(texts), 1, wrong)
            self.assertTrue(texts[0].startswith(f"{wrong}=5 has no effect"), texts)
            self.assertIn(meant, texts[0])

    def test_ours_and_those_of_other_products(self):
        ours = {setting.env: "1" for setting in settings.ALL}
        internal = (WORLD_VARIABLE, TORCHRUN_DEVICES_VARIABLE, PLAN_VARIABLE, WARNED_VARIABLE)
        others = """
            BUILD_ID ACCOUNT_ID ORG_ID PROJECT_ID PIPELINE_ID STAGE_ID STEP_ID EXECUTION_ID
            DELEGATE_ID DELEGATE_NAME NODE_INDEX NODE_TOTAL WORKSPACE API_KEY URL
            SECRETS_OUTPUT_FILE LOG_PREFIX ACTIVE VERSION TIMER OPTIONS PERL PERL_SWITCHES VERBOSE
            COLOR SUBCLASS
            IGNORE_EXIT NOTTY
        """.split()  # noqa: SIM905
        foreign = {f"HARNESS_{name}": "1" for name in others}
        self.assertEqual(misspelt({**ours, **dict.fromkeys(internal, "1"), **foreign}), [])

    def test_told_once(self):
        self.write(
            "test_it.py",
            """
            from harness import MultiProcessTestCase


            class TestIt(MultiProcessTestCase):
                world_size = 2

                def test_one(self):
                    pass

                def test_two(self):
                    pass
            """,
        )
        for words, method in (
            (("-m", "harness", "-j", "0", "--no-history"), "forkserver"),
            (("-m", "harness", "-j", "2", "--no-history"), "spawn"),
            (("-m", "unittest"), "forkserver"),
            (("-m", "pytest", "-q"), "spawn"),
        ):
            with self.subTest(words=words, method=method):
                finished = self.run_command(
                    sys.executable,
                    *words,
                    "test_it.py",
                    HARNESS_TIMEOT="5",
                    HARNESS_BUILD_ID="7",
                    HARNESS_START_METHOD=method,
                )
                told = finished.out + finished.err
                self.assertEqual(finished.code, 0, told)
                self.assertEqual(told.count("HARNESS_TIMEOT=5 has no effect"), 1, told)
                self.assertNotIn("HARNESS_BUILD_ID", told)


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
