"""The levels of the audit, divergence on purpose, warnings, limits and property tests."""

from __future__ import annotations

import contextlib
import os
import unittest
import warnings
from unittest import mock

from harness import CommunicationWarning
from suites.samples import audited
from suites.selftest.support import InProcess, run_case


class AuditTestCase(InProcess):
    def status(self, cls, name, **env):
        with mock.patch.dict(os.environ, env):
            self.result = run_case(cls, name)
        return self.result.status

    def assertNamed(self, words, cls, name, **env):
        self.assertEqual(self.status(cls, name, **env), "failed", self.result.text)
        self.assertIn("harness.CommunicationError", self.result.text)
        self.assertIn(words, self.result.text)

    def assertPasses(self, cls, name, **env):
        self.assertEqual(self.status(cls, name, **env), "passed", self.result.text)


class TestLevels(AuditTestCase):
    def test_full_by_default(self):
        self.assertNamed("the reductions differ", audited.Levels, "test_reductions")

    def test_record_knows_shapes_alone(self):
        self.assertPasses(audited.Levels, "test_reductions", HARNESS_AUDIT="record")
        self.assertNamed("the shapes differ", audited.Levels, "test_shapes", HARNESS_AUDIT="record")

    def test_off(self):
        self.assertPasses(audited.Levels, "test_shapes", HARNESS_AUDIT="off")

    def test_decorator_beats_class_beats_setting(self):
        self.assertPasses(audited.Levels, "test_off")
        self.assertPasses(audited.Levels, "test_record")
        self.assertPasses(audited.OffForAll, "test_reductions", HARNESS_AUDIT="full")
        self.assertNamed("reductions", audited.OffForAll, "test_full", HARNESS_AUDIT="off")

    def test_a_level_that_there_is_not(self):
        self.assertEqual(self.status(audited.BadLevel, "test_it"), "error")
        self.assertIn(
            "BadLevel.audit_level = 'thorough': a level of the audit is one of off, record, full",
            self.result.text,
        )

    def test_warnings(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.assertPasses(audited.Levels, "test_reductions", HARNESS_AUDIT_FINDS="warn")
        (warning,) = [w for w in caught if w.category is CommunicationWarning]
        self.assertIn("the reductions differ", str(warning.message))
        self.assertTrue(warning.filename.endswith("audited.py"))


class TestOnPurpose(AuditTestCase):
    def test_declared(self):
        self.assertPasses(audited.Levels, "test_declared")
        self.assertPasses(audited.Levels, "test_declared_in_part")

    def test_what_is_not_declared_is_named(self):
        self.assertNamed(
            "the reductions differ", audited.Levels, "test_declared_in_part_and_wrong_after"
        )


class TestLimits(AuditTestCase):
    def test_the_first_operations_are_compared(self):
        self.assertNamed(
            "which the audit keeps the first 3", audited.Limits, "test_wrong_within_the_limit"
        )
        self.assertIn("the reductions differ", self.result.text)

    def test_nothing_is_guessed_about_the_rest(self):
        self.assertPasses(audited.Limits, "test_wrong_beyond_the_limit")
        self.assertNamed(  # only what does not depend on the rest
            "nobody waits", audited.Limits, "test_fewer_calls_on_one_rank"
        )
        self.assertNotIn("does not call it", self.result.text)

    def test_a_flight_recorder_that_is_full(self):
        self.assertNamed(
            "torch's flight recorder is full",
            audited.Levels,
            "test_shapes",
            HARNESS_AUDIT="record",
            TORCH_FR_BUFFER_SIZE="1",
        )


class TestEndings(AuditTestCase):
    def test_an_expected_exception(self):
        self.assertPasses(audited.Endings, "test_expected_exception")

    def test_a_test_that_fails_by_itself(self):
        self.assertEqual(self.status(audited.Endings, "test_fails_anyway"), "failed")
        self.assertIn("of the test itself", self.result.text)
        self.assertNotIn("CommunicationError", self.result.text)

    def test_hypothesis_shrinks_a_fault(self):
        self.assertEqual(self.status(audited.Endings, "test_examples"), "failed")
        self.assertIn("sizes=[3]", self.result.text)
        self.assertIn("the reductions differ", self.result.text)


class TestReused(AuditTestCase):
    def test_ranks_with_a_message_in_flight_are_replaced(self):
        before = self.passes(audited.Kept, "test_pid")
        self.assertEqual(self.passes(audited.Kept, "test_pid"), before)
        # In the environment of the others, which decides which ranks a test gets.
        same = {"SAMPLE_OUT": str(self.out)}
        self.assertNamed("the tags differ", audited.Kept, "test_leaves_a_message", **same)
        self.assertNotEqual(self.passes(audited.Kept, "test_pid"), before)


class TestOperators(unittest.TestCase):
    def test_accesses(self):
        import torch

        from harness.ranks.tensor_watch import _accesses

        aten = torch.ops.aten
        self.assertTrue(_accesses(aten.random_.default)[0])
        self.assertTrue(_accesses(aten.copy_.default)[0])
        self.assertEqual(_accesses(aten.sum.default), {})
        for shape_only in (aten.rand_like.default, aten.new_zeros.default, aten.view.default):
            self.assertIsNone(_accesses(shape_only))

    def test_torchs_warning_of_an_outsider_keeps_its_place(self):
        import torch
        from torch.distributed import distributed_c10d

        from harness.ranks import c10d_work

        def warned():
            with self.assertWarnsRegex(UserWarning, "Running all_reduce on global rank") as caught:
                distributed_c10d.all_reduce(
                    torch.ones(1), group=distributed_c10d.GroupMember.NON_GROUP_MEMBER
                )
            return caught.filename, caught.lineno

        plainly = warned()
        with contextlib.ExitStack() as stack:
            for owner, name, wrapped in c10d_work.wrapped_functions():
                stack.enter_context(mock.patch.object(owner, name, wrapped))
            self.assertEqual(warned(), plainly)

    def test_all_of_c10d_that_communicate(self):
        import torch
        import torch.distributed

        from harness.ranks import c10d_calls

        found = {
            schema.name.partition("::")[2]
            for schema in torch._C._jit_get_all_schemas()
            if schema.name.startswith("c10d::")
            and any(argument.name == "process_group" for argument in schema.arguments)
        }
        self.assertEqual(found - set(c10d_calls.OPERATORS), set())
