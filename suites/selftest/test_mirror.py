"""The façades have all of PyTorch's names: ours where ranks are concerned, PyTorch's otherwise."""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import unittest
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from torch.testing._internal import common_cuda as their_cuda
from torch.testing._internal import common_distributed as theirs
from torch.testing._internal import common_utils as their_utils

import harness.common_cuda
import harness.common_distributed as ours
import harness.common_utils
from harness import common_utils
from harness.cases import helpers
from suites.samples import mirrored
from suites.selftest.support import run_case

# Keywords that only ours have; with their defaults, they change nothing.
EXTRA = {"requires_world_size": ["allow_cpu"]}

# Parameters that PyTorch's methods have in newer versions only; this one came with torch 2.15.
NEWER = {"DistributedTestBase.create_pg": ["backend"]}

# Ours take what theirs do and name it otherwise, or are callable objects rather than functions.
OTHERWISE = {"TestSkip"}

# What PyTorch's classes have for themselves: how their own ranks talk, and are checked.
INNER = {
    "Event",
    "_check_no_test_errors",
    "_check_return_codes",
    "_ensure_processes_spawned",
    "_event_listener",
    "_get_timedout_process_traceback",
    "_get_world_size",
    "_join_processes",
    "_join_threads",
    "_run_test_given_id",
    "_should_stop_test_suite",
    "_spawn_processes",
    "_worker_loop",
    "_worker_run_main_wait",
    "exception_queue",
}


