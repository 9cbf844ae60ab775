"""Attributes and methods of a user's test class, whatever their names, are the user's."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from unittest import mock

import expecttest

from harness import MultiProcContinuousTest, MultiProcessTestCase, MultiThreadedTestCase
from harness.cases.continuous_mixin import ContinuousRanks
from harness.cases.on_ranks import _CallRanks
from harness.cases.process_ranks import ProcessRanks
from harness.cases.thread_ranks import ThreadRanks
from harness.model.errors import FolderError
from harness.model.marks import RANKS
from harness.ranks import folders
from suites.selftest.support import CommandTestCase

CLASSES = (MultiProcessTestCase, MultiProcContinuousTest, MultiThreadedTestCase)
STATES = (ProcessRanks, ContinuousRanks, ThreadRanks, _CallRanks)

# PyTorch's names that begin with an underscore; its tests override or read them.
MIRRORED = {
    "_check_return_codes",
    "_current_test_name",
    "_init_pg",
    "_join_processes",
    "_processes_spawned",
    "_run",
    "_spawn_processes",
    "_spawn_threads",
    "_start_processes",
}
# Documented attributes of a class, of which the state of a running test has one of the same name.
DOCUMENTED = {"timeout_s"}
# Names that the harness itself has once used on test classes and their instances.
FORMER = set(
    """
    _ENTRY _HOOKS _ON_GIVEN_RANKS _RANKS_ARE_THREADS _USUAL_ISOLATION _adopt_world_size
    _await_examples _await_verdict _chosen_world_size _difference_from_rank_0 _end_threads
    _end_world _example _exit_rule _expectations _fail_together _finish_examples _folder
    _given_ranks _group_key _hand_out _handed_out _has_started _is_ready _join_or_skip
    _join_ranks _keep _kept_folder _launch_spec _leave_process_group _may_start _meet _new_world
    _own_world _reason_against_start _remove_folder _restart _run_examples _run_with_group
    _seed_rank _run_skipped_set_up _shared_path _skipped_on_sandcastle _start_ranks _stays
    _take_back _thread_world _timeout_s _tls _world has_command
""".split()  # noqa: SIM905
)


def names_of_the_state() -> set[str]:
    """What the harness keeps of a running test, attributes and methods."""
    found = set()
    for state in STATES:
        names = {*dir(state), *vars(state(unittest.TestCase()))}
        found |= {name for name in names if not name.startswith("__")}
    # A method `test` would be one more test.
    return found - DOCUMENTED - {"test"}


TESTS = """
import os
from pathlib import Path

import torch
import torch.distributed as dist
from hypothesis import given, settings, strategies as st

from harness import (
    MultiProcContinuousTest, MultiProcessTestCase, MultiThreadedTestCase, kill_rank
)

NAMES = {names!r}
PRECIOUS = Path("precious")


def called(self, *args, **kwargs):
    return {{"a": 1}}


class Body:
    world_size = 2

    def test_group(self):
        if not dist.is_initialized():
            self.init_process_group()
        x = torch.ones(2)
        dist.all_reduce(x)
        self.assertEqual(x, torch.full((2,), 2.0))
        self.check()
        self.assertRanksAgree(torch.full((2,), 1.0 + self.rank * 1e-9))
        with self.assertRaises(AssertionError):
            self.assertEqualOnAllRanks(self.rank, 0)

    @settings(max_examples=3, database=None)
    @given(st.integers(0, 5))
    def test_property(self, n):
        self.check()
        self.assertRanksAgree(n)


class Methods(Body):
    def check(self):
        self.assertEqual([n for n in NAMES if getattr(self, n)() != {{"a": 1}}], [])


for name in NAMES:
    setattr(Methods, name, called)


class Attributes(Body):
    def setUp(self):
        for name in NAMES:
            setattr(self, name, True)
        super().setUp()
        PRECIOUS.mkdir(exist_ok=True)
        (PRECIOUS / "thesis.txt").write_text("years of work")
        for name in NAMES:
            setattr(self, name, PRECIOUS)

    def check(self):
        for name in NAMES:
            setattr(self, name, PRECIOUS)
        self.assertTrue((PRECIOUS / "thesis.txt").exists())

    def tearDown(self):
        self.assertEqual([n for n in NAMES if getattr(self, n) != PRECIOUS], [])
        super().tearDown()


def defined(base, kind, isolation):
    name = f"Test{{base.__name__}}{{kind.__name__}}{{isolation}}"
    body = {{"__module__": __name__, "__qualname__": name, "isolation": isolation}}
    if base is MultiProcContinuousTest:
        body["backend_str"] = classmethod(lambda cls: "gloo")
    globals()[name] = type(name, (kind, base), body)


for kind in (Methods, Attributes):
    defined(MultiThreadedTestCase, kind, None)
    defined(MultiProcessTestCase, kind, "process")
    defined(MultiProcessTestCase, kind, "group")
    defined(MultiProcContinuousTest, kind, "none")


class TestOtherFile(Attributes, MultiProcessTestCase):
    # The test's own file for a store is in a folder of the user's.
    def setUp(self):
        super().setUp()
        self.file_name = os.path.abspath(PRECIOUS / "store")
        for name in ("agreement", "store.1"):
            (PRECIOUS / name).write_text("the user's")

    def tearDown(self):
        super().tearDown()
        for name in ("agreement", "store.1"):
            self.assertEqual((PRECIOUS / name).read_text(), "the user's")
        (PRECIOUS / "store").unlink(missing_ok=True)


class TestChaos(Methods, MultiProcessTestCase):
    test_group = test_property = None

    @kill_rank(1, at=1, survivors_raise=RuntimeError)
    def test_kill(self):
        self.init_process_group()
        dist.all_reduce(torch.ones(1))
"""


class TestUserNames(CommandTestCase):
    def test_classes_have_no_private_names_but_pytorchs(self):
        known = {*dir(unittest.TestCase), *dir(expecttest.TestCase), *MIRRORED}
        for cls in CLASSES:
            private = {name for name in dir(cls) if name.startswith("_")} - known
            self.assertEqual(private, {RANKS, "__weakref__"} & private, cls)

    def test_instances_have_one_attribute_of_the_harness(self):
        for cls in CLASSES:

            class User(cls):
                world_size = 1

                def test(self):
                    pass

            case = User("test")
            case.setUp()
            self.addCleanup(case.doCleanups)
            self.addCleanup(case.tearDown)
            private = {name for name in vars(case) if name.startswith("_")}
            self.assertLessEqual(private - set(vars(unittest.TestCase())), {RANKS})

    def test_any_name_may_be_the_users(self):
        names = sorted({*FORMER, *names_of_the_state()})
        self.assertGreater(len(names), 60)
        self.write("test_hostile.py", TESTS.format(names=names))
        done = self.run_command(sys.executable, "-m", "unittest", "test_hostile", "-v")
        self.assertEqual(done.code, 0, done.err)
        self.assertRegex(done.err, r"Ran 19 tests .*\n\nOK\n$")
        self.assertEqual((self.folder / "precious/thesis.txt").read_text(), "years of work")
        self.assertEqual(done.left_processes, [])
        # torch keeps a cache there.
        self.assertEqual([f for f in done.left_files if not f.startswith("torchinductor")], [])

    def test_threads_see_what_set_up_has_set(self):
        self.write(
            "test_set_up.py",
            """
            from harness import MultiThreadedTestCase


            class TestSetUp(MultiThreadedTestCase):
                world_size = 2
                of_the_class = 1

                def setUp(self):
                    super().setUp()
                    self.made, self.of_the_class = [1, 2], 2
                    self._spawn_threads()
                    self.late = True

                def test(self):
                    self.assertEqual(self.made, [1, 2])
                    self.assertEqual(self.of_the_class, 1)  # as under PyTorch's
                    self.assertFalse(hasattr(self, "late"))
                    self.assertIn(self.rank, (0, 1))
            """,
        )
        done = self.run_command(sys.executable, "-m", "unittest", "test_set_up")
        self.assertEqual(done.code, 0, done.err)


class TestFoldersThatAreNotOurs(unittest.TestCase):
    def test_are_not_removed(self):
        session = folders.session_folder()
        link = session / "link"
        link.symlink_to("/")
        self.addCleanup(link.unlink)
        top = folders._session.top
        paths = (
            Path("precious"),
            Path("."),
            Path("/"),
            top,
            top.parent,
            top / "..",
            top / ".." / "precious",
            link,
            link / "precious",
            f"{top}-precious",
        )
        for path in paths:
            # Should it go wrong, nothing is to be lost.
            with self.subTest(path), mock.patch.object(folders, "_remove_tree") as remove_tree:
                with self.assertRaisesRegex(FolderError, "it is not in the folder of this ses"):
                    folders.remove(path)
                remove_tree.assert_not_called()

    def test_what_is_in_the_session_is_removed(self):
        folder = folders.new_test_folder("test")
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "link").symlink_to(folder.parent)
        folders.remove(folder)
        self.assertFalse(folder.exists())
        self.assertTrue(folder.parent.exists())