def defined_in(module) -> list[str]:
    """The public names that a module defines at its top level."""
    found = []
    for node in ast.parse(Path(module.__file__).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(node.target.id)
    return [name for name in found if not name.startswith("_")]


def parameters(function) -> list[tuple[str, object]]:
    return [(p.name, p.kind) for p in inspect.signature(function).parameters.values()]


class TestNames(unittest.TestCase):
    def test_every_name_is_ours_or_forwarded(self):
        known = {*ours.__all__, *ours.FORWARDED}
        missing = [name for name in defined_in(theirs) if name not in known]
        self.assertEqual(missing, [], "PyTorch has new names: give each a home or forward it")

    def test_no_name_is_both(self):
        self.assertEqual(set(ours.__all__) & set(ours.FORWARDED), set())

    def test_what_is_forwarded_is_theirs(self):
        for name in ours.FORWARDED:
            missing = object()
            self.assertIs(getattr(ours, name, missing), getattr(theirs, name, missing), name)

    def test_every_reason_for_skipping_has_pytorchs_exit_code(self):
        for name, skip in theirs.TEST_SKIPS.items():
            self.assertEqual(ours.TEST_SKIPS[name].exit_code, skip.exit_code, name)
        for n in range(1, 9):
            names = f"multi-gpu-{n}", f"multi-device-{n}"
            self.assertIs(*[ours.TEST_SKIPS[name] for name in names])

    def test_every_name_of_the_other_modules(self):
        for facade, module in (
            (harness.common_utils, their_utils),
            (harness.common_cuda, their_cuda),
        ):
            for name in dir(module):
                if not name.startswith("_"):
                    self.assertTrue(hasattr(facade, name), f"{facade.__name__}.{name}")

    def test_names_that_nobody_has(self):
        for facade in (ours, harness.common_utils, harness.common_cuda):
            with self.assertRaisesRegex(AttributeError, f"{facade.__name__}.*no_such_name"):
                facade.no_such_name  # noqa: B018


class TestSignatures(unittest.TestCase):
    def test_functions(self):
        for facade, module in ((ours, theirs), (common_utils, their_utils)):
            for name in facade.__all__:
                mine, other = getattr(facade, name), getattr(module, name, None)
                if not inspect.isfunction(other) or name in OTHERWISE:
                    continue
                with self.subTest(name):
                    extra = EXTRA.get(name, [])
                    kept = [p for p in parameters(mine) if p[0] not in extra]
                    self.assertEqual(kept, parameters(other))

    def test_methods_of_the_classes(self):
        for name in (
            "DistributedTestBase",
            "DynamoDistributedMultiProcTestCase",
            "MultiProcContinuousTest",
            "MultiProcessTestCase",
            "MultiThreadedTestCase",
        ):
            mine, other = getattr(ours, name), getattr(theirs, name)
            for method, value in vars(other).items():
                if method in INNER or method.startswith("__"):
                    continue
                with self.subTest(f"{name}.{method}"):
                    self.assertTrue(hasattr(mine, method))
                    if inspect.isfunction(value) or isinstance(value, classmethod):
                        extra = NEWER.get(f"{name}.{method}", [])
                        expected = parameters(getattr(other, method))
                        found = [
                            p
                            for p in parameters(getattr(mine, method))
                            if p in expected or p[0] not in extra
                        ]
                        self.assertEqual(found, expected)


class TestRankTests(unittest.TestCase):
    """Base classes and helpers at work in ranks."""

    def passes(self, cls, method):
        result = run_case(cls, method)
        self.assertEqual(result.status, "passed", result.text)

    def test_distributed_test_base(self):
        with mock.patch.dict(os.environ):
            os.environ.pop("WORLD_SIZE", None)
            self.passes(mirrored.OnDevice, "test_create_pg")
            self.assertNotIn("WORLD_SIZE", os.environ)
        self.passes(mirrored.OnDevice, "test_create_pg_on_a_backend")

    def test_a_rank_for_each_accelerator(self):
        result = run_case(mirrored.Compiled, "test_many_gpus")
        self.assertEqual(result.status, "skipped", result.text)
        with mock.patch.object(torch.accelerator, "device_count", return_value=2):
            self.passes(mirrored.Compiled, "test_trace")
        with mock.patch.object(torch.accelerator, "device_count", return_value=0):
            result = run_case(mirrored.Compiled, "test_trace")
        self.assertEqual(result.status, "error")
        self.assertIn("Compiled has world_size 0", result.text)

    def test_continuous(self):
        self.passes(mirrored.Continuous, "test_group")
        self.passes(mirrored.Continuous, "test_options")
        self.passes(mirrored.ContinuousByProperty, "test_size")
        # Unlike under PyTorch's, one that fails takes no other test with it.
        for method, status in (("test_fails", "failed"), ("test_skips", "skipped")):
            result = run_case(mirrored.Continuous, method)
            self.assertEqual(result.status, status, result.text)
        self.passes(mirrored.Continuous, "test_group")

    def test_continuous_with_a_rank_for_each_device(self):
        self.passes(mirrored.ForEachDevice, "test_size")
        result = run_case(mirrored.NoDevice, "test_nothing")
        self.assertEqual(
            (result.status, result.text), ("skipped", "this machine has no meta device")
        )
        result = run_case(mirrored.NoBackend, "test_nothing")
        self.assertEqual(result.status, "skipped", result.text)
        self.assertIn("without the mpi backend", result.text)

    def test_debug_levels(self):
        self.passes(mirrored.Helpers, "test_debug_levels")

    def test_subtests(self):
        self.passes(mirrored.Helpers, "test_subtests")
        result = run_case(mirrored.Helpers, "test_failing_subtests")
        self.assertEqual(result.status, "failed")
        # Each is told by itself, and the other ranks did not wait for the one that failed.
        self.assertEqual(len(result.titles), 2, result.titles)
        self.assertTrue(all("(a=2, b=" in title for title in result.titles), result.titles)


class TestSparseInputs(unittest.TestCase):
    @torch.sparse.check_sparse_tensor_invariants(True)
    def test_they_are_pytorchs(self):
        for size, inputs in itertools.product((1, 2, 3), (1, 2)):
            for rank in range(size):
                mine = ours.simple_sparse_reduce_tests(rank, size, inputs)
                other = theirs.simple_sparse_reduce_tests(rank, size, inputs)
                for left, right in zip(mine, other, strict=True):
                    for x, y in zip([*left[0], *left[1]], [*right[0], *right[1]], strict=True):
                        self.assertEqual(x.sparse_dim(), y.sparse_dim())
                        torch.testing.assert_close(x, y, rtol=0, atol=0)


class TestHelpers(unittest.TestCase):
    def test_captured_output(self):
        with helpers.captured_output() as (out, err):
            print("one")
        self.assertEqual((out.getvalue(), err.getvalue()), ("one\n", ""))

    def test_temporary_names(self):
        with helpers.TemporaryFileName(suffix=".x") as file, helpers.TemporaryDirectoryName() as d:
            self.assertTrue(file.endswith(".x"))
            self.assertTrue(os.path.isfile(file))
            self.assertTrue(os.path.isdir(d))
        self.assertFalse(os.path.exists(file) or os.path.exists(d))

    def test_free_port(self):
        store = dist.TCPStore("localhost", helpers.find_free_port(), 1, True)
        store.set("key", "value")
        self.assertEqual(store.get("key"), b"value")

    def test_only_the_named_errors_are_retried(self):
        calls = []

        @helpers.retry_on_connect_failures(connect_errors=("busy",))
        def busy_twice():
            calls.append(1)
            if len(calls) < 3:
                raise RuntimeError("the port is busy")
            return len(calls)

        @helpers.retry_on_connect_failures
        def broken():
            calls.append(1)
            raise RuntimeError("something else")

        with mock.patch.object(helpers.time, "sleep"):
            self.assertEqual(busy_twice(), 3)
            calls.clear()
            with self.assertRaisesRegex(RuntimeError, "something else"):
                broken()
        self.assertEqual(len(calls), 1)

    def test_retries_end(self):
        @helpers.retry_on_connect_failures
        def busy():
            raise RuntimeError("Address already in use")

        with (
            mock.patch.object(helpers.time, "sleep") as sleep,
            self.assertRaisesRegex(
                RuntimeError, "busy failed all 10 attempts; the last error: Address"
            ),
        ):
            busy()
        self.assertEqual(sleep.call_count, 9)

    def test_device_of_each_rank(self):
        test = mirrored.OnDevice("test_create_pg")
        self.assertEqual(test.rank_to_device("cpu"), {0: [0], 1: [0]})
        self.assertEqual(test.backend("cpu"), "gloo")
        self.assertEqual(torch.device("cpu").type, "cpu")
